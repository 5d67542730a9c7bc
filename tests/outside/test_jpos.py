"""jPOS as the networks' side: a client that is not ours, over its own channels and its multiplexer
QMUX, which matches answers by DE41 and DE11 unless it is told otherwise. One switch and one process
of Java serve all tests of this file."""

import itertools
import os
import queue
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass

import messages
import pytest
import settings
from chip import OK, PROFILES, Chip, told
from messages import Answer, authorization, network_management, other_pin, reversal
from process import REPOSITORY, free_port
from test_bulk import seeded

pytestmark = pytest.mark.peer("jPOS", "a JDK of version 17 or later, and Maven")

JAR = REPOSITORY / "tests/peers/jpos/target/jpos-peer.jar"
START_SECONDS = 30
# Longer than any answer takes.
WAIT_SECONDS = 5
IN_FLIGHT = 2000
# Of each card some hundred requests are in flight at once.
CARDS_IN_FLIGHT = 20

ANSWERED_BY = {
    "0100": "0110", "0120": "0130", "0200": "0210", "0220": "0230",
    "0400": "0410", "0420": "0430", "0800": "0810", "0820": "0830",
}
PACKAGERS = "org.jpos.iso.packager"


@dataclass(frozen=True)
class Side:
    """A dialect of the switch, and the packager of jPOS that speaks it."""

    dialect: str
    packager: str


SIDES = {
    "ascii": Side(messages.ASCII, f"{PACKAGERS}.ISO87APackager"),
    "binary": Side(messages.BINARY, "pinswitch.peer.BinaryPackager"),
    # As jPOS ships it, with the dialect changed to it in the lines that its head names.
    "iso87binary.xml": Side("iso87binary.toml", f"{PACKAGERS}.GenericPackager"),
}
# Each dialect also on a link that requires a sign-on.
LINKS = SIDES | {f"closed-{name}": side for name, side in SIDES.items()}


def write_dialect_of_jpos(directory):
    """The head of the binary dialect says what users of iso87binary.xml change."""
    text = (REPOSITORY / f"iso-specs/specs/{messages.BINARY}.toml").read_text()
    text, count = re.subn(
        r"(?m)^((?:2|32|33|35|99|100) = .*) }$", r'\1, unused_nibble = "right-zero" }', text
    )
    text, tracks = re.subn(r'(?m)^(36 = .*encoding = )"bcd"', r'\1"ascii"', text)
    assert (count, tracks) == (6, 1)
    (directory / SIDES["iso87binary.xml"].dialect).write_text(text)


