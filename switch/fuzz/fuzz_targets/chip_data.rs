//! The chip data of a request (DE55), as the rules read it: each tag that is read once and of its
//! length, in templates or without, the shapes of 9F10, and how its cryptogram is made.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use iso_specs::tlv::{self, Object, Reader};
use libfuzzer_sys::fuzz_target;
use switch::authorization::cvn::{CvnRow, built_in};
use switch::authorization::iad::{Iad, Scheme};
use switch::authorization::{ChipData, ChipRules, CryptogramCheck};
use switch::config::{Config, DEMO};

/// Those of the demo, which knows all built-in shapes.
static RULES: LazyLock<ChipRules> = LazyLock::new(|| {
    let config = Config::parse(DEMO, "demo.toml", Path::new(".")).expect("the demo");
    config.products.iter().find_map(|product| product.chip.clone()).expect("a product with chips")
});

/// The objects outside templates and in those of a record or a response.
fn objects(data: &[u8]) -> Vec<Object<'_>> {
    let all = Reader::new(data).map(|object| object.expect("BER-TLV"));
    all.flat_map(|object| match object.tag {
        0x70 | 0x77 => objects(object.value),
        _ => vec![object],
    })
    .collect()
}

fuzz_target!(|data: &[u8]| {
    let Some(chip) = ChipData::read(data) else { return };
    let objects = objects(data);
    let value = |tag| objects.iter().find(|object| object.tag == tag).map(|object| object.value);
    assert_eq!(chip.cryptogram.as_ref().map(|bytes| &bytes[..]), value(0x9F26));
    assert_eq!(chip.iad.as_ref().map(Iad::bytes), value(0x9F10));
    let covered = [
        0x9F02, 0x9F03, 0x9F1A, 0x95, 0x5F2A, 0x9A, 0x9C, 0x9F37, 0x82, 0x9F36, 0x9F10, 0x9F1E,
    ];
    for tag in covered {
        assert_eq!(chip.element(tag), value(tag.into()), "{tag:X}");
    }
    // These two refuse nothing: what is there twice, or of another length, says nothing.
    let alone = |tag| objects.iter().filter(|object| object.tag == tag).count() == 1;
    let told = |tag| value(tag).filter(|_| alone(tag)).unwrap_or_default();
    let tries_left = told(0x9F17).try_into().ok().map(|[left]: [u8; 1]| left);
    assert_eq!(chip.tries_left, tries_left);
    let script_results = chip.script_results.iter().flatten().count();
    assert_eq!(script_results, (told(0x9F5B).len() / 5).min(4));

    // Neither the order nor what is not known makes a difference, nor whether there is a template.
    let mut other = Vec::new();
    tlv::push(&mut other, 0x9F41, b"unknown").expect("a tag");
    for object in objects.iter().rev().filter(|object| object.tag != 0x9F1E) {
        tlv::push(&mut other, object.tag, object.value).expect("what was read can be written");
    }
    let mut wrapped = Vec::new();
    // One template more may be one level too many.
    if tlv::push(&mut wrapped, 0x77, &other).is_ok() && tlv::check(&wrapped).is_ok() {
        let again = ChipData::read(&wrapped).expect("what was read");
        assert_eq!(again.cryptogram, chip.cryptogram);
        assert_eq!(again.cvm_results, chip.cvm_results);
        assert_eq!(again.script_results, chip.script_results);
        for tag in covered.into_iter().filter(|tag| *tag != 0x9F1E) {
            assert_eq!(again.element(tag), chip.element(tag), "{tag:X}");
        }
    }

    let view = chip.iad.as_ref().and_then(|iad| iad.view(&RULES.iads));
    let known = view.as_ref().and_then(|view| built_in(view.scheme, view.cvn));
    match CryptogramCheck::of(&chip, &RULES, 0, 1) {
        Ok(check) => {
            assert_eq!(Some(check.cvn), known);
            assert_eq!(Some(&check.atc.to_be_bytes()[..]), value(0x9F36));
            let view = view.as_ref().expect("a shape");
            assert!(check.cvn.covers.data(&chip, view).is_some());
        }
        Err(note) => assert!(!note.to_string().is_empty()),
    }
    // A product can know every CVN that is seen.
    let row = built_in(Scheme::Visa, 0x0A).expect("Visa CVN 0A");
    let own = view.map(|view| CvnRow { scheme: view.scheme, cvn: view.cvn, ..row });
    let rules = ChipRules { cvns: own.into_iter().collect(), ..RULES.clone() };
    if let Ok(check) = CryptogramCheck::of(&chip, &rules, 0, 1) {
        assert_eq!(Some(check.cvn), own);
    }
});
