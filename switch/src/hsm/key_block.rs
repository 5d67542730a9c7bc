//! Keys and the form in which they rest: TR-31 (ASC X9.143) key blocks of version D.
//!
//! A block is a 16-character header, the key under AES-CBC and a 16-byte AES-CMAC over header
//! and clear payload, both in hex. The MAC is also the IV. Payload: key length in bits (2 bytes,
//! big-endian), the key, random fill to a multiple of 16 bytes; triple DES keys are filled to
//! 24 bytes so that the block does not tell their length.

use std::fmt;

use aes::Aes256;
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use cmac::{Cmac, KeyInit, Mac};
use des::TdesEde3;
use des::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt};
use hmac::Hmac;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::random;

/// What is wrong with a key. No text holds any part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Neither double nor triple length.
    #[error("the key length is wrong: a triple DES key has 16 or 24 bytes, an AES key 32")]
    Length,
    /// A byte of a triple DES key has even parity.
    #[error("the key has bad parity: every byte of a triple DES key has odd parity")]
    Parity,
    /// Two parts of the key are equal: it is shorter than it looks.
    #[error("two parts of the key are equal")]
    EqualParts,
    /// A part is one of the weak or semi-weak DES keys.
    #[error("a part of the key is a weak DES key")]
    Weak,
    /// The text is not a version D key block that this switch can read.
    #[error("this is not a TR-31 version D key block: {0}")]
    Format(&'static str),
    /// The MAC is wrong: damaged, or made under another master key.
    #[error("the authentication failed: the data is damaged or was made under another key")]
    Authentication,
    /// The key is for another purpose.
    #[error("the key has usage {found}, here it must be {wanted}")]
    Usage {
        /// Usage of the key.
        found: KeyUsage,
        /// Usage of the call.
        wanted: KeyUsage,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
}

/// What a key is for; a key serves one purpose only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUsage {
    /// P0: PIN encryption, a ZPK or PEK. Triple DES.
    PinEncryption,
    /// M7: HMAC, the card-digest key. HMAC-SHA-256.
    Hmac,
    /// D0: data encryption, the PAN key. AES-256.
    DataEncryption,
}

impl KeyUsage {
    const ALL: [KeyUsage; 3] = [KeyUsage::PinEncryption, KeyUsage::Hmac, KeyUsage::DataEncryption];

    /// The header characters for usage, algorithm and mode of use (X9.143 tables 3 to 5).
    const fn header(self) -> &'static str {
        match self {
            KeyUsage::PinEncryption => "P0TB",
            KeyUsage::Hmac => "M7HC",
            KeyUsage::DataEncryption => "D0AB",
        }
    }

    fn allows(self, bytes: usize) -> bool {
        match self {
            KeyUsage::PinEncryption => matches!(bytes, 16 | 24),
            KeyUsage::Hmac | KeyUsage::DataEncryption => bytes == 32,
        }
    }
}

impl fmt::Display for KeyUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyUsage::PinEncryption => "P0 (PIN encryption, triple DES)",
            KeyUsage::Hmac => "M7 (HMAC-SHA-256)",
            KeyUsage::DataEncryption => "D0 (data encryption, AES-256)",
        })
    }
}

/// Key check value: the first three bytes of the encrypted zero block (triple DES), of the
/// CMAC of it (AES) or of the HMAC of sixteen zero bytes (HMAC). All that is ever shown of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kcv([u8; 3]);

impl fmt::Display for Kcv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.0;
        write!(f, "{a:02X}{b:02X}{c:02X}")
    }
}

/// A clear key with its purpose, inside the software HSM and the key commands only.
#[derive(Clone)]
pub struct Key {
    usage: KeyUsage,
    value: Zeroizing<Vec<u8>>,
}

impl Key {
    /// Checks length and, for triple DES, parity, parts and weak keys.
    ///
    /// # Errors
    /// [`KeyFault`], the first that applies.
    pub fn new(usage: KeyUsage, value: Zeroizing<Vec<u8>>) -> Result<Key, KeyFault> {
        if !usage.allows(value.len()) {
            return Err(KeyFault::Length);
        }
        if usage == KeyUsage::PinEncryption {
            is_usable_tdes_key(&value)?;
        }
        Ok(Key { usage, value })
    }

