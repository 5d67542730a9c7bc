//! What the host knows of the chip on a plastic: which transaction counters it has seen, and which
//! PIN it believes the chip to hold. Pure values, as a part of the card's snapshot.

use std::fmt;

use crate::clock::Timestamp;
use crate::pin::KeptPin;

/// How many ATCs, from the highest down, are accepted if they were not seen yet.
const WINDOW: u16 = 32;

/// How long the same cryptogram may come again after it was answered with a question for the PIN,
/// in microseconds.
const RETRY_MICROS: i64 = 120 * 1_000_000;

/// What is known of one chip. A plastic whose chip was never seen and never changed has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chip {
    /// The transaction counters seen.
    pub counters: AtcWindow,
    /// The PIN that the chip holds, as far as the host knows.
    pub sync: ChipSync,
    /// Whether a script has given it a PIN: it does not hold the one any more that it was embossed
    /// with.
    pub has_script_pin: bool,
}

/// The application transaction counters (ATC, 9F36) that were accepted: each once, in any order
/// within a window of 32, of which the highest is the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AtcWindow {
    /// The highest; 0 for none yet.
    pub highest: u16,
    /// Bit n: the counter that is n below the highest was accepted.
    pub seen: u32,
    /// The transaction that may come once more.
    pub retry: Option<Retry>,
}

/// A cryptogram that was answered, but not with a decision on the transaction: the terminal asks
/// for the PIN and sends it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Its ATC.
    pub atc: u16,
    /// 9F26.
    pub cryptogram: [u8; 8],
    /// When it was answered.
    pub since: Timestamp,
}

/// Why an ATC is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtcFault {
    /// 0 or 65535: no chip counts there (EMV Book 2, 8.1 lets it stop at the end).
    OutOfRange,
    /// It was accepted before.
    Replayed,
    /// It lies below the window.
    TooOld,
}

impl AtcWindow {
    /// The window after this transaction at `now`; whether it is one that came before.
    ///
    /// # Errors
    /// If the ATC is not accepted.
    pub fn accept(
        &self,
        atc: u16,
        cryptogram: [u8; 8],
        now: Timestamp,
    ) -> Result<(AtcWindow, bool), AtcFault> {
        if matches!(atc, 0 | u16::MAX) {
            return Err(AtcFault::OutOfRange);
        }
        let is_retry = |retry: &Retry| {
            let passed = now.micros().saturating_sub(retry.since.micros());
            retry.atc == atc
                && retry.cryptogram == cryptogram
                && (0..RETRY_MICROS).contains(&passed)
        };
        let retry = self.retry.filter(is_retry);
        if retry.is_some() {
            return Ok((AtcWindow { retry: None, ..self.clone() }, true));
        }
        let kept = self.retry.filter(|retry| retry.atc != atc);
        if atc > self.highest {
            let moved = u32::from(atc - self.highest);
            let seen = self.seen.checked_shl(moved).unwrap_or_default() | 1;
            return Ok((AtcWindow { highest: atc, seen, retry: kept }, false));
        }
        match self.highest - atc {
            below if below >= WINDOW => Err(AtcFault::TooOld),
            below if self.seen >> below & 1 == 1 => Err(AtcFault::Replayed),
            below => {
                let seen = self.seen | 1 << below;
                Ok((AtcWindow { highest: self.highest, seen, retry: kept }, false))
            }
        }
    }

    /// The window, with a transaction that may come again.
    #[must_use]
    pub fn allowing_retry(self, atc: u16, cryptogram: [u8; 8], since: Timestamp) -> AtcWindow {
        AtcWindow { retry: Some(Retry { atc, cryptogram, since }), ..self }
    }
}

/// Identifies a script in 9F18 and in the script results (9F5B).
pub type ScriptId = [u8; 4];

/// What the host believes that the chip holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ChipSync {
    /// What the host has.
    #[default]
    InSync,
    /// A change waits for the next transaction that can carry it.
    Pending(Change),
    /// A change is on its way.
    Sent(Change, Sent),
    /// The change was sent as often as the product allows.
    Failed(Change),
    /// The change was not carried out in time: its PIN block is deleted. One that was on its way
    /// may have come to the chip, which tells when it is used next.
    Expired(Option<Sent>),
}

/// How a change is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The script.
    pub script: ScriptId,
    /// ATC of the transaction whose answer carries it.
    pub atc: u16,
    /// What the chip told in that transaction of the one before it: scripts counted, in the high
    /// half; 2 if one of them had failed; 1 if issuer authentication had failed.
    pub told: u8,
    /// Key of that transaction; none once it was reversed. Then the answer may have been lost, and
    /// the change counts as pending until the chip tells what became of it.
    pub transaction: Option<u128>,
    /// When an unblock was asked for since. A chip that had the script by then is not unblocked by
    /// it: the unblock follows when it is known what became of the script.
    pub unblock: Option<Timestamp>,
}

