"""What was answered is there after kill -9 and after a stop; nobody gets a guess back.
For kill -9 under load see test_crash.py."""

import shutil
import signal
import socket
import threading
import time

import messages
import pytest
import tracing
from bulk import wait_for_snapshot
from link import Link
from messages import CARD_1, CARD_2, CARD_4, Card, authorization, other_pin, pan_of
from process import run


def test_kill_9_keeps_counter_suspension_and_the_answers_to_repeats(switch):
    requests = [authorization(CARD_1, f"111{n}") for n in range(3)]
    requests.append(authorization(CARD_2, CARD_2.pin))
    answers = []
    for request, code in zip(requests, ["55", "55", "75", "00"]):
        with switch.connect() as link:
            answers.append(link.ask(request))
        assert answers[-1].code == code
        switch.kill()
        switch.start()
        with switch.connect() as link:
            for earlier, answer in zip(requests, answers):
                assert link.ask(dict(earlier, t="0101")).raw == answer.raw
    card = switch.show(CARD_1.token)
    assert (card["state"], card["reason_code"], card["pin_try_counter"]) == ("SUSPENDED", "22", 3)
    with switch.connect() as link:
        assert link.ask(authorization(CARD_1, CARD_1.pin)).code == "75"


def test_kill_9_keeps_what_the_command_line_has_done(switch):
    card = Card("added", pan_of("476135", 42), "123456789012")
    switch.add(card)
    switch.kill()
    switch.start()
    with switch.connect() as link:
        assert link.ask(authorization(card, card.pin)).code == "00"
    switch.done("card", "set-pin", card.token, stdin="4711")
    switch.kill()
    switch.start()
    with switch.connect() as link:
        assert link.ask(authorization(card, "4711")).code == "00"


# SIGTERM.


def traffic(count):
    """Wrong and right PINs of two cards, mixed."""
    for number in range(count):
        card = CARD_4 if number % 2 else CARD_2
        wrong = card is CARD_4
        yield authorization(card, other_pin(card.pin) if wrong else card.pin)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_stop_finishes_what_is_in_flight(switch, sent):
    requests = [authorization(CARD_4, other_pin(CARD_4.pin)) for _ in range(400)]
    with switch.connect() as link:
        link.send(*requests)
        first = link.read()
        stopped = threading.Thread(target=switch.process.send_signal, args=[sent])
        stopped.start()
        answers = [first, *link.read_all()]
        stopped.join()
    assert switch.wait() == 0
    assert {answer.code for answer in answers} == {"55"}
    switch.start()
    # Whatever was counted was also answered.
    assert switch.show(CARD_4.token)["pin_try_counter"] == len(answers)


@pytest.mark.parametrize("in_flight", [1, 4, 1024])
def test_sigterm_answers_every_request_that_had_arrived(make_switch, in_flight):
    """The 200 are less than the switch reads of one connection while it stops."""
    switch = make_switch(in_flight_per_connection_max=in_flight).start()
    requests = list(traffic(200))
    with switch.connect() as link:
        link.send(*requests)
        first = link.read()
        switch.process.terminate()
        answers = [first, *link.read_all()]
    assert switch.wait() == 0
    assert sorted(a.stan for a in answers) == sorted(request["11"] for request in requests)
    assert sorted(a.code for a in answers) == ["00"] * 100 + ["55"] * 100
    switch.start()
    assert switch.show(CARD_4.token)["pin_try_counter"] == 100


def test_sigterm_waits_for_a_slow_disk_and_takes_nothing_new(switch, tmp_path):
    port = switch.ports()["link-a"]
    slow = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=1500000"]
    with switch.connect() as link, switch.connect() as idle:
        link.echo()
        with tracing.traced(switch, tmp_path / "strace", *slow):
            link.send(authorization(CARD_1, "1111"))
            time.sleep(0.2)
            assert switch.get("/readyz")[0] == 200
            switch.process.terminate()
            time.sleep(0.3)
            status, text = switch.get("/readyz")
            assert status == 503 and "stopping" in text
            assert switch.get("/livez")[0] == 200
            with pytest.raises(ConnectionRefusedError):
                Link(("127.0.0.1", port))
            assert idle.is_closed()
            assert link.read().code == "55"
            assert link.is_closed()
            assert switch.wait() == 0
    assert not (switch.data / "control.sock").exists()
    assert "stopped" in switch.log()
    switch.start()
    assert switch.show(CARD_1.token)["pin_try_counter"] == 1
    assert "ERROR" not in switch.log()


