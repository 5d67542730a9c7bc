//! Opening the store: the newest whole snapshot, then the journal from there on.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::answers::Answers;
use super::journal::Journal;
use super::options::{Options, PAYLOAD_BYTES_MAX, Recovered, Replay, SYNC_INTERVAL};
use super::segment::{SegmentInfo, segment_path};
use super::snapshot_read::{self, SnapshotRead};
use super::snapshots::Snapshots;
use super::types::{Damaged, Failed, JournalReport, OpenError, Position, Sequence};
use super::witness::{Witness, check_mark, check_witness, tell_age};
use super::{EmbeddedStore, Shared};
use crate::cache::NewCard;
use crate::cache::Products;
use crate::cache::{CardEntry, Cards};
use crate::cards::{CardKey, CardState};
use crate::clock::{Clock, SettledClock, Timestamp};
use crate::config::StoreConfig;
use crate::store::documents::{DocumentLimits, Documents};
use crate::store::duplicates::{ByNetwork, Kept, Restored, WINDOW};
use crate::store::readers::Readers;
use crate::store::record::{
    self, CardChanged, ClockJump, OwnKeys, Part, Reads, Reversed, SnapshotCard, SnapshotRecord,
    StoredCard, Transaction,
};

/// What the store is opened with.
#[derive(Clone)]
pub struct OpenOptions {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Its settings.
    pub config: StoreConfig,
    /// The products that cards refer to.
    pub products: Arc<Products>,
    /// The networks of all links, each once.
    pub networks: Vec<Arc<str>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Time since any moment, to measure syncs.
    pub monotonic: fn() -> Duration,
    /// Gets the time of each sync, and how many records it made durable.
    pub sync_observer: Arc<dyn Fn(Duration, u64) + Send + Sync>,
    /// Gets how many events and transactions were removed that a reader had not acknowledged.
    pub unread_observer: Arc<dyn Fn(u64) + Send + Sync>,
}

impl OpenOptions {
    /// Where the journal lies.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.data_dir.join("journal")
    }

    /// Whether there is no journal and no snapshot, or a journal whose creation was cut short.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        let is_record = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.is_ok_and(|entry| {
                let path = entry.path();
                path.extension().is_some_and(|end| end == "journal" || end == "snap")
            })
        };
        let mut places = [self.journal(), self.snapshots()].into_iter();
        places.all(|place| !std::fs::read_dir(place).is_ok_and(|mut files| files.any(is_record)))
    }

    /// Where snapshots lie.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.data_dir.join("snapshots")
    }
}

/// Why the store was not opened; the text names file and offset of what is damaged.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// The journal or a snapshot.
    #[error("{0}")]
    Journal(#[from] OpenError),
    /// Neither a snapshot nor the whole journal is there.
    #[error("{damaged}; and the journal alone does not hold everything: {cause}")]
    NoSnapshot {
        /// The newest snapshot.
        damaged: Damaged,
        /// Why the journal is not enough.
        cause: OpenError,
    },
    /// A copy that `pinswitch backup` has made.
    #[error(
        "{} is a backup, made at record {record}: what was answered since is not in it. PINs would \
         be tried anew, and repeats be decided anew. If that is accepted, start once with \
         --accept-older-data", .data_dir.display()
    )]
    Backup {
        /// The data directory.
        data_dir: PathBuf,
        /// The last record in it.
        record: String,
    },
    /// The witness cannot be read.
    #[error(
        "{0}: so nobody knows whether the data are older than what was answered. If that is \
         accepted, start once with --accept-older-data"
    )]
    Witness(Damaged),
    /// The witness has seen more.
    #[error(
        "the data end at record {last}, and {} has seen record {record} at {time}: they are older \
         than what was answered. If that is accepted, start once with --accept-older-data",
        .witness.display()
    )]
    Older {
        /// The file.
        witness: PathBuf,
        /// The last record of the data.
        last: u64,
        /// What the witness has seen.
        record: u64,
        /// And when.
        time: String,
    },
    /// The operating system gave no thread.
    #[error("{0}")]
    Thread(#[from] std::io::Error),
}

impl From<Damaged> for OpenStoreError {
    fn from(damaged: Damaged) -> OpenStoreError {
        OpenStoreError::Journal(damaged.into())
    }
}

