//! The request of a card, encoded once. What changes from one request to the next is written
//! over its place in a copy, so that a request costs little more than the copy.

use iso_specs::{Message, Spec, decode};

use super::LoadError;
use crate::cards::DemoCard;
use crate::clock::TransmissionTime;
use crate::frame;
use crate::numbers::{Numbers, Trace};
use crate::request::Request;

/// A frame with its length header, and where in it the elements that change begin.
///
/// These elements have a fixed length and their wire form is the canonical one, as in every
/// dialect whose text is ASCII.
pub(super) struct Template {
    frame: Vec<u8>,
    transmission_time: usize,
    stan: usize,
    time: usize,
    date: usize,
    rrn: usize,
    pan: &'static str,
}

impl Template {
    /// The request of a card with its right PIN.
    pub(super) fn new(spec: &Spec, card: &DemoCard) -> Result<Template, LoadError> {
        let trace = Numbers::new(0, 0, 1).take(TransmissionTime::at(0));
        let message = Request::cash_with_pin(card, card.pin, &trace).encode(spec)?;
        let mut frame = Vec::new();
        if !frame::append(&message, &mut frame) {
            return Err(LoadError::NoPlace);
        }
        let header = frame.len() - message.len();
        let decoded = decode(spec, &message).map_err(|_| LoadError::NoPlace)?.message;
        let place = |element| place(&decoded, &message, element).map(|at| header + at);
        let place = |element| place(element).ok_or(LoadError::NoPlace);
        Ok(Template {
            transmission_time: place(7)?,
            stan: place(11)?,
            time: place(12)?,
            date: place(13)?,
            rrn: place(37)?,
            pan: card.pan,
            frame,
        })
    }

    /// Appends a request with its own numbers.
    pub(super) fn append(&self, trace: &Trace, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let Some(frame) = out.get_mut(start..) else { return };
        write_over(frame, self.transmission_time, trace.time.digits());
        write_over(frame, self.stan, &trace.stan);
        write_over(frame, self.time, trace.time.time());
        write_over(frame, self.date, trace.time.date());
        write_over(frame, self.rrn, &trace.rrn);
    }

    /// The PAN of its card.
    pub(super) fn pan(&self) -> &'static str {
        self.pan
    }
}

/// Where an element lies in the message that it was read from.
fn place(decoded: &Message<'_>, message: &[u8], element: u8) -> Option<usize> {
    let wire = decoded.field(element)?.wire();
    wire.as_ptr().addr().checked_sub(message.as_ptr().addr())
}

fn write_over(frame: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = frame.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cards::CARDS;

    #[test]
    fn it_writes_the_bytes_that_encoding_the_request_gives() {
        let spec = Spec::from_toml(Spec::builtin(crate::DIALECT).unwrap()).unwrap();
        let mut numbers = Numbers::new(987_654_321_012, 1, 3);
        for card in CARDS {
            let template = Template::new(&spec, card).unwrap();
            let trace = numbers.take(TransmissionTime::at(1_700_000_000));
            let (mut written, mut expected) = (b"before".to_vec(), b"before".to_vec());
            template.append(&trace, &mut written);
            let request = Request::cash_with_pin(card, card.pin, &trace).encode(&spec).unwrap();
            assert!(frame::append(&request, &mut expected));
            assert_eq!(written, expected);
        }
    }
}
