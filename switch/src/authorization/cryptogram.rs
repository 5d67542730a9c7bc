//! Application cryptograms: how the one of a request was made, whether it can be verified at all,
//! and whether one that was verified is accepted.

use super::cvn::{self, CvnRow};
use super::iad::Cvr;
use super::icc_data::ChipData;
use super::product::{ChipRules, Product};
use super::request::Request;
use super::response_code::Reason;
use super::trail::{Finding, Note, Trail};
use crate::cards::Pan;
use crate::cards::card::CardState;
use crate::cards::chip_state::{AtcFault, AtcWindow, ScriptId};
use crate::cards::plastic::Plastic;
use crate::clock::Timestamp;
use crate::hsm::ChipCall;
use crate::hsm::emv::SessionKeyMethod;
use crate::outcome::CryptogramOutcome;

/// How the cryptogram of a request was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CryptogramCheck {
    /// By its cryptogram version number.
    pub cvn: CvnRow,
    /// Place of the plastic among those of the card.
    pub plastic: usize,
    /// PAN sequence number, 0-99.
    pub sequence: u8,
    /// 9F26.
    pub cryptogram: [u8; 8],
    /// 9F36.
    pub atc: u16,
    /// What its chip says that it did.
    pub results: Cvr,
}

impl CryptogramCheck {
    /// How the cryptogram of this chip data was made, for the plastic at this place with this PAN
    /// sequence number.
    ///
    /// # Errors
    /// Why it can never be verified.
    pub fn of(
        chip: &ChipData,
        rules: &ChipRules,
        plastic: usize,
        sequence: u8,
    ) -> Result<CryptogramCheck, Note> {
        let incomplete = Finding::ChipDataIncomplete;
        let iad = chip.iad.as_ref().ok_or(incomplete)?;
        let head = iad.head();
        let view = iad.view(&rules.iads).ok_or(Note::of(Finding::IadUnknown, head, 0))?;
        let cvn = cvn::row(&rules.cvns, view.scheme, view.cvn);
        let cvn = cvn.ok_or(Note::of(Finding::CvnNotInTable, view.cvn.into(), head))?;
        let needs_number = cvn.profile.session_key == SessionKeyMethod::Skd;
        let is_whole = cvn.covers.data(chip, &view).is_some()
            && (chip.unpredictable.is_some() || !needs_number);
        let named = chip.cryptogram.zip(chip.atc).filter(|_| is_whole);
        let (cryptogram, atc) = named.ok_or(incomplete)?;
        let results = view.results(cvn.covers.of_iad(&view));
        let atc = u16::from_be_bytes(atc);
        Ok(CryptogramCheck { cvn, plastic, sequence, cryptogram, atc, results })
    }

    /// How the cryptogram of a request was made, whatever else is wrong with it; `None` where it
    /// has none that could be verified.
    #[must_use]
    pub fn of_request(
        request: &Request,
        card: &CardState,
        product: &Product,
    ) -> Option<CryptogramCheck> {
        let plastic = card.plastic(request.expiry, request.sequence)?;
        of_plastic(request, product, plastic).ok().flatten()
    }

    /// The same of a request that was answered before, with this script as the transaction of this
    /// digest: it is of the plastic that got the script then, whichever it would mean now.
    #[must_use]
    pub fn of_repeat(
        request: &Request,
        card: &CardState,
        product: &Product,
        (script, transaction): (ScriptId, u128),
    ) -> Option<CryptogramCheck> {
        let has_got = |(_, plastic): &(usize, &Plastic)| {
            let sent = plastic.chip().and_then(|chip| chip.sync.on_its_way());
            sent.is_some_and(|it| it.script == script && it.transaction == Some(transaction))
        };
        match card.named(request.expiry, request.sequence).find(has_got) {
            Some(plastic) => of_plastic(request, product, plastic).ok().flatten(),
            None => CryptogramCheck::of_request(request, card, product),
        }
    }

    /// Whether the cryptogram covers what chip and terminal say of the holder's verification: the
    /// CVR and the TVR (95).
    #[must_use]
    pub fn is_evidence(&self) -> bool {
        self.results.is_covered && self.cvn.covers.has(0x95)
    }

