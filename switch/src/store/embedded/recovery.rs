//! Opening a journal: what is there, what must be there, and where it ends.
//!
//! Nothing may be missing that the tail mark, or a later record, says was on disk: that is a
//! refusal (see `lost`). What lies beyond was never answered as durable; it is kept as far as it is
//! whole, and the rest is dropped and zeroed, so that an old record can never follow a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::files::{clear, make_directory, sync_directory};
use super::in_use::Lock;
use super::lost::{Place, Torn};
use super::options::{Dropped, Options, Recovered, Replay};
use super::scan::{Listing, chain, list, missing, remove_leftovers};
use super::segment::{
    self, HEADER_BYTES, RECORD_HEAD_BYTES, Record, SECTOR_BYTES, Segment, SegmentInfo, Version,
    decode_record, segment_path,
};
use super::tail_mark::{Mark, TailMark, mark_path};
use super::types::{Damaged, Failed, OpenError, Position, Sequence};
use crate::place::open_regular;

/// Everything a journal starts from.
pub(super) struct Found {
    pub(super) lock: Lock,
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
    /// Index among the segments in use.
    index: usize,
    offset: u64,
    /// `None` when the segment ends there as it should.
    torn: Option<Torn>,
    last: Sequence,
    visited: u64,
    /// Records up to here that keep an answer.
    answers: u64,
}

impl End {
    /// The record that should come next.
    fn missing(&self) -> Torn {
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
        self.torn.unwrap_or(Torn { offset, bytes: RECORD_HEAD_BYTES, reason: "no record" })
    }
}

/// Reads the journal and makes it ready for appending.
pub(super) fn recover(options: &Options, replay: &mut Replay<'_>) -> Result<Found, OpenError> {
    options.check()?;
    let directory = options.directory.as_path();
    let lock = lock_home(options)?;
    let (mark, damaged_slot) = open_mark(options)?;
    let mut listing = list(directory)?;
    remove_leftovers(options, &mut listing, mark.mark.oldest)?;
    let (used, end) = read_all(directory, &listing, mark.mark, replay)?;
    let repaired = damaged_slot.into_iter().collect();
    adopt(options, Adopted { lock, listing, used, end, mark, repaired })
}

fn read_all(
    directory: &Path,
    listing: &Listing,
    mark: Mark,
    replay: &mut Replay<'_>,
) -> Result<(Vec<SegmentInfo>, End), OpenError> {
    let used = chain(directory, &listing.segments, mark.oldest)?;
    let end = read(directory, listing, &used, replay)?;
    check_end(directory, &used, &end, mark.synced)?;
    check_start(directory, &used, &end, replay.start)?;
    Ok((used, end))
}

/// What a journal holds that is only looked at.
pub(super) struct Examined {
    pub(super) used: Vec<SegmentInfo>,
    /// The last record.
    pub(super) last: Sequence,
    /// What follows behind it that nobody was answered for.
    pub(super) torn: Option<String>,
    pub(super) repaired: Vec<Damaged>,
}

/// Reads the journal as [`recover`] does, and changes nothing.
pub(super) fn examine(
    directory: &Path,
    (mark, damaged_slot): (Mark, Option<Damaged>),
    replay: &mut Replay<'_>,
) -> Result<Examined, OpenError> {
    let mut listing = list(directory)?;
    listing.segments = listing.segments.split_off(&mark.oldest);
    let (mut used, end) = read_all(directory, &listing, mark, replay)?;
    let torn = end.torn.map(|torn| {
        let path = info_path(directory, &used, &end);
        Damaged::new(&path, torn.offset as u64, torn.reason).to_string()
    });
    used.truncate(end.index + 1);
    Ok(Examined { used, last: end.last, torn, repaired: damaged_slot.into_iter().collect() })
}

