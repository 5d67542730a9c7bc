//! Issuer scripts: what became of the one that was sent, and the one that the next answer carries.

use super::cryptogram::CryptogramCheck;
use super::icc_data::{ChipData, ScriptOutcome};
use super::product::ChipRules;
use super::trail::{Finding, Note, Trail};
use crate::cards::chip_state::{Change, ChangeKind, Chip, ChipSync, ScriptId, Sent};

/// Set in the first byte of the id of a script that only unblocks.
const UNBLOCKS: u8 = 0x80;

/// What became of a script that was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The chip has done it.
    Done,
    /// The chip has refused it, or the answer that it came with.
    NotDone,
    /// It did not reach the chip.
    Lost,
    /// The chip may have done it, and nobody will know.
    InDoubt,
}

impl Fate {
    const fn finding(self) -> Finding {
        match self {
            Fate::Done => Finding::ScriptConfirmed,
            Fate::NotDone => Finding::ScriptNotDone,
            Fate::Lost => Finding::ScriptLost,
            Fate::InDoubt => Finding::ScriptInDoubt,
        }
    }
}

/// What is known of the chip, with what a transaction tells whose cryptogram is right. Its CVR
/// speaks of the last transaction that went online; 9F5B, which no cryptogram covers, is not asked.
/// Only in a transaction of a contact chip by DE22 does silence mean that the script was lost.
pub(super) fn observe(
    chip: Chip,
    check: &CryptogramCheck,
    is_contact: bool,
    rules: &ChipRules,
    trail: &mut Trail,
) -> Chip {
    let sent = chip.sync.on_its_way().filter(|sent| sent.atc < check.atc);
    let Some(sent) = sent else { return chip };
    let cvr = &check.results;
    if !cvr.tells_of_scripts {
        return chip;
    }
    // If the last transaction was not completed, this is told of an earlier one. It may still be
    // the one with the script, if the chip told something else in its request.
    let is_older = cvr.last_online_not_completed && cvr.last_online() == sent.told;
    let is_done = cvr.scripts_processed > 0 && !cvr.script_failed;
    let fate = if is_done && (is_older || cvr.issuer_authentication_failed) {
        // An answer that was not the issuer's may have come after the script.
        Fate::InDoubt
    } else if is_older {
        Fate::Lost
    } else if cvr.issuer_authentication_failed || cvr.script_failed {
        Fate::NotDone
    } else if is_done {
        Fate::Done
    } else {
        Fate::Lost
    };
    match fate {
        Fate::Lost if !is_contact => chip,
        fate => settle(fate, chip, sent, rules, trail),
    }
}

/// Whether chip data are of another transaction than the one whose answer carries a script.
fn is_other(data: &ChipData, sent: &Sent) -> bool {
    data.atc.is_some_and(|atc| atc != sent.atc.to_be_bytes())
}

/// Whether chip data name a script that was sent: by its id, and by no other ATC than its own.
pub(super) fn is_named(data: &ChipData, sent: &Sent) -> bool {
    data.script_result(sent.script).is_some() && !is_other(data, sent)
}

/// Chip data of a message about a transaction that is over.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) data: Option<&'a ChipData>,
    /// Whether its cryptogram is right.
    pub(super) is_right: bool,
    /// Whether that covers the terminal verification results (95).
    pub(super) covers_tvr: bool,
    /// Whether the link that it came over has signed on.
    pub(super) is_signed_on: bool,
}

/// What is known of the chip, with what a message tells of the end of the transaction
/// whose answer carried the script: its completion, or its reversal. What it says of the script by
/// name is believed on a link that has signed on, and under a right cryptogram of that transaction;
/// the rest of it only under that.
pub(super) fn observe_end(
    chip: Chip,
    told: Told<'_>,
    is_reversed: impl Fn(&Sent) -> bool,
    rules: &ChipRules,
    trail: &mut Trail,
) -> Chip {
    let Some(sent) = chip.sync.on_its_way() else { return chip };
    let of_this = |chip: &&ChipData| chip.atc == Some(sent.atc.to_be_bytes());
    let right = told.data.filter(|_| told.is_right).filter(of_this);
    // Ids can come twice: on two plastics, and after a change was given up and sent anew.
    let named = told.data.filter(|chip| told.is_signed_on && !is_other(chip, &sent)).or(right);
    let failed = |chip: &ChipData| {
        let tvr = chip.tvr.filter(|_| told.covers_tvr);
        tvr.is_some_and(|tvr| tvr.issuer_authentication_failed() || tvr.script_failed())
    };
    let fate = match named.and_then(|chip| chip.script_result(sent.script)) {
        Some(ScriptOutcome::Successful) => Fate::Done,
        Some(ScriptOutcome::Failed) => Fate::NotDone,
        Some(ScriptOutcome::NotPerformed) => Fate::Lost,
        None if right.is_some_and(failed) => Fate::NotDone,
        None if is_reversed(&sent) => return reversed(chip, trail),
        None => return chip,
    };
    settle(fate, chip, sent, rules, trail)
}

