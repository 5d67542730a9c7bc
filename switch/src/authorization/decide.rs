//! The order of the rules: what can be decided without the HSM, and what is decided with what the
//! HSM said.

use super::chip_transaction::ChipTransaction;
use super::cryptogram::{self, CryptogramCheck};
use super::decision::{Circumstances, Cryptogram, Decision, Evidence};
use super::product::{Fallback, Product};
use super::request::Request;
use super::response_code::Reason;
use super::trail::{Finding, Note, Trail};
use super::{card_status, pin};
use crate::cards::card::CardState;
use crate::hsm::PinReference;

/// What must be verified before a decision can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequiredChecks {
    /// Nothing: this is the decision.
    None(Box<Decision>),
    /// The HSM has to be asked.
    Verify(Checks),
}

/// What the HSM is asked: the cryptogram of the request; and its PIN against a reference, but only
/// if the cryptogram, where there is one, is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// What the PIN is compared with.
    pub pin: Option<PinReference>,
    /// How the cryptogram was made.
    pub cryptogram: Option<CryptogramCheck>,
}

/// Everything that can be decided without the HSM, in the order of the rules; otherwise what
/// the HSM has to verify.
#[must_use]
pub fn required_checks(
    request: &Request,
    card: &CardState,
    product: &Product,
    circumstances: Circumstances,
) -> RequiredChecks {
    let decided = |reason, note: Note| {
        RequiredChecks::None(Decision::because(reason, Trail::from_iter([note])).into())
    };
    if !product.is_known() {
        return decided(Reason::FunctionNotSupported, Finding::ProductUnknown.into());
    }
    let plastic = match card_status::check(request, card, product, circumstances.now) {
        Ok(plastic) => plastic,
        Err((reason, finding)) => return decided(reason, finding.into()),
    };
    let cryptogram = match cryptogram::required(request, product, plastic) {
        Ok(check) => check,
        Err(note) => return decided(Reason::BadCryptogram, note),
    };
    // A chip whose cryptogram is verified was read, whatever DE22 says.
    let declines = product.chip.as_ref().is_some_and(|rules| rules.fallback == Fallback::Decline);
    if declines && cryptogram.is_none() && request.is_fallback() {
        return decided(Reason::BadCryptogram, Finding::StripeOfChip.into());
    }
    let reference = card.pin.reference.filter(|_| request.pin_block.is_some());
    let pin = reference.filter(|_| !circumstances.bad_pin_blocks_exhausted);
    match (pin, cryptogram) {
        // An approval on a cryptogram that nobody verified would be an approval of a copy.
        (_, None)
            if request.chip.is_some() && request.pin_block.is_none() && !request.is_refund() =>
        {
            decided(Reason::BadCryptogram, Finding::NoChipKeys.into())
        }
        (None, None) => {
            let mut trail = Trail::new();
            let reason = pin::unverified(request, card, product, &mut trail);
            RequiredChecks::None(Decision::because(reason, trail).into())
        }
        (pin, cryptogram) => RequiredChecks::Verify(Checks { pin, cryptogram }),
    }
}

/// The decision after cryptogram and PIN were verified.
#[must_use]
pub fn decide(
    request: &Request,
    card: &CardState,
    product: &Product,
    evidence: Evidence,
    circumstances: Circumstances,
) -> Decision {
    let Evidence { pin, cryptogram } = evidence;
    let mut trail = Trail::new();
    let Some(verified) = cryptogram else {
        let (reason, change) = pin::judge(request, card, product, pin, &mut trail);
        let cryptogram = Cryptogram::None { pin };
        return Decision { cryptogram, change, ..Decision::because(reason, trail) };
    };
    let refused = |reason, trail| Decision {
        cryptogram: Cryptogram::Refused(verified.outcome),
        ..Decision::because(reason, trail)
    };
    let accepted = match cryptogram::accept(request, card, &verified, circumstances.now, &mut trail)
    {
        Ok(accepted) => accepted,
        Err(reason) => return refused(reason, trail),
    };
    match ChipTransaction::new(request, card, product, accepted, circumstances) {
        Some(transaction) => transaction.decide(pin, trail),
        None => {
            debug_assert!(false, "a cryptogram comes with chip data, and rules say how it is made");
            refused(Reason::BadCryptogram, trail)
        }
    }
}
