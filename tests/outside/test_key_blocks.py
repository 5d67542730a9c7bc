"""Key blocks: `key generate`, `key import --under` and `key export`, against psec's TR-31."""

import random

import pytest
from process import MASTER
from psec import des, tr31
from verification import kcv, tdes_key

SOURCE = random.Random(31)
ZPK = tdes_key(SOURCE)
TRIPLE = tdes_key(SOURCE, 24)
AES_128, AES_256 = SOURCE.randbytes(16), SOURCE.randbytes(32)
# Keys that key blocks travel under, by version of the block.
KEKS = {"D": SOURCE.randbytes(32), "B": tdes_key(SOURCE, 24)}
WEAKER_KEKS = {"D": SOURCE.randbytes(16), "B": tdes_key(SOURCE, 16)}
ENCRYPTING, CALCULATING, DERIVING = "BDEN", "CGVN", "XN"
# Algorithms and modes of use by usage, the usual ones first.
KINDS = {
    "P0": ("TA", ENCRYPTING), "K1": ("AT", ENCRYPTING), "V1": ("T", CALCULATING),
    "V2": ("T", CALCULATING), "E0": ("T", DERIVING), "E1": ("T", DERIVING),
    "E2": ("T", DERIVING),
}
EVERY_KIND = [(u, a, m) for u, (algorithms, modes) in KINDS.items() for a in algorithms
              for m in modes]


@pytest.fixture(scope="module")
def kek_files(make_shared):
    switch = make_shared(master_key_file="master.key")
    switch.write_master_key()
    bring_in_keks(switch, KEKS)
    switch.bring_in_key("kek-decrypts", SOURCE.randbytes(32), "--mode", "D", usage="K1")
    switch.bring_in_key("kek-encrypts", SOURCE.randbytes(32), "--mode", "E", usage="K1")
    switch.done("key", "generate", "not-a-kek", "--usage", "P0", "--algorithm", "A")
    return key_files(switch)


@pytest.fixture
def keyed(own, kek_files):
    """A switch with keys that key blocks travel under; it does not run."""
    (own.data / "keys").mkdir(parents=True)
    for name, text in kek_files.items():
        (own.data / "keys" / name).write_text(text)
    return own


def key_files(switch):
    return {path.name: path.read_text() for path in (switch.data / "keys").iterdir()}


def opened(block):
    """Usage, algorithm, mode of use, version and exportability, and the key."""
    header, key = tr31.unwrap(MASTER, block)
    # A block that stays here names its key.
    assert header.version_id == "D" and header.blocks.keys() - {"PB"} == {"LB"}
    fields = (header.key_usage, header.algorithm, header.mode_of_use, header.version_num,
              header.exportability)
    return "".join(fields), key


def printed(text):
    block, check_value, *rest = text.splitlines()
    assert rest in ([], ["the running switch has it in use"])
    return block, check_value.removeprefix("KCV ")


def bring_in_keks(switch, keks):
    for version, key in keks.items():
        algorithm = "A" if version == "D" else "T"
        switch.bring_in_key(f"kek-{version}", key, "--algorithm", algorithm, usage="K1")


def wrapped(version, key, header="P0TB00E", blocks=(), keks=None, masked=None):
    """psec's block: the header is usage, algorithm, mode, version and exportability."""
    fields = header[:2], header[2], header[3], header[4:6], header[6]
    made = tr31.Header(version, *fields)
    made.blocks._blocks.update(blocks)
    return tr31.wrap((keks or KEKS)[version], made, key, masked)


def import_block(switch, block, *words, name="zpk", usage="P0", under="kek-D"):
    return switch.command(
        "key", "import", name, "--usage", usage, "--under", under, *words, stdin=block + "\n"
    )


def assert_refused(result, named, *secrets):
    assert (result.returncode, result.stdout) == (1, "")
    assert named in result.stderr
    for secret in secrets:
        assert secret.lower() not in result.stderr.lower()


