"""Components of a key come from two or three people, who need not come on one day; none of them
ever sees another's, and nothing in between is there in clear."""

import os
import time

import canaries
import pytest
from canaries import of_bytes
from process import MASTER, components
from psec import des, tr31
from verification import kcv

ZPK = bytes.fromhex("B0852A9D7A3B8C1FEA4561F77CD9029B")
TRIPLE = des.adjust_key_parity(bytes(range(100, 124)))


def no_keys(switch):
    return switch.key_list() == []


def bring_component(switch, part, number, *words, of=2, custodian=None, usage="P0"):
    return switch.command(
        "key", "import", "zpk-net", "--usage", usage, "--component", str(number), "--of", str(of),
        "--custodian", custodian or f"custodian-{number}", *words, stdin=part + "\n",
    )


@pytest.mark.parametrize("count, order", [(2, (2, 1)), (3, (3, 1, 2)), (3, (2, 3, 1))])
def test_components_come_in_any_order(own, count, order):
    parts = components(ZPK, count)
    for left, number in enumerate(order):
        result = bring_component(own, parts[number - 1], number, of=count)
        assert result.returncode == 0, result.stderr
        first, *rest = result.stdout.splitlines()
        last = left == count - 1
        custodians = ", ".join(f"{n} by custodian-{n}" for n in order[: left + 1])
        still = f"complete: {custodians}" if last else f"of {count}: {custodians}"
        component = kcv(bytes.fromhex(parts[number - 1]))
        assert first == f"component {number} KCV {component}; {still}"
        assert no_keys(own) != last
    assert tr31.unwrap(MASTER, rest[0])[1] == ZPK
    assert [path.name for path in (own.data / "keys").iterdir()] == ["zpk-net.key"]


FIRST, SECOND = components(ZPK, 2)


@pytest.mark.parametrize("number, words, changes, named", [
    (2, (), {"custodian": "custodian-1"}, "custodian has brought"),
    (2, (), {"custodian": " Custodian-1"}, "custodian has brought"),
    (2, (), {"custodian": "CUSTODIAN-1 "}, "custodian has brought"),
    (1, (), {"custodian": "another"}, "there already"),
    (2, (), {"of": 3}, "another number or length"),
    (2, (), {"usage": "V2"}, "another version, usage, algorithm or mode of use"),
    (2, ("--mode", "D"), {}, "another version, usage, algorithm or mode of use"),
    (2, ("--algorithm", "A"), {}, "another version, usage, algorithm or mode of use"),
    (2, ("--exportable",), {}, "another version, usage, algorithm or mode of use"),
    (0, (), {}, "numbered from 1"), (3, (), {}, "numbered from 1"),
    (2, (), {"of": 1}, "two or three"), (4, (), {"of": 4}, "two or three"),
    (2, (), {"custodian": " " * 65}, "1 to 64"),
    (2, (), {"custodian": "ann\n2 bob"}, "1 to 64"),
])
def test_a_component_that_does_not_go_with_the_first_is_refused_and_changes_nothing(
    own, number, words, changes, named
):
    assert bring_component(own, FIRST, 1).returncode == 0
    path = own.data / "keys" / "zpk-net.components"
    before = path.read_text()
    refused = bring_component(own, SECOND, number, *words, **changes)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert named in refused.stderr and SECOND not in refused.stderr
    assert path.read_text() == before and no_keys(own)
    done = bring_component(own, SECOND, 2)
    assert f"KCV {kcv(ZPK)}" in done.stdout and not path.exists()


def test_of_three_custodians_none_brings_two(own):
    parts = components(ZPK, 3)
    for number in (1, 2):
        assert bring_component(own, parts[number - 1], number, of=3).returncode == 0
    for known in ("custodian-1", "custodian-2"):
        refused = bring_component(own, parts[2], 3, of=3, custodian=known)
        assert refused.returncode == 1 and "custodian has brought" in refused.stderr
    assert no_keys(own)


def test_the_same_component_from_two_custodians_makes_no_key(own):
    assert bring_component(own, FIRST, 1).returncode == 0
    refused = bring_component(own, FIRST, 2)
    assert refused.returncode == 1 and no_keys(own)


def test_a_last_component_that_was_mistyped_can_be_brought_again(own):
    assert bring_component(own, FIRST, 1).returncode == 0
    mistyped = "E" + SECOND[1:] if SECOND[0] != "E" else "D" + SECOND[1:]
    refused = bring_component(own, mistyped, 2, "--kcv", kcv(ZPK))
    assert refused.returncode == 1 and "not the one expected" in refused.stderr
    done = bring_component(own, SECOND, 2, "--kcv", kcv(ZPK))
    assert f"KCV {kcv(ZPK)}" in done.stdout


