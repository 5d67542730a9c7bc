//! The software HSM with keys of a directory.

use super::*;
use crate::cards::Pan;
use crate::cards::chip_state::ChangeKind;
use crate::hex::from_hex;
use crate::hsm::emv::{
    ArpcKey, ArpcMethod, CardKeyMethod, CryptogramProfile, IssuerAnswer, MacPadding,
    ScriptKeyMethod, ScriptPinMethod, SessionKeyMethod,
};
use crate::hsm::pin_method::{DecimalisationTable, ValidationData};
use crate::hsm::software::emv::derive;
use crate::hsm::software::key_block::ProtectionKey;
use crate::hsm::software::keys::{Addition, Retire};
use crate::hsm::{CoveredData, KeptPin, PinBlock, PinBlockFormats};
use crate::hsm::{EnteredBlock, PinBlockFormat};

const ZPK: &str = "9BE61C3E68EA1379155226163BAD345E";
const OTHER_ZPK: &str = "ECC25208B6FD2023E9767A5489BC9415";

fn name(text: &str) -> KeyName {
    KeyName::parse(text).unwrap()
}

fn zone_key(algorithm: Algorithm) -> ZoneKey {
    ZoneKey { name: name("zpk"), algorithm, under_older: Counter::noop() }
}

fn key(usage: KeyUsage, value: &str) -> Key {
    Key::new(KeyAttributes::usual(usage), from_hex(value).unwrap()).unwrap()
}

fn keys(directory: &tempfile::TempDir) -> Keys {
    let source = KeySource {
        directory: directory.path().to_owned(),
        master: ProtectionKey::master(&[1; 32]).unwrap(),
        allows_public: true,
    };
    let mut keys = Keys::open(source).unwrap();
    keys.generate_own_keys().unwrap();
    keys.add("zpk", key(KeyUsage::PinEncryption, ZPK), Addition::New).unwrap();
    keys
}

fn hsm(directory: &tempfile::TempDir) -> SoftwareHsm {
    let zone_keys = vec![zone_key(Algorithm::Tdes)];
    SoftwareHsm::new(&keys(directory), zone_keys, &Needs::default()).unwrap()
}

fn pan() -> Pan {
    Pan::parse(b"4510225522956554").unwrap()
}

fn accept(hsm: &SoftwareHsm, pin: &str) -> PinReference {
    let method = &PinMethod::TranslatedBlock;
    let clear = ClearPin::parse(pin.as_bytes()).unwrap();
    let call = AcceptPin { pin: NewPin::Clear(&clear), pan: &pan(), method };
    hsm.accept(&call).unwrap().reference
}

fn verify(hsm: &SoftwareHsm, zpk: &str, block: &str, reference: &PinReference) -> PinOutcome {
    let formats = PinBlockFormats::new(&[PinBlockFormat::Iso0, PinBlockFormat::Iso3]);
    let block = PinBlock::new(&from_hex(block).unwrap()).unwrap();
    hsm.verify(VerifyPin {
        pin: EnteredPin::Block(EnteredBlock { block: &block, zpk: &name(zpk), formats }),
        pan: &pan(),
        reference,
        methods: &PinMethods::default(),
    })
}

/// The test vector pb0-0, made by an independent implementation.
const BLOCK_OF_8245: &str = "BBB1A378AD8325EF";

#[test]
fn verifies_a_block_made_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let hsm = hsm(&directory);
    let (right, wrong) = (accept(&hsm, "8245"), accept(&hsm, "8246"));
    assert_eq!(verify(&hsm, "zpk", BLOCK_OF_8245, &right), PinOutcome::Right);
    assert_eq!(verify(&hsm, "zpk", BLOCK_OF_8245, &wrong), PinOutcome::Wrong);
    assert_eq!(verify(&hsm, "no-key", BLOCK_OF_8245, &right), PinOutcome::Unavailable);
    let damaged = verify(&hsm, "zpk", "BBB1A378AD8325EE", &right);
    assert_eq!(damaged, PinOutcome::BadPinBlock);
    let long = format!("{BLOCK_OF_8245}{BLOCK_OF_8245}");
    assert_eq!(verify(&hsm, "zpk", &long, &right), PinOutcome::BadPinBlock);
}