/// Locks the directory in which the journal's lies: a restore may replace that one.
fn lock_home(options: &Options) -> Result<Lock, OpenError> {
    let directory = options.directory.as_path();
    let home = directory.parent().filter(|home| !home.as_os_str().is_empty());
    let home = home.unwrap_or(Path::new("."));
    if !home.exists() {
        if !options.create_new {
            return Err(OpenError::Absent(directory.display().to_string()));
        }
        make_directory(home).map_err(|error| Failed::new(home, error))?;
    }
    Lock::take(home)
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
        version: Version::V2,
        number: 1,
        first: Sequence::FIRST,
        created_unix_seconds: (options.unix_seconds)(),
        bytes: options.segment_bytes.into(),
        answers_before: 0,
    };
    let made = Segment::create(&options.directory, 1, info.bytes, &info.encode());
    made.map_err(|error| Failed::new(&segment_path(&options.directory, 1), error))?;
    Ok(mark)
}

fn read(
    directory: &Path,
    listing: &Listing,
    used: &[SegmentInfo],
    replay: &mut Replay<'_>,
) -> Result<End, OpenError> {
    let begin = begin(used, replay);
    let bytes: u64 = used.iter().skip(begin).map(|info| info.bytes).sum();
    let mut left = bytes;
    let mut reader =
        Reader { replay, buffer: Vec::new(), expected: Sequence::NONE, visited: 0, answers: 0 };
    let mut end = None;
    for (index, info) in used.iter().enumerate().skip(begin) {
        if index == begin {
            reader.expected = info.first;
        } else if info.first != reader.expected {
            // What the segment before should have held.
            break;
        }
        let path = segment_path(directory, info.number);
        let (offset, torn) = reader.segment(&path, info)?;
        let last = Sequence::new(reader.expected.get() - 1);
        let Reader { visited, answers, .. } = reader;
        let ended = torn.is_some();
        left = left.saturating_sub(info.bytes);
        (reader.replay.progress)(bytes - left, bytes);
        end = Some((End { index, offset, torn, last, visited, answers }, info));
        if ended {
            break;
        }
    }
    let (end, info) = end.ok_or_else(|| missing(directory, 1))?;
    let place = Place { directory, info, last: end.last, torn: end.missing() };
    place.check(&reader.buffer, &listing.segments)?;
    Ok(end)
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
    answers: u64,
}

impl Reader<'_, '_> {
    /// Visits a segment's records; returns where they end, and why if not as they should.
    fn segment(
        &mut self,
        path: &Path,
        info: &SegmentInfo,
    ) -> Result<(u64, Option<Torn>), OpenError> {
        self.load(path, info).map_err(|error| Failed::new(path, error))?;
        self.answers = info.answers_before;
        let mut end = HEADER_BYTES;
        loop {
            let (offset, found) = next_record(&self.buffer, end, info);
            let (sequence, payload, bytes) = match found {
                segment::Found::End => return Ok((end as u64, None)),
                segment::Found::Bad { reason, bytes } => {
                    return Ok((end as u64, Some(Torn { offset, bytes, reason })));
                }
                segment::Found::Record(Record { sequence, bytes, .. })
                    if sequence != self.expected =>
                {
                    // One before it is missing, where there was nothing.
                    let torn = Torn { offset: end, bytes, reason: "record: out of order" };
                    return Ok((end as u64, Some(torn)));
                }
                segment::Found::Record(Record { sequence, payload, bytes, .. }) => {
                    (sequence, payload, bytes)
                }
            };
            let position = Position {
                segment: info.number,
                offset: u32::try_from(offset).unwrap_or(u32::MAX),
            };
            let keeps_answer = (self.replay.visit)(sequence, position, payload)
                .map_err(|reason| Damaged::new(path, offset as u64, reason))?;
            end = offset + bytes;
            self.expected = sequence.next();
            self.visited += 1;
            self.answers += u64::from(keeps_answer);
        }
    }

    fn load(&mut self, path: &Path, info: &SegmentInfo) -> io::Result<()> {
        let size = usize::try_from(info.bytes).map_err(io::Error::other)?;
        self.buffer.resize(size, 0);
        open_regular(path)?.read_exact_at(&mut self.buffer, 0)
    }
}