def test_discarded_components_are_forgotten(own):
    for number, part in enumerate(components(TRIPLE, 3)[:2], 1):
        assert bring_component(own, part, number, of=3).returncode == 0
    own.done("key", "discard", "zpk-net")
    assert list((own.data / "keys").iterdir()) == []
    assert own.command("key", "discard", "zpk-net").returncode == 1
    assert f"KCV {kcv(ZPK)}" in own.bring_in_key("zpk-net", ZPK)


def test_between_the_calls_no_component_is_there_in_clear(own):
    """Neither one nor what some of them make, nor the key: raw, in hexadecimal or in Base64."""
    parts = [bytes.fromhex(part) for part in components(ZPK, 3)]
    together = bytes(a ^ b for a, b in zip(*parts[:2]))
    values = dict(zip(("one", "two", "three", "one and two", "key"), [*parts, together, ZPK]))
    values["one and two, odd parity"] = des.adjust_key_parity(together)
    secrets = [canary for name, value in values.items() for canary in of_bytes(name, value)]
    for number, part in enumerate(parts, 1):
        assert bring_component(own, part.hex(), number, of=3).returncode == 0
        files = canaries.files(own.directory)
        assert any(path.endswith((".components", ".key")) for path in files)
        assert canaries.search(files, secrets) == []
        for path in (own.data / "keys").iterdir():
            assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_of_components_is_refused(own):
    assert bring_component(own, FIRST, 1).returncode == 0
    path = own.data / "keys" / "zpk-net.components"
    whole = path.read_text()
    numbered = whole.replace("1 cus", "x cus")
    assert numbered != whole
    for damaged in (whole[:-2] + "G\n", whole[:-40], "", "x" * 200, numbered):
        path.write_text(damaged)
        assert bring_component(own, SECOND, 2).returncode == 1
        assert no_keys(own)


def test_components_are_of_their_key_and_of_those_who_brought_them(own):
    """No other key's file, no other custodian's name, and no key although it looks like one."""
    # As a key it would pass.
    odd = des.adjust_key_parity(bytes.fromhex(FIRST)).hex()
    assert bring_component(own, odd, 1).returncode == 0
    keys = own.data / "keys"
    path = keys / "zpk-net.components"
    whole = path.read_text()
    path.rename(keys / "other.components")
    words = ("key", "import", "other", "--usage", "P0", "--of", "2")
    refused = own.command(*words, "--component", "2", "--custodian", "bob", stdin=SECOND)
    assert refused.returncode == 1 and "are of another key" in refused.stderr
    (keys / "other.components").unlink()
    for before, after in [("custodian-1", "custodian-2"), ("1 cus", "2 cus"), ("2\n", "3\n"),
                          ("2\n", "2 000000\n")]:
        changed = whole.replace(before, after, 1)
        assert changed != whole
        path.write_text(changed)
        refused = bring_component(own, SECOND, 3 if after == "3\n" else 2, of=int(changed[0]),
                                  custodian="bob")
        assert refused.returncode == 1 and "changed who brought" in refused.stderr
    path.unlink()
    # Who brought the first component knows what is sealed here.
    (keys / "zpk-net.key").write_text(whole.splitlines()[-1])
    refused = own.command("key", "list")
    assert refused.returncode == 1 and "zpk-net.components" in refused.stderr
    (keys / "zpk-net.key").unlink()
    path.write_text(whole)
    assert bring_component(own, SECOND, 2).returncode == 0


def test_a_check_value_given_with_the_first_component_must_match_too(own):
    one, two = components(ZPK, 2)
    assert bring_component(own, one, 1, "--kcv", "000000").returncode == 0
    assert bring_component(own, two, 2).returncode == 1


def test_a_component_of_a_rotation_that_was_given_up_joins_no_later_one(own):
    own.bring_in_key("zpk-net", bytes.fromhex(FIRST))
    assert bring_component(own, SECOND, 1, "--rotate").returncode == 0
    own.done("key", "generate", "zpk-net", "--usage", "P0", "--rotate")
    own.done("key", "retire", "zpk-net")
    refused = bring_component(own, SECOND, 2, "--rotate")
    assert refused.returncode == 1 and "another version" in refused.stderr


def test_components_wait_for_a_day_only(own):
    assert bring_component(own, FIRST, 1).returncode == 0
    state = own.data / "keys" / "zpk-net.components"
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(state, (two_days_ago, two_days_ago))
    refused = bring_component(own, SECOND, 2)
    assert refused.returncode == 1 and "older than a day" in refused.stderr
    own.done("key", "discard", "zpk-net")
    assert own.bring_in("zpk-net", [FIRST, SECOND]).returncode == 0


def test_a_component_of_zeros_is_none(own):
    refused = bring_component(own, "00" * 16, 1)
    assert refused.returncode == 1 and "zeros" in refused.stderr
    assert no_keys(own)
