//! Hostile captures: whatever a file holds, it is read to its end or refused.

use super::*;

const ECHO_TEST: &[u8] = b"0800822000000000000004000000000000001121083000000001301";
const PAN: &str = "4761340000000019";

fn inspection() -> Inspection {
    let text = Spec::builtin("iso8583-1987-ascii").unwrap();
    Inspection {
        dialects: vec![Spec::from_toml(text).unwrap()],
        borders: Borders::Usual,
        header: Header::None,
        port: None,
        form: None,
    }
}

fn list(input: &[u8]) -> (Result<Tally, InspectError>, String) {
    let mut out = Vec::new();
    let tally = inspection().list(input, &mut out);
    (tally, String::from_utf8(out).unwrap())
}

/// A packet of TCP over IPv4, without checksums.
fn packet(sequence: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(40 + data.len()).unwrap().to_be_bytes();
    let ip = [&[0x45, 0][..], &length, &[0, 0, 0, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]];
    let tcp = [&[0x9c, 0x40, 0x21, 0x87][..], &sequence.to_be_bytes(), &[0; 4], &[0x50, 0x18]];
    [&ip.concat(), &tcp.concat(), &[0xff, 0xff, 0, 0, 0, 0][..], data].concat()
}

/// A classic capture of raw IP packets.
fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 101].map(u32::to_le_bytes).concat();
    for packet in packets {
        let length = u32::try_from(packet.len()).unwrap();
        file.extend([1_700_000_000, 5, length, length].map(u32::to_le_bytes).concat());
        file.extend(packet);
    }
    file
}

/// A newer capture: section, interface of raw IP packets, packets.
fn pcapng(packets: &[Vec<u8>]) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let padded = body.len().next_multiple_of(4);
        let length = u32::try_from(padded + 12).unwrap().to_le_bytes();
        let mut body = body.to_vec();
        body.resize(padded, 0);
        [&kind.to_le_bytes()[..], &length, &body, &length].concat()
    };
    let section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
    let mut file = [block(0x0a0d_0d0a, &section), block(1, &[101, 0, 0, 0, 0, 0, 1, 0])].concat();
    for packet in packets {
        let length = u32::try_from(packet.len()).unwrap();
        // 1,700,000,000 seconds and 5 microseconds.
        let (high, low) = (0x0006_0a24, 0x181e_4005);
        let head = [0, high, low, length, length].map(u32::to_le_bytes).concat();
        file.extend(block(6, &[&head[..], packet].concat()));
    }
    file
}

fn two_messages() -> Vec<Vec<u8>> {
    let frame = [&[0, 55][..], ECHO_TEST].concat();
    vec![packet(7, &frame[..30]), packet(37, &frame[30..]), packet(64, &frame)]
}

#[test]
fn captures_of_both_kinds_say_the_same() {
    let (old, new) = (list(&pcap(&two_messages())), list(&pcapng(&two_messages())));
    assert_eq!(old.0.unwrap(), Tally { messages: 2, faulty: 0, losses: 0 });
    assert_eq!(old.1, new.1);
    let first =
        "message 1: packet 2, 2023-11-14T22:13:20.000005Z, 127.0.0.1:40000 -> 127.0.0.1:8583";
    assert!(old.1.contains(first), "{}", old.1);
}

#[test]
fn a_cut_or_changed_capture_is_read_as_far_as_it_goes() {
    for file in [pcap(&two_messages()), pcapng(&two_messages())] {
        for cut in 0..file.len() {
            let (tally, out) = list(&file[..cut]);
            assert!(tally.is_err() || !out.is_empty() || cut < 100, "{cut}");
        }
        for at in 0..file.len() {
            for value in [0, 0xff] {
                let mut changed = file.clone();
                changed[at] = value;
                // Whatever comes out, it comes to an end.
                let _ = list(&changed);
            }
        }
    }
}

#[test]
fn a_response_code_is_explained() {
    let (tally, out) = list(b"30383130303030303030303030323030303030303535");
    assert_eq!(tally.unwrap(), Tally { messages: 1, faulty: 0, losses: 0 });
    assert!(out.ends_with("2 bytes: 55  Invalid Pin\n"), "{out}");
}

#[test]
fn a_message_with_a_fault_stands_between_the_others() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let right = hex(ECHO_TEST);
    let wrong = hex(&[&ECHO_TEST[..50], PAN.as_bytes()].concat());
    let (tally, out) = list(format!("{right}\n{wrong}\n{}\n{right}", hex(b"08x0")).as_bytes());
    assert_eq!(tally.unwrap(), Tally { messages: 4, faulty: 2, losses: 0 });
    assert!(out.contains("\nfault  MTI is not four digits at byte 2\n"), "{out}");
    assert!(!out.contains(PAN), "{out}");
}
