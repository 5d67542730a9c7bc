"""PINs over the HTTP API: control tokens, set, shown, checked, unblocked."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from api_client import Api
from chip import PROFILES, Chip
from messages import CARD_1, CARD_2, CARD_4, Card, authorization, other_pin, pan_of
from settings import chip, product
from test_clock import Clock
from verification import visa_pvv

VIEWABLE = "pin_viewable = true"
NEW_PIN, OTHER_PIN, THIRD_PIN = "5803", "9264", "6835"
METHODS = ["BIOMETRIC_FACE", "BIOMETRIC_FINGERPRINT", "LOGIN", "EXP_CVV", "OTP_CVV", "OTP", "OTHER"]


@pytest.fixture
def switch(make_switch):
    return make_switch(debit_chip=VIEWABLE).start()


@pytest.fixture
def api(switch):
    return Api(switch)


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path / "clock")


def control(api, card=CARD_1, kind=None):
    body = {"card_token": card.token} | ({"controltoken_type": kind} if kind else {})
    answer = api.post("/pins/controltoken", body)
    assert answer.status == 201, answer
    (token,) = answer.json.values()
    assert answer.json == {"control_token": token} and 1 <= len(token) <= 36
    return token


def set_with(api, token, pin):
    return api.put("/pins", {"control_token": token, "pin": pin})


def set_pin(api, pin, card=CARD_1):
    answer = set_with(api, control(api, card), pin)
    assert answer.status == 204 and answer.body == b"", answer


def reveal_with(api, token, method="LOGIN"):
    body = {"control_token": token, "cardholder_verification_method": method}
    return api.post("/pins/reveal", body)


def revealed(api, card=CARD_1):
    answer = reveal_with(api, control(api, card, "REVEAL_PIN"))
    assert answer.status == 200, answer
    return answer.json["pin"]


def reveal_refused(api, status, code, card=CARD_1):
    token = control(api, card, "REVEAL_PIN")
    body = {"control_token": token, "cardholder_verification_method": "OTP"}
    api.refused(status, code, "POST", "/pins/reveal", body)
    return token


def verified(api, pin, card=CARD_1):
    """The code of a PIN that is checked."""
    answer = api.post("/pins/verify", {"card_token": card.token, "pin": pin})
    assert answer.status == 200, answer
    return answer.json["response"]["code"]


def code(switch, pin, card=CARD_1):
    """DE39 of a purchase with this PIN."""
    with switch.connect() as link:
        return link.ask(authorization(card, pin)).code


def move(switch, state, card=CARD_1, *words):
    switch.done("card", "transition", card.token, state, *words)


def suspend_by_tries(switch, api, card=CARD_1):
    assert [verified(api, other_pin(card.pin), card) for _ in range(3)] == ["1809", "1809", "1872"]


def events(api, kind=None):
    found, after = [], None
    while True:
        page = api.done("GET", "/events" + (f"?after={after}" if after else ""))
        found += page["events"]
        after = page["next"]
        if after is None:
            return [event for event in found if kind in (None, event["type"])]


def audited(switch, action, count=1):
    """The audit lines of what was done, which are written a moment later."""
    deadline = time.monotonic() + 10
    while True:
        lines = [it for it in switch.log().splitlines() if "audit" in it and f'"{action}"' in it]
        if len(lines) >= count or time.monotonic() > deadline:
            assert len(lines) == count, lines
            return lines
        time.sleep(0.01)


# Control tokens and sets.


def test_a_pin_is_set_by_a_control_token(switch, api):
    """R101, R102, R73, R75: a control token, then a PIN of four digits that the switch verifies."""
    token = control(api)
    answer = set_with(api, token, NEW_PIN)
    assert answer.status == 204 and answer.body == b""
    assert code(switch, CARD_1.pin) == "55" and code(switch, NEW_PIN) == "00"
    (told,) = events(api, "cardactions.pin.changed")
    assert told["card_token"] == CARD_1.token and told["pin_is_set"] is True
    assert told["actor"] == {"kind": "api_key", "name": "demo", "address": "127.0.0.1"}
    (made,) = events(api, "cardactions.pin.control")
    assert made["actor"]["name"] == "demo"
    (line,) = audited(switch, "set-pin")
    assert CARD_1.token in line and "api_key demo from 127.0.0.1" in line and NEW_PIN not in line
    assert token not in switch.log()
    files = [path for path in switch.data.rglob("*") if path.is_file()]
    assert not any(token.encode() in path.read_bytes() for path in files)


def test_the_pin_is_read_in_either_case(switch, api):
    """R102: the seed's documents write `PIN`."""
    token = control(api, kind="SET_PIN")
    assert api.put("/v3/pins", {"control_token": token, "PIN": NEW_PIN}).status == 204
    assert code(switch, NEW_PIN) == "00"
    token = control(api)
    both = {"control_token": token, "pin": OTHER_PIN, "PIN": THIRD_PIN}
    api.refused(400, "invalid_request", "PUT", "/pins", both)
    assert set_with(api, token, OTHER_PIN).status == 204


