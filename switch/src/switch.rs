//! What authorizes: the seams put together, and what one connection is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use iso_specs::redact::mask_pan;
use iso_specs::{Decoded, ElementSet};

use crate::authorization::{FormatError, Product, Reason};
use crate::cards::pan::PAN_DIGITS_MAX;
use crate::cards::{BadPinBlocks, Card, PanVault};
use crate::clock::Timestamp;
use crate::config::{Limits, LinkConfig};
use crate::hsm::Verification;
use crate::metrics::{LinkMetrics, Metrics};
use crate::store::duplicates::DuplicateHasher;

/// Everything that authorizes: clock, HSM and store, the issuer's rules and the limits.
pub struct Switch<C, H, S> {
    /// Time.
    pub clock: C,
    /// The HSM.
    pub hsm: H,
    /// The store.
    pub store: S,
    /// Keys for card data at rest.
    pub vault: PanVault,
    /// Digests by which repeats are recognised.
    pub duplicates: DuplicateHasher,
    /// The issuer's products.
    pub products: Vec<Arc<Product>>,
    /// Limits of connections and requests.
    pub limits: Limits,
    /// Of all links together.
    pub in_flight: InFlight,
    /// One log line for each transaction.
    pub log_transactions: bool,
    /// What is counted.
    pub metrics: Metrics,
}

/// Repeats, advices and reversals are taken up to this many times the limit of requests in flight.
const FLOOD: usize = 2;

/// How many requests wait for HSM or store.
#[derive(Debug, Default)]
pub struct InFlight(AtomicUsize);

impl InFlight {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// So many fewer.
    pub fn remove(&self, count: usize) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// How one message ended, for metrics and log.
#[derive(Clone, Copy, Debug)]
pub struct Accounted {
    /// What was answered.
    pub reason: Reason,
    /// Whether it was answered before.
    pub repeat: bool,
    /// The data element that was wrong.
    pub fault: Option<FormatError>,
    /// Of a reversal, whether its original is known.
    pub original: Option<bool>,
    /// The elements that are what they seem to be.
    pub trusted: ElementSet,
    /// From the read of the frame to the encoded response.
    pub took: Duration,
    /// Whether it took too long: then it was not sent.
    pub late: bool,
    /// Whether the answer is one that stays.
    pub decided: bool,
}

impl<C, H, S> Switch<C, H, S> {
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

    /// Counts a PIN that a decision is made by, and notes a PIN block that could not be read:
    /// before the decision is committed, so that the next one of the same read meets the limit.
    pub fn count_verification(
        &self,
        session: &Session,
        card: &Card,
        verification: Verification,
        now: Timestamp,
    ) {
        self.metrics.verified(verification);
        if verification == Verification::BadPinBlock {
            session.metrics.bad_pin_block();
            session.bad_pin_blocks.add(&card.entry, now);
        }
    }

    /// Notes how long one answered message took, and writes its line: masked, without a name that
    /// the peer chose. Of a message with a fault only DE11 is shown, and only if it can be
    /// trusted: another element may hold what must never be in a log.
    pub fn account(&self, session: &Session, decoded: &Decoded<'_>, how: Accounted) {
        let message = &decoded.message;
        session.metrics.took(message.mti(), how.took);
        if how.late {
            session.metrics.late(how.decided);
        }
        if !self.log_transactions {
            return;
        }
        let trusts = |element| how.trusted.contains(element);
        let is_whole = |element| how.fault.is_none() && trusts(element);
        // Free text, as a dialect of one's own may have there, could be any bytes.
        let is_plain = |element| message.field(element).is_some_and(|field| field.is_plain());
        let pan = is_whole(2).then(|| message.text::<PAN_DIGITS_MAX>(2)).flatten();
        let stan = (trusts(11) && is_plain(11)).then(|| message.text::<6>(11)).flatten();
        let rrn = (is_whole(37) && is_plain(37)).then(|| message.text::<12>(37)).flatten();
        let (why, offset) = how.fault.map(|fault| reason_of(decoded, fault)).unzip();
        tracing::info!(
            target: "transaction",
            network = &*session.link.network,
            link = &*session.link.name,
            mti = %message.mti(),
            pan = pan.as_deref().map(|pan| tracing::field::display(mask_pan(pan))),
            stan = stan.as_ref().and_then(|stan| stan.as_str()),
            rrn = rrn.as_ref().and_then(|rrn| rrn.as_str()),
            reason = how.reason.code(),
            memo = how.reason.memo(),
            original = how.original.map(|known| if known { "known" } else { "unknown" }),
            repeat = how.repeat,
            late = how.late,
            element = how.fault.map(|fault| fault.element),
            why,
            offset = offset.flatten(),
            took_us = u64::try_from(how.took.as_micros()).unwrap_or(u64::MAX),
        );
    }
}

/// What is wrong with an element, and at which byte of the frame the decoder found it.
fn reason_of(decoded: &Decoded<'_>, fault: FormatError) -> (String, Option<usize>) {
    match decoded.fault.filter(|found| found.element == fault.element) {
        Some(found) => (found.kind.to_string(), Some(found.offset)),
        None if decoded.message.has(fault.element) => {
            let why = match fault.element {
                90 => "names no request, or more than one",
                _ => "not what it may be",
            };
            (why.to_owned(), None)
        }
        None => ("missing".to_owned(), None),
    }
}

/// What one connection is, and what it has said so far.
pub struct Session {
    /// The link it came in by.
    pub link: Arc<LinkConfig>,
    /// The counters of that link.
    pub metrics: Arc<LinkMetrics>,
    /// Of that link.
    pub in_flight: Arc<InFlight>,
    /// Of that link.
    pub bad_pin_blocks: Arc<BadPinBlocks>,
    /// Who is at the other end, for the log.
    pub peer: Box<str>,
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
        let signed_on = AtomicBool::new(false);
        Session { link, metrics, in_flight, bad_pin_blocks, peer: peer.into(), signed_on }
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
