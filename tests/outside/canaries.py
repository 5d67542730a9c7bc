"""Secrets to look for, and every form in which each is looked for."""

import base64
from dataclasses import dataclass
from pathlib import Path

from messages import DEMO_CARDS, DEMO_ZPK


@dataclass(frozen=True)
class Canary:
    name: str
    form: str
    needle: bytes


def of_bytes(name, value):
    """A binary secret: raw, in hexadecimal of either case, in Base64, as a printed list, and the
    hexadecimal text once more as raw bytes in hexadecimal."""
    upper, lower = value.hex().upper().encode(), value.hex().encode()
    yield Canary(name, "raw", value)
    yield Canary(name, "hex upper", upper)
    yield Canary(name, "hex lower", lower)
    yield Canary(name, "hex spaced", value.hex(" ").encode())
    yield Canary(name, "hex of hex", upper.hex().encode())
    yield Canary(name, "hex of lower hex", lower.hex().encode())
    yield Canary(name, "base64", base64.b64encode(value).rstrip(b"="))
    yield from printed_lists(name, value)


def of_digits(name, digits):
    """A secret of digits: ASCII, hexadecimal of ASCII, BCD (raw, and as a printed list), one
    digit per byte, and as printed lists of characters or numbers."""
    text = digits.encode()
    even = digits if len(digits) % 2 == 0 else digits + "F"
    yield Canary(name, "ascii", text)
    yield Canary(name, "hex of ascii", text.hex().encode())
    yield Canary(name, "base64 of ascii", base64.b64encode(text).rstrip(b"="))
    groups = [text[at : at + 4] for at in range(0, len(text), 4)]
    yield Canary(name, "grouped by four", b" ".join(groups))
    yield Canary(name, "bcd", bytes.fromhex(even))
    if even != digits:
        yield Canary(name, "bcd padded left", bytes.fromhex("0" + digits))
    yield Canary(name, "digit per byte", bytes(int(digit) for digit in digits))
    yield from printed_lists(name, text)
    yield Canary(name, "list of digits", ", ".join(digits).encode())
    yield Canary(name, "compact list of digits", ",".join(digits).encode())
    yield from printed_lists(name + " in bcd", bytes.fromhex(even))


def printed_lists(name, value):
    yield Canary(name, "list", ", ".join(map(str, value)).encode())
    yield Canary(name, "compact list", ",".join(map(str, value)).encode())
    yield Canary(name, "list in hex", ", ".join(f"0x{byte:02x}" for byte in value).encode())


def of_track2(name, pan, rest):
    """Track 2: with either separator, as ASCII and packed."""
    for separator in "=D":
        text = f"{pan}{separator}{rest}".encode()
        yield Canary(name, f"ascii with {separator}", text)
        yield Canary(name, f"hex of ascii with {separator}", text.hex().encode())
    packed = f"{pan}D{rest}"
    yield Canary(name, "packed", bytes.fromhex(packed + "F" * (len(packed) % 2)))
    yield Canary(name, "discretionary data", rest.encode())


def search(haystacks, canaries):
    """[(where, canary, form)] of every hit; haystacks is {name: bytes}."""
    return [
        (where, canary.name, canary.form)
        for where, data in haystacks.items()
        for canary in canaries
        if (data.lower() if canary.form.startswith("hex lower") else data).find(canary.needle) >= 0
    ]


def files(directory):
    """Every file below a directory, sockets left out."""
    return {str(p): p.read_bytes() for p in Path(directory).rglob("*") if p.is_file()}


def demo_secrets_in(haystacks):
    """What is there in clear of the demo's PANs and its zone key, in the forms that a careless
    line of code would give them."""
    return search(haystacks, DEMO_SECRETS)


COMMON_FORMS = ("ascii", "bcd", "hex of ascii", "raw", "hex upper", "hex lower")
DEMO_SECRETS = [
    canary
    for found in [
        *(of_digits(card.token, card.pan) for card in DEMO_CARDS),
        of_bytes("zpk", DEMO_ZPK),
    ]
    for canary in found
    if canary.form in COMMON_FORMS
]
