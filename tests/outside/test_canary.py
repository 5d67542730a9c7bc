"""PCI DSS and PCI PIN: no clear PIN, PIN block, key, PAN or track in anything the switch leaves.

Searched: everything written to standard output and standard error by the switch (text and JSON
logs) and by each command, the metrics page, and every file of the data directory: journal, tail
mark, snapshots and keys. Looked for, in the forms of canaries.py: the PANs of all cards and of
unknown ones, the 12-digit PINs before and after a change and the wrong ones, the PIN fields and
clear PIN blocks, the PIN blocks as received, the zone PIN key with its halves and components, the
master key, track 2. Of chips: the issuer master keys and the card's keys with their halves, the PIN
that goes to the chip, its clear PIN block, and the PIN enciphered as the script carries it. Not
searched: the memory of the process.

The stored PIN reference is a PIN block under the switch's own key, as is the PIN that waits for the
chip; it is none of these.
"""

import json
import random
import re
import time

import canaries
import messages
import pytest
from canaries import of_bytes, of_digits, of_track2
from chip import FAILED, OK, Chip, Profile, told
from messages import Card, authorization, encrypted, network_management, pan_of, reversal
from psec import pinblock
from pyemv import cvn

SOURCE = random.Random(4761)
MASTER = SOURCE.randbytes(32)
ZPK = bytes.fromhex("B0852A9D7A3B8C1FEA4561F77CD9029B")
COMPONENT = SOURCE.randbytes(16)
OTHER_COMPONENT = bytes(a ^ b for a, b in zip(ZPK, COMPONENT))
TRACK_REST = "29122018264951730"


def cards():
    lengths = [16, 16, 19, 13, 16]
    for number, length in enumerate(lengths):
        pan = pan_of("476134", 582_913 + 7 * number, length)
        yield Card(f"canary-{number}", pan, messages.random_pin(SOURCE, 12))


CARDS = list(cards())
NEW_PIN = messages.random_pin(SOURCE, 12)
REFUSED_PIN = messages.random_pin(SOURCE, 13)
WRONG_PINS = [messages.random_pin(SOURCE, 12) for _ in range(4)]
UNKNOWN_PANS = [pan_of("476134", 99_887_766), pan_of("541333", 77_665_544)]
REFUSED_PAN = "4761348888877777"
TOKEN_PAN = "4761350000000778"
SNAPSHOT_SECONDS = 30

# Two PINs each: one after the other goes to the chip.
IMK = {name: SOURCE.randbytes(16) for name in ("ac", "smi", "smc")}
CHIP_KEYS = [key.hex() for key in IMK.values()]
CHIP_PINS = [messages.random_pin(SOURCE, 12) for _ in range(2)]
VISA_CARD = Card(
    "canary-visa", pan_of("476134", 582_999), messages.random_pin(SOURCE, 12), "demo-chip"
)
M_CHIP_CARD = Card(
    "canary-m-chip", pan_of("541333", 583_999), messages.random_pin(SOURCE, 12), "demo-mchip"
)
CHIP_CARDS = [VISA_CARD, M_CHIP_CARD]
CHIP_RULES = "[products.chip]\noffline_pin = true\nftpam = 5000\n" + "".join(
    f'imk_{name} = "imk-{name}"\n' for name in IMK
)


class Wire:
    """Builds requests and remembers which PIN blocks went out, in clear and encrypted."""

    def __init__(self):
        self.clear, self.received, self.scripts = set(), set(), set()
        self.chips = [
            Chip(Profile("0A", cvn.VisaCVN10, VISA_CARD, CHIP_KEYS)),
            Chip(Profile("14", cvn.MasterCardCVN20, M_CHIP_CARD, CHIP_KEYS, False)),
        ]

    def request(self, card, pin, iso_format=0, **changes):
        make = {0: pinblock.encode_pinblock_iso_0, 3: pinblock.encode_pinblock_iso_3}[iso_format]
        return self.with_block(card, make(pin, card.pan), **changes)

    def with_block(self, card, clear, mti="0100", **changes):
        self.clear.add(clear)
        self.received.add(bytes.fromhex(encrypted(clear, ZPK)))
        changes = {"52": encrypted(clear, ZPK), **changes}
        return authorization(card, mti=mti, changes=changes)

    def of_chip(self, chip, online_pin=None, tags=None, **how):
        """A request of a contact chip, with PAN and track 2 in its chip data too."""
        card = chip.profile.card
        tags = {"5A": card.pan, "57": f"{card.pan}D{TRACK_REST}".ljust(36, "F"), **(tags or {})}
        if online_pin is None:
            return chip.request(tags=tags, **how)
        block = self.request(card, online_pin)["52"]
        return chip.request(tags={"9F34": "420300", **tags}, changes={"52": block}, **how)

    def carried(self, chip, pin, answer):
        """The answer carries the script that writes this PIN."""
        _, script, command = told(answer)
        assert command == chip.pin_change(pin), answer
        self.scripts.add(command[5:-8])
        return script


