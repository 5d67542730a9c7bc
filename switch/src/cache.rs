//! The cache: all cards in memory, found by card key or token, each with the product whose rules it
//! follows. The state of a card is one immutable snapshot, moved by compare-and-swap only; reading
//! takes no lock and no map guard leaves this file.
//!
//! A card takes about 250 bytes: two allocations, entry and state, and a pointer in each of two
//! tables. So what is rare is not here, and small things are small.

mod bad_pin_blocks;
mod products;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use foldhash::fast::RandomState;

use crate::authorization::Product;
use crate::cards::CardKey;
use crate::cards::card::{CardIdentity, CardState};
use crate::clock::Timestamp;
pub use bad_pin_blocks::BadPinBlocks;
pub use products::{ProductEntry, Products};

/// A card in the cache.
#[derive(Debug)]
pub struct CardEntry {
    /// What never changes of it.
    pub identity: CardIdentity,
    /// The product whose rules it follows.
    pub product: Arc<ProductEntry>,
    state: ArcSwap<CardState>,
    /// Where its last transaction record stands; 0 for none.
    last_record: AtomicU64,
    /// When its last unusable PIN block came on any link, in seconds since 1970; 0 for none.
    last_bad_pin_block: AtomicU32,
    /// Set when it leaves the cache: who still holds it must not commit on it.
    is_removed: AtomicBool,
}

/// What a card is made of, before it is in the cache.
#[derive(Debug)]
pub struct NewCard {
    /// What never changes of it.
    pub identity: CardIdentity,
    /// The product whose rules it follows.
    pub product: Arc<ProductEntry>,
    /// Its first state.
    pub state: CardState,
}

/// A card as it was at one moment: every decision is made on one of these, and committed only if
/// the card and the rules of its product are still the same.
#[derive(Clone, Debug)]
pub struct Card {
    /// The card.
    pub entry: Arc<CardEntry>,
    /// Its state at that moment.
    pub state: Arc<CardState>,
    /// The rules of its product at that moment.
    pub product: Arc<Product>,
}

impl Card {
    /// An entry as it is now.
    #[must_use]
    pub fn of(entry: Arc<CardEntry>) -> Card {
        let (state, product) = (entry.state(), entry.product.rules());
        Card { entry, state, product }
    }

    /// Whether the card is still there, and its state and the rules of its product are those that
    /// were read.
    #[must_use]
    pub fn is_current(&self) -> bool {
        Arc::ptr_eq(&self.state, &self.entry.state.load())
            && self.entry.product.has(&self.product)
            && !self.entry.is_removed()
    }
}

impl CardEntry {
    /// Moves the card from the state that was read to another one; `false` and no change if
    /// somebody else was faster.
    #[must_use]
    pub fn swap(&self, read: &Arc<CardState>, next: CardState) -> bool {
        let previous = self.state.compare_and_swap(read, Arc::new(next));
        Arc::ptr_eq(&previous, read)
    }

    /// Its state now.
    #[must_use]
    pub fn state(&self) -> Arc<CardState> {
        self.state.load_full()
    }

    /// Where its last transaction record stands; 0 for none.
    #[must_use]
    pub fn last_record(&self) -> u64 {
        self.last_record.load(Ordering::Relaxed)
    }

    /// Notes where its last transaction record stands. Called in the order of the records.
    pub fn set_last_record(&self, position: u64) {
        self.last_record.store(position, Ordering::Relaxed);
    }

    /// Whether it was removed.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Acquire)
    }

    /// Puts a state in place that was read from the store at start.
    pub fn restore(&self, state: CardState) {
        self.state.store(Arc::new(state));
    }

    /// Whether an unusable PIN block may have come in the time before `now`, on any link.
    #[must_use]
    pub(super) fn had_bad_pin_block(&self, within: Duration, now: Timestamp) -> bool {
        let last = u64::from(self.last_bad_pin_block.load(Ordering::Relaxed));
        let age = u64::from(seconds(now)).checked_sub(last);
        last > 0 && age.is_some_and(|age| age <= within.as_secs())
    }

    pub(super) fn note_bad_pin_block(&self, now: Timestamp) {
        self.last_bad_pin_block.store(seconds(now), Ordering::Relaxed);
    }
}

fn seconds(time: Timestamp) -> u32 {
    u32::try_from(time.seconds()).unwrap_or_default()
}

/// Why a card was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Taken {
    /// Another card has this PAN.
    #[error("a card with this PAN exists already")]
    Pan,
    /// Another card has this token.
    #[error("a card with this token exists already")]
    Token,
}

/// Parts of a table, each with a lock of its own. A pass over all cards holds one after the other,
/// and who adds a card waits for it while everything that is appended waits for him: of 10 million
/// cards, a part has 10,000, which take half a millisecond.
const PARTS: usize = 1_024;

/// The cache of all cards.
#[derive(Debug)]
pub struct Cards {
    by_key: DashMap<ByKey, (), RandomState>,
    by_token: DashMap<ByToken, (), RandomState>,
}

impl Default for Cards {
    fn default() -> Cards {
        Cards {
            by_key: DashMap::with_hasher_and_shard_amount(RandomState::default(), PARTS),
            by_token: DashMap::with_hasher_and_shard_amount(RandomState::default(), PARTS),
        }
    }
}

/// A card, found by its key.
#[derive(Debug)]
struct ByKey(Arc<CardEntry>);

