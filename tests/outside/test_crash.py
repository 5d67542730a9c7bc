"""kill -9 under load, round after round on the same data: what was answered holds, and nothing
counts twice.

Each round starts the switch, looks at every card with `pinswitch card show`, plays traffic on a
few connections, and kills the switch at a random moment. What had no answer then is sent again in
the next round. A checker that knows nothing of the switch (`possible.py`) says whether the
answers and what the cards show can be explained: no answered wrong PIN is forgotten, no repeat
counts twice or is answered otherwise, nothing is approved between a suspension and the card's
activation, and an approval's zero stays. Up to four requests of a card are in flight at once, and
an activation; the checker tries every order of these.

Environment: PINSWITCH_CRASH_ROUNDS, rounds of each test (5; 50 for a long run), and
PINSWITCH_CRASH_SEED, the seed of a run that failed: its choices are repeated, the switch's own
timing is not."""

import itertools
import os
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bulk import new_card
from crash_load import CrashLoad, Played
from messages import ASCII, BINARY
from possible import Impossible, PossibleCard

ROUNDS = int(os.environ.get("PINSWITCH_CRASH_ROUNDS", "5"))
SEED = int(os.environ.get("PINSWITCH_CRASH_SEED") or random.SystemRandom().randrange(10**9))

# With these a snapshot takes long enough to be met.
SEEDED_CARDS = 20_000
# Longer than it takes until there is enough for a snapshot or a new segment.
MOMENT_SECONDS = 30
READY_SECONDS = 10
# Requests asked again at the end.
REPEATED_MAX = 5_000
PIPELINE = 200


def played_cards():
    """Cards that are suspended at the third wrong PIN, and cards that never are. Of these, two
    never see their right PIN, so that their counts grow."""
    for number in range(8):
        yield Played(new_card(), 0.4 + number / 20, PossibleCard(limit=3))
    for wrong_share in (0.5, 0.97, 1, 1):
        yield Played(new_card(product="demo-nolimit"), wrong_share, PossibleCard())


# The moments of a kill. What is being written is told by its file, which has another name until
# it is whole: `*.snap.new` of a snapshot, `*.new` of a segment of the journal.


def files(switch, name, ending=""):
    return {path.name for path in (switch.data / name).glob(f"*{ending}")}


def wait_for_file(switch, name, ending=""):
    """Another one than there are now: a whole one, or one that is being written."""
    before, deadline = files(switch, name, ending), time.monotonic() + MOMENT_SECONDS
    while files(switch, name, ending) <= before:
        assert time.monotonic() < deadline, f"nothing new in {name}"
        time.sleep(0.0002)


def at_once(_switch, source):
    time.sleep(source.uniform(0, 0.03))


def while_loading(_switch, source):
    time.sleep(source.uniform(0.1, 1.0))


def while_a_segment_is_made(switch, source):
    wait_for_file(switch, "journal")
    time.sleep(source.choice([0, source.uniform(0, 0.003)]))


def while_a_snapshot_is_taken(switch, source):
    wait_for_file(switch, "snapshots")
    time.sleep(source.choice([0, source.uniform(0, 0.01)]))


def after_a_snapshot(switch, source):
    wait_for_file(switch, "snapshots", ".snap")
    time.sleep(source.uniform(0, 0.3))


MOMENTS = [
    at_once, while_loading, while_a_segment_is_made, while_a_snapshot_is_taken, after_a_snapshot,
]


def moments(source):
    """Each once, in any order, and again."""
    while True:
        yield from source.sample(MOMENTS, len(MOMENTS))


# One run.


