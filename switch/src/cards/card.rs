//! A card as the issuer knows it. Pure values: what changes is one immutable snapshot,
//! [`CardState`], and every change makes a new one.

use compact_str::CompactString;
use smallvec::{SmallVec, smallvec};

use crate::cards::card_key::{CardKey, SealedPan};
use crate::cards::chip_state::{Change, Chip, ChipSync, Retention};
use crate::cards::plastic::{CardStatus, Embossed, Expiry, Plastic, StatusReason};
use crate::clock::Timestamp;
use crate::key::Kcv;
use crate::pin::{KeptPin, PinReference};

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
    /// The online PIN and its counter of wrong tries.
    pub pin: OnlinePin,
    /// Newest last; never empty. Most cards have one, which needs no memory of its own.
    pub plastics: SmallVec<[Plastic; 1]>,
}

impl CardState {
    /// A new card with one plastic and no PIN.
    #[must_use]
    pub fn new(plastic: Plastic) -> CardState {
        CardState { version: 0, pin: OnlinePin::default(), plastics: smallvec![plastic] }
    }

    /// The card with the plastic at this place made active: the counter starts at zero, the PIN
    /// stays, and so does the suspension of any other plastic.
    #[must_use]
    pub fn activated(&self, plastic: usize, reason: StatusReason, now: Timestamp) -> CardState {
        let pin = self.kept_pin().map(|pin| (self.pin.version, pin));
        let mut card = self.with_tries(0);
        if let Some(plastic) = card.plastics.get_mut(plastic) {
            plastic.activate(reason, pin, now);
        }
        card.forget_spare_pins();
        card
    }

    /// The block of the card's PIN, as long as one waits for a chip or has waited for it in vain.
    #[must_use]
    pub fn kept_pin(&self) -> Option<&KeptPin> {
        let mut kept = self.plastics.iter().filter_map(Plastic::kept_pin);
        kept.find(|(version, _)| *version == self.pin.version).map(|(_, pin)| pin)
    }

    /// The card whose PIN retry limit was reached: every plastic in use is suspended.
    #[must_use]
    pub fn suspended_for_pin_tries(mut self) -> CardState {
        for plastic in &mut self.plastics {
            if plastic.status == CardStatus::Active {
                plastic.status = CardStatus::Suspended;
                plastic.status_reason = StatusReason::PIN_RETRY_LIMIT;
            }
        }
        self
    }

    /// The card with each plastic in use again whose PIN retry limit was reached, and their places.
    #[must_use]
    pub fn without_pin_suspension(&self, now: Timestamp) -> (CardState, Vec<usize>) {
        let reached = (CardStatus::Suspended, StatusReason::PIN_RETRY_LIMIT);
        let plastics = self.plastics.iter().enumerate();
        let places = plastics.filter(|(_, it)| (it.status, it.status_reason) == reached);
        let places: Vec<usize> = places.map(|(place, _)| place).collect();
        let activate =
            |card: CardState, place: &usize| card.activated(*place, StatusReason::REQUESTED, now);
        (places.iter().fold(self.clone(), activate), places)
    }

    /// The card with the plastic at this place in another state. With one that is terminated, the
    /// PIN block that waits for its chip is deleted, unless no other has it; with the last one, all
    /// are.
    #[must_use]
    pub fn with_status(
        &self,
        plastic: usize,
        status: CardStatus,
        reason: StatusReason,
    ) -> CardState {
        let mut card = self.clone();
        if let Some(plastic) = card.plastics.get_mut(plastic) {
            (plastic.status, plastic.status_reason) = (status, reason);
        }
        card.forget_spare_pins();
        card
    }

