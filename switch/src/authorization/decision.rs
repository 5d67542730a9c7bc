//! The decision: one synchronous function of request, card, product, outcomes and time.

use super::cvn::{self, CvnRow};
use super::iad::Cvr;
use super::icc_data::ChipData;
use super::issuer_script::{self, Evidence};
use super::judgement::Judgement;
use super::product::{ChipRules, Fallback, Product};
use super::request::Request;
use super::response_code::Reason;
use super::trail::{Finding, Note, Trail};
use super::{card_status, limits, pin};
use crate::cards::card::CardState;
use crate::cards::chip_state::{AtcFault, AtcWindow, ChangeKind, Chip, ChipSync, ScriptId, Sent};
use crate::clock::Timestamp;
use crate::hsm::PinReference;
use crate::hsm::emv::{IssuerAnswer, SessionKeyMethod};
use crate::outcome::{CryptogramOutcome, PinOutcome};

/// What must be verified before a decision can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequiredChecks {
    /// Nothing: this is the decision.
    None(Box<Decision>),
    /// The cryptogram of the request; and its PIN against a reference, but only if the cryptogram,
    /// where there is one, is accepted.
    Verify {
        /// What the PIN is compared with.
        pin: Option<PinReference>,
        /// How the cryptogram was made.
        cryptogram: Option<CryptogramCheck>,
    },
}

/// How the cryptogram of a request was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CryptogramCheck {
    /// By its cryptogram version number.
    pub cvn: CvnRow,
    /// Place of the plastic among those of the card.
    pub plastic: usize,
    /// PAN sequence number, 0-99.
    pub sequence: u8,
    /// 9F36.
    pub atc: u16,
    /// What its chip says that it did.
    pub results: Cvr,
}

impl CryptogramCheck {
    /// Whether the cryptogram covers what chip and terminal say of the holder's verification: the
    /// CVR and the TVR (95).
    #[must_use]
    pub fn is_evidence(&self) -> bool {
        self.results.is_covered && self.cvn.covers.has(0x95)
    }
}

/// What was verified; nothing where nothing was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// The PIN.
    pub pin: Option<PinOutcome>,
    /// The cryptogram.
    pub cryptogram: Option<(CryptogramCheck, CryptogramOutcome)>,
}

/// Where a decision came from besides request, card and product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// The civil time.
    pub now: Timestamp,
    /// Whether the card has had its number of unusable PIN blocks for this minute on this link.
    pub bad_pin_blocks_exhausted: bool,
    /// By which a reversal knows the transaction.
    pub transaction: u128,
}

/// A decision. The change of the card and the event happen only if it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is answered.
    pub reason: Reason,
    /// The card after it, if its PIN or its status changes.
    pub change: Option<CardState>,
    /// What is said to the chip, and what is known of it then.
    pub chip: Option<ChipOutcome>,
    /// Why.
    pub trail: Trail,
}

/// What a decision means for the chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChipOutcome {
    /// How its cryptogram was made.
    pub check: CryptogramCheck,
    /// What is known of it after the answer.
    pub after: Chip,
    /// What it is told of the decision.
    pub answer: IssuerAnswer,
    /// Whether the answer carries the script of which that says that it was sent.
    pub carries_script: bool,
}

impl ChipOutcome {
    /// The script that the answer carries: its id (9F18), and what it changes.
    #[must_use]
    pub const fn script(&self) -> Option<(ScriptId, &ChangeKind)> {
        match &self.after.sync {
            ChipSync::Sent(change, sent) if self.carries_script => {
                Some((sent.script, &change.kind))
            }
            _ => None,
        }
    }
}

impl Decision {
    /// A decision that changes nothing.
    #[must_use]
    pub fn unchanged(reason: Reason) -> Decision {
        Decision { reason, change: None, chip: None, trail: Trail::new() }
    }

    pub(super) fn because(reason: Reason, trail: Trail) -> Decision {
        Decision { trail, ..Decision::unchanged(reason) }
    }

    /// With one more finding.
    #[must_use]
    pub fn with(mut self, finding: Option<Finding>) -> Decision {
        self.trail.extend(finding.map(Note::from));
        self
    }

    /// Whether it suspends this card because the PIN retry limit is reached.
    #[must_use]
    pub fn suspends(&self, card: &CardState) -> bool {
        let after = self.change.as_ref().is_some_and(CardState::is_suspended_for_pin_tries);
        after && !card.is_suspended_for_pin_tries()
    }

