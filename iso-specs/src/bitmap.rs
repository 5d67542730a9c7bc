//! Bitmaps (ISO 8583:1987, 4.2) and sets of data elements.

use std::fmt;

use crate::encoding::{hex_digit, push_hex};
use crate::error::{FieldErrorKind, FramingError, FramingErrorKind};

/// A set of data element numbers, 1 to 192.
///
/// One word for each bitmap; its first bit is the most significant one, as on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct ElementSet([u64; 3]);

impl ElementSet {
    /// The set without members.
    pub const EMPTY: Self = Self([0; 3]);
    /// The highest number that a set can hold.
    pub const MAX: u8 = 192;

    /// The set of one element; empty where its number is not 1 to 192.
    const fn of(element: u8) -> Self {
        match element {
            1..=64 => Self([1 << (64 - element), 0, 0]),
            65..=128 => Self([0, 1 << (128 - element), 0]),
            129..=Self::MAX => Self([0, 0, 1 << (Self::MAX - element)]),
            _ => Self::EMPTY,
        }
    }

    /// Adds an element; false where its number is not 1 to 192.
    pub const fn insert(&mut self, element: u8) -> bool {
        *self = self.union(Self::of(element));
        matches!(element, 1..=Self::MAX)
    }

    /// Takes an element out.
    pub const fn remove(&mut self, element: u8) {
        *self = self.without(Self::of(element));
    }

    /// True where the element is a member.
    #[must_use]
    pub const fn contains(self, element: u8) -> bool {
        !self.intersection(Self::of(element)).is_empty()
    }

    /// The elements that are in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        let (Self([a, b, c]), Self([x, y, z])) = (self, other);
        Self([a & x, b & y, c & z])
    }

    /// The elements that are in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        let (Self([a, b, c]), Self([x, y, z])) = (self, other);
        Self([a | x, b | y, c | z])
    }

    /// The elements of this set that are not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        let (Self([a, b, c]), Self([x, y, z])) = (self, other);
        Self([a & !x, b & !y, c & !z])
    }

    /// The members with lower numbers than `element`.
    #[must_use]
    pub const fn below(self, element: u8) -> Self {
        let Self([a, b, c]) = self;
        match element {
            0 => Self::EMPTY,
            1..=64 => Self([a & !(u64::MAX >> (element - 1)), 0, 0]),
            65..=128 => Self([a, b & !(u64::MAX >> (element - 65)), 0]),
            129..=Self::MAX => Self([a, b, c & !(u64::MAX >> (element - 129))]),
            _ => self,
        }
    }

    /// True without members.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        let Self([a, b, c]) = self;
        a | b | c == 0
    }

    /// How many elements are members.
    #[must_use]
    pub const fn len(self) -> usize {
        let Self([a, b, c]) = self;
        (a.count_ones() + b.count_ones() + c.count_ones()) as usize
    }

    /// The highest member.
    #[must_use]
    pub fn last(self) -> Option<u8> {
        let Self([a, b, c]) = self;
        let (word, end) = match (a, b, c) {
            (0, 0, 0) => return None,
            (_, 0, 0) => (a, 64),
            (_, _, 0) => (b, 128),
            _ => (c, Self::MAX),
        };
        u8::try_from(word.trailing_zeros()).ok().and_then(|zeros| end.checked_sub(zeros))
    }

    /// The members, lowest first.
    #[must_use]
    pub const fn iter(self) -> Elements {
        let Self([word, second, third]) = self;
        Elements { word, first: 1, later: [second, third] }
    }
}