def commands(switch):
    """Uses the command line as people do, mistakes included; everything it printed."""
    said = []

    def run(*words, stdin):
        result = switch.command(*words, stdin=stdin)
        said.append(result.stdout + result.stderr)
        return result.returncode

    def bring_in(name, *parts, words=(), usage="P0"):
        result = switch.bring_in(name, parts, *words, usage=usage)
        said.append(result.stdout + result.stderr)
        return result.returncode

    parts = COMPONENT.hex(), OTHER_COMPONENT.hex().upper()
    assert bring_in("zpk-net", *parts) == 0
    assert bring_in("zpk-net", *parts) == 1
    assert bring_in("b", *parts, words=("--kcv", "000000")) == 1
    assert bring_in("c", ZPK.hex()) == 1
    assert bring_in("d", ZPK.hex() + "XY") == 1
    for (name, key), usage in zip(IMK.items(), ("E0", "E2", "E1")):
        parts = COMPONENT.hex(), bytes(a ^ b for a, b in zip(key, COMPONENT)).hex()
        assert bring_in(f"imk-{name}", *parts, usage=usage) == 0
    assert run("key", "list", stdin="") == 0
    assert run("card", "show", CARDS[0].pan, stdin="") == 1
    return said, run


def card_commands(switch, run):
    for card in [*CARDS, *CHIP_CARDS]:
        switch.add(card)
    assert run("card", "set-pin", CARDS[4].token, stdin=NEW_PIN) == 0
    assert run("card", "set-pin", CARDS[4].token, stdin=REFUSED_PIN) == 1
    whole = {
        "token": "x", "pan": CARDS[0].pan, "expiration": "2912", "pan_sequence_number": "01",
        "card_product_token": "demo-debit", "pin": CARDS[0].pin,
    }
    for wrong in (
        json.dumps(whole),
        json.dumps(whole | {"pan": REFUSED_PAN}),
        json.dumps(whole | {"pin": REFUSED_PIN, "pan": UNKNOWN_PANS[0]}),
        json.dumps(whole | {"pin": int(WRONG_PINS[0])}),
        json.dumps(whole | {"track2": f"{CARDS[0].pan}={TRACK_REST}"}),
        json.dumps(whole)[:-1],
        json.dumps(whole | {"card_product_token": UNKNOWN_PANS[0]}),
        json.dumps(whole | {"expiration": UNKNOWN_PANS[0]}),
        json.dumps(whole | {"token": CARDS[0].token, "pan": UNKNOWN_PANS[0]}),
        json.dumps(whole | {"token": UNKNOWN_PANS[0], "pan": UNKNOWN_PANS[1]}),
        json.dumps(whole | {"token": CARDS[0].pan, "pan": TOKEN_PAN}),
        json.dumps(whole | {"token": f"{CARDS[0].pan}={TRACK_REST}", "pan": TOKEN_PAN}),
    ):
        assert run("card", "add", stdin=wrong) == 1
    # A PAN where a token belongs.
    for pan in (CARDS[0].pan, TOKEN_PAN, UNKNOWN_PANS[1]):
        assert run("card", "show", pan, stdin="") == 1
        assert run("card", "activate", pan, stdin="") == 1
        assert run("card", "set-pin", pan, stdin=NEW_PIN) == 1
    assert run("card", "show", CARDS[0].token, stdin="") == 0


