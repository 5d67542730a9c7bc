//! The embedded store: all cards in memory, a journal as the truth, snapshots beside it. Reading
//! order: this file; `commits` and `pages` (what is written and read back); `open` and `answers`;
//! the journal: [`types`], [`segment`] and `tail_mark` (the bytes), [`journal`], `tail` (append and
//! write), `sync`, `supply` and `keeper` (segments ahead and behind), `blocks` (reading while it is
//! written), `recovery`, `scan` and `lost`; `in_use`; [`snapshot`] (the bytes), [`snapshot_read`],
//! `snapshots`. What a record holds is in [`crate::store::record`].
//!
//! A commit checks the card, appends and swaps under the lock of the journal's end, so the
//! journal has the order of the swaps. That lock is held for a copy in memory, never during a
//! sync; only where the next segment is not ready in time is it made under the lock.

mod answers;
pub mod backup;
mod blocks;
pub mod check;
mod commits;
mod files;
mod in_use;
pub mod journal;
mod keeper;
mod lost;
mod open;
pub mod options;
mod pages;
mod recovery;
mod scan;
pub mod segment;
pub mod snapshot;
pub mod snapshot_read;
mod snapshots;
mod supply;
mod sync;
mod tail;
mod tail_mark;
pub mod types;
mod witness;

#[cfg(test)]
mod backup_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod failure_tests;
#[cfg(test)]
mod journal_tests;
#[cfg(test)]
mod page_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod removal_tests;
#[cfg(test)]
mod snapshot_tests;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod test_support;

use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

pub use open::{OpenOptions, OpenStoreError, Recovery};

use compact_str::CompactString;

use super::document::{Document, DocumentChange, DocumentKind};
use super::documents::Documents;
use super::duplicates::{
    Asked, ByNetwork, Claim, DuplicateKey, Duplicates, Kept, Look, Named, Original, Sought,
};
use super::page::{PAGE_ITEMS_MAX, Page, TransactionFilter};
use super::readers::{ReaderError, ReaderName, Readers};
use super::record::{
    Event, EventId, OwnKeys, Part, RecordId, Told, Transaction, TransactionRecord,
};
use super::{Addition, Claimed, Commit, CommitError, Found, NotDone, Removal, Store, StoreError};
use crate::authorization::Product;
use crate::cache::{Card, CardEntry, Cards, Products};
use crate::cards::CardKey;
use crate::clock::{Clock, SettledClock, Timestamp};
use crate::config::SyncMode;
use crate::hsm::Kcv;
use journal::Journal;
use types::{Failed, Sequence};

/// The embedded store.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    snapshots: snapshots::Snapshots,
    witness: Option<witness::Witness>,
}

/// What the store and its snapshot thread share.
struct Shared {
    journal: Journal,
    cards: Cards,
    duplicates: ByNetwork,
    documents: Documents,
    /// The products whose rules cards follow.
    products: Arc<Products>,
    readers: Readers,
    sync: SyncMode,
    /// How much of the journal one page reads, in bytes.
    page_scan_bytes_max: u64,
    clock: Arc<dyn Clock>,
    settled: SettledClock,
    /// Microseconds from the monotonic time to that by which answers are aged: the civil time of
    /// the start, whatever is done to the clock since.
    age_offset_micros: i64,
    /// Bytes appended since the snapshot that the store was opened with.
    appended_bytes: AtomicU64,
    /// Where the newest record stands: all of it, and of those before it, is in memory.
    newest: AtomicU64,
    /// The last removal of a card: that there is no such card was decided on it.
    last_removal: AtomicU64,
    /// Held while a snapshot is taken, and while none may be.
    taking_snapshot: Mutex<()>,
    /// Check values of the keys that the store was made with; none before the first start.
    own_keys: OnceLock<OwnKeys>,
}

impl EmbeddedStore {
    /// Writes and syncs everything and ends the threads.
    ///
    /// # Errors
    /// If the journal has failed.
    pub fn close(&self) -> Result<(), StoreError> {
        self.snapshots.stop();
        self.shared.journal.close().map_err(failed)?;
        self.witness.iter().for_each(witness::Witness::stop);
        Ok(())
    }

