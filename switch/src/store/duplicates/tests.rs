//! Answers and reversals in the index: found, refused, forgotten.

use super::shard::{BUCKET_BYTES, Ring, SAME_DIGEST_MAX};
use super::*;
use crate::authorization::Reason;

const KEPT: Kept = Kept { answer: Answer::new(Reason::InvalidPin), durable_at: 7, position: 8 };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// Of the last six digits.
fn trace(number: u128) -> Trace {
    let stan = format!("{:06}", number % 1_000_000);
    Trace::of(b"1121121000", stan.as_bytes().try_into().unwrap())
}

fn key_of(digest: u128, rrn: u32, mti: &[u8; 4]) -> DuplicateKey {
    DuplicateKey { digest, trace: trace(digest), rrn, kind: MessageKind::of(*mti) }
}

fn look(index: &Duplicates, key: DuplicateKey, body: u64, now: Timestamp) -> Look {
    let parts = || panic!("no reversal was in part");
    index.look(&Asked { key, body: BodyDigest(body), rrn: None, parts }, now)
}

fn originals(index: &Duplicates, original: Original, now: Timestamp) -> Originals<'_> {
    index.originals(Named { original, trace: trace(original.digest) }, now)
}

fn key(digest: u128) -> DuplicateKey {
    key_of(digest, 5, b"0100")
}

fn first(look: Look) -> Claim {
    let Look::First(claim) = look else { panic!("{look:?}") };
    claim
}

fn answer(index: &Duplicates, key: DuplicateKey, now: Timestamp) {
    first(look(index, key, 1, now)).answered(KEPT, now);
}

fn original(digest: u128, rrn: Option<u32>, mti: Option<&[u8; 4]>) -> Original {
    Original { digest, rrn, kind: mti.map(|mti| MessageKind::of(*mti)) }
}

#[test]
fn a_repeat_gets_the_answer_and_another_body_does_not() {
    let index = Duplicates::new(1 << 20);
    answer(&index, key(1), at(0));
    let repeat = look(&index, key(1), 1, at(1));
    assert!(matches!(repeat, Look::Repeat(kept) if kept == KEPT));
    assert!(matches!(look(&index, key(1), 2, at(1)), Look::Conflict { .. }));
    for other in [key_of(1, 6, b"0100"), key_of(1, 5, b"0200"), key_of(1, 5, b"0120"), key(2)] {
        drop(first(look(&index, other, 1, at(1))));
    }
    let later = at(24 * 3600);
    assert!(matches!(look(&index, key(1), 1, later), Look::First(_)));
}

#[test]
fn a_repeat_of_one_in_flight_waits() {
    let index = Duplicates::new(1 << 20);
    let claim = first(look(&index, key(1), 1, at(0)));
    let Look::Wait(mut waiting) = look(&index, key(1), 1, at(0)) else { panic!() };
    assert!(waiting.try_recv().is_err());
    assert!(matches!(look(&index, key(1), 2, at(0)), Look::Conflict { .. }));
    claim.answered(KEPT, at(0));
    assert!(matches!(waiting.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    assert!(matches!(look(&index, key(1), 1, at(0)), Look::Repeat(_)));
}

#[test]
fn without_an_answer_the_key_is_free_again() {
    let index = Duplicates::new(1 << 20);
    drop(first(look(&index, key(1), 1, at(0))));
    drop(first(look(&index, key(1), 2, at(0))));
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
            let mut originals = originals(&index, original, at(1));
            assert!(originals.in_flight().is_none());
            assert_eq!(originals.is_known(), is_known, "{original:?}");
            originals.reverse(durable_at);
        }
        let found = look(&index, key(1), 1, at(2));
        match is_known {
            true => assert!(matches!(found, Look::Conflict { durable_at: 10 })),
            false => assert!(matches!(found, Look::Repeat(_))),
        }
        let reversal = look(&index, key_of(1, 5, b"0400"), 1, at(2));
        assert!(matches!(reversal, Look::Repeat(_)));
    }
}

