//! Which rules a message follows, by its MTI.

use iso_specs::Mti;

/// What is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// 0100, 0101, 0200, 0201: authorized.
    Authorization,
    /// 0800, 0801: sign-on, sign-off, echo.
    NetworkManagement,
    /// Another request: answered with 1015.
    NotSupported,
    /// A response: never answered.
    Unanswered,
}

/// The route of a message type.
#[must_use]
pub fn route(mti: Mti) -> Route {
    match mti.original() {
        _ if !mti.is_request() => Route::Unanswered,
        Mti::AUTHORIZATION_REQUEST | Mti::FINANCIAL_REQUEST => Route::Authorization,
        Mti::NETWORK_MANAGEMENT_REQUEST => Route::NetworkManagement,
        _ => Route::NotSupported,
    }
}
