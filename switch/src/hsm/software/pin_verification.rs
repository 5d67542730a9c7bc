//! The two methods that keep no PIN block but a value computed from the PIN: Visa PVV and IBM 3624
//! with offset.

use zeroize::Zeroizing;

use super::cipher::TdesKey;
use crate::cards::Pan;
use crate::hsm::pin_method::Ibm3624;
use crate::pin::{ClearPin, Digits, PVV_DIGITS};

/// The PIN verification value: the security parameter (eleven digits of the PAN, PVKI, the first
/// four digits of the PIN) encrypted, of which the first four decimal digits count; where there
/// are fewer, the first of the others, less ten. `None` for a PAN below 13 digits.
pub(super) fn visa_pvv(
    pvk: &TdesKey,
    pvki: u8,
    pin: &ClearPin,
    pan: &Pan,
) -> Option<[u8; PVV_DIGITS]> {
    let account: &[u8; 11] = pan.account_digits()?.last_chunk()?;
    let first_four = pin.digits().first_chunk::<PVV_DIGITS>()?;
    let pvki = pvki + b'0';
    let digits = account.iter().chain([&pvki]).chain(first_four);
    let parameter = digits.fold(0_u64, |block, digit| block << 4 | u64::from(digit - b'0'));
    let parameter = Zeroizing::new(parameter.to_be_bytes());
    let nibbles = nibbles(&pvk.encrypt(&parameter));
    let decimal = nibbles.iter().copied().filter(|nibble| *nibble < 10);
    let others = nibbles.iter().copied().filter(|nibble| *nibble >= 10).map(|nibble| nibble - 10);
    let mut pvv = [0; PVV_DIGITS];
    pvv.iter_mut().zip(decimal.chain(others)).for_each(|(to, digit)| *to = digit);
    Some(pvv)
}

/// The offset that leads from the natural PIN to this PIN, one digit for each of the PIN's: the
/// natural PIN is the start of the encrypted validation data, decimalised. `None` for a PAN that
/// is too short for the validation data.
pub(super) fn ibm3624_offset(
    pvk: &TdesKey,
    method: &Ibm3624,
    pin: &ClearPin,
    pan: &Pan,
) -> Option<Digits> {
    let encrypted = Zeroizing::new(nibbles(&pvk.encrypt(&*method.validation_data.of(pan)?)));
    let natural = encrypted.iter().map(|nibble| method.decimalisation_table.digit(*nibble));
    let offset = pin.digits().iter().zip(natural).map(|(digit, natural)| {
        let digit = digit - b'0';
        (10 + digit - natural) % 10
    });
    Digits::new(offset)
}

fn nibbles(block: &[u8; 8]) -> [u8; 16] {
    let mut nibbles = [0; 16];
    let (pairs, _) = nibbles.as_chunks_mut::<2>();
    pairs.iter_mut().zip(block).for_each(|(pair, byte)| *pair = [byte >> 4, byte & 0xF]);
    nibbles
}
