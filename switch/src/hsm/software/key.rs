//! Keys in clear, inside the software HSM and the key commands only: the value, what it is for
//! (usage, algorithm, mode of use as in TR-31, X9.143 tables 3 to 5), and its check value.

use std::fmt;

use aes::{Aes128, Aes192, Aes256};
use cmac::{Cmac, KeyInit, Mac};
use hmac::Hmac;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::cipher::{TdesKey, is_usable_tdes_key};
use super::random;
use crate::key::Kcv;

/// What is wrong with a key. No text holds any part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// A length that the algorithm does not have, or that is too short to use.
    #[error(
        "the key length is wrong: a triple DES key has 16 or 24 bytes, an AES key 16, 24 or 32, \
         an HMAC key 32"
    )]
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
    /// The text is not a key block that this switch can read.
    #[error("this is not a TR-31 key block of version B or D for this switch: {0}")]
    Format(&'static str),
    /// The MAC is wrong: damaged, or made under another key.
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
    /// The key may not do this.
    #[error("the key has mode of use {}, which does not allow it to {wanted}", found.letter())]
    Mode {
        /// Mode of the key.
        found: ModeOfUse,
        /// What the call does.
        wanted: Operation,
    },
    /// The key is of another algorithm.
    #[error("the key has algorithm {}, here it must be {}", found.letter(), wanted.letter())]
    Algorithm {
        /// Algorithm of the key.
        found: Algorithm,
        /// Algorithm of the call.
        wanted: Algorithm,
    },
    /// Usage, algorithm and mode do not go together.
    #[error("this usage has no such algorithm or mode of use")]
    Combination,
    /// The key stays where it is.
    #[error("the key is not exportable")]
    NotExportable,
    /// The wrapping key is weaker than what it shall protect.
    #[error("the key is stronger than the key that would protect it")]
    TooStrong,
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
}

/// What a key is for; a key serves one purpose only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyUsage {
    /// P0: PIN encryption, a ZPK or PEK.
    PinEncryption,
    /// V1: PIN verification, IBM 3624.
    Ibm3624,
    /// V2: PIN verification, Visa PVV.
    VisaPvv,
    /// E0: issuer master key for application cryptograms (IMK-AC).
    Cryptograms,
    /// E1: issuer master key for the confidentiality of secure messaging (IMK-SMC).
    ScriptConfidentiality,
    /// E2: issuer master key for the integrity of secure messaging (IMK-SMI).
    ScriptIntegrity,
    /// K1: key block protection, under which keys travel in TR-31 blocks.
    KeyBlockProtection,
    /// M7: HMAC, the card-digest key.
    Hmac,
    /// D0: data encryption, the PAN key.
    DataEncryption,
}

use Algorithm::{Aes, HmacSha256, Tdes};
use ModeOfUse::{
    Both, Calculate, DecryptOnly, Derive, EncryptOnly, GenerateOnly, Unrestricted, VerifyOnly,
};

impl KeyUsage {
    /// All usages.
    pub const ALL: [KeyUsage; 9] = [
        KeyUsage::PinEncryption,
        KeyUsage::Ibm3624,
        KeyUsage::VisaPvv,
        KeyUsage::Cryptograms,
        KeyUsage::ScriptConfidentiality,
        KeyUsage::ScriptIntegrity,
        KeyUsage::KeyBlockProtection,
        KeyUsage::Hmac,
        KeyUsage::DataEncryption,
    ];

    /// The two characters of the key block header.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            KeyUsage::PinEncryption => "P0",
            KeyUsage::Ibm3624 => "V1",
            KeyUsage::VisaPvv => "V2",
            KeyUsage::Cryptograms => "E0",
            KeyUsage::ScriptConfidentiality => "E1",
            KeyUsage::ScriptIntegrity => "E2",
            KeyUsage::KeyBlockProtection => "K1",
            KeyUsage::Hmac => "M7",
            KeyUsage::DataEncryption => "D0",
        }
    }

    /// The algorithms it may have, the usual one first.
    #[must_use]
    pub const fn algorithms(self) -> &'static [Algorithm] {
        match self {
            KeyUsage::PinEncryption => &[Tdes, Aes],
            KeyUsage::KeyBlockProtection => &[Aes, Tdes],
            KeyUsage::Ibm3624
            | KeyUsage::VisaPvv
            | KeyUsage::Cryptograms
            | KeyUsage::ScriptConfidentiality
            | KeyUsage::ScriptIntegrity => &[Tdes],
            KeyUsage::Hmac => &[HmacSha256],
            KeyUsage::DataEncryption => &[Aes],
        }
    }

    /// The modes of use it may have, the usual one first.
    #[must_use]
    pub const fn modes(self) -> &'static [ModeOfUse] {
        match self {
            KeyUsage::PinEncryption | KeyUsage::KeyBlockProtection | KeyUsage::DataEncryption => {
                &[Both, DecryptOnly, EncryptOnly, Unrestricted]
            }
            KeyUsage::Ibm3624 | KeyUsage::VisaPvv | KeyUsage::Hmac => {
                &[Calculate, GenerateOnly, VerifyOnly, Unrestricted]
            }
            KeyUsage::Cryptograms | KeyUsage::ScriptConfidentiality | KeyUsage::ScriptIntegrity => {
                &[Derive, Unrestricted]
            }
        }
    }
}

