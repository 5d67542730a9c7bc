//! What may be said of a key: its name and its check value. Keys themselves live in the HSM alone.

use std::fmt;
use std::sync::Arc;

use crate::hex::from_hex;

/// Name of a key, as the configuration and the key directory spell it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyName(Arc<str>);

impl KeyName {
    /// Takes 1 to 64 letters, digits and hyphens; anything else is `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<KeyName> {
        let valid = (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        valid.then(|| KeyName(text.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Key check value: the first three bytes of the encrypted zero block (triple DES), of the
/// CMAC of it (AES) or of the HMAC of sixteen zero bytes (HMAC). All that is ever shown of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kcv(pub [u8; Kcv::BYTES]);

impl Kcv {
    /// Bytes of a check value.
    pub const BYTES: usize = 3;

    /// From six hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Kcv> {
        from_hex(text)?.as_slice().try_into().ok().map(Kcv)
    }
}

impl fmt::Display for Kcv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.0;
        write!(f, "{a:02X}{b:02X}{c:02X}")
    }
}
