"""Many cards at once: made up and from a file; on a running switch, a stopped one and none."""

import csv
import json
import random
import subprocess
import time
from dataclasses import replace

import canaries
import pytest
import settings
from bulk import (
    COLUMNS, OPTIONAL, PIPELINE, SOURCE, Traffic, WRITERS, as_csv, as_json_lines, codes, codes_of, counted,
    either, import_file, imported, new_card, refusals, remove, row, shown, started,
    wait_for_snapshot,
)
from messages import (
    CARD_1, CARD_4, Card, authorization, other_pin, pan_of, random_pin, wrong_check_digit,
)
from process import BINARY, START_SECONDS
from verification import ibm3624, tdes_key, visa_pvv

# Seeds.


def seeded(index):
    pin = 1000 + (index * 7919 + 1357) % 9000
    return Card(f"seed-{index:09}", pan_of("476135", index), str(pin))


def assert_seeds_are_there(switch, count):
    indices = {0, count - 1, *SOURCE.sample(range(count), min(count, 40))}
    cards = [seeded(index) for index in sorted(indices)]
    assert set(codes_of(switch, cards)) == {"00"}
    assert set(codes(switch, [authorization(c, other_pin(c.pin)) for c in cards])) == {"55"}
    for card in cards[:3] + cards[-3:]:
        view = shown(switch, card.token)
        assert (view["state"], view["expiration"]) == ("ACTIVE", "2912")
        assert (view["card_product_token"], view["pin_try_counter"]) == ("demo-debit", 1)
    assert codes_of(switch, [seeded(count)]) == ["14"]


@pytest.mark.parametrize("count", [1, 2500])
def test_seeds_are_the_cards_of_the_rule(either, count):
    assert either.done("seed", "--cards", count) == f"{counted(count)} added\n"
    assert_seeds_are_there(either, count)


def test_seeds_can_be_the_first_thing_in_a_data_directory(make_switch):
    switch = make_switch()
    assert switch.done("seed", "--cards", 300) == "300 cards added\n"
    assert_seeds_are_there(switch, 300)
    assert codes_of(switch, [CARD_1, CARD_4]) == ["00", "00"]


def test_a_second_seed_adds_what_is_missing_and_leaves_the_counters(either):
    either.done("seed", "--cards", 200)
    card = seeded(77)
    wrong = [authorization(card, other_pin(card.pin)) for _ in range(2)]
    was_running = either.process is not None
    assert codes(either, wrong) == ["55", "55"]
    if not was_running:
        assert either.terminate() == 0
    said = either.done("seed", "--cards", 500)
    assert said == "300 cards added\n200 were there already\n"
    started(either)
    assert shown(either, card.token)["pin_try_counter"] == 2
    assert codes_of(either, [seeded(0), seeded(199), seeded(200), seeded(499)]) == ["00"] * 4
    assert codes(either, [authorization(card, other_pin(card.pin))]) == ["75"]


def test_seeds_are_removed_again_and_nothing_else_is(either):
    other = Card("other", pan_of("476135", 100_000), "4711")
    either.add(other)
    either.done("seed", "--cards", 300)
    assert either.done("seed", "--cards", 200, "--remove") == "200 cards removed\n"
    gone = [seeded(index) for index in (0, 1, 99, 199)]
    requests = [authorization(card, card.pin) for card in gone]
    with started(either).connect() as link:
        answers = link.ask_all(requests)
    assert {(answer.code, answer.reason) for answer in answers} == {("14", "1011")}
    assert codes_of(either, [seeded(200), seeded(299), other, CARD_1]) == ["00"] * 4


def test_seeds_to_remove_that_are_not_there_are_counted(either):
    either.done("seed", "--cards", 3)
    said = either.done("seed", "--cards", 5, "--remove")
    assert said == "3 cards removed\n2 were not there\n"


def test_a_seed_whose_token_is_taken_is_refused_by_its_index(either):
    either.add(Card(seeded(2).token, pan_of("476135", 500_000), "4711"))
    result = either.command("seed", "--cards", 4)
    assert (result.returncode, result.stdout) == (1, "3 cards added\n")
    assert refusals(result, "card") == [(2, "a card with this token exists already")]


