//! A message for a person to look at: every element with its name, and everything wrong with it.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};

use super::doubt::Doubt;
use super::{
    SHOWN_MAX_BYTES, is_harmless, is_whole, may_be_shown, show_hex, show_masked, show_text,
};
use crate::bitmap::BitmapEncoding;
use crate::data_element::{DataElement, Sensitivity};
use crate::decode::Examined;
use crate::encoding::Encoding;
use crate::length::Length;
use crate::message::Field;
use crate::text::{Alphabet, Text};
use crate::tlv;

/// A listing of several lines, without line end: the MTI in words, the bitmaps, each element with
/// number, name, form on the wire and masked value, chip data by tag, and all faults. Where there
/// is a fault, only lengths stand for the values behind it, and for what looks like a part of a
/// PAN, a track or a PIN block before it. `remark` may add some words to what is shown.
#[must_use]
pub const fn listing<'a, R>(examined: &'a Examined<'a>, remark: R) -> Listing<'a, R>
where
    R: Fn(&Field<'_>) -> Option<Cow<'a, str>>,
{
    Listing { examined, remark }
}

/// Shows what [`listing`] says.
pub struct Listing<'a, R> {
    examined: &'a Examined<'a>,
    remark: R,
}

impl<'a, R: Fn(&Field<'_>) -> Option<Cow<'a, str>>> Display for Listing<'a, R> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Examined { message, faults, .. } = self.examined;
        let doubt = Doubt::of(self.examined);
        let shows = |field: &Field<'_>| {
            let before = doubt.as_ref().is_some_and(|doubt| doubt.shows(self.examined, field));
            before || may_be_shown(field)
        };
        write!(f, "MTI    {}  {}", message.mti(), message.mti().words().join(", "))?;
        write!(f, "\nbitmap ")?;
        show_bitmaps(self.examined, doubt.as_ref(), f)?;
        for field in message.elements() {
            let element = field.element();
            write!(f, "\nDE{:03}  {}, ", element.number(), element.name())?;
            show_form(element, f)?;
            write!(f, ", {} bytes: ", field.wire().len())?;
            show_field(&field, shows(&field), f)?;
            if let Some(words) = (self.remark)(&field).filter(|_| shows(&field)) {
                write!(f, "  {words}")?;
            }
        }
        self.examined.absent().try_for_each(|element| {
            write!(f, "\nabsent DE{:03}  {}", element.number(), element.name())
        })?;
        faults.iter().try_for_each(|fault| {
            let element = message.spec().element(fault.element);
            let name = element.map_or("no name in this dialect", DataElement::name);
            write!(f, "\nfault  {fault} ({name})")
        })
    }
}

/// The bitmaps and the elements that they announce. Where something is wrong they may be bytes of a
/// value: where they look like it, only how many there are.
fn show_bitmaps(
    examined: &Examined<'_>,
    doubt: Option<&Doubt>,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    let Examined { message, bitmaps, announced, .. } = examined;
    if doubt.is_some_and(|doubt| !doubt.shows_bitmaps(examined)) {
        return write!(f, "[{} bytes] {} elements", bitmaps.len(), announced.len());
    }
    match message.spec().bitmap_encoding() {
        BitmapEncoding::Hex => write!(f, "{}", bitmaps.escape_ascii())?,
        BitmapEncoding::Raw => show_hex(bitmaps, f)?,
    }
    announced.iter().try_for_each(|element| write!(f, " {element}"))
}

fn show_field(field: &Field<'_>, shown: bool, f: &mut Formatter<'_>) -> fmt::Result {
    let mut room = [0; SHOWN_MAX_BYTES];
    let element = field.element();
    let value = field.canonical(&mut room).filter(|_| shown);
    match (element.sensitivity(), value) {
        (Sensitivity::Chip, Some(data)) => show_objects(data, 1, f),
        (Sensitivity::Public, Some(text)) if element.text() != Text::Strict => {
            show_free_text(element, text, f)
        }
        _ => show_masked(field, value, f),
    }
}

/// Free text in its alphabet, which is named where it is more than printable ASCII. Control
/// characters and marks that turn the direction of writing are escaped.
fn show_free_text(element: &DataElement, text: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    let is_printable = |byte: &u8| matches!(byte, 0x20..=0x7e);
    if text.iter().all(is_printable) {
        return show_text(text, f);
    }
    if matches!(element.encoding(), Encoding::Ebcdic(_)) {
        let text: String = text.iter().copied().map(char::from).collect();
        return write!(f, "{text:?} (EBCDIC)");
    }
    if text.is_ascii() {
        show_text(text, f)?;
        return f.write_str(" (ASCII)");
    }
    let alphabet = element.alphabet.unwrap_or(Alphabet::UTF_8);
    match alphabet.read(text) {
        Some(text) => write!(f, "{text:?} ({})", alphabet.name()),
        None => {
            show_text(text, f)?;
            write!(f, " (not {})", alphabet.name())
        }
    }
}

/// One line for each object; what is inside templates stands further to the right.
fn show_objects(data: &[u8], level: usize, f: &mut Formatter<'_>) -> fmt::Result {
    let is_whole = is_whole(data);
    for object in tlv::Reader::new(data) {
        write!(f, "\n{:1$}", "", 5 + 2 * level)?;
        let object = match object {
            Ok(object) => object,
            Err(error) => return write!(f, "{error}"),
        };
        let name = tlv::name(object.tag).unwrap_or("no name in EMV");
        write!(f, "{:02X}  {name}: ", object.tag)?;
        if is_whole && is_harmless(&object) {
            show_hex(object.value, f)?;
        } else if is_whole && object.is_constructed() && level < tlv::DEPTH_MAX_LEVELS {
            show_objects(object.value, level + 1, f)?;
        } else {
            write!(f, "[{} bytes]", object.value.len())?;
        }
    }
    Ok(())
}

/// Length and encoding, such as `LL ascii`.
fn show_form(element: &DataElement, f: &mut Formatter<'_>) -> fmt::Result {
    match element.length() {
        Length::Fixed => write!(f, "fixed")?,
        Length::Prefix { digits, .. } => (0..digits).try_for_each(|_| write!(f, "L"))?,
    }
    write!(f, " {}", element.encoding())
}