def assert_not_in(switch, result, named, *secrets):
    """The key "zpk" was refused and is not there."""
    assert_refused(result, named, *secrets)
    assert "zpk.key" not in key_files(switch)


# Generate.


@pytest.mark.parametrize("usage, algorithm, mode", EVERY_KIND)
@pytest.mark.parametrize("exportable", ["E", "N"])
def test_a_generated_key_is_what_was_asked_for(own, usage, algorithm, mode, exportable):
    words = ["--exportable"] if exportable == "E" else []
    said = own.done("key", "generate", "one", "--usage", usage, "--algorithm", algorithm,
                    "--mode", mode, *words)
    block, check_value = printed(said)
    header, key = opened(block)
    assert header == f"{usage}{algorithm}{mode}01{exportable}"
    assert check_value == kcv(key, algorithm)
    assert len(key) == (32 if algorithm == "A" else 16)
    if algorithm == "T":
        assert des.adjust_key_parity(key) == key and key[:8] != key[8:]
    assert key_files(own) == {"one.key": block + "\n"}
    assert tr31.unwrap(MASTER, block)[0].blocks["LB"] == "one"
    words = ["exportable"] if exportable == "E" else ["not", "exportable"]
    (listed,) = own.key_list()
    assert listed[:5] == ["one", "version", "1", "KCV", check_value]
    assert listed[5:-1][: 2 + len(words)] == [algorithm + mode, *words, usage]


@pytest.mark.parametrize("usage", KINDS)
def test_algorithm_and_mode_of_use_have_usual_values(own, usage):
    block, _ = printed(own.done("key", "generate", "one", "--usage", usage))
    algorithms, modes = KINDS[usage]
    assert opened(block)[0] == f"{usage}{algorithms[0]}{modes[0]}01N"


def test_no_two_generated_keys_are_equal(own):
    said = [own.done("key", "generate", f"key-{n}", "--usage", "P0") for n in range(8)]
    assert len({opened(printed(text)[0])[1] for text in said}) == 8


@pytest.mark.parametrize("usage", KINDS)
def test_an_algorithm_or_mode_that_the_usage_has_not_is_refused(own, usage):
    algorithms, modes = KINDS[usage]
    wrong = [("--algorithm", a) for a in "TA" if a not in algorithms]
    wrong += [("--mode", m) for m in "BCDEGNVX" if m not in modes]
    assert wrong
    for words in wrong:
        result = own.command("key", "generate", "one", "--usage", usage, *words)
        assert_refused(result, "no such algorithm or mode of use")
    assert key_files(own) == {}


@pytest.mark.parametrize("words", [
    ("--usage", "M7"), ("--usage", "D0"), ("--usage", "C0"), ("--usage", "p0"), ("--usage", ""),
    ("--usage", "P0", "--algorithm", "H"), ("--usage", "P0", "--mode", "S"), (),
])
def test_an_unknown_usage_algorithm_or_mode_is_a_mistake_of_the_command(own, words):
    assert own.command("key", "generate", "one", *words).returncode == 2
    assert not (own.data / "keys").exists()


def test_generate_never_overwrites_a_key(own):
    before = own.done("key", "generate", "zpk", "--usage", "P0")
    for usage in ("P0", "V1"):
        refused = own.command("key", "generate", "zpk", "--usage", usage)
        assert_refused(refused, "never overwritten")
    assert key_files(own) == {"zpk.key": printed(before)[0] + "\n"}


# Import.


@pytest.mark.parametrize("exportable", "EN")
@pytest.mark.parametrize("version, key, kind", [
    *((version, ZPK, u + "T" + m) for version in "DB" for u, a, m in EVERY_KIND if a == "T"),
    *(("D", AES_128, f"{usage}A{mode}") for usage in ("P0", "K1") for mode in ENCRYPTING),
    ("D", TRIPLE, "V1TC"), ("B", TRIPLE, "V1TC"), ("D", AES_256, "P0AB"),
])
def test_a_block_of_psec_comes_in_with_its_attributes(keyed, version, key, kind, exportable):
    usage, algorithm = kind[:2], kind[2]
    block = wrapped(version, key, f"{kind}00{exportable}")
    words = ["--algorithm", algorithm, *(["--exportable"] if exportable == "E" else [])]
    result = import_block(keyed, block, *words, usage=usage, under=f"kek-{version}")
    assert result.returncode == 0, result.stderr
    block, check_value = printed(result.stdout)
    # Its first version here, whatever it was there.
    assert opened(block) == (f"{kind}01{exportable}", key)
    assert check_value == kcv(key, algorithm)


