"""PIN verification: every method, with every PIN length and every PIN block format that it allows.
PIN blocks are made by psec, and so is what a wrong PIN is: one with another PVV or offset."""

import itertools
import random
from dataclasses import replace

import pytest
import settings
from messages import ASCII, BINARY, Card, authorization, encrypted, pan_of, pin_block, random_pin
from process import of_card
from psec import aes, pinblock, tools
from verification import ibm3624, tdes_key, translated_block, visa_pvv

SOURCE = random.Random(3624)
ZPK = tdes_key(SOURCE)
OTHER_ZPK = tdes_key(SOURCE)
AES_ZPK = SOURCE.randbytes(32)
OTHER_AES_ZPK = SOURCE.randbytes(32)
PVK_VISA = tdes_key(SOURCE)
PVK_IBM = tdes_key(SOURCE, 24)

TRANSLATED = translated_block()
PVV = visa_pvv("pvv", "pvk-visa", PVK_VISA)
OFFSETS = [
    ibm3624(f"offset-{number}", "pvk-ibm", PVK_IBM, form)
    for number, form in enumerate(["rightmost-16", "leftmost-11-F", "6615552N0010"])
]
METHODS = [TRANSLATED, PVV, *OFFSETS]
FORMATS = (0, 1, 3, 4)
LENGTHS = range(4, 13)

_cards = itertools.count(1)


def tables(methods):
    links = [settings.link(f"format-{number}", "zpk", [number]) for number in (0, 1, 3)]
    links.append(settings.link("format-4", "zpk-aes", [4], "aes-ascii.toml"))
    links.append(settings.link("format-0-1-3", "zpk", [0, 1, 3]))
    links += [settings.link(f"binary-{n}", "zpk", [n], BINARY) for n in (0, 1, 3)]
    links.append(settings.link("binary-4", "zpk-aes", [4], "aes-binary.toml"))
    return "".join(links + [
        settings.product(m.name, m.table, earlier=[before.table for before in m.earlier])
        for m in methods
    ])


def configure(switch, methods):
    switch.configure(
        master_key_file="master.key", zpk="zpk", bad_pin_blocks_per_minute=255,
        tables=tables(methods),
    )


def make(make_one, methods):
    """A switch with all keys that does not run yet."""
    switch = make_one()
    configure(switch, methods)
    switch.write_master_key()
    switch.write_aes_dialects()
    switch.bring_in_key("zpk", ZPK)
    switch.bring_in_key("zpk-aes", AES_ZPK, "--algorithm", "A")
    switch.bring_in_key("pvk-visa", PVK_VISA, usage="V2")
    switch.bring_in_key("pvk-ibm", PVK_IBM, usage="V1")
    return switch


@pytest.fixture(scope="module")
def lab(make_shared):
    return make(make_shared, METHODS).start()


@pytest.fixture
def movable(make_switch):
    return make(make_switch, METHODS)


def new_card(switch, method, pin, pan=None):
    number = next(_cards)
    card = Card(f"card-{number}", pan or pan_of("476134", number), pin, method.name)
    switch.add_all([card])
    return card


def a_pin(length):
    return random_pin(SOURCE, length)


def zpk_of(iso_format):
    return AES_ZPK if iso_format == 4 else ZPK


def request(card, pin, iso_format, zpk=None):
    zpk = zpk or zpk_of(iso_format)
    return authorization(card, pin, zpk=zpk, iso_format=iso_format)


def codes(switch, link, requests):
    dialect = BINARY if link.startswith("binary-") else ASCII
    with switch.connect(link, dialect=dialect) as link:
        return link.codes(requests)


def tries(switch, card):
    return switch.asked({"show": {"token": card.token}})["pin_try_counter"]


def wrong_pins(method, card, count):
    """PINs as long as the right one that the method tells from it."""
    found = []
    while len(found) < count:
        pin = a_pin(len(card.pin))
        differs = pin != card.pin
        if method is not TRANSLATED:
            differs = method.value_of(pin, card.pan) != method.value(card)
        found += [pin] if differs else []
    return found


def allows(method, iso_format):
    return iso_format != 1 or method is TRANSLATED


