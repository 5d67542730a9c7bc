//! Reads the rules of one product.

use std::num::NonZeroU32;

use iso_specs::toml_keys::{Keys, integer};
use jiff::tz::Offset;

use super::is_empty_list;
use crate::authorization::cvn::{self, CvnRow};
use crate::authorization::iad::Scheme;
use crate::authorization::product::{
    BypassMode, ExhaustedPolicy, Fallback, LockedChip, NoPinPolicy, PinNotEntered,
};
use crate::authorization::{ChipRules, PinRequired, Product};
use crate::cards::chip::Retention;
use crate::hsm::emv::{
    ArpcKey, ArpcMethod, CardKeyMethod, CoveredIad, CryptogramProfile, IssuerAnswer, MacPadding,
    ScriptKeyMethod, ScriptPinMethod, SessionKeyMethod,
};
use crate::hsm::key::from_hex;
use crate::hsm::pin_method::{DecimalisationTable, Ibm3624, PVKI, ValidationData, VisaPvv};
use crate::hsm::{ChipKeys, KeyName, PinMethod, PinMethods};

/// Largest amount that DE4 can hold, in minor units.
const AMOUNT_MAX: u64 = 999_999_999_999;
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
    let chip = keys.optional_table("chip").map(|mut keys| chip(&mut keys));
    keys.finish();
    Some(Product {
        name: name?.into(),
        bins: bins?,
        currency: currency?,
        utc_offset: utc_offset.unwrap_or(Offset::UTC),
        pin_required: pin_required.unwrap_or(PinRequired::Cash),
        pin_methods: pin_methods?,
        pin_retry_limit: pin_retry_limit.unwrap_or(NonZeroU32::new(3)),
        limit_per_transaction,
        allowed_currencies: allowed_currencies.unwrap_or_default(),
        chip: chip.map_or(Some(None), |chip| chip.map(Some))?,
    })
}

/// Longest time that a change of a PIN may wait for the chip, in days.
const OFPBE_DAYS_MAX: u32 = 3_650;

/// The rules of the product's chips. A preset says what is usual in a market; the other settings
/// come before it.
fn chip(keys: &mut Keys<'_, '_>) -> Option<ChipRules> {
    let chip_keys = chip_keys(keys);
    let preset =
        keys.optional_name("preset", "\"mexico\"", |name| (name == "mexico").then_some(()));
    let offline_pin = keys.optional_boolean("offline_pin");
    let ftpam = keys.optional_number("ftpam", 1..=AMOUNT_MAX);
    let ftpdy: Option<u32> = keys.optional_number("ftpdy", 0..=OFPBE_DAYS_MAX);
    let ofpbe = keys.optional_number("ofpbe", 1..=OFPBE_DAYS_MAX);
    let unactivated = keys.optional_number("unactivated_pin_block_days", 1..=OFPBE_DAYS_MAX);
    let bypass_mode = policy(keys, "bypass_mode", BYPASS_MODES);
    let no_pin_policy = policy(keys, "no_pin_policy", NO_PIN_POLICIES);
    let exhausted = policy(keys, "approve_exhausted", EXHAUSTED_POLICIES);
    let pin_not_entered = policy(keys, "pin_not_entered", PIN_NOT_ENTERED);
    let locked_chip = policy(keys, "locked_chip", LOCKED_CHIPS);
    let fallback = policy(keys, "fallback", FALLBACKS);
    let atm_unblocks_chip = keys.optional_boolean("atm_unblocks_chip");
    let mismatch = policy(keys, "amount_mismatch", [("record", false), ("decline", true)]);
    let resends: Option<u8> = keys.optional_number("script_resends_max", 0..=100);
    let template = keys.optional("script_template", "71 or 72", |value| match integer(value) {
        Some(71) => Some(0x71),
        Some(72) => Some(0x72),
        _ => None,
    });
    let cvns = cvns(keys);
    keys.finish();
    Some(ChipRules {
        keys: chip_keys?,
        cvns: cvns?,
        offline_pin: offline_pin.unwrap_or(false),
        ftpam,
        ftpdy: ftpdy.filter(|days| *days > 0),
        retention: Retention {
            ofpbe: ofpbe.unwrap_or(Retention::DEFAULT.ofpbe),
            unactivated: unactivated.unwrap_or(Retention::DEFAULT.unactivated),
        },
        bypass_mode,
        no_pin_policy,
        approve_exhausted: exhausted,
        pin_not_entered,
        locked_chip,
        atm_unblocks_chip: atm_unblocks_chip.unwrap_or(preset.is_some()),
        fallback,
        declines_amount_mismatch: mismatch,
        script_sends_max: resends.unwrap_or(5).saturating_add(1),
        script_template: template.unwrap_or(0x72),
    })
}

