//! Whether the data are older than what the switch has answered: a backup says so itself, and of
//! any other copy only a witness can tell, a file outside the data directory that says how far the
//! store was.
//!
//! Two lines of text, `record N` and `time T`: the newest record that is on disk, and when that was
//! known. Written under another name, synced and renamed, each second and at the close.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Shared;
use super::backup::mark_of_backup;
use super::open::{OpenOptions, OpenStoreError, Recovery};
use super::types::{Damaged, Failed};
use crate::place;

/// It must never be older than a second.
const INTERVAL: Duration = Duration::from_millis(500);

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Testimony {
    pub(super) record: u64,
    pub(super) time: String,
}

impl fmt::Display for Testimony {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}\ntime {}\n", self.record, self.time)
    }
}

/// Reads it; nothing where there is none yet.
///
/// # Errors
/// If it is something else: nobody knows then what it would have said.
pub(super) fn read(path: &Path) -> Result<Option<Testimony>, Damaged> {
    let text = match place::read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Damaged::new(path, 0, error.to_string())),
    };
    let mut lines = text.lines();
    let mut line = |name: &str| lines.next()?.strip_prefix(name);
    let record = line("record ").and_then(|number| number.parse().ok());
    let testimony = record.zip(line("time ")).map(|(record, time)| {
        let time = time.to_owned();
        Testimony { record, time }
    });
    let reason = "expected the lines `record N` and `time T`";
    testimony.map(Some).ok_or_else(|| Damaged::new(path, 0, reason))
}

/// Whether the data directory is a backup. It starts only where somebody accepts it.
pub(super) fn check_mark(options: &OpenOptions) -> Result<bool, OpenStoreError> {
    let mark = mark_of_backup(&options.data_dir);
    if mark.symlink_metadata().is_err() {
        return Ok(false);
    }
    if options.config.accept_older_data {
        return Ok(true);
    }
    let text = place::read_text(&mark).unwrap_or_default();
    let record = text.lines().find_map(|line| line.strip_prefix("record ").map(str::to_owned));
    let (data_dir, record) = (options.data_dir.clone(), record.unwrap_or_default());
    Err(OpenStoreError::Backup { data_dir, record })
}

/// A copy of the data directory must not bring it along, whatever its path looks like.
fn check_outside(witness: &Path, data_dir: &Path) -> Result<(), Failed> {
    // What cannot be found cannot be written either, which is said then.
    let place = witness.parent().filter(|place| !place.as_os_str().is_empty());
    let place = place.unwrap_or(Path::new(".")).canonicalize().ok();
    let data_dir = data_dir.canonicalize().ok();
    match place.zip(data_dir).is_some_and(|(place, data_dir)| place.starts_with(data_dir)) {
        true => Err(Failed::new(witness, "the witness lies in the data directory")),
        false => Ok(()),
    }
}

/// Whether a witness has seen more than the data hold. They start only where somebody accepts it.
pub(super) fn check_witness(options: &OpenOptions, last: u64) -> Result<bool, OpenStoreError> {
    let Some(path) = &options.config.witness else { return Ok(false) };
    check_outside(path, &options.data_dir)?;
    let seen = match read(path) {
        Err(damaged) if options.config.accept_older_data => {
            tracing::error!(%damaged, "the witness cannot be read, and is written anew");
            return Ok(true);
        }
        seen => seen.map_err(OpenStoreError::Witness)?,
    };
    let Some(seen) = seen else {
        if last > 0 {
            tracing::warn!(witness = %path.display(), "there is no witness yet, or no more");
        }
        return Ok(false);
    };
    if seen.record <= last || options.config.accept_older_data {
        return Ok(seen.record > last);
    }
    let (witness, record, time) = (path.clone(), seen.record, seen.time);
    Err(OpenStoreError::Older { witness, last, record, time })
}

/// Says how new the data are, and in the audit that somebody has accepted older ones.
pub(super) fn tell_age(
    options: &OpenOptions,
    recovery: &Recovery,
    is_accepted: bool,
) -> Result<(), OpenStoreError> {
    let record = recovery.journal.last.get();
    let time = recovery.newest.map(|newest| newest.to_string());
    tracing::info!(record, time, "the newest record");
    if is_accepted {
        tracing::info!(target: "audit", action = "older data accepted", record, time);
        let mark = mark_of_backup(&options.data_dir);
        match std::fs::remove_file(&mark) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failed::new(&mark, error).into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// The thread that writes it.
pub(super) struct Witness {
    stop: mpsc::Sender<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Witness {
    /// Starts it.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub(super) fn start(shared: Arc<Shared>, path: PathBuf) -> io::Result<Witness> {
        let (stop, stopped) = mpsc::channel();
        let run = move || run(&shared, &path, &stopped);
        let thread = std::thread::Builder::new().name("witness".to_owned()).spawn(run)?;
        Ok(Witness { stop, thread: Mutex::new(Some(thread)) })
    }

    /// Writes it a last time.
    pub(super) fn stop(&self) {
        // Fails only if the thread has ended.
        let _ = self.stop.send(());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the witness thread had panicked");
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(shared: &Shared, path: &Path, stopped: &mpsc::Receiver<()>) {
    let mut works = true;
    loop {
        let record = shared.journal.synced_through().get();
        let testimony = Testimony { record, time: shared.clock.now().to_string() };
        let written = place::write_private(path, &testimony.to_string());
        match (written, works) {
            (Err(error), true) => {
                tracing::error!(%error, witness = %path.display(), "the witness is not written");
                works = false;
            }
            (Err(_), false) => {}
            (Ok(()), _) => works = true,
        }
        if stopped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
    let record = shared.journal.synced_through().get();
    let testimony = Testimony { record, time: shared.clock.now().to_string() };
    if let Err(error) = place::write_private(path, &testimony.to_string()) {
        tracing::error!(%error, witness = %path.display(), "the witness is not written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("witness");
        assert_eq!(read(&path), Ok(None));
        let testimony = Testimony { record: 77, time: "2026-12-01T00:00:00Z".to_owned() };
        place::write_private(&path, &testimony.to_string()).unwrap();
        assert_eq!(read(&path), Ok(Some(testimony)));
        for text in ["", "record x\ntime y\n", "record 7\n", "time y\nrecord 7\n"] {
            place::write_private(&path, text).unwrap();
            assert!(read(&path).is_err(), "{text}");
        }
    }
}