@pytest.mark.parametrize("count", ["0", "-1", "100000001", "4294967297", "x", "1.5", ""])
def test_a_number_of_seeds_out_of_its_range_is_wrong_usage(make_switch, count):
    switch = make_switch()
    result = switch.command("seed", "--cards", count)
    assert (result.returncode, result.stdout) == (2, "")
    assert "--cards" in result.stderr
    assert not switch.data.exists()


def test_a_seed_without_its_product_is_refused(make_switch):
    switch = make_switch()
    text = switch.config.read_text()
    switch.config.write_text(text.replace('name = "demo-debit"', 'name = "debit"'))
    result = switch.command("seed", "--cards", 1)
    assert (result.returncode, result.stdout) == (1, "")
    assert "demo-debit" in result.stderr
    assert not switch.data.exists()


# Files.

@pytest.mark.parametrize("ending", WRITERS)
def test_cards_of_a_file_are_there(either, ending):
    cards = [new_card(pin=random_pin(SOURCE, length)) for length in range(4, 13)]
    imported(either, f"cards.{ending}", WRITERS[ending][0](map(row, cards)), len(cards))
    assert set(codes_of(either, cards)) == {"00"}
    wrong = [authorization(card, other_pin(card.pin)) for card in cards]
    assert set(codes(either, wrong)) == {"55"}
    assert either.terminate() == 0
    either.start()
    assert set(codes_of(either, cards)) == {"00"}


def test_cards_of_a_file_can_be_the_first_thing_in_a_data_directory(make_switch):
    switch, card = make_switch(), new_card()
    imported(switch, "cards.csv", as_csv([row(card)]), 1)
    assert codes_of(switch, [card, CARD_1]) == ["00", "00"]


CSV_FORMS = {
    "columns in another order": lambda rows: as_csv(rows, [*OPTIONAL, *COLUMNS][::-1]),
    "columns mixed": lambda rows: as_csv(rows, random.Random(5).sample([*COLUMNS, *OPTIONAL], 10)),
    "no optional column but two": lambda rows: as_csv(rows, [*COLUMNS, "pin", "state"]),
    "all quoted": lambda rows: as_csv(rows, quoting=csv.QUOTE_ALL),
    "CRLF": lambda rows: as_csv(rows, line_end="\r\n"),
    "CRLF and quotes": lambda rows: as_csv(rows, line_end="\r\n", quoting=csv.QUOTE_ALL),
    "no last line end": lambda rows: as_csv(rows).rstrip("\n"),
    "no last CRLF": lambda rows: as_csv(rows, line_end="\r\n").rstrip("\r\n"),
    "blank lines": lambda rows: as_csv(rows).replace("\n", "\n\n"),
    "spaces": lambda rows: as_csv(rows).replace(",", " , "),
    "a mark of UTF-8": lambda rows: "\ufeff" + as_csv(rows),
}


@pytest.mark.parametrize("form", CSV_FORMS)
def test_every_form_of_csv_is_read(shared, form):
    cards = [new_card() for _ in range(3)]
    imported(shared, "cards.csv", CSV_FORMS[form](list(map(row, cards))), len(cards))
    assert codes_of(shared, cards) == ["00"] * 3


JSON_FORMS = {
    "blank lines": lambda text: "\n \n" + text.replace("\n", "\n\n\t\n"),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "no last line end": lambda text: text.rstrip("\n"),
    "spaces": lambda text: "".join(f"  {line}  \n" for line in text.splitlines()),
    "null for nothing": lambda text: text.replace("}", ', "pvv": null}'),
    "escapes": lambda text: text.replace("card-", "card\\u002d"),
    "almost too long": lambda text: "".join(
        line.ljust((16 << 10) - 1) + "\n" for line in text.splitlines()
    ),
}


@pytest.mark.parametrize("form", JSON_FORMS)
def test_every_form_of_json_lines_is_read(shared, form):
    cards = [new_card() for _ in range(3)]
    text = as_json_lines(map(row, cards))
    imported(shared, "cards.jsonl", JSON_FORMS[form](text), len(cards))
    assert codes_of(shared, cards) == ["00"] * 3


