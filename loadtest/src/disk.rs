//! `disk`: what the bare disk does, to compare a journal with. Records are written one after
//! another into a file of 64 MiB that was filled with zeros before, wrapped round, and each write
//! is followed by `fdatasync`.
//!
//! The JSON report has these fields. A time is in microseconds where its name ends in `_us`, and
//! in seconds where it is `seconds`.
//!
//! * `command`, `version`: `disk`, and the version of this program
//! * `machine`: `cores` and `cpu_model`
//! * `plan`: `bytes` (of a record), `rate_per_second` or `group` (the other one is `null`),
//!   `seconds`
//! * `records`, `syncs`: records made durable, and with how many syncs
//! * `not_written`: records that were not written when the time was over twice: the disk does not
//!   keep up
//! * `seconds`: from the start to the end of the last sync
//! * `records_per_second`: the one by the other
//! * `latency`: of each sync: with a rate from the moment it was due, with groups from its write
//! * `lateness`: really begun after it was due, or `null` with groups; a slow sync makes the next
//!   late

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::latency::{Latencies, NoHistogram};
use crate::machine::machine;
use crate::numbers::per_second;
use crate::pacer::Pacer;

/// Size of the file.
pub(crate) const FILE_BYTES: usize = 64 << 20;

/// Bytes of a write that fills it.
const FILL_BYTES: usize = 1 << 20;

/// What to write.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Made for this, and removed at the end.
    pub(crate) file: PathBuf,
    /// Of a record. A write is never larger than the file.
    pub(crate) bytes: usize,
    pub(crate) pace: Pace,
    pub(crate) seconds: u32,
}

/// When the next write begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// So many single records a second.
    Rate(u32),
    /// So many records in one write, as soon as the sync before is done.
    Group(u32),
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// The file.
    #[error("{}: {source}", file.display())]
    Io { file: PathBuf, source: io::Error },
    /// There is no room to measure in.
    #[error(transparent)]
    Histogram(#[from] NoHistogram),
}

/// What came of a plan.
pub(crate) struct Outcome {
    plan: Plan,
    records: u64,
    not_written: u64,
    elapsed: Duration,
    latency: Latencies,
    lateness: Latencies,
}

/// Carries a plan out.
pub(crate) fn run(plan: Plan) -> Result<Outcome, DiskError> {
    let file = plan.file.clone();
    let failed = |source| DiskError::Io { file: file.clone(), source };
    let open = OpenOptions::new().write(true).create_new(true).open(&file).map_err(failed)?;
    let mut outcome = Outcome {
        plan,
        records: 0,
        not_written: 0,
        elapsed: Duration::ZERO,
        latency: Latencies::new()?,
        lateness: Latencies::new()?,
    };
    let measured = fill(&open, &file).and_then(|()| outcome.measure(open));
    fs::remove_file(&file).map_err(failed)?;
    measured.map_err(failed)?;
    Ok(outcome)
}

