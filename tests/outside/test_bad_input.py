"""What peers send by mistake: each gets the answer of the rules, and nothing else is disturbed."""

import messages
import pytest
from link import frame
from messages import CARD_1, CARD_2, Card, authorization, network_management, pan_of


@pytest.fixture(autouse=True)
def counters_stay(shared):
    """No input of this file is a wrong PIN."""
    yield
    for card in (CARD_1, CARD_2):
        assert shared.show(card.token)["pin_try_counter"] == 0
    with shared.connect() as link:
        assert link.ask(authorization(CARD_2, CARD_2.pin)).code == "00"


# What comes back from a message with a fault: by which its sender finds the request. Another element
# may hold digits of the PAN or of the PIN block, where the fault has shifted it.
MATCHING = {"7", "11"}


def rejected(answer, element):
    return (answer.code, answer.reason) == ("30", f"{element:03}")


def ask_body(link, body):
    link.send_body(body)
    answer = link.read()
    assert answer is not None, "closed without an answer"
    return answer


def closes_without_answer(shared, data):
    with shared.connect() as link:
        link.write(data)
        return link.is_closed()


# Frames.


@pytest.mark.parametrize("whole", [
    authorization(CARD_1, CARD_1.pin, changes={
        "22": "051", "55": "9F360200019F2608" + "11" * 8,
    }),
    authorization(CARD_1, CARD_1.pin, mti="0201", changes={
        "5": "000000001250", "6": "000000001250", "8": "00000000", "9": "61000000",
        "10": "61000000", "70": "001",
    }),
    network_management("301", {"33": "12345"}),
], ids=["0100", "0201", "0800"])
def test_a_frame_cut_anywhere_is_rejected_with_the_element_of_the_cut_or_with_de11(shared, whole):
    body = messages.encode(whole)
    parts = messages.wire_parts(whole)
    framing = max(end for name, _, end in parts if name in ("t", "p", "1"))
    for cut in range(1, len(body)):
        if cut < framing:
            assert closes_without_answer(shared, frame(body[:cut])), cut
            continue
        elements = (int(name) for name, start, end in parts if start >= framing and end > cut)
        element = max(11, next(elements))
        with shared.connect() as link:
            answer = ask_body(link, body[:cut])
            assert rejected(answer, element), (cut, answer.raw)
            assert link.echo() == "00"
    with shared.connect() as link:
        assert ask_body(link, body).code == "00"


def test_de7_and_de11_before_a_cut_come_back(link):
    request = authorization(CARD_1, CARD_1.pin)
    body = messages.encode(request)
    ends = {name: end for name, _, end in messages.wire_parts(request)}
    for cut, element, names in [("4", 11, set()), ("7", 11, {"7"}), ("37", 41, MATCHING)]:
        answer = ask_body(link, body[: ends[cut] + 3])
        assert rejected(answer, element)
        assert answer.names == names | {"39", "44"}
        assert all(answer.elements[name] == request[name] for name in names)


def test_a_connection_that_ends_inside_a_frame_leaves_no_trace(shared):
    data = frame(messages.encode(authorization(CARD_1, "1111")))
    for cut in range(len(data)):
        with shared.connect() as link:
            link.write(data[:cut])


def test_frames_of_length_zero_are_ignored(link):
    request = authorization(CARD_1, CARD_1.pin)
    link.write(b"\0\0" * 1000 + frame(messages.encode(request)) + b"\0\0" * 1000)
    assert link.read().stan == request["11"]
    assert link.echo() == "00"


def test_a_frame_above_the_limit_closes_the_link_after_the_replies_in_flight(shared):
    for header in (b"\x10\x01", b"\xff\xff"):
        with shared.connect() as link:
            request = authorization(CARD_1, CARD_1.pin)
            link.write(frame(messages.encode(request)) + header + b"0100" * 100)
            assert link.read().code == "00"
            assert link.is_closed()


def test_a_frame_at_the_limit_is_read(link):
    body = messages.encode(authorization(CARD_1, CARD_1.pin))
    assert rejected(ask_body(link, body.ljust(4096, b"0")), 52)


