//! Reversals 0400 and 0420: which original they speak of, and what is answered.

use iso_specs::{DataElement, Message, Mti};

use super::format_error::FormatError;
use super::request::required;
use super::response_code::Reason;
use super::routing::{Route, route};

/// DE90, the elements by which the original is known, as far as it says them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginalElements {
    /// Message type of the original.
    pub mti: Mti,
    /// DE11 of the original.
    pub stan: Option<[u8; 6]>,
    /// DE7 of the original: MMDDhhmmss.
    pub transmission_time: Option<[u8; 10]>,
    /// DE37 of the original; only in the layout that has it in the place of DE11 and DE7.
    pub rrn: Option<[u8; 12]>,
    /// DE32 of the original, filled with zero bytes: that of the reversal, or without one what DE90
    /// says, which is filled on the left. All zero bytes where nobody says it.
    pub acquirer: [u8; 11],
}

/// What DE90 can mean, the likeliest first; at most two.
pub type Readings = Vec<OriginalElements>;

impl OriginalElements {
    /// Reads DE90 of a reversal. `acquirer` is DE32 of the reversal. Two layouts are known, of
    /// which the text itself tells which it is, but not always:
    ///
    /// - ISO 8583:1987: MTI 4, DE11 6, DE7 10, DE32 11, DE33 11. DE7 may be zeros or blanks.
    /// - BASE24: MTI 4, DE37 12, then date 4 and time 8 of the terminal, which no record has,
    ///   business date 4 and a filler of 10.
    ///
    /// # Errors
    /// DE90, if it speaks of a message that cannot be reversed, of none at all, or of another
    /// acquirer. The reversal must not be acknowledged then: nothing would be reversed.
    pub(super) fn read(message: &Message<'_>, acquirer: [u8; 11]) -> Result<Readings, FormatError> {
        let text: [u8; 42] = required(message, 90)?;
        let wrong = FormatError::original();
        let (mti, rest) = text.split_first_chunk().ok_or(wrong)?;
        let mti = Mti::new(*mti).filter(|mti| is_reversible(*mti)).ok_or(wrong)?;
        let time = message.spec().element(7).and_then(DataElement::pattern);
        let is_time = |given: &[u8]| time.is_none_or(|time| time.accepts(given));
        let readings = [iso(mti, rest, acquirer, is_time), base24(mti, rest, acquirer, is_time)];
        let readings: Readings = readings.into_iter().flatten().collect();
        if readings.is_empty() { Err(wrong) } else { Ok(readings) }
    }

    /// Whether it names one message of its acquirer and no other, whatever card it was.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.stan.is_some() && self.transmission_time.is_some()
    }
}

/// Whether DE90 of a message names its original without the card, and in one way only. `acquirer`
/// is its DE32.
pub(super) fn is_whole(message: &Message<'_>, acquirer: [u8; 11]) -> bool {
    let is_whole = |readings: Readings| matches!(&*readings, [only] if only.is_whole());
    OriginalElements::read(message, acquirer).is_ok_and(is_whole)
}

fn iso(
    mti: Mti,
    rest: &[u8],
    acquirer: [u8; 11],
    is_time: impl Fn(&[u8]) -> bool,
) -> Option<OriginalElements> {
    let (stan, rest) = rest.split_first_chunk::<6>()?;
    let (time, rest) = rest.split_first_chunk::<10>()?;
    let stan = if is_absent(stan) { None } else { Some(digits(stan)?) };
    let transmission_time = match is_absent(time) {
        true => None,
        false => Some(*time).filter(|time| is_time(time)).map(Some)?,
    };
    // With neither, it says nothing but the kind of message.
    stan.or(transmission_time.map(|_| [0; 6]))?;
    let known = trimmed(rest.first_chunk::<11>()?);
    let acquirer = match (known, acquirer.first()) {
        ([], _) => acquirer,
        (known, Some(0)) => {
            let mut own = [0; 11];
            own.get_mut(..known.len())?.copy_from_slice(known);
            own.iter().all(|byte| *byte == 0 || byte.is_ascii_digit()).then_some(own)?
        }
        (known, _) => Some(acquirer).filter(|own| institution(own) == known)?,
    };
    Some(OriginalElements { mti, stan, transmission_time, rrn: None, acquirer })
}

fn base24(
    mti: Mti,
    rest: &[u8],
    acquirer: [u8; 11],
    is_time: impl Fn(&[u8]) -> bool,
) -> Option<OriginalElements> {
    let (rrn, rest) = rest.split_first_chunk::<12>()?;
    let (at, rest) = rest.split_first_chunk::<10>()?;
    let business_date = rest.get(2..6)?;
    let is_date = |date: &[u8]| is_absent(date) || is_time(&[date, b"000000"].concat());
    let is_it = !is_absent(rrn) && is_time(at) && is_date(business_date);
    let (stan, transmission_time) = (None, None);
    is_it.then_some(OriginalElements { mti, stan, transmission_time, rrn: Some(*rrn), acquirer })
}

/// Whether it can be reversed: a request that is decided, or an advice.
fn is_reversible(mti: Mti) -> bool {
    matches!(route(mti), Route::Authorization | Route::Advice)
}

/// Whether it is all zeros or blanks, which stand for what is not known.
fn is_absent(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b'0' | b' '))
}

/// The text without the zeros and blanks that fill it up, on either side.
pub(crate) fn trimmed(text: &[u8]) -> &[u8] {
    let mut text = text.trim_ascii();
    while let [b'0', rest @ ..] = text {
        text = rest;
    }
    text
}

fn digits<const N: usize>(text: &[u8; N]) -> Option<[u8; N]> {
    text.iter().all(u8::is_ascii_digit).then_some(*text)
}

/// The digits of DE32 as it is kept, filled with zero bytes. An institution is a number: zeros in
/// front of it say nothing.
#[must_use]
pub fn institution(acquirer: &[u8; 11]) -> &[u8] {
    let mut digits = acquirer.as_slice();
    while let [rest @ .., 0] = digits {
        digits = rest;
    }
    trimmed(digits)
}

/// What a link is told when it reverses something that nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownOriginal {
    /// It is accepted, so that the acquirer has done with it.
    #[default]
    Accept,
    /// It is refused with 9914.
    Refuse,
}

/// What is answered to a reversal. It gives no PIN try back, so no card changes.
#[must_use]
pub fn reason(is_known: bool, unknown: UnknownOriginal) -> Reason {
    match (is_known, unknown) {
        (false, UnknownOriginal::Refuse) => Reason::OriginalNotFound,
        (true, _) | (_, UnknownOriginal::Accept) => Reason::Approved,
    }
}
