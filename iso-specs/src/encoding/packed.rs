//! Packed digits ("BCD"): two digits a byte, and what the unused nibble of an odd count holds.

use crate::padding::Padded;

/// Where the unused nibble of an odd number of digits is, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnusedNibble {
    /// `left-zero`: the high half of the first byte holds 0.
    #[default]
    LeftZero,
    /// `left-f`: the high half of the first byte holds F.
    LeftF,
    /// `right-zero`: the low half of the last byte holds 0.
    RightZero,
    /// `right-f`: the low half of the last byte holds F.
    RightF,
}

impl UnusedNibble {
    pub(crate) const NAMES: &str = "\"left-zero\", \"left-f\", \"right-zero\" or \"right-f\"";

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "left-zero" => Some(Self::LeftZero),
            "left-f" => Some(Self::LeftF),
            "right-zero" => Some(Self::RightZero),
            "right-f" => Some(Self::RightF),
            _ => None,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::LeftZero => "left-zero",
            Self::LeftF => "left-f",
            Self::RightZero => "right-zero",
            Self::RightF => "right-f",
        }
    }

    const fn is_left(self) -> bool {
        matches!(self, Self::LeftZero | Self::LeftF)
    }

    /// True for F, which no digit is: only then do the bytes alone tell how many digits they hold.
    pub(crate) const fn is_f(self) -> bool {
        matches!(self, Self::LeftF | Self::RightF)
    }

    /// The nibble of the outermost byte on the side of the unused one.
    fn outermost(self, packed: &[u8]) -> Option<u8> {
        match self.is_left() {
            true => packed.first().map(|byte| byte >> 4),
            false => packed.last().map(|byte| byte & 0x0f),
        }
    }

    /// How many digits whole bytes hold, where no prefix counts digits.
    pub(crate) fn digits_in(self, packed: &[u8]) -> usize {
        let unused = self.is_f() && self.outermost(packed) == Some(0x0f);
        packed.len() * 2 - usize::from(unused)
    }
}

/// What the nibbles may be.
#[derive(Clone, Copy)]
pub(crate) enum Nibbles {
    /// 0 to 9.
    Digits,
    /// All but F, which fills up: track data, where D is the separator.
    Track,
}

impl Nibbles {
    const fn accept(self, byte: u8) -> bool {
        match self {
            Self::Digits => byte <= 0x99 && byte & 0x0f <= 9,
            Self::Track => byte < 0xf0 && byte & 0x0f != 0x0f,
        }
    }
}

/// What is wrong with packed digits.
pub(crate) enum PackedFault {
    BadDigit,
    UnusedNibble,
}

/// Checks the bytes that hold `digits` digits.
pub(crate) fn check(
    packed: &[u8],
    digits: usize,
    unused: UnusedNibble,
    nibbles: Nibbles,
) -> Result<(), PackedFault> {
    let (odd, whole) = split(packed, digits, unused);
    if let Some(byte) = odd {
        let (filler, digit) = match unused.is_left() {
            true => (byte >> 4, byte & 0x0f),
            false => (byte & 0x0f, byte >> 4),
        };
        if filler != if unused.is_f() { 0x0f } else { 0 } {
            return Err(PackedFault::UnusedNibble);
        }
        if !nibbles.accept(digit) {
            return Err(PackedFault::BadDigit);
        }
    }
    // Without an early exit: a value is nearly always right.
    match whole.iter().fold(true, |right, &byte| right & nibbles.accept(byte)) {
        true => Ok(()),
        false => Err(PackedFault::BadDigit),
    }
}

/// The byte with the unused nibble, if there is one, and those with two digits.
fn split(packed: &[u8], digits: usize, unused: UnusedNibble) -> (Option<u8>, &[u8]) {
    if digits.is_multiple_of(2) {
        return (None, packed);
    }
    let split = if unused.is_left() { packed.split_first() } else { packed.split_last() };
    split.map_or((None, packed), |(odd, whole)| (Some(*odd), whole))
}

