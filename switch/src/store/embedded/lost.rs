//! What lies behind the place where reading ended: nothing, a tail that no sync had reached, or the
//! proof that something is lost that was on disk.
//!
//! After a power failure any sector written since the last sync is on the disk or is as it was,
//! which is zero: whole records may follow a hole, and nobody was answered for any of them. That
//! is dropped. It is a loss where
//!
//! - a whole record follows which says that the one that is missing was on disk before it,
//! - the record is there, and what lies before it, where nothing was ever written, is not zero, or
//! - the record is damaged, and each of its sectors was written: no power failure leaves it so.
//!
//! What cannot be told from a power failure is a disk that gives zeros for the last sectors that it
//! said it had, when the switch ended within a second of that (see `tail_mark`) and had written
//! nothing since.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use super::segment::{Record, SegmentInfo, Version, segment_path, whole_records};
use super::types::{Damaged, Failed, OpenError, Sequence};
use crate::place::open_regular;

/// What a disk writes whole or not at all, in bytes.
const ATOM_BYTES: usize = 512;

/// The record that should come next, and is not there.
#[derive(Clone, Copy)]
pub(super) struct Torn {
    /// Where it lies, or should.
    pub(super) offset: usize,
    /// Bytes that it takes, as far as is known.
    pub(super) bytes: usize,
    /// What is wrong with it.
    pub(super) reason: &'static str,
}

/// Where reading ended.
pub(super) struct Place<'a> {
    pub(super) directory: &'a Path,
    pub(super) info: &'a SegmentInfo,
    /// The last record that was read.
    pub(super) last: Sequence,
    pub(super) torn: Torn,
}

impl Place<'_> {
    /// Refuses where something is lost. `segment` is the file in which reading ended, `numbers` are
    /// those of all files.
    pub(super) fn check(&self, segment: &[u8], numbers: &BTreeSet<u32>) -> Result<(), OpenError> {
        if self.info.version == Version::V2 {
            self.check_behind(segment, self.torn.offset, self.info.number)?;
            if !is_unwritten(segment, self.torn) {
                let reason = format!("{}, and it was written whole", self.torn.reason);
                return Err(self.damaged(reason).into());
            }
        }
        for number in numbers.range(self.info.number + 1..) {
            let path = segment_path(self.directory, *number);
            let mut bytes = Vec::new();
            let read = open_regular(&path).and_then(|mut file| file.read_to_end(&mut bytes));
            read.map_err(|error| Failed::new(&path, error))?;
            self.check_behind(&bytes, 0, *number)?;
        }
        Ok(())
    }

    fn check_behind(&self, bytes: &[u8], offset: usize, number: u32) -> Result<(), Damaged> {
        let missing = self.last.next();
        let mut later = whole_records(bytes.get(offset..).unwrap_or_default(), number);
        let proves = |record: &Record<'_>| record.synced >= missing || record.sequence == missing;
        let Some(record) = later.find(proves) else { return Ok(()) };
        let (what, missing, witness) = (self.torn.reason, missing.get(), record.sequence.get());
        Err(self.damaged(match record.sequence.get() == missing {
            true => format!("{what}; record {missing} follows behind something else"),
            false => format!("{what}; record {witness} says that record {missing} was on disk"),
        }))
    }

    fn damaged(&self, reason: String) -> Damaged {
        let path = segment_path(self.directory, self.info.number);
        Damaged::new(&path, self.torn.offset as u64, reason)
    }
}

/// Whether a sector of the record was never written. The first may hold the end of the record
/// before it.
fn is_unwritten(segment: &[u8], torn: Torn) -> bool {
    let end = segment.len().min(torn.offset.saturating_add(torn.bytes));
    let mut start = torn.offset;
    while start < end {
        let next = (start + 1).next_multiple_of(ATOM_BYTES).min(segment.len());
        if segment.get(start..next).is_some_and(|part| part.iter().all(|byte| *byte == 0)) {
            return true;
        }
        start = next;
    }
    // There is no room for a record.
    torn.offset >= end
}
