"""Writes a golden data directory: what a release keeps of a known history, with what it shows of
it. Run with the release whose format it is, and never again:

    PINSWITCH=target/release/pinswitch python tests/outside/golden_store.py 8

The archive `tests/vectors/store/8.tar.xz` holds `data` and `expected.json`. 8 is the format byte
of the records (`store/record/entry.rs`)."""

import json
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chip import OK, PROFILES, Chip
from messages import CARD_1, CARD_2, CARD_3, CARD_4, Card, authorization, other_pin, pan_of, reversal
from process import REPOSITORY, Switch
from settings import chip

GOLDEN = REPOSITORY / "tests/vectors/store"
# A change that waits for a chip is not over when the archive is read, years later.
SETTINGS = {
    "snapshot_mb": 1,
    "visa_chip": chip("visa", "ofpbe = 3650"),
    "m_chip": chip("mchip", "ofpbe = 3650"),
}
ADDED = Card("golden-added", pan_of("476135", 42), "246802")
REMOVED = Card("golden-removed", pan_of("476135", 43), "13579")
CARDS = [CARD_1, CARD_2, CARD_3, CARD_4, ADDED]


def shown(switch):
    """What the command line tells of every card."""
    return {
        card.token: {
            "card": switch.show(card.token),
            "transactions": json.loads(switch.done("transaction", "show", card.token)),
        }
        for card in CARDS
    }


def first_half(switch):
    """Ends up in the snapshot."""
    switch.add(ADDED)
    switch.add(REMOVED)
    visa, m_chip = Chip(PROFILES[0]), Chip(PROFILES[3])
    with switch.connect() as link:
        assert link.ask(authorization(CARD_1, other_pin(CARD_1.pin))).code == "55"
        assert link.ask(authorization(CARD_4, other_pin(CARD_4.pin))).code == "55"
        assert link.ask(authorization(ADDED, ADDED.pin)).code == "00"
        assert link.ask(visa.request(pin=OK)).code == "00"
        switch.done("card", "set-pin", CARD_3.token, stdin="7207")
        assert link.ask(m_chip.request(online_pin="7207")).code == "00"
    return visa


def fill(switch):
    """Changes that say nothing new, until there is a snapshot."""
    command = {"activate": {"token": ADDED.token}}
    # Many at once, so that they share their sectors of the journal.
    with ThreadPoolExecutor(16) as threads:
        while not list((switch.data / "snapshots").glob("*.snap")):
            list(threads.map(switch.asked, [command] * 500))
    time.sleep(0.1)


def second_half(switch, visa):
    """Is read from the journal."""
    switch.done("card", "remove", REMOVED.token)
    switch.done("card", "set-pin", CARD_2.token, stdin="5939")
    original = authorization(CARD_4, CARD_4.pin)
    with switch.connect() as link:
        assert [link.ask(authorization(CARD_1, "0000")).code for _ in range(2)] == ["55", "75"]
        assert link.ask(original).code == "00"
        assert link.ask(reversal(original)).code == "00"
        assert link.ask(visa.request(amount=100, pin=OK)).code == "00"


def main(version):
    with tempfile.TemporaryDirectory() as home:
        switch = Switch(Path(home, "switch"), **SETTINGS).start()
        try:
            visa = first_half(switch)
            fill(switch)
            second_half(switch, visa)
            events = switch.done("events", "--count", 5).splitlines()
            switch.done("events", "--reader", "golden", "--acknowledge", json.loads(events[-1])["id"])
            expected = Path(home, "expected.json")
            expected.write_text(json.dumps(shown(switch), indent=1, sort_keys=True))
            assert switch.terminate() == 0, switch.log()
        finally:
            switch.stop()
        GOLDEN.mkdir(exist_ok=True)
        with tarfile.open(GOLDEN / f"{version}.tar.xz", "x:xz") as archive:
            archive.add(switch.data, "data")
            archive.add(expected, "expected.json")


if __name__ == "__main__":
    main(*sys.argv[1:])
