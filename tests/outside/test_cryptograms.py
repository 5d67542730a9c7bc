"""Cryptograms of other schemes than those that are built in, of chips without contact, and chip data
that come in another form: calculated with pyemv from what a scheme says that it covers."""

import json
import random
import re
from dataclasses import dataclass

import pytest
import settings
from chip import OK, PROFILES, VISA_KEYS, Chip, told
from messages import CARD_2, authorization
from pyemv import ac, kd, tlv
from process import REPOSITORY

VISA = PROFILES[0]
ZEROS, BIT = ac.PaddingType.VISA, ac.PaddingType.EMV
USUAL = ["9F02", "9F03", "9F1A", "95", "5F2A", "9A", "9C", "9F37", "82", "9F36"]
_random = random.Random(17)


@dataclass
class Card:
    """Makes cryptograms over the elements of `covers`: tags, or a tag and a slice of its bytes."""

    covers: list
    padding: object = ZEROS
    common_key: bool = False
    atc: int = 0

    def request(self, iad, *, entry="051", tags=None, changes=None, without=(), pin=None):
        self.atc += 1
        data = {
            "9F02": "000000001250", "9F03": "0" * 12, "9F1A": "0276", "95": "0000000000",
            "5F2A": "0978", "9A": "261128", "9C": "00", "9F37": f"{_random.getrandbits(32):08X}",
            "82": "1800", "9F36": f"{self.atc:04X}", "9F10": iad, "9F34": "1F0302",
            **(tags or {}),
        }
        master = kd.derive_icc_mk_a(bytes.fromhex(VISA_KEYS[0]), CARD_2.pan, CARD_2.sequence)
        self.key, self.values = master, data
        if self.common_key:
            counter = bytes.fromhex(data["9F36"]) + bytes(6)
            self.key = kd.derive_common_sk(master, counter)
        parts = (part if isinstance(part, tuple) else (part, slice(None)) for part in self.covers)
        covered = b"".join(bytes.fromhex(data[tag])[where] for tag, where in parts)
        self.arqc = ac.generate_ac(self.key, covered, self.padding)
        data = {"9F26": self.arqc.hex()} | {tag: data[tag] for tag in data if tag not in without}
        chip_data = tlv.encode({tag: bytes.fromhex(value) for tag, value in data.items()})
        return authorization(CARD_2, pin, changes={
            "4": "000000001250", "22": entry, "55": chip_data.hex().upper(), **(changes or {})})

    def tag_91(self, code):
        return ac.generate_arpc_1(self.key, self.arqc, code) + code


def visa_17():
    return Card(["9F02", "9F37", "9F36", ("9F10", slice(4, 5))])


def reason(answer):
    return answer.reason or answer.code


@pytest.fixture
def make_chips(make_switch):
    def make(more="", offline_pin=True, **changes):
        visa = settings.chip("visa", more)
        if not offline_pin:
            visa = visa.replace("offline_pin = true", "offline_pin = false")
        return make_switch(visa_chip=visa, **changes)

    return make


def trail(switch):
    return json.loads(switch.done("transaction", "show", CARD_2.token, "--count", "1"))[0]["trail"]


def explained(switch, request):
    result = switch.command("explain-cryptogram", CARD_2.token, request["55"])
    assert result.returncode == 0, result.stderr
    return dict(line.split(": ", 1) for line in result.stdout.splitlines())


# Visa CVN 17 (11): of chips without contact.

IAD_17 = "06011103A00000"


