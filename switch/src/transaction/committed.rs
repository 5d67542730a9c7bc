//! The step after the commit: what is counted, what is audited, what is answered.

use super::Decided;
use super::attempt::Attempt;
use super::reply::Answered;
use crate::authorization::Answer;
use crate::cache::Card;
use crate::event::Actor;
use crate::session::Session;
use crate::store::record::RecordId;
use crate::switch::{Seams, Switch};

impl<W: Seams> Switch<W> {
    pub(super) fn committed(
        &self,
        work: &Attempt<'_>,
        decided: Decided,
        answer: Answer,
        id: RecordId,
    ) -> Answered {
        let Decided { card, decision, de55, reversal } = decided;
        let is_bypass = decision.bypass.is_some();
        self.metrics.decided(is_bypass, decision.trail());
        if let Some(card) = &card {
            let suspends = decision.suspended(&card.state).next().is_some();
            self.metrics.suspended(suspends);
            if is_bypass {
                audit(work.session, card, "offline PIN bypassed", id);
            }
            if suspends {
                audit(work.session, card, "suspended for PIN tries", id);
            }
            if decision.sets_pin(&card.state) {
                audit(work.session, card, "PIN set at a terminal", id);
            }
        }
        let original = reversal.map(|reversal| reversal.is_known());
        original.iter().for_each(|is_known| self.metrics.reversed(*is_known));
        Answered { de55, original, record: Some(id), ..Answered::decided(answer) }
    }
}

/// A line for what a transaction did to a card.
fn audit(session: &Session, card: &Card, action: &str, id: RecordId) {
    let (link, token) = (&*session.link.name, &*card.entry.identity.token);
    let actor = Actor::network(&session.link.network);
    tracing::info!(target: "audit", action, link, token, transaction = %id, %actor);
}
