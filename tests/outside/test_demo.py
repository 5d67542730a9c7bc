"""The demo, as somebody meets it who points a network simulator at the port."""

import random
import signal
import subprocess
import time
import urllib.request

import messages
import pytest
from chip import M_CHIP_KEYS, VISA_KEYS
from link import Link
from messages import (
    CARD_1, CARD_4, ECHOED, Card, authorization, network_management, other_pin, pan_of, reversal,
)
from process import BINARY, START_SECONDS, STOP_SECONDS


@pytest.fixture(scope="module", params=[messages.ASCII, messages.BINARY])
def dialect(request):
    """Every rule holds in both dialects."""
    return request.param


def read_banner(path, process):
    deadline = time.monotonic() + START_SECONDS
    while "curl" not in path.read_text():
        assert process.poll() is None, "the demo ended; are ports 8583, 8584 and 9464 free?"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path.read_text()


def test_without_a_config_the_demo_runs_on_its_ports(tmp_path):
    banner = tmp_path / "stdout"
    with open(banner, "wb") as out, open(tmp_path / "stderr", "wb") as err:
        process = subprocess.Popen(
            [BINARY, "--data-dir", tmp_path / "data"], stdout=out, stderr=err, cwd=tmp_path
        )
    try:
        text = read_banner(banner, process)
        assert "127.0.0.1:8583" in text and "http://127.0.0.1:9464/metrics" in text
        assert "127.0.0.1:8584" in text
        assert messages.DEMO_ZPK.hex().upper() in text
        for product, keys in [("demo-chip", VISA_KEYS), ("demo-mchip", M_CHIP_KEYS)]:
            for name, key in zip(("AC", "SMI", "SMC"), keys):
                assert f"Issuer master key (IMK-{name}) of {product}: {key}\n" in text
        for card in messages.DEMO_CARDS:
            assert f"{card.token}  PAN {card.pan}  PIN {card.pin}  {card.product}" in text
        for port, dialect in [(8583, messages.ASCII), (8584, messages.BINARY)]:
            with Link(("127.0.0.1", port), dialect=dialect) as link:
                assert link.ask(network_management("001")).code == "00"
                for card in messages.DEMO_CARDS:
                    assert link.ask(authorization(card, card.pin)).code == "00"
        with urllib.request.urlopen("http://127.0.0.1:9464/readyz", timeout=10) as page:
            assert page.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def test_the_demo_keeps_its_cards_and_counters_over_a_restart(switch):
    with switch.connect() as link:
        assert link.ask(authorization(CARD_1, "1111")).code == "55"
    assert switch.terminate() == 0
    switch.start()
    assert switch.show(CARD_1.token)["pin_try_counter"] == 1


@pytest.mark.parametrize("code", ["001", "061", "071", "002", "062", "072", "301", "270", "003"])
def test_network_management_is_approved_with_its_elements_only(link, code):
    request = network_management(code, {"33": "998877"})
    answer = link.ask(request)
    assert (answer.mti, answer.code) == ("0810", "00")
    assert answer.names == {"7", "11", "33", "39", "70"}
    for name in messages.NETWORK_MANAGEMENT_ECHOED:
        assert answer.elements[name] == request[name]


def test_sign_on_is_needed_where_the_link_says_so(shared):
    with shared.connect("link-b") as link:
        request = authorization(CARD_1, CARD_1.pin)
        answer = link.ask(request)
        assert (answer.code, answer.reason) == ("91", "9907")
        assert link.ask(network_management("001")).code == "00"
        assert link.ask(request).code == "00"
        assert link.ask(network_management("002")).code == "00"
        assert link.ask(authorization(CARD_1, CARD_1.pin)).code == "91"


def full_request(pin):
    """A request with every element that is echoed, and with those that never are."""
    return authorization(CARD_1, pin, changes={
        "12": "210000", "13": "1121", "15": "1122", "18": "5411", "23": "001", "33": "67890",
        "35": f"{CARD_1.pan}=2912201000", "43": "SHOP".ljust(40), "45": "B4761", "48": "PRIVATE",
        "53": "2001010100000000",
    })


def test_a_right_pin_is_approved_with_exactly_the_elements_of_the_rules(link):
    request = full_request(CARD_1.pin)
    answer = link.ask(request)
    assert (answer.mti, answer.code) == ("0110", "00")
    assert answer.names == messages.ECHOED | {"38", "39"}
    assert len(answer.elements["38"]) == 6 and answer.elements["38"].isdigit()
    for name in messages.ECHOED:
        assert answer.elements[name] == request[name]


def test_a_decline_has_its_reason_and_no_approval_code(link):
    request = full_request(other_pin(CARD_1.pin))
    answer = link.ask(request)
    assert (answer.mti, answer.code, answer.reason) == ("0110", "55", "1809")
    assert answer.names == messages.ECHOED | {"39", "44"}
    assert link.ask(authorization(CARD_1, CARD_1.pin)).code == "00"


