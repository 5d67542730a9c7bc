//! What a chip says of itself: the card verification results (CVR) inside the issuer application
//! data (9F10), by the layout of its scheme.

use super::Application;

/// The facts, whatever the layout.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// Whether an offline PIN was verified in this transaction, and was right.
    pub(super) offline_pin: Option<bool>,
    /// PIN tries left.
    pub(super) tries_left: u8,
    /// The second cryptogram: whether it approves.
    pub(super) second: Option<bool>,
    /// The issuer was asked and did not answer.
    pub(super) unable_to_go_online: bool,
    /// Issuer authentication in this transaction: whether it held.
    pub(super) issuer_authentication: Option<bool>,
    /// What is left of the transactions before.
    pub(super) before: Before,
}

/// What a chip keeps of the transactions that went online, until one is completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// A cryptogram went online, and no answer of the issuer was authenticated since.
    pub is_incomplete: bool,
    /// The last answer was not the issuer's.
    pub authentication_failed: bool,
    /// Script commands since then, 0-15.
    pub scripts: u8,
    /// One of them failed.
    pub script_failed: bool,
}

/// 9F10 of a chip. The part of it that a cryptogram covers is told by [`covered`].
pub(super) fn issuer_application_data(application: Application, facts: &Facts) -> Vec<u8> {
    let cvn = application.cvn();
    match application {
        Application::Visa0A | Application::Visa12 => {
            [&[0x06, 0x01, cvn][..], &[0x03], &visa(facts)].concat()
        }
        Application::Visa22 => {
            let mut data = [&[0x1F, cvn, 0x01][..], &[0x00], &visa(facts)].concat();
            data.resize(32, 0);
            data
        }
        Application::MChip10
        | Application::MChip11
        | Application::MChip14
        | Application::MChip15 => {
            // Data authentication code, then the counters of what was spent offline.
            [&[0x01, cvn][..], &m_chip(facts), &[0; 2], &[0; 8]].concat()
        }
    }
}

/// What of 9F10 the cryptogram covers.
pub(super) fn covered(application: Application, data: &[u8]) -> Vec<u8> {
    let ranges = match application {
        Application::Visa0A => [3..7, 0..0],
        Application::Visa12 | Application::Visa22 => [0..data.len(), 0..0],
        Application::MChip10 | Application::MChip14 => [2..8, 0..0],
        // Between the card verification results and the counters is the code, which is not.
        Application::MChip11 | Application::MChip15 => [2..8, 10..18],
    };
    ranges.into_iter().flat_map(|range| data.get(range).unwrap_or_default()).copied().collect()
}

/// The type of the second cryptogram in the two highest bits, that of the first below them.
const fn types(facts: &Facts) -> u8 {
    const FIRST_WENT_ONLINE: u8 = 0x20;
    FIRST_WENT_ONLINE
        | match facts.second {
            None => 0x80,
            Some(true) => 0x40,
            Some(false) => 0x00,
        }
}

const fn bit(is_set: bool, bit: u8) -> u8 {
    if is_set { bit } else { 0 }
}

/// Bytes 2 to 4 of Visa's.
fn visa(facts: &Facts) -> [u8; 3] {
    let Facts { offline_pin, before, .. } = facts;
    [
        types(facts)
            | bit(facts.issuer_authentication == Some(false), 0x08)
            | bit(offline_pin.is_some(), 0x04)
            | bit(*offline_pin == Some(false), 0x02)
            | bit(facts.unable_to_go_online, 0x01),
        bit(before.is_incomplete, 0x80)
            | bit(facts.tries_left == 0, 0x40)
            | bit(before.authentication_failed, 0x08)
            | bit(facts.second.is_some() && facts.issuer_authentication.is_none(), 0x04),
        before.scripts << 4 | bit(before.script_failed, 0x08),
    ]
}

/// The six bytes of M/Chip.
fn m_chip(facts: &Facts) -> [u8; 6] {
    let Facts { offline_pin, before, .. } = facts;
    [
        types(facts) | bit(offline_pin.is_some(), 0x04) | bit(*offline_pin == Some(true), 0x01),
        bit(facts.issuer_authentication.is_some(), 0x10),
        before.scripts << 4 | facts.tries_left & 0x0F,
        bit(before.is_incomplete, 0x80)
            | bit(facts.unable_to_go_online, 0x40)
            | bit(offline_pin.is_none(), 0x20)
            | bit(*offline_pin == Some(false), 0x10)
            | bit(facts.tries_left == 0, 0x08),
        bit(before.authentication_failed || facts.issuer_authentication == Some(false), 0x04)
            | bit(before.scripts > 0, 0x02)
            | bit(before.script_failed, 0x01),
        0,
    ]
}
