"""A disk that fills up stops the switch; what it had answered is there when there is room again."""

import contextlib
import os
import subprocess
import time

import pytest
from messages import CARD_2, CARD_4, DEMO_CARDS, authorization, other_pin

DISK_MB = 6
BATCH = 200
# Far more than fits on the disk.
BATCHES_MAX = 1000


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few megabytes; needs root, as a container usually gives."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def batch():
    """Wrong PINs, which change their card, and approvals, which do not."""
    for number in range(BATCH):
        card = CARD_4 if number % 2 else CARD_2
        yield authorization(card, other_pin(card.pin) if card is CARD_4 else card.pin)


def drive_until_it_stops(switch):
    """What was asked, and the answers that came, by DE37: there are more than DE11 can number."""
    asked, answered = {}, {}
    with contextlib.suppress(ConnectionError), switch.connect() as link:
        for _ in range(BATCHES_MAX):
            requests = list(batch())
            asked |= {request["37"]: request for request in requests}
            link.send(*requests)
            for _ in requests:
                answer = link.read()
                if answer is None:
                    return asked, answered
                answered[answer.elements["37"]] = answer
    return asked, answered


def leave_room_for(disk, kilobytes):
    """Fills the disk up to some room; gives the file to remove."""
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
    ballast.write_bytes(b"\xaa" * max(free - kilobytes * 1024, 0))
    return ballast


# A journal segment has 1024; the keys and the directories come before or after it.
@pytest.mark.parametrize("room_kb", [
    0, 4, 8, 16, 24, 64, 512, 1000, 1020, 1024, 1028, 1032, 1036, 1040, 1044, 1048, 1056, 1064,
])
def test_a_first_start_that_had_no_room_is_a_first_start_again_when_there_is(
    make_switch, small_disk, room_kb
):
    switch = make_switch(segment_mb=1)
    switch.data = small_disk / "data"
    ballast = leave_room_for(small_disk, room_kb)
    switch.launch()
    while "listening" not in switch.log() and switch.process.poll() is None:
        time.sleep(0.01)
    started = switch.process.poll() is None
    if started:
        switch.kill()
    else:
        assert switch.wait() == 1
        said = switch.log().splitlines()[-1]
        assert "No space left on device" in said and str(switch.data) in said, said
    # Less than a segment is never enough.
    assert not started or room_kb > 1024

    ballast.unlink()
    switch.start()
    assert "ERROR" not in switch.log()
    with switch.connect() as link:
        for card in DEMO_CARDS:
            assert link.ask(authorization(card, card.pin)).code == "00"


@pytest.mark.parametrize("snapshot_mb", [256, 1])
@pytest.mark.parametrize("ballast_mb", [0.1, 1.5, 2.9])
def test_a_full_disk_stops_the_switch_and_loses_nothing_that_was_answered(
    make_switch, small_disk, ballast_mb, snapshot_mb
):
    switch = make_switch(segment_mb=1, snapshot_mb=snapshot_mb)
    switch.data = small_disk / "data"
    switch.start()
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\xaa" * int(ballast_mb * (1 << 20)))
    asked, answered = drive_until_it_stops(switch)
    assert switch.wait() == 1
    assert "No space left on device" in switch.log() and ".journal" in switch.log()
    decided = {rrn: answer for rrn, answer in answered.items() if answer.code != "91"}
    assert {answer.code for answer in decided.values()} == {"00", "55"}
    assert len(decided) > 1000

    ballast.unlink()
    switch.start()
    wrong = [rrn for rrn, answer in decided.items() if answer.code == "55"]
    assert switch.show(CARD_4.token)["pin_try_counter"] >= len(wrong)
    rrns = list(decided)
    with switch.connect() as link:
        for start in range(0, len(rrns), BATCH):
            part = rrns[start : start + BATCH]
            repeats = link.ask_all(dict(asked[rrn], t="0101") for rrn in part)
            assert [answer.raw for answer in repeats] == [decided[rrn].raw for rrn in part]
            # Only a record can say that the amount was another one.
            others = link.ask_all(dict(asked[rrn], **{"4": "000000000001"}) for rrn in part[:20])
            assert {answer.code for answer in others} == {"94"}
