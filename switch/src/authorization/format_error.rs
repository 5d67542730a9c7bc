//! Why a message cannot be processed: the data element at fault, which the peer is told (reason
//! 9904), and what is wrong with it, which only the log tells.

use iso_specs::{FieldError, FieldErrorKind};

/// The message cannot be processed because of this data element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatError {
    /// Number of the data element.
    pub element: u8,
    /// What is wrong with it.
    pub fault: FormatFault,
}

/// What is wrong with a data element. No text of it holds anything of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatFault {
    /// The element must be there.
    #[error("missing")]
    Missing,
    /// The decoder could not read it.
    #[error("{kind}")]
    Unreadable {
        /// Why not.
        kind: FieldErrorKind,
        /// Byte offset in the frame where the element begins, from 0.
        offset: usize,
    },
    /// It was read, and no rule knows such a value.
    #[error("not what it may be")]
    Value,
    /// DE35 has another PAN than DE2.
    #[error("another PAN than in DE2")]
    OtherPan,
    /// DE23 has another sequence number than the chip (5F34).
    #[error("another sequence number than in 5F34")]
    OtherSequence,
    /// There is chip data, and by DE22 no chip was read.
    #[error("chip data, and by DE22 no chip was read")]
    NoChipRead,
    /// The chip data is no BER-TLV, or has a tag that is read twice or in a wrong length.
    #[error("chip data that cannot be read")]
    ChipData,
    /// DE90 names no request, or more than one.
    #[error("names no request, or more than one")]
    Original,
}

impl FormatError {
    /// An element that must be there.
    #[must_use]
    pub const fn missing(element: u8) -> FormatError {
        FormatError { element, fault: FormatFault::Missing }
    }

    /// An element whose value no rule knows.
    #[must_use]
    pub const fn value(element: u8) -> FormatError {
        FormatError { element, fault: FormatFault::Value }
    }

    /// DE90, where it does not say which request is meant.
    #[must_use]
    pub const fn original() -> FormatError {
        FormatError { element: 90, fault: FormatFault::Original }
    }
}

impl FormatFault {
    /// Byte offset in the frame where the element begins, where the decoder says it.
    #[must_use]
    pub const fn offset(self) -> Option<usize> {
        match self {
            FormatFault::Unreadable { offset, .. } => Some(offset),
            _ => None,
        }
    }
}

impl From<FieldError> for FormatError {
    fn from(error: FieldError) -> FormatError {
        let FieldError { element, kind, offset } = error;
        FormatError { element, fault: FormatFault::Unreadable { kind, offset } }
    }
}
