//! A card as the issuer knows it. Pure values: what changes is one immutable snapshot,
//! [`CardState`], and every change makes a new one.

use std::fmt;

use compact_str::CompactString;
use jiff::tz::Offset;
use smallvec::{SmallVec, smallvec};

use crate::cards::card_key::{CardKey, SealedPan};
use crate::cards::chip_state::{Change, ChangeKind, Chip, ChipSync, Retention};
use crate::clock::Timestamp;
use crate::key::Kcv;
use crate::pin::{KeptPin, PinReference};

/// State of a card, as the API names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardStatus {
    /// Created and not yet activated by the cardholder.
    Unactivated,
    /// In use.
    Active,
    /// In use for some purposes only; declined here like a suspended card.
    Limited,
    /// Blocked until somebody makes it active again.
    Suspended,
    /// Blocked for ever.
    Terminated,
}

impl CardStatus {
    /// All states, in the order of their stored codes.
    pub const ALL: [CardStatus; 5] = [
        CardStatus::Unactivated,
        CardStatus::Active,
        CardStatus::Limited,
        CardStatus::Suspended,
        CardStatus::Terminated,
    ];

    /// The name on the API: UNACTIVATED, ACTIVE, LIMITED, SUSPENDED, TERMINATED.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CardStatus::Unactivated => "UNACTIVATED",
            CardStatus::Active => "ACTIVE",
            CardStatus::Limited => "LIMITED",
            CardStatus::Suspended => "SUSPENDED",
            CardStatus::Terminated => "TERMINATED",
        }
    }
}

/// Why a card is in its state: the two-digit reason code of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusReason(pub u8);

impl StatusReason {
    /// 00: first activation, or none given.
    pub const NONE: StatusReason = StatusReason(0);
    /// 01: requested by the issuer.
    pub const REQUESTED: StatusReason = StatusReason(1);
    /// 22: the PIN retry limit was reached.
    pub const PIN_RETRY_LIMIT: StatusReason = StatusReason(22);
}

impl fmt::Display for StatusReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}", self.0)
    }
}

/// Month after which a plastic is no longer valid, in the order of DE14: YYMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry {
    year: u8,
    month: u8,
}

impl Expiry {
    /// From four digits YYMM, month 01-12; the century is 20.
    #[must_use]
    pub fn parse(yymm: &[u8]) -> Option<Expiry> {
        let digits: &[u8; 4] = yymm.try_into().ok()?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let [y1, y0, m1, m0] = digits.map(|digit| digit - b'0');
        let expiry = Expiry { year: y1 * 10 + y0, month: m1 * 10 + m0 };
        (1..=12).contains(&expiry.month).then_some(expiry)
    }

    /// Four ASCII digits YYMM.
    #[must_use]
    pub const fn digits(self) -> [u8; 4] {
        let Expiry { year, month } = self;
        [b'0' + year / 10, b'0' + year % 10, b'0' + month / 10, b'0' + month % 10]
    }

    /// Whether the last day of the month is over at `now` in a place with this UTC offset.
    #[must_use]
    pub fn is_past(self, now: Timestamp, offset: Offset) -> bool {
        let Ok(instant) = jiff::Timestamp::from_microsecond(now.micros()) else { return true };
        let today = offset.to_datetime(instant);
        let expiry = (2000 + i16::from(self.year), self.month.cast_signed());
        (today.year(), today.month()) > expiry
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}{:02}", self.year, self.month)
    }
}

/// One plastic of a card: what the cardholder holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plastic {
    /// Valid to the end of this month.
    pub expiry: Expiry,
    /// PAN sequence number, 0-99 (DE23).
    pub sequence: u8,
    /// What is known of its chip; nothing of one that was never seen and never changed. Most cards
    /// have none, and so it takes memory of its own.
    pub chip: Option<Box<Chip>>,
}

impl Plastic {
    /// A plastic whose chip nobody has seen.
    #[must_use]
    pub const fn new(expiry: Expiry, sequence: u8) -> Plastic {
        Plastic { expiry, sequence, chip: None }
    }
}

/// The online PIN: one for all plastics of a card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnlinePin {
    /// What an entered PIN is compared with; without one nothing matches.
    pub reference: Option<PinReference>,
    /// Goes up by one with every PIN set.
    pub version: u32,
    /// Consecutive wrong PINs.
    pub tries: u32,
}

