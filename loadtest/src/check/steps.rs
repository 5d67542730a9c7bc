//! The steps of a check, in the order in which they are played.

use std::io::Write;

use super::Check;
use super::expected::Expected;
use crate::cards::{CARD_1, CARD_3, CARD_4, CARDS, DemoCard, UNKNOWN_CARD, ZPK};
use crate::pin_block::ZoneKey;
use crate::request::Request;

const WRONG_PIN: Expected = Expected::declined("55", "1809");
const TRIES_EXCEEDED: Expected = Expected::declined("75", "1872");

/// Consecutive wrong PINs on the card without a limit: more than any other card allows.
const WRONG_PINS: u64 = 5;

/// Plays all of them. A step that fails does not keep the next ones from being played.
pub(super) fn play<W: Write>(check: &mut Check<'_, W>) {
    network_management(check, "sign-on", b"001");
    network_management(check, "echo", b"301");
    right_pins(check);
    cash_without_pin(check);
    retry_limit(check);
    suspended(check);
    no_retry_limit(check);
    unusable_pin_block(check);
    unknown_card(check);
    other_body_under_one_key(check);
    missing_amount(check);
    reversal(check);
    network_management(check, "sign-off", b"002");
}

fn network_management<W: Write>(check: &mut Check<'_, W>, name: &str, code: &[u8; 3]) {
    let request = Request::network_management(code, &check.trace());
    check.exchange(name, &request, Expected::ACCEPTED);
}

/// Cash with a PIN, under numbers of its own.
fn with_pin<W: Write>(check: &mut Check<'_, W>, card: &DemoCard, pin: &str) -> Request {
    Request::cash_with_pin(card, pin, &check.trace())
}

fn right_pins<W: Write>(check: &mut Check<'_, W>) {
    for card in CARDS {
        right_pin(check, card, "right PIN");
    }
}

fn right_pin<W: Write>(check: &mut Check<'_, W>, card: &DemoCard, name: &str) {
    let request = with_pin(check, card, card.pin);
    check.exchange(&format!("{name}, {}", card.token), &request, Expected::APPROVED);
}

fn cash_without_pin<W: Write>(check: &mut Check<'_, W>) {
    let request = Request::cash(&CARD_1, &check.trace());
    check.exchange("cash without a PIN", &request, Expected::declined("70", "1012"));
}

fn retry_limit<W: Write>(check: &mut Check<'_, W>) {
    let request = with_pin(check, &CARD_1, CARD_1.wrong_pin);
    let first = check.exchange("first wrong PIN", &request, WRONG_PIN);
    let again = check.exchange("the same once more, as 0101", &request.repeat(), WRONG_PIN);
    let same = first.is_some() && first == again;
    let difference =
        (!same).then(|| "expected the bytes of the first answer, got others".to_owned());
    check.judge("the repeat has the bytes of the first answer", difference.as_slice());
    check.card_is("the two have counted once", &CARD_1, "ACTIVE, PIN try counter 1");
    let request = with_pin(check, &CARD_1, CARD_1.wrong_pin);
    check.exchange("second wrong PIN", &request, WRONG_PIN);
    let request = with_pin(check, &CARD_1, CARD_1.wrong_pin);
    check.exchange("third wrong PIN", &request, TRIES_EXCEEDED);
}

fn suspended<W: Write>(check: &mut Check<'_, W>) {
    let request = with_pin(check, &CARD_1, CARD_1.pin);
    check.exchange("right PIN, too late", &request, TRIES_EXCEEDED);
    check.card_is("the card is suspended", &CARD_1, "SUSPENDED, reason 22, PIN try counter 3");
    let activated = check.control.activate(CARD_1.token);
    let difference = activated.err().map(|error| error.to_string());
    check.judge("made active by the command line", difference.as_slice());
    check.card_is("it counts from zero", &CARD_1, "ACTIVE, PIN try counter 0");
    right_pin(check, &CARD_1, "right PIN after that");
}

fn no_retry_limit<W: Write>(check: &mut Check<'_, W>) {
    for number in 1..=WRONG_PINS {
        let request = with_pin(check, &CARD_4, CARD_4.wrong_pin);
        check.exchange(&format!("wrong PIN {number} without a limit"), &request, WRONG_PIN);
    }
    let counted = format!("ACTIVE, PIN try counter {WRONG_PINS}");
    check.card_is("every one has counted", &CARD_4, &counted);
    right_pin(check, &CARD_4, "right PIN after that");
    check.card_is("it counts from zero", &CARD_4, "ACTIVE, PIN try counter 0");
}

fn unusable_pin_block<W: Write>(check: &mut Check<'_, W>) {
    let block = ZoneKey::new(&ZPK).unusable();
    let request = Request::cash(&CARD_3, &check.trace()).with(52, &block);
    check.exchange("unusable PIN block", &request, Expected::declined("81", "1026"));
    check.card_is("it has not counted", &CARD_3, "ACTIVE, PIN try counter 0");
}

fn unknown_card<W: Write>(check: &mut Check<'_, W>) {
    let request = with_pin(check, &UNKNOWN_CARD, UNKNOWN_CARD.pin);
    check.exchange("unknown PAN", &request, Expected::declined("14", "1011"));
}

fn other_body_under_one_key<W: Write>(check: &mut Check<'_, W>) {
    let request = with_pin(check, &CARD_1, CARD_1.pin);
    check.exchange("right PIN, 10.00", &request, Expected::APPROVED);
    let other = request.with(4, b"000000002000");
    let expected = Expected::declined("94", "9913");
    check.exchange("the same numbers, but 20.00", &other, expected);
}

fn missing_amount<W: Write>(check: &mut Check<'_, W>) {
    let request = with_pin(check, &CARD_1, CARD_1.pin).without(4);
    check.exchange("DE4 missing", &request, Expected::declined("30", "004"));
}

fn reversal<W: Write>(check: &mut Check<'_, W>) {
    let original = check.trace();
    let request = Request::cash_with_pin(&CARD_1, CARD_1.pin, &original);
    check.exchange("right PIN", &request, Expected::APPROVED);
    let reversal = Request::reversal_advice(&CARD_1, &original, &check.trace());
    check.exchange("it is reversed (0420)", &reversal, Expected::ACCEPTED);
    let expected = Expected::declined("94", "9913");
    check.exchange("its repeat 0101 comes too late", &request.repeat(), expected);
}
