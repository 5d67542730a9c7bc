//! Reversals 0400 and 0420: which original they speak of, and what is answered.

use iso_specs::{DataElement, Message, Mti};

use super::request::{FormatError, required};
use super::response_code::Reason;
use super::routing::{Route, route};

/// DE90, the elements by which the original is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginalElements {
    /// Message type of the original.
    pub mti: Mti,
    /// Its DE11.
    pub stan: [u8; 6],
    /// Its DE7: MMDDhhmmss.
    pub transmission_time: [u8; 10],
    /// Its DE32, filled with zero bytes: that of the reversal, or without one what DE90 says, which
    /// is filled with zeros on the left.
    pub acquirer: [u8; 11],
}

impl OriginalElements {
    /// Reads DE90, if it is there: MTI 4, DE11 6, DE7 10, DE32 11, DE33 11 digits. `acquirer` is
    /// DE32 of the reversal.
    ///
    /// # Errors
    /// DE90, if it speaks of a message that cannot be reversed, of no date, or of another
    /// acquirer. The reversal must not be acknowledged then: nothing would be reversed.
    pub(super) fn read(
        message: &Message<'_>,
        acquirer: [u8; 11],
    ) -> Result<Option<OriginalElements>, FormatError> {
        if !message.has(90) {
            return Ok(None);
        }
        let text: [u8; 42] = required(message, 90)?;
        let time = message.spec().element(7).and_then(DataElement::pattern);
        let read = || {
            let (mti, rest) = text.split_first_chunk()?;
            let (stan, rest) = rest.split_first_chunk()?;
            let (transmission_time, rest) = rest.split_first_chunk()?;
            let known = rest.first_chunk::<11>().filter(|known| **known != *b"00000000000");
            let mti = Mti::new(*mti).filter(|mti| is_reversible(*mti))?;
            time.is_none_or(|time| time.accepts(transmission_time)).then_some(())?;
            let acquirer = match (known, acquirer.first()) {
                (None, _) => acquirer,
                (Some(known), Some(0)) => *known,
                (Some(known), _) => Some(acquirer).filter(|own| is_same(own, known))?,
            };
            let (stan, transmission_time) = (*stan, *transmission_time);
            Some(OriginalElements { mti, stan, transmission_time, acquirer })
        };
        read().map(Some).ok_or(FormatError { element: 90 })
    }
}

/// Requests that are decided, and advices.
fn is_reversible(mti: Mti) -> bool {
    matches!(route(mti), Route::Authorization | Route::Advice)
}

/// Whether DE32 is the acquirer of DE90, with zeros on the left or without.
fn is_same(acquirer: &[u8; 11], known: &[u8; 11]) -> bool {
    let digits = acquirer.iter().take_while(|byte| **byte != 0);
    let digits = digits.skip_while(|digit| **digit == b'0');
    digits.eq(known.iter().skip_while(|digit| **digit == b'0'))
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
