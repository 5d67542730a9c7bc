//! Every framing with every header: what is cut, what is refused, what goes back.

use super::*;

const BYTES_MAX: usize = 64;
static LONG: [u8; 65_536] = [b'a'; 65_536];
const BASE_I: &[u8] = b"\x16\x01\x02\x00\x99DDDSSS\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15";
const LONG_BASE_I: &[u8] =
    b"\x18\x01\x02\x00\x99DDDSSS\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x40\x07";
const REJECT: &[u8] =
    b"\x1a\x01\x02\x00\x99DDDSSS\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x80\x00\x05\x17";

/// Each framing with a frame `ab`, a keep-alive where it has one, and what is none of it.
type Case = (Framing, &'static [u8], &'static [u8], &'static [&'static [u8]]);
const FRAMINGS: [Case; 9] = [
    (Framing::Binary2, b"\x00\x02ab", b"\x00\x00", &[]),
    (Framing::Binary2Inclusive, b"\x00\x04ab", b"\x00\x02", &[b"\x00\x01"]),
    (Framing::Binary3, b"\x00\x00\x02ab", b"\x00\x00\x00", &[]),
    (Framing::Binary4, b"\x00\x00\x00\x02ab", b"\x00\x00\x00\x00", &[]),
    (Framing::Ascii4, b"0002ab", b"0000", &[b"000x", b" 002", b"+002", b"00\x002", b"000a"]),
    (Framing::Hex4, b"0002ab", b"0000", &[b"000g", b"0x02", b" 002"]),
    (Framing::Bcd2, b"\x00\x02ab", b"\x00\x00", &[b"\x00\x0a", b"\xf0\x00"]),
    (Framing::VisaVml, b"\x00\x02\x00\x00ab", b"\x00\x00\x00\x00", &[]),
    (Framing::StxEtx, b"\x02ab\x03", b"\x02\x03", &[b"ab\x03", b"\x03", b"\x00"]),
];

