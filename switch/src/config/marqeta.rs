//! Reads what Marqeta's clients say of a product in `config`. What has no meaning here may be there
//! too, by the names of Marqeta's documents, and is kept as it was sent; other names are refused.

use iso_specs::toml_keys::{Keys, Place, integer};

use super::chip::{Names, named};
use super::product::read_bin;
use crate::authorization::issuance::{ExpirationOffset, ExpirationUnit, Instrument, Issuance};

/// Longest validity of a card, in its unit.
const EXPIRATION_MAX: u32 = 1_000_000;

const INSTRUMENTS: Names<Instrument, 5> = [
    ("PHYSICAL_MSR", Instrument::PhysicalMsr),
    ("PHYSICAL_ICC", Instrument::PhysicalIcc),
    ("PHYSICAL_CONTACTLESS", Instrument::PhysicalContactless),
    ("PHYSICAL_COMBO", Instrument::PhysicalCombo),
    ("VIRTUAL_PAN", Instrument::VirtualPan),
];

const UNITS: Names<ExpirationUnit, 6> = [
    ("YEARS", ExpirationUnit::Years),
    ("MONTHS", ExpirationUnit::Months),
    ("DAYS", ExpirationUnit::Days),
    ("HOURS", ExpirationUnit::Hours),
    ("MINUTES", ExpirationUnit::Minutes),
    ("SECONDS", ExpirationUnit::Seconds),
];

/// Groups whose content has no meaning here.
const OTHER_GROUPS: [&str; 5] = [
    "clearing_and_settlement",
    "digital_wallet_tokenization",
    "jit_funding",
    "selective_auth",
    "special",
];

/// Names in `transaction_controls`, none of which has a meaning here.
const CONTROLS: [&str; 21] = [
    "accepted_countries_token",
    "address_verification",
    "allow_chip_fallback",
    "allow_first_pin_set_via_financial_transaction",
    "allow_gpa_auth",
    "allow_mcc_group_authorization_controls",
    "allow_network_load",
    "allow_network_load_card_activation",
    "allow_quasi_cash",
    "always_require_icc",
    "always_require_pin",
    "enable_credit_service",
    "enable_partial_auth_approval",
    "ignore_card_suspended_state",
    "notification_language",
    "quasi_cash_exempt_merchant_group_token",
    "quasi_cash_exempt_mids",
    "require_card_not_present_card_security_code",
    "require_card_security_code",
    "strong_customer_authentication_limits",
    "visa_priority_digital_processing",
];

/// What a `config` says.
#[derive(Default)]
pub(super) struct Group {
    /// The BINs, where they stand here.
    pub(super) bins: Option<(Vec<Box<str>>, Place)>,
    /// Where `enable_offline_pin` stands, if it is true.
    pub(super) enable_offline_pin: Option<Place>,
    instrument: Instrument,
    activate_upon_issue: bool,
    allow_card_creation: Option<bool>,
    expiration_offset: Option<ExpirationOffset>,
    service_code: Option<u16>,
    pan_length: Option<u8>,
}

impl Group {
    /// The table `config` of a product; what it says where there is none.
    pub(super) fn read(keys: &mut Keys<'_, '_>) -> Group {
        let mut group = Group::default();
        let Some(mut keys) = keys.optional_table("config") else { return group };
        if let Some(mut fulfillment) = keys.optional_table("fulfillment") {
            group.fulfillment(&mut fulfillment);
        }
        if let Some(mut life) = keys.optional_table("card_life_cycle") {
            group.card_life_cycle(&mut life);
        }
        if let Some(mut poi) = keys.optional_table("poi") {
            poi.optional_boolean("atm");
            poi.optional_boolean("ecommerce");
            any_table(&mut poi, "other");
            poi.finish();
        }
        if let Some(mut controls) = keys.optional_table("transaction_controls") {
            for name in CONTROLS {
                controls.get(name);
            }
            controls.finish();
        }
        OTHER_GROUPS.into_iter().for_each(|name| any_table(&mut keys, name));
        keys.finish();
        group
    }

