//! The messages of simulated transactions, as an acquirer's network would send them.

use std::collections::BTreeMap;

use iso_specs::{Mti, OutgoingMessage, Spec};

use crate::authorization::reversal::institution;
use crate::cards::{Expiry, Pan};
use crate::clock::Timestamp;
use crate::issuing::Refused;
use crate::pin::PinBlock;
use crate::store::record::TransactionRecord;

/// DE32 of every simulated message.
const ACQUIRER: &[u8] = b"999999";

/// Bytes of the length before an answer.
const LENGTH_BYTES: usize = 2;

/// Longest DE41, DE42 and DE43, in characters.
const TERMINAL_CHARACTERS: usize = 8;
const MERCHANT_CHARACTERS: usize = 15;
const PLACE_CHARACTERS: usize = 40;

/// By what a message is known among all others.
pub(super) struct Trace {
    /// DE7: MMDDhhmmss.
    time: [u8; 10],
    /// DE11.
    stan: String,
    /// DE37.
    rrn: String,
}

impl Trace {
    /// Of the message of this number, sent now.
    pub(super) fn of(now: Timestamp, number: u32) -> Trace {
        let stan = format!("{:06}", number % 1_000_000);
        let rrn = format!("{:06}{stan}", now.seconds().rem_euclid(1_000_000));
        Trace { time: now.month_and_day(), stan, rrn }
    }
}

/// A message to be sent. It holds a PAN: there is no `Debug`.
pub(super) struct Outgoing {
    mti: Mti,
    values: BTreeMap<u8, Vec<u8>>,
}

impl Outgoing {
    pub(super) fn new(mti: Mti, pan: &Pan, trace: &Trace) -> Outgoing {
        let mut outgoing = Outgoing { mti, values: BTreeMap::new() };
        let (date, time) = trace.time.split_at(4);
        outgoing.set(2, pan.digits()).set(3, b"000000").set(7, &trace.time);
        outgoing.set(11, trace.stan.as_bytes()).set(12, time).set(13, date);
        outgoing.set(32, ACQUIRER).set(37, trace.rrn.as_bytes()).set(41, b"SIMULATE");
        outgoing
    }

    pub(super) const fn mti(&self) -> Mti {
        self.mti
    }

    pub(super) fn set(&mut self, element: u8, value: &[u8]) -> &mut Outgoing {
        self.values.insert(element, value.to_vec());
        self
    }

    pub(super) fn plastic(&mut self, expiry: Expiry, sequence: u8) {
        self.set(14, &expiry.digits()).set(23, format!("{sequence:03}").as_bytes());
    }

    pub(super) fn currency(&mut self, currency: u16) {
        self.set(49, format!("{currency:03}").as_bytes());
    }

    /// DE4, in minor units.
    pub(super) fn amount(&mut self, minor_units: u64) {
        self.set(4, format!("{minor_units:012}").as_bytes());
    }

    /// DE54: account type 00, amount type 40 (cash), the currency, a debit.
    pub(super) fn cash_back(&mut self, minor_units: u64, currency: u16) {
        self.set(54, format!("0040{currency:03}D{minor_units:012}").as_bytes());
    }

    /// DE43: name, city, state and country, each in its place.
    pub(super) fn place(&mut self, [name, city, state, country]: [&str; 4]) {
        let text = format!("{name:23.23}{city:13.13}{state:2.2}{country:2.2}");
        self.set(43, &plain(&text, PLACE_CHARACTERS));
    }

    /// DE42.
    pub(super) fn merchant(&mut self, mid: &str) {
        self.set(42, &plain(mid, MERCHANT_CHARACTERS));
    }

    /// DE41. An empty one is eight blanks.
    pub(super) fn terminal(&mut self, terminal: &str) {
        self.set(41, &plain(&format!("{terminal:TERMINAL_CHARACTERS$}"), TERMINAL_CHARACTERS));
    }

    /// DE52 says that there is a PIN. The PIN itself comes beside the message, in clear, and no key
    /// has made this block.
    pub(super) fn pin(&mut self) {
        self.set(52, &[0; PinBlock::TDES_BYTES]);
    }

    /// DE55, of a chip in a terminal that can take a PIN.
    pub(super) fn chip_data(&mut self, data: &[u8]) {
        self.set(22, b"051").set(55, data);
    }

