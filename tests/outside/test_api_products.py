"""Card products by the HTTP API: Marqeta's, Galileo's and our settings, each mistake with its
place, and rules that change while cards use them."""

import json
from dataclasses import replace

import pytest
import settings
from api_client import Api
from chip import FAILED, OK, PROFILES, Chip, told
from messages import CARD_2, Card, authorization, other_pin, pan_of

KEYS = {f"imk_{key}": f"demo-visa-imk-{key}" for key in ("ac", "smi", "smc")}
NEW = {"name": "Debit", "start_date": "2026-01-01", "bins": ["476134"], "currency": "978"}
CHIP = NEW | {"chip": KEYS}
NEW_PIN = "913572"


@pytest.fixture(scope="module")
def api(shared):
    return Api(shared)


@pytest.fixture(scope="module", name="tokens")
def numbered_tokens():
    return (f"product-{number}" for number in range(10_000))


def with_parameters(**parameters):
    return CHIP | {"parameters": parameters}


def create(api, token, body):
    answer = api.post("/cardproducts", {"token": token} | body)
    assert answer.status == 201, answer
    return answer.json


def pointers(api, body, method="POST", path="/cardproducts"):
    problem = api.refused(400, "invalid_settings", method, path, body)
    assert all(error["detail"] for error in problem["errors"])
    return [error["pointer"] for error in problem["errors"]]


# The shapes.

MARQETA = {
    "name": "Marqeta's", "start_date": "2026-01-01", "end_date": "2030-12-31", "active": True,
    "config": {
        "fulfillment": {
            "payment_instrument": "PHYSICAL_COMBO", "bin_prefix": "476134", "pan_length": "16",
            "fulfillment_provider": "PERFECTPLASTIC", "package_id": "0", "bulk_ship": False,
            "allow_card_creation": True, "uppercase_name_lines": True,
            "card_personalization": {
                "text": {"name_line_1": {"value": "A B"}, "name_line_2": {"value": ""}},
                "perso_type": "EMBOSS", "carrier": {"template_id": "1"},
            },
            "shipping": {"method": "UPS_GROUND"},
        },
        "card_life_cycle": {
            "activate_upon_issue": False, "card_service_code": 201,
            "expiration_offset": {"unit": "YEARS", "value": 4},
        },
        "poi": {"atm": True, "ecommerce": True, "other": {"allow": True}},
        "transaction_controls": {"always_require_pin": False, "allow_chip_fallback": True},
        "jit_funding": {"program_funding_source": {"enabled": False}},
        "special": {"merchant_on_boarding": False},
    },
}


def test_a_product_is_shown_as_it_was_sent(api):
    sent = MARQETA | {"token": "of-marqeta", "currency": 978, "limit_per_transaction": 50_000}
    answer = api.post("/cardproducts", sent)
    assert answer.status == 201
    product = answer.json
    assert sent.items() <= product.items()
    assert product.keys() - sent.keys() == {"managed_by", "created_time", "last_modified_time"}
    assert product["managed_by"] == "api"
    assert api.done("GET", "/cardproducts/of-marqeta") == product
    assert api.done("GET", "/v3/cardproducts/of-marqeta") == product
    shown = api.done("GET", "/cardproducts/of-marqeta?fields=token,name")
    assert shown == {"token": "of-marqeta", "name": "Marqeta's"}
    api.refused(404, "no_such_product", "GET", "/cardproducts/nothing")


def test_a_token_is_made_and_one_that_was_chosen_is_idempotent(api):
    made = api.done("POST", "/cardproducts", NEW)
    assert len(made["token"]) == 36 and made["active"] is False
    sent = {"token": "twice"} | with_parameters(EMVOP="Y", FTPAM="50.00")
    first = api.post("/cardproducts", sent)
    again = api.post("/cardproducts", json.dumps(dict(reversed(sent.items())), indent=1).encode())
    assert (first.status, again.status) == (201, 201) and first.json == again.json
    assert first.headers["ETag"] == again.headers["ETag"]
    for other in [{"name": "Other"}, {"parameters": {"EMVOP": "Y"}}, {"pin_retry_limit": 4}]:
        api.refused(409, "token_taken", "POST", "/cardproducts", sent | other)
    # One of the configuration is nobody's to make.
    api.refused(409, "token_taken", "POST", "/cardproducts", NEW | {"token": "demo-debit"})


