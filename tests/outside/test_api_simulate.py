"""Simulated transactions: the path of those of the links, by HTTP."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from api_client import Api
from messages import CARD_1, CARD_4, Card, authorization, other_pin, pan_of, reversal
from settings import chip, link

AUTHORIZATION, FINANCIAL = "/simulate/authorization", "/simulate/financial"
WITHDRAWAL, BALANCE = "/simulate/financial/withdrawal", "/simulate/financial/balanceinquiry"
REVERSAL, CLEARING = "/simulate/reversal", "/simulate/clearing"
FIRST = [AUTHORIZATION, FINANCIAL, WITHDRAWAL, BALANCE]


@pytest.fixture
def switch(make_switch):
    return make_switch().start()


@pytest.fixture
def api(switch):
    return Api(switch)


def body(card=CARD_1, amount=12.5, **more):
    return {"amount": amount, "card_token": card.token, "mid": "MERCHANT0000001"} | more


def simulate(api, path=AUTHORIZATION, **fields):
    fields = body(**fields)
    if path == BALANCE:
        del fields["amount"]
    answer = api.post(path, fields)
    assert answer.status == 201, answer
    assert answer.json.keys() == {"transaction", "raw_iso8583"}
    return answer.json


def code(answer):
    return answer["transaction"]["response"]["code"]


def follow(api, path, answer, amount=12.5, **more):
    token = answer["transaction"]["token"]
    done = api.post(path, {"original_transaction_token": token, "amount": amount} | more)
    assert done.status == 201, done
    return done.json


def elements(answer, which="request"):
    return answer["raw_iso8583"][which]["elements"]


def over_tcp(switch, pin, card=CARD_1):
    """DE39 of a purchase over a link."""
    with switch.connect() as connection:
        return connection.ask(authorization(card, pin)).code


def test_an_authorization_goes_the_path_of_a_link(switch, api):
    """R205: the answer is the transaction, with code and memo, and the two messages."""
    answer = simulate(api, pin=CARD_1.pin)
    transaction = answer["transaction"]
    assert transaction["response"] == {"code": "0000", "memo": "Approved"}
    assert (transaction["type"], transaction["state"]) == ("authorization", "PENDING")
    assert transaction["network"] == "simulation" and transaction["pos"]["pin_present"] is True
    assert transaction["card_token"] == CARD_1.token and transaction["amount"] == 12.5
    assert transaction["currency_code"] == "978" and len(transaction["approval_code"]) == 6
    assert any("PIN" in step for step in transaction["trail"])
    assert api.get(f"/transactions/{transaction['token']}").json == transaction
    raw = answer["raw_iso8583"]
    assert (raw["request"]["mti"], raw["response"]["mti"]) == ("0100", "0110")
    sent, got = elements(answer), elements(answer, "response")
    assert sent["2"] == "476134******0019" and sent["4"] == "000000001250"
    assert sent["3"] == "000000" and sent["22"] == "901" and sent["49"] == "978"
    assert got["39"] == "00" and got["11"] == sent["11"] and "52" not in sent


def test_wrong_pins_are_counted_together_with_those_of_links(switch, api):
    """R85, R86, R205: 1809, 1809, 1872, whichever way they come in."""
    wrong = other_pin(CARD_1.pin)
    assert code(simulate(api, pin=wrong)) == "1809"
    assert switch.show(CARD_1.token)["pin_try_counter"] == 1
    assert over_tcp(switch, wrong) == "55"
    last = simulate(api, path=WITHDRAWAL, pin=wrong)
    assert last["transaction"]["response"] == {"code": "1872", "memo": "Pin try limit exceeded"}
    assert last["transaction"]["state"] == "DECLINED"
    assert switch.show(CARD_1.token)["state"] == "SUSPENDED"
    # A right one does not help any more, on either way.
    assert code(simulate(api, pin=CARD_1.pin)) == "1872"
    assert over_tcp(switch, CARD_1.pin) == "75"


def test_the_ways_in_share_one_limit_when_they_race(switch, api):
    """R81, R85, R86: two wrong PINs are told as such, and the card is suspended once."""
    wrong, clients = other_pin(CARD_1.pin), [Api(switch) for _ in range(4)]

    def try_pins(client):
        if client is None:
            with switch.connect() as connection:
                requests = [authorization(CARD_1, wrong) for _ in range(5)]
                codes = [connection.ask(request).code for request in requests]
            return [{"55": "1809", "75": "1872"}[code] for code in codes]
        return [code(simulate(client, pin=wrong)) for _ in range(5)]

    with ThreadPoolExecutor(8) as threads:
        codes = sum(threads.map(try_pins, [*clients, *[None] * 4]), [])
    assert sorted(codes) == ["1809"] * 2 + ["1872"] * 38
    shown = switch.show(CARD_1.token)
    assert (shown["state"], shown["pin_try_counter"]) == ("SUSPENDED", 3)
    assert len(told(api, "cardtransition.state.suspended")) == 1


def test_a_right_pin_sets_the_counter_back(switch, api):
    wrong = other_pin(CARD_1.pin)
    assert [code(simulate(api, pin=wrong)) for _ in range(2)] == ["1809", "1809"]
    assert over_tcp(switch, CARD_1.pin) == "00"
    assert [code(simulate(api, pin=wrong)) for _ in range(2)] == ["1809", "1809"]
    assert code(simulate(api, pin=CARD_1.pin)) == "0000"
    assert switch.show(CARD_1.token)["pin_try_counter"] == 0


def test_tries_outlive_a_kill(switch, api):
    wrong = other_pin(CARD_1.pin)
    assert code(simulate(api, pin=wrong)) == "1809"
    switch.kill()
    switch.start()
    api = Api(switch)
    assert [code(simulate(api, pin=wrong)) for _ in range(2)] == ["1809", "1872"]


@pytest.mark.parametrize("path", FIRST)
def test_the_kinds_of_transactions(api, path):
    mti, digits, kind, state = {
        AUTHORIZATION: ("0100", "00", "authorization", "PENDING"),
        FINANCIAL: ("0200", "00", "pindebit", "COMPLETION"),
        WITHDRAWAL: ("0200", "01", "pindebit.atm.withdrawal", "COMPLETION"),
        BALANCE: ("0200", "30", "pindebit", "COMPLETION"),
    }[path]
    answer = simulate(api, path, pin=CARD_1.pin)
    assert code(answer) == "0000"
    assert answer["raw_iso8583"]["request"]["mti"] == mti
    assert elements(answer)["3"] == digits + "0000"
    transaction = answer["transaction"]
    assert (transaction["type"], transaction["state"]) == (kind, state)
    assert code(simulate(api, path, pin=other_pin(CARD_1.pin))) == "1809"


def test_cash_needs_a_pin_and_goods_do_not(api):
    assert code(simulate(api)) == "0000"
    declined = simulate(api, WITHDRAWAL)
    assert declined["transaction"]["state"] == "DECLINED"
    assert declined["transaction"]["pos"]["pin_present"] is False
    # A bank's counter is cash too.
    assert code(simulate(api, card_acceptor={"mcc": "6010"})) == code(declined)


def test_what_a_merchant_says_is_in_the_message(api):
    acceptor = {"name": "A shop", "city": "Riga", "state": "", "country": "LV", "mcc": "5999",
                "address": "A street 1", "zip": "1001"}
    options = {"card_present": False, "cvv": "123", "billing_address": {"zip": "1"}}
    answer = simulate(api, is_pre_auth=True, cash_back_amount=2.5, card_acceptor=acceptor,
                      card_options=options, network_fees=[], network_metadata={},
                      transaction_options={})
    sent = elements(answer)
    assert sent["18"] == "5999" and sent["22"] == "010" and sent["25"] == "06"
    assert sent["3"] == "090000" and sent["54"] == "[20 characters]"
    assert sent["43"].strip('"').split() == ["A", "shop", "Riga", "LV"]
    assert sent["42"] == "MERCHANT0000001"
    assert simulate(api, path=WITHDRAWAL, account_type="checking")["transaction"][
        "processing_code"] == "012000"


def test_the_expiration_is_compared(api):
    assert code(simulate(api, card_options={"expiration": "1229"})) == "0000"
    assert code(simulate(api, card_options={"expiration": "1129"})) != "0000"


def test_a_reversal_names_its_original(switch, api):
    answer = simulate(api, pin=CARD_1.pin)
    taken_back = follow(api, REVERSAL, answer)
    sent, first = elements(taken_back), elements(answer)
    assert taken_back["transaction"]["type"] == "authorization.reversal"
    assert code(taken_back) == "0000" and taken_back["raw_iso8583"]["request"]["mti"] == "0400"
    original = "0100" + first["11"] + first["7"] + first["32"].zfill(11) + "0" * 11
    assert sent["90"] == original and "95" not in sent


def test_a_part_is_reversed_by_the_amount_that_is_left(api):
    answer = simulate(api)
    part = follow(api, REVERSAL, answer, amount="2.50", is_advice=True)
    assert part["raw_iso8583"]["request"]["mti"] == "0420"
    sent = elements(part)
    assert sent["4"] == "000000001250" and sent["95"][:12] == "000000001000"
    token = answer["transaction"]["token"]
    more = {"original_transaction_token": token, "amount": 12.51}
    api.refused(400, "invalid_field", "POST", REVERSAL, more)
    of_reversal = {"original_transaction_token": part["transaction"]["token"], "amount": 1}
    api.refused(400, "invalid_field", "POST", REVERSAL, of_reversal)


def test_a_reversal_gives_no_pin_try_back(switch, api):
    wrong = other_pin(CARD_1.pin)
    first = simulate(api, pin=wrong)
    follow(api, REVERSAL, first)
    assert switch.show(CARD_1.token)["pin_try_counter"] == 1


def test_what_belongs_to_one_purchase_is_found(api):
    first, other = simulate(api), simulate(api)
    following = [follow(api, path, first, amount=5)
                 for path in ("/simulate/authorization/advice", CLEARING, REVERSAL)]
    first, other, *following = [one["transaction"]["token"] for one in (first, other, *following)]
    listed = api.done("GET", f"/transactions/{first}/related")
    assert [one["token"] for one in listed["data"]] == following[::-1]
    listed = api.done("GET", f"/transactions/{first}/related?count=2&fields=token")
    assert listed["is_more"] and listed["data"] == [{"token": it} for it in following[:0:-1]]
    listed = api.done("GET", f"/transactions/{following[1]}/related")["data"]
    assert [one["token"] for one in listed] == [following[2], following[0], first]
    assert api.done("GET", f"/transactions/{other}/related")["data"] == []


@pytest.mark.parametrize("path", ["/simulate/authorization/advice", CLEARING,
                                  "/simulate/financial/advice"])
def test_what_follows_is_acknowledged(api, path):
    answer = simulate(api)
    told = follow(api, path, answer, amount=20)
    assert code(told) == "0000" and told["transaction"]["state"] == "COMPLETION"
    mti = "0120" if path.startswith(AUTHORIZATION) else "0220"
    assert told["raw_iso8583"]["request"]["mti"] == mti
    assert elements(told)["4"] == "000000002000"
    assert elements(told)["37"] == elements(answer)["37"]


def test_a_clearing_may_be_a_refund(api):
    cleared = follow(api, CLEARING, simulate(api), is_refund=True, force_post=True, mid="OTHER")
    assert elements(cleared)["3"] == "200000" and elements(cleared)["42"].strip('" ') == "OTHER"


def test_amounts_are_decimal_text(api):
    for text, minor in [("10", 1_000), ("10.1", 1_010), ("0.29", 29), ("1.13", 113), ("0", 0),
                        ("9999999999.99", 999_999_999_999), ('"2.05"', 205)]:
        sent = body()
        del sent["amount"]
        raw = json.dumps(sent)[:-1] + f', "amount": {text}}}'
        answer = api.post(AUTHORIZATION, raw.encode())
        assert answer.status == 201, (text, answer)
        assert elements(answer.json)["4"] == f"{minor:012}", text
    for text in ["-1", "1.001", "1e2", "10000000000.00", '"x"', "null", "[]", "true", '"1,5"']:
        sent = body()
        del sent["amount"]
        raw = json.dumps(sent)[:-1] + f', "amount": {text}}}'
        answer = api.post(AUTHORIZATION, raw.encode())
        assert answer.status == 400 and answer.json["code"] == "invalid_field", (text, answer)


BAD = {
    "a webhook": {"webhook": {"endpoint": "https://127.0.0.1/"}},
    "an unknown field": {"more": 1},
    "a PIN that is a number": {"pin": 4071},
    "a merchant that is no text": {"mid": 7},
    "a long merchant": {"mid": "x" * 51},
    "an option that is none": {"card_options": {"more": 1}},
    "an acceptor that is none": {"card_acceptor": "x"},
    "no word of yes or no": {"is_pre_auth": "yes"},
}
WRONG_FIELDS = {
    "a short PIN": {"pin": "123"}, "a long PIN": {"pin": "1234567890123"},
    "a PIN with letters": {"pin": "12a4"}, "no merchant": {"mid": ""},
    "a PAN as a merchant": {"mid": CARD_4.pan},
    "no category": {"card_acceptor": {"mcc": "54"}},
    "no month": {"card_options": {"expiration": "1329"}},
    "no date": {"card_options": {"expiration": "29-12"}},
    "letters": {"card_options": {"expiration": "é29"}},
    "more cash than amount": {"cash_back_amount": 12.51},
}


@pytest.fixture(scope="module")
def shared(make_shared):
    return make_shared().start()


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_body_is_refused(shared, kind):
    api = Api(shared)
    problem = api.refused(400, "invalid_request", "POST", AUTHORIZATION, body() | BAD[kind])
    assert "4071" not in json.dumps(problem)


@pytest.mark.parametrize("kind", WRONG_FIELDS)
def test_a_wrong_field_is_refused(shared, kind):
    api = Api(shared)
    sent = body() | WRONG_FIELDS[kind]
    problem = api.refused(400, "invalid_field", "POST", AUTHORIZATION, sent)
    assert CARD_1.pan not in json.dumps(problem) and "1234567890123" not in json.dumps(problem)


def test_fields_that_are_missing(shared):
    api = Api(shared)
    for path in FIRST:
        for field in ["amount", "card_token", "mid"]:
            sent = body()
            del sent[field]
            if path == BALANCE and field != "amount":
                del sent["amount"]
            # A balance inquiry has no amount.
            if path != BALANCE or field != "amount":
                api.refused(400, "invalid_request", "POST", path, sent)
    for path in [REVERSAL, CLEARING]:
        api.refused(400, "invalid_request", "POST", path, {"amount": 1})
        api.refused(400, "invalid_request", "POST", path, {"original_transaction_token": "x"})
    api.refused(400, "invalid_field", "POST", WITHDRAWAL, body(cash_back_amount=1))


def test_what_is_not_there(switch, api):
    for token in ["nobody", "", "4761340000000019"]:
        sent = body() | {"card_token": token}
        problem = api.refused(404, "no_such_card", "POST", AUTHORIZATION, sent)
        assert "476134" not in json.dumps(problem)
    for token in ["", "x", "00000000-0000ffff", "ffffffff-ffffffff"]:
        sent = {"original_transaction_token": token, "amount": 1}
        api.refused(404, "no_such_transaction", "POST", REVERSAL, sent)
    api.refused(400, "invalid_request", "POST", AUTHORIZATION + "?more=1", body())


def test_what_a_link_sent_is_not_followed(switch, api):
    """What is simulated comes from a network of its own: it repeats and reverses nothing of
    another."""
    with switch.connect() as connection:
        assert connection.ask(authorization(CARD_1, CARD_1.pin)).code == "00"
    (first,) = api.get("/transactions?state=ALL").json["data"]
    assert first["network"] == "net"
    sent = {"original_transaction_token": first["token"], "amount": 12.5}
    for path in [REVERSAL, CLEARING, "/simulate/authorization/advice"]:
        api.refused(400, "invalid_field", "POST", path, sent)


def test_no_link_has_the_network_of_the_simulation(make_switch):
    switch = make_switch(tables=link("other", "demo-zpk", network="simulation"))
    assert "simulated transactions have this one" in switch.refuses_to_start()


def test_only_who_may_simulate_does(switch, api):
    made = api.done("POST", "/apikeys", {"token": "other", "scopes": ["cards:read", "pin:set"]})
    other = Api(switch, ("other", made["secret"]))
    for path in FIRST:
        sent = body()
        if path == BALANCE:
            del sent["amount"]
        other.refused(403, "forbidden", "POST", path, sent)
    assert Api(switch, None).post(AUTHORIZATION, body()).status == 401


def test_a_terminated_card_is_declined(switch, api):
    switch.done("card", "transition", CARD_1.token, "TERMINATED")
    declined = simulate(api, pin=CARD_1.pin)
    assert declined["transaction"]["state"] == "DECLINED"


def test_each_call_is_in_the_audit(switch, api):
    simulate(api, pin=CARD_1.pin)
    api.refused(400, "invalid_field", "POST", AUTHORIZATION, body(pin="12"))
    deadline = time.monotonic() + 10
    while True:
        lines = [it for it in switch.log().splitlines() if 'action="simulate"' in it]
        if len(lines) == 2 or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    assert [("done=true" in it, "done=false" in it) for it in lines] == [(True, False),
                                                                      (False, True)]
    assert all(CARD_1.token in it and "api_key demo" in it for it in lines)


def test_no_pin_or_pan_is_in_a_log_an_answer_or_the_data(switch, api):
    card = switch.add(Card("secret", pan_of("476134", 4_071), "60718293"))
    answers = [simulate(api, path, card=card, pin=pin)
               for path in FIRST for pin in [card.pin, other_pin(card.pin), card.pin]]
    answers.append(follow(api, REVERSAL, answers[0]))
    answers.append(api.call("POST", AUTHORIZATION, body(card, pin=card.pin, more=1)).json)
    assert switch.terminate() == 0
    text = json.dumps(answers) + switch.log()
    files = [path.read_bytes() for path in switch.data.rglob("*") if path.is_file()]
    for secret in [card.pin, other_pin(card.pin), card.pan]:
        assert secret not in text
        assert not any(secret.encode() in content for content in files)


# Marqeta's newer simulation.

SIMULATIONS = "/simulations/cardtransactions/"
KINDS = {
    "authorization": ("0100", "00", "authorization"),
    "authorization.cashback": ("0100", "09", "authorization.cashback"),
    "authorization.atm.withdrawal": ("0100", "01", "authorization.atm.withdrawal"),
    "pindebit": ("0200", "00", "pindebit"),
    "pindebit.atm.withdrawal": ("0200", "01", "pindebit.atm.withdrawal"),
}
FOLLOWING = {
    "authorization.advice": ("0120", "authorization.advice"),
    "authorization.clearing": ("0220", "authorization.advice"),
    "authorization.reversal": ("0400", "authorization.reversal"),
    "authorization.incremental": ("0100", "authorization"),
}


def newer(api, kind, pin=None, **fields):
    sent = {"card_token": CARD_1.token, "amount": 12.5} | fields
    if pin:
        sent["card_options"] = {"pin": pin}
    answer = api.post(SIMULATIONS + kind, sent)
    assert answer.status == 201, answer
    return answer.json


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_the_newer_simulation(api, kind):
    mti, digits, shown = KINDS[kind]
    answer = newer(api, kind, CARD_1.pin, network="VISA")
    assert code(answer) == "0000"
    assert answer["raw_iso8583"]["request"]["mti"] == mti
    assert elements(answer)["3"][:2] == digits
    assert answer["transaction"]["type"] == shown
    assert code(newer(api, kind, other_pin(CARD_1.pin))) == "1809"
    # The same engine, and the same counter.
    assert code(simulate(api, pin=other_pin(CARD_1.pin))) == "1809"
    assert code(newer(api, kind, other_pin(CARD_1.pin))) == "1872"


@pytest.mark.parametrize("kind", FOLLOWING)
def test_a_kind_that_follows(api, kind):
    first = newer(api, "authorization")
    token = first["transaction"]["token"]
    for amount in [{}, {"amount": "2.5"}]:
        named = {"preceding_related_transaction_token": token}
        answer = api.post(SIMULATIONS + kind, named | amount)
        assert answer.status == 201 and code(answer.json) == "0000", answer
        mti, shown = FOLLOWING[kind]
        assert answer.json["raw_iso8583"]["request"]["mti"] == mti
        assert answer.json["transaction"]["type"] == shown
        assert elements(answer.json)["37"] == elements(first)["37"]
        if not amount:
            assert elements(answer.json)["4"] == "000000001250"


def test_what_the_terminal_says(api):
    acceptor = {"mid": "SHOP", "mcc": "5999", "name": "A shop"}
    pos = {"pan_entry_mode": "MAG_STRIPE_CONTACTLESS", "terminal_id": "T 1"}
    sent = elements(newer(api, "authorization", card_acceptor=acceptor, pos=pos))
    assert sent["22"] == "910" and sent["41"].strip('" ') == "T 1" and sent["18"] == "5999"


def test_an_empty_terminal_is_blanks(api):
    answer = api.done("POST", "/simulations/cardtransactions/authorization", {
        "amount": 1, "card_token": CARD_1.token, "pos": {"terminal_id": ""}})
    assert code(answer) == "0000" and elements(answer)["41"].strip('" ') == ""


def test_bad_bodies_of_the_newer_simulation(shared):
    api = Api(shared)
    path = SIMULATIONS + "authorization"
    right = {"card_token": CARD_1.token, "amount": 1}
    for more in [{"more": 1}, {"pos": {"pan_entry_mode": "CHIP"}}, {"network": "NONE"},
                 {"card_options": {"pin": 4071}}, {"pos": {"terminal_id": "123456789"}}]:
        api.refused(400, "invalid_request", "POST", path, right | more)
    for sent in [{}, {"card_token": CARD_1.token}, {"amount": 1},
                 right | {"preceding_related_transaction_token": "x"}]:
        api.refused(400, "invalid_field", "POST", path, sent)
    following = SIMULATIONS + "authorization.reversal"
    named = {"preceding_related_transaction_token": "00000000-0000ffff"}
    for more in [right, named | right, named | {"card_options": {"pin": "4071"}}]:
        api.refused(400, "invalid_field", "POST", following, more)
    api.refused(404, "no_such_transaction", "POST", following, named)
    for kind in ["refund", "AUTHORIZATION", "x" * 300]:
        api.refused(404, "no_such_resource", "POST", SIMULATIONS + kind, right)


# Fulfilment.

FULFILLMENT = "/simulations/fulfillment"
SHIPPED = "cardtransition.fulfillment.shipped"


def set_pin(api, card, pin):
    control = api.done("POST", "/pins/controltoken", {"card_token": card})["control_token"]
    api.done("PUT", "/pins", {"control_token": control, "pin": pin})


def issue(api, product="demo-chip", **more):
    holder = api.done("POST", "/users", {"first_name": "Ada"})["token"]
    form = {"card_product_token": product, "user_token": holder} | more
    return api.done("POST", "/cards", form)["token"]


def told(api, kind):
    return [it for it in api.done("GET", "/events?count=500")["events"] if it["type"] == kind]


@pytest.fixture
def chips(make_switch):
    return make_switch(visa_chip=chip("visa")).start()


def test_a_shipped_plastic_has_the_pin_of_its_card(chips):
    """R105: only a PIN that is set after it must come to the chip by a script."""
    api = Api(chips)
    card = issue(api, metadata={"colour": "green"})
    set_pin(api, card, "5803")
    shown = api.done("GET", f"/cards/{card}")
    assert (shown["fulfillment_status"], shown["chip_sync"]) == ("ISSUED", "in_sync")
    answer = api.post(FULFILLMENT, {"card_token": card})
    assert answer.status == 201, answer
    assert answer.json["fulfillment_status"] == "SHIPPED"
    assert answer.json["metadata"] == {"colour": "green"}
    assert answer.json == api.done("GET", f"/cards/{card}")
    (event,) = told(api, SHIPPED)
    assert event["card_token"] == card and event["actor"]["name"] == "demo"
    listed = api.done("GET", f"/cardtransitions/card/{card}")["data"]
    assert [it["type"] for it in listed] == ["fulfillment.shipped", "fulfillment.issued"]
    set_pin(api, card, "9264")
    assert api.done("GET", f"/cards/{card}")["chip_sync"].startswith("pending")
    chips.kill()
    chips.start()
    shown = Api(chips).done("GET", f"/cards/{card}")
    assert shown["fulfillment_status"] == "SHIPPED"
    assert shown["chip_sync"].startswith("pending")


def test_a_plastic_is_shipped_without_a_pin(chips):
    api = Api(chips)
    card = issue(api)
    assert api.done("POST", FULFILLMENT, {"card_token": card})["pin_is_set"] is False
    set_pin(api, card, "5803")
    assert api.done("GET", f"/cards/{card}")["chip_sync"].startswith("pending")


def test_a_plastic_is_shipped_once(chips):
    api = Api(chips)
    card = issue(api)
    api.done("POST", FULFILLMENT, {"card_token": card})
    api.refused(409, "plastic_produced", "POST", FULFILLMENT, {"card_token": card})
    # Those of the command line count as produced.
    api.refused(409, "plastic_produced", "POST", FULFILLMENT, {"card_token": CARD_1.token})
    assert len(told(api, SHIPPED)) == 1


def test_a_reissued_plastic_is_shipped_on_its_own(chips):
    api = Api(chips)
    first = issue(api)
    holder = api.done("GET", f"/cards/{first}")["user_token"]
    second = api.done("POST", "/cards", {"card_product_token": "demo-chip", "user_token": holder,
                                         "reissue_pan_from_card_token": first})["token"]
    api.done("POST", FULFILLMENT, {"card_token": second})
    assert api.done("GET", f"/cards/{first}")["fulfillment_status"] == "ISSUED"
    api.done("POST", FULFILLMENT, {"card_token": first})
    assert {it["card_token"] for it in told(api, SHIPPED)} == {first, second}


def test_what_is_not_shipped(chips):
    api = Api(chips)
    api.refused(404, "no_such_card", "POST", FULFILLMENT, {"card_token": "nobody"})
    for sent in [{}, {"card_token": 1}, {"card_token": "x", "more": 1}]:
        api.refused(400, "invalid_request", "POST", FULFILLMENT, sent)
    card = issue(api)
    chips.done("card", "transition", card, "TERMINATED")
    api.refused(409, "card_terminated", "POST", FULFILLMENT, {"card_token": card})
    made = api.done("POST", "/apikeys", {"token": "other", "scopes": ["fulfilment"]})
    other = Api(chips, ("other", made["secret"]))
    other.refused(403, "forbidden", "POST", FULFILLMENT, {"card_token": card})
