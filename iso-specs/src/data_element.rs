//! One data element of a dialect: its type, its three parts on the wire, and how it is shown.

use crate::encoding::Encoding;
use crate::error::{EncodeErrorKind, FieldErrorKind};
use crate::length::{Length, PrefixCounts, PrefixEncoding};
use crate::padding::{Padded, Padding};
use crate::pattern::Pattern;
use crate::text::{Alphabet, Text};
use crate::tlv;
use crate::wrapper::Wrapper;

/// What the characters of an element may be (ISO 8583:1987, 4.3.1). Checked on the canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentType {
    /// `n`: digits.
    Digits,
    /// `a`: letters.
    Letters,
    /// `an`: letters and digits.
    LettersDigits,
    /// `ans`: printable ASCII, 0x20 to 0x7e.
    Printable,
    /// `as`: printable ASCII but no digits.
    LettersSpecial,
    /// `ns`: printable ASCII but no letters.
    DigitsSpecial,
    /// `a or n`: all letters or all digits, such as a currency code.
    LettersOrDigits,
    /// `x+n`: `C` (credit) or `D` (debit), then digits. The sign counts as one character.
    SignedDigits,
    /// `z`: track 2 or 3, characters 0x30 to 0x3f; `D` too, which some write for the separator.
    Track,
    /// `b`: bytes.
    Binary,
}

impl ContentType {
    pub(crate) const NAMES: &str =
        "\"n\", \"a\", \"an\", \"ans\", \"as\", \"ns\", \"a or n\", \"x+n\", \"z\" or \"b\"";

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "n" => Some(Self::Digits),
            "a" => Some(Self::Letters),
            "an" => Some(Self::LettersDigits),
            "ans" => Some(Self::Printable),
            "as" => Some(Self::LettersSpecial),
            "ns" => Some(Self::DigitsSpecial),
            "a or n" => Some(Self::LettersOrDigits),
            "x+n" => Some(Self::SignedDigits),
            "z" => Some(Self::Track),
            "b" => Some(Self::Binary),
            _ => None,
        }
    }

    /// True for `b`, whose canonical form is bytes; the others have text.
    #[must_use]
    pub const fn is_binary(self) -> bool {
        matches!(self, Self::Binary)
    }

    /// True where every character of the canonical value is allowed.
    #[must_use]
    #[inline]
    pub fn accepts(self, value: &[u8]) -> bool {
        self.accepts_as(value, |ascii| ascii)
    }

    /// The same for a value of which `ascii` gives the characters, byte by byte.
    #[inline]
    pub(crate) fn accepts_as(self, value: &[u8], ascii: impl Fn(u8) -> u8 + Copy) -> bool {
        let all = |value, set| sets_of_all(value, ascii) & set != 0;
        match self {
            Self::LettersOrDigits => all(value, LETTERS | DIGITS),
            Self::SignedDigits => match value.split_first() {
                Some((sign, digits)) => matches!(ascii(*sign), b'C' | b'D') && all(digits, DIGITS),
                None => true,
            },
            Self::Binary => true,
            Self::Digits => all(value, DIGITS),
            Self::Letters => all(value, LETTERS),
            Self::LettersDigits => all(value, LETTERS_DIGITS),
            Self::Printable => all(value, PRINTABLE),
            Self::LettersSpecial => all(value, LETTERS_SPECIAL),
            Self::DigitsSpecial => all(value, DIGITS_SPECIAL),
            Self::Track => all(value, TRACK),
        }
    }

    /// True for the types of text that have special characters: what such an element holds is free
    /// text unless its dialect says otherwise.
    pub(crate) const fn is_free(self) -> bool {
        matches!(self, Self::Printable | Self::LettersSpecial | Self::DigitsSpecial)
    }

    /// True where the type may be filled up with the character.
    pub(crate) const fn takes_padding(self, with: u8) -> bool {
        match self {
            Self::Digits => with == b'0',
            Self::Printable | Self::LettersDigits | Self::DigitsSpecial => true,
            Self::Letters | Self::LettersSpecial | Self::LettersOrDigits => with == b' ',
            Self::SignedDigits | Self::Track | Self::Binary => false,
        }
    }
}

/// Sets of characters, one bit each, so that a value is checked with one look-up per byte.
const DIGITS: u8 = 1;
const LETTERS: u8 = 1 << 1;
const LETTERS_DIGITS: u8 = 1 << 2;
const PRINTABLE: u8 = 1 << 3;
/// Printable, but no digits.
const LETTERS_SPECIAL: u8 = 1 << 4;
/// Printable, but no letters.
const DIGITS_SPECIAL: u8 = 1 << 5;
const TRACK: u8 = 1 << 6;

