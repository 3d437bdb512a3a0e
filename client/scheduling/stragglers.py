"""Which attempts are worth a copy elsewhere, once nothing else is left to start (spec/11 §3). Pure.

An attempt is expected to end when its lane has run what stands before it and then itself. One that
runs for longer than that, or of which nothing is heard, is expected to need ever longer still. A
copy is worth its cost if it would be done clearly sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.records import Attempt, Lane, Unfinished, Worker
from fogbank.client.scheduling.speeds import Speeds


class _Run(NamedTuple):
    """An attempt, how long it needs yet, and how many stand before it in its lane."""

    left: float
    attempt: Attempt
    place: int


def copies(
    idle: Sequence[Lane],
    busy: Iterable[Lane],
    limits: ArrayLimits,
    now: float,
    speeds: Speeds,
    apart: Callable[[Unfinished, Worker], bool],
) -> list[tuple[Attempt, Lane, bool]]:
    """Return attempts and the idle lanes that should run a copy of each, the latest first.

    With each: whether the attempt itself should make way, since its task runs often enough.
    """
    # Who has never answered may never do: such a one gets a copy only if there is nobody else.
    fast = sorted(
        (lane for lane in idle if speeds.rate(lane.worker) is not None),
        key=lambda lane: (lane.worker.mean is None, -(speeds.rate(lane.worker) or 0.0)),
    )
    runs = _runs(busy, speeds, now) if fast else {}
    chosen: list[tuple[Attempt, Lane, bool]] = []
    for task, tries in sorted(runs.items(), key=lambda item: -_needed(*item)):
        best = next((ln for ln in fast if apart(task, ln.worker) and _elsewhere(ln, tries)), None)
        if best is None:
            continue
        # The attempt that knows most of the task tells how long a copy takes.
        anew = speeds.anew(max(tries, key=lambda run: run.attempt.fuel).attempt, best.worker)
        if anew is None or anew + limits.start >= limits.gain * _needed(task, tries):
            continue
        instead = len(tries) >= _most(task, limits)
        if instead and not _had_its_chance(task, tries, anew, now):
            continue
        fast.remove(best)
        slowest = max(tries, key=lambda run: run.left).attempt
        chosen.append((slowest, best, instead))
        if not fast:
            break
    return chosen


def _had_its_chance(task: Unfinished, tries: Sequence[_Run], anew: float, now: float) -> bool:
    """Tell whether a run may make way: whether even the newest has taken longer than one should.

    Each time twice as long: the task itself may be long, and must come to its end in some run. If
    one tells of its progress, that is the one that stays.
    """
    if any(run.attempt.fuel for run in tries):
        return True
    ages = (0.0 if run.place else now - run.attempt.lane.head_since for run in tries)
    return min(ages) >= anew * 2.0 ** min(task.replaced, 30)


def overdue(busy: Iterable[Lane], limits: ArrayLimits, now: float, speeds: Speeds) -> int:
    """Return how many need for more than twice as long as expected, and have no copy.

    They deserve a lane that is opened for them.
    """
    count = 0
    for lane in busy:
        if not lane.attempts:
            continue
        each = speeds.expected(lane.worker)
        left = speeds.left(lane.attempts[0], lane.head_since, now)
        if each is None or left is None:
            continue
        if left > 2 * speeds.usual() or now - lane.head_since > 2 * each:
            task = lane.attempts[0].task
            count += len(task.attempts) < _most(task, limits)
    return count


def may_have_copy(attempt: Attempt, limits: ArrayLimits) -> bool:
    """Tell whether an attempt still runs, and its task may run once more."""
    if attempt not in attempt.lane.attempts:
        return False
    return len(attempt.task.attempts) < _most(attempt.task, limits)


def _runs(busy: Iterable[Lane], speeds: Speeds, now: float) -> dict[Unfinished, list[_Run]]:
    runs: dict[Unfinished, list[_Run]] = {}
    for lane in busy:
        each = speeds.expected(lane.worker)
        left = speeds.left(lane.attempts[0], lane.head_since, now)
        if each is None or left is None:
            continue
        for place, attempt in enumerate(lane.attempts):
            runs.setdefault(attempt.task, []).append(_Run(left + place * each, attempt, place))
    return runs


def _needed(task: Unfinished, tries: Sequence[_Run]) -> float:
    """Return the time until the runs of a task have brought the replies that it still takes."""
    lefts = sorted(run.left for run in tries)
    return lefts[min(_open_replies(task), len(lefts)) - 1]


def _open_replies(task: Unfinished) -> int:
    return max(1, task.wanted - len(task.replies))


def _most(task: Unfinished, limits: ArrayLimits) -> int:
    """Return how often a task may run at once."""
    return limits.copies + _open_replies(task) - 1


def _elsewhere(lane: Lane, tries: Sequence[_Run]) -> bool:
    """Tell whether a copy in `lane` runs elsewhere, or at least sooner than in its queue."""
    if any(run.attempt.lane.worker is lane.worker for run in tries):
        (run, *others) = tries
        return run.attempt.lane is not lane and run.place > 0 and not others
    return True
