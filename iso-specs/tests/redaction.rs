//! No PAN, PIN block, track or key is in anything that a person can see.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop")]

mod support;

use iso_specs::{OutgoingMessage, Sensitivity, Spec, decode, examine, redact, tlv};
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

fn listing(spec: &Spec, frame: &[u8]) -> String {
    let shown = |examined| redact::listing(&examined, |_| None).to_string();
    examine(spec, frame).map_or_else(|error| error.to_string(), shown)
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
    let listing = listing(&spec, &frame);
    for lines in [
        "MTI    0100  ISO 8583:1987, authorization, request, acquirer\n\
         bitmap E0040000602912000000000004000000 2 3 14 34 35 43 45 48 52 55 102\n",
        "\nDE002  Primary account number, LL ascii, 16 bytes: 476134******0019\n",
        "\nDE052  Personal identification number data, fixed hex, 16 bytes: [8 bytes]\n",
        ": \n       9F26  Application cryptogram: A1B2C3D401020304\n",
        "\n       5A  Application PAN: [8 bytes]\n",
        "\n       DF01  no name in EMV: [8 bytes]\n",
        // A template is opened, and what is in it is hidden all the same.
        "\n       70  Read record response template: \n         5A  Application PAN: [8 bytes]\n",
    ] {
        assert!(listing.contains(lines), "{lines} is not in {listing}");
    }

    let fields: String = message.elements().map(|field| format!("{field} {field:?}")).collect();
    let copies = format!("{:?} {:?}", message.text::<19>(2), message.bytes::<8>(52));
    let mut outgoing = OutgoingMessage::new(message.mti());
    outgoing.set(2, PAN.as_bytes());
    let outgoing = format!("{outgoing:?}");
    assert_eq!(outgoing, "0100 {2}");
    // A bitmap may look like anything.
    let listing: Vec<_> = listing.lines().filter(|line| !line.starts_with("bitmap")).collect();
    for shown in
        [line, listing.join("\n"), fields, copies, outgoing, format!("{message:?} {decoded:?}")]
    {
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
            let shown = format!("{decoded:?}\n{}", listing(&spec, &frame));
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
    let listing = listing(&spec, &full_frame(&spec, true));
    let lines = || listing.lines().skip(2);
    assert_eq!(lines().filter(|line| line.starts_with("DE")).count(), 127);
    assert!(lines().all(|line| line.starts_with("DE") || line.starts_with("       ")));
    assert!(!listing.chars().any(|character| character.is_control() && character != '\n'));
}

#[test]
fn a_fault_is_shown_without_its_value() {
    let spec = shipped();
    let decoded = decode(&spec, b"01004000000000000000164761340000000x19").unwrap();
    assert_eq!(format!("{decoded:?}"), "0100 (DE2: character not allowed by the type at byte 20)");
}

#[test]
fn all_faults_are_listed_and_a_shifted_row_of_digits_is_hidden() {
    let spec = shipped();
    let values = [(4, &b"000000001250"[..]), (11, b"000001"), (37, b"000000000001")];
    let right = frame(&spec, b"0100", &values);
    assert!(listing(&spec, &right).ends_with(": 000000000001"));
    // DE4 and DE11 are no digits.
    let mut wrong = right;
    wrong[20 + 3] = b'x';
    wrong[20 + 12] = b'x';
    let shown = listing(&spec, &wrong);
    let faults: Vec<_> = shown.lines().filter(|line| line.starts_with("fault")).collect();
    assert_eq!(
        faults,
        [
            "fault  DE4: character not allowed by the type at byte 20 (Amount, transaction)",
            "fault  DE11: character not allowed by the type at byte 32 \
             (Systems trace audit number)",
        ]
    );
    // The bitmap is lost, so that the PAN stands where public elements are.
    let lost = [b"0100", &b"0000000000000060"[..], PAN.as_bytes(), PAN.as_bytes()].concat();
    let lost = [&lost[..], &[b'0'; 200]].concat();
    let shown = listing(&spec, &lost);
    assert!(shown.contains("fault") && !shown.contains(PAN), "{shown}");
    let lost = [b"0100", PAN.as_bytes(), PAN.as_bytes()].concat();
    let shown = listing(&spec, &lost);
    assert!(shown.contains("bitmap [16 bytes] 13 elements\n") && !shown.contains(PAN), "{shown}");
}

/// What a listing shows of a shifted PAN must not be shown in parts either.
const LEAK_DIGITS: usize = 8;

/// Digits of a secret in a row, in the forms that a listing could show them in.
fn leaks(secrets: &[&[u8]]) -> Vec<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    let mut leaks = Vec::new();
    for secret in secrets {
        let text = secret.escape_ascii().to_string();
        // The separator of a track is no digit, or the nibble D.
        for form in [text.replace('=', ""), text.replace('=', "D"), hex(secret)] {
            let digits: Vec<char> = form.chars().filter(char::is_ascii_hexdigit).collect();
            leaks.extend(digits.windows(LEAK_DIGITS).map(|row| row.iter().collect::<String>()));
        }
    }
    leaks
}

