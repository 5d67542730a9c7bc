//! One file of the journal, and the format of what it holds.
//!
//! A segment is a file `NNNNNNNNNN.journal` (its number, decimal, from 0000000001) of fixed size,
//! written full of zeros and synced before its first use, so that a later `fdatasync` writes data
//! only, and what no write has reached is zero. All numbers are little-endian. CRC is CRC-32C
//! (Castagnoli).
//!
//! Header, 64 bytes at offset 0, written together with the segment's first record:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `pinsjrnl` |
//! | 8 | 4 | format version, 2 |
//! | 12 | 4 | segment number, as in the file's name |
//! | 16 | 8 | sequence of the first record |
//! | 24 | 8 | creation, seconds since 1970 |
//! | 32 | 8 | size of the file in bytes |
//! | 40 | 8 | records before this segment that keep an answer for repeats |
//! | 48 | 12 | zero |
//! | 60 | 4 | CRC over bytes 0-59 |
//!
//! A header of 64 zero bytes: prepared, not used yet.
//!
//! Records follow from offset 64. None spans two segments.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | `{`, so that no record begins with zero |
//! | 1 | 4 | length of the payload, 1 or more |
//! | 5 | 8 | sequence |
//! | 13 | 8 | last sequence that was on disk when this record was made, 0 for none |
//! | 21 | 4 | CRC over segment number (4 bytes) and bytes 1-20 |
//! | 25 | 4 | CRC over segment number (4 bytes), bytes 1-20, payload |
//! | 29 | length | payload |
//! | 29 + length | 1 | `}`, so that no record ends with zero |
//!
//! A record begins where the one before it ends, or at the next sector ([`SECTOR_BYTES`]): there
//! where it would reach into it, and where somebody was answered for what stands before, since a
//! sector that holds such a record is never written again. So a sector holds whole records, or one
//! that is longer than it begins there. A zero at both places, or less than a head left in the
//! file: the segment ends here. The segment number in the CRC keeps a record of a file's former
//! life from ever passing for a new one.
//!
//! **Version 1** is still read. Its header has zeros from offset 40 on. Its records follow each
//! other without padding and have a head of 16 bytes: length, sequence, and one CRC over segment
//! number, length, sequence and payload. A length of zero ends it, and a recycled segment still
//! holds records of its former life behind that.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::files::{Fields, numbered, seal, sync_directory, unseal, write_zeros};
use super::types::Sequence;
use crate::place::{open_regular, open_regular_to_write};

/// Bytes of a segment's header.
pub const HEADER_BYTES: usize = 64;
/// Bytes before a record's payload.
pub const RECORD_HEAD_BYTES: usize = 29;
/// Bytes of a record beside its payload.
pub const RECORD_BYTES: usize = RECORD_HEAD_BYTES + 1;
/// What a file system writes to a disk at once, in bytes: a disk that spoils the sector it is
/// writing spoils nothing else.
pub const SECTOR_BYTES: u64 = 4096;

const BEGIN: u8 = b'{';
const END: u8 = b'}';
const MAGIC: [u8; 8] = *b"pinsjrnl";
const NUMBER_DIGITS: usize = 10;
const HEAD_BYTES_V1: usize = 16;

/// The version of a segment's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Read only.
    V1,
    /// What is written.
    V2,
}

/// What a segment's header says; enough to decide whether a segment is still needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Format of the file.
    pub version: Version,
    /// Its number, from 1.
    pub number: u32,
    /// Sequence of its first record.
    pub first: Sequence,
    /// When it got its first record, in seconds since 1970.
    pub created_unix_seconds: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Records before this segment that keep an answer for repeats. Version 1 did not count them:
    /// there it is all records.
    pub answers_before: u64,
}

/// A header as found on disk.
pub(super) enum Header {
    Used(SegmentInfo),
    /// All zero: prepared and not used.
    Blank,
    Bad(&'static str),
}

impl SegmentInfo {
    /// The header of a segment that is begun now.
    pub(super) fn encode(&self) -> Vec<u8> {
        debug_assert!(self.version == Version::V2, "no other version is written");
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&2_u32.to_le_bytes());
        header.extend_from_slice(&self.number.to_le_bytes());
        header.extend_from_slice(&self.first.get().to_le_bytes());
        header.extend_from_slice(&self.created_unix_seconds.to_le_bytes());
        header.extend_from_slice(&self.bytes.to_le_bytes());
        header.extend_from_slice(&self.answers_before.to_le_bytes());
        header.resize(HEADER_BYTES - 4, 0);
        seal(&mut header);
        header
    }
}

