//! The order of the rules: what can be decided without the HSM, and what is decided with what the
//! HSM said.

use super::chip_transaction::ChipTransaction;
use super::cryptogram::{self, CryptogramCheck};
use super::decision::{Circumstances, Cryptogram, Decision, Evidence};
use super::product::{Fallback, Product};
use super::request::Request;
use super::response_code::Reason;
use super::trail::{Finding, Note, Trail};
use super::{card_status, pin};
use crate::cards::card::CardState;
use crate::hsm::PinReference;

/// What must be verified before a decision can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequiredChecks {
    /// Nothing: this is the decision.
    None(Box<Decision>),
    /// The HSM has to be asked.
    Verify(Checks),
}

/// What the HSM is asked: the cryptogram of the request; and its PIN against a reference, but only
/// if the cryptogram, where there is one, is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// What the PIN is compared with.
    pub pin: Option<PinReference>,
    /// How the cryptogram was made.
    pub cryptogram: Option<CryptogramCheck>,
}

/// Everything that can be decided without the HSM, in the order of the rules; otherwise what
/// the HSM has to verify.
#[must_use]
pub fn required_checks(
    request: &Request,
    card: &CardState,
    product: &Product,
    circumstances: Circumstances,
) -> RequiredChecks {
    let decided = |reason, note: Note| {
        RequiredChecks::None(Decision::because(reason, Trail::from_iter([note])).into())
    };
    if !product.is_known() {
        return decided(Reason::FunctionNotSupported, Finding::ProductUnknown.into());
    }
    let plastic = match card_status::check(request, card, product, circumstances.now) {
        Ok(plastic) => plastic,
        Err((reason, finding)) => return decided(reason, finding.into()),
    };
    let cryptogram = match cryptogram::required(request, product, plastic) {
        Ok(check) => check,
        Err(note) => return decided(Reason::BadCryptogram, note),
    };
    // A chip whose cryptogram is verified was read, whatever DE22 says.
    let declines = product.chip.as_ref().is_some_and(|rules| rules.fallback == Fallback::Decline);
    if declines && cryptogram.is_none() && request.is_fallback() {
        return decided(Reason::BadCryptogram, Finding::StripeOfChip.into());
    }
    let reference = card.pin.reference.filter(|_| request.pin_block.is_some());
    let pin = reference.filter(|_| !circumstances.bad_pin_blocks_exhausted);
    match (pin, cryptogram) {
        // An approval on a cryptogram that nobody verified would be an approval of a copy.
        (_, None)
            if request.chip.is_some() && request.pin_block.is_none() && !request.is_refund() =>
        {
            decided(Reason::BadCryptogram, Finding::NoChipKeys.into())
        }
        (None, None) => {
            let mut trail = Trail::new();
            let reason = pin::unverified(request, card, product, &mut trail);
            RequiredChecks::None(Decision::because(reason, trail).into())
        }
        (pin, cryptogram) => RequiredChecks::Verify(Checks { pin, cryptogram }),
    }
}

