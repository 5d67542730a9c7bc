//! Names for places in the journal, and the ways in which it can fail.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;

/// Number of a record: the first is 1, each next is one more, without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(u64);

impl Sequence {
    /// Before the first record: what an empty journal has synced.
    pub const NONE: Self = Self(0);
    /// The first record of a journal.
    pub const FIRST: Self = Self(1);

    /// The sequence with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sequence of the record after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Where a record lies: the segment's number and the byte offset in its file. 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Number of the segment, from 1.
    pub segment: u32,
    /// Offset of the record's first byte in the segment's file.
    pub offset: u32,
}

impl Position {
    /// The segment in the upper 32 bits, the offset in the lower.
    pub const fn to_u64(self) -> u64 {
        (self.segment as u64) << 32 | self.offset as u64
    }

    /// The reverse of [`Self::to_u64`].
    pub const fn from_u64(packed: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = packed.to_be_bytes();
        Self { segment: u32::from_be_bytes([a, b, c, d]), offset: u32::from_be_bytes([e, f, g, h]) }
    }
}

/// A write, a sync or a preparation failed. For the journal this is final: after it every call
/// fails with the same error, because what the disk holds is no longer known.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{file}: {cause}")]
pub struct Failed {
    /// The file or directory.
    pub file: Arc<str>,
    /// What happened.
    pub cause: Arc<str>,
}

impl Failed {
    /// A failure of `file`.
    #[allow(clippy::needless_pass_by_value, reason = "`map_err` hands the error over")]
    pub fn new(file: &Path, cause: impl ToString) -> Self {
        Self { file: file.display().to_string().into(), cause: cause.to_string().into() }
    }
}

/// Something that was on disk for certain is missing or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} at offset {offset}: {reason}")]
pub struct Damaged {
    /// The file.
    pub file: String,
    /// Byte offset in the file of what cannot be read.
    pub offset: u64,
    /// What is wrong there.
    pub reason: String,
}

impl Damaged {
    /// Damage of `file` at `offset`.
    pub fn new(file: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self { file: file.display().to_string(), offset, reason: reason.into() }
    }
}

/// Why a journal does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Records that must be there are missing or damaged, or the visitor refused one.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// The operating system refused a file.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// There is no journal and `create_new` is not set: a lost directory never becomes a silent
    /// empty start.
    #[error("{0}: no journal here, and creating one was not asked for")]
    Absent(String),
    /// `create_new` is set and there is a journal.
    #[error("{0}: creating a new journal was asked for, but one is here")]
    NotEmpty(String),
    /// Another process has the journal open.
    #[error("{0}: in use by another process")]
    InUse(String),
    /// An option is out of its limits.
    #[error("journal option {0}")]
    Option(&'static str),
}

/// Why a record was not appended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// Empty or too long; the journal itself is well.
    #[error("a payload of {bytes} bytes: 1 to {max} are allowed")]
    Length {
        /// Bytes of the payload.
        bytes: usize,
        /// `payload_bytes_max`.
        max: usize,
    },
    /// The journal failed, or is closed.
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// Why a record cannot be read back.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// Its segment was retired.
    #[error("the segment of this record was retired")]
    Retired,
    /// No valid record lies at this position.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// The journal failed, or its file could not be read.
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// What the journal's own threads report.
#[derive(Clone, Debug)]
pub enum JournalReport {
    /// Records became durable.
    Synced {
        /// Time spent in `fdatasync`, over all files of this round.
        took: Duration,
        /// Files synced: 1, or more when the records cross segments.
        files: usize,
        /// Records that became durable.
        records: u64,
        /// Waiters woken.
        waiters: usize,
    },
    /// The next segment could not be prepared. Tried again after seconds, then less often, once a
    /// minute in the end; final only when the segment is needed.
    PrepareFailed(Failed),
    /// Old segments were removed or kept as spares.
    Retired {
        /// How many.
        segments: usize,
        /// Number of the oldest segment left.
        oldest: u32,
        /// What a reader had not read of them.
        unread: u64,
        /// The slowest of the readers, if there is such.
        reader: Option<CompactString>,
    },
    /// Removing old segments failed; the next request tries again.
    RetireFailed(Failed),
}
