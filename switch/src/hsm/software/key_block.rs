//! TR-31 (ASC X9.143) key blocks: the form in which keys rest and travel. Version D is under an
//! AES key, version B under a triple DES key.
//!
//! A block is a 16-character header, optional blocks, the key under CBC, and a CMAC over all that
//! stands before it with the key in clear; the latter two in hexadecimal. The MAC is also the IV.
//! Payload: key length in bits (2 bytes, big-endian), the key, random fill to a multiple of the
//! cipher's block; triple DES keys are filled to 24 bytes so that a block does not tell their
//! length. Encryption and MAC have keys of their own, derived from the protection key (X9.143,
//! 6.3.4: CMAC as key derivation function in counter mode).
//!
//! Blocks that stay here have a label (optional block LB) that says whose they are, so that none
//! passes for another; what travels has none. Other optional blocks are authenticated and dropped.

use std::fmt;

use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{
    BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, Iv,
    KeyInit,
};
use cmac::{Cmac, Mac};
use des::TdesEde3;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::cipher::triple_length;
use super::key::{Algorithm, Key, KeyAttributes, KeyFault, KeyUsage, ModeOfUse, Operation};
use super::random;
use crate::hex::{from_hex, hex};

/// Version of a key block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// Under triple DES.
    B,
    /// Under AES.
    D,
}

impl Version {
    const fn letter(self) -> char {
        match self {
            Version::B => 'B',
            Version::D => 'D',
        }
    }

    /// Bytes of the cipher's block, which is also the length of the MAC.
    const fn block_bytes(self) -> usize {
        match self {
            Version::B => 8,
            Version::D => 16,
        }
    }
}

/// A key under which key blocks are (KBPK), with what is derived from it.
#[derive(Clone)]
pub struct ProtectionKey {
    version: Version,
    /// Length of the protection key: a block never holds a stronger one.
    strength: usize,
    encryption: Zeroizing<Vec<u8>>,
    authentication: Zeroizing<Vec<u8>>,
}

/// Longest block that is read, in characters: the header's length field has four digits.
pub const BLOCK_CHARACTERS_MAX: usize = 9_992;

const HEADER_CHARACTERS: usize = 16;
/// Identifier and length of an optional block.
const OPTIONAL_HEAD_CHARACTERS: usize = 4;
/// Identifier of the optional block that holds the label.
const LABEL: &str = "LB";
const LENGTH_BYTES: usize = 2;
const TDES_FILLED_BYTES: usize = 24;

impl ProtectionKey {
    /// The master key of a switch: AES-256, so its blocks are of version D.
    ///
    /// # Errors
    /// Never for 32 bytes.
    pub fn master(value: &[u8; 32]) -> Result<ProtectionKey, KeyFault> {
        ProtectionKey::derive(Version::D, value)
    }

    /// A key of usage K1, under which keys travel: version D for AES, B for triple DES. What
    /// it does with them, wrap or unwrap, its mode of use must allow.
    ///
    /// # Errors
    /// If the key is for another purpose.
    pub fn of(key: &Key, operation: Operation) -> Result<ProtectionKey, KeyFault> {
        let value = key.value_for(KeyUsage::KeyBlockProtection, operation)?;
        match key.attributes().algorithm {
            Algorithm::Tdes => ProtectionKey::derive(Version::B, value),
            Algorithm::Aes => ProtectionKey::derive(Version::D, value),
            found @ Algorithm::HmacSha256 => {
                Err(KeyFault::Algorithm { found, wanted: Algorithm::Aes })
            }
        }
    }

    fn derive(version: Version, value: &[u8]) -> Result<ProtectionKey, KeyFault> {
        // Algorithm of the derived key, and its length in bits, as the derivation data has them.
        let (algorithm, bits) = match (version, value.len()) {
            (Version::B, 16) => (0, 0x0080),
            (Version::B, 24) => (1, 0x00C0),
            (Version::D, 16) => (2, 0x0080),
            (Version::D, 24) => (3, 0x00C0),
            (Version::D, 32) => (4, 0x0100_u16),
            _ => return Err(KeyFault::Length),
        };
        let key = |purpose: u8| {
            let mut key = Zeroizing::new(vec![0; value.len()]);
            for (counter, part) in (1..).zip(key.chunks_mut(version.block_bytes())) {
                let [high, low] = bits.to_be_bytes();
                let data = [counter, 0, purpose, 0, 0, algorithm, high, low];
                let mac = mac(version, value, &[&data])?;
                part.iter_mut().zip(mac.iter()).for_each(|(to, from)| *to = *from);
            }
            Ok(key)
        };
        let (encryption, authentication) = (key(0)?, key(1)?);
        Ok(ProtectionKey { version, strength: value.len(), encryption, authentication })
    }

