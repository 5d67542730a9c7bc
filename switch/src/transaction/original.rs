//! The step of a reversal that finds its original.

use super::Attempt;
use crate::authorization::request::ProcessingCode;
use crate::authorization::reversal::institution;
use crate::authorization::{Request, Route};
use crate::cards::CardKey;
use crate::session::Session;
use crate::store::record::{RecordId, RequestIdentity, TransactionRecord};
use crate::store::{
    DuplicateKey, Found, InPart, Named, Original, Reversal, Sought, Store, StoreError,
};
use crate::switch::{Seams, Switch};

/// Why a request is not decided.
pub(super) enum Refused {
    /// What a reversal says fits more than one request: none is reversed. Or it fits none that is
    /// known, and could not be refused if it still came.
    Original,
    /// The store has failed.
    Failed(StoreError),
}

impl From<StoreError> for Refused {
    fn from(failed: StoreError) -> Refused {
        Refused::Failed(failed)
    }
}

impl<W: Seams> Switch<W> {
    /// A reversal may leave PAN, DE3, DE4 and DE49 to its original, which DE90 names; which one
    /// that is, and of which card.
    pub(super) async fn complete(
        &self,
        session: &Session,
        route: Route,
        (request, card): (&mut Request, CardKey),
    ) -> Result<Option<(Named, CardKey)>, Refused> {
        let lacks_all = request.pan.is_none();
        let is_complete = !lacks_all && request.amount.currency != 0;
        if route != Route::Reversal || request.original.is_empty() || is_complete {
            return Ok(None);
        }
        let all = Sought::all(request, Some(card).filter(|_| !lacks_all));
        let found = self.found(&session.link.network, &all, RecordId::NONE).await?;
        let Ok(found) = found else { return Ok(None) };
        if lacks_all {
            let Some(card) = self.store.load(&found.card).await? else { return Ok(None) };
            let identity = &card.entry.identity;
            request.pan = self.vault.open(&identity.key, &identity.sealed_pan).ok();
        }
        request.processing_code = ProcessingCode(found.processing_code);
        request.amount = found.amount;
        Ok(Some((named(&found, false), found.card)))
    }

    /// The answered request that a reversal speaks of; where there is none, the newest record
    /// when the search began.
    async fn found(
        &self,
        network: &str,
        all: &[Sought],
        after: RecordId,
    ) -> Result<Result<Box<TransactionRecord>, RecordId>, Refused> {
        let mut searched = None;
        for sought in all {
            match self.store.find(network, (sought, after)).await? {
                Found::One(found) => return Ok(Ok(found)),
                Found::Several => return Err(Refused::Original),
                Found::Nothing(newest) => searched = searched.or(Some(newest)),
            }
        }
        searched.map(Err).ok_or(Refused::Original)
    }

    /// What a reversal takes back, once the original is answered; `None` for other requests.
    pub(super) async fn original(
        &self,
        attempt: &Attempt<'_>,
    ) -> Result<Option<Reversal>, Refused> {
        let Attempt {
            route, request, place: RequestIdentity { network, card, .. }, original, ..
        } = attempt;
        if *route != Route::Reversal {
            return Ok(None);
        }
        let all = Sought::all(request, request.pan.as_ref().map(|_| *card));
        let Some(likeliest) = all.first() else { return Err(Refused::Original) };
        let whole = original.or_else(|| self.duplicates.named(network, likeliest));
        if let Some(named) = whole {
            let is_known = self.store.knows(network, named).await?;
            let is_exact = all.len() == 1 && !institution(&likeliest.acquirer).is_empty();
            if is_known || is_exact || original.is_some() {
                return Ok(Some(Reversal::Whole(named, is_known)));
            }
        }
        match self.found(network, &all, attempt.searched).await? {
            Ok(found) => {
                let named = named(&found, likeliest.rrn.is_some());
                // It may have been dropped from the index since.
                let is_known = self.store.knows(network, named).await?;
                Ok(Some(Reversal::Whole(named, is_known)))
            }
            // Of two meanings, only the one that is found is right.
            Err(_) if all.len() > 1 => Err(Refused::Original),
            Err(RecordId(searched)) => {
                let original = self.duplicates.named_in_part(network, likeliest);
                let original = original.ok_or(Refused::Original)?;
                Ok(Some(Reversal::InPart(InPart { original, sought: *likeliest, searched })))
            }
        }
    }
}

/// What reverses a transaction, and whatever else has its key; DE37 too, where it counts.
fn named(found: &TransactionRecord, by_rrn: bool) -> Named {
    let DuplicateKey { digest, trace, kind, rrn } = found.duplicate_key;
    let rrn = Some(rrn).filter(|rrn| by_rrn && *rrn != 0);
    Named { original: Original { digest, kind: Some(kind), rrn }, trace }
}
