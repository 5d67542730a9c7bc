//! What the key directory takes, keeps and refuses.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn open(directory: &tempfile::TempDir, byte: u8) -> Result<Keys, KeysError> {
    let master = ProtectionKey::master(&[byte; 32]).unwrap();
    let directory = directory.path().to_owned();
    Keys::open(KeySource { directory, master, allows_public: true })
}

fn key(usage: KeyUsage, text: &str) -> Key {
    Key::new(KeyAttributes::usual(usage), from_hex(text).unwrap()).unwrap()
}

const VALUE: &str = "ECC25208B6FD2023E9767A5489BC9415";
const OTHER: &str = "9BE61C3E68EA1379155226163BAD345E";

#[test]
fn own_keys_are_the_same_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut keys = open(&directory, 1).unwrap();
    assert_eq!(keys.missing_own_keys(), OWN_KEYS);
    keys.generate_own_keys().unwrap();
    let again = open(&directory, 1).unwrap();
    for (name, _) in OWN_KEYS {
        let value = again.newest(name).unwrap().value();
        assert_eq!(keys.newest(name).unwrap().value(), value);
    }
    assert!(open(&directory, 2).is_err());
}

#[test]
fn one_value_serves_one_purpose() {
    let directory = tempfile::tempdir().unwrap();
    let mut keys = open(&directory, 1).unwrap();
    keys.add("zpk", key(KeyUsage::PinEncryption, VALUE), Addition::New).unwrap();
    let pvk = key(KeyUsage::VisaPvv, VALUE);
    let refused = keys.add("pvk", pvk.clone(), Addition::New).unwrap_err();
    assert!(matches!(refused, KeysError::SameValue(..)), "{refused}");
    // The same for a file that came into the directory by another way.
    let block = keys.source.master.wrap_labelled(&pvk, "pvk").unwrap();
    fs::write(directory.path().join("pvk.key"), block).unwrap();
    assert!(matches!(open(&directory, 1).unwrap_err(), KeysError::SameValue(..)));
}

#[test]
fn two_versions_live_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut keys = open(&directory, 1).unwrap();
    let zpk = |text| key(KeyUsage::PinEncryption, text);
    let rotate = |keys: &mut Keys, text| keys.add("zpk", zpk(text), Addition::Rotation);
    assert!(matches!(rotate(&mut keys, VALUE), Err(KeysError::Missing(_))));
    keys.add("zpk", zpk(VALUE), Addition::New).unwrap();
    let retired = keys.retire("zpk", Retire::Older);
    assert!(matches!(retired, Err(KeysError::Rotation { .. })));
    assert!(matches!(rotate(&mut keys, VALUE), Err(KeysError::Rotation { .. })), "the same");
    assert_eq!(rotate(&mut keys, OTHER).unwrap().get(9..11), Some("02"));
    let third = "0123456789ABCDEFFEDCBA9876543210";
    assert!(matches!(rotate(&mut keys, third), Err(KeysError::Rotation { .. })), "a third");
    let keys = &mut open(&directory, 1).unwrap();
    let kcvs: Vec<_> = keys.versions("zpk").unwrap().iter().map(Key::kcv).collect();
    assert_eq!(kcvs, [zpk(VALUE).kcv(), zpk(OTHER).kcv()]);
    assert_eq!(keys.retire("zpk", Retire::Newer).unwrap(), zpk(OTHER).kcv());
    assert_eq!(rotate(keys, OTHER).unwrap().get(9..11), Some("02"));
    assert_eq!(keys.retire("zpk", Retire::Older).unwrap(), zpk(VALUE).kcv());
    assert_eq!(open(&directory, 1).unwrap().newest("zpk").unwrap().kcv(), zpk(OTHER).kcv());
    let other = Key::generate(KeyAttributes::usual(KeyUsage::VisaPvv)).unwrap();
    assert!(keys.add("zpk", other, Addition::Rotation).is_err());
}

#[test]
fn a_master_key_file_is_private() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("master.key");
    fs::write(&path, "00".repeat(31) + "01").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(read_master_key(&path).unwrap_err().to_string().contains("0600"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(read_master_key(&path).is_ok());
    fs::write(&path, "00").unwrap();
    assert!(read_master_key(&path).is_err());
}

#[test]
fn a_block_of_another_key_or_of_nobody_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut keys = open(&directory, 1).unwrap();
    keys.add("zpk", key(KeyUsage::PinEncryption, VALUE), Addition::New).unwrap();
    fs::copy(path("zpk.key"), path("other.key")).unwrap();
    let refused = open(&directory, 1).unwrap_err().to_string();
    assert!(refused.contains("of key zpk, not of other"), "{refused}");
    // As earlier versions wrote it.
    let unlabelled = keys.source.master.wrap(keys.newest("zpk").unwrap()).unwrap();
    fs::write(path("other.key"), &unlabelled).unwrap();
    fs::write(path("zpk.key"), &unlabelled).unwrap();
    let mut keys = open(&directory, 1).unwrap();
    assert!(keys.has_unlabelled());
    assert_eq!(keys.label().unwrap(), ["other", "zpk"]);
    assert!(!open(&directory, 1).unwrap().has_unlabelled());
    // Once the PEK names itself, nobody else is silent.
    keys.generate_own_keys().unwrap();
    fs::write(path("other.key"), &unlabelled).unwrap();
    let refused = open(&directory, 1).unwrap_err();
    assert!(matches!(refused, KeysError::Unlabelled { .. }), "{refused}");
    let pek = keys.source.master.wrap(keys.newest(PEK).unwrap()).unwrap();
    fs::write(path("own-pek.key"), pek).unwrap();
    assert_eq!(open(&directory, 1).unwrap().label().unwrap(), ["other", PEK]);
}

#[test]
fn own_check_values_are_those_of_all_live_versions() {
    let directory = tempfile::tempdir().unwrap();
    let mut keys = open(&directory, 1).unwrap();
    assert_eq!(keys.own_check_values(), []);
    keys.generate_own_keys().unwrap();
    let next = Key::generate(KeyAttributes::usual(KeyUsage::PinEncryption)).unwrap();
    keys.add(PEK, next, Addition::Rotation).unwrap();
    let all = keys.own_check_values();
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, [PEK, PEK, CARD_DIGEST_KEY, PAN_KEY]);
    for (name, kcv) in all {
        assert!(keys.versions(name).unwrap().iter().any(|key| key.kcv() == kcv));
    }
}
