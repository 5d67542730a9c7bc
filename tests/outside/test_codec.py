"""The codec against others: pyiso8583 reads what our encoder writes, in every dialect that ships,
finds the same values, and writes the same bytes again.

Frames written by hand from the standard are read by both: our encoder has no part in them.

To pyiso8583 DE65 is always the third bitmap, before DE2. So the dialects are read without DE65,
and once more with that bitmap."""

import copy
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import iso8583
import messages
import pytest

from process import REPOSITORY, run

GENERATE = Path(
    os.environ.get(
        "GENERATE_MESSAGES", REPOSITORY / "target/release/examples/generate_messages"
    )
).resolve()
SPECS = REPOSITORY / "iso-specs/specs"
DIALECTS = sorted(path.stem for path in SPECS.glob("*.toml"))
MESSAGES = 1000
SEED = 8583

DATA_ENCODINGS = {"ascii": "ascii", "hex": "ascii", "raw": "b", "bcd": "b", "ebcdic-037": "cp037"}

# Bytes of a length prefix, by its letters.
LETTERS = {"fixed": 0, "L": 1, "LL": 2, "LLL": 3, "LLLL": 4}


def generated(dialect, count=MESSAGES, seed=SEED):
    """Frames of our encoder with the canonical values that went into them."""
    words = [GENERATE, dialect, str(count), str(seed)]
    lines = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    for line in lines.splitlines():
        values = json.loads(line)
        frame, mti = bytes.fromhex(values.pop("frame")), values.pop("mti")
        yield frame, mti, {number: bytes.fromhex(value) for number, value in values.items()}


def spec_of(dialect):
    """What pyiso8583 calls the layout that our file describes."""
    bitmap = {"hex": ("ascii", 16), "raw": ("b", 8)}[dialect["bitmap"]]
    mti = {"ascii": ("ascii", 4), "ebcdic": ("cp037", 4), "bcd": ("b", 2)}[dialect["mti"]]
    spec = {"h": fixed("ascii", 0), "t": fixed(*mti), "p": fixed(*bitmap), "1": fixed(*bitmap)}
    for number, element in dialect["elements"].items():
        spec[number] = field_of(element, dialect)
    return spec


def fixed(data_enc, max_len):
    return {"data_enc": data_enc, "len_enc": "ascii", "len_type": 0, "max_len": max_len}


def field_of(element, dialect):
    letters = LETTERS[element["length"]]
    prefix = element.get("prefix", dialect["length_prefix"])
    field = {
        "data_enc": DATA_ENCODINGS[element["encoding"]],
        "len_enc": {"ebcdic": "cp037"}.get(prefix, prefix),
        "len_type": (letters + 1) // 2 if prefix == "bcd" else letters,
        "max_len": element["max"] * (2 if element["encoding"] == "hex" else 1),
    }
    if element["encoding"] == "bcd":
        unused = element.get("unused_nibble", dialect.get("unused_nibble", "left-zero"))
        side, _, filler = unused.partition("-")
        field["len_count"] = "nibbles"
        field[f"{side}_pad"] = {"zero": "0", "f": "F"}[filler]
        if element["type"] == "x+n":
            # It has no sign of its own: that is one byte, as two nibbles.
            field["max_len"] += 1
    return field


def canonical(element, value):
    """A value as pyiso8583 gives it, in our form."""
    if element["type"] == "b":
        return bytes.fromhex(value)
    if element["encoding"] != "bcd":
        return value.encode("ascii")
    if element["type"] == "x+n":
        return bytes.fromhex(value[:2]) + value[2:].encode("ascii")
    # The hexadecimal digit D is the separator of a track.
    return value.replace("D", "=").encode("ascii")


def without_65(name):
    return re.sub(r"(?m)^65 = .*\n", "", (SPECS / f"{name}.toml").read_text())


def with_third_bitmap(name):
    text = without_65(name).replace("[echo]", 'third_bitmap = "leading"\n\n[echo]', 1)
    line = re.search(r"(?m)^2 = (.*)$", text)[1]
    return text + "".join(f"{number} = {line}\n" for number in range(129, 193))


def in_ebcdic(name):
    """Python's cp037 is the code page; bytes are as they are."""
    text = without_65(name).replace('"hex"', '"raw"')
    text = text.replace('encoding = "ascii"', 'encoding = "ebcdic-037"')
    for key in ("mti", "length_prefix"):
        text = text.replace(f'{key} = "ascii"', f'{key} = "ebcdic"')
    return text


def right_nibbles(filler):
    def variant(name):
        text = without_65(name)
        assert text.count('unused_nibble = "left-zero"') == 1
        return text.replace("left-zero", f"right-{filler}", 1)
    return variant


def right_nibbles_of_numbers_with_a_prefix(name):
    """The seven lines that the head of the file names for users of jPOS."""
    text = without_65(name)
    for number in (2, 32, 33, 35, 99, 100):
        line = re.search(rf"(?m)^{number} = .*$", text)[0]
        text = text.replace(line, line.replace(' }', ', unused_nibble = "right-zero" }'))
    line = re.search(r"(?m)^36 = .*$", text)[0]
    return text.replace(line, line.replace('encoding = "bcd"', 'encoding = "ascii"'))


