//! What the tests share: dialects, values for any element, a reproducible source of choices.
#![allow(dead_code, reason = "every test file uses another part")]
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test may stop")]

use iso_specs::{ContentType, DataElement, Length, Padding, Spec};

pub(crate) const SHIPPED: &str = "iso8583-1987-ascii";

pub(crate) const BINARY: &str = "iso8583-1987-binary";

pub(crate) fn shipped() -> Spec {
    builtin(SHIPPED)
}

pub(crate) fn builtin(name: &str) -> Spec {
    Spec::from_toml(Spec::builtin(name).expect("embedded")).expect("no mistakes")
}

/// Every dialect that the tests of all messages go through.
pub(crate) fn dialects() -> [Spec; 3] {
    [shipped(), raw(), builtin(BINARY)]
}

/// The shipped dialect with a raw bitmap and raw binary elements: another file, no other code.
pub(crate) fn raw() -> Spec {
    let text = Spec::builtin(SHIPPED).expect("embedded");
    let text = text.replace("\"hex\"", "\"raw\"").replace("1987-ascii", "1987-raw");
    Spec::from_toml(&text).expect("no mistakes")
}

/// A reproducible source of choices (xorshift64*).
pub(crate) struct Choices(u64);

impl Choices {
    pub(crate) const fn from_seed(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number from 0 up to, not including, `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).expect("31 bits") % end
    }

    fn one_of(&mut self, bytes: &[u8]) -> u8 {
        bytes[self.below(bytes.len())]
    }
}

/// Least length of a value that comes back as it was set: one that padding does not fill up.
pub(crate) fn least_len(element: &DataElement) -> usize {
    if element.length() == Length::Fixed { element.max() } else { element.min() }
}

/// A right value of the given length.
pub(crate) fn value(element: &DataElement, len: usize, choices: &mut Choices) -> Vec<u8> {
    if let Some(pattern) = element.pattern() {
        return date(pattern.digits(), choices);
    }
    let printable: Vec<u8> = (0x20..=0x7e).collect();
    let only = |keep: fn(&u8) -> bool| printable.iter().copied().filter(keep).collect::<Vec<_>>();
    let letters = only(u8::is_ascii_alphabetic);
    let digits = only(u8::is_ascii_digit);
    let alphabet = match element.content_type() {
        ContentType::Digits | ContentType::SignedDigits => digits,
        ContentType::Letters => letters,
        ContentType::LettersDigits => only(u8::is_ascii_alphanumeric),
        ContentType::Printable => printable.clone(),
        ContentType::LettersSpecial => only(|byte| !byte.is_ascii_digit()),
        ContentType::DigitsSpecial => only(|byte| !byte.is_ascii_alphabetic()),
        ContentType::LettersOrDigits if choices.below(2) == 0 => letters,
        ContentType::LettersOrDigits => digits,
        ContentType::Track => b"0123456789=".to_vec(),
        ContentType::Binary => (0..=255).collect(),
    };
    let mut value: Vec<u8> = (0..len).map(|_| choices.one_of(&alphabet)).collect();
    if element.content_type() == ContentType::SignedDigits && !value.is_empty() {
        value[0] = choices.one_of(b"CD");
    }
    value
}

/// A value that is right for every pattern of its length.
fn date(digits: usize, choices: &mut Choices) -> Vec<u8> {
    let candidates = ["1231235959", "0101000000", "120000", "235959", "0101", "1212"];
    let fitting: Vec<_> = candidates.iter().filter(|date| date.len() == digits).collect();
    fitting[choices.below(fitting.len())].as_bytes().to_vec()
}

/// The value as it comes back.
pub(crate) fn as_read(element: &DataElement, value: &[u8]) -> Vec<u8> {
    let missing = element.max().saturating_sub(value.len());
    let filled = |with| vec![with; if element.length() == Length::Fixed { missing } else { 0 }];
    match element.padding() {
        Padding::None => value.to_vec(),
        Padding::Left(with) => [filled(with), value.to_vec()].concat(),
        Padding::Right(with) => [value.to_vec(), filled(with)].concat(),
        Padding::EitherSpace => [value.to_vec(), filled(b' ')].concat(),
    }
}

/// A canonical value of an element that must be there.
pub(crate) fn canonical(message: &iso_specs::Message<'_>, element: u8) -> Option<Vec<u8>> {
    let field = message.field(element)?;
    let mut room = vec![0; field.len()];
    field.canonical(&mut room).map(<[u8]>::to_vec)
}

/// A frame of a message with the given values.
pub(crate) fn frame(spec: &Spec, mti: &[u8; 4], values: &[(u8, &[u8])]) -> Vec<u8> {
    let mut message = iso_specs::OutgoingMessage::new(iso_specs::Mti::new(*mti).expect("digits"));
    for &(element, value) in values {
        message.set(element, value);
    }
    let mut out = Vec::new();
    message.encode(spec, &mut out).expect("right values");
    out
}

/// A frame in which all elements have a value: the longest that `long` allows, or the shortest.
pub(crate) fn full_frame(spec: &Spec, long: bool) -> Vec<u8> {
    let mut choices = Choices::from_seed(128);
    let values: Vec<_> = spec
        .elements()
        .map(|element| {
            let len = if long { element.max() } else { least_len(element) };
            (element.number(), value(element, len, &mut choices))
        })
        .collect();
    let borrowed: Vec<_> = values.iter().map(|(number, value)| (*number, &value[..])).collect();
    frame(spec, b"0100", &borrowed)
}
