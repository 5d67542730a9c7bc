//! Chips in the software HSM: application cryptograms, issuer authentication, scripts.

use subtle::ConstantTimeEq;

use super::{Loaded, Ring};
use crate::cards::Pan;
use crate::cards::chip_state::ChangeKind;
use crate::hex::hex;
use crate::hsm::emv::IssuerAnswer;
use crate::hsm::software::emv::derive::{self, DerivedKey};
use crate::hsm::software::emv::{cryptogram, script};
use crate::hsm::software::key::{KeyFault, KeyUsage, Operation};
use crate::hsm::software::pin_block;
use crate::hsm::{
    Authenticated, ChipCall, ChipKeys, ClearPin, IssuerAuthenticate, KeptPin, KeyName,
    PinBlockFormat, PinBlockFormats, TestKeys,
};
use crate::outcome::CryptogramOutcome;

/// PIN CHANGE/UNBLOCK with a MAC (EMV Book 3, 6.5.10).
const CLA: u8 = 0x84;
const INS: u8 = 0x24;
/// Unblocks only.
const P2_UNBLOCK: u8 = 0x00;
/// Changes the PIN, and does not ask for the current one.
const P2_CHANGE: u8 = 0x02;

/// The keys of one cryptogram.
struct Keys {
    card: DerivedKey,
    session: DerivedKey,
    /// Version of the issuer's key that made them.
    version: u8,
}

impl Ring {
    pub(super) fn verify_arqc(&self, call: &ChipCall<'_>) -> CryptogramOutcome {
        match self.chip_keys(call) {
            Ok(Some(_)) => CryptogramOutcome::Right,
            Ok(None) => CryptogramOutcome::Wrong,
            Err(_) => CryptogramOutcome::Unavailable,
        }
    }

    /// The keys under which the cryptogram of a call is right: while an issuer master key is
    /// rotated there are cards of both.
    fn chip_keys(&self, call: &ChipCall<'_>) -> Result<Option<Keys>, KeyFault> {
        let issuer = self.issuer_keys(&call.keys.cryptograms);
        if issuer.is_empty() {
            return Err(KeyFault::Length);
        }
        for issuer in issuer.iter().rev() {
            let version = issuer.attributes.version;
            let issuer = issuer.tdes(KeyUsage::Cryptograms, Operation::Derive)?;
            let card = derive::card_key(issuer, call.profile.card_keys, call.pan, call.sequence);
            let session =
                derive::session_key(&card, call.profile.session_key, call.atc, call.unpredictable);
            let padding = call.profile.padding;
            let arqc = session.mac(&[call.covered.bytes()], padding);
            if bool::from(arqc.ct_eq(&call.arqc)) {
                return Ok(Some(Keys { card, session, version }));
            }
        }
        Ok(None)
    }

    /// The values of a calculation, one after another, for each version of the issuer's key.
    pub(super) fn explain_arqc(&self, call: &ChipCall<'_>) -> Option<Vec<(String, String)>> {
        let ChipCall { profile, pan, sequence, covered, arqc, atc, unpredictable, .. } = *call;
        let issuer = self.public_issuer_keys(&call.keys.cryptograms)?;
        let mut values = vec![
            ("profile".to_owned(), format!("{profile:?}")),
            ("PAN sequence number".to_owned(), format!("{sequence:02}")),
        ];
        for issuer in issuer.iter().rev() {
            let mut add = |name: &str, bytes: &[u8]| values.push((name.to_owned(), hex(bytes)));
            let cipher = issuer.tdes(KeyUsage::Cryptograms, Operation::Derive).ok()?;
            let card = derive::card_key(cipher, profile.card_keys, pan, sequence);
            let session = derive::session_key(&card, profile.session_key, atc, unpredictable);
            add("check value of the issuer master key (IMK-AC)", &issuer.kcv.0);
            add("card master key", card.bytes());
            add("ATC", &atc);
            add("unpredictable number", &unpredictable);
            add("session key", session.bytes());
            add("covered data", covered.bytes());
            add("9F26 as computed", &session.mac(&[covered.bytes()], profile.padding));
        }
        values.push(("9F26 as received".to_owned(), hex(&arqc)));
        Some(values)
    }

    fn issuer_keys(&self, name: &KeyName) -> &[Loaded] {
        self.issuer_keys.get(name.as_str()).map_or(&[], Vec::as_slice)
    }

