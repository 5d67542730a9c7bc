//! The journal: append in memory, write once per batch, wait for durability where it matters.
//!
//! 1. [`Journal::lock`] and [`Tail::append`] put a record into a buffer and fix its place.
//! 2. [`Journal::flush`] writes all that was appended; it survives `kill -9` from then on.
//! 3. [`Journal::synced`] waits until it survives a power failure too.
//!
//! Locks are taken in this order: writer, tail, a shard of the index of answers (by the store),
//! supply; all others are leaves.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::{self, JoinHandle};

use super::files::lock;
use super::in_use::{Lock, Opened};
use super::keeper::{self, Task};
pub use super::keeper::{Retention, Unread};
use super::options::{Options, PAYLOAD_BYTES_MAX, Recovered, Replay};
use super::recovery::{self, Found};
use super::segment::{self, Record, Segment, SegmentInfo, segment_path};
use super::supply::Supply;
use super::sync::{self, Durable, Registered, Stop};
pub use super::tail::{Append, Tail};
use super::tail::{TailState, Writer};
use super::tail_mark::TailMark;
use super::types::{Damaged, Failed, OpenError, Position, ReadError, Sequence};
use crate::place::open_regular;

/// What the journal and its threads share.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) tail: Mutex<TailState>,
    writer: Mutex<Writer>,
    pub(super) supply: Supply,
    /// Segments in use, the current one last.
    pub(super) catalogue: Mutex<BTreeMap<u32, SegmentInfo>>,
    pub(super) mark: Mutex<TailMark>,
    pub(super) durable: Durable,
    /// Held while segments are retired, and while none may be.
    pub(super) retiring: Mutex<()>,
    /// Which old segments may go, until the keeper takes it up.
    pub(super) to_retire: Mutex<Option<Retention>>,
    lock: Lock,
    /// What must stay where it is, beside the current segment.
    opened: Vec<Opened>,
    /// Last sequence appended, and last written.
    pub(super) appended: AtomicU64,
    written: AtomicU64,
    keeper: mpsc::Sender<Task>,
}

impl Shared {
    fn new(options: Options, found: Found, keeper: mpsc::Sender<Task>) -> Result<Self, Failed> {
        let mut opened = vec![Opened::new(&found.mark.path, &found.mark.file)?];
        let directory = options.directory.as_path();
        // The journal's directory, and the data directory. Where that lies is nobody's business.
        for directory in directory.ancestors().take(2).filter(|path| !path.as_os_str().is_empty()) {
            opened.push(Opened::directory(directory)?);
        }
        let last = found.recovered.last;
        let next_number = found.current.number + 1;
        let supply = Supply::new(&options, found.spares, next_number, found.ready);
        Ok(Self {
            options,
            tail: Mutex::new(TailState::new(
                found.current,
                found.offset,
                last.next(),
                found.recovered.answers,
            )),
            writer: Mutex::new(Writer::new(last)),
            supply,
            catalogue: Mutex::new(found.catalogue),
            mark: Mutex::new(found.mark),
            durable: Durable::new(last),
            retiring: Mutex::default(),
            to_retire: Mutex::default(),
            lock: found.lock,
            opened,
            appended: AtomicU64::new(last.get()),
            written: AtomicU64::new(last.get()),
            keeper,
        })
    }

    /// Fails the journal where what it writes to is not what another process would find: who
    /// restores a backup under a running switch must not get two that answer.
    pub(super) fn check_place(&self) {
        let current = Arc::clone(&lock(&self.tail).batch.segment);
        let current = Opened::new(&current.path, &current.file);
        let there = self.opened.iter().try_for_each(Opened::check);
        if let Err(failed) = there.and_then(|()| current?.check()) {
            self.durable.fail(failed);
        }
    }

    pub(super) fn appended(&self) -> Sequence {
        Sequence::new(self.appended.load(Ordering::Acquire))
    }

    pub(super) fn closed(&self) -> Failed {
        Failed::new(&self.options.directory, "the journal is closed")
    }

    pub(super) fn ask(&self, task: Task) {
        // Fails only when the keeper is gone, and then the journal is closed.
        let _ = self.keeper.send(task);
    }

    pub(super) fn begin_segment(&self, info: SegmentInfo) {
        lock(&self.catalogue).insert(info.number, info);
    }

    fn flush(&self) -> Result<(), Failed> {
        self.durable.check()?;
        let appended = self.appended.load(Ordering::Acquire);
        if self.written.load(Ordering::Acquire) >= appended {
            return Ok(());
        }
        self.write(&mut lock(&self.writer), |_| {})
    }

    /// Takes over what is pending, and writes it; `then` changes the tail in the same moment.
    fn write(&self, writer: &mut Writer, then: impl Fn(&mut TailState)) -> Result<(), Failed> {
        // Whoever held the lock before may have failed: nothing is written behind a hole.
        self.durable.check()?;
        {
            let mut tail = lock(&self.tail);
            writer.take(&mut tail);
            then(&mut tail);
        }
        writer.write().map_err(|failed| self.durable.fail(failed))?;
        self.written.store(writer.through.get(), Ordering::Release);
        Ok(())
    }