def test_a_frame_without_readable_mti_closes_the_link_after_the_replies_in_flight(shared):
    with shared.connect() as link:
        # A wrong PIN waits for the disk, so it is still in flight; the right one resets.
        request = authorization(CARD_1, "1111")
        link.write(frame(messages.encode(request)) + frame(b"01X0" + b"0" * 16))
        assert link.read().code == "55"
        assert link.is_closed()
    with shared.connect() as link:
        assert link.ask(authorization(CARD_1, CARD_1.pin)).code == "00"


@pytest.mark.parametrize("head", [
    b"0", b"010", b"0100", b"01 0" + b"0" * 16, b"-100" + b"0" * 16, b"\x01\x00" + b"0" * 18,
    b"0100" + b"7" * 15, b"0100" + b"G" * 16, b"0100" + b"722000000000800 ",
    b"0100" + b"F" * 16, b"0100" + b"8" + b"0" * 15 + b"0" * 15, b"0100" + b"80000000000000000X",
    b"\xff" * 40, b"\0" * 40, "0１00".encode() + b"0" * 16,
])
def test_an_unreadable_mti_or_bitmap_closes_the_link(shared, head):
    assert closes_without_answer(shared, frame(head))


# Bitmaps.


def test_a_bitmap_that_announces_nothing_is_a_message_without_de11(link):
    assert rejected(ask_body(link, b"0100" + b"0" * 16), 11)
    assert rejected(ask_body(link, b"0800" + b"0" * 16), 11)


def test_a_bitmap_that_announces_more_than_there_is_is_rejected_with_the_missing_element(link):
    request = authorization(CARD_1, CARD_1.pin)
    body = bytearray(messages.encode(request))
    bitmap = int(body[4:20], 16)
    for element in (53, 54, 60, 64):
        body[4:20] = b"%016X" % (bitmap | 1 << (64 - element))
        assert rejected(ask_body(link, bytes(body)), element)


def test_a_second_bitmap_without_elements_is_read(link):
    body = messages.encode(authorization(CARD_1, CARD_1.pin))
    bitmap = b"%016X" % (int(body[4:20], 16) | 1 << 63)
    assert ask_body(link, body[:4] + bitmap + b"0" * 16 + body[20:]).code == "00"


def test_bytes_after_the_last_element_are_rejected_with_the_highest_element(link):
    cases = [
        (authorization(CARD_1, CARD_1.pin), 52),
        (authorization(CARD_1), 49),
        (authorization(CARD_1, changes={"63": "X"}), 63),
        (network_management("001"), 70),
    ]
    for request, element in cases:
        for rest in (b"0", b"\0", b"0100"):
            assert rejected(ask_body(link, messages.encode(request) + rest), element)


# Elements.


@pytest.mark.parametrize("mti", ["0100", "0101", "0200", "0201"])
@pytest.mark.parametrize("element", [2, 3, 4, 7, 11, 49])
def test_a_mandatory_element_that_is_missing_is_named(link, mti, element):
    request = authorization(CARD_1, CARD_1.pin, mti=mti, changes={str(element): None})
    answer = link.ask(request)
    assert rejected(answer, element)
    assert answer.names == messages.ECHOED.intersection(request) | {"39", "44"}


@pytest.mark.parametrize("element", [11, 70])
def test_a_mandatory_element_of_0800_that_is_missing_is_named(link, element):
    answer = link.ask(network_management("001", {str(element): None}))
    assert answer.mti == "0810"
    assert rejected(answer, element)


def test_track_2_may_stand_for_the_pan(link):
    track = f"{CARD_1.pan}=2912201000"
    request = authorization(CARD_1, CARD_1.pin, changes={"2": None, "14": None, "35": track})
    answer = link.ask(request)
    assert answer.code == "00"
    assert not {"2", "35"} & answer.names
    assert rejected(link.ask(dict(request, **{"35": "4761340000000019"})), 35)
    assert rejected(link.ask(dict(request, **{"2": CARD_2.pan})), 35)


@pytest.mark.parametrize("element", [2, 3, 4, 7, 11, 12, 13, 14, 18, 22, 23, 32, 49])
@pytest.mark.parametrize("wrong", [b"A", b" ", b"-", b"\0", b"\xb2"])
def test_a_character_that_is_no_digit_is_named_and_the_answer_can_be_matched(link, element, wrong):
    changes = {"12": "210000", "13": "1121", "18": "5411", "23": "001"}
    request = authorization(CARD_1, CARD_1.pin, changes=changes)
    body = bytearray(messages.encode(request))
    end = next(end for name, _, end in messages.wire_parts(request) if name == str(element))
    body[end - 1 : end] = wrong
    answer = ask_body(link, bytes(body))
    assert rejected(answer, element)
    there = {"7", "11", "37", "41"} - {str(element)}
    assert answer.names == there | {"39", "44"}
    assert all(answer.elements[name] == request[name] for name in there)


