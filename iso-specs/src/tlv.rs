//! BER-TLV as EMV uses it for the chip data of DE55 (EMV Book 3, Annex B).
//!
//! Tags have one to three bytes and are written here as numbers, such as `0x9f26`. Lengths are
//! definite, in the short form or in the long forms `81` and `82`. Bytes `00` and `FF` between
//! objects are filler and skipped.

mod names;

use std::fmt;

pub use names::name;
use thiserror::Error;

/// How many templates may lie inside each other, in levels; the outermost objects are level 1.
pub const DEPTH_MAX_LEVELS: usize = 8;

/// The longest value that is read or written, in bytes: what the form `82` can announce.
pub const VALUE_MAX_BYTES: usize = 65_535;

const TAG_MAX_BYTES: usize = 3;

/// What is wrong with BER-TLV data, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{kind} at byte {offset}")]
pub struct TlvError {
    /// Byte offset in the data of the object at fault, from 0.
    pub offset: usize,
    /// What is wrong with it.
    pub kind: TlvErrorKind,
}

/// What can be wrong with BER-TLV data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TlvErrorKind {
    /// The data ends inside a tag.
    #[error("tag truncated")]
    TagTruncated,
    /// A tag of more than three bytes.
    #[error("tag too long")]
    TagTooLong,
    /// A number that is no tag, when writing.
    #[error("not a tag")]
    NotATag,
    /// The data ends inside a length.
    #[error("length truncated")]
    LengthTruncated,
    /// Length `80`: the value would end at a mark, which EMV does not use.
    #[error("indefinite length")]
    IndefiniteLength,
    /// A length in a form above `82`, or a value to be written above [`VALUE_MAX_BYTES`].
    #[error("length too long")]
    LengthTooLong,
    /// The length passes the end of the data or of the template around it.
    #[error("value truncated")]
    ValueTruncated,
    /// More than [`DEPTH_MAX_LEVELS`] templates inside each other.
    #[error("nested too deep")]
    TooDeep,
}

/// A data object. `Debug` shows its tag and the length of its value, not the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Object<'a> {
    /// The tag, its bytes read as one big-endian number.
    pub tag: u32,
    /// The value.
    pub value: &'a [u8],
    /// Byte offset of the tag in the data, from 0.
    pub offset: usize,
    constructed: bool,
}

impl Object<'_> {
    /// True for a template: bit 6 of the first tag byte is set and the value is objects.
    #[must_use]
    pub const fn is_constructed(&self) -> bool {
        self.constructed
    }
}

impl fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}=[{} bytes]", self.tag, self.value.len())
    }
}

/// Reads the objects of one level, in order. Ends after the first error.
#[derive(Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the head of the data.
    #[must_use]
    pub const fn new(data: &'a [u8]) -> Self {
        Self { rest: data, offset: 0 }
    }

    /// Reads the objects of a template; offsets still count from the head of the outermost data.
    fn inside(template: &Object<'a>, header_len: usize) -> Self {
        Self { rest: template.value, offset: template.offset + header_len }
    }

    fn skip_filler(&mut self) {
        while let Some((0x00 | 0xff, rest)) = self.rest.split_first() {
            self.rest = rest;
            self.offset += 1;
        }
    }

    /// Reads one object and says how many bytes its tag and length take.
    fn object(&self) -> Result<(Object<'a>, usize), TlvErrorKind> {
        let (tag, tag_len) = read_tag(self.rest)?;
        let behind_tag = self.rest.get(tag_len..).unwrap_or_default();
        let (len, len_len) = read_length(behind_tag)?;
        let header_len = tag_len + len_len;
        let value = self.rest.get(header_len..).and_then(|rest| rest.get(..len));
        let value = value.ok_or(TlvErrorKind::ValueTruncated)?;
        let constructed = self.rest.first().is_some_and(|first| first & 0x20 != 0);
        Ok((Object { tag, value, offset: self.offset, constructed }, header_len))
    }

    fn next_with_header(&mut self) -> Option<Result<(Object<'a>, usize), TlvError>> {
        self.skip_filler();
        if self.rest.is_empty() {
            return None;
        }
        let found = self.object();
        let used = match &found {
            Ok((object, header_len)) => header_len + object.value.len(),
            Err(_) => self.rest.len(),
        };
        let offset = self.offset;
        self.rest = self.rest.get(used..).unwrap_or_default();
        self.offset += used;
        Some(found.map_err(|kind| TlvError { offset, kind }))
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Object<'a>, TlvError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_with_header().map(|found| found.map(|(object, _)| object))
    }
}

