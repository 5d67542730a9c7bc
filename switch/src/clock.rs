//! Time, the first of the four seams: everything that depends on time takes it as an argument,
//! and this is the one place where it comes from.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::future::FutureExt;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use tokio::time::timeout;

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment `micros` microseconds after the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Timestamp {
        Timestamp(micros)
    }

    /// The moment `seconds` seconds after the Unix epoch.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Timestamp {
        Timestamp(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The moment that a time without a year (MMDDhhmmss, in UTC) stands for: of the years around
    /// `near`, the one in which it is nearest to it. `None` if there is no such time.
    #[must_use]
    pub fn of_month_and_day(digits: &[u8; 10], near: Timestamp) -> Option<Timestamp> {
        let pairs = digits.as_chunks::<2>().0.iter().map(|pair| {
            let text = std::str::from_utf8(pair).ok()?;
            text.parse::<i8>().ok()
        });
        let pairs = pairs.collect::<Option<Vec<i8>>>()?;
        let [month, day, hour, minute, second] = *pairs.as_slice() else { return None };
        let near_time = jiff::Timestamp::from_microsecond(near.0).ok()?;
        let year = near_time.to_zoned(TimeZone::UTC).year();
        let of_year = |year| {
            let civil = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
            let time = civil.to_zoned(TimeZone::UTC).ok()?;
            Some(Timestamp(time.timestamp().as_microsecond()))
        };
        let moments = [year - 1, year, year + 1].into_iter().filter_map(of_year);
        moments.min_by_key(|moment| moment.0.abs_diff(near.0))
    }

    /// The same the other way round: MMDDhhmmss, in UTC.
    #[must_use]
    pub fn month_and_day(self) -> [u8; 10] {
        let time = jiff::Timestamp::from_microsecond(self.0).unwrap_or_default();
        let text = time.strftime("%m%d%H%M%S").to_string();
        let digits = text.as_bytes().try_into();
        debug_assert!(digits.is_ok(), "each of the five has two digits");
        digits.unwrap_or(*b"0101000000")
    }

    /// The moment of a file's time.
    #[must_use]
    pub fn from_system_time(time: SystemTime) -> Timestamp {
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }

    /// The moment so many microseconds later, or earlier.
    #[must_use]
    pub const fn shifted(self, micros: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(micros))
    }

    /// Time from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// RFC 3339, in UTC.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => f.write_str("-"),
        }
    }
}

/// What `future` gives, or `None` if that takes longer than `limit`. What is there at once costs no
/// timer.
pub async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    match future.as_mut().now_or_never() {
        Some(output) => Some(output),
        None => timeout(limit, future).await.ok(),
    }
}

/// How far civil and monotonic time may move apart between two looks: no operator or time service
/// that slews a clock does that.
const JUMP_MICROS: i64 = 60_000_000;

/// Whether the civil time can be believed when something is deleted by its age. After a jump it is
/// not, for a while: who sets a clock wrongly for some seconds must lose nothing by it.
#[derive(Debug)]
pub struct SettledClock {
    /// Microseconds that the civil time was ahead of the monotonic one at the last look.
    ahead: AtomicI64,
    /// The monotonic time, in microseconds, from which on it is believed again.
    believed_from: AtomicI64,
    settle_micros: i64,
}

impl SettledClock {
    /// Begins with the times of now, and believes them.
    #[must_use]
    pub fn new(clock: &dyn Clock, settle: Duration) -> SettledClock {
        SettledClock {
            ahead: AtomicI64::new(ahead(clock)),
            believed_from: AtomicI64::new(0),
            settle_micros: micros(settle),
        }
    }

    /// Looks at both times, once a second; by how many microseconds the civil time has jumped since
    /// the last look, if it has.
    pub fn look(&self, clock: &dyn Clock) -> Option<i64> {
        let now = ahead(clock);
        let jump = now.saturating_sub(self.ahead.swap(now, Ordering::Relaxed));
        if jump.abs() <= JUMP_MICROS {
            return None;
        }
        self.doubt(clock);
        Some(jump)
    }

