//! From the text of a dialect file to a checked [`Spec`].

use super::{ResponseCodeColumn, Spec};
use crate::bitmap::{BitmapEncoding, ElementSet};
use crate::data_element::{ContentType, DataElement, Pattern, Sensitivity};
use crate::encoding::Encoding;
use crate::error::SpecErrors;
use crate::length::{Length, PrefixEncoding};
use crate::mti::MtiEncoding;
use crate::padding::Padding;
use crate::toml_keys::{Keys, Mistakes};

/// Longest element of any dialect, in characters or bytes: what `LLLL` can count.
const ELEMENT_MAX_LEN: u16 = 9_999;

/// PIN blocks and full track data are in no answer, whatever a file says.
const NEVER_ECHOED: [u8; 5] = [35, 36, 45, 52, 53];

const RESPONSE_CODE: u8 = 39;
const REASON_DIGITS: usize = 4;

pub(super) fn read(text: &str) -> Result<Spec, SpecErrors> {
    let (root, mistakes) = Mistakes::parse(text);
    let spec = read_spec(&mut Keys::of_file(&root, &mistakes), &mistakes);
    match SpecErrors::new(mistakes) {
        Some(errors) => Err(errors),
        // Always there: a part that could not be read has left a mistake.
        None => spec.ok_or_else(SpecErrors::unreadable),
    }
}

fn read_spec<'t>(keys: &mut Keys<'_, 't>, mistakes: &Mistakes<'t>) -> Option<Spec> {
    let name = keys.text("name");
    let description = keys.text("description");
    let mti = keys.name("mti", MtiEncoding::NAMES, MtiEncoding::from_name);
    let bitmap = keys.name("bitmap", BitmapEncoding::NAMES, BitmapEncoding::from_name);
    let prefix = keys.name("length_prefix", PrefixEncoding::NAMES, PrefixEncoding::from_name);
    let column =
        keys.name("response_code_column", ResponseCodeColumn::NAMES, ResponseCodeColumn::from_name);
    let elements = match keys.table("elements") {
        Some(table) => Elements::read(&table, prefix.unwrap_or(PrefixEncoding::Ascii), mistakes),
        None => Elements::default(),
    };
    let response_codes = keys.optional_table("response_codes");
    let response_codes = response_codes.map(|table| read_response_codes(&table, &elements));
    let reason_code_field = read_reason_code_field(keys, &elements);
    let mut echo = keys.table("echo");
    let mut echo_of = |key| {
        let echo = echo.as_mut()?;
        echo.elements(key, &elements)
    };
    let (echo_default, echo_network_management) =
        (echo_of("default"), echo_of("network_management"));
    echo.iter().for_each(Keys::finish);
    keys.finish();
    Some(Spec {
        name: name?,
        description: description?,
        mti: mti?,
        bitmap: bitmap?,
        response_code_column: column?,
        response_codes: response_codes.unwrap_or_default(),
        reason_code_field,
        echo_default: echo_default?,
        echo_network_management: echo_network_management?,
        elements: elements.table.into(),
    })
}

/// The elements of a file.
#[derive(Default)]
struct Elements {
    /// Index is the element's number; empty where the line has a mistake.
    table: Vec<Option<DataElement>>,
    /// Every number that has a line, right or wrong.
    listed: ElementSet,
}

impl Elements {
    fn read<'t>(keys: &Keys<'_, 't>, prefix: PrefixEncoding, mistakes: &Mistakes<'t>) -> Self {
        let mut elements = Self::default();
        elements.table.resize(usize::from(ElementSet::MAX) + 1, None);
        for (key, node) in keys.entries() {
            let Some(number) = element_number(key) else {
                let expected = format!("expected an element from 2 to {}", ElementSet::MAX);
                keys.mistake_at(key, node, expected);
                continue;
            };
            elements.listed.insert(number);
            let line = Keys::of(node, format!("element {number}"), mistakes);
            if let Some(slot) = elements.table.get_mut(usize::from(number)) {
                *slot = line.and_then(|mut line| read_element(&mut line, number, prefix));
            }
        }
        elements
    }

    fn get(&self, number: u8) -> Option<&DataElement> {
        self.table.get(usize::from(number))?.as_ref()
    }
}

/// An element's number as it is written in a file: without sign or leading zeros.
fn element_number(key: &str) -> Option<u8> {
    let number = key.parse::<u8>().ok().filter(|number| number.to_string() == key);
    number.filter(|number| (2..=ElementSet::MAX).contains(number))
}

