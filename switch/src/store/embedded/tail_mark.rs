//! The tail mark: how far the journal was synced, and which segment is its oldest.
//!
//! File `tail`, 8192 bytes: two slots at offsets 0 and 4096, written in turn, so that a write cut
//! short spoils at most one. Little-endian.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `pinsmark` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | number of the oldest segment that must be there |
//! | 16 | 8 | counter of writes; the slot with the higher one is valid |
//! | 24 | 8 | last synced sequence, 0 for none |
//! | 32 | 4 | CRC-32C over bytes 0-31 |
//!
//! Written after each sync and before its waiters are woken, so that no answered record lies
//! beyond it after a `kill -9`. Synced itself before anybody is answered for a record of a new
//! segment, once a second, at creation, at open, before segments are removed, and at close: after a
//! power failure it may be a second older than the journal, and is never newer.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{Fields, create_private, seal, sync_directory, unseal};
use super::types::{Damaged, Failed, OpenError, Sequence};
use crate::place::{open_regular, open_regular_to_write};

const MAGIC: [u8; 8] = *b"pinsmark";
const VERSION: u32 = 1;
const SLOT_BYTES: usize = 36;
const PAGE_BYTES: u64 = 4096;
const FILE_BYTES: u64 = 2 * PAGE_BYTES;

/// What one slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) synced: Sequence,
    pub(super) oldest: u32,
    counter: u64,
}

/// The open file, locked against other processes.
#[derive(Debug)]
pub(super) struct TailMark {
    pub(super) path: PathBuf,
    pub(super) mark: Mark,
    pub(super) file: Arc<File>,
}

/// The mark, and the slot that was damaged while the other was good.
pub(super) type Loaded = (TailMark, Option<Damaged>);

impl TailMark {
    /// Makes the mark of an empty journal, durable on return.
    pub(super) fn create(directory: &Path) -> Result<Self, OpenError> {
        let path = mark_path(directory);
        let mark = Mark { synced: Sequence::NONE, oldest: 1, counter: 0 };
        Self::write_new(directory, mark).map_err(|error| Failed::new(&path, error))?;
        let file = open_locked(&path)?.ok_or_else(|| Failed::new(&path, "vanished"))?;
        Ok(Self { path, mark, file: Arc::new(file) })
    }

    /// Makes the mark of a copied journal, durable on return.
    pub(super) fn write_copy(directory: &Path, synced: Sequence, oldest: u32) -> io::Result<()> {
        Self::write_new(directory, Mark { synced, oldest, counter: 0 })
    }

    fn write_new(directory: &Path, mark: Mark) -> io::Result<()> {
        let draft = directory.join("tail.new");
        let file = create_private(&draft)?;
        file.set_len(FILE_BYTES)?;
        file.write_all_at(&mark.encode(), 0)?;
        file.write_all_at(&mark.encode(), PAGE_BYTES)?;
        file.sync_all()?;
        fs::rename(&draft, mark_path(directory))?;
        sync_directory(directory)
    }

    /// Opens and locks the mark; `None` when the file is missing.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] when it has the wrong size or no good slot, [`OpenError::InUse`].
    pub(super) fn open(directory: &Path) -> Result<Option<Loaded>, OpenError> {
        let path = mark_path(directory);
        let Some(file) = open_locked(&path)? else { return Ok(None) };
        let (mark, damaged) = Mark::read(&path, &file)?;
        Ok(Some((Self { path, mark, file: Arc::new(file) }, damaged)))
    }

    /// What the mark says, for who writes nothing; `None` when the file is missing.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] when it has the wrong size or no good slot.
    pub(super) fn look(directory: &Path) -> Result<Option<(Mark, Option<Damaged>)>, OpenError> {
        let path = mark_path(directory);
        match open_regular(&path) {
            Ok(file) => Mark::read(&path, &file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failed::new(&path, error).into()),
        }
    }

    /// Writes the slot whose turn it is.
    pub(super) fn write(&mut self, synced: Sequence) -> io::Result<()> {
        self.mark.synced = synced;
        self.mark.counter += 1;
        self.file.write_all_at(&self.mark.encode(), self.mark.counter % 2 * PAGE_BYTES)
    }

    /// Writes both slots and returns the file to sync, once no lock is held.
    pub(super) fn write_both(&mut self, synced: Sequence, oldest: u32) -> io::Result<Arc<File>> {
        self.mark.oldest = oldest;
        self.write(synced)?;
        self.write(synced)?;
        Ok(Arc::clone(&self.file))
    }

    /// Makes both slots durable and gives up the lock.
    pub(super) fn close(&mut self, synced: Sequence) -> io::Result<()> {
        self.write_both(synced, self.mark.oldest)?.sync_all()?;
        self.file.unlock()
    }
}

impl Mark {
    /// The valid slot, and the one that is damaged.
    fn read(path: &Path, file: &File) -> Result<(Mark, Option<Damaged>), OpenError> {
        let size = file.metadata().map_err(|error| Failed::new(path, error))?.len();
        if size != FILE_BYTES {
            let reason = format!("tail mark: the file has {size} bytes, not {FILE_BYTES}");
            return Err(Damaged::new(path, size.min(FILE_BYTES), reason).into());
        }
        let first = read_slot(file, 0).map_err(|error| Failed::new(path, error))?;
        let second = read_slot(file, PAGE_BYTES).map_err(|error| Failed::new(path, error))?;
        let bad = |offset| Damaged::new(path, offset, "tail mark: slot is damaged");
        match (first, second) {
            (Some(a), Some(b)) if a.counter > b.counter => Ok((a, None)),
            (Some(_), Some(b)) => Ok((b, None)),
            (Some(a), None) => Ok((a, Some(bad(PAGE_BYTES)))),
            (None, Some(b)) => Ok((b, Some(bad(0)))),
            (None, None) => Err(bad(0).into()),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.extend_from_slice(&MAGIC);
        slot.extend_from_slice(&VERSION.to_le_bytes());
        slot.extend_from_slice(&self.oldest.to_le_bytes());
        slot.extend_from_slice(&self.counter.to_le_bytes());
        slot.extend_from_slice(&self.synced.get().to_le_bytes());
        seal(&mut slot);
        slot
    }

    fn decode(slot: &[u8]) -> Option<Self> {
        let mut fields = Fields(unseal(slot)?);
        let known = fields.array()? == MAGIC && fields.u32()? == VERSION;
        let oldest = fields.u32()?;
        let counter = fields.u64()?;
        let synced = Sequence::new(fields.u64()?);
        known.then_some(Self { synced, oldest, counter })
    }
}

fn read_slot(file: &File, offset: u64) -> io::Result<Option<Mark>> {
    let mut slot = [0; SLOT_BYTES];
    file.read_exact_at(&mut slot, offset)?;
    Ok(Mark::decode(&slot))
}

pub(super) fn mark_path(directory: &Path) -> PathBuf {
    directory.join("tail")
}

fn open_locked(path: &Path) -> Result<Option<File>, OpenError> {
    let file = match open_regular_to_write(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failed::new(path, error).into()),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.display().to_string())),
        Err(TryLockError::Error(error)) => Err(Failed::new(path, error).into()),
    }
}
