//! The decision: what is answered, and what changes with it. Its trail tells why, and nothing is
//! ever decided by it.

use super::cryptogram::{CryptogramCheck, VerifiedCryptogram};
use super::pin;
use super::response_code::Reason;
use super::trail::{Finding, Note, Trail};
use crate::cards::card::CardState;
use crate::cards::chip_state::{ChangeKind, Chip, ChipSync, ScriptId};
use crate::cards::plastic::CardStatus;
use crate::clock::Timestamp;
use crate::hsm::emv::IssuerAnswer;
use crate::hsm::{AcceptPinError, AcceptedPin};
use crate::outcome::{CryptogramOutcome, PinOutcome};

/// What a decision rests on besides request, card, product and what the HSM said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// The civil time.
    pub now: Timestamp,
    /// Whether the card has had its number of unusable PIN blocks for this minute on this link.
    pub bad_pin_blocks_exhausted: bool,
    /// Digest by which a reversal will know the transaction.
    pub transaction: u128,
}

/// What the HSM said; nothing where nothing was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Of the PIN.
    pub pin: Option<PinOutcome>,
    /// Of the cryptogram.
    pub cryptogram: Option<VerifiedCryptogram>,
    /// Of the PIN that is to be the card's from now on; boxed, since hardly a request has one.
    pub new_pin: Option<Box<Result<AcceptedPin, AcceptPinError>>>,
}

/// What came of the cryptogram of a request. What the HSM said of the PIN is kept only where the
/// cryptogram was not refused: a record that told it otherwise would tell who has no card whether
/// a PIN was right, by a try that no counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cryptogram {
    /// None was verified.
    None {
        /// What the HSM said of the PIN.
        pin: Option<PinOutcome>,
    },
    /// It is right, and its counter is new.
    Accepted {
        /// What the HSM said of the PIN.
        pin: Option<PinOutcome>,
    },
    /// It is wrong, or nobody knows whether it is right, or it is right and its counter is not new.
    Refused(CryptogramOutcome),
}

impl Cryptogram {
    /// What the HSM said of the PIN.
    #[must_use]
    pub const fn pin(self) -> Option<PinOutcome> {
        match self {
            Cryptogram::None { pin } | Cryptogram::Accepted { pin } => pin,
            Cryptogram::Refused(_) => None,
        }
    }

    /// What the HSM said of the cryptogram.
    #[must_use]
    pub const fn outcome(self) -> Option<CryptogramOutcome> {
        match self {
            Cryptogram::None { .. } => None,
            Cryptogram::Accepted { .. } => Some(CryptogramOutcome::Right),
            Cryptogram::Refused(outcome) => Some(outcome),
        }
    }
}

/// Why an approval did without the offline PIN that it needed: a change of the PIN waits for the
/// chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// The chip does not know the new PIN yet, and FTPAM and FTPDY hold.
    PinNotOnChip,
    /// The chip has no PIN try left, and the product approves such chips.
    NoTryLeft,
}

/// A decision. The change of the card and the event happen only if it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is answered.
    pub reason: Reason,
    /// What came of the cryptogram, and of the PIN.
    pub cryptogram: Cryptogram,
    /// Set where an approval did without an offline PIN.
    pub bypass: Option<Bypass>,
    /// The card after it, if its PIN or its status changes.
    pub change: Option<CardState>,
    /// What is said to the chip, and what is known of it then. Boxed: it is three quarters of a
    /// decision, which most have not, and a decision goes through many hands.
    pub chip: Option<Box<ChipOutcome>>,
    pub(super) trail: Trail,
}

/// What a decision means for the chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChipOutcome {
    /// How its cryptogram was made.
    pub check: CryptogramCheck,
    /// What is known of it after the answer.
    pub after: Chip,
    /// What it is told of the decision.
    pub answer: IssuerAnswer,
    /// Whether the answer carries the script that `after` says was sent.
    pub carries_script: bool,
    /// How what is known of the chip changed. It is told only where `after` comes true.
    pub(super) notes: Trail,
}

impl ChipOutcome {
    /// The script that the answer carries: its id (9F18), and what it changes.
    #[must_use]
    pub fn script(&self) -> Option<(ScriptId, &ChangeKind)> {
        match &self.after.sync {
            ChipSync::Sent(change, sent) if self.carries_script => {
                Some((sent.script, &change.kind))
            }
            _ => {
                debug_assert!(!self.carries_script, "a script that is carried was sent");
                None
            }
        }
    }
}

impl Decision {
    /// A decision that changes nothing.
    #[must_use]
    pub fn unchanged(reason: Reason) -> Decision {
        Decision::because(reason, Trail::new())
    }

    pub(super) const fn because(reason: Reason, trail: Trail) -> Decision {
        let cryptogram = Cryptogram::None { pin: None };
        Decision { reason, cryptogram, bypass: None, change: None, chip: None, trail }
    }

    /// With one more finding.
    #[must_use]
    pub fn with(mut self, finding: Finding) -> Decision {
        self.trail.push(finding.into());
        self
    }

    /// Why, step by step: what decided, and then how what is known of the chip changed.
    pub fn trail(&self) -> impl Iterator<Item = &Note> {
        self.trail.iter().chain(self.chip.iter().flat_map(|chip| &chip.notes))
    }

    /// The same to be kept.
    #[must_use]
    pub fn whole_trail(&self) -> Trail {
        let mut trail = Trail::from_slice(&self.trail);
        self.chip.iter().for_each(|chip| trail.extend_from_slice(&chip.notes));
        trail
    }

    /// The places of the plastics of this card that it suspends because the PIN retry limit is
    /// reached.
    pub fn suspended(&self, card: &CardState) -> impl Iterator<Item = usize> {
        let after = self.change.iter().flat_map(|after| &after.plastics);
        card.plastics.iter().zip(after).enumerate().filter_map(|(place, (before, after))| {
            let is_suspended =
                after.status == CardStatus::Suspended && before.status != CardStatus::Suspended;
            debug_assert!(
                !is_suspended || after.is_suspended_for_pin_tries(),
                "no rule of authorization suspends a plastic for another reason"
            );
            is_suspended.then_some(place)
        })
    }

    /// Whether it gives the card another PIN.
    #[must_use]
    pub fn sets_pin(&self, card: &CardState) -> bool {
        self.change.as_ref().is_some_and(|after| after.pin.version != card.pin.version)
    }

    /// The decision where the HSM could not make the answer to the chip: what was found of the
    /// PIN counts, nothing is approved, no other PIN is set, and nothing is known to have been said
    /// to the chip: what was found out about it comes again with its next cryptogram.
    #[must_use]
    pub fn without_chip(self, card: &CardState) -> Decision {
        let reason = match self.reason {
            Reason::Approved => Reason::Unavailable,
            reason => reason,
        };
        let change = match self.sets_pin(card) {
            true => pin::right(card),
            false => self.change,
        };
        let decision = Decision { reason, bypass: None, change, chip: None, ..self };
        decision.with(Finding::ChipUnavailable)
    }

    /// The card after it, whatever changes; `None` where nothing does.
    #[must_use]
    pub fn after(&self, card: &CardState) -> Option<CardState> {
        let Some(chip) = &self.chip else { return self.change.clone() };
        let before = self.change.as_ref().unwrap_or(card);
        Some(before.with_chip(chip.check.plastic, chip.after.clone()))
    }
}
