//! Why a decision came out as it did: the checks that decided it, with the values and parameters
//! that they compared. Kept with the transaction; no note holds card data.

use std::fmt;

use smallvec::SmallVec;

/// The notes of one decision, in the order in which they were made.
pub type Trail = SmallVec<[Note; 2]>;

/// One step of a decision: what was found, and up to two numbers, named in [`Finding::row`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// What was found.
    pub finding: Finding,
    /// What was looked at.
    pub value: u64,
    /// What it was compared with.
    pub parameter: u64,
}

impl Note {
    /// A note of two numbers.
    #[must_use]
    pub const fn of(finding: Finding, value: u64, parameter: u64) -> Note {
        Note { finding, value, parameter }
    }
}

impl From<Finding> for Note {
    fn from(finding: Finding) -> Note {
        Note::of(finding, 0, 0)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, value, parameter) = self.finding.row();
        f.write_str(words)?;
        match (value, parameter) {
            ("", _) => Ok(()),
            (value, "") => write!(f, " ({value} {})", self.value),
            (value, name) => write!(f, " ({value} {}, {name} {})", self.value, self.parameter),
        }
    }
}

/// What a step of a decision can find. Stored by its place here: new ones go to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of each are in the table below")]
pub enum Finding {
    RightPin,
    WrongPin,
    ChipDataMissing,
    ChipDataIncomplete,
    NotAnArqc,
    CvnUnknown,
    CryptogramRight,
    CryptogramWrong,
    CryptogramAgain,
    AtcOutOfRange,
    AtcReplayed,
    AtcTooOld,
    AmountsDiffer,
    OfflinePinContradicted,
    OnlinePinMissing,
    OfflinePinRight,
    ChipTryLimitExceeded,
    OfflinePinWrong,
    VerificationFailed,
    OtherVerification,
    OfflinePinRequired,
    ChangePending,
    NoChangePending,
    BelowThreshold,
    NotBelowThreshold,
    NoThreshold,
    AmountNotComparable,
    WithinDays,
    DaysPassed,
    TypeWithoutBypass,
    ScriptSentAlready,
    ChangeNotBegun,
    ScriptConfirmed,
    ScriptNotDone,
    ScriptLost,
    ScriptGivenUp,
    ChangeExpired,
    ScriptAttached,
    UnblockQueued,
    ChipUnavailable,
    ChipTriesLeft,
    CannotCarry,
    Contactless,
    NoSuchPlastic,
    PlasticExpired,
    SuspendedForPinTries,
    CardNotActive,
    CardBlocked,
    NoChipKeys,
    PinBlockUnusable,
    NoPinSet,
    PinMissing,
    NoPinRequired,
    PinUnavailable,
    CurrencyNotAllowed,
    LimitNotComparable,
    AboveLimit,
    ScriptReversed,
    ScriptInDoubt,
    ChangeInDoubt,
    StripeOfChip,
    PinNotEntered,
    NoPinWanted,
    ExhaustedBelow,
}

use Finding as F;

impl Finding {
    /// All of them, in the order of their stored numbers.
    pub const ALL: [Finding; 64] = [
        F::RightPin,
        F::WrongPin,
        F::ChipDataMissing,
        F::ChipDataIncomplete,
        F::NotAnArqc,
        F::CvnUnknown,
        F::CryptogramRight,
        F::CryptogramWrong,
        F::CryptogramAgain,
        F::AtcOutOfRange,
        F::AtcReplayed,
        F::AtcTooOld,
        F::AmountsDiffer,
        F::OfflinePinContradicted,
        F::OnlinePinMissing,
        F::OfflinePinRight,
        F::ChipTryLimitExceeded,
        F::OfflinePinWrong,
        F::VerificationFailed,
        F::OtherVerification,
        F::OfflinePinRequired,
        F::ChangePending,
        F::NoChangePending,
        F::BelowThreshold,
        F::NotBelowThreshold,
        F::NoThreshold,
        F::AmountNotComparable,
        F::WithinDays,
        F::DaysPassed,
        F::TypeWithoutBypass,
        F::ScriptSentAlready,
        F::ChangeNotBegun,
        F::ScriptConfirmed,
        F::ScriptNotDone,
        F::ScriptLost,
        F::ScriptGivenUp,
        F::ChangeExpired,
        F::ScriptAttached,
        F::UnblockQueued,
        F::ChipUnavailable,
        F::ChipTriesLeft,
        F::CannotCarry,
        F::Contactless,
        F::NoSuchPlastic,
        F::PlasticExpired,
        F::SuspendedForPinTries,
        F::CardNotActive,
        F::CardBlocked,
        F::NoChipKeys,
        F::PinBlockUnusable,
        F::NoPinSet,
        F::PinMissing,
        F::NoPinRequired,
        F::PinUnavailable,
        F::CurrencyNotAllowed,
        F::LimitNotComparable,
        F::AboveLimit,
        F::ScriptReversed,
        F::ScriptInDoubt,
        F::ChangeInDoubt,
        F::StripeOfChip,
        F::PinNotEntered,
        F::NoPinWanted,
        F::ExhaustedBelow,
    ];

