//! The fixed header between the length and the message, and its way back.

use std::fmt;

use bytes::Bytes;

use super::FrameError;

/// The fixed header of a link's messages. A reply carries the header of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// None.
    None,
    /// 5 bytes: identifier, destination (2), source (2). A reply swaps the two.
    Tpdu,
    /// Visa BASE I, 22 bytes or as many as its first byte says: length (1), header format (1),
    /// text format (1), total length (2), destination (3), source (3), round-trip information
    /// (1), flags (2), status (3), batch number (1), reserved (3), user information (1). A reply
    /// swaps the stations and has a total length of its own.
    BaseI,
    /// So many bytes, which return as they came.
    Echo(u8),
}

const TPDU_BYTES: usize = 5;
const BASE_I_BYTES: usize = 22;
/// A BASE I header with a reject code: bit map of its further fields (2), reject code (2).
const BASE_I_REJECT_BYTES: usize = 26;
/// Of the first byte of that bit map.
const REJECT_BIT: u8 = 0x80;

impl Header {
    /// The names in a configuration.
    pub const NAMES: &str = "\"none\", \"tpdu\", \"base-i\" or \"echo\"";

    /// Cuts the header off the head of a frame.
    #[inline]
    pub(super) fn split(self, frame: &mut Bytes) -> Result<Bytes, FrameError> {
        let bytes = match self {
            Header::None => return Ok(Bytes::new()),
            Header::Tpdu => TPDU_BYTES,
            Header::BaseI => match frame.first().copied().map_or(0, usize::from) {
                said if said < BASE_I_BYTES => return Err(FrameError::BadHeader(self)),
                said => said,
            },
            Header::Echo(bytes) => bytes.into(),
        };
        match bytes > frame.len() {
            true => Err(FrameError::BadHeader(self)),
            false => Ok(frame.split_to(bytes)),
        }
    }

    /// Makes the header at the head of a reply's frame that of a reply. `None` where the frame is
    /// longer than it can say.
    #[inline]
    pub(super) fn turn_round(self, frame: &mut [u8]) -> Option<()> {
        let total = frame.len();
        match (self, frame) {
            (Header::Tpdu, [_, a1, a2, b1, b2, ..]) => {
                std::mem::swap(a1, b1);
                std::mem::swap(a2, b2);
            }
            (Header::BaseI, [_, _, _, high, low, a1, a2, a3, b1, b2, b3, ..]) => {
                [*high, *low] = u16::try_from(total).ok()?.to_be_bytes();
                std::mem::swap(a1, b1);
                std::mem::swap(a2, b2);
                std::mem::swap(a3, b3);
            }
            _ => {}
        }
        Some(())
    }

    /// The four digits of the reject code, where the header says that the network sends one of
    /// our messages back. It is no request: nobody waits for an answer.
    #[must_use]
    pub fn reject_code(self, header: &[u8]) -> Option<u16> {
        let is_long = self == Header::BaseI && header.len() >= BASE_I_REJECT_BYTES;
        match header.get(BASE_I_BYTES..BASE_I_REJECT_BYTES)? {
            [map, _, high, low] if is_long && map & REJECT_BIT != 0 => {
                Some(u16::from_be_bytes([*high, *low]))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Header::None => f.write_str("no header"),
            Header::Tpdu => f.write_str("header tpdu"),
            Header::BaseI => f.write_str("header base-i"),
            Header::Echo(bytes) => write!(f, "header of {bytes} bytes"),
        }
    }
}
