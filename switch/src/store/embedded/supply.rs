//! Segments ready before they are needed, and retired files kept to become segments again.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::files::{lock, sync_directory};
use super::segment::{Segment, segment_path, spare_path};
use super::types::Failed;

/// Retired files kept for recycling; more are removed.
pub(super) const SPARES_MAX: usize = 2;

/// The stock of segments.
pub(super) struct Supply {
    directory: PathBuf,
    segment_bytes: u64,
    /// Held while a segment is made, so that whoever needs it at that moment waits for it.
    next: Mutex<Next>,
    spares: Mutex<Vec<PathBuf>>,
}

struct Next {
    number: u32,
    ready: Option<Arc<Segment>>,
}

impl Supply {
    pub(super) fn new(directory: PathBuf, segment_bytes: u64, spares: Vec<PathBuf>) -> Self {
        let next = Mutex::new(Next { number: 1, ready: None });
        Self { directory, segment_bytes, next, spares: Mutex::new(spares) }
    }

    /// Says which segment comes next, and whether it is already there.
    pub(super) fn set_next(&self, number: u32, ready: Option<Segment>) {
        *lock(&self.next) = Next { number, ready: ready.map(Arc::new) };
    }

    /// Makes segment `number` unless it is ready, or no longer the next.
    pub(super) fn prepare(&self, number: u32) -> Result<(), Failed> {
        let mut next = lock(&self.next);
        if next.number == number && next.ready.is_none() {
            next.ready = Some(self.make(next.number)?);
        }
        Ok(())
    }

    /// Hands out the next segment; makes it on the spot when it is not ready.
    pub(super) fn take(&self) -> Result<Arc<Segment>, Failed> {
        let mut next = lock(&self.next);
        let segment = match next.ready.take() {
            Some(segment) => segment,
            None => self.make(next.number)?,
        };
        next.number += 1;
        Ok(segment)
    }

    fn make(&self, number: u32) -> Result<Arc<Segment>, Failed> {
        let spare = lock(&self.spares).pop();
        if let Some(spare) = spare {
            if let Ok(segment) = Segment::recycle(&spare, &self.directory, number) {
                return Ok(Arc::new(segment));
            }
            // A spare is only a saving: without it the file is made anew.
            let _ = fs::remove_file(&spare);
        }
        Segment::create(&self.directory, number, self.segment_bytes, &[]).map(Arc::new).map_err(
            |error| {
                let path = segment_path(&self.directory, number);
                Failed::new(&path, format!("cannot prepare the next segment: {error}"))
            },
        )
    }

    /// Takes the file of segment `number` out of the journal: a spare while there is need for
    /// one, else removed. Durable on return.
    pub(super) fn retire(&self, number: u32, bytes: u64) -> io::Result<()> {
        let path = segment_path(&self.directory, number);
        let mut spares = lock(&self.spares);
        if spares.len() < SPARES_MAX && bytes == self.segment_bytes {
            let spare = spare_path(&self.directory, number);
            fs::rename(&path, &spare)?;
            spares.push(spare);
        } else {
            fs::remove_file(&path)?;
        }
        drop(spares);
        sync_directory(&self.directory)
    }
}
