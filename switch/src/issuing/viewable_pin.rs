//! PINs that their cardholders may see: shown, counted and removed. How one is kept, a document of
//! its own so that a card without one costs nothing, is in [`crate::store::viewable_pin`].

use super::change::{self, event, load};
use super::listing::Pages;
use super::pin_control::{self, Admit, Control, Purpose};
use super::{Refused, audit};
use crate::authorization::shows_pin;
use crate::cache::Card;
use crate::cards::{CardKey, CardStatus, Pan};
use crate::clock::within;
use crate::event::{Actor, CardholderVerification, EventKind};
use crate::hsm::{AcceptPinError, Hsm, KeptPin, RevealPin};
use crate::key::Kcv;
use crate::pin::ClearPin;
use crate::store::document::{Document, DocumentChange, DocumentKind};
use crate::store::record::Event;
use crate::store::viewable_pin::{ViewablePin, ViewablePinError, place};
use crate::store::{Changed, Commit, CommitError, Store};
use crate::switch::{Seams, Switch};

/// The PIN to see of a card, as it is kept; `None` where none is, or it is not the card's PIN any
/// more.
pub(super) async fn kept<W: Seams>(
    switch: &Switch<W>,
    card: &Card,
) -> Result<Option<KeptPin>, Refused> {
    let place = place(&card.entry.identity.key);
    let document = switch.store.document(DocumentKind::ViewablePin, &place).await?;
    let Some(document) = document else { return Ok(None) };
    Ok(read(switch, &document)?.of_now(&card.state))
}

impl From<ViewablePinError> for Refused {
    fn from(error: ViewablePinError) -> Refused {
        match error {
            ViewablePinError::Store(error) => error.into(),
            ViewablePinError::Sealing(fault) => Refused::Sealing(fault),
            ViewablePinError::Unreadable => Refused::DocumentUnreadable("viewable PIN"),
        }
    }
}

fn read<W: Seams>(switch: &Switch<W>, document: &Document) -> Result<ViewablePin, Refused> {
    Ok(ViewablePin::read(&switch.vault.documents, document)?)
}

/// What goes with a card that is removed.
pub(super) async fn of_removed<W: Seams>(
    switch: &Switch<W>,
    key: &CardKey,
) -> Result<Option<DocumentChange>, Refused> {
    let known = switch.store.document(DocumentKind::ViewablePin, &place(key)).await?;
    Ok(known.map(|known| DocumentChange::remove(&known)))
}

/// How many PINs to see are under the key of this check value.
pub(super) async fn made_with<W: Seams>(switch: &Switch<W>, kcv: Kcv) -> Result<usize, Refused> {
    let (mut count, mut pages) = (0, Pages::of(DocumentKind::ViewablePin));
    while let Some(page) = pages.next(switch).await? {
        for (_, document) in &page {
            count += usize::from(read(switch, document)?.kept.key == kcv);
        }
    }
    Ok(count)
}

/// Shows the PIN of the card that a control token is of; it is used up then. Each is in the audit,
/// and told, with how the cardholder was verified.
///
/// # Errors
/// Why not.
pub async fn reveal<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
    method: CardholderVerification,
    admit: Admit<'_>,
) -> Result<Box<ClearPin>, Refused> {
    let control = pin_control::find(switch, Purpose::RevealPin, token).await;
    let card = control.as_ref().map(|it| it.card_token().to_owned()).unwrap_or_default();
    let shown = match control {
        Ok(_) => match pin_control::admit_card(switch, &card, admit).await {
            Ok(()) => reveal_unaudited(switch, actor, token, method).await,
            Err(refused) => Err(refused),
        },
        Err(refused) => Err(refused),
    };
    let told = audit::OfPin { verified_by: Some(method), code: None };
    audit::of_pin(switch, actor, ("see PIN", &card), told, shown).await
}

async fn reveal_unaudited<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
    method: CardholderVerification,
) -> Result<Box<ClearPin>, Refused> {
    for _ in 0..crate::store::COMMIT_ATTEMPTS_MAX {
        let control = pin_control::find(switch, Purpose::RevealPin, token).await?;
        let (card, pin) = open(switch, &control).await?;
        let plastic = change::place(&card.state, control.card_token());
        let about = (EventKind::PinViewed, plastic);
        let told = event(switch, actor, &card, about, &card.state);
        let told = Event { verified_by: Some(method), ..told };
        let commit = Commit {
            card: Some(&card),
            events: vec![told],
            documents: vec![control.used()],
            ..Commit::default()
        };
        match switch.store.commit(commit, &mut None).await {
            Ok(_) => return Ok(pin),
            Err(CommitError::Changed(Changed::Card | Changed::Document(..))) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refused::Busy)
}

/// The PIN that a token is for, of a card whose state allows it.
async fn open<W: Seams>(
    switch: &Switch<W>,
    control: &Control,
) -> Result<(Card, Box<ClearPin>), Refused> {
    let card = load(switch, control.card_token()).await?;
    let identity = &card.entry.identity;
    if !control.is_of(&identity.key) {
        return Err(Refused::ControlUsed);
    }
    let plastic = change::place(&card.state, control.card_token());
    match card.state.plastics.get(plastic) {
        None => return Err(Refused::CardTerminated),
        Some(it) if it.status == CardStatus::Terminated => return Err(Refused::CardTerminated),
        Some(it) if !shows_pin(it.status, it.status_reason) => return Err(Refused::PinNotShown),
        Some(_) => {}
    }
    // A PIN that has come another way since then is not this one, and one that has ended is none.
    let kept = kept(switch, &card).await?.filter(|_| card.product.pin_viewable);
    let kept = kept.ok_or(Refused::NoViewablePin)?;
    let pan = switch.vault.open(&identity.key, &identity.sealed_pan);
    let pin = clear(switch, &kept, &pan.map_err(Refused::SealedPan)?).await?;
    Ok((card, pin))
}

/// Opens a block.
pub(super) async fn clear<W: Seams>(
    switch: &Switch<W>,
    kept: &KeptPin,
    pan: &Pan,
) -> Result<Box<ClearPin>, Refused> {
    let call = switch.hsm.reveal_clear(RevealPin { kept, pan });
    let shown = within(switch.limits.hsm_milliseconds_max, call).await;
    let unavailable = Refused::Pin(AcceptPinError::Unavailable);
    shown.and_then(Result::ok).ok_or(unavailable)
}
