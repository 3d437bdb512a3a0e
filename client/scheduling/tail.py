"""The end of an array: copies of stragglers, and who is too slow for it (spec/11 §3). Pure."""

from __future__ import annotations

import math
from collections.abc import Callable

from fogbank.client.scheduling.lanes import Lanes
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.records import Unfinished, Worker
from fogbank.client.scheduling.stragglers import Pace, copies, overdue
from fogbank.client.scheduling.workers import Workers

TICKS = 0.1, 1.0
"""The least and the longest time between two looks at the stragglers."""


class Tail:
    """Looks, now and then, at how fast the lanes are and at what they run.

    `apart`: tells whether a worker may run a task beside those that do.
    """

    def __init__(
        self,
        limits: ArrayLimits,
        workers: Workers,
        lanes: Lanes,
        apart: Callable[[Unfinished, Worker], bool],
    ) -> None:
        self._limits = limits
        self._workers = workers
        self._lanes = lanes
        self._apart = apart
        self._pace = Pace(())
        self.is_off = False
        """Whether workers are given whatever there is: there is no end then."""
        self.late = 0
        """How many attempts deserve a lane that is opened for a copy."""

    def measure(self) -> None:
        """Find out how fast the open lanes are together."""
        self.late = 0
        open_lanes = (lane for lane in self._lanes if lane.terms is not None)
        self._pace = Pace(self._workers.expected(lane.worker) for lane in open_lanes)

    def is_too_slow(self, worker: Worker, waiting: int) -> bool:
        """Tell whether faster ones will have run all that waits before this one has run a task."""
        if self.is_off or not self._lanes.attempts:
            return False
        each = self._workers.expected(worker)
        return each is not None and each > self._pace.seconds(waiting, each / self._limits.faster)

    def copy(self, now: float) -> float:
        """Run copies of stragglers in idle lanes; return when to look again, in seconds."""
        if self.is_off:
            return TICKS[1]
        busy = self._lanes.busy()
        expected = self._workers.expected
        idle = self._lanes.idle()
        chosen = copies(idle, busy, self._limits, now, expected, self._apart)
        for attempt, lane, instead in chosen:
            task = attempt.task
            if instead:
                self._lanes.call_off(attempt, now)
            self._lanes.start(task, lane, now)
        self.late = overdue(busy, self._limits, now, expected)
        known = (expected(lane.worker) for lane in busy)
        shortest = min((each for each in known if each is not None), default=math.inf)
        return max(TICKS[0], min(TICKS[1], shortest / 4))