impl Borrow<CardKey> for ByKey {
    fn borrow(&self) -> &CardKey {
        &self.0.identity.key
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &ByKey) -> bool {
        self.0.identity.key == other.0.identity.key
    }
}

impl Eq for ByKey {}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.identity.key.hash(state);
    }
}

/// A card, found by its token.
#[derive(Debug)]
struct ByToken(Arc<CardEntry>);

impl Borrow<str> for ByToken {
    fn borrow(&self) -> &str {
        &self.0.identity.token
    }
}

impl PartialEq for ByToken {
    fn eq(&self, other: &ByToken) -> bool {
        self.0.identity.token == other.0.identity.token
    }
}

impl Eq for ByToken {}

impl Hash for ByToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.identity.token.as_str().hash(state);
    }
}

impl Cards {
    /// The card with this key as it is now.
    #[must_use]
    pub fn load(&self, key: &CardKey) -> Option<Card> {
        self.by_key.get(key).map(|entry| Arc::clone(&entry.key().0)).map(Card::of)
    }

    /// The entry of the card with this key.
    #[must_use]
    pub fn entry(&self, key: &CardKey) -> Option<Arc<CardEntry>> {
        self.by_key.get(key).map(|entry| Arc::clone(&entry.key().0))
    }

    /// The card with this token as it is now.
    #[must_use]
    pub fn load_by_token(&self, token: &str) -> Option<Card> {
        self.by_token.get(token).map(|entry| Arc::clone(&entry.key().0)).map(Card::of)
    }

    /// Whether a card with this key and token can be added.
    ///
    /// # Errors
    /// What is taken.
    pub fn is_free(&self, card: &CardIdentity) -> Result<(), Taken> {
        if self.by_key.contains_key(&card.key) {
            return Err(Taken::Pan);
        }
        if self.by_token.contains_key(card.token.as_str()) { Err(Taken::Token) } else { Ok(()) }
    }

    /// Adds a card; its entry. Additions and removals are made by one at a time: the store does
    /// both under the lock of its journal's end.
    ///
    /// # Errors
    /// If its PAN or token is taken; nothing has changed then.
    pub fn add(&self, card: NewCard) -> Result<Arc<CardEntry>, Taken> {
        self.is_free(&card.identity)?;
        let entry = Arc::new(CardEntry {
            identity: card.identity,
            product: card.product,
            state: ArcSwap::from_pointee(card.state),
            last_record: AtomicU64::new(0),
            last_bad_pin_block: AtomicU32::new(0),
            is_removed: AtomicBool::new(false),
        });
        self.by_token.insert(ByToken(Arc::clone(&entry)), ());
        self.by_key.insert(ByKey(Arc::clone(&entry)), ());
        Ok(entry)
    }

    /// Takes a card out. Nothing can be committed on it from then on.
    pub fn remove(&self, card: &CardEntry) {
        card.is_removed.store(true, Ordering::Release);
        self.by_key.remove(&card.identity.key);
        self.by_token.remove(card.identity.token.as_str());
    }

    /// How many cards there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// How many cards there are of which this is true. It is asked under the lock of a part of
    /// them, so it must be quick.
    #[must_use]
    pub fn count(&self, is_true: impl Fn(&CardEntry) -> bool) -> usize {
        self.by_key.iter().filter(|entry| is_true(&entry.key().0)).count()
    }

    /// The cards of which this is true, as [`Cards::count`] asks it.
    #[must_use]
    pub fn those(&self, is_true: impl Fn(&CardEntry) -> bool) -> Vec<Arc<CardEntry>> {
        let those = self.by_key.iter().filter(|entry| is_true(&entry.key().0));
        those.map(|entry| Arc::clone(&entry.key().0)).collect()
    }

    /// The cards of a product.
    #[must_use]
    pub fn of_product(&self, product: &str) -> Vec<Arc<CardEntry>> {
        self.those(|card| card.product.name() == product)
    }

    /// Up to `max` cards in the order of their keys, from behind this one on. Each page is one pass
    /// over all cards (some 50 ns for each), since the tables have no order; it holds the lock of a
    /// part of them at a time, and no more pointers than `max`.
    #[must_use]
    pub fn page(&self, after: Option<CardKey>, max: usize) -> Vec<Arc<CardEntry>> {
        let mut first: BTreeMap<CardKey, Arc<CardEntry>> = BTreeMap::new();
        for entry in self.by_key.iter() {
            let key = entry.key().0.identity.key;
            let is_full = first.len() >= max;
            let is_before = after.is_some_and(|after| key <= after);
            if is_before || is_full && first.last_key_value().is_none_or(|(last, _)| key > *last) {
                continue;
            }
            first.insert(key, Arc::clone(&entry.key().0));
            if is_full {
                first.pop_last();
            }
        }
        first.into_values().collect()
    }

    /// Every card; one that is added meanwhile may be among them or not.
    #[must_use]
    pub fn entries(&self) -> Vec<Arc<CardEntry>> {
        self.by_key.iter().map(|entry| Arc::clone(&entry.key().0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_small() {
        // Each with the two counters of its Arc and the word that the allocator puts before it,
        // in steps of 16 bytes.
        let allocated = |bytes: usize| (bytes + 16 + 8).next_multiple_of(16);
        assert_eq!(allocated(size_of::<CardEntry>()), 128);
        assert_eq!(allocated(size_of::<CardState>()), 80);
    }
}
