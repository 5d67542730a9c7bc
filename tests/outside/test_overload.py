"""More than the switch can do: slow disk, silent peers, storms of connections."""

import contextlib
import re
import socket
import time
from pathlib import Path

import messages
import tracing
from link import WAIT_SECONDS, Link, frame
from messages import CARD_1, CARD_3, CARD_4, authorization, network_management, other_pin
from process import free_port
from test_admin import Metrics
from test_limits import wait_until


def slow_disk(milliseconds):
    delay = f"inject=fdatasync:delay_enter={milliseconds * 1000}"
    return ["-e", "trace=fdatasync", "-e", delay]


def wrong_pin():
    return authorization(CARD_4, other_pin(CARD_4.pin))


def test_an_answer_that_is_too_late_is_counted_and_not_sent(make_switch, tmp_path):
    switch = make_switch(limits="answer_milliseconds_max = 300").start()
    request = authorization(CARD_1, "1111")
    with switch.connect() as link:
        with tracing.traced(switch, tmp_path / "strace", *slow_disk(900)):
            link.send(request)
            assert link.is_silent(0.3)
            late = lambda: Metrics(switch).value("pinswitch_late_answers_total", decided="yes")
            wait_until(lambda: late() == 1, "it is not counted as late")
            assert link.is_silent(0.3)
        # It was decided all the same, and a repeat learns what.
        answer = link.ask(dict(request, t="0101"))
        assert (answer.stan, answer.code) == (request["11"], "55")
        assert link.is_silent(0.2)
    assert switch.show(CARD_1.token)["pin_try_counter"] == 1
    assert Metrics(switch).value("pinswitch_responses_total", mti="0110", code="1809") == 1
    lines = [line for line in switch.log().splitlines() if " mti=0100 " in line]
    assert len(lines) == 1 and " late=true" in lines[0]


def test_what_waited_too_long_before_it_was_taken_is_not_decided(make_switch, tmp_path):
    """One request at a time: the others lie in the buffer until it is too late for them."""
    limits = "answer_milliseconds_max = 300"
    switch = make_switch(in_flight_per_connection_max=1, limits=limits).start()
    with switch.connect() as link:
        with tracing.traced(switch, tmp_path / "strace", *slow_disk(900)):
            link.send(*(wrong_pin() for _ in range(5)))
            late = lambda **labels: Metrics(switch).value("pinswitch_late_answers_total", **labels)
            wait_until(lambda: late() == 5, "they are not counted as late")
            assert (late(decided="yes"), late(decided="no")) == (1, 4)
        assert link.echo() == "00"
    assert switch.show(CARD_4.token)["pin_try_counter"] == 1


def test_above_its_limit_a_request_is_answered_91_at_once(make_switch, tmp_path):
    switch = make_switch(limits="in_flight_max = 8\nin_flight_per_link_max = 6").start()
    requests = [wrong_pin() for _ in range(20)]
    with switch.connect() as link, switch.connect() as other, switch.connect("link-b") as third:
        third.ask(network_management("001"))
        approved = authorization(CARD_3, CARD_3.pin)
        assert link.ask(approved).code == "00"
        with tracing.traced(switch, tmp_path / "strace", *slow_disk(900)):
            link.send(*requests)
            # The 91s overtake those that wait. The limit holds for the link, not the connection.
            assert [link.read().code for _ in range(14)] == ["91"] * 14
            answer = other.ask(authorization(CARD_3, CARD_3.pin))
            assert (answer.code, answer.reason) == ("91", "9907")
            # Another link still has room, up to the limit of all together.
            third.send(*(wrong_pin() for _ in range(4)))
            assert [third.read().code for _ in range(2)] == ["91"] * 2
            # A repeat learns its answer, and reversal and advice are taken: they are no new
            # decisions. The reversal waits for the disk, with others up to twice the limit.
            assert other.ask(dict(approved, t="0101")).code == "00"
            assert other.ask(authorization(CARD_3, mti="0120")).code == "00"
            reversals = [dict(approved, t="0400", **{"37": f"{n:012}"}) for n in range(7)]
            other.send(*reversals)
            flooded = other.read()
            assert (flooded.code, flooded.reason) == ("91", "9907")
            assert other.ask(dict(approved, t="0101")).code == "91"
            # Network management is no load.
            assert third.echo() == other.echo() == "00"
            assert [third.read().code for _ in range(2)] == ["55"] * 2
            assert [link.read().code for _ in range(6)] == ["55"] * 6
            assert [other.read().code for _ in range(6)] == ["00"] * 6
        # 91 is no answer to keep: a repeat is decided anew.
        assert link.ask(dict(requests[19], t="0101")).code == "55"
    assert switch.show(CARD_4.token)["pin_try_counter"] == 9
    metrics = Metrics(switch)
    assert metrics.value("pinswitch_overload_answers_total", link="link-a") == 17
    assert metrics.value("pinswitch_overload_answers_total", link="link-b") == 2
    assert metrics.value("pinswitch_inflight") == 0