    /// A key block for this key, without a label.
    ///
    /// # Errors
    /// If the key is stronger than this one, or the machine gives no random bytes.
    pub fn wrap(&self, key: &Key) -> Result<String, KeyFault> {
        self.check_strength(key)?;
        self.wrap_value(key.attributes(), key.value(), None)
    }

    /// A key block that says whose it is.
    ///
    /// # Errors
    /// As of [`ProtectionKey::wrap`], or if the label is not 1 to 251 printable characters.
    pub fn wrap_labelled(&self, key: &Key, label: &str) -> Result<String, KeyFault> {
        self.check_strength(key)?;
        self.wrap_value(key.attributes(), key.value(), Some(label))
    }

    /// A block with a value that may be no usable key yet: the components so far of one.
    pub(super) fn wrap_value(
        &self,
        attributes: KeyAttributes,
        value: &[u8],
        label: Option<&str>,
    ) -> Result<String, KeyFault> {
        let mut payload = self.payload(value)?;
        let optional = label.map(|label| optional_blocks(self.version, label)).transpose()?;
        let optional = optional.unwrap_or_default();
        let body = 2 * (payload.len() + self.version.block_bytes());
        let characters = HEADER_CHARACTERS + optional.text.len() + body;
        let header = header(self.version, characters, attributes, &optional);
        let mac = self.mac(header.as_bytes(), &payload)?;
        crypt(self.version, &self.encryption, &mac, Direction::Encrypt(&mut payload))?;
        Ok(format!("{header}{}{}", hex(&payload), hex(&mac)))
    }

    /// The key in a block.
    ///
    /// # Errors
    /// [`KeyFault`]: the text is no such block, is damaged, is under another key, or holds a key
    /// that may not be used.
    pub fn unwrap(&self, block: &str) -> Result<Key, KeyFault> {
        self.unwrap_labelled(block).map(|(key, _)| key)
    }

    /// The key in a block, and its label if it has one.
    ///
    /// # Errors
    /// As of [`ProtectionKey::unwrap`].
    pub fn unwrap_labelled<'b>(&self, block: &'b str) -> Result<(Key, Option<&'b str>), KeyFault> {
        let Unwrapped { attributes, value, label } = self.unwrap_value(block)?;
        let key = Key::new(attributes, value)?;
        self.check_strength(&key)?;
        Ok((key, label))
    }

    pub(super) fn unwrap_value<'b>(&self, block: &'b str) -> Result<Unwrapped<'b>, KeyFault> {
        let attributes = read_header(self.version, block)?;
        let (front, body, label) = split_optional_blocks(block)?;
        let body = from_hex(body).ok_or(KeyFault::Format("its key is not hexadecimal"))?;
        let cipher = body.len().checked_sub(self.version.block_bytes());
        let (cipher, mac) = cipher
            .and_then(|at| body.split_at_checked(at))
            .filter(|(cipher, _)| cipher.len().is_multiple_of(self.version.block_bytes()))
            .ok_or(KeyFault::Format("its key is cut short"))?;
        let mut payload = Zeroizing::new(cipher.to_vec());
        crypt(self.version, &self.encryption, mac, Direction::Decrypt(&mut payload))?;
        if !bool::from(self.mac(front.as_bytes(), &payload)?.ct_eq(mac)) {
            return Err(KeyFault::Authentication);
        }
        let (bits, value) = payload
            .split_first_chunk::<LENGTH_BYTES>()
            .ok_or(KeyFault::Format("it holds no key"))?;
        let length = usize::from(u16::from_be_bytes(*bits) / 8);
        let value = value.get(..length).ok_or(KeyFault::Format("its key is cut short"))?;
        Ok(Unwrapped { attributes, value: Zeroizing::new(value.to_vec()), label })
    }

    /// A key is protected by one of at least its own strength: triple DES never protects AES,
    /// double length never triple.
    fn check_strength(&self, key: &Key) -> Result<(), KeyFault> {
        let too_strong = match (self.version, key.attributes().algorithm) {
            (Version::B, Algorithm::Tdes) => key.value().len() > self.strength,
            (Version::B, _) => true,
            (Version::D, Algorithm::Tdes) => false,
            (Version::D, _) => key.value().len() > self.strength,
        };
        if too_strong { Err(KeyFault::TooStrong) } else { Ok(()) }
    }

    fn payload(&self, value: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyFault> {
        let bits = u16::try_from(value.len() * 8).map_err(|_| KeyFault::Length)?;
        let fill: [u8; 32] = random::bytes()?;
        let shown = value.len().max(TDES_FILLED_BYTES);
        let length = (LENGTH_BYTES + shown).next_multiple_of(self.version.block_bytes());
        let mut payload = Zeroizing::new([&bits.to_be_bytes()[..], value, &fill].concat());
        payload.truncate(length);
        Ok(payload)
    }

    fn mac(&self, header: &[u8], payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyFault> {
        mac(self.version, &self.authentication, &[header, payload])
    }
}

impl fmt::Debug for ProtectionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProtectionKey(version {})", self.version.letter())
    }
}

