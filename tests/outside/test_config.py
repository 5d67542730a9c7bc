"""A wrong setting is reported with its line and with what was expected."""

import pytest
from process import MASTER, REPOSITORY, run

OFFSET = "product 4, utc_offset: expected +HH:MM or -HH:MM"
BINS = "product 3, bins: expected a list of texts of 4 to 11 digits"
PEERS = ("link 2, peers: expected an IP address or a network without bits beyond its prefix, such "
         "as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")
# A setting of the configuration, what stands in its place, and all that is said of that.
REPLACEMENTS = [
    ('profile = "test"', 'profile = "production"',
     'profile: expected "test": the software HSM is not a PCI HSM and serves only "test"; there '
     "is no override"),
    ('sync = "state"', 'sync = "often"', 'store, sync: expected "state" or "all"'),
    ("segment_mb = 1", "segment_mb = 0", "store, segment_mb: expected a number from 1 to 1024"),
    ("connections_max = 1024", "connections_max = -1",
     "limits, connections_max: expected a number from 1 to 100000"),
    ("write_seconds_max = 10", "write_seconds_max = 0",
     "limits, write_seconds_max: expected a number from 1 to 3600"),
    ('bins = ["541333"]', 'bins = ["54 1333"]', BINS),
    ('bins = ["541333"]', 'bins = ["541333", 541333]', BINS),
    ('bins = ["541333"]', "bins = []", BINS),
    ('bins = ["541333"]', 'bins = "541333"', "product 3, bins: expected a list"),
    ('bins = ["541333"]', 'bins = ["541333", "5413", "541333"]',
     "product 3, bins: one BIN is there twice"),
    ('pin_retry_limit = "none"', "pin_retry_limit = 0",
     'product 4, pin_retry_limit: expected a number from 1, or "none"'),
    ('pin_retry_limit = "none"', 'pin_required = "always"',
     'product 4, pin_required: expected "cash", "card_present" or "never"'),
    ('pin_retry_limit = "none"',
     'chip = {imk_ac = "a", imk_smi = "b", imk_smc = "c", fallback = "never"}',
     'product 4, chip, fallback: expected "decline", "online_pin" or "allow"'),
    ('pin_retry_limit = "none"',
     'chip = {imk_ac = "a", imk_smi = "b", imk_smc = "c", approve_exhausted = "never"}',
     'product 4, chip, approve_exhausted: expected "always" or "next_cvm"'),
    ('pin_retry_limit = "none"',
     'chip = {imk_ac = "a", imk_smi = "b", imk_smc = "c", pin_not_entered = "allow"}',
     'product 4, chip, pin_not_entered: expected "decline" or "cvm_list"'),
    ('pin_retry_limit = "none"',
     'chip = {imk_ac = "a", imk_smi = "b", imk_smc = "c", locked_chip = "allow"}',
     'product 4, chip, locked_chip: expected "decline" or "where_pin_required"'),
    ('pin_retry_limit = "none"',
     'chip = {imk_ac = "a", imk_smi = "b", imk_smc = "c", unactivated_pin_block_days = 0}',
     'product 4, chip, unactivated_pin_block_days: expected a number from 1 to 3650'),
    ("limit_per_transaction = 1250", "limit_per_transaction = 0",
     "product 5, limit_per_transaction: expected a number from 1 to 999999999999"),
    ('pin_retry_limit = "none"', 'utc_offset = "CET"', OFFSET),
    ('pin_retry_limit = "none"', 'utc_offset = "+-1:00"', OFFSET),
    ('pin_retry_limit = "none"', 'utc_offset = "-+1:00"', OFFSET),
    ('pin_retry_limit = "none"', 'utc_offset = "+01:-1"', OFFSET),
    ('pin_retry_limit = "none"', 'utc_offset = "+15:00"', OFFSET),
    ('drain_seconds_max = 10', 'drain_seconds_max = 0',
     "limits, drain_seconds_max: expected a number from 1 to 3600"),
    ("drain_seconds_max = 10", "admin_connections_max = 0\ndrain_seconds_max = 10",
     "limits, admin_connections_max: expected a number from 1 to 10000"),
    ("drain_seconds_max = 10", "control_idle_seconds_max = 3601\ndrain_seconds_max = 10",
     "limits, control_idle_seconds_max: expected a number from 1 to 3600"),
    ("drain_seconds_max = 10", "first_message_seconds_max = 3601\ndrain_seconds_max = 10",
     "limits, first_message_seconds_max: expected no more than idle_seconds_max"),
    ("drain_seconds_max = 10", "hsm_milliseconds_max = 5001\ndrain_seconds_max = 10",
     "limits, hsm_milliseconds_max: expected no more than answer_milliseconds_max: an answer must "
     "be in time"),
    ("drain_seconds_max = 10", "in_flight_per_link_max = 16001\ndrain_seconds_max = 10",
     "limits, in_flight_per_link_max: expected no more than in_flight_max"),
    ('zpk = "demo-zpk"', 'connections_max = 1024\nzpk = "demo-zpk"',
     "link 2, connections_max: expected no more than 1023: the links share connections_max = 1024 "
     "of [limits]"),
    ('zpk = "demo-zpk"', 'connections_per_address_max = 0\nzpk = "demo-zpk"',
     "link 2, connections_per_address_max: expected a number from 1 to 100000"),
    *(('zpk = "demo-zpk"', f'peers = ["192.0.2.7", {text}]\nzpk = "demo-zpk"', PEERS)
      for text in ('"192.0.2.7/24"', '"192.0.2.0/33"', '"host"', "7", '""')),
    ('zpk = "demo-zpk"', 'peers = "192.0.2.7"\nzpk = "demo-zpk"',
     "link 2, peers: expected a list"),
    ('zpk = "demo-zpk"', 'zpk = "demo/zpk"',
     "link 2, zpk: expected the name of a key that was brought in: letters, digits and hyphens, "
     "not own-*"),
    ('zpk = "demo-zpk"', "pin_block_formats = [2]\nzpk = \"demo-zpk\"",
     "link 2, pin_block_formats: expected 0, 1, 3 or 4"),
    ('zpk = "demo-zpk"', "pin_block_formats = [0, 9]\nzpk = \"demo-zpk\"",
     "link 2, pin_block_formats: expected 0, 1, 3 or 4"),
    ('zpk = "demo-zpk"', "pin_block_formats = []\nzpk = \"demo-zpk\"",
     "link 2, pin_block_formats: expected a list of 0, 1 and 3, or of 4 alone"),
    ('zpk = "demo-zpk"', 'header = "ecko"\nheader_bytes = 10\nzpk = "demo-zpk"',
     'link 2, header: expected "none", "tpdu", "base-i" or "echo"'),
    ('zpk = "demo-zpk"', 'header_bytes = 10\nheader = "tpdu"\nzpk = "demo-zpk"',
     'link 2, header_bytes: only header = "echo" has it'),
    ('dialect = "iso8583-1987-ascii"', 'dialect = "ebcdic"',
     "link 2, dialect: expected DIALECTS or the path of a .toml file"),
    ('dialect = "iso8583-1987-ascii"', 'dialect = "gone.toml"',
     "link 2, dialect: gone.toml: No such file or directory (os error 2)"),
    ('listen = "127.0.0.1:0"', 'listen = "localhost"',
     "link 2, listen: expected ADDRESS:PORT of this machine, such as 127.0.0.1:8583"),
    ('name = "link-b"', 'name = "link-a"', "link 2, name: two links have the name link-a"),
    ("json = false", 'json = "no"', "log, json: expected true or false"),
    ("json = false", "jsno = false", "log, jsno: unknown key"),
    ('network = "net"', "", "link 2, network: is missing"),
    ("[store]", "[store", "syntax: unclosed table, expected `]`"),
]
BUILTIN_DIALECTS = ", ".join(
    sorted(path.stem for path in (REPOSITORY / "iso-specs/specs").iterdir())
)


