//! Events: what others are told of a card, and its bytes.
//!
//! ```text
//! 4 event  kind u8, time i64, who: way u8, name text and, from version 2 on, for whom (flag, text)
//!          and address (flag, version u8: 4 or 6, and 4 or 16 bytes), card key 16, token text,
//!          before and after (flag, then state u8, reason u8), masked PAN 10, expiry (flag, 4
//!          digits), whether a PIN is set u8; and, from version 2 on, how the cardholder was
//!          verified (flag, number u8) and how it was asked for (flag, then channel u8, reason
//!          text, token text)
//! 15 history of a card  card key 16, previous record u64 (0: none)
//! ```
//!
//! Which transaction caused it is not stored: it stands in the same entry.

use std::fmt;
use std::net::IpAddr;
use std::num::ParseIntError;
use std::str::FromStr;

use compact_str::CompactString;

use super::entry::{Kept, Part, Reads, read_entry};
use super::stored::{Stored, Unreadable, stored_fields, stored_numbers};
use super::{RecordId, TransactionRecord};
use crate::authorization::Channel;
use crate::cards::card::CardIdentity;
use crate::cards::{CardKey, CardState, CardStatus, Expiry, MaskedPan, Plastic, StatusReason};
use crate::clock::Timestamp;
use crate::event::{Actor, ActorKind, CardholderVerification, EventKind};

/// What others are told of a card. It holds all that it tells, so that it outlives its card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// When.
    pub time: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// Key of the card.
    pub card: CardKey,
    /// Token of the plastic that it is about: the card's, unless it has one of its own. Empty where
    /// a record of an earlier release tells of a card that is no more.
    pub card_token: CompactString,
    /// The plastic's state before it; `None` for a new card.
    pub before: Option<StateAndReason>,
    /// The plastic's state after it; `None` for a card that is no more.
    pub after: Option<StateAndReason>,
    /// The card's PAN as it may be shown.
    pub masked_pan: MaskedPan,
    /// Expiry of the plastic.
    pub expiry: Option<Expiry>,
    /// Whether the card has an online PIN after it, or had one when it was removed.
    pub pin_is_set: bool,
    /// How the cardholder was verified who has seen the PIN.
    pub verified_by: Option<CardholderVerification>,
    /// How a transition to another state was asked for, where it was.
    pub asked: Option<Asked>,
}

/// How somebody asked for a transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// By which way.
    pub channel: Channel,
    /// Why, in words, each digit of them hidden; empty where nobody said it.
    pub reason: CompactString,
    /// The token that the client gave the transition; empty without one.
    pub token: CompactString,
}

/// Links a record that has events of a card, and no transaction, to the one before in the card's
/// history. A transaction has a link of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardHistory {
    /// Key of the card.
    pub card: CardKey,
    /// The record before; 0 for none.
    pub previous: u64,
}

/// The state of a plastic, and why it is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateAndReason {
    /// The state.
    pub status: CardStatus,
    /// Its reason code.
    pub reason: StatusReason,
}

