//! Which card comes next, and with which PIN.
//!
//! Wrong PINs are drawn by chance from a seed. A card whose last PIN was wrong gets the right one
//! when it comes again, and no card comes again while it is in flight: so no card is ever
//! suspended, and it is known of every request how it must be answered. What is kept for this is
//! one byte a card; PAN and PIN block are worked out when they are needed.

use std::ops::Range;

use super::chips::Chips;
use crate::cards::{CARDS, ZPK};
use crate::numbers::digits;
use crate::pin_block::ZoneKey;

/// A request with this card waits for its answer.
const IN_FLIGHT: u8 = 1;

/// The last PIN of this card was wrong.
const WRONG_LAST: u8 = 2;

/// Expiry of every card of the demo programme, YYMM.
pub(super) const EXPIRY: &[u8] = b"2912";

/// PINs of the seeded cards: so many from 1000.
const PINS: u32 = 9_000;

/// The cards of a thread.
#[derive(Clone, Debug)]
pub(super) enum Deck {
    /// The four of the demo.
    Demo,
    /// Those of `pinswitch seed` with these indices.
    Seeded(Range<u32>),
}

impl Deck {
    pub(super) fn len(&self) -> u32 {
        match self {
            Deck::Demo => 4,
            Deck::Seeded(range) => range.end.saturating_sub(range.start),
        }
    }

    /// PAN and right PIN of the card at a place of this deck.
    fn card(&self, place: u32) -> ([u8; 16], [u8; 4]) {
        match self {
            Deck::Demo => {
                let card = usize::try_from(place).ok().and_then(|place| CARDS.get(place));
                let text = card.map(|card| (card.pan.as_bytes(), card.pin.as_bytes()));
                let both =
                    text.and_then(|(pan, pin)| Some((*pan.first_chunk()?, *pin.first_chunk()?)));
                both.unwrap_or_default()
            }
            Deck::Seeded(range) => {
                let index = range.start.saturating_add(place);
                (seeded_pan(index), digits(u64::from(1_000 + seeded_pin(index))))
            }
        }
    }
}

/// Above 1000.
fn seeded_pin(index: u32) -> u32 {
    let pin = (u64::from(index) * 7_919 + 1_357) % u64::from(PINS);
    u32::try_from(pin).unwrap_or_default()
}

/// 476135, nine digits of the index, and the check digit of ISO/IEC 7812-1 annex B.
fn seeded_pan(index: u32) -> [u8; 16] {
    let mut pan = digits::<16>(4_761_350_000_000_000 + u64::from(index) % 1_000_000_000 * 10);
    let sum: u8 = pan
        .iter()
        .zip([2, 1].into_iter().cycle())
        .map(|(digit, weight)| (digit - b'0') * weight)
        .map(|product| product / 10 + product % 10)
        .sum();
    if let Some(last) = pan.last_mut() {
        *last = b'0' + (10 - sum % 10) % 10;
    }
    pan
}

/// The PIN that is sent as the wrong one: the next one, 9999 before 1000.
fn other_pin(pin: [u8; 4]) -> [u8; 4] {
    let number = pin.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    digits(u64::from(1_000 + (number + 1).saturating_sub(1_000) % PINS))
}

/// A card and a PIN for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pick {
    /// The place of the card in its deck.
    pub(super) place: u32,
    pub(super) pan: [u8; 16],
    pub(super) pin_block: [u8; 8],
    pub(super) is_wrong: bool,
    /// DE55; nothing without a chip.
    pub(super) chip_data: Vec<u8>,
}

/// The cards of a thread, and what is known of them.
pub(super) struct Mix {
    deck: Deck,
    chips: Option<Chips>,
    key: ZoneKey,
    random: fastrand::Rng,
    /// Share of the requests, from 0 to 0.5, that have a wrong PIN.
    wrong_share: f64,
    /// Flags of each card; empty where no PIN is wrong.
    cards: Vec<u8>,
    next: u32,
    step: u32,
    /// Cards that have not had their first turn.
    fresh: u32,
    /// Where the search for cards whose last PIN was wrong goes on.
    searched: u32,
}