def test_a_token_is_used_up_by_success_alone(switch, api):
    token = control(api)
    for wrong in ["123", "1234567890123", "12a4", "", " 5803"]:
        body = {"control_token": token, "pin": wrong}
        api.refused(400, "invalid_field", "PUT", "/pins", body)
    for wrong in [5803, None, ["5803"], {"pin": "5803"}, True, "5803\n5803"]:
        body = {"control_token": token, "pin": wrong}
        api.refused(400, "invalid_request", "PUT", "/pins", body)
    assert code(switch, CARD_1.pin) == "00"
    assert set_with(api, token, NEW_PIN).status == 204
    body = {"control_token": token, "pin": OTHER_PIN}
    problem = api.refused(410, "control_used", "PUT", "/pins", body)
    assert token not in json.dumps(problem)
    assert code(switch, NEW_PIN) == "00"


def test_the_newest_token_of_a_card_and_purpose_ends_the_older(switch, api):
    first, reveal = control(api), control(api, kind="REVEAL_PIN")
    of_other = control(api, CARD_4)
    second = control(api)
    body = {"control_token": first, "pin": NEW_PIN}
    api.refused(410, "control_used", "PUT", "/pins", body)
    assert code(switch, CARD_1.pin) == "00"
    assert set_with(api, second, NEW_PIN).status == 204
    assert set_with(api, of_other, OTHER_PIN).status == 204
    assert code(switch, OTHER_PIN, CARD_4) == "00"
    # That of another purpose goes on, and shows what was set since.
    assert reveal_with(api, reveal).json == {"pin": NEW_PIN}


def test_what_is_no_control_token_is_refused(switch, api):
    token = control(api)
    other_end = "A" if token[-1] != "A" else "B"
    for wrong in ["", "x", token[:-1], token[:-1] + other_end, token + "A", "A" * 36, "0" * 36,
                  "4761340000000019", CARD_1.token, "é" * 18, " " + token]:
        body = {"control_token": wrong, "pin": NEW_PIN}
        problem = api.refused(403, "control_invalid", "PUT", "/pins", body)
        assert "476134" not in json.dumps(problem)
    assert code(switch, CARD_1.pin) == "00"


def test_a_token_of_another_switch_is_refused(switch, api, make_switch):
    foreign = control(Api(make_switch().start()))
    body = {"control_token": foreign, "pin": NEW_PIN}
    api.refused(403, "control_invalid", "PUT", "/pins", body)


def test_a_token_is_good_for_one_purpose(switch, api):
    reveal, by_alias = control(api, kind="REVEAL_PIN"), control(api, CARD_4, "SHOW_PIN")
    for token in (reveal, by_alias):
        body = {"control_token": token, "pin": NEW_PIN}
        api.refused(403, "control_invalid", "PUT", "/pins", body)
    token = control(api)
    body = {"control_token": token, "cardholder_verification_method": "OTP"}
    api.refused(403, "control_invalid", "POST", "/pins/reveal", body)
    # What was refused has used nothing up.
    assert reveal_with(api, reveal).json == {"pin": CARD_1.pin}
    assert set_with(api, token, NEW_PIN).status == 204


def test_who_asks_for_a_token_is_told_what_is_wrong(switch, api):
    path = "/pins/controltoken"
    api.refused(404, "no_such_card", "POST", path, {"card_token": "nobody"})
    api.refused(400, "invalid_request", "POST", path, {})
    api.refused(400, "invalid_request", "POST", path,
                {"card_token": CARD_1.token, "controltoken_type": "GET_PIN"})
    api.refused(400, "invalid_request", "POST", path, {"card_token": CARD_1.token, "more": 1})
    api.refused(400, "invalid_request", "POST", path + "?more=1", {"card_token": CARD_1.token})
    move(switch, "TERMINATED")
    api.refused(409, "card_terminated", "POST", path, {"card_token": CARD_1.token})


def test_tokens_survive_a_restart(switch, api):
    set_token, reveal_token = control(api), control(api, kind="REVEAL_PIN")
    used = control(api, CARD_4)
    assert set_with(api, used, OTHER_PIN).status == 204
    switch.kill()
    switch.start()
    api = Api(switch)
    assert set_with(api, set_token, NEW_PIN).status == 204
    assert reveal_with(api, reveal_token).json == {"pin": NEW_PIN}
    for token in (set_token, used):
        body = {"control_token": token, "pin": THIRD_PIN}
        api.refused(410, "control_used", "PUT", "/pins", body)


