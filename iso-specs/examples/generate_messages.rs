//! Prints generated messages for clients that are not ours to read: one JSON object a line, with
//! the frame, the MTI and every element's canonical value, all in hexadecimal digits but the MTI.
//!
//! `generate_messages DIALECT COUNT SEED`: a dialect's name or file. Equal arguments print equal
//! lines.
#![allow(clippy::expect_used, reason = "a tool of the tests may stop")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::io::Write as _;

use iso_specs::{Mti, OutgoingMessage, Spec};
use support::{Choices, least_len, value};

const TYPES: [[u8; 4]; 8] =
    [*b"0100", *b"0110", *b"0121", *b"0200", *b"0210", *b"0420", *b"0800", *b"0810"];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [dialect, count, seed] = words.as_slice() else {
        eprintln!("usage: generate_messages DIALECT COUNT SEED");
        std::process::exit(2);
    };
    let text = Spec::builtin(dialect).map_or_else(
        || std::fs::read_to_string(dialect).expect("a dialect's name or file"),
        str::to_owned,
    );
    let spec = Spec::from_toml(&text).unwrap_or_else(|mistakes| {
        eprintln!("{mistakes}");
        std::process::exit(2);
    });
    let count: u64 = count.parse().expect("a count");
    let seed: u64 = seed.parse().expect("a seed");
    let mut lines = std::io::stdout().lock();
    for number in 0..count {
        let mut choices = Choices::from_seed(seed.wrapping_mul(1_000_003).wrapping_add(number));
        writeln!(lines, "{}", line(&spec, &mut choices)).expect("standard output");
    }
}

fn line(spec: &Spec, choices: &mut Choices) -> String {
    // Messages of few elements, of all, and between.
    let density = 1 + choices.below(8);
    let mut values = Vec::new();
    for element in spec.elements() {
        if choices.below(8) < density {
            let least = least_len(element);
            let len = least + choices.below(element.max() - least + 1);
            values.push((element.number(), value(element, len, choices)));
        }
    }
    let mti = Mti::new(*TYPES.get(choices.below(TYPES.len())).expect("in range")).expect("digits");
    let mut message = OutgoingMessage::new(mti);
    for (number, value) in &values {
        message.set(*number, value);
    }
    let mut frame = Vec::new();
    message.encode(spec, &mut frame).expect("right values");
    let mut line = format!("{{\"frame\":\"{}\",\"mti\":\"{mti}\"", hex(&frame));
    for (number, value) in &values {
        let _ = write!(line, ",\"{number}\":\"{}\"", hex(value));
    }
    line.push('}');
    line
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
