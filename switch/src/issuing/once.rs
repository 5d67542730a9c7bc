//! Calls that are made once: an `Idempotency-Key` names what a caller does, so that his call, sent
//! again, does not do it again. What was made is written in the commit of the change and kept for a
//! day; a repeat is answered by what is there then. Nothing of the call is kept but keyed digests,
//! and its PIN is no part of these: who could ask whether it is the same PIN would learn it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::Refused;
use super::tokens::PayloadDigest;
use crate::event::Actor;
use crate::hsm::software::DocumentVault;
use crate::store::document::{DocumentChange, DocumentKind};
use crate::store::{Commit, Store};
use crate::switch::{Seams, Switch};

/// Who calls to change something, and by what the call is known again.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Who calls.
    pub actor: &'a Actor,
    /// What makes it a call that is made once.
    pub once: Option<&'a Once>,
}

impl<'a> From<&'a Actor> for Call<'a> {
    fn from(actor: &'a Actor) -> Call<'a> {
        Call { actor, once: None }
    }
}

impl Call<'_> {
    /// For the commit of the change: the call made what has this token.
    pub(super) fn made<W: Seams>(
        self,
        switch: &Switch<W>,
        token: &str,
    ) -> Result<Option<DocumentChange>, Refused> {
        self.answered(switch, &Made::Token(token.to_owned()))
    }

    /// The same of anything else that a repeat is told.
    pub(super) fn answered<W: Seams>(
        self,
        switch: &Switch<W>,
        made: &Made,
    ) -> Result<Option<DocumentChange>, Refused> {
        self.once.map(|once| once.write(&switch.vault.documents, made, 0)).transpose()
    }
}

/// A call by its key.
pub struct Once {
    /// Keyed digest of the key and of who has sent it.
    place: String,
    /// Keyed digest of what is called for.
    asked: PayloadDigest,
}

/// What a call has made.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Made {
    /// What has this token. It is empty where what was done has none, as a PIN that was set.
    Token(String),
    /// A try with a PIN that was refused as weak.
    WeakPin,
    /// The simulated message of this number, sent at this time, of which the answer is not known
    /// yet. It is known by sending it again: the switch knows a message that it has decided.
    Message {
        /// In microseconds since 1970.
        sent: i64,
        /// Before it is cut to the six digits of DE11.
        number: u32,
    },
}

/// The document of an answer.
#[derive(Serialize, Deserialize)]
struct Answer {
    asked: PayloadDigest,
    made: Made,
}

impl Once {
    /// A call of this method and path, with this body, by the key of this caller. `None` where the
    /// body is no JSON.
    #[must_use]
    pub fn new(
        vault: &DocumentVault,
        (caller, key): (&str, &str),
        (method, path): (&str, &str),
        body: &[u8],
    ) -> Option<Once> {
        let head = [method, " ", path, "\n"].concat();
        // What is compared is never longer than what was sent, but for the outermost braces: a
        // buffer that grew would leave copies behind.
        let capacity = head.len() + body.len() + 2;
        let mut asked = Zeroizing::new(Vec::with_capacity(capacity));
        asked.extend_from_slice(head.as_bytes());
        if !body.is_empty() {
            put_compared(serde_json::from_slice(body).ok()?, None, &mut asked)?;
        }
        debug_assert!(asked.len() <= capacity, "names and values are those of the body");
        let name = [caller.as_bytes(), b"\0", key.as_bytes()].concat();
        Some(Once {
            place: URL_SAFE_NO_PAD.encode(vault.digest(DIGEST_OF_KEY, &name)),
            asked: PayloadDigest::of_text(vault, "call", &asked),
        })
    }

    /// Its name among the calls that are under way.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.place
    }

    /// What the call made before, if it was made.
    ///
    /// # Errors
    /// [`Refused::OtherCall`] where the key was sent with another call.
    pub async fn made<W: Seams>(&self, switch: &Switch<W>) -> Result<Option<Made>, Refused> {
        let document = switch.store.document(DocumentKind::IdempotentAnswer, &self.place).await?;
        let Some(document) = document else { return Ok(None) };
        let json = document.json(&switch.vault.documents).map_err(Refused::Sealing)?;
        let answer: Answer = serde_json::from_slice(&json)
            .map_err(|_| Refused::DocumentUnreadable("answer to an Idempotency-Key"))?;
        if answer.asked == self.asked { Ok(Some(answer.made)) } else { Err(Refused::OtherCall) }
    }

    /// Writes what is made, or what is known of it so far, in a commit of its own, where the one
    /// that makes it cannot hold it.
    pub(super) async fn keep<W: Seams>(
        &self,
        switch: &Switch<W>,
        made: &Made,
    ) -> Result<(), Refused> {
        let before = switch.store.document(DocumentKind::IdempotentAnswer, &self.place).await?;
        let read = before.map_or(0, |before| before.version);
        let documents = vec![self.write(&switch.vault.documents, made, read)?];
        switch.store.commit(Commit { documents, ..Commit::default() }, &mut None).await?;
        Ok(())
    }

    fn write(
        &self,
        vault: &DocumentVault,
        made: &Made,
        read: u64,
    ) -> Result<DocumentChange, Refused> {
        let json = serde_json::to_vec(&Answer { asked: self.asked, made: made.clone() });
        debug_assert!(json.is_ok(), "an answer is a JSON object with texts as keys");
        let place = (DocumentKind::IdempotentAnswer, &*self.place);
        DocumentChange::write(vault, place, read, &json.unwrap_or_default())
            .map_err(Refused::Sealing)
    }
}