impl StateAndReason {
    /// Of a plastic.
    #[must_use]
    pub const fn of(plastic: &Plastic) -> StateAndReason {
        StateAndReason { status: plastic.status, reason: plastic.status_reason }
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The card.
    pub identity: &'a CardIdentity,
    /// Its PAN as it may be shown.
    pub masked_pan: MaskedPan,
    /// Place of the plastic that the request or the call was about.
    pub plastic: usize,
}

impl Event {
    /// An event of a card that goes from one state to another: from none if it is new, to none if
    /// it is removed. One without both tells of no card and is never made.
    #[must_use]
    pub fn of_card(
        kind: EventKind,
        (time, actor): (Timestamp, Actor),
        Subject { identity, masked_pan, plastic }: Subject<'_>,
        before: Option<&CardState>,
        after: Option<&CardState>,
    ) -> Event {
        let last = after.or(before);
        debug_assert!(last.is_some(), "an event is of a card that is there before or after it");
        let pin_is_set = last.is_some_and(|state| state.pin.reference.is_some());
        let before = before.and_then(|state| state.plastics.get(plastic));
        let after = after.and_then(|state| state.plastics.get(plastic));
        let plastic = after.or(before);
        let token = plastic.and_then(Plastic::token).unwrap_or(&identity.token);
        Event {
            kind,
            time,
            actor,
            card: identity.key,
            card_token: token.clone(),
            expiry: plastic.map(|plastic| plastic.expiry),
            before: before.map(StateAndReason::of),
            after: after.map(StateAndReason::of),
            masked_pan,
            pin_is_set,
            verified_by: None,
            asked: None,
        }
    }
}

/// Where an event stands: its record, and its number in that from 1 on. The transaction of a record
/// has the number 0. Later ones have higher ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The record.
    pub record: RecordId,
    /// The number in the record.
    pub index: u8,
}

impl EventId {
    /// Before all events.
    pub const NONE: EventId = EventId { record: RecordId::NONE, index: 0 };

    /// The transaction of a record.
    #[must_use]
    pub const fn of_transaction(record: RecordId) -> EventId {
        EventId { record, index: 0 }
    }
}

impl fmt::Display for EventId {
    /// The record's id, a hyphen and two hexadecimal digits, which sort as the ids do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:02x}", self.record, self.index)
    }
}

/// A text is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected hexadecimal digits: 8, a hyphen and 8, and of an event a hyphen and 2 more")]
pub struct NoId;

impl From<ParseIntError> for NoId {
    fn from(_: ParseIntError) -> NoId {
        NoId
    }
}

impl FromStr for RecordId {
    type Err = NoId;

    fn from_str(text: &str) -> Result<RecordId, NoId> {
        let (segment, offset) = text.split_once('-').ok_or(NoId)?;
        Ok(RecordId(u64::from(digits(segment, 8)?) << 32 | u64::from(digits(offset, 8)?)))
    }
}

impl FromStr for EventId {
    type Err = NoId;

    fn from_str(text: &str) -> Result<EventId, NoId> {
        let (record, index) = text.rsplit_once('-').ok_or(NoId)?;
        let index = u8::try_from(digits(index, 2)?).map_err(|_| NoId)?;
        Ok(EventId { record: record.parse()?, index })
    }
}

/// Exactly so many hexadecimal digits in lower case, as ids are shown.
fn digits(text: &str, count: usize) -> Result<u32, NoId> {
    let valid = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != count || !text.bytes().all(valid) {
        return Err(NoId);
    }
    Ok(u32::from_str_radix(text, 16)?)
}

/// What a reader of events is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A transaction.
    Transaction(Box<TransactionRecord>),
    /// An event, and the transaction that caused it.
    Event(Box<Event>, Option<RecordId>),
}

/// What the entry of a record tells: its transaction, then its events.
///
/// # Errors
/// If the entry cannot be read.
pub fn told(id: RecordId, entry: &[u8]) -> Result<Vec<(EventId, Told)>, Unreadable> {
    let (mut transaction, mut events) = (None, Vec::new());
    read_entry(entry, Reads::History, |part| match part {
        Part::Transaction(found) => transaction = Some(found.record.into_owned()),
        Part::Event(event) => events.push(event),
        _ => {}
    })?;
    let cause = transaction.as_ref().map(|_| id);
    let first = transaction.map(|record| Told::Transaction(Box::new(record)));
    let first = first.map(|told| (EventId::of_transaction(id), told));
    let events = (1..=u8::MAX)
        .zip(events)
        .map(|(index, event)| (EventId { record: id, index }, Told::Event(event, cause)));
    Ok(first.into_iter().chain(events).collect())
}

impl Kept for Event {
    const KIND: u8 = 4;
    const VERSION: u8 = 2;
}

