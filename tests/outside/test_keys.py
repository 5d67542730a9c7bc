"""Keys: components in, key block and check value out, psec agrees on both; one purpose for each
key; what the audit says."""

import itertools
import re

import canaries
import messages
import pytest
import settings
from canaries import of_bytes
from messages import CARD_1, DEMO_ZPK, Card, authorization, pan_of
from process import MASTER, components, of_card
from psec import des, tr31
from verification import kcv, visa_pvv

ZPK = bytes.fromhex("B0852A9D7A3B8C1FEA4561F77CD9029B")
TRIPLE = des.adjust_key_parity(bytes(range(100, 124)))
PVK = des.adjust_key_parity(bytes(range(60, 76)))


def no_keys(switch):
    return switch.command("key", "list").stdout == ""


def bring_in(switch, key, name="zpk-net", count=2, *words):
    return switch.bring_in(name, components(key, count), *words)


@pytest.mark.parametrize("key, count", [(ZPK, 2), (ZPK, 3), (TRIPLE, 2), (TRIPLE, 3)])
def test_psec_unwraps_the_printed_block_to_the_same_key(own, key, count):
    result = bring_in(own, key, "zpk-net", count)
    assert result.returncode == 0, result.stderr
    said, block, check_value = result.stdout.splitlines()
    custodians = ", ".join(f"{n} by custodian-{n}" for n in range(1, count + 1))
    assert said.endswith(f"; complete: {custodians}")
    header, value = tr31.unwrap(MASTER, block)
    assert value == key
    assert (header.version_id, header.key_usage, header.algorithm) == ("D", "P0", "T")
    assert check_value == f"KCV {kcv(key)}"
    assert (own.data / "keys" / "zpk-net.key").read_text().strip() == block


def test_the_blocks_of_the_keys_it_makes_for_itself_open_under_the_master_key_only(own):
    assert bring_in(own, ZPK).returncode == 0
    own.start()
    for path in (own.data / "keys").iterdir():
        tr31.unwrap(MASTER, path.read_text().strip())
        with pytest.raises(tr31.KeyBlockError):
            tr31.unwrap(bytes(32), path.read_text().strip())


def test_an_imported_key_verifies_pins_and_lists_with_its_check_value_only(own):
    assert bring_in(own, ZPK).returncode == 0
    own.start()
    card = own.add(Card("one", pan_of("476134", 1), "123456"))
    with own.connect() as link:
        assert link.ask(authorization(card, "123456", zpk=ZPK)).code == "00"
        assert link.ask(authorization(card, "123457", zpk=ZPK)).code == "55"
        assert link.ask(authorization(card, "123456", zpk=DEMO_ZPK)).code == "81"
    listed = own.done("key", "list")
    lines = {line.split()[0]: line for line in listed.splitlines()}
    assert lines.keys() == {"zpk-net", "own-pek", "own-pan", "own-card-digest"}
    assert f"KCV {kcv(ZPK)}" in lines["zpk-net"] and "P0" in lines["zpk-net"]
    for path in (own.data / "keys").iterdir():
        block = path.read_text().strip()
        value = tr31.unwrap(MASTER, block)[1]
        for secret in (block, value.hex(), value.hex()[:8]):
            assert secret.lower() not in listed.lower()


def test_the_parity_of_the_components_does_not_matter(own):
    odd = bytes(byte ^ 1 for byte in ZPK)
    result = bring_in(own, odd)
    assert result.returncode == 0, result.stderr
    assert tr31.unwrap(MASTER, result.stdout.splitlines()[1])[1] == ZPK
    assert f"KCV {kcv(ZPK)}" in result.stdout


def test_a_check_value_that_was_given_must_match(own):
    refused = bring_in(own, ZPK, "zpk-net", 2, "--kcv", "000000")
    assert refused.returncode == 1 and kcv(ZPK) in refused.stderr
    assert no_keys(own)
    own.done("key", "discard", "zpk-net")
    assert bring_in(own, ZPK, "zpk-net", 2, "--kcv", kcv(ZPK).lower()).returncode == 0


def test_a_key_is_never_overwritten(own):
    assert bring_in(own, ZPK).returncode == 0
    again = bring_in(own, TRIPLE)
    assert again.returncode == 1 and "never overwritten" in again.stderr
    assert kcv(ZPK) in own.done("key", "list")


WEAK = bytes.fromhex("0101010101010101")


