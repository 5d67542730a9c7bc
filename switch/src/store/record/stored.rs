//! How a value is written and read back: one trait, and the values of which all others are made.
//! All numbers are little-endian.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Buf, BufMut, TryGetError};
use compact_str::CompactString;
use smallvec::{Array, SmallVec};

use crate::clock::Timestamp;

/// A value that the store keeps. `read` takes from the front what `put` has written.
pub trait Stored: Sized {
    /// Appends its bytes.
    fn put(&self, out: &mut Vec<u8>);

    /// Takes it from the front of `bytes`.
    ///
    /// # Errors
    /// If the bytes are not of such a value.
    fn read(bytes: &mut &[u8]) -> Result<Self, Unreadable>;
}

/// The bytes do not read as what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Something in it.
    #[error("the record does not read: {0}")]
    Part(&'static str),
    /// A number that nothing has.
    #[error("the record does not read: {what} has the unknown number {number}")]
    Number {
        /// What has the number.
        what: &'static str,
        /// The number.
        number: u16,
    },
    /// A part of another version.
    #[error(
        "the record does not read: its part {kind} is of version {version}, which another release \
         has written"
    )]
    Version {
        /// Kind of the part.
        kind: u8,
        /// Its version.
        version: u8,
    },
    /// A format that is read no more.
    #[error(
        "the record is of format {0}, which this release does not read any more: start the release \
         before this one, which does, on this data directory, and stop it when it has written a \
         snapshot (at the latest after a day); then start this one again"
    )]
    Older(u8),
    /// A format of the future.
    #[error(
        "the record is of format {0}, which a later release has written: this one reads formats 7 \
         and 8; start the later one"
    )]
    Newer(u8),
}

impl From<TryGetError> for Unreadable {
    fn from(_: TryGetError) -> Unreadable {
        Unreadable::Part("it is cut short")
    }
}

/// Writes and reads a struct field by field, in the order of one list.
macro_rules! stored_fields {
    ($type:ty { $($field:ident),* $(,)? } $(but $apart:ident)?) => {
        impl Stored for $type {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }

            fn read(bytes: &mut &[u8]) -> Result<Self, Unreadable> {
                Ok(Self {
                    $($field: Stored::read(bytes)?,)*
                    $($apart: Default::default(),)?
                })
            }
        }
    };
}

/// Writes and reads an enum without fields by the numbers of one list.
macro_rules! stored_numbers {
    ($type:ty, $what:literal { $($name:ident = $number:literal),* $(,)? }) => {
        impl Stored for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(match self { $(<$type>::$name => $number,)* });
            }

            fn read(bytes: &mut &[u8]) -> Result<Self, Unreadable> {
                match u8::read(bytes)? {
                    $($number => Ok(<$type>::$name),)*
                    number => Err(Unreadable::Number { what: $what, number: number.into() }),
                }
            }
        }
    };
}

pub(super) use {stored_fields, stored_numbers};

macro_rules! stored_integers {
    ($($type:ty, $put:ident, $get:ident;)*) => {$(
        impl Stored for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.$put(*self);
            }

            fn read(bytes: &mut &[u8]) -> Result<Self, Unreadable> {
                Ok(bytes.$get()?)
            }
        }
    )*};
}

stored_integers! {
    u8, put_u8, try_get_u8;
    u16, put_u16_le, try_get_u16_le;
    u32, put_u32_le, try_get_u32_le;
    u64, put_u64_le, try_get_u64_le;
    u128, put_u128_le, try_get_u128_le;
    i64, put_i64_le, try_get_i64_le;
}

impl Stored for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(*self));
    }

    fn read(bytes: &mut &[u8]) -> Result<bool, Unreadable> {
        match bytes.try_get_u8()? {
            0 => Ok(false),
            1 => Ok(true),
            number => Err(Unreadable::Number { what: "a flag", number: number.into() }),
        }
    }
}

impl<const N: usize> Stored for [u8; N] {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_slice(self);
    }

    fn read(bytes: &mut &[u8]) -> Result<[u8; N], Unreadable> {
        let (array, rest) =
            bytes.split_first_chunk::<N>().ok_or(Unreadable::Part("it is cut short"))?;
        *bytes = rest;
        Ok(*array)
    }
}

