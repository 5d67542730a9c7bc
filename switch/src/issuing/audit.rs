//! The audit (PCI DSS 10.2): a line for each thing that somebody did, with who it was and to which
//! card, and no secret. Lines of the target `audit` are never dropped.

use super::{Refused, change};
use crate::authorization::Transition;
use crate::event::{Actor, CardholderVerification};
use crate::hsm::software::keys::KeyVersion;
use crate::switch::{Seams, Switch};

/// A line for a call about one card, whether it was done or refused.
pub(super) async fn of_card<W: Seams, T>(
    switch: &Switch<W>,
    actor: &Actor,
    (action, token): (&str, &str),
    done: Result<T, Refused>,
) -> Result<T, Refused> {
    let token = known(switch, token).await;
    let refused = done.as_ref().err().map(tracing::field::display);
    tracing::info!(target: "audit", action, token, done = done.is_ok(), %actor, refused);
    done
}

/// What the line of a call about a PIN says besides.
pub(super) struct OfPin {
    /// How the cardholder was verified who asks to see it.
    pub(super) verified_by: Option<CardholderVerification>,
    /// The four-digit code of what came out of a check.
    pub(super) code: Option<&'static str>,
}

/// A line for a call that shows or checks a PIN, whether it was done or refused.
pub(super) async fn of_pin<W: Seams, T>(
    switch: &Switch<W>,
    actor: &Actor,
    (action, token): (&str, &str),
    OfPin { verified_by, code }: OfPin,
    done: Result<T, Refused>,
) -> Result<T, Refused> {
    let token = known(switch, token).await;
    let verified_by = verified_by.map(CardholderVerification::name);
    let refused = done.as_ref().err().map(tracing::field::display);
    tracing::info!(
        target: "audit", action, token, verified_by, code, done = done.is_ok(), %actor, refused
    );
    done
}

/// A line for a transition of a card, whether it was done or refused, or could not even be read.
pub(super) async fn of_transition<W: Seams, T>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
    asked: Option<&Transition>,
    done: Result<T, Refused>,
) -> Result<T, Refused> {
    let token = known(switch, token).await;
    let state = asked.map(|asked| asked.state.name());
    let channel = asked.map(|asked| asked.channel.name());
    let reason_code = asked.and_then(|asked| asked.reason_code).map(tracing::field::display);
    let reason = asked.and_then(|asked| asked.reason.as_ref()).map(ToString::to_string);
    let refused = done.as_ref().err().map(tracing::field::display);
    tracing::info!(
        target: "audit", action = "transition", token, done = done.is_ok(), state, channel,
        reason_code, reason, %actor, refused
    );
    done
}

/// The token if it is a card's: another text may be anything, even a PAN, and is left out.
pub(super) async fn known<W: Seams>(switch: &Switch<W>, token: &str) -> Option<String> {
    change::load(switch, token).await.ok().map(|_| token.to_owned())
}

/// A line for a call about many cards; for each of them whether it was done.
pub(super) fn of_cards(
    actor: &Actor,
    action: &str,
    asked: usize,
    done: &Result<Vec<Result<(), Refused>>, Refused>,
) {
    let (cards, failed) = match done {
        Ok(each) => (each.iter().filter(|done| done.is_ok()).count(), None),
        Err(failed) => (0, Some(tracing::field::display(failed))),
    };
    let refused = asked - cards;
    tracing::info!(target: "audit", action, cards, refused, %actor, failed);
}

/// A line for a call that changes nothing.
pub(super) fn of_reading<T>(
    actor: &Actor,
    action: &str,
    done: Result<T, Refused>,
) -> Result<T, Refused> {
    let refused = done.as_ref().err().map(Refused::code);
    tracing::info!(target: "audit", action, done = done.is_ok(), %actor, ?refused);
    done
}

/// A line for each key that is in use, has come into use, or has gone.
pub fn of_keys(actor: &Actor, action: &str, keys: &[KeyVersion]) {
    for KeyVersion { name, version, kcv } in keys {
        tracing::info!(target: "audit", action, name, version, %kcv, %actor);
    }
}
