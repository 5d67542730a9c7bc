//! `pinswitch key ...`: keys in, keys out, and their versions. A running switch takes every
//! change into use at once.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use clap::{Args, Subcommand};
use rustix::process::getuid;

use switch::authorization::Product;
use switch::clock::{Clock, SystemClock};
use switch::config::Config;
use switch::control::{self, Command, Reply, SoftwareCommand};
use switch::hex::from_hex;
use switch::hsm::KeyName;
use switch::hsm::software::components::{Combined, Component};
use switch::hsm::software::key::KeyFault;
use switch::hsm::software::key::{Algorithm, Key, KeyAttributes, KeyUsage, ModeOfUse, Operation};
use switch::hsm::software::key_block::ProtectionKey;
use switch::hsm::software::keys::{Addition, Keys, KeysError, PEK, Retire};
use switch::hsm::software::{
    Needs, check_chip_keys, check_pvk, check_zone_key, chip_keys_of, pvk_of,
};
use switch::issuing::keys::needs;
use switch::{place, run};

use super::{CliError, ask, read_line, refused};

/// On keys.
#[derive(Subcommand)]
pub(crate) enum KeyAction {
    /// Make a random key; print its key block and check value.
    Generate {
        /// Its name: letters, digits and hyphens.
        name: String,
        #[command(flatten)]
        kind: KindArguments,
    },
    /// Bring a key in: one component of it, or a TR-31 key block under a key of usage K1. The
    /// component (hexadecimal) or the block is one line on standard input.
    Import {
        /// Its name: letters, digits and hyphens.
        name: String,
        #[command(flatten)]
        kind: KindArguments,
        /// Which component this is, from 1. Each custodian brings one, in a call of their own.
        #[arg(long, requires_all = ["of", "custodian"], required_unless_present = "under")]
        component: Option<u8>,
        /// How many components there are: 2 or 3.
        #[arg(long)]
        of: Option<u8>,
        /// Who brings the component.
        #[arg(long)]
        custodian: Option<String>,
        /// Name of the key of usage K1 that the block is under.
        #[arg(long, conflicts_with_all = ["component", "of", "custodian"])]
        under: Option<String>,
        /// Check value that the key must have, six hexadecimal digits.
        #[arg(long)]
        kcv: Option<String>,
    },
    /// Forget the components of a key that was not completed.
    Discard {
        /// Its name.
        name: String,
    },
    /// Print an exportable key as a TR-31 key block: version D under an AES key, version B
    /// under a triple DES key.
    Export {
        /// Its name.
        name: String,
        /// Name of the key of usage K1 that the block shall be under.
        #[arg(long)]
        under: String,
    },
    /// Take the older of two versions of a key out of use: the end of a rotation.
    Retire {
        /// Its name.
        name: String,
        /// Take the newer one out instead: the rotation was a mistake.
        #[arg(long)]
        newer: bool,
    },
    /// Take a key out for good, with all its versions. One that is needed stays.
    Remove {
        /// Its name.
        name: String,
    },
    /// List names, versions, check values and what each key may do.
    List,
}

/// What a new key shall be.
#[derive(Args)]
pub(crate) struct KindArguments {
    /// What it is for: P0 PIN encryption (ZPK), V1 IBM 3624 PVK, V2 Visa PVK, E0 IMK-AC,
    /// E1 IMK-SMC, E2 IMK-SMI, K1 key block protection.
    #[arg(long, value_parser = parse_usage)]
    usage: KeyUsage,
    /// T triple DES or A AES; the usual one of the usage if left out.
    #[arg(long, value_parser = parse_algorithm)]
    algorithm: Option<Algorithm>,
    /// Mode of use: B, D or E (both, decrypt, encrypt), C, G or V (both, generate, verify),
    /// X (derive), N (any); the usual one of the usage if left out.
    #[arg(long, value_parser = parse_mode)]
    mode: Option<ModeOfUse>,
    /// Allow it to be exported.
    #[arg(long)]
    exportable: bool,
    /// Add the next version of a key that exists: both are live until the older is retired.
    #[arg(long)]
    rotate: bool,
}

