//! The command line: its words, and what each of them does.

mod bulk;
mod check_config;
mod decode;
mod keys;
mod store;

use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use rustix::process::getuid;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use iso_specs::Spec;
use switch::api;
use switch::clock::SystemClock;
use switch::config::{Config, ConfigError};
use switch::control::{
    self, CardForm, Command, ControlRequest, Conversation, Refusal, Reply, SoftwareCommand,
    TransitionForm,
};
use switch::event::Actor;
use switch::hsm::software::keys::KeysError;
use switch::issuing::secret::{PinText, SECRET_IS_TEXT, is_secret_refused};
use switch::run::{self, Parts, PinSwitch, RunError};

use keys::KeyAction;

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
    /// Start on a backup, or on other data that are older than what the switch has answered.
    #[arg(long, global = true)]
    accept_older_data: bool,
    #[command(subcommand)]
    pub(crate) action: Option<Action>,
}

/// What can be done besides running.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Show and change cards, on a running switch or on its data directory.
    #[command(subcommand)]
    Card(CardAction),
    /// Show products, add one, change its rules while cards use them.
    #[command(subcommand)]
    Product(ProductAction),
    /// Say who may call the API, and for what.
    #[command(subcommand, name = "apikey")]
    ApiKey(ApiKeyAction),
    /// Show every intermediate value of a cryptogram, under public test keys only.
    ExplainCryptogram {
        /// The card's token.
        token: String,
        /// DE55 in hexadecimal digits.
        chip_data: String,
    },
    /// Show transactions, of a running switch or of its data directory.
    #[command(subcommand)]
    Transaction(TransactionAction),
    /// Add made-up cards of the product demo-debit, to test with.
    Seed {
        /// How many, counted from the first.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
        cards: u32,
        /// Remove them again.
        #[arg(long)]
        remove: bool,
    },
    /// Make keys, bring them in, take them out, rotate and list them.
    #[command(subcommand)]
    Key(KeyAction),
    /// Check a configuration: print all its mistakes, or what it says. Nothing is changed.
    CheckConfig {
        /// The file; without it that of --config, or the built-in demo.
        file: Option<PathBuf>,
    },
    /// List ISO 8583 messages, masked: as they are, or from hexadecimal digits, base64, pcap or
    /// pcapng.
    Decode(decode::DecodeWords),
    /// List the dialects that ship, or print one.
    #[command(subcommand)]
    Dialect(DialectAction),
    /// Read a whole data directory on which no switch runs, and say what is there and what is
    /// damaged. Nothing is changed, and no keys are needed.
    CheckStore {
        /// The data directory; without it the configured one.
        directory: Option<PathBuf>,
    },
    /// Copy all that a start needs, of a running switch or of its data directory.
    Backup {
        /// A directory that is not there yet.
        directory: PathBuf,
    },
    /// Print what happened to cards, the oldest first, one JSON object a line; or say that a reader
    /// has it.
    Events(store::EventWords),
    /// Print the description of the HTTP API, which a running switch gives at /openapi.json.
    Openapi,
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
    /// Move a card to another state.
    Transition {
        /// Its token.
        token: String,
        /// ACTIVE, LIMITED, SUSPENDED or TERMINATED, which is final.
        state: String,
        /// By which way it was asked for: API, IVR, FRAUD, ADMIN or SYSTEM.
        #[arg(long, default_value = "ADMIN")]
        channel: String,
        /// Why: 00 to 32, or 86. Without it 00 for a first activation, and else 01.
        #[arg(long, value_name = "NN")]
        reason_code: Option<String>,
        /// The same in words, at most 255 bytes of UTF-8. The audit shows them without digits.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Set its PIN, read from standard input: 4 to 12 digits.
    SetPin {
        /// Its token.
        token: String,
    },
    /// Queue a script that sets the PIN try counter of its chips back.
    Unblock {
        /// Its token.
        token: String,
    },
    /// Set its counter of wrong PINs to zero, and lift a suspension that the counter has made. Its
    /// chips are left alone.
    ResetPinTries {
        /// Its token.
        token: String,
    },
    /// Add a card, read as JSON from standard input: token, pan, expiration (YYMM),
    /// pan_sequence_number, card_product_token, pin.
    Add,
    /// Add the cards of a file: CSV with a head line (.csv), or one JSON object a line (.jsonl).
    /// Names as for `add`, and perhaps state (ACTIVE), and pvv and pvki, or pin_offset, in place
    /// of pin.
    Import {
        /// The file.
        file: PathBuf,
    },
    /// Remove cards for good.
    Remove {
        /// Their tokens.
        #[arg(required = true)]
        tokens: Vec<String>,
    },
}

