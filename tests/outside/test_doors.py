"""The admin address and control.sock: what is reserved for the links stays theirs, whoever connects
there, and a listener that gets no connection from the system tries again."""

import contextlib
import json
import os
import resource
import select
import socket
import time
from pathlib import Path

import pytest
from messages import CARD_1, CARD_3, CARD_4, authorization, other_pin
from process import Switch
from settings import link as one_more_link
from test_admin import Metrics
from test_limits import wait_until


def to_admin(switch, receive_buffer=None):
    peer = socket.socket()
    if receive_buffer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    peer.settimeout(10)
    peer.connect(("127.0.0.1", switch.admin_port))
    return peer


def to_control(switch):
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(10)
    peer.connect(str(switch.data / "control.sock"))
    return peer


DOORS = {"admin": to_admin, "control": to_control}


def is_closed(peer):
    """Waits until the switch closes it; what came before that does not count."""
    try:
        while peer.recv(65536):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def descriptors(switch):
    return len(list(Path(f"/proc/{switch.process.pid}/fd").iterdir()))


def show(peer, token=CARD_1.token):
    peer.sendall(json.dumps({"show": {"token": token}}).encode() + b"\n")
    return b"card" in peer.recv(65536)


@pytest.mark.parametrize("door", DOORS)
def test_a_crowd_at_a_door_takes_no_more_than_its_places(switch, door):
    wait_until(lambda: (switch.data / "journal/0000000002.journal").exists(), "none is made ahead")
    before = descriptors(switch)
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(DOORS[door](switch)) for _ in range(200)]
        # 64 stay, and the others are closed at once.
        wait_until(lambda: len(select.select(crowd, [], [], 0)[0]) == 136, "they are not closed")
        assert descriptors(switch) <= before + 64 + 1
        with switch.connect() as link:
            assert link.ask(authorization(CARD_3, CARD_3.pin)).code == "00"
    wait_until(lambda: descriptors(switch) <= before, "they stay")
    name = "pinswitch_door_connections_refused_total"
    assert Metrics(switch).value(name, door=door) == 136
    assert Metrics(switch).value(name) == 136
    # It is said, but not 136 times.
    wait_until(lambda: "too many connections" in switch.log(), "it is not said")
    assert switch.log().count("too many connections") <= 3
    assert switch.show(CARD_1.token)["state"] == "ACTIVE"


def test_who_is_too_slow_at_the_admin_address_loses_his_place(make_switch):
    limits = "admin_request_seconds_max = 1\nadmin_answer_seconds_max = 1"
    # So many networks that the page of metrics is larger than what the kernel takes at once.
    tables = "".join(one_more_link(f"more-{number}", "demo-zpk").replace('"net"', f'"net-{number}"')
                     for number in range(320))
    switch = make_switch(limits=limits, tables=tables).start()
    with to_admin(switch) as silent, to_admin(switch) as half, to_admin(switch, 4096) as deaf:
        half.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n")
        deaf.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        timed_out = lambda: switch.metric("pinswitch_door_connections_timed_out_total")
        wait_until(lambda: timed_out() >= 3, "they are not closed", 20)
        assert is_closed(silent) and is_closed(half) and is_closed(deaf)
    assert switch.get("/readyz")[0] == 200


