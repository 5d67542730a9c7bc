"""Durable before the reply, seen from the operating system: the system calls between the read of
a request and the write of its answer."""

import time

import pytest
import settings
import tracing
from chip import OK, PROFILES, Chip
from messages import CARD_1, CARD_2, CARD_3, CARD_4, authorization, other_pin, reversal

# Longer than the 10 ms after which the journal is synced anyway, so that nothing is left to sync.
QUIET_SECONDS = 0.06


def trace(switch, tmp_path, requests):
    """Asks one by one; the codes, and the calls from each request to its answer."""
    path = tmp_path / "strace"
    codes, spans = [], []
    with switch.connect() as link:
        link.echo()
        with tracing.traced(switch, path, "-e", f"trace={tracing.CALLS}"):
            for request in requests:
                time.sleep(QUIET_SECONDS)
                codes.append(link.ask(request).code)
            time.sleep(QUIET_SECONDS)
    calls = tracing.calls(path.read_text())
    for request in (call for call in calls if call.is_request):
        answer = next(c for c in calls if c.is_answer and c.began >= request.ended)
        spans.append([c for c in calls if c.began >= request.ended and c.ended <= answer.began])
    assert len(spans) == len(codes)
    return codes, spans


def synced(span):
    """Whether the record was written to the journal and then synced, all within the span."""
    writes = [call for call in span if call.is_journal_write]
    syncs = [call for call in span if call.is_journal_sync and call.result == 0]
    return any(sync.began >= write.ended for write in writes for sync in syncs)


def written(span):
    return any(call.is_journal_write for call in span)


def wrong_pins():
    return [authorization(card, other_pin(card.pin)) for card in (CARD_1, CARD_2, CARD_3) * 3]


@pytest.mark.parametrize("sync", ["state", "all"])
def test_the_journal_is_synced_between_a_wrong_pin_and_its_answer(make_switch, tmp_path, sync):
    switch = make_switch(sync=sync).start()
    codes, spans = trace(switch, tmp_path, wrong_pins())
    assert codes == ["55"] * 6 + ["75"] * 3
    assert all(map(synced, spans))


def test_the_journal_is_synced_before_the_answer_that_resets_the_counter(switch, tmp_path):
    requests = []
    for card in (CARD_1, CARD_2, CARD_3):
        requests += [authorization(card, other_pin(card.pin)), authorization(card, card.pin)]
    codes, spans = trace(switch, tmp_path, requests)
    assert codes == ["55", "00"] * 3
    assert all(map(synced, spans))


def test_the_journal_is_synced_before_a_reversal_is_acknowledged(switch, tmp_path):
    known = [authorization(CARD_4, CARD_4.pin) for _ in range(5)]
    with switch.connect() as link:
        assert link.codes(known) == ["00"] * 5
    unknown = [authorization(CARD_4, CARD_4.pin) for _ in range(5)]
    codes, spans = trace(switch, tmp_path, [reversal(request) for request in known + unknown])
    assert codes == ["00"] * 10
    assert all(map(synced, spans))


def test_the_journal_is_synced_before_the_answer_that_accepts_an_atc(make_switch, tmp_path):
    """Otherwise the same cryptogram would be approved again after a power cut."""
    switch = make_switch(visa_chip=settings.chip("visa")).start()
    card = Chip(PROFILES[0])
    approved = [card.request(pin=OK) for _ in range(10)]
    codes, spans = trace(switch, tmp_path, approved)
    assert codes == ["00"] * 10
    assert all(map(synced, spans))


def test_a_right_pin_that_changes_nothing_is_written_but_does_not_wait_for_the_disk(
    switch, tmp_path
):
    codes, spans = trace(switch, tmp_path, [authorization(CARD_4, CARD_4.pin) for _ in range(20)])
    assert codes == ["00"] * 20
    assert all(map(written, spans))
    # Now and then the sync of every 10 ms happens to fall in between.
    assert sum(map(synced, spans)) <= 5


def test_with_sync_all_every_right_pin_waits_for_the_disk(make_switch, tmp_path):
    switch = make_switch(sync="all").start()
    codes, spans = trace(switch, tmp_path, [authorization(CARD_4, CARD_4.pin) for _ in range(20)])
    assert codes == ["00"] * 20
    assert all(map(synced, spans))


def test_a_right_pin_decided_on_a_change_that_is_not_on_disk_waits_too(switch, tmp_path):
    """The reset by the first right PIN is still being synced when the second one comes."""
    delay = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=400000"]
    with switch.connect() as link, switch.connect() as other:
        assert link.ask(authorization(CARD_1, "1111")).code == "55"
        with tracing.traced(switch, tmp_path / "strace", *delay):
            began = time.monotonic()
            link.send(authorization(CARD_1, CARD_1.pin))
            time.sleep(0.1)
            assert other.ask(authorization(CARD_1, CARD_1.pin)).code == "00"
            waited = time.monotonic() - began
            assert link.read().code == "00"
    assert waited > 0.35


SLOW = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=600000"]
SLOW_SECONDS = 0.6


@pytest.mark.parametrize("changes, code", [({}, None), ({"4": "000000009999"}, "94")])
@pytest.mark.parametrize("sync, pin, first_code", [
    ("state", "1111", "55"), ("all", "1111", "55"), ("all", CARD_1.pin, "00"),
])
def test_nothing_is_said_about_an_answer_before_the_disk_has_it(
    make_switch, tmp_path, sync, pin, first_code, changes, code
):
    """The answer waits, and so does everything that would tell what it is, or that it is there:
    a repeat on another connection, and the conflict with it."""
    switch = make_switch(sync=sync).start()
    request = authorization(CARD_1, pin)
    with switch.connect() as link, switch.connect() as other:
        assert link.echo() == other.echo() == "00"
        with tracing.traced(switch, tmp_path / "strace", *SLOW):
            began = time.monotonic()
            link.send(request)
            time.sleep(0.1)
            other.send(dict(request, t="0101", **changes))
            for one in (link, other):
                left = began + SLOW_SECONDS - 0.1 - time.monotonic()
                assert one.is_silent(max(left, 0)), (one is link, time.monotonic() - began)
            answers = [link.read(), other.read()]
    assert [answer.code for answer in answers] == [first_code, code or first_code]
    if not changes:
        assert answers[0].raw == answers[1].raw
    assert switch.show(CARD_1.token)["pin_try_counter"] == (pin != CARD_1.pin)


def test_a_failed_sync_is_final_and_no_answer_leaves(switch, tmp_path):
    wrong = [authorization(CARD_4, other_pin(CARD_4.pin)) for _ in range(10)]
    with switch.connect() as link, switch.connect() as other:
        assert link.ask(authorization(CARD_4, other_pin(CARD_4.pin))).code == "55"
        fail = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"]
        with tracing.traced(switch, tmp_path / "strace", *fail):
            link.send(*wrong[:5])
            other.send(*wrong[5:])
            codes = [answer.code for one in (link, other) for answer in one.read_all()]
            assert set(codes) <= {"91"}
            assert switch.wait() == 1
    assert ".journal: " in switch.log() and "os error 5" in switch.log()
    switch.start()
    assert switch.show(CARD_4.token)["pin_try_counter"] >= 1
