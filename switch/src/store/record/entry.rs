//! Entries and the records of snapshots: the bytes around their parts.
//!
//! An entry (the payload of one journal record) is a format byte, 8, and parts one after another;
//! a record of a snapshot is a format byte and one part. A part is a kind byte, a version byte and
//! what the module of its kind describes:
//!
//! ```text
//! 1 card added, 2 card changed, 5 card removed, 7 card of a snapshot        card, chip
//! 3 transaction                                                             transaction
//! 4 event                                                                   event
//! 6 reversal, 10 reversal of a snapshot                                     reversal
//! 8 own keys                                                                own_keys
//! 9 clock jump                                                              clock_jump
//! 11 document, 12 document removed, 13 document of a snapshot               document
//! 14 events acknowledged by a reader                                        acknowledged
//! 15 history of a card                                                      event
//! ```
//!
//! `text` is one byte of length and that many bytes of UTF-8, `flag` a byte that is 0 or 1, and
//! what stands behind a flag is there only if that is 1. A number that nothing has is a refusal.
//!
//! **Format 7** is still read whole (`format_7`). What stands before the newest snapshot may be of
//! format 6, whose parts are those of 7: release 7 carried such journals on.

use super::stored::{Stored, Unreadable};
use super::{
    Acknowledged, CardChanged, CardHistory, CardRemoved, ClockJump, DocumentRemoved, Event,
    OwnKeys, Reversed, SnapshotCard, SnapshotDocument, SnapshotReversal, StoredCard,
    StoredDocument, Transaction, event, format_7, transaction,
};

/// The format that is written.
pub(super) const FORMAT: u8 = 8;
/// The format before it.
const FORMAT_BEFORE: u8 = 7;
/// What may stand before the newest snapshot.
const FORMAT_OF_HISTORY: u8 = 6;

/// Bytes of a usual entry.
const ENTRY_BYTES: usize = 512;

/// A part of an entry, or what a record of a snapshot holds. A kind never becomes another one.
pub trait Kept: Stored {
    /// Its number.
    const KIND: u8;
    /// The version of its bytes.
    const VERSION: u8 = 1;
}

fn put(out: &mut Vec<u8>, part: &impl Kept) {
    fn numbers<P: Kept>(_: &P) -> [u8; 2] {
        [P::KIND, P::VERSION]
    }
    out.extend_from_slice(&numbers(part));
    part.put(out);
}

/// An entry that is being written.
#[derive(Debug)]
pub struct Entry(Vec<u8>);

impl Default for Entry {
    fn default() -> Entry {
        let mut bytes = Vec::with_capacity(ENTRY_BYTES);
        bytes.push(FORMAT);
        Entry(bytes)
    }
}

impl Entry {
    /// An entry of one part.
    #[must_use]
    pub fn of(part: &impl Kept) -> Entry {
        let mut entry = Entry::default();
        entry.put(part);
        entry
    }

