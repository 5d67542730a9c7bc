//! Free text in every alphabet, values that stand for none, and spaces on either side.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop")]

mod support;

use iso_specs::{
    EncodeErrorKind, FieldErrorKind, Mti, OutgoingMessage, Spec, Text, decode, examine, redact,
};
use support::{canonical, dialects, frame, shipped};

/// A merchant's name in Latin-1, UTF-8 and GBK, filled with NUL, and in EBCDIC.
const NAMES: [&[u8]; 5] = [
    b"CAF\xc9 DE PARIS",
    b"CAF\xc3\x89 DE PARIS",
    b"\xd6\xd0\xb9\xfa\xd2\xf8\xc1\xaa",
    b"SHOP\0\0\0\x02\x03\x1b[2J\n",
    &[0xc3, 0xc1, 0xc6, 0x51, 0xff, 0x00],
];

/// The shipped dialect with these keys behind the type of some elements.
fn with(changes: &[(u8, &str, &str)]) -> Spec {
    let mut text = Spec::builtin(support::SHIPPED).unwrap().to_owned();
    for (element, old, new) in changes {
        let head = format!("\n{element} = ");
        let (before, rest) = text.split_once(&head).unwrap();
        let (line, after) = rest.split_once('\n').unwrap();
        assert!(line.contains(old), "{element}");
        text = format!("{before}{head}{}\n{after}", line.replacen(old, new, 1));
    }
    Spec::from_toml(&text).unwrap()
}

fn listing(spec: &Spec, frame: &[u8]) -> String {
    redact::listing(&examine(spec, frame).unwrap(), |_| None).to_string()
}

#[test]
fn free_text_of_any_bytes_is_kept_and_returned_as_it_came() {
    for spec in dialects() {
        for element in spec.elements().filter(|element| element.text() == Text::Any) {
            let number = element.number();
            for name in NAMES {
                let value = &name[..name.len().min(element.max())];
                let request = frame(&spec, b"0100", &[(3, b"000000"), (number, value)]);
                let decoded = decode(&spec, &request).unwrap();
                assert_eq!(decoded.fault, None, "{number} {name:?}");
                let read = canonical(&decoded.message, number).unwrap();
                assert!(read.starts_with(value), "{number}");
                let all = decoded.message.present();
                let mti = Mti::AUTHORIZATION_REQUEST;
                let (mut echoed, mut again) = (Vec::new(), Vec::new());
                OutgoingMessage::echo(mti, &decoded.message, all)
                    .encode(&spec, &mut echoed)
                    .unwrap();
                assert_eq!(echoed, request, "{number}");
                // What can be read can be set.
                OutgoingMessage::new(mti)
                    .set(3, b"000000")
                    .set(number, &read)
                    .encode(&spec, &mut again)
                    .unwrap();
                assert_eq!(again, request, "{number}");
            }
        }
    }
}

#[test]
fn what_is_free_text_is_said_by_the_type_or_the_element() {
    let free = |spec: &Spec| -> Vec<u8> {
        let elements = spec.elements().filter(|element| element.text() == Text::Any);
        elements.map(|element| element.number()).collect()
    };
    let shipped = shipped();
    let listed = free(&shipped);
    // What rules read, and what answers say, is strict.
    for number in [2, 3, 4, 7, 11, 14, 22, 23, 32, 35, 37, 38, 39, 49, 51, 52, 55, 70, 90] {
        assert!(!listed.contains(&number), "{number}");
    }
    for number in [34, 41, 42, 43, 44, 45, 48, 54, 60, 61, 62, 63, 91, 95, 104, 122, 123, 127] {
        assert!(listed.contains(&number), "{number}");
    }
    let own = with(&[(43, "sensitivity", "text = \"strict\", sensitivity")]);
    assert!(!free(&own).contains(&43));
    for name in NAMES {
        let request = frame(&shipped, b"0100", &[(43, name)]);
        let fault = decode(&own, &request).unwrap().fault.unwrap();
        assert_eq!((fault.element, fault.kind), (43, FieldErrorKind::BadCharacter));
    }
}