fn read_tag(rest: &[u8]) -> Result<(u32, usize), TlvErrorKind> {
    let mut tag = 0;
    for (index, &byte) in rest.iter().take(TAG_MAX_BYTES).enumerate() {
        tag = tag << 8 | u32::from(byte);
        if ends_tag(index, byte) {
            return Ok((tag, index + 1));
        }
    }
    let truncated = rest.len() < TAG_MAX_BYTES;
    Err(if truncated { TlvErrorKind::TagTruncated } else { TlvErrorKind::TagTooLong })
}

/// Five set bits in the first byte, or the top bit of a later one, say that another byte follows.
const fn ends_tag(index: usize, byte: u8) -> bool {
    match index {
        0 => byte & 0x1f != 0x1f,
        _ => byte & 0x80 == 0,
    }
}

fn read_length(rest: &[u8]) -> Result<(usize, usize), TlvErrorKind> {
    match *rest {
        [len @ 0..=0x7f, ..] => Ok((len.into(), 1)),
        [0x80, ..] => Err(TlvErrorKind::IndefiniteLength),
        [0x81, len, ..] => Ok((len.into(), 2)),
        [0x82, high, low, ..] => Ok((u16::from_be_bytes([high, low]).into(), 3)),
        [] | [0x81 | 0x82, ..] => Err(TlvErrorKind::LengthTruncated),
        [_, ..] => Err(TlvErrorKind::LengthTooLong),
    }
}

/// The value of the first object with the tag on the outermost level; `None` where there is none
/// before the first error.
#[must_use]
pub fn find(data: &[u8], tag: u32) -> Option<&[u8]> {
    Reader::new(data).map_while(Result::ok).find(|object| object.tag == tag).map(|o| o.value)
}

/// Walks all objects, templates included.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn check(data: &[u8]) -> Result<(), TlvError> {
    check_level(Reader::new(data), 1)
}

fn check_level(mut reader: Reader<'_>, level: usize) -> Result<(), TlvError> {
    while let Some(found) = reader.next_with_header() {
        let (object, header_len) = found?;
        if object.is_constructed() {
            if level == DEPTH_MAX_LEVELS {
                return Err(TlvError { offset: object.offset, kind: TlvErrorKind::TooDeep });
            }
            check_level(Reader::inside(&object, header_len), level + 1)?;
        }
    }
    Ok(())
}