impl From<Failed> for OpenStoreError {
    fn from(failed: Failed) -> OpenStoreError {
        OpenStoreError::Journal(failed.into())
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Of the journal.
    pub journal: Recovered,
    /// Snapshots that are damaged and were not needed.
    pub damaged_snapshots: Vec<Damaged>,
    /// Cards in the store.
    pub cards: usize,
    /// When the newest record was written, by the civil time of then.
    pub newest: Option<Timestamp>,
}

impl EmbeddedStore {
    /// Opens the store of a data directory, or makes a new one where `create_new` says so.
    ///
    /// # Errors
    /// If anything that was answered for is missing or damaged, the directory is in use, or a
    /// file cannot be read.
    pub fn open(
        options: &OpenOptions,
        create_new: bool,
    ) -> Result<(EmbeddedStore, Recovery), OpenStoreError> {
        let is_backup = check_mark(options)?;
        let duplicates =
            ByNetwork::new(&options.networks, options.config.duplicate_index_bytes_max);
        let reading = Reading { monotonic: options.monotonic, told: Cell::default() };
        let (now, started) = (options.clock.now(), options.clock.monotonic());
        let mut loading = Loading::new(options, &duplicates, now)?;
        let snapshot = snapshot_read::read_newest(
            &options.snapshots(),
            &mut |bytes| loading.snapshot_record(bytes),
            &|read, bytes| reading.tell("snapshot", read, bytes),
        )?;
        loading.start = snapshot.info.map_or(Sequence::FIRST, |info| info.from);
        let (journal, recovered) =
            open_journal(options, create_new, &snapshot, &loading, &reading)?;
        loading.answers.finish()?;
        loading.check_removals(&options.journal())?;
        // Now that the journal is ours, what a crash left unfinished is nobody else's.
        snapshot_read::remove_drafts(&options.snapshots())?;
        if let Some(info) = snapshot.info {
            info.check_journal(&options.journal(), recovered.last)?;
        }
        let is_older = check_witness(options, recovered.last.get())?;
        let recovery = Recovery {
            journal: recovered,
            damaged_snapshots: snapshot.damaged,
            cards: loading.cards.len(),
            newest: loading.newest.get(),
        };
        let settled = SettledClock::new(&*options.clock, options.config.clock_settle_seconds);
        loading.doubt_if_late(&settled, options);
        let shared = Arc::new(Shared {
            journal,
            cards: loading.cards,
            duplicates: loading.duplicates,
            products: Arc::clone(&options.products),
            documents: loading.documents,
            readers: loading.readers,
            page_scan_bytes_max: options.config.page_scan_bytes_max,
            sync: options.config.sync,
            settled,
            age_offset_micros: loading
                .now
                .micros()
                .saturating_sub(i64::try_from(started.as_micros()).unwrap_or(i64::MAX)),
            clock: Arc::clone(&options.clock),
            appended_bytes: AtomicU64::new(loading.replayed_bytes.get()),
            newest: AtomicU64::new(loading.newest_at.get()),
            last_removal: AtomicU64::new(0),
            taking_snapshot: Mutex::default(),
            own_keys: loading.own_keys.get().map(OnceLock::from).unwrap_or_default(),
        });
        let snapshots = Snapshots::start(Arc::clone(&shared), options)?;
        let witness = options.config.witness.clone();
        let witness = witness.map(|path| Witness::start(Arc::clone(&shared), path)).transpose()?;
        tell_age(options, &recovery, is_backup || is_older)?;
        Ok((EmbeddedStore { shared, snapshots, witness }, recovery))
    }
}

fn open_journal(
    options: &OpenOptions,
    create_new: bool,
    snapshot: &SnapshotRead,
    loading: &Loading<'_>,
    reading: &Reading,
) -> Result<(Journal, Recovered), OpenStoreError> {
    let window = i64::try_from(WINDOW.as_secs()).unwrap_or(i64::MAX);
    let answers_max = loading.answers_max();
    let mut replay = Replay {
        start: Some(loading.start),
        // Older segments only for the answers in them, as far as there is room for these, and not
        // more than a start can wait for.
        needed: &|following: &SegmentInfo, newest: &SegmentInfo| {
            let segments = u64::from(newest.number.saturating_sub(following.number));
            let ended = created(following);
            let answers = newest.answers_before.saturating_sub(following.answers_before);
            let is_near = answers < answers_max
                && segments.saturating_mul(newest.bytes) < ANSWERS_READ_BYTES_MAX;
            if !is_near {
                loading.forgot(ended);
            }
            // By the clock of the newest, if that of now is ahead of it.
            let newest = created(newest).seconds().min(loading.now.seconds());
            is_near && ended.seconds() >= newest - window
        },
        visit: &mut |sequence, position, bytes| loading.entry(sequence, position, bytes),
        progress: &|read, bytes| reading.tell("journal", read, bytes),
    };
    let opened = Journal::open(journal_options(options, create_new), &mut replay);
    if let Ok((journal, _)) = &opened {
        let newest = journal.segments().last().map(created);
        loading.newest.set(loading.newest.get().or(newest));
        // Answers of segments that were retired are gone.
        let oldest = journal.segments().into_iter().next();
        let retired = oldest.filter(|oldest| oldest.first > Sequence::FIRST);
        retired.iter().for_each(|oldest| loading.forgot(created(oldest)));
    }
    opened.map_err(|cause| match snapshot.damaged.first() {
        Some(damaged) if snapshot.info.is_none() => {
            OpenStoreError::NoSnapshot { damaged: damaged.clone(), cause }
        }
        _ => OpenStoreError::Journal(cause),
    })
}

/// Tells each second how far reading has come: with millions of cards it takes a while.
struct Reading {
    monotonic: fn() -> Duration,
    told: Cell<Option<Duration>>,
}

impl Reading {
    fn tell(&self, what: &str, read: u64, bytes: u64) {
        let now = (self.monotonic)();
        let told = self.told.get().unwrap_or(now);
        self.told.set(Some(told));
        if now.saturating_sub(told) >= Duration::from_secs(1) {
            self.told.set(Some(now));
            let (read_mb, left_mb) = (read >> 20, bytes.saturating_sub(read) >> 20);
            tracing::info!(what, read_mb, left_mb, "reading the store");
        }
    }
}

/// Journal that is read at start for answers of before the snapshot, in bytes.
const ANSWERS_READ_BYTES_MAX: u64 = 4 << 30;

fn created(segment: &SegmentInfo) -> Timestamp {
    Timestamp::from_seconds(i64::try_from(segment.created_unix_seconds).unwrap_or(i64::MAX))
}

fn journal_options(options: &OpenOptions, create_new: bool) -> Options {
    let clock = Arc::clone(&options.clock);
    let sync_observer = Arc::clone(&options.sync_observer);
    let unread_observer = Arc::clone(&options.unread_observer);
    Options {
        directory: options.journal(),
        create_new,
        segment_bytes: options.config.segment_bytes,
        payload_bytes_max: PAYLOAD_BYTES_MAX.min(options.config.segment_bytes / 4),
        sync_interval: SYNC_INTERVAL,
        monotonic: options.monotonic,
        unix_seconds: Arc::new(move || u64::try_from(clock.now().seconds()).unwrap_or_default()),
        observer: Arc::new(move |event| match event {
            JournalReport::Synced { took, records, .. } => sync_observer(*took, *records),
            JournalReport::PrepareFailed(error) => {
                tracing::error!(%error, "no journal segment could be prepared; trying again");
            }
            JournalReport::Retired { segments, oldest, unread, reader } => {
                tracing::info!(segments, oldest, "old journal segments were removed");
                if let Some(reader) = reader {
                    tracing::error!(
                        unread,
                        reader = &**reader,
                        "events that a reader had not acknowledged went with them: see \
                         unread_events_gb_max and retention_days, or forget the reader"
                    );
                    unread_observer(*unread);
                }
            }
            JournalReport::RetireFailed(error) => {
                tracing::error!(%error, "old journal segments could not be removed");
            }
        }),
    }
}

/// Why a record is refused that changes a card which nothing has added.
pub(super) const NO_SUCH_CARD: &str = "it changes a card that does not exist";

/// What is being loaded. An error text ends the opening and is given with file and offset.
struct Loading<'a> {
    cards: Cards,
    duplicates: ByNetwork,
    documents: Documents,
    readers: Readers,
    products: &'a Products,
    now: Timestamp,
    /// The snapshot has the cards as they were before this record.
    start: Sequence,
    /// Of the records from there on.
    replayed_bytes: Cell<u64>,
    /// Cards that records speak of and the snapshot has no more: a removal must follow.
    to_be_removed: RefCell<HashMap<CardKey, Position>>,
    own_keys: Cell<Option<OwnKeys>>,
    newest: Cell<Option<Timestamp>>,
    /// No record of a transaction stands behind it.
    newest_at: Cell<u64>,
    answers: Answers,
    /// When the clock jumped last.
    jumped: Cell<Option<Timestamp>>,
}