@pytest.mark.parametrize("offline_pin", [True, False])
def test_cvn_17_needs_only_what_it_covers(make_chips, offline_pin):
    switch = make_chips(offline_pin=offline_pin).start()
    card, few = visa_17(), ("9F03", "9F1A", "95", "5F2A", "9A", "9C", "82", "9F34")
    with switch.connect() as link:
        for without in ((), few):
            request = card.request(IAD_17, entry="071", without=without)
            answer = link.ask(request)
            assert answer.code == "00"
            assert told(answer) == (card.tag_91(b"00"), None, None)
            assert link.ask(dict(request, t="0101")).raw == answer.raw
            number = f"{990_000 + card.atc}"
            replayed = dict(request, **{"11": number, "37": number * 2})
            assert reason(link.ask(replayed)) == "1029"
        values = explained(switch, request)
        assert values["covers"] == "9F02 9F37 9F36 9F10[5]"
        assert values["9F26 as computed"] == card.arqc.hex().upper()
        # Every bit of what it covers, and nothing of it left out.
        for tag, place in (("9F02", 5), ("9F37", 3), ("9F36", 1), ("9F10", 4), ("9F26", 7)):
            request = card.request(IAD_17, entry="071")
            data = {name: bytearray(value) for name, value in
                    tlv.decode(bytes.fromhex(request["55"])).items()}
            data[tag][place] ^= 1
            changed = tlv.encode({name: bytes(value) for name, value in data.items()}).hex().upper()
            assert reason(link.ask(dict(request, **{"55": changed}))) == "1029", tag
        for tag in ("9F02", "9F37", "9F36", "9F10"):
            assert reason(link.ask(card.request(IAD_17, entry="071", without=(tag,)))) == "1029"
            assert trail(switch) == ["DE55 lacks what its cryptogram covers"]


def test_cvn_17_is_no_evidence_of_a_contact_chip(make_chips):
    """Its terminal can say what it likes: of a PIN that is right, or of tries that are over."""
    switch = make_chips("ftpam = 5000\nftpdy = 7\n").start()
    switch.done("card", "set-pin", CARD_2.token, stdin="7391")
    card = visa_17()
    with switch.connect() as link:
        for entry in ("051", "951", "801", "000"):
            for iad, cvm in ((IAD_17, "1E0300"), ("06011103A04000", "1E0300"), (IAD_17, "410302")):
                request = card.request(iad, entry=entry, tags={"9F34": cvm})
                assert reason(link.ask(request)) == "1029"
                assert trail(switch) == [
                    "the cryptogram covers too little: it is of chips without contact"]
        # Without contact there is no script, and the chip tells nothing of one.
        assert link.ask(card.request("06011103A40090", entry="071")).code == "00"
        assert switch.show(CARD_2.token)["chip_sync"] == "pending {change, attempts 0}"
        # Cash needs a PIN, and a PIN that the terminal says went online must be there.
        cash = card.request(IAD_17, entry="071", changes={"3": "010000"})
        assert reason(link.ask(cash)) == "1012"
        online = card.request(IAD_17, entry="071", tags={"9F34": "420300"})
        assert reason(link.ask(online)) == "1012"
        right = card.request(IAD_17, entry="071", pin="7391", changes={"3": "010000"})
        assert link.ask(right).code == "00"
        # What says that it is no ARQC, and the fifth byte says so under the cryptogram.
        assert reason(link.ask(card.request("06011103900000", entry="071"))) == "1029"


def test_a_contactless_cryptogram_does_not_settle_a_script(make_chips):
    """The bytes of its CVR that tell of scripts are under no cryptogram."""
    switch = make_chips().start()
    switch.done("card", "set-pin", CARD_2.token, stdin="7391")
    chip, card = Chip(VISA), visa_17()
    with switch.connect() as link:
        sent = chip.request(pin=OK)
        assert told(link.ask(sent))[2] == chip.pin_change("7391")
        card.atc = chip.atc
        for iad in ("06011103A00010", "06011103A00018", "06011103A80000", "06011103A08010"):
            assert link.ask(card.request(iad, entry="071")).code == "00", iad
            assert switch.show(CARD_2.token)["chip_sync"] == "sent {change, attempts 1}"
        chip.atc = card.atc
        assert link.ask(chip.request(pin=OK, scripts=1)).code == "00"
        assert switch.show(CARD_2.token)["chip_sync"] == "in_sync"


