"""What Marqeta's documents tell of PINs, step by step: what the issuer does goes over HTTP, what
the terminal does over TCP, and a test is named by its story."""

import pytest
import settings
from api_client import Api
from chip import FAILED, OK, PROFILES, Chip, told
from messages import CARD_2, Card, authorization, other_pin

OLD_PIN, NEW_PIN = "9246", "5803"
WRONG = {"code": "1809", "memo": "Invalid Pin"}
EXCEEDED = {"code": "1872", "memo": "Pin try limit exceeded"}
APPROVED = "0000"
# As far as an offline PIN goes, the product asks for it and writes a changed one to the chip.
RULES = "ftpam = 5000\nftpdy = 7\n"


@pytest.fixture
def switch(make_switch):
    return make_switch(visa_chip=settings.chip("visa", RULES)).start()


@pytest.fixture
def api(switch):
    return Api(switch)


def product(api, **more):
    form = {"token": "program-debit", "name": "Debit", "start_date": "2026-01-01",
            "bins": ["476135"], "currency": "978"}
    assert api.post("/cardproducts", form | more).status == 201
    return form["token"]


def issue(api, of, **more):
    """A card, with its PAN as a terminal reads it."""
    form = {"user_token": "ada", "card_product_token": of} | more
    answer = api.post("/cards", form)
    assert answer.status == 201, answer
    card = answer.json
    pan = api.done("GET", f"/cards/{card['token']}/showpan")["pan"]
    expiry = card["expiration"][2:] + card["expiration"][:2]
    return Card(card["token"], pan, OLD_PIN, of, expiry, card["pan_sequence_number"])


def set_pin(api, card, pin):
    control = api.post("/pins/controltoken", {"card_token": card.token})
    assert control.status == 201
    form = {"control_token": control.json["control_token"], "pin": pin}
    assert api.put("/pins", form).status == 204


def move(api, card, state, **more):
    form = {"card_token": card.token, "state": state, "channel": "API"} | more
    return api.done("POST", "/cardtransitions", form)


def shown(api, card):
    found = api.done("GET", f"/cards/{card.token}")
    return found["state"], found["pin_try_counter"]


def newest(api, card):
    """What the newest transaction of a card shows for its answer."""
    path = f"/transactions?card_token={card.token}&state=ALL&count=1"
    return api.done("GET", path)["data"][0]["response"]


def at_terminal(link, card, pin, **changes):
    """DE39 of a payment, or of a withdrawal where `changes` say so."""
    return link.ask(authorization(card, pin, changes=changes)).code


ATM = {"3": "010000", "18": "6011"}


def locked(switch, api):
    """A card that is in use, until its cardholder has typed three wrong PINs."""
    api.done("POST", "/users", {"token": "ada", "first_name": "Ada"})
    card = issue(api, product(api))
    set_pin(api, card, OLD_PIN)
    move(api, card, "ACTIVE")
    with switch.connect() as link:
        assert at_terminal(link, card, OLD_PIN) == "00"
        for tries, (code, response) in enumerate([("55", WRONG), ("55", WRONG), ("75", EXCEEDED)]):
            assert at_terminal(link, card, other_pin(OLD_PIN)) == code
            found = newest(api, card)
            assert {name: found[name] for name in response} == response
            assert shown(api, card)[1] == tries + 1
    return card


def test_a_pin_is_set_at_creation(switch, api):
    """The steps of a card whose PIN is set before it is sent: R20, R22, R23, R24, R99 to R103."""
    api.done("POST", "/users", {"token": "ada", "first_name": "Ada"})
    # Step 1: the card product.
    of = product(api)
    # Step 2: the card, of this user and product. It has no PIN.
    card = issue(api, of)
    found = api.done("GET", f"/cards/{card.token}")
    assert (found["state"], found["pin_is_set"]) == ("UNACTIVATED", False)
    # Step 3: the control token. Step 4: the PIN, before the card is activated.
    set_pin(api, card, OLD_PIN)
    found = api.done("GET", f"/cards/{card.token}")
    assert (found["state"], found["pin_is_set"]) == ("UNACTIVATED", True)
    with switch.connect() as link:
        assert at_terminal(link, card, OLD_PIN) == "78"
        # Step 5: the cardholder has the card and activates it.
        assert move(api, card, "ACTIVE")["type"] == "state.activated"
        # Step 6: the first payment with this PIN succeeds, and no other one does.
        assert at_terminal(link, card, OLD_PIN) == "00"
        assert newest(api, card)["code"] == APPROVED
        assert at_terminal(link, card, other_pin(OLD_PIN)) == "55"
    found = newest(api, card)
    assert {name: found[name] for name in WRONG} == WRONG


