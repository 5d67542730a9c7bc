//! What is counted and measured, and how it is printed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use iso_specs::Message;

use super::{Plan, Until};

/// Longest latency that is told from longer ones, in microseconds.
const LATENCY_MICROS_MAX: u64 = 60_000_000;

/// Latencies are exact to three digits.
const SIGNIFICANT_DIGITS: u8 = 3;

/// How many wrong answers and broken connections are shown.
const EXAMPLES_MAX: usize = 3;

/// Latencies cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("no histogram of latencies: {0}")]
pub(crate) struct NoHistogram(String);

/// Counts and latencies of some requests.
pub(crate) struct Tally {
    /// Microseconds from just before the write to just after the read.
    latencies: Histogram<u64>,
    /// By DE39; "--" where it is absent.
    codes: BTreeMap<[u8; 2], u64>,
    sent: u64,
    answered: u64,
    wrong: u64,
    missing: u64,
    broken: u64,
    /// When the last answer came, since the start.
    last_answer: Duration,
    examples: Vec<String>,
}

impl Tally {
    /// Of no requests.
    pub(super) fn new() -> Result<Tally, NoHistogram> {
        let latencies = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, SIGNIFICANT_DIGITS);
        Ok(Tally {
            latencies: latencies.map_err(|error| NoHistogram(error.to_string()))?,
            codes: BTreeMap::new(),
            sent: 0,
            answered: 0,
            wrong: 0,
            missing: 0,
            broken: 0,
            last_answer: Duration::ZERO,
            examples: Vec::new(),
        })
    }

    /// Requests sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Counts a request, and says which of `choices` has its turn.
    pub(super) fn sent_in_turns(&mut self, choices: usize) -> usize {
        let turn = usize::try_from(self.sent).unwrap_or_default();
        self.sent += 1;
        turn.checked_rem(choices).unwrap_or_default()
    }

    /// Counts the answer to a request, right or wrong, which came at `now`.
    pub(super) fn answered(&mut self, message: &Message<'_>, latency: Duration, now: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latencies.saturating_record(micros);
        let code = message.text::<2>(39).and_then(|code| code.as_slice().try_into().ok());
        *self.codes.entry(code.unwrap_or(*b"--")).or_default() += 1;
        self.answered += 1;
        self.last_answer = self.last_answer.max(now);
    }

    /// Counts an answer that is wrong, or that nobody asked for.
    pub(super) fn wrong(&mut self, message: &Message<'_>) {
        self.wrong += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("wrong: {message}"));
        }
    }

    /// Counts requests to which no answer came.
    pub(super) fn missing(&mut self, requests: usize) {
        self.missing += u64::try_from(requests).unwrap_or(u64::MAX);
    }

    /// Notes why a connection ended early.
    pub(super) fn broken(&mut self, reason: &str) {
        self.broken += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("a connection broke: {reason}"));
        }
    }

    /// Adds the counts and latencies of other requests.
    pub(super) fn add(&mut self, other: &Tally) -> Result<(), NoHistogram> {
        let added = self.latencies.add(&other.latencies);
        added.map_err(|error| NoHistogram(error.to_string()))?;
        for (&code, count) in &other.codes {
            *self.codes.entry(code).or_default() += count;
        }
        self.sent += other.sent;
        self.answered += other.answered;
        self.wrong += other.wrong;
        self.missing += other.missing;
        self.broken += other.broken;
        self.last_answer = self.last_answer.max(other.last_answer);
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.iter().take(room).cloned());
        Ok(())
    }
}

/// A plan and what came of it.
pub(crate) struct Outcome {
    pub(super) plan: Plan,
    pub(super) tally: Tally,
}

impl Outcome {
    /// Whether every request was sent, answered and approved.
    pub(crate) fn is_clean(&self) -> bool {
        let Tally { sent, answered, wrong, missing, broken, .. } = self.tally;
        let all_sent = match self.plan.until {
            Until::Requests(requests) => sent == requests,
            Until::Elapsed(_) => sent > 0,
        };
        all_sent && answered == sent && wrong == 0 && missing == 0 && broken == 0
    }

