//! Whether the plastic that a request speaks of may be used at all.

use super::product::Product;
use super::request::Request;
use super::response_code::Reason;
use super::trail::Finding;
use crate::cards::card::CardState;
use crate::cards::plastic::{CardStatus, Plastic};
use crate::clock::Timestamp;

/// The plastic that the request speaks of, with its place; or the reason why it declines, in the
/// order of the rules: expired, suspended for PIN tries, blocked otherwise, not active.
///
/// # Errors
/// The reason of the decline.
pub(super) fn check<'a>(
    request: &Request,
    card: &'a CardState,
    product: &Product,
    now: Timestamp,
) -> Result<(usize, &'a Plastic), (Reason, Finding)> {
    let found = card.plastic(request.expiry, request.sequence);
    let (place, plastic) = found.ok_or((Reason::ExpiredCard, Finding::NoSuchPlastic))?;
    of_plastic(plastic, product, now).map(|()| (place, plastic))
}

/// Whether this plastic may be used, or why not, in the same order.
///
/// # Errors
/// The reason of the decline.
pub(super) fn of_plastic(
    plastic: &Plastic,
    product: &Product,
    now: Timestamp,
) -> Result<(), (Reason, Finding)> {
    if plastic.expiry.is_past(now, product.utc_offset) {
        return Err((Reason::ExpiredCard, Finding::PlasticExpired));
    }
    if plastic.is_suspended_for_pin_tries() {
        return Err((Reason::PinTryLimitExceeded, Finding::SuspendedForPinTries));
    }
    match plastic.status {
        CardStatus::Active => Ok(()),
        CardStatus::Unactivated => Err((Reason::CardNotActive, Finding::CardNotActive)),
        CardStatus::Limited | CardStatus::Suspended | CardStatus::Terminated => {
            Err((Reason::CardBlocked, Finding::CardBlocked))
        }
    }
}
