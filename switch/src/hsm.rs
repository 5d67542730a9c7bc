//! The HSM, the second of the four seams, at business level: verify a PIN, accept a PIN.
//! No clear PIN, PIN block in clear or key crosses it; what comes out are outcomes.

pub mod cipher;
pub mod components;
pub mod emv;
pub mod key;
pub mod key_block;
pub mod keys;
pub mod pin_block;
pub mod pin_method;
pub mod random;
pub mod software;
#[cfg(test)]
mod vector_tests;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

pub use key::{Kcv, KeyFault};
pub use pin_block::{PinBlockFormat, PinBlockFormats};
pub use pin_method::{PinMethod, PinMethods, PinReference, ReferenceValue};

use crate::cards::chip_state::ChangeKind;
use crate::cards::pan::Pan;
use crate::outcome::{CryptogramOutcome, PinOutcome};
use cipher::TdesKey;
use emv::{CryptogramProfile, IssuerAnswer};
use keys::{KeyChanges, KeysError};

/// The calls of the switch to its HSM.
pub trait Hsm: Send + Sync + 'static {
    /// Verifies the PIN of a request against the card's reference.
    fn verify_pin(&self, call: VerifyPin<'_>) -> impl Future<Output = PinOutcome> + Send;

    /// Takes over a new PIN that came as a PIN block: the answer is what later PINs are
    /// compared with.
    ///
    /// # Errors
    /// [`AcceptPinError`]; nothing has changed then.
    fn accept_pin(
        &self,
        call: AcceptPin<'_>,
    ) -> impl Future<Output = Result<AcceptedPin, AcceptPinError>> + Send;

    /// Verifies the application cryptogram of a request: right, wrong, or no answer.
    fn verify_arqc(&self, call: ChipCall<'_>) -> impl Future<Output = CryptogramOutcome> + Send;

    /// Makes the issuer's answer to a cryptogram that is right, and the command of a script.
    ///
    /// # Errors
    /// If it gives no answer.
    fn issuer_authenticate(
        &self,
        call: IssuerAuthenticate<'_>,
    ) -> impl Future<Output = Result<Authenticated, HsmUnavailable>> + Send;

    /// Every intermediate value of a cryptogram, by name, under issuer master keys that are public
    /// test keys; `None` under any other, and by an HSM that shows no key.
    fn explain_arqc(&self, call: ChipCall<'_>) -> Option<Vec<(String, String)>> {
        let _ = call;
        None
    }

    /// Takes over a PVV or an offset that was computed elsewhere with the product's key, for a
    /// card with this PAN.
    ///
    /// # Errors
    /// [`AcceptPinError`]; nothing has changed then.
    fn adopt_reference(
        &self,
        method: &PinMethod,
        value: GivenReference,
        pan: &Pan,
    ) -> impl Future<Output = Result<PinReference, AcceptPinError>> + Send;

    /// Takes the keys as they are now into use: new versions, and none that was retired. Tells
    /// what has come and gone.
    ///
    /// # Errors
    /// If a key that is needed is missing or not usable; those in use stay then.
    fn reload_keys(&self) -> Result<KeyChanges, KeysError>;

    /// The key under which this process wraps a PIN that arrived in clear, at once.
    fn entry_key(&self) -> &EntryKey;

    /// Whether the HSM can verify PINs now.
    fn health(&self) -> impl Future<Output = Result<(), HsmUnavailable>> + Send;
}

/// A request to verify a PIN.
#[derive(Clone, Copy)]
pub struct VerifyPin<'a> {
    /// DE52, under the zone PIN key.
    pub block: &'a PinBlock,
    /// The zone PIN key (ZPK) of the link.
    pub zpk: &'a KeyName,
    /// Formats that the link may send.
    pub formats: PinBlockFormats,
    /// The PAN of the request.
    pub pan: &'a Pan,
    /// The card's reference.
    pub reference: &'a PinReference,
    /// The methods of the card's product, for their parameters.
    pub methods: &'a PinMethods,
}

