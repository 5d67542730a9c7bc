//! What is durable, who waits for it, and the one thread that makes it so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::files::lock;
use super::journal::Shared;
use super::types::{Failed, JournalReport, Sequence};

/// How the threads end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// After one last sync.
    Close,
    /// At once, like a crash.
    Abandon,
}

type Answer = Result<(), Failed>;

/// How far the journal is durable, the failure that ended it, and the waiters.
pub(super) struct Durable {
    synced: AtomicU64,
    failed: OnceLock<Failed>,
    failure: watch::Sender<bool>,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    waiters: Vec<Waiter>,
    /// The sync thread sleeps and must be woken; saves a system call per waiter otherwise.
    sleeping: bool,
    stop: Option<Stop>,
}

struct Waiter {
    sequence: Sequence,
    answer: oneshot::Sender<Answer>,
}

/// What a waiter got at registration.
pub(super) enum Registered {
    Durable,
    Waits(oneshot::Receiver<Answer>),
    Closed,
}

impl Durable {
    pub(super) fn new(synced: Sequence) -> Self {
        Self {
            synced: AtomicU64::new(synced.get()),
            failed: OnceLock::new(),
            failure: watch::channel(false).0,
            state: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    pub(super) fn synced(&self) -> Sequence {
        Sequence::new(self.synced.load(Ordering::Acquire))
    }

    /// The failure, if the journal has failed.
    pub(super) fn check(&self) -> Result<(), Failed> {
        self.failed.get().map_or(Ok(()), |failed| Err(failed.clone()))
    }

    /// Ends the journal: the first failure stays, all waiters get it.
    pub(super) fn fail(&self, failed: Failed) -> Failed {
        let failed = self.failed.get_or_init(|| failed).clone();
        let waiters = std::mem::take(&mut lock(&self.state).waiters);
        for waiter in waiters {
            // A waiter that is gone needs no answer.
            let _ = waiter.answer.send(Err(failed.clone()));
        }
        self.failure.send_replace(true);
        failed
    }

    pub(super) fn failure(&self) -> watch::Receiver<bool> {
        self.failure.subscribe()
    }

    pub(super) fn failed(&self) -> Option<Failed> {
        self.failed.get().cloned()
    }

    pub(super) fn register(&self, sequence: Sequence) -> Result<Registered, Failed> {
        self.check()?;
        if self.synced() >= sequence {
            return Ok(Registered::Durable);
        }
        let mut state = lock(&self.state);
        // Again under the lock: from here on a sync or a failure finds this waiter.
        self.check()?;
        if self.synced() >= sequence {
            return Ok(Registered::Durable);
        }
        if state.stop.is_some() {
            return Ok(Registered::Closed);
        }
        let (answer, receiver) = oneshot::channel();
        state.waiters.push(Waiter { sequence, answer });
        if std::mem::take(&mut state.sleeping) {
            self.wake.notify_one();
        }
        Ok(Registered::Waits(receiver))
    }

    pub(super) fn stop(&self, stop: Stop) {
        lock(&self.state).stop.get_or_insert(stop);
        self.wake.notify_one();
    }

    /// Lets go of waiters for records that will never be.
    pub(super) fn release(&self) {
        lock(&self.state).waiters.clear();
    }

    /// Sleeps until somebody waits for what is unsynced, the interval is over, or the end.
    fn wait(&self, interval: Duration, unsynced: impl Fn() -> bool) -> Option<Stop> {
        let idle = |state: &mut State| {
            let idle = state.stop.is_none() && (state.waiters.is_empty() || !unsynced());
            state.sleeping = idle;
            idle
        };
        let waited = self.wake.wait_timeout_while(lock(&self.state), interval, idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.sleeping = false;
        state.stop
    }

    /// Answers all waiters up to `through`; returns how many.
    fn advance(&self, through: Sequence) -> usize {
        self.synced.store(through.get(), Ordering::Release);
        let due: Vec<Waiter> =
            lock(&self.state).waiters.extract_if(.., |w| w.sequence <= through).collect();
        let count = due.len();
        for waiter in due {
            // A waiter that is gone needs no answer.
            let _ = waiter.answer.send(Ok(()));
        }
        count
    }
}

/// How old the mark on disk may become.
const MARK_INTERVAL: Duration = Duration::from_secs(1);

/// How far the mark on disk is behind. It need not be exact (each record says what was on disk
/// before it) but for what was answered last, and for a segment that is lost whole.
struct Marked {
    /// The newest segment that the mark on disk knows of.
    segment: u32,
    /// When it was synced, on the monotonic clock.
    at: Duration,
    is_behind: bool,
}

impl Marked {
    fn sync(&mut self, shared: &Shared, segment: u32) -> Result<(), Failed> {
        let mark = lock(&shared.mark);
        let (file, path) = (Arc::clone(&mark.file), mark.path.clone());
        // The keeper may write it meanwhile.
        drop(mark);
        file.sync_data().map_err(|error| Failed::new(&path, error))?;
        *self = Marked { segment, at: (shared.options.monotonic)(), is_behind: false };
        Ok(())
    }

    fn sync_if_old(&mut self, shared: &Shared) -> Result<(), Failed> {
        let age = || (shared.options.monotonic)().saturating_sub(self.at);
        if self.is_behind && age() >= MARK_INTERVAL {
            return self.sync(shared, self.segment);
        }
        Ok(())
    }
}

/// The sync thread.
pub(super) fn run(shared: &Shared) {
    let _guard = FailOnPanic(shared);
    let unsynced = || shared.appended() > shared.durable.synced();
    let segment = lock(&shared.catalogue).keys().next_back().copied().unwrap_or_default();
    let at = (shared.options.monotonic)();
    let mut marked = Marked { segment, at, is_behind: false };
    loop {
        let stop = shared.durable.wait(shared.options.sync_interval, unsynced);
        if stop == Some(Stop::Abandon) {
            return;
        }
        let done = if unsynced() { round(shared, &mut marked) } else { Ok(()) };
        if let Err(failed) = done.and_then(|()| marked.sync_if_old(shared)) {
            shared.durable.fail(failed);
            return;
        }
        if stop.is_some() {
            return;
        }
    }
}

/// Writes what is pending, syncs, writes the mark, answers.
fn round(shared: &Shared, marked: &mut Marked) -> Result<(), Failed> {
    let before = shared.durable.synced();
    let (segments, through) = shared.write_for_sync()?;
    let started = (shared.options.monotonic)();
    for segment in &segments {
        segment.file.sync_data().map_err(|error| Failed::new(&segment.path, error))?;
    }
    let took = (shared.options.monotonic)().saturating_sub(started);
    {
        // Before anyone can learn that these records are durable.
        let mut mark = lock(&shared.mark);
        mark.write(through).map_err(|error| Failed::new(&mark.path, error))?;
    }
    marked.is_behind = true;
    let newest = segments.last().map_or(marked.segment, |segment| segment.number);
    if newest > marked.segment {
        // Without it the loss of the whole segment could look like one that was never begun.
        marked.sync(shared, newest)?;
    }
    let waiters = shared.durable.advance(through);
    let records = through.get().saturating_sub(before.get());
    (shared.options.observer)(&JournalReport::Synced {
        took,
        files: segments.len(),
        records,
        waiters,
    });
    Ok(())
}

/// A thread of the journal that panics (an observer could) must not leave waiters hanging.
pub(super) struct FailOnPanic<'a>(pub(super) &'a Shared);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.durable.fail(Failed::new(&self.0.options.directory, "a thread panicked"));
        }
    }
}
