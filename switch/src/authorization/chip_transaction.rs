//! A transaction whose cryptogram is right: the decision on it, and what its chip is told.

use super::cryptogram::{Accepted, CryptogramCheck};
use super::decision::{Bypass, ChipOutcome, Circumstances, Cryptogram, Decision, Evidence};
use super::icc_data::ChipData;
use super::product::{ChipRules, Product};
use super::request::Request;
use super::response_code::Reason;
use super::trail::{Finding, Note, Trail};
use super::{issuer_script, limits, pin};
use crate::cards::card::CardState;
use crate::cards::chip_state::{Change, Chip, ChipSync};
use crate::cards::plastic::Embossed;

/// A transaction whose cryptogram is right.
pub(super) struct ChipTransaction<'a> {
    pub(super) request: &'a Request,
    pub(super) card: &'a CardState,
    pub(super) product: &'a Product,
    pub(super) rules: &'a ChipRules,
    pub(super) data: &'a ChipData,
    pub(super) check: CryptogramCheck,
    pub(super) circumstances: Circumstances,
    /// What is known of the chip, with what this transaction tells of it.
    pub(super) chip: Chip,
    /// Whether the chip holds no other PIN than the 0000 that it was embossed with.
    pub(super) holds_zeros: bool,
    /// Whether the time of the change that is kept is over: its PIN block is deleted, and others
    /// are told, a little later, so that it is still there and must not count.
    is_over: bool,
    /// Whether the chip takes a script with an approval of this transaction. Where it does not,
    /// nothing passes because a change waits: it would pass again and again.
    pub(super) takes_script: bool,
    /// How what is known of the chip has changed.
    notes: Trail,
}