ALLOWED = [(m, f) for m in METHODS for f in FORMATS if allows(m, f)]
names = [f"{method.name}-format-{iso_format}" for method, iso_format in ALLOWED]


@pytest.mark.parametrize("link", ["format", "binary"])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("method, iso_format", ALLOWED, ids=names)
def test_a_right_pin_is_approved_and_the_third_wrong_one_in_a_row_suspends(
    lab, method, iso_format, length, link
):
    card = new_card(lab, method, a_pin(length))
    wrong = wrong_pins(method, card, 4)
    pins = [card.pin, wrong[0], card.pin, *wrong[1:], card.pin]
    said = codes(lab, f"{link}-{iso_format}", [request(card, pin, iso_format) for pin in pins])
    assert said == ["00", "55", "00", "55", "55", "75", "75"]


@pytest.mark.parametrize("length", [4, 8, 12])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_link_takes_every_format_that_it_lists(lab, method, length):
    card = new_card(lab, method, a_pin(length))
    for iso_format in (0, 3) + (1,) * allows(method, 1):
        (wrong,) = wrong_pins(method, card, 1)
        requests = [request(card, pin, iso_format) for pin in (wrong, card.pin)]
        assert codes(lab, "format-0-1-3", requests) == ["55", "00"]


@pytest.mark.parametrize("length", [4, 12])
@pytest.mark.parametrize("method", [PVV, *OFFSETS], ids=lambda method: method.name)
def test_format_1_knows_no_pan_and_verifies_no_pvv_and_no_offset(lab, method, length):
    card = new_card(lab, method, a_pin(length))
    pins = [card.pin, *wrong_pins(method, card, 3)]
    for link in ("format-1", "format-0-1-3"):
        assert codes(lab, link, [request(card, pin, 1) for pin in pins]) == ["81"] * 4
    assert tries(lab, card) == 0
    assert codes(lab, "format-0-1-3", [request(card, card.pin, 0)]) == ["00"]


def test_a_block_of_format_1_is_for_every_card_that_has_the_pin(lab):
    pin = a_pin(6)
    one, other = new_card(lab, TRANSLATED, pin), new_card(lab, TRANSLATED, pin)
    block = request(one, pin, 1)["52"]
    requests = [authorization(card, changes={"52": block}) for card in (one, other)]
    assert codes(lab, "format-1", requests) == ["00", "00"]


@pytest.mark.parametrize("listed, sent", [
    ("format-0", 1), ("format-0", 3), ("format-1", 0), ("format-1", 3), ("format-3", 0),
    ("format-3", 1), ("link-a", 1),
])
def test_a_format_that_the_link_does_not_list_is_unusable_and_counts_no_try(lab, listed, sent):
    card = new_card(lab, TRANSLATED, a_pin(5))
    assert codes(lab, listed, [request(card, card.pin, sent)]) == ["81"]
    assert tries(lab, card) == 0


def test_a_link_that_lists_no_formats_takes_0_and_3(lab):
    card = new_card(lab, TRANSLATED, a_pin(5))
    assert codes(lab, "link-a", [request(card, card.pin, f) for f in (0, 3)]) == ["00", "00"]


def test_format_2_is_for_the_chip_only(lab):
    card = new_card(lab, TRANSLATED, a_pin(4))
    changes = {"52": encrypted(pinblock.encode_pinblock_iso_2(card.pin), ZPK)}
    assert codes(lab, "format-0-1-3", [authorization(card, changes=changes)]) == ["81"]


@pytest.mark.parametrize("iso_format", [0, 3, 4])
def test_a_block_under_another_zone_key_is_unusable_and_counts_no_try(lab, iso_format):
    other = OTHER_AES_ZPK if iso_format == 4 else OTHER_ZPK
    for length in LENGTHS:
        card = new_card(lab, TRANSLATED, a_pin(length))
        requests = [request(card, card.pin, iso_format, other)]
        assert codes(lab, f"format-{iso_format}", requests) == ["81"]
        assert tries(lab, card) == 0


