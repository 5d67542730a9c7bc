//! Time, and its form in DE7.

use std::time::Duration;

/// Time that the calling thread has spent on a core, in the program and in the system.
pub(crate) fn thread_cpu() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(spent).unwrap_or_default()
}

/// The clocks of one process: civil time for DE7, and one that never goes back for measuring.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// Starts to measure.
    #[allow(clippy::disallowed_methods, reason = "a client that measures has clocks of its own")]
    pub(crate) fn start() -> Clock {
        Clock { start: std::time::Instant::now() }
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Civil time: since 1970-01-01T00:00:00Z.
    pub(crate) fn since_epoch(&self) -> Duration {
        std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
    }

    /// The civil time as DE7.
    pub(crate) fn transmission_time(&self) -> TransmissionTime {
        TransmissionTime::at(self.since_epoch().as_secs())
    }
}

/// A moment as DE7 has it: MMDDhhmmss in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransmissionTime([u8; 10]);

impl TransmissionTime {
    /// The moment `seconds` after 1970-01-01T00:00:00Z.
    pub(crate) fn at(seconds: u64) -> TransmissionTime {
        let (_, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        let pairs = [month, day, hour, minute, second];
        TransmissionTime(crate::numbers::digits(
            pairs.into_iter().fold(0, |number, pair| number * 100 + pair),
        ))
    }

    /// MMDDhhmmss, for DE7.
    pub(crate) fn digits(&self) -> &[u8; 10] {
        &self.0
    }

    /// MMDD, for DE13.
    pub(crate) fn date(&self) -> &[u8] {
        self.0.first_chunk::<4>().map_or(&[], |date| date)
    }

    /// hhmmss, for DE12.
    pub(crate) fn time(&self) -> &[u8] {
        self.0.last_chunk::<6>().map_or(&[], |time| time)
    }
}

/// The day `seconds` after 1970-01-01T00:00:00Z as 9A has it: YYMMDD packed.
pub(crate) fn packed_date(seconds: u64) -> [u8; 3] {
    let (year, month, day) = date(seconds / 86_400);
    let packed = |number: u64| u8::try_from(number / 10 % 10 * 16 + number % 10);
    [year, month, day].map(|number| packed(number).unwrap_or_default())
}

/// Year, month and day of the month, from 1, in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year and the lengths of
/// the months repeat every five; 719,468 days lie between 0000-03-01 and 1970-01-01.
const fn date(days_since_epoch: u64) -> (u64, u64, u64) {
    let days = days_since_epoch + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let year = era * 400 + year_of_era;
    match month_from_march {
        0..10 => (year, month_from_march + 3, day),
        _ => (year + 1, month_from_march - 9, day),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_sleeps_spends_nothing_and_one_that_works_does() {
        let (clock, before) = (Clock::start(), thread_cpu());
        std::thread::sleep(Duration::from_millis(50));
        let asleep = thread_cpu() - before;
        assert!(asleep < Duration::from_millis(25), "{asleep:?}");
        while thread_cpu() - before < Duration::from_millis(40) {}
        assert!(clock.elapsed() >= Duration::from_millis(65));
    }

    #[test]
    fn the_date_is_that_of_the_calendar() {
        for (seconds, date) in [
            (0, [0x70, 0x01, 0x01]),
            (951_782_399, [0x00, 0x02, 0x28]),
            (951_782_400, [0x00, 0x02, 0x29]),
            (1_735_689_599, [0x24, 0x12, 0x31]),
            (1_735_689_600, [0x25, 0x01, 0x01]),
        ] {
            assert_eq!(packed_date(seconds), date, "{seconds}");
        }
    }

    #[test]
    fn de7_is_the_civil_time() {
        for (seconds, text) in [
            (0, "0101000000"),
            (86_399, "0101235959"),
            (951_782_399, "0228235959"),
            (951_782_400, "0229000000"),
            (951_868_800, "0301000000"),
            (1_700_000_000, "1114221320"),
            (1_709_164_800, "0229000000"),
            (1_735_689_599, "1231235959"),
            (4_107_542_400, "0301000000"),
        ] {
            let time = TransmissionTime::at(seconds);
            assert_eq!(time.digits(), text.as_bytes(), "{seconds}");
            assert_eq!([time.date(), time.time()].concat(), text.as_bytes());
        }
    }
}
