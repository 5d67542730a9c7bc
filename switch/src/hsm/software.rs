//! The embedded software HSM. It is **not** a PCI HSM: keys and PINs are in this process's
//! memory while it works. It says so at start and refuses the profile `production`.

mod cipher;
pub mod components;
mod cryptograms;
mod emv;
mod entered;
pub mod key;
pub mod key_block;
pub mod keys;
mod pin_block;
mod pin_verification;
pub mod public_keys;
pub mod random;
mod vault;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vector_tests;

pub use vault::{DocumentVault, PanVault};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use metrics::Counter;
use subtle::ConstantTimeEq;

use super::pin_method::{Ibm3624, VisaPvv};
use super::{
    AcceptPin, AcceptPinError, AcceptedPin, Authenticated, ChipCall, ChipKeys, ClearPin,
    EnteredPin, Hsm, HsmUnavailable, IssuerAuthenticate, KeyName, MissingKey, MovePin,
    MovePinError, NewPin, PinMethod, PinMethods, PinReference, ReferenceValue, RevealPin, TestKeys,
    VerifyPin,
};
use crate::key::Kcv;
use crate::outcome::{CryptogramOutcome, PinOutcome};
use cipher::{AesKey, TdesKey};
use key::{Algorithm, Key, KeyAttributes, KeyFault, KeyUsage, Operation};
use keys::{KeyChanges, KeySource, KeyVersion, Keys, KeysError, PEK};
use pin_verification::{ibm3624_offset, visa_pvv};

/// A published test key (NIST SP 800-67 style, no key of anybody), for the health check.
const KNOWN_ANSWER_KEY: [u8; 16] = [
    0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10,
];

/// A zone PIN key that a link names.
pub struct ZoneKey {
    /// Its name.
    pub name: KeyName,
    /// AES for format 4, else triple DES.
    pub algorithm: Algorithm,
    /// Counts PIN blocks that only an older version of the key could read: as long as it rises,
    /// the peer has not changed over.
    pub under_older: Counter,
}

/// The keys that products name: these must be there.
#[derive(Default)]
pub struct Needs {
    /// Of the products' PINs.
    pub methods: Vec<PinMethod>,
    /// Of the products' chips.
    pub chips: Vec<ChipKeys>,
}

/// The software HSM with its keys expanded. Of the others it keeps no value.
pub struct SoftwareHsm {
    source: KeySource,
    /// What was there when the keys were read last.
    inventory: Mutex<Vec<KeyVersion>>,
    zone_keys: Vec<ZoneKey>,
    ring: ArcSwap<Ring>,
}

/// The keys in use. A reload puts another ring in its place: a call that has begun goes on with
/// the one it has.
struct Ring {
    /// Versions of the PEK, oldest first.
    peks: Vec<Loaded>,
    /// Versions of each zone PIN key, oldest first.
    zone_keys: HashMap<KeyName, ZoneVersions, foldhash::fast::RandomState>,
    /// Versions of each PIN verification key, oldest first. All there are: a card's reference
    /// says which one made it.
    pvks: HashMap<String, Vec<Loaded>>,
    /// Versions of each issuer master key, oldest first.
    issuer_keys: HashMap<String, Vec<Loaded>>,
}

struct ZoneVersions {
    versions: Vec<Loaded>,
    under_older: Counter,
}

/// A key with its schedule: it is expanded once.
struct Loaded {
    attributes: KeyAttributes,
    kcv: Kcv,
    cipher: Cipher,
    is_public: bool,
    /// Which issuer master keys for tests it is one of.
    test_keys: Option<TestKeys>,
}

enum Cipher {
    Tdes(TdesKey),
    Aes(AesKey),
}

