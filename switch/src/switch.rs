//! What authorizes: the seams put together. Here are its parts and limits only; what it does with
//! a frame is `Switch::respond` in `transaction.rs`, each step in a file below that.

use std::sync::Arc;

use crate::cache::Products;
use crate::clock::Clock;
use crate::config::Limits;
use crate::hsm::Hsm;
use crate::hsm::software::PanVault;
use crate::in_flight::InFlight;
use crate::metrics::Metrics;
use crate::session::Session;
use crate::store::Store;
use crate::store::duplicates::DuplicateHasher;

/// The three seams that are put together once, where the program starts: a real switch and a
/// simulated one differ in these types alone. Any clock, HSM and store make one.
pub trait Seams: 'static {
    /// Where time comes from.
    type Clock: Clock;
    /// What verifies PINs and cryptograms.
    type Hsm: Hsm;
    /// What keeps cards and transactions.
    type Store: Store;
}

impl<C: Clock, H: Hsm, S: Store> Seams for (C, H, S) {
    type Clock = C;
    type Hsm = H;
    type Store = S;
}

/// Everything that authorizes: clock, HSM and store, the issuer's rules and the limits.
pub struct Switch<W: Seams> {
    /// Where time comes from.
    pub clock: W::Clock,
    /// What verifies PINs and cryptograms.
    pub hsm: W::Hsm,
    /// What keeps cards and transactions.
    pub store: W::Store,
    /// Keys for card data at rest.
    pub vault: PanVault,
    /// Digests by which repeats are recognised.
    pub duplicates: DuplicateHasher,
    /// The issuer's products.
    pub products: Arc<Products>,
    /// Limits of connections and requests.
    pub limits: Limits,
    /// Requests of all links that wait for HSM or store.
    pub in_flight: InFlight,
    /// Whether each transaction is logged, with one line.
    pub log_transactions: bool,
    /// Metrics of the process.
    pub metrics: Metrics,
}

/// Repeats, advices and reversals are taken up to this many times the limit of requests in flight.
const FLOOD: usize = 2;

impl<W: Seams> Switch<W> {
    /// Whether so many requests wait for HSM or store that no other is decided.
    #[must_use]
    pub fn is_overloaded(&self, session: &Session) -> bool {
        self.in_flight.count() >= self.limits.in_flight_max
            || session.in_flight.count() >= self.limits.in_flight_per_link_max
    }

    /// Whether so many wait, of whatever kind, that not even a repeat or a reversal is taken.
    #[must_use]
    pub fn is_flooded(&self, session: &Session) -> bool {
        self.in_flight.count() / FLOOD >= self.limits.in_flight_max
            || session.in_flight.count() / FLOOD >= self.limits.in_flight_per_link_max
    }
}
