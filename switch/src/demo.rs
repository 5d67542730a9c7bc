//! The demo programme: made-up cards and public keys, on loopback addresses only.

use std::io::{self, Write};
use std::net::SocketAddr;

use zeroize::Zeroizing;

use crate::cards::pan::check_digit;
use crate::config::Config;
use crate::control::{CardForm, NewState};
use crate::event::Actor;
use crate::hsm::software::key::KeyUsage;
use crate::hsm::software::public_keys::{
    M_CHIP_ISSUER_MASTER_KEYS, PVK, VISA_ISSUER_MASTER_KEYS, ZPK,
};
use crate::issuing::secret::PinText;
use crate::issuing::{Refused, cards, simulate};
use crate::listener::Listening;
use crate::pin::ClearPin;
use crate::switch::{Seams, Switch};

/// The products of the demo whose cards have a chip, with its keys IMK-AC, IMK-SMI and IMK-SMC.
const ISSUER_MASTER_KEYS: [(&str, [&str; 3]); 2] =
    [("demo-chip", VISA_ISSUER_MASTER_KEYS), ("demo-mchip", M_CHIP_ISSUER_MASTER_KEYS)];

/// A card of the demo.
#[derive(Clone, Copy)]
pub struct DemoCard {
    /// The issuer's name for it.
    pub token: &'static str,
    /// Its PAN, of a test BIN.
    pub pan: &'static str,
    /// Its PIN.
    pub pin: &'static str,
    /// Its product.
    pub product: &'static str,
}

/// Expiry of all cards of the demo, YYMM.
const EXPIRY: &str = "2912";
/// PAN sequence number of all cards of the demo.
const SEQUENCE: &str = "01";

const fn card(
    token: &'static str,
    pan: &'static str,
    pin: &'static str,
    product: &'static str,
) -> DemoCard {
    DemoCard { token, pan, pin, product }
}

/// The cards of the demo.
pub const CARDS: [DemoCard; 4] = [
    card("demo-card-1", "4761340000000019", "4071", "demo-debit"),
    card("demo-card-2", "4761340000000027", "5938", "demo-chip"),
    card("demo-card-3", "5413330000000019", "7206", "demo-mchip"),
    card("demo-card-4", "4761340000000035", "8264", "demo-nolimit"),
];

/// The product of seeded cards.
pub const SEED_PRODUCT: &str = "demo-debit";

/// The token of a seeded card.
#[must_use]
pub fn seed_token(index: u32) -> String {
    format!("seed-{index:09}")
}

/// A made-up card: PAN 476135, nine digits of the index and the check digit; PIN 1000 +
/// (index x 7919 + 1357) mod 9000; active. The index is below 10^9.
#[must_use]
pub fn seed_card(index: u32) -> CardForm {
    let digits = Zeroizing::new(format!("476135{index:09}"));
    let pan = Zeroizing::new(format!("{}{}", *digits, check_digit(digits.as_bytes())));
    let pin = 1_000 + (u64::from(index) * 7_919 + 1_357) % 9_000;
    CardForm {
        token: seed_token(index),
        pan,
        ..request(SEED_PRODUCT, PinText::new(Zeroizing::new(pin.to_string())))
    }
}

/// The demo's API key and its secret, which everybody knows.
pub const API_KEY: &str = "demo";
/// See [`API_KEY`].
pub const API_SECRET: &str = "demo";

/// The demo's keys in the key directory: name, usage, and value in hexadecimal.
pub const KEYS: [(&str, KeyUsage, &str); 8] = [
    ("demo-zpk", KeyUsage::PinEncryption, ZPK),
    ("demo-pvk", KeyUsage::VisaPvv, PVK),
    ("demo-visa-imk-ac", KeyUsage::Cryptograms, VISA_ISSUER_MASTER_KEYS[0]),
    ("demo-visa-imk-smi", KeyUsage::ScriptIntegrity, VISA_ISSUER_MASTER_KEYS[1]),
    ("demo-visa-imk-smc", KeyUsage::ScriptConfidentiality, VISA_ISSUER_MASTER_KEYS[2]),
    ("demo-mchip-imk-ac", KeyUsage::Cryptograms, M_CHIP_ISSUER_MASTER_KEYS[0]),
    ("demo-mchip-imk-smi", KeyUsage::ScriptIntegrity, M_CHIP_ISSUER_MASTER_KEYS[1]),
    ("demo-mchip-imk-smc", KeyUsage::ScriptConfidentiality, M_CHIP_ISSUER_MASTER_KEYS[2]),
];