#[test]
fn what_was_reversed_before_it_came_is_refused() {
    let tombstone = |original| {
        let index = Duplicates::new(1 << 20);
        originals(&index, original, at(0)).reverse(9);
        originals(&index, original, at(1)).reverse(10);
        let tombstones = index.tombstones_with(original.digest);
        assert_eq!(tombstones.0.with_digest(halves(original.digest)).count(), 1);
        drop(tombstones);
        index
    };
    let refused = |index: &Duplicates, key, now| {
        matches!(look(index, key, 1, now), Look::Conflict { durable_at: 10 })
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
    let refused = |now| matches!(look(&index, key(1), 1, now), Look::Conflict { .. });
    originals(&index, original, at(23 * 3_600)).reverse(9);
    assert!(refused(at(24 * 3_600 + 1)) && refused(at(47 * 3_600 - 1)));
    // Another reversal renews it.
    originals(&index, original, at(46 * 3_600)).reverse(10);
    assert!(refused(at(47 * 3_600 + 1)) && refused(at(70 * 3_600 - 1)));
    assert!(!refused(at(70 * 3_600)));
}

/// Nothing but DE37 differs: they all have one hash.
#[test]
fn requests_that_differ_in_de37_only_do_not_pile_up() {
    let index = Duplicates::new(1 << 20);
    let key = |rrn| key_of(1, rrn, b"0100");
    originals(&index, original(1, Some(1), None), at(0)).reverse(9);
    for rrn in 2..100 {
        answer(&index, key(rrn), at(0));
    }
    let same = index.shard(trace(1)).answers.with_digest(halves(1)).count();
    assert_eq!(same, SAME_DIGEST_MAX);
    assert!(matches!(look(&index, key(99), 1, at(1)), Look::Repeat(_)));
    assert!(matches!(look(&index, key(1), 1, at(1)), Look::Conflict { .. }));
}

#[test]
fn reversals_that_differ_in_de37_only_push_none_out() {
    for count in [15, 16, 17, 1_000] {
        let index = Duplicates::new(1 << 24);
        for rrn in 1..=count {
            let original = original(1, Some(rrn), None);
            originals(&index, original, at(rrn.into())).reverse(rrn.into());
        }
        let now = at(2_000);
        let refused = |rrn| {
            let found = look(&index, key_of(1, rrn, b"0100"), 1, now);
            matches!(found, Look::Conflict { durable_at } if durable_at > 0)
        };
        assert!((1..=count).all(refused), "{count}");
        let same = index.tombstones_with(1).0.with_digest(halves(1)).count();
        assert!(same <= SAME_DIGEST_MAX);
        // Where they are too many, one that was not named is refused with them.
        assert_eq!(refused(count + 1), count > 16);
        // What is acknowledged is not refused.
        let advice = look(&index, key_of(1, 1, b"0120"), 1, now);
        assert!(matches!(advice, Look::First(_)));
    }
}

#[test]
fn no_number_of_answers_makes_a_reversal_forgotten() {
    let index = Duplicates::new(1 << 20);
    let digest = |number: u128| number.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    originals(&index, original(digest(0), Some(5), None), at(0)).reverse(9);
    for number in 1..10 * index.entries_max() {
        answer(&index, key(digest(number as u128)), at(1));
    }
    let found = look(&index, key(digest(0)), 1, at(2));
    assert!(matches!(found, Look::Conflict { durable_at: 9 }));
}

#[test]
fn one_network_does_not_make_another_forget() {
    let networks = ["loud".into(), "quiet".into()];
    let index = ByNetwork::new(&networks, 1 << 20);
    let of = |network: &str| index.of(network).unwrap();
    answer(of("quiet"), key(1), at(0));
    originals(of("quiet"), original(2, Some(5), None), at(0)).reverse(9);
    for number in 1..100_000 {
        answer(of("loud"), key(number), at(1));
        originals(of("loud"), original(number, Some(6), None), at(1)).reverse(9);
    }
    let found = |number| look(of("quiet"), key(number), 1, at(2));
    assert!(matches!(found(1), Look::Repeat(_)));
    assert!(matches!(found(2), Look::Conflict { .. }));
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
    assert!(matches!(look(&index, key(1), 1, at(1)), Look::Repeat(_)));
    assert_eq!(index.window(at(1)), WINDOW);
}

#[test]
fn a_reversal_of_one_in_flight_waits() {
    let index = Duplicates::new(1 << 20);
    let claim = first(look(&index, key(1), 1, at(0)));
    let original = original(1, None, Some(b"0100"));
    let waiting = originals(&index, original, at(0)).in_flight();
    assert!(waiting.unwrap().try_recv().is_err());
    assert!(originals(&index, Original { digest: 2, ..original }, at(0)).in_flight().is_none());
    claim.answered(KEPT, at(0));
    let mut originals = originals(&index, original, at(0));
    assert!(originals.in_flight().is_none() && originals.is_known());
}

#[test]
fn the_oldest_is_dropped_when_there_is_no_room() {
    let index = Duplicates::new(0);
    let room = index.entries_max() / SHARDS;
    let same_shard =
        |number: usize| DuplicateKey { trace: trace(0), ..key((number * SHARDS) as u128) };
    for number in 0..=room {
        let now = at(i64::try_from(number).unwrap() * 10);
        answer(&index, same_shard(number), now);
    }
    let now = at(1_000);
    let kept = |number| matches!(look(&index, same_shard(number), 1, now), Look::Repeat(_));
    assert!((1..=room).all(kept));
    assert_eq!(index.window(now), Duration::from_secs(1_000));
    drop(first(look(&index, same_shard(0), 1, now)));
}

/// What README and demo.toml promise of the default.
#[test]
fn the_default_budget_holds_2_9_million_answers() {
    assert_eq!(size_of::<Entry>(), 72);
    let index = Duplicates::new(256 << 20);
    let entries = index.entries_max();
    assert!((2_900_000..3_000_000).contains(&entries), "{entries}");
    let reversals: usize = index.tombstones().map(|part| part.0.entries_max).sum();
    assert!((190_000..200_000).contains(&reversals), "{reversals}");
}

#[test]
fn its_memory_is_within_the_budget_and_its_tables_never_grow() {
    let budget = 4 << 20;
    let index = Duplicates::new(budget);
    let room = |index: &Duplicates| {
        let of = |ring: &Ring| {
            let (entries, buckets) = (ring.entries.capacity(), ring.numbers.num_buckets());
            (entries * size_of::<Entry>(), buckets * BUCKET_BYTES)
        };
        let answers = index.shards().map(|shard| of(&shard.answers));
        let tombstones = index.tombstones().map(|part| of(&part.0));
        answers.chain(tombstones).fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1))
    };
    let before = room(&index);
    assert!((budget * 3 / 4..=budget).contains(&(before.0 + before.1)), "{before:?}");
    for number in 0..50 * index.entries_max() {
        // Spread like a digest.
        let key = key((number as u128).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835));
        let now = at(i64::try_from(number).unwrap() / 1_000);
        answer(&index, key, now);
        originals(&index, original(key.digest, Some(6), None), now).reverse(1);
    }
    assert_eq!(room(&index), before);
    assert!(index.shards().all(|shard| shard.in_flight.is_empty()));
}

