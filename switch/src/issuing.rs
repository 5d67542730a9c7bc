//! The service behind every door: what the issuer does with cards. A door parses what it got, calls
//! one of these, and renders what comes back; it touches neither store nor HSM nor the state of a
//! card. Each call that changes something names its [`Actor`](crate::event::Actor) and leaves an
//! audit line; the events of a card are committed together with its change.

pub mod refused;
pub mod audit;
pub mod secret;
mod change;
pub mod blocks;
pub mod cards;
pub mod transitions;
pub mod pins;
pub mod pin_control;
pub mod viewable_pin;
pub mod pin_check;
pub mod products;
pub mod api_keys;
pub mod history;
pub mod events;
pub mod cryptogram;
pub mod keys;
pub mod views;
pub mod listing;
pub mod tokens;
pub mod once;
pub mod users;
pub mod transactions;
pub mod card_details;
pub mod issued_card;
pub mod issuance;
pub mod replacement;
pub mod simulate;

pub use api_keys::ApiKeyView;
pub use events::{EventPage, EventView};
pub use history::TransactionPage;
pub use issued_card::IssuedCard;
pub use once::{Call, Made, Once};
pub use pin_check::PinCheckView;
pub use products::ProductView;
pub use refused::{Code, Refused};
pub use views::{CardView, TransactionView};