/// What a digest is made of, so that no other digest is ever taken for it.
const DIGEST_OF_KEY: &[u8] = b"idempotency key";

/// Objects of a body in which a PIN may stand.
const WITH_PINS: [&str; 2] = ["chip", "card_options"];

/// Whether a field holds a PIN, by the object that it is in, if that is not the body.
fn is_pin(within: Option<&str>, name: &str) -> bool {
    match within {
        None | Some("card_options") => matches!(name, "pin" | "PIN"),
        Some(_) => name == "pin_entered",
    }
}

/// Appends the body, or an object in it, as it is compared: its names in order, without PINs. What
/// else is in it is compared as it was sent: a body can be as deep as it is long.
fn put_compared(object: &RawValue, within: Option<&str>, to: &mut Vec<u8>) -> Option<()> {
    let object: BTreeMap<Name<'_>, &RawValue> = serde_json::from_str(object.get()).ok()?;
    to.push(b'{');
    for (Name(name), value) in object.iter().filter(|(Name(name), _)| !is_pin(within, name)) {
        // JSON has no such byte.
        to.extend_from_slice(name.as_bytes());
        to.push(b'\0');
        match value.get() {
            text if within.is_none() && WITH_PINS.contains(&&**name) && text.starts_with('{') => {
                put_compared(value, Some(name), to)?;
            }
            text => to.extend([text.as_bytes(), b"\0"].into_iter().flatten()),
        }
    }
    to.push(b'}');
    Some(())
}

/// The name of a field, which is part of the body where nothing in it is escaped.
#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hsm::software::PanVault;

    fn once(key: &str, call: (&str, &str), body: &str) -> Once {
        let vault = PanVault::new(&[1; 32], &[2; 32]).unwrap().documents;
        Once::new(&vault, ("demo", key), call, body.as_bytes()).unwrap()
    }

    #[test]
    fn a_call_is_known_again_by_its_key_and_what_it_asks_for() {
        let call = ("POST", "/users");
        let first = once("k", call, r#"{"a": 1, "b": {"c": "x", "d": [1, 2]}}"#);
        let again = once("k", call, r#"{ "b":{"c": "x", "d": [1, 2]},"a":1 }"#);
        assert_eq!((first.name(), first.asked), (again.name(), again.asked));
        assert_ne!(first.name(), once("l", call, "{}").name());
        for (call, body) in [
            (call, r#"{"a": 2, "b": {"c": "x", "d": [1, 2]}}"#),
            (call, r#"{"a": 1, "b": {"c": "x", "d": [1]}}"#),
            (call, r#"{"a": 1, "b": {"c": "x"}, "d": [1, 2]}"#),
            (call, "{}"),
            (call, ""),
            (("PUT", "/users"), r#"{"a": 1, "b": {"c": "x", "d": [1, 2]}}"#),
            (("POST", "/cards"), r#"{"a": 1, "b": {"c": "x", "d": [1, 2]}}"#),
        ] {
            let other = once("k", call, body);
            assert!(other.name() == first.name() && other.asked != first.asked, "{body}");
        }
    }

    #[test]
    fn a_pin_is_no_part_of_what_is_compared() {
        let call = ("PUT", "/pins");
        let asked = |body: &str| once("k", call, body).asked;
        let first = asked(r#"{"control_token": "t", "pin": "1593"}"#);
        assert_eq!(first, asked(r#"{"control_token": "t", "pin": "2604"}"#));
        assert_eq!(first, asked(r#"{"PIN": "2604", "control_token": "t"}"#));
        assert_eq!(first, asked(r#"{"\u0070in": "2604", "control_token": "t"}"#));
        assert_ne!(first, asked(r#"{"control_token": "u", "pin": "1593"}"#));
        let chip =
            |pin: &str| format!(r#"{{"chip": {{"virtual": true, "pin_entered": "{pin}"}}}}"#);
        assert_eq!(asked(&chip("1593")), asked(&chip("2604")));
        let metadata = |pin: &str| format!(r#"{{"metadata": {{"pin": "{pin}"}}}}"#);
        assert_ne!(asked(&metadata("1593")), asked(&metadata("2604")));
    }

    #[test]
    fn a_deep_body_costs_no_more_than_a_long_one() {
        let vault = PanVault::new(&[1; 32], &[2; 32]).unwrap().documents;
        let call = ("POST", "/simulate/authorization");
        let deep = |depth: usize| {
            let (open, close) = ("{\"\":".repeat(depth), "}".repeat(depth));
            let body = format!("{{\"chip\":{open}1{close}}}");
            Once::new(&vault, ("demo", "k"), call, body.as_bytes()).map(|once| once.asked)
        };
        assert!(deep(100_000).is_some() && deep(100_000) != deep(99_999));
    }
}