/// A flag, and the value if there is one.
impl<T: Stored> Stored for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn read(bytes: &mut &[u8]) -> Result<Option<T>, Unreadable> {
        bool::read(bytes)?.then(|| T::read(bytes)).transpose()
    }
}

impl<T: Stored> Stored for Box<T> {
    fn put(&self, out: &mut Vec<u8>) {
        T::put(self, out);
    }

    fn read(bytes: &mut &[u8]) -> Result<Box<T>, Unreadable> {
        T::read(bytes).map(Box::new)
    }
}

/// Written from where it is, and read into a value of its own.
impl<T: Stored + Clone> Stored for Cow<'_, T> {
    fn put(&self, out: &mut Vec<u8>) {
        T::put(self, out);
    }

    fn read(bytes: &mut &[u8]) -> Result<Self, Unreadable> {
        T::read(bytes).map(Cow::Owned)
    }
}

/// How many in one byte, and each of them.
impl<A: Array<Item: Stored>> Stored for SmallVec<A> {
    fn put(&self, out: &mut Vec<u8>) {
        debug_assert!(self.len() <= usize::from(u8::MAX), "no list of a record is that long");
        let count = u8::try_from(self.len()).unwrap_or(u8::MAX);
        count.put(out);
        self.iter().take(count.into()).for_each(|item| item.put(out));
    }

    fn read(bytes: &mut &[u8]) -> Result<SmallVec<A>, Unreadable> {
        (0..u8::read(bytes)?).map(|_| Stored::read(bytes)).collect()
    }
}

/// The length in one byte, and UTF-8. Names are checked to be shorter where they enter.
fn put_text(out: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() <= usize::from(u8::MAX), "names are checked where they enter");
    // Half a character could never be read again.
    let end = (0..=text.len().min(u8::MAX.into())).rev().find(|end| text.is_char_boundary(*end));
    let bytes = text.get(..end.unwrap_or_default()).unwrap_or_default().as_bytes();
    out.put_u8(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    out.put_slice(bytes);
}

fn read_text<'b>(bytes: &mut &'b [u8]) -> Result<&'b str, Unreadable> {
    let length = usize::from(bytes.try_get_u8()?);
    let cut = bytes.split_at_checked(length).ok_or(Unreadable::Part("it is cut short"))?;
    *bytes = cut.1;
    std::str::from_utf8(cut.0).map_err(|_| Unreadable::Part("a name is not UTF-8"))
}

macro_rules! stored_texts {
    ($($type:ty),*) => {$(
        impl Stored for $type {
            fn put(&self, out: &mut Vec<u8>) {
                put_text(out, self);
            }

            fn read(bytes: &mut &[u8]) -> Result<Self, Unreadable> {
                Ok(read_text(bytes)?.to_owned().into())
            }
        }
    )*};
}

stored_texts!(CompactString, Box<str>, Arc<str>, Cow<'_, str>);

/// Microseconds since 1970.
impl Stored for Timestamp {
    fn put(&self, out: &mut Vec<u8>) {
        self.micros().put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<Timestamp, Unreadable> {
        i64::read(bytes).map(Timestamp::from_micros)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fmt::Debug;

    use super::*;

    /// What is put reads back, nothing of it is left, and no beginning of it reads.
    pub(in crate::store::record) fn reads_back<T: Stored + PartialEq + Debug>(value: &T) {
        let mut out = Vec::new();
        value.put(&mut out);
        let mut rest = &out[..];
        assert_eq!(T::read(&mut rest).as_ref(), Ok(value));
        assert!(rest.is_empty());
        assert!((0..out.len()).all(|length| T::read(&mut &out[..length]).is_err()), "{value:?}");
    }

    #[test]
    fn simple_values_read_back() {
        reads_back(&(u128::MAX - 1));
        reads_back(&i64::MIN);
        reads_back(&Some([1, 2, 3]));
        reads_back(&None::<u64>);
        reads_back(&CompactString::from("a name with ü"));
        reads_back(&SmallVec::<[u16; 2]>::from_slice(&[1, 2, 3]));
        assert_eq!(
            bool::read(&mut &[2][..]),
            Err(Unreadable::Number { what: "a flag", number: 2 })
        );
        assert!(CompactString::read(&mut &[1, 0xFF][..]).is_err());
    }
}