@pytest.mark.parametrize("prefix", [b"20", b"00"])
def test_a_wrong_length_of_the_pan_is_named(link, prefix):
    body = messages.encode(authorization(CARD_1, CARD_1.pin))
    answer = ask_body(link, body[:20] + prefix + body[22:])
    assert rejected(answer, 2)


@pytest.mark.parametrize("prefix", [b"A6", b"1 ", b"-1", b"\0\x10", b"\xff\xff"])
def test_after_a_length_that_does_not_read_there_is_no_de11(link, prefix):
    body = messages.encode(authorization(CARD_1, CARD_1.pin))
    answer = ask_body(link, body[:20] + prefix + body[22:])
    assert rejected(answer, 11)
    assert answer.names == {"39", "44"}


@pytest.mark.parametrize("prefix", [b"A5", b"1 ", b"-1"])
def test_a_length_after_de11_that_does_not_read_is_named(link, prefix):
    request = authorization(CARD_1, CARD_1.pin)
    body = messages.encode(request)
    start = next(start for name, start, _ in messages.wire_parts(request) if name == "32")
    answer = ask_body(link, body[:start] + prefix + body[start + 2 :])
    assert rejected(answer, 32)
    assert answer.stan == request["11"]


def test_a_length_that_swallows_de11_is_a_message_without_de11(link):
    body = messages.encode(authorization(CARD_1, CARD_1.pin))
    assert rejected(ask_body(link, body[:20] + b"99" + body[22:]), 11)


@pytest.mark.parametrize("time", ["1321210000", "1100210000", "1121240000", "1121216000"])
def test_a_date_that_does_not_exist_is_named(link, time):
    assert rejected(link.ask(authorization(CARD_1, CARD_1.pin, changes={"7": time})), 7)


def test_a_wrong_stan_is_named_before_everything_else(link):
    changes = {"4": "00000000125X", "11": "00000X", "49": None}
    answer = link.ask(authorization(CARD_1, CARD_1.pin, changes=changes))
    assert rejected(answer, 11)
    assert "11" not in answer.names and "7" in answer.names


def test_a_pin_block_that_is_not_hexadecimal_is_named(link):
    for wrong in ("G" * 16, " " * 16, "000000000000000-"):
        assert rejected(link.ask(authorization(CARD_1, changes={"52": wrong})), 52)


@pytest.mark.parametrize("chip", [
    "9F", "9F2608", "9F26080011", "9F36020001FFFF9F", "9F3680", "9F3684FFFFFFFF00", "9F36820002",
    "1", "9F3602000", "9F36020G01",
])
def test_chip_data_that_does_not_read_is_named(link, chip):
    request = authorization(CARD_1, CARD_1.pin, changes={"22": "051", "55": chip})
    assert rejected(link.ask(request), 55)


def test_chip_data_without_a_pin_is_declined_while_no_cryptogram_is_verified(link):
    chip = "9F360200019F2608" + "11" * 8
    answer = link.ask(authorization(CARD_1, changes={"22": "051", "55": chip}))
    assert (answer.code, answer.reason) == ("59", "1029")
    request = authorization(CARD_1, CARD_1.pin, changes={"22": "051", "55": chip})
    assert link.ask(request).code == "00"


# Message types.


@pytest.mark.parametrize("mti", [
    "0000", "0106", "0126", "0140", "0180", "0226", "0300", "0406", "0440", "0500", "0600", "0900", "1100", "1200", "2100", "9100",
])
def test_a_request_of_another_type_is_not_supported(link, mti):
    answer = link.ask(authorization(CARD_1, "1111", mti=mti))
    assert (answer.code, answer.reason) == ("40", "1015")
    origin = {"1": "0", "3": "2", "5": "4"}.get(mti[3], mti[3])
    assert answer.mti == mti[:2] + str(int(mti[2]) + 1) + origin


