//! The script of one request: the only place where the order of steps lives. Each step is in the
//! file of its name.
//!
//! ```text
//! frame -> decode -> route -> request -> duplicate? -> load card -> required_checks
//!       -> hsm.verify (the cryptogram first; the PIN only if it is accepted) -> decide
//!       -> hsm.issuer_authenticate -> commit -> response -> encode -> frame
//! ```
//!
//! Where the cardholder sets another PIN, that is taken over with the check of the current one.
//! An advice leaves out the checks, and a reversal looks for its original instead; of both, what
//! they tell of a chip is read.
//!
//! What waits for a sync. [`Store::commit`] returns when the disk has what must survive a power
//! cut: a change of PIN, card or script state, an ATC, a reversal, and whatever change of another
//! request this decision was made on; with `sync = "all"` every record. The other records are in
//! memory then: a reply that [rests on the store](Reply::rests_on_store) leaves the connection
//! after they are written, and they are synced within 10 ms.

mod attempt;
mod card;
mod beside;
mod claim;
mod committed;
mod conclude;
mod issuer_authenticate;
mod log_line;
mod network_management;
mod original;
mod reply;
mod verify;

pub use reply::{Reply, Responded};

use std::time::Duration;

use iso_specs::{FramingError, decode};

use crate::authorization::trail::Finding;
use crate::authorization::{
    Answer, Decision, Reason, RequiredChecks, Route, decide, required_checks, reversal, route,
};
use crate::cache::Card;
use crate::clock::{Clock, Timestamp};
use crate::frame::Frame;
use crate::session::Session;
use crate::store::record::TransactionRecord;
use crate::store::{COMMIT_ATTEMPTS_MAX, Commit, CommitError, Reversal, Store, StoreError};
use crate::switch::{Seams, Switch};
use attempt::{Attempt, NotDecided, Received};
use claim::Claim;
use network_management::network_management;
use reply::Answered;

/// A decision, and what it was made on.
struct Decided {
    card: Option<Card>,
    decision: Decision,
    /// What the chip is told, as DE55.
    de55: Option<Vec<u8>>,
    /// What a reversal takes back.
    reversal: Option<Reversal>,
}

impl<W: Seams> Switch<W> {
    /// One frame in, one frame out, or none where nothing is to be answered, or too late. It was
    /// read when the monotonic clock said `arrived`.
    ///
    /// # Errors
    /// If MTI or bitmap cannot be read: the link cannot go on.
    pub async fn respond(
        &self,
        session: &Session,
        frame: Frame,
        arrived: Duration,
    ) -> Result<Responded, FramingError> {
        let decoded = decode(&session.link.dialect, &frame.message)?;
        let received = Received { session, frame: &frame, decoded: &decoded, arrived };
        let answered = match route(decoded.message.mti()) {
            Route::Unanswered => return Ok(Responded::unanswered(&received)),
            Route::NotSupported => Answered::of(Reason::FunctionNotSupported),
            Route::NetworkManagement => network_management(&received),
            _ if session.must_sign_on() => Answered::of(Reason::Unavailable),
            _ if self.is_flooded(session) => Answered::overloaded(session),
            route => self.transact(&received, route).await,
        };
        Ok(self.reply(&received, &answered))
    }

    /// A request, an advice or a reversal.
    async fn transact(&self, received: &Received<'_>, route: Route) -> Answered {
        let mut work = match self.attempt(received, route) {
            Ok(work) => work,
            Err(fault) => return Answered::malformed(fault),
        };
        if !work.is_served() {
            return Answered::of(Reason::FunctionNotSupported);
        }
        self.carry_out(&mut work).await.unwrap_or_else(Answered::from)
    }

    /// Decides and commits, again where the card has changed meanwhile.
    async fn carry_out(&self, work: &mut Attempt<'_>) -> Result<Answered, NotDecided> {
        if work.route == Route::Reversal {
            self.complete_reversal(work).await?;
        }
        let mut claim = match self.claim(work).await? {
            Claim::Settled(answered) => return Ok(answered),
            // The commit takes it where the answer is kept. Else it ends here, and the next request
            // with this key is decided anew.
            Claim::Ours(claim) => Some(claim),
        };
        for _ in 0..COMMIT_ATTEMPTS_MAX {
            let now = self.clock.now();
            let decided = match work.route {
                Route::Reversal => self.reverse(work).await?,
                Route::Advice => self.acknowledge(work).await?,
                // The other routes were answered before.
                _ => self.authorize(work, now).await?,
            };
            let Decided { card, decision, reversal, .. } = &decided;
            let answer = Answer::of(decision, work.approval_number());
            let (card, reversal) = (card.as_ref(), reversal.as_ref());
            let state = card.map(|card| &*card.state);
            let (request, decided_so) = (&work.request, (answer, decision));
            let record = TransactionRecord::new(request, work.identity, state, decided_so, now);
            let documents = self.beside(work, card, decision).await?;
            let commit =
                Commit { documents, ..Commit::of_decision(card, decision, &record, reversal) };
            match self.store.commit(commit, &mut claim).await {
                Ok(id) => return Ok(self.committed(work, decided, answer, id)),
                Err(CommitError::Changed(_)) => work.note_searched(reversal),
                Err(CommitError::Store(error)) => return Err(error.into()),
                Err(CommitError::Limit(_)) => {
                    debug_assert!(false, "without documents a record has room");
                    return Ok(Answered::of(Reason::SystemMalfunction));
                }
            }
        }
        Ok(Answered::of(Reason::SystemMalfunction))
    }

    /// A request: the checks, what the HSM says, the decision, and what the chip is told of it.
    async fn authorize(
        &self,
        work: &mut Attempt<'_>,
        now: Timestamp,
    ) -> Result<Decided, StoreError> {
        let Some(card) = self.card_of(work).await? else {
            let decision = Decision::unchanged(Reason::NoSuchCard);
            return Ok(Decided { card: None, decision, de55: None, reversal: None });
        };
        let (state, product) = (&*card.state, &*card.product);
        let circumstances = self.circumstances(work, &card, now);
        let decision = match required_checks(&work.request, state, product, circumstances) {
            RequiredChecks::None(decision) => *decision,
            RequiredChecks::Verify(checks) => {
                let evidence = self.verify(work, &card, checks, now).await;
                decide(&work.request, state, product, &evidence, circumstances)
            }
        };
        let (decision, de55) = self.issuer_authenticate(work, &card, decision).await;
        Ok(Decided { card: Some(card), decision, de55, reversal: None })
    }

    /// An advice: what was decided elsewhere is acknowledged, whatever it was.
    async fn acknowledge(&self, work: &Attempt<'_>) -> Result<Decided, StoreError> {
        let card = self.card_of(work).await?;
        let decision = self.conclude(work, card.as_ref(), Reason::Approved, None).await;
        Ok(Decided { card, decision, de55: None, reversal: None })
    }

    /// A reversal: once its original is answered it is taken back, and refused from then on. No
    /// PIN try is given back.
    async fn reverse(&self, work: &Attempt<'_>) -> Result<Decided, NotDecided> {
        let reversal = self.original_of(work).await?;
        let card = self.card_of(work).await?;
        let is_known = reversal.is_known();
        let reason = reversal::reason(is_known, work.session.link.unknown_original);
        let reversed = is_known.then(|| reversal.original().digest);
        let decision = self.conclude(work, card.as_ref(), reason, reversed).await;
        let decision = match is_known {
            true => decision,
            false => decision.with(Finding::OriginalUnknown),
        };
        Ok(Decided { card, decision, de55: None, reversal: Some(reversal) })
    }
}
