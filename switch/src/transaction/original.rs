//! The steps of a reversal that find its original.

use super::attempt::{Attempt, NotDecided};
use crate::authorization::FormatError;
use crate::authorization::request::ProcessingCode;
use crate::authorization::reversal::institution;
use crate::store::record::{RecordId, RequestIdentity, TransactionRecord};
use crate::store::{DuplicateKey, Found, InPart, Named, Original, Reversal, Sought, Store};
use crate::switch::{Seams, Switch};

impl<W: Seams> Switch<W> {
    /// A reversal may leave PAN, DE3, DE4 and DE49 to its original, which DE90 names: they are
    /// those of the original then, if that is known.
    pub(super) async fn complete_reversal(&self, work: &mut Attempt<'_>) -> Result<(), NotDecided> {
        let request = &work.request;
        let lacks_all = request.pan.is_none();
        let is_complete = !lacks_all && request.amount.currency != 0;
        if request.original.is_empty() || is_complete {
            return Ok(());
        }
        let all = Sought::all(request, Some(work.identity.card).filter(|_| !lacks_all));
        let Search::Found(found) = self.search(work, &all).await? else { return Ok(()) };
        if lacks_all {
            let Some(card) = self.store.load(&found.card).await? else { return Ok(()) };
            let identity = &card.entry.identity;
            match self.vault.open(&identity.key, &identity.sealed_pan) {
                Ok(pan) => work.request.pan = Some(pan),
                Err(fault) => {
                    // The original is reversed all the same, and what a chip tells is not read.
                    let token = &*identity.token;
                    tracing::error!(target: "transaction", token, %fault, "a PAN is not readable");
                }
            }
        }
        work.request.processing_code = ProcessingCode(found.processing_code);
        work.request.amount = found.amount;
        work.identity.card = found.card;
        work.original = Some(named(&found, false));
        Ok(())
    }

    /// Looks for the answered request that a reversal speaks of.
    async fn search(&self, work: &Attempt<'_>, all: &[Sought]) -> Result<Search, NotDecided> {
        let mut newest = None;
        for sought in all {
            match self.store.find(work.identity.network, (sought, work.searched)).await? {
                Found::One(found) => return Ok(Search::Found(found)),
                Found::Several => return Err(not_named(work)),
                Found::Nothing(through) => newest = newest.or(Some(through)),
            }
        }
        newest.map(Search::Nothing).ok_or_else(|| not_named(work))
    }

    /// What a reversal takes back, once the original is answered.
    pub(super) async fn original_of(&self, work: &Attempt<'_>) -> Result<Reversal, NotDecided> {
        let Attempt { request, identity: RequestIdentity { network, card, .. }, original, .. } =
            work;
        let all = Sought::all(request, request.pan.as_ref().map(|_| *card));
        let Some(likeliest) = all.first() else { return Err(not_named(work)) };
        let whole = original.or_else(|| self.duplicates.named(network, likeliest));
        if let Some(named) = whole {
            let is_known = self.store.knows(network, named).await?;
            let is_exact = all.len() == 1 && !institution(&likeliest.acquirer).is_empty();
            if is_known || is_exact || original.is_some() {
                return Ok(Reversal::Whole(named, is_known));
            }
        }
        match self.search(work, &all).await? {
            Search::Found(found) => {
                let named = named(&found, likeliest.rrn.is_some());
                // It may have been dropped from the index since.
                let is_known = self.store.knows(network, named).await?;
                Ok(Reversal::Whole(named, is_known))
            }
            // Of two meanings, only the one that is found is right.
            Search::Nothing(_) if all.len() > 1 => Err(not_named(work)),
            Search::Nothing(RecordId(searched)) => {
                let original = self.duplicates.named_in_part(network, likeliest);
                let original = original.ok_or_else(|| not_named(work))?;
                Ok(Reversal::InPart(InPart { original, sought: *likeliest, searched }))
            }
        }
    }
}

/// What a search for an original came to.
enum Search {
    Found(Box<TransactionRecord>),
    /// Nothing, up to the record that was the newest when the search began.
    Nothing(RecordId),
}

/// Nobody knows which request a reversal means.
fn not_named(work: &Attempt<'_>) -> NotDecided {
    NotDecided::Original(match work.request.original.is_empty() {
        true => FormatError::missing(90),
        false => FormatError::original(),
    })
}

/// What reverses a transaction, and whatever else has its key; DE37 too, where it counts.
fn named(found: &TransactionRecord, by_rrn: bool) -> Named {
    let DuplicateKey { digest, trace, kind, rrn } = found.duplicate_key;
    let rrn = Some(rrn).filter(|rrn| by_rrn && *rrn != 0);
    Named { original: Original { digest, kind: Some(kind), rrn }, trace }
}
