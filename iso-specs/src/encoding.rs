//! How the content of a data element is written on the wire.
//!
//! Only this file and those below it know encodings of content. The *canonical* form, which
//! callers read and set, is the same for all: ASCII characters for text, plain bytes for type `b`,
//! and for free text the bytes as they come, or ISO 8859-1 where they are EBCDIC.

mod ebcdic;
mod packed;

use std::fmt;

use crate::data_element::ContentType;
use crate::error::FieldErrorKind;
use crate::padding::Padded;

pub use ebcdic::CodePage;
pub(crate) use ebcdic::digit as ebcdic_digit;
pub use packed::UnusedNibble;
use packed::{Nibbles, PackedFault};

/// Encoding of an element's content.
// With a tag of its own: it is asked for every element of every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// ASCII characters, for every type but `b`.
    Ascii,
    /// The bytes as they are, for type `b`.
    Raw,
    /// EBCDIC characters, for every type but `b`. The canonical form of free text is ISO 8859-1, of
    /// which ASCII is a part.
    Ebcdic(CodePage),
    /// Two digits per byte, for types `n` and `z`. In track data the nibble D is the canonical `=`,
    /// A, B, C and E are `:`, `;`, `<` and `>`, and F is none: it only fills up.
    Bcd(UnusedNibble),
    /// The sign as one character, then two digits per byte, for type `x+n`.
    SignedBcd(Sign, UnusedNibble),
    /// Two ASCII hexadecimal digits per byte, for type `b`; read in either case, written in upper
    /// case.
    Hex,
}

/// How the sign before packed digits is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sign {
    /// An ASCII character.
    #[default]
    Ascii,
    /// An EBCDIC character, the same in every code page.
    Ebcdic,
}

impl Sign {
    pub(crate) const NAMES: &str = "\"ascii\" or \"ebcdic\"";

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "ascii" => Some(Self::Ascii),
            "ebcdic" => Some(Self::Ebcdic),
            _ => None,
        }
    }

    /// The canonical sign, `C` or `D`.
    const fn ascii(self, wire: u8) -> Option<u8> {
        match (self, wire) {
            (Self::Ascii, b'C' | b'D') => Some(wire),
            (Self::Ebcdic, 0xc3) => Some(b'C'),
            (Self::Ebcdic, 0xc4) => Some(b'D'),
            _ => None,
        }
    }

    const fn wire(self, sign: u8) -> u8 {
        match self {
            Self::Ascii => sign,
            // `C` and `D` are 0x43 and 0x44 in ASCII, 0xc3 and 0xc4 in EBCDIC.
            Self::Ebcdic => sign | 0x80,
        }
    }
}

impl Encoding {
    pub(crate) const NAMES: &str =
        "\"ascii\", \"ebcdic-037\", \"ebcdic-1047\", \"bcd\", \"hex\" or \"raw\"";

