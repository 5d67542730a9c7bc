//! Randomness of the operating system, for keys and nonces.

use super::cipher::{is_usable_tdes_key, set_odd_parity};
use super::key::KeyFault;

/// `N` random bytes.
///
/// # Errors
/// If the machine gives none.
#[allow(clippy::disallowed_methods, reason = "this is the one place that asks for randomness")]
pub fn bytes<const N: usize>() -> Result<[u8; N], KeyFault> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| KeyFault::NoRandomness)?;
    Ok(bytes)
}

/// A random triple DES key of `N` bytes (16 or 24) with odd parity, different parts and no
/// weak part.
///
/// # Errors
/// If the machine gives no random bytes.
pub fn tdes_key<const N: usize>() -> Result<[u8; N], KeyFault> {
    loop {
        let mut key = bytes()?;
        set_odd_parity(&mut key);
        if is_usable_tdes_key(&key).is_ok() {
            return Ok(key);
        }
    }
}
