"""Copies of a data directory: consistent from a running switch, marked, and never started by
mistake; and a witness that knows data that are older than what was answered."""

import contextlib
import json
import os
import shutil
import stat
import threading
import time

import pytest
from bulk import new_card
from messages import CARD_1, CARD_4, authorization, other_pin
from process import Switch, run
from test_crash import without_sockets

PARTS = ["journal", "keys", "snapshots"]


def on_copy(switch, copy):
    """A switch of the same configuration on another data directory."""
    other = Switch(switch.directory.parent / f"{switch.directory.name}-copy")
    shutil.rmtree(other.data, ignore_errors=True)
    shutil.copytree(copy, other.data)
    return other


def start_accepting(switch):
    """With the word that accepts older data."""
    words = switch.words
    type(switch).words = property(lambda _: [*words, "--accept-older-data"])
    try:
        return switch.start()
    finally:
        type(switch).words = Switch_words


Switch_words = Switch.words


def check(directory):
    return run("check-store", directory)


class Traffic(threading.Thread):
    """Wrong PINs on one card, and how many were answered."""

    def __init__(self, switch, card):
        super().__init__()
        self.switch, self.card, self.answered = switch, card, 0
        self.ends = threading.Event()

    def run(self):
        with self.switch.connect() as link:
            while not self.ends.is_set():
                requests = [authorization(self.card, other_pin(self.card.pin)) for _ in range(20)]
                assert {answer.code for answer in link.ask_all(requests)} == {"55"}
                self.answered += len(requests)


@pytest.mark.parametrize("runs", [True, False])
def test_a_backup_holds_what_was_answered_and_starts_only_if_that_is_accepted(
    make_switch, runs, tmp_path
):
    switch = make_switch(snapshot_mb=1).start()
    card = new_card(product="demo-nolimit")
    switch.add(card)
    traffic = Traffic(switch, card)
    traffic.start()
    time.sleep(0.5)
    if not runs:
        traffic.ends.set()
        traffic.join()
        assert switch.terminate() == 0
    before = traffic.answered
    backup = tmp_path / "backup"
    said = switch.done("backup", backup)
    assert "through record" in said
    if runs:
        traffic.ends.set()
        traffic.join()
    assert sorted(path.name for path in backup.iterdir()) == ["backup", *PARTS]
    for path in [backup, *backup.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert not list(backup.rglob("*.new")) and not (tmp_path / "backup.new").exists()
    checked = check(backup)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "a backup" in checked.stdout and "nothing is damaged" in checked.stdout
    assert "is there already" in switch.command("backup", backup).stderr
    inside = switch.command("backup", switch.data / "backup")
    assert "in the data directory itself" in inside.stderr
    assert not (switch.data / "backup").exists()

    copy = on_copy(switch, backup)
    said = copy.refuses_to_start()
    assert "is a backup" in said and "--accept-older-data" in said
    refused = copy.command("card", "show", card.token)
    assert refused.returncode == 1 and "is a backup" in refused.stderr
    start_accepting(copy)
    assert 'action="older data accepted"' in copy.log()
    assert not (copy.data / "backup").exists()
    assert before <= copy.show(card.token)["pin_try_counter"] <= traffic.answered + 1
    with copy.connect() as link:
        assert link.ask(authorization(CARD_4, CARD_4.pin)).code == "00"
    assert copy.terminate() == 0
    copy.start()
    assert "dropped" not in copy.log() and "ERROR" not in copy.log()
    assert copy.terminate() == 0


def test_a_backup_that_takes_long_keeps_no_switch_from_ending(make_switch, tmp_path):
    """It ends with the process, so that a later one has the data for itself."""
    switch = make_switch().start()
    segment = min((switch.data / "journal").glob("*.journal")).name
    many = [switch.data / "keys" / f"{number}.key" for number in range(200)]
    for path in many:
        path.write_text("copied before the journal, so that there is time")
    backup, draft = tmp_path / "backup", tmp_path / "backup.new"
    asked = json.dumps({"backup": {"to": str(backup)}})
    asking = threading.Thread(target=quietly, args=[switch.say, asked])
    asking.start()
    while not (draft / "keys").exists():
        assert asking.is_alive()
    # To open this for writing waits for a reader, for ever.
    os.mkfifo(draft / "journal" / segment)
    time.sleep(0.5)
    assert asking.is_alive()
    began = time.monotonic()
    assert switch.terminate() == 0
    assert time.monotonic() - began < 10
    asking.join()
    for path in many:
        path.unlink()
    switch.start()
    assert not backup.exists()
    # What was begun says itself what is to be done with it.
    refused = switch.command("backup", backup)
    assert refused.returncode == 1 and f"remove {draft}" in refused.stderr, refused.stderr
    shutil.rmtree(draft)
    assert "through record" in switch.done("backup", backup)


def quietly(call, *words):
    """What the switch leaves unanswered when it ends."""
    with contextlib.suppress(OSError, ValueError):
        call(*words)


def test_a_backup_of_nothing_is_refused(make_switch, tmp_path):
    switch = make_switch()
    assert "holds no store" in switch.command("backup", tmp_path / "backup").stderr
    assert not (tmp_path / "backup").exists()


def wrong_pin(switch):
    with switch.connect() as link:
        return link.ask(authorization(CARD_1, other_pin(CARD_1.pin))).code


def test_a_witness_knows_data_of_an_earlier_moment(make_switch, tmp_path):
    witness = tmp_path / "witness"
    switch = make_switch(store=f"witness = {json.dumps(str(witness))}").start()
    assert wrong_pin(switch) == "55"
    assert switch.terminate() == 0
    earlier = tmp_path / "earlier"
    shutil.copytree(switch.data, earlier, ignore=without_sockets)
    switch.start()
    assert f"the newest record record={record_of(witness)}" in switch.log()
    assert wrong_pin(switch) == "55"
    time.sleep(1.2)
    seen = record_of(witness)
    switch.kill()
    assert seen > 0 and stat.S_IMODE(witness.stat().st_mode) == 0o600
    # The data of now are as new as it, also after kill -9.
    switch.start()
    switch.kill()
    shutil.rmtree(switch.data)
    shutil.copytree(earlier, switch.data)
    said = switch.refuses_to_start()
    assert f"has seen record {seen}" in said and "--accept-older-data" in said, said
    assert record_of(witness) == seen
    start_accepting(switch)
    assert 'action="older data accepted"' in switch.log()
    assert switch.terminate() == 0
    switch.start()
    switch.kill()
    witness.write_text("nonsense\n")
    said = switch.refuses_to_start()
    assert f"{witness} at offset 0" in said and "--accept-older-data" in said, said
    start_accepting(switch)
    assert "the witness cannot be read" in switch.log()
    assert 'action="older data accepted"' in switch.log()
    time.sleep(1.2)
    assert record_of(witness) > 0


def record_of(witness):
    name, number = witness.read_text().splitlines()[0].split()
    assert name == "record"
    return int(number)


def test_a_witness_inside_the_data_directory_is_a_mistake(make_switch, tmp_path):
    switch = make_switch(store='witness = "data/witness"')
    said = switch.refuses_to_start()
    assert "witness: expected a file outside data_dir" in said, said
    # Where only the files themselves can tell.
    switch = make_switch(store=f"witness = {json.dumps(str(tmp_path / 'link' / 'witness'))}")
    switch.data.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(switch.data)
    said = switch.refuses_to_start()
    assert "the witness lies in the data directory" in said, said
