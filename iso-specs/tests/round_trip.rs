//! What is encoded is decoded, for every element, its lengths and generated messages.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop")]

mod support;

use iso_specs::{ElementSet, EncodeErrorKind, Mti, OutgoingMessage, Spec, decode};
use support::{
    Choices, as_read, canonical, dialects, frame, full_frame, least_len, shipped, value,
};

#[test]
fn every_element_at_its_lengths() {
    let mut choices = Choices::from_seed(1);
    for spec in dialects() {
        for element in spec.elements() {
            // All the short ones, the longest, and some between.
            let (min, max) = (element.min(), element.max());
            for len in (min..=max).filter(|len| len % 97 < 30 || *len == max) {
                let sent = value(element, len, &mut choices);
                let frame = frame(&spec, b"0200", &[(element.number(), &sent)]);
                let decoded = decode(&spec, &frame).unwrap();
                assert_eq!(decoded.fault, None, "{element:?} length {len}");
                let read = canonical(&decoded.message, element.number()).unwrap();
                assert_eq!(read, as_read(element, &sent), "{element:?} length {len}");
            }
        }
    }
}

#[test]
fn generated_messages() {
    for spec in dialects() {
        for seed in 0..500 {
            generated_message(&spec, seed);
        }
    }
}

fn generated_message(spec: &Spec, seed: u64) {
    let mut choices = Choices::from_seed(seed);
    let density = 1 + choices.below(8);
    let elements: Vec<_> = spec.elements().filter(|_| choices.below(8) < density).collect();
    let mut values = Vec::new();
    for element in &elements {
        let least = least_len(element);
        let len = least + choices.below(element.max() - least + 1);
        values.push((element.number(), value(element, len, &mut choices)));
    }
    // Set in another order than that of the frame.
    let mut message = OutgoingMessage::new(Mti::AUTHORIZATION_REQUEST);
    for (number, value) in values.iter().rev() {
        message.set(*number, value);
    }
    let mut out = b"head".to_vec();
    message.encode(spec, &mut out).unwrap();

    let decoded = decode(spec, &out[4..]).unwrap();
    assert_eq!(decoded.fault, None, "seed {seed}");
    let numbers: Vec<_> = decoded.message.elements().map(|f| f.element().number()).collect();
    assert_eq!(numbers, values.iter().map(|(number, _)| *number).collect::<Vec<_>>());
    for (number, value) in &values {
        assert_eq!(canonical(&decoded.message, *number).as_ref(), Some(value), "seed {seed}");
    }
    // An echo of everything gives the same bytes.
    let message = &decoded.message;
    let echo = OutgoingMessage::echo(message.mti(), message, message.present());
    let mut again = b"head".to_vec();
    echo.encode(spec, &mut again).unwrap();
    assert_eq!(again, out, "seed {seed}");
}

#[test]
fn all_elements_at_once() {
    for long in [false, true] {
        let (spec, frame) = (shipped(), full_frame(&shipped(), long));
        let decoded = decode(&spec, &frame).unwrap();
        assert_eq!((decoded.fault, decoded.message.present().len()), (None, 127));
    }
}

#[test]
fn short_values_are_filled_up() {
    let spec = shipped();
    let frame = frame(&spec, b"0110", &[(4, b"1000"), (38, b"12"), (41, b"TERM")]);
    assert_eq!(
        String::from_utf8_lossy(&frame),
        "01101000000004800000000000001000 12    TERM    ".replacen(' ', "", 1)
    );
    let decoded = decode(&spec, &frame).unwrap();
    assert_eq!(decoded.message.number(4), Some(1_000));
    assert_eq!(decoded.message.text::<8>(41).unwrap().as_str(), Some("TERM    "));
}

#[test]
fn chip_data_counts_hexadecimal_digits() {
    let frame = frame(&shipped(), b"0100", &[(55, &[0x9f, 0x36, 2, 0, 7])]);
    assert!(frame.ends_with(b"0109F36020007"), "{}", frame.escape_ascii());
    let spec = shipped();
    let decoded = decode(&spec, &frame).unwrap();
    let chip = decoded.message.bytes::<255>(55).unwrap();
    assert_eq!(iso_specs::tlv::find(&chip, 0x9f36), Some(&[0, 7][..]));
}

#[test]
fn canonical_forms_are_asked_for_by_type() {
    let spec = shipped();
    let frame = frame(&spec, b"0100", &[(2, b"4761340000000019"), (52, &[7; 8]), (49, b"EUR")]);
    let message = decode(&spec, &frame).unwrap().message;
    assert_eq!(message.text::<19>(2).unwrap().as_slice(), b"4761340000000019");
    assert_eq!(message.text::<15>(2), None, "too short a copy");
    assert_eq!(message.text::<16>(52), None, "bytes are no text");
    assert_eq!(message.bytes::<8>(52).unwrap().as_slice(), [7; 8]);
    assert_eq!(message.bytes::<19>(2), None, "text is no bytes");
    assert_eq!(message.number(2), Some(4_761_340_000_000_019));
    assert_eq!(message.number(49), None, "letters are no number");
    assert_eq!(message.number(3), None, "absent");
    assert_eq!(message.field(52).unwrap().wire(), b"0707070707070707");
}

#[test]
fn what_cannot_be_sent() {
    let spec = shipped();
    let cases: [(u8, &[u8], EncodeErrorKind); 12] = [
        (2, b"47613400000000190000", EncodeErrorKind::TooLong),
        (2, b"", EncodeErrorKind::TooShort),
        (4, b"", EncodeErrorKind::TooShort),
        (39, b"0", EncodeErrorKind::TooShort),
        (52, &[0; 7], EncodeErrorKind::TooShort),
        (55, &[0; 256], EncodeErrorKind::TooLong),
        (4, b"12.00", EncodeErrorKind::BadCharacter),
        (37, b"line\nend", EncodeErrorKind::BadCharacter),
        (14, b"2913", EncodeErrorKind::BadPattern),
        (0, b"", EncodeErrorKind::NotDefined),
        (1, b"", EncodeErrorKind::NotDefined),
        (129, b"", EncodeErrorKind::NotDefined),
    ];
    for (element, value, kind) in cases {
        let mut message = OutgoingMessage::new(Mti::FINANCIAL_REQUEST);
        message.set(3, b"000000").set(element, value);
        let mut out = b"kept".to_vec();
        let error = message.encode(&spec, &mut out).unwrap_err();
        assert_eq!((error.element, error.kind), (element, kind));
        assert_eq!(out, b"kept");
    }
}

#[test]
fn an_echo_can_be_changed_and_is_of_one_dialect() {
    let (spec, other) = (shipped(), shipped());
    let frame = frame(&spec, b"0100", &[(3, b"010000"), (11, b"000001"), (64, &[7; 8])]);
    let message = decode(&spec, &frame).unwrap().message;
    let all: ElementSet = [3, 11, 12, 64].into_iter().collect();
    let mut echo = OutgoingMessage::echo(message.mti(), &message, all);
    assert_eq!(echo.present(), message.present());
    echo.set(11, b"000002").unset(64);
    let mut out = Vec::new();
    echo.encode(&spec, &mut out).unwrap();
    let read = decode(&spec, &out).unwrap().message;
    assert_eq!(canonical(&read, 11).unwrap(), b"000002");
    assert_eq!((canonical(&read, 3).unwrap(), read.present().len()), (b"010000".to_vec(), 2));
    let error = echo.encode(&other, &mut Vec::new()).unwrap_err();
    assert_eq!((error.element, error.kind), (3, EncodeErrorKind::OtherDialect));
}
