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
            Finding::IadUnknown => return write!(f, " ({value} {})", Head(self.value)),
            Finding::CvnNotInTable => {
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

/// Makes [`Finding`] of a table with a line for each: its stored number, its words, then what its
/// value and its parameter are, where it has them.
macro_rules! findings {
    ($(
        $number:literal, $name:ident: $words:literal $(, $value:literal $(, $parameter:literal)?)?;
    )*) => {
        /// What a step of a decision can find. The numbers are stored: a new finding gets a new
        /// one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the words of each are in the table")]
        pub enum Finding {
            $($name = $number,)*
        }

        impl Finding {
            /// The finding with a stored number; `None` for a number that none has.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Finding> {
                match number {
                    $($number => Some(Finding::$name),)*
                    _ => None,
                }
            }

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
    0, RightPin: "online PIN right";
    1, WrongPin: "online PIN wrong", "consecutive", "limit";
    2, ChipDataMissing: "a chip without DE55, and no PIN";
    3, ChipDataIncomplete: "DE55 lacks what its cryptogram covers";
    4, NotAnArqc: "the chip did not ask to go online";
    5, CvnUnknown: "issuer data or cryptogram version not known", "CVN";
    6, CryptogramRight: "cryptogram right", "ATC";
    7, CryptogramWrong: "cryptogram wrong", "ATC";
    8, CryptogramAgain: "the same cryptogram, after the PIN was asked for", "ATC";
    9, AtcOutOfRange: "ATC out of range", "ATC";
    10, AtcReplayed: "ATC seen before", "ATC", "highest";
    11, AtcTooOld: "ATC below the window", "ATC", "highest";
    12, AmountsDiffer: "DE4 and 9F02 differ", "DE4", "9F02";
    13, OfflinePinContradicted: "the terminal says offline PIN right, the chip does not";
    14, OnlinePinMissing: "the terminal says online PIN, and there is no DE52";
    15, OfflinePinRight: "offline PIN right";
    16, ChipTryLimitExceeded: "no PIN try left on the chip";
    17, OfflinePinWrong: "offline PIN wrong";
    18, VerificationFailed: "no cardholder verification held";
    19, OtherVerification: "no PIN was needed, or none could be entered";
    20, OfflinePinRequired: "the product requires an offline PIN";
    21, ChangePending: "a change waits for the chip";
    22, NoChangePending: "no change waits for the chip";
    23, BelowThreshold: "bypass: below FTPAM", "amount", "FTPAM";
    24, NotBelowThreshold: "no bypass: not below FTPAM", "amount", "FTPAM";
    25, NoThreshold: "no bypass: FTPAM is not set";
    26, AmountNotComparable: "no bypass: no amount in the product's currency", "DE4", "9F02";
    27, WithinDays: "bypass: within FTPDY", "seconds since the change", "FTPDY";
    28, DaysPassed: "no bypass: FTPDY is over", "seconds since the change", "FTPDY";
    29, TypeWithoutBypass: "no bypass: cash, or another type";
    30, ScriptSentAlready: "no bypass: the chip may have had the script";
    31, ChangeNotBegun: "no bypass: the change does not count yet";
    32, ScriptConfirmed: "the chip has done the script", "ATC of the script";
    33, ScriptNotDone: "the script did not work", "ATC of the script";
    34, ScriptLost: "the script did not reach the chip", "ATC of the script";
    35, ScriptGivenUp: "the script is given up", "sent";
    36, ChangeExpired: "the change was not carried within OFPBE";
    37, ScriptAttached: "the answer carries a script", "sent";
    38, UnblockQueued: "an unblock is queued for the chip";
    39, ChipUnavailable: "the HSM gave no answer for the chip";
    40, ChipTriesLeft: "the chip's PIN try counter", "left";
    41, CannotCarry: "no script can go: no contact chip, or not its newest transaction";
    42, Contactless: "a contactless chip that tells of no failure";
    43, NoSuchPlastic: "no plastic has this expiry and sequence number";
    44, PlasticExpired: "the plastic has expired";
    45, SuspendedForPinTries: "suspended for wrong PINs";
    46, CardNotActive: "not activated";
    47, CardBlocked: "limited, suspended or terminated";
    48, NoChipKeys: "the product has no keys for chips";
    49, PinBlockUnusable: "the PIN block cannot be used";
    50, NoPinSet: "no PIN is set";
    51, PinMissing: "a PIN is required, and there is none";
    52, NoPinRequired: "no PIN is required";
    53, PinUnavailable: "the HSM gave no answer for the PIN";
    54, CurrencyNotAllowed: "currency not allowed", "DE49";
    55, LimitNotComparable: "not comparable with the limit", "DE49", "limit";
    56, AboveLimit: "above the limit", "amount", "limit";
    57, ScriptReversed: "the script's answer was reversed", "ATC of the script";
    58, ScriptInDoubt: "the script may have reached the chip", "ATC of the script";
    59, ChangeInDoubt: "the chip may have made the change that waits";
    60, StripeOfChip: "the stripe of a card with a chip was read";
    61, PinNotEntered: "a PIN was asked for, and none was entered";
    62, NoPinWanted: "no verification was needed, and nobody asked for a PIN";
    63, ExhaustedBelow: "passes while the change waits: below FTPAM", "amount", "FTPAM";
    64, IadUnknown: "the shape of 9F10 is not known", "it begins with";
    65, CvnNotInTable: "9F10 has a cryptogram version that is not known", "version",
        "it begins with";
    66, CoversTooLittle: "the cryptogram covers too little: it is of chips without contact";
    67, OriginalUnknown: "original unknown";
    68, ExhaustedAlways: "passes while the change waits: FTPAM is not set";
    69, AmountNotCovered: "the amount that the chip saw is not under its cryptogram";
    70, ProductUnknown: "the product of the card is gone";
    71, OfflinePinKnown: "offline PIN right, and the chip holds the 0000 that it was embossed with";
    72, NewPinSet: "another PIN is set";
    73, NewPinWeak: "the new PIN is easy to guess";
    74, NewPinUnusable: "the block of the new PIN is missing or cannot be used";
}

impl Finding {
    /// The stored number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_number_is_of_one_finding() {
        let known =
            (0..=u8::MAX).filter_map(|number| Some((number, Finding::from_number(number)?)));
        let known: Vec<_> = known.collect();
        assert!(known.len() >= 71, "none is ever taken away");
        assert!(known.iter().all(|(number, finding)| finding.number() == *number));
        // Of the first and the last that were stored before the numbers stood in the table.
        assert_eq!(Finding::from_number(0), Some(Finding::RightPin));
        assert_eq!(Finding::from_number(69), Some(Finding::AmountNotCovered));
    }
}