# Shapes of 9F10 and rows of the table of CVNs that a product brings.

OWN = """
[[products.chip.iad]]
name = "own"
begins = "07 xx xx 03"
lengths = [8]
cvn = 3
cvr = "4-7"
cryptogram_types = 2
"""
OWN_BITS = """
offline_pin_performed = "2:04"
offline_pin_failed = "2:02"
pin_try_limit_exceeded = "3:40"
issuer_authentication_failed = ["2:08", "3:08"]
scripts = "4:F0"
script_failed = "4:08"
last_online_not_completed = "3:80"
"""


def row(scheme, version, covers):
    return f"""
[[products.chip.cvn]]
scheme = "{scheme}"
cvn = "{version}"
card_keys = "option_a"
session_key = "common"
{covers}
padding = "bit"
arpc = "method_1_session_key"
approve = "response_code"
decline = "response_code"
script_keys = "common"
script_pin = "iso2"
"""


def own_card(covers=None):
    covers = covers or [*USUAL, ("9F10", slice(3, 7))]
    return Card(covers, padding=BIT, common_key=True)


COVERS = [
    ('covered_iad = "cvr"', [*USUAL, ("9F10", slice(3, 7))]),
    ('covered_iad = "whole"', [*USUAL, "9F10"]),
    (f"covers = {json.dumps([*USUAL, '9F10[4-7]'])}", [*USUAL, ("9F10", slice(3, 7))]),
    (f"covers = {json.dumps([*USUAL[::-1], 'cvr', '9F66', '9F33[2]'])}",
     [*USUAL[::-1], ("9F10", slice(3, 7)), "9F66", ("9F33", slice(1, 2))]),
]


@pytest.mark.parametrize("covers, covered", COVERS, ids=[covers for covers, _ in COVERS])
def test_a_product_brings_a_scheme_of_its_own(make_chips, covers, covered):
    rules = OWN + OWN_BITS + row("own", "01", covers)
    switch = make_chips("ftpam = 5000\nftpdy = 7\n" + rules).start()
    card, other = own_card(covered), {"9F66": "36000000", "9F33": "E0F8C8"}
    with switch.connect() as link:
        def ask(iad, **how):
            how["tags"] = other | how.get("tags", {})
            return link.ask(card.request(iad, **how))

        answer = ask("07020103A4000010", tags={"9F34": "410302"})
        assert (answer.code, told(answer)) == ("00", (card.tag_91(b"00"), None, None))
        declined = ask("07020103A6000010", tags={"9F34": "410301"})
        assert (reason(declined), told(declined)[0]) == ("1809", card.tag_91(b"55"))
        assert reason(ask("07020103A0400010")) == "1872"
        assert reason(ask("0702010380000010")) == "1029"
        for tag in {tag for tag in map(lambda of: of[0] if isinstance(of, tuple) else of, covered)}:
            request = card.request("07020103A4000010", tags=other)
            data = {name: bytearray(value) for name, value in
                    tlv.decode(bytes.fromhex(request["55"])).items()}
            data[tag][{"9F10": 6, "9F33": 1}.get(tag, -1)] ^= 1
            changed = tlv.encode({name: bytes(value) for name, value in data.items()}).hex().upper()
            assert reason(link.ask(dict(request, **{"55": changed}))) == "1029", tag
        # The script rides, and the chip tells of it.
        switch.done("card", "set-pin", CARD_2.token, stdin="7391")
        answer = ask("07020103A6000010", tags={"9F34": "410301"})
        assert answer.code == "00" and told(answer)[2] is not None
        assert ask("07020103A4001010", tags={"9F34": "410302"}).code == "00"
        assert switch.show(CARD_2.token)["chip_sync"] == "in_sync"
    assert explained(switch, card.request("07020103A4000010", tags=other))["9F26 as computed"]


