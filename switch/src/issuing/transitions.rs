//! Transitions: a plastic goes to another state.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::card_details::{self, CardDetails};
use super::change::{self, load};
use super::listing::{Listed, Wanted};
use super::replacement::{self, Ending};
use super::tokens::{PayloadDigest, Token};
use super::{Call, CardView, IssuedCard, Refused, audit, blocks, issued_card, users, views};
use crate::authorization::{Channel, Transition};
use crate::cache::Card;
use crate::cards::{CardState, CardStatus, StatusReason};
use crate::clock::Clock;
use crate::event::{Actor, EventKind};
use crate::store::document::{DocumentChange, DocumentKind};
use crate::store::page::PAGE_ITEMS_MAX;
use crate::store::record::{Asked, Event, EventId};
use crate::store::{COMMIT_ATTEMPTS_MAX, Commit, CommitError, Store};
use crate::switch::{Seams, Switch};

/// A transition that was made, with the card as it is now.
#[derive(Clone, Serialize, ToSchema)]
pub struct TransitionView {
    /// The token that the client gave it, or the id of its event.
    pub token: String,
    /// The card's.
    pub card_token: String,
    /// Such as `state.suspended`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The state that the card went to.
    pub state: &'static str,
    /// API, IVR, FRAUD, ADMIN or SYSTEM.
    pub channel: &'static str,
    /// Why, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why: two digits.
    #[schema(pattern = "^[0-9]{2}$")]
    pub reason_code: String,
    /// When, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    pub created_time: String,
    /// Its cardholder; empty for a card of the command line.
    pub user_token: String,
    /// Its product.
    pub card_product_token: String,
    /// Twenty digits that name the card on its carrier, and no PAN.
    pub barcode: String,
    /// First six digits, six underscores, last four.
    pub pan: String,
    /// Last four digits of the PAN.
    pub last_four: String,
    /// MMyy.
    pub expiration: String,
    /// The last second of that month, RFC 3339.
    #[schema(format = DateTime)]
    pub expiration_time: String,
    /// How far the card is on its way to the cardholder.
    pub fulfillment_status: card_details::FulfillmentStatus,
    /// Whether the card had a PIN then.
    pub pin_is_set: bool,
}

/// Moves the plastic with this token to another state. That a door could not read what was asked
/// for is in the audit too.
///
/// # Errors
/// Why not.
pub async fn transition<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
    asked: Result<Transition, Refused>,
) -> Result<CardView, Refused> {
    let (asked, moved) = match asked {
        Ok(asked) => {
            let moved = moved(switch, actor.into(), (token, None), &asked).await;
            (Some(asked), moved.map(|(card, _)| card))
        }
        Err(refused) => (None, load(switch, token).await.and(Err(refused))),
    };
    let card = audit::of_transition(switch, actor, token, asked.as_ref(), moved).await?;
    Ok(views::card(switch, &card, token))
}

/// The same as a resource: with a token that the client may choose. The same token with the same
/// payload gives what was done. From ACTIVE to ACTIVE is no transition, so that it is refused.
///
/// # Errors
/// Why not. Nothing has changed then.
pub async fn create<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    card: &str,
    named: Option<(&Token, PayloadDigest)>,
    asked: &Transition,
) -> Result<TransitionView, Refused> {
    let created = create_unaudited(switch, call, (card, named), asked).await;
    audit::of_transition(switch, call.actor, card, Some(asked), created).await
}

async fn create_unaudited<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    (card, named): (&str, Option<(&Token, PayloadDigest)>),
    asked: &Transition,
) -> Result<TransitionView, Refused> {
    if let Some((token, digest)) = named
        && let Some(known) = known(switch, token.as_str()).await?
    {
        return match known.digest == digest {
            true => named_event(switch, token.as_str(), &known.card).await,
            false => Err(Refused::OtherPayload),
        };
    }
    check_user(switch, card, asked).await?;
    let (_, event) = moved(switch, call, (card, Some(named)), asked).await?;
    let (id, event) = event.ok_or(Refused::AlreadyActive)?;
    view(switch, id, &event).await
}

