//! Cards: show, add, activate, remove.

use std::sync::Arc;

use compact_str::CompactString;

use super::{CardView, Refused, audit, pins, views};
use crate::cache::Card;
use crate::cache::NewCard;
use crate::cards::pan::PAN_DIGITS_MIN;
use crate::cards::{CardState, CardStatus, Expiry, MaskedPan, Pan, Plastic};
use crate::clock::Clock;
use crate::event::{Actor, EventKind};
use crate::pin::{ClearPin, Digits, PVV_DIGITS};
use crate::store::record::Event;
use crate::store::{Addition, COMMIT_ATTEMPTS_MAX, Commit, CommitError, Events, Removal, Store};
use crate::switch::{Seams, Switch};

/// Longest token of a card, in characters.
const TOKEN_CHARACTERS_MAX: usize = 36;

/// A card to be added.
pub struct AddCard {
    /// The issuer's name for it: 1 to 36 letters, digits, `-`, `_` and `.`, and no PAN.
    pub token: CompactString,
    /// 13 to 19 digits with a right check digit, of a BIN of the product.
    pub pan: Pan,
    /// Month after which its plastic is no longer valid.
    pub expiry: Expiry,
    /// PAN sequence number of its plastic, 0 to 99.
    pub sequence: u8,
    /// Name of its product.
    pub product: CompactString,
    /// Whether it is in use at once; otherwise it waits for its activation.
    pub is_active: bool,
    /// Its PIN; without one nothing matches.
    pub pin: Option<GivenPin>,
}

/// The PIN of a card that is added.
pub enum GivenPin {
    /// In clear.
    Clear(ClearPin),
    /// A Visa PIN verification value that was computed elsewhere, digits 0 to 9, and its key index.
    Pvv([u8; PVV_DIGITS], u8),
    /// An IBM 3624 offset that was computed elsewhere.
    Offset(Digits),
}

/// What a call makes of a card.
pub(super) struct Change {
    /// The card after it.
    pub(super) state: CardState,
    /// What others are told of it.
    pub(super) event: EventKind,
}

/// A card.
///
/// # Errors
/// [`Refused::NoSuchCard`], or the store has failed.
pub async fn show<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
) -> Result<CardView, Refused> {
    let card = audit::of_card(switch, actor, ("show", token), load(switch, token).await).await?;
    Ok(views::card(switch, &card))
}

/// Makes a card ACTIVE; its counter of wrong PINs starts at zero, and the changes that wait for its
/// chips begin to count.
///
/// # Errors
/// Why not.
pub async fn activate<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
) -> Result<CardView, Refused> {
    let now = switch.clock.now();
    let activated = change(switch, actor, token, |card| {
        let event = match card.state.status {
            CardStatus::Unactivated => EventKind::StateActivated,
            _ => EventKind::StateReinstated,
        };
        let state = card.state.activated(now).ok_or(Refused::CardTerminated)?;
        Ok(Change { state, event })
    });
    let card = audit::of_card(switch, actor, ("activate", token), activated.await).await?;
    Ok(views::card(switch, &card))
}

/// Adds one card, and shows it, unless it has been removed again meanwhile.
///
/// # Errors
/// Why not.
pub async fn create<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    card: AddCard,
) -> Result<Option<CardView>, Refused> {
    let token = card.token.clone();
    let added = match add_each(switch, actor, vec![Ok(card)]).await {
        Ok(added) => added.into_iter().collect::<Result<(), Refused>>(),
        Err(failed) => Err(failed),
    };
    audit::of_card(switch, actor, ("add", &token), added).await?;
    let card = switch.store.load_by_token(&token).await?;
    Ok(card.map(|card| views::card(switch, &card)))
}

/// Adds cards, each or not, with one sync for all: for each whether it was added, or why not. What
/// a door could not read is among those that are refused.
///
/// # Errors
/// If the store has failed: nobody knows which were kept.
pub async fn add<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    cards: Vec<Result<AddCard, Refused>>,
) -> Result<Vec<Result<(), Refused>>, Refused> {
    let asked = cards.len();
    let added = add_each(switch, actor, cards).await;
    audit::of_cards(actor, "add", asked, &added);
    added
}

async fn add_each<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    cards: Vec<Result<AddCard, Refused>>,
) -> Result<Vec<Result<(), Refused>>, Refused> {
    // The rules of their products stay as they are until they are there.
    let _unchanged = switch.products.changing.read().await;
    let mut additions = Vec::with_capacity(cards.len());
    let mut outcomes = Vec::with_capacity(cards.len());
    for card in cards {
        let card = match card {
            Ok(card) => addition(switch, actor, card).await,
            Err(refused) => Err(refused),
        };
        outcomes.push(card.map(|card| additions.push(card)));
    }
    let added = switch.store.add_cards(additions).await?;
    let accepted = outcomes.iter_mut().filter(|outcome| outcome.is_ok());
    accepted.zip(added).for_each(|(outcome, added)| *outcome = added.map_err(Refused::from));
    Ok(outcomes)
}