def test_what_a_shape_does_not_say_is_no_evidence(make_chips):
    """No offline PIN is right, no script is sent, since nobody would hear of it, and nothing passes
    because a change waits."""
    rules = OWN + row("own", "01", 'covered_iad = "cvr"')
    switch = make_chips("ftpam = 5000\nftpdy = 7\n" + rules).start()
    switch.done("card", "set-pin", CARD_2.token, stdin="7391")
    card = own_card()
    with switch.connect() as link:
        right = card.request("07020103A4000010", tags={"9F34": "410302"})
        assert reason(link.ask(right)) == "1029"
        signed = card.request("07020103A4000010", tags={"9F34": "1E0300"})
        answer = link.ask(signed)
        assert (answer.code, told(answer)[2]) == ("00", None)
        wrong = card.request("07020103A6000010", tags={"9F34": "410301"})
        assert reason(link.ask(wrong)) == "1809"
        exhausted = {"95": "0000200000", "9F34": "1E0300"}
        assert reason(link.ask(card.request("07020103A0400010", tags=exhausted))) == "1872"
        online = link.ask(card.request("07020103A0000010", pin="7391", tags={"9F34": "420300"}))
        assert (online.code, told(online)[2]) == ("00", None)
        assert switch.show(CARD_2.token)["chip_sync"] == "pending {change, attempts 0}"


def test_a_shape_of_the_product_may_lie_within_a_built_in_one(make_chips):
    within = """
        built_in_shapes = ["visa"]
        [[products.chip.iad]]
        name = "within"
        begins = "06 xx 01 03"
        cvn = 3
        cvr = "4-7"
        cryptogram_types = 2
    """
    rules = within + row("within", "01", 'covered_iad = "cvr"')
    switch = make_chips(rules, offline_pin=False).start()
    card, chip = own_card(), Chip(VISA, atc=10)
    with switch.connect() as link:
        assert link.ask(card.request("06020103A40002")).code == "00"
        assert link.ask(chip.request()).code == "00"


def refused(switch):
    """What `check-config` says, without the places."""
    result = switch.command("check-config")
    assert result.returncode == 1, result.stdout
    return [line.split("chip, ", 1)[1] for line in result.stderr.splitlines()]


def test_beside_shapes_of_its_own_a_product_knows_the_built_in_ones_that_it_names(make_chips):
    rules = OWN + row("own", "01", 'covered_iad = "cvr"')
    chip, card = Chip(VISA, atc=10), own_card()
    for named, known in (("", False), ('built_in_shapes = ["ccd", "mastercard"]\n', False),
                         ('built_in_shapes = ["visa"]\n', True), ("built_in_shapes = []\n", False)):
        switch = make_chips(named + rules).start()
        with switch.connect() as link:
            assert link.ask(chip.request()).code == ("00" if known else "59")
            if not known:
                assert trail(switch)[0].startswith("the shape of 9F10 is not known")
            assert link.ask(card.request("07020103A0000010")).code == "00"
        switch.stop()


def as_visa_0a(scheme, covers='covered_iad = "cvr"'):
    """A row whose cryptograms are made as those of Visa CVN 0A."""
    made = row(scheme, "01", covers).replace('padding = "bit"', 'padding = "zeros"')
    return made.replace('session_key = "common"', 'session_key = "none"')


