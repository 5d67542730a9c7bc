//! `decode`: messages of a file, of standard input or of the argument itself, masked.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use clap::{Args, ValueEnum};

use super::CliError;
use iso_specs::Spec;
use switch::frame::{Framing, Header};
use switch::inspect::text::TextForm;
use switch::inspect::{Borders, INPUT_BYTES_MAX, InputForm, Inspection};
use switch::place;

/// Words of `decode`.
#[derive(Args)]
pub(crate) struct DecodeWords {
    /// What the messages are: a built-in dialect, the path of a .toml file, or "auto" for every
    /// built-in one. May be given several times: the dialect that fits is taken, and named.
    #[arg(long, default_value = "iso8583-1987-ascii", value_name = "NAME|FILE.toml|auto")]
    dialect: Vec<String>,
    /// How messages are told apart: a framing of a link, or "none". Without it, binary-2 in a
    /// capture, and elsewhere none, or binary-2 or ascii-4 where that fits.
    #[arg(long, value_name = "FRAMING", value_parser = framing)]
    framing: Option<Borders>,
    /// Fixed header before each message: none, tpdu, base-i, or echo:N for N bytes.
    #[arg(long, value_name = "HEADER", default_value = "none", value_parser = header)]
    header: Header,
    /// Only TCP connections with this port, in a capture.
    #[arg(long)]
    port: Option<u16>,
    /// What the input is; found out if left out.
    #[arg(long = "input", value_enum, value_name = "FORM")]
    form: Option<FormWord>,
    /// A file, "-" for standard input, or the message itself, as it is, in hexadecimal digits or in
    /// base64.
    ///
    /// Taken is what has messages without a fault: digits, base64, the messages as they are, one a
    /// line, the bytes of a message, or a capture. Between and before bytes in hexadecimal digits
    /// may stand spaces, colons, commas, dashes, quotes, brackets, 0x and \x. Dumps are read as
    /// xxd, hexdump -C, od -A x -t x1, tcpdump -X and Wireshark write them: hexadecimal offsets,
    /// from 0 on for each message. Behind an offset of six to eight digits may be a single space;
    /// then bytes are two digits each, and there is a second line, the last of which may be the
    /// length alone.
    #[arg(default_value = "-")]
    input: String,
}

/// What the input is.
#[derive(Clone, Copy, ValueEnum)]
enum FormWord {
    /// Hexadecimal digits, spaced, in lines, or as a dump with offsets.
    Hex,
    /// Base64.
    Base64,
    /// The messages as they are, one a line.
    Text,
    /// The bytes of a message, or of frames.
    Raw,
    /// A pcap or pcapng file.
    Pcap,
}

fn framing(word: &str) -> Result<Borders, String> {
    let framing = || Framing::from_name(word).map(Borders::Framing);
    let none = (word == "none").then_some(Borders::Bare);
    none.or_else(framing).ok_or_else(|| {
        let names = Framing::ALL.map(|(name, _)| name).join(", ");
        format!("expected none, {names}")
    })
}

fn header(word: &str) -> Result<Header, String> {
    let echo = || word.strip_prefix("echo:")?.parse().ok().filter(|bytes| *bytes > 0);
    match word {
        "none" => Ok(Header::None),
        "tpdu" => Ok(Header::Tpdu),
        "base-i" => Ok(Header::BaseI),
        _ => echo()
            .map(Header::Echo)
            .ok_or_else(|| "expected none, tpdu, base-i or echo:N, N from 1 to 255".to_owned()),
    }
}

