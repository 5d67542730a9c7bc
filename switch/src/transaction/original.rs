//! The step of a reversal that finds its original.

use crate::authorization::request::ProcessingCode;
use crate::authorization::{Request, Route};
use crate::cards::CardKey;
use crate::clock::Clock;
use crate::hsm::Hsm;
use crate::store::duplicates::{Sought, institution};
use crate::store::record::TransactionRecord;
use crate::store::{DuplicateKey, Found, Named, Original, Reversal, Store, StoreFailed};
use crate::switch::{Session, Switch};

/// Why a request is not decided.
pub(super) enum Refused {
    /// What a reversal says fits more than one request: none is reversed. Or it fits none that is
    /// known, and too many that could still come.
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
        let all = self.duplicates.sought(request, card);
        let Some(found) = self.found(&session.link.network, &all).await? else { return Ok(()) };
        if lacks_all {
            let Some(card) = self.store.load(&found.card).await? else { return Ok(()) };
            let identity = &card.entry.identity;
            request.pan = self.vault.open(&identity.key, &identity.sealed_pan).ok();
        }
        request.processing_code = ProcessingCode(found.processing_code);
        request.amount = found.amount;
        Ok(())
    }

    /// The answered request that a reversal speaks of.
    async fn found(
        &self,
        network: &str,
        all: &[Sought],
    ) -> Result<Option<Box<TransactionRecord>>, Refused> {
        for sought in all {
            match self.store.find(network, sought).await? {
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
        let all = self.duplicates.sought(request, request.pan.as_ref().map(|_| *card));
        let Some(likeliest) = all.first() else { return Err(Refused::Original) };
        if let Some(named) = self.duplicates.named(network, likeliest) {
            let is_known = self.store.knows(network, named).await?;
            if is_known || !institution(&likeliest.acquirer).is_empty() {
                return Ok(Some(Reversal { named, is_known }));
            }
        }
        if let Some(found) = self.found(network, &all).await? {
            let DuplicateKey { digest, trace, kind, rrn } = found.duplicate_key;
            // Where DE37 counts, it is this one's, which may have none.
            let rrn = likeliest.rrn.and(Some(rrn)).filter(|rrn| *rrn != 0);
            let original = Original { digest, kind: Some(kind), rrn };
            let named = Named { original, trace, is_whole: true };
            // It may have been dropped from the index since.
            return Ok(Some(Reversal { named, is_known: self.store.knows(network, named).await? }));
        }
        // What cannot be forbidden, should it still come, is not acknowledged.
        let named = self.duplicates.named_in_part(network, likeliest).ok_or(Refused::Original)?;
        Ok(Some(Reversal { named, is_known: false }))
    }
}
