//! The bytes of what is known of a chip.
//!
//! ```text
//! chip:   highest ATC u16, counters seen u32, retry (flag and, if there is one, ATC u16, 9F26 8,
//!         time i64), sync, whether a script has given it a PIN u8
//! sync:   0: in sync; 1 pending: change; 2 sent: change, sent; 3 failed: change; 4: expired;
//!         5 expired after it was sent: sent
//! change: kind u8 (1: PIN, then version u32, check value of the PEK 3, PIN block 8; 2: unblock;
//!         3: unblock after a PIN change expired), since 1 + i64 (0 and the time of its setting, or
//!         0 if that is not known: it does not count yet), attempts u8, whether the chip refused it
//!         u8, whether it may have made it u8
//! sent:   script id 4, ATC u16, what the chip told before u8, digest of the request (flag and, if
//!         there is one, u128), time of an unblock behind it 1 + i64
//! ```

use super::stored::{Stored, Unreadable, stored_fields};
use crate::cards::chip_state::{AtcWindow, Change, ChangeKind, Chip, ChipSync, Retry, Sent};
use crate::clock::Timestamp;
use crate::hsm::KeptPin;

const IN_SYNC: u8 = 0;
const PENDING: u8 = 1;
const SENT: u8 = 2;
const FAILED: u8 = 3;
const EXPIRED: u8 = 4;
const EXPIRED_ON_ITS_WAY: u8 = 5;
const PIN_CHANGE: u8 = 1;
const UNBLOCK: u8 = 2;
const UNBLOCK_WITH_OLD_PIN: u8 = 3;

stored_fields!(Chip { counters, sync, has_script_pin });
stored_fields!(AtcWindow { highest, seen, retry });
stored_fields!(Retry { atc, cryptogram, since });
stored_fields!(KeptPin { key, block });

impl Stored for ChipSync {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            ChipSync::InSync => IN_SYNC.put(out),
            ChipSync::Expired(None) => EXPIRED.put(out),
            ChipSync::Expired(Some(sent)) => {
                EXPIRED_ON_ITS_WAY.put(out);
                sent.put(out);
            }
            ChipSync::Pending(change) => {
                PENDING.put(out);
                change.put(out);
            }
            ChipSync::Failed(change) => {
                FAILED.put(out);
                change.put(out);
            }
            ChipSync::Sent(change, sent) => {
                SENT.put(out);
                change.put(out);
                sent.put(out);
            }
        }
    }

    fn read(bytes: &mut &[u8]) -> Result<ChipSync, Unreadable> {
        Ok(match u8::read(bytes)? {
            IN_SYNC => ChipSync::InSync,
            EXPIRED => ChipSync::Expired(None),
            EXPIRED_ON_ITS_WAY => ChipSync::Expired(Some(Sent::read(bytes)?)),
            PENDING => ChipSync::Pending(Change::read(bytes)?),
            FAILED => ChipSync::Failed(Change::read(bytes)?),
            SENT => {
                let change = Change::read(bytes)?;
                ChipSync::Sent(change, Sent::read(bytes)?)
            }
            number => return Err(unknown("the state of a chip", number)),
        })
    }
}

fn unknown(what: &'static str, number: u8) -> Unreadable {
    Unreadable::Number { what, number: number.into() }
}

