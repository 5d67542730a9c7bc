"""The log on standard error: what is in a line, and what happens when nobody reads it in time."""

import json
import re
import subprocess
import threading
import time

import messages
import pytest
from link import Link, frame
from messages import CARD_1, CARD_2, CARD_4, authorization, network_management, other_pin
from process import BINARY, STOP_SECONDS, Switch
from test_admin import Metrics

# More lines than the switch keeps for a reader that is late.
FLOOD = 200_000
BATCH = 1000


def test_every_line_of_the_json_log_is_an_object_and_took_us_is_a_number(make_switch):
    switch = make_switch(json="true").start()
    requests = [
        authorization(CARD_1, CARD_1.pin), authorization(CARD_1, "1111"),
        authorization(CARD_1, changes={"4": None}), network_management("301"),
    ]
    with switch.connect() as link:
        link.codes(requests)
    switch.done("card", "activate", CARD_1.token)
    assert switch.terminate() == 0
    lines = [json.loads(line) for line in switch.log().splitlines()]
    assert all({"timestamp", "level", "target"} <= line.keys() for line in lines)
    asked = [line for line in lines if line["target"] == "transaction"]
    assert [line["stan"] for line in asked] == [request["11"] for request in requests]
    assert [line["reason"] for line in asked] == ["0000", "1809", "9904", "0000"]
    for line in asked:
        assert type(line["took_us"]) is int and 0 <= line["took_us"] < 10_000_000
        assert line["repeat"] is False
    memos = ["Approved", "Invalid Pin", "Format error", "Approved"]
    assert [line["memo"] for line in asked] == memos
    faults = [(line.get("element"), line.get("why"), line.get("offset")) for line in asked]
    assert faults == [(None, None, None), (None, None, None), (4, "missing", None)] + faults[:1]
    assert [line.get("message") for line in lines].count("stopped") == 1


def test_a_line_says_why_a_message_cannot_be_read_and_where(make_switch):
    switch = make_switch(json="true").start()
    request = authorization(CARD_1, CARD_1.pin)
    whole = messages.encode(request)
    place = whole.index(request["52"].encode())
    cases = [
        (whole[:-4], 52, "truncated", place),
        (whole + b"00", 52, "bytes left over after the last element", len(whole)),
        (whole[:place] + b"G" + whole[place + 1:], 52, "character not allowed by the type", place),
        (messages.encode(request | {"7": "1321210000"}), 7, "not a date or time", None),
        (messages.encode(request | {"49": "XYZ"}), 49, "not what it may be", None),
        (messages.encode(request | {"35": f"{CARD_2.pan}=2912"}), 35, "another PAN than in DE2", None),
        (messages.encode(request | {"22": "051", "55": "9F3601"}), 55,
         "chip data that cannot be read", None),
        (messages.encode(request | {"22": "901", "55": "9F36020001"}), 55,
         "chip data, and by DE22 no chip was read", None),
        (messages.encode(request | {"22": "051", "23": "002", "55": "5F340101"}), 23,
         "another sequence number than in 5F34", None),
    ]
    with switch.connect() as link:
        for body, element, _, _ in cases:
            link.send_body(body)
            assert link.read().reason == f"{element:03}"
    assert switch.terminate() == 0
    lines = [json.loads(line) for line in switch.log().splitlines()]
    lines = [line for line in lines if line["target"] == "transaction"]
    for line, (_, element, why, offset) in zip(lines, cases, strict=True):
        assert line["element"] == element
        assert why is None or line["why"] == why
        assert offset is None or line["offset"] == offset
        assert request["52"] not in json.dumps(line) and CARD_1.pan not in json.dumps(line)


def test_who_was_suspended_is_in_the_audit_with_the_id_of_the_transaction(make_switch):
    switch = make_switch(json="true").start()
    with switch.connect() as link:
        for _ in range(3):
            link.ask(authorization(CARD_1, other_pin(CARD_1.pin)))
    last, *others = json.loads(switch.done("transaction", "show", CARD_1.token))
    assert (last["reason_code"], last["memo"]) == ("1872", "Pin try limit exceeded")
    assert [one["memo"] for one in others] == ["Invalid Pin"] * 2
    ids = [one["id"] for one in (last, *others)]
    assert ids == sorted(ids, reverse=True) and len(set(ids)) == 3
    assert all(re.fullmatch("[0-9a-f]{8}-[0-9a-f]{8}", one) for one in ids)
    lines = [json.loads(line) for line in switch.log().splitlines()]
    (line,) = [line for line in lines if line["target"] == "audit" and "transaction" in line]
    told = (line["action"], line["token"], line["link"], line["transaction"])
    assert told == ("suspended for PIN tries", CARD_1.token, "link-a", last["id"])


def test_a_reversal_of_what_nobody_knows_says_so(make_switch):
    switch = make_switch(json="true").start()
    request = authorization(CARD_1, CARD_1.pin)
    with switch.connect() as link:
        assert link.ask(messages.reversal(authorization(CARD_1))).code == "00"
        assert link.ask(request).code == "00"
        assert link.ask(messages.reversal(request)).code == "00"
        assert link.ask(messages.reversal(request, changes={"2": None})).code == "00"
    known, again, _, unknown = json.loads(switch.done("transaction", "show", CARD_1.token))
    assert "original unknown" in unknown["trail"]
    assert "original unknown" not in known["trail"] + again["trail"]
    lines = [json.loads(line) for line in switch.log().splitlines()]
    told = [line.get("original") for line in lines if line["target"] == "transaction"]
    assert told == ["unknown", None, "known", "known"]