#[test]
fn ebcdic_text_keeps_the_bytes_that_are_no_ascii() {
    let spec = with(&[(43, "encoding = \"ascii\"", "encoding = \"ebcdic-037\"")]);
    let mut request = frame(&spec, b"0100", &[(43, b"SHOP")]);
    let at = request.len() - 40;
    for (place, code) in (0..=255).enumerate() {
        request[at + place % 40] = code;
    }
    let decoded = decode(&spec, &request).unwrap();
    assert_eq!(decoded.fault, None);
    let read = canonical(&decoded.message, 43).unwrap();
    let mut again = Vec::new();
    let mut message = OutgoingMessage::new(Mti::AUTHORIZATION_REQUEST);
    message.set(43, &read).encode(&spec, &mut again).unwrap();
    assert_eq!(again, request);
    let cafe = frame(&spec, b"0100", &[(43, b"CAF\xc9")]);
    assert!(listing(&spec, &cafe).contains(": \"CAF\u{c9}     "), "{}", listing(&spec, &cafe));
}

#[test]
fn neither_stx_nor_etx_is_in_a_frame_that_they_end() {
    let spec = shipped().within_stx_etx();
    assert!(spec.is_text());
    for (name, right) in [(&b"CAF\xc9\0"[..], true), (b"a\x02b", false), (b"a\x03b", false)] {
        let request = frame(&shipped(), b"0100", &[(43, name)]);
        let fault = decode(&spec, &request).unwrap().fault;
        assert_eq!(fault.map(|fault| fault.element), (!right).then_some(43), "{name:?}");
        let mut message = OutgoingMessage::new(Mti::AUTHORIZATION_REQUEST);
        let written = message.set(43, name).encode(&spec, &mut Vec::new());
        let kind = written.err().map(|error| error.kind);
        assert_eq!(kind, (!right).then_some(EncodeErrorKind::BadCharacter));
    }
}

#[test]
fn a_listing_names_the_alphabet_and_shows_no_control_character() {
    let gbk = with(&[(43, "sensitivity", "alphabet = \"gbk\", sensitivity")]);
    let latin = with(&[(43, "sensitivity", "alphabet = \"iso-8859-1\", sensitivity")]);
    let shipped = shipped();
    for (spec, name, shown) in [
        (&shipped, &b"SHOP  1"[..], "\"SHOP  1"),
        (&shipped, b"SHOP\0", "SHOP\\x00"),
        (&shipped, NAMES[0], "\"CAF\\xc9 DE PARIS"),
        (&shipped, NAMES[1], "\"CAF\u{c9} DE PARIS"),
        (&latin, NAMES[0], "\"CAF\u{c9} DE PARIS"),
        (&gbk, NAMES[2], "\"\u{4e2d}\u{56fd}\u{94f6}\u{8054} "),
        // An override of the direction of writing, a control sequence and a line end.
        (
            &shipped,
            "a\u{202e}b\u{9b}c\u{e9}\n\x1b[2J".as_bytes(),
            "a\\u{202e}b\\u{9b}c\u{e9}\\n\\u{1b}[2J",
        ),
    ] {
        let shown_all = listing(spec, &frame(spec, b"0100", &[(43, name)]));
        let line = shown_all.lines().find(|line| line.starts_with("DE043")).unwrap();
        assert!(line.contains(shown), "{line}");
        assert!(!shown_all.chars().any(|one| one != '\n' && one.is_control()), "{shown_all:?}");
    }
    let named = |spec: &Spec, name: &[u8]| {
        let shown = listing(spec, &frame(spec, b"0100", &[(43, name)]));
        shown.rsplit_once('"').unwrap().1.to_owned()
    };
    assert_eq!(named(&shipped, b"SHOP"), "");
    assert_eq!(named(&shipped, NAMES[3]), " (ASCII)");
    assert_eq!(named(&shipped, NAMES[1]), " (UTF-8)");
    assert_eq!(named(&shipped, NAMES[0]), " (not UTF-8)");
    assert_eq!(named(&gbk, NAMES[2]), " (GBK)");
    assert_eq!(named(&latin, NAMES[0]), " (windows-1252)");
    // What is hidden stays so, in whatever alphabet.
    let hidden = listing(&shipped, &frame(&shipped, b"0100", &[(48, NAMES[1])]));
    assert!(hidden.ends_with(": [14 characters]"), "{hidden}");
}

