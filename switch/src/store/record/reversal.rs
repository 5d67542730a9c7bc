//! The bytes of what a reversal has forbidden.
//!
//! ```text
//! 6 reversal        time i64, key of the original as in a transaction, where 0 in its MTI and DE37
//!                   is any
//! 10 of a snapshot  network text, time, key: it must outlast the segment that says so
//! ```

use std::borrow::Cow;

use super::entry::Kept;
use super::stored::{Stored, Unreadable, stored_fields};
use crate::clock::Timestamp;
use crate::store::duplicates::Original;

/// An original was reversed, by the transaction in whose entry this stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reversed {
    /// When.
    pub time: Timestamp,
    /// What.
    pub original: Original,
}

/// What was reversed on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotReversal<'a> {
    /// The network.
    pub network: Cow<'a, str>,
    /// What, and when.
    pub reversed: Reversed,
}

impl Kept for Reversed {
    const KIND: u8 = 6;
}

impl Kept for SnapshotReversal<'_> {
    const KIND: u8 = 10;
}

stored_fields!(Reversed { time, original });
stored_fields!(SnapshotReversal<'_> { network, reversed });
