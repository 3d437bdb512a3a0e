"""Which lane gets which task, and when lanes are opened for more (spec/11 §3). Pure."""

from __future__ import annotations

import math
from collections.abc import Callable

from fogbank.client.scheduling.budget import Budget
from fogbank.client.scheduling.doubt import Doubt
from fogbank.client.scheduling.lanes import Lanes
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.records import Unfinished, Worker
from fogbank.client.scheduling.tail import Tail
from fogbank.client.scheduling.work import Work
from fogbank.client.scheduling.workers import Workers

_UNSUITED_SECONDS = 1.0
"""How long a lane is kept that suits no task, while there may be no more lanes."""


class Placing:
    """Places what waits. `now` is when the array began, in seconds."""

    def __init__(
        self,
        limits: ArrayLimits,
        now: float,
        *,
        workers: Workers,
        lanes: Lanes,
        work: Work,
        tail: Tail,
        budget: Budget,
        doubt: Doubt,
    ) -> None:
        self._limits = limits
        self._workers = workers
        self._lanes = lanes
        self._work = work
        self._tail = tail
        self._budget = budget
        self._doubt = doubt
        self._made_at = now
        self._nobody_since: float | None = None

    def fill(self, now: float) -> None:
        """Give waiting tasks to lanes that have room; lanes that suit none are passed by."""
        waiting = self._work.waiting
        while waiting and (lane := self._lanes.next_with_room()) is not None:
            late = self._tail.rescue(lane, now) if self._work.closed else None
            if late is not None:
                self._lanes.start(late, lane, now)
                continue
            slow = self._is_too_slow(lane.worker)
            task = None if slow else waiting.take(self._fits(lane.worker))
            if task is None:
                self._lanes.pass_by(lane)
            else:
                self._lanes.start(task, lane, now)
                self._work.started(task)

    def open_more(self, now: float) -> None:
        """Open lanes for tasks that no lane has room for."""
        lanes = self._lanes
        self._budget.count(len(lanes), now)
        most = self._most(now)
        while (
            len(self._work.waiting) + self._tail.late > lanes.opening
            and lanes.opening < self._limits.opening + lanes.open / 2
            and len(lanes) < most
            and self._budget.allows(lanes.opening)
        ):
            worker = self._workers.draw(now, self._is_unwanted)
            if worker is None:
                return
            lanes.add(worker)

    def drop_idle(self, now: float) -> None:
        """Close lanes that have had nothing to do for long."""
        longest = self._limits.idle_seconds
        if self._work.waiting and len(self._lanes) >= self._most(now):
            longest = _UNSUITED_SECONDS
        for lane in self._lanes.idle():
            if now - lane.head_since >= longest:
                self._lanes.drop(lane)

    def free_the_stuck(self, now: float) -> bool:
        """Let tasks go where they failed before, if nothing else is left; tell if nobody is."""
        going_on = self._lanes.opening + self._lanes.attempts
        if going_on:
            self._nobody_since = None
            return False
        if self._lanes.idle() or self._work.is_replicated:
            self._work.waiting.forgive()
            self.fill(now)
        if self._lanes.attempts:
            return False
        if not self._lanes and (not self._workers.usable() or self._budget.is_hopeless(now)):
            return True
        return self._nobody_suits(now)

    def _nobody_suits(self, now: float) -> bool:
        """Tell whether for long no worker has been listed that may run any task."""
        waiting = self._work.waiting
        if any(waiting.suits(self._fits(worker)) for worker in self._workers.usable()):
            self._nobody_since = None
        elif self._nobody_since is None:
            self._nobody_since = now
        else:
            return now - self._nobody_since >= self._limits.give_up_seconds
        return False

    def _most(self, now: float) -> int:
        """Return how many lanes there may be."""
        if self._doubt.is_taken:
            return self._limits.concurrent
        # Whether anybody takes the program is to be seen: a few are asked at first.
        asked = self._limits.first + int((now - self._made_at) / 2)
        return min(self._limits.concurrent, asked)

    def _fits(self, worker: Worker) -> Callable[[Unfinished], bool]:
        """Return what tells whether a waiting task may run at a worker.

        What failed several times waits for a worker that has answered before: else the workers that
        fail everything at once would fail it for good.
        """
        proven = worker.mean is not None or not self._has_proven()
        most_tries = math.inf if proven else self._limits.trusted_tries
        return lambda task: self._work.may_run(task, worker, most_tries)

    def _is_unwanted(self, worker: Worker) -> bool:
        """Tell whether a session there would be of no use."""
        if self._is_too_slow(worker):
            return True
        waiting = self._work.waiting
        return self._work.is_replicated and not waiting.suits(self._fits(worker))

    def _is_too_slow(self, worker: Worker) -> bool:
        return self._work.closed and self._tail.is_too_slow(worker)

    def _has_proven(self) -> bool:
        return self._doubt.answered and any(
            lane.worker.mean is not None and not lane.draining for lane in self._lanes
        )