impl Loaded {
    /// Expands a key that must serve calls of this usage that do this.
    fn of(key: &Key, usage: KeyUsage, operation: Operation) -> Result<Loaded, KeyFault> {
        let attributes = key.attributes();
        let value = key.value_for(usage, operation)?;
        let cipher = match attributes.algorithm {
            Algorithm::Tdes => Cipher::Tdes(TdesKey::new(value)?),
            Algorithm::Aes => Cipher::Aes(AesKey::new(value)?),
            found @ Algorithm::HmacSha256 => {
                return Err(KeyFault::Algorithm { found, wanted: Algorithm::Tdes });
            }
        };
        Ok(Loaded { attributes, kcv: key.kcv(), cipher, is_public: false, test_keys: None })
    }

    /// The cipher for a call of this usage that does this; checked at every call.
    fn cipher(&self, usage: KeyUsage, operation: Operation) -> Result<&Cipher, KeyFault> {
        self.attributes.permit(usage, operation).map(|()| &self.cipher)
    }

    fn tdes(&self, usage: KeyUsage, operation: Operation) -> Result<&TdesKey, KeyFault> {
        match self.cipher(usage, operation)? {
            Cipher::Tdes(key) => Ok(key),
            Cipher::Aes(_) => {
                Err(KeyFault::Algorithm { found: Algorithm::Aes, wanted: Algorithm::Tdes })
            }
        }
    }
}

impl Ring {
    fn load(keys: &Keys, zone_keys: &[ZoneKey], needs: &Needs) -> Result<Ring, KeysError> {
        let Needs { methods, chips } = needs;
        let pin_encryption = KeyUsage::PinEncryption;
        let peks = load(keys, PEK, pin_encryption, Operation::Encrypt)?;
        let zone_keys = zone_keys.iter().map(|zone| {
            check_zone_key(keys, &zone.name, zone.algorithm)?;
            let versions = load(keys, zone.name.as_str(), pin_encryption, Operation::Decrypt)?;
            let under_older = zone.under_older.clone();
            Ok((zone.name.clone(), ZoneVersions { versions, under_older }))
        });
        let zone_keys = zone_keys.collect::<Result<_, KeysError>>()?;
        let (mut pvks, mut issuer_keys) = (HashMap::new(), HashMap::new());
        for (name, key) in keys.iter() {
            let KeyAttributes { usage, .. } = key.attributes();
            let (of_usage, operation): (&mut HashMap<String, Vec<Loaded>>, Operation) = match usage
            {
                KeyUsage::Ibm3624 | KeyUsage::VisaPvv => (&mut pvks, Operation::Verify),
                KeyUsage::Cryptograms
                | KeyUsage::ScriptConfidentiality
                | KeyUsage::ScriptIntegrity => (&mut issuer_keys, Operation::Derive),
                _ => continue,
            };
            // One that may not do this is of no use here, and no harm.
            if key.attributes().permit(usage, operation).is_ok() {
                let loaded = Loaded::of(key, usage, operation);
                let mut loaded = loaded.map_err(|fault| KeysError::key(name, fault))?;
                loaded.is_public = public_keys::is_public(key);
                loaded.test_keys = public_keys::test_keys(key);
                of_usage.entry(name.to_owned()).or_default().push(loaded);
            }
        }
        methods.iter().try_for_each(|method| check_pvk(keys, method))?;
        chips.iter().try_for_each(|chip| check_chip_keys(keys, chip))?;
        Ok(Ring { peks, zone_keys, pvks, issuer_keys })
    }

