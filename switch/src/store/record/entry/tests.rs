//! What is put reads back, and what is cut short, of another format or of an unknown number does
//! not.

use std::borrow::Cow;

use super::super::stored::tests::reads_back;
use super::super::transaction::tests::record;
use super::super::{EventId, RecordId, StateAndReason, Subject};
use super::*;
use crate::cards::card::CardIdentity;
use crate::cards::{CardKey, CardState, Expiry, MaskedPan, Plastic, SealedPan};
use crate::clock::Timestamp;
use crate::event::{Actor, CardholderVerification, EventKind};
use crate::hsm::{Kcv, PinReference, ReferenceValue};
use crate::store::document::DocumentKind;
use crate::store::duplicates::{MessageKind, Original};

const OWN: OwnKeys = OwnKeys { card_digest: Kcv([1, 2, 3]), pan: Kcv([4, 5, 6]) };
const TIME: Timestamp = Timestamp::from_seconds(2);

fn state() -> CardState {
    let plastic = Plastic::new(Expiry::parse(b"2912").unwrap(), 1);
    let reference =
        PinReference { value: ReferenceValue::Block(*b"ABCDEFGH"), key: Kcv([1, 2, 3]) };
    CardState::new(plastic).with_pin(reference).with_tries(2)
}

fn identity() -> CardIdentity {
    let sealed_pan = SealedPan([9; SealedPan::BYTES]);
    CardIdentity { key: CardKey([7; 16]), token: "card-7".into(), sealed_pan }
}

fn card() -> StoredCard<'static> {
    StoredCard {
        identity: Cow::Owned(identity()),
        product: "debit".into(),
        state: Cow::Owned(state()),
    }
}

fn event() -> Event {
    let (who, state) = ((TIME, Actor::network("net")), state());
    let masked_pan = MaskedPan::from_bytes(*b"4761340019");
    let of = Subject { identity: &identity(), masked_pan, plastic: 0 };
    Event::of_card(EventKind::Issued, who, of, None, Some(&state))
}

fn document() -> StoredDocument<'static> {
    StoredDocument {
        kind: DocumentKind::User,
        token: "user-1".into(),
        replaces: 3,
        expires: Some(TIME),
        body: b"{}"[..].into(),
    }
}

fn acknowledged() -> Acknowledged<'static> {
    let through = EventId { record: RecordId(77), index: 1 };
    Acknowledged { reader: "webhooks".into(), is_forgotten: false, through }
}

/// One of each kind.
fn parts() -> Vec<Part> {
    let kind = Some(MessageKind::of(*b"0200"));
    let originals = [(kind, None), (None, Some(8)), (None, None)];
    let originals = originals.map(|(kind, rrn)| Original { digest: 1 << 100, kind, rrn });
    let transaction = Transaction { previous: Some(99), record: Cow::Owned(record()) };
    let changed = CardChanged { key: CardKey([7; 16]), state: Cow::Owned(state()) };
    let removed = DocumentRemoved { kind: DocumentKind::User, token: "user-1".into() };
    let others = [
        Part::CardAdded(Box::new(card())),
        Part::CardChanged(changed),
        Part::Transaction(Box::new(transaction)),
        Part::Event(Box::new(event())),
        Part::CardRemoved(CardRemoved { key: CardKey([7; 16]) }),
        Part::OwnKeys(OWN),
        Part::ClockJump(ClockJump { time: TIME, micros: -7 }),
        Part::CardHistory(CardHistory { card: CardKey([7; 16]), previous: 99 }),
        Part::Document(Box::new(document())),
        Part::DocumentRemoved(removed),
        Part::Acknowledged(acknowledged()),
    ];
    let reversals = originals.map(|original| Part::Reversal(Reversed { time: TIME, original }));
    others.into_iter().chain(reversals).collect()
}

fn written(parts: &[Part]) -> Vec<u8> {
    let mut entry = Entry::default();
    for part in parts {
        match part {
            Part::CardAdded(part) => entry.put(&**part),
            Part::CardChanged(part) => entry.put(part),
            Part::CardRemoved(part) => entry.put(part),
            Part::Transaction(part) => entry.put(&**part),
            Part::Event(part) => entry.put(&**part),
            Part::Reversal(part) => entry.put(part),
            Part::OwnKeys(part) => entry.put(part),
            Part::ClockJump(part) => entry.put(part),
            Part::CardHistory(part) => entry.put(part),
            Part::Document(part) => entry.put(&**part),
            Part::DocumentRemoved(part) => entry.put(part),
            Part::Acknowledged(part) => entry.put(part),
        }
    }
    entry.bytes().to_owned()
}

