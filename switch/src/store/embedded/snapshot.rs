//! Snapshots: the whole state at one time, so that recovery need not read the journal from its
//! first record.
//!
//! A file `snapshot-NNNNNNNNNNNNNNNNNNNN.snap`, named by `from`: the state holds all records
//! before `from`, and may hold some of those up to `through`; recovery reads the journal from
//! `from` on. Little-endian; CRC is CRC-32C.
//!
//! Header, 24 bytes:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `pinssnap` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 8 | `from`, which is also the snapshot's id |
//! | 20 | 4 | CRC over bytes 0-19 |
//!
//! Records follow without padding:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | length of the payload, 1 or more |
//! | 4 | 4 | CRC over id (8 bytes), index of the record from 0 (8), length (4), payload |
//! | 8 | length | payload |
//!
//! Footer, 32 bytes, the last of the file:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | zero, where a record has its length |
//! | 4 | 8 | number of records |
//! | 12 | 8 | `from` |
//! | 20 | 8 | `through` |
//! | 28 | 4 | CRC over bytes 0-27 |
//!
//! Written under a temporary name (`.snap.new`), synced, then renamed: a name that ends in
//! `.snap` was once a whole file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::files::{make_directory, numbered, seal, sync_directory};
use super::types::{Damaged, Failed, Sequence};

/// Longest payload of a snapshot's record, in bytes.
pub const SNAPSHOT_PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// Snapshots kept: the newest, and one to fall back to.
pub const SNAPSHOTS_KEPT: usize = 2;

pub(super) const MAGIC: [u8; 8] = *b"pinssnap";
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 24;
pub(super) const FOOTER_BYTES: usize = 32;
const BUFFER_BYTES: usize = 1 << 20;
/// A snapshot is synced in pieces of this size, so that the syncs of the journal never queue behind
/// one large write-back.
const PIECE_BYTES: usize = 4 << 20;

/// Which records a snapshot stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Replay begins with this record; all before it are in the snapshot.
    pub from: Sequence,
    /// No record after this one is in the snapshot.
    pub through: Sequence,
}

impl SnapshotInfo {
    /// A snapshot may hold what the journal has lost only if the journal is damaged: refuses when
    /// the journal in `directory` ends before `through`.
    ///
    /// # Errors
    /// Names the journal's directory, and its last record as the place.
    pub fn check_journal(&self, directory: &Path, last: Sequence) -> Result<(), Damaged> {
        if last >= self.through {
            return Ok(());
        }
        let (through, last) = (self.through.get(), last.get());
        let reason = format!(
            "the journal ends at record {last}, before record {through} of the newest snapshot"
        );
        Err(Damaged::new(directory, 0, reason))
    }
}

/// A finished snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The snapshot.
    pub info: SnapshotInfo,
    /// `from` of the oldest snapshot kept: the journal is needed from there on.
    pub oldest_from: Sequence,
}

/// Writes one snapshot. Dropped without [`Self::finish`], it leaves nothing.
pub struct SnapshotWriter {
    directory: PathBuf,
    draft: PathBuf,
    file: BufWriter<File>,
    from: Sequence,
    records: u64,
    unsynced_bytes: usize,
}

impl SnapshotWriter {
    /// Begins the snapshot that replay follows from `from` on, and makes `directory` if needed.
    ///
    /// # Errors
    /// The file cannot be made or written.
    pub fn create(directory: &Path, from: Sequence) -> Result<Self, Failed> {
        let draft = directory.join(format!("{}.new", file_name(from)));
        let failed = |error| Failed::new(&draft, error);
        make_directory(directory).map_err(failed)?;
        let file = File::create(&draft).map_err(failed)?;
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, file);
        file.write_all(&header(from)).map_err(failed)?;
        let directory = directory.to_owned();
        Ok(Self { directory, draft, file, from, records: 0, unsynced_bytes: 0 })
    }

    /// Adds a record of 1 to [`SNAPSHOT_PAYLOAD_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// Length, or the file cannot be written; the snapshot is then of no use.
    pub fn push(&mut self, payload: &[u8]) -> Result<(), Failed> {
        if payload.is_empty() || payload.len() > SNAPSHOT_PAYLOAD_BYTES_MAX {
            let cause = format!("a snapshot's record of {} bytes", payload.len());
            return Err(Failed::new(&self.draft, cause));
        }
        self.write(payload).map_err(|error| Failed::new(&self.draft, error))?;
        self.records += 1;
        Ok(())
    }

    fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let crc = record_crc(self.from, self.records, length, payload);
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(&crc.to_le_bytes())?;
        self.file.write_all(payload)?;
        self.unsynced_bytes += payload.len();
        if self.unsynced_bytes >= PIECE_BYTES {
            self.unsynced_bytes = 0;
            self.file.flush()?;
            self.file.get_ref().sync_data()?;
        }
        Ok(())
    }

    /// Makes the snapshot durable under its name and removes all but the two newest. The journal
    /// must be synced through `through` before.
    ///
    /// # Errors
    /// The snapshot may then be there or not; the older ones are.
    pub fn finish(mut self, through: Sequence) -> Result<Finished, Failed> {
        let info = SnapshotInfo { from: self.from, through };
        let finished = self.settle(info);
        finished.map_err(|error| Failed::new(&self.draft, error))?;
        let oldest_from = remove_old(&self.directory)?.unwrap_or(self.from);
        Ok(Finished { info, oldest_from })
    }

    fn settle(&mut self, info: SnapshotInfo) -> io::Result<()> {
        self.file.write_all(&footer(self.records, info))?;
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.draft, self.directory.join(file_name(self.from)))?;
        sync_directory(&self.directory)
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        // After `finish` there is no such name any more; a draft that stays is removed at start.
        let _ = fs::remove_file(&self.draft);
    }
}

fn header(from: Sequence) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&from.get().to_le_bytes());
    seal(&mut header);
    header
}

fn footer(records: u64, info: SnapshotInfo) -> Vec<u8> {
    let mut footer = vec![0; 4];
    footer.extend_from_slice(&records.to_le_bytes());
    footer.extend_from_slice(&info.from.get().to_le_bytes());
    footer.extend_from_slice(&info.through.get().to_le_bytes());
    seal(&mut footer);
    footer
}

pub(super) fn record_crc(id: Sequence, index: u64, length: u32, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&id.get().to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &index.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &length.to_le_bytes());
    crc32c::crc32c_append(crc, payload)
}

fn file_name(from: Sequence) -> String {
    format!("snapshot-{:020}.snap", from.get())
}

/// `from` and path of all snapshots in `directory`, the oldest first. None when it is missing.
pub(super) fn snapshots(directory: &Path) -> Result<Vec<(Sequence, PathBuf)>, Failed> {
    let mut found = Vec::new();
    for path in entries(directory)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(from) = numbered(name, "snapshot-", 20, ".snap") {
            found.push((Sequence::new(from), path));
        }
    }
    found.sort();
    Ok(found)
}

/// Paths of all files in `directory`, none when it is missing.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, Failed> {
    let listed = match fs::read_dir(directory) {
        Ok(listed) => listed.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    listed.map_err(|error| Failed::new(directory, error))
}

/// Removes all but the newest; returns `from` of the oldest left.
fn remove_old(directory: &Path) -> Result<Option<Sequence>, Failed> {
    let found = snapshots(directory)?;
    let kept = found.len().saturating_sub(SNAPSHOTS_KEPT);
    for (_, path) in found.iter().take(kept) {
        fs::remove_file(path).map_err(|error| Failed::new(path, error))?;
    }
    Ok(found.get(kept).map(|(from, _)| *from))
}
