"""The command line: the same words with and without a running switch, and no secret in them."""

import json
import os
import socket
import stat
import subprocess
import time

import messages
import pytest
from messages import CARD_1, Card, authorization, other_pin, pan_of
from process import BINARY, run

ADDED = Card("added-1", pan_of("476135", 314), "123456789012")


def add_text(card, **changes):
    return json.dumps({
        "token": card.token, "pan": card.pan, "expiration": card.expiry,
        "pan_sequence_number": card.sequence, "card_product_token": card.product,
        "pin": card.pin, **changes,
    })


@pytest.fixture(params=["running", "stopped", "killed"])
def either(request, make_switch):
    """A switch with demo cards; one that was killed leaves its socket behind."""
    switch = make_switch().start()
    if request.param == "stopped":
        assert switch.terminate() == 0
    if request.param == "killed":
        switch.kill()
        assert (switch.data / "control.sock").exists()
    return switch


def code_of(switch, card, pin):
    """The answer to a PIN, from the switch started anew if it does not run."""
    if switch.process is None:
        switch.start()
        code = code_of(switch, card, pin)
        switch.terminate()
        return code
    with switch.connect() as link:
        return link.ask(authorization(card, pin)).code


def test_show_prints_the_card_without_its_pan(either):
    assert either.show(CARD_1.token) == {
        "token": "demo-card-1", "card_product_token": "demo-debit", "state": "ACTIVE",
        "reason_code": "00", "state_reason": "New card activated", "pin_is_set": True,
        "pin_try_counter": 0, "chip_sync": "in_sync",
        "pan": "476134______0019", "last_four": "0019", "expiration": "2912",
        "pan_sequence_number": "01",
    }


def test_add_activate_and_set_pin_work_on_a_card(either):
    printed = json.loads(either.done("card", "add", stdin=add_text(ADDED)))
    assert (printed["state"], printed["pin_is_set"]) == ("UNACTIVATED", True)
    assert printed == either.show(ADDED.token)
    assert code_of(either, ADDED, ADDED.pin) == "78"
    assert json.loads(either.done("card", "activate", ADDED.token))["state"] == "ACTIVE"
    assert code_of(either, ADDED, ADDED.pin) == "00"
    either.done("card", "set-pin", ADDED.token, stdin="86420\n")
    assert code_of(either, ADDED, "86420") == "00"
    assert code_of(either, ADDED, ADDED.pin) == "55"


def moved(switch, *words):
    """State and reason code of CARD_1 after a transition."""
    shown = json.loads(switch.done("card", "transition", CARD_1.token, *words))
    assert shown == switch.show(CARD_1.token)
    return shown["state"], shown["reason_code"], shown["pin_try_counter"]


def answer_of(switch, pin=CARD_1.pin):
    with switch.connect() as link:
        answer = link.ask(authorization(CARD_1, pin))
        return answer.code, answer.reason


def test_a_card_is_limited_suspended_reinstated_and_terminated(either):
    assert moved(either, "LIMITED", "--channel", "API", "--reason-code", "05") == \
        ("LIMITED", "05", 0)
    assert code_of(either, CARD_1, CARD_1.pin) == "62"
    assert moved(either, "ACTIVE", "--reason-code", "18") == ("ACTIVE", "18", 0)
    assert code_of(either, CARD_1, CARD_1.pin) == "00"
    assert moved(either, "SUSPENDED") == ("SUSPENDED", "01", 0)
    assert code_of(either, CARD_1, CARD_1.pin) == "62"
    assert moved(either, "ACTIVE") == ("ACTIVE", "01", 0)
    assert moved(either, "TERMINATED", "--reason-code", "10", "--reason", "lost") == \
        ("TERMINATED", "10", 0)
    assert either.show(CARD_1.token)["state_reason"] == "Card reported lost"
    assert code_of(either, CARD_1, CARD_1.pin) == "62"
    refused = either.command("card", "activate", CARD_1.token)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "TERMINATED to ACTIVE: the card is TERMINATED, which is final" in refused.stderr