@pytest.mark.parametrize("iso_format", [0, 3])
@pytest.mark.parametrize("mti", ["0100", "0200"])
def test_three_wrong_pins_suspend_the_card_until_it_is_activated(switch, iso_format, mti):
    def ask(link, pin):
        answer = link.ask(authorization(CARD_1, pin, mti=mti, iso_format=iso_format))
        assert answer.mti == mti[:2] + "10"
        return answer.code, answer.reason

    with switch.connect() as link:
        assert ask(link, "1111") == ("55", "1809")
        assert ask(link, "1112") == ("55", "1809")
        assert switch.show(CARD_1.token)["state"] == "ACTIVE"
        assert ask(link, "1113") == ("75", "1872")
        card = switch.show(CARD_1.token)
        assert (card["state"], card["reason_code"], card["pin_try_counter"]) == (
            "SUSPENDED", "22", 3,
        )
        assert ask(link, CARD_1.pin) == ("75", "1872")
        assert switch.show(CARD_1.token) == card
        switch.done("card", "activate", CARD_1.token)
        assert switch.show(CARD_1.token)["pin_try_counter"] == 0
        assert ask(link, CARD_1.pin) == ("00", None)


def test_a_right_pin_starts_the_counter_anew(switch):
    with switch.connect() as link:
        for pin, code in [("1111", "55"), ("1112", "55"), (CARD_1.pin, "00")] * 3:
            assert link.ask(authorization(CARD_1, pin)).code == code
    assert switch.show(CARD_1.token)["pin_try_counter"] == 0


def test_a_new_pin_starts_the_counter_anew_but_lifts_no_suspension(switch):
    with switch.connect() as link:
        wrong = [authorization(CARD_1, f"111{n}") for n in range(3)]
        assert link.codes(wrong) == ["55", "55", "75"]
        switch.done("card", "set-pin", CARD_1.token, stdin="8520\n")
        card = switch.show(CARD_1.token)
        assert (card["state"], card["pin_try_counter"]) == ("SUSPENDED", 0)
        assert link.ask(authorization(CARD_1, "8520")).code == "75"
        switch.done("card", "activate", CARD_1.token)
        assert link.ask(authorization(CARD_1, "8520")).code == "00"


def test_without_a_limit_a_wrong_pin_is_55_for_ever(switch):
    with switch.connect() as link:
        codes = [a.code for a in link.ask_all(authorization(CARD_4, "1111") for _ in range(50))]
        assert codes == ["55"] * 50
        assert switch.show(CARD_4.token)["pin_try_counter"] == 50
        assert link.ask(authorization(CARD_4, CARD_4.pin)).code == "00"


def test_two_hundred_wrong_pins_at_once_give_two_55_and_then_only_75(switch):
    with switch.connect() as link:
        answers = link.ask_all(authorization(CARD_1, "1111") for _ in range(200))
    codes = sorted(answer.code for answer in answers)
    assert codes == ["55"] * 2 + ["75"] * 198
    assert switch.show(CARD_1.token)["pin_try_counter"] == 3


def test_a_repeat_of_a_wrong_pin_counts_once_and_gets_equal_bytes(switch):
    request = authorization(CARD_1, "1111")
    with switch.connect() as link, switch.connect() as other:
        first = link.ask(request)
        assert first.code == "55"
        for mti in ["0101", "0100", "0101"]:
            assert link.ask(dict(request, t=mti)).raw == first.raw
            assert other.ask(dict(request, t=mti)).raw == first.raw
    assert switch.show(CARD_1.token)["pin_try_counter"] == 1


def test_repeats_that_meet_the_first_in_flight_count_once(switch):
    request = authorization(CARD_1, "1111")
    with switch.connect() as link, switch.connect() as other:
        for one in (link, other):
            one.send(*[dict(request, t=mti) for mti in ["0100", "0101", "0100"]])
        answers = {one.read().raw for one in (link, other) for _ in range(3)}
    assert len(answers) == 1
    assert switch.show(CARD_1.token)["pin_try_counter"] == 1


def test_a_repeat_of_an_approval_gets_equal_bytes_even_after_a_suspension(switch):
    request = authorization(CARD_1, CARD_1.pin)
    with switch.connect() as link:
        first = link.ask(request)
        assert first.code == "00"
        link.codes(authorization(CARD_1, f"111{n}") for n in range(3))
        assert link.ask(dict(request, t="0101")).raw == first.raw
        assert link.ask(authorization(CARD_1, CARD_1.pin)).code == "75"


def test_a_repeat_without_a_first_is_decided_as_new(switch):
    with switch.connect() as link:
        answer = link.ask(authorization(CARD_1, "1111", mti="0101"))
    assert (answer.mti, answer.code) == ("0110", "55")
    assert switch.show(CARD_1.token)["pin_try_counter"] == 1


@pytest.mark.parametrize("changes", [{"3": "010000"}, {"4": "000000009999"}, {"49": "840"}])
def test_the_same_key_with_another_body_is_a_conflict(switch, changes):
    request = authorization(CARD_1, "1111")
    with switch.connect() as link:
        assert link.ask(request).code == "55"
        answer = link.ask(dict(request, **changes))
        assert (answer.code, answer.reason) == ("94", "9913")
    assert switch.show(CARD_1.token)["pin_try_counter"] == 1