    /// Whether the keys that a product names are there, each for its purpose.
    fn check<'m>(
        &self,
        methods: impl IntoIterator<Item = &'m PinMethod>,
        chips: impl IntoIterator<Item = &'m ChipKeys>,
    ) -> Result<(), MissingKey> {
        let pvks = methods.into_iter().filter_map(pvk_of).map(|wanted| (&self.pvks, wanted));
        let of_chips = chips.into_iter().flat_map(chip_keys_of);
        let of_chips = of_chips.map(|wanted| (&self.issuer_keys, wanted));
        for (all, (name, usage)) in pvks.chain(of_chips) {
            let versions = all.get(name.as_str()).map_or(&[][..], Vec::as_slice);
            if versions.is_empty() || versions.iter().any(|key| key.attributes.usage != usage) {
                return Err(MissingKey(name.clone()));
            }
        }
        Ok(())
    }

    /// The PVK that made a PVV: no two keys have one check value.
    fn visa_pvk(&self, made_with: Kcv) -> Option<&Loaded> {
        let mut all = self.pvks.values().flatten();
        all.find(|key| key.kcv == made_with && key.attributes.usage == KeyUsage::VisaPvv)
    }

    /// The PVK and the method of a product that made an offset.
    fn ibm3624<'m>(
        &self,
        made_with: Kcv,
        parameters: [u8; 2],
        methods: &'m PinMethods,
    ) -> Option<(&Loaded, &'m Ibm3624)> {
        methods.ibm3624().filter(|method| method.fingerprint() == parameters).find_map(|method| {
            let versions = self.pvks.get(method.pvk.as_str())?;
            Some((versions.iter().find(|key| key.kcv == made_with)?, method))
        })
    }

    /// Whether there is all that it takes to verify a PIN against this reference.
    fn knows(&self, reference: &PinReference, methods: &PinMethods) -> bool {
        let made_with = reference.key;
        match reference.value {
            ReferenceValue::Block(_) => self.peks.iter().any(|key| key.kcv == made_with),
            ReferenceValue::Pvv { .. } => self.visa_pvk(made_with).is_some(),
            ReferenceValue::Offset { parameters, .. } => {
                self.ibm3624(made_with, parameters, methods).is_some()
            }
        }
    }

    fn newest_pvk(&self, name: &KeyName) -> Result<&Loaded, AcceptPinError> {
        let newest = self.pvks.get(name.as_str()).and_then(|versions| versions.last());
        newest.ok_or(AcceptPinError::Unavailable)
    }

    /// Compares an entered PIN with the card's reference. Without the key that made the
    /// reference a comparison would say nothing, and must not count as a wrong PIN.
    fn compare(
        &self,
        pin: &ClearPin,
        is_bound_to_pan: bool,
        call: &VerifyPin<'_>,
    ) -> Result<PinOutcome, KeyFault> {
        let (pan, made_with) = (call.pan, call.reference.key);
        let unavailable = Ok(PinOutcome::Unavailable);
        let is_equal = match call.reference.value {
            ReferenceValue::Block(kept) => {
                let pek = self.peks.iter().find(|key| key.kcv == made_with);
                let Some(pek) = pek else { return unavailable };
                let pek = pek.tdes(KeyUsage::PinEncryption, Operation::Encrypt)?;
                pin_block::iso0(pin, pan).map(|block| pek.encrypt(&block).ct_eq(&kept))
            }
            // Without a PAN in the block, a block of one card could be tried on any other whose
            // value is known.
            _ if !is_bound_to_pan => None,
            ReferenceValue::Pvv { pvv, pvki } => {
                let Some(pvk) = self.visa_pvk(made_with) else { return unavailable };
                let pvk = pvk.tdes(KeyUsage::VisaPvv, Operation::Verify)?;
                visa_pvv(pvk, pvki, pin, pan).map(|computed| computed.ct_eq(&pvv))
            }
            ReferenceValue::Offset { digits, parameters } => {
                let found = self.ibm3624(made_with, parameters, call.methods);
                let Some((pvk, method)) = found else { return unavailable };
                let pvk = pvk.tdes(KeyUsage::Ibm3624, Operation::Verify)?;
                let computed = ibm3624_offset(pvk, method, pin, pan);
                computed.map(|computed| computed.to_bytes().ct_eq(&digits.to_bytes()))
            }
        };
        Ok(match is_equal.map(bool::from) {
            Some(true) => PinOutcome::Right,
            Some(false) => PinOutcome::Wrong,
            None => PinOutcome::BadPinBlock,
        })
    }

    fn make_reference(
        &self,
        pin: &ClearPin,
        call: &AcceptPin<'_>,
    ) -> Result<PinReference, AcceptPinError> {
        let pan = call.pan;
        let (value, key) = match call.method {
            PinMethod::TranslatedBlock => {
                let pek = self.peks.last().ok_or(AcceptPinError::Unavailable)?;
                let cipher = pek.tdes(KeyUsage::PinEncryption, Operation::Encrypt)?;
                let block = pin_block::iso0(pin, pan).map(|block| cipher.encrypt(&block));
                (block.map(ReferenceValue::Block), pek.kcv)
            }
            PinMethod::VisaPvv(VisaPvv { pvk, pvki }) => {
                let pvk = self.newest_pvk(pvk)?;
                let cipher = pvk.tdes(KeyUsage::VisaPvv, Operation::Generate)?;
                let pvv = visa_pvv(cipher, *pvki, pin, pan);
                (pvv.map(|pvv| ReferenceValue::Pvv { pvv, pvki: *pvki }), pvk.kcv)
            }
            PinMethod::Ibm3624(method) => {
                let pvk = self.newest_pvk(&method.pvk)?;
                let cipher = pvk.tdes(KeyUsage::Ibm3624, Operation::Generate)?;
                let parameters = method.fingerprint();
                let offset = ibm3624_offset(cipher, method, pin, pan);
                let value = offset.map(|digits| ReferenceValue::Offset { digits, parameters });
                (value, pvk.kcv)
            }
        };
        let value = value.ok_or(AcceptPinError::PanTooShort)?;
        Ok(PinReference { value, key })
    }
}

