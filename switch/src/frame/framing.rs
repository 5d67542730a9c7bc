//! Where a frame ends: a length before it, or an end character after it.

use std::fmt;

use super::{FrameError, Searched};

/// How the frames of a link are told apart. A length counts the fixed header and the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// 2 bytes, big-endian.
    Binary2,
    /// 2 bytes, big-endian, which count themselves.
    Binary2Inclusive,
    /// 3 bytes, big-endian.
    Binary3,
    /// 4 bytes, big-endian.
    Binary4,
    /// 4 ASCII digits.
    Ascii4,
    /// 4 ASCII hexadecimal digits, read in either case, written in upper case.
    Hex4,
    /// 4 digits in 2 bytes.
    Bcd2,
    /// Visa: 2 bytes, big-endian, then 2 bytes that are ignored, and written as zeros.
    VisaVml,
    /// No length: STX (02), the message, ETX (03).
    StxEtx,
}

/// What is known of the next frame.
pub(super) struct Extent {
    /// Bytes before it.
    pub(super) before: usize,
    /// Its own bytes.
    pub(super) bytes: usize,
    /// Bytes after it.
    pub(super) after: usize,
}

const STX: u8 = 0x02;
const ETX: u8 = 0x03;

impl Framing {
    /// All of them, with their names in a configuration.
    pub const ALL: [(&str, Framing); 9] = [
        ("binary-2", Framing::Binary2),
        ("binary-2-inclusive", Framing::Binary2Inclusive),
        ("binary-3", Framing::Binary3),
        ("binary-4", Framing::Binary4),
        ("ascii-4", Framing::Ascii4),
        ("hex-4", Framing::Hex4),
        ("bcd-2", Framing::Bcd2),
        ("visa-vml", Framing::VisaVml),
        ("stx-etx", Framing::StxEtx),
    ];

