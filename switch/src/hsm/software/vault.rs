//! PANs at rest: a card is found by a keyed digest of its PAN, and the PAN itself is sealed.
//! No clear PAN and no unkeyed digest is ever stored (PCI DSS 3.5.1).

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, Nonce, Tag};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::cards::card::CardIdentity;
use crate::cards::pan::{PAN_DIGITS_MAX, Pan};
use crate::cards::{CardKey, SealedPan};
use crate::hsm::software::key::KeyFault;

const TAG_BYTES: usize = SealedPan::TAG_BYTES;

/// 96 bits are the shortest tag that NIST SP 800-38D allows for any use; a card is small in memory.
type Cipher = AesGcm<Aes256, U12, U12>;

/// The switch's own keys for card data.
pub struct PanVault {
    digest: Hmac<Sha256>,
    cipher: Cipher,
}

impl PanVault {
    /// From the card-digest key (HMAC-SHA-256) and the PAN key (AES-256), 32 bytes each.
    ///
    /// # Errors
    /// If a key has not 32 bytes.
    pub fn new(digest_key: &[u8], pan_key: &[u8]) -> Result<PanVault, KeyFault> {
        let digest = <Hmac<Sha256> as KeyInit>::new_from_slice(digest_key)
            .ok()
            .filter(|_| digest_key.len() == 32)
            .ok_or(KeyFault::Length)?;
        let cipher = Cipher::new_from_slice(pan_key).map_err(|_| KeyFault::Length)?;
        Ok(PanVault { digest, cipher })
    }

    /// The key of the card with this PAN.
    #[must_use]
    pub fn card_key(&self, pan: &Pan) -> CardKey {
        let mut key = [0; CardKey::BYTES];
        let digest = self.mac(&[pan.digits()]);
        key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        CardKey(key)
    }

    /// A key for another keyed digest, derived from the card-digest key for one purpose.
    #[must_use]
    pub fn derive(&self, purpose: &[u8]) -> [u8; 16] {
        let mut key = [0; 16];
        let digest = self.mac(&[b"derive:", purpose]);
        key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        key
    }

    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.digest.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }

    /// What a new card of this PAN is stored under.
    ///
    /// # Errors
    /// Never for a PAN.
    pub fn identify(&self, token: &str, pan: &Pan) -> Result<CardIdentity, KeyFault> {
        let key = self.card_key(pan);
        let sealed_pan = self.seal(&key, pan)?;
        Ok(CardIdentity { key, token: token.into(), sealed_pan })
    }

    /// Seals a PAN for storage.
    ///
    /// # Errors
    /// Never for a PAN.
    pub fn seal(&self, key: &CardKey, pan: &Pan) -> Result<SealedPan, KeyFault> {
        let mut text = Zeroizing::new([0xFF; PAN_DIGITS_MAX]);
        text.iter_mut().zip(pan.digits()).for_each(|(to, from)| *to = *from);
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce(key), &key.0, text.as_mut_slice().into())
            .map_err(|_| KeyFault::Length)?;
        let mut sealed = [0; SealedPan::BYTES];
        sealed.iter_mut().zip(text.iter().chain(tag.iter())).for_each(|(to, from)| *to = *from);
        Ok(SealedPan(sealed))
    }

    /// Opens a stored PAN.
    ///
    /// # Errors
    /// If it was sealed with another key, for another card, or was altered.
    pub fn open(&self, key: &CardKey, sealed: &SealedPan) -> Result<Pan, KeyFault> {
        let (text, tag) = sealed.0.split_last_chunk::<TAG_BYTES>().ok_or(KeyFault::Length)?;
        let mut text = Zeroizing::new(text.to_vec());
        self.cipher
            .decrypt_inout_detached(
                &nonce(key),
                &key.0,
                text.as_mut_slice().into(),
                &Tag::from(*tag),
            )
            .map_err(|_| KeyFault::Authentication)?;
        let digits = text.split(|byte| *byte == 0xFF).next().unwrap_or_default();
        Pan::parse(digits).ok_or(KeyFault::Authentication)
    }
}

fn nonce(key: &CardKey) -> Nonce<U12> {
    let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = key.0;
    Nonce::from([a, b, c, d, e, f, g, h, i, j, k, l])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_pan_opens_for_its_card_only() {
        let vault = PanVault::new(&[1; 32], &[2; 32]).unwrap();
        let pan = Pan::parse(b"4761340000000019").unwrap();
        let key = vault.card_key(&pan);
        let sealed = vault.seal(&key, &pan).unwrap();
        assert_eq!(vault.open(&key, &sealed).unwrap(), pan);
        assert!(vault.open(&CardKey([0; 16]), &sealed).is_err());
        let other = Pan::parse(b"4761340000000027").unwrap();
        let other = vault.seal(&vault.card_key(&other), &other).unwrap();
        assert_ne!(sealed.0.first_chunk::<12>(), other.0.first_chunk::<12>());
    }

    #[test]
    fn the_key_is_a_keyed_digest() {
        let pan = Pan::parse(b"4761340000000019").unwrap();
        let one = PanVault::new(&[1; 32], &[2; 32]).unwrap();
        let other = PanVault::new(&[3; 32], &[2; 32]).unwrap();
        assert_eq!(one.card_key(&pan), one.card_key(&pan));
        assert_ne!(one.card_key(&pan), other.card_key(&pan));
    }
}
