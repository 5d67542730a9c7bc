//! Answers already given, found by the key of the request, for 24 hours or as long as the index
//! has room; and what was reversed. The index lives in memory; the store rebuilds it from its
//! records at start.
//!
//! Each network has an index of its own, of an equal part of the memory: what one sends makes no
//! answer to another one forgotten.
//!
//! A shard holds its answers in a ring, oldest first, and a table of ring places beside it, hashed
//! by what a repeat and a reversal have in common: one probe finds both. How many have the same
//! hash is bounded: a peer may send requests that differ in nothing else than DE37.
//!
//! A reversal leaves a tombstone, in a ring beside that of the answers, whether its original is
//! there or not: it forbids the original for as long as an answer is kept, counted from the
//! reversal.

mod digest;
mod shard;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::authorization::Answer;
use crate::clock::Timestamp;
use digest::halves;
pub use digest::{BodyDigest, DuplicateHasher, DuplicateKey, MessageKind, Original};
use shard::{Entry, InFlight, Shard, table_hash};

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
    const fn digest(&self) -> u128 {
        match self {
            Restored::Answer { key, .. } => key.digest,
            Restored::Reversal { original, .. } => original.digest,
        }
    }
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

/// The index of each network.
#[derive(Clone, Debug)]
pub struct ByNetwork(Arc<[(Arc<str>, Duplicates)]>);

impl ByNetwork {
    /// Indexes that together take at most `bytes_max` of memory for answers.
    #[must_use]
    pub fn new(networks: &[Arc<str>], bytes_max: usize) -> ByNetwork {
        let part = bytes_max / networks.len().max(1);
        let index = |network| (Arc::clone(network), Duplicates::new(part));
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
        for mut shard in self.0.iter().flat_map(|(_, index)| index.shards()) {
            shard.answers.entries.iter_mut().for_each(&change);
            shard.tombstones.entries.iter_mut().for_each(&change);
        }
    }

    /// The index of each network, with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Duplicates)> {
        self.0.iter().map(|(name, index)| (name, index))
    }
}

/// The index of one network.
#[derive(Clone, Debug)]
pub struct Duplicates(Arc<[Mutex<Shard>; SHARDS]>);

impl Duplicates {
    /// An index that takes at most `bytes_max` of memory for answers. The room is reserved at
    /// once, so that no request ever waits for a table to grow.
    #[must_use]
    pub fn new(bytes_max: usize) -> Duplicates {
        let shard = |_| Mutex::new(Shard::new(bytes_max / SHARDS));
        Duplicates(Arc::new(std::array::from_fn(shard)))
    }

    /// How many answers fit.
    #[must_use]
    pub fn entries_max(&self) -> usize {
        self.shards().map(|shard| shard.answers.entries_max).sum()
    }

    /// Looks a key up and takes it if nobody has it.
    #[must_use]
    pub fn look(&self, key: DuplicateKey, body: BodyDigest, now: Timestamp) -> Look {
        let mut shard = self.shard(key.digest);
        if let Some(known) = shard.in_flight_with(&key) {
            return match known.body == body {
                true => Look::Wait(known.wait()),
                false => Look::Conflict { durable_at: 0 },
            };
        }
        let digest = halves(key.digest);
        let forbids = |entry: &&Entry| entry.is_valid(now) && entry.reversed().is(&key);
        let reversed = shard.tombstones.with_digest(digest).find(forbids);
        if let Some(entry) = reversed.filter(|_| key.kind.is_decided()) {
            return Look::Conflict { durable_at: entry.durable_at };
        }
        let answers = |entry: &&Entry| entry.is_valid(now) && entry.key() == key;
        let answered = shard.answers.with_digest(digest).find(answers);
        if let Some(&Entry { durable_at, answer, body: known, .. }) = answered {
            return match known == body {
                true => Look::Repeat(Kept { answer, durable_at }),
                false => Look::Conflict { durable_at },
            };
        }
        let in_flight = InFlight { key, body, waiting: Vec::new() };
        let hash = |known: &InFlight| table_hash(halves(known.key.digest));
        shard.in_flight.insert_unique(hash(&in_flight), in_flight, hash);
        Look::First(Claim { index: self.clone(), key, open: true })
    }

