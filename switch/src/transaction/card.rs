//! The step that loads the card.

use super::attempt::Attempt;
use crate::authorization::Circumstances;
use crate::cache::Card;
use crate::clock::Timestamp;
use crate::store::{Store, StoreError};
use crate::switch::{Seams, Switch};

impl<W: Seams> Switch<W> {
    /// The card of a request as it is now; a PAN that no product of this issuer has is not even
    /// looked up.
    pub(super) async fn card_of(&self, work: &Attempt<'_>) -> Result<Option<Card>, StoreError> {
        let Some(pan) = &work.request.pan else { return Ok(None) };
        if self.products.have_bin_of(pan) {
            self.store.load(&work.identity.card).await
        } else {
            Ok(None)
        }
    }

    /// What a decision on this card rests on besides.
    pub(super) fn circumstances(
        &self,
        work: &Attempt<'_>,
        card: &Card,
        now: Timestamp,
    ) -> Circumstances {
        let bad_pin_blocks = work.session.bad_pin_blocks.count(&card.entry, now);
        Circumstances {
            now,
            bad_pin_blocks_exhausted: bad_pin_blocks >= self.limits.bad_pin_blocks_per_minute,
            transaction: work.identity.key.digest,
        }
    }
}
