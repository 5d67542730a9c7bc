//! A card under a new PAN in place of another one: which PIN it gets, and how the other one ends.

use std::sync::Arc;

use super::card_details::{self, CardDetails};
use super::change::{self, event, load};
use super::tokens::Token;
use super::{Refused, blocks, viewable_pin};
use crate::authorization::Product;
use crate::cache::Card;
use crate::cards::{CardKey, CardStatus, Pan, StatusReason};
use crate::clock::within;
use crate::event::{Actor, EventKind};
use crate::hsm::{
    AcceptPinError, AcceptedPin, Hsm, KeptPin, MovePin, MovePinError, PinReference, ReferenceValue,
};
use crate::store::document::DocumentChange;
use crate::store::{Events, OtherCard};
use crate::switch::{Seams, Switch};

/// The PIN of a card, for another card.
pub struct PinOfCard {
    kept: KeptPin,
    reference: PinReference,
    pan: Pan,
    product: Arc<Product>,
    /// The card, and which of its PINs it is.
    of: (CardKey, u32),
}

/// The PIN of a card, where a block of it is still there: a PIN cannot be had back of a value that
/// was computed of it.
pub(super) async fn pin_of<W: Seams>(
    switch: &Switch<W>,
    card: &Card,
) -> Result<Option<PinOfCard>, Refused> {
    let Some(reference) = card.state.pin.reference else { return Ok(None) };
    let kept = match reference.value {
        ReferenceValue::Block(block) => Some(KeptPin { block, key: reference.key }),
        ReferenceValue::Pvv { .. } | ReferenceValue::Offset { .. } => {
            match card.state.kept_pin().cloned() {
                Some(kept) => Some(kept),
                None => viewable_pin::kept(switch, card).await?,
            }
        }
    };
    let Some(kept) = kept else { return Ok(None) };
    let identity = &card.entry.identity;
    let pan = switch.vault.open(&identity.key, &identity.sealed_pan);
    let pan = pan.map_err(Refused::SealedPan)?;
    let of = (identity.key, card.state.pin.version);
    Ok(Some(PinOfCard { kept, reference, pan, product: Arc::clone(&card.product), of }))
}

impl PinOfCard {
    /// Whether the issuer may have it shown, as the product of its card says.
    pub(super) fn is_viewable(&self) -> bool {
        self.product.pin_viewable
    }

    /// Whether this card has another PIN by now.
    pub(super) fn is_replaced_in(&self, card: &Card) -> bool {
        let (key, version) = self.of;
        card.entry.identity.key == key && card.state.pin.version != version
    }

    /// The same PIN for a card with this PAN; `None` where the HSM does not move it.
    pub(super) async fn moved<W: Seams>(
        &self,
        switch: &Switch<W>,
        product: &Product,
        new_pan: &Pan,
    ) -> Result<Option<AcceptedPin>, Refused> {
        let PinOfCard { kept, reference, pan, .. } = self;
        let (methods, new_method) = (&self.product.pin_methods, &product.pin_methods.current);
        let call = MovePin { kept, pan, reference, methods, new_pan, new_method };
        let moved = within(switch.limits.hsm_milliseconds_max, switch.hsm.move_pin(call)).await;
        match moved {
            Some(Ok(accepted)) => Ok(Some(accepted)),
            Some(Err(MovePinError::Refused)) => Ok(None),
            Some(Err(MovePinError::NotAccepted(error))) => Err(error.into()),
            None => Err(AcceptPinError::Unavailable.into()),
        }
    }
}

/// The end of a plastic, for the commit of the card that replaces it.
pub(super) struct Ending {
    /// Its token.
    pub(super) token: Box<str>,
    /// Its card, without it.
    pub(super) card: Box<OtherCard>,
    /// What others are told.
    pub(super) events: Events,
    /// What goes with it.
    pub(super) documents: Vec<DocumentChange>,
}

/// The end of the plastic that one with these details replaces under a new PAN; `None` where it
/// replaces none, or that has ended, or was removed, before.
pub(super) async fn end<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    details: &CardDetails,
    reason: StatusReason,
) -> Result<Option<Ending>, Refused> {
    let Some(token) = details.new_pan_from_card_token.as_ref() else { return Ok(None) };
    let card = match load(switch, token.as_str()).await {
        Ok(card) if Some(card.entry.identity.key.0) == details.new_pan_from_card_key => card,
        Ok(_) | Err(Refused::NoSuchCard) => return Ok(None),
        Err(error) => return Err(error),
    };
    let place = change::place(&card.state, token.as_str());
    let (counts, mut told) = change::as_it_counts(switch, &card);
    let plastic = counts.state.plastics.get(place);
    if plastic.is_none_or(|plastic| plastic.status == CardStatus::Terminated) {
        return Ok(None);
    }
    let state = counts.state.with_status(place, CardStatus::Terminated, reason);
    told.push((EventKind::StateTerminated, place));
    let events = told.iter().map(|about| event(switch, actor, &card, *about, &state)).collect();
    let documents = blocks::after(switch, &card, &state, None).await?;
    let (token, card) = (token.as_str().into(), Box::new(OtherCard { card, state }));
    Ok(Some(Ending { token, card, events, documents }))
}

/// The line in the audit of a plastic that has ended so: the one of the call names the card that
/// replaces it.
pub(super) fn audit(actor: &Actor, ended: Option<&str>) {
    if let Some(token) = ended {
        tracing::info!(target: "audit", action = "replaced card ended", token, %actor);
    }
}

/// The holder of the plastic with this token; `None` of a card of the command line.
pub(super) async fn user_of<W: Seams>(
    switch: &Switch<W>,
    token: &Token,
) -> Result<Option<Token>, Refused> {
    let details = card_details::of(switch, token.as_str()).await?;
    Ok(details.and_then(|(details, _)| details.user_token))
}
