//! A message as it lies in its frame, and its data elements in canonical form.

use std::fmt;
use std::ops::Deref;

use crate::bitmap::{ElementSet, PerElement};
use crate::data_element::{ContentType, DataElement};
use crate::mti::Mti;
use crate::spec::Spec;

/// Where the content of an element lies in the frame.
#[derive(Clone, Copy, Default)]
pub(crate) struct Span {
    /// In bytes.
    pub(crate) start: u16,
    /// In characters or bytes of content: of packed digits the bytes would not tell how many.
    pub(crate) units: u16,
}

/// A message over the frame that it was read from: a table of offsets, no copies.
///
/// An element that is wrong counts as absent. `Display` and `Debug` show the message masked; see
/// [`crate::redact`].
#[derive(Clone)]
pub struct Message<'a> {
    spec: &'a Spec,
    frame: &'a [u8],
    mti: Mti,
    readable: ElementSet,
    /// Something of the frame is wrong, so that elements may be shifted.
    doubtful: bool,
    spans: PerElement<Span>,
}

impl<'a> Message<'a> {
    /// A message of which no element has been found yet.
    pub(crate) const fn new(spec: &'a Spec, frame: &'a [u8], mti: Mti) -> Self {
        Self {
            spec,
            frame,
            mti,
            readable: ElementSet::EMPTY,
            doubtful: false,
            spans: PerElement::new(Span { start: 0, units: 0 }),
        }
    }

    /// Notes where an element lies; it can be read once [`Message::set_readable`] says so.
    pub(crate) fn locate(&mut self, element: u8, span: Span) {
        self.spans.set(element, span);
    }

    pub(crate) const fn set_readable(&mut self, elements: ElementSet) {
        self.readable = elements;
    }

    /// Notes that the frame has a fault; see [`crate::redact`].
    pub(crate) const fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// The frame that it was read from.
    pub(crate) const fn frame(&self) -> &'a [u8] {
        self.frame
    }

    /// Byte offset in the frame of an element's content, for an element that is present and right.
    pub(crate) fn offset(&self, element: u8) -> Option<usize> {
        self.spans.get(element).filter(|_| self.has(element)).map(|span| span.start.into())
    }

    /// The dialect that the message was read in.
    #[must_use]
    pub const fn spec(&self) -> &'a Spec {
        self.spec
    }

    /// The message type identifier.
    #[must_use]
    pub const fn mti(&self) -> Mti {
        self.mti
    }

    /// True where the element is present and right.
    #[must_use]
    pub const fn has(&self, element: u8) -> bool {
        self.readable.contains(element)
    }

    /// The elements that are present and right. Element 1, the bitmap, is never among them.
    #[must_use]
    pub const fn present(&self) -> ElementSet {
        self.readable
    }

    /// Those of the elements present whose characters are those of their type: no free text of
    /// another alphabet, which could be the bytes of anything.
    #[must_use]
    pub fn plain(&self) -> ElementSet {
        self.elements().filter(Field::is_plain).map(|field| field.element.number()).collect()
    }

    /// The elements that are present and right, lowest number first.
    pub fn elements(&self) -> impl Iterator<Item = Field<'a>> {
        self.readable.iter().filter_map(|element| self.field(element))
    }

    /// An element that is present and right.
    #[must_use]
    pub fn field(&self, element: u8) -> Option<Field<'a>> {
        if !self.has(element) {
            return None;
        }
        let span = self.spans.get(element)?;
        let element = self.spec.element(element)?;
        let len = element.encoding.wire_len(span.units.into());
        let wire = self.frame.get(span.start.into()..)?.get(..len)?;
        Some(Field { element, wire, units: span.units, doubtful: self.doubtful })
    }

    /// A copy of an element's canonical text; `None` where it is absent, binary or longer than
    /// `N` characters.
    #[must_use]
    pub fn text<const N: usize>(&self, element: u8) -> Option<Value<N>> {
        let field = self.field(element)?;
        Value::copy(field.text(&mut [0; N])?)
    }

    /// A copy of an element's canonical bytes; `None` where it is absent, text or longer than `N`
    /// bytes.
    #[must_use]
    pub fn bytes<const N: usize>(&self, element: u8) -> Option<Value<N>> {
        let field = self.field(element)?;
        Value::copy(field.bytes(&mut [0; N])?)
    }

    /// The number in an element of digits; see [`Field::number`].
    #[must_use]
    pub fn number(&self, element: u8) -> Option<u64> {
        self.field(element)?.number()
    }
}