@pytest.mark.parametrize("name, content", [
    ("head.csv", as_csv([])), ("empty.jsonl", ""), ("blank.ndjson", "\n\n \n"),
])
def test_a_file_without_cards_adds_none(shared, name, content):
    imported(shared, name, content, 0)


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("state, code", [("ACTIVE", "00"), ("UNACTIVATED", "78"), (None, "78")])
def test_a_card_begins_in_the_state_that_its_line_says(shared, ending, state, code):
    card = new_card()
    imported(shared, f"cards.{ending}", WRITERS[ending][0]([row(card, state=state)]), 1)
    assert shown(shared, card.token)["state"] == (state or "UNACTIVATED")
    assert codes_of(shared, [card]) == [code]
    shared.done("card", "activate", card.token)
    assert codes_of(shared, [card]) == ["00"]


# References that were computed elsewhere.

ZPK = tdes_key(SOURCE)
PVK_VISA = tdes_key(SOURCE)
PVK_IBM = tdes_key(SOURCE, 24)
PVV = visa_pvv("pvv", "pvk-visa", PVK_VISA)
OFFSET = ibm3624("offset", "pvk-ibm", PVK_IBM, "leftmost-11-F")


@pytest.fixture(scope="module")
def lab(make_shared):
    tables = "".join(settings.product(m.name, m.table) for m in (PVV, OFFSET))
    switch = make_shared(master_key_file="master.key", zpk="zpk", tables=tables)
    switch.write_master_key()
    switch.bring_in_key("zpk", ZPK)
    switch.bring_in_key("pvk-visa", PVK_VISA, usage="V2")
    switch.bring_in_key("pvk-ibm", PVK_IBM, usage="V1")
    return switch.start()


def reference(card, pvki=1):
    """The fields of a card's line that stand in place of its PIN."""
    if card.product == "pvv":
        method = PVV.with_table(pvki=pvki)
        return {"pin": None, "pvv": method.value(card), "pvki": str(pvki)}
    return {"pin": None, "pin_offset": OFFSET.value(card)}


def wrong_pin(card, pvki=1):
    """A PIN with another PVV or offset."""
    right = reference(card, pvki)
    while True:
        pin = random_pin(SOURCE, len(card.pin))
        if reference(replace(card, pin=pin), pvki) != right:
            return pin


def assert_right_and_wrong(lab, card, pvki=1):
    pins = [card.pin, wrong_pin(card, pvki), card.pin]
    said = codes(lab, [authorization(card, pin, zpk=ZPK) for pin in pins])
    assert said == ["00", "55", "00"]


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("pvki", range(1, 7))
def test_a_pvv_of_another_system_verifies_its_pin(lab, ending, pvki):
    card = new_card(product="pvv", pin=random_pin(SOURCE, 4))
    rows = [row(card, **reference(card, pvki))]
    imported(lab, f"cards.{ending}", WRITERS[ending][0](rows), 1)
    assert_right_and_wrong(lab, card, pvki)


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("length", range(4, 13))
def test_an_offset_of_another_system_verifies_its_pin(lab, ending, length):
    card = new_card(product="offset", pin=random_pin(SOURCE, length))
    imported(lab, f"cards.{ending}", WRITERS[ending][0]([row(card, **reference(card))]), 1)
    assert_right_and_wrong(lab, card)


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("product", ["demo-debit", "pvv", "offset"])
def test_a_card_without_any_pin_has_none_until_one_is_set(lab, ending, product):
    card = new_card(product=product)
    imported(lab, f"cards.{ending}", WRITERS[ending][0]([row(card, pin=None)]), 1)
    assert shown(lab, card.token)["pin_is_set"] is False
    with lab.connect() as link:
        answer = link.ask(authorization(card, card.pin, zpk=ZPK))
        assert (answer.code, answer.reason) == ("70", "1012")
        lab.done("card", "set-pin", card.token, stdin=card.pin)
        assert link.ask(authorization(card, card.pin, zpk=ZPK)).code == "00"


# Wrong lines.

