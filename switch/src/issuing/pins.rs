//! PINs: set one, unblock the chip's, and end the changes that no chip has taken in time.

use std::sync::Arc;

use super::card_details::{self, CardDetails, PinStatus};
use super::change::{Beside, Change, Ended, change, commit, ended, load, place};
use super::pin_control::{self, Admit, Control, Purpose};
use super::{Call, CardView, Refused, audit, users, views};
use crate::authorization::Product;
use crate::cache::{Card, CardEntry};
use crate::cards::{CardState, CardStatus, Pan};
use crate::clock::{Clock, Timestamp};
use crate::event::{Actor, EventKind};
use crate::hsm::{AcceptPin, AcceptedPin, Hsm, NewPin};
use crate::pin::ClearPin;
use crate::pin::weak::is_weak;
use crate::store::document::DocumentChange;
use crate::store::{COMMIT_ATTEMPTS_MAX, CommitError, Store};
use crate::switch::{Seams, Switch};

/// Sets the PIN of a card, its counter of wrong PINs to zero, and queues the change for its chips.
/// A suspension stays, unless the product says that a new PIN lifts one for wrong PINs. That a door
/// could not read the PIN is in the audit too.
///
/// It may be a PIN that is easy to guess: an operator takes over what a cardholder has already, and
/// does not choose for him. Where a cardholder chooses, see [`set_by_control`].
///
/// # Errors
/// Why not.
pub async fn set<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
    pin: Result<Box<ClearPin>, Refused>,
) -> Result<CardView, Refused> {
    let pin = match pin {
        Ok(pin) => pin,
        Err(refused) => {
            let refused = load(switch, token).await.and(Err(refused));
            return audit::of_card(switch, actor, ("set-pin", token), refused).await;
        }
    };
    let set = set_unaudited(switch, actor.into(), (token, &pin), None).await;
    let card = audit::of_card(switch, actor, ("set-pin", token), set).await?;
    Ok(views::card(switch, &card, token))
}

/// Sets a PIN, again where meanwhile the product has changed, by whose method it was taken over, or
/// somebody else has used the control token: each time it is looked at what is there now.
async fn set_unaudited<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    about: (&str, &ClearPin),
    control: Option<&str>,
) -> Result<Card, Refused> {
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        let control = match control {
            Some(text) => Some(pin_control::find(switch, Purpose::SetPin, text).await?),
            None => None,
        };
        match set_once(switch, call, about, control.as_ref()).await {
            Err(Refused::ProductChanged) => {}
            done => return done,
        }
    }
    Err(Refused::Busy)
}

async fn set_once<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    (token, pin): (&str, &ClearPin),
    control: Option<&Control>,
) -> Result<Card, Refused> {
    let card = load(switch, token).await?;
    let Card { entry, product, .. } = &card;
    if !product.is_known() {
        return Err(Refused::NoSuchProduct);
    }
    let identity = &entry.identity;
    let pan = switch.vault.open(&identity.key, &identity.sealed_pan);
    let pan = pan.map_err(Refused::SealedPan)?;
    if let Some(control) = control {
        check_control(control, &card, token)?;
        if is_weak(pin, pan.digits()) {
            control.count_weak_pin(switch, call).await?;
            return Err(Refused::WeakPin);
        }
    }
    let accepted = accept(switch, product, &pan, NewPin::Clear(pin)).await?;
    // Who may not use his card sets its PIN, but does not put it into use by that.
    let reinstates =
        product.pin_set_lifts_suspension && users::is_holder_active(switch, token).await?;
    let now = switch.clock.now();
    let mut documents = details_after_set(switch, entry).await?;
    documents.extend(control.map(Control::used));
    documents.extend(call.made(switch, "")?);
    change(switch, call.actor, token, |card| {
        // Meanwhile the token may stand for another card, of another PAN.
        if card.entry.identity.key != identity.key {
            return Err(Refused::NoSuchCard);
        }
        if !Arc::ptr_eq(&card.product, product) {
            return Err(Refused::ProductChanged);
        }
        if control.is_some() && is_terminated(&card.state, token) {
            return Err(Refused::CardTerminated);
        }
        let AcceptedPin { reference, kept } = &accepted;
        let changed = card.state.with_pin(*reference);
        let state = match kept.as_ref().filter(|_| product.has_offline_pin()) {
            Some(kept) => changed.with_pin_for_chips(kept, now),
            None => changed,
        };
        let (state, reinstated) = match reinstates {
            true => state.without_pin_suspension(now),
            false => (state, Vec::new()),
        };
        let plastic = place(&state, token);
        let change = Change { plastic, state, event: Some(EventKind::PinChanged) };
        Ok((change, Beside { pin: kept.clone(), reinstated, documents: documents.clone() }))
    })
    .await
}