def test_so_is_one_of_format_1_but_for_one_in_600(lab):
    """It has no fixed fill: what another key made of it may read as a PIN, which is wrong then.
    These do not."""
    card = new_card(lab, TRANSLATED, "123456")
    fields = [f"1{length:X}" + "123456789012"[:length].ljust(14, "5") for length in LENGTHS]
    changes = [{"52": encrypted(bytes.fromhex(field), OTHER_ZPK)} for field in fields]
    requests = [authorization(card, changes=change) for change in changes]
    assert codes(lab, "format-1", requests) == ["81"] * len(LENGTHS)
    assert tries(lab, card) == 0


# Formats 0, 3 and 4 belong to a PAN.

# Two PANs whose last account digits are 0 and 8, which no fill of format 3 survives.
PAN, PAN_WITH_OTHER_FILL = pan_of("476134", 770_000_000), pan_of("476134", 770_000_008)
# Another one that differs where a digit of the PIN stands.
PAN_WITH_OTHER_PIN = pan_of("476134", 470_000_000)


@pytest.fixture
def of_pan(lab):
    """Anew for each test: a card may have 255 unusable PIN blocks a minute."""
    card = new_card(lab, TRANSLATED, "123456", PAN)
    yield card
    lab.done("card", "remove", card.token)


@pytest.mark.parametrize("iso_format", [0, 3, 4])
def test_a_block_for_another_pan_is_unusable_and_counts_no_try(lab, of_pan, iso_format):
    for _ in range(20):
        block = pin_block(of_pan.pin, PAN_WITH_OTHER_FILL, zpk_of(iso_format), iso_format)
        requests = [authorization(of_pan, changes={"52": block})]
        assert codes(lab, f"format-{iso_format}", requests) == ["81"]
    assert tries(lab, of_pan) == 0


@pytest.mark.parametrize("iso_format, code", [(0, "55"), (3, "55"), (4, "81")])
def test_where_every_digit_stays_in_its_range_only_format_4_knows_another_pan(
    lab, of_pan, iso_format, code
):
    """Formats 0 and 3 carry no PAN: such a block is verified as it reads, as a wrong PIN."""
    other = PAN_WITH_OTHER_PIN
    assert tries(lab, of_pan) == 0
    block = pin_block("123456", other, zpk_of(iso_format), iso_format)
    assert [at for at in range(3, 15) if PAN[at] != other[at]] == [6]
    said = codes(lab, f"format-{iso_format}", [
        authorization(of_pan, changes={"52": block}), request(of_pan, "123456", iso_format),
    ])
    assert said == [code, "00"]


# Digits out of their range.


def bound(field, pan):
    """A clear block of format 0 or 3 from its field of PIN and fill."""
    return tools.xor(bytes.fromhex(field), bytes.fromhex("0000" + pan[-13:-1]))


def block_of(field, iso_format, pan):
    """DE52 with a field of PIN and fill of our own choice, right or wrong."""
    if iso_format == 4:
        first = aes.encrypt_aes_ecb(AES_ZPK, bytes.fromhex(field) + SOURCE.randbytes(8))
        second = tools.xor(first, pinblock.encode_pan_field_iso_4(pan))
        return aes.encrypt_aes_ecb(AES_ZPK, second).hex().upper()
    clear = bytes.fromhex(field) if iso_format == 1 else bound(field, pan)
    return encrypted(clear, ZPK)


def fields_out_of_range():
    for iso_format, fill in ((0, "F"), (1, "5"), (3, "C"), (4, "A")):
        name = f"{iso_format}"
        yield iso_format, f"{name}3123{fill * 11}"
        yield iso_format, f"{name}0{fill * 14}"
        yield iso_format, f"{name}D1234567890123{fill}"
        yield iso_format, f"{name}F12345678901234"
        for digit in "ABCDEF":
            yield iso_format, f"{name}6{digit}23456{fill * 8}"
            yield iso_format, f"{name}612345{digit}{fill * 8}"
            yield iso_format, f"{name}C12345678901{digit}{fill * 2}"
        for at in (0, 7) if iso_format != 1 else ():
            allowed = {0: "F", 3: "ABCDEF", 4: "A"}[iso_format]
            for wrong in set("0123456789ABCDEF") - set(allowed):
                yield iso_format, f"{name}6123456{fill * at}{wrong}{fill * (7 - at)}"
    # Another control digit than the link's only format.
    yield from ((4, f"{control}6123456AAAAAAAA") for control in "012356789ABCDEF")
    yield from ((0, f"{control}6123456FFFFFFFF") for control in "123456789ABCDEF")