@pytest.mark.parametrize("begins, own, covers", [
    ("07 xx xx 03", 'lengths = [7]', 'covered_iad = "cvr"'),
    ("06 xx 01 03", "", 'covered_iad = "cvr"'),
    ("08 xx xx 03", "", f"covers = {json.dumps([*USUAL, '9F10[4-7]'])}"),
    ("08 xx xx 03", "", f"covers = {json.dumps([*USUAL, '9F10[4-8]'])}"),
    ("08 xx xx 03", "", f"covers = {json.dumps([*USUAL, '9F10[4-6]'])}"),
])
def test_a_copied_cryptogram_cannot_choose_how_it_is_read(make_chips, begins, own, covers):
    """The head of 9F10 is not under it: a shape that says nothing of a PIN would make a wrong one
    pass, and one that is Visa's a card without an offline PIN one that has verified it."""
    shape = f"""
        [[products.chip.iad]]
        name = "other"
        begins = "{begins}"
        {own}
        cvn = 3
        cvr = "4-7"
        cryptogram_types = 2
    """
    rules = shape + as_visa_0a("other", covers)
    switch = make_chips('built_in_shapes = ["visa"]\n' + rules)
    assert refused(switch) == [
        'CVN 1, cvn: a cryptogram of it can pass as one of "visa" 0A, which reads it differently: '
        "both must cover the bytes of 9F10 that tell them apart"]
    # Two of the product are no better, and better where both cover all of it.
    told_apart = shape.replace('"other"', '"second"').replace(begins, "09 xx xx 03")
    told_apart += 'offline_pin_performed = "2:04"\noffline_pin_failed = "2:02"\n'
    both = shape + told_apart + as_visa_0a("other") + as_visa_0a("second")
    text = 'CVN 2, cvn: a cryptogram of it can pass as one of "other" 01'
    assert refused(make_chips(both))[0].startswith(text)
    whole = both.replace('covered_iad = "cvr"', 'covered_iad = "whole"')
    assert make_chips(whole).command("check-config").returncode == 0
    # Without the built-in shape there is one way to read it.
    switch = make_chips(rules).start()
    card = Card([*USUAL, ("9F10", slice(3, 7))])
    with switch.connect() as link:
        assert reason(link.ask(card.request("06010A03A60000", tags={"9F34": "1E0300"}))) == "1029"


@pytest.mark.parametrize("change, wanted", [
    (('begins = "07 xx xx 03"', 'begins = "xx xx"'), "shape of 9F10 1, begins: expected bytes"),
    (("cryptogram_types = 2", ""), "shape of 9F10 1, cryptogram_types: is missing"),
    (('covered_iad = "cvr"', 'covers = ["9F36", "95", "9F10[40]"]'),
     "CVN 1, covers: expected a tag"),
    (('covered_iad = "cvr"', 'covers = ["9F36", "95", "9F10[9]"]'),
     "CVN 1, covers: 9F10 of this scheme has 8 bytes at most"),
    (("[[products.chip.cvn]]", OWN.replace('"own"', '"again"')
      + row("again", "01", 'covered_iad = "cvr"') + "[[products.chip.cvn]]"),
     "shape of 9F10 2, begins: what begins so"),
    (("[[products.chip.cvn]]", OWN.replace('"own"', '"none"').replace("07 xx", "08 xx")
      + "[[products.chip.cvn]]"), "shape of 9F10 2, name: no [[products.chip.cvn]]"),
    (('scheme = "own"', 'scheme = "visa"'), 'CVN 1, scheme: expected "own", or a built-in one'),
])
def test_what_can_never_work_is_refused(make_chips, change, wanted):
    rules = OWN + row("own", "01", 'covered_iad = "cvr"')
    assert change[0] in rules
    found = refused(make_chips(rules.replace(*change, 1)))
    assert any(line.startswith(wanted) for line in found), found


def test_an_aac_is_none_whatever_the_terminal_says(make_chips):
    """9F27 is under no cryptogram, the CVR is."""
    switch = make_chips(OWN + row("own", "01", 'covered_iad = "cvr"')).start()
    card = own_card()
    with switch.connect() as link:
        for iad, information, expected in (("0702010380000010", "80", "1029"),
                                           ("07020103A0000010", "00", "1029"),
                                           ("07020103A0000010", "80", "00"),
                                           ("0702010380000010", None, "1029")):
            tags = {"9F27": information} if information else {}
            assert reason(link.ask(card.request(iad, tags=tags))) == expected


# How what is not known is told.

UNKNOWN = [
    ("seven and 03", "07020103AB806010", "07 02 01 03"),
    ("seven and 04", "07290104A0000000", "07 29 01 04"),
    ("sixteen bytes", "01828100310040180000000000000000", "01 82 81 00"),
    ("nothing", "", "nothing"),
    ("one byte", "07", "07"),
    ("zeros", "00" * 9, "00 00 00 00"),
]


