//! The key directory: one file `NAME.key` per key, holding a TR-31 key block under the master key
//! for each version that is live, one per line, oldest first. No clear key is ever written.
//!
//! Each block names its key (its label), so that no file passes for another one's. Blocks of
//! earlier versions have no label. They are given one at the first start, the switch's own PEK
//! last; from then on a block without a label is refused.
//!
//! While a key is rotated two versions are live: messages under the older one that are still on
//! their way verify too. What the switch makes itself is made with the newer one.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::key::Kcv;

use super::key::{Key, KeyAttributes, KeyFault, KeyUsage, Operation};

use super::key_block::{BLOCK_CHARACTERS_MAX, ProtectionKey};
use super::public_keys::is_public;
use crate::hex::from_hex;
use crate::place::{self, sync_directory};

/// Ending of the file of a key that may come back.
const SET_ASIDE: &str = "removed";

/// Versions of one key that are live at once.
pub const LIVE_VERSIONS_MAX: usize = 2;

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

/// Largest key file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = ((BLOCK_CHARACTERS_MAX + 1) * LIVE_VERSIONS_MAX) as u64;

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
    #[error("key {0} exists already; a key is never overwritten (--rotate adds a version)")]
    Exists(String),
    /// One value or check value for two purposes, or one check value for two values.
    #[error(
        "keys {0} and {1} have the same value or check value; a key serves one purpose, and is \
         known by its check value"
    )]
    SameValue(String, String),
    /// A value that everybody knows, where others can reach the switch.
    #[error("key {0} has the demo's public value, which only loopback addresses may use")]
    Public(String),
    /// A rotation that is none, or one too many.
    #[error("key {name}: {reason}")]
    Rotation {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The block of another key.
    #[error(
        "{path}: the block is of key {found}, not of {name}; a key's file is not copied or renamed"
    )]
    OtherKey {
        /// The file.
        path: PathBuf,
        /// Name of the key that the block is of.
        found: String,
        /// Name of the key that the file is of.
        name: String,
    },
    /// A block of nobody, where all others name their keys.
    #[error("{path}: its block has no label (LB) with the name of its key, as all others here do")]
    Unlabelled {
        /// The file.
        path: PathBuf,
    },
    /// The components do not make a key.
    #[error("{0}")]
    Components(String),
}

impl KeysError {
    pub(super) fn key(name: &str, fault: KeyFault) -> KeysError {
        KeysError::Key { name: name.to_owned(), fault }
    }

    fn rotation(name: &str, reason: &'static str) -> KeysError {
        KeysError::Rotation { name: name.to_owned(), reason }
    }
}

/// Longest master key file, in bytes.
const MASTER_KEY_FILE_BYTES_MAX: usize = 1 << 10;

/// Reads the master key: 64 hexadecimal digits in a file that only its owner may read, where
/// nobody else can put another one.
///
/// # Errors
/// If the file or the way to it cannot be trusted, is readable by others, or does not hold 64
/// digits.
pub fn read_master_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeysError> {
    let file = |source| KeysError::File { path: path.to_owned(), source };
    place::check_way(path).map_err(file)?;
    let opened = place::open_secret(path).map_err(file)?;
    // Room for all of it: a text that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MASTER_KEY_FILE_BYTES_MAX + 1));
    opened.take(MASTER_KEY_FILE_BYTES_MAX as u64).read_to_string(&mut text).map_err(file)?;
    let mut value = Zeroizing::new([0; 32]);
    let bytes = from_hex(text.trim()).filter(|bytes| bytes.len() == value.len());
    let bytes = bytes.ok_or_else(|| {
        file(std::io::Error::other("a master key is 64 hexadecimal digits (AES-256)"))
    })?;
    value.copy_from_slice(&bytes);
    Ok(value)
}

/// Where keys are, and what opens them.
#[derive(Clone, Debug)]
pub struct KeySource {
    /// The directory; it is made if it does not exist.
    pub directory: PathBuf,
    /// The master key.
    pub master: ProtectionKey,
    /// Whether the demo's keys, which are public, may be among them.
    pub allows_public: bool,
}

/// The keys of a data directory, unwrapped.
#[derive(Debug)]
pub struct Keys {
    pub(super) source: KeySource,
    /// The live versions of each key, oldest first, never empty.
    keys: BTreeMap<String, Vec<Key>>,
    /// Names of those that have a block without a label.
    unlabelled: BTreeSet<String>,
}