    /// From its name in a configuration.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Framing> {
        Framing::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, framing)| framing)
    }

    /// Bytes that stand before a frame.
    const fn bytes_before(self) -> usize {
        match self {
            Framing::StxEtx => 1,
            Framing::Binary2 | Framing::Binary2Inclusive | Framing::Bcd2 => 2,
            Framing::Binary3 => 3,
            Framing::Binary4 | Framing::Ascii4 | Framing::Hex4 | Framing::VisaVml => 4,
        }
    }

    /// Where the frame at the head of `input` lies; `None`: more must be read to know.
    #[inline]
    pub(super) fn extent(
        self,
        input: &[u8],
        bytes_max: usize,
        searched: &mut Searched,
    ) -> Result<Option<Extent>, FrameError> {
        let before = self.bytes_before();
        let Some((head, rest)) = input.split_at_checked(before) else { return Ok(None) };
        if self == Framing::StxEtx {
            return end_of(head, rest, bytes_max, searched);
        }
        let bytes = self.length(head).ok_or(FrameError::BadLength(self))?;
        match bytes > bytes_max {
            true => Err(FrameError::Oversize { bytes, bytes_max }),
            false => Ok(Some(Extent { before, bytes, after: 0 })),
        }
    }

    /// The length in the bytes before a frame; `None` where they are none.
    #[inline]
    fn length(self, head: &[u8]) -> Option<usize> {
        match self {
            Framing::Binary2 | Framing::Binary3 | Framing::Binary4 => Some(number(head)),
            // Some count the length itself in a keep-alive, and some do not.
            Framing::Binary2Inclusive => match number(head) {
                0 => Some(0),
                counted => counted.checked_sub(self.bytes_before()),
            },
            Framing::VisaVml => head.first_chunk::<2>().map(|length| number(length)),
            Framing::Ascii4 => digits(head.iter().copied(), 10),
            Framing::Hex4 => digits(head.iter().copied(), 16),
            // A nibble that is no digit becomes a character behind `9`.
            Framing::Bcd2 => {
                let nibbles = head.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
                digits(nibbles.map(|nibble| b'0' + nibble), 10)
            }
            Framing::StxEtx => None,
        }
    }

    /// Makes room for what stands before a frame.
    pub(super) fn begin(self, out: &mut Vec<u8>) {
        out.extend_from_slice([0; 4].get(..self.bytes_before()).unwrap_or_default());
    }

    /// Where the frame begins in what [`Framing::begin`] and others appended.
    pub(super) fn frame(self, appended: &mut [u8]) -> &mut [u8] {
        appended.get_mut(self.bytes_before()..).unwrap_or_default()
    }

    /// Writes what stands before a frame into its room at `start`, and what follows the frame,
    /// which ends `out`. `None` where the length cannot say so much.
    pub(super) fn finish(self, out: &mut Vec<u8>, start: usize) -> Option<()> {
        let (room, frame) = out.get_mut(start..)?.split_at_mut_checked(self.bytes_before())?;
        let head = self.head(frame.len())?;
        room.copy_from_slice(head.get(..room.len())?);
        if self == Framing::StxEtx {
            out.push(ETX);
        }
        Some(())
    }

    /// What stands before a frame: as many of these bytes as that takes.
    #[inline]
    fn head(self, bytes: usize) -> Option<[u8; 4]> {
        let short = |length: usize| {
            let [high, low] = u16::try_from(length).ok()?.to_be_bytes();
            Some([high, low, 0, 0])
        };
        let long = || u32::try_from(bytes).ok().map(u32::to_be_bytes);
        match self {
            Framing::StxEtx => Some([STX, 0, 0, 0]),
            Framing::Binary2 | Framing::VisaVml => short(bytes),
            Framing::Binary2Inclusive => short(bytes + self.bytes_before()),
            Framing::Binary3 => match long()? {
                [0, top, high, low] => Some([top, high, low, 0]),
                _ => None,
            },
            Framing::Binary4 => long(),
            Framing::Ascii4 => decimal(bytes).map(|digits| digits.map(|digit| b'0' + digit)),
            Framing::Hex4 => u16::try_from(bytes).ok().map(|length| {
                [length >> 12, length >> 8, length >> 4, length].map(|nibble| {
                    HEX_DIGITS.get(usize::from(nibble & 0x0f)).copied().unwrap_or_default()
                })
            }),
            Framing::Bcd2 => {
                let [a, b, c, d] = decimal(bytes)?;
                Some([a << 4 | b, c << 4 | d, 0, 0])
            }
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Framing::ALL.into_iter().find(|(_, framing)| framing == self);
        f.write_str(named.map_or("", |(name, _)| name))
    }
}

const HEX_DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// The extent of what stands between STX and ETX. The message is text, so that no other ETX is
/// in it.
fn end_of(
    head: &[u8],
    rest: &[u8],
    bytes_max: usize,
    searched: &mut Searched,
) -> Result<Option<Extent>, FrameError> {
    if head != [STX] {
        return Err(FrameError::BadLength(Framing::StxEtx));
    }
    let before = std::mem::replace(&mut searched.bytes, 0);
    let end = rest.iter().take(bytes_max + 1).skip(before).position(|byte| *byte == ETX);
    match end.map(|bytes| before + bytes) {
        Some(bytes) => Ok(Some(Extent { before: head.len(), bytes, after: 1 })),
        None if rest.len() > bytes_max => Err(FrameError::Endless { bytes_max }),
        None => {
            searched.bytes = rest.len();
            Ok(None)
        }
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn digits(mut characters: impl Iterator<Item = u8>, radix: u32) -> Option<usize> {
    let number = characters.try_fold(0, |number, character| {
        Some(number * radix + char::from(character).to_digit(radix)?)
    });
    usize::try_from(number?).ok()
}

/// The four digits of a number that has no more.
fn decimal(number: usize) -> Option<[u8; 4]> {
    let digit = |place: usize| u8::try_from(number / place % 10).unwrap_or_default();
    (number <= 9_999).then(|| [1_000, 100, 10, 1].map(digit))
}