#[test]
fn a_value_that_stands_for_none_is_none() {
    for spec in dialects() {
        let values = [(3, &b"000000"[..]), (14, b"0000"), (41, b"TERM0001")];
        let request = frame(&spec, b"0100", &values);
        let examined = examine(&spec, &request).unwrap();
        assert!(examined.faults.is_empty(), "{:?}", examined.faults);
        assert!(!examined.message.has(14) && examined.message.has(41));
        assert_eq!(examined.absent().map(|element| element.number()).collect::<Vec<_>>(), [14]);
        assert!(listing(&spec, &request).ends_with("\nabsent DE014  Date, expiration"));
    }
    // Of an element with a length, and one that is another value.
    let spec = with(&[(32, "sensitivity", "absent = \"0\", sensitivity")]);
    for (value, is_there) in [(&b"0"[..], false), (b"00", true), (b"1", true)] {
        let request = frame(&spec, b"0100", &[(32, value)]);
        let decoded = decode(&spec, &request).unwrap();
        assert_eq!((decoded.fault, decoded.message.has(32)), (None, is_there), "{value:?}");
    }
    let spec = with(&[(14, ", absent = \"0000\"", "")]);
    let request = b"010000040000000000000000";
    let fault = decode(&spec, request).unwrap().fault.unwrap();
    assert_eq!((fault.element, fault.kind), (14, FieldErrorKind::BadPattern));
}

#[test]
fn spaces_may_stand_on_either_side_and_come_back_there() {
    for spec in dialects() {
        for rrn in ["   123456789", "123456789   ", " 1 ", "            "] {
            let request = frame(&spec, b"0100", &[(37, rrn.as_bytes())]);
            let decoded = decode(&spec, &request).unwrap();
            let is_right = !rrn.trim().contains(' ');
            assert!(is_right && decoded.fault.is_none(), "{rrn:?}");
            let read = canonical(&decoded.message, 37).unwrap();
            assert_eq!(read, format!("{rrn:12}").as_bytes());
        }
        let inside = frame(&spec, b"0100", &[(37, b"123456789012")]);
        let inside: Vec<u8> = [&inside[..inside.len() - 5], b" 9012"].concat();
        assert_eq!(decode(&spec, &inside).unwrap().fault.unwrap().element, 37);
    }
}

#[test]
fn public_elements_before_the_fault_are_listed_but_no_pan() {
    let spec = shipped();
    let values = [(3, &b"000000"[..]), (4, b"000000001250"), (11, b"000001"), (43, b"SHOP")];
    let right = frame(&spec, b"0100", &values);
    let cut = &right[..right.len() - 1];
    let shown = listing(&spec, cut);
    for line in [
        "bitmap 3020000000200000 3 4 11 43\n",
        "12 bytes: 000000001250\n",
        "6 bytes: 000001\n",
        "\nfault  DE43: truncated at byte 44 (Card acceptor name and location)",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    // A log shows of it what it did before.
    let line = decode(&spec, cut).unwrap().message.to_string();
    assert_eq!(line, "0100 3=[6 digits] 4=[12 digits] 11=[6 digits]");
    // A PAN, and a part of a PIN block, in the place of a public value.
    for name in [&b"4761340000000019"[..], b"X 4761340000000019 Y", b"1B9C1845"] {
        let mut wrong = frame(&spec, b"0100", &[(41, b"TERM0001"), (42, b"M"), (43, name)]);
        wrong.pop();
        wrong.extend(b"YZ");
        let shown = listing(&spec, &wrong);
        assert!(shown.contains(": TERM0001\n") && shown.contains("fault"), "{shown}");
        let is_short = name.len() < 13;
        let shown = shown.replace(' ', "");
        assert!(is_short || !shown.contains("4761340000000019"), "{shown}");
    }
    let mut wrong = frame(&spec, b"0100", &[(37, b"1B9C1845EB99"), (41, b"TERM0001")]);
    wrong.push(b'0');
    let shown = listing(&spec, &wrong);
    assert!(shown.contains(": [12 characters]\n") && !shown.contains("1B9C"), "{shown}");
}