def test_a_silent_connection_is_closed_and_a_busy_one_is_not(make_switch):
    switch = make_switch(limits="idle_seconds_max = 2").start()
    closed = dict(link="link-a", reason="idle")
    with switch.connect() as silent, switch.connect() as half, switch.connect() as busy:
        assert silent.echo() == half.echo() == "00"
        deadline = time.monotonic() + WAIT_SECONDS
        while Metrics(switch).value("pinswitch_connections_closed_total", **closed) < 2:
            assert time.monotonic() < deadline, "they are not closed"
            assert busy.echo() == "00"
            # Bytes that never become a message do not count.
            with contextlib.suppress(ConnectionError):
                half.write(b"\x04")
            time.sleep(0.1)
        assert silent.is_closed()
        assert busy.echo() == "00"


def test_who_sends_no_message_does_not_stay(make_switch):
    """Nothing at all, keep-alives, or a frame that does not end: all the same. After a message, a
    keep-alive holds the connection."""
    limits = "first_message_seconds_max = 1\nidle_seconds_max = 2"
    switch = make_switch(limits=limits).start()
    closed = lambda reason: Metrics(switch).value(
        "pinswitch_connections_closed_total", link="link-a", reason=reason)
    with contextlib.ExitStack() as stack:
        silent, half, empty, alive = [stack.enter_context(switch.connect()) for _ in range(4)]
        assert alive.echo() == "00"
        half.write(b"\xff")
        deadline, since = time.monotonic() + WAIT_SECONDS, None
        # Beyond what is allowed for the first message, and for being silent.
        while since is None or time.monotonic() < since + 3:
            assert time.monotonic() < deadline, "they are not closed"
            with contextlib.suppress(ConnectionError):
                empty.write(b"\0\0")
            alive.write(b"\0\0")
            if since is None and closed("no_message") == 3:
                since = time.monotonic()
            time.sleep(0.1)
        assert closed("idle") == 0
        assert silent.is_closed()
        assert alive.echo() == "00"


