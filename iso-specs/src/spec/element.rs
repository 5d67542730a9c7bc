//! One line of a dialect file: a data element, and what its keys allow together.

use crate::data_element::{ChipTag, ContentType, DataElement, Sensitivity};
use crate::encoding::{Encoding, Sign, UnusedNibble, hex_digit};
use crate::length::{Length, PrefixCounts, PrefixEncoding};
use crate::padding::{Padded, Padding};
use crate::pattern::Pattern;
use crate::text::{Alphabet, Text};
use crate::toml_keys::Keys;
use crate::wrapper::Wrapper;

/// Longest element of any dialect, in characters or bytes: what `LLLL` can count.
const ELEMENT_MAX_LEN: u16 = 9_999;

const PATTERN_NAMES: &str = "up to 7 of CC, YY, MM, DD, hh, mm, ss, such as \"MMDDhhmmss\"";

/// What a length prefix counts where two digits make one byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    Digits,
    Bytes,
}

impl Counts {
    const NAMES: &str = "\"digits\" or \"bytes\"";

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "digits" => Some(Self::Digits),
            "bytes" => Some(Self::Bytes),
            _ => None,
        }
    }

    /// Hexadecimal digits stand for a value of bytes, bytes on the wire for a value of digits.
    const fn of(self, encoding: Encoding, wrapper: Option<Wrapper>) -> PrefixCounts {
        match (encoding, self) {
            (Encoding::Hex, Self::Digits) => PrefixCounts::Wire,
            (encoding, Self::Bytes) if encoding.is_packed() => PrefixCounts::Wire,
            _ if wrapper.is_some() => PrefixCounts::Wire,
            _ => PrefixCounts::Value,
        }
    }
}

/// What the head of the file says for all lines that do not say their own.
#[derive(Clone, Copy)]
pub(super) struct Defaults {
    prefix: PrefixEncoding,
    counts: Counts,
    unused: UnusedNibble,
}

impl Defaults {
    pub(super) fn read(keys: &mut Keys<'_, '_>) -> Self {
        let prefix = keys.name("length_prefix", PrefixEncoding::NAMES, PrefixEncoding::from_name);
        let counts = keys.optional_name("prefix_counts", Counts::NAMES, Counts::from_name);
        let unused =
            keys.optional_name("unused_nibble", UnusedNibble::NAMES, UnusedNibble::from_name);
        Self {
            prefix: prefix.unwrap_or(PrefixEncoding::Ascii),
            counts: counts.unwrap_or(Counts::Digits),
            unused: unused.unwrap_or_default(),
        }
    }
}

/// Keys of one line that an element may have or not.
struct Own {
    prefix: Option<PrefixEncoding>,
    counts: Option<Counts>,
    min: Option<u16>,
    unused: Option<UnusedNibble>,
    sign: Option<Sign>,
    padding: Option<Padding>,
    pattern: Option<Pattern>,
    text: Option<Text>,
    alphabet: Option<Alphabet>,
    absent: Option<String>,
    wrapper: Option<Wrapper>,
    chip_tag: Option<ChipTag>,
}

impl Own {
    fn read(keys: &mut Keys<'_, '_>) -> Self {
        Self {
            prefix: keys.optional_name("prefix", PrefixEncoding::NAMES, PrefixEncoding::from_name),
            counts: keys.optional_name("prefix_counts", Counts::NAMES, Counts::from_name),
            min: keys.optional_number("min", 0..=ELEMENT_MAX_LEN),
            unused: keys.optional_name(
                "unused_nibble",
                UnusedNibble::NAMES,
                UnusedNibble::from_name,
            ),
            sign: keys.optional_name("sign", Sign::NAMES, Sign::from_name),
            padding: keys.optional_name("padding", Padding::NAMES, Padding::from_name),
            pattern: keys.optional_name("pattern", PATTERN_NAMES, Pattern::from_name),
            text: keys.optional_name("text", Text::NAMES, Text::from_name),
            alphabet: keys.optional_name("alphabet", Alphabet::NAMES, Alphabet::from_name),
            absent: keys.optional("absent", "a text", |value| value.as_str().map(str::to_owned)),
            chip_tag: keys.optional_name("chip_tag", ChipTag::NAMES, ChipTag::from_name),
            wrapper: keys.optional_table("wrapper").and_then(|mut keys| read_wrapper(&mut keys)),
        }
    }
}

fn read_wrapper(keys: &mut Keys<'_, '_>) -> Option<Wrapper> {
    let id = keys.name("id", "one to four bytes in hexadecimal digits", |digits| {
        let (pairs, []) = digits.as_bytes().as_chunks() else { return None };
        let bytes = pairs.iter().map(|&[high, low]| Some(hex_digit(high)? << 4 | hex_digit(low)?));
        bytes.collect::<Option<Vec<u8>>>().filter(|id| Wrapper::new(id, 1).is_some())
    });
    let length = keys.number("length", 1..=2);
    keys.finish();
    Wrapper::new(&id?, u8::try_from(length?).ok()?)
}

