//! Reads frames, a line of hexadecimal digits each, from standard input. For each it prints a JSON
//! object: what `iso8583_rs` found in it, or that it refused or panicked; and what our codec did.
//!
//! `iso8583_rs_peer dialect` prints the dialect that both read.

use std::error::Error;
use std::io::{stdin, stdout, BufRead, Write};

use iso8583_rs_peer::{dialect, read, start, Outcome};
use iso_specs::{decode, Spec};
use serde_json::{json, Map, Value};

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("dialect") {
        print!("{}", dialect());
        return Ok(());
    }
    let ours = Spec::from_toml(&dialect())?;
    let peer = start(&ours)?;
    // A panic is an outcome here, not a text: its text would hold part of the frame.
    std::panic::set_hook(Box::new(|_| {}));
    let mut lines = stdout().lock();
    for frame in stdin().lock().lines() {
        let frame = hex::decode(frame?)?;
        let theirs = match read(peer, &frame) {
            Outcome::Read(values, again) => {
                let values = values.into_iter().map(|(n, value)| (n.to_string(), value.into()));
                let values: Map<String, Value> = values.collect();
                json!({"values": values, "frame": hex::encode_upper(again)})
            }
            Outcome::Refused(_) => json!({"refused": true}),
            Outcome::Panicked => json!({"panicked": true}),
        };
        writeln!(lines, "{}", json!({"theirs": theirs, "ours": ours_of(&ours, &frame)}))?;
    }
    Ok(())
}

/// Whether our codec finds nothing wrong. A panic of it ends the process, as it should.
fn ours_of(spec: &Spec, frame: &[u8]) -> &'static str {
    match decode(spec, frame) {
        Ok(decoded) if decoded.fault.is_none() => "good",
        Ok(_) => "fault",
        Err(_) => "unreadable",
    }
}
