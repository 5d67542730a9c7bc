//! The issuer's rules for a group of cards, from the configuration.

use std::num::NonZeroU32;

use jiff::tz::Offset;

use crate::cards::Pan;
use crate::hsm::PinMethods;

/// When a PIN must come with the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PinRequired {
    /// For cash: DE3 01 or 17, or merchant category 6010 or 6011.
    #[default]
    Cash,
    /// For cash and whenever the card was read at a terminal: DE22 02, 05, 90 or 95.
    CardPresent,
    /// Never; a PIN that comes is verified all the same.
    Never,
}

/// Parameters of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// Its name, which cards refer to.
    pub name: Box<str>,
    /// Leading digits of the PANs of its cards.
    pub bins: Vec<Box<str>>,
    /// ISO 4217 numeric code of the accounts behind the cards.
    pub currency: u16,
    /// Offset in which the last day of an expiry month ends.
    pub utc_offset: Offset,
    /// When a PIN must come with the request.
    pub pin_required: PinRequired,
    /// How its PINs are verified.
    pub pin_methods: PinMethods,
    /// Consecutive wrong PINs that suspend the card; `None` never suspends.
    pub pin_retry_limit: Option<NonZeroU32>,
    /// Largest amount of one transaction, in minor units of `currency`.
    pub limit_per_transaction: Option<u64>,
    /// Currencies of DE49 that are allowed; empty allows all.
    pub allowed_currencies: Vec<u16>,
}

impl Product {
    /// Whether a PAN starts with one of the product's BINs.
    #[must_use]
    pub fn has_bin_of(&self, pan: &Pan) -> bool {
        self.bins.iter().any(|bin| pan.digits().starts_with(bin.as_bytes()))
    }
}
