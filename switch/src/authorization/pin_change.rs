//! A PIN that its cardholder sets at a terminal (R194): what the request comes to once the current
//! PIN is right. The script for the chip rides in the same answer.

use super::decision::Evidence;
use super::pin;
use super::product::Product;
use super::response_code::Reason;
use super::trail::{Finding, Trail};
use crate::cards::card::CardState;
use crate::clock::Timestamp;
use crate::hsm::{AcceptPinError, AcceptedPin};

/// What the HSM said of the new PIN makes the answer; and the card, if that changes. Where there is
/// no new PIN the card keeps its own, and the right one that was entered has set its counter back.
pub(super) fn judge(
    card: &CardState,
    product: &Product,
    evidence: &Evidence,
    now: Timestamp,
    trail: &mut Trail,
) -> (Reason, Option<CardState>) {
    let (reason, finding) = match evidence.new_pin.as_deref() {
        Some(Ok(new)) => {
            trail.push(Finding::NewPinSet.into());
            return (Reason::Approved, Some(changed(card, product, new, now)));
        }
        None | Some(Err(AcceptPinError::Unusable)) => {
            (Reason::NewPinRefused, Finding::NewPinUnusable)
        }
        Some(Err(AcceptPinError::Weak)) => (Reason::NewPinRefused, Finding::NewPinWeak),
        Some(Err(_)) => (Reason::Unavailable, Finding::PinUnavailable),
    };
    trail.push(finding.into());
    (reason, pin::right(card))
}

/// The card with its new PIN, which waits for its chips where these verify PINs.
fn changed(card: &CardState, product: &Product, new: &AcceptedPin, now: Timestamp) -> CardState {
    let card = card.with_pin(new.reference);
    match new.kept.as_ref().filter(|_| product.has_offline_pin()) {
        Some(kept) => card.with_pin_for_chips(kept, now),
        None => card,
    }
}