def test_a_locked_card(switch, api):
    """Too many wrong PINs: R80 to R84, R86, R98, R205. Every terminal declines, other cards of the
    cardholder go on, and it stays so until the issuer acts."""
    card = locked(switch, api)
    assert shown(api, card) == ("SUSPENDED", 3)
    (suspended,) = api.done("GET", f"/cardtransitions/card/{card.token}?count=1")["data"]
    assert (suspended["type"], suspended["channel"]) == ("state.suspended", "SYSTEM")
    assert (suspended["reason_code"], suspended["reason"]) == ("22", "Pin Retry Limit Reached")
    other = issue(api, "program-debit")
    set_pin(api, other, OLD_PIN)
    move(api, other, "ACTIVE")
    switch.kill()
    switch.start()
    api = Api(switch)
    with switch.connect() as link:
        for changes in ({}, ATM):
            for pin in (OLD_PIN, other_pin(OLD_PIN)):
                assert at_terminal(link, card, pin, **changes) == "75"
                found = newest(api, card)
                assert {name: found[name] for name in EXCEEDED} == EXCEEDED
            assert at_terminal(link, other, OLD_PIN, **changes) == "00"
    assert shown(api, card) == ("SUSPENDED", 3)


def test_a_locked_card_scenario_a_the_card_is_reissued(switch, api):
    """R93: others may know the card, so it is replaced: the counter of the new one is zero,
    and its cardholder chooses a new PIN."""
    card = locked(switch, api)
    # Step 1: the new card.
    new = issue(api, "program-debit", reissue_pan_from_card_token=card.token)
    assert shown(api, new) == ("UNACTIVATED", 0)
    # Step 2: the new PIN.
    set_pin(api, new, NEW_PIN)
    # Step 3: the cardholder activates it, and the one before has ended.
    move(api, new, "ACTIVE")
    assert shown(api, new) == ("ACTIVE", 0) and shown(api, card)[0] == "TERMINATED"
    with switch.connect() as link:
        assert at_terminal(link, new, NEW_PIN) == "00"
        assert at_terminal(link, new, OLD_PIN) == "55"
        # The expiration may be the same: the sequence number tells the two apart.
        plastics = [(new, "00"), (card, "62")]
        for plastic, code in plastics:
            assert at_terminal(link, plastic, NEW_PIN, **{"23": f"0{plastic.sequence}"}) == code


def test_a_locked_card_scenario_b_the_pin_is_reset(switch, api):
    """R94, R95, R96, R90, R92: a new PIN zeroes the counter, and the transition ends the
    suspension."""
    card = locked(switch, api)
    with switch.connect() as link:
        # Step 1: the PIN is reset. The card is suspended still.
        set_pin(api, card, NEW_PIN)
        assert shown(api, card) == ("SUSPENDED", 0)
        assert at_terminal(link, card, NEW_PIN) == "75"
        # Step 2: the transition.
        assert move(api, card, "ACTIVE")["type"] == "state.reinstated"
        assert shown(api, card) == ("ACTIVE", 0)
        assert at_terminal(link, card, NEW_PIN) == "00"
        assert at_terminal(link, card, OLD_PIN) == "55"


def test_a_locked_card_scenario_c_the_card_is_moved_only(switch, api):
    """R97, R90, R92: the transition alone; the PIN is as it was, and all tries are there."""
    card = locked(switch, api)
    assert move(api, card, "ACTIVE", reason_code="32")["type"] == "state.reinstated"
    assert shown(api, card) == ("ACTIVE", 0)
    with switch.connect() as link:
        codes = [at_terminal(link, card, pin) for pin in
                 (OLD_PIN, *[other_pin(OLD_PIN)] * 3)]
    assert codes == ["00", "55", "55", "75"]


def test_a_locked_card_is_terminated(switch, api):
    """R91: what was suspended may end for good."""
    card = locked(switch, api)
    assert move(api, card, "TERMINATED")["type"] == "state.terminated"
    api.refused(409, "card_terminated", "POST", "/cardtransitions",
                {"card_token": card.token, "state": "ACTIVE", "channel": "API"})
    with switch.connect() as link:
        assert at_terminal(link, card, OLD_PIN) == "62"


# Offline PINs. The terminal and the chip are pyemv's; what they do without the issuer is that no
# message comes.


def chip_card(api):
    """A card of the demo with a chip."""
    api.done("GET", f"/cards/{CARD_2.token}")
    return Chip(PROFILES[0])


