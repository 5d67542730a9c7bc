"""Virtual chips over HTTP: the switch plays the chip of a plastic and its terminal, and what the
chip did with an answer is told by the next message."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import canaries
import chip as chips
import pytest
from api_client import Api
from messages import CARD_1, CARD_2, CARD_3, pan_of
from settings import chip

AUTHORIZATION, FINANCIAL = "/simulate/authorization", "/simulate/financial"
WITHDRAWAL, FULFILLMENT = "/simulate/financial/withdrawal", "/simulations/fulfillment"
NEW, WRONG = "5803", "1470"
VISA_KEYS = {f"imk_{key}": f"demo-visa-imk-{key}" for key in ("ac", "smi", "smc")}
FTPAM = "ftpam = 5000\nftpdy = 7\n"
BELOW, ABOVE = 20, 80


@pytest.fixture
def switch(make_switch):
    """As in the demo: the chips of demo-card-2 are of Visa, with FTPAM 50.00, and those of
    demo-card-3 of M/Chip, without."""
    return make_switch(visa_chip=chip("visa", FTPAM), m_chip=chip("mchip")).start()


@pytest.fixture
def api(switch):
    return Api(switch)


def body(card, entered=None, amount=ABOVE, **more):
    """A payment. What begins with `chip_` belongs to the chip."""
    of_chip = {name[5:]: more.pop(name) for name in list(more) if name.startswith("chip_")}
    played = {"virtual": True} | of_chip
    if entered is not None:
        played["pin_entered"] = entered
    return {"amount": amount, "card_token": card, "mid": "MERCHANT0000001", "chip": played} | more


def pay(api, card, entered=None, path=AUTHORIZATION, **more):
    answer = api.post(path, body(card, entered, **more))
    assert answer.status == 201, answer
    assert answer.json.keys() == {"transaction", "raw_iso8583", "chip"}
    return answer.json


def code(answer):
    return answer["transaction"]["response"]["code"]


def told(answer, *names):
    return tuple(answer["chip"].get(name) for name in names)


def outcome(answer):
    """The code, what the chip said to the PIN, and its tries."""
    return (code(answer), *told(answer, "offline_pin", "pin_tries_left"))


def script(answer):
    """Whether the chip carried a script out; `None` where none came."""
    found = answer["chip"].get("script")
    return None if found is None else found["done"]


def sync(api, card):
    return api.done("GET", f"/cards/{card}")["chip_sync"]


def set_pin(api, card, pin):
    control = api.done("POST", "/pins/controltoken", {"card_token": card})["control_token"]
    api.done("PUT", "/pins", {"control_token": control, "pin": pin})


def product(api, token, **more):
    form = {"token": token, "name": "Chip", "start_date": "2026-01-01", "bins": ["476134"],
            "currency": "978", "chip": VISA_KEYS}
    api.done("POST", "/cardproducts", form | more)
    return token


def issue(api, of, pin=None, **more):
    """A card that is sent out and in use."""
    holder = api.done("POST", "/users", {"first_name": "Ada"})["token"]
    form = {"card_product_token": of, "user_token": holder} | more
    card = api.done("POST", "/cards", form)["token"]
    if pin is not None:
        set_pin(api, card, pin)
    api.done("POST", FULFILLMENT, {"card_token": card})
    activate(api, card)
    return card


def activate(api, card):
    move = {"card_token": card, "state": "ACTIVE", "channel": "API"}
    api.done("POST", "/cardtransitions", move)


def exhaust(api, card):
    for left in (2, 1, 0):
        assert told(pay(api, card, WRONG), "pin_tries_left") == (left,)


@pytest.mark.parametrize("card", [CARD_2, CARD_3], ids=["visa", "m-chip"])
def test_a_right_offline_pin(api, card):
    """R76, R197: the chip verifies the PIN, and the request tells it."""
    for atc in (1, 2):
        answer = pay(api, card.token, card.pin)
        assert answer["chip"] == {
            "cvm": "offline_pin", "offline_pin": "right", "pin_tries_left": 3, "atc": atc,
            "first_cryptogram": "ARQC", "second_cryptogram": "TC",
            "issuer_authentication": "right",
        }
        assert code(answer) == "0000"
        sent = answer["raw_iso8583"]["request"]["elements"]
        assert sent["22"] == "051" and sent["23"] == "001" and "52" not in sent
        assert "55" in sent and "55" in answer["raw_iso8583"]["response"]["elements"]
        assert answer["transaction"]["pos"]["pin_present"] is False
    assert sync(api, card.token) == "in_sync"


@pytest.mark.parametrize("path", [AUTHORIZATION, FINANCIAL, WITHDRAWAL])
def test_the_kinds_of_transactions(api, path):
    assert code(pay(api, CARD_3.token, CARD_3.pin, path)) == "0000"
    # Nothing is entered: goods are declined like a wrong PIN, and cash needs one.
    expected = "1012" if path == WITHDRAWAL else "1809"
    answer = pay(api, CARD_3.token, path=path)
    assert (code(answer), *told(answer, "offline_pin")) == (expected, "not_entered")


@pytest.mark.parametrize("card", [CARD_2, CARD_3], ids=["visa", "m-chip"])
def test_wrong_offline_pins_are_counted_by_the_chip(switch, api, card):
    """R110, R115, R116, R183: 3, 2, 1, and then 1872 whatever is entered, also after a restart. The
    online counter and the card's state are as they were."""
    assert outcome(pay(api, card.token, WRONG)) == ("1809", "wrong", 2)
    assert outcome(pay(api, card.token, card.pin)) == ("0000", "right", 3)
    assert outcome(pay(api, card.token, WRONG)) == ("1809", "wrong", 2)
    answer = pay(api, card.token, WRONG)
    assert outcome(answer) == ("1809", "wrong", 1)
    assert told(answer, "cvm", "second_cryptogram") == ("failed", "AAC")
    switch.kill()
    switch.start()
    api = Api(switch)
    answer = pay(api, card.token, WRONG)
    assert outcome(answer) == ("1872", "wrong", 0)
    assert told(answer, "cvm", "second_cryptogram", "atc") == ("signature", "AAC", 5)
    for entered in (card.pin, WRONG):
        assert outcome(pay(api, card.token, entered)) == ("1872", "blocked", 0)
    assert outcome(pay(api, card.token)) == ("1872", "not_entered", 0)
    shown = api.done("GET", f"/cards/{card.token}")
    assert (shown["state"], shown["pin_try_counter"]) == ("ACTIVE", 0)