EXPECTED = "expected the texts token, pan,"
ONE_OF = "expected one of pin, pvv with pvki, and pin_offset"
VALUES = "expected pvv: 4 digits, pvki: 1 to 6, pin_offset: 4 to 12 digits"
OTHER_METHOD = "the product verifies PINs by another method"
THERE, THERE_TOO = new_card(), new_card()
MISTAKES = [
    ("wrong check digit", {"pan": wrong_check_digit(new_card().pan)}, "pan: expected 13 to 19"),
    ("short PAN", {"pan": pan_of("476134", 1, 12)}, "pan: expected 13 to 19"),
    ("long PAN", {"pan": pan_of("476134", 1, 20)}, "pan: expected 13 to 19"),
    ("PAN of letters", {"pan": "47613400000000AB"}, "pan: expected 13 to 19"),
    ("no PAN", {"pan": ""}, "pan: expected 13 to 19"),
    ("wrong BIN", {"pan": pan_of("541333", 9)}, "pan: expected a BIN of the product"),
    ("PAN there", {"pan": THERE.pan}, "a card with this PAN exists already"),
    ("PAN of the file", {"pan": THERE_TOO.pan}, "a card with this PAN exists already"),
    ("token there", {"token": THERE.token}, "a card with this token exists already"),
    ("token of the file", {"token": THERE_TOO.token}, "a card with this token exists already"),
    ("no token", {"token": ""}, "token: expected 1 to 36"),
    ("long token", {"token": "t" * 37}, "token: expected 1 to 36"),
    ("token with a space", {"token": "a b"}, "token: expected 1 to 36"),
    ("token that is a PAN", {"token": new_card().pan}, "and no PAN"),
    ("no such product", {"card_product_token": "x"}, "card_product_token: there is no such"),
    ("month 13", {"expiration": "2913"}, "expiration: expected YYMM"),
    ("month 0", {"expiration": "2900"}, "expiration: expected YYMM"),
    ("MM/YY", {"expiration": "12/29"}, "expiration: expected YYMM"),
    ("no expiry", {"expiration": ""}, "expiration: expected YYMM"),
    ("sequence of one digit", {"pan_sequence_number": "1"}, "pan_sequence_number: expected two"),
    ("state of another kind", {"state": "SUSPENDED"}, EXPECTED),
    ("state in lower case", {"state": "active"}, EXPECTED),
    ("short PIN", {"pin": "123"}, "pin: expected 4 to 12 digits"),
    ("long PIN", {"pin": "1234567890123"}, "pin: expected 4 to 12 digits"),
    ("PIN of letters", {"pin": "12a4"}, "pin: expected 4 to 12 digits"),
    ("PIN and PVV", {"pvv": "1234", "pvki": "1"}, ONE_OF),
    ("PIN and pvki", {"pvki": "1"}, ONE_OF),
    ("PIN and offset", {"pin_offset": "1234"}, ONE_OF),
    ("PVV and offset", {"pin": None, "pvv": "1234", "pvki": "1", "pin_offset": "1234"}, ONE_OF),
    ("PVV without pvki", {"pin": None, "pvv": "1234"}, ONE_OF),
    ("pvki without PVV", {"pin": None, "pvki": "1"}, ONE_OF),
    ("short PVV", {"pin": None, "pvv": "123", "pvki": "1"}, VALUES),
    ("PVV of letters", {"pin": None, "pvv": "12x4", "pvki": "1"}, VALUES),
    ("pvki 0", {"pin": None, "pvv": "1234", "pvki": "0"}, VALUES),
    ("pvki 7", {"pin": None, "pvv": "1234", "pvki": "7"}, VALUES),
    ("short offset", {"pin": None, "pin_offset": "123"}, VALUES),
    ("PVV, other product", {"pin": None, "pvv": "1234", "pvki": "1"}, OTHER_METHOD),
    ("offset, other product", {"pin": None, "pin_offset": "1234"}, OTHER_METHOD),
    ("PVV, offset product",
     {"card_product_token": "offset", "pin": None, "pvv": "1234", "pvki": "1"}, OTHER_METHOD),
    ("offset, PVV product",
     {"card_product_token": "pvv", "pin": None, "pin_offset": "1234"}, OTHER_METHOD),
]