/// One version of a key, as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyVersion {
    /// Name of the key.
    pub name: String,
    /// The version.
    pub version: u8,
    /// Its check value.
    pub kcv: Kcv,
}

/// What has come and gone since the keys were read last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyChanges {
    /// Versions in use now that were not.
    pub added: Vec<KeyVersion>,
    /// Versions that are in use no more.
    pub removed: Vec<KeyVersion>,
}

/// Whether a name is new or a key gets another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addition {
    /// The name must be free.
    New,
    /// The key exists and gets its next version; both are live.
    Rotation,
}

/// Which of two live versions goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retire {
    /// The end of a rotation.
    Older,
    /// The rotation was a mistake.
    Newer,
}

impl Keys {
    /// Reads all keys.
    ///
    /// # Errors
    /// If a file cannot be read, a block does not open under the master key, or a key is not
    /// allowed beside the others.
    pub fn open(source: KeySource) -> Result<Keys, KeysError> {
        let directory = source.directory.clone();
        let file = |source| KeysError::File { path: directory.clone(), source };
        place::make_inner_directory(&directory).map_err(file)?;
        let mut keys = Keys { source, keys: BTreeMap::new(), unlabelled: BTreeSet::new() };
        let mut paths = fs::read_dir(&directory)
            .and_then(|entries| {
                entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>()
            })
            .map_err(file)?;
        paths.sort_unstable();
        for path in paths {
            if path.extension().is_some_and(|extension| extension == "key") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let versions = keys.read(&path, &name)?;
                for key in &versions {
                    keys.check_value(&name, key)?;
                }
                keys.keys.insert(name, versions);
            }
        }
        // Where the PEK has its label, all others have been given theirs.
        match keys.unlabelled.first() {
            Some(name) if keys.keys.contains_key(PEK) && !keys.unlabelled.contains(PEK) => {
                Err(KeysError::Unlabelled { path: keys.file(name) })
            }
            _ => Ok(keys),
        }
    }

    /// Waits until nobody else changes the directory; nobody does while the file is open.
    ///
    /// # Errors
    /// As of the operating system.
    pub fn lock(&self) -> Result<fs::File, KeysError> {
        let path = &self.source.directory;
        let locked = fs::File::open(path).and_then(|file| file.lock().map(|()| file));
        locked.map_err(|source| KeysError::File { path: path.clone(), source })
    }

    /// Whether there are blocks of an earlier version, which have no label.
    #[must_use]
    pub fn has_unlabelled(&self) -> bool {
        !self.unlabelled.is_empty()
    }

    /// Writes all blocks that have no label anew, with one; returns the names of their keys. Who
    /// calls it holds the lock, and has read the keys since.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn label(&mut self) -> Result<Vec<String>, KeysError> {
        let mut names: Vec<String> = self.unlabelled.iter().cloned().collect();
        // Its label says that all others have one.
        names.sort_by_key(|name| name == PEK);
        for name in &names {
            self.put(name, self.versions(name)?.to_vec())?;
        }
        Ok(names)
    }

    /// Where they came from.
    #[must_use]
    pub const fn source(&self) -> &KeySource {
        &self.source
    }

    /// All versions, as they may be shown.
    #[must_use]
    pub fn inventory(&self) -> Vec<KeyVersion> {
        let version = |(name, key): (&str, &Key)| KeyVersion {
            name: name.to_owned(),
            version: key.attributes().version,
            kcv: key.kcv(),
        };
        self.iter().map(version).collect()
    }

    fn read(&mut self, path: &Path, name: &str) -> Result<Vec<Key>, KeysError> {
        let file = |source| KeysError::File { path: path.to_owned(), source };
        let format = |text| KeysError::key(name, KeyFault::Format(text));
        let mut text = String::new();
        let opened = place::open_own(path).map_err(file)?;
        opened.take(KEY_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(file)?;
        if text.len() as u64 > KEY_FILE_BYTES_MAX {
            return Err(format("its file is too long"));
        }
        let mut versions = Vec::new();
        for block in text.lines() {
            let unwrapped = self.source.master.unwrap_labelled(block.trim());
            let (key, label) = unwrapped.map_err(|fault| KeysError::key(name, fault))?;
            match label {
                None => self.unlabelled.extend([name.to_owned()]),
                Some(found) if found != name => {
                    let (path, found) = (path.to_owned(), found.to_owned());
                    return Err(KeysError::OtherKey { path, found, name: name.to_owned() });
                }
                Some(_) => {}
            }
            versions.push(key);
        }
        let rising = versions.is_sorted_by(|one, next| {
            one.attributes().version < next.attributes().version && one.kcv() != next.kcv()
        });
        match versions.len() {
            1..=LIVE_VERSIONS_MAX if rising => Ok(versions),
            _ => Err(format("its file holds no key, too many versions, or not in their order")),
        }
    }

    /// A key serves one purpose: its value, and its check value, stand under no other usage. And
    /// a check value stands for one value: a PIN reference names by it the key that made it.
    fn check_value(&self, name: &str, key: &Key) -> Result<(), KeysError> {
        let clashes = |other: &Key| {
            let is_same = other.has_value(key.value());
            match other.attributes().usage == key.attributes().usage {
                true => other.kcv() == key.kcv() && !is_same,
                false => other.kcv() == key.kcv() || is_same,
            }
        };
        if !self.source.allows_public && is_public(key) {
            return Err(KeysError::Public(name.to_owned()));
        }
        match self.iter().find(|(_, other)| clashes(other)) {
            Some((other, _)) => Err(KeysError::SameValue(other.to_owned(), name.to_owned())),
            None => Ok(()),
        }
    }

    /// Those of the switch's own keys that have not been made.
    #[must_use]
    pub fn missing_own_keys(&self) -> Vec<(&'static str, KeyUsage)> {
        let missing = |(name, _): &(&str, KeyUsage)| !self.keys.contains_key(*name);
        OWN_KEYS.into_iter().filter(missing).collect()
    }

    /// Check values of the live versions of the switch's own keys, by name, the oldest first.
    #[must_use]
    pub fn own_check_values(&self) -> Vec<(&'static str, Kcv)> {
        let own = |(name, _): (&'static str, KeyUsage)| {
            let versions = self.keys.get(name).into_iter().flatten();
            versions.map(move |key| (name, key.kcv()))
        };
        OWN_KEYS.into_iter().flat_map(own).collect()
    }

    /// Makes those of the switch's own keys that are missing.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn generate_own_keys(&mut self) -> Result<(), KeysError> {
        for (name, usage) in self.missing_own_keys() {
            let key = Key::generate(KeyAttributes::usual(usage));
            self.add(name, key.map_err(|fault| KeysError::key(name, fault))?, Addition::New)?;
        }
        Ok(())
    }

    /// The live versions of a key, oldest first; never empty.
    ///
    /// # Errors
    /// If there is no key of this name.
    pub fn versions(&self, name: &str) -> Result<&[Key], KeysError> {
        let versions = self.keys.get(name).ok_or_else(|| KeysError::Missing(name.to_owned()))?;
        Ok(versions)
    }

    /// The newest version of a key.
    ///
    /// # Errors
    /// If there is no key of this name.
    pub fn newest(&self, name: &str) -> Result<&Key, KeysError> {
        self.versions(name)?.last().ok_or_else(|| KeysError::Missing(name.to_owned()))
    }

    /// The bytes of a key's newest version, for calls of this usage that do this.
    ///
    /// # Errors
    /// If there is none, or it is for another purpose.
    pub fn get(
        &self,
        name: &str,
        usage: KeyUsage,
        operation: Operation,
    ) -> Result<&[u8], KeysError> {
        let value = self.newest(name)?.value_for(usage, operation);
        value.map_err(|fault| KeysError::key(name, fault))
    }

    /// Every live version of every key with its name, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Key)> {
        let versions = self.keys.iter().map(|(name, versions)| (name.as_str(), versions));
        versions.flat_map(|(name, versions)| versions.iter().map(move |key| (name, key)))
    }

    /// Adds a key or the next version of one, and returns its key block.
    ///
    /// # Errors
    /// If the name is taken or, for a rotation, free; if the value serves another purpose
    /// already; if the file cannot be written. Nothing has changed then.
    pub fn add(&mut self, name: &str, key: Key, addition: Addition) -> Result<String, KeysError> {
        self.check_value(name, &key)?;
        let mut versions = self.keys.get(name).cloned().unwrap_or_default();
        let key = match (addition, versions.last()) {
            (Addition::New, Some(_)) => return Err(KeysError::Exists(name.to_owned())),
            // Its version where it comes from is none of ours.
            (Addition::New, None) => key.with_version(1),
            (Addition::Rotation, None) => return Err(KeysError::Missing(name.to_owned())),
            (Addition::Rotation, Some(live)) => next_version(name, key, live, versions.len())?,
        };
        versions.push(key);
        self.put(name, versions)
    }

    /// The version of a key that [`Keys::retire`] would take out of use.
    ///
    /// # Errors
    /// If it is the only one.
    pub fn retiring(&self, name: &str, which: Retire) -> Result<&Key, KeysError> {
        let versions = self.versions(name)?;
        match (versions, which) {
            ([oldest, _, ..], Retire::Older) => Ok(oldest),
            ([_, .., newest], Retire::Newer) => Ok(newest),
            _ => Err(KeysError::rotation(name, "only one version is live, which stays")),
        }
    }

    /// Takes a version of a key out of use; returns its check value.
    ///
    /// # Errors
    /// If it is the only one, or the file cannot be written.
    pub fn retire(&mut self, name: &str, which: Retire) -> Result<Kcv, KeysError> {
        let retired = self.retiring(name, which)?.clone();
        let mut versions = self.versions(name)?.to_vec();
        versions.retain(|key| key.kcv() != retired.kcv());
        self.put(name, versions)?;
        Ok(retired.kcv())
    }

    /// Takes a key out of the directory, with all its versions; until [`Keys::forget`] it can be
    /// put back.
    ///
    /// # Errors
    /// If there is none, or its file cannot be renamed.
    pub fn set_aside(&mut self, name: &str) -> Result<(), KeysError> {
        self.versions(name)?;
        let path = self.file(name);
        self.rename(&path, &path.with_extension(SET_ASIDE))?;
        self.keys.remove(name);
        Ok(())
    }

    /// Puts a key back that was set aside. Only the file: the keys here do not know it any more.
    ///
    /// # Errors
    /// If its file cannot be renamed.
    pub fn put_back(&self, name: &str) -> Result<(), KeysError> {
        let path = self.file(name);
        self.rename(&path.with_extension(SET_ASIDE), &path)
    }

    /// Removes a key for good that was set aside.
    ///
    /// # Errors
    /// If its file cannot be removed.
    pub fn forget(&self, name: &str) -> Result<(), KeysError> {
        let path = self.file(name).with_extension(SET_ASIDE);
        fs::remove_file(&path)
            .and_then(|()| sync_directory(&self.source.directory))
            .map_err(|source| KeysError::File { path, source })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), KeysError> {
        fs::rename(from, to)
            .and_then(|()| sync_directory(&self.source.directory))
            .map_err(|source| KeysError::File { path: from.to_owned(), source })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.source.directory.join(format!("{name}.key"))
    }

    /// Writes all versions of a key, and returns the block of the newest.
    fn put(&mut self, name: &str, versions: Vec<Key>) -> Result<String, KeysError> {
        let path = self.file(name);
        let blocks: Result<Vec<String>, KeyFault> =
            versions.iter().map(|key| self.source.master.wrap_labelled(key, name)).collect();
        let mut blocks = blocks.map_err(|fault| KeysError::key(name, fault))?;
        place::write_private(&path, &blocks.join("\n"))
            .and_then(|()| sync_directory(&self.source.directory))
            .map_err(|source| KeysError::File { path, source })?;
        self.keys.insert(name.to_owned(), versions);
        self.unlabelled.remove(name);
        Ok(blocks.pop().unwrap_or_default())
    }
}

fn next_version(name: &str, key: Key, live: &Key, count: usize) -> Result<Key, KeysError> {
    // What a rotation leaves out of the new version, calls would miss that need it.
    let (old, new) = (live.attributes(), key.attributes());
    if count >= LIVE_VERSIONS_MAX {
        let text = "two versions are live already; retire the older one first";
        return Err(KeysError::rotation(name, text));
    }
    if (old.usage, old.algorithm, old.mode) != (new.usage, new.algorithm, new.mode) {
        let text = "a new version has the usage, algorithm and mode of use of the live one";
        return Err(KeysError::rotation(name, text));
    }
    if live.has_value(key.value()) {
        return Err(KeysError::rotation(name, "the new version has the value of the live one"));
    }
    match old.version.checked_add(1).filter(|version| *version <= 99) {
        Some(version) => Ok(key.with_version(version)),
        None => Err(KeysError::rotation(name, "its versions are used up (99)")),
    }
}
