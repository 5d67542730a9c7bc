//! Readers of events: who they are, and how far each is.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use compact_str::CompactString;

use super::StoreError;
use super::record::{Acknowledged, EventId};

/// Most readers of events.
pub const READERS_MAX: usize = 32;
/// Longest name of one, in bytes.
pub const READER_NAME_BYTES_MAX: usize = 64;

/// The name of a reader of events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReaderName(CompactString);

impl ReaderName {
    /// A name of 1 to [`READER_NAME_BYTES_MAX`] letters, digits, `-`, `_` and `.`.
    #[must_use]
    pub fn new(name: &str) -> Option<ReaderName> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let is_name = (1..=READER_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(valid);
        is_name.then(|| ReaderName(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a reader got no events, or why what it acknowledged was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReaderError {
    /// Nothing stands there yet.
    #[error("there is no event {0} yet")]
    NotThere(EventId),
    /// There are as many readers as there may be.
    #[error("there are {READERS_MAX} readers already: forget one first")]
    TooMany,
    /// The store is not there.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How far each reader is. The lock is taken behind that of the journal's end, and is a leaf.
#[derive(Debug, Default)]
pub struct Readers(Mutex<BTreeMap<CompactString, EventId>>);

impl Readers {
    fn held(&self) -> MutexGuard<'_, BTreeMap<CompactString, EventId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an acknowledgement says anything new.
    ///
    /// # Errors
    /// If the reader is one too many.
    pub fn is_new(&self, reader: &ReaderName, through: EventId) -> Result<bool, ReaderError> {
        let held = self.held();
        match held.get(reader.as_str()) {
            Some(known) => Ok(*known < through),
            None if held.len() >= READERS_MAX => Err(ReaderError::TooMany),
            None => Ok(true),
        }
    }

    /// Notes what a record says.
    pub fn note(&self, acknowledged: &Acknowledged<'_>) {
        let Acknowledged { reader, is_forgotten, through } = acknowledged;
        let mut held = self.held();
        if *is_forgotten {
            held.remove(&**reader);
        } else {
            let known = held.entry((&**reader).into()).or_insert(*through);
            *known = (*known).max(*through);
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Acknowledged<'static>> {
        let reader = |(name, through): (&CompactString, &EventId)| Acknowledged {
            reader: name.to_string().into(),
            is_forgotten: false,
            through: *through,
        };
        self.held().iter().map(reader).collect()
    }

    /// How far a reader is; `None` where there is no such reader.
    #[must_use]
    pub fn place(&self, reader: &ReaderName) -> Option<EventId> {
        self.held().get(reader.as_str()).copied()
    }

    /// The slowest, and what it has acknowledged; `None` without readers.
    #[must_use]
    pub fn slowest(&self) -> Option<(CompactString, EventId)> {
        let held = self.held();
        let slowest = held.iter().min_by_key(|(_, through)| **through);
        slowest.map(|(name, through)| (name.clone(), *through))
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::RecordId;
    use super::*;

    #[test]
    fn going_back_changes_nothing_and_readers_are_limited() {
        let readers = Readers::default();
        let at = |record| EventId { record: RecordId(record), index: 1 };
        let note = |name: &str, through, is_forgotten| {
            readers.note(&Acknowledged { reader: name.to_owned().into(), is_forgotten, through });
        };
        let [one, more] = ["one", "more"].map(|name| ReaderName::new(name).unwrap());
        assert_eq!(readers.is_new(&one, EventId::NONE), Ok(true));
        note("one", at(7), false);
        assert_eq!(readers.is_new(&one, at(7)), Ok(false));
        note("one", at(5), false);
        assert_eq!(readers.slowest(), Some(("one".into(), at(7))));
        assert_eq!((readers.place(&one), readers.place(&more)), (Some(at(7)), None));
        (1..READERS_MAX).for_each(|number| note(&format!("{number}"), at(6), false));
        assert_eq!(readers.is_new(&more, at(1)), Err(ReaderError::TooMany));
        assert_eq!(readers.slowest(), Some(("1".into(), at(6))));
        assert_eq!(readers.is_new(&one, at(8)), Ok(true));
        note("1", at(6), true);
        assert_eq!(readers.is_new(&more, at(1)), Ok(true));
    }

    #[test]
    fn names_are_short_and_harmless() {
        assert!(ReaderName::new("webhooks-1.a_b").is_some());
        let long = "x".repeat(READER_NAME_BYTES_MAX + 1);
        assert!(["", "a b", "ä", "a/b", &long].iter().all(|name| ReaderName::new(name).is_none()));
    }
}