@pytest.mark.parametrize("version", "DB")
@pytest.mark.parametrize("blocks", [
    {"KS": "00604B120F9292800000"}, {"TS": "20261122T000000Z", "IK": "0123456789ABCDEF"},
    {"CT": "x" * 251}, {f"B{n}": "y" * n for n in range(10)},
])
def test_optional_blocks_are_read_past(keyed, version, blocks):
    result = import_block(keyed, wrapped(version, ZPK, blocks=blocks), under=f"kek-{version}")
    assert result.returncode == 0, result.stderr
    # Exportable only where both sides say so.
    assert opened(printed(result.stdout)[0]) == ("P0TB01N", ZPK)


@pytest.mark.parametrize("version", "DB")
def test_the_fill_does_not_matter(keyed, version):
    for number, masked in enumerate([16, 24, 32, 64]):
        block, name = wrapped(version, ZPK, masked=masked), f"zpk-{number}"
        result = import_block(keyed, block, name=name, under=f"kek-{version}")
        assert result.returncode == 0, (masked, result.stderr)
        assert opened(printed(result.stdout)[0])[1] == ZPK


def test_what_is_exportable_with_conditions_is_not_exportable_here(keyed):
    said = import_block(keyed, wrapped("D", ZPK, "P0TB00S")).stdout
    assert opened(printed(said)[0])[0] == "P0TB01N"


@pytest.mark.parametrize("version", "DB")
def test_a_damaged_block_is_refused(keyed, version):
    block = wrapped(version, ZPK, blocks={"KS": "00604B120F9292800000"})
    for at in range(0, len(block), 2):
        changed = "1" if block[at] != "1" else "2"
        damaged = block[:at] + changed + block[at + 1 :]
        refused = import_block(keyed, damaged, under=f"kek-{version}")
        assert_not_in(keyed, refused, "zpk", damaged, ZPK.hex())
        refused = import_block(keyed, block[:at], under=f"kek-{version}")
        assert_not_in(keyed, refused, "zpk", ZPK.hex())
    for longer in (block + "0" * 16, block + block):
        assert_not_in(keyed, import_block(keyed, longer, under=f"kek-{version}"), "length")


@pytest.mark.parametrize("version, other", ["DB", "BD"])
def test_a_block_of_another_version_is_refused(keyed, version, other):
    refused = import_block(keyed, wrapped(other, ZPK), under=f"kek-{version}")
    assert_not_in(keyed, refused, f"its version is not {version}")


@pytest.mark.parametrize("version", "AC")
def test_blocks_of_version_a_and_c_are_refused(keyed, version):
    block = wrapped(version, ZPK, keks={version: KEKS["B"]})
    assert_not_in(keyed, import_block(keyed, block, under="kek-B"), "its version is not B")


@pytest.mark.parametrize("version", "DB")
def test_a_block_under_another_key_is_refused(keyed, version):
    block = wrapped(version, ZPK, keks=WEAKER_KEKS)
    refused = import_block(keyed, block, under=f"kek-{version}")
    assert_not_in(keyed, refused, "authentication")


@pytest.mark.parametrize("header, usage, words, named", [
    ("V2TC00E", "P0", (), "V2"), ("P0TB00E", "V1", (), "P0"), ("V1TC00E", "V2", (), "V1"),
    ("P0TB00E", "K1", (), "P0"), ("P0TB00E", "P0", ("--algorithm", "A"), "algorithm T"),
])
def test_a_block_with_a_key_for_another_purpose_is_refused(keyed, header, usage, words, named):
    refused = import_block(keyed, wrapped("D", ZPK, header), *words, usage=usage)
    assert_not_in(keyed, refused, named)


