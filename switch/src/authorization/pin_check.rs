//! A PIN that is checked outside a transaction: by a call centre or an app. The rules are those of
//! a transaction, and so are the counter and the suspension (R195).

use super::card_status;
use super::decision::{Cryptogram, Decision};
use super::pin;
use super::product::Product;
use super::response_code::Reason;
use super::trail::{Finding, Trail};
use crate::cards::card::CardState;
use crate::clock::Timestamp;
use crate::hsm::PinReference;
use crate::outcome::PinOutcome;

/// What the PIN is compared with, or the decision where that need not be known, by the state of the
/// plastic at this place.
///
/// # Errors
/// The decision.
pub fn required_pin_check(
    (card, plastic): (&CardState, usize),
    product: &Product,
    now: Timestamp,
) -> Result<PinReference, Box<Decision>> {
    let decided = |reason, finding: Finding| {
        Box::new(Decision::because(reason, Trail::from_iter([finding.into()])))
    };
    if !product.is_known() {
        return Err(decided(Reason::FunctionNotSupported, Finding::ProductUnknown));
    }
    let plastic = card
        .plastics
        .get(plastic)
        .ok_or_else(|| decided(Reason::ExpiredCard, Finding::NoSuchPlastic))?;
    card_status::of_plastic(plastic, product, now)
        .map_err(|(reason, finding)| decided(reason, finding))?;
    card.pin.reference.ok_or_else(|| decided(Reason::PinRequired, Finding::NoPinSet))
}

/// The decision after the PIN was verified.
#[must_use]
pub fn decide_pin_check(card: &CardState, product: &Product, outcome: PinOutcome) -> Decision {
    let mut trail = Trail::new();
    let (reason, change) = pin::verified(card, product, outcome, &mut trail);
    let cryptogram = Cryptogram::None { pin: Some(outcome) };
    Decision { cryptogram, change, ..Decision::because(reason, trail) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cards::{CardStatus, Expiry, Plastic, StatusReason};
    use crate::config::{Config, DEMO};
    use crate::key::Kcv;
    use crate::pin::ReferenceValue;

    const REFERENCE: PinReference =
        PinReference { value: ReferenceValue::Block([1; 8]), key: Kcv([1; 3]) };

    fn product() -> Product {
        let config = Config::parse(DEMO, "demo.toml", Path::new(".")).unwrap();
        Product::clone(config.product("demo-debit").unwrap())
    }

    fn now() -> Timestamp {
        Timestamp::from_seconds(1_800_000_000)
    }

    fn card(status: CardStatus, reason: StatusReason) -> CardState {
        let plastic = Plastic::new(Expiry::parse(b"2912").unwrap(), 1);
        CardState::new(plastic).with_pin(REFERENCE).with_status(0, status, reason)
    }

    fn decided(card: &CardState) -> Reason {
        required_pin_check((card, 0), &product(), now()).unwrap_err().reason
    }

    #[test]
    fn the_order_is_that_of_a_transaction() {
        let none = StatusReason::NONE;
        for (status, reason, expected) in [
            (CardStatus::Suspended, StatusReason::PIN_RETRY_LIMIT, Reason::PinTryLimitExceeded),
            (CardStatus::Suspended, none, Reason::CardBlocked),
            (CardStatus::Limited, none, Reason::CardBlocked),
            (CardStatus::Terminated, none, Reason::CardBlocked),
            (CardStatus::Unactivated, none, Reason::CardNotActive),
        ] {
            let card = card(status, reason);
            assert_eq!(decided(&card), expected, "{status:?}");
            // A plastic that is over is over, whatever its state is.
            let mut over = card.clone();
            over.plastics[0].expiry = Expiry::parse(b"2001").unwrap();
            assert_eq!(decided(&over), Reason::ExpiredCard, "{status:?}");
        }
        let active = card(CardStatus::Active, none);
        assert_eq!(required_pin_check((&active, 0), &product(), now()), Ok(REFERENCE));
        let without = CardState::new(active.plastics[0].clone());
        assert_eq!(decided(&without), Reason::PinRequired);
        let unknown = required_pin_check((&active, 0), &Product::unknown("x"), now()).unwrap_err();
        assert_eq!(unknown.reason, Reason::FunctionNotSupported);
    }

    #[test]
    fn only_a_wrong_pin_counts_and_the_last_suspends() {
        let (product, mut state) = (product(), card(CardStatus::Active, StatusReason::NONE));
        for outcome in [PinOutcome::Unavailable, PinOutcome::BadPinBlock] {
            assert_eq!(decide_pin_check(&state, &product, outcome).change, None);
        }
        for reason in [Reason::InvalidPin, Reason::InvalidPin, Reason::PinTryLimitExceeded] {
            let decision = decide_pin_check(&state, &product, PinOutcome::Wrong);
            assert_eq!(decision.reason, reason);
            let suspends = reason == Reason::PinTryLimitExceeded;
            assert_eq!(decision.suspended(&state).count(), usize::from(suspends));
            let right = decide_pin_check(&state, &product, PinOutcome::Right);
            assert_eq!(right.reason, Reason::Approved);
            assert_eq!(right.change.is_some(), state.pin.tries > 0);
            state = decision.change.unwrap();
        }
        assert!(state.plastics[0].is_suspended_for_pin_tries());
    }
}
