//! Cardholders, chips and a switch, at random: seeded sequences of PIN changes, right and wrong
//! tries, lost and damaged answers, reversals, repeats, replays and crashes. The chip is the
//! virtual card of `chip-card`, the switch is whole, with its real store and software HSM.
//!
//! What the switch says and keeps is compared with a model of the rules that is written a second
//! time, and with what the chip holds in truth. `PINSWITCH_CHIP_WORLDS=1000` plays that many
//! worlds of a hundred sequences each; `PINSWITCH_CHIP_WORLD=7` plays one. The sequences are the
//! same for the same number; which requests a crash cuts off is not.
//!
//! Reading order: `model`, `evidence` and `wait` (the rules), `mistake` (wrong ones), `sequence`,
//! `messages` and `verdict` (one cardholder), `kept` (what the switch has of a chip), `world` (the
//! switch and time).

/// Its parts, in the folder of the same name.
mod chips {
    pub mod evidence;
    pub mod kept;
    pub mod messages;
    pub mod mistake;
    pub mod model;
    pub mod sequence;
    pub mod verdict;
    pub mod wait;
    pub mod world;
}

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use chips::mistake::Mistake;
use chips::world::{SEQUENCES, World};

/// Worlds of a usual run of the tests: 10,000 sequences.
const WORLDS: u64 = 100;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// What must happen, and how often at least in a usual run: what never happens finds nothing.
const HAPPENS: [(&str, u64); 29] = [
    ("approved", 10_000),
    ("bypassed", 500),
    ("script carried out", 2_000),
    ("script refused", 200),
    ("script confirmed", 1_000),
    ("script lost", 500),
    ("script reversed", 500),
    ("kept out", 500),
    ("script confirmed late", 20),
    ("chip unblocked", 200),
    ("given up", 20),
    ("expired", 100),
    ("answer lost", 1_000),
    ("answer not the issuer's", 100),
    ("reversed", 500),
    ("completed", 300),
    ("repeated", 300),
    ("came late", 50),
    ("crash", 50),
    ("cut off by a crash", 20),
    ("HSM down", 100),
    ("1012", 200),
    ("1029", 500),
    ("1048", 100),
    ("PIN set at a terminal", 500),
    ("1809", 1_000),
    ("1872", 200),
    ("9907", 200),
    ("suspended", 50),
];

/// Does one thing for each, in any order: a world mostly waits for its disk.
fn on_all_cores<T: Send, R: Send>(
    of: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let (waiting, done) = (Mutex::new(of.into_iter().collect::<Vec<_>>()), Mutex::default());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, |cores| cores.get() * 2) {
            scope.spawn(|| {
                while let Some(next) = { waiting.lock().unwrap().pop() } {
                    let result = work(next);
                    Vec::push(&mut done.lock().unwrap(), result);
                }
            });
        }
    });
    done.into_inner().unwrap()
}

#[test]
fn chips_and_switch_keep_to_the_rules() {
    let one = variable("PINSWITCH_CHIP_WORLD");
    let worlds = match one {
        Some(world) => world..world + 1,
        None => 0..variable("PINSWITCH_CHIP_WORLDS").unwrap_or(WORLDS),
    };
    let mut tally = BTreeMap::<&str, u64>::new();
    let happened = on_all_cores(worlds.clone(), |seed| World::play(seed, SEQUENCES, None));
    for world in happened {
        let world = world.unwrap_or_else(|wrong| panic!("{wrong}"));
        world.into_iter().for_each(|(what, times)| *tally.entry(what).or_default() += times);
    }
    if one.is_none() && worlds.end >= WORLDS {
        let rare = HAPPENS
            .into_iter()
            .filter(|(what, times)| tally.get(what).is_none_or(|happened| happened < times));
        assert_eq!(rare.collect::<Vec<_>>(), [], "{tally:#?}");
    }
}

/// A model that is wrong in one rule must be found out: the sequences reach every rule.
#[test]
fn a_wrong_rule_is_found() {
    const WORLDS: u64 = 60;
    const SEQUENCES: usize = 20;
    let found = on_all_cores(Mistake::ALL, |mistake| {
        let wrong = (0..WORLDS).find_map(|seed| World::play(seed, SEQUENCES, Some(mistake)).err());
        (mistake, wrong)
    });
    for (mistake, wrong) in found {
        let wrong = wrong.unwrap_or_else(|| panic!("{mistake:?} is never found"));
        println!("{mistake:?}: {}", wrong.lines().next().unwrap_or_default());
    }
}
