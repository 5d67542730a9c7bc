//! The message type identifier (ISO 8583:1987, 4.1).

mod words;

use std::fmt;

use crate::encoding::ebcdic_digit;
use crate::error::{FramingError, FramingErrorKind};

/// A message type identifier: version, class, function and origin, one digit each.
///
/// Kept as four ASCII digits. The constants can be used as `match` patterns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mti([u8; 4]);

impl Mti {
    /// 0100.
    pub const AUTHORIZATION_REQUEST: Self = Self(*b"0100");
    /// 0110.
    pub const AUTHORIZATION_RESPONSE: Self = Self(*b"0110");
    /// 0120: already decided by somebody else, to be acknowledged.
    pub const AUTHORIZATION_ADVICE: Self = Self(*b"0120");
    /// 0200.
    pub const FINANCIAL_REQUEST: Self = Self(*b"0200");
    /// 0220: already decided by somebody else, to be acknowledged.
    pub const FINANCIAL_ADVICE: Self = Self(*b"0220");
    /// 0400.
    pub const REVERSAL_REQUEST: Self = Self(*b"0400");
    /// 0420.
    pub const REVERSAL_ADVICE: Self = Self(*b"0420");
    /// 0800.
    pub const NETWORK_MANAGEMENT_REQUEST: Self = Self(*b"0800");
    /// Length of the text form, in characters.
    pub const DIGITS: usize = 4;

    /// From four ASCII digits; `None` where one is no digit.
    #[must_use]
    pub const fn new(digits: [u8; 4]) -> Option<Self> {
        let [a, b, c, d] = digits;
        if a.is_ascii_digit() && b.is_ascii_digit() && c.is_ascii_digit() && d.is_ascii_digit() {
            Some(Self(digits))
        } else {
            None
        }
    }

    /// The four ASCII digits.
    #[must_use]
    pub const fn digits(self) -> [u8; 4] {
        self.0
    }

    /// First digit: 0 is the 1987 edition, 1 that of 1993, 2 that of 2003.
    #[must_use]
    pub const fn version(self) -> u8 {
        let [version, _, _, _] = self.0;
        version - b'0'
    }

    /// Second digit: 1 authorization, 2 financial, 4 reversal, 8 network management.
    #[must_use]
    pub const fn class(self) -> u8 {
        let [_, class, _, _] = self.0;
        class - b'0'
    }

    /// Third digit: 0 request, 1 its response, 2 advice, 3 its response, 4 notification.
    #[must_use]
    pub const fn function(self) -> u8 {
        let [_, _, function, _] = self.0;
        function - b'0'
    }

    /// Fourth digit: 0 acquirer, 2 issuer, 4 other; 1, 3 and 5 are their repeats.
    #[must_use]
    pub const fn origin(self) -> u8 {
        let [_, _, _, origin] = self.0;
        origin - b'0'
    }

    /// True where the third digit is even: somebody waits for a response or acknowledgement.
    #[must_use]
    pub const fn is_request(self) -> bool {
        self.function().is_multiple_of(2)
    }

    /// True for network management (class 8).
    #[must_use]
    pub const fn is_network_management(self) -> bool {
        self.class() == 8
    }

    /// Whether it tells of something that has happened (function 2).
    #[must_use]
    pub const fn is_advice(self) -> bool {
        self.function() == 2
    }

    /// Whether it reverses another message (class 4), or answers such a reversal.
    #[must_use]
    pub const fn is_reversal(self) -> bool {
        self.class() == 4
    }

    /// True where the sender repeats an earlier message (fourth digit 1, 3 or 5).
    const fn is_repeat(self) -> bool {
        matches!(self.origin(), 1 | 3 | 5)
    }

    /// The message that this one repeats: the fourth digit 1, 3, 5 becomes 0, 2, 4.
    const fn original(self) -> Self {
        let [version, class, function, origin] = self.0;
        let origin = if self.is_repeat() { origin - 1 } else { origin };
        Self([version, class, function, origin])
    }

    /// The type that answers this one, never a repeat: 0100 and 0101 give 0110, 0120 gives 0130.
    /// A response is its own answer; ask [`Mti::is_request`] before answering.
    #[must_use]
    pub const fn response(self) -> Self {
        let [version, class, function, origin] = self.original().0;
        let function = if self.is_request() { function + 1 } else { function };
        Self([version, class, function, origin])
    }
}

impl fmt::Display for Mti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for Mti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How the message type identifier is written on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MtiEncoding {
    /// Four ASCII digits.
    Ascii,
    /// Four EBCDIC digits.
    Ebcdic,
    /// Two bytes of two digits.
    Bcd,
}