/// On products.
#[derive(Subcommand)]
pub(crate) enum ProductAction {
    /// Print all products as JSON.
    List,
    /// Print a product as JSON.
    Show {
        /// Its name.
        token: String,
    },
    /// Add a product or change one, its settings read as JSON from standard input: the names of a
    /// [[products]] table but for its name.
    Set {
        /// Its name.
        token: String,
        /// The version that was read; otherwise it is changed whatever it is now.
        #[arg(long)]
        version: Option<u64>,
    },
}

/// On API keys.
#[derive(Subcommand)]
pub(crate) enum ApiKeyAction {
    /// Make a key and print it as JSON, with its secret: that is shown once.
    Add {
        /// Its id: the user name of HTTP Basic authentication.
        token: String,
        /// What it may do: cards:read, cards:write, pin:set, pin:view, pan:read, products,
        /// fulfilment, webhooks, simulate, admin.
        #[arg(long = "scope", required = true, value_name = "SCOPE", value_delimiter = ',')]
        scopes: Vec<String>,
    },
    /// Print all keys as JSON, without their secrets.
    List,
    /// Take a key away from its owner at once.
    Revoke {
        /// Its id.
        token: String,
    },
}

/// On dialects.
#[derive(Subcommand)]
pub(crate) enum DialectAction {
    /// Print the names of the dialects that ship.
    List,
    /// Print the file of a dialect that ships, to change a copy of it; without a name, the names.
    Show {
        /// Its name.
        name: Option<String>,
    },
}

/// On transactions.
#[derive(Subcommand)]
pub(crate) enum TransactionAction {
    /// Print the last transactions of a card as JSON, masked, each with the reasons of its outcome.
    Show {
        /// The card's token.
        token: String,
        /// How many, the newest first.
        #[arg(long, default_value_t = 10)]
        count: usize,
    },
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

impl From<Refusal> for CliError {
    fn from(refusal: Refusal) -> CliError {
        CliError::Refused(refusal.text)
    }
}

fn refused(text: &str) -> CliError {
    CliError::Refused(text.to_owned())
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
        let mut config = match path {
            None => Config::demo(self.data_dir.clone())?,
            Some(path) => Config::read(path)?,
        };
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        config.store.accept_older_data = self.accept_older_data;
        Ok(config)
    }
}

/// Carries out a command other than running.
pub(crate) fn act(action: &Action, config: &Config) -> Result<(), CliError> {
    match action {
        Action::Card(action) => card(action, config),
        Action::Transaction(action) => transaction(action, config),
        Action::ExplainCryptogram { token, chip_data } => {
            let (token, de55) = (token.clone(), chip_data.clone());
            ask_and_print(config, SoftwareCommand::ExplainCryptogram { token, de55 })
        }
        Action::Product(action) => product(action, config),
        Action::ApiKey(action) => api_key(action, config),
        Action::Decode(words) => decode::decode(words),
        Action::Dialect(action) => dialect(action),
        Action::Seed { cards, remove: false } => bulk::seed(config, *cards),
        Action::Seed { cards, remove: true } => bulk::remove_seeds(config, *cards),
        Action::CheckConfig { .. } => check_config::print_summary(config),
        Action::Key(action) => keys::act(action, config),
        Action::CheckStore { directory } => store::check(config, directory.as_deref()),
        Action::Backup { directory } => store::backup(config, directory),
        Action::Events(words) => store::events(config, words),
        Action::Openapi => {
            let text = api::description::<Parts>() + "\n";
            Ok(io::stdout().lock().write_all(text.as_bytes())?)
        }
    }
}

