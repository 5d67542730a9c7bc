//! Copies of a data directory that a start can use: journal, snapshots and keys, and a mark that
//! says what it is. A copy is there whole, under its name, or not at all.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use super::blocks;
use super::files::{create_private, lock, sync_directory};
use super::in_use::Lock;
use super::journal::Journal;
use super::scan;
use super::segment::{RECORD_BYTES, SegmentInfo, segment_path};
use super::snapshot::snapshots;
use super::snapshots::wait_for;
use super::tail_mark::{TailMark, mark_path};
use super::types::{Failed, OpenError, Sequence};
use super::{Shared, failed};
use crate::clock::Timestamp;
use crate::place::open_regular;
use crate::store::StoreError;

/// The file that marks a data directory as a copy of another one.
#[must_use]
pub fn mark_of_backup(data_dir: &Path) -> PathBuf {
    data_dir.join("backup")
}

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The last record in it.
    pub record: u64,
    /// When it was made.
    pub time: Timestamp,
    /// Bytes of its files.
    pub bytes: u64,
}

impl fmt::Display for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Backup { record, time, bytes } = self;
        write!(f, "through record {record}, at {time}, {bytes} bytes")
    }
}

/// A copy being made, under another name until it is whole.
struct Draft<'a> {
    to: &'a Path,
    draft: PathBuf,
    bytes: u64,
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // After `finish` there is no such directory any more.
        let _ = fs::remove_dir_all(&self.draft);
    }
}

impl<'a> Draft<'a> {
    fn begin(to: &'a Path, data_dir: &Path) -> Result<Draft<'a>, Failed> {
        let refused = |why: &str| Failed::new(to, why);
        if to.symlink_metadata().is_ok() {
            return Err(refused("a backup makes a new directory, and this is there already"));
        }
        let name = to.file_name().ok_or_else(|| refused("it names no directory"))?;
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = fs::canonicalize(parent.unwrap_or(Path::new(".")));
        let parent = parent.map_err(|error| Failed::new(to, error))?;
        if fs::canonicalize(data_dir).is_ok_and(|data_dir| parent.starts_with(data_dir)) {
            return Err(refused("it lies in the data directory itself"));
        }
        let mut draft_name = name.to_os_string();
        draft_name.push(".new");
        let draft = to.with_file_name(draft_name);
        if draft.symlink_metadata().is_ok() {
            let draft = draft.display();
            let why = format!("another one goes on, or did not end: then remove {draft}");
            return Err(refused(&why));
        }
        make(&draft)?;
        let made = Draft { to, draft, bytes: 0 };
        for directory in ["journal", "snapshots", "keys"] {
            make(&made.draft.join(directory))?;
        }
        Ok(made)
    }

    /// Copies the first `length` bytes of a file, or all; the rest of it is zeros.
    fn copy(&mut self, from: &Path, into: &str, length: u64) -> Result<(), Failed> {
        let name = from.file_name().ok_or_else(|| Failed::new(from, "it has no name"))?;
        let to = self.draft.join(into).join(name);
        let copy = || -> io::Result<u64> {
            // Its size is that of what was opened: a file may be replaced by another one.
            let opened = open_regular(from)?;
            let size = opened.metadata()?.len();
            let mut file = create_private(&to)?;
            io::copy(&mut opened.take(length), &mut file)?;
            file.set_len(size)?;
            file.sync_all()?;
            Ok(size)
        };
        self.bytes += copy().map_err(|error| Failed::new(from, error))?;
        Ok(())
    }

    fn copy_whole(&mut self, from: &Path, into: &str) -> Result<(), Failed> {
        self.copy(from, into, u64::MAX)
    }

    /// The key blocks.
    fn copy_keys(&mut self, data_dir: &Path) -> Result<(), Failed> {
        let keys = data_dir.join("keys");
        for path in super::snapshot::entries(&keys)? {
            if path.extension().is_some_and(|end| end == "key") {
                self.copy_whole(&path, "keys")?;
            }
        }
        Ok(())
    }

    fn copy_snapshots(&mut self, data_dir: &Path) -> Result<(), Failed> {
        for (_, path) in snapshots(&data_dir.join("snapshots"))? {
            self.copy_whole(&path, "snapshots")?;
        }
        Ok(())
    }

    fn finish(self, record: Sequence, time: Timestamp) -> Result<Backup, Failed> {
        let mark = mark_of_backup(&self.draft);
        let record = record.get();
        let text = format!("A backup by pinswitch.\nrecord {record}\ntime {time}\n");
        let write = || -> io::Result<()> {
            let mut file = create_private(&mark)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            for directory in ["journal", "snapshots", "keys"] {
                sync_directory(&self.draft.join(directory))?;
            }
            sync_directory(&self.draft)?;
            fs::rename(&self.draft, self.to)?;
            let parent = self.to.parent().filter(|parent| !parent.as_os_str().is_empty());
            sync_directory(parent.unwrap_or(Path::new(".")))
        };
        write().map_err(|error| Failed::new(self.to, error))?;
        Ok(Backup { record, time, bytes: self.bytes })
    }
}

fn make(directory: &Path) -> Result<(), Failed> {
    DirBuilder::new().mode(0o700).create(directory).map_err(|error| Failed::new(directory, error))
}

impl Shared {
    /// Copies all that a start needs into a new directory, while the switch runs: everything up to
    /// the newest record of now, and nothing of what comes later. It takes as long as the disks do;
    /// meanwhile no snapshot is taken and no old segment goes.
    ///
    /// # Errors
    /// If a file cannot be read or written, or the directory is there. The store itself goes on.
    pub(super) fn backup(&self, to: &Path) -> Result<Backup, StoreError> {
        self.copy_to(to).map_err(|error| match self.journal.flush() {
            Ok(()) => StoreError::Unavailable(error.to_string()),
            Err(of_journal) => failed(of_journal),
        })
    }

