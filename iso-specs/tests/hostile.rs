//! Frames that are not what they should be: no panic, the right element, the rest still readable.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test may stop")]

mod support;

use iso_specs::{FieldErrorKind, FramingErrorKind, Spec, decode, examine, redact, tlv};
use support::{BINARY, builtin, dialects, frame, full_frame, shipped};

/// Everything that can be read of a frame.
fn read_all(spec: &Spec, frame: &[u8]) {
    let Ok(decoded) = decode(spec, frame) else { return };
    for field in decoded.message.elements() {
        let mut room = [0; 999];
        assert!(field.canonical(&mut room).is_some());
        let _ = field.number();
    }
    let examined = examine(spec, frame).ok();
    assert_eq!(examined.map(|found| found.faults.first().copied()), Some(decoded.fault));
    let shown = examine(spec, frame).map(|found| redact::listing(&found, |_| None).to_string());
    let _ = format!("{decoded:?} {shown:?}");
    if let Some(chip) = decoded.message.bytes::<255>(55) {
        let _ = tlv::check(&chip);
    }
}

#[test]
fn a_full_message_cut_at_every_byte() {
    // Bytes of the MTI and both bitmaps.
    for (spec, head) in [(shipped(), 4 + 32), (builtin(BINARY), 2 + 16)] {
        cut_at_every_byte(&spec, head);
    }
}

fn cut_at_every_byte(spec: &Spec, head: usize) {
    for long in [false, true] {
        let frame = full_frame(spec, long);
        for len in 0..frame.len() {
            match decode(spec, &frame[..len]) {
                Err(error) => assert!(len < head && error.offset <= len, "{len} {error}"),
                Ok(decoded) => {
                    let fault = decoded.fault.expect("something is missing");
                    assert_eq!(fault.kind, FieldErrorKind::Truncated, "{len} {fault}");
                    let read = decoded.message.present();
                    assert_eq!(read.last().unwrap_or(1) + 1, fault.element);
                }
            }
        }
    }
}

#[test]
fn every_byte_flipped() {
    for spec in dialects() {
        let frame = full_frame(&spec, false);
        for at in 0..frame.len() {
            for flip in [0x01, 0x10, 0x80, 0xff] {
                let mut bad = frame.clone();
                bad[at] ^= flip;
                read_all(&spec, &bad);
            }
        }
    }
}

#[test]
fn every_byte_of_a_short_message_replaced_by_every_byte() {
    for spec in dialects() {
        replaced_by_every_byte(&spec);
    }
}

fn replaced_by_every_byte(spec: &Spec) {
    let chip = [0x9f, 0x26, 2, 1, 2, 0x70, 3, 0x82, 1, 0];
    let frame = frame(spec, b"0100", &[(2, b"4761340000000019"), (4, b"1"), (55, &chip)]);
    for at in 0..frame.len() {
        for byte in 0..=255 {
            let mut bad = frame.clone();
            bad[at] = byte;
            read_all(spec, &bad);
        }
    }
}

#[test]
fn noise() {
    let mut choices = support::Choices::from_seed(7);
    let specs = dialects();
    for _ in 0..20_000 {
        let len = choices.below(200);
        let mut noise: Vec<u8> =
            (0..len).map(|_| u8::try_from(choices.below(256)).unwrap()).collect();
        if choices.below(2) == 0 && len > 4 {
            noise[..4].copy_from_slice(b"0100");
        }
        specs.iter().for_each(|spec| read_all(spec, &noise));
        let _ = tlv::check(&noise);
    }
}

#[test]
fn unreadable_heads_are_framing_errors() {
    use FramingErrorKind as Kind;
    let spec = shipped();
    for (frame, offset, kind) in [
        ("", 0, Kind::MtiTruncated),
        ("010", 3, Kind::MtiTruncated),
        ("01a00000000000000000", 2, Kind::MtiNotDigits),
        ("0100000000000000", 16, Kind::BitmapTruncated),
        ("0100000000000x000000", 13, Kind::BitmapNotHex),
        ("01008000000000000000", 20, Kind::BitmapTruncated),
    ] {
        let error = decode(&spec, frame.as_bytes()).unwrap_err();
        assert_eq!((error.offset, error.kind), (offset, kind), "{frame}");
    }
    let long = vec![b'0'; iso_specs::MAX_FRAME_BYTES + 1];
    assert_eq!(decode(&spec, &long).unwrap_err().kind, Kind::FrameTooLong);
}