@pytest.mark.parametrize("parts, named", [
    ([ZPK.hex()], "two or three components"),
    (components(ZPK, 4), "two or three components"),
    (["", ""], "key length"),
    ([ZPK.hex(), TRIPLE.hex()], "another number or length"),
    ([ZPK.hex(), "XY" * 16], "hexadecimal"),
    (components(ZPK[:8], 2), "key length"),
    (components(ZPK[:8] * 2, 2), "equal"),
    (components(TRIPLE[:8] + TRIPLE[8:16] * 2, 2), "equal"),
    (components(WEAK + ZPK[:8], 2), "weak"),
    (components(ZPK + ZPK, 2), "key length"),
])
def test_what_makes_no_good_key_is_refused(own, parts, named):
    result = own.bring_in("zpk-net", parts)
    assert (result.returncode, result.stdout) == (1, "")
    assert named in result.stderr
    for part in filter(None, parts):
        assert part not in result.stderr
    assert no_keys(own)


@pytest.mark.parametrize("name", ["own-pek", "own-x", "../x", "a/b", "a b", "", "x" * 65])
def test_a_key_name_is_letters_digits_and_hyphens_and_not_the_switchs_own(own, name):
    result = bring_in(own, ZPK, name)
    assert result.returncode == 1 and "key name" in result.stderr
    assert no_keys(own)


def test_a_link_without_its_key_does_not_start(own):
    assert "zpk-net" in own.refuses_to_start()


def test_another_master_key_does_not_open_the_keys(own):
    assert bring_in(own, ZPK).returncode == 0
    own.write_master_key(bytes(range(1, 33)).hex())
    assert "key" in own.refuses_to_start()
    assert own.command("key", "list").returncode == 1


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601])
def test_a_master_key_file_that_others_may_read_is_refused(own, mode):
    own.write_master_key(mode=mode)
    said = own.refuses_to_start()
    assert "master.key" in said and f"{mode:04o}" in said and "0600" in said


@pytest.mark.parametrize("text", ["", "00", MASTER.hex()[:-2], MASTER.hex() + "00", "X" * 64])
def test_a_master_key_is_64_hexadecimal_digits(own, text):
    own.write_master_key(text)
    said = own.refuses_to_start()
    assert "master.key" in said and "64 hexadecimal digits" in said
    assert not text or len(text) < 10 or text not in said


# One purpose for each key.


@pytest.mark.parametrize("first, second", list(itertools.permutations(("P0", "V1", "E0", "K1"), 2)))
def test_one_value_never_has_two_usages(own, first, second):
    words = ("--algorithm", "T")
    own.bring_in_key("one", ZPK, *words, usage=first)
    for parity in (0, 1):
        parts = components(bytes(byte ^ parity for byte in ZPK), 2)
        refused = own.bring_in(f"two-{parity}", parts, *words, usage=second)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "serves one purpose" in refused.stderr
    assert [line[0] for line in own.key_list()] == ["one"]


def test_a_value_that_serves_another_purpose_is_no_next_version_either(own):
    own.bring_in_key("one", ZPK, usage="V1")
    own.bring_in_key("two", TRIPLE[:16])
    refused = own.bring_in("two", components(ZPK, 2), "--rotate")
    assert refused.returncode == 1 and "serves one purpose" in refused.stderr
    assert kcv(TRIPLE[:16]) in own.done("key", "list")


def test_a_file_put_there_by_hand_is_under_the_same_rule(own):
    assert bring_in(own, ZPK).returncode == 0
    path = own.data / "keys" / "a-pvk.key"
    path.write_text(tr31.wrap(MASTER, tr31.Header("D", "V2", "T", "C", "01", "N"), ZPK))
    assert "serves one purpose" in own.refuses_to_start()
    refused = own.command("key", "list")
    assert refused.returncode == 1 and "zpk-net" in refused.stderr and "a-pvk" in refused.stderr
    path.write_text(tr31.wrap(MASTER, tr31.Header("D", "V2", "T", "C", "01", "N"), TRIPLE))
    own.start()


def test_the_switchs_own_keys_are_under_the_same_rule(own):
    assert bring_in(own, ZPK).returncode == 0
    own.start()
    pek = tr31.unwrap(MASTER, (own.data / "keys/own-pek.key").read_text().strip())[1]
    refused = own.bring_in("pvk", components(pek, 2), usage="V2")
    assert refused.returncode == 1 and "serves one purpose" in refused.stderr


