//! No PAN, PIN block, track or key is in anything that a person can see.

mod support;

use iso_specs::{OutgoingMessage, Sensitivity, decode, redact, tlv};
use support::{Choices, dialects, frame, full_frame, shipped, value};

const PAN: &str = "4761340000000019";
const TRACK: &str = "4761340000000019=29122010000099900000";
const PIN_BLOCK: [u8; 8] = [0x1b, 0x9c, 0x18, 0x45, 0xeb, 0x99, 0x3a, 0x7e];

fn chip() -> Result<Vec<u8>, tlv::TlvError> {
    let pan = [0x47, 0x61, 0x34, 0, 0, 0, 0, 0x19];
    let mut out = Vec::new();
    for (tag, data) in [
        (0x9f26, &[0xa1, 0xb2, 0xc3, 0xd4, 1, 2, 3, 4][..]),
        (0x9f36, &[0, 0x2a]),
        (0x5a, &pan),
        (0x57, &pan),
        (0x5f20, b"HOLDER/NAME"),
        (0x5f24, &[0x29, 0x12, 0x31]),
        (0x99, &PIN_BLOCK),
        (0x86, &PIN_BLOCK),
        (0x9f1f, b"DISCRETIONARY"),
        (0x9f20, b"DISCRETIONARY"),
        (0xdf01, &pan),
        (0x70, &[0x5a, 8, 0x47, 0x61, 0x34, 0, 0, 0, 0, 0x19]),
        // Longer than an ATC is: not what the tag says.
        (0x9f36, &pan),
    ] {
        tlv::push(&mut out, tag, data)?;
    }
    Ok(out)
}

#[test]
fn a_request_is_shown_masked() {
    let spec = shipped();
    let chip = chip().unwrap();
    let frame = frame(
        &spec,
        b"0100",
        &[
            (2, PAN.as_bytes()),
            (3, b"010000"),
            (14, b"2912"),
            (34, PAN.as_bytes()),
            (35, TRACK.as_bytes()),
            (43, b"Shop \"1\"\\ 39=00"),
            (45, b"B4761340000000019^HOLDER/NAME^2912"),
            (48, PAN.as_bytes()),
            (52, &PIN_BLOCK),
            (55, &chip),
            (102, PAN.as_bytes()),
        ],
    );
    let decoded = decode(&spec, &frame).unwrap();
    let message = &decoded.message;
    let line = message.to_string();
    assert_eq!(
        line,
        "0100 2=476134******0019 3=010000 14=[4 digits] 34=[16 characters] 35=[37 characters] \
         43=\"Shop \\\"1\\\"\\\\ 39=00                         \" 45=[34 characters] \
         48=[16 characters] 52=[8 bytes] 55={9F26=A1B2C3D401020304 9F36=002A 5A=[8 bytes] \
         57=[8 bytes] 5F20=[11 bytes] 5F24=[3 bytes] 99=[8 bytes] 86=[8 bytes] 9F1F=[13 bytes] \
         9F20=[13 bytes] DF01=[8 bytes] 70=[10 bytes] 9F36=[8 bytes]} 102=[16 characters]"
    );
    let listing = redact::listing(message).to_string();
    assert!(listing.starts_with("MTI   0100\nDE002 Primary account number: 476134******0019\n"));
    assert!(listing.contains("\nDE052 Personal identification number data: [8 bytes]\n"));

    let fields: String = message.elements().map(|field| format!("{field} {field:?}")).collect();
    let copies = format!("{:?} {:?}", message.text::<19>(2), message.bytes::<8>(52));
    let mut outgoing = OutgoingMessage::new(message.mti());
    outgoing.set(2, PAN.as_bytes());
    let outgoing = format!("{outgoing:?}");
    assert_eq!(outgoing, "0100 {2}");
    for shown in [line, listing, fields, copies, outgoing, format!("{message:?} {decoded:?}")] {
        for secret in [PAN, TRACK, "476134000", "1B9C18", "1b9c18", "HOLDER", "DISCRET", "2912"] {
            assert!(!shown.contains(secret), "{secret} is in {shown}");
        }
    }
}

#[test]
fn no_hidden_value_is_in_anything_that_is_shown() {
    let mut choices = Choices::from_seed(3);
    for spec in dialects() {
        for element in spec.elements() {
            let number = element.number();
            let sent = value(element, element.max(), &mut choices);
            let frame = frame(&spec, b"0100", &[(number, &sent)]);
            let decoded = decode(&spec, &frame).unwrap();
            let shown = format!("{decoded:?}\n{}", redact::listing(&decoded.message));
            let hex: String = sent.iter().map(|byte| format!("{byte:02X}")).collect();
            let whole = shown.contains(&*sent.escape_ascii().to_string()) || shown.contains(&hex);
            // One or two characters are found by chance.
            if sent.len() > 2 {
                assert_eq!(whole, element.sensitivity() == Sensitivity::Public, "{element:?}");
            }
        }
    }
}

#[test]
fn what_may_hold_card_data_or_keys_is_hidden() {
    let spec = shipped();
    let hidden = [14, 34, 35, 36, 45, 46, 47, 48, 52, 53, 54, 64, 96, 98, 102, 103, 104, 128];
    for number in hidden.into_iter().chain(56..=63).chain(105..=127) {
        let sensitivity = spec.element(number).unwrap().sensitivity();
        assert!(matches!(sensitivity, Sensitivity::Secret | Sensitivity::Track), "{number}");
    }
}

#[test]
fn a_line_cannot_be_forged() {
    // A dialect whose text is not checked as strictly would still be escaped, line by line.
    let spec = shipped();
    let listing =
        redact::listing(&decode(&spec, &full_frame(&spec, true)).unwrap().message).to_string();
    assert_eq!(listing.lines().count(), 1 + 127);
    assert!(listing.lines().skip(1).all(|line| line.starts_with("DE")));
    assert!(!listing.chars().any(|character| character.is_control() && character != '\n'));
}

#[test]
fn a_fault_is_shown_without_its_value() {
    let spec = shipped();
    let decoded = decode(&spec, b"01004000000000000000164761340000000x19").unwrap();
    assert_eq!(format!("{decoded:?}"), "0100 (DE2: character not allowed by the type at byte 20)");
}
