//! Every error of the crate except those of [`crate::tlv`].
//!
//! No text ever holds the value of a data element: errors go to logs and peers.

use std::fmt;

use thiserror::Error;

use crate::toml_keys::{Mistake, Mistakes};

/// The frame has no readable MTI or bitmap, so nothing of it can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{kind} at byte {offset}")]
pub struct FramingError {
    /// Byte offset in the frame, from 0.
    pub offset: usize,
    /// What is wrong there.
    pub kind: FramingErrorKind,
}

/// What makes a frame unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FramingErrorKind {
    /// The frame is longer than [`crate::MAX_FRAME_BYTES`].
    #[error("frame longer than the limit")]
    FrameTooLong,
    /// The frame ends inside the message type identifier.
    #[error("MTI truncated")]
    MtiTruncated,
    /// A character of the message type identifier is no digit.
    #[error("MTI is not four digits")]
    MtiNotDigits,
    /// The frame ends inside the primary bitmap, or inside another one that is announced.
    #[error("bitmap truncated")]
    BitmapTruncated,
    /// A character of a hexadecimal bitmap is no hexadecimal digit.
    #[error("bitmap is not hexadecimal")]
    BitmapNotHex,
}

/// The first thing wrong with the data elements of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("DE{element}: {kind} at byte {offset}")]
pub struct FieldError {
    /// Number of the data element, 1 to 192. 1 stands for the bitmap: bytes follow a bitmap that
    /// announces no element.
    pub element: u8,
    /// Byte offset in the frame where the element begins, with its length prefix, from 0.
    pub offset: usize,
    /// What is wrong with it.
    pub kind: FieldErrorKind,
}

/// What can be wrong with a data element of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FieldErrorKind {
    /// The dialect does not define the element, so its end is unknown. Ends the pass.
    #[error("not defined by the dialect")]
    NotDefined,
    /// The length prefix is not a number. Ends the pass.
    #[error("length prefix is not a number")]
    BadLengthPrefix,
    /// The frame ends inside the element. Ends the pass.
    #[error("truncated")]
    Truncated,
    /// Bytes are left after the last element.
    #[error("bytes left over after the last element")]
    TrailingBytes,
    /// Longer than the dialect allows.
    #[error("too long")]
    TooLong,
    /// Shorter than the dialect allows.
    #[error("too short")]
    TooShort,
    /// A character that the element's type does not allow.
    #[error("character not allowed by the type")]
    BadCharacter,
    /// A length that no whole number of bytes has, such as an odd count of hexadecimal digits.
    #[error("not a whole number of bytes")]
    PartialByte,
    /// Not the date or time that the element's pattern asks for.
    #[error("not a date or time")]
    BadPattern,
    /// The unused nibble of an odd number of packed digits holds something else than it should.
    #[error("unused nibble is not what fills up")]
    UnusedNibble,
    /// The wrapper around the value has another id, or its length is not what follows it.
    #[error("wrapper with another id or length")]
    BadWrapper,
    /// The third bitmap in the place of element 65 is not hexadecimal. Ends the pass.
    #[error("bitmap is not hexadecimal")]
    BadBitmap,
}

impl FieldErrorKind {
    /// True where the end of the element is unknown and later elements cannot be found.
    #[must_use]
    pub const fn is_structural(self) -> bool {
        matches!(self, Self::NotDefined | Self::BadLengthPrefix | Self::Truncated | Self::BadBitmap)
    }
}

/// A message that the dialect cannot carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("DE{element}: {kind}")]
pub struct EncodeError {
    /// Number of the data element.
    pub element: u8,
    /// Why it cannot be sent.
    pub kind: EncodeErrorKind,
}

/// Why a data element cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EncodeErrorKind {
    /// The dialect does not define the element, or its number is not 2 to 192.
    #[error("not defined by the dialect")]
    NotDefined,
    /// Longer than the dialect allows.
    #[error("too long")]
    TooLong,
    /// Shorter than the dialect allows.
    #[error("too short")]
    TooShort,
    /// A character that the element's type does not allow.
    #[error("character not allowed by the type")]
    BadCharacter,
    /// Not the date or time that the element's pattern asks for.
    #[error("not a date or time")]
    BadPattern,
    /// With this element the frame would pass [`crate::MAX_FRAME_BYTES`].
    #[error("frame longer than the limit")]
    FrameTooLong,
    /// The element was taken over from a message in another dialect.
    #[error("taken over from a message in another dialect")]
    OtherDialect,
}

/// Every mistake of a dialect file, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecErrors(Vec<Mistake>);

impl SpecErrors {
    /// `None` where there is no mistake.
    pub(crate) fn new(mistakes: Mistakes<'_>) -> Option<Self> {
        Some(mistakes.into_list()).filter(|found| !found.is_empty()).map(Self)
    }

    /// For a file that could not be read although nothing was found wrong.
    pub(crate) fn unreadable() -> Self {
        let expected = "cannot be read".to_owned();
        let (place, pointer) = ("file".to_owned(), String::new());
        Self(vec![Mistake { line: None, place, pointer, expected }])
    }

    /// The mistakes; at least one.
    #[must_use]
    pub fn mistakes(&self) -> &[Mistake] {
        &self.0
    }
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mistake(s) in the dialect file", self.0.len())?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for SpecErrors {}
