//! BER-TLV, as DE55 holds it.
#![no_main]

use iso_specs::tlv;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let objects: Vec<_> = tlv::Reader::new(data).collect();
    let is_right = tlv::check(data).is_ok();
    assert!(!is_right || objects.iter().all(Result::is_ok));
    let mut written = Vec::new();
    for object in objects.iter().flatten() {
        assert!(data.len() >= object.offset + object.value.len());
        tlv::push(&mut written, object.tag, object.value).expect("what was read can be written");
    }
    // Only fillers and the forms of lengths may differ.
    let again: Vec<_> =
        tlv::Reader::new(&written).map(|object| object.expect("readable")).collect();
    let read: Vec<_> = objects.iter().flatten().collect();
    assert_eq!(again.len(), read.len());
    for (again, read) in again.iter().zip(read) {
        assert_eq!((again.tag, again.value), (read.tag, read.value));
        assert!(tlv::find(data, read.tag).is_some());
        let _ = tlv::name(read.tag);
    }
});
