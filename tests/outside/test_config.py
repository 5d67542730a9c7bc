"""A wrong setting is reported with its line and with what was expected."""

import pytest
from process import REPOSITORY, run

REPLACEMENTS = [
    ('profile = "test"', 'profile = "production"', 'serves only "test"; there is no override'),
    ('sync = "state"', 'sync = "often"', 'expected "state" or "all"'),
    ("segment_mb = 1", "segment_mb = 0", "expected a number from 1 to 1024"),
    ("connections_max = 1024", "connections_max = -1", "expected a number from 1"),
    ("write_seconds_max = 10", "write_seconds_max = 0", "expected a number from 1"),
    ('bins = ["541333"]', 'bins = ["54 1333"]', "texts of 4 to 11 digits"),
    ('bins = ["541333"]', "bins = []", "texts of 4 to 11 digits"),
    ('pin_retry_limit = "none"', "pin_retry_limit = 0", 'a number from 1, or "none"'),
    ('pin_retry_limit = "none"', 'pin_required = "always"', '"cash", "card_present" or "never"'),
    ('pin_retry_limit = "none"', 'utc_offset = "CET"', "+HH:MM or -HH:MM"),
    ('pin_retry_limit = "none"', 'utc_offset = "+-1:00"', "+HH:MM or -HH:MM"),
    ('pin_retry_limit = "none"', 'utc_offset = "-+1:00"', "+HH:MM or -HH:MM"),
    ('pin_retry_limit = "none"', 'utc_offset = "+01:-1"', "+HH:MM or -HH:MM"),
    ('pin_retry_limit = "none"', 'utc_offset = "+15:00"', "+HH:MM or -HH:MM"),
    ('drain_seconds_max = 10', 'drain_seconds_max = 0', "expected a number from 1"),
    ('zpk = "demo-zpk"', 'zpk = "demo/zpk"', "letters, digits and hyphens"),
    ('zpk = "demo-zpk"', 'zpk = "demo-zpk"\npin_block_formats = [2]', "expected 0, 1, 3 or 4"),
    ('dialect = "iso8583-1987-ascii"', 'dialect = "ebcdic"', "expected iso8583-1987-ascii"),
    ('listen = "127.0.0.1:0"', 'listen = "localhost"', "expected ADDRESS:PORT"),
    ('name = "link-b"', 'name = "link-a"', "two links have the name link-a"),
    ("json = false", 'json = "no"', "log, json: expected true or false"),
    ("json = false", "jsno = false", "log, jsno: unknown key"),
    ('network = "net"', "", "link 2, network: is missing"),
    ("[store]", "[store", "expected"),
]


@pytest.mark.parametrize("old, new, expected", REPLACEMENTS)
def test_a_wrong_setting_names_its_line_and_what_was_expected(make_switch, old, new, expected):
    switch = make_switch()
    head, tail = switch.config.read_text().rsplit(old, 1)
    text = head + new + tail
    switch.config.write_text(text)
    said = switch.refuses_to_start()
    assert expected in said
    assert not switch.data.exists()
    # A name that is missing belongs to its table, which begins two lines above.
    line = head.count("\n") + 1 + new.count("\n") - (2 if not new else 0)
    assert f"{switch.config}:{line}:" in said, said
    result = switch.command("card", "show", "x")
    assert result.returncode == 1 and expected in result.stderr


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
    (10, "limits, connections_max: expected a number from 1 to 100000"),
    (11, "limits, threads: expected a number from 1 to 256"),
    (13, 'store, sync: expected "state" or "all"'),
    (14, "store, retention_gb: expected a number from 1 to 1048576"),
    (16, "log, json: expected true or false"),
    (17, "link 1, network: is missing"),
    (18, "link 1, name: expected a name of 1 to 64 letters, digits, '-', '_' and '.'"),
    (19, "link 1, listen: something else listens on this address already"),
    (20, "link 1, dialect: own.toml has mistakes; they have lines of their own here"),
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
    dialects = ", ".join(sorted(path.stem for path in (REPOSITORY / "iso-specs/specs").iterdir()))
    expected = [
        f"{config}:{line}: {text}".replace("DIALECTS", dialects) for line, text in EXPECTED
    ]
    before = sorted(tmp_path.rglob("*"))
    for words in (["check-config", config], ["--config", config, "check-config"]):
        result = run(*words)
        assert (result.returncode, result.stdout) == (1, "")
        said = result.stderr.splitlines()
        assert said[:len(expected)] == expected
        # The dialect's own mistakes follow, with its own lines.
        in_dialect = said[len(expected):]
        assert [line.split(": ")[:2] for line in in_dialect] == [
            [f"{own}:3", "mti"], [f"{own}:8", "element 11, sensitivity"],
        ]
        # What stands in the file is not repeated.
        assert "4761340000000019" not in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_check_config_of_what_is_right_prints_a_summary_and_makes_nothing(make_switch):
    switch = make_switch()
    result = switch.command("check-config")
    assert (result.returncode, result.stderr) == (0, "")
    for text in ("link-a", "127.0.0.1:0", "iso8583-1987-ascii", "demo-debit", str(switch.data)):
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
    said = switch.refuses_to_start()
    assert said.count("\n") == 1 and "link 2, listen: something else listens" in said


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
