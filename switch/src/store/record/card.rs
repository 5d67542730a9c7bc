//! The bytes of a card: the parts that add, change and remove one, and its record in a snapshot.
//!
//! ```text
//! 1 card added    card
//! 2 card changed  card key 16, state
//! 5 card removed  card key 16
//! 7 of a snapshot version u64, last record u64 (0: none), card
//!
//! card:           card key 16, token text, sealed PAN 31, product text, state
//! state:          version u8 (1), PIN version u32, tries u32, reference, plastics u8 times plastic
//! plastic:        expiry 4 digits, sequence u8, status u8 (0 UNACTIVATED, 1 ACTIVE, 2 LIMITED,
//!                 3 SUSPENDED, 4 TERMINATED), reason u8, embossed u8 (0: not produced; 1: without
//!                 a PIN; 2: with 0000; 3: with the PIN of this version u32), token (flag, text),
//!                 chip (flag and, if it is known, chip)
//! reference:      kind u8 (0: none) and, if there is one, check value of its key 3, then 1: PIN
//!                 block 8; 2: PVV 4 (digits 0-9), PVKI u8; 3: offset 6 (BCD, F fill), fingerprint
//!                 of its parameters 2
//! ```
//!
//! A card's version is the sequence number of the record that changed it. The state has a version
//! of its own, since it is in three kinds of records and grows.

use std::borrow::Cow;

use super::entry::Kept;
use super::stored::{Stored, Unreadable, stored_fields, stored_numbers};
use crate::cache::CardEntry;
use crate::cards::card::CardIdentity;
use crate::cards::{
    CardKey, CardState, CardStatus, Embossed, Expiry, OnlinePin, Plastic, SealedPan, StatusReason,
};
use crate::hsm::{Kcv, PinReference, ReferenceValue};
use crate::pin::Digits;

const NOT_PRODUCED: u8 = 0;
const NO_PIN: u8 = 1;
const ZEROS: u8 = 2;
const PIN: u8 = 3;
const NO_REFERENCE: u8 = 0;
const BLOCK: u8 = 1;
const PVV: u8 = 2;
const OFFSET: u8 = 3;

/// A card as it is stored: a new one, if it is a part of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCard<'a> {
    /// What never changes of it.
    pub identity: Cow<'a, CardIdentity>,
    /// Name of its product.
    pub product: Cow<'a, str>,
    /// Its state.
    pub state: Cow<'a, CardState>,
}

/// A card with another state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardChanged<'a> {
    /// Which card.
    pub key: CardKey,
    /// Its state from now on.
    pub state: Cow<'a, CardState>,
}

/// A card that is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardRemoved {
    /// Which card.
    pub key: CardKey,
}

/// A card in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotCard<'a> {
    /// The record that changed it last.
    pub version: u64,
    /// Where the record of its last transaction stands; 0 for none.
    pub last_record: u64,
    /// The card.
    pub card: StoredCard<'a>,
}

impl Kept for StoredCard<'_> {
    const KIND: u8 = 1;
}

impl Kept for CardChanged<'_> {
    const KIND: u8 = 2;
}

impl Kept for CardRemoved {
    const KIND: u8 = 5;
}

impl Kept for SnapshotCard<'_> {
    const KIND: u8 = 7;
}

