//! What the chip's evidence of an offline PIN comes to, and when a transaction passes without one
//! after a PIN change (FTPAM, FTPDY). The chip's counter is not the host's: nothing here moves the
//! online counter or suspends the card.

use super::chip_transaction::{ChipTransaction, told};
use super::decision::Bypass;
use super::icc_data::{OfflinePin, Tvr};
use super::pin::is_cash;
use super::product::{BypassMode, ExhaustedPolicy, LockedChip, NoPinPolicy, PinNotEntered};
use super::response_code::Reason;
use super::trail::{Finding, Note, Trail};
use crate::cards::chip_state::{Change, ChipSync};
use crate::clock::Timestamp;

const DAY_SECONDS: u64 = 24 * 3_600;

/// Whether a transaction passes without an online PIN, and what it was let pass for where that is a
/// change of the PIN; or the reason of the decline.
type Judged = Result<Option<Bypass>, Reason>;

impl ChipTransaction<'_> {
    /// The terminal verification results. A transaction without them tells of no failure; that of
    /// a contact chip has them under its cryptogram.
    fn tvr(&self) -> Tvr {
        self.data.tvr.unwrap_or_default()
    }

    /// Whether the chip has no PIN try left.
    pub(super) fn is_exhausted(&self) -> bool {
        self.check.results.try_limit_exceeded || self.tvr().try_limit_exceeded()
    }

    /// What the chip says of an offline PIN. That it is right proves nothing where everybody knows
    /// the PIN: then it counts like a wrong one.
    fn offline_pin(&self) -> OfflinePin {
        match self.check.results.offline_pin {
            OfflinePin::Successful if self.holds_zeros => OfflinePin::Failed,
            said => said,
        }
    }

    /// Notes that the offline PIN is wrong, or counts like a wrong one.
    fn note_wrong(&self, trail: &mut Trail) {
        trail.push(match self.check.results.offline_pin {
            OfflinePin::Successful => Finding::OfflinePinKnown.into(),
            _ => Finding::OfflinePinWrong.into(),
        });
    }

    /// Whether the chip has verified an offline PIN.
    pub(super) fn is_verified(&self) -> bool {
        self.offline_pin() == OfflinePin::Successful && !self.is_contradictory()
    }

    /// The terminal says that an offline PIN is right, and the chip does not.
    fn is_contradictory(&self) -> bool {
        let terminal = self.data.cvm_results.is_some_and(|cvm| cvm.says_offline_pin_ok());
        self.check.results.terminal_erroneously_ok
            || terminal && self.check.results.offline_pin != OfflinePin::Successful
    }

    /// How many PIN tries the chip says it has left.
    fn tries_left(&self) -> Option<Note> {
        // What the CVR says is under the cryptogram, 9F17 is not.
        let left = self.check.results.tries_left.or(self.data.tries_left)?;
        Some(Note::of(Finding::ChipTriesLeft, left.into(), 0))
    }

    /// The terminal says that a PIN went online.
    fn claims_online_pin(&self) -> bool {
        self.tvr().online_pin_captured()
            || self.data.cvm_results.is_some_and(|cvm| cvm.says_online_pin())
    }

    /// A chip that holds no PIN, for a request without DE52: who takes it out on the way must gain
    /// nothing, and a holder whom nothing has verified can be asked for an online PIN.
    ///
    /// # Errors
    /// The reason of the decline.
    pub(super) fn judge_without_offline_pin(&self, trail: &mut Trail) -> Result<(), Reason> {
        let finding = if self.claims_online_pin() {
            Finding::OnlinePinMissing
        } else if self.tvr().verification_failed() && !self.request.is_contactless() {
            Finding::VerificationFailed
        } else {
            return Ok(());
        };
        trail.push(finding.into());
        Err(Reason::PinRequired)
    }

    /// The evidence of a chip that was read without contact, for a request without DE52: it holds
    /// no conversation about PINs, but nothing that it or the terminal says of a failure is passed
    /// over. What the terminal says of a right PIN is not compared: the holder of a phone may have
    /// been verified by it.
    ///
    /// # Errors
    /// The reason of the decline.
    pub(super) fn judge_contactless(&self, trail: &mut Trail) -> Result<(), Reason> {
        let tvr = self.tvr();
        let is_required = self.rules.no_pin_policy == NoPinPolicy::Required;
        let declines_not_entered = self.rules.pin_not_entered == PinNotEntered::Decline;
        let (finding, reason) = if self.check.results.terminal_erroneously_ok {
            (Finding::OfflinePinContradicted, Reason::BadCryptogram)
        } else if self.claims_online_pin() {
            (Finding::OnlinePinMissing, Reason::PinRequired)
        } else if self.offline_pin() == OfflinePin::Failed {
            self.note_wrong(trail);
            return Err(Reason::InvalidPin);
        } else if tvr.try_limit_exceeded() {
            (Finding::ChipTryLimitExceeded, Reason::PinTryLimitExceeded)
        } else if tvr.verification_failed() {
            (Finding::VerificationFailed, Reason::InvalidPin)
        } else if tvr.pin_not_entered() && declines_not_entered {
            // Here and below the terminal can ask for an online one.
            (Finding::PinNotEntered, Reason::PinRequired)
        } else if is_required && (tvr.no_pin_pad() || tvr.pin_not_entered()) {
            (Finding::OfflinePinRequired, Reason::PinRequired)
        } else {
            trail.push(Finding::Contactless.into());
            return Ok(());
        };
        trail.push(finding.into());
        Err(reason)
    }

    /// The first row of the table that fits, for a request without DE52.
    ///
    /// # Errors
    /// The reason of the decline.
    pub(super) fn judge(&self, trail: &mut Trail) -> Judged {
        if self.is_contradictory() {
            trail.push(Finding::OfflinePinContradicted.into());
            return Err(Reason::BadCryptogram);
        }
        if self.claims_online_pin() {
            trail.push(Finding::OnlinePinMissing.into());
            return Err(Reason::PinRequired);
        }
        if self.check.results.offline_pin == OfflinePin::Successful {
            if self.holds_zeros {
                self.note_wrong(trail);
                return self.unless_bypassed(trail);
            }
            trail.push(Finding::OfflinePinRight.into());
            return Ok(None);
        }
        if self.is_exhausted() {
            trail.push(Finding::ChipTryLimitExceeded.into());
            trail.extend(self.tries_left());
            if let Some(judged) = self.judge_exhausted(trail) {
                return judged;
            }
        }
        self.judge_other_methods(trail)
    }

    /// A chip without a PIN try left; `None` where it is judged like any other.
    fn judge_exhausted(&self, trail: &mut Trail) -> Option<Judged> {
        match self.change() {
            Some(change) if change.is_doubtful => trail.push(Finding::ChangeInDoubt.into()),
            Some(_) if !self.takes_script => trail.push(Finding::CannotCarry.into()),
            Some(_) => {
                trail.push(Finding::ChangePending.into());
                return Some(self.judge_exhausted_with_change(trail));
            }
            None => {
                trail.push(Finding::NoChangePending.into());
                if self.rules.locked_chip == LockedChip::WherePinRequired && !self.wants_pin() {
                    trail.push(Finding::NoPinWanted.into());
                    return None;
                }
            }
        }
        Some(Err(Reason::PinTryLimitExceeded))
    }

    /// A chip without a PIN try left that gets a script with the approval, which unblocks it.
    fn judge_exhausted_with_change(&self, trail: &mut Trail) -> Judged {
        let exceeded = Reason::PinTryLimitExceeded;
        match (self.rules.approve_exhausted, self.rules.ftpam) {
            (ExhaustedPolicy::NextCvm, _) => {
                let held = self.data.cvm_results.is_some_and(|cvm| cvm.other_method_held())
                    && !self.tvr().verification_failed();
                held.then_some(None).ok_or(exceeded)
            }
            (ExhaustedPolicy::Always, None) => {
                trail.push(Finding::ExhaustedAlways.into());
                Ok(Some(Bypass::NoTryLeft))
            }
            (ExhaustedPolicy::Always, Some(threshold)) => match self.below(threshold) {
                Ok(note) => {
                    trail.push(Note { finding: Finding::ExhaustedBelow, ..note });
                    Ok(Some(Bypass::NoTryLeft))
                }
                Err(note) => {
                    trail.push(note);
                    Err(exceeded)
                }
            },
        }
    }

    /// Whether the chip or the terminal says that a PIN was wanted, or the terminal does not say
    /// that no verification was needed.
    fn wants_pin(&self) -> bool {
        let none_was_needed = self.data.cvm_results.is_some_and(|cvm| cvm.none_was_needed());
        !none_was_needed
            || self.tvr().wants_pin()
            || self.check.results.offline_pin != OfflinePin::NotPerformed
    }

    /// Whether nobody could be asked for a PIN: DE22 says electronic commerce (09, 81) or a
    /// credential on file (10).
    fn is_without_terminal(&self) -> bool {
        matches!(self.request.pan_entry().as_ref(), Some(b"09" | b"10" | b"81"))
    }

    /// The rows of a chip that has verified no PIN, and could have.
    fn judge_other_methods(&self, trail: &mut Trail) -> Judged {
        let (tvr, cvm) = (self.tvr(), self.data.cvm_results);
        let declines_not_entered = self.rules.pin_not_entered == PinNotEntered::Decline;
        // What says neither that a PIN was right nor why there was none is not believed: also where
        // DE22 is left out or says nothing, since anybody on the way can do that.
        let no_pin = self.is_without_terminal()
            || tvr.no_pin_pad()
            || tvr.pin_not_entered()
            || cvm.is_some_and(|cvm| cvm.other_method_held());
        if self.check.results.offline_pin == OfflinePin::Failed
            || tvr.verification_failed()
            || !no_pin
        {
            match self.check.results.offline_pin {
                OfflinePin::Failed => {
                    self.note_wrong(trail);
                    trail.extend(self.tries_left());
                }
                _ => trail.push(Finding::VerificationFailed.into()),
            }
        } else if tvr.pin_not_entered() && declines_not_entered {
            trail.push(Finding::PinNotEntered.into());
        } else if self.rules.no_pin_policy == NoPinPolicy::CvmList {
            trail.push(Finding::OtherVerification.into());
            return Ok(None);
        } else {
            trail.push(Finding::OfflinePinRequired.into());
        }
        self.unless_bypassed(trail)
    }

    /// The decline of a wrong offline PIN, unless the PIN was changed and the chip does not know it
    /// yet.
    fn unless_bypassed(&self, trail: &mut Trail) -> Judged {
        self.bypass(trail).map(Some).map_err(|note| {
            trail.push(note);
            Reason::InvalidPin
        })
    }

    /// Whether the transaction passes without an offline PIN.
    ///
    /// # Errors
    /// Why not.
    fn bypass(&self, trail: &mut Trail) -> Result<Bypass, Note> {
        // An unblock is no reason to trust whoever enters a wrong PIN.
        let change = self.change().filter(|change| change.is_of_pin());
        let change = change.ok_or(Finding::NoChangePending)?;
        if change.is_doubtful {
            return Err(Finding::ChangeInDoubt.into());
        }
        if !self.takes_script {
            return Err(Finding::CannotCarry.into());
        }
        let is_purchase = matches!(&self.request.processing_code.transaction_type(), b"00" | b"09");
        if !is_purchase || is_cash(self.request) {
            return Err(Finding::TypeWithoutBypass.into());
        }
        let since = self.begun(change).ok_or(Finding::ChangeNotBegun)?;
        if let Some(days) = self.rules.ftpdy
            && (self.rules.ftpam.is_some() || self.rules.bypass_mode == BypassMode::Any)
        {
            trail.push(self.within_days(since, days)?);
        } else if self.rules.ftpam.is_none() {
            return Err(Finding::NoThreshold.into());
        } else if change.was_refused || !matches!(self.chip.sync, ChipSync::Pending(_)) {
            // The second is another lock: where an answer can carry a script, none is on its way.
            return Err(Finding::ScriptSentAlready.into());
        }
        if let Some(threshold) = self.rules.ftpam {
            trail.push(self.below(threshold)?);
        }
        Ok(Bypass::PinNotOnChip)
    }

    /// When the change began to count; not if that is to come.
    fn begun(&self, change: &Change) -> Option<Timestamp> {
        change.since.filter(|since| *since <= self.circumstances.now)
    }

    fn within_days(&self, since: Timestamp, days: u32) -> Result<Note, Note> {
        let passed = self.circumstances.now.since(since);
        let is_within = passed.as_micros() < u128::from(days) * u128::from(DAY_SECONDS) * 1_000_000;
        let note = |finding| Note::of(finding, passed.as_secs(), u64::from(days));
        if is_within { Ok(note(Finding::WithinDays)) } else { Err(note(Finding::DaysPassed)) }
    }

    fn below(&self, threshold: u64) -> Result<Note, Note> {
        let requested = self.request.amount.minor_units;
        let incomparable = Finding::AmountNotComparable;
        let authorized = told(self.data.amount());
        let amount = self.amount().ok_or(Note::of(incomparable, requested, authorized))?;
        let note = |finding| Note::of(finding, amount, threshold);
        match amount < threshold {
            true => Ok(note(Finding::BelowThreshold)),
            false => Err(note(Finding::NotBelowThreshold)),
        }
    }

    /// The amount in the product's currency, the largest that is told: what is asked for, what the
    /// chip saw and what the cardholder is billed. Where he is billed in it, the chip must have
    /// seen the amount that is asked for; and what he is billed counts alone, if that amount is in
    /// another currency.
    fn amount(&self) -> Option<u64> {
        let covers = &self.check.cvn.covers;
        if !covers.has(0x9F02) || !covers.has(0x5F2A) {
            return None;
        }
        let (requested, authorized) = (self.request.amount, self.data.amount()?);
        if self.data.currency() != Some(requested.currency) {
            return None;
        }
        let own = self.product.currency;
        let billing = self.request.billing.filter(|billing| billing.currency == own);
        if billing.is_some() && authorized != requested.minor_units {
            return None;
        }
        let is_own = requested.currency == own;
        let largest = Some(requested.minor_units.max(authorized)).filter(|_| is_own);
        billing.map(|billing| billing.minor_units).max(largest)
    }
}
