//! The store, the third of the four seams: cards, transaction records, events and documents, and
//! the index of answers already given. One commit holds the change of a card, the record, the
//! events and the documents together; it happens whole or not at all.

pub mod document;
pub mod documents;
pub mod duplicates;
pub mod embedded;
pub mod page;
pub mod readers;
pub mod record;
pub mod viewable_pin;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;

use crate::authorization::trail::Finding;
use crate::authorization::{Answer, Decision, Product};
use crate::cache::{Card, CardEntry, NewCard, Taken};
use crate::cards::{CardKey, CardState};
use crate::event::{Actor, EventKind};
use crate::hsm::Kcv;
use document::{Document, DocumentChange, DocumentKind};
use page::{Page, TransactionFilter};
use readers::{ReaderError, ReaderName};
use record::{Event, EventId, RecordId, Subject, Told, TransactionRecord};

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
    ) -> impl Future<Output = Result<Claimed<Self::Claim>, StoreError>> + Send;

    /// Whether the original of a reversal is known: answered, reversed since or not. While it is
    /// being answered, this waits for its answer.
    ///
    /// # Errors
    /// If the store has failed.
    fn knows(
        &self,
        network: &str,
        named: Named,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

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
    ) -> impl Future<Output = Result<Found, StoreError>> + Send;

    /// How far back the repeats of a network are recognised now.
    fn duplicate_window(&self, network: &str) -> Duration;

    /// The card with this key as it is now.
    ///
    /// # Errors
    /// If the store has failed.
    fn load(&self, key: &CardKey) -> impl Future<Output = Result<Option<Card>, StoreError>> + Send;

    /// The card with this token as it is now.
    ///
    /// # Errors
    /// If the store has failed.
    fn load_by_token(
        &self,
        token: &str,
    ) -> impl Future<Output = Result<Option<Card>, StoreError>> + Send;

    /// Commits a decision, and says where its record stands. When it returns, the commit survives
    /// whatever this kind of commit must survive, provided that [`Store::flush`] is called before
    /// the reply leaves. A claim is taken if the decision was committed and its answer is one to
    /// keep.
    ///
    /// # Errors
    /// [`CommitError`]; nothing has changed then, except that after
    /// [`StoreError::Failed`] nobody knows whether it was kept, and no reply may leave.
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
        cards: Vec<Addition>,
    ) -> impl Future<Output = Result<Vec<Result<(), NotDone>>, StoreError>> + Send;

    /// Removes cards, each or not, durably, with one sync for all; says of each whether it was
    /// still there. What was read of one before can be committed no more. Its transaction records
    /// stay as long as others.
    ///
    /// # Errors
    /// If the store has failed: nobody knows which are gone.
    fn remove_cards(
        &self,
        cards: Vec<Removal>,
    ) -> impl Future<Output = Result<Vec<Result<(), NotDone>>, StoreError>> + Send;

    /// Transactions, the newest first unless the filter says otherwise, from behind this one on.
    /// With a card, and the newest first, only that card's are read; otherwise whole stretches of
    /// what is kept.
    ///
    /// # Errors
    /// If they cannot be read.
    fn transactions(
        &self,
        filter: TransactionFilter,
        after: Option<RecordId>,
        items_max: usize,
    ) -> impl Future<Output = Result<Page<RecordId, TransactionRecord>, StoreError>> + Send;

    /// The transaction with this id; none where no transaction has it, or it is kept no more.
    ///
    /// # Errors
    /// If the store has failed.
    fn transaction(
        &self,
        id: RecordId,
    ) -> impl Future<Output = Result<Option<TransactionRecord>, StoreError>> + Send;

    /// What the transaction with this id has reversed; none where it is no reversal, or is kept no
    /// more.
    ///
    /// # Errors
    /// If the store has failed.
    fn reversed(
        &self,
        id: RecordId,
    ) -> impl Future<Output = Result<Option<Original>, StoreError>> + Send;

    /// What others are told of a card, newest first, from behind this one on, as far back as it is
    /// kept: what a power failure could take back is among it.
    ///
    /// # Errors
    /// If it cannot be read.
    fn card_events(
        &self,
        card: &Card,
        after: Option<EventId>,
        items_max: usize,
    ) -> impl Future<Output = Result<Page<EventId, Event>, StoreError>> + Send;

    /// Events and transactions in the order in which they happened, from behind this one on: none
    /// that a power failure could take back.
    ///
    /// # Errors
    /// If nothing stands there yet, or they cannot be read.
    fn events(
        &self,
        after: EventId,
        items_max: usize,
    ) -> impl Future<Output = Result<Page<EventId, Told>, ReaderError>> + Send;

    /// How far a reader of events is; `None` where there is no such reader.
    fn acknowledged(&self, reader: &ReaderName) -> Option<EventId>;

    /// A reader has the events up to this one, durably. One that was acknowledged before changes
    /// nothing. The first call makes the reader known: from then on what it has not acknowledged is
    /// kept for it, within limits.
    ///
    /// # Errors
    /// [`ReaderError`]; nothing has changed then.
    fn acknowledge(
        &self,
        reader: &ReaderName,
        through: EventId,
    ) -> impl Future<Output = Result<(), ReaderError>> + Send;

    /// There is no such reader any more, durably: nothing is kept for it.
    ///
    /// # Errors
    /// If the store has failed.
    fn forget_reader(
        &self,
        reader: &ReaderName,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Cards in the order of their keys, from behind this one on.
    ///
    /// # Errors
    /// If the store has failed.
    fn cards(
        &self,
        after: Option<CardKey>,
        items_max: usize,
    ) -> impl Future<Output = Result<Page<CardKey, Card>, StoreError>> + Send;

    /// All cards of a product: a pointer for each, found in one pass over the cards of all.
    ///
    /// # Errors
    /// If the store has failed.
    fn cards_of_product(
        &self,
        product: &str,
    ) -> impl Future<Output = Result<Vec<Arc<CardEntry>>, StoreError>> + Send;

    /// The document of this kind with this token; none whose time is over.
    ///
    /// # Errors
    /// If the store has failed.
    fn document(
        &self,
        kind: DocumentKind,
        token: &str,
    ) -> impl Future<Output = Result<Option<Arc<Document>>, StoreError>> + Send;

    /// Documents of a kind in the order of their tokens, from behind this one on.
    ///
    /// # Errors
    /// If the store has failed.
    fn documents(
        &self,
        kind: DocumentKind,
        after: Option<&str>,
        items_max: usize,
    ) -> impl Future<Output = Result<Page<CompactString, Arc<Document>>, StoreError>> + Send;

    /// Copies all that a start needs into a new directory, and says what it copied. Where the truth
    /// is elsewhere, that has backups of its own.
    ///
    /// # Errors
    /// If it cannot be read or written.
    fn backup(&self, to: &Path) -> impl Future<Output = Result<String, StoreError>> + Send;

    /// How many cards have a PIN reference, or a PIN that waits for a chip, that was made with the
    /// key of this check value.
    ///
    /// # Errors
    /// If the store has failed.
    fn references_made_with(
        &self,
        kcv: Kcv,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Writes what commits left in memory, so that it survives the end of this process. Called
    /// once per batch of replies, before they leave.
    ///
    /// # Errors
    /// If the store has failed: no reply of the batch may leave.
    fn flush(&self) -> Result<(), StoreError>;

    /// Whether the civil time can be believed where something is deleted by its age: it has not
    /// jumped lately.
    fn may_forget(&self) -> bool;

    /// Whether the store works.
    ///
    /// # Errors
    /// Why not.
    fn health(&self) -> Result<(), StoreError>;
}

/// What a claim came to.
#[derive(Debug)]
pub enum Claimed<C> {
    /// Nobody has answered yet: the caller does.
    First(C),
    /// Answered before: the same answer is given again. Its record stands here.
    Repeat(Answer, RecordId),
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

/// What others are told of what a decision has found of a script for a chip.
const fn of_script(finding: Finding) -> Option<EventKind> {
    match finding {
        Finding::ScriptAttached => Some(EventKind::ScriptSent),
        Finding::ScriptConfirmed => Some(EventKind::ScriptApplied),
        Finding::ScriptGivenUp => Some(EventKind::ScriptFailed),
        _ => None,
    }
}

/// A decision to keep.
#[derive(Debug, Default)]
pub struct Commit<'a> {
    /// The card it was made on, exactly as it was read; `None` where there is no such card.
    pub card: Option<&'a Card>,
    /// The card after it, if it changes.
    pub change: Option<CardState>,
    /// The transaction; `None` for a change by the issuer.
    pub transaction: Option<&'a TransactionRecord>,
    /// Another card that changes with it.
    pub other: Option<Box<OtherCard>>,
    /// What others are to be told.
    pub events: Events,
    /// Documents that change with it.
    pub documents: Vec<DocumentChange>,
    /// The rules that the document of a product makes: they are in force from this commit on, and
    /// get its version.
    pub product: Option<Box<Product>>,
    /// What the transaction reverses.
    pub reverses: Option<&'a Reversal>,
}

/// The events of a commit: mostly none, so that room for one in it would only be carried about.
pub type Events = Vec<Event>;

impl<'a> Commit<'a> {
    /// A change of a card by its issuer.
    #[must_use]
    pub fn by_issuer(card: &'a Card, change: CardState) -> Commit<'a> {
        Commit { card: Some(card), change: Some(change), ..Commit::default() }
    }

    /// A decision on a card, or on a request that has none: what it changes, its record, and what
    /// others are to be told: of each plastic that it suspends, of a PIN that it sets, and of
    /// scripts for its chip.
    #[must_use]
    pub fn of_decision(
        card: Option<&'a Card>,
        decision: &Decision,
        transaction: &'a TransactionRecord,
        reverses: Option<&'a Reversal>,
    ) -> Commit<'a> {
        let change = card.and_then(|card| decision.after(&card.state));
        let plastic = transaction.plastic.map_or(0, usize::from);
        let told = card.zip(change.as_ref()).into_iter().flat_map(|(card, after)| {
            let suspended = decision.suspended(&card.state);
            let suspended = suspended.map(|plastic| (EventKind::StateSuspended, plastic));
            let set = decision.sets_pin(&card.state).then_some((EventKind::PinChanged, plastic));
            // A reversal or an advice may tell of another plastic than it names.
            let is_told_of = |place: &usize| card.state.chip(*place) != after.chip(*place);
            let told_of = || (0..after.plastics.len()).find(is_told_of);
            let of_chip = decision.chip.as_ref().map(|chip| chip.check.plastic);
            let told_of = of_chip.or_else(told_of).unwrap_or(plastic);
            let scripts = decision.trail().filter_map(|note| of_script(note.finding));
            let scripts = scripts.map(move |kind| (kind, told_of));
            suspended.chain(set).chain(scripts).map(move |(kind, plastic)| {
                let who = (transaction.time, Actor::network(&transaction.network));
                let (identity, masked_pan) = (&card.entry.identity, transaction.masked_pan);
                let of = Subject { identity, masked_pan, plastic };
                Event::of_card(kind, who, of, Some(&card.state), Some(after))
            })
        });
        let events = told.collect();
        Commit {
            card,
            change,
            transaction: Some(transaction),
            other: None,
            events,
            documents: Vec::new(),
            product: None,
            reverses,
        }
    }
}

/// A card that changes with another one, in the same record: the one that a card under a new PAN
/// replaces. Its events are among those of the record.
#[derive(Clone, Debug)]
pub struct OtherCard {
    /// The card, exactly as it was read.
    pub card: Card,
    /// Its state from now on.
    pub state: CardState,
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

/// A card that is added, with what is told and kept of it in the same record.
#[derive(Debug)]
pub struct Addition {
    /// The card.
    pub card: NewCard,
    /// A card that changes with it.
    pub other: Option<Box<OtherCard>>,
    /// What others are to be told.
    pub events: Events,
    /// Documents that change with it.
    pub documents: Vec<DocumentChange>,
}

impl From<NewCard> for Addition {
    fn from(card: NewCard) -> Addition {
        Addition { card, other: None, events: Events::new(), documents: Vec::new() }
    }
}

/// A card that is removed, with what is told and kept of it in the same record.
#[derive(Clone, Debug)]
pub struct Removal {
    /// The card.
    pub card: Card,
    /// What others are to be told.
    pub events: Events,
    /// Documents that change with it.
    pub documents: Vec<DocumentChange>,
}

impl From<Card> for Removal {
    fn from(card: Card) -> Removal {
        Removal { card, events: Events::new(), documents: Vec::new() }
    }
}

/// The store has not done what it was asked for; the text names what and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Not now: nothing has changed, and a later call may work.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// It has failed and stays failed: nobody knows what was kept.
    #[error("the store has failed: {0}")]
    Failed(String),
}

/// Why a decision was not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Something that it rests on has changed since it was read: decide again.
    #[error(transparent)]
    Changed(#[from] Changed),
    /// A limit is reached: it cannot be kept.
    #[error(transparent)]
    Limit(#[from] Limit),
    /// The store is not there.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What has changed since it was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Changed {
    /// The card.
    #[error("the card has changed meanwhile")]
    Card,
    /// What is known of the original of a reversal.
    #[error("the original has changed meanwhile")]
    Original,
    /// A document.
    #[error("the {kind} {token} has changed meanwhile", kind = .0.name(), token = .1)]
    Document(DocumentKind, CompactString),
}

/// A limit of what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// A token of a document is empty or too long.
    #[error("the token of a document has 1 to 128 bytes")]
    Token,
    /// A document.
    #[error("the document is longer than document_bytes_max")]
    Document,
    /// All documents together.
    #[error("all documents together have reached documents_mb_max")]
    Documents,
    /// The answers to Idempotency-Keys.
    #[error(
        "the answers to Idempotency-Keys of 24 hours have reached their part of documents_mb_max"
    )]
    Answers,
    /// Everything that is committed at once.
    #[error("what is committed at once is longer than a record of the journal")]
    Record,
}

/// Why a card was not added or removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// Another card has its PAN or token.
    #[error(transparent)]
    Taken(#[from] Taken),
    /// It was removed before.
    #[error("there is no such card any more")]
    Gone,
    /// A document that changes with it has changed meanwhile.
    #[error(transparent)]
    Changed(#[from] Changed),
    /// A limit is reached.
    #[error(transparent)]
    Limit(#[from] Limit),
}
