"""The checker of the crash test can fail: histories that no right switch could have made are
reported, each for what is wrong with it, and all that one could have made are accepted."""

import itertools
import random

import pytest
from possible import ACTIVATION, DONE, RIGHT, WRONG, Impossible, PossibleCard, State


def played(*exchanges, limit=3):
    """A card after exchanges one by one: (key, kind, code)."""
    card = PossibleCard(limit)
    for key, kind, code in exchanges:
        card.sent(key, kind)
        card.answered(key, code)
    return card


def wrong_pins(*codes, limit=3):
    return played(*((f"w{n}", WRONG, code) for n, code in enumerate(codes)), limit=limit)


def test_wrong_pins_one_by_one():
    card = wrong_pins("55", "55", "75", "75")
    card.crashed()
    card.shown(3, True)


@pytest.mark.parametrize("codes", [["75"], ["55", "75"], ["55", "55", "55"], ["00"]])
def test_a_wrong_sequence_of_answers_is_reported(codes):
    with pytest.raises(Impossible, match="cannot be answered"):
        wrong_pins(*codes)


# After a crash.


@pytest.mark.parametrize("tries", [0, 1])
def test_a_forgotten_wrong_pin_is_reported(tries):
    card = wrong_pins("55", "55")
    card.crashed()
    with pytest.raises(Impossible, match=f"shows {tries} tries"):
        card.shown(tries, False)


def test_a_forgotten_wrong_pin_is_reported_by_the_answers_alone():
    card = wrong_pins("55", "55")
    card.crashed()
    card.sent("next", WRONG)
    with pytest.raises(Impossible, match="next, wrong PIN, cannot be answered 55"):
        card.answered("next", "55")


def test_a_forgotten_suspension_is_reported():
    card = wrong_pins("55", "55", "75")
    card.crashed()
    with pytest.raises(Impossible):
        card.shown(3, False)


def test_a_counter_that_comes_back_after_an_approval_is_reported():
    card = played(("w", WRONG, "55"), ("x", WRONG, "55"), ("r", RIGHT, "00"))
    card.crashed()
    with pytest.raises(Impossible):
        card.shown(2, False)


@pytest.mark.parametrize("unanswered", [1, 4])
def test_unanswered_wrong_pins_count_or_do_not(unanswered):
    for tries in range(unanswered + 3):
        card = wrong_pins("55", limit=None)
        for number in range(unanswered):
            card.sent(f"u{number}", WRONG)
        card.crashed()
        if 1 <= tries <= unanswered + 1:
            card.shown(tries, False)
        else:
            with pytest.raises(Impossible):
                card.shown(tries, False)


def test_nothing_takes_effect_between_a_crash_and_the_next_sending():
    card = PossibleCard(3)
    card.sent("w", WRONG)
    card.crashed()
    card.shown(0, False)
    card.crashed()
    with pytest.raises(Impossible):
        card.shown(1, False)


def test_what_others_were_answered_on_stays():
    """The 75 shows that the first wrong PIN had counted."""
    def after_a_crash():
        card = PossibleCard(2)
        card.sent("lost", WRONG)
        card.sent("w", WRONG)
        card.answered("w", "75")
        card.crashed()
        return card

    card = after_a_crash()
    card.shown(2, True)
    card.sent("lost", WRONG)
    card.answered("lost", "55")
    card = after_a_crash()
    card.sent("lost", WRONG)
    with pytest.raises(Impossible, match="lost, wrong PIN, cannot be answered 75"):
        card.answered("lost", "75")


# Repeats.


def test_a_repeat_of_an_answered_request_that_counts_is_reported():
    card = wrong_pins("55", limit=None)
    card.crashed()
    card.sent("w0", WRONG)
    card.answered("w0", "55")
    with pytest.raises(Impossible):
        card.shown(2, False)


@pytest.mark.parametrize("repeats", [1, 5])
def test_repeats_of_an_unanswered_request_count_once_together(repeats):
    for tries in range(3):
        card = PossibleCard(None)
        for _ in range(repeats):
            card.sent("w", WRONG)
            card.crashed()
            card.sent("w", WRONG)
        card.answered("w", "55")
        if tries == 1:
            card.shown(tries, False)
        else:
            with pytest.raises(Impossible):
                card.shown(tries, False)


@pytest.mark.parametrize("code, raw", [("55", b"another DE38"), ("75", b"bytes")])
@pytest.mark.parametrize("crashes", [False, True])
def test_another_answer_to_a_repeat_is_reported(crashes, code, raw):
    card = PossibleCard(3)
    card.sent("w", WRONG)
    card.answered("w", "55", b"bytes")
    if crashes:
        card.crashed()
    card.sent("w", WRONG)
    card.answered("w", "55", b"bytes")
    with pytest.raises(Impossible, match="w was answered"):
        card.answered("w", code, raw)


# Suspension.


@pytest.mark.parametrize("crashes", [False, True])
def test_an_approval_after_a_suspension_is_reported(crashes):
    card = wrong_pins("55", "55", "75")
    if crashes:
        card.crashed()
    card.sent("r", RIGHT)
    with pytest.raises(Impossible, match="r, right PIN, cannot be answered 00"):
        card.answered("r", "00")


