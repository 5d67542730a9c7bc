//! The bytes of documents.
//!
//! ```text
//! 11 document       kind u8, token text, version that it replaces u64 (0: none), when it is over
//!                   (flag, i64), length u32, that many bytes: JSON, or what seals it
//! 12 removed        kind u8, token text
//! 13 of a snapshot  version u64, document
//! ```
//!
//! A document's version is the sequence number of the record that wrote it, so that none ever comes
//! again, whatever is removed and made anew in between.

use std::borrow::Cow;
use std::sync::Arc;

use super::entry::Kept;
use super::stored::{Stored, Unreadable, stored_fields};
use crate::clock::Timestamp;
use crate::store::document::{Document, DocumentKind};

/// A document as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDocument<'a> {
    /// What it is.
    pub kind: DocumentKind,
    /// Its name among those of its kind.
    pub token: Cow<'a, str>,
    /// The version that it replaces; 0 for none. The seal covers it.
    pub replaces: u64,
    /// When it is over.
    pub expires: Option<Timestamp>,
    /// JSON, or what seals it.
    pub body: Arc<[u8]>,
}

/// A document that is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentRemoved<'a> {
    /// What it was.
    pub kind: DocumentKind,
    /// Its name.
    pub token: Cow<'a, str>,
}

/// A document in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotDocument<'a> {
    /// The record that wrote it.
    pub version: u64,
    /// The document.
    pub document: StoredDocument<'a>,
}

impl StoredDocument<'_> {
    /// The document, written by the record of this number.
    #[must_use]
    pub fn written_by(self, version: u64) -> Document {
        let StoredDocument { kind, token, replaces, expires, body } = self;
        Document { kind, token: token.into(), version, replaces, expires, body }
    }
}

impl<'a> SnapshotDocument<'a> {
    /// A document as it is.
    #[must_use]
    pub fn of(document: &'a Document) -> SnapshotDocument<'a> {
        let Document { kind, token, version, replaces, expires, body } = document;
        let (kind, replaces, expires) = (*kind, *replaces, *expires);
        let (token, body) = (Cow::Borrowed(token.as_str()), Arc::clone(body));
        let document = StoredDocument { kind, token, replaces, expires, body };
        SnapshotDocument { version: *version, document }
    }
}

impl Kept for StoredDocument<'_> {
    const KIND: u8 = 11;
}

impl Kept for DocumentRemoved<'_> {
    const KIND: u8 = 12;
}

impl Kept for SnapshotDocument<'_> {
    const KIND: u8 = 13;
}

stored_fields!(StoredDocument<'_> { kind, token, replaces, expires, body });
stored_fields!(DocumentRemoved<'_> { kind, token });
stored_fields!(SnapshotDocument<'_> { version, document });

impl Stored for DocumentKind {
    fn put(&self, out: &mut Vec<u8>) {
        self.number().put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<DocumentKind, Unreadable> {
        let number = u8::read(bytes)?;
        let unknown = Unreadable::Number { what: "a document", number: number.into() };
        DocumentKind::from_number(number).ok_or(unknown)
    }
}

impl Stored for Arc<[u8]> {
    fn put(&self, out: &mut Vec<u8>) {
        // An entry is far shorter.
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        out.extend_from_slice(self);
    }

    fn read(bytes: &mut &[u8]) -> Result<Arc<[u8]>, Unreadable> {
        let length = usize::try_from(u32::read(bytes)?).unwrap_or(usize::MAX);
        let (body, rest) =
            bytes.split_at_checked(length).ok_or(Unreadable::Part("it is cut short"))?;
        *bytes = rest;
        Ok(body.into())
    }
}
