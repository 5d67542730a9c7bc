//! The embedded store: all cards in memory, a journal as the truth, snapshots beside it. Reading
//! order: this file; `open` and `answers`; the journal: [`types`], [`segment`] and `tail_mark`
//! (the bytes), [`journal`], `tail` (append and write), `sync`, `supply` and `keeper` (segments
//! ahead and behind), `recovery`, `scan` and `lost`; `in_use`; [`snapshot`] (the bytes),
//! [`snapshot_read`], `snapshots`. What a record holds is in [`crate::store::record`].
//!
//! A commit checks the card, appends and swaps under the lock of the journal's end, so the
//! journal has the order of the swaps. That lock is held for a copy in memory, never during a
//! sync; only where the next segment is not ready in time is it made under the lock.

mod answers;
mod files;
mod in_use;
pub mod journal;
mod keeper;
mod lost;
mod open;
pub mod options;
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

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod failure_tests;
#[cfg(test)]
mod journal_tests;
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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub use open::{OpenOptions, OpenStoreError, Recovery};

use super::duplicates::{
    Asked, ByNetwork, Claim, DuplicateKey, Duplicates, Kept, Look, Named, Originals, Sought, WINDOW,
};
use super::record::{self, OwnKeys, Part, RecordId, TransactionRecord};
use super::{Claimed, Commit, CommitError, Found, Reversal, Store, StoreFailed};
use crate::cache::{Card, CardEntry, Cards};
use crate::cache::{NewCard, Taken};
use crate::cards::CardKey;
use crate::clock::{Clock, SettledClock, Timestamp};
use crate::config::SyncMode;
use crate::hsm::Kcv;
use journal::{Append, Journal};
use types::{AppendError, Failed, Position, ReadError, Sequence};

/// Bytes of a usual entry.
const ENTRY_BYTES: usize = 512;

/// The embedded store.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    snapshots: snapshots::Snapshots,
}

/// What the store and its snapshot thread share.
struct Shared {
    journal: Journal,
    cards: Cards,
    duplicates: ByNetwork,
    sync: SyncMode,
    clock: Arc<dyn Clock>,
    settled: SettledClock,
    /// Microseconds from the monotonic time to that by which answers are aged: the civil time of
    /// the start, whatever is done to the clock since.
    age_offset_micros: i64,
    /// Bytes appended since the snapshot that the store was opened with.
    appended_bytes: AtomicU64,
    /// Where the newest record stands of which all is in memory.
    newest: AtomicU64,
    /// The last removal of a card: that there is no such card was decided on it.
    last_removal: AtomicU64,
    /// Check values of the keys that the store was made with; none before the first start.
    own_keys: OnceLock<OwnKeys>,
}

/// Where a commit stands in the journal.
#[derive(Clone, Copy)]
struct Appended {
    sequence: Sequence,
    position: Position,
    waits: bool,
}

impl EmbeddedStore {
    /// Writes and syncs everything and ends the threads.
    ///
    /// # Errors
    /// If the journal has failed.
    pub fn close(&self) -> Result<(), StoreFailed> {
        self.snapshots.stop();
        self.shared.journal.close().map_err(failed)
    }

    /// Binds the store to the keys it is used with, once for all; the keys that it was made with.
    ///
    /// # Errors
    /// If the journal has failed.
    pub fn bind(&self, keys: OwnKeys) -> Result<OwnKeys, StoreFailed> {
        if let Some(known) = self.shared.own_keys.get() {
            return Ok(*known);
        }
        let mut payload = Vec::new();
        record::begin_entry(&mut payload);
        record::put_own_keys(&mut payload, &keys);
        // Nobody waits: if it is lost, the next start says it again.
        let record = Append { is_awaited: false, ..by_issuer(&payload) };
        self.shared.journal.lock().append(record).map_err(append_failed)?;
        Ok(*self.shared.own_keys.get_or_init(|| keys))
    }