/// Writes the characters of checked digits to `out`, which has room for exactly those. The nibble
/// D becomes `=`: both are the fourteenth of their row.
pub(crate) fn unpack(packed: &[u8], unused: UnusedNibble, out: &mut [u8]) -> Option<()> {
    let (odd, whole) = split(packed, out.len(), unused);
    let out = match odd {
        None => out,
        Some(byte) if unused.is_left() => {
            let (first, out) = out.split_first_mut()?;
            *first = character(byte);
            out
        }
        Some(byte) => {
            let (last, out) = out.split_last_mut()?;
            *last = character(byte >> 4);
            out
        }
    };
    let (pairs, _) = out.as_chunks_mut();
    for ([high, low], byte) in pairs.iter_mut().zip(whole) {
        (*high, *low) = (character(byte >> 4), character(*byte));
    }
    Some(())
}

const fn character(nibble: u8) -> u8 {
    b'0' | (nibble & 0x0f)
}

/// The nibble of a character; `D` is another way to write the separator of a track.
const fn nibble(character: u8) -> u8 {
    if character == b'D' { 0x0d } else { character & 0x0f }
}

/// Appends digits, with the zeros that fill them up.
pub(crate) fn push(value: Padded<'_>, unused: UnusedNibble, out: &mut Vec<u8>) {
    let start = out.len();
    let odd = !value.len().is_multiple_of(2);
    let zeros = value.left() + usize::from(odd && unused.is_left());
    let end = start + value.len().div_ceil(2);
    out.resize(start + zeros / 2, 0);
    let mut digits = value.content();
    if !zeros.is_multiple_of(2)
        && let Some((first, others)) = digits.split_first()
    {
        out.push(nibble(*first));
        digits = others;
    }
    let (pairs, last) = digits.as_chunks();
    out.extend(pairs.iter().map(|&[high, low]| nibble(high) << 4 | nibble(low)));
    out.extend(last.iter().map(|&last| nibble(last) << 4));
    out.resize(end, 0);
    if odd && unused.is_f() {
        let written = out.get_mut(start..).unwrap_or_default();
        let (outermost, filler) = match unused.is_left() {
            true => (written.first_mut(), 0xf0),
            false => (written.last_mut(), 0x0f),
        };
        outermost.into_iter().for_each(|byte| *byte |= filler);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::padding::Padding;

    #[test]
    fn every_side_holds_what_it_says() {
        for (name, odd, filled) in [
            ("left-zero", [0x01, 0x23], [0x00, 0x00, 0x12]),
            ("left-f", [0xf1, 0x23], [0xf0, 0x00, 0x12]),
            ("right-zero", [0x12, 0x30], [0x00, 0x01, 0x20]),
            ("right-f", [0x12, 0x3f], [0x00, 0x01, 0x2f]),
        ] {
            let unused = UnusedNibble::from_name(name).unwrap();
            let mut out = Vec::new();
            push(Padded::whole(b"123"), unused, &mut out);
            assert_eq!(out, odd, "{name}");
            let mut digits = [0; 3];
            unpack(&out, unused, &mut digits).unwrap();
            assert_eq!(&digits, b"123", "{name}");
            let mut out = Vec::new();
            push(Padding::Left(b'0').fill(b"12", 5), unused, &mut out);
            assert_eq!(out, filled, "{name}");
            assert_eq!(unused.digits_in(&odd), if unused.is_f() { 3 } else { 4 }, "{name}");
            assert_eq!(unused.digits_in(&[0x12]), 2, "{name}");
        }
    }

    #[test]
    fn zeros_fill_up_on_the_right_too() {
        for (value, units, packed) in
            [("123", 6, [0x12, 0x30, 0x00]), ("12", 5, [0x01, 0x20, 0x00]), ("1", 5, [0x01, 0, 0])]
        {
            let mut out = vec![];
            push(
                Padding::Right(b'0').fill(value.as_bytes(), units),
                UnusedNibble::LeftZero,
                &mut out,
            );
            assert_eq!(out, packed, "{value}");
        }
    }
}
