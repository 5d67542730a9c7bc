"""Limits of connections and requests, and order under load."""

import random
import re
import socket
import threading
import time

import messages
import pytest
import settings
import tracing
from link import frame
from messages import CARD_1, CARD_2, CARD_3, CARD_4, authorization, network_management, other_pin
from test_admin import Metrics


def mixed(count):
    """Requests that answer at once, mixed with some that wait for the disk."""
    for number in range(count):
        match number % 4:
            case 0:
                yield authorization(CARD_4, other_pin(CARD_4.pin))
            case 1:
                yield authorization(CARD_3, CARD_3.pin)
            case 2:
                yield network_management("301")
            case 3:
                yield authorization(CARD_2)


def expected_code(request):
    return "55" if request.get("2") == CARD_4.pan else "00"


def test_a_connection_above_the_limit_is_accepted_and_closed_at_once(make_switch):
    switch = make_switch(connections_max=3).start()
    # Each link has its share of the limit, and what is left over is the first one's.
    links = [switch.connect(name) for name in ("link-a", "link-b", "link-a")]
    assert [link.echo() for link in links] == ["00"] * 3
    for name in ("link-a", "link-b"):
        with switch.connect(name) as one_more:
            assert one_more.is_closed()
    assert [link.echo() for link in links] == ["00"] * 3
    metrics = Metrics(switch)
    for name in ("link-a", "link-b"):
        labels = dict(network="net", link=name, reason="link")
        assert metrics.value("pinswitch_connections_refused_total", **labels) == 1
    assert metrics.value("pinswitch_connections_refused_total") == 2
    links.pop().close()
    assert echo_of_a_new_connection(switch) == "00"
    for link in links:
        link.close()


