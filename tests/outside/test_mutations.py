"""Two thousand damaged frames: each is answered once, or ends its connection cleanly, or is a
response and stays unanswered. No card changes and no other connection notices."""

import random
import re
import socket
import threading
import time

import messages
from link import frame
from messages import CARD_1, CARD_2, CARD_3, authorization, network_management

SEED = 8583
MUTATIONS = 2000
OTHER_LINK_SECONDS_MAX = 2.0


def originals():
    """Frames to damage, each with the bytes that stay as they are.

    DE52 stays: a damaged block could by chance read as a PIN, and would rightly count.
    """
    chip = {"22": "051", "55": "9F360200019F2608" + "11" * 8}
    track = {"2": None, "35": f"{CARD_1.pan}=2912201000"}
    for request in (
        authorization(CARD_1, CARD_1.pin),
        authorization(CARD_1, CARD_1.pin, mti="0200", changes={"3": "010000", "63": "PRIVATE"}),
        authorization(CARD_1, CARD_1.pin, changes=chip),
        authorization(CARD_1, CARD_1.pin, changes=track),
        authorization(CARD_2),
        authorization(CARD_2, mti="0101", changes={"102": "ACCOUNT"}),
        network_management("301"),
        network_management("001", {"33": "12345"}),
    ):
        kept = [(start, end) for name, start, end in messages.wire_parts(request) if name == "52"]
        yield messages.encode(request), kept


def damaged(source, body, kept):
    """One to four changes outside of what is kept."""
    body = bytearray(body)
    for _ in range(source.randint(1, 4)):
        free = [at for at in range(len(body)) if not any(a <= at < b for a, b in kept)]
        at = source.choice(free)
        behind = max([at] + [end for _, end in kept])
        match source.randrange(7):
            case 0:
                body[at] = source.randrange(256)
            case 1:
                body[at] ^= 1 << source.randrange(8)
            case 2:
                body[at] = source.choice(b"0123456789ABCDEF=D ")
            case 3:
                del body[max(behind, len(body) - source.randint(1, 8)) :]
            case 4:
                body[behind:behind] = source.randbytes(source.randint(1, 8))
            case 5:
                body[source.randrange(4)] = source.choice(b"0123456789")
            case 6 if not kept:
                del body[at : at + source.randint(1, 8)]
            case 6:
                body += body[: source.randint(1, 40)]
        if len(body) < 4:
            break
    return bytes(body)


def expected(body):
    """What the rules say of a frame: "answer", "close" or "nothing"."""
    if not body:
        return "nothing"
    head = re.match(rb"([0-9]{4})([0-9A-Fa-f]{16})", body)
    if not head:
        return "close"
    if int(head[2][:1], 16) >= 8 and not re.match(rb"[0-9A-Fa-f]{16}", body[20:36]):
        return "close"
    return "answer" if int(head[1][2:3]) % 2 == 0 else "nothing"


class Bystander(threading.Thread):
    """Another connection of the same network that asks all the time."""

    def __init__(self, switch):
        super().__init__()
        self.link = switch.connect()
        self.ended = threading.Event()
        self.codes, self.slowest = [], 0.0

    def run(self):
        while not self.ended.is_set():
            began = time.monotonic()
            self.codes.append(self.link.ask(authorization(CARD_3, CARD_3.pin)).code)
            self.slowest = max(self.slowest, time.monotonic() - began)
            time.sleep(0.001)

    def end(self):
        self.ended.set()
        self.join()
        self.link.close()
        assert len(self.codes) > 10 and set(self.codes) == {"00"}
        assert self.slowest < OTHER_LINK_SECONDS_MAX


def send_and_judge(switch, link, body):
    """Gives the connection for the next frame."""
    echo = network_management("301")
    link.write(frame(body) + frame(messages.encode(echo)))
    outcome = expected(body)
    if outcome == "close":
        assert link.is_closed(), body
        link.close()
        return switch.connect()
    answers = [link.read() for _ in range(1 + (outcome == "answer"))]
    assert None not in answers, body
    own = [answer for answer in answers if answer.raw[:4] == b"0810" and answer.stan == echo["11"]]
    assert own, body
    for answer in answers:
        if answer is not own[0]:
            assert answer.mti[:2] == body[:2].decode() and int(answer.mti[2]) == int(body[2:3]) + 1
            assert len(answer.code) == 2
    return link


def test_two_thousand_damaged_frames_get_what_the_rules_say(shared):
    source = random.Random(SEED)
    with shared.connect() as link:
        # A counter above zero would show a right PIN or an activation that nobody sent.
        assert link.ask(authorization(CARD_2, "1111")).code == "55"
    before = [shared.show(card.token) for card in messages.DEMO_CARDS]
    bodies = list(originals())
    bystander = Bystander(shared)
    bystander.start()
    links = [shared.connect() for _ in range(8)]
    outcomes = []
    try:
        for _ in range(MUTATIONS):
            body = damaged(source, *source.choice(bodies))
            slot = source.randrange(len(links))
            outcomes.append(expected(body))
            links[slot] = send_and_judge(shared, links[slot], body)
    finally:
        for link in links:
            link.close()
        bystander.end()
    assert min(outcomes.count(kind) for kind in ("answer", "close", "nothing")) >= 20
    assert [shared.show(card.token) for card in messages.DEMO_CARDS] == before
    assert "panic" not in shared.log()


def test_streams_with_damaged_length_headers_end_cleanly(shared):
    source = random.Random(SEED + 1)
    before = [shared.show(card.token) for card in messages.DEMO_CARDS]
    bystander = Bystander(shared)
    bystander.start()
    try:
        for _ in range(300):
            stream = bytearray()
            for body, _ in source.choices(list(originals()), k=5):
                header = len(body).to_bytes(2, "big")
                if source.random() < 0.4:
                    header = source.randrange(0, 2 * len(body)).to_bytes(2, "big")
                stream += header + body
            with shared.connect() as link:
                link.write(stream)
                link.socket.shutdown(socket.SHUT_WR)
                read_to_the_end(link)
    finally:
        bystander.end()
    assert [shared.show(card.token) for card in messages.DEMO_CARDS] == before


def read_to_the_end(link):
    """Frames that read as answers, until a clean close."""
    while (body := link.read_body()) is not None:
        assert re.match(rb"[0-9]{4}[0-9A-F]{16}", body)