    /// A new random key; triple DES keys are of double length.
    ///
    /// # Errors
    /// If the machine gives no random bytes.
    pub fn generate(usage: KeyUsage) -> Result<Key, KeyFault> {
        let value = match usage {
            KeyUsage::PinEncryption => Zeroizing::new(random::tdes_key::<16>()?.to_vec()),
            KeyUsage::Hmac | KeyUsage::DataEncryption => {
                Zeroizing::new(random::bytes::<32>()?.to_vec())
            }
        };
        Key::new(usage, value)
    }

    /// What it is for.
    #[must_use]
    pub const fn usage(&self) -> KeyUsage {
        self.usage
    }

    /// The bytes, for a call of this usage.
    ///
    /// # Errors
    /// [`KeyFault::Usage`] if the key is for another purpose.
    pub fn value_for(&self, wanted: KeyUsage) -> Result<&[u8], KeyFault> {
        match self.usage == wanted {
            true => Ok(&self.value),
            false => Err(KeyFault::Usage { found: self.usage, wanted }),
        }
    }

    /// Whether another key has the same value, in constant time.
    #[must_use]
    pub fn has_value(&self, other: &[u8]) -> bool {
        self.value.as_slice().ct_eq(other).into()
    }

    /// Its check value.
    ///
    /// # Errors
    /// Never for a key that [`Key::new`] accepted.
    pub fn kcv(&self) -> Result<Kcv, KeyFault> {
        let [a, b, c, ..] = match self.usage {
            KeyUsage::PinEncryption => TdesKey::new(&self.value)?.encrypt(&[0; 8]),
            KeyUsage::DataEncryption => {
                first_eight(Cmac::<Aes256>::new_from_slice(&self.value), &[0; 16])?
            }
            KeyUsage::Hmac => {
                first_eight(<Hmac<Sha256> as KeyInit>::new_from_slice(&self.value), &[0; 16])?
            }
        };
        Ok(Kcv([a, b, c]))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.usage)
    }
}

fn first_eight<M: Mac, E>(mac: Result<M, E>, data: &[u8]) -> Result<[u8; 8], KeyFault> {
    let mut mac = mac.map_err(|_| KeyFault::Length)?;
    mac.update(data);
    let tag = mac.finalize().into_bytes();
    tag.first_chunk().copied().ok_or(KeyFault::Length)
}

/// Expanded triple DES key: the schedule is made once per key.
#[derive(ZeroizeOnDrop)]
pub(crate) struct TdesKey(TdesEde3);