def memory_bytes(switch):
    status = Path(f"/proc/{switch.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


CONNECTIONS = 9_000


def test_thousands_of_idle_connections_hold_little_and_hang_nobody(make_switch):
    """Some have been busy before, and stopped in the middle of a frame: what the burst needed is
    given back."""
    limits = "connections_per_second_max = 100000\nfirst_message_seconds_max = 600"
    share = "\n".join(f"{name} = {CONNECTIONS + 9}"
                      for name in ("connections_max", "connections_per_address_max"))
    switch = make_switch(connections_max=CONNECTIONS + 10, limits=limits, link_a=share).start()
    burst = [authorization(CARD_3, CARD_3.pin) for _ in range(400)]
    with switch.connect() as link:
        link.ask_all(burst)
        before = memory_bytes(switch)
        address, idle = ("127.0.0.1", switch.ports()["link-a"]), []
        for number in range(CONNECTIONS):
            idle.append(Link(address))
            if number % 10 == 0:
                answers = idle[-1].ask_all(burst[:20] if number % 200 else burst)
                assert {answer.code for answer in answers} == {"00"}
                idle[-1].write(b"\x00")
        # The last ones are accepted a moment after they have connected.
        wait_until(lambda: Metrics(switch).value("pinswitch_connections") == CONNECTIONS + 1,
                   "not all are served", 20)
        assert (memory_bytes(switch) - before) / CONNECTIONS < 8_000
        assert link.ask(authorization(CARD_3, CARD_3.pin)).code == "00"
        assert {other.echo() for other in idle[1:: 500]} == {"00"}
        for other in idle:
            other.close()
        wait_until(lambda: Metrics(switch).value("pinswitch_connections") == 1, "still open", 20)


def storm_of(address, count, own="127.0.0.1"):
    """So many connections at once; it does not wait for any."""
    peers = []
    for _ in range(count):
        peer = socket.socket()
        peer.bind((own, 0))
        peer.setblocking(False)
        peer.connect_ex(address)
        peers.append(peer)
    return peers


def test_a_storm_of_connections_is_taken_slowly(make_switch):
    """Who is served goes on being served, and who waits gets his turn. The first 256 are a usual
    start."""
    limits = "connections_per_second_max = 400\nconnections_per_address_max = 1000"
    switch = make_switch(connections_max=2000, limits=limits).start()
    address = ("127.0.0.1", switch.ports()["link-a"])
    with switch.connect() as link:
        assert link.echo() == "00"
        began = time.monotonic()
        storm = storm_of(address, 600)
        for _ in range(50):
            assert link.ask(authorization(CARD_3, CARD_3.pin)).code == "00"
        count = lambda name="": Metrics(switch).value(f"pinswitch_connections{name}")
        taken, passed = count(), time.monotonic() - began
        # A quarter of what the link takes.
        assert taken <= 256 + 100 * passed + 5, f"{taken} in {passed} s"
        assert taken == 601 or count("_waiting") > 0
        wait_until(lambda: count() == 601, "they are not all taken", 20)
        assert count("_waiting") == 0
        for peer in storm:
            peer.close()
    with Link(address) as link:
        assert link.echo() == "00"


def test_nobody_waits_behind_a_storm_of_another_address(make_switch):
    """A storm that is served for longer than everybody may wait for an answer."""
    limits = "connections_per_second_max = 40\nconnections_per_address_max = 500"
    switch = make_switch(limits=limits).start()
    address = ("127.0.0.1", switch.ports()["link-a"])
    storm = storm_of(address, 1_000, own="127.0.0.2")
    refused = lambda reason: Metrics(switch).value(
        "pinswitch_connections_refused_total", link="link-a", reason=reason)
    waiting = lambda: Metrics(switch).value("pinswitch_connections_waiting", link="link-a")
    wait_until(lambda: refused("address") == 500, "the storm is not cut", 20)
    # At ten a second it goes on for 24 seconds, of which the other waits for one turn.
    before = waiting()
    for _ in range(5):
        with Link(address, own="127.0.0.3") as other:
            assert other.ask(authorization(CARD_3, CARD_3.pin)).code == "00"
    assert waiting() > 100, f"the storm was over, of {before}"
    assert refused("link") == 0
    # It is said, and not 500 times.
    assert switch.log().count('reason="address"') <= 4
    for peer in storm:
        peer.close()
    # Who waits does not hold up a stop.
    assert waiting() > 0
    assert switch.terminate() == 0


def test_an_address_takes_the_places_of_no_other(make_switch):
    limits = "connections_per_address_max = 3"
    switch = make_switch(limits=limits, link_a="connections_per_address_max = 2").start()
    address = ("127.0.0.1", switch.ports()["link-a"])
    other_link = ("127.0.0.1", switch.ports()["link-b"])
    with contextlib.ExitStack() as stack:
        connect = lambda *where, **who: stack.enter_context(Link(*where, **who))
        held = [connect(address, own="127.0.0.2") for _ in range(2)]
        assert {link.echo() for link in held} == {"00"}
        for _ in range(20):
            with Link(address, own="127.0.0.2") as one_more:
                assert one_more.is_closed()
        assert connect(address, own="127.0.0.3").echo() == "00"
        # The address has places of its own on another link, which has another limit.
        held += [connect(other_link, own="127.0.0.2") for _ in range(3)]
        assert {link.echo() for link in held} == {"00"}
        assert connect(other_link, own="127.0.0.2").is_closed()
        count = lambda name: Metrics(switch).value(
            "pinswitch_connections_refused_total", link=name, reason="address")
        assert (count("link-a"), count("link-b")) == (20, 1)
        wait_until(lambda: 'reason="address"' in switch.log(), "it is not said")
        held[0].close()
        wait_until(lambda: is_served(address, "127.0.0.2"), "no place")


def is_served(address, own):
    with Link(address, own=own) as link:
        try:
            link.send(network_management("301"))
            return link.read() is not None
        except ConnectionError:
            return False


def test_an_address_with_256_connections_is_served_by_default(switch):
    address = ("127.0.0.1", switch.ports()["link-a"])
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(Link(address, own="127.0.0.2")) for _ in range(256)]
        assert {link.echo() for link in links} == {"00"}
        assert stack.enter_context(Link(address, own="127.0.0.2")).is_closed()
        # The link has more places than one address may take.
        with Link(address, own="127.0.0.3") as other:
            assert other.echo() == "00"


