//! Online PIN: when it is required, and the counter of wrong tries (consecutive
//! wrong PINs 1 to N-1 answer 1809, the N-th answers 1872 and suspends the card).

use super::cvn::Covers;
use super::decision::Evidence;
use super::product::{Fallback, PinRequired, Product};
use super::request::Request;
use super::response_code::Reason;
use super::trail::{Finding, Note, Trail};
use super::{limits, pin_change};
use crate::cards::card::{CardState, OnlinePin};
use crate::clock::Timestamp;
use crate::outcome::PinOutcome;

/// Whether this request must bring a PIN. Who sets another one proves that he knows this one.
pub(super) fn is_required(request: &Request, product: &Product) -> bool {
    if request.pin_change.is_some() {
        return true;
    }
    let by_product = match product.pin_required {
        PinRequired::Never => false,
        PinRequired::Cash => is_cash(request),
        PinRequired::CardPresent => is_cash(request) || is_card_present(request),
    };
    by_product || is_required_by_fallback(request, product)
}

/// A card with a chip whose stripe was read instead. A chip that was read all the same has its
/// cryptogram verified, and a refund needs no PIN.
pub(super) fn is_required_by_fallback(request: &Request, product: &Product) -> bool {
    let asks = product.chip.as_ref().is_some_and(|rules| rules.fallback == Fallback::OnlinePin);
    asks && request.is_fallback() && request.chip.is_none() && !request.is_refund()
}

/// Cash by the message, or by what the terminal told the chip (9C). Not every cryptogram covers 9C;
/// but that a transaction is cash only makes rules stricter, so who changes it gains nothing.
pub(super) fn is_cash(request: &Request) -> bool {
    is_cash_by_message(request) || is_cash_by_chip(request)
}

/// Cash where that grants something: 9C counts only under a cryptogram.
pub(super) fn is_surely_cash(request: &Request, covers: &Covers) -> bool {
    is_cash_by_message(request) || covers.has(0x9C) && is_cash_by_chip(request)
}

fn is_cash_by_message(request: &Request) -> bool {
    let at_cash_merchant = matches!(request.merchant_category.as_ref(), Some(b"6010" | b"6011"));
    request.processing_code.is_cash() || at_cash_merchant
}

fn is_cash_by_chip(request: &Request) -> bool {
    matches!(request.terminal_type(), Some(0x01 | 0x17))
}

/// Read at a terminal by contact chip or magnetic stripe; contactless (07, 91) does not count.
fn is_card_present(request: &Request) -> bool {
    matches!(request.pan_entry().as_ref(), Some(b"02" | b"05" | b"90" | b"95"))
}

/// What a request comes to by its PIN, and by what is behind it: the limits, or the new PIN, at
/// this time; and the card, if that changes.
pub(super) fn judge(
    request: &Request,
    card: &CardState,
    product: &Product,
    (evidence, now): (&Evidence, Timestamp),
    trail: &mut Trail,
) -> (Reason, Option<CardState>) {
    let Some(outcome) = evidence.pin else {
        return (unverified(request, card, product, trail), None);
    };
    match verified(card, product, outcome, trail) {
        (Reason::Approved, _) if request.pin_change.is_some() => {
            pin_change::judge(card, product, evidence, now, trail)
        }
        (Reason::Approved, change) => (limits::check(request, product, trail), change),
        declined => declined,
    }
}

/// What a PIN comes to of which the HSM said this; and the card, if that changes.
pub(super) fn verified(
    card: &CardState,
    product: &Product,
    outcome: PinOutcome,
    trail: &mut Trail,
) -> (Reason, Option<CardState>) {
    match outcome {
        PinOutcome::Unavailable => {
            trail.push(Finding::PinUnavailable.into());
            (Reason::Unavailable, None)
        }
        PinOutcome::BadPinBlock => {
            trail.push(Finding::PinBlockUnusable.into());
            (Reason::BadPinBlock, None)
        }
        PinOutcome::Wrong => {
            let (reason, card_after) = wrong(card, product);
            // 0 stands for a product without a limit, which is never 0.
            let limit = product.pin_retry_limit.map_or(0, u32::from);
            trail.push(Note::of(Finding::WrongPin, card_after.pin.tries.into(), limit.into()));
            (reason, Some(card_after))
        }
        PinOutcome::Right => {
            trail.push(Finding::RightPin.into());
            (Reason::Approved, right(card))
        }
    }
}

/// What a request comes to whose PIN the HSM was not asked about.
pub(super) fn unverified(
    request: &Request,
    card: &CardState,
    product: &Product,
    trail: &mut Trail,
) -> Reason {
    let (reason, finding) = match (&request.pin_block, card.pin.reference) {
        // The card has had its number of unusable PIN blocks for this minute on this link.
        (Some(_), Some(_)) => (Reason::BadPinBlock, Finding::PinBlockUnusable),
        (Some(_), None) => (Reason::PinRequired, Finding::NoPinSet),
        (None, _) if is_required(request, product) => {
            if is_required_by_fallback(request, product) {
                trail.push(Finding::StripeOfChip.into());
            }
            (Reason::PinRequired, Finding::PinMissing)
        }
        (None, _) => {
            trail.push(Finding::NoPinRequired.into());
            return limits::check(request, product, trail);
        }
    };
    trail.push(finding.into());
    reason
}

/// A wrong PIN: one more try, and the suspension of every plastic in use when the limit is reached.
pub(super) fn wrong(card: &CardState, product: &Product) -> (Reason, CardState) {
    let tries = card.pin.tries.saturating_add(1);
    let counted = card.with_tries(tries);
    match product.pin_retry_limit {
        Some(limit) if tries >= limit.get() => {
            (Reason::PinTryLimitExceeded, counted.suspended_for_pin_tries())
        }
        _ => (Reason::InvalidPin, counted),
    }
}

/// A right PIN: the counter starts again at zero; `None` where it is zero already.
pub(super) fn right(card: &CardState) -> Option<CardState> {
    let OnlinePin { tries, .. } = card.pin;
    (tries > 0).then(|| card.with_tries(0))
}