def test_a_connection_to_the_admin_address_has_one_request(switch):
    with to_admin(switch) as peer:
        peer.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b"".join(iter(lambda: peer.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"ok\n")
    assert b"connection: close" in answer


def test_a_command_comes_in_time_and_its_conversation_may_rest(make_switch):
    switch = make_switch(limits="control_request_seconds_max = 1").start()
    timed_out = lambda: Metrics(switch).value(
        "pinswitch_door_connections_timed_out_total", door="control")
    with to_control(switch) as busy:
        assert show(busy)
        with to_control(switch) as silent, to_control(switch) as half:
            half.sendall(b'{"show":')
            assert is_closed(silent) and is_closed(half)
        wait_until(lambda: timed_out() == 2, "they are not counted")
        # Longer than a command may take, and nothing is half said.
        assert show(busy)
        busy.sendall(b'{"show":')
        assert is_closed(busy)
    wait_until(lambda: timed_out() == 3, "it is not counted")


def test_a_conversation_that_rests_too_long_or_is_not_read_is_closed(make_switch):
    limits = "control_idle_seconds_max = 1\ncontrol_answer_seconds_max = 1"
    switch = make_switch(limits=limits).start()
    with to_control(switch) as resting, to_control(switch) as deaf:
        assert show(resting)
        # More answers than the kernel holds, and none is read.
        asked = json.dumps({"show": {"token": CARD_1.token}}).encode() + b"\n"
        with contextlib.suppress(ConnectionError, TimeoutError):
            deaf.settimeout(3)
            deaf.sendall(asked * 20_000)
        assert is_closed(resting)
        wait_until(lambda: Metrics(switch).value(
            "pinswitch_door_connections_timed_out_total", door="control") == 2, "not closed")


def test_the_command_line_says_why_it_got_no_answer(make_switch):
    switch = make_switch(limits="control_connections_max = 1").start()
    with to_control(switch) as other:
        assert show(other)
        result = switch.command("card", "show", CARD_1.token)
        assert result.returncode == 1 and "control_connections_max" in result.stderr
    wait_until(lambda: switch.command("card", "show", CARD_1.token).returncode == 0, "no place")


def test_with_every_place_taken_there_are_descriptors_for_the_journal(make_switch):
    """Not one descriptor more than it asks for at its start."""
    limits = ("admin_connections_max = 8\ncontrol_connections_max = 8\n"
              "admin_request_seconds_max = 600\ncontrol_request_seconds_max = 600")
    changes = dict(connections_max=8, snapshot_mb=1, threads="threads = 2", limits=limits)
    switch = make_switch(**changes)
    switch.launch("prlimit", "--nofile=16:16")
    assert switch.wait() == 1
    wanted = int(switch.log().partition(" file descriptors")[0].split()[-1])
    switch.launch("prlimit", f"--nofile={wanted - 1}:{wanted - 1}")
    assert switch.wait() == 1
    switch.start("prlimit", f"--nofile={wanted}:{wanted}")
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(switch.connect(name))
                 for name in ("link-a", "link-b") for _ in range(4)]
        assert {link.echo() for link in links} == {"00"}
        for _ in range(30):
            for connect in (to_admin, to_control, Switch.connect):
                stack.enter_context(connect(switch))
        log, snapshots = switch.data / "journal", switch.data / "snapshots"
        deadline = time.monotonic() + 30
        while len(list(log.glob("*.journal"))) < 4 or not list(snapshots.glob("*.snap")):
            assert time.monotonic() < deadline, "no segment or snapshot is made"
            answers = links[0].ask_all(
                [authorization(CARD_3, CARD_3.pin) for _ in range(400)]
                + [authorization(CARD_4, other_pin(CARD_4.pin))])
            assert [answer.code for answer in answers] == ["00"] * 400 + ["55"]
    assert "Too many open files" not in switch.log()
    assert switch.terminate() == 0


def test_a_listener_that_gets_no_descriptor_tries_again(switch):
    process = switch.process.pid
    limit = leave_no_descriptor(process)
    began = time.monotonic()
    with switch.connect() as link, to_admin(switch) as admin, to_control(switch) as control:
        listeners = ("link-a", "admin", "control")
        said = lambda name: f'listener="{name}" error=Too many open files' in switch.log()
        wait_until(lambda: all(map(said, listeners)), "it is not said")
        cpu = cpu_seconds(process)
        time.sleep(0.5)
        cpu = cpu_seconds(process) - cpu
        resource.prlimit(process, resource.RLIMIT_NOFILE, limit)
        passed = time.monotonic() - began
        assert link.ask(authorization(CARD_3, CARD_3.pin)).code == "00"
        admin.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        assert admin.recv(65536).startswith(b"HTTP/1.1 200")
        assert show(control)
    metrics = Metrics(switch)
    for name in listeners:
        # Every 50 ms, and no faster.
        failures = metrics.value("pinswitch_accept_failures_total", listener=name)
        assert 1 <= failures <= passed / 0.05 + 1, (name, failures)
        assert switch.log().count(f'listener="{name}" error=') <= 1 + passed / 10
    assert metrics.value("pinswitch_accept_failures_total", listener="link-b") == 0
    assert cpu < 0.4


def leave_no_descriptor(process):
    """Allows it as many as are open; what it was allowed before."""
    limit = resource.prlimit(process, resource.RLIMIT_NOFILE)
    used = set(map(int, os.listdir(f"/proc/{process}/fd")))
    lowest_free = next(number for number in range(max(used) + 2) if number not in used)
    resource.prlimit(process, resource.RLIMIT_NOFILE, (lowest_free, limit[1]))
    return limit


def test_a_segment_that_gets_no_descriptor_is_tried_again(switch):
    """There is one ahead, so that requests are answered meanwhile."""
    requests = lambda: [authorization(CARD_4, other_pin(CARD_4.pin)) for _ in range(100)]
    journal = switch.data / "journal"
    wait_until(lambda: (journal / "0000000002.journal").exists(), "none is made ahead")
    with switch.connect() as link:
        assert link.echo() == "00"
        limit = leave_no_descriptor(switch.process.pid)
        deadline = time.monotonic() + 30
        while "no journal segment could be prepared" not in switch.log():
            assert time.monotonic() < deadline
            assert {answer.code for answer in link.ask_all(requests())} == {"55"}
        assert "Too many open files" in switch.log()
        resource.prlimit(switch.process.pid, resource.RLIMIT_NOFILE, limit)
        while not (journal / "0000000006.journal").exists():
            assert time.monotonic() < deadline
            assert {answer.code for answer in link.ask_all(requests())} == {"55"}
    assert switch.terminate() == 0


def cpu_seconds(process):
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
