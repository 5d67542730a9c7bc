//! Reads the rules of one product.

use std::num::NonZeroU32;

use iso_specs::toml_keys::{Keys, integer};
use jiff::tz::Offset;

use super::chip::chip;
use super::is_empty_list;
use crate::authorization::{PinRequired, Product};
use crate::hsm::pin_method::{DecimalisationTable, Ibm3624, ValidationData, VisaPvv};
use crate::hsm::{KeyName, PinMethod, PinMethods};
use crate::pin::PVKI;

/// Largest amount that DE4 can hold, in minor units.
pub(super) const AMOUNT_MAX: u64 = 999_999_999_999;
/// ISO 4217 numeric codes.
const CURRENCY_MAX: u16 = 999;

pub(super) fn read(keys: &mut Keys<'_, '_>, name: Option<String>) -> Option<Product> {
    let bins = bins(keys);
    let currency = keys.number("currency", 1..=CURRENCY_MAX);
    let utc_offset = keys.optional_name("utc_offset", "+HH:MM or -HH:MM", parse_offset);
    let cases = "\"cash\", \"card_present\" or \"never\"";
    let pin_required = keys.optional_name("pin_required", cases, |name| match name {
        "cash" => Some(PinRequired::Cash),
        "card_present" => Some(PinRequired::CardPresent),
        "never" => Some(PinRequired::Never),
        _ => None,
    });
    let limits = "a number from 1, or \"none\"";
    let pin_retry_limit = keys.optional("pin_retry_limit", limits, |value| match value.as_str() {
        Some("none") => Some(None),
        _ => NonZeroU32::new(integer(value)?).map(Some),
    });
    let limit_per_transaction = keys.optional_number("limit_per_transaction", 1..=AMOUNT_MAX);
    let currencies = format!("a number from 1 to {CURRENCY_MAX}");
    let allowed_currencies = keys.optional_items("allowed_currencies", &currencies, |value| {
        integer(value).filter(|code| (1..=CURRENCY_MAX).contains(code))
    });
    let pin_methods = pin_methods(keys);
    let pin_viewable = keys.optional_boolean("pin_viewable").unwrap_or(false);
    let chip = keys.optional_table("chip").map(|mut keys| chip(&mut keys));
    keys.finish();
    Some(Product {
        name: name?.into(),
        version: 1,
        bins: bins?,
        currency: currency?,
        utc_offset: utc_offset.unwrap_or(Offset::UTC),
        pin_required: pin_required.unwrap_or(PinRequired::Cash),
        pin_methods: pin_methods?,
        pin_retry_limit: pin_retry_limit.unwrap_or(NonZeroU32::new(3)),
        limit_per_transaction,
        allowed_currencies: allowed_currencies.unwrap_or_default(),
        chip: chip.map_or(Some(None), |chip| chip.map(Some))?,
        pin_viewable,
    })
}

/// How new PINs of the product are verified, and how those of before are.
fn pin_methods(keys: &mut Keys<'_, '_>) -> Option<PinMethods> {
    let current = match keys.optional_table("pin_verification") {
        Some(mut keys) => pin_method(&mut keys),
        None => Some(PinMethod::TranslatedBlock),
    };
    let tables = keys.optional_tables("earlier_pin_verification", "earlier PIN verification");
    // Each is read to its end, whatever is wrong with those before it.
    let earlier = tables.into_iter().map(|mut keys| pin_method(&mut keys));
    let earlier: Option<Vec<PinMethod>> = earlier.collect::<Vec<_>>().into_iter().collect();
    let methods = PinMethods { current: current?, earlier: earlier? };
    Some(methods)
}

/// Which keys there may be depends on the method.
fn pin_method(keys: &mut Keys<'_, '_>) -> Option<PinMethod> {
    let methods = "\"translated_block\", \"visa_pvv\" or \"ibm3624\"";
    let known = ["translated_block", "visa_pvv", "ibm3624"];
    let method =
        keys.name("method", methods, |name| known.into_iter().find(|known| *known == name));
    let method = match method? {
        "visa_pvv" => {
            let (pvk, pvki) = (pvk(keys), keys.number("pvki", PVKI));
            pvk.zip(pvki).map(|(pvk, pvki)| PinMethod::VisaPvv(VisaPvv { pvk, pvki }))
        }
        "ibm3624" => ibm3624(keys).map(PinMethod::Ibm3624),
        _ => Some(PinMethod::TranslatedBlock),
    };
    keys.finish();
    method
}

fn ibm3624(keys: &mut Keys<'_, '_>) -> Option<Ibm3624> {
    let pvk = pvk(keys);
    let table = "16 digits, of which eight or more differ and none comes more than four times";
    let decimalisation_table = keys.name("decimalisation_table", table, |digits| {
        DecimalisationTable::parse(digits).filter(DecimalisationTable::is_strong)
    });
    let forms = "\"rightmost-16\", \"leftmost-N-F\" (N digits of the PAN, filled with F), or \
                 eleven hexadecimal digits and one N for five digits of the PAN";
    let validation_data = keys.name("validation_data", forms, ValidationData::parse);
    Some(Ibm3624 {
        pvk: pvk?,
        decimalisation_table: decimalisation_table?,
        validation_data: validation_data?,
    })
}

fn pvk(keys: &mut Keys<'_, '_>) -> Option<KeyName> {
    let expected = "the name of a PIN verification key: letters, digits and hyphens, not own-*";
    let is_pvk = |name: &KeyName| !name.as_str().starts_with("own-");
    keys.name("pvk", expected, |name| KeyName::parse(name).filter(is_pvk))
}

fn bins(keys: &mut Keys<'_, '_>) -> Option<Vec<Box<str>>> {
    let expected = "a list of texts of 4 to 11 digits";
    keys.list("bins")?;
    let bins: Vec<Box<str>> = keys.optional_items("bins", expected, |value| {
        let bin = value.as_str()?;
        let valid = (4..=11).contains(&bin.len()) && bin.bytes().all(is_digit);
        valid.then(|| bin.into())
    })?;
    if is_empty_list(keys, "bins") {
        keys.mistake_of("bins", format!("expected {expected}"));
    }
    if bins.iter().enumerate().any(|(index, bin)| bins.iter().take(index).any(|one| one == bin)) {
        keys.mistake_of("bins", "one BIN is there twice");
    }
    Some(bins)
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

fn parse_offset(text: &str) -> Option<Offset> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let two_digits = |text: &str| {
        let valid = text.len() == 2 && text.bytes().all(is_digit);
        text.parse::<i32>().ok().filter(|_| valid)
    };
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    let valid = hours <= 14 && minutes <= 59;
    Offset::from_seconds(sign * (hours * 3_600 + minutes * 60)).ok().filter(|_| valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets() {
        assert_eq!(parse_offset("+01:00"), Some(Offset::constant(1)));
        assert_eq!(parse_offset("-03:30").unwrap().seconds(), -12_600);
        for wrong in ["01:00", "+1:00", "+-1:00", "+01:60", "+15:00", "+01:0", "+01:000", "UTC"] {
            assert_eq!(parse_offset(wrong), None, "{wrong}");
        }
    }
}