impl Mix {
    /// The cards come in an order that jumps about, each one before any comes again.
    pub(super) fn new(deck: Deck, wrong_share: f64, seed: u64) -> Mix {
        let count = deck.len().max(1);
        let mut random = fastrand::Rng::with_seed(seed);
        // Near the golden section: cards that come one after another lie far apart.
        let first = u32::try_from(u64::from(count) * 618 / 1_000).unwrap_or_default().max(1);
        let step = (first..).find(|step| greatest_common_divisor(*step, count) == 1).unwrap_or(1);
        let kept = if wrong_share > 0.0 { deck.len() } else { 0 };
        Mix {
            next: random.u32(0..count),
            deck,
            chips: None,
            key: ZoneKey::new(&ZPK),
            random,
            wrong_share,
            cards: vec![0; usize::try_from(kept).unwrap_or_default()],
            step,
            fresh: count,
            searched: 0,
        }
    }

    /// The same cards, with chips.
    pub(super) fn with_chips(self, chips: Option<Chips>) -> Mix {
        Mix { chips, ..self }
    }

    /// The next request; `None` while every card is in flight.
    pub(super) fn pick(&mut self) -> Option<Pick> {
        for _ in 0..self.deck.len() {
            let place = self.next;
            let next = (u64::from(place) + u64::from(self.step)) % u64::from(self.deck.len());
            self.next = u32::try_from(next).unwrap_or_default();
            let chance = self.chance();
            let Some(flags) = usize::try_from(place).ok().and_then(|at| self.cards.get_mut(at))
            else {
                return Some(self.with_pin(place, false));
            };
            if *flags & IN_FLIGHT != 0 {
                continue;
            }
            let is_wrong = *flags & WRONG_LAST == 0 && self.random.f64() < chance;
            *flags = IN_FLIGHT | if is_wrong { WRONG_LAST } else { 0 };
            return Some(self.with_pin(place, is_wrong));
        }
        None
    }

    /// How likely a wrong PIN is for a card that may have one. After the first turn only cards
    /// whose last PIN was right may, and the share of all requests must stay the same.
    fn chance(&mut self) -> f64 {
        let is_fresh = self.fresh > 0;
        self.fresh = self.fresh.saturating_sub(1);
        if is_fresh { self.wrong_share } else { self.wrong_share / (1.0 - self.wrong_share) }
    }

    /// The answer to a request has come.
    pub(super) fn answered(&mut self, place: u32) {
        let flags = usize::try_from(place).ok().and_then(|place| self.cards.get_mut(place));
        flags.into_iter().for_each(|flags| *flags &= !IN_FLIGHT);
    }

    /// The right PIN for the next card whose last one was wrong, so that a run leaves the counters
    /// of wrong PINs as it found them; `None` behind the last such card. A card whose answer never
    /// came is left out.
    pub(super) fn owed(&mut self) -> Option<Pick> {
        let from = usize::try_from(self.searched).ok()?;
        let found = self.cards.get(from..)?.iter().position(|flags| *flags == WRONG_LAST);
        let Some(ahead) = found else {
            self.searched = self.deck.len();
            return None;
        };
        *self.cards.get_mut(from + ahead)? = IN_FLIGHT;
        let place = u32::try_from(from + ahead).ok()?;
        self.searched = place + 1;
        Some(self.with_pin(place, false))
    }