/// What a block holds; all of it is authenticated.
pub(super) struct Unwrapped<'b> {
    pub(super) attributes: KeyAttributes,
    pub(super) value: Zeroizing<Vec<u8>>,
    pub(super) label: Option<&'b str>,
}

/// Optional blocks as they stand behind the header.
#[derive(Default)]
struct OptionalBlocks {
    count: u8,
    text: String,
}

/// The label, and the padding block that fills it up to whole blocks of the cipher.
fn optional_blocks(version: Version, label: &str) -> Result<OptionalBlocks, KeyFault> {
    let length = u8::try_from(label.len() + OPTIONAL_HEAD_CHARACTERS).ok();
    let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    let length = length
        .filter(|_| !label.is_empty() && label.bytes().all(printable))
        .ok_or(KeyFault::Format("its label has 1 to 251 printable characters"))?;
    let text = format!("{LABEL}{length:02X}{label}");
    if text.len().is_multiple_of(version.block_bytes()) {
        return Ok(OptionalBlocks { count: 1, text });
    }
    let whole = (text.len() + OPTIONAL_HEAD_CHARACTERS).next_multiple_of(version.block_bytes());
    let length = whole - text.len();
    let zeros = "0".repeat(length - OPTIONAL_HEAD_CHARACTERS);
    Ok(OptionalBlocks { count: 2, text: format!("{text}PB{length:02X}{zeros}") })
}

fn header(
    version: Version,
    characters: usize,
    attributes: KeyAttributes,
    optional: &OptionalBlocks,
) -> String {
    let KeyAttributes { usage, algorithm, mode, version: key_version, exportable } = attributes;
    let (version, usage) = (version.letter(), usage.code());
    let (algorithm, mode) = (algorithm.letter(), mode.letter());
    let exportable = if exportable { 'E' } else { 'N' };
    let OptionalBlocks { count, text } = optional;
    format!(
        "{version}{characters:04}{usage}{algorithm}{mode}{key_version:02}{exportable}{count:02}00\
         {text}"
    )
}

fn read_header(version: Version, block: &str) -> Result<KeyAttributes, KeyFault> {
    let header: &[u8; HEADER_CHARACTERS] =
        block.as_bytes().first_chunk().ok_or(KeyFault::Format("it is too short"))?;
    if !block.is_ascii() {
        return Err(KeyFault::Format("it is not ASCII"));
    }
    let [found, l1, l2, l3, l4, u1, u2, algorithm, mode, v1, v2, export, _, _, r1, r2] = *header;
    let version = version.letter();
    if char::from(found) != version {
        let (b, d) = ("its version is not B", "its version is not D");
        return Err(KeyFault::Format(if version == 'B' { b } else { d }));
    }
    if digits(&[l1, l2, l3, l4]) != Some(block.len()) {
        return Err(KeyFault::Format("its length field differs from its length"));
    }
    if [r1, r2] != *b"00" {
        return Err(KeyFault::Format("its reserved field is not 00"));
    }
    let unknown = KeyFault::Format("its usage, algorithm or mode of use has no place here");
    let usages = KeyUsage::ALL.into_iter();
    let usage = usages.into_iter().find(|usage| usage.code().as_bytes() == [u1, u2]);
    let usage = usage.ok_or(unknown)?;
    let is = |letter: char, byte: u8| letter == char::from(byte);
    let mut algorithms = usage.algorithms().iter().copied();
    let mut modes = ModeOfUse::ALL.into_iter();
    Ok(KeyAttributes {
        usage,
        algorithm: algorithms.find(|known| is(known.letter(), algorithm)).ok_or(unknown)?,
        mode: modes.find(|known| is(known.letter(), mode)).ok_or(unknown)?,
        version: digits(&[v1, v2])
            .and_then(|version| u8::try_from(version).ok())
            .ok_or(KeyFault::Format("its key version is not a number"))?,
        exportable: match export {
            b'E' => true,
            // S: exportable in untrusted forms too, which this switch does not know.
            b'N' | b'S' => false,
            _ => return Err(KeyFault::Format("its exportability is none of E, N and S")),
        },
    })
}

