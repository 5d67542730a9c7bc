//! Limits of the product on one transaction.

use super::product::Product;
use super::request::{Money, Request};
use super::response_code::Reason;
use super::trail::{Finding, Note, Trail};

/// Currency and amount against the product. The amount is compared in the product's currency: DE4
/// if DE49 is that currency, and DE6 too if DE51 is; a limit that cannot be compared declines. A
/// balance inquiry has no amount.
///
/// [`Reason::Approved`] or [`Reason::AboveLimit`].
pub(super) fn check(request: &Request, product: &Product, trail: &mut Trail) -> Reason {
    if request.processing_code.is_balance_inquiry() {
        return Reason::Approved;
    }
    let currencies = &product.allowed_currencies;
    let currency = request.amount.currency;
    if !currencies.is_empty() && !currencies.contains(&currency) {
        trail.push(Note::of(Finding::CurrencyNotAllowed, currency.into(), 0));
        return Reason::AboveLimit;
    }
    let Some(limit) = product.limit_per_transaction else { return Reason::Approved };
    let own = |amount: &Money| amount.currency == product.currency;
    let amounts = [Some(request.amount), request.billing];
    match amounts.into_iter().flatten().filter(own).map(|amount| amount.minor_units).max() {
        None => {
            trail.push(Note::of(Finding::LimitNotComparable, currency.into(), limit));
            Reason::AboveLimit
        }
        Some(amount) if amount > limit => {
            trail.push(Note::of(Finding::AboveLimit, amount, limit));
            Reason::AboveLimit
        }
        Some(_) => Reason::Approved,
    }
}