fn read(bytes: &[u8]) -> Result<Vec<Part>, Unreadable> {
    let mut parts = Vec::new();
    read_entry(bytes, Reads::State, |part| parts.push(part)).map(|()| parts)
}

#[test]
fn entries_read_back_and_cut_ones_do_not() {
    let expected = parts();
    let out = written(&expected);
    assert_eq!(read(&out), Ok(expected.clone()));
    for length in 0..out.len() {
        let found = read(&out[..length]);
        assert!(found.is_err() || found.is_ok_and(|found| found.len() < expected.len()));
    }
}

#[test]
fn formats_and_versions_that_are_not_known_are_refused_by_name() {
    let out = written(&[Part::OwnKeys(OWN)]);
    let with = |at: usize, byte: u8| {
        let mut out = out.clone();
        out[at] = byte;
        read(&out)
    };
    assert_eq!(with(0, 6), Err(Unreadable::Older(6)));
    assert_eq!(with(0, 9), Err(Unreadable::Newer(9)));
    assert_eq!(with(1, 99), Err(Unreadable::Number { what: "a part", number: 99 }));
    assert_eq!(with(2, 2), Err(Unreadable::Version { kind: 8, version: 2 }));
    let older = [6, 8, 1, 2, 3, 4, 5, 6];
    assert!(read_entry(&older, Reads::History, |_| ()).is_ok());
    assert_eq!(read_entry(&[5, 8], Reads::History, |_| ()), Err(Unreadable::Older(5)));
    assert_eq!(read_snapshot(&[6, 8, 1, 2, 3, 4, 5, 6]), Err(Unreadable::Older(6)));
}

#[test]
fn records_of_a_snapshot_read_back() {
    let original = Original { digest: 7, kind: None, rrn: None };
    let reversed = Reversed { time: TIME, original };
    let reversal = SnapshotReversal { network: "net".into(), reversed };
    let card = SnapshotCard { version: 5, last_record: 6, card: card() };
    let document = SnapshotDocument { version: 4, document: document() };
    let all = [
        (snapshot_record(&OWN), SnapshotRecord::OwnKeys(OWN)),
        (snapshot_record(&reversal), SnapshotRecord::Reversal(reversal.clone())),
        (snapshot_record(&card), SnapshotRecord::Card(Box::new(card.clone()))),
        (snapshot_record(&document), SnapshotRecord::Document(Box::new(document.clone()))),
        (snapshot_record(&acknowledged()), SnapshotRecord::Acknowledged(acknowledged())),
    ];
    for (mut bytes, record) in all {
        assert_eq!(read_snapshot(&bytes), Ok(record));
        assert!((0..bytes.len()).all(|length| read_snapshot(&bytes[..length]).is_err()));
        bytes.push(0);
        assert!(read_snapshot(&bytes).is_err());
    }
}

#[test]
fn events_read_back() {
    reads_back(&event());
    let gone = Event { before: None, after: None, expiry: None, asked: None, ..event() };
    reads_back(&gone);
    let after = StateAndReason::of(&state().plastics[0]);
    reads_back(&Event { before: Some(after), ..gone });
    for way in CardholderVerification::ALL {
        reads_back(&Event { verified_by: Some(way), ..event() });
    }
}

#[test]
fn an_event_of_the_version_before_reads() {
    let mut bytes = written(&[Part::Event(Box::new(event()))]);
    // It had neither the two flags behind the name of who acted, nor the two at its end.
    let behind_name = bytes.windows(3).position(|part| part == b"net").unwrap() + 3;
    let flags: Vec<u8> = bytes.drain(behind_name..behind_name + 2).collect();
    assert_eq!((flags, bytes.pop(), bytes.pop()), (vec![0, 0], Some(0), Some(0)));
    // Format, kind and version.
    assert_eq!(bytes[..3], [8, 4, 2]);
    bytes[2] = 1;
    assert_eq!(read(&bytes), Ok(vec![Part::Event(Box::new(event()))]));
}

#[test]
fn a_transaction_of_the_version_before_reads() {
    let record = record();
    let part = |plastic| {
        let record = Cow::Owned(super::super::TransactionRecord { plastic, ..record.clone() });
        vec![Part::Transaction(Box::new(Transaction { previous: Some(9), record }))]
    };
    let mut bytes = written(&part(Some(2)));
    assert_eq!(read(&bytes), Ok(part(Some(2))));
    // Format, kind and version; and before the plastic, which it did not have, a flag and 8 bytes.
    assert_eq!(bytes[..3], [8, 3, 2]);
    bytes[2] = 1;
    assert_eq!(bytes.drain(12..14).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(read(&bytes), Ok(part(None)));
}
