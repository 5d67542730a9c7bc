//! Every outcome of a message, and its DE39 in each dialect family.

use std::fmt;

use iso_specs::{ResponseCodeColumn, Spec};

/// Makes [`Reason`] of a table with a line for each: its number; its code; DE39 of ISO 8583:1987,
/// 1993 and 2003; its words.
macro_rules! reasons {
    ($(
        $(#[$doc:meta])* $name:ident = $number:literal: $code:literal, $de39:tt, $memo:literal;
    )*) => {
        /// What came out, as a four-digit code. 1809 and 1872 are the product's own, the others
        /// follow the open jPOS-CMF numbering. Its number is the code, and is stored.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Reason {
            $($(#[$doc])* $name = $number,)*
        }

        impl Reason {
            /// All reasons, in the order of their codes.
            pub const ALL: [Reason; [$(Reason::$name),*].len()] = [$(Reason::$name),*];

            /// The four-digit code, as in logs and metrics.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self {
                    $(Reason::$name => $code,)*
                }
            }

            /// DE39 of ISO 8583:1987, 1993 and 2003.
            const fn de39(self) -> [&'static str; 3] {
                match self {
                    $(Reason::$name => $de39,)*
                }
            }

            /// The reason in words. Those of 1809 and 1872 are in the documents of issuers'
            /// processors, letter by letter, and clients compare them.
            #[must_use]
            pub const fn memo(self) -> &'static str {
                match self {
                    $(Reason::$name => $memo,)*
                }
            }
        }
    };
}

reasons! {
    /// 0000: approved.
    Approved = 0: "0000", ["00", "000", "0000"], "Approved";
    /// 1001: the card has expired, or the request does not speak of one of its plastics.
    ExpiredCard = 1001: "1001", ["54", "101", "1001"], "Expired card";
    /// 1004: suspended for another reason than PIN tries, limited or terminated.
    CardBlocked = 1004: "1004", ["62", "104", "1004"], "Card suspended, limited or terminated";
    /// 1011: no such card.
    NoSuchCard = 1011: "1011", ["14", "111", "1011"], "No such card";
    /// 1012: a PIN is required and absent, or no PIN is set.
    PinRequired = 1012: "1012", ["70", "112", "1012"], "PIN required, or no PIN set";
    /// 1015: MTI, network management code or processing code not supported.
    FunctionNotSupported = 1015: "1015", ["40", "115", "1015"], "Function not supported";
    /// 1021: above the product's limit.
    AboveLimit = 1021: "1021", ["61", "121", "1021"], "Above the limit";
    /// 1025: not active yet.
    CardNotActive = 1025: "1025", ["78", "125", "1025"], "Card not active";
    /// 1026: PIN block unusable.
    BadPinBlock = 1026: "1026", ["81", "126", "1026"], "PIN block unusable";
    /// 1029: cryptogram wrong or not checked.
    BadCryptogram = 1029: "1029", ["59", "129", "1029"], "Cryptogram wrong or not checked";
    /// 1048: the new PIN of a PIN change is weak or unusable.
    NewPinRefused = 1048: "1048", ["57", "119", "1048"], "New PIN weak or unusable";
    /// 1809: invalid PIN.
    InvalidPin = 1809: "1809", ["55", "117", "1017"], "Invalid Pin";
    /// 1872: PIN try limit exceeded.
    PinTryLimitExceeded = 1872: "1872", ["75", "106", "1006"], "Pin try limit exceeded";
    /// 9904: format error.
    FormatError = 9904: "9904", ["30", "904", "9904"], "Format error";
    /// 9907: HSM or store unavailable, or not signed on.
    Unavailable = 9907: "9907", ["91", "907", "9907"], "Issuer or HSM unavailable";
    /// 9909: system malfunction.
    SystemMalfunction = 9909: "9909", ["96", "909", "9909"], "System malfunction";
    /// 9913: the key of an earlier request, another body; or that request was reversed.
    DuplicateConflict = 9913: "9913", ["94", "913", "9913"],
        "Same key as an earlier request, another body; or reversed";
    /// 9914: a reversal whose original is unknown, on a link that is to be told.
    OriginalNotFound = 9914: "9914", ["25", "914", "9914"], "Original not found";
}

