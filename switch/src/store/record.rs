//! What the store keeps: the parts of its records. Their bytes are in `bytes`.

mod bytes;
mod chip_bytes;

use std::fmt;
use std::sync::Arc;

use iso_specs::Mti;

use crate::authorization::trail::Trail;
use crate::authorization::{Answer, Decision, Money, Request};
use crate::cards::card::CardIdentity;
use crate::cards::{CardKey, CardState, MaskedPan, Pan};
use crate::clock::Timestamp;
use crate::hsm::Kcv;
use crate::outcome::{CryptogramOutcome, PinOutcome};
use crate::store::duplicates::{BodyDigest, DuplicateKey, Original, Sought};
pub use bytes::{
    Unreadable, begin_entry, put_card_added, put_card_changed, put_card_removed, put_clock_jump,
    put_event, put_own_keys, put_reversal, put_snapshot_card, put_snapshot_own_keys,
    put_snapshot_reversal, put_transaction, read_entry, read_snapshot,
};

/// One authorized or declined transaction, without any clear data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRecord {
    /// When it was decided.
    pub time: Timestamp,
    /// Digest of its PAN.
    pub card: CardKey,
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
    /// Where the record of the card's transaction before this one stands; 0 for none. `None`:
    /// there was no such card. The store fills it in.
    pub previous: Option<u64>,
}

/// Where a record stands in the journal: its place for good, and the id of its transaction. Later
/// records have higher ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// Where a transaction belongs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
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
        place: Place<'_>,
        answer: Answer,
        decision: &Decision,
        time: Timestamp,
    ) -> TransactionRecord {
        TransactionRecord {
            time,
            card: place.card,
            masked_pan: request.pan.as_ref().map_or(MaskedPan::NONE, Pan::masked),
            network: Arc::clone(place.network),
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
            trail: decision.trail().copied().collect(),
            is_kept: answer.reason.is_kept(),
            duplicate_key: place.key,
            body: place.body,
            previous: None,
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

/// What others are to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// `state.suspended`: the PIN retry limit was reached.
    StateSuspended {
        /// When.
        time: Timestamp,
        /// Which card.
        card: CardKey,
    },
    /// `pin_change.expired`: a change did not reach the chip within OFPBE, and its PIN block is
    /// deleted.
    PinChangeExpired {
        /// When.
        time: Timestamp,
        /// Which card.
        card: CardKey,
    },
}

/// A card as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCard {
    /// What never changes of it.
    pub identity: CardIdentity,
    /// Name of its product.
    pub product: Box<str>,
    /// Its state.
    pub state: CardState,
}

/// Check values of the keys without which no card is found and no PAN is read. They never change:
/// a key directory that has others belongs to another store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnKeys {
    /// Of the card-digest key.
    pub card_digest: Kcv,
    /// Of the PAN key.
    pub pan: Kcv,
}

/// One record of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotRecord {
    /// A card, and where the record of its last transaction stands.
    Card(Box<StoredCard>, u64),
    /// The own keys.
    OwnKeys(OwnKeys),
    /// What was reversed on a network, and when.
    Reversal(Box<str>, Original, Timestamp),
}

/// One part of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A new card.
    CardAdded(Box<StoredCard>),
    /// A card with another state.
    CardChanged(CardKey, CardState),
    /// A card that is no more.
    CardRemoved(CardKey),
    /// A transaction.
    Transaction(Box<TransactionRecord>),
    /// Something to tell.
    Event(Event),
    /// An original was reversed, then.
    Reversal(Original, Timestamp),
    /// The own keys of the store.
    OwnKeys(OwnKeys),
    /// The civil time has jumped by so many microseconds, to this moment: what stands before it was
    /// written with another one.
    ClockJump(Timestamp, i64),
}
