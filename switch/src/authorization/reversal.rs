//! Reversals 0400 and 0420: which original they speak of, and what is answered.

use iso_specs::{Message, Mti};

use super::request::{FormatError, required};
use super::response_code::Reason;

/// DE90, the elements by which the original is known. Its acquirer and forwarder are not read:
/// DE32 of the reversal says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginalElements {
    /// Message type of the original.
    pub mti: Mti,
    /// Its DE11.
    pub stan: [u8; 6],
    /// Its DE7: MMDDhhmmss.
    pub transmission_time: [u8; 10],
}

impl OriginalElements {
    /// Reads DE90, if it is there: MTI 4, DE11 6, DE7 10, DE32 11, DE33 11 digits.
    ///
    /// # Errors
    /// DE90, if it speaks of a message that cannot be reversed.
    pub(super) fn read(message: &Message<'_>) -> Result<Option<OriginalElements>, FormatError> {
        if !message.has(90) {
            return Ok(None);
        }
        let text: [u8; 42] = required(message, 90)?;
        let read = || {
            let (mti, rest) = text.split_first_chunk()?;
            let (stan, rest) = rest.split_first_chunk()?;
            let transmission_time = *rest.first_chunk()?;
            let mti = Mti::new(*mti).filter(|mti| matches!(mti.class(), 1 | 2))?;
            Some(OriginalElements { mti, stan: *stan, transmission_time })
        };
        read().map(Some).ok_or(FormatError { element: 90 })
    }

    /// All of it in one piece.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        let parts = self.mti.digits().into_iter().chain(self.stan).chain(self.transmission_time);
        bytes.iter_mut().zip(parts).for_each(|(byte, digit)| *byte = digit);
        bytes
    }
}

/// What a link is told when it reverses something that nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownOriginal {
    /// Accepted, so that the acquirer has done with it.
    #[default]
    Accept,
    /// 9914.
    Refuse,
}

/// What is answered to a reversal. It gives no PIN try back, so no card changes.
#[must_use]
pub fn acknowledge(is_known: bool, unknown: UnknownOriginal) -> Reason {
    match (is_known, unknown) {
        (false, UnknownOriginal::Refuse) => Reason::OriginalNotFound,
        (true, _) | (_, UnknownOriginal::Accept) => Reason::Approved,
    }
}