/// Sets the PIN that a cardholder has chosen, of the card that a control token is of. The token is
/// used up in the same commit, so that two sets with one token never are both done. A PIN that is
/// easy to guess is refused, and the fifth of these uses the token up too.
///
/// # Errors
/// Why not.
pub async fn set_by_control<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    control: &str,
    pin: Result<Box<ClearPin>, Refused>,
    admit: Admit<'_>,
) -> Result<(), Refused> {
    let found = pin_control::find(switch, Purpose::SetPin, control).await;
    let token = found.as_ref().map(|it| it.card_token().to_owned()).unwrap_or_default();
    let admitted = match found {
        Ok(_) => pin_control::admit_card(switch, &token, admit).await,
        Err(refused) => Err(refused),
    };
    let pin = admitted.and(pin);
    let set = match pin {
        Ok(pin) => set_unaudited(switch, call, (&token, &pin), Some(control)).await,
        Err(refused) => Err(refused),
    };
    audit::of_card(switch, call.actor, ("set-pin", &token), set).await.map(drop)
}

/// Whether a PIN may be set on this card by a control token.
fn check_control(control: &Control, card: &Card, token: &str) -> Result<(), Refused> {
    if !control.is_of(&card.entry.identity.key) {
        return Err(Refused::ControlUsed);
    }
    if is_terminated(&card.state, token) { Err(Refused::CardTerminated) } else { Ok(()) }
}

/// Whether the plastic with this token is.
fn is_terminated(state: &CardState, token: &str) -> bool {
    let plastic = state.plastics.get(place(state, token));
    plastic.is_none_or(|plastic| plastic.status == CardStatus::Terminated)
}

/// What a set makes of what is known of the card besides: its `pin_status` goes from W to S, in the
/// commit of the set.
async fn details_after_set<W: Seams>(
    switch: &Switch<W>,
    card: &CardEntry,
) -> Result<Vec<DocumentChange>, Refused> {
    let (mut documents, state) = (Vec::new(), card.state());
    let living = state.plastics.iter().filter(|it| it.status != CardStatus::Terminated);
    for plastic in living {
        let token = plastic.token().unwrap_or(&card.identity.token);
        let Some((details, version)) = card_details::of(switch, token).await? else { continue };
        if details.pin_status == Some(PinStatus::W) {
            let last_modified_time = switch.clock.now().to_string();
            let pin_status = Some(PinStatus::S);
            let details = CardDetails { pin_status, last_modified_time, ..details };
            documents.push(details.write(switch, token, version)?);
        }
    }
    Ok(documents)
}

/// Queues a script that sets the PIN try counter of the card's chips back.
///
/// # Errors
/// Why not.
pub async fn unblock<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    token: &str,
    admit: Admit<'_>,
) -> Result<CardView, Refused> {
    let queued = unblock_unaudited(switch, call, token, admit).await;
    let card = audit::of_card(switch, call.actor, ("unblock", token), queued).await?;
    Ok(views::card(switch, &card, token))
}

