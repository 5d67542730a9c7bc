//! A dialect: what one network's messages look like, read from a TOML file.
//!
//! ```toml
//! name = "my-network"
//! description = "What my network speaks"   # for people who read the file
//! mti = "ascii"                    # ascii, ebcdic or bcd
//! bitmap = "hex"                   # hex or raw
//! third_bitmap = "none"            # optional: none, leading or element-65
//! length_prefix = "ascii"          # ascii, ebcdic, bcd or binary, unless an element says its own
//! prefix_counts = "digits"         # optional: digits or bytes, unless an element says its own
//! unused_nibble = "left-zero"      # optional: for all bcd, unless an element says its own
//! response_code_column = "1987"    # 1987, 1993 or 2003: which codes DE39 speaks
//! reason_code_field = 44           # optional: where declines carry the reason; see below
//! chip_response_code = false       # optional: whether DE55 of an answer has 8A too
//!
//! [response_codes]                 # optional: reasons that this network codes differently
//! "1872" = "38"
//!
//! [pin_change]                     # optional: a PIN that is set at a terminal; see below
//! transaction_type = "92"
//! new_pin_block = 63
//!
//! [echo]                           # elements that an answer returns
//! default = [2, 3, 4, 7, 11]
//! network_management = [7, 11, 41, 70]
//!
//! [elements]                       # one line per data element
//! 2 = {name = "PAN", type = "n", length = "LL", max = 19, encoding = "ascii", sensitivity = "pan"}
//! ```
//!
//! Values are checked, on the wire and before they are written: a character that the type does not
//! have is a format error. Apart from that stands free text, types `ans`, `as` and `ns`: names,
//! places and private data that come in every alphabet, filled with anything, and that nobody
//! reads. It may be any bytes, which are kept, and returned, as they came. An element can say
//! otherwise with `text`: `strict` makes every byte that is not printable ASCII, 0x20 to 0x7e (or
//! the EBCDIC of it), a format error, and `any` makes free text of types `a` and `an`.
//!
//! `reason_code_field` is for declines, where it holds four digits. It must not be echoed, be 38 or
//! 39, or be never echoed. Format errors are apart: whatever `reason_code_field` says, DE44 of
//! their answers holds the three-digit number of the element that is wrong.
//!
//! `pin_change` says which first two digits of DE3 ask for another PIN, and where the new PIN
//! stands: as a block like that of DE52, in hexadecimal digits or, in an element of type `b`, raw.
//! The standard has no place for either (ISO 8583:1987 leaves the types 50 to 99 to the networks).
//! The element is `secret` and not echoed. Without `pin_change` no message is such a request.
//!
//! `echo` lists what answers return as it came. Never echoed are 35, 36 and 45 (tracks), 52 and 53
//! (PIN), 55 (chip data), 64, 96 and 128 (MACs and keys), and no element in `hex`, since its
//! letters may come in lower case and are written in upper case.
//!
//! Elements are numbered 2 to 128, and to 192 with a third bitmap. It stands `leading`, behind the
//! secondary one where bit 65 says so, or in the place of `element-65` (ISO 8583:1987, "bitmap,
//! extended"). In both cases 65 is no element. Without it (`none`, the default) it may be one.
//!
//! Keys of an element:
//!
//! - `type`: `n`, `a`, `an`, `ans`, `as`, `ns`, `a or n`, `x+n`, `z` or `b`.
//! - `length`: `fixed`, or a prefix: `L`, `LL`, `LLL`, `LLLL`.
//! - `max`: greatest length in characters, for type `b` in bytes; for `fixed` the length. The sign
//!   of `x+n` is a character.
//! - `min` (optional, only with a prefix): least length; 1 unless said.
//! - `encoding`: of the content. Text is `ascii`, `ebcdic-037` or `ebcdic-1047`, type `b` is `hex`
//!   or `raw`. `bcd`, two digits a byte, is for `n`, for `z` (nibble D is `=`), and for `x+n` (one
//!   byte for the sign, then the digits).
//! - `sign` (optional, only `x+n` in `bcd`): `ascii` (the default) or `ebcdic`.
//! - `unused_nibble` (optional, only `bcd`): where half a byte is left over beside an odd number
//!   of digits, and what it holds: `left-zero` (the default), `left-f`, `right-zero`, `right-f`.
//!   What the head of the file says holds for elements of fixed length too; an element's own key
//!   stands above it.
//! - `prefix` (optional): encoding of this element's length prefix. In `ascii` and `ebcdic` it has
//!   a character for each L. In `bcd`, `L` and `LL` are one byte, `LLL` and `LLLL` two. In
//!   `binary`, `L` is one byte (to 255) and `LL` two, the most significant first; there are no
//!   longer ones.
//! - `prefix_counts` (optional, only `bcd` and `hex` with a prefix): `digits` (the default), or
//!   `bytes`, each of two digits. What counts the bytes of `bcd` needs an unused nibble of F: the
//!   number of digits is known from nothing else. Of other encodings the prefix counts characters
//!   or bytes, which are the same; with a `wrapper` its bytes too.
//! - `wrapper` (optional, only `raw` with a prefix), such as `{id = "01", length = 2}`: before the
//!   value stand the bytes of an id and the value's length in 1 or 2 bytes, the most significant
//!   first. Exactly one such data set is read and written; `max` counts what is inside.
//! - `padding` (optional, only `fixed`): `none`, `left-zero`, `right-space`, `left-space`,
//!   `right-zero`, or `either-space`, where spaces are read on either side and written behind. What
//!   fills up is a part of the value: it is returned where it stood.
//! - `text` (optional, only `a`, `an`, `as`, `ns`, `ans`): `any` or `strict`, see above. On a link
//!   whose frames end with ETX, free text has neither STX (02) nor ETX (03).
//! - `alphabet` (optional, only text `any` in `ascii`): what `pinswitch decode` takes public text
//!   for, `iso-8859-1`, `gbk` or any other name that the web's Encoding Standard has for a
//!   character set with ASCII in it. Without it, UTF-8 where it is that.
//! - `absent` (optional, not for type `b`): a value that stands for none, such as `0000` of a date.
//!   An element that holds it counts as if the bitmap did not announce it, and is not returned.
//! - `pattern` (optional, only `fixed` digits): date or time parts `CC YY MM DD hh mm ss`.
//! - `chip_tag` (optional, only `b` and `n`), such as `"9F26"`: in place of DE55 the element holds
//!   the value of this tag, its digits packed. A request without DE55 that has 9F26 or 9F5B so is
//!   read as if all of it came in DE55. What an answer says to the chip goes back in the elements
//!   of `"91"`, of `"scripts"` (the templates 71 and 72, whole) and of `"8A"`, each of type `b`.
//!   The first two must be there where any element has this key.
//! - `sensitivity`: what logs and `pinswitch decode` show of the value. `public`: all of it. `pan`
//!   (only text): the first six and last four digits. `track` and `secret`: only the length. `chip`
//!   (only `b`): BER-TLV, the values of tags that are known to be harmless, and of all others the
//!   length. Of a message with a fault, whose elements may be shifted, logs show lengths only, and
//!   `pinswitch decode` what is public before the fault and looks like no part of a PAN.
//!   2 and 34 must be `pan` or `secret`; 35, 36 and 45 `track` or `secret`; 55 `chip` or
//!   `secret`; 52, 53, 64, 96 and 128 `secret`.

