//! The step of a reversal that finds its original.

use crate::authorization::request::ProcessingCode;
use crate::authorization::reversal::OriginalElements;
use crate::authorization::{Request, Route};
use crate::cards::CardKey;
use crate::clock::Clock;
use crate::hsm::Hsm;
use crate::store::record::{Sought, TransactionRecord};
use crate::store::{DuplicateKey, Found, Named, Original, Reversal, Store, StoreFailed};
use crate::switch::{Session, Switch};

/// Why a request is not decided.
pub(super) enum Refused {
    /// DE90 of a reversal fits more than one original: none is reversed.
    Original,
    /// The store has failed.
    Failed(StoreFailed),
}

impl From<StoreFailed> for Refused {
    fn from(failed: StoreFailed) -> Refused {
        Refused::Failed(failed)
    }
}

impl<C: Clock, H: Hsm, S: Store> Switch<C, H, S> {
    /// A reversal may leave PAN, DE3, DE4 and DE49 to its original, which DE90 names.
    pub(super) async fn complete(
        &self,
        session: &Session,
        request: &mut Request,
    ) -> Result<(), Refused> {
        let lacks_all = request.pan.is_none();
        if !lacks_all && request.amount.currency != 0 {
            return Ok(());
        }
        let card = request.pan.as_ref().map(|pan| self.vault.card_key(pan));
        let Some(found) = self.sought(session, card, request).await? else { return Ok(()) };
        if lacks_all {
            let Some(card) = self.store.load(&found.card).await? else { return Ok(()) };
            let identity = &card.entry.identity;
            request.pan = self.vault.open(&identity.key, &identity.sealed_pan).ok();
        }
        request.processing_code = ProcessingCode(found.processing_code);
        request.amount = found.amount;
        Ok(())
    }

    /// The answered request that DE90 of a reversal speaks of.
    async fn sought(
        &self,
        session: &Session,
        card: Option<CardKey>,
        request: &Request,
    ) -> Result<Option<Box<TransactionRecord>>, Refused> {
        for original in &request.original {
            let sought = Sought::of(original, card, &self.duplicates);
            match self.store.find(&session.link.network, &sought).await? {
                Found::One(found) => return Ok(Some(found)),
                Found::Several => return Err(Refused::Original),
                Found::Nothing => {}
            }
        }
        Ok(None)
    }

    /// What a reversal takes back, once the original is answered; `None` for other requests.
    pub(super) async fn original(
        &self,
        session: &Session,
        route: Route,
        card: &CardKey,
        request: &Request,
    ) -> Result<Option<Reversal>, Refused> {
        if route != Route::Reversal {
            return Ok(None);
        }
        let network = &session.link.network;
        let (original, trace) = self.duplicates.original(network, card, request);
        let named = Named { original, trace, has_card: request.pan.is_some() };
        let is_known = self.store.knows(network, named).await?;
        let is_exact = request.original.first().is_none_or(OriginalElements::is_exact);
        if is_known || is_exact || !named.has_card {
            return Ok(Some(Reversal { named, is_known }));
        }
        let Some(found) = self.sought(session, Some(*card), request).await? else {
            return Ok(Some(Reversal { named, is_known }));
        };
        let DuplicateKey { digest, trace, kind, .. } = found.duplicate_key;
        let original = Original { digest, kind: Some(kind), rrn: None };
        let named = Named { original, trace, has_card: true };
        // It may have been dropped from the index since.
        Ok(Some(Reversal { named, is_known: self.store.knows(network, named).await? }))
    }
}
