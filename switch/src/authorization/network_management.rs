//! 0800: sign-on, sign-off and echo (DE70).

use iso_specs::Decoded;

use super::request::{FormatError, check_elements};

/// What a network management request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkManagement {
    /// DE70 001, 061, 071.
    SignOn,
    /// DE70 002, 062, 072.
    SignOff,
    /// DE70 301, 270, 003.
    Echo,
    /// Any other DE70.
    NotSupported,
}

impl NetworkManagement {
    /// Reads DE70 of a message that has all mandatory elements (7, 11, 70).
    ///
    /// # Errors
    /// The data element that is missing or wrong.
    pub fn parse(decoded: &Decoded<'_>) -> Result<NetworkManagement, FormatError> {
        check_elements(decoded, &[7, 11, 70])?;
        let code = decoded.message.field(70).and_then(|field| field.number());
        Ok(match code.ok_or(FormatError { element: 70 })? {
            1 | 61 | 71 => NetworkManagement::SignOn,
            2 | 62 | 72 => NetworkManagement::SignOff,
            301 | 270 | 3 => NetworkManagement::Echo,
            _ => NetworkManagement::NotSupported,
        })
    }
}