def test_tokens_end_by_their_time(make_switch, clock):
    switch = make_switch(debit_chip=VIEWABLE)
    switch.start(*clock.words)
    api = Api(switch)
    set_token, reveal_token = control(api), control(api, kind="REVEAL_PIN")
    clock.set(4 * 60)
    assert reveal_with(api, reveal_token).status == 200
    reveal_token = control(api, kind="REVEAL_PIN")
    clock.set(10 * 60)
    body = {"control_token": reveal_token, "cardholder_verification_method": "OTP"}
    api.refused(410, "control_expired", "POST", "/pins/reveal", body)
    clock.set(61 * 60)
    body = {"control_token": set_token, "pin": NEW_PIN}
    api.refused(410, "control_expired", "PUT", "/pins", body)
    # A new one is good.
    set_pin(api, NEW_PIN)
    assert revealed(api) == NEW_PIN


def test_a_token_lives_for_an_hour_to_set_a_pin(make_switch, clock):
    switch = make_switch()
    switch.start(*clock.words)
    api = Api(switch)
    token = control(api)
    clock.set(59 * 60)
    assert set_with(api, token, NEW_PIN).status == 204


def test_two_sets_with_one_token_never_are_both_done(switch, api):
    """The PIN and the end of the token are one commit."""
    clients = [Api(switch) for _ in range(4)]
    for round_ in range(10):
        token = control(api)
        pins = [f"{5_803 + 10 * round_ + place}" for place in range(4)]
        start = threading.Barrier(4)

        def race(client, pin):
            start.wait()
            return set_with(client, token, pin)

        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(race, clients, pins))
        done = [pin for pin, answer in zip(pins, answers) if answer.status == 204]
        others = [answer for answer in answers if answer.status != 204]
        assert len(done) == 1, answers
        assert all(it.status == 410 and it.json["code"] == "control_used" for it in others)
        assert verified(api, done[0]) == "0000"
    changes = events(api, "cardactions.pin.changed")
    assert len(changes) == 10


WEAK = {
    "one digit": "7777", "a run up": "3456", "a run down": "8765", "a year": "1987",
    "a year of now": "2026", "common": "1004", "common of five": "13579", "common of six": "159753",
    "of the PAN": "7613", "of its end": "0019",
}


@pytest.mark.parametrize("kind", WEAK)
def test_a_weak_pin_is_refused(shared_weak, kind):
    api = Api(shared_weak)
    token = control(api)
    body = {"control_token": token, "pin": WEAK[kind]}
    problem = api.refused(412, "weak_pin", "PUT", "/pins", body)
    assert WEAK[kind] not in json.dumps(problem)
    assert code(shared_weak, CARD_1.pin) == "00"


@pytest.fixture(scope="module")
def shared_weak(make_shared):
    return make_shared().start()


def test_the_fifth_weak_pin_uses_the_token_up(switch, api):
    token = control(api)
    for _ in range(4):
        api.refused(412, "weak_pin", "PUT", "/pins", {"control_token": token, "pin": "1111"})
    # Neither a PIN that is none nor a restart is counted or forgotten.
    api.refused(400, "invalid_field", "PUT", "/pins", {"control_token": token, "pin": "1"})
    switch.kill()
    switch.start()
    api = Api(switch)
    api.refused(412, "weak_pin", "PUT", "/pins", {"control_token": token, "pin": "1111"})
    api.refused(410, "control_used", "PUT", "/pins", {"control_token": token, "pin": NEW_PIN})
    assert code(switch, CARD_1.pin) == "00"


def test_an_operator_sets_what_the_cardholder_has(switch):
    switch.done("card", "set-pin", CARD_1.token, stdin="1111")
    assert code(switch, "1111") == "00"


STATES = {
    "UNACTIVATED": [], "ACTIVE": [["ACTIVE"]], "LIMITED": [["ACTIVE"], ["LIMITED"]],
    "SUSPENDED": [["ACTIVE"], ["SUSPENDED"]],
}


@pytest.mark.parametrize("state", STATES)
def test_a_pin_is_set_in_any_state_but_terminated(switch, api, state):
    card = switch.add(Card("states", pan_of("476134", 77), "4071"), activate=False)
    for words in STATES[state]:
        move(switch, *words, card)
    set_pin(api, NEW_PIN, card)
    assert switch.show(card.token)["state"] == state
    token = control(api, card)
    move(switch, "TERMINATED", card)
    body = {"control_token": token, "pin": OTHER_PIN}
    api.refused(409, "card_terminated", "PUT", "/pins", body)


