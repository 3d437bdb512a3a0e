"""What an authority asks of those who want a LOCK, while it is loaded (spec/09 §6.4). Sans IO.

The effort asked rises and falls as that of a hop's handshakes does (spec/03 §2.5), over H(R)
instead of a handshake's message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fogbank.relay.circuits.creation import EffortControl
from fogbank.relay.work import EFFORT_LEAST, Demand, WorkBook

WAIT_SECONDS: Final = 0.5
"""More is asked while who comes now would wait longer than that."""


class Load:
    """What effort is asked now. `capacity`: seconds that the mint computes in one second."""

    def __init__(self, random: Callable[[int], bytes], now: float, capacity: float) -> None:
        self._capacity = capacity
        self._control = EffortControl(capacity, now)
        self._book = WorkBook(random, now)

    def effort(self, now: float, cost: float) -> int:
        """Return the effort asked; 0 while all goes well. A task takes `cost` seconds."""
        self._control.update(now, cost)
        return self._control.level

    def judge(
        self, work: int | None, digest: bytes, now: float, *, waiting: int, cost: float
    ) -> int | Demand:
        """Return the effort of a request's work, or what is asked instead.

        `waiting` tasks are before it, each of which takes `cost` seconds. Each work counts once.
        """
        least = self.effort(now, cost) or EFFORT_LEAST
        effort = 0 if work is None else self._book.spend(work, digest, least, now)
        self._control.offer(effort)
        if waiting * cost > WAIT_SECONDS * self._capacity:
            self._control.too_much(now)
        if effort < self._control.level:
            return Demand(self._control.level, self._book.seed(now))
        return effort
