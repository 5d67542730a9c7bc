"""Many cards: files of them, what the command line says of each, and requests meanwhile."""

import csv
import io
import json
import random
import threading
import time
from dataclasses import replace

import pytest
from link import WAIT_SECONDS
from messages import (
    CARD_1, CARD_2, CARD_4, DEMO_ZPK, Card, authorization, other_pin, pan_of, random_pin,
)

SOURCE = random.Random(8583)
COLUMNS = ["token", "pan", "expiration", "pan_sequence_number", "card_product_token"]
OPTIONAL = ["state", "pin", "pvv", "pvki", "pin_offset"]
# Requests sent before their answers are read.
PIPELINE = 500


def counted(count):
    """As the command line counts cards."""
    return "1 card" if count == 1 else f"{count} cards"


def started(switch):
    return switch if switch.process else switch.start()


@pytest.fixture(params=["running", "stopped"])
def either(request, switch):
    """A switch with a store, which runs or does not."""
    if request.param == "stopped":
        assert switch.terminate() == 0
    return switch


def codes(switch, requests):
    """DE39 of the answers, many requests in flight."""
    requests, said = list(requests), []
    with started(switch).connect() as link:
        for at in range(0, len(requests), PIPELINE):
            said += [answer.code for answer in link.ask_all(requests[at : at + PIPELINE])]
    return said


def codes_of(switch, cards, zpk=DEMO_ZPK):
    """DE39 for the right PIN of each card."""
    return codes(switch, [authorization(card, card.pin, zpk=zpk) for card in cards])


def shown(switch, token):
    return switch.asked({"show": {"token": token}})


_numbers = iter(range(600_000, 10_000_000))


def new_card(**changes):
    number = next(_numbers)
    card = Card(f"card-{number}", pan_of("476134", number), random_pin(SOURCE, 12))
    return replace(card, **changes)


def row(card, **changes):
    """A card of a file; `changes` sets fields, or removes those set None."""
    fields = {
        "token": card.token, "pan": card.pan, "expiration": card.expiry,
        "pan_sequence_number": card.sequence, "card_product_token": card.product,
        "state": "ACTIVE", "pin": card.pin, **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def as_csv(rows, columns=None, line_end="\n", quoting=csv.QUOTE_MINIMAL):
    """What a row does not have is empty."""
    columns = columns or [*COLUMNS, *OPTIONAL]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator=line_end, quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_json_lines(rows):
    return "".join(json.dumps(fields) + "\n" for fields in rows)


# How rows are written, the ending of such files, and the line of the first card.
WRITERS = {"csv": (as_csv, 2), "jsonl": (as_json_lines, 1), "ndjson": (as_json_lines, 1)}


def import_file(switch, name, content):
    path = switch.directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return switch.command("card", "import", path)


def imported(switch, name, content, count):
    result = import_file(switch, name, content)
    assert (result.returncode, result.stdout) == (0, f"{counted(count)} added\n"), result.stderr


def refusals(result, source):
    """[(line, reason)] of what was refused."""
    found = []
    for line in result.stderr.splitlines():
        if line.startswith(f"{source}:"):
            number, _, reason = line.removeprefix(f"{source}:").partition(": ")
            found.append((int(number), reason))
    return found


def remove(switch, *cards):
    said = switch.done("card", "remove", *(card.token for card in cards))
    assert said == f"{counted(len(cards))} removed\n"


def wait_for_snapshot(switch, count=1):
    deadline = time.monotonic() + 30
    while len(list(switch.data.rglob("*.snap"))) < count:
        assert time.monotonic() < deadline, "no snapshot was taken"
        time.sleep(0.05)


class Traffic:
    """Right and wrong PINs of cards of the demo, on one connection, until it is stopped."""

    def __init__(self, switch):
        self.link = switch.connect()
        self.stopped = threading.Event()
        self.answers, self.failure = 0, None
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join(2 * WAIT_SECONDS)
        self.link.close()

    def _run(self):
        try:
            while not self.stopped.is_set():
                wrong = other_pin(CARD_4.pin)
                asked = [(CARD_1, CARD_1.pin, "00"), (CARD_4, wrong, "55"), (CARD_2, None, "00")]
                said = self.link.ask_all(authorization(card, pin) for card, pin, _ in asked)
                assert [answer.code for answer in said] == [code for *_, code in asked]
                self.answers += len(asked)
        except (AssertionError, OSError) as failure:
            self.failure = failure
