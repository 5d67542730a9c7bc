//! STAN (DE11) and RRN (DE37): no two requests of 24 hours have the same pair.
//!
//! The RRN counts on from the microsecond in which the process started, and the threads of a
//! process take turns. A later process starts behind the last RRN of an earlier one as long as
//! that sent fewer than a million requests a second. Processes that run side by side are told
//! apart by DE32, which holds the process id (see [`acquirer`]).

use crate::clock::{Clock, TransmissionTime};

/// An RRN has 12 digits: its numbers come back after 10^12 microseconds, more than 11 days.
const RRN_NUMBERS: u64 = 1_000_000_000_000;

/// What tells one request from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    /// DE7.
    pub(crate) time: TransmissionTime,
    /// DE11.
    pub(crate) stan: [u8; 6],
    /// DE37.
    pub(crate) rrn: [u8; 12],
}

/// The numbers of one thread.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    next: u64,
    stride: u64,
}

impl Numbers {
    /// For one of `threads` threads, counted from 0, of a process that started at
    /// `start_micros` since the epoch.
    pub(crate) fn new(start_micros: u64, thread: u16, threads: u16) -> Numbers {
        let first = start_micros.wrapping_add(thread.into());
        Numbers { next: first, stride: u64::from(threads).max(1) }
    }

    /// For a process with one thread.
    pub(crate) fn of_one_thread(clock: &Clock) -> Numbers {
        Numbers::new(start_micros(clock), 0, 1)
    }

    /// The numbers of the next request.
    pub(crate) fn take(&mut self, time: TransmissionTime) -> Trace {
        let number = self.next;
        self.next = number.wrapping_add(self.stride);
        Trace { time, stan: digits(number), rrn: digits(number % RRN_NUMBERS) }
    }
}

/// Microseconds since the epoch.
pub(crate) fn start_micros(clock: &Clock) -> u64 {
    u64::try_from(clock.since_epoch().as_micros()).unwrap_or_default()
}

/// DE32: eleven digits, of which the last ten are the process id.
pub(crate) fn acquirer() -> [u8; 11] {
    digits(90_000_000_000 + u64::from(std::process::id()))
}

/// The last `N` decimal digits of a number.
pub(crate) fn digits<const N: usize>(mut number: u64) -> [u8; N] {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit += u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
    text
}

/// How many a second, rounded down; 0 where no time has passed.
pub(crate) fn per_second(count: u64, time: std::time::Duration) -> u64 {
    let rate = (u128::from(count) * 1_000_000_000).checked_div(time.as_nanos());
    u64::try_from(rate.unwrap_or_default()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_are_written_with_leading_zeros_and_cut_in_front() {
        assert_eq!(&digits::<6>(42), b"000042");
        assert_eq!(&digits::<6>(91_234_567), b"234567");
        assert_eq!(&digits::<12>(999_999_999_999), b"999999999999");
    }

    #[test]
    fn threads_and_runs_of_one_second_share_no_number() {
        const REQUESTS: u64 = 1_000;
        let time = TransmissionTime::at(0);
        let mut seen = HashSet::new();
        // Two runs in the same second, the second one right after the first, over the moment at
        // which the RRN starts anew.
        let starts = [0, 4 * REQUESTS].map(|later| RRN_NUMBERS - 2_000 + later);
        for start in starts {
            for thread in 0..4 {
                let mut numbers = Numbers::new(start, thread, 4);
                for _ in 0..REQUESTS {
                    let Trace { rrn, stan, .. } = numbers.take(time);
                    assert!(rrn.iter().chain(&stan).all(u8::is_ascii_digit));
                    assert!(seen.insert(rrn), "{}", rrn.escape_ascii());
                }
            }
        }
        assert_eq!(seen.len(), 8_000);
    }

    #[test]
    fn a_thread_uses_every_stan_before_one_comes_again() {
        let mut numbers = Numbers::new(123, 0, 1);
        let time = TransmissionTime::at(0);
        let stans: HashSet<_> = (0..1_000_000).map(|_| numbers.take(time).stan).collect();
        assert_eq!(stans.len(), 1_000_000);
    }
}
