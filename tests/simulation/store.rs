//! The simulated store: the real index of answers and the real cache of cards over a simulated
//! disk, by the rules of the embedded store. Records are written and read back with the real
//! functions. It can be told to break one of its rules, so that the judge is judged too. Whether
//! the embedded store follows the same rules is for its own tests, and for those from outside.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use compact_str::CompactString;
use fastrand::Rng;
use switch::cache::{Card, CardEntry, Cards, NewCard, Products};
use switch::cards::CardKey;
use switch::clock::Clock;
use switch::hsm::Kcv;
use switch::issuing::products::StoredProduct;
use switch::store::document::{Document, DocumentKind};
use switch::store::documents::{DocumentLimits, Documents};
use switch::store::duplicates::{
    Asked, Claim, DuplicateKey, Duplicates, Kept, Look, Original, Restored, Sought,
};
use switch::store::page::{Page, TransactionFilter};
use switch::store::readers::{ReaderError, ReaderName, Readers};
use switch::store::record::{
    self, Acknowledged, CardChanged, CardRemoved, Event, EventId, Part, Reads, RecordId, Reversed,
    Told, TransactionRecord,
};
use switch::store::{
    Addition, Claimed, Commit, CommitError, Found, Named, NotDone, Removal, Store, StoreError,
};
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};

use super::disk::{Condition, Disk, Synced};
use super::mutation::Mutation;
use super::plan::{Ending, Moment, When, dice, happens};
use super::world::{VAULT, World, products};

/// Memory for answers: far more than a run has, and so little that it costs nothing.
const DUPLICATES_BYTES: usize = 4 << 20;
/// Limits that no run reaches.
const DOCUMENTS: DocumentLimits =
    DocumentLimits { document_bytes_max: 1 << 10, all_bytes_max: 1 << 20 };
/// Records after which a snapshot is taken.
const SNAPSHOT_RECORDS: u64 = 8;
/// As of the embedded store.
const SYNC_INTERVAL: Duration = Duration::from_millis(10);

pub struct SimulatedStore {
    pub shared: Arc<Shared>,
}

/// What the store and its syncing share.
pub struct Shared {
    pub world: Arc<World>,
    pub cards: Cards,
    pub products: Arc<Products>,
    pub duplicates: Duplicates,
    pub documents: Documents,
    pub readers: Readers,
    disk: Mutex<Disk>,
    /// There is something to sync, or somebody waits.
    pub wake: Notify,
    /// It failed, or the process ended.
    over: Notify,
    pauses: Mutex<Rng>,
}

impl SimulatedStore {
    /// Reads what is left on the disk.
    pub fn open(
        world: &Arc<World>,
        records: Vec<Vec<u8>>,
        stop: Option<(When, Ending)>,
    ) -> SimulatedStore {
        let life = world.history().lives.len();
        let of = |concern| dice(world.plan.seed, concern, life);
        let store = Shared {
            world: Arc::clone(world),
            cards: Cards::default(),
            products: products(),
            duplicates: Duplicates::new(DUPLICATES_BYTES),
            documents: Documents::new(DOCUMENTS),
            readers: Readers::default(),
            disk: Mutex::new(Disk::new(Vec::new(), None, of("disk"))),
            wake: Notify::new(),
            over: Notify::new(),
            pauses: Mutex::new(of("pauses")),
        };
        for (place, bytes) in records.iter().enumerate() {
            let visit = |part| store.recover(place as u64 + 1, part);
            record::read_entry(bytes, Reads::State, visit).expect("a record as it was written");
        }
        *store.disk() = Disk::new(records, stop, of("disk"));
        SimulatedStore { shared: Arc::new(store) }
    }
}