/// The sets that each byte belongs to.
static SETS: [u8; 256] = {
    let mut sets = [0; 256];
    let mut rest: &mut [u8] = &mut sets;
    let mut byte: u8 = 0;
    while let [first, others @ ..] = rest {
        *first = sets_of(byte);
        rest = others;
        byte = byte.wrapping_add(1);
    }
    sets
};

const fn sets_of(byte: u8) -> u8 {
    let kind = match byte {
        b'0'..=b'9' => DIGITS | LETTERS_DIGITS | DIGITS_SPECIAL | PRINTABLE,
        b'A'..=b'Z' | b'a'..=b'z' => LETTERS | LETTERS_DIGITS | LETTERS_SPECIAL | PRINTABLE,
        0x20..=0x7e => LETTERS_SPECIAL | DIGITS_SPECIAL | PRINTABLE,
        _ => 0,
    };
    let track = if matches!(byte, 0x30..=0x3f | b'D') { TRACK } else { 0 };
    kind | track
}

/// The sets that every byte of a value belongs to. Without an early exit: a value is nearly always
/// right.
fn sets_of_all(value: &[u8], ascii: impl Fn(u8) -> u8) -> u8 {
    value.iter().fold(u8::MAX, |sets, &byte| {
        sets & SETS.get(usize::from(ascii(byte))).copied().unwrap_or_default()
    })
}

/// How much of an element a person may see; see [`crate::redact`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sensitivity {
    /// `public`: all of it.
    Public,
    /// `pan`: the first six and the last four digits.
    Pan,
    /// `track`: only its length. Full track data.
    Track,
    /// `secret`: only its length. PIN blocks, keys, MACs, private data of unknown content.
    Secret,
    /// `chip`: BER-TLV of which tags that are known to be harmless are shown.
    Chip,
}

impl Sensitivity {
    pub(crate) const NAMES: &str = "\"public\", \"pan\", \"track\", \"secret\" or \"chip\"";

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "public" => Some(Self::Public),
            "pan" => Some(Self::Pan),
            "track" => Some(Self::Track),
            "secret" => Some(Self::Secret),
            "chip" => Some(Self::Chip),
            _ => None,
        }
    }
}

/// One data element as a dialect defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataElement {
    pub(crate) number: u8,
    pub(crate) name: Box<str>,
    pub(crate) content: ContentType,
    pub(crate) encoding: Encoding,
    pub(crate) length: Length,
    pub(crate) counts: PrefixCounts,
    pub(crate) wrapper: Option<Wrapper>,
    pub(crate) min: u16,
    pub(crate) max: u16,
    pub(crate) padding: Padding,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) text: Text,
    /// What free text is written in, where the dialect says it.
    pub(crate) alphabet: Option<Alphabet>,
    /// The content, as it is on the wire, that stands for no value.
    pub(crate) absent: Option<Box<[u8]>>,
    pub(crate) sensitivity: Sensitivity,
}

/// What makes an element that was found one that is not there.
#[derive(Clone, Copy)]
pub(crate) enum Flaw {
    /// It says so itself, and nothing is wrong.
    Absent,
    /// Its value is wrong.
    Wrong(FieldErrorKind),
}

impl From<FieldErrorKind> for Flaw {
    fn from(kind: FieldErrorKind) -> Self {
        Self::Wrong(kind)
    }
}

/// What of the chip data an element holds, in a network that sends them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChipTag {
    /// The value of the object with this tag.
    Value(u32),
    /// The templates of issuer scripts (71, 72) of an answer, whole, one behind the other.
    Scripts,
}

impl ChipTag {
    pub(crate) const NAMES: &str =
        "a primitive tag in hexadecimal, such as \"9F26\", or \"scripts\"";

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        if name == "scripts" {
            return Some(Self::Scripts);
        }
        let tag = u32::from_str_radix(name, 16).ok()?;
        // The tag is written as its bytes, and stands for an object that holds no others.
        let mut object = Vec::new();
        tlv::push(&mut object, tag, &[]).ok()?;
        let read = tlv::Reader::new(&object).next()?.ok()?;
        let is_plain =
            read.tag == tag && !read.is_constructed() && object.len() * 2 == name.len() + 2;
        is_plain.then_some(Self::Value(tag))
    }
}

/// Where the content of an element lies behind its first byte, and what is wrong with it.
pub(crate) struct Found {
    /// Bytes before the content: length prefix and wrapper.
    pub(crate) start: usize,
    /// Characters or bytes of content.
    pub(crate) units: usize,
    /// Bytes of the element in all.
    pub(crate) end: usize,
    pub(crate) flaw: Option<Flaw>,
}

impl DataElement {
    /// Number, 2 to 192.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// Name for people.
    #[must_use]
    pub const fn name(&self) -> &str {
        &self.name
    }

    /// Type of the content.
    #[must_use]
    pub const fn content_type(&self) -> ContentType {
        self.content
    }

