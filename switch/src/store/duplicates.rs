//! Answers already given, found by the key of the request, for 24 hours or as long as the index
//! has room; and what was reversed. The index lives in memory; the store rebuilds it from its
//! records at start.
//!
//! Each network has an index of its own, of an equal part of the memory: what one sends makes no
//! answer to another one forgotten.
//!
//! A shard holds its answers in a ring, oldest first, and a table of ring places beside it, hashed
//! by what a repeat and a reversal have in common: one probe finds both. How many have the same
//! hash is bounded: a peer may send requests that differ in nothing else than DE37. Which shard it
//! is depends on DE7 and DE11 alone: what a reversal without a card speaks of is in one shard, and
//! is looked for through all of that.
//!
//! A reversal leaves a tombstone, whether its original is there or not: it forbids the original for
//! as long as an answer is kept, counted from the reversal. Tombstones have shards of their own, by
//! digest.

mod digest;
mod shard;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::authorization::Answer;
use crate::clock::Timestamp;
use crate::config::SIMULATION;
use digest::halves;
pub use digest::{
    BodyDigest, DuplicateHasher, DuplicateKey, MessageKind, Named, Original, Sought, Trace,
};
use shard::{Entry, InFlight, Shard, Tombstones, table_hash};

/// How long an answer is kept at most.
pub const WINDOW: Duration = Duration::from_secs(24 * 3_600);

/// The index is split by digest: a lock is held for one part only, and cleaning one part is short.
const SHARDS: usize = 64;

/// An answer with what a repeat has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The answer.
    pub answer: Answer,
    /// The commit that holds it; a repeat waits until this is durable. 0: nothing to wait for.
    pub durable_at: u64,
    /// Where the record of its transaction stands.
    pub position: u64,
}

/// What is read from the store at start.
#[derive(Clone, Copy, Debug)]
pub enum Restored {
    /// An answer.
    Answer {
        /// Key of its request.
        key: DuplicateKey,
        /// Body of its request.
        body: BodyDigest,
        /// The answer.
        kept: Kept,
        /// When it was given.
        at: Timestamp,
    },
    /// A reversal.
    Reversal {
        /// What it speaks of.
        original: Original,
        /// When it came.
        at: Timestamp,
    },
}

impl Restored {
    /// Answers by their shards, then reversals by theirs.
    fn shard(&self) -> (bool, usize) {
        match self {
            Restored::Answer { key, .. } => (false, shard_of(key.trace)),
            Restored::Reversal { original, .. } => (true, tombstones_of(original.digest)),
        }
    }
}

/// A request that is to be answered.
#[derive(Clone, Copy, Debug)]
pub struct Asked<P> {
    /// Its key.
    pub key: DuplicateKey,
    /// Its body.
    pub body: BodyDigest,
    /// Its DE37.
    pub rrn: Option<[u8; 12]>,
    /// Makes what reversals could say of it in part: [`DuplicateHasher::parts`].
    pub parts: P,
}

/// What a reversal forbids that names its original in part, and nobody knows it.
#[derive(Clone, Copy, Debug)]
pub struct InPart {
    /// Every request that fits.
    pub original: Original,
    /// What it says.
    pub sought: Sought,
    /// The newest record when it was looked for.
    pub searched: u64,
}

/// What a look at the index came to.
#[derive(Debug)]
pub enum Look {
    /// The caller answers.
    First(Claim),
    /// Answered before.
    Repeat(Kept),
    /// Being answered now: look again when this resolves.
    Wait(oneshot::Receiver<()>),
    /// Another body, or it was reversed. The commit that it contradicts; 0: none yet, or nothing
    /// to wait for.
    Conflict {
        /// As of [`Kept::durable_at`].
        durable_at: u64,
    },
}

/// So many times as much room as the simulation gets each network of links.
const LINK_PARTS: usize = 32;

/// The index of each network.
#[derive(Clone, Debug)]
pub struct ByNetwork(Arc<[(Arc<str>, Duplicates)]>);

impl ByNetwork {
    /// Indexes that together take at most `bytes_max` of memory for answers.
    #[must_use]
    pub fn new(networks: &[Arc<str>], bytes_max: usize) -> ByNetwork {
        let parts = |network: &Arc<str>| if **network == *SIMULATION { 1 } else { LINK_PARTS };
        let part = bytes_max / networks.iter().map(parts).sum::<usize>().max(1);
        let index = |network| (Arc::clone(network), Duplicates::new(part * parts(network)));
        ByNetwork(networks.iter().map(index).collect())
    }