/// What comes behind the record that ends at `end`, and where: right there, or at the next sector
/// behind zeros, of which there may be fewer than a head has.
fn next_record<'a>(
    buffer: &'a [u8],
    end: usize,
    info: &SegmentInfo,
) -> (usize, segment::Found<'a>) {
    let at = |offset: usize| decode_record(buffer.get(offset..).unwrap_or_default(), info);
    let sector = usize::try_from((end as u64).next_multiple_of(SECTOR_BYTES)).unwrap_or(usize::MAX);
    let is_padding = || buffer.get(end..sector).unwrap_or_default().iter().all(|byte| *byte == 0);
    match (at(end), info.version) {
        (found @ segment::Found::Record(_), _) | (found, Version::V1) => (end, found),
        _ if is_padding() => (sector, at(sector)),
        (found, Version::V2) => (end, found),
    }
}

/// All that was synced must have been read.
fn check_end(
    directory: &Path,
    used: &[SegmentInfo],
    end: &End,
    synced: Sequence,
) -> Result<(), OpenError> {
    if end.last >= synced {
        return Ok(());
    }
    let Torn { offset, reason, .. } = end.missing();
    let (next, synced) = (end.last.next().get(), synced.get());
    let reason = format!("{reason}; record {next} is missing of {synced} synced");
    Err(Damaged::new(&info_path(directory, used, end), offset as u64, reason).into())
}

/// What the caller needs must have been read.
fn check_start(
    directory: &Path,
    used: &[SegmentInfo],
    end: &End,
    start: Option<Sequence>,
) -> Result<(), OpenError> {
    let (Some(start), Some(oldest)) = (start, used.first()) else { return Ok(()) };
    let wanted = start.get();
    if oldest.first > start {
        let reason =
            format!("record {wanted} is wanted, the journal begins at {}", oldest.first.get());
        return Err(Damaged::new(&segment_path(directory, oldest.number), 0, reason).into());
    }
    if start > end.last.next() {
        let reason = format!("record {wanted} is wanted, the journal ends at {}", end.last.get());
        return Err(Damaged::new(&info_path(directory, used, end), end.offset, reason).into());
    }
    Ok(())
}

fn info_path(directory: &Path, used: &[SegmentInfo], end: &End) -> PathBuf {
    let number = used.get(end.index).map_or(0, |info| info.number);
    segment_path(directory, number)
}

struct Adopted {
    lock: Lock,
    listing: Listing,
    used: Vec<SegmentInfo>,
    end: End,
    mark: TailMark,
    repaired: Vec<Damaged>,
}

/// Clears what lies beyond the last record, makes the rest durable, and marks it.
fn adopt(options: &Options, adopted: Adopted) -> Result<Found, OpenError> {
    let Adopted { lock, listing, mut used, end, mut mark, repaired } = adopted;
    let directory = options.directory.as_path();
    let in_directory = |error| Failed::new(directory, error);
    let dropped_segments = used.len() > end.index + 1;
    used.truncate(end.index + 1);
    let (Some(first), Some(last)) = (used.first().copied(), used.last().copied()) else {
        return Err(missing(directory, 1).into());
    };
    let current = Segment::open(directory, last.number).map_err(in_directory)?;
    let bytes = clear(&current.file, end.offset, current.bytes).map_err(in_directory)?;
    let ready = clear_after(options, &listing.segments, last.number).map_err(in_directory)?;
    sync_unmarked(directory, &used, mark.mark.synced).map_err(in_directory)?;
    let file = mark.write_both(end.last, first.number).map_err(in_directory)?;
    file.sync_all().map_err(in_directory)?;
    let dropped = (bytes > 0 || dropped_segments).then(|| Dropped {
        file: current.path.display().to_string(),
        offset: end.offset,
        bytes,
        reason: end.missing().reason,
    });
    let recovered = Recovered {
        first: first.first,
        last: end.last,
        visited: end.visited,
        answers: end.answers,
        dropped,
        repaired,
    };
    // All is on disk now, so the next record begins a sector; behind an older format, a segment.
    let offset = match last.version {
        Version::V1 => current.bytes,
        Version::V2 => end.offset.next_multiple_of(SECTOR_BYTES).min(current.bytes),
    };
    let catalogue = used.into_iter().map(|info| (info.number, info)).collect();
    Ok(Found { lock, mark, catalogue, current, offset, ready, spares: listing.spares, recovered })
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