fn sought(number: u128, rrn: Option<[u8; 12]>) -> Sought {
    let stan = format!("{:06}", number % 1_000_000);
    Sought {
        version: 0,
        kind: Some(MessageKind::of(*b"0100")),
        card: None,
        stan: Some(stan.as_bytes().try_into().unwrap()),
        transmission_time: Some(*b"1121121000"),
        rrn,
        acquirer: [0; 11],
    }
}

/// A reversal that names a part of the key.
#[test]
fn what_is_reversed_in_part_is_refused() {
    let index = Duplicates::new(1 << 20);
    let original = original(9, Some(Original::IN_PART), Some(b"0100"));
    let in_part = InPart { original, sought: sought(1, None), searched: 8 };
    let reverse = |in_part: &InPart| index.reverse_in_part(in_part, false, (9, at(0)));
    let claim = first(look(&index, key(1), 1, at(0)));
    assert!(!reverse(&in_part), "it may be the one that is being answered");
    let other = InPart { original: Original { digest: 10, ..original }, ..in_part };
    assert!(reverse(&InPart { sought: sought(2, None), ..other }));
    // What was forbidden for a moment is not any more.
    let asked = |key, digest| {
        let part = DuplicateKey { digest, rrn: Original::IN_PART, ..key };
        let other = DuplicateKey { digest: 100, ..part };
        Asked { key, body: BodyDigest(1), rrn: None, parts: move || [other, part, other] }
    };
    drop(claim);
    first(index.look(&asked(key(1), 9), at(0))).answered(KEPT, at(0));
    assert!(reverse(&in_part), "it was found to be another one");
    let late = InPart { searched: 7, ..in_part };
    assert!(!reverse(&late), "it was answered since");
    let card_since = index.reverse_in_part(&in_part, true, (9, at(0)));
    assert!(!card_since, "its card has paid since");
    assert!(reverse(&in_part));
    let found = index.look(&asked(key_of(1, 6, b"0100"), 9), at(1));
    assert!(matches!(found, Look::Conflict { durable_at: 9 }));
    drop(first(index.look(&asked(key_of(1, 6, b"0100"), 8), at(1))));
    // A start sees that there are some.
    let again = Duplicates::new(1 << 20);
    again.restore(&mut vec![Restored::Reversal { original, at: at(0) }], at(1));
    let found = again.look(&asked(key(1), 9), at(1));
    assert!(matches!(found, Look::Conflict { durable_at: 0 }));
}

