"""PINs that cardholders set at a terminal (R194): DE3 92, the current PIN in DE52 and the new one in
DE63, with psec as the PIN pad and pyemv as the chip."""

import json

import pytest
import settings
from api_client import Api
from canaries import of_bytes
from chip import PROFILES, Chip, told
from messages import (
    ASCII, BINARY, CARD_1, Card, authorization, encrypted, other_pin, pan_of, pin_block,
)
from test_api_pins import VIEWABLE, revealed
from test_key_rotation import METHODS, NEW_ZPK, PVK_IBM, PVK_VISA, ZPK

NEW_PIN, THIRD_PIN = "5803", "926483"


def change(card, pin, new_block, **options):
    changes = {"3": "920000", "4": None, "49": None, "63": new_block} | options.pop("changes", {})
    return authorization(card, pin, changes=changes, **options)


def new_pin(card, pin, new, **options):
    return change(card, pin, pin_block(new, card.pan), **options)


def told_of(switch):
    events = [json.loads(line) for line in switch.done("events").splitlines()]
    return [event for event in events if event["type"] == "cardactions.pin.changed"]


@pytest.mark.parametrize("dialect", [ASCII, BINARY])
def test_a_pin_is_set_in_both_dialects_told_and_shown(make_switch, dialect):
    switch = make_switch(dialect=dialect, debit_chip=VIEWABLE).start()
    with switch.connect(dialect=dialect) as link:
        before = len(told_of(switch))
        request = new_pin(CARD_1, CARD_1.pin, NEW_PIN)
        answer = link.ask(request)
        assert (answer.code, len(answer.elements["38"])) == ("00", 6)
        assert "63" not in answer.elements and "52" not in answer.elements
        assert link.ask(dict(request, t="0101")).raw == answer.raw
        assert link.codes([authorization(CARD_1, NEW_PIN), authorization(CARD_1, CARD_1.pin)]) == [
            "00", "55"]
        weak = link.ask(new_pin(CARD_1, NEW_PIN, "2580"))
        assert (weak.code, weak.reason) == ("57", "1048")
        # Digits in lower case are the same block.
        lower = pin_block(THIRD_PIN, CARD_1.pan).lower()
        assert link.ask(change(CARD_1, NEW_PIN, lower)).code == "00"
    events = told_of(switch)[before:]
    assert [event["actor"]["kind"] for event in events] == ["network", "network"]
    assert all(event["card_token"] == CARD_1.token and event["pin_is_set"] for event in events)
    assert revealed(Api(switch)) == THIRD_PIN
    line = [line for line in switch.log().splitlines() if "PIN set at a terminal" in line]
    assert len(line) == 2 and CARD_1.token in line[0]
    # A commit that was answered survives.
    switch.kill()
    switch.start()
    with switch.connect(dialect=dialect) as link:
        assert link.ask(authorization(CARD_1, THIRD_PIN)).code == "00"
    assert revealed(Api(switch)) == THIRD_PIN


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_the_script_rides_in_the_same_answer(make_switch, profile):
    switch = make_switch(
        visa_chip=settings.chip("visa"), m_chip=settings.chip("mchip")).start()
    chip, card = Chip(profile), profile.card
    with switch.connect() as link:
        block = pin_block(THIRD_PIN, card.pan)
        request = chip.request(online_pin=card.pin, tags={"9F34": "420300"}, changes={
            "3": "920000", "63": block})
        answer = link.ask(request)
        assert answer.code == "00"
        arpc, script, command = told(answer)
        assert (arpc, command) == (chip.arpc(), chip.pin_change(THIRD_PIN)) and script
        assert link.ask(dict(request, t="0101")).raw == answer.raw
        wrong = chip.request(online_pin=other_pin(THIRD_PIN), changes={"3": "920000", "63": block})
        answer = link.ask(wrong)
        assert (answer.code, answer.reason, told(answer)[1:]) == ("55", "1809", (None, None))


@pytest.fixture
def rotating(make_switch):
    """A link whose zone key has two versions, and a product for each method."""
    switch = make_switch()
    switch.configure(
        master_key_file="master.key", zpk="zpk", link_a="pin_block_formats = [0, 1, 3]",
        tables="".join(settings.product(method.name, method.table) for method in METHODS))
    switch.write_master_key()
    switch.bring_in_key("zpk", ZPK)
    switch.bring_in_key("zpk", NEW_ZPK, "--rotate")
    switch.bring_in_key("pvk-visa", PVK_VISA, usage="V2")
    switch.bring_in_key("pvk-ibm", PVK_IBM, usage="V1")
    return switch.start()


def test_both_blocks_are_under_one_version_of_the_zone_key(rotating):
    """A block of format 1 that is read under the wrong version would now and then pass for a PIN
    that nobody has chosen."""
    for number, method in enumerate(METHODS):
        card = Card(method.name, pan_of("476134", 500 + number), "4071", method.name)
        rotating.add_all([card])
        # With an offset or a value a block of format 1 is no proof of a PIN.
        formats = [0, 1, 3] if number == 0 else [0, 3]
        with rotating.connect() as link:
            pin = card.pin
            for round_ in range(12):
                zpk, other = (ZPK, NEW_ZPK) if round_ % 2 else (NEW_ZPK, ZPK)
                iso_format = formats[round_ % len(formats)]
                new = f"{71_930 + 11 * round_}"
                mixed = change(card, pin, pin_block(new, card.pan, other), zpk=zpk)
                answer = link.ask(mixed)
                assert (answer.code, answer.reason) == ("57", "1048"), (method.name, round_)
                block = pin_block(new, card.pan, zpk, iso_format)
                answer = link.ask(change(card, pin, block, zpk=zpk, iso_format=iso_format))
                assert answer.code == "00", (method.name, round_)
                pin = new
            assert link.ask(authorization(card, pin, zpk=ZPK)).code == "00"


def test_nothing_of_a_new_pin_is_in_log_answer_or_data(make_switch):
    """The new block and the PIN in it are secrets like DE52."""
    switch = make_switch().start()
    new, clear = "73915826", bytes.fromhex("0873915826FFFFFF")
    block = bytes.fromhex(pin_block(new, CARD_1.pan))
    with switch.connect() as link:
        answers = [link.ask(new_pin(CARD_1, CARD_1.pin, new)).raw]
        # Refused, unreadable, beside a format error, and in an advice.
        answers += [link.ask(request).raw for request in [
            new_pin(CARD_1, CARD_1.pin, new),
            change(CARD_1, new, block.hex() + "0"),
            change(CARD_1, new, encrypted(bytes([0xEE] * 8))),
            new_pin(CARD_1, new, new, changes={"14": "9999"}),
            new_pin(CARD_1, new, new, mti="0120"),
        ]]
    switch.stop()
    needles = [*of_bytes("block", block), *of_bytes("clear block", clear)]
    places = {"answers": b"".join(answers), "log": switch.log().encode()}
    for file in (switch.directory / "data").rglob("*"):
        if file.is_file():
            places[file.name] = file.read_bytes()
    found = [(where, needle.form) for where, data in places.items() for needle in needles
             if needle.needle in data]
    assert found == []
    assert new.encode() not in places["log"] and new.encode() not in places["answers"]