impl TdesKey {
    pub(crate) fn new(value: &[u8]) -> Result<TdesKey, KeyFault> {
        let first = value.first_chunk::<8>().ok_or(KeyFault::Length)?;
        let whole = Zeroizing::new(match value.len() {
            16 => [value, first].concat(),
            24 => value.to_vec(),
            _ => return Err(KeyFault::Length),
        });
        TdesEde3::new_from_slice(&whole).map(TdesKey).map_err(|_| KeyFault::Length)
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

/// Sets the lowest bit of each byte so that the byte has odd parity.
pub fn set_odd_parity(key: &mut [u8]) {
    key.iter_mut().for_each(|byte| *byte ^= u8::from(byte.count_ones().is_multiple_of(2)));
}

/// Checks length, parity, parts and weak keys of a double or triple length key.
///
/// # Errors
/// [`KeyFault`], the first that applies.
pub fn is_usable_tdes_key(key: &[u8]) -> Result<(), KeyFault> {
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

/// The master key (KBPK, AES-256) under which all key blocks of this switch are.
pub struct MasterKey {
    encryption: Zeroizing<[u8; 32]>,
    authentication: Zeroizing<[u8; 32]>,
}

const HEADER_BYTES: usize = 16;
const MAC_BYTES: usize = 16;
const TDES_FILLED_BYTES: usize = 24;

impl MasterKey {
    /// Derives the encryption and the authentication key (X9.143, 6.3.4: AES-CMAC as key
    /// derivation function).
    ///
    /// # Errors
    /// If the value has not 32 bytes.
    pub fn new(value: &[u8; 32]) -> Result<MasterKey, KeyFault> {
        Ok(MasterKey { encryption: derive(value, 0)?, authentication: derive(value, 1)? })
    }

    /// A key block for this key.
    ///
    /// # Errors
    /// If the machine gives no random bytes.
    pub fn wrap(&self, key: &Key) -> Result<String, KeyFault> {
        let mut payload = self.payload(key)?;
        let characters = HEADER_BYTES + 2 * (payload.len() + MAC_BYTES);
        let header = format!("D{characters:04}{}00N0000", key.usage.header());
        let mac = self.mac(header.as_bytes(), &payload)?;
        let length = payload.len();
        cbc::Encryptor::<Aes256>::new(&(*self.encryption).into(), &mac.into())
            .encrypt_padded::<NoPadding>(&mut payload, length)
            .map_err(|_| KeyFault::Length)?;
        Ok(format!("{header}{}{}", hex(&payload), hex(&mac)))
    }

    /// The key in a block.
    ///
    /// # Errors
    /// [`KeyFault`]: the text is no version D block, is damaged, is under another master key,
    /// or holds a key that may not be used.
    pub fn unwrap(&self, block: &str) -> Result<Key, KeyFault> {
        let (header, body) =
            block.split_at_checked(HEADER_BYTES).ok_or(KeyFault::Format("too short"))?;
        let usage = parse_header(header, block.len())?;
        let body = from_hex(body).ok_or(KeyFault::Format("not hexadecimal"))?;
        let (cipher, mac) =
            body.split_last_chunk::<MAC_BYTES>().ok_or(KeyFault::Format("no MAC"))?;
        let mut payload = Zeroizing::new(cipher.to_vec());
        cbc::Decryptor::<Aes256>::new(&(*self.encryption).into(), &(*mac).into())
            .decrypt_padded::<NoPadding>(&mut payload)
            .map_err(|_| KeyFault::Format("the payload is not a multiple of 16 bytes"))?;
        let expected = self.mac(header.as_bytes(), &payload)?;
        if !bool::from(expected.ct_eq(mac)) {
            return Err(KeyFault::Authentication);
        }
        let (bits, value) = payload.split_first_chunk::<2>().ok_or(KeyFault::Format("empty"))?;
        let length = usize::from(u16::from_be_bytes(*bits) / 8);
        let value = value.get(..length).ok_or(KeyFault::Format("the key is cut short"))?;
        Key::new(usage, Zeroizing::new(value.to_vec()))
    }

    fn payload(&self, key: &Key) -> Result<Zeroizing<Vec<u8>>, KeyFault> {
        let bits = u16::try_from(key.value.len() * 8).map_err(|_| KeyFault::Length)?;
        let fill: [u8; 32] = random::bytes()?;
        let shown = key.value.len().max(TDES_FILLED_BYTES);
        let length = (2 + shown).next_multiple_of(16);
        let content = [&bits.to_be_bytes()[..], &key.value, &fill].concat();
        let mut payload = Zeroizing::new(content);
        payload.truncate(length);
        Ok(payload)
    }

    fn mac(&self, header: &[u8], payload: &[u8]) -> Result<[u8; MAC_BYTES], KeyFault> {
        cmac(self.authentication.as_slice(), &[header, payload])
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

fn parse_header(header: &str, characters: usize) -> Result<KeyUsage, KeyFault> {
    let rest = header.strip_prefix('D').ok_or(KeyFault::Format("its first character is not D"))?;
    let (length, rest) = rest.split_at_checked(4).ok_or(KeyFault::Format("too short"))?;
    if length.parse() != Ok(characters) {
        return Err(KeyFault::Format("its length field differs from its length"));
    }
    let (kind, rest) = rest.split_at_checked(4).ok_or(KeyFault::Format("too short"))?;
    if rest.get(3..5) != Some("00") {
        return Err(KeyFault::Format("it has optional blocks"));
    }
    let usage = KeyUsage::ALL.into_iter().find(|usage| usage.header() == kind);
    usage.ok_or(KeyFault::Format("its usage, algorithm or mode of use has no place here"))
}

/// AES-CMAC in counter mode, two blocks for 256 bits. Purpose 0 derives the encryption key,
/// 1 the authentication key; 0004 is AES-256, 0100 its length in bits.
fn derive(master: &[u8; 32], purpose: u8) -> Result<Zeroizing<[u8; 32]>, KeyFault> {
    let mut key = Zeroizing::new([0; 32]);
    for (counter, half) in (1..).zip(key.as_chunks_mut::<16>().0) {
        *half = cmac(master, &[&[counter, 0, purpose, 0, 0, 4, 1, 0]])?;
    }
    Ok(key)
}

fn cmac(key: &[u8], parts: &[&[u8]]) -> Result<[u8; 16], KeyFault> {
    let mut mac = Cmac::<Aes256>::new_from_slice(key).map_err(|_| KeyFault::Length)?;
    parts.iter().for_each(|part| mac.update(part));
    Ok(mac.finalize().into_bytes().into())
}

/// Upper-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Bytes of a hexadecimal text of even length.
#[must_use]
pub fn from_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut bytes = Zeroizing::new(Vec::with_capacity(pairs.len()));
    for [high, low] in pairs {
        bytes.push(digit(*high)? << 4 | digit(*low)?);
    }
    Some(bytes).filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(byte: u8) -> MasterKey {
        MasterKey::new(&[byte; 32]).unwrap()
    }

    fn zpk() -> Key {
        Key::new(KeyUsage::PinEncryption, from_hex("ECC25208B6FD2023E9767A5489BC9415").unwrap())
            .unwrap()
    }

    #[test]
    fn a_block_gives_its_key_back() {
        for usage in KeyUsage::ALL {
            let key = Key::generate(usage).unwrap();
            let block = master(7).wrap(&key).unwrap();
            let back = master(7).unwrap(&block).unwrap();
            assert_eq!(back.value, key.value);
            assert_eq!(back.usage, usage);
        }
    }

    #[test]
    fn any_changed_character_is_refused() {
        let block = master(7).wrap(&zpk()).unwrap();
        for place in 0..block.len() {
            let mut changed = block.clone().into_bytes();
            changed[place] = if changed[place] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(master(7).unwrap(&changed).is_err(), "character {place}");
        }
        assert_eq!(master(8).unwrap(&block).unwrap_err(), KeyFault::Authentication);
    }

    #[test]
    fn a_key_serves_one_purpose() {
        assert!(zpk().value_for(KeyUsage::PinEncryption).is_ok());
        assert!(matches!(zpk().value_for(KeyUsage::DataEncryption), Err(KeyFault::Usage { .. })));
    }

    #[test]
    fn unusable_keys_are_refused() {
        let fault = |text| {
            Key::new(KeyUsage::PinEncryption, from_hex(text).unwrap()).map(|_| ()).unwrap_err()
        };
        assert_eq!(fault("ECC25208B6FD2023"), KeyFault::Length);
        assert_eq!(fault("ECC25208B6FD2023E9767A5489BC9414"), KeyFault::Parity);
        assert_eq!(fault("ECC25208B6FD2023ECC25208B6FD2023"), KeyFault::EqualParts);
        // Triple length with the first part again is double length under another name.
        let again = "ECC25208B6FD2023E9767A5489BC9415ECC25208B6FD2023";
        assert_eq!(fault(again), KeyFault::EqualParts);
        assert_eq!(fault("ECC25208B6FD20230101010101010101"), KeyFault::Weak);
    }

    #[test]
    fn check_value_is_the_start_of_the_encrypted_zero_block() {
        let key = from_hex("9BE61C3E68EA1379155226163BAD345E").unwrap();
        let key = Key::new(KeyUsage::PinEncryption, key).unwrap();
        assert_eq!(key.kcv().unwrap().to_string(), "7FE30C");
    }
}
