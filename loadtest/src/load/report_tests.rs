//! The reports of runs that are made up.

use iso_specs::{Spec, decode};

use super::*;
use crate::load::tests::plan;

/// A hundred answers of 1 to 100 ms over two seconds, the last one with `code`; each tenth had a
/// wrong PIN.
fn tally(code: &str) -> Tally {
    let spec = Spec::from_toml(Spec::builtin(crate::DIALECT).unwrap()).unwrap();
    let mut tallies = [Tally::new().unwrap(), Tally::new().unwrap()];
    for number in 1..=100 {
        let tally = &mut tallies[usize::from(number % 2 == 0)];
        let code = if number == 100 { code } else { "00" };
        let frame = format!("01100000000002000000{code}");
        let message = decode(&spec, frame.as_bytes()).unwrap().message;
        tally.sent();
        let [latency, now] = [number, number * 20].map(Duration::from_millis);
        tally.answered(&message, number % 10 == 0, (now - latency, now));
    }
    tallies[0].worked(Duration::from_millis(500), Duration::from_secs(2));
    tallies[1].worked(Duration::from_millis(1_504), Duration::from_secs(2));
    let [mut all, other] = tallies;
    all.add(&other).unwrap();
    all
}

fn outcome(tally: Tally) -> Outcome {
    Outcome { plan: plan("127.0.0.1:1".parse().unwrap(), Until::Requests(100)), tally }
}

#[test]
fn a_clean_run_reads_like_this() {
    let outcome = outcome(tally("00"));
    assert!(outcome.is_clean());
    assert_eq!(
        outcome.report(),
        "closed loop, 3 connection(s) with 7 in flight each, 2 thread(s)\n\
         sent      100\n\
         answered  100 in 2.000 s\n\
         rate      50 a second\n\
         right PIN p50 49020.9 p90 89063.4 p99 99024.9 p99.9 99024.9 p99.99 99024.9 max 99024.9 \
         (microseconds)\n\
         wrong PIN p50 50004 p90 90046.5 p99 100007.9 p99.9 100007.9 p99.99 100007.9 \
         max 100007.9 (microseconds)\n\
         generator 2.004 s of CPU, 50.1 % of one core for each thread\n\
         DE39 00   100\n\
         missing    0\n\
         unexpected 0\n"
    );
}

#[test]
fn declines_are_counted_and_the_way_back_is_named() {
    let report = outcome(tally("75")).report();
    assert!(report.contains("DE39 00   99\nDE39 75   1\n"), "{report}");
    assert!(report.contains("`loadtest check` brings them back"), "{report}");
}

#[test]
fn an_open_loop_tells_its_lateness_and_what_it_could_not_send() {
    let mut outcome = outcome(tally("00"));
    outcome.plan.rate = Some(500);
    outcome.tally.sent_late(Duration::from_micros(3));
    outcome.tally.not_sent(2);
    let report = outcome.report();
    assert!(report.starts_with("open loop, 500 a second over 3 connection(s), at most 7 in"));
    assert!(report.contains("\nlateness  p50 3 "), "{report}");
    assert!(report.contains("not sent   2: the switch does not keep up with 500 a second"));
    assert!(!outcome.is_clean());
}

#[test]
fn the_json_report_has_every_field_that_is_described_and_no_other() {
    let mut outcome = outcome(tally("00"));
    outcome.plan.rate = Some(500);
    outcome.plan.cards = Some(1_000);
    let json = outcome.json();
    let head = include_str!("report.rs").lines().take_while(|line| line.starts_with("//!"));
    let rows = head.filter_map(|line| line.strip_prefix("//! * `")?.split(": ").next());
    let described: Vec<&str> =
        rows.flat_map(|row| row.split(", ")).map(|name| name.trim_matches('`')).collect();
    let fields = json.as_object().unwrap();
    assert_eq!(described.len(), fields.len());
    assert!(described.iter().all(|name| fields.contains_key(*name)), "{described:?} {json}");
    assert_eq!(json["plan"]["rate_per_second"], 500);
    assert_eq!(json["plan"]["requests"], 100);
    assert_eq!(json["plan"]["seconds"], Value::Null);
    assert_eq!(
        (&json["right_pin"]["count"], &json["wrong_pin"]["count"]),
        (&json!(90), &json!(10))
    );
    assert_eq!(json["lateness"], Value::Null);
    assert_eq!(json["generator"], json!({ "cpu_seconds": 2.004, "cpu_percent": 50.1 }));
    assert_eq!(json["de39"], json!({ "00": 100 }));
    assert_eq!((&json["as_expected"], &json["rate_per_second"]), (&json!(true), &json!(50)));
}

#[test]
fn a_run_is_clean_only_if_nothing_is_unexpected_missing_broken_or_unsent() {
    let clean = |change: fn(&mut Tally)| {
        let mut tally = tally("00");
        change(&mut tally);
        outcome(tally).is_clean()
    };
    assert!(clean(|_| ()));
    assert!(clean(Tally::settled));
    assert!(!clean(|tally| tally.unexpected = 1));
    assert!(!clean(|tally| tally.missing(1)));
    assert!(!clean(|tally| tally.broken("gone")));
    assert!(!clean(|tally| tally.not_sent(1)));
    assert!(!clean(|tally| tally.sent = 99));
    assert!(!clean(|tally| tally.answered = 99));
    let mut nothing = outcome(Tally::new().unwrap());
    nothing.plan.until = Until::Elapsed(Duration::from_secs(1));
    assert!(!nothing.is_clean());
}