/// The PIN verification key of a method, where it has one, and the usage that it must have.
#[must_use]
pub fn pvk_of(method: &PinMethod) -> Option<(&KeyName, KeyUsage)> {
    match method {
        PinMethod::TranslatedBlock => None,
        PinMethod::VisaPvv(VisaPvv { pvk, .. }) => Some((pvk, KeyUsage::VisaPvv)),
        PinMethod::Ibm3624(Ibm3624 { pvk, .. }) => Some((pvk, KeyUsage::Ibm3624)),
    }
}

/// Whether the zone PIN key of a link is there and can be used.
///
/// # Errors
/// If not.
pub fn check_zone_key(keys: &Keys, name: &KeyName, wanted: Algorithm) -> Result<(), KeysError> {
    let name = name.as_str();
    keys.get(name, KeyUsage::PinEncryption, Operation::Decrypt)?;
    // All versions of a key have one algorithm.
    match keys.newest(name)?.attributes().algorithm {
        found if found == wanted => Ok(()),
        found => Err(KeysError::key(name, KeyFault::Algorithm { found, wanted })),
    }
}

/// Whether the PIN verification key of a method is there and can be used.
///
/// # Errors
/// If not.
pub fn check_pvk(keys: &Keys, method: &PinMethod) -> Result<(), KeysError> {
    match pvk_of(method) {
        Some((pvk, usage)) => keys.get(pvk.as_str(), usage, Operation::Verify).map(|_| ()),
        None => Ok(()),
    }
}

/// Whether the issuer master keys of a product's chips are there and can be used.
///
/// # Errors
/// For the first that is not.
pub fn check_chip_keys(keys: &Keys, chip: &ChipKeys) -> Result<(), KeysError> {
    chip_keys_of(chip)
        .into_iter()
        .try_for_each(|(name, usage)| keys.get(name.as_str(), usage, Operation::Derive).map(|_| ()))
}

/// The issuer master keys of a product's chips, and the usage that each must have.
#[must_use]
pub const fn chip_keys_of(chip: &ChipKeys) -> [(&KeyName, KeyUsage); 3] {
    [
        (&chip.cryptograms, KeyUsage::Cryptograms),
        (&chip.integrity, KeyUsage::ScriptIntegrity),
        (&chip.confidentiality, KeyUsage::ScriptConfidentiality),
    ]
}

