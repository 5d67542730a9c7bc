"""What one card may be, told only from what was sent and what was answered.

A request takes effect once, however often it is repeated: at some moment after it was first sent
and before it is first answered, and while one of its sendings is under way. A crash ends all
sendings. A request that had no answer may have had its effect before the crash, or has it when it
is sent again, or never; all others keep theirs.

The search follows every order that these moments allow, and no other. At each answer it lets the
requests under way take effect, in any order, until the answered one has, and keeps the states in
which the answer fits. With four requests under way on a card that is a few dozen states at most,
so that nothing has to be left out."""

from collections import deque
from typing import NamedTuple

WRONG, RIGHT, ACTIVATION = "wrong PIN", "right PIN", "activation"
# What an activation is answered with, in the place of a DE39.
DONE = "done"

# Events of a card that a failure shows.
SHOWN = 40


class Impossible(AssertionError):
    """No order of the requests explains what was seen."""


class State(NamedTuple):
    tries: int = 0
    suspended: bool = False
    # (request, answer) of those that had their effect and have no answer yet.
    given: frozenset = frozenset()


class PossibleCard:
    """An active card with a PIN, without wrong tries; `limit` is the number of wrong PINs that
    suspends it."""

    def __init__(self, limit=None):
        self.limit = limit
        self.states = {State()}
        self.kinds = {}
        self.under_way = set()
        self.answers = {}
        self.events = deque(maxlen=SHOWN)

    def sent(self, key, kind):
        """For the first time or again."""
        self.events.append(f"{key} sent: {kind}")
        assert self.kinds.setdefault(key, kind) == kind
        if key not in self.answers:
            self.under_way.add(key)

    def answered(self, key, code, raw=b""):
        """`raw` is what every repeat must get as well."""
        self.events.append(f"{key} answered: {code}")
        if key in self.answers:
            if self.answers[key] != (code, raw):
                self._fail(f"{key} was answered {self.answers[key]}, a repeat {(code, raw)}")
            return
        self.answers[key] = code, raw
        ends = {
            state._replace(given=state.given - {(key, code)})
            for state in self._reached(key) if (key, code) in state.given
        }
        if not ends:
            self._fail(f"{key}, {self.kinds[key]}, cannot be answered {code}")
        self.states = ends
        self.under_way.discard(key)

    def crashed(self):
        self.events.append("crash")
        # An activation is not repeated, so nobody will be told of it any more.
        self.states = {
            state._replace(given=frozenset(
                (key, code) for key, code in state.given if self.kinds[key] != ACTIVATION
            ))
            for state in self._reached()
        }
        self.under_way.clear()

    def shown(self, tries, suspended):
        """What the card was seen to be while nothing was under way."""
        self.events.append(f"shown: {tries} tries, {suspended=}")
        assert not self.under_way
        fitting = {s for s in self.states if (s.tries, s.suspended) == (tries, suspended)}
        if not fitting:
            self._fail(f"the card shows {tries} tries, {suspended=}")
        self.states = fitting

    def _reached(self, key=None):
        """States after any of the requests under way, up to `key` where one is given."""
        seen, left = set(self.states), list(self.states)
        while left:
            state = left.pop()
            given = {done for done, _ in state.given}
            if key in given:
                continue
            for after in (self._after(state, other) for other in self.under_way - given):
                if after not in seen:
                    seen.add(after)
                    left.append(after)
        return seen

    def _after(self, state, key):
        """The rules: the only place where they are."""
        tries, suspended, given = state
        kind = self.kinds[key]
        if kind == ACTIVATION:
            tries, suspended, code = 0, False, DONE
        elif suspended:
            code = "75"
        elif kind == RIGHT:
            tries, code = 0, "00"
        else:
            tries += 1
            suspended = tries == self.limit
            code = "75" if suspended else "55"
        return State(tries, suspended, given | {(key, code)})

    def _fail(self, what):
        states = sorted({(state.tries, state.suspended) for state in self.states})
        raise Impossible("\n".join([
            what, f"it could have been (tries, suspended): {states}",
            f"under way: {sorted(self.under_way)}", *self.events,
        ]))
