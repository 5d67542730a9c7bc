//! Cards: what they are, how their PANs rest, and the cache that holds them.

pub mod card;
pub mod chip_state;
pub mod pan;
pub mod vault;
pub mod cache;
pub mod bad_pin_blocks;

pub use bad_pin_blocks::BadPinBlocks;
pub use cache::{Card, CardEntry, Cards};
pub use card::{CardState, CardStatus, Expiry, OnlinePin, Plastic, StatusReason};
pub use pan::{MaskedPan, Pan};
pub use vault::{CardKey, PanVault, SealedPan};