impl Stored for Sent {
    fn put(&self, out: &mut Vec<u8>) {
        let Sent { script, atc, told, transaction, unblock } = self;
        script.put(out);
        atc.put(out);
        told.put(out);
        transaction.put(out);
        unblock.is_some().put(out);
        unblock.unwrap_or_default().put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<Sent, Unreadable> {
        let (script, atc, told) = (Stored::read(bytes)?, u16::read(bytes)?, u8::read(bytes)?);
        let transaction = Stored::read(bytes)?;
        let (is_behind, time) = (bool::read(bytes)?, Timestamp::read(bytes)?);
        Ok(Sent { script, atc, told, transaction, unblock: is_behind.then_some(time) })
    }
}

impl Stored for ChangeKind {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            ChangeKind::Pin { version, pin } => {
                PIN_CHANGE.put(out);
                version.put(out);
                pin.put(out);
            }
            ChangeKind::Unblock { pin_is_old: false } => UNBLOCK.put(out),
            ChangeKind::Unblock { pin_is_old: true } => UNBLOCK_WITH_OLD_PIN.put(out),
        }
    }

    fn read(bytes: &mut &[u8]) -> Result<ChangeKind, Unreadable> {
        Ok(match u8::read(bytes)? {
            PIN_CHANGE => {
                ChangeKind::Pin { version: Stored::read(bytes)?, pin: Stored::read(bytes)? }
            }
            UNBLOCK => ChangeKind::Unblock { pin_is_old: false },
            UNBLOCK_WITH_OLD_PIN => ChangeKind::Unblock { pin_is_old: true },
            number => return Err(unknown("the change of a chip", number)),
        })
    }
}

impl Stored for Change {
    fn put(&self, out: &mut Vec<u8>) {
        self.kind.put(out);
        // One that does not count yet has no `since`, and the time at which it was set.
        self.since.is_some().put(out);
        self.since.or(self.set_at).unwrap_or_default().put(out);
        self.attempts.put(out);
        self.was_refused.put(out);
        self.is_doubtful.put(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<Change, Unreadable> {
        let kind = ChangeKind::read(bytes)?;
        let (counts, time) = (bool::read(bytes)?, Timestamp::read(bytes)?);
        let is_known = time != Timestamp::default();
        Ok(Change {
            kind,
            since: counts.then_some(time),
            set_at: (!counts && is_known).then_some(time),
            attempts: Stored::read(bytes)?,
            was_refused: Stored::read(bytes)?,
            is_doubtful: Stored::read(bytes)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::stored::tests::reads_back;
    use super::*;
    use crate::hsm::Kcv;

    #[test]
    fn every_state_of_a_chip_reads_back() {
        let pin = KeptPin { block: [7; 8], key: Kcv([1, 2, 3]) };
        let since = Some(Timestamp::from_seconds(1_800_000_000));
        let kinds = [
            ChangeKind::Pin { version: 9, pin },
            ChangeKind::Unblock { pin_is_old: false },
            ChangeKind::Unblock { pin_is_old: true },
        ];
        let (script, transaction) = ([1, 0, 0, 9], Some(u128::MAX - 1));
        let sent = Sent { script, atc: 77, told: 0x21, transaction, unblock: since };
        let reversed = Sent { transaction: None, unblock: None, ..sent };
        for (kind, since) in kinds.into_iter().zip([since, None, since]) {
            let set_at = Some(Timestamp::from_seconds(7)).filter(|_| since.is_none());
            let change = || Change {
                set_at,
                attempts: 3,
                was_refused: since.is_none(),
                is_doubtful: since.is_some(),
                ..Change::new(kind.clone(), since)
            };
            for sync in [
                ChipSync::InSync,
                ChipSync::Expired(None),
                ChipSync::Expired(Some(reversed)),
                ChipSync::Pending(change()),
                ChipSync::Failed(change()),
                ChipSync::Sent(change(), sent),
                ChipSync::Sent(change(), reversed),
            ] {
                let since = Timestamp::from_seconds(5);
                let retry = Some(Retry { atc: 77, cryptogram: [4; 8], since });
                let counters = AtcWindow { highest: 78, seen: 0b11, retry };
                reads_back(&Chip { counters, sync, has_script_pin: since.micros() > 0 });
            }
        }
        assert!(ChipSync::read(&mut &[9; 90][..]).is_err());
        assert!(ChangeKind::read(&mut &[0; 90][..]).is_err());
    }

    /// As earlier releases have written it.
    #[test]
    fn a_change_that_does_not_count_may_lack_the_time_of_its_setting() {
        let mut out = Vec::new();
        Change::new(ChangeKind::Unblock { pin_is_old: false }, None).put(&mut out);
        assert_eq!(out[..10], [UNBLOCK, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let read = Change::read(&mut &out[..]).unwrap();
        assert_eq!((read.since, read.set_at), (None, None));
    }
}
