//! The only way to show a message to a person: masked, whatever the caller does.
//!
//! `Display` and `Debug` of a [`Message`] give one line for a log, [`listing`] several lines with
//! names and faults. What is shown of an element is its [`Sensitivity`] in the dialect.
//! Control characters and quotes are escaped, so that a value cannot forge a line or a field.
//!
//! In a message with a fault any element may hold bytes of another one: a bit too many in the
//! bitmap, and the digits of the PAN are those of an amount. Of such a message a log shows only
//! lengths, whatever the dialect says, and DE39 and DE70, which are too short to hold anything. A
//! listing, which somebody asked for who looks for the fault, shows the bitmaps and the public
//! elements before it too, unless they look like a part of a PAN, a track or a PIN block.

mod doubt;
mod listing;

use std::fmt::{self, Display, Formatter};

use crate::data_element::{ContentType, Sensitivity};
use crate::decode::Decoded;
use crate::encode::OutgoingMessage;
use crate::message::{Field, Message};
use crate::tlv;
pub use listing::{Listing, listing};

/// A shorter PAN is hidden wholly: six and four of it would be too much of it.
const PAN_MASKED_MIN_DIGITS: usize = 13;
const PAN_HEAD_DIGITS: usize = 6;
const PAN_TAIL_DIGITS: usize = 4;

/// What is shown even of a message with a fault: response code and network management code.
const SHOWN_DESPITE_FAULTS: [u8; 2] = [39, 70];
/// They are no longer than that in any edition, in characters.
const SHOWN_DESPITE_FAULTS_MAX: usize = 4;

/// Room for the canonical form of a value that is shown, in bytes; a longer one is hidden.
const SHOWN_MAX_BYTES: usize = 999;

/// Chip data that is harmless, with the greatest length in bytes that EMV (Book 3, Annex A) gives
/// it. Everything else is hidden, as is a value that is longer: it is not what its tag says.
const HARMLESS_TAGS: [(u32, usize); 30] = [
    (0x82, 2),    // AIP
    (0x84, 16),   // dedicated file name
    (0x8a, 2),    // authorization response code
    (0x91, 16),   // issuer authentication data
    (0x95, 5),    // TVR
    (0x9a, 3),    // transaction date
    (0x9b, 2),    // TSI
    (0x9c, 1),    // transaction type
    (0x5f2a, 2),  // transaction currency
    (0x5f34, 1),  // PAN sequence number
    (0x9f02, 6),  // amount, authorized
    (0x9f03, 6),  // amount, other
    (0x9f06, 16), // AID
    (0x9f07, 2),  // application usage control
    (0x9f09, 2),  // application version
    (0x9f10, 32), // issuer application data
    (0x9f1a, 2),  // terminal country
    (0x9f1e, 8),  // terminal serial number
    (0x9f21, 3),  // transaction time
    (0x9f26, 8),  // application cryptogram
    (0x9f27, 1),  // cryptogram information data
    (0x9f33, 3),  // terminal capabilities
    (0x9f34, 3),  // CVM results
    (0x9f35, 1),  // terminal type
    (0x9f36, 2),  // ATC
    (0x9f37, 4),  // unpredictable number
    (0x9f39, 1),  // entry mode
    (0x9f41, 4),  // transaction sequence counter
    (0x9f53, 1),  // transaction category code
    (0x9f5b, 20), // issuer script results
];

impl Display for Message<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.mti())?;
        self.elements().try_for_each(|field| write!(f, " {field}"))
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// Shows the element's number and its masked value, such as `2=476134******0019`; only its length
/// where the message has a fault.
impl Display for Field<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.element().number())?;
        show_value(self, f)
    }
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl fmt::Debug for Decoded<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        self.fault.iter().try_for_each(|fault| write!(f, " ({fault})"))
    }
}

impl fmt::Debug for OutgoingMessage<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.mti(), self.present())
    }
}

/// What may be shown of a PAN (PCI DSS 3.4.1): its first six and last four digits; nothing where
/// it is too short for that.
#[must_use]
pub fn visible_ends(pan: &[u8]) -> Option<([u8; PAN_HEAD_DIGITS], [u8; PAN_TAIL_DIGITS])> {
    let is_long = pan.len() >= PAN_MASKED_MIN_DIGITS;
    pan.first_chunk().copied().zip(pan.last_chunk().copied()).filter(|_| is_long)
}