def echo_of_a_new_connection(switch):
    """The place of a connection is free again soon after it has ended."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with switch.connect() as link:
            try:
                link.send(network_management("301"))
                answer = link.read()
            except ConnectionError:
                answer = None
            if answer is not None:
                return answer.code
        time.sleep(0.01)
    return "no place"


@pytest.mark.parametrize("in_flight", [1, 4, 1024])
def test_two_hundred_requests_at_once_are_each_answered_once(make_switch, in_flight):
    switch = make_switch(in_flight_per_connection_max=in_flight).start()
    requests = list(mixed(200))
    with switch.connect() as link:
        answers = link.ask_all(requests)
        assert [answer.code for answer in answers] == [expected_code(r) for r in requests]
        for request, answer in zip(requests, answers):
            assert all(answer.elements[n] == request[n] for n in messages.ECHOED & answer.names)
        assert link.echo() == "00"
    assert switch.show(CARD_4.token)["pin_try_counter"] == 50


@pytest.mark.parametrize("in_flight", [1, 4])
def test_what_came_before_a_peer_closed_its_side_is_answered_beyond_the_window(
    make_switch, in_flight
):
    switch = make_switch(in_flight_per_connection_max=in_flight).start()
    requests = [authorization(CARD_4, other_pin(CARD_4.pin)) for _ in range(40)]
    with switch.connect() as link:
        link.send(*requests)
        link.socket.shutdown(socket.SHUT_WR)
        answers = link.read_all()
    assert {answer.code for answer in answers} == {"55"}
    assert sorted(a.stan for a in answers) == sorted(request["11"] for request in requests)
    assert switch.show(CARD_4.token)["pin_try_counter"] == 40


def test_a_request_that_does_not_wait_overtakes_those_that_do(make_switch, tmp_path):
    switch = make_switch().start()
    slow = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=300000"]
    with switch.connect() as link, tracing.traced(switch, tmp_path / "strace", *slow):
        wrong, right = authorization(CARD_1, "1111"), authorization(CARD_3, CARD_3.pin)
        link.send(wrong, right)
        assert [link.read().stan for _ in range(2)] == [right["11"], wrong["11"]]


def test_requests_split_anywhere_are_put_together(shared):
    source = random.Random(7)
    requests = list(mixed(60))
    stream = b"".join(frame(messages.encode(request)) for request in requests)
    with shared.connect() as link:
        at = 0
        while at < len(stream):
            step = source.choice([1, 1, 2, 3, 50, 200, 1000])
            link.write(stream[at : at + step])
            at += step
            if step < 50:
                time.sleep(0.0005)
        codes = {answer.stan: answer.code for answer in (link.read() for _ in requests)}
    assert codes == {request["11"]: expected_code(request) for request in requests}


def test_a_request_that_comes_byte_by_byte_is_answered(link):
    request = authorization(CARD_3, CARD_3.pin)
    for byte in frame(messages.encode(request)):
        link.write(bytes([byte]))
        time.sleep(0.0002)
    assert link.read().code == "00"


def test_a_peer_that_closes_its_side_still_gets_its_answers(link):
    requests = list(mixed(40))
    link.send(*requests)
    link.socket.shutdown(socket.SHUT_WR)
    assert {a.stan for a in link.read_all()} == {request["11"] for request in requests}


def test_a_peer_that_does_not_read_is_closed_and_hangs_nobody(make_switch):
    switch = make_switch(write_seconds_max=1, threads="threads = 1").start()
    ended = threading.Event()
    with switch.connect(receive_buffer=4096) as slow, switch.connect() as link:
        filling = threading.Thread(target=slow.fill, args=(authorization(CARD_2), ended.is_set))
        filling.start()
        slowest, deadline = 0.0, time.monotonic() + 20
        while "did not read its replies in time" not in switch.log():
            assert time.monotonic() < deadline, "the slow peer is not closed"
            began = time.monotonic()
            assert link.ask(authorization(CARD_3, CARD_3.pin)).code == "00"
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.005)
        ended.set()
        filling.join()
        assert link.echo() == "00"
    assert slowest < 1.0


def test_unusable_pin_blocks_of_one_link_stop_nobody_on_another(make_switch):
    more = settings.link("link-c", "demo-zpk") + settings.link("link-d", "demo-zpk", network="far")
    switch = make_switch(tables=more).start()
    with switch.connect() as bad, switch.connect("link-c") as near, switch.connect("link-d") as far:
        unusable = [authorization(CARD_1, changes={"52": "0" * 16}) for _ in range(6)]
        assert bad.codes(unusable) == ["81"] * 6
        verified = Metrics(switch).value("pinswitch_pin_verifications_total")
        assert verified == 5
        # Another connection of the same link changes nothing.
        with switch.connect() as again:
            for link in (bad, again):
                assert link.ask(authorization(CARD_1, CARD_1.pin)).reason == "1026"
        assert Metrics(switch).value("pinswitch_pin_verifications_total") == verified
        for link in (near, far):
            assert link.ask(authorization(CARD_1, CARD_1.pin)).code == "00"
        # Nor is another card held up there.
        assert bad.ask(authorization(CARD_4, CARD_4.pin)).code == "00"
        assert near.ask(unusable[0] | {"37": "9" * 12}).code == "81"
    metrics = Metrics(switch)
    counted = {"link-a": 5, "link-b": 0, "link-c": 1, "link-d": 0}
    for link, count in counted.items():
        assert metrics.value("pinswitch_bad_pin_blocks_total", link=link) == count
    assert switch.show(CARD_1.token)["pin_try_counter"] == 0


# Peers that go away.


def wait_until(condition, what, seconds=5):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_wrong_pin_counts_although_its_peer_resets_the_connection(make_switch, at_once):
    switch = make_switch().start()
    requests = [authorization(CARD_1, f"111{number}") for number in range(3)]
    for start in range(0, 3, at_once):
        link = switch.connect()
        link.echo()
        link.send(*requests[start : start + at_once])
        link.reset()
        tries = start + at_once
        wait_until(lambda: switch.show(CARD_1.token)["pin_try_counter"] == tries, tries)
    assert switch.show(CARD_1.token)["state"] == "SUSPENDED"
    # The card has changed before the disk has it; the rest is counted after that.
    wait_until(
        lambda: Metrics(switch).value("pinswitch_responses_total", code="1872") == 1, "counted"
    )
    metrics = Metrics(switch)
    assert metrics.value("pinswitch_pin_suspensions_total") == 1
    assert metrics.value("pinswitch_pin_verifications_total", result="mismatch") == 3
    assert metrics.value("pinswitch_responses_total", code="1809") == 2
    assert metrics.value("pinswitch_responses_total", code="1872") == 1
    wait_until(lambda: metrics_of_connections(switch) == (0, 0), "it is still open")
    lines = [line for line in switch.log().splitlines() if " mti=0100 " in line]
    assert sorted(map(stan_of, lines)) == [request["11"] for request in requests]
    assert sorted(map(reason_of, lines)) == ["1809", "1809", "1872"]
    with switch.connect() as link:
        assert link.ask(authorization(CARD_1, CARD_1.pin)).code == "75"
        # A repeat finds the answer that nobody heard.
        assert link.ask(dict(requests[0], t="0101")).code == "55"


def metrics_of_connections(switch):
    metrics = Metrics(switch)
    return metrics.value("pinswitch_connections"), metrics.value("pinswitch_inflight")


def stan_of(line):
    return re.search(r'stan="(\d{6})"', line)[1]


def reason_of(line):
    return re.search(r'reason="(\d{4})"', line)[1]


def test_half_frames_on_many_connections_hang_nobody(shared):
    half = frame(messages.encode(authorization(CARD_1, "1111")))[:60]
    links = [shared.connect() for _ in range(100)]
    for link in links:
        link.write(half)
    with shared.connect() as link:
        began = time.monotonic()
        answers = link.ask_all(authorization(CARD_3, CARD_3.pin) for _ in range(200))
        assert {answer.code for answer in answers} == {"00"}
        assert time.monotonic() - began < 5
    for link in links:
        link.close()
    assert shared.show(CARD_1.token)["pin_try_counter"] == 0


def test_two_hundred_connections_are_served_side_by_side(shared):
    links = [shared.connect() for _ in range(200)]
    requests = [authorization(CARD_3, CARD_3.pin) for _ in links]
    for link, request in zip(links, requests):
        link.send(request)
    for link, request in zip(links, requests):
        answer = link.read()
        assert (answer.code, answer.stan) == ("00", request["11"])
        link.close()


def test_nothing_follows_a_reply_that_was_cut_by_a_timeout(make_switch):
    """A peer that reads again too late finds whole frames, perhaps a cut one, and the end."""
    switch = make_switch(write_seconds_max=1).start()
    with switch.connect(receive_buffer=4096) as link:
        link.socket.settimeout(0.5)
        try:
            while True:
                # Some wait for the disk, so that replies are parked while others are written.
                link.send(*mixed(200))
        except (TimeoutError, ConnectionError):
            pass
        wait_until(lambda: "did not read its replies in time" in switch.log(), "not closed", 20)
        stream = b""
        try:
            while received := link.socket.recv(65536):
                stream += received
        except ConnectionResetError:
            pass
    whole = 0
    while len(stream) >= 2 and len(stream) >= 2 + (length := int.from_bytes(stream[:2])):
        assert stream[2:6] in (b"0110", b"0810"), stream[:40]
        stream = stream[2 + length:]
        whole += 1
    assert whole > 0 and len(stream) < 300