@pytest.mark.parametrize("data", [
    frame(b"GET / HTTP/1.1"), b"\x16\x03\x01\x02\x00\x01\x00", b"\xff\xff", frame(b"0100XYZ"),
])
@pytest.mark.parametrize("as_json", ["false", "true"])
def test_a_connection_closed_for_bad_bytes_is_logged_with_its_peer(make_switch, data, as_json):
    switch = make_switch(json=as_json).start()
    with switch.connect() as link:
        host, port = link.socket.getsockname()
        link.write(data.ljust(9000, b"\0"))
        assert link.is_closed()
        deadline = time.monotonic() + 5
        while "a connection was closed" not in switch.log():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    line = next(line for line in switch.log().splitlines() if "a connection was closed" in line)
    assert f"{host}:{port}" in line and "link-a" in line and "WARN" in line
    assert "GET" not in line and "XYZ" not in line


class SlowReader(threading.Thread):
    """Reads the log slower than it is written, until it is told to hurry."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.pipe, self.parts, self.hurry = pipe, [], threading.Event()
        self.pause = 0.01

    def run(self):
        while part := self.pipe.read1(16_384):
            self.parts.append(part)
            self.hurry.wait(self.pause)

    def stop(self):
        """Reads nothing more, but for what it may be reading just now, until told to hurry."""
        self.pause = None

    def text(self):
        return b"".join(self.parts).decode()


class WithSlowLog(Switch):
    """A switch whose log goes into a pipe that is read slowly."""

    def launch(self):
        self.starts += 1
        self.output("stderr").touch()
        self.process = subprocess.Popen(
            [BINARY, *self.words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, cwd=self.directory,
        )
        self.reader = SlowReader(self.process.stderr)
        self.reader.start()
        return self

    def log(self):
        return self.reader.text()


@pytest.fixture
def slow_log(tmp_path):
    switch = WithSlowLog(tmp_path / "switch").start()
    yield switch
    switch.reader.hurry.set()
    switch.stop()
    switch.reader.join(STOP_SECONDS)


def flood(address, count, answered):
    """Echo requests: each leaves a line."""
    one = frame(messages.encode(network_management("301")))
    with Link(address) as link:
        for _ in range(count // BATCH):
            link.write(one * BATCH)
            for _ in range(BATCH):
                assert link.read_body() is not None
            answered.append(BATCH)


def audit_lines(text):
    return re.findall(r'audit: action="([a-z-]+)" token="([^"]+)" done=(true|false)', text)


def transactions(text):
    return [line for line in text.splitlines() if " transaction: " in line]


def test_no_audit_line_is_lost_in_a_flood_of_transactions_on_a_slow_pipe(slow_log):
    answered = []
    address = ("127.0.0.1", slow_log.ports()["link-a"])
    before = len(audit_lines(slow_log.log()))
    flooding = threading.Thread(target=flood, args=(address, FLOOD, answered))
    flooding.start()
    done = 0
    while flooding.is_alive():
        slow_log.done("card", "activate", CARD_1.token)
        slow_log.done("card", "set-pin", CARD_4.token, stdin="8264\n")
        done += 1
    flooding.join()
    assert sum(answered) == FLOOD and done >= 3
    for _ in range(3):
        slow_log.done("card", "activate", CARD_1.token)
        slow_log.done("card", "set-pin", CARD_4.token, stdin="8264\n")
    # The count of dropped lines is brought up to date every second.
    time.sleep(1.5)
    dropped = Metrics(slow_log).value("pinswitch_log_lines_dropped_total")
    slow_log.reader.hurry.set()
    deadline = time.monotonic() + 20
    while len(transactions(slow_log.log())) < FLOOD - dropped:
        assert time.monotonic() < deadline, "lines are missing that were not dropped"
        time.sleep(0.1)
    assert slow_log.terminate() == 0
    slow_log.reader.join(STOP_SECONDS)
    text = slow_log.log()
    lines = audit_lines(text)[before:]
    for audited in [("transition", CARD_1.token, "true"), ("set-pin", CARD_4.token, "true")]:
        assert lines.count(audited) == done + 3
    # The flood was one: some of its lines were dropped, and the others are whole.
    assert 0 < dropped < FLOOD and len(transactions(text)) == FLOOD - dropped
    assert all(re.search(r" took_us=\d+$", line) for line in transactions(text))
    assert text.count(": stopped\n") == 1


def test_a_log_that_nobody_reads_delays_no_request(tmp_path):
    """The pipe is full from the start of the flood on, and stays so."""
    switch = WithSlowLog(tmp_path / "switch", threads="threads = 2").start()
    switch.reader.stop()
    try:
        address = ("127.0.0.1", switch.ports()["link-a"])
        flood(address, FLOOD, [])
        # Bad bytes leave a line of another kind. More connections than the switch has threads.
        for _ in range(20):
            with Link(address) as link:
                link.send_body(b"GET / HTTP/1.1")
                assert link.is_closed()
        with Link(address) as link:
            began = time.monotonic()
            assert link.ask(authorization(CARD_4, other_pin(CARD_4.pin))).code == "55"
            assert link.ask(authorization(CARD_4, CARD_4.pin)).code == "00"
            assert time.monotonic() - began < 1
    finally:
        switch.reader.hurry.set()
        switch.stop()
        switch.reader.join(STOP_SECONDS)
