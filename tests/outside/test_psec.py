"""psec agrees with the switch on a thousand random cards of each PIN verification method, in every
PIN block format that the method allows: on the PIN blocks, and on the PVV, the offset or the PIN
block that the switch keeps. PINs, PANs, zone keys, PVKs and tables are random; a switch has a
handful of keys, so the cards are on several switches."""

import random

import pytest
import settings
from messages import Card, authorization, luhn_digit, pin_block, random_pin
from process import MASTER
from psec import des, tr31
from verification import ibm3624, tdes_key, translated_block, visa_pvv

SWITCHES = 5
CARDS_OF_A_METHOD = 200
FORMS = ["rightmost-16", "leftmost-11-F", "leftmost-13-0", "6615552N0010", "N12345678901"]
FORMATS = {"translated": (0, 1, 3, 4), "pvv": (0, 3, 4), "offset": (0, 3, 4)}
KINDS = [(name, iso_format) for name, formats in FORMATS.items() for iso_format in formats]


class Bank:
    """One switch with random keys, products and cards."""

    def __init__(self, switch, source):
        self.switch, self.source = switch, source
        self.zpks = {
            "tdes-2": tdes_key(source), "tdes-3": tdes_key(source, 24),
            **{f"aes-{bits}": source.randbytes(bits // 8) for bits in (128, 192, 256)},
        }
        self.pvks = [tdes_key(source, length) for length in (16, 24, 16, 24)]
        self.methods = {
            "translated": [translated_block()],
            "pvv": [visa_pvv(f"pvv-{n}", *self.pvk(n % 2), pvki=n) for n in range(1, 7)],
            "offset": [
                ibm3624(f"offset-{n}", *self.pvk(2 + n % 2), form, self.random_table())
                for n, form in enumerate(FORMS)
            ],
        }
        self.start()
        self.cards = {name: self.random_cards(name) for name in self.methods}
        self.switch.add_all([card for cards in self.cards.values() for card, _ in cards])
        segments = sorted((self.switch.data / "journal").glob("*.journal"))
        self.journal = b"".join(path.read_bytes() for path in segments)

    def pvk(self, number):
        return f"pvk-{number}", self.pvks[number]

    def random_table(self):
        digits = list("0123456789") + self.source.sample("0123456789", 6)
        self.source.shuffle(digits)
        return "".join(digits)

    def start(self):
        aes, tdes = ([4], "aes-ascii.toml"), ([0, 1, 3], settings.DEFAULTS["dialect"])
        links = [
            settings.link(name, f"zpk-{name}", *(aes if name.startswith("aes") else tdes))
            for name in self.zpks
        ]
        methods = [method for methods in self.methods.values() for method in methods]
        products = [settings.product(m.name, m.table, '"none"') for m in methods]
        self.switch.configure(
            master_key_file="master.key", zpk="zpk-tdes-2", tables="".join(links + products)
        )
        self.switch.write_master_key()
        self.switch.write_aes_dialects()
        for name, zpk in self.zpks.items():
            algorithm = "A" if name.startswith("aes") else "T"
            self.switch.bring_in_key(f"zpk-{name}", zpk, "--algorithm", algorithm)
        for number, usage in enumerate(["V2", "V2", "V1", "V1"]):
            self.switch.bring_in_key(*self.pvk(number), usage=usage)
        self.switch.start()

    def random_cards(self, name):
        """With the method of each."""
        found = []
        for number in range(CARDS_OF_A_METHOD):
            method = self.source.choice(self.methods[name])
            # "rightmost-16" needs 16 digits.
            shortest = 16 if method.table.get("validation_data") == "rightmost-16" else 13
            digits = "476134" + random_pin(self.source, self.source.randint(shortest, 19) - 7)
            pin = random_pin(self.source, self.source.randint(4, 12))
            token = f"{name}-{number:03}-token"
            found.append((Card(token, digits + luhn_digit(digits), pin, method.name), method))
        return found

    def reference(self, card):
        """Kind, check value of the key, and value, as they stand in the journal: the bytes of a
        card are described in switch/src/store/record/card.rs."""
        token = bytes([len(card.token)]) + card.token.encode()
        at = self.journal.index(token) + len(token)
        # Sealed PAN, product, version of the state, PIN version, tries.
        at += 31
        at += 1 + self.journal[at] + 1 + 4 + 4
        kind, size = self.journal[at], {1: 8, 2: 5, 3: 6}[self.journal[at]]
        return kind, self.journal[at + 1 : at + 4], self.journal[at + 4 : at + 4 + size]

    def expected_reference(self, card, method):
        if not method.pvk:
            block = (self.switch.data / "keys/own-pek.key").read_text().strip()
            pek = tr31.unwrap(MASTER, block)[1]
            return 1, des.generate_kcv(pek, 3), bytes.fromhex(pin_block(card.pin, card.pan, pek))
        value, kcv = method.value(card), des.generate_kcv(method.pvk, 3)
        if method.table["method"] == "visa_pvv":
            return 2, kcv, bytes([*map(int, value), method.table["pvki"]])
        return 3, kcv, bytes.fromhex(value.ljust(12, "F"))

    def codes(self, name, iso_format, choose_pin):
        """Of all cards of a method; the next link for each."""
        links = [link for link in self.zpks if link.startswith("aes") == (iso_format == 4)]
        said = []
        for number, link_name in enumerate(links):
            zpk = self.zpks[link_name]
            requests = [
                authorization(card, choose_pin(card, method), zpk=zpk, iso_format=iso_format)
                for card, method in self.cards[name][number :: len(links)]
            ]
            with self.switch.connect(link_name) as link:
                said += [answer.code for answer in link.ask_all(requests)]
        return said

    def another_pin(self, card, method):
        """One that psec tells from the card's."""
        while True:
            pin = random_pin(self.source, len(card.pin))
            if method.pvk and method.value_of(pin, card.pan) != method.value(card):
                return pin
            if not method.pvk and pin != card.pin:
                return pin


@pytest.fixture(scope="module")
def banks(make_shared):
    return [Bank(make_shared(), random.Random(number)) for number in range(SWITCHES)]


@pytest.mark.parametrize("name", FORMATS)
def test_the_switch_keeps_what_psec_computes(banks, name):
    agreed = 0
    for bank in banks:
        for card, method in bank.cards[name]:
            assert bank.reference(card) == bank.expected_reference(card, method), card.token
            agreed += 1
    assert agreed == 1_000


@pytest.mark.parametrize("name, iso_format", KINDS)
def test_the_pin_in_a_block_of_psec_is_right_and_another_is_wrong(banks, name, iso_format):
    right, wrong = [], []
    for bank in banks:
        right += bank.codes(name, iso_format, lambda card, _: card.pin)
        wrong += bank.codes(name, iso_format, bank.another_pin)
    assert (right, wrong) == (["00"] * 1_000, ["55"] * 1_000)


def test_another_pin_that_has_the_same_pvv_is_right(banks):
    """psec finds one; that the switch takes it shows the PVV without looking at the journal."""
    bank = banks[0]
    found = []
    for card, method in bank.cards["pvv"][:5]:
        for pin in (f"{number:04}" for number in range(10_000)):
            is_same = method.value_of(pin, card.pan) == method.value(card)
            found += [(card, pin)] if is_same and pin != card.pin[:4] else []
    assert len(found) >= 4
    requests = [authorization(card, pin, zpk=bank.zpks["tdes-2"]) for card, pin in found]
    with bank.switch.connect("tdes-2") as link:
        assert link.codes(requests) == ["00"] * len(found)
