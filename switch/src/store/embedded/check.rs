//! `check-store`: reads a whole data directory, changes nothing, needs no keys, and says what is
//! there, what is damaged, and what would be kept of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use compact_str::CompactString;

use super::in_use::Lock;
use super::open::NO_SUCH_CARD;
use super::options::Replay;
use super::recovery::{self, Examined};
use super::segment::{segment_path, whole_records};
use super::snapshot::{SnapshotInfo, snapshots};
use super::snapshot_read;
use super::tail_mark::TailMark;
use super::types::{Damaged, Failed, OpenError, Position, Sequence};
use crate::cards::CardKey;
use crate::clock::Timestamp;
use crate::place::open_regular;
use crate::store::document::DocumentKind;
use crate::store::readers::Readers;
use crate::store::record::{self, Part, Reads, SnapshotRecord, Unreadable};

/// What was found.
#[derive(Debug, Default)]
pub struct Checked {
    /// For people, a line for each thing.
    pub lines: Vec<String>,
    /// Whether anything is damaged, or is not read, that a start would refuse, or pass over.
    pub is_damaged: bool,
}

impl Checked {
    fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    fn damaged(&mut self, damaged: &Damaged) {
        self.is_damaged = true;
        self.say(format!("damaged: {damaged}"));
    }

    /// What another release has written, and this one does not read: it may be well.
    fn unread(&mut self, unread: &Damaged) {
        self.is_damaged = true;
        self.say(format!("not read: {unread}"));
    }
}

/// Whether another release has written it.
const fn is_of_another(error: &Unreadable) -> bool {
    matches!(error, Unreadable::Older(_) | Unreadable::Newer(_) | Unreadable::Version { .. })
}

/// What the store would hold.
#[derive(Default)]
struct Held {
    cards: BTreeSet<CardKey>,
    documents: BTreeSet<(DocumentKind, CompactString)>,
    readers: Readers,
    /// Cards that a record changes, and that are not there: a removal must follow.
    to_be_removed: BTreeMap<CardKey, Position>,
}

impl Held {
    fn take(&mut self, position: Position, part: &Part) {
        match part {
            Part::CardAdded(card) => {
                self.to_be_removed.remove(&card.identity.key);
                self.cards.insert(card.identity.key);
            }
            Part::CardChanged(changed) if !self.cards.contains(&changed.key) => {
                self.to_be_removed.entry(changed.key).or_insert(position);
            }
            Part::CardRemoved(removed) => {
                self.to_be_removed.remove(&removed.key);
                self.cards.remove(&removed.key);
            }
            Part::Document(found) => {
                self.documents.insert((found.kind, found.token.as_ref().into()));
            }
            Part::DocumentRemoved(removed) => {
                self.documents.remove(&(removed.kind, removed.token.as_ref().into()));
            }
            Part::Acknowledged(found) => self.readers.note(found),
            Part::CardChanged(_)
            | Part::Transaction(_)
            | Part::Event(_)
            | Part::Reversal(_)
            | Part::OwnKeys(_)
            | Part::CardHistory(_)
            | Part::ClockJump(_) => {}
        }
    }

    fn take_snapshot(&mut self, record: SnapshotRecord) {
        match record {
            SnapshotRecord::Card(found) => drop(self.cards.insert(found.card.identity.key)),
            SnapshotRecord::Document(found) => {
                let (kind, token) = (found.document.kind, found.document.token.as_ref().into());
                self.documents.insert((kind, token));
            }
            SnapshotRecord::Acknowledged(found) => self.readers.note(&found),
            SnapshotRecord::OwnKeys(_) | SnapshotRecord::Reversal(_) => {}
        }
    }
}

