"""Cards, plastics, their states and their transactions, by the HTTP API."""

import itertools
import json
import re

import pytest
from api_client import Api
from messages import CARD_1, Card, authorization, pan_of, reversal
from process import of_card
from test_limits import wait_until

_numbers = itertools.count(1)


@pytest.fixture(name="api")
def shared_api(shared):
    return Api(shared)


# More than one call reads: eight parts of a megabyte each.
FOREIGN = 30_000


def fresh(prefix):
    return f"{prefix}-{next(_numbers)}"


def user(api):
    token = fresh("holder")
    api.done("POST", "/users", {"token": token, "first_name": "Ada"})
    return token


def issue(api, **more):
    """A card of a new cardholder."""
    form = {"card_product_token": "demo-debit", "token": fresh("card")} | more
    form.setdefault("user_token", user(api))
    return api.done("POST", "/cards", form)


def move(api, card, state, **more):
    form = {"card_token": card, "state": state, "channel": "API"} | more
    return api.done("POST", "/cardtransitions", form)


def luhn(pan):
    digits = [int(digit) for digit in reversed(pan)]
    return sum(digits[::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0


def test_a_card_is_issued_shown_and_used(shared, api):
    """R73, R74: a card without a PIN yet, and its first use."""
    holder = user(api)
    form = {"card_product_token": "demo-debit", "user_token": holder, "token": fresh("card"),
            "metadata": {"colour": "green"}, "expedite": True}
    answer = api.post("/cards", form)
    assert answer.status == 201
    card = answer.json
    assert card["state"] == "UNACTIVATED" and card["fulfillment_status"] == "ISSUED"
    assert card["user_token"] == holder and card["metadata"] == {"colour": "green"}
    assert re.fullmatch(r"476134______\d{4}|476135______\d{4}", card["pan"])
    assert re.fullmatch(r"\d{20}", card["barcode"]) and card["pin_is_set"] is False
    month, year = card["expiration"][:2], card["expiration"][2:]
    assert card["expiration_time"].startswith(f"20{year}-{month}-")
    assert card["expiration_time"].endswith("T23:59:59.000Z")
    # The same again is the same, anything else is not.
    assert api.post("/cards", form).json == card
    api.refused(409, "token_taken", "POST", "/cards", form | {"expedite": False})
    assert api.done("GET", f"/cards/{card['token']}") == card
    assert api.done("GET", f"/v3/cards/{card['token']}?fields=token") == {"token": card["token"]}

    pan = api.done("GET", f"/cards/{card['token']}/showpan")["pan"]
    assert re.fullmatch(r"\d{16}", pan) and luhn(pan) and pan.endswith(card["last_four"])
    found = api.done("POST", "/cards/getbypan", {"pan": pan})
    assert found["card_token"] == card["token"] and found["user_token"] == holder
    named = {"pan": pan, "expiration": card["expiration"]}
    assert api.done("POST", "/cards/getbypan", named) == found
    named["expiration"] = "1299"
    api.refused(404, "no_such_card", "POST", "/cards/getbypan", named)
    named["expiration"] = "1399"
    api.refused(400, "invalid_field", "POST", "/cards/getbypan", named)
    assert pan not in shared.log()
    listed = api.done("GET", f"/cards?last_four={card['last_four']}&count=100")
    assert card["token"] in [one["token"] for one in listed["data"]]

    used = Card(card["token"], pan, "2580", expiry=f"{year}{month}")
    with shared.connect() as link:
        assert link.ask(authorization(used)).code == "78"
        assert move(api, card["token"], "ACTIVE")["type"] == "state.activated"
        # It has no PIN yet.
        assert link.ask(authorization(used, used.pin)).code == "70"
        api.done("PUT", "/pins", {"control_token": control(api, card["token"]), "pin": "9246"})
        assert link.ask(authorization(used, "9246")).code == "00"
    listed = api.done("GET", f"/cards/{card['token']}/transactions?state=ALL")
    assert [one["response"]["code"] for one in listed["data"]] == ["0000", "1012", "1025"]
    newest = listed["data"][0]
    assert newest["card_token"] == card["token"] and newest["user_token"] == holder
    assert newest["state"] == "PENDING" and newest["currency_code"] == "978"
    assert api.done("GET", f"/transactions/{newest['token']}") == newest
    only = api.done("GET", f"/transactions?user_token={holder}")
    assert [one["token"] for one in only["data"]] == [newest["token"]]


def control(api, token, kind="SET_PIN"):
    form = {"card_token": token, "controltoken_type": kind}
    return api.done("POST", "/pins/controltoken", form)["control_token"]


def test_a_given_pan_is_taken_over_once(api):
    pan = pan_of("476135", 77_001)
    card = issue(api, pan=pan, expiration="0931")
    assert card["last_four"] == pan[-4:] and card["expiration"] == "0931"
    again = {"card_product_token": "demo-debit", "user_token": card["user_token"], "pan": pan}
    api.refused(409, "pan_taken", "POST", "/cards", again)
    other = pan[:-1] + str((int(pan[-1]) + 1) % 10)
    for wrong in [other, "4761340", "49927398716" + "00000", int(pan)]:
        answer = api.post("/cards", again | {"pan": wrong})
        assert answer.status == 400 and str(wrong) not in answer.body.decode()


def test_a_key_without_the_scope_sees_no_pan(shared, api):
    card = issue(api)
    key = api.done("POST", "/apikeys", {"token": fresh("key"), "scopes": ["cards:read",
                                                                          "cards:write"]})
    reader = Api(shared, key=(key["token"], key["secret"]))
    assert reader.done("GET", f"/cards/{card['token']}")["pan"] == card["pan"]
    reader.refused(403, "forbidden", "GET", f"/cards/{card['token']}/showpan")
    form = {"card_product_token": "demo-debit", "user_token": card["user_token"]}
    reader.refused(403, "forbidden", "POST", "/cards?show_pan=true", form)
    assert "_" not in api.done("POST", "/cards?show_pan=true", form)["pan"]


@pytest.mark.parametrize("change, status, code, pointer", [
    ({"card_product_token": "nothing"}, 404, "no_such_product", None),
    ({"user_token": "nobody"}, 404, "no_such_user", None),
    ({"pin_status": "S"}, 400, "invalid_field", "/pin_status"),
    ({"pin_status": "X"}, 400, "invalid_request", "/pin_status"),
    ({"token": "a b"}, 400, "invalid_request", "/token"),
    ({"expiration": "1320"}, 400, "invalid_field", "/expiration"),
    ({"expiration": "0120"}, 400, "invalid_field", "/expiration"),
    ({"expiration_offset": {"unit": "YEARS", "value": 200}}, 400, "invalid_field",
     "/expiration_offset"),
    ({"colour": "red"}, 400, "invalid_request", "/colour"),
    ({"4761340000000019": "red"}, 400, "invalid_request", ""),
    ({"reissue_pan_from_card_token": "nothing"}, 404, "no_such_card", None),
])
def test_a_card_that_cannot_be_issued(api, change, status, code, pointer):
    form = {"card_product_token": "demo-debit", "user_token": user(api)} | change
    problem = api.refused(status, code, "POST", "/cards", form)
    found = [error["pointer"] for error in problem.get("errors", [])]
    assert found == ([] if pointer is None else [pointer])


def test_a_card_changes_where_nobody_else_has_changed_it(api):
    card = issue(api)
    path = f"/cards/{card['token']}"
    tag = api.get(path).headers["ETag"]
    changed = api.put(path, {"metadata": {"a": "1"}}, If_Match=tag)
    assert changed.status == 200 and changed.json["metadata"] == {"a": "1"}
    assert changed.headers["ETag"] != tag
    refused = api.call("PUT", path, {"metadata": {"a": "2"}}, If_Match=tag)
    assert refused.status == 412 and refused.json["code"] == "version_changed"
    # Another cardholder.
    other = user(api)
    assert api.done("PATCH", path, {"user_token": other})["user_token"] == other
    tokens = lambda of: [one["token"] for one in api.done("GET", f"/cards/user/{of}")["data"]]
    assert tokens(other) == [card["token"]] and tokens(card["user_token"]) == []
    api.refused(404, "no_such_user", "PATCH", path, {"user_token": "nobody"})
    api.refused(400, "invalid_field", "PUT", path, {"token": "another"})


def test_pin_status_goes_one_way(api):
    """R8, R11: W, then D or, with a PIN that is set, S."""
    card = issue(api, pin_status="W")
    path = f"/cards/{card['token']}"
    api.done("PUT", "/pins", {"control_token": control(api, card["token"]), "pin": "9246"})
    shown = api.done("GET", path)
    assert shown["pin_status"] == "S" and shown["pin_is_set"] is True
    api.refused(409, "pin_status_not_allowed", "PATCH", path, {"pin_status": "D"})
    drawn = f"/cards/{issue(api, pinStatus='W')['token']}"
    assert api.done("PATCH", drawn, {"pinStatus": "D"})["pin_status"] == "D"
    api.refused(409, "pin_status_not_allowed", "PATCH", drawn, {"pin_status": "W"})
    api.refused(400, "invalid_field", "PATCH", path, {"pin_status": "S"})
    without = f"/cards/{issue(api)['token']}"
    assert "pin_status" not in api.done("GET", without)
    api.refused(409, "pin_status_not_allowed", "PATCH", without, {"pin_status": "W"})


def test_a_reissued_plastic_ends_the_one_before_when_it_is_activated(shared, api):
    """R93, R98: one PAN, one PIN and one counter for all of its plastics."""
    source = issue(api)
    pan = api.done("GET", f"/cards/{source['token']}/showpan")["pan"]
    move(api, source["token"], "ACTIVE")
    api.done("PUT", "/pins", {"control_token": control(api, source["token"]), "pin": "9246"})
    renewed = issue(api, user_token=source["user_token"],
                    reissue_pan_from_card_token=source["token"], expiration="0132")
    assert renewed["pan"] == source["pan"] and renewed["pan_sequence_number"] == "02"
    assert renewed["state"] == "UNACTIVATED" and renewed["pin_is_set"] is True
    old = Card(source["token"], pan, "9246", expiry=source["expiration"][2:]
               + source["expiration"][:2])
    new = Card(renewed["token"], pan, "9246", expiry="3201", sequence="02")
    with shared.connect() as link:
        assert link.ask(authorization(old, old.pin)).code == "00"
        assert link.ask(authorization(new, new.pin)).code == "78"
        move(api, renewed["token"], "ACTIVE")
        assert link.ask(authorization(new, new.pin)).code == "00"
        assert link.ask(authorization(old, old.pin)).code == "62"
    assert api.done("GET", f"/cards/{source['token']}")["state"] == "TERMINATED"
    kinds = [one["type"] for one in
             api.done("GET", f"/cardtransitions/card/{source['token']}")["data"]]
    assert kinds == ["state.terminated", "state.activated", "fulfillment.issued"]
    listed = api.done("GET", f"/cards/user/{source['user_token']}")["data"]
    assert {one["token"] for one in listed} == {source["token"], renewed["token"]}
    # The token of a plastic is no other card's.
    again = {"card_product_token": "demo-debit", "user_token": source["user_token"],
             "token": renewed["token"]}
    api.refused(409, "token_taken", "POST", "/cards", again)


def test_a_lost_plastic_ends_at_once_and_a_pin_that_is_not_kept_with_the_activation(shared, api):
    source = issue(api)
    move(api, source["token"], "ACTIVE")
    api.done("PUT", "/pins", {"control_token": control(api, source["token"]), "pin": "9246"})
    text = {"text": {"name_line_1": {"value": "ADA LOVELACE"}}}
    renewed = issue(api, user_token=source["user_token"], copy_pin_from_source_card=False,
                    reissue_pan_from_card_token=source["token"],
                    fulfillment={"card_personalization": text,
                                 "card_fulfillment_reason": "LOST_STOLEN"})
    ended = api.done("GET", f"/cards/{source['token']}")
    assert (ended["state"], ended["reason_code"]) == ("TERMINATED", "10")
    assert renewed["pin_is_set"] is True
    move(api, renewed["token"], "ACTIVE")
    assert api.done("GET", f"/cards/{renewed['token']}")["pin_is_set"] is False


def test_states_are_those_of_the_table(api):
    """R90, R91, R92: what lifts a suspension, and what is final."""
    card = issue(api)
    token = card["token"]
    form = {"card_token": token, "channel": "API", "token": fresh("move")}
    api.refused(409, "transition_not_allowed", "POST", "/cardtransitions",
                form | {"state": "SUSPENDED"})
    first = api.done("POST", "/cardtransitions", form | {"state": "ACTIVE"})
    assert first["token"] == form["token"] and first["reason_code"] == "00"
    # The same again is the same; another body is not.
    assert api.done("POST", "/cardtransitions", form | {"state": "ACTIVE"}) == first
    api.refused(409, "token_taken", "POST", "/cardtransitions", form | {"state": "SUSPENDED"})
    assert api.done("GET", f"/cardtransitions/{form['token']}") == first
    moved = move(api, token, "SUSPENDED", channel="FRAUD", reason_code="08",
                 reason="called 0800 123")
    assert moved["reason"] == "called **** ***" and moved["type"] == "state.suspended"
    assert api.done("GET", f"/cardtransitions/{moved['token']}") == moved
    for refused, status, code in [
        ({"state": "ACTIVE", "channel": "SYSTEM"}, 409, "transition_not_allowed"),
        ({"state": "ACTIVE", "reason_code": "22"}, 400, "reason_code_not_allowed"),
        ({"state": "ACTIVE", "reason_code": "33"}, 400, "invalid_field"),
        ({"state": "UNACTIVATED"}, 400, "invalid_request"),
        ({"state": "ACTIVE", "reason": "x" * 256}, 400, "invalid_field"),
    ]:
        api.refused(status, code, "POST", "/cardtransitions",
                    {"card_token": token, "channel": "API"} | refused)
    assert move(api, token, "ACTIVE")["type"] == "state.reinstated"
    api.refused(409, "already_active", "POST", "/cardtransitions",
                {"card_token": token, "channel": "API", "state": "ACTIVE"})
    move(api, token, "TERMINATED")
    api.refused(409, "card_terminated", "POST", "/cardtransitions",
                {"card_token": token, "channel": "API", "state": "ACTIVE"})
    kinds = [one["type"] for one in
             api.done("GET", f"/cardtransitions/card/{token}?count=10")["data"]]
    assert kinds == ["state.terminated", "state.reinstated", "state.suspended", "state.activated",
                     "fulfillment.issued"]
    api.refused(404, "no_such_transition", "GET", "/cardtransitions/nothing")


def test_a_suspension_at_the_limit_is_a_transition_that_nobody_asked_for(shared, api):
    """R86, R90, R92: 1872, SUSPENDED with the reason 22, and ACTIVE sets the counter to zero."""
    card = issue(api)
    pan = api.done("GET", f"/cards/{card['token']}/showpan")["pan"]
    move(api, card["token"], "ACTIVE")
    api.done("PUT", "/pins", {"control_token": control(api, card["token"]), "pin": "9246"})
    used = Card(card["token"], pan, "9246", expiry=card["expiration"][2:] + card["expiration"][:2])
    with shared.connect() as link:
        codes = [link.ask(authorization(used, "1111")).code for _ in range(3)]
        assert codes == ["55", "55", "75"]
        newest = api.done("GET", f"/cardtransitions/card/{card['token']}?count=1")["data"][0]
        assert (newest["channel"], newest["reason_code"]) == ("SYSTEM", "22")
        assert newest["reason"] == "Pin Retry Limit Reached"
        shown = api.done("GET", f"/cards/{card['token']}")
        assert (shown["state"], shown["pin_try_counter"]) == ("SUSPENDED", 3)
        move(api, card["token"], "ACTIVE", reason_code="32")
        assert api.done("GET", f"/cards/{card['token']}")["pin_try_counter"] == 0
        assert link.ask(authorization(used, used.pin)).code == "00"


@pytest.mark.parametrize("letter", ["a", "ä", "€", "😀"])
def test_the_longest_reason_is_read_again(make_switch, letter):
    switch = make_switch().start()
    api = Api(switch)
    token = issue(api)["token"]
    longest = letter * (255 // len(letter.encode()))
    moved = move(api, token, "ACTIVE", reason=longest)
    assert moved["reason"] == longest
    api.refused(400, "invalid_field", "POST", "/cardtransitions",
                {"card_token": token, "channel": "API", "state": "LIMITED",
                 "reason": longest + letter})
    switch.kill()
    switch.start()
    listed = Api(switch).done("GET", f"/cardtransitions/card/{token}")["data"]
    assert listed[0] == moved


def test_a_pin_that_is_set_for_the_new_plastic_outlives_its_activation(api):
    """R93: only the PIN of before ends with the activation."""
    source = issue(api)
    move(api, source["token"], "ACTIVE")
    api.done("PUT", "/pins", {"control_token": control(api, source["token"]), "pin": "9246"})
    reissue = {"user_token": source["user_token"], "copy_pin_from_source_card": False,
               "reissue_pan_from_card_token": source["token"], "pin_status": "W"}
    kept = issue(api, **reissue)
    api.done("PUT", "/pins", {"control_token": control(api, kept["token"]), "pin": "7391"})
    move(api, kept["token"], "ACTIVE")
    checked = api.done("POST", "/pins/verify", {"card_token": kept["token"], "pin": "7391"})
    assert checked["response"]["code"] == "0000"
    ended = issue(api, **reissue | {"reissue_pan_from_card_token": kept["token"]})
    move(api, ended["token"], "ACTIVE")
    assert api.done("GET", f"/cards/{ended['token']}")["pin_is_set"] is False
    shown = {"control_token": control(api, ended["token"], "REVEAL_PIN"),
             "cardholder_verification_method": "OTP"}
    api.refused(409, "no_viewable_pin", "POST", "/pins/reveal", shown)


def test_the_token_of_a_plastic_is_taken_at_every_door(shared, api):
    source = issue(api)
    renewed = issue(api, user_token=source["user_token"],
                    reissue_pan_from_card_token=source["token"])
    other = of_card(Card(renewed["token"], pan_of("476135", 77_002), "2580"))
    refused = shared.command("card", "add", stdin=json.dumps(other))
    assert refused.returncode == 1 and "token" in refused.stderr
    assert api.done("GET", f"/cards/{renewed['token']}") == renewed


def test_nothing_of_a_removed_card_is_taken_for_the_next_one(shared, api):
    source = issue(api, metadata={"a": "b"})
    renewed = issue(api, user_token=source["user_token"],
                    reissue_pan_from_card_token=source["token"])
    old = control(api, source["token"])
    # A card is removed by its own token, with all of its plastics.
    assert shared.command("card", "remove", renewed["token"]).returncode == 1
    shared.done("card", "remove", source["token"])
    for token in (source["token"], renewed["token"]):
        api.refused(404, "no_such_card", "GET", f"/cards/{token}")
    told = [event["card_token"] for event in all_events(api)
            if event["type"] == "cardactions.card.removed"]
    assert told[-2:] == [source["token"], renewed["token"]]
    assert api.done("GET", f"/cards/user/{source['user_token']}")["data"] == []
    for token, number in ((source["token"], 77_003), (renewed["token"], 77_004)):
        new = of_card(Card(token, pan_of("476135", number), "2580"))
        shared.done("card", "add", stdin=json.dumps(new))
        shown = api.done("GET", f"/cards/{token}")
        assert shown["user_token"] == "" and "metadata" not in shown
        assert move(api, token, "ACTIVE")["state"] == "ACTIVE"
        assert api.done("GET", f"/cards/{token}")["pin_is_set"] is True
    api.refused(410, "control_used", "PUT", "/pins", {"control_token": old, "pin": "7391"})


def pan_shown(api, card):
    return api.done("GET", f"/cards/{card['token']}/showpan")["pan"]


def with_pin(api, pin="9246", **more):
    """A card in use."""
    card = issue(api, **more)
    move(api, card["token"], "ACTIVE")
    api.done("PUT", "/pins", {"control_token": control(api, card["token"]), "pin": pin})
    return card


def verified(api, card, pin):
    form = {"card_token": card["token"], "pin": pin}
    return api.done("POST", "/pins/verify", form)["response"]["code"]


def state(api, card):
    shown = api.done("GET", f"/cards/{card['token']}")
    return shown["state"], shown["reason_code"]


@pytest.mark.parametrize("asked", [
    lambda source: {"new_pan_from_card_token": source},
    lambda source: {"reissue_pan_from_card_token": source, "generate_new_pan": True},
])
def test_a_card_under_a_new_pan_has_the_pin_and_ends_the_one_before(shared, api, asked):
    """The counter of the source is not carried over, nor its suspension."""
    source = with_pin(api)
    assert [verified(api, source, "1357") for _ in range(3)] == ["1809", "1809", "1872"]
    form = {"card_product_token": "demo-debit", "user_token": source["user_token"],
            "token": fresh("card")} | asked(source["token"])
    new = api.done("POST", "/cards", form)
    assert api.done("POST", "/cards", form) == new
    pan = pan_shown(api, new)
    assert pan != pan_shown(api, source) and luhn(pan) and new["pan_sequence_number"] == "01"
    assert new["new_pan_from_card_token"] == source["token"]
    assert "reissue_pan_from_card_token" not in new
    assert new["state"] == "UNACTIVATED" and new["pin_is_set"] and new["pin_try_counter"] == 0
    assert state(api, source) == ("SUSPENDED", "22")
    move(api, new["token"], "ACTIVE")
    assert state(api, source) == ("TERMINATED", "01")
    wait_until(lambda: any("replaced card ended" in line and f'"{source["token"]}"' in line
                           for line in shared.log().splitlines()), "the audit does not name it")
    kinds = [one["type"] for one in
             api.done("GET", f"/cardtransitions/card/{source['token']}")["data"]]
    assert kinds[:2] == ["state.terminated", "state.suspended"]
    kinds = [one["type"] for one in
             api.done("GET", f"/cardtransitions/card/{new['token']}")["data"]]
    assert kinds == ["state.activated", "fulfillment.issued"]
    used = Card(new["token"], pan, "9246", expiry=new["expiration"][2:] + new["expiration"][:2])
    with shared.connect() as link:
        assert link.ask(authorization(used, "1357")).code == "55"
        assert link.ask(authorization(used, "9246")).code == "00"
    assert pan not in shared.log()


def test_a_lost_card_ends_as_soon_as_one_under_a_new_pan_is_issued(api):
    lost = {"card_personalization": {"text": {"name_line_1": {"value": "ADA LOVELACE"}}},
            "card_fulfillment_reason": "LOST_STOLEN"}
    source = with_pin(api)
    new = issue(api, user_token=source["user_token"], new_pan_from_card_token=source["token"],
                fulfillment=lost, activation_actions={"terminate_reissued_source_card": False})
    assert state(api, source) == ("TERMINATED", "10") and new["pin_is_set"]
    # One that was reported before the call, and has ended: its PIN may still be moved.
    source = with_pin(api)
    move(api, source["token"], "SUSPENDED", reason_code="23")
    first = issue(api, user_token=source["user_token"], new_pan_from_card_token=source["token"])
    assert state(api, source) == ("TERMINATED", "23")
    second = issue(api, user_token=source["user_token"], new_pan_from_card_token=source["token"])
    for new in (first, second):
        move(api, new["token"], "ACTIVE")
        assert verified(api, new, "9246") == "0000"
    assert len({pan_shown(api, one) for one in (source, first, second)}) == 3


@pytest.mark.parametrize("first", [
    lambda source: {"new_pan_from_card_token": source},
    lambda source: {"reissue_pan_from_card_token": source},
])
def test_what_a_card_replaced_that_was_never_used_ends_with_its_successor(api, first):
    source = with_pin(api)
    user = {"user_token": source["user_token"]}
    lost = issue(api, **user, **first(source["token"]))
    second = issue(api, **user, reissue_pan_from_card_token=lost["token"], fulfillment={
        "card_personalization": {"text": {"name_line_1": {"value": "ADA LOVELACE"}}},
        "card_fulfillment_reason": "LOST_STOLEN"})
    assert (state(api, lost)[0], state(api, source)[0]) == ("TERMINATED", "ACTIVE")
    move(api, second["token"], "ACTIVE")
    assert state(api, source) == ("TERMINATED", "01") and state(api, second)[0] == "ACTIVE"


def test_a_pin_that_nobody_may_see_is_not_seen_on_another_card(api):
    products = {}
    for viewable in (True, False):
        products[viewable] = fresh("product")
        api.done("POST", "/cardproducts", {
            "token": products[viewable], "name": "Debit", "start_date": "2026-01-01",
            "bins": ["476134"], "currency": "978", "pin_viewable": viewable,
        })
    source = with_pin(api, card_product_token=products[False])
    new = issue(api, card_product_token=products[True], user_token=source["user_token"],
                new_pan_from_card_token=source["token"])
    move(api, new["token"], "ACTIVE")
    assert verified(api, new, "9246") == "0000"
    shown = {"control_token": control(api, new["token"], "REVEAL_PIN"),
             "cardholder_verification_method": "OTP"}
    api.refused(409, "no_viewable_pin", "POST", "/pins/reveal", shown)


def test_the_call_says_what_becomes_of_pin_and_source_under_a_new_pan(api):
    source = with_pin(api)
    new = issue(api, user_token=source["user_token"], new_pan_from_card_token=source["token"],
                copy_pin_from_source_card=False,
                activation_actions={"terminate_reissued_source_card": False})
    assert new["pin_is_set"] is False
    move(api, new["token"], "ACTIVE")
    assert state(api, source) == ("ACTIVE", "00") and verified(api, new, "9246") == "1012"
    # A card that has no PIN gives none.
    bare = issue(api)
    new = issue(api, user_token=bare["user_token"], new_pan_from_card_token=bare["token"])
    assert new["pin_is_set"] is False


def test_a_new_card_gets_the_pin_of_another_card_of_its_user(shared, api):
    source = with_pin(api)
    other = with_pin(api, pin="8351", user_token=source["user_token"])
    new = issue(api, user_token=source["user_token"],
                translate_pin_from_card_token=source["token"])
    assert new["pin_is_set"] and "new_pan_from_card_token" not in new
    move(api, new["token"], "ACTIVE")
    assert verified(api, new, "9246") == "0000"
    assert state(api, source)[0] == "ACTIVE" and verified(api, source, "9246") == "0000"
    # The card that is replaced is one, and the one whose PIN it gets another.
    new = issue(api, user_token=source["user_token"], new_pan_from_card_token=source["token"],
                translate_pin_from_card_token=other["token"])
    move(api, new["token"], "ACTIVE")
    assert verified(api, new, "8351") == "0000"
    assert (state(api, source)[0], state(api, other)[0]) == ("TERMINATED", "ACTIVE")
    assert (f'token="{new["token"]}" source="{source["token"]}" pin_source="{other["token"]}" '
            "pin_is_set=true") in shared.log()


@pytest.mark.parametrize("viewable", [True, False])
def test_a_pin_of_which_no_block_is_kept_is_not_moved(api, viewable):
    """Of a PIN verification value alone no PIN can be had back; where the PIN can be seen, its block
    is there."""
    product = fresh("pvv")
    api.done("POST", "/cardproducts", {
        "token": product, "name": "PVV", "start_date": "2026-01-01", "bins": ["476134"],
        "currency": "978", "pin_viewable": viewable,
        "pin_verification": {"method": "visa_pvv", "pvk": "demo-pvk", "pvki": 1}})
    source = with_pin(api, card_product_token=product)
    same = issue(api, user_token=source["user_token"], card_product_token=product,
                 new_pan_from_card_token=source["token"])
    other = issue(api, user_token=source["user_token"],
                  translate_pin_from_card_token=source["token"])
    for new in (same, other):
        assert new["pin_is_set"] is viewable
        move(api, new["token"], "ACTIVE")
        assert verified(api, new, "9246") == ("0000" if viewable else "1012")


def test_what_cannot_be_issued_in_place_of_another_card(api):
    source, stranger = with_pin(api), with_pin(api)
    form = {"card_product_token": "demo-debit", "user_token": source["user_token"]}
    token = source["token"]
    for more, status, code in [
        ({"new_pan_from_card_token": token, "reissue_pan_from_card_token": token}, 400,
         "invalid_field"),
        ({"generate_new_pan": True}, 400, "invalid_field"),
        ({"new_pan_from_card_token": token, "generate_new_pan": True}, 400, "invalid_field"),
        ({"reissue_pan_from_card_token": token, "translate_pin_from_card_token": token}, 400,
         "invalid_field"),
        ({"new_pan_from_card_token": stranger["token"]}, 400, "invalid_field"),
        ({"reissue_pan_from_card_token": stranger["token"]}, 400, "invalid_field"),
        ({"translate_pin_from_card_token": stranger["token"]}, 400, "invalid_field"),
        ({"translate_pin_from_card_token": token, "copy_pin_from_source_card": True}, 400,
         "invalid_field"),
        ({"translate_pin_from_card_token": CARD_1.token}, 400, "invalid_field"),
        ({"new_pan_from_card_token": "nothing"}, 404, "no_such_card"),
        ({"translate_pin_from_card_token": "nothing"}, 404, "no_such_card"),
        ({"new_pan_from_card_token": token, "pan": pan_shown(api, source)}, 409, "pan_taken"),
    ]:
        api.refused(status, code, "POST", "/cards", form | more)
    cards = api.done("GET", f"/cards/user/{source['user_token']}")["data"]
    assert [one["token"] for one in cards] == [token] and state(api, source)[0] == "ACTIVE"


def test_a_card_ends_with_the_one_that_replaces_it_after_a_crash_too(make_switch):
    switch = make_switch().start()
    api = Api(switch)
    source = with_pin(api)
    new = issue(api, user_token=source["user_token"], new_pan_from_card_token=source["token"])
    switch.kill()
    api = Api(switch.start())
    move(api, new["token"], "ACTIVE")
    before = [api.done("GET", f"/cards/{one['token']}") for one in (source, new)]
    assert [one["state"] for one in before] == ["TERMINATED", "ACTIVE"]
    switch.kill()
    api = Api(switch.start())
    assert [api.done("GET", f"/cards/{one['token']}") for one in (source, new)] == before
    kinds = [one["type"] for one in
             api.done("GET", f"/cardtransitions/card/{source['token']}")["data"]]
    assert kinds == ["state.terminated", "state.activated", "fulfillment.issued"]


def test_a_card_is_shown_with_its_user_and_its_product(shared, api):
    card = issue(api)
    path, user = f"/cards/{card['token']}", api.done("GET", f"/users/{card['user_token']}")
    product = api.done("GET", "/cardproducts/demo-debit")
    for names, more in [("user", {"user": user}), ("cardproduct", {"card_product": product}),
                        ("cardproduct,user", {"user": user, "card_product": product})]:
        assert api.done("GET", f"{path}?expand={names}") == card | more
        listed = api.done("GET", f"/cards/user/{card['user_token']}?expand={names}")["data"]
        assert listed == [card | more]
        listed = api.done("GET", f"/cards?last_four={card['last_four']}&count=100&expand={names}")
        assert card | more in listed["data"]
    assert api.done("GET", f"{path}?expand=user&fields=user,token") == {
        "token": card["token"], "user": user}
    for wrong in ("", "gpa,", "user,gpa", "User", ",user", "user&expand=user"):
        answer = api.get(f"{path}?expand={wrong}")
        assert answer.status == 400 and answer.json["errors"][0]["pointer"] == "expand", wrong
    # One of the command line has no user.
    assert "user" not in api.done("GET", f"/cards/{CARD_1.token}?expand=user")


def test_the_transactions_of_one_purchase_are_found(shared, api):
    card = with_pin(api)
    pan = pan_shown(api, card)
    used = Card(card["token"], pan, "9246", expiry=card["expiration"][2:] + card["expiration"][:2])
    with shared.connect() as link:
        request = authorization(used, used.pin)
        assert link.ask(request).code == "00"
        assert link.ask(authorization(used, "1357")).code == "55"
        assert link.ask(reversal(request)).code == "00"
    listed = api.done("GET", f"/cards/{card['token']}/transactions?state=ALL")["data"]
    back, wrong, first = listed
    assert [one["type"] for one in listed] == [
        "authorization.reversal", "authorization", "authorization"]
    related = api.done("GET", f"/transactions/{first['token']}/related")
    assert related["data"] == [back] and related["is_more"] is False
    assert api.done("GET", f"/v3/transactions/{back['token']}/related")["data"] == [first]
    assert api.done("GET", f"/transactions/{wrong['token']}/related")["data"] == []
    only = api.done("GET", f"/transactions/{first['token']}/related?type=authorization.clearing")
    assert only["count"] == 0
    for token in ("nothing", "ffffffff-00000000"):
        api.refused(404, "no_such_transaction", "GET", f"/transactions/{token}/related")
    path = f"/transactions/{first['token']}/related?card_token={card['token']}"
    api.refused(400, "invalid_request", "GET", path)


def all_events(api):
    events, after = [], ""
    while True:
        page = api.done("GET", f"/events?count=1000{after}")
        events += page["events"]
        if page["next"] is None:
            return events
        after = f"&after={page['next']}"


def test_the_card_of_a_holder_who_is_not_active_is_not_put_into_use(api):
    holder = fresh("holder")
    api.done("POST", "/users", {"token": holder, "active": False})
    card = issue(api, user_token=holder)
    form = {"card_token": card["token"], "channel": "API", "state": "ACTIVE"}
    api.refused(422, "user_not_active", "POST", "/cardtransitions", form)
    api.done("PUT", f"/users/{holder}", {"active": True})
    assert api.done("POST", "/cardtransitions", form)["state"] == "ACTIVE"
    # Nor by a reset of the count, which lifts a suspension.
    api.done("PUT", "/pins", {"control_token": control(api, card["token"]), "pin": "9246"})
    assert [verified(api, card, "1357") for _ in range(3)] == ["1809", "1809", "1872"]
    api.done("PUT", f"/users/{holder}", {"active": False})
    reset = f"/cards/{card['token']}/pin/reset_tries"
    api.refused(422, "user_not_active", "POST", reset)
    assert state(api, card) == ("SUSPENDED", "22")
    api.done("PUT", f"/users/{holder}", {"active": True})
    assert api.post(reset).status == 204 and state(api, card)[0] == "ACTIVE"


def test_a_holder_who_is_not_active_gets_no_card_in_use(api):
    product, holder = fresh("product"), fresh("holder")
    api.done("POST", "/cardproducts", {
        "token": product, "name": "At once", "start_date": "2026-01-01", "bins": ["476134"],
        "currency": "978", "pin_set_lifts_suspension": True,
        "config": {"card_life_cycle": {"activate_upon_issue": True}}})
    api.done("POST", "/users", {"token": holder, "active": False})
    form = {"card_product_token": product, "user_token": holder}
    api.refused(422, "user_not_active", "POST", "/cards", form)
    api.done("PUT", f"/users/{holder}", {"active": True})
    card = api.done("POST", "/cards", form)
    assert card["state"] == "ACTIVE"

    def set_pin():
        api.done("PUT", "/pins", {"control_token": control(api, card["token"]), "pin": "9246"})

    set_pin()
    assert [verified(api, card, "1357") for _ in range(3)] == ["1809", "1809", "1872"]
    api.done("PUT", f"/users/{holder}", {"active": False})
    set_pin()
    assert state(api, card) == ("SUSPENDED", "22")
    api.done("PUT", f"/users/{holder}", {"active": True})
    set_pin()
    assert state(api, card)[0] == "ACTIVE"


def test_the_plastics_of_a_pan_have_one_holder(api):
    source = with_pin(api)
    other = user(api)
    moved = api.done("PUT", f"/cards/{source['token']}", {"user_token": other})
    assert moved["user_token"] == other
    renewed = issue(api, user_token=other, reissue_pan_from_card_token=source["token"])
    for one in (source, renewed):
        change = {"user_token": user(api)}
        api.refused(400, "invalid_field", "PUT", f"/cards/{one['token']}", change)


def test_transactions_of_a_holder_are_found_among_many_of_others(make_switch):
    """They are read by the cards of the holder, and not looked for among all."""
    switch = make_switch(store="page_scan_mb_max = 1").start()
    api = Api(switch)
    holder, cards = user(api), []
    for number in range(3):
        pan = pan_of("476134", 81_000 + number)
        card = issue(api, user_token=holder, pan=pan, expiration="1231")
        move(api, card["token"], "ACTIVE")
        cards.append(Card(card["token"], pan, "2580", expiry="3112"))
    with switch.connect() as link:
        for _ in range(2):
            for card in cards:
                assert link.ask(authorization(card)).code == "00"
        stranger = [authorization(CARD_1) for _ in range(FOREIGN)]
        for begin in range(0, FOREIGN, 500):
            assert {one.code for one in link.ask_all(stranger[begin:begin + 500])} == {"00"}
        assert link.ask(authorization(cards[1])).code == "00"
    path = f"/transactions?user_token={holder}"
    every = api.done("GET", f"{path}&count=100")
    assert [one["card_token"] for one in every["data"]] == [
        cards[place].token for place in (1, 2, 1, 0, 2, 1, 0)]
    assert not every["is_more"]
    tokens = [one["token"] for one in every["data"]]
    for start in range(len(tokens)):
        part = api.done("GET", f"{path}&count=2&start_index={start}")
        assert [one["token"] for one in part["data"]] == tokens[start:start + 2]
        assert part["is_more"] == (start + 2 < len(tokens))
    part = api.done("GET", f"{path}&count=3")
    part = api.done("GET", f"{path}&count=3&after={part['next']}")
    assert [one["token"] for one in part["data"]] == tokens[3:6]
    only = api.done("GET", f"{path}&card_token={cards[0].token}&count=100")
    assert [one["token"] for one in only["data"]] == [tokens[3], tokens[6]]
    assert api.done("GET", f"{path}&card_token={CARD_1.token}")["count"] == 0


def test_cards_are_there_after_a_crash(make_switch):
    switch = make_switch().start()
    api = Api(switch)
    source = issue(api)
    renewed = issue(api, user_token=source["user_token"],
                    reissue_pan_from_card_token=source["token"])
    moved = move(api, renewed["token"], "ACTIVE", token="first-move")
    before = [api.done("GET", f"/cards/{one['token']}") for one in (source, renewed)]
    switch.kill()
    switch.start()
    api = Api(switch)
    assert [api.done("GET", f"/cards/{one['token']}") for one in (source, renewed)] == before
    assert api.done("GET", "/cardtransitions/first-move") == moved
    assert switch.show(renewed["token"])["state"] == "ACTIVE"


def test_a_card_of_the_command_line_is_a_card_too(shared, api):
    shown = api.done("GET", f"/cards/{CARD_1.token}")
    assert shown["user_token"] == "" and shown["state"] == "ACTIVE"
    assert shown["pan"] == shared.show(CARD_1.token)["pan"]
    changed = api.done("PUT", f"/cards/{CARD_1.token}", {"metadata": {"a": "b"}})
    assert changed["metadata"] == {"a": "b"}
    api.refused(404, "no_such_card", "GET", "/cards/nothing")