    /// Encoding of the content.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// True where the element is ASCII text on the wire, with its length prefix.
    pub(crate) fn is_text(&self) -> bool {
        let ascii = PrefixEncoding::Ascii;
        let length = match self.length {
            Length::Fixed => true,
            Length::Prefix { encoding, .. } => encoding == ascii,
        };
        length && matches!(self.encoding, Encoding::Ascii | Encoding::Hex)
    }

    /// How the length is known.
    #[must_use]
    pub const fn length(&self) -> Length {
        self.length
    }

    /// Least length of a value that can be set, in characters, or bytes for type `b`.
    #[must_use]
    pub const fn min(&self) -> usize {
        self.min as usize
    }

    /// Greatest length of a value, in characters, or bytes for type `b`.
    #[must_use]
    pub const fn max(&self) -> usize {
        self.max as usize
    }

    /// What fills up a short value of fixed length.
    #[must_use]
    pub const fn padding(&self) -> Padding {
        self.padding
    }

    /// The date or time that the value must be.
    #[must_use]
    pub const fn pattern(&self) -> Option<&Pattern> {
        self.pattern.as_ref()
    }

    /// Which bytes its text may have.
    #[must_use]
    pub const fn text(&self) -> Text {
        self.text
    }

    /// How much of the value a person may see.
    #[must_use]
    pub const fn sensitivity(&self) -> Sensitivity {
        self.sensitivity
    }

    /// Finds and checks the element at the head of `rest`. `Err` is structural; a wrong value
    /// whose end is known is a fault of what was found.
    #[inline]
    pub(crate) fn find(&self, rest: &[u8]) -> Result<Found, FieldErrorKind> {
        match self.length.read(rest)? {
            None => self.find_fixed(rest),
            Some((prefix_len, count)) => self.find_counted(rest, prefix_len, count),
        }
    }

    #[inline]
    fn find_fixed(&self, rest: &[u8]) -> Result<Found, FieldErrorKind> {
        let (units, end) = (self.max(), self.encoding.wire_len(self.max()));
        let wire = rest.get(..end).ok_or(FieldErrorKind::Truncated)?;
        let checked = self.check_absent(wire).and_then(|()| match self.text {
            Text::Strict => Ok(self.check_fixed(wire, units)?),
            free => Self::check_free(free, wire),
        });
        Ok(Found { start: 0, units, end, flaw: checked.err() })
    }

    #[inline]
    fn check_fixed(&self, wire: &[u8], units: usize) -> Result<(), FieldErrorKind> {
        self.check_characters(wire, units)?;
        self.check_pattern(wire)
    }

    /// Whether the characters are those of the type.
    #[inline]
    fn check_characters(&self, wire: &[u8], units: usize) -> Result<(), FieldErrorKind> {
        // Spaces that fill up are no characters of the type; zeros always are.
        let text = match self.padding.character() {
            Some(b' ') => self.padding.strip_spaces(wire, self.encoding.character(b' ')),
            _ => wire,
        };
        self.encoding.check(self.content, text, units)
    }

    #[inline]
    fn check_absent(&self, wire: &[u8]) -> Result<(), Flaw> {
        match &self.absent {
            Some(absent) if **absent == *wire => Err(Flaw::Absent),
            _ => Ok(()),
        }
    }

    fn check_free(text: Text, wire: &[u8]) -> Result<(), Flaw> {
        text.takes(wire).then_some(()).ok_or(Flaw::Wrong(FieldErrorKind::BadCharacter))
    }

    /// True where the characters of a value that was found are those of the type, also in free
    /// text.
    pub(crate) fn is_plain(&self, wire: &[u8], units: usize) -> bool {
        self.text == Text::Strict || self.check_characters(wire, units).is_ok()
    }

    #[inline]
    fn check_pattern(&self, wire: &[u8]) -> Result<(), FieldErrorKind> {
        let Some(pattern) = &self.pattern else { return Ok(()) };
        let mut digits = [0; Pattern::PARTS_MAX * 2];
        let value = self.encoding.canonical(wire, self.max(), &mut digits).unwrap_or_default();
        pattern.accepts(value).then_some(()).ok_or(FieldErrorKind::BadPattern)
    }

    /// The same behind a prefix that says `count`.
    #[inline]
    fn find_counted(
        &self,
        rest: &[u8],
        prefix_len: usize,
        count: usize,
    ) -> Result<Found, FieldErrorKind> {
        let wire_len = match self.counts {
            PrefixCounts::Value => self.encoding.wire_len(count),
            PrefixCounts::Wire => count,
        };
        let end = prefix_len + wire_len;
        let wire = rest.get(prefix_len..end).ok_or(FieldErrorKind::Truncated)?;
        let (wire, unwrapped) = match &self.wrapper {
            None => (wire, Ok(())),
            Some(wrapper) => wrapper.open(wire),
        };
        let units = match self.counts {
            PrefixCounts::Value => count,
            PrefixCounts::Wire => self.encoding.content_len(wire),
        };
        let checked = unwrapped.map_err(Flaw::from).and_then(|()| self.check_counted(wire, units));
        Ok(Found { start: end - wire.len(), units, end, flaw: checked.err() })
    }

