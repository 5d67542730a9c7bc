//! What the switch keeps of a chip, beside what the model has.

use switch::cards::chip_state::{self, ChangeKind, ChipSync};
use switch::clock::Timestamp;

use super::wait::{Carrier, Change, Report, Wait};

/// A report as the switch keeps it.
fn told(report: &Report) -> u8 {
    let scripts = u8::try_from(report.scripts).unwrap() << 4;
    scripts | u8::from(report.script_failed) << 1 | u8::from(report.authentication_failed)
}

fn is_carrier(carrier: &Carrier, sent: &chip_state::Sent) -> bool {
    carrier.atc == sent.atc
        && told(&carrier.told) == sent.told
        && carrier.is_reversed == sent.transaction.is_none()
        && is_at(carrier.unblock, sent.unblock)
}

fn is_at(seconds: Option<u64>, time: Option<Timestamp>) -> bool {
    time == seconds.map(|seconds| Timestamp::from_seconds(i64::try_from(seconds).unwrap()))
}

/// Whether the switch keeps of a chip what the model has of it.
pub fn is_same(wait: &Wait, sync: &ChipSync) -> bool {
    let same = |change: &Change, kept: &chip_state::Change| {
        change.is_pin == matches!(kept.kind, ChangeKind::Pin { .. })
            && change.sends == kept.attempts
            && change.was_refused == kept.was_refused
            && change.is_doubtful == kept.is_doubtful
            && is_at(Some(change.since), kept.since)
    };
    match (wait, sync) {
        (Wait::Nothing, ChipSync::InSync) => true,
        (Wait::Expired(None), ChipSync::Expired(None)) => true,
        (Wait::Expired(Some(carrier)), ChipSync::Expired(Some(sent))) => is_carrier(carrier, sent),
        (Wait::Pending(change), ChipSync::Pending(kept))
        | (Wait::GivenUp(change), ChipSync::Failed(kept)) => same(change, kept),
        (Wait::Sent(change, carrier), ChipSync::Sent(kept, sent)) => {
            same(change, kept) && is_carrier(carrier, sent)
        }
        _ => false,
    }
}
