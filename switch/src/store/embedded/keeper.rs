//! The thread that prepares the next segment, retires old ones, and looks whether all is in place.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::files::lock;
use super::journal::Shared;
use super::segment::SegmentInfo;
use super::sync::FailOnPanic;
use super::types::{Event, Failed, Sequence};

/// How often is looked whether all is in place, and how long to wait before the next segment is
/// tried again.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What the thread is asked to do.
pub(super) enum Task {
    /// The segment of this number, if it is still the next one.
    Prepare(u32),
    Retire(Retention),
    Look,
    Stop,
}

/// Which old segments may go. One goes when it lies wholly before `keep_from` and is older than
/// the time or over the size.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// The segment that holds this record and all after it stay: the oldest snapshot's `from`.
    pub keep_from: Sequence,
    /// A segment goes when all its records were appended before this time (seconds since 1970).
    pub created_before_unix_seconds: u64,
    /// The oldest go while all segments in use are larger than this together.
    pub bytes_max: u64,
}

pub(super) fn run(shared: &Shared, tasks: &Receiver<Task>) {
    let _guard = FailOnPanic(shared);
    let mut retry = None;
    loop {
        match next_task(tasks) {
            Task::Prepare(number) => retry = prepare(shared, number).err().map(|()| number),
            Task::Look => {
                shared.check_place();
                retry = retry.filter(|number| prepare(shared, *number).is_err());
            }
            Task::Retire(retention) => retire(shared, &retention),
            Task::Stop => return,
        }
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
        (shared.options.observer)(&Event::PrepareFailed(failed));
    })
}

fn retire(shared: &Shared, retention: &Retention) {
    if shared.durable.check().is_err() {
        return;
    }
    match retire_segments(shared, retention) {
        Ok((0, _)) => {}
        Ok((segments, oldest)) => {
            (shared.options.observer)(&Event::Retired { segments, oldest });
        }
        Err(failed) => (shared.options.observer)(&Event::RetireFailed(failed)),
    }
}

/// How many went, and the oldest left.
fn retire_segments(shared: &Shared, retention: &Retention) -> Result<(usize, u32), Failed> {
    let synced = shared.durable.synced();
    let victims = victims(&lock(&shared.catalogue), retention, synced);
    let Some(oldest) = victims.last().map(|info| info.number + 1) else { return Ok((0, 0)) };
    mark_oldest(shared, oldest)?;
    for info in &victims {
        lock(&shared.catalogue).remove(&info.number);
        let retired = shared.supply.retire(info.number, info.bytes);
        retired.map_err(|error| Failed::new(&shared.options.directory, error))?;
    }
    Ok((victims.len(), oldest))
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

fn victims(
    catalogue: &BTreeMap<u32, SegmentInfo>,
    retention: &Retention,
    synced: Sequence,
) -> Vec<SegmentInfo> {
    let keep_from = retention.keep_from.min(synced.next());
    let mut total: u64 = catalogue.values().map(|info| info.bytes).sum();
    let mut victims = Vec::new();
    // Paired with its successor, so the current segment is never one of them.
    for (info, after) in catalogue.values().zip(catalogue.values().skip(1)) {
        let old = after.created_unix_seconds < retention.created_before_unix_seconds;
        let free = after.first <= keep_from;
        if !free || !(old || total > retention.bytes_max) {
            break;
        }
        total -= info.bytes;
        victims.push(*info);
    }
    victims
}
