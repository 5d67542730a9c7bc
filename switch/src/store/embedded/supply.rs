//! Segments ready before they are needed, and retired files kept to become segments again.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::files::{is_passing, lock, sync_directory};
use super::options::Options;
use super::segment::{Segment, segment_path, spare_path};
use super::types::{Failed, JournalReport};

/// Retired files kept for recycling; more are removed.
pub(super) const SPARES_MAX: usize = 2;

/// The stock of segments.
pub(super) struct Supply {
    directory: PathBuf,
    segment_bytes: u64,
    /// Held while a segment is made, so that whoever needs it at that moment waits for it.
    next: Mutex<Next>,
    spares: Mutex<Vec<PathBuf>>,
    observer: Arc<dyn Fn(&JournalReport) + Send + Sync>,
}

/// How often, and after which pause, a segment that is needed now is tried again where the system
/// is short of something that others give back. Everybody who appends waits meanwhile.
const TRIES_MAX: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

struct Next {
    number: u32,
    ready: Option<Arc<Segment>>,
}

impl Supply {
    /// `number` comes next, and `ready` is it, if it is already there.
    pub(super) fn new(
        options: &Options,
        spares: Vec<PathBuf>,
        number: u32,
        ready: Option<Segment>,
    ) -> Self {
        Self {
            directory: options.directory.clone(),
            segment_bytes: options.segment_bytes.into(),
            next: Mutex::new(Next { number, ready: ready.map(Arc::new) }),
            spares: Mutex::new(spares),
            observer: Arc::clone(&options.observer),
        }
    }

    /// The number of the segment that comes next.
    pub(super) fn next(&self) -> u32 {
        lock(&self.next).number
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
            None => self.make_now(next.number)?,
        };
        next.number += 1;
        Ok(segment)
    }

    fn make_now(&self, number: u32) -> Result<Arc<Segment>, Failed> {
        for number_of_try in 1..TRIES_MAX {
            match self.try_to_make(number) {
                Err(error) if is_passing(&error) => {
                    if number_of_try == 1 {
                        (self.observer)(&JournalReport::PrepareFailed(self.failed(number, &error)));
                    }
                    thread::sleep(PAUSE);
                }
                made => return made.map_err(|error| self.failed(number, &error)),
            }
        }
        self.make(number)
    }

    fn make(&self, number: u32) -> Result<Arc<Segment>, Failed> {
        self.try_to_make(number).map_err(|error| self.failed(number, &error))
    }

    fn failed(&self, number: u32, error: &io::Error) -> Failed {
        let path = segment_path(&self.directory, number);
        Failed::new(&path, format!("cannot prepare the next segment: {error}"))
    }

    fn try_to_make(&self, number: u32) -> io::Result<Arc<Segment>> {
        let spare = lock(&self.spares).pop();
        if let Some(spare) = spare {
            match Segment::recycle(&spare, &self.directory, number) {
                Ok(segment) => return Ok(Arc::new(segment)),
                Err(error) if is_passing(&error) && spare.exists() => {
                    lock(&self.spares).push(spare);
                    return Err(error);
                }
                // A spare is only a saving: without it the file is made anew.
                Err(_) => drop(fs::remove_file(&spare)),
            }
        }
        Segment::create(&self.directory, number, self.segment_bytes, &[]).map(Arc::new)
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