    /// In words; then what its value and its parameter are, nothing where it has none.
    #[must_use]
    pub const fn row(self) -> (&'static str, &'static str, &'static str) {
        match self {
            F::RightPin => ("online PIN right", "", ""),
            F::WrongPin => ("online PIN wrong", "consecutive", "limit"),
            F::ChipDataMissing => ("a chip without DE55, and no PIN", "", ""),
            F::ChipDataIncomplete => ("DE55 lacks what its cryptogram covers", "", ""),
            F::NotAnArqc => ("the chip did not ask to go online", "", ""),
            F::CvnUnknown => ("issuer data or cryptogram version not known", "CVN", ""),
            F::CryptogramRight => ("cryptogram right", "ATC", ""),
            F::CryptogramWrong => ("cryptogram wrong", "ATC", ""),
            F::CryptogramAgain => ("the same cryptogram, after the PIN was asked for", "ATC", ""),
            F::AtcOutOfRange => ("ATC out of range", "ATC", ""),
            F::AtcReplayed => ("ATC seen before", "ATC", "highest"),
            F::AtcTooOld => ("ATC below the window", "ATC", "highest"),
            F::AmountsDiffer => ("DE4 and 9F02 differ", "DE4", "9F02"),
            F::OfflinePinContradicted => {
                ("the terminal says offline PIN right, the chip does not", "", "")
            }
            F::OnlinePinMissing => ("the terminal says online PIN, and there is no DE52", "", ""),
            F::OfflinePinRight => ("offline PIN right", "", ""),
            F::ChipTryLimitExceeded => ("no PIN try left on the chip", "", ""),
            F::OfflinePinWrong => ("offline PIN wrong", "", ""),
            F::VerificationFailed => ("no cardholder verification held", "", ""),
            F::OtherVerification => ("no PIN was needed, or none could be entered", "", ""),
            F::OfflinePinRequired => ("the product requires an offline PIN", "", ""),
            F::ChangePending => ("a change waits for the chip", "", ""),
            F::NoChangePending => ("no change waits for the chip", "", ""),
            F::BelowThreshold => ("bypass: below FTPAM", "amount", "FTPAM"),
            F::NotBelowThreshold => ("no bypass: not below FTPAM", "amount", "FTPAM"),
            F::NoThreshold => ("no bypass: FTPAM is not set", "", ""),
            F::AmountNotComparable => {
                ("no bypass: no amount in the product's currency", "DE4", "9F02")
            }
            F::WithinDays => ("bypass: within FTPDY", "seconds since the change", "FTPDY"),
            F::DaysPassed => ("no bypass: FTPDY is over", "seconds since the change", "FTPDY"),
            F::TypeWithoutBypass => ("no bypass: cash, or another type", "", ""),
            F::ScriptSentAlready => ("no bypass: the chip may have had the script", "", ""),
            F::ChangeNotBegun => ("no bypass: the change does not count yet", "", ""),
            F::ScriptConfirmed => ("the chip has done the script", "ATC of the script", ""),
            F::ScriptNotDone => ("the script did not work", "ATC of the script", ""),
            F::ScriptLost => ("the script did not reach the chip", "ATC of the script", ""),
            F::ScriptReversed => ("the script's answer was reversed", "ATC of the script", ""),
            F::ScriptInDoubt => ("the script may have reached the chip", "ATC of the script", ""),
            F::ChangeInDoubt => ("the chip may have made the change that waits", "", ""),
            F::ScriptGivenUp => ("the script is given up", "sent", ""),
            F::ChangeExpired => ("the change was not carried within OFPBE", "", ""),
            F::ScriptAttached => ("the answer carries a script", "sent", ""),
            F::UnblockQueued => ("an unblock is queued for the chip", "", ""),
            F::ChipUnavailable => ("the HSM gave no answer for the chip", "", ""),
            F::ChipTriesLeft => ("the chip's PIN try counter", "left", ""),
            F::CannotCarry => {
                ("no script can go: no contact chip, or not its newest transaction", "", "")
            }
            F::Contactless => ("a contactless chip that tells of no failure", "", ""),
            F::NoSuchPlastic => ("no plastic has this expiry and sequence number", "", ""),
            F::PlasticExpired => ("the plastic has expired", "", ""),
            F::SuspendedForPinTries => ("suspended for wrong PINs", "", ""),
            F::CardNotActive => ("not activated", "", ""),
            F::CardBlocked => ("limited, suspended or terminated", "", ""),
            F::StripeOfChip => ("the stripe of a card with a chip was read", "", ""),
            F::PinNotEntered => ("a PIN was asked for, and none was entered", "", ""),
            F::NoPinWanted => ("no verification was needed, and nobody asked for a PIN", "", ""),
            F::ExhaustedBelow => ("passes while the change waits: below FTPAM", "amount", "FTPAM"),
            F::NoChipKeys => ("the product has no keys for chips", "", ""),
            F::PinBlockUnusable => ("the PIN block cannot be used", "", ""),
            F::NoPinSet => ("no PIN is set", "", ""),
            F::PinMissing => ("a PIN is required, and there is none", "", ""),
            F::NoPinRequired => ("no PIN is required", "", ""),
            F::PinUnavailable => ("the HSM gave no answer for the PIN", "", ""),
            F::CurrencyNotAllowed => ("currency not allowed", "DE49", ""),
            F::LimitNotComparable => ("not comparable with the limit", "DE49", "limit"),
            F::AboveLimit => ("above the limit", "amount", "limit"),
        }
    }

    /// Whether it tells of what the chip holds, or is to hold.
    #[must_use]
    pub const fn is_of_chip_state(self) -> bool {
        matches!(
            self,
            F::ScriptConfirmed
                | F::ScriptNotDone
                | F::ScriptLost
                | F::ScriptReversed
                | F::ScriptInDoubt
                | F::ScriptGivenUp
                | F::ScriptAttached
                | F::UnblockQueued
        )
    }

    /// The number it is stored by.
    #[must_use]
    pub fn number(self) -> u8 {
        let place = Finding::ALL.iter().position(|known| *known == self);
        place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
    }
}