    /// What the HSM is asked about the cryptogram of these chip data; `None` where something of it
    /// is missing.
    #[must_use]
    pub fn call<'a>(
        &'a self,
        chip: &ChipData,
        rules: &'a ChipRules,
        pan: &'a Pan,
    ) -> Option<ChipCall<'a>> {
        let view = chip.iad.as_ref()?.view(&rules.iads)?;
        Some(ChipCall {
            keys: &rules.keys,
            profile: &self.cvn.profile,
            pan,
            sequence: self.sequence,
            covered: self.cvn.covers.data(chip, &view)?,
            arqc: self.cryptogram,
            atc: self.atc.to_be_bytes(),
            // Zeros are used by no method that makes a key of it: there it must be present.
            unpredictable: chip.unpredictable.unwrap_or_default(),
        })
    }
}

/// A cryptogram that the HSM was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedCryptogram {
    /// How it was made.
    pub check: CryptogramCheck,
    /// What the HSM said of it.
    pub outcome: CryptogramOutcome,
}

/// The cryptogram that must be verified before a request is decided; `None` where there is none, or
/// the product has no keys for it. `plastic` is the one that the request speaks of, with its place.
///
/// # Errors
/// Why it can never be verified.
pub(super) fn required(
    request: &Request,
    product: &Product,
    plastic: (usize, &Plastic),
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
        return Ok(of_plastic(request, product, plastic).ok().flatten());
    }
    if chip.cryptogram_information.is_some_and(|information| information & 0xC0 != 0x80) {
        return Err(Finding::NotAnArqc.into());
    }
    let check = of_plastic(request, product, plastic)?;
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

pub(super) fn of_plastic(
    request: &Request,
    product: &Product,
    (place, plastic): (usize, &Plastic),
) -> Result<Option<CryptogramCheck>, Note> {
    let (Some(chip), Some(rules)) = (&request.chip, &product.chip) else { return Ok(None) };
    CryptogramCheck::of(chip, rules, place, plastic.sequence).map(Some)
}

/// A cryptogram that is right and whose counter is new.
pub(super) struct Accepted {
    /// How it was made.
    pub(super) check: CryptogramCheck,
    /// The counters with that of this transaction.
    pub(super) counters: AtcWindow,
    /// Whether the same cryptogram came before and was answered with a question for the PIN.
    pub(super) is_retry: bool,
}

/// Whether the cryptogram of a request is right and its counter new.
#[must_use]
pub fn accepts_cryptogram(
    request: &Request,
    card: &CardState,
    verified: &VerifiedCryptogram,
    now: Timestamp,
) -> bool {
    accept(request, card, verified, now, &mut Trail::new()).is_ok()
}

/// Takes a cryptogram that is right and whose counter is new.
///
/// # Errors
/// The reason of the decline.
pub(super) fn accept(
    request: &Request,
    card: &CardState,
    verified: &VerifiedCryptogram,
    now: Timestamp,
    trail: &mut Trail,
) -> Result<Accepted, Reason> {
    let VerifiedCryptogram { check, outcome } = *verified;
    let atc = check.atc;
    match outcome {
        CryptogramOutcome::Right => {
            trail.push(Note::of(Finding::CryptogramRight, atc.into(), 0));
        }
        CryptogramOutcome::Unavailable => {
            trail.push(Finding::ChipUnavailable.into());
            return Err(Reason::Unavailable);
        }
        CryptogramOutcome::Wrong => {
            trail.push(Note::of(Finding::CryptogramWrong, atc.into(), 0));
            return Err(Reason::BadCryptogram);
        }
    }
    let none = AtcWindow::default();
    let known = card.chip(check.plastic).map_or(&none, |chip| &chip.counters);
    let accepted = match known.accept(atc, check.cryptogram, now) {
        // The PIN was asked for.
        Ok((_, true)) if request.pin_block.is_none() => Err(AtcFault::Replayed),
        accepted => accepted,
    };
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
    Ok(Accepted { check, counters, is_retry })
}