def test_products_of_the_configuration_are_shown_and_not_changed(api):
    product = api.done("GET", "/cardproducts/demo-debit")
    assert product["managed_by"] == "file" and product["name"] == product["token"] == "demo-debit"
    assert product["bins"] == ["476134", "476135"] and product["active"] is True
    api.refused(409, "product_of_file", "PUT", "/cardproducts/demo-debit", {"name": "Mine"})
    assert api.done("GET", "/cardproducts/demo-debit") == product


def test_a_change_merges_and_null_removes(api):
    create(api, "changing", with_parameters(EMVOP="Y", FTPAM="50.00", FTPDY=3))
    path = "/cardproducts/changing"
    changed = api.done("PUT", path, {"parameters": {"FTPAM": 60.5, "FTPDY": None}, "name": "New"})
    assert changed["parameters"] == {"EMVOP": "Y", "FTPAM": "60.5"}
    assert changed["name"] == "New" and changed["chip"] == KEYS
    assert changed["created_time"] < changed["last_modified_time"]
    assert api.done("GET", path) == changed
    assert api.done("PUT", path, {"parameters": None}).get("parameters") is None
    # What is wrong only together with what is there already.
    assert pointers(api, {"parameters": {"SRPEL": "Y"}}, "PUT", path) == ["/parameters/SRPEL"]
    assert pointers(api, {"chip": {"ftpam": 1}, "parameters": {"FTPAM": 1}}, "PUT", path) == [
        "/chip/ftpam"]
    api.refused(400, "invalid_field", "PUT", path, {"token": "another"})
    api.refused(404, "no_such_product", "PUT", "/cardproducts/nothing", {"name": "X"})


def test_a_change_is_bound_to_a_version(api):
    first = api.post("/cardproducts", NEW | {"token": "bound"}).headers["ETag"]
    path = "/cardproducts/bound"
    assert api.get(path).headers["ETag"] == first
    second = api.put(path, {"name": "B"}, If_Match=first).headers["ETag"]
    assert second != first
    api.refused(412, "version_changed", "PUT", path, {"name": "C"}, If_Match=first)
    api.refused(412, "version_changed", "PUT", path, {"name": "C"}, If_Match=f"W/{second}")
    assert api.done("GET", path)["name"] == "B"
    assert api.put(path, {"name": "D"}, If_Match="*").status == 200


def test_a_list_is_read_to_its_end(make_switch):
    api = Api(make_switch().start())
    of_file = [product["token"] for product in
               api.done("GET", "/cardproducts?count=100&sort_by=token")["data"]]
    assert "demo-debit" in of_file
    tokens = [f"product-{number:02}" for number in range(12)]
    for token in tokens:
        create(api, token, NEW | {"name": token[::-1]})
    newest = api.done("GET", "/cardproducts")
    assert [it["token"] for it in newest["data"]] == tokens[:-6:-1] and newest["is_more"]
    seen, after = [], ""
    while True:
        page = api.done("GET", f"/cardproducts?count=4&sort_by=token&fields=token{after}")
        seen += [it["token"] for it in page["data"]]
        if not page["is_more"]:
            break
        after = f"&after={page['next']}"
    assert seen == sorted(of_file + tokens)
    api.refused(413, "count_too_large", "GET", "/cardproducts?count=101")
    api.refused(400, "invalid_request", "GET", "/cardproducts?sort_by=bins")