def sync(api):
    return api.done("GET", f"/cards/{CARD_2.token}")["chip_sync"]


EXHAUSTED = dict(pin=FAILED, exhausted=True)
# The terminal has taken a signature instead.
SIGNED = EXHAUSTED | dict(tags={"9F34": "1E0300"}, tvr="0000208000")


def test_offline_pin_reset_and_resync(switch, api):
    """R105 to R108, R112 to R114, R117: the PIN is reset; the chip holds the old one until its
    third try has failed and the terminal goes online."""
    chip = chip_card(api)
    with switch.connect() as link:
        assert link.ask(chip.request(pin=OK)).code == "00"
        # Step 1: the PIN is reset, and the change waits for the chip.
        set_pin(api, CARD_2, NEW_PIN)
        assert sync(api).startswith("pending")
        # Step 2: at a terminal the first and the second try fail on the chip; no message tells it.
        # Step 3: the third one fails too; the terminal takes a signature and asks the issuer, who
        # approves without a PIN and sends the script.
        answer = link.ask(chip.request(**SIGNED))
        assert answer.code == "00"
        _, _, command = told(answer)
        assert command == chip.pin_change(NEW_PIN)
        assert sync(api).startswith("sent")
        # Step 4: the next payment prompts for the offline PIN, which is the new one.
        chip.tries_left = 3
        assert link.ask(chip.request(pin=OK, scripts=1)).code == "00"
    assert not sync(api).startswith(("pending", "sent"))


def test_offline_pin_exhausted_and_not_reset(switch, api):
    """R115, R116: without a reset each attempt is declined with 1872, until there is one and its
    script has run."""
    chip = chip_card(api)
    with switch.connect() as link:
        for _ in range(3):
            answer = link.ask(chip.request(**EXHAUSTED))
            assert (answer.code, answer.reason, told(answer)[2]) == ("75", "1872", None)
            found = newest(api, CARD_2)
            assert {name: found[name] for name in EXCEEDED} == EXCEEDED
        # A transition unblocks no chip.
        assert shown(api, CARD_2)[0] == "ACTIVE"
        # The reset, after which the next attempt is approved and brings the script.
        set_pin(api, CARD_2, NEW_PIN)
        answer = link.ask(chip.request(**SIGNED))
        assert (answer.code, told(answer)[2]) == ("00", chip.pin_change(NEW_PIN))
        chip.tries_left = 3
        assert link.ask(chip.request(pin=OK, scripts=1)).code == "00"


def test_offline_pin_exhausted_and_the_online_pin_right(switch, api):
    """R193, R106, R107: after the third try the terminal may ask for the online PIN: the right one,
    which is the new one, is approved and brings the script."""
    chip = chip_card(api)
    set_pin(api, CARD_2, NEW_PIN)
    with switch.connect() as link:
        online = dict(exhausted=True, tags={"9F34": "420300"})
        wrong = link.ask(chip.request(online_pin=CARD_2.pin, **online))
        assert (wrong.code, told(wrong)[2]) == ("55", None)
        right = link.ask(chip.request(online_pin=NEW_PIN, **online))
        assert (right.code, told(right)[2]) == ("00", chip.pin_change(NEW_PIN))


# The same with the virtual chip, by HTTP alone. The product is one of Marqeta's, with
# `enable_offline_pin` and no threshold of Galileo's.


@pytest.fixture
def chip_program(api):
    """A card with a chip as Marqeta's document makes it: product, card, PIN, fulfilment, and its
    holder has put it into use."""
    api.done("POST", "/users", {"token": "ada", "first_name": "Ada"})
    keys = {f"imk_{key}": f"demo-visa-imk-{key}" for key in ("ac", "smi", "smc")}
    of = product(api, chip=keys, bins=["476134"], pin_viewable=True,
                 config={"fulfillment": {"enable_offline_pin": True}})
    card = issue(api, of)
    set_pin(api, card, OLD_PIN)
    api.done("POST", "/simulations/fulfillment", {"card_token": card.token})
    move(api, card, "ACTIVE")
    return card


def inserted(api, card, entered, **more):
    """What a payment comes to whose cardholder inserts the card and enters this PIN: the code, what
    the chip said to the PIN, its tries left, and whether it has carried a script out."""
    form = {"amount": 80, "card_token": card.token, "mid": "MERCHANT0000001",
            "chip": {"virtual": True, "pin_entered": entered}} | more
    answer = api.done("POST", "/simulate/authorization", form)
    chip = answer["chip"]
    done = chip.get("script", {"done": None})["done"]
    code = answer["transaction"]["response"]["code"]
    return code, chip["offline_pin"], chip["pin_tries_left"], done


