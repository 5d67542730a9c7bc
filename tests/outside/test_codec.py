"""The codec against others: pyiso8583 reads what our encoder writes, in every dialect that ships,
finds the same values, and writes the same bytes again.

To pyiso8583 DE65 is always the third bitmap, before DE2. So the dialects are read without DE65,
and once more with that bitmap."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import iso8583
import pytest

from process import REPOSITORY

GENERATE = Path(
    os.environ.get(
        "GENERATE_MESSAGES", REPOSITORY / "target/release/examples/generate_messages"
    )
).resolve()
SPECS = REPOSITORY / "iso-specs/specs"
DIALECTS = sorted(path.stem for path in SPECS.glob("*.toml"))
MESSAGES = 1000
SEED = 8583

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
    mti = {"ascii": ("ascii", 4), "bcd": ("b", 2)}[dialect["mti"]]
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
        "data_enc": {"ascii": "ascii", "hex": "ascii", "raw": "b", "bcd": "b"}[element["encoding"]],
        "len_enc": prefix,
        "len_type": letters if prefix == "ascii" else (letters + 1) // 2,
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


@pytest.mark.parametrize("variant", [without_65, with_third_bitmap])
@pytest.mark.parametrize("name", DIALECTS)
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