#[test]
fn verifies_a_pin_that_came_in_clear() {
    let directory = tempfile::tempdir().unwrap();
    let hsm = hsm(&directory);
    let reference = accept(&hsm, "8245");
    for (pin, outcome) in
        [("8245", PinOutcome::Right), ("8246", PinOutcome::Wrong), ("82450", PinOutcome::Wrong)]
    {
        let (clear, methods) = (ClearPin::parse(pin.as_bytes()).unwrap(), &PinMethods::default());
        let pin = EnteredPin::Clear(&clear);
        let call = VerifyPin { pin, pan: &pan(), reference: &reference, methods };
        assert_eq!(hsm.verify(call), outcome);
    }
}

#[tokio::test]
async fn a_kept_pin_opens_for_its_pan_and_under_its_key_only() {
    let directory = tempfile::tempdir().unwrap();
    let hsm = hsm(&directory);
    let (clear, method) = (ClearPin::parse(b"82451").unwrap(), &PinMethod::TranslatedBlock);
    let call = AcceptPin { pin: NewPin::Clear(&clear), pan: &pan(), method };
    let kept = hsm.accept(&call).unwrap().kept.unwrap();
    let shown = hsm.reveal_clear(RevealPin { kept: &kept, pan: &pan() }).await.unwrap();
    assert_eq!(shown.digits(), b"82451");
    let other = Pan::parse(b"4761340000000019").unwrap();
    assert!(hsm.reveal_clear(RevealPin { kept: &kept, pan: &other }).await.is_err());
    let foreign = KeptPin { key: Kcv([9; 3]), ..kept.clone() };
    assert!(hsm.reveal_clear(RevealPin { kept: &foreign, pan: &pan() }).await.is_err());
}

#[tokio::test]
async fn a_pin_moves_to_another_pan_whatever_the_methods_are() {
    let directory = tempfile::tempdir().unwrap();
    let mut keys = keys(&directory);
    keys.add("pvk", key(KeyUsage::VisaPvv, OTHER_ZPK), Addition::New).unwrap();
    let ibm = "0123456789ABCDEFFEDCBA98765432AB";
    keys.add("ibm", key(KeyUsage::Ibm3624, ibm), Addition::New).unwrap();
    let hsm = SoftwareHsm::new(&keys, Vec::new(), &Needs::default()).unwrap();
    let ibm3624 = Ibm3624 {
        pvk: name("ibm"),
        decimalisation_table: DecimalisationTable::parse("0123456789012345").unwrap(),
        validation_data: ValidationData::Rightmost16,
    };
    let methods = [
        PinMethod::TranslatedBlock,
        PinMethod::VisaPvv(VisaPvv { pvk: name("pvk"), pvki: 1 }),
        PinMethod::Ibm3624(ibm3624),
    ];
    let (pin, other) = (ClearPin::parse(b"82451").unwrap(), ClearPin::parse(b"1122").unwrap());
    let new_pan = Pan::parse(b"4761340000000019").unwrap();
    let take = |pin, method: &PinMethod| {
        let call = AcceptPin { pin: NewPin::Clear(pin), pan: &pan(), method };
        hsm.accept(&call).unwrap()
    };
    for (from, to) in methods.iter().flat_map(|from| methods.iter().map(move |to| (from, to))) {
        let accepted = take(&pin, from);
        let (kept, reference) = (accepted.kept.unwrap(), accepted.reference);
        let methods = &PinMethods { current: from.clone(), earlier: Vec::new() };
        let call = MovePin {
            kept: &kept,
            pan: &pan(),
            reference: &reference,
            methods,
            new_pan: &new_pan,
            new_method: to,
        };
        let moved = hsm.move_pin(call).await.unwrap();
        let methods = &PinMethods { current: to.clone(), earlier: Vec::new() };
        let (reference, pan) = (&moved.reference, &new_pan);
        let check =
            |pin| hsm.verify(VerifyPin { pin: EnteredPin::Clear(pin), pan, reference, methods });
        assert_eq!(check(&pin), PinOutcome::Right, "{from:?} {to:?}");
        assert_eq!(check(&other), PinOutcome::Wrong, "{from:?} {to:?}");
        let shown = hsm.reveal_clear(RevealPin { kept: &moved.kept.unwrap(), pan }).await.unwrap();
        assert_eq!(shown.digits(), b"82451");
        // What was kept of an earlier PIN, or of another card, is not made the PIN of this one.
        let old = take(&other, from).kept.unwrap();
        let old = hsm.move_pin(MovePin { kept: &old, ..call }).await;
        assert_eq!(old, Err(MovePinError::Refused), "{from:?} {to:?}");
        let foreign = hsm.move_pin(MovePin { pan: &new_pan, ..call }).await;
        assert!(foreign.is_err(), "{from:?} {to:?}");
    }
}