def test_exhausted_with_a_pending_change(api):
    """R112, R113, R114, R116, R117, R120: approved without a PIN, and the script changes the PIN
    and unblocks it. The old one fails then, and the new one is right."""
    exhaust(api, CARD_3.token)
    set_pin(api, CARD_3.token, NEW)
    assert sync(api, CARD_3.token).startswith("pending")
    answer = pay(api, CARD_3.token, NEW)
    assert code(answer) == "0000" and script(answer) is True
    assert told(answer, "cvm", "offline_pin", "pin_tries_left") == ("signature", "blocked", 3)
    assert sync(api, CARD_3.token).startswith("sent")
    assert outcome(pay(api, CARD_3.token, CARD_3.pin)) == ("1809", "wrong", 2)
    # The request has told that the script was carried out.
    assert sync(api, CARD_3.token) == "in_sync"
    answer = pay(api, CARD_3.token, NEW)
    assert outcome(answer) == ("0000", "right", 3) and script(answer) is None


def test_exhausted_and_unblocked_by_the_issuer(api):
    """R116: the script of an unblock, without another PIN."""
    exhaust(api, CARD_3.token)
    answer = api.post(f"/cards/{CARD_3.token}/pin/unblock", {})
    assert answer.status == 202, answer
    answer = pay(api, CARD_3.token, WRONG)
    assert code(answer) == "0000" and script(answer) is True
    assert outcome(pay(api, CARD_3.token, CARD_3.pin)) == ("0000", "right", 3)
    assert sync(api, CARD_3.token) == "in_sync"


def test_a_right_old_pin_brings_the_script(api):
    """R107, R108: at the next online transaction, whose offline PIN is the old one."""
    for card in (CARD_2, CARD_3):
        set_pin(api, card.token, NEW)
        answer = pay(api, card.token, card.pin)
        assert outcome(answer) == ("0000", "right", 3) and script(answer) is True
        assert outcome(pay(api, card.token, card.pin)) == ("1809", "wrong", 2)
        assert outcome(pay(api, card.token, NEW)) == ("0000", "right", 3)
        assert sync(api, card.token) == "in_sync"