def test_one_zone_key_may_have_two_names(own):
    own.bring_in_key("one", ZPK)
    own.bring_in_key("two", ZPK)
    assert [line[0] for line in own.key_list()] == ["one", "two"]


@pytest.mark.parametrize("mode, starts", [("B", True), ("D", True), ("N", True), ("E", False)])
def test_a_zone_key_must_be_allowed_to_decrypt(own, mode, starts):
    assert bring_in(own, ZPK, "zpk-net", 2, "--mode", mode).returncode == 0
    if not starts:
        said = own.refuses_to_start()
        assert "zpk-net" in said and f"mode of use {mode}" in said and "decrypt" in said
        return
    own.start()
    card = own.add(Card("one", pan_of("476134", 1), "123456"))
    with own.connect() as link:
        assert link.ask(authorization(card, "123456", zpk=ZPK)).code == "00"


@pytest.mark.parametrize("usage, algorithm", [("V1", "T"), ("V2", "T"), ("K1", "T"), ("E0", "T")])
def test_a_zone_key_has_its_usage(own, usage, algorithm):
    words = ("--algorithm", algorithm)
    own.bring_in_key("zpk-net", ZPK, *words, usage=usage)
    said = own.refuses_to_start()
    assert "zpk-net" in said and usage in said and "P0" in said


def test_a_zone_key_of_aes_is_for_format_4_only(own):
    own.bring_in_key("zpk-net", bytes(range(16)), "--algorithm", "A")
    said = own.refuses_to_start()
    assert "zpk-net" in said and "algorithm A" in said


def labelled(name, key, header):
    """psec's block under the master key, with the name of its key; of nobody if it is none. The
    header is usage, algorithm, mode, version and exportability."""
    made = tr31.Header("D", header[:2], header[2], header[3], header[4:6], header[6])
    if name is not None:
        made.blocks["LB"] = name
    return tr31.wrap(MASTER, made, key)


def with_pvk(switch, usage, mode):
    """`switch` with a product whose PVK is put there by hand."""
    method = visa_pvv("pvv", "pvk", PVK)
    switch.configure(
        master_key_file="master.key", zpk="zpk-net", tables=settings.product("pvv", method.table)
    )
    (switch.data / "keys").mkdir(parents=True, exist_ok=True)
    (switch.data / "keys" / "pvk.key").write_text(labelled("pvk", PVK, f"{usage}T{mode}01N"))


@pytest.mark.parametrize("usage, mode, named", [
    ("V2", "G", "mode of use G"), ("V1", "C", "V1"), ("P0", "B", "P0"), ("E0", "X", "E0"),
])
def test_a_pvk_must_be_for_its_method_and_allowed_to_verify(own, usage, mode, named):
    with_pvk(own, usage, mode)
    assert bring_in(own, ZPK).returncode == 0
    said = own.refuses_to_start()
    assert "key pvk" in said and named in said


def test_a_pvk_that_may_only_verify_sets_no_pin(own):
    with_pvk(own, "V2", "C")
    assert bring_in(own, ZPK).returncode == 0
    own.start()
    card = own.add(Card("one", pan_of("476134", 1), "1234", "pvv"))
    assert own.terminate() == 0
    with_pvk(own, "V2", "V")
    own.start()
    another = Card("two", pan_of("476134", 2), "1234", "pvv")
    for refused in (own.ask({"set_pin": {"token": "one", "pin": "9999"}}),
                    own.ask({"add": of_card(another)})):
        assert "mode of use V" in refused and "generate" in refused
    with own.connect() as link:
        requests = [authorization(card, pin, zpk=ZPK) for pin in ("9999", "1234")]
        assert link.codes(requests) == ["55", "00"]


# A block names its key.


def test_a_key_file_under_the_name_of_another_key_is_refused(own):
    assert bring_in(own, ZPK).returncode == 0
    own.start()
    assert own.terminate() == 0
    keys = own.data / "keys"
    for source, target in [("zpk-net", "other"), ("zpk-net", "own-pek"), ("own-pek", "zpk-net")]:
        path = keys / f"{target}.key"
        before = path.read_text() if path.exists() else None
        path.write_text((keys / f"{source}.key").read_text())
        named = f"{target}.key: the block is of key {source}, not of {target}"
        assert named in own.refuses_to_start()
        refused = own.command("key", "list")
        assert refused.returncode == 1 and named in refused.stderr
        path.unlink() if before is None else path.write_text(before)
    own.start()


