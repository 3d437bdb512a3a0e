"""The workers of one array: who is drawn next, who rests, how fast they are (spec/11 §3). Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from fogbank.client.chance import Chooser, Weighted, jitter
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.records import Worker
from fogbank.client.scheduling.words import Candidate, Terms
from fogbank.relay.keys import NodeId

_NEWEST = 0.3
"""How much the newest answer counts for the time that a worker takes."""


class Workers:
    """All that were listed since the array began."""

    def __init__(self, limits: ArrayLimits, chooser: Chooser) -> None:
        self._limits = limits
        self._chooser = chooser
        self._known: dict[NodeId, Worker] = {}
        self._draw: Weighted[Worker] = Weighted((), ())
        self._none_until = -math.inf
        self.spare: dict[NodeId, Worker] = {}
        """Those that are open and have room for more lanes."""

    def update(self, candidates: Iterable[Candidate]) -> None:
        """Take up a consensus; who is not in it is not drawn any more."""
        for worker in self._known.values():
            worker.listed = False
        for candidate in candidates:
            worker = self._known.setdefault(candidate.identity, Worker(candidate))
            worker.candidate, worker.listed = candidate, True
        listed = [worker for worker in self._known.values() if worker.listed]
        self._draw = Weighted(listed, (worker.candidate.weight for worker in listed))
        self._none_until = -math.inf

    def find(self, identity: NodeId) -> Worker:
        """Return a worker, which may be one that no consensus listed."""
        found = self._known.get(identity)
        if found is None:
            speeds = sorted(worker.candidate.speed for worker in self._draw.items)
            speed = speeds[len(speeds) // 2] if speeds else 1
            unlisted = Worker(Candidate(identity, speed, 1), listed=False)
            found = self._known[identity] = unlisted
        return found

    def draw(self, now: float, refuse: Callable[[Worker], bool]) -> Worker | None:
        """Return one that has room for another lane, else draw a new one by weight.

        One that `refuse` names is not taken. None is final for a second.
        """
        for worker in self.spare.values():
            if not refuse(worker):
                return worker
        if now < self._none_until:
            return None
        drawn = self._draw.draw_where(
            lambda each: each.is_free(now) and not refuse(each), self._chooser
        )
        if drawn is None:
            self._none_until = now + 1.0
        return drawn

    def has_free(self, now: float) -> bool:
        """Tell whether one could be drawn that has no lane yet."""
        return any(worker.is_free(now) for worker in self._draw.items)

    def usable(self) -> list[Worker]:
        """Return those that are listed and not barred."""
        return [worker for worker in self._draw.items if not worker.barred]

    def opened(self, worker: Worker, terms: Terms) -> None:
        """Hear of a lane that is open; the first one's terms say how many there may be."""
        if len(worker.lanes) <= 1:
            places = worker.candidate.places or terms.free
            worker.most = max(1, min(terms.free, places, self._limits.lanes_per_worker))
        elif terms.free <= 0:
            worker.most = len(worker.lanes)
        self.note(worker)

    def note(self, worker: Worker) -> None:
        """Keep in mind whether the worker has room for another lane."""
        fit = worker.listed and not worker.barred and worker.is_well
        if fit and 0 < len(worker.lanes) < worker.most:
            self.spare[worker.candidate.identity] = worker
        else:
            self.spare.pop(worker.candidate.identity, None)

    def left(self, worker: Worker, lane: int) -> None:
        """Hear that a lane is gone."""
        worker.lanes.discard(lane)
        self.note(worker)

    def failed(self, worker: Worker, now: float) -> None:
        """Let a worker rest that failed, ever longer."""
        first, longest = self._limits.rest
        if worker.is_sound:
            longest = self._limits.sound_rest
        worker.failures += 1
        worker.is_well = False
        seconds = min(longest, first * 2.0 ** min(worker.failures - 1, 32)) * jitter(self._chooser)
        worker.rests_until = max(worker.rests_until, now + seconds)
        self.note(worker)

    def is_busy(self, worker: Worker, now: float) -> None:
        """Let a worker rest that has no room now."""
        seconds = self._limits.busy_rest * jitter(self._chooser)
        worker.rests_until = max(worker.rests_until, now + seconds)

    def bar(self, worker: Worker) -> None:
        """Use a worker no more."""
        worker.barred = True
        self.note(worker)

    def runs(self, worker: Worker) -> bool:
        """Hear that a worker is at work on a task; tell whether it may have lanes more for that."""
        if worker.is_well:
            worker.is_sound = True
            return False
        worker.is_sound = worker.is_well = True
        self.note(worker)
        return True

    def answered(self, worker: Worker, seconds: float) -> None:
        """Learn from an answer that the worker is sound, and how long its tasks take."""
        worker.failures = 0
        worker.is_sound = worker.is_well = True
        seconds = max(seconds, 1e-6)
        mean = worker.mean
        worker.mean = seconds if mean is None else mean + _NEWEST * (seconds - mean)
        self.note(worker)
