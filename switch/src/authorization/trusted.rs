//! Which elements of a message may be sent back and logged.
//!
//! A bitmap that announces an element too much or too little shifts every element behind it: the
//! one that is called DE37 may then hold digits of the PAN or of the PIN block. The first fault
//! comes late or not at the place of the mistake, since DE3, DE4, DE37, DE41 or DE42 take nearly
//! any text. So of a message with a fault nothing comes back but that by which the peer finds its
//! request. That is DE7, DE11, DE37 and DE41 where the elements fill the frame exactly, so that
//! only values are wrong; else DE7 and DE11: DE7 must be a date and time, and DE11 is too short to
//! tell much.

use iso_specs::{Decoded, ElementSet, FieldErrorKind, examine};

/// DE7.
const TRANSMISSION_TIME: u8 = 7;
/// DE11.
const STAN: u8 = 11;
/// DE37.
const RRN: u8 = 37;
/// DE41.
const TERMINAL: u8 = 41;

/// The elements of a message that are what they seem to be.
///
/// Without a fault of the decoder these are all. With one, DE7, DE11, DE37 and DE41 if every
/// element was found and they fill the frame; otherwise DE7 and DE11 as far as they stand before
/// the fault, and only with a DE7 whose date was checked.
#[must_use]
pub fn trusted(decoded: &Decoded<'_>, frame: &[u8]) -> ElementSet {
    let message = &decoded.message;
    let Some(fault) = decoded.fault else { return message.present() };
    let matching = |elements: ElementSet| elements.intersection(message.present());
    let is_shifted =
        |kind: FieldErrorKind| kind.is_structural() || kind == FieldErrorKind::TrailingBytes;
    let examined = examine(message.spec(), frame);
    if examined.is_ok_and(|all| !all.faults.iter().any(|fault| is_shifted(fault.kind))) {
        return matching([TRANSMISSION_TIME, STAN, RRN, TERMINAL].into_iter().collect());
    }
    let time = message.spec().element(TRANSMISSION_TIME);
    let is_checked = time.is_some_and(|time| time.pattern().is_some());
    match matching([TRANSMISSION_TIME, STAN].into_iter().collect()).below(fault.element) {
        before if is_checked && before.contains(TRANSMISSION_TIME) => before,
        _ => ElementSet::EMPTY,
    }
}