impl Shared {
    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.try_lock().expect("one thread, and nobody holds it")
    }

    pub fn breaks(&self, mutation: Mutation) -> bool {
        self.world.mutation == Some(mutation)
    }

    pub fn recover(&self, sequence: u64, part: Part) {
        match part {
            Part::CardAdded(card) => {
                let product = self.products.entry(&card.product);
                let mut state = card.state.into_owned();
                state.version = sequence;
                let card = NewCard { identity: card.identity.into_owned(), product, state };
                self.cards.add(card).expect("room for a card");
            }
            Part::CardChanged(CardChanged { key, state }) => {
                let mut state = state.into_owned();
                let card = self.cards.load(&key).expect("a card that was added");
                state.version = sequence;
                if self.breaks(Mutation::GiveTriesBack) {
                    state = state.with_tries(0);
                }
                card.entry.restore(state);
            }
            Part::CardRemoved(CardRemoved { key }) => {
                let card = self.cards.load(&key).expect("a card that was added");
                self.cards.remove(&card.entry);
            }
            Part::Transaction(found) => {
                let transaction = found.record.into_owned();
                if transaction.is_kept && !self.breaks(Mutation::ForgetAnswers) {
                    let kept = Kept { answer: transaction.answer, durable_at: 0, position: 0 };
                    let (key, body) = (transaction.duplicate_key, transaction.body);
                    let answer = Restored::Answer { key, body, kept, at: transaction.time };
                    self.duplicates.restore(&mut vec![answer], transaction.time);
                }
            }
            Part::Reversal(_) if self.breaks(Mutation::ForgetReversals) => {}
            Part::Reversal(Reversed { time, original }) => {
                self.duplicates.restore(&mut vec![Restored::Reversal { original, at: time }], time);
            }
            Part::Document(document) => {
                let document = document.written_by(sequence);
                if document.kind == DocumentKind::Product {
                    let stored = StoredProduct::read(&VAULT, &document).expect("a product");
                    self.products.put(stored.rules(&document).expect("as it was written"));
                }
                self.documents.put(document);
            }
            Part::DocumentRemoved(removed) => {
                self.documents.remove(removed.kind, &removed.token, sequence);
            }
            Part::Acknowledged(acknowledged) => self.readers.note(&acknowledged),
            Part::Event(_) | Part::CardHistory(_) | Part::OwnKeys(_) | Part::ClockJump(_) => {}
        }
    }

    /// Ends the process, or lets the disk fail.
    pub fn end(&self, ending: Ending) {
        self.end_locked(&mut self.disk(), ending);
    }

    fn end_locked(&self, disk: &mut Disk, ending: Ending) {
        if disk.condition != Condition::Working {
            return;
        }
        if ending == Ending::DiskFailed {
            disk.condition = Condition::Failed;
            self.world.history().failed();
            let failed = disk.failed();
            disk.answer(u64::MAX, &failed);
        } else {
            let survivors = disk.survivors(ending);
            disk.condition = Condition::Dead { survivors };
            self.world.history().ended(ending, survivors);
        }
        self.over.notify_one();
    }

    /// Tells the disk what has just happened; it may be the last thing.
    pub fn reach(&self, disk: &mut Disk, moment: Moment) {
        if let Some(ending) = disk.ends_at(moment).filter(|_| !self.world.is_calm()) {
            self.end_locked(disk, ending);
        }
    }

    /// Resolves when the store has failed or the process ended.
    pub async fn is_over(&self) {
        self.over.notified().await;
    }

    pub fn has_failed(&self) -> bool {
        self.disk().condition == Condition::Failed
    }

    /// What is left on the disk after the end.
    pub fn left(&self) -> Vec<Vec<u8>> {
        let mut disk = self.disk();
        if disk.condition == Condition::Failed {
            let survivors = disk.survivors(Ending::DiskFailed);
            disk.condition = Condition::Dead { survivors };
            self.world.history().ended(Ending::DiskFailed, survivors);
        }
        let Condition::Dead { survivors } = disk.condition else { panic!("it is still working") };
        disk.records.iter().take(survivors).cloned().collect()
    }

    /// Some calls take a moment, and none comes back in a process that has ended.
    async fn pause(&self) {
        let percent = self.world.plan.store.pause_percent;
        let pause = {
            let mut dice = self.pauses.try_lock().expect("one thread, and nobody holds it");
            happens(&mut dice, percent).then(|| dice.u64(0..4))
        };
        match pause {
            None => {}
            Some(0) => tokio::task::yield_now().await,
            Some(millis) => sleep(Duration::from_millis(millis)).await,
        }
        if self.disk().is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when a record is synced. Never in a process that has ended.
    pub async fn synced(&self, record: u64) -> Synced {
        let waiting = {
            let mut disk = self.disk();
            let (sender, receiver) = oneshot::channel();
            if !disk.is_dead() {
                disk.failed()?;
                if disk.synced >= record {
                    return Ok(());
                }
                disk.waiters.push((record, sender));
                self.wake.notify_one();
            }
            receiver
        };
        match waiting.await {
            Ok(answer) => answer,
            Err(_) => std::future::pending().await,
        }
    }

    fn write(&self, disk: &mut Disk) -> Synced {
        disk.failed()?;
        if disk.written < disk.appended() {
            let before = disk.written;
            disk.written = disk.appended();
            self.reach(disk, Moment::Written);
            if disk.condition == Condition::Failed {
                disk.written = before;
            }
        }
        disk.failed()
    }

    /// Syncs when somebody waits, and every 10 ms when there is something to sync.
    pub async fn keep_synced(self: Arc<Self>) {
        loop {
            let somebody_waits = async {
                while self.disk().waiters.is_empty() {
                    self.wake.notified().await;
                }
            };
            if !self.disk().has_unsynced() {
                self.wake.notified().await;
                continue;
            }
            let _ = timeout(SYNC_INTERVAL, somebody_waits).await;
            if self.sync().await.is_err() {
                return;
            }
        }
    }

    async fn sync(&self) -> Synced {
        let (through, millis) = {
            let mut disk = self.disk();
            self.write(&mut disk)?;
            self.reach(&mut disk, Moment::SyncBegun);
            disk.failed()?;
            (disk.written, disk.sync_millis(self.world.plan.store.sync_millis_max))
        };
        sleep(Duration::from_millis(millis)).await;
        let mut disk = self.disk();
        disk.failed()?;
        disk.synced = through;
        self.reach(&mut disk, Moment::Synced);
        disk.failed()?;
        disk.answer(through, &Ok(()));
        self.take_snapshot(through);
        Ok(())
    }

    /// A snapshot now and then. What a reader has behind it goes with it, and no event that one
    /// still wants.
    fn take_snapshot(&self, synced: u64) {
        let from = &self.world.events_from;
        if synced < from.load(Ordering::Relaxed) + SNAPSHOT_RECORDS {
            return;
        }
        let kept = match self.breaks(Mutation::LoseEventsAtSnapshot) {
            true => synced + 1,
            // Without a reader they are kept for days, which no run lasts.
            false => self.readers.slowest().map_or(0, |(_, through)| through.record.0),
        };
        from.fetch_max(kept.max(1), Ordering::Relaxed);
    }
}

