//! Frames on the wire. Pure: bytes in, frames out.
//!
//! A frame is a 2-byte big-endian length that does not count itself, and that many bytes. A
//! frame of length zero is a keep-alive.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of the length header.
pub const HEADER_BYTES: usize = 2;

/// A frame is longer than the link allows: what follows cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {bytes} bytes is above the limit of {bytes_max}")]
pub struct Oversize {
    /// Length of the frame.
    pub bytes: usize,
    /// The limit.
    pub bytes_max: usize,
}

/// Takes the next complete frame out of `input`, without its header; keep-alives are skipped.
/// `None`: more must be read first.
///
/// # Errors
/// If the header says more than `bytes_max`.
pub fn next(input: &mut BytesMut, bytes_max: usize) -> Result<Option<Bytes>, Oversize> {
    while let Some(header) = input.first_chunk::<HEADER_BYTES>() {
        let bytes = usize::from(u16::from_be_bytes(*header));
        if bytes > bytes_max {
            return Err(Oversize { bytes, bytes_max });
        }
        if input.len() < HEADER_BYTES + bytes {
            return Ok(None);
        }
        input.advance(HEADER_BYTES);
        if bytes > 0 {
            return Ok(Some(input.split_to(bytes).freeze()));
        }
    }
    Ok(None)
}

/// Appends a frame: the header, then what `write` appends. `None` if it is longer than a header
/// can say; nothing was appended then.
pub fn append<E>(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Option<()>, E> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let written = write(out);
    let length = u16::try_from(out.len() - start - HEADER_BYTES).ok().filter(|_| written.is_ok());
    match (length, out.get_mut(start..).and_then(|frame| frame.first_chunk_mut())) {
        (Some(length), Some(header)) => *header = length.to_be_bytes(),
        _ => out.truncate(start),
    }
    written.map(|()| length.map(|_| ()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_complete_frame_comes_out_and_keep_alives_do_not() {
        let bytes = [0, 1, b'a', 0, 0, 0, 0, 0, 2, b'b', b'c', 0, 3, b'd'];
        for cut in 0..=bytes.len() {
            let mut input = BytesMut::new();
            let mut frames = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                input.extend_from_slice(part);
                while let Some(frame) = next(&mut input, 3).unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [&b"a"[..], b"bc"]);
            assert_eq!(&input[..], [0, 3, b'd']);
        }
    }

    #[test]
    fn an_oversize_frame_is_an_error_before_it_is_read() {
        let mut input = BytesMut::from(&[0x10, 0x01][..]);
        assert_eq!(next(&mut input, 4096), Err(Oversize { bytes: 4097, bytes_max: 4096 }));
    }

    #[test]
    fn a_frame_that_fails_leaves_nothing() {
        let mut out = vec![9];
        let put = |bytes: &'static [u8]| {
            move |out: &mut Vec<u8>| {
                out.extend_from_slice(bytes);
                Ok::<(), ()>(())
            }
        };
        assert_eq!(append(&mut out, put(b"ab")), Ok(Some(())));
        assert_eq!(out, [9, 0, 2, b'a', b'b']);
        let fail = |out: &mut Vec<u8>| {
            out.push(1);
            Err(())
        };
        assert_eq!(append(&mut out, fail), Err(()));
        assert_eq!(append(&mut out, put(&[0; 70_000])), Ok(None));
        assert_eq!(out, [9, 0, 2, b'a', b'b']);
    }
}