impl MtiEncoding {
    pub(crate) const NAMES: &str = "\"ascii\", \"ebcdic\" or \"bcd\"";

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "ascii" => Some(Self::Ascii),
            "ebcdic" => Some(Self::Ebcdic),
            "bcd" => Some(Self::Bcd),
            _ => None,
        }
    }

    /// Reads the MTI at the head of a frame and says how many bytes it took.
    #[inline]
    pub(crate) fn read(self, frame: &[u8]) -> Result<(Mti, usize), FramingError> {
        let truncated = FramingError { offset: frame.len(), kind: FramingErrorKind::MtiTruncated };
        let (digits, wire_len) = match self {
            Self::Ascii => (*frame.first_chunk().ok_or(truncated)?, Mti::DIGITS),
            Self::Ebcdic => {
                let codes: [u8; Mti::DIGITS] = *frame.first_chunk().ok_or(truncated)?;
                (codes.map(|code| ebcdic_digit(code).map_or(0, |digit| b'0' + digit)), Mti::DIGITS)
            }
            Self::Bcd => {
                let [first, second] = *frame.first_chunk().ok_or(truncated)?;
                ([first >> 4, first & 0x0f, second >> 4, second & 0x0f].map(|n| b'0' + n), 2)
            }
        };
        match Mti::new(digits) {
            Some(mti) => Ok((mti, wire_len)),
            None => Err(not_digits(&digits, wire_len)),
        }
    }

    pub(crate) fn write(self, mti: Mti, out: &mut Vec<u8>) {
        let [a, b, c, d] = mti.digits();
        match self {
            Self::Ascii => out.extend_from_slice(&[a, b, c, d]),
            Self::Ebcdic => out.extend_from_slice(&[a, b, c, d].map(|digit| 0xf0 | digit)),
            Self::Bcd => {
                out.extend_from_slice(&[(a & 0x0f) << 4 | b & 0x0f, (c & 0x0f) << 4 | d & 0x0f]);
            }
        }
    }
}

#[cold]
fn not_digits(digits: &[u8; Mti::DIGITS], wire_len: usize) -> FramingError {
    let right = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    FramingError { offset: right * wire_len / Mti::DIGITS, kind: FramingErrorKind::MtiNotDigits }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mti(text: &str) -> Mti {
        Mti::new(text.as_bytes().try_into().unwrap()).unwrap()
    }

    #[test]
    fn digits_have_names() {
        let advice = mti("1423");
        assert_eq!(
            (advice.version(), advice.class(), advice.function(), advice.origin()),
            (1, 4, 2, 3)
        );
        assert_eq!(format!("{advice} {advice:?}"), "1423 1423");
        assert_eq!(Mti::new(*b"01x0"), None);
    }

    #[test]
    fn the_answer_is_never_a_repeat() {
        for (asked, answer) in [
            ("0100", "0110"),
            ("0101", "0110"),
            ("0121", "0130"),
            ("0203", "0212"),
            ("0405", "0414"),
            ("0800", "0810"),
            ("0187", "0197"),
            ("0110", "0110"),
        ] {
            assert_eq!(mti(asked).response(), mti(answer), "{asked}");
        }
        assert_eq!(mti("0101").original(), Mti::AUTHORIZATION_REQUEST);
        assert_eq!(mti("0109").original(), mti("0109"));
        assert!(mti("0101").is_repeat() && !mti("0102").is_repeat());
        assert!(mti("0100").is_request() && !mti("0110").is_request());
    }

    #[test]
    fn constants_are_patterns() {
        assert!(matches!(mti("0800"), Mti::NETWORK_MANAGEMENT_REQUEST));
    }

    #[test]
    fn unreadable_heads_say_where() {
        let error = |frame| MtiEncoding::Ascii.read(frame).unwrap_err();
        assert_eq!(error(b"010").kind, FramingErrorKind::MtiTruncated);
        assert_eq!(error(b"01x0").to_string(), "MTI is not four digits at byte 2");
        let error = |name, frame| MtiEncoding::from_name(name).unwrap().read(frame).unwrap_err();
        assert_eq!(error("ebcdic", &[0xf0, 0xf1, 0xf0, 0x30]).offset, 3);
        assert_eq!(error("ebcdic", &[0xf0, 0xf1, 0xf0]).kind, FramingErrorKind::MtiTruncated);
        assert_eq!(error("bcd", &[0x01, 0x0a]).offset, 1);
        assert_eq!(error("bcd", &[0xa1, 0x00]).offset, 0);
        assert_eq!(error("bcd", &[0x01]).kind, FramingErrorKind::MtiTruncated);
    }

    #[test]
    fn heads_on_the_wire() {
        for (name, wire) in
            [("ascii", &b"0421"[..]), ("ebcdic", &[0xf0, 0xf4, 0xf2, 0xf1]), ("bcd", &[0x04, 0x21])]
        {
            let encoding = MtiEncoding::from_name(name).unwrap();
            let mut out = Vec::new();
            encoding.write(mti("0421"), &mut out);
            assert_eq!(out, wire, "{name}");
            assert_eq!(encoding.read(&[wire, b"more"].concat()), Ok((mti("0421"), wire.len())));
        }
    }
}
