//! The issuer's rules for a group of cards, from the configuration.

use std::num::NonZeroU32;

use jiff::tz::Offset;

use super::cvn::CvnRow;
use super::iad::Shapes;
use super::issuance::Issuance;
use crate::cards::Pan;
use crate::cards::chip_state::Retention;
use crate::hsm::{ChipKeys, PinMethods};

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

/// When FTPDY counts without FTPAM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BypassMode {
    /// Never: without FTPAM there is no bypass.
    #[default]
    Table,
    /// Any of the two is enough.
    Any,
}

/// What a chip transaction without a PIN comes to, where none was needed or none could be entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoPinPolicy {
    /// What the card's list of cardholder verification methods allows is allowed.
    #[default]
    CvmList,
    /// It is declined, unless it is bypassed.
    Required,
}

/// When a chip without a PIN try left passes while a change waits for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExhaustedPolicy {
    /// Always; below FTPAM, where that is set.
    Always,
    /// If another cardholder verification method held.
    #[default]
    NextCvm,
}

/// What becomes of a transaction whose holder was asked for the PIN and entered none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PinNotEntered {
    /// It is declined, unless it is bypassed.
    #[default]
    Decline,
    /// As where there is no PIN pad: [`NoPinPolicy`] decides.
    CvmList,
}

/// What becomes of a chip without a PIN try left for which no change waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockedChip {
    /// It is declined.
    #[default]
    Decline,
    /// It is declined unless no verification was needed, and nothing says that a PIN was wanted.
    WherePinRequired,
}

/// What becomes of a card with a chip whose stripe was read instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// It is declined.
    Decline,
    /// A PIN must come, whatever `pin_required` says; for a refund none.
    #[default]
    OnlinePin,
    /// It goes on like any other stripe.
    Allow,
}

/// The rules of a product's chips.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChipRules {
    /// Its issuer master keys.
    pub keys: ChipKeys,
    /// The shapes of issuer application data (9F10) that it knows.
    pub iads: Shapes,
    /// Its own rows of the table of CVNs.
    pub cvns: Vec<CvnRow>,
    /// Whether the chip holds the PIN (EMVOP=Y).
    pub offline_pin: bool,
    /// FTPAM, in minor units of the product's currency.
    pub ftpam: Option<u64>,
    /// FTPDY, in days; never 0.
    pub ftpdy: Option<u32>,
    /// How long a change waits for the chip before its PIN block is deleted.
    pub retention: Retention,
    /// Whether FTPDY counts without FTPAM.
    pub bypass_mode: BypassMode,
    /// What a transaction without a PIN comes to.
    pub no_pin_policy: NoPinPolicy,
    /// What a chip without a PIN try left comes to, while a change waits for it.
    pub approve_exhausted: ExhaustedPolicy,
    /// What a transaction comes to whose holder entered no PIN.
    pub pin_not_entered: PinNotEntered,
    /// What a chip without a PIN try left comes to, while no change waits for it.
    pub locked_chip: LockedChip,
    /// Whether a right online PIN for cash queues an unblock for a chip without a PIN try left.
    pub atm_unblocks_chip: bool,
    /// What becomes of a card whose stripe was read instead of its chip.
    pub fallback: Fallback,
    /// Whether DE4 unlike 9F02 declines; it is recorded in any case.
    pub declines_amount_mismatch: bool,
    /// How often a change is sent at most: once, and the re-sends.
    pub script_sends_max: u8,
    /// Tag of a script: 71, before the chip's last cryptogram, or 72, after it.
    pub script_template: u8,
}

/// Parameters of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// Its name, which cards refer to.
    pub name: Box<str>,
    /// Goes up with every change of its rules; 0 where there is no such product.
    pub version: u64,
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
    /// Whether a PIN that is set lifts a suspension for wrong PINs (R126).
    pub pin_set_lifts_suspension: bool,
    /// Largest amount of one transaction, in minor units of `currency`.
    pub limit_per_transaction: Option<u64>,
    /// Currencies of DE49 that are allowed; empty allows all.
    pub allowed_currencies: Vec<u16>,
    /// How its cards are made and sent out.
    pub issuance: Issuance,
    /// The rules of its chips; without them no cryptogram can be verified.
    pub chip: Option<ChipRules>,
    /// Whether a PIN that is set is kept so that its cardholder may see it.
    pub pin_viewable: bool,
}

impl Product {
    /// What stands for a product that is gone: a card that still refers to it is declined.
    #[must_use]
    pub fn unknown(name: &str) -> Product {
        Product {
            name: name.into(),
            version: 0,
            bins: Vec::new(),
            currency: 0,
            utc_offset: Offset::UTC,
            pin_required: PinRequired::default(),
            pin_methods: PinMethods::default(),
            pin_retry_limit: None,
            pin_set_lifts_suspension: false,
            limit_per_transaction: None,
            allowed_currencies: Vec::new(),
            issuance: Issuance::default(),
            chip: None,
            pin_viewable: false,
        }
    }

    /// Whether there is such a product.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.version > 0
    }

    /// How long a change of a PIN waits for the chips of its cards.
    #[must_use]
    pub fn retention(&self) -> Retention {
        self.chip.as_ref().map_or(Retention::DEFAULT, |rules| rules.retention)
    }

    /// Whether a PAN starts with one of the product's BINs.
    #[must_use]
    pub fn has_bin_of(&self, pan: &Pan) -> bool {
        self.bins.iter().any(|bin| pan.digits().starts_with(bin.as_bytes()))
    }
}