impl FromIterator<u8> for ElementSet {
    /// Numbers that are not 1 to 192 are left out.
    fn from_iter<I: IntoIterator<Item = u8>>(elements: I) -> Self {
        elements.into_iter().fold(Self::EMPTY, |set, element| set.union(Self::of(element)))
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
    /// What is left of the word that the walk is in.
    word: u64,
    /// The number of its first bit.
    first: u8,
    later: [u64; 2],
}

impl Elements {
    /// Goes on with the members above 128 of another set, once the walk is above 64.
    pub(crate) const fn follow_with(&mut self, set: ElementSet) {
        let ElementSet([_, _, third]) = set;
        self.later = [third, 0];
    }
}

impl Iterator for Elements {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        while self.word == 0 {
            let [next, last] = self.later;
            if next | last == 0 {
                return None;
            }
            (self.word, self.later) = (next, [last, 0]);
            self.first += 64;
        }
        let zeros = self.word.leading_zeros();
        self.word &= !((1 << 63) >> zeros);
        Some(u8::try_from(zeros).unwrap_or_default() + self.first)
    }
}

/// A value for each element. Those above 128 are rare: their room is made only when the first is
/// set, since clearing it would cost every message more than reading an element does.
#[derive(Clone)]
pub(crate) struct PerElement<T> {
    /// Index is the element's number.
    low: [T; 129],
    high: Option<[T; 64]>,
    empty: T,
}

impl<T: Copy> PerElement<T> {
    pub(crate) const fn new(empty: T) -> Self {
        Self { low: [empty; 129], high: None, empty }
    }

    #[inline]
    pub(crate) fn get(&self, element: u8) -> Option<T> {
        match self.low.get(usize::from(element)) {
            Some(value) => Some(*value),
            None => self.get_high(element),
        }
    }

    #[cold]
    fn get_high(&self, element: u8) -> Option<T> {
        self.high.as_ref()?.get(usize::from(element) - self.low.len()).copied()
    }

    /// Nothing happens where the number is above 192.
    #[inline]
    pub(crate) fn set(&mut self, element: u8, value: T) {
        if let Some(slot) = self.low.get_mut(usize::from(element)) {
            *slot = value;
            return;
        }
        self.set_high(element, value);
    }

    #[cold]
    fn set_high(&mut self, element: u8, value: T) {
        let index = usize::from(element) - self.low.len();
        let high = self.high.get_or_insert([self.empty; 64]);
        high.get_mut(index).into_iter().for_each(|slot| *slot = value);
    }
}

/// How a bitmap is written on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitmapEncoding {
    /// 16 ASCII hexadecimal digits; read in either case, written in upper case.
    Hex,
    /// 8 bytes.
    Raw,
}

/// Where the bitmap of elements 129 to 192 stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThirdBitmap {
    /// `none`: elements end with 128, and 65 is an element as any other.
    None,
    /// `leading`: behind the secondary one, before element 2, where bit 65 says so.
    Leading,
    /// `element-65`: in the place of element 65.
    Element65,
}

impl ThirdBitmap {
    pub(crate) const NAMES: &str = "\"none\", \"leading\" or \"element-65\"";

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "leading" => Some(Self::Leading),
            "element-65" => Some(Self::Element65),
            _ => None,
        }
    }
}

impl BitmapEncoding {
    pub(crate) const NAMES: &str = "\"hex\" or \"raw\": bitmaps of hexadecimal digits are ASCII, \
        those of EBCDIC digits are not served";

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "hex" => Some(Self::Hex),
            "raw" => Some(Self::Raw),
            _ => None,
        }
    }

    /// Reads a bitmap at `at` and says where it ends.
    fn read(self, frame: &[u8], at: usize) -> Result<(u64, usize), FramingError> {
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

    fn write(self, bits: u64, out: &mut Vec<u8>) {
        match self {
            Self::Hex => push_hex(&bits.to_be_bytes(), out),
            Self::Raw => out.extend_from_slice(&bits.to_be_bytes()),
        }
    }
}

/// The first bit of a bitmap: another one follows.
const FOLLOWED: u64 = 1 << 63;

/// The bitmaps of a dialect. The secondary one follows the primary one at once where bit 1 says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bitmaps {
    pub(crate) encoding: BitmapEncoding,
    pub(crate) third: ThirdBitmap,
}

impl Bitmaps {
    /// The element in whose place the third bitmap stands.
    pub(crate) const THIRD_PLACE: u8 = 65;

