//! Many cards at once: from a file, made up, removed. They go to the running switch, or into its
//! store where none runs, in batches with one sync each.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use zeroize::Zeroizing;

use switch::cards::cache::Taken;
use switch::config::Config;
use switch::control::{Command, Outcome};
use switch::demo;
use switch::issuer::AddCard;

use super::{CliError, Target, refused};

/// Cards of one batch: a line of up to four megabytes, and one sync.
const BATCH_CARDS: usize = 10_000;
/// Refusals that are shown; the others are counted.
const SHOWN_MAX: usize = 100;
/// Longest line of a JSON-lines file, in bytes.
const LINE_BYTES_MAX: u64 = 16 << 10;

/// A card of a file, and where it stands there.
struct Listed {
    line: u64,
    card: Result<AddCard, String>,
}

/// Adds the cards of a CSV or JSON-lines file.
pub(super) fn import(config: &Config, path: &Path) -> Result<(), CliError> {
    let name = path.display().to_string();
    let failed = |error: io::Error| CliError::Refused(format!("{name}: {error}"));
    let file = File::open(path).map_err(failed)?;
    let bar = bar(file.metadata().map_err(failed)?.len(), "{bytes}/{total_bytes}");
    let reader = BufReader::new(bar.wrap_read(file));
    let cards: Box<dyn Iterator<Item = Listed>> =
        match path.extension().and_then(|end| end.to_str()) {
            Some("csv") => Box::new(of_csv(reader)),
            Some("jsonl" | "ndjson") => Box::new(of_json_lines(reader)),
            _ => return Err(refused("expected a file that ends in .csv, .jsonl or .ndjson")),
        };
    let mut work = Work::begin(config, name)?;
    let mut cards = cards.peekable();
    while cards.peek().is_some() {
        let mut batch = Vec::with_capacity(BATCH_CARDS);
        let mut lines = Vec::with_capacity(BATCH_CARDS);
        for Listed { line, card } in cards.by_ref().take(BATCH_CARDS) {
            match card {
                Ok(card) => {
                    batch.push(card);
                    lines.push(line);
                }
                Err(why) => work.refuse(line, &why),
            }
        }
        work.ask(Command::AddMany(batch), &lines)?;
    }
    bar.finish_and_clear();
    work.end("added")
}

/// What a mistake in a line is called; the parser's own text could quote a PAN or a PIN.
const EXPECTED: &str = "expected the texts token, pan, expiration, pan_sequence_number and \
                        card_product_token, and perhaps state, pin, pvv, pvki and pin_offset";

fn of_csv(reader: impl io::Read) -> impl Iterator<Item = Listed> {
    let reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(reader);
    let mut reader = reader;
    let headers = reader.headers().cloned().unwrap_or_default();
    let mut record = csv::StringRecord::new();
    std::iter::from_fn(move || {
        let line = reader.position().line();
        let card = match reader.read_record(&mut record) {
            Ok(false) => return None,
            Ok(true) => record.deserialize(Some(&headers)).map_err(|_| EXPECTED.to_owned()),
            Err(_) => Err(EXPECTED.to_owned()),
        };
        Some(Listed { line: record.position().map_or(line, csv::Position::line), card })
    })
}

fn of_json_lines(mut reader: impl BufRead) -> impl Iterator<Item = Listed> {
    let mut number = 0;
    std::iter::from_fn(move || {
        loop {
            let mut line = Zeroizing::new(String::new());
            number += 1;
            let read = io::Read::take(&mut reader, LINE_BYTES_MAX).read_line(&mut line);
            let card = match read {
                Ok(0) => return None,
                Ok(_) if line.trim().is_empty() => continue,
                Ok(_) => serde_json::from_str(&line).map_err(|_| EXPECTED.to_owned()),
                Err(error) => Err(error.to_string()),
            };
            return Some(Listed { line: number, card });
        }
    })
}