impl Reason {
    /// The authorization response code that a chip of Visa is told (8A): two ASCII digits, those of
    /// ISO 8583:1987.
    #[must_use]
    pub fn arc(self) -> [u8; 2] {
        let [y1987, ..] = self.de39();
        if let [tens, ones] = *y1987.as_bytes() {
            return [tens, ones];
        }
        debug_assert!(false, "the table has two digits for each");
        // Do not honour.
        *b"05"
    }

    /// The code as a number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// From [`Reason::number`].
    #[must_use]
    pub fn from_number(number: u16) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.number() == number)
    }

    /// DE39 in this dialect; a dialect's file may override the table.
    #[must_use]
    pub fn response_code(self, dialect: &Spec) -> &str {
        let [y1987, y1993, y2003] = self.de39();
        dialect.response_code_override(self.code()).unwrap_or(
            match dialect.response_code_column() {
                ResponseCodeColumn::Y1987 => y1987,
                ResponseCodeColumn::Y1993 => y1993,
                ResponseCodeColumn::Y2003 => y2003,
            },
        )
    }

    /// What this DE39 means in a dialect; `None` where the switch never says it.
    #[must_use]
    pub fn from_response_code(code: &str, dialect: &Spec) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| Reason::response_code(*reason, dialect) == code)
    }

    /// Whether the answer is kept and given again to a repeat. A system fault is not: a repeat
    /// is decided anew. Nor is a decline that rests on no card: it costs the sender nothing to
    /// make, and would take the room of answers that count.
    #[must_use]
    pub const fn is_kept(self) -> bool {
        !matches!(
            self,
            Reason::Unavailable
                | Reason::SystemMalfunction
                | Reason::DuplicateConflict
                | Reason::NoSuchCard
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the design, written a second time.
    const TABLE: &str = "
        0000 00 000 0000
        1001 54 101 1001
        1004 62 104 1004
        1011 14 111 1011
        1012 70 112 1012
        1015 40 115 1015
        1021 61 121 1021
        1025 78 125 1025
        1026 81 126 1026
        1029 59 129 1029
        1048 57 119 1048
        1809 55 117 1017
        1872 75 106 1006
        9904 30 904 9904
        9907 91 907 9907
        9909 96 909 9909
        9913 94 913 9913
        9914 25 914 9914";

    fn dialect(column: &str) -> Spec {
        let text = Spec::builtin("iso8583-1987-ascii").unwrap();
        let column = format!("response_code_column = \"{column}\"");
        Spec::from_toml(&text.replace("response_code_column = \"1987\"", &column)).unwrap()
    }

    #[test]
    fn every_reason_has_its_code_in_every_family() {
        let families = ["1987", "1993", "2003"].map(dialect);
        let rows = TABLE.lines().filter(|line| !line.is_empty());
        let rows: Vec<Vec<&str>> = rows.map(|row| row.split_whitespace().collect()).collect();
        assert_eq!(rows.len(), Reason::ALL.len());
        for row in rows {
            let reason = Reason::from_number(row[0].parse().unwrap()).unwrap();
            let codes = families.each_ref().map(|dialect| reason.response_code(dialect));
            assert_eq!(codes, row[1..], "{reason}");
        }
    }

    #[test]
    fn a_dialect_may_override_a_code() {
        let text = Spec::builtin("iso8583-1987-ascii").unwrap();
        let text = text.replace("[echo]", "[response_codes]\n\"1872\" = \"38\"\n\n[echo]");
        let dialect = Spec::from_toml(&text).unwrap();
        assert_eq!(Reason::PinTryLimitExceeded.response_code(&dialect), "38");
        assert_eq!(Reason::InvalidPin.response_code(&dialect), "55");
    }

    #[test]
    fn codes_are_distinct_and_found_again() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_number(reason.number()), Some(reason));
            assert_eq!(format!("{:04}", reason.number()), reason.code());
            for dialect in ["1987", "1993", "2003"].map(dialect) {
                let code = reason.response_code(&dialect);
                assert_eq!(Reason::from_response_code(code, &dialect), Some(reason));
            }
        }
        assert_eq!(Reason::from_response_code("99", &dialect("1987")), None);
    }
}