/// Everything of a card that can change, as one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardState {
    /// Set by the store when the change is committed, different for each change of a card.
    pub version: u64,
    /// Its state.
    pub status: CardStatus,
    /// Why it is in that state.
    pub status_reason: StatusReason,
    /// The online PIN and its counter of wrong tries.
    pub pin: OnlinePin,
    /// Newest last; never empty. Most cards have one, which needs no memory of its own.
    pub plastics: SmallVec<[Plastic; 1]>,
}

impl CardState {
    /// A new card with one plastic and no PIN.
    #[must_use]
    pub fn new(plastic: Plastic) -> CardState {
        CardState {
            version: 0,
            status: CardStatus::Unactivated,
            status_reason: StatusReason::NONE,
            pin: OnlinePin::default(),
            plastics: smallvec![plastic],
        }
    }

    /// Whether the card is suspended because the PIN retry limit was reached.
    #[must_use]
    pub fn is_suspended_for_pin_tries(&self) -> bool {
        self.status == CardStatus::Suspended && self.status_reason == StatusReason::PIN_RETRY_LIMIT
    }

    /// The card made active: the counter starts at zero, the PIN stays. A terminated card is
    /// final and gives `None`.
    #[must_use]
    pub fn activated(&self, now: Timestamp) -> Option<CardState> {
        let reason = match self.status {
            CardStatus::Terminated => return None,
            CardStatus::Unactivated => StatusReason::NONE,
            CardStatus::Active | CardStatus::Limited | CardStatus::Suspended => {
                StatusReason::REQUESTED
            }
        };
        let mut card = CardState {
            status: CardStatus::Active,
            status_reason: reason,
            pin: OnlinePin { tries: 0, ..self.pin },
            ..self.clone()
        };
        card.begin_changes(now);
        Some(card)
    }

    /// The card with another PIN: the counter starts at zero, a suspension stays.
    #[must_use]
    pub fn with_pin(&self, reference: PinReference) -> CardState {
        let version = self.pin.version.saturating_add(1);
        CardState {
            pin: OnlinePin { reference: Some(reference), version, tries: 0 },
            ..self.clone()
        }
    }

    /// The card whose chips must learn its PIN: the change waits on each of its plastics, in place
    /// of whatever waited there. Before the activation of the card it does not begin to count.
    #[must_use]
    pub fn with_pin_for_chips(&self, pin: &KeptPin, now: Timestamp) -> CardState {
        let counts = self.status != CardStatus::Unactivated;
        let (since, set_at) = (Some(now).filter(|_| counts), Some(now).filter(|_| !counts));
        let kind = ChangeKind::Pin { version: self.pin.version, pin: pin.clone() };
        let change = Change { set_at, ..Change::new(kind, since) };
        self.with_syncs(|_| ChipSync::Pending(change.clone()))
    }

    /// The card whose chips must set their PIN try counters back. A change of the PIN does that
    /// too, and is not replaced.
    #[must_use]
    pub fn with_unblock(&self, now: Timestamp) -> CardState {
        self.with_syncs(|sync| sync.unblocked(now))
    }

    fn with_syncs(&self, next: impl Fn(&ChipSync) -> ChipSync) -> CardState {
        let mut card = self.clone();
        for plastic in &mut card.plastics {
            let chip = plastic.chip.get_or_insert_default();
            chip.sync = next(&chip.sync);
        }
        card
    }

    /// The card without the changes that were not carried in time, and whether one of them was of
    /// the PIN; `None` where there are none of these.
    #[must_use]
    pub fn with_expired_changes(
        &self,
        retention: Retention,
        now: Timestamp,
    ) -> Option<(CardState, bool)> {
        let expired = |(place, plastic): (usize, &Plastic)| {
            let sync = &plastic.chip.as_ref()?.sync;
            let is_pin = sync.kept_change().is_some_and(Change::is_of_pin);
            Some((place, sync.expired(retention, now)?, is_pin))
        };
        let expired: Vec<_> = self.plastics.iter().enumerate().filter_map(expired).collect();
        if expired.is_empty() {
            return None;
        }
        let mut card = self.clone();
        for (place, sync, _) in &expired {
            let chip = card.plastics.get_mut(*place).and_then(|plastic| plastic.chip.as_mut());
            chip.into_iter().for_each(|chip| chip.sync = sync.clone());
        }
        Some((card, expired.iter().any(|(.., is_pin)| *is_pin)))
    }

