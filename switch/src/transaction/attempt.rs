//! A request on its way through the script.

use std::time::Duration;

use iso_specs::Decoded;

use super::verify::Known;
use crate::authorization::{FormatError, Request, Route};
use crate::cards::CardKey;
use crate::frame::Frame;
use crate::session::Session;
use crate::store::record::{RecordId, RequestIdentity};
use crate::store::{Named, Reversal, StoreError};
use crate::switch::{Seams, Switch};

/// A message as it was received.
pub(super) struct Received<'a> {
    pub(super) session: &'a Session,
    pub(super) frame: &'a Frame,
    pub(super) decoded: &'a Decoded<'a>,
    /// When its frame was read, on the monotonic clock.
    pub(super) arrived: Duration,
}

/// A request being answered, and what earlier rounds have found out.
pub(super) struct Attempt<'a> {
    pub(super) session: &'a Session,
    pub(super) route: Route,
    pub(super) request: Request,
    /// When its frame was read, on the monotonic clock.
    pub(super) arrived: Duration,
    /// Key and body are those of the request as it came, whatever is found out about the rest, so
    /// that repeats have the same.
    pub(super) identity: RequestIdentity<'a>,
    /// Of a reversal that left something to it, the original that was found.
    pub(super) original: Option<Named>,
    /// Of a reversal, the record up to which nothing is the original.
    pub(super) searched: RecordId,
    pub(super) known: Known,
}

impl Attempt<'_> {
    /// Whether DE3 of a request is served on its link. What was decided elsewhere is acknowledged,
    /// whatever it was.
    pub(super) fn is_served(&self) -> bool {
        let code = self.request.processing_code;
        self.route != Route::Authorization
            || code.is_supported()
            || self.request.pin_change.is_some()
            || code.is_balance_inquiry() && self.session.link.approves_balance_inquiry
    }

    /// The number that DE38 of an approval is made of: the same for the same request. What is
    /// acknowledged has no DE38.
    pub(super) fn approval_number(&self) -> Option<u128> {
        let key = self.identity.key;
        let number = key.digest ^ u128::from(key.rrn) ^ u128::from(key.kind.to_byte()) << 32;
        Some(number).filter(|_| self.route == Route::Authorization)
    }

    /// Notes how far a reversal has looked for its original, for the next round.
    pub(super) fn note_searched(&mut self, reversal: Option<&Reversal>) {
        if let Some(Reversal::InPart(in_part)) = reversal {
            self.searched = RecordId(in_part.searched);
        }
    }
}

impl<W: Seams> Switch<W> {
    /// Reads a message.
    ///
    /// # Errors
    /// The data element that is missing or wrong.
    pub(super) fn attempt<'a>(
        &self,
        received: &Received<'a>,
        route: Route,
    ) -> Result<Attempt<'a>, FormatError> {
        let Received { session, decoded, arrived, .. } = *received;
        let request = Request::parse(decoded)?;
        let network = &session.link.network;
        let card = request.pan.as_ref().map_or(CardKey::NONE, |pan| self.vault.card_key(pan));
        let key = self.duplicates.key(network, &card, &request);
        let body = self.duplicates.body(&request);
        Ok(Attempt {
            session,
            route,
            request,
            arrived,
            identity: RequestIdentity { network, card, key, body },
            original: None,
            searched: RecordId::NONE,
            known: Known::default(),
        })
    }
}

/// Why a request is not decided.
pub(super) enum NotDecided {
    /// What a reversal says of its original fits more than one request: none is reversed. Or it
    /// fits none that is known, and could not be refused if it still came.
    Original(FormatError),
    /// The store has failed.
    Failed(StoreError),
}

impl From<StoreError> for NotDecided {
    fn from(failed: StoreError) -> NotDecided {
        NotDecided::Failed(failed)
    }
}
