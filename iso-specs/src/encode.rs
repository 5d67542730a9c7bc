//! From values to a frame.

use crate::bitmap::{ElementSet, PerElement};
use crate::decode::MAX_FRAME_BYTES;
use crate::error::{EncodeError, EncodeErrorKind};
use crate::message::Message;
use crate::mti::Mti;
use crate::spec::Spec;

/// A message to be sent: borrowed canonical values, which any dialect can write.
///
/// `Debug` shows the type and the numbers of the elements, no value.
#[derive(Clone)]
pub struct OutgoingMessage<'a> {
    mti: Mti,
    present: ElementSet,
    /// The first number set that is none of a data element; reported by `encode`.
    no_element: Option<u8>,
    values: PerElement<Option<&'a [u8]>>,
    /// Has what is present and has no value.
    echoed: Option<&'a Message<'a>>,
}

impl<'a> OutgoingMessage<'a> {
    /// A message without elements.
    #[must_use]
    pub const fn new(mti: Mti) -> Self {
        Self {
            mti,
            present: ElementSet::EMPTY,
            no_element: None,
            values: PerElement::new(None),
            echoed: None,
        }
    }

    /// A message with those of `elements` that another message has, byte by byte as they lie in
    /// its frame. Only the dialect of that message can write them. What is set or unset later
    /// counts.
    #[must_use]
    pub const fn echo(mti: Mti, message: &'a Message<'a>, elements: ElementSet) -> Self {
        let present = elements.intersection(message.present());
        Self { present, echoed: Some(message), ..Self::new(mti) }
    }

    /// The message type identifier.
    #[must_use]
    pub const fn mti(&self) -> Mti {
        self.mti
    }

    /// The elements that are set.
    #[must_use]
    pub const fn present(&self) -> ElementSet {
        self.present
    }

    /// The canonical value of an element that is set; `None` for one that is echoed.
    #[must_use]
    pub fn value(&self, element: u8) -> Option<&'a [u8]> {
        self.values.get(element).flatten()
    }

    /// Sets an element, in any order; the last value counts. The value is canonical: ASCII text,
    /// or plain bytes for type `b`. Element 1 is the bitmap and written without being set.
    pub fn set(&mut self, element: u8, value: &'a [u8]) -> &mut Self {
        if element > 1 && self.present.insert(element) {
            self.values.set(element, Some(value));
        } else {
            self.no_element.get_or_insert(element);
        }
        self
    }

    /// Takes an element out.
    pub fn unset(&mut self, element: u8) -> &mut Self {
        self.values.set(element, None);
        self.present.remove(element);
        self
    }

    /// Appends the frame (without length header) to `out`, which is left as it was on an error.
    /// Nothing is allocated but what `out` needs to grow. A secondary bitmap is written where an
    /// element from 65 on is set, and a third one where one from 129 on is.
    ///
    /// # Errors
    ///
    /// Where the dialect does not define an element or cannot carry its value, or where an element
    /// was taken over from a message in another dialect.
    pub fn encode(&self, spec: &Spec, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let written = self.write(spec, out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn write(&self, spec: &Spec, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if let Some(element) = self.no_element {
            return Err(EncodeError { element, kind: EncodeErrorKind::NotDefined });
        }
        let start = out.len();
        spec.mti_encoding().write(self.mti, out);
        let bitmaps = spec.bitmaps();
        bitmaps.write(self.present, out);
        for number in bitmaps.places(self.present) {
            let error = |kind| EncodeError { element: number, kind };
            match (spec.element(number), self.value(number)) {
                (Some(element), Some(value)) => element.write(value, out).map_err(error)?,
                (Some(element), None) => match self.echoed.and_then(|from| from.field(number)) {
                    Some(field) if std::ptr::eq(field.element(), element) => {
                        element.write_again(field.wire(), field.len(), out);
                    }
                    _ => return Err(error(EncodeErrorKind::OtherDialect)),
                },
                (None, None) if !self.present.contains(number) => {
                    bitmaps.write_third(self.present, out);
                }
                (None, _) => return Err(error(EncodeErrorKind::NotDefined)),
            }
            if out.len() - start > MAX_FRAME_BYTES {
                return Err(error(EncodeErrorKind::FrameTooLong));
            }
        }
        Ok(())
    }
}
