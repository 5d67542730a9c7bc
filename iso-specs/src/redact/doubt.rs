//! What may be shown of a message with a fault to the person who looks for it.
//!
//! What stands before the first fault was read by the same rules as ever. But a bit too many or too
//! few in the bitmap lets public elements take the digits of a PAN or of a track long before
//! something is wrong. So nothing is shown there that overlaps what looks like one: digits with a
//! right check digit behind their own count, or before the separator of a track. Nor is a value
//! that itself looks like a PAN, or like a part of a PIN block in hexadecimal digits.

use std::ops::{Range, RangeInclusive};

use super::{PAN_MASKED_MIN_DIGITS, SHOWN_MAX_BYTES};
use crate::bitmap::BitmapEncoding;
use crate::data_element::{ContentType, Sensitivity};
use crate::decode::Examined;
use crate::length::Length;
use crate::message::{Field, Message};

/// Digits of a PAN (ISO/IEC 7812).
const PAN_DIGITS: RangeInclusive<usize> = 12..=19;
/// A value of so many hexadecimal digits with letters among them may be a part of a PIN block.
const BLOCK_DIGITS_MIN: usize = 8;

/// A date or time of fewer digits may be chance.
const DATE_DIGITS_MIN: usize = 6;
/// The longest track 2: its digits may go on where its count says that they end.
const TRACK_2_CHARACTERS: usize = 37;
/// The separator of a track, as a nibble.
const SEPARATOR: u8 = 0x0d;
/// Neither digit nor separator.
const OTHER: u8 = 0x0f;

/// Where the first fault is, and where a PAN may be.
pub(super) struct Doubt {
    fault_at: usize,
    pans: Vec<Range<usize>>,
}

impl Doubt {
    /// `None` of a message without a fault.
    pub(super) fn of(examined: &Examined<'_>) -> Option<Self> {
        let fault_at = examined.faults.iter().map(|fault| fault.offset).min()?;
        let frame = examined.message.frame();
        let text: Vec<u8> = frame.iter().map(|byte| text_digit(*byte)).collect();
        let nibbles: Vec<u8> = frame.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]).collect();
        let mut rows = rows_in(&text, frame, 1);
        rows.extend(rows_in(&nibbles, frame, 2));
        for track in whole_tracks(&examined.message, fault_at) {
            keep_whole(&mut rows, &track);
        }
        // Where the card of the message is known, only its PAN is one: what other digits make up
        // with a right check digit is chance.
        let tracks = rows.iter().filter(|row| row.is_track);
        let mut known: Vec<Vec<u8>> = tracks.map(|row| row.pan.to_vec()).collect();
        known.extend(pan_of(&examined.message));
        let dates = dates_of(&examined.message);
        let is_pan = |row: &Row<'_>| match known.is_empty() {
            true => dates.iter().all(|date| is_apart(date, &row.bytes)),
            false => known.iter().any(|pan| pan == row.pan),
        };
        let pans = rows.iter().filter(|row| row.is_track || is_pan(row));
        Some(Self { fault_at, pans: pans.map(|row| row.bytes.clone()).collect() })
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
        let is_text = !element.content_type().is_binary();
        let Some(start) = examined.message.offset(element.number()) else { return false };
        let range = start..start + field.wire().len();
        let mut room = [0; SHOWN_MAX_BYTES];
        let value = field.canonical(&mut room);
        element.sensitivity() == Sensitivity::Public
            && is_text
            && field.is_plain()
            && start < self.fault_at
            && self.is_clear(range)
            && value.is_some_and(|value| !holds_pan(value) && !is_block(value))
    }

    fn is_clear(&self, range: Range<usize>) -> bool {
        self.pans.iter().all(|pan| is_apart(pan, &range))
    }
}

/// The digit that a byte of text is, in ASCII or EBCDIC.
const fn text_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' | 0xf0..=0xf9 => byte & 0x0f,
        b'=' | b'D' | 0x7e => SEPARATOR,
        _ => OTHER,
    }
}

const fn is_apart(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.end <= other.start || other.end <= one.start
}

/// DE2, where it was read and its check digit is right.
fn pan_of(message: &Message<'_>) -> Option<Vec<u8>> {
    let pan = message.text::<19>(2)?;
    let digits: Vec<u8> = pan.iter().map(|digit| digit.wrapping_sub(b'0')).collect();
    is_luhn(&digits).then_some(digits)
}

/// Where elements lie that are dates or times: digits of a PAN would hardly be one.
fn dates_of(message: &Message<'_>) -> Vec<Range<usize>> {
    let is_date = |field: &Field<'_>| {
        field.element().pattern().is_some_and(|pattern| pattern.digits() >= DATE_DIGITS_MIN)
    };
    let range = |field: Field<'_>| {
        let start = message.offset(field.element().number())?;
        Some(start..start + field.wire().len())
    };
    message.elements().filter(is_date).filter_map(range).collect()
}