/// A request to take over a new PIN.
#[derive(Clone, Copy)]
pub struct AcceptPin<'a> {
    /// The new PIN as an ISO 9564-1 format 0 block under the process's entry key.
    pub block: &'a PinBlock,
    /// The PAN of the card.
    pub pan: &'a Pan,
    /// The current method of the card's product.
    pub method: &'a PinMethod,
}

/// A new PIN that was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedPin {
    /// What later PINs are compared with.
    pub reference: PinReference,
    /// The PIN itself, for a chip.
    pub kept: KeptPin,
}

/// A PIN as an ISO 9564-1 format 0 block under the PIN encryption key, for the script that writes
/// it to a chip. It is never shown.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct KeptPin {
    /// The block.
    pub block: [u8; PinBlock::TDES_BYTES],
    /// Check value of the key.
    #[zeroize(skip)]
    pub key: Kcv,
}

impl fmt::Debug for KeptPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptPin(..)")
    }
}

/// Names of a product's issuer master keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChipKeys {
    /// IMK-AC: application cryptograms (usage E0).
    pub cryptograms: KeyName,
    /// IMK-SMI: integrity of scripts (usage E2).
    pub integrity: KeyName,
    /// IMK-SMC: confidentiality of scripts (usage E1).
    pub confidentiality: KeyName,
}

/// Longest data that a cryptogram covers, in bytes.
const COVERED_BYTES_MAX: usize = 128;

/// The data that a cryptogram covers, one element behind the other.
#[derive(Clone, Copy)]
pub struct CoveredData {
    bytes: [u8; COVERED_BYTES_MAX],
    len: usize,
}

impl Default for CoveredData {
    fn default() -> CoveredData {
        CoveredData { bytes: [0; COVERED_BYTES_MAX], len: 0 }
    }
}

impl CoveredData {
    /// Appends an element; `None` where there is no room for it.
    pub fn push(&mut self, element: &[u8]) -> Option<()> {
        let end = self.len + element.len();
        self.bytes.get_mut(self.len..end)?.copy_from_slice(element);
        self.len = end;
        Some(())
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The cryptogram of a transaction, and how it was made.
#[derive(Clone, Copy)]
pub struct ChipCall<'a> {
    /// The issuer master keys of the card's product.
    pub keys: &'a ChipKeys,
    /// By the card's cryptogram version number.
    pub profile: &'a CryptogramProfile,
    /// The PAN of the card.
    pub pan: &'a Pan,
    /// Its PAN sequence number, 0-99.
    pub sequence: u8,
    /// What it covers.
    pub covered: CoveredData,
    /// 9F26.
    pub arqc: [u8; 8],
    /// 9F36.
    pub atc: [u8; 2],
    /// 9F37.
    pub unpredictable: [u8; 4],
}

/// What a chip is to be told.
#[derive(Clone, Copy)]
pub struct IssuerAuthenticate<'a> {
    /// The cryptogram that is answered.
    pub chip: ChipCall<'a>,
    /// The decision, for the chip.
    pub answer: IssuerAnswer,
    /// What a script changes.
    pub script: Option<&'a ChangeKind>,
}

/// What a chip is told.
#[derive(Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// Tag 91: issuer authentication data, 8 or 10 bytes.
    pub tag_91: Vec<u8>,
    /// Tag 86: the script's command with its MAC.
    pub command: Option<Vec<u8>>,
}

/// What an issuer brings from elsewhere in place of a PIN.
#[derive(Clone, Copy)]
pub enum GivenReference {
    /// A PIN verification value, digits 0 to 9, and its key index.
    Pvv([u8; pin_method::PVV_DIGITS], u8),
    /// An offset of IBM 3624, as long as the PIN.
    Offset(pin_method::Digits),
}

/// Why a new PIN was not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptPinError {
    /// The block could not be read as a PIN.
    #[error("the PIN block cannot be read")]
    BadPinBlock,
    /// The PAN is too short for the method's validation data.
    #[error("the PAN is too short for the PIN verification method")]
    PanTooShort,
    /// The value belongs to another method than the product's.
    #[error("the product verifies PINs by another method")]
    OtherMethod,
    /// The key may not be used for it.
    #[error("the PIN verification key: {0}")]
    Key(#[from] KeyFault),
    /// The HSM gave no answer.
    #[error("the HSM is not available")]
    Unavailable,
}