async fn unblock_unaudited<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    token: &str,
    admit: Admit<'_>,
) -> Result<Card, Refused> {
    pin_control::admit_card(switch, token, admit).await?;
    let now = switch.clock.now();
    let documents: Vec<_> = call.made(switch, token)?.into_iter().collect();
    change(switch, call.actor, token, |card| {
        if !card.product.has_offline_pin() {
            return Err(Refused::ChipHoldsNoPin);
        }
        // The unblock would wait behind a PIN that is deleted as soon as the clock is believed.
        if ended(&card.entry, &card.state, now).is_some_and(|(_, events)| !events.is_empty()) {
            return Err(Refused::ClockNotSettled);
        }
        let state = card.state.with_unblock(now).ok_or(Refused::CardTerminated)?;
        let event = Some(EventKind::PinUnblockQueued);
        let change = Change { plastic: place(&state, token), state, event };
        Ok((change, Beside { documents: documents.clone(), ..Beside::default() }))
    })
    .await
}

/// Sets the counter of wrong PINs of a card to zero, and lifts a suspension that the counter has
/// made, and no other. The PIN and what the chips hold stay as they are (R128). What has nothing to
/// set back is done too, and told to nobody.
///
/// # Errors
/// Why not.
pub async fn reset_tries<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    token: &str,
    admit: Admit<'_>,
) -> Result<CardView, Refused> {
    let reset = reset_tries_unaudited(switch, call, token, admit).await;
    let card = audit::of_card(switch, call.actor, ("reset-pin-tries", token), reset).await?;
    Ok(views::card(switch, &card, token))
}

async fn reset_tries_unaudited<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    token: &str,
    admit: Admit<'_>,
) -> Result<Card, Refused> {
    pin_control::admit_card(switch, token, admit).await?;
    let is_holder_active = users::is_holder_active(switch, token).await?;
    let now = switch.clock.now();
    let documents: Vec<_> = call.made(switch, token)?.into_iter().collect();
    change(switch, call.actor, token, |card| {
        if is_terminated(&card.state, token) {
            return Err(Refused::CardTerminated);
        }
        let (state, reinstated) = card.state.with_tries(0).without_pin_suspension(now);
        if !reinstated.is_empty() && !is_holder_active {
            return Err(Refused::UserNotActive);
        }
        let is_news = card.state.pin.tries > 0 || !reinstated.is_empty();
        let event = is_news.then_some(EventKind::PinTriesReset);
        let change = Change { plastic: place(&state, token), state, event };
        Ok((change, Beside { reinstated, documents: documents.clone(), ..Beside::default() }))
    })
    .await
}

pub(super) async fn accept<W: Seams>(
    switch: &Switch<W>,
    product: &Product,
    pan: &Pan,
    pin: NewPin<'_>,
) -> Result<AcceptedPin, Refused> {
    let call = AcceptPin { pin, pan, method: &product.pin_methods.current };
    Ok(switch.hsm.accept_pin(call).await?)
}

/// Gives up the changes that no chip took within OFPBE, and raises an event for each plastic whose
/// PIN block is deleted with them; how many cards. A first PIN that waits since nobody knows when
/// waits from now on.
///
/// # Errors
/// If the store has failed.
pub async fn expire_changes<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    cards: &[Arc<CardEntry>],
) -> Result<usize, Refused> {
    let now = switch.clock.now();
    let mut count = 0;
    for entry in cards.iter().filter(|entry| is_due(entry, now)) {
        // If it changes meanwhile, its turn comes again.
        let Some(card) = switch.store.load(&entry.identity.key).await? else { continue };
        let ended = ended(&card.entry, &card.state, now);
        let ends = usize::from(ended.is_some());
        let dated = || card.state.with_dated_changes(now).map(|dated| (dated, Ended::new()));
        let Some((changed, events)) = ended.or_else(dated) else { continue };
        match commit(switch, actor, (&card, changed), events).await {
            Ok(()) => count += ends,
            Err(CommitError::Changed(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(count)
}

/// Whether [`expire_changes`] has something to do on a card.
#[must_use]
pub fn is_due(entry: &CardEntry, now: Timestamp) -> bool {
    let state = entry.state();
    ended(entry, &state, now).is_some() || state.with_dated_changes(now).is_some()
}