/// The version before, which says less of who acted and of what was asked for.
pub(super) const VERSION_BEFORE: u8 = 1;

/// Reads an event of the version before.
pub(super) fn read_before(bytes: &mut &[u8]) -> Result<Event, Unreadable> {
    Ok(Event {
        kind: Stored::read(bytes)?,
        time: Stored::read(bytes)?,
        actor: Actor {
            kind: Stored::read(bytes)?,
            name: Stored::read(bytes)?,
            audit_user: None,
            address: None,
        },
        card: Stored::read(bytes)?,
        card_token: Stored::read(bytes)?,
        before: Stored::read(bytes)?,
        after: Stored::read(bytes)?,
        masked_pan: Stored::read(bytes)?,
        expiry: Stored::read(bytes)?,
        pin_is_set: Stored::read(bytes)?,
        verified_by: None,
        asked: None,
    })
}

impl Kept for CardHistory {
    const KIND: u8 = 15;
}

stored_fields!(Event {
    kind,
    time,
    actor,
    card,
    card_token,
    before,
    after,
    masked_pan,
    expiry,
    pin_is_set,
    verified_by,
    asked,
});
stored_fields!(Asked { channel, reason, token });
stored_fields!(CardHistory { card, previous });
stored_fields!(StateAndReason { status, reason });
stored_fields!(Actor { kind, name, audit_user, address });
stored_fields!(EventId { record, index });

impl Stored for RecordId {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<RecordId, Unreadable> {
        Stored::read(bytes).map(RecordId)
    }
}

impl Stored for IpAddr {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            IpAddr::V4(address) => {
                4_u8.put(out);
                address.octets().put(out);
            }
            IpAddr::V6(address) => {
                6_u8.put(out);
                address.octets().put(out);
            }
        }
    }

    fn read(bytes: &mut &[u8]) -> Result<IpAddr, Unreadable> {
        match u8::read(bytes)? {
            4 => Ok(<[u8; 4]>::read(bytes)?.into()),
            6 => Ok(<[u8; 16]>::read(bytes)?.into()),
            number => Err(Unreadable::Number { what: "an address", number: number.into() }),
        }
    }
}

impl Stored for Channel {
    fn put(&self, out: &mut Vec<u8>) {
        self.number().put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<Channel, Unreadable> {
        let number = u8::read(bytes)?;
        let unknown = Unreadable::Number { what: "a channel", number: number.into() };
        Channel::ALL.into_iter().find(|channel| channel.number() == number).ok_or(unknown)
    }
}

impl Stored for EventKind {
    fn put(&self, out: &mut Vec<u8>) {
        self.number().put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<EventKind, Unreadable> {
        let number = u8::read(bytes)?;
        let unknown = Unreadable::Number { what: "an event", number: number.into() };
        EventKind::from_number(number).ok_or(unknown)
    }
}

stored_numbers!(CardholderVerification, "how a cardholder was verified" {
    BiometricFace = 1,
    BiometricFingerprint = 2,
    Login = 3,
    ExpCvv = 4,
    OtpCvv = 5,
    Otp = 6,
    Other = 7,
});

impl Stored for ActorKind {
    fn put(&self, out: &mut Vec<u8>) {
        self.number().put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<ActorKind, Unreadable> {
        let number = u8::read(bytes)?;
        let unknown = Unreadable::Number { what: "who acted", number: number.into() };
        ActorKind::from_number(number).ok_or(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_shown() {
        let id = EventId { record: RecordId(0x0000_0001_0000_1000), index: 2 };
        assert_eq!(id.to_string(), "00000001-00001000-02");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.record.to_string().parse(), Ok(id.record));
        for text in
            ["", "1-2-3", "00000001-00001000", "00000001-00001000-+2", "0000000G-00001000-02"]
        {
            assert_eq!(text.parse::<EventId>(), Err(NoId), "{text}");
        }
        assert_eq!("00000001-0000100".parse::<RecordId>(), Err(NoId));
    }
}
