//! Answers already given, found by the key of the request, for 24 hours or as long as the index
//! has room. The index lives in memory; the store rebuilds it from its records at start.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::authorization::{Answer, Request};
use crate::cards::CardKey;
use crate::clock::Timestamp;
use siphasher::sip128::{Hasher128, SipHasher24};

/// Keyed digest of what makes two messages the same request: network, first three digits of the
/// MTI, card, DE7, DE11, DE32, DE37.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DuplicateKey(pub u128);

/// Keyed digest of what an equal request must have equal: DE3, DE4, DE14, DE49, 9F26, 9F36.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyDigest(pub u64);

/// The secret under which keys and bodies are digested: SipHash-2-4 with 128 bits, so that a
/// record gives no PAN away to somebody who guesses.
#[derive(Clone)]
pub struct DuplicateHasher(SipHasher24);

impl DuplicateHasher {
    /// From a key of 16 bytes.
    #[must_use]
    pub fn new(key: &[u8; 16]) -> DuplicateHasher {
        DuplicateHasher(SipHasher24::new_with_key(key))
    }

    /// The key of a request on a network. DE37 absent is another key than any DE37.
    #[must_use]
    pub fn key(&self, network: &str, card: &CardKey, request: &Request) -> DuplicateKey {
        let [version, class, function, _] = request.mti.digits();
        let rrn = request.rrn.as_ref().map_or(&[][..], |rrn| rrn);
        let mti = [version, class, function];
        let Request { transmission_time, stan, acquirer, .. } = request;
        let parts = [network.as_bytes(), &mti, &card.0, transmission_time, stan, acquirer, rrn];
        DuplicateKey(self.digest(&parts))
    }

    /// The digest of the body of a request.
    #[must_use]
    pub fn body(&self, request: &Request) -> BodyDigest {
        let amount = request.amount.minor_units.to_be_bytes();
        let currency = request.amount.currency.to_be_bytes();
        let expiry = request.expiry.map(|expiry| expiry.to_string()).unwrap_or_default();
        let chip = request.chip.unwrap_or_default();
        let cryptogram = chip.cryptogram.as_ref().map_or(&[][..], |value| value);
        let atc = chip.atc.as_ref().map_or(&[][..], |value| value);
        let code = &request.processing_code.0;
        let parts = [&code[..], &amount, &currency, expiry.as_bytes(), cryptogram, atc];
        let [high, _] = split(self.digest(&parts));
        BodyDigest(high)
    }

    fn digest(&self, parts: &[&[u8]]) -> u128 {
        use std::hash::Hasher;
        let mut hasher = self.0;
        for part in parts {
            // Each part with its length, so that no two lists of parts give the same bytes.
            hasher.write(&[u8::try_from(part.len()).unwrap_or(u8::MAX)]);
            hasher.write(part);
        }
        hasher.finish128().as_u128()
    }
}

impl std::fmt::Debug for DuplicateHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DuplicateHasher(..)")
    }
}

fn split(digest: u128) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = digest.to_be_bytes();
    [u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes(rest)]
}

/// How long an answer is kept at most.
pub const WINDOW: Duration = Duration::from_secs(24 * 3_600);

/// The index is split by key: a lock is held for one part only, and cleaning one part is short.
const SHARDS: usize = 64;

/// An answer with what a repeat has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The answer.
    pub answer: Answer,
    /// The commit that holds it; a repeat waits until this is durable. 0: nothing to wait for.
    pub durable_at: u64,
}

#[derive(Debug)]
enum Slot {
    InFlight(BodyDigest),
    Answered(BodyDigest, Kept, Timestamp),
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
    /// Another body. The commit that it contradicts; 0: none yet, or nothing to wait for.
    Conflict {
        /// As of [`Kept::durable_at`].
        durable_at: u64,
    },
}

#[derive(Debug)]
struct Shard {
    slots: HashMap<DuplicateKey, Slot, foldhash::fast::RandomState>,
    /// Answered keys with the time of their answer, oldest first.
    order: VecDeque<(Timestamp, DuplicateKey)>,
    /// Repeats that wait for an answer.
    waiting: HashMap<DuplicateKey, Vec<oneshot::Sender<()>>, foldhash::fast::RandomState>,
    entries_max: usize,
    /// Time of the youngest answer that was dropped for want of room.
    dropped: Option<Timestamp>,
}

