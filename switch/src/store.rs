//! The store, the third of the four seams: cards, transaction records and events, and the index
//! of answers already given. One commit holds the change of a card, the record and the events
//! together; it happens whole or not at all.

pub mod duplicates;
pub mod embedded;
pub mod record;

use std::future::Future;
use std::time::Duration;

use crate::authorization::{Answer, Decision};
use crate::cache::Card;
use crate::cache::{NewCard, Taken};
use crate::cards::{CardKey, CardState};
use crate::hsm::Kcv;
use record::{Event, RecordId, TransactionRecord};

pub use duplicates::{Asked, BodyDigest, DuplicateKey, InPart, Named, Original, Sought};

/// How many times a change is decided again because the card changed meanwhile. Each time
/// somebody else was served, so this many others came first.
pub const COMMIT_ATTEMPTS_MAX: u32 = 10_000;

/// The calls of the switch to its store.
pub trait Store: Send + Sync + 'static {
    /// The right to answer one request; given back when it is dropped without a commit.
    type Claim: Send;

    /// Asks for the right to answer a request of a network. While another request with the same key
    /// is being answered, this waits for its answer.
    ///
    /// # Errors
    /// If the store has failed.
    fn claim(
        &self,
        network: &str,
        asked: Asked<impl Fn() -> [DuplicateKey; 3] + Send>,
    ) -> impl Future<Output = Result<Claimed<Self::Claim>, StoreFailed>> + Send;

    /// Whether the original of a reversal is known: answered, reversed since or not. While it is
    /// being answered, this waits for its answer.
    ///
    /// # Errors
    /// If the store has failed.
    fn knows(
        &self,
        network: &str,
        named: Named,
    ) -> impl Future<Output = Result<bool, StoreFailed>> + Send;

    /// The answered request that a reversal may speak of, among the records after one: up to there
    /// it was looked for before. While one that may be it is being answered, this waits for its
    /// answer.
    ///
    /// # Errors
    /// If a record cannot be read.
    fn find(
        &self,
        network: &str,
        sought: (&Sought, RecordId),
    ) -> impl Future<Output = Result<Found, StoreFailed>> + Send;

    /// How far back the repeats of a network are recognised now.
    fn duplicate_window(&self, network: &str) -> Duration;

    /// The card with this key as it is now.
    ///
    /// # Errors
    /// If the store has failed.
    fn load(&self, key: &CardKey)
    -> impl Future<Output = Result<Option<Card>, StoreFailed>> + Send;

    /// The card with this token as it is now.
    ///
    /// # Errors
    /// If the store has failed.
    fn load_by_token(
        &self,
        token: &str,
    ) -> impl Future<Output = Result<Option<Card>, StoreFailed>> + Send;

    /// Commits a decision, and says where its record stands. When it returns, the commit survives
    /// whatever this kind of commit must survive, provided that [`Store::flush`] is called before
    /// the reply leaves. A claim is taken if the decision was committed and its answer is one to
    /// keep.
    ///
    /// # Errors
    /// [`CommitError`]; nothing has changed then, except that after
    /// [`CommitError::Failed`] nobody knows whether it was kept, and no reply may leave.
    fn commit(
        &self,
        commit: Commit<'_>,
        claim: &mut Option<Self::Claim>,
    ) -> impl Future<Output = Result<RecordId, CommitError>> + Send;

    /// Adds cards, each or not, and says which; durably, with one sync for all.
    ///
    /// # Errors
    /// If the store has failed: nobody knows which were kept.
    fn add_cards(
        &self,
        cards: Vec<NewCard>,
    ) -> impl Future<Output = Result<Vec<Result<(), Taken>>, StoreFailed>> + Send;

    /// Removes cards, durably, with one sync for all; says of each whether it was still there.
    /// What was read of one before can be committed no more. Its transaction records stay as long
    /// as others.
    ///
    /// # Errors
    /// If the store has failed: nobody knows which are gone.
    fn remove_cards(
        &self,
        cards: &[Card],
    ) -> impl Future<Output = Result<Vec<bool>, StoreFailed>> + Send;

    /// The transactions of a card, newest first, as far back as they are kept.
    ///
    /// # Errors
    /// If a record cannot be read.
    fn history(
        &self,
        card: &Card,
        records_max: usize,
    ) -> impl Future<Output = Result<Vec<(RecordId, TransactionRecord)>, StoreFailed>> + Send;

    /// How many cards have a PIN reference, or a PIN that waits for a chip, that was made with the
    /// key of this check value.
    ///
    /// # Errors
    /// If the store has failed.
    fn references_made_with(
        &self,
        kcv: Kcv,
    ) -> impl Future<Output = Result<usize, StoreFailed>> + Send;

    /// Writes what commits left in memory, so that it survives the end of this process. Called
    /// once per batch of replies, before they leave.
    ///
    /// # Errors
    /// If the store has failed: no reply of the batch may leave.
    fn flush(&self) -> Result<(), StoreFailed>;

    /// Whether the civil time can be believed where something is deleted by its age: it has not
    /// jumped lately.
    fn may_forget(&self) -> bool;

    /// Whether the store works.
    ///
    /// # Errors
    /// Why not.
    fn health(&self) -> Result<(), StoreFailed>;
}

