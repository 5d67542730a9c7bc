//! Cards: what they are, how their PANs rest, and the cache that holds them.

pub mod card;
pub mod chip_state;
pub mod pan;
pub mod card_key;
pub mod cache;
pub mod bad_pin_blocks;

pub use bad_pin_blocks::BadPinBlocks;
pub use cache::{Card, CardEntry, Cards};
pub use card::{CardState, CardStatus, Expiry, OnlinePin, Plastic, StatusReason};
pub use card_key::{CardKey, SealedPan};
pub use pan::{MaskedPan, Pan};