def test_a_repeat_may_bring_another_pin_block_and_local_time(switch):
    request = authorization(CARD_1, "1111", changes={"12": "210000"})
    with switch.connect() as link:
        assert link.ask(request).code == "55"
        again = authorization(CARD_1, CARD_1.pin)["52"]
        assert link.ask(dict(request, **{"12": "210001", "52": again})).code == "55"
    assert switch.show(CARD_1.token)["pin_try_counter"] == 1


def test_a_reversal_takes_its_original_back_and_gives_no_try_back(switch):
    right, wrong = authorization(CARD_1, CARD_1.pin), authorization(CARD_1, "1111")
    with switch.connect() as link:
        for original, code in [(right, "00"), (wrong, "55")]:
            assert link.ask(original).code == code
            taken_back = reversal(original)
            answer = link.ask(taken_back)
            assert (answer.mti, answer.code, "38" in answer.names) == ("0410", "00", False)
            assert answer.names == (ECHOED & taken_back.keys()) | {"39"}
            assert link.ask(dict(taken_back, t="0401")).raw == answer.raw
            assert link.ask(reversal(original, mti="0420")).code == "00"
            answer = link.ask(dict(original, t="0101"))
            assert (answer.mti, answer.code, answer.reason) == ("0110", "94", "9913")
    assert switch.show(CARD_1.token)["pin_try_counter"] == 1


def test_a_reversal_that_is_first_refuses_its_original_also_after_a_kill(switch):
    lost = authorization(CARD_1, "1111")
    taken_back = reversal(lost)
    with switch.connect() as link:
        assert link.ask(taken_back).code == "00"
    switch.kill()
    switch.start()
    with switch.connect() as link:
        assert link.ask(dict(taken_back, t="0401")).code == "00"
        answer = link.ask(lost)
        assert (answer.code, answer.reason) == ("94", "9913")
    assert switch.show(CARD_1.token)["pin_try_counter"] == 0


def test_an_advice_is_acknowledged_and_decides_nothing(switch):
    with switch.connect() as link:
        for mti in ("0120", "0121", "0220", "0221"):
            answer = link.ask(authorization(CARD_1, "1111", mti=mti))
            assert (answer.mti, answer.code) == (mti[:2] + "30", "00")
            assert "38" not in answer.names
    assert switch.show(CARD_1.token)["pin_try_counter"] == 0


def test_every_decline_names_its_reason_in_de44(switch):
    switch.add(Card("sleeping", pan_of("476134", 5001), "1234"), activate=False)
    switch.add(Card("small", pan_of("476134", 5002), "1234", "small-amounts"))
    sleeping = Card("sleeping", pan_of("476134", 5001), "1234")
    small = Card("small", pan_of("476134", 5002), "1234")
    unknown = Card("unknown", pan_of("476134", 5003), "1234")
    old = Card("old", CARD_1.pan, CARD_1.pin, expiry="2911")
    cases = [
        (authorization(unknown, "1234"), "14", "1011"),
        (authorization(old, CARD_1.pin), "54", "1001"),
        (authorization(sleeping, "1234"), "78", "1025"),
        (authorization(CARD_1, changes={"3": "010000"}), "70", "1012"),
        (authorization(CARD_1, changes={"18": "6011"}), "70", "1012"),
        (authorization(CARD_1, CARD_1.pin, changes={"3": "300000"}), "40", "1015"),
        (authorization(small, "1234", changes={"4": "000000001251"}), "61", "1021"),
        (authorization(small, "1234", changes={"49": "840"}), "61", "1021"),
        (authorization(CARD_1, changes={"52": "0" * 16}), "81", "1026"),
        (network_management("999"), "40", "1015"),
    ]
    with switch.connect() as link:
        for request, code, reason in cases:
            answer = link.ask(request)
            assert (answer.code, answer.reason) == (code, reason), request
            assert "38" not in answer.names
        assert link.ask(authorization(small, "1234")).code == "00"


def test_fifty_pins_of_4_to_12_digits_agree_with_psec(shared):
    source = random.Random(20261121)
    with shared.connect() as link:
        for index in range(50):
            pins = [messages.random_pin(source, 4 + (index + n) % 9) for n in range(2)]
            iso_format = index % 2 * 3
            card = shared.add(Card(f"psec-{index}", pan_of("476135", index), pins[0]))

            def ask(pin):
                return link.ask(authorization(card, pin, iso_format=iso_format)).code

            assert [ask(pins[0]), ask(other_pin(pins[0]))] == ["00", "55"]
            shared.done("card", "set-pin", card.token, stdin=pins[1] + "\n")
            assert [ask(pins[0]), ask(pins[1])] == ["55", "00"], pins


def test_pans_of_13_to_19_digits_agree_with_psec(shared):
    with shared.connect() as link:
        for length in range(13, 20):
            card = Card(f"length-{length}", pan_of("476135", 77, length), "123456")
            shared.add(card)
            for iso_format in (0, 3):
                for pin, code in [("123456", "00"), ("123457", "55"), ("123456", "00")]:
                    request = authorization(card, pin, iso_format=iso_format)
                    assert link.ask(request).code == code, length