/// Under another key a comparison says nothing: that must not count as a wrong PIN.
#[test]
fn a_reference_under_another_key_is_no_mismatch() {
    let directory = tempfile::tempdir().unwrap();
    let hsm = hsm(&directory);
    let reference = PinReference { key: Kcv([0; 3]), ..accept(&hsm, "8245") };
    assert_eq!(verify(&hsm, "zpk", BLOCK_OF_8245, &reference), PinOutcome::Unavailable);
    let pvv = ReferenceValue::Pvv { pvv: [1; 4], pvki: 1 };
    let reference = PinReference { value: pvv, ..reference };
    assert_eq!(verify(&hsm, "zpk", BLOCK_OF_8245, &reference), PinOutcome::Unavailable);
}

#[test]
fn a_pin_of_another_length_is_another_pin() {
    let directory = tempfile::tempdir().unwrap();
    let hsm = hsm(&directory);
    assert!(accept(&hsm, "8245") != accept(&hsm, "82450"));
    assert!(accept(&hsm, "8245") == accept(&hsm, "8245"));
}

#[test]
fn while_a_zone_key_is_rotated_blocks_under_either_version_verify() {
    let directory = tempfile::tempdir().unwrap();
    let hsm = hsm(&directory);
    let (right, wrong) = (accept(&hsm, "8245"), accept(&hsm, "8246"));
    let mut keys = Keys::open(hsm.source.clone()).unwrap();
    let zpk = key(KeyUsage::PinEncryption, OTHER_ZPK);
    let under_new = TdesKey::new(&from_hex(OTHER_ZPK).unwrap()).unwrap();
    let clear = pin_block::iso0(&ClearPin::parse(b"8245").unwrap(), &pan()).unwrap();
    let under_new = crate::hex::hex(&under_new.encrypt(&clear));
    assert_eq!(verify(&hsm, "zpk", &under_new, &right), PinOutcome::BadPinBlock);
    keys.add("zpk", zpk, Addition::Rotation).unwrap();
    hsm.reload_keys(&Needs::default()).unwrap();
    for block in [BLOCK_OF_8245, &under_new] {
        assert_eq!(verify(&hsm, "zpk", block, &right), PinOutcome::Right);
        assert_eq!(verify(&hsm, "zpk", block, &wrong), PinOutcome::Wrong);
    }
    keys.retire("zpk", Retire::Older).unwrap();
    hsm.reload_keys(&Needs::default()).unwrap();
    assert_eq!(verify(&hsm, "zpk", BLOCK_OF_8245, &right), PinOutcome::BadPinBlock);
    assert_eq!(verify(&hsm, "zpk", &under_new, &right), PinOutcome::Right);
}

#[test]
fn a_reload_that_fails_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let hsm = hsm(&directory);
    let right = accept(&hsm, "8245");
    std::fs::remove_file(directory.path().join("zpk.key")).unwrap();
    assert!(hsm.reload_keys(&Needs::default()).is_err());
    assert_eq!(verify(&hsm, "zpk", BLOCK_OF_8245, &right), PinOutcome::Right);
}

#[test]
fn keys_of_another_purpose_or_algorithm_are_refused_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut keys = keys(&directory);
    let zone_keys = vec![zone_key(Algorithm::Aes)];
    let refused = SoftwareHsm::new(&keys, zone_keys, &Needs::default());
    assert!(refused.is_err(), "format 4 needs AES");
    keys.add("pvk", key(KeyUsage::VisaPvv, OTHER_ZPK), Addition::New).unwrap();
    let method = |pvk| PinMethod::VisaPvv(VisaPvv { pvk: name(pvk), pvki: 1 });
    let start = |pvk| {
        let zone_keys = vec![zone_key(Algorithm::Tdes)];
        let methods = vec![method(pvk)];
        SoftwareHsm::new(&keys, zone_keys, &Needs { methods, ..Needs::default() }).is_ok()
    };
    assert!(start("pvk") && !start("zpk") && !start("no-key"));
}

