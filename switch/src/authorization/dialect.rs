//! Whether a dialect can carry what is read from requests and what every answer adds, so that no
//! decision is ever made that cannot be answered, and no right request is refused.

use iso_specs::{
    DataElement, EncodeError, FieldError, FramingError, Mti, OutgoingMessage, Spec, decode, tlv,
};

use super::format_error::FormatError;
use super::network_management::NetworkManagement;
use super::request::{Request, VALUE_BYTES_MAX};
use super::response::check_answers;
use crate::cards::pan::PAN_DIGITS_MAX;
use crate::hsm::PinBlock;

/// What a dialect cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialectError {
    /// An element cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// An element is not read as it was written.
    #[error("{0}, in what was written in the same dialect")]
    Decode(FieldError),
    /// A message is not read as it was written.
    #[error("{0}, in what was written in the same dialect")]
    Framing(#[from] FramingError),
    /// An element is read as something else than a request has.
    #[error("DE{}: what a request has in it cannot be read back", .0.element)]
    Format(FormatError),
}

/// Elements without which no request is answered, with what they may hold.
const NEEDED: [(u8, &[u8]); 5] =
    [(3, b"000000"), (4, b"000000000000"), (7, b"0101000000"), (11, b"000000"), (49, b"978")];

/// Elements that a request may have, with what they usually hold.
const OPTIONAL: [(u8, &[u8]); 8] = [
    (6, b"000000000000"),
    (14, b"2912"),
    (18, b"6011"),
    (22, b"051"),
    (23, b"001"),
    (32, b"00000012345"),
    (37, b"000000000000"),
    (51, b"978"),
];

/// Writes the longest request and reads it back, then writes everything that answers add.
///
/// # Errors
/// The data element that the dialect cannot carry, and why.
pub fn check_dialect(dialect: &Spec) -> Result<(), DialectError> {
    check_request(dialect)?;
    check_network_management(dialect)?;
    Ok(check_answers(dialect)?)
}

fn check_request(dialect: &Spec) -> Result<(), DialectError> {
    let room = |element: u8| dialect.element(element).map_or(0, DataElement::max);
    let pan = digits(room(2).min(PAN_DIGITS_MAX));
    let track = track2(dialect.element(35), &pan);
    let chip = chip_data(room(55));
    let aes = room(52) == PinBlock::AES_BYTES;
    let pin_block: &[u8] = if aes { &[0; PinBlock::AES_BYTES] } else { &[0; PinBlock::TDES_BYTES] };
    let mut request = OutgoingMessage::new(Mti::AUTHORIZATION_REQUEST);
    for (element, value) in NEEDED {
        request.set(element, value);
    }
    request.set(2, &pan).set(52, pin_block);
    let longer = [(35, &*track), (55, &*chip)];
    for (element, value) in OPTIONAL.into_iter().chain(longer) {
        if dialect.element(element).is_some() {
            request.set(element, value);
        }
    }
    let mut frame = Vec::new();
    request.encode(dialect, &mut frame)?;
    let decoded = decode(dialect, &frame)?;
    decoded.fault.map_or(Ok(()), |fault| Err(DialectError::Decode(fault)))?;
    Request::parse(&decoded).map(|_| ()).map_err(DialectError::Format)
}

fn check_network_management(dialect: &Spec) -> Result<(), DialectError> {
    let mut request = OutgoingMessage::new(Mti::NETWORK_MANAGEMENT_REQUEST);
    request.set(7, b"0101000000").set(11, b"000000").set(70, b"001");
    let mut frame = Vec::new();
    request.encode(dialect, &mut frame)?;
    let decoded = decode(dialect, &frame)?;
    decoded.fault.map_or(Ok(()), |fault| Err(DialectError::Decode(fault)))?;
    match NetworkManagement::parse(&decoded).map_err(DialectError::Format)? {
        NetworkManagement::SignOn => Ok(()),
        _ => Err(DialectError::Format(FormatError::value(70))),
    }
}

/// A PAN of so many digits.
fn digits(count: usize) -> Vec<u8> {
    b"4761340000000000019".iter().copied().cycle().take(count).collect()
}

/// Track 2 of the greatest length, with this PAN.
fn track2(element: Option<&DataElement>, pan: &[u8]) -> Vec<u8> {
    let Some(element) = element else { return Vec::new() };
    let separator: &[u8] = if element.content_type().accepts(b"=") { b"=" } else { b"D" };
    let mut track = [pan, separator, b"2912201"].concat();
    track.resize(track.len().max(element.max()), b'0');
    track
}

/// Chip data that is as long as it may be, and not longer than what is read.
fn chip_data(room: usize) -> Vec<u8> {
    let mut data = Vec::new();
    // Tags and lengths take up to seven bytes.
    let rest = room.min(VALUE_BYTES_MAX).saturating_sub(7 + 5);
    for (tag, value) in [(0x9F36, vec![0; 2]), (0xDF01, vec![0; rest])] {
        let pushed = tlv::push(&mut data, tag, &value);
        debug_assert!(pushed.is_ok(), "no value of a data element is too long for BER-TLV");
    }
    data
}
