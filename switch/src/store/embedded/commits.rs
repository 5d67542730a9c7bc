//! What is written: each call checks, appends and changes memory under the lock of the journal's
//! end, so that the journal has the order of the changes.

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use super::journal::{Append, Tail};
use super::types::{AppendError, Position, Sequence};
use super::{Shared, failed};
use crate::authorization::Product;
use crate::cache::Card;
use crate::clock::Timestamp;
use crate::config::SyncMode;
use crate::store::document::{DocumentChange, DocumentKind, TOKEN_BYTES_MAX};
use crate::store::duplicates::{Claim, Kept, Originals};
use crate::store::readers::{ReaderError, ReaderName};
use crate::store::record::{
    Acknowledged, CardChanged, CardHistory, CardRemoved, ClockJump, DocumentRemoved, Entry, Event,
    EventId, OwnKeys, RecordId, Reversed, StoredCard, StoredDocument, Transaction,
    TransactionRecord,
};
use crate::store::{
    Addition, Changed, Commit, CommitError, Limit, NotDone, OtherCard, Removal, Reversal,
    StoreError,
};

/// Where a commit stands in the journal.
#[derive(Clone, Copy)]
pub(super) struct Appended {
    pub(super) sequence: Sequence,
    pub(super) position: Position,
    pub(super) waits: bool,
}

/// Documents that are removed in one record, when their time is over.
const SWEPT_AT_ONCE: usize = 64;
/// Records that one sweep writes at most.
const SWEEPS_MAX: usize = 1_000;
/// Events of one commit: their ids have one byte for them.
const EVENTS_MAX: usize = 255;
/// What a commit has besides events and documents, in bytes: less than this.
const WITHOUT_DOCUMENTS_BYTES_MAX: usize = 4_096;

impl Shared {
    pub(super) fn append_commit(
        &self,
        commit: Commit<'_>,
        claim: &mut Option<Claim>,
    ) -> Result<Appended, CommitError> {
        let mut entry = Entry::default();
        if let Some((card, state)) = commit.card.zip(commit.change.as_ref()) {
            let key = card.entry.identity.key;
            entry.put(&CardChanged { key, state: Cow::Borrowed(state) });
        }
        put_other(&mut entry, commit.other.as_deref());
        let ends = match commit.events.is_empty() && commit.documents.is_empty() {
            true => Vec::new(),
            false => self.put_told_and_kept(&mut entry, &commit.events, &commit.documents)?,
        };
        let mut tail = self.journal.lock();
        let other = commit.other.as_deref().map(|other| &other.card);
        if commit.card.into_iter().chain(other).any(|card| !card.is_current()) {
            return Err(Changed::Card.into());
        }
        self.check_documents(&commit.documents)?;
        let reversed = match commit.reverses.zip(commit.transaction) {
            None => None,
            Some((reversal, transaction)) => {
                self.reverse((reversal, tail.next()), commit.card, transaction)?
            }
        };
        if let Some(record) = commit.transaction {
            let previous = commit.card.map(|card| card.entry.last_record());
            entry.put(&Transaction { previous, record: Cow::Borrowed(record) });
            if let Some(reversal) = commit.reverses {
                entry.put(&Reversed { time: record.time, original: reversal.original() });
            }
        }
        let told =
            commit.card.filter(|_| commit.transaction.is_none() && !commit.events.is_empty());
        told.into_iter().chain(other).for_each(|card| put_history(&mut entry, card));
        let waits = self.must_wait(&commit);
        let keeps_answer = commit.transaction.is_some_and(|record| record.is_kept);
        let record = Append { payload: entry.bytes(), is_awaited: waits, keeps_answer };
        let (sequence, position) = append(&mut tail, record)?;
        if let Some((card, mut state)) = commit.card.zip(commit.change) {
            state.version = sequence.get();
            let is_swapped = card.entry.swap(&card.state, state);
            debug_assert!(is_swapped, "the lock is held since the check: nobody was faster");
        }
        if let Some(card) = told.or(commit.card.filter(|_| commit.transaction.is_some())) {
            card.entry.set_last_record(position.to_u64());
        }
        change_other(commit.other, (sequence, position));
        if !ends.is_empty() {
            self.change_documents(commit.documents, &ends, sequence);
        }
        if let Some(rules) = commit.product {
            self.products.put(Product { version: sequence.get(), ..*rules });
        }
        // Before the claim below takes the same lock.
        reversed.into_iter().for_each(|originals| originals.reverse(sequence.get()));
        if let Some(transaction) = commit.transaction.filter(|transaction| transaction.is_kept) {
            let durable_at = if waits { sequence.get() } else { 0 };
            let position = position.to_u64();
            let kept = Kept { answer: transaction.answer, durable_at, position };
            claim.take().into_iter().for_each(|claim| claim.answered(kept, self.age()));
        }
        self.ended(tail, position, &entry);
        Ok(Appended { sequence, position, waits })
    }

