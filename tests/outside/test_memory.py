"""What stays in the memory of the running switch, and that it stays out of swap."""

import json
import os
import re
import resource
import shutil
import socket
import tempfile
import time
from pathlib import Path

import pytest
from api_client import Api, basic
from messages import CARD_1, Card, pan_of
from process import BINARY, Switch, of_card
from test_places import AS_OTHER, OTHER, StopsAtTheEnd

# Twelve digits that nothing else says.
PIN = "739152846037"
OTHER_PIN = "918273645192"
PAN = pan_of("476135", 73_915)


def in_memory(switch, text):
    """How often a text stands in what the switch may write to, but for its stacks' own lines."""
    pid, found = switch.process.pid, 0
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            first, last, mode = re.match(r"(\w+)-(\w+) (\S+)", line).groups()
            if mode.startswith("rw") and "[v" not in line:
                memory.seek(int(first, 16))
                found += memory.read(int(last, 16) - int(first, 16)).count(text.encode())
    return found


def escaped(text):
    return "".join(f"\\u{ord(letter):04x}" for letter in text[:2]) + text[2:]


def lines_with(value, name):
    """Commands with a value, as it stands in JSON, in the place of a PIN or PAN."""
    card = of_card(Card("memory-1", pan_of("476135", 73_916), "2580"))
    whole = {"add": card, "add_many": [card]}
    for command in whole:
        text = json.dumps({command: whole[command]})
        yield text.replace(json.dumps(card[name]), value)
    if name == "pin":
        yield f'{{"set_pin":{{"token":"{CARD_1.token}","pin":{value}}}}}'


