//! A plastic that is said to be embossed and shipped, where no embosser is: the chip counts as made
//! with the PIN that the card has, and what is set from then on must come to it by a script.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::cards::{CardState, CardStatus, Embossed};
use crate::clock::Clock;
use crate::event::EventKind;
use crate::issuing::card_details::{self, CardDetails, FulfillmentStatus};
use crate::issuing::change::{self, Beside, Change, load, place};
use crate::issuing::issued_card::{self, IssuedCard};
use crate::issuing::{Call, Refused, audit};
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
        let mut documents = vec![details.write(switch, token, version)?];
        documents.extend(call.made(switch, token)?);
        let shipped = change::change_with(switch, call.actor, token, |card| {
            let plastic = place(&card.state, token);
            let state = embossed(&card.state, plastic)?;
            let change = Change { state, plastic, event: Some(EventKind::FulfillmentShipped) };
            Ok((change, Beside { documents: documents.clone(), ..Beside::default() }))
        });
        match shipped.await {
            Ok(_) => return issued_card::of(switch, token).await,
            // The details have changed since they were read.
            Err(Refused::ProductChanged) => {}
            Err(refused) => return Err(refused),
        }
    }
    Err(Refused::Busy)
}

/// The card whose plastic at this place is embossed with the PIN that it has.
fn embossed(state: &CardState, plastic: usize) -> Result<CardState, Refused> {
    let pin = match state.pin.reference {
        Some(_) => Embossed::Pin(state.pin.version),
        None => Embossed::NoPin,
    };
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
