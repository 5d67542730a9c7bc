"""Idempotency-Key: a call that names itself is made once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import pytest
from api_client import Api
from messages import CARD_1, CARD_2, other_pin
from test_api_pins import control, events, revealed
from settings import chip
from test_clock import DAY, Clock
from tracing import traced

AMOUNT = {"amount": "1.00", "mid": "shop"}


@pytest.fixture
def switch(make_switch):
    return make_switch(debit_chip="pin_viewable = true").start()


@pytest.fixture
def api(switch):
    return Api(switch)


def once(api, key, method, path, body=None):
    """The same call twice: both have the same status, and the second changes nothing."""
    first, again = (api.call(method, path, body, Idempotency_Key=key) for _ in range(2))
    assert first.status == again.status < 300, (first, again)
    return first, again


def new_user(api, **more):
    return api.done("POST", "/users", {"first_name": "Ada"} | more)["token"]


def new_card(api, **more):
    form = {"card_product_token": "demo-debit", "user_token": new_user(api)} | more
    return api.done("POST", "/cards", form)["token"]


def users(api):
    return {user["token"] for user in api.done("GET", "/users?count=100")["data"]}


def test_what_was_made_is_answered_as_it_is_now(api):
    first, again = once(api, "make-1", "POST", "/users", {"first_name": "Ada"})
    assert first.json == again.json and first.headers["ETag"] == again.headers["ETag"]
    token = first.json["token"]
    assert users(api) == {token}
    api.done("PUT", f"/users/{token}", {"first_name": "Grace"})
    again = api.post("/users", {"first_name": "Ada"}, Idempotency_Key="make-1")
    assert (again.status, again.json["token"]) == (201, token)
    assert again.json["first_name"] == "Grace" and users(api) == {token}
    # The order of fields and the prefix are no other call.
    body = {"last_name": "L", "first_name": "Ada"}
    made = api.post("/users", body, Idempotency_Key="make-2").json["token"]
    body = dict(reversed(body.items()))
    assert api.post("/v3/users", body, Idempotency_Key="make-2").json["token"] == made
    assert len(users(api)) == 2


def test_another_call_with_the_key_is_refused(switch, api):
    token = new_user(api)
    body = {"first_name": "Ada"}
    assert api.post("/users", body, Idempotency_Key="k").status == 201
    for method, path, other in [
        ("POST", "/users", {"first_name": "Grace"}),
        ("POST", "/users", body | {"metadata": {"a": "b"}}),
        ("POST", "/users", {}),
        ("PUT", f"/users/{token}", body),
        ("POST", "/cards", {"card_product_token": "demo-debit", "user_token": token}),
        ("POST", "/cards/" + CARD_1.token + "/pin/unblock", None),
    ]:
        problem = api.refused(422, "idempotency_key_reused", method, path, other,
                              Idempotency_Key="k")
        assert problem["error_code"].startswith("422")
    # Keys are of one API key.
    added = api.done("POST", "/apikeys", {"token": "other", "scopes": ["cards:write"]})
    other = Api(switch, ("other", added["secret"]))
    assert other.post("/users", {"first_name": "Grace"}, Idempotency_Key="k").status == 201


@pytest.mark.parametrize("key", ["", " ", "a b", "k" * 256, "\u00e4"])
def test_keys_are_short_and_printable(api, key):
    api.refused(400, "invalid_request", "POST", "/users", {}, Idempotency_Key=key)
    assert users(api) == set()
    assert api.post("/users", {}, Idempotency_Key="k" * 255).status == 201


def test_what_was_refused_may_be_sent_again(api):
    form = {"card_product_token": "demo-debit", "user_token": "later"}
    api.refused(404, "no_such_user", "POST", "/cards", form, Idempotency_Key="c")
    new_user(api, token="later")
    first, again = once(api, "c", "POST", "/cards", form)
    assert first.json["token"] == again.json["token"]
    assert api.done("GET", "/cards/user/later")["count"] == 1


def test_every_call_that_changes_something_is_made_once(switch, api):
    card, user = new_card(api), new_user(api)
    changed, again = once(api, "u", "PUT", f"/users/{user}", {"city": "Graz"})
    assert changed.headers["ETag"] == again.headers["ETag"]
    changed, again = once(api, "c", "PUT", f"/cards/{card}", {"expedite": True})
    assert changed.headers["ETag"] == again.headers["ETag"]
    once(api, "p", "PATCH", f"/cards/{card}", {"metadata": {"a": "b"}})

    product = {"name": "Once", "start_date": "2026-01-01", "bins": ["476139"], "currency": "978"}
    first, again = once(api, "n", "POST", "/cardproducts", product)
    assert first.json == again.json
    path = f"/cardproducts/{first.json['token']}"
    changed, again = once(api, "o", "PUT", path, {"pin_retry_limit": 5})
    assert changed.headers["ETag"] == again.headers["ETag"]
    form = {"card_token": card, "state": "ACTIVE", "channel": "API"}
    moved, again = once(api, "t", "POST", "/cardtransitions", form)
    assert moved.json == again.json and len(moved.json["token"]) == 36
    done = api.done("GET", f"/cardtransitions/card/{card}")["data"]
    assert [it["type"] for it in done].count("state.activated") == 1

    key, again = once(api, "a", "POST", "/apikeys", {"token": "new", "scopes": ["simulate"]})
    assert key.json["secret"] and "secret" not in again.json
    assert again.json == {name: value for name, value in key.json.items() if name != "secret"}

    shipped, again = once(api, "f", "POST", "/simulations/fulfillment", {"card_token": card})
    assert shipped.json == again.json and shipped.json["fulfillment_status"] == "SHIPPED"
    assert len(events(api, "cardtransition.fulfillment.shipped")) == 1


def test_a_pan_is_shown_each_time(api):
    form = {"card_product_token": "demo-debit", "user_token": new_user(api)}
    first, again = once(api, "pan", "POST", "/cards?show_pan=true", form)
    assert first.json == again.json and first.json["pan"].isdigit()
    api.refused(422, "idempotency_key_reused", "POST", "/cards", form, Idempotency_Key="pan")


def test_control_tokens_are_shown_once(api):
    first, again = once(api, "t", "POST", "/pins/controltoken", {"card_token": CARD_1.token})
    assert list(first.json) == ["control_token"] and again.json == {}
    # The first is the newest still.
    body = {"control_token": first.json["control_token"], "pin": "5803"}
    assert api.put("/pins", body).status == 204


def test_a_pin_is_set_once_whatever_pin_comes_again(switch, api):
    token = control(api)
    body = {"control_token": token, "pin": "5803"}
    for pin in ("5803", "5803", "9264", "1111", "x"):
        answer = api.put("/pins", body | {"pin": pin}, Idempotency_Key="pin")
        assert (answer.status, answer.body) == (204, b""), (pin, answer)
    assert revealed(api) == "5803"
    api.refused(410, "control_used", "PUT", "/pins", body)
    assert len(events(api, "cardactions.pin.changed")) == 1


def test_a_weak_pin_is_one_try(api):
    token = control(api)
    for _ in range(2):
        for tries in range(4):
            body = {"control_token": token, "pin": "1111"}
            api.refused(412, "weak_pin", "PUT", "/pins", body, Idempotency_Key=f"weak-{tries}")
    body = {"control_token": token, "pin": "5803"}
    # Four tries, not eight. Another PIN learns nothing by the key of one.
    api.refused(412, "weak_pin", "PUT", "/pins", body, Idempotency_Key="weak-0")
    assert api.put("/pins", body).status == 204


def test_a_check_of_a_pin_is_counted_each_time(switch, api):
    body = {"card_token": CARD_1.token, "pin": other_pin(CARD_1.pin)}
    answers = [api.done("POST", "/pins/verify", body, Idempotency_Key="v") for _ in range(3)]
    assert [answer["response"]["code"] for answer in answers] == ["1809", "1809", "1872"]


def simulated(api, key, **more):
    body = AMOUNT | {"card_token": CARD_1.token} | more
    return api.done("POST", "/simulate/authorization", body, Idempotency_Key=key)


def test_a_simulated_transaction_is_made_once(switch, api):
    wrong = other_pin(CARD_1.pin)
    answers = [simulated(api, "s", pin=wrong) for _ in range(5)]
    assert answers[0]["raw_iso8583"]
    again = {"transaction": answers[0]["transaction"]}
    assert all(answer == again for answer in answers[1:])
    assert answers[0]["transaction"]["response"]["code"] == "1809"
    # The right PIN with this key learns nothing, and another key is another transaction.
    assert simulated(api, "s", pin=CARD_1.pin) == again
    assert switch.show(CARD_1.token)["pin_try_counter"] == 1
    assert simulated(api, "s2", pin=CARD_1.pin)["transaction"]["response"]["code"] == "0000"
    body = AMOUNT | {"card_token": CARD_1.token, "amount": "2.00"}
    api.refused(422, "idempotency_key_reused", "POST", "/simulate/authorization", body,
                Idempotency_Key="s")
    approved = simulated(api, "s2", pin=CARD_1.pin)
    original = approved["transaction"]["token"]
    body = {"original_transaction_token": original, "amount": "1.00"}
    first, again = once(api, "r", "POST", "/simulate/reversal", body)
    assert first.json["transaction"] == again.json["transaction"]
    listed = api.done("GET", f"/cards/{CARD_1.token}/transactions?count=100")["data"]
    made = [answers[0], approved, first.json]
    assert {it["token"] for it in listed} <= {it["transaction"]["token"] for it in made}


def test_a_chip_pays_once(make_switch):
    api = Api(make_switch(visa_chip=chip("visa")).start())
    body = AMOUNT | {"card_token": CARD_2.token}
    wrong = body | {"chip": {"virtual": True, "pin_entered": other_pin(CARD_2.pin)}}
    path = "/simulate/authorization"
    first, again = once(api, "chip", "POST", path, wrong)
    assert first.json["chip"]["pin_tries_left"] == 2 and "chip" not in again.json
    assert first.json["transaction"] == again.json["transaction"]
    # The right PIN with this key is not even tried.
    right = body | {"chip": {"virtual": True, "pin_entered": CARD_2.pin}}
    again = api.post(path, right, Idempotency_Key="chip")
    assert again.json == {"transaction": first.json["transaction"]}
    assert api.done("POST", path, wrong)["chip"]["pin_tries_left"] == 1


def test_a_body_may_be_as_deep_as_it_is_long(switch, api):
    """What is taken and forgotten has no depth; to compare it costs no more than to read it."""
    head = (b'{"card_token": "' + CARD_1.token.encode() +
            b'", "amount": 1, "mid": "shop", "network_fees": ')
    for deep in (b'{"":' * 12_000 + b"1" + b"}" * 12_000, b"[" * 12_000 + b"]" * 12_000):
        answer = api.post("/simulate/authorization", head + deep + b"}", Idempotency_Key="deep")
        assert answer.status in (201, 422), answer
    # In a deeper object nothing is a PIN.
    chip = b'"chip": {"virtual": false, "a": ' + b'{"":' * 9_000 + b"1" + b"}" * 9_000 + b"}}"
    answer = api.post("/simulate/authorization", head + b"1, " + chip, Idempotency_Key="chip")
    assert answer.status == 400, answer
    assert api.done("GET", "/ping")["success"] is True


@pytest.mark.parametrize("forgotten", [b'{"\\ud800": 1}', b'{"\xff": 1}'])
def test_what_cannot_be_compared_is_refused(api, forgotten):
    body = (b'{"card_product_token": "demo-debit", "user_token": "' + new_user(api).encode() +
            b'", "account_token": 1, "expedite": true}')
    body = body.replace(b'"account_token": 1', b'"account_token": ' + forgotten)
    answers = [api.post("/cards", body, Idempotency_Key="k") for _ in range(2)]
    tokens = {answer.json.get("token") for answer in answers}
    assert len(tokens) == 1 and len({answer.status for answer in answers}) == 1, answers


def test_one_of_many_at_once_makes_it(switch):
    clients = [Api(switch) for _ in range(8)]
    barrier = threading.Barrier(len(clients))

    def make(client):
        barrier.wait()
        answer = client.post("/users", {"first_name": "Ada"}, Idempotency_Key="race")
        while answer.status == 409:
            assert answer.json["code"] == "call_under_way"
            answer = client.post("/users", {"first_name": "Ada"}, Idempotency_Key="race")
        assert answer.status == 201, answer
        return answer.json["token"]

    with ThreadPoolExecutor(len(clients)) as threads:
        tokens = set(threads.map(make, clients))
    assert users(clients[0]) == tokens and len(tokens) == 1


def test_nothing_is_made_twice_by_a_kill(make_switch):
    """Whatever was sent when the switch died is sent again to the next one."""
    switch = make_switch(debit_chip="pin_viewable = true").start()
    api = Api(switch)
    holder = new_user(api)
    form = {"card_product_token": "demo-debit", "user_token": holder}
    made, wrong = {}, other_pin(CARD_1.pin)

    def work(number):
        client = Api(switch)
        for count in range(200):
            key = f"{number}-{count}"
            try:
                made[key] = None
                answer = client.post("/cards", form, Idempotency_Key=key)
                made[key] = answer.json["token"]
            except OSError:
                return
            except Exception:
                if switch.process.poll() is None:
                    raise
                return

    simulated(api, "guess", pin=wrong)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while sum(token is not None for token in made.values()) < 40:
        threading.Event().wait(0.01)
    switch.kill()
    for thread in threads:
        thread.join()
    switch.start()
    api = Api(switch)
    for key, token in made.items():
        answer = api.post("/cards", form, Idempotency_Key=key)
        assert answer.status == 201 and token in (None, answer.json["token"]), (key, answer)
    cards = api.done("GET", f"/cards/user/{holder}?count=1")
    assert len(made) > 40
    total = 0
    while True:
        page = api.done("GET", f"/cards/user/{holder}?count=100&start_index={total}")
        total += page["count"]
        if not page["is_more"]:
            break
    assert cards["count"] == 1 and total == len(made)
    # The guess of before is the same one still.
    assert simulated(api, "guess", pin=wrong)["transaction"]["response"]["code"] == "1809"
    assert switch.show(CARD_1.token)["pin_try_counter"] == 1


def test_a_chip_pays_once_wherever_the_switch_dies(make_switch, tmp_path):
    """It dies before the first, second, ... of what a payment writes. Sent again, the payment costs
    the chip no second PIN try, and its counter no second step."""
    switch = make_switch(visa_chip=chip("visa")).start()
    wrong = {"virtual": True, "pin_entered": other_pin(CARD_2.pin)}
    body = AMOUNT | {"card_token": CARD_2.token, "chip": wrong}
    path, statuses, steps = "/simulate/authorization", [], 0
    # At the last it lives on.
    for number in (1, 2, 3, 4, 5, 6, 100):
        api = Api(switch)
        fatal = f"inject=pwrite64:signal=SIGKILL:when={number}"
        with traced(switch, tmp_path / "strace", "-e", "trace=pwrite64", "-e", fatal):
            try:
                api.post(path, body, Idempotency_Key=f"payment-{number}")
            except (OSError, HTTPException):
                switch.process.wait(10)
        switch.kill()
        switch.start()
        api = Api(switch)
        again = api.post(path, body, Idempotency_Key=f"payment-{number}")
        statuses.append(again.status)
        if again.status != 201:
            assert (again.status, again.json["code"]) == (409, "chip_outcome_unknown")
        # Without a PIN the chip only tells what it has left.
        told = api.done("POST", path, body | {"chip": {"virtual": True}})["chip"]
        steps += 2
        assert (told["atc"], told["pin_tries_left"]) == (steps, max(0, 3 - steps // 2)), number
    # Before anything is written it is made anew; when all is, it is known.
    assert statuses[0] == statuses[-1] == 201 and 409 in statuses, statuses


def test_a_key_is_forgotten_after_a_day(make_switch, tmp_path):
    clock = Clock(tmp_path / "clock")
    switch = make_switch(store="clock_settle_seconds = 1").start(*clock.words)
    api = Api(switch)
    assert api.post("/users", {"first_name": "Ada"}, Idempotency_Key="k").status == 201
    clock.set(DAY + 60)
    switch.kill()
    switch.start(*clock.words)
    api = Api(switch)
    while switch.metric("pinswitch_clock_settled") == 0:
        threading.Event().wait(0.1)
    assert api.post("/users", {"first_name": "Grace"}, Idempotency_Key="k").status == 201
    assert len(users(api)) == 2


def test_neither_key_nor_body_is_kept_or_logged(switch, api):
    body = AMOUNT | {"card_token": CARD_1.token, "pin": CARD_1.pin}
    api.done("POST", "/simulate/authorization", body, Idempotency_Key="a-very-special-key")
    assert "a-very-special-key" not in switch.log()
    switch.stop()
    for file in switch.directory.rglob("*"):
        if file.is_file():
            assert b"a-very-special-key" not in file.read_bytes(), file
