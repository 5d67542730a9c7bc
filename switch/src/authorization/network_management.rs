//! 0800 and 0820: sign-on, sign-off and echo (DE70).

use iso_specs::Decoded;

use super::format_error::FormatError;
use super::request::check_elements;

/// What a network management request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkManagement {
    /// DE70 001, 061, 071.
    SignOn,
    /// DE70 002, 062, 072.
    SignOff,
    /// DE70 301, 270, 003.
    Echo,
    /// Any other DE70 of a request.
    NotSupported,
    /// An advice of something else, which is acknowledged like every advice.
    Told,
}

impl NetworkManagement {
    /// Reads DE70 of a message that has all mandatory elements: 11, and 70 unless it is an advice.
    ///
    /// # Errors
    /// The data element that is missing or wrong.
    pub fn parse(decoded: &Decoded<'_>) -> Result<NetworkManagement, FormatError> {
        let message = &decoded.message;
        let is_advice = message.mti().is_advice();
        check_elements(decoded, if is_advice { &[11] } else { &[11, 70] })?;
        Ok(match message.field(70).and_then(|field| field.number()) {
            Some(1 | 61 | 71) => NetworkManagement::SignOn,
            Some(2 | 62 | 72) => NetworkManagement::SignOff,
            Some(301 | 270 | 3) => NetworkManagement::Echo,
            _ if is_advice => NetworkManagement::Told,
            Some(_) => NetworkManagement::NotSupported,
            None => return Err(FormatError::value(70)),
        })
    }
}
