"""A bitmap that announces an element too much or too little shifts all that follow. Neither the
answer nor the log of such a message shows digits of the PAN, of a track or of the PIN block, nor
does `pinswitch decode`."""

import random
import re
import socket
import time

import messages
import pytest
from messages import ASCII, BINARY, Card, authorization, network_management
from process import run

# Without a run of zeros, which other elements have too.
CARD = Card("shifted", messages.pan_of("476135", 729184635), "4071")
TRACK_2 = f"{CARD.pan}=29122015831967"
TRACK_1 = f"B{CARD.pan}^TESTCARD^29122015831967"
BLOCK = "1B9C1845EB99A7F3"
DIGITS_BLOCK = "1283940756617382"
WINDOW = 8


def request(*elements, block=BLOCK):
    values = authorization(CARD, changes={
        "23": "001", "35": TRACK_2, "45": TRACK_1, "52": block, "63": "PRIVATE",
    })
    return {"t": "0100"} | {name: values[name] for name in map(str, elements)}


SHAPES = [
    request(2, 3, 4, 7, 11, 52),
    request(2, 3, 4, 7, 11, 52, block=DIGITS_BLOCK),
    request(2, 3, 4, 7, 11, 14, 22, 23, 32, 35, 37, 41, 42, 49, 52, 63),
    request(2, 3, 4, 7, 11, 14, 22, 32, 37, 41, 42, 49, 52, block=DIGITS_BLOCK),
    request(3, 4, 7, 11, 35, 49, 52, block=DIGITS_BLOCK),
    request(3, 4, 7, 11, 22, 35, 37, 41, 45, 49, 52),
    # Another type is answered without a look at its elements.
    dict(request(2, 3, 4, 7, 11, 49, 52), t="0420"),
]


def windows(text):
    """What must not be seen: the digits of a secret, in pieces."""
    digits = re.sub("[^0-9A-F]", "", text.upper())
    return {digits[at : at + WINDOW] for at in range(len(digits) - WINDOW + 1)}


def secrets(request):
    texts = [CARD.pan, request.get("52", ""), TRACK_2]
    return set().union(*map(windows, texts))


def with_bits_turned(request, dialect, bits):
    body = messages.encode(request, dialect)
    start, size = (4, 16) if dialect == ASCII else (2, 8)
    bitmap = body[start : start + size]
    number = int(bitmap, 16) if dialect == ASCII else int.from_bytes(bitmap, "big")
    for bit in bits:
        number ^= 1 << (64 - bit)
    bitmap = b"%016X" % number if dialect == ASCII else number.to_bytes(8, "big")
    return body[:start] + bitmap + body[start + size :]


def flipped(request):
    """Each bit of the bitmap set or cleared, one at a time."""
    return [(bit,) for bit in range(1, 65)]


def moved(request):
    """The bit of an element that holds a secret in any other place."""
    there = set(map(int, request.keys() - {"t"}))
    return [(bit, other) for bit in there & {2, 35, 45, 52} for other in {*range(2, 65)} - there]


def transactions(log):
    return [line for line in log.splitlines() if " transaction: " in line]


@pytest.fixture(scope="module", params=[ASCII, BINARY])
def dialect(request):
    return request.param


def transactions_of(switch, stan, count):
    """So many lines at least; the log leaves by a thread of its own."""
    deadline = time.monotonic() + 5
    while True:
        lines = [line for line in switch.log().splitlines() if " transaction: " in line]
        if any(f'stan="{stan}"' in line for line in lines):
            return lines[-count:]
        assert time.monotonic() < deadline, lines[-3:]
        time.sleep(0.01)


def log_of(switch, count):
    """The newest lines, when all have been written."""
    last = network_management("301")
    with switch.connect() as link:
        assert link.ask(last).code == "00"
    return transactions_of(switch, last["11"], count + 1)[:-1]


def shown_by(answer):
    """All that an answer holds, but for the whole PAN in its own place."""
    if answer.elements.get("2") == CARD.pan:
        names = sorted(answer.names - {"2"}, key=int)
        return "".join(answer.elements[name] for name in names), ""
    return answer.raw.decode("latin-1"), answer.raw.hex()


@pytest.mark.parametrize("change", [flipped, moved])
@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_no_shifted_message_shows_a_secret(shared, dialect, shape, change):
    original = SHAPES[shape]
    hidden, answers = secrets(original), []
    for bits in change(original):
        with shared.connect() as link:
            link.send_body(with_bits_turned(original, dialect, bits))
            link.socket.shutdown(socket.SHUT_WR)
            for answer in link.read_all():
                for shown in shown_by(answer):
                    assert not windows(shown) & hidden, (bits, answer.raw)
                answers.append(answer)
    for line in log_of(shared, len(answers)):
        fields = " ".join(re.findall(r"(?:mti|pan|stan|rrn|element)=\S+", line))
        assert not windows(fields) & hidden, line
    # Nothing is proved if nothing is answered; and most answers can be matched.
    rejected = [answer for answer in answers if answer.code in ("30", "40")]
    matched = [answer for answer in rejected if answer.stan == original["11"]]
    assert len(rejected) > 30 and len(matched) > len(rejected) // 3


