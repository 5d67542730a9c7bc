"""A wrong clock makes nothing forgotten. The switch runs under libfaketime, which moves its civil
time while it runs and leaves its monotonic time alone."""

import json
import os
import re
import time
from pathlib import Path

import pytest
from bulk import new_card, wait_for_snapshot
from chip import OK, PROFILES, Chip
from messages import CARD_2, CARD_4, authorization, other_pin, reversal
from settings import chip

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
DAY = 86_400
# Longer than the switch takes to look at its clock again.
LOOKED_SECONDS = 2.5


class Clock:
    """The civil time of switches that are started with `words`, as an offset to ours."""

    def __init__(self, path):
        self.path = path
        self.words = [
            "env", f"LD_PRELOAD={LIBRARY}", f"FAKETIME_TIMESTAMP_FILE={path}",
            "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_NO_CACHE=1",
        ]
        self.set(0)

    def set(self, offset):
        draft = self.path.with_suffix(".new")
        draft.write_text(f"{offset:+d}\n")
        os.replace(draft, self.path)


@pytest.fixture
def clock(tmp_path):
    assert LIBRARY, "apt-get install libfaketime"
    return Clock(tmp_path / "clock")


def set_to_1970(clock):
    clock.set(-int(time.time()) + 1_000)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_clock_that_is_set_from_1970_to_now_makes_no_answer_old(make_switch, clock, restarts):
    switch = make_switch()
    set_to_1970(clock)
    switch.start(*clock.words)
    approved, wrong = authorization(CARD_4, CARD_4.pin), authorization(CARD_4, other_pin(CARD_4.pin))
    with switch.connect() as link:
        assert link.ask(approved).code == "00"
        assert link.ask(reversal(approved)).code == "00"
        answer = link.ask(wrong)
        assert answer.code == "55"
    clock.set(0)
    time.sleep(LOOKED_SECONDS)
    with switch.connect() as link:
        # So that the newest record is of now, and only the jump itself tells of the others.
        assert link.ask(authorization(CARD_2, CARD_2.pin)).code == "00"
    if restarts:
        switch.kill()
        switch.start(*clock.words)
    else:
        assert "the clock has jumped" in switch.log()
        assert switch.metric("pinswitch_clock_settled") == 0
    with switch.connect() as link:
        for mti in ("0100", "0101"):
            assert link.ask(dict(approved, t=mti)).code == "94"
            assert link.ask(dict(wrong, t=mti)).raw == answer.raw
    assert switch.show(CARD_4.token)["pin_try_counter"] == 1


def test_a_day_is_a_day_whatever_the_clock_says(make_switch, clock):
    switch = make_switch().start(*clock.words)
    wrong = authorization(CARD_4, other_pin(CARD_4.pin))
    with switch.connect() as link:
        answer = link.ask(wrong)
        for offset in (25 * 3_600, -3 * DAY, 400 * DAY):
            clock.set(offset)
            assert link.ask(dict(wrong, t="0101")).raw == answer.raw
    assert switch.show(CARD_4.token)["pin_try_counter"] == 1


def sync(switch):
    return switch.show(CARD_2.token)["chip_sync"]


def segments(switch):
    return sorted(path.name for path in (switch.data / "journal").glob("*.journal"))


def test_a_clock_that_is_eight_days_ahead_for_seconds_deletes_nothing(make_switch, clock):
    """Neither segments nor the PIN block that waits for a chip; the way back is a jump too."""
    more = "retention_days = 1"
    switch = make_switch(snapshot_mb=1, store=more, visa_chip=chip("visa", "ofpbe = 7"))
    switch.start(*clock.words)
    switch.done("card", "set-pin", CARD_2.token, stdin="5939")
    before = segments(switch)
    clock.set(8 * DAY)
    time.sleep(LOOKED_SECONDS)
    switch.done("seed", "--cards", "30000")
    wait_for_snapshot(switch)
    time.sleep(LOOKED_SECONDS)
    assert set(segments(switch)) > set(before)
    # A start looks for changes that are over at once.
    switch.kill()
    switch.start(*clock.words)
    time.sleep(LOOKED_SECONDS)
    assert sync(switch).startswith("pending")
    clock.set(0)
    card = Chip(PROFILES[0])
    with switch.connect() as link:
        assert link.ask(card.request(pin=OK, amount=100)).code == "00"
    assert sync(switch).startswith("sent")
    assert "PIN change expired" not in switch.log()