/// The frame with one bit of a bitmap turned over, and with one byte taken out, put in or changed.
fn damaged(frame: &[u8], bitmap_at: usize, is_hex: bool) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for bit in 0..128 {
        let mut one = frame.to_vec();
        if is_hex {
            let digit = &mut one[bitmap_at + bit / 4];
            let value = char::from(*digit).to_digit(16).unwrap() ^ (8 >> (bit % 4));
            *digit = char::from_digit(value, 16).unwrap().to_ascii_uppercase() as u8;
        } else {
            one[bitmap_at + bit / 8] ^= 0x80 >> (bit % 8);
        }
        all.push(one);
    }
    for at in 0..frame.len() {
        let (before, after) = frame.split_at(at);
        all.push([before, &after[1..]].concat());
        all.push(before.to_vec());
        for byte in [b'0', b'9', 0x12, 0xff] {
            all.push([before, &[byte], after].concat());
            all.push([before, &[byte], &after[1..]].concat());
        }
    }
    all
}

#[test]
fn no_row_of_a_secret_is_shown_of_a_damaged_message() {
    const PAN: &[u8] = b"4761349276581354";
    const TRACK: &[u8] = b"4761349276581354=29121017365829416375";
    let leaks = leaks(&[PAN, TRACK, &PIN_BLOCK]);
    for name in Spec::builtin_names() {
        let spec = support::builtin(name);
        let is_hex = name == support::SHIPPED;
        for last in [&[][..], &[(70, &b"001"[..])], &[(102, PAN), (128, &PIN_BLOCK)]] {
            let values = [
                (2, PAN),
                (3, &b"000000"[..]),
                (4, b"000000001250"),
                (7, b"1121210000"),
                (11, b"000001"),
                (35, TRACK),
                (37, b"000000000001"),
                (43, b"SHOP"),
                (48, PAN),
                (49, b"978"),
                (52, &PIN_BLOCK),
                (55, &[0x9f, 0x36, 2, 0, 1]),
            ];
            let frame = frame(&spec, b"0100", &[&values[..], last].concat());
            for damaged in damaged(&frame, if is_hex { 4 } else { 2 }, is_hex) {
                let line = decode(&spec, &damaged).map(|decoded| format!("{decoded:?}"));
                let shown = format!("{}\n{}", listing(&spec, &damaged), line.unwrap_or_default());
                let joined: String = shown.chars().filter(char::is_ascii_hexdigit).collect();
                let joined = joined.to_uppercase();
                let leak = leaks.iter().find(|leak| joined.contains(*leak));
                assert_eq!(leak, None, "{name}\n{shown}");
            }
        }
    }
}

#[test]
fn chip_data_that_is_broken_shows_no_value() {
    let spec = shipped();
    let chip = [&[0x9f, 0x36, 2, 0, 0x2a, 0x9f, 0x26, 8][..], &PIN_BLOCK, &[0x82, 2, 1]].concat();
    let frame = frame(&spec, b"0100", &[(55, &chip)]);
    let shown = listing(&spec, &frame);
    assert!(shown.contains("9F26  Application cryptogram: [8 bytes]"), "{shown}");
    assert!(shown.ends_with("value truncated at byte 16"), "{shown}");
    let line = decode(&spec, &frame).unwrap().message.to_string();
    assert!(line.contains("9F36=[2 bytes] 9F26=[8 bytes] (value truncated"), "{line}");
}

#[test]
fn codes_are_shown_of_a_message_with_a_fault() {
    let spec = shipped();
    let mut frame = frame(&spec, b"0810", &[(11, b"000001"), (39, b"30"), (70, b"301")]);
    frame[4 + 32] = b'x';
    let shown = listing(&spec, &frame);
    for part in [
        "MTI    0810",
        "bitmap 80200000020000000400000000000000 11 39 70\n",
        "2 bytes: 30\n",
        "3 bytes: 301\n",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(decode(&spec, &frame).unwrap().message.to_string() == "0810 39=30 70=301");
}