    /// The index of one network; none if no link has it.
    #[must_use]
    pub fn of(&self, network: &str) -> Option<&Duplicates> {
        let found = self.0.iter().find(|(name, _)| &**name == network);
        found.map(|(_, index)| index)
    }

    /// Changes the time of everything, where the clock was wrong. The order of times must stay.
    pub fn change_times(&self, change: impl Fn(Timestamp) -> Timestamp) {
        let change = |entry: &mut Entry| entry.time = change(entry.time);
        for (_, index) in self.0.iter() {
            for mut shard in index.shards() {
                shard.answers.entries.iter_mut().for_each(&change);
            }
            for mut tombstones in index.tombstones() {
                tombstones.0.entries.iter_mut().for_each(&change);
            }
        }
    }

    /// The index of each network, with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Duplicates)> {
        self.0.iter().map(|(name, index)| (name, index))
    }
}

/// The index of one network.
#[derive(Clone, Debug)]
pub struct Duplicates(Arc<Index>);

#[derive(Debug)]
struct Index {
    shards: [Mutex<Shard>; SHARDS],
    /// In a room of their own: no number of answers makes a reversal forgotten. Locked after a
    /// shard, where both are.
    tombstones: [Mutex<Tombstones>; SHARDS],
    /// Whether a reversal has come that named its original in part, and nobody knew it.
    has_parts: AtomicBool,
}

/// One in so many bytes of an index is for tombstones.
const TOMBSTONES_PART: usize = 16;

/// How many answers are looked at that may be what a reversal without a card speaks of.
const CANDIDATES_MAX: usize = 64;

/// Where the records of answers stand that may be what a reversal speaks of.
pub type Candidates = SmallVec<[u64; 4]>;

impl Duplicates {
    /// An index that takes at most `bytes_max` of memory for answers. The room is reserved at
    /// once, so that no request ever waits for a table to grow.
    #[must_use]
    pub fn new(bytes_max: usize) -> Duplicates {
        let for_tombstones = bytes_max / TOMBSTONES_PART;
        let shard = |_| Mutex::new(Shard::new((bytes_max - for_tombstones) / SHARDS));
        let tombstones = |_| Mutex::new(Tombstones::new(for_tombstones / SHARDS));
        Duplicates(Arc::new(Index {
            shards: std::array::from_fn(shard),
            tombstones: std::array::from_fn(tombstones),
            has_parts: AtomicBool::new(false),
        }))
    }

    /// How many answers fit.
    #[must_use]
    pub fn entries_max(&self) -> usize {
        self.shards().map(|shard| shard.answers.entries_max).sum()
    }

    /// Looks a request up and takes its key if nobody has it.
    #[must_use]
    pub fn look(&self, asked: &Asked<impl Fn() -> [DuplicateKey; 3]>, now: Timestamp) -> Look {
        let Asked { key, body, rrn, parts } = asked;
        let mut shard = self.shard(key.trace);
        if let Some(known) = shard.in_flight_with(key) {
            return match known.body == *body {
                true => Look::Wait(known.wait()),
                false => Look::Conflict { durable_at: 0 },
            };
        }
        if key.kind.is_decided() {
            let in_part = || {
                let parts = self.0.has_parts.load(Ordering::Relaxed).then(parts);
                parts.into_iter().flatten().find_map(|part| self.reversed(&part, now))
            };
            if let Some(durable_at) = self.reversed(key, now).or_else(in_part) {
                return Look::Conflict { durable_at };
            }
        }
        let answers = |entry: &&Entry| entry.is_valid(now) && entry.key() == *key;
        let answered = shard.answers.with_digest(halves(key.digest)).find(answers);
        if let Some(known) = answered {
            return match known.body == *body {
                true => Look::Repeat(known.kept()),
                false => Look::Conflict { durable_at: known.durable_at },
            };
        }
        let in_flight = InFlight { key: *key, body: *body, rrn: *rrn, waiting: Vec::new() };
        let hash = |known: &InFlight| table_hash(halves(known.key.digest));
        shard.in_flight.insert_unique(hash(&in_flight), in_flight, hash);
        Look::First(Claim { index: self.clone(), key: *key, open: true })
    }

