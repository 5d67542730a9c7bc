//! The simulated disk: records that were appended in memory, written to the file, and synced,
//! and what a crash leaves of them.

use std::collections::BTreeSet;

use fastrand::Rng;
use switch::store::StoreError;
use switch::store::record::{self, RecordId};
use tokio::sync::oneshot;

use super::plan::{Ending, Moment, When};

/// What is told to those who wait for a sync.
pub type Synced = Result<(), StoreError>;

/// Whether it still works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Working,
    /// A write or a sync failed; the process will end.
    Failed,
    /// The process has ended: nothing that happens now was ever seen.
    Dead {
        survivors: usize,
    },
}

/// The disk of one life of the switch. Record `n` is at place `n - 1`.
pub struct Disk {
    pub records: Vec<Vec<u8>>,
    /// Numbers of the records that tell a reader something. Most do not, and a reader that has all
    /// would read them again and again.
    pub telling: BTreeSet<u64>,
    pub written: u64,
    pub synced: u64,
    pub condition: Condition,
    pub waiters: Vec<(u64, oneshot::Sender<Synced>)>,
    /// The last removal of a card.
    pub last_removal: u64,
    stop: Option<(When, Ending)>,
    dice: Rng,
}

impl Disk {
    /// All that is read at start is synced.
    pub fn new(records: Vec<Vec<u8>>, stop: Option<(When, Ending)>, dice: Rng) -> Disk {
        let synced = records.len() as u64;
        let tell = |number: &u64| tells(*number, &records[*number as usize - 1]);
        Disk {
            telling: (1..=synced).filter(tell).collect(),
            records,
            written: synced,
            synced,
            condition: Condition::Working,
            waiters: Vec::new(),
            last_removal: 0,
            stop,
            dice,
        }
    }

    pub fn appended(&self) -> u64 {
        self.records.len() as u64
    }

    pub fn has_unsynced(&self) -> bool {
        self.synced < self.appended()
    }

    pub fn append(&mut self, record: Vec<u8>) -> u64 {
        let number = self.appended() + 1;
        if tells(number, &record) {
            self.telling.insert(number);
        }
        self.records.push(record);
        number
    }

    pub fn failed(&self) -> Synced {
        match self.condition {
            Condition::Working => Ok(()),
            _ => Err(StoreError::Failed("the simulated disk".to_owned())),
        }
    }

    pub fn is_dead(&self) -> bool {
        matches!(self.condition, Condition::Dead { .. })
    }

    /// How this life ends, if it ends at this moment.
    pub fn ends_at(&mut self, now: Moment) -> Option<Ending> {
        match &mut self.stop {
            Some((When::At { moment, times }, ending)) if *moment == now => {
                *times = times.saturating_sub(1);
                (*times == 0).then_some(*ending)
            }
            _ => None,
        }
    }

    /// What is left when the process ends now.
    pub fn survivors(&mut self, ending: Ending) -> usize {
        let (synced, written) = (self.synced as usize, self.written as usize);
        match ending {
            Ending::Killed => written,
            Ending::PowerLost | Ending::DiskFailed => match self.dice.bool() {
                true => synced,
                false => self.dice.usize(synced..=written),
            },
        }
    }

    /// A time for one sync.
    pub fn sync_millis(&mut self, max: u64) -> u64 {
        self.dice.u64(0..=max)
    }

    /// Tells those who wait for a record up to `through`, in the order in which they came.
    pub fn answer(&mut self, through: u64, answer: &Synced) {
        for (_, waiter) in self.waiters.extract_if(.., |(record, _)| *record <= through) {
            // Who has gone needs no answer.
            let _ = waiter.send(answer.clone());
        }
    }
}

fn tells(number: u64, entry: &[u8]) -> bool {
    !record::told(RecordId(number), entry).expect("a record as it was written").is_empty()
}