def test_to_active_the_counter_is_zero_again_and_the_right_pin_works(switch):
    wrong = other_pin(CARD_1.pin)
    assert [answer_of(switch, wrong) for _ in range(3)] == \
        [("55", "1809"), ("55", "1809"), ("75", "1872")]
    assert answer_of(switch) == ("75", "1872")
    shown = switch.show(CARD_1.token)
    assert (shown["reason_code"], shown["pin_try_counter"]) == ("22", 3)
    assert shown["state_reason"] == "Pin Retry Limit Reached"
    assert moved(switch, "SUSPENDED", "--reason-code", "10") == ("SUSPENDED", "10", 3)
    assert answer_of(switch) == ("62", "1004")
    assert moved(switch, "ACTIVE", "--channel", "IVR", "--reason-code", "32") == ("ACTIVE", "32", 0)
    assert [answer_of(switch, wrong) for _ in range(2)] == [("55", "1809")] * 2
    assert answer_of(switch) == ("00", None)
    # Each was told, and by whom it was done.
    told = [json.loads(line) for line in switch.done("events").splitlines()]
    told = [event for event in told if event["type"].startswith("cardtransition.state.")][-3:]
    assert [event["type"].rsplit(".")[-1] for event in told] == \
        ["suspended", "suspended", "reinstated"]
    assert [event["actor"]["kind"] for event in told] == ["network", "user", "user"]
    assert told[2]["before"] == {"state": "SUSPENDED", "reason_code": "10"}
    assert told[2]["after"] == {"state": "ACTIVE", "reason_code": "32"}
    switch.kill()
    switch.start()
    assert switch.show(CARD_1.token)["reason_code"] == "32"
    assert answer_of(switch) == ("00", None)


@pytest.mark.parametrize("words, text", [
    (["UNACTIVATED"], "ACTIVE to UNACTIVATED: no card becomes UNACTIVATED again"),
    (["ACTIVE", "--channel", "SYSTEM"], "ACTIVE to ACTIVE: not through the channel SYSTEM"),
    (["ACTIVE", "--reason-code", "00"],
     "not with the reason code 00, which is of a first activation"),
    (["SUSPENDED", "--reason-code", "18"], "not with the reason code 18, which leads to ACTIVE"),
    (["SUSPENDED", "--reason-code", "22", "--channel", "SYSTEM"],
     "not with the reason code 22, which only the switch gives"),
    (["suspended"], "state: expected ACTIVE, LIMITED, SUSPENDED or TERMINATED"),
    (["SUSPENDED", "--channel", "FAX"], "channel: expected API, IVR, FRAUD, ADMIN or SYSTEM"),
    (["SUSPENDED", "--reason-code", "33"], "reason_code: expected 00 to 32, or 86"),
    (["SUSPENDED", "--reason", "x" * 256], "reason: expected at most 255 bytes of UTF-8"),
])
def test_a_transition_that_is_refused_says_why_and_leaves_the_card_as_it_was(switch, words, text):
    answer_of(switch, other_pin(CARD_1.pin))
    before, events = switch.show(CARD_1.token), switch.done("events")
    refused = switch.command("card", "transition", CARD_1.token, *words)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert text in refused.stderr
    assert switch.show(CARD_1.token) == before and before["pin_try_counter"] == 1
    assert switch.done("events") == events
    assert answer_of(switch) == ("00", None)


def test_a_card_that_is_not_activated_is_only_activated_or_terminated(switch):
    switch.add(ADDED, activate=False)
    for state in ("SUSPENDED", "LIMITED"):
        refused = switch.command("card", "transition", ADDED.token, state)
        assert refused.returncode == 1 and "not activated yet" in refused.stderr
    assert switch.show(ADDED.token)["state"] == "UNACTIVATED"
    switch.done("card", "transition", ADDED.token, "ACTIVE", "--channel", "IVR")
    assert switch.show(ADDED.token)["reason_code"] == "00"
    assert code_of(switch, ADDED, ADDED.pin) == "00"


