//! Bitmaps (ISO 8583:1987, 4.2) and sets of data elements.

use std::fmt;

use crate::encoding::{hex_digit, push_hex};
use crate::error::{FramingError, FramingErrorKind};

/// A set of data element numbers, 1 to 128.
///
/// Bit 1 is the most significant one, as on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct ElementSet(u128);

impl ElementSet {
    /// The set without members.
    pub const EMPTY: Self = Self(0);
    /// The highest number that a set can hold.
    pub const MAX: u8 = 128;

    const fn bit(element: u8) -> u128 {
        match element {
            1..=Self::MAX => 1 << (Self::MAX - element),
            _ => 0,
        }
    }

    /// Adds an element; false where its number is not 1 to 128.
    pub const fn insert(&mut self, element: u8) -> bool {
        self.0 |= Self::bit(element);
        Self::bit(element) != 0
    }

    /// Takes an element out.
    pub const fn remove(&mut self, element: u8) {
        self.0 &= !Self::bit(element);
    }

    /// True where the element is a member.
    #[must_use]
    pub const fn contains(self, element: u8) -> bool {
        self.0 & Self::bit(element) != 0
    }

    /// The elements that are in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The members with lower numbers than `element`.
    #[must_use]
    pub const fn below(self, element: u8) -> Self {
        match Self::bit(element) {
            0 => self,
            bit => Self(self.0 & !(bit | (bit - 1))),
        }
    }

    /// True without members.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many elements are members.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The highest member.
    #[must_use]
    pub fn last(self) -> Option<u8> {
        u8::try_from(self.0.trailing_zeros())
            .ok()
            .and_then(|zeros| Self::MAX.checked_sub(zeros))
            .filter(|&element| element > 0)
    }

    /// The members, lowest first.
    #[must_use]
    pub fn iter(self) -> Elements {
        let [primary, secondary] = self.words();
        Elements { primary, secondary }
    }

    /// The primary and the secondary bitmap.
    fn words(self) -> [u64; 2] {
        let word = |bits| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
        [word(self.0 >> 64), word(self.0)]
    }

    fn has_secondary(self) -> bool {
        let [_, secondary] = self.words();
        secondary != 0
    }
}

impl FromIterator<u8> for ElementSet {
    /// Numbers that are not 1 to 128 are left out.
    fn from_iter<I: IntoIterator<Item = u8>>(elements: I) -> Self {
        Self(elements.into_iter().fold(0, |bits, element| bits | Self::bit(element)))
    }
}

impl IntoIterator for ElementSet {
    type Item = u8;
    type IntoIter = Elements;

    fn into_iter(self) -> Elements {
        self.iter()
    }
}

impl fmt::Debug for ElementSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The members of an [`ElementSet`], lowest first.
#[derive(Debug, Clone)]
pub struct Elements {
    /// Elements 1 to 64 and 65 to 128: two words are walked faster than one of 128 bits.
    primary: u64,
    secondary: u64,
}

impl Iterator for Elements {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (word, first) = match self.primary {
            0 => (&mut self.secondary, 65),
            _ => (&mut self.primary, 1),
        };
        let zeros = word.leading_zeros();
        // 64 zeros leave no bit to clear: the set is used up.
        *word &= !(1_u64 << 63).checked_shr(zeros)?;
        u8::try_from(zeros).ok()?.checked_add(first)
    }
}

/// How bitmaps are written on the wire. The secondary one follows the primary one at once where
/// bit 1 of the primary one says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitmapEncoding {
    /// 16 ASCII hexadecimal digits each; read in either case, written in upper case.
    Hex,
    /// 8 bytes each.
    Raw,
}