/// A card whose holder is not active is not put into use.
async fn check_user<W: Seams>(
    switch: &Switch<W>,
    card: &str,
    asked: &Transition,
) -> Result<(), Refused> {
    match asked.state != CardStatus::Active || users::is_holder_active(switch, card).await? {
        true => Ok(()),
        false => Err(Refused::UserNotActive),
    }
}

/// What is kept of a transition whose token the client chose.
#[derive(serde::Serialize, serde::Deserialize)]
struct Known {
    card: String,
    digest: PayloadDigest,
}

async fn known<W: Seams>(switch: &Switch<W>, token: &str) -> Result<Option<Known>, Refused> {
    let document = switch.store.document(DocumentKind::Transition, token).await?;
    let Some(document) = document else { return Ok(None) };
    let json = document.json(&switch.vault.documents).map_err(Refused::Sealing)?;
    let known = serde_json::from_slice(&json);
    known.map(Some).map_err(|_| Refused::DocumentUnreadable("transition"))
}

/// The name that a client may give a transition, with the digest of what it asked for.
type Named<'a> = Option<(&'a Token, PayloadDigest)>;

/// The card after a transition of the plastic with this token, and what others are told of it. As a
/// resource, with a name or without, one that tells nobody is refused.
async fn moved<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    (token, resource): (&str, Option<Named<'_>>),
    asked: &Transition,
) -> Result<(Card, Option<(EventId, Event)>), Refused> {
    let named = resource.flatten();
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        let card = load(switch, token).await?;
        let Next { state, events, replaced } =
            next(switch, call.actor, &card, token, asked).await?;
        let mut documents = Vec::new();
        if let Some((name, digest)) = named {
            let known = Known { card: token.to_owned(), digest };
            let json = serde_json::to_vec(&known).unwrap_or_default();
            let place = (DocumentKind::Transition, name.as_str());
            let written = DocumentChange::write(&switch.vault.documents, place, 0, &json);
            documents.push(written.map_err(Refused::Sealing)?);
            documents.extend(call.made(switch, name.as_str())?);
        }
        documents.extend(blocks::after(switch, &card, &state, None).await?);
        let asked_for = |event: Event| Event { asked: Some(asked_as(asked, named)), ..event };
        let place = change::place(&card.state, token);
        let is_own = |(kind, at): (EventKind, usize)| at == place && kind.is_of_state();
        let told = events.iter().map(|about| {
            let event = change::event(switch, call.actor, &card, *about, &state);
            if is_own(*about) { asked_for(event) } else { event }
        });
        let mut told: Vec<Event> = told.collect();
        let own = events.iter().position(|about| is_own(*about));
        if own.is_none() && resource.is_some() {
            return Err(Refused::AlreadyActive);
        }
        let own = own.and_then(|at| Some((u8::try_from(at + 1).ok()?, told.get(at)?.clone())));
        let (mut other, mut other_token) = (None, None);
        if let Some(ending) = replaced {
            told.extend(ending.events);
            documents.extend(ending.documents);
            (other, other_token) = (Some(ending.card), Some(ending.token));
        }
        let commit = Commit::by_issuer(&card, state.clone());
        let commit = Commit { other, events: told, documents, ..commit };
        match switch.store.commit(commit, &mut None).await {
            Ok(record) => {
                replacement::audit(call.actor, other_token.as_deref());
                let own = own.map(|(index, event)| (EventId { record, index }, event));
                return Ok((Card { state: Arc::new(state), ..card }, own));
            }
            Err(CommitError::Changed(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refused::Busy)
}

fn asked_as(asked: &Transition, named: Named<'_>) -> Asked {
    Asked {
        channel: asked.channel,
        reason: asked.reason.as_ref().map(ToString::to_string).unwrap_or_default().into(),
        token: named.map(|(token, _)| token.as_str().into()).unwrap_or_default(),
    }
}

/// What a transition makes of a card.
struct Next {
    state: CardState,
    /// What others are told, each of the plastic at this place.
    events: change::Ended,
    /// The end of a plastic of another PAN, which it replaces.
    replaced: Option<Ending>,
}

/// With the first activation of a plastic that replaces another, that is TERMINATED, and a PIN that
/// was not to be kept ends.
async fn next<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    card: &Card,
    token: &str,
    asked: &Transition,
) -> Result<Next, Refused> {
    let (counts, mut events) = change::as_it_counts(switch, card);
    let place = change::place(&counts.state, token);
    let (mut state, event) = asked.apply(&counts.state, place, switch.clock.now())?;
    events.extend(event.map(|event| (event, place)));
    let details = match event {
        Some(EventKind::StateActivated) => card_details::of(switch, token).await?,
        _ => None,
    };
    let mut ending = None;
    if let Some((details, _)) = details {
        // One that was set since the reissue is meant for this plastic too.
        if details.ends_pin == Some(state.pin.version) {
            state = state.without_pin();
        }
        let (sources, other) = replaced(switch, actor, &counts, details).await?;
        for source in sources {
            state = state.with_status(source, CardStatus::Terminated, StatusReason::REQUESTED);
            events.push((EventKind::StateTerminated, source));
        }
        ending = other;
    }
    Ok(Next { state, events, replaced: ending })
}

/// What ends with the first activation of the plastic with these details: the places of those that
/// it replaces, and the end of one of another PAN. What was replaced before it was ever activated
/// has left the one before it in use, so that this one ends too.
async fn replaced<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    card: &Card,
    details: CardDetails,
) -> Result<(Vec<usize>, Option<Ending>), Refused> {
    let (mut places, mut other, mut details) = (Vec::new(), None, Some(details));
    // Each has replaced an older one of this card.
    for _ in 0..=card.state.plastics.len() {
        let Some(known) = details.take_if(|it| it.ends_source()) else { break };
        places.extend(source_in_use(card, &known));
        other = replacement::end(switch, actor, &known, StatusReason::REQUESTED).await?.or(other);
        details = match &known.reissue_pan_from_card_token {
            Some(source) => card_details::of(switch, source.as_str()).await?.map(|(it, _)| it),
            None => None,
        };
    }
    Ok((places, other))
}

