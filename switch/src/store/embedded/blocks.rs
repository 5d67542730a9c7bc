//! Reading the journal while it is written, a block at a time and either way: pages of transactions
//! and events are made of this.
//!
//! No record reaches into a sector unless it begins at the start of one, so that every sector can
//! be read alone: it begins with a record, or lies within a longer one, or holds nothing. Records
//! that follow each other from a sector of a block on belong to that block, also where a long one
//! reaches beyond its end. A segment of the first version has no sectors, and is one block.

use std::io;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt;

use super::files::lock;
use super::journal::{Journal, Shared};
use super::options::PAYLOAD_BYTES_MAX;
use super::segment::{
    self, HEADER_BYTES, RECORD_BYTES, Record, SECTOR_BYTES, SegmentInfo, Version, decode_record,
    segment_path,
};
use super::types::{Failed, Position, Sequence};
use crate::place::open_regular;

/// Bytes of a block. Less than what a page may read, so that each page comes further.
pub(super) const BLOCK_BYTES: u64 = 256 << 10;

/// How far the records of a block may reach beyond its end, in bytes.
pub(super) const BEYOND_BYTES: u64 =
    (PAYLOAD_BYTES_MAX as u64 + RECORD_BYTES as u64).next_multiple_of(SECTOR_BYTES) + SECTOR_BYTES;

/// Gets a record; to break ends the reading.
pub(super) type VisitRecord<'a> = dyn FnMut(Sequence, Position, &[u8]) -> ControlFlow<()> + 'a;

/// How many blocks a segment has.
pub(super) fn count(info: &SegmentInfo) -> u64 {
    match info.version {
        Version::V1 => 1,
        Version::V2 => info.bytes.div_ceil(BLOCK_BYTES),
    }
}

/// The block of a segment in which a byte lies.
pub(super) fn holding(info: &SegmentInfo, offset: u64) -> u64 {
    match info.version {
        Version::V1 => 0,
        Version::V2 => offset / BLOCK_BYTES,
    }
}

/// Where a block begins and ends in its file.
pub(super) fn range(info: &SegmentInfo, block: u64) -> Range<u64> {
    match info.version {
        Version::V1 => 0..info.bytes,
        Version::V2 => block * BLOCK_BYTES..info.bytes.min((block + 1) * BLOCK_BYTES),
    }
}

impl Journal {
    /// As [`Shared::read_block`].
    pub(super) fn read_block(
        &self,
        info: &SegmentInfo,
        block: u64,
        visit: &mut VisitRecord<'_>,
    ) -> Result<ControlFlow<()>, Failed> {
        self.shared.read_block(info, block, visit)
    }
}

impl Shared {
    /// Visits the records of a block in their order. Nothing of a segment that is retired
    /// meanwhile.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn read_block(
        &self,
        info: &SegmentInfo,
        block: u64,
        visit: &mut VisitRecord<'_>,
    ) -> Result<ControlFlow<()>, Failed> {
        let path = segment_path(&self.options.directory, info.number);
        let read = bytes_of(&path, info, range(info, block));
        // Recycled while it was read: what was seen means nothing.
        if !lock(&self.catalogue).contains_key(&info.number) {
            return Ok(ControlFlow::Continue(()));
        }
        let bytes = read.map_err(|error| Failed::new(&path, error))?;
        Ok(visit_records(&bytes, info, range(info, block), visit))
    }
}

/// The bytes of a range and of what may reach beyond its end.
fn bytes_of(path: &std::path::Path, info: &SegmentInfo, range: Range<u64>) -> io::Result<Vec<u8>> {
    let end = info.bytes.min(range.end + BEYOND_BYTES);
    let length = usize::try_from(end - range.start).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    open_regular(path)?.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
}

/// Visits the records that begin in a range, whose bytes `bytes` begins with.
fn visit_records(
    bytes: &[u8],
    info: &SegmentInfo,
    range: Range<u64>,
    visit: &mut VisitRecord<'_>,
) -> ControlFlow<()> {
    let sector = usize::try_from(SECTOR_BYTES).unwrap_or(usize::MAX);
    let end = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let first = if range.start == 0 { HEADER_BYTES } else { 0 };
    let mut at = first;
    while at < end || info.version == Version::V2 && at % sector != 0 {
        let rest = bytes.get(at..).unwrap_or_default();
        let segment::Found::Record(Record { sequence, payload, bytes, .. }) =
            decode_record(rest, info)
        else {
            if info.version == Version::V1 {
                break;
            }
            at = (at + 1).next_multiple_of(sector);
            continue;
        };
        let offset = range.start + at as u64;
        let position =
            Position { segment: info.number, offset: u32::try_from(offset).unwrap_or(u32::MAX) };
        visit(sequence, position, payload)?;
        at += bytes;
    }
    ControlFlow::Continue(())
}
