//! The command line on a running switch: `control.sock` in the data directory, mode 0600. One
//! JSON object a line goes in, one comes out.

mod told;

pub use told::{ActorView, CardEventView, EventView, StateView};

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BufMut;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::cards::chip::ChipSync;
use crate::cards::{Card, PanVault};
use crate::hsm::keys::{KeyChanges, KeyVersion};
use crate::hsm::{Hsm, Kcv, Verification};
use crate::issuer::{self, AddCard, PinText, Refusal};
use crate::listener::Door;
use crate::place::{self, at};
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::store::page::TransactionFilter;
use crate::store::record::{RecordId, TransactionRecord};
use crate::switch::{Seams, Switch};

/// Longest request or answer, in bytes.
pub const LINE_BYTES_MAX: usize = 4 << 20;

/// What the command line may ask.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The card.
    Show {
        /// Its token.
        token: String,
    },
    /// Makes a card active.
    Activate {
        /// Its token.
        token: String,
    },
    /// Sets its PIN.
    SetPin {
        /// Its token.
        token: String,
        /// The new PIN.
        pin: PinText,
    },
    /// Queues an unblock of its chips.
    Unblock {
        /// Its token.
        token: String,
    },
    /// Its last transactions, the newest first.
    Transactions {
        /// Its token.
        token: String,
        /// How many at most.
        count: usize,
    },
    /// Every intermediate value of a cryptogram, under public test keys only.
    ExplainCryptogram {
        /// The card's token.
        token: String,
        /// DE55 in hexadecimal.
        chip_data: String,
    },
    /// A new card.
    Add(Box<AddCard>),
    /// New cards, each or not.
    AddMany(Vec<AddCard>),
    /// Removes cards, each or not.
    Remove {
        /// Their tokens.
        tokens: Vec<String>,
    },
    /// Takes the keys of the key directory into use.
    ReloadKeys,
    /// Whether no card's PIN reference was made with the key of this check value.
    CheckUnused {
        /// Check value, six hexadecimal digits.
        kcv: String,
    },
    /// What happened, the oldest first.
    Events {
        /// After this event; from the oldest that is kept on without it.
        after: Option<String>,
        /// How many at most.
        count: usize,
    },
    /// A reader has everything up to an event; without one it is forgotten.
    Acknowledge {
        /// Its name.
        reader: String,
        /// The event.
        through: Option<String>,
    },
    /// Copies all that a start needs.
    Backup {
        /// Into this new directory.
        to: PathBuf,
    },
}

/// What comes back: done, or why not.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done: the card as it is now.
    Card(CardView),
    /// Done, and nothing to show.
    Done,
    /// Names and values, in order.
    Values(Vec<(String, String)>),
    /// Transactions of a card, the newest first.
    Transactions(Vec<TransactionView>),
    /// What happened, the oldest first.
    Events {
        /// Each of it.
        events: Vec<EventView>,
        /// From where on there is more.
        next: Option<String>,
    },
    /// Done for all but these: their places among those asked for, from 0, and why not.
    Each {
        /// Those that were refused.
        refused: Vec<(usize, String)>,
    },
    /// Nothing was changed, and why.
    Refused(String),
}

/// A card with the names of GET /cards/{token}, as far as a card has these things yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CardView {
    /// The issuer's name for it.
    pub token: String,
    /// Its product.
    pub card_product_token: String,
    /// UNACTIVATED, ACTIVE, LIMITED, SUSPENDED or TERMINATED.
    pub state: String,
    /// Why it is in that state: two digits.
    pub reason_code: String,
    /// Whether a PIN is set.
    pub pin_is_set: bool,
    /// Consecutive wrong PINs.
    pub pin_try_counter: u32,
    /// First six digits, six underscores, last four.
    pub pan: String,
    /// Last four digits.
    pub last_four: String,
    /// YYMM of the newest plastic.
    pub expiration: String,
    /// PAN sequence number of the newest plastic.
    pub pan_sequence_number: String,
    /// What the host believes that the chip of the newest plastic holds: in_sync, pending, sent,
    /// failed or expired, with the change.
    pub chip_sync: String,
}