    /// Whether it approves without the offline PIN that it would need, but for a change of the PIN.
    #[must_use]
    pub fn is_bypass(&self) -> bool {
        let bypasses = |note: &Note| {
            matches!(
                note.finding,
                Finding::BelowThreshold
                    | Finding::WithinDays
                    | Finding::ExhaustedBelow
                    | Finding::ExhaustedAlways
            )
        };
        self.reason == Reason::Approved && self.trail.iter().any(bypasses)
    }

    /// The decision where the HSM could not make the answer to the chip: what was found of the
    /// PIN counts, nothing is approved, and nothing is known to have been said to the chip: what
    /// was found out about it comes again with its next cryptogram.
    #[must_use]
    pub fn without_chip(self) -> Decision {
        let Decision { reason, change, mut trail, .. } = self;
        trail.retain(|note| !note.finding.is_of_chip_state());
        trail.push(Finding::ChipUnavailable.into());
        let reason = if reason == Reason::Approved { Reason::Unavailable } else { reason };
        Decision { reason, change, chip: None, trail }
    }

    /// The card after it, whatever changes.
    #[must_use]
    pub fn after(&self, card: &CardState) -> Option<CardState> {
        let Some(chip) = &self.chip else { return self.change.clone() };
        let before = self.change.as_ref().unwrap_or(card);
        Some(before.with_chip(chip.check.plastic, chip.after.clone()))
    }
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
    let plastic = match card_status::check(request, card, product, circumstances.now) {
        Ok(plastic) => plastic,
        Err((reason, finding)) => return decided(reason, finding.into()),
    };
    let cryptogram = match cryptogram_check(request, card, product, plastic) {
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
            let reason = without_verified_pin(request, card, product, false, &mut trail);
            RequiredChecks::None(Decision::because(reason, trail).into())
        }
        (pin, cryptogram) => RequiredChecks::Verify { pin, cryptogram },
    }
}

/// What a request comes to whose PIN was not verified, apart from what its chip says.
pub(super) fn without_verified_pin(
    request: &Request,
    card: &CardState,
    product: &Product,
    chip_decides: bool,
    trail: &mut Trail,
) -> Reason {
    let (reason, finding) = match (&request.pin_block, card.pin.reference) {
        (Some(_), Some(_)) => (Reason::BadPinBlock, Finding::PinBlockUnusable),
        (Some(_), None) => (Reason::PinRequired, Finding::NoPinSet),
        (None, _) if chip_decides => return limits::check(request, product, trail),
        (None, _) if pin::is_required(request, product) => {
            if pin::is_required_by_fallback(request, product) {
                trail.push(Finding::StripeOfChip.into());
            }
            (Reason::PinRequired, Finding::PinMissing)
        }
        (None, _) => {
            trail.push(Finding::NoPinRequired.into());
            return limits::check(request, product, trail);
        }
    };
    trail.push(finding.into());
    reason
}

/// How the cryptogram of a request was made; `None` where there is none, or the product has no
/// keys for it.
///
/// # Errors
/// Why it can never be verified.
fn cryptogram_check(
    request: &Request,
    card: &CardState,
    product: &Product,
    plastic: usize,
) -> Result<Option<CryptogramCheck>, Note> {
    let Some(rules) = &product.chip else { return Ok(None) };
    // The chip does not ask to go online for a refund, and its holder is not verified.
    let is_refund = request.is_refund();
    let Some(chip) = &request.chip else {
        let is_chip = request.is_contact_chip() || request.is_contactless_chip();
        let is_missing = is_chip && request.pin_block.is_none() && !is_refund;
        return match is_missing && rules.offline_pin {
            true => Err(Finding::ChipDataMissing.into()),
            false => Ok(None),
        };
    };
    if is_refund {
        // What could never be verified is no worse than no chip data.
        return Ok(cryptogram_of_plastic(request, card, product, plastic).ok().flatten());
    }
    if chip.cryptogram_information.is_some_and(|information| information & 0xC0 != 0x80) {
        return Err(Finding::NotAnArqc.into());
    }
    let check = cryptogram_of_plastic(request, card, product, plastic)?;
    // 9F27 can be left out or changed, the card verification results cannot.
    match check {
        Some(check) if !check.results.asks_to_go_online(request.is_contactless()) => {
            Err(Finding::NotAnArqc.into())
        }
        // What it says of the holder is no evidence. A chip without contact holds no conversation
        // about PINs.
        Some(check) if !check.is_evidence() && !request.is_contactless() => {
            Err(Finding::CoversTooLittle.into())
        }
        check => Ok(check),
    }
}