def test_the_reason_of_a_transition_is_in_the_audit_without_its_digits(switch):
    spaced = f"{CARD_1.pan[:4]} {CARD_1.pan[4:8]}-{CARD_1.pan[8:]}"
    words = f"lost {CARD_1.pan} or {spaced}, PIN {CARD_1.pin}\naudit: forged"
    switch.done("card", "transition", CARD_1.token, "SUSPENDED", "--reason-code", "10",
                "--reason", words)
    refused = switch.command("card", "transition", CARD_1.token, "ACTIVE", "--channel", "SYSTEM",
                             "--reason", words)
    # What cannot be read may hold anything.
    unread = switch.command("card", "transition", CARD_1.token, CARD_1.pan, "--channel", CARD_1.pan,
                            "--reason-code", CARD_1.pin, "--reason", words)
    assert (refused.returncode, unread.returncode) == (1, 1)
    audited = [line for line in switch.log().splitlines() if 'action="transition"' in line]
    assert len(audited) == 3
    for line, state, channel in zip(audited, ["SUSPENDED", "ACTIVE"], ["ADMIN", "SYSTEM"]):
        assert f'state="{state}" channel="{channel}"' in line
        assert "lost **************** or **** ****-********, PIN ****" in line
        assert f"actor=user {os.getuid()}" in line
    assert "reason_code=10" in audited[0]
    for said in (switch.log(), refused.stderr, unread.stderr):
        for secret in (CARD_1.pan, CARD_1.pan[8:], spaced, f"PIN {CARD_1.pin}"):
            assert secret not in said
    assert not any(line.startswith("audit: forged") for line in switch.log().splitlines())


@pytest.mark.parametrize("words", [
    ["show", "nobody"], ["activate", "nobody"], ["set-pin", "nobody"],
    ["transition", "nobody", "SUSPENDED"],
])
def test_an_unknown_card_is_refused(either, words):
    result = either.command("card", *words, stdin="1234\n")
    assert (result.returncode, result.stdout) == (1, "")
    assert "there is no card with this token" in result.stderr


@pytest.mark.parametrize("pin", ["", "123", "1234567890123", "12a4", "12 34", "١٢٣٤"])
def test_a_pin_that_is_not_4_to_12_digits_is_refused_and_not_shown(either, pin):
    result = either.command("card", "set-pin", CARD_1.token, stdin=pin + "\n")
    assert (result.returncode, result.stdout) == (1, "")
    assert not pin or pin not in result.stderr
    assert code_of(either, CARD_1, CARD_1.pin) == "00"


@pytest.mark.parametrize("change, named", [
    ({"pan": "4761350000003141"}, "pan"),
    ({"pan": "9999999999999995"}, "pan"),
    ({"pan": "476135"}, "pan"),
    ({"expiration": "2913"}, "expiration"),
    ({"expiration": "12/29"}, "expiration"),
    ({"pan_sequence_number": "1"}, "pan_sequence_number"),
    ({"card_product_token": "none"}, "card_product_token"),
    ({"token": "demo-card-1"}, "token"),
    ({"token": "a/b"}, "token"),
    ({"pin": "123"}, "PIN"),
    ({"pin": 1234}, "line 1"),
    ({"cvv2": "123"}, "line 1"),
])
def test_a_card_that_is_not_right_is_refused_and_the_text_names_the_part(
    switch, change, named
):
    result = switch.command("card", "add", stdin=add_text(ADDED, **change))
    assert (result.returncode, result.stdout) == (1, "")
    assert named.lower() in result.stderr.lower()
    assert ADDED.pan not in result.stderr and ADDED.pin not in result.stderr
    assert switch.command("card", "show", ADDED.token).returncode == 1


