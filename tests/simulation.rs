//! The whole switch in a simulated world: clock, HSM, disk and links are of the test, and one
//! number decides everything that happens in it.
//!
//! `PINSWITCH_SIMULATION_SEEDS=10000` plays that many seeds; `PINSWITCH_SIMULATION_SEED=7` plays
//! one and prints what happened in it.
//!
//! Reading order: `plan` (what a seed decides), `world` (the switch put together, its lives from
//! start to crash), `hsm`, `disk`, `store` and `commits`, `terminal`, `issuer`, `products` and
//! `reader` (who asks), `history` (what was seen), `judge`, `model` and `linearizability` (whether
//! it may be seen).

/// Its parts, in the folder of the same name.
mod simulation {
    pub mod commits;
    pub mod disk;
    pub mod history;
    pub mod hsm;
    pub mod issuer;
    pub mod judge;
    pub mod linearizability;
    pub mod model;
    pub mod mutation;
    pub mod plan;
    pub mod products;
    pub mod reader;
    pub mod run;
    pub mod store;
    pub mod terminal;
    pub mod world;
}

use std::collections::BTreeMap;

use simulation::mutation::Mutation;
use simulation::plan::{CARDS, pan};
use simulation::run::{Verdict, run};

/// Seeds of a usual run of the tests.
const SEEDS: u64 = 500;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn seeds() -> std::ops::Range<u64> {
    match variable("PINSWITCH_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("PINSWITCH_SIMULATION_SEEDS").unwrap_or(SEEDS),
    }
}

fn must_be_right(verdict: &Verdict) {
    let is_alone = variable("PINSWITCH_SIMULATION_SEED").is_some();
    if verdict.wrong.is_some() || is_alone {
        println!("{}", verdict.trace.join("\n"));
    }
    if let Some(wrong) = &verdict.wrong {
        panic!("seed {}: {wrong}", verdict.seed);
    }
}

/// And the same seed is the same run: every frame, every fault, every moment. No PAN stands in what
/// is shown of it. Of many seeds, the usual ones are played twice.
#[test]
fn every_answer_is_right() {
    for seed in seeds() {
        let one = run(seed, None);
        must_be_right(&one);
        if seed < SEEDS {
            must_be_the_same(&one, &run(seed, None));
        }
    }
}

fn must_be_the_same(one: &Verdict, other: &Verdict) {
    let (seed, pans) = (one.seed, (0..CARDS.len()).map(pan).collect::<Vec<_>>());
    for (line, again) in one.trace.iter().zip(&other.trace) {
        assert_eq!(line, again, "seed {seed}");
        assert!(!pans.iter().any(|pan| line.contains(pan)), "seed {seed}: a PAN is shown");
    }
    assert_eq!(one.trace.len(), other.trace.len(), "seed {seed}");
}

/// Seeds in which everything must happen, each at least in every tenth.
const TALLY_SEEDS: u64 = 200;

/// A simulation in which nothing happens finds nothing.
#[test]
fn everything_happens_in_some_seed() {
    let mut tally = BTreeMap::<String, u64>::new();
    for seed in 0..TALLY_SEEDS {
        let run = run(seed, None);
        run.tally.into_iter().for_each(|(kind, count)| *tally.entry(kind).or_default() += count);
    }
    let codes = ["00", "14", "25", "55", "59", "70", "75", "78", "81", "91", "94"];
    let codes = codes.map(|code| format!("answer {code}"));
    let kinds = ["Killed", "PowerLost", "DiskFailed", "cut", "slow reader", "hsm late"];
    let others = ["hsm unavailable", "jump", "outcome", "told", "told again"];
    let wanted = kinds.into_iter().chain(others).chain(codes.iter().map(String::as_str));
    let rare: Vec<&str> = wanted
        .filter(|kind| tally.get(*kind).is_none_or(|count| *count < TALLY_SEEDS / 10))
        .collect();
    assert!(rare.is_empty(), "{rare:?} of {tally:#?}");
}

/// Seeds in which a broken rule must be found, and how often.
const BROKEN_SEEDS: u64 = 3_000;
const BROKEN_FOUND: usize = 3;

/// A judge who never finds anything is none.
#[test]
fn every_broken_rule_of_the_store_is_found() {
    for mutation in Mutation::ALL {
        let found = |seed| Some((seed, run(seed, Some(mutation)).wrong?));
        let found: Vec<(u64, String)> =
            (0..BROKEN_SEEDS).filter_map(found).take(BROKEN_FOUND).collect();
        for (seed, why) in &found {
            println!("{mutation:?} in seed {seed}: {}", why.lines().next().unwrap_or_default());
        }
        assert_eq!(found.len(), BROKEN_FOUND, "{mutation:?} is hardly ever found");
    }
}