fn read_element(
    keys: &mut Keys<'_, '_>,
    number: u8,
    default_prefix: PrefixEncoding,
) -> Option<DataElement> {
    let name = keys.text("name");
    let content = keys.name("type", ContentType::NAMES, ContentType::from_name);
    let prefix = keys.optional_name("prefix", PrefixEncoding::NAMES, PrefixEncoding::from_name);
    let has_prefix_key = prefix.is_some();
    let prefix = prefix.unwrap_or(default_prefix);
    let length = keys.name("length", Length::NAMES, |name| Length::from_name(name, prefix));
    let max = keys.number("max", 1..=ELEMENT_MAX_LEN);
    let min = keys.optional_number("min", 0..=ELEMENT_MAX_LEN);
    let encoding = keys.name("encoding", Encoding::NAMES, Encoding::from_name);
    let padding = keys.optional_name("padding", Padding::NAMES, Padding::from_name);
    let pattern = keys.optional_name("pattern", PATTERN_NAMES, Pattern::from_name);
    let sensitivity = keys.name("sensitivity", Sensitivity::NAMES, Sensitivity::from_name);
    keys.finish();

    let (length, max) = (length?, max?);
    if length == Length::Fixed && (min.is_some() || has_prefix_key) {
        keys.mistake("`min` and `prefix` are for elements with a length prefix");
    }
    let padding = padding.unwrap_or(Padding::None);
    let element = DataElement {
        number,
        content: content?,
        encoding: encoding?,
        length,
        min: min.unwrap_or(if length == Length::Fixed && padding == Padding::None {
            max
        } else {
            1
        }),
        max,
        padding,
        pattern,
        // A line without these has its mistake; what follows needs neither.
        name: name.unwrap_or_default().into(),
        sensitivity: sensitivity.unwrap_or(Sensitivity::Secret),
    };
    check_parts(keys, &element);
    Some(element)
}

const PATTERN_NAMES: &str = "up to 7 of CC, YY, MM, DD, hh, mm, ss, such as \"MMDDhhmmss\"";

/// What each part allows alone but not together.
fn check_parts(keys: &Keys<'_, '_>, element: &DataElement) {
    let binary = element.content.is_binary();
    if binary != element.encoding.is_binary() {
        keys.mistake(match binary {
            true => "type `b` needs encoding `hex` or `raw`",
            false => "only type `b` has encoding `hex` or `raw`",
        });
    }
    if element.min > element.max {
        keys.mistake("`min` is above `max`");
    }
    let counted = element.encoding.prefix_count(element.encoding.wire_len(element.max()));
    if let Some(most) = element.length.max_count().filter(|most| counted > *most) {
        keys.mistake(format!("the prefix counts to {most}, but `max` needs {counted}"));
    }
    if let Some(with) = element.padding.character() {
        if element.length != Length::Fixed {
            keys.mistake("`padding` is for elements of fixed length");
        }
        if !element.content.takes_padding(with) {
            keys.mistake("the type does not allow this `padding`");
        }
    }
    if let Some(pattern) = &element.pattern {
        let digits = element.content == ContentType::Digits && element.length == Length::Fixed;
        if !digits || pattern.digits() != element.max() {
            let digits = pattern.digits();
            keys.mistake(format!("this `pattern` needs type `n`, length `fixed`, max {digits}"));
        }
    }
    match element.sensitivity {
        Sensitivity::Pan if binary => keys.mistake("sensitivity `pan` is for text"),
        Sensitivity::Chip if !binary => keys.mistake("sensitivity `chip` is for type `b`"),
        _ => {}
    }
}

fn read_response_codes(keys: &Keys<'_, '_>, elements: &Elements) -> Vec<(String, String)> {
    let mut codes = Vec::new();
    for (reason, node) in keys.entries() {
        if reason.len() != REASON_DIGITS || !ContentType::Digits.accepts(reason.as_bytes()) {
            keys.mistake_at(reason, node, "expected a reason of four digits");
        }
        let code = node.get_ref().as_str();
        match code.filter(|code| fits(elements.get(RESPONSE_CODE), code)) {
            Some(code) => codes.push((reason.to_owned(), code.to_owned())),
            None => keys.mistake_at(reason, node, "expected a text that element 39 can hold"),
        }
    }
    codes.sort_unstable();
    codes
}

fn fits(element: Option<&DataElement>, text: &str) -> bool {
    element.is_some_and(|element| {
        !element.content.is_binary() && element.write(text.as_bytes(), &mut Vec::new()).is_ok()
    })
}

fn read_reason_code_field(keys: &mut Keys<'_, '_>, elements: &Elements) -> Option<u8> {
    let key = "reason_code_field";
    let node = keys.get(key)?;
    let field = keys.number_at(key, node, 2..=u16::from(ElementSet::MAX))?;
    let field = u8::try_from(field).ok()?;
    if !fits(elements.get(field), "0000") {
        keys.mistake_at(key, node, "expected an element that can hold four digits");
    }
    Some(field)
}

impl Keys<'_, '_> {
    /// A list of elements that have a line in the file and may be echoed.
    fn elements(&mut self, key: &'static str, elements: &Elements) -> Option<ElementSet> {
        let node = self.list(key)?;
        let mut set = ElementSet::EMPTY;
        for item in node.get_ref().as_array()? {
            let number = self.number_at(key, item, 2..=u16::from(ElementSet::MAX));
            let Some(number) = number.and_then(|number| u8::try_from(number).ok()) else {
                continue;
            };
            if let Some(expected) = refusal(number, set, elements) {
                self.mistake_at(key, item, format!("element {number} {expected}"));
            }
            set.insert(number);
        }
        Some(set)
    }
}

fn refusal(number: u8, echoed: ElementSet, elements: &Elements) -> Option<&'static str> {
    if NEVER_ECHOED.contains(&number) {
        Some("is never echoed")
    } else if echoed.contains(number) {
        Some("is listed twice")
    } else if !elements.listed.contains(number) {
        Some("is not defined in this file")
    } else {
        None
    }
}
