//! Reads the rules of a product's chips.

use iso_specs::toml_keys::{Keys, integer};

use super::cvn::{cvns, iads};
use super::parameters::Given;
use super::product::AMOUNT_MAX;
use crate::authorization::ChipRules;
use crate::authorization::product::{
    BypassMode, ExhaustedPolicy, Fallback, LockedChip, NoPinPolicy, PinNotEntered,
};
use crate::cards::chip_state::Retention;
use crate::hsm::{ChipKeys, KeyName};

/// Longest time that a change of a PIN may wait for the chip, in days.
pub(super) const OFPBE_DAYS_MAX: u32 = 3_650;

/// The rules of the product's chips, some of which may be among Galileo's parameters. A preset says
/// what is usual in a market; the other settings come before it.
pub(super) fn chip(
    keys: &mut Keys<'_, '_>,
    given: Option<&Given>,
    is_mexican: bool,
) -> Option<ChipRules> {
    let chip_keys = chip_keys(keys);
    let preset =
        keys.optional_name("preset", "\"mexico\"", |name| (name == "mexico").then_some(()));
    let offline_pin = keys.optional_boolean("offline_pin");
    let offline_pin = once(keys, "offline_pin", offline_pin, given.and_then(|it| it.offline_pin));
    let ftpam = keys.optional_number("ftpam", 1..=AMOUNT_MAX);
    let ftpam = once(keys, "ftpam", ftpam, given.and_then(|it| it.ftpam));
    let ftpdy = keys.optional_number("ftpdy", 0..=OFPBE_DAYS_MAX);
    let ftpdy: Option<u32> = once(keys, "ftpdy", ftpdy, given.and_then(|it| it.ftpdy));
    let ofpbe = keys.optional_number("ofpbe", 1..=OFPBE_DAYS_MAX);
    let ofpbe = once(keys, "ofpbe", ofpbe, given.and_then(|it| it.ofpbe));
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
    let iads = iads(keys);
    let tables = cvns(keys, &iads);
    keys.finish();
    let (iads, cvns) = tables?;
    Some(ChipRules {
        keys: chip_keys?,
        iads,
        cvns,
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
        atm_unblocks_chip: atm_unblocks_chip.unwrap_or(preset.is_some() || is_mexican),
        fallback,
        declines_amount_mismatch: mismatch,
        script_sends_max: resends.unwrap_or(5).saturating_add(1),
        script_template: template.unwrap_or(0x72),
    })
}

/// A setting that may have been said here or by a parameter, but not by both.
fn once<T>(
    keys: &Keys<'_, '_>,
    key: &'static str,
    here: Option<T>,
    parameter: Option<T>,
) -> Option<T> {
    if here.is_some() && parameter.is_some() {
        keys.mistake_of(key, "is there twice: one of `parameters` says the same");
    }
    here.or(parameter)
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
pub(super) type Names<T, const N: usize> = [(&'static str, T); N];

/// One of several names, which must be there unless there is a built-in value.
pub(super) fn named<T: Copy, const N: usize>(
    keys: &mut Keys<'_, '_>,
    key: &'static str,
    names: Names<T, N>,
    built_in: Option<T>,
) -> Option<T> {
    let expected = one_of(&names.map(|(name, _)| format!("{name:?}")));
    let find = |name: &str| names.into_iter().find(|(known, _)| *known == name);
    let find = |name: &str| find(name).map(|(_, value)| value);
    name_or(keys, (key, &expected), find, built_in)
}

pub(super) fn one_of(names: &[String]) -> String {
    match names {
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
        [] => String::new(),
    }
}

pub(super) fn name_or<T>(
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
