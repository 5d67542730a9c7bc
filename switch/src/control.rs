//! A door: the command line on a running switch. `control.sock` in the data directory, mode 0600.
//! One JSON object a line goes in, one comes out.

mod form;

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

use crate::authorization::{Channel, Transition};
use crate::cards::CardStatus;
use crate::config::ProductSettings;
use crate::event::Actor;
use crate::hsm::software::SoftwareHsm;
use crate::issuing::secret::{PinText, SECRET_IS_TEXT, is_secret_refused};
use crate::issuing::{
    ApiKeyView, CardView, Code, EventPage, ProductView, Refused, TransactionPage, api_keys, cards,
    cryptogram, events, history, keys, pins, products, transitions,
};
use crate::listener::Door;
use crate::place::{self, at};
use crate::shutdown::Shutdown;
use crate::switch::{Seams, Switch};
pub use form::{CardForm, NewState, TransitionForm};

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
    /// Moves it to another state.
    Transition(TransitionForm),
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
    /// Sets its counter of wrong PINs to zero.
    ResetPinTries {
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
    /// A new card.
    Add(Box<CardForm>),
    /// New cards, each or not.
    AddMany(Vec<CardForm>),
    /// Removes cards, each or not.
    Remove {
        /// Their tokens.
        tokens: Vec<String>,
    },
    /// All products.
    Products,
    /// A product.
    Product {
        /// Its name.
        token: String,
    },
    /// Adds a product or changes one.
    PutProduct {
        /// Its name.
        token: String,
        /// Its settings, with the names of a `[[products]]` table.
        settings: ProductSettings,
        /// The version that was read; whatever it is now where it is left out.
        version: Option<u64>,
    },
    /// All API keys.
    ApiKeys,
    /// A new API key.
    AddApiKey {
        /// Its id.
        token: String,
        /// What it may do.
        scopes: Vec<String>,
    },
    /// An API key may do nothing any more.
    RevokeApiKey {
        /// Its id.
        token: String,
    },
    /// Whether no card's PIN reference was made with the key of this check value.
    CheckUnused {
        /// Check value, six hexadecimal digits.
        kcv: String,
    },
    /// What happened, the oldest first: from the oldest that is kept on, unless one of these says
    /// where.
    Events {
        /// After this event.
        after: Option<String>,
        /// After what this reader has acknowledged.
        #[serde(default)]
        reader: Option<String>,
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

/// One line to the switch.
#[derive(Clone, Serialize)]
#[serde(untagged)]
pub enum ControlRequest {
    /// What any switch can do.
    Command(Command),
    /// What only a switch with a software HSM can do.
    Software(SoftwareCommand),
}

impl ControlRequest {
    /// Reads a line, from where it stands: by way of a tree of values a PIN would be copied.
    fn read(line: &[u8]) -> serde_json::Result<ControlRequest> {
        let software = serde_json::from_slice(line).map(ControlRequest::Software);
        software.or_else(|_| serde_json::from_slice(line).map(ControlRequest::Command))
    }
}

impl From<Command> for ControlRequest {
    fn from(command: Command) -> ControlRequest {
        ControlRequest::Command(command)
    }
}

impl From<SoftwareCommand> for ControlRequest {
    fn from(command: SoftwareCommand) -> ControlRequest {
        ControlRequest::Software(command)
    }
}

/// What only a switch with a software HSM can do: it holds the keys.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SoftwareCommand {
    /// Every intermediate value of a cryptogram, under public test keys only.
    ExplainCryptogram {
        /// The card's token.
        token: String,
        /// DE55 in hexadecimal.
        de55: String,
    },
    /// Takes the keys of the key directory into use.
    ReloadKeys,
}

/// What comes back: done, or why not.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done: the card as it is now.
    Card(Box<CardView>),
    /// Done, and nothing to show.
    Done,
    /// Done: the product as it is now.
    Product(Box<ProductView>),
    /// Products, in the order of their names.
    Products(Vec<ProductView>),
    /// Done: the API key as it is now.
    ApiKey(ApiKeyView),
    /// API keys, in the order of their ids.
    ApiKeys(Vec<ApiKeyView>),
    /// Names and values, in order.
    Values(Vec<(String, String)>),
    /// Transactions of a card, the newest first.
    Transactions(TransactionPage),
    /// What happened, the oldest first.
    Events(EventPage),
    /// Done for all but these: their places among those asked for, from 0, and why not.
    Each {
        /// Those that were refused.
        refused: Vec<(usize, Refusal)>,
    },
    /// Nothing was changed, and why. After the code `store_failed` nobody knows.
    Refused(Refusal),
}

