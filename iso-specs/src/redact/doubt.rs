//! What may be shown of a message with a fault to the person who looks for it.
//!
//! What stands before the first fault was read by the same rules as ever. But a bit too many or too
//! few in the bitmap lets public elements take the bytes of a PAN, of a track or of a PIN block
//! long before something is wrong. So a public element is shown only where none of these holds:
//!
//! - One bit of the bitmaps turned over, the frame could be read to its end, or to where it was
//!   cut, and then [`HIDDEN_DIGITS_MIN`] or more of the digits shown would be those of an element
//!   that is not public, whatever it holds; of a PAN that is whole, only with a right check digit.
//! - The bytes are, wherever they stand, a PAN with its length before it, or a track: more may be
//!   wrong than one bit.
//! - It is text that swallowed a row of digits, or hexadecimal digits as a PIN block has them.

use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};

use super::{PAN_MASKED_MIN_DIGITS, SHOWN_MAX_BYTES};
use crate::bitmap::{BitmapEncoding, Bitmaps, ElementSet};
use crate::data_element::{ContentType, DataElement, Flaw, Found, Sensitivity};
use crate::decode::Examined;
use crate::encoding::Encoding;
use crate::error::FieldErrorKind;
use crate::message::{Field, Message};
use crate::spec::Spec;

/// Bits that may be wrong in another reading of the frame. With two of them most that stands behind
/// DE32 could be anything.
const WRONG_BITS_MAX: u8 = 1;
/// Less of another element than so many digits or characters may be shown: three letters of a
/// currency say nothing, and could be the beginning of anything.
const HIDDEN_DIGITS_MIN: usize = 8;
/// Text with so many digits in a row, and more than they, may have swallowed a part of a PAN.
const ROW_DIGITS_MIN: usize = 9;
/// Digits of a PAN that is looked for (ISO/IEC 7812).
const PAN_DIGITS: RangeInclusive<usize> = PAN_MASKED_MIN_DIGITS..=19;
/// A card has no fewer digits.
const CARD_DIGITS_MIN: usize = 12;
/// A date or time of fewer digits may be chance.
const DATE_DIGITS_MIN: usize = 6;
/// The longest track 2 (ISO/IEC 7813).
const TRACK_2_CHARACTERS: usize = 37;
/// PAN and tracks.
const CARD_ELEMENTS: [u8; 4] = [2, 35, 36, 45];

/// Where the first fault is, and what before it must not be shown.
pub(super) struct Doubt {
    fault_at: usize,
    hidden: Vec<Range<usize>>,
}

impl Doubt {
    /// `None` of a message without a fault.
    pub(super) fn of(examined: &Examined<'_>) -> Option<Self> {
        let fault_at = examined.faults.iter().map(|fault| fault.offset).min()?;
        let shown = shown_values(examined, fault_at);
        let mut readings = Readings {
            spec: examined.message.spec(),
            frame: examined.message.frame(),
            shown: &shown,
            announced: examined.announced,
            last: 0,
            known: HashMap::new(),
            hidden: cards(&examined.message),
        };
        readings.read(examined);
        Some(Self { fault_at, hidden: readings.hidden })
    }

    /// Whether the bitmaps may be shown.
    pub(super) fn shows_bitmaps(&self, examined: &Examined<'_>) -> bool {
        let bitmaps = examined.bitmaps;
        let start = examined.bitmaps_at;
        let text = match examined.message.spec().bitmap_encoding() {
            BitmapEncoding::Hex => bitmaps.to_vec(),
            BitmapEncoding::Raw => {
                bitmaps.iter().flat_map(|byte| format!("{byte:02X}").into_bytes()).collect()
            }
        };
        self.is_clear(start..start + bitmaps.len()) && !holds_pan(&text)
    }

    /// Whether an element may be shown.
    pub(super) fn shows(&self, examined: &Examined<'_>, field: &Field<'_>) -> bool {
        let element = field.element();
        let Some(start) = examined.message.offset(element.number()) else { return false };
        let mut room = [0; SHOWN_MAX_BYTES];
        let value = field.canonical(&mut room);
        element.sensitivity() == Sensitivity::Public
            && !element.content_type().is_binary()
            && field.is_plain()
            && start < self.fault_at
            && self.is_clear(start..start + field.wire().len())
            && value.is_some_and(|value| !holds_pan(value) && !swallowed_digits(value))
    }

    fn is_clear(&self, range: Range<usize>) -> bool {
        self.hidden.iter().all(|hidden| hidden.end <= range.start || range.end <= hidden.start)
    }
}

