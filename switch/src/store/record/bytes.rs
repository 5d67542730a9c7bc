//! The bytes of what the store keeps. All numbers are little-endian; `text` is one byte of
//! length and that many bytes of UTF-8.
//!
//! An entry (the payload of one journal record) is a format byte, 7, and parts one after
//! another, each with a kind byte:
//!
//! ```text
//! 1 card added    card key 16, token text, sealed PAN 31, product text, state
//! 2 card changed  card key 16, state
//! 3 transaction   time i64 (us since 1970), card key 16, masked PAN 10, network text,
//!                 MTI 4, DE3 6, DE4 u64, DE49 u16, DE7 10, DE11 6, DE32 11, DE37 1 + 12,
//!                 reason u16, DE38 1 + 6, verification of PIN u8 and of cryptogram u8,
//!                 flags u8 (bit 0: the answer is kept for repeats; bit 1: it has tag 91; bit 2:
//!                 it has a script), script id 4, key, body digest u64, whether there was such a
//!                 card u8, its previous record u64 (0: none), notes u8 times (number u8,
//!                 value u64, parameter u64)
//! 4 event         kind u8 (1: state.suspended, 2: pin_change.expired), time i64, card key 16
//! 5 card removed  card key 16
//! 6 reversal      time i64, key of the original, where 0 in its MTI and DE37 is any
//! 8 own keys      check values 3 of the card-digest key and of the PAN key
//! 9 clock jump    time i64, microseconds i64 by which the civil time has jumped to it
//!
//! key:            digest of the request u128, class and function of its MTI u8 (a digit each),
//!                 digest of DE37 u32 (0: none)
//! state:          status u8, reason u8, PIN version u32, tries u32,
//!                 reference kind u8 (0: none) and, if there is one, check value of its key 3,
//!                 then 1: PIN block 8; 2: PVV 4 (digits 0-9), PVKI u8; 3: offset 6 (BCD, F fill),
//!                 fingerprint of its parameters 2,
//!                 plastics u8 times (expiry 4 digits, sequence u8, chip u8 (0: none) and, if
//!                 there is one, chip)
//! chip:           highest ATC u16, counters seen u32, retry u8 (0: none) and, if there is one,
//!                 ATC u16, 9F26 8, time i64; then sync u8 (0: in sync, 1: pending, 2: sent,
//!                 3: failed, 4: expired, 5: expired after it was sent) and, for 1 to 3, kind
//!                 u8 (1: PIN, then version u32, check value of the PEK 3, PIN block 8; 2:
//!                 unblock; 3: unblock after a PIN change expired), since 1 + i64 (0 and the time
//!                 of its setting, or 0 if that is not known: it does not count yet), attempts
//!                 u8, whether the chip refused it u8, whether it may have made it u8; and, for
//!                 2 and 5, script id 4, ATC u16, what the chip told before u8, digest of the
//!                 request u8 (0: none) and, if there is one, u128, time of an unblock behind it
//!                 1 + i64
//! ```
//!
//! A snapshot record is a format byte, 7, and one of these, or the part `own keys`:
//!
//! ```text
//! 7 card          version u64, last record u64, part `card added`
//! 10 reversed     network text, part `reversal`
//! ```
//!
//! A card's version is the sequence number of the record that changed it.
//!
//! **Format 6** is still read. It has no parts above 6, and its snapshot record is the format byte,
//! version, last record and part.

use bytes::{Buf, BufMut, TryGetError};
use iso_specs::Mti;

