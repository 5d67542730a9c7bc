//! What an input may be, and which of that it is: the reading in which most messages are right.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::io;

use iso_specs::{Examined, Spec};

use super::text::{TextForm, TextMessage, guess};
use super::{Borders, InputForm, Inspection, Listing, Tally, capture};
use crate::frame::Framing;

/// A larger input is judged by its beginning, in bytes.
const SAMPLE_BYTES_MAX: usize = 512 << 10;

/// The highest first digit of an MTI that an edition of ISO 8583 has.
const EDITION_MAX: u8 = 2;

/// One way to take an input.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) form: InputForm,
    /// What tells messages apart; `None` for bare ones.
    pub(super) framing: Option<Framing>,
    pub(super) dialect: &'a Spec,
}

/// How well a reading fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fit {
    /// Messages without a fault.
    right: usize,
    /// Messages whose MTI and bitmap could be read, of an edition that there is.
    heads: usize,
    /// Elements that could be read.
    elements: usize,
}

impl Fit {
    /// One more message.
    pub(super) fn add(&mut self, examined: &Examined<'_>) {
        if examined.message.mti().version() <= EDITION_MAX {
            self.right += usize::from(examined.faults.is_empty());
            self.heads += 1;
            self.elements += examined.message.present().len();
        }
    }
}

/// The input without its byte order mark, in UTF-8 where that said UTF-16.
pub(super) fn without_mark(input: &[u8]) -> Cow<'_, [u8]> {
    let utf_16 = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = rest.as_chunks().0.iter().map(|pair| unit(*pair));
        let text: String = char::decode_utf16(units)
            .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        Cow::Owned(text.into_bytes())
    };
    match input {
        [0xef, 0xbb, 0xbf, rest @ ..] => Cow::Borrowed(rest),
        [0xff, 0xfe, rest @ ..] => utf_16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf_16(rest, u16::from_be_bytes),
        _ => Cow::Borrowed(input),
    }
}

/// The readings that an inspection allows, the likeliest first.
fn readings<'a>(inspection: &'a Inspection, input: &[u8]) -> Vec<Reading<'a>> {
    let forms = match (inspection.form, str::from_utf8(input)) {
        (Some(form), _) => vec![form],
        (None, _) if capture::is_capture(input) => vec![InputForm::Capture],
        (None, Ok(text)) => {
            let first = guess(text);
            let other = match first {
                TextForm::Hex => TextForm::Base64,
                TextForm::Base64 => TextForm::Hex,
            };
            let is_control = |one: char| one.is_control() && !one.is_whitespace();
            let [third, last] = match text.contains(is_control) {
                true => [InputForm::Raw, InputForm::Lines],
                false => [InputForm::Lines, InputForm::Raw],
            };
            vec![InputForm::Text(first), InputForm::Text(other), third, last]
        }
        // What is no text has no lines.
        (None, Err(_)) => vec![InputForm::Raw],
    };
    let mut readings = Vec::new();
    for form in forms {
        let framings: &[Option<Framing>] = match (inspection.borders, form) {
            (Borders::Framing(framing), _) => &[Some(framing)],
            (Borders::Usual, InputForm::Capture) => &[Some(Framing::Binary2)],
            (Borders::Usual, InputForm::Lines) => &[None],
            (Borders::Usual, _) => &[None, Some(Framing::Binary2), Some(Framing::Ascii4)],
            (Borders::Bare, _) => &[None],
        };
        for framing in framings.iter().copied() {
            let of = |dialect| Reading { form, framing, dialect };
            readings.extend(inspection.dialects.iter().map(of));
        }
    }
    readings
}

/// The reading that is taken, and how it did on the beginning of the input where there were others.
pub(super) struct Chosen<'a> {
    pub(super) reading: Reading<'a>,
    fit: Fit,
    tally: Tally,
}

impl Chosen<'_> {
    /// Whether this is the better reading. Of faulty messages the number of elements tells dialects
    /// apart, but not forms: packed digits in hexadecimal look much like the same digits in ASCII.
    fn is_better_than(&self, other: &Chosen<'_>) -> bool {
        let heads = |chosen: &Chosen<'_>| (chosen.fit.right, chosen.fit.heads);
        match heads(self).cmp(&heads(other)) {
            Ordering::Equal => {
                let is_alike = self.reading.form == other.reading.form;
                is_alike && self.fit.elements > other.fit.elements
            }
            order => order == Ordering::Greater,
        }
    }
}

