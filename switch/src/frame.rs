//! Frames on the wire. Pure: bytes in, frames out.
//!
//! A frame is a fixed header, if the link has one, and a message. A frame of length zero, or with
//! nothing behind its header, is a keep-alive: it is skipped, and never answered.

mod framing;
mod header;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

pub use framing::Framing;
pub use header::Header;

/// What the frames of a link look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameFormat {
    /// How they are told apart.
    pub framing: Framing,
    /// What stands before each message.
    pub header: Header,
}

impl fmt::Display for FrameFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "framing {}, {}", self.framing, self.header)
    }
}

/// A frame as it came. It may hold card data: there is no `Debug`.
pub struct Frame {
    /// Its fixed header; empty where the link has none.
    pub header: Bytes,
    /// Its message.
    pub message: Bytes,
}

/// What makes it impossible to go on reading. No text holds anything of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame is longer than the link allows.
    #[error("a frame of {bytes} bytes is above the limit of {bytes_max}")]
    Oversize {
        /// Its length, header and message together.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// No end after as many bytes as the link allows.
    #[error("a frame has no end within the limit of {bytes_max} bytes")]
    Endless {
        /// The limit, header and message together.
        bytes_max: usize,
    },
    /// What stands before a frame is not what the framing says.
    #[error("what stands before a frame does not fit framing {0}")]
    BadLength(Framing),
    /// A frame is shorter than its header, or the header too short by its own length.
    #[error("a frame is too short for its {0}")]
    BadHeader(Header),
}

impl Frame {
    /// A frame whose borders are known: all of `bytes`.
    ///
    /// # Errors
    /// If they are too short for the header.
    pub fn whole(mut bytes: Bytes, header: Header) -> Result<Frame, FrameError> {
        let header = header.split(&mut bytes)?;
        Ok(Frame { header, message: bytes })
    }
}

/// How far the input was searched for the end of its first frame. Whoever keeps it with an input
/// that grows has no byte searched twice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Searched {
    /// Bytes behind what stands before the frame.
    bytes: usize,
}

/// Takes the next complete frame out of `input`; see [`next_from`].
///
/// # Errors
/// Where the stream cannot be read any further.
#[inline]
pub fn next(
    input: &mut BytesMut,
    format: FrameFormat,
    bytes_max: usize,
) -> Result<Option<Frame>, FrameError> {
    next_from(input, format, bytes_max, &mut Searched::default())
}

/// Takes the next complete frame out of `input`; keep-alives are skipped. `None`: more must be
/// read first. A frame may have `bytes_max` bytes, header and message together. `searched` is of
/// the same input, which only grew since.
///
/// # Errors
/// Where the stream cannot be read any further.
#[inline]
pub fn next_from(
    input: &mut BytesMut,
    format: FrameFormat,
    bytes_max: usize,
    searched: &mut Searched,
) -> Result<Option<Frame>, FrameError> {
    while let Some(extent) = format.framing.extent(input, bytes_max, searched)? {
        if input.len() < extent.before + extent.bytes + extent.after {
            break;
        }
        input.advance(extent.before);
        // A copy: a request that waits must not keep all that was read with it.
        let frame = Bytes::copy_from_slice(input.get(..extent.bytes).unwrap_or_default());
        input.advance(extent.bytes);
        input.advance(extent.after);
        if extent.bytes == 0 {
            continue;
        }
        let frame = Frame::whole(frame, format.header)?;
        // A message that the network sends back says so in its header.
        if !frame.message.is_empty() || format.header.reject_code(&frame.header).is_some() {
            return Ok(Some(frame));
        }
    }
    Ok(None)
}

/// Appends the frame of a reply: the header of its request, turned round, then what `write`
/// appends. `None` if it is longer than the framing can say; nothing was appended then.
///
/// # Errors
/// As of `write`; nothing was appended then.
pub fn append<E>(
    out: &mut Vec<u8>,
    format: FrameFormat,
    header: &[u8],
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Option<()>, E> {
    let start = out.len();
    format.framing.begin(out);
    out.extend_from_slice(header);
    let written = write(out);
    let finished = written.as_ref().ok().and_then(|()| {
        let frame = format.framing.frame(out.get_mut(start..)?);
        format.header.turn_round(frame)?;
        format.framing.finish(out, start)
    });
    if finished.is_none() {
        out.truncate(start);
    }
    written.map(|()| finished)
}
