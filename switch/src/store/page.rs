//! Pages: what a call to read more than one thing gives at once.

use std::sync::Arc;

use super::record::TransactionRecord;
use crate::authorization::Reason;
use crate::cards::CardKey;
use crate::clock::Timestamp;

/// Most items of a page, whatever is asked for.
pub const PAGE_ITEMS_MAX: usize = 10_000;

/// A part of a longer list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<K, T> {
    /// What was found, each with its id. There may be fewer than were asked for, or none, and more
    /// to come: a page reads only so much.
    pub items: Vec<(K, T)>,
    /// From where on the list goes on; `None` at its end.
    pub next: Option<K>,
}

impl<K: Clone, T> Page<K, T> {
    /// The first `max` of `items`: there is more if there is one more of these.
    #[must_use]
    pub fn first(mut items: Vec<(K, T)>, max: usize) -> Page<K, T> {
        let has_more = items.len() > max;
        items.truncate(max);
        let next = items.last().filter(|_| has_more).map(|(id, _)| id.clone());
        Page { items, next }
    }
}

/// In which order transactions are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest first.
    #[default]
    NewestFirst,
    /// The oldest first.
    OldestFirst,
}

/// Which transactions are wanted; by default all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionFilter {
    /// Of one card.
    pub card: Option<CardKey>,
    /// Of one network.
    pub network: Option<Arc<str>>,
    /// With one outcome.
    pub code: Option<Reason>,
    /// Decided at this time or later.
    pub from: Option<Timestamp>,
    /// Decided before this time.
    pub to: Option<Timestamp>,
    /// In which order.
    pub order: Order,
}

impl TransactionFilter {
    /// Those of one card.
    #[must_use]
    pub fn of_card(card: CardKey) -> TransactionFilter {
        TransactionFilter { card: Some(card), ..TransactionFilter::default() }
    }

    /// Whether a transaction is one of these.
    #[must_use]
    pub fn takes(&self, record: &TransactionRecord) -> bool {
        self.card.is_none_or(|card| card == record.card)
            && self.network.as_ref().is_none_or(|network| *network == record.network)
            && self.code.is_none_or(|code| code == record.answer.reason)
            && self.from.is_none_or(|from| record.time >= from)
            && self.to.is_none_or(|to| record.time < to)
    }
}
