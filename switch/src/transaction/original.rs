//! The steps of a reversal that find its original.

use super::attempt::{Attempt, NotDecided};
use crate::authorization::Route;
use crate::authorization::request::ProcessingCode;
use crate::authorization::reversal::institution;
use crate::store::record::{Place, RecordId, TransactionRecord};
use crate::store::{DuplicateKey, Found, InPart, Named, Original, Reversal, Sought, Store};
use crate::switch::{Seams, Switch};

impl<W: Seams> Switch<W> {
    /// A reversal may leave PAN, DE3, DE4 and DE49 to its original, which DE90 names: they are
    /// those of the original then, if that is known.
    pub(super) async fn complete(&self, work: &mut Attempt<'_>) -> Result<(), NotDecided> {
        let Attempt { route, request, place, .. } = work;
        let lacks_all = request.pan.is_none();
        let is_complete = !lacks_all && request.amount.currency != 0;
        if *route != Route::Reversal || request.original.is_empty() || is_complete {
            return Ok(());
        }
        let all = Sought::all(request, Some(place.card).filter(|_| !lacks_all));
        let found = self.found(place.network, &all, RecordId::NONE).await?;
        let Ok(found) = found else { return Ok(()) };
        if lacks_all {
            let Some(card) = self.store.load(&found.card).await? else { return Ok(()) };
            let identity = &card.entry.identity;
            request.pan = self.vault.open(&identity.key, &identity.sealed_pan).ok();
        }
        request.processing_code = ProcessingCode(found.processing_code);
        request.amount = found.amount;
        place.card = found.card;
        work.original = Some(named(&found, false));
        Ok(())
    }

    /// The answered request that a reversal speaks of; where there is none, the newest record
    /// when the search began.
    async fn found(
        &self,
        network: &str,
        all: &[Sought],
        after: RecordId,
    ) -> Result<Result<Box<TransactionRecord>, RecordId>, NotDecided> {
        let mut searched = None;
        for sought in all {
            match self.store.find(network, (sought, after)).await? {
                Found::One(found) => return Ok(Ok(found)),
                Found::Several => return Err(NotDecided::Original),
                Found::Nothing(newest) => searched = searched.or(Some(newest)),
            }
        }
        searched.map(Err).ok_or(NotDecided::Original)
    }

    /// What a reversal takes back, once the original is answered.
    pub(super) async fn original_of(&self, work: &Attempt<'_>) -> Result<Reversal, NotDecided> {
        let Attempt { request, place: Place { network, card, .. }, original, .. } = work;
        let all = Sought::all(request, request.pan.as_ref().map(|_| *card));
        let Some(likeliest) = all.first() else { return Err(NotDecided::Original) };
        let whole = original.or_else(|| self.duplicates.named(network, likeliest));
        if let Some(named) = whole {
            let is_known = self.store.knows(network, named).await?;
            let is_exact = all.len() == 1 && !institution(&likeliest.acquirer).is_empty();
            if is_known || is_exact || original.is_some() {
                return Ok(Reversal::Whole(named, is_known));
            }
        }
        match self.found(network, &all, work.searched).await? {
            Ok(found) => {
                let named = named(&found, likeliest.rrn.is_some());
                // It may have been dropped from the index since.
                let is_known = self.store.knows(network, named).await?;
                Ok(Reversal::Whole(named, is_known))
            }
            // Of two meanings, only the one that is found is right.
            Err(_) if all.len() > 1 => Err(NotDecided::Original),
            Err(RecordId(searched)) => {
                let original = self.duplicates.named_in_part(network, likeliest);
                let original = original.ok_or(NotDecided::Original)?;
                Ok(Reversal::InPart(InPart { original, sought: *likeliest, searched }))
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