/// The element of a line, and what of the chip data it holds; every mistake is noted.
pub(super) fn read(
    keys: &mut Keys<'_, '_>,
    number: u8,
    defaults: Defaults,
) -> Option<(DataElement, Option<ChipTag>)> {
    let name = keys.text("name");
    let content = keys.name("type", ContentType::NAMES, ContentType::from_name);
    let own = Own::read(keys);
    let prefix = own.prefix.unwrap_or(defaults.prefix);
    let length = keys.name("length", Length::NAMES, |name| Length::from_name(name, prefix));
    let max = keys.number("max", 1..=ELEMENT_MAX_LEN);
    let encoding = keys.name("encoding", Encoding::NAMES, Encoding::from_name);
    let sensitivity = keys.name("sensitivity", Sensitivity::NAMES, Sensitivity::from_name);
    keys.finish();

    let (content, length, max) = (content?, length?, max?);
    let encoding = match (encoding?, content) {
        (Encoding::Bcd(_), ContentType::SignedDigits) => {
            let unused = own.unused.unwrap_or(defaults.unused);
            Encoding::SignedBcd(own.sign.unwrap_or_default(), unused)
        }
        (Encoding::Bcd(_), _) => Encoding::Bcd(own.unused.unwrap_or(defaults.unused)),
        (other, _) => other,
    };
    let padding = own.padding.unwrap_or(Padding::None);
    let whole = length == Length::Fixed && padding == Padding::None;
    let free = if content.is_free() { Text::Any } else { Text::Strict };
    let mut element = DataElement {
        number,
        content,
        encoding,
        length,
        counts: own.counts.unwrap_or(defaults.counts).of(encoding, own.wrapper),
        wrapper: own.wrapper,
        min: own.min.unwrap_or(if whole { max } else { 1 }),
        max,
        padding,
        pattern: own.pattern,
        text: own.text.unwrap_or(free),
        alphabet: own.alphabet,
        absent: None,
        // A line without these has its mistake; what follows needs neither.
        name: name.unwrap_or_default().into(),
        sensitivity: sensitivity.unwrap_or(Sensitivity::Secret),
    };
    check_keys(keys, &element, &own);
    check_parts(keys, &element);
    check_text(keys, &element, &own);
    element.absent = own.absent.and_then(|value| absent(keys, &element, value.as_bytes()));
    check_chip_tag(keys, &element, own.chip_tag);
    Some((element, own.chip_tag))
}

/// Free text is for types of letters, and an alphabet for free text.
fn check_text(keys: &Keys<'_, '_>, element: &DataElement, own: &Own) {
    let letters = matches!(element.content, ContentType::Letters | ContentType::LettersDigits);
    if own.text.is_some() && !letters && !element.content.is_free() {
        keys.mistake("`text` is for types `a`, `an`, `as`, `ns` and `ans`");
    }
    let is_ascii = element.encoding == Encoding::Ascii;
    if own.alphabet.is_some() && (element.text == Text::Strict || !is_ascii) {
        keys.mistake("`alphabet` is for text `any` in encoding `ascii`");
    }
}

/// The content on the wire that stands for no value. It need not be a date where others are.
fn absent(keys: &Keys<'_, '_>, element: &DataElement, value: &[u8]) -> Option<Box<[u8]>> {
    let length = match element.length {
        Length::Fixed => element.max()..=element.max(),
        Length::Prefix { .. } => element.min()..=element.max(),
    };
    let is_text = !element.content.is_binary();
    if !is_text || !length.contains(&value.len()) || !element.accepts(value) {
        keys.mistake("`absent` must be a text that the element can hold, of its whole length");
        return None;
    }
    let mut wire = Vec::new();
    element.encoding.write(Padded::whole(value), &mut wire);
    Some(wire.into())
}

/// Keys that mean nothing beside the others.
fn check_keys(keys: &Keys<'_, '_>, element: &DataElement, own: &Own) {
    let encoding = element.encoding;
    if element.length == Length::Fixed && (own.min.is_some() || own.prefix.is_some()) {
        keys.mistake("`min` and `prefix` are for elements with a length prefix");
    }
    let two_digits_a_byte = encoding.is_packed() || encoding == Encoding::Hex;
    if own.counts.is_some() && (element.length == Length::Fixed || !two_digits_a_byte) {
        keys.mistake("`prefix_counts` is for `bcd` and `hex` with a length prefix");
    }
    let digits = match encoding {
        Encoding::SignedBcd(..) => element.max() - 1,
        _ => element.max(),
    };
    let never_odd = element.length == Length::Fixed && digits.is_multiple_of(2);
    if own.unused.is_some() && (!encoding.is_packed() || never_odd) {
        keys.mistake("`unused_nibble` is for `bcd` with an odd number of digits");
    }
    if own.sign.is_some() && !matches!(encoding, Encoding::SignedBcd(..)) {
        keys.mistake("`sign` is for type `x+n` with encoding `bcd`");
    }
    if own.wrapper.is_some() && (element.length == Length::Fixed || encoding != Encoding::Raw) {
        keys.mistake("`wrapper` is for encoding `raw` with a length prefix");
    }
}

