//! How a fixed-length element is filled up when it is written (ISO 8583:1987, 4.3.2: numbers to
//! the right behind zeros, text to the left before spaces).
//!
//! A value that is read keeps its padding: what the sender wrote is what an echo must return.

/// What fills up a value that is shorter than its fixed length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// Nothing: the value must have the full length.
    None,
    /// This character, before the value.
    Left(u8),
    /// This character, after the value.
    Right(u8),
    /// Spaces, after the value where it is written and on either side where it is read.
    EitherSpace,
}

impl Padding {
    pub(crate) const NAMES: &str = "\"none\", \"left-zero\", \"left-space\", \"right-zero\", \
        \"right-space\" or \"either-space\"";

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "left-zero" => Some(Self::Left(b'0')),
            "left-space" => Some(Self::Left(b' ')),
            "right-zero" => Some(Self::Right(b'0')),
            "right-space" => Some(Self::Right(b' ')),
            "either-space" => Some(Self::EitherSpace),
            _ => None,
        }
    }

    /// The character that fills up.
    #[must_use]
    pub const fn character(self) -> Option<u8> {
        match self {
            Self::None => None,
            Self::Left(with) | Self::Right(with) => Some(with),
            Self::EitherSpace => Some(b' '),
        }
    }

    /// A value without the spaces that fill it up; `space` is what one is on the wire.
    pub(crate) fn strip_spaces(self, value: &[u8], space: u8) -> &[u8] {
        let is_text = |byte: &u8| *byte != space;
        let (left, right) = match self {
            Self::Left(b' ') => (true, false),
            Self::Right(b' ') => (false, true),
            Self::EitherSpace => (true, true),
            _ => return value,
        };
        let end = match right {
            true => value.iter().rposition(is_text).map_or(0, |last| last + 1),
            false => value.len(),
        };
        let value = value.get(..end).unwrap_or_default();
        let start = match left {
            true => value.iter().position(is_text).unwrap_or(value.len()),
            false => 0,
        };
        value.get(start..).unwrap_or_default()
    }

    /// The value filled up to `units` characters; a longer one stays as it is.
    pub(crate) fn fill(self, value: &[u8], units: usize) -> Padded<'_> {
        let missing = units.saturating_sub(value.len());
        match self {
            Self::None => Padded::whole(value),
            Self::Left(with) => Padded { value, with, left: missing, right: 0 },
            Self::Right(with) => Padded { value, with, left: 0, right: missing },
            Self::EitherSpace => Padded { value, with: b' ', left: 0, right: missing },
        }
    }
}

/// A canonical value with what fills it up on either side.
#[derive(Clone, Copy)]
pub(crate) struct Padded<'a> {
    value: &'a [u8],
    with: u8,
    left: usize,
    right: usize,
}

impl<'a> Padded<'a> {
    pub(crate) const fn whole(value: &'a [u8]) -> Self {
        Self { value, with: 0, left: 0, right: 0 }
    }

    pub(crate) const fn content(self) -> &'a [u8] {
        self.value
    }

    /// Characters in all, with those that fill up.
    pub(crate) const fn len(self) -> usize {
        self.left + self.value.len() + self.right
    }

    /// Characters that fill up before the value.
    pub(crate) const fn left(self) -> usize {
        self.left
    }

    /// Appends the value and what fills it up, as they are.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        if self.left > 0 {
            out.resize(out.len() + self.left, self.with);
        }
        out.extend_from_slice(self.value);
        if self.right > 0 {
            out.resize(out.len() + self.right, self.with);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(padding: &str, value: &str) -> String {
        let mut out = Vec::new();
        Padding::from_name(padding).unwrap().fill(value.as_bytes(), 5).write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn either_side_is_filled() {
        assert_eq!(filled("left-zero", "12"), "00012");
        assert_eq!(filled("right-space", "ab"), "ab   ");
        assert_eq!(filled("either-space", "ab"), "ab   ");
        assert_eq!(filled("none", "ab"), "ab");
        assert_eq!(filled("left-space", "longer"), "longer");
    }

    #[test]
    fn either_side_is_stripped() {
        let strip =
            |padding: &str, value| Padding::from_name(padding).unwrap().strip_spaces(value, b' ');
        assert_eq!(strip("right-space", b" ab  "), b" ab");
        assert_eq!(strip("left-space", b" ab  "), b"ab  ");
        assert_eq!(strip("either-space", b" a b  "), b"a b");
        assert_eq!(strip("right-space", b"   "), b"");
        assert_eq!(strip("either-space", b"   "), b"");
        assert_eq!(strip("left-space", b"   "), b"");
        assert_eq!(strip("none", b"  "), b"  ");
        assert_eq!(strip("left-zero", b"001 "), b"001 ", "zeros are digits");
        assert_eq!(Padding::Right(b' ').strip_spaces(&[0xc1, 0x40], 0x40), [0xc1]);
    }
}