/// The decision after cryptogram and PIN were verified.
#[must_use]
pub fn decide(
    request: &Request,
    card: &CardState,
    product: &Product,
    evidence: &Evidence,
    circumstances: Circumstances,
) -> Decision {
    let mut trail = Trail::new();
    let Some(verified) = evidence.cryptogram else {
        let judged = (evidence, circumstances.now);
        let (reason, change) = pin::judge(request, card, product, judged, &mut trail);
        let cryptogram = Cryptogram::None { pin: evidence.pin };
        return Decision { cryptogram, change, ..Decision::because(reason, trail) };
    };
    let refused = |reason, trail| Decision {
        cryptogram: Cryptogram::Refused(verified.outcome),
        ..Decision::because(reason, trail)
    };
    let accepted = match cryptogram::accept(request, card, &verified, circumstances.now, &mut trail)
    {
        Ok(accepted) => accepted,
        Err(reason) => return refused(reason, trail),
    };
    match ChipTransaction::new(request, card, product, accepted, circumstances) {
        Some(transaction) => transaction.decide(evidence, trail),
        None => {
            debug_assert!(false, "a cryptogram comes with chip data, and rules say how it is made");
            refused(Reason::BadCryptogram, trail)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use iso_specs::{Mti, OutgoingMessage, Spec, decode};

    use super::*;
    use crate::authorization::VerifiedCryptogram;
    use crate::cards::chip_state::{AtcWindow, Chip};
    use crate::cards::{Expiry, Plastic};
    use crate::clock::Timestamp;
    use crate::config::{Config, DEMO};
    use crate::outcome::{CryptogramOutcome, PinOutcome};

    /// DE55 of Visa's CVN 0A, with the ATC 7, without a space between the objects.
    const DE55: &str = "9F26081122334455667788 9F100706010A03A00000 9F0206000000001000 \
        9F0306000000000000 9F1A020276 95050000000000 5F2A020978 9A03261121 9C0100 \
        9F370401020304 82021800 9F36020007";

    fn request() -> Request {
        let dialect = Spec::from_toml(Spec::builtin("iso8583-1987-ascii").unwrap()).unwrap();
        let de55 = DE55.replace(' ', "");
        let bytes = (0..de55.len()).step_by(2);
        let de55: Vec<u8> =
            bytes.map(|at| u8::from_str_radix(&de55[at..at + 2], 16).unwrap()).collect();
        let mut message = OutgoingMessage::new(Mti::AUTHORIZATION_REQUEST);
        message.set(2, b"4761340000000027").set(3, b"000000").set(4, b"000000001000");
        message.set(7, b"1121120000").set(11, b"000001").set(22, b"051").set(49, b"978");
        message.set(52, &[7; 8]).set(55, &de55);
        let mut frame = Vec::new();
        message.encode(&dialect, &mut frame).unwrap();
        Request::parse(&decode(&dialect, &frame).unwrap()).unwrap()
    }

    /// Also where somebody has asked about the PIN.
    #[test]
    fn a_refused_cryptogram_leaves_no_word_of_the_pin() {
        let config = Config::parse(DEMO, "demo.toml", Path::new(".")).unwrap();
        let product = config.product("demo-chip").unwrap();
        let (request, now) = (request(), Timestamp::from_seconds(1_800_000_000));
        let card = CardState::new(Plastic::new(Expiry::parse(b"2912").unwrap(), 1));
        let counters = AtcWindow { highest: 7, seen: 1, retry: None };
        let seen = card.with_chip(0, Chip { counters, ..Chip::default() });
        let check = CryptogramCheck::of_request(&request, &card, product).unwrap();
        let circumstances = Circumstances { now, bad_pin_blocks_exhausted: false, transaction: 7 };
        let decided = |card, outcome, pin| {
            let cryptogram = Some(VerifiedCryptogram { check, outcome });
            let evidence = Evidence { pin: Some(pin), cryptogram, new_pin: None };
            decide(&request, card, product, &evidence, circumstances)
        };
        for pin in PinOutcome::ALL {
            let (right, wrong) = (CryptogramOutcome::Right, CryptogramOutcome::Wrong);
            let accepted = decided(&card, right, pin).cryptogram;
            assert_eq!(accepted, Cryptogram::Accepted { pin: Some(pin) });
            for (card, outcome, reason) in [
                (&card, wrong, Reason::BadCryptogram),
                (&card, CryptogramOutcome::Unavailable, Reason::Unavailable),
                (&seen, right, Reason::BadCryptogram),
            ] {
                let refused = decided(card, outcome, pin);
                assert_eq!(refused.reason, reason);
                assert_eq!(refused.cryptogram, Cryptogram::Refused(outcome));
                assert_eq!((refused.cryptogram.pin(), refused.change), (None, None));
            }
        }
    }
}
