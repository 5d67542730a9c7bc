//! Cards: show, add, remove.

use std::sync::Arc;

use compact_str::CompactString;

use super::change::{self, load, subject};
use super::replacement::{self, Ending, PinOfCard};
use super::secret::PAN_EXPECTED;
use super::tokens::Token;
use super::{CardView, Refused, audit, blocks, card_details, pin_control, pins, views};
use crate::authorization::Product;
use crate::cache::{NewCard, Taken};
use crate::cards::{CardState, CardStatus, Embossed, Expiry, Pan, Plastic};
use crate::clock::Clock;
use crate::event::{Actor, EventKind};
use crate::hsm::{AcceptedPin, NewPin};
use crate::pin::{ClearPin, Digits, PVV_DIGITS};
use crate::store::document::DocumentChange;
use crate::store::record::{Event, Subject};
use crate::store::viewable_pin::of_new;
use crate::store::{Addition, NotDone, Removal, Store};
use crate::switch::{Seams, Switch};

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
    /// Whether its plastic is produced, with the PIN where it has one.
    pub is_produced: bool,
    /// Its PIN; without one nothing matches.
    pub pin: Option<GivenPin>,
}

/// The PIN of a card that is added.
pub enum GivenPin {
    /// In clear.
    Clear(Box<ClearPin>),
    /// A Visa PIN verification value that was computed elsewhere, digits 0 to 9, and its key index.
    Pvv([u8; PVV_DIGITS], u8),
    /// An IBM 3624 offset that was computed elsewhere.
    Offset(Digits),
    /// That of another card, where the HSM moves it.
    OfCard(Arc<PinOfCard>),
}

impl GivenPin {
    /// Whether it may be shown later: one of another card only where that one's product says so.
    fn may_be_kept(&self) -> bool {
        match self {
            GivenPin::OfCard(pin) => pin.is_viewable(),
            GivenPin::Clear(_) | GivenPin::Pvv(..) | GivenPin::Offset(_) => true,
        }
    }

    async fn accepted<W: Seams>(
        &self,
        switch: &Switch<W>,
        rules: &Product,
        pan: &Pan,
    ) -> Result<Option<AcceptedPin>, Refused> {
        let pin = match self {
            GivenPin::Clear(pin) => NewPin::Clear(pin),
            GivenPin::Pvv(pvv, pvki) => NewPin::Pvv(*pvv, *pvki),
            GivenPin::Offset(digits) => NewPin::Offset(*digits),
            GivenPin::OfCard(pin) => return pin.moved(switch, rules, pan).await,
        };
        pins::accept(switch, rules, pan, pin).await.map(Some)
    }
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
    Ok(views::card(switch, &card, token))
}

/// Adds one card with this token, and shows it, unless it has been removed again meanwhile. That a
/// door could not read it is in the audit too.
///
/// # Errors
/// Why not.
pub async fn create<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
    card: Result<AddCard, Refused>,
) -> Result<Option<CardView>, Refused> {
    let added = match add_each(switch, actor, vec![card], Viewable::Kept).await {
        Ok(added) => added.into_iter().collect::<Result<(), Refused>>(),
        Err(failed) => Err(failed),
    };
    audit::of_card(switch, actor, ("add", token), added).await?;
    let card = switch.store.load_by_token(token).await?;
    Ok(card.map(|card| views::card(switch, &card, token)))
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
    let added = add_each(switch, actor, cards, Viewable::NotKept).await;
    audit::of_cards(actor, "add", asked, &added);
    added
}

/// Whether the PIN of a new card can be seen, if its product says so. Of cards that come by the
/// million no block is kept, which would take as much memory as the cards: theirs can be seen from
/// the next set on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Viewable {
    Kept,
    NotKept,
}

async fn add_each<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    cards: Vec<Result<AddCard, Refused>>,
    viewable: Viewable,
) -> Result<Vec<Result<(), Refused>>, Refused> {
    // The rules of their products stay as they are until they are there.
    let _unchanged = switch.products.changing.read().await;
    let mut additions = Vec::with_capacity(cards.len());
    let mut outcomes = Vec::with_capacity(cards.len());
    for card in cards {
        let card = match card {
            Ok(card) => addition(switch, actor, card, viewable).await,
            Err(refused) => Err(refused),
        };
        outcomes.push(card.map(|card| additions.push(card)));
    }
    let added = switch.store.add_cards(additions).await?;
    let accepted = outcomes.iter_mut().filter(|outcome| outcome.is_ok());
    accepted.zip(added).for_each(|(outcome, added)| *outcome = added.map_err(Refused::from));
    Ok(outcomes)
}