def test_a_block_in_the_place_of_de37_is_in_neither_answer_nor_log(shared, dialect):
    """Bit 37 too much: the first twelve of sixteen digits would be a right DE37."""
    original = SHAPES[0]
    with shared.connect() as link:
        link.send_body(with_bits_turned(original, dialect, [37]))
        answer = link.read()
    assert answer.code == "30" and answer.names == {"7", "11", "39", "44"}
    assert all(answer.elements[name] == original[name] for name in ("7", "11"))
    [line] = log_of(shared, 1)
    assert f'stan="{original["11"]}"' in line and "rrn" not in line and "pan" not in line


def test_the_log_of_a_right_message_still_has_pan_and_rrn(shared, dialect):
    original = request(2, 3, 4, 7, 11, 37, 49)
    with shared.connect() as link:
        assert link.ask(original).code == "14"
    [line] = log_of(shared, 1)
    assert f'rrn="{original["37"]}"' in line and f"pan={CARD.pan[:6]}" in line


def made_up(source, dialect):
    """A request and what must not be seen of it; no digit 0, which other elements are full of."""
    digits = lambda count: "".join(source.choices("123456789", k=count))
    some = lambda values: {name: value for name, value in values.items() if source.random() < 0.5}
    pan = source.choice(["476134", "541333"]) + digits(9)
    pan += messages.luhn_digit(pan)
    track_2 = f"{pan}=2912{digits(15)}"
    blocks = ["".join(source.choices("0123456789ABCDEF", k=16)), digits(16)]
    block = source.choices(blocks, weights=[4, 1])[0]
    values = {
        "3": source.choice(["000000", "170000"]), "12": "210000", "18": "5411", "52": block,
        "42": source.choice(["MERCHANT0000001", digits(15), "12 MAIN STREET4"]),
    }
    values |= some({
        "35": track_2, "43": "SHOP 12 MAIN STREET       BERLIN      DE", "48": f"R{pan}",
        "60": "POS APP V1.2 TERMINAL", "61": "0" * 11, "102": pan,
    })
    if dialect == ASCII:
        values |= some({"45": f"B{pan}^DOE/JOHN^2912{digits(12)}"})
    left_out = some(dict.fromkeys(["2", "11", "32", "37", "41"]))
    values = authorization(Card("made-up", pan, ""), changes=values | left_out)
    return values, windows(pan) | windows(block) | windows(track_2.split("=")[1])


def shown_of(part):
    """The bitmaps and all values that a listing shows, one behind the other."""
    values = re.findall(r"^(?:bitmap |DE\d+  .*? bytes: )([^\[\n].*)", part, re.MULTILINE)
    return "".join(values)


def decoded(bodies, dialect):
    text = "\n\n".join(body.hex() for body in bodies)
    parts = run("decode", "--dialect", dialect, "--input", "hex", stdin=text).stdout
    parts = parts.split("\nmessage ")[1:]
    assert len(parts) == len(bodies)
    return parts


def assert_hidden(bodies, dialect, hidden):
    """How many values are shown of messages with a fault."""
    shown = 0
    for body, part in zip(bodies, decoded(bodies, dialect)):
        if "\nfault" in part:
            assert not windows(shown_of(part)) & hidden, (body, part)
            shown += part.count(" bytes: ") - part.count(" bytes: [")
    return shown


@pytest.mark.parametrize("seed", range(3))
def test_decode_shows_no_row_of_a_secret_behind_any_bit_and_any_cut(dialect, seed):
    request, hidden = made_up(random.Random(seed), dialect)
    bodies = [
        body[:cut]
        for bit in range(65)
        for body in [with_bits_turned(request, dialect, [bit] if bit else [])]
        for cut in range(24, len(body) + 1)
    ]
    assert assert_hidden(bodies, dialect, hidden) > 2 * len(bodies)


def test_decode_shows_no_row_of_a_secret_behind_any_bit_of_many_messages(dialect):
    source = random.Random(8583)
    for _ in range(150):
        request, hidden = made_up(source, dialect)
        bodies = [with_bits_turned(request, dialect, [bit]) for bit in range(1, 65)]
        assert_hidden(bodies, dialect, hidden)


def test_decode_shows_what_stands_before_the_end_of_a_message_that_is_cut(dialect):
    """A value that looks like a part of a secret may be hidden, but seldom."""
    source, shown, hidden = random.Random(8583), 0, 0
    for _ in range(20):
        request = authorization(CARD, changes={
            "4": f"{source.randrange(1_000_000):012}", "12": "210000", "18": "5411",
            "11": f"{source.randrange(1_000_000):06}", "52": f"{source.getrandbits(64):016X}",
            "37": f"{source.randrange(10**9):012}", "42": "SHOP 12".ljust(15),
        })
        body = messages.encode(request, dialect)
        for part in decoded([body[:cut] for cut in range(len(body) // 2, len(body))], dialect):
            values = re.findall(r"^DE(\d+)  .*? bytes: (.*)", part, re.MULTILINE)
            values = [value for name, value in values if name not in ("002", "014", "052")]
            hidden += sum(value[0] == "[" for value in values)
            shown += len(values)
    assert shown > 5000 and hidden < shown / 20, (shown, hidden)
