//! Reads Galileo's parameters of a product. Those of the chip have a spelling of ours besides
//! (`chip.ftpam`): each setting is there once, in whichever spelling.

use std::borrow::Cow;

use iso_specs::toml_keys::{Keys, Place};
use toml::de::DeValue;

use super::chip::OFPBE_DAYS_MAX;
use super::product::AMOUNT_MAX;
use crate::authorization::Product;
use crate::authorization::currency;
use crate::authorization::issuance::{FirstPin, InitialStatuses, Issuance, Parameters, Region};

/// Statuses that a new card may have: held, waiting, to be embossed, embossed, active.
const CARD_STATUSES: &[u8] = b"OWXYN";

/// Galileo's parameters of one product.
pub(super) struct Given {
    /// EMVOP=Y, if it is there.
    pub(super) offline_pin: Option<bool>,
    /// FTPAM in minor units.
    pub(super) ftpam: Option<u64>,
    pub(super) ftpdy: Option<u32>,
    pub(super) ofpbe: Option<u32>,
    pub(super) others: Parameters,
    /// Where each of those that were named stands, with its name.
    places: Vec<(&'static str, Place)>,
}

/// Names in the order of Galileo's documents.
const NAMES: [&str; 9] =
    ["EMVOP", "EMBFL", "FTPAM", "FTPDY", "OFPBE", "KPPIN", "SRPEL", "CASPO", "XAACT"];

/// What a parameter may be, and what it does.
fn expected(name: &str) -> &'static str {
    match name {
        "EMVOP" => "Y or N: with Y the PIN is encoded in the chip; otherwise it is verified online",
        "EMBFL" => "PINBLOCK: it puts the encrypted PIN block into the emboss file",
        "FTPAM" => {
            "a decimal number above 0, such as 50.00, in the product's currency: below it no \
             offline PIN is needed after a change of the PIN"
        }
        "FTPDY" => {
            "a number of days from 0 to 3650: for so long after a change of the PIN no offline PIN \
             is needed below FTPAM"
        }
        "OFPBE" => {
            "a number of days from 1 to 3650: for so long the PIN block of a changed PIN is kept \
             for the chip, 7 if left out"
        }
        "KPPIN" => "Y or N: with Y a reissue keeps the PIN; otherwise it becomes 0000",
        "SRPEL" => {
            "Y or N: with Y a card that replaces a lost or stolen one, or is reissued, gets a \
             random PIN"
        }
        "CASPO" => {
            "home_phone, mobile_phone or prn: the last four digits of which are the first PIN"
        }
        _ => {
            "three letters, the first statuses of the account (two) and of the card (O, W, X, Y or \
             N): with YNO the card is held until its PIN is set"
        }
    }
}

/// The table `parameters` of a product, if it has one.
pub(super) fn read(keys: &mut Keys<'_, '_>, currency: Option<u16>) -> Option<Given> {
    let mut keys = keys.optional_table("parameters")?;
    let named = |name: &&str| keys.entries().any(|(known, _)| known == *name);
    let places = NAMES.into_iter().filter(named).map(|name| (name, keys.place(name))).collect();
    let given = Given {
        offline_pin: yes_or_no(&mut keys, "EMVOP"),
        ftpam: ftpam(&mut keys, currency),
        ftpdy: days(&mut keys, "FTPDY", 0),
        ofpbe: days(&mut keys, "OFPBE", 1),
        others: Parameters {
            embosses_pin_block: name(&mut keys, "EMBFL", |text| text == "PINBLOCK", |_| true)
                .unwrap_or_default(),
            keeps_pin: yes_or_no(&mut keys, "KPPIN").unwrap_or_default(),
            draws_pin_of_replacement: yes_or_no(&mut keys, "SRPEL").unwrap_or_default(),
            first_pin: first_pin(&mut keys),
            initial: initial(&mut keys),
        },
        places,
    };
    keys.finish();
    Some(given)
}

/// The text of a parameter: a number is taken as it is written.
fn text<'v>(value: &'v DeValue<'_>) -> Option<Cow<'v, str>> {
    match value {
        DeValue::String(text) => Some(Cow::Borrowed(text)),
        DeValue::Integer(number) if number.radix() == 10 => Some(Cow::Borrowed(number.as_str())),
        DeValue::Float(number) => Some(Cow::Borrowed(number.as_str())),
        _ => None,
    }
}

fn read_text<T>(
    keys: &mut Keys<'_, '_>,
    name: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    keys.optional(name, expected(name), |value| read(&text(value)?))
}

fn name<T>(
    keys: &mut Keys<'_, '_>,
    key: &'static str,
    is_valid: impl Fn(&str) -> bool,
    read: impl Fn(&str) -> T,
) -> Option<T> {
    read_text(keys, key, |text| is_valid(text).then(|| read(text)))
}

