//! The decision on a transaction whose cryptogram is right, and what its chip is told.

use super::decision::{
    ChipOutcome, Circumstances, CryptogramCheck, Decision, by_pin, without_verified_pin,
};
use super::issuer_script;
use super::offline_pin::Transaction;
use super::pin;
use super::product::{ChipRules, Product};
use super::request::Request;
use super::response_code::Reason;
use super::trail::{Finding, Note, Trail};
use crate::cards::card::CardState;
use crate::cards::chip_state::{AtcWindow, Chip, ChipSync};
use crate::outcome::PinOutcome;

/// A transaction whose cryptogram is right.
pub(super) struct Judgement<'a> {
    pub(super) request: &'a Request,
    pub(super) card: &'a CardState,
    pub(super) product: &'a Product,
    pub(super) rules: &'a ChipRules,
    pub(super) check: CryptogramCheck,
    pub(super) circumstances: Circumstances,
}

impl Judgement<'_> {
    pub(super) fn decide(
        &self,
        pin: Option<PinOutcome>,
        sync: ChipSync,
        (counters, is_retry): (AtcWindow, bool),
        mut trail: Trail,
    ) -> Decision {
        let Judgement { request, card, product, rules, check, circumstances } = self;
        let Some(chip) = request.chip.as_deref() else {
            return Decision::because(Reason::BadCryptogram, trail);
        };
        let (requested, authorized) = (request.amount.minor_units, chip.amount());
        let differs = chip.amount_authorized.is_some() && authorized != Some(requested);
        if differs {
            let authorized = authorized.unwrap_or_default();
            trail.push(Note::of(Finding::AmountsDiffer, requested, authorized));
        }
        // The chip forgets what it tells here when it gets the answer.
        let is_contact = request.is_contact_chip();
        let sync = match rules.offline_pin && !is_retry {
            true => issuer_script::observe(sync, (check, is_contact), rules, &mut trail),
            false => sync,
        };
        // Its block is deleted, and others are told, a little later.
        let expired = sync.expired(rules.retention, circumstances.now);
        if expired.is_some() {
            trail.push(Finding::ChangeExpired.into());
        }
        let transaction = Transaction {
            request,
            chip,
            tvr: chip.tvr.unwrap_or_default(),
            check,
            product,
            rules,
            sync: expired.as_ref().unwrap_or(&sync),
            now: circumstances.now,
            // A chip that has counted on since no longer waits for this answer, and what it tells
            // next of scripts is about a later one. Of one that never tells of scripts nobody
            // would know when the change has come to it.
            can_carry: self.reaches_chip()
                && counters.highest == check.atc
                && check.results.tells_of_scripts,
        };
        let (reason, change) = match (pin, &request.pin_block) {
            (None, None) if !request.is_refund() => {
                (self.without_pin(&transaction, &mut trail), None)
            }
            _ => by_pin(request, card, product, pin, &mut trail),
        };
        // Who may leave the amount out, or change it, has it differ from nothing.
        let is_told = chip.amount_authorized.is_some() && check.cvn.covers.has(0x9F02);
        let is_unknown = rules.declines_amount_mismatch && !is_told && !request.is_refund();
        if is_unknown {
            trail.push(Finding::AmountNotCovered.into());
        }
        let contradicts = rules.declines_amount_mismatch && differs || is_unknown;
        let reason = match reason {
            Reason::Approved if contradicts => Reason::BadCryptogram,
            reason => reason,
        };
        if reason == Reason::Unavailable {
            trail.retain(|note| !note.finding.is_of_chip_state());
            return Decision { change, ..Decision::because(reason, trail) };
        }
        let known = (sync.clone(), counters);
        let outcome = self.outcome(reason, &transaction, known, &mut trail);
        Decision { reason, change, chip: Some(outcome), trail }
    }

    /// Whether its chip holds the PIN, and takes a script now.
    fn reaches_chip(&self) -> bool {
        let request = self.request;
        self.rules.offline_pin && request.is_contact_chip() && !request.is_refund()
    }

    /// Cash without a PIN passes only where the chip has verified one.
    fn without_pin(&self, transaction: &Transaction<'_>, trail: &mut Trail) -> Reason {
        let Judgement { request, card, product, rules, .. } = self;
        if !rules.offline_pin {
            return match transaction.judge_without_offline_pin(trail) {
                Ok(()) => without_verified_pin(request, card, product, false, trail),
                Err(reason) => reason,
            };
        }
        let is_verified = transaction.is_verified() && !request.is_contactless();
        if pin::is_cash(request) && !is_verified && pin::is_required(request, product) {
            trail.push(Finding::PinMissing.into());
            return Reason::PinRequired;
        }
        let judged = match request.is_contactless() {
            true => transaction.judge_contactless(trail),
            false => transaction.judge(trail),
        };
        match judged {
            Ok(()) => without_verified_pin(request, card, product, true, trail),
            Err(reason) => reason,
        }
    }

    fn outcome(
        &self,
        reason: Reason,
        transaction: &Transaction<'_>,
        (sync, counters): (ChipSync, AtcWindow),
        trail: &mut Trail,
    ) -> ChipOutcome {
        let Judgement { request, rules, check, circumstances, .. } = self;
        let approves = reason == Reason::Approved;
        let mut after = sync;
        let carries = approves && transaction.can_carry;
        // A change of the PIN unblocks too, and one whose time is over is ended first.
        let unblocks = rules.atm_unblocks_chip
            && request.pin_block.is_some()
            && pin::is_surely_cash(request, &check.cvn.covers)
            && transaction.is_exhausted()
            && *transaction.sync == after
            && after.change().is_none();
        if carries && unblocks {
            trail.push(Finding::UnblockQueued.into());
            after = after.unblocked(circumstances.now);
        }
        let may_carry = carries && (unblocks || transaction.sync.change().is_some());
        let attached = may_carry
            .then(|| issuer_script::attach(&after, check, circumstances.transaction, trail))
            .flatten();
        let carries_script = attached.is_some();
        let after = attached.unwrap_or(after);
        let cryptogram = transaction.chip.cryptogram.unwrap_or_default();
        let asks_again = matches!(reason, Reason::PinRequired | Reason::InvalidPin);
        let counters = match asks_again {
            true => counters.allowing_retry(check.atc, cryptogram, circumstances.now),
            false => counters,
        };
        let answer = check.cvn.answer(reason.arc(), approves);
        ChipOutcome { check: *check, after: Chip { counters, sync: after }, answer, carries_script }
    }
}
