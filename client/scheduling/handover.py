"""Everything is given to workers, because the client leaves (spec/11 §3). Pure.

Each lane gets its share of all tasks, by its worker's speed, reckoned with as many lanes as there
will be. Once no more can be opened, what is left over is given to those that are open.
"""

from __future__ import annotations

import math

from fogbank.client.scheduling.depth import Depth
from fogbank.client.scheduling.lanes import Lanes
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.work import Work
from fogbank.client.scheduling.workers import Workers

_GROWTH = 1.3
"""How much more each lane gets, if there are tasks left over."""
_STILL = 1.0, 20.0
"""For so many seconds nothing may have been opened: if the program runs somewhere, and if not."""
_LOOK_SECONDS = 1.0


class HandOver:
    """Gives all away, once `begin` was called."""

    def __init__(
        self, limits: ArrayLimits, workers: Workers, lanes: Lanes, work: Work, depth: Depth
    ) -> None:
        self._limits = limits
        self._workers = workers
        self._lanes = lanes
        self._work = work
        self._depth = depth
        self._factor = 1.0
        self._still_since: float | None = None
        self._look_at = math.inf
        self._listed: tuple[float, int, int] = -math.inf, 0, 0
        self.is_on = False
        self.is_stuck = False
        """Whether there are tasks that no worker takes now."""

    def begin(self) -> None:
        """From now on give all away."""
        self.is_on = True

    def deadline(self) -> float:
        """Return when `step` is to be called, if nothing happens before; infinity for never."""
        return self._look_at

    def step(self, now: float, *, runs: bool) -> None:
        """Reckon anew how much a lane may hold; `runs`: the program runs at some worker."""
        self.is_stuck, self._look_at = False, math.inf
        if not self.is_on:
            return
        self._share(now)
        lanes = self._lanes
        if not self._work.waiting or lanes.opening or lanes.have_room:
            self._still_since = None
            return
        self._look_at = now + _LOOK_SECONDS
        if self._still_since is None:
            self._still_since = now
        elif now - self._still_since >= _STILL[not runs]:
            # Nothing more is opened: those that there are get more, until they take no more.
            while not lanes.have_room and lanes.may_hold_more:
                self._factor *= _GROWTH
                self._share(now)
            self.is_stuck = not lanes.have_room

    def _share(self, now: float) -> None:
        """Set what each lane may hold, so that all of them together hold all."""
        if now >= self._listed[0] + _LOOK_SECONDS:
            usable = [worker.candidate for worker in self._workers.usable()]
            places = sum(max(1, candidate.places) for candidate in usable)
            weight = sum(candidate.weight for candidate in usable)
            self._listed = now, max(1, places), max(1, weight)
        _, places, weight = self._listed
        lanes = max(1, min(self._limits.concurrent, places, self._work.unended))
        share = self._factor * self._work.unended / (weight / places * lanes)
        if share > (self._depth.share or 0.0):
            self._depth.share = share
            self._lanes.deepen()