    /// Whether the reply waits for the disk.
    fn must_wait(&self, commit: &Commit<'_>) -> bool {
        let last_removal = || self.last_removal.load(Ordering::Relaxed);
        // The rules of a product may be newer than the card.
        let of_card = |card: &Card| card.state.version.max(card.product.version);
        let decided_on = commit.card.map_or_else(last_removal, of_card);
        self.sync == SyncMode::All
            || commit.change.is_some()
            || commit.other.is_some()
            || commit.reverses.is_some()
            || !commit.documents.is_empty()
            || !commit.events.is_empty()
            || decided_on > self.journal.synced_through().get()
    }

    /// The last of an append, before the lock is given back: who reads the newest place finds
    /// everything up to there.
    fn ended(&self, tail: Tail<'_>, position: Position, entry: &Entry) {
        self.newest.store(position.to_u64(), Ordering::Release);
        drop(tail);
        self.appended_bytes.fetch_add(entry.bytes().len() as u64, Ordering::Relaxed);
    }

    /// Writes events and documents into an entry; when each document is over.
    fn put_told_and_kept(
        &self,
        entry: &mut Entry,
        events: &[Event],
        documents: &[DocumentChange],
    ) -> Result<Vec<Option<Timestamp>>, Limit> {
        if events.len() > EVENTS_MAX {
            return Err(Limit::Record);
        }
        events.iter().for_each(|event| entry.put(event));
        if documents.is_empty() && events.len() <= 1 {
            return Ok(Vec::new());
        }
        // Here, before they are written: a length of a text is one byte.
        let is_token =
            |change: &DocumentChange| (1..=TOKEN_BYTES_MAX).contains(&change.token.len());
        if !documents.iter().all(is_token) {
            return Err(Limit::Token);
        }
        let now = self.clock.now();
        let ends: Vec<_> = documents.iter().map(|change| change.over_at(now)).collect();
        for (change, expires) in documents.iter().zip(&ends) {
            change.put(*expires, entry);
        }
        // Here, while nothing has been changed.
        let room = self.journal.payload_bytes_max().saturating_sub(WITHOUT_DOCUMENTS_BYTES_MAX);
        if entry.bytes().len() > room { Err(Limit::Record) } else { Ok(ends) }
    }

