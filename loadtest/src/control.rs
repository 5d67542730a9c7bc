//! The control socket of the switch: one JSON object a line goes in, one comes out.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cards::DemoCard;

/// Longest answer, in bytes.
const LINE_BYTES_MAX: u64 = 16 << 10;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Why a card could not be shown or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// Nobody listens on the socket.
    #[error(
        "no switch listens on {}: name the data directory of the running switch with --data-dir",
        .0.display()
    )]
    NoSocket(PathBuf),
    /// The conversation broke.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The switch says why not.
    #[error("{token}: the switch refused: {refusal}")]
    Refused { token: String, refusal: String },
    /// The answer is not what a switch says.
    #[error("{token}: the switch answered something else than was asked for")]
    Other { token: String },
}

/// What is looked at of a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CardView {
    /// ACTIVE, SUSPENDED and others.
    pub(crate) state: String,
    /// Why it is in that state: two digits.
    pub(crate) reason_code: String,
    /// Consecutive wrong PINs.
    pub(crate) pin_try_counter: u64,
    /// What the switch believes that the chip holds.
    pub(crate) chip_sync: String,
}

impl CardView {
    fn read(card: &Value) -> Option<CardView> {
        let text = |name: &str| card.get(name)?.as_str().map(str::to_owned);
        Some(CardView {
            state: text("state")?,
            reason_code: text("reason_code")?,
            pin_try_counter: card.get("pin_try_counter")?.as_u64()?,
            chip_sync: text("chip_sync")?,
        })
    }
}

/// Without the reason of an active card, which only tells how it became active.
impl fmt::Display for CardView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.state)?;
        if self.state != "ACTIVE" {
            write!(f, ", reason {}", self.reason_code)?;
        }
        write!(f, ", PIN try counter {}", self.pin_try_counter)
    }
}

/// The socket.
pub(crate) struct Control {
    path: PathBuf,
}

impl Control {
    /// The socket of a data directory.
    pub(crate) fn new(data_dir: &Path) -> Control {
        Control { path: data_dir.join("control.sock") }
    }

    /// The card.
    pub(crate) fn show(&self, token: &str) -> Result<CardView, ControlError> {
        self.card(token, &json!({ "show": { "token": token } }))
    }

    /// Makes a card active; its counter starts at zero.
    pub(crate) fn activate(&self, token: &str) -> Result<CardView, ControlError> {
        self.card(token, &json!({ "activate": { "token": token } }))
    }

    /// Sets the PIN.
    pub(crate) fn set_pin(&self, token: &str, pin: &str) -> Result<CardView, ControlError> {
        self.card(token, &json!({ "set_pin": { "token": token, "pin": pin } }))
    }

    /// An active card with a PIN, in place of one that has this token.
    pub(crate) fn replace(&self, card: &DemoCard, product: &str) -> Result<(), ControlError> {
        let DemoCard { token, pan, expiry, pin, .. } = *card;
        // There may be none.
        self.ask(token, &json!({ "remove": { "tokens": [token] } }))?;
        let add = json!({
            "token": token, "pan": pan, "expiration": expiry, "pan_sequence_number": "01",
            "card_product_token": product, "state": "ACTIVE", "pin": pin,
        });
        self.ask(token, &json!({ "add": add })).map(drop)
    }

    /// Why its last transaction came out as it did: the four-digit code and the words of the
    /// reason, then the steps to it.
    pub(crate) fn last_decision(&self, token: &str) -> Result<Vec<String>, ControlError> {
        let command = json!({ "transactions": { "token": token, "count": 1 } });
        let answer = self.ask(token, &command)?;
        let decision = || {
            let last = answer.get("transactions")?.get("transactions")?.get(0)?;
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let reason =
                format!("{} {}", text(last.get("reason_code")?)?, text(last.get("memo")?)?);
            let trail = last.get("trail")?.as_array()?.iter().map(text);
            [Some(reason)].into_iter().chain(trail).collect::<Option<_>>()
        };
        decision().ok_or_else(|| ControlError::Other { token: token.to_owned() })
    }

    fn card(&self, token: &str, command: &Value) -> Result<CardView, ControlError> {
        let card = self.ask(token, command)?.get("card").and_then(CardView::read);
        card.ok_or_else(|| ControlError::Other { token: token.to_owned() })
    }

    fn ask(&self, token: &str, command: &Value) -> Result<Value, ControlError> {
        let answer = self.converse(command)?;
        match answer.get("refused") {
            Some(refused) => {
                let text = refused.get("text").and_then(Value::as_str);
                let refusal = text.map_or_else(|| refused.to_string(), str::to_owned);
                Err(ControlError::Refused { token: token.to_owned(), refusal })
            }
            None => Ok(answer),
        }
    }

    fn converse(&self, command: &Value) -> Result<Value, ControlError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ControlError::NoSocket(self.path.clone())
            }
            _ => ControlError::Io { path: self.path.clone(), source },
        };
        let mut stream = UnixStream::connect(&self.path).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN)).map_err(failed)?;
        stream.write_all(format!("{command}\n").as_bytes()).map_err(failed)?;
        let mut answer = String::new();
        BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut answer).map_err(failed)?;
        serde_json::from_str(&answer).map_err(|error| failed(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_socket_asks_for_the_data_directory() {
        let error = Control::new(Path::new("/nowhere")).show("demo-card-1").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("/nowhere/control.sock") && text.contains("--data-dir"), "{text}");
    }

    #[test]
    fn a_card_is_read_from_its_json() {
        for (state, reason, shown) in [
            ("ACTIVE", "01", "ACTIVE, PIN try counter 2"),
            ("SUSPENDED", "22", "SUSPENDED, reason 22, PIN try counter 2"),
        ] {
            let card = json!({ "state": state, "reason_code": reason, "pin_try_counter": 2,
                             "chip_sync": "in_sync", "x": 1 });
            assert_eq!(CardView::read(&card).unwrap().to_string(), shown);
        }
        assert_eq!(CardView::read(&json!({ "state": "ACTIVE" })), None);
    }
}