async fn addition<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    card: AddCard,
) -> Result<Addition, Refused> {
    let AddCard { token, pan, expiry, sequence, product, is_active, pin } = card;
    check_token(&token)?;
    if !is_pan(&pan) {
        let expected = "13 to 19 digits with a right check digit";
        return Err(Refused::Field { name: "pan", expected });
    }
    let product = switch.products.get(&product).ok_or(Refused::NoSuchProduct)?;
    let rules = product.rules();
    if !rules.is_known() {
        return Err(Refused::NoSuchProduct);
    }
    if !rules.has_bin_of(&pan) {
        return Err(Refused::Field { name: "pan", expected: "a BIN of the product" });
    }
    let mut state = CardState::new(Plastic::new(expiry, sequence));
    if let Some(pin) = pin {
        state = state.with_pin(pins::accept(switch, &rules, &pan, pin.as_new()).await?.reference);
    }
    if is_active {
        state.status = CardStatus::Active;
    }
    let identity = switch.vault.identify(&token, &pan).map_err(Refused::SealedPan)?;
    let who = || (switch.clock.now(), actor.clone());
    let of = (&identity, pan.masked());
    let tell = |kind| Event::of_card(kind, who(), of, None, Some(&state));
    let events =
        [EventKind::Issued].into_iter().chain(is_active.then_some(EventKind::StateActivated));
    let events = events.map(tell).collect();
    Ok(Addition { card: NewCard { identity, product, state }, events, documents: Vec::new() })
}

/// Tokens are shown and stored in clear, so none may be a PAN.
fn check_token(token: &str) -> Result<(), Refused> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let refused = |expected| Err(Refused::Field { name: "token", expected });
    if !(1..=TOKEN_CHARACTERS_MAX).contains(&token.len()) || !token.bytes().all(valid) {
        return refused("1 to 36 letters, digits, '-', '_' and '.'");
    }
    match Pan::parse(token.as_bytes()) {
        Some(pan) if is_pan(&pan) => refused("a name that does not read as a PAN"),
        _ => Ok(()),
    }
}

fn is_pan(pan: &Pan) -> bool {
    pan.digits().len() >= PAN_DIGITS_MIN && pan.has_valid_check_digit()
}

/// Removes cards for good, each or not, with one sync for all: with each go its PIN, its counter
/// and perhaps a suspension. For each whether there was one.
///
/// # Errors
/// If the store has failed: nobody knows which are gone.
pub async fn remove<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    tokens: &[String],
) -> Result<Vec<Result<(), Refused>>, Refused> {
    let removed = remove_each(switch, actor, tokens).await;
    for (token, _) in
        tokens.iter().zip(removed.iter().flatten()).filter(|(_, removed)| removed.is_ok())
    {
        tracing::info!(target: "audit", action = "card removed", token, %actor);
    }
    audit::of_cards(actor, "remove", tokens.len(), &removed);
    removed
}

async fn remove_each<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    tokens: &[String],
) -> Result<Vec<Result<(), Refused>>, Refused> {
    let mut removals = Vec::with_capacity(tokens.len());
    let mut outcomes = Vec::with_capacity(tokens.len());
    for token in tokens {
        let card = load(switch, token).await;
        outcomes.push(card.map(|card| {
            let who = (switch.clock.now(), actor.clone());
            let of = (&card.entry.identity, masked_pan(switch, &card));
            let event = Event::of_card(EventKind::Removed, who, of, Some(&card.state), None);
            removals.push(Removal { events: vec![event], ..Removal::from(card) });
        }));
    }
    let removed = switch.store.remove_cards(removals).await?;
    let found = outcomes.iter_mut().filter(|outcome| outcome.is_ok());
    // One that is named twice is there once.
    found.zip(removed).for_each(|(outcome, removed)| *outcome = removed.map_err(Refused::from));
    Ok(outcomes)
}

/// Whether there is a card with this token.
///
/// # Errors
/// If the store has failed.
pub async fn exists<W: Seams>(switch: &Switch<W>, token: &str) -> Result<bool, Refused> {
    Ok(switch.store.load_by_token(token).await?.is_some())
}

pub(super) async fn load<W: Seams>(switch: &Switch<W>, token: &str) -> Result<Card, Refused> {
    switch.store.load_by_token(token).await?.ok_or(Refused::NoSuchCard)
}

/// Changes a card, again if somebody else changed it meanwhile. What waits on it beyond its time is
/// ended first, and told in the same commit.
pub(super) async fn change<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
    next: impl Fn(&Card) -> Result<Change, Refused>,
) -> Result<Card, Refused> {
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        let card = load(switch, token).await?;
        let (counts, ended) = pins::as_it_counts(switch, &card);
        let Change { state, event } = next(&counts)?;
        let events = ended.into_iter().chain([event]);
        match commit(switch, actor, (&card, state.clone()), events).await {
            // As it was committed: by now it may have been changed again, or removed.
            Ok(()) => return Ok(Card { state: Arc::new(state), ..card }),
            Err(CommitError::Changed(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refused::Busy)
}

/// Commits a change of a card, with what others are told of it. Of a change of the PIN that has
/// ended, the audit says the same.
pub(super) async fn commit<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    (card, changed): (&Card, CardState),
    events: impl IntoIterator<Item = EventKind>,
) -> Result<(), CommitError> {
    let (time, masked_pan) = (switch.clock.now(), masked_pan(switch, card));
    let tell = |kind| {
        let of = (&card.entry.identity, masked_pan);
        Event::of_card(kind, (time, actor.clone()), of, Some(&card.state), Some(&changed))
    };
    let events: Events = events.into_iter().map(tell).collect();
    let expires = events.iter().any(|event| event.kind == EventKind::PinChangeExpired);
    let commit = Commit { events, ..Commit::by_issuer(card, changed) };
    let id = switch.store.commit(commit, &mut None).await?;
    if expires {
        let token = &*card.entry.identity.token;
        tracing::info!(target: "audit", action = "PIN change expired", token, id = %id, %actor);
    }
    Ok(())
}

/// The PAN of a card as events tell it; none where it does not open.
fn masked_pan<W: Seams>(switch: &Switch<W>, card: &Card) -> MaskedPan {
    let identity = &card.entry.identity;
    let pan = switch.vault.open(&identity.key, &identity.sealed_pan);
    pan.map_or(MaskedPan::NONE, |pan| pan.masked())
}