    /// The commit of the reversal of this key, if there is one.
    fn reversed(&self, key: &DuplicateKey, now: Timestamp) -> Option<u64> {
        let tombstones = self.tombstones_with(key.digest);
        let forbids = |entry: &&Entry| entry.is_valid(now) && entry.reversed().is(key);
        let found = tombstones.0.with_digest(halves(key.digest)).find(forbids);
        found.map(|entry| entry.durable_at)
    }

    /// What a reversal speaks of, held: nobody answers or repeats it until this is dropped.
    #[must_use]
    pub fn originals(&self, named: Named, now: Timestamp) -> Originals<'_> {
        Originals { index: self, shard: self.shard(named.trace), named, now }
    }

    /// If a request is being answered now that may be what a reversal speaks of: look again when
    /// this resolves.
    #[must_use]
    pub fn in_flight(&self, sought: &Sought) -> Option<oneshot::Receiver<()>> {
        self.shards().find_map(|mut shard| {
            let may_be = |known: &&mut InFlight| sought.may_be(&known.key, known.rrn.as_ref());
            shard.in_flight.iter_mut().find(may_be).map(InFlight::wait)
        })
    }

    /// Forbids what a reversal names in part, unless it may be answered now, or has been since the
    /// record at `searched`. From the first step on no request that fits is begun.
    #[must_use]
    pub fn reverse_in_part(
        &self,
        in_part: &InPart,
        card_since: bool,
        at: (u64, Timestamp),
    ) -> bool {
        let InPart { original, sought, searched } = in_part;
        let (durable_at, now) = at;
        self.tombstones_with(original.digest).forbid(*original, durable_at, now);
        self.0.has_parts.store(true, Ordering::Relaxed);
        let is_answered = |trace| {
            let found = self.candidates(sought, trace, now);
            found.is_none_or(|found| found.into_iter().any(|position| position > *searched))
        };
        let is_late = card_since
            || self.in_flight(sought).is_some()
            || sought.card.is_none() && sought.trace().is_some_and(is_answered);
        if is_late {
            self.tombstones_with(original.digest).allow(*original);
        }
        !is_late
    }

    /// Where the records of answered requests stand that may be what a reversal speaks of, by this
    /// trace; `None` if they are too many to look at.
    #[must_use]
    pub fn candidates(&self, sought: &Sought, trace: Trace, now: Timestamp) -> Option<Candidates> {
        let shard = self.shard(trace);
        let may_be = |entry: &&Entry| {
            entry.trace == trace && sought.is_of(entry.kind) && entry.is_valid(now)
        };
        let found = shard.answers.entries.iter().filter(may_be);
        let found: Candidates =
            found.map(|entry| entry.position).take(CANDIDATES_MAX + 1).collect();
        Some(found).filter(|found| found.len() <= CANDIDATES_MAX)
    }

    /// Puts back what was read from the store at `now`, the start, older first, and empties the
    /// list. Shard after shard: so each one's table stays in the processor's cache, and many
    /// thousands at once take a third of the time.
    pub fn restore(&self, found: &mut Vec<Restored>, now: Timestamp) {
        found.sort_by_key(Restored::shard);
        let is_in_part = |restored: &Restored| match restored {
            Restored::Reversal { original, .. } => original.rrn == Some(Original::IN_PART),
            Restored::Answer { .. } => false,
        };
        if found.iter().any(is_in_part) {
            self.0.has_parts.store(true, Ordering::Relaxed);
        }
        for same in found.chunk_by(|one, other| one.shard() == other.shard()) {
            match same.first() {
                Some(Restored::Answer { key, .. }) => {
                    let mut shard = self.shard(key.trace);
                    for restored in same {
                        let Restored::Answer { key, body, kept, at } = *restored else { continue };
                        shard.answered(Entry::answered(key, body, kept, at.min(now)));
                    }
                }
                Some(Restored::Reversal { original, .. }) => {
                    let mut tombstones = self.tombstones_with(original.digest);
                    for restored in same {
                        let Restored::Reversal { original, at } = *restored else { continue };
                        tombstones.forbid(original, 0, at.min(now));
                    }
                }
                None => {}
            }
        }
        found.clear();
    }

    /// Notes that answers of before this time are not in the index.
    pub fn forgot(&self, before: Timestamp) {
        if let Some(mut shard) = self.shards().next() {
            shard.answers.dropped = shard.answers.dropped.max(Some(before));
        }
    }

    /// What is reversed, and since when.
    #[must_use]
    pub fn reversals(&self) -> Vec<(Original, Timestamp)> {
        let of_shard = |shard: MutexGuard<'_, Tombstones>| shard.reversals();
        self.tombstones().flat_map(of_shard).collect()
    }

    /// How far back the index remembers now.
    #[must_use]
    pub fn window(&self, now: Timestamp) -> Duration {
        let answers = self.shards().filter_map(|shard| shard.answers.dropped);
        let tombstones = self.tombstones().filter_map(|tombstones| tombstones.0.dropped);
        let youngest = answers.chain(tombstones).max();
        youngest.map_or(WINDOW, |dropped| now.since(dropped).min(WINDOW))
    }

    fn shard(&self, trace: Trace) -> MutexGuard<'_, Shard> {
        one_of(&self.0.shards, shard_of(trace))
    }

    fn tombstones_with(&self, digest: u128) -> MutexGuard<'_, Tombstones> {
        one_of(&self.0.tombstones, tombstones_of(digest))
    }

    fn shards(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.0.shards.iter().map(lock)
    }

    fn tombstones(&self) -> impl Iterator<Item = MutexGuard<'_, Tombstones>> {
        self.0.tombstones.iter().map(lock)
    }
}

