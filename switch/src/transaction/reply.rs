//! The last step: the answer as a frame, if it is not too late.

use iso_specs::{ElementSet, Mti};

use super::attempt::{NotDecided, Received};
use crate::authorization::response::{self, Response};
use crate::authorization::{Answer, FormatError, Reason, trusted};
use crate::clock::Clock;
use crate::frame;
use crate::session::Session;
use crate::store::StoreError;
use crate::store::record::RecordId;
use crate::switch::{Seams, Switch};

/// Room for a usual reply, in bytes.
const REPLY_BYTES: usize = 256;

/// A reply on its way out.
pub struct Reply {
    /// Its bytes on the wire.
    pub frame: Vec<u8>,
    /// Whether it speaks of records that may still be in memory, and leaves when they are written.
    pub rests_on_store: bool,
}

/// What became of one message.
pub struct Responded {
    /// Its message type.
    pub mti: Mti,
    /// What it was answered; `None` where no answer is sent.
    pub reason: Option<Reason>,
    /// The answer.
    pub reply: Option<Reply>,
    /// The record of its decision, if there is one.
    pub record: Option<RecordId>,
}

impl Responded {
    /// Nothing is answered.
    pub(super) const fn unanswered(received: &Received<'_>) -> Responded {
        Responded { mti: received.decoded.message.mti(), reason: None, reply: None, record: None }
    }
}

/// What is answered to one message.
pub(super) struct Answered {
    pub(super) answer: Answer,
    pub(super) fault: Option<FormatError>,
    /// What the chip is told.
    pub(super) de55: Option<Vec<u8>>,
    /// Whether it was answered before.
    pub(super) is_repeat: bool,
    /// Of a reversal, whether its original is known.
    pub(super) original: Option<bool>,
    /// The record of its decision, if there is one.
    pub(super) record: Option<RecordId>,
    pub(super) rests_on_store: bool,
}

impl Answered {
    /// Decided now and committed.
    pub(super) const fn decided(answer: Answer) -> Answered {
        let (fault, de55, original, record) = (None, None, None, None);
        let (is_repeat, rests_on_store) = (false, true);
        Answered { answer, fault, de55, is_repeat, original, record, rests_on_store }
    }

    /// From the store, without an answer of its own.
    pub(super) const fn kept(reason: Reason) -> Answered {
        Answered::decided(Answer::new(reason))
    }

    /// From the store, once more.
    pub(super) fn again(answer: Answer, de55: Option<Vec<u8>>) -> Answered {
        Answered { de55, is_repeat: true, ..Answered::decided(answer) }
    }

    /// Without the store.
    pub(super) fn of(reason: Reason) -> Answered {
        Answered { rests_on_store: false, ..Answered::kept(reason) }
    }

    pub(super) fn malformed(fault: FormatError) -> Answered {
        Answered { fault: Some(fault), ..Answered::of(Reason::FormatError) }
    }

    /// Too many requests wait for HSM or store.
    pub(super) fn overloaded(session: &Session) -> Answered {
        session.metrics.overloaded();
        Answered::of(Reason::Unavailable)
    }
}

impl From<NotDecided> for Answered {
    fn from(why: NotDecided) -> Answered {
        match why {
            NotDecided::Original(fault) => Answered::malformed(fault),
            // The store says itself why it failed, once; here it is one more 9907.
            NotDecided::Failed(StoreError::Unavailable(_) | StoreError::Failed(_)) => {
                Answered::of(Reason::Unavailable)
            }
        }
    }
}

impl<W: Seams> Switch<W> {
    /// The reply to a message, counted and logged. One that is too late is not sent: the network
    /// has given the request up by then, and may have taken it back.
    pub(super) fn reply(&self, received: &Received<'_>, answered: &Answered) -> Responded {
        let Received { frame, decoded, arrived, .. } = received;
        let trusted = trusted(decoded, &frame.message);
        // The dialect was checked at start, so there is a reply.
        let Some(frame) = encode(received, trusted, answered) else {
            return Responded::unanswered(received);
        };
        let took = self.clock.monotonic().saturating_sub(*arrived);
        self.account(received, answered, trusted, took);
        if self.is_late(took) {
            return Responded::unanswered(received);
        }
        let Answered { answer, record, rests_on_store, .. } = *answered;
        Responded {
            mti: decoded.message.mti(),
            reason: Some(answer.reason),
            reply: Some(Reply { frame, rests_on_store }),
            record,
        }
    }
}

fn encode(received: &Received<'_>, trusted: ElementSet, answered: &Answered) -> Option<Vec<u8>> {
    let Received { session, frame, decoded, .. } = received;
    let Answered { answer, fault, .. } = *answered;
    let response = Response { answer, fault, de55: answered.de55.as_deref() };
    let mut reply = Vec::with_capacity(REPLY_BYTES);
    let written = frame::append(&mut reply, session.link.frames, &frame.header, |out| {
        response::encode(&decoded.message, trusted, response, out)
    });
    let link = &*session.link.name;
    match written {
        Ok(Some(())) => Some(reply),
        Ok(None) => {
            let text = "a reply is longer than the framing can say";
            tracing::error!(target: "transaction", link, text);
            None
        }
        Err(error) => {
            tracing::error!(target: "transaction", link, %error, "a reply cannot be encoded");
            None
        }
    }
}