fn card(action: &CardAction, config: &Config) -> Result<(), CliError> {
    let command = match action {
        CardAction::Show { token } => Command::Show { token: token.clone() },
        CardAction::Activate { token } => Command::Activate { token: token.clone() },
        CardAction::Transition { token, state, channel, reason_code, reason } => {
            Command::Transition(TransitionForm {
                token: token.clone(),
                state: state.clone(),
                channel: channel.clone(),
                reason_code: reason_code.clone(),
                reason: reason.clone(),
            })
        }
        CardAction::SetPin { token } => {
            let pin = PinText::new(Zeroizing::new(read_line()?.trim().to_owned()));
            Command::SetPin { token: token.clone(), pin }
        }
        CardAction::Unblock { token } => Command::Unblock { token: token.clone() },
        CardAction::ResetPinTries { token } => Command::ResetPinTries { token: token.clone() },
        CardAction::Add => Command::Add(Box::new(read_card()?)),
        CardAction::Import { file } => return bulk::import(config, file),
        CardAction::Remove { tokens } => return bulk::remove(config, tokens),
    };
    ask_and_print(config, command)
}

fn product(action: &ProductAction, config: &Config) -> Result<(), CliError> {
    let command = match action {
        ProductAction::List => Command::Products,
        ProductAction::Show { token } => Command::Product { token: token.clone() },
        ProductAction::Set { token, version } => {
            let settings = io::stdin().lock().take(STDIN_BYTES_MAX as u64);
            let settings = serde_json::from_reader(settings).map_err(|error| {
                CliError::Refused(format!("standard input: expected a JSON object: {error}"))
            })?;
            Command::PutProduct { token: token.clone(), settings, version: *version }
        }
    };
    ask_and_print(config, command)
}

fn api_key(action: &ApiKeyAction, config: &Config) -> Result<(), CliError> {
    let command = match action {
        ApiKeyAction::Add { token, scopes } => {
            Command::AddApiKey { token: token.clone(), scopes: scopes.clone() }
        }
        ApiKeyAction::List => Command::ApiKeys,
        ApiKeyAction::Revoke { token } => Command::RevokeApiKey { token: token.clone() },
    };
    ask_and_print(config, command)
}

