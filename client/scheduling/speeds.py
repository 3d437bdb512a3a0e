"""How long tasks take and how fast workers are, from what was seen of them (spec/11 §3). Pure.

Lengths of tasks are counted in fuel, speeds of workers in fuel per second. A worker that nothing is
known of is expected to be as fast as it is listed, times what others turned out to be against that.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from itertools import accumulate

from fogbank.client.scheduling.records import Attempt, Worker

_NEWEST = 0.3
"""How much the newest observation of a worker's speed counts."""
_NEWEST_OF_ALL = 0.02
_KEPT = 400
"""Lengths that are kept."""
_SEEN = 20
"""They are looked at again when one of so many is new."""
_LONGER = 0.9
"""Which of them, in their order, stands for the longer ones."""
_OUTLIER = 16.0
"""So many times the median is the most that one length counts for: workers tell them."""
_GROWTH = 0.25
"""What is longer than all that were seen needs this much more, of what it had already."""
_TRUST_SECONDS = 5.0
"""How long a worker's own earlier speed counts for, against what is seen of a run."""
_SILENCE = 7.0
"""A run of which nothing was heard for so long is not believed to go on."""


class Lengths:
    """The lengths of the newest tasks that were answered, in fuel."""

    def __init__(self) -> None:
        self._newest: deque[float] = deque()
        self._sorted: list[float] = []
        self._known: tuple[float, ...] = ()
        self._sums: list[float] = []
        self._mean = 0.0
        self._unseen = 0

    def __bool__(self) -> bool:
        return bool(self._sorted)

    def add(self, fuel: float) -> None:
        """Hear of a task that needed so much."""
        if len(self._newest) == _KEPT:
            oldest = self._newest.popleft()
            del self._sorted[bisect_right(self._sorted, oldest) - 1]
        self._newest.append(fuel)
        insort(self._sorted, fuel)
        self._unseen += 1
        if self._unseen * _SEEN >= len(self._sorted):
            self._look()

    def _look(self) -> None:
        """Reckon anew; not at each length, for there may be many."""
        self._unseen = 0
        self._known = tuple(self._sorted)
        most = _OUTLIER * self._known[len(self._known) // 2]
        backwards = (min(length, most) for length in reversed(self._known))
        self._sums = list(accumulate(backwards))[::-1]
        self._mean = self._sums[0] / len(self._known)

    def mean(self) -> float:
        """Return the mean; there must be one."""
        return self._mean

    def spread(self) -> float:
        """Return how many times the mean the longer ones are, from 1 to 2."""
        longer = self._known[int(_LONGER * (len(self._known) - 1))]
        return max(1.0, min(2.0, longer / self._mean))

    def left(self, fuel: float) -> float:
        """Return what a task is expected to need yet that had so much."""
        longer = bisect_right(self._known, fuel)
        count = len(self._known) - longer
        if not count:
            return max(_GROWTH * fuel, 1.0)
        return max(self._sums[longer] / count - fuel, _GROWTH * fuel / 8, 1.0)


class Speeds:
    """What is expected of workers and of what they run. Times in seconds."""

    def __init__(self) -> None:
        self._lengths = Lengths()
        self._ratio: float | None = None
        self._tells = False
        self._usual = 0.0

    def answered(self, worker: Worker, fuel: float, seconds: float) -> None:
        """Learn from an answer; `fuel` is 0 if it is not known."""
        seconds = max(seconds, 1e-6)
        if fuel <= 0:
            fuel = self._lengths.mean() if self._lengths else seconds * worker.candidate.speed
        self._lengths.add(fuel)
        self._usual += (seconds - self._usual) * (_NEWEST_OF_ALL if self._usual else 1.0)
        rate = fuel / seconds
        known = worker.rate
        worker.rate = rate if known is None else known + _NEWEST * (rate - known)
        ratio = rate / worker.candidate.speed
        if self._ratio is None:
            self._ratio = ratio
        else:
            self._ratio += _NEWEST_OF_ALL * (ratio - self._ratio)

    def progress(self, attempt: Attempt, fuel: float, now: float) -> None:
        """Learn from what a worker says that a run has used."""
        self._tells = True
        attempt.fuel, attempt.heard_at = fuel, now

    def usual(self) -> float:
        """Return how long a task takes at a worker as fast as those that answer."""
        return self._usual

    def longest(self) -> float:
        """Return how much longer than usual the longer ones of the tasks are."""
        return self._lengths.spread() if self._lengths else 1.0

    def rate(self, worker: Worker) -> float | None:
        """Return the fuel per second of a worker, as far as is known."""
        if worker.rate is not None:
            return worker.rate
        return None if self._ratio is None else self._ratio * worker.candidate.speed

    def expected(self, worker: Worker) -> float | None:
        """Return how long a task takes there, as far as is known; None if nothing is."""
        rate = self.rate(worker)
        return None if rate is None or not self._lengths else self._lengths.mean() / rate

    def left(self, attempt: Attempt, since: float, now: float) -> float | None:
        """Return how long an attempt needs yet that has had its lane to itself since then."""
        each, rate = self.expected(attempt.lane.worker), self.rate(attempt.lane.worker)
        if each is None or rate is None:
            return None
        run = max(0.0, now - since)
        if not attempt.fuel:
            left = max(each - run, run - each / 2)
        else:
            seen = (attempt.fuel + rate * _TRUST_SECONDS) / (run + _TRUST_SECONDS)
            left = max(self._lengths.left(attempt.fuel) / seen, run - 3 * each)
        silence = now - max(since, attempt.heard_at)
        if self._tells and silence > _SILENCE:
            left = max(left, silence + each)
        return left

    def anew(self, attempt: Attempt, worker: Worker) -> float | None:
        """Return how long a copy of an attempt would take at a worker."""
        rate = self.rate(worker)
        if rate is None or not self._lengths:
            return None
        fuel = attempt.fuel
        return (fuel + self._lengths.left(fuel) if fuel else self._lengths.mean()) / rate