    /// Writes what is pending; returns the segments to sync, and what is durable after that.
    pub(super) fn write_for_sync(&self) -> Result<(Vec<Arc<Segment>>, Sequence), Failed> {
        let mut writer = lock(&self.writer);
        self.write(&mut writer, TailState::end_sector)?;
        Ok((std::mem::take(&mut writer.dirty), writer.through))
    }
}

/// An open journal. Dropping it without [`Self::close`] is what a crash is: what was flushed
/// stays, what was only appended is lost.
pub struct Journal {
    pub(super) shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Journal {
    /// Opens the journal, reads what `replay` asks for, drops a torn tail and starts the threads.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] names file and offset of what is missing or damaged although the
    /// tail mark, or a later record, says it was synced.
    pub fn open(options: Options, replay: &mut Replay<'_>) -> Result<(Self, Recovered), OpenError> {
        let found = recovery::recover(&options, replay)?;
        let recovered = found.recovered.clone();
        let (keeper, tasks) = mpsc::channel();
        let shared = Arc::new(Shared::new(options, found, keeper)?);
        let journal = Self { shared, threads: Mutex::default() };
        journal.start("journal-sync", |shared| sync::run(&shared))?;
        journal.start("journal-keeper", move |shared| keeper::run(&shared, &tasks))?;
        journal.shared.ask(Task::Prepare(journal.shared.supply.next()));
        Ok((journal, recovered))
    }

    fn start(
        &self,
        name: &str,
        run: impl FnOnce(Arc<Shared>) + Send + 'static,
    ) -> Result<(), Failed> {
        let shared = Arc::clone(&self.shared);
        let started = thread::Builder::new().name(name.to_owned()).spawn(move || run(shared));
        let thread = started.map_err(|error| Failed::new(&self.shared.options.directory, error))?;
        lock(&self.threads).push(thread);
        Ok(())
    }

    /// Holds the end of the journal, to decide and append in one step.
    pub fn lock(&self) -> Tail<'_> {
        let state = self.shared.tail.lock().unwrap_or_else(|poisoned| {
            // Somebody stopped between a record and what it says: nobody may go on from there.
            let cause = "a thread ended while it held the end of the journal";
            self.shared.durable.fail(Failed::new(&self.shared.options.directory, cause));
            poisoned.into_inner()
        });
        Tail { shared: &self.shared, state }
    }

    /// Writes all that was appended before the call, with one write per segment. After it the
    /// records survive `kill -9`. One atomic comparison when nothing is pending.
    ///
    /// # Errors
    /// The journal failed, now or before.
    pub fn flush(&self) -> Result<(), Failed> {
        self.shared.flush()
    }

    /// Resolves once the record `sequence` is durable. The waiter is registered by the call, not
    /// by the first poll, and does not borrow the journal.
    ///
    /// # Errors
    /// The journal failed, or closed before there was such a record.
    pub fn synced(
        &self,
        sequence: Sequence,
    ) -> impl Future<Output = Result<(), Failed>> + Send + use<> {
        let registered = self.shared.durable.register(sequence);
        let closed = matches!(registered, Ok(Registered::Waits(_) | Registered::Closed))
            .then(|| self.shared.closed());
        async move {
            let answer = match registered? {
                Registered::Durable => Some(Ok(())),
                Registered::Waits(receiver) => receiver.await.ok(),
                Registered::Closed => None,
            };
            answer.unwrap_or_else(|| closed.map_or(Ok(()), Err))
        }
    }

    /// The last record appended, [`Sequence::NONE`] for none. [`Self::flush`] writes all up to it.
    pub fn appended_through(&self) -> Sequence {
        self.shared.appended()
    }

    /// Where its files lie.
    pub fn directory(&self) -> &Path {
        &self.shared.options.directory
    }

    /// Whether its files are still its own: once it is closed, another process may write them.
    ///
    /// # Errors
    /// If they are not, or the journal failed.
    pub fn check_open(&self) -> Result<(), Failed> {
        self.shared.durable.check()?;
        if lock(&self.shared.tail).closed { Err(self.shared.closed()) } else { Ok(()) }
    }

