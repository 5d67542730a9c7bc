//! The block ciphers that keys are for, expanded once per key, and what makes a triple DES key
//! usable.

use aes::{Aes128, Aes192, Aes256};
use cmac::KeyInit;
use des::TdesEde3;
use des::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::key::KeyFault;

/// Expanded triple DES key: the schedule is made once per key.
#[derive(ZeroizeOnDrop)]
pub(crate) struct TdesKey(TdesEde3);

impl TdesKey {
    pub(crate) fn new(value: &[u8]) -> Result<TdesKey, KeyFault> {
        let whole = triple_length(value)?;
        TdesEde3::new_from_slice(&whole).map(TdesKey).map_err(|_| KeyFault::Length)
    }

    /// A key of double length.
    pub(crate) fn double(value: &[u8; 16]) -> TdesKey {
        let mut whole = Zeroizing::new([0; 24]);
        let parts = value.iter().chain(value.iter().take(8));
        whole.iter_mut().zip(parts).for_each(|(to, byte)| *to = *byte);
        TdesKey(TdesEde3::new(&(*whole).into()))
    }

    pub(crate) fn encrypt(&self, block: &[u8; 8]) -> [u8; 8] {
        let mut block = Block::<TdesEde3>::from(*block);
        self.0.encrypt_block(&mut block);
        block.into()
    }

    pub(crate) fn decrypt(&self, block: &[u8; 8]) -> Zeroizing<[u8; 8]> {
        let mut block = Block::<TdesEde3>::from(*block);
        self.0.decrypt_block(&mut block);
        Zeroizing::new(block.into())
    }
}

/// K1-K2 as K1-K2-K1, which is the same key.
pub(super) fn triple_length(value: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyFault> {
    let first = value.first_chunk::<8>().ok_or(KeyFault::Length)?;
    match value.len() {
        16 => Ok(Zeroizing::new([value, first].concat())),
        24 => Ok(Zeroizing::new(value.to_vec())),
        _ => Err(KeyFault::Length),
    }
}

/// Expanded AES key.
pub(crate) enum AesKey {
    Aes128(Aes128),
    Aes192(Aes192),
    Aes256(Aes256),
}

impl AesKey {
    pub(crate) fn new(value: &[u8]) -> Result<AesKey, KeyFault> {
        let key = match value.len() {
            16 => Aes128::new_from_slice(value).map(AesKey::Aes128),
            24 => Aes192::new_from_slice(value).map(AesKey::Aes192),
            _ => Aes256::new_from_slice(value).map(AesKey::Aes256),
        };
        key.map_err(|_| KeyFault::Length)
    }

    pub(crate) fn decrypt(&self, block: &[u8; 16]) -> Zeroizing<[u8; 16]> {
        let mut block = (*block).into();
        match self {
            AesKey::Aes128(key) => key.decrypt_block(&mut block),
            AesKey::Aes192(key) => key.decrypt_block(&mut block),
            AesKey::Aes256(key) => key.decrypt_block(&mut block),
        }
        Zeroizing::new(block.into())
    }
}

/// Sets the lowest bit of each byte so that the byte has odd parity.
pub(super) fn set_odd_parity(key: &mut [u8]) {
    key.iter_mut().for_each(|byte| *byte ^= u8::from(byte.count_ones().is_multiple_of(2)));
}

/// Checks length, parity, parts and weak keys of a double or triple length key.
///
/// # Errors
/// [`KeyFault`], the first that applies.
pub(super) fn is_usable_tdes_key(key: &[u8]) -> Result<(), KeyFault> {
    let (parts, rest) = key.as_chunks::<8>();
    if !rest.is_empty() || !matches!(parts.len(), 2 | 3) {
        return Err(KeyFault::Length);
    }
    if key.iter().any(|byte| byte.count_ones().is_multiple_of(2)) {
        return Err(KeyFault::Parity);
    }
    let is_repeated = |(place, part)| parts.iter().skip(place + 1).any(|other| other == part);
    if parts.iter().enumerate().any(is_repeated) {
        return Err(KeyFault::EqualParts);
    }
    let weak = parts.iter().any(|part| des::weak_key_test(part).is_err());
    if weak { Err(KeyFault::Weak) } else { Ok(()) }
}
