"""Removed cards: gone for good, whatever was in flight, and their tokens and PANs free again."""

import threading
import time
from dataclasses import replace

import pytest
from bulk import (
    SOURCE, Traffic, as_csv, codes, codes_of, either, imported, new_card, refusals, remove, row,
    shown, started, wait_for_snapshot,
)
from link import WAIT_SECONDS
from messages import authorization, other_pin, random_pin


def test_a_removed_card_is_gone_for_show_and_for_requests(either):
    gone, stays = [new_card() for _ in range(3)], new_card()
    imported(either, "cards.csv", as_csv(map(row, [*gone, stays])), 4)
    remove(either, *gone)
    for ended in (None, "kill", "terminate"):
        if ended:
            getattr(started(either), ended)()
        for card in gone:
            result = either.command("card", "show", card.token)
            assert (result.returncode, result.stdout) == (1, "")
            assert "there is no card with this token" in result.stderr
        requests = [authorization(card, pin) for card in gone for pin in (card.pin, None)]
        assert set(codes(either, requests)) == {"14"}
        assert codes_of(either, [stays]) == ["00"]


def test_kill_9_right_after_a_removal_brings_no_card_back(switch):
    cards = [new_card() for _ in range(400)]
    imported(switch, "cards.csv", as_csv(map(row, cards)), len(cards))
    for at in range(0, 400, 100):
        remove(switch, *cards[at : at + 100])
        switch.kill()
        switch.start()
        expected = ["14"] * (at + 100) + ["00"] * (300 - at)
        assert codes_of(switch, cards) == expected


def test_an_unknown_token_is_refused_by_its_place_and_the_others_are_removed(either):
    cards = [new_card() for _ in range(3)]
    imported(either, "cards.csv", as_csv(map(row, cards)), 3)
    one, two, three = (card.token for card in cards)
    result = either.command("card", "remove", "nobody", one, two, "", three, cards[0].pan)
    assert (result.returncode, result.stdout) == (1, "3 cards removed\n")
    reason = "there is no card with this token"
    assert refusals(result, "card") == [(1, reason), (4, reason), (6, reason)]
    assert "3 cards not removed" in result.stderr and cards[0].pan not in result.stderr
    assert codes_of(either, cards) == ["14"] * 3


def test_removal_without_a_token_is_wrong_usage(make_switch):
    switch = make_switch()
    assert switch.command("card", "remove").returncode == 2
    assert not switch.data.exists()


RETURNS = {
    "the same pair": lambda one, two: [one, two],
    "each token with the other PAN": lambda one, two: [
        replace(one, token=two.token), replace(two, token=one.token)
    ],
    "the same PANs, other tokens": lambda one, two: [new_card(pan=one.pan), new_card(pan=two.pan)],
    "the same tokens, other PANs": lambda one, two: [
        new_card(token=one.token), new_card(token=two.token)
    ],
}


@pytest.mark.parametrize("pairing", RETURNS)
def test_token_and_pan_of_a_removed_card_are_free_and_nothing_of_it_is_left(either, pairing):
    old = [new_card(), new_card()]
    imported(either, "old.csv", as_csv(map(row, old)), 2)
    was_running = either.process is not None
    wrong = [authorization(old[0], other_pin(old[0].pin)) for _ in range(3)]
    assert codes(either, wrong) == ["55", "55", "75"]
    assert codes(either, [authorization(old[1], other_pin(old[1].pin))]) == ["55"]
    if not was_running:
        assert either.terminate() == 0
    remove(either, *old)
    new = [replace(card, pin=random_pin(SOURCE, 6)) for card in RETURNS[pairing](*old)]
    # The first has no PIN, the second another one.
    imported(either, "new.csv", as_csv([row(new[0], pin=None), row(new[1])]), 2)
    for ended in (None, "kill", "terminate"):
        if ended:
            getattr(started(either), ended)()
        started(either)
        views = [shown(either, card.token) for card in new]
        assert [view["state"] for view in views] == ["ACTIVE", "ACTIVE"]
        assert [view["pin_try_counter"] for view in views] == [0, 0]
        assert [view["pin_is_set"] for view in views] == [False, True]
        assert [view["last_four"] for view in views] == [card.pan[-4:] for card in new]
        assert codes_of(either, new) == ["70", "00"]
    old_pin = [authorization(replace(new[1], pin=old[1].pin), card.pin) for card in old]
    assert codes(either, old_pin) == ["55", "55"]
    assert codes(either, [authorization(new[0], old[0].pin)]) == ["70"]


