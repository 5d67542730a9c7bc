//! Which rules a message follows, by its MTI.

use iso_specs::Mti;

/// What is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// 0100, 0200 and their repeats are authorized.
    Authorization,
    /// 0120, 0220 and their repeats tell what was decided elsewhere, and are acknowledged.
    Advice,
    /// 0400, 0420 and their repeats take a request back.
    Reversal,
    /// 0800, 0820 and their repeats ask for sign-on, sign-off or echo.
    NetworkManagement,
    /// Another request is answered with 1015.
    NotSupported,
    /// A response is never answered.
    Unanswered,
}

/// The route of a message type.
#[must_use]
pub fn route(mti: Mti) -> Route {
    // The fourth digit says who sent it and whether it is a repeat (0 to 5; the others are
    // reserved): the rules are the same.
    match mti.digits() {
        _ if !mti.is_request() => Route::Unanswered,
        [b'0', b'1' | b'2', b'0', b'0'..=b'5'] => Route::Authorization,
        [b'0', b'1' | b'2', b'2', b'0'..=b'5'] => Route::Advice,
        [b'0', b'4', b'0' | b'2', b'0'..=b'5'] => Route::Reversal,
        [b'0', b'8', b'0' | b'2', b'0'..=b'5'] => Route::NetworkManagement,
        _ => Route::NotSupported,
    }
}