@pytest.mark.parametrize("entered", [NEW, None], ids=["wrong", "not-entered"])
def test_below_ftpam_a_changed_pin_needs_not_be_on_the_chip(api, entered):
    """R136, R138, R140: strictly below, and approved with the script."""
    assert code(pay(api, CARD_2.token, entered, amount=BELOW)) == "1809"
    assert outcome(pay(api, CARD_2.token, CARD_2.pin)) == ("0000", "right", 3)
    set_pin(api, CARD_2.token, NEW)
    answer = pay(api, CARD_2.token, entered, amount=50)
    assert code(answer) == "1809" and script(answer) is None
    answer = pay(api, CARD_2.token, entered, amount=49.99)
    assert code(answer) == "0000" and script(answer) is True
    assert told(answer, "offline_pin") == ("wrong" if entered else "not_entered",)
    assert outcome(pay(api, CARD_2.token, NEW)) == ("0000", "right", 3)


def test_without_ftpam_nothing_is_let_pass(api):
    """R137, R139: FTPAM unset."""
    set_pin(api, CARD_3.token, NEW)
    for entered in (NEW, None):
        answer = pay(api, CARD_3.token, entered, amount=0.01)
        assert code(answer) == "1809" and script(answer) is None


def test_an_online_pin_with_a_chip(switch, api):
    """R75, R118: the issuer verifies it and counts; the chip's tries are its own."""
    answer = pay(api, CARD_3.token, pin=CARD_3.pin)
    assert code(answer) == "0000"
    assert told(answer, "cvm", "offline_pin", "pin_tries_left") == ("online_pin", "not_asked", 3)
    assert answer["transaction"]["pos"]["pin_present"] is True
    assert code(pay(api, CARD_3.token, pin=WRONG)) == "1809"
    shown = api.done("GET", f"/cards/{CARD_3.token}")
    assert shown["pin_try_counter"] == 1
    set_pin(api, CARD_3.token, NEW)
    answer = pay(api, CARD_3.token, path=WITHDRAWAL, pin=NEW)
    assert code(answer) == "0000" and script(answer) is True
    assert outcome(pay(api, CARD_3.token, NEW)) == ("0000", "right", 3)


def test_offline_first_and_then_online(api):
    """R129, R131, R193: a right offline PIN is enough; after a wrong one the online PIN decides."""
    answer = pay(api, CARD_3.token, CARD_3.pin, pin=WRONG)
    assert outcome(answer) == ("0000", "right", 3)
    assert answer["transaction"]["pos"]["pin_present"] is False
    assert api.done("GET", f"/cards/{CARD_3.token}")["pin_try_counter"] == 0
    answer = pay(api, CARD_3.token, WRONG, pin=CARD_3.pin)
    assert outcome(answer) == ("0000", "wrong", 2)
    assert told(answer, "cvm") == ("online_pin",)
    assert outcome(pay(api, CARD_3.token, WRONG, pin=CARD_3.pin)) == ("0000", "wrong", 1)
    assert outcome(pay(api, CARD_3.token, WRONG, pin=WRONG)) == ("1809", "wrong", 0)
    set_pin(api, CARD_3.token, NEW)
    answer = pay(api, CARD_3.token, NEW, pin=NEW)
    assert (code(answer), script(answer)) == ("0000", True)
    assert told(answer, "offline_pin", "pin_tries_left") == ("blocked", 3)


def test_a_script_is_sent_again_after_a_lost_answer(api):
    """The chip tells that it saw none: the next answer has it again."""
    set_pin(api, CARD_2.token, NEW)
    answer = pay(api, CARD_2.token, CARD_2.pin, chip_answer_is_lost=True)
    assert code(answer) == "0000" and script(answer) is None
    assert told(answer, "second_cryptogram", "issuer_authentication") == ("AAC", "not_performed")
    assert sync(api, CARD_2.token) == "sent {change, attempts 1}"
    answer = pay(api, CARD_2.token, CARD_2.pin)
    assert outcome(answer) == ("0000", "right", 3) and script(answer) is True
    assert sync(api, CARD_2.token) == "sent {change, attempts 2}"
    assert outcome(pay(api, CARD_2.token, NEW)) == ("0000", "right", 3)
    assert sync(api, CARD_2.token) == "in_sync"