    fn with_pin(&mut self, place: u32, is_wrong: bool) -> Pick {
        let (pan, pin) = self.deck.card(place);
        let sent = if is_wrong { other_pin(pin) } else { pin };
        // Four digits and sixteen always have a block.
        let pin_block = self.key.format_0(&sent, &pan).unwrap_or_default();
        let chips = self.chips.as_mut();
        let chip_data = chips.map(|chips| chips.chip_data(place, &pan, &pin)).unwrap_or_default();
        Pick { place, pan, pin_block, is_wrong, chip_data }
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn seeded(cards: u32, wrong_share: f64) -> Mix {
        Mix::new(Deck::Seeded(0..cards), wrong_share, 1)
    }

    #[test]
    fn seeded_cards_are_those_of_the_switch() {
        for (index, pan, pin) in [
            (0, b"4761350000000000", b"2357"),
            (1, b"4761350000000018", b"1276"),
            (999_999, b"4761350009999996", b"2438"),
        ] {
            let (known_pan, known_pin) = Deck::Seeded(index..index + 1).card(0);
            assert_eq!((&known_pan, &known_pin), (pan, pin), "{index}");
        }
        assert_eq!((other_pin(*b"1000"), other_pin(*b"9999")), (*b"1001", *b"1000"));
    }

    #[test]
    fn each_card_comes_before_any_comes_again() {
        for count in [1, 2, 4, 5, 1_000, 1_236] {
            let mut mix = seeded(count, 0.0);
            let mut turn = || -> Vec<u32> {
                (0..count).filter_map(|_| mix.pick()).map(|pick| pick.place).collect()
            };
            let first = turn();
            assert_eq!(first.iter().collect::<HashSet<_>>().len(), count as usize);
            assert_eq!(turn(), first);
        }
    }

    #[test]
    fn the_demos_cards_have_their_own_blocks() {
        let mut mix = Mix::new(Deck::Demo, 0.0, 1);
        let picks: Vec<_> = (0..4).filter_map(|_| mix.pick()).collect();
        for card in CARDS {
            let block = ZoneKey::new(&ZPK).format_0(card.pin.as_bytes(), card.pan.as_bytes());
            let pick = picks.iter().find(|pick| pick.pan == card.pan.as_bytes()).unwrap();
            assert_eq!(Some(pick.pin_block), block);
        }
    }

    /// Shares of wrong PINs in the first turn of all cards and in the tenth.
    #[test]
    fn as_many_pins_are_wrong_as_asked_and_never_twice_in_a_row() {
        for share in [0.01, 0.1, 0.5] {
            let mut mix = seeded(20_000, share);
            let mut last = vec![false; 20_000];
            for turn in 0..10 {
                let mut wrong = 0;
                for _ in 0..20_000 {
                    let pick = mix.pick().unwrap();
                    mix.answered(pick.place);
                    let before = &mut last[pick.place as usize];
                    assert!(!(*before && pick.is_wrong));
                    *before = pick.is_wrong;
                    wrong += u32::from(pick.is_wrong);
                }
                let really = f64::from(wrong) / 20_000.0;
                assert!(
                    (really - share).abs() < share * 0.25,
                    "turn {turn}: {really}, not {share}"
                );
            }
        }
    }

    #[test]
    fn a_card_in_flight_is_passed_over_until_it_is_answered() {
        let mut mix = seeded(3, 0.1);
        let [a, b, c] = [(); 3].map(|()| mix.pick().unwrap().place);
        assert_eq!(mix.pick(), None);
        mix.answered(b);
        assert_eq!(mix.pick().unwrap().place, b);
        mix.answered(c);
        mix.answered(a);
        assert_ne!(mix.pick().unwrap().place, b);
    }

    #[test]
    fn at_the_end_each_card_that_had_a_wrong_pin_gets_the_right_one() {
        let mut mix = seeded(1_000, 0.1);
        let picks: Vec<Pick> = (0..900).filter_map(|_| mix.pick()).collect();
        // Of the first ten the answer never comes.
        let (lost, answered) = picks.split_at(10);
        answered.iter().for_each(|pick| mix.answered(pick.place));
        let expected: HashSet<u32> =
            answered.iter().filter(|pick| pick.is_wrong).map(|pick| pick.place).collect();
        let owed: Vec<Pick> = std::iter::from_fn(|| mix.owed()).collect();
        assert!(owed.iter().all(|pick| !pick.is_wrong && !lost.contains(pick)));
        assert_eq!(owed.len(), expected.len());
        assert_eq!(owed.iter().map(|pick| pick.place).collect::<HashSet<_>>(), expected);
    }

    #[test]
    fn a_seed_gives_the_same_requests_again() {
        let picks = |seed| {
            let mut mix = Mix::new(Deck::Seeded(0..500), 0.2, seed);
            (0..400).filter_map(move |_| mix.pick()).collect::<Vec<_>>()
        };
        assert_eq!(picks(7), picks(7));
        assert_ne!(picks(7), picks(8));
    }
}