def test_scopes(api, shared):
    def key(scope):
        new = {"token": scope.replace(":", "-"), "scopes": [scope]}
        return Api(shared, key=(new["token"], api.done("POST", "/apikeys", new)["secret"]))

    maker, reader, other = key("products"), key("cards:read"), key("cards:write")
    create(maker, "scoped", NEW)
    for caller in (maker, reader):
        assert caller.get("/cardproducts/scoped").status == 200
        assert caller.get("/cardproducts").status == 200
    for caller in (reader, other):
        caller.refused(403, "forbidden", "POST", "/cardproducts", NEW)
        caller.refused(403, "forbidden", "PUT", "/cardproducts/scoped", {"name": "X"})
    other.refused(403, "forbidden", "GET", "/cardproducts")


# Mistakes.

MISTAKES = [
    ({"bins": None}, ["/bins"]),
    ({"bins": []}, ["/bins"]),
    ({"bins": ["47613"], "currency": None}, ["/currency"]),
    ({"bins": ["12"]}, ["/bins"]),
    ({"bins": [476134]}, ["/bins"]),
    ({"currency": "EURO"}, ["/currency"]),
    ({"currency": 1000}, ["/currency"]),
    ({"currency": 978.5}, ["/currency"]),
    ({"name": None}, ["/name"]),
    ({"name": ""}, ["/name"]),
    ({"name": "x" * 41}, ["/name"]),
    ({"start_date": None}, ["/start_date"]),
    ({"start_date": "2026-02-30"}, ["/start_date"]),
    ({"end_date": "2025-12-31"}, ["/end_date"]),
    ({"active": "yes"}, ["/active"]),
    ({"colour": "red"}, ["/colour"]),
    ({"4761340000000019": "red"}, [""]),
    ({"pin_retry_limit": 0}, ["/pin_retry_limit"]),
    ({"pin_retry_limit": "never"}, ["/pin_retry_limit"]),
    ({"pin_viewable": 1}, ["/pin_viewable"]),
    ({"limit_per_transaction": -1}, ["/limit_per_transaction"]),
    ({"region": "mx"}, ["/region"]),
    ({"region": "XX"}, ["/region"]),
    ({"embosser": "a b"}, ["/embosser"]),
    ({"cvm_order": ["pin_online", "thumb"]}, ["/cvm_order"]),
    ({"cvm_order": ["no_cvm", "no_cvm"]}, ["/cvm_order"]),
    ({"cvm_order": []}, ["/cvm_order"]),
    ({"chip": {"imk_ac": "demo-visa-imk-ac"}}, ["/chip/imk_smc", "/chip/imk_smi"]),
    ({"chip": KEYS | {"ftpam": 50.5}}, ["/chip/ftpam"]),
    ({"parameters": []}, ["/parameters"]),
    ({"parameters": {"EMVOB": "Y"}}, ["/parameters/EMVOB"]),
    ({"config": {"colour": {}}}, ["/config/colour"]),
    ({"config": {"fulfillment": {"payment_instrument": "GOLD"}}},
     ["/config/fulfillment/payment_instrument"]),
    ({"config": {"fulfillment": {"bin_prefix": "476134"}}}, ["/config/fulfillment/bin_prefix"]),
    ({"config": {"fulfillment": {"pan_length": "9"}}}, ["/config/fulfillment/pan_length"]),
    ({"config": {"transaction_controls": {"always": 1}}}, ["/config/transaction_controls/always"]),
    ({"config": {"card_life_cycle": {"expiration_offset": {"unit": "WEEKS", "value": 1}}}},
     ["/config/card_life_cycle/expiration_offset/unit"]),
]


@pytest.mark.parametrize("change, places", MISTAKES)
def test_a_mistake_has_its_place_and_repeats_nothing(api, change, places):
    body = NEW | change
    assert sorted(pointers(api, body)) == places
    text = api.post("/cardproducts", body).body.decode()
    assert "476134" not in text and "red" not in text


def test_all_mistakes_are_told_at_once(api):
    body = {"currency": 0, "bins": ["x"], "parameters": {"EMVOP": 1, "KPPIN": "maybe"}}
    assert set(pointers(api, body)) == {
        "/name", "/start_date", "/currency", "/bins", "/parameters/EMVOP", "/parameters/KPPIN"}


