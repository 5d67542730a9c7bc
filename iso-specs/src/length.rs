//! Where the content of a data element ends: fixed lengths and length prefixes.

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
        /// How many digits it has, 1 to 4: `L` to `LLLL`.
        digits: u8,
    },
}

impl Length {
    pub(crate) const NAMES: &str = "\"fixed\", \"L\", \"LL\", \"LLL\" or \"LLLL\"";

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
            Self::Prefix { digits, .. } => Some(10_usize.saturating_pow(digits.into()) - 1),
        }
    }

    /// Bytes that the prefix takes on the wire.
    pub(crate) fn prefix_len(self) -> usize {
        match self {
            Self::Fixed => 0,
            Self::Prefix { encoding, digits } => encoding.wire_len(digits),
        }
    }

    /// The number in the prefix at the head of `rest`; `None` for a fixed length.
    pub(crate) fn read(self, rest: &[u8]) -> Result<Option<usize>, FieldErrorKind> {
        match self {
            Self::Fixed => Ok(None),
            Self::Prefix { encoding, digits } => {
                let wire = rest.get(..encoding.wire_len(digits));
                let wire = wire.ok_or(FieldErrorKind::Truncated)?;
                encoding.read(wire).map(Some).ok_or(FieldErrorKind::BadLengthPrefix)
            }
        }
    }

    /// Writes the prefix, if there is one; `count` is at most [`Length::max_count`].
    pub(crate) fn write(self, count: usize, out: &mut Vec<u8>) {
        match self {
            Self::Fixed => {}
            Self::Prefix { encoding, digits } => encoding.write(count, digits, out),
        }
    }
}

/// How the number in a length prefix is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrefixEncoding {
    /// ASCII digits.
    Ascii,
}

impl PrefixEncoding {
    pub(crate) const NAMES: &str = "\"ascii\"";

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "ascii" => Some(Self::Ascii),
            _ => None,
        }
    }

    fn wire_len(self, digits: u8) -> usize {
        match self {
            Self::Ascii => digits.into(),
        }
    }

    fn read(self, wire: &[u8]) -> Option<usize> {
        match self {
            Self::Ascii => wire.iter().try_fold(0_usize, |count, &digit| {
                digit.is_ascii_digit().then(|| count * 10 + usize::from(digit - b'0'))
            }),
        }
    }

    fn write(self, count: usize, digits: u8, out: &mut Vec<u8>) {
        match self {
            Self::Ascii => {
                let mut rest = count;
                let mut text = [0; DIGITS_MAX];
                for digit in text.iter_mut().rev() {
                    *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
                    rest /= 10;
                }
                let unused = DIGITS_MAX.saturating_sub(digits.into());
                text.iter().skip(unused).for_each(|&digit| out.push(digit));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(name: &str) -> Length {
        Length::from_name(name, PrefixEncoding::Ascii).unwrap()
    }

    #[test]
    fn prefixes_of_one_to_four_digits() {
        for (name, max) in [("L", 9), ("LL", 99), ("LLL", 999), ("LLLL", 9999)] {
            let length = length(name);
            assert_eq!(length.max_count(), Some(max));
            for count in [0, 1, 7, max] {
                let mut out = Vec::new();
                length.write(count, &mut out);
                assert_eq!(out.len(), length.prefix_len());
                assert_eq!(length.read(&out), Ok(Some(count)));
            }
        }
        assert_eq!(length("fixed").read(b""), Ok(None));
        assert_eq!(Length::from_name("LLLLL", PrefixEncoding::Ascii), None);
    }

    #[test]
    fn bad_prefixes() {
        assert_eq!(length("LLL").read(b"1 2"), Err(FieldErrorKind::BadLengthPrefix));
        assert_eq!(length("LL").read(b"+1"), Err(FieldErrorKind::BadLengthPrefix));
        assert_eq!(length("LL").read(b"1"), Err(FieldErrorKind::Truncated));
    }
}