@pytest.mark.parametrize("header", [
    "C0TC00E", "D0TB00E", "M7TC00E", "B0TX00E", "P0DB00E", "P0TS00E", "K0TB00E",
])
def test_a_block_with_a_usage_algorithm_or_mode_that_has_no_place_here_is_refused(keyed, header):
    assert_not_in(keyed, import_block(keyed, wrapped("D", ZPK, header)), "no place here")


@pytest.mark.parametrize("header", ["P0TC00E", "P0TX00E", "V2TB00E", "E0TB00E"])
def test_a_block_with_a_mode_that_its_usage_has_not_is_refused(keyed, header):
    refused = import_block(keyed, wrapped("D", ZPK, header), usage=header[:2])
    assert_not_in(keyed, refused, "no such algorithm or mode of use")


@pytest.mark.parametrize("header", ["M7HC00E", "D0AB00E"])
def test_keys_that_only_the_switch_makes_do_not_come_in(keyed, header):
    block = wrapped("D", AES_256, header)
    assert_not_in(keyed, import_block(keyed, block, "--algorithm", "A"), header[:2])


def test_the_version_of_a_component_is_refused(keyed):
    assert_not_in(keyed, import_block(keyed, wrapped("D", ZPK, "P0TBc1E")), "version")


def test_a_check_value_that_was_given_must_match(keyed):
    block = wrapped("D", ZPK)
    for text in ("000000", kcv(ZPK) + "00", "", kcv(ZPK)[:4]):
        assert_not_in(keyed, import_block(keyed, block, "--kcv", text), kcv(ZPK))
    assert import_block(keyed, block, "--kcv", kcv(ZPK).lower()).returncode == 0


@pytest.mark.parametrize("key, named", [
    (bytes(byte ^ 1 for byte in ZPK), "parity"), (ZPK[:8] * 2, "equal"), (ZPK[:8], "length"),
    (ZPK + ZPK[:8], "equal"), (bytes([1] * 8) + ZPK[:8], "weak"), (ZPK + ZPK, "length"), (b"", ""),
])
def test_a_block_with_no_good_key_is_refused(keyed, key, named):
    for version in "DB":
        refused = import_block(keyed, wrapped(version, key, masked=24), under=f"kek-{version}")
        assert_not_in(keyed, refused, named)


@pytest.mark.parametrize("version, key, header", [
    ("D", AES_256, "P0AB00E"), ("B", TRIPLE, "P0TB00E"), ("B", AES_128, "P0AB00E"),
])
def test_a_key_that_is_stronger_than_what_protects_it_is_refused(own, version, key, header):
    bring_in_keks(own, WEAKER_KEKS)
    block = wrapped(version, key, header, keks=WEAKER_KEKS)
    words = ("--algorithm", header[2])
    assert_not_in(own, import_block(own, block, *words, under=f"kek-{version}"), "stronger")


@pytest.mark.parametrize("text", ["", "D", "D0112P0TB00E0000", "x" * 112, "ü" * 56, "D9999" * 24])
def test_what_is_no_block_is_refused(keyed, text):
    assert_not_in(keyed, import_block(keyed, text), "key block")


@pytest.mark.parametrize("under, named", [
    ("none", "does not exist"), ("not-a-kek", "P0"), ("kek-encrypts", "mode of use E"),
])
def test_only_a_protection_key_that_may_decrypt_brings_keys_in(keyed, under, named):
    assert_not_in(keyed, import_block(keyed, wrapped("D", ZPK), under=under), named)


def test_components_and_a_block_do_not_go_together(keyed):
    words = ("--component", "1", "--of", "2", "--custodian", "ann")
    assert import_block(keyed, wrapped("D", ZPK), *words).returncode == 2


