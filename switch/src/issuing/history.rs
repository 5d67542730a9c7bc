//! What a card was used for.

use super::change::load;
use super::{Refused, TransactionView, audit};
use crate::event::Actor;
use crate::store::Store;
use crate::store::page::TransactionFilter;
use crate::switch::{Seams, Switch};

/// Transactions that are shown at once.
const TRANSACTIONS_MAX: usize = 1_000;

/// The last transactions of a card, the newest first, as far back as they are kept.
///
/// # Errors
/// [`Refused::NoSuchCard`], or a record cannot be read.
pub async fn transactions<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
    count: usize,
) -> Result<Vec<TransactionView>, Refused> {
    let card = load(switch, token).await;
    let card = audit::of_card(switch, actor, ("transactions", token), card).await?;
    let filter = TransactionFilter::of_card(card.entry.identity.key);
    let page = switch.store.transactions(filter, None, count.min(TRANSACTIONS_MAX)).await?;
    Ok(page.items.iter().map(TransactionView::of).collect())
}
