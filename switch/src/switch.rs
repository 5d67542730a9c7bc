//! What authorizes: the seams put together, and what one connection is.

use std::sync::Arc;
use std::time::Duration;

use iso_specs::redact::mask_pan;
use iso_specs::{Decoded, ElementSet};

use crate::authorization::{FormatError, Product, Reason};
use crate::cards::pan::PAN_DIGITS_MAX;
use crate::cards::{Card, PanVault};
use crate::clock::{Clock, Timestamp};
use crate::config::Limits;
use crate::hsm::Hsm;
use crate::in_flight::InFlight;
use crate::metrics::Metrics;
use crate::outcome::PinOutcome;
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
    pub products: Vec<Arc<Product>>,
    /// Limits of connections and requests.
    pub limits: Limits,
    /// Requests of all links that wait for HSM or store.
    pub in_flight: InFlight,
    /// One log line for each transaction.
    pub log_transactions: bool,
    /// What is counted.
    pub metrics: Metrics,
}

/// Repeats, advices and reversals are taken up to this many times the limit of requests in flight.
const FLOOD: usize = 2;

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

    /// Counts a PIN that a decision is made by, and notes a PIN block that could not be read:
    /// before the decision is committed, so that the next one of the same read meets the limit.
    pub fn count_verification(
        &self,
        session: &Session,
        card: &Card,
        verification: PinOutcome,
        now: Timestamp,
    ) {
        self.metrics.verified(verification);
        if verification == PinOutcome::BadPinBlock {
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