fn load(
    keys: &Keys,
    name: &str,
    usage: KeyUsage,
    operation: Operation,
) -> Result<Vec<Loaded>, KeysError> {
    let versions = keys.versions(name)?.iter().map(|key| Loaded::of(key, usage, operation));
    versions.collect::<Result<_, _>>().map_err(|fault| KeysError::key(name, fault))
}

impl SoftwareHsm {
    /// Takes the PEK, the named zone PIN keys, and all PIN verification keys and issuer master keys
    /// out of the key directory.
    ///
    /// # Errors
    /// If a key is missing, or is for another purpose or algorithm.
    pub fn new(
        keys: &Keys,
        zone_keys: Vec<ZoneKey>,
        needs: &Needs,
    ) -> Result<SoftwareHsm, KeysError> {
        let ring = ArcSwap::from_pointee(Ring::load(keys, &zone_keys, needs)?);
        let (source, inventory) = (keys.source().clone(), Mutex::new(keys.inventory()));
        Ok(SoftwareHsm { source, inventory, zone_keys, ring })
    }

    /// Whether there is all that it takes to verify a PIN against this reference of a card whose
    /// product has these methods.
    #[must_use]
    pub fn knows(&self, reference: &PinReference, methods: &PinMethods) -> bool {
        self.ring.load().knows(reference, methods)
    }

    /// Every intermediate value of a cryptogram, by name, under issuer master keys that are public
    /// test keys; `None` under any other: who can ask for cryptograms can forge cards.
    #[must_use]
    pub fn explain_arqc(&self, call: ChipCall<'_>) -> Option<Vec<(String, String)>> {
        self.ring.load().explain_arqc(&call)
    }

    /// Takes the keys as they are now into use: new versions, and none that was retired. Tells
    /// what has come and gone. A key that is needed and was missing before may be missing still:
    /// that must not keep other keys from being changed.
    ///
    /// # Errors
    /// If a key that is needed would go, or is not usable; those in use stay then.
    pub fn reload_keys(&self, needs: &Needs) -> Result<KeyChanges, KeysError> {
        let mut inventory = self.inventory.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = Keys::open(self.source.clone())?;
        let before = self.ring.load();
        let is_there = |method: &&PinMethod| before.check([*method], None).is_ok();
        let methods = needs.methods.iter().filter(is_there).cloned().collect();
        let is_there = |chip: &&ChipKeys| before.check(None, [*chip]).is_ok();
        let needs =
            Needs { methods, chips: needs.chips.iter().filter(is_there).cloned().collect() };
        self.ring.store(Arc::new(Ring::load(&keys, &self.zone_keys, &needs)?));
        let before = std::mem::replace(&mut *inventory, keys.inventory());
        let not_in = |versions: &[KeyVersion], others: &[KeyVersion]| {
            versions.iter().filter(|key| !others.contains(key)).cloned().collect()
        };
        Ok(KeyChanges { added: not_in(&inventory, &before), removed: not_in(&before, &inventory) })
    }

    /// All versions of all keys that were there when they were read last.
    #[must_use]
    pub fn inventory(&self) -> Vec<KeyVersion> {
        self.inventory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn verify(&self, call: VerifyPin<'_>) -> PinOutcome {
        let ring = self.ring.load();
        match call.pin {
            EnteredPin::Block(block) => ring.verify_block(block, &call),
            // Who names the card and the PIN in clear has bound one to the other.
            EnteredPin::Clear(pin) => {
                ring.compare(pin, true, &call).unwrap_or(PinOutcome::Unavailable)
            }
        }
    }

    fn accept(&self, call: &AcceptPin<'_>) -> Result<AcceptedPin, AcceptPinError> {
        let ring = self.ring.load();
        let AcceptPin { pin, pan, method } = *call;
        let (pvk, value) = match (pin, method) {
            (NewPin::Clear(pin), _) => {
                let kept = ring.keep_pin(pin, pan).ok_or(AcceptPinError::Unavailable)?;
                let reference = ring.make_reference(pin, call)?;
                return Ok(AcceptedPin { reference, kept: Some(kept) });
            }
            (NewPin::Beside(beside), _) => {
                let pin = ring.read_beside(&beside)?;
                let pin = NewPin::Clear(&pin);
                return self.accept(&AcceptPin { pin, ..*call });
            }
            (NewPin::Pvv(pvv, pvki), PinMethod::VisaPvv(VisaPvv { pvk, .. })) => {
                (pvk, ReferenceValue::Pvv { pvv, pvki })
            }
            (NewPin::Offset(digits), PinMethod::Ibm3624(method)) => {
                if !method.validation_data.fits(pan) {
                    return Err(AcceptPinError::PanTooShort);
                }
                let parameters = method.fingerprint();
                (&method.pvk, ReferenceValue::Offset { digits, parameters })
            }
            (NewPin::Pvv(..) | NewPin::Offset(_), _) => return Err(AcceptPinError::OtherMethod),
        };
        let reference = PinReference { value, key: ring.newest_pvk(pvk)?.kcv };
        Ok(AcceptedPin { reference, kept: None })
    }
}

impl Hsm for SoftwareHsm {
    async fn verify_pin(&self, call: VerifyPin<'_>) -> PinOutcome {
        self.verify(call)
    }

