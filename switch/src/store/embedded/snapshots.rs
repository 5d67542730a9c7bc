//! The thread that takes snapshots while traffic goes on, and lets old segments go.

use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use compact_str::CompactString;

use super::Shared;
use super::journal::{Retention, Unread};
use super::open::OpenOptions;
use super::snapshot::{Finished, SnapshotWriter};
use super::types::{Failed, Position, Sequence};
use crate::config::StoreConfig;
use crate::store::document::DocumentKind;
use crate::store::record::{self, RecordId, Reversed, SnapshotDocument, SnapshotReversal};

const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The nice value that gives way to everybody.
const LOWEST_PRIORITY: i32 = 19;
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The running thread.
pub(super) struct Snapshots {
    stop: mpsc::Sender<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Snapshots {
    /// Starts it.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub(super) fn start(shared: Arc<Shared>, options: &OpenOptions) -> std::io::Result<Snapshots> {
        let (stop, stopped) = mpsc::channel();
        let (directory, config) = (options.snapshots(), options.config.clone());
        let run = move || run(&shared, &directory, &config, &stopped);
        let thread = std::thread::Builder::new().name("snapshots".to_owned()).spawn(run)?;
        Ok(Snapshots { stop, thread: Mutex::new(Some(thread)) })
    }

    /// Ends it, after the snapshot it may be writing.
    pub(super) fn stop(&self) {
        // Fails only if the thread has ended.
        let _ = self.stop.send(());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the snapshot thread had panicked");
        }
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(shared: &Shared, directory: &Path, config: &StoreConfig, stopped: &mpsc::Receiver<()>) {
    // Of this thread alone (Linux). A snapshot of many cards takes a processor for a second, and
    // requests must not wait for it. Where it is not allowed, it is only slower for others.
    let _ = rustix::process::setpriority_process(None, LOWEST_PRIORITY);
    let (mut taken_at, mut looked) = (0, shared.clock.monotonic());
    let (mut newest, mut held_up): (Option<Finished>, _) = (None, HeldUp::default());
    while stopped.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        // The journal says itself why it failed.
        let _ = shared.look_at_clock();
        let _ = shared.sweep_documents();
        // At each look, since only a few go at once.
        newest.iter().for_each(|finished| retire(shared, config, finished));
        let appended = shared.appended_bytes.load(Ordering::Relaxed);
        let is_large = appended - taken_at >= config.snapshot_bytes;
        // Once a day in any case: old segments go only behind a snapshot.
        let is_old = appended > taken_at && shared.clock.monotonic().saturating_sub(looked) >= DAY;
        if !is_large && !is_old {
            continue;
        }
        // Somebody copies them: at the next look there is enough again.
        let Ok(_taking) = shared.taking_snapshot.try_lock() else {
            held_up.look(shared.clock.monotonic());
            continue;
        };
        held_up = HeldUp::default();
        looked = shared.clock.monotonic();
        // The journal is the truth: without this snapshot a start reads more of it.
        match take(shared, directory) {
            Ok(finished) => newest = Some(finished),
            Err(error) => tracing::error!(%error, "no snapshot was taken"),
        }
        taken_at = appended;
    }
}

/// How often it is said that a snapshot is due and none can be taken.
const HELD_UP_INTERVAL: Duration = Duration::from_secs(600);

/// Since when a snapshot is due and somebody copies the store, on the monotonic clock; or since it
/// was said last.
#[derive(Default)]
struct HeldUp(Option<Duration>);

impl HeldUp {
    /// Says it, if that lasts; whether it did.
    fn look(&mut self, now: Duration) -> bool {
        let since = *self.0.get_or_insert(now);
        let lasts = now.saturating_sub(since) >= HELD_UP_INTERVAL;
        if lasts {
            self.0 = Some(now);
            tracing::error!(
                "a backup goes on for so long that a snapshot waits: until it ends none is taken, \
                 and no old journal segment goes"
            );
        }
        lasts
    }
}