fn yes_or_no(keys: &mut Keys<'_, '_>, key: &'static str) -> Option<bool> {
    name(keys, key, |text| matches!(text, "Y" | "N"), |text| text == "Y")
}

fn days(keys: &mut Keys<'_, '_>, key: &'static str, least: u32) -> Option<u32> {
    read_text(keys, key, |text| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|days| is_number && (least..=OFPBE_DAYS_MAX).contains(days))
    })
}

fn ftpam(keys: &mut Keys<'_, '_>, currency: Option<u16>) -> Option<u64> {
    let key = "FTPAM";
    let node = keys.get(key)?;
    let Some(text) = text(node.get_ref()) else {
        keys.mistake_at(key, node, format!("expected {}", expected(key)));
        return None;
    };
    // A currency that is none has left its mistake.
    let currency = currency?;
    let Some(exponent) = currency::exponent(currency) else {
        let text = "the currency has no minor unit in ISO 4217: say chip.ftpam instead";
        keys.mistake_at(key, node, text);
        return None;
    };
    let amount = currency::minor_units(&text, exponent);
    if amount == Err(currency::NotAnAmount::TooFine) {
        let text = format!(
            "expected at most {exponent} digits behind the point, as ISO 4217 has them for the \
             currency; {}",
            expected(key)
        );
        keys.mistake_at(key, node, text);
        return None;
    }
    let amount = amount.ok().filter(|amount| (1..=AMOUNT_MAX).contains(amount));
    if amount.is_none() {
        keys.mistake_at(key, node, format!("expected {}", expected(key)));
    }
    amount
}

fn first_pin(keys: &mut Keys<'_, '_>) -> Option<FirstPin> {
    read_text(keys, "CASPO", |text| match text {
        "home_phone" => Some(FirstPin::HomePhone),
        "mobile_phone" => Some(FirstPin::MobilePhone),
        "prn" => Some(FirstPin::Prn),
        _ => None,
    })
}

fn initial(keys: &mut Keys<'_, '_>) -> Option<InitialStatuses> {
    read_text(keys, "XAACT", |text| {
        let [first, second, card] = *text.as_bytes() else { return None };
        let is_valid = first.is_ascii_uppercase()
            && second.is_ascii_uppercase()
            && CARD_STATUSES.contains(&card);
        is_valid.then_some(InitialStatuses { account: [first, second], card })
    })
}

impl Given {
    /// Where a parameter stands, if it is there.
    pub(super) fn place(&self, name: &str) -> Option<&Place> {
        self.places.iter().find(|(known, _)| *known == name).map(|(_, place)| place)
    }

    /// The mistakes of parameters that govern chips, where the product has none.
    pub(super) fn without_chip(&self, keys: &Keys<'_, '_>, text: &str) {
        let needs = |name| match name {
            "EMVOP" => self.offline_pin == Some(true),
            name => self.place(name).is_some(),
        };
        for name in ["EMVOP", "FTPAM", "FTPDY", "OFPBE"].into_iter().filter(|name| needs(name)) {
            self.mistake(keys, name, text);
        }
    }

    fn mistake(&self, keys: &Keys<'_, '_>, name: &'static str, text: impl Into<String>) {
        match self.place(name) {
            Some(place) => keys.mistake_in(place, text),
            None => keys.mistake_of("parameters", text),
        }
    }

    /// The mistakes of parameters that cannot work together, or not in the product's region, or
    /// not as its PINs are kept.
    pub(super) fn check(&self, keys: &Keys<'_, '_>, product: &Product) {
        let Issuance { region, .. } = &product.issuance;
        let (others, is_mexican) = (&self.others, *region == Some(Region::MEXICO));
        if is_mexican && others.initial == Some(InitialStatuses::HELD_UNTIL_PIN) {
            let text = "YNO is not allowed in region MX: there the PIN is on the chip when the \
                        card is embossed";
            self.mistake(keys, "XAACT", text);
        }
        if self.place("SRPEL").is_some() && !is_mexican {
            self.mistake(keys, "SRPEL", "is of products of region MX only");
        }
        if product.keeps_pin_block() {
            return;
        }
        // In scenario 1 the cardholder sets the PIN before the card is embossed.
        let waits_for_pin = others.initial.is_some_and(|initial| initial.card == b'O');
        let draws = self.offline_pin == Some(true) && others.first_pin.is_none() && !waits_for_pin;
        let wrong = [
            ("EMVOP", draws, "draws the first PIN of a card"),
            ("KPPIN", others.keeps_pin, "has the kept PIN embossed on a reissue"),
            ("SRPEL", others.draws_pin_of_replacement, "draws a PIN"),
        ];
        for (name, _, does) in wrong.into_iter().filter(|(_, is_wrong, _)| *is_wrong) {
            let text = format!(
                "Y {does}, but pin_verification keeps no PIN block that could be embossed or \
                 shown: take \"translated_block\", or pin_viewable"
            );
            self.mistake(keys, name, text);
        }
    }
}