    /// What a reversal speaks of, held: nobody answers or repeats it until this is dropped.
    #[must_use]
    pub fn originals(&self, original: Original, now: Timestamp) -> Originals<'_> {
        Originals { shard: self.shard(original.digest), original, now }
    }

    /// Puts back what was read from the store at `now`, the start, older first, and empties the
    /// list. Shard
    /// after shard: so each one's table stays in the processor's cache, and many thousands at once
    /// take a third of the time.
    pub fn restore(&self, found: &mut Vec<Restored>, now: Timestamp) {
        found.sort_by_key(|restored| shard_of(restored.digest()));
        let mut rest = &found[..];
        while let Some(first) = rest.first() {
            let mut shard = self.shard(first.digest());
            let is_same = |other: &Restored| shard_of(other.digest()) == shard_of(first.digest());
            let end = rest.iter().position(|other| !is_same(other)).unwrap_or(rest.len());
            let (same, others) = rest.split_at(end);
            for restored in same {
                match *restored {
                    Restored::Answer { key, body, kept, at } => {
                        shard.answered(Entry::answered(key, body, kept, at.min(now)));
                    }
                    Restored::Reversal { original, at } => shard.forbid(original, 0, at.min(now)),
                }
            }
            rest = others;
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
        let of_shard = |shard: MutexGuard<'_, Shard>| shard.reversals();
        self.shards().flat_map(of_shard).collect()
    }

    /// How far back the index remembers now.
    #[must_use]
    pub fn window(&self, now: Timestamp) -> Duration {
        let youngest = self.shards().filter_map(|shard| shard.dropped()).max();
        youngest.map_or(WINDOW, |dropped| now.since(dropped).min(WINDOW))
    }

    fn shard(&self, digest: u128) -> MutexGuard<'_, Shard> {
        let shards = &*self.0;
        lock(shards.get(shard_of(digest)).unwrap_or_else(|| {
            let [first, ..] = shards;
            first
        }))
    }

    fn shards(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.0.iter().map(lock)
    }
}

fn shard_of(digest: u128) -> usize {
    usize::try_from(digest % SHARDS as u128).unwrap_or_default()
}

/// Every change of a shard is complete before anything can panic: a poisoned one is whole.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut shard = self.index.shard(self.key.digest);
        // Dropping the senders of those who wait wakes them: they look again.
        if let Some(InFlight { key, body, .. }) = shard.take_in_flight(&self.key) {
            shard.answered(Entry::answered(key, body, kept, now));
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.open {
            drop(self.index.shard(self.key.digest).take_in_flight(&self.key));
        }
    }
}

/// The requests that a reversal speaks of.
#[derive(Debug)]
pub struct Originals<'a> {
    shard: MutexGuard<'a, Shard>,
    original: Original,
    now: Timestamp,
}

impl Originals<'_> {
    /// If one of them is being answered now: look again when this resolves.
    #[must_use]
    pub fn in_flight(&mut self) -> Option<oneshot::Receiver<()>> {
        let hash = table_hash(halves(self.original.digest));
        let mut in_flight = self.shard.in_flight.iter_hash_mut(hash);
        in_flight.find(|known| self.original.is(&known.key)).map(InFlight::wait)
    }

    /// Whether one of them was answered, reversed since or not.
    #[must_use]
    pub fn is_known(&self) -> bool {
        let mut known = self.shard.answers.with_digest(halves(self.original.digest));
        known.any(|entry| entry.is_valid(self.now) && self.original.is(&entry.key()))
    }

    /// Reversed by the commit `durable_at`: what is asked to be decided is refused from now on.
    pub fn reverse(mut self, durable_at: u64) {
        let Originals { original, now, .. } = self;
        self.shard.forbid(original, durable_at, now);
    }
}

#[cfg(test)]
mod tests {
    use super::shard::{BUCKET_BYTES, SAME_DIGEST_MAX};
    use super::*;
    use crate::authorization::Reason;