def test_a_pan_is_added_once(switch):
    switch.add(ADDED)
    result = switch.command("card", "add", stdin=add_text(ADDED, token="added-2"))
    assert result.returncode == 1 and ADDED.pan not in result.stderr


@pytest.mark.parametrize("length", range(13, 20))
def test_a_token_that_reads_as_a_pan_is_refused(switch, length):
    pan = pan_of("476135", 778, length)
    for token in (pan, pan_of("999999", 5, length)):
        result = switch.command("card", "add", stdin=add_text(ADDED, token=token))
        assert (result.returncode, result.stdout) == (1, "")
        assert "token" in result.stderr and token not in result.stderr
        assert token not in switch.log()
    assert switch.command("card", "show", pan).returncode == 1
    assert pan not in switch.log()
    switch.add(ADDED)


@pytest.mark.parametrize("token", [
    pan_of("476135", 778, 12), pan_of("476135", 778, 20), messages.wrong_check_digit(ADDED.pan),
    "card-4761350000000778", "4761-3500-0000-0779",
])
def test_a_token_of_other_digits_is_a_token(switch, token):
    switch.done("card", "add", stdin=add_text(ADDED, token=token))
    assert switch.show(token)["state"] == "UNACTIVATED"


def test_a_pan_in_place_of_a_token_is_not_logged(switch):
    for words in (["show"], ["activate"], ["set-pin"], ["transition"]):
        more = ["SUSPENDED"] if words == ["transition"] else []
        result = switch.command("card", *words, "4761350000000778", *more, stdin="1234\n")
        assert (result.returncode, result.stdout) == (1, "")
        assert "4761350000000778" not in result.stderr
    assert switch.log().count("audit") >= 4
    assert "4761350000000778" not in switch.log() and "0778" not in switch.log()


def test_a_pin_is_never_taken_from_the_arguments(switch):
    for words in (
        ["card", "set-pin", CARD_1.token, "4711"],
        ["card", "set-pin", CARD_1.token, "--pin", "4711"],
        ["card", "add", "--pin", "4711"],
        ["key", "import", "zpk-x", "--usage", "P0", "00" * 16],
    ):
        assert switch.command(*words).returncode == 2
    assert "pin" not in " ".join(
        line for line in run("card", "set-pin", "--help").stdout.lower().splitlines()
        if line.strip().startswith("--")
    )


def test_exit_codes_are_0_done_1_refused_2_wrong_usage(switch):
    assert run("--help").returncode == 0
    assert run("--version").stdout.startswith("pinswitch ")
    assert switch.command("card", "show", CARD_1.token).returncode == 0
    assert switch.command("card", "show", "nobody").returncode == 1
    for wrong in (["--no-such-option"], ["card"], ["card", "show"], ["key", "import", "x"],
                  ["key", "import", "x", "--usage", "K0"], ["nonsense"]):
        result = switch.command(*wrong)
        assert result.returncode == 2 and "--help" in result.stderr


def contents(directory):
    """All that is there: names, modes, sizes, times."""
    return {
        path: (path.stat().st_mode, path.stat().st_size, path.stat().st_mtime_ns)
        for path in [directory, *directory.rglob("*")]
    }


@pytest.mark.parametrize("words", [["card", "show", "demo-card-1"], ["key", "list"]])
def test_what_only_looks_makes_nothing_where_there_is_no_store(make_switch, words):
    switch = make_switch()
    result = switch.command(*words)
    assert (result.returncode, result.stdout) == (1, "")
    assert str(switch.data) in result.stderr
    assert not switch.data.exists()
    switch.data.mkdir()
    (switch.data / "something-else").write_text("here")
    before = contents(switch.data)
    result = switch.command(*words)
    assert (result.returncode, result.stdout) == (1, "")
    assert str(switch.data) in result.stderr
    assert contents(switch.data) == before


