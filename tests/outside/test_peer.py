"""The codec against iso8583_rs, a Rust library of which nothing is in the product: it must find the
same values in what our encoder writes, and write the same bytes. Damaged frames may make it panic,
which is counted and reported; our decoder may not."""

import json
import os
import random
import subprocess
import warnings
from pathlib import Path

import pytest

from process import REPOSITORY
from test_codec import SEED, generated

PEER = Path(
    os.environ.get(
        "PEER", REPOSITORY / "tests/peers/iso8583_rs/target/release/iso8583_rs_peer"
    )
).resolve()
DAMAGED = 4000
# It prints where it read its dialect from.
LINES_BEFORE = 2


@pytest.fixture(scope="module")
def dialect(tmp_path_factory):
    words = [PEER, "dialect"]
    text = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True).stdout
    file = tmp_path_factory.mktemp("peer") / "dialect.toml"
    file.write_text(text)
    return file


def read_by_both(frames):
    """What the peer makes of each frame, and what our decoder says. A panic of ours ends it."""
    sent = "".join(f"{frame.hex()}\n" for frame in frames)
    done = subprocess.run([PEER], input=sent, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[LINES_BEFORE:]
    assert len(lines) == len(frames)
    return [json.loads(line) for line in lines]


def test_it_finds_the_values_that_we_wrote(dialect):
    messages = list(generated(dialect))
    read = read_by_both([frame for frame, _, _ in messages])
    for (frame, _, values), outcome in zip(messages, read):
        assert outcome["ours"] == "good"
        found = {n: bytes.fromhex(value) for n, value in outcome["theirs"]["values"].items()}
        assert found == values
        assert bytes.fromhex(outcome["theirs"]["frame"]) == frame


def damaged(source, frame):
    """A frame with one to four bytes changed, taken out or put in, or cut."""
    frame = bytearray(frame)
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(frame) + 1)
        match source.randrange(4):
            case 0:
                frame[at : at + 1] = source.randbytes(1)
            case 1:
                del frame[at : at + source.randint(1, 4)]
            case 2:
                frame[at:at] = source.randbytes(source.randint(1, 4))
            case 3:
                del frame[at:]
    return bytes(frame)


def test_damaged_frames_make_only_the_peer_panic(dialect):
    source = random.Random(SEED)
    whole = [frame for frame, _, _ in generated(dialect, count=500, seed=SEED + 1)]
    frames = [damaged(source, source.choice(whole)) for _ in range(DAMAGED)]
    frames += [b"", b"0", b"0100", bytes(12), bytes(64)]
    panics = unlike = 0
    for frame, outcome in zip(frames, read_by_both(frames)):
        theirs = outcome["theirs"]
        panics += "panicked" in theirs
        unlike += outcome["ours"] != "good"
        if outcome["ours"] == "good" and "frame" in theirs:
            assert bytes.fromhex(theirs["frame"]) == frame
    assert unlike > DAMAGED / 2, "nothing much was damaged"
    warnings.warn(f"iso8583_rs panicked at {panics} of {len(frames)} damaged frames", stacklevel=1)