def test_pin_reset_and_resync_in_three_tries(api, chip_program):
    """S3, PIN reset and resync: R105 to R108, R110, R112 to R114, R117, R120,
    R121, R183. Each payment goes online, so that the issuer hears of each try."""
    card = chip_program
    assert inserted(api, card, OLD_PIN) == ("0000", "right", 3, None)
    # Step 1: the cardholder resets the PIN. Only the online PIN is the new one.
    set_pin(api, card, NEW_PIN)
    view = api.done("GET", f"/cards/{card.token}")
    assert view["chip_sync"].startswith("pending")
    # Step 2: the first and the second try of the new PIN fail: the chip has the old one.
    assert inserted(api, card, NEW_PIN) == ("1809", "wrong", 2, None)
    assert inserted(api, card, NEW_PIN) == ("1809", "wrong", 1, None)
    # Step 3: the third one fails too. The terminal takes a signature, the issuer approves without a
    # PIN, and its script brings the new PIN and gives the tries back.
    assert inserted(api, card, NEW_PIN) == ("0000", "wrong", 3, True)
    # Step 4: the next payment asks for the PIN, which is the new one; the old one has gone.
    assert inserted(api, card, NEW_PIN) == ("0000", "right", 3, None)
    assert sync_of(api, card) == "in_sync"
    assert inserted(api, card, OLD_PIN) == ("1809", "wrong", 2, None)
    # Neither the online counter nor the card's state has moved.
    assert shown(api, card) == ("ACTIVE", 0)


def sync_of(api, card):
    return api.done("GET", f"/cards/{card.token}")["chip_sync"]


def three_tries(api, card, pin):
    outcomes = [inserted(api, card, pin) for _ in range(3)]
    assert outcomes == [("1809", "wrong", 2, None), ("1809", "wrong", 1, None),
                        ("1872", "wrong", 0, None)]


def test_offline_exhausted_without_a_reset_is_declined_every_time(api, chip_program):
    """S3, PIN tries exhausted without a reset: R110, R115, R116, R183. The cardholder sees 3,
    2, 1, and then every terminal declines, whatever is entered and whoever acts on the card."""
    card = chip_program
    three_tries(api, card, other_pin(OLD_PIN))
    for entered in (OLD_PIN, other_pin(OLD_PIN)):
        assert inserted(api, card, entered) == ("1872", "blocked", 0, None)
        found = newest(api, card)
        assert {name: found[name] for name in EXCEEDED} == EXCEEDED
    # A transition, which sets the online counter back, does not reach the chip.
    move(api, card, "SUSPENDED")
    move(api, card, "ACTIVE")
    assert inserted(api, card, OLD_PIN) == ("1872", "blocked", 0, None)
    # The card is as it was, and so is its online PIN.
    assert shown(api, card) == ("ACTIVE", 0)
    form = {"amount": 80, "card_token": card.token, "mid": "MERCHANT0000001", "pin": OLD_PIN}
    answer = api.done("POST", "/simulate/authorization", form)
    assert answer["transaction"]["response"]["code"] == APPROVED


def test_offline_exhausted_with_a_reset_is_approved_and_unblocked(api, chip_program):
    """S3, PIN tries exhausted with a reset: R112 to R114, R116, R117, R126. The next insertion is
    approved without a PIN, the script runs, and the new PIN works."""
    card = chip_program
    three_tries(api, card, other_pin(OLD_PIN))
    set_pin(api, card, NEW_PIN)
    assert inserted(api, card, NEW_PIN) == ("0000", "blocked", 3, True)
    assert inserted(api, card, NEW_PIN) == ("0000", "right", 3, None)
    assert sync_of(api, card) == "in_sync"


def test_a_changed_pin_below_the_threshold(api):
    """S4, PIN change with FTPAM and FTPDY: R136, R138, R140, R141. Below the threshold the first
    payment with the new PIN is approved, though the chip has the old one, and brings the script;
    the trail says why."""
    card = CARD_2
    set_pin(api, card, NEW_PIN)
    assert inserted(api, card, NEW_PIN, amount=50) == ("1809", "wrong", 2, None)
    assert inserted(api, card, NEW_PIN, amount=49.99) == ("0000", "wrong", 3, True)
    path = f"/transactions?card_token={card.token}&state=ALL&count=1"
    trail = api.done("GET", path)["data"][0]["trail"]
    assert any("4999" in step and "5000" in step for step in trail), trail
    assert inserted(api, card, NEW_PIN) == ("0000", "right", 3, None)
