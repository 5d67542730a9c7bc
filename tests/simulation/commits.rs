//! What the simulated store writes: checked, appended and changed in memory in one step, by the
//! rules of the embedded store.

use std::borrow::Cow;

use switch::authorization::Product;
use switch::cache::Card;
use switch::clock::{Clock, Timestamp};
use switch::config::SyncMode;
use switch::outcome::{CryptogramOutcome, PinOutcome};
use switch::store::document::DocumentChange;
use switch::store::duplicates::{Claim, Kept, Originals};
use switch::store::record::{
    self, Acknowledged, CardChanged, CardRemoved, Entry, Reads, Reversed, StoredCard, Transaction,
    TransactionRecord,
};
use switch::store::{
    Addition, Changed, Commit, CommitError, NotDone, Removal, Reversal, StoreError,
};

use super::disk::Disk;
use super::mutation::Mutation;
use super::plan::Moment;
use super::store::Shared;

impl Shared {
    /// The record of the commit, and whether its reply waits for a sync.
    pub fn append_commit(
        &self,
        commit: Commit<'_>,
        claim: &mut Option<Claim>,
    ) -> Result<(u64, bool), CommitError> {
        assert!(commit.other.is_none(), "no card of this world has replaced one of another PAN");
        let told = commit.transaction.map(|record| self.told(record));
        let commit = Commit { transaction: told.as_deref(), ..commit };
        let mut entry = Entry::default();
        if let Some((card, state)) = commit.card.zip(commit.change.as_ref()) {
            let key = card.entry.identity.key;
            entry.put(&CardChanged { key, state: Cow::Borrowed(state) });
        }
        commit.events.iter().for_each(|event| entry.put(event));
        put_documents(&mut entry, &commit.documents);
        let mut disk = self.disk();
        disk.failed()?;
        let is_stale = commit.card.is_some_and(|card| match card.is_current() {
            true => false,
            false if card.entry.product.has(&card.product) => true,
            false => !self.breaks(Mutation::DecideByOldRules),
        });
        if is_stale && !self.breaks(Mutation::CountWithoutComparing) {
            return Err(Changed::Card.into());
        }
        self.documents.check(&commit.documents, self.world.clock.now())?;
        let time = commit.transaction.map(|transaction| transaction.time);
        let reverses = commit.reverses.zip(time);
        let reversed = reverses.map(|(reversal, time)| self.held(reversal, time)).transpose()?;
        if let Some(transaction) = commit.transaction {
            let previous = commit.card.map(|card| card.entry.last_record());
            entry.put(&Transaction { previous, record: Cow::Borrowed(transaction) });
        }
        if let Some((reversal, time)) = reverses {
            entry.put(&Reversed { time, original: reversal.original() });
        }
        let sequence = disk.append(entry.bytes().to_owned());
        let of_card = |card: &Card| card.state.version.max(card.product.version);
        let decided_on = commit.card.map_or(disk.last_removal, of_card);
        let on_unsynced = decided_on > disk.synced && !self.breaks(Mutation::ReplyOnUnsyncedState);
        let reverses = commit.reverses.is_some() && !self.breaks(Mutation::ReversalBeforeSync);
        let keeps = !commit.events.is_empty() || !commit.documents.is_empty();
        let changes = commit.change.is_some() || reverses || keeps;
        let mut waits = self.world.plan.store.sync == SyncMode::All || changes || on_unsynced;
        waits = waits && !self.breaks(Mutation::ReplyBeforeSync);
        if let Some((card, mut state)) = commit.card.zip(commit.change) {
            state.version = sequence;
            card.entry.restore(state);
        }
        if let Some(card) = commit.card.filter(|_| self.breaks(Mutation::ReverseTheCount)) {
            let tries = card.state.pin.tries.saturating_sub(1);
            if commit.reverses.is_some() {
                card.entry.restore(card.state.with_tries(tries));
            }
        }
        if let (Some(card), Some(_)) = (commit.card, commit.transaction) {
            card.entry.set_last_record(sequence);
        }
        self.change_documents(commit.documents, sequence);
        if let Some(rules) = commit.product {
            self.products.put(Product { version: sequence, ..*rules });
        }
        // Before the claim below takes the same lock.
        reversed.into_iter().for_each(|originals| originals.reverse(sequence));
        let kept = commit.transaction.filter(|transaction| transaction.is_kept);
        if let Some(transaction) = kept.filter(|_| !self.breaks(Mutation::NoRepeats)) {
            let durable_at = if waits { sequence } else { 0 };
            let kept = Kept { answer: transaction.answer, durable_at, position: sequence };
            claim.take().into_iter().for_each(|claim| claim.answered(kept, transaction.time));
        }
        self.appended(&mut disk);
        Ok((sequence, waits))
    }

