//! PINs and PANs in a JSON text. They are taken as they stand there: the parser would copy an
//! escape into a buffer, and a number into the text of its error, which nobody wipes.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::Refused;
use crate::cards::Pan;
use crate::pin::ClearPin;

/// How a PIN or PAN is refused that is none in JSON.
pub const SECRET_IS_TEXT: &str = "pin and pan are texts in quotation marks, without escapes";

/// Reads a secret of a JSON text that is in memory.
///
/// # Errors
/// [`SECRET_IS_TEXT`], where it is no text or has an escape.
pub fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?.get();
    let text = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
    let text = text.filter(|text| !text.contains('\\'));
    text.map(|text| Zeroizing::new(text.to_owned()))
        .ok_or_else(|| serde::de::Error::custom(SECRET_IS_TEXT))
}

/// Whether JSON was refused because a PIN or PAN in it is no text. Any other error may quote what
/// was sent.
#[must_use]
pub fn is_secret_refused(error: &serde_json::Error) -> bool {
    Zeroizing::new(error.to_string()).starts_with(SECRET_IS_TEXT)
}

/// A PIN as somebody typed it, on its way to the HSM; wiped from memory when dropped, never shown.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PinText(#[serde(deserialize_with = "secret")] Zeroizing<String>);

impl PinText {
    /// Takes a text over.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> PinText {
        PinText(text)
    }

    /// The PIN: 4 to 12 digits, blanks behind them aside.
    ///
    /// # Errors
    /// [`Refused::Field`].
    pub fn parse(&self) -> Result<Box<ClearPin>, Refused> {
        let expected = Refused::Field { name: "pin", expected: "4 to 12 digits" };
        ClearPin::parse_in_place(self.0.trim_end().as_bytes()).ok_or(expected)
    }
}

/// A PAN as somebody sent it; wiped from memory when dropped, never shown.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PanText(#[serde(deserialize_with = "secret")] Zeroizing<String>);

impl PanText {
    /// The PAN: 13 to 19 digits with a right check digit.
    ///
    /// # Errors
    /// [`Refused::Field`].
    pub fn parse(&self) -> Result<Pan, Refused> {
        let expected = Refused::Field { name: "pan", expected: PAN_EXPECTED };
        Pan::parse(self.0.as_bytes()).filter(Pan::can_be_issued).ok_or(expected)
    }
}

/// What a PAN of a card is.
pub const PAN_EXPECTED: &str = "13 to 19 digits with a right check digit";

impl std::fmt::Debug for PanText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PanText(..)")
    }
}

impl std::fmt::Debug for PinText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PinText(..)")
    }
}
