//! What the tests share: small journals in scratch directories, and seeded bytes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::journal::{Append, Journal, Retention};
use super::options::{Options, Recovered, Replay, SEGMENT_BYTES_MIN};
use super::segment::SegmentInfo;
use super::types::{JournalReport, OpenError, Position, Sequence};

/// A record as read back.
pub(super) type Seen = (u64, Position, Vec<u8>);

pub(super) const SECONDS: u64 = 1_800_000_000;

pub(super) fn monotonic() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap()
}

/// In memory where that is possible: a test's syncs need not wear out a disk.
pub(super) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

/// 64 KiB segments; synced only when somebody waits, or at close.
pub(super) fn options(directory: &Path) -> Options {
    Options {
        directory: directory.to_owned(),
        create_new: !directory.exists(),
        segment_bytes: SEGMENT_BYTES_MIN,
        payload_bytes_max: 1024,
        sync_interval: Duration::from_secs(3600),
        monotonic,
        unix_seconds: Arc::new(|| SECONDS),
        observer: Arc::new(|_| {}),
    }
}

pub(super) fn open_with(options: Options) -> Result<(Journal, Recovered, Vec<Seen>), OpenError> {
    open_from(options, None, &|_, _| true)
}

pub(super) fn open_from(
    options: Options,
    start: Option<Sequence>,
    needed: &dyn Fn(&SegmentInfo, &SegmentInfo) -> bool,
) -> Result<(Journal, Recovered, Vec<Seen>), OpenError> {
    let mut seen = Vec::new();
    let mut visit = |sequence: Sequence, position, payload: &[u8]| {
        seen.push((sequence.get(), position, payload.to_vec()));
        Ok(record(payload).keeps_answer)
    };
    let (journal, recovered) = Journal::open(
        options,
        &mut Replay { start, needed, visit: &mut visit, progress: &|_, _| {} },
    )?;
    Ok((journal, recovered, seen))
}

pub(super) fn open(directory: &Path) -> (Journal, Recovered, Vec<Seen>) {
    open_with(options(directory)).unwrap()
}

/// Opening must be refused; the text of the refusal.
pub(super) fn refusal(directory: &Path) -> String {
    open_with(options(directory)).err().unwrap().to_string()
}

/// The payload every test writes under this sequence: 1 to 900 bytes.
pub(super) fn payload(sequence: u64) -> Vec<u8> {
    let mut random = Random(sequence);
    let mut bytes = vec![0; 1 + random.index(900)];
    for word in bytes.chunks_mut(8) {
        word.copy_from_slice(&random.next().to_le_bytes()[..word.len()]);
    }
    bytes
}

/// A record that somebody waits for; one of two keeps an answer.
pub(super) fn record(payload: &[u8]) -> Append<'_> {
    Append { payload, is_awaited: true, keeps_answer: payload.len().is_multiple_of(2) }
}

/// Appends `count` records.
pub(super) fn append(journal: &Journal, count: u64) -> Vec<Seen> {
    (0..count)
        .map(|_| {
            let mut tail = journal.lock();
            let next = tail.next();
            let bytes = payload(next.get());
            let (sequence, position) = tail.append(record(&bytes)).unwrap();
            assert_eq!(sequence, next);
            (sequence.get(), position, bytes)
        })
        .collect()
}

/// Syncs all that was appended.
pub(super) fn sync(journal: &Journal, through: u64) {
    block_on(journal.synced(Sequence::new(through))).unwrap();
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

impl Retention {
    /// All segments but the newest may go, as far as they are on disk.
    pub(super) fn of_everything() -> Retention {
        Retention {
            keep_from: Sequence::new(u64::MAX),
            created_before_unix_seconds: u64::MAX,
            bytes_max: 0,
            unread: None,
        }
    }
}

/// Sends what the journal's threads report to the test.
pub(super) fn observed(options: &mut Options) -> std::sync::mpsc::Receiver<JournalReport> {
    let (sender, events) = std::sync::mpsc::channel();
    options.observer = Arc::new(move |event| {
        let _ = sender.send(event.clone());
    });
    events
}

/// SplitMix64: the same numbers from the same seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }
}
