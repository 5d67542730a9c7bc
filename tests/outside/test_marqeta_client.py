"""Marqeta's own Python client, as it is on PyPI: it makes cardholders, products, cards and
transitions, reads lists, and sees a wrong PIN of a TCP link among the transactions."""

import pytest
import requests
from api_client import DEMO_KEY
from marqeta import Client
from marqeta.errors import MarqetaError
from messages import Card, authorization, other_pin

PIN = "9246"
PERSONALIZATION = {"text": {"name_line_1": {"value": "ADA LOVELACE"}}}


@pytest.fixture
def client(switch):
    return Client(f"http://127.0.0.1:{switch.api_port()}/v3/", *DEMO_KEY, timeout=30)


def product(client, token):
    """Beside what Marqeta has, the BINs and the currency, without which no card can be made."""
    return client.card_products.create({
        "token": token, "name": "Debit", "start_date": "2026-01-01", "active": True,
        "bins": ["476135"], "currency": "978",
        "config": {
            "fulfillment": {"payment_instrument": "PHYSICAL_MSR",
                            "card_personalization": PERSONALIZATION},
            "card_life_cycle": {"expiration_offset": {"unit": "YEARS", "value": 3}},
        },
    })


def set_pin(client, card, pin):
    """By raw calls: the client's own for PINs have other verbs than Marqeta's documents."""
    answer, status = client.post("pins/controltoken", {"card_token": card})
    assert status == 201
    # It reads JSON of whatever succeeds, and a PIN that is set answers nothing (204).
    with pytest.raises(requests.exceptions.JSONDecodeError):
        client.put("pins", {"control_token": answer["control_token"], "pin": pin})


def test_marqetas_client_issues_a_card_and_sees_a_wrong_pin(switch, client):
    """R99, R100, R101, R102, R103, R85, R205: the calls of Marqeta's documents, by its client."""
    holder = client.users.create({"token": "ada", "first_name": "Ada", "last_name": "Lovelace"})
    assert (holder.token, holder.first_name) == ("ada", "Ada")
    assert client.users.save("ada", {"city": "London"}).city == "London"
    found = client.users.find("ada")
    assert (found.city, found.last_name) == ("London", "Lovelace")

    made = product(client, "client-debit")
    assert (made.token, made.name, made.active) == ("client-debit", "Debit", True)
    assert client.card_products.save("client-debit", {"name": "Everyday"}).name == "Everyday"
    found = client.card_products.find("client-debit")
    assert found.name == "Everyday"
    assert found.config.card_life_cycle.expiration_offset.value == 3

    card = client.cards.create({"card_product_token": "client-debit", "user_token": "ada"})
    assert (card.state, card.pin_is_set) == ("UNACTIVATED", False)
    assert card.created_time is not None and card.expiration_time > card.created_time
    shown = client.cards.find_show_pan(card.token)
    assert shown.pan.startswith("476135") and shown.pan.endswith(card.last_four)
    assert client.cards.tokens_for_pan(shown.pan).card_token == card.token

    set_pin(client, card.token, PIN)
    assert client.cards.find(card.token).pin_is_set is True
    moves = client.cards(card.token).transitions
    moved = moves.create({"card_token": card.token, "channel": "API", "state": "ACTIVE"})
    assert (moved.state, moved.type) == ("ACTIVE", "state.activated")
    assert moves.find(moved.token).card_token == card.token
    assert client.cards.find(card.token).state == "ACTIVE"

    used = Card(card.token, shown.pan, PIN, expiry=card.expiration[2:] + card.expiration[:2])
    with switch.connect() as link:
        assert link.ask(authorization(used, PIN)).code == "00"
        assert link.ask(authorization(used, other_pin(PIN))).code == "55"
    wrong, right = client.transactions.list(params={"card_token": card.token, "state": "ALL"})
    assert (wrong.response.code, wrong.response.memo) == ("1809", "Invalid Pin")
    assert (wrong.state, wrong.card_token, wrong.user_token) == ("DECLINED", card.token, "ada")
    assert (right.response.code, right.state) == ("0000", "PENDING")
    assert (right.amount, right.currency_code) == (12.5, "978")
    assert client.transactions.find(wrong.token).token == wrong.token
    assert client.get(f"cards/{card.token}")[0]["pin_try_counter"] == 1


def test_marqetas_client_reads_lists_to_their_end(client):
    """Its lists are of pages of five."""
    product(client, "client-debit")
    holders = [client.users.create({"first_name": f"Ada {n}"}).token for n in range(12)]
    listed = [holder.token for holder in client.users.list()]
    assert sorted(listed) == sorted(holders)
    form = {"card_product_token": "client-debit", "user_token": holders[0]}
    cards = [client.cards.create(form) for _ in range(11)]
    listed = client.cards.list_for_user(holders[0])
    assert {card.token for card in listed} == {card.token for card in cards} and len(listed) == 11
    found = client.cards.list(cards[0].last_four)
    assert cards[0].token in [card.token for card in found]
    page = client.cards.page_for_user(holders[0], count=5, start_index=10)
    assert (page["count"], page["start_index"], page["is_more"]) == (1, 10, False)
    assert "client-debit" in [one.token for one in client.card_products.list()]
    moves = client.cards(cards[0].token).transitions
    for number in range(6):
        state = "ACTIVE" if number % 2 == 0 else "SUSPENDED"
        moves.create({"card_token": cards[0].token, "channel": "API", "state": state})
    # The first one says that the card was issued.
    assert [one.state for one in moves.list()][:-1] == ["SUSPENDED", "ACTIVE"] * 3


def test_marqetas_client_reads_what_is_refused(client):
    """It needs `error_message` of each refusal."""
    def refused(call, *words):
        with pytest.raises(MarqetaError) as caught:
            call(*words)
        assert caught.value.message
        return caught.value.code

    assert refused(client.cards.find, "nothing").startswith("404")
    assert refused(client.get, "nothing/at/all").startswith("404")
    assert refused(client.delete, "users").startswith("405")
    assert refused(client.users.create, {"unknown": 1}).startswith("400")
    assert refused(client.users.create, {"first_name": "x" * 100_000}).startswith("413")
    stranger = Client(client.base_url, "demo", "wrong", timeout=30)
    assert refused(stranger.users.list).startswith("401")
    card = client.cards.create({
        "card_product_token": "demo-debit", "user_token": client.users.create({}).token,
    })
    answer, _ = client.post("pins/controltoken", {"card_token": card.token})
    weak = {"control_token": answer["control_token"], "pin": "1111"}
    assert refused(client.put, "pins", weak).startswith("412")
    assert client.ping().success is True