    #[inline]
    fn check_counted(&self, wire: &[u8], units: usize) -> Result<(), Flaw> {
        // The second for hexadecimal digits of which half a byte is too much.
        if units > self.max() || wire.len() > self.encoding.wire_len(self.max()) {
            return Err(FieldErrorKind::TooLong.into());
        }
        if units < self.min() {
            return Err(FieldErrorKind::TooShort.into());
        }
        self.check_absent(wire)?;
        match self.text {
            Text::Strict => Ok(self.encoding.check(self.content, wire, units)?),
            free => Self::check_free(free, wire),
        }
    }

    /// Appends a canonical value with its prefix, wrapper and padding.
    #[inline]
    pub(crate) fn write(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeErrorKind> {
        if value.len() > self.max() {
            return Err(EncodeErrorKind::TooLong);
        }
        if value.len() < self.min() {
            return Err(EncodeErrorKind::TooShort);
        }
        if !self.accepts(value) {
            return Err(EncodeErrorKind::BadCharacter);
        }
        if self.pattern.is_some_and(|pattern| !pattern.accepts(value)) && !self.is_absent(value) {
            return Err(EncodeErrorKind::BadPattern);
        }
        self.write_prefix(value.len(), out);
        let value = match self.length {
            Length::Fixed => self.padding.fill(value, self.max()),
            Length::Prefix { .. } => Padded::whole(value),
        };
        self.encoding.write(value, out);
        Ok(())
    }

    /// Whether a canonical value is the one that stands for none.
    fn is_absent(&self, value: &[u8]) -> bool {
        let Some(absent) = &self.absent else { return false };
        let mut wire = Vec::with_capacity(absent.len());
        self.encoding.write(Padded::whole(value), &mut wire);
        *wire == **absent
    }

    /// True where the characters of a canonical value can be written.
    #[inline]
    pub(crate) fn accepts(&self, value: &[u8]) -> bool {
        if self.text != Text::Strict {
            return self.text.takes(value);
        }
        let text = match self.padding.character() {
            Some(b' ') => self.padding.strip_spaces(value, b' '),
            _ => value,
        };
        self.content.accepts(text) && self.encoding.can_write(value)
    }

    /// Writes content that was found in a frame of the same dialect, of so many units.
    #[inline]
    pub(crate) fn write_again(&self, wire: &[u8], units: usize, out: &mut Vec<u8>) {
        self.write_prefix(units, out);
        out.extend_from_slice(wire);
    }

    #[inline]
    fn write_prefix(&self, units: usize, out: &mut Vec<u8>) {
        if let Length::Prefix { encoding, digits } = self.length {
            self.write_count(encoding, digits, units, out);
        }
    }

    /// Apart, so that elements of fixed length, which are the most, do not call for nothing.
    #[inline(never)]
    fn write_count(&self, encoding: PrefixEncoding, digits: u8, units: usize, out: &mut Vec<u8>) {
        encoding.write(self.prefix_count(units), digits, out);
        if let Some(wrapper) = &self.wrapper {
            wrapper.write(units, out);
        }
    }

    /// What a length prefix holds before a value of so many characters or bytes.
    #[inline]
    pub(crate) fn prefix_count(&self, units: usize) -> usize {
        match self.counts {
            PrefixCounts::Value => units,
            PrefixCounts::Wire => {
                self.wrapper.map_or(0, Wrapper::len) + self.encoding.wire_len(units)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_accept_their_characters() {
        for (name, good, bad) in [
            ("n", "0123456789", "12a"),
            ("a", "azAZ", "a1"),
            ("an", "azAZ09", "a b"),
            ("ans", " ~aZ0", "a\x7f"),
            ("as", "a -Z", "a-1"),
            ("ns", "1 -2", "1-a"),
            ("a or n", "978", "97A"),
            ("a or n", "EUR", "EU7"),
            ("x+n", "C00000100", "X00000100"),
            ("x+n", "D1", "1D"),
            ("z", "4761340000000019=29122010000000000000", "4761^2912"),
            ("z", "4761340000000019D2912", "%B4761"),
        ] {
            let content = ContentType::from_name(name).unwrap();
            assert!(content.accepts(good.as_bytes()), "{name} {good}");
            assert!(!content.accepts(bad.as_bytes()), "{name} {bad}");
            assert!(!content.accepts(b"\n"), "{name} line end");
        }
        assert!(ContentType::Binary.accepts(&[0, 255]));
    }
}