class Peer:
    """The process of Java, and what it is asked."""

    def __init__(self, directory, ports):
        assert JAR.is_file(), f"{JAR} does not exist: `mvn package` in tests/peers/jpos makes it"
        deploy = directory / "deploy"
        deploy.mkdir()
        self.log = directory / "log"
        links = [f"{name}={ports[name]}={LINKS[name].packager}" for name in LINKS]
        # One compiler and one thread for garbage: it starts sooner and leaves processors alone.
        java = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-jar", JAR]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*java, deploy, messages.DEMO_ZPK.hex(), *links], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, text=True, cwd=directory,
            )
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.removesuffix("\n"))
        for line in ("error: it ended", ""):
            self.lines.put(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        assert self.process.wait(START_SECONDS) == 0, self.log.read_text()

    def obeyed(self, *words):
        """The lines that a command answers."""
        self.process.stdin.write("\t".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        # The first command waits until Q2 has begun.
        lines = list(iter(lambda: self.lines.get(timeout=START_SECONDS), ""))
        failed = any(line.startswith("error: ") for line in lines)
        assert not failed, f"{lines}\n{self.log.read_text()}"
        return lines

    def ask(self, link, request):
        """The answer that jPOS matches to a request."""
        (line,) = self.obeyed("ask", link, WAIT_SECONDS * 1000, *words(request))
        assert line != "none", f"QMUX has matched no answer to {request}"
        return read(line)

    def codes(self, link, requests):
        return [self.ask(link, request).code for request in requests]

    def send(self, link, request):
        """Without a wait for the answer."""
        assert not self.obeyed("send", link, WAIT_SECONDS * 2000, *words(request))

    def collect(self, link, count):
        """[(DE11 of the request, its answer)] of what was sent."""
        lines = self.obeyed("collect", link, count, WAIT_SECONDS * 1000)
        outcomes = [line.split("\t", 1) for line in lines]
        return [(stan, None if rest == "none" else read(rest)) for stan, rest in outcomes]

    def counters(self, link):
        (line,) = self.obeyed("counters", link)
        return {name: int(count) for name, count in (word.split("=") for word in line.split("\t"))}

    def wait_until(self, link, **wanted):
        """Until these counters are what they should be, or more."""
        deadline = time.monotonic() + START_SECONDS
        while any((now := self.counters(link))[name] < count for name, count in wanted.items()):
            assert time.monotonic() < deadline, f"{link}: {now}\n{self.log.read_text()}"
            time.sleep(0.02)


def words(request):
    """The elements of a request; "t" is the MTI, as in pyiso8583."""
    return [f"{'0' if name == 't' else name}={value}" for name, value in request.items()]


def read(line):
    elements = dict(word.split("=", 1) for word in line.split("\t"))
    elements["t"] = elements.pop("0")
    return Answer(line.encode(), elements)


@pytest.fixture(scope="module")
def running(make_shared):
    """The switch, on ports that it has again after a restart."""
    ports = {name: free_port() for name in LINKS}
    tables = "".join(
        settings.link(
            name, "demo-zpk", dialect=side.dialect, listen=f"127.0.0.1:{ports[name]}",
            more=f"sign_on_required = {str(name.startswith('closed')).lower()}",
        )
        for name, side in LINKS.items()
    )
    # As many in flight as where nothing is configured.
    switch = make_shared(
        tables=tables, visa_chip=settings.chip("visa"), in_flight_per_connection_max=8192
    )
    write_dialect_of_jpos(switch.directory)
    switch.start()
    switch.done("seed", "--cards", "500")
    return switch


@pytest.fixture(scope="module")
def peer(running, tmp_path_factory):
    with Peer(tmp_path_factory.mktemp("jpos"), running.ports()) as peer:
        for link in LINKS:
            peer.wait_until(link, connects=1, connected=1)
        yield peer


@pytest.fixture(params=SIDES)
def side(request):
    return request.param


@pytest.fixture(scope="module")
def cards():
    """Cards that no other test has asked for."""
    return map(seeded, itertools.count())


def payment(card, pin=None, mti="0100", changes=None):
    """jPOS makes the PIN block."""
    return authorization(card, mti=mti, changes={"pin": pin, **(changes or {})})


def taken_back(original, mti="0400"):
    return reversal(original, mti=mti, changes={"pin": None})


def outcome(answer):
    return answer.mti, answer.code, answer.reason


# Network management.


@pytest.mark.parametrize("code", ["001", "301", "002"])
def test_sign_on_echo_and_sign_off_are_matched_by_the_default_key(peer, side, code):
    changes = {"24": "561", "37": "MANAGEMENT01", "41": "TERM0001"}
    request = network_management(code, changes)
    answer = peer.ask(side, request)
    assert (answer.mti, answer.code) == ("0810", "00")
    assert answer.elements.items() >= dict(request, t="0810").items()


def test_a_logon_without_a_date_is_answered(peer, side):
    """QMUX needs DE11 and DE41 only."""
    request = network_management("001", {"7": None, "41": "TERM0001"})
    assert outcome(peer.ask(side, request))[:2] == ("0810", "00")


def test_a_network_management_advice_is_acknowledged(peer, side):
    request = network_management("301", {"41": "TERM0001", "t": "0820"})
    assert outcome(peer.ask(side, request))[:2] == ("0830", "00")


def test_a_refusal_is_matched_too(peer, side, cards):
    terminal = {"41": "TERM0001"}
    cases = [
        (network_management("999", terminal), ("0810", "40", "1015")),
        (network_management("001", terminal | {"70": None}), ("0810", "30", "070")),
        (payment(next(cards), changes={"49": None}), ("0110", "30", "049")),
    ]
    for request, expected in cases:
        assert outcome(peer.ask(side, request)) == expected


def test_a_closed_link_opens_with_the_sign_on(peer, side, cards):
    link, card = f"closed-{side}", next(cards)
    for _ in range(2):
        request = payment(card, card.pin)
        assert outcome(peer.ask(link, request)) == ("0110", "91", "9907")
        sign_on = network_management("001", {"41": "TERM0001"})
        assert peer.ask(link, sign_on).code == "00"
        assert peer.ask(link, request).code == "00"
        sign_off = network_management("002", {"41": "TERM0001"})
        assert peer.ask(link, sign_off).code == "00"


# PINs.


@pytest.mark.parametrize("mti", ["0100", "0200"])
def test_a_right_pin_is_approved(peer, side, cards, mti):
    card = next(cards)
    request = payment(card, card.pin, mti)
    answer = peer.ask(side, request)
    assert outcome(answer) == (mti[:2] + "10", "00", None)
    assert re.fullmatch("[0-9]{6}", answer.elements["38"])
    echoed = {name: request[name] for name in messages.ECHOED & request.keys()}
    assert answer.elements.items() >= echoed.items()


@pytest.mark.parametrize("mti", ["0100", "0200"])
def test_the_third_wrong_pin_suspends_the_card(peer, side, cards, mti):
    card = next(cards)
    pins = [other_pin(card.pin)] * 3 + [card.pin]
    answers = [peer.ask(side, payment(card, pin, mti)) for pin in pins]
    reasons = [(answer.code, answer.reason) for answer in answers]
    assert reasons == [("55", "1809"), ("55", "1809"), ("75", "1872"), ("75", "1872")]


def test_a_track_of_an_odd_length_is_read(peer, side, cards):
    """Where packed digits have an unused nibble, the two ends may expect it in different places."""
    card = next(cards)
    for rest in ("2012345678", "20123456789"):
        track = f"{card.pan}={card.expiry}{rest}"
        assert peer.codes(side, [payment(card, card.pin, changes={"35": track})]) == ["00"]
        # Another expiry than that of the plastic, which only the track tells.
        track = f"{card.pan}=2812{rest}"
        changes = {"35": track, "14": None}
        answer = peer.ask(side, payment(card, card.pin, changes=changes))
        assert (answer.code, answer.reason) == ("54", "1001")


# One chip for all sides: each ATC is accepted once.
CHIP = Chip(PROFILES[0], tries_left=3)


def test_chip_data_go_both_ways(peer, side):
    request = CHIP.request(pin=OK)
    answer = peer.ask(side, request)
    assert outcome(answer) == ("0110", "00", None)
    assert told(answer)[0] == CHIP.arpc()


# Repeats.


@pytest.mark.parametrize("mti", ["0100", "0200"])
def test_a_repeat_gets_the_same_answer_and_counts_nothing(peer, side, cards, mti):
    card = next(cards)
    again = (mti, mti[:3] + "1")
    wrong = payment(card, other_pin(card.pin), mti)
    first = peer.ask(side, wrong)
    assert first.code == "55"
    for other in again * 2:
        assert peer.ask(side, dict(wrong, t=other)) == first
    # The second wrong PIN, not the sixth.
    assert peer.codes(side, [payment(card, other_pin(card.pin), mti)]) == ["55"]
    right = payment(card, card.pin, mti)
    approved = peer.ask(side, right)
    assert approved.code == "00"
    assert approved.elements["38"]
    for other in again:
        assert peer.ask(side, dict(right, t=other)) == approved


# Reversals and advices.


@pytest.mark.parametrize("original", ["0100", "0200"])
@pytest.mark.parametrize("mti", ["0400", "0420"])
def test_a_reversal_takes_an_approved_request_back(peer, side, cards, mti, original):
    card = next(cards)
    approved = payment(card, card.pin, original)
    assert peer.ask(side, approved).code == "00"
    back = taken_back(approved, mti)
    for again in (mti, mti[:3] + "1"):
        assert outcome(peer.ask(side, dict(back, t=again))) == (ANSWERED_BY[mti], "00", None)
    for again in (original, original[:3] + "1"):
        answer = peer.ask(side, dict(approved, t=again))
        assert outcome(answer) == (original[:2] + "10", "94", "9913")


@pytest.mark.parametrize("mti", ["0120", "0121", "0220", "0221"])
def test_an_advice_is_acknowledged(peer, side, cards, mti):
    advice = payment(next(cards), mti=mti, changes={"38": "123456", "39": "00"})
    assert outcome(peer.ask(side, advice)) == (mti[:2] + "30", "00", None)


# Many at once.


def test_none_of_2000_requests_in_flight_is_lost(peer, running, side, cards):
    several = list(itertools.islice(cards, CARDS_IN_FLIGHT))
    requests = [
        payment(card, card.pin)
        for card, _ in zip(itertools.cycle(several), range(IN_FLIGHT))
    ]
    before = peer.counters(side)
    # While it stands still, nothing is answered before the last one was sent.
    running.process.send_signal(signal.SIGSTOP)
    # The signal takes a while until the last thread has it.
    os.waitpid(running.process.pid, os.WUNTRACED)
    try:
        for request in requests:
            peer.send(side, request)
        peer.wait_until(side, sent=before["sent"] + IN_FLIGHT)
        waiting = peer.counters(side)
    finally:
        running.process.send_signal(signal.SIGCONT)
    assert waiting["received"] == before["received"]
    assert waiting["pending"] - before["pending"] == IN_FLIGHT
    outcomes = peer.collect(side, IN_FLIGHT)
    answers = dict(outcomes)
    assert len(outcomes) == len(answers) == IN_FLIGHT
    for request in requests:
        elements = answers[request["11"]].elements
        assert elements["39"] == "00"
        assert all(elements[name] == request[name] for name in ("2", "7", "11", "37", "41"))
    after = peer.counters(side)
    assert after["received"] - before["received"] == IN_FLIGHT
    assert after["unhandled"] == before["unhandled"]


# A restart; these tests are the last ones, since they need one for all of them.


@dataclass
class Before:
    """What was asked over a link before the switch was killed."""

    request: dict
    answer: Answer
    suspended: messages.Card


@pytest.fixture(scope="module")
def restarted(peer, running, cards):
    """Kills the switch and starts it on the same data and ports; jPOS connects by itself."""
    before = {}
    for side in SIDES:
        card, suspended = next(cards), next(cards)
        request = payment(card, card.pin)
        answer = peer.ask(side, request)
        wrong = [payment(suspended, other_pin(suspended.pin)) for _ in range(3)]
        assert peer.codes(side, wrong) == ["55", "55", "75"]
        before[side] = Before(request, answer, suspended)
    connects = {link: peer.counters(link)["connects"] for link in LINKS}
    running.kill()
    for link in LINKS:
        deadline = time.monotonic() + WAIT_SECONDS
        while peer.counters(link)["connected"]:
            assert time.monotonic() < deadline, f"{link} is connected to nobody"
    running.start()
    for link, count in connects.items():
        peer.wait_until(link, connects=count + 1, connected=1)
    return before


def test_a_repeat_after_kill_9_gets_the_same_answer(peer, side, restarted):
    request, answer = restarted[side].request, restarted[side].answer
    for mti in ("0101", "0100"):
        assert peer.ask(side, dict(request, t=mti)) == answer


def test_a_card_stays_suspended_after_kill_9(peer, side, restarted):
    card = restarted[side].suspended
    answer = peer.ask(side, payment(card, card.pin))
    assert (answer.code, answer.reason) == ("75", "1872")


def test_a_closed_link_needs_a_new_sign_on_after_kill_9(peer, side, restarted, cards):
    card = next(cards)
    assert peer.codes(f"closed-{side}", [payment(card, card.pin)]) == ["91"]