/// Where the bitmaps lie, and the values of public elements before the fault.
fn shown_values(examined: &Examined<'_>, fault_at: usize) -> Vec<Range<usize>> {
    let message = &examined.message;
    let public =
        message.elements().filter(|field| field.element().sensitivity() == Sensitivity::Public);
    let place = |field: Field<'_>| {
        let start = message.offset(field.element().number())?;
        (start < fault_at).then(|| start..start + field.wire().len())
    };
    let bitmaps = examined.bitmaps_at..examined.bitmaps_at + examined.bitmaps.len();
    std::iter::once(bitmaps).chain(public.filter_map(place)).collect()
}

/// Other readings of a frame, with some bits of its bitmaps turned over.
struct Readings<'a> {
    spec: &'a Spec,
    frame: &'a [u8],
    shown: &'a [Range<usize>],
    announced: ElementSet,
    /// The highest element that the bitmaps can announce.
    last: u8,
    /// Whether the frame can be read to its end from an element at a place, with so many bits wrong
    /// before it.
    known: HashMap<(u8, usize, u8), bool>,
    /// Where in one of them an element lies that is not public, and PANs and tracks.
    hidden: Vec<Range<usize>>,
}

impl Readings<'_> {
    fn read(&mut self, examined: &Examined<'_>) {
        let first = examined.bitmaps_at;
        self.behind(first, first + examined.bitmaps.len(), 0);
        // The first bit of a bitmap says whether another one follows.
        for at in [first, first + bitmap_len(self.spec)] {
            let mut turned = self.frame.to_vec();
            let Some(byte) = turned.get_mut(at) else { continue };
            *byte = match self.spec.bitmap_encoding() {
                BitmapEncoding::Raw => *byte ^ 0x80,
                BitmapEncoding::Hex => with_first_bit_turned(*byte),
            };
            if let Ok((announced, end)) = self.spec.bitmaps().read(&turned, first) {
                self.announced = announced;
                self.behind(first, end, 1);
            }
        }
    }

    /// Reads what is behind the bitmaps, which lie between these places.
    fn behind(&mut self, first: usize, end: usize, wrong: u8) {
        let third = usize::from(self.announced.contains(Bitmaps::THIRD_PLACE));
        let bitmaps = (end - first) / bitmap_len(self.spec) + third;
        self.last = u8::try_from(64 * bitmaps).unwrap_or(ElementSet::MAX).min(ElementSet::MAX);
        self.known.clear();
        self.reads_on(2, end, wrong);
    }

    /// Whether all from this element on can be read, to the end of the frame or to where it was
    /// cut. What is not public then is kept.
    fn reads_on(&mut self, number: u8, at: usize, wrong: u8) -> bool {
        if wrong > WRONG_BITS_MAX {
            return false;
        }
        if number > self.last {
            return at == self.frame.len();
        }
        if let Some(known) = self.known.get(&(number, at, wrong)) {
            return *known;
        }
        let is_announced = u8::from(self.announced.contains(number));
        let without = self.reads_on(number + 1, at, wrong + is_announced);
        let with = self.reads_with(number, at, wrong + 1 - is_announced);
        self.known.insert((number, at, wrong), without || with);
        without || with
    }

    /// The same where the element is there.
    fn reads_with(&mut self, number: u8, at: usize, wrong: u8) -> bool {
        if wrong > WRONG_BITS_MAX {
            return false;
        }
        let rest = self.frame.get(at..).unwrap_or_default();
        let Some(element) = self.spec.element(number) else {
            // The third bitmap, or nothing that the dialect has.
            let third = self.spec.bitmaps().read_third(rest).ok();
            let third = third.filter(|_| number == Bitmaps::THIRD_PLACE);
            return third.is_some_and(|(_, len)| self.reads_on(number + 1, at + len, wrong));
        };
        match element.find(rest) {
            Ok(Found { flaw: Some(Flaw::Wrong(_)), .. }) => false,
            Ok(Found { start, end, .. }) => {
                let reads_on = self.reads_on(number + 1, at + end, wrong);
                let value = at + start..at + end;
                let wire = self.frame.get(value.clone()).unwrap_or_default();
                if reads_on && (element.sensitivity() != Sensitivity::Pan || is_card(element, wire))
                {
                    self.hide(element, value);
                }
                reads_on
            }
            Err(FieldErrorKind::Truncated) => {
                let start = cut_value(element, rest);
                if let Some(start) = start {
                    self.hide(element, at + start..self.frame.len());
                }
                start.is_some()
            }
            Err(_) => false,
        }
    }

    fn hide(&mut self, element: &DataElement, range: Range<usize>) {
        let both = |shown: &Range<usize>| {
            shown.end.min(range.end).saturating_sub(shown.start.max(range.start))
        };
        let bytes: usize = self.shown.iter().map(both).sum();
        let digits_per_byte = if is_packed(element) { 2 } else { 1 };
        let wire = self.frame.get(range.clone()).unwrap_or_default();
        if bytes * digits_per_byte >= HIDDEN_DIGITS_MIN && may_hold(element, wire) {
            self.hidden.push(range);
        }
    }
}

