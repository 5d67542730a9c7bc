//! Whether what was seen of a card equals some one-by-one order of its operations, in which each
//! stands between its beginning and its end: the search of Wing and Gong, with a memory of the
//! places where it has been.

use std::collections::HashSet;

use super::model::{Call, Card, Reply};

/// One operation on a card, as it was seen.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub call: Call,
    /// `None`: nobody was answered, so it may have happened or not.
    pub reply: Option<Reply>,
    /// It happened after this and before that. Every event of a run has a number of its own.
    pub begin: u64,
    pub end: u64,
    /// The earlier step whose request this repeats.
    pub repeats: Option<Earlier>,
}

/// A request that was answered before a power failure came again after it.
#[derive(Clone, Copy, Debug)]
pub struct Earlier {
    pub step: usize,
    /// Whether the power failure may have taken its record, if it did not change the card.
    pub may_be_lost: bool,
}

/// Whether some order of the steps explains all replies.
pub fn is_linearizable(card: Card, limit: Option<u32>, steps: &[Step]) -> bool {
    assert!(steps.len() <= 64, "{} steps of one card", steps.len());
    Search { limit, steps, seen: HashSet::new() }.succeeds(Place { done: 0, changed: 0, card })
}

/// Where the search is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    /// Steps that have happened, and those of them that changed the card, one bit each.
    done: u64,
    changed: u64,
    card: Card,
}

struct Search<'a> {
    limit: Option<u32>,
    steps: &'a [Step],
    seen: HashSet<Place>,
}

impl Search<'_> {
    fn succeeds(&mut self, place: Place) -> bool {
        let steps = self.steps;
        let is_done = |number: &usize| place.done >> number & 1 == 1;
        let (done, open): (Vec<_>, Vec<_>) = (0..steps.len()).partition(is_done);
        let must: Vec<_> = open.iter().filter(|step| steps[**step].reply.is_some()).collect();
        if must.is_empty() {
            return true;
        }
        if !self.seen.insert(place) {
            return false;
        }
        // What begins after another has ended cannot come before it.
        let first_end = must.iter().map(|step| steps[**step].end).min().unwrap_or(u64::MAX);
        let last_begin = done.iter().map(|step| steps[*step].begin).max().unwrap_or(0);
        let fits = |step: &Step| step.begin < first_end && step.end > last_begin;
        let mut next = open.into_iter().filter(|step| fits(&steps[*step]));
        next.any(|step| self.outcomes(place, step).into_iter().any(|next| self.succeeds(next)))
    }

    /// The places that one more step can lead to.
    fn outcomes(&self, place: Place, number: usize) -> Vec<Place> {
        let step = &self.steps[number];
        let done = place.done | 1 << number;
        let is_reply = |reply: Reply| step.reply.is_none_or(|seen| seen == reply);
        let (mut places, mut decided_anew) = (Vec::new(), true);
        if let Some(Earlier { step: earlier, may_be_lost }) = step.repeats {
            if place.done >> earlier & 1 == 0 {
                return places;
            }
            if self.steps[earlier].reply.is_some_and(is_reply) {
                let changed = place.changed | (place.changed >> earlier & 1) << number;
                places.push(Place { done, changed, ..place });
            }
            decided_anew = may_be_lost && place.changed >> earlier & 1 == 0;
        }
        let after = place.card.after(step.call, self.limit).filter(|_| decided_anew);
        if let Some((card, _)) = after.filter(|(_, reply)| is_reply(*reply)) {
            let changed = place.changed | u64::from(card != place.card) << number;
            // One that nobody heard of and that changed nothing is no step at all.
            if step.reply.is_some() || card != place.card {
                places.push(Place { done, changed, card });
            }
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Entered, Status};
    use super::*;

    const CARD: Card = Card { exists: true, status: Status::Active, pin: Some(0), tries: 0 };
    const WRONG: Entered = Entered::Pin(1);
    const RIGHT: Entered = Entered::Pin(0);

    /// A step with the code of its answer; an empty one for none.
    fn step(entered: Entered, code: &str, begin: u64, end: u64) -> Step {
        let call = Call::Authorization { entered, is_cash: false, is_forged: false };
        let reply = code.as_bytes().try_into().ok().map(Reply::Code);
        Step { call, reply, begin, end, repeats: None }
    }

    fn holds(steps: &[Step]) -> bool {
        is_linearizable(CARD, Some(3), steps)
    }

    #[test]
    fn one_after_another_the_rules_decide() {
        let two = [step(WRONG, "55", 1, 2), step(WRONG, "55", 3, 4)];
        let third = |code| holds(&[two[0], two[1], step(WRONG, code, 5, 6)]);
        assert!(third("75") && !third("55") && !third("00"));
        let right = |code| holds(&[two[0], two[1], step(RIGHT, code, 5, 6)]);
        assert!(right("00") && !right("75") && !right("55"));
    }

    #[test]
    fn side_by_side_the_order_is_free_but_each_counts_once() {
        let answers = |codes: [&str; 4]| {
            let entered = [WRONG, WRONG, WRONG, RIGHT];
            holds(&[0, 1, 2, 3].map(|at| step(entered[at], codes[at], at as u64, 10)))
        };
        assert!(answers(["55", "75", "55", "75"]));
        assert!(answers(["55", "55", "55", "00"]));
        assert!(answers(["55", "55", "75", "00"]) && answers(["55", "55", "75", "75"]));
        // Nothing is approved after the suspension, and one suspends it.
        assert!(!answers(["75", "75", "55", "75"]) && !answers(["55", "55", "55", "75"]));
    }

    #[test]
    fn one_without_an_answer_may_have_happened() {
        let silent = step(WRONG, "", 1, u64::MAX);
        let two = [step(WRONG, "55", 2, 3), step(WRONG, "75", 4, 5)];
        assert!(holds(&[silent, two[0], two[1]]));
        assert!(!holds(&two));
        // It ended, in a crash, before the others began.
        let both = [step(WRONG, "55", 10, 11), step(RIGHT, "00", 12, 13)];
        let late = [step(WRONG, "55", 14, 15), step(WRONG, "75", 16, 17)];
        let ended = step(WRONG, "", 1, 9);
        assert!(!holds(&[ended, both[0], both[1], late[0], late[1]]));
        assert!(holds(&[silent, both[0], both[1], late[0], late[1]]));
    }

    #[test]
    fn only_what_changed_nothing_can_be_lost() {
        let again = |entered, codes: [&str; 2], may_be_lost| {
            let first = step(entered, codes[0], 1, 2);
            let suspending =
                [3, 5, 7].map(|at| step(WRONG, if at == 7 { "75" } else { "55" }, at, at + 1));
            let repeats = Some(Earlier { step: 0, may_be_lost });
            let second = Step { repeats, ..step(entered, codes[1], 9, 10) };
            holds(&[first, suspending[0], suspending[1], suspending[2], second])
        };
        assert!(again(RIGHT, ["00", "00"], false) && again(RIGHT, ["00", "75"], true));
        assert!(!again(RIGHT, ["00", "75"], false));
        let two = |code, may_be_lost| {
            let repeats = Some(Earlier { step: 0, may_be_lost });
            let first = step(WRONG, "55", 1, 2);
            let second = Step { repeats, ..step(WRONG, code, 3, 4) };
            holds(&[first, second, step(WRONG, "55", 5, 6), step(WRONG, "75", 7, 8)])
        };
        assert!(two("55", true) && two("55", false) && !two("75", true));
    }
}
