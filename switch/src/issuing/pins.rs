//! PINs: set one, unblock the chip's, and end the changes that no chip has taken in time.

use std::sync::Arc;

use smallvec::SmallVec;

use super::cards::{Change, GivenPin, change, commit, load};
use super::{CardView, Refused, audit, views};
use crate::authorization::Product;
use crate::cache::{Card, CardEntry};
use crate::cards::{CardState, Pan};
use crate::clock::{Clock, Timestamp};
use crate::event::{Actor, EventKind};
use crate::hsm::{AcceptPin, AcceptedPin, Hsm, NewPin};
use crate::pin::ClearPin;
use crate::store::{CommitError, Store};
use crate::switch::{Seams, Switch};

impl GivenPin {
    pub(super) const fn as_new(&self) -> NewPin<'_> {
        match self {
            GivenPin::Clear(pin) => NewPin::Clear(pin),
            GivenPin::Pvv(pvv, pvki) => NewPin::Pvv(*pvv, *pvki),
            GivenPin::Offset(digits) => NewPin::Offset(*digits),
        }
    }
}

/// Sets the PIN of a card, its counter of wrong PINs to zero, and queues the change for its chips.
/// A suspension stays.
///
/// # Errors
/// Why not.
pub async fn set<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
    pin: &ClearPin,
) -> Result<CardView, Refused> {
    let set = set_unaudited(switch, actor, token, pin).await;
    let card = audit::of_card(switch, actor, ("set-pin", token), set).await?;
    Ok(views::card(switch, &card))
}

async fn set_unaudited<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
    pin: &ClearPin,
) -> Result<Card, Refused> {
    let Card { entry, product, .. } = load(switch, token).await?;
    let identity = &entry.identity;
    let pan = switch.vault.open(&identity.key, &identity.sealed_pan);
    let pan = pan.map_err(Refused::SealedPan)?;
    let accepted = accept(switch, &product, &pan, NewPin::Clear(pin)).await?;
    let now = switch.clock.now();
    change(switch, actor, token, |card| {
        // Meanwhile the token may stand for another card, of another PAN.
        let is_same = card.entry.identity.key == identity.key;
        let AcceptedPin { reference, kept } = &accepted;
        let changed =
            is_same.then(|| card.state.with_pin(*reference)).ok_or(Refused::NoSuchCard)?;
        let state = match kept.as_ref().filter(|_| has_offline_pin(&product)) {
            Some(kept) => changed.with_pin_for_chips(kept, now),
            None => changed,
        };
        let plastic = state.current();
        Ok(Change { state, plastic, event: EventKind::PinChanged })
    })
    .await
}

/// Queues a script that sets the PIN try counter of the card's chips back.
///
/// # Errors
/// Why not.
pub async fn unblock<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
) -> Result<CardView, Refused> {
    let now = switch.clock.now();
    let queued = change(switch, actor, token, |card| {
        if !has_offline_pin(&card.product) {
            return Err(Refused::ChipHoldsNoPin);
        }
        // The unblock would wait behind a PIN that is deleted as soon as the clock is believed.
        if ended(&card.entry, &card.state, now).is_some_and(|(_, events)| !events.is_empty()) {
            return Err(Refused::ClockNotSettled);
        }
        let state = card.state.with_unblock(now).ok_or(Refused::CardTerminated)?;
        Ok(Change { plastic: state.current(), state, event: EventKind::PinUnblockQueued })
    });
    let card = audit::of_card(switch, actor, ("unblock", token), queued.await).await?;
    Ok(views::card(switch, &card))
}

fn has_offline_pin(product: &Product) -> bool {
    product.chip.as_ref().is_some_and(|rules| rules.offline_pin)
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

/// What others are told of changes that have ended, each with the place of its plastic.
type Ended = SmallVec<[(EventKind, usize); 1]>;

/// A card without the changes whose time is over, and what others are told of it; `None` where
/// there are none of these.
fn ended(entry: &CardEntry, state: &CardState, now: Timestamp) -> Option<(CardState, Ended)> {
    let (state, places) = state.with_expired_changes(entry.product.rules().retention(), now)?;
    Some((state, places.into_iter().map(|place| (EventKind::PinChangeExpired, place)).collect()))
}

/// The card without the changes whose time is over, and what others are told when it is committed.
/// They end for every call at once, and not only when they are looked for; but while the clock is
/// not believed none of them does.
pub(super) fn as_it_counts<W: Seams>(switch: &Switch<W>, card: &Card) -> (Card, Ended) {
    let is_believed = switch.store.may_forget();
    match ended(&card.entry, &card.state, switch.clock.now()).filter(|_| is_believed) {
        Some((state, events)) => (Card { state: Arc::new(state), ..card.clone() }, events),
        None => (card.clone(), Ended::new()),
    }
}
