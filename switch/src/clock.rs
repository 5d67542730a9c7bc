//! Time, the first of the four seams: everything that depends on time takes it as an argument,
//! and this is the one place where it comes from.

use std::fmt;
use std::pin::pin;
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

    /// The moment of a file's time.
    #[must_use]
    pub fn from_system_time(time: SystemTime) -> Timestamp {
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
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
        }
        for digits in [b"1331120000", b"0230120000", b"0630250000", b"06301200xx"] {
            assert_eq!(Timestamp::of_month_and_day(digits, moment("2026-11-30T12:00:00Z")), None);
        }
    }
}