/// Checks a data directory on which no switch runs.
///
/// # Errors
/// If it is in use, holds no store, or a file cannot be read.
pub fn check(data_dir: &Path) -> Result<Checked, OpenError> {
    let journal = data_dir.join("journal");
    if !journal.is_dir() {
        return Err(OpenError::Absent(journal.display().to_string()));
    }
    let _lock = Lock::take(data_dir)?;
    let mut checked = Checked::default();
    if super::backup::mark_of_backup(data_dir).exists() {
        checked.say("a backup: it starts only with --accept-older-data");
    }
    let mut held = Held::default();
    let newest = check_snapshots(&data_dir.join("snapshots"), &mut held, &mut checked)?;
    check_journal(&journal, newest, (&mut held, &mut checked))?;
    checked.say(format!("cards: {}", held.cards.len()));
    let mut of_kind = BTreeMap::<&str, usize>::new();
    held.documents.iter().for_each(|(kind, _)| *of_kind.entry(kind.name()).or_default() += 1);
    let of_kind: Vec<String> =
        of_kind.iter().map(|(name, count)| format!("{name} {count}")).collect();
    checked.say(format!("documents: {} {}", held.documents.len(), of_kind.join(", ")));
    let readers = held.readers.all();
    checked.say(format!("readers of events: {}", readers.len()));
    for reader in readers {
        checked.say(format!("  {}: has them up to {}", reader.reader, reader.through));
    }
    checked.say(match checked.is_damaged {
        true => "not all of it is well",
        false => "nothing is damaged",
    });
    checked.lines.iter_mut().for_each(|line| line.truncate(line.trim_end().len()));
    Ok(checked)
}