@pytest.mark.parametrize("ending", WRITERS)
def test_every_wrong_line_is_refused_with_its_place_and_the_others_are_added(lab, ending):
    write, first = WRITERS[ending]
    lab.command("card", "remove", THERE.token, THERE_TOO.token)
    imported(lab, "there.csv", as_csv([row(THERE)]), 1)
    good, rows = [THERE_TOO], [row(THERE_TOO)]
    for _, changes, _ in MISTAKES:
        good.append(new_card())
        rows += [row(new_card(), **changes), row(good[-1])]
    result = import_file(lab, f"cards.{ending}", write(rows))
    found = sorted(refusals(result, lab.directory / f"cards.{ending}"))
    assert [line for line, _ in found] == [first + 1 + 2 * at for at in range(len(MISTAKES))]
    wrong = [
        (name, said) for (name, _, reason), (_, said) in zip(MISTAKES, found) if reason not in said
    ]
    assert wrong == []
    assert (result.returncode, result.stdout) == (1, f"{counted(len(good))} added\n")
    assert f"{len(MISTAKES)} cards not added" in result.stderr
    assert set(codes_of(lab, good, ZPK)) == {"00"}


@pytest.mark.parametrize("line", [
    b"{", b"[]", b"null", b"7", b'"x"', b"token,pan", b"\x00", b"{} {}",
    json.dumps(row(new_card(), pvk="1")).encode(),
    json.dumps(row(new_card(), pan=4761340000000019)).encode(),
    json.dumps(row(new_card(), pin=1234)).encode(),
    *(json.dumps(row(new_card(), **{name: None})).encode() for name in COLUMNS),
    json.dumps(row(new_card())).encode()[:-1] + b', "pin": "1234"}',
    json.dumps(row(new_card())).encode() + b" x",
    b"\xff\xfe", json.dumps(row(new_card())).encode().replace(b"card-", b"card\xc3"),
])
def test_a_line_that_is_no_card_in_json_is_refused_alone(shared, line):
    cards = [new_card(), new_card()]
    before, after = (json.dumps(row(card)).encode() for card in cards)
    result = import_file(shared, "cards.jsonl", b"\n\n".join([before, line, after]))
    assert (result.returncode, result.stdout) == (1, "2 cards added\n")
    ((number, reason),) = refusals(result, shared.directory / "cards.jsonl")
    assert number == 3 and ("expected" in reason or "UTF-8" in reason)
    assert codes_of(shared, cards) == ["00", "00"]


def csv_line(card, **changes):
    return as_csv([row(card, **changes)]).splitlines()[1].encode()


@pytest.mark.parametrize("line", [
    b"x", b"\x00", csv_line(new_card()) + b",", csv_line(new_card()).rsplit(b",", 1)[0],
    csv_line(new_card()).replace(b"card-", b"card\xc3"), b"{}", b'""', b"," * 9,
])
def test_a_line_that_is_no_card_in_csv_is_refused_alone(shared, line):
    cards = [new_card(), new_card()]
    lines = [as_csv([]).strip().encode(), csv_line(cards[0]), line, csv_line(cards[1])]
    result = import_file(shared, "cards.csv", b"\n".join(lines))
    assert (result.returncode, result.stdout) == (1, "2 cards added\n")
    assert [place for place, _ in refusals(result, shared.directory / "cards.csv")] == [3]
    assert codes_of(shared, cards) == ["00", "00"]


@pytest.mark.parametrize("columns", [
    *([name for name in [*COLUMNS, "pin"] if name != missing] for missing in COLUMNS),
    [*COLUMNS, "pin", "PIN"], [*COLUMNS, "pin", "cvv"], [*COLUMNS, "pin", "pin"],
    [*COLUMNS, "pin", ""], [name.upper() for name in COLUMNS],
])
def test_a_head_line_with_a_wrong_column_refuses_the_file(shared, columns):
    cards = [row(new_card()), row(new_card())]
    rows = [{name: card.get(name, "") for name in columns} for card in cards]
    result = import_file(shared, "cards.csv", as_csv(rows, columns))
    assert (result.returncode, result.stdout) == (1, "")
    assert "the head line: " + EXPECTED in result.stderr
    assert codes_of(shared, [new_card()]) == ["14"]


