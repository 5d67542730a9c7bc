//! pinswitch: a real-time authorization switch for card issuers.
//!
//! The modules stand in the order in which a request meets them; the last group is what is
//! around them.

// Connections are accepted and given to threads.
pub mod listener;
// One connection: read, in-flight window, write.
pub mod connection;
// Frames: lengths and fixed headers.
pub mod frame;
// The script of one request: the order of all steps.
pub mod transaction;
// What the script works with: the seams put together.
pub mod switch;
// What one connection is, and whether it has signed on.
pub mod session;
// How many requests wait.
pub mod in_flight;
// The rules: request and card in, decision out.
pub mod authorization;
// Cards, and their PANs at rest.
pub mod cards;
// All cards and products in memory, as they are at this moment.
pub mod cache;
// What an HSM can say of a PIN and of a cryptogram.
pub mod outcome;
// PIN verification and keys.
pub mod hsm;
// Journal, snapshots, answers already given.
pub mod store;

// From a configuration to a running switch.
pub mod run;
// What may be set, and every limit.
pub mod config;
// The demo's cards and keys.
pub mod demo;
// The service behind every door: cards, PINs, products, events.
pub mod issuing;
// The door of the command line: a socket.
pub mod control;
// The door of programs: HTTP with JSON.
pub mod api;
// Metrics and health over HTTP.
pub mod admin;
// Every metric of the process.
pub mod metrics;
// Files and directories: whose they are, and who else could exchange them.
pub mod place;
// A PIN in every form in which it passes through.
pub mod pin;
// What may be said of a key: name and check value.
pub mod key;
// Hexadecimal text.
pub mod hex;
// What others can be told of a card, and who made it happen.
pub mod event;
// Where time comes from.
pub mod clock;
// Messages for a person to look at.
pub mod inspect;
// Stopping.
pub mod shutdown;