@pytest.mark.parametrize("name, iad, head", UNKNOWN, ids=[name for name, *_ in UNKNOWN])
def test_an_unknown_shape_is_told_by_its_first_bytes(make_chips, name, iad, head):
    switch = make_chips().start()
    text = f"the shape of 9F10 is not known (it begins with {head})"
    request = Card(["9F02"]).request(iad)
    with switch.connect() as link:
        assert reason(link.ask(request)) == "1029"
    assert trail(switch) == [text]
    refused = switch.command("explain-cryptogram", CARD_2.token, request["55"])
    assert refused.returncode == 1 and refused.stderr.strip().endswith(text)


@pytest.mark.parametrize("iad, version, head", [
    ("06020103A40002", "01", "06 02 01 03"), ("06010B03A00000", "0B", "06 01 0B 03"),
    ("1F4301000000A0".ljust(64, "0"), "43", "1F 43 01 00"),
    ("0112A00000000000".ljust(36, "0"), "12", "01 12 A0 00"),
    ("0182A00000000000".ljust(52, "0"), "82", "01 82 A0 00"),
])
def test_an_unknown_cvn_of_a_known_shape_is_told_with_it(make_chips, iad, version, head):
    switch = make_chips().start()
    request = Card(["9F02"]).request(iad)
    with switch.connect() as link:
        assert reason(link.ask(request)) == "1029"
    text = (f"9F10 has a cryptogram version that is not known (version {version}, "
            f"it begins with {head})")
    assert trail(switch) == [text]
    refused = switch.command("explain-cryptogram", CARD_2.token, request["55"])
    assert refused.returncode == 1 and refused.stderr.strip().endswith(text)


def test_a_product_knows_a_cvn_of_mastercard_that_is_not_in_the_table(make_chips):
    switch = make_chips(row("mastercard", "12", 'covered_iad = "cvr"')).start()
    card = Card([*USUAL, ("9F10", slice(2, 8))], padding=BIT, common_key=True)
    with switch.connect() as link:
        assert link.ask(card.request("0112A0000000000000".ljust(36, "0"))).code == "00"


# Chip data in another form.

def within(template, data):
    length = len(data) // 2
    return f"{template}{'81' if length > 127 else ''}{length:02X}{data}"


@pytest.mark.parametrize("template", ["77", "70"])
def test_a_template_around_the_chip_data_is_taken_off(make_chips, template):
    switch = make_chips().start()
    chip = Chip(VISA)
    with switch.connect() as link:
        request = chip.request(pin=OK)
        wrapped = dict(request, **{"55": within(template, request["55"])})
        answer = link.ask(wrapped)
        assert (answer.code, told(answer)[0]) == ("00", chip.arpc())
        assert explained(switch, wrapped)["9F26 as received"] == chip.arqc.hex().upper()
        for twice in (
            within(template, request["55"] + "9F3602" + "0001"),
            within(template, request["55"]) + "9F36020001",
        ):
            assert link.ask(dict(chip.request(pin=OK), **{"55": twice})).reason == "055"
        beyond = f"{template}7F" + request["55"]
        assert link.ask(dict(chip.request(pin=OK), **{"55": beyond})).reason == "055"


# In elements of their own: private ones here, and 130 to 149 where there is a third bitmap.
APART = {
    "110": ("9F33", "b"), "111": ("95", "b"), "112": ("9F37", "b"), "113": ("9F10", "b"),
    "114": ("9F26", "b"), "115": ("9F36", "b"), "116": ("82", "b"), "117": ("91", "b"),
    "118": ("scripts", "b"), "119": ("9F5B", "b"), "120": ("9C", "n"), "121": ("9F1A", "n"),
    "122": ("9A", "n"), "123": ("9F02", "n"), "124": ("5F2A", "n"), "125": ("9F03", "n"),
    "126": ("9F34", "b"), "127": ("8A", "b"),
}