    /// Binds the store to the keys it is used with, once for all; the keys that it was made with.
    ///
    /// # Errors
    /// If the journal has failed.
    pub fn bind(&self, keys: OwnKeys) -> Result<OwnKeys, StoreError> {
        if let Some(known) = self.shared.own_keys.get() {
            return Ok(*known);
        }
        self.shared.append_own_keys(&keys)?;
        Ok(*self.shared.own_keys.get_or_init(|| keys))
    }

    /// All documents of a kind, in the order of their tokens; for the start, before anybody asks.
    #[must_use]
    pub fn documents_of(&self, kind: DocumentKind) -> Vec<Arc<Document>> {
        self.shared.documents.page(kind, None, usize::MAX, self.shared.document_now())
    }

    /// A document of this kind, as it is now.
    #[must_use]
    pub fn document_of(&self, kind: DocumentKind, token: &str) -> Option<Arc<Document>> {
        self.shared.documents.get(kind, token, self.shared.document_now())
    }

    /// Writes a product that each start writes again if it is lost, so nobody waits for it.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn restate(&self, change: DocumentChange, rules: Product) -> Result<(), CommitError> {
        let product = Some(Box::new(rules));
        let commit = Commit { documents: vec![change], product, ..Commit::default() };
        self.shared.append_commit(commit, &mut None).map(drop)
    }

    /// Resolves when the store has failed, so that the process can stop.
    pub fn failed(&self) -> impl Future<Output = StoreError> + Send + use<> {
        let journal_failed = self.shared.journal.failed();
        async move { failed(journal_failed.await) }
    }

    /// All cards.
    #[must_use]
    pub fn cache(&self) -> &Cards {
        &self.shared.cards
    }

    /// What was committed together at a position; nothing if its segment is kept no more.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn entry(&self, position: u64) -> Result<Vec<Part>, StoreError> {
        self.shared.entry(position)
    }

    /// Reads files, on a thread where that stops nobody.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || read(&shared)).await;
        done.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
    }

    async fn synced(&self, sequence: Sequence) -> Result<(), StoreError> {
        self.shared.journal.synced(sequence).await.map_err(failed)
    }
}

impl Shared {
    /// The time by which answers are aged.
    fn age(&self) -> Timestamp {
        let elapsed = i64::try_from(self.clock.monotonic().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(elapsed).shifted(self.age_offset_micros)
    }

    /// The time by which documents are over: while the clock is not believed, none is.
    fn document_now(&self) -> Timestamp {
        match self.settled.is_settled(&*self.clock) {
            true => self.clock.now(),
            false => Timestamp::from_micros(i64::MIN),
        }
    }

    /// Looks at the clock. A jump is written down: a later start must not take what was answered
    /// before it for old, and believes the clock no sooner than this process does.
    fn look_at_clock(&self) -> Result<(), StoreError> {
        let Some(micros) = self.settled.look(&*self.clock) else { return Ok(()) };
        tracing::error!(
            seconds = micros / 1_000_000,
            "the clock has jumped: nothing is deleted by its age for clock_settle_seconds"
        );
        self.append_clock_jump(micros)
    }

    fn duplicates(&self, network: &str) -> Result<&Duplicates, StoreError> {
        let index = self.duplicates.of(network);
        debug_assert!(index.is_some(), "the networks of all links have one");
        index.ok_or_else(|| StoreError::Unavailable(format!("no link is of the network {network}")))
    }
}

impl Store for EmbeddedStore {
    type Claim = Claim;

    async fn claim(
        &self,
        network: &str,
        asked: Asked<impl Fn() -> [DuplicateKey; 3] + Send>,
    ) -> Result<Claimed<Claim>, StoreError> {
        let index = self.shared.duplicates(network)?;
        loop {
            match index.look(&asked, self.shared.age()) {
                Look::First(claim) => return Ok(Claimed::First(claim)),
                Look::Conflict { durable_at } => {
                    self.synced(Sequence::new(durable_at)).await?;
                    return Ok(Claimed::Conflict);
                }
                Look::Repeat(Kept { answer, durable_at, position }) => {
                    self.synced(Sequence::new(durable_at)).await?;
                    return Ok(Claimed::Repeat(answer, RecordId(position)));
                }
                // It ends when the answer is there or given up: either way, look again.
                Look::Wait(waiting) => drop(waiting.await),
            }
        }
    }

