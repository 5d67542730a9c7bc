//! Advices and reversals, which decide nothing: what they tell of a script that was sent.

use super::cryptogram::{CryptogramCheck, VerifiedCryptogram};
use super::decision::{Cryptogram, Decision};
use super::issuer_script::{self, Told};
use super::product::Product;
use super::request::Request;
use super::response_code::Reason;
use super::trail::Trail;
use crate::cards::card::{CardState, Plastic};
use crate::cards::chip_state::{Chip, Sent};
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
    let waits = |plastic: &Plastic| {
        plastic.chip.as_ref().is_some_and(|chip| chip.sync.on_its_way().is_some())
    };
    let waits = card.plastics.iter().any(waits);
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
    let is_named = request.expiry.is_some() || request.sequence.is_some();
    let named = card.plastic(request.expiry, request.sequence).map(|(place, _)| place);
    let (mut trail, mut change) = (Trail::new(), None);
    for (place, plastic) in card.plastics.iter().enumerate() {
        let Some(known) = &plastic.chip else { continue };
        if is_named && named.is_some_and(|named| named != place) {
            continue;
        }
        let sync = issuer_script::observe_end(known.sync.clone(), told, is_of, rules, &mut trail);
        let sync = match &asked {
            Some(check) if check.plastic == place => {
                issuer_script::observe(sync, check, false, rules, &mut trail)
            }
            _ => sync,
        };
        if sync != known.sync {
            change = Some(card.with_chip(place, Chip { sync, ..(**known).clone() }));
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