def apart_dialect():
    text = (REPOSITORY / "iso-specs/specs/iso8583-1987-ascii.toml").read_text()
    text = text.replace("[echo]", "chip_response_code = true\n\n[echo]", 1)
    for element, (tag, kind) in APART.items():
        encoding = "hex" if kind == "b" else "ascii"
        line = (f'{element} = {{name = "Chip", type = "{kind}", length = "LLL", max = 64, '
                f'encoding = "{encoding}", chip_tag = "{tag}", sensitivity = "secret"}}')
        text = re.sub(rf"(?m)^{element} = .*$", line, text)
    return text


def taken_apart(request, without=()):
    data = tlv.decode(bytes.fromhex(request["55"]))
    elements = {}
    for element, (tag, kind) in APART.items():
        if tag in data and tag not in without:
            value = data[tag].hex().upper()
            # Three digits of a country and of a currency.
            elements[element] = value[-3:] if tag in ("9F1A", "5F2A") else value
    return {name: value for name, value in request.items() if name != "55"} | elements


@pytest.fixture
def apart(make_chips):
    switch = make_chips(dialect="own.toml")
    (switch.directory / "own.toml").write_text(apart_dialect())
    return switch.start()


def test_chip_data_may_come_in_elements_of_their_own(apart):
    chip, switch = Chip(VISA), apart
    with switch.connect() as link:
        request = chip.request(pin=OK)
        answer = link.ask(taken_apart(request))
        assert (answer.code, bytes.fromhex(answer.elements["117"])) == ("00", chip.arpc())
        assert answer.elements["127"] == b"00".hex()
        assert not {"55", "118"} & {*answer.elements}
        # As in DE55, which still may come; an answer has what its request had.
        answer = link.ask(chip.request(pin=OK))
        assert (answer.code, told(answer)[0], "117" in answer.elements) == ("00", chip.arpc(), False)
        wrong = taken_apart(chip.request(pin=OK))
        assert reason(link.ask(wrong | {"111": "0000000001"})) == "1029"
        assert reason(link.ask(taken_apart(chip.request(pin=OK), without=("95",)))) == "1029"
        failed = link.ask(taken_apart(chip.request(pin="failed", amount=999_999)))
        assert reason(failed) == "1809" and bytes.fromhex(failed.elements["117"])
        # The element that cannot be read is told; and what was typed has no chip.
        assert link.ask(taken_apart(chip.request(pin=OK)) | {"115": "01"}).reason == "115"
        typed = taken_apart(chip.request(pin=OK)) | {"22": "011"}
        assert link.ask(typed).reason == "110"
        # Without cryptogram and script results there is no chip data.
        without = taken_apart(chip.request(pin=OK), without=("9F26",))
        assert reason(link.ask(without)) == "1029"
        assert trail(switch) == ["a chip without DE55, and no PIN"]


def test_a_script_rides_in_an_element_of_its_own(apart):
    chip, switch = Chip(VISA), apart
    switch.done("card", "set-pin", CARD_2.token, stdin="7391")
    with switch.connect() as link:
        sent = taken_apart(chip.request(pin=OK))
        answer = link.ask(sent)
        script = tlv.decode(bytes.fromhex(answer.elements["118"]))["72"]
        assert (script["9F18"], script["86"]) == (bytes([1, 0, 0, 2]), chip.pin_change("7391"))
        assert link.ask(dict(sent, t="0101")).raw == answer.raw
        assert switch.show(CARD_2.token)["chip_sync"] == "sent {change, attempts 1}"
        # Its result comes in the advice that completes the payment.
        done = dict(sent, t="0120", **{"11": "777777", "37": "7" * 12, "119": "2001000002"})
        assert link.ask(done).code == "00"
        assert switch.show(CARD_2.token)["chip_sync"] == "in_sync"