    /// Resolves when the store has failed, so that the process can stop.
    pub fn failed(&self) -> impl Future<Output = StoreFailed> + Send + use<> {
        let journal_failed = self.shared.journal.failed();
        async move { failed(journal_failed.await) }
    }

    /// All cards.
    #[must_use]
    pub fn cards(&self) -> &Cards {
        &self.shared.cards
    }

    /// What was committed together at a position; nothing if its segment is kept no more.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn entry(&self, position: u64) -> Result<Vec<Part>, StoreFailed> {
        let payload = match self.shared.journal.read(Position::from_u64(position)) {
            Ok((_, payload)) => payload,
            Err(ReadError::Retired) => return Ok(Vec::new()),
            Err(error) => return Err(StoreFailed(error.to_string())),
        };
        let mut parts = Vec::new();
        let read = record::read_entry(&payload, |part| parts.push(part));
        read.map(|()| parts).map_err(|error| StoreFailed(error.to_string()))
    }

    /// The transaction at a position; none if its segment is kept no more.
    fn transaction(&self, position: u64) -> Result<Option<TransactionRecord>, StoreFailed> {
        let mut parts = self.entry(position)?.into_iter();
        Ok(parts.find_map(|part| match part {
            Part::Transaction(record) => Some(*record),
            _ => None,
        }))
    }

    /// The transactions of a card, newest first.
    fn history_of(
        &self,
        card: &Card,
    ) -> impl Iterator<Item = Result<(RecordId, TransactionRecord), StoreFailed>> {
        let mut position = card.entry.last_record();
        std::iter::from_fn(move || {
            let at = RecordId(std::mem::take(&mut position));
            if at.0 == 0 {
                return None;
            }
            let record = self.transaction(at.0).transpose()?;
            let previous = record.as_ref().ok().and_then(|record| record.previous);
            position = previous.unwrap_or_default();
            Some(record.map(|record| (at, record)))
        })
    }

    /// The only one among the newest of a card.
    fn only_of_card(
        &self,
        network: &str,
        (sought, newest): (&Sought, RecordId),
        (card, after): (&Card, RecordId),
    ) -> Result<Found, StoreFailed> {
        let now = self.shared.clock.now();
        let is_new = |found: &Result<(RecordId, TransactionRecord), StoreFailed>| {
            let is_new = |(id, record): &(RecordId, TransactionRecord)| {
                *id > after && now.since(record.time) < WINDOW
            };
            found.as_ref().map_or(true, is_new)
        };
        let records = self.history_of(card).take(SEARCHED_MAX).take_while(is_new);
        only(network, (sought, newest), records.map(|found| found.map(|(_, record)| record)))
    }
}

/// How many transactions of a card are looked at for one that a reversal speaks of.
const SEARCHED_MAX: usize = 64;

/// The only one of these that is sought. Requests that differ in DE37 alone are one: all of them
/// are reversed where it does not count.
fn only(
    network: &str,
    (sought, newest): (&Sought, RecordId),
    records: impl Iterator<Item = Result<TransactionRecord, StoreFailed>>,
) -> Result<Found, StoreFailed> {
    let mut found: Option<TransactionRecord> = None;
    for record in records {
        let record = record?;
        if !record.is(network, sought) {
            continue;
        }
        let digest = record.duplicate_key.digest;
        match &found {
            Some(known) if known.duplicate_key.digest != digest => return Ok(Found::Several),
            Some(_) => {}
            None => found = Some(record),
        }
    }
    Ok(found.map_or(Found::Nothing(newest), |record| Found::One(record.into())))
}