    /// Appends a part.
    pub fn put(&mut self, part: &impl Kept) {
        put(&mut self.0, part);
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The bytes of a record of a snapshot.
#[must_use]
pub fn snapshot_record(part: &impl Kept) -> Vec<u8> {
    let mut out = vec![FORMAT];
    put(&mut out, part);
    out
}

/// One part of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A new card.
    CardAdded(Box<StoredCard<'static>>),
    /// A card with another state.
    CardChanged(CardChanged<'static>),
    /// A card that is no more.
    CardRemoved(CardRemoved),
    /// A transaction.
    Transaction(Box<Transaction<'static>>),
    /// Something to tell.
    Event(Box<Event>),
    /// An original was reversed.
    Reversal(Reversed),
    /// The own keys of the store.
    OwnKeys(OwnKeys),
    /// The civil time has jumped.
    ClockJump(ClockJump),
    /// A document, new or changed.
    Document(Box<StoredDocument<'static>>),
    /// A document that is no more.
    DocumentRemoved(DocumentRemoved<'static>),
    /// A reader has the events up to one.
    Acknowledged(Acknowledged<'static>),
    /// Where the record before of a card's history stands.
    CardHistory(CardHistory),
}

impl Part {
    /// What it is, for people.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Part::CardAdded(_) => "cards added",
            Part::CardChanged(_) => "cards changed",
            Part::CardRemoved(_) => "cards removed",
            Part::Transaction(_) => "transactions",
            Part::Event(_) => "events",
            Part::Reversal(_) => "reversals",
            Part::OwnKeys(_) => "own keys",
            Part::ClockJump(_) => "clock jumps",
            Part::Document(_) => "documents written",
            Part::DocumentRemoved(_) => "documents removed",
            Part::Acknowledged(_) => "acknowledgements",
            Part::CardHistory(_) => "histories of cards",
        }
    }
}

/// One record of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotRecord {
    /// A card.
    Card(Box<SnapshotCard<'static>>),
    /// The own keys.
    OwnKeys(OwnKeys),
    /// What was reversed on a network.
    Reversal(SnapshotReversal<'static>),
    /// A document.
    Document(Box<SnapshotDocument<'static>>),
    /// How far a reader of events is.
    Acknowledged(Acknowledged<'static>),
}

/// What an entry is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// For the state of cards: the format must be one of those that are carried on.
    State,
    /// For what is told of the past. It stands before the newest snapshot.
    History,
}

/// The format of an entry, or of a record of a snapshot; `None` where there is no byte.
#[must_use]
pub fn format_of(bytes: &[u8]) -> Option<u8> {
    bytes.first().copied()
}

fn read_format(bytes: &mut &[u8], reads: Reads) -> Result<u8, Unreadable> {
    let oldest = if reads == Reads::State { FORMAT_BEFORE } else { FORMAT_OF_HISTORY };
    match u8::read(bytes)? {
        format if format > FORMAT => Err(Unreadable::Newer(format)),
        format if format < oldest => Err(Unreadable::Older(format)),
        format => Ok(format),
    }
}

/// Reads an entry, part after part.
///
/// # Errors
/// If the bytes are not one; the parts before have been visited then.
pub fn read_entry(
    mut bytes: &[u8],
    reads: Reads,
    mut visit: impl FnMut(Part),
) -> Result<(), Unreadable> {
    let is_of_now = read_format(&mut bytes, reads)? == FORMAT;
    while !bytes.is_empty() {
        let part = if is_of_now { read_part(&mut bytes) } else { format_7::read_part(&mut bytes) };
        visit(part?);
    }
    Ok(())
}

/// A part of this kind, if it has the version that is known.
fn of<P: Kept>(bytes: &mut &[u8], version: u8) -> Result<P, Unreadable> {
    match version == P::VERSION {
        true => P::read(bytes),
        false => Err(Unreadable::Version { kind: P::KIND, version }),
    }
}

fn read_part(bytes: &mut &[u8]) -> Result<Part, Unreadable> {
    let (kind, version) = (u8::read(bytes)?, u8::read(bytes)?);
    Ok(match kind {
        StoredCard::KIND => Part::CardAdded(Box::new(of(bytes, version)?)),
        CardChanged::KIND => Part::CardChanged(of(bytes, version)?),
        CardRemoved::KIND => Part::CardRemoved(of(bytes, version)?),
        Transaction::KIND => {
            let read = match version {
                transaction::VERSION_BEFORE => transaction::read_before(bytes)?,
                _ => of(bytes, version)?,
            };
            Part::Transaction(Box::new(transaction::with_trace(read)))
        }
        Event::KIND if version == event::VERSION_BEFORE => {
            Part::Event(Box::new(event::read_before(bytes)?))
        }
        Event::KIND => Part::Event(Box::new(of(bytes, version)?)),
        Reversed::KIND => Part::Reversal(of(bytes, version)?),
        OwnKeys::KIND => Part::OwnKeys(of(bytes, version)?),
        ClockJump::KIND => Part::ClockJump(of(bytes, version)?),
        StoredDocument::KIND => Part::Document(Box::new(of(bytes, version)?)),
        DocumentRemoved::KIND => Part::DocumentRemoved(of(bytes, version)?),
        Acknowledged::KIND => Part::Acknowledged(of(bytes, version)?),
        CardHistory::KIND => Part::CardHistory(of(bytes, version)?),
        number => return Err(Unreadable::Number { what: "a part", number: number.into() }),
    })
}

/// Reads a record of a snapshot.
///
/// # Errors
/// If the bytes are not one.
pub fn read_snapshot(mut bytes: &[u8]) -> Result<SnapshotRecord, Unreadable> {
    let is_of_now = read_format(&mut bytes, Reads::State)? == FORMAT;
    let record = match is_of_now {
        true => read_snapshot_part(&mut bytes)?,
        false => format_7::read_snapshot(&mut bytes)?,
    };
    match bytes.is_empty() {
        true => Ok(record),
        false => Err(Unreadable::Part("bytes behind a record of a snapshot")),
    }
}

fn read_snapshot_part(bytes: &mut &[u8]) -> Result<SnapshotRecord, Unreadable> {
    let (kind, version) = (u8::read(bytes)?, u8::read(bytes)?);
    Ok(match kind {
        SnapshotCard::KIND => SnapshotRecord::Card(Box::new(of(bytes, version)?)),
        OwnKeys::KIND => SnapshotRecord::OwnKeys(of(bytes, version)?),
        SnapshotReversal::KIND => SnapshotRecord::Reversal(of(bytes, version)?),
        SnapshotDocument::KIND => SnapshotRecord::Document(Box::new(of(bytes, version)?)),
        Acknowledged::KIND => SnapshotRecord::Acknowledged(of(bytes, version)?),
        number => {
            let what = "a record of a snapshot";
            return Err(Unreadable::Number { what, number: number.into() });
        }
    })
}

#[cfg(test)]
mod tests;