@pytest.mark.parametrize("old, new, expected", REPLACEMENTS)
def test_a_wrong_setting_is_one_mistake_with_its_line_and_what_was_expected(
    make_switch, old, new, expected
):
    switch = make_switch()
    head, tail = switch.config.read_text().rsplit(old, 1)
    switch.config.write_text(head + new + tail)
    # A name that is missing belongs to its table, which begins two lines above.
    line = head.count("\n") + 1 - (2 if not new else 0)
    expected = f"{switch.config}:{line}: {expected}\n".replace("DIALECTS", BUILTIN_DIALECTS)
    assert switch.refuses_to_start() == expected
    assert not switch.data.exists()
    for words in (["card", "show", "x"], ["check-config"]):
        result = switch.command(*words)
        assert (result.returncode, result.stderr) == (1, expected)


def test_a_link_for_which_no_connection_is_left_is_a_mistake(make_switch):
    switch = make_switch(link_a="connections_max = 1024")
    text = switch.config.read_text()
    line = text[: text.rindex("[[links]]")].count("\n") + 1
    share = "the links share connections_max = 1024 of [limits]"
    expected = f"link 2, connections_max: no connection is left for this link: {share}"
    assert switch.command("check-config").stderr == f"{switch.config}:{line}: {expected}\n"