fn cryptogram_of_plastic(
    request: &Request,
    card: &CardState,
    product: &Product,
    plastic: usize,
) -> Result<Option<CryptogramCheck>, Note> {
    let (Some(chip), Some(rules)) = (&request.chip, &product.chip) else { return Ok(None) };
    let own = card.plastics.get(plastic).map(|plastic| plastic.sequence);
    let sequence = own.or(request.sequence).unwrap_or_default();
    check_of(chip, rules, (plastic, sequence)).map(Some)
}

/// How the cryptogram of this chip data was made, for the plastic at this place with this PAN
/// sequence number.
///
/// # Errors
/// Why it can never be verified.
pub fn check_of(
    chip: &ChipData,
    rules: &ChipRules,
    (plastic, sequence): (usize, u8),
) -> Result<CryptogramCheck, Note> {
    let incomplete = Finding::ChipDataIncomplete;
    let iad = chip.iad.as_ref().ok_or(incomplete)?;
    let head = iad.head();
    let view = iad.view(&rules.iads).ok_or(Note::of(Finding::IadUnknown, head, 0))?;
    let cvn = cvn::row(&rules.cvns, view.scheme, view.cvn);
    let cvn = cvn.ok_or(Note::of(Finding::CvnNotInTable, view.cvn.into(), head))?;
    let needs_number = cvn.profile.session_key == SessionKeyMethod::Skd;
    let is_there = chip.cryptogram.is_some()
        && cvn.covers.data(chip, &view).is_some()
        && (chip.unpredictable.is_some() || !needs_number);
    let atc = chip.atc.filter(|_| is_there).ok_or(incomplete)?;
    let results = view.results(cvn.covers.of_iad(&view));
    Ok(CryptogramCheck { cvn, plastic, sequence, atc: u16::from_be_bytes(atc), results })
}

/// How the cryptogram of a request was made, whatever else is wrong with it.
#[must_use]
pub fn cryptogram_of(
    request: &Request,
    card: &CardState,
    product: &Product,
) -> Option<CryptogramCheck> {
    let (plastic, _) = card.plastic(request.expiry, request.sequence)?;
    cryptogram_of_plastic(request, card, product, plastic).ok().flatten()
}

/// An advice or a reversal, which is answered with this reason: what it tells of a script that was
/// sent. `reversed`: the key of the transaction that a reversal takes back.
#[must_use]
pub fn conclude(
    (request, reason): (&Request, Reason),
    card: &CardState,
    product: &Product,
    outcomes: Outcomes,
    (reversed, is_signed_on): (Option<u128>, bool),
) -> Decision {
    let mut trail = Trail::new();
    let Some(rules) = &product.chip else { return Decision::unchanged(reason) };
    let right = outcomes.cryptogram.filter(|(_, outcome)| *outcome == CryptogramOutcome::Right);
    let is_right = right.is_some();
    let data = request.chip.as_deref();
    let covers_tvr = right.is_some_and(|(check, _)| check.cvn.covers.has(0x95));
    let evidence = Evidence { data, is_right, covers_tvr, is_signed_on };
    // The first cryptogram of a later transaction, which was answered in the issuer's place: its
    // chip has told of the script in it, and forgets it with that answer.
    let asked = right.filter(|(check, _)| check.results.asks_to_go_online(false));
    let is_of = |sent: &Sent| reversed.is_some() && reversed == sent.transaction;
    // A reversal may say less of the plastic than its original: the script says which it was.
    let mut changed = None;
    let is_named = request.expiry.is_some() || request.sequence.is_some();
    let named = card.plastic(request.expiry, request.sequence).map(|(place, _)| place);
    for (place, plastic) in card.plastics.iter().enumerate() {
        let Some(known) = &plastic.chip else { continue };
        if is_named && named.is_some_and(|named| named != place) {
            continue;
        }
        let sync = issuer_script::conclude(known.sync.clone(), evidence, is_of, rules, &mut trail);
        let sync = match &asked {
            Some((check, _)) if check.plastic == place => {
                issuer_script::observe(sync, (check, false), rules, &mut trail)
            }
            _ => sync,
        };
        if sync != known.sync {
            changed = Some(card.with_chip(place, Chip { sync, ..(**known).clone() }));
            break;
        }
    }
    Decision { change: changed, ..Decision::because(reason, trail) }
}

