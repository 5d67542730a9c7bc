//! Generated messages of every dialect and of two that use all that a dialect file can say: what
//! is encoded, decoded and encoded again are the same bytes and values.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop")]

mod support;

use std::fmt::Write;

use iso_specs::{FieldErrorKind, Mti, OutgoingMessage, Spec, decode};
use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::test_runner::TestRunner;
use support::{BINARY, Choices, SHIPPED, builtin, canonical, frame, least_len, value};

/// Numbers and canonical values, in the order of the frame.
type Values = Vec<(u8, Vec<u8>)>;

/// Any elements, of any length, with any characters.
fn messages(spec: &Spec) -> impl Strategy<Value = Values> + use<> {
    let elements: Vec<_> = spec.elements().cloned().collect();
    let count = elements.len();
    subsequence(elements, 0..=count).prop_flat_map(|elements| {
        let values = elements.into_iter().map(|element| {
            (least_len(&element)..=element.max(), any::<u64>()).prop_map(move |(len, seed)| {
                (element.number(), value(&element, len, &mut Choices::from_seed(seed)))
            })
        });
        values.collect::<Vec<_>>()
    })
}

fn encoded(spec: &Spec, values: &Values) -> Vec<u8> {
    let mut message = OutgoingMessage::new(Mti::FINANCIAL_ADVICE);
    for (number, value) in values {
        message.set(*number, value);
    }
    let mut out = Vec::new();
    message.encode(spec, &mut out).unwrap();
    out
}

fn comes_back(spec: &Spec, values: &Values) -> Result<(), TestCaseError> {
    let frame = encoded(spec, values);
    let decoded = decode(spec, &frame).unwrap();
    prop_assert_eq!(decoded.fault, None);
    prop_assert_eq!(decoded.message.mti(), Mti::FINANCIAL_ADVICE);
    let read = decoded.message.elements().map(|field| {
        let number = field.element().number();
        assert_eq!(field.len(), canonical(&decoded.message, number).unwrap().len());
        (number, canonical(&decoded.message, number).unwrap())
    });
    let read: Values = read.collect();
    prop_assert_eq!(&read, values);
    prop_assert_eq!(encoded(spec, &read), frame);
    Ok(())
}

fn every_message_comes_back(spec: &Spec) {
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner.run(&messages(spec), |values| comes_back(spec, &values)).unwrap();
    // All at once too: every bitmap is full.
    let mut choices = Choices::from_seed(1);
    let all = spec
        .elements()
        .map(|element| (element.number(), value(element, least_len(element).max(1), &mut choices)));
    comes_back(spec, &all.collect()).unwrap();
}

#[test]
fn messages_in_ascii() {
    every_message_comes_back(&builtin(SHIPPED));
}

#[test]
fn messages_in_packed_digits() {
    every_message_comes_back(&builtin(BINARY));
}

#[test]
fn messages_with_three_bitmaps_before_element_2() {
    every_message_comes_back(&everything("mti = 'ebcdic'\nbitmap = 'raw'", "leading"));
}

#[test]
fn messages_with_the_third_bitmap_in_the_place_of_element_65() {
    every_message_comes_back(&everything("mti = 'bcd'\nbitmap = 'hex'", "element-65"));
}