    /// Reads the bitmaps at `at`, before element 2, and says where they end. The set has no element
    /// that only says that another bitmap follows there.
    pub(crate) fn read(self, frame: &[u8], at: usize) -> Result<(ElementSet, usize), FramingError> {
        let (primary, at) = self.encoding.read(frame, at)?;
        if primary & FOLLOWED == 0 {
            return Ok((ElementSet([primary, 0, 0]), at));
        }
        let primary = primary & !FOLLOWED;
        let (secondary, at) = self.encoding.read(frame, at)?;
        if self.third != ThirdBitmap::Leading || secondary & FOLLOWED == 0 {
            return Ok((ElementSet([primary, secondary, 0]), at));
        }
        let (third, at) = self.encoding.read(frame, at)?;
        Ok((ElementSet([primary, secondary & !FOLLOWED, third]), at))
    }

    /// Reads the third bitmap in the place of element 65, and says how many bytes it took.
    pub(crate) fn read_third(self, rest: &[u8]) -> Result<(ElementSet, usize), FieldErrorKind> {
        if self.third != ThirdBitmap::Element65 {
            return Err(FieldErrorKind::NotDefined);
        }
        let (third, len) = self.encoding.read(rest, 0).map_err(|error| match error.kind {
            FramingErrorKind::BitmapTruncated => FieldErrorKind::Truncated,
            _ => FieldErrorKind::BadBitmap,
        })?;
        Ok((ElementSet([0, 0, third]), len))
    }

    /// Writes the bitmaps before element 2: a secondary one where an element from 65 on is present,
    /// a third one where one from 129 on is.
    pub(crate) fn write(self, set: ElementSet, out: &mut Vec<u8>) {
        let ElementSet([primary, mut secondary, third]) = set;
        let has_third = third != 0 && self.third != ThirdBitmap::None;
        if has_third {
            secondary |= FOLLOWED;
        }
        if secondary == 0 {
            return self.encoding.write(primary & !FOLLOWED, out);
        }
        self.encoding.write(primary | FOLLOWED, out);
        self.encoding.write(secondary, out);
        if has_third && self.third == ThirdBitmap::Leading {
            self.encoding.write(third, out);
        }
    }

    /// Everything that stands behind those bitmaps: the elements, and perhaps the third bitmap.
    pub(crate) fn places(self, mut set: ElementSet) -> ElementSet {
        let ElementSet([_, _, third]) = set;
        if third != 0 && self.third == ThirdBitmap::Element65 {
            set.insert(Self::THIRD_PLACE);
        }
        set
    }

    /// Writes the third bitmap in the place of element 65.
    pub(crate) fn write_third(self, set: ElementSet, out: &mut Vec<u8>) {
        let ElementSet([_, _, third]) = set;
        self.encoding.write(third, out);
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

    const TWO: ThirdBitmap = ThirdBitmap::None;

    #[test]
    fn a_set_holds_1_to_192() {
        let set: ElementSet = [192, 128, 2, 64, 65, 129, 0, 193, 255].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [2, 64, 65, 128, 129, 192]);
        assert_eq!((set.len(), set.last()), (6, Some(192)));
        assert_eq!(ElementSet::EMPTY.last(), None);
        assert_eq!(ElementSet::EMPTY.iter().next(), None);
        let mut all: ElementSet = (1..=192).collect();
        assert_eq!(all.iter().collect::<Vec<_>>(), (1..=192).collect::<Vec<_>>());
        assert!(!all.insert(0) && !all.insert(193) && all.insert(192));
        for last in (1..=191).rev() {
            assert_eq!(all.below(last + 1).last(), Some(last));
            all.remove(last + 1);
            assert_eq!(all.last(), Some(last));
            assert!(all.contains(last) && !all.contains(last + 1));
        }
        assert_eq!(format!("{:?}", all.union(set).intersection(set)), "{2, 64, 65, 128, 129, 192}");
        assert_eq!(
            format!("{:?} {:?} {:?}", set.below(65), set.below(1), set.below(0)),
            "{2, 64} {} {}"
        );
        assert_eq!(set.below(193), set);
        let far: ElementSet = [129].into_iter().collect();
        assert_eq!(far.iter().collect::<Vec<_>>(), [129]);
    }

