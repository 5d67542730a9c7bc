//! The key directory: one file `NAME.key` per key, holding one TR-31 key block under the master
//! key. No clear key is ever written.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::key_block::{Kcv, Key, KeyUsage, MasterKey, from_hex, set_odd_parity};
use super::{KeyFault, KeyName};

/// Keys that the switch makes for itself at its first start: name and usage.
pub const OWN_KEYS: [(&str, KeyUsage); 3] = [
    (PEK, KeyUsage::PinEncryption),
    (CARD_DIGEST_KEY, KeyUsage::Hmac),
    (PAN_KEY, KeyUsage::DataEncryption),
];
/// The issuer's PIN encryption key, under which references are kept.
pub const PEK: &str = "own-pek";
/// The key of the digest by which cards are found.
pub const CARD_DIGEST_KEY: &str = "own-card-digest";
/// The key that seals stored PANs.
pub const PAN_KEY: &str = "own-pan";

/// Largest key file, in bytes: far above any version D block of this switch.
const KEY_FILE_BYTES_MAX: u64 = 4096;

/// What went wrong with the key directory; the text names the file and holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A key is not usable.
    #[error("key {name}: {fault}")]
    Key {
        /// Its name.
        name: String,
        /// What is wrong.
        fault: KeyFault,
    },
    /// A key that is needed is not there.
    #[error("key {0} does not exist; `pinswitch key list` shows the keys there are")]
    Missing(String),
    /// A key of this name exists.
    #[error("key {0} exists already; a key is never overwritten")]
    Exists(String),
    /// The components do not make a key.
    #[error("{0}")]
    Components(String),
}

impl KeysError {
    fn key(name: &str, fault: KeyFault) -> KeysError {
        KeysError::Key { name: name.to_owned(), fault }
    }
}

/// Reads the master key: 64 hexadecimal digits in a file that only its owner may read.
///
/// # Errors
/// If the file cannot be read, is readable by others, or does not hold 64 digits.
pub fn read_master_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeysError> {
    let file = |source| KeysError::File { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(file)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let text = format!("the mode is {mode:04o}; a master key file must have mode 0600");
        return Err(file(std::io::Error::other(text)));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(file)?);
    let mut value = Zeroizing::new([0; 32]);
    let bytes = from_hex(text.trim()).filter(|bytes| bytes.len() == value.len());
    let bytes = bytes.ok_or_else(|| {
        file(std::io::Error::other("a master key is 64 hexadecimal digits (AES-256)"))
    })?;
    value.copy_from_slice(&bytes);
    Ok(value)
}

/// The keys of a data directory, unwrapped.
#[derive(Debug)]
pub struct Keys {
    directory: PathBuf,
    master: MasterKey,
    keys: BTreeMap<String, Key>,
}

impl Keys {
    /// Reads all keys of `directory`, which is made if it does not exist.
    ///
    /// # Errors
    /// If a file cannot be read or a block does not open under this master key.
    pub fn open(directory: &Path, master: MasterKey) -> Result<Keys, KeysError> {
        let file = |source| KeysError::File { path: directory.to_owned(), source };
        make_private_directory(directory).map_err(file)?;
        let mut keys = Keys { directory: directory.to_owned(), master, keys: BTreeMap::new() };
        for entry in fs::read_dir(directory).map_err(file)? {
            let path = entry.map_err(file)?.path();
            if path.extension().is_some_and(|extension| extension == "key") {
                let (name, key) = keys.read(&path)?;
                keys.keys.insert(name, key);
            }
        }
        Ok(keys)
    }

    fn read(&self, path: &Path) -> Result<(String, Key), KeysError> {
        let file = |source| KeysError::File { path: path.to_owned(), source };
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if fs::metadata(path).map_err(file)?.len() > KEY_FILE_BYTES_MAX {
            return Err(KeysError::key(&name, KeyFault::Format("too long")));
        }
        let block = fs::read_to_string(path).map_err(file)?;
        let key = self.master.unwrap(block.trim());
        key.map(|key| (name.clone(), key)).map_err(|fault| KeysError::key(&name, fault))
    }

    /// Those of the switch's own keys that have not been made.
    #[must_use]
    pub fn missing_own_keys(&self) -> Vec<(&'static str, KeyUsage)> {
        let missing = |(name, _): &(&str, KeyUsage)| !self.keys.contains_key(*name);
        OWN_KEYS.into_iter().filter(missing).collect()
    }