def test_strangers_are_closed_at_once_and_hold_up_nobody(make_switch):
    peers = 'peers = ["127.0.0.3", "127.0.1.0/24"]'
    limits = "connections_per_second_max = 1"
    switch = make_switch(limits=limits, link_a=peers).start()
    address = ("127.0.0.1", switch.ports()["link-a"])
    for own in ("127.0.0.1", "127.0.0.2", "127.0.2.1"):
        with Link(address, own=own) as stranger:
            assert stranger.is_closed()
    # Far more than would be served: they take no turn of anybody.
    storm = storm_of(address, 600, own="127.0.0.2")
    refused = lambda: Metrics(switch).value(
        "pinswitch_connections_refused_total", link="link-a", reason="peer")
    wait_until(lambda: refused() == 603, "they are not refused", 20)
    for own in ("127.0.0.3", "127.0.1.0", "127.0.1.255"):
        assert is_served(address, own)
    with switch.connect("link-b") as other:
        assert other.echo() == "00"
    wait_until(lambda: 'reason="peer"' in switch.log(), "it is not said")
    lines = [line for line in switch.log().splitlines() if 'reason="peer"' in line]
    assert 'link="link-a" peer=127.0.0.1' in lines[0] and 1 <= len(lines) <= 4
    for peer in storm:
        peer.close()


def test_a_link_that_listens_in_ipv6_knows_its_ipv4_peers(make_switch):
    peers = 'peers = ["127.0.0.3", "::1"]'
    switch = make_switch(master_key_file="master.key", zpk="zpk-net", link_a=peers)
    text = switch.config.read_text()
    port = free_port()
    before, first, others = text.partition('name = "link-a"')
    others = others.replace('listen = "127.0.0.1:0"', f'listen = "[::]:{port}"', 1)
    switch.config.write_text(before + first + others)
    switch.write_master_key()
    switch.bring_in_key("zpk-net", bytes(range(1, 17)))
    switch.launch()
    wait_until(lambda: switch.log().count("listening") == 2, "it does not listen", 20)
    assert is_served(("127.0.0.1", port), "127.0.0.3")
    with Link(("127.0.0.1", port), own="127.0.0.2") as stranger:
        assert stranger.is_closed()
    wait_until(lambda: "peer=127.0.0.2 " in switch.log(), "it is not said")
    assert "::ffff" not in switch.log()
    with socket.create_connection(("::1", port)) as local:
        local.sendall(frame(messages.encode(network_management("301"))))
        assert local.recv(2)