    /// The versions of an issuer master key, where everybody knows each of them.
    fn public_issuer_keys(&self, name: &KeyName) -> Option<&[Loaded]> {
        let keys = self.issuer_keys(name);
        let are_public = !keys.is_empty() && keys.iter().all(|key| key.is_public);
        are_public.then_some(keys)
    }

    /// The test keys that the issuer master keys of a product are.
    pub(super) fn test_keys(&self, keys: &ChipKeys) -> Option<TestKeys> {
        let newest = |name| self.public_issuer_keys(name)?.last()?.test_keys;
        let set = newest(&keys.cryptograms)?;
        let others = [&keys.integrity, &keys.confidentiality];
        others.into_iter().all(|name| newest(name) == Some(set)).then_some(set)
    }

    /// The answer to the chip, with the script's command; `None` where a key is missing or the
    /// cryptogram is not right after all.
    pub(super) fn issuer_authenticate(
        &self,
        call: &IssuerAuthenticate<'_>,
    ) -> Option<Authenticated> {
        let chip = &call.chip;
        let keys = self.chip_keys(chip).ok()??;
        let key = cryptogram::arpc_key(chip.profile.arpc, &keys.card, &keys.session);
        let tag_91 = match call.answer {
            IssuerAnswer::Code(code) => cryptogram::arpc_one(key, chip.arqc, code).to_vec(),
            IssuerAnswer::Update(update) => {
                let arpc = cryptogram::arpc_two(key, chip.arqc, update, &[]);
                [arpc, update].concat()
            }
        };
        let command = match call.script {
            Some(change) => Some(self.command(chip, &keys, change)?),
            None => None,
        };
        Some(Authenticated { tag_91, command })
    }

    fn command(&self, chip: &ChipCall<'_>, keys: &Keys, change: &ChangeKind) -> Option<Vec<u8>> {
        let session = |name, usage| {
            // Of the same generation: the newest that is not newer, or else the oldest there is.
            let all = self.issuer_keys(name);
            let known = all.iter().rev().find(|key| key.attributes.version <= keys.version);
            let issuer = known.or_else(|| all.first())?;
            let issuer = issuer.tdes(usage, Operation::Derive).ok()?;
            let method = chip.profile.card_keys;
            let card = derive::card_key(issuer, method, chip.pan, chip.sequence);
            let method = chip.profile.script_keys;
            Some(script::script_key(&card, method, chip.atc, chip.arqc, 0))
        };
        let integrity = session(&chip.keys.integrity, KeyUsage::ScriptIntegrity)?;
        let (p2, data) = match change {
            ChangeKind::Unblock { .. } => (P2_UNBLOCK, Vec::new()),
            ChangeKind::Pin { pin, .. } => {
                let new = self.open(pin, chip.pan)?;
                let confidentiality =
                    session(&chip.keys.confidentiality, KeyUsage::ScriptConfidentiality)?;
                let method = chip.profile.script_pin;
                let pins = (&new, None);
                (P2_CHANGE, script::enciphered_pin(&confidentiality, &keys.card, method, pins))
            }
        };
        let head = [CLA, INS, 0, p2];
        Some(script::command(&integrity, head, &data, (chip.atc, chip.arqc)))
    }

    /// A PIN for a chip, or for who may see it, as it was kept under the PEK.
    pub(super) fn open(&self, kept: &KeptPin, pan: &Pan) -> Option<ClearPin> {
        let pek = self.peks.iter().find(|key| key.kcv == kept.key)?;
        let pek = pek.tdes(KeyUsage::PinEncryption, Operation::Decrypt).ok()?;
        let formats = PinBlockFormats::new(&[PinBlockFormat::Iso0]);
        pin_block::read(&pek.decrypt(&kept.block), pan, formats).map(|(pin, _)| pin)
    }

    pub(super) fn keep_pin(&self, pin: &ClearPin, pan: &Pan) -> Option<KeptPin> {
        let pek = self.peks.last()?;
        let cipher = pek.tdes(KeyUsage::PinEncryption, Operation::Encrypt).ok()?;
        let block = cipher.encrypt(&*pin_block::iso0(pin, pan)?);
        Some(KeptPin { block, key: pek.kcv })
    }
}