    #[test]
    fn bitmaps_are_written_only_when_needed() {
        use ThirdBitmap::{Element65, Leading};
        for (third, elements, hex) in [
            (TWO, vec![], "0000000000000000"),
            (TWO, vec![2, 64], "4000000000000001"),
            (TWO, vec![3, 65, 128], "A0000000000000008000000000000001"),
            (Leading, vec![2, 64], "4000000000000001"),
            (Leading, vec![3, 66], "A0000000000000004000000000000000"),
            (Leading, vec![3, 130], "A00000000000000080000000000000004000000000000000"),
            (Leading, vec![128, 129, 192], "800000000000000080000000000000018000000000000001"),
            (Element65, vec![3, 66], "A0000000000000004000000000000000"),
        ] {
            let set: ElementSet = elements.iter().copied().collect();
            let mut out = Vec::new();
            let bitmaps = Bitmaps { encoding: BitmapEncoding::Hex, third };
            bitmaps.write(set, &mut out);
            assert_eq!(out, hex.as_bytes());
            assert_eq!(bitmaps.read(&out, 0), Ok((set, out.len())));
            let mut raw = Vec::new();
            let bitmaps = Bitmaps { encoding: BitmapEncoding::Raw, third };
            bitmaps.write(set, &mut raw);
            assert_eq!(raw.len() * 2, out.len());
            assert_eq!(bitmaps.read(&raw, 0), Ok((set, raw.len())));
        }
    }

    #[test]
    fn the_third_bitmap_may_stand_for_element_65() {
        let bitmaps = Bitmaps { encoding: BitmapEncoding::Raw, third: ThirdBitmap::Element65 };
        let set: ElementSet = [2, 130].into_iter().collect();
        let mut out = Vec::new();
        bitmaps.write(set, &mut out);
        assert_eq!(out, [0xc0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        let (read, _) = bitmaps.read(&out, 0).unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), [2, 65]);
        assert_eq!(bitmaps.places(set).iter().collect::<Vec<_>>(), [2, 65, 130]);
        let mut out = Vec::new();
        bitmaps.write_third(set, &mut out);
        assert_eq!(bitmaps.read_third(&out), Ok(([130].into_iter().collect(), 8)));
        assert_eq!(bitmaps.read_third(&[0; 7]), Err(FieldErrorKind::Truncated));
        let hex = Bitmaps { encoding: BitmapEncoding::Hex, ..bitmaps };
        assert_eq!(hex.read_third(b"4000000000000x00"), Err(FieldErrorKind::BadBitmap));
        let two = Bitmaps { third: TWO, ..bitmaps };
        assert_eq!(two.read_third(&out), Err(FieldErrorKind::NotDefined));
    }

    #[test]
    fn unreadable_bitmaps_say_where() {
        let bitmaps = Bitmaps { encoding: BitmapEncoding::Hex, third: ThirdBitmap::Leading };
        let read = |text: &str| bitmaps.read(text.as_bytes(), 0).unwrap_err();
        assert_eq!(read("00000000").offset, 8);
        assert_eq!(read("000000x000000000").offset, 6);
        // Bit 1 announces a secondary bitmap that is not there.
        let error = read("8000000000000000");
        assert_eq!((error.offset, error.kind), (16, FramingErrorKind::BitmapTruncated));
        assert_eq!(read("8000000000000000000000000000000g").offset, 31);
        // Bit 65 announces a third one.
        let error = read("80000000000000008000000000000000");
        assert_eq!((error.offset, error.kind), (32, FramingErrorKind::BitmapTruncated));
        let raw = Bitmaps { encoding: BitmapEncoding::Raw, ..bitmaps };
        assert_eq!(raw.read(&[0x80; 15], 0).unwrap_err().offset, 15);
    }
}