@pytest.mark.parametrize("finder", ["sweep", "command"])
def test_a_change_whose_time_is_over_is_in_the_audit_once_whoever_finds_it(
    make_switch, clock, finder
):
    settings = {"json": "true", "store": "clock_settle_seconds = 1"}
    switch = make_switch(visa_chip=chip("visa", "ofpbe = 7"), **settings)
    clock.set(-9 * DAY)
    switch.start(*clock.words)
    switch.done("card", "set-pin", CARD_2.token, stdin="5939")
    assert sync(switch).startswith("pending")
    switch.terminate()
    clock.set(0)
    switch.start(*clock.words)
    time.sleep(LOOKED_SECONDS)
    if finder == "command":
        switch.done("card", "set-pin", CARD_2.token, stdin="5940")
        assert sync(switch).startswith("pending")
    else:
        # The first start came too late to believe its clock; this record makes the next one sure.
        with switch.connect() as link:
            assert link.ask(authorization(CARD_4, CARD_4.pin)).code == "00"
        switch.terminate()
        switch.start(*clock.words)
        time.sleep(LOOKED_SECONDS)
        assert sync(switch).startswith("expired")
    switch.terminate()
    # The log is of one process.
    lines = [json.loads(line) for line in switch.log().splitlines()]
    (line,) = [line for line in lines if line.get("action") == "PIN change expired"]
    assert (line["target"], line["token"]) == ("audit", CARD_2.token)
    switch.start(*clock.words)
    time.sleep(LOOKED_SECONDS)
    assert switch.terminate() == 0 and "PIN change expired" not in switch.log()
    assert re.fullmatch("[0-9a-f]{8}-[0-9a-f]{8}", line["id"])


@pytest.mark.parametrize("settle, deletes", [(3_600, False), (1, True)])
def test_a_start_long_after_the_newest_record_deletes_only_after_a_while(
    make_switch, clock, settle, deletes
):
    """What the clock says may be true, so it is believed in the end."""
    store = f"clock_settle_seconds = {settle}\nretention_days = 1"
    switch = make_switch(snapshot_mb=1, store=store)
    clock.set(-9 * DAY)
    switch.start(*clock.words)
    wrong = authorization(CARD_4, other_pin(CARD_4.pin))
    with switch.connect() as link:
        answer = link.ask(wrong)
    switch.done("seed", "--cards", "20000")
    wait_for_snapshot(switch)
    before = segments(switch)
    switch.terminate()
    clock.set(0)
    switch.start(*clock.words)
    assert "the newest record is more than a day old" in switch.log()
    with switch.connect() as link:
        assert link.ask(dict(wrong, t="0101")).raw == answer.raw
        time.sleep(LOOKED_SECONDS)
        code = link.ask(dict(wrong, t="0101")).code
    tries = switch.show(CARD_4.token)["pin_try_counter"]
    assert (code, tries) == ("55", 2 if deletes else 1)
    # A snapshot lets old segments go.
    more = [new_card() for _ in range(2)]
    switch.add_all(more)
    switch.done("seed", "--cards", "20000", "--remove")
    switch.done("seed", "--cards", "20000")
    wait_for_snapshot(switch, 2)
    time.sleep(LOOKED_SECONDS)
    assert (before[0] not in segments(switch)) == deletes


def test_a_start_before_the_newest_record_is_said_or_refused(make_switch, clock):
    switch = make_switch().start(*clock.words)
    with switch.connect() as link:
        assert link.ask(authorization(CARD_4, other_pin(CARD_4.pin))).code == "55"
    switch.terminate()
    set_to_1970(clock)
    switch.start(*clock.words)
    assert "the clock is behind the newest record" in switch.log()
    assert switch.show(CARD_4.token)["pin_try_counter"] == 1
    switch.terminate()
    switch.configure(store='clock_behind = "refuse"')
    switch.launch(*clock.words)
    assert switch.wait() == 1
    assert "1970-" in switch.log() and "set the clock" in switch.log()
    clock.set(0)
    switch.start(*clock.words)
    history = json.loads(switch.done("transaction", "show", CARD_4.token))
    assert len(history) == 1
