"""The end of an array: who is too slow for it, and copies of stragglers (spec/11 §3). Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from fogbank.client.scheduling.lanes import Lanes
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.records import Attempt, Lane, Unfinished, Worker
from fogbank.client.scheduling.speeds import Speeds
from fogbank.client.scheduling.stragglers import copies, may_have_copy, overdue

TICKS = 0.1, 1.0
"""The least and the longest time between two looks at the stragglers."""
_MEASURES = 0.5, 10.0
"""The same between two reckonings of the end."""
_SHARE = 25
_STEPS = 12
_DOUBT = 0.25
"""What a run is expected to need beyond what is expected, in tasks."""
_UNPROVEN = 2.0
"""A worker that has never answered gets a task only if so many would be done before the end."""


class Tail:
    """Looks, now and then, at how fast the lanes are and at what they run.

    `apart`: tells whether a worker may run a task beside those that do.
    """

    def __init__(
        self,
        limits: ArrayLimits,
        speeds: Speeds,
        lanes: Lanes,
        apart: Callable[[Unfinished, Worker], bool],
    ) -> None:
        self._limits = limits
        self._speeds = speeds
        self._lanes = lanes
        self._apart = apart
        self._end = inf
        self._measure_at = -inf
        self._now = 0.0
        self._rescues: list[tuple[float, Attempt]] = []
        self.is_off = False
        """Whether workers are given whatever there is: there is no end then."""
        self.late = 0
        """How many attempts deserve a lane that is opened for a copy."""

    def measure(self, waiting: int, now: float) -> None:
        """Reckon when all that waits can be done, if each lane takes what it can end by then."""
        self.late = 0
        self._now = now
        if waiting and now < self._measure_at:
            return
        paces = [pace for lane in self._lanes if (pace := self._pace(lane, now)) is not None]
        margin = self._speeds.longest()
        seconds = level(waiting, paces, margin)
        late = sum(free > seconds + each / 2 for free, each in paces)
        if late:
            # Those that will not have ended by then are to be copied by others: more to do.
            seconds = level(waiting + late, paces, margin)
        self._end = now + seconds
        self._rescues = self._late_runs(now) if waiting < 2 * self._lanes.open else []
        self._measure_at = now + max(_MEASURES[0], min(_MEASURES[1], seconds / _SHARE))

    def _pace(self, lane: Lane, now: float) -> tuple[float, float] | None:
        """Return when a lane is free, in seconds, and how long it takes for a task then."""
        each = self._speeds.expected(lane.worker)
        if each is None or lane.terms is None or lane.draining:
            return None
        if not lane.attempts:
            return 0.0, each
        head = self._speeds.left(lane.attempts[0], lane.head_since, now)
        left = (each if head is None else head) + each * (len(lane.attempts) - 1)
        # Runs end later than expected, more often than earlier: a lane that is free now is better.
        return left + _DOUBT * each, each

    def _late_runs(self, now: float) -> list[tuple[float, Attempt]]:
        """Return what runs and will not have ended in time, with when it will; the latest last."""
        runs = []
        for lane in self._lanes.busy():
            left = self._speeds.left(lane.attempts[0], lane.head_since, now)
            if left is not None and now + left > self._end:
                runs.append((now + left, lane.attempts[0]))
        return sorted(runs, key=lambda run: run[0])

    def rescue(self, lane: Lane, now: float) -> Unfinished | None:
        """Return a task that runs elsewhere and will be late, and that `lane` ends in time.

        It comes before what waits, for which there is more time, or at more workers.
        """
        for place in range(len(self._rescues) - 1, -1, -1):
            end, attempt = self._rescues[place]
            if not may_have_copy(attempt, self._limits):
                del self._rescues[place]
                continue
            anew = self._speeds.anew(attempt, lane.worker)
            if anew is None or now + anew > self._end or not self._apart(attempt.task, lane.worker):
                continue
            if anew + self._limits.start < self._limits.gain * (end - now):
                del self._rescues[place]
                return attempt.task
        return None

    def is_too_slow(self, worker: Worker) -> bool:
        """Tell whether others will have run all that waits before this one has run a task."""
        if self.is_off or not self._lanes.attempts:
            return False
        each = self._speeds.expected(worker)
        if each is None:
            return False
        margin = self._speeds.longest() if worker.mean is not None else _UNPROVEN
        return self._now + margin * each > self._end

    def copy(self, now: float) -> float:
        """Run copies of stragglers in idle lanes; return when to look again, in seconds."""
        if self.is_off:
            return TICKS[1]
        busy = self._lanes.busy()
        chosen = copies(self._lanes.idle(), busy, self._limits, now, self._speeds, self._apart)
        for attempt, lane, instead in chosen:
            task = attempt.task
            if instead:
                task.replaced += 1
                self._lanes.call_off(attempt, now)
            self._lanes.start(task, lane, now)
        self.late = overdue(busy, self._limits, now, self._speeds)
        known = (self._speeds.expected(lane.worker) for lane in busy)
        shortest = min((each for each in known if each is not None), default=inf)
        return max(TICKS[0], min(TICKS[1], shortest / 4))


def level(tasks: int, paces: Sequence[tuple[float, float]], margin: float) -> float:
    """Return the seconds until lanes have run so many tasks more.

    Of each: when it is free, and how long it then takes for a task. It begins none that it could
    not end by then if it took `margin` times as long. Infinity if there are no lanes.
    """
    rate = sum(1 / each for _, each in paces)
    if not rate:
        return inf
    busy = sum(free / each for free, each in paces)
    low, high = 0.0, (tasks + margin * len(paces) + busy) / rate
    for _ in range(_STEPS):
        middle = (low + high) / 2
        counts = ((middle - free) / each + 1 - margin for free, each in paces)
        if sum(int(count) for count in counts if count >= 1) >= tasks:
            high = middle
        else:
            low = middle
    return high
