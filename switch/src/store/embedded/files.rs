//! What the files of the store share: directories, zeros, checksums, locks.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

pub(super) use crate::place::sync_directory;

const CHUNK_BYTES: usize = 1 << 20;

/// Locks, also after a panic of another holder: a thread that ends by panic makes the journal
/// fail (see `sync`), so nothing is done on a half-changed value.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the system is short of something that other processes, or other parts of this one, give
/// back: file descriptors or memory.
pub(super) fn is_passing(error: &io::Error) -> bool {
    let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

/// Writes zeros over `from..to`, durable on return. Synced in pieces, so that the syncs of the
/// running segment never queue behind one large write-back.
pub(super) fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; CHUNK_BYTES];
    let mut at = from;
    while at < to {
        let piece = piece(&zeros, to - at);
        file.write_all_at(piece, at)?;
        file.sync_data()?;
        at += piece.len() as u64;
    }
    file.sync_all()
}

/// Makes `from..to` zero where it is not, durable on return. Returns how many bytes, counted
/// from `from` to the last that was not zero, had to go.
pub(super) fn clear(file: &File, from: u64, to: u64) -> io::Result<u64> {
    let zeros = vec![0; CHUNK_BYTES];
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut at, mut cleared) = (from, 0);
    while at < to {
        let length = piece(&zeros, to - at).len();
        let (read, blank) = (buffer.get_mut(..length), zeros.get(..length));
        let (Some(read), Some(blank)) = (read, blank) else { break };
        file.read_exact_at(read, at)?;
        let is_not_zero = |byte: &u8| *byte != 0;
        if read != blank
            && let Some(first) = read.iter().position(is_not_zero)
            && let Some(last) = read.iter().rposition(is_not_zero)
        {
            // And not a byte before it: its sector may hold what somebody was answered for.
            let zeros = blank.get(first..=last).unwrap_or(blank);
            file.write_all_at(zeros, at + first as u64)?;
            cleared = at + last as u64 + 1 - from;
        }
        at += length as u64;
    }
    if cleared > 0 {
        file.sync_data()?;
    }
    Ok(cleared)
}

fn piece(chunk: &[u8], left: u64) -> &[u8] {
    let length = usize::try_from(left).unwrap_or(usize::MAX);
    chunk.get(..length).unwrap_or(chunk)
}

/// A new, empty file that nobody else reads, in the place of an older one.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Reads fixed fields, little-endian, from the front of a slice.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }
}

/// Appends the CRC-32C of all that `bytes` holds.
pub(super) fn seal(bytes: &mut Vec<u8>) {
    let crc = crc32c::crc32c(bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
}

/// What [`seal`] sealed, without the CRC; `None` when it does not match.
pub(super) fn unseal(bytes: &[u8]) -> Option<&[u8]> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    (crc32c::crc32c(body) == u32::from_le_bytes(*crc)).then_some(body)
}

/// The number in a file name of the form `digits` + `suffix`, with exactly `digits` digits.
pub(super) fn numbered(name: &str, prefix: &str, digits: usize, suffix: &str) -> Option<u64> {
    let text = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Makes a directory that is still there after a power failure, if it does not exist.
pub(super) fn make_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(directory)?;
    directory.parent().map_or(Ok(()), |parent| {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        sync_directory(parent)
    })
}
