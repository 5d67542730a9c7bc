//! PIN blocks in clear, inside the software HSM only: ISO 9564-1 formats 0 and 3.
//!
//! A format 0 or 3 block is the exclusive-or of two 16-nibble fields. PIN field: control (0 or
//! 3), PIN length, the PIN, fill (F for format 0; random A to F for format 3). Account field:
//! four zeros and the twelve rightmost digits of the PAN without its check digit.

use zeroize::Zeroizing;

use super::{ClearPin, PinBlock};
use crate::cards::pan::Pan;

/// A PIN block format, by its control digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinBlockFormat {
    /// Format 0: fill F, bound to the PAN.
    Iso0,
    /// Format 3: random fill A to F, bound to the PAN.
    Iso3,
}

impl PinBlockFormat {
    /// The format with this control digit.
    #[must_use]
    pub const fn from_control_digit(digit: u8) -> Option<PinBlockFormat> {
        match digit {
            0 => Some(PinBlockFormat::Iso0),
            3 => Some(PinBlockFormat::Iso3),
            _ => None,
        }
    }

    const fn allows_fill(self, nibble: u8) -> bool {
        match self {
            PinBlockFormat::Iso0 => nibble == 0xF,
            PinBlockFormat::Iso3 => nibble >= 0xA,
        }
    }

    const fn bit(self) -> u8 {
        match self {
            PinBlockFormat::Iso0 => 1,
            PinBlockFormat::Iso3 => 2,
        }
    }
}

/// The formats that a link may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinBlockFormats(u8);

impl PinBlockFormats {
    /// Exactly these formats.
    #[must_use]
    pub fn new(formats: &[PinBlockFormat]) -> PinBlockFormats {
        PinBlockFormats(formats.iter().fold(0, |bits, format| bits | format.bit()))
    }

    /// Whether a format is among them.
    #[must_use]
    pub const fn contains(self, format: PinBlockFormat) -> bool {
        self.0 & format.bit() != 0
    }
}

/// Nibbles behind control digit and length.
const PIN_AND_FILL: usize = 14;

/// The PIN in a clear block of one of these formats, or `None` if the block does not read as
/// one: another control digit, a length outside 4-12, a digit or fill out of its range.
pub(super) fn read(
    block: &[u8; PinBlock::BYTES],
    pan: &Pan,
    formats: PinBlockFormats,
) -> Option<ClearPin> {
    let field = Zeroizing::new(u64::from_be_bytes(*block) ^ account_field(pan)?);
    let format = PinBlockFormat::from_control_digit(nibble(*field, 0))?;
    let mut rest = Zeroizing::new([0; PIN_AND_FILL]);
    rest.iter_mut().zip(2..).for_each(|(to, place)| *to = nibble(*field, place));
    let (pin, fill) = rest.split_at_mut_checked(nibble(*field, 1).into())?;
    let filled = fill.iter().all(|nibble| format.allows_fill(*nibble));
    // A nibble above 9 becomes no digit, which is no PIN.
    pin.iter_mut().for_each(|nibble| *nibble += b'0');
    ClearPin::parse(pin).filter(|_| formats.contains(format) && filled)
}

/// A clear format 0 block; `None` for a PAN below 13 digits.
pub(super) fn iso0(pin: &ClearPin, pan: &Pan) -> Option<Zeroizing<[u8; PinBlock::BYTES]>> {
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

/// One of the sixteen, from the left.
fn nibble(field: u64, place: u32) -> u8 {
    u8::try_from(field >> (60 - 4 * place) & 0xF).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: PinBlockFormats = PinBlockFormats(3);

    fn pan() -> Pan {
        Pan::parse(b"4761340000000019").unwrap()
    }

    fn block(field: &str) -> [u8; 8] {
        let field = u64::from_str_radix(field, 16).unwrap();
        (field ^ account_field(&pan()).unwrap()).to_be_bytes()
    }

    #[test]
    fn format_0_there_and_back() {
        for text in ["4071", "123456789012"] {
            let pin = ClearPin::parse(text.as_bytes()).unwrap();
            let clear = iso0(&pin, &pan()).unwrap();
            assert_eq!(read(&clear, &pan(), BOTH).unwrap().digits(), text.as_bytes());
        }
        // From the definition: 044071FFFFFFFFFF xor 0000134000000001.
        let pin = ClearPin::parse(b"4071").unwrap();
        assert_eq!(hex(&*iso0(&pin, &pan()).unwrap()), "044062bffffffffe");
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn format_3_takes_fill_a_to_f() {
        assert_eq!(read(&block("344071ABCDEFABCD"), &pan(), BOTH).unwrap().digits(), b"4071");
        assert!(read(&block("3440719BCDEFABCD"), &pan(), BOTH).is_none());
    }

    #[test]
    fn what_does_not_read_is_no_pin() {
        for wrong in [
            "144071FFFFFFFFFF", // format 1
            "034071FFFFFFFFFF", // length 3
            "0D4071FFFFFFFFFF", // length 13
            "0440A1FFFFFFFFFF", // a digit above 9
            "044071FFFFFFFFFE", // fill other than F
        ] {
            assert!(read(&block(wrong), &pan(), BOTH).is_none(), "{wrong}");
        }
    }

    #[test]
    fn only_the_formats_of_the_link() {
        let only_3 = PinBlockFormats::new(&[PinBlockFormat::Iso3]);
        assert!(read(&block("044071FFFFFFFFFF"), &pan(), only_3).is_none());
        assert!(read(&block("344071AAAAAAAAAA"), &pan(), only_3).is_some());
    }
}
