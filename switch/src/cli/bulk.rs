//! Many cards at once: from a file, made up, removed. They go to the running switch, or into its
//! store where none runs, in batches with one sync each.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use csv_core::ReadRecordResult;
use indicatif::{ProgressBar, ProgressStyle};
use zeroize::Zeroizing;

use switch::config::Config;
use switch::control::{self, CardForm, Command, NewState, Refusal, Reply};
use switch::demo;
use switch::issuing::Code;
use switch::issuing::secret::PinText;

use super::{CliError, Target, no_store, refused};

/// Cards of one batch, as far as their lines fit into one command.
const BATCH_CARDS: usize = 10_000;
/// Bytes of the lines of one batch; as JSON they may be twice as many.
const BATCH_BYTES: usize = control::LINE_BYTES_MAX / 4;
/// Refusals that are shown; the others are counted.
const SHOWN_MAX: usize = 100;
/// Longest line of a file, in bytes.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Fields of a line; a card has ten.
const FIELDS_MAX: usize = 16;

/// What a mistake in a line is called; the parser's own text could quote a PAN or a PIN.
const EXPECTED: &str = "expected the texts token, pan, expiration, pan_sequence_number and \
                        card_product_token, and perhaps state, pin, pvv, pvki and pin_offset";

/// Adds the cards of a CSV or JSON-lines file.
pub(super) fn import(config: &Config, path: &Path) -> Result<(), CliError> {
    let name = path.display().to_string();
    let failed = |error: io::Error| CliError::Refused(format!("{name}: {error}"));
    let file = File::open(path).map_err(failed)?;
    let bar = bar(file.metadata().map_err(failed)?.len(), "{bytes}/{total_bytes}");
    let reader = BufReader::new(bar.wrap_read(file));
    let mut lines = Lines { reader, number: 0, line: Zeroizing::default() };
    let mut csv = csv_core::Reader::new();
    let head = match path.extension().and_then(|end| end.to_str()) {
        Some("csv") => Some(lines.head(&mut csv).map_err(failed)?),
        Some("jsonl" | "ndjson") => None,
        _ => return Err(refused("expected a file that ends in .csv, .jsonl or .ndjson")),
    };
    // Begun with the first batch: a slow pipe may take longer to fill it than the switch waits for
    // a command.
    let mut begun = None;
    let mut batch = Batch::default();
    while let Some((number, line)) = lines.next().map_err(failed)? {
        let bytes = line.as_ref().map_or(0, |line| line.len());
        if batch.cards.len() == BATCH_CARDS || batch.bytes + bytes > BATCH_BYTES {
            let work = match &mut begun {
                Some(work) => work,
                None => begun.insert(Work::begin(config, name.clone(), true)?),
            };
            work.add(std::mem::take(&mut batch))?;
        }
        batch.bytes += bytes;
        match line.ok().and_then(|line| read_card(&line, head.as_ref(), &mut csv)) {
            Some(card) => batch.cards.push((number, card)),
            None => {
                let (code, text) = (Code::InvalidField, EXPECTED.to_owned());
                batch.refused.push((number, Refusal { code, text }));
            }
        }
    }
    let mut work = match begun {
        Some(work) => work,
        None => Work::begin(config, name.clone(), true)?,
    };
    work.add(batch)?;
    bar.finish_and_clear();
    work.end("added")
}

fn read_card(line: &str, head: Option<&Fields>, csv: &mut csv_core::Reader) -> Option<CardForm> {
    // As JSON they would take six bytes each.
    if line.contains(char::is_control) {
        return None;
    }
    match head {
        Some(head) => {
            let fields = of_csv(line, csv).filter(|fields| fields.count == head.count)?;
            of_fields(head, &fields)
        }
        None => serde_json::from_str(line).ok(),
    }
}

/// The card of a line whose fields have these names; nothing of it is kept elsewhere.
fn of_fields(head: &Fields, fields: &Fields) -> Option<CardForm> {
    let field = |name: &str| {
        let (_, value) = head.iter().zip(fields.iter()).find(|(own, _)| *own == name)?;
        Some(value)
    };
    let text = |name: &str| field(name).map(str::to_owned);
    // Who leaves a field empty leaves it out.
    let given = |name: &str| field(name).filter(|value| !value.is_empty());
    let secret = |value: &str| Zeroizing::new(value.to_owned());
    let state = match given("state") {
        None => None,
        Some("UNACTIVATED") => Some(NewState::Unactivated),
        Some("ACTIVE") => Some(NewState::Active),
        Some(_) => return None,
    };
    Some(CardForm {
        token: text("token")?,
        pan: field("pan").map(secret)?,
        expiration: text("expiration")?,
        pan_sequence_number: text("pan_sequence_number")?,
        card_product_token: text("card_product_token")?,
        state,
        pin: given("pin").map(secret).map(PinText::new),
        pvv: given("pvv").map(str::to_owned),
        pvki: given("pvki").map(str::to_owned),
        pin_offset: given("pin_offset").map(str::to_owned),
    })
}

