//! All documents in memory, in the order of their tokens, and which of them is over next.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use compact_str::CompactString;

use super::document::{Document, DocumentChange, DocumentKind};
use super::{Changed, CommitError, Limit};
use crate::clock::Timestamp;

/// How much of documents is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentLimits {
    /// Longest body of one, as it is stored, in bytes.
    pub document_bytes_max: usize,
    /// All of them together, each with its token and [`OVERHEAD_BYTES`].
    pub all_bytes_max: usize,
}

impl DocumentLimits {
    const fn answers_bytes_max(&self) -> usize {
        self.all_bytes_max / ANSWERS_PARTS
    }
}

/// What a document takes besides token and body, in bytes.
pub const OVERHEAD_BYTES: usize = 256;

/// The documents of a store. Its lock is taken behind that of the journal's end, and is a leaf.
#[derive(Debug)]
pub struct Documents {
    limits: DocumentLimits,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    of_kind: BTreeMap<DocumentKind, BTreeMap<CompactString, Arc<Document>>>,
    /// By when they are over.
    ends: BTreeSet<(Timestamp, DocumentKind, CompactString)>,
    /// As [`DocumentLimits::all_bytes_max`] counts them.
    bytes: usize,
    /// Those of them that are answers to Idempotency-Keys.
    answers_bytes: usize,
}

/// The part of all documents that answers to Idempotency-Keys may take is one of so many: who sends
/// many keys leaves the others their room.
const ANSWERS_PARTS: usize = 8;

fn bytes_of(document: &Document) -> usize {
    OVERHEAD_BYTES + document.token.len() + document.body.len()
}

impl Held {
    fn get(&self, kind: DocumentKind, token: &str) -> Option<&Arc<Document>> {
        self.of_kind.get(&kind)?.get(token)
    }

    fn remove(&mut self, kind: DocumentKind, token: &str) {
        let removed = self.of_kind.get_mut(&kind).and_then(|all| all.remove(token));
        let Some(removed) = removed else { return };
        self.bytes -= bytes_of(&removed);
        if kind == DocumentKind::IdempotentAnswer {
            self.answers_bytes -= bytes_of(&removed);
        }
        if let Some(expires) = removed.expires {
            self.ends.remove(&(expires, kind, removed.token.clone()));
        }
    }

    fn put(&mut self, document: Document) {
        self.remove(document.kind, &document.token);
        self.bytes += bytes_of(&document);
        if document.kind == DocumentKind::IdempotentAnswer {
            self.answers_bytes += bytes_of(&document);
        }
        if let Some(expires) = document.expires {
            self.ends.insert((expires, document.kind, document.token.clone()));
        }
        let all = self.of_kind.entry(document.kind).or_default();
        all.insert(document.token.clone(), Arc::new(document));
    }
}

