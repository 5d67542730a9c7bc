//! The step before the commit that finds what is kept beside a card and changes with it.

use super::attempt::Attempt;
use crate::authorization::Decision;
use crate::cache::Card;
use crate::store::StoreError;
use crate::store::document::DocumentChange;
use crate::store::viewable_pin::{self, ViewablePinError};
use crate::switch::{Seams, Switch};

impl<W: Seams> Switch<W> {
    /// The PIN that its cardholder may see, where the decision gives the card another one.
    pub(super) async fn beside(
        &self,
        work: &Attempt<'_>,
        card: Option<&Card>,
        decision: &Decision,
    ) -> Result<Vec<DocumentChange>, StoreError> {
        let Some(card) = card.filter(|card| decision.sets_pin(&card.state)) else {
            return Ok(Vec::new());
        };
        let Some(after) = &decision.change else { return Ok(Vec::new()) };
        let (kept, documents) = (work.known.new_pin(), (&self.store, &self.vault.documents));
        match viewable_pin::after(documents, card, after, kept).await {
            Ok(document) => Ok(document.into_iter().collect()),
            Err(ViewablePinError::Store(error)) => Err(error),
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }
}
