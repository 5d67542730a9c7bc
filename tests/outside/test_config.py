"""A wrong setting is reported with its line and with what was expected."""

import pytest
from process import REPOSITORY

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
    ('zpk = "demo-zpk"', 'zpk = "demo-zpk"\npin_block_formats = [1]', "a list of 0 and 3"),
    ('dialect = "iso8583-1987-ascii"', 'dialect = "ebcdic"', "expected iso8583-1987-ascii"),
    ('listen = "127.0.0.1:0"', 'listen = "localhost"', "expected ADDRESS:PORT"),
    ('name = "link-b"', 'name = "link-a"', "two links have the name link-a"),
    ("json = false", 'json = "no"', "expected a boolean"),
    ("json = false", "jsno = false", "unknown field `jsno`"),
    ('network = "net"', "", "missing field `network`"),
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


def test_all_mistakes_are_reported_at_once(make_switch):
    switch = make_switch(sync="often", segment_mb=0, profile="production", listen="nowhere")
    said = switch.refuses_to_start()
    assert said.count("switch.toml:") == 5


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