mod element;
mod file;

use std::fmt;

use crate::bitmap::{BitmapEncoding, Bitmaps, ElementSet};
use crate::data_element::{ChipTag, DataElement};
use crate::error::SpecErrors;
use crate::mti::{Mti, MtiEncoding};
use crate::text::Text;

/// The dialects that ship with the crate, by name.
const BUILTIN: [(&str, &str); 2] = [
    ("iso8583-1987-ascii", include_str!("../specs/iso8583-1987-ascii.toml")),
    ("iso8583-1987-binary", include_str!("../specs/iso8583-1987-binary.toml")),
];

/// Which family of codes DE39 speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResponseCodeColumn {
    /// ISO 8583:1987, two characters.
    Y1987,
    /// ISO 8583:1993, three digits.
    Y1993,
    /// ISO 8583:2003, four digits.
    Y2003,
}

impl ResponseCodeColumn {
    const NAMES: &str = "\"1987\", \"1993\" or \"2003\"";

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "1987" => Some(Self::Y1987),
            "1993" => Some(Self::Y1993),
            "2003" => Some(Self::Y2003),
            _ => None,
        }
    }
}

/// How a message asks for another PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinChange {
    /// The first two digits of DE3: 50 to 99.
    pub transaction_type: [u8; 2],
    /// The element with the block of the new PIN.
    pub new_pin_block: u8,
}

