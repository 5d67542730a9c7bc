"""Events and transactions as a reader sees them: in order, each at least once, whatever happens to
the switch and to the reader.

Environment: PINSWITCH_CRASH_ROUNDS and PINSWITCH_CRASH_SEED as in `test_crash.py`."""

import itertools
import json
import os
import random
import threading
import time

from bulk import new_card
from messages import CARD_1, CARD_4, authorization, other_pin

ROUNDS = int(os.environ.get("PINSWITCH_CRASH_ROUNDS", "5"))
SEED = int(os.environ.get("PINSWITCH_CRASH_SEED") or random.SystemRandom().randrange(10**9))
SUSPENDED = "cardtransition.state.suspended"
TRANSACTION = "transaction.authorization"
ISSUED, ACTIVATED = "cardtransition.fulfillment.issued", "cardtransition.state.activated"
REMOVED = "cardactions.card.removed"
DEMO = {"kind": "switch", "name": "demo"}
# Only what is on disk is told: records are there within 10 ms.
SYNCED_SECONDS = 0.2


def said(switch, command):
    return json.loads(switch.say(json.dumps(command)))


def page(switch, after=None, count=100, reader=None):
    asked = {"after": after, "reader": reader, "count": count}
    events = said(switch, {"events": asked})["events"]
    return events["events"], events["next"]


def all_events(switch, count=100):
    found, after = [], None
    while True:
        events, after = page(switch, after, count)
        found += events
        if after is None:
            return found


def acknowledge(switch, reader, through):
    return said(switch, {"acknowledge": {"reader": reader, "through": through}})


def refusal(answer):
    return answer["refused"]["text"]


def suspend(link, card):
    return [link.ask(authorization(card, other_pin(card.pin))) for _ in range(3)]


def test_a_suspension_is_told_with_the_transaction_that_caused_it(switch):
    with switch.connect() as link:
        assert [answer.code for answer in suspend(link, CARD_1)] == ["55", "55", "75"]
    time.sleep(SYNCED_SECONDS)
    everything = [json.loads(line) for line in switch.done("events").splitlines()]
    # The cards of the demo were issued and activated before.
    at_start = [event for event in everything if event.get("actor") == DEMO]
    assert [event["type"] for event in at_start] == [ISSUED, ACTIVATED] * 4
    events = everything[len(at_start):]
    assert [event["type"] for event in events] == [TRANSACTION] * 3 + [SUSPENDED]
    assert [event["id"] for event in events] == sorted(event["id"] for event in events)
    last, told = events[2:]
    assert told["transaction_id"] == last["transaction"]["id"] == told["id"][:17]
    assert told["actor"] == {"kind": "network", "name": "net"}
    assert told["before"] == {"state": "ACTIVE", "reason_code": "00"}
    assert told["after"] == {"state": "SUSPENDED", "reason_code": "22"}
    assert (told["card_token"], told["pan"]) == (CARD_1.token, "476134______0019")
    assert told["expiration"] == "2912" and told["pin_is_set"] is True
    # It outlives its card, and a restart.
    switch.done("card", "remove", CARD_1.token)
    switch.kill()
    switch.start()
    again = [json.loads(line) for line in switch.done("events").splitlines()]
    assert again[:len(everything)] == everything
    # The demo has its card again.
    removed, *rest = again[len(everything):]
    assert [event["type"] for event in rest] == [ISSUED, ACTIVATED]
    assert (removed["type"], removed["card_token"]) == (REMOVED, CARD_1.token)
    assert removed["actor"]["kind"] == "user" and removed["after"] is None
    after = switch.done("events", "--after", events[1]["id"], "--count", "1")
    assert json.loads(after) == events[2]


def test_what_is_not_there_yet_is_not_read_and_not_acknowledged(switch):
    with switch.connect() as link:
        suspend(link, CARD_1)
    time.sleep(SYNCED_SECONDS)
    events = all_events(switch)
    refused = switch.command("events", "--reader", "one", "--acknowledge", "00000009-00000000-00")
    assert refused.returncode == 1 and "no event 00000009-00000000-00 yet" in refused.stderr
    beyond = switch.command("events", "--after", "00000009-00000000-00")
    assert beyond.returncode == 1 and "no event 00000009-00000000-00 yet" in beyond.stderr
    for wrong in ("nonsense", "1-2-3", events[0]["id"].upper() + "0"):
        assert "expected an id" in refusal(acknowledge(switch, "one", wrong))
    for name in ("", "a b", "x" * 65, "../x"):
        assert "reader: expected" in refusal(acknowledge(switch, name, events[0]["id"]))
    unknown = switch.done("events", "--reader", "two").splitlines()
    assert [json.loads(line) for line in unknown] == events
    # What it has never read costs a reader nothing but its own.
    assert acknowledge(switch, "one", events[-1]["id"]) == "done"
    assert acknowledge(switch, "one", events[0]["id"]) == "done"
    assert switch.done("events", "--reader", "one") == ""
    assert acknowledge(switch, "two", events[-3]["id"]) == "done"
    behind = switch.done("events", "--reader", "two").splitlines()
    assert [json.loads(line) for line in behind] == events[-2:]
    switch.done("events", "--reader", "two", "--forget")
    assert all_events(switch) == events
    for number in range(31):
        assert acknowledge(switch, f"reader-{number}", events[0]["id"]) == "done"
    assert "32 readers already" in refusal(acknowledge(switch, "more", events[0]["id"]))
    switch.done("events", "--reader", "reader-7", "--forget")
    assert acknowledge(switch, "more", events[0]["id"]) == "done"
    switch.kill()
    switch.start()
    assert "32 readers already" in refusal(acknowledge(switch, "another", events[0]["id"]))


