"""Which attempts are worth a copy elsewhere, once nothing else is left to start (spec/11 §3). Pure.

An attempt is expected to end when its lane has run what stands before it and then itself, each in
the time that the lane's worker takes for a task. One that runs for longer than that is expected to
need ever longer still. A copy is worth its cost if it would be done clearly sooner.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from math import inf

from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.records import Attempt, Lane, Unfinished, Worker

Expected = Callable[[Worker], float | None]


class Pace:
    """How fast lanes are together, of which each takes so many seconds for a task."""

    def __init__(self, eaches: Iterable[float | None]) -> None:
        self._eaches = sorted(each for each in eaches if each is not None)
        self._rates = list(accumulate(1 / each for each in self._eaches))

    def seconds(self, tasks: int, most: float) -> float:
        """Return how long the lanes that take at most `most` for one need for `tasks` more."""
        count = bisect_right(self._eaches, most)
        if not count:
            return inf
        rate = self._rates[count - 1]
        # What they run now is half done, and the last of them begins when the others are.
        return tasks / rate + count / rate


def remaining(lane: Lane, place: int, now: float, expected: Expected) -> float | None:
    """Return the seconds that the lane's attempt at `place` still needs; None if nobody knows."""
    each = expected(lane.worker)
    if each is None:
        return None
    run = now - lane.head_since
    return max(each - run, run - each / 2) + place * each


def copies(
    idle: Sequence[Lane],
    busy: Iterable[Lane],
    limits: ArrayLimits,
    now: float,
    expected: Expected,
    apart: Callable[[Unfinished, Worker], bool],
) -> list[tuple[Attempt, Lane, bool]]:
    """Return attempts and the idle lanes that should run a copy of each, the latest first.

    With each: whether the attempt itself should make way, since its task runs often enough.
    """
    runs: dict[Unfinished, list[tuple[float, Attempt, int]]] = {}
    for lane in busy:
        for place, attempt in enumerate(lane.attempts):
            left = remaining(lane, place, now, expected)
            if left is not None:
                runs.setdefault(attempt.task, []).append((left, attempt, place))
    # Who has never answered may never do: such a one gets a copy only if there is nobody else.
    fast = sorted(idle, key=lambda lane: (lane.worker.mean is None, expected(lane.worker) or 0.0))
    chosen: list[tuple[Attempt, Lane, bool]] = []
    for task, tries in sorted(runs.items(), key=lambda item: -_needed(*item)):
        best = next((ln for ln in fast if apart(task, ln.worker) and _elsewhere(ln, tries)), None)
        each = None if best is None else expected(best.worker)
        if best is None or each is None:
            continue
        if each < limits.gain * _needed(task, tries):
            fast.remove(best)
            most = limits.copies + _open_replies(task) - 1
            chosen.append((max(tries, key=_left)[1], best, len(tries) >= most))
    return chosen


def _needed(task: Unfinished, tries: Sequence[tuple[float, Attempt, int]]) -> float:
    """Return the time until the runs of a task have brought the replies that it still takes."""
    lefts = sorted(map(_left, tries))
    return lefts[min(_open_replies(task), len(lefts)) - 1]


def _open_replies(task: Unfinished) -> int:
    return max(1, task.wanted - len(task.replies))


def _left(item: tuple[float, Attempt, int]) -> float:
    return item[0]


def overdue(
    busy: Iterable[Lane],
    limits: ArrayLimits,
    now: float,
    expected: Expected,
) -> int:
    """Return how many run for more than twice as long as expected, and have no copy.

    They deserve a lane that is opened for them.
    """
    count = 0
    for lane in busy:
        each = expected(lane.worker)
        if lane.attempts and each is not None and now - lane.head_since > 2 * each:
            count += _may_have_more(lane.attempts[0].task, limits)
    return count


def _may_have_more(task: Unfinished, limits: ArrayLimits) -> bool:
    return len(task.attempts) < limits.copies + _open_replies(task) - 1


def _elsewhere(lane: Lane, tries: Sequence[tuple[float, Attempt, int]]) -> bool:
    """Tell whether a copy in `lane` runs elsewhere, or at least sooner than in its queue."""
    if any(attempt.lane.worker is lane.worker for _, attempt, _ in tries):
        ((_, attempt, place), *others) = tries
        return attempt.lane is not lane and place > 0 and not others
    return True
