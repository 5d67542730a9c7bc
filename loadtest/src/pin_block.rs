//! PIN blocks: ISO 9564-1 format 0 under a double-length triple-DES zone PIN key.

use des::TdesEde2;
use des::cipher::{Array, BlockCipherEncrypt, KeyInit};

/// Fewest and most digits of a PIN.
const PIN_DIGITS: std::ops::RangeInclusive<usize> = 4..=12;

/// Digits of the PAN that take part: the twelve before the check digit.
const ACCOUNT_DIGITS: usize = 12;

/// Bits of a block.
const BLOCK_BITS: usize = 64;

/// The clear format 0 block: the exclusive-or of 0, PIN length, PIN, fill F and of four zeros,
/// the twelve rightmost digits of the PAN without its check digit. `None` where PIN or PAN has
/// another character than digits or a length that does not fit.
fn clear_block(pin: &[u8], pan: &[u8]) -> Option<u64> {
    if !PIN_DIGITS.contains(&pin.len()) {
        return None;
    }
    let (_, before_check_digit) = pan.split_last()?;
    let account = before_check_digit.last_chunk::<ACCOUNT_DIGITS>()?;
    // The control digit and the length take the first two of sixteen nibbles.
    let pin_bits = 8 + 4 * pin.len();
    let length = u64::try_from(pin.len()).ok()? << (BLOCK_BITS - 8);
    let pin_field = length | nibbles(pin)? << (BLOCK_BITS - pin_bits) | u64::MAX >> pin_bits;
    Some(pin_field ^ nibbles(account)?)
}

/// Up to sixteen decimal digits, a nibble each.
fn nibbles(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number << 4 | u64::from(digit - b'0'))
    })
}

/// A zone PIN key, ready to encipher.
#[derive(Clone)]
pub(crate) struct ZoneKey(TdesEde2);

impl ZoneKey {
    /// Of a double-length key.
    pub(crate) fn new(key: &[u8; 16]) -> ZoneKey {
        ZoneKey(TdesEde2::new(&Array::from(*key)))
    }

    /// The format 0 block of PIN and PAN, both ASCII digits; `None` for what has none.
    pub(crate) fn format_0(&self, pin: &[u8], pan: &[u8]) -> Option<[u8; 8]> {
        clear_block(pin, pan).map(|block| self.encipher(block))
    }

    /// A block that reads as no format: its control digit is 15.
    pub(crate) fn unusable(&self) -> [u8; 8] {
        self.encipher(u64::MAX)
    }

    fn encipher(&self, block: u64) -> [u8; 8] {
        let mut block = Array::from(block.to_be_bytes());
        self.0.encrypt_block(&mut block);
        block.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 16] = 0x9BE6_1C3E_68EA_1379_1552_2616_3BAD_345E_u128.to_be_bytes();

    #[test]
    fn format_0_known_answer() {
        let block = ZoneKey::new(&KEY).format_0(b"8245", b"4510225522956554").unwrap();
        assert_eq!(u64::from_be_bytes(block), 0xBBB1_A378_AD83_25EF);
    }

    #[test]
    fn the_clear_block_is_laid_out_as_the_standard_says() {
        // Account digits 022552295655.
        assert_eq!(clear_block(b"8245", b"4510225522956554"), Some(0x0482_47DA_ADD6_A9AA));
        assert_eq!(clear_block(b"123456789012", b"0000000000000"), Some(0x0C12_3456_7890_12FF));
    }

    #[test]
    fn what_is_no_pin_or_pan_has_no_block() {
        for (pin, pan) in [
            ("123", "4510225522956554"),
            ("1234567890123", "4510225522956554"),
            ("12A4", "4510225522956554"),
            ("1234", "451022552295"),
            ("1234", "45102255229565F4"),
            ("1234", ""),
        ] {
            assert_eq!(clear_block(pin.as_bytes(), pan.as_bytes()), None, "{pin} {pan}");
        }
    }
}