/// Appends an object with the shortest form of its length.
///
/// # Errors
///
/// Where the number is no tag or the value is longer than [`VALUE_MAX_BYTES`]; `out` is then as
/// it was. The offset is that of the object in `out`.
pub fn push(out: &mut Vec<u8>, tag: u32, value: &[u8]) -> Result<(), TlvError> {
    let offset = out.len();
    let error = |kind| TlvError { offset, kind };
    let bytes = tag.to_be_bytes();
    let leading = bytes.iter().take_while(|&&byte| byte == 0).count();
    let tag = bytes.get(leading..).unwrap_or_default();
    // What would be skipped or cut differently when read is no tag.
    let whole = read_tag(tag).is_ok_and(|(_, used)| used == tag.len());
    if !whole || matches!(tag, [0x00 | 0xff, ..]) {
        return Err(error(TlvErrorKind::NotATag));
    }
    let len = u16::try_from(value.len()).map_err(|_| error(TlvErrorKind::LengthTooLong))?;
    out.extend_from_slice(tag);
    match len.to_be_bytes() {
        [0, len @ 0..=0x7f] => out.push(len),
        [0, len] => out.extend_from_slice(&[0x81, len]),
        [high, low] => out.extend_from_slice(&[0x82, high, low]),
    }
    out.extend_from_slice(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(data: &[u8]) -> Vec<u32> {
        Reader::new(data).map(|object| object.unwrap().tag).collect()
    }

    fn error(data: &[u8]) -> (usize, TlvErrorKind) {
        let error = check(data).unwrap_err();
        (error.offset, error.kind)
    }

    #[test]
    fn tags_of_one_to_three_bytes() {
        let data = [0x95, 1, 0, 0x9f, 0x26, 1, 7, 0xdf, 0x81, 0x01, 0];
        assert_eq!(tags(&data), [0x95, 0x9f26, 0xdf_8101]);
        assert_eq!(find(&data, 0x9f26), Some(&[7][..]));
        assert_eq!(find(&data, 0x9f27), None);
    }

    #[test]
    fn filler_is_skipped() {
        assert_eq!(tags(&[0, 0xff, 0x95, 1, 0, 0, 0, 0x82, 0, 0xff]), [0x95, 0x82]);
        assert_eq!(check(&[0xff, 0]), Ok(()));
    }

    #[test]
    fn every_mistake_says_where() {
        use TlvErrorKind as Kind;
        assert_eq!(error(&[0x82, 0, 0x9f]), (2, Kind::TagTruncated));
        assert_eq!(error(&[0x9f, 0x81]), (0, Kind::TagTruncated));
        assert_eq!(error(&[0x9f, 0x81, 0x81, 1, 0]), (0, Kind::TagTooLong));
        assert_eq!(error(&[0x82]), (0, Kind::LengthTruncated));
        assert_eq!(error(&[0x82, 0x81]), (0, Kind::LengthTruncated));
        assert_eq!(error(&[0x82, 0x82, 1]), (0, Kind::LengthTruncated));
        assert_eq!(error(&[0x82, 0x80, 0, 0]), (0, Kind::IndefiniteLength));
        assert_eq!(error(&[0x82, 0x83, 0, 0, 0]), (0, Kind::LengthTooLong));
        assert_eq!(error(&[0x82, 2, 1]), (0, Kind::ValueTruncated));
        // The inner length passes its template, though not the data.
        assert_eq!(error(&[0x77, 3, 0x82, 2, 1, 0x95, 0]), (2, Kind::ValueTruncated));
    }

    #[test]
    fn templates_nest_to_the_limit() {
        let nested = |levels: usize| {
            (0..levels).fold(vec![0x82, 0], |inner, _| {
                let mut out = Vec::new();
                push(&mut out, 0x70, &inner).unwrap();
                out
            })
        };
        assert_eq!(check(&nested(DEPTH_MAX_LEVELS - 1)), Ok(()));
        assert_eq!(error(&nested(DEPTH_MAX_LEVELS)).1, TlvErrorKind::TooDeep);
    }

    #[test]
    fn reading_ends_after_an_error() {
        let data = [0x82, 0x80, 0x95, 0];
        assert_eq!(Reader::new(&data).count(), 1);
        assert_eq!(find(&data, 0x95), None);
    }

    #[test]
    fn what_is_written_is_read() {
        for len in [0, 1, 0x7f, 0x80, 0xff, 0x100, VALUE_MAX_BYTES] {
            let value = vec![0xaa; len];
            let mut out = vec![0x95, 0];
            push(&mut out, 0x9f10, &value).unwrap();
            assert_eq!(tags(&out), [0x95, 0x9f10]);
            assert_eq!(find(&out, 0x9f10), Some(&value[..]));
        }
        let mut out = Vec::new();
        for tag in [0, 0x9f, 0x9f81, 0x8201, 0xff, 0xff01, 0x9f81_8101] {
            assert_eq!(
                push(&mut out, tag, &[]).unwrap_err().kind,
                TlvErrorKind::NotATag,
                "{tag:x}"
            );
        }
        let long = vec![0; VALUE_MAX_BYTES + 1];
        assert_eq!(push(&mut out, 0x82, &long).unwrap_err().kind, TlvErrorKind::LengthTooLong);
        assert!(out.is_empty());
    }
}
