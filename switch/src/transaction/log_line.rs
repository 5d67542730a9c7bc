//! The log line of a transaction, and the metrics of its time.

use std::time::Duration;

use iso_specs::ElementSet;
use iso_specs::redact::mask_pan;

use super::attempt::Received;
use super::reply::Answered;
use crate::authorization::Answer;
use crate::cards::pan::PAN_DIGITS_MAX;
use crate::switch::{Seams, Switch};

impl<W: Seams> Switch<W> {
    /// Whether an answer that took so long is not sent any more.
    pub(super) fn is_late(&self, took: Duration) -> bool {
        took > self.limits.answer_milliseconds_max
    }

    /// Notes how long one answered message took, and writes its line: masked, without a name that
    /// the peer chose. Of a message with a fault only DE11 is shown, and only if it can be
    /// trusted: another element may hold what must never be in a log.
    pub(super) fn account(
        &self,
        received: &Received<'_>,
        answered: &Answered,
        trusted: ElementSet,
        took: Duration,
    ) {
        let Received { session, decoded, .. } = received;
        let Answered { answer: Answer { reason, .. }, fault, is_repeat, original, .. } = answered;
        let message = &decoded.message;
        let is_late = self.is_late(took);
        session.metrics.took(message.mti(), took);
        if is_late {
            session.metrics.late(answered.rests_on_store && reason.is_kept());
        }
        if !self.log_transactions {
            return;
        }
        let trusts = |element| trusted.contains(element);
        let is_whole = |element| fault.is_none() && trusts(element);
        // Free text, as a dialect of one's own may have there, could be any bytes.
        let is_plain = |element| message.field(element).is_some_and(|field| field.is_plain());
        let pan = is_whole(2).then(|| message.text::<PAN_DIGITS_MAX>(2)).flatten();
        let stan = (trusts(11) && is_plain(11)).then(|| message.text::<6>(11)).flatten();
        let rrn = (is_whole(37) && is_plain(37)).then(|| message.text::<12>(37)).flatten();
        tracing::info!(
            target: "transaction",
            network = &*session.link.network,
            link = &*session.link.name,
            mti = %message.mti(),
            pan = pan.as_deref().map(|pan| tracing::field::display(mask_pan(pan))),
            stan = stan.as_ref().and_then(|stan| stan.as_str()),
            rrn = rrn.as_ref().and_then(|rrn| rrn.as_str()),
            reason = reason.code(),
            memo = reason.memo(),
            original = original.map(|known| if known { "known" } else { "unknown" }),
            repeat = is_repeat,
            late = is_late,
            element = fault.map(|fault| fault.element),
            why = fault.map(|fault| tracing::field::display(fault.fault)),
            offset = fault.and_then(|fault| fault.fault.offset()),
            took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        );
    }
}
