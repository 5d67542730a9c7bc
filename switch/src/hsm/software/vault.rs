//! PANs at rest: a card is found by a keyed digest of its PAN, and the PAN itself is sealed.
//! No clear PAN and no unkeyed digest is ever stored (PCI DSS 3.5.1).

use std::io;

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, AeadInOut, KeyInit, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::{Aes256Gcm, AesGcm, Nonce, Tag};
use hmac::{Hmac, Mac};
use serde::Serialize;
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
    /// For what is kept besides cards.
    pub documents: DocumentVault,
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
        let derived = |purpose| mac(&digest, &[b"derive:", purpose]);
        let documents = DocumentVault::new(
            &derived(b"documents"),
            &derived(b"document nonces"),
            &derived(b"document digests"),
        )?;
        Ok(PanVault { digest, cipher, documents })
    }

    /// The key of the card with this PAN.
    #[must_use]
    pub fn card_key(&self, pan: &Pan) -> CardKey {
        let mut key = [0; CardKey::BYTES];
        let digest = mac(&self.digest, &[pan.digits()]);
        key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        CardKey(key)
    }

    /// A key for another keyed digest, derived from the card-digest key for one purpose.
    #[must_use]
    pub fn derive(&self, purpose: &[u8]) -> [u8; 16] {
        let mut key = [0; 16];
        let digest = mac(&self.digest, &[b"derive:", purpose]);
        key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        key
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

fn mac(key: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = key.clone();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Takes what is written to it into a digest.
struct Digested(Hmac<Sha256>);

impl io::Write for Digested {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Seals documents: AES-256-GCM under a key of its own, derived from the card-digest key.
///
/// The nonce, in front of the ciphertext, is a keyed digest of the text and of the place that it is
/// sealed for: one nonce never stands for two texts, and no randomness is needed.
pub struct DocumentVault {
    cipher: Aes256Gcm,
    nonces: Hmac<Sha256>,
    digests: Hmac<Sha256>,
}

const NONCE_BYTES: usize = 12;

impl DocumentVault {
    fn new(
        key: &[u8; 32],
        nonces: &[u8; 32],
        digests: &[u8; 32],
    ) -> Result<DocumentVault, KeyFault> {
        let cipher = Aes256Gcm::new_from_slice(key).map_err(|_| KeyFault::Length)?;
        let mac = |key| <Hmac<Sha256> as KeyInit>::new_from_slice(key);
        let [nonces, digests] = [nonces, digests].map(|key| mac(key).map_err(|_| KeyFault::Length));
        Ok(DocumentVault { cipher, nonces: nonces?, digests: digests? })
    }

    /// The keyed digest by which a secret, or a body that may hold a PAN, is known again:
    /// HMAC-SHA-256. What it is of keeps digests for different uses apart.
    #[must_use]
    pub fn digest(&self, of: &[u8], text: &[u8]) -> [u8; 32] {
        let length = (of.len() as u64).to_be_bytes();
        mac(&self.digests, &[&length, of, text])
    }

    /// The same of the JSON of what is for this purpose. No buffer ever holds it, for it may have a
    /// PAN.
    pub fn digest_json(&self, of: &[u8], value: &impl Serialize) -> [u8; 32] {
        let mut mac = Digested(self.digests.clone());
        mac.0.update(&(of.len() as u64).to_be_bytes());
        mac.0.update(of);
        let written = serde_json::to_writer(&mut mac, value);
        debug_assert!(written.is_ok(), "it is a JSON object with texts as keys");
        mac.0.finalize().into_bytes().into()
    }

    /// Seals a text for one place.
    ///
    /// # Errors
    /// Never for a text that fits into memory.
    pub fn seal(&self, place: &[u8], text: &[u8]) -> Result<Vec<u8>, KeyFault> {
        let length = (place.len() as u64).to_be_bytes();
        let digest = mac(&self.nonces, &[&length, place, text]);
        let nonce = *digest.first_chunk::<NONCE_BYTES>().ok_or(KeyFault::Length)?;
        let payload = Payload { msg: text, aad: place };
        let sealed = self.cipher.encrypt(&nonce.into(), payload).map_err(|_| KeyFault::Length)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// If it was sealed with another key, for another place, or was altered.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyFault> {
        let (nonce, sealed) =
            sealed.split_first_chunk::<NONCE_BYTES>().ok_or(KeyFault::Authentication)?;
        let payload = Payload { msg: sealed, aad: place };
        let text = self.cipher.decrypt(&(*nonce).into(), payload);
        text.map(Zeroizing::new).map_err(|_| KeyFault::Authentication)
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