/// One data element of a message.
///
/// `Display` and `Debug` show it masked; see [`crate::redact`].
#[derive(Clone, Copy)]
pub struct Field<'a> {
    element: &'a DataElement,
    wire: &'a [u8],
    units: u16,
    doubtful: bool,
}

impl<'a> Field<'a> {
    /// What the dialect says about the element.
    #[must_use]
    pub const fn element(&self) -> &'a DataElement {
        self.element
    }

    /// The content as it is on the wire, without length prefix and wrapper. For comparing and
    /// counting; what it means depends on the dialect, so read it through the other calls.
    #[must_use]
    pub const fn wire(&self) -> &'a [u8] {
        self.wire
    }

    /// Length of the canonical form, in characters, or bytes for type `b`.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.units as usize
    }

    /// True for an empty value.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.units == 0
    }

    /// True where the message has a fault: the value may be a part of another element.
    pub(crate) const fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// True where the characters are those of the type; see [`Message::plain`].
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.element.is_plain(self.wire, self.len())
    }

    /// The canonical form, text or bytes: a part of the frame where it is canonical already, else
    /// written to `out`. `None` where `out` is too small; [`Field::len`] is always enough.
    #[must_use]
    pub fn canonical<'b>(&self, out: &'b mut [u8]) -> Option<&'b [u8]>
    where
        'a: 'b,
    {
        self.element.encoding.canonical(self.wire, self.len(), out)
    }

    /// The text, with its padding, of every type but `b`: ASCII, but for free text, which is the
    /// bytes that came, or ISO 8859-1 where they are EBCDIC. See [`Field::canonical`].
    #[must_use]
    pub fn text<'b>(&self, out: &'b mut [u8]) -> Option<&'b [u8]>
    where
        'a: 'b,
    {
        if self.element.content.is_binary() { None } else { self.canonical(out) }
    }

    /// The bytes of type `b`; see [`Field::canonical`].
    #[must_use]
    pub fn bytes<'b>(&self, out: &'b mut [u8]) -> Option<&'b [u8]>
    where
        'a: 'b,
    {
        if self.element.content.is_binary() { self.canonical(out) } else { None }
    }

    /// The number, of types `n` and `a or n`; `None` where it is empty, holds letters or passes
    /// 64 bits.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        const DIGITS_MAX: usize = 64;
        let content = self.element.content;
        if !matches!(content, ContentType::Digits | ContentType::LettersOrDigits) {
            return None;
        }
        let mut out = [0; DIGITS_MAX];
        let digits = self.canonical(&mut out).filter(|digits| !digits.is_empty())?;
        digits.iter().try_fold(0_u64, |number, &digit| {
            let digit = digit.checked_sub(b'0').filter(|&digit| digit <= 9)?;
            number.checked_mul(10)?.checked_add(digit.into())
        })
    }
}

/// A copy of a canonical value of up to `N` characters or bytes; it reads as a byte slice.
///
/// `Debug` shows only its length: it may hold a PAN or a PIN block.
#[derive(Clone, Copy)]
pub struct Value<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Value<N> {
    /// A copy; `None` where the value is longer than `N`.
    #[must_use]
    pub fn copy(value: &[u8]) -> Option<Self> {
        let mut bytes = [0; N];
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        Some(Self { bytes, len: value.len() })
    }

    /// The value.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The value as text; `None` for bytes that are none.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        str::from_utf8(self.as_slice()).ok()
    }
}

impl<const N: usize> Deref for Value<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl<const N: usize> PartialEq for Value<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<const N: usize> Eq for Value<N> {}

impl<const N: usize> fmt::Debug for Value<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.len)
    }
}