/// Each header as it comes and as it goes back before two bytes of message.
fn headers() -> [(Header, &'static [u8], Vec<u8>); 5] {
    let turned = |header: &[u8]| {
        let total = u8::try_from(header.len()).unwrap() + 2;
        [&header[..3], &[0, total], b"SSSDDD", &header[11..]].concat()
    };
    [
        (Header::None, b"", Vec::new()),
        (Header::Tpdu, b"\x60\x00\x01\x12\x34", b"\x60\x12\x34\x00\x01".to_vec()),
        (Header::Echo(3), b"xyz", b"xyz".to_vec()),
        (Header::BaseI, BASE_I, turned(BASE_I)),
        (Header::BaseI, LONG_BASE_I, turned(LONG_BASE_I)),
    ]
}

fn put(bytes: &'static [u8]) -> impl FnOnce(&mut Vec<u8>) -> Result<(), ()> {
    move |out| {
        out.extend_from_slice(bytes);
        Ok(())
    }
}

/// A frame as a peer sends it: nothing is turned round.
fn sent(framing: Framing, header: &[u8], message: &'static [u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let format = FrameFormat { framing, header: Header::None };
    append(&mut out, format, header, put(message)).unwrap().unwrap();
    out
}

/// Header and message of every frame of a stream that comes in these parts.
fn read(parts: &[&[u8]], format: FrameFormat) -> Result<Vec<(Bytes, Bytes)>, FrameError> {
    let mut input = BytesMut::new();
    let mut frames = Vec::new();
    for part in parts {
        input.extend_from_slice(part);
        while let Some(frame) = next(&mut input, format, BYTES_MAX)? {
            frames.push((frame.header, frame.message));
        }
    }
    Ok(frames)
}

#[test]
fn every_framing_is_named_and_in_the_tables() {
    for ((name, framing), (tested, ..)) in Framing::ALL.into_iter().zip(FRAMINGS) {
        assert_eq!(
            (Framing::from_name(name), framing.to_string()),
            (Some(tested), name.to_owned())
        );
    }
    assert_eq!(Framing::from_name("binary-5"), None);
}

#[test]
fn the_bytes_of_each_framing_are_these() {
    for (framing, frame, keep_alive, _) in FRAMINGS {
        assert_eq!(sent(framing, b"", b"ab"), frame, "{framing}");
        assert_eq!(sent(framing, b"", b""), keep_alive, "{framing}");
    }
    for (framing, head) in [
        (Framing::Binary2, &b"\x12\x34"[..]),
        (Framing::Binary2Inclusive, b"\x12\x36"),
        (Framing::Binary3, b"\x00\x12\x34"),
        (Framing::Binary4, b"\x00\x00\x12\x34"),
        (Framing::Ascii4, b"4660"),
        (Framing::Hex4, b"1234"),
        (Framing::Bcd2, b"\x46\x60"),
        (Framing::VisaVml, b"\x12\x34\x00\x00"),
        (Framing::StxEtx, b"\x02a"),
    ] {
        assert_eq!(&sent(framing, b"", &LONG[..0x1234])[..head.len()], head, "{framing}");
    }
    let mut lower = BytesMut::from(&b"000faaaaaaaaaaaaaaa"[..]);
    let format = FrameFormat { framing: Framing::Hex4, header: Header::None };
    assert!(next(&mut lower, format, BYTES_MAX).unwrap().is_some());
}

#[test]
fn every_frame_comes_out_however_the_stream_is_cut() {
    for (framing, _, keep_alive, _) in FRAMINGS {
        for (header, came, _) in headers() {
            let (one, two) = (sent(framing, came, b"ab"), sent(framing, came, b"0800"));
            let header_only = sent(framing, came, b"");
            let idle = [keep_alive, &header_only].concat();
            let stream = [keep_alive, &one, &two, &idle, keep_alive, &two, &one].concat();
            let format = FrameFormat { framing, header };
            let expected: Vec<_> = [&b"ab"[..], b"0800", b"0800", b"ab"]
                .into_iter()
                .map(|message| (Bytes::from_static(came), Bytes::from_static(message)))
                .collect();
            for cut in 0..=stream.len() {
                let (left, right) = stream.split_at(cut);
                assert_eq!(read(&[left, right], format).unwrap(), expected, "{format}: {cut}");
            }
            let bytes: Vec<_> = stream.chunks(1).collect();
            assert_eq!(read(&bytes, format).unwrap(), expected, "{format}");
            // What is not whole stays.
            let half = [&stream[..], &one[..one.len() - 1]].concat();
            assert_eq!(read(&[&half], format).unwrap(), expected, "{format}");
        }
    }
}

#[test]
fn two_bytes_of_visa_vml_are_ignored_and_written_as_zeros() {
    let format = FrameFormat { framing: Framing::VisaVml, header: Header::None };
    let stream = b"\x00\x02\x01\xffab\x00\x00\x00\x01\x00\x01\xff\xffc";
    let messages: Vec<_> = read(&[stream], format).unwrap().into_iter().map(|(_, m)| m).collect();
    assert_eq!(messages, [&b"ab"[..], b"c"]);
}

#[test]
fn no_byte_is_searched_twice_for_an_end() {
    let format = FrameFormat { framing: Framing::StxEtx, header: Header::None };
    let (mut input, mut searched) = (BytesMut::new(), Searched::default());
    let mut step = |part: &[u8], expected: Option<&[u8]>, bytes| {
        input.extend_from_slice(part);
        let frame = next_from(&mut input, format, BYTES_MAX, &mut searched).unwrap();
        assert_eq!(frame.map(|frame| frame.message).as_deref(), expected);
        assert_eq!(searched.bytes, bytes);
    };
    step(b"\x02", None, 0);
    step(b"ab", None, 2);
    step(b"c", None, 3);
    step(b"\x03\x02d", Some(b"abc"), 0);
    step(b"", None, 1);
    step(b"e\x03\x02\x03\x02\x03", Some(b"de"), 0);
    step(b"\x02fg", None, 2);
}

#[test]
fn a_reply_carries_the_header_of_its_request_turned_round() {
    for (framing, ..) in FRAMINGS {
        for (header, came, turned) in headers() {
            let format = FrameFormat { framing, header };
            let mut out = b"before".to_vec();
            append(&mut out, format, came, put(b"ok")).unwrap().unwrap();
            let expected = [&b"before"[..], &sent(framing, &turned, b"ok")].concat();
            assert_eq!(out, expected, "{format}");
        }
    }
}

#[test]
fn what_is_none_of_the_framing_is_an_error() {
    for (framing, frame, _, wrong) in FRAMINGS {
        let format = FrameFormat { framing, header: Header::None };
        for wrong in wrong {
            let error = read(&[frame, wrong], format).unwrap_err();
            assert_eq!(error, FrameError::BadLength(framing), "{wrong:?}");
            assert!(error.to_string().contains(&framing.to_string()));
        }
    }
}

#[test]
fn an_oversize_frame_is_an_error_before_it_is_read() {
    for (framing, ..) in FRAMINGS.into_iter().filter(|(framing, ..)| *framing != Framing::StxEtx) {
        let format = FrameFormat { framing, header: Header::None };
        let largest = sent(framing, b"", &[b'a'; BYTES_MAX]);
        assert_eq!(read(&[&largest], format).unwrap().len(), 1, "{framing}");
        let larger = sent(framing, b"", &[b'a'; BYTES_MAX + 1]);
        let error = FrameError::Oversize { bytes: BYTES_MAX + 1, bytes_max: BYTES_MAX };
        assert_eq!(read(&[&larger[..5]], format), Err(error), "{framing}");
    }
    let huge = FrameFormat { framing: Framing::Binary4, header: Header::None };
    let error = FrameError::Oversize { bytes: 0xffff_ffff, bytes_max: BYTES_MAX };
    assert_eq!(read(&[&[0xff; 4]], huge), Err(error));
}

#[test]
fn a_frame_without_end_is_an_error_at_the_limit() {
    let format = FrameFormat { framing: Framing::StxEtx, header: Header::None };
    let largest = sent(Framing::StxEtx, b"", &[b'a'; BYTES_MAX]);
    assert_eq!(read(&[&largest], format).unwrap().len(), 1);
    assert_eq!(read(&[&largest[..=BYTES_MAX]], format).unwrap().len(), 0);
    let larger = sent(Framing::StxEtx, b"", &[b'a'; BYTES_MAX + 1]);
    let error = FrameError::Endless { bytes_max: BYTES_MAX };
    assert_eq!(read(&[&larger], format), Err(error));
    assert_eq!(read(&[&larger[..=BYTES_MAX + 1]], format), Err(error));
}

#[test]
fn a_frame_that_is_shorter_than_its_header_is_an_error() {
    for (header, frame) in [
        (Header::Tpdu, &b"\x60\x00\x01\x12"[..]),
        (Header::Echo(3), b"xy"),
        (Header::BaseI, &BASE_I[..21]),
        (Header::BaseI, &LONG_BASE_I[..23]),
        // A length byte below the least length.
        (Header::BaseI, &[0x15; 40]),
    ] {
        let format = FrameFormat { framing: Framing::Binary2, header };
        let stream = sent(Framing::Binary2, frame, b"");
        let error = read(&[&stream], format).unwrap_err();
        assert_eq!(error, FrameError::BadHeader(header), "{header}");
    }
}

#[test]
fn a_reject_header_is_known_by_its_length_and_its_bit() {
    assert_eq!(Header::BaseI.reject_code(REJECT), Some(0x0517));
    assert_eq!(Header::Echo(26).reject_code(REJECT), None);
    assert_eq!(Header::BaseI.reject_code(&REJECT[..25]), None);
    let mut without_bit = REJECT.to_vec();
    without_bit[22] = 0x7f;
    assert_eq!(Header::BaseI.reject_code(&without_bit), None);
    assert_eq!(Header::BaseI.reject_code(BASE_I), None);
    assert_eq!(Header::None.reject_code(b""), None);
}

#[test]
fn a_frame_that_fails_leaves_nothing() {
    let format = |framing| FrameFormat { framing, header: Header::None };
    let mut out = vec![9];
    let fail = |out: &mut Vec<u8>| {
        out.push(1);
        Err(())
    };
    for (framing, most) in [
        (Framing::Binary2, 65_535),
        (Framing::Binary2Inclusive, 65_533),
        (Framing::Ascii4, 9_999),
        (Framing::Bcd2, 9_999),
        (Framing::Hex4, 65_535),
        (Framing::VisaVml, 65_535),
    ] {
        assert_eq!(append(&mut out, format(framing), b"", fail), Err(()));
        assert_eq!(append(&mut out, format(framing), b"", put(&LONG[..=most])), Ok(None));
        assert_eq!(out, [9], "{framing}");
        let whole = append(&mut Vec::new(), format(framing), b"", put(&LONG[..most]));
        assert_eq!(whole, Ok(Some(())), "{framing}");
    }
    for framing in [Framing::Binary3, Framing::Binary4, Framing::StxEtx] {
        assert_eq!(append(&mut Vec::new(), format(framing), b"", put(&LONG)), Ok(Some(())));
    }
}