def test_what_is_named_twice_is_refused(api):
    for body in [b'{"name": "a", "name": "b"}', b'{"parameters": {"FTPAM": 1, "FTPAM": 1}}',
                 b'{"chip": {"imk_ac": "a", "imk_ac": "a"}}']:
        problem = api.refused(400, "invalid_request", "POST", "/cardproducts", body)
        assert "named once" in problem["detail"]


def test_a_key_that_is_not_there_is_named(api):
    chip = KEYS | {"imk_ac": "nobodys-key"}
    api.refused(400, "key_missing", "POST", "/cardproducts", NEW | {"chip": chip})


# Galileo's parameters.

WRONG_PARAMETERS = [
    ("EMVOP", ["y", "", "YES", True, 1]),
    ("EMBFL", ["Y", "", "pinblock"]),
    ("FTPAM", ["50.001", "0", "-1", "1e3", "50,00", "", "9999999999999", 0.001, True, "NaN"]),
    ("FTPDY", [-1, "1.5", 3651, "seven", 1.0]),
    ("OFPBE", [0, -1, 3651, "x"]),
    ("KPPIN", ["X", 1]),
    ("CASPO", ["phone", "PRN"]),
    ("XAACT", ["YN", "YNOO", "yno", "YNQ", 5]),
]


@pytest.mark.parametrize("name, values", WRONG_PARAMETERS, ids=[it[0] for it in WRONG_PARAMETERS])
def test_a_wrong_parameter_is_told_with_what_it_does(api, name, values):
    """R133, R135, R136, R138, R142, R144, R149, R151: what each parameter may be, and what it
    does, is said where it is wrong."""
    does = {"EMVOP": "encoded in the chip", "EMBFL": "emboss file", "FTPAM": "offline PIN",
            "FTPDY": "offline PIN", "OFPBE": "kept for the chip", "KPPIN": "keeps the PIN",
            "CASPO": "first PIN", "XAACT": "first statuses"}
    for value in values:
        problem = api.refused(400, "invalid_settings", "POST", "/cardproducts",
                              with_parameters(**{name: value}))
        (error,) = problem["errors"]
        assert error["pointer"] == f"/parameters/{name}", value
        assert does[name] in error["detail"], error


def test_every_parameter_is_kept_as_it_was_sent(api):
    """R133, R135, R142, R144, R146, R147, R149, R151: parameters of all nine names."""
    sent = {"EMVOP": "Y", "EMBFL": "PINBLOCK", "FTPAM": "50.00", "FTPDY": "7", "OFPBE": "9",
            "KPPIN": "Y", "SRPEL": "Y", "CASPO": "mobile_phone", "XAACT": "YNX"}
    body = CHIP | {"region": "MX", "parameters": sent, "embosser": "demo-xml"}
    product = create(api, "all-parameters", body)
    assert product["parameters"] == sent and product["region"] == "MX"
    assert product["embosser"] == "demo-xml"


def test_a_decimal_amount_has_the_digits_of_its_currency(api, tokens):
    """R136: FTPAM is a decimal number in the product's currency."""
    for currency, right, wrong in [
        ("978", ["50.00", 50, 50.25, "0.01"], ["50.001"]),
        (392, ["50", 50], ["50.0", 50.5]),
        ("414", ["1.250", 0.001], ["1.2505"]),
        (990, ["1.2345"], ["1.23456"]),
        # Gold has no minor unit.
        (959, [], ["1", 1]),
    ]:
        for ftpam in right:
            create(api, next(tokens), with_parameters(FTPAM=ftpam) | {"currency": currency})
        for ftpam in wrong:
            body = with_parameters(FTPAM=ftpam) | {"currency": currency}
            assert pointers(api, body) == ["/parameters/FTPAM"], (currency, ftpam)
    # A binary float would round it to an amount that is allowed.
    exact = b'{"FTPAM": 1.0000000000000000001, "EMVOP": "Y"}'
    body = json.dumps(with_parameters(FTPAM="@")).encode().replace(b'{"FTPAM": "@"}', exact)
    assert pointers(api, body) == ["/parameters/FTPAM"]