impl Header {
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Self {
        if bytes.iter().all(|byte| *byte == 0) {
            return Self::Blank;
        }
        let Some(body) = unseal(bytes) else { return Self::Bad("header: CRC does not match") };
        Self::fields(body).unwrap_or(Self::Bad("header: not a segment of a version that is known"))
    }

    fn fields(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let magic: [u8; 8] = fields.array()?;
        let version = match fields.u32()? {
            1 => Version::V1,
            2 => Version::V2,
            _ => return None,
        };
        let number = fields.u32()?;
        let first = Sequence::new(fields.u64()?);
        let created_unix_seconds = fields.u64()?;
        let bytes = fields.u64()?;
        let answers_before = match version {
            Version::V1 => first.get().saturating_sub(1),
            Version::V2 => fields.u64()?,
        };
        let info =
            SegmentInfo { version, number, first, created_unix_seconds, bytes, answers_before };
        (magic == MAGIC).then_some(Self::Used(info))
    }
}

/// A record as found in a segment's bytes.
#[derive(Clone, Copy)]
pub(super) enum Found<'a> {
    Record(Record<'a>),
    /// An empty head, or no room for one more.
    End,
    Bad {
        reason: &'static str,
        /// Bytes that the record takes, as far as its head can be believed: at least the head.
        bytes: usize,
    },
}

/// A whole record.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) sequence: Sequence,
    /// Last sequence that was on disk when it was made. Version 1 does not say: none.
    pub(super) synced: Sequence,
    pub(super) payload: &'a [u8],
    /// Bytes of head and payload.
    pub(super) bytes: usize,
}

/// Puts a record behind what `out` holds. The caller has checked that the length fits 32 bits.
pub(super) fn encode_record(
    out: &mut Vec<u8>,
    segment: u32,
    sequence: Sequence,
    synced: Sequence,
    payload: &[u8],
) {
    debug_assert!(synced < sequence, "what is not made yet is not on disk");
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut head = [0; 24];
    let (number, fields) = head.split_at_mut(4);
    let (size, fields) = fields.split_at_mut(4);
    let (order, durable) = fields.split_at_mut(8);
    number.copy_from_slice(&segment.to_le_bytes());
    size.copy_from_slice(&length.to_le_bytes());
    order.copy_from_slice(&sequence.get().to_le_bytes());
    durable.copy_from_slice(&synced.get().to_le_bytes());
    let crc = crc32c::crc32c(&head);
    out.push(BEGIN);
    out.extend_from_slice(head.get(4..).unwrap_or_default());
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c_append(crc, payload).to_le_bytes());
    out.extend_from_slice(payload);
    out.push(END);
}

/// The record at the front of `bytes`, which reach to the end of the segment.
pub(super) fn decode_record<'a>(bytes: &'a [u8], segment: &SegmentInfo) -> Found<'a> {
    match segment.version {
        Version::V1 => decode_v1(bytes, segment.number),
        Version::V2 => decode_v2(bytes, segment.number),
    }
}

fn decode_v2(bytes: &[u8], segment: u32) -> Found<'_> {
    let Some((head, rest)) = bytes.split_first_chunk::<RECORD_HEAD_BYTES>() else {
        return Found::End;
    };
    if head.first() == Some(&0) {
        return Found::End;
    }
    let Some((length, sequence, synced, crc)) = whole_head(head, segment) else {
        return Found::Bad { reason: "record: CRC of its head does not match", bytes: head.len() };
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let bytes = RECORD_BYTES.saturating_add(length);
    let Some((payload, end)) = rest.split_at_checked(length).filter(|_| length > 0) else {
        return Found::Bad { reason: "record: no record has this length", bytes: head.len() };
    };
    let whole = head.last_chunk().map(|crc| u32::from_le_bytes(*crc));
    let is_ended = end.first() == Some(&END);
    if whole != Some(crc32c::crc32c_append(crc, payload)) || !is_ended {
        return Found::Bad { reason: "record: CRC does not match", bytes };
    }
    Found::Record(Record { sequence, synced, payload, bytes })
}

/// Length, sequence, synced sequence and CRC of a head whose CRC is right.
fn whole_head(
    head: &[u8; RECORD_HEAD_BYTES],
    segment: u32,
) -> Option<(u32, Sequence, Sequence, u32)> {
    let (begin, head) = head.split_first()?;
    let covered = head.first_chunk::<20>().filter(|_| *begin == BEGIN)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&segment.to_le_bytes()), covered);
    let mut fields = Fields(head);
    let length = fields.u32()?;
    let sequence = Sequence::new(fields.u64()?);
    let synced = Sequence::new(fields.u64()?);
    (fields.u32()? == crc).then_some((length, sequence, synced, crc))
}