/// Frames with a fault: what is read, and which element is named.
#[test]
fn the_first_fault_is_named_and_the_rest_is_read() {
    use FieldErrorKind as Kind;
    let spec = shipped();
    // Elements 2, 4 and 11 are announced, then 14 too, then 2 and 55.
    let (three, four, chip) = ("5020000000000000", "5024000000000000", "4000000000000200");
    let amount = "000000001000";
    for (bitmap, body, element, offset, kind, present) in [
        (three, format!("0212{amount}000001X"), 11, 42, Kind::TrailingBytes, vec![2, 4, 11]),
        (three, "02120000000010x0000001".into(), 4, 24, Kind::BadCharacter, vec![2, 11]),
        (three, format!("0x12{amount}000001"), 2, 20, Kind::BadLengthPrefix, vec![]),
        (three, format!("0212{amount}00001"), 11, 36, Kind::Truncated, vec![2, 4]),
        (three, format!("00{amount}000001"), 2, 20, Kind::TooShort, vec![4, 11]),
        (three, format!("2012345678901234567890{amount}000001"), 2, 20, Kind::TooLong, vec![4, 11]),
        (three, "99".into(), 2, 20, Kind::Truncated, vec![]),
        (four, format!("0212{amount}0000012913"), 14, 42, Kind::BadPattern, vec![2, 4, 11]),
        (chip, "02120039F3".into(), 55, 24, Kind::PartialByte, vec![2]),
        (chip, "02120029G".into(), 55, 24, Kind::BadCharacter, vec![2]),
        (chip, "0212512".to_owned() + &"0".repeat(512), 55, 24, Kind::TooLong, vec![2]),
    ] {
        let frame = format!("0100{bitmap}{body}");
        let decoded = decode(&spec, frame.as_bytes()).unwrap();
        let fault = decoded.fault.unwrap();
        assert_eq!((fault.element, fault.offset, fault.kind), (element, offset, kind), "{body}");
        assert_eq!(decoded.message.present().iter().collect::<Vec<_>>(), present, "{body}");
        assert!(!decoded.message.has(fault.element) || kind == Kind::TrailingBytes);
    }
}

#[test]
fn a_bad_value_does_not_hide_behind_a_later_fault() {
    let spec = shipped();
    let frame = b"01005020000000000000021200000000100x00001";
    let decoded = decode(&spec, frame).unwrap();
    let fault = decoded.fault.unwrap();
    assert_eq!((fault.element, fault.kind), (4, FieldErrorKind::BadCharacter));
    assert!(decoded.message.has(2) && !decoded.message.has(11));
}

#[test]
fn an_element_that_the_dialect_does_not_define_ends_the_pass() {
    let text = Spec::builtin(support::SHIPPED).unwrap();
    let without_4: Vec<_> = text.lines().filter(|line| !line.starts_with("4 =")).collect();
    let spec = Spec::from_toml(&without_4.join("\n").replace("3, 4,", "3,")).unwrap();
    let decoded = decode(&spec, b"010050200000000000000212000000001000000001").unwrap();
    let fault = decoded.fault.unwrap();
    assert_eq!((fault.element, fault.offset), (4, 24));
    assert_eq!(fault.kind, FieldErrorKind::NotDefined);
    assert!(decoded.message.has(2) && !decoded.message.has(11));
}

#[test]
fn bytes_behind_an_empty_bitmap_are_a_fault_of_the_bitmap() {
    let spec = shipped();
    let decoded = decode(&spec, b"08000000000000000000x").unwrap();
    assert_eq!(
        decoded.fault.unwrap().to_string(),
        "DE1: bytes left over after the last element at byte 20"
    );
}