def test_a_setting_is_there_once_in_whichever_spelling(api):
    for key, value, name, parameter in [
        ("offline_pin", True, "EMVOP", "Y"), ("ftpam", 5000, "FTPAM", "50.00"),
        ("ftpdy", 7, "FTPDY", "7"), ("ofpbe", 7, "OFPBE", 7),
    ]:
        body = NEW | {"chip": KEYS | {key: value}, "parameters": {name: parameter}}
        assert pointers(api, body) == [f"/chip/{key}"]


def test_what_governs_chips_needs_their_keys(api):
    parameters = {"EMVOP": "Y", "FTPAM": "50.00", "FTPDY": 7, "OFPBE": 7}
    places = [f"/parameters/{name}" for name in parameters]
    assert pointers(api, NEW | {"parameters": parameters}) == places
    offline = {"config": {"fulfillment": {"enable_offline_pin": True}}}
    assert pointers(api, NEW | offline) == ["/config/fulfillment/enable_offline_pin"]
    contradiction = with_parameters(EMVOP="N") | offline
    assert pointers(api, contradiction) == ["/config/fulfillment/enable_offline_pin"]


def test_mexico_has_rules_of_its_own(api, tokens):
    """R147, R151, R161, R171: SRPEL is Mexico's alone; no scenario 1 and none of embossers' zeros
    there."""
    def mexican(**parameters):
        return with_parameters(**parameters) | {"region": "MX"}

    assert pointers(api, with_parameters(SRPEL="Y")) == ["/parameters/SRPEL"]
    assert pointers(api, with_parameters(SRPEL="Y") | {"region": "US"}) == ["/parameters/SRPEL"]
    create(api, next(tokens), mexican(SRPEL="Y", KPPIN="Y", EMVOP="Y", EMBFL="PINBLOCK"))
    assert pointers(api, mexican(EMVOP="Y")) == ["/parameters/EMVOP"]
    assert pointers(api, mexican(XAACT="YNO", EMVOP="Y", EMBFL="PINBLOCK")) == [
        "/parameters/XAACT"]
    assert pointers(api, NEW | {"region": "MX", "chip": KEYS | {"offline_pin": True}}) == ["/chip"]
    # Elsewhere both are what the scenarios set (R152, R167).
    create(api, next(tokens), with_parameters(XAACT="YNO", EMVOP="Y", EMBFL="PINBLOCK"))
    create(api, next(tokens), with_parameters(EMVOP="Y"))


def test_a_pin_that_nobody_could_show_or_emboss_is_refused(api, tokens):
    pvv = {"pin_verification": {"method": "visa_pvv", "pvk": "demo-pvk", "pvki": 1}}
    for parameters, place in [
        ({"EMVOP": "Y"}, "EMVOP"), ({"EMVOP": "Y", "EMBFL": "PINBLOCK"}, "EMVOP"),
        ({"KPPIN": "Y"}, "KPPIN"), ({"SRPEL": "Y"}, "SRPEL"),
    ]:
        body = with_parameters(**parameters) | {"region": "MX" if place == "SRPEL" else "FR"}
        assert pointers(api, body | pvv) == [f"/parameters/{place}"]
        create(api, next(tokens), body | pvv | {"pin_viewable": True})
        create(api, next(tokens), body)
    # The cardholder sets it before the card is embossed, or knows it.
    for more in [{"XAACT": "YNO"}, {"CASPO": "prn"}]:
        create(api, next(tokens), with_parameters(EMVOP="Y", EMBFL="PINBLOCK", **more) | pvv)


def test_the_order_of_verification_methods(api, tokens):
    """R129, R130, R131, R199: the orders of the scenarios; offline PIN is in the list exactly where
    the chip holds the PIN."""
    scenario_1 = ["pin_online", "pin_offline", "signature", "no_cvm"]
    scenario_2 = ["pin_offline", "pin_online", "signature", "no_cvm"]
    for order in (scenario_1, scenario_2):
        body = with_parameters(EMVOP="Y") | {"cvm_order": order}
        assert create(api, next(tokens), body)["cvm_order"] == order
        assert pointers(api, with_parameters(EMVOP="N") | {"cvm_order": order}) == ["/cvm_order"]
    without = ["pin_online", "signature", "no_cvm"]
    assert pointers(api, with_parameters(EMVOP="Y") | {"cvm_order": without}) == ["/cvm_order"]
    create(api, next(tokens), NEW | {"cvm_order": without})