    /// Keeps every segment that there is now, until this is dropped.
    pub fn hold_segments(&self) -> MutexGuard<'_, ()> {
        lock(&self.shared.retiring)
    }

    /// Longest payload of a record, in bytes.
    pub fn payload_bytes_max(&self) -> usize {
        usize::try_from(self.shared.options.payload_bytes_max).unwrap_or(usize::MAX)
    }

    /// The last durable record, [`Sequence::NONE`] for none.
    pub fn synced_through(&self) -> Sequence {
        self.shared.durable.synced()
    }

    /// Resolves when the journal has failed, so that the process can stop serving; never
    /// otherwise. Does not borrow the journal, and never resolves once that is dropped.
    pub fn failed(&self) -> impl Future<Output = Failed> + Send + use<> {
        let mut signal = self.shared.durable.failure();
        let shared = Arc::downgrade(&self.shared);
        async move {
            let signalled = signal.wait_for(|failed| *failed).await.is_ok();
            match shared.upgrade().and_then(|shared| shared.durable.failed()) {
                Some(failed) if signalled => failed,
                _ => std::future::pending().await,
            }
        }
    }

    /// Reads one record back; writes first what is pending.
    ///
    /// # Errors
    /// [`ReadError::Retired`] when its segment is gone, [`ReadError::Damaged`] when no valid
    /// record lies there.
    pub fn read(&self, position: Position) -> Result<(Sequence, Vec<u8>), ReadError> {
        self.shared.flush()?;
        let path = segment_path(&self.shared.options.directory, position.segment);
        let info = lock(&self.shared.catalogue).get(&position.segment).copied();
        let Some(info) = info else { return Err(self.no_segment(position)) };
        let record = read_record(&path, &info, position);
        // Recycled while it was read: what was seen means nothing.
        if record.is_err() && !lock(&self.shared.catalogue).contains_key(&position.segment) {
            return Err(ReadError::Retired);
        }
        match record.map_err(|error| Failed::new(&path, error))? {
            Some(record) => Ok(record),
            None => Err(Damaged::new(&path, position.offset.into(), "no valid record here").into()),
        }
    }

    fn no_segment(&self, position: Position) -> ReadError {
        let catalogue = lock(&self.shared.catalogue);
        if catalogue.keys().next().is_some_and(|oldest| position.segment < *oldest) {
            return ReadError::Retired;
        }
        let path = segment_path(&self.shared.options.directory, position.segment);
        Damaged::new(&path, position.offset.into(), "no such segment").into()
    }

    /// Has the keeper remove or recycle old segments; the observer gets the outcome.
    ///
    /// # Errors
    /// The journal failed before.
    pub fn retire(&self, retention: Retention) -> Result<(), Failed> {
        self.shared.durable.check()?;
        // The keeper may be busy: then it gets the newer one, and no queue grows before it.
        if lock(&self.shared.to_retire).replace(retention).is_none() {
            self.shared.ask(Task::Retire);
        }
        Ok(())
    }

    /// The segments in use, oldest first.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        lock(&self.shared.catalogue).values().copied().collect()
    }

    /// Ends appending, writes and syncs all, and the mark, ends the threads and lets another
    /// process open the journal. A second call does nothing.
    ///
    /// # Errors
    /// The journal failed, now or before.
    pub fn close(&self) -> Result<(), Failed> {
        if std::mem::replace(&mut lock(&self.shared.tail).closed, true) {
            return self.shared.durable.check();
        }
        self.stop(Stop::Close);
        self.shared.durable.check()?;
        let mut mark = lock(&self.shared.mark);
        let closed = mark.close(self.shared.durable.synced());
        let closed = closed.and_then(|()| self.shared.lock.give_back());
        closed.map_err(|error| self.shared.durable.fail(Failed::new(&mark.path, error)))
    }

    fn stop(&self, stop: Stop) {
        self.shared.durable.stop(stop);
        self.shared.ask(Task::Stop);
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // A thread that panicked has already made the journal fail.
            let _ = thread.join();
        }
        self.shared.durable.release();
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.stop(Stop::Abandon);
    }
}

/// The record at `position`; `None` when none is there.
fn read_record(
    path: &Path,
    info: &SegmentInfo,
    position: Position,
) -> io::Result<Option<(Sequence, Vec<u8>)>> {
    let file = open_regular(path)?;
    let offset = u64::from(position.offset);
    // A usual record at once; one that is longer is found to be so by its head.
    let mut wanted = USUAL_BYTES;
    loop {
        // At a wrong place the head may say anything.
        let room = info.bytes.saturating_sub(offset).min(RECORD_BYTES_MAX);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let mut bytes = vec![0; wanted.min(room)];
        file.read_exact_at(&mut bytes, offset)?;
        match segment::decode_record(&bytes, info) {
            segment::Found::Record(Record { sequence, payload, .. }) => {
                return Ok(Some((sequence, payload.to_vec())));
            }
            segment::Found::Bad { .. } if bytes.len() < room => wanted = wanted.saturating_mul(16),
            segment::Found::End | segment::Found::Bad { .. } => return Ok(None),
        }
    }
}

/// Longest record, in bytes.
const RECORD_BYTES_MAX: u64 = PAYLOAD_BYTES_MAX as u64 + segment::RECORD_BYTES as u64;
/// Longer than nearly all records, in bytes.
const USUAL_BYTES: usize = 1_024;
