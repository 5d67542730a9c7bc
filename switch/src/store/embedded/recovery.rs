//! Opening a journal: what is there, what must be there, and where it ends.
//!
//! Up to the tail mark nothing may be missing: that is a refusal. What lies beyond was never
//! answered as durable; it is kept as far as it is whole, and the rest is dropped and zeroed, so
//! that an old record can never follow a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::files::{clear, make_directory, sync_directory};
use super::options::{Dropped, Options, Recovered, Replay};
use super::scan::{Chain, Listing, chain, list, missing, remove_leftovers};
use super::segment::{self, HEADER_BYTES, Segment, SegmentInfo, decode_record, segment_path};
use super::tail_mark::{TailMark, mark_path};
use super::types::{Damaged, Failed, OpenError, Position, Sequence};

/// Everything a journal starts from.
pub(super) struct Found {
    pub(super) mark: TailMark,
    pub(super) catalogue: BTreeMap<u32, SegmentInfo>,
    pub(super) current: Segment,
    /// Where the next record goes.
    pub(super) offset: u64,
    /// The prepared next segment.
    pub(super) ready: Option<Segment>,
    pub(super) spares: Vec<PathBuf>,
    pub(super) recovered: Recovered,
}

/// Where reading ended.
struct End {
    /// Index in the chain.
    index: usize,
    offset: u64,
    /// `None` when the segment ends there as it should.
    torn: Option<String>,
    last: Sequence,
    visited: u64,
}

/// Reads the journal and makes it ready for appending.
pub(super) fn recover(options: &Options, replay: &mut Replay<'_>) -> Result<Found, OpenError> {
    options.check()?;
    let (mark, damaged_slot) = open_mark(options)?;
    let directory = options.directory.as_path();
    let mut listing = list(directory)?;
    remove_leftovers(options, &mut listing, mark.mark.oldest)?;
    let chain = chain(directory, &listing.segments, mark.mark.oldest)?;
    let end = read(directory, &chain, replay)?;
    check_end(directory, &chain, &end, mark.mark.synced)?;
    check_start(directory, &chain, &end, replay.start)?;
    let repaired = damaged_slot.into_iter().collect();
    adopt(options, Adopted { listing, chain, end, mark, repaired })
}

fn open_mark(options: &Options) -> Result<(TailMark, Option<Damaged>), OpenError> {
    let directory = options.directory.as_path();
    let name = || directory.display().to_string();
    if !directory.exists() {
        if !options.create_new {
            return Err(OpenError::Absent(name()));
        }
        make_directory(directory).map_err(|error| Failed::new(directory, error))?;
    }
    let loaded = TailMark::open(directory)?;
    let empty = list(directory)?.segments.is_empty();
    match (loaded, options.create_new) {
        (None, true) if empty => Ok((create(options, TailMark::create(directory)?)?, None)),
        // Creation was cut short after the mark.
        (Some((mark, _)), true) if empty && mark.mark.synced == Sequence::NONE => {
            Ok((create(options, mark)?, None))
        }
        (_, true) => Err(OpenError::NotEmpty(name())),
        (None, false) if empty => Err(OpenError::Absent(name())),
        (None, false) => {
            let reason = "tail mark: the file is missing, but there are segments";
            Err(Damaged::new(&mark_path(directory), 0, reason).into())
        }
        (Some(loaded), false) => Ok(loaded),
    }
}

fn create(options: &Options, mark: TailMark) -> Result<TailMark, Failed> {
    let info = SegmentInfo {
        number: 1,
        first: Sequence::FIRST,
        created_unix_seconds: (options.unix_seconds)(),
        bytes: options.segment_bytes.into(),
    };
    let made = Segment::create(&options.directory, 1, info.bytes, &info.encode());
    made.map_err(|error| Failed::new(&segment_path(&options.directory, 1), error))?;
    Ok(mark)
}