    /// Believes the civil time only after a while.
    pub fn doubt(&self, clock: &dyn Clock) {
        let until = micros(clock.monotonic()).saturating_add(self.settle_micros);
        self.believed_from.store(until, Ordering::Relaxed);
    }

    /// Whether the civil time is believed, and has not jumped since the last look.
    #[must_use]
    pub fn is_settled(&self, clock: &dyn Clock) -> bool {
        let jump = ahead(clock).saturating_sub(self.ahead.load(Ordering::Relaxed));
        let from = self.believed_from.load(Ordering::Relaxed);
        jump.abs() <= JUMP_MICROS && micros(clock.monotonic()) >= from
    }
}

fn ahead(clock: &dyn Clock) -> i64 {
    clock.now().micros().saturating_sub(micros(clock.monotonic()))
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The civil time, for records, expiry dates and windows. It may jump.
    fn now(&self) -> Timestamp;

    /// A time that never goes back, for measuring how long something took.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::from_system_time(SystemTime::now())
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn monotonic(&self) -> Duration {
        use std::sync::OnceLock;
        use std::time::Instant;
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Civil and monotonic time, in seconds.
    struct Set(AtomicI64, AtomicI64);

    impl Clock for Set {
        fn now(&self) -> Timestamp {
            Timestamp::from_seconds(self.0.load(Ordering::Relaxed))
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(u64::try_from(self.1.load(Ordering::Relaxed)).unwrap())
        }
    }

    #[test]
    fn after_a_jump_a_clock_is_not_believed_for_a_while() {
        let clock = Set(AtomicI64::new(1_000_000), AtomicI64::new(5));
        let settled = SettledClock::new(&clock, Duration::from_secs(3_600));
        let pass = |civil: i64, monotonic: i64| {
            clock.0.fetch_add(civil, Ordering::Relaxed);
            clock.1.fetch_add(monotonic, Ordering::Relaxed);
        };
        assert!(settled.is_settled(&clock));
        // A slewed clock, and hours without a look.
        pass(20_000, 20_001);
        assert!(settled.is_settled(&clock));
        assert_eq!(settled.look(&clock), None);
        // Eight days ahead for two seconds: seen before the next look, too.
        pass(8 * 86_400, 1);
        assert!(!settled.is_settled(&clock));
        assert_eq!(settled.look(&clock), Some((8 * 86_400 - 1) * 1_000_000));
        assert!(!settled.is_settled(&clock));
        pass(-8 * 86_400, 1);
        assert!(settled.look(&clock).is_some());
        pass(3_599, 3_599);
        assert_eq!(settled.look(&clock), None);
        assert!(!settled.is_settled(&clock));
        pass(1, 1);
        assert!(settled.is_settled(&clock));
        settled.doubt(&clock);
        assert!(!settled.is_settled(&clock));
    }

    #[test]
    fn a_time_without_a_year_is_the_nearest() {
        let moment = |text: &str| {
            let time: jiff::Timestamp = text.parse().unwrap();
            Timestamp::from_seconds(time.as_second())
        };
        let cases = [
            (b"1231235959", "2027-01-01T00:00:10Z", "2026-12-31T23:59:59Z"),
            (b"0101000001", "2026-12-31T23:59:50Z", "2027-01-01T00:00:01Z"),
            (b"0630120000", "2026-11-30T12:00:00Z", "2026-06-30T12:00:00Z"),
            (b"0229120000", "2028-02-28T12:00:00Z", "2028-02-29T12:00:00Z"),
        ];
        for (digits, near, expected) in cases {
            let found = Timestamp::of_month_and_day(digits, moment(near));
            assert_eq!(found, Some(moment(expected)), "{near}");
            assert_eq!(moment(expected).month_and_day(), *digits);
        }
        for digits in [b"1331120000", b"0230120000", b"0630250000", b"06301200xx"] {
            assert_eq!(Timestamp::of_month_and_day(digits, moment("2026-11-30T12:00:00Z")), None);
        }
    }
}
