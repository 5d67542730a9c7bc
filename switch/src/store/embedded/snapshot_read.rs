//! Reading the newest whole snapshot. The format is described in [`super::snapshot`].

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::files::{Fields, unseal};
use super::options::Progress;
use super::snapshot::{
    FOOTER_BYTES, HEADER_BYTES, MAGIC, SNAPSHOT_PAYLOAD_BYTES_MAX, SnapshotInfo, VERSION, entries,
    record_crc, snapshots,
};
use super::types::{Damaged, Failed, OpenError, Sequence};
use crate::place::open_regular;

const BUFFER_BYTES: usize = 1 << 20;
/// After so many records is told how far reading has come.
const PROGRESS_RECORDS: u64 = 1 << 14;

/// Gets each record's payload in the order it was written; an error is a refusal to open.
pub type VisitSnapshot<'a> = dyn FnMut(&[u8]) -> Result<(), String> + 'a;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct SnapshotRead {
    /// The snapshot that was visited; `None` when none is whole, or none is there.
    pub info: Option<SnapshotInfo>,
    /// Newer ones that are damaged. With `info` missing the journal must reach back to
    /// [`Sequence::FIRST`]; pass that as the replay's start, and it is checked.
    pub damaged: Vec<Damaged>,
}

/// Visits the newest whole snapshot in `directory`. Each file is checked to its end before the
/// first record is visited.
///
/// # Errors
/// A file cannot be read, or the visitor refused a record.
pub fn read_newest(
    directory: &Path,
    visit: &mut VisitSnapshot<'_>,
    progress: &Progress<'_>,
) -> Result<SnapshotRead, OpenError> {
    let mut read = SnapshotRead::default();
    for (from, path) in snapshots(directory)?.into_iter().rev() {
        match scan(&path, from, &mut |_| Ok(()), &|read, size| progress(read / 2, size)) {
            Ok(_) => {
                let half = |read, size| progress(size / 2 + read / 2, size);
                read.info = Some(scan(&path, from, visit, &half)?);
                return Ok(read);
            }
            Err(OpenError::Damaged(damaged)) => read.damaged.push(damaged),
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Visits the records of one snapshot, which may turn out to be damaged.
///
/// # Errors
/// It is damaged, cannot be read, or the visitor refused a record.
pub fn read_one(
    path: &Path,
    from: Sequence,
    visit: &mut VisitSnapshot<'_>,
) -> Result<SnapshotInfo, OpenError> {
    scan(path, from, visit, &|_, _| ())
}

/// Removes drafts that a crash left in `directory`. For whoever has the journal open: a draft
/// could be another process's.
///
/// # Errors
/// A file cannot be removed.
pub fn remove_drafts(directory: &Path) -> Result<(), Failed> {
    for path in entries(directory)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(".snap.new") {
            fs::remove_file(&path).map_err(|error| Failed::new(&path, error))?;
        }
    }
    Ok(())
}

/// A file being read, and how far.
struct Scan<'a> {
    path: &'a Path,
    file: BufReader<File>,
    offset: u64,
    size: u64,
}

/// Reads a file from its first byte to its last.
fn scan(
    path: &Path,
    from: Sequence,
    visit: &mut VisitSnapshot<'_>,
    progress: &Progress<'_>,
) -> Result<SnapshotInfo, OpenError> {
    let failed = |error| Failed::new(path, error);
    let file = open_regular(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let file = BufReader::with_capacity(BUFFER_BYTES, file);
    let mut scan = Scan { path, file, offset: 0, size };
    scan.header(from)?;
    let mut records = 0;
    let mut payload = Vec::new();
    while scan.record(from, records, &mut payload)? {
        let start = scan.offset - payload.len() as u64;
        visit(&payload).map_err(|reason| Damaged::new(path, start, reason))?;
        records += 1;
        if records % PROGRESS_RECORDS == 0 {
            progress(scan.offset, size);
        }
    }
    scan.footer(from, records)
}

impl Scan<'_> {
    fn header(&mut self, from: Sequence) -> Result<(), OpenError> {
        let mut header = [0; HEADER_BYTES];
        self.fill(&mut header)?;
        let known = unseal(&header).is_some_and(|body| {
            let mut fields = Fields(body);
            fields.array() == Some(MAGIC)
                && fields.u32() == Some(VERSION)
                && fields.u64() == Some(from.get())
        });
        if known { Ok(()) } else { Err(self.damaged(0, "snapshot: header is damaged")) }
    }

    /// Reads one record into `payload`; false when the footer begins here.
    fn record(
        &mut self,
        id: Sequence,
        index: u64,
        payload: &mut Vec<u8>,
    ) -> Result<bool, OpenError> {
        let start = self.offset;
        let mut word = [0; 4];
        self.fill(&mut word)?;
        let length = u32::from_le_bytes(word);
        if length == 0 {
            return Ok(false);
        }
        self.fill(&mut word)?;
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size > SNAPSHOT_PAYLOAD_BYTES_MAX || u64::from(length) > self.size - self.offset {
            return Err(self.damaged(start, "snapshot: record is longer than the file"));
        }
        payload.resize(size, 0);
        self.fill(payload)?;
        if record_crc(id, index, length, payload) != u32::from_le_bytes(word) {
            return Err(self.damaged(start, "snapshot: CRC of a record does not match"));
        }
        Ok(true)
    }

    /// Reads the rest of the footer, whose first 4 bytes were read as a length of zero.
    fn footer(&mut self, from: Sequence, records: u64) -> Result<SnapshotInfo, OpenError> {
        let start = self.offset - 4;
        let mut footer = [0; FOOTER_BYTES];
        let (_, rest) = footer.split_at_mut(4);
        self.fill(rest)?;
        let info = unseal(&footer).and_then(|body| {
            let mut fields = Fields(body);
            let counted = fields.u32()? == 0 && fields.u64()? == records;
            let same = fields.u64()? == from.get();
            let through = Sequence::new(fields.u64()?);
            (counted && same).then_some(SnapshotInfo { from, through })
        });
        if self.offset != self.size {
            return Err(self.damaged(self.offset, "snapshot: bytes behind the footer"));
        }
        info.ok_or_else(|| self.damaged(start, "snapshot: footer is damaged"))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), OpenError> {
        match self.file.read_exact(bytes) {
            Ok(()) => {
                self.offset += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(self.size, "snapshot: the file is cut short"))
            }
            Err(error) => Err(Failed::new(self.path, error).into()),
        }
    }

    fn damaged(&self, offset: u64, reason: &str) -> OpenError {
        Damaged::new(self.path, offset, reason).into()
    }
}