impl Shard {
    /// A shard that takes at most `bytes_max`. The table has a power of two of buckets and is
    /// filled to 7/16: above half of its capacity, a table that has dropped many entries grows
    /// instead of cleaning up.
    fn new(bytes_max: usize) -> Shard {
        let slot = size_of::<(DuplicateKey, Slot)>() + 1;
        let place = size_of::<(Timestamp, DuplicateKey)>();
        let bytes = |buckets: usize| buckets * slot + buckets * 7 / 16 * place;
        let mut buckets = 16;
        while bytes(buckets * 2) <= bytes_max {
            buckets *= 2;
        }
        let entries_max = buckets * 7 / 16 - 1;
        Shard {
            slots: HashMap::with_capacity_and_hasher(buckets * 7 / 8, Default::default()),
            order: VecDeque::with_capacity(entries_max),
            waiting: HashMap::default(),
            entries_max,
            dropped: None,
        }
    }
}

/// The index.
#[derive(Clone, Debug)]
pub struct Duplicates(Arc<[Mutex<Shard>; SHARDS]>);

impl Duplicates {
    /// An index that takes at most `bytes_max` of memory. The room is reserved at once, so
    /// that no request ever waits for a table to grow.
    #[must_use]
    pub fn new(bytes_max: usize) -> Duplicates {
        let shard = |_| Mutex::new(Shard::new(bytes_max / SHARDS));
        Duplicates(Arc::new(std::array::from_fn(shard)))
    }

    /// How many answers fit.
    #[must_use]
    pub fn entries_max(&self) -> usize {
        self.shards().map(|shard| shard.entries_max).sum()
    }

    /// Looks a key up and takes it if nobody has it.
    #[must_use]
    pub fn look(&self, key: DuplicateKey, body: BodyDigest, now: Timestamp) -> Look {
        let mut inner = self.shard(key);
        match inner.slots.get(&key) {
            Some(Slot::Answered(_, _, at)) if now.since(*at) >= WINDOW => {}
            Some(Slot::InFlight(known)) if *known != body => {
                return Look::Conflict { durable_at: 0 };
            }
            Some(Slot::Answered(known, kept, _)) if *known != body => {
                return Look::Conflict { durable_at: kept.durable_at };
            }
            Some(Slot::Answered(_, kept, _)) => return Look::Repeat(*kept),
            Some(Slot::InFlight(_)) => {
                let (sender, receiver) = oneshot::channel();
                inner.waiting.entry(key).or_default().push(sender);
                return Look::Wait(receiver);
            }
            None => {}
        }
        inner.make_room(now);
        inner.slots.insert(key, Slot::InFlight(body));
        Look::First(Claim { index: self.clone(), key, body, open: true })
    }

    /// Puts an answer back that was read from the store at start. Older first.
    pub fn restore(&self, key: DuplicateKey, body: BodyDigest, kept: Kept, at: Timestamp) {
        let mut inner = self.shard(key);
        inner.make_room(at);
        inner.insert(key, body, kept, at);
    }

    /// Notes that answers of before this time are not in the index.
    pub fn forgot(&self, before: Timestamp) {
        if let Some(mut shard) = self.shards().next() {
            shard.dropped = shard.dropped.max(Some(before));
        }
    }

    /// How far back the index remembers now.
    #[must_use]
    pub fn window(&self, now: Timestamp) -> Duration {
        let youngest = self.shards().filter_map(|shard| shard.dropped).max();
        youngest.map_or(WINDOW, |dropped| now.since(dropped).min(WINDOW))
    }

    fn shard(&self, key: DuplicateKey) -> MutexGuard<'_, Shard> {
        let shards = &*self.0;
        let index = usize::try_from(key.0 % SHARDS as u128).unwrap_or_default();
        lock(shards.get(index).unwrap_or_else(|| {
            let [first, ..] = shards;
            first
        }))
    }

    fn shards(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.0.iter().map(lock)
    }
}