def conversation(switch, wire):
    """Right, wrong, repeated, unusable, unreadable: everything that a request can be."""
    one, two, three, four, five = CARDS
    with switch.connect() as link:
        assert link.ask(network_management("001")).code == "00"
        for card, pin in [(one, one.pin), (three, three.pin), (four, four.pin), (five, NEW_PIN)]:
            for iso_format in (0, 3):
                assert link.ask(wire.request(card, pin, iso_format)).code == "00"
        wrong = [wire.request(two, pin) for pin in WRONG_PINS]
        assert link.codes(wrong) == ["55", "55", "75", "75"]
        assert link.codes(dict(request, t="0101") for request in wrong) == ["55", "55", "75", "75"]
        assert link.ask(wire.request(two, two.pin)).code == "75"
        conflict = dict(wrong[0], **{"4": "000000009999"})
        assert link.ask(conflict).code == "94"
        track = f"{one.pan}={TRACK_REST}"
        request = wire.request(one, one.pin, **{"35": track})
        assert link.ask(request).code == "00"
        assert link.ask(wire.request(one, one.pin, **{"2": None, "35": track})).code == "00"
        for pan in UNKNOWN_PANS:
            assert link.ask(wire.request(Card("", pan, ""), WRONG_PINS[3])).code == "14"
        for number in range(7):
            clear = bytes([0x1C]) + bytes.fromhex(WRONG_PINS[1]) + bytes([number])
            assert link.ask(wire.with_block(four, clear)).code == "81"
        for mti in ("0400", "0420", "0120", "0220"):
            assert link.ask(wire.request(one, one.pin, mti=mti)).code == "00"
        for original in (one.pan.rjust(42, "0"), one.pan[:10].ljust(42, "0")):
            reversal = wire.request(one, one.pin, mti="0400", **{"90": original})
            assert link.ask(reversal).code == "30"
        format_errors(link, wire)
    framing_errors(switch, wire)


def chip_conversation(switch, wire, run):
    """A PIN change on its way to the chip, and whatever goes wrong with it."""
    for chip in wire.chips:
        card = chip.profile.card
        assert run("card", "set-pin", card.token, stdin=CHIP_PINS[0]) == 0
        with switch.connect() as link:
            wrong = wire.of_chip(chip, WRONG_PINS[0])
            assert link.ask(wrong).code == "55"
            assert link.ask(wire.of_chip(chip, pin=FAILED, amount=9_999)).code == "55"
            request = wire.of_chip(chip, pin=OK)
            answer = link.ask(request)
            wire.carried(chip, CHIP_PINS[0], answer)
            assert link.ask(dict(request, t="0101")).raw == answer.raw
            # Lost, and below FTPAM.
            assert link.ask(reversal(request)).code == "00"
            wire.carried(chip, CHIP_PINS[0], link.ask(wire.of_chip(chip, pin=FAILED)))
            right = link.ask(wire.of_chip(chip, CHIP_PINS[0]))
            wire.carried(chip, CHIP_PINS[0], right)
            for data, code in (
                (request["55"], "59"), ("9F1E08" + card.pan, "59"), (request["55"][:-2], "30"),
                ("9F1E10" + card.pan * 2, "59"), ("9F3610" + card.pan * 2, "30"),
                (request["55"] + "9F360200FF", "30"),
            ):
                answer = link.ask(wire.of_chip(chip, pin=OK, changes={"55": data}))
                assert answer.code == code, data
            wrong = wire.of_chip(chip, pin=OK, tags={"9F26": "11" * 8, "9F5B": "2001000002"})
            assert link.ask(wrong).code == "59"
            assert run("explain-cryptogram", card.token, request["55"], stdin="") == 1
        assert run("card", "set-pin", card.token, stdin=CHIP_PINS[1]) == 0
        assert run("card", "show", card.token, stdin="") == 0