impl Documents {
    /// None yet.
    #[must_use]
    pub fn new(limits: DocumentLimits) -> Documents {
        Documents { limits, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The document, unless its time is over at `now`.
    #[must_use]
    pub fn get(&self, kind: DocumentKind, token: &str, now: Timestamp) -> Option<Arc<Document>> {
        self.held().get(kind, token).filter(|document| !document.is_over(now)).cloned()
    }

    /// Up to `max` documents of a kind in the order of their tokens, from behind this one on.
    #[must_use]
    pub fn page(
        &self,
        kind: DocumentKind,
        after: Option<&str>,
        max: usize,
        now: Timestamp,
    ) -> Vec<Arc<Document>> {
        let held = self.held();
        let Some(all) = held.of_kind.get(&kind) else { return Vec::new() };
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let live = all.range::<str, _>(behind).filter(|(_, document)| !document.is_over(now));
        live.take(max).map(|(_, document)| Arc::clone(document)).collect()
    }

    /// The same, with those whose time is over.
    #[must_use]
    pub fn page_of_all(
        &self,
        kind: DocumentKind,
        after: Option<&str>,
        max: usize,
    ) -> Vec<Arc<Document>> {
        self.page(kind, after, max, Timestamp::from_micros(i64::MIN))
    }

    /// Whether these changes can be made: each document has the version that was read, and there
    /// is room. The journal's end is locked until they are made.
    ///
    /// # Errors
    /// Which has changed, or which limit is reached.
    pub fn check(&self, changes: &[DocumentChange], now: Timestamp) -> Result<(), CommitError> {
        let held = self.held();
        let mut bytes = held.bytes;
        for (place, change) in changes.iter().enumerate() {
            let known = held.get(change.kind, &change.token);
            let version = known.filter(|known| !known.is_over(now)).map_or(0, |it| it.version);
            let is_twice = changes
                .iter()
                .take(place)
                .any(|earlier| earlier.kind == change.kind && earlier.token == change.token);
            debug_assert!(!is_twice, "a commit changes a document once");
            if version != change.read || is_twice {
                let (kind, token) = (change.kind, change.token.clone());
                return Err(Changed::Document(kind, token).into());
            }
            let length = change.body.as_ref().map_or(0, |body| body.len());
            if length > self.limits.document_bytes_max {
                return Err(Limit::Document.into());
            }
            bytes = bytes.saturating_sub(known.map_or(0, |known| bytes_of(known)));
            if change.body.is_some() {
                let own = OVERHEAD_BYTES + change.token.len() + length;
                bytes += own;
                let is_answer = change.kind == DocumentKind::IdempotentAnswer;
                if is_answer && held.answers_bytes + own > self.limits.answers_bytes_max() {
                    return Err(Limit::Answers.into());
                }
            }
        }
        let grows = bytes > held.bytes;
        if grows && bytes > self.limits.all_bytes_max {
            Err(Limit::Documents.into())
        } else {
            Ok(())
        }
    }

    /// Puts a document in the place of an older one. An older one than is there changes nothing: a
    /// snapshot may hold what comes later in the journal.
    pub fn put(&self, document: Document) {
        let mut held = self.held();
        let known = held.get(document.kind, &document.token).map_or(0, |known| known.version);
        if known < document.version {
            held.put(document);
        }
    }

    /// Removes a document, by the record of this number, unless it was written later.
    pub fn remove(&self, kind: DocumentKind, token: &str, by: u64) {
        let mut held = self.held();
        if held.get(kind, token).is_some_and(|known| known.version < by) {
            held.remove(kind, token);
        }
    }

    /// Up to `max` documents whose time is over at `now`, the first first.
    #[must_use]
    pub fn over(&self, now: Timestamp, max: usize) -> Vec<Arc<Document>> {
        let held = self.held();
        let over = held.ends.iter().take_while(|(expires, ..)| *expires <= now).take(max);
        over.filter_map(|(_, kind, token)| held.get(*kind, token).cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hsm::software::PanVault;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);
    const LIMITS: DocumentLimits =
        DocumentLimits { document_bytes_max: 100, all_bytes_max: 3 * (OVERHEAD_BYTES + 100) };

    fn change(token: &str, read: u64, length: usize) -> DocumentChange {
        let vault = PanVault::new(&[1; 32], &[2; 32]).unwrap().documents;
        let body = vec![b'7'; length];
        DocumentChange::write(&vault, (DocumentKind::Product, token), read, &body).unwrap()
    }

    fn document(token: &str, version: u64, expires: Option<i64>) -> Document {
        Document {
            kind: DocumentKind::Product,
            token: token.into(),
            version,
            replaces: 0,
            expires: expires.map(Timestamp::from_seconds),
            body: b"7"[..].into(),
        }
    }

    #[test]
    fn changes_are_conditional_and_limited() {
        let documents = Documents::new(LIMITS);
        documents.put(document("a", 5, None));
        let check = |changes: &[DocumentChange]| documents.check(changes, NOW);
        let changed = Changed::Document(DocumentKind::Product, "a".into());
        assert_eq!(check(&[change("a", 5, 1)]), Ok(()));
        for read in [0, 4, 6] {
            assert_eq!(check(&[change("a", read, 1)]), Err(changed.clone().into()));
        }
        assert_eq!(check(&[change("b", 0, 100)]), Ok(()));
        assert!(check(&[change("b", 1, 100)]).is_err());
        assert_eq!(check(&[change("b", 0, 101)]), Err(Limit::Document.into()));
        let many = ["b", "c", "d"].map(|token| change(token, 0, 100));
        assert_eq!(check(&many), Err(Limit::Documents.into()));
        // What makes room is taken at the limit too.
        let full = Documents::new(DocumentLimits { all_bytes_max: 1, ..LIMITS });
        full.put(document("a", 5, None));
        let removal = DocumentChange::remove(&document("a", 5, None));
        assert_eq!(full.check(&[removal], NOW), Ok(()));
    }

    #[test]
    fn answers_to_keys_leave_the_others_their_room() {
        let documents = Documents::new(DocumentLimits {
            document_bytes_max: 100,
            all_bytes_max: ANSWERS_PARTS * 2 * (OVERHEAD_BYTES + 11),
        });
        let answer = |token: &str| DocumentChange {
            kind: DocumentKind::IdempotentAnswer,
            ..change(token, 0, 10)
        };
        for (token, version) in [("a", 1), ("b", 2)] {
            assert!(documents.check(&[answer(token)], NOW).is_ok());
            let kind = DocumentKind::IdempotentAnswer;
            let body = [0; 10].as_slice().into();
            documents.put(Document { kind, body, ..document(token, version, None) });
        }
        let full = documents.check(&[answer("c")], NOW);
        assert_eq!(full, Err(Limit::Answers.into()));
        assert!(documents.check(&[change("c", 0, 10)], NOW).is_ok());
        documents.remove(DocumentKind::IdempotentAnswer, "a", 3);
        assert!(documents.check(&[answer("c")], NOW).is_ok());
    }

    #[test]
    fn what_is_over_counts_as_gone_before_it_is_removed() {
        let documents = Documents::new(LIMITS);
        documents.put(document("a", 5, Some(1_000)));
        documents.put(document("b", 6, Some(1_001)));
        let get = |token, now| documents.get(DocumentKind::Product, token, now);
        assert!(get("a", NOW).is_none() && get("b", NOW).is_some());
        assert_eq!(documents.check(&[change("a", 0, 1)], NOW), Ok(()));
        assert_eq!(documents.over(NOW, 9).iter().map(|it| &*it.token).collect::<Vec<_>>(), ["a"]);
        documents.remove(DocumentKind::Product, "a", 7);
        assert!(documents.over(NOW, 9).is_empty());
        // Written anew after the sweep had looked.
        documents.put(document("b", 9, None));
        documents.remove(DocumentKind::Product, "b", 8);
        assert!(get("b", NOW).is_some());
        assert_eq!(documents.held().bytes, OVERHEAD_BYTES + 2);
    }

    #[test]
    fn pages_follow_each_other() {
        let documents = Documents::new(LIMITS);
        for (token, version) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
            documents.put(document(token, version, None));
        }
        let page = |after, max| {
            let page = documents.page(DocumentKind::Product, after, max, NOW);
            page.iter().map(|document| document.token.to_string()).collect::<String>()
        };
        assert_eq!(page(None, 3), "abc");
        assert_eq!(page(Some("c"), 3), "d");
        assert_eq!(page(Some("bb"), 9), "cd");
        assert!(documents.page(DocumentKind::User, None, 9, NOW).is_empty());
    }
}
