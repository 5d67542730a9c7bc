//! The simulated store: the real index of answers and the real cache of cards over a simulated
//! disk, by the rules of the embedded store. Records are written and read back with the real
//! functions. It can be told to break one of its rules, so that the judge is judged too. Whether
//! the embedded store follows the same rules is for its own tests, and for those from outside.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use switch::cards::cache::{NewCard, Taken};
use switch::cards::{Card, CardKey, Cards};
use switch::clock::{Clock, Timestamp};
use switch::config::SyncMode;
use switch::hsm::Kcv;
use switch::outcome::{CryptogramOutcome, PinOutcome};
use switch::store::duplicates::{
    Asked, Claim, DuplicateKey, Duplicates, Kept, Look, Originals, Restored, Sought,
};
use switch::store::record::{self, Part, RecordId, TransactionRecord};
use switch::store::{Claimed, Commit, CommitError, Found, Named, Reversal, Store, StoreFailed};
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};

use super::disk::{Condition, Disk, Synced};
use super::plan::{Ending, Moment, When, dice, happens};
use super::world::World;

/// A rule that the store breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Commits on a card that has changed since it was read.
    CountWithoutComparing,
    /// Lets changes of a card be answered before they are synced.
    ReplyBeforeSync,
    /// Lets answers go that were decided on a change of another request that is not synced.
    ReplyOnUnsyncedState,
    /// Gives an answer again before its record is synced.
    RepeatBeforeSync,
    /// Lets replies go before their records are written.
    ReplyBeforeWrite,
    /// Starts without the answers given before.
    ForgetAnswers,
    /// Starts with all counters at zero.
    GiveTriesBack,
    /// Keeps no answer for repeats.
    NoRepeats,
    /// Acknowledges a reversal before it is synced.
    ReversalBeforeSync,
    /// Starts without the reversals of before.
    ForgetReversals,
    /// Takes an original back while it is being answered.
    ReverseInFlight,
    /// Gives a PIN try back with a reversal.
    ReverseTheCount,
    /// Keeps word of the PIN beside a cryptogram that was refused.
    TellThePin,
}

impl Mutation {
    pub const ALL: [Mutation; 13] = [
        Mutation::CountWithoutComparing,
        Mutation::ReplyBeforeSync,
        Mutation::ReplyOnUnsyncedState,
        Mutation::RepeatBeforeSync,
        Mutation::ReplyBeforeWrite,
        Mutation::ForgetAnswers,
        Mutation::GiveTriesBack,
        Mutation::NoRepeats,
        Mutation::ReversalBeforeSync,
        Mutation::ForgetReversals,
        Mutation::ReverseInFlight,
        Mutation::ReverseTheCount,
        Mutation::TellThePin,
    ];
}

/// Memory for answers: far more than a run has, and so little that it costs nothing.
const DUPLICATES_BYTES: usize = 4 << 20;
/// As of the embedded store.
const SYNC_INTERVAL: Duration = Duration::from_millis(10);

pub struct SimulatedStore {
    pub shared: Arc<Shared>,
}

/// What the store and its syncing share.
pub struct Shared {
    world: Arc<World>,
    cards: Cards,
    duplicates: Duplicates,
    disk: Mutex<Disk>,
    /// There is something to sync, or somebody waits.
    wake: Notify,
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
            duplicates: Duplicates::new(DUPLICATES_BYTES),
            disk: Mutex::new(Disk::new(Vec::new(), None, of("disk"))),
            wake: Notify::new(),
            over: Notify::new(),
            pauses: Mutex::new(of("pauses")),
        };
        for (place, bytes) in records.iter().enumerate() {
            let visit = |part| store.recover(place as u64 + 1, part);
            record::read_entry(bytes, visit).expect("a record as it was written");
        }
        *store.disk() = Disk::new(records, stop, of("disk"));
        SimulatedStore { shared: Arc::new(store) }
    }
}

