"""Calls of the HTTP API race requests over TCP for the same cards: what each was answered must
follow from one order of all of them, the order of the journal, by a model of a few lines; and who
was answered before another one was sent comes before it.

Environment: PINSWITCH_RACE_CALLS, how many calls of the API (1000; 10000 for a long run); ten times
as many requests come over TCP."""

import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from api_client import Api
from messages import Card, authorization, other_pin
from test_api_cards import control, issue, move
from test_api_pins import events
from test_api_schema import UNLIMITED

CALLS = int(os.environ.get("PINSWITCH_RACE_CALLS", "1000"))
REQUESTS = 10 * CALLS
CARDS, LINKS, CLIENTS, BATCH = 100, 4, 4, 8
LIMIT, PIN = 3, "4071"
# Which cards have two plastics, that are used side by side.
TWO = 3


@dataclass
class Done:
    """What was asked of a plastic and what was answered, with the time of both."""

    plastic: str
    sent: float
    answered: float
    # Whether the PIN was right; `None` for a suspension that was lifted.
    right: bool | None
    code: str | None


def issued(api):
    """The plastics of a card, all ACTIVE, with its PIN."""
    first = issue(api)
    pan = api.done("GET", f"/cards/{first['token']}/showpan")["pan"]
    api.done("PUT", "/pins", {"control_token": control(api, first["token"]), "pin": PIN})
    return first, pan


def plastics_of(api, number):
    first, pan = issued(api)
    made = [first]
    if number % TWO == 0:
        actions = {"terminate_reissued_source_card": False}
        made.append(issue(api, user_token=first["user_token"], activation_actions=actions,
                          reissue_pan_from_card_token=first["token"],
                          expiration_offset={"unit": "YEARS", "value": 7}))
    for plastic in made:
        move(api, plastic["token"], "ACTIVE")
    expiry = lambda plastic: plastic["expiration"][2:] + plastic["expiration"][:2]
    return [Card(plastic["token"], pan, PIN, expiry=expiry(plastic)) for plastic in made]


def over_tcp(switch, plastics, done, seed):
    """Requests with amounts of their own, by which their records are known."""
    choose = random.Random(seed)
    with switch.connect() as link:
        for first in range(seed, REQUESTS, LINKS * BATCH):
            asked = {}
            for number in range(first, min(REQUESTS, first + LINKS * BATCH), LINKS):
                card, right = choose.choice(plastics), choose.random() < 0.6
                pin = card.pin if right else other_pin(card.pin)
                changes = {"4": f"{number + 1:012}"}
                asked[number + 1] = (card, right, authorization(card, pin, changes=changes))
            sent = time.monotonic()
            answers = link.ask_all([request for _, _, request in asked.values()])
            answered = time.monotonic()
            for (amount, (card, right, _)), answer in zip(asked.items(), answers):
                code = {"00": "0000", "55": "1809", "75": "1872"}[answer.code]
                done[amount] = Done(card.token, sent, answered, right, code)


def over_http(switch, plastics, done, lifted, seed):
    api, choose = Api(switch), random.Random(-seed)
    for number in range(seed, CALLS, CLIENTS):
        card, right = choose.choice(plastics), choose.random() < 0.6
        sent = time.monotonic()
        if number % 5 == 0:
            form = {"card_token": card.token, "state": "ACTIVE", "channel": "API"}
            answer = api.post("/cardtransitions", form)
            if answer.status == 201:
                token = answer.json["token"]
                lifted[token] = Done(card.token, sent, time.monotonic(), None, None)
            else:
                assert answer.json["code"] in ("already_active", "busy"), answer
            continue
        amount = REQUESTS + number + 1
        body = {"amount": amount / 100, "card_token": card.token, "mid": "shop",
                "pin": card.pin if right else other_pin(card.pin)}
        answer = api.post("/simulate/authorization", body)
        assert answer.status == 201, answer
        code = answer.json["transaction"]["response"]["code"]
        done[amount] = Done(card.token, sent, time.monotonic(), right, code)


def listed(api, card):
    """All transactions of a card: their ids and what they are known by."""
    found, after = {}, ""
    while True:
        page = api.done("GET", f"/cards/{card}/transactions?state=ALL&count=100{after}")
        found |= {one["token"]: round(one["amount"] * 100) for one in page["data"]}
        if not page["is_more"]:
            return found
        after = f"&after={page['data'][-1]['token']}"


def check(order, plastics):
    """Whether each was answered what the ones before it lead to; how often it was suspended."""
    tries, suspended, times, latest = 0, set(), 0, 0.0
    for place, done in enumerate(order):
        # Who was answered before this one was sent stands before it.
        assert done.answered >= latest, (place, order[:place + 1])
        latest = max(latest, done.sent)
        if done.right is None:
            assert done.plastic in suspended, (place, order[:place + 1])
            suspended.discard(done.plastic)
            tries = 0
            continue
        if done.plastic in suspended:
            expected = "1872"
        elif done.right:
            tries, expected = 0, "0000"
        else:
            tries += 1
            expected = "1809"
            if tries >= LIMIT:
                expected = "1872"
                times += len(plastics - suspended)
                suspended = set(plastics)
        assert done.code == expected, (place, order[:place + 1])
    return times, tries, suspended


def test_calls_and_requests_that_race_equal_some_order(make_switch):
    switch = make_switch(limits=UNLIMITED).start()
    api = Api(switch)
    cards = [plastics_of(api, number) for number in range(CARDS)]
    plastics = [plastic for card in cards for plastic in card]
    done, lifted = {}, {}
    jobs = [(over_tcp, (switch, plastics, done, seed)) for seed in range(LINKS)]
    jobs += [(over_http, (switch, plastics, done, lifted, seed)) for seed in range(CLIENTS)]
    with ThreadPoolExecutor(len(jobs)) as threads:
        for job in [threads.submit(run, *words) for run, words in jobs]:
            job.result()
    assert len(done) == REQUESTS + CALLS - len(range(0, CALLS, 5))

    told = events(api)
    suspensions = Counter(event["card_token"] for event in told
                          if event["type"] == "cardtransition.state.suspended")
    reinstated = {event["id"] for event in told
                  if event["type"] == "cardtransition.state.reinstated"}
    assert reinstated == set(lifted)
    for card in cards:
        own = {plastic.token for plastic in card}
        found = {}
        for token in own:
            found |= listed(api, token)
        order = {token: done[amount] for token, amount in found.items()}
        order |= {token: one for token, one in lifted.items() if one.plastic in own}
        assert len(order) == sum(one.plastic in own for one in
                                 [*done.values(), *lifted.values()])
        # Ids of events begin with those of their records, and all rise with the journal.
        times, tries, suspended = check([order[token] for token in sorted(order)], own)
        assert times == sum(suspensions[token] for token in own)
        for plastic in card:
            shown = api.done("GET", f"/cards/{plastic.token}")
            state = "SUSPENDED" if plastic.token in suspended else "ACTIVE"
            assert (shown["state"], shown["pin_try_counter"]) == (state, tries)
    assert lifted and suspensions
