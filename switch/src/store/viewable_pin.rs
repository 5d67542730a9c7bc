//! PINs that their cardholders may see, as documents: of a card whose product says so, the block
//! under the PIN encryption key. Each PIN that is set replaces it, by whichever door it comes.

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::document::{Document, DocumentChange, DocumentKind};
use super::{Store, StoreError};
use crate::cache::Card;
use crate::cards::{CardKey, CardState};
use crate::hex::hex;
use crate::hsm::KeptPin;
use crate::hsm::software::DocumentVault;
use crate::hsm::software::key::KeyFault;
use crate::key::Kcv;
use crate::pin::PinBlock;

/// A PIN as it is kept.
#[derive(Serialize, Deserialize)]
struct Stored {
    block: [u8; PinBlock::TDES_BYTES],
    /// Check value of the key that the block is under.
    key: [u8; Kcv::BYTES],
    /// Version of the card's PIN.
    version: u32,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.block.zeroize();
    }
}

/// A PIN to see, and the version of the card's PIN that it is.
pub struct ViewablePin {
    /// The block.
    pub kept: KeptPin,
    version: u32,
}

/// Why a document is no PIN to see, or cannot become one.
#[derive(Debug, thiserror::Error)]
pub enum ViewablePinError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It does not open, or cannot be sealed.
    #[error(transparent)]
    Sealing(#[from] KeyFault),
    /// It holds something else.
    #[error("the document of a PIN to see cannot be read")]
    Unreadable,
}

impl ViewablePin {
    /// Opens a document.
    ///
    /// # Errors
    /// If it does not open, or holds something else.
    pub fn read(vault: &DocumentVault, document: &Document) -> Result<Self, ViewablePinError> {
        let json = document.json(vault)?;
        let stored: Stored =
            serde_json::from_slice(&json).map_err(|_| ViewablePinError::Unreadable)?;
        let kept = KeptPin { block: stored.block, key: Kcv(stored.key) };
        Ok(ViewablePin { kept, version: stored.version })
    }

    /// The block, if it is of the PIN that the card has. One that has come another way since then
    /// is not this one, and one that has ended is none.
    #[must_use]
    pub fn of_now(self, card: &CardState) -> Option<KeptPin> {
        let is_current = self.version == card.pin.version && card.pin.reference.is_some();
        is_current.then_some(self.kept)
    }
}

/// The token of the document of a card.
#[must_use]
pub fn place(key: &CardKey) -> String {
    hex(&key.0)
}

/// Whether nobody may see the PIN of a card in this state any more, or it has none. Of a product
/// that is gone or cannot be read, nobody knows what it says.
#[must_use]
pub fn is_over(card: &Card, state: &CardState) -> bool {
    let has_pin = state.pin.reference.is_some();
    !state.is_alive() || !has_pin || card.product.is_known() && !card.product.pin_viewable
}

/// What becomes of the PIN to see of a card that goes to another state, and perhaps gets this PIN.
///
/// # Errors
/// If the store cannot be read, or the PIN not be sealed.
pub async fn after(
    (store, vault): (&impl Store, &DocumentVault),
    card: &Card,
    state: &CardState,
    set: Option<&KeptPin>,
) -> Result<Option<DocumentChange>, ViewablePinError> {
    let place = place(&card.entry.identity.key);
    let before = store.document(DocumentKind::ViewablePin, &place).await?;
    if is_over(card, state) {
        return Ok(before.map(|before| DocumentChange::remove(&before)));
    }
    let read = before.map_or(0, |before| before.version);
    let written = set.map(|kept| written(vault, (&place, read), kept, state.pin.version));
    Ok(written.transpose()?)
}

/// The PIN to see of a new card.
///
/// # Errors
/// If it cannot be sealed.
pub fn of_new(
    vault: &DocumentVault,
    key: &CardKey,
    kept: &KeptPin,
    state: &CardState,
) -> Result<DocumentChange, KeyFault> {
    written(vault, (&place(key), 0), kept, state.pin.version)
}

fn written(
    vault: &DocumentVault,
    (place, read): (&str, u64),
    kept: &KeptPin,
    version: u32,
) -> Result<DocumentChange, KeyFault> {
    let stored = Stored { block: kept.block, key: kept.key.0, version };
    let json = Zeroizing::new(serde_json::to_vec(&stored).unwrap_or_default());
    debug_assert!(!json.is_empty(), "it is a JSON object with texts as keys");
    DocumentChange::write(vault, (DocumentKind::ViewablePin, place), read, &json)
}
