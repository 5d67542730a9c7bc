//! A PIN in every form in which it passes through this program: in clear, as a block, and as what
//! an entered PIN is compared with. None of them is ever shown.

pub mod weak;

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::key::Kcv;

/// A PIN block under a key: 8 bytes (triple DES, formats 0, 1 and 3) or 16 (AES, format 4). It is
/// never shown.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PinBlock {
    bytes: [u8; PinBlock::BYTES_MAX],
    len: u8,
}

impl PinBlock {
    /// Bytes of a PIN block of formats 0, 1 and 3.
    pub const TDES_BYTES: usize = 8;
    /// Bytes of a PIN block of format 4.
    pub const AES_BYTES: usize = 16;
    /// Bytes of the longest PIN block.
    pub const BYTES_MAX: usize = PinBlock::AES_BYTES;

    /// From the bytes of DE52: 8 or 16; anything else is `None`.
    #[must_use]
    pub fn new(block: &[u8]) -> Option<PinBlock> {
        let known = matches!(block.len(), PinBlock::TDES_BYTES | PinBlock::AES_BYTES);
        let mut bytes = [0; PinBlock::BYTES_MAX];
        bytes.get_mut(..block.len()).filter(|_| known)?.copy_from_slice(block);
        Some(PinBlock { bytes, len: u8::try_from(block.len()).ok()? })
    }

    /// The bytes, for an HSM.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Debug for PinBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinBlock(..)")
    }
}

/// A PIN that arrived in clear: 4 to 12 digits (ISO 9564-1, 8.1). It lives only until it is
/// wrapped and is wiped from memory then.
#[derive(ZeroizeOnDrop)]
pub struct ClearPin {
    digits: [u8; ClearPin::DIGITS_MAX],
    len: u8,
}

impl ClearPin {
    /// Shortest PIN.
    pub const DIGITS_MIN: usize = 4;
    /// Longest PIN.
    pub const DIGITS_MAX: usize = 12;

    /// Takes 4 to 12 ASCII digits; anything else is `None`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<ClearPin> {
        let mut pin = ClearPin { digits: [0; Self::DIGITS_MAX], len: 0 };
        pin.set(text).then_some(pin)
    }

    /// The same for a PIN that waits for something: it stays where it is put, since a move would
    /// leave a copy behind, which nobody wipes.
    #[must_use]
    pub fn parse_in_place(text: &[u8]) -> Option<Box<ClearPin>> {
        let mut pin = Box::new(ClearPin { digits: [0; Self::DIGITS_MAX], len: 0 });
        pin.set(text).then_some(pin)
    }

    fn set(&mut self, text: &[u8]) -> bool {
        let is_pin = (Self::DIGITS_MIN..=Self::DIGITS_MAX).contains(&text.len())
            && text.iter().all(u8::is_ascii_digit);
        let digits = self.digits.get_mut(..text.len()).filter(|_| is_pin);
        let (Some(digits), Ok(len)) = (digits, u8::try_from(text.len())) else { return false };
        digits.copy_from_slice(text);
        self.len = len;
        true
    }

    /// The ASCII digits, for an HSM.
    #[must_use]
    pub fn digits(&self) -> &[u8] {
        self.digits.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Debug for ClearPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClearPin(..)")
    }
}

/// A PIN as an ISO 9564-1 format 0 block under the PIN encryption key, for the script that writes
/// it to a chip. It is never shown.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct KeptPin {
    /// The block.
    pub block: [u8; PinBlock::TDES_BYTES],
    /// Check value of the key.
    #[zeroize(skip)]
    pub key: Kcv,
}

impl fmt::Debug for KeptPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptPin(..)")
    }
}

/// A PIN block format, by its control digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinBlockFormat {
    /// Format 0: fill F, bound to the PAN.
    Iso0,
    /// Format 1: any fill, not bound to a PAN.
    Iso1,
    /// Format 3: random fill A to F, bound to the PAN.
    Iso3,
    /// Format 4: AES, 16 bytes, carries the PAN.
    Iso4,
}

impl PinBlockFormat {
    /// All formats that may come over a link.
    pub const ALL: [PinBlockFormat; 4] =
        [PinBlockFormat::Iso0, PinBlockFormat::Iso1, PinBlockFormat::Iso3, PinBlockFormat::Iso4];

    /// The format with this control digit.
    #[must_use]
    pub const fn from_control_digit(digit: u8) -> Option<PinBlockFormat> {
        match digit {
            0 => Some(PinBlockFormat::Iso0),
            1 => Some(PinBlockFormat::Iso1),
            3 => Some(PinBlockFormat::Iso3),
            4 => Some(PinBlockFormat::Iso4),
            _ => None,
        }
    }

