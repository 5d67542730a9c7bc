//! PIN blocks: ISO 9564-1 format 0 under a double-length triple-DES zone PIN key.

use des::TdesEde2;
use des::cipher::{Array, BlockCipherEncrypt, KeyInit};

/// Fewest and most digits of a PIN.
const PIN_DIGITS: std::ops::RangeInclusive<usize> = 4..=12;

/// Digits of the PAN that take part: the twelve before the check digit.
const ACCOUNT_DIGITS: usize = 12;

/// The clear format 0 block: the exclusive-or of 0, PIN length, PIN, fill F and of four zeros,
/// the twelve rightmost digits of the PAN without its check digit. `None` where PIN or PAN has
/// another character than digits or a length that does not fit.
fn clear_block(pin: &str, pan: &str) -> Option<u64> {
    if !PIN_DIGITS.contains(&pin.len()) {
        return None;
    }
    let before_check_digit = pan.len().checked_sub(1)?;
    let account = pan.get(before_check_digit.checked_sub(ACCOUNT_DIGITS)?..before_check_digit)?;
    let pin_field = format!("0{:X}{pin:F<14}", pin.len());
    let decimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let field = |text: &str| u64::from_str_radix(text, 16).ok();
    Some(field(&pin_field)? ^ field(account)?).filter(|_| decimal(pin) && decimal(account))
}

fn encipher(block: u64, key: &[u8; 16]) -> [u8; 8] {
    let mut block = Array::from(block.to_be_bytes());
    TdesEde2::new(&Array::from(*key)).encrypt_block(&mut block);
    block.into()
}

/// A format 0 block under a key; `None` for a PIN or PAN that has none.
pub(crate) fn format_0(pin: &str, pan: &str, key: &[u8; 16]) -> Option<[u8; 8]> {
    clear_block(pin, pan).map(|block| encipher(block, key))
}

/// A block that reads as no format: its control digit is 15.
pub(crate) fn unusable(key: &[u8; 16]) -> [u8; 8] {
    encipher(u64::MAX, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 16] = 0x9BE6_1C3E_68EA_1379_1552_2616_3BAD_345E_u128.to_be_bytes();

    #[test]
    fn format_0_known_answer() {
        let block = format_0("8245", "4510225522956554", &KEY).unwrap();
        assert_eq!(u64::from_be_bytes(block), 0xBBB1_A378_AD83_25EF);
    }

    #[test]
    fn the_clear_block_is_laid_out_as_the_standard_says() {
        // Account digits 022552295655.
        assert_eq!(clear_block("8245", "4510225522956554"), Some(0x0482_47DA_ADD6_A9AA));
        assert_eq!(clear_block("123456789012", "0000000000000"), Some(0x0C12_3456_7890_12FF));
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
            assert_eq!(format_0(pin, pan, &KEY), None, "{pin} {pan}");
        }
    }
}