# Export.


@pytest.mark.parametrize("version", "DB")
@pytest.mark.parametrize("usage", KINDS)
def test_psec_opens_an_exported_block_to_the_same_key(keyed, version, usage):
    words = ("--usage", usage, "--algorithm", "T", "--exportable")
    kept = keyed.done("key", "generate", "one", *words)
    files = key_files(keyed)
    said = keyed.done("key", "export", "one", "--under", f"kek-{version}")
    block, check_value = printed(said)
    header, key = tr31.unwrap(KEKS[version], block)
    # What it is called here is nothing to others.
    assert not header.blocks
    attributes, value = opened(printed(kept)[0])
    assert (key, check_value) == (value, kcv(value))
    assert block[0] == version
    assert str(header)[5:12] == attributes and attributes.endswith("E")
    assert key_files(keyed) == files


def test_an_aes_key_goes_out_under_aes(keyed):
    kept = keyed.done("key", "generate", "one", "--usage", "P0", "--exportable", "--algorithm", "A")
    block, check_value = printed(keyed.done("key", "export", "one", "--under", "kek-D"))
    key = tr31.unwrap(KEKS["D"], block)[1]
    assert key == opened(printed(kept)[0])[1] and check_value == kcv(key, "A")


def test_the_newest_version_goes_out(keyed):
    for words in ((), ("--rotate",)):
        kept = keyed.done("key", "generate", "zpk", "--usage", "P0", "--exportable", *words)
    header, key = tr31.unwrap(
        KEKS["D"], printed(keyed.done("key", "export", "zpk", "--under", "kek-D"))[0]
    )
    assert (key, header.version_num) == (opened(printed(kept)[0])[1], "02")


def test_what_one_switch_sends_out_another_brings_in(keyed, make_switch):
    other = make_switch(master_key_file="master.key")
    other.write_master_key(SOURCE.randbytes(32).hex())
    bring_in_keks(other, KEKS)
    keyed.done("key", "generate", "zpk", "--usage", "P0", "--exportable")
    for version in "DB":
        kek = f"kek-{version}"
        block, check_value = printed(keyed.done("key", "export", "zpk", "--under", kek))
        said = import_block(other, block, name=f"zpk-{version}", under=kek).stdout
        assert printed(said)[1] == check_value


AES_ZONE_KEY = ("--usage", "P0", "--algorithm", "A", "--exportable")
TDES_ZONE_KEY = ("--usage", "P0", "--exportable")


@pytest.mark.parametrize("under, words, named", [
    ("kek-D", ("--usage", "P0"), "not exportable"),
    ("kek-B", AES_ZONE_KEY, "stronger"),
    ("not-a-kek", TDES_ZONE_KEY, "P0"),
    ("kek-decrypts", TDES_ZONE_KEY, "mode of use D"),
    ("none", TDES_ZONE_KEY, "does not exist"),
    ("kek-D", (), "does not exist"),
])
def test_an_export_that_must_not_be_is_refused(keyed, under, words, named):
    if words:
        keyed.done("key", "generate", "one", *words)
    assert_refused(keyed.command("key", "export", "one", "--under", under), named)


def test_a_triple_length_key_goes_out_under_no_double_length_key(own):
    bring_in_keks(own, WEAKER_KEKS)
    own.bring_in_key("one", TRIPLE, "--exportable")
    assert_refused(own.command("key", "export", "one", "--under", "kek-B"), "stronger")


@pytest.mark.parametrize("name", ["own-pek", "own-pan", "own-card-digest"])
def test_the_switchs_own_keys_never_go_out(keyed, name):
    keyed.bring_in_key("zpk-net", ZPK)
    keyed.start()
    assert_refused(keyed.command("key", "export", name, "--under", "kek-D"), "own-")


def test_a_mode_of_use_that_differs_from_the_block_is_refused(keyed):
    assert_not_in(keyed, import_block(keyed, wrapped("D", ZPK, "P0TB00E"), "--mode", "D"), "mode")