use super::chip_bytes::{put_chip, read_chip};
use super::{Event, OwnKeys, Part, SnapshotRecord, StoredCard, TransactionRecord};
use crate::authorization::response::ChipAnswer;
use crate::authorization::trail::{Finding, Note, Trail};
use crate::authorization::{Answer, Money, Reason};
use crate::cache::CardEntry;
use crate::cards::card::CardIdentity;
use crate::cards::{
    CardKey, CardState, CardStatus, Expiry, MaskedPan, OnlinePin, Plastic, SealedPan, StatusReason,
};
use crate::clock::Timestamp;
use crate::hsm::{Kcv, PinReference, ReferenceValue};
use crate::outcome::{CryptogramOutcome, PinOutcome};
use crate::pin::Digits;
use crate::store::duplicates::{BodyDigest, DuplicateKey, MessageKind, Original, Trace};

const FORMAT: u8 = 7;
const FORMAT_BEFORE: u8 = 6;
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
const NO_REFERENCE: u8 = 0;
const BLOCK: u8 = 1;
const PVV: u8 = 2;
const OFFSET: u8 = 3;

/// The bytes do not read as what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record does not read: {0}")]
pub struct Unreadable(pub(super) &'static str);

impl From<TryGetError> for Unreadable {
    fn from(_: TryGetError) -> Unreadable {
        Unreadable("it is cut short")
    }
}

/// Starts an entry in an empty buffer.
pub fn begin_entry(out: &mut Vec<u8>) {
    out.put_u8(FORMAT);
}

/// Appends the part `card added`.
pub fn put_card_added(
    out: &mut Vec<u8>,
    identity: &CardIdentity,
    product: &str,
    state: &CardState,
) {
    out.put_u8(CARD_ADDED);
    out.put_slice(&identity.key.0);
    put_text(out, &identity.token);
    out.put_slice(&identity.sealed_pan.0);
    put_text(out, product);
    put_state(out, state);
}

/// Appends the part `card changed`.
pub fn put_card_changed(out: &mut Vec<u8>, key: &CardKey, state: &CardState) {
    out.put_u8(CARD_CHANGED);
    out.put_slice(&key.0);
    put_state(out, state);
}

/// Appends the part `card removed`.
pub fn put_card_removed(out: &mut Vec<u8>, key: &CardKey) {
    out.put_u8(CARD_REMOVED);
    out.put_slice(&key.0);
}

/// Appends the part `transaction`.
pub fn put_transaction(out: &mut Vec<u8>, record: &TransactionRecord, previous: Option<u64>) {
    out.put_u8(TRANSACTION);
    out.put_i64_le(record.time.micros());
    out.put_slice(&record.card.0);
    out.put_slice(&record.masked_pan.to_bytes());
    put_text(out, &record.network);
    out.put_slice(&record.mti.digits());
    out.put_slice(&record.processing_code);
    out.put_u64_le(record.amount.minor_units);
    out.put_u16_le(record.amount.currency);
    out.put_slice(&record.transmission_time);
    out.put_slice(&record.stan);
    out.put_slice(&record.acquirer);
    put_optional(out, record.rrn.as_ref());
    out.put_u16_le(record.answer.reason.number());
    put_optional(out, record.answer.approval_code.as_ref());
    out.put_u8(record.verification.map_or(0, PinOutcome::number));
    out.put_u8(record.cryptogram.map_or(0, CryptogramOutcome::number));
    let (chip, script) = match record.answer.chip {
        ChipAnswer::Nothing => (0, [0; 4]),
        ChipAnswer::Authentication => (ANSWER_HAS_ARPC, [0; 4]),
        ChipAnswer::Script(id) => (ANSWER_HAS_ARPC | ANSWER_HAS_SCRIPT, id),
    };
    out.put_u8(if record.is_kept { ANSWER_IS_KEPT } else { 0 } | chip);
    out.put_slice(&script);
    put_key(out, &record.duplicate_key);
    out.put_u64_le(record.body.0);
    out.put_u8(u8::from(previous.is_some()));
    out.put_u64_le(previous.unwrap_or_default());
    out.put_u8(u8::try_from(record.trail.len()).unwrap_or(u8::MAX));
    for note in record.trail.iter().take(usize::from(u8::MAX)) {
        out.put_u8(note.finding.number());
        out.put_u64_le(note.value);
        out.put_u64_le(note.parameter);
    }
}

/// Appends the part `reversal`.
pub fn put_reversal(out: &mut Vec<u8>, original: &Original, time: Timestamp) {
    out.put_u8(REVERSAL);
    out.put_i64_le(time.micros());
    put_key(out, &original.to_key());
}

fn put_key(out: &mut Vec<u8>, key: &DuplicateKey) {
    out.put_u128_le(key.digest);
    out.put_u8(key.kind.to_byte());
    out.put_u32_le(key.rrn);
}

/// Appends the part `event`.
pub fn put_event(out: &mut Vec<u8>, event: &Event) {
    let (kind, time, card) = match event {
        Event::StateSuspended { time, card } => (STATE_SUSPENDED, time, card),
        Event::PinChangeExpired { time, card } => (PIN_CHANGE_EXPIRED, time, card),
    };
    out.put_u8(EVENT);
    out.put_u8(kind);
    out.put_i64_le(time.micros());
    out.put_slice(&card.0);
}

/// Appends the part `own keys`.
pub fn put_own_keys(out: &mut Vec<u8>, keys: &OwnKeys) {
    out.put_u8(OWN_KEYS);
    out.put_slice(&keys.card_digest.0);
    out.put_slice(&keys.pan.0);
}

/// Appends the part `clock jump`.
pub fn put_clock_jump(out: &mut Vec<u8>, time: Timestamp, micros: i64) {
    out.put_u8(CLOCK_JUMP);
    out.put_i64_le(time.micros());
    out.put_i64_le(micros);
}

/// The record of a card in a snapshot.
pub fn put_snapshot_card(out: &mut Vec<u8>, entry: &CardEntry) {
    let last_record = entry.last_record();
    let state = entry.state();
    out.put_u8(FORMAT);
    out.put_u8(SNAPSHOT_CARD);
    out.put_u64_le(state.version);
    out.put_u64_le(last_record);
    put_card_added(out, &entry.identity, entry.product.name(), &state);
}

/// The record of the own keys in a snapshot.
pub fn put_snapshot_own_keys(out: &mut Vec<u8>, keys: &OwnKeys) {
    out.put_u8(FORMAT);
    put_own_keys(out, keys);
}

/// The record of what was reversed in a snapshot: it must outlast the segment that says so.
pub fn put_snapshot_reversal(
    out: &mut Vec<u8>,
    network: &str,
    original: &Original,
    time: Timestamp,
) {
    out.put_u8(FORMAT);
    out.put_u8(SNAPSHOT_REVERSAL);
    put_text(out, network);
    put_reversal(out, original, time);
}

/// Reads a snapshot record.
///
/// # Errors
/// If the bytes are not one.
pub fn read_snapshot(mut bytes: &[u8]) -> Result<SnapshotRecord, Unreadable> {
    let kind = match read_format(&mut bytes)? {
        FORMAT_BEFORE => SNAPSHOT_CARD,
        _ if bytes.first() == Some(&OWN_KEYS) => OWN_KEYS,
        _ => bytes.try_get_u8()?,
    };
    let record = match kind {
        SNAPSHOT_CARD => {
            let (version, last_record) = (bytes.try_get_u64_le()?, bytes.try_get_u64_le()?);
            let Part::CardAdded(mut card) = read_part(&mut bytes)? else {
                return Err(Unreadable("it is no card"));
            };
            card.state.version = version;
            SnapshotRecord::Card(card, last_record)
        }
        SNAPSHOT_REVERSAL => {
            let network = text(&mut bytes)?.into();
            let Part::Reversal(original, time) = read_part(&mut bytes)? else {
                return Err(Unreadable("it is no reversal"));
            };
            SnapshotRecord::Reversal(network, original, time)
        }
        OWN_KEYS => match read_part(&mut bytes)? {
            Part::OwnKeys(keys) => SnapshotRecord::OwnKeys(keys),
            _ => return Err(Unreadable("it is no set of own keys")),
        },
        _ => return Err(Unreadable("unknown kind of snapshot record")),
    };
    if bytes.is_empty() { Ok(record) } else { Err(Unreadable("bytes behind a snapshot record")) }
}

/// Reads an entry, part after part.
///
/// # Errors
/// If the bytes are not one; the parts before have been visited then.
pub fn read_entry(mut bytes: &[u8], mut visit: impl FnMut(Part)) -> Result<(), Unreadable> {
    read_format(&mut bytes)?;
    while !bytes.is_empty() {
        visit(read_part(&mut bytes)?);
    }
    Ok(())
}

/// The parts of an entry of format 6 are those of 7.
fn read_format(bytes: &mut &[u8]) -> Result<u8, Unreadable> {
    match bytes.try_get_u8()? {
        format @ (FORMAT | FORMAT_BEFORE) => Ok(format),
        _ => Err(Unreadable("its format is of another version")),
    }
}

fn read_part(bytes: &mut &[u8]) -> Result<Part, Unreadable> {
    Ok(match bytes.try_get_u8()? {
        CARD_ADDED => Part::CardAdded(Box::new(read_card(bytes)?)),
        CARD_CHANGED => Part::CardChanged(CardKey(array(bytes)?), read_state(bytes)?),
        CARD_REMOVED => Part::CardRemoved(CardKey(array(bytes)?)),
        TRANSACTION => Part::Transaction(Box::new(read_transaction(bytes)?)),
        EVENT => {
            let kind = bytes.try_get_u8()?;
            let time = Timestamp::from_micros(bytes.try_get_i64_le()?);
            let card = CardKey(array(bytes)?);
            Part::Event(match kind {
                STATE_SUSPENDED => Event::StateSuspended { time, card },
                PIN_CHANGE_EXPIRED => Event::PinChangeExpired { time, card },
                _ => return Err(Unreadable("unknown kind of event")),
            })
        }
        REVERSAL => {
            let time = Timestamp::from_micros(bytes.try_get_i64_le()?);
            Part::Reversal(Original::from_key(&read_key(bytes)?), time)
        }
        CLOCK_JUMP => {
            let time = Timestamp::from_micros(bytes.try_get_i64_le()?);
            Part::ClockJump(time, bytes.try_get_i64_le()?)
        }
        OWN_KEYS => {
            Part::OwnKeys(OwnKeys { card_digest: Kcv(array(bytes)?), pan: Kcv(array(bytes)?) })
        }
        _ => return Err(Unreadable("unknown kind of part")),
    })
}

fn read_card(bytes: &mut &[u8]) -> Result<StoredCard, Unreadable> {
    let identity = CardIdentity {
        key: CardKey(array(bytes)?),
        token: text(bytes)?.into(),
        sealed_pan: SealedPan(array(bytes)?),
    };
    Ok(StoredCard { identity, product: text(bytes)?.into(), state: read_state(bytes)? })
}

fn read_key(bytes: &mut &[u8]) -> Result<DuplicateKey, Unreadable> {
    let (digest, kind) = (bytes.try_get_u128_le()?, bytes.try_get_u8()?);
    let (kind, rrn) = (MessageKind::from_byte(kind), bytes.try_get_u32_le()?);
    Ok(DuplicateKey { digest, trace: Trace::default(), rrn, kind })
}

fn read_transaction(bytes: &mut &[u8]) -> Result<TransactionRecord, Unreadable> {
    let mut record = TransactionRecord {
        time: Timestamp::from_micros(bytes.try_get_i64_le()?),
        card: CardKey(array(bytes)?),
        masked_pan: MaskedPan::from_bytes(array(bytes)?),
        network: text(bytes)?.into(),
        mti: Mti::new(array(bytes)?).ok_or(Unreadable("MTI"))?,
        processing_code: array(bytes)?,
        amount: Money { minor_units: bytes.try_get_u64_le()?, currency: bytes.try_get_u16_le()? },
        transmission_time: array(bytes)?,
        stan: array(bytes)?,
        acquirer: array(bytes)?,
        rrn: optional(bytes)?,
        answer: Answer {
            reason: Reason::from_number(bytes.try_get_u16_le()?)
                .ok_or(Unreadable("unknown reason"))?,
            approval_code: optional(bytes)?,
            chip: ChipAnswer::Nothing,
        },
        verification: read_outcome(bytes, PinOutcome::from_number)?,
        cryptogram: read_outcome(bytes, CryptogramOutcome::from_number)?,
        trail: Trail::new(),
        is_kept: false,
        duplicate_key: Original::NOTHING.to_key(),
        body: BodyDigest::default(),
        previous: None,
    };
    let (flags, script) = (bytes.try_get_u8()?, array(bytes)?);
    record.is_kept = flags & ANSWER_IS_KEPT != 0;
    record.answer.chip = match (flags & ANSWER_HAS_ARPC, flags & ANSWER_HAS_SCRIPT) {
        (0, _) => ChipAnswer::Nothing,
        (_, 0) => ChipAnswer::Authentication,
        _ => ChipAnswer::Script(script),
    };
    let trace = Trace::of(&record.transmission_time, &record.stan);
    record.duplicate_key = DuplicateKey { trace, ..read_key(bytes)? };
    record.body = BodyDigest(bytes.try_get_u64_le()?);
    record.previous = match (bytes.try_get_u8()?, bytes.try_get_u64_le()?) {
        (0, _) => None,
        (_, previous) => Some(previous),
    };
    record.trail = (0..bytes.try_get_u8()?).map(|_| read_note(bytes)).collect::<Result<_, _>>()?;
    Ok(record)
}

fn read_note(bytes: &mut &[u8]) -> Result<Note, Unreadable> {
    let finding = Finding::from_number(bytes.try_get_u8()?);
    Ok(Note {
        finding: finding.ok_or(Unreadable("unknown note"))?,
        value: bytes.try_get_u64_le()?,
        parameter: bytes.try_get_u64_le()?,
    })
}

fn put_state(out: &mut Vec<u8>, state: &CardState) {
    let status = CardStatus::ALL.iter().position(|status| *status == state.status);
    out.put_u8(status.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX));
    out.put_u8(state.status_reason.0);
    out.put_u32_le(state.pin.version);
    out.put_u32_le(state.pin.tries);
    put_reference(out, state.pin.reference.as_ref());
    out.put_u8(u8::try_from(state.plastics.len()).unwrap_or(u8::MAX));
    for plastic in state.plastics.iter().take(usize::from(u8::MAX)) {
        out.put_slice(&plastic.expiry.digits());
        out.put_u8(plastic.sequence);
        out.put_u8(u8::from(plastic.chip.is_some()));
        plastic.chip.iter().for_each(|chip| put_chip(out, chip));
    }
}