/// Lists the messages on standard output.
pub(super) fn decode(words: &DecodeWords) -> Result<(), CliError> {
    let form = words.form.map(|form| match form {
        FormWord::Hex => InputForm::Text(TextForm::Hex),
        FormWord::Base64 => InputForm::Text(TextForm::Base64),
        FormWord::Text => InputForm::Lines,
        FormWord::Raw => InputForm::Raw,
        FormWord::Pcap => InputForm::Capture,
    });
    let inspection = Inspection {
        dialects: dialects(&words.dialect)?,
        borders: words.framing.unwrap_or(Borders::Usual),
        header: words.header,
        port: words.port,
        form,
    };
    let (name, input) = input(&words.input)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let listed = inspection.list(&input, &mut out);
    out.flush()?;
    let tally = listed.map_err(|error| CliError::Refused(format!("{name}: {error}")))?;
    match (tally.messages, tally.faulty, tally.losses) {
        (0, _, 0) => Err(CliError::Refused(format!("{name}: no message"))),
        (_, 0, 0) => Ok(()),
        (messages, faulty, losses) => Err(CliError::Refused(format!(
            "{name}: {faulty} of {messages} messages have faults; {losses} places were not read"
        ))),
    }
}

/// All that the words name, in their order.
fn dialects(words: &[String]) -> Result<Vec<Spec>, CliError> {
    let names = words.iter().flat_map(|word| match word.as_str() {
        "auto" => Spec::builtin_names().collect(),
        name => vec![name],
    });
    names.map(dialect).collect()
}

fn dialect(name: &str) -> Result<Spec, CliError> {
    let is_of = |ending: &str| Path::new(name).extension().is_some_and(|found| found == ending);
    let known = Spec::builtin_names().collect::<Vec<_>>().join(", ");
    let text = match Spec::builtin(name) {
        Some(text) => text.to_owned(),
        None if is_of("toml") => place::read_text(Path::new(name))
            .map_err(|error| CliError::Refused(format!("{name}: {error}")))?,
        None if is_of("xml") || is_of("json") => {
            let text = format!(
                "{name}: the packagers of jPOS (.xml) and specs of moov-io (.json) are not read: \
                 change a copy of what `pinswitch dialect show` prints ({known})"
            );
            return Err(CliError::Refused(text));
        }
        None => {
            let text = format!("--dialect: expected {known}, auto or the path of a .toml file");
            return Err(CliError::Refused(text));
        }
    };
    Spec::from_toml(&text).map_err(|errors| CliError::Refused(format!("{name}: {errors}")))
}

/// An argument as an error may quote it: a path, but nothing that may be a message or a card.
fn quotable(word: &str) -> &str {
    const CHARACTERS_MAX: usize = 64;
    const DIGITS_MAX: usize = 7;
    // Digits of a card may stand apart.
    let joined: String = word.chars().filter(|character| character.is_alphanumeric()).collect();
    let mut rows = joined.split(|character: char| !character.is_ascii_hexdigit());
    let is_path = word.chars().count() <= CHARACTERS_MAX && rows.all(|row| row.len() <= DIGITS_MAX);
    if is_path { word } else { "the argument" }
}

/// Whether a word begins with an MTI and a bitmap in hexadecimal digits: its text may have dots.
fn begins_as_message(word: &str) -> bool {
    const HEAD_DIGITS: usize = 4 + 16;
    word.get(..HEAD_DIGITS).is_some_and(|head| head.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The input and what an error calls it.
fn input(word: &str) -> Result<(String, Vec<u8>), CliError> {
    let path = Path::new(word);
    let (name, reader): (_, Box<dyn Read>) = match word {
        "-" => ("standard input".to_owned(), Box::new(io::stdin().lock())),
        _ if path.exists() => (word.to_owned(), Box::new(File::open(path)?)),
        _ if begins_as_message(word) => {
            return Ok(("the argument".to_owned(), word.as_bytes().to_vec()));
        }
        // What looks like the path of a file that is not there.
        _ if word.starts_with(['.', '/']) || path.extension().is_some() => {
            return Err(CliError::Refused(format!("{}: no such file", quotable(word))));
        }
        _ => return Ok(("the argument".to_owned(), word.as_bytes().to_vec())),
    };
    let mut bytes = Vec::new();
    let refused = |error: io::Error| CliError::Refused(format!("{name}: {error}"));
    let read = reader.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(refused)?;
    if read as u64 > INPUT_BYTES_MAX {
        let text = format!("{name}: longer than {} MiB", INPUT_BYTES_MAX >> 20);
        return Err(CliError::Refused(text));
    }
    Ok((name, bytes))
}