    fn fulfillment(&mut self, keys: &mut Keys<'_, '_>) {
        let default = Some(Instrument::default());
        self.instrument =
            named(keys, "payment_instrument", INSTRUMENTS, default).unwrap_or_default();
        let is_enabled = keys.optional_boolean("enable_offline_pin") == Some(true);
        self.enable_offline_pin = is_enabled.then(|| keys.place("enable_offline_pin"));
        self.allow_card_creation = keys.optional_boolean("allow_card_creation");
        let lengths = "a text of two digits from 13 to 19";
        self.pan_length = keys.optional_name("pan_length", lengths, |text| {
            text.parse().ok().filter(|digits| text.len() == 2 && (13..=19).contains(digits))
        });
        self.bins(keys);
        if let Some(mut perso) = keys.optional_table("card_personalization") {
            personalization(&mut perso);
        }
        for name in ["bulk_ship", "all_zero_card_security_code", "uppercase_name_lines"] {
            keys.optional_boolean(name);
        }
        for name in ["bin_issue_country", "fulfillment_provider", "package_id"] {
            line(keys, name);
        }
        any_table(keys, "shipping");
        keys.finish();
    }

    fn bins(&mut self, keys: &mut Keys<'_, '_>) {
        let expected = "a text of 4 to 11 digits";
        let one = keys.optional_name("bin_prefix", expected, read_bin);
        let one = one.map(|bin| (vec![bin], keys.place("bin_prefix")));
        let many = keys
            .optional_items("bin_prefixes", "a list of texts of 4 to 11 digits", |value| {
                read_bin(value.as_str()?)
            })
            .filter(|bins| !bins.is_empty());
        let many = many.map(|bins| (bins, keys.place("bin_prefixes")));
        if let (Some(_), Some((_, place))) = (&one, &many) {
            keys.mistake_in(place, "is there twice: bin_prefix says the same");
        }
        self.bins = one.or(many);
    }

    fn card_life_cycle(&mut self, keys: &mut Keys<'_, '_>) {
        self.activate_upon_issue = keys.optional_boolean("activate_upon_issue").unwrap_or_default();
        keys.optional_boolean("update_expiration_upon_activation");
        self.service_code = keys.optional("card_service_code", "a number from 0 to 999", |value| {
            let text = value.as_str().filter(|text| text.len() == 3);
            integer(value).or_else(|| text?.parse().ok()).filter(|code| *code <= 999)
        });
        if let Some(mut offset) = keys.optional_table("expiration_offset") {
            let unit = named(&mut offset, "unit", UNITS, None);
            let value = offset.number("value", 1..=EXPIRATION_MAX);
            self.expiration_offset =
                unit.zip(value).map(|(unit, value)| ExpirationOffset { unit, value });
            offset.finish();
        }
        keys.finish();
    }

    /// What it says of how cards are made.
    pub(super) fn issuance(&self) -> Issuance {
        Issuance {
            enable_offline_pin: self.enable_offline_pin.is_some(),
            instrument: self.instrument,
            activate_upon_issue: self.activate_upon_issue,
            allow_card_creation: self.allow_card_creation.unwrap_or(true),
            expiration_offset: self.expiration_offset,
            service_code: self.service_code,
            pan_length: self.pan_length,
            ..Issuance::default()
        }
    }
}

fn personalization(keys: &mut Keys<'_, '_>) {
    if let Some(mut text) = keys.optional_table("text") {
        for name in ["name_line_1", "name_line_2", "name_line_3"] {
            if let Some(mut name_line) = text.optional_table(name) {
                line(&mut name_line, "value");
                name_line.finish();
            }
        }
        text.finish();
    }
    keys.optional_name("perso_type", "\"EMBOSS\", \"LASER\" or \"FLAT\"", |name| {
        matches!(name, "EMBOSS" | "LASER" | "FLAT").then_some(())
    });
    any_table(keys, "carrier");
    any_table(keys, "images");
    keys.finish();
}

/// A text of one line, which is kept as it is.
fn line(keys: &mut Keys<'_, '_>, key: &'static str) {
    keys.optional_name(key, "a text of one line", |text| {
        (!text.chars().any(char::is_control)).then_some(())
    });
}

/// A table with whatever is in it.
fn any_table(keys: &mut Keys<'_, '_>, key: &'static str) {
    drop(keys.optional_table(key));
}
