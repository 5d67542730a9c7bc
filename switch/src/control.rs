//! The command line on a running switch: `control.sock` in the data directory, mode 0600. One
//! JSON object a line goes in, one comes out.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use zeroize::Zeroizing;

use crate::cards::cache::NewCard;
use crate::cards::pan::PAN_DIGITS_MIN;
use crate::cards::{Card, CardState, Expiry, Pan, Plastic};
use crate::clock::Clock;
use crate::hsm::{AcceptPin, ClearPin, Hsm, PinReference};
use crate::shutdown::Shutdown;
use crate::store::{AddCardError, Commit, CommitError, Store};
use crate::switch::Switch;

/// Longest request or answer, in bytes.
const LINE_BYTES_MAX: u64 = 16 << 10;

/// How many times a change is tried again because the card changed meanwhile.
const COMMIT_ATTEMPTS_MAX: u32 = 10_000;

/// A PIN on its way to the HSM; wiped from memory when dropped, never shown.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PinText(Zeroizing<String>);

impl PinText {
    /// Takes a text over.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> PinText {
        PinText(text)
    }
}

impl std::fmt::Debug for PinText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PinText(..)")
    }
}

/// A new card, with the names of the API.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddCard {
    /// The issuer's name for it: 1 to 36 letters, digits, `-`, `_` and `.`.
    pub token: String,
    /// 13 to 19 digits with a right check digit, of a BIN of the product.
    pub pan: Zeroizing<String>,
    /// YYMM.
    pub expiration: String,
    /// Two digits.
    pub pan_sequence_number: String,
    /// The product.
    pub card_product_token: String,
    /// 4 to 12 digits.
    pub pin: PinText,
}

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
    /// A new card.
    Add(AddCard),
}

/// What comes back: the card, or why not.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done: the card as it is now.
    Done(CardView),
    /// Nothing was changed, and why.
    Refused(String),
}

/// A card as GET /cards/{token} shows it.
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
}

impl CardView {
    fn of(Card { entry, state }: &Card) -> CardView {
        let plastic = state.plastics.last();
        CardView {
            token: entry.token.to_string(),
            card_product_token: entry.product.name.to_string(),
            state: state.status.name().to_owned(),
            reason_code: state.status_reason.to_string(),
            pin_is_set: state.pin.reference.is_some(),
            pin_try_counter: state.pin.tries,
            pan: entry.masked_pan.to_string(),
            last_four: entry.masked_pan.last_four().to_owned(),
            expiration: plastic.map(|plastic| plastic.expiry.to_string()).unwrap_or_default(),
            pan_sequence_number: plastic
                .map(|plastic| format!("{:02}", plastic.sequence))
                .unwrap_or_default(),
        }
    }
}

/// Why a command was not carried out.
type Refusal = String;

/// Carries a command out.
pub async fn execute<C: Clock, H: Hsm, S: Store>(
    switch: &Switch<C, H, S>,
    command: Command,
) -> Outcome {
    let (action, token, done) = match command {
        Command::Show { token } => ("show", token.clone(), load(switch, &token).await),
        Command::Activate { token } => ("activate", token.clone(), activate(switch, &token).await),
        Command::SetPin { token, pin } => {
            ("set-pin", token.clone(), set_pin(switch, &token, &pin).await)
        }
        Command::Add(card) => ("add", card.token.clone(), add(switch, &card).await),
    };
    // Every command leaves a line with no secret in it. What is no card's token may be anything,
    // even a PAN.
    let card = switch.store.load_by_token(&token).await.ok().flatten();
    let token = card.map(|card| card.entry.token.to_string());
    let refused = done.as_ref().err();
    tracing::info!(target: "audit", action, token, done = refused.is_none(), refused);
    match done {
        Ok(card) => Outcome::Done(CardView::of(&card)),
        Err(refusal) => Outcome::Refused(refusal),
    }
}

async fn load<C, H, S: Store>(switch: &Switch<C, H, S>, token: &str) -> Result<Card, Refusal> {
    let card = switch.store.load_by_token(token).await.map_err(|error| error.to_string())?;
    card.ok_or_else(|| "there is no card with this token".to_owned())
}

async fn activate<C, H, S: Store>(switch: &Switch<C, H, S>, token: &str) -> Result<Card, Refusal> {
    let terminated = || "the card is TERMINATED, which is final".to_owned();
    change(switch, token, |card| card.activated().ok_or_else(terminated)).await
}

async fn set_pin<C: Clock, H: Hsm, S: Store>(
    switch: &Switch<C, H, S>,
    token: &str,
    pin: &PinText,
) -> Result<Card, Refusal> {
    let card = load(switch, token).await?;
    let pan = switch.vault.open(&card.entry.key, &card.entry.sealed_pan);
    let reference = accept_pin(switch, &pan.map_err(|fault| fault.to_string())?, pin).await?;
    change(switch, token, |card| Ok(card.with_pin(reference))).await
}

/// Changes a card, again if somebody else changed it meanwhile.
async fn change<C, H, S: Store>(
    switch: &Switch<C, H, S>,
    token: &str,
    next: impl Fn(&CardState) -> Result<CardState, Refusal>,
) -> Result<Card, Refusal> {
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        let card = load(switch, token).await?;
        let change = Some(next(&card.state)?);
        let commit = Commit { card: Some(&card), change, transaction: None, event: None };
        match switch.store.commit(commit, &mut None).await {
            Ok(()) => return load(switch, token).await,
            Err(CommitError::CardChanged) => {}
            Err(CommitError::Failed(failed)) => return Err(failed.to_string()),
        }
    }
    Err("the card is changing all the time; try again".to_owned())
}