    /// Whether the block can only be read with the PAN it was made for.
    #[must_use]
    pub const fn is_bound_to_pan(self) -> bool {
        match self {
            PinBlockFormat::Iso1 => false,
            PinBlockFormat::Iso0 | PinBlockFormat::Iso3 | PinBlockFormat::Iso4 => true,
        }
    }

    pub(crate) const fn allows_fill(self, nibble: u8) -> bool {
        match self {
            PinBlockFormat::Iso0 => nibble == 0xF,
            PinBlockFormat::Iso1 => true,
            PinBlockFormat::Iso3 => nibble >= 0xA,
            PinBlockFormat::Iso4 => nibble == 0xA,
        }
    }

    const fn bit(self) -> u8 {
        match self {
            PinBlockFormat::Iso0 => 1,
            PinBlockFormat::Iso1 => 2,
            PinBlockFormat::Iso3 => 4,
            PinBlockFormat::Iso4 => 8,
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

/// Digits of a PIN verification value.
pub const PVV_DIGITS: usize = 4;
/// PIN verification key indices of Visa: 0 says that there is no PVV.
pub const PVKI: std::ops::RangeInclusive<u8> = 1..=6;

/// Four to twelve digits in little room: an offset.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digits {
    /// Two digits a byte, the first one high; F where there is none.
    packed: [u8; Digits::BYTES],
}

impl Digits {
    /// Bytes of [`Digits::to_bytes`].
    pub const BYTES: usize = ClearPin::DIGITS_MAX / 2;

    /// From values 0 to 9; `None` for fewer than four, more than twelve, or a greater value.
    pub fn new(digits: impl Iterator<Item = u8>) -> Option<Digits> {
        let mut places = [0xF; ClearPin::DIGITS_MAX];
        let mut count = 0;
        for digit in digits {
            *places.get_mut(count)? = Some(digit).filter(|digit| *digit < 10)?;
            count += 1;
        }
        let (pairs, _) = places.as_chunks::<2>();
        let mut packed = [0; Self::BYTES];
        packed.iter_mut().zip(pairs).for_each(|(byte, [high, low])| *byte = high << 4 | low);
        (count >= ClearPin::DIGITS_MIN).then_some(Digits { packed })
    }

    /// From ASCII digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Digits> {
        Digits::new(text.bytes().map(|byte| byte.wrapping_sub(b'0')))
    }

    /// Two digits a byte, filled with F.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Digits::BYTES] {
        self.packed
    }

    /// The reverse of [`Digits::to_bytes`].
    #[must_use]
    pub fn from_bytes(packed: [u8; Digits::BYTES]) -> Option<Digits> {
        let digits = packed.iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
        Digits::new(digits.take_while(|digit| *digit < 0xF)).filter(|own| own.packed == packed)
    }
}

impl fmt::Debug for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digits(..)")
    }
}

/// What an entered PIN is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PinReference {
    /// The value.
    pub value: ReferenceValue,
    /// Check value of the PEK or PVK that it was made with: under another key it says nothing.
    pub key: Kcv,
}

/// The value of a [`PinReference`]: each method has its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ReferenceValue {
    /// `translated_block`: the PIN as a format 0 block under the issuer's PIN encryption key.
    Block([u8; 8]),
    /// `visa_pvv`.
    Pvv {
        /// The value, digits 0 to 9.
        pvv: [u8; PVV_DIGITS],
        /// Key index it was made with.
        pvki: u8,
    },
    /// `ibm3624`.
    Offset {
        /// The offset, as long as the PIN.
        digits: Digits,
        /// What it was made with besides the key: see `Ibm3624::fingerprint`.
        parameters: [u8; 2],
    },
}

impl fmt::Debug for PinReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinReference(key {})", self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_keep_their_count() {
        for text in ["0000", "12345", "123456789012"] {
            let digits = Digits::parse(text).unwrap();
            assert_eq!(Digits::from_bytes(digits.to_bytes()), Some(digits));
        }
        assert_ne!(Digits::parse("0000"), Digits::parse("00000"));
        for wrong in ["", "123", "1234567890123", "12a4"] {
            assert_eq!(Digits::parse(wrong), None);
        }
        assert_eq!(Digits::from_bytes([0x12, 0x3F, 0x4F, 0xFF, 0xFF, 0xFF]), None);
    }
}
