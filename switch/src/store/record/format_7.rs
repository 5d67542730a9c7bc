//! Format 7, which is read and never written: an entry is a format byte and parts, each a kind byte
//! and its fields. It has no documents and no readers of events, and its states, transactions and
//! events are laid out otherwise:
//!
//! ```text
//! state           status u8, reason u8, PIN version u32, tries u32, reference, plastics u8 times
//!                 (expiry 4 digits, sequence u8, flag and, if it is known, chip)
//! chip            as now, but for the PIN that a script has given it
//! 3 transaction   time i64, card key 16, masked PAN 10, network text, MTI 4, DE3 6, DE4 u64,
//!                 DE49 u16, DE7 10, DE11 6, DE32 11, DE37 1 + 12, reason u16, DE38 1 + 6,
//!                 verification of PIN u8 and of cryptogram u8 (0: none), flags u8 (bit 0: the
//!                 answer is kept for repeats; bit 1: it has tag 91; bit 2: it has a script),
//!                 script id 4, key, body digest u64, whether there was such a card u8, its
//!                 previous record u64 (0: none), notes u8 times (number u8, value u64, parameter
//!                 u64)
//! 4 event         kind u8 (1: state.suspended, 2: pin_change.expired), time i64, card key 16
//! ```
//!
//! A record of a snapshot is a format byte and `7` version u64, last record u64, part `card added`;
//! `10` network text, part `reversal`; or the part `own keys`.

use std::borrow::Cow;

use super::stored::{Stored, Unreadable};
use super::{
    CardChanged, CardRemoved, ClockJump, Event, OwnKeys, Part, Reversed, SnapshotCard,
    SnapshotRecord, SnapshotReversal, StateAndReason, StoredCard, Transaction, TransactionRecord,
    transaction,
};
use crate::authorization::Answer;
use crate::authorization::response::ChipAnswer;
use crate::cards::chip_state::Chip;
use crate::cards::{
    CardKey, CardState, CardStatus, Embossed, MaskedPan, OnlinePin, Plastic, StatusReason,
};
use crate::event::{Actor, EventKind};

const CARD_ADDED: u8 = 1;
const CARD_CHANGED: u8 = 2;
const TRANSACTION: u8 = 3;
const EVENT: u8 = 4;
const CARD_REMOVED: u8 = 5;
const REVERSAL: u8 = 6;
const SNAPSHOT_CARD: u8 = 7;
const OWN_KEYS: u8 = 8;
const CLOCK_JUMP: u8 = 9;
const SNAPSHOT_REVERSAL: u8 = 10;
const STATE_SUSPENDED: u8 = 1;
const PIN_CHANGE_EXPIRED: u8 = 2;
const ANSWER_IS_KEPT: u8 = 1;
const ANSWER_HAS_ARPC: u8 = 2;
const ANSWER_HAS_SCRIPT: u8 = 4;

pub(super) fn read_part(bytes: &mut &[u8]) -> Result<Part, Unreadable> {
    Ok(match u8::read(bytes)? {
        CARD_ADDED => Part::CardAdded(Box::new(read_card(bytes)?)),
        CARD_CHANGED => {
            let (key, state) = (Stored::read(bytes)?, Cow::Owned(read_state(bytes)?));
            Part::CardChanged(CardChanged { key, state })
        }
        CARD_REMOVED => Part::CardRemoved(CardRemoved { key: Stored::read(bytes)? }),
        TRANSACTION => Part::Transaction(Box::new(read_transaction(bytes)?)),
        EVENT => Part::Event(Box::new(read_event(bytes)?)),
        REVERSAL => Part::Reversal(Reversed::read(bytes)?),
        CLOCK_JUMP => Part::ClockJump(ClockJump::read(bytes)?),
        OWN_KEYS => Part::OwnKeys(OwnKeys::read(bytes)?),
        number => return Err(Unreadable::Number { what: "a part", number: number.into() }),
    })
}

pub(super) fn read_snapshot(bytes: &mut &[u8]) -> Result<SnapshotRecord, Unreadable> {
    match u8::read(bytes)? {
        SNAPSHOT_CARD => {
            let (version, last_record) = (Stored::read(bytes)?, Stored::read(bytes)?);
            let Part::CardAdded(card) = read_part(bytes)? else {
                return Err(Unreadable::Part("it is no card"));
            };
            let card = SnapshotCard { version, last_record, card: *card };
            Ok(SnapshotRecord::Card(Box::new(card)))
        }
        SNAPSHOT_REVERSAL => {
            let network = Stored::read(bytes)?;
            let Part::Reversal(reversed) = read_part(bytes)? else {
                return Err(Unreadable::Part("it is no reversal"));
            };
            Ok(SnapshotRecord::Reversal(SnapshotReversal { network, reversed }))
        }
        OWN_KEYS => Ok(SnapshotRecord::OwnKeys(OwnKeys::read(bytes)?)),
        number => {
            let what = "a record of a snapshot";
            Err(Unreadable::Number { what, number: number.into() })
        }
    }
}