@pytest.mark.parametrize("iso_format", FORMATS)
def test_any_digit_out_of_its_range_is_unusable_and_counts_no_try(lab, of_pan, iso_format):
    fields = [field for known, field in fields_out_of_range() if known == iso_format]
    assert len(fields) >= 22
    blocks = [block_of(field, iso_format, PAN) for field in fields]
    requests = [authorization(of_pan, changes={"52": block}) for block in blocks]
    said = dict(zip(fields, codes(lab, f"format-{iso_format}", requests)))
    assert {field: code for field, code in said.items() if code != "81"} == {}
    assert tries(lab, of_pan) == 0


@pytest.mark.parametrize("field, iso_format", [
    ("06123456FFFFFFFF", 0), ("1612345600000000", 1), ("16123456FFFFFFFF", 1),
    ("1612345699999999", 1), ("36123456AAAAAAAA", 3), ("36123456FFFFFFFF", 3),
    ("46123456AAAAAAAA", 4),
])
def test_the_same_blocks_with_every_digit_in_its_range_are_right(lab, of_pan, field, iso_format):
    requests = [authorization(of_pan, changes={"52": block_of(field, iso_format, PAN)})]
    assert codes(lab, f"format-{iso_format}", requests) == ["00"]


# What the methods see of a PIN.


@pytest.mark.parametrize("iso_format", [0, 3, 4])
def test_a_pvv_covers_the_first_four_digits_only(lab, iso_format):
    card = new_card(lab, PVV, "482905")
    (other,) = wrong_pins(PVV, card, 1)
    pins = ["4829", "48290", "482905", "482917", "482999999999", other[:4], other]
    said = codes(lab, f"format-{iso_format}", [request(card, pin, iso_format) for pin in pins])
    assert said == ["00"] * 5 + ["55"] * 2


@pytest.mark.parametrize("iso_format", [0, 3, 4])
@pytest.mark.parametrize("method", [TRANSLATED, *OFFSETS], ids=lambda method: method.name)
def test_with_the_other_methods_a_pin_of_another_length_is_wrong(lab, method, iso_format):
    card = new_card(lab, method, "482905")
    pins = [card.pin[:5], card.pin, card.pin[:4], card.pin, card.pin + "0", "482905123456"]
    said = codes(lab, f"format-{iso_format}", [request(card, pin, iso_format) for pin in pins])
    assert said == ["55", "00", "55", "00", "55", "55"]


def test_a_pan_that_is_too_short_for_the_validation_data_takes_no_pin(lab):
    for number, method in enumerate(METHODS):
        for length in (13, 15, 16, 19):
            token, pan = f"length-{length}-{number}", pan_of("476134", 880 + number, length)
            said = lab.ask({"add": of_card(Card(token, pan, "5555", method.name))})
            if method is OFFSETS[0] and length < 16:
                assert "PAN is too short" in said
                assert "no card" in lab.ask({"show": {"token": token}})
            else:
                assert said["pin_is_set"]


# A card stays with what its PIN was set with.


def moved(switch, before, after, pin):
    """A card whose PIN was set by one method, and its product changed to another."""
    configure(switch, [before.renamed("moving")])
    switch.start()
    card = new_card(switch, before.renamed("moving"), pin)
    restarted(switch, [after.renamed("moving")])
    return card


def restarted(switch, methods):
    assert switch.terminate() == 0
    configure(switch, methods)
    return switch.start()


def set_pin(switch, card, pin):
    switch.asked({"set_pin": {"token": card.token, "pin": pin}})


def seen(switch, card):
    """What tells the methods apart from outside: the code of the PIN in format 0, of the PIN in
    format 1, and of another PIN with the same first four digits, which counts a try at most."""
    other = card.pin[:4] + "".join(str(9 - int(digit)) for digit in card.pin[4:])
    requests = [request(card, card.pin, 0), request(card, card.pin, 1), request(card, other, 0)]
    said = codes(switch, "format-0-1-3", requests)
    assert codes(switch, "format-0", [request(card, card.pin, 0)]) == ["00"]
    return said


