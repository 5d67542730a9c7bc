"""Our own client against the switch: what the README tells a stranger to run."""

import os
import subprocess
from pathlib import Path

from process import REPOSITORY

LOADTEST = Path(os.environ.get("LOADTEST", REPOSITORY / "target/release/loadtest")).resolve()


def loadtest(switch, *words):
    address = f"127.0.0.1:{switch.ports()['link-a']}"
    return subprocess.run(
        [LOADTEST, *words, "--address", address], capture_output=True, text=True, timeout=60
    )


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


def test_run_counts_what_it_sent(switch):
    result = loadtest(switch, "run", "--requests", "5000", "--connections", "3", "--pipeline", "8")
    assert result.returncode == 0, result.stdout + result.stderr
    report = dict(line.split(None, 1) for line in result.stdout.splitlines() if " " in line)
    assert (report["sent"], report["missing"], report["wrong"]) == ("5000", "0", "0")
    assert "p99.9" in report["latency"]


def test_run_fails_where_an_answer_is_wrong(switch):
    switch.done("card", "set-pin", "demo-card-4", stdin="1357")
    result = loadtest(switch, "run", "--requests", "100")
    assert result.returncode == 1, result.stdout
