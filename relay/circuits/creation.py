"""Which CREATE is answered next, and what it costs to be heard (spec/03 §2.5). Sans IO.

Handshakes have a share of the node's time. As long as that is enough they are answered at once;
what exceeds it waits in a `CreationQueue`, most effort first. `EffortControl` says what effort is
asked: it rises while newcomers would wait too long, and falls again, one step a second, when what
is offered would fit without. Time is an argument; what a handshake cost is told by `spent`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from fogbank.relay.limits import Limits
from fogbank.relay.work import EFFORT_LEAST, EFFORT_MOST, Demand, WorkBook

PERIOD: Final = 1.0
"""Seconds between two steps of the effort."""
FALL_SHARE: Final = 0.5
"""The effort falls if what is offered would take less than this of the time for handshakes."""
_BURST: Final = 0.1
"""Seconds of handshakes that may be done at once after a pause."""
_COST_MEMORY: Final = 0.1
_COST_MOST: Final = 0.01
"""A handshake that took longer was interrupted: it says nothing about the next one."""


class Waiting(Protocol):
    """A CREATE that waits."""

    effort: int
    since: float


_W = TypeVar("_W", bound=Waiting)


class EffortControl:
    """The effort asked: 0, or `EFFORT_LEAST` to `EFFORT_MOST`. `capacity`: seconds per second."""

    def __init__(self, capacity: float, now: float) -> None:
        self._capacity = capacity
        self._begun = now
        self._raised = float("-inf")
        self._offered = [0] * (EFFORT_MOST + 1)
        self.level = 0

    def offer(self, effort: int) -> None:
        """Count a CREATE that came with that effort, whatever becomes of it."""
        self._offered[min(effort, EFFORT_MOST)] += 1

    def too_much(self, now: float) -> None:
        """Hear that newcomers wait too long, or that one was given up."""
        if self.level < EFFORT_MOST and now - self._raised >= PERIOD:
            self.level = max(EFFORT_LEAST, self.level + 1)
            self._raised = now

    def update(self, now: float, cost: float) -> None:
        """End the periods that are over; `cost` is what a handshake takes, in seconds."""
        while now - self._begun >= PERIOD:
            self._begun += PERIOD
            lower = self.level - 1 if self.level > EFFORT_LEAST else 0
            fits = sum(self._offered[lower:]) * cost <= FALL_SHARE * self._capacity * PERIOD
            if fits and self._begun - self._raised >= PERIOD:
                self.level = lower
            self._offered = [0] * (EFFORT_MOST + 1)
            if not self.level:
                self._begun = now
                return


class CreationQueue(Generic[_W]):
    """The CREATEs that wait, what effort is asked, and when the next one may be answered."""

    def __init__(self, limits: Limits, random: Callable[[int], bytes], now: float) -> None:
        self._share = limits.creation_share
        self._most = limits.creations_waiting
        self._wait = limits.creation_wait
        self._patience = limits.creation_patience
        self._least_cost = limits.creation_least_cost
        self._cost = self._least_cost
        self._credit = _BURST
        self._then = now
        self._lanes: dict[int, deque[_W]] = {}
        self._length = 0
        self._control = EffortControl(self._share, now)
        self._book = WorkBook(random, now)

    def __len__(self) -> int:
        return self._length

    def effort(self, now: float) -> int:
        """Return the effort that is asked now; 0 for none."""
        self._control.update(now, self._cost)
        return self._control.level

    def demand(self, now: float) -> Demand | None:
        """Return what is asked now, of everyone alike; None if nothing is."""
        effort = self.effort(now)
        return Demand(effort, self._book.seed(now)) if effort else None

    def weigh(self, nonce: int | None, message: bytes, now: float) -> int:
        """Return the effort of a CREATE that just came; each work counts once."""
        least = self.effort(now) or EFFORT_LEAST
        effort = 0 if nonce is None else self._book.spend(nonce, message, least, now)
        self._control.offer(effort)
        return effort

    def push(self, item: _W, now: float) -> _W | None:
        """Have `item` wait; return the one that is given up for it, if there is one."""
        self._lanes.setdefault(item.effort, deque()).append(item)
        self._length += 1
        given_up = self._pop_least() if self._length > self._most else None
        if given_up is not None or self._expected_wait(now) > self._wait:
            self._control.too_much(now)
        return given_up

    def discard(self, item: _W) -> None:
        """Forget an item that waits no more."""
        lane = self._lanes.get(item.effort)
        if lane is not None and item in lane:
            lane.remove(item)
            self._left(item.effort)

    def expire(self, now: float) -> list[_W]:
        """Return those that waited too long; they are given up."""
        late: list[_W] = []
        for effort, lane in list(self._lanes.items()):
            while lane and now - lane[0].since > self._patience:
                late.append(lane.popleft())
                self._left(effort)
        return late

    def next(self, now: float) -> _W | None:
        """Return the one to be answered now; None if none waits, or it is not yet time."""
        self._refill(now)
        if not self._length or self._credit <= 0:
            return None
        effort = max(self._lanes)
        item = self._lanes[effort].popleft()
        self._left(effort)
        return item

    def ready_in(self, now: float) -> float | None:
        """Return in how many seconds `next` has something; None if nothing waits."""
        if not self._length:
            return None
        self._refill(now)
        # A little later than credit is there: a clock must not keep a caller busy.
        return 0.0 if self._credit > 0 else -self._credit / self._share + 1e-3

    def spent(self, seconds: float) -> None:
        """Hear what answering one took."""
        measured = min(max(seconds, 0.0), _COST_MOST)
        smooth = self._cost + _COST_MEMORY * (measured - self._cost)
        self._cost = max(smooth, self._least_cost)
        self._credit -= max(seconds, self._least_cost)

    def _expected_wait(self, now: float) -> float:
        """Return how long one that comes now, with the effort asked, would wait."""
        self._refill(now)
        asked = self._control.level
        before = sum(len(lane) for effort, lane in self._lanes.items() if effort >= asked)
        return max(0.0, (before * self._cost - self._credit) / self._share)

    def _refill(self, now: float) -> None:
        passed = max(0.0, now - self._then)
        self._credit = min(_BURST, self._credit + passed * self._share)
        self._then = now

    def _pop_least(self) -> _W:
        effort = min(self._lanes)
        item = self._lanes[effort].popleft()
        self._left(effort)
        return item

    def _left(self, effort: int) -> None:
        self._length -= 1
        if not self._lanes[effort]:
            del self._lanes[effort]