    async fn accept_pin(&self, call: AcceptPin<'_>) -> Result<AcceptedPin, AcceptPinError> {
        self.accept(&call)
    }

    async fn move_pin(&self, call: MovePin<'_>) -> Result<AcceptedPin, MovePinError> {
        let MovePin { kept, pan, reference, methods, new_pan, new_method: method } = call;
        let ring = self.ring.load();
        let pin = ring.open(kept, pan).ok_or(MovePinError::Refused)?;
        let check = VerifyPin { pin: EnteredPin::Clear(&pin), pan, reference, methods };
        match ring.compare(&pin, true, &check) {
            Ok(PinOutcome::Right) => {}
            Ok(PinOutcome::Wrong | PinOutcome::BadPinBlock) => return Err(MovePinError::Refused),
            Ok(PinOutcome::Unavailable) | Err(_) => return Err(AcceptPinError::Unavailable.into()),
        }
        Ok(self.accept(&AcceptPin { pin: NewPin::Clear(&pin), pan: new_pan, method })?)
    }

    async fn reveal_clear(&self, call: RevealPin<'_>) -> Result<Box<ClearPin>, HsmUnavailable> {
        let RevealPin { kept, pan } = call;
        let opened = self.ring.load().open(kept, pan);
        // Read again where it stays: what it was read into is wiped at the end of this line.
        let pin = opened.and_then(|opened| ClearPin::parse_in_place(opened.digits()));
        pin.ok_or_else(|| HsmUnavailable("a kept PIN does not open".to_owned()))
    }

    async fn verify_arqc(&self, call: ChipCall<'_>) -> CryptogramOutcome {
        self.ring.load().verify_arqc(&call)
    }

    async fn issuer_authenticate(
        &self,
        call: IssuerAuthenticate<'_>,
    ) -> Result<Authenticated, HsmUnavailable> {
        let answer = self.ring.load().issuer_authenticate(&call);
        answer.ok_or_else(|| HsmUnavailable("a key of a chip is missing".to_owned()))
    }

    async fn test_keys(&self, keys: &ChipKeys) -> Option<TestKeys> {
        self.ring.load().test_keys(keys)
    }

    async fn check_keys(
        &self,
        methods: &PinMethods,
        chip: Option<&ChipKeys>,
    ) -> Result<(), MissingKey> {
        self.ring.load().check(methods.iter(), chip)
    }

    /// A known answer: triple DES of the zero block under a fixed key.
    async fn health(&self) -> Result<(), HsmUnavailable> {
        let answer = TdesKey::new(&KNOWN_ANSWER_KEY).map(|key| key.encrypt(&[0; 8]));
        match answer {
            Ok([0x08, 0xD7, 0xB4, ..]) => Ok(()),
            _ => Err(HsmUnavailable("the known-answer test of triple DES failed".to_owned())),
        }
    }
}
