"""The power fails: what was answered is on the disk, and a bad bit besides is no silent loss.

The data lie on an ext4 of their own, in a file on another ext4. To cut the power, the outer one is
frozen in the middle of the load: nothing reaches the inner disk any more, and a copy of it is what
a machine finds that comes back. What the kernel held in memory, and what it was about to write, is
not in it.

Environment: PINSWITCH_POWER_CUTS, the number of cuts (3), and PINSWITCH_POWER_SEED, the seed of
the bits of a run that failed. Needs root, to mount."""

import contextlib
import os
import random
import shutil
import struct
import subprocess
import threading
import time

import pytest
from bulk import new_card
from messages import authorization, other_pin

CUTS = int(os.environ.get("PINSWITCH_POWER_CUTS", "3"))
SEED = int(os.environ.get("PINSWITCH_POWER_SEED") or random.SystemRandom().randrange(10**9))
BITS_EACH = 8
CONNECTIONS = 4
BATCH = 25
INNER_MB, OUTER_MB = 64, 192
# Longer than the mark on disk may be behind.
LOAD_SECONDS = 1.5


def command(*words):
    subprocess.run(list(map(str, words)), check=True, capture_output=True)


def make_disk(image, megabytes):
    command("truncate", "-s", f"{megabytes}M", image)
    command("mkfs.ext4", "-q", "-F", image)


@contextlib.contextmanager
def mounted(image, place):
    place.mkdir(exist_ok=True)
    command("mount", "-o", "loop", image, place)
    try:
        yield place
    finally:
        command("umount", "--lazy", place)


@pytest.fixture
def disk(tmp_path):
    """A disk that can lose its power."""
    outer, inner = tmp_path / "outer.img", tmp_path / "outer" / "inner.img"
    make_disk(outer, OUTER_MB)
    with mounted(outer, tmp_path / "outer"):
        make_disk(inner, INNER_MB)
        with mounted(inner, tmp_path / "inner") as place:
            yield Disk(tmp_path / "outer", inner, place)


class Disk:
    def __init__(self, outer, inner, place):
        self.outer, self.inner, self.place = outer, inner, place

    @contextlib.contextmanager
    def frozen(self):
        command("fsfreeze", "-f", self.outer)
        try:
            yield
        finally:
            command("fsfreeze", "-u", self.outer)

    def copy(self, path):
        command("cp", "--sparse=always", self.inner, path)


class Load:
    """Wrong PINs of cards without a limit, and how many were sent and answered for each."""

    def __init__(self, switch, cards):
        self.switch, self.cards = switch, cards
        self.sent = dict.fromkeys(cards, 0)
        self.answered = dict.fromkeys(cards, 0)
        self.is_over = threading.Event()
        self.threads = [
            threading.Thread(target=self.run, args=(cards[number::CONNECTIONS],), daemon=True)
            for number in range(CONNECTIONS)
        ]

    def run(self, cards):
        with contextlib.suppress(OSError, AttributeError), self.switch.connect() as link:
            while not self.is_over.is_set():
                # Batches and single ones, so that syncs end at many places.
                for card in cards:
                    for count in (BATCH, 1):
                        requests = [authorization(card, other_pin(card.pin)) for _ in range(count)]
                        self.sent[card] += count
                        link.send(*requests)
                        for _ in requests:
                            assert link.read().code == "55"
                            self.answered[card] += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join()


def synced_by_mark(data):
    """The last synced sequence by the tail mark (`tail_mark.rs`)."""
    mark = (data / "journal/tail").read_bytes()
    slots = [struct.unpack_from("<8sIIQQ", mark, at) for at in (0, 4096)]
    return max(slots, key=lambda slot: slot[3])[4]


def check(switch, answered, sent):
    """Every answered wrong PIN was counted, and none that nobody sent."""
    for card, count in answered.items():
        found = switch.show(card.token)["pin_try_counter"]
        assert count <= found <= sent[card], f"{card.token}: {count} <= {found} <= {sent[card]}"


def flip_a_bit(data, source):
    """In what was written of the journal, or in the mark."""
    path = source.choice([*(data / "journal").glob("*.journal"), data / "journal/tail"])
    content = bytearray(path.read_bytes())
    written = len(content.rstrip(b"\0"))
    bit = source.randrange(max(written, 64) * 8)
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    return f"bit {bit} of {path}"


def test_a_power_cut_loses_nothing_that_was_answered(make_switch, disk, tmp_path):
    print(f"PINSWITCH_POWER_SEED={SEED} PINSWITCH_POWER_CUTS={CUTS}")
    source = random.Random(SEED)
    cards = [new_card(product="demo-nolimit") for _ in range(8)]
    tally = dict.fromkeys(["refused", "started"], 0)
    for cut in range(CUTS):
        switch = make_switch(segment_mb=1)
        switch.data = disk.place / f"data-{cut}"
        switch.start()
        switch.add_all(cards)
        image = tmp_path / "cut.img"
        with Load(switch, cards) as load:
            time.sleep(LOAD_SECONDS + source.random())
            answered = dict(load.answered)
            with disk.frozen():
                disk.copy(image)
                sent = dict(load.sent)
            switch.kill()
        shutil.rmtree(switch.data)
        with mounted(image, tmp_path / "cut") as place:
            found = place / f"data-{cut}"
            assert synced_by_mark(found) > 0
            pristine = tmp_path / f"pristine-{cut}"
            shutil.copytree(found, pristine, ignore=shutil.ignore_patterns("control.sock"))
        judge(make_switch, pristine, (answered, sent), source, tally)
    print(tally)
    assert tally["refused"] > CUTS


def judge(make_switch, pristine, counts, source, tally):
    again = make_switch(segment_mb=1)
    shutil.copytree(pristine, again.data)
    again.start()
    assert "ERROR" not in again.log()
    check(again, *counts)
    again.stop()
    for _ in range(BITS_EACH):
        bad = make_switch(segment_mb=1)
        shutil.copytree(pristine, bad.data)
        what = flip_a_bit(bad.data, source)
        bad.launch()
        while "listening" not in bad.log() and bad.process.poll() is None:
            time.sleep(0.005)
        if bad.process.poll() is None:
            check(bad, *counts)
            bad.stop()
            tally["started"] += 1
        else:
            assert bad.wait() == 1
            assert " at offset " in bad.log(), f"{what}: {bad.log()}"
            tally["refused"] += 1
    shutil.rmtree(pristine)