/// Header and optional blocks, what follows them, and the label if there is one. An optional block
/// is two characters of identifier and two hexadecimal digits of its own length in characters.
fn split_optional_blocks(block: &str) -> Result<(&str, &str, Option<&str>), KeyFault> {
    let bad = KeyFault::Format("its optional blocks cannot be read");
    let count = block.as_bytes().get(12..14).and_then(digits).ok_or(bad)?;
    let (mut at, mut label) = (HEADER_CHARACTERS, None);
    for _ in 0..count {
        let (head, length) = (at + OPTIONAL_HEAD_CHARACTERS, block.get(at + 2..at + 4));
        let length = usize::from_str_radix(length.ok_or(bad)?, 16).map_err(|_| bad)?;
        // A length of 00 announces the extended form, which only blocks above 255 need.
        let end = if length >= OPTIONAL_HEAD_CHARACTERS { at + length } else { return Err(bad) };
        if block.get(at..at + 2) == Some(LABEL) {
            label = label.or(block.get(head..end));
        }
        at = end;
    }
    let (front, body) = block.split_at_checked(at).ok_or(bad)?;
    Ok((front, body, label))
}

fn digits(text: &[u8]) -> Option<usize> {
    text.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + usize::from(byte - b'0'))
    })
}

/// Wiped when dropped: derived keys come out of it too.
fn mac(version: Version, key: &[u8], parts: &[&[u8]]) -> Result<Zeroizing<Vec<u8>>, KeyFault> {
    match (version, key.len()) {
        (Version::B, _) => cmac(Cmac::<TdesEde3>::new_from_slice(&triple_length(key)?), parts),
        (Version::D, 16) => cmac(Cmac::<Aes128>::new_from_slice(key), parts),
        (Version::D, 24) => cmac(Cmac::<Aes192>::new_from_slice(key), parts),
        (Version::D, _) => cmac(Cmac::<Aes256>::new_from_slice(key), parts),
    }
}

fn cmac<M: Mac, E>(mac: Result<M, E>, parts: &[&[u8]]) -> Result<Zeroizing<Vec<u8>>, KeyFault> {
    let mut mac = mac.map_err(|_| KeyFault::Length)?;
    parts.iter().for_each(|part| mac.update(part));
    let mut tag = mac.finalize().into_bytes();
    let copy = Zeroizing::new(tag.to_vec());
    tag.as_mut_slice().zeroize();
    Ok(copy)
}