/// Adds the first `count` of the made-up cards of the demo programme; those that are there
/// already stay as they are.
pub(super) fn seed(config: &Config, count: u32) -> Result<(), CliError> {
    if !config.products.iter().any(|product| *product.name == *demo::SEED_PRODUCT) {
        let text = format!(
            "seeded cards are of the product {}, which the configuration does not \
                            have",
            demo::SEED_PRODUCT
        );
        return Err(CliError::Refused(text));
    }
    each_batch(config, count, "added", |indices| {
        Command::AddMany(indices.map(demo::seed_card).collect())
    })
}

/// Removes them again.
pub(super) fn remove_seeds(config: &Config, count: u32) -> Result<(), CliError> {
    each_batch(config, count, "removed", |indices| Command::Remove {
        tokens: indices.map(demo::seed_token).collect(),
    })
}

fn each_batch(
    config: &Config,
    count: u32,
    done: &str,
    command: impl Fn(std::ops::Range<u32>) -> Command,
) -> Result<(), CliError> {
    let bar = bar(count.into(), "{human_pos}/{human_len} cards");
    let mut work = Work::begin(config, "card".to_owned())?;
    work.known = Some(Taken::Pan.to_string());
    let step = u32::try_from(BATCH_CARDS).unwrap_or(u32::MAX);
    let mut first = 0;
    while first < count {
        let end = first.saturating_add(step).min(count);
        let lines: Vec<u64> = (first..end).map(u64::from).collect();
        work.ask(command(first..end), &lines)?;
        bar.set_position(end.into());
        first = end;
    }
    bar.finish_and_clear();
    work.end(done)
}

/// Removes cards by their tokens.
pub(super) fn remove(config: &Config, tokens: &[String]) -> Result<(), CliError> {
    let mut work = Work::begin(config, "card".to_owned())?;
    for (tokens, first) in tokens.chunks(BATCH_CARDS).zip((1_u64..).step_by(BATCH_CARDS)) {
        let lines: Vec<u64> = (first..).take(tokens.len()).collect();
        work.ask(Command::Remove { tokens: tokens.to_vec() }, &lines)?;
    }
    work.end("removed")
}

/// Batches on their way, and what came of them.
struct Work {
    target: Target,
    /// What the lines are lines of.
    source: String,
    /// A refusal that is none here: the card is there already.
    known: Option<String>,
    there_already: usize,
    done: usize,
    refused: usize,
}

impl Work {
    fn begin(config: &Config, source: String) -> Result<Work, CliError> {
        let target = Target::open(config, true)?;
        let target = target.ok_or_else(|| refused("there is no store"))?;
        Ok(Work { target, source, known: None, there_already: 0, done: 0, refused: 0 })
    }

    /// One batch; `lines` says where each of its cards stands.
    fn ask(&mut self, command: Command, lines: &[u64]) -> Result<(), CliError> {
        if lines.is_empty() {
            return Ok(());
        }
        match self.target.ask(command)? {
            Outcome::Each { refused } => {
                self.done += lines.len().saturating_sub(refused.len());
                for (place, why) in refused {
                    self.refuse(lines.get(place).copied().unwrap_or_default(), &why);
                }
                Ok(())
            }
            Outcome::Refused(refusal) => Err(CliError::Refused(refusal)),
            Outcome::Card(_) | Outcome::Done => Err(refused("the switch answers something else")),
        }
    }

    fn refuse(&mut self, line: u64, why: &str) {
        if self.known.as_deref() == Some(why) {
            self.there_already += 1;
            return;
        }
        self.refused += 1;
        if self.refused <= SHOWN_MAX {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "{}:{line}: {why}", self.source);
        }
    }

    fn end(self, what: &str) -> Result<(), CliError> {
        self.target.close()?;
        let mut out = io::stdout();
        writeln!(out, "{} cards {what}", self.done)?;
        if self.there_already > 0 {
            writeln!(out, "{} were there already", self.there_already)?;
        }
        match self.refused {
            0 => Ok(()),
            count => Err(CliError::Refused(format!("{count} cards were not {what}"))),
        }
    }
}

/// Shown on a terminal only.
fn bar(length: u64, position: &str) -> ProgressBar {
    let template = format!("{{wide_bar}} {position} {{elapsed}} {{eta}}");
    let style = ProgressStyle::with_template(&template);
    let bar = ProgressBar::new(length);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