/// Notes that the answer with the script may have been lost.
fn reversed(mut chip: Chip, trail: &mut Trail) -> Chip {
    if let ChipSync::Sent(_, sent) = &mut chip.sync {
        trail.push(Note::of(Finding::ScriptReversed, sent.atc.into(), 0));
        sent.transaction = None;
    }
    chip
}

/// Notes what became of a script: it is done, sent again, or given up.
fn settle(fate: Fate, chip: Chip, sent: Sent, rules: &ChipRules, trail: &mut Trail) -> Chip {
    trail.push(Note::of(fate.finding(), sent.atc.into(), 0));
    let is_done = fate == Fate::Done;
    // What has expired on its way is a change of the PIN.
    let is_of_pin = chip.sync.change().is_none_or(Change::is_of_pin);
    let has_script_pin = chip.has_script_pin || is_done && is_of_pin;
    let next = match chip.sync {
        ChipSync::Sent(change, _) if is_done => ChipSync::done(&change),
        ChipSync::Sent(change, _) => {
            let was_refused = change.was_refused || fate == Fate::NotDone;
            let is_doubtful = change.is_doubtful || fate == Fate::InDoubt;
            let change = Change { was_refused, is_doubtful, ..change };
            ChipSync::not_done(change, rules.script_sends_max)
        }
        // Its PIN block is deleted.
        _ if is_done => ChipSync::InSync,
        _ => ChipSync::Expired(None),
    };
    if let ChipSync::Failed(change) = &next {
        trail.push(Note::of(Finding::ScriptGivenUp, change.attempts.into(), 0));
    }
    let sync = match sent.unblock {
        None => next,
        Some(since) => {
            trail.push(Finding::UnblockQueued.into());
            next.unblocked(since)
        }
    };
    Chip { sync, has_script_pin, ..chip }
}

/// The change that an approval carries, sent once more: what is believed then.
pub(super) fn attach(
    sync: &ChipSync,
    check: &CryptogramCheck,
    transaction: u128,
    trail: &mut Trail,
) -> Option<ChipSync> {
    let ChipSync::Pending(change) = sync else { return None };
    let attempts = change.attempts.saturating_add(1);
    let (kind, number) = match change.kind {
        ChangeKind::Pin { version, .. } => (0, version),
        ChangeKind::Unblock { .. } => (UNBLOCKS, check.atc.into()),
    };
    let [_, a, b, c] = number.to_be_bytes();
    let id = [kind | attempts & !UNBLOCKS, a, b, c];
    trail.push(Note::of(Finding::ScriptAttached, attempts.into(), 0));
    let change = Change { attempts, ..change.clone() };
    let told = check.results.last_online();
    let transaction = Some(transaction);
    let sent = Sent { script: id, atc: check.atc, told, transaction, unblock: None };
    Some(ChipSync::Sent(change, sent))
}

/// What the script of this id changes, which was attached before: while its PIN is still there.
#[must_use]
pub fn again(sync: &ChipSync, id: ScriptId) -> Option<&ChangeKind> {
    let [kind, number @ ..] = id;
    let change = sync.kept_change()?;
    let is_same = match change.kind {
        ChangeKind::Pin { version, .. } => {
            kind & UNBLOCKS == 0 && version.to_be_bytes().ends_with(&number)
        }
        ChangeKind::Unblock { .. } => kind & UNBLOCKS != 0,
    };
    is_same.then_some(&change.kind)
}