fn shard_of(trace: Trace) -> usize {
    usize::try_from(trace.spread()).unwrap_or_default() % SHARDS
}

fn tombstones_of(digest: u128) -> usize {
    usize::try_from(digest % SHARDS as u128).unwrap_or_default()
}

/// The number is below that of the parts.
fn one_of<T>(parts: &[Mutex<T>; SHARDS], number: usize) -> MutexGuard<'_, T> {
    let [first, ..] = parts;
    lock(parts.get(number).unwrap_or(first))
}

/// Every change of a shard is complete before anything can panic: a poisoned one is whole.
fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to answer one request. Dropped without an answer, the key is free again.
#[derive(Debug)]
pub struct Claim {
    index: Duplicates,
    key: DuplicateKey,
    open: bool,
}

impl Claim {
    /// Keeps the answer for repeats.
    pub fn answered(mut self, kept: Kept, now: Timestamp) {
        self.open = false;
        let mut shard = self.index.shard(self.key.trace);
        // Dropping the senders of those who wait wakes them: they look again.
        let in_flight = shard.take_in_flight(&self.key);
        debug_assert!(in_flight.is_some(), "the right to answer is had by one, and taken once");
        if let Some(InFlight { key, body, .. }) = in_flight {
            shard.answered(Entry::answered(key, body, kept, now));
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.open {
            drop(self.index.shard(self.key.trace).take_in_flight(&self.key));
        }
    }
}

/// The requests that a reversal speaks of.
#[derive(Debug)]
pub struct Originals<'a> {
    index: &'a Duplicates,
    shard: MutexGuard<'a, Shard>,
    named: Named,
    now: Timestamp,
}

impl Originals<'_> {
    /// If one of them is being answered now: look again when this resolves.
    #[must_use]
    pub fn in_flight(&mut self) -> Option<oneshot::Receiver<()>> {
        let original = self.named.original;
        let hash = table_hash(halves(original.digest));
        let mut in_flight = self.shard.in_flight.iter_hash_mut(hash);
        in_flight.find(|known| original.is(&known.key)).map(InFlight::wait)
    }

    /// Whether one of them was answered, reversed since or not.
    #[must_use]
    pub fn is_known(&self) -> bool {
        let original = self.named.original;
        let mut known = self.shard.answers.with_digest(halves(original.digest));
        known.any(|entry| entry.is_valid(self.now) && original.is(&entry.key()))
    }

    /// Reversed by the commit `durable_at`: what is asked to be decided is refused from now on.
    pub fn reverse(self, durable_at: u64) {
        let Originals { index, named: Named { original, .. }, now, .. } = self;
        index.tombstones_with(original.digest).forbid(original, durable_at, now);
    }
}