    /// Makes those of the switch's own keys that are missing.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn generate_own_keys(&mut self) -> Result<(), KeysError> {
        for (name, usage) in self.missing_own_keys() {
            let key = Key::generate(usage).map_err(|fault| KeysError::key(name, fault))?;
            self.add(name, key)?;
        }
        Ok(())
    }

    /// The key of this name, for calls of this usage.
    ///
    /// # Errors
    /// If there is none or it is for another purpose.
    pub fn get(&self, name: &str, usage: KeyUsage) -> Result<&[u8], KeysError> {
        let key = self.keys.get(name).ok_or_else(|| KeysError::Missing(name.to_owned()))?;
        key.value_for(usage).map_err(|fault| KeysError::key(name, fault))
    }

    /// Every key with its name, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Key)> {
        self.keys.iter().map(|(name, key)| (name.as_str(), key))
    }

    /// Adds a key: writes its block to `NAME.key` and returns the block.
    ///
    /// # Errors
    /// If the name exists or the file cannot be written.
    pub fn add(&mut self, name: &str, key: Key) -> Result<String, KeysError> {
        let path = self.directory.join(format!("{name}.key"));
        let file = |source| KeysError::File { path: path.clone(), source };
        if self.keys.contains_key(name) {
            return Err(KeysError::Exists(name.to_owned()));
        }
        let block = self.master.wrap(&key).map_err(|fault| KeysError::key(name, fault))?;
        write_private(&path, &block).map_err(file)?;
        sync_directory(&self.directory).map_err(file)?;
        self.keys.insert(name.to_owned(), key);
        Ok(block)
    }

    /// Puts two or three components together by exclusive-or and adds the key. The parity bits
    /// of the result are set odd: they are no part of a triple DES key.
    ///
    /// # Errors
    /// If the components do not make a usable key, or `expected` is not its check value.
    pub fn import(
        &mut self,
        name: &KeyName,
        usage: KeyUsage,
        components: &[Zeroizing<Vec<u8>>],
        expected: Option<&str>,
    ) -> Result<(String, Kcv), KeysError> {
        let fault = |fault| KeysError::key(name.as_str(), fault);
        let value = combine(components)?;
        let key = Key::new(usage, value).map_err(fault)?;
        let kcv = key.kcv().map_err(fault)?;
        if expected.is_some_and(|text| !text.eq_ignore_ascii_case(&kcv.to_string())) {
            let text = format!("the check value of the key is {kcv}, not the one expected");
            return Err(KeysError::Components(text));
        }
        self.add(name.as_str(), key).map(|block| (block, kcv))
    }
}

fn combine(components: &[Zeroizing<Vec<u8>>]) -> Result<Zeroizing<Vec<u8>>, KeysError> {
    let error = |text: &str| Err(KeysError::Components(text.to_owned()));
    if !(2..=3).contains(&components.len()) {
        return error("a key comes as two or three components, one per line, in hexadecimal");
    }
    let length = components.first().map_or(0, |component| component.len());
    if components.iter().any(|component| component.len() != length) {
        return error("the components have different lengths");
    }
    let mut value = Zeroizing::new(vec![0; length]);
    for component in components {
        value.iter_mut().zip(component.iter()).for_each(|(to, from)| *to ^= from);
    }
    set_odd_parity(&mut value);
    Ok(value)
}

/// Makes a directory with mode 0700, and its parents, if it does not exist.
///
/// # Errors
/// As of the operating system.
pub fn make_private_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_directory(parent.unwrap_or(Path::new(".")))
}

/// Writes and syncs a file whole under a temporary name, then renames it.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    fs::File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(byte: u8) -> MasterKey {
        MasterKey::new(&[byte; 32]).unwrap()
    }

    #[test]
    fn own_keys_are_the_same_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut keys = Keys::open(directory.path(), master(1)).unwrap();
        assert_eq!(keys.missing_own_keys(), OWN_KEYS);
        keys.generate_own_keys().unwrap();
        let again = Keys::open(directory.path(), master(1)).unwrap();
        for (name, usage) in OWN_KEYS {
            assert_eq!(keys.get(name, usage).unwrap(), again.get(name, usage).unwrap());
        }
        assert!(Keys::open(directory.path(), master(2)).is_err());
    }

    #[test]
    fn components_make_a_key_with_odd_parity() {
        let directory = tempfile::tempdir().unwrap();
        let mut keys = Keys::open(directory.path(), master(1)).unwrap();
        let name = KeyName::parse("zpk-a").unwrap();
        let key = from_hex("ECC25208B6FD2023E9767A5489BC9415").unwrap();
        let one = from_hex("00112233445566778899AABBCCDDEEFF").unwrap();
        let two = Zeroizing::new(key.iter().zip(one.iter()).map(|(a, b)| a ^ b).collect());
        let parts = [one, two];
        let usage = KeyUsage::PinEncryption;
        assert!(keys.import(&name, usage, &parts, Some("000000")).is_err());
        keys.import(&name, usage, &parts, None).unwrap();
        assert_eq!(keys.get("zpk-a", usage).unwrap(), key.as_slice());
        assert!(keys.import(&name, usage, &parts, None).is_err(), "never overwritten");
        assert!(matches!(keys.get("zpk-a", KeyUsage::Hmac), Err(KeysError::Key { .. })));
        assert!(keys.import(&KeyName::parse("b").unwrap(), usage, &parts[..1], None).is_err());
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
}