/// Whether this can be the number of a card: of 12 digits or more, with a right check digit
/// (ISO/IEC 7812-1). A month before digits, as DE7 begins, reads like the length of a shorter one.
fn is_card(element: &DataElement, wire: &[u8]) -> bool {
    let (encoding, mut room) = (element.encoding(), [0; 2 * *PAN_DIGITS.end()]);
    let text = encoding.canonical(wire, encoding.content_len(wire), &mut room).unwrap_or_default();
    let digits: Vec<u8> = text.iter().map(|byte| byte.wrapping_sub(b'0')).collect();
    digits.len() >= CARD_DIGITS_MIN && is_luhn(&digits)
}

/// Whether a byte on the wire is shown as two characters.
const fn is_packed(element: &DataElement) -> bool {
    !matches!(element.encoding(), Encoding::Ascii | Encoding::Ebcdic(_) | Encoding::Hex)
}

/// Whether the element is not public and may hold this, or begin with it, by its type.
fn may_hold(element: &DataElement, wire: &[u8]) -> bool {
    let encoding = element.encoding();
    element.sensitivity() != Sensitivity::Public
        && !is_words(element, wire)
        && encoding.check(element.content_type(), wire, encoding.content_len(wire)).is_ok()
}

/// Whether this is text where the element has none: what is only letters and digits in ASCII is
/// hardly a PIN block, chip data or packed digits with the separator of a track.
fn is_words(element: &DataElement, wire: &[u8]) -> bool {
    is_packed(element)
        && matches!(element.content_type(), ContentType::Binary | ContentType::Track)
        && wire.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b' ')
}

/// Where a value begins that the end of the frame cuts; `None` where it would be too long.
fn cut_value(element: &DataElement, rest: &[u8]) -> Option<usize> {
    match element.length().read(rest) {
        Ok(None) => Some(0),
        Ok(Some((len, count))) => {
            let max = element.max().max(element.encoding().wire_len(element.max()));
            (count <= max).then_some(len)
        }
        // The length itself may be cut.
        Err(kind) => (kind == FieldErrorKind::Truncated).then_some(rest.len()),
    }
}

/// Where PANs and tracks stand behind their length, as the dialect writes them, whatever the
/// bitmaps say. Where the card of the message is known, only its PAN is one: what other digits make
/// up with a right check digit is chance.
fn cards(message: &Message<'_>) -> Vec<Range<usize>> {
    let (spec, frame, known) = (message.spec(), message.frame(), known_pan(message));
    let card = |element: &DataElement, at: usize| {
        let rest = frame.get(at..)?;
        let (start, end, is_cut) = match element.find(rest) {
            Ok(found) => (found.start, found.end, false),
            Err(FieldErrorKind::Truncated) => (cut_value(element, rest)?, rest.len(), true),
            Err(_) => return None,
        };
        let wire = rest.get(start..end).filter(|wire| !is_words(element, wire))?;
        let mut room = [0; SHOWN_MAX_BYTES];
        let value = digits_of(element, wire, &mut room)?;
        let pan = pan_in(element.content_type(), value)?;
        let is_one = match pan.len() < value.len() {
            true => true,
            false => !is_cut && known.as_deref().is_none_or(|known| known == pan),
        };
        is_one.then(|| at + start..at + end)
    };
    let elements = || CARD_ELEMENTS.iter().filter_map(|number| spec.element(*number));
    let places = |element| (0..frame.len()).map(move |at| (element, at));
    let mut cards: Vec<_> =
        elements().flat_map(places).filter_map(|(element, at)| card(element, at)).collect();
    // Where its length is wrong, a track goes on as long as its characters do.
    let bare =
        elements().flat_map(places).filter_map(|(element, at)| bare_track(element, frame, at));
    let of = |at: usize| cards.iter().filter(move |card| card.contains(&at));
    let ends = |bare: &Range<usize>| of(bare.start).map(|card| card.end).min();
    let bare: Vec<_> = bare
        .map(|bare| bare.start..ends(&bare).map_or(bare.end, |end| end.min(bare.end)))
        .collect();
    cards.extend(bare);
    cards
}

