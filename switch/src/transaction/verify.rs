//! The step that asks the HSM: the cryptogram first, and the PIN only if that is accepted.

use std::time::Duration;

use super::attempt::Attempt;
use crate::authorization::{
    Checks, CryptogramCheck, Evidence, VerifiedCryptogram, accepts_cryptogram,
};
use crate::cache::Card;
use crate::cards::Pan;
use crate::clock::{Clock, Timestamp, within};
use crate::config::LinkConfig;
use crate::hsm::{
    AcceptPin, AcceptPinError, AcceptedPin, BlockBeside, ChipCall, ClearPin, EnteredBlock,
    EnteredPin, Hsm, KeptPin, NewPin, PinReference, VerifyPin,
};
use crate::outcome::{CryptogramOutcome, PinOutcome};
use crate::switch::{Seams, Switch};

/// A tenth of the answer time stays reserved, so that a 91 still leaves in time.
const RESERVED_PART: u32 = 10;

/// What the HSM said in an earlier round: of use only while PIN, keys and the rest are the same.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// Version of the product's rules, which name keys and methods.
    rules: u64,
    pin: Option<VerifiedPin>,
    cryptogram: Option<VerifiedCryptogram>,
}

#[derive(Clone)]
struct VerifiedPin {
    version: u32,
    reference: PinReference,
    outcome: PinOutcome,
    /// What came of the PIN that is to be the card's from now on.
    new: Option<Box<Result<AcceptedPin, AcceptPinError>>>,
}

impl Known {
    /// The PIN that a decision may give the card, as it is kept.
    pub(super) fn new_pin(&self) -> Option<&KeptPin> {
        self.pin.as_ref()?.new.as_deref()?.as_ref().ok()?.kept.as_ref()
    }
}

impl<W: Seams> Switch<W> {
    /// What the HSM says, now or in an earlier round. It is asked about the PIN only where no
    /// cryptogram is needed, or the one that came is accepted: who has no card could otherwise try
    /// PINs that no counter counts, or learn from the time of an answer whether a PIN block is one.
    pub(super) async fn verify(
        &self,
        work: &mut Attempt<'_>,
        card: &Card,
        checks: Checks,
        now: Timestamp,
    ) -> Evidence {
        let rules = card.product.version;
        if work.known.rules != rules {
            work.known = Known { rules, ..Known::default() };
        }
        let mut time = HsmTime::of(work);
        let cryptogram = match checks.cryptogram {
            None => None,
            Some(check) => match work.known.cryptogram.filter(|known| known.check == check) {
                Some(known) => Some(known),
                None => Some(self.verify_arqc(work, card, check, &mut time).await),
            },
        };
        work.known.cryptogram = cryptogram;
        let accepts = |it: &_| accepts_cryptogram(&work.request, &card.state, it, now);
        let reference = checks.pin.filter(|_| cryptogram.as_ref().is_none_or(accepts));
        let Some(reference) = reference else {
            return Evidence { cryptogram, ..Evidence::default() };
        };
        let version = card.state.pin.version;
        let is_same = |of: &&VerifiedPin| of.reference == reference && of.version == version;
        if let Some(VerifiedPin { outcome, new, .. }) = work.known.pin.as_ref().filter(is_same) {
            return Evidence { pin: Some(*outcome), cryptogram, new_pin: new.clone() };
        }
        let outcome = self.verify_pin(work, card, &reference, &mut time).await;
        let new = match outcome {
            PinOutcome::Right => self.accept_new_pin(work, card, &reference, &mut time).await,
            _ => None,
        };
        let verified = VerifiedPin { version, reference, outcome, new: new.clone() };
        work.known.pin = Some(verified);
        self.count_pin(work, card, outcome, now);
        Evidence { pin: Some(outcome), cryptogram, new_pin: new }
    }

    /// Takes the new PIN over, of a request that has one and whose current PIN is right; `None` of
    /// any other.
    async fn accept_new_pin(
        &self,
        work: &Attempt<'_>,
        card: &Card,
        reference: &PinReference,
        time: &mut HsmTime,
    ) -> Option<Box<Result<AcceptedPin, AcceptPinError>>> {
        let block = work.request.pin_change.as_ref()?.new_block.as_ref()?;
        let current = entered(work, card, reference)?;
        let (pan, method) = (current.pan, &card.product.pin_methods.current);
        let pin = NewPin::Beside(BlockBeside { block, current });
        let call = self.hsm.accept_pin(AcceptPin { pin, pan, method });
        let accepted = self.in_time(time, call).await;
        Some(Box::new(accepted.unwrap_or(Err(AcceptPinError::Unavailable))))
    }

