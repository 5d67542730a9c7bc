"""Calls of the HTTP API when something goes wrong: slow peers, peers that hang up, a switch that is
told to stop, a disk that is full."""

import json
import os
import signal
import socket
import struct
import threading
import time

from api_client import DEMO_KEY, Api, basic
from messages import CARD_1, other_pin
from test_full_disk import small_disk  # noqa: F401

CALLS = 50


def request(path, body, method="POST"):
    body = json.dumps(body).encode()
    head = (f"{method} {path} HTTP/1.1\r\nHost: switch\r\nAuthorization: {basic(*DEMO_KEY)}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
    return head.encode() + body


def connect(switch):
    return socket.create_connection(("127.0.0.1", switch.api_port()), timeout=20)


def everything(peer):
    parts = []
    while part := peer.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def users(api):
    found, page = [], {"is_more": True}
    while page["is_more"]:
        page = api.done("GET", f"/users?count=100&start_index={len(found)}")
        found += [user["token"] for user in page["data"]]
    return found


def test_a_slow_peer_is_answered_or_left(make_switch):
    switch = make_switch(limits="api_request_seconds_max = 1").start()
    whole = request("/users", {"token": "slow"})
    with connect(switch) as in_the_body, connect(switch) as in_the_head:
        in_the_body.sendall(whole[:-1])
        in_the_head.sendall(whole[:20])
        answer = everything(in_the_body)
        assert b" 408 " in answer and b'"too_slow"' in answer and b"onnection: close" in answer
        assert everything(in_the_head) == b""
    assert users(Api(switch)) == []


def test_what_was_begun_is_done_whoever_hangs_up(make_switch):
    switch = make_switch().start()
    api, linger = Api(switch), struct.pack("ii", 1, 0)
    for number in range(CALLS):
        whole = request("/users", {"token": f"user-{number}"})
        peer = connect(switch)
        # Each second one has not sent all.
        peer.sendall(whole if number % 2 else whole[:-3])
        # Closed without a goodbye, at once or a little later.
        time.sleep(number % 5 / 1_000)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        peer.close()
    deadline = time.monotonic() + 10
    audited = 0
    # A call that never came to the switch whole may be lost; one that did is done and told.
    while time.monotonic() < deadline:
        found, audited = users(api), switch.log().count('action="create user"')
        if len(found) == audited and len(found) >= CALLS // 4:
            break
        time.sleep(0.1)
    assert len(found) == len(set(found)) == audited
    assert {int(token.removeprefix("user-")) % 2 for token in found} == {1}


def test_a_guess_counts_whoever_hangs_up(make_switch):
    switch = make_switch().start()
    body = {"card_token": CARD_1.token, "pin": other_pin(CARD_1.pin)}
    for number in range(3):
        with connect(switch) as peer:
            peer.sendall(request("/pins/verify", body))
            # It has been read when the next one is sent.
            deadline = time.monotonic() + 10
            while switch.show(CARD_1.token)["pin_try_counter"] <= number:
                assert time.monotonic() < deadline
                time.sleep(0.01)
    assert switch.show(CARD_1.token)["state"] == "SUSPENDED"


def test_a_stop_waits_for_the_calls_in_flight(make_switch):
    switch = make_switch().start()
    whole = request("/users", {"token": "late"})
    with connect(switch) as idle, connect(switch) as begun:
        begun.sendall(whole[:-1])
        time.sleep(0.2)
        switch.process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b""
        time.sleep(0.2)
        assert switch.process.poll() is None
        begun.sendall(whole[-1:])
        answer = everything(begun)
        assert answer.startswith(b"HTTP/1.1 201 ") and b"onnection: close" in answer
    assert switch.wait() == 0
    switch.start()
    assert users(Api(switch)) == ["late"]


def test_what_was_answered_at_a_stop_was_done(make_switch):
    switch = make_switch().start()
    answered = []

    def work(number):
        api = Api(switch)
        for count in range(10_000):
            token = f"user-{number}-{count}"
            try:
                assert api.post("/users", {"token": token}).status == 201
            except OSError:
                return
            answered.append(token)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    assert switch.terminate() == 0
    for thread in threads:
        thread.join()
    switch.start()
    kept = set(users(Api(switch)))
    # At most the last of each client was done without its answer having come.
    assert set(answered) <= kept and len(kept - set(answered)) <= len(threads)
    assert len(answered) > 20


def test_a_full_disk_is_said_once_and_loses_nothing(make_switch, small_disk):  # noqa: F811
    switch = make_switch(segment_mb=1)
    switch.data = small_disk / "data"
    switch.start()
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\xaa" * max(free - (1 << 19), 0))
    api, answered, refused = Api(switch), [], []
    for number in range(100_000):
        token = f"user-{number}"
        try:
            answer = api.post("/users", {"token": token, "metadata": {"a": "b" * 255}})
        except OSError:
            break
        if answer.status != 201:
            refused.append(answer)
            continue
        answered.append(token)
    assert switch.wait() == 1
    # Until the program has ended, more than one call may be told.
    assert len(answered) > 100 and len(refused) < 100
    for answer in refused:
        assert (answer.status, answer.json["code"]) == (503, "store_failed"), answer
    # The supply of segments, the store and the end of the program say it, and no call does.
    said = [line for line in switch.log().splitlines() if "No space left" in line]
    assert len(said) == len(set(said)) <= 3, said
    ballast.unlink()
    switch.start()
    kept = users(Api(switch))
    assert set(answered) <= set(kept) and len(kept) <= len(answered) + 1