def test_a_set_zeroes_the_counter_and_leaves_the_suspension(switch, api):
    """R95, R96, R94, R90, R92: scenario B: the PIN is reset, and the card moved to ACTIVE after."""
    assert code(switch, other_pin(CARD_1.pin)) == "55"
    set_pin(api, NEW_PIN)
    assert switch.show(CARD_1.token)["pin_try_counter"] == 0
    assert [code(switch, OTHER_PIN) for _ in range(3)] == ["55", "55", "75"]
    set_pin(api, THIRD_PIN)
    shown = switch.show(CARD_1.token)
    assert (shown["state"], shown["reason_code"]) == ("SUSPENDED", "22")
    assert shown["pin_try_counter"] == 0
    assert code(switch, THIRD_PIN) == "75" and verified(api, THIRD_PIN) == "1872"
    move(switch, "ACTIVE")
    assert code(switch, THIRD_PIN) == "00"


def test_a_set_waits_for_the_chip_until_a_transaction_carries_it(make_switch):
    """R105, R106, R107, R108, R117: the online PIN changes at once, the chip's by a script."""
    switch = make_switch(visa_chip=chip("visa", "ftpam = 5000")).start()
    api = Api(switch)
    set_pin(api, NEW_PIN, CARD_2)
    assert switch.show(CARD_2.token)["chip_sync"].startswith("pending")
    assert verified(api, NEW_PIN, CARD_2) == "0000"
    card = Chip(PROFILES[0])
    with switch.connect() as link:
        assert link.ask(card.request(amount=100)).code == "00"
    assert switch.show(CARD_2.token)["chip_sync"].startswith("sent")


def test_an_unblock_waits_for_the_chip(make_switch):
    """R116: a script unblocks the chip."""
    switch = make_switch(visa_chip=chip("visa")).start()
    api = Api(switch)
    answer = api.post(f"/cards/{CARD_2.token}/pin/unblock")
    assert answer.status == 202, answer
    assert switch.show(CARD_2.token)["chip_sync"].startswith("pending")
    (told,) = events(api, "cardactions.pin.unblock.queued")
    assert told["actor"]["kind"] == "api_key"
    path = f"/cards/{CARD_1.token}/pin/unblock"
    api.refused(409, "chip_holds_no_pin", "POST", path)
    api.refused(404, "no_such_card", "POST", "/cards/nobody/pin/unblock")
    move(switch, "TERMINATED", CARD_2)
    api.refused(409, "card_terminated", "POST", f"/cards/{CARD_2.token}/pin/unblock")


def reset_tries(api, card=CARD_1):
    answer = api.post(f"/cards/{card.token}/pin/reset_tries")
    assert (answer.status, answer.body) == (204, b""), answer


def test_a_reset_of_the_count_lifts_the_suspension_that_it_has_made(switch, api):
    """R204: the count alone is reset, and the PIN stays."""
    suspend_by_tries(switch, api)
    reset_tries(api)
    assert switch.show(CARD_1.token)["state"] == "ACTIVE"
    assert api.done("GET", f"/cards/{CARD_1.token}")["pin_try_counter"] == 0
    assert code(switch, CARD_1.pin) == "00"
    told = [(event["type"], event["after"]["state"]) for event in events(api)
            if event["card_token"] == CARD_1.token]
    assert told[-2:] == [("cardactions.pin.tries.reset", "ACTIVE"),
                         ("cardtransition.state.reinstated", "ACTIVE")]
    move(switch, "SUSPENDED")
    assert verified(api, NEW_PIN) == "1004"
    reset_tries(api)
    assert switch.show(CARD_1.token)["state"] == "SUSPENDED"
    # There was nothing to reset.
    assert len(events(api, "cardactions.pin.tries.reset")) == 1
    assert len(audited(switch, "reset-pin-tries", 2)) == 2
    switch.done("card", "activate", CARD_1.token)
    assert verified(api, NEW_PIN) == "1809"
    switch.done("card", "reset-pin-tries", CARD_1.token)
    assert switch.show(CARD_1.token)["pin_try_counter"] == 0
    setter = Api(switch, key_with(api, "pin:set"))
    path = f"/cards/{CARD_1.token}/pin/reset_tries"
    setter.refused(403, "forbidden", "POST", path)
    api.refused(404, "no_such_card", "POST", "/cards/nobody/pin/reset_tries")
    move(switch, "TERMINATED")
    api.refused(409, "card_terminated", "POST", path)


def test_a_reset_of_the_count_leaves_the_chip_alone(make_switch):
    """R128: neither time nor a reset unblocks a chip whose PIN is exhausted."""
    switch = make_switch(visa_chip=chip("visa")).start()
    api, card = Api(switch), Chip(PROFILES[0])
    assert verified(api, NEW_PIN, CARD_2) == "1809"
    with switch.connect() as link:
        for _ in range(2):
            assert link.ask(card.request(exhausted=True)).reason == "1872"
            reset_tries(api, CARD_2)
            shown = switch.show(CARD_2.token)
            assert (shown["pin_try_counter"], shown["chip_sync"]) == (0, "in_sync")


