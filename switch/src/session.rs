//! What one connection is, and what it has said so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cache::BadPinBlocks;
use crate::config::LinkConfig;
use crate::in_flight::InFlight;
use crate::metrics::LinkMetrics;
use crate::pin::ClearPin;

/// What one connection is, and what it has said so far.
pub struct Session {
    /// The link it came in by.
    pub link: Arc<LinkConfig>,
    /// The counters of that link.
    pub metrics: Arc<LinkMetrics>,
    /// Requests of all connections of that link that wait for HSM or store.
    pub in_flight: Arc<InFlight>,
    /// The unusable PIN blocks of that link, by card.
    pub bad_pin_blocks: Arc<BadPinBlocks>,
    /// Who is at the other end, for the log.
    pub peer: Box<str>,
    /// The PIN of its only request, where that is simulated: it came in clear, and DE52 says only
    /// that there is one.
    pub clear_pin: Option<Box<ClearPin>>,
    signed_on: AtomicBool,
}

impl Session {
    /// A new connection: not signed on.
    #[must_use]
    pub fn new(
        link: Arc<LinkConfig>,
        metrics: Arc<LinkMetrics>,
        in_flight: Arc<InFlight>,
        bad_pin_blocks: Arc<BadPinBlocks>,
        peer: &str,
    ) -> Session {
        let (signed_on, clear_pin) = (AtomicBool::new(false), None);
        Session {
            link,
            metrics,
            in_flight,
            bad_pin_blocks,
            peer: peer.into(),
            clear_pin,
            signed_on,
        }
    }

    /// Whether requests must wait for a sign-on.
    #[must_use]
    pub fn must_sign_on(&self) -> bool {
        self.link.sign_on_required && !self.signed_on.load(Ordering::Relaxed)
    }

    /// Whether the peer has signed on.
    #[must_use]
    pub fn is_signed_on(&self) -> bool {
        self.signed_on.load(Ordering::Relaxed)
    }

    /// Signs on or off.
    pub fn sign(&self, on: bool) {
        self.signed_on.store(on, Ordering::Relaxed);
    }

    /// The network sent one of our messages back: nothing waits for an answer, somebody has to
    /// look.
    pub fn rejected(&self, code: u16) {
        self.metrics.rejected();
        let (link, peer) = (&*self.link.name, &*self.peer);
        let code = format!("{code:04X}");
        tracing::warn!(target: "connection", link, peer, code, "the network rejected a message");
    }
}
