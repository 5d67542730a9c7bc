"""What one network sends does not make another one's answers forgotten, nor its reversals."""

import datetime
import time

import pytest
from bulk import wait_for_snapshot
from messages import CARD_1, CARD_4, authorization, other_pin, pan_of, reversal
from settings import link

# Answers for which an index of 1 MB has room, for one of two networks, and more.
MANY = 10_000
BATCH = 500


@pytest.fixture
def networks(make_switch):
    """A switch with a small index and two networks, which takes snapshots."""
    tables = link("other", "demo-zpk", network="other")
    store = "duplicate_index_mb_max = 1"
    return make_switch(store=store, snapshot_mb=1, tables=tables).start()


def requests(count, changes):
    for number in range(count):
        yield authorization(CARD_4, other_pin(CARD_4.pin), changes=changes(number))


def send_many(link, changes, code):
    for _ in range(MANY // BATCH):
        assert {answer.code for answer in link.ask_all(list(requests(BATCH, changes)))} == {code}


def of_nobody(number):
    return {"2": pan_of("476135", 500_000 + number)}


def window(switch, network):
    """It is told once a second."""
    time.sleep(1.5)
    page = switch.get("/metrics")[1]
    name = f'pinswitch_duplicate_window_seconds{{network="{network}"}} '
    line = next(line for line in page.splitlines() if line.startswith(name))
    return float(line.removeprefix(name))


def test_answers_of_one_network_take_no_room_of_another(networks):
    known, taken_back = authorization(CARD_1, CARD_1.pin), authorization(CARD_1, CARD_1.pin)
    with networks.connect() as quiet, networks.connect("other") as loud:
        answers = quiet.ask_all([known, taken_back])
        assert [answer.code for answer in answers] == ["00", "00"]
        assert quiet.ask(reversal(taken_back)).code == "00"
        send_many(loud, lambda _: None, "55")
        for _ in range(2):
            repeated = quiet.ask(dict(known, t="0101"))
            assert repeated.raw == next(a.raw for a in answers if a.stan == known["11"])
            assert quiet.ask(dict(taken_back, t="0101")).code == "94"
            assert quiet.ask(taken_back).code == "94"
        assert window(networks, "net") == 86_400
        # From a snapshot: the segment that says so is not read any more.
        send_many(loud, lambda _: None, "55")
        wait_for_snapshot(networks, 2)
    networks.kill()
    networks.start()
    with networks.connect() as quiet:
        assert quiet.ask(dict(taken_back, t="0101")).code == "94"


def test_what_rests_on_no_card_takes_no_room_at_all(networks):
    known = authorization(CARD_1, CARD_1.pin)
    with networks.connect() as link:
        answer = link.ask(known)
        send_many(link, of_nobody, "14")
        assert link.ask(dict(known, t="0101")).raw == answer.raw
    assert window(networks, "net") == 86_400


def test_answers_of_the_own_network_make_no_reversal_forgotten(networks):
    taken_back = authorization(CARD_1, CARD_1.pin)
    with networks.connect() as link:
        assert link.ask(taken_back).code == "00"
        assert link.ask(reversal(taken_back)).code == "00"
        for _ in range(2):
            send_many(link, lambda _: None, "55")
        assert link.ask(taken_back).code == "94"


@pytest.mark.parametrize("count", [15, 16, 40])
def test_reversals_that_differ_in_de37_only_push_none_out(switch, count):
    """Without DE90, so that DE37 tells them apart."""
    first = authorization(CARD_1, CARD_1.pin)
    rrns = [f"{number:012}" for number in range(700_000, 700_000 + count)]
    with switch.connect() as link:
        assert link.ask(first).code == "00"
        for rrn in [first["37"], *rrns]:
            own = {name: value for name, value in first.items() if name != "52"}
            assert link.ask(dict(own, t="0400", **{"37": rrn})).code == "00"
        assert {link.ask(dict(first, **{"37": rrn})).code for rrn in [first["37"], *rrns]} == {"94"}


# A link may refuse what is older than what is known.


def de7(**ago):
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(**ago)
    return f"{moment:%m%d%H%M%S}"


def test_a_link_may_refuse_what_is_older_than_the_window(make_switch):
    strict = link("strict", "demo-zpk", more="refuse_older_than_window = true")
    switch = make_switch(tables=strict).start()

    def ask(name, time, **changes):
        with switch.connect(name) as one:
            return one.ask(authorization(CARD_4, CARD_4.pin, changes={"7": time}, **changes))

    for time in (de7(), de7(hours=23), de7(hours=-1), de7(days=-100)):
        assert ask("strict", time).code == "00", time
    for time in (de7(hours=25), de7(days=100)):
        answer = ask("strict", time)
        assert (answer.code, answer.reason) == ("94", "9913"), time
        assert ask("link-a", time).code == "00", time
    # What is known is answered from the record, however old it says it is.
    old = authorization(CARD_4, CARD_4.pin, changes={"7": de7(hours=30)})
    with switch.connect() as lenient, switch.connect("strict") as one:
        assert lenient.ask(old).code == "00"
        assert one.ask(dict(old, t="0101")).code == "00"
        # A reversal and an advice are taken in any case.
        assert one.ask(reversal(old, changes={"7": de7(hours=30)})).code == "00"
        assert one.ask(authorization(CARD_4, mti="0120", changes={"7": de7(hours=30)})).code == "00"


def test_a_start_reads_all_answers_that_the_index_has_room_for(make_switch):
    """And no more segments than that: the first ones are not asked for."""
    switch = make_switch(store="duplicate_index_mb_max = 1", snapshot_mb=1).start()
    sent, answers = [], []
    with switch.connect() as link:
        for _ in range(2 * MANY // BATCH):
            sent.append(list(requests(BATCH, lambda _: None)))
            answers.append(link.ask_all(sent[-1]))
    assert len(list((switch.data / "journal").glob("*.journal"))) > 5
    switch.kill()
    # Whatever is in the first segment, it is not read.
    first = switch.data / "journal/0000000001.journal"
    spoilt = bytearray(first.read_bytes())
    spoilt[20_000] ^= 1
    first.write_bytes(spoilt)
    switch.start()
    # 12,800 have room, in 64 parts that do not fill evenly.
    with switch.connect() as link:
        for batch, before in list(zip(sent, answers))[-8_000 // BATCH :]:
            again = link.ask_all([dict(request, t="0101") for request in batch])
            assert [answer.raw for answer in again] == [answer.raw for answer in before]
    assert switch.show(CARD_4.token)["pin_try_counter"] == 2 * MANY
