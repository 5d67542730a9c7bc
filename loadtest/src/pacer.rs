//! When requests are due: at a fixed rate from a start, never moved by what came before.
//!
//! Timers of the system wake late by the slack of the kernel, 50 microseconds. So a sleep ends
//! [`SPIN`] before a request is due, and the rest is waited for awake.

use std::time::Duration;

/// The part of a wait that is spent awake.
pub(crate) const SPIN: Duration = Duration::from_micros(80);

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The schedule of a run, on the time scale of its clock.
pub(crate) struct Pacer {
    start: Duration,
    per_second: u32,
    total: u64,
    taken: u64,
}

impl Pacer {
    /// `total` requests, the first one at `start`. A rate of zero counts as one.
    pub(crate) fn new(start: Duration, per_second: u32, total: u64) -> Pacer {
        Pacer { start, per_second: per_second.max(1), total, taken: 0 }
    }

    /// When the next request is due; `None` behind the last one.
    pub(crate) fn next(&self) -> Option<Duration> {
        (self.taken < self.total).then(|| {
            let rate = u64::from(self.per_second);
            let (seconds, rest) = (self.taken / rate, self.taken % rate);
            // Of less than 2^32 requests: no overflow, and no error that grows with time.
            let nanos = rest * NANOS_PER_SECOND / rate;
            self.start + Duration::from_secs(seconds) + Duration::from_nanos(nanos)
        })
    }

    /// Takes the next request if it is due at `now`: its number from 0, and when it was due.
    pub(crate) fn take(&mut self, now: Duration) -> Option<(u64, Duration)> {
        let due = self.next().filter(|due| *due <= now)?;
        self.taken += 1;
        Some((self.taken - 1, due))
    }

    /// How long may be slept at `now`; zero while it is time to wait awake.
    pub(crate) fn sleep(&self, now: Duration) -> Duration {
        self.next().map_or(Duration::MAX, |due| due.saturating_sub(now).saturating_sub(SPIN))
    }

    /// Requests that were not taken.
    pub(crate) fn left(&self) -> u64 {
        self.total - self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_does_not_drift() {
        let start = Duration::from_millis(3);
        let mut pacer = Pacer::new(start, 3, 3_000_001);
        let mut last = None;
        while let Some((number, due)) = pacer.take(Duration::MAX) {
            assert!(last < Some(due));
            if number.is_multiple_of(3) {
                assert_eq!(due, start + Duration::from_secs(number / 3));
            }
            last = Some(due);
        }
        assert_eq!(last, Some(start + Duration::from_secs(1_000_000)));
        assert_eq!((pacer.left(), pacer.next()), (0, None));
    }

    #[test]
    fn what_is_late_stays_due_when_it_was() {
        let micros = Duration::from_micros;
        let mut pacer = Pacer::new(micros(1_000), 10_000, 4);
        assert_eq!(pacer.take(micros(999)), None);
        assert_eq!(pacer.take(micros(1_000)), Some((0, micros(1_000))));
        assert_eq!(pacer.take(micros(1_050)), None);
        // A stall of two intervals: both are due now, each at its own time.
        assert_eq!(pacer.take(micros(1_250)), Some((1, micros(1_100))));
        assert_eq!(pacer.take(micros(1_250)), Some((2, micros(1_200))));
        assert_eq!(pacer.take(micros(1_250)), None);
        assert_eq!(pacer.left(), 1);
    }

    #[test]
    fn the_last_part_of_a_wait_is_awake() {
        let micros = Duration::from_micros;
        let pacer = Pacer::new(micros(1_000), 1, 1);
        assert_eq!(pacer.sleep(micros(0)), micros(1_000) - SPIN);
        assert_eq!(pacer.sleep(micros(990)), Duration::ZERO);
        assert_eq!(pacer.sleep(micros(2_000)), Duration::ZERO);
        assert_eq!(Pacer::new(micros(0), 1, 0).sleep(micros(0)), Duration::MAX);
    }
}