def test_a_card_command_makes_no_store_beside_keys_that_were_brought_in(make_switch):
    switch = make_switch(master_key_file="master.key", zpk="zpk-x")
    master = switch.directory / "master.key"
    master.touch(0o600)
    master.write_text("5A" * 32)
    parts = ["01" * 15 + "02", "E5A4" * 7 + "0123"]
    assert switch.bring_in("zpk-x", parts).returncode == 0
    before = contents(switch.data)
    result = switch.command("card", "show", "demo-card-1")
    assert (result.returncode, result.stdout) == (1, "")
    assert "zpk-x" in switch.done("key", "list")
    assert contents(switch.data) == before


def test_no_key_is_brought_in_under_the_public_master_key_of_the_demo(make_switch):
    switch = make_switch()
    result = switch.bring_in("zpk-x", ["01" * 15 + "02", "E5A4" * 7 + "0123"])
    assert (result.returncode, result.stdout) == (1, "")
    assert "public" in result.stderr and "master_key_file" in result.stderr
    assert not switch.data.exists()


def test_what_only_looks_changes_nothing_in_a_store_that_is_there(switch):
    assert switch.terminate() == 0
    keys = contents(switch.data / "keys")
    names = contents(switch.data).keys()
    assert switch.show(CARD_1.token)["state"] == "ACTIVE"
    assert "demo-zpk" in switch.done("key", "list")
    assert contents(switch.data).keys() == names
    assert contents(switch.data / "keys") == keys