    /// `bcd` is taken for one without a sign and with the usual unused nibble.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "ascii" => Some(Self::Ascii),
            "ebcdic-037" => Some(Self::Ebcdic(CodePage::Ibm037)),
            "ebcdic-1047" => Some(Self::Ebcdic(CodePage::Ibm1047)),
            "bcd" => Some(Self::Bcd(UnusedNibble::default())),
            "hex" => Some(Self::Hex),
            "raw" => Some(Self::Raw),
            _ => None,
        }
    }

    /// True where the encoding carries bytes, false where it carries characters.
    #[must_use]
    pub const fn is_binary(self) -> bool {
        matches!(self, Self::Hex | Self::Raw)
    }

    /// True for packed digits.
    #[must_use]
    pub const fn is_packed(self) -> bool {
        matches!(self, Self::Bcd(_) | Self::SignedBcd(..))
    }

    /// Bytes on the wire of `units` characters or bytes of content.
    #[inline]
    pub(crate) const fn wire_len(self, units: usize) -> usize {
        // First, and not by `match`: a table of jumps would cost every element more than this.
        if self.is_canonical() {
            return units;
        }
        match self {
            Self::Ascii | Self::Raw | Self::Ebcdic(_) => units,
            Self::Hex => units.saturating_mul(2),
            Self::Bcd(_) => units.div_ceil(2),
            // One byte for the sign, and half a byte for each other, rounded up.
            Self::SignedBcd(..) => match units {
                0 => 0,
                _ => 1 + units / 2,
            },
        }
    }

    /// Characters or bytes of content in these bytes on the wire, where nothing counts them.
    pub(crate) fn content_len(self, wire: &[u8]) -> usize {
        match self {
            Self::Ascii | Self::Ebcdic(_) | Self::Raw => wire.len(),
            Self::Hex => wire.len() / 2,
            Self::Bcd(unused) => unused.digits_in(wire),
            Self::SignedBcd(_, unused) => {
                wire.split_first().map_or(0, |(_, packed)| 1 + unused.digits_in(packed))
            }
        }
    }

    /// Checks content on the wire against its type; spaces that fill up are cut off already. It
    /// holds `units` characters or bytes.
    #[inline(never)]
    pub(crate) fn check(
        self,
        content: ContentType,
        wire: &[u8],
        units: usize,
    ) -> Result<(), FieldErrorKind> {
        match self {
            Self::Ascii if content.accepts(wire) => Ok(()),
            Self::Ascii => Err(FieldErrorKind::BadCharacter),
            Self::Raw => Ok(()),
            other => other.check_converted(content, wire, units),
        }
    }

    /// The same for what must be converted. Apart, so that the others stay short.
    #[inline(never)]
    fn check_converted(
        self,
        content: ContentType,
        wire: &[u8],
        units: usize,
    ) -> Result<(), FieldErrorKind> {
        match self {
            Self::Ascii | Self::Raw => Ok(()),
            Self::Hex if !wire.len().is_multiple_of(2) => Err(FieldErrorKind::PartialByte),
            Self::Hex if !wire.iter().all(u8::is_ascii_hexdigit) => {
                Err(FieldErrorKind::BadCharacter)
            }
            Self::Hex => Ok(()),
            Self::Ebcdic(page) if !content.accepts_as(wire, |code| page.character(code)) => {
                Err(FieldErrorKind::BadCharacter)
            }
            Self::Ebcdic(_) => Ok(()),
            Self::Bcd(unused) => {
                let nibbles = match content {
                    ContentType::Track => Nibbles::Track,
                    _ => Nibbles::Digits,
                };
                packed::check(wire, units, unused, nibbles).map_err(FieldErrorKind::from)
            }
            Self::SignedBcd(sign, unused) => {
                let Some((first, packed)) = wire.split_first() else { return Ok(()) };
                sign.ascii(*first).ok_or(FieldErrorKind::BadCharacter)?;
                let digits = units.saturating_sub(1);
                packed::check(packed, digits, unused, Nibbles::Digits).map_err(FieldErrorKind::from)
            }
        }
    }

    /// True where the wire form of every value is its canonical form.
    pub(crate) const fn is_canonical(self) -> bool {
        matches!(self, Self::Ascii | Self::Raw)
    }

    /// The canonical form of checked content: the wire bytes themselves where they are canonical,
    /// else `units` characters or bytes written to `out`. `None` where `out` is too small.
    #[inline]
    pub(crate) fn canonical<'b>(
        self,
        wire: &'b [u8],
        units: usize,
        out: &'b mut [u8],
    ) -> Option<&'b [u8]> {
        match self {
            Self::Ascii | Self::Raw => Some(wire),
            other => other.convert(wire, units, out),
        }
    }

    #[inline(never)]
    fn convert<'b>(self, wire: &[u8], units: usize, out: &'b mut [u8]) -> Option<&'b [u8]> {
        let out = out.get_mut(..units)?;
        match self {
            Self::Ascii | Self::Raw => {}
            Self::Hex => {
                let (pairs, _) = wire.as_chunks();
                for (byte, &[high, low]) in out.iter_mut().zip(pairs) {
                    *byte = hex_digit(high)? << 4 | hex_digit(low)?;
                }
            }
            Self::Ebcdic(page) => {
                out.iter_mut().zip(wire).for_each(|(ascii, &code)| *ascii = page.character(code));
            }
            Self::Bcd(unused) => packed::unpack(wire, unused, out)?,
            Self::SignedBcd(sign, unused) => {
                if let Some((first, digits)) = out.split_first_mut() {
                    let (wire, packed) = wire.split_first()?;
                    *first = sign.ascii(*wire)?;
                    packed::unpack(packed, unused, digits)?;
                }
            }
        }
        Some(out)
    }

    /// True where a canonical value of the right type can be written.
    #[inline]
    pub(crate) fn can_write(self, value: &[u8]) -> bool {
        // `?` is the nibble F, which only fills up. No other type that is packed has it.
        self.is_canonical() || !matches!(self, Self::Bcd(_)) || !value.contains(&b'?')
    }

    /// The byte that a printable ASCII character is on the wire, in an encoding of characters.
    pub(crate) fn character(self, ascii: u8) -> u8 {
        match self {
            Self::Ebcdic(page) => page.code(ascii),
            _ => ascii,
        }
    }

    /// Writes a canonical value with its padding.
    #[inline]
    pub(crate) fn write(self, value: Padded<'_>, out: &mut Vec<u8>) {
        if self.is_canonical() {
            value.write(out);
        } else {
            self.write_converted(value, out);
        }
    }

    #[inline(never)]
    fn write_converted(self, value: Padded<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Ascii | Self::Raw => {}
            Self::Hex => push_hex(value.content(), out),
            Self::Ebcdic(page) => {
                let start = out.len();
                value.write(out);
                let written = out.get_mut(start..).unwrap_or_default();
                written.iter_mut().for_each(|byte| *byte = page.code(*byte));
            }
            Self::Bcd(unused) => packed::push(value, unused, out),
            Self::SignedBcd(sign, unused) => {
                if let Some((first, digits)) = value.content().split_first() {
                    out.push(sign.wire(*first));
                    packed::push(Padded::whole(digits), unused, out);
                }
            }
        }
    }
}

