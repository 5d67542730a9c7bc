//! Cards: what they are, and how their PANs rest.

pub mod card;
pub mod chip_state;
pub mod pan;
pub mod card_key;
pub mod plastic;

pub use card::{CardState, OnlinePin};
pub use card_key::{CardKey, SealedPan};
pub use pan::{MaskedPan, Pan};
pub use plastic::{CardStatus, Embossed, Expiry, Plastic, StatusReason};
