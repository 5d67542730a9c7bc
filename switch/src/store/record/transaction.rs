//! The bytes of a transaction.
//!
//! ```text
//! 3 transaction  whether there was such a card, and where its transaction before this one stands
//!                (flag, then u64, 0: none), from version 2 on the place of its plastic among those
//!                of the card (flag, u8), time i64, card key 16, masked PAN 10, network text,
//!                MTI 4, DE3 6, DE4 u64, DE49 u16, DE7 10, DE11 6, DE32 11, DE37 (flag, 12),
//!                answer, verification of the PIN and of the cryptogram (flag, u8: 1 right, 2
//!                wrong, 3 bad PIN block, 4 unavailable), whether a repeat gets the answer u8, key,
//!                digest of the body u64, notes u8 times (number u8, value u64, parameter u64)
//!
//! answer:        reason u16, DE38 (flag, 6), chip u8 (0: nothing; 1: tag 91; 2: and the script of
//!                this id 4)
//! key:           digest of the request u128, class and function of its MTI u8 (a digit each),
//!                digest of DE37 u32 (0: none)
//! ```

use std::borrow::Cow;

use iso_specs::Mti;

use super::TransactionRecord;
use super::entry::Kept;
use super::stored::{Stored, Unreadable, stored_fields};
use crate::authorization::response::ChipAnswer;
use crate::authorization::trail::{Finding, Note};
use crate::authorization::{Answer, Money, Reason};
use crate::cards::MaskedPan;
use crate::outcome::{CryptogramOutcome, PinOutcome};
use crate::store::duplicates::{BodyDigest, DuplicateKey, MessageKind, Original, Trace};

/// A transaction in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction<'a> {
    /// Where the record of the card's transaction before this one stands; 0 for none. `None`: there
    /// was no such card.
    pub previous: Option<u64>,
    /// The transaction.
    pub record: Cow<'a, TransactionRecord>,
}

impl Kept for Transaction<'_> {
    const KIND: u8 = 3;
    const VERSION: u8 = 2;
}

/// The version before, which does not know the plastic.
pub(super) const VERSION_BEFORE: u8 = 1;

/// Reads a transaction of the version before.
pub(super) fn read_before(bytes: &mut &[u8]) -> Result<Transaction<'static>, Unreadable> {
    Ok(Transaction { previous: Stored::read(bytes)?, record: Stored::read(bytes)? })
}

impl Stored for Transaction<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        self.previous.put(out);
        self.record.plastic.put(out);
        self.record.put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<Self, Unreadable> {
        let (previous, plastic) = (Stored::read(bytes)?, Stored::read(bytes)?);
        let record = TransactionRecord { plastic, ..Stored::read(bytes)? };
        Ok(Transaction { previous, record: Cow::Owned(record) })
    }
}

stored_fields!(TransactionRecord {
    time,
    card,
    masked_pan,
    network,
    mti,
    processing_code,
    amount,
    transmission_time,
    stan,
    acquirer,
    rrn,
    answer,
    verification,
    cryptogram,
    is_kept,
    duplicate_key,
    body,
    trail,
} but plastic);
stored_fields!(Money { minor_units, currency });
stored_fields!(Answer { reason, approval_code, chip });
stored_fields!(Note { finding, value, parameter });

impl Stored for PinOutcome {
    fn put(&self, out: &mut Vec<u8>) {
        self.number().put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<PinOutcome, Unreadable> {
        let (what, number) = ("an outcome of a PIN", u8::read(bytes)?);
        let found = PinOutcome::from_number(number);
        found.ok_or(Unreadable::Number { what, number: number.into() })
    }
}

impl Stored for CryptogramOutcome {
    fn put(&self, out: &mut Vec<u8>) {
        self.number().put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<CryptogramOutcome, Unreadable> {
        let (what, number) = ("an outcome of a cryptogram", u8::read(bytes)?);
        let found = CryptogramOutcome::from_number(number);
        found.ok_or(Unreadable::Number { what, number: number.into() })
    }
}

impl Stored for MaskedPan {
    fn put(&self, out: &mut Vec<u8>) {
        self.to_bytes().put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<MaskedPan, Unreadable> {
        Stored::read(bytes).map(MaskedPan::from_bytes)
    }
}

impl Stored for Mti {
    fn put(&self, out: &mut Vec<u8>) {
        self.digits().put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<Mti, Unreadable> {
        Mti::new(Stored::read(bytes)?).ok_or(Unreadable::Part("an MTI is no four digits"))
    }
}

impl Stored for Reason {
    fn put(&self, out: &mut Vec<u8>) {
        self.number().put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<Reason, Unreadable> {
        let number = u16::read(bytes)?;
        Reason::from_number(number).ok_or(Unreadable::Number { what: "a reason", number })
    }
}

impl Stored for Finding {
    fn put(&self, out: &mut Vec<u8>) {
        self.number().put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<Finding, Unreadable> {
        let number = u8::read(bytes)?;
        let found = Finding::from_number(number);
        found.ok_or(Unreadable::Number { what: "a note", number: number.into() })
    }
}

impl Stored for ChipAnswer {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            ChipAnswer::Nothing => 0_u8.put(out),
            ChipAnswer::Authentication => 1_u8.put(out),
            ChipAnswer::Script(id) => {
                2_u8.put(out);
                id.put(out);
            }
        }
    }