def test_a_repeat_has_its_first_answer_after_the_removal_and_after_the_return(switch):
    card = new_card()
    imported(switch, "cards.csv", as_csv([row(card)]), 1)
    pins = [card.pin, other_pin(card.pin), other_pin(card.pin), other_pin(card.pin), card.pin]
    requests = [authorization(card, pin) for pin in pins]
    repeats = [dict(request, t="0101") for request in requests]
    with switch.connect() as link:
        answers = [link.ask(request) for request in requests]
    assert [answer.code for answer in answers] == ["00", "55", "55", "75", "75"]
    answers = [answer.raw for answer in answers]

    def assert_repeated():
        with switch.connect() as link:
            assert [link.ask(repeat).raw for repeat in repeats] == answers

    remove(switch, card)
    assert_repeated()
    switch.kill()
    switch.start()
    assert_repeated()
    imported(switch, "cards.csv", as_csv([row(card)]), 1)
    assert_repeated()
    assert shown(switch, card.token)["pin_try_counter"] == 0
    switch.terminate()
    switch.start()
    assert_repeated()
    assert codes_of(switch, [card]) == ["00"]


class Requests:
    """Requests for one card on one connection, some in flight at a time, until it is gone."""

    def __init__(self, switch, card, pins):
        self.link, self.card, self.pins = switch.connect(), card, pins
        self.said, self.failure = [], None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            deadline = time.monotonic() + WAIT_SECONDS
            while self.said[-20:] != ["14"] * 20:
                assert time.monotonic() < deadline, "the card is never gone"
                requests = [authorization(self.card, pin) for pin in self.pins]
                self.said += [answer.code for answer in self.link.ask_all(requests)]
        except (AssertionError, OSError) as failure:
            self.failure = failure

    def end(self):
        self.thread.join(3 * WAIT_SECONDS)
        self.link.close()
        assert not self.thread.is_alive() and self.failure is None, self.failure
        return self.said


@pytest.mark.parametrize("product, allowed", [
    ("demo-debit", {"00", "55", "75"}), ("demo-nolimit", {"00", "55"}),
])
def test_removal_under_requests_in_flight_answers_each_and_the_store_opens(
    make_switch, product, allowed
):
    switch = make_switch(snapshot_mb=1).start()
    for _ in range(6):
        card = new_card(product=product)
        imported(switch, "cards.csv", as_csv([row(card)]), 1)
        wrong = other_pin(card.pin)
        pins = [[card.pin], [wrong], [card.pin, wrong], [wrong, card.pin] * 10]
        links = [Requests(switch, card, mixed) for mixed in pins]
        time.sleep(SOURCE.uniform(0.01, 0.1))
        remove(switch, card)
        assert codes_of(switch, [card]) == ["14"]
        for said in (link.end() for link in links):
            assert set(said) <= allowed | {"14"}
        # One request at a time: after the first 14 there is nothing else.
        for one in links[:2]:
            assert set(one.said[one.said.index("14") :]) == {"14"}
        switch.kill()
        switch.start()
        assert codes_of(switch, [card]) == ["14"]


def test_cards_that_come_and_go_under_requests_leave_a_store_that_opens(make_switch):
    """One PAN and one token, more than once, with snapshots meanwhile."""
    switch = make_switch(snapshot_mb=1).start()
    cards = [new_card(product="demo-nolimit") for _ in range(2)]
    filler = [new_card() for _ in range(3000)]
    with Traffic(switch) as traffic:
        for turn in range(8):
            pairing = ["the same pair", "each token with the other PAN"][turn % 2]
            pair = RETURNS[pairing](*cards)
            imported(switch, "cards.csv", as_csv(map(row, pair + filler)), 3002)
            requests = [authorization(c, other_pin(c.pin)) for c in pair * 5]
            assert codes(switch, requests) == ["55"] * 10
            remove(switch, *pair, *filler)
    assert traffic.failure is None and traffic.answers > 0
    wait_for_snapshot(switch)
    switch.kill()
    assert set(codes_of(switch, [*cards, *filler[:50]])) == {"14"}
    imported(switch, "cards.csv", as_csv(map(row, cards)), 2)
    assert [shown(switch, card.token)["pin_try_counter"] for card in cards] == [0, 0]
    assert codes_of(switch, cards) == ["00", "00"]


def test_a_token_named_twice_is_removed_once(shared):
    card = new_card()
    imported(shared, "cards.csv", as_csv([row(card)]), 1)
    result = shared.command("card", "remove", card.token, card.token)
    assert (result.returncode, result.stdout) == (1, "1 card removed\n")



@pytest.mark.parametrize("words", [("card", "remove", "x"), ("seed", "--cards", "2", "--remove")])
def test_a_removal_makes_no_store(make_switch, words):
    switch = make_switch()
    result = switch.command(*words)
    assert (result.returncode, result.stdout) == (1, "")
    assert not switch.data.exists()