impl fmt::Display for KeyUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let purpose = match self {
            KeyUsage::PinEncryption => "PIN encryption",
            KeyUsage::Ibm3624 => "PIN verification, IBM 3624",
            KeyUsage::VisaPvv => "PIN verification, Visa PVV",
            KeyUsage::Cryptograms => "EMV application cryptograms",
            KeyUsage::ScriptConfidentiality => "EMV secure messaging, confidentiality",
            KeyUsage::ScriptIntegrity => "EMV secure messaging, integrity",
            KeyUsage::KeyBlockProtection => "key block protection",
            KeyUsage::Hmac => "HMAC-SHA-256",
            KeyUsage::DataEncryption => "data encryption",
        };
        write!(f, "{} ({purpose})", self.code())
    }
}

/// Algorithm of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// T: triple DES, double or triple length.
    Tdes,
    /// A: AES-128, AES-192 or AES-256.
    Aes,
    /// H: HMAC, with SHA-256 here.
    HmacSha256,
}

impl Algorithm {
    /// The character of the key block header.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Algorithm::Tdes => 'T',
            Algorithm::Aes => 'A',
            Algorithm::HmacSha256 => 'H',
        }
    }

    const fn has_length(self, bytes: usize) -> bool {
        match self {
            Algorithm::Tdes => matches!(bytes, 16 | 24),
            Algorithm::Aes => matches!(bytes, 16 | 24 | 32),
            Algorithm::HmacSha256 => bytes == 32,
        }
    }
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeOfUse {
    /// B: encrypt and decrypt.
    Both,
    /// C: generate and verify.
    Calculate,
    /// D: decrypt only.
    DecryptOnly,
    /// E: encrypt only.
    EncryptOnly,
    /// G: generate only.
    GenerateOnly,
    /// N: whatever the usage allows.
    Unrestricted,
    /// V: verify only.
    VerifyOnly,
    /// X: derive other keys.
    Derive,
}

impl ModeOfUse {
    /// All modes.
    pub const ALL: [ModeOfUse; 8] =
        [Both, Calculate, DecryptOnly, EncryptOnly, GenerateOnly, Unrestricted, VerifyOnly, Derive];

    /// The character of the key block header.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            ModeOfUse::Both => 'B',
            ModeOfUse::Calculate => 'C',
            ModeOfUse::DecryptOnly => 'D',
            ModeOfUse::EncryptOnly => 'E',
            ModeOfUse::GenerateOnly => 'G',
            ModeOfUse::Unrestricted => 'N',
            ModeOfUse::VerifyOnly => 'V',
            ModeOfUse::Derive => 'X',
        }
    }

    const fn allows(self, operation: Operation) -> bool {
        match self {
            ModeOfUse::Both => matches!(operation, Operation::Encrypt | Operation::Decrypt),
            ModeOfUse::Calculate => matches!(operation, Operation::Generate | Operation::Verify),
            ModeOfUse::DecryptOnly => matches!(operation, Operation::Decrypt),
            ModeOfUse::EncryptOnly => matches!(operation, Operation::Encrypt),
            ModeOfUse::GenerateOnly => matches!(operation, Operation::Generate),
            ModeOfUse::VerifyOnly => matches!(operation, Operation::Verify),
            ModeOfUse::Derive => matches!(operation, Operation::Derive),
            ModeOfUse::Unrestricted => true,
        }
    }
}

/// What a call does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Encrypts, or wraps a key.
    Encrypt,
    /// Decrypts, or unwraps a key.
    Decrypt,
    /// Makes a value such as a PVV or a digest.
    Generate,
    /// Compares such a value.
    Verify,
    /// Derives another key.
    Derive,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Encrypt => "encrypt",
            Operation::Decrypt => "decrypt",
            Operation::Generate => "generate",
            Operation::Verify => "verify",
            Operation::Derive => "derive",
        })
    }
}