/// The file's own names: `bcd left-zero`, and for a signed number `bcd left-zero, sign ascii`.
impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ascii => f.write_str("ascii"),
            Self::Raw => f.write_str("raw"),
            Self::Ebcdic(CodePage::Ibm037) => f.write_str("ebcdic-037"),
            Self::Ebcdic(CodePage::Ibm1047) => f.write_str("ebcdic-1047"),
            Self::Bcd(unused) => write!(f, "bcd {}", unused.name()),
            Self::SignedBcd(Sign::Ascii, unused) => write!(f, "bcd {}, sign ascii", unused.name()),
            Self::SignedBcd(Sign::Ebcdic, unused) => {
                write!(f, "bcd {}, sign ebcdic", unused.name())
            }
            Self::Hex => f.write_str("hex"),
        }
    }
}

impl From<PackedFault> for FieldErrorKind {
    fn from(fault: PackedFault) -> Self {
        match fault {
            PackedFault::BadDigit => Self::BadCharacter,
            PackedFault::UnusedNibble => Self::UnusedNibble,
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
        assert_eq!(Encoding::Hex.canonical(b"aBf0", 2, &mut out), Some(&[0xab, 0xf0][..]));
        assert_eq!(Encoding::Hex.canonical(b"aBf0", 2, &mut [0]), None);
        let mut wire = Vec::new();
        Encoding::Hex.write(Padded::whole(&[0xab, 0xf0]), &mut wire);
        assert_eq!(wire, b"ABF0");
    }

    #[test]
    fn encodings_have_the_names_of_the_file() {
        for name in ["ascii", "ebcdic-037", "ebcdic-1047", "hex", "raw"] {
            assert_eq!(Encoding::from_name(name).unwrap().to_string(), name);
        }
        for name in ["left-zero", "left-f", "right-zero", "right-f"] {
            let unused = UnusedNibble::from_name(name).unwrap();
            assert_eq!(Encoding::Bcd(unused).to_string(), format!("bcd {name}"));
            for sign in ["ascii", "ebcdic"] {
                let signed = Encoding::SignedBcd(Sign::from_name(sign).unwrap(), unused);
                assert_eq!(signed.to_string(), format!("bcd {name}, sign {sign}"));
            }
        }
    }

    #[test]
    fn hex_is_checked() {
        let check = |wire| Encoding::Hex.check(ContentType::Binary, wire, wire.len() / 2);
        assert_eq!(check(b"00fF"), Ok(()));
        assert_eq!(check(b"00f"), Err(FieldErrorKind::PartialByte));
        assert_eq!(check(b"00fg"), Err(FieldErrorKind::BadCharacter));
    }

    #[test]
    fn raw_and_ascii_are_borrowed_from_the_frame() {
        assert_eq!(Encoding::Raw.canonical(&[0, 255], 2, &mut []), Some(&[0, 255][..]));
        assert_eq!(Encoding::Ascii.canonical(b"ab", 2, &mut []), Some(&b"ab"[..]));
    }
}