@pytest.mark.parametrize("region, first", [
    ("US", "pin_online"), ("CO", "pin_online"), ("CA", "pin_offline"), ("MX", "pin_offline"),
    ("CL", "pin_offline"), ("DE", "pin_online"),
])
def test_a_region_prefers_one_way_of_verifying_the_pin(api, tokens, region, first):
    """R175: the order where the product says none; it is shown, and follows the region."""
    second = "pin_offline" if first == "pin_online" else "pin_online"
    token, chip = next(tokens), with_parameters(EMVOP="Y", EMBFL="PINBLOCK")
    made = create(api, token, chip | {"region": region})
    assert made["cvm_order"] == [first, second, "signature", "no_cvm"]
    moved = api.done("PUT", f"/cardproducts/{token}", {"region": None})
    assert moved["cvm_order"][0] == "pin_online"
    listed = create(api, next(tokens), CHIP | {"region": region})["cvm_order"]
    assert listed == ["pin_online", "signature", "no_cvm"]
    assert "cvm_order" not in create(api, next(tokens), NEW | {"region": region})


# What the settings do.

@pytest.fixture
def switch(make_switch):
    return make_switch(visa_chip=settings.chip("visa")).start()


def add_card(switch, product, number, pin="4071"):
    card = Card(f"card-{number}", pan_of("476134", 500_000 + number), pin, product)
    return switch.add(card)


def answers(link, card, pins):
    answers = [link.ask(authorization(card, pin)) for pin in pins]
    return [answer.reason or answer.code for answer in answers]


def test_the_limit_of_wrong_pins(switch):
    """R125: a limit per product, 3 where nothing is said, then the card is locked; or none."""
    api = Api(switch)
    with switch.connect() as link:
        for number, (limit, reasons) in enumerate([
            ({}, ["1809", "1809", "1872"]),
            ({"pin_retry_limit": 1}, ["1872", "1872"]),
            ({"pin_retry_limit": 5}, ["1809"] * 4 + ["1872"]),
            ({"pin_retry_limit": "none"}, ["1809"] * 7),
        ]):
            create(api, f"limit-{number}", NEW | limit)
            card = add_card(switch, f"limit-{number}", number)
            assert answers(link, card, [other_pin(card.pin)] * len(reasons)) == reasons
            locked = "1872" in reasons
            # Also with the right PIN, where a PIN is wanted and where none is.
            assert answers(link, card, [card.pin]) == ["1872" if locked else "00"]
            assert switch.show(card.token)["state"] == ("SUSPENDED" if locked else "ACTIVE")


def test_a_new_pin_unlocks_where_the_product_says_so(switch):
    """R126: unlock by requesting a new PIN."""
    api = Api(switch)
    with switch.connect() as link:
        for number, lifts in enumerate([False, True]):
            create(api, f"lifts-{lifts}", NEW | {"pin_set_lifts_suspension": lifts})
            card = add_card(switch, f"lifts-{lifts}", number)
            assert answers(link, card, [other_pin(card.pin)] * 3)[-1] == "1872"
            shown = json.loads(switch.done("card", "set-pin", card.token, stdin="8264"))
            assert shown["state"] == ("ACTIVE" if lifts else "SUSPENDED")
            assert shown["pin_try_counter"] == 0
            assert answers(link, card, ["8264"]) == ["00" if lifts else "1872"]
    events = [event["type"] for event in api.done("GET", "/events?count=1000")["events"]
              if event.get("card_token") == "card-1"]
    assert events[-2:] == ["cardactions.pin.changed", "cardtransition.state.reinstated"] or \
        events[-3:-1] == ["cardactions.pin.changed", "cardtransition.state.reinstated"]
    # Only what wrong PINs have locked.
    switch.done("card", "transition", "card-1", "SUSPENDED", "--reason-code", "10")
    assert json.loads(switch.done("card", "set-pin", "card-1", stdin="8264"))["state"] == \
        "SUSPENDED"


