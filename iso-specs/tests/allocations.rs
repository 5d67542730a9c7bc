//! Reading and writing a message allocates nothing: the caller's buffers are enough.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use iso_specs::{Mti, OutgoingMessage, Spec, decode};

#[test]
fn decode_and_encode_allocate_nothing() {
    for name in Spec::builtin_names() {
        allocates_nothing(&Spec::from_toml(Spec::builtin(name).unwrap()).unwrap());
    }
}

fn allocates_nothing(spec: &Spec) {
    let mut request = OutgoingMessage::new(Mti::AUTHORIZATION_REQUEST);
    request.set(2, b"4761340000000019").set(3, b"000000").set(4, b"000000001250");
    request
        .set(7, b"1121120000")
        .set(19, b"250")
        .set(28, b"C00000000")
        .set(11, b"000001")
        .set(37, b"000000000001");
    request
        .set(35, b"4761340000000019=2912")
        .set(49, b"978")
        .set(52, &[1; 8])
        .set(55, &[0x9F, 0x36, 2, 0, 1]);
    let mut frame = Vec::new();
    request.encode(spec, &mut frame).unwrap();
    let mut out = Vec::with_capacity(1_024);

    let counted = allocation_counter::measure(|| {
        let decoded = decode(spec, &frame).unwrap();
        assert_eq!(decoded.fault, None);
        let message = &decoded.message;
        let (mti, elements) = (message.mti().response(), *spec.echo(message.mti()));
        let mut answer = OutgoingMessage::echo(mti, message, elements);
        answer.set(39, b"00").encode(spec, &mut out).unwrap();
        assert!(message.bytes::<8>(52).is_some() && message.number(4) == Some(1_250));
    });
    assert_eq!(counted.count_total, 0);
    assert!(!out.is_empty());
}
