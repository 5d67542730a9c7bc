//! Limits of the product on one transaction.

use super::product::Product;
use super::request::{Money, Request};
use super::response_code::Reason;

/// Currency and amount against the product. The amount is compared in the product's currency:
/// DE6 if DE51 is that currency, else DE4 if DE49 is; a limit that cannot be compared declines.
///
/// # Errors
/// [`Reason::AboveLimit`].
pub(super) fn check(request: &Request, product: &Product) -> Result<(), Reason> {
    let currencies = &product.allowed_currencies;
    let allowed = currencies.is_empty() || currencies.contains(&request.amount.currency);
    let Some(limit) = product.limit_per_transaction else {
        return if allowed { Ok(()) } else { Err(Reason::AboveLimit) };
    };
    let comparable = |amount: &Money| amount.currency == product.currency;
    let amount = request.billing.filter(comparable).or(Some(request.amount).filter(comparable));
    match amount {
        Some(amount) if allowed && amount.minor_units <= limit => Ok(()),
        _ => Err(Reason::AboveLimit),
    }
}
