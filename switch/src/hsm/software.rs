//! The embedded software HSM. It is **not** a PCI HSM: keys and PINs are in this process's
//! memory while it works. It says so at start and refuses the profile `production`.

use std::collections::HashMap;

use subtle::ConstantTimeEq;

use super::key_block::{KeyUsage, TdesKey};
use super::keys::{Keys, KeysError, PEK};
use super::{
    AcceptPin, AcceptPinError, EntryKey, Hsm, HsmUnavailable, KeyName, PinBlockFormat,
    PinBlockFormats, PinReference, Verification, VerifyPin, pin_block,
};

/// Version of the PEK; goes up when it is rotated.
const PEK_VERSION: u16 = 1;

/// A published test key (NIST SP 800-67 style, no key of anybody), for the health check.
const KNOWN_ANSWER_KEY: [u8; 16] = [
    0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10,
];

/// The software HSM with its keys expanded.
pub struct SoftwareHsm {
    pek: TdesKey,
    zone_keys: HashMap<KeyName, TdesKey, foldhash::fast::RandomState>,
    entry: EntryKey,
}

impl SoftwareHsm {
    /// Takes the PEK and the named zone PIN keys out of the key directory.
    ///
    /// # Errors
    /// If a key is missing or is for another purpose.
    pub fn new(keys: &Keys, zone_keys: &[KeyName]) -> Result<SoftwareHsm, KeysError> {
        let expand = |name: &str| {
            TdesKey::new(keys.get(name, KeyUsage::PinEncryption)?)
                .map_err(|fault| KeysError::Key { name: name.to_owned(), fault })
        };
        let zone_keys = zone_keys
            .iter()
            .map(|name| Ok((name.clone(), expand(name.as_str())?)))
            .collect::<Result<_, KeysError>>()?;
        let entry = EntryKey::generate()
            .map_err(|fault| KeysError::Key { name: "entry".to_owned(), fault })?;
        Ok(SoftwareHsm { pek: expand(PEK)?, zone_keys, entry })
    }

    fn verify(&self, call: VerifyPin<'_>) -> Verification {
        let Some(zpk) = self.zone_keys.get(call.zpk) else { return Verification::Unavailable };
        if call.reference.key_version != PEK_VERSION {
            return Verification::Unavailable;
        }
        let clear = zpk.decrypt(call.block.bytes());
        let translated = pin_block::read(&clear, call.pan, call.formats)
            .and_then(|pin| pin_block::iso0(&pin, call.pan))
            .map(|block| self.pek.encrypt(&block));
        match translated {
            None => Verification::BadPinBlock,
            Some(block) if block.ct_eq(&call.reference.block).into() => Verification::Ok,
            Some(_) => Verification::Mismatch,
        }
    }

    fn accept(&self, call: AcceptPin<'_>) -> Option<PinReference> {
        let clear = self.entry.unwrap(call.block);
        let formats = PinBlockFormats::new(&[PinBlockFormat::Iso0]);
        let pin = pin_block::read(&clear, call.pan, formats)?;
        let block = self.pek.encrypt(&*pin_block::iso0(&pin, call.pan)?);
        Some(PinReference { block, key_version: PEK_VERSION })
    }
}

impl Hsm for SoftwareHsm {
    async fn verify_pin(&self, call: VerifyPin<'_>) -> Verification {
        self.verify(call)
    }

    async fn accept_pin(&self, call: AcceptPin<'_>) -> Result<PinReference, AcceptPinError> {
        self.accept(call).ok_or(AcceptPinError::BadPinBlock)
    }

    fn entry_key(&self) -> &EntryKey {
        &self.entry
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cards::pan::Pan;
    use crate::hsm::key_block::{Key, MasterKey, from_hex};
    use crate::hsm::{ClearPin, PinBlock};

    const ZPK: &str = "9BE61C3E68EA1379155226163BAD345E";

    fn hsm() -> SoftwareHsm {
        let directory = tempfile::tempdir().unwrap();
        let mut keys = Keys::open(directory.path(), MasterKey::new(&[1; 32]).unwrap()).unwrap();
        keys.generate_own_keys().unwrap();
        let zpk = Key::new(KeyUsage::PinEncryption, from_hex(ZPK).unwrap()).unwrap();
        keys.add("zpk", zpk).unwrap();
        SoftwareHsm::new(&keys, &[KeyName::parse("zpk").unwrap()]).unwrap()
    }

    fn accept(hsm: &SoftwareHsm, pin: &str, pan: &Pan) -> PinReference {
        let block = hsm.entry.wrap(&ClearPin::parse(pin.as_bytes()).unwrap(), pan).unwrap();
        hsm.accept(AcceptPin { block: &block, pan }).unwrap()
    }

    fn block(text: &str) -> PinBlock {
        PinBlock::new(from_hex(text).unwrap().as_slice().try_into().unwrap())
    }

    /// The block is the one of the test vector pb0-0, made by an independent implementation.
    #[test]
    fn verifies_a_block_made_elsewhere() {
        let hsm = hsm();
        let pan = Pan::parse(b"4510225522956554").unwrap();
        let (right, wrong) = (accept(&hsm, "8245", &pan), accept(&hsm, "8246", &pan));
        let outcome = |reference, zpk: &str, block: PinBlock| {
            let zpk = KeyName::parse(zpk).unwrap();
            let formats = PinBlockFormats::new(&[PinBlockFormat::Iso0, PinBlockFormat::Iso3]);
            hsm.verify(VerifyPin { block: &block, zpk: &zpk, formats, pan: &pan, reference })
        };
        let sent = || block("BBB1A378AD8325EF");
        assert_eq!(outcome(&right, "zpk", sent()), Verification::Ok);
        assert_eq!(outcome(&wrong, "zpk", sent()), Verification::Mismatch);
        assert_eq!(outcome(&right, "no-such-key", sent()), Verification::Unavailable);
        let damaged = outcome(&right, "zpk", block("BBB1A378AD8325EE"));
        assert_eq!(damaged, Verification::BadPinBlock);
    }

    /// Under another PEK a comparison says nothing: that must not count as a wrong PIN.
    #[test]
    fn a_reference_under_another_pek_is_no_mismatch() {
        let hsm = hsm();
        let pan = Pan::parse(b"4510225522956554").unwrap();
        let reference = PinReference { key_version: 2, ..accept(&hsm, "8245", &pan) };
        let zpk = KeyName::parse("zpk").unwrap();
        let formats = PinBlockFormats::new(&[PinBlockFormat::Iso0]);
        let block = block("BBB1A378AD8325EF");
        let call =
            VerifyPin { block: &block, zpk: &zpk, formats, pan: &pan, reference: &reference };
        assert_eq!(hsm.verify(call), Verification::Unavailable);
    }

    #[test]
    fn a_pin_of_another_length_is_another_pin() {
        let hsm = hsm();
        let pan = Pan::parse(b"4510225522956554").unwrap();
        assert_ne!(accept(&hsm, "8245", &pan).block, accept(&hsm, "82450", &pan).block);
        assert_eq!(accept(&hsm, "8245", &pan).block, accept(&hsm, "8245", &pan).block);
    }
}
