//! Frames on the wire: a 2-byte big-endian length that does not count itself, and a message.

/// Bytes of the length header.
const HEADER_BYTES: usize = 2;

/// Appends a message with its header; `false`, and nothing appended, if it is too long for one.
pub(crate) fn append(message: &[u8], out: &mut Vec<u8>) -> bool {
    let Ok(length) = u16::try_from(message.len()) else { return false };
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(message);
    true
}

/// Splits the next complete message off `input`; `None` if more must be read first. A length of
/// zero, a keep-alive, gives an empty message.
pub(crate) fn split_first(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, rest) = input.split_first_chunk::<HEADER_BYTES>()?;
    rest.split_at_checked(u16::from_be_bytes(*header).into())
}

/// Bytes at the front of `input` that are complete frames.
pub(crate) fn complete_bytes(input: &[u8]) -> usize {
    let mut rest = input;
    while let Some((_, after)) = split_first(rest) {
        rest = after;
    }
    input.len() - rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_split_where_they_were_joined() {
        let mut bytes = Vec::new();
        for message in [&b"one"[..], b"", b"three"] {
            assert!(append(message, &mut bytes));
        }
        let (one, rest) = split_first(&bytes).unwrap();
        let (empty, rest) = split_first(rest).unwrap();
        assert_eq!((one, empty), (&b"one"[..], &b""[..]));
        assert_eq!(split_first(&rest[..rest.len() - 1]), None);
        assert_eq!(split_first(rest), Some((&b"three"[..], &b""[..])));
        assert_eq!(split_first(b"\x00"), None);
        assert_eq!(complete_bytes(&bytes), bytes.len());
        assert_eq!(complete_bytes(&bytes[..bytes.len() - 1]), 7);
    }

    #[test]
    fn a_message_too_long_for_the_header_is_refused() {
        let mut out = Vec::new();
        assert!(!append(&[0; 65_536], &mut out));
        assert!(out.is_empty());
    }
}