def test_rules_change_while_a_card_uses_them(switch):
    """R196: whether a PIN is required is the product's setting, and in force from the answer on."""
    api = Api(switch)
    create(api, "moving", NEW | {"pin_required": "never", "limit_per_transaction": 100_000})
    card = add_card(switch, "moving", 7)
    path = "/cardproducts/moving"
    with switch.connect() as link:
        assert answers(link, card, [None]) == ["00"]
        api.done("PUT", path, {"pin_required": "card_present"})
        assert answers(link, card, [None, card.pin]) == ["1012", "00"]
        api.done("PUT", path, {"limit_per_transaction": 1})
        assert answers(link, card, [card.pin]) == ["1021"]
        api.done("PUT", path, {"limit_per_transaction": None})
        assert answers(link, card, [card.pin]) == ["00"]
        # What its cards hold it to.
        for change in ({"currency": 840}, {"bins": ["476135"]}):
            api.refused(409, "product_has_cards", "PUT", path, change)
        api.done("PUT", path, {"bins": ["476134", "476135"]})
        assert answers(link, card, [card.pin]) == ["00"]
    before = api.done("GET", path)
    assert switch.kill() != 0
    switch.start()
    assert Api(switch).done("GET", path) == before
    with switch.connect() as link:
        assert answers(link, card, [None]) == ["1012"]


def of_visa(product):
    """A chip of the demo's keys, whose card is of another product."""
    card = replace(CARD_2, token="chip-card", product=product, pan=pan_of("476134", 600_001))
    return Chip(replace(PROFILES[0], card=card)), card


