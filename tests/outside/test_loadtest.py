"""Our own client against the switch: what the README tells a stranger to run."""

import contextlib
import json
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest
import settings
from process import BINARY, REPOSITORY

LOADTEST = Path(os.environ.get("LOADTEST", REPOSITORY / "target/release/loadtest")).resolve()
# Wrong PINs with more cards than can be in flight on one connection.
WRONG_PINS = ["--cards", "1001", "--wrong-pins", "10", "--connections", "1"]


def run(*words):
    return subprocess.run([LOADTEST, *words], capture_output=True, text=True, timeout=60)


def loadtest(switch, *words):
    return run(*words, "--address", f"127.0.0.1:{switch.ports()['link-a']}")


def expected(result):
    """The JSON report of a run in which all went as expected."""
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout)


@contextlib.contextmanager
def echo():
    """Address of a bare echo server."""
    words = [LOADTEST, "echo", "--listen", "127.0.0.1:0", "--threads", "1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield re.fullmatch(r"listening (\S+)\n", server.stdout.readline())[1]
        finally:
            server.kill()


@pytest.fixture
def seeded(make_switch):
    switch = make_switch()
    switch.done("seed", "--cards", "1001")
    return switch.start()


def test_check_passes_twice_in_a_row_and_shows_no_pan(switch):
    for _ in range(2):
        result = loadtest(switch, "check", "--data-dir", str(switch.data))
        assert result.returncode == 0, result.stdout + result.stderr
        assert result.stdout.rstrip().endswith("36 passed, 0 failed")
        assert "4761340000000019" not in result.stdout


def test_check_fails_where_an_answer_is_wrong(make_switch):
    switch = make_switch().start()
    switch.done("card", "set-pin", "demo-card-1", stdin="1357")
    result = loadtest(switch, "check", "--data-dir", str(switch.data))
    assert result.returncode == 1
    assert "FAIL: expected" in result.stdout


STORY_PINS = ["3306", "8114", "6150", "9427"]


def with_chips(make_switch, ftpam):
    visa = settings.chip("visa", f"ftpam = {ftpam}\nftpdy = 7\n")
    return make_switch(visa_chip=visa, m_chip=settings.chip("mchip")).start()


def test_the_story_ends_well_twice_in_a_row_and_shows_no_secret(make_switch):
    switch = with_chips(make_switch, ftpam=5000)
    for _ in range(2):
        result = loadtest(switch, "story", "--data-dir", str(switch.data))
        assert result.returncode == 0, result.stdout + result.stderr
        assert result.stdout.endswith("\nThe chips hold the new PINs.\n")
        assert "bypass: below FTPAM (amount 2000, FTPAM 5000)" in result.stdout
        # The first two wrong entries stay at the terminal.
        assert "and enters the new PIN, 3 times\n" in result.stdout
        assert re.search(r"tries left: 2\n +.* tries left: 1\n +.*no try is left\n", result.stdout)
        assert "no PIN try left on the chip" in result.stdout
        assert re.findall(r"\b39=(\d+)", result.stdout) == ["00"] * 5
        assert result.stdout.count("the chip has done the script") == 2
        words = re.findall(r"\b\d+\b", re.sub(r"(11|12|13|32|37|38)=\d+", "", result.stdout))
        assert not {*STORY_PINS, "4761349000000010", "5413339000000010"} & {*words}
    for token in ("story-visa", "story-m-chip"):
        assert switch.show(token)["chip_sync"] == "in_sync"


def test_the_story_fails_where_a_rule_is_another(make_switch):
    switch = with_chips(make_switch, ftpam=2000)
    result = loadtest(switch, "story", "--data-dir", str(switch.data))
    assert result.returncode == 1
    assert "FAIL: expected sent, got pending" in result.stdout
    assert result.stdout.endswith("\nNot as it should be.\n")


def test_run_counts_what_it_sent(switch):
    result = loadtest(switch, "run", "--requests", "5000", "--connections", "3", "--pipeline", "8")
    assert result.returncode == 0, result.stdout + result.stderr
    report = dict(line.split(None, 1) for line in result.stdout.splitlines() if " " in line)
    assert (report["sent"], report["missing"], report["unexpected"]) == ("5000", "0", "0")
    assert "p99.9" in report["right"]


def test_chips_under_load_get_what_they_must(make_switch):
    chips = settings.chip("visa", "atm_unblocks_chip = true\n")
    switch = make_switch(debit_chip=chips)
    switch.done("seed", "--cards", "1000")
    switch.start()
    words = ["run", "--cards", "1000", "--requests", "3000", "--json", "--chip"]
    first = expected(loadtest(switch, *words, "offline-pin"))
    assert first["plan"]["chip"] == "offline-pin"
    assert switch.metric('pinswitch_cryptogram_verifications_total{result="ok"}') == 3000
    expected(loadtest(switch, *words, "unblock", "--atc-from", "100"))
    assert switch.metric('pinswitch_issuer_scripts_total{state="sent"}') == 3000
    # A chip counts on: the counters of before are replays.
    again = loadtest(switch, *words, "offline-pin")
    assert again.returncode == 1
    assert json.loads(again.stdout)["de39"] == {"59": 3000}


def test_chips_need_a_product_that_knows_them(seeded):
    result = loadtest(seeded, "run", "--cards", "1001", "--requests", "10", "--chip", "unblock")
    assert result.returncode == 1
    assert "unexpected 10" in result.stdout


def test_run_fails_where_an_answer_is_wrong(switch):
    switch.done("card", "set-pin", "demo-card-4", stdin="1357")
    result = loadtest(switch, "run", "--requests", "100")
    assert result.returncode == 1, result.stdout


def test_right_and_wrong_pins_at_a_rate_are_all_answered_as_expected(seeded):
    words = ["--rate", "2000", "--requests", "4000", "--json"]
    report = expected(loadtest(seeded, "run", *WRONG_PINS, *words))
    sent, settled, codes = report["sent"], report["settled"], report["de39"]
    assert (sent, report["answered"], codes["00"] + codes["55"]) == (4000, 4000, 4000)
    assert 200 < codes["55"] < 600 and 0 < settled <= codes["55"]
    assert report["right_pin"]["count"] == codes["00"]
    assert report["wrong_pin"]["count"] == codes["55"]
    assert report["lateness"]["count"] == sent
    assert (report["missing"], report["unexpected"], report["not_sent"]) == (0, 0, 0)
    assert report["plan"]["rate_per_second"] == 2000

    # What the switch has counted, which is more by the right PINs after the last wrong ones.
    assert seeded.metric("pinswitch_messages_total") == 2 * (sent + settled)
    assert seeded.metric("pinswitch_pin_suspensions_total") == 0
    page = seeded.get("/metrics")[1]
    results = dict(re.findall(r'pin_verifications_total{result="(\w+)"} (\d+)', page))
    assert int(results["mismatch"]) == codes["55"]
    assert int(results["ok"]) == codes["00"] + settled


def test_runs_one_after_another_leave_no_card_with_a_wrong_pin_behind(seeded):
    # The same seed, so the same cards have wrong PINs: three in a row would suspend them.
    for _ in range(4):
        words = ["--requests", "500", "--pipeline", "100", "--json"]
        report = expected(loadtest(seeded, "run", *WRONG_PINS, *words))
        assert report["de39"]["55"] == report["settled"] > 20
    assert seeded.metric("pinswitch_pin_suspensions_total") == 0


def test_threads_share_no_card(seeded):
    words = ["--cards", "1001", "--wrong-pins", "50", "--connections", "3", "--threads", "2"]
    report = expected(loadtest(seeded, "run", *words, "--requests", "9000", "--json"))
    assert 3500 < report["de39"]["55"] <= 4500
    assert report["lateness"] is None


@pytest.mark.parametrize("dialect", ["ascii", "binary"])
def test_both_dialects_are_spoken(make_switch, dialect):
    switch = make_switch(dialect=f"iso8583-1987-{dialect}").start()
    words = ["--dialect", dialect, "--rate", "2000", "--requests", "500", "--json"]
    assert expected(loadtest(switch, "run", *words))["de39"] == {"00": 500}


def test_an_echo_is_measured_like_a_switch():
    with echo() as address:
        for words in (["--rate", "5000"], ["--pipeline", "64"]):
            words = [*WRONG_PINS, *words, "--requests", "2000", "--echo", "--json"]
            report = expected(run("run", *words, "--address", address))
            assert report["right_pin"]["count"] + report["wrong_pin"]["count"] == 2000
            assert (report["de39"], report["settled"]) == ({"--": 2000}, 0)
        # What comes back is no answer of a switch.
        result = run("run", "--requests", "10", "--json", "--address", address)
        assert result.returncode == 1
        assert json.loads(result.stdout)["unexpected"] == 10


def test_a_server_that_does_not_keep_up_is_reported():
    with socket.create_server(("127.0.0.1", 0)) as server:
        # The system takes the connection; nobody answers.
        address = f"127.0.0.1:{server.getsockname()[1]}"
        words = ["--connections", "1", "--pipeline", "7", "--rate", "1000", "--requests", "100"]
        result = run("run", *words, "--address", address, "--json")
    assert result.returncode == 1, result.stdout
    report = json.loads(result.stdout)
    assert (report["sent"], report["not_sent"], report["missing"]) == (7, 93, 7)
    assert report["as_expected"] is False


def test_the_bare_disk_is_measured_at_a_rate_and_in_groups(tmp_path):
    words = ["disk", "--file", str(tmp_path / "file"), "--bytes", "300", "--seconds", "1", "--json"]
    report = expected(run(*words, "--rate", "20"))
    assert (report["records"], report["syncs"], report["latency"]["count"]) == (20, 20, 20)
    report = expected(run(*words, "--group", "50"))
    assert report["records"] == 50 * report["syncs"] > 0
    assert not any(tmp_path.iterdir())


def test_the_machine_is_watched():
    report = expected(run("clocks", "--seconds", "1"))
    assert len(report["lost_percent"]) == len(os.sched_getaffinity(0))


def test_too_few_cards_is_wrong_usage():
    result = run("run", "--cards", "1000", "--wrong-pins", "1", "--connections", "1", "--rate", "5")
    assert result.returncode == 2
    assert "--cards must be at least 1001" in result.stderr


def test_the_table_of_chips_has_a_row_for_each_kind(tmp_path):
    words = ["--chips", "--rounds", "1", "--seconds", "1", "--cards", "20000"]
    words += ["--lost-max", "100", "--data", str(tmp_path)]
    result = subprocess.run(
        [REPOSITORY / "loadtest/measure_load", *words], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PINSWITCH": str(BINARY), "LOADTEST": str(LOADTEST)},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    head, _, *rows = [line for line in result.stdout.splitlines() if line.startswith("|")]
    kinds = [row.split(" | ")[0] for row in rows]
    script = "| chip: ARQC, online PIN, ARPC, script"
    assert kinds == ["| online PIN", "| chip: ARQC, ARPC", script]
    assert {row.count("|") for row in rows} == {head.count("|")}
    assert rows[0].split(" | ")[2] == "1.00x" != rows[1].split(" | ")[2]


def test_the_load_tables_have_a_row_for_each_load_and_say_which_targets_are_met(tmp_path):
    words = ["--rounds", "1", "--seconds", "3", "--cards", "5000", "--sync", "all"]
    words += ["--rows", "4x64", "1000/s", "--lost-max", "100", "--data", str(tmp_path)]
    result = subprocess.run(
        [REPOSITORY / "loadtest/measure_load", *words], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PINSWITCH": str(BINARY), "LOADTEST": str(LOADTEST)},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    tables = [line for line in result.stdout.splitlines() if line.startswith("|")]
    rows = [line.split(" | ")[0] for line in tables if line[2].isdigit()]
    assert rows == ["| 4 x 64", "| 1000/s"]
    assert len({line.count("|") for line in tables[:3]}) == 1
    assert len({line.count("|") for line in tables[3:]}) == 1
    # A hundredth of a thousand requests are too few for a p99.
    assert " | - | - | " in tables[-1] and " | - | " not in tables[2]
    for head, row in (tables[0], tables[2]), (tables[3], tables[5]):
        cells = dict(zip(head.split(" | "), row.split(" | "), strict=True))
        assert 0 < float(cells["generator CPU"].removesuffix(" %")) <= 110
    assert re.search(r"(met|MISSED): 4x64, sync all: rate of the bare file's: ", result.stdout)
    assert not any(tmp_path.iterdir())