fn read(directory: &Path, chain: &Chain, replay: &mut Replay<'_>) -> Result<End, OpenError> {
    let begin = begin(&chain.used, replay);
    let mut reader = Reader { replay, buffer: Vec::new(), expected: Sequence::NONE, visited: 0 };
    let mut end = None;
    for (index, info) in chain.used.iter().enumerate().skip(begin) {
        if index == begin {
            reader.expected = info.first;
        } else if info.first != reader.expected {
            let expected = reader.expected.get();
            let found = info.first.get();
            let gap = format!("record {expected} is missing, the next segment begins at {found}");
            end = end.map(|end: End| End { torn: Some(gap), ..end });
            break;
        }
        let path = segment_path(directory, info.number);
        let (offset, torn) = reader.segment(&path, info)?;
        let last = Sequence::new(reader.expected.get() - 1);
        let ended = torn.is_some();
        end = Some(End { index, offset, torn, last, visited: reader.visited });
        if ended {
            break;
        }
    }
    end.ok_or_else(|| missing(directory, 1).into())
}

/// Index of the first segment to read.
fn begin(used: &[SegmentInfo], replay: &Replay<'_>) -> usize {
    let Some(start) = replay.start else { return 0 };
    let holder = used.iter().rposition(|info| info.first <= start).unwrap_or(0);
    let Some(newest) = used.last() else { return holder };
    let mut following = used.iter().skip(1).take(holder);
    following.position(|following| (replay.needed)(following, newest)).unwrap_or(holder)
}

struct Reader<'a, 'b> {
    replay: &'a mut Replay<'b>,
    buffer: Vec<u8>,
    expected: Sequence,
    visited: u64,
}

impl Reader<'_, '_> {
    /// Visits a segment's records; returns where they end, and why if not as they should.
    fn segment(
        &mut self,
        path: &Path,
        info: &SegmentInfo,
    ) -> Result<(u64, Option<String>), OpenError> {
        self.load(path, info).map_err(|error| Failed::new(path, error))?;
        let mut offset = HEADER_BYTES;
        loop {
            let bytes = self.buffer.get(offset..).unwrap_or_default();
            let (sequence, payload) = match decode_record(bytes, info.number) {
                segment::Found::End => return Ok((offset as u64, None)),
                segment::Found::Bad(reason) => return Ok((offset as u64, Some(reason.into()))),
                segment::Found::Record { sequence, .. } if sequence != self.expected => {
                    let torn = Some("record: sequence out of order".into());
                    return Ok((offset as u64, torn));
                }
                segment::Found::Record { sequence, payload } => (sequence, payload),
            };
            let position = Position {
                segment: info.number,
                offset: u32::try_from(offset).unwrap_or(u32::MAX),
            };
            (self.replay.visit)(sequence, position, payload)
                .map_err(|reason| Damaged::new(path, offset as u64, reason))?;
            offset += segment::RECORD_HEAD_BYTES + payload.len();
            self.expected = sequence.next();
            self.visited += 1;
        }
    }

    fn load(&mut self, path: &Path, info: &SegmentInfo) -> io::Result<()> {
        let size = usize::try_from(info.bytes).map_err(io::Error::other)?;
        self.buffer.resize(size, 0);
        fs::File::open(path)?.read_exact_at(&mut self.buffer, 0)
    }
}

/// All that was synced must have been read.
fn check_end(
    directory: &Path,
    chain: &Chain,
    end: &End,
    synced: Sequence,
) -> Result<(), OpenError> {
    if end.last >= synced {
        return Ok(());
    }
    let lost = format!("record {} is missing of {} synced", end.last.next().get(), synced.get());
    let at_last = end.index + 1 == chain.used.len();
    let mut damage = match (&end.torn, &chain.after) {
        (None, Some(after)) if at_last && after.reason != "header: zero" => after.clone(),
        (torn, _) => {
            let path = info_path(directory, chain, end);
            Damaged::new(&path, end.offset, torn.clone().unwrap_or("no record".into()))
        }
    };
    damage.reason = format!("{}; {lost}", damage.reason);
    Err(damage.into())
}

