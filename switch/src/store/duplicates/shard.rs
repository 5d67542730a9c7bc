//! One part of the index: a ring of answers and one of tombstones, and the tables that find them.

use std::collections::VecDeque;

use hashbrown::HashTable;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::digest::{BodyDigest, DuplicateKey, MessageKind, Original, Trace, halves};
use super::{Kept, WINDOW};
use crate::authorization::{Answer, Reason};
use crate::clock::Timestamp;

/// How many answers, and how many tombstones, may have the same digest: those of requests that
/// differ in DE37 or MTI only.
pub(super) const SAME_DIGEST_MAX: usize = 16;

/// An answered request, or the tombstone of a reversed one.
#[derive(Debug)]
pub(super) struct Entry {
    /// Digest of its request, in two parts: a `u128` would be aligned to 16 bytes, and there are
    /// millions of these.
    pub(super) digest: [u64; 2],
    pub(super) body: BodyDigest,
    pub(super) time: Timestamp,
    pub(super) trace: Trace,
    /// Digest of DE37; 0 = none. In a tombstone 0 matches any.
    pub(super) rrn: u32,
    /// Class and function of its MTI. In a tombstone the kind that no message has matches any.
    pub(super) kind: MessageKind,
    pub(super) answer: Answer,
    /// The commit that holds it, for which a repeat waits: see [`Kept::durable_at`].
    pub(super) durable_at: u64,
    /// Where the record of its transaction stands: see [`Kept::position`]. 0 in a tombstone.
    pub(super) position: u64,
}

impl Entry {
    pub(super) fn answered(
        key: DuplicateKey,
        body: BodyDigest,
        kept: Kept,
        time: Timestamp,
    ) -> Entry {
        let DuplicateKey { digest, trace, rrn, kind } = key;
        let Kept { answer, durable_at, position } = kept;
        let digest = halves(digest);
        Entry { digest, body, time, trace, rrn, kind, answer, durable_at, position }
    }

    pub(super) const fn kept(&self) -> Kept {
        let Entry { answer, durable_at, position, .. } = *self;
        Kept { answer, durable_at, position }
    }

    pub(super) fn tombstone(original: Original, durable_at: u64, time: Timestamp) -> Entry {
        let answer = Answer::new(Reason::DuplicateConflict);
        let kept = Kept { answer, durable_at, position: 0 };
        Entry::answered(original.to_key(), BodyDigest::default(), kept, time)
    }

    pub(super) fn key(&self) -> DuplicateKey {
        let [high, low] = self.digest;
        let digest = u128::from(high) << 64 | u128::from(low);
        DuplicateKey { digest, trace: self.trace, rrn: self.rrn, kind: self.kind }
    }

    /// What a tombstone forbids.
    pub(super) fn reversed(&self) -> Original {
        Original::from_key(&self.key())
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
    /// DE37.
    pub(super) rrn: Option<[u8; 12]>,
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
    pub(super) answers: Ring,
}

impl Shard {
    /// A shard that takes at most `bytes_max`.
    pub(super) fn new(bytes_max: usize) -> Shard {
        Shard { in_flight: HashTable::new(), answers: Ring::new(bytes_max) }
    }

    pub(super) fn in_flight_with(&mut self, key: &DuplicateKey) -> Option<&mut InFlight> {
        let hash = table_hash(halves(key.digest));
        self.in_flight.find_mut(hash, |known| known.key == *key)
    }

    pub(super) fn take_in_flight(&mut self, key: &DuplicateKey) -> Option<InFlight> {
        let hash = table_hash(halves(key.digest));
        let found = self.in_flight.find_entry(hash, |known| known.key == *key);
        found.ok().map(|found| found.remove().0)
    }

    /// Keeps an answer; of those that have its digest, the oldest goes if they are too many.
    pub(super) fn answered(&mut self, entry: Entry) {
        let digest = entry.digest;
        if self.answers.with_digest(digest).count() >= SAME_DIGEST_MAX {
            self.answers.forget_oldest(digest);
        }
        self.answers.push(entry);
    }
}

/// What reversals have forbidden.
#[derive(Debug)]
pub(super) struct Tombstones(pub(super) Ring);

impl Tombstones {
    /// Room for so many that they take at most `bytes_max`.
    pub(super) fn new(bytes_max: usize) -> Tombstones {
        Tombstones(Ring::new(bytes_max))
    }

