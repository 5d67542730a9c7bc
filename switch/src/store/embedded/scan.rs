//! What lies in the journal's directory, before any record is read.

use std::collections::BTreeSet;
use std::fs;
use std::io;
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

/// The segments in use, and why the chain ends before the last file.
pub(super) struct Chain {
    pub(super) used: Vec<SegmentInfo>,
    pub(super) after: Option<Damaged>,
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

/// Reads all headers. The segments must follow each other without a gap from the oldest on.
pub(super) fn chain(
    directory: &Path,
    numbers: &BTreeSet<u32>,
    oldest: u32,
) -> Result<Chain, OpenError> {
    let mut chain = Chain { used: Vec::new(), after: None };
    for (expected, number) in (oldest..).zip(numbers) {
        if expected != *number {
            return Err(missing(directory, expected).into());
        }
        let path = segment_path(directory, expected);
        let before = chain.used.last();
        let info = read_info(directory, expected).map_err(|error| Failed::new(&path, error))?;
        match info {
            Ok(info) if before.is_none_or(|before| before.first < info.first) => {
                chain.used.push(info);
            }
            Ok(_) => {
                chain.after = Some(Damaged::new(&path, 16, "header: sequence out of order"));
                break;
            }
            Err((offset, reason)) => {
                chain.after = Some(Damaged::new(&path, offset, reason));
                break;
            }
        }
    }
    if chain.used.is_empty() {
        // The oldest segment always has a header: it was synced with it, or filled since.
        let damage = chain.after.unwrap_or_else(|| missing(directory, oldest));
        return Err(damage.into());
    }
    Ok(chain)
}

pub(super) fn missing(directory: &Path, number: u32) -> Damaged {
    Damaged::new(&segment_path(directory, number), 0, "the segment is missing")
}

/// What the header says, or offset and reason why it says nothing.
fn read_info(
    directory: &Path,
    number: u32,
) -> io::Result<Result<SegmentInfo, (u64, &'static str)>> {
    let segment = Segment::open(directory, number)?;
    Ok(match segment.read_header()? {
        Header::Used(info) if info.number != number => Err((12, "header: of another segment")),
        Header::Used(info) if info.bytes != segment.bytes => {
            Err((segment.bytes.min(info.bytes), "the file does not have the size in its header"))
        }
        Header::Used(info) => Ok(info),
        Header::Blank => Err((0, "header: zero")),
        Header::Bad(reason) => Err((0, reason)),
    })
}