/// Takes a snapshot: what changes meanwhile may be in it or not, and replay from `from` on
/// settles it.
///
/// # Errors
/// If a file cannot be written or the journal has failed.
pub(super) fn take(shared: &Shared, directory: &Path) -> Result<Finished, Failed> {
    let from = shared.journal.lock().next();
    let mut writer = SnapshotWriter::create(directory, from)?;
    // A start that begins with this snapshot must know of it too.
    if !shared.settled.is_settled(&*shared.clock) {
        shared.append_clock_jump(0).map_err(|error| Failed::new(directory, error))?;
    }
    if let Some(keys) = shared.own_keys.get() {
        writer.push(&record::snapshot_record(keys))?;
    }
    let behind = shared.clock.now().micros().saturating_sub(shared.age().micros());
    for (network, index) in shared.duplicates.iter() {
        for (original, time) in index.reversals() {
            let reversed = Reversed { time: time.shifted(behind), original };
            let network = Cow::Borrowed(&**network);
            writer.push(&record::snapshot_record(&SnapshotReversal { network, reversed }))?;
        }
    }
    for reader in shared.readers.all() {
        writer.push(&record::snapshot_record(&reader))?;
    }
    push_documents(shared, &mut writer)?;
    for entry in shared.cards.entries() {
        // Its token may stand for another card by now, which would be in here too.
        if entry.is_removed() {
            continue;
        }
        writer.push(&record::snapshot_card(&entry))?;
    }
    let next = shared.journal.lock().next();
    let through = Sequence::new(next.get() - 1);
    wait_for(shared, through)?;
    writer.finish(through)
}

/// Documents that are held at once while a snapshot is taken.
const DOCUMENTS_AT_ONCE: usize = 1_000;

/// All documents, those too whose time is over: their removal is a record of its own.
fn push_documents(shared: &Shared, writer: &mut SnapshotWriter) -> Result<(), Failed> {
    for kind in DocumentKind::ALL {
        let mut after: Option<CompactString> = None;
        loop {
            let page = shared.documents.page_of_all(*kind, after.as_deref(), DOCUMENTS_AT_ONCE);
            let Some(last) = page.last() else { break };
            after = Some(last.token.clone());
            for document in page {
                writer.push(&record::snapshot_record(&SnapshotDocument::of(&document)))?;
            }
        }
    }
    Ok(())
}

/// A snapshot must hold nothing that a power failure could take from the journal.
pub(super) fn wait_for(shared: &Shared, through: Sequence) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| Failed::new(Path::new("snapshot thread"), error))?;
    runtime.block_on(shared.journal.synced(through))
}

/// Events and transactions of a record.
fn told_by(payload: &[u8]) -> u64 {
    record::told(RecordId::NONE, payload).map_or(0, |told| told.len() as u64)
}

fn retire(shared: &Shared, config: &StoreConfig, finished: &Finished) {
    let kept = DAY.saturating_mul(config.retention_days).as_secs();
    // By size in any case: without room nothing can be answered.
    let oldest = match shared.settled.is_settled(&*shared.clock) {
        true => shared.clock.now().seconds() - i64::try_from(kept).unwrap_or(i64::MAX),
        false => 0,
    };
    let retention = Retention {
        keep_from: finished.oldest_from,
        created_before_unix_seconds: u64::try_from(oldest).unwrap_or_default(),
        bytes_max: config.retention_bytes,
        unread: shared.readers.slowest().map(|(reader, through)| Unread {
            reader,
            after: Position::from_u64(through.record.0),
            bytes_max: config.unread_bytes_max,
            count: told_by,
        }),
    };
    if let Err(error) = shared.journal.retire(retention) {
        tracing::error!(%error, "no segment was retired");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_that_does_not_end_is_told_now_and_then() {
        let mut held_up = HeldUp::default();
        let told = (0..3_600).filter(|second| held_up.look(Duration::from_secs(100 + second)));
        assert_eq!(told.collect::<Vec<_>>(), [600, 1_200, 1_800, 2_400, 3_000]);
    }
}