impl Shared {
    fn append_commit(
        &self,
        commit: Commit<'_>,
        claim: &mut Option<Claim>,
    ) -> Result<Appended, CommitError> {
        let mut payload = Vec::with_capacity(ENTRY_BYTES);
        record::begin_entry(&mut payload);
        if let Some((card, state)) = commit.card.zip(commit.change.as_ref()) {
            record::put_card_changed(&mut payload, &card.entry.identity.key, state);
        }
        if let Some(event) = &commit.event {
            record::put_event(&mut payload, event);
        }
        let mut tail = self.journal.lock();
        if commit.card.is_some_and(|card| !card.is_current()) {
            return Err(CommitError::Changed);
        }
        let time = commit.transaction.as_ref().map(|transaction| transaction.time);
        let reversed = match commit.reverses.zip(commit.transaction.as_ref()) {
            None => None,
            Some((reversal, transaction)) => {
                self.reverse((reversal, tail.next()), commit.card, transaction)?
            }
        };
        if let Some(transaction) = &commit.transaction {
            let previous = commit.card.map(|card| card.entry.last_record());
            record::put_transaction(&mut payload, transaction, previous);
        }
        if let Some((reversal, time)) = commit.reverses.zip(time) {
            record::put_reversal(&mut payload, &reversal.original(), time);
        }
        let last_removal = || self.last_removal.load(Ordering::Relaxed);
        let decided_on = commit.card.map_or_else(last_removal, |card| card.state.version);
        let waits = self.sync == SyncMode::All
            || commit.change.is_some()
            || commit.reverses.is_some()
            || decided_on > self.journal.synced_through().get();
        let keeps_answer = commit.transaction.as_ref().is_some_and(|record| record.is_kept);
        let record = Append { payload: &payload, is_awaited: waits, keeps_answer };
        let (sequence, position) =
            tail.append(record).map_err(|error| CommitError::Failed(append_failed(error)))?;
        if let Some((card, mut state)) = commit.card.zip(commit.change) {
            state.version = sequence.get();
            // The lock is held since the check, so nobody else can have been faster.
            let _ = card.entry.swap(&card.state, state);
        }
        if let (Some(card), Some(_)) = (commit.card, &commit.transaction) {
            card.entry.set_last_record(position.to_u64());
        }
        // Before the claim below takes the same lock.
        reversed.into_iter().for_each(|originals| originals.reverse(sequence.get()));
        if let Some(transaction) = commit.transaction.filter(|transaction| transaction.is_kept) {
            let durable_at = if waits { sequence.get() } else { 0 };
            let position = position.to_u64();
            let kept = Kept { answer: transaction.answer, durable_at, position };
            claim.take().into_iter().for_each(|claim| claim.answered(kept, self.age()));
        }
        // Last of all: who reads it finds everything of this record.
        self.newest.store(position.to_u64(), Ordering::Release);
        drop(tail);
        self.appended_bytes.fetch_add(payload.len() as u64, Ordering::Relaxed);
        Ok(Appended { sequence, position, waits })
    }

    /// The time by which answers are aged.
    fn age(&self) -> Timestamp {
        let elapsed = i64::try_from(self.clock.monotonic().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(elapsed).shifted(self.age_offset_micros)
    }

    /// Looks at the clock. A jump is written down: a later start must not take what was answered
    /// before it for old, and believes the clock no sooner than this process does.
    fn look_at_clock(&self) -> Result<(), StoreFailed> {
        let Some(micros) = self.settled.look(&*self.clock) else { return Ok(()) };
        tracing::error!(
            seconds = micros / 1_000_000,
            "the clock has jumped: nothing is deleted by its age for clock_settle_seconds"
        );
        self.append_clock_jump(micros)
    }

    fn append_clock_jump(&self, micros: i64) -> Result<(), StoreFailed> {
        let mut payload = Vec::new();
        record::begin_entry(&mut payload);
        record::put_clock_jump(&mut payload, self.clock.now(), micros);
        let record = Append { is_awaited: false, ..by_issuer(&payload) };
        self.journal.lock().append(record).map(|_| ()).map_err(append_failed)
    }

    fn duplicates(&self, network: &str) -> Result<&Duplicates, StoreFailed> {
        let index = self.duplicates.of(network);
        debug_assert!(index.is_some(), "the networks of all links have one");
        index.ok_or_else(|| StoreFailed(format!("no link is of the network {network}")))
    }

    /// The originals of a reversal, held, if they are still what its answer was decided on; what is
    /// named in part is forbidden by then. The journal's end is locked, so that nothing is answered
    /// meanwhile.
    fn reverse(
        &self,
        (reversal, sequence): (Reversal, Sequence),
        card: Option<&Card>,
        transaction: &TransactionRecord,
    ) -> Result<Option<Originals<'_>>, CommitError> {
        let (index, now) = (self.duplicates(&transaction.network)?, self.age());
        match reversal {
            Reversal::Whole(named, is_known) => {
                let mut originals = index.originals(named, now);
                let waits = originals.in_flight().is_some();
                let is_same = !waits && originals.is_known() == is_known;
                is_same.then_some(Some(originals)).ok_or(CommitError::Changed)
            }
            Reversal::InPart(in_part) => {
                let since = card.is_some_and(|card| card.entry.last_record() > in_part.searched);
                let is_done = index.reverse_in_part(&in_part, since, (sequence.get(), now));
                is_done.then_some(None).ok_or(CommitError::Changed)
            }
        }
    }

