//! `pinswitch key ...`: keys in, keys out, and their versions. A running switch takes every
//! change into use at once.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use switch::config::Config;
use switch::control::{Command, Outcome};
use switch::hsm::components::{Combined, Component};
use switch::hsm::key::{Algorithm, Key, KeyAttributes, KeyUsage, ModeOfUse, Operation, from_hex};
use switch::hsm::key_block::ProtectionKey;
use switch::hsm::keys::{Addition, Keys, KeysError, Retire};
use switch::hsm::{KeyFault, KeyName};
use switch::run;

use super::{CliError, STDIN_BYTES_MAX, ask, refused};

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
    _lock: File,
}

impl<'a> Directory<'a> {
    fn open(config: &'a Config) -> Result<Directory<'a>, CliError> {
        if config.is_demo {
            let text = "the master key is the demo's, which is public: a key under it is no \
                        secret; name a configuration with a master_key_file of your own (--config)";
            return Err(refused(text));
        }
        run::open_keys(config)?;
        let lock = File::open(config.data_dir.join("keys"))?;
        lock.lock()?;
        // What stood there before the lock was ours may be old.
        Ok(Directory { config, keys: run::open_keys(config)?, _lock: lock })
    }

    fn generate(&mut self, name: &str, kind: &KindArguments) -> Result<(), CliError> {
        let name = key_name(name)?;
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
        tracing::info!(target: "audit", action, %name, %kcv);
        writeln!(io::stdout(), "{block}\nKCV {kcv}")?;
        self.take_into_use()
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
        })?;
        let (number, custodian) = (part.number, part.custodian);
        tracing::info!(target: "audit", action = "key component", %name, number, custodian);
        let mut out = io::stdout();
        match combined {
            Combined::Waiting { component, missing } => {
                writeln!(out, "component {number} KCV {component}; {missing} to come")?;
                Ok(())
            }
            Combined::Complete { component, block, kcv } => {
                tracing::info!(target: "audit", action = "key import", %name, %kcv);
                writeln!(out, "component {number} KCV {component}; the key is complete")?;
                writeln!(out, "{block}\nKCV {kcv}")?;
                self.take_into_use()
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
        let protection = ProtectionKey::of(self.keys.newest(under)?, Operation::Decrypt);
        let protection = protection.map_err(|fault| key_error(under, fault))?;
        let key = protection.unwrap(read_line()?.trim()).map_err(of_key(&name))?;
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
        self.add(&name, key, kind.addition(), "key import")
    }

    fn discard(&self, name: &str) -> Result<(), CliError> {
        let name = key_name(name)?;
        self.keys.discard_components(&name)?;
        tracing::info!(target: "audit", action = "key discard", %name);
        Ok(())
    }

    fn export(&self, name: &str, under: &str) -> Result<(), CliError> {
        let key = self.keys.newest(name)?;
        let fault = |fault| key_error(name, fault);
        if !key.attributes().exportable {
            return Err(fault(KeyFault::NotExportable));
        }
        let protection = ProtectionKey::of(self.keys.newest(under)?, Operation::Encrypt);
        let protection = protection.map_err(|fault| key_error(under, fault))?;
        let (block, kcv) = (protection.wrap(key).map_err(fault)?, key.kcv());
        tracing::info!(target: "audit", action = "key export", name, under, %kcv);
        Ok(writeln!(io::stdout(), "{block}\nKCV {kcv}")?)
    }

    /// A key that made PIN references stays as long as a card has one.
    fn retire(&mut self, name: &str, which: Retire) -> Result<(), CliError> {
        let key = self.keys.retiring(name, which)?;
        if matches!(key.attributes().usage, KeyUsage::Ibm3624 | KeyUsage::VisaPvv) {
            let command = Command::CheckUnused { kcv: key.kcv().to_string() };
            if let Some(Outcome::Refused(refusal)) = ask(self.config, command)? {
                return Err(CliError::Refused(refusal));
            }
        }
        let kcv = self.keys.retire(name, which)?;
        tracing::info!(target: "audit", action = "key retire", name, %kcv);
        writeln!(io::stdout(), "retired KCV {kcv}")?;
        self.take_into_use()
    }

    fn take_into_use(&self) -> Result<(), CliError> {
        let socket = switch::control::socket(&self.config.data_dir);
        match switch::control::ask(&socket, &Command::ReloadKeys)? {
            Some(Outcome::Refused(refusal)) => Err(CliError::Refused(format!(
                "the key directory has changed, but the running switch goes on with the keys it \
                 has: {refusal}"
            ))),
            Some(_) => Ok(writeln!(io::stdout(), "the running switch has it in use")?),
            None => Ok(()),
        }
    }
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

fn read_line() -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    io::stdin().lock().take(STDIN_BYTES_MAX).read_line(&mut line)?;
    Ok(line)
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