/// The place of the plastic that one with these details replaces, where it has not ended.
fn source_in_use(card: &Card, details: &CardDetails) -> Option<usize> {
    let source = details.reissue_pan_from_card_token.as_ref()?;
    let is_source = |place: &usize| change::token_of(card, *place) == source.as_str();
    let place = (0..card.state.plastics.len()).find(is_source)?;
    let plastic = card.state.plastics.get(place)?;
    (plastic.status != CardStatus::Terminated).then_some(place)
}

/// A transition: by the token that the client gave it, as long as that is kept, or by the id of its
/// event.
///
/// # Errors
/// [`Refused::NoSuchTransition`], or it cannot be read.
pub async fn show<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
) -> Result<TransitionView, Refused> {
    audit::of_reading(actor, "transition", shown(switch, token).await)
}

async fn shown<W: Seams>(switch: &Switch<W>, token: &str) -> Result<TransitionView, Refused> {
    if let Some(known) = known(switch, token).await? {
        return named_event(switch, token, &known.card).await;
    }
    let id: EventId = token.parse().map_err(|_| Refused::NoSuchTransition)?;
    let before = EventId { index: id.index.wrapping_sub(1), ..id };
    let page = switch.store.events(before, 1).await;
    let page = page.map_err(|_| Refused::NoSuchTransition)?;
    match page.items.into_iter().next() {
        Some((found, crate::store::record::Told::Event(event, _)))
            if found == id && event.kind.is_of_state() =>
        {
            view(switch, id, &event).await
        }
        _ => Err(Refused::NoSuchTransition),
    }
}

