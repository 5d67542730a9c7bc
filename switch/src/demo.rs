//! The demo programme: made-up cards and public keys, on loopback addresses only.

/// The demo's configuration; it is also the commented example of all settings.
pub const CONFIG: &str = include_str!("../demo.toml");

/// The demo's master key (AES-256). Public: it protects nothing.
pub const MASTER_KEY: [u8; 32] = *b"pinswitch demo master key public";

/// The zone PIN key of the demo's links, in hexadecimal. Public.
pub const ZPK: &str = "ECC25208B6FD2023E9767A5489BC9415";

/// All keys that were ever printed as the demo's, in hexadecimal: the ZPK, the PVK, the
/// embosser's ZPK.
pub const PUBLIC_KEYS: [&str; 3] =
    [ZPK, "D9867045BC1343B3025D7A0EE3BC2AE9", "A179FDC85E70C4FDFE015486024654A7"];

/// A card of the demo.
#[derive(Clone, Copy)]
pub struct DemoCard {
    /// The issuer's name for it.
    pub token: &'static str,
    /// Its PAN, of a test BIN.
    pub pan: &'static str,
    /// Its expiry, YYMM.
    pub expiry: &'static str,
    /// Its PAN sequence number.
    pub sequence: u8,
    /// Its PIN.
    pub pin: &'static str,
    /// Its product.
    pub product: &'static str,
}

const fn card(
    token: &'static str,
    pan: &'static str,
    pin: &'static str,
    product: &'static str,
) -> DemoCard {
    DemoCard { token, pan, expiry: "2912", sequence: 1, pin, product }
}

/// The cards of the demo.
pub const CARDS: [DemoCard; 4] = [
    card("demo-card-1", "4761340000000019", "4071", "demo-debit"),
    card("demo-card-2", "4761340000000027", "5938", "demo-chip"),
    card("demo-card-3", "5413330000000019", "7206", "demo-mchip"),
    card("demo-card-4", "4761340000000035", "8264", "demo-nolimit"),
];

/// Name of the demo's ZPK in the key directory.
pub const ZPK_NAME: &str = "demo-zpk";
