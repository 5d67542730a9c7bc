//! A chip card and its terminal, as an acquirer's test bench has them: for the story of
//! `loadtest story` and for tests of an issuer.
//!
//! Nothing here is shared with the switch but the block cipher: keys, cryptograms, scripts and the
//! bits of the card are written a second time, from the standards, so that a mistake on one side
//! shows as a difference.

pub mod chip_card;
pub mod chip_terminal;