def follow(api, path, answer):
    amount = answer["transaction"]["amount"]
    form = {"original_transaction_token": answer["transaction"]["token"], "amount": amount}
    return api.done("POST", path, form)


@pytest.mark.parametrize("path", ["/simulate/clearing", "/simulate/authorization/advice",
                                  "/simulate/reversal"])
@pytest.mark.parametrize("card", [CARD_2, CARD_3], ids=["visa", "m-chip"])
def test_what_follows_tells_of_the_script(api, card, path):
    """With the chip's second cryptogram and the result of the script (9F5B)."""
    set_pin(api, card.token, NEW)
    answer = pay(api, card.token, card.pin)
    assert script(answer) is True
    followed = follow(api, path, answer)
    sent = followed["raw_iso8583"]["request"]["elements"]
    assert "55" in sent and "chip" not in followed
    assert sync(api, card.token) == "in_sync"
    # Of a transaction before the last one nothing is told any more.
    pay(api, card.token, NEW)
    assert "55" not in follow(api, path, answer)["raw_iso8583"]["request"]["elements"]


def test_an_answer_that_was_lost_is_reversed(api):
    set_pin(api, CARD_3.token, NEW)
    answer = pay(api, CARD_3.token, CARD_3.pin, chip_answer_is_lost=True)
    follow(api, "/simulate/reversal", answer)
    assert sync(api, CARD_3.token) == "pending {change, attempts 1}"
    assert script(pay(api, CARD_3.token, CARD_3.pin)) is True


def test_one_chip_is_in_one_terminal(make_switch):
    """Whoever finds it in another one is refused, and nothing that the chip did is lost."""
    limits = "\n".join(f"api_{what}_per_minute = 1000000"
                       for what in ("calls_per_key", "pin_calls_per_card"))
    switch = make_switch(limits=limits, visa_chip=chip("visa")).start()
    clients = [Api(switch) for _ in range(8)]

    def simulate(client):
        done, refused = [], 0
        while len(done) < 5:
            answer = client.post(AUTHORIZATION, body(CARD_2.token, CARD_2.pin))
            assert answer.status in (201, 409), answer
            if answer.status == 201:
                done.append(answer.json)
            else:
                assert answer.json["code"] == "chip_in_use"
                refused += 1
        return done, refused

    with ThreadPoolExecutor(len(clients)) as threads:
        results = list(threads.map(simulate, clients))
    done = sum((done for done, _ in results), [])
    assert sum(refused for _, refused in results) > 0
    assert {outcome(answer) for answer in done} == {("0000", "right", 3)}
    counters = sorted(answer["chip"]["atc"] for answer in done)
    assert counters == list(range(1, len(done) + 1))


def test_wrong_pins_side_by_side_are_all_counted(switch):
    clients = [Api(switch) for _ in range(6)]

    def simulate(client):
        return client.post(AUTHORIZATION, body(CARD_3.token, WRONG))

    with ThreadPoolExecutor(len(clients)) as threads:
        done = [it.json for it in threads.map(simulate, clients) if it.status == 201]
    left = sorted((told(answer, "pin_tries_left")[0] for answer in done), reverse=True)
    assert left == ([2, 1] + [0] * 6)[:len(done)]


def test_the_chip_of_a_card_that_was_issued(api):
    """Fulfilment embosses the chip with the PIN that the card has."""
    of = product(api, "own-chip", pin_viewable=True, parameters={"EMVOP": "Y"})
    holder = api.done("POST", "/users", {"first_name": "Ada"})["token"]
    form = {"card_product_token": of, "user_token": holder}
    card = api.done("POST", "/cards", form)["token"]
    set_pin(api, card, "9246")
    problem = api.refused(409, "no_virtual_chip", "POST", AUTHORIZATION, body(card, "9246"))
    assert FULFILLMENT in problem["detail"]
    api.done("POST", FULFILLMENT, {"card_token": card})
    # Before the activation there is a chip, but nothing is approved.
    assert outcome(pay(api, card, "9246")) == ("1025", "right", 3)
    activate(api, card)
    assert outcome(pay(api, card, "9246")) == ("0000", "right", 3)
    set_pin(api, card, NEW)
    assert script(pay(api, card, "9246")) is True
    assert outcome(pay(api, card, NEW)) == ("0000", "right", 3)


