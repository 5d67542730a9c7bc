//! From a frame to a message, in one pass over the frame.

use crate::bitmap::{Bitmaps, ElementSet};
use crate::data_element::{DataElement, Flaw, Found};
use crate::error::{FieldError, FieldErrorKind, FramingError, FramingErrorKind};
use crate::message::{Message, Span};
use crate::mti::Mti;
use crate::spec::Spec;

/// The longest frame that is read or written, in bytes, without any length header.
pub const MAX_FRAME_BYTES: usize = 65_535;

/// What a frame holds: its message, and the first thing wrong with it.
///
/// `Debug` shows the message masked; see [`crate::redact`].
#[derive(Clone)]
pub struct Decoded<'a> {
    /// The elements that could be read.
    pub message: Message<'a>,
    /// The first fault in the order of the frame.
    pub fault: Option<FieldError>,
}

/// Reads a frame (without length header) in a dialect. Nothing is copied or allocated.
///
/// A wrong value does not end the pass: the element counts as absent and later ones are still
/// read, so that a rejection can echo them. Where the end of an element is unknown the pass ends
/// and what was read before stays. Bytes after the last element are a fault of the highest
/// element present.
///
/// # Errors
///
/// Where the MTI or a bitmap cannot be read; nothing of such a frame can be answered.
pub fn decode<'a>(spec: &'a Spec, frame: &'a [u8]) -> Result<Decoded<'a>, FramingError> {
    let mut head = read_head(spec, frame)?;
    let mut decoded = Decoded { message: Message::new(spec, frame, head.mti), fault: None };
    let (message, fault) = (&mut decoded.message, &mut decoded.fault);
    read_elements(message, &mut head, frame, |found| {
        fault.get_or_insert(found);
    });
    Ok(decoded)
}

/// Everything that can be known of a frame, for a person to look at.
#[derive(Clone)]
pub struct Examined<'a> {
    /// The elements that could be read.
    pub message: Message<'a>,
    /// The bitmaps as they are on the wire.
    pub bitmaps: &'a [u8],
    /// Byte offset of the bitmaps in the frame, from 0.
    pub bitmaps_at: usize,
    /// The elements that the bitmaps announce, read or not.
    pub announced: ElementSet,
    /// All faults, in the order of the frame.
    pub faults: Vec<FieldError>,
}

impl Examined<'_> {
    /// The elements that are there and hold what stands for no value in the dialect.
    pub fn absent(&self) -> impl Iterator<Item = &DataElement> {
        // Behind the end of the pass nothing was looked at.
        let read = match self.faults.iter().find(|fault| fault.kind.is_structural()) {
            Some(end) => self.announced.below(end.element),
            None => self.announced,
        };
        let is_faulty = |number| self.faults.iter().any(|fault| fault.element == number);
        read.iter()
            .filter(move |&number| !self.message.has(number) && !is_faulty(number))
            .filter_map(|number| self.message.spec().element(number))
    }
}

/// Reads a frame as [`decode`] does, and keeps every fault.
///
/// # Errors
///
/// As [`decode`].
pub fn examine<'a>(spec: &'a Spec, frame: &'a [u8]) -> Result<Examined<'a>, FramingError> {
    let mut head = read_head(spec, frame)?;
    let mut message = Message::new(spec, frame, head.mti);
    let mut faults = Vec::new();
    read_elements(&mut message, &mut head, frame, |found| faults.push(found));
    let bitmaps = frame.get(head.bitmaps_at..head.elements_at).unwrap_or_default();
    let Head { bitmaps_at, announced, .. } = head;
    Ok(Examined { message, bitmaps, bitmaps_at, announced, faults })
}

/// The message type of a frame whose bitmap cannot be read.
#[must_use]
pub fn mti(spec: &Spec, frame: &[u8]) -> Option<Mti> {
    spec.mti_encoding().read(frame).ok().map(|(mti, _)| mti)
}

/// What stands before the elements of a frame.
struct Head {
    mti: Mti,
    announced: ElementSet,
    /// Byte offset of the bitmaps.
    bitmaps_at: usize,
    /// Byte offset of the first element.
    elements_at: usize,
}

#[inline]
fn read_head(spec: &Spec, frame: &[u8]) -> Result<Head, FramingError> {
    if frame.len() > MAX_FRAME_BYTES {
        let kind = FramingErrorKind::FrameTooLong;
        return Err(FramingError { offset: MAX_FRAME_BYTES, kind });
    }
    let (mti, bitmaps_at) = spec.mti_encoding().read(frame)?;
    let (announced, elements_at) = spec.bitmaps().read(frame, bitmaps_at)?;
    Ok(Head { mti, announced, bitmaps_at, elements_at })
}

/// Reads the elements into `message` and tells `fault` what is wrong with them.
#[inline]
fn read_elements(
    message: &mut Message<'_>,
    head: &mut Head,
    frame: &[u8],
    mut fault: impl FnMut(FieldError),
) {
    let (spec, at, announced) = (message.spec(), head.elements_at, &mut head.announced);
    let mut rest = frame.get(at..).unwrap_or_default();
    let mut readable = *announced;
    let mut walk = announced.iter();
    while let Some(number) = walk.next() {
        let offset = frame.len() - rest.len();
        let element = match spec.element(number) {
            Some(element) => element.find(rest),
            None => match third_bitmap(spec, number, rest) {
                Ok((third, len)) => {
                    rest = rest.get(len..).unwrap_or_default();
                    readable.remove(number);
                    readable = readable.union(third);
                    *announced = announced.union(third);
                    walk.follow_with(third);
                    continue;
                }
                Err(kind) => Err(kind),
            },
        };
        let kind = match element {
            Ok(found) => {
                rest = rest.get(found.end..).unwrap_or_default();
                message.locate(number, span(offset, &found));
                match found.flaw {
                    None => continue,
                    Some(Flaw::Absent) => {
                        readable.remove(number);
                        continue;
                    }
                    Some(Flaw::Wrong(kind)) => kind,
                }
            }
            Err(kind) => kind,
        };
        fault(FieldError { element: number, offset, kind });
        message.doubt();
        readable.remove(number);
        if kind.is_structural() {
            message.set_readable(readable.below(number));
            return;
        }
    }
    message.set_readable(readable);
    if !rest.is_empty() {
        message.doubt();
        fault(FieldError {
            element: announced.last().unwrap_or(1),
            offset: frame.len() - rest.len(),
            kind: FieldErrorKind::TrailingBytes,
        });
    }
}

/// The third bitmap, where it stands in the place of an element.
#[cold]
fn third_bitmap(
    spec: &Spec,
    number: u8,
    rest: &[u8],
) -> Result<(ElementSet, usize), FieldErrorKind> {
    match number {
        Bitmaps::THIRD_PLACE => spec.bitmaps().read_third(rest),
        _ => Err(FieldErrorKind::NotDefined),
    }
}

fn span(offset: usize, found: &Found) -> Span {
    // Both fit: a frame has at most `MAX_FRAME_BYTES`, and no digit count that is not too long
    // passes what a dialect can say.
    let start = u16::try_from(offset + found.start).unwrap_or_default();
    Span { start, units: u16::try_from(found.units).unwrap_or_default() }
}