VALUES = {
    "number": lambda text: text,
    "negative": lambda text: "-" + text,
    "fraction": lambda text: text + ".5",
    "escaped": lambda text: f'"{escaped(text)}"',
    "unfinished escape": lambda text: f'"{text}\\u00',
    "list": lambda text: f'["{text}"]',
    "object": lambda text: f'{{"value":{text}}}',
    "13 digits": lambda text: f'"{text}0000000000"',
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("name", ["pin", "pan"])
def test_nothing_of_a_pin_or_pan_that_was_refused_stays(make_switch, kind, name):
    switch = make_switch().start()
    # No parameter: the switch inherits an environment that says what test it is.
    text = {"pin": PIN, "pan": PAN}[name]
    value = VALUES[kind](text)
    for line in lines_with(value, name):
        assert value in line
        refused = json.loads(switch.say(line))
        said = json.dumps(refused)
        assert "refused" in said and text not in said and text[2:] not in said
        if kind in ("number", "negative", "fraction", "escaped", "list", "object"):
            assert "texts in quotation marks" in said
    assert in_memory(switch, text[2:]) == 0


def test_nothing_of_a_pin_that_was_set_stays(make_switch):
    switch = make_switch().start()
    for pin in (PIN, OTHER_PIN):
        switch.done("card", "set-pin", CARD_1.token, stdin=pin)
        assert in_memory(switch, pin) == 0


def test_the_search_finds_a_pin_that_is_there(make_switch):
    switch = make_switch().start()
    # A line without its end waits for the rest.
    line = f'{{"set_pin":{{"token":"demo-card-1","pin":{PIN}}}}}'
    with switch.control() as control:
        control.sendall(line.encode())
        assert switch.show(CARD_1.token)
        assert in_memory(switch, PIN) == 1
        control.sendall(b"\n")
        assert b"refused" in control.recv(4096)
        assert in_memory(switch, PIN) == 0


def test_the_command_line_refuses_a_number_and_does_not_say_it(make_switch):
    switch = make_switch().start()
    for name, text in [("pin", PIN), ("pan", PAN)]:
        for line in lines_with(text, name):
            card = json.loads(line).get("add")
            result = switch.command("card", "add", stdin=json.dumps(card)) if card else None
            if result is not None:
                assert result.returncode == 1 and text not in result.stderr
                assert "texts in quotation marks" in result.stderr


# PINs over HTTP.


def gone(switch, text):
    """Whether a text is nowhere in the switch, a moment after it has answered."""
    deadline = time.monotonic() + 5
    while in_memory(switch, text) and time.monotonic() < deadline:
        time.sleep(0.05)
    return in_memory(switch, text) == 0


@pytest.fixture
def viewable(make_switch):
    return make_switch(debit_chip="pin_viewable = true").start()


def controlled(api, kind):
    body = {"card_token": CARD_1.token, "controltoken_type": kind}
    return api.done("POST", "/pins/controltoken", body)["control_token"]


def test_nothing_of_a_pin_that_came_over_http_stays(viewable):
    api = Api(viewable)
    for pin in (PIN, OTHER_PIN):
        body = {"control_token": controlled(api, "SET_PIN"), "pin": pin}
        assert api.put("/pins", body).status == 204
        # The connection is kept open, and nothing else comes over it.
        assert gone(viewable, pin)
    verify = {"card_token": CARD_1.token, "pin": OTHER_PIN}
    assert api.done("POST", "/pins/verify", verify)["response"]["code"] == "0000"
    assert gone(viewable, OTHER_PIN)
    assert api.done("POST", "/pins/verify", verify | {"pin": PIN})["response"]["code"] == "1809"
    assert gone(viewable, PIN)


def test_nothing_of_a_pin_that_was_shown_over_http_stays(viewable):
    viewable.done("card", "set-pin", CARD_1.token, stdin=PIN)
    api = Api(viewable)
    body = {"control_token": controlled(api, "REVEAL_PIN"), "cardholder_verification_method": "OTP"}
    assert api.done("POST", "/pins/reveal", body) == {"pin": PIN}
    assert gone(viewable, PIN)


@pytest.mark.parametrize("kind", VALUES)
def test_nothing_of_a_pin_that_was_refused_over_http_stays(viewable, kind):
    api = Api(viewable)
    text = f'{{"card_token":"demo-card-1","pin":{VALUES[kind](PIN)}}}'
    answer = api.post("/pins/verify", text.encode())
    assert answer.status == 400 and PIN[2:] not in answer.body.decode(), answer
    assert gone(viewable, PIN[2:])


REFUSED = {
    "no key": ("PUT", "/pins", {}),
    "a wrong secret": ("PUT", "/pins", {"Authorization": basic("demo", "wrong")}),
    "no such path": ("POST", "/pin", {"Authorization": basic("demo", "demo")}),
    "another method": ("DELETE", "/pins", {"Authorization": basic("demo", "demo")}),
    "another type": ("PUT", "/pins", {
        "Authorization": basic("demo", "demo"), "Content-Type": "text/plain",
    }),
}


def over_socket(switch, text, reads=True):
    """What comes back for bytes as they are, on a connection that stays open."""
    connection = socket.create_connection(("127.0.0.1", switch.api_port()), timeout=10)
    connection.sendall(text.encode())
    return connection, connection.recv(65_536).decode() if reads else ""


def as_sent(method, path, headers, body):
    lines = {"Host": "localhost", "Content-Type": "application/json"} | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n{body}"


BODY = f'{{"control_token":"x","pin":"{PIN}"}}'


@pytest.mark.parametrize("kind", REFUSED)
def test_nothing_of_a_pin_that_nobody_has_read_stays(viewable, kind):
    method, path, headers = REFUSED[kind]
    headers = headers | {"Content-Length": len(BODY)}
    connection, answer = over_socket(viewable, as_sent(method, path, headers, BODY))
    with connection:
        assert answer.startswith("HTTP/1.1 4"), answer
        assert gone(viewable, PIN)
    assert gone(viewable, PIN)


def test_nothing_of_a_pin_in_several_pieces_stays_when_its_connection_ends(viewable):
    headers = {"Authorization": basic("demo", "demo"), "Transfer-Encoding": "chunked"}
    pieces = [BODY[:20], BODY[20:]]
    chunks = "".join(f"{len(piece):x}\r\n{piece}\r\n" for piece in pieces) + "0\r\n\r\n"
    connection, answer = over_socket(viewable, as_sent("PUT", "/pins", headers, chunks))
    connection.close()
    assert answer.startswith("HTTP/1.1 403"), answer
    assert gone(viewable, PIN)


def test_nothing_of_a_pin_stays_whose_sender_hangs_up(viewable):
    headers = {"Authorization": basic("demo", "demo"), "Content-Length": len(BODY) + 100}
    connection, _ = over_socket(viewable, as_sent("PUT", "/pins", headers, BODY), reads=False)
    time.sleep(0.2)
    # It is there while the rest is waited for.
    assert in_memory(viewable, PIN) >= 1
    connection.close()
    assert gone(viewable, PIN)


# Swap.

WARNING = "the memory is not locked"


def locked_kib(switch):
    status = Path(f"/proc/{switch.process.pid}/status").read_text()
    return int(re.search(r"(?m)^VmLck:\s+(\d+) kB", status)[1])


def limits(switch):
    text = Path(f"/proc/{switch.process.pid}/limits").read_text()
    return re.search(r"(?m)^Max locked memory\s+(\S+)\s+(\S+)", text).groups()


def test_all_memory_is_locked_where_nothing_limits_it(make_switch):
    switch = make_switch().start()
    assert locked_kib(switch) > 10_000 and WARNING not in switch.log()
    # What comes later too.
    before = locked_kib(switch)
    switch.done("seed", "--cards", "100000")
    assert locked_kib(switch) > before + 10_000


@pytest.fixture
def of_other():
    """A switch of another user, who can lock as much as is said."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    shutil.copy(BINARY, directory / "pinswitch")
    switch = Switch(directory / "home")
    for path in (switch.directory, switch.config):
        os.chown(path, OTHER, OTHER)
    stop = StopsAtTheEnd(switch)
    yield switch
    stop.close()
    shutil.rmtree(directory)


# The most that may be set here, but more than a switch needs at first.
MOST = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
MOST = 1 << 26 if MOST == resource.RLIM_INFINITY else MOST


@pytest.mark.parametrize("limit", ["0:0", "65536:65536", f"0:{MOST}", f"{MOST}:{MOST}"])
def test_under_a_limit_it_says_so_once_and_works_beyond_the_limit(of_other, limit):
    of_other.start("prlimit", f"--memlock={limit}", *AS_OTHER)
    (line,) = (line for line in of_other.log().splitlines() if WARNING in line)
    assert "WARN" in line and "LimitMEMLOCK=infinity" in line
    assert locked_kib(of_other) == 0 and ":".join(limits(of_other)) == limit
    seeded = ("seed", "--cards", "200000")
    of_other.done_as(OTHER, *seeded)
    assert of_other.get("/readyz")[0] == 200
    shown = of_other.done_as(OTHER, "card", "show", CARD_1.token)
    assert "ACTIVE" in shown


@pytest.mark.parametrize("limit, words", [
    ("65536:65536", ("--inh-caps=+ipc_lock", "--ambient-caps=+ipc_lock")),
])
def test_a_limit_that_does_not_bind_does_not_matter(of_other, limit, words):
    of_other.start("prlimit", f"--memlock={limit}", *AS_OTHER, *words)
    assert locked_kib(of_other) > 10_000 and WARNING not in of_other.log()
    of_other.done_as(OTHER, "seed", "--cards", "200000")
    assert of_other.get("/readyz")[0] == 200
