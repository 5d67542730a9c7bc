//! By what a card is found, and how its PAN rests. No clear PAN and no unkeyed digest is ever
//! stored (PCI DSS 3.5.1).

use std::fmt;

use super::pan::PAN_DIGITS_MAX;

/// Key of a card: the first 16 bytes of HMAC-SHA-256 over the ASCII digits of its PAN.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CardKey(pub [u8; CardKey::BYTES]);

impl CardKey {
    /// Bytes of a card key.
    pub const BYTES: usize = 16;

    /// In the place of the key where the card is not known.
    pub const NONE: CardKey = CardKey([0; CardKey::BYTES]);
}

impl fmt::Debug for CardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "CardKey({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// A PAN under AES-256-GCM, bound to its card key: 19 bytes of PAN filled with FF, 12 bytes tag.
/// The fixed size hides the length of the PAN.
///
/// The nonce is the first 12 bytes of the card key, which is a keyed digest of the PAN: one nonce
/// never stands for two PANs, and the same PAN sealed twice gives the same bytes, which tells no
/// more than its card key does.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedPan(pub [u8; SealedPan::BYTES]);

impl SealedPan {
    /// Bytes of a sealed PAN.
    pub const BYTES: usize = PAN_DIGITS_MAX + SealedPan::TAG_BYTES;

    /// Bytes of its authentication tag.
    pub const TAG_BYTES: usize = 12;
}

impl fmt::Debug for SealedPan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedPan(..)")
    }
}