stored_fields!(StoredCard<'_> { identity, product, state });
stored_fields!(CardChanged<'_> { key, state });
stored_fields!(CardRemoved { key });
stored_fields!(SnapshotCard<'_> { version, last_record, card });
stored_fields!(CardIdentity { key, token, sealed_pan });

/// The version of the state's bytes.
const STATE_VERSION: u8 = 1;

impl Stored for CardState {
    fn put(&self, out: &mut Vec<u8>) {
        STATE_VERSION.put(out);
        self.pin.put(out);
        self.plastics.put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<CardState, Unreadable> {
        match u8::read(bytes)? {
            STATE_VERSION => {
                let (pin, plastics) = (Stored::read(bytes)?, Stored::read(bytes)?);
                Ok(CardState { version: 0, pin, plastics })
            }
            // A changed card is nothing but its state.
            version => Err(Unreadable::Version { kind: CardChanged::KIND, version }),
        }
    }
}

stored_numbers!(CardStatus, "the state of a plastic" {
    Unactivated = 0,
    Active = 1,
    Limited = 2,
    Suspended = 3,
    Terminated = 4,
});

impl Stored for OnlinePin {
    fn put(&self, out: &mut Vec<u8>) {
        self.version.put(out);
        self.tries.put(out);
        put_reference(out, self.reference.as_ref());
    }

    fn read(bytes: &mut &[u8]) -> Result<OnlinePin, Unreadable> {
        let (version, tries) = (u32::read(bytes)?, u32::read(bytes)?);
        Ok(OnlinePin { reference: read_reference(bytes)?, version, tries })
    }
}

fn put_reference(out: &mut Vec<u8>, reference: Option<&PinReference>) {
    let Some(PinReference { value, key }) = reference else { return NO_REFERENCE.put(out) };
    let kind = match value {
        ReferenceValue::Block(_) => BLOCK,
        ReferenceValue::Pvv { .. } => PVV,
        ReferenceValue::Offset { .. } => OFFSET,
    };
    kind.put(out);
    key.put(out);
    match value {
        ReferenceValue::Block(block) => block.put(out),
        ReferenceValue::Pvv { pvv, pvki } => {
            pvv.put(out);
            pvki.put(out);
        }
        ReferenceValue::Offset { digits, parameters } => {
            digits.to_bytes().put(out);
            parameters.put(out);
        }
    }
}

fn read_reference(bytes: &mut &[u8]) -> Result<Option<PinReference>, Unreadable> {
    let kind = u8::read(bytes)?;
    if kind == NO_REFERENCE {
        return Ok(None);
    }
    let key = Kcv::read(bytes)?;
    let value = match kind {
        BLOCK => ReferenceValue::Block(Stored::read(bytes)?),
        PVV => ReferenceValue::Pvv { pvv: Stored::read(bytes)?, pvki: Stored::read(bytes)? },
        OFFSET => {
            let digits = Digits::from_bytes(Stored::read(bytes)?);
            let digits = digits.ok_or(Unreadable::Part("a PIN offset is no digits"))?;
            ReferenceValue::Offset { digits, parameters: Stored::read(bytes)? }
        }
        number => {
            return Err(Unreadable::Number { what: "a PIN reference", number: number.into() });
        }
    };
    Ok(Some(PinReference { value, key }))
}

impl Stored for Plastic {
    fn put(&self, out: &mut Vec<u8>) {
        self.expiry.put(out);
        self.sequence.put(out);
        self.status.put(out);
        self.status_reason.put(out);
        self.embossed().put(out);
        put_option(out, self.token());
        put_option(out, self.chip());
    }

    fn read(bytes: &mut &[u8]) -> Result<Plastic, Unreadable> {
        let mut plastic = Plastic::new(Stored::read(bytes)?, Stored::read(bytes)?);
        plastic.status = Stored::read(bytes)?;
        plastic.status_reason = Stored::read(bytes)?;
        plastic = plastic.embossed_with(Stored::read(bytes)?);
        if let Some(token) = Stored::read(bytes)? {
            plastic = plastic.with_token(token);
        }
        if let Some(chip) = Stored::read(bytes)? {
            plastic.set_chip(chip);
        }
        Ok(plastic)
    }
}

/// As an `Option` of the value is written, which it reads back as.
fn put_option<T: Stored>(out: &mut Vec<u8>, value: Option<&T>) {
    value.is_some().put(out);
    value.into_iter().for_each(|value| value.put(out));
}

impl Stored for Embossed {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Embossed::NotProduced => NOT_PRODUCED.put(out),
            Embossed::NoPin => NO_PIN.put(out),
            Embossed::Zeros => ZEROS.put(out),
            Embossed::Pin(version) => {
                PIN.put(out);
                version.put(out);
            }
        }
    }

    fn read(bytes: &mut &[u8]) -> Result<Embossed, Unreadable> {
        Ok(match u8::read(bytes)? {
            NOT_PRODUCED => Embossed::NotProduced,
            NO_PIN => Embossed::NoPin,
            ZEROS => Embossed::Zeros,
            PIN => Embossed::Pin(Stored::read(bytes)?),
            number => {
                let what = "what a plastic was embossed with";
                return Err(Unreadable::Number { what, number: number.into() });
            }
        })
    }
}

impl Stored for Expiry {
    fn put(&self, out: &mut Vec<u8>) {
        self.digits().put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<Expiry, Unreadable> {
        Expiry::parse(&<[u8; 4]>::read(bytes)?).ok_or(Unreadable::Part("an expiry is no month"))
    }
}

macro_rules! stored_inside {
    ($($type:ident),*) => {$(
        impl Stored for $type {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }

            fn read(bytes: &mut &[u8]) -> Result<$type, Unreadable> {
                Stored::read(bytes).map($type)
            }
        }
    )*};
}

stored_inside!(CardKey, SealedPan, StatusReason, Kcv);

/// The record of a card in a snapshot, from the cache.
#[must_use]
pub fn snapshot_card(entry: &CardEntry) -> Vec<u8> {
    // Before the state: what stands behind it is replayed.
    let last_record = entry.last_record();
    let state = entry.state();
    let (identity, product) = (Cow::Borrowed(&entry.identity), entry.product.name().into());
    let (version, state) = (state.version, Cow::Borrowed(&*state));
    super::snapshot_record(&SnapshotCard {
        version,
        last_record,
        card: StoredCard { identity, product, state },
    })
}

#[cfg(test)]
mod tests {
    use super::super::stored::tests::reads_back;
    use super::*;
    use crate::cards::chip_state::{AtcWindow, Chip};

    fn reference(value: ReferenceValue) -> PinReference {
        PinReference { value, key: Kcv([1, 2, 3]) }
    }

    #[test]
    fn every_kind_of_pin_reference_reads_back() {
        let kinds = [
            ReferenceValue::Block([7; 8]),
            ReferenceValue::Pvv { pvv: [0, 9, 1, 2], pvki: 6 },
            ReferenceValue::Offset { digits: Digits::parse("12345").unwrap(), parameters: [7, 8] },
        ];
        for reference in kinds.map(reference).map(Some).into_iter().chain([None]) {
            reads_back(&OnlinePin { reference, version: 7, tries: 8 });
        }
        assert!(read_reference(&mut &[9; 20][..]).is_err());
    }

    /// Not damage: another release has written it.
    #[test]
    fn a_state_of_a_later_version_is_told_from_damage() {
        let state = CardState::new(Plastic::new(Expiry::parse(b"2912").unwrap(), 1));
        let mut bytes = Vec::new();
        state.put(&mut bytes);
        bytes[0] = STATE_VERSION + 1;
        let kind = CardChanged::KIND;
        let expected = Unreadable::Version { kind, version: STATE_VERSION + 1 };
        assert_eq!(CardState::read(&mut &bytes[..]), Err(expected));
    }

    #[test]
    fn every_state_reads_back_and_no_other_number_does() {
        let expiry = Expiry::parse(b"2912").unwrap();
        for status in CardStatus::ALL {
            let mut card = CardState::new(Plastic::new(expiry, 1)).with_status(
                0,
                status,
                StatusReason::REQUESTED,
            );
            card.plastics.push(Plastic::new(expiry, 2).with_token("another".into()));
            let card = card.with_chip(1, Chip { has_script_pin: true, ..Chip::default() });
            reads_back(&card);
            let mut bytes = Vec::new();
            card.put(&mut bytes);
            bytes[0] = 2;
            assert!(CardState::read(&mut &bytes[..]).is_err());
        }
        assert!(CardStatus::read(&mut &[5][..]).is_err());
    }

    #[test]
    fn all_that_a_plastic_was_embossed_with_reads_back() {
        let produced = [Embossed::NotProduced, Embossed::NoPin, Embossed::Zeros];
        for embossed in produced.into_iter().chain([0, 1, 0xFF_FF_00].map(Embossed::Pin)) {
            let plastic = Plastic::new(Expiry::parse(b"2912").unwrap(), 1);
            let plastic = plastic.embossed_with(embossed);
            assert_eq!(plastic.embossed(), embossed);
            reads_back(&plastic);
        }
        assert!(Embossed::read(&mut &[4; 5][..]).is_err());
    }

    /// Stored bytes must stay as they are.
    #[test]
    fn a_plastic_is_these_bytes() {
        let mut plastic = Plastic::new(Expiry::parse(b"2912").unwrap(), 7);
        (plastic.status, plastic.status_reason) = (CardStatus::Suspended, StatusReason(22));
        let counters = AtcWindow { highest: 0x0102, seen: 0x0304_0506, retry: None };
        let chip = Chip { counters, has_script_pin: true, ..Chip::default() };
        let mut with_both = plastic.clone().with_token("own".into());
        with_both.set_chip(chip);
        let head = *b"2912\x07\x03\x16";
        let own = *b"\x01\x03own\x01\x02\x01\x06\x05\x04\x03\0\0\x01";
        for (embossed, bytes) in [
            (Embossed::NotProduced, &[0][..]),
            (Embossed::NoPin, &[1]),
            (Embossed::Zeros, &[2]),
            (Embossed::Pin(0x0001_0203), &[3, 3, 2, 1, 0]),
        ] {
            for (plastic, rest) in [(&plastic, &[0, 0][..]), (&with_both, &own)] {
                let plastic = plastic.clone().embossed_with(embossed);
                let mut out = Vec::new();
                plastic.put(&mut out);
                assert_eq!(out, [&head[..], bytes, rest].concat());
                reads_back(&plastic);
            }
        }
    }
}