/// The HSM cannot work; the text says why and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the HSM is not available: {0}")]
pub struct HsmUnavailable(pub String);

/// Name of a key, as the configuration and the key directory spell it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyName(Arc<str>);

impl KeyName {
    /// Takes 1 to 64 letters, digits and hyphens; anything else is `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<KeyName> {
        let valid = (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        valid.then(|| KeyName(text.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A PIN block under a key: 8 bytes (triple DES, formats 0, 1 and 3) or 16 (AES, format 4). It is
/// never shown.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PinBlock {
    bytes: [u8; PinBlock::BYTES_MAX],
    len: u8,
}

impl PinBlock {
    /// Bytes of a PIN block of formats 0, 1 and 3.
    pub const TDES_BYTES: usize = 8;
    /// Bytes of a PIN block of format 4.
    pub const AES_BYTES: usize = 16;
    /// Bytes of the longest PIN block.
    pub const BYTES_MAX: usize = PinBlock::AES_BYTES;

    /// From the bytes of DE52: 8 or 16; anything else is `None`.
    #[must_use]
    pub fn new(block: &[u8]) -> Option<PinBlock> {
        let known = matches!(block.len(), PinBlock::TDES_BYTES | PinBlock::AES_BYTES);
        let mut bytes = [0; PinBlock::BYTES_MAX];
        bytes.get_mut(..block.len()).filter(|_| known)?.copy_from_slice(block);
        Some(PinBlock { bytes, len: u8::try_from(block.len()).ok()? })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Debug for PinBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinBlock(..)")
    }
}

/// A PIN that arrived in clear: 4 to 12 digits (ISO 9564-1, 8.1). It lives only until it is
/// wrapped and is wiped from memory then.
#[derive(ZeroizeOnDrop)]
pub struct ClearPin {
    digits: [u8; ClearPin::DIGITS_MAX],
    len: u8,
}

impl ClearPin {
    /// Shortest PIN.
    pub const DIGITS_MIN: usize = 4;
    /// Longest PIN.
    pub const DIGITS_MAX: usize = 12;

    /// Takes 4 to 12 ASCII digits; anything else is `None`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<ClearPin> {
        let valid = (Self::DIGITS_MIN..=Self::DIGITS_MAX).contains(&text.len())
            && text.iter().all(u8::is_ascii_digit);
        let mut digits = [0; Self::DIGITS_MAX];
        digits.get_mut(..text.len()).filter(|_| valid)?.copy_from_slice(text);
        Some(ClearPin { digits, len: u8::try_from(text.len()).ok()? })
    }

    /// The ASCII digits.
    pub(crate) fn digits(&self) -> &[u8] {
        self.digits.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Debug for ClearPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClearPin(..)")
    }
}

/// The key of this process for PINs that arrive in clear; made at start, kept nowhere.
pub struct EntryKey(TdesKey);

impl EntryKey {
    /// A new random key.
    ///
    /// # Errors
    /// If the machine gives no random bytes.
    pub fn generate() -> Result<EntryKey, KeyFault> {
        let value = Zeroizing::new(random::tdes_key::<16>()?);
        Ok(EntryKey(TdesKey::new(value.as_slice())?))
    }

    /// Wraps a clear PIN as a format 0 block for this card; `None` for a PAN below 13 digits.
    #[must_use]
    pub fn wrap(&self, pin: &ClearPin, pan: &Pan) -> Option<PinBlock> {
        pin_block::iso0(pin, pan).and_then(|clear| PinBlock::new(&self.0.encrypt(&clear)))
    }

    pub(crate) fn unwrap(&self, block: &PinBlock) -> Option<Zeroizing<[u8; 8]>> {
        block.bytes().try_into().ok().map(|block| self.0.decrypt(block))
    }
}

impl fmt::Debug for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EntryKey(..)")
    }
}