def master_key_mistake(switch):
    """What is said of the master key file, which is the only mistake."""
    result = switch.command("check-config")
    assert (result.returncode, result.stdout) == (1, "")
    assert switch.refuses_to_start() == result.stderr
    text = switch.config.read_text()
    line = text[: text.index("master_key_file")].count("\n") + 1
    place = f"{switch.config}:{line}: hsm, master_key_file: "
    assert result.stderr.startswith(place) and result.stderr.count("\n") == 1
    assert not switch.data.exists()
    return result.stderr.removeprefix(place)[:-1]


def test_a_master_key_file_that_is_not_there_or_wrong_is_a_mistake_of_the_configuration(
    make_switch
):
    switch = make_switch(master_key_file="master.key", zpk="zpk-net")
    path = switch.directory / "master.key"
    assert master_key_mistake(switch) == f"{path}: No such file or directory (os error 2)"
    switch.write_master_key(mode=0o640)
    mode = "the mode is 0640; a file with a key must have mode 0600"
    assert master_key_mistake(switch) == f"{path}: {mode}"
    digits = "a master key is 64 hexadecimal digits (AES-256)"
    for text in ("", "12" * 31, "12" * 33, "1X" * 32):
        path.unlink()
        switch.write_master_key(text)
        assert master_key_mistake(switch) == f"{path}: {digits}"
    path.unlink()
    switch.write_master_key()
    before = path.stat().st_mtime_ns
    assert switch.command("check-config").returncode == 0
    assert path.stat().st_mtime_ns == before and not switch.data.exists()


@pytest.mark.parametrize("key", [
    MASTER.hex(), MASTER.hex().upper(), MASTER[:16].hex(), MASTER.hex(" ", 4),
])
def test_a_master_key_in_the_place_of_its_file_is_refused_and_not_repeated(make_switch, key):
    switch = make_switch(master_key_file=key, zpk="zpk-net")
    said = master_key_mistake(switch)
    assert said == "expected the path of a file, and not what belongs into it"


def test_a_dialect_that_two_links_write_in_two_ways_is_read_once(make_switch):
    switch = make_switch(dialect="own.toml")
    own = switch.directory / "own.toml"
    builtin = (REPOSITORY / "iso-specs/specs/iso8583-1987-ascii.toml").read_text()
    own.write_text(builtin.replace('mti = "ascii"', 'mti = "roman"'))
    head, tail = switch.config.read_text().rsplit('"own.toml"', 1)
    switch.config.write_text(f'{head}"./own.toml"{tail}')
    lines = [number for number, line in enumerate(switch.config.read_text().splitlines(), 1)
             if line.startswith("dialect = ")]
    text = "it has mistakes; they have lines of their own here"
    mti = builtin[: builtin.index('mti = "ascii"')].count("\n") + 1
    assert switch.command("check-config").stderr.splitlines() == [
        f"{switch.config}:{lines[0]}: link 1, dialect: own.toml: {text}",
        f"{switch.config}:{lines[1]}: link 2, dialect: ./own.toml: {text}",
        f'{own}:{mti}: mti: expected "ascii", "ebcdic" or "bcd"',
    ]


MISTAKES = """\
data_dir = 7
profile = "production"
colour = "red"

[hsm]
master_key_file = "m.key"
[admin]
listen = "127.0.0.1:9464"
[limits]
connections_max = 0
threads = "two"
[store]
sync = "never"
retention_gb = 1.5
[log]
json = 1
[[links]]
name = "a b"
listen = "127.0.0.1:9464"
dialect = "own.toml"
zpk = "own-pek"
[[links]]
name = "two"
network = "net"
listen = "127.0.0.1:70000"
dialect = "other"
zpk = "zpk"
pin_block_formats = [0, 9]
[[products]]
name = "p"
bins = ["4761", "4761340000000019"]
currency = 1000
[[products]]
name = "p"
bins = ["4761"]
currency = 978
utc_offset = "CET"
pin_required = "often"
pin_retry_limit = 0
"""
EXPECTED = [
    (1, "data_dir: expected a text of one line"),
    (2, 'profile: expected "test": the software HSM is not a PCI HSM and serves only "test"; '
        "there is no override"),
    (3, "colour: unknown key"),
    (6, "hsm, master_key_file: DIRECTORY/m.key: No such file or directory (os error 2)"),
    (10, "limits, connections_max: expected a number from 1 to 100000"),
    (11, "limits, threads: expected a number from 1 to 256"),
    (13, 'store, sync: expected "state" or "all"'),
    (14, "store, retention_gb: expected a number from 1 to 1048576"),
    (16, "log, json: expected true or false"),
    (17, "link 1, network: is missing"),
    (18, "link 1, name: expected a name of 1 to 64 letters, digits, '-', '_' and '.'"),
    (19, "link 1, listen: something else listens on this address already"),
    (20, "link 1, dialect: own.toml: it has mistakes; they have lines of their own here"),
    (21, "link 1, zpk: expected the name of a key that was brought in: letters, digits and "
         "hyphens, not own-*"),
    (25, "link 2, listen: expected ADDRESS:PORT of this machine, such as 127.0.0.1:8583"),
    (26, "link 2, dialect: expected DIALECTS or the path of a .toml file"),
    (28, "link 2, pin_block_formats: expected 0, 1, 3 or 4"),
    (31, "product 1, bins: expected a list of texts of 4 to 11 digits"),
    (32, "product 1, currency: expected a number from 1 to 999"),
    (34, "product 2, name: two products have the name p"),
    (37, "product 2, utc_offset: expected +HH:MM or -HH:MM"),
    (38, 'product 2, pin_required: expected "cash", "card_present" or "never"'),
    (39, 'product 2, pin_retry_limit: expected a number from 1, or "none"'),
]