SPELLINGS = {
    "Galileo": {"parameters": {"EMVOP": "Y", "FTPAM": "50.00", "FTPDY": 7}},
    "Galileo, numbers": {"parameters": {"EMVOP": "Y", "FTPAM": 50.00, "FTPDY": "7"}},
    "ours": {"chip": KEYS | {"offline_pin": True, "ftpam": 5000, "ftpdy": 7}},
    "Marqeta": {"config": {"fulfillment": {"enable_offline_pin": True}},
                "parameters": {"FTPAM": "50.00", "FTPDY": 7}},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_below_ftpam_a_changed_pin_is_not_needed(switch, spelling):
    """R133, R136, R140, R141: offline PIN and the amount below which it is not needed, in every
    spelling; the approved transaction carries the script, and the bypass is in the log."""
    create(Api(switch), "chips", CHIP | SPELLINGS[spelling])
    chip, card = of_visa("chips")
    switch.add(card)
    switch.done("card", "set-pin", card.token, stdin=NEW_PIN)
    with switch.connect() as link:
        at = link.ask(chip.request(amount=5000, pin=FAILED))
        assert (at.reason, told(at)[2]) == ("1809", None)
        below = link.ask(chip.request(amount=4999, pin=FAILED))
        assert (below.code, told(below)[2]) == ("00", chip.pin_change(NEW_PIN))
    assert switch.terminate() == 0
    assert switch.log().count("offline PIN bypassed") == 1


def test_without_ftpam_nothing_is_bypassed(switch):
    """R137, R139: without FTPAM the offline PIN is needed, until a transaction carries the change;
    FTPDY alone changes nothing."""
    api = Api(switch)
    create(api, "strict", with_parameters(EMVOP="Y", FTPDY=7))
    chip, card = of_visa("strict")
    switch.add(card)
    switch.done("card", "set-pin", card.token, stdin=NEW_PIN)
    with switch.connect() as link:
        assert link.ask(chip.request(amount=1, pin=FAILED)).reason == "1809"
        # The product changes while the card uses it.
        api.done("PUT", "/cardproducts/strict", {"parameters": {"FTPAM": "0.02"}})
        assert link.ask(chip.request(amount=2, pin=FAILED)).reason == "1809"
        assert link.ask(chip.request(amount=1, pin=FAILED)).code == "00"


def test_without_emvop_the_pin_is_verified_online_only(switch):
    """R134: EMVOP unset or N: no PIN in the chip, nothing waits for it."""
    api = Api(switch)
    for name, body in [("unset", CHIP), ("no", with_parameters(EMVOP="N"))]:
        create(api, name, body)
        chip, card = of_visa(name)
        card = replace(card, token=name, pan=pan_of("476134", 600_002 + len(name)))
        switch.add(card)
        shown = json.loads(switch.done("card", "set-pin", card.token, stdin=NEW_PIN))
        assert shown["chip_sync"] == "in_sync"
        assert switch.command("card", "unblock", card.token).returncode == 1


def test_kppin_keeps_the_pin_of_a_card_that_is_reissued(switch):
    """R144, R145: KPPIN=Y keeps the PIN; with Galileo's other parameters alone it ends with the
    activation of the new card."""
    api = Api(switch)
    api.done("POST", "/users", {"token": "ada"})
    for name, parameters, keeps in [
        ("keeps", {"KPPIN": "Y"}, True), ("ends", {"KPPIN": "N"}, False),
        ("unset", {"OFPBE": 7}, False),
    ]:
        create(api, name, CHIP | {"parameters": parameters})
        form = {"card_product_token": name, "user_token": "ada"}
        card = api.done("POST", "/cards", form)["token"]
        control = api.done("POST", "/pins/controltoken", {"card_token": card})["control_token"]
        api.done("PUT", "/pins", {"control_token": control, "pin": "9246"})
        move = {"state": "ACTIVE", "channel": "API"}
        api.done("POST", "/cardtransitions", move | {"card_token": card})
        new = api.done("POST", "/cards", form | {"reissue_pan_from_card_token": card})["token"]
        api.done("POST", "/cardtransitions", move | {"card_token": new})
        assert api.done("GET", f"/cards/{new}")["pin_is_set"] is keeps
        verified = api.done("POST", "/pins/verify", {"card_token": new, "pin": "9246"})
        assert verified["response"]["code"] == ("0000" if keeps else "1012")


def test_mexico_unblocks_the_chip_at_an_atm(switch):
    """R127: unlock at an ATM with the right PIN, in Mexico only."""
    for region, unblocks in [("US", False), ("MX", True)]:
        body = with_parameters(EMVOP="Y", EMBFL="PINBLOCK") | {"region": region}
        create(Api(switch), region, body)
        card = replace(CARD_2, token=f"card-{region}", product=region,
                       pan=pan_of("476134", 600_010 + unblocks))
        chip = Chip(replace(PROFILES[0], card=switch.add(card)))
        with switch.connect() as link:
            request = chip.request(
                online_pin=card.pin, exhausted=True, tags={"9F34": "420300", "9C": "01"},
                changes={"3": "010000"})
            answer = link.ask(request)
            assert answer.code == "00"
            assert told(answer)[2] == (chip.unblock() if unblocks else None)


def test_a_right_offline_pin_is_told_in_the_request(switch):
    """R197: a right offline PIN of a product made by the API is told, and approved."""
    create(Api(switch), "told", with_parameters(EMVOP="Y"))
    chip, card = of_visa("told")
    switch.add(card)
    with switch.connect() as link:
        assert link.ask(chip.request(pin=OK)).code == "00"


def test_the_audit_names_who_changed_a_product(switch):
    api = Api(switch)
    create(api, "audited", NEW)
    api.done("PUT", "/cardproducts/audited", {"name": "B"})
    api.refused(409, "product_of_file", "PUT", "/cardproducts/demo-debit", {"name": "B"})
    assert switch.terminate() == 0
    lines = [line for line in switch.log().splitlines() if 'action="set product"' in line]
    by_api = [line for line in lines if "api_key demo from 127.0.0.1" in line]
    assert [('product="audited"' in line, "done=true" in line) for line in by_api] == [
        (True, True), (True, True), (False, False)]
    assert "ProductOfFile" in by_api[-1]