# Shown.


@pytest.mark.parametrize("method", METHODS)
def test_a_pin_is_shown_once_and_it_is_known_to_whom(switch, api, method):
    token = control(api, kind="REVEAL_PIN")
    answer = reveal_with(api, token, method)
    assert answer.status == 200 and answer.json == {"pin": CARD_1.pin}
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"
    body = {"control_token": token, "cardholder_verification_method": method}
    api.refused(410, "control_used", "POST", "/pins/reveal", body)
    (told,) = events(api, "cardactions.pin.viewed")
    assert told["cardholder_verification_method"] == method
    assert told["actor"] == {"kind": "api_key", "name": "demo", "address": "127.0.0.1"}
    done, refused = audited(switch, "see PIN", 2)
    assert f'"{method}"' in done and CARD_1.token in done and "done=true" in done
    assert "done=false" in refused and CARD_1.pin not in done


def test_how_the_cardholder_was_verified_is_asked_for(switch, api):
    token = control(api, kind="REVEAL_PIN")
    for wrong in [None, "", "FACE", "login", 1]:
        body = {"control_token": token, "cardholder_verification_method": wrong}
        api.refused(400, "invalid_request", "POST", "/pins/reveal", body)
    api.refused(400, "invalid_request", "POST", "/pins/reveal", {"control_token": token})
    assert reveal_with(api, token).status == 200


def test_each_set_replaces_the_pin_to_see(switch, api):
    assert revealed(api) == CARD_1.pin
    set_pin(api, NEW_PIN)
    assert revealed(api) == NEW_PIN
    switch.done("card", "set-pin", CARD_1.token, stdin="123456789012")
    assert revealed(api) == "123456789012"
    switch.kill()
    switch.start()
    assert revealed(Api(switch)) == "123456789012"


def test_a_pin_of_a_product_that_keeps_none_is_not_shown(switch, api):
    reveal_refused(api, 409, "no_viewable_pin", CARD_4)
    assert events(api, "cardactions.pin.viewed") == []
    (line,) = audited(switch, "see PIN")
    assert "done=false" in line and CARD_4.token in line


@pytest.mark.parametrize("state", [*STATES, "TERMINATED"])
def test_the_state_says_whether_a_pin_is_shown(switch, api, state):
    card = switch.add(Card("states", pan_of("476134", 77), "4071"), activate=False)
    token = control(api, card, "REVEAL_PIN")
    for words in STATES.get(state, [["TERMINATED"]]):
        move(switch, *words, card)
    answer = reveal_with(api, token)
    if state in ("ACTIVE", "SUSPENDED"):
        assert answer.json == {"pin": card.pin}
    else:
        expected = "card_terminated" if state == "TERMINATED" else "pin_not_shown"
        assert (answer.status, answer.json["code"]) == (409, expected)


@pytest.mark.parametrize("reason, is_shown", [
    ("01", True), ("02", True), ("13", True), ("06", False), ("08", False), ("10", False),
    ("11", False), ("12", False), ("23", False), ("31", False),
])
def test_the_reason_of_a_suspension_says_whether_a_pin_is_shown(switch, api, reason, is_shown):
    token = control(api, CARD_1, "REVEAL_PIN")
    form = {"card_token": CARD_1.token, "channel": "FRAUD", "state": "SUSPENDED"}
    # The newest reason counts.
    for code in ("12", "01", reason):
        api.done("POST", "/cardtransitions", form | {"reason_code": code})
    answer = reveal_with(api, token)
    if is_shown:
        assert answer.json == {"pin": CARD_1.pin}
    else:
        assert (answer.status, answer.json["code"]) == (409, "pin_not_shown")


def test_a_product_that_stops_being_viewable_forgets_its_pins(switch, api):
    settings = {"bins": ["476134"], "currency": 978, "pin_viewable": True}
    put = {"put_product": {"token": "views", "settings": settings, "version": None}}
    assert "product" in json.loads(switch.say(json.dumps(put)))
    card = switch.add(Card("views-1", pan_of("476134", 78), "4071", "views"))
    assert revealed(api, card) == card.pin
    for viewable in (False, True):
        put["put_product"]["settings"]["pin_viewable"] = viewable
        assert "product" in json.loads(switch.say(json.dumps(put)))
        # Nor does it come back with the setting.
        reveal_refused(api, 409, "no_viewable_pin", card)
    set_pin(api, NEW_PIN, card)
    assert revealed(api, card) == NEW_PIN