    fn copy_to(&self, to: &Path) -> Result<Backup, Failed> {
        self.begin_copy(to)?.complete()
    }

    /// Copies keys and snapshots, and fixes where the copy ends.
    pub(super) fn begin_copy<'a>(&'a self, to: &'a Path) -> Result<Copying<'a>, Failed> {
        let journal = &self.journal;
        let data_dir = journal.directory().parent().unwrap_or(Path::new("."));
        let mut draft = Draft::begin(to, data_dir)?;
        let snapshots = lock(&self.taking_snapshot);
        let segments = journal.hold_segments();
        draft.copy_snapshots(data_dir)?;
        let last = journal.appended_through();
        // At once: cards of the copy may need a version that is retired while segments are copied,
        // and one that its last records are made with is on disk before it comes into use.
        draft.copy_keys(data_dir)?;
        wait_for(self, last)?;
        let time = self.clock.now();
        Ok(Copying { draft, journal, last, time, _held: (snapshots, segments) })
    }
}

/// A copy whose end is fixed: what belongs to it stays where it is until it is done.
pub(super) struct Copying<'a> {
    draft: Draft<'a>,
    journal: &'a Journal,
    last: Sequence,
    time: Timestamp,
    _held: (MutexGuard<'a, ()>, MutexGuard<'a, ()>),
}

impl Copying<'_> {
    /// Copies the segments up to the end.
    pub(super) fn complete(self) -> Result<Backup, Failed> {
        let Copying { mut draft, journal, last, time, _held } = self;
        let segments: Vec<SegmentInfo> =
            journal.segments().into_iter().filter(|info| info.first <= last.next()).collect();
        for (index, info) in segments.iter().enumerate() {
            let is_newest = index + 1 == segments.len();
            let length = if is_newest { end_of(journal, info, last)? } else { info.bytes };
            let path = segment_path(journal.directory(), info.number);
            draft.copy(&path, "journal", length)?;
            // After each: what was copied until then was nobody else's.
            journal.check_open()?;
        }
        let oldest = segments.first().map_or(1, |info| info.number);
        let mark = draft.draft.join("journal");
        TailMark::write_copy(&mark, last, oldest).map_err(|error| Failed::new(&mark, error))?;
        draft.finish(last, time)
    }
}

/// Where a record ends in its segment.
fn end_of(journal: &Journal, info: &SegmentInfo, last: Sequence) -> Result<u64, Failed> {
    let mut end = super::segment::HEADER_BYTES as u64;
    for block in 0..blocks::count(info) {
        let read = journal.read_block(info, block, &mut |sequence, position, payload| {
            if sequence > last {
                return ControlFlow::Break(());
            }
            end = u64::from(position.offset) + (RECORD_BYTES + payload.len()) as u64;
            if sequence == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if read?.is_break() {
            break;
        }
    }
    Ok(end)
}

/// Copies the data directory of a switch that does not run, as it is.
///
/// # Errors
/// If it is in use, a file cannot be read or written, or the directory is there.
pub fn backup_of_stopped(data_dir: &Path, to: &Path, time: Timestamp) -> Result<Backup, OpenError> {
    let journal = data_dir.join("journal");
    let _lock = Lock::take(data_dir)?;
    let Some((mark, _)) = TailMark::look(&journal)? else {
        return Err(OpenError::Absent(journal.display().to_string()));
    };
    let mut draft = Draft::begin(to, data_dir)?;
    draft.copy_keys(data_dir)?;
    draft.copy_snapshots(data_dir)?;
    let listing = scan::list(&journal)?;
    for number in listing.segments.range(mark.oldest..) {
        draft.copy_whole(&segment_path(&journal, *number), "journal")?;
    }
    draft.copy_whole(&mark_path(&journal), "journal")?;
    Ok(draft.finish(mark.synced, time)?)
}
