//! pinswitch: a real-time authorization switch for card issuers.
//!
//! The modules stand in the order in which a request meets them.

/// Metrics and health over HTTP.
pub mod admin;
/// The rules: request in, decision out.
pub mod authorization;
/// Cards and the cache that holds them.
pub mod cards;
/// Where time comes from.
pub mod clock;
/// What may be set, and every limit.
pub mod config;
/// One connection: read, in-flight window, write.
pub mod connection;
/// The command line on a running switch.
pub mod control;
/// The demo's cards and keys.
pub mod demo;
/// Frames on the wire.
pub mod frame;
/// PIN verification.
pub mod hsm;
/// Connections are accepted and given to threads.
pub mod listener;
/// Every metric of the process.
pub mod metrics;
/// Putting the parts together, from configuration to a running switch.
pub mod run;
/// Stopping.
pub mod shutdown;
/// Journal, snapshots, answers already given.
pub mod store;
/// What the script works with: the seams put together, and one connection's session.
pub mod switch;
/// The script of one request.
pub mod transaction;