def test_a_configuration_that_stops_being_viewable_forgets_its_pins(switch, api):
    switch.terminate()
    switch.configure()
    switch.start()
    reveal_refused(Api(switch), 409, "no_viewable_pin")
    # Its first look for what nobody may see any more is at the start.
    time.sleep(1)
    switch.terminate()
    switch.configure(debit_chip=VIEWABLE)
    switch.start()
    api = Api(switch)
    reveal_refused(api, 409, "no_viewable_pin")
    set_pin(api, NEW_PIN)
    assert revealed(api) == NEW_PIN


def test_a_card_that_is_removed_takes_its_pin_along(switch, api):
    card = switch.add(Card("again", pan_of("476134", 79), "4071"))
    assert revealed(api, card) == card.pin
    of_old = control(api, card, "REVEAL_PIN")
    set_old = control(api, card)
    switch.done("card", "remove", card.token)
    without = {"token": card.token, "pan": card.pan, "expiration": card.expiry,
               "pan_sequence_number": "01", "card_product_token": card.product, "state": "ACTIVE"}
    switch.done("card", "add", stdin=json.dumps(without))
    reveal_refused(api, 409, "no_viewable_pin", card)
    assert reveal_with(api, of_old).json["code"] == "control_used"
    # The same name of another PAN is another card.
    switch.done("card", "remove", card.token)
    other = Card(card.token, pan_of("476134", 80), "9264")
    switch.add(other)
    assert set_with(api, set_old, NEW_PIN).json["code"] == "control_used"
    assert revealed(api, other) == other.pin


def test_a_key_that_a_pin_to_see_is_under_is_not_retired(own):
    method = visa_pvv("views", "pvk-views", bytes(range(16)))
    own.bring_in_key("zpk-net", bytes.fromhex("ECC25208B6FD2023E9767A5489BC9415"))
    own.bring_in_key("pvk-views", bytes(range(16)), usage="V2")
    table = "[products.pin_verification]"
    text = product("views", method.table).replace(table, f"{VIEWABLE}\n{table}")
    own.configure(master_key_file="master.key", zpk="zpk-net", tables=text)
    own.start()
    own.add(Card("views-1", pan_of("476134", 81), "4071", "views"))
    secret = json.loads(own.done("apikey", "add", "views", "--scope", "pin:view"))["secret"]
    own.done("key", "generate", "own-pek", "--usage", "P0", "--rotate")
    assert revealed(Api(own, key=("views", secret)), Card("views-1", "", "")) == "4071"
    refused = own.command("key", "retire", "own-pek")
    assert refused.returncode == 1 and "1 card" in refused.stderr
    own.done("card", "set-pin", "views-1", stdin="5803")
    own.done("key", "retire", "own-pek")


# Checked.


def test_a_pin_is_checked_outside_a_transaction(switch, api):
    """R195, R85, R86, R81, R80, R78: the same counter and suspension as in a transaction."""
    path, body = "/pins/verify", {"card_token": CARD_1.token}
    right = api.done("POST", path, body | {"pin": CARD_1.pin})
    assert right == {"response": {"code": "0000", "memo": "Approved"}}
    wrong = api.done("POST", path, body | {"PIN": other_pin(CARD_1.pin)})
    assert wrong == {"response": {"code": "1809", "memo": "Invalid Pin"}}
    assert switch.show(CARD_1.token)["pin_try_counter"] == 1
    # One of a transaction counts with it.
    assert code(switch, other_pin(CARD_1.pin)) == "55"
    last = api.done("POST", path, body | {"pin": other_pin(CARD_1.pin)})
    assert last == {"response": {"code": "1872", "memo": "Pin try limit exceeded"}}
    shown = switch.show(CARD_1.token)
    assert (shown["state"], shown["reason_code"]) == ("SUSPENDED", "22")
    assert verified(api, CARD_1.pin) == "1872" and code(switch, CARD_1.pin) == "75"
    (told,) = events(api, "cardtransition.state.suspended")
    assert told["actor"]["kind"] == "api_key" and told["after"]["reason_code"] == "22"
    checks = events(api, "cardactions.pin.verified")
    assert len(checks) == 4 and {it["actor"]["name"] for it in checks} == {"demo"}
    # The suspension and the check that has caused it are of one commit.
    assert told["id"].rsplit("-", 1)[0] == checks[2]["id"].rsplit("-", 1)[0]
    assert switch.metric("pinswitch_pin_suspensions_total") == 1
    lines = audited(switch, "verify PIN", 4)
    assert [line.split('code="')[1][:4] for line in lines] == ["0000", "1809", "1872", "1872"]
    audited(switch, "suspended for PIN tries")