/// Puts the demo's cards into the store, as far as they are not there, and makes them active.
///
/// # Errors
/// Which card was refused, and why.
pub async fn add_cards<W: Seams>(switch: &Switch<W>) -> Result<(), String> {
    // A configuration that was made from the demo's may have fewer products.
    let has_product = |card: &DemoCard| switch.products.product(card.product).is_some();
    for card in CARDS.into_iter().filter(has_product) {
        let added = add_card(switch, &card).await;
        added.map_err(|refusal| format!("demo card {}: {refusal}", card.token))?;
    }
    Ok(())
}

async fn add_card<W: Seams>(switch: &Switch<W>, card: &DemoCard) -> Result<(), Refused> {
    if !cards::exists(switch, card.token).await? {
        create_card(switch, card).await?;
    }
    // The chip holds the PIN of the table, whichever the card has by now.
    match ClearPin::parse_in_place(card.pin.as_bytes()) {
        Some(pin) => simulate::emboss(switch, card.token, &pin).await,
        None => Ok(()),
    }
}

async fn create_card<W: Seams>(switch: &Switch<W>, card: &DemoCard) -> Result<(), Refused> {
    let form = CardForm {
        token: card.token.to_owned(),
        pan: Zeroizing::new(card.pan.to_owned()),
        ..request(card.product, PinText::new(Zeroizing::new(card.pin.to_owned())))
    };
    let actor = Actor::switch("demo");
    cards::create(switch, &actor, card.token, form.parse()).await.map(drop)
}

/// What all cards of the demo have in common.
fn request(product: &str, pin: PinText) -> CardForm {
    CardForm {
        token: String::new(),
        pan: Zeroizing::default(),
        expiration: EXPIRY.to_owned(),
        pan_sequence_number: SEQUENCE.to_owned(),
        card_product_token: product.to_owned(),
        state: Some(NewState::Active),
        pin: Some(pin),
        pvv: None,
        pvki: None,
        pin_offset: None,
    }
}

/// The one place where PANs, PINs and keys are shown: the demo's, which are public.
///
/// # Errors
/// If standard output cannot be written.
pub fn print_banner(
    config: &Config,
    links: &[Listening],
    admin: SocketAddr,
    api: Option<SocketAddr>,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "pinswitch {} - demo, loopback only", env!("CARGO_PKG_VERSION"))?;
    for link in links {
        let (address, dialect) = (link.address()?, link.link().dialect.name());
        let frames = link.link().frames;
        writeln!(out, "  ISO 8583   {address}  {dialect}, {frames}")?;
    }
    if let Some(api) = api {
        writeln!(out, "  HTTP API   http://{api}/  key {API_KEY}, secret {API_SECRET}")?;
    }
    writeln!(out, "  metrics    http://{admin}/metrics  /livez  /readyz")?;
    writeln!(out, "  data       {}", config.data_dir.display())?;
    writeln!(out, "Cards (expiry {EXPIRY}, sequence {SEQUENCE}):")?;
    for card in CARDS {
        let (token, pan, pin, product) = (card.token, card.pan, card.pin, card.product);
        writeln!(out, "  {token}  PAN {pan}  PIN {pin}  {product}")?;
    }
    writeln!(out, "Zone PIN key (ZPK) of DE52: {ZPK}")?;
    for (product, [ac, smi, smc]) in ISSUER_MASTER_KEYS {
        for (name, key) in [("IMK-AC", ac), ("IMK-SMI", smi), ("IMK-SMC", smc)] {
            writeln!(out, "Issuer master key ({name}) of {product}: {key}")?;
        }
    }
    writeln!(out, "Try:")?;
    writeln!(out, "  cargo run --release -p loadtest -- check")?;
    writeln!(out, "  cargo run --release -p loadtest -- story")?;
    writeln!(out, "  curl http://{admin}/metrics")?;
    out.flush()
}