impl Store for SimulatedStore {
    type Claim = Claim;

    async fn claim(
        &self,
        _network: &str,
        asked: Asked<impl Fn() -> [DuplicateKey; 3] + Send>,
    ) -> Result<Claimed<Claim>, StoreError> {
        let shared = &self.shared;
        shared.pause().await;
        loop {
            match shared.duplicates.look(&asked, shared.world.clock.now()) {
                Look::First(claim) => return Ok(Claimed::First(claim)),
                Look::Conflict { durable_at } => {
                    shared.synced(durable_at).await?;
                    return Ok(Claimed::Conflict);
                }
                Look::Repeat(Kept { answer, durable_at, position }) => {
                    let hurries = shared.breaks(Mutation::RepeatBeforeSync);
                    shared.synced(if hurries { 0 } else { durable_at }).await?;
                    return Ok(Claimed::Repeat(answer, RecordId(position)));
                }
                Look::Wait(waiting) => drop(waiting.await),
            }
        }
    }

    fn may_forget(&self) -> bool {
        true
    }

    fn duplicate_window(&self, _network: &str) -> Duration {
        self.shared.duplicates.window(self.shared.world.clock.now())
    }

    async fn knows(&self, _network: &str, named: Named) -> Result<bool, StoreError> {
        let shared = &self.shared;
        shared.pause().await;
        loop {
            let waiting = {
                let now = shared.world.clock.now();
                let mut originals = shared.duplicates.originals(named, now);
                match originals.in_flight() {
                    Some(waiting) if !shared.breaks(Mutation::ReverseInFlight) => waiting,
                    _ => return Ok(originals.is_known()),
                }
            };
            drop(waiting.await);
        }
    }

