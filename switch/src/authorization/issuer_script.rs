//! Issuer scripts: what became of the one that was sent, and the one that the next answer carries.

use super::chip::ChipData;
use super::iad::CardVerification;
use super::product::ChipRules;
use super::trail::{Finding, Note, Trail};
use crate::cards::chip::{Change, ChangeKind, ChipSync, ScriptId, Sent};

/// A script that an answer carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptOrder {
    /// 9F18.
    pub id: ScriptId,
    /// What it changes.
    pub kind: ChangeKind,
}

/// Set in the first byte of the id of a script that only unblocks.
const UNBLOCKS: u8 = 0x80;

/// What the host believes of the chip, with what a transaction of this contact chip tells, whose
/// cryptogram is right. Its CVR speaks of the last transaction that went online.
pub(super) fn observe(
    sync: ChipSync,
    atc: u16,
    (chip, results): (&ChipData, &CardVerification),
    rules: &ChipRules,
    trail: &mut Trail,
) -> ChipSync {
    let ChipSync::Sent(change, sent) = sync else { return sync };
    let named = chip.script_result(sent.script);
    if named.is_none() && atc <= sent.atc {
        return ChipSync::Sent(change, sent);
    }
    let has_failed = results.issuer_authentication_failed || results.script_failed;
    let finding = match named {
        Some(true) => Finding::ScriptConfirmed,
        Some(false) => Finding::ScriptNotDone,
        None if has_failed => Finding::ScriptNotDone,
        // The count is that of an earlier transaction.
        None if results.last_online_not_completed => Finding::ScriptLost,
        None if results.scripts_processed > 0 => Finding::ScriptConfirmed,
        None => Finding::ScriptLost,
    };
    trail.push(Note::of(finding, sent.atc.into(), 0));
    match finding {
        Finding::ScriptConfirmed => ChipSync::done(&change),
        _ => not_done(change, rules, trail),
    }
}

/// The same from a message about a transaction that is over: its completion, or its reversal.
/// What it names is believed; the rest of it only under a right cryptogram.
pub(super) fn conclude(
    sync: ChipSync,
    (chip, is_right): (Option<&ChipData>, bool),
    is_reversed: impl Fn(&Sent) -> bool,
    rules: &ChipRules,
    trail: &mut Trail,
) -> ChipSync {
    let ChipSync::Sent(change, sent) = sync else { return sync };
    let named = chip.and_then(|chip| chip.script_result(sent.script));
    let of_this = |chip: &&ChipData| chip.atc == Some(sent.atc.to_be_bytes());
    let failed = |chip: &ChipData| {
        let tvr = chip.covered.map(|covered| covered.tvr).unwrap_or_default();
        tvr.issuer_authentication_failed() || tvr.script_failed()
    };
    let has_failed = is_right && chip.filter(of_this).is_some_and(failed);
    let finding = match named {
        Some(true) => Finding::ScriptConfirmed,
        Some(false) => Finding::ScriptNotDone,
        None if has_failed => Finding::ScriptNotDone,
        None if is_reversed(&sent) => Finding::ScriptLost,
        None => return ChipSync::Sent(change, sent),
    };
    trail.push(Note::of(finding, sent.atc.into(), 0));
    match finding {
        Finding::ScriptConfirmed => ChipSync::done(&change),
        _ => not_done(change, rules, trail),
    }
}

fn not_done(change: Change, rules: &ChipRules, trail: &mut Trail) -> ChipSync {
    let attempts = change.attempts;
    let next = ChipSync::not_done(change, rules.script_sends_max);
    if matches!(next, ChipSync::Failed(_)) {
        trail.push(Note::of(Finding::ScriptGivenUp, attempts.into(), 0));
    }
    next
}

/// The change that an approval carries, sent once more: what is believed then, and the script.
pub(super) fn attach(
    sync: &ChipSync,
    atc: u16,
    transaction: u128,
    trail: &mut Trail,
) -> Option<(ChipSync, ScriptOrder)> {
    let ChipSync::Pending(change) = sync else { return None };
    let attempts = change.attempts.saturating_add(1);
    let (kind, number) = match change.kind {
        ChangeKind::Pin { version, .. } => (0, version),
        ChangeKind::Unblock { .. } => (UNBLOCKS, atc.into()),
    };
    let [_, a, b, c] = number.to_be_bytes();
    let id = [kind | attempts & !UNBLOCKS, a, b, c];
    trail.push(Note::of(Finding::ScriptAttached, attempts.into(), 0));
    let order = ScriptOrder { id, kind: change.kind.clone() };
    let change = Change { attempts, ..change.clone() };
    Some((ChipSync::Sent(change, Sent { script: id, atc, transaction }), order))
}

/// The script of this id, as it was attached before: while its PIN is still there.
#[must_use]
pub fn again(sync: &ChipSync, id: ScriptId) -> Option<ScriptOrder> {
    let [kind, number @ ..] = id;
    let change = sync.kept_change()?;
    let is_same = match change.kind {
        ChangeKind::Pin { version, .. } => {
            kind & UNBLOCKS == 0 && version.to_be_bytes().ends_with(&number)
        }
        ChangeKind::Unblock { .. } => kind & UNBLOCKS != 0,
    };
    is_same.then(|| ScriptOrder { id, kind: change.kind.clone() })
}
