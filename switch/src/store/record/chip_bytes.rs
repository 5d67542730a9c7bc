//! The bytes of what is known of a chip, as the head of `bytes` describes them.

use bytes::{Buf, BufMut};

use super::bytes::{Unreadable, array};
use crate::cards::chip_state::{AtcWindow, Change, ChangeKind, Chip, ChipSync, Retry, Sent};
use crate::clock::Timestamp;
use crate::hsm::{Kcv, KeptPin};

const IN_SYNC: u8 = 0;
const PENDING: u8 = 1;
const SENT: u8 = 2;
const FAILED: u8 = 3;
const EXPIRED: u8 = 4;
const EXPIRED_ON_ITS_WAY: u8 = 5;
const PIN_CHANGE: u8 = 1;
const UNBLOCK: u8 = 2;
const UNBLOCK_WITH_OLD_PIN: u8 = 3;

pub(super) fn put_chip(out: &mut Vec<u8>, chip: &Chip) {
    let AtcWindow { highest, seen, retry } = &chip.counters;
    out.put_u16_le(*highest);
    out.put_u32_le(*seen);
    out.put_u8(u8::from(retry.is_some()));
    if let Some(Retry { atc, cryptogram, since }) = retry {
        out.put_u16_le(*atc);
        out.put_slice(cryptogram);
        out.put_i64_le(since.micros());
    }
    match &chip.sync {
        ChipSync::InSync => out.put_u8(IN_SYNC),
        ChipSync::Expired(None) => out.put_u8(EXPIRED),
        ChipSync::Expired(Some(sent)) => {
            out.put_u8(EXPIRED_ON_ITS_WAY);
            put_sent(out, sent);
        }
        ChipSync::Pending(change) => put_change(out, PENDING, change),
        ChipSync::Failed(change) => put_change(out, FAILED, change),
        ChipSync::Sent(change, sent) => {
            put_change(out, SENT, change);
            put_sent(out, sent);
        }
    }
}

fn put_sent(out: &mut Vec<u8>, sent: &Sent) {
    let Sent { script, atc, told, transaction, unblock } = sent;
    out.put_slice(script);
    out.put_u16_le(*atc);
    out.put_u8(*told);
    out.put_u8(u8::from(transaction.is_some()));
    if let Some(transaction) = transaction {
        out.put_u128_le(*transaction);
    }
    put_time(out, *unblock);
}

fn put_change(out: &mut Vec<u8>, sync: u8, change: &Change) {
    out.put_u8(sync);
    match &change.kind {
        ChangeKind::Pin { version, pin } => {
            out.put_u8(PIN_CHANGE);
            out.put_u32_le(*version);
            out.put_slice(&pin.key.0);
            out.put_slice(&pin.block);
        }
        ChangeKind::Unblock { pin_is_old: false } => out.put_u8(UNBLOCK),
        ChangeKind::Unblock { pin_is_old: true } => out.put_u8(UNBLOCK_WITH_OLD_PIN),
    }
    // One that does not count yet is none, with the time at which it was set.
    out.put_u8(u8::from(change.since.is_some()));
    out.put_i64_le(change.since.or(change.set_at).unwrap_or_default().micros());
    out.put_u8(change.attempts);
    out.put_u8(u8::from(change.was_refused));
    out.put_u8(u8::from(change.is_doubtful));
}

pub(super) fn read_chip(bytes: &mut &[u8]) -> Result<Chip, Unreadable> {
    let (highest, seen) = (bytes.try_get_u16_le()?, bytes.try_get_u32_le()?);
    let retry = match bytes.try_get_u8()? {
        0 => None,
        _ => Some(Retry {
            atc: bytes.try_get_u16_le()?,
            cryptogram: array(bytes)?,
            since: Timestamp::from_micros(bytes.try_get_i64_le()?),
        }),
    };
    let sync = match bytes.try_get_u8()? {
        IN_SYNC => ChipSync::InSync,
        EXPIRED => ChipSync::Expired(None),
        EXPIRED_ON_ITS_WAY => ChipSync::Expired(Some(read_sent(bytes)?)),
        PENDING => ChipSync::Pending(read_change(bytes)?),
        FAILED => ChipSync::Failed(read_change(bytes)?),
        SENT => {
            let change = read_change(bytes)?;
            ChipSync::Sent(change, read_sent(bytes)?)
        }
        _ => return Err(Unreadable("unknown state of a chip")),
    };
    Ok(Chip { counters: AtcWindow { highest, seen, retry }, sync })
}

fn read_sent(bytes: &mut &[u8]) -> Result<Sent, Unreadable> {
    let (script, atc, told) = (array(bytes)?, bytes.try_get_u16_le()?, bytes.try_get_u8()?);
    let transaction = match bytes.try_get_u8()? {
        0 => None,
        _ => Some(bytes.try_get_u128_le()?),
    };
    Ok(Sent { script, atc, told, transaction, unblock: read_time(bytes)? })
}

fn read_change(bytes: &mut &[u8]) -> Result<Change, Unreadable> {
    let kind = match bytes.try_get_u8()? {
        PIN_CHANGE => {
            let (version, key) = (bytes.try_get_u32_le()?, Kcv(array(bytes)?));
            ChangeKind::Pin { version, pin: KeptPin { block: array(bytes)?, key } }
        }
        UNBLOCK => ChangeKind::Unblock { pin_is_old: false },
        UNBLOCK_WITH_OLD_PIN => ChangeKind::Unblock { pin_is_old: true },
        _ => return Err(Unreadable("unknown change of a chip")),
    };
    let (counts, time) = (bytes.try_get_u8()? != 0, bytes.try_get_i64_le()?);
    let at = Some(Timestamp::from_micros(time));
    let (since, set_at) = (at.filter(|_| counts), at.filter(|_| !counts && time != 0));
    let (attempts, was_refused) = (bytes.try_get_u8()?, bytes.try_get_u8()? != 0);
    let is_doubtful = bytes.try_get_u8()? != 0;
    Ok(Change { kind, since, set_at, attempts, was_refused, is_doubtful })
}

fn put_time(out: &mut Vec<u8>, time: Option<Timestamp>) {
    out.put_u8(u8::from(time.is_some()));
    out.put_i64_le(time.unwrap_or_default().micros());
}

fn read_time(bytes: &mut &[u8]) -> Result<Option<Timestamp>, Unreadable> {
    let is_there = bytes.try_get_u8()? != 0;
    let time = Timestamp::from_micros(bytes.try_get_i64_le()?);
    Ok(is_there.then_some(time))
}

#[cfg(test)]
mod tests {
    use super::*;

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
                let chip = Chip { counters, sync };
                let mut out = Vec::new();
                put_chip(&mut out, &chip);
                let mut rest = &out[..];
                assert_eq!(read_chip(&mut rest), Ok(chip));
                assert!(rest.is_empty());
                assert!((0..out.len()).all(|length| read_chip(&mut &out[..length]).is_err()));
            }
        }
    }

    /// As earlier releases have written it.
    #[test]
    fn a_change_that_does_not_count_may_lack_the_time_of_its_setting() {
        let kind = ChangeKind::Unblock { pin_is_old: false };
        let mut out = Vec::new();
        put_change(&mut out, PENDING, &Change::new(kind, None));
        assert_eq!(out[..11], [PENDING, UNBLOCK, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let read = read_change(&mut &out[1..]).unwrap();
        assert_eq!((read.since, read.set_at), (None, None));
    }
}
