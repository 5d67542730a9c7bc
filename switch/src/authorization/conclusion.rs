//! Advices and reversals, which decide nothing: what they tell of a script that was sent.

use super::cryptogram::{CryptogramCheck, VerifiedCryptogram};
use super::decision::{Cryptogram, Decision};
use super::issuer_script::{self, Told};
use super::product::Product;
use super::request::Request;
use super::response_code::Reason;
use super::trail::Trail;
use crate::cards::card::CardState;
use crate::cards::chip_state::Sent;
use crate::cards::plastic::Plastic;
use crate::outcome::CryptogramOutcome;

/// What is known of an advice or a reversal besides what it says itself.
#[derive(Clone, Copy, Debug)]
pub struct Conclusion {
    /// What it is answered.
    pub reason: Reason,
    /// Its cryptogram, where that was verified.
    pub cryptogram: Option<VerifiedCryptogram>,
    /// Digest of the transaction that a reversal takes back, if that is known.
    pub reversed: Option<u128>,
    /// Whether the link that it came over has signed on.
    pub is_signed_on: bool,
}

/// The cryptogram of an advice or a reversal that is worth asking the HSM about: one of a card that
/// has a script on its way.
#[must_use]
pub fn concluding_cryptogram(
    request: &Request,
    card: &CardState,
    product: &Product,
) -> Option<CryptogramCheck> {
    let mut chips = card.plastics.iter().filter_map(Plastic::chip);
    let waits = chips.any(|chip| chip.sync.on_its_way().is_some());
    waits.then(|| CryptogramCheck::of_request(request, card, product)).flatten()
}

/// What an advice or a reversal tells of a script that was sent. A cryptogram in it that is right,
/// or the name of the script, is evidence.
#[must_use]
pub fn conclude(
    request: &Request,
    card: &CardState,
    product: &Product,
    conclusion: Conclusion,
) -> Decision {
    let Conclusion { reason, cryptogram, reversed, is_signed_on } = conclusion;
    let Some(rules) = &product.chip else { return Decision::unchanged(reason) };
    let right = cryptogram.filter(|verified| verified.outcome == CryptogramOutcome::Right);
    let right = right.map(|verified| verified.check);
    let told = Told {
        data: request.chip.as_deref(),
        is_right: right.is_some(),
        covers_tvr: right.is_some_and(|check| check.cvn.covers.has(0x95)),
        is_signed_on,
    };
    // The first cryptogram of a later transaction, which was answered in the issuer's place: its
    // chip has told of the script in it, and forgets it with that answer.
    let asked = right.filter(|check| check.results.asks_to_go_online(false));
    let is_of = |sent: &Sent| reversed.is_some() && reversed == sent.transaction;
    // A reversal may say less of the plastic than its original: the script says which it was.
    let is_named = card.named(request.expiry, request.sequence).next().is_some();
    let (expiry, sequence) =
        if is_named { (request.expiry, request.sequence) } else { (None, None) };
    let (mut trail, mut change) = (Trail::new(), None);
    for (place, plastic) in card.named(expiry, sequence) {
        let Some(known) = plastic.chip() else { continue };
        let chip = issuer_script::observe_end(known.clone(), told, is_of, rules, &mut trail);
        let chip = match &asked {
            Some(check) if check.plastic == place => {
                issuer_script::observe(chip, check, false, rules, &mut trail)
            }
            _ => chip,
        };
        if chip != *known {
            change = Some(card.with_chip(place, chip));
            break;
        }
    }
    let cryptogram = match cryptogram.map(|verified| verified.outcome) {
        None => Cryptogram::None { pin: None },
        Some(CryptogramOutcome::Right) => Cryptogram::Accepted { pin: None },
        Some(outcome) => Cryptogram::Refused(outcome),
    };
    Decision { cryptogram, change, ..Decision::because(reason, trail) }
}
