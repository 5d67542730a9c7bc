//! The chip data of a request (DE55), as the rules read it: each tag that is read once and of its
//! length, the shapes of 9F10, and how its cryptogram is made.
#![no_main]

use iso_specs::tlv::{self, Reader};
use libfuzzer_sys::fuzz_target;
use switch::authorization::ChipData;
use switch::authorization::cvn::{CvnRow, built_in};
use switch::authorization::decision::check_of;
use switch::authorization::iad::{Iad, Scheme};

fuzz_target!(|data: &[u8]| {
    let Some(chip) = ChipData::read(data) else { return };
    let objects: Vec<_> = Reader::new(data).map(|object| object.expect("BER-TLV")).collect();
    let value = |tag| objects.iter().find(|object| object.tag == tag).map(|object| object.value);
    assert_eq!(chip.cryptogram.as_ref().map(|bytes| &bytes[..]), value(0x9F26));
    assert_eq!(chip.iad.as_ref().map(Iad::bytes), value(0x9F10));
    // These two refuse nothing: what is there twice, or of another length, says nothing.
    let alone = |tag| objects.iter().filter(|object| object.tag == tag).count() == 1;
    let told = |tag| value(tag).filter(|_| alone(tag)).unwrap_or_default();
    let tries_left = told(0x9F17).try_into().ok().map(|[left]: [u8; 1]| left);
    assert_eq!(chip.tries_left, tries_left);
    let script_results = chip.script_results.iter().flatten().count();
    assert_eq!(script_results, (told(0x9F5B).len() / 5).min(4));

    // Neither the order nor what is not known makes a difference.
    let mut other = Vec::new();
    tlv::push(&mut other, 0x9F41, b"unknown").expect("a tag");
    for object in objects.iter().rev() {
        tlv::push(&mut other, object.tag, object.value).expect("what was read can be written");
    }
    assert_eq!(ChipData::read(&other).as_ref(), Some(&chip));

    let view = chip.iad.as_ref().and_then(Iad::view);
    if let Some(view) = &view {
        let iad = value(0x9F10).expect("9F10");
        assert!(iad.windows(view.cvr.len()).any(|part| part == view.cvr));
        assert!(matches!(view.cvr.len(), 4..=6) && matches!(view.counters.len(), 0 | 8));
        assert!(view.scheme.has_cvn(view.cvn));
    }
    let checked = check_of(&chip, &[], (0, 1));
    let known = view.and_then(|view| built_in(view.scheme, view.cvn));
    let is_whole = chip.verifiable().is_some();
    assert_eq!(checked.is_ok(), is_whole && known.is_some());
    match checked {
        Ok(check) => {
            assert_eq!(Some(check.cvn), known);
            assert_eq!(Some(&check.atc.to_be_bytes()[..]), value(0x9F36));
            assert_eq!(Some(check.results), view.map(|view| view.results));
        }
        Err(note) => assert!(!note.to_string().is_empty()),
    }
    // A product can know every CVN that is seen.
    let row = built_in(Scheme::Visa, 0x0A).expect("Visa CVN 0A");
    let own = view.map(|view| CvnRow { scheme: view.scheme, cvn: view.cvn, ..row });
    let checked = check_of(&chip, own.as_slice(), (0, 1));
    assert_eq!(checked.ok().map(|check| check.cvn), own.filter(|_| is_whole));
});
