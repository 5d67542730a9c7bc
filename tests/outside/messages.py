"""Requests as an acquirer builds them, and answers as it reads them: pyiso8583 and psec only."""

import copy
import itertools
import random
from dataclasses import dataclass, field

import iso8583
from iso8583.specs import default_ascii
from psec import des, pinblock

ASCII, BINARY = "iso8583-1987-ascii", "iso8583-1987-binary"

SPEC = copy.deepcopy(default_ascii)
# Text comes back in whatever alphabet it came; here each byte is a character.
for _name in (*range(41, 49), *range(60, 64), 104, 122, 123):
    SPEC[str(_name)]["data_enc"] = "latin-1"


def _binary_spec():
    """Written from the standard, not from the switch's file: digits packed two a byte behind a
    zero where their count is odd, packed lengths that count digits or bytes, raw bitmaps, PIN block
    and chip data."""
    spec = copy.deepcopy(SPEC)
    spec["t"].update(data_enc="b", max_len=2)
    for name in ("p", "1"):
        spec[name].update(data_enc="b", max_len=8)
    digits = {*range(2, 28), 32, 33, 35, 36, 53, *range(66, 91), 99, 100}
    for name in map(str, range(2, 129)):
        field = spec[name]
        # LL is one byte, LLL two.
        field.update(len_enc="bcd", len_type=(field["len_type"] + 1) // 2)
        if int(name) in digits:
            field.update(data_enc="b", len_count="nibbles", left_pad="0")
    for name, size in {"52": 8, "55": 255, "64": 8, "96": 8, "128": 8}.items():
        spec[name].update(data_enc="b", max_len=size)
    return spec


SPECS = {ASCII: SPEC, BINARY: _binary_spec()}
# With the DE52 of a dialect for PIN blocks of format 4: 16 bytes.
WIDE_SPECS = copy.deepcopy(SPECS)
WIDE_SPECS[ASCII]["52"]["max_len"] = 32
WIDE_SPECS[BINARY]["52"]["max_len"] = 16

# What the answer to a request may bring back, besides DE38, DE39 and DE44.
ECHOED = {"2", "3", "4", "7", "11", "12", "13", "15", "32", "33", "37", "41", "42", "49"}
NETWORK_MANAGEMENT_ECHOED = {"7", "11", "33", "70"}

DEMO_ZPK = bytes.fromhex("ECC25208B6FD2023E9767A5489BC9415")

_numbers = itertools.count(1)
_fill = random.Random(9564)


@dataclass(frozen=True)
class Card:
    token: str
    pan: str
    pin: str
    product: str = "demo-debit"
    expiry: str = "2912"
    sequence: str = "01"


CARD_1 = Card("demo-card-1", "4761340000000019", "4071")
CARD_2 = Card("demo-card-2", "4761340000000027", "5938", "demo-chip")
CARD_3 = Card("demo-card-3", "5413330000000019", "7206", "demo-mchip")
CARD_4 = Card("demo-card-4", "4761340000000035", "8264", "demo-nolimit")
DEMO_CARDS = [CARD_1, CARD_2, CARD_3, CARD_4]


def luhn_digit(digits):
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if position % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def pan_of(bin_digits, index, length=16):
    digits = bin_digits + str(index).zfill(length - 1 - len(bin_digits))
    return digits + luhn_digit(digits)


def wrong_check_digit(pan):
    return pan[:-1] + str((int(pan[-1]) + 1) % 10)


def other_pin(pin):
    """A PIN of the same length with another last digit."""
    return pin[:-1] + str((int(pin[-1]) + 1) % 10)


def iso_1(pin, _pan=None):
    """A clear block of format 1 (ISO 9564-1): 1, PIN length, the PIN, any fill; it knows no PAN."""
    fill = f"{_fill.getrandbits(56):014X}"
    return bytes.fromhex(f"1{len(pin):X}" + (pin + fill)[:14])


CLEAR_BLOCKS = {0: pinblock.encode_pinblock_iso_0, 1: iso_1, 3: pinblock.encode_pinblock_iso_3}


def pin_block(pin, pan, zpk=DEMO_ZPK, iso_format=0):
    if iso_format == 4:
        return pinblock.encipher_pinblock_iso_4(zpk, pin, pan).hex().upper()
    return encrypted(CLEAR_BLOCKS[iso_format](pin, pan), zpk)


def encrypted(clear_block, zpk=DEMO_ZPK):
    return des.encrypt_tdes_ecb(zpk, clear_block).hex().upper()


def authorization(card, pin=None, *, mti="0100", zpk=DEMO_ZPK, iso_format=0, changes=None):
    """A purchase with the magnetic stripe. `changes` sets elements, or removes those set None."""
    number = next(_numbers)
    message = {
        "t": mti,
        "2": card.pan,
        "3": "000000",
        "4": "000000001250",
        "7": "1121210000",
        "11": f"{number % 1_000_000:06}",
        "14": card.expiry,
        "22": "901",
        "32": "12345",
        "37": f"{number:012}",
        "41": "TERM0001",
        "42": "MERCHANT0000001",
        "49": "978",
    }
    if pin is not None:
        message["52"] = pin_block(pin, card.pan, zpk, iso_format)
    return changed(message, changes)


def reversal(original, *, mti="0400", changes=None):
    """Takes a request back: DE90 names it, the other numbers are the reversal's own."""
    own = {name: value for name, value in original.items() if name not in ("52", "55")}
    number = next(_numbers)
    elements = [original["t"], original["11"], original["7"], original["32"].zfill(11), "0" * 11]
    own |= {"t": mti, "7": "1121210500", "11": f"{number % 1_000_000:06}", "37": f"{number:012}"}
    return changed(own | {"90": "".join(elements)}, changes)


def network_management(code="301", changes=None):
    number = next(_numbers) % 1_000_000
    message = {"t": "0800", "7": "1121210000", "11": f"{number:06}", "70": code}
    return changed(message, changes)


def changed(message, changes):
    message = dict(message, **(changes or {}))
    return {name: value for name, value in message.items() if value is not None}


def encode(message, dialect=ASCII):
    is_wide = len(message.get("52", "")) == 32
    message = dict(message)
    if dialect == BINARY and "35" in message:
        # The separator of a track has a nibble of its own.
        message["35"] = message["35"].replace("=", "D")
    raw, _ = iso8583.encode(message, (WIDE_SPECS if is_wide else SPECS)[dialect])
    return bytes(raw)


def wire_parts(message):
    """The bytes of each element, in the order of the frame: [(name, start, end)]."""
    raw, encoded = iso8583.encode(dict(message), SPEC)
    names = ["t", "p"] + (["1"] if "1" in encoded else [])
    names += sorted((n for n in encoded if n.isdigit() and n != "1"), key=int)
    parts, at = [], 0
    for name in names:
        size = len(encoded[name]["len"]) + len(encoded[name]["data"])
        parts.append((name, at, at + size))
        at += size
    assert at == len(raw)
    return parts


@dataclass(frozen=True)
class Answer:
    raw: bytes
    elements: dict = field(compare=False)

    @property
    def mti(self):
        return self.elements["t"]

    @property
    def code(self):
        return self.elements["39"]

    @property
    def reason(self):
        return self.elements.get("44")

    @property
    def stan(self):
        return self.elements.get("11")

    @property
    def names(self):
        """Numbers of the data elements, without MTI and bitmaps."""
        return {name for name in self.elements if name.isdigit() and name != "1"}


def answer(raw, dialect=ASCII):
    elements, _ = iso8583.decode(bytearray(raw), SPECS[dialect])
    return Answer(bytes(raw), elements)


def random_pin(source: random.Random, digits):
    return "".join(source.choice("0123456789") for _ in range(digits))