impl Shared {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.try_lock().expect("one thread, and nobody holds it")
    }

    fn breaks(&self, mutation: Mutation) -> bool {
        self.world.mutation == Some(mutation)
    }

    fn recover(&self, sequence: u64, part: Part) {
        match part {
            Part::CardAdded(card) => {
                let product = self.world.config.product(&card.product).expect("a product");
                let (product, mut state) = (Arc::clone(product), card.state);
                state.version = sequence;
                let card = NewCard { identity: card.identity, product, state };
                self.cards.add(card).expect("room for a card");
            }
            Part::CardChanged(key, mut state) => {
                let card = self.cards.load(&key).expect("a card that was added");
                state.version = sequence;
                if self.breaks(Mutation::GiveTriesBack) {
                    state = state.with_tries(0);
                }
                card.entry.restore(state);
            }
            Part::CardRemoved(key) => {
                let card = self.cards.load(&key).expect("a card that was added");
                self.cards.remove(&card.entry);
            }
            Part::Transaction(transaction) => {
                if let Some(card) = self.cards.load(&transaction.card) {
                    card.entry.set_last_record(sequence);
                }
                if transaction.is_kept && !self.breaks(Mutation::ForgetAnswers) {
                    let kept = Kept { answer: transaction.answer, durable_at: 0, position: 0 };
                    let (key, body) = (transaction.duplicate_key, transaction.body);
                    let answer = Restored::Answer { key, body, kept, at: transaction.time };
                    self.duplicates.restore(&mut vec![answer], transaction.time);
                }
            }
            Part::Reversal(..) if self.breaks(Mutation::ForgetReversals) => {}
            Part::Reversal(original, time) => {
                self.duplicates.restore(&mut vec![Restored::Reversal { original, at: time }], time);
            }
            Part::Event(_) | Part::OwnKeys(_) | Part::ClockJump(..) => {}
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
    fn reach(&self, disk: &mut Disk, moment: Moment) {
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
    async fn synced(&self, record: u64) -> Synced {
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
        Ok(())
    }

    /// The record of the commit, and whether its reply waits for a sync.
    fn append_commit(
        &self,
        mut commit: Commit<'_>,
        claim: &mut Option<Claim>,
    ) -> Result<(u64, bool), CommitError> {
        if let Some(transaction) = &mut commit.transaction
            && transaction.cryptogram.is_some_and(|outcome| outcome != CryptogramOutcome::Right)
            && self.breaks(Mutation::TellThePin)
        {
            transaction.verification = Some(PinOutcome::Wrong);
        }
        let mut entry = Vec::new();
        record::begin_entry(&mut entry);
        if let Some((card, state)) = commit.card.zip(commit.change.as_ref()) {
            record::put_card_changed(&mut entry, &card.entry.identity.key, state);
        }
        if let Some(event) = &commit.event {
            record::put_event(&mut entry, event);
        }
        let mut disk = self.disk();
        disk.failed()?;
        let is_stale = commit.card.is_some_and(|card| !card.is_current());
        if is_stale && !self.breaks(Mutation::CountWithoutComparing) {
            return Err(CommitError::Changed);
        }
        let time = commit.transaction.as_ref().map(|transaction| transaction.time);
        let reverses = commit.reverses.zip(time);
        let reversed = reverses.map(|(reversal, time)| self.held(reversal, time)).transpose()?;
        if let Some(transaction) = &commit.transaction {
            let previous = commit.card.map(|card| card.entry.last_record());
            record::put_transaction(&mut entry, transaction, previous);
        }
        if let Some((reversal, time)) = reverses {
            record::put_reversal(&mut entry, &reversal.original(), time);
        }
        let sequence = disk.append(entry);
        let decided_on = commit.card.map_or(disk.last_removal, |card| card.state.version);
        let on_unsynced = decided_on > disk.synced && !self.breaks(Mutation::ReplyOnUnsyncedState);
        let reverses = commit.reverses.is_some() && !self.breaks(Mutation::ReversalBeforeSync);
        let changes = commit.change.is_some() || reverses;
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
        if let (Some(card), Some(_)) = (commit.card, &commit.transaction) {
            card.entry.set_last_record(sequence);
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

    /// The originals of a reversal, if they are still what its answer was decided on.
    fn held(&self, reversal: Reversal, time: Timestamp) -> Result<Originals<'_>, CommitError> {
        let Reversal::Whole(named, is_known) = reversal else {
            panic!("every reversal here names its original exactly")
        };
        let mut originals = self.duplicates.originals(named, time);
        let waits = originals.in_flight().is_some();
        let changed = waits || originals.is_known() != is_known;
        if changed && !self.breaks(Mutation::ReverseInFlight) {
            return Err(CommitError::Changed);
        }
        Ok(originals)
    }

    fn appended(&self, disk: &mut Disk) {
        self.wake.notify_one();
        self.reach(disk, Moment::Appended);
    }

    fn append_card(&self, mut card: NewCard) -> Result<Result<u64, Taken>, StoreFailed> {
        let mut entry = Vec::new();
        record::begin_entry(&mut entry);
        record::put_card_added(&mut entry, &card.identity, &card.product, &card.state);
        let mut disk = self.disk();
        disk.failed()?;
        if let Err(taken) = self.cards.is_free(&card.identity) {
            return Ok(Err(taken));
        }
        let sequence = disk.append(entry);
        card.state.version = sequence;
        let added = self.cards.add(card);
        self.appended(&mut disk);
        Ok(added.map(|_| sequence))
    }

    fn append_removal(&self, card: &Card) -> Result<Option<u64>, StoreFailed> {
        let mut entry = Vec::new();
        record::begin_entry(&mut entry);
        record::put_card_removed(&mut entry, &card.entry.identity.key);
        let mut disk = self.disk();
        disk.failed()?;
        if card.entry.is_removed() {
            return Ok(None);
        }
        disk.last_removal = disk.append(entry);
        self.cards.remove(&card.entry);
        self.appended(&mut disk);
        Ok(Some(disk.last_removal))
    }
}

impl Store for SimulatedStore {
    type Claim = Claim;

    async fn claim(
        &self,
        _network: &str,
        asked: Asked<impl Fn() -> [DuplicateKey; 3] + Send>,
    ) -> Result<Claimed<Claim>, StoreFailed> {
        let shared = &self.shared;
        shared.pause().await;
        loop {
            match shared.duplicates.look(&asked, shared.world.clock.now()) {
                Look::First(claim) => return Ok(Claimed::First(claim)),
                Look::Conflict { durable_at } => {
                    shared.synced(durable_at).await?;
                    return Ok(Claimed::Conflict);
                }
                Look::Repeat(Kept { answer, durable_at, .. }) => {
                    let hurries = shared.breaks(Mutation::RepeatBeforeSync);
                    shared.synced(if hurries { 0 } else { durable_at }).await?;
                    return Ok(Claimed::Repeat(answer));
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

    async fn knows(&self, _network: &str, named: Named) -> Result<bool, StoreFailed> {
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

    async fn find(&self, _: &str, _: (&Sought, RecordId)) -> Result<Found, StoreFailed> {
        Err(StoreFailed("every reversal here names its original exactly".to_owned()))
    }

    async fn load(&self, key: &CardKey) -> Result<Option<Card>, StoreFailed> {
        self.shared.pause().await;
        Ok(self.shared.cards.load(key))
    }

    async fn load_by_token(&self, token: &str) -> Result<Option<Card>, StoreFailed> {
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

    async fn add_cards(&self, cards: Vec<NewCard>) -> Result<Vec<Result<(), Taken>>, StoreFailed> {
        self.shared.pause().await;
        let mut added = Vec::new();
        for card in cards {
            added.push(self.shared.append_card(card)?);
        }
        let last = added.iter().filter_map(|card| card.ok()).max().unwrap_or(0);
        self.shared.synced(last).await?;
        Ok(added.into_iter().map(|card| card.map(drop)).collect())
    }

    async fn remove_cards(&self, cards: &[Card]) -> Result<Vec<bool>, StoreFailed> {
        self.shared.pause().await;
        let mut removed = Vec::new();
        for card in cards {
            removed.push(self.shared.append_removal(card)?);
        }
        let last = removed.iter().copied().flatten().max().unwrap_or(0);
        self.shared.synced(last).await?;
        Ok(removed.iter().map(Option::is_some).collect())
    }

    async fn history(
        &self,
        card: &Card,
        records_max: usize,
    ) -> Result<Vec<(RecordId, TransactionRecord)>, StoreFailed> {
        let disk = self.shared.disk();
        let (mut found, mut next) = (Vec::new(), card.entry.last_record());
        while let Some(place) = next.checked_sub(1).filter(|_| found.len() < records_max) {
            next = 0;
            let mut visit = |part| {
                if let Part::Transaction(transaction) = part {
                    next = transaction.previous.unwrap_or(0);
                    found.push((RecordId(place + 1), *transaction));
                }
            };
            let bytes = &disk.records[usize::try_from(place).expect("a place in memory")];
            record::read_entry(bytes, &mut visit).expect("a record as it was written");
        }
        Ok(found)
    }

    async fn references_made_with(&self, _: Kcv) -> Result<usize, StoreFailed> {
        Ok(self.shared.cards.len())
    }

    fn flush(&self) -> Result<(), StoreFailed> {
        if self.shared.breaks(Mutation::ReplyBeforeWrite) {
            return self.shared.disk().failed();
        }
        self.shared.write(&mut self.shared.disk())
    }

    fn health(&self) -> Result<(), StoreFailed> {
        self.flush()
    }
}
