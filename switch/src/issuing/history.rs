//! What a card was used for.

use serde::{Deserialize, Serialize};

use super::change::load;
use super::{Refused, TransactionView, audit};
use crate::event::Actor;
use crate::store::Store;
use crate::store::page::TransactionFilter;
use crate::switch::{Seams, Switch};

/// Transactions that are shown at once.
const TRANSACTIONS_MAX: usize = 1_000;

/// The last transactions of a card.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TransactionPage {
    /// The newest first.
    pub transactions: Vec<TransactionView>,
    /// Before which the list may go on; nothing at its end.
    pub next: Option<String>,
}

/// The last transactions of a card, the newest first, as far back as they are kept.
///
/// # Errors
/// [`Refused::NoSuchCard`], or a record cannot be read.
pub async fn transactions<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
    count: usize,
) -> Result<TransactionPage, Refused> {
    let page = read(switch, token, count.min(TRANSACTIONS_MAX)).await;
    audit::of_card(switch, actor, ("transactions", token), page).await
}

async fn read<W: Seams>(
    switch: &Switch<W>,
    token: &str,
    count: usize,
) -> Result<TransactionPage, Refused> {
    let card = load(switch, token).await?;
    let filter = TransactionFilter::of_card(card.entry.identity.key);
    let page = switch.store.transactions(filter, None, count).await?;
    let transactions = page.items.iter().map(TransactionView::of).collect();
    Ok(TransactionPage { transactions, next: page.next.map(|next| next.to_string()) })
}