    /// The card where the time of the first PINs that do not count yet is known: `now` where a
    /// release that did not keep it has set them. `None` where all of it is known.
    #[must_use]
    pub fn with_dated_changes(&self, now: Timestamp) -> Option<CardState> {
        // Before its activation no card carries a script.
        let is_undated = |sync: &ChipSync| {
            matches!(sync, ChipSync::Pending(change)
            if change.since.is_none() && change.set_at.is_none())
        };
        let mut chips = self.plastics.iter().filter_map(|plastic| plastic.chip.as_ref());
        if !chips.any(|chip| is_undated(&chip.sync)) {
            return None;
        }
        let mut card = self.clone();
        for chip in card.plastics.iter_mut().filter_map(|plastic| plastic.chip.as_deref_mut()) {
            if let ChipSync::Pending(change) = &mut chip.sync
                && change.since.is_none()
            {
                change.set_at.get_or_insert(now);
            }
        }
        Some(card)
    }

    /// The changes that wait for the activation of the card begin to count.
    fn begin_changes(&mut self, now: Timestamp) {
        for chip in self.plastics.iter_mut().filter_map(|plastic| plastic.chip.as_deref_mut()) {
            if let ChipSync::Pending(change) = &mut chip.sync {
                change.since.get_or_insert(now);
                change.set_at = None;
            }
        }
    }

    /// Whether its PIN reference, or a PIN that waits for a chip, was made with the key of this
    /// check value.
    #[must_use]
    pub fn needs_key(&self, kcv: Kcv) -> bool {
        let waits = |plastic: &Plastic| {
            let change = plastic.chip.as_ref().and_then(|chip| chip.sync.kept_change());
            match change.map(|change| &change.kind) {
                Some(ChangeKind::Pin { pin, .. }) => pin.key == kcv,
                _ => false,
            }
        };
        self.pin.reference.is_some_and(|reference| reference.key == kcv)
            || self.plastics.iter().any(waits)
    }

    /// What is known of the chip of the plastic at this place.
    #[must_use]
    pub fn chip(&self, plastic: usize) -> Option<&Chip> {
        self.plastics.get(plastic)?.chip.as_deref()
    }

    /// The card with something else known of the chip of the plastic at this place.
    #[must_use]
    pub fn with_chip(&self, plastic: usize, chip: Chip) -> CardState {
        let mut card = self.clone();
        if let Some(plastic) = card.plastics.get_mut(plastic) {
            plastic.chip = Some(Box::new(chip));
        }
        card
    }

    /// The card with another count of consecutive wrong PINs.
    #[must_use]
    pub fn with_tries(&self, tries: u32) -> CardState {
        CardState { pin: OnlinePin { tries, ..self.pin }, ..self.clone() }
    }

    /// The plastic a request speaks of, with its place: the newest with this expiry and sequence,
    /// either left out where the request does not give it. Terminals that read no sequence number
    /// fill DE23 with zeros: where no plastic has the number 0, that gives none.
    #[must_use]
    pub fn plastic(
        &self,
        expiry: Option<Expiry>,
        sequence: Option<u8>,
    ) -> Option<(usize, &Plastic)> {
        let with = |sequence: Option<u8>| {
            self.plastics.iter().enumerate().rev().find(move |(_, plastic)| {
                expiry.is_none_or(|given| given == plastic.expiry)
                    && sequence.is_none_or(|given| given == plastic.sequence)
            })
        };
        with(sequence).or_else(|| if sequence == Some(0) { with(None) } else { None })
    }
}

