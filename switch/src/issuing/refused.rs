//! Why a call was refused. The text is for people and holds no secret; who has to act on it
//! compares the code.

use serde::{Deserialize, Serialize};

use crate::authorization::trail::Note;
use crate::authorization::transition::{Forbidden, NotAllowed};
use crate::cache::Taken;
use crate::config::WrongSetting;
use crate::hsm::software::key::KeyFault;
use crate::hsm::software::keys::KeysError;
use crate::hsm::{AcceptPinError, MissingKey};
use crate::key::Kcv;
use crate::store::readers::ReaderError;
use crate::store::{Changed, CommitError, Limit, NotDone, StoreError};

/// Why a call was refused. Nothing has changed then; only of a store that has failed nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No card has this token.
    #[error("there is no card with this token")]
    NoSuchCard,
    /// No product has this name.
    #[error("card_product_token: there is no such product")]
    NoSuchProduct,
    /// Another card has the PAN or the token.
    #[error(transparent)]
    Taken(Taken),
    /// What can no longer be done with a card that is TERMINATED.
    #[error("the card is TERMINATED, which is final")]
    CardTerminated,
    /// A state that the card does not go to, or not so.
    #[error(transparent)]
    Transition(#[from] NotAllowed),
    /// The product has no offline PIN, so there is nothing to unblock.
    #[error("the chips of this product hold no PIN")]
    ChipHoldsNoPin,
    /// Nobody knows whether the PIN that waits for the chip is over.
    #[error(
        "the PIN that waits for the chip is over, but the clock was set lately and is not believed \
         yet (clock_settle_seconds): try again later, or set the PIN"
    )]
    ClockNotSettled,
    /// A field is not what it may be.
    #[error("{name}: expected {expected}")]
    Field {
        /// Its name.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// The same of a parameter of the call.
    #[error("{name}: expected {expected}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// Fields that cannot stand together, or one that is missing.
    #[error("expected {0}")]
    Fields(&'static str),
    /// Settings of a product that cannot be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Settings(Vec<WrongSetting>),
    /// A product that a release before or after this one has written.
    #[error("the product {0} cannot be read by this release")]
    ProductUnreadable(String),
    /// What stands in the configuration is changed there.
    #[error("the product is managed by the configuration file: change it there")]
    ProductOfFile,
    /// The configuration has a product that the issuer has made by another door.
    #[error(
        "there is such a product already, which was made by `product set`: give one another name"
    )]
    ProductOfApi,
    /// Somebody else has changed it since it was read.
    #[error("the product has changed since it was read")]
    ProductChanged,
    /// No user has this token.
    #[error("there is no user with this token")]
    NoSuchUser,
    /// The product's cards are not created one by one.
    #[error("the product does not allow the creation of cards (allow_card_creation)")]
    CardCreationNotAllowed,
    /// No PAN of the product's BINs was free.
    #[error("no free PAN was found in the BINs of the product")]
    BinsUsedUp,
    /// The card has had as many plastics as there are sequence numbers.
    #[error("the card has had 99 plastics, and no PAN sequence number is left")]
    SequencesUsedUp,
    /// No transaction has this token, or it is kept no more.
    #[error("there is no transaction with this token, or it is kept no more")]
    NoSuchTransaction,
    /// No transition has this token, or it is kept no more.
    #[error("there is no transition with this token, or it is kept no more")]
    NoSuchTransition,
    /// The holder of the card is not active.
    #[error("the cardholder is not active")]
    UserNotActive,
    /// The card is in the state already that it was to go to.
    #[error("the card is ACTIVE already")]
    AlreadyActive,
    /// A `pin_status` that does not follow the one that is there.
    #[error("pin_status goes from W to D only, and to S by a PIN that is set")]
    PinStatusMoved,
    /// It has another version than the caller has read.
    #[error("it has changed since it was read")]
    VersionChanged,
    /// The token stands for something that was made with another payload.
    #[error("token: it is there already, and was made with another payload")]
    OtherPayload,
    /// An Idempotency-Key that came with another call before.
    #[error("the Idempotency-Key came with another call before: a new call has a new key")]
    OtherCall,
    /// A simulated payment with a chip that came before, of which nobody knows what became of it.
    #[error(
        "the call came before with this Idempotency-Key, and nobody knows what became of its chip: \
         see the transactions of the card"
    )]
    ChipOutcomeUnknown,
    /// The call with this Idempotency-Key is not done yet.
    #[error("the call with this Idempotency-Key is not done yet: ask again later")]
    CallUnderWay,
    /// No API key has this token.
    #[error("there is no such API key")]
    NoSuchApiKey,
    /// Another API key has this token.
    #[error("token: there is such an API key already")]
    ApiKeyTaken,
    /// A document that a release before or after this one has written.
    #[error("the {0} cannot be read by this release")]
    DocumentUnreadable(&'static str),
    /// A setting that must not change under cards.
    #[error("{0}: the product has cards, under which it must not change")]
    ProductHasCards(&'static str),
    /// A key that a product names.
    #[error(transparent)]
    KeyMissing(#[from] MissingKey),
    /// A document cannot be sealed.
    #[error("a document cannot be sealed: {0}")]
    Sealing(KeyFault),
    /// The HSM did not take the PIN over.
    #[error(transparent)]
    Pin(#[from] AcceptPinError),
    /// The card was changed by somebody else each time.
    #[error("the card is changing all the time; try again")]
    Busy,
    /// The cryptogram of chip data cannot be checked, and why.
    #[error("{0}")]
    Cryptogram(Note),
    /// Calculations are shown under public test keys only.
    #[error("the issuer master key is no public test key")]
    KeyIsSecret,
    /// A key that is still needed.
    #[error("{cards} cards have a PIN reference under the key {kcv}")]
    KeyInUse {
        /// How many cards need it.
        cards: usize,
        /// Its check value.
        kcv: Kcv,
    },
    /// The key directory cannot be taken into use.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A stored PAN does not open: it was altered, or belongs to another store.
    #[error("the PAN of the card: {0}")]
    SealedPan(KeyFault),
    /// What a reader of events cannot have had, or one reader too many.
    #[error(transparent)]
    Reader(ReaderError),
    /// A PIN that is too easy to guess.
    #[error("the PIN is too easy to guess: take another one")]
    WeakPin,
    /// A control token that was not made here, or for something else.
    #[error("the control token is none, or is not for this")]
    ControlInvalid,
    /// A control token whose time is over.
    #[error("the time of the control token is over")]
    ControlExpired,
    /// A control token that was used up, or ended by a newer one.
    #[error("the control token was used, or a newer one has ended it")]
    ControlUsed,
    /// A PIN that nobody may see: its product keeps none, or none was set since it does.
    #[error("the card has no PIN that can be shown")]
    NoViewablePin,
    /// The state of the card does not allow that its PIN is shown.
    #[error("the PIN is shown of a card that is ACTIVE, or SUSPENDED for 01, 02, 13 or 22, only")]
    PinNotShown,
    /// Too many calls about the PIN of one card.
    #[error("there are too many calls about the PIN of this card")]
    TooManyPinCalls {
        /// After which there may be another one.
        seconds: u64,
    },
    /// A plastic that was produced already.
    #[error("the plastic was produced already")]
    PlasticProduced,
    /// A plastic whose chip cannot be played, and what to do about it.
    #[error("there is no virtual chip for this card: {0}")]
    NoVirtualChip(&'static str),
    /// A chip that another simulation plays.
    #[error("the virtual chip is in another terminal: try again")]
    ChipInUse,
    /// A simulated transaction that nothing came of: too late, or too many others wait.
    #[error("the transaction was not decided, or not in time")]
    NotDecided,
    /// A limit of what the store keeps is reached.
    #[error(transparent)]
    Limit(#[from] Limit),
    /// The store is not available, or has failed: then nobody knows whether the change was kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<NotDone> for Refused {
    fn from(not_done: NotDone) -> Refused {
        match not_done {
            NotDone::Taken(taken) => Refused::Taken(taken),
            NotDone::Gone => Refused::NoSuchCard,
            NotDone::Changed(_) => Refused::Busy,
            NotDone::Limit(limit) => Refused::Limit(limit),
        }
    }
}

impl From<ReaderError> for Refused {
    fn from(error: ReaderError) -> Refused {
        match error {
            ReaderError::Store(error) => Refused::Store(error),
            error => Refused::Reader(error),
        }
    }
}

impl From<CommitError> for Refused {
    fn from(error: CommitError) -> Refused {
        match error {
            CommitError::Changed(Changed::Card | Changed::Original) => Refused::Busy,
            CommitError::Changed(Changed::Document(..)) => Refused::ProductChanged,
            CommitError::Limit(limit) => Refused::Limit(limit),
            CommitError::Store(error) => Refused::Store(error),
        }
    }
}

/// The name of a refusal: what programs compare. The names are part of every door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// [`Refused::NoSuchCard`].
    NoSuchCard,
    /// [`Refused::NoSuchProduct`].
    NoSuchProduct,
    /// Another card has the PAN.
    PanTaken,
    /// [`Refused::NoSuchTransaction`].
    NoSuchTransaction,
    /// [`Refused::NoSuchTransition`].
    NoSuchTransition,
    /// [`Refused::UserNotActive`].
    UserNotActive,
    /// [`Refused::AlreadyActive`].
    AlreadyActive,
    /// [`Refused::CardCreationNotAllowed`].
    CardCreationNotAllowed,
    /// [`Refused::BinsUsedUp`].
    BinsUsedUp,
    /// [`Refused::SequencesUsedUp`].
    SequencesUsedUp,
    /// [`Refused::PinStatusMoved`].
    PinStatusNotAllowed,
    /// Another card has the token, or [`Refused::OtherPayload`].
    TokenTaken,
    /// [`Refused::CardTerminated`], and a transition of such a card.
    CardTerminated,
    /// [`Refused::Transition`], whatever the reason code is.
    TransitionNotAllowed,
    /// [`Refused::Transition`], with this reason code.
    ReasonCodeNotAllowed,
    /// [`Refused::ChipHoldsNoPin`].
    ChipHoldsNoPin,
    /// [`Refused::ClockNotSettled`].
    ClockNotSettled,
    /// [`Refused::Field`], [`Refused::Parameter`] and [`Refused::Fields`].
    InvalidField,
    /// [`Refused::Settings`].
    InvalidSettings,
    /// [`Refused::ProductUnreadable`].
    ProductUnreadable,
    /// [`Refused::ProductOfFile`].
    ProductOfFile,
    /// [`Refused::ProductOfApi`].
    ProductOfApi,
    /// [`Refused::ProductChanged`].
    ProductChanged,
    /// [`Refused::NoSuchUser`].
    NoSuchUser,
    /// [`Refused::VersionChanged`].
    VersionChanged,
    /// [`Refused::OtherCall`].
    IdempotencyKeyReused,
    /// [`Refused::CallUnderWay`].
    CallUnderWay,
    /// [`Refused::ChipOutcomeUnknown`].
    ChipOutcomeUnknown,
    /// [`Refused::NoSuchApiKey`].
    NoSuchApiKey,
    /// [`Refused::ApiKeyTaken`].
    ApiKeyTaken,
    /// [`Refused::DocumentUnreadable`].
    DocumentUnreadable,
    /// [`Refused::ProductHasCards`].
    ProductHasCards,
    /// [`Refused::KeyMissing`].
    KeyMissing,
    /// [`Refused::Sealing`].
    Sealing,
    /// [`Refused::Pin`], but for an HSM that gives no answer.
    PinNotAccepted,
    /// The HSM gives no answer.
    HsmUnavailable,
    /// [`Refused::Busy`].
    Busy,
    /// [`Refused::Cryptogram`].
    CryptogramNotChecked,
    /// [`Refused::KeyIsSecret`].
    KeyIsSecret,
    /// [`Refused::KeyInUse`].
    KeyInUse,
    /// [`Refused::Keys`].
    KeysNotUsable,
    /// [`Refused::SealedPan`].
    SealedPan,
    /// [`Refused::Reader`].
    ReaderRefused,
    /// [`Refused::WeakPin`].
    WeakPin,
    /// [`Refused::ControlInvalid`].
    ControlInvalid,
    /// [`Refused::ControlExpired`].
    ControlExpired,
    /// [`Refused::ControlUsed`].
    ControlUsed,
    /// [`Refused::NoViewablePin`].
    NoViewablePin,
    /// [`Refused::PinNotShown`].
    PinNotShown,
    /// [`Refused::TooManyPinCalls`].
    TooManyPinCalls,
    /// [`Refused::PlasticProduced`].
    PlasticProduced,
    /// [`Refused::NoVirtualChip`].
    NoVirtualChip,
    /// [`Refused::ChipInUse`].
    ChipInUse,
    /// [`Refused::NotDecided`].
    NotDecided,
    /// [`Refused::Limit`] of the answers to Idempotency-Keys.
    TooManyKeys,
    /// Any other [`Refused::Limit`].
    LimitReached,
    /// The store is not available now: nothing has changed.
    StoreUnavailable,
    /// The store has failed: nobody knows whether the change was kept.
    StoreFailed,
}

impl Refused {
    /// Its name.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Refused::NoSuchCard => Code::NoSuchCard,
            Refused::NoSuchProduct => Code::NoSuchProduct,
            Refused::Taken(Taken::Pan) => Code::PanTaken,
            Refused::Taken(Taken::Token) | Refused::OtherPayload => Code::TokenTaken,
            Refused::CardTerminated
            | Refused::Transition(NotAllowed { why: Forbidden::Final, .. }) => Code::CardTerminated,
            Refused::Transition(NotAllowed { why: Forbidden::ReasonCode(_), .. }) => {
                Code::ReasonCodeNotAllowed
            }
            Refused::Transition(NotAllowed {
                why: Forbidden::NoWayBack | Forbidden::NotActivatedYet | Forbidden::Channel(_),
                ..
            }) => Code::TransitionNotAllowed,
            Refused::ChipHoldsNoPin => Code::ChipHoldsNoPin,
            Refused::ClockNotSettled => Code::ClockNotSettled,
            Refused::Field { .. } | Refused::Parameter { .. } | Refused::Fields(_) => {
                Code::InvalidField
            }
            Refused::Settings(_) => Code::InvalidSettings,
            Refused::ProductUnreadable(_) => Code::ProductUnreadable,
            Refused::ProductOfFile => Code::ProductOfFile,
            Refused::ProductOfApi => Code::ProductOfApi,
            Refused::ProductChanged => Code::ProductChanged,
            Refused::NoSuchUser => Code::NoSuchUser,
            Refused::CardCreationNotAllowed => Code::CardCreationNotAllowed,
            Refused::BinsUsedUp => Code::BinsUsedUp,
            Refused::NoSuchTransition => Code::NoSuchTransition,
            Refused::NoSuchTransaction => Code::NoSuchTransaction,
            Refused::AlreadyActive => Code::AlreadyActive,
            Refused::UserNotActive => Code::UserNotActive,
            Refused::SequencesUsedUp => Code::SequencesUsedUp,
            Refused::PinStatusMoved => Code::PinStatusNotAllowed,
            Refused::VersionChanged => Code::VersionChanged,
            Refused::OtherCall => Code::IdempotencyKeyReused,
            Refused::CallUnderWay => Code::CallUnderWay,
            Refused::ChipOutcomeUnknown => Code::ChipOutcomeUnknown,
            Refused::NoSuchApiKey => Code::NoSuchApiKey,
            Refused::ApiKeyTaken => Code::ApiKeyTaken,
            Refused::DocumentUnreadable(_) => Code::DocumentUnreadable,
            Refused::ProductHasCards(_) => Code::ProductHasCards,
            Refused::KeyMissing(_) => Code::KeyMissing,
            Refused::Sealing(_) => Code::Sealing,
            Refused::Pin(error) => of_pin(error),
            Refused::Busy => Code::Busy,
            Refused::Cryptogram(_) => Code::CryptogramNotChecked,
            Refused::KeyIsSecret => Code::KeyIsSecret,
            Refused::KeyInUse { .. } => Code::KeyInUse,
            Refused::Keys(_) => Code::KeysNotUsable,
            Refused::SealedPan(_) => Code::SealedPan,
            Refused::Reader(_) => Code::ReaderRefused,
            Refused::WeakPin => Code::WeakPin,
            Refused::ControlInvalid => Code::ControlInvalid,
            Refused::ControlExpired => Code::ControlExpired,
            Refused::ControlUsed => Code::ControlUsed,
            Refused::NoViewablePin => Code::NoViewablePin,
            Refused::PinNotShown => Code::PinNotShown,
            Refused::TooManyPinCalls { .. } => Code::TooManyPinCalls,
            Refused::PlasticProduced => Code::PlasticProduced,
            Refused::NoVirtualChip(_) => Code::NoVirtualChip,
            Refused::ChipInUse => Code::ChipInUse,
            Refused::NotDecided => Code::NotDecided,
            Refused::Limit(Limit::Answers) => Code::TooManyKeys,
            Refused::Limit(_) => Code::LimitReached,
            Refused::Store(StoreError::Unavailable(_)) => Code::StoreUnavailable,
            Refused::Store(StoreError::Failed(_)) => Code::StoreFailed,
        }
    }
}

const fn of_pin(error: &AcceptPinError) -> Code {
    match error {
        AcceptPinError::Unavailable => Code::HsmUnavailable,
        AcceptPinError::Weak => Code::WeakPin,
        AcceptPinError::PanTooShort
        | AcceptPinError::OtherMethod
        | AcceptPinError::Key(_)
        | AcceptPinError::Unusable => Code::PinNotAccepted,
    }
}