def test_sigint_stops_like_sigterm(switch):
    switch.process.send_signal(signal.SIGINT)
    assert switch.wait() == 0


def test_a_switch_that_was_started_to_outlive_its_terminal_goes_on_after_sighup(
    make_switch
):
    switch = make_switch()
    switch.start("nohup")
    switch.process.send_signal(signal.SIGHUP)
    with switch.connect() as link:
        assert link.ask(authorization(CARD_1, CARD_1.pin)).code == "00"
    assert switch.terminate() == 0


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_a_switch_that_has_only_just_said_that_it_listens(
    make_switch, tmp_path, sent
):
    """Every step of taking a signal over takes a quarter of a second."""
    switch = make_switch()
    strace = tracing.launched(tmp_path / "strace", "inject=rt_sigaction:delay_exit=250000")
    switch.start(*strace).process.send_signal(sent)
    assert switch.wait() == 0
    assert "stopped" in switch.log()
    assert "SIGTERM" in (tmp_path / "strace").read_text()


def test_connections_that_do_nothing_do_not_hold_up_a_stop(switch):
    half = messages.encode(authorization(CARD_1, "1111"))[:50]
    links = [switch.connect() for _ in range(20)]
    for link in links[:10]:
        link.write(b"\0\xff" + half)
    began = time.monotonic()
    assert switch.terminate() == 0
    assert time.monotonic() - began < 5
    for link in links:
        link.close()


def with_a_peer_that_does_not_read(switch):
    link = switch.connect(receive_buffer=4096)
    link.fill(authorization(CARD_2))
    return link


def test_a_peer_that_does_not_read_holds_up_a_stop_no_longer_than_the_drain(make_switch):
    switch = make_switch(write_seconds_max=25, drain_seconds_max=1).start()
    with with_a_peer_that_does_not_read(switch):
        began = time.monotonic()
        assert switch.terminate() == 0
        assert 0.9 < time.monotonic() - began < 4
    assert "requests in flight are given up" in switch.log()
    switch.start()
    assert "ERROR" not in switch.log()


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_long_drain_at_once(make_switch, again):
    switch = make_switch(write_seconds_max=60, drain_seconds_max=60).start()
    with switch.connect() as link, with_a_peer_that_does_not_read(switch):
        assert link.ask(authorization(CARD_1, "1111")).code == "55"
        switch.process.terminate()
        time.sleep(1)
        assert switch.process.poll() is None
        # A shell that ends sends this more than once.
        switch.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert switch.process.poll() is None
        began = time.monotonic()
        switch.process.send_signal(again)
        switch.wait()
        assert time.monotonic() - began < 2
    switch.start()
    assert switch.show(CARD_1.token)["pin_try_counter"] == 1


# The first start.


def test_an_empty_journal_directory_that_was_left_behind_is_a_first_start(make_switch):
    switch = make_switch()
    (switch.data / "journal").mkdir(parents=True)
    switch.start()
    with switch.connect() as link:
        assert link.ask(authorization(CARD_1, CARD_1.pin)).code == "00"


# One data directory.


def test_a_second_switch_on_the_same_data_refuses(switch, make_switch):
    second = make_switch()
    result = run("--config", second.config, "--data-dir", switch.data)
    assert result.returncode == 1
    assert str(switch.data) in result.stderr and "in use by another process" in result.stderr
    with switch.connect() as link:
        assert link.ask(authorization(CARD_1, CARD_1.pin)).code == "00"
    assert switch.show(CARD_1.token)["state"] == "ACTIVE"


@pytest.mark.parametrize("table, named", [("[[links]]", "link-a"), ("[api]", "api")])
def test_a_port_that_is_taken_is_named_with_its_door(make_switch, table, named):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        switch = make_switch()
        before, behind = switch.config.read_text().split(table, 1)
        behind = behind.replace("127.0.0.1:0", f"127.0.0.1:{port}", 1)
        switch.config.write_text(before + table + behind)
        said = switch.refuses_to_start()
    assert named in said and str(port) in said


