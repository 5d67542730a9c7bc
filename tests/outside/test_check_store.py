"""`pinswitch check-store`: what is there, what is damaged, and what would be kept of it."""

import json
import random
import shutil

import pytest
from bulk import new_card
from messages import CARD_1, CARD_4, authorization, other_pin
from process import run
from test_formats import with_data_of

SOURCE = random.Random(88)


@pytest.fixture
def stopped(make_switch):
    """A switch with some history and a snapshot, which does not run any more."""
    switch = make_switch(snapshot_mb=1).start()
    switch.add_all([new_card() for _ in range(3)])
    with switch.connect() as link:
        for _ in range(3):
            link.ask(authorization(CARD_1, other_pin(CARD_1.pin)))
        while len(list((switch.data / "snapshots").glob("*.snap"))) < 2:
            link.ask_all([authorization(CARD_4, CARD_4.pin) for _ in range(500)])
        first = json.loads(switch.done("events", "--count", "1"))["id"]
        switch.done("events", "--reader", "webhooks", "--acknowledge", first)
        link.ask(authorization(CARD_4, CARD_4.pin))
    assert switch.terminate() == 0
    return switch


def check(switch):
    return run("check-store", switch.data)


def files(switch):
    return {path: path.read_bytes() for path in switch.data.rglob("*") if path.is_file()}


def test_it_says_what_is_there_and_changes_nothing(stopped):
    before = files(stopped)
    checked = check(stopped)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    lines = checked.stdout.splitlines()
    assert "cards: 7" in lines and "nothing is damaged" in lines, lines
    assert "  events: 15" in lines and "readers of events: 1" in lines, lines
    assert any(line.startswith("  webhooks: has them up to 00000001-") for line in lines), lines
    assert any(line.startswith("journal: format 8, read up to record") for line in lines), lines
    assert any(line.startswith("segments: ") for line in lines), lines
    snapshots = [line for line in lines if line.startswith("snapshot ")]
    assert len(snapshots) == 2 and all("whole, format 8, 7 cards" in line for line in snapshots)
    assert files(stopped) == before
    # By the configuration too, and not while a switch runs.
    assert stopped.command("check-store").stdout == checked.stdout
    stopped.start()
    refused = stopped.command("check-store")
    assert refused.returncode == 1 and "in use by another process" in refused.stderr


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_damaged_snapshot_is_named_with_what_is_left(stopped):
    older, newest = sorted((stopped.data / "snapshots").glob("*.snap"))
    flip(newest, 60)
    checked = check(stopped)
    assert checked.returncode == 1
    assert f"damaged: {newest} at offset" in checked.stdout, checked.stdout
    assert "an older snapshot is whole" in checked.stdout and "cards: 7" in checked.stdout
    flip(older, 60)
    assert "no older snapshot is whole" in check(stopped).stdout
    flip(newest, 60)
    checked = check(stopped)
    assert f"damaged: {older} at offset" in checked.stdout, checked.stdout
    assert "a newer snapshot is whole" in checked.stdout and checked.returncode == 1


def test_a_damaged_journal_is_named_with_what_a_repair_would_keep(stopped):
    segments = sorted((stopped.data / "journal").glob("*.journal"))
    segment = next(path for path in reversed(segments) if any(path.read_bytes()))
    data = segment.read_bytes()
    flip(segment, len(data.rstrip(b"\0")) // 2)
    checked = check(stopped)
    assert checked.returncode == 1
    assert f"damaged: {segment} at offset" in checked.stdout, checked.stdout
    assert "records are whole" in checked.stdout and "not all of it is well" in checked.stdout
    # A start says the same place.
    place = checked.stdout.split("damaged: ", 1)[1].split(":", 1)[0]
    assert place in stopped.refuses_to_start()


def test_every_damage_that_a_start_refuses_is_found(stopped, tmp_path):
    whole = tmp_path / "whole"
    shutil.copytree(stopped.data, whole)
    paths = [path for part in ("journal", "snapshots") for path in (whole / part).iterdir()]
    refused = 0
    for _ in range(25):
        shutil.rmtree(stopped.data)
        shutil.copytree(whole, stopped.data)
        path = SOURCE.choice([path for path in paths if any(path.read_bytes())])
        used = len(path.read_bytes().rstrip(b"\0"))
        flip(stopped.data / path.relative_to(whole), SOURCE.randrange(used))
        checked = check(stopped)
        stopped.launch()
        code = stopped.process.wait(timeout=2) if not_listening(stopped) else stopped.kill()
        stopped.process = None
        if code == 1:
            refused += 1
            assert checked.returncode == 1, (path, checked.stdout, stopped.log())
    assert refused


def not_listening(switch):
    """Whether it ended before it listened."""
    while switch.process.poll() is None:
        if switch.ports():
            return False
    return True


def test_a_place_without_a_store_is_named(tmp_path):
    refused = run("check-store", tmp_path)
    assert refused.returncode == 1 and "no journal here" in refused.stderr


def test_what_another_release_has_written_is_not_called_damage(make_switch):
    switch = with_data_of("6", make_switch)
    checked = check(switch)
    assert checked.returncode == 1
    assert "not read: " in checked.stdout and "format 6" in checked.stdout, checked.stdout
    assert "damaged: " not in checked.stdout and "repair" not in checked.stdout
    assert "nothing is damaged" in check(with_data_of("7", make_switch)).stdout