    async fn find(&self, _: &str, _: (&Sought, RecordId)) -> Result<Found, StoreError> {
        Err(StoreError::Failed("every reversal here names its original exactly".to_owned()))
    }

    async fn load(&self, key: &CardKey) -> Result<Option<Card>, StoreError> {
        self.shared.pause().await;
        Ok(self.shared.cards.load(key))
    }

    async fn load_by_token(&self, token: &str) -> Result<Option<Card>, StoreError> {
        self.shared.pause().await;
        Ok(self.shared.cards.load_by_token(token))
    }

    async fn commit(
        &self,
        commit: Commit<'_>,
        claim: &mut Option<Claim>,
    ) -> Result<RecordId, CommitError> {
        self.shared.pause().await;
        let (sequence, waits) = self.shared.append_commit(commit, claim)?;
        if waits {
            self.shared.synced(sequence).await?;
        }
        Ok(RecordId(sequence))
    }

    async fn add_cards(
        &self,
        cards: Vec<Addition>,
    ) -> Result<Vec<Result<(), NotDone>>, StoreError> {
        self.shared.pause().await;
        let appended = cards.into_iter().map(|card| self.shared.append_card(card));
        self.shared.all_synced(appended.collect::<Result<_, StoreError>>()?).await
    }

    async fn remove_cards(
        &self,
        cards: Vec<Removal>,
    ) -> Result<Vec<Result<(), NotDone>>, StoreError> {
        self.shared.pause().await;
        let appended = cards.into_iter().map(|card| self.shared.append_removal(card));
        self.shared.all_synced(appended.collect::<Result<_, StoreError>>()?).await
    }

    async fn transactions(
        &self,
        filter: TransactionFilter,
        after: Option<RecordId>,
        max: usize,
    ) -> Result<Page<RecordId, TransactionRecord>, StoreError> {
        let disk = self.shared.disk();
        let before = after.map_or(disk.records.len() as u64 + 1, |after| after.0);
        let told = (1..before).rev().flat_map(|number| {
            let entry = &disk.records[number as usize - 1];
            record::told(RecordId(number), entry).expect("a record as it was written")
        });
        let found = told.filter_map(|(id, told)| match told {
            Told::Transaction(found) if filter.takes(&found) => Some((id.record, *found)),
            _ => None,
        });
        Ok(Page::first(found.take(max + 1).collect(), max))
    }

    async fn transaction(&self, id: RecordId) -> Result<Option<TransactionRecord>, StoreError> {
        let disk = self.shared.disk();
        let entry = usize::try_from(id.0).ok().and_then(|number| disk.records.get(number - 1));
        let told = entry.map(|entry| record::told(id, entry).expect("a record as it was written"));
        Ok(told.into_iter().flatten().find_map(|(_, told)| match told {
            Told::Transaction(found) => Some(*found),
            Told::Event(..) => None,
        }))
    }

    async fn reversed(&self, _: RecordId) -> Result<Option<Original>, StoreError> {
        unreachable!("nobody lists what belongs together here")
    }

    async fn card_events(
        &self,
        card: &Card,
        after: Option<EventId>,
        max: usize,
    ) -> Result<Page<EventId, Event>, StoreError> {
        let disk = self.shared.disk();
        let key = card.entry.identity.key;
        let told = (1..=disk.records.len()).rev().flat_map(|number| {
            let entry = &disk.records[number - 1];
            let told = record::told(RecordId(number as u64), entry);
            told.expect("a record as it was written").into_iter().rev()
        });
        let found = told.filter_map(|(id, told)| match told {
            Told::Event(event, _) if event.card == key => Some((id, *event)),
            _ => None,
        });
        let found = found.filter(|(id, _)| after.is_none_or(|after| *id < after));
        Ok(Page::first(found.take(max + 1).collect(), max))
    }

