"""How many tasks a lane may hold (spec/11 §3). Pure."""

from __future__ import annotations

from math import ceil

from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.records import Lane


class Depth:
    """What lanes may hold: little, while the client is there; their share, once it leaves.

    `share`: then so many for each unit of fuel per second that the lane's worker is listed with.
    """

    def __init__(self, limits: ArrayLimits) -> None:
        self._limits = limits
        self.share: float | None = None

    def room(self, lane: Lane) -> int:
        """Return how many more tasks a lane takes now."""
        if lane.terms is None or lane.draining:
            return 0
        return max(0, min(self._most(lane), lane.terms.tasks) - len(lane.attempts))

    def _most(self, lane: Lane) -> int:
        if self.share is not None:
            return max(1, ceil(self.share * lane.worker.candidate.speed))
        limits, mean = self._limits, lane.worker.mean
        if mean is None:
            return 1
        return min(1 + int(min(limits.lookahead / max(mean, 1e-6), limits.depth)), limits.depth)