/// The fields of a line, wiped when dropped: a PIN may be one.
struct Fields {
    text: Zeroizing<Vec<u8>>,
    /// Where each of them ends.
    ends: [usize; FIELDS_MAX],
    count: usize,
}

impl Fields {
    /// The fields in their order, trimmed.
    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).take(self.count).map(|(start, end)| {
            let field = self.text.get(*start..*end).unwrap_or_default();
            // They are parts of a text, cut at characters of one byte.
            std::str::from_utf8(field).unwrap_or_default().trim()
        })
    }
}

/// One line. No value of a card holds a line break, so a quote that is left open spoils its own
/// line only; a reader of the whole file would take the others with it.
fn of_csv(line: &str, reader: &mut csv_core::Reader) -> Option<Fields> {
    let line = Zeroizing::new([line.as_bytes(), b"\n"].concat());
    let mut text = Zeroizing::new(vec![0; line.len()]);
    let mut ends = [0; FIELDS_MAX];
    reader.reset();
    let (result, read, _, count) = reader.read_record(&line, &mut text, &mut ends);
    // A record may end before its line does, at a carriage return.
    (result == ReadRecordResult::Record && read == line.len()).then_some(Fields {
        text,
        ends,
        count,
    })
}

/// The lines of a file that are not empty.
struct Lines<R> {
    reader: R,
    number: u64,
    /// Room for the longest line, used again for each.
    line: Zeroizing<Vec<u8>>,
}

/// The line is longer than any card, or not UTF-8.
struct NoText;

impl<R: BufRead> Lines<R> {
    /// The first line: names that a card has, all that it must have among them.
    fn head(&mut self, csv: &mut csv_core::Reader) -> io::Result<Fields> {
        let wrong = || io::Error::other(format!("the head line: {EXPECTED}"));
        let (_, line) = self.next()?.ok_or_else(wrong)?;
        let head = line.ok().and_then(|line| of_csv(&line, csv)).ok_or_else(wrong)?;
        let names = "token pan expiration pan_sequence_number card_product_token state pin pvv \
                     pvki pin_offset";
        let mut known = names.split_whitespace();
        let has = |name: &str| head.iter().filter(|own| *own == name).count();
        let complete = known.by_ref().take(5).all(|name| has(name) == 1);
        let optional = head.iter().all(|own| names.split_whitespace().any(|name| name == own));
        let once = known.all(|name| has(name) <= 1);
        if complete && optional && once { Ok(head) } else { Err(wrong()) }
    }

    /// The next line that is not empty, with its number.
    #[allow(clippy::type_complexity, reason = "a line, or why it is none, at its number")]
    fn next(&mut self) -> io::Result<Option<(u64, Result<Zeroizing<String>, NoText>)>> {
        loop {
            let Lines { reader, number, line } = self;
            line.fill(0);
            line.clear();
            line.reserve(LINE_BYTES_MAX);
            *number += 1;
            if reader.take(LINE_BYTES_MAX as u64).read_until(b'\n', line)? == 0 {
                return Ok(None);
            }
            if line.last() != Some(&b'\n') && line.len() >= LINE_BYTES_MAX {
                reader.skip_until(b'\n')?;
                return Ok(Some((*number, Err(NoText))));
            }
            match std::str::from_utf8(line) {
                Ok(text) if text.trim().is_empty() => {}
                Ok(text) => {
                    let text = Zeroizing::new(text.trim().to_owned());
                    return Ok(Some((*number, Ok(text))));
                }
                Err(_) => return Ok(Some((*number, Err(NoText)))),
            }
        }
    }
}

/// Adds the first `count` of the made-up cards of the demo programme; those that are there
/// already stay as they are.
pub(super) fn seed(config: &Config, count: u32) -> Result<(), CliError> {
    if !config.products.iter().any(|product| *product.name == *demo::SEED_PRODUCT) {
        let product = demo::SEED_PRODUCT;
        let text = format!(
            "seeded cards are of the product {product}, which the configuration does not have"
        );
        return Err(CliError::Refused(text));
    }
    let mut work = Work::begin(config, "card".to_owned(), true)?;
    work.known = Some((Code::PanTaken, "there already"));
    work.each_batch(count, |indices| Command::AddMany(indices.map(demo::seed_card).collect()))?;
    work.end("added")
}

