//! What lies in the journal's directory, before any record is read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::options::Options;
use super::segment::{Header, Segment, SegmentInfo, number_in_name, segment_path};
use super::supply::SPARES_MAX;
use super::types::{Damaged, Failed, OpenError};

/// The files of the directory.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) segments: BTreeSet<u32>,
    pub(super) spares: Vec<PathBuf>,
    drafts: Vec<PathBuf>,
}

pub(super) fn list(directory: &Path) -> Result<Listing, Failed> {
    let mut listing = Listing::default();
    let entries = fs::read_dir(directory).map_err(|error| Failed::new(directory, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Failed::new(directory, error))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(number) = number_in_name(name, ".journal") {
            listing.segments.insert(number);
        } else if number_in_name(name, ".spare").is_some() {
            listing.spares.push(entry.path());
        } else if name.ends_with(".new") {
            listing.drafts.push(entry.path());
        }
    }
    Ok(listing)
}

/// Removes what a crash left: drafts, spares of no use, and segments already retired.
pub(super) fn remove_leftovers(
    options: &Options,
    listing: &mut Listing,
    oldest: u32,
) -> Result<(), OpenError> {
    let bytes = u64::from(options.segment_bytes);
    let fits = |spare: &PathBuf| fs::metadata(spare).is_ok_and(|found| found.len() == bytes);
    let (mut spares, mut gone): (Vec<_>, Vec<_>) = listing.spares.drain(..).partition(fits);
    gone.extend(spares.split_off(spares.len().min(SPARES_MAX)));
    gone.append(&mut listing.drafts);
    listing.spares = spares;
    let kept = listing.segments.split_off(&oldest);
    let retired = std::mem::replace(&mut listing.segments, kept);
    gone.extend(retired.into_iter().map(|number| segment_path(&options.directory, number)));
    for path in gone {
        fs::remove_file(&path).map_err(|error| Failed::new(&path, error))?;
    }
    Ok(())
}

/// Reads all headers: the segments in use. They must follow each other without a gap from the
/// oldest on, up to the first that was only prepared.
pub(super) fn chain(
    directory: &Path,
    numbers: &BTreeSet<u32>,
    oldest: u32,
) -> Result<Vec<SegmentInfo>, OpenError> {
    let mut used: Vec<SegmentInfo> = Vec::new();
    for (expected, number) in (oldest..).zip(numbers) {
        if expected != *number {
            return Err(missing(directory, expected).into());
        }
        let path = segment_path(directory, expected);
        match read_info(&path, expected)? {
            Some(info) if used.last().is_none_or(|before| before.first < info.first) => {
                used.push(info);
            }
            Some(_) => {
                return Err(Damaged::new(&path, 16, "header: sequence out of order").into());
            }
            // The oldest segment always has a header: it was synced with it, or filled since.
            None if used.is_empty() => return Err(Damaged::new(&path, 0, "header: zero").into()),
            None => break,
        }
    }
    if used.is_empty() {
        return Err(missing(directory, oldest).into());
    }
    Ok(used)
}

pub(super) fn missing(directory: &Path, number: u32) -> Damaged {
    Damaged::new(&segment_path(directory, number), 0, "the segment is missing")
}

/// What the header says; `None` for zeros. A header is less than what a disk writes at once, so one
/// that is neither was damaged.
fn read_info(path: &Path, number: u32) -> Result<Option<SegmentInfo>, OpenError> {
    let read = Segment::open_to_read(path, number).and_then(|segment| {
        let header = segment.read_header()?;
        Ok((segment.bytes, header))
    });
    let (bytes, header) = read.map_err(|error| Failed::new(path, error))?;
    let damaged = |offset, reason| Err(Damaged::new(path, offset, reason).into());
    match header {
        Header::Used(info) if info.number != number => damaged(12, "header: of another segment"),
        Header::Used(info) if info.bytes != bytes => {
            damaged(bytes.min(info.bytes), "the file does not have the size in its header")
        }
        Header::Used(info) => Ok(Some(info)),
        Header::Blank => Ok(None),
        Header::Bad(reason) => damaged(0, reason),
    }
}