/// The first reading without a fault, otherwise the one that fits best; `None` without a dialect.
pub(super) fn choose<'a>(inspection: &'a Inspection, input: &[u8]) -> Option<Chosen<'a>> {
    let readings = readings(inspection, input);
    if let [reading] = *readings {
        return Some(Chosen { reading, fit: Fit::default(), tally: Tally::default() });
    }
    let mut best: Option<Chosen<'a>> = None;
    for reading in readings {
        let chosen = try_out(inspection, reading, input);
        let is_right = chosen.tally.faulty == 0 && chosen.tally.losses == 0;
        if is_right && chosen.fit.right > 0 {
            return Some(chosen);
        }
        if best.as_ref().is_none_or(|best| chosen.is_better_than(best)) {
            best = Some(chosen);
        }
    }
    best
}

/// Reads the beginning without showing anything. Where it breaks off, what was read before counts.
fn try_out<'a>(inspection: &'a Inspection, reading: Reading<'a>, input: &[u8]) -> Chosen<'a> {
    let mut nothing = io::sink();
    let mut listing = Listing::new(inspection, reading, &mut nothing);
    let sample = sample(reading.form, input);
    listing.is_sample = sample.len() < input.len();
    if listing.input(sample).is_err() {
        listing.tally.losses += 1;
    }
    Chosen { reading, fit: listing.fit, tally: listing.tally }
}

/// The beginning of an input: of a text to the end of a line, or between two bytes that are written
/// apart. A capture is read whole: its streams go on.
fn sample(form: InputForm, input: &[u8]) -> &[u8] {
    let Some(start) = input.get(..SAMPLE_BYTES_MAX).filter(|_| form != InputForm::Capture) else {
        return input;
    };
    let last = |is_end: fn(&u8) -> bool| start.iter().rposition(is_end);
    let end = match form {
        InputForm::Raw | InputForm::Capture => None,
        InputForm::Lines => last(|byte| *byte == b'\n'),
        InputForm::Text(_) => last(|byte| *byte == b'\n').or_else(|| last(u8::is_ascii_whitespace)),
    };
    start.get(..end.map_or(start.len(), |last| last + 1)).unwrap_or(start)
}

impl Chosen<'_> {
    /// What the person who asked has not said and may not expect; nothing where it is usual.
    pub(super) fn notes(&self, inspection: &Inspection) -> Vec<String> {
        let Chosen { reading: Reading { form, framing, dialect }, fit, tally } = self;
        let mut notes = Vec::new();
        if inspection.form.is_none() {
            notes.extend(match form {
                InputForm::Text(TextForm::Hex) | InputForm::Capture => None,
                InputForm::Text(TextForm::Base64) => Some("read as base64".to_owned()),
                InputForm::Lines => Some("read as the messages themselves, one a line".to_owned()),
                InputForm::Raw => Some("read as the bytes of the message itself".to_owned()),
            });
        }
        let is_usual = inspection.borders == Borders::Usual && *form != InputForm::Capture;
        if let Some(framing) = framing.filter(|_| is_usual) {
            notes.push(format!("read with framing {framing}"));
        }
        if inspection.dialects.len() > 1 && tally.messages > 0 {
            let (name, right, messages) = (dialect.name(), fit.right, tally.messages);
            notes.push(match right {
                0 => format!("no dialect fits without a fault; {name} reads furthest"),
                right if right == messages => format!("dialect {name} fits"),
                _ => format!("dialect {name} fits best: {right} of {messages} messages are right"),
            });
        }
        notes
    }
}

/// The messages of lines that hold them as they are. Spaces at the end may be a part of one; those
/// before an MTI are not.
pub(super) fn lines(
    input: &[u8],
    is_message: impl Fn(&[u8]) -> bool,
) -> impl Iterator<Item = TextMessage> {
    let lines = (1..).zip(input.split(|byte| *byte == b'\n'));
    lines.filter_map(move |(line, bytes)| {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes).trim_ascii_start();
        let shorter = bytes.trim_ascii_end();
        let is_shorter = !is_message(bytes) && is_message(shorter);
        let bytes = if is_shorter { shorter } else { bytes }.to_vec();
        (!shorter.is_empty()).then_some(TextMessage { line, bytes })
    })
}

/// The message that the input is, but for a line end that an editor may have put behind it.
pub(super) fn raw(input: &[u8], is_message: impl Fn(&[u8]) -> bool) -> &[u8] {
    let shorter = input.strip_suffix(b"\n").unwrap_or(input);
    let shorter = shorter.strip_suffix(b"\r").unwrap_or(shorter);
    if !is_message(input) && is_message(shorter) { shorter } else { input }
}

impl fmt::Display for TextForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TextForm::Hex => "a hexadecimal digit",
            TextForm::Base64 => "a character of base64",
        })
    }
}
