//! One file of the journal, and the format of what it holds.
//!
//! A segment is a file `NNNNNNNNNN.journal` (its number, decimal, from 0000000001) of fixed size,
//! written full of zeros and synced before its first use, so that a later `fdatasync` writes data
//! only. All numbers are little-endian. CRC is CRC-32C (Castagnoli).
//!
//! Header, 64 bytes at offset 0, written together with the segment's first record:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `pinsjrnl` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | segment number, as in the file's name |
//! | 16 | 8 | sequence of the first record |
//! | 24 | 8 | creation, seconds since 1970 |
//! | 32 | 8 | size of the file in bytes |
//! | 40 | 20 | zero |
//! | 60 | 4 | CRC over bytes 0-59 |
//!
//! A header of 64 zero bytes: prepared, not used yet.
//!
//! Records follow from offset 64 without padding. None spans two segments.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | length of the payload, 1 or more |
//! | 4 | 8 | sequence |
//! | 12 | 4 | CRC over segment number (4 bytes), length (4), sequence (8), payload |
//! | 16 | length | payload |
//!
//! A length of zero, or less than 16 bytes left in the file: the segment ends here. Every write
//! puts 16 zero bytes behind its last record (as far as the file goes), because a recycled
//! segment still holds records of its former life; the number in the CRC keeps such a record from
//! ever passing for a new one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::files::{Fields, numbered, seal, sync_directory, unseal, write_zeros};
use super::types::Sequence;

/// Bytes of a segment's header.
pub const HEADER_BYTES: usize = 64;
/// Bytes before a record's payload.
pub const RECORD_HEAD_BYTES: usize = 16;
/// What is written behind the last record.
pub(super) const END: [u8; RECORD_HEAD_BYTES] = [0; RECORD_HEAD_BYTES];

const MAGIC: [u8; 8] = *b"pinsjrnl";
const VERSION: u32 = 1;
const NUMBER_DIGITS: usize = 10;

/// What a segment's header says; enough to decide whether a segment is still needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number, from 1.
    pub number: u32,
    /// Sequence of its first record.
    pub first: Sequence,
    /// When it got its first record, in seconds since 1970.
    pub created_unix_seconds: u64,
    /// Size of the file.
    pub bytes: u64,
}

/// A header as found on disk.
pub(super) enum Header {
    Used(SegmentInfo),
    /// All zero: prepared and not used.
    Blank,
    Bad(&'static str),
}

impl SegmentInfo {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&self.number.to_le_bytes());
        header.extend_from_slice(&self.first.get().to_le_bytes());
        header.extend_from_slice(&self.created_unix_seconds.to_le_bytes());
        header.extend_from_slice(&self.bytes.to_le_bytes());
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
        Self::fields(body).unwrap_or(Self::Bad("header: not a segment of this version"))
    }

    fn fields(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let known = fields.array()? == MAGIC && fields.u32()? == VERSION;
        let info = SegmentInfo {
            number: fields.u32()?,
            first: Sequence::new(fields.u64()?),
            created_unix_seconds: fields.u64()?,
            bytes: fields.u64()?,
        };
        known.then_some(Self::Used(info))
    }
}

/// A record as found in a segment's bytes.
pub(super) enum Found<'a> {
    Record {
        sequence: Sequence,
        payload: &'a [u8],
    },
    /// Zero length, or no room for one more head.
    End,
    Bad(&'static str),
}

/// Puts a record behind what `out` holds. The caller has checked that the length fits 32 bits.
pub(super) fn encode_record(out: &mut Vec<u8>, segment: u32, sequence: Sequence, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&sequence.get().to_le_bytes());
    out.extend_from_slice(&record_crc(segment, length, sequence, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// The record at the front of `bytes`, which reach to the end of the segment.
pub(super) fn decode_record(bytes: &[u8], segment: u32) -> Found<'_> {
    let mut fields = Fields(bytes);
    let (Some(length), Some(sequence), Some(crc)) = (fields.u32(), fields.u64(), fields.u32())
    else {
        return Found::End;
    };
    if length == 0 {
        return Found::End;
    }
    let sequence = Sequence::new(sequence);
    let payload = usize::try_from(length).ok().and_then(|length| fields.bytes(length));
    match payload {
        None => Found::Bad("record: longer than the segment"),
        Some(payload) if record_crc(segment, length, sequence, payload) != crc => {
            Found::Bad("record: CRC does not match")
        }
        Some(payload) => Found::Record { sequence, payload },
    }
}

fn record_crc(segment: u32, length: u32, sequence: Sequence, payload: &[u8]) -> u32 {
    let mut head = [0; 16];
    let (number, rest) = head.split_at_mut(4);
    let (size, order) = rest.split_at_mut(4);
    number.copy_from_slice(&segment.to_le_bytes());
    size.copy_from_slice(&length.to_le_bytes());
    order.copy_from_slice(&sequence.get().to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&head), payload)
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
        let path = segment_path(directory, number);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(Self { number, bytes: file.metadata()?.len(), path, file })
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

    /// Makes the retired file `spare` segment `number`: only its header becomes zero.
    pub(super) fn recycle(spare: &Path, directory: &Path, number: u32) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(spare)?;
        file.write_all_at(&[0; HEADER_BYTES], 0)?;
        file.sync_data()?;
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