def chip_conversation_after_restart(switch, wire, run):
    """The other PIN waits still; it is written, and the chip says so."""
    for chip in wire.chips:
        card = chip.profile.card
        with switch.connect() as link:
            request = wire.of_chip(chip, pin=OK)
            script = wire.carried(chip, CHIP_PINS[1], link.ask(request))
            done = {"55": request["55"] + "9F5B0520" + script.hex()}
            assert link.ask(reversal(request, changes=done)).code == "00"
        assert switch.show(card.token)["chip_sync"] == "in_sync"
        assert run("card", "unblock", card.token, stdin="") == 0
        assert run("card", "reset-pin-tries", card.token, stdin="") == 0
        assert run("transaction", "show", card.token, stdin="") == 0


def format_errors(link, wire):
    """Rejected with DE39 30; whatever an element holds, it may not show up anywhere."""
    one = CARDS[0]
    track = f"{one.pan}={TRACK_REST}"
    for changes in (
        {"4": None}, {"49": None}, {"2": None}, {"4": one.pan[:12][:-1] + "X"},
        {"2": one.pan + "X"}, {"35": track[:-1] + "X"}, {"14": "2913"}, {"45": "B" + one.pan},
        {"55": "9F02"}, {"35": one.pan}, {"2": UNKNOWN_PANS[0], "35": track},
        {"48": one.pan, "4": None}, {"63": wire.request(one, one.pin)["52"], "49": None},
    ):
        request = wire.request(one, one.pin, **changes)
        answer = link.ask(request)
        assert answer.code in ("30", "00"), changes
    whole = wire.request(one, one.pin, **{"35": track})
    body = messages.encode(whole)
    for cut in range(20, len(body), 3):
        link.send_body(body[:cut])
        assert link.read().code == "30"
    for rest in (one.pan.encode(), one.pin.encode(), whole["52"].encode()):
        link.send_body(body + rest)
        assert link.read().code == "30"


def framing_errors(switch, wire):
    """The connection is closed, and says so in the log."""
    one = CARDS[0]
    body = messages.encode(wire.request(one, one.pin))
    for broken in (b"X" + body, body[4:], one.pan.encode(), body[:4] + b"G" + body[5:]):
        with switch.connect() as link:
            link.send_body(broken)
            link.is_closed()
    with switch.connect() as link:
        link.write(b"\xff\xff" + body)
        assert link.is_closed()


def everything_secret(wire):
    found = []
    for card in [*CARDS, *CHIP_CARDS]:
        found += of_digits(f"PAN of {card.token}", card.pan)
        found += of_digits(f"PIN of {card.token}", card.pin)
    for pan in [*UNKNOWN_PANS, REFUSED_PAN, TOKEN_PAN]:
        found += of_digits("unknown PAN", pan)
    for pin in [NEW_PIN, REFUSED_PIN, *WRONG_PINS, *CHIP_PINS]:
        found += of_digits("PIN", pin)
    pins = [card.pin for card in [*CARDS, *CHIP_CARDS]]
    for pin in [NEW_PIN, *WRONG_PINS, *CHIP_PINS, *pins]:
        found += of_bytes("PIN field", bytes.fromhex("0C" + pin + "FF"))
        found += of_bytes("PIN block of format 2", bytes.fromhex("2C" + pin + "FF"))
    visa, _ = (chip.engine for chip in wire.chips)
    for pin in CHIP_PINS:
        field, half = bytes.fromhex("0C" + pin + "FF"), bytes(4) + visa.icc_mk_ac[4:8]
        found += of_bytes("PIN block of VIS", bytes(a ^ b for a, b in zip(field, half)))
    for name, blocks in (
        ("clear PIN block", wire.clear), ("received PIN block", wire.received),
        ("PIN of a script", wire.scripts),
    ):
        for block in blocks:
            found += of_bytes(name, block)
    for name, key in (
        ("ZPK", ZPK), ("first half of ZPK", ZPK[:8]), ("second half of ZPK", ZPK[8:]),
        ("component", COMPONENT), ("other component", OTHER_COMPONENT),
        ("master key", MASTER), ("first half of master key", MASTER[:16]),
        ("second half of master key", MASTER[16:]),
    ):
        found += of_bytes(name, key)
    engines = [chip.engine for chip in wire.chips]
    keys = [("IMK", key) for key in IMK.values()]
    keys += [("card key", key) for of in engines for key in (
        of.icc_mk_ac, of.icc_mk_smi, of.icc_mk_smc,
    )]
    for name, key in keys:
        for part in (key, key[:8], key[8:]):
            found += of_bytes(name, part)
    for card in [CARDS[0], *CHIP_CARDS]:
        found += of_track2("track 2", card.pan, TRACK_REST)
    return found


