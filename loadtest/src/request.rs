//! Requests as an acquirer's network sends them.

use std::collections::BTreeMap;

use iso_specs::{EncodeError, Mti, OutgoingMessage, Spec};

use crate::cards::{DemoCard, ZPK};
use crate::numbers::{Trace, acquirer, digits};
use crate::pin_block::ZoneKey;

/// A message to be sent, with values of its own. It can hold a PIN block, so it is shown only
/// through `iso_specs::redact`, after encoding.
#[derive(Clone)]
pub(crate) struct Request {
    mti: Mti,
    values: BTreeMap<u8, Vec<u8>>,
}

impl Request {
    fn new(mti: Mti, trace: &Trace) -> Request {
        let request = Request { mti, values: BTreeMap::new() };
        request.with(7, trace.time.digits()).with(11, &trace.stan)
    }

    /// Cash at an ATM, 10.00 EUR, read from the magnetic stripe, without a PIN.
    pub(crate) fn cash(card: &DemoCard, trace: &Trace) -> Request {
        Request::new(Mti::AUTHORIZATION_REQUEST, trace)
            .with(2, card.pan.as_bytes())
            .with(3, b"010000")
            .with(4, b"000000001000")
            .with(12, trace.time.time())
            .with(13, trace.time.date())
            .with(14, card.expiry.as_bytes())
            .with(18, b"6011")
            .with(22, b"901")
            .with(32, &acquirer())
            .with(37, &trace.rrn)
            .with(41, b"LOADTEST")
            .with(42, b"PINSWITCH DEMO ")
            .with(49, b"978")
    }

    /// The same with a PIN. A PIN that has no PIN block is left out.
    pub(crate) fn cash_with_pin(card: &DemoCard, pin: &str, trace: &Trace) -> Request {
        let request = Request::cash(card, trace);
        match ZoneKey::new(&ZPK).format_0(pin.as_bytes(), card.pan.as_bytes()) {
            Some(block) => request.with(52, &block),
            None => request,
        }
    }

    /// A purchase with a contact chip, of so many minor units in EUR.
    pub(crate) fn purchase(
        card: &DemoCard,
        amount: u64,
        chip_data: &[u8],
        trace: &Trace,
    ) -> Request {
        Request::cash(card, trace)
            .with(3, b"000000")
            .with(4, &digits::<12>(amount))
            .with(18, b"5411")
            .with(22, b"051")
            .with(23, b"001")
            .with(55, chip_data)
    }

    /// Network management with a code of DE70.
    pub(crate) fn network_management(code: &[u8; 3], trace: &Trace) -> Request {
        Request::new(Mti::NETWORK_MANAGEMENT_REQUEST, trace).with(70, code)
    }

    /// A reversal advice of a request that was sent as `original` says (DE90: its MTI, DE11, DE7,
    /// DE32 and DE33).
    pub(crate) fn reversal_advice(card: &DemoCard, original: &Trace, trace: &Trace) -> Request {
        let data = [&b"0100"[..], &original.stan, original.time.digits(), &acquirer(), &[b'0'; 11]];
        let request = Request::cash(card, trace).with(37, &original.rrn).with(90, &data.concat());
        Request { mti: Mti::REVERSAL_ADVICE, ..request }
    }

    /// With an element in its canonical form.
    pub(crate) fn with(mut self, element: u8, value: &[u8]) -> Request {
        self.values.insert(element, value.to_vec());
        self
    }

    /// Without an element.
    pub(crate) fn without(mut self, element: u8) -> Request {
        self.values.remove(&element);
        self
    }

    /// Its repeat: 0101 in place of 0100.
    pub(crate) fn repeat(mut self) -> Request {
        let [version, class, function, _] = self.mti.digits();
        self.mti = Mti::new([version, class, function, b'1']).unwrap_or(self.mti);
        self
    }

    /// The message in a dialect, without length header.
    pub(crate) fn encode(&self, spec: &Spec) -> Result<Vec<u8>, EncodeError> {
        let mut message = OutgoingMessage::new(self.mti);
        for (&element, value) in &self.values {
            message.set(element, value);
        }
        let mut frame = Vec::new();
        message.encode(spec, &mut frame)?;
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use iso_specs::decode;

    use super::*;
    use crate::cards::{CARD_1, CARDS, UNKNOWN_CARD};
    use crate::clock::TransmissionTime;
    use crate::numbers::Numbers;

    fn spec() -> Spec {
        Spec::from_toml(Spec::builtin(crate::DIALECT).unwrap()).unwrap()
    }

    #[test]
    fn every_request_is_readable_in_the_dialect_and_shows_no_secret() {
        let spec = spec();
        let trace = Numbers::new(1_234_567, 0, 1).take(TransmissionTime::at(1_700_000_000));
        let cards = CARDS.into_iter().chain([&UNKNOWN_CARD]);
        for card in cards {
            for request in [
                Request::cash(card, &trace),
                Request::cash_with_pin(card, card.pin, &trace),
                Request::cash_with_pin(card, card.wrong_pin, &trace).repeat(),
                Request::reversal_advice(card, &trace, &trace),
            ] {
                let frame = request.encode(&spec).unwrap();
                let decoded = decode(&spec, &frame).unwrap();
                assert_eq!(decoded.fault, None);
                let shown = decoded.message.to_string();
                let block = decoded.message.field(52).map(|field| field.wire().escape_ascii());
                let block = block.map_or("none".to_owned(), |block| block.to_string());
                assert!(!shown.contains(card.pan) && !shown.contains(&block), "{shown}");
            }
        }
    }

    #[test]
    fn a_repeat_changes_the_last_digit_of_the_type() {
        let trace = Numbers::new(1, 0, 1).take(TransmissionTime::at(0));
        let request = Request::cash(&CARD_1, &trace);
        let (first, repeat) = (request.encode(&spec()).unwrap(), request.repeat());
        let repeat = repeat.encode(&spec()).unwrap();
        assert_eq!(&repeat[..4], b"0101");
        assert_eq!(first[4..], repeat[4..]);
    }
}