def test_an_approval_that_had_been_sent_before_the_suspension_is_reported_too():
    """It would have set the counter to zero, and then the third wrong PIN would be a 55."""
    card = wrong_pins("55", "55")
    card.sent("r", RIGHT)
    card.sent("w", WRONG)
    card.answered("w", "75")
    with pytest.raises(Impossible):
        card.answered("r", "00")


def test_an_activation_ends_a_suspension():
    card = wrong_pins("55", "55", "75")
    card.sent("a", ACTIVATION)
    card.answered("a", DONE)
    card.shown(0, False)
    card.sent("r", RIGHT)
    card.answered("r", "00")


@pytest.mark.parametrize("tries, suspended", [(0, False), (3, True)])
def test_an_activation_without_an_answer_may_have_happened(tries, suspended):
    card = wrong_pins("55", "55", "75")
    card.sent("a", ACTIVATION)
    card.crashed()
    card.shown(tries, suspended)
    assert card.states == {State(tries, suspended)}
    card.sent("r", RIGHT)
    card.answered("r", "75" if suspended else "00")


def test_a_forgotten_activation_is_reported():
    card = wrong_pins("55", "55", "75")
    card.sent("a", ACTIVATION)
    card.answered("a", DONE)
    card.crashed()
    with pytest.raises(Impossible):
        card.shown(3, True)


# The order.


@pytest.mark.parametrize("tries", [0, 1])
def test_of_two_side_by_side_either_may_be_first(tries):
    card = PossibleCard(3)
    card.sent("w", WRONG)
    card.sent("r", RIGHT)
    card.answered("r", "00")
    card.answered("w", "55")
    card.shown(tries, False)


def test_of_two_one_after_the_other_the_first_is_first():
    card = played(("r", RIGHT, "00"), ("w", WRONG, "55"))
    with pytest.raises(Impossible):
        card.shown(0, False)


def random_history(source):
    """Events of up to four requests: (name, key) for "sent", "answered" and one "crash"."""
    kinds = {f"k{n}": source.choice([WRONG, WRONG, RIGHT, ACTIVATION]) for n in range(4)}
    events, sent, open_keys = [], list(kinds), []
    while sent or open_keys:
        if sent and (not open_keys or source.random() < 0.6):
            open_keys.append(sent.pop())
            events.append(("sent", open_keys[-1]))
        elif source.random() < 0.15:
            open_keys.clear()
            events.append(("crash", None))
        else:
            open_keys.remove(key := source.choice(open_keys))
            events.append(("answered", key))
    return kinds, [*events, ("crash", None)]


def explanations(kinds, events, limit):
    """By trying every order: {(answers, tries, suspended)} of what the events may have shown."""
    begins = {key: at for at, (name, key) in enumerate(events) if name == "sent"}
    answered = {key: at for at, (name, key) in enumerate(events) if name == "answered"}
    crashes = [at for at, (name, _) in enumerate(events) if name == "crash"]
    ends = {key: answered.get(key, min(c for c in crashes if c > begins[key])) for key in begins}
    optional = [key for key in kinds if key not in answered]
    found = set()
    for count in range(len(optional) + 1):
        for missing in itertools.combinations(optional, count):
            for order in itertools.permutations(kinds.keys() - set(missing)):
                pairs = itertools.combinations(order, 2)
                if any(ends[later] < begins[earlier] for earlier, later in pairs):
                    continue
                found.add(one_by_one([(key, kinds[key]) for key in order], answered, limit))
    return found


def one_by_one(order, answered, limit):
    tries, suspended, answers = 0, False, {}
    for key, kind in order:
        if kind == ACTIVATION:
            tries, suspended, answers[key] = 0, False, DONE
        elif suspended:
            answers[key] = "75"
        elif kind == RIGHT:
            tries, answers[key] = 0, "00"
        else:
            tries += 1
            suspended = tries == limit
            answers[key] = "75" if suspended else "55"
    said = tuple(sorted((key, code) for key, code in answers.items() if key in answered))
    return said, tries, suspended


def is_possible(kinds, events, limit, said, shown):
    card = PossibleCard(limit)
    try:
        for name, key in events:
            if name == "sent":
                card.sent(key, kinds[key])
            elif name == "answered":
                card.answered(key, said[key])
            else:
                card.crashed()
        card.shown(*shown)
    except Impossible:
        return False
    return True


@pytest.mark.parametrize("limit", [1, 2, 3, None])
def test_what_is_possible_is_what_some_order_explains(limit):
    """Against a search of every order, for all answers and all states that there could be."""
    source = random.Random(f"orders {limit}")
    for _ in range(60):
        kinds, events = random_history(source)
        expected = explanations(kinds, events, limit)
        keys = [key for name, key in events if name == "answered"]
        codes = [{ACTIVATION: [DONE], RIGHT: ["00", "75"], WRONG: ["55", "75"]}[kinds[k]]
                 for k in keys]
        for answers in itertools.product(*codes):
            said = dict(zip(keys, answers))
            for shown in itertools.product(range(5), [False, True]):
                history = tuple(sorted(said.items())), *shown
                assert is_possible(kinds, events, limit, said, shown) == (history in expected), (
                    kinds, events, history
                )
