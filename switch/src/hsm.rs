//! The HSM, the second of the four seams, at business level: verify a PIN or a cryptogram, take
//! over a new PIN, answer a chip. What comes out are outcomes. No key crosses it, and a clear PIN
//! only where one arrived in clear.

pub mod emv;
pub mod pin_method;
pub mod software;

use std::future::Future;

pub use crate::key::{Kcv, KeyName};
pub use crate::pin::{
    ClearPin, Digits, KeptPin, PinBlock, PinBlockFormat, PinBlockFormats, PinReference,
    ReferenceValue,
};
pub use pin_method::{PinMethod, PinMethods};

use crate::cards::Pan;
use crate::cards::chip_state::ChangeKind;
use crate::outcome::{CryptogramOutcome, PinOutcome};
use crate::pin::PVV_DIGITS;
use emv::{CryptogramProfile, IssuerAnswer};

/// The calls of the switch to its HSM.
pub trait Hsm: Send + Sync + 'static {
    /// Verifies the PIN of a request against the card's reference.
    fn verify_pin(&self, call: VerifyPin<'_>) -> impl Future<Output = PinOutcome> + Send;

    /// Takes over a new PIN: the answer is what later PINs are compared with.
    ///
    /// # Errors
    /// [`AcceptPinError`]; nothing has changed then.
    fn accept_pin(
        &self,
        call: AcceptPin<'_>,
    ) -> impl Future<Output = Result<AcceptedPin, AcceptPinError>> + Send;

    /// Makes of the PIN of one card the PIN of another one, under another PAN. Nothing but the
    /// issuing of a card may call it: elsewhere a change of the PAN is forbidden (PCI PIN
    /// Security), since with a PAN of one's own it would turn any block into a PIN. A network HSM
    /// may refuse it.
    ///
    /// # Errors
    /// [`MovePinError`].
    fn move_pin(
        &self,
        call: MovePin<'_>,
    ) -> impl Future<Output = Result<AcceptedPin, MovePinError>> + Send;

    /// Opens a PIN that was kept, for who may see it in clear: the one call from which a PIN comes
    /// out. A payShield does it by its command NG, under two officers' authorization; a profile for
    /// production has no use for it.
    ///
    /// # Errors
    /// If it gives no answer, or the PIN does not open: another key, another PAN.
    fn reveal_clear(
        &self,
        call: RevealPin<'_>,
    ) -> impl Future<Output = Result<Box<ClearPin>, HsmUnavailable>> + Send;

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

    /// The test keys that everybody knows, where the issuer master keys of a product are these in
    /// every version; `None` for any other: who can ask for cryptograms can forge cards.
    fn test_keys(&self, keys: &ChipKeys) -> impl Future<Output = Option<TestKeys>> + Send;

    /// Whether the keys that a product names are there, each for its purpose.
    ///
    /// # Errors
    /// The first that is not.
    fn check_keys(
        &self,
        methods: &PinMethods,
        chip: Option<&ChipKeys>,
    ) -> impl Future<Output = Result<(), MissingKey>> + Send;

    /// Whether the HSM can verify PINs now.
    fn health(&self) -> impl Future<Output = Result<(), HsmUnavailable>> + Send;
}

/// A request to verify a PIN.
#[derive(Clone, Copy)]
pub struct VerifyPin<'a> {
    /// The PIN that was entered, in the form in which it came.
    pub pin: EnteredPin<'a>,
    /// The PAN of the request.
    pub pan: &'a Pan,
    /// The card's reference.
    pub reference: &'a PinReference,
    /// The methods of the card's product, for their parameters.
    pub methods: &'a PinMethods,
}

/// A PIN that was entered, in the form in which it came.
#[derive(Clone, Copy)]
pub enum EnteredPin<'a> {
    /// As a block, from a link.
    Block(EnteredBlock<'a>),
    /// In clear, from a call outside a transaction.
    Clear(&'a ClearPin),
}

/// A PIN block from a link.
#[derive(Clone, Copy)]
pub struct EnteredBlock<'a> {
    /// DE52, under the zone PIN key.
    pub block: &'a PinBlock,
    /// The zone PIN key (ZPK) of the link.
    pub zpk: &'a KeyName,
    /// Formats that the link may send.
    pub formats: PinBlockFormats,
}