fn read_card(bytes: &mut &[u8]) -> Result<StoredCard<'static>, Unreadable> {
    let (identity, product) = (Stored::read(bytes)?, Stored::read(bytes)?);
    Ok(StoredCard { identity, product, state: Cow::Owned(read_state(bytes)?) })
}

/// Its state is that of all its plastics, which count as produced with the PIN of now.
fn read_state(bytes: &mut &[u8]) -> Result<CardState, Unreadable> {
    let (status, status_reason) = (CardStatus::read(bytes)?, StatusReason::read(bytes)?);
    let pin = OnlinePin::read(bytes)?;
    let embossed = match pin.reference {
        Some(_) => Embossed::Pin(pin.version),
        None => Embossed::NoPin,
    };
    let plastic = |bytes: &mut &[u8]| -> Result<Plastic, Unreadable> {
        let plastic = Plastic::new(Stored::read(bytes)?, Stored::read(bytes)?);
        let mut plastic = plastic.embossed_with(embossed);
        (plastic.status, plastic.status_reason) = (status, status_reason);
        if bool::read(bytes)? {
            let (counters, sync) = (Stored::read(bytes)?, Stored::read(bytes)?);
            plastic.set_chip(Chip { counters, sync, has_script_pin: false });
        }
        Ok(plastic)
    };
    let plastics = (0..u8::read(bytes)?).map(|_| plastic(bytes)).collect::<Result<_, _>>()?;
    Ok(CardState { version: 0, pin, plastics })
}

fn read_transaction(bytes: &mut &[u8]) -> Result<Transaction<'static>, Unreadable> {
    let mut record = TransactionRecord {
        time: Stored::read(bytes)?,
        card: Stored::read(bytes)?,
        plastic: None,
        masked_pan: Stored::read(bytes)?,
        network: Stored::read(bytes)?,
        mti: Stored::read(bytes)?,
        processing_code: Stored::read(bytes)?,
        amount: Stored::read(bytes)?,
        transmission_time: Stored::read(bytes)?,
        stan: Stored::read(bytes)?,
        acquirer: Stored::read(bytes)?,
        rrn: filled(bytes)?,
        answer: Answer {
            reason: Stored::read(bytes)?,
            approval_code: filled(bytes)?,
            chip: ChipAnswer::Nothing,
        },
        verification: outcome(bytes)?,
        cryptogram: outcome(bytes)?,
        is_kept: false,
        duplicate_key: crate::store::duplicates::Original::NOTHING.to_key(),
        body: Default::default(),
        trail: Default::default(),
    };
    let (flags, script) = (u8::read(bytes)?, Stored::read(bytes)?);
    record.is_kept = flags & ANSWER_IS_KEPT != 0;
    record.answer.chip = match (flags & ANSWER_HAS_ARPC, flags & ANSWER_HAS_SCRIPT) {
        (0, _) => ChipAnswer::Nothing,
        (_, 0) => ChipAnswer::Authentication,
        _ => ChipAnswer::Script(script),
    };
    record.duplicate_key = Stored::read(bytes)?;
    record.body = Stored::read(bytes)?;
    let previous = (bool::read(bytes)?, u64::read(bytes)?);
    record.trail = Stored::read(bytes)?;
    let (previous, record) = (previous.0.then_some(previous.1), Cow::Owned(record));
    Ok(transaction::with_trace(Transaction { previous, record }))
}

/// What is not there has its room all the same.
fn filled<const N: usize>(bytes: &mut &[u8]) -> Result<Option<[u8; N]>, Unreadable> {
    let is_some = bool::read(bytes)?;
    let value = Stored::read(bytes)?;
    Ok(is_some.then_some(value))
}

fn outcome<T: Stored>(bytes: &mut &[u8]) -> Result<Option<T>, Unreadable> {
    match bytes.first() {
        Some(0) => u8::read(bytes).map(|_| None),
        _ => Stored::read(bytes).map(Some),
    }
}

/// It names its card by its key alone: the store looks for the rest.
fn read_event(bytes: &mut &[u8]) -> Result<Event, Unreadable> {
    let kind = match u8::read(bytes)? {
        STATE_SUSPENDED => EventKind::StateSuspended,
        PIN_CHANGE_EXPIRED => EventKind::PinChangeExpired,
        number => return Err(Unreadable::Number { what: "an event", number: number.into() }),
    };
    let (time, card) = (Stored::read(bytes)?, CardKey::read(bytes)?);
    let suspended =
        StateAndReason { status: CardStatus::Suspended, reason: StatusReason::PIN_RETRY_LIMIT };
    Ok(Event {
        kind,
        time,
        actor: Actor::switch("an earlier release"),
        card,
        card_token: Default::default(),
        before: None,
        after: (kind == EventKind::StateSuspended).then_some(suspended),
        masked_pan: MaskedPan::NONE,
        expiry: None,
        pin_is_set: true,
        verified_by: None,
        asked: None,
    })
}