fn put_reference(out: &mut Vec<u8>, reference: Option<&PinReference>) {
    let Some(PinReference { value, key }) = reference else { return out.put_u8(NO_REFERENCE) };
    out.put_u8(match value {
        ReferenceValue::Block(_) => BLOCK,
        ReferenceValue::Pvv { .. } => PVV,
        ReferenceValue::Offset { .. } => OFFSET,
    });
    out.put_slice(&key.0);
    match value {
        ReferenceValue::Block(block) => out.put_slice(block),
        ReferenceValue::Pvv { pvv, pvki } => {
            out.put_slice(pvv);
            out.put_u8(*pvki);
        }
        ReferenceValue::Offset { digits, parameters } => {
            out.put_slice(&digits.to_bytes());
            out.put_slice(parameters);
        }
    }
}

fn read_reference(bytes: &mut &[u8]) -> Result<Option<PinReference>, Unreadable> {
    let kind = bytes.try_get_u8()?;
    if kind == NO_REFERENCE {
        return Ok(None);
    }
    let key = Kcv(array(bytes)?);
    let value = match kind {
        BLOCK => ReferenceValue::Block(array(bytes)?),
        PVV => ReferenceValue::Pvv { pvv: array(bytes)?, pvki: bytes.try_get_u8()? },
        OFFSET => {
            let digits = Digits::from_bytes(array(bytes)?);
            let digits = digits.ok_or(Unreadable("a PIN offset is no digits"))?;
            ReferenceValue::Offset { digits, parameters: array(bytes)? }
        }
        _ => return Err(Unreadable("unknown kind of PIN reference")),
    };
    Ok(Some(PinReference { value, key }))
}

