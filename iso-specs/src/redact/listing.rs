//! A message for a person to look at: every element with its name, and everything wrong with it.

use std::fmt::{self, Display, Formatter};

use super::{SHOWN_MAX_BYTES, is_harmless};
use crate::bitmap::BitmapEncoding;
use crate::data_element::{DataElement, Sensitivity};
use crate::decode::Examined;
use crate::encoding::push_hex;
use crate::length::Length;
use crate::message::Field;
use crate::tlv;

/// Digits in a row that could be a PAN.
const PAN_MIN_DIGITS: usize = 13;

/// A listing of several lines, without line end: the MTI in words, the bitmaps, each element with
/// number, name, form on the wire and masked value, chip data by tag, and all faults. `remark` may
/// add some words to an element.
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
        let Examined { message, announced, faults, .. } = self.examined;
        write!(f, "MTI    {}  {}", message.mti(), message.mti().words().join(", "))?;
        write!(f, "\nbitmap ")?;
        self.show_bitmaps(f)?;
        announced.iter().try_for_each(|element| write!(f, " {element}"))?;
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
    fn show_bitmaps(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Examined { message, bitmaps, .. } = self.examined;
        let shown = match message.spec().bitmap_encoding() {
            BitmapEncoding::Hex => bitmaps.escape_ascii().to_string(),
            _ => hex(bitmaps),
        };
        self.show_placed(&shown, bitmaps.len(), f)
    }

    fn show_field(&self, field: &Field<'_>, f: &mut Formatter<'_>) -> fmt::Result {
        let mut room = [0; SHOWN_MAX_BYTES];
        if field.element().sensitivity() == Sensitivity::Chip
            && let Some(data) = field.bytes(&mut room)
        {
            return self.show_objects(data, 1, f);
        }
        let shown = field.to_string();
        let value = shown.split_once('=').map_or("", |(_, value)| value);
        self.show_placed(value, field.wire().len(), f)
    }

    /// Where something is wrong, what follows may be shifted: a row of digits under any number
    /// may be a PAN, and only its length is shown.
    fn show_placed(&self, shown: &str, bytes: usize, f: &mut Formatter<'_>) -> fmt::Result {
        let mut rows = shown.split(|character: char| !character.is_ascii_digit());
        match !self.examined.faults.is_empty() && rows.any(|row| row.len() >= PAN_MIN_DIGITS) {
            true => write!(f, "[{bytes} bytes]"),
            false => write!(f, "{shown}"),
        }
    }

    /// One line for each object; what is inside templates stands further to the right.
    fn show_objects(&self, data: &[u8], level: usize, f: &mut Formatter<'_>) -> fmt::Result {
        for object in tlv::Reader::new(data) {
            write!(f, "\n{:1$}", "", 5 + 2 * level)?;
            let object = match object {
                Ok(object) => object,
                Err(error) => return write!(f, "{error}"),
            };
            let name = tlv::name(object.tag).unwrap_or("no name in EMV");
            write!(f, "{:02X}  {name}: ", object.tag)?;
            if is_harmless(&object) {
                self.show_placed(&hex(object.value), object.value.len(), f)?;
            } else if object.is_constructed() && level < tlv::DEPTH_MAX_LEVELS {
                self.show_objects(object.value, level + 1, f)?;
            } else {
                write!(f, "[{} bytes]", object.value.len())?;
            }
        }
        Ok(())
    }
}

/// Length and encoding, such as `LL ascii`.
fn show_form(element: &DataElement, f: &mut Formatter<'_>) -> fmt::Result {
    match element.length() {
        Length::Fixed => write!(f, "fixed")?,
        Length::Prefix { digits, .. } => (0..digits).try_for_each(|_| write!(f, "L"))?,
    }
    write!(f, " {}", format!("{:?}", element.encoding()).to_lowercase())
}

fn hex(bytes: &[u8]) -> String {
    let mut digits = Vec::new();
    push_hex(bytes, &mut digits);
    digits.escape_ascii().to_string()
}
