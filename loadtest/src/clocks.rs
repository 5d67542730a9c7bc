//! `clocks`: how much time a machine takes away from who runs on it. One thread on each core
//! reads the clock again and again; what lies between two readings, if it is more than
//! [`GAP`], went to others.

use std::io;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

use crate::clock::Clock;

/// Two readings one after the other take far less.
const GAP: Duration = Duration::from_micros(5);

/// Watches each core that this process may use, all at the same time. Gives
/// `{"lost_percent": {"CORE": P}}`.
pub(crate) fn watch(time: Duration) -> io::Result<Value> {
    let allowed = sched_getaffinity(None)?;
    let cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    let lost = std::thread::scope(|scope| {
        let watching: Vec<_> =
            cores.map(|core| (core, scope.spawn(move || lost(core, time)))).collect();
        let mut all = serde_json::Map::new();
        for (core, thread) in watching {
            let lost = thread.join().map_err(|_| io::Error::other("a thread was given up"))??;
            let percent = lost.as_secs_f64() / time.as_secs_f64() * 100.0;
            all.insert(core.to_string(), json!((percent * 100.0).round() / 100.0));
        }
        Ok::<_, io::Error>(all)
    })?;
    Ok(json!({ "lost_percent": lost }))
}

fn lost(core: usize, time: Duration) -> io::Result<Duration> {
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only)?;
    let clock = Clock::start();
    let (mut lost, mut before) = (Duration::ZERO, Duration::ZERO);
    while before < time {
        let now = clock.elapsed();
        lost += Some(now.saturating_sub(before)).filter(|gap| *gap > GAP).unwrap_or_default();
        before = now;
    }
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_core_has_a_share_of_at_most_all() {
        let report = watch(Duration::from_millis(20)).unwrap();
        let shares = report["lost_percent"].as_object().unwrap();
        assert_eq!(shares.len(), std::thread::available_parallelism().unwrap().get());
        // The last gap may reach over the end.
        assert!(shares.values().all(|share| share.as_f64().unwrap() >= 0.0), "{report}");
    }
}