/// The decision after PIN and cryptogram were verified.
#[must_use]
pub fn decide(
    request: &Request,
    card: &CardState,
    product: &Product,
    outcomes: Outcomes,
    circumstances: Circumstances,
) -> Decision {
    let mut trail = Trail::new();
    let Some((check, verification)) = outcomes.cryptogram else {
        let (reason, change) = by_pin(request, card, product, outcomes.pin, &mut trail);
        return Decision { change, ..Decision::because(reason, trail) };
    };
    let known = card.chip(check.plastic).cloned().unwrap_or_default();
    let of = (request, circumstances.now);
    let counters = match accept(of, &check, verification, &known.counters, &mut trail) {
        Ok(counters) => counters,
        Err(reason) => return Decision::because(reason, trail),
    };
    match &product.chip {
        Some(rules) => Judgement { request, card, product, rules, check, circumstances }.decide(
            outcomes.pin,
            known.sync,
            counters,
            trail,
        ),
        None => Decision::because(Reason::BadCryptogram, trail),
    }
}

/// Whether the cryptogram of a request is right and its counter new.
#[must_use]
pub fn accepts_cryptogram(
    request: &Request,
    card: &CardState,
    (check, verification): &(CryptogramCheck, CryptogramOutcome),
    now: Timestamp,
) -> bool {
    let none = AtcWindow::default();
    let known = card.chip(check.plastic).map_or(&none, |chip| &chip.counters);
    accept((request, now), check, *verification, known, &mut Trail::new()).is_ok()
}

/// The counters after a cryptogram that is right and whose counter is new, and whether it comes
/// once more.
///
/// # Errors
/// The reason of the decline.
fn accept(
    (request, now): (&Request, Timestamp),
    check: &CryptogramCheck,
    verification: CryptogramOutcome,
    known: &AtcWindow,
    trail: &mut Trail,
) -> Result<(AtcWindow, bool), Reason> {
    let atc = check.atc;
    let cryptogram = request.chip.as_ref().and_then(|chip| chip.cryptogram).unwrap_or_default();
    match verification {
        CryptogramOutcome::Right => trail.push(Note::of(Finding::CryptogramRight, atc.into(), 0)),
        CryptogramOutcome::Unavailable => {
            trail.push(Finding::ChipUnavailable.into());
            return Err(Reason::Unavailable);
        }
        CryptogramOutcome::Wrong => {
            trail.push(Note::of(Finding::CryptogramWrong, atc.into(), 0));
            return Err(Reason::BadCryptogram);
        }
    }
    let accepted = known.accept(atc, cryptogram, now).and_then(|accepted| match accepted {
        // The PIN was asked for.
        (_, true) if request.pin_block.is_none() => Err(AtcFault::Replayed),
        accepted => Ok(accepted),
    });
    let (counters, is_retry) = accepted.map_err(|fault| {
        let finding = match fault {
            AtcFault::OutOfRange => Finding::AtcOutOfRange,
            AtcFault::Replayed => Finding::AtcReplayed,
            AtcFault::TooOld => Finding::AtcTooOld,
        };
        trail.push(Note::of(finding, atc.into(), known.highest.into()));
        Reason::BadCryptogram
    })?;
    if is_retry {
        trail.push(Note::of(Finding::CryptogramAgain, atc.into(), 0));
    }
    Ok((counters, is_retry))
}

/// What the PIN comes to, and the limits behind it.
pub(super) fn by_pin(
    request: &Request,
    card: &CardState,
    product: &Product,
    verification: Option<PinOutcome>,
    trail: &mut Trail,
) -> (Reason, Option<CardState>) {
    match verification {
        None => (without_verified_pin(request, card, product, false, trail), None),
        Some(PinOutcome::Unavailable) => {
            trail.push(Finding::PinUnavailable.into());
            (Reason::Unavailable, None)
        }
        Some(PinOutcome::BadPinBlock) => {
            trail.push(Finding::PinBlockUnusable.into());
            (Reason::BadPinBlock, None)
        }
        Some(PinOutcome::Wrong) => {
            let (reason, card) = pin::wrong(card, product);
            let limit = product.pin_retry_limit.map_or(0, u32::from);
            trail.push(Note::of(Finding::WrongPin, card.pin.tries.into(), limit.into()));
            (reason, Some(card))
        }
        Some(PinOutcome::Right) => {
            trail.push(Finding::RightPin.into());
            (limits::check(request, product, trail), pin::right(card))
        }
    }
}
