//! Which elements of a message may be sent back and logged.
//!
//! A bitmap that announces an element too much or too little shifts every element behind it: the
//! one that is called DE37 may then hold digits of the PAN or of the PIN block. The first fault
//! comes late or not at the place of the mistake, since DE3, DE4, DE37, DE41 or DE42 take nearly
//! any text. So of a message with a fault nothing comes back but DE7 and DE11, by which the peer
//! finds its request: DE7 must be a date and time, and DE11 is too short to tell much.

use iso_specs::{Decoded, ElementSet, FieldErrorKind, examine};

/// DE7.
const TRANSMISSION_TIME: u8 = 7;
/// DE11.
const STAN: u8 = 11;

/// The elements of a message that are what they seem to be.
///
/// Without a fault of the decoder these are all. If every element was found and they fill the
/// frame, only values are wrong, and DE7 and DE11 are where they should be. Otherwise they count
/// only before the fault, and only behind a DE7 whose date was checked.
#[must_use]
pub fn trusted(decoded: &Decoded<'_>, frame: &[u8]) -> ElementSet {
    let message = &decoded.message;
    let Some(fault) = decoded.fault else { return message.present() };
    let mut matching = ElementSet::EMPTY;
    for element in [TRANSMISSION_TIME, STAN] {
        matching.insert(element);
    }
    let matching = matching.intersection(message.present());
    let is_shifted =
        |kind: FieldErrorKind| kind.is_structural() || kind == FieldErrorKind::TrailingBytes;
    let examined = examine(message.spec(), frame);
    if examined.is_ok_and(|all| !all.faults.iter().any(|fault| is_shifted(fault.kind))) {
        return matching;
    }
    let time = message.spec().element(TRANSMISSION_TIME);
    let is_checked = time.is_some_and(|time| time.pattern().is_some());
    match matching.below(fault.element) {
        before if is_checked && before.contains(TRANSMISSION_TIME) => before,
        _ => ElementSet::EMPTY,
    }
}
