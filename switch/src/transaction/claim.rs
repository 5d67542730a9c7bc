//! The step that asks for the right to answer: a repeat gets the answer of before.

use super::attempt::Attempt;
use super::reply::Answered;
use crate::authorization::response::ChipAnswer;
use crate::authorization::{Reason, Route};
use crate::clock::{Clock, Timestamp};
use crate::store::{Asked, Claimed, Store, StoreError};
use crate::switch::{Seams, Switch};

/// What a claim came to.
pub(super) enum Claim<C> {
    /// The request is answered.
    Settled(Answered),
    /// Nobody has answered it yet.
    Ours(C),
}

impl<W: Seams> Switch<W> {
    pub(super) async fn claim(
        &self,
        work: &Attempt<'_>,
    ) -> Result<Claim<<W::Store as Store>::Claim>, StoreError> {
        let Attempt { session, request, identity, .. } = work;
        let parts = || self.duplicates.parts(identity.network, &identity.card, request);
        let asked = Asked { key: identity.key, body: identity.body, rrn: request.rrn, parts };
        let is_request = work.route == Route::Authorization;
        Ok(match self.store.claim(identity.network, asked).await? {
            Claimed::Repeat(answer, record) => {
                let de55 = match answer.chip {
                    ChipAnswer::Nothing => None,
                    _ => self.answer_again(work, answer).await?,
                };
                Claim::Settled(Answered { record: Some(record), ..Answered::again(answer, de55) })
            }
            Claimed::Conflict => Claim::Settled(Answered::kept(Reason::DuplicateConflict)),
            // A repeat learns its answer, and a reversal is taken, however many wait.
            Claimed::First(_) if is_request && self.is_overloaded(session) => {
                Claim::Settled(Answered::overloaded(session))
            }
            Claimed::First(_) if is_request && self.is_too_old(work) => {
                Claim::Settled(Answered::of(Reason::DuplicateConflict))
            }
            Claimed::First(claim) => Claim::Ours(claim),
        })
    }

    /// Whether an answer to it, or its reversal, would not be known any more.
    fn is_too_old(&self, work: &Attempt<'_>) -> bool {
        let link = &work.session.link;
        if !link.refuse_older_than_window {
            return false;
        }
        let now = self.clock.now();
        let sent = Timestamp::of_month_and_day(&work.request.transmission_time, now);
        let window = self.store.duplicate_window(&link.network);
        sent.is_none_or(|sent| now.since(sent) > window)
    }
}
