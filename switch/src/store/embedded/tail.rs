//! The pending end of the journal: appending to it in memory, and writing it out.

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use super::journal::Shared;
use super::keeper::Task;
use super::segment::{RECORD_BYTES, SECTOR_BYTES, Segment, SegmentInfo, Version, encode_record};
use super::types::{AppendError, Failed, Position, Sequence};

/// A record to append.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// Its bytes: 1 to `payload_bytes_max`.
    pub payload: &'a [u8],
    /// Whether somebody is answered once it is on disk. Its sector is then never written again.
    pub is_awaited: bool,
    /// Whether it keeps an answer for repeats; the segments' headers count these.
    pub keeps_answer: bool,
}

/// Bytes to be written at one place.
pub(super) struct Batch {
    pub(super) segment: Arc<Segment>,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

impl Batch {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    /// The place of a record of so many bytes, behind zeros where it would reach into the next
    /// sector: of a sector that the power cut short, nothing is read as if it began there.
    fn place(&mut self, bytes: u64) -> Position {
        let (end, next) = (self.end(), self.end().next_multiple_of(SECTOR_BYTES));
        let offset = if end + bytes <= next { end } else { next };
        let padding = usize::try_from(offset - end).unwrap_or(usize::MAX);
        self.bytes.resize(self.bytes.len() + padding, 0);
        debug_assert!(offset + bytes <= self.segment.bytes, "a segment is left before it is full");
        // Segments are limited to 1 GiB.
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        Position { segment: self.segment.number, offset }
    }

    /// One positioned write.
    fn write(&self) -> Result<(), Failed> {
        let written = self.segment.file.write_all_at(&self.bytes, self.offset);
        written.map_err(|error| Failed::new(&self.segment.path, error))
    }
}

/// What appending changes; behind the tail's lock.
pub(super) struct TailState {
    /// What goes into the current segment.
    pub(super) batch: Batch,
    /// What goes into the segments before it.
    rolled: Vec<Batch>,
    next: Sequence,
    /// Records so far that keep an answer.
    answers: u64,
    /// Somebody waits for a record that was appended since the last sync began.
    is_awaited: bool,
    pub(super) closed: bool,
}

impl TailState {
    pub(super) fn new(segment: Segment, offset: u64, next: Sequence, answers: u64) -> Self {
        let batch = Batch { segment: Arc::new(segment), offset, bytes: Vec::new() };
        let (rolled, is_awaited, closed) = (Vec::new(), false, false);
        Self { batch, rolled, next, answers, is_awaited, closed }
    }

    /// A sync begins: what comes after it goes to a new sector, if somebody is answered for what
    /// came before. Elsewhere records stay packed, or a quiet journal would be mostly padding.
    pub(super) fn end_sector(&mut self) {
        debug_assert!(self.batch.bytes.is_empty(), "all that is pending was taken for the sync");
        if std::mem::take(&mut self.is_awaited) {
            let next = self.batch.offset.next_multiple_of(SECTOR_BYTES);
            self.batch.offset = next.min(self.batch.segment.bytes);
        }
    }
}

/// What writing changes; behind the write lock, which is never held during a sync.
#[derive(Default)]
pub(super) struct Writer {
    batches: Vec<Batch>,
    /// A buffer to swap for the pending one, so that neither is allocated again.
    buffer: Vec<u8>,
    /// Segments written since the last sync.
    pub(super) dirty: Vec<Arc<Segment>>,
    pub(super) through: Sequence,
}

impl Writer {
    pub(super) fn new(through: Sequence) -> Self {
        Self { through, ..Self::default() }
    }

    /// Takes over all that is pending.
    pub(super) fn take(&mut self, tail: &mut TailState) {
        self.batches.append(&mut tail.rolled);
        if !tail.batch.bytes.is_empty() {
            let offset = tail.batch.offset;
            tail.batch.offset = tail.batch.end();
            let empty = std::mem::take(&mut self.buffer);
            let bytes = std::mem::replace(&mut tail.batch.bytes, empty);
            self.batches.push(Batch { segment: Arc::clone(&tail.batch.segment), offset, bytes });
        }
        self.through = Sequence::new(tail.next.get() - 1);
    }

    /// Writes what was taken.
    pub(super) fn write(&mut self) -> Result<(), Failed> {
        for batch in self.batches.drain(..) {
            batch.write()?;
            if !self.dirty.last().is_some_and(|last| Arc::ptr_eq(last, &batch.segment)) {
                self.dirty.push(batch.segment);
            }
            self.buffer = batch.bytes;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// The journal's end, held: nobody else appends meanwhile.
/// Keep it short, and never across an await.
pub struct Tail<'a> {
    pub(super) shared: &'a Shared,
    pub(super) state: MutexGuard<'a, TailState>,
}

impl Tail<'_> {
    /// The sequence that the next record will get.
    pub fn next(&self) -> Sequence {
        self.state.next
    }

    /// Adds a record in memory; `flush` writes it. No system call, except when the next segment
    /// is needed and not ready yet.
    ///
    /// # Errors
    /// [`AppendError::Length`] changes nothing. [`AppendError::Failed`]: the journal failed,
    /// now or before, or is closed.
    pub fn append(&mut self, record: Append<'_>) -> Result<(Sequence, Position), AppendError> {
        let Append { payload, is_awaited, keeps_answer } = record;
        let max = self.shared.options.payload_bytes_max as usize;
        if payload.is_empty() || payload.len() > max {
            return Err(AppendError::Length { bytes: payload.len(), max });
        }
        self.shared.durable.check()?;
        if self.state.closed {
            return Err(self.shared.closed().into());
        }
        if !self.has_room() {
            self.roll().map_err(|failed| self.shared.durable.fail(failed))?;
        }
        let sequence = self.state.next;
        let synced = self.shared.durable.synced();
        let position = self.state.batch.place(RECORD_BYTES as u64 + payload.len() as u64);
        let out = &mut self.state.batch.bytes;
        encode_record(out, position.segment, sequence, synced, payload);
        self.state.next = sequence.next();
        self.state.is_awaited |= is_awaited;
        self.state.answers += u64::from(keeps_answer);
        self.shared.appended.store(sequence.get(), Ordering::Release);
        Ok((sequence, position))
    }

    fn has_room(&self) -> bool {
        let longest = RECORD_BYTES as u64 + u64::from(self.shared.options.payload_bytes_max);
        let Batch { segment, .. } = &self.state.batch;
        self.state.batch.end().next_multiple_of(SECTOR_BYTES) + longest <= segment.bytes
    }

    /// Goes on in the next segment. The rest of this one stays as it is.
    fn roll(&mut self) -> Result<(), Failed> {
        let segment = self.shared.supply.take()?;
        let info = SegmentInfo {
            version: Version::V2,
            number: segment.number,
            first: self.state.next,
            created_unix_seconds: (self.shared.options.unix_seconds)(),
            bytes: segment.bytes,
            answers_before: self.state.answers,
        };
        self.shared.begin_segment(info);
        self.shared.ask(Task::Prepare(info.number + 1));
        let batch = Batch { segment, offset: 0, bytes: info.encode() };
        let full = std::mem::replace(&mut self.state.batch, batch);
        if !full.bytes.is_empty() {
            self.state.rolled.push(full);
        }
        Ok(())
    }
}