def test_a_hundred_refusals_are_shown_and_all_are_counted(either):
    good, bad = new_card(), [new_card() for _ in range(250)]
    rows = [row(card, expiration="2913") for card in bad] + [row(good)]
    result = import_file(either, "cards.csv", as_csv(rows))
    assert (result.returncode, result.stdout) == (1, "1 card added\n")
    found = refusals(result, either.directory / "cards.csv")
    assert [line for line, _ in found] == list(range(2, 102))
    assert "250 cards not added" in result.stderr
    assert codes_of(either, [good]) == ["00"]


@pytest.mark.parametrize("name", ["cards.csv", "cards.jsonl"])
def test_a_file_that_is_not_there_is_a_refusal(make_switch, name):
    switch = make_switch()
    result = switch.command("card", "import", switch.directory / name)
    assert (result.returncode, result.stdout) == (1, "")
    assert f"{name}: No such file" in result.stderr
    assert not switch.data.exists()


@pytest.mark.parametrize("name", ["cards", "cards.txt", "cards.json", "cards.csv.gz", ".csv"])
def test_a_file_of_another_ending_is_a_refusal(make_switch, name):
    switch = make_switch()
    result = import_file(switch, name, as_csv([row(new_card())]))
    assert (result.returncode, result.stdout) == (1, "")
    assert ".csv, .jsonl or .ndjson" in result.stderr
    assert not switch.data.exists()


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_no_pan_and_no_pin_of_a_file_is_left_anywhere(make_switch, ending):
    switch = make_switch(snapshot_mb=1).start()
    good = [new_card() for _ in range(12_000)]
    bad = [new_card() for _ in MISTAKES]
    rows = [row(card, **changes) for card, (_, changes, _) in zip(bad, MISTAKES)]
    rows += [row(bad[0], cvv="1"), row(bad[1], pin=f"{bad[1].pin}x"), row(bad[2], token=bad[2].pan)]
    content = WRITERS[ending][0](map(row, good)) if ending == "jsonl" else as_csv(map(row, good))
    results = [import_file(switch, f"good.{ending}", content)]
    results.append(import_file(switch, "bad.jsonl", as_json_lines(rows)))
    results.append(import_file(switch, "bad.csv", as_csv(rows[:-3])))
    assert [result.returncode for result in results] == [0, 1, 1]
    wait_for_snapshot(switch)
    assert switch.terminate() == 0
    results.append(import_file(switch, "bad.csv", as_csv(rows[:-3])))
    haystacks = canaries.files(switch.data)
    assert any(name.endswith(".snap") for name in haystacks)
    haystacks["log"] = switch.output("stderr").read_bytes() + switch.output("stdout").read_bytes()
    assert b'action="add"' in haystacks["log"]
    haystacks["said"] = "".join(result.stdout + result.stderr for result in results).encode()
    looked_for = [
        canary for card in (*good[:20], *good[-20:], *bad) for digits in (card.pan, card.pin)
        for canary in canaries.of_digits(card.token, digits)
    ]
    assert canaries.search(haystacks, looked_for) == []


# Twenty thousand cards, and traffic meanwhile.

MANY = 20_000


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_an_import_disturbs_no_request_and_is_durable_when_it_ends(switch, ending):
    cards = [new_card() for _ in range(MANY)]
    with Traffic(switch) as traffic:
        imported(switch, f"cards.{ending}", WRITERS[ending][0](map(row, cards)), MANY)
    assert traffic.failure is None and traffic.answers > 0
    switch.kill()
    assert set(codes_of(switch, cards)) == {"00"}
    assert shown(switch, CARD_4.token)["pin_try_counter"] == traffic.answers // 3


def present(switch, cards):
    """The cards that are there, every one of them with its PIN."""
    said = codes_of(switch, cards)
    assert set(said) <= {"00", "14"}, set(said)
    return [card for card, code in zip(cards, said) if code == "00"]


def import_until_killed(switch, path, seconds):
    """Starts an import and kills the switch under it."""
    words = [BINARY, *switch.words, "card", "import", path]
    importing = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(seconds)
    switch.kill()
    importing.communicate(timeout=START_SECONDS)
    switch.start()


