//! The request, encoded once. What changes from one request to the next is written over its place
//! in a copy, so that a request costs little more than the copy and its PIN block.

use iso_specs::{Message, Spec, decode};

use super::LoadError;
use super::chips::{AMOUNT, ChipUse, Chips};
use super::mix::{EXPIRY, Pick};
use crate::cards::CARD_1;
use crate::clock::TransmissionTime;
use crate::frame;
use crate::numbers::{Numbers, Trace};
use crate::request::Request;

/// A frame with its length header, and where in it the elements that change lie. These elements
/// have the same length in every request.
pub(super) struct Template {
    /// What the chip of each request does.
    pub(super) chip: Option<ChipUse>,
    frame: Vec<u8>,
    pan: Place,
    transmission_time: Place,
    stan: Place,
    time: Place,
    date: Place,
    rrn: Place,
    pin_block: Option<Place>,
    chip_data: Option<Place>,
}

impl Template {
    /// In a dialect that writes text as ASCII, and digits as ASCII or packed.
    pub(super) fn new(spec: &Spec, chip: Option<ChipUse>) -> Result<Template, LoadError> {
        let trace = Numbers::new(0, 0, 1).take(TransmissionTime::at(0));
        let request = match chip {
            None => Request::cash_with_pin(&CARD_1, CARD_1.pin, &trace),
            Some(kind) => of_chip(kind, &trace),
        };
        let request = request.with(14, EXPIRY);
        let message = request.encode(spec)?;
        let mut frame = Vec::new();
        if !frame::append(&message, &mut frame) {
            return Err(LoadError::NoPlace);
        }
        let header = frame.len() - message.len();
        let decoded = decode(spec, &message).map_err(|_| LoadError::NoPlace)?.message;
        let place = |element, length| {
            place(&decoded, &message, element)
                .filter(|place| place.bytes == length || place.bytes * 2 == length)
                .map(|place| Place { at: header + place.at, ..place })
                .ok_or(LoadError::NoPlace)
        };
        Ok(Template {
            pan: place(2, 16)?,
            transmission_time: place(7, 10)?,
            stan: place(11, 6)?,
            time: place(12, 6)?,
            date: place(13, 4)?,
            rrn: place(37, 12)?,
            pin_block: (chip != Some(ChipUse::OfflinePin)).then(|| place(52, 16)).transpose()?,
            chip_data: chip.map(|kind| place(55, 2 * chip_data(kind).len())).transpose()?,
            chip,
            frame,
        })
    }

    /// Appends a request with its own numbers, card and PIN block.
    pub(super) fn append(&self, trace: &Trace, pick: &Pick, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let Some(frame) = out.get_mut(start..) else { return };
        self.pan.write(frame, &pick.pan);
        self.transmission_time.write(frame, trace.time.digits());
        self.stan.write(frame, &trace.stan);
        self.time.write(frame, trace.time.time());
        self.date.write(frame, trace.time.date());
        self.rrn.write(frame, &trace.rrn);
        if let Some(place) = self.pin_block {
            place.write(frame, &hexadecimal(&pick.pin_block));
        }
        if let Some(place) = self.chip_data {
            place.write(frame, &hexadecimal(&pick.chip_data));
        }
    }
}

/// Where an element lies, without its length prefix.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    bytes: usize,
}

impl Place {
    /// Writes digits, decimal or hexadecimal in capitals: as they are, or packed two a byte where
    /// the place has half as many bytes.
    fn write(self, frame: &mut [u8], digits: &[u8]) {
        let Some(place) = frame.get_mut(self.at..self.at + self.bytes) else { return };
        if place.len() == digits.len() {
            return place.copy_from_slice(digits);
        }
        for (byte, [high, low]) in place.iter_mut().zip(digits.as_chunks().0) {
            *byte = nibble(*high) << 4 | nibble(*low);
        }
    }
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'A'..=b'F' => digit - b'A' + 10,
        _ => digit & 0x0F,
    }
}

fn hexadecimal(bytes: &[u8]) -> Vec<u8> {
    let digit = |nibble: u8| match nibble {
        0..=9 => b'0' + nibble,
        _ => b'A' + nibble - 10,
    };
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0F)]).collect()
}

/// A request of a contact chip, whose PIN goes online or does not.
fn of_chip(kind: ChipUse, trace: &Trace) -> Request {
    let request = Request::purchase(&CARD_1, AMOUNT, &chip_data(kind), trace);
    match kind {
        ChipUse::OfflinePin => request,
        // In place of the right block, which is written over it.
        ChipUse::Unblock => request.with(3, b"010000").with(52, &[0; 8]),
    }
}

/// Chip data as long as that of every request.
fn chip_data(kind: ChipUse) -> Vec<u8> {
    Chips::new(kind, 1, 1, 0).chip_data(0, b"4761350000000000", b"1234")
}

/// Where an element lies in the message that it was read from.
fn place(decoded: &Message<'_>, message: &[u8], element: u8) -> Option<Place> {
    let wire = decoded.field(element)?.wire();
    let at = wire.as_ptr().addr().checked_sub(message.as_ptr().addr())?;
    Some(Place { at, bytes: wire.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cards::CARDS;
    use crate::load::mix::{Deck, Mix};

    #[test]
    fn it_writes_the_bytes_that_encoding_the_request_gives() {
        for dialect in ["iso8583-1987-ascii", "iso8583-1987-binary"] {
            let spec = Spec::from_toml(Spec::builtin(dialect).unwrap()).unwrap();
            let template = Template::new(&spec, None).unwrap();
            let mut numbers = Numbers::new(987_654_321_012, 1, 3);
            let mut mix = Mix::new(Deck::Demo, 0.0, 1);
            for _ in CARDS {
                let trace = numbers.take(TransmissionTime::at(1_700_000_000));
                let pick = mix.pick().unwrap();
                let card = CARDS.iter().find(|card| card.pan.as_bytes() == pick.pan).unwrap();
                let (mut written, mut expected) = (b"before".to_vec(), b"before".to_vec());
                template.append(&trace, &pick, &mut written);
                let request = Request::cash_with_pin(card, card.pin, &trace).encode(&spec).unwrap();
                assert!(frame::append(&request, &mut expected));
                assert_eq!(written, expected, "{dialect}");
            }
        }
    }
}