    /// Counts a PIN that a decision is made by, and notes a PIN block that could not be read:
    /// before the decision is committed, so that the next one of the same read meets the limit.
    fn count_pin(&self, work: &Attempt<'_>, card: &Card, outcome: PinOutcome, now: Timestamp) {
        self.metrics.verified(outcome);
        if outcome == PinOutcome::BadPinBlock {
            work.session.metrics.bad_pin_block();
            work.session.bad_pin_blocks.add(&card.entry, now);
        }
    }

    async fn verify_pin(
        &self,
        work: &Attempt<'_>,
        card: &Card,
        reference: &PinReference,
        time: &mut HsmTime,
    ) -> PinOutcome {
        let Some(call) = entered(work, card, reference) else {
            debug_assert!(false, "the PIN is asked about where there is one, on a card of a PAN");
            return PinOutcome::Unavailable;
        };
        let answered = self.in_time(time, self.hsm.verify_pin(call)).await;
        answered.unwrap_or(PinOutcome::Unavailable)
    }

    /// What the HSM says of a PIN that came in clear, outside a transaction.
    pub async fn verify_clear_pin(
        &self,
        card: &Card,
        pan: &Pan,
        reference: &PinReference,
        pin: &ClearPin,
    ) -> PinOutcome {
        let mut time = HsmTime { arrived: self.clock.monotonic(), until: None };
        let (pin, methods) = (EnteredPin::Clear(pin), &card.product.pin_methods);
        let call = VerifyPin { pin, pan, reference, methods };
        let answered = self.in_time(&mut time, self.hsm.verify_pin(call)).await;
        let outcome = answered.unwrap_or(PinOutcome::Unavailable);
        self.metrics.verified(outcome);
        outcome
    }

    /// What the HSM says of a cryptogram. One that lacks what it covers is none of this card's.
    pub(super) async fn verify_arqc(
        &self,
        work: &Attempt<'_>,
        card: &Card,
        check: CryptogramCheck,
        time: &mut HsmTime,
    ) -> VerifiedCryptogram {
        let outcome = match chip_call(work, card, &check) {
            None => CryptogramOutcome::Wrong,
            Some(call) => {
                let answered = self.in_time(time, self.hsm.verify_arqc(call)).await;
                let outcome = answered.unwrap_or(CryptogramOutcome::Unavailable);
                self.metrics.cryptogram_verified(outcome);
                outcome
            }
        };
        VerifiedCryptogram { check, outcome }
    }

    /// What the HSM gives in time.
    pub(super) async fn in_time<T>(
        &self,
        time: &mut HsmTime,
        call: impl Future<Output = T>,
    ) -> Option<T> {
        let now = self.clock.monotonic();
        let until = *time.until.get_or_insert_with(|| {
            let answer_in = self.limits.answer_milliseconds_max;
            let leaves = time.arrived.saturating_add(answer_in - answer_in / RESERVED_PART);
            leaves.min(now.saturating_add(self.limits.hsm_milliseconds_max))
        });
        let left = until.saturating_sub(now);
        if left.is_zero() { None } else { within(left, call).await }
    }
}

/// What the HSM is asked about the PIN of a request; `None` where it has none, or no PAN.
fn entered<'a>(
    work: &'a Attempt<'_>,
    card: &'a Card,
    reference: &'a PinReference,
) -> Option<VerifyPin<'a>> {
    let (pan, block) = (work.request.pan.as_ref()?, work.request.pin_block.as_ref()?);
    let LinkConfig { zpk, pin_block_formats: formats, .. } = &*work.session.link;
    let pin = match &work.session.clear_pin {
        Some(pin) => EnteredPin::Clear(pin),
        None => EnteredPin::Block(EnteredBlock { block, zpk, formats: *formats }),
    };
    Some(VerifyPin { pin, pan, reference, methods: &card.product.pin_methods })
}

/// What the HSM is asked about the cryptogram of a request; `None` where something of it is
/// missing.
pub(super) fn chip_call<'a>(
    work: &'a Attempt<'_>,
    card: &'a Card,
    check: &'a CryptogramCheck,
) -> Option<ChipCall<'a>> {
    let (chip, pan) = (work.request.chip.as_ref()?, work.request.pan.as_ref()?);
    check.call(chip, card.product.chip.as_ref()?, pan)
}

/// The time that the HSM has for what it is asked one after the other.
pub(super) struct HsmTime {
    /// When the request was read, on the monotonic clock.
    arrived: Duration,
    /// The end of it, on the same clock, from the first call on.
    until: Option<Duration>,
}

impl HsmTime {
    pub(super) const fn of(work: &Attempt<'_>) -> HsmTime {
        HsmTime { arrived: work.arrived, until: None }
    }
}