/// Why a command was refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// What programs compare.
    pub code: Code,
    /// The same for people.
    pub text: String,
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        Refusal { code: refused.code(), text: refused.to_string() }
    }
}

impl<T: Into<Reply>> From<Result<T, Refused>> for Reply {
    fn from(done: Result<T, Refused>) -> Reply {
        done.map_or_else(|refused| Reply::Refused(refused.into()), Into::into)
    }
}

impl From<CardView> for Reply {
    fn from(card: CardView) -> Reply {
        Reply::Card(Box::new(card))
    }
}

impl From<Option<CardView>> for Reply {
    fn from(card: Option<CardView>) -> Reply {
        card.map_or(Reply::Done, Reply::from)
    }
}

impl From<()> for Reply {
    fn from((): ()) -> Reply {
        Reply::Done
    }
}

impl From<TransactionPage> for Reply {
    fn from(page: TransactionPage) -> Reply {
        Reply::Transactions(page)
    }
}

impl From<Vec<ProductView>> for Reply {
    fn from(products: Vec<ProductView>) -> Reply {
        Reply::Products(products)
    }
}

impl From<ProductView> for Reply {
    fn from(product: ProductView) -> Reply {
        Reply::Product(Box::new(product))
    }
}

impl From<Vec<ApiKeyView>> for Reply {
    fn from(keys: Vec<ApiKeyView>) -> Reply {
        Reply::ApiKeys(keys)
    }
}

impl From<ApiKeyView> for Reply {
    fn from(key: ApiKeyView) -> Reply {
        Reply::ApiKey(key)
    }
}

impl From<EventPage> for Reply {
    fn from(page: EventPage) -> Reply {
        Reply::Events(page)
    }
}

impl From<Vec<(String, String)>> for Reply {
    fn from(values: Vec<(String, String)>) -> Reply {
        Reply::Values(values)
    }
}

impl From<Vec<Result<(), Refused>>> for Reply {
    fn from(each: Vec<Result<(), Refused>>) -> Reply {
        let each = each.into_iter().enumerate();
        let refused = each.filter_map(|(place, done)| Some((place, done.err()?.into())));
        Reply::Each { refused: refused.collect() }
    }
}

/// Carries out what one line asks for.
pub async fn answer<W: Seams<Hsm = SoftwareHsm>>(
    switch: &Switch<W>,
    actor: &Actor,
    request: ControlRequest,
) -> Reply {
    match request {
        ControlRequest::Command(command) => execute(switch, actor, command).await,
        ControlRequest::Software(SoftwareCommand::ExplainCryptogram { token, de55 }) => {
            cryptogram::explain(switch, actor, &token, &de55).await.into()
        }
        ControlRequest::Software(SoftwareCommand::ReloadKeys) => {
            keys::reload(switch, actor).await.into()
        }
    }
}