def fill(switch, seconds=60, until=lambda: False):
    """Changes of a card, many at once, until there is enough."""
    deadline = time.monotonic() + seconds
    with switch.connect() as link:
        while not until():
            assert time.monotonic() < deadline
            link.ask_all([authorization(CARD_4, CARD_4.pin) for _ in range(500)])


def test_what_a_slow_reader_has_not_acknowledged_stays_while_there_is_room(make_switch):
    """Snapshots alone make nothing go. What goes without room is tested beside the store."""
    switch = make_switch(
        snapshot_mb=1, store="retention_gb = 1\nunread_events_gb_max = 0\nretention_days = 1",
    ).start()
    with switch.connect() as link:
        suspend(link, CARD_1)
    time.sleep(SYNCED_SECONDS)
    first = all_events(switch)
    assert acknowledge(switch, "slow", first[0]["id"]) == "done"
    assert switch.metric("pinswitch_events_dropped_unread_total") == 0
    fill(switch, until=lambda: len(list((switch.data / "snapshots").glob("*.snap"))) == 2)
    assert switch.metric("pinswitch_events_dropped_unread_total") == 0
    assert page(switch, first[0]["id"], len(first) - 1)[0] == first[1:]
    with switch.connect() as link:
        assert link.ask(authorization(CARD_4, CARD_4.pin)).code == "00"


class Reader(threading.Thread):
    """Goes on behind what was acknowledged before, reads and acknowledges, until the switch is gone;
    it remembers what it was told."""

    def __init__(self, switch, source, seen):
        super().__init__()
        self.switch, self.source, self.seen = switch, source, seen
        self.acknowledged = None

    def run(self):
        after = None
        try:
            while True:
                name = None if after else "reader"
                events, _ = page(self.switch, after, self.source.choice([1, 7, 200]), name)
                for event in events:
                    known = self.seen.setdefault(event["id"], event)
                    assert known == event, (known, event)
                if events:
                    after = events[-1]["id"]
                    if self.source.random() < 0.7:
                        assert acknowledge(self.switch, "reader", after) == "done"
                        self.acknowledged = after
        except (OSError, ValueError):
            pass


def test_kill_9_while_events_are_read_and_acknowledged(make_switch):
    print(f"PINSWITCH_CRASH_SEED={SEED} PINSWITCH_CRASH_ROUNDS={ROUNDS}")
    source = random.Random(SEED)
    switch = make_switch(snapshot_mb=1, segment_mb=1).start()
    cards = [new_card() for _ in range(6)]
    switch.add_all(cards)
    seen, answered, acknowledged = {}, [], ""
    for _ in range(ROUNDS):
        reader = Reader(switch, random.Random(source.random()), seen)
        reader.start()
        kill = threading.Timer(source.uniform(0.2, 1.2), switch.process.kill)
        kill.start()
        try:
            with switch.connect() as link:
                for card in itertools.cycle(cards):
                    codes = [answer.code for answer in suspend(link, card)]
                    # Unless it was suspended already, when the switch was killed.
                    if codes[0] == "55" and codes[-1] == "75":
                        answered.append(card.token)
                    switch.asked({"activate": {"token": card.token}})
        except (OSError, ValueError, AssertionError):
            pass
        kill.join()
        reader.join()
        acknowledged = reader.acknowledged or acknowledged
        assert switch.wait() == -9
        switch.start()
    told = all_events(switch)
    ids = [event["id"] for event in told]
    assert ids == sorted(set(ids))
    assert all(seen.get(event["id"], event) == event for event in told)
    # What the reader saw is there, and nothing else: it was on disk when it was told.
    assert set(seen) <= set(ids)
    # Of what is acknowledged it has seen everything.
    assert {one for one in ids if one <= acknowledged} <= set(seen)
    for card in cards:
        of_card = [e for e in told if e["type"] == SUSPENDED and e["card_token"] == card.token]
        times = [event["time"] for event in of_card]
        assert times == sorted(times)
        assert len(of_card) >= answered.count(card.token)
    assert answered and acknowledged, (len(answered), acknowledged)
    behind, _ = page(switch, reader="reader", count=1)
    assert all(event["id"] > acknowledged for event in behind)
