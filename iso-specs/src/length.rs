//! Where the content of a data element ends: fixed lengths and length prefixes.

use crate::encoding::ebcdic_digit;
use crate::error::FieldErrorKind;

/// Digits of the longest prefix, `LLLL`.
const DIGITS_MAX: usize = 4;

/// How the length of an element is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Always the element's maximum.
    Fixed,
    /// A number before the content.
    Prefix {
        /// How the number is written.
        encoding: PrefixEncoding,
        /// How many digits it has, 1 to 4: `L` to `LLLL`; for a binary one how many bytes, 1 or 2.
        digits: u8,
    },
}

impl Length {
    pub(crate) const NAMES: &str = "\"fixed\", \"L\", \"LL\", \"LLL\" or \"LLLL\": \
        length prefixes of more than four digits are not served";

    /// From the name of a length and the encoding that its prefix would have.
    pub(crate) fn from_name(name: &str, encoding: PrefixEncoding) -> Option<Self> {
        let digits = match name {
            "fixed" => return Some(Self::Fixed),
            "L" => 1,
            "LL" => 2,
            "LLL" => 3,
            "LLLL" => 4,
            _ => return None,
        };
        Some(Self::Prefix { encoding, digits })
    }

    /// The largest number that the prefix can hold; none for a fixed length.
    pub(crate) fn max_count(self) -> Option<usize> {
        match self {
            Self::Fixed => None,
            Self::Prefix { encoding, digits } => {
                let base: usize = if encoding == PrefixEncoding::Binary { 256 } else { 10 };
                Some(base.saturating_pow(digits.into()) - 1)
            }
        }
    }

    /// Bytes and number of the prefix at the head of `rest`; `None` for a fixed length.
    #[inline]
    pub(crate) fn read(self, rest: &[u8]) -> Result<Option<(usize, usize)>, FieldErrorKind> {
        match self {
            Self::Fixed => Ok(None),
            Self::Prefix { encoding, digits } => encoding.read(rest, digits).map(Some),
        }
    }
}

/// What the number in a length prefix counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PrefixCounts {
    /// Characters, digits or bytes of the value.
    Value,
    /// Bytes on the wire behind the prefix.
    Wire,
}

/// How the number in a length prefix is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrefixEncoding {
    /// ASCII digits.
    Ascii,
    /// EBCDIC digits.
    Ebcdic,
    /// Packed digits, two a byte; `L` and `LLL` behind a zero.
    Bcd,
    /// A number, most significant byte first: `L` is one byte, `LL` two.
    Binary,
}

impl PrefixEncoding {
    pub(crate) const NAMES: &str = "\"ascii\", \"ebcdic\", \"bcd\" or \"binary\"";

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "ascii" => Some(Self::Ascii),
            "ebcdic" => Some(Self::Ebcdic),
            "bcd" => Some(Self::Bcd),
            "binary" => Some(Self::Binary),
            _ => None,
        }
    }

    fn wire_len(self, digits: u8) -> usize {
        match self {
            Self::Ascii | Self::Ebcdic | Self::Binary => digits.into(),
            Self::Bcd => digits.div_ceil(2).into(),
        }
    }

    #[inline]
    fn read(self, rest: &[u8], digits: u8) -> Result<(usize, usize), FieldErrorKind> {
        // Not by `match`: a table of jumps costs more than reading the digits.
        if self != Self::Ascii {
            return self.read_other(rest, digits);
        }
        let wire = rest.get(..digits.into()).ok_or(FieldErrorKind::Truncated)?;
        let count = wire.iter().try_fold(0_usize, |count, &digit| {
            digit.is_ascii_digit().then(|| count * 10 + usize::from(digit - b'0'))
        });
        Ok((wire.len(), count.ok_or(FieldErrorKind::BadLengthPrefix)?))
    }

    #[inline(never)]
    fn read_other(self, rest: &[u8], digits: u8) -> Result<(usize, usize), FieldErrorKind> {
        let wire = rest.get(..self.wire_len(digits)).ok_or(FieldErrorKind::Truncated)?;
        let count = self.count(wire, digits).ok_or(FieldErrorKind::BadLengthPrefix)?;
        Ok((wire.len(), count))
    }

    fn count(self, wire: &[u8], digits: u8) -> Option<usize> {
        match self {
            Self::Ascii => None,
            Self::Ebcdic => wire.iter().try_fold(0_usize, |count, &digit| {
                ebcdic_digit(digit).map(|digit| count * 10 + usize::from(digit))
            }),
            Self::Bcd => {
                let count = wire.iter().try_fold(0_usize, |count, &pair| {
                    let (high, low) = (pair >> 4, pair & 0x0f);
                    (high <= 9 && low <= 9).then(|| count * 100 + usize::from(high * 10 + low))
                });
                count.filter(|&count| count < 10_usize.saturating_pow(digits.into()))
            }
            Self::Binary => {
                Some(wire.iter().fold(0, |count, &byte| count << 8 | usize::from(byte)))
            }
        }
    }

    /// Writes a number that is at most [`Length::max_count`].
    #[inline]
    pub(crate) fn write(self, count: usize, digits: u8, out: &mut Vec<u8>) {
        if self != Self::Ascii {
            return self.write_other(count, digits, out);
        }
        let unused = DIGITS_MAX.saturating_sub(digits.into());
        let all = digits_of::<10>(count);
        all.iter().skip(unused).for_each(|&digit| out.push(b'0' | digit));
    }

    #[inline(never)]
    fn write_other(self, count: usize, digits: u8, out: &mut Vec<u8>) {
        let unused = DIGITS_MAX.saturating_sub(self.wire_len(digits));
        let all = match self {
            Self::Ascii => digits_of::<10>(count).map(|digit| b'0' | digit),
            Self::Ebcdic => digits_of::<10>(count).map(|digit| 0xf0 | digit),
            Self::Bcd => digits_of::<100>(count).map(|pair| ((pair / 10) << 4) | (pair % 10)),
            Self::Binary => digits_of::<256>(count),
        };
        all.iter().skip(unused).for_each(|&byte| out.push(byte));
    }
}