/// The transition of a card that has this token.
async fn named_event<W: Seams>(
    switch: &Switch<W>,
    token: &str,
    card: &str,
) -> Result<TransitionView, Refused> {
    let is_it = |event: &Event| event.asked.as_ref().is_some_and(|asked| asked.token == token);
    let events = events_of(switch, card).await?;
    let found = events.into_iter().find(|(_, event)| is_it(event));
    let (id, event) = found.ok_or(Refused::NoSuchTransition)?;
    view(switch, id, &event).await
}

/// The transitions of the plastic with this token that are kept, the newest first: those among the
/// newest [`EVENTS_MAX`] events of its card.
async fn events_of<W: Seams>(
    switch: &Switch<W>,
    token: &str,
) -> Result<Vec<(EventId, Event)>, Refused> {
    let card = load(switch, token).await?;
    let (mut all, mut after, mut read) = (Vec::new(), None, 0);
    loop {
        let page = switch.store.card_events(&card, after, PAGE_ITEMS_MAX).await?;
        // A page without any has looked through as much as one may.
        read += page.items.len().max(EVENTS_MAX / PAGES_MAX);
        let own = page.items.into_iter();
        all.extend(own.filter(|(_, it)| it.card_token == token && it.kind.is_of_transition()));
        after = page.next;
        if after.is_none() || read >= EVENTS_MAX {
            return Ok(all);
        }
    }
}

/// Events of a card that are looked through for its transitions.
const EVENTS_MAX: usize = 100_000;
/// Pages that are read for them at most, however few events each has.
const PAGES_MAX: usize = 100;

/// Fields that a list of transitions can be sorted by.
pub const SORTS: &[&str] = &["token", "created_time"];

/// A part of the list of a card's transitions, whoever asked for them.
///
/// # Errors
/// [`Refused::NoSuchCard`], or they cannot be read.
pub async fn of_card<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
    wanted: &Wanted,
) -> Result<Listed<TransitionView>, Refused> {
    let listed = async {
        let card = issued_card::of(switch, token).await?;
        let events = events_of(switch, token).await?;
        let views = events.iter().map(|(id, event)| TransitionView::of(*id, event, &card));
        let created = |view: &TransitionView| match wanted.sort_by {
            "token" => view.token.clone(),
            _ => view.created_time.clone(),
        };
        wanted.choose(views, created, |view| view.token.clone())
    };
    audit::of_reading(actor, "transitions", listed.await)
}

async fn view<W: Seams>(
    switch: &Switch<W>,
    id: EventId,
    event: &Event,
) -> Result<TransitionView, Refused> {
    let card = issued_card::of(switch, &event.card_token).await?;
    Ok(TransitionView::of(id, event, &card))
}

impl TransitionView {
    fn of(id: EventId, event: &Event, card: &IssuedCard) -> TransitionView {
        let given = event.asked.as_ref().map(|asked| asked.token.as_str());
        let given = given.filter(|token| !token.is_empty());
        let after = event.after.or(event.before);
        // What nobody asked for the switch has done by itself.
        let channel = event.asked.as_ref().map_or(Channel::System, |asked| asked.channel);
        let reason = event.asked.as_ref().map(|asked| asked.reason.to_string());
        let words = after.and_then(|state| state.reason.words()).map(str::to_owned);
        TransitionView {
            token: given.map_or_else(|| id.to_string(), str::to_owned),
            card_token: event.card_token.to_string(),
            kind: event.kind.name().trim_start_matches("cardtransition.").to_owned(),
            state: after.map_or("", |state| state.status.name()),
            channel: channel.name(),
            reason: reason.filter(|reason| !reason.is_empty()).or(words),
            reason_code: after.map(|state| state.reason.to_string()).unwrap_or_default(),
            created_time: event.time.to_string(),
            user_token: card.user_token.clone(),
            card_product_token: card.card_product_token.clone(),
            barcode: card.barcode.clone(),
            pan: event.masked_pan.to_string(),
            last_four: event.masked_pan.last_four().to_owned(),
            expiration: card.expiration.clone(),
            expiration_time: card.expiration_time.clone(),
            fulfillment_status: card.fulfillment_status,
            pin_is_set: event.pin_is_set,
        }
    }
}
