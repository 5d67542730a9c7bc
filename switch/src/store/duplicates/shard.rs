//! One part of the index: the ring of its entries, and the tables that find them.

use std::collections::VecDeque;

use hashbrown::HashTable;
use tokio::sync::oneshot;

use super::digest::{BodyDigest, DuplicateKey, MessageKind, Original, halves};
use super::{Kept, WINDOW};
use crate::authorization::{Answer, Reason};
use crate::clock::Timestamp;

/// How many entries may have the same digest: requests that differ in DE37 or MTI only, and their
/// reversals.
pub(super) const SAME_DIGEST_MAX: usize = 16;

/// An answered request, or the tombstone of a reversed one.
#[derive(Debug)]
pub(super) struct Entry {
    /// In two parts: a `u128` would be aligned to 16 bytes, and there are millions of these.
    pub(super) digest: [u64; 2],
    pub(super) body: BodyDigest,
    pub(super) time: Timestamp,
    pub(super) durable_at: u64,
    /// 0: without; in a tombstone, any.
    pub(super) rrn: u32,
    /// In a tombstone, none is any.
    pub(super) kind: MessageKind,
    pub(super) is_tombstone: bool,
    pub(super) answer: Answer,
}

impl Entry {
    pub(super) fn answered(
        key: DuplicateKey,
        body: BodyDigest,
        kept: Kept,
        time: Timestamp,
    ) -> Entry {
        let DuplicateKey { digest, rrn, kind } = key;
        let Kept { answer, durable_at } = kept;
        let (digest, is_tombstone) = (halves(digest), false);
        Entry { digest, body, time, durable_at, rrn, kind, is_tombstone, answer }
    }

    pub(super) fn tombstone(original: Original, durable_at: u64, time: Timestamp) -> Entry {
        let kept = Kept { answer: Answer::new(Reason::DuplicateConflict), durable_at };
        let entry = Entry::answered(original.to_key(), BodyDigest::default(), kept, time);
        Entry { is_tombstone: true, ..entry }
    }

    pub(super) fn key(&self) -> DuplicateKey {
        let [high, low] = self.digest;
        let digest = u128::from(high) << 64 | u128::from(low);
        DuplicateKey { digest, rrn: self.rrn, kind: self.kind }
    }

    /// What it forbids, if it is a tombstone.
    pub(super) fn reversed(&self) -> Option<Original> {
        self.is_tombstone.then(|| Original::from_key(&self.key()))
    }

    pub(super) fn is_valid(&self, now: Timestamp) -> bool {
        now.since(self.time) < WINDOW
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) key: DuplicateKey,
    pub(super) body: BodyDigest,
    /// Repeats and reversals that wait for its answer.
    pub(super) waiting: Vec<oneshot::Sender<()>>,
}

impl InFlight {
    pub(super) fn wait(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.push(sender);
        receiver
    }
}

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) in_flight: HashTable<InFlight>,
    /// Oldest first. An entry has a number for good; that of the first is `first`.
    pub(super) entries: VecDeque<Entry>,
    pub(super) first: u32,
    pub(super) numbers: HashTable<u32>,
    pub(super) entries_max: usize,
    /// Time of the youngest answer that was dropped for want of room.
    pub(super) dropped: Option<Timestamp>,
}

/// What a table of numbers takes for a bucket, in bytes: a number and its control byte.
pub(super) const BUCKET_BYTES: usize = size_of::<u32>() + 1;

impl Shard {
    /// A shard that takes at most `bytes_max`. The table has a power of two of buckets and is
    /// filled to 7/16: above half of its capacity, a table that has dropped many entries grows
    /// instead of cleaning up.
    pub(super) fn new(bytes_max: usize) -> Shard {
        let entries_at = |buckets: usize| {
            let room = bytes_max.saturating_sub(buckets * BUCKET_BYTES) / size_of::<Entry>();
            room.min(buckets * 7 / 16 - 1)
        };
        let mut buckets = 16;
        while entries_at(buckets * 2) > entries_at(buckets) {
            buckets *= 2;
        }
        let entries_max = entries_at(buckets).max(1);
        Shard {
            in_flight: HashTable::new(),
            entries: VecDeque::with_capacity(entries_max),
            first: 0,
            numbers: HashTable::with_capacity(buckets * 7 / 8),
            entries_max,
            dropped: None,
        }
    }
}

