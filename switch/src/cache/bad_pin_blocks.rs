//! Unusable PIN blocks, counted for each card on each link, so that a link that sends them stops
//! nobody on another one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::CardEntry;
use crate::cards::CardKey;
use crate::clock::Timestamp;

/// How long a card's count lasts from its first one on.
const WINDOW: Duration = Duration::from_secs(60);

/// Unusable PIN blocks of one link: for each card the count of a minute that starts with the first
/// one. Kept in memory only: it limits how fast somebody may probe, nothing more.
#[derive(Debug, Default)]
pub struct BadPinBlocks(Mutex<Windows>);

#[derive(Debug, Default)]
struct Windows {
    of_card: HashMap<CardKey, Window>,
    /// The start of each window, oldest first.
    starts: VecDeque<(CardKey, Timestamp)>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    start: Timestamp,
    count: u32,
}

impl BadPinBlocks {
    /// The largest count; it stays there.
    pub const COUNT_MAX: u32 = 0xFF;

    /// Cards with a running minute, about 5 MB of them; for one more the oldest minute ends.
    pub const CARDS_MAX: usize = 65_536;

    /// How many a card had in the minute that runs at `now`.
    #[must_use]
    pub fn count(&self, card: &CardEntry, now: Timestamp) -> u32 {
        // Most cards had none on any link: no lock is taken for them.
        if !card.had_bad_pin_block(WINDOW, now) {
            return 0;
        }
        let windows = self.windows();
        let window = windows.of_card.get(&card.identity.key).filter(|window| window.runs(now));
        window.map_or(0, |window| window.count)
    }

    /// Counts one more.
    pub fn add(&self, card: &CardEntry, now: Timestamp) {
        self.windows().add(card.identity.key, now);
        card.note_bad_pin_block(now);
    }

    fn windows(&self) -> MutexGuard<'_, Windows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    const fn at(start: Timestamp) -> Window {
        Window { start, count: 1 }
    }

    fn runs(&self, now: Timestamp) -> bool {
        self.start <= now && now.since(self.start) < WINDOW
    }
}

impl Windows {
    fn add(&mut self, card: CardKey, now: Timestamp) {
        while self.starts.front().is_some_and(|(_, start)| !Window::at(*start).runs(now)) {
            self.end_oldest();
        }
        if let Some(window) = self.of_card.get_mut(&card).filter(|window| window.runs(now)) {
            window.count = window.count.saturating_add(1).min(BadPinBlocks::COUNT_MAX);
            return;
        }
        if self.starts.len() >= BadPinBlocks::CARDS_MAX {
            self.end_oldest();
        }
        self.of_card.insert(card, Window::at(now));
        self.starts.push_back((card, now));
    }

    fn end_oldest(&mut self) {
        let Some((card, start)) = self.starts.pop_front() else { return };
        // After the clock was set back, a card may have begun anew.
        if self.of_card.get(&card).is_some_and(|window| window.start == start) {
            self.of_card.remove(&card);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> CardKey {
        let mut key = [0; CardKey::BYTES];
        key[..8].copy_from_slice(&number.to_be_bytes());
        CardKey(key)
    }

    fn count(windows: &Windows, card: CardKey, now: Timestamp) -> u32 {
        windows.of_card.get(&card).filter(|window| window.runs(now)).map_or(0, |it| it.count)
    }

    #[test]
    fn they_are_counted_for_a_minute() {
        let (mut windows, card, at) = (Windows::default(), key(1), Timestamp::from_seconds);
        assert_eq!(count(&windows, card, at(1_000)), 0);
        windows.add(card, at(1_000));
        windows.add(card, at(1_030));
        assert_eq!(count(&windows, card, at(1_059)), 2);
        assert_eq!(count(&windows, card, at(1_060)), 0);
        windows.add(card, at(1_060));
        assert_eq!(count(&windows, card, at(1_061)), 1);
        (0..300).for_each(|_| windows.add(card, at(1_061)));
        assert_eq!(count(&windows, card, at(1_062)), BadPinBlocks::COUNT_MAX);
        // What is over leaves with the next one, of whatever card.
        windows.add(key(2), at(2_000));
        assert_eq!((windows.of_card.len(), windows.starts.len()), (1, 1));
    }

    #[test]
    fn of_too_many_the_oldest_minute_ends() {
        let (mut windows, now) = (Windows::default(), Timestamp::from_seconds(1_000));
        let most = BadPinBlocks::CARDS_MAX;
        (0..most + 2).for_each(|number| windows.add(key(number), now));
        assert_eq!((windows.of_card.len(), windows.starts.len()), (most, most));
        let counts = [0, 1, 2, most + 1].map(|number| count(&windows, key(number), now));
        assert_eq!(counts, [0, 0, 1, 1]);
    }

    /// A clock that goes back ends minutes; it makes none last, and none is kept for ever.
    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let (mut windows, at) = (Windows::default(), Timestamp::from_seconds);
        windows.add(key(1), at(1_000));
        windows.add(key(2), at(1_030));
        assert_eq!(count(&windows, key(2), at(1_010)), 0);
        windows.add(key(2), at(1_010));
        assert_eq!(count(&windows, key(2), at(1_010)), 1);
        for second in (1_010..1_200).step_by(10) {
            windows.add(key(3), at(second));
        }
        assert_eq!((windows.of_card.len(), windows.starts.len()), (1, 1));
    }
}