def test_each_plastic_has_its_chip(api):
    """The PIN stays with a reissue under the same PAN; tries and counter are the plastic's own."""
    of = product(api, "own-chip", pin_viewable=True, parameters={"EMVOP": "Y", "KPPIN": "Y"})
    first = issue(api, of, "9246")
    assert outcome(pay(api, first, WRONG)) == ("1809", "wrong", 2)
    actions = {"terminate_reissued_source_card": False}
    second = issue(api, of, reissue_pan_from_card_token=first, activation_actions=actions,
                   user_token=api.done("GET", f"/cards/{first}")["user_token"])
    answer = pay(api, second, "9246")
    assert outcome(answer) == ("0000", "right", 3)
    assert answer["raw_iso8583"]["request"]["elements"]["23"] == "002"
    answer = pay(api, first, WRONG)
    assert outcome(answer) == ("1809", "wrong", 1) and told(answer, "atc") == (2,)


def test_a_chip_that_was_embossed_without_a_pin(api):
    """R123, R124: no entered PIN is right; the first that is set comes to it by a script."""
    of = product(api, "own-chip", config={"fulfillment": {"enable_offline_pin": True}})
    card = issue(api, of)
    assert outcome(pay(api, card, "0000")) == ("1809", "wrong", 2)
    assert outcome(pay(api, card, "9246")) == ("1809", "wrong", 1)
    set_pin(api, card, "9246")
    assert outcome(pay(api, card, "9246")) == ("0000", "wrong", 3)
    assert outcome(pay(api, card, "9246")) == ("0000", "right", 3)


def test_no_block_of_the_pin_is_kept(api):
    """The embosser gets none, so that the chip has no PIN until one is set."""
    of = product(api, "own-chip", config={"fulfillment": {"enable_offline_pin": True}})
    card = issue(api, of, "9246")
    assert outcome(pay(api, card, "9246")) == ("1809", "wrong", 2)
    assert code(pay(api, card, pin="9246")) == "0000"
    set_pin(api, card, NEW)
    assert script(pay(api, card, pin=NEW)) is True
    assert outcome(pay(api, card, NEW)) == ("0000", "right", 3)


def test_a_chip_with_zeros(api):
    """Where only EMVOP=Y asks for an offline PIN, the embosser writes 0000, which is never right:
    everybody knows it."""
    of = product(api, "own-chip", parameters={"EMVOP": "Y"})
    card = issue(api, of)
    assert outcome(pay(api, card, "0000")) == ("1809", "right", 3)
    assert outcome(pay(api, card, WRONG)) == ("1809", "wrong", 2)
    set_pin(api, card, NEW)
    assert script(pay(api, card, pin=NEW)) is True
    assert outcome(pay(api, card, "0000")) == ("1809", "wrong", 2)
    assert outcome(pay(api, card, NEW)) == ("0000", "right", 3)


def test_a_chip_that_holds_no_pin(api):
    """R134: EMVOP is unset. The PIN is verified online only."""
    card = issue(api, product(api, "own-chip"), "9246")
    api.refused(409, "chip_holds_no_pin", "POST", AUTHORIZATION, body(card, "9246"))
    answer = pay(api, card)
    assert (code(answer), *told(answer, "cvm", "offline_pin")) == ("0000", "signature", "not_asked")
    assert code(pay(api, card, pin="9246")) == "0000"
    assert code(pay(api, card, pin=WRONG)) == "1809"


def test_what_has_no_virtual_chip(switch, api):
    for card, words in [(CARD_1.token, "product"), ("added", "pin_viewable")]:
        if card == "added":
            added = {"token": card, "pan": pan_of("476134", 77), "expiration": "2912",
                     "pan_sequence_number": "01", "card_product_token": "demo-chip", "pin": "4711"}
            switch.done("card", "add", stdin=json.dumps(added))
            switch.done("card", "activate", card)
        problem = api.refused(409, "no_virtual_chip", "POST", AUTHORIZATION, body(card, "4711"))
        assert words in problem["detail"] and "4711" not in json.dumps(problem)
    api.refused(404, "no_such_card", "POST", AUTHORIZATION, body("nobody", "4711"))


