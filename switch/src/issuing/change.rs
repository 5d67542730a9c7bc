//! The change of a card by its issuer: read it, end what is over, make its next state, commit that
//! with its events; and again if somebody else was faster.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Refused, blocks, card_details};
use crate::cache::{Card, CardEntry};
use crate::cards::{CardState, MaskedPan, Plastic};
use crate::clock::{Clock, Timestamp};
use crate::event::{Actor, EventKind};
use crate::hsm::KeptPin;
use crate::store::document::{DocumentChange, DocumentKind};
use crate::store::record::{Event, Subject};
use crate::store::{COMMIT_ATTEMPTS_MAX, Changed, Commit, CommitError, Events, Store};
use crate::switch::{Seams, Switch};

/// What a call makes of a card.
pub(super) struct Change {
    /// The card after it.
    pub(super) state: CardState,
    /// Place of the plastic that the call is about.
    pub(super) plastic: usize,
    /// What others are told of it, if there is something to tell.
    pub(super) event: Option<EventKind>,
}

/// What is kept and deleted with a change of a card.
#[derive(Default)]
pub(super) struct Beside {
    /// The PIN that was set, for who may see it later.
    pub(super) pin: Option<KeptPin>,
    /// The places of plastics that are in use again by it.
    pub(super) reinstated: Vec<usize>,
    /// Documents that change too. Where one of them has changed meanwhile, the whole call begins
    /// again with what is there then.
    pub(super) documents: Vec<DocumentChange>,
}

/// The card of the plastic with this token; the card's own is that of its first plastic.
pub(super) async fn load<W: Seams>(switch: &Switch<W>, token: &str) -> Result<Card, Refused> {
    if let Some(card) = switch.store.load_by_token(token).await? {
        return Ok(card);
    }
    let (details, _) = card_details::of(switch, token).await?.ok_or(Refused::NoSuchCard)?;
    let card = switch.store.load_by_token(&details.card).await?.ok_or(Refused::NoSuchCard)?;
    let is_named = |plastic: &Plastic| plastic.token().is_some_and(|own| own == token);
    let has_it = card.state.plastics.iter().any(is_named);
    has_it.then_some(card).ok_or(Refused::NoSuchCard)
}

/// The place of the plastic with this token, by which its card was found.
pub(super) fn place(card: &CardState, token: &str) -> usize {
    let is_named = |plastic: &Plastic| plastic.token().is_some_and(|own| own == token);
    card.plastics.iter().position(is_named).unwrap_or_default()
}

/// The token of the plastic at this place.
pub(super) fn token_of(card: &Card, place: usize) -> &str {
    let own = card.state.plastics.get(place).and_then(Plastic::token);
    own.unwrap_or(&card.entry.identity.token)
}

/// Changes a card, and what is kept beside it, again if somebody else changed it meanwhile. What
/// waits on it beyond its time is ended first, and told in the same commit.
///
/// # Errors
/// [`Refused::ProductChanged`] where a document has changed since it was read.
pub(super) async fn change<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
    next: impl Fn(&Card) -> Result<(Change, Beside), Refused>,
) -> Result<Card, Refused> {
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        let card = load(switch, token).await?;
        let (counts, ended) = as_it_counts(switch, &card);
        let (Change { state, plastic, event }, beside) = next(&counts)?;
        let Beside { pin, reinstated, mut documents } = beside;
        documents.extend(blocks::after(switch, &card, &state, pin.as_ref()).await?);
        let reinstated = reinstated.into_iter().map(|place| (EventKind::StateReinstated, place));
        let events = event.map(|event| (event, plastic)).into_iter().chain(reinstated);
        let events = ended.into_iter().chain(events);
        match commit_with(switch, actor, (&card, state.clone()), events, documents).await {
            // As it was committed: by now it may have been changed again, or removed.
            Ok(()) => return Ok(Card { state: Arc::new(state), ..card }),
            Err(CommitError::Changed(Changed::Document(kind, _))) if is_read_before(kind) => {
                return Err(Refused::ProductChanged);
            }
            Err(CommitError::Changed(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refused::Busy)
}

/// Whether a document of this kind was read before the change began. The PIN to see and the chips
/// that are played are read anew each time.
fn is_read_before(kind: DocumentKind) -> bool {
    !matches!(kind, DocumentKind::ViewablePin | DocumentKind::VirtualChip)
}

/// Commits a change of a card, with what others are told, each of the plastic at this place. Of a
/// change of the PIN that has ended, the audit says the same.
pub(super) async fn commit<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    (card, changed): (&Card, CardState),
    events: impl IntoIterator<Item = (EventKind, usize)>,
) -> Result<(), CommitError> {
    commit_with(switch, actor, (card, changed), events, Vec::new()).await
}

async fn commit_with<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    (card, changed): (&Card, CardState),
    events: impl IntoIterator<Item = (EventKind, usize)>,
    documents: Vec<DocumentChange>,
) -> Result<(), CommitError> {
    let tell = |about| event(switch, actor, card, about, &changed);
    let events: Events = events.into_iter().map(tell).collect();
    let expires = events.iter().any(|event| event.kind == EventKind::PinChangeExpired);
    let commit = Commit { events, documents, ..Commit::by_issuer(card, changed) };
    let id = switch.store.commit(commit, &mut None).await?;
    if expires {
        let token = &*card.entry.identity.token;
        tracing::info!(target: "audit", action = "PIN change expired", token, id = %id, %actor);
    }
    Ok(())
}

/// What others are told of a plastic, at this place, of a card that goes to this state.
pub(super) fn event<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    card: &Card,
    (kind, plastic): (EventKind, usize),
    after: &CardState,
) -> Event {
    let (who, of) = ((switch.clock.now(), actor.clone()), subject(switch, card, plastic));
    Event::of_card(kind, who, of, Some(&card.state), Some(after))
}

/// What events of a card, and of the plastic at this place, are about; without a PAN where that
/// does not open.
pub(super) fn subject<'a, W: Seams>(
    switch: &Switch<W>,
    card: &'a Card,
    plastic: usize,
) -> Subject<'a> {
    let identity = &card.entry.identity;
    let pan = switch.vault.open(&identity.key, &identity.sealed_pan);
    Subject { identity, masked_pan: pan.map_or(MaskedPan::NONE, |pan| pan.masked()), plastic }
}

/// What others are told of changes that have ended, each with the place of its plastic.
pub(super) type Ended = SmallVec<[(EventKind, usize); 1]>;

/// A card without the changes whose time is over, and what others are told of it; `None` where
/// there are none of these.
pub(super) fn ended(
    entry: &CardEntry,
    state: &CardState,
    now: Timestamp,
) -> Option<(CardState, Ended)> {
    // What the rules of a product that is gone would say, nobody knows.
    let rules = Some(entry.product.rules()).filter(|rules| rules.is_known())?;
    let (state, places) = state.with_expired_changes(rules.retention(), now)?;
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
