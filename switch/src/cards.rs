//! Cards: what they are, and how their PANs rest.

pub mod card;
pub mod chip_state;
pub mod pan;
pub mod card_key;

pub use card::{CardState, CardStatus, Expiry, OnlinePin, Plastic, StatusReason};
pub use card_key::{CardKey, SealedPan};
pub use pan::{MaskedPan, Pan};
