//! All cards in memory, found by card key or token. The state of a card is one immutable
//! snapshot, moved by compare-and-swap only; reading takes no lock and no map guard leaves
//! this file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::card::{CardIdentity, CardState};
use super::vault::CardKey;
use crate::authorization::Product;
use crate::clock::Timestamp;

/// A card in the cache.
#[derive(Debug)]
pub struct CardEntry {
    /// What never changes of it.
    pub identity: CardIdentity,
    /// The rules it follows.
    pub product: Arc<Product>,
    state: ArcSwap<CardState>,
    /// Where its last transaction record stands; 0 for none.
    last_record: AtomicU64,
    bad_pin_blocks: BadPinBlocks,
}

/// What a card is made of, before it is in the cache.
#[derive(Debug)]
pub struct NewCard {
    /// What never changes of it.
    pub identity: CardIdentity,
    /// The rules it follows.
    pub product: Arc<Product>,
    /// Its first state.
    pub state: CardState,
}

/// A card as it was at one moment: every decision is made on one of these, and committed only
/// if the card is still the same.
#[derive(Clone, Debug)]
pub struct Card {
    /// The card.
    pub entry: Arc<CardEntry>,
    /// Its state at that moment.
    pub state: Arc<CardState>,
}

impl Card {
    /// Whether the card still has the state that was read.
    #[must_use]
    pub fn is_current(&self) -> bool {
        Arc::ptr_eq(&self.state, &self.entry.state.load())
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

    /// Puts a state in place that was read from the store at start.
    pub fn restore(&self, state: CardState) {
        self.state.store(Arc::new(state));
    }

    /// The count of unusable PIN blocks in the running minute.
    #[must_use]
    pub const fn bad_pin_blocks(&self) -> &BadPinBlocks {
        &self.bad_pin_blocks
    }
}

/// Unusable PIN blocks of one card: a window of 60 seconds that starts with the first one.
/// Kept in memory only: it limits how fast somebody may probe, nothing more.
#[derive(Debug, Default)]
pub struct BadPinBlocks(AtomicU64);

impl BadPinBlocks {
    const WINDOW_SECONDS: u32 = 60;

    /// How many came in the window that runs at `now`.
    #[must_use]
    pub fn count(&self, now: Timestamp) -> u32 {
        let (start, count) = Self::unpack(self.0.load(Ordering::Relaxed));
        if Self::seconds(now).wrapping_sub(start) < Self::WINDOW_SECONDS { count } else { 0 }
    }

    /// Counts one more.
    pub fn add(&self, now: Timestamp) {
        let next = |packed| {
            let (start, count) = Self::unpack(packed);
            let running = Self::seconds(now).wrapping_sub(start) < Self::WINDOW_SECONDS;
            Some(match running && count > 0 {
                true => Self::pack(start, count.saturating_add(1)),
                false => Self::pack(Self::seconds(now), 1),
            })
        };
        // The closure never says no, so there is no failure to handle.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    fn seconds(now: Timestamp) -> u32 {
        // Modulo 2^32: only differences below a minute are ever used.
        u32::try_from(now.seconds() & 0xFFFF_FFFF).unwrap_or_default()
    }

    fn unpack(packed: u64) -> (u32, u32) {
        let [a, b, c, d, e, f, g, h] = packed.to_be_bytes();
        (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
    }

    fn pack(start: u32, count: u32) -> u64 {
        u64::from(start) << 32 | u64::from(count)
    }
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

/// The cache of all cards.
#[derive(Debug, Default)]
pub struct Cards {
    by_key: DashMap<CardKey, Arc<CardEntry>, foldhash::fast::RandomState>,
    by_token: DashMap<Box<str>, CardKey, foldhash::fast::RandomState>,
}

impl Cards {
    /// The card with this key as it is now.
    #[must_use]
    pub fn load(&self, key: &CardKey) -> Option<Card> {
        let entry = self.by_key.get(key).map(|entry| Arc::clone(&entry))?;
        let state = entry.state();
        Some(Card { entry, state })
    }

    /// The card with this token as it is now.
    #[must_use]
    pub fn load_by_token(&self, token: &str) -> Option<Card> {
        let key = self.by_token.get(token).map(|key| *key)?;
        self.load(&key)
    }

    /// Whether a card with this key and token can be added.
    ///
    /// # Errors
    /// What is taken.
    pub fn is_free(&self, card: &CardIdentity) -> Result<(), Taken> {
        if self.by_key.contains_key(&card.key) {
            return Err(Taken::Pan);
        }
        if self.by_token.contains_key(&card.token) { Err(Taken::Token) } else { Ok(()) }
    }

    /// Adds a card.
    ///
    /// # Errors
    /// If its PAN or token is taken; nothing has changed then.
    pub fn add(&self, card: NewCard) -> Result<(), Taken> {
        let CardIdentity { key, token, .. } = card.identity.clone();
        match self.by_token.entry(token.clone()) {
            Entry::Occupied(_) => return Err(Taken::Token),
            Entry::Vacant(place) => place.insert(key),
        };
        let entry = CardEntry {
            identity: card.identity,
            product: card.product,
            state: ArcSwap::from_pointee(card.state),
            last_record: AtomicU64::new(0),
            bad_pin_blocks: BadPinBlocks::default(),
        };
        match self.by_key.entry(key) {
            Entry::Vacant(place) => {
                place.insert(Arc::new(entry));
                Ok(())
            }
            Entry::Occupied(_) => {
                self.by_token.remove(&token);
                Err(Taken::Pan)
            }
        }
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

    /// Every card; one that is added meanwhile may be among them or not.
    #[must_use]
    pub fn entries(&self) -> Vec<Arc<CardEntry>> {
        self.by_key.iter().map(|entry| Arc::clone(&entry)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_pin_blocks_are_counted_for_a_minute() {
        let blocks = BadPinBlocks::default();
        let at = Timestamp::from_seconds;
        assert_eq!(blocks.count(at(1_000)), 0);
        blocks.add(at(1_000));
        blocks.add(at(1_030));
        assert_eq!(blocks.count(at(1_059)), 2);
        assert_eq!(blocks.count(at(1_060)), 0);
        blocks.add(at(1_060));
        assert_eq!(blocks.count(at(1_061)), 1);
    }
}