/// What the header of a key block says of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyAttributes {
    /// What it is for.
    pub usage: KeyUsage,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// What it may do.
    pub mode: ModeOfUse,
    /// Which of several keys of one name it is, 0 to 99; a rotation counts up.
    pub version: u8,
    /// Whether it may leave under another key.
    pub exportable: bool,
}

impl KeyAttributes {
    /// The usual algorithm and mode of a usage; version 1, not exportable.
    #[must_use]
    pub const fn usual(usage: KeyUsage) -> KeyAttributes {
        let (algorithm, mode) = match (usage.algorithms(), usage.modes()) {
            ([algorithm, ..], [mode, ..]) => (*algorithm, *mode),
            _ => (Tdes, Unrestricted),
        };
        KeyAttributes { usage, algorithm, mode, version: 1, exportable: false }
    }

    /// Whether a key with these attributes serves calls of this usage that do this.
    ///
    /// # Errors
    /// If it is for another purpose, or may not do it.
    pub fn permit(&self, wanted: KeyUsage, operation: Operation) -> Result<(), KeyFault> {
        let KeyAttributes { usage, mode, .. } = *self;
        if usage != wanted {
            return Err(KeyFault::Usage { found: usage, wanted });
        }
        match mode.allows(operation) {
            true => Ok(()),
            false => Err(KeyFault::Mode { found: mode, wanted: operation }),
        }
    }

    fn check(&self) -> Result<(), KeyFault> {
        let usage = self.usage;
        let fits =
            usage.algorithms().contains(&self.algorithm) && usage.modes().contains(&self.mode);
        if fits { Ok(()) } else { Err(KeyFault::Combination) }
    }
}

/// A clear key with its attributes.
#[derive(Clone)]
pub struct Key {
    attributes: KeyAttributes,
    value: Zeroizing<Vec<u8>>,
    kcv: Kcv,
}

impl Key {
    /// Checks attributes, length and, for triple DES, parity, parts and weak keys.
    ///
    /// # Errors
    /// [`KeyFault`], the first that applies.
    pub fn new(attributes: KeyAttributes, value: Zeroizing<Vec<u8>>) -> Result<Key, KeyFault> {
        attributes.check()?;
        if !attributes.algorithm.has_length(value.len()) {
            return Err(KeyFault::Length);
        }
        if attributes.algorithm == Tdes {
            is_usable_tdes_key(&value)?;
        }
        let kcv = check_value(attributes.algorithm, &value)?;
        Ok(Key { attributes, value, kcv })
    }

    /// A new random key; triple DES of double length, AES-256.
    ///
    /// # Errors
    /// If the attributes do not go together, or the machine gives no random bytes.
    pub fn generate(attributes: KeyAttributes) -> Result<Key, KeyFault> {
        let value = match attributes.algorithm {
            Tdes => Zeroizing::new(random::tdes_key::<16>()?).to_vec(),
            Aes | HmacSha256 => Zeroizing::new(random::bytes::<32>()?).to_vec(),
        };
        Key::new(attributes, Zeroizing::new(value))
    }

    /// What it is for and may do.
    #[must_use]
    pub const fn attributes(&self) -> KeyAttributes {
        self.attributes
    }

    /// The same key as another version.
    #[must_use]
    pub fn with_version(self, version: u8) -> Key {
        Key { attributes: KeyAttributes { version, ..self.attributes }, ..self }
    }

    /// The same key, exportable only if it was and this says so.
    #[must_use]
    pub fn exportable_if(self, wanted: bool) -> Key {
        let exportable = self.attributes.exportable && wanted;
        Key { attributes: KeyAttributes { exportable, ..self.attributes }, ..self }
    }

    /// The bytes, for a call of this usage that does this.
    ///
    /// # Errors
    /// If the key is for another purpose, or may not do it.
    pub fn value_for(&self, wanted: KeyUsage, operation: Operation) -> Result<&[u8], KeyFault> {
        self.attributes.permit(wanted, operation)?;
        Ok(&self.value)
    }

    /// The bytes, for a key block.
    pub(super) fn value(&self) -> &[u8] {
        &self.value
    }

    /// Whether another key has the same value, parity bits apart, in constant time.
    #[must_use]
    pub fn has_value(&self, other: &[u8]) -> bool {
        let bits =
            |value: &[u8]| Zeroizing::new(value.iter().map(|byte| byte >> 1).collect::<Vec<u8>>());
        bits(&self.value).ct_eq(&bits(other)).into()
    }