    /// Several lines for a person.
    pub(crate) fn report(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let (Plan { connections, pipeline, threads, .. }, tally) = (&self.plan, &self.tally);
        writeln!(
            out,
            "closed loop, {connections} connection(s) with {pipeline} in flight each, \
             {threads} thread(s)"
        )?;
        let seconds = tally.last_answer.as_secs_f64();
        writeln!(out, "sent      {}", tally.sent)?;
        writeln!(out, "answered  {} in {seconds:.3} s", tally.answered)?;
        writeln!(out, "rate      {} a second", per_second(tally.answered, tally.last_answer))?;
        write!(out, "latency  ")?;
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
            write!(out, " {name} {}", tally.latencies.value_at_quantile(quantile))?;
        }
        writeln!(out, " max {} (microseconds)", tally.latencies.max())?;
        for (code, count) in &tally.codes {
            writeln!(out, "DE39 {}   {count}", code.escape_ascii())?;
        }
        writeln!(out, "missing   {}", tally.missing)?;
        writeln!(out, "wrong     {}", tally.wrong)?;
        tally.examples.iter().try_for_each(|example| writeln!(out, "{example}"))?;
        if tally.codes.keys().any(|code| code != b"00") {
            writeln!(out, "cards that are not active: `loadtest check` brings them back")?;
        }
        Ok(())
    }
}

fn per_second(count: u64, time: Duration) -> u128 {
    (u128::from(count) * 1_000_000).checked_div(time.as_micros()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use iso_specs::{Spec, decode};

    use super::*;

    fn plan(until: Until) -> Plan {
        Plan {
            address: "127.0.0.1:1".parse().unwrap(),
            connections: 2,
            pipeline: 8,
            until,
            threads: 1,
            stragglers: Duration::ZERO,
        }
    }

    /// A hundred answers of 1 to 100 ms over two seconds, the last one with `code`.
    fn tally(code: &str) -> Tally {
        let spec = Spec::from_toml(Spec::builtin(crate::DIALECT).unwrap()).unwrap();
        let mut tallies = [Tally::new().unwrap(), Tally::new().unwrap()];
        for number in 1..=100 {
            let tally = &mut tallies[usize::from(number % 2 == 0)];
            let code = if number == 100 { code } else { "00" };
            let frame = format!("01100000000002000000{code}");
            let message = decode(&spec, frame.as_bytes()).unwrap().message;
            tally.sent_in_turns(4);
            let [latency, now] = [number, number * 20].map(Duration::from_millis);
            tally.answered(&message, latency, now);
        }
        let [mut all, other] = tallies;
        all.add(&other).unwrap();
        all
    }

    #[test]
    fn a_clean_run_reads_like_this() {
        let outcome = Outcome { plan: plan(Until::Requests(100)), tally: tally("00") };
        assert!(outcome.is_clean());
        assert_eq!(
            outcome.report(),
            "closed loop, 2 connection(s) with 8 in flight each, 1 thread(s)\n\
             sent      100\n\
             answered  100 in 2.000 s\n\
             rate      50 a second\n\
             latency   p50 50015 p90 90047 p99 99007 p99.9 100031 max 100031 (microseconds)\n\
             DE39 00   100\n\
             missing   0\n\
             wrong     0\n"
        );
    }

    #[test]
    fn declines_are_counted_and_the_way_back_is_named() {
        let outcome = Outcome { plan: plan(Until::Requests(100)), tally: tally("75") };
        let report = outcome.report();
        assert!(report.contains("DE39 00   99\nDE39 75   1\n"), "{report}");
        assert!(report.contains("`loadtest check` brings them back"), "{report}");
    }

    #[test]
    fn a_run_is_clean_only_if_nothing_is_wrong_missing_broken_or_unsent() {
        let clean = |change: fn(&mut Tally)| {
            let mut tally = tally("00");
            change(&mut tally);
            Outcome { plan: plan(Until::Requests(100)), tally }.is_clean()
        };
        assert!(clean(|_| ()));
        assert!(!clean(|tally| tally.wrong = 1));
        assert!(!clean(|tally| tally.missing(1)));
        assert!(!clean(|tally| tally.broken("gone")));
        assert!(!clean(|tally| tally.sent = 99));
        assert!(!clean(|tally| tally.answered = 99));
        let nothing = Outcome {
            plan: plan(Until::Elapsed(Duration::from_secs(1))),
            tally: Tally::new().unwrap(),
        };
        assert!(!nothing.is_clean());
    }

    #[test]
    fn cards_take_turns() {
        let mut tally = Tally::new().unwrap();
        let turns: Vec<_> = (0..6).map(|_| tally.sent_in_turns(4)).collect();
        assert_eq!(turns, [0, 1, 2, 3, 0, 1]);
    }
}