    async fn knows(&self, network: &str, named: Named) -> Result<bool, StoreError> {
        let index = self.shared.duplicates(network)?;
        loop {
            let waiting = {
                let now = self.shared.age();
                let mut originals = index.originals(named, now);
                match originals.in_flight() {
                    None => return Ok(originals.is_known()),
                    Some(waiting) => waiting,
                }
            };
            drop(waiting.await);
        }
    }

    async fn find(
        &self,
        network: &str,
        (sought, after): (&Sought, RecordId),
    ) -> Result<Found, StoreError> {
        let index = self.shared.duplicates(network)?;
        while let Some(waiting) = index.in_flight(sought) {
            drop(waiting.await);
        }
        let newest = RecordId(self.shared.newest.load(Ordering::Acquire));
        let (sought, network) = (*sought, network.to_owned());
        match (sought.trace(), sought.card) {
            (Some(trace), _) => match index.candidates(&sought, trace, self.shared.age()) {
                Some(mut positions) => {
                    positions.retain(|at| *at > after.0);
                    if positions.is_empty() {
                        return Ok(Found::Nothing(newest));
                    }
                    self.read(move |shared| {
                        shared.only_at(&network, (&sought, newest), positions.into_iter())
                    })
                    .await
                }
                None => Ok(Found::Several),
            },
            (None, Some(card)) => match self.shared.cards.load(&card) {
                Some(card) => {
                    self.read(move |shared| {
                        shared.only_of_card(&network, (&sought, newest), (&card, after))
                    })
                    .await
                }
                None => Ok(Found::Nothing(newest)),
            },
            (None, None) => Ok(Found::Nothing(newest)),
        }
    }

    fn duplicate_window(&self, network: &str) -> Duration {
        let index = self.shared.duplicates.of(network);
        index.map_or(Duration::ZERO, |index| index.window(self.shared.age()))
    }

    async fn load(&self, key: &CardKey) -> Result<Option<Card>, StoreError> {
        Ok(self.shared.cards.load(key))
    }

    async fn load_by_token(&self, token: &str) -> Result<Option<Card>, StoreError> {
        Ok(self.shared.cards.load_by_token(token))
    }

    async fn backup(&self, to: &Path) -> Result<String, StoreError> {
        let to = to.to_owned();
        let made = self.read(move |shared| shared.backup(&to)).await?;
        Ok(made.to_string())
    }

    async fn references_made_with(&self, kcv: Kcv) -> Result<usize, StoreError> {
        // All cards are looked at: on a thread where that stops nobody.
        self.read(move |shared| Ok(shared.cards.count(|entry| entry.state().needs_key(kcv)))).await
    }

    async fn commit(
        &self,
        commit: Commit<'_>,
        claim: &mut Option<Claim>,
    ) -> Result<RecordId, CommitError> {
        let appended = self.shared.append_commit(commit, claim)?;
        if appended.waits {
            self.synced(appended.sequence).await?;
        }
        Ok(RecordId(appended.position.to_u64()))
    }

    async fn add_cards(
        &self,
        cards: Vec<Addition>,
    ) -> Result<Vec<Result<(), NotDone>>, StoreError> {
        let appended = cards.into_iter().map(|card| self.shared.append_card(card));
        self.all_synced(appended.collect::<Result<_, StoreError>>()?).await
    }

    async fn remove_cards(
        &self,
        cards: Vec<Removal>,
    ) -> Result<Vec<Result<(), NotDone>>, StoreError> {
        let appended = cards.into_iter().map(|card| self.shared.append_removal(card));
        self.all_synced(appended.collect::<Result<_, StoreError>>()?).await
    }

    async fn transactions(
        &self,
        filter: TransactionFilter,
        after: Option<RecordId>,
        items_max: usize,
    ) -> Result<Page<RecordId, TransactionRecord>, StoreError> {
        let max = items_max.min(PAGE_ITEMS_MAX);
        self.read(move |shared| shared.transactions(&filter, after, max)).await
    }

