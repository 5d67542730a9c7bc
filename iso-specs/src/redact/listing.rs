//! A message for a person to look at: every element with its name, and everything wrong with it.

use std::fmt::{self, Display, Formatter};

use super::{SHOWN_MAX_BYTES, is_harmless, is_whole, may_be_shown, show_hex, show_value};
use crate::bitmap::BitmapEncoding;
use crate::data_element::{DataElement, Sensitivity};
use crate::decode::Examined;
use crate::length::Length;
use crate::message::Field;
use crate::tlv;

/// A listing of several lines, without line end: the MTI in words, the bitmaps, each element with
/// number, name, form on the wire and masked value, chip data by tag, and all faults. Where there
/// is a fault, only lengths stand for bitmaps and values. `remark` may add some words.
#[must_use]
pub const fn listing<'a, R>(examined: &'a Examined<'a>, remark: R) -> Listing<'a, R>
where
    R: Fn(&Field<'_>) -> Option<&'static str>,
{
    Listing { examined, remark }
}

/// Shows what [`listing`] says.
pub struct Listing<'a, R> {
    examined: &'a Examined<'a>,
    remark: R,
}

impl<R: Fn(&Field<'_>) -> Option<&'static str>> Display for Listing<'_, R> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Examined { message, faults, .. } = self.examined;
        write!(f, "MTI    {}  {}", message.mti(), message.mti().words().join(", "))?;
        write!(f, "\nbitmap ")?;
        self.show_bitmaps(f)?;
        for field in message.elements() {
            let element = field.element();
            write!(f, "\nDE{:03}  {}, ", element.number(), element.name())?;
            show_form(element, f)?;
            write!(f, ", {} bytes: ", field.wire().len())?;
            self.show_field(&field, f)?;
            if let Some(words) = (self.remark)(&field) {
                write!(f, "  {words}")?;
            }
        }
        faults.iter().try_for_each(|fault| {
            let element = message.spec().element(fault.element);
            let name = element.map_or("no name in this dialect", DataElement::name);
            write!(f, "\nfault  {fault} ({name})")
        })
    }
}

impl<R> Listing<'_, R> {
    /// The bitmaps and the elements that they announce. Where something is wrong they may be bytes
    /// of a value: then only how many there are.
    fn show_bitmaps(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Examined { message, bitmaps, announced, faults } = self.examined;
        if !faults.is_empty() {
            return write!(f, "[{} bytes] {} elements", bitmaps.len(), announced.len());
        }
        match message.spec().bitmap_encoding() {
            BitmapEncoding::Hex => write!(f, "{}", bitmaps.escape_ascii())?,
            BitmapEncoding::Raw => show_hex(bitmaps, f)?,
        }
        announced.iter().try_for_each(|element| write!(f, " {element}"))
    }

    fn show_field(&self, field: &Field<'_>, f: &mut Formatter<'_>) -> fmt::Result {
        let mut room = [0; SHOWN_MAX_BYTES];
        let is_chip = field.element().sensitivity() == Sensitivity::Chip;
        match field.bytes(&mut room).filter(|_| is_chip && may_be_shown(field)) {
            Some(data) => show_objects(data, 1, f),
            None => show_value(field, f),
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