/// What never changes of a card. None of it is a clear PAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardIdentity {
    /// Digest of its PAN.
    pub key: CardKey,
    /// The issuer's name for it, unique. Up to 24 bytes need no memory of their own.
    pub token: CompactString,
    /// Its PAN as it rests.
    pub sealed_pan: SealedPan,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cards::chip_state::Sent;
    use crate::pin::ReferenceValue;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    #[test]
    fn valid_to_the_end_of_the_month_where_the_issuer_is() {
        let expiry = Expiry::parse(b"2912").unwrap();
        let plus_one = Offset::constant(1);
        assert!(!expiry.is_past(at("2029-12-31T22:59:59Z"), plus_one));
        assert!(expiry.is_past(at("2029-12-31T23:00:00Z"), plus_one));
        assert!(!expiry.is_past(at("2029-12-31T23:59:59Z"), Offset::UTC));
        assert!(expiry.is_past(at("2030-01-01T00:00:00Z"), Offset::UTC));
    }

    const PEK: Kcv = Kcv([1, 2, 3]);
    const OTHER: Kcv = Kcv([1, 2, 4]);

    /// A card that was reissued: two plastics, of which one has a chip that nobody has seen.
    fn two_plastics() -> CardState {
        let expiry = Expiry::parse(b"2912").unwrap();
        let mut card = CardState::new(Plastic::new(expiry, 1));
        card.plastics.push(Plastic::new(expiry, 2));
        let chip = Chip { sync: ChipSync::Expired(None), ..Chip::default() };
        CardState { status: CardStatus::Active, ..card.with_chip(0, chip) }
    }

    fn change_of(card: &CardState, plastic: usize) -> &Change {
        card.chip(plastic).unwrap().sync.change().unwrap()
    }

    #[test]
    fn a_change_of_the_pin_waits_on_every_plastic() {
        let now = at("2026-11-28T12:00:00Z");
        let pin = KeptPin { block: [7; 8], key: PEK };
        let card = two_plastics().with_pin_for_chips(&pin, now);
        for place in 0..2 {
            let kind = ChangeKind::Pin { version: card.pin.version, pin: pin.clone() };
            assert_eq!(change_of(&card, place), &Change::new(kind, Some(now)));
        }
        let card = two_plastics().with_unblock(now);
        for (place, pin_is_old) in [(0, true), (1, false)] {
            assert_eq!(change_of(&card, place).kind, ChangeKind::Unblock { pin_is_old });
        }
    }

    #[test]
    fn a_first_pin_begins_to_count_on_every_plastic_with_the_activation() {
        let (made, activated) = (at("2026-11-01T00:00:00Z"), at("2026-11-20T00:00:00Z"));
        let card = CardState { status: CardStatus::Unactivated, ..two_plastics() };
        let card = card.with_pin_for_chips(&KeptPin { block: [7; 8], key: PEK }, made);
        assert!((0..2).all(|place| change_of(&card, place).since.is_none()));
        assert!((0..2).all(|place| change_of(&card, place).set_at == Some(made)));
        let card = card.activated(activated).unwrap();
        assert!((0..2).all(|place| change_of(&card, place).since == Some(activated)));
        assert!((0..2).all(|place| change_of(&card, place).set_at.is_none()));
    }

    /// Whether it waits, is on its way or was given up: a script may still be made of it.
    #[test]
    fn the_key_of_a_pin_for_a_chip_is_needed_until_the_pin_is_gone() {
        let card = two_plastics();
        assert!(!card.needs_key(PEK) && !card.needs_key(OTHER));
        let pin = KeptPin { block: [7; 8], key: PEK };
        let change = Change::new(ChangeKind::Pin { version: 1, pin }, None);
        let sent = Sent { script: [1; 4], atc: 1, told: 0, transaction: Some(1), unblock: None };
        for place in 0..2 {
            let with = |sync| card.with_chip(place, Chip { sync, ..Chip::default() });
            for sync in [
                ChipSync::Pending(change.clone()),
                ChipSync::Sent(change.clone(), sent),
                ChipSync::Failed(change.clone()),
            ] {
                let card = with(sync);
                assert!(card.needs_key(PEK) && !card.needs_key(OTHER), "{place}");
            }
            assert!(!with(ChipSync::Expired(Some(sent))).needs_key(PEK));
            assert!(!with(ChipSync::InSync.unblocked(at("2026-11-28T12:00:00Z"))).needs_key(PEK));
        }
        let reference = PinReference { value: ReferenceValue::Block([7; 8]), key: OTHER };
        let card = card.with_pin(reference);
        assert!(card.needs_key(OTHER) && !card.needs_key(PEK));
    }

    #[test]
    fn expiry_is_four_digits_with_a_month() {
        let wrong =
            [&b"2900"[..], b"2913", b"29", b"2x12", b"29121", b"\xFF\xFF\xFF\xFF", b"zz\x00z"];
        for wrong in wrong {
            assert!(Expiry::parse(wrong).is_none());
        }
        assert_eq!(Expiry::parse(b"0501").unwrap().to_string(), "0501");
    }
}