/// What a claim came to.
#[derive(Debug)]
pub enum Claimed<C> {
    /// Nobody has answered yet: the caller does.
    First(C),
    /// Answered before: the same answer is given again.
    Repeat(Answer),
    /// The key was used by a request with another body, or that request was reversed.
    Conflict,
}

/// What a search for an original came to.
#[derive(Debug)]
pub enum Found {
    /// Nothing fits, up to the newest record, which stands here.
    Nothing(RecordId),
    /// This one.
    One(Box<TransactionRecord>),
    /// Two or more: nobody knows which is meant.
    Several,
}

/// A decision to keep.
#[derive(Debug, Default)]
pub struct Commit<'a> {
    /// The card it was made on, exactly as it was read; `None` where there is no such card.
    pub card: Option<&'a Card>,
    /// The card after it, if it changes.
    pub change: Option<CardState>,
    /// The transaction; `None` for a change by the issuer.
    pub transaction: Option<TransactionRecord>,
    /// What others are to be told.
    pub event: Option<Event>,
    /// What the transaction reverses.
    pub reverses: Option<Reversal>,
}

impl<'a> Commit<'a> {
    /// A change of a card by its issuer.
    #[must_use]
    pub fn by_issuer(card: &'a Card, change: CardState) -> Commit<'a> {
        Commit { card: Some(card), change: Some(change), ..Commit::default() }
    }

    /// A decision on a card, or on a request that has none: what it changes, its record, and what
    /// others are to be told.
    #[must_use]
    pub fn of_decision(
        card: Option<&'a Card>,
        decision: &Decision,
        transaction: TransactionRecord,
        reverses: Option<Reversal>,
    ) -> Commit<'a> {
        let state = card.map(|card| &*card.state);
        let suspends = state.is_some_and(|state| decision.suspends(state));
        let event = Event::StateSuspended { time: transaction.time, card: transaction.card };
        Commit {
            card,
            change: state.and_then(|state| decision.after(state)),
            transaction: Some(transaction),
            event: suspends.then_some(event),
            reverses,
        }
    }
}

/// An original that is to be reversed: refused from then on, whether it is known or not.
#[derive(Clone, Copy, Debug)]
pub enum Reversal {
    /// What has this key, and whether [`Store::knows`] it.
    Whole(Named, bool),
    /// What fits this: [`Store::find`] has found nothing.
    InPart(InPart),
}

impl Reversal {
    /// What is forbidden.
    #[must_use]
    pub const fn original(&self) -> Original {
        match self {
            Reversal::Whole(named, _) => named.original,
            Reversal::InPart(in_part) => in_part.original,
        }
    }

    /// Whether the original is known.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        matches!(self, Reversal::Whole(_, true))
    }
}

/// The store has failed and stays failed; the text names file and cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has failed: {0}")]
pub struct StoreFailed(pub String);

/// Why a decision was not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The card, or what is known of an original, has changed since it was read: decide again.
    #[error("the card or the original has changed meanwhile")]
    Changed,
    /// The store has failed.
    #[error(transparent)]
    Failed(#[from] StoreFailed),
}
