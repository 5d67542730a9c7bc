//! A key that comes in components, under dual control: each custodian brings one, in a call of
//! its own, and nobody ever sees another's. Between the calls a file `NAME.components` holds
//! what was combined so far, sealed under the master key together with its name and with who has
//! brought what.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::cipher::set_odd_parity;
use super::key::{Algorithm, Key, KeyAttributes, KeyFault, check_value};
use super::key_block::Unwrapped;
use super::keys::{Addition, Keys, KeysError};
use crate::clock::Timestamp;
use crate::hex::hex;
use crate::hsm::KeyName;
use crate::key::Kcv;
use crate::place::{self, sync_directory};

/// Components a key may come in.
pub const COMPONENTS: std::ops::RangeInclusive<u8> = 2..=3;

/// How long components wait for the others.
const AGE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// One component, and what the key shall be.
pub struct Component<'a> {
    /// Name of the key.
    pub name: &'a KeyName,
    /// What the key shall be; the same for all its components.
    pub attributes: KeyAttributes,
    /// Whether the key is new.
    pub addition: Addition,
    /// Which component this is, from 1.
    pub number: u8,
    /// How many there are.
    pub count: u8,
    /// Who brings it: a custodian brings one only.
    pub custodian: &'a str,
    /// As long as the key.
    pub value: Zeroizing<Vec<u8>>,
    /// When it is brought.
    pub now: Timestamp,
    /// Check value that the whole key must have, six hexadecimal digits. Whichever components
    /// it comes with, it counts.
    pub expected: Option<&'a str>,
}

/// What a component led to.
#[derive(Debug)]
pub enum Combined {
    /// Others are still to come.
    Waiting {
        /// Check value of the component.
        component: Kcv,
        /// Number and custodian of those that are there.
        present: Vec<(u8, String)>,
    },
    /// It was the last one: the key is in the directory.
    Complete {
        /// Check value of the component.
        component: Kcv,
        /// Number and custodian of all components.
        present: Vec<(u8, String)>,
        /// The key's block.
        block: String,
        /// The key's check value.
        kcv: Kcv,
    },
}

/// What was combined so far.
struct Gathered {
    count: u8,
    /// Check values that the key must have, as they were given.
    expected: Vec<String>,
    /// Number and custodian of each component.
    components: Vec<(u8, String)>,
    value: Zeroizing<Vec<u8>>,
}

impl Keys {
    /// Takes one component in; the last one makes the key. The parity bits of the result are set
    /// odd: they are no part of a triple DES key.
    ///
    /// # Errors
    /// If it does not go together with those before it, or the components make no usable key or
    /// not the one expected. The components before it stay then.
    pub fn add_component(&mut self, component: &Component<'_>) -> Result<Combined, KeysError> {
        let Component { name, attributes, .. } = component;
        let fault = |fault| KeysError::key(name.as_str(), fault);
        let algorithm = attributes.algorithm;
        let own = check_value(algorithm, &component.value).map_err(fault)?;
        if self.versions(name.as_str()).is_ok() && component.addition == Addition::New {
            return Err(KeysError::Exists(name.as_str().to_owned()));
        }
        // Components of another rotation, long given up, must not become part of this one.
        let version = self.newest(name.as_str()).map_or(1, |live| live.attributes().version + 1);
        let attributes = KeyAttributes { version, ..*attributes };
        let gathered = self.gather(component, attributes)?;
        let present = gathered.components.clone();
        if present.len() < usize::from(gathered.count) {
            self.keep(name, attributes, &gathered)?;
            return Ok(Combined::Waiting { component: own, present });
        }
        let (block, kcv) = self.complete(component, gathered)?;
        Ok(Combined::Complete { component: own, present, block, kcv })
    }

    /// Forgets the components of a key that was not completed.
    ///
    /// # Errors
    /// If there are none.
    pub fn discard_components(&self, name: &KeyName) -> Result<(), KeysError> {
        let path = self.components_file(name);
        fs::remove_file(&path)
            .and_then(|()| sync_directory(&self.source.directory))
            .map_err(|source| KeysError::File { path, source })
    }

    fn components_file(&self, name: &KeyName) -> PathBuf {
        self.source.directory.join(format!("{name}.components"))
    }