enum Direction<'a> {
    Encrypt(&'a mut [u8]),
    Decrypt(&'a mut [u8]),
}

/// CBC over whole blocks, in place.
fn crypt(version: Version, key: &[u8], iv: &[u8], data: Direction<'_>) -> Result<(), KeyFault> {
    match (version, key.len()) {
        (Version::B, _) => cbc(TdesEde3::new_from_slice(&triple_length(key)?), iv, data),
        (Version::D, 16) => cbc(Aes128::new_from_slice(key), iv, data),
        (Version::D, 24) => cbc(Aes192::new_from_slice(key), iv, data),
        (Version::D, _) => cbc(Aes256::new_from_slice(key), iv, data),
    }
}

fn cbc<C, E>(cipher: Result<C, E>, iv: &[u8], data: Direction<'_>) -> Result<(), KeyFault>
where
    C: BlockCipherEncrypt + BlockCipherDecrypt,
{
    let cipher = cipher.map_err(|_| KeyFault::Length)?;
    let partial = KeyFault::Format("its key is cut short");
    match data {
        Direction::Encrypt(data) => {
            let iv: &Iv<cbc::Encryptor<C>> = iv.try_into().map_err(|_| partial)?;
            let length = data.len();
            cbc::Encryptor::inner_iv_init(cipher, iv)
                .encrypt_padded::<NoPadding>(data, length)
                .map_err(|_| partial)?;
        }
        Direction::Decrypt(data) => {
            let iv: &Iv<cbc::Decryptor<C>> = iv.try_into().map_err(|_| partial)?;
            cbc::Decryptor::inner_iv_init(cipher, iv)
                .decrypt_padded::<NoPadding>(data)
                .map_err(|_| partial)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(byte: u8) -> ProtectionKey {
        ProtectionKey::master(&[byte; 32]).unwrap()
    }

    fn zpk() -> Key {
        let attributes = KeyAttributes {
            version: 7,
            exportable: true,
            ..KeyAttributes::usual(KeyUsage::PinEncryption)
        };
        Key::new(attributes, from_hex("ECC25208B6FD2023E9767A5489BC9415").unwrap()).unwrap()
    }

    fn protection(algorithm: Algorithm) -> ProtectionKey {
        let usual = KeyAttributes::usual(KeyUsage::KeyBlockProtection);
        let key = Key::generate(KeyAttributes { algorithm, ..usual }).unwrap();
        ProtectionKey::of(&key, Operation::Encrypt).unwrap()
    }

    #[test]
    fn a_block_gives_its_key_back() {
        for usage in KeyUsage::ALL {
            let key = Key::generate(KeyAttributes::usual(usage)).unwrap();
            let back = master(7).unwrap(&master(7).wrap(&key).unwrap()).unwrap();
            assert_eq!((back.value(), back.attributes()), (key.value(), key.attributes()));
        }
        for algorithm in [Algorithm::Tdes, Algorithm::Aes] {
            let protection = protection(algorithm);
            let block = protection.wrap(&zpk()).unwrap();
            let letter = if algorithm == Algorithm::Tdes { "B0096" } else { "D0112" };
            assert_eq!(block.get(..16).unwrap(), format!("{letter}P0TB07E0000"));
            assert_eq!(protection.unwrap(&block).unwrap().attributes(), zpk().attributes());
        }
    }

    #[test]
    fn a_label_comes_back_and_fills_whole_blocks_of_the_cipher() {
        for protection in [master(7), protection(Algorithm::Tdes)] {
            for length in 1..=251 {
                let label = "x".repeat(length);
                let block = protection.wrap_labelled(&zpk(), &label).unwrap();
                let (key, found) = protection.unwrap_labelled(&block).unwrap();
                assert_eq!((key.value(), found), (zpk().value(), Some(&*label)));
                let (front, _, _) = split_optional_blocks(&block).unwrap();
                let optional = front.len() - HEADER_CHARACTERS;
                assert!(optional.is_multiple_of(protection.version.block_bytes()), "{length}");
            }
            for label in ["", "\n", "\u{e9}", &"x".repeat(252)] {
                assert!(protection.wrap_labelled(&zpk(), label).is_err(), "{label:?}");
            }
            let none = protection.wrap(&zpk()).unwrap();
            assert_eq!(protection.unwrap_labelled(&none).unwrap().1, None);
        }
    }

    #[test]
    fn any_changed_character_is_refused() {
        for protection in [master(7), protection(Algorithm::Tdes)] {
            let block = protection.wrap_labelled(&zpk(), "zpk").unwrap();
            for place in 0..block.len() {
                let mut changed = block.clone().into_bytes();
                changed[place] = if changed[place] == b'1' { b'2' } else { b'1' };
                let changed = String::from_utf8(changed).unwrap();
                assert!(protection.unwrap(&changed).is_err(), "character {place}");
                assert!(protection.unwrap(&block[..place]).is_err(), "{place} characters");
            }
        }
        let block = master(7).wrap(&zpk()).unwrap();
        assert_eq!(master(8).unwrap(&block).unwrap_err(), KeyFault::Authentication);
    }

    #[test]
    fn a_key_is_never_weaker_protected_than_it_is() {
        let b = protection(Algorithm::Tdes);
        let usual = KeyAttributes::usual(KeyUsage::PinEncryption);
        let aes = Key::generate(KeyAttributes { algorithm: Algorithm::Aes, ..usual }).unwrap();
        assert_eq!(b.wrap(&aes).unwrap_err(), KeyFault::TooStrong);
        let triple = Zeroizing::new(random::tdes_key::<24>().unwrap().to_vec());
        let triple = Key::new(usual, triple).unwrap();
        assert_eq!(b.wrap(&triple).unwrap_err(), KeyFault::TooStrong);
        assert!(protection(Algorithm::Aes).wrap(&triple).is_ok());
    }

    #[test]
    fn only_a_protection_key_protects() {
        let fault = ProtectionKey::of(&zpk(), Operation::Encrypt).unwrap_err();
        assert!(matches!(fault, KeyFault::Usage { .. }));
        let usual = KeyAttributes::usual(KeyUsage::KeyBlockProtection);
        let key = Key::generate(KeyAttributes { mode: ModeOfUse::DecryptOnly, ..usual }).unwrap();
        assert!(ProtectionKey::of(&key, Operation::Decrypt).is_ok());
        let fault = ProtectionKey::of(&key, Operation::Encrypt).unwrap_err();
        assert!(matches!(fault, KeyFault::Mode { .. }));
    }
}