async fn accept_pin<C: Clock, H: Hsm, S: Store>(
    switch: &Switch<C, H, S>,
    pan: &Pan,
    pin: &PinText,
) -> Result<PinReference, Refusal> {
    let clear = ClearPin::parse(pin.0.trim_end().as_bytes());
    let clear = clear.ok_or_else(|| "pin: expected 4 to 12 digits".to_owned())?;
    let block = switch.hsm.entry_key().wrap(&clear, pan);
    drop(clear);
    let block = block.ok_or_else(|| "pan: expected 13 to 19 digits".to_owned())?;
    let accepted = switch.hsm.accept_pin(AcceptPin { block: &block, pan }).await;
    accepted.map_err(|error| error.to_string())
}

async fn add<C: Clock, H: Hsm, S: Store>(
    switch: &Switch<C, H, S>,
    request: &AddCard,
) -> Result<Card, Refusal> {
    let product = switch.products.iter().find(|known| *known.name == request.card_product_token);
    let product = product.ok_or("card_product_token: there is no such product")?;
    let (pan, state) = checked(request)?;
    if !product.has_bin_of(&pan) {
        return Err("pan: it starts with no BIN of the product".to_owned());
    }
    let reference = accept_pin(switch, &pan, &request.pin).await?;
    let key = switch.vault.card_key(&pan);
    let card = NewCard {
        key,
        token: request.token.as_str().into(),
        masked_pan: pan.masked(),
        sealed_pan: switch.vault.seal(&key, &pan).map_err(|fault| fault.to_string())?,
        product: Arc::clone(product),
        state: state.with_pin(reference),
    };
    switch.store.add_card(card).await.map_err(|error: AddCardError| error.to_string())?;
    load(switch, &request.token).await
}

fn checked(request: &AddCard) -> Result<(Pan, CardState), Refusal> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let AddCard { token, pan, expiration, pan_sequence_number, .. } = request;
    if !(1..=36).contains(&token.len()) || !token.bytes().all(valid) {
        return Err("token: expected 1 to 36 letters, digits, '-', '_' and '.'".to_owned());
    }
    // Tokens are shown and stored in clear.
    let reads_as_pan =
        |pan: Pan| pan.digits().len() >= PAN_DIGITS_MIN && pan.has_valid_check_digit();
    if Pan::parse(token.as_bytes()).is_some_and(reads_as_pan) {
        return Err("token: it reads as a PAN".to_owned());
    }
    let pan = Pan::parse(pan.as_bytes())
        .filter(|pan| pan.digits().len() >= PAN_DIGITS_MIN && pan.has_valid_check_digit())
        .ok_or("pan: expected 13 to 19 digits with a right check digit")?;
    let expiry = Expiry::parse(expiration.as_bytes()).ok_or("expiration: expected YYMM")?;
    let sequence = Some(pan_sequence_number)
        .filter(|text| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or("pan_sequence_number: expected two digits")?;
    Ok((pan, CardState::new(Plastic { expiry, sequence })))
}

/// The socket of a data directory.
#[must_use]
pub fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// Asks a running switch; `None` if none listens on the socket.
///
/// # Errors
/// If the conversation breaks.
pub fn ask(socket: &Path, command: &Command) -> io::Result<Option<Outcome>> {
    let mut stream = match BlockingStream::connect(socket) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut line = Zeroizing::new(serde_json::to_vec(command)?);
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(io::Read::take(stream, LINE_BYTES_MAX)).read_line(&mut answer)?;
    Ok(Some(serde_json::from_str(&answer)?))
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
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(ControlListener(listener))
    }

    /// Serves commands until the switch stops.
    pub async fn serve<C: Clock, H: Hsm, S: Store>(
        self,
        switch: Arc<Switch<C, H, S>>,
        shutdown: Shutdown,
    ) {
        loop {
            let accepted = tokio::select! {
                () = shutdown.stop.cancelled() => return,
                accepted = self.0.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => drop(tokio::spawn(converse(Arc::clone(&switch), stream))),
                Err(error) => tracing::warn!(%error, "control.sock: a connection was not accepted"),
            }
        }
    }
}

async fn converse<C: Clock, H: Hsm, S: Store>(switch: Arc<Switch<C, H, S>>, stream: UnixStream) {
    let (reader, mut writer) = stream.into_split();
    let mut line = Zeroizing::new(Vec::new());
    let mut reader = tokio::io::BufReader::new(reader.take(LINE_BYTES_MAX));
    let read = reader.read_until(b'\n', &mut line).await;
    let outcome = match read.map(|_| serde_json::from_slice::<Command>(&line)) {
        Ok(Ok(command)) => execute(&switch, command).await,
        // The text of the error could quote what was sent, and so a PIN.
        Ok(Err(_)) => Outcome::Refused("the command cannot be read".to_owned()),
        Err(_) => return,
    };
    if let Ok(mut answer) = serde_json::to_vec(&outcome) {
        answer.push(b'\n');
        // Who has gone does not need the answer.
        let _ = writer.write_all(&answer).await;
    }
}
