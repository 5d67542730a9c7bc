//! What others are told: pages of events, and the readers who have had them. And a copy of all that
//! they, and a start, would need.

use std::path::Path;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Refused, TransactionView, audit};
use crate::event::{Actor, CardholderVerification};
use crate::store::Store;
use crate::store::readers::ReaderName;
use crate::store::record::{Event, EventId, RecordId, StateAndReason, Told};
use crate::switch::{Seams, Switch};

/// Events that are shown at once: their lines fit into one answer.
const EVENTS_MAX: usize = 1_000;

/// An event, or a transaction, masked.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Its place: later ones have higher ids.
    pub id: String,
    /// Its full name.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened, RFC 3339 in UTC.
    pub time: String,
    /// What it tells of a card; nothing of a transaction.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub card: Option<CardEventView>,
    /// The transaction, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<TransactionView>,
}

/// What an event tells of a card. It is described as if each could be left out: a transaction has
/// none of it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CardEventView {
    /// Who did it: the way, and the name.
    #[schema(required = false)]
    pub actor: ActorView,
    /// Token of the plastic that it is about: the card's, unless it has one of its own.
    #[schema(required = false)]
    pub card_token: String,
    /// Its state before; nothing of a new card.
    pub before: Option<StateView>,
    /// Its state after; nothing of a card that was removed.
    pub after: Option<StateView>,
    /// The transaction that caused it.
    pub transaction_id: Option<String>,
    /// First six digits, six underscores, last four.
    #[schema(required = false)]
    pub pan: String,
    /// YYMM of the plastic.
    pub expiration: Option<String>,
    /// Whether it has a PIN.
    #[schema(required = false)]
    pub pin_is_set: bool,
    /// How the cardholder was verified who has seen the PIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cardholder_verification_method: Option<CardholderVerification>,
}

/// Who acted.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ActorView {
    /// By which way.
    pub kind: String,
    /// Who.
    pub name: String,
    /// For whom, where the caller said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_user: Option<String>,
    /// The address that a call to the API came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl ActorView {
    fn of(Actor { kind, name, audit_user, address }: &Actor) -> ActorView {
        ActorView {
            kind: kind.name().to_owned(),
            name: name.to_string(),
            audit_user: audit_user.as_ref().map(ToString::to_string),
            address: address.map(|address| address.to_string()),
        }
    }
}

/// A state and why a card is in it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StateView {
    /// The state.
    pub state: String,
    /// Two digits.
    pub reason_code: String,
}

impl StateView {
    fn of(state: StateAndReason) -> StateView {
        let StateAndReason { status, reason } = state;
        StateView { state: status.name().to_owned(), reason_code: reason.to_string() }
    }
}

impl CardEventView {
    fn of(event: &Event, cause: Option<RecordId>) -> CardEventView {
        CardEventView {
            actor: ActorView::of(&event.actor),
            card_token: event.card_token.to_string(),
            before: event.before.map(StateView::of),
            after: event.after.map(StateView::of),
            transaction_id: cause.map(|cause| cause.to_string()),
            pan: event.masked_pan.to_string(),
            expiration: event.expiry.map(|expiry| expiry.to_string()),
            pin_is_set: event.pin_is_set,
            cardholder_verification_method: event.verified_by,
        }
    }
}

impl EventView {
    fn of((id, told): (EventId, Told)) -> EventView {
        let (kind, time, card, transaction) = match told {
            Told::Event(event, cause) => {
                let card = CardEventView::of(&event, cause);
                (event.kind.name(), event.time, Some(card), None)
            }
            Told::Transaction(record) => {
                let time = record.time;
                let view = TransactionView::of(&(id.record, *record));
                ("transaction.authorization", time, None, Some(view))
            }
        };
        let (id, kind, time) = (id.to_string(), kind.to_owned(), time.to_string());
        EventView { id, kind, time, card, transaction }
    }
}

/// A page of events.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    /// The oldest first.
    pub events: Vec<EventView>,
    /// After which the list goes on; nothing at its end.
    pub next: Option<String>,
}

/// What happened after an event, or after what a reader has acknowledged, the oldest first: at most
/// so many. A reader that has acknowledged nothing yet begins with the oldest.
///
/// # Errors
/// If the id or the reader's name is none, or they cannot be read.
pub async fn list<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    (after, reader): (Option<&str>, Option<&str>),
    count: usize,
) -> Result<EventPage, Refused> {
    let page = read(switch, (after, reader), count.min(EVENTS_MAX)).await;
    audit::of_reading(actor, "events", page)
}

async fn read<W: Seams>(
    switch: &Switch<W>,
    (after, reader): (Option<&str>, Option<&str>),
    count: usize,
) -> Result<EventPage, Refused> {
    let after = match (after, reader) {
        (Some(after), _) => id("after", after)?,
        (None, Some(reader)) => {
            switch.store.acknowledged(&reader_name(reader)?).unwrap_or(EventId::NONE)
        }
        (None, None) => EventId::NONE,
    };
    let page = switch.store.events(after, count).await?;
    let next = page.next.map(|next| next.to_string());
    Ok(EventPage { events: page.items.into_iter().map(EventView::of).collect(), next })
}

/// A reader has everything up to an event, or, without one, is forgotten. Both are in the audit:
/// what nobody has to read any more is kept no longer.
///
/// # Errors
/// If the event is none that there is, or there are too many readers.
pub async fn acknowledge<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    reader: &str,
    through: Option<&str>,
) -> Result<(), Refused> {
    let name = reader_name(reader);
    let known = name.as_ref().ok().map(|name| name.as_str().to_owned());
    let done = match (name, through.map(|through| id("acknowledge", through)).transpose()) {
        (Err(refused), _) | (_, Err(refused)) => Err(refused),
        (Ok(name), Ok(Some(through))) => {
            switch.store.acknowledge(&name, through).await.map_err(Refused::from)
        }
        (Ok(name), Ok(None)) => switch.store.forget_reader(&name).await.map_err(Refused::from),
    };
    let action = if through.is_some() { "events acknowledged" } else { "reader forgotten" };
    let through = through.filter(|_| done.is_ok());
    let refused = done.as_ref().err().map(Refused::code);
    let reader = known.as_deref();
    let is_done = done.is_ok();
    tracing::info!(target: "audit", action, reader, through, done = is_done, %actor, ?refused);
    done
}

fn reader_name(text: &str) -> Result<ReaderName, Refused> {
    let expected = "1 to 64 letters, digits, '-', '_' and '.'";
    ReaderName::new(text).ok_or(Refused::Field { name: "reader", expected })
}

fn id(name: &'static str, text: &str) -> Result<EventId, Refused> {
    let expected = "an id of `pinswitch events`";
    text.parse().map_err(|_| Refused::Parameter { name, expected })
}

/// Copies all that a start needs into a new directory; what was copied.
///
/// # Errors
/// If it cannot be copied.
pub async fn backup<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    to: &Path,
) -> Result<Vec<(String, String)>, Refused> {
    let made = switch.store.backup(to).await;
    let (done, refused) = (made.is_ok(), made.as_ref().err().map(tracing::field::display));
    tracing::info!(target: "audit", action = "backup", to = %to.display(), done, %actor, refused);
    Ok(vec![("backup".to_owned(), made?)])
}