    fn check_documents(&self, changes: &[DocumentChange]) -> Result<(), CommitError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.documents.check(changes, self.document_now())
    }

    fn change_documents(
        &self,
        changes: Vec<DocumentChange>,
        ends: &[Option<Timestamp>],
        sequence: Sequence,
    ) {
        for (change, expires) in changes.into_iter().zip(ends) {
            let DocumentChange { kind, token, read: replaces, body, .. } = change;
            match body {
                None => self.documents.remove(kind, &token, sequence.get()),
                Some(body) => {
                    let (token, expires) = (token.as_str().into(), *expires);
                    let stored = StoredDocument { kind, token, replaces, expires, body };
                    self.documents.put(stored.written_by(sequence.get()));
                }
            }
        }
    }

    /// The originals of a reversal, held, if they are still what its answer was decided on; what is
    /// named in part is forbidden by then. The journal's end is locked, so that nothing is answered
    /// meanwhile.
    fn reverse(
        &self,
        (reversal, sequence): (&Reversal, Sequence),
        card: Option<&Card>,
        transaction: &TransactionRecord,
    ) -> Result<Option<Originals<'_>>, CommitError> {
        let (index, now) = (self.duplicates(&transaction.network)?, self.age());
        match *reversal {
            Reversal::Whole(named, is_known) => {
                let mut originals = index.originals(named, now);
                let waits = originals.in_flight().is_some();
                let is_same = !waits && originals.is_known() == is_known;
                is_same.then_some(Some(originals)).ok_or(Changed::Original.into())
            }
            Reversal::InPart(in_part) => {
                let since = card.is_some_and(|card| card.entry.last_record() > in_part.searched);
                let is_done = index.reverse_in_part(&in_part, since, (sequence.get(), now));
                is_done.then_some(None).ok_or(Changed::Original.into())
            }
        }
    }

    pub(super) fn append_card(
        &self,
        addition: Addition,
    ) -> Result<Result<Sequence, NotDone>, StoreError> {
        let Addition { mut card, other, events, documents } = addition;
        let mut entry = Entry::of(&StoredCard {
            identity: Cow::Borrowed(&card.identity),
            product: Cow::Borrowed(card.product.name()),
            state: Cow::Borrowed(&card.state),
        });
        put_other(&mut entry, other.as_deref());
        let ends = match self.put_told_and_kept(&mut entry, &events, &documents) {
            Ok(ends) => ends,
            Err(limit) => return Ok(Err(limit.into())),
        };
        let is_told = !events.is_empty();
        if is_told {
            entry.put(&CardHistory { card: card.identity.key, previous: 0 });
        }
        let mut tail = self.journal.lock();
        if let Err(taken) = self.cards.is_free(&card.identity) {
            return Ok(Err(taken.into()));
        }
        if other.as_ref().is_some_and(|other| !other.card.is_current()) {
            return Ok(Err(Changed::Card.into()));
        }
        if let Err(refused) = self.check_documents(&documents) {
            return not_done(refused).map(Err);
        }
        other.iter().for_each(|other| put_history(&mut entry, &other.card));
        let (sequence, position) = append(&mut tail, by_issuer(&entry)).map_err(store_error)?;
        card.state.version = sequence.get();
        let added = self.cards.add(card);
        debug_assert!(added.is_ok(), "the lock is held since the check: it is still free");
        if let Some(entry) = added.iter().find(|_| is_told) {
            entry.set_last_record(position.to_u64());
        }
        change_other(other, (sequence, position));
        self.change_documents(documents, &ends, sequence);
        self.ended(tail, position, &entry);
        Ok(added.map(|_| sequence).map_err(NotDone::from))
    }

    pub(super) fn append_removal(
        &self,
        removal: Removal,
    ) -> Result<Result<Sequence, NotDone>, StoreError> {
        let Removal { card, events, documents } = removal;
        let mut entry = Entry::of(&CardRemoved { key: card.entry.identity.key });
        let ends = match self.put_told_and_kept(&mut entry, &events, &documents) {
            Ok(ends) => ends,
            Err(limit) => return Ok(Err(limit.into())),
        };
        let mut tail = self.journal.lock();
        if card.entry.is_removed() {
            return Ok(Err(NotDone::Gone));
        }
        if let Err(refused) = self.check_documents(&documents) {
            return not_done(refused).map(Err);
        }
        let (sequence, position) = append(&mut tail, by_issuer(&entry)).map_err(store_error)?;
        self.cards.remove(&card.entry);
        self.last_removal.store(sequence.get(), Ordering::Relaxed);
        self.change_documents(documents, &ends, sequence);
        self.ended(tail, position, &entry);
        Ok(Ok(sequence))
    }

    /// A reader that is beyond the newest record has read data that are no more: what is written in
    /// between would pass it by unseen.
    pub(super) fn check_place(&self, place: EventId) -> Result<(), ReaderError> {
        match place.record > RecordId(self.newest.load(Ordering::Acquire)) {
            true => Err(ReaderError::NotThere(place)),
            false => Ok(()),
        }
    }

    /// What must be on disk before the acknowledgement is answered: where it says nothing new, all
    /// that was said before.
    pub(super) fn append_acknowledgement(
        &self,
        reader: &ReaderName,
        through: EventId,
    ) -> Result<Sequence, ReaderError> {
        let mut tail = self.journal.lock();
        self.check_place(through)?;
        if !self.readers.is_new(reader, through)? {
            return Ok(self.journal.appended_through());
        }
        let acknowledged =
            Acknowledged { reader: reader.as_str().into(), is_forgotten: false, through };
        let entry = Entry::of(&acknowledged);
        let appended = append(&mut tail, by_issuer(&entry)).map_err(store_error)?;
        self.readers.note(&acknowledged);
        self.ended(tail, appended.1, &entry);
        Ok(appended.0)
    }

    pub(super) fn append_forgotten(&self, reader: &ReaderName) -> Result<Sequence, StoreError> {
        let (through, is_forgotten) = (EventId::NONE, true);
        let forgotten = Acknowledged { reader: reader.as_str().into(), is_forgotten, through };
        let entry = Entry::of(&forgotten);
        let mut tail = self.journal.lock();
        if self.readers.place(reader).is_none() {
            return Ok(self.journal.appended_through());
        }
        let (sequence, position) = append(&mut tail, by_issuer(&entry)).map_err(store_error)?;
        self.readers.note(&forgotten);
        self.ended(tail, position, &entry);
        Ok(sequence)
    }

    /// Removes documents whose time is over. Nobody waits: until they are gone they count as gone.
    pub(super) fn sweep_documents(&self) -> Result<(), StoreError> {
        if !self.settled.is_settled(&*self.clock) {
            return Ok(());
        }
        for _ in 0..SWEEPS_MAX {
            let now = self.clock.now();
            if self.documents.over(now, 1).is_empty() {
                return Ok(());
            }
            let mut tail = self.journal.lock();
            // Looked for again, since now nobody changes them.
            let over = self.documents.over(now, SWEPT_AT_ONCE);
            let mut entry = Entry::default();
            let places: Vec<(DocumentKind, &str)> =
                over.iter().map(|document| (document.kind, &*document.token)).collect();
            for (kind, token) in &places {
                entry.put(&DocumentRemoved { kind: *kind, token: Cow::Borrowed(token) });
            }
            let (sequence, position) = append(&mut tail, unawaited(&entry)).map_err(store_error)?;
            for (kind, token) in &places {
                self.documents.remove(*kind, token, sequence.get());
            }
            self.ended(tail, position, &entry);
        }
        Ok(())
    }

    pub(super) fn append_own_keys(&self, keys: &OwnKeys) -> Result<(), StoreError> {
        // Nobody waits: if it is lost, the next start says it again.
        self.append_alone(&Entry::of(keys))
    }

    pub(super) fn append_clock_jump(&self, micros: i64) -> Result<(), StoreError> {
        self.append_alone(&Entry::of(&ClockJump { time: self.clock.now(), micros }))
    }

    fn append_alone(&self, entry: &Entry) -> Result<(), StoreError> {
        let mut tail = self.journal.lock();
        let (_, position) = append(&mut tail, unawaited(entry)).map_err(store_error)?;
        self.ended(tail, position, entry);
        Ok(())
    }
}

