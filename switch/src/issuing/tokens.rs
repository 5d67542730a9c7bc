//! Tokens and versions of what a client makes by the API. A token that the client chose makes the
//! call idempotent: the same token with the same payload gives the same answer again. The payload
//! is known again by a keyed digest: it may hold what is kept nowhere.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::Refused;
use crate::cards::Pan;
use crate::hsm::software::{DocumentVault, random};

/// The token of what a client makes: 1 to 36 letters, digits, `-`, `_` and `.`, and no PAN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Token(String);

/// Longest token that a client may choose, in characters: a UUID fits.
const CHARACTERS_MAX: usize = 36;
const EXPECTED: &str = "1 to 36 letters, digits, '-', '_' and '.', and no PAN";
const PATTERN: &str = "^[A-Za-z0-9._-]+$";

impl Token {
    /// The token that a client chose.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(text: &str) -> Result<Token, Refused> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let is_token = (1..=CHARACTERS_MAX).contains(&text.len())
            && text.bytes().all(valid)
            && !Pan::parse(text.as_bytes()).is_some_and(|pan| pan.can_be_issued());
        match is_token {
            true => Ok(Token(text.to_owned())),
            false => Err(Refused::Field { name: "token", expected: EXPECTED }),
        }
    }

    /// A token of our own: a random UUID (RFC 9562, version 4).
    ///
    /// # Errors
    /// If the machine gives no random bytes.
    pub fn random() -> Result<Token, Refused> {
        let bytes = random::bytes().map_err(Refused::Sealing)?;
        Ok(Token(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()))
    }

    /// As clients write it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Token, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        Token::read(&text)
            .map_err(|_| D::Error::invalid_value(Unexpected::Other("text"), &EXPECTED))
    }
}

impl PartialSchema for Token {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(PATTERN));
        text.min_length(Some(1)).max_length(Some(CHARACTERS_MAX)).into()
    }
}

impl ToSchema for Token {}

/// The keyed digest of the payload that something was made with.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PayloadDigest([u8; 32]);

impl fmt::Debug for PayloadDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PayloadDigest(..)")
    }
}

impl PayloadDigest {
    /// Of a payload for one purpose: equal payloads are equal JSON texts.
    #[must_use]
    pub fn of(vault: &DocumentVault, purpose: &str, payload: &impl Serialize) -> PayloadDigest {
        PayloadDigest(vault.digest_json(&purpose_of(purpose), payload))
    }

    /// Of a text for one purpose.
    #[must_use]
    pub fn of_text(vault: &DocumentVault, purpose: &str, text: &[u8]) -> PayloadDigest {
        PayloadDigest(vault.digest(&purpose_of(purpose), text))
    }
}

/// What a digest is made of, so that no other digest is ever taken for it.
fn purpose_of(purpose: &str) -> Vec<u8> {
    [b"payload of ", purpose.as_bytes()].concat()
}

/// The versions on which a change may be made (If-Match).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Whatever version it is, and even where nothing was said.
    #[default]
    Any,
    /// One of these, as their answers named them.
    OneOf(Vec<Box<str>>),
}

impl Expected {
    /// Whether this is one of them.
    #[must_use]
    pub fn allows(&self, version: impl fmt::Display) -> bool {
        match self {
            Expected::Any => true,
            Expected::OneOf(versions) => {
                let version = version.to_string();
                versions.iter().any(|known| **known == *version)
            }
        }
    }

    /// The refusal of a change that was made on another version.
    ///
    /// # Errors
    /// [`Refused::VersionChanged`].
    pub fn check(&self, version: impl fmt::Display) -> Result<(), Refused> {
        match self.allows(version) {
            true => Ok(()),
            false => Err(Refused::VersionChanged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_short_and_harmless_and_no_pan() {
        for right in ["a", "6f1c-7_x.Y", &"a".repeat(36)] {
            assert_eq!(Token::read(right).unwrap().as_str(), right);
        }
        for wrong in ["", "a b", "4761340000000019", "a/b", "ä", &"a".repeat(37)] {
            assert!(Token::read(wrong).is_err(), "{wrong}");
        }
        let error = serde_json::from_str::<Token>("\"a b\"").unwrap_err().to_string();
        assert!(error.contains(", expected 1 to 36") && !error.contains("a b"), "{error}");
    }

    #[test]
    fn a_token_of_our_own_is_a_uuid_and_never_the_same() {
        let (one, other) = (Token::random().unwrap(), Token::random().unwrap());
        assert_ne!(one, other);
        assert_eq!((one.as_str().len(), one.as_str().as_bytes()[14]), (36, b'4'));
        assert!(Token::read(one.as_str()).is_ok());
    }

    #[test]
    fn a_change_may_be_bound_to_versions() {
        assert!(Expected::Any.allows(7_u64));
        let one_of = Expected::OneOf(["7".into(), "9".into()].into());
        assert!(one_of.allows(9_u64) && one_of.check(8_u64).is_err());
        assert!(!Expected::OneOf(Vec::new()).allows(7_u64));
    }
}