    /// Whether a plastic of the card is not TERMINATED. Where none is, nothing of its PIN is kept.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.plastics.iter().any(|plastic| plastic.status != CardStatus::Terminated)
    }

    /// Deletes the PIN blocks of plastics that are terminated: of each whose PIN, or a newer one, a
    /// plastic in life has too, and of all where none is in life. The only one is kept, since a
    /// plastic that is activated later may have to get it.
    fn forget_spare_pins(&mut self) {
        let is_alive = |plastic: &&Plastic| plastic.status != CardStatus::Terminated;
        let alive = || self.plastics.iter().filter(is_alive);
        let version = |plastic: &Plastic| plastic.kept_pin().map(|(version, _)| version);
        let (has_any, newest) = (alive().next().is_some(), alive().filter_map(version).max());
        let is_spare = |plastic: &Plastic| !has_any || version(plastic) <= newest;
        for plastic in &mut self.plastics {
            if plastic.status == CardStatus::Terminated && is_spare(plastic) {
                plastic.forget_pin();
            }
        }
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

    /// The card without its PIN: nothing matches, and nothing waits for its chips. The version of
    /// the PIN stays, so that none ever comes again.
    #[must_use]
    pub fn without_pin(&self) -> CardState {
        let mut card = self.clone();
        card.pin = OnlinePin { reference: None, tries: 0, ..card.pin };
        card.plastics.iter_mut().for_each(Plastic::forget_pin);
        card
    }

    /// The card whose chips must learn its PIN: the change waits on each of its plastics that are
    /// produced and not terminated, in place of whatever waited there. Before the activation of a
    /// plastic it does not begin to count.
    #[must_use]
    pub fn with_pin_for_chips(&self, pin: &KeptPin, now: Timestamp) -> CardState {
        let mut card = self.clone();
        for plastic in &mut card.plastics {
            plastic.await_pin(self.pin.version, pin, now);
        }
        card.forget_spare_pins();
        card
    }

    /// The card whose chips must set their PIN try counters back; `None` where every plastic is
    /// terminated. A change of the PIN does that too, and is not replaced. A plastic that is not
    /// produced has no chip to unblock.
    #[must_use]
    pub fn with_unblock(&self, now: Timestamp) -> Option<CardState> {
        let is_alive = |plastic: &&mut Plastic| plastic.status != CardStatus::Terminated;
        let mut card = self.clone();
        let mut has_any = false;
        for plastic in card.plastics.iter_mut().filter(is_alive) {
            has_any = true;
            if plastic.embossed() != Embossed::NotProduced {
                let known = plastic.chip().map_or(&ChipSync::InSync, |chip| &chip.sync);
                plastic.set_sync(known.unblocked(now));
            }
        }
        has_any.then_some(card)
    }

    /// The card without the changes that were not carried in time, and the places of the plastics
    /// whose change was of the PIN; `None` where there are no such changes.
    #[must_use]
    pub fn with_expired_changes(
        &self,
        retention: Retention,
        now: Timestamp,
    ) -> Option<(CardState, SmallVec<[usize; 1]>)> {
        let expired = |(place, plastic): (usize, &Plastic)| {
            let sync = &plastic.chip()?.sync;
            let is_pin = sync.kept_change().is_some_and(Change::is_of_pin);
            Some((place, sync.expired(retention, now)?, is_pin))
        };
        let expired: Vec<_> = self.plastics.iter().enumerate().filter_map(expired).collect();
        if expired.is_empty() {
            return None;
        }
        let mut card = self.clone();
        for (place, sync, _) in &expired {
            card.plastics.get_mut(*place).into_iter().for_each(|it| it.set_sync(sync.clone()));
        }
        let of_pin = expired.iter().filter(|(.., is_pin)| *is_pin).map(|(place, ..)| *place);
        Some((card, of_pin.collect()))
    }

    /// The card where the time of the first PINs that do not count yet is known: `now` where a
    /// release that did not keep it has set them. `None` where all of it is known.
    #[must_use]
    pub fn with_dated_changes(&self, now: Timestamp) -> Option<CardState> {
        // Before its activation no plastic carries a script.
        let is_undated = |sync: &ChipSync| {
            matches!(sync, ChipSync::Pending(change)
            if change.since.is_none() && change.set_at.is_none())
        };
        let mut chips = self.plastics.iter().filter_map(Plastic::chip);
        if !chips.any(|chip| is_undated(&chip.sync)) {
            return None;
        }
        let mut card = self.clone();
        for chip in card.plastics.iter_mut().filter_map(Plastic::chip_mut) {
            if let ChipSync::Pending(change) = &mut chip.sync
                && change.since.is_none()
            {
                change.set_at.get_or_insert(now);
            }
        }
        Some(card)
    }

    /// Whether its PIN reference, or a PIN that waits for a chip, was made with the key of this
    /// check value.
    #[must_use]
    pub fn needs_key(&self, kcv: Kcv) -> bool {
        let mut waiting = self.plastics.iter().filter_map(Plastic::kept_pin);
        self.pin.reference.is_some_and(|reference| reference.key == kcv)
            || waiting.any(|(_, pin)| pin.key == kcv)
    }

    /// What is known of the chip of the plastic at this place.
    #[must_use]
    pub fn chip(&self, plastic: usize) -> Option<&Chip> {
        self.plastics.get(plastic)?.chip()
    }

    /// The card with something else known of the chip of the plastic at this place.
    #[must_use]
    pub fn with_chip(&self, plastic: usize, chip: Chip) -> CardState {
        let mut card = self.clone();
        if let Some(plastic) = card.plastics.get_mut(plastic) {
            plastic.set_chip(chip);
        }
        card
    }

    /// The card with another count of consecutive wrong PINs.
    #[must_use]
    pub fn with_tries(&self, tries: u32) -> CardState {
        CardState { pin: OnlinePin { tries, ..self.pin }, ..self.clone() }
    }

    /// The plastics that a request may speak of, with their places, oldest first: those with this
    /// expiry and sequence, either left out where the request does not give it. Terminals that read
    /// no sequence number fill DE23 with zeros: where none of these plastics has the number 0, that
    /// gives none.
    pub fn named(
        &self,
        expiry: Option<Expiry>,
        sequence: Option<u8>,
    ) -> impl DoubleEndedIterator<Item = (usize, &Plastic)> + Clone {
        let is_given = |sequence: &u8| {
            *sequence != 0 || self.plastics.iter().any(|it| it.fits(expiry, Some(*sequence)))
        };
        let sequence = sequence.filter(is_given);
        self.plastics.iter().enumerate().filter(move |(_, it)| it.fits(expiry, sequence))
    }

    /// The plastic that a request speaks of, with its place: of those that it may mean, the newest
    /// that is active. If none is, the one that says most of why the card declines: one that is
    /// suspended for PIN tries before one that is blocked otherwise, a renewal that is not active
    /// yet after both, and one that is terminated, which nobody should hold any more, last.
    #[must_use]
    pub fn plastic(
        &self,
        expiry: Option<Expiry>,
        sequence: Option<u8>,
    ) -> Option<(usize, &Plastic)> {
        let rank = |plastic: &Plastic| match plastic.status {
            CardStatus::Active => 4,
            CardStatus::Suspended if plastic.is_suspended_for_pin_tries() => 3,
            CardStatus::Suspended | CardStatus::Limited => 2,
            CardStatus::Unactivated => 1,
            CardStatus::Terminated => 0,
        };
        // Of equals the last, which is the newest.
        self.named(expiry, sequence).max_by_key(|(_, plastic)| rank(plastic))
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
    use crate::cards::chip_state::{ChangeKind, Sent};
    use crate::pin::ReferenceValue;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    const PEK: Kcv = Kcv([1, 2, 3]);
    const OTHER: Kcv = Kcv([1, 2, 4]);

    /// A card that was reissued: two plastics, of which one has a chip that nobody has seen.
    fn two_plastics() -> CardState {
        let expiry = Expiry::parse(b"2912").unwrap();
        let mut card = CardState::new(Plastic::new(expiry, 1));
        card.plastics.push(Plastic::new(expiry, 2));
        let chip = Chip { sync: ChipSync::Expired(None), ..Chip::default() };
        let card = card.with_chip(0, chip);
        with_both(&card, CardStatus::Active)
    }

    fn with_both(card: &CardState, status: CardStatus) -> CardState {
        let reason = StatusReason::NONE;
        card.with_status(0, status, reason).with_status(1, status, reason)
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
        let card = two_plastics().with_unblock(now).unwrap();
        for (place, pin_is_old) in [(0, true), (1, false)] {
            assert_eq!(change_of(&card, place).kind, ChangeKind::Unblock { pin_is_old });
        }
    }

    #[test]
    fn a_first_pin_begins_to_count_on_each_plastic_with_its_activation() {
        let (made, activated) = (at("2026-11-01T00:00:00Z"), at("2026-11-20T00:00:00Z"));
        let card = with_both(&two_plastics(), CardStatus::Unactivated);
        let card = card.with_pin_for_chips(&KeptPin { block: [7; 8], key: PEK }, made);
        assert!((0..2).all(|place| change_of(&card, place).since.is_none()));
        assert!((0..2).all(|place| change_of(&card, place).set_at == Some(made)));
        for place in 0..2 {
            let card = card.activated(place, StatusReason::NONE, activated);
            let [this, other] = [place, 1 - place].map(|place| change_of(&card, place));
            assert_eq!((this.since, this.set_at), (Some(activated), None));
            assert_eq!((other.since, other.set_at), (None, Some(made)));
        }
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

    /// Plastics with the sequence numbers from 1 on, each in a state.
    fn reissued(states: &[CardStatus]) -> CardState {
        let expiry = Expiry::parse(b"2912").unwrap();
        let plastic = |(number, status): (u8, &CardStatus)| {
            let mut plastic = Plastic::new(expiry, number);
            plastic.status = *status;
            plastic
        };
        let plastics = (1..).zip(states).map(plastic).collect();
        CardState { plastics, ..CardState::new(Plastic::new(expiry, 0)) }
    }

    fn states(card: &CardState) -> Vec<(CardStatus, u8)> {
        card.plastics.iter().map(|it| (it.status, it.status_reason.0)).collect()
    }

    #[test]
    fn a_request_means_the_newest_active_plastic_of_those_that_it_names() {
        use CardStatus::{Active, Limited, Suspended, Terminated, Unactivated};
        let place = |states: &[CardStatus], expiry: Option<&[u8]>, sequence| {
            let expiry = expiry.map(|yymm| Expiry::parse(yymm).unwrap());
            reissued(states).plastic(expiry, sequence).map(|(place, _)| place)
        };
        for (states, newest) in [
            (&[Active][..], 0),
            (&[Active, Unactivated], 0),
            (&[Active, Active, Terminated], 1),
            (&[Suspended, Unactivated], 0),
            (&[Unactivated, Limited, Suspended, Unactivated], 2),
            (&[Suspended, Limited, Terminated], 1),
            (&[Terminated, Suspended, Terminated], 1),
            (&[Unactivated, Unactivated, Terminated], 1),
            (&[Terminated, Unactivated], 1),
            (&[Terminated, Terminated], 1),
        ] {
            // By what they all have in common, or by nothing.
            for (expiry, sequence) in [
                (None, None),
                (Some(&b"2912"[..]), None),
                (None, Some(0)),
                (Some(b"2912"), Some(0)),
            ] {
                assert_eq!(place(states, expiry, sequence), Some(newest), "{states:?}");
            }
            for sequence in 1..=states.len() {
                let number = u8::try_from(sequence).ok();
                assert_eq!(place(states, None, number), Some(sequence - 1), "{states:?}");
            }
            assert_eq!(place(states, Some(b"3012"), None), None);
            assert_eq!(place(states, None, Some(9)), None);
        }
    }

    /// Later attempts are answered as the last one was, whatever the other plastics are.
    #[test]
    fn where_none_is_active_one_that_is_suspended_for_pin_tries_is_meant() {
        use CardStatus::{Active, Limited, Suspended, Terminated, Unactivated};
        for (states, place) in [
            (&[Active, Unactivated][..], 0),
            (&[Active, Suspended], 0),
            (&[Limited, Active, Suspended, Limited, Terminated], 1),
            (&[Active, Active, Unactivated], 1),
        ] {
            let card = reissued(states).suspended_for_pin_tries();
            assert_eq!(card.plastic(None, None).map(|(place, _)| place), Some(place), "{states:?}");
        }
    }

    #[test]
    fn a_suspension_is_of_all_that_are_active_and_lifted_of_one() {
        use CardStatus::{Active, Limited, Suspended, Terminated, Unactivated};
        let before = reissued(&[Active, Unactivated, Limited, Suspended, Terminated, Active]);
        let after = before.with_tries(3).suspended_for_pin_tries();
        let wanted = [
            (Suspended, 22),
            (Unactivated, 0),
            (Limited, 0),
            (Suspended, 0),
            (Terminated, 0),
            (Suspended, 22),
        ];
        assert_eq!(states(&after), wanted);
        let now = at("2026-11-28T12:00:00Z");
        for place in [0, 1, 2, 3, 5] {
            let lifted = after.activated(place, StatusReason::REQUESTED, now);
            let mut wanted = wanted.to_vec();
            wanted[place] = (Active, 1);
            assert_eq!((states(&lifted), lifted.pin.tries), (wanted, 0));
        }
        // Or of all that were suspended for that.
        let (lifted, places) = after.without_pin_suspension(now);
        assert_eq!((places, lifted.pin.tries, states(&lifted)[0]), (vec![0, 5], 0, (Active, 1)));
        assert_eq!(lifted.without_pin_suspension(now), (lifted, vec![]));
    }

    /// A card whose PIN was just set, with plastics that were produced so and are not activated;
    /// the first is active.
    fn with_pin_of_two(produced: &[Embossed]) -> CardState {
        let states = vec![CardStatus::Unactivated; produced.len()];
        let card = reissued(&states).with_status(0, CardStatus::Active, StatusReason::NONE);
        let reference = PinReference { value: ReferenceValue::Block([7; 8]), key: OTHER };
        let mut card = card.with_pin(reference).with_pin(reference);
        let plastics = card.plastics.drain(..).zip(produced);
        card.plastics =
            plastics.map(|(plastic, embossed)| plastic.embossed_with(*embossed)).collect();
        card
    }

    fn syncs(card: &CardState) -> Vec<&'static str> {
        card.plastics.iter().map(|it| it.chip().map_or("-", |chip| chip.sync.name())).collect()
    }

    #[test]
    fn a_pin_waits_for_the_chips_that_are_there_and_in_use() {
        let (now, pin) = (at("2026-11-28T12:00:00Z"), KeptPin { block: [7; 8], key: PEK });
        let embossed = [Embossed::Pin(1), Embossed::NotProduced, Embossed::Zeros, Embossed::NoPin];
        let card = with_pin_of_two(&embossed);
        let card = card.with_status(3, CardStatus::Terminated, StatusReason::REQUESTED);
        assert_eq!(syncs(&card.with_pin_for_chips(&pin, now)), ["pending", "-", "pending", "-"]);
        let unblocked = card.with_unblock(now).unwrap();
        assert_eq!(syncs(&unblocked), ["pending", "-", "pending", "-"]);
        let terminated = reissued(&[CardStatus::Terminated; 2]);
        assert_eq!(terminated.with_unblock(now), None);
        assert_eq!(terminated.with_pin_for_chips(&pin, now), terminated);
    }

    /// The block waits for another plastic: it was set when these were not produced.
    #[test]
    fn a_chip_that_was_embossed_with_another_pin_gets_the_cards_with_its_activation() {
        let (now, later) = (at("2026-11-01T00:00:00Z"), at("2026-11-20T00:00:00Z"));
        let pin = KeptPin { block: [7; 8], key: PEK };
        for (embossed, waits) in [
            (Embossed::Pin(2), false),
            (Embossed::NotProduced, false),
            (Embossed::Pin(1), true),
            (Embossed::Zeros, true),
            (Embossed::NoPin, true),
        ] {
            let card = with_pin_of_two(&[Embossed::Pin(1), Embossed::NotProduced]);
            let mut card = card.with_pin_for_chips(&pin, now);
            let produced = card.plastics.pop().unwrap().embossed_with(embossed);
            card.plastics.push(produced);
            let activated = |card: &CardState| card.activated(1, StatusReason::NONE, later);
            let active = activated(&card);
            let change = Change::new(ChangeKind::Pin { version: 2, pin: pin.clone() }, Some(later));
            let wanted = waits.then_some(ChipSync::Pending(change));
            let known = active.chip(1).map(|chip| chip.sync.clone());
            assert_eq!(known, wanted, "{embossed:?}");
            assert_eq!(active.chip(0), card.chip(0));
            // Neither of a later activation, nor of a PIN whose block is deleted.
            let again = card.with_status(1, CardStatus::Suspended, StatusReason::REQUESTED);
            assert_eq!(activated(&again).chip(1), None);
            let retention = Retention { ofpbe: 1, unactivated: 1 };
            let (expired, _) = card.with_expired_changes(retention, later).unwrap();
            assert_eq!(activated(&expired).chip(1), None);
            let newer = CardState { pin: OnlinePin { version: 3, ..card.pin }, ..card };
            assert_eq!(activated(&newer).chip(1), None);
        }
    }

    #[test]
    fn with_the_last_plastic_that_is_terminated_the_blocks_are_deleted() {
        let (now, pin) = (at("2026-11-28T12:00:00Z"), KeptPin { block: [7; 8], key: PEK });
        let card = with_pin_of_two(&[Embossed::Pin(1), Embossed::Pin(1)]);
        let card = card.with_pin_for_chips(&pin, now);
        let terminate = |card: &CardState, place| {
            card.with_status(place, CardStatus::Terminated, StatusReason::REQUESTED)
        };
        // The chip of the other still waits for it.
        let one = terminate(&card, 0);
        assert_eq!((syncs(&one), one.needs_key(PEK)), (vec!["expired", "pending"], true));
        let both = terminate(&one, 1);
        assert_eq!((syncs(&both), both.needs_key(PEK)), (vec!["expired", "expired"], false));
        assert!(both.needs_key(OTHER), "what the PIN is compared with is no block that waits");
    }

    /// A plastic that is produced later may have to get it.
    #[test]
    fn a_terminated_plastic_keeps_a_block_that_no_other_has() {
        let (now, pin) = (at("2026-11-28T12:00:00Z"), KeptPin { block: [7; 8], key: PEK });
        let card = with_pin_of_two(&[Embossed::Pin(1), Embossed::NotProduced]);
        let card = card.with_pin_for_chips(&pin, now);
        let alone = card.with_status(0, CardStatus::Terminated, StatusReason::REQUESTED);
        assert_eq!((syncs(&alone), alone.needs_key(PEK)), (vec!["pending", "-"], true));
        let mut produced = alone;
        produced.plastics[1] = produced.plastics[1].clone().embossed_with(Embossed::Zeros);
        let active = produced.activated(1, StatusReason::NONE, now);
        assert_eq!(syncs(&active), ["expired", "pending"]);
        // Nor one of an older PIN.
        let newer = produced.with_pin(card.pin.reference.unwrap()).with_pin_for_chips(&pin, now);
        assert_eq!(syncs(&newer), ["expired", "pending"]);
    }
}