/// Issuer master keys of two generations: of cryptograms, of the integrity and of the
/// confidentiality of scripts.
const ISSUER_KEYS: [[&str; 3]; 2] = [
    [
        "6201618CB9C4F823B67AFE7A62804AAE",
        "BA32D0CE9B40F775F8B908EC4F4C0D98",
        "43F1E67A5DA8BA4A541FD3BC64F46273",
    ],
    [
        "C7CEA83B9767CDABD602238C15D0B6E9",
        "CD5801BFD3AECDFB0D3873232F10576E",
        "587A735D19B954A8CD2904F10D8A3123",
    ],
];
const ISSUER_KEY_NAMES: [(&str, KeyUsage); 3] = [
    ("imk-ac", KeyUsage::Cryptograms),
    ("imk-smi", KeyUsage::ScriptIntegrity),
    ("imk-smc", KeyUsage::ScriptConfidentiality),
];
const PROFILE: CryptogramProfile = CryptogramProfile {
    card_keys: CardKeyMethod::A,
    session_key: SessionKeyMethod::Common,
    padding: MacPadding::Bit,
    arpc: ArpcMethod::One(ArpcKey::Session),
    script_keys: ScriptKeyMethod::Common { counts: false },
    script_pin: ScriptPinMethod::Iso2,
};

fn add_issuer_keys(keys: &mut Keys, generation: usize, addition: Addition) {
    for ((name, usage), value) in ISSUER_KEY_NAMES.into_iter().zip(ISSUER_KEYS[generation]) {
        keys.add(name, key(usage, value), addition).unwrap();
    }
}

/// The answer to a cryptogram of a card of this generation, with the command of a script.
fn answer(hsm: &SoftwareHsm, generation: usize, change: &ChangeKind) -> Option<Authenticated> {
    let keys = ChipKeys {
        cryptograms: name("imk-ac"),
        integrity: name("imk-smi"),
        confidentiality: name("imk-smc"),
    };
    let issuer = TdesKey::new(&from_hex(ISSUER_KEYS[generation][0]).unwrap()).unwrap();
    let (pan, sequence, atc, unpredictable) = (&pan(), 1, [0, 9], [7; 4]);
    let mut covered = CoveredData::default();
    covered.push(&[5; 37]).unwrap();
    let card = derive::card_key(&issuer, PROFILE.card_keys, pan, sequence);
    let session = derive::session_key(&card, PROFILE.session_key, atc, unpredictable);
    let arqc = session.mac(&[covered.bytes()], PROFILE.padding);
    let (keys, profile) = (&keys, &PROFILE);
    let chip = ChipCall { keys, profile, pan, sequence, covered, arqc, atc, unpredictable };
    let answer = IssuerAnswer::Code(*b"00");
    let call = IssuerAuthenticate { chip, answer, script: Some(change) };
    hsm.ring.load().issuer_authenticate(&call)
}

/// A card has the keys of one generation only: it does not take a script of another.
#[test]
fn while_issuer_keys_are_rotated_a_script_is_of_the_generation_of_its_card() {
    let directory = tempfile::tempdir().unwrap();
    let mut keys = keys(&directory);
    add_issuer_keys(&mut keys, 0, Addition::New);
    let hsm = SoftwareHsm::new(&keys, Vec::new(), &Needs::default()).unwrap();
    let kept = hsm.ring.load().keep_pin(&ClearPin::parse(b"8245").unwrap(), &pan()).unwrap();
    let changes =
        [ChangeKind::Pin { version: 1, pin: kept }, ChangeKind::Unblock { pin_is_old: false }];
    let answers = |generation| changes.each_ref().map(|change| answer(&hsm, generation, change));
    let old = answers(0);
    assert!(old.iter().all(Option::is_some));
    assert!(answers(1).iter().all(Option::is_none));
    add_issuer_keys(&mut keys, 1, Addition::Rotation);
    hsm.reload_keys(&Needs::default()).unwrap();
    let new = answers(1);
    assert!(answers(0) == old, "made under the new keys");
    for (name, _) in ISSUER_KEY_NAMES {
        keys.retire(name, Retire::Older).unwrap();
    }
    hsm.reload_keys(&Needs::default()).unwrap();
    assert!(new.iter().all(Option::is_some) && answers(1) == new, "made under the old keys");
    assert!(answers(0).iter().all(Option::is_none));
}