/// The newest whole one, whose contents are taken.
fn check_snapshots(
    directory: &Path,
    held: &mut Held,
    checked: &mut Checked,
) -> Result<Option<SnapshotInfo>, OpenError> {
    let (mut newest, mut damaged_from) = (None, None);
    for (from, path) in snapshots(directory)? {
        let mut found = Held::default();
        let (mut formats, mut is_foreign) = (BTreeSet::new(), false);
        let mut visit = |bytes: &[u8]| {
            formats.extend(record::format_of(bytes));
            let read = record::read_snapshot(bytes);
            is_foreign |= read.as_ref().is_err_and(is_of_another);
            found.take_snapshot(read.map_err(|error| error.to_string())?);
            Ok(())
        };
        match snapshot_read::read_one(&path, from, &mut visit) {
            Ok(info) => {
                let (name, through) = (path.display(), info.through.get());
                let (cards, format) = (found.cards.len(), listed(&formats));
                let from = from.get();
                checked.say(format!(
                    "snapshot {name}: whole, format {format}, {cards} cards, of before record \
                     {from}, and of some up to {through}"
                ));
                (*held, newest) = (found, Some(info));
            }
            Err(OpenError::Damaged(unread)) if is_foreign => checked.unread(&unread),
            Err(OpenError::Damaged(damaged)) => {
                checked.damaged(&damaged);
                damaged_from = Some(from);
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(damaged_from) = damaged_from {
        checked.say(left_without(damaged_from, newest));
    }
    Ok(newest)
}

/// What is left where the newest damaged snapshot begins at this record.
fn left_without(damaged_from: Sequence, newest: Option<SnapshotInfo>) -> String {
    match newest.map(|info| info.from) {
        Some(from) if from > damaged_from => {
            "  a newer snapshot is whole: a start needs no older one".to_owned()
        }
        Some(from) => format!(
            "  an older snapshot is whole: with the journal from record {} on it holds the same",
            from.get()
        ),
        None => "  no older snapshot is whole: the journal alone may hold the same, if it begins \
                 at record 1"
            .to_owned(),
    }
}

fn listed(formats: &BTreeSet<u8>) -> String {
    let formats: Vec<String> = formats.iter().map(u8::to_string).collect();
    if formats.is_empty() { "none".to_owned() } else { formats.join(" and ") }
}

fn check_journal(
    journal: &Path,
    newest: Option<SnapshotInfo>,
    (held, checked): (&mut Held, &mut Checked),
) -> Result<(), OpenError> {
    let start = newest.map_or(Sequence::FIRST, |info| info.from);
    let mut counts = BTreeMap::<&str, u64>::new();
    let (mut formats, mut last, mut time) = (BTreeSet::new(), Sequence::NONE, None);
    let mut is_foreign = false;
    let mut visit = |sequence: Sequence, position, bytes: &[u8]| {
        formats.extend(record::format_of(bytes));
        let reads = if sequence >= start { Reads::State } else { Reads::History };
        let read = record::read_entry(bytes, reads, |part| {
            *counts.entry(part.name()).or_default() += 1;
            if let Part::Transaction(found) = &part {
                time = Some(found.record.time);
            }
            if sequence >= start {
                held.take(position, &part);
            }
        });
        is_foreign |= read.as_ref().is_err_and(is_of_another);
        read.map_err(|error| error.to_string())?;
        last = sequence;
        Ok(false)
    };
    let replay = Replay {
        start: Some(start),
        needed: &|_, _| true,
        visit: &mut visit,
        progress: &|_, _| (),
    };
    let examined = examine(journal, replay);
    say_records(checked, &counts, &formats, (last, time));
    match examined {
        Ok(examined) => {
            say_segments(checked, journal, &examined);
            examined.repaired.iter().for_each(|damaged| checked.damaged(damaged));
            if let Some(info) = newest
                && let Err(damaged) = info.check_journal(journal, examined.last)
            {
                checked.damaged(&damaged);
            }
            for Position { segment, offset } in held.to_be_removed.values() {
                let file = segment_path(journal, *segment);
                checked.damaged(&Damaged::new(&file, (*offset).into(), NO_SUCH_CARD));
            }
            Ok(())
        }
        Err(OpenError::Damaged(unread)) if is_foreign => {
            checked.unread(&unread);
            Ok(())
        }
        Err(OpenError::Damaged(damaged)) => {
            checked.damaged(&damaged);
            say_kept(checked, journal, &damaged, (last, start))
        }
        Err(error) => Err(error),
    }
}

fn examine(journal: &Path, mut replay: Replay<'_>) -> Result<Examined, OpenError> {
    let Some(mark) = TailMark::look(journal)? else {
        let reason = "tail mark: the file is missing";
        return Err(Damaged::new(&super::tail_mark::mark_path(journal), 0, reason).into());
    };
    recovery::examine(journal, mark, &mut replay)
}

fn say_records(
    checked: &mut Checked,
    counts: &BTreeMap<&str, u64>,
    formats: &BTreeSet<u8>,
    (last, time): (Sequence, Option<Timestamp>),
) {
    let newest = time.map_or_else(|| "none".to_owned(), |time| time.to_string());
    let (last, formats) = (last.get(), listed(formats));
    checked.say(format!(
        "journal: format {formats}, read up to record {last}, newest transaction {newest}"
    ));
    for (name, count) in counts {
        checked.say(format!("  {name}: {count}"));
    }
}

fn say_segments(checked: &mut Checked, journal: &Path, examined: &Examined) {
    let (Some(first), Some(last)) = (examined.used.first(), examined.used.last()) else { return };
    let (count, begin) = (examined.used.len(), first.first.get());
    let (first, last, journal) = (first.number, last.number, journal.display());
    checked
        .say(format!("segments: {count} in {journal}, {first} to {last}, from record {begin} on"));
    if let Some(torn) = &examined.torn {
        checked.say(format!(
            "  behind the last record: {torn}; nobody was answered for it, and a start drops it"
        ));
    }
}

/// What is whole before the damage, and behind it.
fn say_kept(
    checked: &mut Checked,
    journal: &Path,
    damaged: &Damaged,
    (last, start): (Sequence, Sequence),
) -> Result<(), OpenError> {
    let (kept, from) = (last.get(), start.get());
    match last.next() >= start {
        true => checked.say(format!(
            "  a repair that ends the journal there would keep everything through record {kept}"
        )),
        false => checked.say(format!(
            "  the newest whole snapshot needs the journal from record {from} on: an older one, or \
             a backup, is all there is"
        )),
    }
    let damaged_at = PathBuf::from(&damaged.file);
    let mut behind = 0;
    for number in super::scan::list(journal)?.segments {
        let path = segment_path(journal, number);
        let is_it = path == damaged_at;
        let mut bytes = Vec::new();
        let read = open_regular(&path)
            .and_then(|mut file| std::io::Read::read_to_end(&mut file, &mut bytes));
        read.map_err(|error| Failed::new(&path, error))?;
        let offset = usize::try_from(if is_it { damaged.offset } else { 0 }).unwrap_or(usize::MAX);
        let rest = bytes.get(offset..).unwrap_or_default();
        behind += whole_records(rest, number).filter(|record| record.sequence > last).count();
    }
    checked.say(format!("  behind it {behind} records are whole, which such a repair would lose"));
    Ok(())
}
