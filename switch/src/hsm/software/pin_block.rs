//! PIN blocks in clear, inside the software HSM only: ISO 9564-1 formats 0, 1, 3 and 4.
//!
//! Formats 0, 1 and 3 have sixteen nibbles: control digit (the format), PIN length, the PIN,
//! fill. Format 0 fills with F, format 3 with random A to F; both are then combined by
//! exclusive-or with the account field: four zeros and the twelve rightmost digits of the PAN
//! without its check digit. Format 1 fills with anything and knows no PAN.
//!
//! Format 4 has two fields of 16 bytes. PIN field: control 4, PIN length, the PIN, fill A to the
//! eighth byte, eight random bytes. PAN field: PAN length less 12, the PAN, zeros. The PIN field
//! is encrypted, combined with the PAN field and encrypted again, under AES.

use zeroize::Zeroizing;

use super::cipher::AesKey;
use crate::cards::pan::{PAN_DIGITS_MIN, Pan};
use crate::pin::{ClearPin, PinBlockFormat, PinBlockFormats};

/// Nibbles behind control digit and length.
const PIN_AND_FILL: usize = 14;

/// The PIN in a clear block of format 0, 1 or 3, or `None` if the block does not read as one:
/// another control digit, a length outside 4-12, a digit or fill out of its range.
pub(super) fn read(
    block: &[u8; 8],
    pan: &Pan,
    formats: PinBlockFormats,
) -> Option<(ClearPin, PinBlockFormat)> {
    let block = Zeroizing::new(u64::from_be_bytes(*block));
    // The account field leaves the control digit as it is.
    let format = PinBlockFormat::from_control_digit(nibble(*block, 0))
        .filter(|format| *format != PinBlockFormat::Iso4 && formats.contains(*format))?;
    let field = match format.is_bound_to_pan() {
        true => Zeroizing::new(*block ^ account_field(pan)?),
        false => block,
    };
    read_pin_field(*field, format).map(|pin| (pin, format))
}

/// The PIN in a block of format 4; `None` if it does not read as one, or was made for another PAN.
pub(super) fn read_iso4(key: &AesKey, block: &[u8; 16], pan: &Pan) -> Option<ClearPin> {
    let mut field = key.decrypt(block);
    field.iter_mut().zip(pan_field(pan)?).for_each(|(byte, with)| *byte ^= with);
    let field = key.decrypt(&field);
    let field = Zeroizing::new(u64::from_be_bytes(*field.first_chunk()?));
    let format = PinBlockFormat::Iso4;
    let is_format_4 = PinBlockFormat::from_control_digit(nibble(*field, 0)) == Some(format);
    if is_format_4 { read_pin_field(*field, format) } else { None }
}

fn read_pin_field(field: u64, format: PinBlockFormat) -> Option<ClearPin> {
    let mut rest = Zeroizing::new([0; PIN_AND_FILL]);
    rest.iter_mut().zip(2..).for_each(|(to, place)| *to = nibble(field, place));
    let (pin, fill) = rest.split_at_mut_checked(nibble(field, 1).into())?;
    let filled = fill.iter().all(|nibble| format.allows_fill(*nibble));
    // A nibble above 9 becomes no digit, which is no PIN.
    pin.iter_mut().for_each(|nibble| *nibble += b'0');
    ClearPin::parse(pin).filter(|_| filled)
}

/// A clear format 0 block; `None` for a PAN below 13 digits.
pub(super) fn iso0(pin: &ClearPin, pan: &Pan) -> Option<Zeroizing<[u8; 8]>> {
    let digits = pin.digits();
    let fill = [b'0' + 0xF; PIN_AND_FILL];
    let content = digits.iter().chain(&fill).take(PIN_AND_FILL);
    let length = u64::try_from(digits.len()).ok()?;
    let field = content.fold(length, |field, digit| field << 4 | u64::from(digit - b'0'));
    Some(Zeroizing::new((field ^ account_field(pan)?).to_be_bytes()))
}

