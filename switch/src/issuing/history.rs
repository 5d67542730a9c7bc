//! What a card was used for.

use super::cards::load;
use super::{Refused, TransactionView};
use crate::store::Store;
use crate::switch::{Seams, Switch};

/// Transactions that are shown at once.
const TRANSACTIONS_MAX: usize = 1_000;

/// The last transactions of a card, the newest first, as far back as they are kept.
///
/// # Errors
/// [`Refused::NoSuchCard`], or a record cannot be read.
pub async fn transactions<W: Seams>(
    switch: &Switch<W>,
    token: &str,
    count: usize,
) -> Result<Vec<TransactionView>, Refused> {
    let card = load(switch, token).await?;
    let records = switch.store.history(&card, count.min(TRANSACTIONS_MAX)).await?;
    Ok(records.iter().map(TransactionView::of).collect())
}
