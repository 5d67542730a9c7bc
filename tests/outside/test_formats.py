"""What an earlier release kept is read: golden data directories, one for each format of the
records, made by `golden_store.py` with the release that wrote it."""

import json
import tarfile

import pytest
from golden_store import ADDED, GOLDEN, REMOVED, SETTINGS, shown
from messages import CARD_4, authorization, other_pin

VERSIONS = [path.name.removesuffix(".tar.xz") for path in sorted(GOLDEN.glob("*.tar.xz"))]


@pytest.fixture(params=VERSIONS)
def old(make_switch, request):
    """A switch with the data of an earlier release, which does not run, and what they hold."""
    switch = make_switch(**SETTINGS)
    with tarfile.open(GOLDEN / f"{request.param}.tar.xz") as archive:
        archive.extractall(switch.directory, filter="data")
    return switch, json.loads((switch.directory / "expected.json").read_text())


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
    assert VERSIONS == ["6", "7"]


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
    # The last one may only be prepared.
    segments = sorted((switch.data / "journal").glob("*.journal"))
    segment = next(path for path in reversed(segments) if any(path.read_bytes()))
    data = bytearray(segment.read_bytes())
    data[len(data.rstrip(b"\0")) - 40] ^= 1
    segment.write_bytes(data)
    said = switch.refuses_to_start()
    assert f"{segment} at offset" in said, said
