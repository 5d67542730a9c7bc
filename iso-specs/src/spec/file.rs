//! From the text of a dialect file to a checked [`Spec`].

use super::element::{self, Defaults};
use super::{PinChange, ResponseCodeColumn, Spec};
use crate::bitmap::{BitmapEncoding, Bitmaps, ElementSet, ThirdBitmap};
use crate::data_element::{ChipTag, ContentType, DataElement, Sensitivity};
use crate::encoding::Encoding;
use crate::error::SpecErrors;
use crate::mti::MtiEncoding;
use crate::toml_keys::{Keys, Mistakes};

/// PIN blocks, full track data, keys, chip data and MACs of a request are in no answer, whatever a
/// file says. What an answer has of these it makes itself.
const NEVER_ECHOED: [u8; 9] = [35, 36, 45, 52, 53, 55, 64, 96, 128];

const APPROVAL_CODE: u8 = 38;
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
    // For people who read the file.
    let _ = keys.text("description");
    let mti = keys.name("mti", MtiEncoding::NAMES, MtiEncoding::from_name);
    let bitmap = keys.name("bitmap", BitmapEncoding::NAMES, BitmapEncoding::from_name);
    let third = keys.optional_name("third_bitmap", ThirdBitmap::NAMES, ThirdBitmap::from_name);
    let third = third.unwrap_or(ThirdBitmap::None);
    let defaults = Defaults::read(keys);
    let column =
        keys.name("response_code_column", ResponseCodeColumn::NAMES, ResponseCodeColumn::from_name);
    let elements = match keys.table("elements") {
        Some(table) => Elements::read(&table, third, defaults, mistakes),
        None => Elements { last: last_element(third), ..Elements::default() },
    };
    let chip_elements = read_chip_elements(keys, &elements);
    let response_codes = keys.optional_table("response_codes");
    let response_codes = response_codes.map(|table| read_response_codes(&table, &elements));
    let mut echo = keys.table("echo");
    let mut echo_of = |key| {
        let echo = echo.as_mut()?;
        echo.elements(key, &elements)
    };
    let (echo_default, echo_network_management) =
        (echo_of("default"), echo_of("network_management"));
    echo.iter().for_each(Keys::finish);
    let echoed = [echo_default, echo_network_management].into_iter().flatten();
    let echoed = echoed.fold(ElementSet::EMPTY, ElementSet::union);
    let reason_code_field = read_reason_code_field(keys, &elements, echoed);
    let pin_change = keys.optional_table("pin_change");
    let pin_change =
        pin_change.and_then(|mut table| read_pin_change(&mut table, &elements, echoed));
    let chip_response_code = keys.optional_boolean("chip_response_code");
    keys.finish();
    Some(Spec {
        name: name?,
        mti: mti?,
        bitmaps: Bitmaps { encoding: bitmap?, third },
        response_code_column: column?,
        response_codes: response_codes.unwrap_or_default(),
        reason_code_field,
        chip_response_code: chip_response_code.unwrap_or(false),
        pin_change,
        chip_elements,
        echo_default: echo_default?,
        echo_network_management: echo_network_management?,
        elements: elements.table.into(),
    })
}

/// The elements of a file.
#[derive(Default)]
struct Elements {
    /// Index is the element's number; empty where it has no line or one with a mistake.
    table: Vec<Option<DataElement>>,
    /// Every number that has a line, right or wrong.
    listed: ElementSet,
    /// Those that hold chip data, in the order of the file.
    chip: Vec<(u8, ChipTag)>,
    /// The highest number that the bitmaps of the dialect can announce.
    last: u8,
}

impl Elements {
    fn read<'t>(
        keys: &Keys<'_, 't>,
        third: ThirdBitmap,
        defaults: Defaults,
        mistakes: &Mistakes<'t>,
    ) -> Self {
        let last = last_element(third);
        let mut elements = Self { last, ..Self::default() };
        elements.table.resize(usize::from(last) + 1, None);
        for (key, node) in keys.entries() {
            let Some(number) = element_number(key, last) else {
                keys.mistake_at(key, node, format!("expected an element from 2 to {last}"));
                continue;
            };
            if number == Bitmaps::THIRD_PLACE && third != ThirdBitmap::None {
                keys.mistake_at(key, node, "stands for the third bitmap and is no element");
            }
            elements.listed.insert(number);
            let line = keys.entry_table(key, node, format!("element {number}"));
            let before = mistakes.count();
            let element = line.and_then(|mut line| element::read(&mut line, number, defaults));
            let (element, tag) = element.filter(|_| mistakes.count() == before).unzip();
            elements.chip.extend(tag.flatten().map(|tag| (number, tag)));
            if let Some(slot) = elements.table.get_mut(usize::from(number)) {
                *slot = element;
            }
        }
        elements
    }

    fn get(&self, number: u8) -> Option<&DataElement> {
        self.table.get(usize::from(number))?.as_ref()
    }

    /// Whether an element can hold a text. Where its own line has a mistake, nothing can be said,
    /// and one mistake is enough.
    fn fits(&self, number: u8, text: &str) -> bool {
        match self.get(number) {
            Some(element) => {
                let is_text = !element.content.is_binary();
                is_text && element.write(text.as_bytes(), &mut Vec::new()).is_ok()
            }
            None => self.listed.contains(number),
        }
    }
}