def test_a_card_of_the_command_line_gets_its_chip_at_first_use(make_switch):
    viewable = "pin_viewable = true\n" + chip("visa", FTPAM)
    switch = make_switch(visa_chip=viewable).start()
    api = Api(switch)
    for token, number in (("used", 77), ("changed", 78)):
        added = {"token": token, "pan": pan_of("476134", number), "expiration": "2912",
                 "pan_sequence_number": "01", "card_product_token": "demo-chip", "pin": "4711"}
        switch.done("card", "add", stdin=json.dumps(added))
        switch.done("card", "activate", token)
    assert outcome(pay(api, "used", WRONG)) == ("1809", "wrong", 2)
    set_pin(api, "used", NEW)
    assert script(pay(api, "used", "4711")) is True
    # Of this one nobody knows the first PIN any more.
    set_pin(api, "changed", NEW)
    api.refused(409, "no_virtual_chip", "POST", AUTHORIZATION, body("changed", "4711"))


USAGES = {"imk_ac": "E0", "imk_smi": "E2", "imk_smc": "E1"}
ALL_SCOPES = "cards:read,cards:write,pin:set,products,simulate"


@pytest.fixture
def keyed(own):
    """A switch with keys of its own, and beside them those of the demo's Visa chips, which are
    public under any master key."""
    own.bring_in_key("zpk-net", bytes.fromhex("ECC25208B6FD2023E9767A5489BC9415"))
    for name, key in zip(USAGES, chips.VISA_KEYS):
        own.bring_in_key(VISA_KEYS[name], bytes.fromhex(key), usage=USAGES[name])
    own.start()
    secret = json.loads(own.done("apikey", "add", "chips", "--scope", ALL_SCOPES))["secret"]
    return own, Api(own, key=("chips", secret))


@pytest.mark.parametrize("foreign", [["imk_ac"], ["imk_smi"], ["imk_smc"], list(USAGES), []],
                         ids=lambda names: "+".join(names) or "none")
def test_under_keys_of_an_issuer_no_chip_is_played(keyed, foreign):
    """Who can ask for cryptograms under an issuer's keys can forge its cards."""
    switch, api = keyed
    keys = dict(VISA_KEYS)
    for name in foreign:
        keys[name] = name.replace("_", "-")
        switch.done("key", "generate", keys[name], "--usage", USAGES[name])
    of = product(api, "own-chip", pin_viewable=True, parameters={"EMVOP": "Y"}, chip=keys)
    card = issue(api, of, "9246")
    if not foreign:
        assert outcome(pay(api, card, "9246")) == ("0000", "right", 3)
        # Of two versions everybody knows one only.
        switch.done("key", "generate", keys["imk_ac"], "--usage", "E0", "--rotate")
    problem = api.refused(403, "key_is_secret", "POST", AUTHORIZATION, body(card, "9246"))
    assert "9246" not in json.dumps(problem)
    # The card may be used in any other way.
    form = body(card, pin="9246")
    del form["chip"]
    assert code(api.done("POST", AUTHORIZATION, form)) == "0000"


def test_a_key_of_the_pins_of_chips_is_needed(keyed):
    """The PIN of a chip is under the PIN encryption key, and under the newest after each use."""
    switch, api = keyed
    of = product(api, "own-chip", pin_viewable=True, parameters={"EMVOP": "Y"})
    card = issue(api, of, "9246")
    switch.done("key", "generate", "own-pek", "--usage", "P0", "--rotate")
    set_pin(api, card, NEW)
    refused = switch.command("key", "retire", "own-pek")
    assert refused.returncode == 1 and "1 cards have a PIN" in refused.stderr
    assert script(pay(api, card, "9246")) is True
    switch.done("key", "retire", "own-pek")
    assert outcome(pay(api, card, NEW)) == ("0000", "right", 3)


def test_a_chip_goes_with_its_card(switch, api):
    exhaust(api, CARD_2.token)
    switch.done("card", "remove", CARD_2.token)
    switch.terminate()
    switch.start()
    api = Api(switch)
    # The demo has made its card anew, and its chip.
    answer = pay(api, CARD_2.token, CARD_2.pin)
    assert outcome(answer) == ("0000", "right", 3) and told(answer, "atc") == (1,)
    move = {"card_token": CARD_2.token, "state": "TERMINATED", "channel": "API"}
    api.done("POST", "/cardtransitions", move)
    for _ in range(2):
        api.refused(409, "card_terminated", "POST", AUTHORIZATION, body(CARD_2.token, "5938"))
        switch.terminate()
        switch.start()
        api = Api(switch)