VARIANTS = [(name, variant) for name in DIALECTS for variant in (without_65, with_third_bitmap)] + [
    (messages.ASCII, in_ebcdic),
    (messages.BINARY, right_nibbles("zero")),
    (messages.BINARY, right_nibbles("f")),
    (messages.BINARY, right_nibbles_of_numbers_with_a_prefix),
]


@pytest.mark.parametrize("name, variant", VARIANTS)
def test_pyiso8583_reads_and_writes_what_we_write(tmp_path, name, variant):
    file = tmp_path / "dialect.toml"
    file.write_text(variant(name))
    dialect = tomllib.loads(file.read_text())
    spec, seen, frames = spec_of(dialect), set(), 0
    for frame, mti, values in generated(file):
        decoded, _ = iso8583.decode(bytearray(frame), spec)
        assert decoded["t"] == mti
        read = {
            number: canonical(dialect["elements"][number], value)
            for number, value in decoded.items()
            if re.fullmatch(r"\d+", number) and number != "1"
        }
        assert read == values
        again, _ = iso8583.encode(decoded, spec)
        assert bytes(again) == frame
        seen |= set(values)
        frames += 1
    assert (frames, seen) == (MESSAGES, set(dialect["elements"]))


def test_the_generator_prints_the_same_for_the_same_seed():
    first, second, other = (
        list(generated(DIALECTS[0], count=3, seed=seed)) for seed in (1, 1, 2)
    )
    assert first == second != other


# By hand from ISO 8583:1987: dialect, frame, the values in it, and how `pinswitch decode` shows those
# that it masks.
BY_HAND = [
    (messages.ASCII,
     b"0800" b"8220000000000000" b"0400000000000000" b"1121083000" b"000001" b"301",
     {"t": "0800", "7": "1121083000", "11": "000001", "70": "301"}, {}),
    (messages.ASCII,
     b"0100" b"7020000000008000" b"164761340000000019" b"000000" b"000000001250" b"000001" b"978",
     {"t": "0100", "2": "4761340000000019", "3": "000000", "4": "000000001250", "11": "000001",
      "49": "978"}, {"2": "476134******0019"}),
    (messages.BINARY,
     bytes.fromhex("0800" "8220000000000000" "0400000000000000" "1121083000" "000001" "0301"),
     {"t": "0800", "7": "1121083000", "11": "000001", "70": "301"}, {}),
    # Odd numbers of digits: PAN of 19, DE22 of 3, track of 21.
    (messages.BINARY,
     bytes.fromhex("0100" "4000040020008200" "19" "04761340000000000019" "0051"
                   "21" "04761340000000019D2912" "393738" "0005" "9F3602002A"),
     {"t": "0100", "2": "4761340000000000019", "22": "051", "35": "4761340000000019D2912",
      "49": "978", "55": "9F3602002A"},
     {"2": "476134*********0019", "35": "[21 characters]", "55": ""}),
    ("jpos",
     bytes.fromhex("0100" "4000040130000000" "19" "47613400000000000190" "0051" "05" "123450"
                   "21" "4761340000000019D29120" "0005" "3132333435"),
     {"t": "0100", "2": "4761340000000000019", "22": "051", "32": "12345",
      "35": "4761340000000019D2912", "36": "12345"},
     {"2": "476134*********0019", "35": "[21 characters]", "36": "[5 characters]"}),
]


def spec_by_hand(dialect):
    if dialect != "jpos":
        return messages.SPECS[dialect]
    spec = copy.deepcopy(messages.SPECS[messages.BINARY])
    for number in ("2", "32", "33", "35", "99", "100"):
        spec[number]["right_pad"] = spec[number].pop("left_pad")
    for key in ("left_pad", "len_count"):
        spec["36"].pop(key)
    spec["36"]["data_enc"] = "ascii"
    return spec


@pytest.mark.parametrize("dialect, frame, values, masked", BY_HAND)
def test_frames_written_by_hand_are_read_by_both(tmp_path, dialect, frame, values, masked):
    spec = spec_by_hand(dialect)
    decoded, _ = iso8583.decode(bytearray(frame), spec)
    read = {number: value for number, value in decoded.items() if number not in ("h", "p", "1")}
    assert read == values
    file = tmp_path / "jpos.toml"
    file.write_text(right_nibbles_of_numbers_with_a_prefix(messages.BINARY))
    ours = file if dialect == "jpos" else dialect
    result = run("decode", "--dialect", ours, frame.hex())
    assert (result.returncode, result.stderr) == (0, "")
    lines = {str(int(line[2:5])): line for line in result.stdout.splitlines() if line[:2] == "DE"}
    assert set(lines) == set(values) - {"t"}
    for number, line in lines.items():
        assert line.endswith(f": {masked.get(number, values[number])}"), line
    if "55" in values:
        assert "9F36  Application transaction counter (ATC): 002A" in result.stdout
