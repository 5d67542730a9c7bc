//! How events are shown, and what the command line asks of them and of the store.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Outcome, TransactionView};
use crate::issuer::Refusal;
use crate::store::Store;
use crate::store::readers::ReaderName;
use crate::store::record::{Event, EventId, RecordId, StateAndReason, Told};
use crate::switch::{Seams, Switch};

/// Events that are shown at once: their lines fit into one answer.
const EVENTS_MAX: usize = 1_000;

/// An event, or a transaction, masked.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// What an event tells of a card.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CardEventView {
    /// Who did it: the way, and the name.
    pub actor: ActorView,
    /// Token of the card.
    pub card_token: String,
    /// Its state before; nothing of a new card.
    pub before: Option<StateView>,
    /// Its state after; nothing of a card that was removed.
    pub after: Option<StateView>,
    /// The transaction that caused it.
    pub transaction_id: Option<String>,
    /// First six digits, six underscores, last four.
    pub pan: String,
    /// YYMM of its newest plastic.
    pub expiration: Option<String>,
    /// Whether it has a PIN.
    pub pin_is_set: bool,
}

/// Who acted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActorView {
    /// By which way.
    pub kind: String,
    /// Who.
    pub name: String,
}

/// A state and why a card is in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
        let (kind, name) = (event.actor.kind.name().to_owned(), event.actor.name.to_string());
        CardEventView {
            actor: ActorView { kind, name },
            card_token: event.card_token.to_string(),
            before: event.before.map(StateView::of),
            after: event.after.map(StateView::of),
            transaction_id: cause.map(|cause| cause.to_string()),
            pan: event.masked_pan.to_string(),
            expiration: event.expiry.map(|expiry| expiry.to_string()),
            pin_is_set: event.pin_is_set,
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

/// What happened after an event, the oldest first.
pub(super) async fn events<W: Seams>(
    switch: &Switch<W>,
    after: Option<&str>,
    count: usize,
) -> Result<Outcome, Refusal> {
    let after = after.map_or(Ok(EventId::NONE), str::parse);
    let after = after.map_err(|error| format!("after: {error}"))?;
    let page = switch.store.events(after, count.min(EVENTS_MAX)).await;
    let page = page.map_err(|error| error.to_string())?;
    let next = page.next.map(|next| next.to_string());
    let events = page.items.into_iter().map(EventView::of).collect();
    Ok(Outcome::Events { events, next })
}

/// A reader has everything up to an event, or, without one, is forgotten.
pub(super) async fn acknowledge<W: Seams>(
    switch: &Switch<W>,
    reader: &str,
    through: Option<&str>,
) -> Result<(), Refusal> {
    let name = ReaderName::new(reader);
    let name = name.ok_or("reader: expected 1 to 64 letters, digits, '-', '_' and '.'")?;
    let Some(through) = through else {
        return switch.store.forget_reader(&name).await.map_err(|error| error.to_string());
    };
    let through = through.parse().map_err(|error| format!("acknowledge: {error}"))?;
    switch.store.acknowledge(&name, through).await.map_err(|error| error.to_string())
}

/// A copy of all that a start needs.
pub(super) async fn backup<W: Seams>(switch: &Switch<W>, to: &Path) -> Result<Outcome, Refusal> {
    let made = switch.store.backup(to).await;
    let refused = made.as_ref().err();
    let to = to.display();
    tracing::info!(target: "audit", action = "backup", %to, done = refused.is_none());
    Ok(Outcome::Values(vec![("backup".to_owned(), made.map_err(|error| error.to_string())?)]))
}