def test_keys_of_an_earlier_version_are_given_their_names_at_the_first_start(own):
    assert bring_in(own, ZPK).returncode == 0
    own.start()
    card = own.add(Card("one", pan_of("476134", 1), "123456"))
    assert own.terminate() == 0
    keys, values, old = own.data / "keys", {}, {}
    for path in keys.iterdir():
        header, values[path] = tr31.unwrap(MASTER, path.read_text().strip())
        old[path] = labelled(None, values[path], str(header)[5:12])
        path.write_text(old[path] + "\n")
    assert len(values) == 4
    # Looking changes nothing.
    assert len(own.key_list()) == 4
    assert {path: path.read_text().strip() for path in keys.iterdir()} == old
    own.start()
    assert own.log().count('action="key labelled"') == 4
    with own.connect() as link:
        assert link.ask(authorization(card, "123456", zpk=ZPK)).code == "00"
    assert own.terminate() == 0
    for path, value in values.items():
        header, found = tr31.unwrap(MASTER, path.read_text().strip())
        assert (header.blocks["LB"], found) == (path.stem, value)
    own.start()
    assert "key labelled" not in own.log()
    assert own.terminate() == 0
    # An old block does not come back, under whatever name.
    (keys / "other.key").write_text(old[keys / "zpk-net.key"])
    said = own.refuses_to_start()
    assert "other.key" in said and "label" in said


def test_a_command_gives_them_their_names_too(own):
    (own.data / "keys").mkdir(parents=True, mode=0o700)
    path = own.data / "keys" / "zpk-net.key"
    path.write_text(labelled(None, ZPK, "P0TB01N"))
    said = own.command("key", "generate", "other", "--usage", "P0")
    assert said.returncode == 0 and 'action="key labelled" name="zpk-net"' in said.stderr
    assert tr31.unwrap(MASTER, path.read_text().strip())[0].blocks["LB"] == "zpk-net"


# What the audit says.


def test_every_change_of_keys_leaves_a_line_with_no_secret(own):
    kek = bytes(range(32))
    block = tr31.wrap(kek, tr31.Header("D", "V2", "T", "C", "00", "E"), TRIPLE)
    first, second = components(ZPK, 2)
    said = []

    def audited(*words, stdin=""):
        result = own.command("key", *words, stdin=stdin)
        assert result.returncode == 0, result.stderr
        said.append(result.stderr)
        return result.stderr

    def component(name, part, number, *words):
        return audited("import", name, "--usage", "P0", "--component", str(number), "--of", "2",
                       "--custodian", f"custodian-{number}", *words, stdin=part + "\n")

    line = component("zpk-net", first, 1)
    assert 'action="key component" name="zpk-net" what="component 1 of 2 by custodian-1"' in line
    assert " uid=0" in line
    line = component("zpk-net", second, 2)
    assert 'action="key component" name="zpk-net" what="component 2 of 2 by custodian-2"' in line
    assert f'action="key import" name="zpk-net" what="KCV {kcv(ZPK)}"' in line
    own.bring_in_key("kek", kek, "--algorithm", "A", usage="K1")
    own.start()
    words = ("--usage", "V2", "--under", "kek", "--exportable")
    line = audited("import", "pvk", *words, stdin=block)
    assert f'action="key import" name="pvk" what="KCV {kcv(TRIPLE)}"' in line
    line = audited("export", "pvk", "--under", "kek")
    assert f'action="key export" name="pvk" what="KCV {kcv(TRIPLE)} under kek"' in line
    assert 'action="key generate" name="zpk-net" what="KCV ' in audited(
        "generate", "zpk-net", "--usage", "P0", "--rotate"
    )
    line = audited("retire", "zpk-net")
    assert f'action="key retire" name="zpk-net" what="KCV {kcv(ZPK)}"' in line
    component("other", first, 1)
    assert 'action="key discard" name="other"' in audited("discard", "other")
    audit = (own.data / "audit.log").read_text().splitlines()
    assert all(re.search(r" uid 0( login uid \d+)?$", line) for line in audit)
    actions = [line.split()[1:4] for line in audit]
    assert [" ".join(words) for words in actions] == [
        "key component zpk-net", "key component zpk-net", "key import zpk-net",
        "key component kek", "key component kek", "key import kek", "key import pvk",
        "key export pvk", "key generate zpk-net", "key retire zpk-net", "key component other",
        "key discard other",
    ]
    assert own.log().count('action="reload keys" done=true') == 4
    blocks = [path.read_text().strip() for path in (own.data / "keys").iterdir()]
    values = [ZPK, TRIPLE, kek, MASTER, *(tr31.unwrap(MASTER, text)[1] for text in blocks)]
    secrets = [canary for value in values for canary in of_bytes("key", value)]
    texts = "".join([*said, own.log()])
    assert canaries.search({"said": texts.encode()}, secrets) == []
    for secret in (first, second, block, *blocks):
        assert secret not in texts