    async fn transaction(&self, id: RecordId) -> Result<Option<TransactionRecord>, StoreError> {
        // An id that nobody was given may be any place: what cannot be read there is none.
        self.read(move |shared| Ok(shared.transaction(id.0).ok().flatten())).await.map(|found| {
            found.map(|transaction: Transaction<'static>| transaction.record.into_owned())
        })
    }

    async fn reversed(&self, id: RecordId) -> Result<Option<Original>, StoreError> {
        let parts = self.read(move |shared| Ok(shared.entry(id.0).unwrap_or_default())).await?;
        Ok(parts.into_iter().find_map(|part| match part {
            Part::Reversal(reversed) => Some(reversed.original),
            _ => None,
        }))
    }

    async fn card_events(
        &self,
        card: &Card,
        after: Option<EventId>,
        items_max: usize,
    ) -> Result<Page<EventId, Event>, StoreError> {
        let (card, max) = (card.clone(), items_max.min(PAGE_ITEMS_MAX));
        self.read(move |shared| shared.card_events(&card, after, max)).await
    }

    async fn events(
        &self,
        after: EventId,
        items_max: usize,
    ) -> Result<Page<EventId, Told>, ReaderError> {
        let max = items_max.min(PAGE_ITEMS_MAX);
        self.shared.check_place(after)?;
        Ok(self.read(move |shared| shared.events(after, max)).await?)
    }

    fn acknowledged(&self, reader: &ReaderName) -> Option<EventId> {
        self.shared.readers.place(reader)
    }

    async fn acknowledge(&self, reader: &ReaderName, through: EventId) -> Result<(), ReaderError> {
        let sequence = self.shared.append_acknowledgement(reader, through)?;
        Ok(self.synced(sequence).await?)
    }

    async fn forget_reader(&self, reader: &ReaderName) -> Result<(), StoreError> {
        let sequence = self.shared.append_forgotten(reader)?;
        self.synced(sequence).await
    }

    async fn cards(
        &self,
        after: Option<CardKey>,
        items_max: usize,
    ) -> Result<Page<CardKey, Card>, StoreError> {
        let max = items_max.min(PAGE_ITEMS_MAX);
        self.read(move |shared| {
            let entries = shared.cards.page(after, max.saturating_add(1));
            let cards = entries.into_iter().map(|entry| (entry.identity.key, Card::of(entry)));
            Ok(Page::first(cards.collect(), max))
        })
        .await
    }

    async fn cards_of_product(&self, product: &str) -> Result<Vec<Arc<CardEntry>>, StoreError> {
        let product: Box<str> = product.into();
        self.read(move |shared| Ok(shared.cards.of_product(&product))).await
    }

    async fn document(
        &self,
        kind: DocumentKind,
        token: &str,
    ) -> Result<Option<Arc<Document>>, StoreError> {
        let found = self.shared.documents.get(kind, token, self.shared.document_now());
        // What is answered by it must not be taken back by a power failure.
        if let Some(document) = &found {
            self.synced(Sequence::new(document.version)).await?;
        }
        Ok(found)
    }

    async fn documents(
        &self,
        kind: DocumentKind,
        after: Option<&str>,
        items_max: usize,
    ) -> Result<Page<CompactString, Arc<Document>>, StoreError> {
        let max = items_max.min(PAGE_ITEMS_MAX);
        let now = self.shared.document_now();
        let found = self.shared.documents.page(kind, after, max.saturating_add(1), now);
        if let Some(newest) = found.iter().map(|document| document.version).max() {
            self.synced(Sequence::new(newest)).await?;
        }
        let found = found.into_iter().map(|document| (document.token.clone(), document));
        Ok(Page::first(found.collect(), max))
    }

    fn may_forget(&self) -> bool {
        self.shared.settled.is_settled(&*self.shared.clock)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.shared.journal.flush().map_err(failed)
    }

    fn health(&self) -> Result<(), StoreError> {
        self.flush()
    }
}

impl EmbeddedStore {
    /// Waits for the last of these with one sync.
    async fn all_synced(
        &self,
        appended: Vec<Result<Sequence, NotDone>>,
    ) -> Result<Vec<Result<(), NotDone>>, StoreError> {
        if let Some(last) = appended.iter().filter_map(|done| done.as_ref().ok()).max() {
            self.synced(*last).await?;
        }
        Ok(appended.into_iter().map(|done| done.map(drop)).collect())
    }
}

#[allow(clippy::needless_pass_by_value, reason = "`map_err` hands the error over")]
fn failed(error: Failed) -> StoreError {
    StoreError::Failed(error.to_string())
}
