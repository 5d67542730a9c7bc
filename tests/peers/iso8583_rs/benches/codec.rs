//! Both codecs on the same message: an authorization request with a PIN block and chip data.

use std::hint::black_box;

use criterion::{criterion_group, criterion_main, Criterion};
use iso8583_rs_peer::{dialect, start};
use iso_specs::{decode, Mti, OutgoingMessage, Spec};

const TEXTS: [(u8, &str); 11] = [
    (2, "4761340000000019"),
    (3, "000000"),
    (4, "000000001250"),
    (7, "1121120000"),
    (11, "000001"),
    (14, "2912"),
    (22, "051"),
    (37, "000000000001"),
    (41, "TERM0001"),
    (42, "MERCHANT0000001"),
    (49, "978"),
];
const BYTES: [(u8, &[u8]); 2] = [(52, &[1; 8]), (55, &[0x9f, 0x36, 2, 0, 1, 0x9f, 0x37, 2, 3, 4])];

fn message() -> OutgoingMessage<'static> {
    let mut message = OutgoingMessage::new(Mti::AUTHORIZATION_REQUEST);
    for (number, text) in TEXTS {
        message.set(number, text.as_bytes());
    }
    for (number, bytes) in BYTES {
        message.set(number, bytes);
    }
    message
}

fn codecs(criterion: &mut Criterion) {
    let ours = Spec::from_toml(&dialect()).unwrap();
    let peer = start(&ours).unwrap();
    let mut frame = Vec::new();
    message().encode(&ours, &mut frame).unwrap();
    let theirs = peer.parse(&mut frame.clone()).unwrap();
    assert_eq!(theirs.assemble().unwrap(), frame);

    criterion.bench_function("decode/iso-specs", |bench| {
        bench.iter(|| decode(&ours, black_box(&frame)).unwrap());
    });
    // It asks for a mutable vector but leaves it as it is.
    let mut own = frame.clone();
    criterion.bench_function("decode/iso8583_rs", |bench| {
        bench.iter(|| peer.parse(black_box(&mut own)).unwrap());
    });
    // From values to a frame, with a buffer that is used again: how the switch does it.
    let mut out = Vec::with_capacity(1_024);
    criterion.bench_function("encode/iso-specs", |bench| {
        bench.iter(|| {
            out.clear();
            black_box(&message()).encode(&ours, &mut out).unwrap();
            black_box(out.len())
        });
    });
    // From values that it holds already to a new frame: less work than above.
    criterion.bench_function("encode/iso8583_rs", |bench| {
        bench.iter(|| black_box(&theirs).assemble().unwrap());
    });
}

criterion_group!(benches, codecs);
criterion_main!(benches);