BY_BLOCK, BY_PVV, BY_OFFSET = ["00", "00", "55"], ["00", "81", "00"], ["00", "81", "55"]
SEEN = {TRANSLATED.name: BY_BLOCK, PVV.name: BY_PVV} | {m.name: BY_OFFSET for m in OFFSETS}


@pytest.mark.parametrize(
    "before, after", list(itertools.permutations([TRANSLATED, PVV, OFFSETS[0]], 2)),
    ids=lambda method: method.name,
)
def test_a_new_pin_is_kept_by_the_method_that_the_product_has_now(movable, before, after):
    card = moved(movable, before, after, "120987")
    set_pin(movable, card, card.pin)
    assert seen(movable, card) == SEEN[after.name]


@pytest.mark.parametrize("before, after", [
    (TRANSLATED, PVV), (TRANSLATED, OFFSETS[0]), (PVV, TRANSLATED), (PVV, OFFSETS[0]),
], ids=lambda method: method.name)
def test_a_card_is_verified_by_what_its_pin_was_set_with(movable, before, after):
    card = moved(movable, before, after, "120987")
    assert seen(movable, card) == SEEN[before.name]


@pytest.mark.parametrize("after", [TRANSLATED, PVV], ids=lambda method: method.name)
def test_a_card_with_an_offset_is_verified_by_it_while_the_product_names_the_method(
    movable, after
):
    card = moved(movable, OFFSETS[0], replace(after, earlier=(OFFSETS[0],)), "120987")
    assert seen(movable, card) == BY_OFFSET


def test_the_parameters_of_an_offset_are_found_among_those_the_product_had(movable):
    after = replace(OFFSETS[0].with_table(validation_data="leftmost-11-F"), earlier=(OFFSETS[0],))
    card = moved(movable, OFFSETS[0], after, "120987")
    assert seen(movable, card) == BY_OFFSET
    set_pin(movable, card, card.pin)
    assert seen(movable, card) == BY_OFFSET


@pytest.mark.parametrize("before", [PVV, OFFSETS[0]], ids=lambda method: method.name)
def test_without_the_key_that_made_its_reference_a_card_is_91_and_counts_nothing(movable, before):
    card = moved(movable, before, TRANSLATED, "120987")
    assert movable.terminate() == 0
    path = movable.data / "keys" / f"{before.table['pvk']}.key"
    block = path.read_text()
    path.unlink()
    movable.start()
    pins = [card.pin, *["654321"] * 4]
    assert codes(movable, "format-0", [request(card, pin, 0) for pin in pins]) == ["91"] * 5
    assert (tries(movable, card), movable.show(card.token)["state"]) == (0, "ACTIVE")
    set_pin(movable, card, "778899")
    said = codes(movable, "format-0", [request(card, p, 0) for p in ("120987", "778899")])
    assert said == ["55", "00"]
    path.write_text(block)


def test_without_the_pvk_that_a_product_names_the_switch_does_not_start(movable):
    (movable.data / "keys" / "pvk-visa.key").unlink()
    assert "pvk-visa" in movable.refuses_to_start()


@pytest.mark.parametrize("changes", [
    {"decimalisation_table": "9876543210123456"}, {"validation_data": "leftmost-11-F"},
])
def test_an_offset_with_other_parameters_says_nothing_and_counts_nothing(movable, changes):
    before = OFFSETS[0].renamed("moving")
    configure(movable, [before])
    movable.start()
    card = new_card(movable, before, "120987")
    restarted(movable, [before.with_table(**changes)])
    assert "PINs of these cards" in movable.log() and "cards=1" in movable.log()
    pins = [card.pin, *["654321"] * 4]
    assert codes(movable, "format-0", [request(card, pin, 0) for pin in pins]) == ["91"] * 5
    assert (tries(movable, card), movable.show(card.token)["state"]) == (0, "ACTIVE")
    restarted(movable, [before])
    assert codes(movable, "format-0", [request(card, card.pin, 0)]) == ["00"]
    assert "PINs of these cards" not in movable.log()