    fn append_card(&self, mut card: NewCard) -> Result<Result<Sequence, Taken>, StoreFailed> {
        let mut payload = Vec::with_capacity(ENTRY_BYTES);
        record::begin_entry(&mut payload);
        let product = card.product.name();
        record::put_card_added(&mut payload, &card.identity, product, &card.state);
        let mut tail = self.journal.lock();
        if let Err(taken) = self.cards.is_free(&card.identity) {
            return Ok(Err(taken));
        }
        let (sequence, _) = tail.append(by_issuer(&payload)).map_err(append_failed)?;
        card.state.version = sequence.get();
        let added = self.cards.add(card);
        drop(tail);
        self.appended_bytes.fetch_add(payload.len() as u64, Ordering::Relaxed);
        Ok(added.map(|_| sequence))
    }

    fn append_removal(&self, card: &CardEntry) -> Result<Option<Sequence>, StoreFailed> {
        let mut payload = Vec::with_capacity(ENTRY_BYTES);
        record::begin_entry(&mut payload);
        record::put_card_removed(&mut payload, &card.identity.key);
        let mut tail = self.journal.lock();
        if card.is_removed() {
            return Ok(None);
        }
        let (sequence, _) = tail.append(by_issuer(&payload)).map_err(append_failed)?;
        self.cards.remove(card);
        self.last_removal.store(sequence.get(), Ordering::Relaxed);
        drop(tail);
        self.appended_bytes.fetch_add(payload.len() as u64, Ordering::Relaxed);
        Ok(Some(sequence))
    }
}

impl Store for EmbeddedStore {
    type Claim = Claim;

    async fn claim(
        &self,
        network: &str,
        asked: Asked<impl Fn() -> [DuplicateKey; 3] + Send>,
    ) -> Result<Claimed<Claim>, StoreFailed> {
        let index = self.shared.duplicates(network)?;
        loop {
            match index.look(&asked, self.shared.age()) {
                Look::First(claim) => return Ok(Claimed::First(claim)),
                Look::Conflict { durable_at } => {
                    self.shared.journal.synced(Sequence::new(durable_at)).await.map_err(failed)?;
                    return Ok(Claimed::Conflict);
                }
                Look::Repeat(Kept { answer, durable_at, .. }) => {
                    self.shared.journal.synced(Sequence::new(durable_at)).await.map_err(failed)?;
                    return Ok(Claimed::Repeat(answer));
                }
                // It ends when the answer is there or given up: either way, look again.
                Look::Wait(waiting) => drop(waiting.await),
            }
        }
    }