    /// Its check value.
    #[must_use]
    pub const fn kcv(&self) -> Kcv {
        self.kcv
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, version {})", self.attributes.usage, self.attributes.version)
    }
}

/// The check value of any bytes of the right length; a component has one too.
///
/// # Errors
/// If the algorithm has no such length.
pub fn check_value(algorithm: Algorithm, value: &[u8]) -> Result<Kcv, KeyFault> {
    let zeros = [0; 16];
    let [a, b, c, ..] = match algorithm {
        Tdes => TdesKey::new(value)?.encrypt(&[0; 8]),
        Aes => match value.len() {
            16 => first_eight(Cmac::<Aes128>::new_from_slice(value), &zeros)?,
            24 => first_eight(Cmac::<Aes192>::new_from_slice(value), &zeros)?,
            _ => first_eight(Cmac::<Aes256>::new_from_slice(value), &zeros)?,
        },
        HmacSha256 => first_eight(<Hmac<Sha256> as KeyInit>::new_from_slice(value), &zeros)?,
    };
    Ok(Kcv([a, b, c]))
}

fn first_eight<M: Mac, E>(mac: Result<M, E>, data: &[u8]) -> Result<[u8; 8], KeyFault> {
    let mut mac = mac.map_err(|_| KeyFault::Length)?;
    mac.update(data);
    let tag = mac.finalize().into_bytes();
    tag.first_chunk().copied().ok_or(KeyFault::Length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex::from_hex;

    const ZPK: &str = "ECC25208B6FD2023E9767A5489BC9415";

    fn key(attributes: KeyAttributes, text: &str) -> Result<Key, KeyFault> {
        Key::new(attributes, from_hex(text).unwrap())
    }

    fn zone_key(mode: ModeOfUse) -> Key {
        key(KeyAttributes { mode, ..KeyAttributes::usual(KeyUsage::PinEncryption) }, ZPK).unwrap()
    }

    #[test]
    fn a_key_serves_one_purpose_and_does_what_its_mode_allows() {
        let usage = KeyUsage::PinEncryption;
        assert!(zone_key(Both).value_for(usage, Operation::Decrypt).is_ok());
        assert!(zone_key(Unrestricted).value_for(usage, Operation::Decrypt).is_ok());
        let other = zone_key(Both).value_for(KeyUsage::VisaPvv, Operation::Verify).unwrap_err();
        assert!(matches!(other, KeyFault::Usage { .. }));
        let wanted = Operation::Decrypt;
        let fault = zone_key(EncryptOnly).value_for(usage, wanted).unwrap_err();
        assert_eq!(fault, KeyFault::Mode { found: EncryptOnly, wanted });
    }

    #[test]
    fn usage_algorithm_and_mode_go_together() {
        let usual = KeyAttributes::usual(KeyUsage::VisaPvv);
        assert_eq!(
            key(KeyAttributes { mode: Both, ..usual }, ZPK).unwrap_err(),
            KeyFault::Combination
        );
        let aes = KeyAttributes { algorithm: Aes, ..usual };
        assert_eq!(key(aes, ZPK).unwrap_err(), KeyFault::Combination);
        for usage in KeyUsage::ALL {
            let made = Key::generate(KeyAttributes::usual(usage)).unwrap();
            assert_eq!(made.attributes(), KeyAttributes::usual(usage));
        }
    }

    #[test]
    fn unusable_keys_are_refused() {
        let fault = |text| {
            key(KeyAttributes::usual(KeyUsage::PinEncryption), text).map(|_| ()).unwrap_err()
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
    fn check_values() {
        // Triple DES: test vector pb0-0. AES-128: CMAC of the zero block under the zero key.
        let tdes = from_hex("9BE61C3E68EA1379155226163BAD345E").unwrap();
        assert_eq!(check_value(Tdes, &tdes).unwrap().to_string(), "7FE30C");
        assert_eq!(check_value(Aes, &[0; 16]).unwrap().to_string(), "763CBC");
        assert!(check_value(Aes, &[0; 15]).is_err());
    }

    #[test]
    fn the_same_value_is_known_whatever_its_parity() {
        let mut value = from_hex(ZPK).unwrap();
        value.iter_mut().for_each(|byte| *byte ^= 1);
        assert!(zone_key(Both).has_value(&value));
        value[3] ^= 2;
        assert!(!zone_key(Both).has_value(&value));
    }
}