@pytest.mark.parametrize("mti, answered", [
    ("0100", "0110"), ("0101", "0110"), ("0102", "0112"), ("0103", "0112"), ("0104", "0114"),
    ("0105", "0114"), ("0202", "0212"), ("0203", "0212"),
])
def test_the_fourth_digit_comes_back_without_the_repeat(link, mti, answered):
    answer = link.ask(authorization(CARD_1, CARD_1.pin, mti=mti))
    assert (answer.code, answer.mti) == ("00", answered)


@pytest.mark.parametrize("mti", ["0110", "0111", "0130", "0210", "0430", "0810", "0190", "9970"])
def test_a_response_is_never_answered(link, mti):
    link.send(authorization(CARD_1, "1111", mti=mti))
    echo = network_management("301")
    assert link.ask(echo).stan == echo["11"]


# Cards and PIN blocks.


@pytest.mark.parametrize("pan", [
    pan_of("476134", 999), "9999999999999995", "4761340000000018", pan_of("476134", 1, 19),
    "1", "0" * 19, "4761340000000019000",
])
def test_an_unknown_pan_is_no_such_card(link, pan):
    request = authorization(CARD_1, CARD_1.pin, changes={"2": pan})
    answer = link.ask(request)
    assert (answer.code, answer.reason) == ("14", "1011")
    assert answer.elements["2"] == pan


def unusable_blocks(pan):
    """Clear blocks that do not read as a PIN in format 0 or 3."""
    account = bytes.fromhex("0000" + pan[-13:-1])
    fields = [
        "144071FFFFFFFFFF", "244071FFFFFFFFFF", "444071FFFFFFFFFF", "F44071FFFFFFFFFF",
        "034071FFFFFFFFFF", "004071FFFFFFFFFF", "0D4071FFFFFFFFFF", "0F4071FFFFFFFFFF",
        "0440A1FFFFFFFFFF", "044071FFFFFFFFFE", "044071AFFFFFFFFF", "3440719AAAAAAAAA",
        "0000000000000000", "FFFFFFFFFFFFFFFF",
    ]
    for text in fields:
        yield bytes(a ^ b for a, b in zip(bytes.fromhex(text), account))


def test_a_pin_block_that_does_not_read_is_unusable_and_never_counts(shared, link):
    for index in range(14):
        card = shared.add(Card(f"unusable-{index}", pan_of("476135", 800 + index), "4071"))
        clear = list(unusable_blocks(card.pan))[index]
        changes = {"52": messages.encrypted(clear)}
        answer = link.ask(authorization(card, changes=changes))
        assert (answer.code, answer.reason) == ("81", "1026"), index
        assert shared.show(card.token)["pin_try_counter"] == 0
        assert link.ask(authorization(card, card.pin)).code == "00"


def test_the_block_of_another_card_is_unusable(shared, link):
    block = authorization(CARD_2, CARD_2.pin)["52"]
    card = shared.add(Card("other-block", pan_of("476135", 123456789), CARD_2.pin))
    assert link.ask(authorization(card, changes={"52": block})).code == "81"
    assert shared.show(card.token)["pin_try_counter"] == 0


def test_blocks_under_a_wrong_zone_key_are_unusable_and_never_count(shared, link):
    cards = [
        shared.add(Card(f"wrong-zpk-{n}", pan_of("476135", 900 + n), "123456")) for n in range(8)
    ]
    wrong = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
    for card in cards:
        for iso_format in (0, 3):
            request = authorization(card, card.pin, zpk=wrong, iso_format=iso_format)
            assert link.ask(request).code == "81"
        assert shared.show(card.token)["pin_try_counter"] == 0


def test_after_five_unusable_blocks_in_a_minute_the_hsm_is_not_asked_about_the_card(shared, link):
    card = shared.add(Card("five-blocks", pan_of("476135", 950), "4071"))
    bad = [authorization(card, changes={"52": "0" * 16}) for _ in range(5)]
    assert link.codes(bad) == ["81"] * 5
    for pin in ("1111", card.pin):
        answer = link.ask(authorization(card, pin))
        assert (answer.code, answer.reason) == ("81", "1026")
    assert shared.show(card.token)["pin_try_counter"] == 0
    # One bad terminal stops nobody else.
    assert link.ask(authorization(CARD_2, CARD_2.pin)).code == "00"