def test_a_right_pin_starts_the_counter_anew(switch, api):
    pins = [other_pin(CARD_1.pin)] * 2 + [CARD_1.pin] + [other_pin(CARD_1.pin)] * 2
    assert [verified(api, pin) for pin in pins] == ["1809", "1809", "0000", "1809", "1809"]
    assert code(switch, CARD_1.pin) == "00"
    assert switch.show(CARD_1.token)["pin_try_counter"] == 0


def test_without_a_limit_a_card_is_never_suspended(switch, api):
    """R79: no limit."""
    assert {verified(api, other_pin(CARD_4.pin), CARD_4) for _ in range(12)} == {"1809"}
    assert verified(api, CARD_4.pin, CARD_4) == "0000"


def test_the_order_of_checks_is_that_of_a_transaction(switch, api):
    """R82, R97, R98: what the state says comes before the PIN."""
    card = Card("order", pan_of("476134", 90), "4071")
    switch.add(card, activate=False)
    assert verified(api, card.pin, card) == verified(api, OTHER_PIN, card) == "1025"
    move(switch, "ACTIVE", card)
    assert verified(api, card.pin, card) == "0000"
    for state in ("LIMITED", "SUSPENDED"):
        move(switch, state, card)
        assert verified(api, OTHER_PIN, card) == "1004"
    move(switch, "ACTIVE", card)
    assert switch.show(card.token)["pin_try_counter"] == 0
    suspend_by_tries(switch, api, card)
    assert verified(api, card.pin, card) == "1872"
    move(switch, "TERMINATED", card)
    assert verified(api, card.pin, card) == "1004"
    over = switch.add(Card("over", pan_of("476134", 91), "4071", expiry="2001"))
    assert verified(api, over.pin, over) == "1001"
    without = {"token": "no-pin", "pan": pan_of("476134", 92), "expiration": "2912",
               "pan_sequence_number": "01", "card_product_token": "demo-debit", "state": "ACTIVE"}
    switch.done("card", "add", stdin=json.dumps(without))
    assert verified(api, "4071", Card("no-pin", "", "")) == "1012"


def test_what_cannot_be_checked_counts_nothing(switch, api):
    path = "/pins/verify"
    api.refused(404, "no_such_card", "POST", path, {"card_token": "nobody", "pin": "4071"})
    for wrong in ["407", "40711234567890", "abcd"]:
        api.refused(400, "invalid_field", "POST", path,
                    {"card_token": CARD_1.token, "pin": wrong})
    api.refused(400, "invalid_request", "POST", path, {"card_token": CARD_1.token})
    assert switch.show(CARD_1.token)["pin_try_counter"] == 0
    # The refusals are in the audit too.
    lines = audited(switch, "verify PIN", 4)
    assert all("done=false" in line for line in lines)


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_a_check_that_was_answered_is_counted_whatever_comes(switch, api, tries):
    """R98: neither a crash nor a start gives a try back."""
    for _ in range(tries):
        said = verified(api, other_pin(CARD_1.pin))
    switch.kill()
    switch.start()
    shown = switch.show(CARD_1.token)
    assert shown["pin_try_counter"] == tries
    assert (said, shown["state"]) == (("1872", "SUSPENDED") if tries == 3 else ("1809", "ACTIVE"))


def test_checks_and_transactions_side_by_side_get_one_limit_together(switch):
    for number in range(5):
        card = switch.add(Card(f"race-{number}", pan_of("476134", 100 + number), "4071"))
        start = threading.Barrier(6)

        def by_call(client, card=card, start=start):
            start.wait()
            return verified(client, other_pin(card.pin), card)

        def by_link(_, card=card, start=start):
            with switch.connect() as link:
                start.wait()
                answer = link.ask(authorization(card, other_pin(card.pin)))
            return {"55": "1809", "75": "1872"}[answer.code]

        with ThreadPoolExecutor(6) as threads:
            said = [threads.submit(by_call, Api(switch)) for _ in range(3)]
            said += [threads.submit(by_link, None) for _ in range(3)]
            codes = sorted(it.result() for it in said)
        assert codes == ["1809"] * 2 + ["1872"] * 4


# Who may, and how often.


def key_with(api, *scopes):
    name = "-".join(scopes).replace(":", ".")
    made = api.done("POST", "/apikeys", {"token": name, "scopes": list(scopes)})
    return name, made["secret"]


