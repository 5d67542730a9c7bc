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
        match self.finding {
            F::IadUnknown => return write!(f, " ({value} {})", Head(self.value)),
            F::CvnNotInTable => {
                let head = Head(self.parameter);
                return write!(f, " ({value} {:02X}, {parameter} {head})", self.value);
            }
            _ => {}
        }
        match (value, parameter) {
            ("", _) => Ok(()),
            (value, "") => write!(f, " ({value} {})", self.value),
            (value, name) => write!(f, " ({value} {}, {name} {})", self.value, self.parameter),
        }
    }
}

/// The bytes of a number behind the one in front of them, in hexadecimal.
struct Head(u64);

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.to_be_bytes();
        let mut rest = bytes.iter().skip_while(|byte| **byte == 0).skip(1);
        match rest.next() {
            Some(first) => write!(f, "{first:02X}")?,
            None => f.write_str("nothing")?,
        }
        rest.try_for_each(|byte| write!(f, " {byte:02X}"))
    }
}

/// Makes [`Finding`] of a table with a line for each: its words, then what its value and its
/// parameter are, where it has them.
macro_rules! findings {
    ($($name:ident: $words:literal $(, $value:literal $(, $parameter:literal)?)?;)*) => {
        /// What a step of a decision can find. Stored by its place here: new ones go to the end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the words of each are in the table")]
        pub enum Finding {
            $($name,)*
        }

        impl Finding {
            /// All of them, in the order of their stored numbers.
            pub const ALL: &[Finding] = &[$(Finding::$name,)*];

            /// In words; then what its value and its parameter are, nothing where it has none.
            #[must_use]
            pub const fn row(self) -> (&'static str, &'static str, &'static str) {
                match self {
                    $(Finding::$name => {
                        ($words, concat!("" $(, $value)?), concat!("" $($(, $parameter)?)?))
                    })*
                }
            }
        }
    };
}

findings! {
    RightPin: "online PIN right";
    WrongPin: "online PIN wrong", "consecutive", "limit";
    ChipDataMissing: "a chip without DE55, and no PIN";
    ChipDataIncomplete: "DE55 lacks what its cryptogram covers";
    NotAnArqc: "the chip did not ask to go online";
    CvnUnknown: "issuer data or cryptogram version not known", "CVN";
    CryptogramRight: "cryptogram right", "ATC";
    CryptogramWrong: "cryptogram wrong", "ATC";
    CryptogramAgain: "the same cryptogram, after the PIN was asked for", "ATC";
    AtcOutOfRange: "ATC out of range", "ATC";
    AtcReplayed: "ATC seen before", "ATC", "highest";
    AtcTooOld: "ATC below the window", "ATC", "highest";
    AmountsDiffer: "DE4 and 9F02 differ", "DE4", "9F02";
    OfflinePinContradicted: "the terminal says offline PIN right, the chip does not";
    OnlinePinMissing: "the terminal says online PIN, and there is no DE52";
    OfflinePinRight: "offline PIN right";
    ChipTryLimitExceeded: "no PIN try left on the chip";
    OfflinePinWrong: "offline PIN wrong";
    VerificationFailed: "no cardholder verification held";
    OtherVerification: "no PIN was needed, or none could be entered";
    OfflinePinRequired: "the product requires an offline PIN";
    ChangePending: "a change waits for the chip";
    NoChangePending: "no change waits for the chip";
    BelowThreshold: "bypass: below FTPAM", "amount", "FTPAM";
    NotBelowThreshold: "no bypass: not below FTPAM", "amount", "FTPAM";
    NoThreshold: "no bypass: FTPAM is not set";
    AmountNotComparable: "no bypass: no amount in the product's currency", "DE4", "9F02";
    WithinDays: "bypass: within FTPDY", "seconds since the change", "FTPDY";
    DaysPassed: "no bypass: FTPDY is over", "seconds since the change", "FTPDY";
    TypeWithoutBypass: "no bypass: cash, or another type";
    ScriptSentAlready: "no bypass: the chip may have had the script";
    ChangeNotBegun: "no bypass: the change does not count yet";
    ScriptConfirmed: "the chip has done the script", "ATC of the script";
    ScriptNotDone: "the script did not work", "ATC of the script";
    ScriptLost: "the script did not reach the chip", "ATC of the script";
    ScriptGivenUp: "the script is given up", "sent";
    ChangeExpired: "the change was not carried within OFPBE";
    ScriptAttached: "the answer carries a script", "sent";
    UnblockQueued: "an unblock is queued for the chip";
    ChipUnavailable: "the HSM gave no answer for the chip";
    ChipTriesLeft: "the chip's PIN try counter", "left";
    CannotCarry: "no script can go: no contact chip, or not its newest transaction";
    Contactless: "a contactless chip that tells of no failure";
    NoSuchPlastic: "no plastic has this expiry and sequence number";
    PlasticExpired: "the plastic has expired";
    SuspendedForPinTries: "suspended for wrong PINs";
    CardNotActive: "not activated";
    CardBlocked: "limited, suspended or terminated";
    NoChipKeys: "the product has no keys for chips";
    PinBlockUnusable: "the PIN block cannot be used";
    NoPinSet: "no PIN is set";
    PinMissing: "a PIN is required, and there is none";
    NoPinRequired: "no PIN is required";
    PinUnavailable: "the HSM gave no answer for the PIN";
    CurrencyNotAllowed: "currency not allowed", "DE49";
    LimitNotComparable: "not comparable with the limit", "DE49", "limit";
    AboveLimit: "above the limit", "amount", "limit";
    ScriptReversed: "the script's answer was reversed", "ATC of the script";
    ScriptInDoubt: "the script may have reached the chip", "ATC of the script";
    ChangeInDoubt: "the chip may have made the change that waits";
    StripeOfChip: "the stripe of a card with a chip was read";
    PinNotEntered: "a PIN was asked for, and none was entered";
    NoPinWanted: "no verification was needed, and nobody asked for a PIN";
    ExhaustedBelow: "passes while the change waits: below FTPAM", "amount", "FTPAM";
    IadUnknown: "the shape of 9F10 is not known", "it begins with";
    CvnNotInTable: "9F10 has a cryptogram version that is not known", "version", "it begins with";
    CoversTooLittle: "the cryptogram covers too little: it is of chips without contact";
    OriginalUnknown: "original unknown";
    ExhaustedAlways: "passes while the change waits: FTPAM is not set";
    AmountNotCovered: "the amount that the chip saw is not under its cryptogram";
    ProductUnknown: "the product of the card is gone";
}

use Finding as F;

impl Finding {
    /// The number it is stored by.
    #[must_use]
    pub fn number(self) -> u8 {
        let place = Finding::ALL.iter().position(|known| *known == self);
        place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
    }
}