/// Zeros to the end, durable with the file's name.
fn fill(mut file: &File, path: &Path) -> io::Result<()> {
    let zeros = vec![0; FILL_BYTES];
    (0..FILE_BYTES / FILL_BYTES).try_for_each(|_| file.write_all(&zeros))?;
    file.sync_all()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// A file and the place of the next write.
struct Log {
    file: File,
    block: Vec<u8>,
    offset: usize,
}

impl Log {
    fn append(&mut self) -> io::Result<()> {
        if self.offset + self.block.len() > FILE_BYTES {
            self.offset = 0;
        }
        // A disk could take the same bytes again for no change.
        self.block.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
        self.file.write_all_at(&self.block, self.offset as u64)?;
        self.offset += self.block.len();
        self.file.sync_data()
    }
}

impl Outcome {
    fn measure(&mut self, file: File) -> io::Result<()> {
        let time = Duration::from_secs(self.plan.seconds.into());
        let clock = Clock::start();
        let log = |records: u32| {
            let records = usize::try_from(records).unwrap_or(usize::MAX);
            Log { file, block: vec![0; self.plan.bytes.saturating_mul(records)], offset: 0 }
        };
        match self.plan.pace {
            Pace::Rate(rate) => {
                let total = u64::from(rate) * u64::from(self.plan.seconds);
                let mut log = log(1);
                self.write_at_rate(&mut log, clock, &mut Pacer::new(Duration::ZERO, rate, total))
            }
            Pace::Group(records) => {
                let mut log = log(records);
                while self.elapsed < time {
                    let from = self.elapsed;
                    log.append()?;
                    self.elapsed = clock.elapsed();
                    self.records += u64::from(records);
                    self.latency.record(self.elapsed.saturating_sub(from));
                }
                Ok(())
            }
        }
    }

    fn write_at_rate(&mut self, log: &mut Log, clock: Clock, pacer: &mut Pacer) -> io::Result<()> {
        let give_up = Duration::from_secs(self.plan.seconds.into()) * 2;
        while pacer.left() > 0 {
            let now = clock.elapsed();
            if now >= give_up {
                self.not_written = pacer.left();
                break;
            }
            let Some((_, due)) = pacer.take(now) else {
                match pacer.sleep(now) {
                    Duration::ZERO => std::hint::spin_loop(),
                    time => std::thread::sleep(time),
                }
                continue;
            };
            self.lateness.record(now.saturating_sub(due));
            log.append()?;
            self.elapsed = clock.elapsed();
            self.records += 1;
            self.latency.record(self.elapsed.saturating_sub(due));
        }
        Ok(())
    }

    /// Whether every record was written.
    pub(crate) fn is_clean(&self) -> bool {
        self.not_written == 0 && self.records > 0
    }

    /// One JSON document; its fields are described at the head of this module.
    pub(crate) fn json(&self) -> Value {
        let (rate, group) = match self.plan.pace {
            Pace::Rate(rate) => (Some(rate), None),
            Pace::Group(records) => (None, Some(records)),
        };
        json!({
            "command": "disk",
            "version": env!("CARGO_PKG_VERSION"),
            "machine": machine(),
            "plan": {
                "bytes": self.plan.bytes,
                "rate_per_second": rate,
                "group": group,
                "seconds": self.plan.seconds,
            },
            "records": self.records,
            "syncs": self.syncs(),
            "not_written": self.not_written,
            "seconds": self.elapsed.as_secs_f64(),
            "records_per_second": per_second(self.records, self.elapsed),
            "latency": self.latency.json(),
            "lateness": self.lateness.json(),
        })
    }

    fn syncs(&self) -> u64 {
        let group = match self.plan.pace {
            Pace::Rate(_) => 1,
            Pace::Group(records) => u64::from(records).max(1),
        };
        self.records / group
    }

    /// Several lines for a person.
    pub(crate) fn report(&self) -> String {
        let Outcome { records, not_written, elapsed, .. } = self;
        let mut text = format!(
            "records   {records} of {} bytes with {} syncs in {:.3} s\n\
             rate      {} records a second\n\
             latency   {}\n",
            self.plan.bytes,
            self.syncs(),
            elapsed.as_secs_f64(),
            per_second(*records, *elapsed),
            self.latency,
        );
        if !self.lateness.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "lateness  {}\nnot written {not_written}", self.lateness);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, pace: Pace) -> Outcome {
        let file = std::env::temp_dir().join(format!("loadtest-{name}-{}", std::process::id()));
        let plan = Plan { file: file.clone(), bytes: 100, pace, seconds: 1 };
        let outcome = run(plan).unwrap();
        assert!(!file.exists());
        outcome
    }

    #[test]
    fn every_tick_is_a_record_and_a_sync() {
        let outcome = outcome("rate", Pace::Rate(50));
        assert!(outcome.is_clean());
        let json = outcome.json();
        assert_eq!((&json["records"], &json["syncs"]), (&json!(50), &json!(50)));
        assert_eq!(
            (&json["latency"]["count"], &json["lateness"]["count"]),
            (&json!(50), &json!(50))
        );
        assert!(outcome.report().contains("\nnot written 0\n"), "{}", outcome.report());
    }

    #[test]
    fn a_group_shares_a_sync() {
        let outcome = outcome("group", Pace::Group(700));
        assert!(outcome.is_clean());
        let json = outcome.json();
        assert_eq!(json["records"], json["syncs"].as_u64().unwrap() * 700);
        assert_eq!(json["latency"]["count"], json["syncs"]);
        assert_eq!(json["lateness"], Value::Null);
    }

    #[test]
    fn a_file_that_exists_is_left_alone() {
        let file = tempfile();
        let plan = Plan { file: file.clone(), bytes: 1, pace: Pace::Rate(1), seconds: 1 };
        assert!(matches!(run(plan), Err(DiskError::Io { .. })));
        assert_eq!(fs::read(&file).unwrap(), b"kept");
        fs::remove_file(file).unwrap();
    }

    fn tempfile() -> PathBuf {
        let file = std::env::temp_dir().join(format!("loadtest-kept-{}", std::process::id()));
        fs::write(&file, b"kept").unwrap();
        file
    }
}