impl KindArguments {
    fn attributes(&self) -> KeyAttributes {
        let usual = KeyAttributes::usual(self.usage);
        KeyAttributes {
            algorithm: self.algorithm.unwrap_or(usual.algorithm),
            mode: self.mode.unwrap_or(usual.mode),
            exportable: self.exportable,
            ..usual
        }
    }

    const fn addition(&self) -> Addition {
        if self.rotate { Addition::Rotation } else { Addition::New }
    }
}

fn parse_usage(text: &str) -> Result<KeyUsage, String> {
    // The switch's own keys have the other usages; nobody brings those in.
    let own = [KeyUsage::Hmac, KeyUsage::DataEncryption];
    let mut usages = KeyUsage::ALL.into_iter().filter(|usage| !own.contains(usage));
    let found = usages.clone().find(|usage| usage.code() == text);
    found.ok_or_else(|| {
        let codes: Vec<&str> = usages.by_ref().map(KeyUsage::code).collect();
        format!("expected one of {}", codes.join(", "))
    })
}

fn parse_algorithm(text: &str) -> Result<Algorithm, String> {
    match text {
        "T" => Ok(Algorithm::Tdes),
        "A" => Ok(Algorithm::Aes),
        _ => Err("expected T or A".to_owned()),
    }
}

fn parse_mode(text: &str) -> Result<ModeOfUse, String> {
    let found = ModeOfUse::ALL.into_iter().find(|mode| mode.letter().to_string() == text);
    found.ok_or_else(|| "expected one of B, C, D, E, G, N, V, X".to_owned())
}

pub(crate) fn act(action: &KeyAction, config: &Config) -> Result<(), CliError> {
    if matches!(action, KeyAction::List) {
        return list(config);
    }
    let mut keys = Directory::open(config)?;
    match action {
        KeyAction::Generate { name, kind } => keys.generate(name, kind),
        KeyAction::Import { name, kind, component, of, custodian, under, kcv } => {
            let expected = kcv.as_deref();
            match (component, of, custodian, under) {
                (Some(number), Some(count), Some(custodian), None) => {
                    let custodian = custodian.trim();
                    let part = Part { number: *number, count: *count, custodian, expected };
                    keys.component(name, kind, &part)
                }
                (_, _, _, Some(under)) => keys.import(name, kind, under, expected),
                _ => Err(refused("name --component, --of and --custodian, or --under")),
            }
        }
        KeyAction::Discard { name } => keys.discard(name),
        KeyAction::Export { name, under } => keys.export(name, under),
        KeyAction::Retire { name, newer: false } => keys.retire(name, Retire::Older),
        KeyAction::Retire { name, newer: true } => keys.retire(name, Retire::Newer),
        KeyAction::Remove { name } => keys.remove(name),
        KeyAction::List => Ok(()),
    }
}

struct Part<'a> {
    number: u8,
    count: u8,
    custodian: &'a str,
    expected: Option<&'a str>,
}

/// The key directory while one command works on it; another command waits.
struct Directory<'a> {
    config: &'a Config,
    keys: Keys,
    audit_log: File,
    _lock: File,
}