/// A request to show a PIN that was kept.
#[derive(Clone, Copy)]
pub struct RevealPin<'a> {
    /// The PIN as it was kept.
    pub kept: &'a KeptPin,
    /// The PAN of the card.
    pub pan: &'a Pan,
}

/// A request to give a card the PIN of another one.
#[derive(Clone, Copy)]
pub struct MovePin<'a> {
    /// The PIN as it was kept.
    pub kept: &'a KeptPin,
    /// The PAN of the card that has it.
    pub pan: &'a Pan,
    /// That card's reference: the kept PIN must be the one that is right now.
    pub reference: &'a PinReference,
    /// The methods of that card's product, for their parameters.
    pub methods: &'a PinMethods,
    /// The PAN of the card that gets it.
    pub new_pan: &'a Pan,
    /// The current method of the product of the card that gets it.
    pub new_method: &'a PinMethod,
}

/// A request to take over a new PIN.
#[derive(Clone, Copy)]
pub struct AcceptPin<'a> {
    /// The new PIN, or what stands for it.
    pub pin: NewPin<'a>,
    /// The PAN of the card.
    pub pan: &'a Pan,
    /// The current method of the card's product.
    pub method: &'a PinMethod,
}

/// A new PIN, in the form in which it came.
#[derive(Clone, Copy)]
pub enum NewPin<'a> {
    /// In clear.
    Clear(&'a ClearPin),
    /// A PIN verification value that was computed elsewhere with the product's key: digits 0 to 9,
    /// and its key index.
    Pvv([u8; PVV_DIGITS], u8),
    /// A block that came beside that of the PIN which is right now.
    Beside(BlockBeside<'a>),
    /// An offset of IBM 3624 that was computed elsewhere with the product's key, as long as the
    /// PIN.
    Offset(Digits),
}

/// The block of a new PIN, from a message that has one of the current PIN too.
#[derive(Clone, Copy)]
pub struct BlockBeside<'a> {
    /// The new PIN.
    pub block: &'a PinBlock,
    /// The current one, which tells under which version of the zone key the message was made: what
    /// is read under another one is garbage, and could pass for a PIN.
    pub current: VerifyPin<'a>,
}

/// A new PIN that was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedPin {
    /// What later PINs are compared with.
    pub reference: PinReference,
    /// The PIN itself, for a chip; none where only a value computed from it came.
    pub kept: Option<KeptPin>,
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

/// Issuer master keys for tests, which everybody knows: those of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestKeys {
    /// Of its chips with a Visa application.
    Visa,
    /// Of its chips with an M/Chip application.
    MChip,
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

/// Why a new PIN was not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptPinError {
    /// The PAN is too short for the method's validation data.
    #[error("the PAN is too short for the PIN verification method")]
    PanTooShort,
    /// The value belongs to another method than the product's.
    #[error("the product verifies PINs by another method")]
    OtherMethod,
    /// The key may not be used for it.
    #[error("the PIN verification key: {0}")]
    Key(#[from] software::key::KeyFault),
    /// The block of the PIN cannot be read.
    #[error("the PIN block cannot be used")]
    Unusable,
    /// The PIN that a cardholder has chosen is easy to guess; see [`crate::pin::weak`].
    #[error("the PIN is easy to guess")]
    Weak,
    /// The HSM gave no answer.
    #[error("the HSM is not available")]
    Unavailable,
}

/// Why a PIN was not moved to another PAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MovePinError {
    /// The HSM does not do it, or what was kept is not the PIN of that card.
    #[error("the HSM does not move the PIN to another PAN")]
    Refused,
    /// The other card cannot have it, or the HSM gave no answer.
    #[error(transparent)]
    NotAccepted(#[from] AcceptPinError),
}

/// A key that a product names is not there, or is for another purpose.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key {0} is not in use, or not for this purpose")]
pub struct MissingKey(pub KeyName);

/// The HSM cannot work; the text says why and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the HSM is not available: {0}")]
pub struct HsmUnavailable(pub String);