/// Every change of a shard is complete before anything can panic: a poisoned one is whole.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn insert(&mut self, key: DuplicateKey, body: BodyDigest, kept: Kept, at: Timestamp) {
        let answered = Slot::Answered(body, kept, at);
        // Written over in place: an insert would make room for one more first, and grow.
        match self.slots.get_mut(&key) {
            Some(slot) => *slot = answered,
            None => drop(self.slots.insert(key, answered)),
        }
        self.order.push_back((at, key));
    }

    /// Drops what is too old, and the oldest while there is no room for one more.
    fn make_room(&mut self, now: Timestamp) {
        while let Some((at, key)) = self.order.front().copied() {
            let full = self.slots.len() >= self.entries_max;
            if !full && now.since(at) < WINDOW {
                break;
            }
            self.order.pop_front();
            // The key may have been answered again since: then it is not this old answer's.
            if matches!(self.slots.get(&key), Some(Slot::Answered(_, _, time)) if *time == at) {
                self.slots.remove(&key);
                self.dropped = Some(at).filter(|_| full).or(self.dropped);
            }
        }
    }
}

/// The right to answer one request. Dropped without an answer, the key is free again.
#[derive(Debug)]
pub struct Claim {
    index: Duplicates,
    key: DuplicateKey,
    body: BodyDigest,
    open: bool,
}

impl Claim {
    /// Keeps the answer for repeats.
    pub fn answered(mut self, kept: Kept, now: Timestamp) {
        self.open = false;
        let mut inner = self.index.shard(self.key);
        inner.insert(self.key, self.body, kept, now);
        inner.waiting.remove(&self.key);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.open {
            let mut inner = self.index.shard(self.key);
            inner.slots.remove(&self.key);
            // Dropping the senders wakes the waiting: they look again.
            inner.waiting.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorization::Reason;

    const KEPT: Kept =
        Kept { answer: Answer { reason: Reason::InvalidPin, approval_code: None }, durable_at: 7 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn key(number: u128) -> DuplicateKey {
        DuplicateKey(number)
    }

    fn first(look: Look) -> Claim {
        let Look::First(claim) = look else { panic!("{look:?}") };
        claim
    }

    #[test]
    fn a_repeat_gets_the_answer_and_another_body_does_not() {
        let index = Duplicates::new(1 << 20);
        first(index.look(key(1), BodyDigest(1), at(0))).answered(KEPT, at(0));
        let repeat = index.look(key(1), BodyDigest(1), at(1));
        assert!(matches!(repeat, Look::Repeat(kept) if kept == KEPT));
        assert!(matches!(index.look(key(1), BodyDigest(2), at(1)), Look::Conflict { .. }));
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
        first(index.look(key(1), BodyDigest(2), at(0)));
    }

    #[test]
    fn the_oldest_is_dropped_when_there_is_no_room() {
        let index = Duplicates::new(0);
        let room = index.entries_max() / SHARDS;
        let same_shard = |number: usize| key((number * SHARDS) as u128);
        for number in 0..=room {
            let now = at(i64::try_from(number).unwrap() * 10);
            first(index.look(same_shard(number), BodyDigest(1), now)).answered(KEPT, now);
        }
        let now = at(1_000);
        assert!(matches!(index.look(same_shard(1), BodyDigest(1), now), Look::Repeat(_)));
        assert_eq!(index.window(now), Duration::from_secs(1_000));
        first(index.look(same_shard(0), BodyDigest(1), now));
    }

    /// What README and demo.toml promise of the default.
    #[test]
    fn the_default_budget_holds_1_8_million_answers() {
        let entries = Duplicates::new(256 << 20).entries_max();
        assert!((1_800_000..1_900_000).contains(&entries), "{entries}");
    }

    #[test]
    fn its_memory_is_within_the_budget_and_its_tables_never_grow() {
        let index = Duplicates::new(4 << 20);
        let before: usize = index.shards().map(|shard| shard.slots.capacity()).sum();
        for number in 0..50 * index.entries_max() {
            let now = at(i64::try_from(number).unwrap() / 1_000);
            first(index.look(key(number as u128), BodyDigest(1), now)).answered(KEPT, now);
        }
        // A table with holes says less than it has; one that grew would say more.
        assert!(index.shards().map(|shard| shard.slots.capacity()).sum::<usize>() <= before);
        let slots = before * 8 / 7 * (size_of::<(DuplicateKey, Slot)>() + 1);
        let order = index.entries_max() * size_of::<(Timestamp, DuplicateKey)>();
        assert!(slots + order <= 4 << 20, "{slots} + {order}");
    }
}
