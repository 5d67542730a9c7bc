"""Right and wrong PINs, repeats of all kinds and activations, on a few cards over a few
connections, until the switch is gone. All that was sent and answered is told to the checker of
each card, in the order in which it happened on our side."""

import collections
import select
import threading
import time
from dataclasses import dataclass, field

from link import frame
from messages import Card, authorization, other_pin
from possible import ACTIVATION, DONE, RIGHT, WRONG, PossibleCard

CONNECTIONS = 4
# New requests of one card without an answer. The search of the checker is exact, and its cost
# grows with the orders of these.
IN_FLIGHT_MAX = 4
# Leaves a processor for the switch, and for what else runs on the machine.
PAUSE_SECONDS = 0.002

# What may be answered: DE39, DE44, and whether there is a DE38.
ANSWERS = {("00", None, True), ("55", "1809", False), ("75", "1872", False)}


@dataclass(eq=False)
class Played:
    """One card, and what is known of it."""

    card: Card
    wrong_share: float
    possible: PossibleCard
    unanswered: set = field(default_factory=set)
    is_suspended: bool = False


class CrashLoad:
    def __init__(self, source, cards):
        self.source, self.cards = source, cards
        self.limited = [played for played in cards if played.possible.limit]
        self.links = []
        # Set: from now on no answer gets through any more.
        self.is_cut_off = threading.Event()
        # (card, kind, request) by DE11, and every DE11 in the order of the requests.
        self.requests, self.stans = {}, []
        self.unsent = set()
        # Calls for the checkers. Both threads append; the order is the one that counts: a request
        # before it is written, an answer after it was read.
        self.events = []
        self.tally = collections.Counter()
        self.activations = 0

    # The network's side.

    def connect(self, switch):
        self.is_cut_off.clear()
        self.links = [switch.connect() for _ in range(CONNECTIONS)]

    def run(self):
        """Ends when the switch has closed all connections, as a killed one does, or after one
        more sending when the load is cut off."""
        readers = {link.socket: link for link in self.links}
        self._send_again_what_had_no_answer()
        while readers:
            if len(readers) == CONNECTIONS:
                self._send_some()
            if self.is_cut_off.is_set():
                return
            for readable in select.select(readers, [], [], 0)[0]:
                answers = readers[readable].arrived()
                if answers is None:
                    del readers[readable]
                for answer in answers or []:
                    self.note_answer(answer)
            time.sleep(PAUSE_SECONDS)

    def disconnect(self):
        for link in self.links:
            link.close()

    def _send_again_what_had_no_answer(self):
        left = self.unanswered()
        self.tally["in flight at a kill"] += len(left)
        # Some twice: on the same connection or side by side on two.
        self._write(left + self.source.sample(left, len(left) // 2))

    def unanswered(self):
        return [stan for played in self.cards for stan in sorted(played.unanswered)]

    def _send_some(self):
        stans = []
        for played in self.cards:
            room = IN_FLIGHT_MAX - len(played.unanswered)
            for _ in range(self.source.randint(0, room)):
                stans.append(self._new(played))
        # Repeats that meet their original in flight, and repeats of answers long given.
        if self.stans:
            stans += self.source.choices(self.stans[-100:], k=3)
            stans.append(self.source.choice(self.stans))
        self._write(stans)

    def _new(self, played):
        kind = WRONG if self.source.random() < played.wrong_share else RIGHT
        pin = other_pin(played.card.pin) if kind == WRONG else played.card.pin
        request = authorization(played.card, pin)
        stan = request["11"]
        assert stan not in self.requests
        self.requests[stan] = played, kind, request
        self.stans.append(stan)
        self.unsent.add(stan)
        played.unanswered.add(stan)
        return stan

    def _write(self, stans):
        """Each on any connection; what was sent before goes as 0100 or 0101."""
        batches = collections.defaultdict(list)
        for stan in stans:
            batches[self.source.choice(self.links)].append(stan)
        for link, batch in batches.items():
            frames = [frame(link.encode(self.note_sending(stan))) for stan in batch]
            try:
                link.write(b"".join(frames))
            except ConnectionError:
                # It is gone. What it had answered can still be read.
                pass

    def note_sending(self, stan):
        """The request as it is to be sent now."""
        played, kind, request = self.requests[stan]
        if stan in self.unsent:
            self.unsent.discard(stan)
            self.tally["requests"] += 1
        else:
            self.tally["repeats"] += 1
            request = dict(request, t=self.source.choice(["0100", "0101"]))
        self.events.append((played.possible.sent, stan, kind))
        return request

    def note_answer(self, answer):
        played, _, _ = self.requests[answer.stan]
        code = answer.code
        if (code, answer.reason, "38" in answer.names) not in ANSWERS:
            code = f"{code} ({answer.reason})"
        if answer.stan in played.unanswered:
            played.unanswered.discard(answer.stan)
            played.is_suspended = code == "75"
            self.tally["answered"] += 1
            self.tally[f"answered {code}"] += 1
        else:
            self.tally["repeats answered"] += 1
        self.events.append((played.possible.answered, answer.stan, code, answer.raw))

    # The issuer's side, in a thread of its own.

    def activate(self, switch, source):
        """Activates suspended cards, now and then another one, until the switch is gone."""
        while True:
            time.sleep(source.uniform(0, 0.01))
            played = source.choice(self.limited)
            if not played.is_suspended and source.random() > 0.1:
                continue
            self.activations += 1
            key = f"activation {self.activations}"
            self.events.append((played.possible.sent, key, ACTIVATION))
            try:
                switch.asked({"activate": {"token": played.card.token}})
            except (OSError, ValueError):
                # Nobody listens, or the line that tells it is not whole.
                return
            self.events.append((played.possible.answered, key, DONE))
            played.is_suspended = False
            self.tally["activations"] += 1

    # The checker.

    def judge(self):
        """Fails where no order of what has happened since the last time explains it."""
        events, self.events = self.events, []
        for tell, *said in events:
            tell(*said)

    def judge_crash(self):
        self.judge()
        for played in self.cards:
            played.possible.crashed()