/// Adds a card, with documents and the end of the plastic that it replaces in the same commit, or
/// not.
pub(super) async fn add_one<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    card: AddCard,
    documents: Vec<DocumentChange>,
    replaced: Option<Ending>,
) -> Result<Result<(), NotDone>, Refused> {
    // The rules of its product stay as they are until it is there.
    let _unchanged = switch.products.changing.read().await;
    let mut addition = addition(switch, actor, card, Viewable::Kept).await?;
    addition.documents.extend(documents);
    let mut other_token = None;
    if let Some(Ending { token, card, events, documents }) = replaced {
        (addition.other, other_token) = (Some(card), Some(token));
        addition.events.extend(events);
        addition.documents.extend(documents);
    }
    let added = switch.store.add_cards(vec![addition]).await?.pop();
    debug_assert!(added.is_some(), "one card was to be added");
    if let Some(Ok(())) = added {
        replacement::audit(actor, other_token.as_deref());
    }
    added.ok_or(Refused::Busy)
}

async fn addition<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    card: AddCard,
    viewable: Viewable,
) -> Result<Addition, Refused> {
    let AddCard { token, pan, expiry, sequence, product, is_active, is_produced, pin } = card;
    // Tokens are shown and stored in clear.
    Token::read(&token)?;
    if card_details::of(switch, &token).await?.is_some() {
        // A plastic of another card has it.
        return Err(Refused::Taken(Taken::Token));
    }
    if !pan.can_be_issued() {
        return Err(Refused::Field { name: "pan", expected: PAN_EXPECTED });
    }
    let product = switch.products.get(&product).ok_or(Refused::NoSuchProduct)?;
    let rules = product.rules();
    if !rules.is_known() {
        return Err(Refused::NoSuchProduct);
    }
    if !rules.has_bin_of(&pan) {
        return Err(Refused::Field { name: "pan", expected: "a BIN of the product" });
    }
    let mut plastic = Plastic::new(expiry, sequence);
    if is_active {
        plastic.status = CardStatus::Active;
    }
    let was_viewable = pin.as_ref().is_none_or(GivenPin::may_be_kept);
    let pin = match &pin {
        Some(pin) => pin.accepted(switch, &rules, &pan).await?,
        None => None,
    };
    let embossed = match (is_produced, &pin) {
        (false, _) => Embossed::NotProduced,
        (true, None) => Embossed::NoPin,
        (true, Some(_)) => Embossed::Pin(1),
    };
    let (mut state, mut kept) = (CardState::new(plastic.embossed_with(embossed)), None);
    if let Some(accepted) = pin {
        (state, kept) = (state.with_pin(accepted.reference), accepted.kept);
    }
    let identity = switch.vault.identify(&token, &pan).map_err(Refused::SealedPan)?;
    let who = || (switch.clock.now(), actor.clone());
    let of = Subject { identity: &identity, masked_pan: pan.masked(), plastic: 0 };
    let tell = |kind| Event::of_card(kind, who(), of, None, Some(&state));
    let events =
        [EventKind::Issued].into_iter().chain(is_active.then_some(EventKind::StateActivated));
    let events = events.map(tell).collect();
    let kept = kept.filter(|_| rules.pin_viewable && was_viewable && viewable == Viewable::Kept);
    let kept = kept.map(|kept| of_new(&switch.vault.documents, &identity.key, &kept, &state));
    let documents = kept.transpose().map_err(Refused::Sealing)?.into_iter().collect();
    Ok(Addition { card: NewCard { identity, product, state }, other: None, events, documents })
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

/// What is removed with a card, by its own token: what is kept of its plastics too, so that none of
/// it is taken for that of a later card with the same token.
async fn removal<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
) -> Result<Removal, Refused> {
    let card = switch.store.load_by_token(token).await?.ok_or(Refused::NoSuchCard)?;
    let mut documents = blocks::of_removed(switch, &card).await?;
    let mut events = Vec::new();
    for place in 0..card.state.plastics.len() {
        let token = change::token_of(&card, place);
        documents.extend(card_details::of_removed(switch, token).await?);
        documents.extend(pin_control::of_removed(switch, &card, token).await?);
        let (who, of) = ((switch.clock.now(), actor.clone()), subject(switch, &card, place));
        events.push(Event::of_card(EventKind::Removed, who, of, Some(&card.state), None));
    }
    Ok(Removal { card, events, documents })
}

async fn remove_each<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    tokens: &[String],
) -> Result<Vec<Result<(), Refused>>, Refused> {
    let mut removals = Vec::with_capacity(tokens.len());
    let mut outcomes = Vec::with_capacity(tokens.len());
    for token in tokens {
        let removal = removal(switch, actor, token).await;
        outcomes.push(removal.map(|removal| removals.push(removal)));
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
