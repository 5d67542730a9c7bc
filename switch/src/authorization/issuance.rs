//! What a product says of how its cards are made and sent out. No transaction is decided by it.

use jiff::Span;

use super::product::Product;
use crate::hsm::PinMethod;

/// How the cards of a product are made and sent out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issuance {
    /// Where the cards are issued: ISO 3166-1 alpha-2.
    pub region: Option<Region>,
    /// The embosser that gets their files; without one the first.
    pub embosser: Option<Box<str>>,
    /// The cardholder verification methods of the chip's list, the first first: as the product
    /// says, else as its region prefers ([`Region::cvm_order`]). A terminal may take another
    /// (R132).
    pub cvm_order: Vec<Cvm>,
    /// Galileo's parameters, where the product has any.
    pub parameters: Option<Parameters>,
    /// Whether the chip is embossed with its PIN as Marqeta's `enable_offline_pin` says it.
    pub enable_offline_pin: bool,
    /// What a card is made of.
    pub instrument: Instrument,
    /// Whether a card is in use as soon as it is issued.
    pub activate_upon_issue: bool,
    /// Whether cards may be created one by one.
    pub allow_card_creation: bool,
    /// How long a card is valid.
    pub expiration_offset: Option<ExpirationOffset>,
    /// Service code of the magnetic stripe; 101 where nothing is said.
    pub service_code: Option<u16>,
    /// Digits of a PAN; 16 where nothing is said.
    pub pan_length: Option<u8>,
}

/// A country: two letters in upper case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region(pub [u8; 2]);

impl Region {
    /// Mexico, which has rules of its own.
    pub const MEXICO: Region = Region(*b"MX");

    /// Where the chip's own check of the PIN comes before the issuer's (R175): Canada and the
    /// republics of Latin America, but for Colombia.
    const PREFERS_OFFLINE_PIN: [Region; 20] = [
        Region(*b"AR"),
        Region(*b"BO"),
        Region(*b"BR"),
        Region(*b"CA"),
        Region(*b"CL"),
        Region(*b"CR"),
        Region(*b"CU"),
        Region(*b"DO"),
        Region(*b"EC"),
        Region(*b"GT"),
        Region(*b"HN"),
        Region(*b"HT"),
        Region::MEXICO,
        Region(*b"NI"),
        Region(*b"PA"),
        Region(*b"PE"),
        Region(*b"PY"),
        Region(*b"SV"),
        Region(*b"UY"),
        Region(*b"VE"),
    ];

    /// The order of verification methods of a product that says none. Where its region prefers
    /// nothing, or is not known, the issuer's own check comes first.
    #[must_use]
    pub fn cvm_order(region: Option<Region>, has_offline_pin: bool) -> Vec<Cvm> {
        let prefers = region.is_some_and(|region| Region::PREFERS_OFFLINE_PIN.contains(&region));
        let pins: &[Cvm] = match (has_offline_pin, prefers) {
            (false, _) => &[Cvm::PinOnline],
            (true, false) => &[Cvm::PinOnline, Cvm::PinOffline],
            (true, true) => &[Cvm::PinOffline, Cvm::PinOnline],
        };
        pins.iter().copied().chain([Cvm::Signature, Cvm::NoCvm]).collect()
    }
}

/// A cardholder verification method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cvm {
    /// The PIN is verified by the issuer.
    PinOnline,
    /// The PIN is verified by the chip.
    PinOffline,
    /// A signature.
    Signature,
    /// Nothing.
    NoCvm,
}

impl Cvm {
    /// All of them.
    pub const ALL: [Cvm; 4] = [Cvm::PinOnline, Cvm::PinOffline, Cvm::Signature, Cvm::NoCvm];

    /// Its name in the settings of a product.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Cvm::PinOnline => "pin_online",
            Cvm::PinOffline => "pin_offline",
            Cvm::Signature => "signature",
            Cvm::NoCvm => "no_cvm",
        }
    }
}

/// What a card is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instrument {
    /// Plastic with a magnetic stripe.
    #[default]
    PhysicalMsr,
    /// Plastic with a chip.
    PhysicalIcc,
    /// Plastic with a chip that is read without contact.
    PhysicalContactless,
    /// Plastic with a chip that is read in both ways.
    PhysicalCombo,
    /// Nothing: it is in no emboss file.
    VirtualPan,
}

/// How long a card is valid from its creation on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpirationOffset {
    /// In what it is counted.
    pub unit: ExpirationUnit,
    /// How many of them.
    pub value: u32,
}

impl ExpirationOffset {
    /// The same as a span of the calendar; `None` where that would be longer than one can be.
    #[must_use]
    pub fn span(self) -> Option<Span> {
        let value = i64::from(self.value);
        let span = Span::new();
        let span = match self.unit {
            ExpirationUnit::Years => span.try_years(value),
            ExpirationUnit::Months => span.try_months(value),
            ExpirationUnit::Days => span.try_days(value),
            ExpirationUnit::Hours => span.try_hours(value),
            ExpirationUnit::Minutes => span.try_minutes(value),
            ExpirationUnit::Seconds => span.try_seconds(value),
        };
        span.ok()
    }
}

/// A unit of [`ExpirationOffset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpirationUnit {
    /// Years.
    Years,
    /// Months.
    Months,
    /// Days.
    Days,
    /// Hours.
    Hours,
    /// Minutes.
    Minutes,
    /// Seconds.
    Seconds,
}

/// Galileo's parameters that govern how cards are made; those of the chip are in `ChipRules`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// EMBFL=PINBLOCK: the emboss file has the PIN block (R135).
    pub embosses_pin_block: bool,
    /// KPPIN=Y: a reissue keeps the PIN; otherwise it becomes 0000 (R144, R145).
    pub keeps_pin: bool,
    /// SRPEL=Y: what replaces a lost or stolen card, or is reissued, gets a random PIN (R146).
    pub draws_pin_of_replacement: bool,
    /// CASPO: whose last four digits are the first PIN (R149).
    pub first_pin: Option<FirstPin>,
    /// XAACT: the first statuses of account and card (R151).
    pub initial: Option<InitialStatuses>,
}

/// Whose last four digits are the first PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstPin {
    /// The telephone number at home.
    HomePhone,
    /// The mobile telephone number.
    MobilePhone,
    /// The payment reference number of the account.
    Prn,
}

/// The first statuses of an account, two letters, and of its card, one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitialStatuses {
    /// `YN` is an account that is active when it is created.
    pub account: [u8; 2],
    /// `O` holds the card until its PIN is set; `W` is usual.
    pub card: u8,
}

impl InitialStatuses {
    /// Held until the cardholder has set the PIN (scenario 1).
    pub const HELD_UNTIL_PIN: InitialStatuses = InitialStatuses { account: *b"YN", card: b'O' };
}

impl Product {
    /// Whether a block of the card's PIN is left when its PIN was set some time ago: a PIN that was
    /// drawn can only then be shown, and a PIN that was kept only then be embossed.
    #[must_use]
    pub fn keeps_pin_block(&self) -> bool {
        self.pin_viewable || matches!(self.pin_methods.current, PinMethod::TranslatedBlock)
    }

    /// Whether the chips of its cards hold the PIN.
    #[must_use]
    pub fn has_offline_pin(&self) -> bool {
        self.chip.as_ref().is_some_and(|rules| rules.offline_pin)
    }
}