/// A transaction record, masked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TransactionView {
    /// By which audit lines name it: twice eight hexadecimal digits, later ones higher.
    pub id: String,
    /// When it was decided, RFC 3339 in UTC.
    pub time: String,
    /// The network it came from.
    pub network: String,
    /// Its message type.
    pub mti: String,
    /// First six digits, six underscores, last four.
    pub pan: String,
    /// DE3.
    pub processing_code: String,
    /// DE4, in minor units.
    pub amount: u64,
    /// DE49: ISO 4217 numeric code.
    pub currency: u16,
    /// DE11.
    pub stan: String,
    /// DE37.
    pub rrn: Option<String>,
    /// The four-digit code of what was answered.
    pub reason_code: String,
    /// The same in words.
    pub memo: String,
    /// DE38.
    pub approval_code: Option<String>,
    /// What the HSM said of the PIN, and of the cryptogram.
    pub pin: Option<String>,
    /// The same of the cryptogram.
    pub cryptogram: Option<String>,
    /// Why, step by step.
    pub trail: Vec<String>,
}

impl TransactionView {
    fn of((id, record): &(RecordId, TransactionRecord)) -> TransactionView {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let name = |outcome: Verification| outcome.name().to_owned();
        TransactionView {
            id: id.to_string(),
            time: record.time.to_string(),
            network: record.network.to_string(),
            mti: record.mti.to_string(),
            pan: record.masked_pan.to_string(),
            processing_code: text(&record.processing_code),
            amount: record.amount.minor_units,
            currency: record.amount.currency,
            stan: text(&record.stan),
            rrn: record.rrn.map(|rrn| text(&rrn)),
            reason_code: record.answer.reason.code().to_owned(),
            memo: record.answer.reason.memo().to_owned(),
            approval_code: record.answer.approval_code.map(|code| text(&code)),
            pin: record.verification.map(name),
            cryptogram: record.cryptogram.map(name),
            trail: record.trail.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Transactions that are shown at once.
const TRANSACTIONS_MAX: usize = 1_000;

async fn transactions<W: Seams>(
    switch: &Switch<W>,
    token: &str,
    count: usize,
) -> Result<Outcome, Refusal> {
    let card = issuer::load(switch, token).await?;
    let filter = TransactionFilter::of_card(card.entry.identity.key);
    let page = switch.store.transactions(filter, None, count.min(TRANSACTIONS_MAX)).await;
    let page = page.map_err(|failed| failed.to_string())?;
    Ok(Outcome::Transactions(page.items.iter().map(TransactionView::of).collect()))
}

impl CardView {
    fn of(vault: &PanVault, Card { entry, state }: &Card) -> CardView {
        let plastic = state.plastics.last();
        let identity = &entry.identity;
        let pan = vault.open(&identity.key, &identity.sealed_pan).map(|pan| pan.masked());
        CardView {
            token: entry.identity.token.to_string(),
            card_product_token: entry.product.name.to_string(),
            state: state.status.name().to_owned(),
            reason_code: state.status_reason.to_string(),
            pin_is_set: state.pin.reference.is_some(),
            pin_try_counter: state.pin.tries,
            pan: pan.map(|pan| pan.to_string()).unwrap_or_default(),
            last_four: pan.map(|pan| pan.last_four().to_owned()).unwrap_or_default(),
            expiration: plastic.map(|plastic| plastic.expiry.to_string()).unwrap_or_default(),
            pan_sequence_number: plastic
                .map(|plastic| format!("{:02}", plastic.sequence))
                .unwrap_or_default(),
            chip_sync: plastic
                .and_then(|plastic| plastic.chip.as_ref())
                .map_or_else(|| ChipSync::InSync.to_string(), |chip| chip.sync.to_string()),
        }
    }
}

/// Carries a command out.
pub async fn execute<W: Seams>(switch: &Switch<W>, command: Command) -> Outcome {
    let (action, token, done) = match command {
        Command::Show { token } => {
            ("show", token.clone(), issuer::load(switch, &token).await.map(Some))
        }
        Command::Activate { token } => {
            ("activate", token.clone(), issuer::activate(switch, &token).await.map(Some))
        }
        Command::SetPin { token, pin } => {
            ("set-pin", token.clone(), issuer::set_pin(switch, &token, &pin).await.map(Some))
        }
        Command::Unblock { token } => {
            ("unblock", token.clone(), issuer::unblock(switch, &token).await.map(Some))
        }
        Command::Add(card) => ("add", card.token.clone(), add(switch, &card).await),
        Command::AddMany(cards) => {
            return each("add", cards.len(), issuer::add(switch, &cards).await);
        }
        Command::Remove { tokens } => {
            let removed = issuer::remove(switch, &tokens).await;
            audit_removals(&tokens, &removed);
            return each("remove", tokens.len(), removed);
        }
        Command::Transactions { token, count } => {
            return transactions(switch, &token, count).await.unwrap_or_else(Outcome::Refused);
        }
        Command::ExplainCryptogram { token, chip_data } => {
            let values = issuer::explain_cryptogram(switch, &token, &chip_data).await;
            return values.map_or_else(Outcome::Refused, Outcome::Values);
        }
        Command::ReloadKeys => return outcome(reload_keys(switch)),
        Command::Events { after, count } => {
            let events = told::events(switch, after.as_deref(), count).await;
            return events.unwrap_or_else(Outcome::Refused);
        }
        Command::Acknowledge { reader, through } => {
            return outcome(told::acknowledge(switch, &reader, through.as_deref()).await);
        }
        Command::Backup { to } => {
            return told::backup(switch, &to).await.unwrap_or_else(Outcome::Refused);
        }
        Command::CheckUnused { kcv } => return outcome(check_unused(switch, &kcv).await),
    };
    // Each of these leaves a line with no secret in it. What is no card's token may be anything,
    // even a PAN.
    let card = switch.store.load_by_token(&token).await.ok().flatten();
    let token = card.map(|card| card.entry.identity.token.to_string());
    let refused = done.as_ref().err();
    tracing::info!(target: "audit", action, token, done = refused.is_none(), refused);
    match done {
        Ok(Some(card)) => {
            let (card, _) = issuer::as_it_counts(switch, &card);
            Outcome::Card(CardView::of(&switch.vault, &card))
        }
        Ok(None) => Outcome::Done,
        Err(refusal) => Outcome::Refused(refusal),
    }
}

/// The card that was added, unless it has been removed again meanwhile.
async fn add<W: Seams>(switch: &Switch<W>, card: &AddCard) -> Result<Option<Card>, Refusal> {
    let added = issuer::add(switch, std::slice::from_ref(card)).await?;
    added.into_iter().collect::<Result<(), Refusal>>()?;
    switch.store.load_by_token(&card.token).await.map_err(|failed| failed.to_string())
}

/// A line for each card: with it went its PIN, its counter and perhaps a suspension.
fn audit_removals(tokens: &[String], removed: &Result<Vec<Result<(), Refusal>>, Refusal>) {
    let removed = removed.iter().flatten();
    for (token, _) in tokens.iter().zip(removed).filter(|(_, removed)| removed.is_ok()) {
        tracing::info!(target: "audit", action = "card removed", token);
    }
}

/// One audit line for all.
fn each(
    action: &str,
    asked: usize,
    outcomes: Result<Vec<Result<(), Refusal>>, Refusal>,
) -> Outcome {
    let refused: Result<Vec<(usize, String)>, Refusal> = outcomes.map(|outcomes| {
        let outcomes = outcomes.into_iter().enumerate();
        outcomes.filter_map(|(place, outcome)| outcome.err().map(|why| (place, why))).collect()
    });
    let count = refused.as_ref().map_or(asked, Vec::len);
    tracing::info!(target: "audit", action, cards = asked - count, refused = count);
    refused.map_or_else(Outcome::Refused, |refused| Outcome::Each { refused })
}

fn outcome(done: Result<(), Refusal>) -> Outcome {
    done.map_or_else(Outcome::Refused, |()| Outcome::Done)
}

fn reload_keys<W: Seams>(switch: &Switch<W>) -> Result<(), Refusal> {
    let reloaded = switch.hsm.reload_keys().map_err(|error| error.to_string());
    let refused = reloaded.as_ref().err();
    tracing::info!(target: "audit", action = "reload keys", done = refused.is_none(), refused);
    let KeyChanges { added, removed } = reloaded?;
    audit_keys("key added", &added);
    audit_keys("key removed", &removed);
    Ok(())
}

/// A line for each key that has come into use, or gone.
pub(crate) fn audit_keys(action: &str, keys: &[KeyVersion]) {
    for KeyVersion { name, version, kcv } in keys {
        tracing::info!(target: "audit", action, name, version, %kcv);
    }
}

async fn check_unused<W: Seams>(switch: &Switch<W>, kcv: &str) -> Result<(), Refusal> {
    let parsed = Kcv::parse(kcv).ok_or("a check value is six hexadecimal digits")?;
    match switch.store.references_made_with(parsed).await.map_err(|error| error.to_string())? {
        0 => Ok(()),
        cards => Err(format!("{cards} cards have a PIN reference under the key {kcv}")),
    }
}

/// The socket of a data directory.
#[must_use]
pub fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// A conversation with a running switch.
pub struct Conversation {
    reader: BufReader<BlockingStream>,
    /// Room for the longest command: a buffer that grows leaves copies of PINs behind.
    line: Zeroizing<Vec<u8>>,
}

impl Conversation {
    /// Begins one with the switch that runs on a data directory; `None` if none does. A PIN may be
    /// what is told first: so the directory, the socket and who listens are looked at before.
    ///
    /// # Errors
    /// If one of them belongs to somebody else, or as of the operating system.
    pub fn begin(data_dir: &Path) -> io::Result<Option<Conversation>> {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        let path = socket(data_dir);
        let connected = place::check_data_directory(data_dir)
            .and_then(|()| place::check_socket(&path))
            .and_then(|()| BlockingStream::connect(&path).map_err(|error| at(&path, &error)));
        match connected {
            Ok(stream) => {
                place::check_peer(&stream).map_err(|error| at(&path, &error))?;
                let line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX));
                Ok(Some(Conversation { reader: BufReader::new(stream), line }))
            }
            Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One command and its outcome.
    ///
    /// # Errors
    /// If the conversation breaks.
    pub fn ask(&mut self, command: &Command) -> io::Result<Outcome> {
        self.line.clear();
        serde_json::to_writer(&mut *self.line, command)?;
        self.line.push(b'\n');
        let closed = |_| io::Error::other(CLOSED);
        self.reader.get_mut().write_all(&self.line).map_err(closed)?;
        let mut answer = String::new();
        let read = io::Read::take(&mut self.reader, LINE_BYTES_MAX as u64).read_line(&mut answer);
        if read.map_err(closed)? == 0 {
            return Err(io::Error::other(CLOSED));
        }
        Ok(serde_json::from_str(&answer)?)
    }
}

/// What it means that the switch ends a conversation: it does not say why.
const CLOSED: &str = "the switch has closed control.sock: it stops, or too many commands run at \
                      once (control_connections_max), or this one was too slow";

/// Asks the switch that runs on a data directory one thing; `None` if none does.
///
/// # Errors
/// If it cannot be trusted, or the conversation breaks.
pub fn ask(data_dir: &Path, command: &Command) -> io::Result<Option<Outcome>> {
    let conversation = Conversation::begin(data_dir)?;
    conversation.map(|mut conversation| conversation.ask(command)).transpose()
}

/// The bound socket.
pub struct ControlListener(UnixListener);

impl ControlListener {
    /// Binds the socket of a data directory that this process holds the lock of: a socket file
    /// that is there was left by a process that has ended.
    ///
    /// # Errors
    /// As of the operating system.
    pub fn bind(data_dir: &Path) -> io::Result<ControlListener> {
        let path = socket(data_dir);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path, &error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(|error| at(&path, &error))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(ControlListener(listener))
    }

    /// Serves commands until the switch stops.
    pub async fn serve<W: Seams>(self, switch: Arc<Switch<W>>, shutdown: Shutdown) {
        let connections_max = switch.limits.doors.control_connections_max;
        let mut door = Door::new(connections_max, &switch.metrics.control);
        loop {
            let accepted = tokio::select! {
                () = shutdown.stop.cancelled() => return,
                accepted = self.0.accept() => accepted,
            };
            let entered = door.enter(accepted, &switch.clock).await;
            let Some(((stream, _), place)) = entered else { continue };
            let switch = Arc::clone(&switch);
            tokio::spawn(async move {
                let _place = place;
                if converse(&switch, stream).await.is_err() {
                    switch.metrics.control.timed_out.increment(1);
                }
            });
        }
    }
}

/// Command after command, until the other side has no more.
///
/// # Errors
/// If the other side was too slow.
async fn converse<W: Seams>(switch: &Switch<W>, mut stream: UnixStream) -> Result<(), Elapsed> {
    let limits = &switch.limits.doors;
    // Room for the longest line at once: a buffer that grows leaves copies of PINs behind. What
    // is not used of it takes no memory.
    let mut input = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX));
    let mut is_first = true;
    loop {
        // The other side may have work of its own between two commands, but not within one.
        if !is_first && input.is_empty() {
            let begun = read_some(&mut stream, &mut input);
            if !timeout(limits.control_idle_seconds_max, begun).await? {
                return Ok(());
            }
        }
        is_first = false;
        let line = read_line(&mut stream, &mut input);
        let Some(end) = timeout(limits.control_request_seconds_max, line).await? else {
            return Ok(());
        };
        let line = input.get(..end).unwrap_or_default();
        let outcome = match serde_json::from_slice::<Command>(line) {
            Ok(command) => execute(switch, command).await,
            Err(error) if issuer::is_secret_refused(&error) => {
                Outcome::Refused(issuer::SECRET_IS_TEXT.to_owned())
            }
            // The text of the error could quote what was sent, and so a PIN.
            Err(_) => Outcome::Refused("the command cannot be read".to_owned()),
        };
        let rest = input.len().saturating_sub(end + 1);
        input.copy_within(end + 1.., 0);
        // The rest is wiped, not only forgotten, and before somebody may let the answer wait.
        input.iter_mut().skip(rest).for_each(|byte| *byte = 0);
        input.truncate(rest);
        let Ok(mut answer) = serde_json::to_vec(&outcome) else { return Ok(()) };
        answer.push(b'\n');
        let written = stream.write_all(&answer);
        // Who has gone does not need the answer.
        if timeout(limits.control_answer_seconds_max, written).await?.is_err() {
            return Ok(());
        }
    }
}

/// Reads until there is a whole line; its length. `None` where no more come, or it is too long.
async fn read_line(stream: &mut UnixStream, input: &mut Vec<u8>) -> Option<usize> {
    let mut searched = 0;
    loop {
        let new = input.get(searched..).unwrap_or_default();
        if let Some(end) = new.iter().position(|byte| *byte == b'\n') {
            return Some(searched + end);
        }
        searched = input.len();
        if !read_some(stream, input).await {
            return None;
        }
    }
}

/// Reads what is there, or waits for the first of it; `false` where no more comes, or where there
/// is no room.
async fn read_some(stream: &mut UnixStream, input: &mut Vec<u8>) -> bool {
    let room = LINE_BYTES_MAX.saturating_sub(input.len());
    // Never more than there is room for, so that the buffer stays where it is.
    let read = stream.read_buf(&mut input.limit(room)).await;
    read.is_ok_and(|bytes| bytes > 0)
}