impl BitmapEncoding {
    pub(crate) const NAMES: &str = "\"hex\" or \"raw\"";

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "hex" => Some(Self::Hex),
            "raw" => Some(Self::Raw),
            _ => None,
        }
    }

    /// Reads the bitmaps at `at` and says where they end. Element 1 is never in the set: it only
    /// says that a secondary bitmap follows.
    pub(crate) fn read(self, frame: &[u8], at: usize) -> Result<(ElementSet, usize), FramingError> {
        let (primary, at) = self.read_one(frame, at)?;
        let (secondary, at) = match primary >> 63 {
            0 => (0, at),
            _ => self.read_one(frame, at)?,
        };
        let mut set = ElementSet(u128::from(primary) << 64 | u128::from(secondary));
        set.remove(1);
        Ok((set, at))
    }

    fn read_one(self, frame: &[u8], at: usize) -> Result<(u64, usize), FramingError> {
        let rest = frame.get(at..).unwrap_or_default();
        let truncated =
            FramingError { offset: frame.len(), kind: FramingErrorKind::BitmapTruncated };
        match self {
            Self::Hex => {
                let digits = rest.first_chunk::<16>().ok_or(truncated)?;
                let bits = hex_bits(digits).map_err(|digit| FramingError {
                    offset: at + digit,
                    kind: FramingErrorKind::BitmapNotHex,
                })?;
                Ok((bits, at + 16))
            }
            Self::Raw => {
                let bytes = rest.first_chunk::<8>().ok_or(truncated)?;
                Ok((u64::from_be_bytes(*bytes), at + 8))
            }
        }
    }

    /// Writes the primary bitmap, and the secondary one where an element from 65 on is present.
    pub(crate) fn write(self, mut set: ElementSet, out: &mut Vec<u8>) {
        if set.has_secondary() {
            set.insert(1);
        } else {
            set.remove(1);
        }
        let bytes = set.0.to_be_bytes();
        let used = if set.has_secondary() { bytes.len() } else { bytes.len() / 2 };
        let used = bytes.get(..used).unwrap_or_default();
        match self {
            Self::Hex => push_hex(used, out),
            Self::Raw => out.extend_from_slice(used),
        }
    }
}

/// The value of 16 hexadecimal digits, or the index of the first that is none.
fn hex_bits(digits: &[u8; 16]) -> Result<u64, usize> {
    digits.iter().enumerate().try_fold(0_u64, |bits, (index, &digit)| {
        hex_digit(digit).map(|nibble| bits << 4 | u64::from(nibble)).ok_or(index)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_1_to_128() {
        let set: ElementSet = [128, 2, 64, 65, 0, 129, 255].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [2, 64, 65, 128]);
        assert_eq!((set.len(), set.last()), (4, Some(128)));
        assert_eq!(ElementSet::EMPTY.last(), None);
        assert_eq!(ElementSet::EMPTY.iter().next(), None);
        let mut all: ElementSet = (1..=128).collect();
        assert_eq!(all.iter().count(), 128);
        assert!(!all.insert(0) && !all.insert(129) && all.insert(128));
        all.remove(128);
        assert_eq!(all.last(), Some(127));
        assert_eq!(format!("{:?}", all.intersection(set)), "{2, 64, 65}");
        assert_eq!(format!("{:?} {:?}", set.below(65), set.below(1)), "{2, 64} {}");
    }

    #[test]
    fn the_secondary_bitmap_is_written_only_when_needed() {
        for (elements, hex) in [
            (vec![], "0000000000000000"),
            (vec![2, 64], "4000000000000001"),
            (vec![3, 65, 128], "A0000000000000008000000000000001"),
        ] {
            let set: ElementSet = elements.iter().copied().collect();
            let mut out = Vec::new();
            BitmapEncoding::Hex.write(set, &mut out);
            assert_eq!(out, hex.as_bytes());
            assert_eq!(BitmapEncoding::Hex.read(&out, 0), Ok((set, out.len())));
            let mut raw = Vec::new();
            BitmapEncoding::Raw.write(set, &mut raw);
            assert_eq!(raw.len() * 2, out.len());
            assert_eq!(BitmapEncoding::Raw.read(&raw, 0), Ok((set, raw.len())));
        }
    }

    #[test]
    fn unreadable_bitmaps_say_where() {
        let read = |text: &str| BitmapEncoding::Hex.read(text.as_bytes(), 0).unwrap_err();
        assert_eq!(read("00000000").offset, 8);
        assert_eq!(read("000000x000000000").offset, 6);
        // Bit 1 announces a secondary bitmap that is not there.
        let error = read("8000000000000000");
        assert_eq!((error.offset, error.kind), (16, FramingErrorKind::BitmapTruncated));
        assert_eq!(read("8000000000000000000000000000000g").offset, 31);
        assert_eq!(BitmapEncoding::Raw.read(&[0x80; 15], 0).unwrap_err().offset, 15);
    }
}
