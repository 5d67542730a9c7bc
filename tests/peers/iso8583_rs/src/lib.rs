//! `iso8583_rs` with a dialect that it can express: text elements in ASCII with ASCII length
//! prefixes, raw binary elements and raw bitmaps.
//!
//! It knows no types, no greatest lengths and no padding, so it only finds elements and copies
//! them. Its only dialect comes from a file that a variable of the environment names, once for the
//! process. No logger is ever installed here: it writes clear PINs at debug level.

use std::fmt::Write;
use std::panic::{catch_unwind, AssertUnwindSafe};

use iso8583_rs::iso8583::iso_spec::{spec, IsoMsg, Spec as PeerSpec};
use iso_specs::{Encoding, Length, Spec};

/// Elements and their contents, as hexadecimal digits.
pub type Values = Vec<(u8, String)>;

/// Our ASCII dialect with raw bitmaps and bytes, and without DE65: to the peer that is always the
/// third bitmap.
pub fn dialect() -> String {
    let text =
        Spec::builtin("iso8583-1987-ascii").unwrap_or_default().replace("\"hex\"", "\"raw\"");
    let lines = text.lines().filter(|line| !line.starts_with("65 ="));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

/// The dialect in the peer's own format. MTIs are listed there: those that the dialect's messages
/// have.
fn peer_dialect(ours: &Spec) -> String {
    let mut text =
        "name: peer\nid: 1\nheader_fields:\n  - {name: mti, id: 1, type: Fixed, len: 4, \
                    data_encoding: ASCII}\nmessages:\n  - name: all\n    id: 1\n    selector: ["
            .to_owned();
    for mti in 0..1_000 {
        let _ = write!(text, "\"0{mti:03}\", ");
    }
    text.push_str(
        "]\n    fields:\n      - {name: message_type, id: 1, type: Fixed, len: 4, data_encoding: \
         ASCII}\n      - name: bitmap\n        id: 2\n        type: Bitmapped\n        len: 0\n\
         \x20       data_encoding: BINARY\n        children:\n",
    );
    for element in ours.elements() {
        let number = element.number();
        let content = if element.encoding() == Encoding::Raw { "BINARY" } else { "ASCII" };
        let (kind, len) = match element.length() {
            Length::Fixed => ("Fixed", element.max()),
            Length::Prefix { digits, .. } => ("Variable", digits.into()),
        };
        let _ = writeln!(
            text,
            "          - {{name: f{number}, id: {number}, type: {kind}, len: {len}, \
             len_encoding: ASCII, data_encoding: {content}, position: {number}}}"
        );
    }
    text
}

/// Gives the peer its dialect. It prints two lines to standard output when it first reads it.
///
/// # Errors
///
/// Where the file cannot be written or the peer does not take it.
pub fn start(ours: &Spec) -> std::io::Result<&'static PeerSpec> {
    let file = std::env::temp_dir().join(format!("iso8583_rs-{}.yaml", std::process::id()));
    std::fs::write(&file, peer_dialect(ours))?;
    std::env::set_var("SPEC_FILE", &file);
    let read = catch_unwind(|| spec("peer"));
    std::fs::remove_file(&file)?;
    read.map_err(|_| std::io::Error::other("the peer does not take its dialect"))
}

/// What the peer makes of a frame.
pub enum Outcome {
    /// The values, and the frame that it makes of them.
    Read(Values, Vec<u8>),
    /// It refuses the frame.
    Refused(String),
    /// It panics.
    Panicked,
}

/// Lets the peer read a frame and write it again.
pub fn read(peer: &'static PeerSpec, frame: &[u8]) -> Outcome {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let message = peer.parse(&mut frame.to_vec()).map_err(|error| error.msg)?;
        let again = message.assemble().map_err(|error| error.msg)?;
        Ok((values(&message), again))
    }));
    match outcome {
        Ok(Ok((values, again))) => Outcome::Read(values, again),
        Ok(Err(refused)) => Outcome::Refused(refused),
        Err(_) => Outcome::Panicked,
    }
}

fn values(message: &IsoMsg) -> Values {
    let present = (2..=128).filter(|&number| number != 65 && message.bmp.is_on(number.into()));
    let value =
        |number: u8| Some((number, hex::encode_upper(message.fd_map.get(&format!("f{number}"))?)));
    present.filter_map(value).collect()
}
