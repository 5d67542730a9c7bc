//! The application cryptogram of a transaction and the issuer's answer to it (EMV Book 2, 8).

use super::derive::DerivedKey;
use crate::hsm::emv::{ArpcKey, ArpcMethod, MacPadding};

/// Tag 91 of method 1: the answer to a cryptogram, and the response code of two bytes.
pub(crate) fn arpc_one(key: &DerivedKey, arqc: [u8; 8], response_code: [u8; 2]) -> [u8; 10] {
    let ([a, b, c, d, e, f, g, h], [x, y]) = (arqc, response_code);
    let [a, b, c, d, e, f, g, h] = key.cipher().encrypt(&[a ^ x, b ^ y, c, d, e, f, g, h]);
    [a, b, c, d, e, f, g, h, x, y]
}

/// The four bytes of method 2 over the card status update and up to eight bytes of the issuer's.
pub(crate) fn arpc_two(
    session: &DerivedKey,
    arqc: [u8; 8],
    card_status_update: [u8; 4],
    proprietary: &[u8],
) -> [u8; 4] {
    let mac = session.mac(&[&arqc, &card_status_update, proprietary], MacPadding::Bit);
    let [a, b, c, d, ..] = mac;
    [a, b, c, d]
}

/// The key of the answer.
pub(crate) const fn arpc_key<'k>(
    method: ArpcMethod,
    card: &'k DerivedKey,
    session: &'k DerivedKey,
) -> &'k DerivedKey {
    match method {
        ArpcMethod::One(ArpcKey::Card) => card,
        ArpcMethod::One(ArpcKey::Session) | ArpcMethod::Two => session,
    }
}
