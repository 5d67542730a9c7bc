//! How the content of a data element is written on the wire.
//!
//! This is the only file that knows encodings of content. The *canonical* form, which callers
//! read and set, is the same for all: ASCII characters for text, plain bytes for type `b`.

use crate::data_element::ContentType;
use crate::error::FieldErrorKind;
use crate::padding::Padded;

/// Encoding of an element's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// ASCII characters, for every type but `b`.
    Ascii,
    /// Two ASCII hexadecimal digits per byte, for type `b`; read in either case, written in upper
    /// case. A length prefix counts the digits, not the bytes.
    Hex,
    /// The bytes as they are, for type `b`.
    Raw,
}

impl Encoding {
    pub(crate) const NAMES: &str = "\"ascii\", \"hex\" or \"raw\"";

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "ascii" => Some(Self::Ascii),
            "hex" => Some(Self::Hex),
            "raw" => Some(Self::Raw),
            _ => None,
        }
    }

    /// True where the encoding carries bytes, false where it carries characters.
    #[must_use]
    pub const fn is_binary(self) -> bool {
        match self {
            Self::Ascii => false,
            Self::Hex | Self::Raw => true,
        }
    }

    /// Bytes on the wire of `units` characters or bytes of content.
    pub(crate) const fn wire_len(self, units: usize) -> usize {
        match self {
            Self::Ascii | Self::Raw => units,
            Self::Hex => units.saturating_mul(2),
        }
    }

    /// What a length prefix holds for content of `wire_len` bytes on the wire.
    pub(crate) const fn prefix_count(self, wire_len: usize) -> usize {
        match self {
            Self::Ascii | Self::Hex | Self::Raw => wire_len,
        }
    }

    /// Bytes on the wire that a length prefix of `count` announces.
    pub(crate) const fn announced_len(self, count: usize) -> usize {
        match self {
            Self::Ascii | Self::Hex | Self::Raw => count,
        }
    }

    /// Characters or bytes of content in `wire_len` bytes on the wire.
    pub(crate) const fn content_len(self, wire_len: usize) -> usize {
        match self {
            Self::Ascii | Self::Raw => wire_len,
            Self::Hex => wire_len / 2,
        }
    }

    /// Checks content on the wire against its type; padding is cut off already.
    pub(crate) fn check(self, content: ContentType, wire: &[u8]) -> Result<(), FieldErrorKind> {
        match self {
            Self::Ascii if !content.accepts(wire) => Err(FieldErrorKind::BadCharacter),
            Self::Hex if !wire.len().is_multiple_of(2) => Err(FieldErrorKind::PartialByte),
            Self::Hex if !wire.iter().all(u8::is_ascii_hexdigit) => {
                Err(FieldErrorKind::BadCharacter)
            }
            Self::Ascii | Self::Hex | Self::Raw => Ok(()),
        }
    }

    /// True where the wire form of every value is its canonical form.
    pub(crate) const fn is_canonical(self) -> bool {
        match self {
            Self::Ascii | Self::Raw => true,
            Self::Hex => false,
        }
    }

    /// The canonical form of checked content: the wire bytes themselves where they are canonical,
    /// else written to `out`. `None` where `out` is too small.
    pub(crate) fn canonical<'b>(self, wire: &'b [u8], out: &'b mut [u8]) -> Option<&'b [u8]> {
        match self {
            Self::Ascii | Self::Raw => Some(wire),
            Self::Hex => {
                let out = out.get_mut(..wire.len() / 2)?;
                let (pairs, _) = wire.as_chunks();
                for (byte, &[high, low]) in out.iter_mut().zip(pairs) {
                    *byte = hex_digit(high)? << 4 | hex_digit(low)?;
                }
                Some(out)
            }
        }
    }

    /// Writes a canonical value with its padding.
    pub(crate) fn write(self, value: Padded<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Ascii | Self::Raw => value.write(out),
            Self::Hex => push_hex(value.content(), out),
        }
    }
}

/// The value of an ASCII hexadecimal digit in either case.
pub(crate) const fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Appends bytes as two upper-case hexadecimal digits each.
pub(crate) fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    // Some bytes at a time: growing the buffer costs more than the digits.
    const AT_ONCE: usize = 16;
    for bytes in bytes.chunks(AT_ONCE) {
        let mut digits = [[0; 2]; AT_ONCE];
        for (pair, byte) in digits.iter_mut().zip(bytes) {
            *pair = [hex_character(byte >> 4), hex_character(byte & 0x0f)];
        }
        out.extend_from_slice(digits.get(..bytes.len()).unwrap_or_default().as_flattened());
    }
}

const fn hex_character(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_in_either_case_and_written_in_upper_case() {
        let mut out = [0; 2];
        assert_eq!(Encoding::Hex.canonical(b"aBf0", &mut out), Some(&[0xab, 0xf0][..]));
        assert_eq!(Encoding::Hex.canonical(b"aBf0", &mut [0]), None);
        let mut wire = Vec::new();
        Encoding::Hex.write(Padded::whole(&[0xab, 0xf0]), &mut wire);
        assert_eq!(wire, b"ABF0");
    }

    #[test]
    fn hex_is_checked() {
        let check = |wire| Encoding::Hex.check(ContentType::Binary, wire);
        assert_eq!(check(b"00fF"), Ok(()));
        assert_eq!(check(b"00f"), Err(FieldErrorKind::PartialByte));
        assert_eq!(check(b"00fg"), Err(FieldErrorKind::BadCharacter));
    }

    #[test]
    fn raw_and_ascii_are_borrowed_from_the_frame() {
        assert_eq!(Encoding::Raw.canonical(&[0, 255], &mut []), Some(&[0, 255][..]));
        assert_eq!(Encoding::Ascii.canonical(b"ab", &mut []), Some(&b"ab"[..]));
    }
}