const BYPASS_MODES: Names<BypassMode, 2> = [("table", BypassMode::Table), ("any", BypassMode::Any)];

const NO_PIN_POLICIES: Names<NoPinPolicy, 2> =
    [("cvm_list", NoPinPolicy::CvmList), ("required", NoPinPolicy::Required)];

const EXHAUSTED_POLICIES: Names<ExhaustedPolicy, 2> =
    [("always", ExhaustedPolicy::Always), ("next_cvm", ExhaustedPolicy::NextCvm)];

const PIN_NOT_ENTERED: Names<PinNotEntered, 2> =
    [("decline", PinNotEntered::Decline), ("cvm_list", PinNotEntered::CvmList)];

const LOCKED_CHIPS: Names<LockedChip, 2> =
    [("decline", LockedChip::Decline), ("where_pin_required", LockedChip::WherePinRequired)];

const FALLBACKS: Names<Fallback, 3> = [
    ("decline", Fallback::Decline),
    ("online_pin", Fallback::OnlinePin),
    ("allow", Fallback::Allow),
];

/// One of several names, or what holds where none is said. A wrong name is a mistake of the file.
fn policy<T: Copy + Default, const N: usize>(
    keys: &mut Keys<'_, '_>,
    key: &'static str,
    names: Names<T, N>,
) -> T {
    named(keys, key, names, Some(T::default())).unwrap_or_default()
}

fn chip_keys(keys: &mut Keys<'_, '_>) -> Option<ChipKeys> {
    let expected = "the name of an issuer master key: letters, digits and hyphens, not own-*";
    let parse = |name: &str| KeyName::parse(name).filter(|name| !name.as_str().starts_with("own-"));
    let cryptograms = keys.name("imk_ac", expected, parse);
    let integrity = keys.name("imk_smi", expected, parse);
    let confidentiality = keys.name("imk_smc", expected, parse);
    Some(ChipKeys {
        cryptograms: cryptograms?,
        integrity: integrity?,
        confidentiality: confidentiality?,
    })
}

