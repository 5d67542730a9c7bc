"""What the README's first page has a newcomer type, for the issuer's side: by curl alone."""

import json
import re
import shutil
import subprocess

from api_client import Api
from process import REPOSITORY

ADDRESS = "127.0.0.1:8080"


def lines():
    """The commands of the block that uses the API, in the order of the page."""
    page = (REPOSITORY / "README.md").read_text()
    (block,) = [block for block in re.findall(r"```sh\n(.*?)```", page, re.S) if "--json" in block]
    assert page.index(block) < page.index("\n## A request's path")
    return block.splitlines()


def test_a_newcomer_sees_wrong_pins_counted_in_six_lines(switch, tmp_path):
    """R99 to R102, R85, R86, R195."""
    assert shutil.which("curl"), "curl is missing"
    commands = lines()
    assert len(commands) == 6 and all("curl " in line for line in commands)
    assert all(ADDRESS in line for line in commands)
    # Between two commands stands a line of its own.
    script = "\necho; echo\n".join(commands).replace(ADDRESS, f"127.0.0.1:{switch.api_port()}")
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    user, card, moved, control, was_set, wrong = ran.stdout.split("\n\n")
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
