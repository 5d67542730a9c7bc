//! The bytes of what binds a store to its keys.
//!
//! ```text
//! 8 own keys  check values 3 of the card-digest key and of the PAN key
//! ```

use super::entry::Kept;
use super::stored::{Stored, Unreadable, stored_fields};
use crate::hsm::Kcv;

/// Check values of the keys without which no card is found and no PAN is read. They never change:
/// a key directory that has others belongs to another store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnKeys {
    /// Of the card-digest key.
    pub card_digest: Kcv,
    /// Of the PAN key.
    pub pan: Kcv,
}

impl Kept for OwnKeys {
    const KIND: u8 = 8;
}

stored_fields!(OwnKeys { card_digest, pan });
