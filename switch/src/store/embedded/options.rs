//! What the journal is told at open.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::segment::{HEADER_BYTES, RECORD_BYTES, SECTOR_BYTES, SegmentInfo};
use super::types::{Damaged, JournalReport, OpenError, Position, Sequence};

/// Smallest segment, in bytes.
pub const SEGMENT_BYTES_MIN: u32 = 64 << 10;
/// Largest segment, in bytes: a position's offset has 32 bits, and opening reads a segment whole.
pub const SEGMENT_BYTES_MAX: u32 = 1 << 30;
/// Longest payload unless set otherwise, in bytes.
pub const PAYLOAD_BYTES_MAX: u32 = 64 << 10;
/// How often is synced without a waiter unless set otherwise.
pub const SYNC_INTERVAL: Duration = Duration::from_millis(10);

/// Settings and the outside world of a journal.
#[derive(Clone)]
pub struct Options {
    /// Where the journal's files lie, and nothing else.
    pub directory: PathBuf,
    /// Make a new, empty journal. An error where one is.
    pub create_new: bool,
    /// Size of new segments, in bytes.
    pub segment_bytes: u32,
    /// Longest payload that is appended, in bytes; at most half a segment. Longer ones written
    /// under another setting are still read.
    pub payload_bytes_max: u32,
    /// How often is synced without a waiter.
    pub sync_interval: Duration,
    /// Time since any fixed moment, to measure syncs.
    pub monotonic: fn() -> Duration,
    /// Seconds since 1970, for the segments' creation times.
    pub unix_seconds: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Gets what the journal's threads report; called on them, so it must be quick.
    pub observer: Arc<dyn Fn(&JournalReport) + Send + Sync>,
}

impl Options {
    pub(super) fn check(&self) -> Result<(), OpenError> {
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Err(OpenError::Option("segment_bytes: 64 KiB to 1 GiB"));
        }
        let overhead = HEADER_BYTES + RECORD_BYTES;
        let record = u64::from(self.payload_bytes_max) + overhead as u64 + SECTOR_BYTES;
        if self.payload_bytes_max == 0 || record > u64::from(self.segment_bytes) / 2 {
            return Err(OpenError::Option("payload_bytes_max: 1 to half of segment_bytes"));
        }
        if self.sync_interval.is_zero() {
            return Err(OpenError::Option("sync_interval: more than zero"));
        }
        Ok(())
    }
}

/// Gets each record in order, and tells whether it keeps an answer for repeats; an error ends the
/// opening with [`OpenError::Damaged`] at the place of that record.
pub type Visit<'a> = dyn FnMut(Sequence, Position, &[u8]) -> Result<bool, String> + 'a;

/// Gets how many bytes of a file, or of files, have been read, and of how many.
pub type Progress<'a> = dyn Fn(u64, u64) + 'a;

/// What is read at open.
pub struct Replay<'a> {
    /// The record from which on everything must be there, read from the start of its segment:
    /// the snapshot's `from`, or [`Sequence::FIRST`] without a snapshot. `None`: whatever is kept.
    pub start: Option<Sequence>,
    /// Whether a segment before `start` is wanted too (history, events not yet delivered), told
    /// from the segment that follows it, which ends it, and the newest. Reading begins at the
    /// first that is, and no later than at `start`.
    pub needed: &'a dyn Fn(&SegmentInfo, &SegmentInfo) -> bool,
    /// Gets the records.
    pub visit: &'a mut Visit<'a>,
    /// Gets how many bytes have been read, and of how many, now and then.
    pub progress: &'a Progress<'a>,
}

/// What open found.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// First record kept (that of the oldest segment).
    pub first: Sequence,
    /// Last record; [`Sequence::NONE`] in an empty journal. All up to here is synced.
    pub last: Sequence,
    /// Records visited.
    pub visited: u64,
    /// Records so far that keep an answer for repeats, as the segments' headers count them.
    pub answers: u64,
    /// What was never synced, torn, and is gone.
    pub dropped: Option<Dropped>,
    /// Damage that cost nothing and is repaired.
    pub repaired: Vec<Damaged>,
}

/// A torn tail that was dropped.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// The segment's file.
    pub file: String,
    /// Where the last whole record ended.
    pub offset: u64,
    /// Bytes from there to the last that was not zero; in a recycled segment of format version 1
    /// those of its former life count too.
    pub bytes: u64,
    /// What was wrong there.
    pub reason: &'static str,
}