    /// What a message has of the one that it follows.
    pub(super) fn follows(&mut self, record: &TransactionRecord) {
        self.set(3, &record.processing_code);
        if let Some(rrn) = &record.rrn {
            self.set(37, rrn);
        }
    }

    /// DE90 names the original: MTI, DE11, DE7, DE32 and DE33. Where it is taken back in part, DE95
    /// says what it comes to then.
    pub(super) fn reverses(&mut self, record: &TransactionRecord, rest: u64) {
        let mut elements = record.mti.digits().to_vec();
        elements.extend_from_slice(&record.stan);
        elements.extend_from_slice(&record.transmission_time);
        let acquirer = institution(&record.acquirer);
        elements.resize(elements.len() + 11_usize.saturating_sub(acquirer.len()), b'0');
        elements.extend_from_slice(acquirer);
        elements.extend_from_slice(&[b'0'; 11]);
        self.set(90, &elements);
        if rest > 0 {
            // Of the transaction, of its settlement, and two fees.
            self.set(95, format!("{rest:012}{:012}C{:08}C{:08}", 0, 0, 0).as_bytes());
        }
    }

    /// The frame of it.
    ///
    /// # Errors
    /// If a value does not fit its element.
    pub(super) fn encode(&self, dialect: &Spec) -> Result<Vec<u8>, Refused> {
        let mut message = OutgoingMessage::new(self.mti);
        for (element, value) in &self.values {
            message.set(*element, value);
        }
        let mut frame = Vec::new();
        match message.encode(dialect, &mut frame) {
            Ok(()) => Ok(frame),
            Err(error) => {
                let text = "a simulated message cannot be encoded";
                tracing::error!(target: "transaction", text, %error);
                Err(Refused::NotDecided)
            }
        }
    }
}

/// A text in the alphabet of ISO 8583, cut to so many characters; others become question marks.
fn plain(text: &str, characters: usize) -> Vec<u8> {
    let is_plain = |letter: &char| letter.is_ascii_graphic() || *letter == ' ';
    let letters = text.chars().map(|letter| Some(letter).filter(is_plain).unwrap_or('?'));
    letters.filter_map(|letter| u8::try_from(letter).ok()).take(characters).collect()
}

/// The message of a frame that begins with its length.
pub(super) fn without_length(frame: &[u8]) -> Option<&[u8]> {
    frame.get(LENGTH_BYTES..)
}

#[cfg(test)]
mod tests {
    use iso_specs::decode;

    use super::*;
    use crate::authorization::Request;

    fn outgoing(mti: &[u8; 4]) -> Outgoing {
        let now = Timestamp::from_seconds(1_795_000_000);
        let pan = Pan::parse(b"4761340000000019").unwrap();
        let mut outgoing = Outgoing::new(Mti::new(*mti).unwrap(), &pan, &Trace::of(now, 1_000_007));
        outgoing.currency(978);
        outgoing.amount(1_250);
        outgoing
    }

    #[test]
    fn a_message_is_read_as_it_was_meant() {
        let dialect = Spec::from_toml(Spec::builtin(super::super::DIALECT).unwrap()).unwrap();
        let mut outgoing = outgoing(b"0200");
        outgoing.plastic(Expiry::parse(b"2912").unwrap(), 1);
        outgoing.cash_back(250, 978);
        outgoing.merchant("a merchant of more than fifteen letters");
        outgoing.place(["Café", "a city with a long name", "XY", "ZZ"]);
        outgoing.pin();
        let frame = outgoing.encode(&dialect).unwrap();
        let decoded = decode(&dialect, &frame).unwrap();
        assert_eq!(decoded.fault, None);
        let request = Request::parse(&decoded).unwrap();
        assert_eq!((request.amount.minor_units, request.amount.currency), (1_250, 978));
        assert_eq!((request.sequence, &request.stan), (Some(1), b"000007"));
        let place = decoded.message.text::<40>(43).unwrap();
        let expected = "Caf?                   a city with aXYZZ";
        assert_eq!(place.as_str(), Some(expected));
        let merchant = decoded.message.text::<15>(42).unwrap();
        assert_eq!(merchant.as_str(), Some("a merchant of m"));
    }
}
