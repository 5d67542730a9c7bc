//! The rules of authorization. Pure: no async, no clock, no logging, no I/O; the order in which
//! these steps run is in `transaction.rs`.

pub mod format_error;
pub mod request;
pub mod icc_data;
pub mod currency;
pub mod iad;
pub mod cvn;
pub mod trusted;
pub mod routing;
pub mod product;
pub mod issuance;
pub mod decide;
pub mod decision;
pub mod cryptogram;
pub mod chip_transaction;
pub mod conclusion;
pub mod dialect;
pub mod card_status;
pub mod transition;
pub mod pin;
pub mod pin_check;
pub mod pin_change;
pub mod offline_pin;
pub mod issuer_script;
pub mod trail;
pub mod limits;
pub mod reversal;
pub mod network_management;
pub mod response;
pub mod response_code;

pub use conclusion::{Conclusion, conclude, concluding_cryptogram};
pub use cryptogram::{CryptogramCheck, VerifiedCryptogram, accepts_cryptogram};
pub use decide::{Checks, RequiredChecks, decide, required_checks};
pub use decision::{Bypass, Circumstances, Cryptogram, Decision, Evidence};
pub use format_error::{FormatError, FormatFault};
pub use icc_data::ChipData;
pub use pin_check::{decide_pin_check, required_pin_check};
pub use product::{ChipRules, PinRequired, Product};
pub use request::{Money, Request};
pub use response::Answer;
pub use response_code::Reason;
pub use routing::{Route, route};
pub use transition::{Channel, Transition, shows_pin};
pub use trusted::trusted;