fn decode_v1(bytes: &[u8], segment: u32) -> Found<'_> {
    let mut fields = Fields(bytes);
    let (Some(length), Some(sequence), Some(crc)) = (fields.u32(), fields.u64(), fields.u32())
    else {
        return Found::End;
    };
    if length == 0 {
        return Found::End;
    }
    let mut covered = crc32c::crc32c(&segment.to_le_bytes());
    covered = crc32c::crc32c_append(covered, &length.to_le_bytes());
    covered = crc32c::crc32c_append(covered, &sequence.to_le_bytes());
    let Some(payload) = usize::try_from(length).ok().and_then(|length| fields.bytes(length)) else {
        return Found::Bad { reason: "record: longer than the segment", bytes: HEAD_BYTES_V1 };
    };
    let bytes = HEAD_BYTES_V1 + payload.len();
    if crc32c::crc32c_append(covered, payload) != crc {
        return Found::Bad { reason: "record: CRC does not match", bytes };
    }
    let (sequence, synced) = (Sequence::new(sequence), Sequence::NONE);
    Found::Record(Record { sequence, synced, payload, bytes })
}

/// The whole records that lie anywhere in `bytes`, which belong to segment `number` of version 2.
pub(super) fn whole_records(bytes: &[u8], number: u32) -> impl Iterator<Item = Record<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            rest = rest.get(rest.iter().position(|byte| *byte == BEGIN)?..)?;
            if let Found::Record(record) = decode_v2(rest, number) {
                rest = rest.get(record.bytes..)?;
                return Some(record);
            }
            rest = rest.get(1..)?;
        }
    })
}

/// An open segment file, ready to be written.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) bytes: u64,
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl Segment {
    /// Opens segment `number` for reading and writing.
    pub(super) fn open(directory: &Path, number: u32) -> io::Result<Self> {
        Self::open_at(&segment_path(directory, number), number)
    }

    fn open_at(path: &Path, number: u32) -> io::Result<Self> {
        Self::of(path, number, open_regular_to_write(path)?)
    }

    /// Opens it where nothing is to be written: a copy may lie where nothing can be.
    pub(super) fn open_to_read(path: &Path, number: u32) -> io::Result<Self> {
        Self::of(path, number, open_regular(path)?)
    }

    fn of(path: &Path, number: u32, file: File) -> io::Result<Self> {
        Ok(Self { number, bytes: file.metadata()?.len(), path: path.to_owned(), file })
    }

    /// A new file of `bytes` zeros; name and content are durable on return. A `header` other
    /// than empty is written over its front.
    pub(super) fn create(
        directory: &Path,
        number: u32,
        bytes: u64,
        header: &[u8],
    ) -> io::Result<Self> {
        let draft = directory.join(format!("{number:010}.new"));
        let made = Self::fill(&draft, bytes, header)
            .and_then(|()| fs::rename(&draft, segment_path(directory, number)));
        if let Err(error) = made {
            // A full disk must get its space back; a draft that stays is removed at next open.
            let _ = fs::remove_file(&draft);
            return Err(error);
        }
        sync_directory(directory)?;
        Self::open(directory, number)
    }

    fn fill(draft: &Path, bytes: u64, header: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(draft)?;
        write_zeros(&file, 0, bytes)?;
        file.write_all_at(header, 0)?;
        file.sync_data()
    }

    /// Makes the retired file `spare` segment `number`, full of zeros: its blocks are allocated,
    /// so that this works on a full disk too.
    pub(super) fn recycle(spare: &Path, directory: &Path, number: u32) -> io::Result<Self> {
        let file = open_regular_to_write(spare)?;
        write_zeros(&file, 0, file.metadata()?.len())?;
        fs::rename(spare, segment_path(directory, number))?;
        sync_directory(directory)?;
        Self::open(directory, number)
    }

    pub(super) fn read_header(&self) -> io::Result<Header> {
        let mut bytes = [0; HEADER_BYTES];
        if self.bytes < HEADER_BYTES as u64 {
            return Ok(Header::Bad("file is shorter than its header"));
        }
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(Header::decode(&bytes))
    }
}

/// The file of segment `number`.
pub(super) fn segment_path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number:010}.journal"))
}

/// The file that keeps retired segment `number` for recycling.
pub(super) fn spare_path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number:010}.spare"))
}

/// The segment number in a file name that ends in `suffix` (`.journal`, `.spare`, `.new`).
pub(super) fn number_in_name(name: &str, suffix: &str) -> Option<u32> {
    numbered(name, "", NUMBER_DIGITS, suffix).and_then(|number| u32::try_from(number).ok())
}
