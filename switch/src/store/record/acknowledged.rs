//! The bytes of how far a reader of events is, in the journal and in snapshots.
//!
//! ```text
//! 14 acknowledged  reader text, forgotten flag, record id u64, index in the record u8
//! ```

use std::borrow::Cow;

use super::entry::Kept;
use super::event::EventId;
use super::stored::{Stored, Unreadable, stored_fields};

/// A reader has the events up to one, and needs them no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged<'a> {
    /// Its name.
    pub reader: Cow<'a, str>,
    /// There is no such reader any more.
    pub is_forgotten: bool,
    /// The last event it has.
    pub through: EventId,
}

impl Kept for Acknowledged<'_> {
    const KIND: u8 = 14;
}

stored_fields!(Acknowledged<'_> { reader, is_forgotten, through });