/// A digest is a hash already. Its low bits choose the shard.
pub(super) const fn table_hash([high, _]: [u64; 2]) -> u64 {
    high
}

impl Shard {
    pub(super) fn in_flight_with(&mut self, key: &DuplicateKey) -> Option<&mut InFlight> {
        let hash = table_hash(halves(key.digest));
        self.in_flight.find_mut(hash, |known| known.key == *key)
    }

    pub(super) fn take_in_flight(&mut self, key: &DuplicateKey) -> Option<InFlight> {
        let hash = table_hash(halves(key.digest));
        let found = self.in_flight.find_entry(hash, |known| known.key == *key);
        found.ok().map(|found| found.remove().0)
    }

    /// The entry of this number.
    pub(super) fn entry(&self, number: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(number.wrapping_sub(self.first)).ok()?)
    }

    pub(super) fn with_digest(&self, digest: u128) -> impl Iterator<Item = &Entry> {
        let digest = halves(digest);
        let numbers = self.numbers.iter_hash(table_hash(digest));
        let entries = numbers.filter_map(|number| self.entry(*number));
        entries.filter(move |entry| entry.digest == digest)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.make_room(entry.time);
        self.make_room_for(entry.digest);
        // There are fewer entries than numbers: entries_max is far below 2^32.
        let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let number = self.first.wrapping_add(count);
        let hash = table_hash(entry.digest);
        self.entries.push_back(entry);
        let (entries, first) = (&self.entries, self.first);
        // Called only if the table grew, which it has room not to.
        let hash_of = |number: &u32| {
            let place = usize::try_from(number.wrapping_sub(first)).unwrap_or(usize::MAX);
            entries.get(place).map_or(0, |entry| table_hash(entry.digest))
        };
        self.numbers.insert_unique(hash, number, hash_of);
    }

    /// Drops the oldest entries while there is no room for one more. What is too old only counts
    /// as absent: the clock may have been wrong.
    pub(super) fn make_room(&mut self, now: Timestamp) {
        while self.entries.len() >= self.entries_max {
            let Some(oldest) = self.entries.pop_front() else { return };
            let number = self.first;
            self.first = number.wrapping_add(1);
            self.forget(oldest.digest, number);
            // A time to come is a mistake of the clock.
            let at = Some(oldest.time.min(now)).filter(|_| oldest.is_valid(now));
            self.dropped = self.dropped.max(at);
        }
    }

    /// Drops the oldest of those that have this digest, if they are too many: answers first.
    pub(super) fn make_room_for(&mut self, digest: [u64; 2]) {
        let numbers = || self.numbers.iter_hash(table_hash(digest));
        if numbers().count() < SAME_DIGEST_MAX {
            return;
        }
        let of_digest = numbers().filter_map(|number| {
            let entry = self.entry(*number).filter(|entry| entry.digest == digest)?;
            Some((entry.is_tombstone, number.wrapping_sub(self.first), *number))
        });
        if let Some((.., number)) = of_digest.min() {
            self.forget(digest, number);
        }
    }

    pub(super) fn forget_tombstone(&mut self, original: Original) {
        let hash = table_hash(halves(original.digest));
        let is_it = |number: &&u32| {
            self.entry(**number).is_some_and(|entry| entry.reversed() == Some(original))
        };
        let known = self.numbers.iter_hash(hash).find(is_it).copied();
        known.into_iter().for_each(|number| self.forget(halves(original.digest), number));
    }

    /// Its place in the ring stays.
    pub(super) fn forget(&mut self, digest: [u64; 2], number: u32) {
        if let Ok(found) = self.numbers.find_entry(table_hash(digest), |own| *own == number) {
            found.remove();
        }
    }
}
