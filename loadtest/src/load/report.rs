//! What is counted and measured, and how it is printed.
//!
//! The JSON report has these fields. Times are in microseconds with one decimal where the name
//! ends in `_us`, and in seconds where it is `seconds`; what does not apply is `null`. Latencies
//! are objects with `count`, `p50_us`, `p90_us`, `p99_us`, `p99_9_us`, `p99_99_us` and `max_us`.
//!
//! * `command`, `version`: `run`, and the version of this program
//! * `machine`: `cores` and `cpu_model`
//! * `plan`: `address`, `connections`, `pipeline`, `threads`, `rate_per_second` (open loop),
//!   `seconds` or `requests`, `cards`, `wrong_pins_percent`, `chip`, `seed`, `dialect`,
//!   `echo`
//! * `sent`, `answered`: requests, and answers that belong to one, right or wrong
//! * `seconds`: from the start to the last answer
//! * `rate_per_second`: `answered` by `seconds`
//! * `right_pin`, `wrong_pin`: latencies: from the moment the request was due in an open loop,
//!   from just before its connection was first written to after it was made in a closed one
//! * `lateness`: open loop: how long after it was due each request was in its socket, to the last
//!   byte; without those of which something never left
//! * `generator`: what this program took of the cores while it measured: `cpu_seconds` in itself
//!   and in the system, and `cpu_percent` of one core for each thread. An open loop waits awake
//!   for what is nearly due, and that counts too. In a closed loop near 100 the rate is its own
//! * `de39`: answers by DE39, `--` where it is absent
//! * `missing`: requests without an answer
//! * `unexpected`: answers that are not what the PIN calls for, or that belong to no request
//! * `not_sent`: open loop: requests that had no room in the window when they were due
//! * `broken`: connections that ended early
//! * `settled`: right PINs sent after the measurement to cards whose last PIN was wrong; counted
//!   nowhere else, but in `missing` and `unexpected`
//! * `as_expected`: whether all was sent and answered as expected: the exit code is 0
//! * `examples`: texts of the first unexpected answers, masked, and of why connections broke

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use iso_specs::Message;
use serde_json::{Map, Value, json};

use super::{Plan, Until};
use crate::latency::{Latencies, NoHistogram};
use crate::machine::machine;
use crate::numbers::per_second;

/// How many wrong answers and broken connections are shown.
const EXAMPLES_MAX: usize = 3;

/// Counts and latencies of some requests.
pub(crate) struct Tally {
    right_pin: Latencies,
    wrong_pin: Latencies,
    lateness: Latencies,
    /// By DE39; "--" where it is absent.
    codes: BTreeMap<[u8; 2], u64>,
    sent: u64,
    answered: u64,
    settled: u64,
    unexpected: u64,
    missing: u64,
    not_sent: u64,
    broken: u64,
    /// What the threads took of the cores.
    cpu: Duration,
    /// How long the threads measured, all added up.
    worked: Duration,
    /// When the last answer came, since the start.
    last_answer: Duration,
    examples: Vec<String>,
}

impl Tally {
    /// Of no requests.
    pub(super) fn new() -> Result<Tally, NoHistogram> {
        Ok(Tally {
            right_pin: Latencies::new()?,
            wrong_pin: Latencies::new()?,
            lateness: Latencies::new()?,
            codes: BTreeMap::new(),
            sent: 0,
            answered: 0,
            settled: 0,
            unexpected: 0,
            missing: 0,
            not_sent: 0,
            broken: 0,
            cpu: Duration::ZERO,
            worked: Duration::ZERO,
            last_answer: Duration::ZERO,
            examples: Vec::new(),
        })
    }

    /// Counts a request.
    pub(super) fn sent(&mut self) {
        self.sent += 1;
    }

    /// Keeps how long after it was due a request was sent.
    pub(super) fn sent_late(&mut self, lateness: Duration) {
        self.lateness.record(lateness);
    }

    /// Counts requests that were due and were not sent.
    pub(super) fn not_sent(&mut self, requests: u64) {
        self.not_sent += requests;
    }

    /// Counts the answer to a request, right or wrong: its latency reaches from the first to the
    /// second moment.
    pub(super) fn answered(
        &mut self,
        message: &Message<'_>,
        is_wrong_pin: bool,
        (from, now): (Duration, Duration),
    ) {
        let latencies = if is_wrong_pin { &mut self.wrong_pin } else { &mut self.right_pin };
        latencies.record(now.saturating_sub(from));
        let code = message.text::<2>(39).and_then(|code| code.as_slice().try_into().ok());
        *self.codes.entry(code.unwrap_or(*b"--")).or_default() += 1;
        self.answered += 1;
        self.last_answer = self.last_answer.max(now);
    }

    /// Counts the time of a thread that measured, and what of it was spent on a core.
    pub(super) fn worked(&mut self, cpu: Duration, time: Duration) {
        self.cpu += cpu;
        self.worked += time;
    }

    /// Of one core for each thread, with one decimal; 0 where no time has passed.
    fn cpu_percent(&self) -> f64 {
        let share = self.cpu.as_secs_f64() / self.worked.as_secs_f64().max(f64::MIN_POSITIVE);
        (share * 1_000.0).round() / 10.0
    }