/// What the caller needs must have been read.
fn check_start(
    directory: &Path,
    chain: &Chain,
    end: &End,
    start: Option<Sequence>,
) -> Result<(), OpenError> {
    let (Some(start), Some(oldest)) = (start, chain.used.first()) else { return Ok(()) };
    let wanted = start.get();
    if oldest.first > start {
        let reason =
            format!("record {wanted} is wanted, the journal begins at {}", oldest.first.get());
        return Err(Damaged::new(&segment_path(directory, oldest.number), 0, reason).into());
    }
    if start > end.last.next() {
        let reason = format!("record {wanted} is wanted, the journal ends at {}", end.last.get());
        return Err(Damaged::new(&info_path(directory, chain, end), end.offset, reason).into());
    }
    Ok(())
}

fn info_path(directory: &Path, chain: &Chain, end: &End) -> PathBuf {
    let number = chain.used.get(end.index).map_or(0, |info| info.number);
    segment_path(directory, number)
}

struct Adopted {
    listing: Listing,
    chain: Chain,
    end: End,
    mark: TailMark,
    repaired: Vec<Damaged>,
}

/// Clears what lies beyond the last record, makes the rest durable, and marks it.
fn adopt(options: &Options, adopted: Adopted) -> Result<Found, OpenError> {
    let Adopted { listing, mut chain, end, mut mark, repaired } = adopted;
    let directory = options.directory.as_path();
    let in_directory = |error| Failed::new(directory, error);
    let dropped_segments = chain.used.len() > end.index + 1;
    chain.used.truncate(end.index + 1);
    let (Some(first), Some(last)) = (chain.used.first().copied(), chain.used.last().copied())
    else {
        return Err(missing(directory, 1).into());
    };
    let current = Segment::open(directory, last.number).map_err(in_directory)?;
    let bytes = clear(&current.file, end.offset, current.bytes).map_err(in_directory)?;
    let ready = clear_after(options, &listing.segments, last.number).map_err(in_directory)?;
    sync_unmarked(directory, &chain.used, mark.mark.synced).map_err(in_directory)?;
    let file = mark.write_both(end.last, first.number).map_err(in_directory)?;
    file.sync_all().map_err(in_directory)?;
    let dropped = (end.torn.is_some() || dropped_segments).then(|| Dropped {
        file: current.path.display().to_string(),
        offset: end.offset,
        bytes,
        reason: end.torn.unwrap_or_default(),
    });
    let recovered =
        Recovered { first: first.first, last: end.last, visited: end.visited, dropped, repaired };
    let catalogue = chain.used.into_iter().map(|info| (info.number, info)).collect();
    let (offset, spares) = (end.offset, listing.spares);
    Ok(Found { mark, catalogue, current, offset, ready, spares, recovered })
}

/// Keeps the next segment's file, made wholly zero whatever it held, and removes all others behind
/// the current one, the last first, so that no gap can appear.
fn clear_after(
    options: &Options,
    numbers: &BTreeSet<u32>,
    current: u32,
) -> io::Result<Option<Segment>> {
    let directory = options.directory.as_path();
    let mut ready = None;
    for number in numbers.range(current + 1..).rev() {
        let segment = Segment::open(directory, *number)?;
        let whole = segment.bytes == u64::from(options.segment_bytes);
        if whole && *number == current + 1 {
            clear(&segment.file, 0, segment.bytes)?;
            ready = Some(segment);
        } else {
            fs::remove_file(&segment.path)?;
            sync_directory(directory)?;
        }
    }
    Ok(ready)
}

/// Syncs the segments that hold records beyond the mark: those survived, but only by luck so far.
fn sync_unmarked(directory: &Path, used: &[SegmentInfo], synced: Sequence) -> io::Result<()> {
    for info in used.iter().rev() {
        Segment::open(directory, info.number)?.file.sync_data()?;
        if info.first <= synced {
            break;
        }
    }
    sync_directory(directory)
}
