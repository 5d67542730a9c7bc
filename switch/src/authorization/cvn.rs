//! How a card's cryptograms and scripts are made, by scheme and cryptogram version number (CVN):
//! the one table of it. A product may say otherwise.

use super::iad::Scheme;
use crate::hsm::emv::{
    ArpcKey, ArpcMethod, CardKeyMethod, CoveredIad, CryptogramProfile, IssuerAnswer, MacPadding,
    ScriptKeyMethod, ScriptPinMethod, SessionKeyMethod,
};

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CvnRow {
    /// Kind of card.
    pub scheme: Scheme,
    /// Cryptogram version number.
    pub cvn: u8,
    /// How cryptograms and scripts are made.
    pub profile: CryptogramProfile,
    /// What tells the chip that the issuer approves; `None` is the authorization response code in
    /// ASCII. It is one that the ARPC method takes.
    pub approve: Option<IssuerAnswer>,
    /// The same where the issuer declines.
    pub decline: Option<IssuerAnswer>,
}

impl CvnRow {
    /// What tells the chip of a decision with this authorization response code.
    #[must_use]
    pub fn answer(&self, response_code: [u8; 2], approves: bool) -> IssuerAnswer {
        let answer = if approves { self.approve } else { self.decline };
        answer.unwrap_or(IssuerAnswer::Code(response_code))
    }
}

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

/// The row of a CVN, of the product's own or of the table; `None` where nobody knows it.
#[must_use]
pub fn row(own: &[CvnRow], scheme: Scheme, cvn: u8) -> Option<CvnRow> {
    let own = own.iter().find(|row| (row.scheme, row.cvn) == (scheme, cvn));
    own.copied().or_else(|| built_in(scheme, cvn))
}

/// The row of a CVN in the table. Visa's code is the authorization response code, M/Chip's are bits
/// of its own; an approval resets the counters of what was spent offline.
#[must_use]
pub fn built_in(scheme: Scheme, cvn: u8) -> Option<CvnRow> {
    let with_counters = |profile: CryptogramProfile| CryptogramProfile {
        covered_iad: CoveredIad::CvrAndCounters,
        ..profile
    };
    let profile = match (scheme, cvn) {
        (Scheme::Visa, 0x0A) => VISA_10,
        (Scheme::Visa, 0x12) => VISA_18,
        (Scheme::Visa, 0x22) => VISA_22,
        (Scheme::Mastercard, 0x10) => M_CHIP_10,
        (Scheme::Mastercard, 0x11) => with_counters(M_CHIP_10),
        (Scheme::Mastercard, 0x14) => M_CHIP_14,
        (Scheme::Mastercard, 0x15) => with_counters(M_CHIP_14),
        (Scheme::Ccd, 0xA5) => CCD,
        _ => return None,
    };
    let (code, update) = (IssuerAnswer::Code, IssuerAnswer::Update);
    let (approve, decline) = match (profile.arpc, scheme) {
        (ArpcMethod::Two, _) => (Some(update([0x00, 0x82, 0x00, 0x00])), Some(update([0; 4]))),
        (ArpcMethod::One(_), Scheme::Mastercard) => (Some(code([0x00, 0x12])), Some(code([0; 2]))),
        (ArpcMethod::One(_), Scheme::Visa | Scheme::Ccd) => (None, None),
    };
    Some(CvnRow { scheme, cvn, profile, approve, decline })
}