/// A dialect with a line for everything that the keys of an element can say.
fn everything(head: &str, third: &str) -> Spec {
    let mut prefixes = Vec::new();
    for encoding in ["ascii", "ebcdic", "bcd"] {
        for (length, max) in [("L", 9), ("LL", 31), ("LLL", 101), ("LLLL", 1_203)] {
            prefixes.push(format!("length='{length}', prefix='{encoding}', max={max}"));
        }
    }
    prefixes.push("length='L', prefix='binary', max=37".to_owned());
    prefixes.push("length='LL', prefix='binary', max=300".to_owned());
    let packed = ["left-zero", "left-f", "right-zero", "right-f"]
        .map(|nibble| format!("encoding='bcd', unused_nibble='{nibble}'"));

    let mut lines = Vec::new();
    for prefix in &prefixes {
        for encoding in ["ascii", "ebcdic-037", "ebcdic-1047"] {
            lines.push(format!("type='ans', {prefix}, min=0, encoding='{encoding}'"));
        }
        lines.extend(packed.iter().map(|packed| format!("type='n', {prefix}, min=0, {packed}")));
        for counted in [&packed[1], &packed[3]] {
            lines.push(format!("type='n', {prefix}, min=0, {counted}, prefix_counts='bytes'"));
        }
        lines.push(format!("type='b', {prefix}, min=0, encoding='raw'"));
    }
    for packed in &packed {
        lines.push(format!("type='n', length='fixed', max=5, padding='left-zero', {packed}"));
        lines.push(format!("type='z', length='LL', max=37, {packed}"));
        lines.push(format!("type='x+n', length='fixed', max=8, sign='ebcdic', {packed}"));
        lines.push(format!("type='x+n', length='LL', max=9, {packed}"));
    }
    for counts in ["digits", "bytes"] {
        lines.push(format!(
            "type='b', length='LLL', max=255, encoding='hex', prefix_counts='{counts}'"
        ));
    }
    for (id, length) in [("01", 2), ("DF8129", 1), ("00000000", 2)] {
        lines.push(format!(
            "type='b', length='LLL', prefix='bcd', max=255, min=0, encoding='raw', \
             wrapper={{id='{id}', length={length}}}"
        ));
    }
    for kind in ["a", "an", "as", "ns", "a or n", "n", "x+n", "z"] {
        lines.push(format!("type='{kind}', length='LL', max=20, encoding='ebcdic-1047'"));
    }
    lines.push(
        "type='ans', length='fixed', max=9, encoding='ebcdic-037', \
        padding='right-space'"
            .to_owned(),
    );
    lines.push("type='n', length='fixed', max=4, encoding='ebcdic-037', pattern='MMDD'".to_owned());
    lines.push("type='n', length='fixed', max=6, encoding='bcd', pattern='hhmmss'".to_owned());
    dialect(&format!("{head}\nthird_bitmap = '{third}'"), &lines)
}

#[test]
fn no_byte_makes_it_panic() {
    for third in ["leading", "element-65"] {
        let spec = everything("mti = 'bcd'\nbitmap = 'raw'", third);
        let mut choices = Choices::from_seed(9);
        let all = spec.elements().map(|element| {
            (element.number(), value(element, least_len(element).max(1), &mut choices))
        });
        let good = encoded(&spec, &all.collect());
        for (at, flip) in (0..good.len()).flat_map(|at| [0x01, 0x10, 0x80, 0xff].map(|f| (at, f))) {
            let mut bad = good.clone();
            bad[at] ^= flip;
            let Ok(decoded) = decode(&spec, &bad) else { continue };
            for number in decoded.message.present() {
                assert!(canonical(&decoded.message, number).is_some(), "{number}");
            }
            assert!(!format!("{decoded:?}").is_empty());
        }
    }
}

