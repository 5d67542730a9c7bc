//! The thread that prepares the next segment, retires old ones, and looks whether all is in place.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use compact_str::CompactString;

use super::blocks;
use super::files::lock;
use super::journal::Shared;
use super::segment::SegmentInfo;
use super::sync::FailOnPanic;
use super::types::{Failed, JournalReport, Position, Sequence};

/// How often is looked whether all is in place.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What the thread is asked to do.
pub(super) enum Task {
    /// The segment of this number, if it is still the next one.
    Prepare(u32),
    /// The segments that may go, by what was asked for last.
    Retire,
    Look,
    Stop,
}

/// Which old segments may go. One goes when it lies wholly before `keep_from` and is older than
/// the time or over the size.
#[derive(Clone)]
pub struct Retention {
    /// The segment that holds this record and all after it stay: the oldest snapshot's `from`.
    pub keep_from: Sequence,
    /// A segment goes when all its records were appended before this time (seconds since 1970).
    pub created_before_unix_seconds: u64,
    /// The oldest go while all segments in use are larger than this together.
    pub bytes_max: u64,
    /// What somebody has not read yet.
    pub unread: Option<Unread>,
}

/// What the slowest reader has not read: it stays as far as there is room, and is counted where it
/// goes all the same.
#[derive(Clone)]
pub struct Unread {
    /// Who it is.
    pub reader: CompactString,
    /// The record that it has read last.
    pub after: Position,
    /// How much larger than [`Retention::bytes_max`] all segments may be for it.
    pub bytes_max: u64,
    /// How many things a record tells that are to be read.
    pub count: fn(&[u8]) -> u64,
}

/// Segments with something unread that go at once. Each is read whole to count it, and the next
/// segment and the look at the files wait behind that.
const UNREAD_AT_ONCE: usize = 2;

pub(super) fn run(shared: &Shared, tasks: &Receiver<Task>) {
    let _guard = FailOnPanic(shared);
    let mut retry: Option<Retry> = None;
    let mut retiring_fails = false;
    loop {
        match next_task(tasks) {
            Task::Prepare(number) => {
                retry = prepare(shared, number).err().map(|()| Retry { number, looks: 1, left: 1 });
            }
            Task::Look => {
                shared.check_place();
                retry = retry.and_then(|retry| retry.looked(shared));
            }
            Task::Retire => retire(shared, &mut retiring_fails),
            Task::Stop => return,
        }
    }
}

/// A segment that could not be prepared. On a full disk each try takes all the room that is left
/// for a moment, so it is tried less and less often.
struct Retry {
    number: u32,
    /// Looks from one try to the next.
    looks: u32,
    left: u32,
}

/// Looks between two tries, at most.
const RETRY_LOOKS_MAX: u32 = 60;

impl Retry {
    /// What is left to be done after one more look.
    fn looked(self, shared: &Shared) -> Option<Retry> {
        let Retry { number, looks, left } = self;
        if left > 1 {
            return Some(Retry { left: left - 1, ..self });
        }
        let looks = RETRY_LOOKS_MAX.min(looks * 2);
        prepare(shared, number).err().map(|()| Retry { number, looks, left: looks })
    }
}

fn next_task(tasks: &Receiver<Task>) -> Task {
    tasks.recv_timeout(LOOK_INTERVAL).unwrap_or_else(|error| match error {
        RecvTimeoutError::Timeout => Task::Look,
        RecvTimeoutError::Disconnected => Task::Stop,
    })
}

fn prepare(shared: &Shared, number: u32) -> Result<(), ()> {
    shared.supply.prepare(number).map_err(|failed| {
        (shared.options.observer)(&JournalReport::PrepareFailed(failed));
    })
}

/// It is asked for each second: that it fails is said once, until it works again.
fn retire(shared: &Shared, fails: &mut bool) {
    let Some(retention) = lock(&shared.to_retire).take() else { return };
    if shared.durable.check().is_err() {
        return;
    }
    // Somebody copies them: it is asked again.
    let Ok(_retiring) = shared.retiring.try_lock() else { return };
    match retire_segments(shared, &retention) {
        Ok(retired) => {
            *fails = false;
            retired.iter().for_each(|retired| (shared.options.observer)(retired));
        }
        Err(failed) => {
            if !std::mem::replace(fails, true) {
                (shared.options.observer)(&JournalReport::RetireFailed(failed));
            }
        }
    }
}

/// What went, if anything did.
fn retire_segments(
    shared: &Shared,
    retention: &Retention,
) -> Result<Option<JournalReport>, Failed> {
    let synced = shared.durable.synced();
    let victims = victims(&lock(&shared.catalogue), retention, synced);
    let Some(oldest) = victims.last().map(|info| info.number + 1) else { return Ok(None) };
    let of = retention.unread.as_ref();
    let unread = of.map_or(0, |unread| count_unread(shared, &victims, unread));
    let reader = of.filter(|_| unread > 0).map(|unread| unread.reader.clone());
    mark_oldest(shared, oldest)?;
    for info in &victims {
        lock(&shared.catalogue).remove(&info.number);
        let retired = shared.supply.retire(info.number, info.bytes);
        retired.map_err(|error| Failed::new(&shared.options.directory, error))?;
    }
    Ok(Some(JournalReport::Retired { segments: victims.len(), oldest, unread, reader }))
}

/// What goes unread with these segments. What cannot be read any more is not counted.
fn count_unread(shared: &Shared, victims: &[SegmentInfo], unread: &Unread) -> u64 {
    let mut count = 0;
    for info in victims.iter().filter(|info| info.number >= unread.after.segment) {
        for block in 0..blocks::count(info) {
            let read = shared.read_block(info, block, &mut |_, at, payload| {
                if at > unread.after {
                    count += (unread.count)(payload);
                }
                ControlFlow::Continue(())
            });
            if let Err(failed) = read {
                (shared.options.observer)(&JournalReport::RetireFailed(failed));
            }
        }
    }
    count
}

/// The mark must say durably which segment is the oldest before one before it goes: otherwise a
/// lost segment and a retired one would look alike.
fn mark_oldest(shared: &Shared, oldest: u32) -> Result<(), Failed> {
    let mut mark = lock(&shared.mark);
    let path = mark.path.clone();
    let synced = mark.mark.synced;
    let file = mark.write_both(synced, oldest).map_err(|error| Failed::new(&path, error))?;
    // Syncs of the journal go on meanwhile.
    drop(mark);
    file.sync_data().map_err(|error| Failed::new(&path, error))
}

/// The oldest that may go now: after them, others may when it is asked again.
fn victims(
    catalogue: &BTreeMap<u32, SegmentInfo>,
    retention: &Retention,
    synced: Sequence,
) -> Vec<SegmentInfo> {
    let keep_from = retention.keep_from.min(synced.next());
    let mut total: u64 = catalogue.values().map(|info| info.bytes).sum();
    let (mut victims, mut unread) = (Vec::new(), 0);
    // Paired with its successor, so the current segment is never one of them.
    for (info, after) in catalogue.values().zip(catalogue.values().skip(1)) {
        let old = after.created_unix_seconds < retention.created_before_unix_seconds;
        let free = after.first <= keep_from;
        let reader = retention.unread.as_ref();
        let reader = reader.filter(|reader| reader.after.segment <= info.number);
        let more = reader.map_or(0, |reader| reader.bytes_max);
        let large = total > retention.bytes_max.saturating_add(more);
        if !free || !(old || large) || reader.is_some() && unread == UNREAD_AT_ONCE {
            break;
        }
        total -= info.bytes;
        unread += usize::from(reader.is_some());
        victims.push(*info);
    }
    victims
}