fn account_field(pan: &Pan) -> Option<u64> {
    let digits = pan.account_digits()?;
    Some(digits.iter().fold(0, |field, digit| field << 4 | u64::from(digit - b'0')))
}

/// The PAN field of format 4. Shorter PANs than 13 digits, which the standard fills with zeros
/// before them, are no card's here.
fn pan_field(pan: &Pan) -> Option<[u8; 16]> {
    let digits = pan.digits();
    let length = digits.len().checked_sub(PAN_DIGITS_MIN - 1).filter(|length| *length > 0)?;
    let field = digits
        .iter()
        .chain(&[b'0'; 31])
        .take(31)
        .fold(u128::try_from(length).ok()?, |field, digit| field << 4 | u128::from(digit - b'0'));
    Some(field.to_be_bytes())
}

/// One of the sixteen, from the left.
fn nibble(field: u64, place: u32) -> u8 {
    u8::try_from(field >> (60 - 4 * place) & 0xF).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> PinBlockFormats {
        PinBlockFormats::new(&PinBlockFormat::ALL)
    }

    fn pan() -> Pan {
        Pan::parse(b"4761340000000019").unwrap()
    }

    fn block(field: &str) -> [u8; 8] {
        let field = u64::from_str_radix(field, 16).unwrap();
        (field ^ account_field(&pan()).unwrap()).to_be_bytes()
    }

    fn digits(read: Option<(ClearPin, PinBlockFormat)>) -> Option<String> {
        read.map(|(pin, _)| String::from_utf8(pin.digits().to_vec()).unwrap())
    }

    #[test]
    fn format_0_there_and_back() {
        for text in ["4071", "123456789012"] {
            let pin = ClearPin::parse(text.as_bytes()).unwrap();
            let clear = iso0(&pin, &pan()).unwrap();
            assert_eq!(digits(read(&clear, &pan(), all())).unwrap(), text);
        }
        // From the definition: 044071FFFFFFFFFF xor 0000134000000001.
        let pin = ClearPin::parse(b"4071").unwrap();
        assert_eq!(u64::from_be_bytes(*iso0(&pin, &pan()).unwrap()), 0x0440_62BF_FFFF_FFFE);
    }

    #[test]
    fn format_3_takes_fill_a_to_f() {
        assert_eq!(digits(read(&block("344071ABCDEFABCD"), &pan(), all())).unwrap(), "4071");
        assert!(read(&block("3440719BCDEFABCD"), &pan(), all()).is_none());
    }

    #[test]
    fn format_1_takes_any_fill_and_knows_no_pan() {
        let clear = 0x1440_7101_23AB_CDEF_u64.to_be_bytes();
        for pan in [pan(), Pan::parse(b"5413330000000019").unwrap()] {
            assert_eq!(digits(read(&clear, &pan, all())).unwrap(), "4071");
        }
        assert!(read(&0x1440_A1FF_FFFF_FFFF_u64.to_be_bytes(), &pan(), all()).is_none());
        assert!(read(&0x1340_71FF_FFFF_FFFF_u64.to_be_bytes(), &pan(), all()).is_none());
    }

    #[test]
    fn what_does_not_read_is_no_pin() {
        for wrong in [
            "244071FFFFFFFFFF", // format 2 is for the chip only
            "444071AAAAAAAAAA", // format 4 has 16 bytes
            "034071FFFFFFFFFF", // length 3
            "0D4071FFFFFFFFFF", // length 13
            "0440A1FFFFFFFFFF", // a digit above 9
            "044071FFFFFFFFFE", // fill other than F
        ] {
            assert!(read(&block(wrong), &pan(), all()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn only_the_formats_of_the_link() {
        let only_3 = PinBlockFormats::new(&[PinBlockFormat::Iso3]);
        assert!(read(&block("044071FFFFFFFFFF"), &pan(), only_3).is_none());
        assert!(read(&block("344071AAAAAAAAAA"), &pan(), only_3).is_some());
    }
}