    async fn events(&self, after: EventId, max: usize) -> Result<Page<EventId, Told>, ReaderError> {
        self.shared.pause().await;
        let disk = self.shared.disk();
        if after.record.0 > disk.appended() {
            return Err(ReaderError::NotThere(after));
        }
        disk.failed()?;
        let from = after.record.0.max(self.shared.world.events_from.load(Ordering::Relaxed)).max(1);
        let numbers = disk.telling.range(from..).take_while(|number| **number <= disk.synced);
        let told = numbers.flat_map(|number| {
            let entry = &disk.records[*number as usize - 1];
            record::told(RecordId(*number), entry).expect("a record as it was written")
        });
        Ok(Page::first(told.filter(|(id, _)| *id > after).take(max + 1).collect(), max))
    }

    fn acknowledged(&self, reader: &ReaderName) -> Option<EventId> {
        self.shared.readers.place(reader)
    }

    async fn acknowledge(&self, reader: &ReaderName, through: EventId) -> Result<(), ReaderError> {
        self.shared.pause().await;
        if through.record.0 > self.shared.disk().appended() {
            return Err(ReaderError::NotThere(through));
        }
        if self.shared.readers.is_new(reader, through)? {
            let (reader, is_forgotten) = (reader.as_str().into(), false);
            let sequence =
                self.shared.append_reader(Acknowledged { reader, is_forgotten, through })?;
            self.shared.synced(sequence).await?;
        }
        Ok(())
    }

    async fn forget_reader(&self, reader: &ReaderName) -> Result<(), StoreError> {
        let (reader, through) = (reader.as_str().into(), EventId::NONE);
        let gone = Acknowledged { reader, is_forgotten: true, through };
        self.shared.synced(self.shared.append_reader(gone)?).await
    }

    async fn cards(
        &self,
        after: Option<CardKey>,
        max: usize,
    ) -> Result<Page<CardKey, Card>, StoreError> {
        let entries = self.shared.cards.page(after, max + 1).into_iter();
        let cards = entries.filter_map(|entry| {
            Some((entry.identity.key, self.shared.cards.load(&entry.identity.key)?))
        });
        Ok(Page::first(cards.collect(), max))
    }

    async fn cards_of_product(&self, product: &str) -> Result<Vec<Arc<CardEntry>>, StoreError> {
        Ok(self.shared.cards.of_product(product))
    }

    async fn document(
        &self,
        kind: DocumentKind,
        token: &str,
    ) -> Result<Option<Arc<Document>>, StoreError> {
        Ok(self.shared.documents.get(kind, token, self.shared.world.clock.now()))
    }

    async fn documents(
        &self,
        kind: DocumentKind,
        after: Option<&str>,
        max: usize,
    ) -> Result<Page<CompactString, Arc<Document>>, StoreError> {
        let now = self.shared.world.clock.now();
        let found = self.shared.documents.page(kind, after, max + 1, now).into_iter();
        Ok(Page::first(found.map(|found| (found.token.clone(), found)).collect(), max))
    }

    async fn backup(&self, _: &Path) -> Result<String, StoreError> {
        Err(StoreError::Unavailable("nobody asks for it here".to_owned()))
    }

    async fn references_made_with(&self, _: Kcv) -> Result<usize, StoreError> {
        Ok(self.shared.cards.len())
    }

    fn flush(&self) -> Result<(), StoreError> {
        if self.shared.breaks(Mutation::ReplyBeforeWrite) {
            return self.shared.disk().failed();
        }
        self.shared.write(&mut self.shared.disk())
    }

    fn health(&self) -> Result<(), StoreError> {
        self.flush()
    }
}
