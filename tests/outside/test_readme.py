"""What the README has somebody type for the issuer's side, by curl alone: a newcomer on its first
page, and who simulates a chip."""

import json
import re
import shutil
import subprocess

from api_client import Api
from process import REPOSITORY
from settings import chip

ADDRESS = "127.0.0.1:8080"


def blocks():
    """The blocks of commands that use the API, in the order of the page."""
    page = (REPOSITORY / "README.md").read_text()
    first, chip = [it for it in re.findall(r"```sh\n(.*?)```", page, re.S) if "--json" in it]
    assert page.index(first) < page.index("\n## A request's path") < page.index(chip)
    return first.splitlines(), chip.splitlines()


def typed(commands, switch, directory):
    """What they print, with a blank line between two commands."""
    script = "\necho; echo\n".join(commands).replace(ADDRESS, f"127.0.0.1:{switch.api_port()}")
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=directory, capture_output=True, text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_newcomer_sees_wrong_pins_counted_in_six_lines(switch, tmp_path):
    """R99 to R102, R85, R86, R195."""
    assert shutil.which("curl"), "curl is missing"
    commands, _ = blocks()
    assert len(commands) == 6 and all("curl " in line for line in commands)
    assert all(ADDRESS in line for line in commands)
    user, card, moved, control, was_set, wrong = typed(commands, switch, tmp_path).split("\n\n")
    assert json.loads(user)["token"] == "ada"
    assert json.loads(card)["token"] == "card-1"
    assert json.loads(moved)["state"] == "ACTIVE"
    # A control token goes into a variable, and a PIN that is set answers nothing.
    assert control.strip() == "" and was_set.strip() == ""
    answers = re.findall(r'"code":"(\d{4})","memo":"([^"]+)"', wrong)
    invalid, exceeded = ("1809", "Invalid Pin"), ("1872", "Pin try limit exceeded")
    assert answers == [invalid, invalid, exceeded]
    shown = Api(switch).done("GET", "/cards/card-1")
    assert (shown["state"], shown["pin_try_counter"]) == ("SUSPENDED", 3)


def test_a_chip_is_simulated(make_switch, tmp_path):
    switch = make_switch(visa_chip=chip("visa")).start()
    _, (command,) = blocks()
    answer = json.loads(typed([command], switch, tmp_path))
    assert answer["transaction"]["response"]["code"] == "0000"
    assert (answer["chip"]["offline_pin"], answer["chip"]["second_cryptogram"]) == ("right", "TC")