def test_a_chip_goes_with_the_card_that_another_one_replaces(api):
    user = api.done("POST", "/users", {})["token"]
    assert outcome(pay(api, CARD_2.token, CARD_2.pin))[0] == "0000"
    api.done("PUT", f"/cards/{CARD_2.token}", {"user_token": user})
    api.done("POST", "/cards", {
        "card_product_token": "demo-chip", "user_token": user,
        "new_pan_from_card_token": CARD_2.token, "fulfillment": {
            "card_personalization": {"text": {"name_line_1": {"value": "ADA LOVELACE"}}},
            "card_fulfillment_reason": "LOST_STOLEN"}})
    api.refused(409, "card_terminated", "POST", AUTHORIZATION, body(CARD_2.token, "5938"))


WRONG_FORMS = {
    "no word of virtual": ("invalid_request", {}),
    "a word that is none": ("invalid_request", {"virtual": "yes"}),
    "a chip that is none": ("invalid_field", {"virtual": False}),
    "an unknown field": ("invalid_request", {"virtual": True, "pin": "5938"}),
    "a PIN that is a number": ("invalid_request", {"virtual": True, "pin_entered": 5938}),
    "a short PIN": ("invalid_field", {"virtual": True, "pin_entered": "593"}),
    "a long PIN": ("invalid_field", {"virtual": True, "pin_entered": "5938593859385"}),
    "letters": ("invalid_field", {"virtual": True, "pin_entered": "59a8"}),
    "no chip": ("invalid_request", {"virtual": None}),
}


def test_wrong_forms(api):
    for kind, (refusal, form) in WRONG_FORMS.items():
        sent = body(CARD_2.token) | {"chip": form}
        problem = api.refused(400, refusal, "POST", AUTHORIZATION, sent)
        assert "593" not in json.dumps(problem), kind
    sent = body(CARD_2.token, CARD_2.pin, card_options={"card_present": False})
    api.refused(400, "invalid_field", "POST", AUTHORIZATION, sent)
    api.refused(400, "invalid_request", "POST", "/simulate/financial/balanceinquiry",
                {"card_token": CARD_2.token, "mid": "M", "chip": {"virtual": True}})
    # No try was used up.
    answer = pay(api, CARD_2.token, CARD_2.pin)
    assert outcome(answer) == ("0000", "right", 3) and told(answer, "atc") == (1,)


def test_calls_with_a_pin_for_the_chip_are_limited(make_switch):
    limits = "api_pin_calls_per_card_per_minute = 2"
    switch = make_switch(limits=limits, visa_chip=chip("visa")).start()
    api = Api(switch)
    answers = [api.post(AUTHORIZATION, body(CARD_2.token, WRONG)) for _ in range(4)]
    assert {answer.status for answer in answers[2:]} == {429}
    assert pay(api, CARD_2.token)["chip"]["offline_pin"] == "not_entered"


def test_no_pin_is_shown_or_kept_in_clear(switch, api):
    """None in an answer, in the log, or in a file."""
    pins = ["602938471506", "718293604825", "593820174639"]
    of = product(api, "own-chip", pin_viewable=True, parameters={"EMVOP": "Y"})
    card = issue(api, of, pins[0])
    shown = [pay(api, card, pins[0]), pay(api, card, pins[2], pin=pins[2])]
    set_pin(api, card, pins[1])
    shown += [pay(api, card, pins[0]), pay(api, card, pins[1]), pay(api, card, pin=pins[1])]
    assert [code(answer) for answer in shown] == ["0000", "1809", "0000", "0000", "0000"]
    shown.append(follow(api, "/simulate/clearing", shown[-1]))
    switch.terminate()
    texts = {"answers": json.dumps(shown).encode(), "log": switch.log().encode()}
    texts |= canaries.files(switch.data)
    for place, text in texts.items():
        for pin in pins:
            digits = pin.encode()
            assert digits not in text and bytes.fromhex(pin) not in text, place
    assert not re.search(r'"(pin|PIN)[a-z_]*": "\d', json.dumps(shown))
