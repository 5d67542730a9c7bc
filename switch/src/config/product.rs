//! Reads the rules of one product.

use std::num::NonZeroU32;

use iso_specs::toml_keys::{Keys, integer};
use jiff::civil::Date;
use jiff::tz::Offset;

use super::chip::chip;
use super::is_empty_list;
use super::marqeta::Group;
use super::parameters::{self, Given};
use crate::authorization::issuance::{Cvm, Issuance, Region};
use crate::authorization::{ChipRules, PinRequired, Product};
use crate::hsm::pin_method::{DecimalisationTable, Ibm3624, ValidationData, VisaPvv};
use crate::hsm::{KeyName, PinMethod, PinMethods};
use crate::pin::PVKI;

/// Largest amount that DE4 can hold, in minor units.
pub(super) const AMOUNT_MAX: u64 = 999_999_999_999;
/// ISO 4217 numeric codes.
const CURRENCY_MAX: u16 = 999;
/// The countries of ISO 3166-1, by their two letters.
const REGIONS: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ \
                       BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR \
                       CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR \
                       GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU \
                       ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ \
                       LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ \
                       MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF \
                       PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI \
                       SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR \
                       TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

pub(super) fn read(keys: &mut Keys<'_, '_>, name: Option<String>) -> Option<Product> {
    let marqeta = Group::read(keys);
    let bins = bins(keys, &marqeta);
    let currency = currency(keys);
    let utc_offset = keys.optional_name("utc_offset", "+HH:MM or -HH:MM", parse_offset);
    let pin_required = pin_required(keys);
    let limits = "a number from 1, or \"none\"";
    let pin_retry_limit = keys.optional("pin_retry_limit", limits, |value| match value.as_str() {
        Some("none") => Some(None),
        _ => NonZeroU32::new(integer(value)?).map(Some),
    });
    let lifts_suspension = keys.optional_boolean("pin_set_lifts_suspension");
    let limit_per_transaction = keys.optional_number("limit_per_transaction", 1..=AMOUNT_MAX);
    let currencies = format!("a number from 1 to {CURRENCY_MAX}");
    let allowed_currencies = keys.optional_items("allowed_currencies", &currencies, |value| {
        integer(value).filter(|code| (1..=CURRENCY_MAX).contains(code))
    });
    let pin_viewable = keys.optional_boolean("pin_viewable");
    let pin_methods = pin_methods(keys);
    let given = parameters::read(keys, currency);
    let issuance = issuance(keys, &marqeta, given.as_ref());
    let is_mexican = issuance.region == Some(Region::MEXICO);
    let chip = keys.optional_table("chip").map(|mut keys| {
        let rules = chip(&mut keys, given.as_ref(), is_mexican)?;
        Some(ChipRules { offline_pin: rules.offline_pin || issuance.enable_offline_pin, ..rules })
    });
    dates(keys);
    keys.finish();
    let mut product = Product {
        name: name?.into(),
        version: 1,
        bins: bins?,
        currency: currency?,
        utc_offset: utc_offset.unwrap_or(Offset::UTC),
        pin_required: pin_required.unwrap_or(PinRequired::Cash),
        pin_methods: pin_methods?,
        pin_retry_limit: pin_retry_limit.unwrap_or(NonZeroU32::new(3)),
        pin_set_lifts_suspension: lifts_suspension.unwrap_or(false),
        limit_per_transaction,
        allowed_currencies: allowed_currencies.unwrap_or_default(),
        pin_viewable: pin_viewable.unwrap_or(false),
        issuance,
        chip: chip.map_or(Some(None), |chip| chip.map(Some))?,
    };
    check(keys, &product, &marqeta, given.as_ref());
    if product.issuance.cvm_order.is_empty() {
        let region = product.issuance.region;
        product.issuance.cvm_order = Region::cvm_order(region, product.has_offline_pin());
    }
    Some(product)
}

fn currency(keys: &mut Keys<'_, '_>) -> Option<u16> {
    let expected = format!("a number from 1 to {CURRENCY_MAX}");
    if keys.get("currency").is_none() {
        keys.mistake_of("currency", "is missing");
    }
    keys.optional("currency", &expected, |value| {
        let digits = value.as_str().filter(|text| text.len() == 3 && text.bytes().all(is_digit));
        let code = integer(value).or_else(|| digits?.parse().ok());
        code.filter(|code| (1..=CURRENCY_MAX).contains(code))
    })
}

fn pin_required(keys: &mut Keys<'_, '_>) -> Option<PinRequired> {
    let cases = "\"cash\", \"card_present\" or \"never\"";
    keys.optional_name("pin_required", cases, |name| match name {
        "cash" => Some(PinRequired::Cash),
        "card_present" => Some(PinRequired::CardPresent),
        "never" => Some(PinRequired::Never),
        _ => None,
    })
}