    /// The record as it is kept.
    fn told<'a>(&self, record: &'a TransactionRecord) -> Cow<'a, TransactionRecord> {
        let is_refused = record.cryptogram.is_some_and(|said| said != CryptogramOutcome::Right);
        if !is_refused || !self.breaks(Mutation::TellThePin) {
            return Cow::Borrowed(record);
        }
        let verification = Some(PinOutcome::Wrong);
        Cow::Owned(TransactionRecord { verification, ..record.clone() })
    }

    /// The originals of a reversal, if they are still what its answer was decided on.
    fn held(&self, reversal: &Reversal, time: Timestamp) -> Result<Originals<'_>, CommitError> {
        let Reversal::Whole(named, is_known) = *reversal else {
            panic!("every reversal here names its original exactly")
        };
        let mut originals = self.duplicates.originals(named, time);
        let waits = originals.in_flight().is_some();
        let changed = waits || originals.is_known() != is_known;
        if changed && !self.breaks(Mutation::ReverseInFlight) {
            return Err(Changed::Original.into());
        }
        Ok(originals)
    }

    fn appended(&self, disk: &mut Disk) {
        self.wake.notify_one();
        self.reach(disk, Moment::Appended);
    }

    fn change_documents(&self, changes: Vec<DocumentChange>, sequence: u64) {
        let mut entry = Entry::default();
        put_documents(&mut entry, &changes);
        let note = |part| self.recover(sequence, part);
        record::read_entry(entry.bytes(), Reads::State, note).expect("as it was written");
    }

    pub fn append_card(&self, addition: Addition) -> Result<Result<u64, NotDone>, StoreError> {
        let Addition { mut card, other, events, documents } = addition;
        assert!(other.is_none(), "no card of this world is replaced under a new PAN");
        let mut entry = Entry::of(&StoredCard {
            identity: Cow::Borrowed(&card.identity),
            product: Cow::Borrowed(card.product.name()),
            state: Cow::Borrowed(&card.state),
        });
        events.iter().for_each(|event| entry.put(event));
        put_documents(&mut entry, &documents);
        let mut disk = self.disk();
        disk.failed()?;
        if let Err(taken) = self.cards.is_free(&card.identity) {
            return Ok(Err(taken.into()));
        }
        self.documents.check(&documents, self.world.clock.now()).expect("nobody changes them here");
        let sequence = disk.append(entry.bytes().to_owned());
        card.state.version = sequence;
        let added = self.cards.add(card);
        self.change_documents(documents, sequence);
        self.appended(&mut disk);
        Ok(added.map(|_| sequence).map_err(NotDone::from))
    }

    pub fn append_removal(&self, removal: Removal) -> Result<Result<u64, NotDone>, StoreError> {
        let Removal { card, events, documents } = removal;
        let mut entry = Entry::of(&CardRemoved { key: card.entry.identity.key });
        events.iter().for_each(|event| entry.put(event));
        put_documents(&mut entry, &documents);
        let mut disk = self.disk();
        disk.failed()?;
        if card.entry.is_removed() {
            return Ok(Err(NotDone::Gone));
        }
        self.documents.check(&documents, self.world.clock.now()).expect("nobody changes them here");
        disk.last_removal = disk.append(entry.bytes().to_owned());
        self.cards.remove(&card.entry);
        self.change_documents(documents, disk.last_removal);
        self.appended(&mut disk);
        Ok(Ok(disk.last_removal))
    }

    /// What must be synced before it is answered.
    pub fn append_reader(&self, reader: Acknowledged<'_>) -> Result<u64, StoreError> {
        let mut disk = self.disk();
        disk.failed()?;
        let sequence = disk.append(Entry::of(&reader).bytes().to_owned());
        self.readers.note(&reader);
        self.appended(&mut disk);
        Ok(sequence)
    }

    /// Waits for the last of these.
    pub async fn all_synced(
        &self,
        appended: Vec<Result<u64, NotDone>>,
    ) -> Result<Vec<Result<(), NotDone>>, StoreError> {
        let last = appended.iter().filter_map(|done| done.as_ref().ok()).max();
        self.synced(last.copied().unwrap_or(0)).await?;
        Ok(appended.into_iter().map(|done| done.map(drop)).collect())
    }
}

fn put_documents(entry: &mut Entry, changes: &[DocumentChange]) {
    changes.iter().for_each(|change| change.put(None, entry));
}
