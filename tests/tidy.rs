//! Rules of the repository that a machine can check, beside rustfmt, clippy and deny: layers,
//! one place for each concept, names, sizes, and no card data that could be somebody's.

use std::path::{Path, PathBuf};

/// A file of the repository, with its path from the root.
struct File {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All text files below these folders or files.
fn files(places: &[&str], endings: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = places.iter().map(|place| root().join(place)).collect();
    while let Some(path) = open.pop() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "__pycache__"].contains(&&*name) {
                open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            let text = std::fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().display().to_string();
            found.push(File { path, text });
        }
    }
    assert!(!found.is_empty(), "nothing found in {places:?}");
    found
}

fn rust() -> Vec<File> {
    files(&["iso-specs", "chip-card", "switch", "loadtest", "tests"], &[".rs"])
}

/// Code without comments, without the tests at the end of a file, and none of a file of tests.
fn code(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let endings = ["tests.rs", "test_support.rs"];
    let is_test = endings.iter().any(|ending| file.path.ends_with(ending));
    let text = if is_test { "" } else { file.text.as_str() };
    let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = production.lines().enumerate().map(|(number, line)| (number + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Fails with every place where one of `words` stands in the code of `files`.
fn none_of(words: &[&str], files: &[File], why: &str) {
    let mut places = Vec::new();
    for file in files {
        for (number, line) in code(file) {
            let found = words.iter().find(|word| line.contains(**word));
            places.extend(found.map(|word| format!("{}:{number}: {word}", file.path)));
        }
    }
    assert!(places.is_empty(), "{why}:\n{}", places.join("\n"));
}

#[test]
fn pure_parts_have_no_io_clock_randomness_or_logging() {
    let pure = files(
        &[
            "iso-specs/src",
            "chip-card/src",
            "switch/src/authorization",
            "switch/src/authorization.rs",
        ],
        &[".rs"],
    );
    let words = [
        "async ",
        ".await",
        "tokio",
        "std::io",
        "std::fs",
        "std::net",
        "std::env",
        "std::time",
        "Instant",
        "SystemTime",
        "SystemClock",
        "getrandom",
        "random",
        "tracing",
        "metrics::",
        "println!",
        "thread",
    ];
    none_of(&words, &pure, "these parts are pure");
}

/// The floors of the crate `switch`, from the ground up. A module imports only from floors below
/// it; those of one line import nothing of each other.
const FLOORS: [&[&str]; 21] = [
    &["place", "shutdown", "in_flight", "hex", "event", "outcome", "clock"],
    &["key"],
    &["pin"],
    &["cards"],
    &["hsm"],
    &["authorization"],
    &["cache"],
    &["frame"],
    &["config"],
    &["store"],
    &["metrics"],
    &["session"],
    &["switch"],
    &["transaction"],
    &["issuing", "connection"],
    &["listener"],
    &["control", "admin", "api"],
    &["demo"],
    &["run"],
    &["inspect"],
    &["cli", "main"],
];

/// The module of a path in the crate, by its first name: `store/record.rs` is of `store`.
fn module(path: &str) -> &str {
    let path = path.trim_start_matches("switch/src/");
    path.split(['/', '.']).next().unwrap_or_default()
}

/// The modules of the crate that a line names: what stands behind `crate::` or `switch::`.
fn named(line: &str) -> impl Iterator<Item = &str> {
    let roots = ["crate::", "switch::"].into_iter();
    roots.flat_map(|root| line.match_indices(root)).filter_map(|(place, root)| {
        let is_whole = !line[..place]
            .ends_with(|letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':');
        let rest = &line[place + root.len()..];
        let end = rest.find(|letter: char| !letter.is_lowercase() && letter != '_');
        is_whole.then(|| &rest[..end.unwrap_or(rest.len())]).filter(|name| !name.is_empty())
    })
}

#[test]
fn every_module_imports_only_from_the_floors_below() {
    let floor = |module: &str| FLOORS.iter().position(|floor| floor.contains(&module));
    let mut wrong = Vec::new();
    for file in files(&["switch/src"], &[".rs"]) {
        let own = module(&file.path);
        // Lists the modules, and names no others.
        if own == "lib" {
            continue;
        }
        let own_floor = floor(own);
        assert!(own_floor.is_some(), "{}: {own} stands on no floor", file.path);
        for (number, line) in code(&file) {
            for other in named(line).filter(|other| *other != own) {
                if floor(other).is_none_or(|floor| Some(floor) >= own_floor) {
                    wrong.push(format!("{}:{number}: {other}", file.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these import from their own floor or above:\n{}", wrong.join("\n"));
}

#[test]
fn crates_point_one_way() {
    let iso_specs = files(&["iso-specs/src"], &[".rs"]);
    none_of(&["switch::"], &iso_specs, "iso-specs knows nothing of the switch");
    let client = files(&["chip-card/src", "loadtest/src"], &[".rs"]);
    none_of(&["use switch"], &client, "the client and its chips know nothing of the switch");
    // The switch plays chips for simulations, and trusts them nowhere else.
    let others: Vec<File> = files(&["switch/src"], &[".rs"])
        .into_iter()
        .filter(|file| !file.path.starts_with("switch/src/issuing/simulate/"))
        .collect();
    none_of(&["chip_card::"], &others, "chips are played in simulations only");
}

/// Whoever holds the value of a key is below `hsm/software`; nothing else makes a cipher.
#[test]
fn keys_stay_in_the_software_hsm() {
    let others: Vec<File> = files(&["switch/src"], &[".rs"])
        .into_iter()
        .filter(|file| !file.path.starts_with("switch/src/hsm/software"))
        .collect();
    let ciphers = ["use des::", "use aes::", "use aes_gcm::", "use cmac::", "TdesKey", "AesKey"];
    none_of(&ciphers, &others, "ciphers and their keys live in hsm/software");
}

/// Where each concept lives; nowhere else.
#[test]
fn one_concept_one_place() {
    let places: [(&[&str], &[&str]); 7] = [
        // The order of the steps.
        (
            &["required_checks(", "::of_decision("],
            &["authorization/decide.rs", "src/transaction.rs"],
        ),
        // What the HSM is asked in it.
        (&["hsm.verify_pin(", "hsm.verify_arqc("], &["transaction/verify.rs"]),
        (&["hsm.issuer_authenticate("], &["transaction/issuer_authenticate.rs"]),
        // Metric names.
        (&["\"pinswitch_"], &["metrics.rs"]),
        // DE39.
        (&[".response_code("], &["authorization/response.rs"]),
        // Time and randomness.
        (&["Instant::now", "SystemTime"], &["clock.rs"]),
        (&["getrandom::"], &["hsm/software/random.rs"]),
    ];
    for (words, allowed) in places {
        let others: Vec<File> = files(&["switch/src"], &[".rs"])
            .into_iter()
            .filter(|file| !allowed.iter().any(|place| file.path.ends_with(place)))
            .collect();
        none_of(words, &others, &format!("this belongs into {allowed:?}"));
    }
}

#[test]
fn the_table_of_response_codes_is_exhaustive() {
    let table = files(&["switch/src/authorization/response_code.rs"], &[".rs"]);
    none_of(&["_ =>"], &table, "a new reason must be given its codes");
}

#[test]
fn names_are_of_the_trade() {
    let words = ["Manager", "Helper", "Util", "Processor", "Engine", "Context"];
    let declares = |line: &str, word: &str| {
        let names = ["struct ", "enum ", "trait ", "mod ", "type "];
        names.iter().any(|keyword| {
            let name = line.trim_start().trim_start_matches("pub ").strip_prefix(keyword);
            name.is_some_and(|name| name.to_lowercase().contains(&word.to_lowercase()))
        })
    };
    for file in rust() {
        for (number, line) in code(&file) {
            let found = words.iter().find(|word| declares(line, word));
            assert!(found.is_none(), "{}:{number}: {line}", file.path);
        }
    }
}

#[test]
fn nothing_is_unfinished() {
    // Spelled apart, so that this file does not find itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("HA", "CK"),
        concat!("for ", "now"),
        concat!("place", "holder"),
        concat!("unimplemented", "!("),
    ];
    let places = ["iso-specs", "chip-card", "switch", "loadtest", "tests"];
    for file in files(&places, &[".rs", ".toml", ".py"]) {
        for (number, line) in file.text.lines().enumerate() {
            let found = words.iter().find(|word| line.contains(**word));
            assert!(found.is_none(), "{}:{}: {line}", file.path, number + 1);
        }
    }
}

#[test]
fn files_and_lines_stay_short() {
    for file in rust() {
        let lines = file.text.lines().count();
        assert!(lines <= 600, "{} has {lines} lines: one concept each", file.path);
        for (number, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            assert!(columns <= 100, "{}:{}: {columns} columns", file.path, number + 1);
        }
    }
}

#[test]
fn every_module_says_what_it_is() {
    for file in rust() {
        let first = file.text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! "), "{}: its first line is no `//!`", file.path);
    }
}

/// Numbers that pass for a PAN are of test BINs, or of the published vectors.
#[test]
fn no_pan_that_could_be_somebodys() {
    const TEST_BINS: [&str; 5] = ["476134", "476135", "476136", "541333", "555534"];
    const VECTORS: [&str; 2] = ["4510225522956554", "6615552900102496"];
    let everything = files(&["."], &[".rs", ".toml", ".txt", ".py", ".md", ".json", "run"]);
    for file in everything.into_iter().filter(|file| !file.path.starts_with("tests/vectors/")) {
        let digits = file.text.split(|letter: char| !letter.is_ascii_digit());
        for number in digits.filter(|digits| (13..=19).contains(&digits.len())) {
            let issued = matches!(number.as_bytes()[0], b'3'..=b'6') && luhn(number);
            let known = TEST_BINS.iter().any(|bin| number.starts_with(bin));
            // Seven zeros in a row are a bitmap, an amount or plainly made up.
            let made_up = number.contains("0000000") || VECTORS.contains(&number);
            let fine = !issued || known || made_up;
            assert!(fine, "{}: {number} looks like a PAN", file.path);
        }
    }
}

fn luhn(number: &str) -> bool {
    let sum: u32 = number.bytes().rev().enumerate().fold(0, |sum, (place, digit)| {
        let value = u32::from(digit - b'0') * if place % 2 == 0 { 1 } else { 2 };
        sum + value / 10 + value % 10
    });
    sum.is_multiple_of(10)
}