/// A setting's names for something.
type Names<T, const N: usize> = [(&'static str, T); N];

const CARD_KEYS: Names<CardKeyMethod, 2> =
    [("option_a", CardKeyMethod::A), ("option_b", CardKeyMethod::B)];

const SESSION_KEYS: Names<SessionKeyMethod, 4> = [
    ("none", SessionKeyMethod::None),
    ("common", SessionKeyMethod::Common),
    ("skd", SessionKeyMethod::Skd),
    ("emv2000", SessionKeyMethod::Emv2000),
];

const COVERED_IAD: Names<CoveredIad, 3> = [
    ("cvr", CoveredIad::Cvr),
    ("cvr_and_counters", CoveredIad::CvrAndCounters),
    ("whole", CoveredIad::Whole),
];

const PADDING: Names<MacPadding, 2> = [("zeros", MacPadding::Zeros), ("bit", MacPadding::Bit)];

const ARPC: Names<ArpcMethod, 3> = [
    ("method_1_card_key", ArpcMethod::One(ArpcKey::Card)),
    ("method_1_session_key", ArpcMethod::One(ArpcKey::Session)),
    ("method_2", ArpcMethod::Two),
];

const SCRIPT_KEYS: Names<ScriptKeyMethod, 3> = [
    ("visa", ScriptKeyMethod::VisaAtc),
    ("common", ScriptKeyMethod::Common { counts: false }),
    ("common_counting", ScriptKeyMethod::Common { counts: true }),
];

const SCRIPT_PIN: Names<ScriptPinMethod, 4> = [
    ("vis", ScriptPinMethod::Vis),
    ("iso2_padded", ScriptPinMethod::Iso2Padded),
    ("iso2", ScriptPinMethod::Iso2),
    ("iso2_chained", ScriptPinMethod::Iso2Chained),
];

/// The product's own rows of the table of CVNs.
fn cvns(keys: &mut Keys<'_, '_>) -> Option<Vec<CvnRow>> {
    let mut known = Vec::new();
    let rows = keys.optional_tables("cvn", "CVN").into_iter().map(|mut keys| {
        let of = cvn_of(&mut keys);
        if of.is_some_and(|of| known.contains(&of)) {
            keys.mistake_of("cvn", "one CVN of this scheme is there twice");
        }
        known.extend(of);
        cvn_row(&mut keys, of)
    });
    // Each is read to its end, whatever is wrong with those before it.
    rows.collect::<Vec<_>>().into_iter().collect()
}

fn cvn_of(keys: &mut Keys<'_, '_>) -> Option<(Scheme, u8)> {
    let scheme = named(keys, "scheme", Scheme::ALL.map(|scheme| (scheme.name(), scheme)), None);
    let cvn = keys.name("cvn", "two hexadecimal digits", |digits| match from_hex(digits)?[..] {
        [cvn] => Some(cvn),
        _ => None,
    });
    let (scheme, cvn) = scheme.zip(cvn)?;
    if !scheme.has_cvn(cvn) {
        keys.mistake_of("cvn", "expected one that 9F10 of this scheme can have");
    }
    Some((scheme, cvn)).filter(|_| scheme.has_cvn(cvn))
}

/// A row. What is left out is as in the built-in one.
fn cvn_row(keys: &mut Keys<'_, '_>, of: Option<(Scheme, u8)>) -> Option<CvnRow> {
    // Where it is not known whose row it is, nothing is missing.
    let (scheme, cvn) = of.unwrap_or((Scheme::Visa, 0x0A));
    let row = cvn::built_in(scheme, cvn);
    let profile = row.map(|row| row.profile);
    let card_keys = named(keys, "card_keys", CARD_KEYS, profile.map(|it| it.card_keys));
    let session_key = named(keys, "session_key", SESSION_KEYS, profile.map(|it| it.session_key));
    let covered_iad = named(keys, "covered_iad", COVERED_IAD, profile.map(|it| it.covered_iad));
    if (scheme, covered_iad) == (Scheme::Visa, Some(CoveredIad::CvrAndCounters)) && of.is_some() {
        keys.mistake_of("covered_iad", "9F10 of this scheme has no counters");
    }
    let padding = named(keys, "padding", PADDING, profile.map(|it| it.padding));
    let arpc = named(keys, "arpc", ARPC, profile.map(|it| it.arpc));
    let script_keys = named(keys, "script_keys", SCRIPT_KEYS, profile.map(|it| it.script_keys));
    let script_pin = named(keys, "script_pin", SCRIPT_PIN, profile.map(|it| it.script_pin));
    let method = arpc.filter(|_| of.is_some());
    let approve = issuer_answer(keys, "approve", method, row.map(|row| row.approve));
    let decline = issuer_answer(keys, "decline", method, row.map(|row| row.decline));
    check_status_updates(keys, approve.flatten(), decline.flatten());
    keys.finish();
    let profile = CryptogramProfile {
        card_keys: card_keys?,
        session_key: session_key?,
        covered_iad: covered_iad?,
        padding: padding?,
        arpc: arpc?,
        script_keys: script_keys?,
        script_pin: script_pin?,
    };
    Some(CvnRow { scheme, cvn, profile, approve: approve?, decline: decline? })
}

/// One of several names, which must be there unless there is a built-in value.
fn named<T: Copy, const N: usize>(
    keys: &mut Keys<'_, '_>,
    key: &'static str,
    names: Names<T, N>,
    built_in: Option<T>,
) -> Option<T> {
    let quoted = names.map(|(name, _)| format!("{name:?}"));
    let expected = match &quoted[..] {
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
        [] => String::new(),
    };
    let find = |name: &str| names.into_iter().find(|(known, _)| *known == name);
    let find = |name: &str| find(name).map(|(_, value)| value);
    name_or(keys, (key, &expected), find, built_in)
}

/// What a chip is told, as the ARPC method takes it; `None` in it is the response code.
#[allow(clippy::option_option, reason = "wrong, the response code, a value")]
fn issuer_answer(
    keys: &mut Keys<'_, '_>,
    key: &'static str,
    method: Option<ArpcMethod>,
    built_in: Option<Option<IssuerAnswer>>,
) -> Option<Option<IssuerAnswer>> {
    let fits = |answer: &Option<IssuerAnswer>| match answer {
        None | Some(IssuerAnswer::Code(_)) => method != Some(ArpcMethod::Two),
        Some(IssuerAnswer::Update(_)) => !matches!(method, Some(ArpcMethod::One(_))),
    };
    let parse = |text: &str| match (text, &from_hex(text).unwrap_or_default()[..]) {
        ("response_code", _) => Some(None),
        (_, [a, b]) => Some(Some(IssuerAnswer::Code([*a, *b]))),
        (_, [a, b, c, d]) => Some(Some(IssuerAnswer::Update([*a, *b, *c, *d]))),
        _ => None,
    };
    let expected = match method {
        Some(ArpcMethod::One(_)) => "four hexadecimal digits or \"response_code\"",
        Some(ArpcMethod::Two) => "eight hexadecimal digits: the card status update",
        None => "four or eight hexadecimal digits, or \"response_code\"",
    };
    name_or(keys, (key, expected), |text| parse(text).filter(fits), built_in.filter(fits))
}

/// The second byte of a card status update: the issuer approves; it blocks the card or the
/// application.
const CSU_APPROVES: u8 = 0x80;
const CSU_BLOCKS: u8 = 0x60;

/// A chip does what the update says: one that says something else than the decision would have it
/// approve what was declined, or block itself where the issuer approves.
fn check_status_updates(
    keys: &Keys<'_, '_>,
    approve: Option<IssuerAnswer>,
    decline: Option<IssuerAnswer>,
) {
    if let Some(IssuerAnswer::Update([_, bits, ..])) = approve {
        if bits & CSU_APPROVES == 0 {
            keys.mistake_of(
                "approve",
                "bit 80 of the second byte must say that the issuer approves",
            );
        }
        if bits & CSU_BLOCKS != 0 {
            let text = "bits 40 and 20 of the second byte would block the card or the application";
            keys.mistake_of("approve", text);
        }
    }
    if let Some(IssuerAnswer::Update([_, bits, ..])) = decline
        && bits & CSU_APPROVES != 0
    {
        keys.mistake_of("decline", "bit 80 of the second byte says that the issuer approves");
    }
}

fn name_or<T>(
    keys: &mut Keys<'_, '_>,
    (key, expected): (&'static str, &str),
    from_name: impl Fn(&str) -> Option<T>,
    built_in: Option<T>,
) -> Option<T> {
    match built_in {
        Some(built_in) => keys.optional_name(key, expected, from_name).or(Some(built_in)),
        None => keys.name(key, expected, from_name),
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
    use std::path::Path;

    use super::*;
    use crate::config::{Config, ConfigError};
    use crate::demo;

    /// The rows of the demo's second product, with these tables behind its rules.
    fn rows(tables: &str) -> Result<Vec<CvnRow>, ConfigError> {
        let last = "script_template = 72\n";
        let text = demo::CONFIG.replacen(last, &format!("{last}{tables}"), 1);
        let config = Config::parse(&text, "file", Path::new("."))?;
        Ok(config.products[1].chip.as_ref().unwrap().cvns.clone())
    }

    #[test]
    fn a_row_takes_what_it_leaves_out_from_the_table() {
        let found = rows(
            "[[products.chip.cvn]]\nscheme = \"visa\"\ncvn = \"0a\"\napprove = \"3130\"\n\
             [[products.chip.cvn]]\nscheme = \"mastercard\"\ncvn = \"14\"\n\
             session_key = \"emv2000\"\ndecline = \"response_code\"\n\
             [[products.chip.cvn]]\nscheme = \"visa\"\ncvn = \"33\"\n\
             card_keys = \"option_b\"\nsession_key = \"common\"\ncovered_iad = \"whole\"\n\
             padding = \"bit\"\narpc = \"method_2\"\nscript_keys = \"visa\"\n\
             script_pin = \"vis\"\napprove = \"00820000\"\ndecline = \"00000000\"\n",
        );
        let visa = cvn::built_in(Scheme::Visa, 0x0A).unwrap();
        let m_chip = cvn::built_in(Scheme::Mastercard, 0x14).unwrap();
        let session_key = SessionKeyMethod::Emv2000;
        let wanted = [
            CvnRow { approve: Some(IssuerAnswer::Code(*b"10")), ..visa },
            CvnRow {
                profile: CryptogramProfile { session_key, ..m_chip.profile },
                decline: None,
                ..m_chip
            },
            CvnRow { cvn: 0x33, ..cvn::built_in(Scheme::Visa, 0x12).unwrap() },
        ];
        assert_eq!(found.unwrap(), wanted);
        assert_eq!(visa.answer(*b"55", false), IssuerAnswer::Code(*b"55"));
        assert_eq!(wanted[0].answer(*b"00", true), IssuerAnswer::Code(*b"10"));
        assert_eq!(m_chip.answer(*b"00", true), IssuerAnswer::Code([0x00, 0x12]));
        assert_eq!(cvn::row(&wanted, Scheme::Visa, 0x33), Some(wanted[2]));
        assert_eq!(cvn::row(&wanted, Scheme::Visa, 0x12).unwrap().cvn, 0x12);
        assert_eq!(cvn::row(&wanted, Scheme::Ccd, 0xA6), None);
    }

    #[test]
    fn all_mistakes_of_rows_are_reported_at_once() {
        let of = |row: &str| format!("[[products.chip.cvn]]\n{row}\n");
        let tables = [
            "scheme = \"amex\"\ncvn = \"0\"\napprove = \"3030\"\nicv = 1",
            "scheme = \"visa\"\ncvn = \"0A\"\npadding = \"ones\"\napprove = \"00820000\"",
            "scheme = \"visa\"\ncvn = \"0A\"\ncovered_iad = \"cvr_and_counters\"",
            "scheme = \"mastercard\"\ncvn = \"12\"",
            "scheme = \"mastercard\"\ncvn = \"10\"\narpc = \"method_2\"\ndecline = \"0000\"",
            "scheme = \"ccd\"\ncvn = \"A6\"\narpc = \"method_1_card_key\"\napprove = \"3\"",
        ];
        let found = rows(&tables.map(of).concat()).unwrap_err().0;
        let prefix = "product 2, chip, CVN ";
        let found = found.iter().map(|text| text.split_once(prefix).unwrap().1);
        let mut wanted = vec![
            "1, scheme: expected \"visa\", \"mastercard\" or \"ccd\"",
            "1, cvn: expected two hexadecimal digits",
            "1, icv: unknown key",
            "2, padding: expected \"zeros\" or \"bit\"",
            "2, approve: expected four hexadecimal digits or \"response_code\"",
            "3, cvn: one CVN of this scheme is there twice",
            "3, covered_iad: 9F10 of this scheme has no counters",
            "4, cvn: expected one that 9F10 of this scheme can have",
            "5, approve: is missing",
            "5, decline: expected eight hexadecimal digits: the card status update",
        ];
        wanted.extend([
            "6, card_keys: is missing",
            "6, session_key: is missing",
            "6, covered_iad: is missing",
            "6, padding: is missing",
            "6, script_keys: is missing",
            "6, script_pin: is missing",
            "6, decline: is missing",
            "6, approve: expected four hexadecimal digits or \"response_code\"",
        ]);
        assert_eq!(found.collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn a_card_status_update_says_what_was_decided() {
        let of = |approve: &str, decline: &str| {
            let row = "[[products.chip.cvn]]\nscheme = \"visa\"\ncvn = \"12\"\n";
            rows(&format!("{row}approve = \"{approve}\"\ndecline = \"{decline}\"\n"))
        };
        let not_approved =
            "approve: bit 80 of the second byte must say that the issuer approves".to_owned();
        let blocks = "approve: bits 40 and 20 of the second byte would block the card or the \
                      application"
            .to_owned();
        let approved =
            "decline: bit 80 of the second byte says that the issuer approves".to_owned();
        for (approve, decline, wanted) in [
            ("00000000", "00000000", vec![&not_approved]),
            ("FF1FFFFF", "00800000", vec![&not_approved, &approved]),
            ("00C20000", "00000000", vec![&blocks]),
            ("00A20000", "FFFFFFFF", vec![&blocks, &approved]),
            ("00600000", "00000000", vec![&not_approved, &blocks]),
        ] {
            let found = of(approve, decline).unwrap_err().0;
            let prefix = "product 2, chip, CVN 1, ";
            let found: Vec<_> =
                found.iter().map(|text| text.split_once(prefix).unwrap().1).collect();
            assert_eq!(found, wanted, "{approve} {decline}");
        }
        // The issuer may have a card block itself, or an application.
        for (approve, decline) in [("00820000", "00000000"), ("0F9F0001", "00600000")] {
            assert_eq!(of(approve, decline).unwrap().len(), 1);
        }
    }

    #[test]
    fn offsets() {
        assert_eq!(parse_offset("+01:00"), Some(Offset::constant(1)));
        assert_eq!(parse_offset("-03:30").unwrap().seconds(), -12_600);
        for wrong in ["01:00", "+1:00", "+-1:00", "+01:60", "+15:00", "+01:0", "+01:000", "UTC"] {
            assert_eq!(parse_offset(wrong), None, "{wrong}");
        }
    }
}
