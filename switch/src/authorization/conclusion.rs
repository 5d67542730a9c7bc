//! Advices and reversals, which decide nothing: what they tell of a script that was sent.

use super::cryptogram::{self, CryptogramCheck, VerifiedCryptogram};
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
/// has a script on its way. `reversed` is what [`Conclusion`] has too.
#[must_use]
pub fn concluding_cryptogram(
    request: &Request,
    card: &CardState,
    product: &Product,
    reversed: Option<u128>,
) -> Option<CryptogramCheck> {
    let mut chips = card.plastics.iter().filter_map(Plastic::chip);
    chips.find(|chip| chip.sync.on_its_way().is_some())?;
    // Which plastic is in use may have changed since the transaction.
    let in_use = card.plastic(request.expiry, request.sequence)?;
    let told_of = told_of(request, card, reversed, None);
    let told_of = told_of.and_then(|place| Some((place, card.plastics.get(place)?)));
    cryptogram::of_plastic(request, product, told_of.unwrap_or(in_use)).ok().flatten()
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
    let (mut trail, mut change) = (Trail::new(), None);
    let place = told_of(request, card, reversed, right.as_ref());
    if let Some((place, known)) = place.and_then(|place| Some((place, card.chip(place)?))) {
        // The cryptogram of another chip says nothing of this one.
        let right = right.filter(|check| check.plastic == place);
        let told = Told {
            data: request.chip.as_deref(),
            is_right: right.is_some(),
            covers_tvr: right.is_some_and(|check| check.cvn.covers.has(0x95)),
            is_signed_on,
        };
        let is_reversed = |sent: &Sent| reversed.is_some() && reversed == sent.transaction;
        let chip = issuer_script::observe_end(known.clone(), told, is_reversed, rules, &mut trail);
        // The first cryptogram of a later transaction, which was answered in the issuer's place:
        // its chip has told of the script in it, and forgets it with that answer.
        let chip = match right.filter(|check| check.results.asks_to_go_online(false)) {
            Some(check) => issuer_script::observe(chip, &check, false, rules, &mut trail),
            None => chip,
        };
        change = (chip != *known).then(|| card.with_chip(place, chip));
    }
    let cryptogram = match cryptogram.map(|verified| verified.outcome) {
        None => Cryptogram::None { pin: None },
        Some(CryptogramOutcome::Right) => Cryptogram::Accepted { pin: None },
        Some(outcome) => Cryptogram::Refused(outcome),
    };
    Decision { cryptogram, change, ..Decision::because(reason, trail) }
}

/// The place of the plastic whose chip a message tells of. The transaction that is reversed says it
/// best, and then a cryptogram. The id of a script does where only one with it is on its way: two
/// plastics that wait for the same PIN may have the same.
fn told_of(
    request: &Request,
    card: &CardState,
    reversed: Option<u128>,
    right: Option<&CryptogramCheck>,
) -> Option<usize> {
    // A reversal may say less of the plastic than its original: the script says which it was.
    let is_named = card.named(request.expiry, request.sequence).next().is_some();
    let (expiry, sequence) =
        if is_named { (request.expiry, request.sequence) } else { (None, None) };
    let sent = |(place, plastic): (usize, &Plastic)| {
        plastic.chip()?.sync.on_its_way().map(|sent| (place, sent))
    };
    let all = card.named(expiry, sequence).filter_map(sent);
    let is_reversed = |sent: &Sent| reversed.is_some() && reversed == sent.transaction;
    let of_reversed = all.clone().find(|(_, sent)| is_reversed(sent)).map(|(place, _)| place);
    of_reversed.or(right.map(|check| check.plastic)).or_else(|| {
        let data = request.chip.as_deref()?;
        let mut with_id = all.filter(|(_, sent)| issuer_script::is_named(data, sent));
        let (place, _) = with_id.next()?;
        with_id.next().is_none().then_some(place)
    })
}