    fn read(bytes: &mut &[u8]) -> Result<ChipAnswer, Unreadable> {
        Ok(match u8::read(bytes)? {
            0 => ChipAnswer::Nothing,
            1 => ChipAnswer::Authentication,
            2 => ChipAnswer::Script(Stored::read(bytes)?),
            number => {
                let what = "the answer to a chip";
                return Err(Unreadable::Number { what, number: number.into() });
            }
        })
    }
}

impl Stored for BodyDigest {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<BodyDigest, Unreadable> {
        Stored::read(bytes).map(BodyDigest)
    }
}

/// Without its trace, which the elements of a transaction give: see [`with_trace`].
impl Stored for DuplicateKey {
    fn put(&self, out: &mut Vec<u8>) {
        self.digest.put(out);
        self.kind.to_byte().put(out);
        self.rrn.put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<DuplicateKey, Unreadable> {
        let (digest, kind) = (u128::read(bytes)?, MessageKind::from_byte(u8::read(bytes)?));
        Ok(DuplicateKey { digest, trace: Trace::default(), rrn: Stored::read(bytes)?, kind })
    }
}

impl Stored for Original {
    fn put(&self, out: &mut Vec<u8>) {
        self.to_key().put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<Original, Unreadable> {
        Ok(Original::from_key(&DuplicateKey::read(bytes)?))
    }
}

/// The transaction with the trace of its key, which is not stored.
pub(super) fn with_trace(mut transaction: Transaction<'static>) -> Transaction<'static> {
    let record = transaction.record.to_mut();
    record.duplicate_key.trace = Trace::of(&record.transmission_time, &record.stan);
    transaction
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::stored::tests::reads_back;
    use super::*;
    use crate::authorization::trail::Trail;
    use crate::cards::CardKey;
    use crate::clock::Timestamp;

    pub(in crate::store::record) fn record() -> TransactionRecord {
        let notes = (0..=u8::MAX)
            .filter_map(Finding::from_number)
            .map(|finding| Note::of(finding, 7, u64::MAX));
        TransactionRecord {
            time: Timestamp::from_seconds(1_800_000_000),
            card: CardKey([7; 16]),
            plastic: Some(2),
            masked_pan: MaskedPan::from_bytes(*b"4761340019"),
            network: "demo".into(),
            mti: Mti::AUTHORIZATION_REQUEST,
            processing_code: *b"000000",
            amount: Money { minor_units: 1_250, currency: 978 },
            transmission_time: *b"1121210000",
            stan: *b"000001",
            acquirer: *b"12345678901",
            rrn: Some(*b"000000000001"),
            answer: Answer {
                reason: Reason::Approved,
                approval_code: Some(*b"123456"),
                chip: ChipAnswer::Script([1, 0, 0, 7]),
            },
            verification: Some(PinOutcome::Right),
            cryptogram: Some(CryptogramOutcome::Wrong),
            trail: Trail::from_iter(notes),
            is_kept: true,
            duplicate_key: DuplicateKey {
                digest: 5,
                trace: Trace::of(b"1121210000", b"000001"),
                rrn: 6,
                kind: MessageKind::of(*b"0100"),
            },
            body: BodyDigest(6),
        }
    }

    #[test]
    fn every_answer_and_verification_reads_back() {
        Reason::ALL.into_iter().for_each(|reason| reads_back(&Answer::new(reason)));
        for chip in [ChipAnswer::Nothing, ChipAnswer::Authentication, ChipAnswer::Script([7; 4])] {
            reads_back(&chip);
        }
        PinOutcome::ALL.into_iter().for_each(|outcome| reads_back(&Some(outcome)));
        CryptogramOutcome::ALL.into_iter().for_each(|outcome| reads_back(&Some(outcome)));
        assert!(PinOutcome::read(&mut &[0][..]).is_err());
        assert!(CryptogramOutcome::read(&mut &[3][..]).is_err());
        assert!(Finding::read(&mut &[u8::MAX][..]).is_err());
        assert!(Reason::read(&mut &[0xFF, 0xFF][..]).is_err());
        assert!(ChipAnswer::read(&mut &[3; 9][..]).is_err());
    }
}
