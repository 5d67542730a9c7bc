//! The blocks of a card's PIN that are documents beside it: the one that its cardholder may see,
//! and those of the chips that are played.

use super::listing::Pages;
use super::simulate::virtual_chip;
use super::{Refused, viewable_pin};
use crate::cache::Card;
use crate::cards::{CardKey, CardState};
use crate::hex::from_hex;
use crate::hsm::KeptPin;
use crate::key::Kcv;
use crate::store::document::{DocumentChange, DocumentKind};
use crate::store::viewable_pin as kept;
use crate::store::{Commit, CommitError, Store};
use crate::switch::{Seams, Switch};

/// What becomes of them with a card that goes to another state, and perhaps gets this PIN.
pub(super) async fn after<W: Seams>(
    switch: &Switch<W>,
    card: &Card,
    state: &CardState,
    set: Option<&KeptPin>,
) -> Result<Vec<DocumentChange>, Refused> {
    let mut documents = virtual_chip::after(switch, card, state).await?;
    let (store, vault) = (&switch.store, &switch.vault.documents);
    documents.extend(kept::after((store, vault), card, state, set).await?);
    Ok(documents)
}

/// What goes with a card that is removed.
pub(super) async fn of_removed<W: Seams>(
    switch: &Switch<W>,
    card: &Card,
) -> Result<Vec<DocumentChange>, Refused> {
    let mut documents = virtual_chip::of_removed(switch, card).await?;
    documents.extend(viewable_pin::of_removed(switch, &card.entry.identity.key).await?);
    Ok(documents)
}

/// How many are under the key of this check value.
pub(super) async fn made_with<W: Seams>(switch: &Switch<W>, kcv: Kcv) -> Result<usize, Refused> {
    let to_see = viewable_pin::made_with(switch, kcv).await?;
    Ok(to_see + virtual_chip::made_with(switch, kcv).await?)
}

/// Deletes those whose time is over: the PINs that nobody may see any more, since their product is
/// no longer viewable, and what was made while its card was removed.
///
/// # Errors
/// If the store has failed.
pub async fn forget<W: Seams>(switch: &Switch<W>) -> Result<(), Refused> {
    let is_seen = |card: &Card| !kept::is_over(card, &card.state);
    forget_but(switch, DocumentKind::ViewablePin, is_seen).await?;
    forget_but(switch, DocumentKind::VirtualChip, |card| card.state.is_alive()).await
}

/// Deletes the documents of a kind but those of the cards that are chosen.
async fn forget_but<W: Seams>(
    switch: &Switch<W>,
    kind: DocumentKind,
    is_kept: fn(&Card) -> bool,
) -> Result<(), Refused> {
    let mut pages = Pages::of(kind);
    while let Some(page) = pages.next(switch).await? {
        for (place, document) in &page {
            let card = match key_of(place) {
                Some(key) => switch.store.load(&key).await?,
                None => None,
            };
            if card.as_ref().is_some_and(is_kept) {
                continue;
            }
            let documents = vec![DocumentChange::remove(document)];
            let commit = Commit { card: card.as_ref(), documents, ..Commit::default() };
            match switch.store.commit(commit, &mut None).await {
                // Where it has changed meanwhile, its turn comes again.
                Ok(_) | Err(CommitError::Changed(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// The card of a document: its token begins with the card's key in hexadecimal.
fn key_of(place: &str) -> Option<CardKey> {
    let key = place.split('/').next()?;
    from_hex(key)?.as_slice().try_into().ok().map(CardKey)
}
