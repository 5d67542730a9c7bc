//! The table of chip evidence a second time: what passes without an online PIN.

use super::mistake::Mistake;
use super::model::{Circumstances, DAY, Entry, Facts, Host, Offline};
use super::wait::Wait;

impl Host {
    /// What comes of a transaction without DE52.
    pub(super) fn without_pin(
        &self,
        facts: &Facts,
        (waits, can_carry): (bool, bool),
        of: &Circumstances,
    ) -> &'static str {
        let rules = &of.rules;
        let is_right = facts.offline == Offline::Right;
        let is_contactless = facts.entry == Entry::Contactless;
        if !rules.offline_pin {
            return without_offline_pin(facts, of);
        }
        if facts.is_cash && (!is_right || is_contactless) {
            return "1012";
        }
        if is_contactless {
            return contactless(facts, of);
        }
        let is_locked = !waits;
        let can_carry = can_carry || of.mistake == Some(Mistake::PassesWithoutScript);
        let is_doubtful = self.wait.change().is_some_and(|change| change.is_doubtful)
            && of.mistake != Some(Mistake::DoubtPasses);
        let waits = waits && can_carry && !is_doubtful;
        if facts.claims_offline && !is_right {
            return "1029";
        }
        if facts.claims_online {
            return "1012";
        }
        if is_right {
            return "0000";
        }
        if facts.is_exhausted {
            let needs_next =
                rules.exhausted_needs_next && of.mistake != Some(Mistake::ExhaustedAlwaysPasses);
            let may = match (needs_next, rules.ftpam) {
                (true, _) => facts.is_otherwise_verified && !facts.has_failed,
                (false, Some(ftpam)) if of.mistake != Some(Mistake::AlwaysIsUnbounded) => {
                    is_small(facts, ftpam, of.mistake)
                }
                (false, _) => true,
            };
            let is_wanted = !facts.is_none_needed
                || !facts.is_not_asked && of.mistake != Some(Mistake::LockedPassesIfAsked);
            let may_pass = rules.locked_may_pass && is_locked && !is_wanted;
            match (waits && may, may_pass) {
                (true, _) => return "0000",
                (false, true) if of.mistake != Some(Mistake::LockedNeverPasses) => {}
                _ => return "1872",
            }
        }
        let not_entered_passes =
            rules.not_entered_passes || of.mistake == Some(Mistake::NotEnteredPasses);
        let is_allowed = !facts.is_not_entered || not_entered_passes;
        let is_required = rules.pin_required && of.mistake != Some(Mistake::NoPinNeverNeeded);
        if facts.offline == Offline::NotTried && !facts.has_failed && is_allowed && !is_required {
            return "0000";
        }
        if waits && self.bypasses(facts, of) { "0000" } else { "1809" }
    }

    fn bypasses(&self, facts: &Facts, of: &Circumstances) -> bool {
        let (rules, mistake) = (&of.rules, of.mistake);
        let Some(change) = self.wait.change() else { return false };
        if !change.is_pin && mistake != Some(Mistake::BypassForUnblock) {
            return false;
        }
        let more_days = u64::from(mistake == Some(Mistake::OneDayMore));
        let in_time = |days: u64| of.now - change.since < (days + more_days) * DAY;
        let is_small = |ftpam: u64| is_small(facts, ftpam, mistake);
        match (rules.ftpam, rules.ftpdy) {
            (None, Some(days)) => rules.bypass_any && in_time(days),
            (None, None) => false,
            (Some(ftpam), None) => {
                let passes = !change.was_refused || mistake == Some(Mistake::RefusedScriptPasses);
                is_small(ftpam) && passes && matches!(self.wait, Wait::Pending(_))
            }
            (Some(ftpam), Some(days)) => is_small(ftpam) && in_time(days),
        }
    }
}

/// Below FTPAM, in the product's currency.
fn is_small(facts: &Facts, ftpam: u64, mistake: Option<Mistake>) -> bool {
    let comparable = facts.is_own_currency || mistake == Some(Mistake::BypassWithoutCurrency);
    let own = Some(facts.amount).filter(|_| comparable);
    let amount = match mistake {
        Some(Mistake::BilledIsBelieved) => facts.billed.or(own),
        _ => facts.billed.max(own),
    };
    let more = u64::from(mistake == Some(Mistake::ThresholdIsIncluded));
    amount.is_some_and(|amount| amount < ftpam + more)
}

/// A chip that holds no PIN: one that went online must be there, and somebody must be verified.
fn without_offline_pin(facts: &Facts, of: &Circumstances) -> &'static str {
    let claims = facts.claims_online && of.mistake != Some(Mistake::OnlineClaimPasses);
    let is_nobody = facts.has_failed
        && facts.entry != Entry::Contactless
        && of.mistake != Some(Mistake::NobodyPasses);
    if claims || is_nobody || facts.is_cash { "1012" } else { "0000" }
}

/// A chip without contact tells nothing of a PIN, unless something failed.
fn contactless(facts: &Facts, of: &Circumstances) -> &'static str {
    if of.mistake == Some(Mistake::ContactlessPasses) {
        return "0000";
    }
    match facts {
        Facts { claims_online: true, .. } => "1012",
        Facts { offline: Offline::Wrong, .. } => "1809",
        Facts { offline: Offline::NotTried, was_refused: true, .. } => "1872",
        Facts { has_failed: true, .. } => "1809",
        // The terminal can ask for an online PIN.
        Facts { offline: Offline::NotTried, is_not_entered: true, .. }
            if !of.rules.not_entered_passes
                && of.mistake != Some(Mistake::ContactlessSkipPasses) =>
        {
            "1012"
        }
        Facts { offline: Offline::NotTried, is_not_asked: false, .. } if of.rules.pin_required => {
            "1012"
        }
        _ => "0000",
    }
}
