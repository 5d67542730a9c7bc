"""What an earlier release kept is read: golden data directories, one for each format of the
records, made by `golden_store.py` with the release that wrote it."""

import json
import tarfile

import pytest
from golden_store import ADDED, GOLDEN, REMOVED, SETTINGS, shown
from messages import CARD_4, authorization, other_pin

VERSIONS = [path.name.removesuffix(".tar.xz") for path in sorted(GOLDEN.glob("*.tar.xz"))]
# Those that are read; the others are refused with what to do.
READ = VERSIONS[1:]


def with_data_of(version, make_switch):
    switch = make_switch(**SETTINGS)
    with tarfile.open(GOLDEN / f"{version}.tar.xz") as archive:
        archive.extractall(switch.directory, filter="data")
    return switch


@pytest.fixture(params=READ)
def old(make_switch, request):
    """A switch with the data of an earlier release, which does not run, and what they hold."""
    switch = with_data_of(request.param, make_switch)
    return switch, json.loads((switch.directory / "expected.json").read_text())


def records_of(data):
    """Where the payloads of the whole records of a segment begin, and how long they are."""
    at = 64
    while at < len(data):
        if data[at] != ord("{"):
            at = (at + 4096) // 4096 * 4096
            continue
        length = int.from_bytes(data[at + 1 : at + 5], "little")
        yield at, length
        at += 30 + length


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def make_format(segment, format_byte):
    """Gives the last record of a segment another format, with right check sums."""
    data = bytearray(segment.read_bytes())
    at, length = list(records_of(data))[-1]
    data[at + 29] = format_byte
    number = int(segment.stem).to_bytes(4, "little")
    head = number + data[at + 1 : at + 21]
    data[at + 25 : at + 29] = crc32c(head + data[at + 29 : at + 29 + length]).to_bytes(4, "little")
    segment.write_bytes(data)
    return at


def newest_segment(switch):
    # The last one may only be prepared.
    segments = sorted((switch.data / "journal").glob("*.journal"))
    return next(path for path in reversed(segments) if any(path.read_bytes()))


def holds(found, expected):
    """All that is expected is found; there may be more. The words of a reason (`reason` in earlier
    releases, `memo` now) are no data: its code is."""
    if isinstance(expected, dict):
        expected = {name: value for name, value in expected.items() if name != "reason"}
        return all(name in found and holds(found[name], value) for name, value in expected.items())
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(holds, found, expected))
    return found == expected


def test_there_is_a_golden_directory_of_each_format():
    assert VERSIONS == ["6", "7", "8"]


def test_an_earlier_release_is_read_and_written_on(old):
    switch, expected = old
    switch.start()
    assert holds(shown(switch), expected), shown(switch)
    assert "no card with this token" in switch.command("card", "show", REMOVED.token).stderr
    with switch.connect() as link:
        assert link.ask(authorization(CARD_4, other_pin(CARD_4.pin))).code == "55"
        assert link.ask(authorization(ADDED, ADDED.pin)).code == "00"
    tries = expected[CARD_4.token]["card"]["pin_try_counter"]
    assert switch.show(CARD_4.token)["pin_try_counter"] == tries + 1
    switch.kill()
    switch.start()
    assert "ERROR" not in switch.log() and "dropped" not in switch.log()
    assert switch.show(CARD_4.token)["pin_try_counter"] == tries + 1
    history = json.loads(switch.done("transaction", "show", CARD_4.token))
    assert holds(history[1:], expected[CARD_4.token]["transactions"])


def test_damage_of_an_earlier_release_is_refused(old):
    switch, _ = old
    segment = newest_segment(switch)
    data = bytearray(segment.read_bytes())
    data[len(data.rstrip(b"\0")) - 40] ^= 1
    segment.write_bytes(data)
    said = switch.refuses_to_start()
    assert f"{segment} at offset" in said, said


def store_of(switch):
    parts = [switch.data / "journal", switch.data / "snapshots"]
    return {path: path.read_bytes() for part in parts for path in part.iterdir()}


def test_data_of_an_older_release_are_refused_with_what_to_do(make_switch):
    switch = with_data_of("6", make_switch)
    before = store_of(switch)
    said = switch.refuses_to_start()
    assert "at offset" in said and "format 6" in said, said
    assert "start the release before this one" in said, said
    assert store_of(switch) == before


@pytest.mark.parametrize("version", READ)
@pytest.mark.parametrize("format_byte, words", [(9, "a later release"), (6, "format 6")])
def test_records_of_another_release_are_refused(make_switch, version, format_byte, words):
    switch = with_data_of(version, make_switch)
    segment = newest_segment(switch)
    at = make_format(segment, format_byte)
    said = switch.refuses_to_start()
    assert f"{segment} at offset {at}" in said and words in said, said


def test_events_of_the_format_before_are_told(make_switch):
    switch = with_data_of("7", make_switch).start()
    events = [json.loads(line) for line in switch.done("events").splitlines()]
    suspended = [event for event in events if event["type"] == "cardtransition.state.suspended"]
    assert [event["card_token"] for event in suspended] == ["demo-card-1"]
    assert suspended[0]["actor"] == {"kind": "network", "name": "net"}
    assert suspended[0]["pan"] == "476134______0019"
