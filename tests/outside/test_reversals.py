"""Reversals that say less of their original than its key, beside traffic: what is acknowledged is
refused from then on, whichever of the two comes first."""

import json
import threading
from collections import Counter

import pytest
from messages import CARD_1, CARD_4, authorization, changed, reversal

RACES = 300


def base24(original, changes=None):
    """DE90 of BASE24: MTI, DE37, date and time of the terminal, business date, filler."""
    named = original["t"] + original["37"].replace(" ", "0") + "1121" + "21000000" + "1121" + "0" * 10
    return changed(reversal(original), {"90": named} | (changes or {}))


def without_date(original):
    named = original["t"] + original["11"] + "0" * 10 + original["32"].zfill(11) + "0" * 11
    return changed(reversal(original), {"90": named})


def without_card(original):
    return changed(reversal(original), {"2": None, "3": None, "4": None, "49": None})


def left_filled(original):
    return changed(original, {"37": original["37"].lstrip("0").rjust(12)})


@pytest.mark.parametrize("names", [base24, without_card, lambda one: base24(left_filled(one))],
                         ids=["base24", "without card", "base24, filled in another way"])
def test_a_reversal_that_meets_its_original_never_misses_it(make_switch, names):
    """Sent at the same moment over two connections: either the reversal finds the original, or the
    original is refused."""
    switch = make_switch(link_a='unknown_original = "refuse"', segment_mb=64).start()
    originals = [left_filled(authorization(CARD_4, CARD_4.pin)) for _ in range(RACES)]
    codes = {"0100": [], "0400": []}
    with switch.connect() as paying, switch.connect() as reversing:
        barrier = threading.Barrier(2)

        def race(link, requests):
            for request in requests:
                barrier.wait()
                link.send(request)
                codes[request["t"]].append(link.read().code)
                barrier.wait()

        both = [
            threading.Thread(target=race, args=(paying, originals)),
            threading.Thread(target=race, args=(reversing, [names(one) for one in originals])),
        ]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        pairs = Counter(zip(codes["0100"], codes["0400"], strict=True))
        assert pairs.keys() <= {("00", "00"), ("94", "25")} and pairs.total() == RACES
        again = [changed(one, {"t": "0101"}) for one in originals]
        assert {answer.code for answer in paying.ask_all(again)} == {"94"}


def test_an_original_behind_too_many_others_is_refused_all_the_same_or_not_reversed(make_switch):
    """Of a card the newest 64 transactions are looked at."""
    switch = make_switch().start()
    old, older, *others = [authorization(CARD_4, CARD_4.pin) for _ in range(68)]
    with switch.connect() as link:
        for request in (old, older, *others):
            assert link.ask(request).code == "00"
        for names, near in ((base24, others[10]), (without_date, others[11])):
            assert link.ask(names(near)).code == "00"
            assert link.ask(changed(near, {"t": "0101"})).code == "94"
        # By DE37 it can be forbidden; by DE11 alone it cannot, for it may come again another day.
        assert link.ask(base24(old)).code == "00"
        assert link.ask(changed(old, {"t": "0101"})).code == "94"
        refused = link.ask(without_date(older))
        assert (refused.code, refused.reason) == ("30", "090")
        assert link.ask(changed(older, {"t": "0101"})).code == "00"


def test_what_was_refused_before_it_came_stays_so_after_kill(make_switch):
    switch = make_switch().start()
    named = [base24, without_card, lambda one: changed(reversal(one), {"32": None, "90": (
        one["t"] + one["11"] + one["7"] + "0" * 22)})]
    originals = [authorization(CARD_1, CARD_1.pin) for _ in named]
    with switch.connect() as link:
        for names, original in zip(named, originals, strict=True):
            assert link.ask(names(original)).code == "00"
    switch.kill()
    switch.start()
    with switch.connect() as link:
        for original in originals:
            refused = link.ask(original)
            assert (refused.code, refused.reason) == ("94", "9913")
        assert link.ask(authorization(CARD_1, CARD_1.pin)).code == "00"
    shown = json.loads(switch.done("transaction", "show", CARD_1.token))
    # The one without a card is in no card's history.
    assert [one["trail"] for one in shown[1:]] == [["original unknown"]] * 2