    async fn knows(&self, network: &str, named: Named) -> Result<bool, StoreFailed> {
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
    ) -> Result<Found, StoreFailed> {
        let index = self.shared.duplicates(network)?;
        while let Some(waiting) = index.in_flight(sought) {
            drop(waiting.await);
        }
        let newest = RecordId(self.shared.newest.load(Ordering::Acquire));
        match (sought.trace(), sought.card) {
            (Some(trace), _) => match index.candidates(sought, trace, self.shared.age()) {
                Some(positions) => {
                    let positions = positions.into_iter().filter(|at| *at > after.0);
                    let records = positions.map(|at| self.transaction(at));
                    only(network, (sought, newest), records.filter_map(Result::transpose))
                }
                None => Ok(Found::Several),
            },
            (None, Some(card)) => match self.shared.cards.load(&card) {
                Some(card) => self.only_of_card(network, (sought, newest), (&card, after)),
                None => Ok(Found::Nothing(newest)),
            },
            (None, None) => Ok(Found::Nothing(newest)),
        }
    }

    fn duplicate_window(&self, network: &str) -> Duration {
        let index = self.shared.duplicates.of(network);
        index.map_or(Duration::ZERO, |index| index.window(self.shared.age()))
    }

    async fn load(&self, key: &CardKey) -> Result<Option<Card>, StoreFailed> {
        Ok(self.shared.cards.load(key))
    }

    async fn load_by_token(&self, token: &str) -> Result<Option<Card>, StoreFailed> {
        Ok(self.shared.cards.load_by_token(token))
    }

    async fn history(
        &self,
        card: &Card,
        records_max: usize,
    ) -> Result<Vec<(RecordId, TransactionRecord)>, StoreFailed> {
        self.history_of(card).take(records_max).collect()
    }

    async fn references_made_with(&self, kcv: Kcv) -> Result<usize, StoreFailed> {
        Ok(self.shared.cards.count(|entry| entry.state().needs_key(kcv)))
    }

    async fn commit(
        &self,
        commit: Commit<'_>,
        claim: &mut Option<Claim>,
    ) -> Result<RecordId, CommitError> {
        let appended = self.shared.append_commit(commit, claim)?;
        if appended.waits {
            self.shared.journal.synced(appended.sequence).await.map_err(failed)?;
        }
        Ok(RecordId(appended.position.to_u64()))
    }

    async fn add_cards(&self, cards: Vec<NewCard>) -> Result<Vec<Result<(), Taken>>, StoreFailed> {
        let appended: Vec<Result<Sequence, Taken>> = cards
            .into_iter()
            .map(|card| self.shared.append_card(card))
            .collect::<Result<_, StoreFailed>>()?;
        if let Some(last) = appended.iter().filter_map(|card| card.ok()).max() {
            self.shared.journal.synced(last).await.map_err(failed)?;
        }
        Ok(appended.into_iter().map(|card| card.map(|_| ())).collect())
    }

    async fn remove_cards(&self, cards: &[Card]) -> Result<Vec<bool>, StoreFailed> {
        let appended: Vec<Option<Sequence>> = cards
            .iter()
            .map(|card| self.shared.append_removal(&card.entry))
            .collect::<Result<_, StoreFailed>>()?;
        if let Some(last) = appended.iter().copied().flatten().max() {
            self.shared.journal.synced(last).await.map_err(failed)?;
        }
        Ok(appended.iter().map(Option::is_some).collect())
    }

    fn may_forget(&self) -> bool {
        self.shared.settled.is_settled(&*self.shared.clock)
    }

    fn flush(&self) -> Result<(), StoreFailed> {
        self.shared.journal.flush().map_err(failed)
    }

    fn health(&self) -> Result<(), StoreFailed> {
        self.flush()
    }
}

/// What the issuer changes is always waited for.
fn by_issuer(payload: &[u8]) -> Append<'_> {
    Append { payload, is_awaited: true, keeps_answer: false }
}

#[allow(clippy::needless_pass_by_value, reason = "`map_err` hands the error over")]
fn failed(error: Failed) -> StoreFailed {
    StoreFailed(error.to_string())
}

#[allow(clippy::needless_pass_by_value, reason = "`map_err` hands the error over")]
fn append_failed(error: AppendError) -> StoreFailed {
    StoreFailed(error.to_string())
}
