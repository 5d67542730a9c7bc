//! Transitions: a card goes to another state.

use super::change::{Change, change, load};
use super::{CardView, Refused, audit, views};
use crate::authorization::Transition;
use crate::clock::Clock;
use crate::event::Actor;
use crate::switch::{Seams, Switch};

/// Moves the current plastic of a card to another state. That a door could not read what was asked
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
    let now = switch.clock.now();
    let (asked, moved) = match asked {
        Ok(asked) => {
            let moved = change(switch, actor, token, |card| {
                let plastic = card.state.current();
                let (state, event) = asked.apply(&card.state, plastic, now)?;
                Ok(Change { state, plastic, event })
            });
            let moved = moved.await;
            (Some(asked), moved)
        }
        Err(refused) => (None, load(switch, token).await.and(Err(refused))),
    };
    let card = audit::of_transition(switch, actor, token, asked.as_ref(), moved).await?;
    Ok(views::card(switch, &card))
}
