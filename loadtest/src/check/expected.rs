//! What an answer must look like.

use iso_specs::{Decoded, Message};

/// Elements that an answer repeats from its request, where the request has them.
const ECHOED: [u8; 14] = [2, 3, 4, 7, 11, 12, 13, 15, 32, 33, 37, 41, 42, 49];
const ECHOED_NETWORK_MANAGEMENT: [u8; 4] = [7, 11, 33, 70];

/// Elements that an answer adds: approval code, response code, reason or element number.
const APPROVAL_CODE: u8 = 38;
const RESPONSE_CODE: u8 = 39;
const REASON: u8 = 44;

/// The outcome that a request must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// DE39.
    code: &'static str,
    /// DE44: a four-digit reason or a three-digit element number; empty for none.
    reason: &'static str,
    /// DE38, six digits, must be there.
    approval_code: bool,
}

impl Expected {
    /// Approved, with an approval code.
    pub(crate) const APPROVED: Expected = Expected { code: "00", reason: "", approval_code: true };

    /// Network management that was accepted.
    pub(crate) const ACCEPTED: Expected = Expected { code: "00", reason: "", approval_code: false };

    /// Anything else, with DE39 and DE44.
    pub(crate) const fn declined(code: &'static str, reason: &'static str) -> Expected {
        Expected { code, reason, approval_code: false }
    }

    /// Everything in which an answer is not as expected, as text without secrets.
    pub(crate) fn differences(self, request: &Message<'_>, answer: &Decoded<'_>) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(fault) = answer.fault {
            found.push(format!("expected a readable answer, got {fault}"));
        }
        let answer = &answer.message;
        let mti = request.mti().response();
        if answer.mti() != mti {
            found.push(format!("expected {mti}, got {}", answer.mti()));
        }
        self.outcome(answer, &mut found);
        echoed(request, answer, &mut found);
        found
    }

    fn outcome(self, answer: &Message<'_>, found: &mut Vec<String>) {
        for (element, expected) in [(RESPONSE_CODE, self.code), (REASON, self.reason)] {
            let got = text(answer, element);
            if got != expected {
                found.push(format!(
                    "expected DE{element} {}, got {}",
                    shown(expected),
                    shown(&got)
                ));
            }
        }
        let got = text(answer, APPROVAL_CODE);
        let six_digits = got.len() == 6 && got.bytes().all(|byte| byte.is_ascii_digit());
        match self.approval_code {
            true if !six_digits => {
                found.push(format!("expected six digits in DE38, got {}", shown(&got)));
            }
            false if !got.is_empty() => found.push(format!("expected no DE38, got {got}")),
            _ => {}
        }
    }
}

/// What is sent must come back unchanged, and nothing may come that is neither sent nor added:
/// a PIN block or track data least of all.
fn echoed(request: &Message<'_>, answer: &Message<'_>, found: &mut Vec<String>) {
    let echoed: &[u8] = match request.mti().is_network_management() {
        true => &ECHOED_NETWORK_MANAGEMENT,
        false => &ECHOED,
    };
    let of = |message: &Message<'_>, element| {
        message.field(element).map_or("none".to_owned(), |field| field.to_string())
    };
    for &element in echoed {
        let [sent, came] = [request, answer].map(|message| message.field(element));
        if sent.map(|field| field.wire()) != came.map(|field| field.wire()) {
            let (sent, came) = (of(request, element), of(answer, element));
            found.push(format!("expected DE{element} as sent, {sent}, got {came}"));
        }
    }
    for element in answer.present() {
        let added = matches!(element, APPROVAL_CODE | RESPONSE_CODE | REASON);
        if !added && !echoed.contains(&element) {
            found.push(format!("expected no DE{element}, got one"));
        }
    }
}

fn text(message: &Message<'_>, element: u8) -> String {
    let text = message.text::<25>(element);
    text.as_ref().and_then(|text| text.as_str()).unwrap_or_default().to_owned()
}

fn shown(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

#[cfg(test)]
mod tests {
    use iso_specs::{Mti, OutgoingMessage, Spec, decode};

    use super::*;
    use crate::cards::CARD_1;
    use crate::clock::TransmissionTime;
    use crate::numbers::Numbers;
    use crate::request::Request;

    /// The differences after the right answer to a cash request, with `code` and `reason`, was
    /// changed.
    fn differences(
        expected: Expected,
        code: &str,
        change: impl FnOnce(&mut OutgoingMessage<'_>),
    ) -> Vec<String> {
        let spec = Spec::from_toml(Spec::builtin(crate::DIALECT).unwrap()).unwrap();
        let trace = Numbers::new(42, 0, 1).take(TransmissionTime::at(0));
        let frame = Request::cash_with_pin(&CARD_1, "4071", &trace).encode(&spec).unwrap();
        let request = decode(&spec, &frame).unwrap().message;
        let elements = *spec.echo(request.mti());
        let mut answer = OutgoingMessage::echo(Mti::AUTHORIZATION_RESPONSE, &request, elements);
        answer.set(39, code.as_bytes());
        change(&mut answer);
        let mut bytes = Vec::new();
        answer.encode(&spec, &mut bytes).unwrap();
        expected.differences(&request, &decode(&spec, &bytes).unwrap())
    }

    #[test]
    fn right_answers_differ_in_nothing() {
        let approved = |answer: &mut OutgoingMessage<'_>| _ = answer.set(38, b"123456");
        assert_eq!(differences(Expected::APPROVED, "00", approved), [""; 0]);
        let wrong_pin = Expected::declined("55", "1809");
        let reason = |answer: &mut OutgoingMessage<'_>| _ = answer.set(44, b"1809");
        assert_eq!(differences(wrong_pin, "55", reason), [""; 0]);
    }

    #[test]
    fn every_difference_is_named_and_masked() {
        let found = differences(Expected::declined("55", "1809"), "00", |answer| {
            answer.set(38, b"123456").set(52, &[7; 8]).set(2, b"4761340000000027").unset(37);
        });
        assert_eq!(
            found,
            [
                "expected DE39 55, got 00",
                "expected DE44 1809, got none",
                "expected no DE38, got 123456",
                "expected DE2 as sent, 2=476134******0019, got 2=476134******0027",
                "expected DE37 as sent, 37=000000000042, got none",
                "expected no DE52, got one",
            ]
        );
    }

    #[test]
    fn an_approval_has_six_digits_in_de38() {
        let expected = Expected::APPROVED;
        assert_eq!(differences(expected, "00", |_| ()), ["expected six digits in DE38, got none"]);
        let letters = |answer: &mut OutgoingMessage<'_>| _ = answer.set(38, b"12345A");
        assert_eq!(
            differences(expected, "00", letters),
            ["expected six digits in DE38, got 12345A"]
        );
    }
}