/// What is shown as it was sent, and means nothing here.
fn dates(keys: &mut Keys<'_, '_>) {
    keys.optional_boolean("active");
    let mut date = |key| keys.optional_name(key, "a date, yyyy-MM-dd", read_date);
    let (start, end) = (date("start_date"), date("end_date"));
    if start.zip(end).is_some_and(|(start, end)| end < start) {
        keys.mistake_of("end_date", "expected no date before start_date");
    }
}

fn read_date(text: &str) -> Option<Date> {
    // The reader of dates takes other forms too.
    text.parse().ok().filter(|date: &Date| date.to_string() == text)
}

fn issuance(keys: &mut Keys<'_, '_>, marqeta: &Group, given: Option<&Given>) -> Issuance {
    let region = keys.optional_name("region", "a country, two letters of ISO 3166-1", |text| {
        let letters = <[u8; 2]>::try_from(text.as_bytes()).ok()?;
        REGIONS.split(' ').any(|known| known == text).then_some(Region(letters))
    });
    let names = "the name of an embosser: 1 to 64 letters, digits, '-', '_' and '.'";
    let embosser = keys.optional_name("embosser", names, |name| {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        ((1..=64).contains(&name.len()) && name.bytes().all(valid)).then(|| name.into())
    });
    Issuance {
        region,
        embosser,
        cvm_order: cvm_order(keys),
        parameters: given.map(|given| given.others),
        ..marqeta.issuance()
    }
}

fn cvm_order(keys: &mut Keys<'_, '_>) -> Vec<Cvm> {
    let key = "cvm_order";
    let expected = "a list of pin_online, pin_offline, signature and no_cvm, each once at most";
    let order = keys.optional_items(key, expected, |value| {
        let name = value.as_str()?;
        Cvm::ALL.into_iter().find(|one| one.name() == name)
    });
    let order = order.unwrap_or_default();
    if order.iter().enumerate().any(|(place, one)| order.iter().take(place).any(|it| it == one)) {
        keys.mistake_of(key, "one method is there twice");
    }
    if is_empty_list(keys, key) {
        keys.mistake_of(key, format!("expected {expected}"));
    }
    order
}

/// The mistakes that only all settings together reveal.
fn check(keys: &Keys<'_, '_>, product: &Product, marqeta: &Group, given: Option<&Given>) {
    let issuance = &product.issuance;
    let chips = "needs the keys of the product's chips: chip.imk_ac, imk_smi and imk_smc";
    if let (None, Some(place)) = (&product.chip, &marqeta.enable_offline_pin) {
        keys.mistake_in(place, chips);
    }
    if let (None, Some(given)) = (&product.chip, given) {
        given.without_chip(keys, chips);
    }
    if let Some(given) = given {
        given.check(keys, product);
    }
    if let (Some(place), Some(false)) =
        (&marqeta.enable_offline_pin, given.and_then(|given| given.offline_pin))
    {
        keys.mistake_in(place, "parameters.EMVOP says that the PIN is not in the chip");
    }
    let embosses = issuance.enable_offline_pin
        || issuance.parameters.is_some_and(|parameters| parameters.embosses_pin_block);
    if issuance.region == Some(Region::MEXICO) && product.has_offline_pin() && !embosses {
        let text = "region MX has the PIN on the chip when the card is embossed: with EMVOP=Y, \
                    EMBFL=PINBLOCK must be there";
        match given.and_then(|given| given.place("EMVOP")) {
            Some(place) => keys.mistake_in(place, text),
            None => keys.mistake_of("chip", text),
        }
    }
    let order = &issuance.cvm_order;
    let is_listed = order.contains(&Cvm::PinOffline);
    if !order.is_empty() && is_listed != product.has_offline_pin() {
        let text = match is_listed {
            true => "pin_offline needs a chip that holds the PIN: EMVOP=Y or enable_offline_pin",
            false => "the product has offline PIN, so that pin_offline must be in the list",
        };
        keys.mistake_of("cvm_order", text);
    }
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

fn bins(keys: &mut Keys<'_, '_>, marqeta: &Group) -> Option<Vec<Box<str>>> {
    if let Some((bins, place)) = &marqeta.bins {
        if keys.get("bins").is_some() {
            keys.mistake_in(place, "is there twice: bins says the same");
        }
        return Some(bins.clone());
    }
    let expected = "a list of texts of 4 to 11 digits";
    keys.list("bins")?;
    let bins: Vec<Box<str>> =
        keys.optional_items("bins", expected, |value| read_bin(value.as_str()?))?;
    if is_empty_list(keys, "bins") {
        keys.mistake_of("bins", format!("expected {expected}"));
    }
    if bins.iter().enumerate().any(|(index, bin)| bins.iter().take(index).any(|one| one == bin)) {
        keys.mistake_of("bins", "one BIN is there twice");
    }
    Some(bins)
}

pub(super) fn read_bin(text: &str) -> Option<Box<str>> {
    let valid = (4..=11).contains(&text.len()) && text.bytes().all(is_digit);
    valid.then(|| text.into())
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