def test_check_config_prints_every_mistake_of_a_file_and_of_its_dialect(tmp_path):
    config, own = tmp_path / "switch.toml", tmp_path / "own.toml"
    config.write_text(MISTAKES)
    own.write_text('name = "own"\ndescription = "d"\nmti = "roman"\nbitmap = "hex"\n'
                   'length_prefix = "ascii"\nresponse_code_column = "1987"\n'
                   "echo = {default = [11], network_management = []}\n"
                   'elements.11 = {name = "STAN", type = "n", length = "fixed", max = 6, '
                   'encoding = "ascii", sensitivity = "hidden"}\n')
    expected = [
        f"{config}:{line}: {text}".replace("DIALECTS", BUILTIN_DIALECTS)
        .replace("DIRECTORY", str(tmp_path)) for line, text in EXPECTED
    ]
    before = sorted(tmp_path.rglob("*"))
    for words in (["check-config", config], ["--config", config, "check-config"]):
        result = run(*words)
        assert (result.returncode, result.stdout) == (1, "")
        said = result.stderr.splitlines()
        # The dialect's own mistakes follow, with its own lines.
        assert said == expected + [
            f'{own}:3: mti: expected "ascii", "ebcdic" or "bcd"',
            f'{own}:8: element 11, sensitivity: expected "public", "pan", "track", "secret" or '
            '"chip"',
        ]
        # What stands in the file is not repeated.
        assert "4761340000000019" not in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_check_config_of_what_is_right_prints_a_summary_and_makes_nothing(make_switch):
    peers = 'peers = ["192.0.2.7", "::ffff:198.51.100.0/120"]\nconnections_max = 24'
    switch = make_switch(link_a=peers)
    result = switch.command("check-config")
    assert (result.returncode, result.stderr) == (0, "")
    for text in ("24 connections from 192.0.2.7 198.51.100.0/24\n",
                 "1000 connections from anywhere\n", "link-a", "127.0.0.1:0",
                 "iso8583-1987-ascii", "demo-debit", str(switch.data)):
        assert text in result.stdout
    assert not switch.data.exists()
    demo = run("check-config", cwd=switch.directory)
    assert demo.returncode == 0 and "127.0.0.1:8583" in demo.stdout
    assert list(switch.directory.iterdir()) == [switch.config]


def test_check_config_takes_one_file(tmp_path):
    words = ["--config", tmp_path / "a.toml", "check-config", tmp_path / "b.toml"]
    result = run(*words)
    assert result.returncode == 1 and "name one file" in result.stderr


def test_two_that_listen_on_one_address_are_a_mistake(make_switch):
    switch = make_switch(listen="127.0.0.1:18583")
    text = switch.config.read_text()
    line = text[: text.rindex("listen = ")].count("\n") + 1
    mistake = "link 2, listen: something else listens on this address already"
    assert switch.refuses_to_start() == f"{switch.config}:{line}: {mistake}\n"


def test_a_file_that_is_not_there_is_named(make_switch):
    switch = make_switch()
    switch.config.unlink()
    assert str(switch.config) in switch.refuses_to_start()


def test_the_commented_example_is_what_the_demo_runs(make_switch):
    switch = make_switch()
    example = switch.directory / "demo.toml"
    text = (REPOSITORY / "switch/demo.toml").read_text()
    example.write_text(text.replace(":8583", ":0").replace(":9464", f":{switch.admin_port}"))
    switch.config = example
    switch.launch()
    while "listening" not in switch.log():
        assert switch.process.poll() is None, switch.log()
    assert switch.terminate() == 0