fn put_other(entry: &mut Entry, other: Option<&OtherCard>) {
    if let Some(OtherCard { card, state }) = other {
        let (key, state) = (card.entry.identity.key, Cow::Borrowed(state));
        entry.put(&CardChanged { key, state });
    }
}

fn put_history(entry: &mut Entry, card: &Card) {
    let (card, previous) = (card.entry.identity.key, card.entry.last_record());
    entry.put(&CardHistory { card, previous });
}

/// Moves the other card of a record, under the lock since the check.
fn change_other(other: Option<Box<OtherCard>>, (sequence, position): (Sequence, Position)) {
    let Some(other) = other else { return };
    let OtherCard { card, mut state } = *other;
    state.version = sequence.get();
    let is_swapped = card.entry.swap(&card.state, state);
    debug_assert!(is_swapped, "the lock is held since the check: nobody was faster");
    card.entry.set_last_record(position.to_u64());
}

fn append(tail: &mut Tail<'_>, record: Append<'_>) -> Result<(Sequence, Position), CommitError> {
    tail.append(record).map_err(|error| match error {
        AppendError::Length { .. } => Limit::Record.into(),
        AppendError::Failed(error) => failed(error).into(),
    })
}

/// What is left of an error where nothing can have changed and no limit be reached.
fn store_error(error: CommitError) -> StoreError {
    match error {
        CommitError::Store(error) => error,
        CommitError::Changed(_) | CommitError::Limit(_) => {
            debug_assert!(false, "it is short, and it was checked under the lock");
            StoreError::Unavailable(error.to_string())
        }
    }
}

/// Of a card that was not added or removed.
fn not_done(error: CommitError) -> Result<NotDone, StoreError> {
    match error {
        CommitError::Changed(changed) => Ok(changed.into()),
        CommitError::Limit(limit) => Ok(limit.into()),
        CommitError::Store(error) => Err(error),
    }
}

/// What the issuer changes is always waited for.
fn by_issuer(entry: &Entry) -> Append<'_> {
    Append { payload: entry.bytes(), is_awaited: true, keeps_answer: false }
}

fn unawaited(entry: &Entry) -> Append<'_> {
    Append { is_awaited: false, ..by_issuer(entry) }
}
