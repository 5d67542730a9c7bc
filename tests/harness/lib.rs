//! What the end-to-end tests share: a switch with a clock that the test moves, a terminal that
//! speaks to it, and tables of steps.

pub mod chip;
pub mod operations;
pub mod scenario;
pub mod switch_under_test;
pub mod terminal;
