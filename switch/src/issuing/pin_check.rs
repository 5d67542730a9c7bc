//! A PIN that is checked outside a transaction: by a call centre, or an app. Each is counted on
//! disk before anybody is told what came out.

use serde::Serialize;
use utoipa::ToSchema;

use super::change::{as_it_counts, event, load, place};
use super::pin_control::Admit;
use super::views::ResponseView;
use super::{Refused, audit};
use crate::authorization::{Decision, Reason, decide_pin_check, required_pin_check};
use crate::cache::Card;
use crate::clock::Clock;
use crate::event::{Actor, EventKind};
use crate::hsm::{AcceptPinError, PinReference};
use crate::outcome::PinOutcome;
use crate::pin::ClearPin;
use crate::store::{COMMIT_ATTEMPTS_MAX, Commit, CommitError, Events, Store};
use crate::switch::{Seams, Switch};

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PinCheckView {
    /// As in a transaction.
    pub response: ResponseView,
}

/// What the HSM said: of use only while PIN and product are the same.
struct Known {
    /// Versions of the product's rules and of the PIN.
    versions: (u64, u32),
    reference: PinReference,
    outcome: PinOutcome,
}

/// Checks a PIN of the plastic with this token: the counter, the suspension and the order of checks
/// are those of a transaction. That a door could not read the PIN is in the audit too.
///
/// # Errors
/// Why nobody knows: then nothing is counted.
pub async fn verify<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
    pin: Result<Box<ClearPin>, Refused>,
    admit: Admit<'_>,
) -> Result<PinCheckView, Refused> {
    let checked = match admitted(switch, token, pin, admit).await {
        Ok(pin) => verify_unaudited(switch, actor, token, &pin).await,
        Err(refused) => Err(refused),
    };
    let code = checked.as_ref().ok().map(|reason| reason.code());
    let told = audit::OfPin { verified_by: None, code };
    let reason = audit::of_pin(switch, actor, ("verify PIN", token), told, checked).await?;
    Ok(PinCheckView { response: ResponseView::of(reason) })
}

async fn admitted<W: Seams>(
    switch: &Switch<W>,
    token: &str,
    pin: Result<Box<ClearPin>, Refused>,
    admit: Admit<'_>,
) -> Result<Box<ClearPin>, Refused> {
    let card = load(switch, token).await?;
    admit(&card.entry.identity.token)?;
    pin
}

async fn verify_unaudited<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
    pin: &ClearPin,
) -> Result<Reason, Refused> {
    let mut known = None;
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        let card = load(switch, token).await?;
        let (counts, ended) = as_it_counts(switch, &card);
        let plastic = place(&counts.state, token);
        let decision = decide(switch, (&counts, plastic), pin, &mut known).await?;
        let suspended: Vec<usize> = decision.suspended(&counts.state).collect();
        let after = decision.change.as_ref().unwrap_or(&counts.state);
        let verified = (EventKind::PinVerified, plastic);
        let suspensions = suspended.iter().map(|place| (EventKind::StateSuspended, *place));
        let kinds = ended.iter().copied().chain([verified]).chain(suspensions);
        let events: Events = kinds.map(|about| event(switch, actor, &card, about, after)).collect();
        let changes = decision.change.is_some() || !ended.is_empty();
        let change = changes.then(|| after.clone());
        let commit = Commit { card: Some(&card), change, events, ..Commit::default() };
        match switch.store.commit(commit, &mut None).await {
            Ok(id) => {
                let suspends = !suspended.is_empty();
                switch.metrics.suspended(suspends);
                if suspends {
                    let (action, token) = ("suspended for PIN tries", &*card.entry.identity.token);
                    tracing::info!(target: "audit", action, token, id = %id, %actor);
                }
                return Ok(decision.reason);
            }
            Err(CommitError::Changed(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refused::Busy)
}

/// The decision on a card as it is now.
async fn decide<W: Seams>(
    switch: &Switch<W>,
    (card, plastic): (&Card, usize),
    pin: &ClearPin,
    known: &mut Option<Known>,
) -> Result<Decision, Refused> {
    let (state, product) = (&*card.state, &*card.product);
    let reference = match required_pin_check((state, plastic), product, switch.clock.now()) {
        Ok(reference) => reference,
        Err(decision) => return Ok(*decision),
    };
    let versions = (product.version, state.pin.version);
    let is_same = |it: &&Known| it.versions == versions && it.reference == reference;
    let outcome = match known.as_ref().filter(is_same) {
        Some(known) => known.outcome,
        None => {
            let identity = &card.entry.identity;
            let pan = switch.vault.open(&identity.key, &identity.sealed_pan);
            let pan = pan.map_err(Refused::SealedPan)?;
            switch.verify_clear_pin(card, &pan, &reference, pin).await
        }
    };
    if outcome == PinOutcome::Unavailable {
        return Err(Refused::Pin(AcceptPinError::Unavailable));
    }
    *known = Some(Known { versions, reference, outcome });
    Ok(decide_pin_check(state, product, outcome))
}