/// Before its answer is there, however DE37 is filled up.
#[test]
fn one_in_flight_is_found_by_its_de37() {
    let index = Duplicates::new(1 << 20);
    let rrn = Some(*b"   123456789");
    let asked = Asked { key: key(1), body: BodyDigest(1), rrn, parts: || panic!() };
    let claim = first(index.look(&asked, at(0)));
    let by =
        |rrn: &[u8; 12]| Sought { stan: None, transmission_time: None, ..sought(1, Some(*rrn)) };
    assert!(index.in_flight(&by(b"000123456789")).is_some());
    assert!(index.in_flight(&by(b"123456789   ")).is_some());
    assert!(index.in_flight(&by(b"000123456780")).is_none());
    drop(claim);
    assert!(index.in_flight(&by(b"000123456789")).is_none());
}

#[test]
fn what_a_trace_may_be_is_bounded() {
    let index = Duplicates::new(1 << 20);
    let sought = sought(7, None);
    for number in 0..=CANDIDATES_MAX {
        let key = DuplicateKey { trace: trace(7), ..key(number as u128) };
        answer(&index, key, at(0));
        let found = index.candidates(&sought, trace(7), at(1)).map(|found| found.len());
        assert_eq!(found, Some(number + 1).filter(|count| *count <= CANDIDATES_MAX));
    }
    assert_eq!(index.candidates(&sought, trace(8), at(1)).unwrap().len(), 0);
    assert_eq!(index.candidates(&sought, trace(7), at(24 * 3_600)).unwrap().len(), 0);
    let sought = Sought { kind: Some(MessageKind::of(*b"0200")), ..sought };
    assert_eq!(index.candidates(&sought, trace(7), at(1)).unwrap().len(), 0);
}

#[test]
fn a_trace_is_of_minute_second_and_stan() {
    let of = |time: &[u8; 10], stan: &[u8; 6]| Trace::of(time, stan);
    assert_eq!(of(b"1121121000", b"000001"), of(b"0102031000", b"000001"));
    let others =
        [(b"1121121001", b"000001"), (b"1121121100", b"000001"), (b"1121121000", b"999999")];
    for (time, stan) in others {
        assert_ne!(of(time, stan), of(b"1121121000", b"000001"));
    }
    assert!(of(b"1121125959", b"123456").has_stan(b"123456"));
    assert!(!of(b"1121125959", b"123456").has_stan(b"123457"));
    assert!(of(b"112112????", b"??????").has_stan(b"??????"), "also what is no digits");
}
