//! A chip card and its terminal, as an acquirer's test bench has them: for `loadtest`, for the
//! tests, and for what the switch simulates.
//!
//! Nothing here is shared with the HSM of the switch but the block cipher: keys, cryptograms,
//! scripts and the bits of the card are written a second time, from the standards, so that a
//! mistake on one side shows as a difference.

pub mod card;
pub mod terminal;
