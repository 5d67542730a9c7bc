//! Free text: what nobody reads, kept as the bytes that came, in whatever alphabet they are.

use std::borrow::Cow;

use encoding_rs::Encoding;

/// Which bytes the text of an element may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// `strict`: printable characters that the element's type has.
    Strict,
    /// `any`: every byte.
    Any,
    /// Every byte but STX (02) and ETX (03): `any` where these stand around a frame.
    AnyWithinFrame,
}

const STX: u8 = 0x02;
const ETX: u8 = 0x03;

impl Text {
    pub(crate) const NAMES: &str = "\"any\" or \"strict\"";

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "strict" => Some(Self::Strict),
            "any" => Some(Self::Any),
            _ => None,
        }
    }

    /// Whether free text may have these bytes. Of strict text its type decides.
    #[inline]
    pub(crate) fn takes(self, bytes: &[u8]) -> bool {
        match self {
            Self::Strict | Self::Any => true,
            Self::AnyWithinFrame => !bytes.iter().any(|byte| matches!(*byte, STX | ETX)),
        }
    }
}

/// A character set that has ASCII, by one of its names in the Encoding Standard of the WHATWG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alphabet(&'static Encoding);

impl Alphabet {
    pub(crate) const UTF_8: Self = Self(encoding_rs::UTF_8);
    pub(crate) const NAMES: &str = "a character set that has ASCII, by its name in the web's \
        Encoding Standard, such as \"utf-8\", \"iso-8859-1\", \"gbk\" or \"shift_jis\"";

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let known = Encoding::for_label_no_replacement(name.as_bytes());
        known.filter(|known| known.is_ascii_compatible()).map(Self)
    }

    pub(crate) fn name(self) -> &'static str {
        self.0.name()
    }

    /// The text of bytes in this alphabet; `None` where they are none.
    pub(crate) fn read(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        self.0.decode_without_bom_handling_and_without_replacement(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabets_are_known_by_their_names_and_have_ascii() {
        for (name, bytes, text) in [
            ("utf-8", &b"K\xc3\xb6ln"[..], Some("K\u{f6}ln")),
            ("utf-8", b"K\xf6ln", None),
            ("iso-8859-1", b"K\xf6ln", Some("K\u{f6}ln")),
            ("gbk", b"\xd6\xd0\xb9\xfa 1", Some("\u{4e2d}\u{56fd} 1")),
        ] {
            let alphabet = Alphabet::from_name(name).unwrap();
            assert_eq!(alphabet.read(bytes).as_deref(), text, "{name}");
        }
        for name in ["utf-16", "iso-2022-jp", "replacement", "no alphabet", ""] {
            assert_eq!(Alphabet::from_name(name), None, "{name}");
        }
    }
}