/// How long a change may wait for the chip before its PIN block is deleted, in days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// OFPBE: from when the change begins to count.
    pub ofpbe: u32,
    /// From when a PIN was set on a card that nobody has activated since.
    pub unactivated: u32,
}

impl Retention {
    /// Of a product that does not say it, and of one that has no chips any more.
    pub const DEFAULT: Retention = Retention { ofpbe: 7, unactivated: 90 };
}

/// A change that the chip must make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What changes.
    pub kind: ChangeKind,
    /// When the PIN was set; from then on FTPDY and OFPBE count. A first PIN counts from the
    /// activation of its card, and has no time before that.
    pub since: Option<Timestamp>,
    /// When a first PIN was set that does not count yet; none where a release that did not keep it
    /// has set it.
    pub set_at: Option<Timestamp>,
    /// How often it was sent.
    pub attempts: u8,
    /// Whether the chip has had an answer that carried it, and did not carry it out.
    pub was_refused: bool,
    /// Whether the chip may have made it, and nobody will know. It is still sent, but nothing
    /// passes without a PIN because it waits.
    pub is_doubtful: bool,
}

/// What changes on a chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Its PIN, to the one of this version; its PIN try counter with it.
    Pin {
        /// Version of the online PIN that it was set with.
        version: u32,
        /// The PIN, for the script.
        pin: KeptPin,
    },
    /// Its PIN try counter.
    Unblock {
        /// The last change of the PIN expired: the chip holds an older one.
        pin_is_old: bool,
    },
}

impl Change {
    /// One that was never sent.
    #[must_use]
    pub const fn new(kind: ChangeKind, since: Option<Timestamp>) -> Change {
        let (was_refused, is_doubtful) = (false, false);
        Change { kind, since, set_at: None, attempts: 0, was_refused, is_doubtful }
    }

    /// Whether it brings a PIN.
    #[must_use]
    pub const fn is_of_pin(&self) -> bool {
        matches!(self.kind, ChangeKind::Pin { .. })
    }
}

impl ChangeKind {
    /// The name in records and on the API.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            ChangeKind::Pin { .. } => "change",
            ChangeKind::Unblock { .. } => "unblock",
        }
    }
}

impl ChipSync {
    /// A change that is pending or sent, and so may still reach the chip.
    #[must_use]
    pub const fn change(&self) -> Option<&Change> {
        match self {
            ChipSync::Pending(change) | ChipSync::Sent(change, _) => Some(change),
            ChipSync::InSync | ChipSync::Failed(_) | ChipSync::Expired(_) => None,
        }
    }

    /// A change that is kept, given up or not.
    #[must_use]
    pub const fn kept_change(&self) -> Option<&Change> {
        match self {
            ChipSync::Pending(change) | ChipSync::Sent(change, _) | ChipSync::Failed(change) => {
                Some(change)
            }
            ChipSync::InSync | ChipSync::Expired(_) => None,
        }
    }

    /// A script of which the chip has not told yet what became of it.
    #[must_use]
    pub const fn on_its_way(&self) -> Option<Sent> {
        match self {
            ChipSync::Sent(_, sent) | ChipSync::Expired(Some(sent)) => Some(*sent),
            _ => None,
        }
    }