impl<'a> Directory<'a> {
    fn open(config: &'a Config) -> Result<Directory<'a>, CliError> {
        if config.is_demo {
            let text = "the master key is the demo's, which is public: a key under it is no \
                        secret; name a configuration with a master_key_file of your own (--config)";
            return Err(refused(text));
        }
        let lock = run::open_keys(config)?.lock()?;
        // What stood there before the lock was ours may be old.
        let mut keys = run::open_keys(config)?;
        run::label_keys(&mut keys)?;
        // Before anything changes: nothing is done that cannot be written down.
        let path = config.data_dir.join("audit.log");
        let audit_log = place::open_to_append(&path)
            .map_err(|error| CliError::Refused(format!("{}: {error}", path.display())))?;
        Ok(Directory { config, keys, audit_log, _lock: lock })
    }

    fn generate(&mut self, name: &str, kind: &KindArguments) -> Result<(), CliError> {
        let is_pek = kind.rotate && !kind.exportable && name == PEK;
        let name = match KeyName::parse(name).filter(|_| is_pek) {
            // The one key of the switch's own that can be rotated.
            Some(pek) => pek,
            None => key_name(name)?,
        };
        let key = Key::generate(kind.attributes());
        self.add(&name, key.map_err(of_key(&name))?, kind.addition(), "key generate")
    }

    fn add(
        &mut self,
        name: &KeyName,
        key: Key,
        addition: Addition,
        action: &str,
    ) -> Result<(), CliError> {
        let kcv = key.kcv();
        let block = self.keys.add(name.as_str(), key, addition)?;
        let in_use = self.take_into_use(&format!("{block}\nKCV {kcv}"));
        self.audit(action, name.as_str(), &format!("KCV {kcv}"))?;
        in_use
    }

    fn component(
        &mut self,
        name: &str,
        kind: &KindArguments,
        part: &Part<'_>,
    ) -> Result<(), CliError> {
        let name = key_name(name)?;
        let value = from_hex(read_line()?.trim());
        let combined = self.keys.add_component(&Component {
            name: &name,
            attributes: kind.attributes(),
            addition: kind.addition(),
            number: part.number,
            count: part.count,
            custodian: part.custodian,
            value: value.ok_or_else(|| refused("the component is not hexadecimal"))?,
            expected: part.expected,
            now: SystemClock.now(),
        })?;
        let (number, count, custodian) = (part.number, part.count, part.custodian);
        let what = format!("component {number} of {count} by {custodian}");
        self.audit("key component", name.as_str(), &what)?;
        let list = |present: &[(u8, String)]| {
            let present = present.iter().map(|(number, by)| format!("{number} by {by}"));
            present.collect::<Vec<_>>().join(", ")
        };
        match combined {
            Combined::Waiting { component, present } => {
                let present = list(&present);
                let text = format!("component {number} KCV {component}; of {count}: {present}");
                Ok(writeln!(io::stdout(), "{text}")?)
            }
            Combined::Complete { component, present, block, kcv } => {
                let present = list(&present);
                let text = format!("component {number} KCV {component}; complete: {present}");
                let in_use = self.take_into_use(&format!("{text}\n{block}\nKCV {kcv}"));
                self.audit("key import", name.as_str(), &format!("KCV {kcv}"))?;
                in_use
            }
        }
    }

    fn import(
        &mut self,
        name: &str,
        kind: &KindArguments,
        under: &str,
        expected: Option<&str>,
    ) -> Result<(), CliError> {
        let name = key_name(name)?;
        let block = read_line()?;
        // The other side may not have changed over to the newest version yet.
        let unwrap = |protection: &Key| {
            let protection = ProtectionKey::of(protection, Operation::Decrypt);
            let protection = protection.map_err(|fault| key_error(under, fault))?;
            protection.unwrap(block.trim()).map_err(of_key(&name))
        };
        let mut unwrapped = Err(KeysError::Missing(under.to_owned()).into());
        for version in self.keys.versions(under)?.iter().rev() {
            if unwrapped.is_err() {
                unwrapped = unwrap(version);
            }
        }
        let key: Key = unwrapped?;
        let found = key.attributes();
        let differs = kind.usage != found.usage
            || kind.algorithm.is_some_and(|asked| asked != found.algorithm)
            || kind.mode.is_some_and(|asked| asked != found.mode)
            || kind.exportable && !found.exportable;
        if differs {
            let KeyAttributes { usage, algorithm, mode, exportable, .. } = found;
            let (algorithm, mode) = (algorithm.letter(), mode.letter());
            let export = if exportable { "exportable" } else { "not exportable" };
            let text = format!(
                "the block holds a key of usage {usage}, algorithm {algorithm}, mode of use \
                 {mode}, {export}"
            );
            return Err(CliError::Refused(text));
        }
        let kcv = key.kcv();
        if expected.is_some_and(|text| !text.eq_ignore_ascii_case(&kcv.to_string())) {
            let text = format!("the check value of the key is {kcv}, not the one expected");
            return Err(CliError::Refused(text));
        }
        self.add(&name, key.exportable_if(kind.exportable), kind.addition(), "key import")
    }

    fn discard(&self, name: &str) -> Result<(), CliError> {
        let name = key_name(name)?;
        self.keys.discard_components(&name)?;
        self.audit("key discard", name.as_str(), "components")
    }

    fn export(&self, name: &str, under: &str) -> Result<(), CliError> {
        let name = key_name(name)?;
        let name = name.as_str();
        let key = self.keys.newest(name)?;
        let fault = |fault| key_error(name, fault);
        if !key.attributes().exportable {
            return Err(fault(KeyFault::NotExportable));
        }
        let protection = ProtectionKey::of(self.keys.newest(under)?, Operation::Encrypt);
        let protection = protection.map_err(|fault| key_error(under, fault))?;
        let (block, kcv) = (protection.wrap(key).map_err(fault)?, key.kcv());
        self.audit("key export", name, &format!("KCV {kcv} under {under}"))?;
        Ok(writeln!(io::stdout(), "{block}\nKCV {kcv}")?)
    }

    fn retire(&mut self, name: &str, which: Retire) -> Result<(), CliError> {
        let key = self.keys.retiring(name, which)?;
        let makes_references = makes_references(name, key);
        // What the directory says must be what the running switch has in use.
        let is_running = self.reload()?;
        if makes_references && which == Retire::Newer && is_running {
            let text = "the running switch makes references with this version: stop it first";
            return Err(refused(text));
        }
        if makes_references {
            self.check_unused(key)?;
        }
        let kcv = self.keys.retire(name, which)?;
        let in_use = self.take_into_use(&format!("retired KCV {kcv}"));
        self.audit("key retire", name, &format!("KCV {kcv}"))?;
        in_use
    }

    fn remove(&mut self, name: &str) -> Result<(), CliError> {
        let known = key_name(name)?;
        let (keys, config) = (&self.keys, self.config);
        let is_zpk = config
            .links
            .iter()
            .filter(|link| link.zpk == known)
            .any(|link| check_zone_key(keys, &known, link.zone_key_algorithm()).is_ok());
        if is_zpk || is_named(keys, &known, &needs(&config.products)) {
            return Err(refused("the configuration names this key"));
        }
        if is_named(keys, &known, &needs(&self.products_of_store()?)) {
            return Err(refused("a product names this key"));
        }
        for key in keys.versions(name)?.iter().filter(|key| makes_references(name, key)) {
            self.check_unused(key)?;
        }
        // The running switch may have been started with another configuration.
        self.reload()?;
        self.keys.set_aside(name)?;
        if let Err(needed) = self.reload() {
            self.keys.put_back(name)?;
            return Err(needed);
        }
        self.keys.forget(name)?;
        self.audit("key remove", name, "all versions")?;
        Ok(writeln!(io::stdout(), "removed")?)
    }

    /// The products that the store knows, as far as their rules can be read.
    fn products_of_store(&self) -> Result<Vec<Arc<Product>>, CliError> {
        match ask(self.config, Command::Products)? {
            Some(Reply::Products(all)) => {
                let rules = all.iter().filter_map(|it| it.settings.product(&it.token, 1).ok());
                Ok(rules.map(Arc::new).collect())
            }
            Some(Reply::Refused(refusal)) => Err(refusal.into()),
            _ => Ok(Vec::new()),
        }
    }

    /// A key that made PIN references stays as long as a card has one.
    fn check_unused(&self, key: &Key) -> Result<(), CliError> {
        match ask(self.config, Command::CheckUnused { kcv: key.kcv().to_string() })? {
            Some(Reply::Refused(refusal)) => Err(refusal.into()),
            _ => Ok(()),
        }
    }

    /// Lets the running switch read the keys; whether there is one.
    fn reload(&self) -> Result<bool, CliError> {
        match control::ask(&self.config.data_dir, &SoftwareCommand::ReloadKeys.into())? {
            Some(Reply::Refused(refusal)) => Err(CliError::Refused(format!(
                "the running switch does not take the keys of the directory into use: {}",
                refusal.text
            ))),
            Some(_) => Ok(true),
            None => Ok(false),
        }
    }

    /// Who did what to which key stays in `audit.log` of the data directory, and is logged.
    fn audit(&self, action: &str, name: &str, what: &str) -> Result<(), CliError> {
        let (uid, login_uid) = (getuid().as_raw(), login_uid());
        tracing::info!(target: "audit", action, name, what, uid, login_uid);
        let login = login_uid.map(|uid| format!(" login uid {uid}")).unwrap_or_default();
        writeln!(&self.audit_log, "{} {action} {name} {what} uid {uid}{login}", SystemClock.now())?;
        Ok(self.audit_log.sync_data()?)
    }

    /// First the running switch, then the output, whose reader may be gone.
    fn take_into_use(&self, text: &str) -> Result<(), CliError> {
        let running = self.reload();
        let mut out = io::stdout();
        writeln!(out, "{text}")?;
        match running {
            Ok(true) => Ok(writeln!(out, "the running switch has it in use")?),
            Ok(false) => Ok(()),
            Err(refused) => Err(CliError::Refused(format!(
                "the key directory has changed, but the running switch goes on with the keys it \
                 has: {refused}"
            ))),
        }
    }
}

/// The user who logged in, whoever they have become since; none where the kernel does not know.
fn login_uid() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/self/loginuid").ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

/// Whether PIN references are made with a key, which name it by its check value.
fn makes_references(name: &str, key: &Key) -> bool {
    matches!(key.attributes().usage, KeyUsage::Ibm3624 | KeyUsage::VisaPvv) || name == PEK
}

fn key_name(name: &str) -> Result<KeyName, CliError> {
    KeyName::parse(name)
        .filter(|name| !name.as_str().starts_with("own-"))
        .ok_or_else(|| refused("a key name is 1 to 64 letters, digits and hyphens, and not own-*"))
}

fn key_error(name: &str, fault: KeyFault) -> CliError {
    KeysError::Key { name: name.to_owned(), fault }.into()
}

fn of_key(name: &KeyName) -> impl FnOnce(KeyFault) -> CliError {
    let name = name.as_str().to_owned();
    move |fault| key_error(&name, fault)
}

fn list(config: &Config) -> Result<(), CliError> {
    if !config.data_dir.join("keys").exists() {
        let text = format!("{}: there are no keys", config.data_dir.display());
        return Err(CliError::Refused(text));
    }
    let mut out = io::stdout().lock();
    for (name, key) in run::open_keys(config)?.iter() {
        let KeyAttributes { usage, algorithm, mode, version, exportable } = key.attributes();
        let (kcv, algorithm, mode) = (key.kcv(), algorithm.letter(), mode.letter());
        let export = if exportable { "exportable" } else { "not exportable" };
        writeln!(
            out,
            "{name:<24}  version {version:<2}  KCV {kcv}  {algorithm}{mode}  {export:<14}  {usage}"
        )?;
    }
    Ok(())
}

/// Whether one of these products names a key and can use it.
fn is_named(keys: &Keys, name: &KeyName, needs: &Needs) -> bool {
    let mut methods = needs.methods.iter();
    let mut chips = needs.chips.iter();
    methods.any(|method| {
        pvk_of(method).is_some_and(|(pvk, _)| pvk == name) && check_pvk(keys, method).is_ok()
    }) || chips.any(|chip| {
        chip_keys_of(chip).iter().any(|(key, _)| *key == name)
            && check_chip_keys(keys, chip).is_ok()
    })
}
