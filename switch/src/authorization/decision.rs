//! The decision: one synchronous function of request, card, product, outcomes and time.

use super::product::Product;
use super::request::Request;
use super::response_code::Reason;
use super::{card_status, limits, pin};
use crate::cards::card::CardState;
use crate::clock::Timestamp;
use crate::hsm::{PinReference, Verification};

/// What must be verified before a decision can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequiredChecks {
    /// Nothing: the decision is this.
    None(Reason),
    /// The PIN of the request against this reference.
    Pin(PinReference),
}

/// Where a decision came from besides request, card and product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// The civil time.
    pub now: Timestamp,
    /// Whether the card has had its number of unusable PIN blocks for this minute.
    pub bad_pin_blocks_exhausted: bool,
}

/// A decision. The change of the card and the event happen only if it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is answered.
    pub reason: Reason,
    /// The card after it, if it changes.
    pub change: Option<CardState>,
}

impl Decision {
    /// A decision that changes nothing.
    #[must_use]
    pub const fn unchanged(reason: Reason) -> Decision {
        Decision { reason, change: None }
    }

    /// Whether it suspends the card because the PIN retry limit is reached. A card that is
    /// suspended already never gets as far as a change.
    #[must_use]
    pub fn suspends(&self) -> bool {
        self.change.as_ref().is_some_and(CardState::is_suspended_for_pin_tries)
    }
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
    let decided = |reason| RequiredChecks::None(reason);
    if let Err(reason) = card_status::check(request, card, product, circumstances.now) {
        return decided(reason);
    }
    match (&request.pin_block, card.pin.reference) {
        // An approval on a cryptogram that nobody verified would be an approval of a copy.
        (None, _) if request.chip.is_some() => decided(Reason::BadCryptogram),
        (None, _) if pin::is_required(request, product) => decided(Reason::PinRequired),
        (None, _) => decided(limits::check(request, product).err().unwrap_or(Reason::Approved)),
        (Some(_), None) => decided(Reason::PinRequired),
        (Some(_), Some(_)) if circumstances.bad_pin_blocks_exhausted => {
            decided(Reason::BadPinBlock)
        }
        (Some(_), Some(reference)) => RequiredChecks::Pin(reference),
    }
}

/// The decision after the PIN was verified.
#[must_use]
pub fn decide(
    request: &Request,
    card: &CardState,
    product: &Product,
    verification: Verification,
) -> Decision {
    match verification {
        Verification::Unavailable => Decision::unchanged(Reason::Unavailable),
        Verification::BadPinBlock => Decision::unchanged(Reason::BadPinBlock),
        Verification::Mismatch => {
            let (reason, card) = pin::wrong(card, product);
            Decision { reason, change: Some(card) }
        }
        Verification::Ok => {
            let reason = limits::check(request, product).err().unwrap_or(Reason::Approved);
            Decision { reason, change: pin::right(card) }
        }
    }
}