/// A PAN with its first six and last four digits, or only stars where it is too short for that.
#[must_use]
pub const fn mask_pan(pan: &[u8]) -> MaskedPan<'_> {
    MaskedPan(pan)
}

/// Shows what [`mask_pan`] says.
pub struct MaskedPan<'a>(&'a [u8]);

impl Display for MaskedPan<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let pan = self.0;
        let tail_start = pan.len().saturating_sub(PAN_TAIL_DIGITS);
        let is_long = visible_ends(pan).is_some();
        pan.iter().enumerate().try_for_each(|(index, &digit)| {
            let shown = is_long
                && (index < PAN_HEAD_DIGITS || index >= tail_start)
                && digit.is_ascii_digit();
            write!(f, "{}", if shown { char::from(digit) } else { '*' })
        })
    }
}

fn show_value(field: &Field<'_>, f: &mut Formatter<'_>) -> fmt::Result {
    let mut room = [0; SHOWN_MAX_BYTES];
    show_masked(field, field.canonical(&mut room).filter(|_| may_be_shown(field)), f)
}

/// Shows a value as its sensitivity allows; only its length without one.
fn show_masked(field: &Field<'_>, value: Option<&[u8]>, f: &mut Formatter<'_>) -> fmt::Result {
    match (field.element().sensitivity(), value) {
        (Sensitivity::Public, Some(value)) if field.element().content_type().is_binary() => {
            show_hex(value, f)
        }
        (Sensitivity::Public, Some(text)) => show_text(text, f),
        (Sensitivity::Pan, Some(pan)) => write!(f, "{}", mask_pan(pan)),
        (Sensitivity::Chip, Some(data)) => show_chip(data, f),
        (Sensitivity::Track | Sensitivity::Secret, _) | (_, None) => {
            let unit = match field.element().content_type() {
                ContentType::Digits => "digits",
                ContentType::Binary => "bytes",
                _ => "characters",
            };
            write!(f, "[{} {unit}]", field.len())
        }
    }
}

/// False where the value may be a part of another element.
fn may_be_shown(field: &Field<'_>) -> bool {
    let is_short = field.len() <= SHOWN_DESPITE_FAULTS_MAX;
    let is_code = SHOWN_DESPITE_FAULTS.contains(&field.element().number());
    !field.is_doubtful() || (is_short && is_code)
}

/// Letters and digits as they are, everything else quoted and escaped.
fn show_text(text: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    if !text.is_empty() && text.iter().all(u8::is_ascii_alphanumeric) {
        write!(f, "{}", text.escape_ascii())
    } else {
        write!(f, "\"{}\"", text.escape_ascii())
    }
}

fn show_hex(bytes: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
}

fn show_chip(data: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    let is_whole = is_whole(data);
    write!(f, "{{")?;
    for (index, object) in tlv::Reader::new(data).enumerate() {
        let gap = if index == 0 { "" } else { " " };
        match object {
            Ok(object) if is_whole && is_harmless(&object) => {
                write!(f, "{gap}{:02X}=", object.tag)?;
                show_hex(object.value, f)?;
            }
            Ok(object) => write!(f, "{gap}{object:?}")?,
            Err(error) => write!(f, "{gap}({error})")?,
        }
    }
    write!(f, "}}")
}

/// False where something is wrong within chip data: its objects may be shifted too.
fn is_whole(data: &[u8]) -> bool {
    tlv::Reader::new(data).all(|object| object.is_ok())
}

fn is_harmless(object: &tlv::Object<'_>) -> bool {
    HARMLESS_TAGS.iter().any(|&(tag, max)| tag == object.tag && object.value.len() <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pan_keeps_six_and_four() {
        for (pan, shown) in [
            ("4761340000000019", "476134******0019"),
            ("4761340000001", "476134***0001"),
            ("476134000001", "************"),
            ("4761340000000000019", "476134*********0019"),
            ("47613\n0000000019", "47613*******0019"),
            ("", ""),
        ] {
            let masked = mask_pan(pan.as_bytes()).to_string();
            assert_eq!(masked.len(), pan.len());
            assert!(masked == shown || pan.contains('\n'), "{masked}");
            assert!(!masked.contains('\n'));
        }
    }
}