/// A dialect, checked and ready to read and write messages.
#[derive(Clone, PartialEq, Eq)]
pub struct Spec {
    name: String,
    mti: MtiEncoding,
    bitmaps: Bitmaps,
    response_code_column: ResponseCodeColumn,
    /// Four-digit reason and text of DE39, sorted by reason.
    response_codes: Vec<(String, String)>,
    reason_code_field: Option<u8>,
    chip_response_code: bool,
    pin_change: Option<PinChange>,
    /// By number.
    chip_elements: Vec<(u8, ChipTag)>,
    echo_default: ElementSet,
    echo_network_management: ElementSet,
    /// Index is the element's number.
    elements: Box<[Option<DataElement>]>,
}

impl Spec {
    /// Reads a dialect file.
    ///
    /// # Errors
    ///
    /// Every mistake of the file at once, each with its line and what was expected.
    pub fn from_toml(text: &str) -> Result<Self, SpecErrors> {
        file::read(text)
    }

    /// The text of a dialect that ships with the crate.
    #[must_use]
    pub fn builtin(name: &str) -> Option<&'static str> {
        BUILTIN.iter().find(|(builtin, _)| *builtin == name).map(|(_, text)| *text)
    }

    /// The names of the dialects that ship with the crate.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name)
    }

    /// Name of the dialect.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the dialect says about an element; `None` where it does not define it.
    #[must_use]
    pub fn element(&self, element: u8) -> Option<&DataElement> {
        self.elements.get(usize::from(element))?.as_ref()
    }

    /// The elements that the dialect defines, lowest number first.
    pub fn elements(&self) -> impl Iterator<Item = &DataElement> {
        self.elements.iter().flatten()
    }

    /// How the MTI is written.
    #[must_use]
    pub const fn mti_encoding(&self) -> MtiEncoding {
        self.mti
    }

    /// How bitmaps are written.
    #[must_use]
    pub const fn bitmap_encoding(&self) -> BitmapEncoding {
        self.bitmaps.encoding
    }

    pub(crate) const fn bitmaps(&self) -> Bitmaps {
        self.bitmaps
    }

    /// True where a frame is ASCII text throughout: MTI, bitmap, lengths and every element. No
    /// control character is ever in it, but in free text; see [`Spec::within_stx_etx`].
    #[must_use]
    pub fn is_text(&self) -> bool {
        matches!(self.mti, MtiEncoding::Ascii)
            && matches!(self.bitmap_encoding(), BitmapEncoding::Hex)
            && self.elements().all(DataElement::is_text)
    }

    /// The same dialect for frames that stand between STX (02) and ETX (03): neither is taken or
    /// written in free text, since it would end a frame, or seem to begin another one.
    #[must_use]
    pub fn within_stx_etx(&self) -> Self {
        let mut spec = self.clone();
        for element in spec.elements.iter_mut().flatten() {
            if element.text == Text::Any {
                element.text = Text::AnyWithinFrame;
            }
        }
        spec
    }

    /// Which family of codes DE39 speaks.
    #[must_use]
    pub const fn response_code_column(&self) -> ResponseCodeColumn {
        self.response_code_column
    }

    /// The text of DE39 for a four-digit reason, where the dialect has its own.
    #[must_use]
    pub fn response_code_override(&self, reason: &str) -> Option<&str> {
        let found = self.response_codes.binary_search_by(|(own, _)| own.as_str().cmp(reason));
        self.response_codes.get(found.ok()?).map(|(_, code)| code.as_str())
    }

    /// The element that carries the four-digit reason of a decline.
    #[must_use]
    pub const fn reason_code_field(&self) -> Option<u8> {
        self.reason_code_field
    }

    /// Whether the chip data of an answer brings the authorization response code (8A) along, for
    /// terminals that do not make it of DE39.
    #[must_use]
    pub const fn chip_response_code(&self) -> bool {
        self.chip_response_code
    }

    /// How a message asks for another PIN; `None` where the dialect has no such request.
    #[must_use]
    pub const fn pin_change(&self) -> Option<PinChange> {
        self.pin_change
    }

    /// The elements that hold chip data one by one, lowest number first, and what of them.
    #[must_use]
    pub fn chip_elements(&self) -> &[(u8, ChipTag)] {
        &self.chip_elements
    }

    /// The elements that the answer to a message returns as they came.
    #[must_use]
    pub const fn echo(&self, mti: Mti) -> &ElementSet {
        if mti.is_network_management() { &self.echo_network_management } else { &self.echo_default }
    }
}

impl fmt::Debug for Spec {
    /// The name only: the table has up to 191 elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spec({})", self.name)
    }
}