class Crashes:
    def __init__(self, switch, seed):
        self.switch, self.source = switch, random.Random(seed)
        self.load = CrashLoad(random.Random(f"{seed} load"), list(played_cards()))
        self.tally = self.load.tally

    def first_start(self):
        self.switch.start()
        self.switch.add_all(played.card for played in self.load.cards)
        self.switch.done("seed", "--cards", SEEDED_CARDS)
        self.killed()

    def killed(self):
        assert self.switch.kill() == -9
        self.look_at_log()

    def look_at_log(self):
        log = self.switch.log()
        assert "ERROR" not in log, log[-5000:]
        # Half a record that nobody was answered for: no damage.
        self.tally["torn tails"] += log.count("nobody was answered for were dropped")

    def start(self):
        """With kills while it starts before that, sometimes."""
        for _ in range(self.source.randrange(3)):
            self.switch.launch()
            time.sleep(self.source.uniform(0, 0.03))
            self.killed()
            self.tally["kills while starting"] += 1
        self.switch.start()
        deadline = time.monotonic() + READY_SECONDS
        while self.switch.get("/readyz")[0] != 200:
            assert time.monotonic() < deadline, self.switch.log()
            time.sleep(0.005)

    def show_cards(self):
        for played in self.load.cards:
            card = self.switch.show(played.card.token)
            state = card["state"], card["reason_code"] if card["state"] == "SUSPENDED" else None
            assert state in {("ACTIVE", None), ("SUSPENDED", "22")}, card
            played.possible.shown(card["pin_try_counter"], card["state"] == "SUSPENDED")
            decided = min(len(state.given) for state in played.possible.states)
            self.tally["decided without an answer"] += decided

    def play_round(self, moment):
        self.start()
        self.show_cards()
        segments, snapshots = self.used_segments(), files(self.switch, "snapshots", ".snap")
        self.load.connect(self.switch)
        with ThreadPoolExecutor(2) as threads:
            killed = threads.submit(self.kill_at, moment)
            source = random.Random(self.source.random())
            issuer = threads.submit(self.load.activate, self.switch, source)
            self.load.run()
        killed.result()
        issuer.result()
        assert self.switch.wait() == -9
        self.load.disconnect()
        self.look_at_log()
        self.load.judge_crash()
        self.tally["rounds"] += 1
        self.tally["segment changes"] += self.used_segments() - segments
        self.tally["snapshots"] += len(files(self.switch, "snapshots", ".snap") - snapshots)
        self.tally["kills in a snapshot"] += bool(files(self.switch, "snapshots", ".new"))
        self.tally["kills in a new segment"] += bool(files(self.switch, "journal", ".new"))

    def kill_at(self, moment):
        try:
            moment(self.switch, self.source)
            if self.tally["rounds"] % 2 == 0:
                # What is decided from now on is not answered.
                self.load.is_cut_off.set()
                time.sleep(self.source.uniform(0, 0.005))
        finally:
            self.switch.process.kill()

    def used_segments(self):
        """Those that have a header; the next one is all zeros until it is needed."""
        count = 0
        for path in (self.switch.data / "journal").glob("*.journal"):
            with open(path, "rb") as segment:
                count += any(segment.read(64))
        return count

    def ask_everything_again(self):
        """Without a kill: every repeat has its answer, and no card is changed by that."""
        load = self.load
        self.start()
        self.show_cards()
        self.repeat(load.unanswered())
        assert not load.unanswered()
        before = [self.switch.show(played.card.token) for played in load.cards]
        again = self.source.sample(load.stans, min(len(load.stans), REPEATED_MAX))
        self.repeat(again)
        self.conflict(again[:PIPELINE])
        self.show_cards()
        assert before == [self.switch.show(played.card.token) for played in load.cards]
        assert self.switch.terminate() == 0
        self.look_at_log()

    def repeat(self, stans):
        with self.switch.connect() as link:
            for at in range(0, len(stans), PIPELINE):
                requests = [self.load.note_sending(stan) for stan in stans[at : at + PIPELINE]]
                for answer in link.ask_all(requests):
                    self.load.note_answer(answer)
        self.load.judge()

    def conflict(self, stans):
        """Only a record can say that the amount was another one."""
        others = [dict(self.load.requests[stan][2], **{"4": "000000000001"}) for stan in stans]
        with self.switch.connect() as link:
            assert {answer.code for answer in link.ask_all(others)} == {"94"}


@pytest.fixture
def crashes(make_switch):
    print(f"PINSWITCH_CRASH_SEED={SEED} PINSWITCH_CRASH_ROUNDS={ROUNDS}")

    def make(**changes):
        switch = make_switch(snapshot_mb=1, segment_mb=1, **changes)
        return Crashes(switch, f"{SEED} {changes}")

    return make


@pytest.mark.parametrize("sync, dialect", [("state", ASCII), ("all", BINARY)])
def test_kill_9_under_load_forgets_nothing_and_counts_nothing_twice(crashes, sync, dialect):
    crashes = crashes(sync=sync, dialect=dialect)
    crashes.first_start()
    for moment in itertools.islice(moments(crashes.source), ROUNDS):
        crashes.play_round(moment)
    crashes.ask_everything_again()
    tally = crashes.tally
    print(*(f"{name}: {count}" for name, count in sorted(tally.items())), sep="\n")
    # That the rounds were what they are meant to be.
    expected = ["answered 00", "answered 55", "answered 75", "repeats answered", "activations"]
    expected += ["in flight at a kill", "decided without an answer", "segment changes"]
    expected += ["snapshots"]
    assert all(tally[name] for name in expected), tally
    assert max(max(s.tries for s in played.possible.states) for played in crashes.load.cards) > 100


def test_data_of_an_earlier_moment_are_reported(crashes, tmp_path):
    """The whole test can fail, not only its checker: here the store forgets a round."""
    crashes = crashes()
    crashes.first_start()
    crashes.play_round(while_loading)
    shutil.copytree(crashes.switch.data, tmp_path / "earlier", ignore=without_sockets)
    crashes.play_round(while_loading)
    shutil.rmtree(crashes.switch.data)
    (tmp_path / "earlier").rename(crashes.switch.data)
    crashes.start()
    with pytest.raises(Impossible, match="the card shows"):
        crashes.show_cards()


def without_sockets(directory, names):
    return [name for name in names if Path(directory, name).is_socket()]