/// The last digits of a number to a base of up to 256.
fn digits_of<const BASE: usize>(mut number: usize) -> [u8; DIGITS_MAX] {
    let mut digits = [0; DIGITS_MAX];
    for digit in digits.iter_mut().rev() {
        *digit = u8::try_from(number % BASE).unwrap_or_default();
        number /= BASE;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(name: &str, encoding: &str) -> Length {
        Length::from_name(name, PrefixEncoding::from_name(encoding).unwrap()).unwrap()
    }

    fn write(length: Length, count: usize, out: &mut Vec<u8>) {
        if let Length::Prefix { encoding, digits } = length {
            encoding.write(count, digits, out);
        }
    }

    #[test]
    fn prefixes_of_one_to_four_digits() {
        for encoding in ["ascii", "ebcdic", "bcd"] {
            for (name, max) in [("L", 9), ("LL", 99), ("LLL", 999), ("LLLL", 9999)] {
                assert_eq!(length(name, encoding).max_count(), Some(max));
                round_trip(length(name, encoding), [0, 1, 7, max]);
            }
        }
        round_trip(length("L", "binary"), [0, 1, 128, 255]);
        round_trip(length("LL", "binary"), [0, 255, 256, 65_535]);
        assert_eq!(length("fixed", "ascii").read(b""), Ok(None));
        assert_eq!(Length::from_name("LLLLL", PrefixEncoding::Ascii), None);
    }

    fn round_trip(length: Length, counts: [usize; 4]) {
        for count in counts {
            let mut out = Vec::new();
            write(length, count, &mut out);
            let read = Ok(Some((out.len(), count)));
            out.push(b'0');
            assert_eq!(length.read(&out), read, "{length:?}");
        }
    }

    #[test]
    fn prefixes_on_the_wire() {
        for (name, encoding, count, wire) in [
            ("LLL", "ascii", 37, &b"037"[..]),
            ("LLL", "ebcdic", 37, &[0xf0, 0xf3, 0xf7]),
            ("L", "bcd", 7, &[0x07]),
            ("LL", "bcd", 37, &[0x37]),
            ("LLL", "bcd", 137, &[0x01, 0x37]),
            ("LLLL", "bcd", 9137, &[0x91, 0x37]),
            ("L", "binary", 200, &[200]),
            ("LL", "binary", 258, &[1, 2]),
        ] {
            let mut out = Vec::new();
            write(length(name, encoding), count, &mut out);
            assert_eq!(out, wire, "{name} {encoding}");
        }
    }

    #[test]
    fn bad_prefixes() {
        for (name, encoding, wire, kind) in [
            ("LLL", "ascii", &b"1 2"[..], FieldErrorKind::BadLengthPrefix),
            ("LL", "ascii", b"+1", FieldErrorKind::BadLengthPrefix),
            ("LL", "ascii", b"1", FieldErrorKind::Truncated),
            ("LL", "ebcdic", b"12", FieldErrorKind::BadLengthPrefix),
            ("LL", "ebcdic", &[0xf1, 0xfa], FieldErrorKind::BadLengthPrefix),
            ("LL", "bcd", &[0x1a], FieldErrorKind::BadLengthPrefix),
            ("LL", "bcd", &[0xa1], FieldErrorKind::BadLengthPrefix),
            // The half that the prefix does not use.
            ("L", "bcd", &[0x11], FieldErrorKind::BadLengthPrefix),
            ("LLL", "bcd", &[0x10, 0x00], FieldErrorKind::BadLengthPrefix),
            ("LLL", "bcd", &[0x01], FieldErrorKind::Truncated),
            ("LL", "binary", &[1], FieldErrorKind::Truncated),
        ] {
            assert_eq!(length(name, encoding).read(wire), Err(kind), "{name} {encoding} {wire:?}");
        }
    }
}
