//! The primary account number (ISO/IEC 7812): the one value that identifies a cardholder.

use std::fmt;

use iso_specs::redact::visible_ends;
use zeroize::ZeroizeOnDrop;

/// Longest PAN of ISO/IEC 7812, in digits.
pub const PAN_DIGITS_MAX: usize = 19;

/// Shortest PAN of a card that can be created: the PIN block takes twelve digits and the check
/// digit (ISO 9564-1).
pub const PAN_DIGITS_MIN: usize = 13;

/// A PAN in clear, as ASCII digits. It never reaches a log: `Debug` and `Display` mask it.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct Pan {
    digits: [u8; PAN_DIGITS_MAX],
    len: u8,
}

impl Pan {
    /// Takes 1 to 19 ASCII digits; anything else is `None`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Pan> {
        let valid = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let mut digits = [0; PAN_DIGITS_MAX];
        digits.get_mut(..text.len()).filter(|_| valid)?.copy_from_slice(text);
        Some(Pan { digits, len: u8::try_from(text.len()).ok()? })
    }

    /// The ASCII digits.
    #[must_use]
    pub fn digits(&self) -> &[u8] {
        self.digits.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The twelve rightmost digits without the check digit, which PIN block formats 0 and 3
    /// take (ISO 9564-1, 8.3.1.2); `None` for a PAN shorter than 13 digits.
    #[must_use]
    pub fn account_digits(&self) -> Option<&[u8]> {
        self.digits().split_last().and_then(|(_, front)| front.last_chunk::<12>()).map(|d| &d[..])
    }

    /// Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B).
    #[must_use]
    pub fn has_valid_check_digit(&self) -> bool {
        let front = self.digits().split_last();
        front.is_some_and(|(last, front)| u32::from(last - b'0') == check_digit(front))
    }

    /// Whether a card can have it: 13 digits or more, with a right check digit.
    #[must_use]
    pub fn can_be_issued(&self) -> bool {
        self.digits().len() >= PAN_DIGITS_MIN && self.has_valid_check_digit()
    }

    /// What may be shown of it.
    #[must_use]
    pub fn masked(&self) -> MaskedPan {
        MaskedPan::of(self)
    }
}

/// The check digit that follows these ASCII digits (ISO/IEC 7812-1, annex B).
#[must_use]
pub fn check_digit(digits: &[u8]) -> u32 {
    let sum: u32 = digits.iter().rev().enumerate().fold(0, |sum, (place, digit)| {
        let value = u32::from(digit.wrapping_sub(b'0')) * if place % 2 == 0 { 2 } else { 1 };
        sum + value / 10 + value % 10
    });
    (10 - sum % 10) % 10
}

impl fmt::Debug for Pan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pan({})", self.masked())
    }
}

/// First six and last four digits: the most that PCI DSS lets us show. A PAN shorter than
/// 13 digits shows nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MaskedPan {
    first: [u8; 6],
    last: [u8; 4],
}

impl MaskedPan {
    /// Where no PAN is known, and of one that is too short to show a part of it.
    pub const NONE: MaskedPan = MaskedPan { first: [b'_'; 6], last: [b'_'; 4] };

    /// Bytes of [`MaskedPan::to_bytes`].
    pub const BYTES: usize = 10;

    fn of(pan: &Pan) -> MaskedPan {
        let (first, last) = visible_ends(pan.digits()).unwrap_or((*b"______", *b"____"));
        MaskedPan { first, last }
    }

    /// The ten visible characters, first six then last four.
    #[must_use]
    pub fn to_bytes(self) -> [u8; MaskedPan::BYTES] {
        let [a, b, c, d, e, f] = self.first;
        let [w, x, y, z] = self.last;
        [a, b, c, d, e, f, w, x, y, z]
    }

    /// The reverse of [`MaskedPan::to_bytes`].
    #[must_use]
    pub fn from_bytes([a, b, c, d, e, f, w, x, y, z]: [u8; MaskedPan::BYTES]) -> MaskedPan {
        MaskedPan { first: [a, b, c, d, e, f], last: [w, x, y, z] }
    }

    /// The last four digits.
    #[must_use]
    pub fn last_four(&self) -> &str {
        std::str::from_utf8(&self.last).unwrap_or("____")
    }
}

impl fmt::Display for MaskedPan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = std::str::from_utf8(&self.first).unwrap_or("______");
        write!(f, "{first}______{}", self.last_four())
    }
}

impl fmt::Debug for MaskedPan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_digits_leave_out_the_check_digit() {
        let pan = Pan::parse(b"4761340000000019").unwrap();
        assert_eq!(pan.account_digits().unwrap(), b"134000000001");
        assert!(Pan::parse(b"476134000001").unwrap().account_digits().is_none());
    }

    #[test]
    fn check_digit_of_luhn() {
        assert!(Pan::parse(b"4761340000000019").unwrap().has_valid_check_digit());
        assert!(!Pan::parse(b"4761340000000018").unwrap().has_valid_check_digit());
        assert_eq!(check_digit(b"476134000000001"), 9);
    }

    #[test]
    fn only_digits_and_at_most_nineteen() {
        assert!(Pan::parse(b"").is_none());
        assert!(Pan::parse(b"47613400000000x9").is_none());
        assert!(Pan::parse(&[b'1'; 20]).is_none());
        assert!(Pan::parse(&[b'1'; 19]).is_some());
    }

    #[test]
    fn shown_masked_only() {
        let pan = Pan::parse(b"4761340000000019").unwrap();
        assert_eq!(format!("{pan:?}"), "Pan(476134______0019)");
        assert_eq!(Pan::parse(b"476134000001").unwrap().masked().to_string(), "________________");
    }
}