def test_each_call_has_its_scope(switch, api):
    setter, viewer = (Api(switch, key_with(api, it)) for it in ("pin:set", "pin:view"))
    reveal = control(viewer, kind="REVEAL_PIN")
    token = control(setter)
    path = "/pins/controltoken"
    setter.refused(403, "forbidden", "POST", path,
                   {"card_token": CARD_1.token, "controltoken_type": "REVEAL_PIN"})
    viewer.refused(403, "forbidden", "POST", path, {"card_token": CARD_1.token})
    viewer.refused(403, "forbidden", "PUT", "/pins", {"control_token": token, "pin": NEW_PIN})
    viewer.refused(403, "forbidden", "POST", "/pins/verify",
                   {"card_token": CARD_1.token, "pin": CARD_1.pin})
    viewer.refused(403, "forbidden", "POST", f"/cards/{CARD_1.token}/pin/unblock")
    body = {"control_token": reveal, "cardholder_verification_method": "OTP"}
    setter.refused(403, "forbidden", "POST", "/pins/reveal", body)
    audited(switch, "scope missing", 6)
    assert set_with(setter, token, NEW_PIN).status == 204
    assert reveal_with(viewer, reveal).json == {"pin": NEW_PIN}
    nobody = Api(switch, key=None)
    assert nobody.put("/pins", {"control_token": token, "pin": NEW_PIN}).status == 401


def test_pin_calls_of_one_card_are_limited(make_switch):
    switch = make_switch(limits="api_pin_calls_per_card_per_minute = 5").start()
    api = Api(switch)
    token = control(api)
    for _ in range(4):
        assert verified(api, CARD_1.pin) == "0000"
    for method, path, body in [
        ("POST", "/pins/verify", {"card_token": CARD_1.token, "pin": CARD_1.pin}),
        ("POST", "/pins/controltoken", {"card_token": CARD_1.token}),
        ("PUT", "/pins", {"control_token": token, "pin": NEW_PIN}),
    ]:
        answer = api.call(method, path, body)
        assert answer.status == 429 and answer.json["code"] == "too_many_pin_calls", answer
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
    # Other cards go on, and a token that is none is never told so.
    assert verified(api, CARD_4.pin, CARD_4) == "0000"
    for _ in range(10):
        body = {"control_token": "x" * 36, "pin": NEW_PIN}
        api.refused(403, "control_invalid", "PUT", "/pins", body)
        api.refused(404, "no_such_card", "POST", "/pins/verify",
                    {"card_token": "nobody", "pin": NEW_PIN})
    lines = audited(switch, "verify PIN", 16)
    assert sum("too many calls" in line for line in lines) == 1


def test_no_pin_is_in_a_log_or_in_the_data(switch, api):
    pins = ["739152846037", "918273645192"]
    set_pin(api, pins[0])
    assert verified(api, pins[0]) == "0000" and verified(api, pins[1]) == "1809"
    assert revealed(api) == pins[0]
    api.refused(400, "invalid_request", "PUT", "/pins", {"control_token": "x", "pin": int(pins[1])})
    api.refused(400, "invalid_request", "PUT", "/pins", {"control_token": "x", pins[1]: "1"})
    text = switch.log() + json.dumps(events(api)) + switch.get("/metrics")[1]
    files = [path.read_bytes() for path in switch.data.rglob("*") if path.is_file()]
    for pin in pins:
        assert pin not in text and not any(pin.encode() in data for data in files)


# A card that was reissued.


def test_a_plastic_is_a_card_and_the_pin_is_of_both(switch, api):
    """R93: scenario A: the reissue sets the counter to zero, then the cardholder chooses a PIN."""
    api.done("POST", "/cardproducts", {
        "name": "Reissues", "start_date": "2026-01-01", "token": "reissues", "active": True,
        "bins": ["476136"], "currency": "978", "pin_viewable": True,
    })
    user = api.done("POST", "/users", {})["token"]
    form = {"card_product_token": "reissues", "user_token": user}
    old = Card(api.done("POST", "/cards", form)["token"], "", "")
    move(switch, "ACTIVE", old)
    set_pin(api, NEW_PIN, old)
    assert [verified(api, OTHER_PIN, old) for _ in range(3)] == ["1809", "1809", "1872"]
    form["reissue_pan_from_card_token"] = old.token
    new = Card(api.done("POST", "/cards", form)["token"], "", "")
    # Neither is in use: the one is suspended, and the other not active yet.
    assert verified(api, NEW_PIN, old) == "1872" and verified(api, NEW_PIN, new) == "1025"
    assert switch.show(new.token)["pin_try_counter"] == 0
    of_old, of_new = control(api, old), control(api, new)
    move(switch, "ACTIVE", new)
    body = {"control_token": of_old, "pin": THIRD_PIN}
    api.refused(409, "card_terminated", "PUT", "/pins", body)
    assert set_with(api, of_new, THIRD_PIN).status == 204
    assert verified(api, THIRD_PIN, new) == "0000" and verified(api, THIRD_PIN, old) == "1004"
    assert revealed(api, new) == THIRD_PIN
    assert events(api, "cardactions.pin.changed")[-1]["card_token"] == new.token