/// What each part allows alone but not together.
fn check_parts(keys: &Keys<'_, '_>, element: &DataElement) {
    check_encoding(keys, element);
    check_prefix(keys, element);
    if let Some(with) = element.padding.character() {
        if element.length != Length::Fixed {
            keys.mistake("`padding` is for elements of fixed length");
        }
        if !element.content.takes_padding(with) {
            keys.mistake("the type does not allow this `padding`");
        }
    }
    if let Some(pattern) = &element.pattern {
        let digits = element.content == ContentType::Digits && element.length == Length::Fixed;
        if !digits || pattern.digits() != element.max() {
            let digits = pattern.digits();
            keys.mistake(format!("this `pattern` needs type `n`, length `fixed`, max {digits}"));
        }
    }
    match (element.sensitivity, element.content.is_binary()) {
        (Sensitivity::Pan, true) => keys.mistake("sensitivity `pan` is for text"),
        (Sensitivity::Chip, false) => keys.mistake("sensitivity `chip` is for type `b`"),
        _ => check_sensitivity(keys, element),
    }
}

/// What answers hold is bytes; the digits of a request are packed.
fn check_chip_tag(keys: &Keys<'_, '_>, element: &DataElement, tag: Option<ChipTag>) {
    let is_binary = element.content.is_binary();
    match tag {
        Some(_) if element.number == 55 => {
            keys.mistake("`chip_tag` is for what DE55 does not hold");
        }
        Some(ChipTag::Scripts | ChipTag::Value(0x91 | 0x8A)) if !is_binary => {
            keys.mistake("`chip_tag` of an answer needs type `b`");
        }
        Some(_) if !is_binary && element.content != ContentType::Digits => {
            keys.mistake("`chip_tag` is for types `b` and `n`");
        }
        _ => {}
    }
}

/// What the standard puts into these elements is never shown, whatever a file says.
fn check_sensitivity(keys: &Keys<'_, '_>, element: &DataElement) {
    let (own, name) = match element.number {
        2 | 34 => (Some(Sensitivity::Pan), "`pan` or `secret`"),
        35 | 36 | 45 => (Some(Sensitivity::Track), "`track` or `secret`"),
        55 => (Some(Sensitivity::Chip), "`chip` or `secret`"),
        52 | 53 | 64 | 96 | 128 => (None, "`secret`"),
        _ => return,
    };
    if element.sensitivity != Sensitivity::Secret && Some(element.sensitivity) != own {
        keys.mistake(format!("sensitivity of this element must be {name}"));
    }
}

fn check_encoding(keys: &Keys<'_, '_>, element: &DataElement) {
    let binary = element.content.is_binary();
    if binary != element.encoding.is_binary() {
        keys.mistake(match binary {
            true => "type `b` needs encoding `hex` or `raw`",
            false => "only type `b` has encoding `hex` or `raw`",
        });
    }
    let digits = [ContentType::Digits, ContentType::SignedDigits, ContentType::Track];
    if !binary && element.encoding.is_packed() && !digits.contains(&element.content) {
        keys.mistake("encoding `bcd` is for types `n`, `x+n` and `z`");
    }
    if element.min > element.max {
        keys.mistake("`min` is above `max`");
    }
}

fn check_prefix(keys: &Keys<'_, '_>, element: &DataElement) {
    let Length::Prefix { encoding: prefix, digits } = element.length else { return };
    if prefix == PrefixEncoding::Binary && digits > 2 {
        keys.mistake("a binary prefix is `L`, one byte, or `LL`, two bytes");
    }
    let counted = element.prefix_count(element.max());
    if let Some(most) = element.length.max_count().filter(|most| counted > *most) {
        keys.mistake(format!("the prefix counts to {most}, but `max` needs {counted}"));
    }
    if let Some(most) = element.wrapper.map(Wrapper::max_len).filter(|most| element.max() > *most) {
        keys.mistake(format!("the wrapper's length counts to {most}, which is below `max`"));
    }
    if let Encoding::Bcd(unused) | Encoding::SignedBcd(_, unused) = element.encoding
        && element.counts == PrefixCounts::Wire
        && !unused.is_f()
    {
        keys.mistake("a prefix that counts bytes needs an `unused_nibble` that no digit is: F");
    }
}