fn read_state(bytes: &mut &[u8]) -> Result<CardState, Unreadable> {
    let status = CardStatus::ALL.get(usize::from(bytes.try_get_u8()?)).copied();
    Ok(CardState {
        version: 0,
        status: status.ok_or(Unreadable("unknown card status"))?,
        status_reason: StatusReason(bytes.try_get_u8()?),
        pin: read_pin(bytes)?,
        plastics: (0..bytes.try_get_u8()?)
            .map(|_| read_plastic(bytes))
            .collect::<Result<_, Unreadable>>()?,
    })
}

fn read_pin(bytes: &mut &[u8]) -> Result<OnlinePin, Unreadable> {
    let (version, tries) = (bytes.try_get_u32_le()?, bytes.try_get_u32_le()?);
    Ok(OnlinePin { reference: read_reference(bytes)?, version, tries })
}

fn read_plastic(bytes: &mut &[u8]) -> Result<Plastic, Unreadable> {
    let expiry = Expiry::parse(&array::<4>(bytes)?).ok_or(Unreadable("expiry"))?;
    let sequence = bytes.try_get_u8()?;
    let chip = match bytes.try_get_u8()? {
        0 => None,
        _ => Some(Box::new(read_chip(bytes)?)),
    };
    Ok(Plastic { expiry, sequence, chip })
}