/// The highest number that the bitmaps can announce.
const fn last_element(third: ThirdBitmap) -> u8 {
    match third {
        ThirdBitmap::None => 128,
        ThirdBitmap::Leading | ThirdBitmap::Element65 => ElementSet::MAX,
    }
}

/// An element's number as it is written in a file: without sign or leading zeros.
fn element_number(key: &str, last: u8) -> Option<u8> {
    let number = key.parse::<u8>().ok().filter(|number| number.to_string() == key);
    number.filter(|number| (2..=last).contains(number))
}

fn read_response_codes(keys: &Keys<'_, '_>, elements: &Elements) -> Vec<(String, String)> {
    let mut codes = Vec::new();
    for (reason, node) in keys.entries() {
        if reason.len() != REASON_DIGITS || !ContentType::Digits.accepts(reason.as_bytes()) {
            keys.mistake_at(reason, node, "expected a reason of four digits");
        }
        let code = node.get_ref().as_str();
        match code.filter(|code| elements.fits(RESPONSE_CODE, code)) {
            Some(code) => codes.push((reason.to_owned(), code.to_owned())),
            None => keys.mistake_at(reason, node, "expected a text that element 39 can hold"),
        }
    }
    codes.sort_unstable();
    codes
}

/// The elements with chip data, each tag in one; an answer has a place for all that it can bring.
fn read_chip_elements(keys: &Keys<'_, '_>, elements: &Elements) -> Vec<(u8, ChipTag)> {
    let mut found = elements.chip.clone();
    found.sort_unstable_by_key(|(number, _)| *number);
    for (place, (number, tag)) in found.iter().enumerate() {
        if found.iter().take(place).any(|(_, before)| before == tag) {
            keys.mistake(format!("element {number}: another element has this `chip_tag`"));
        }
    }
    let has = |tag: ChipTag| found.iter().any(|(_, known)| *known == tag);
    let answers = has(ChipTag::Value(0x91)) && has(ChipTag::Scripts);
    if !found.is_empty() && !answers {
        keys.mistake(
            "where elements have a `chip_tag`, one needs \"91\" and one \"scripts\", for answers",
        );
    }
    found
}

fn read_reason_code_field(
    keys: &mut Keys<'_, '_>,
    elements: &Elements,
    echoed: ElementSet,
) -> Option<u8> {
    let key = "reason_code_field";
    let node = keys.get(key)?;
    let field = keys.number_at(key, node, 2..=u16::from(elements.last))?;
    let field = u8::try_from(field).ok()?;
    let expected = match field {
        APPROVAL_CODE | RESPONSE_CODE => "has a use of its own in answers",
        _ if NEVER_ECHOED.contains(&field) => "is for secrets and in no answer",
        _ if echoed.contains(field) => "is echoed: the reason would overwrite it",
        _ if !elements.fits(field, "0000") => "must be able to hold four digits",
        _ => return Some(field),
    };
    keys.mistake_at(key, node, format!("element {field} {expected}"));
    None
}

/// Bytes of a PIN block under triple DES, which every element with one has room for.
const PIN_BLOCK_BYTES: usize = 8;

fn read_pin_change(
    keys: &mut Keys<'_, '_>,
    elements: &Elements,
    echoed: ElementSet,
) -> Option<PinChange> {
    let expected = "two digits from 50 to 99, which the standard leaves to networks";
    let transaction_type = keys.name("transaction_type", expected, |text| {
        <[u8; 2]>::try_from(text.as_bytes())
            .ok()
            .filter(|[first, second]| matches!(first, b'5'..=b'9') && second.is_ascii_digit())
    });
    let key = "new_pin_block";
    let number = keys.number(key, 2..=elements.last);
    keys.finish();
    let (transaction_type, new_pin_block) = (transaction_type?, number?);
    let expected = match elements.get(new_pin_block) {
        _ if matches!(new_pin_block, 52 | 55) => "has a use of its own",
        // Its own line has a mistake already.
        None if elements.listed.contains(new_pin_block) => return None,
        None => "is not defined in this file",
        Some(element) if element.sensitivity != Sensitivity::Secret => "must be `secret`",
        Some(_) if echoed.contains(new_pin_block) => "is echoed: the block would come back",
        Some(element) if !holds_pin_block(element) => "must be able to hold a PIN block",
        Some(_) => return Some(PinChange { transaction_type, new_pin_block }),
    };
    keys.mistake_of(key, format!("element {new_pin_block} {expected}"));
    None
}

/// Whether an element can hold a PIN block: raw, or in hexadecimal digits.
fn holds_pin_block(element: &DataElement) -> bool {
    let raw = [0xFF; PIN_BLOCK_BYTES];
    let digits = [b'F'; 2 * PIN_BLOCK_BYTES];
    let value: &[u8] = if element.content.is_binary() { &raw } else { &digits };
    element.write(value, &mut Vec::new()).is_ok()
}

impl Keys<'_, '_> {
    /// A list of elements that have a line in the file and may be echoed.
    fn elements(&mut self, key: &'static str, elements: &Elements) -> Option<ElementSet> {
        let node = self.list(key)?;
        let mut set = ElementSet::EMPTY;
        for item in node.get_ref().as_array()? {
            let number = self.number_at(key, item, 2..=u16::from(elements.last));
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
    } else if elements.get(number).is_some_and(|element| element.encoding == Encoding::Hex) {
        Some("is `hex`, which may come in lower case and would return in upper case")
    } else {
        None
    }
}