@pytest.mark.parametrize("json_log", ["true", "false"])
def test_no_secret_is_in_anything_the_switch_leaves(make_switch, json_log):
    # Snapshots are written as early as can be set, so that they are searched too.
    switch = make_switch(
        json=json_log, master_key_file="master.key", zpk="zpk-net", snapshot_mb=1,
        visa_chip=CHIP_RULES, m_chip=CHIP_RULES,
    )
    key_file = switch.directory / "master.key"
    key_file.touch(mode=0o600)
    key_file.write_text(MASTER.hex())
    said, run = commands(switch)
    wire, metrics = Wire(), []
    switch.start()
    card_commands(switch, run)
    conversation(switch, wire)
    chip_conversation(switch, wire, run)
    until_there_is_a_snapshot(switch, wire)
    metrics.append(switch.get("/metrics")[1])
    switch.kill()
    switch.start()
    conversation_after_restart(switch, wire)
    chip_conversation_after_restart(switch, wire, run)
    metrics.append(switch.get("/metrics")[1])
    assert switch.terminate() == 0
    assert run("card", "show", TOKEN_PAN, stdin="") == 1

    haystacks = canaries.files(switch.data)
    assert any(name.endswith(".snap") for name in haystacks), haystacks.keys()
    assert any(name.endswith(".journal") for name in haystacks)
    for start in (1, 2):
        for name in ("stdout", "stderr"):
            haystacks[f"{name} of start {start}"] = switch.output(name, start).read_bytes()
    haystacks["metrics"] = "\n".join(metrics).encode()
    haystacks["command line"] = "\n".join(said).encode()
    # The log was really there, and it is the masked one.
    log = haystacks["stderr of start 1"].decode()
    for card in (CARDS[0], *CHIP_CARDS):
        assert card.pan[:6] + "******" + card.pan[-4:] in log
    assert "1809" in log and "offline PIN bypassed" in log and wire.scripts
    assert canaries.search(haystacks, everything_secret(wire)) == []
    assert no_long_digit_runs(log)


def until_there_is_a_snapshot(switch, wire):
    request = wire.request(CARDS[4], NEW_PIN)
    deadline = time.monotonic() + SNAPSHOT_SECONDS
    with switch.connect() as link:
        while not list(switch.data.rglob("*.snap")):
            assert time.monotonic() < deadline, "no snapshot was taken"
            link.ask_all(authorization(CARDS[4], changes={"52": request["52"]}) for _ in range(200))


def conversation_after_restart(switch, wire):
    with switch.connect() as link:
        assert link.ask(wire.request(CARDS[0], CARDS[0].pin)).code == "00"
        assert link.ask(wire.request(CARDS[1], CARDS[1].pin)).code == "75"


def no_long_digit_runs(log):
    """Thirteen digits in a row would be a PAN; the RRN has twelve, times have marks in them."""
    return re.findall(r"[0-9]{13,}", log) == []


def test_the_search_finds_every_form_in_a_haystack():
    wire = Wire()
    wire.request(CARDS[0], CARDS[0].pin)
    wire.request(CARDS[2], CARDS[2].pin, 3)
    looked_for = everything_secret(wire)
    assert len({canary.form for canary in looked_for}) > 20
    for canary in looked_for:
        haystack = {"here": b"\x00before " + canary.needle + b" after\xff"}
        assert ("here", canary.name, canary.form) in canaries.search(haystack, looked_for)
    assert canaries.search({"empty": b"\0" * 4096, "text": b"0123456789" * 100}, looked_for) == []


def test_the_search_after_every_test_finds_a_pan_and_a_key():
    pan = canaries.DEMO_CARDS[0].pan
    for secret in (pan.encode(), bytes.fromhex(pan), canaries.DEMO_ZPK.hex().encode()):
        assert canaries.demo_secrets_in({"here": b"before" + secret + b"after"})
    assert not canaries.demo_secrets_in({"here": b"476134______0019"})