/// Removes them again.
pub(super) fn remove_seeds(config: &Config, count: u32) -> Result<(), CliError> {
    let mut work = Work::begin(config, "card".to_owned(), false)?;
    work.known = Some((Code::NoSuchCard, "not there"));
    work.each_batch(count, |indices| Command::Remove {
        tokens: indices.map(demo::seed_token).collect(),
    })?;
    work.end("removed")
}

/// Removes cards by their tokens.
pub(super) fn remove(config: &Config, tokens: &[String]) -> Result<(), CliError> {
    let mut work = Work::begin(config, "card".to_owned(), false)?;
    for (tokens, first) in tokens.chunks(BATCH_CARDS).zip((1_u64..).step_by(BATCH_CARDS)) {
        let places: Vec<u64> = (first..).take(tokens.len()).collect();
        work.ask(Command::Remove { tokens: tokens.to_vec() }, &places, Vec::new())?;
    }
    work.end("removed")
}

/// Lines of a file that go together.
#[derive(Default)]
struct Batch {
    cards: Vec<(u64, CardForm)>,
    refused: Vec<(u64, Refusal)>,
    bytes: usize,
}

/// Batches on their way, and what came of them.
struct Work {
    target: Target,
    /// What the places are places of.
    source: String,
    /// A refusal that is none here, and what it says.
    known: Option<(Code, &'static str)>,
    known_count: usize,
    done: usize,
    refused: usize,
}

impl Work {
    fn begin(config: &Config, source: String, may_create: bool) -> Result<Work, CliError> {
        let target = Target::open(config, may_create)?.ok_or_else(|| no_store(config))?;
        Ok(Work { target, source, known: None, known_count: 0, done: 0, refused: 0 })
    }

    fn add(&mut self, batch: Batch) -> Result<(), CliError> {
        let (places, cards): (Vec<u64>, Vec<CardForm>) = batch.cards.into_iter().unzip();
        self.ask(Command::AddMany(cards), &places, batch.refused)
    }

    fn each_batch(
        &mut self,
        count: u32,
        command: impl Fn(std::ops::Range<u32>) -> Command,
    ) -> Result<(), CliError> {
        let bar = bar(count.into(), "{human_pos}/{human_len} cards");
        let step = u32::try_from(BATCH_CARDS).unwrap_or(u32::MAX);
        let mut first = 0;
        while first < count {
            let end = first.saturating_add(step).min(count);
            let places: Vec<u64> = (first..end).map(u64::from).collect();
            self.ask(command(first..end), &places, Vec::new())?;
            bar.set_position(end.into());
            first = end;
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// One batch; `places` says where each of its cards stands, and `refused` what is none.
    fn ask(
        &mut self,
        command: Command,
        places: &[u64],
        mut refused: Vec<(u64, Refusal)>,
    ) -> Result<(), CliError> {
        if !places.is_empty() {
            let outcome = match self.target.ask(command)? {
                Reply::Each { refused } => refused,
                Reply::Refused(refusal) => return Err(refusal.into()),
                Reply::Card(_)
                | Reply::Product(_)
                | Reply::Products(_)
                | Reply::ApiKey(_)
                | Reply::ApiKeys(_)
                | Reply::Transactions(_)
                | Reply::Values(_)
                | Reply::Events(_)
                | Reply::Done => {
                    return Err(super::refused("the switch answers something else"));
                }
            };
            self.done += places.len().saturating_sub(outcome.len());
            refused.extend(
                outcome
                    .into_iter()
                    .filter_map(|(place, why)| places.get(place).map(|number| (*number, why))),
            );
        }
        refused.sort_by_key(|(number, _)| *number);
        refused.iter().for_each(|(number, why)| self.refuse(*number, why));
        Ok(())
    }

    fn refuse(&mut self, place: u64, why: &Refusal) {
        if self.known.is_some_and(|(known, _)| known == why.code) {
            self.known_count += 1;
            return;
        }
        self.refused += 1;
        if self.refused <= SHOWN_MAX {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "{}:{place}: {}", self.source, why.text);
        }
    }

    fn end(self, what: &str) -> Result<(), CliError> {
        self.target.close()?;
        let mut out = io::stdout();
        writeln!(out, "{} {what}", cards(self.done))?;
        if let Some((_, known)) = self.known.filter(|_| self.known_count > 0) {
            writeln!(out, "{} were {known}", self.known_count)?;
        }
        match self.refused {
            0 => Ok(()),
            count => Err(CliError::Refused(format!("{} not {what}", cards(count)))),
        }
    }
}

fn cards(count: usize) -> String {
    if count == 1 { "1 card".to_owned() } else { format!("{count} cards") }
}

/// Shown on a terminal only.
fn bar(length: u64, position: &str) -> ProgressBar {
    let template = format!("{{wide_bar}} {position} {{elapsed}} {{eta}}");
    let style = ProgressStyle::with_template(&template);
    let bar = ProgressBar::new(length);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