fn dialect(action: &DialectAction) -> Result<(), CliError> {
    let names = || Spec::builtin_names().map(|name| format!("{name}\n")).collect::<String>();
    let text = match action {
        DialectAction::List | DialectAction::Show { name: None } => names(),
        DialectAction::Show { name: Some(name) } => match Spec::builtin(name) {
            Some(text) => text.to_owned(),
            None => {
                let names = names().trim_end().replace('\n', ", ");
                return Err(CliError::Refused(format!("no such dialect; there are {names}")));
            }
        },
    };
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

fn transaction(action: &TransactionAction, config: &Config) -> Result<(), CliError> {
    let TransactionAction::Show { token, count } = action;
    ask_and_print(config, Command::Transactions { token: token.clone(), count: *count })
}

/// Asks the running switch, or the store where none runs, and prints what comes back, as JSON.
fn ask_and_print(config: &Config, asked: impl Into<ControlRequest>) -> Result<(), CliError> {
    let text = match ask(config, asked)? {
        Some(Reply::Card(card)) => serde_json::to_string_pretty(&card),
        Some(Reply::Transactions(page)) => {
            if let Some(next) = page.next {
                writeln!(io::stderr(), "pinswitch: there may be more before {next}")?;
            }
            serde_json::to_string_pretty(&page.transactions)
        }
        Some(Reply::Product(product)) => serde_json::to_string_pretty(&product),
        Some(Reply::Products(all)) => serde_json::to_string_pretty(&all),
        Some(Reply::ApiKey(key)) => serde_json::to_string_pretty(&key),
        Some(Reply::ApiKeys(all)) => serde_json::to_string_pretty(&all),
        Some(Reply::Values(values)) => {
            let mut out = io::stdout().lock();
            for (name, value) in values {
                writeln!(out, "{name}: {value}")?;
            }
            return Ok(());
        }
        Some(Reply::Events(page)) => {
            let is_empty = page.events.is_empty();
            let mut out = io::stdout().lock();
            for event in page.events {
                writeln!(out, "{}", serde_json::to_string(&event).map_err(io::Error::from)?)?;
            }
            if let Some(next) = page.next.filter(|_| is_empty) {
                let text = "none in as much of the journal as one page reads: go on with --after";
                writeln!(io::stderr(), "{text} {next}")?;
            }
            return Ok(());
        }
        Some(Reply::Done | Reply::Each { .. }) => return Ok(()),
        Some(Reply::Refused(refusal)) => return Err(refusal.into()),
        None => return Err(no_store(config)),
    };
    Ok(writeln!(io::stdout(), "{}", text.map_err(io::Error::from)?)?)
}

fn no_store(config: &Config) -> CliError {
    let data_dir = config.data_dir.display();
    CliError::Refused(format!("{data_dir}: no switch runs on it, and it holds no store"))
}

/// Who carries commands out: the running switch, or this process on the store where none runs.
pub(crate) enum Target {
    Running(Conversation),
    Store(Box<PinSwitch>, Runtime),
}

impl Target {
    /// `None` where no switch runs and there is no store, unless one may be made.
    pub(crate) fn open(config: &Config, create: bool) -> Result<Option<Target>, CliError> {
        if let Some(running) = Conversation::begin(&config.data_dir)? {
            return Ok(Some(Target::Running(running)));
        }
        if !create && !config.data_dir.join("journal").exists() {
            return Ok(None);
        }
        let (switch, _) = run::open(config, SystemClock)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(Some(Target::Store(Box::new(switch), runtime)))
    }

    pub(crate) fn ask(&mut self, asked: impl Into<ControlRequest>) -> Result<Reply, CliError> {
        let asked = asked.into();
        match self {
            Target::Running(running) => Ok(running.ask(&asked)?),
            Target::Store(switch, runtime) => {
                let actor = Actor::user(getuid().as_raw());
                Ok(runtime.block_on(control::answer(switch, &actor, asked)))
            }
        }
    }

    pub(crate) fn close(self) -> Result<(), CliError> {
        match self {
            Target::Running(_) => Ok(()),
            Target::Store(switch, _) => Ok(switch.store.close().map_err(RunError::from)?),
        }
    }
}

fn ask(config: &Config, asked: impl Into<ControlRequest>) -> Result<Option<Reply>, CliError> {
    let Some(mut target) = Target::open(config, false)? else { return Ok(None) };
    let reply = target.ask(asked)?;
    target.close()?;
    Ok(Some(reply))
}

/// A secret: what is typed at a terminal is not shown.
fn read_line() -> io::Result<Zeroizing<String>> {
    let stdin = io::stdin().lock();
    let shown = tcgetattr(&stdin).ok();
    if let Some(mut hidden) = shown.clone() {
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &hidden)?;
    }
    // Room for all of it: a buffer that grows leaves copies behind.
    let mut line = Zeroizing::new(String::with_capacity(STDIN_BYTES_MAX));
    let mut limited = stdin.take(STDIN_BYTES_MAX as u64);
    let read = limited.read_line(&mut line);
    if let Some(shown) = shown {
        tcsetattr(limited.into_inner(), OptionalActions::Now, &shown)?;
    }
    read.map(|_| line)
}

/// Longest input, in bytes.
const STDIN_BYTES_MAX: usize = 16 << 10;

fn read_card() -> Result<CardForm, CliError> {
    // Room for all of it: a text that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(STDIN_BYTES_MAX));
    io::stdin().lock().take(STDIN_BYTES_MAX as u64).read_to_string(&mut text)?;
    // The parser's own text could quote a PAN or a PIN.
    serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let text = match is_secret_refused(&error) {
            true => SECRET_IS_TEXT,
            false => {
                "expected a JSON object with the texts token, pan, expiration, \
                 pan_sequence_number, card_product_token and pin"
            }
        };
        CliError::Refused(format!("standard input, line {line} column {column}: {text}"))
    })
}