    /// Counts an answer after the measurement.
    pub(super) fn settled(&mut self) {
        self.settled += 1;
    }

    /// Counts an answer that is not the expected one, or that nobody asked for.
    pub(super) fn unexpected(&mut self, message: &Message<'_>) {
        self.unexpected += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("unexpected: {message}"));
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
        self.right_pin.add(&other.right_pin)?;
        self.wrong_pin.add(&other.wrong_pin)?;
        self.lateness.add(&other.lateness)?;
        for (&code, count) in &other.codes {
            *self.codes.entry(code).or_default() += count;
        }
        self.sent += other.sent;
        self.answered += other.answered;
        self.settled += other.settled;
        self.unexpected += other.unexpected;
        self.missing += other.missing;
        self.not_sent += other.not_sent;
        self.broken += other.broken;
        self.cpu += other.cpu;
        self.worked += other.worked;
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
    /// Whether every request was sent, and answered as expected.
    pub(crate) fn is_clean(&self) -> bool {
        let Tally { sent, answered, unexpected, missing, not_sent, broken, .. } = self.tally;
        let all_sent = match self.plan.until {
            Until::Requests(requests) => sent == requests,
            Until::Elapsed(_) => sent > 0,
        };
        let faults = [unexpected, missing, not_sent, broken];
        all_sent && answered == sent && faults == [0; 4]
    }

    /// One JSON document; its fields are described at the head of this module.
    pub(crate) fn json(&self) -> Value {
        let Outcome { plan, tally } = self;
        let (seconds, requests) = match plan.until {
            Until::Elapsed(time) => (Some(time.as_secs()), None),
            Until::Requests(requests) => (None, Some(requests)),
        };
        let codes: Map<String, Value> = tally
            .codes
            .iter()
            .map(|(code, count)| (code.escape_ascii().to_string(), json!(count)))
            .collect();
        json!({
            "command": "run",
            "version": env!("CARGO_PKG_VERSION"),
            "machine": machine(),
            "plan": {
                "address": plan.address.to_string(),
                "connections": plan.connections,
                "pipeline": plan.pipeline,
                "threads": plan.threads,
                "rate_per_second": plan.rate,
                "seconds": seconds,
                "requests": requests,
                "cards": plan.cards,
                "wrong_pins_percent": plan.wrong_pins_percent,
                "chip": plan.chips.map(|(kind, _)| kind.name()),
                "seed": plan.seed,
                "dialect": plan.dialect,
                "echo": plan.echo,
            },
            "sent": tally.sent,
            "answered": tally.answered,
            "seconds": tally.last_answer.as_secs_f64(),
            "rate_per_second": per_second(tally.answered, tally.last_answer),
            "right_pin": tally.right_pin.json(),
            "wrong_pin": tally.wrong_pin.json(),
            "lateness": tally.lateness.json(),
            "generator": {
                "cpu_seconds": tally.cpu.as_secs_f64(),
                "cpu_percent": tally.cpu_percent(),
            },
            "de39": codes,
            "missing": tally.missing,
            "unexpected": tally.unexpected,
            "not_sent": tally.not_sent,
            "broken": tally.broken,
            "settled": tally.settled,
            "as_expected": self.is_clean(),
            "examples": tally.examples,
        })
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
        match self.plan.rate {
            Some(rate) => writeln!(
                out,
                "open loop, {rate} a second over {connections} connection(s), at most {pipeline} \
                 in flight each"
            )?,
            None => writeln!(
                out,
                "closed loop, {connections} connection(s) with {pipeline} in flight each, \
                 {threads} thread(s)"
            )?,
        }
        let seconds = tally.last_answer.as_secs_f64();
        writeln!(out, "sent      {}", tally.sent)?;
        writeln!(out, "answered  {} in {seconds:.3} s", tally.answered)?;
        writeln!(out, "rate      {} a second", per_second(tally.answered, tally.last_answer))?;
        for (name, latencies) in [
            ("right PIN", &tally.right_pin),
            ("wrong PIN", &tally.wrong_pin),
            ("lateness ", &tally.lateness),
        ] {
            if !latencies.is_empty() {
                writeln!(out, "{name} {latencies}")?;
            }
        }
        let (cpu, percent) = (tally.cpu.as_secs_f64(), tally.cpu_percent());
        writeln!(out, "generator {cpu:.3} s of CPU, {percent} % of one core for each thread")?;
        for (code, count) in &tally.codes {
            writeln!(out, "DE39 {}   {count}", code.escape_ascii())?;
        }
        writeln!(out, "missing    {}", tally.missing)?;
        writeln!(out, "unexpected {}", tally.unexpected)?;
        tally.examples.iter().try_for_each(|example| writeln!(out, "{example}"))?;
        if tally.settled > 0 {
            writeln!(out, "settled    {} (right PINs after wrong ones)", tally.settled)?;
        }
        if tally.not_sent > 0 {
            writeln!(
                out,
                "not sent   {}: the switch does not keep up with {} a second",
                tally.not_sent,
                self.plan.rate.unwrap_or_default()
            )?;
        }
        if self.plan.cards.is_none() && tally.codes.keys().any(|code| code != b"00") {
            writeln!(out, "cards that are not active: `loadtest check` brings them back")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