/// Tracks that were read, and behind which, beyond the next element, something was read right that
/// would hardly be if their count were wrong: digits of a number, or a length.
fn whole_tracks(message: &Message<'_>, fault_at: usize) -> Vec<Range<usize>> {
    let places = message.elements().filter_map(|field| {
        let start = message.offset(field.element().number())?;
        Some((field, start..start + field.wire().len()))
    });
    let read: Vec<_> = places.collect();
    let is_checked = |(field, range): &(Field<'_>, Range<usize>)| {
        let is_number = matches!(
            field.element().content_type(),
            ContentType::Digits | ContentType::LettersOrDigits | ContentType::SignedDigits
        );
        let has_length = field.element().length() != Length::Fixed;
        range.start < fault_at && (is_number || has_length)
    };
    let places = read.iter().enumerate();
    let tracks =
        places.filter(|(_, (field, _))| field.element().sensitivity() == Sensitivity::Track);
    let whole = tracks.filter(|(index, _)| read.iter().skip(index + 2).any(is_checked));
    whole.map(|(_, (_, range))| range.clone()).collect()
}

/// Of the rows whose separator lies in a track that is whole, only the one that begins with it is
/// left, and it ends with it.
fn keep_whole(rows: &mut Vec<Row<'_>>, track: &Range<usize>) {
    let begins = |row: &Row<'_>| row.is_track && row.bytes.start == track.start;
    if !rows.iter().any(begins) {
        return;
    }
    rows.retain(|row| !row.is_track || begins(row) || is_apart(&row.bytes, track));
    for row in rows.iter_mut().filter(|row| begins(row)) {
        row.bytes.end = row.bytes.end.min(track.end);
    }
}

/// Digits with a right check digit behind their count, or before a separator.
struct Row<'a> {
    pan: &'a [u8],
    is_track: bool,
    /// Where it lies in the frame, with what follows the separator.
    bytes: Range<usize>,
}

/// All rows of digits that look like a PAN; `per_byte` digits make a byte of the frame.
fn rows_in<'a>(digits: &'a [u8], frame: &[u8], per_byte: usize) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for start in 0..digits.len() {
        let may_begin = digits.get(start).is_some_and(|first| (1..=9).contains(first));
        for count in may_begin.then_some(PAN_DIGITS).into_iter().flatten() {
            let Some(pan) = digits.get(start..start + count) else { break };
            let behind = digits.get(start + count..).unwrap_or_default();
            let is_track = behind.first() == Some(&SEPARATOR);
            if !is_track && !is_counted(digits, frame, (start, count), per_byte) {
                continue;
            }
            let room = TRACK_2_CHARACTERS.saturating_sub(count + 1);
            let rest = behind.iter().skip(1).take(room).take_while(|digit| **digit <= 9).count();
            let end = start + count + if is_track { 1 + rest } else { 0 };
            let bytes = start / per_byte..end.div_ceil(per_byte);
            // Of text the halves of bytes are no digits.
            let lying = frame.get(bytes.clone()).unwrap_or_default();
            let is_text = per_byte > 1 && lying.iter().all(|byte| matches!(byte, 0x20..=0x7e));
            if is_luhn(pan) && !is_text {
                rows.push(Row { pan, is_track, bytes });
            }
        }
    }
    rows
}

/// Whether the count of the digits stands before them: in two digits, in one packed byte, or in a
/// binary one, also of the bytes that they take.
fn is_counted(
    digits: &[u8],
    frame: &[u8],
    (start, count): (usize, usize),
    per_byte: usize,
) -> bool {
    let is_count = |number: usize| number == count || number == count.div_ceil(per_byte);
    let two = |tens: u8, ones: u8| tens <= 9 && ones <= 9 && is_count((tens * 10 + ones).into());
    // An odd number of packed digits has a nibble that fills up before them.
    let before = start / per_byte;
    let before = frame.get(..before).unwrap_or_default();
    let in_byte =
        before.last().is_some_and(|&byte| two(byte >> 4, byte & 0x0f) || is_count(byte.into()));
    let in_text = match (per_byte, before) {
        (1, _) => digits.get(..start).unwrap_or_default().last_chunk(),
        (_, [.., tens, ones]) => Some(&[text_digit(*tens), text_digit(*ones)]),
        _ => None,
    };
    in_byte || in_text.is_some_and(|&[tens, ones]| two(tens, ones))
}

/// Whether text has a row of digits that could be a PAN, and nothing but it.
fn holds_pan(text: &[u8]) -> bool {
    text.split(|byte| !byte.is_ascii_digit()).any(|row| {
        let digits: Vec<u8> = row.iter().map(|byte| byte & 0x0f).collect();
        (PAN_MASKED_MIN_DIGITS..=*PAN_DIGITS.end()).contains(&row.len())
            && matches!(row, [b'2'..=b'6', ..])
            && is_luhn(&digits)
    })
}

fn is_block(value: &[u8]) -> bool {
    value.len() >= BLOCK_DIGITS_MIN
        && value.iter().all(u8::is_ascii_hexdigit)
        && value.iter().any(u8::is_ascii_alphabetic)
        && value.iter().any(u8::is_ascii_digit)
}

/// The check digit of ISO/IEC 7812-1, Annex B; false where something is no digit.
fn is_luhn(digits: &[u8]) -> bool {
    let sum = digits.iter().rev().enumerate().try_fold(0_usize, |sum, (place, &digit)| {
        let value = usize::from(digit) * (1 + place % 2);
        (digit <= 9).then_some(sum + value / 10 + value % 10)
    });
    sum.is_some_and(|sum| sum.is_multiple_of(10))
}