def test_a_reload_that_fails_is_told_and_changes_nothing(own):
    assert bring_in(own, ZPK).returncode == 0
    own.start()
    card = own.add(Card("one", pan_of("476134", 1), "1234"))
    (own.data / "keys" / "zpk-net.key").unlink()
    refused = own.command("key", "generate", "other", "--usage", "P0")
    assert refused.returncode == 1 and "goes on with the keys it has" in refused.stderr
    assert 'action="reload keys" done=false' in own.log()
    with own.connect() as link:
        assert link.ask(authorization(card, "1234", zpk=ZPK)).code == "00"


# Keys that everybody knows stay on loopback.

DEMO_MASTER = b"pinswitch demo master key public"
PUBLIC_KEYS = [
    DEMO_ZPK,
    bytes.fromhex("D9867045BC1343B3025D7A0EE3BC2AE9"),
    bytes.fromhex("A179FDC85E70C4FDFE015486024654A7"),
]


@pytest.mark.parametrize("text", [DEMO_MASTER.hex(), DEMO_MASTER.hex().upper() + "\n"])
@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
def test_the_value_of_the_demo_master_key_in_a_file_refuses_any_address_but_loopback(
    make_switch, listen, text
):
    switch = make_switch(master_key_file="master.key", zpk="zpk-net")
    switch.write_master_key(text)
    assert bring_in(switch, ZPK).returncode == 0
    switch.configure(master_key_file="master.key", zpk="zpk-net", listen=listen)
    said = switch.refuses_to_start()
    assert "master key" in said and "loopback" in said
    assert text.strip() not in said


@pytest.mark.parametrize("key", [DEMO_ZPK, ZPK])
def test_a_double_length_key_written_as_triple_length_is_refused(own, key):
    """K1-K2-K1 is the same key as K1-K2, under which it would not be recognised."""
    refused = bring_in(own, key + key[:8])
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "key" in refused.stderr and kcv(key) not in refused.stderr
    assert no_keys(own)


def test_the_demo_master_key_refuses_any_address_but_loopback(make_switch):
    for listen in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0"):
        said = make_switch(listen=listen).refuses_to_start()
        assert "switch.toml:" in said and "loopback" in said


@pytest.mark.parametrize("key", PUBLIC_KEYS)
@pytest.mark.parametrize("even_parity", [False, True])
def test_the_demo_keys_under_an_own_master_key_refuse_too(make_switch, key, even_parity):
    switch = make_switch(
        master_key_file="master.key", zpk="zpk-net", listen="0.0.0.0:0"
    )
    switch.write_master_key()
    imported = bytes(byte ^ 1 for byte in key) if even_parity else key
    refused = bring_in(switch, imported)
    assert refused.returncode == 1
    assert "zpk-net" in refused.stderr and "loopback" in refused.stderr
    # Nor where it came in while nobody else could reach the switch.
    switch.configure(master_key_file="master.key", zpk="zpk-net")
    switch.done("key", "discard", "zpk-net")
    assert bring_in(switch, imported).returncode == 0
    switch.configure(master_key_file="master.key", zpk="zpk-net", listen="0.0.0.0:0")
    said = switch.refuses_to_start()
    assert "zpk-net" in said and "loopback" in said
    assert key.hex().upper() not in said.upper()


def test_the_demo_zone_key_is_allowed_on_loopback(own):
    assert bring_in(own, DEMO_ZPK).returncode == 0
    own.start()
    assert "listening" in own.log()
    own.add(CARD_1)
    with own.connect() as link:
        assert link.ask(messages.authorization(CARD_1, CARD_1.pin)).code == "00"
