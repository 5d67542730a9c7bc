//! What the store keeps: the parts of its records, one file for each kind. `stored` says how a
//! value is written and read, `entry` what is around the parts.

mod acknowledged;
mod card;
mod chip;
mod clock_jump;
mod document;
mod entry;
mod event;
mod format_7;
mod own_keys;
mod reversal;
mod stored;
mod transaction;

use std::fmt;
use std::sync::Arc;

use iso_specs::Mti;

use crate::authorization::trail::Trail;
use crate::authorization::{Answer, Decision, Money, Request};
use crate::cards::{CardKey, CardState, MaskedPan, Pan};
use crate::clock::Timestamp;
use crate::outcome::{CryptogramOutcome, PinOutcome};
use crate::store::duplicates::{BodyDigest, DuplicateKey, Sought};
pub use acknowledged::Acknowledged;
pub use card::{CardChanged, CardRemoved, SnapshotCard, StoredCard, snapshot_card};
pub use clock_jump::ClockJump;
pub use document::{DocumentRemoved, SnapshotDocument, StoredDocument};
pub use entry::{
    Entry, Kept, Part, Reads, SnapshotRecord, format_of, read_entry, read_snapshot, snapshot_record,
};
pub use event::{Asked, CardHistory, Event, EventId, NoId, StateAndReason, Subject, Told, told};
pub use own_keys::OwnKeys;
pub use reversal::{Reversed, SnapshotReversal};
pub use stored::{Stored, Unreadable};
pub use transaction::Transaction;

/// One authorized or declined transaction, without any clear data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRecord {
    /// When it was decided.
    pub time: Timestamp,
    /// Digest of its PAN.
    pub card: CardKey,
    /// Place of the plastic that it was about, among those of the card; `None` where none fits, and
    /// in a record of an earlier release.
    pub plastic: Option<u8>,
    /// Its PAN as it may be shown.
    pub masked_pan: MaskedPan,
    /// The network it came from.
    pub network: Arc<str>,
    /// Its message type.
    pub mti: Mti,
    /// DE3.
    pub processing_code: [u8; 6],
    /// DE4 and DE49.
    pub amount: Money,
    /// DE7.
    pub transmission_time: [u8; 10],
    /// DE11.
    pub stan: [u8; 6],
    /// DE32, filled with zero bytes.
    pub acquirer: [u8; 11],
    /// DE37.
    pub rrn: Option<[u8; 12]>,
    /// What was answered.
    pub answer: Answer,
    /// What the HSM said of the PIN.
    pub verification: Option<PinOutcome>,
    /// What the HSM said of the cryptogram.
    pub cryptogram: Option<CryptogramOutcome>,
    /// Why it came out as it did.
    pub trail: Trail,
    /// Whether a repeat gets this answer.
    pub is_kept: bool,
    /// Key of its repeats.
    pub duplicate_key: DuplicateKey,
    /// Digest of its body.
    pub body: BodyDigest,
}

/// Where a record stands in the journal: its place for good, and the id of its transaction. Later
/// records have higher ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub u64);

impl RecordId {
    /// Before all records.
    pub const NONE: RecordId = RecordId(0);
}

impl fmt::Display for RecordId {
    /// Twice eight hexadecimal digits, which sort as the ids do. Together they could be taken for a
    /// PAN where logs are searched for such.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:08x}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// By what a request is known among all others.
#[derive(Clone, Copy, Debug)]
pub struct RequestIdentity<'a> {
    /// The network it came from.
    pub network: &'a Arc<str>,
    /// Digest of its PAN.
    pub card: CardKey,
    /// Key of its repeats.
    pub key: DuplicateKey,
    /// Digest of its body.
    pub body: BodyDigest,
}

impl TransactionRecord {
    /// The record of a decided request.
    #[must_use]
    pub fn new(
        request: &Request,
        identity: RequestIdentity<'_>,
        card: Option<&CardState>,
        (answer, decision): (Answer, &Decision),
        time: Timestamp,
    ) -> TransactionRecord {
        let of_chip = decision.chip.as_ref().map(|chip| chip.check.plastic);
        let named = || Some(card?.plastic(request.expiry, request.sequence)?.0);
        TransactionRecord {
            time,
            card: identity.card,
            plastic: of_chip.or_else(named).and_then(|place| u8::try_from(place).ok()),
            masked_pan: request.pan.as_ref().map_or(MaskedPan::NONE, Pan::masked),
            network: Arc::clone(identity.network),
            mti: request.mti,
            processing_code: request.processing_code.0,
            amount: request.amount,
            transmission_time: request.transmission_time,
            stan: request.stan,
            acquirer: request.acquirer,
            rrn: request.rrn,
            answer,
            verification: decision.cryptogram.pin(),
            cryptogram: decision.cryptogram.outcome(),
            trail: decision.whole_trail(),
            is_kept: answer.reason.is_kept(),
            duplicate_key: identity.key,
            body: identity.body,
        }
    }

    /// Whether a reversal on a network speaks of it.
    #[must_use]
    pub fn is(&self, network: &str, sought: &Sought) -> bool {
        self.is_kept
            && &*self.network == network
            && self.mti.version() == sought.version
            && sought.is_of(self.duplicate_key.kind)
            && sought.card.is_none_or(|card| card == self.card)
            && sought.stan.is_none_or(|stan| stan == self.stan)
            && sought.transmission_time.is_none_or(|time| time == self.transmission_time)
            && sought.has_rrn(self.rrn.as_ref())
            && sought.has_acquirer(&self.acquirer)
    }
}
