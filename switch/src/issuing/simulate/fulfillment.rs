//! A plastic that is said to be embossed and shipped, where no embosser is: the chip counts as made
//! with the PIN that the card has, and what is set from then on must come to it by a script. A chip
//! that can be played is made then. Where offline PINs are verified and no block of the PIN is
//! kept, the embosser got none.

use serde::Deserialize;
use utoipa::ToSchema;

use super::virtual_chip;
use crate::cache::Card;
use crate::cards::{CardState, CardStatus, Embossed};
use crate::clock::Clock;
use crate::event::EventKind;
use crate::issuing::card_details::{self, CardDetails, FulfillmentStatus};
use crate::issuing::change::{self, Beside, Change, load, place};
use crate::issuing::issued_card::{self, IssuedCard};
use crate::issuing::{Call, Refused, audit};
use crate::pin::ClearPin;
use crate::store::COMMIT_ATTEMPTS_MAX;
use crate::switch::{Seams, Switch};

/// A plastic that is said to be shipped.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FulfillmentForm {
    /// The card, or one of its plastics.
    pub card_token: String,
}

/// Says that a plastic was embossed with the card's PIN as it is, and shipped.
///
/// # Errors
/// [`Refused::PlasticProduced`] where it was before, or why it cannot be kept.
pub async fn fulfil<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    form: &FulfillmentForm,
) -> Result<IssuedCard, Refused> {
    let token = &*form.card_token;
    let done = fulfil_unaudited(switch, call, token).await;
    audit::of_card(switch, call.actor, ("simulate fulfillment", token), done).await
}

async fn fulfil_unaudited<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    token: &str,
) -> Result<IssuedCard, Refused> {
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        let card = load(switch, token).await?;
        let known = card_details::of(switch, token).await?;
        let now = switch.clock.now();
        let (details, version) =
            known.unwrap_or_else(|| (CardDetails::new(&card.entry.identity.token, now), 0));
        let (fulfillment_status, last_modified_time) =
            (FulfillmentStatus::Shipped, now.to_string());
        let details = CardDetails { fulfillment_status, last_modified_time, ..details };
        let (made_of, at) = (&card.state.pin, place(&card.state, token));
        let (pin, clear) = first_pin(switch, &card).await?;
        let mut documents = vec![details.write(switch, token, version)?];
        documents.extend(virtual_chip::embossed(switch, (&card, at), clear.as_deref()).await?);
        documents.extend(call.made(switch, token)?);
        let shipped = change::change(switch, call.actor, token, |card| {
            let plastic = place(&card.state, token);
            let state = embossed(&card.state, plastic, pin)?;
            if card.state.pin.version != made_of.version || plastic != at {
                return Err(Refused::ProductChanged);
            }
            let change = Change { state, plastic, event: Some(EventKind::FulfillmentShipped) };
            Ok((change, Beside { documents: documents.clone(), ..Beside::default() }))
        });
        match shipped.await {
            Ok(_) => return issued_card::of(switch, token).await,
            // The details or the PIN have changed since they were read.
            Err(Refused::ProductChanged) => {}
            Err(refused) => return Err(refused),
        }
    }
    Err(Refused::Busy)
}

/// Which PIN the plastics of a card are embossed with now, and that PIN where a chip needs it.
async fn first_pin<W: Seams>(
    switch: &Switch<W>,
    card: &Card,
) -> Result<(Embossed, Option<Box<ClearPin>>), Refused> {
    let version = card.state.pin.version;
    let has_pin = card.state.pin.reference.is_some();
    if !card.product.has_offline_pin() {
        return Ok((if has_pin { Embossed::Pin(version) } else { Embossed::NoPin }, None));
    }
    match virtual_chip::current_pin(switch, card).await? {
        Some(pin) => Ok((Embossed::Pin(version), Some(pin))),
        None => {
            let embossed = virtual_chip::without_block(&card.product);
            Ok((embossed, virtual_chip::pin_of(embossed)))
        }
    }
}

/// The card whose plastic at this place is embossed with this PIN.
fn embossed(state: &CardState, plastic: usize, pin: Embossed) -> Result<CardState, Refused> {
    let mut state = state.clone();
    let known = state.plastics.get_mut(plastic).ok_or(Refused::NoSuchCard)?;
    if known.embossed() != Embossed::NotProduced {
        return Err(Refused::PlasticProduced);
    }
    if known.status == CardStatus::Terminated {
        return Err(Refused::CardTerminated);
    }
    *known = known.clone().embossed_with(pin);
    Ok(state)
}
