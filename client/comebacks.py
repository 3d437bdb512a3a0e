"""How often the lanes of an array may come back to their sessions, together (spec/11 §3). Pure."""

from __future__ import annotations

import math

from fogbank.client.scheduling.budget import Budget
from fogbank.client.scheduling.limits import ArrayLimits


class Comebacks:
    """Each that fails costs, each answer gives back, time too.

    Without this, whoever breaks links would have a client draw ever new paths. What fails while
    nothing at all can be reached draws none, and costs nothing.
    """

    def __init__(self, now: float, limits: ArrayLimits | None = None) -> None:
        self._budget = Budget(limits or ArrayLimits(), now)
        self._reached_at = -math.inf

    def allows(self, now: float) -> bool:
        """Tell whether a lane may try."""
        self._budget.count(0, now)
        return self._budget.allows(0)

    def reached(self, now: float) -> None:
        """Hear of a circuit that was built to any worker."""
        self._reached_at = now

    def failed(self, since: float) -> None:
        """Hear that a lane is without its session, which it tried to come back to `since` then."""
        if self._reached_at >= since:
            self._budget.bad()

    def answered(self, now: float) -> None:
        """Hear of an answer in any lane."""
        self._budget.good(1.0, 0, now)