# Damage.


@pytest.fixture
def stopped(make_switch):
    """A switch that has run and stopped, with two wrong PINs in its journal."""
    switch = make_switch().start()
    with switch.connect() as link:
        assert link.codes(authorization(CARD_1, f"111{n}") for n in range(2)) == ["55", "55"]
    assert switch.terminate() == 0
    return switch


def test_a_damaged_byte_of_the_journal_is_refused_with_file_and_offset(stopped):
    journal = stopped.data / "journal" / "0000000001.journal"
    whole = journal.read_bytes()
    used = len(whole.rstrip(b"\0"))
    assert used > 500
    for at in sorted({*range(0, used, used // 40), used - 1}):
        journal.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        said = stopped.refuses_to_start()
        assert str(journal) in said and "at offset" in said, (at, said)
    journal.write_bytes(whole)
    stopped.start()
    assert stopped.show(CARD_1.token)["pin_try_counter"] == 2


@pytest.mark.parametrize("name", ["0000000001.journal", "tail"])
def test_a_missing_file_of_the_journal_is_refused(stopped, name):
    (stopped.data / "journal" / name).unlink()
    said = stopped.refuses_to_start()
    assert f"journal/{name} at offset 0" in said and "missing" in said


def test_a_journal_cut_short_is_refused(stopped):
    journal = stopped.data / "journal" / "0000000001.journal"
    whole = journal.read_bytes()
    used = len(whole.rstrip(b"\0"))
    for size in (0, used // 2, used - 1, used):
        journal.write_bytes(whole[:size])
        assert str(journal) in stopped.refuses_to_start()


def test_a_missing_own_key_is_refused_while_there_are_records(stopped):
    for name in ("own-card-digest", "own-pan", "own-pek"):
        key = stopped.data / "keys" / f"{name}.key"
        block = key.read_bytes()
        key.unlink()
        assert name in stopped.refuses_to_start()
        key.write_bytes(block)
    stopped.start()
    assert stopped.show(CARD_1.token)["pin_try_counter"] == 2


def test_the_key_directory_of_another_store_is_refused(make_switch):
    """Not 14 for everybody. The check values stand in the journal, and in snapshots."""
    switch, other = make_switch(snapshot_mb=1), make_switch()
    for one in (switch, other):
        one.start()
        one.terminate()
    own = switch.data / "keys"
    own.rename(switch.directory / "keys")
    (other.data / "keys").rename(own)
    said = switch.refuses_to_start()
    assert str(own) in said and "not those that the store was made with" in said, said
    assert "own-card-digest" in switch.command("card", "show", CARD_1.token).stderr
    own.rename(other.data / "keys")
    (switch.directory / "keys").rename(own)
    switch.start()
    # Read from the snapshot, and the journal behind it.
    switch.done("seed", "--cards", "20000")
    wait_for_snapshot(switch)
    switch.terminate()
    own.rename(switch.directory / "keys")
    (other.data / "keys").rename(own)
    assert "not those that the store was made with" in switch.refuses_to_start()


# One switch per data directory, whatever happens to its files.


def restore_over(switch, backup):
    """As a restore does it: other files under the same names."""
    shutil.rmtree(switch.data / "journal")
    shutil.copytree(backup, switch.data / "journal")


def replace_tail(switch, backup):
    (switch.data / "journal/tail").unlink()
    shutil.copy(backup / "tail", switch.data / "journal/tail")


def move_away(switch, _backup):
    switch.data.rename(switch.directory / "elsewhere")


@pytest.mark.parametrize("happens", [restore_over, replace_tail, move_away])
def test_a_switch_whose_files_are_replaced_stops_and_no_second_one_starts(stopped, happens):
    backup = stopped.directory / "backup"
    shutil.copytree(stopped.data / "journal", backup)
    stopped.start()
    running = stopped.process
    happens(stopped, backup)
    if stopped.data.exists():
        stopped.process = None
        said = stopped.refuses_to_start()
        assert "in use by another process" in said, said
        stopped.starts -= 1
        stopped.process = running
    assert stopped.wait() == 1
    assert "replaced while it was in use" in stopped.log() or "it is gone while" in stopped.log()