/// A track 2 at a place, without a look at its length.
fn bare_track(element: &DataElement, frame: &[u8], at: usize) -> Option<Range<usize>> {
    let (content, encoding) = (element.content_type(), element.encoding());
    let rest = frame.get(at..).filter(|_| content == ContentType::Track)?;
    let is_track = |byte: &&u8| {
        let byte = std::slice::from_ref(*byte);
        encoding.check(content, byte, encoding.content_len(byte)).is_ok()
    };
    let max = encoding.wire_len(TRACK_2_CHARACTERS);
    let len = rest.iter().take(max).take_while(is_track).count();
    let wire = rest.get(..len).filter(|wire| !is_words(element, wire))?;
    let mut room = [0; SHOWN_MAX_BYTES];
    let value = digits_of(element, wire, &mut room)?;
    let pan = pan_in(content, value)?;
    (pan.len() < value.len()).then(|| at..at + len)
}

/// The characters on the wire; packed, an odd number of digits has a zero before it.
fn digits_of<'a>(element: &DataElement, wire: &'a [u8], room: &'a mut [u8]) -> Option<&'a [u8]> {
    let encoding = element.encoding();
    let value = encoding.canonical(wire, encoding.content_len(wire), room)?;
    Some(value.strip_prefix(b"0").filter(|_| is_packed(element)).unwrap_or(value))
}

/// DE2 where it was read right, as was a date behind it: that of another element would hardly be
/// one.
fn known_pan(message: &Message<'_>) -> Option<Vec<u8>> {
    let pan = message.text::<19>(2).filter(|pan| is_pan(pan))?;
    let is_date = |field: Field<'_>| {
        field.element().pattern().is_some_and(|pattern| pattern.digits() >= DATE_DIGITS_MIN)
    };
    message.elements().any(is_date).then(|| pan.to_vec())
}

/// The PAN that a value is, or that stands before the first separator of a track, `^` on track 1.
fn pan_in(content: ContentType, value: &[u8]) -> Option<&[u8]> {
    let is_separator = |byte: &u8| match content {
        ContentType::Track => matches!(byte, b'=' | b'D'),
        _ => *byte == b'^',
    };
    let value = value.strip_prefix(b"B").unwrap_or(value);
    value.split(is_separator).next().filter(|pan| is_pan(pan) && content.accepts(value))
}

/// Bytes of a bitmap.
const fn bitmap_len(spec: &Spec) -> usize {
    match spec.bitmap_encoding() {
        BitmapEncoding::Hex => 16,
        BitmapEncoding::Raw => 8,
    }
}

/// A hexadecimal digit with its highest bit turned over; anything else as it is.
fn with_first_bit_turned(digit: u8) -> u8 {
    let value = char::from(digit).to_digit(16).map(|value| value ^ 8);
    let turned = value.and_then(|value| char::from_digit(value, 16));
    turned.and_then(|turned| u8::try_from(turned).ok()).unwrap_or(digit)
}

/// Whether text has a row of digits that could be a PAN, and nothing but it.
fn holds_pan(text: &[u8]) -> bool {
    text.split(|byte| !byte.is_ascii_digit()).any(is_pan)
}

/// Whether text is a PAN with its check digit.
fn is_pan(text: &[u8]) -> bool {
    let digits: Vec<u8> = text.iter().map(|byte| byte.wrapping_sub(b'0')).collect();
    let may_begin = digits.first().is_some_and(|first| *first != 0);
    PAN_DIGITS.contains(&digits.len()) && may_begin && is_luhn(&digits)
}

/// Whether text holds digits that may be a part of a PAN, and more than these, or hexadecimal
/// digits as a PIN block has them.
fn swallowed_digits(value: &[u8]) -> bool {
    let digits = value.split(|byte| !byte.is_ascii_digit());
    let holds_row = digits.map(<[u8]>::len).any(|len| len >= ROW_DIGITS_MIN && len < value.len());
    let mut blocks = value.split(|byte| !byte.is_ascii_hexdigit());
    let holds_block = blocks.any(|row| {
        row.len() >= HIDDEN_DIGITS_MIN
            && row.iter().any(u8::is_ascii_alphabetic)
            && row.iter().any(u8::is_ascii_digit)
    });
    holds_row || holds_block
}

/// The check digit of ISO/IEC 7812-1, Annex B; false where something is no digit.
fn is_luhn(digits: &[u8]) -> bool {
    let sum = digits.iter().rev().enumerate().try_fold(0_usize, |sum, (place, &digit)| {
        let value = usize::from(digit) * (1 + place % 2);
        (digit <= 9).then_some(sum + value / 10 + value % 10)
    });
    sum.is_some_and(|sum| sum.is_multiple_of(10))
}
