//! The command line: its words, and what each of them does.

mod check_config;

use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use zeroize::Zeroizing;

use switch::clock::SystemClock;
use switch::config::{Config, ConfigError};
use switch::control::{self, Command, Outcome};
use switch::hsm::KeyName;
use switch::hsm::key_block::{KeyUsage, from_hex};
use switch::hsm::keys::KeysError;
use switch::issuer::{AddCard, PinText};
use switch::run::{self, RunError};

/// A real-time authorization switch for card issuers.
///
/// Without a command it runs; without --config it runs the demo, on loopback only.
#[derive(Parser)]
#[command(name = "pinswitch", version)]
pub(crate) struct Cli {
    /// Configuration file; the built-in demo if left out.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory, in place of the configured one.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) action: Option<Action>,
}

/// What can be done besides running.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Show and change cards, on a running switch or on its data directory.
    #[command(subcommand)]
    Card(CardAction),
    /// Bring keys in and list them.
    #[command(subcommand)]
    Key(KeyAction),
    /// Check a configuration: print all its mistakes, or what it says. Nothing is changed.
    CheckConfig {
        /// The file; without it that of --config, or the built-in demo.
        file: Option<PathBuf>,
    },
}

/// On cards.
#[derive(Subcommand)]
pub(crate) enum CardAction {
    /// Print a card as JSON.
    Show {
        /// Its token.
        token: String,
    },
    /// Make a card ACTIVE; its counter of wrong PINs starts at zero.
    Activate {
        /// Its token.
        token: String,
    },
    /// Set its PIN, read from standard input: 4 to 12 digits.
    SetPin {
        /// Its token.
        token: String,
    },
    /// Add a card, read as JSON from standard input: token, pan, expiration (YYMM),
    /// pan_sequence_number, card_product_token, pin.
    Add,
}

/// On keys.
#[derive(Subcommand)]
pub(crate) enum KeyAction {
    /// Put a key together from two or three components, one per line on standard input in
    /// hexadecimal; print its key block and check value.
    Import {
        /// Its name: letters, digits and hyphens.
        name: String,
        /// What it is for.
        #[arg(long, value_enum)]
        usage: UsageArgument,
        /// Check value it must have, six hexadecimal digits.
        #[arg(long)]
        kcv: Option<String>,
    },
    /// List names, usages and check values.
    List,
}

/// Usages that can be brought in.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum UsageArgument {
    /// PIN encryption: a zone PIN key (ZPK), triple DES of 16 or 24 bytes.
    #[value(name = "P0")]
    PinEncryption,
}

/// Why a command ended without success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Cli {
    /// The configuration these words name.
    pub(crate) fn config(&self) -> Result<Config, CliError> {
        let path = match (&self.action, &self.config) {
            (Some(Action::CheckConfig { file: Some(_) }), Some(_)) => {
                return Err(CliError::Refused("name one file: FILE or --config".to_owned()));
            }
            (Some(Action::CheckConfig { file: Some(file) }), None) => Some(file),
            (_, config) => config.as_ref(),
        };
        let Some(path) = path else { return Ok(Config::demo(self.data_dir.clone())?) };
        let mut config = Config::read(path)?;
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        Ok(config)
    }
}

/// Carries out a command other than running.
pub(crate) fn act(action: &Action, config: &Config) -> Result<(), CliError> {
    match action {
        Action::Card(action) => card(action, config),
        Action::CheckConfig { .. } => Ok(check_config::print_summary(config)?),
        Action::Key(KeyAction::List) => list_keys(config),
        Action::Key(KeyAction::Import { name, usage: UsageArgument::PinEncryption, kcv }) => {
            import_key(config, name, KeyUsage::PinEncryption, kcv.as_deref())
        }
    }
}

fn card(action: &CardAction, config: &Config) -> Result<(), CliError> {
    let command = match action {
        CardAction::Show { token } => Command::Show { token: token.clone() },
        CardAction::Activate { token } => Command::Activate { token: token.clone() },
        CardAction::SetPin { token } => {
            let pin = PinText::new(Zeroizing::new(read_line()?.trim().to_owned()));
            Command::SetPin { token: token.clone(), pin }
        }
        CardAction::Add => Command::Add(read_card()?),
    };
    let outcome = match control::ask(&control::socket(&config.data_dir), &command)? {
        Some(outcome) => outcome,
        None => without_a_running_switch(config, command)?,
    };
    match outcome {
        Outcome::Done(card) => {
            let text = serde_json::to_string_pretty(&card).map_err(io::Error::from)?;
            Ok(writeln!(io::stdout(), "{text}")?)
        }
        Outcome::Refused(refusal) => Err(CliError::Refused(refusal)),
    }
}

fn without_a_running_switch(config: &Config, command: Command) -> Result<Outcome, CliError> {
    if !config.data_dir.join("journal").exists() {
        let data_dir = config.data_dir.display();
        let text = format!("{data_dir}: no switch runs on it, and it holds no store");
        return Err(CliError::Refused(text));
    }
    let (switch, _) = run::open(config, SystemClock)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let outcome = runtime.block_on(control::execute(&switch, command));
    switch.store.close().map_err(RunError::from)?;
    Ok(outcome)
}

fn read_line() -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    io::stdin().lock().take(STDIN_BYTES_MAX).read_line(&mut line)?;
    Ok(line)
}

/// Longest input, in bytes.
const STDIN_BYTES_MAX: u64 = 16 << 10;

fn read_card() -> Result<AddCard, CliError> {
    let mut text = Zeroizing::new(String::new());
    io::stdin().lock().take(STDIN_BYTES_MAX).read_to_string(&mut text)?;
    // The parser's own text could quote a PAN or a PIN.
    serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let text = "expected a JSON object with the texts token, pan, expiration, \
                    pan_sequence_number, card_product_token and pin";
        CliError::Refused(format!("standard input, line {line} column {column}: {text}"))
    })
}

fn import_key(
    config: &Config,
    name: &str,
    usage: KeyUsage,
    kcv: Option<&str>,
) -> Result<(), CliError> {
    let refused = |text: &str| CliError::Refused(text.to_owned());
    let name = KeyName::parse(name).filter(|name| !name.as_str().starts_with("own-")).ok_or_else(
        || refused("a key name is 1 to 64 letters, digits and hyphens, and not own-*"),
    )?;
    let mut components = Vec::new();
    for line in io::stdin().lock().take(STDIN_BYTES_MAX).lines() {
        let line = Zeroizing::new(line?);
        if !line.trim().is_empty() {
            let component = from_hex(line.trim());
            components.push(component.ok_or_else(|| refused("a component is not hexadecimal"))?);
        }
    }
    if config.is_demo {
        let text = "the master key is the demo's, which is public: a key under it is no secret; \
                    name a configuration with a master_key_file of your own (--config)";
        return Err(refused(text));
    }
    let (block, kcv) = run::open_keys(config)?.import(&name, usage, &components, kcv)?;
    tracing::info!(target: "audit", action = "key import", %name, %kcv);
    Ok(writeln!(io::stdout(), "{block}\nKCV {kcv}")?)
}

fn list_keys(config: &Config) -> Result<(), CliError> {
    if !config.data_dir.join("keys").exists() {
        let text = format!("{}: there are no keys", config.data_dir.display());
        return Err(CliError::Refused(text));
    }
    let mut out = io::stdout().lock();
    for (name, key) in run::open_keys(config)?.iter() {
        let kcv = key.kcv().map_err(|fault| KeysError::Key { name: name.to_owned(), fault })?;
        writeln!(out, "{name:<24}  KCV {kcv}  {}", key.usage())?;
    }
    Ok(())
}