impl<'a> ChipTransaction<'a> {
    /// The transaction of an accepted cryptogram, with what its chip tells of the script that was
    /// sent. `None` without chip data, or where the product has no rules for chips.
    pub(super) fn new(
        request: &'a Request,
        card: &'a CardState,
        product: &'a Product,
        accepted: Accepted,
        circumstances: Circumstances,
    ) -> Option<ChipTransaction<'a>> {
        let (data, rules) = (request.chip.as_deref()?, product.chip.as_ref()?);
        let Accepted { check, counters, is_retry } = accepted;
        // A chip that was never seen and never changed is in sync.
        let known = Chip { counters, ..card.chip(check.plastic).cloned().unwrap_or_default() };
        let is_contact = request.is_contact_chip();
        let mut notes = Trail::new();
        // The chip forgets what it tells here when it gets the answer.
        let chip = match rules.offline_pin && !is_retry {
            true => issuer_script::observe(known, &check, is_contact, rules, &mut notes),
            false => known,
        };
        let embossed_with_zeros =
            card.plastics.get(check.plastic).is_some_and(|it| it.embossed() == Embossed::Zeros);
        let holds_zeros = embossed_with_zeros && !chip.has_script_pin;
        let is_over = chip.sync.expired(rules.retention, circumstances.now).is_some();
        // A chip that has counted on since no longer waits for this answer, and what it tells next
        // of scripts is about a later one. Of one that never tells of scripts nobody would know
        // when the change has come to it.
        let takes_script = rules.offline_pin
            && is_contact
            && !request.is_refund()
            && chip.counters.highest == check.atc
            && check.results.tells_of_scripts;
        Some(ChipTransaction {
            request,
            card,
            product,
            rules,
            data,
            check,
            circumstances,
            chip,
            holds_zeros,
            is_over,
            takes_script,
            notes,
        })
    }

    /// The decision, after what the HSM said of the PIN, if it was asked.
    pub(super) fn decide(mut self, evidence: &Evidence, mut trail: Trail) -> Decision {
        let ChipTransaction { request, card, product, circumstances, .. } = self;
        let cryptogram = Cryptogram::Accepted { pin: evidence.pin };
        let contradicts = self.amounts_contradict(&mut trail);
        if self.is_over {
            trail.push(Finding::ChangeExpired.into());
        }
        let (reason, bypass, change) = match (evidence.pin, &request.pin_block) {
            (None, None) if !request.is_refund() => {
                let (reason, bypass) = self.without_pin(&mut trail);
                (reason, bypass, None)
            }
            _ => {
                let judged = (evidence, circumstances.now);
                let (reason, change) = pin::judge(request, card, product, judged, &mut trail);
                (reason, None, change)
            }
        };
        let is_uncovered = self.declines_uncovered_amount();
        if is_uncovered {
            trail.push(Finding::AmountNotCovered.into());
        }
        let reason = match reason {
            Reason::Approved if contradicts || is_uncovered => Reason::BadCryptogram,
            reason => reason,
        };
        let change = match reason {
            Reason::Approved => change.inspect(|after| self.wait_for_new_pin(after)),
            // Of a PIN change that is declined after all, the right PIN that was entered is left.
            _ if request.pin_change.is_some() && evidence.new_pin.is_some() => pin::right(card),
            _ => change,
        };
        let bypass = bypass.filter(|_| reason == Reason::Approved);
        // Who gets no answer to his cryptogram may send it again.
        let chip = (reason != Reason::Unavailable).then(|| Box::new(self.answer(reason)));
        Decision { cryptogram, bypass, change, chip, ..Decision::because(reason, trail) }
    }

    /// Where this transaction sets another PIN, its chip waits for that, and for nothing else.
    fn wait_for_new_pin(&mut self, after: &CardState) {
        if after.pin.version == self.card.pin.version {
            return;
        }
        self.is_over = false;
        if let Some(awaits) = after.chip(self.check.plastic) {
            self.chip.sync = awaits.sync.clone();
        }
    }

    /// The change of the chip that waits for it or is on its way.
    pub(super) fn change(&self) -> Option<&Change> {
        if self.is_over { None } else { self.chip.sync.change() }
    }

    /// Notes where DE4 and 9F02 differ, and tells whether that declines.
    fn amounts_contradict(&self, trail: &mut Trail) -> bool {
        let (requested, authorized) = (self.request.amount.minor_units, self.data.amount());
        let differs = self.data.amount_authorized.is_some() && authorized != Some(requested);
        if differs {
            trail.push(Note::of(Finding::AmountsDiffer, requested, told(authorized)));
        }
        differs && self.rules.declines_amount_mismatch
    }

    /// Whether it declines that the amount which the chip saw is not under its cryptogram: who may
    /// leave the amount out, or change it, has it differ from nothing.
    fn declines_uncovered_amount(&self) -> bool {
        let is_told = self.data.amount_authorized.is_some() && self.check.cvn.covers.has(0x9F02);
        self.rules.declines_amount_mismatch && !is_told && !self.request.is_refund()
    }

    /// What a request without a PIN comes to. Cash passes only where the chip has verified one.
    fn without_pin(&self, trail: &mut Trail) -> (Reason, Option<Bypass>) {
        let ChipTransaction { request, card, product, .. } = self;
        if request.pin_change.is_some() {
            trail.push(Finding::PinMissing.into());
            return (Reason::PinRequired, None);
        }
        if !self.rules.offline_pin {
            let reason = match self.judge_without_offline_pin(trail) {
                Ok(()) => pin::unverified(request, card, product, trail),
                Err(reason) => reason,
            };
            return (reason, None);
        }
        let is_verified = self.is_verified() && !request.is_contactless();
        if pin::is_cash(request) && !is_verified && pin::is_required(request, product) {
            trail.push(Finding::PinMissing.into());
            return (Reason::PinRequired, None);
        }
        let judged = match request.is_contactless() {
            true => self.judge_contactless(trail).map(|()| None),
            false => self.judge(trail),
        };
        match judged {
            Ok(bypass) => (limits::check(request, product, trail), bypass),
            Err(reason) => (reason, None),
        }
    }

    /// What the chip is told of the decision, and what is known of it then.
    fn answer(self, reason: Reason) -> ChipOutcome {
        let (check, now) = (self.check, self.circumstances.now);
        let counters = match reason {
            Reason::PinRequired | Reason::InvalidPin => {
                self.chip.counters.clone().allowing_retry(check.atc, check.cryptogram, now)
            }
            _ => self.chip.counters.clone(),
        };
        let approves = reason == Reason::Approved;
        let answer = check.cvn.answer(reason.arc(), approves);
        let has_script_pin = self.chip.has_script_pin;
        let (sync, carries_script, notes) = match approves && self.takes_script {
            true => self.with_script(),
            false => (self.chip.sync, false, self.notes),
        };
        let after = Chip { counters, sync, has_script_pin };
        ChipOutcome { check, after, answer, carries_script, notes }
    }

    /// What is known of a chip that takes a script with this approval, and whether there is one: of
    /// the change that waits, or an unblock.
    fn with_script(self) -> (ChipSync, bool, Trail) {
        let (unblocks, waits) = (self.unblocks(), self.change().is_some());
        let ChipTransaction { chip: Chip { sync, .. }, mut notes, check, circumstances, .. } = self;
        let sync = match unblocks {
            true => {
                notes.push(Finding::UnblockQueued.into());
                sync.unblocked(circumstances.now)
            }
            false if waits => sync,
            false => return (sync, false, notes),
        };
        match issuer_script::attach(&sync, &check, circumstances.transaction, &mut notes) {
            Some(sent) => (sent, true, notes),
            None => (sync, false, notes),
        }
    }

    /// Whether a right online PIN for cash queues an unblock for this chip. A change of the PIN
    /// unblocks too, and one whose time is over is ended first.
    fn unblocks(&self) -> bool {
        self.rules.atm_unblocks_chip
            && self.request.pin_block.is_some()
            && pin::is_surely_cash(self.request, &self.check.cvn.covers)
            && self.is_exhausted()
            && !self.is_over
            && self.chip.sync.change().is_none()
    }
}

/// An amount as a note tells it: 0 where the chip tells none that is decimal.
pub(super) fn told(amount: Option<u64>) -> u64 {
    amount.unwrap_or(0)
}
