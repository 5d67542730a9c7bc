//! The bytes of a jump of the civil time.
//!
//! ```text
//! 9 clock jump  time i64, microseconds i64 by which the civil time has jumped to it
//! ```

use super::entry::Kept;
use super::stored::{Stored, Unreadable, stored_fields};
use crate::clock::Timestamp;

/// The civil time has jumped: what stands before it was written with another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockJump {
    /// To this moment.
    pub time: Timestamp,
    /// By so many microseconds; 0 where it is only not believed yet.
    pub micros: i64,
}

impl Kept for ClockJump {
    const KIND: u8 = 9;
}

stored_fields!(ClockJump { time, micros });