    fn gather(
        &self,
        component: &Component<'_>,
        attributes: KeyAttributes,
    ) -> Result<Gathered, KeysError> {
        let refused = |text: &str| Err(KeysError::Components(text.to_owned()));
        let Component { number, count, value, expected, .. } = component;
        let (custodian, expected) = (component.custodian.trim(), expected.map(str::to_uppercase));
        if !COMPONENTS.contains(count) || !(1..=*count).contains(number) {
            return refused("a key comes in two or three components, numbered from 1");
        }
        if custodian.is_empty() || custodian.len() > 64 || custodian.contains(char::is_control) {
            return refused("a custodian is a name of 1 to 64 characters");
        }
        if expected.as_deref().is_some_and(|text| Kcv::parse(text).is_none()) {
            return refused("a check value is six hexadecimal digits");
        }
        if value.iter().all(|byte| byte & 0xFE == 0) {
            return refused("a component of zeros leaves the key to the other custodians");
        }
        let Some(mut gathered) = self.kept(component, attributes)? else {
            let components = vec![(*number, custodian.to_owned())];
            let expected = expected.into_iter().collect();
            return Ok(Gathered { count: *count, expected, components, value: value.clone() });
        };
        if gathered.count != *count || gathered.value.len() != value.len() {
            return refused("the components before it were for another number or length");
        }
        if gathered.components.iter().any(|(known, _)| known == number) {
            return refused("this component is there already");
        }
        // However somebody writes their name.
        if gathered.components.iter().any(|(_, known)| known.eq_ignore_ascii_case(custodian)) {
            return refused("this custodian has brought a component already; each brings one");
        }
        gathered.expected.extend(expected);
        gathered.components.push((*number, custodian.to_owned()));
        gathered.value.iter_mut().zip(value.iter()).for_each(|(to, from)| *to ^= from);
        Ok(gathered)
    }

    fn complete(
        &mut self,
        component: &Component<'_>,
        mut gathered: Gathered,
    ) -> Result<(String, Kcv), KeysError> {
        let Component { name, attributes, addition, .. } = component;
        let fault = |fault: KeyFault| KeysError::key(name.as_str(), fault);
        if attributes.algorithm == Algorithm::Tdes {
            set_odd_parity(&mut gathered.value);
        }
        let key = Key::new(*attributes, gathered.value).map_err(fault)?;
        let kcv = key.kcv();
        if gathered.expected.iter().any(|expected| *expected != kcv.to_string()) {
            let text = format!("the check value of the key is {kcv}, not the one expected");
            return Err(KeysError::Components(text));
        }
        let block = self.add(name.as_str(), key, *addition)?;
        // The key is in place: a file that stays would only stand in the way of the next one.
        match fs::remove_file(self.components_file(name)) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(KeysError::File { path: self.components_file(name), source })
            }
            _ => Ok((block, kcv)),
        }
    }

    /// The first line is the number of components and the check values to come out, then one line
    /// for each that came, then the block.
    fn keep(
        &self,
        name: &KeyName,
        attributes: KeyAttributes,
        gathered: &Gathered,
    ) -> Result<(), KeysError> {
        let came =
            gathered.components.iter().map(|(number, custodian)| format!("\n{number} {custodian}"));
        let head = [&[gathered.count.to_string()], &gathered.expected[..]].concat().join(" ");
        let front = format!("{head}{}", came.collect::<String>());
        let label = label(name, &front);
        let block = self.source.master.wrap_value(attributes, &gathered.value, Some(&label));
        let block = block.map_err(|fault| KeysError::key(name.as_str(), fault))?;
        let path = self.components_file(name);
        place::write_private(&path, &format!("{front}\n{block}"))
            .and_then(|()| sync_directory(&self.source.directory))
            .map_err(|source| KeysError::File { path, source })
    }

    fn kept(
        &self,
        component: &Component<'_>,
        attributes: KeyAttributes,
    ) -> Result<Option<Gathered>, KeysError> {
        let Component { name, now, .. } = component;
        let path = self.components_file(name);
        let file = |source| KeysError::File { path: path.clone(), source };
        let mut opened = match place::open_own(&path) {
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(file)?,
        };
        let mut text = String::new();
        opened.read_to_string(&mut text).map_err(file)?;
        let changed = opened.metadata().and_then(|found| found.modified()).map_err(file)?;
        if now.since(Timestamp::from_system_time(changed)) > AGE_MAX {
            let text = "the components before it are older than a day; discard them and begin anew";
            return Err(KeysError::Components(text.to_owned()));
        }
        let Some((front, block)) = text.trim_end_matches('\n').rsplit_once('\n') else {
            return Err(unreadable(path));
        };
        let mut came = front.lines();
        let mut head = came.next().unwrap_or_default().split(' ').map(str::to_owned);
        let count = head.next().and_then(|count| count.parse().ok());
        let expected = head.collect();
        let sealed = self.source.master.unwrap_value(block);
        let sealed = sealed.map_err(|fault| KeysError::key(name.as_str(), fault))?;
        let Unwrapped { attributes: known, value, label: sealed_label } = sealed;
        if sealed_label != Some(&*label(name, front)) {
            let path = path.display();
            let text = format!(
                "{path}: the components in it are of another key, somebody has changed who brought \
                 them, or an earlier version wrote it; discard them and begin anew"
            );
            return Err(KeysError::Components(text));
        }
        if known != attributes {
            let text = "the components before it were for another version, usage, algorithm or \
                        mode of use; discard them and begin anew";
            return Err(KeysError::Components(text.to_owned()));
        }
        let came = came.map(|line| {
            let (number, custodian) = line.split_once(' ')?;
            Some((number.parse().ok()?, custodian.to_owned()))
        });
        let components = came.collect::<Option<Vec<_>>>();
        match count.zip(components) {
            Some((count, components)) => Ok(Some(Gathered { count, expected, components, value })),
            None => Err(unreadable(path)),
        }
    }
}