/// The number of an outcome, which is never 0; 0 where there is none.
fn read_outcome<T>(
    bytes: &mut &[u8],
    from_number: impl Fn(u8) -> Option<T>,
) -> Result<Option<T>, Unreadable> {
    match bytes.try_get_u8()? {
        0 => Ok(None),
        number => from_number(number).map(Some).ok_or(Unreadable("unknown verification")),
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    // Names are checked to be shorter where they enter.
    let bytes = text.as_bytes().get(..usize::from(u8::MAX)).unwrap_or(text.as_bytes());
    out.put_u8(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    out.put_slice(bytes);
}

fn text<'b>(bytes: &mut &'b [u8]) -> Result<&'b str, Unreadable> {
    let length = usize::from(bytes.try_get_u8()?);
    let (text, rest) = bytes.split_at_checked(length).ok_or(Unreadable("it is cut short"))?;
    *bytes = rest;
    std::str::from_utf8(text).map_err(|_| Unreadable("a name is not UTF-8"))
}

fn put_optional<const N: usize>(out: &mut Vec<u8>, value: Option<&[u8; N]>) {
    out.put_u8(u8::from(value.is_some()));
    out.put_slice(value.unwrap_or(&[0; N]));
}

fn optional<const N: usize>(bytes: &mut &[u8]) -> Result<Option<[u8; N]>, Unreadable> {
    let is_some = bytes.try_get_u8()? != 0;
    let value = array(bytes)?;
    Ok(is_some.then_some(value))
}

pub(super) fn array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Unreadable> {
    let (array, rest) = bytes.split_first_chunk::<N>().ok_or(Unreadable("it is cut short"))?;
    *bytes = rest;
    Ok(*array)
}

#[cfg(test)]
mod tests;
