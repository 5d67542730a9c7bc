//! Latencies, kept in a histogram of nanoseconds and shown in microseconds.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

/// Longest latency that is told from longer ones, in nanoseconds: a minute.
const NANOS_MAX: u64 = 60_000_000_000;

/// Latencies are exact to three digits.
const SIGNIFICANT_DIGITS: u8 = 3;

/// What is shown: the name for a person, the one in JSON, the quantile.
const QUANTILES: [(&str, &str, f64); 6] = [
    ("p50", "p50_us", 0.5),
    ("p90", "p90_us", 0.9),
    ("p99", "p99_us", 0.99),
    ("p99.9", "p99_9_us", 0.999),
    ("p99.99", "p99_99_us", 0.999_9),
    ("max", "max_us", 1.0),
];

/// Latencies cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("no histogram of latencies: {0}")]
pub(crate) struct NoHistogram(String);

/// Any number of latencies.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub(crate) fn new() -> Result<Latencies, NoHistogram> {
        Histogram::new_with_bounds(1, NANOS_MAX, SIGNIFICANT_DIGITS)
            .map(Latencies)
            .map_err(|error| NoHistogram(error.to_string()))
    }

    /// Keeps one more.
    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds others.
    pub(crate) fn add(&mut self, other: &Latencies) -> Result<(), NoHistogram> {
        self.0.add(&other.0).map_err(|error| NoHistogram(error.to_string()))
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `count`, `p50_us`, `p90_us`, `p99_us`, `p99_9_us`, `p99_99_us` and `max_us`: microseconds
    /// with one decimal. `null` without latencies.
    pub(crate) fn json(&self) -> Value {
        if self.is_empty() {
            return Value::Null;
        }
        let mut fields = Map::from_iter([("count".to_owned(), json!(self.0.len()))]);
        for (_, name, quantile) in QUANTILES {
            fields.insert(name.to_owned(), json!(self.micros(quantile)));
        }
        Value::Object(fields)
    }

    /// With one decimal.
    fn micros(&self, quantile: f64) -> f64 {
        let tenths = (self.0.value_at_quantile(quantile) + 50) / 100;
        // A minute has 6 x 10^8 tenths.
        f64::from(u32::try_from(tenths).unwrap_or(u32::MAX)) / 10.0
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, _, quantile) in QUANTILES {
            write!(out, "{name} {} ", self.micros(quantile))?;
        }
        write!(out, "(microseconds)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_shown_in_microseconds() {
        let mut halves = [Latencies::new().unwrap(), Latencies::new().unwrap()];
        for number in 1..=10_000 {
            halves[usize::from(number % 2 == 0)].record(Duration::from_nanos(number * 50));
        }
        let [mut all, other] = halves;
        all.add(&other).unwrap();
        let json = all.json();
        assert_eq!(json["count"], 10_000);
        for (name, expected) in [
            ("p50_us", 250.0),
            ("p90_us", 450.0),
            ("p99_us", 495.0),
            ("p99_9_us", 499.5),
            ("p99_99_us", 500.0),
            ("max_us", 500.0),
        ] {
            let shown = json[name].as_f64().unwrap();
            assert!((shown - expected).abs() <= 0.3, "{name}: {shown}, not {expected}");
        }
        assert!(all.to_string().starts_with("p50 250."), "{all}");
        assert!(all.to_string().ends_with(" max 500.2 (microseconds)"), "{all}");
    }

    #[test]
    fn none_is_null_and_more_than_a_minute_is_a_minute() {
        let mut latencies = Latencies::new().unwrap();
        assert_eq!(latencies.json(), Value::Null);
        latencies.record(Duration::from_secs(3_600));
        let max = latencies.json()["max_us"].as_f64().unwrap();
        assert!((60_000_000.0..60_100_000.0).contains(&max), "{max}");
    }
}