@pytest.fixture
def open_umask():
    """Nothing is taken away from the modes that a program asks for."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_in_a_directory_that_others_may_read_everything_is_still_for_the_owner_only(
    make_switch, open_umask
):
    switch = make_switch(snapshot_mb=1)
    switch.directory.chmod(0o755)
    switch.data.mkdir(mode=0o755)
    switch.start()
    switch.add(ADDED)
    block = {"52": authorization(CARD_1, CARD_1.pin)["52"]}
    deadline = time.monotonic() + 30
    with switch.connect() as link:
        while not list(switch.data.rglob("*.snap")):
            assert time.monotonic() < deadline, "no snapshot was taken"
            link.ask_all(authorization(CARD_1, changes=block) for _ in range(200))
    assert_private(switch.data)
    switch.kill()
    switch.done("card", "activate", ADDED.token)
    switch.start()
    assert_private(switch.data)
    assert switch.terminate() == 0
    assert_private(switch.data)


def assert_private(directory):
    inside = {path: path.stat().st_mode for path in directory.rglob("*")}
    kinds = {path.suffix for path in inside}
    assert {".journal", ".snap", ".key"} <= kinds, kinds
    for path, mode in inside.items():
        expected = 0o700 if stat.S_ISDIR(mode) else 0o600
        assert stat.S_IMODE(mode) == expected, (path, oct(mode))


def test_only_the_owner_may_use_socket_keys_and_data(switch):
    def mode(path):
        return stat.S_IMODE(path.stat().st_mode)

    control = switch.data / "control.sock"
    assert stat.S_ISSOCK(control.stat().st_mode) and mode(control) == 0o600
    assert mode(switch.data) == 0o700 and mode(switch.data / "keys") == 0o700
    assert {mode(key) for key in (switch.data / "keys").iterdir()} == {0o600}


def test_a_command_that_waits_for_its_pin_blocks_nobody(switch):
    words = [BINARY, *switch.words, "card", "set-pin", CARD_1.token]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as waiting:
        assert code_of(switch, CARD_1, CARD_1.pin) == "00"
        assert switch.show(CARD_1.token)["state"] == "ACTIVE"
        waiting.communicate(b"8520\n", timeout=10)
    assert waiting.returncode == 0
    assert code_of(switch, CARD_1, "8520") == "00"


def test_the_control_socket_refuses_what_is_no_command(switch):
    for line in (b"\n", b"{}\n", b"[]\n", b"\xff\xfe\n", b'{"show":{}}\n', b"x" * 20_000 + b"\n"):
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(10)
            control.connect(str(switch.data / "control.sock"))
            try:
                control.sendall(line)
                answer = control.recv(65536)
            except ConnectionError:
                # A line above the limit may be cut off while it is being sent.
                continue
        assert answer == b"" or "refused" in json.loads(answer)
    assert switch.show(CARD_1.token)["state"] == "ACTIVE"


CREDIT = Card("credit-1", pan_of("541333", 7), "2468", product="credit")


def set_product(switch, *words, name=CREDIT.product, **settings):
    return switch.command("product", "set", name, *words, stdin=json.dumps({
        "bins": [CREDIT.pan[:6]], "currency": 978, **settings,
    }))


def test_a_product_is_made_and_changed_while_its_cards_are_used(switch):
    made = set_product(switch, pin_retry_limit=2)
    assert made.returncode == 0, made.stderr
    made = json.loads(made.stdout)
    assert (made["managed_by"], made["settings"]["pin_retry_limit"]) == ("api", 2)
    assert json.loads(switch.done("product", "show", CREDIT.product)) == made
    assert made in json.loads(switch.done("product", "list"))
    switch.add(CREDIT)
    switch.done("card", "activate", CREDIT.token)
    assert code_of(switch, CREDIT, "1111") == "55"
    changed = json.loads(set_product(
        switch, "--version", str(made["version"]), pin_retry_limit=4).stdout)
    assert changed["version"] > made["version"]
    late = set_product(switch, "--version", str(made["version"]), pin_retry_limit=9)
    assert late.returncode == 1 and "has changed since it was read" in late.stderr
    assert [code_of(switch, CREDIT, "1111") for _ in range(3)] == ["55", "55", "75"]
    audited = [line for line in switch.log().splitlines() if 'action="set product"' in line]
    user = f"actor=user {os.getuid()}"
    of_credit = [line for line in audited if f'product="{CREDIT.product}"' in line]
    assert [("done=true" in line, user in line) for line in of_credit] == \
        [(True, True), (True, True), (False, True)]
    # The products of the configuration are written at the first start, by the switch itself.
    assert any("demo-debit" in line and "actor=switch" in line for line in audited)
    switch.kill()
    switch.start()
    assert json.loads(switch.done("product", "show", CREDIT.product)) == changed
    assert switch.show(CREDIT.token)["state"] == "SUSPENDED"


@pytest.mark.parametrize("settings, named", [
    ({"pin_retry_limit": 0}, "/pin_retry_limit"),
    ({"pin_retry_limits": 3}, "pin_retry_limits"),
    ({"bins": ["54133x"]}, "/bins"),
    ({"currency": "EUR"}, "/currency"),
    ({"chip": {"imk_ac": "a", "imk_smi": "b", "imk_smc": "c"}}, "the key a "),
])
def test_a_mistake_in_a_product_is_named_and_changes_nothing(switch, settings, named):
    refused = set_product(switch, **settings)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert named in refused.stderr
    missing = switch.command("product", "show", CREDIT.product)
    assert missing.returncode == 1 and "no such product" in missing.stderr


def test_what_cards_have_cannot_be_taken_from_a_product(switch):
    set_product(switch, bins=["541333", "541334"])
    switch.add(CREDIT)
    for settings, named in [({"currency": 840}, "currency"), ({"bins": ["541334"]}, "bins")]:
        refused = set_product(switch, **settings)
        assert refused.returncode == 1 and named in refused.stderr
    assert set_product(switch, bins=["541333"]).returncode == 0
    refused = set_product(switch, name="demo-debit")
    assert refused.returncode == 1 and "configuration" in refused.stderr
    assert code_of(switch, CARD_1, CARD_1.pin) == "00"