/// A dialect of these lines, numbered from 2 without 65.
fn dialect(head: &str, lines: &[String]) -> Spec {
    let mut text = format!(
        "name = 't'\ndescription = 't'\n{head}\nlength_prefix = 'ascii'\n\
         response_code_column = '1987'\necho = {{ default = [], network_management = [] }}\n\
         [elements]\n"
    );
    for (number, line) in (2..=192).filter(|&number| number != 65).zip(lines) {
        writeln!(text, "{number} = {{ name = 't', sensitivity = 'secret', {line} }}").unwrap();
    }
    assert!(lines.len() <= 190, "{} lines", lines.len());
    Spec::from_toml(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

/// A dialect whose element 2 is this line.
fn one(line: &str) -> Spec {
    dialect("mti = 'bcd'\nbitmap = 'raw'", &[line.to_owned()])
}

/// The frame of element 2 alone: MTI 0100, the bitmap, then the element.
fn of_element_2(element: &[u8]) -> Vec<u8> {
    [&[0x01, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0], element].concat()
}

#[test]
fn values_on_the_wire() {
    for (line, value, wire) in [
        (
            "type='n', length='LL', max=19, encoding='bcd', prefix='bcd'",
            "123",
            &[3, 0x01, 0x23][..],
        ),
        ("type='n', length='LLL', max=19, encoding='bcd', prefix='bcd'", "12", &[0, 2, 0x12]),
        (
            "type='n', length='L', max=19, encoding='bcd', prefix='binary', prefix_counts='bytes', \
             unused_nibble='right-f'",
            "123",
            &[2, 0x12, 0x3f],
        ),
        ("type='z', length='LL', max=37, encoding='bcd', prefix='bcd'", "1=29", &[4, 0x1d, 0x29]),
        (
            "type='z', length='LL', max=37, encoding='bcd', prefix='bcd'",
            "1:;<>",
            &[5, 1, 0xab, 0xce],
        ),
        ("type='x+n', length='fixed', max=5, encoding='bcd'", "D1234", &[0x44, 0x12, 0x34]),
        (
            "type='x+n', length='fixed', max=5, encoding='bcd', sign='ebcdic'",
            "C1234",
            &[0xc3, 0x12, 0x34],
        ),
        ("type='x+n', length='fixed', max=4, encoding='bcd'", "C123", &[0x43, 0x01, 0x23]),
        (
            "type='n', length='fixed', max=3, encoding='bcd', unused_nibble='left-f'",
            "301",
            &[0xf3, 0x01],
        ),
        (
            "type='an', length='LL', max=9, encoding='ebcdic-037', prefix='ebcdic'",
            "aZ9",
            &[0xf0, 0xf3, 0x81, 0xe9, 0xf9],
        ),
        ("type='b', length='LL', max=9, encoding='hex', prefix_counts='bytes'", "AB", b"024142"),
        ("type='b', length='LL', max=9, encoding='hex'", "AB", b"044142"),
        (
            "type='b', length='L', max=252, encoding='raw', prefix='binary', \
             wrapper={id='01', length=2}",
            "AB",
            &[5, 1, 0, 2, b'A', b'B'],
        ),
    ] {
        let spec = one(line);
        let frame = frame(&spec, b"0100", &[(2, value.as_bytes())]);
        assert_eq!(frame, of_element_2(wire), "{line}");
        let decoded = decode(&spec, &frame).unwrap();
        assert_eq!(decoded.fault, None, "{line}");
        assert_eq!(canonical(&decoded.message, 2).unwrap(), value.as_bytes(), "{line}");
    }
}

#[test]
fn faults_of_other_encodings() {
    use FieldErrorKind as Kind;
    let digits = "type='n', length='LL', max=5, encoding='bcd', prefix='bcd'";
    let wrapped = "type='b', length='L', max=9, encoding='raw', prefix='binary', \
                   wrapper={id='01', length=2}";
    for (line, wire, kind) in [
        (digits, &[3, 0x11, 0x23][..], Kind::UnusedNibble),
        (digits, &[3, 0xf1, 0x23], Kind::UnusedNibble),
        (digits, &[3, 0x01, 0x2a], Kind::BadCharacter),
        (digits, &[3, 0x0a, 0x23], Kind::BadCharacter),
        (digits, &[2, 0xa1], Kind::BadCharacter),
        (digits, &[6, 1, 2, 3], Kind::TooLong),
        (digits, &[0], Kind::TooShort),
        (digits, &[0x1a, 1, 2, 3], Kind::BadLengthPrefix),
        (digits, &[5, 1, 2], Kind::Truncated),
        (
            "type='n', length='fixed', max=3, encoding='bcd', unused_nibble='right-f'",
            &[0x12, 0x30],
            Kind::UnusedNibble,
        ),
        (
            "type='n', length='L', max=4, encoding='bcd', prefix='binary', prefix_counts='bytes', \
             unused_nibble='left-f'",
            &[3, 0xf1, 0x23, 0x45],
            Kind::TooLong,
        ),
        (
            "type='z', length='LL', max=9, encoding='bcd', prefix='bcd'",
            &[2, 0x1f],
            Kind::BadCharacter,
        ),
        ("type='x+n', length='fixed', max=3, encoding='bcd'", &[0xc3, 0x12], Kind::BadCharacter),
        ("type='x+n', length='fixed', max=3, encoding='bcd'", &[0x43, 0x1d], Kind::BadCharacter),
        ("type='n', length='fixed', max=1, encoding='ebcdic-037'", b"1", Kind::BadCharacter),
        (
            "type='b', length='LL', max=9, encoding='hex', prefix_counts='bytes'",
            b"014",
            Kind::Truncated,
        ),
        (wrapped, &[5, 2, 0, 2, 8, 9], Kind::BadWrapper),
        (wrapped, &[5, 1, 0, 1, 8, 9], Kind::BadWrapper),
        (wrapped, &[5, 1, 0, 3, 8, 9], Kind::BadWrapper),
        (wrapped, &[2, 1, 0], Kind::BadWrapper),
        (wrapped, &[0], Kind::BadWrapper),
        (wrapped, &[3, 1, 0, 0], Kind::TooShort),
        (wrapped, &[13, 1, 0, 10, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9], Kind::TooLong),
    ] {
        let spec = one(line);
        let bad = of_element_2(wire);
        let decoded = decode(&spec, &bad).unwrap();
        let fault = decoded.fault.unwrap_or_else(|| panic!("{line} {wire:?}"));
        assert_eq!((fault.element, fault.offset, fault.kind), (2, 10, kind), "{line} {wire:?}");
        assert!(!decoded.message.has(2));
    }
}

#[test]
fn what_packed_digits_cannot_hold() {
    let spec = one("type='z', length='LL', max=37, encoding='bcd'");
    let mut message = OutgoingMessage::new(Mti::FINANCIAL_REQUEST);
    // F only fills up, so the end sentinel of a track has no nibble.
    let error = message.set(2, b"47?").encode(&spec, &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "DE2: character not allowed by the type");
    // `D` is another way to write the separator.
    let frame = frame(&spec, b"0100", &[(2, b"47D1")]);
    assert_eq!(canonical(&decode(&spec, &frame).unwrap().message, 2).unwrap(), b"47=1");
}

#[test]
fn element_65_is_none_where_it_stands_for_the_third_bitmap() {
    let line = "type='b', length='fixed', max=1, encoding='raw'".to_owned();
    for third in ["leading", "element-65"] {
        let head = format!("mti = 'bcd'\nbitmap = 'raw'\nthird_bitmap = '{third}'");
        let spec = dialect(&head, &vec![line.clone(); 190]);
        let mut message = OutgoingMessage::new(Mti::FINANCIAL_REQUEST);
        message.set(64, b"a").set(65, b"b").set(66, b"c").set(130, b"d");
        let error = message.encode(&spec, &mut Vec::new()).unwrap_err();
        assert_eq!(error.element, 65, "{third}");
        let mut out = Vec::new();
        message.unset(65).encode(&spec, &mut out).unwrap();
        let (primary, secondary) = ([0x80, 0, 0, 0, 0, 0, 0, 1], [0xc0, 0, 0, 0, 0, 0, 0, 0]);
        let third_bitmap = [0x40, 0, 0, 0, 0, 0, 0, 0];
        let parts: [&[u8]; 5] = match third {
            "leading" => [&primary, &secondary, &third_bitmap, b"a", b"cd"],
            _ => [&primary, &secondary, b"a", &third_bitmap, b"cd"],
        };
        assert_eq!(out, [&[0x02, 0x00], &parts.concat()[..]].concat(), "{third}");
        for len in 0..out.len() {
            if let Ok(decoded) = decode(&spec, &out[..len]) {
                assert!(decoded.fault.is_some(), "{third} {len}");
                assert!(!decoded.message.has(130) && !decoded.message.has(65));
            }
        }
        let decoded = decode(&spec, &out).unwrap();
        assert_eq!(decoded.message.present().iter().collect::<Vec<_>>(), [64, 66, 130]);
        out.push(0);
        let fault = decode(&spec, &out).unwrap().fault.unwrap();
        assert_eq!((fault.element, fault.kind), (130, FieldErrorKind::TrailingBytes));
    }
}

/// The codes of 0x20 to 0x7e as the Python codecs `cp037` (Python 3.11) and `cp1047` (package
/// `ebcdic` 2.0.1) write them.
#[test]
fn ebcdic_is_what_others_take_it_for() {
    let shared = "405a7f7b5b6c507d4d5d5c4e6b604b61f0f1f2f3f4f5f6f7f8f97a5e4c7e6e6f\
                  7cc1c2c3c4c5c6c7c8c9d1d2d3d4d5d6d7d8d9e2e3e4e5e6e7e8e9";
    let lower = "6d79818283848586878889919293949596979899a2a3a4a5a6a7a8a9c04fd0a1";
    for (page, brackets) in [("037", "bae0bbb0"), ("1047", "ade0bd5f")] {
        let spec = one(&format!("type='ans', length='fixed', max=95, encoding='ebcdic-{page}'"));
        let printable: Vec<u8> = (0x20..=0x7e).collect();
        let frame = frame(&spec, b"0100", &[(2, &printable)]);
        let codes = frame[10..].iter().map(|code| format!("{code:02x}")).collect::<String>();
        assert_eq!(codes, [shared, brackets, lower].concat(), "{page}");

        let strict = "text='strict', length='fixed', max=1";
        let spec = one(&format!("type='ans', {strict}, encoding='ebcdic-{page}'"));
        for code in 0..=255 {
            let single = of_element_2(&[code]);
            let decoded = decode(&spec, &single).unwrap();
            match frame[10..].iter().position(|&known| known == code) {
                Some(at) => assert_eq!(canonical(&decoded.message, 2).unwrap(), [printable[at]]),
                None => assert_eq!(decoded.fault.unwrap().kind, FieldErrorKind::BadCharacter),
            }
        }
    }
}

/// Frames written by hand from the standard: what our encoder makes of the values.
#[test]
fn frames_written_by_hand() {
    let signed_on: &[(u8, &[u8])] = &[(7, b"1121083000"), (11, b"000001"), (70, b"301")];
    let card: &[(u8, &[u8])] = &[
        (2, b"4761340000000000019"),
        (22, b"051"),
        (28, b"C00000100"),
        (35, b"4761340000000019=2912"),
        (49, b"978"),
        (55, &[0x9f, 0x36, 2, 0, 0x2a]),
    ];
    for (name, mti, values, hex) in [
        (
            support::SHIPPED,
            b"0800",
            signed_on,
            "30383030 38323230303030303030303030303030 30343030303030303030303030303030 \
             31313231303833303030 303030303031 333031",
        ),
        (
            support::BINARY,
            b"0800",
            signed_on,
            "0800 8220000000000000 0400000000000000 1121083000 000001 0301",
        ),
        (
            support::BINARY,
            b"0100",
            card,
            "0100 4000041020008200 19 04761340000000000019 0051 43 00000100 \
             21 04761340000000019D2912 393738 0005 9F3602002A",
        ),
    ] {
        let frame = support::frame(&support::builtin(name), mti, values);
        let written: String = frame.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(written, hex.replace(' ', ""), "{name}");
    }
}
