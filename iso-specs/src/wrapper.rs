//! What some networks put around the chip data of DE55: a data set's id and a length of its own.

use crate::error::FieldErrorKind;

/// A wrapper inside of an element, behind the length prefix: an id of one to four bytes, then the
/// length of what follows, then the value. The canonical value is what is inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wrapper {
    id: [u8; Self::ID_MAX],
    id_len: u8,
    /// Bytes that the length takes, 1 or 2; most significant byte first.
    length_len: u8,
}

impl Wrapper {
    const ID_MAX: usize = 4;

    /// From the bytes of its id and the size of its length, 1 or 2 bytes.
    pub(crate) fn new(id: &[u8], length_len: u8) -> Option<Self> {
        let mut room = [0; Self::ID_MAX];
        room.get_mut(..id.len())?.copy_from_slice(id);
        let id_len = u8::try_from(id.len()).ok().filter(|&len| len > 0)?;
        Some(Self { id: room, id_len, length_len })
    }

    /// The id of the data set.
    fn id(&self) -> &[u8] {
        self.id.get(..self.id_len.into()).unwrap_or_default()
    }

    /// Bytes before the value.
    pub(crate) fn len(self) -> usize {
        usize::from(self.id_len) + usize::from(self.length_len)
    }

    /// The longest value that the length can tell.
    pub(crate) fn max_len(self) -> usize {
        256_usize.saturating_pow(self.length_len.into()) - 1
    }

    /// What is inside, or nothing and a fault.
    #[inline(never)]
    pub(crate) fn open<'a>(&self, wire: &'a [u8]) -> (&'a [u8], Result<(), FieldErrorKind>) {
        let inside = wire.strip_prefix(self.id()).and_then(|rest| {
            let (length, value) = rest.split_at_checked(self.length_len.into())?;
            let length = length.iter().fold(0, |len, &byte| len << 8 | usize::from(byte));
            (length == value.len()).then_some(value)
        });
        match inside {
            Some(value) => (value, Ok(())),
            None => (&[], Err(FieldErrorKind::BadWrapper)),
        }
    }

    /// Appends what stands before a value of `len` bytes.
    pub(crate) fn write(&self, len: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id());
        let len = len.to_be_bytes();
        let unused = len.len() - usize::from(self.length_len);
        out.extend_from_slice(len.get(unused..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_must_be_as_long_as_it_says() {
        let wrapper = Wrapper::new(&[1], 2).unwrap();
        let mut wire = Vec::new();
        wrapper.write(258, &mut wire);
        assert_eq!(wire, [1, 1, 2]);
        assert_eq!(wrapper.open(&[1, 0, 2, 8, 9]), (&[8, 9][..], Ok(())));
        assert_eq!(wrapper.open(&[1, 0, 0]), (&[][..], Ok(())));
        for wire in [&[2, 0, 2, 8, 9][..], &[1, 0, 1, 8, 9], &[1, 0, 3, 8, 9], &[1, 0], &[1], &[]] {
            assert_eq!(wrapper.open(wire), (&[][..], Err(FieldErrorKind::BadWrapper)), "{wire:?}");
        }
        assert_eq!((wrapper.len(), wrapper.max_len()), (3, 65_535));
        assert_eq!(Wrapper::new(&[], 2), None);
        assert_eq!(Wrapper::new(&[0; 5], 2), None);
    }
}
