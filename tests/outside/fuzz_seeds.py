"""Writes the seed corpora of the fuzz targets: `python tests/outside/fuzz_seeds.py`. They are in the
repository; this is how they came to be, and how to add to them."""

import sys
from pathlib import Path

import messages
from chip import OK, PROFILES, Chip
from link import frame
from messages import CARD_1, CARD_2, authorization, changed, network_management, reversal

ROOT = Path(__file__).parents[2]
TRACK = f"{CARD_1.pan}={CARD_1.expiry}2010000000000"
CHIP = (
    "9F2608A1B2C3D4E5F607089F2701809F10070601 0A03A0A0009F3704112233449F36020001"
    "950500000080009A032611219C01009F02060000000012505F2A020978820219809F1A020276"
    "9F34034403028407A00000000310109F3303E0F8C89F3501225F3401019F1E0831323334353637389F5B00"
).replace(" ", "")
# A template in a template, long lengths, fillers.
NESTED = "00" + "E10C" + "E20A" + "9F3602002A" + "5A0247 61".replace(" ", "") + "00" + "9F26818101" + "00" * 128

EVERYTHING = {
    "5": "000000001250", "6": "000000001250", "8": "00000000", "9": "61000000", "10": "61000000",
    "12": "121000", "13": "1121", "15": "1121", "16": "1121", "18": "5999", "19": "276",
    "23": "001", "25": "00", "26": "12", "28": "C00000000", "33": "54321", "43": "A SHOP".ljust(40),
    "48": "PRIVATE DATA", "51": "978", "54": "00" * 10, "60": "X" * 99, "90": "0" * 42,
    "95": "0" * 42, "100": "12345", "102": "ACCOUNT", "103": "ACCOUNT", "120": "Y" * 300,
}


def requests():
    right = authorization(CARD_1, CARD_1.pin)
    yield from {
        "right_pin": right,
        "repeat": dict(right, t="0101"),
        "wrong_pin": authorization(CARD_1, "1111"),
        "format_3": authorization(CARD_1, CARD_1.pin, iso_format=3),
        "no_pin": authorization(CARD_2, mti="0200"),
        "cash": authorization(CARD_1, CARD_1.pin, changes={"3": "010000", "18": "6011"}),
        "track_2": authorization(CARD_1, CARD_1.pin, changes={"2": None, "35": TRACK}),
        "chip": authorization(CARD_1, CARD_1.pin, changes={"22": "051", "55": CHIP}),
        "everything": authorization(CARD_1, CARD_1.pin, changes=EVERYTHING),
        "advice": authorization(CARD_1, mti="0120"),
        "reversal": reversal(right),
        "reversal_advice": reversal(right, mti="0421", changes={"90": None}),
        "sign_on": network_management("001"),
        "echo": network_management("301"),
        "no_amount": authorization(CARD_1, changes={"4": None}),
        "response": changed(right, {"t": "0110", "39": "00", "52": None}),
    }.items()


def chips():
    """DE55 of each CVN, and of what else is read in it."""
    for profile in PROFILES:
        yield f"cvn_{profile.name}", Chip(profile).request(pin=OK)["55"]
    ccd = "0FA501" + "A008300000" + "00" * 8 + "0F" + "00" * 15
    tags = {"9F10": ccd, "9F17": "03", "9F53": "52", "9F5B": "20010000021102000002"}
    yield "ccd", Chip(PROFILES[0]).request(pin=OK, tags=tags)["55"]
    yield "other", CHIP


def write(directory, name, data):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(data)


def main():
    codec, switch = ROOT / "iso-specs/fuzz/seeds", ROOT / "switch/fuzz/seeds"
    for name, dialect in {"ascii": messages.ASCII, "binary": messages.BINARY}.items():
        encoded = {of: messages.encode(request, dialect) for of, request in requests()}
        for of, message in encoded.items():
            write(codec / f"decode_{name}", of, message)
            write(switch / f"link_{name}", of, b"\xFF" + frame(message))
        together = [encoded[of] for of in ("right_pin", "reversal", "repeat", "echo")]
        write(switch / f"link_{name}", "several", b"\x02" + b"".join(map(frame, together)))
    for name, data in {"chip": CHIP, "nested": NESTED}.items():
        write(codec / "tlv", name, bytes.fromhex(data))
    for name, data in chips():
        write(switch / "chip_data", name, bytes.fromhex(data))
    message = b"0800822000000000000004000000000000001121210000000001301"
    length = len(message)
    streams = {
        0: frame(message), 1: frame(b"")[:0] + (length + 2).to_bytes(2) + message,
        2: length.to_bytes(3) + message, 3: length.to_bytes(4) + message,
        4: b"%04d" % length + message, 5: b"%04X" % length + message,
        6: bytes.fromhex(f"{length:04}") + message, 7: length.to_bytes(2) + b"\0\0" + message,
        8: b"\x02" + message + b"\x03",
    }
    base_i = bytes.fromhex("16010200160000000000000000000000000000000000")
    headers = [b"", bytes.fromhex("6000010002"), base_i, bytes(10)]
    for framing, stream in streams.items():
        write(switch / "frame", f"framing_{framing}", bytes([framing, 7]) + stream * 2)
    for number, header in enumerate(headers):
        data = frame(header + message)
        write(switch / "frame", f"header_{number}", bytes([9 * number, 3]) + data + frame(b"") + data)


if __name__ == "__main__":
    sys.exit(main())
