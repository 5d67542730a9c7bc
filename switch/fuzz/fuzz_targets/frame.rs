//! Every framing and header. The first byte of an input chooses both, the second how the rest is
//! cut into reads: what is found must not depend on it.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use switch::frame::{self, Frame, FrameFormat, Framing, Header, Searched};

const FRAME_BYTES_MAX: usize = 4_096;
const HEADERS: [Header; 4] = [Header::None, Header::Tpdu, Header::BaseI, Header::Echo(10)];

/// All frames of a stream, and why it ended.
fn frames(format: FrameFormat, reads: impl Iterator<Item = Vec<u8>>) -> (Vec<Frame>, String) {
    let (mut input, mut searched) = (BytesMut::new(), Searched::default());
    let mut found = Vec::new();
    for read in reads {
        input.extend_from_slice(&read);
        loop {
            match frame::next_from(&mut input, format, FRAME_BYTES_MAX, &mut searched) {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(error) => return (found, error.to_string()),
            }
        }
    }
    (found, String::new())
}

fuzz_target!(|data: &[u8]| {
    let [chosen, pieces, stream @ ..] = data else { return };
    let (_, framing) = Framing::ALL[usize::from(*chosen) % Framing::ALL.len()];
    let header = HEADERS[usize::from(*chosen) / Framing::ALL.len() % HEADERS.len()];
    let format = FrameFormat { framing, header };
    let whole = frames(format, [stream.to_vec()].into_iter());
    let piece = usize::from(*pieces).max(1);
    let cut = frames(format, stream.chunks(piece).map(<[u8]>::to_vec));
    assert_eq!(whole.1, cut.1);
    assert_eq!(whole.0.len(), cut.0.len());
    for (whole, cut) in whole.0.iter().zip(&cut.0) {
        assert_eq!((&whole.header, &whole.message), (&cut.header, &cut.message));
        assert!(whole.header.len() + whole.message.len() <= FRAME_BYTES_MAX);
        let mut reply = Vec::new();
        let written = frame::append(&mut reply, format, &whole.header, |out| {
            out.extend_from_slice(b"0110");
            Ok::<(), ()>(())
        });
        // A header whose own length says too little cannot be turned round.
        if written == Ok(Some(())) {
            let mut reply = BytesMut::from(&reply[..]);
            let read = frame::next(&mut reply, format, FRAME_BYTES_MAX).expect("a whole frame");
            assert!(reply.is_empty() && read.is_some_and(|read| read.message == b"0110"[..]));
        }
    }
});