    /// Forbids an original, from now on for a whole window. Where too many that differ in DE37 or
    /// MTI only are forbidden, all of that digest are: none of them may be approved again.
    pub(super) fn forbid(&mut self, original: Original, durable_at: u64, now: Timestamp) {
        let digest = halves(original.digest);
        let any = Original { kind: None, rrn: None, ..original };
        let known = |one| move |entry: &Entry| entry.reversed() == one;
        let is_general = self.0.with_digest(digest).any(known(any));
        self.0.forget_where(digest, known(original));
        let crowded = self.0.with_digest(digest).count() >= SAME_DIGEST_MAX;
        let forbidden = if is_general || crowded { any } else { original };
        if forbidden == any {
            self.0.forget_where(digest, |_| true);
        }
        self.0.push(Entry::tombstone(forbidden, durable_at, now));
    }

    /// Takes back what forbids exactly this.
    pub(super) fn allow(&mut self, original: Original) {
        self.0.forget_where(halves(original.digest), |entry| entry.reversed() == original);
    }

    /// What is forbidden, and since when.
    pub(super) fn reversals(&self) -> Vec<(Original, Timestamp)> {
        let live = self.0.numbers.iter().filter_map(|number| {
            let entry = self.0.entry(*number)?;
            Some((entry.reversed(), entry.time))
        });
        live.collect()
    }
}

/// Entries in the order of their age, and a table that finds them by digest.
#[derive(Debug)]
pub(super) struct Ring {
    /// Oldest first. An entry has a number for good; that of the first is `first`.
    pub(super) entries: VecDeque<Entry>,
    pub(super) first: u32,
    pub(super) numbers: HashTable<u32>,
    pub(super) entries_max: usize,
    /// Time of the youngest entry that was dropped for want of room.
    pub(super) dropped: Option<Timestamp>,
}

/// What a table of numbers takes for a bucket, in bytes: a number and its control byte.
pub(super) const BUCKET_BYTES: usize = size_of::<u32>() + 1;

/// A digest is a hash already. Its low bits choose the shard.
pub(super) const fn table_hash([high, _]: [u64; 2]) -> u64 {
    high
}

impl Ring {
    /// A ring that takes at most `bytes_max`. The table has a power of two of buckets and is
    /// filled to 7/16: above half of its capacity, a table that has dropped many entries grows
    /// instead of cleaning up.
    fn new(bytes_max: usize) -> Ring {
        let entries_at = |buckets: usize| {
            let room = bytes_max.saturating_sub(buckets * BUCKET_BYTES) / size_of::<Entry>();
            room.min(buckets * 7 / 16 - 1)
        };
        let mut buckets = 16;
        while entries_at(buckets * 2) > entries_at(buckets) {
            buckets *= 2;
        }
        let entries_max = entries_at(buckets).max(1);
        Ring {
            entries: VecDeque::with_capacity(entries_max),
            first: 0,
            numbers: HashTable::with_capacity(buckets * 7 / 8),
            entries_max,
            dropped: None,
        }
    }

    /// The entry of this number.
    fn entry(&self, number: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(number.wrapping_sub(self.first)).ok()?)
    }

    pub(super) fn with_digest(&self, digest: [u64; 2]) -> impl Iterator<Item = &Entry> {
        self.numbers_of(digest).map(|(_, entry)| entry)
    }

    fn numbers_of(&self, digest: [u64; 2]) -> impl Iterator<Item = (u32, &Entry)> {
        let numbers = self.numbers.iter_hash(table_hash(digest));
        let entries = numbers.filter_map(|number| Some((*number, self.entry(*number)?)));
        entries.filter(move |(_, entry)| entry.digest == digest)
    }

    fn push(&mut self, entry: Entry) {
        self.make_room(entry.time);
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
    fn make_room(&mut self, now: Timestamp) {
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

    fn forget_oldest(&mut self, digest: [u64; 2]) {
        let oldest = self.numbers_of(digest).map(|(number, _)| number);
        let oldest = oldest.min_by_key(|number| number.wrapping_sub(self.first));
        oldest.into_iter().for_each(|number| self.forget(digest, number));
    }

    fn forget_where(&mut self, digest: [u64; 2], is_it: impl Fn(&Entry) -> bool) {
        let found = self.numbers_of(digest).filter(|(_, entry)| is_it(entry));
        let found: SmallVec<[u32; SAME_DIGEST_MAX]> = found.map(|(number, _)| number).collect();
        found.into_iter().for_each(|number| self.forget(digest, number));
    }

    /// Takes an entry out of the table, so that nobody finds it. It stays in the ring until it is
    /// the oldest.
    fn forget(&mut self, digest: [u64; 2], number: u32) {
        if let Ok(found) = self.numbers.find_entry(table_hash(digest), |own| *own == number) {
            found.remove();
        }
    }
}