impl<'a> Loading<'a> {
    /// Nothing yet.
    fn new(
        options: &'a OpenOptions,
        duplicates: &ByNetwork,
        now: Timestamp,
    ) -> std::io::Result<Loading<'a>> {
        Ok(Loading {
            cards: Cards::default(),
            duplicates: duplicates.clone(),
            documents: Documents::new(DocumentLimits {
                document_bytes_max: options.config.document_bytes_max,
                all_bytes_max: options.config.documents_bytes_max,
            }),
            readers: Readers::default(),
            products: &options.products,
            now,
            start: Sequence::FIRST,
            replayed_bytes: Cell::new(0),
            to_be_removed: RefCell::default(),
            own_keys: Cell::default(),
            newest: Cell::default(),
            newest_at: Cell::default(),
            answers: Answers::new(duplicates, now)?,
            jumped: Cell::default(),
        })
    }

    fn snapshot_record(&self, bytes: &[u8]) -> Result<(), String> {
        match record::read_snapshot(bytes).map_err(|error| error.to_string())? {
            SnapshotRecord::OwnKeys(keys) => self.own_keys.set(Some(keys)),
            SnapshotRecord::Reversal(reversal) => {
                let Reversed { time: at, original } = reversal.reversed;
                self.answers.found(&reversal.network, Restored::Reversal { original, at });
            }
            SnapshotRecord::Document(found) => {
                self.documents.put(found.document.written_by(found.version));
            }
            SnapshotRecord::Acknowledged(acknowledged) => self.readers.note(&acknowledged),
            SnapshotRecord::Card(found) => {
                let SnapshotCard { version, last_record, mut card } = *found;
                card.state.to_mut().version = version;
                self.newest_at.set(self.newest_at.get().max(last_record));
                self.add(card)?.set_last_record(last_record);
            }
        }
        Ok(())
    }

    /// Where nothing was written for a day, or the clock is wrong, nobody can tell which: for a
    /// while nothing is too old.
    fn doubt_if_late(&self, settled: &SettledClock, options: &OpenOptions) {
        let settle = options.config.clock_settle_seconds;
        if self.jumped.get().is_some_and(|jumped| self.now.since(jumped) < settle) {
            settled.doubt(&*options.clock);
        }
        let Some(newest) = self.newest.get().filter(|newest| self.now.since(*newest) > WINDOW)
        else {
            return;
        };
        settled.doubt(&*options.clock);
        let oldest = i64::try_from(WINDOW.saturating_sub(settle).as_micros()).unwrap_or(i64::MAX);
        let oldest = self.now.shifted(-oldest);
        self.duplicates.change_times(|time| time.max(oldest));
        tracing::warn!(
            %newest,
            "the newest record is more than a day old: nothing is deleted by its age for \
             clock_settle_seconds"
        );
    }

    /// So many answers fill the index, whatever digests they have: its parts do not fill evenly.
    fn answers_max(&self) -> u64 {
        let entries: usize = self.duplicates.iter().map(|(_, index)| index.entries_max()).sum();
        let entries = u64::try_from(entries).unwrap_or(u64::MAX);
        entries.saturating_add(entries / 50)
    }

    /// Notes that answers of before this time are not in the index.
    fn forgot(&self, before: Timestamp) {
        self.duplicates.iter().for_each(|(_, index)| index.forgot(before));
    }

    /// Whether it keeps an answer for repeats.
    fn entry(&self, sequence: Sequence, position: Position, bytes: &[u8]) -> Result<bool, String> {
        self.newest_at.set(self.newest_at.get().max(position.to_u64()));
        if sequence >= self.start {
            self.replayed_bytes.set(self.replayed_bytes.get() + bytes.len() as u64);
        }
        let mut keeps_answer = false;
        // A reversal stands behind the record of its message.
        let mut network = None;
        let mut refused = None;
        let reads = if sequence >= self.start { Reads::State } else { Reads::History };
        let read = record::read_entry(bytes, reads, |part| match part {
            Part::Transaction(transaction) => {
                keeps_answer |= transaction.record.is_kept;
                self.transaction(sequence, position, &transaction);
                network = Some(Arc::clone(&transaction.record.network));
            }
            Part::Reversal(Reversed { time, original }) => {
                let reversal = Restored::Reversal { original, at: time };
                network.iter().for_each(|network| self.answers.found(network, reversal));
            }
            part => refused = self.part(sequence, position, part).err().or(refused.take()),
        });
        read.map_err(|error| error.to_string())?;
        refused.map_or(Ok(keeps_answer), Err)
    }

    fn part(&self, sequence: Sequence, position: Position, part: Part) -> Result<(), String> {
        match part {
            Part::ClockJump(ClockJump { time, micros }) => {
                self.jumped.set(Some(time));
                // After a way back, what was written ahead of it only seems to be still to come.
                self.answers.shift(micros.max(0));
            }
            Part::OwnKeys(keys) => self.own_keys.set(Some(keys)),
            // The snapshot has what came before it.
            _ if sequence < self.start => {}
            Part::CardAdded(card) => return self.card_added(sequence, position, *card),
            Part::CardChanged(changed) => self.card_changed(sequence, position, changed),
            Part::CardRemoved(removed) => self.card_removed(sequence, position, &removed.key),
            Part::Document(document) => self.documents.put(document.written_by(sequence.get())),
            Part::DocumentRemoved(removed) => {
                self.documents.remove(removed.kind, &removed.token, sequence.get());
            }
            Part::Acknowledged(acknowledged) => self.readers.note(&acknowledged),
            Part::CardHistory(link) => self.history(position, &link.card),
            Part::Event(_) | Part::Transaction(_) | Part::Reversal(_) => {}
        }
        Ok(())
    }

    fn card_added(
        &self,
        sequence: Sequence,
        position: Position,
        mut card: StoredCard<'_>,
    ) -> Result<(), String> {
        card.state.to_mut().version = sequence.get();
        let key = card.identity.key;
        // A snapshot taken meanwhile may have it already.
        if self.cards.load(&key).is_some() {
            return Ok(());
        }
        // Or a later card, which got its token.
        let holder = self.cards.load_by_token(&card.identity.token);
        if holder.is_some_and(|holder| holder.state.version > sequence.get()) {
            self.to_be_removed.borrow_mut().insert(key, position);
            return Ok(());
        }
        self.to_be_removed.borrow_mut().remove(&key);
        self.add(card).map(drop)
    }

    fn card_changed(&self, sequence: Sequence, position: Position, changed: CardChanged<'_>) {
        let CardChanged { key, state } = changed;
        let Some(card) = self.cards.load(&key) else {
            self.to_be_removed.borrow_mut().entry(key).or_insert(position);
            return;
        };
        // The snapshot may have a later state, and every record holds a whole one.
        if card.state.version < sequence.get() {
            card.entry.restore(CardState { version: sequence.get(), ..state.into_owned() });
        }
    }

    fn card_removed(&self, sequence: Sequence, position: Position, key: &CardKey) {
        self.to_be_removed.borrow_mut().remove(key);
        let Some(card) = self.cards.load(key) else { return };
        if card.state.version < sequence.get() {
            self.cards.remove(&card.entry);
        } else if card.entry.last_record() < position.to_u64() {
            // The snapshot has the card that came after it with the same PAN. The history so far
            // was that of the card before.
            card.entry.set_last_record(0);
        }
    }

    /// Every card that records speak of is there, or was removed.
    fn check_removals(&self, journal: &Path) -> Result<(), Damaged> {
        let first = self.to_be_removed.borrow().values().copied().min_by_key(|at| at.to_u64());
        match first {
            None => Ok(()),
            Some(Position { segment, offset }) => {
                let file = segment_path(journal, segment);
                Err(Damaged::new(&file, offset.into(), NO_SUCH_CARD))
            }
        }
    }

    fn transaction(&self, sequence: Sequence, position: Position, found: &Transaction<'_>) {
        let Transaction { previous, record } = found;
        self.newest.set(Some(record.time));
        // The snapshot has what came before it, and a request of before the card existed is none
        // of its history.
        let is_history = sequence >= self.start && previous.is_some();
        if is_history {
            self.history(position, &record.card);
        }
        // However old it seems: the clock may be wrong now, and is asked again at every look.
        if record.is_kept {
            // All that is read at start is on disk: nothing to wait for.
            let position = position.to_u64();
            let kept = Kept { answer: record.answer, durable_at: 0, position };
            let (key, body, at) = (record.duplicate_key, record.body, record.time);
            self.answers.found(&record.network, Restored::Answer { key, body, kept, at });
        }
    }

    /// Notes the newest record of a card's history.
    fn history(&self, position: Position, card: &CardKey) {
        if let Some(entry) = self.cards.entry(card) {
            entry.set_last_record(position.to_u64().max(entry.last_record()));
        }
    }

    fn add(&self, card: StoredCard<'_>) -> Result<Arc<CardEntry>, String> {
        let (identity, state) = (card.identity.into_owned(), card.state.into_owned());
        let card = NewCard { identity, product: self.products.entry(&card.product), state };
        self.cards.add(card).map_err(|taken| taken.to_string())
    }
}