def test_kill_9_in_the_middle_of_an_import_leaves_whole_cards_only(make_switch):
    switch = make_switch(snapshot_mb=1).start()
    cards = [new_card() for _ in range(MANY)]
    path = switch.directory / "cards.csv"
    path.write_text(as_csv(map(row, cards)))
    cut_short = 0
    for _ in range(30):
        import_until_killed(switch, path, SOURCE.uniform(0.01, 0.12))
        there = present(switch, cards)
        cut_short += 0 < len(there) < MANY
        if cut_short == 3:
            break
        for at in range(0, len(there), PIPELINE):
            remove(switch, *there[at : at + PIPELINE])
    assert cut_short == 3
    result = switch.command("card", "import", path)
    assert (result.returncode, result.stdout) == (1, f"{counted(MANY - len(there))} added\n")
    reasons = {reason for _, reason in refusals(result, path)}
    assert reasons == {"a card with this PAN exists already"}
    assert f"{len(there)} cards not added" in result.stderr
    assert present(switch, cards) == cards


def test_lines_after_crlf_are_counted_right(shared):
    rows = [row(new_card()), row(new_card(), expiration="2913")]
    result = import_file(shared, "cards.csv", as_csv(rows, line_end="\r\n"))
    assert [line for line, _ in refusals(result, shared.directory / "cards.csv")] == [3]



def test_blank_lines_in_csv_are_counted(shared):
    rows = [row(new_card()), row(new_card(), expiration="2913")]
    result = import_file(shared, "cards.csv", as_csv(rows).replace("\n", "\n\n"))
    assert [line for line, _ in refusals(result, shared.directory / "cards.csv")] == [5]



def test_a_line_that_is_too_long_is_refused_once_and_counted_once(shared):
    rows = [row(new_card()), row(new_card(), token="x" * (17 << 10)), row(new_card()),
            row(new_card(), expiration="2913")]
    result = import_file(shared, "cards.jsonl", as_json_lines(rows))
    assert result.stdout == "2 cards added\n"
    assert [line for line, _ in refusals(result, shared.directory / "cards.jsonl")] == [2, 4]
    assert "2 cards not added" in result.stderr



def test_what_follows_in_a_line_that_is_too_long_is_no_card(shared):
    card = new_card()
    content = "x" * (16 << 10) + json.dumps(row(card)) + "\n"
    result = import_file(shared, "cards.jsonl", content)
    assert result.stdout == "0 cards added\n"



@pytest.mark.parametrize("name", ["cards.csv", "cards.jsonl"])
def test_a_directory_is_a_refusal(make_switch, name):
    switch = make_switch()
    (switch.directory / name).mkdir()
    result = switch.command("card", "import", switch.directory / name)
    assert (result.returncode, result.stdout) == (1, "")
    assert "Is a directory" in result.stderr



def test_lines_with_long_values_do_not_stop_the_others(either):
    cards = [new_card(), new_card()]
    long = [row(new_card(), token="x" * 1000) for _ in range(5000)]
    rows = [row(cards[0]), *long, row(cards[1])]
    result = import_file(either, "cards.jsonl", as_json_lines(rows))
    assert (result.returncode, result.stdout) == (1, "2 cards added\n"), result.stderr
    assert codes_of(either, cards) == ["00", "00"]



def test_refusals_stand_in_the_order_of_the_file(shared):
    rows = [row(new_card(), expiration="2913"), row(new_card(), state="x")]
    result = import_file(shared, "cards.csv", as_csv(rows))
    assert [line for line, _ in refusals(result, shared.directory / "cards.csv")] == [2, 3]



def test_an_empty_csv_has_no_head_line(shared):
    result = import_file(shared, "cards.csv", "")
    assert result.returncode == 1


@pytest.mark.parametrize("line_end", ["\r", "\r\r\n"])
def test_a_carriage_return_within_a_line_hides_no_card(shared, line_end):
    rows = [row(new_card()), row(new_card())]
    result = import_file(shared, "cards.csv", as_csv(rows, line_end=line_end))
    if line_end == "\r":
        assert (result.returncode, result.stdout) == (1, "")
        assert "the head line" in result.stderr
    head, *lines = as_csv(rows).splitlines()
    result = import_file(shared, "cards.csv", f"{head}\n{lines[0]}{line_end}{lines[1]}\n")
    assert result.returncode == 1 and result.stdout == "0 cards added\n"
    assert [line for line, _ in refusals(result, shared.directory / "cards.csv")] != []
