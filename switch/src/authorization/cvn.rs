//! How a card's cryptograms and scripts are made, by scheme and cryptogram version number (CVN):
//! the one table of it. A product may say otherwise.

use super::iad::Scheme;
use crate::hsm::emv::{
    ArpcKey, ArpcMethod, CardKeyMethod, CoveredIad, CryptogramProfile, IssuerAnswer, MacPadding,
    ScriptKeyMethod, ScriptPinMethod, SessionKeyMethod,
};

/// Every known CVN of every scheme.
pub const ALL: [(Scheme, u8); 8] = [
    (Scheme::Visa, 0x0A),
    (Scheme::Visa, 0x12),
    (Scheme::Visa, 0x22),
    (Scheme::Mastercard, 0x10),
    (Scheme::Mastercard, 0x11),
    (Scheme::Mastercard, 0x14),
    (Scheme::Mastercard, 0x15),
    (Scheme::Ccd, 0xA5),
];

const VISA_10: CryptogramProfile = CryptogramProfile {
    card_keys: CardKeyMethod::A,
    session_key: SessionKeyMethod::None,
    covered_iad: CoveredIad::Cvr,
    padding: MacPadding::Zeros,
    arpc: ArpcMethod::One(ArpcKey::Card),
    script_keys: ScriptKeyMethod::VisaAtc,
    script_pin: ScriptPinMethod::Vis,
};

const VISA_18: CryptogramProfile = CryptogramProfile {
    card_keys: CardKeyMethod::B,
    session_key: SessionKeyMethod::Common,
    covered_iad: CoveredIad::Whole,
    padding: MacPadding::Bit,
    arpc: ArpcMethod::Two,
    ..VISA_10
};

const VISA_22: CryptogramProfile = CryptogramProfile {
    script_keys: ScriptKeyMethod::Common { counts: false },
    script_pin: ScriptPinMethod::Iso2Padded,
    ..VISA_18
};

const M_CHIP_10: CryptogramProfile = CryptogramProfile {
    card_keys: CardKeyMethod::A,
    session_key: SessionKeyMethod::Skd,
    covered_iad: CoveredIad::Cvr,
    padding: MacPadding::Bit,
    arpc: ArpcMethod::One(ArpcKey::Card),
    script_keys: ScriptKeyMethod::Common { counts: true },
    script_pin: ScriptPinMethod::Iso2,
};

const M_CHIP_14: CryptogramProfile = CryptogramProfile {
    session_key: SessionKeyMethod::Common,
    arpc: ArpcMethod::One(ArpcKey::Session),
    ..M_CHIP_10
};

const CCD: CryptogramProfile =
    CryptogramProfile { script_pin: ScriptPinMethod::Iso2Chained, ..VISA_22 };

/// The profile of a CVN; `None` where nobody knows it.
#[must_use]
pub fn profile(scheme: Scheme, cvn: u8) -> Option<CryptogramProfile> {
    let with_counters = |profile: CryptogramProfile| CryptogramProfile {
        covered_iad: CoveredIad::CvrAndCounters,
        ..profile
    };
    Some(match (scheme, cvn) {
        (Scheme::Visa, 0x0A) => VISA_10,
        (Scheme::Visa, 0x12) => VISA_18,
        (Scheme::Visa, 0x22) => VISA_22,
        (Scheme::Mastercard, 0x10) => M_CHIP_10,
        (Scheme::Mastercard, 0x11) => with_counters(M_CHIP_10),
        (Scheme::Mastercard, 0x14) => M_CHIP_14,
        (Scheme::Mastercard, 0x15) => with_counters(M_CHIP_14),
        (Scheme::Ccd, 0xA5) => CCD,
        _ => return None,
    })
}

/// What tells a chip of this scheme and profile that the issuer approves or declines. Visa's code
/// is the authorization response code in ASCII, M/Chip's are bits of its own; an approval resets
/// the counters of what was spent offline.
#[must_use]
pub const fn issuer_answer(
    scheme: Scheme,
    profile: &CryptogramProfile,
    response_code: [u8; 2],
    approves: bool,
) -> IssuerAnswer {
    match (profile.arpc, scheme, approves) {
        (ArpcMethod::Two, _, true) => IssuerAnswer::Update([0x00, 0x82, 0x00, 0x00]),
        (ArpcMethod::Two, _, false) => IssuerAnswer::Update([0; 4]),
        (ArpcMethod::One(_), Scheme::Mastercard, true) => IssuerAnswer::Code([0x00, 0x12]),
        (ArpcMethod::One(_), Scheme::Mastercard, false) => IssuerAnswer::Code([0; 2]),
        (ArpcMethod::One(_), Scheme::Visa | Scheme::Ccd, _) => IssuerAnswer::Code(response_code),
    }
}