/// What the block of components is sealed with: whose they are, and a digest of the lines before
/// it. It is the label of no key, so the block is never taken for one.
fn label(name: &KeyName, front: &str) -> String {
    format!("{name}.components {}", hex(&Sha256::digest(front)))
}

fn unreadable(path: PathBuf) -> KeysError {
    KeysError::File { path, source: std::io::Error::other("it is no file of components") }
}

#[cfg(test)]
mod tests {
    use super::super::key::KeyUsage;
    use super::super::key_block::ProtectionKey;
    use super::super::keys::KeySource;
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::hex::from_hex;

    const KEY: &str = "ECC25208B6FD2023E9767A5489BC9415";

    fn component<'a>(
        name: &'a KeyName,
        number: u8,
        custodian: &'a str,
        text: &str,
    ) -> Component<'a> {
        Component {
            name,
            attributes: KeyAttributes::usual(KeyUsage::PinEncryption),
            addition: Addition::New,
            number,
            count: 2,
            custodian,
            value: from_hex(text).unwrap(),
            expected: None,
            now: SystemClock.now(),
        }
    }

    #[test]
    fn two_custodians_make_a_key_and_one_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let source = KeySource {
            directory: directory.path().to_owned(),
            master: ProtectionKey::master(&[1; 32]).unwrap(),
            allows_public: true,
        };
        let mut keys = Keys::open(source.clone()).unwrap();
        let name = KeyName::parse("zpk-a").unwrap();
        let one = "00112233445566778899AABBCCDDEEFF";
        let two: Vec<u8> = from_hex(KEY)
            .unwrap()
            .iter()
            .zip(from_hex(one).unwrap().iter())
            .map(|(a, b)| a ^ b)
            .collect();
        let two = crate::hex::hex(&two);
        let waiting = keys.add_component(&component(&name, 1, "ann", one)).unwrap();
        let Combined::Waiting { present, .. } = waiting else { panic!() };
        assert_eq!(present, [(1, "ann".to_owned())]);
        let said = |keys: &mut Keys, component: &Component<'_>| {
            keys.add_component(component).unwrap_err().to_string()
        };
        for same in ["ann ", "Ann", " ANN"] {
            assert!(said(&mut keys, &component(&name, 2, same, &two)).contains("custodian"));
        }
        let zeros = component(&name, 2, "bob", "00000000000000000100000000000000");
        assert!(said(&mut keys, &zeros).contains("zeros"));
        let later = component(&name, 2, "bob", &two);
        let day_after_tomorrow = later.now.seconds() + 2 * 24 * 3_600;
        let later = Component { now: Timestamp::from_seconds(day_after_tomorrow), ..later };
        assert!(said(&mut keys, &later).contains("older than a day"));
        assert!(said(&mut keys, &component(&name, 1, "bob", &two)).contains("already"));
        let short = component(&name, 2, "bob", &format!("{two}{}", &two[..16]));
        assert!(said(&mut keys, &short).contains("length"));
        let wrong = Component { expected: Some("000000"), ..component(&name, 2, "bob", &two) };
        assert!(said(&mut keys, &wrong).contains("check value"));
        // Another process goes on.
        let mut keys = Keys::open(source).unwrap();
        let last = Component { expected: Some("666ea8"), ..component(&name, 2, "bob", &two) };
        let done = keys.add_component(&last).unwrap();
        assert!(matches!(done, Combined::Complete { .. }));
        assert!(keys.newest("zpk-a").unwrap().has_value(&from_hex(KEY).unwrap()));
        assert!(!keys.components_file(&name).exists());
        assert!(said(&mut keys, &component(&name, 1, "ann", one)).contains("exists"));
    }
}