/// Carries a command out.
pub async fn execute<W: Seams>(switch: &Switch<W>, actor: &Actor, command: Command) -> Reply {
    match command {
        Command::Show { token } => cards::show(switch, actor, &token).await.into(),
        Command::Activate { token } => {
            let activation = Transition::new(CardStatus::Active, Channel::Admin);
            transitions::transition(switch, actor, &token, Ok(activation)).await.into()
        }
        Command::Transition(form) => {
            transitions::transition(switch, actor, &form.token, form.parse()).await.into()
        }
        Command::SetPin { token, pin } => {
            pins::set(switch, actor, &token, pin.parse()).await.into()
        }
        Command::Unblock { token } => {
            // The operator has no limit.
            pins::unblock(switch, actor.into(), &token, &|_| Ok(())).await.into()
        }
        Command::ResetPinTries { token } => {
            pins::reset_tries(switch, actor.into(), &token, &|_| Ok(())).await.into()
        }
        Command::Add(card) => cards::create(switch, actor, &card.token, card.parse()).await.into(),
        Command::AddMany(all) => {
            let all = all.iter().map(CardForm::parse).collect();
            cards::add(switch, actor, all).await.into()
        }
        Command::Remove { tokens } => cards::remove(switch, actor, &tokens).await.into(),
        Command::Transactions { token, count } => {
            history::transactions(switch, actor, &token, count).await.into()
        }
        Command::Products => products::list(switch, actor).await.into(),
        Command::Product { token } => products::show(switch, actor, &token).await.into(),
        Command::PutProduct { token, settings, version } => {
            products::put(switch, actor, &token, settings, version).await.into()
        }
        Command::ApiKeys => api_keys::list(switch, actor).await.into(),
        Command::AddApiKey { token, scopes } => {
            api_keys::add(switch, actor.into(), &token, &scopes).await.into()
        }
        Command::RevokeApiKey { token } => api_keys::revoke(switch, actor, &token).await.into(),
        Command::Events { after, reader, count } => {
            let after = after.as_deref();
            events::list(switch, actor, (after, reader.as_deref()), count).await.into()
        }
        Command::Acknowledge { reader, through } => {
            events::acknowledge(switch, actor, &reader, through.as_deref()).await.into()
        }
        Command::Backup { to } => events::backup(switch, actor, &to).await.into(),
        Command::CheckUnused { kcv } => keys::check_unused(switch, actor, &kcv).await.into(),
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

    /// One command and its reply.
    ///
    /// # Errors
    /// If the conversation breaks.
    pub fn ask(&mut self, request: &ControlRequest) -> io::Result<Reply> {
        self.line.clear();
        serde_json::to_writer(&mut *self.line, request)?;
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
pub fn ask(data_dir: &Path, request: &ControlRequest) -> io::Result<Option<Reply>> {
    let conversation = Conversation::begin(data_dir)?;
    conversation.map(|mut conversation| conversation.ask(request)).transpose()
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
    pub async fn serve<W: Seams<Hsm = SoftwareHsm>>(
        self,
        switch: Arc<Switch<W>>,
        shutdown: Shutdown,
    ) {
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
async fn converse<W: Seams<Hsm = SoftwareHsm>>(
    switch: &Switch<W>,
    mut stream: UnixStream,
) -> Result<(), Elapsed> {
    let limits = &switch.limits.doors;
    // Who has closed its end already gets no answer to anything.
    let Ok(peer) = stream.peer_cred() else { return Ok(()) };
    let actor = Actor::user(peer.uid());
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
        let reply = match ControlRequest::read(line) {
            Ok(request) => answer(switch, &actor, request).await,
            // The text of the error could quote what was sent, and so a PIN.
            Err(error) => {
                let text = match is_secret_refused(&error) {
                    true => SECRET_IS_TEXT,
                    false => "the command cannot be read",
                };
                Reply::Refused(Refusal { code: Code::InvalidField, text: text.to_owned() })
            }
        };
        let rest = input.len().saturating_sub(end + 1);
        input.copy_within(end + 1.., 0);
        // The rest is wiped, not only forgotten, and before somebody may let the answer wait.
        input.iter_mut().skip(rest).for_each(|byte| *byte = 0);
        input.truncate(rest);
        let Ok(mut answer) = serde_json::to_vec(&reply) else { return Ok(()) };
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