    /// The name on the API.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            ChipSync::InSync => "in_sync",
            ChipSync::Pending(_) | ChipSync::Sent(_, Sent { transaction: None, .. }) => "pending",
            ChipSync::Sent(..) => "sent",
            ChipSync::Failed(_) => "failed",
            ChipSync::Expired(_) => "expired",
        }
    }

    /// With an unblock that waits for the chip. A change of the PIN that was given up is sent anew
    /// in its place, since it unblocks too; one that still waits stays, and is not in doubt any
    /// more. Behind one that is on its way it waits until it is known what became of that.
    #[must_use]
    pub fn unblocked(&self, now: Timestamp) -> ChipSync {
        let unblock = |sent: &Sent| Sent { unblock: Some(now), ..*sent };
        match (self, self.kept_change().filter(|change| change.is_of_pin())) {
            (ChipSync::Expired(Some(sent)), _) => ChipSync::Expired(Some(unblock(sent))),
            (ChipSync::Failed(_), Some(change)) => {
                ChipSync::Pending(Change { attempts: 0, is_doubtful: false, ..change.clone() })
            }
            (ChipSync::Sent(_, sent), Some(change)) => {
                ChipSync::Sent(change.clone(), unblock(sent))
            }
            (_, Some(change)) => ChipSync::Pending(Change { is_doubtful: false, ..change.clone() }),
            (known, None) => {
                let kind = ChangeKind::Unblock { pin_is_old: known.pin_is_old() };
                ChipSync::Pending(Change::new(kind, Some(now)))
            }
        }
    }

    /// Whether a change of the PIN has expired: the chip holds an older one.
    pub(super) fn pin_is_old(&self) -> bool {
        match self.kept_change() {
            Some(change) => matches!(change.kind, ChangeKind::Unblock { pin_is_old: true }),
            None => matches!(self, ChipSync::Expired(_)),
        }
    }

    /// The chip has made a change. An unblock brings no PIN: one that expired before it stays so.
    #[must_use]
    pub const fn done(change: &Change) -> ChipSync {
        match change.kind {
            ChangeKind::Unblock { pin_is_old: true } => ChipSync::Expired(None),
            ChangeKind::Unblock { pin_is_old: false } | ChangeKind::Pin { .. } => ChipSync::InSync,
        }
    }

    /// A change did not reach the chip: pending again, or failed after `sends_max` times.
    #[must_use]
    pub fn not_done(change: Change, sends_max: u8) -> ChipSync {
        match change.attempts >= sends_max {
            true => ChipSync::Failed(change),
            false => ChipSync::Pending(change),
        }
    }

    /// Without the change that is kept, whose PIN block is deleted. A chip that was only to be
    /// unblocked has the PIN.
    #[must_use]
    pub fn given_up(&self) -> ChipSync {
        match (self.kept_change().map(|change| &change.kind), self) {
            (None, known) => known.clone(),
            (Some(ChangeKind::Unblock { pin_is_old: false }), _) => ChipSync::InSync,
            (Some(ChangeKind::Pin { .. }), ChipSync::Sent(_, sent)) => {
                ChipSync::Expired(Some(*sent))
            }
            (Some(_), _) => ChipSync::Expired(None),
        }
    }

    /// Without a change whose time is over at `now`.
    #[must_use]
    pub fn expired(&self, retention: Retention, now: Timestamp) -> Option<ChipSync> {
        let change = self.kept_change()?;
        let (from, days) = match change.since {
            Some(since) => (since, retention.ofpbe),
            None => (change.set_at?, retention.unactivated),
        };
        let is_over = now.since(from).as_secs() >= u64::from(days) * 24 * 3_600;
        is_over.then(|| self.given_up())
    }
}

impl fmt::Display for ChipSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if let Some(Change { kind, attempts, .. }) = self.kept_change() {
            write!(f, " {{{}, attempts {attempts}}}", kind.name())?;
        }
        match self.on_its_way() {
            Some(Sent { unblock: Some(_), .. }) => f.write_str(", then unblock"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const CRYPTOGRAM: [u8; 8] = [7; 8];

    /// Those of these ATCs, one after another, that are accepted.
    fn accepted(atcs: &[u16]) -> Vec<u16> {
        let mut window = AtcWindow::default();
        let accepts = |atc: &u16| match window.accept(*atc, CRYPTOGRAM, NOW) {
            Ok((next, _)) => {
                window = next;
                Some(*atc)
            }
            Err(_) => None,
        };
        atcs.iter().filter_map(accepts).collect()
    }

    #[test]
    fn each_counter_once_and_none_below_the_window() {
        assert_eq!(accepted(&[1, 1, 2, 2, 1]), [1, 2]);
        assert_eq!(accepted(&[5, 3, 4, 3, 5, 1]), [5, 3, 4, 1]);
        assert_eq!(accepted(&[40, 9, 8, 9]), [40, 9]);
        assert_eq!(accepted(&[10, 42, 11, 10]), [10, 42, 11]);
        assert_eq!(accepted(&[10, 41, 10, 11]), [10, 41, 11]);
        assert_eq!(accepted(&[1, 60_000, 1, 59_969, 59_968]), [1, 60_000, 59_969]);
        assert_eq!(accepted(&[0, u16::MAX, u16::MAX - 1]), [u16::MAX - 1]);
    }

    #[test]
    fn the_same_cryptogram_may_come_once_more_within_two_minutes() {
        let (window, is_retry) = AtcWindow::default().accept(7, CRYPTOGRAM, NOW).unwrap();
        assert!(!is_retry);
        assert_eq!(window.accept(7, CRYPTOGRAM, NOW), Err(AtcFault::Replayed));
        let window = window.allowing_retry(7, CRYPTOGRAM, NOW);
        let after = |seconds: i64| Timestamp::from_seconds(1_800_000_000 + seconds);
        assert_eq!(window.accept(7, [8; 8], NOW), Err(AtcFault::Replayed));
        assert_eq!(window.accept(7, CRYPTOGRAM, after(120)), Err(AtcFault::Replayed));
        assert_eq!(window.accept(7, CRYPTOGRAM, after(-1)), Err(AtcFault::Replayed));
        let (again, is_retry) = window.accept(7, CRYPTOGRAM, after(119)).unwrap();
        assert!(is_retry);
        assert_eq!(again.accept(7, CRYPTOGRAM, after(119)), Err(AtcFault::Replayed));
        let (later, _) = window.accept(8, [9; 8], NOW).unwrap();
        assert!(later.accept(7, CRYPTOGRAM, NOW).is_ok());
    }
}