    const KEPT: Kept = Kept { answer: Answer::new(Reason::InvalidPin), durable_at: 7 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn key_of(digest: u128, rrn: u32, mti: &[u8; 4]) -> DuplicateKey {
        DuplicateKey { digest, rrn, kind: MessageKind::of(*mti) }
    }

    fn key(digest: u128) -> DuplicateKey {
        key_of(digest, 5, b"0100")
    }

    fn first(look: Look) -> Claim {
        let Look::First(claim) = look else { panic!("{look:?}") };
        claim
    }

    fn answer(index: &Duplicates, key: DuplicateKey, now: Timestamp) {
        first(index.look(key, BodyDigest(1), now)).answered(KEPT, now);
    }

    fn original(digest: u128, rrn: Option<u32>, mti: Option<&[u8; 4]>) -> Original {
        Original { digest, rrn, kind: mti.map(|mti| MessageKind::of(*mti)) }
    }

    #[test]
    fn a_repeat_gets_the_answer_and_another_body_does_not() {
        let index = Duplicates::new(1 << 20);
        answer(&index, key(1), at(0));
        let repeat = index.look(key(1), BodyDigest(1), at(1));
        assert!(matches!(repeat, Look::Repeat(kept) if kept == KEPT));
        assert!(matches!(index.look(key(1), BodyDigest(2), at(1)), Look::Conflict { .. }));
        for other in [key_of(1, 6, b"0100"), key_of(1, 5, b"0200"), key_of(1, 5, b"0120"), key(2)] {
            drop(first(index.look(other, BodyDigest(1), at(1))));
        }
        let later = at(24 * 3600);
        assert!(matches!(index.look(key(1), BodyDigest(1), later), Look::First(_)));
    }

    #[test]
    fn a_repeat_of_one_in_flight_waits() {
        let index = Duplicates::new(1 << 20);
        let claim = first(index.look(key(1), BodyDigest(1), at(0)));
        let Look::Wait(mut waiting) = index.look(key(1), BodyDigest(1), at(0)) else { panic!() };
        assert!(waiting.try_recv().is_err());
        assert!(matches!(index.look(key(1), BodyDigest(2), at(0)), Look::Conflict { .. }));
        claim.answered(KEPT, at(0));
        assert!(matches!(waiting.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(matches!(index.look(key(1), BodyDigest(1), at(0)), Look::Repeat(_)));
    }

    #[test]
    fn without_an_answer_the_key_is_free_again() {
        let index = Duplicates::new(1 << 20);
        drop(first(index.look(key(1), BodyDigest(1), at(0))));
        drop(first(index.look(key(1), BodyDigest(2), at(0))));
    }

    #[test]
    fn a_repeat_of_what_a_reversal_names_is_refused() {
        let cases = [
            (original(1, None, Some(b"0100")), true),
            (original(1, Some(5), None), true),
            (original(1, None, None), true),
            (original(2, None, Some(b"0100")), false),
            (original(1, None, Some(b"0200")), false),
            (original(1, Some(6), None), false),
        ];
        for (original, is_known) in cases {
            let index = Duplicates::new(1 << 20);
            answer(&index, key(1), at(0));
            // Its own key has the same digest where it has no DE90, and it is no original.
            answer(&index, key_of(1, 5, b"0400"), at(0));
            for durable_at in [9, 10] {
                let mut originals = index.originals(original, at(1));
                assert!(originals.in_flight().is_none());
                assert_eq!(originals.is_known(), is_known, "{original:?}");
                originals.reverse(durable_at);
            }
            let look = index.look(key(1), BodyDigest(1), at(2));
            match is_known {
                true => assert!(matches!(look, Look::Conflict { durable_at: 10 })),
                false => assert!(matches!(look, Look::Repeat(_))),
            }
            let reversal = index.look(key_of(1, 5, b"0400"), BodyDigest(1), at(2));
            assert!(matches!(reversal, Look::Repeat(_)));
        }
    }

    #[test]
    fn what_was_reversed_before_it_came_is_refused() {
        let tombstone = |original| {
            let index = Duplicates::new(1 << 20);
            index.originals(original, at(0)).reverse(9);
            index.originals(original, at(1)).reverse(10);
            let shard = index.shard(original.digest);
            assert_eq!(shard.tombstones.with_digest(halves(original.digest)).count(), 1);
            drop(shard);
            index
        };
        let refused = |index: &Duplicates, key, now| {
            matches!(index.look(key, BodyDigest(1), now), Look::Conflict { durable_at: 10 })
        };
        let index = tombstone(original(1, None, Some(b"0100")));
        assert!(refused(&index, key(1), at(2)) && refused(&index, key_of(1, 6, b"0100"), at(2)));
        assert!(!refused(&index, key_of(1, 5, b"0200"), at(2)));
        assert!(!refused(&index, key(1), at(24 * 3_600 + 1)), "the window is over");
        let index = tombstone(original(1, Some(5), None));
        assert!(refused(&index, key(1), at(2)) && refused(&index, key_of(1, 5, b"0200"), at(2)));
        assert!(!refused(&index, key_of(1, 5, b"0220"), at(2)), "an advice is acknowledged");
        assert!(!refused(&index, key_of(1, 6, b"0100"), at(2)));
        assert!(!refused(&index, key_of(1, 5, b"0400"), at(2)), "no reversal is an original");
    }

    /// The original may be nearly a day old when it is reversed.
    #[test]
    fn a_reversal_counts_for_a_day_from_then_on() {
        let index = Duplicates::new(1 << 20);
        answer(&index, key(1), at(0));
        let original = original(1, None, Some(b"0100"));
        let refused = |now| matches!(index.look(key(1), BodyDigest(1), now), Look::Conflict { .. });
        index.originals(original, at(23 * 3_600)).reverse(9);
        assert!(refused(at(24 * 3_600 + 1)) && refused(at(47 * 3_600 - 1)));
        // Another reversal renews it.
        index.originals(original, at(46 * 3_600)).reverse(10);
        assert!(refused(at(47 * 3_600 + 1)) && refused(at(70 * 3_600 - 1)));
        assert!(!refused(at(70 * 3_600)));
    }

    /// Nothing but DE37 differs: they all have one hash.
    #[test]
    fn requests_that_differ_in_de37_only_do_not_pile_up() {
        let index = Duplicates::new(1 << 20);
        let key = |rrn| key_of(1, rrn, b"0100");
        index.originals(original(1, Some(1), None), at(0)).reverse(9);
        for rrn in 2..100 {
            answer(&index, key(rrn), at(0));
        }
        let same = index.shard(1).answers.with_digest(halves(1)).count();
        assert_eq!(same, SAME_DIGEST_MAX);
        assert!(matches!(index.look(key(99), BodyDigest(1), at(1)), Look::Repeat(_)));
        assert!(matches!(index.look(key(1), BodyDigest(1), at(1)), Look::Conflict { .. }));
    }

    #[test]
    fn reversals_that_differ_in_de37_only_push_none_out() {
        for count in [15, 16, 17, 1_000] {
            let index = Duplicates::new(1 << 24);
            for rrn in 1..=count {
                index.originals(original(1, Some(rrn), None), at(rrn.into())).reverse(rrn.into());
            }
            let now = at(2_000);
            let refused = |rrn| {
                let look = index.look(key_of(1, rrn, b"0100"), BodyDigest(1), now);
                matches!(look, Look::Conflict { durable_at } if durable_at > 0)
            };
            assert!((1..=count).all(refused), "{count}");
            let same = index.shard(1).tombstones.with_digest(halves(1)).count();
            assert!(same <= SAME_DIGEST_MAX);
            // Where they are too many, one that was not named is refused with them.
            assert_eq!(refused(count + 1), count > 16);
            // What is acknowledged is not refused.
            let advice = index.look(key_of(1, 1, b"0120"), BodyDigest(1), now);
            assert!(matches!(advice, Look::First(_)));
        }
    }

    #[test]
    fn no_number_of_answers_makes_a_reversal_forgotten() {
        let index = Duplicates::new(1 << 20);
        let digest = |number: u128| number.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        index.originals(original(digest(0), Some(5), None), at(0)).reverse(9);
        for number in 1..10 * index.entries_max() {
            answer(&index, key(digest(number as u128)), at(1));
        }
        let look = index.look(key(digest(0)), BodyDigest(1), at(2));
        assert!(matches!(look, Look::Conflict { durable_at: 9 }));
    }

    #[test]
    fn one_network_does_not_make_another_forget() {
        let networks = ["loud".into(), "quiet".into()];
        let index = ByNetwork::new(&networks, 1 << 20);
        let of = |network: &str| index.of(network).unwrap();
        answer(of("quiet"), key(1), at(0));
        of("quiet").originals(original(2, Some(5), None), at(0)).reverse(9);
        for number in 1..100_000 {
            answer(of("loud"), key(number), at(1));
            of("loud").originals(original(number, Some(6), None), at(1)).reverse(9);
        }
        let look = |number| of("quiet").look(key(number), BodyDigest(1), at(2));
        assert!(matches!(look(1), Look::Repeat(_)));
        assert!(matches!(look(2), Look::Conflict { .. }));
        assert_eq!(of("quiet").window(at(2)), WINDOW);
        assert!(of("loud").window(at(2)) < WINDOW);
        assert!(index.of("unknown").is_none());
    }

    /// A clock that was a day ahead for a moment.
    #[test]
    fn a_wrong_clock_forgets_nothing() {
        let index = Duplicates::new(1 << 20);
        answer(&index, key(1), at(0));
        answer(&index, key(2), at(48 * 3_600));
        assert!(matches!(index.look(key(1), BodyDigest(1), at(1)), Look::Repeat(_)));
        assert_eq!(index.window(at(1)), WINDOW);
    }

    #[test]
    fn a_reversal_of_one_in_flight_waits() {
        let index = Duplicates::new(1 << 20);
        let claim = first(index.look(key(1), BodyDigest(1), at(0)));
        let original = original(1, None, Some(b"0100"));
        let waiting = index.originals(original, at(0)).in_flight();
        assert!(waiting.unwrap().try_recv().is_err());
        assert!(index.originals(Original { digest: 2, ..original }, at(0)).in_flight().is_none());
        claim.answered(KEPT, at(0));
        let mut originals = index.originals(original, at(0));
        assert!(originals.in_flight().is_none() && originals.is_known());
    }

    #[test]
    fn the_oldest_is_dropped_when_there_is_no_room() {
        let index = Duplicates::new(0);
        let room = index.entries_max() / SHARDS;
        let same_shard = |number: usize| key((number * SHARDS) as u128);
        for number in 0..=room {
            let now = at(i64::try_from(number).unwrap() * 10);
            answer(&index, same_shard(number), now);
        }
        let now = at(1_000);
        let kept =
            |number| matches!(index.look(same_shard(number), BodyDigest(1), now), Look::Repeat(_));
        assert!((1..=room).all(kept));
        assert_eq!(index.window(now), Duration::from_secs(1_000));
        drop(first(index.look(same_shard(0), BodyDigest(1), now)));
    }

    /// What README and demo.toml promise of the default.
    #[test]
    fn the_default_budget_holds_3_2_million_answers() {
        assert_eq!(size_of::<Entry>(), 64);
        let index = Duplicates::new(256 << 20);
        let entries = index.entries_max();
        assert!((3_200_000..3_300_000).contains(&entries), "{entries}");
        let reversals: usize = index.shards().map(|shard| shard.tombstones.entries_max).sum();
        assert!((220_000..230_000).contains(&reversals), "{reversals}");
    }

    #[test]
    fn its_memory_is_within_the_budget_and_its_tables_never_grow() {
        let budget = 4 << 20;
        let index = Duplicates::new(budget);
        let room = |index: &Duplicates| {
            let of = |shard: MutexGuard<'_, Shard>| {
                let rings = [&shard.answers, &shard.tombstones];
                let entries: usize = rings.iter().map(|ring| ring.entries.capacity()).sum();
                let buckets: usize = rings.iter().map(|ring| ring.numbers.num_buckets()).sum();
                (entries * size_of::<Entry>(), buckets * BUCKET_BYTES)
            };
            index.shards().map(of).fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1))
        };
        let before = room(&index);
        assert!((budget * 3 / 4..=budget).contains(&(before.0 + before.1)), "{before:?}");
        for number in 0..50 * index.entries_max() {
            // Spread like a digest.
            let key = key((number as u128).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835));
            let now = at(i64::try_from(number).unwrap() / 1_000);
            answer(&index, key, now);
            index.originals(original(key.digest, Some(6), None), now).reverse(1);
        }
        assert_eq!(room(&index), before);
        assert!(index.shards().all(|shard| shard.in_flight.is_empty()));
    }
}
