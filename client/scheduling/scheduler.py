"""The scheduler of one array: which task runs where, and when again elsewhere (spec/11 §3). Pure.

The shell tells it what happens, with the time, and then does what `actions` returns:

* `workers`, `add`, `close`: who is listed, which tasks there are, and that there are no more;
* `lane_opened`, `lane_failed`: what became of an `Open`;
* `began`: a worker says that it runs the attempt, and so took the program;
* `answered`: what became of a `Run`, unless a `Cancel` or `Close` ended it before;
* `timer`: the time that `deadline` named has come.

A *lane* is one session at a worker, which runs its tasks one after the other. Whatever goes wrong
in a lane ends it: it is drained and closed, its worker rests, and what it did not answer goes to
others. So a session's state need not be guessed at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain

from fogbank.client.chance import Chooser
from fogbank.client.scheduling.budget import Budget
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.stragglers import Pace, copies, overdue
from fogbank.client.scheduling.waiting import Unfinished, Waiting
from fogbank.client.scheduling.words import (
    Action,
    Cancel,
    Candidate,
    Close,
    Ending,
    Finish,
    Open,
    Run,
    Terms,
    Verdict,
)
from fogbank.client.scheduling.workers import Attempt, Lane, Worker, Workers

_TICKS = 0.1, 1.0
"""The least and the longest time between two looks at the stragglers."""


class Scheduler:
    """See above. `expires`: when all that is unfinished expires."""

    def __init__(
        self, limits: ArrayLimits, chooser: Chooser, now: float, expires: float = math.inf
    ) -> None:
        self._limits = limits
        self._workers = Workers(limits, chooser)
        self._expires = expires
        self._tasks: dict[int, Unfinished] = {}
        self._ready = Waiting()
        self._closed = False
        self._ended: Ending | None = None
        self._lanes: dict[int, Lane] = {}
        self._roomy: dict[int, Lane] = {}
        self._passed: dict[int, Lane] = {}
        self._opening = 0
        self._attempts: dict[int, Attempt] = {}
        self._last_lane = self._last_attempt = 0
        self._budget = Budget(limits, now)
        self._trouble: object = None
        self._now = now
        self._refusers: set[Worker] = set()
        self._takers: set[Worker] = set()
        self._answered = False
        self._made_at = now
        self._look_at = now
        self._looked_at, self._tick = now, _TICKS[0]
        self._late = 0
        self._pace = Pace(())
        self._actions: list[Action] = []

    # What there is to do, and what is known.

    def actions(self) -> list[Action]:
        """Return what is to be done now, in this order, and forget it."""
        actions, self._actions = self._actions, []
        return actions

    def deadline(self) -> float:
        """Return when `timer` is to be called, if nothing happens before; infinity for never."""
        if self.is_over:
            return math.inf
        times = [self._expires]
        if self._ready or self._closed or self._idle():
            times.append(self._look_at)
        return min(times)

    @property
    def is_over(self) -> bool:
        """Whether every task has ended, and no more will come."""
        return self._closed and not self._tasks

    @property
    def wants(self) -> int:
        """How many more tasks it would like to be told of now."""
        if self._closed:
            return 0
        ahead = 2 * self._limits.concurrent + sum(
            lane.room(self._limits) for lane in self._roomy.values()
        )
        return max(0, ahead - len(self._ready))

    @property
    def running(self) -> int:
        """How many lanes have a task; what waits there behind it does not run yet."""
        return sum(bool(lane.attempts) for lane in self._lanes.values())

    @property
    def lanes(self) -> int:
        """How many sessions are open."""
        return len(self._lanes) - self._opening

    # What happens.

    def workers(self, candidates: Iterable[Candidate], now: float) -> None:
        """Hear which workers a consensus lists."""
        self._workers.update(candidates)
        self._step(now)

    def add(self, task: int, now: float) -> None:
        """Hear of a task that is to be run; each number is given once."""
        if self._ended is not None:
            self._actions.append(Finish(task, self._ended, self._trouble))
            return
        if self._closed:
            raise ValueError("an array that is closed takes no more tasks")
        self._tasks[task] = each = Unfinished(task)
        self._ready.add(each)
        self._step(now)

    def close(self, now: float) -> None:
        """Hear that there are no more tasks."""
        self._closed = True
        self._look_at = now
        self._step(now)

    def lane_opened(self, lane: int, terms: Terms, now: float) -> None:
        """Hear that a worker made its offer, and was sent the program."""
        found = self._lanes.get(lane)
        if found is None:
            return
        self._now = now
        self._opening -= 1
        found.terms, found.head_since = terms, now
        self._workers.opened(found.worker, terms)
        self._budget.good(0.5, len(self._lanes), now)
        if terms.free <= 0 and (len(found.worker.lanes) > 1 or self._workers.has_free(now)):
            # It would wait for a place, where others may have some.
            self._workers.is_busy(found.worker, now)
            self._drop(found)
        else:
            self._roomy[lane] = found
        self._step(now)

    def lane_failed(self, lane: int, verdict: Verdict, answer: object, now: float) -> None:
        """Hear that a lane could not be opened, or that it ended; its attempts are lost."""
        found = self._lanes.get(lane)
        if found is None:
            return
        self._now = now
        self._judge_worker(found, verdict, answer, now)
        for attempt in tuple(found.attempts):
            self._forget(attempt)
            self._retry(attempt, Verdict.FAILED, answer)
        self._drop(found)
        self._step(now)

    def began(self, attempt: int, now: float) -> None:
        """Hear that a worker says that it runs an attempt."""
        found = self._attempts.get(attempt)
        if found is not None and found.lane.worker not in self._takers:
            self._takers.add(found.lane.worker)
            self._step(now)

    def answered(self, attempt: int, verdict: Verdict, answer: object, now: float) -> None:
        """Hear what an attempt came to."""
        found = self._attempts.get(attempt)
        if found is None:
            return
        self._now = now
        lane = found.lane
        first = lane.attempts[0] is found
        seconds = now - lane.head_since
        self._forget(found)
        lane.head_since = now
        if verdict is Verdict.ANSWERED:
            self._answered = True
            if first:
                self._workers.answered(lane.worker, seconds)
            self._budget.good(1.0, len(self._lanes), now)
            self._finish(self._tasks[found.task], Ending.DONE, answer)
            if not lane.draining:
                self._has_room(lane)
        elif verdict is Verdict.HOPELESS:
            self._finish(self._tasks[found.task], Ending.FAILED, answer)
            if not lane.draining:
                self._has_room(lane)
        else:
            if not lane.draining:
                self._drain(lane)
                self._judge_worker(lane, verdict, answer, now)
            self._retry(found, verdict, answer)
        if lane.draining and not lane.attempts:
            self._drop(lane)
        self._step(now)

    def timer(self, now: float) -> None:
        """Hear that the time has come that `deadline` named."""
        self._step(now)

    def cancel(self, now: float) -> None:
        """End everything: what has not ended is cancelled."""
        self._end_all(Ending.CANCELLED)
        self._step(now)

    # Lanes and attempts.

    def _has_room(self, lane: Lane) -> None:
        if lane.number not in self._passed:
            self._roomy[lane.number] = lane

    def _drain(self, lane: Lane) -> None:
        lane.draining = True
        self._roomy.pop(lane.number, None)
        self._passed.pop(lane.number, None)

    def _drop(self, lane: Lane) -> None:
        """Forget a lane, which has no attempts any more."""
        if lane.terms is None:
            self._opening -= 1
        self._roomy.pop(lane.number, None)
        self._passed.pop(lane.number, None)
        if self._lanes.pop(lane.number, None) is not None:
            self._workers.left(lane.worker, lane.number)
            self._actions.append(Close(lane.number))

    def _forget(self, attempt: Attempt) -> None:
        del self._attempts[attempt.number]
        attempt.lane.attempts.remove(attempt)
        self._tasks[attempt.task].attempts.remove(attempt)

    def _start(self, task: Unfinished, lane: Lane, now: float) -> None:
        self._last_attempt += 1
        attempt = Attempt(self._last_attempt, task.number, lane)
        if not lane.attempts:
            lane.head_since = now
        lane.attempts.append(attempt)
        task.attempts.append(attempt)
        self._attempts[attempt.number] = attempt
        # The lane goes to the end of the line, if it has room for more.
        self._roomy.pop(lane.number, None)
        self._passed.pop(lane.number, None)
        if lane.room(self._limits):
            self._roomy[lane.number] = lane
        self._actions.append(Run(attempt.number, task.number, lane.number))

    def _finish(self, task: Unfinished, ending: Ending, answer: object) -> None:
        """End a task, and whatever else runs of it."""
        for other in tuple(task.attempts):
            self._call_off(other)
        del self._tasks[task.number]
        self._actions.append(Finish(task.number, ending, answer))

    def _call_off(self, attempt: Attempt) -> None:
        """End an attempt whose answer is not needed any more."""
        lane = attempt.lane
        self._actions.append(Cancel(attempt.number))
        if lane.attempts[0] is attempt:
            lane.head_since = self._now
        self._forget(attempt)
        if not lane.draining:
            self._has_room(lane)
        elif not lane.attempts:
            self._drop(lane)

    def _retry(self, attempt: Attempt, verdict: Verdict, answer: object) -> None:
        """Have a task run again elsewhere, unless it was tried often enough."""
        task = self._tasks[attempt.task]
        task.last = answer
        if verdict is not Verdict.NOT_TAKEN:
            task.tries += verdict is Verdict.FAILED
            task.avoid.add(attempt.lane.worker)
        if task.attempts:
            return
        if task.tries > self._limits.retries:
            self._finish(task, Ending.FAILED, answer)
        else:
            self._ready.put_back(task)

    def _end_all(self, ending: Ending) -> None:
        self._ready.clear()
        for task in tuple(self._tasks.values()):
            answer = task.last if task.last is not None else self._trouble
            self._finish(task, ending, answer)
        self._ended, self._closed = ending, True

    # Judgement.

    def _judge_worker(self, lane: Lane, verdict: Verdict, answer: object, now: float) -> None:
        """Hear what is wrong with a lane's worker."""
        worker = lane.worker
        self._trouble = answer
        self._budget.bad()
        if verdict in {Verdict.UNFIT, Verdict.REFUSED}:
            self._workers.bar(worker)
            if verdict is Verdict.REFUSED:
                self._refusers.add(worker)
        elif verdict is not Verdict.HOPELESS:
            self._workers.failed(worker, now)

    # Decisions.

    def _step(self, now: float) -> None:
        if now >= self._expires and not self.is_over:
            self._end_all(Ending.EXPIRED)
        if not self._answered and self._refusers and not self.is_over:
            enough = self._limits.doubters * (1 + len(self._takers - self._refusers))
            if len(self._refusers) >= enough:
                self._end_all(Ending.FAILED)
        self._fill(now)
        if self._closed and not self._ready:
            self._look_at = min(self._look_at, self._looked_at + self._tick)
        if now >= self._look_at:
            self._look(now)
        self._open_more(now)
        if self.is_over:
            for lane in tuple(self._lanes.values()):
                self._drop(lane)

    def _fill(self, now: float) -> None:
        """Give waiting tasks to lanes that have room; lanes that suit none are passed by."""
        while self._ready and self._roomy:
            lane = self._roomy.pop(next(iter(self._roomy)))
            if lane.room(self._limits):
                task = self._next_for(lane.worker)
                if task is None:
                    self._passed[lane.number] = lane
                else:
                    self._start(task, lane, now)

    def _next_for(self, worker: Worker) -> Unfinished | None:
        """Take the first waiting task that may run at a worker.

        What failed several times waits for a worker that has answered before: else the workers that
        fail everything at once would fail it for good.
        """
        if self._is_too_slow(worker):
            return None
        proven = worker.mean is not None or not self._has_proven()
        return self._ready.take(worker, math.inf if proven else self._limits.trusted_tries)

    def _is_too_slow(self, worker: Worker) -> bool:
        """Tell whether faster ones will have run all that waits before this one has run a task."""
        if not self._closed or not self._attempts:
            return False
        each = self._workers.expected(worker)
        return each is not None and each > self._pace.seconds(
            len(self._ready), each / self._limits.faster
        )

    def _measure(self) -> None:
        """Find out how fast the open lanes are together."""
        open_lanes = (lane for lane in self._lanes.values() if lane.terms is not None)
        self._pace = Pace(self._workers.expected(lane.worker) for lane in open_lanes)

    def _has_proven(self) -> bool:
        return self._answered and any(
            lane.worker.mean is not None and not lane.draining for lane in self._lanes.values()
        )

    def _open_more(self, now: float) -> None:
        """Open lanes for tasks that no lane has room for."""
        limits = self._limits
        self._budget.count(len(self._lanes), now)
        most = limits.concurrent
        if not self._takers:
            # Whether anybody takes the program is to be seen: a few are asked at first.
            most = min(most, limits.first + int((now - self._made_at) / 2))
        while (
            len(self._ready) + self._late > self._opening
            and self._opening < limits.opening + self.lanes / 4
            and len(self._lanes) < most
            and self._budget.allows(self._opening)
        ):
            worker = self._workers.draw(now, self._is_too_slow)
            if worker is None:
                return
            self._last_lane += 1
            lane = Lane(self._last_lane, worker)
            self._lanes[lane.number] = lane
            self._opening += 1
            worker.lanes.add(lane.number)
            self._workers.note(worker)
            self._actions.append(Open(lane.number, worker.candidate.identity))

    def _idle(self) -> list[Lane]:
        roomy = chain(self._roomy.values(), self._passed.values())
        return [lane for lane in roomy if not lane.attempts]

    def _look(self, now: float) -> None:
        """Look at what only time brings about: stragglers, idle lanes, and whether to give up."""
        self._looked_at, self._late, self._tick = now, 0, _TICKS[1]
        self._measure()
        self._roomy |= self._passed
        self._passed.clear()
        if self._ready:
            self._tick = 0.5
            self._free_the_stuck(now)
        elif self._closed:
            self._copy(now)
        self._look_at = now + self._tick
        for lane in self._idle():
            if now - lane.head_since >= self._limits.idle_seconds:
                self._drop(lane)

    def _copy(self, now: float) -> None:
        """Run copies of stragglers in idle lanes; want a lane more for each that has none."""
        busy = [lane for lane in self._lanes.values() if lane.attempts]
        expected = self._workers.expected
        for attempt, lane, instead in copies(self._idle(), busy, self._limits, now, expected):
            if instead:
                self._call_off(attempt)
            self._start(self._tasks[attempt.task], lane, now)
        self._late = overdue(busy, self._runs, self._limits, now, expected)
        known = (expected(lane.worker) for lane in busy)
        shortest = min((each for each in known if each is not None), default=math.inf)
        self._tick = max(_TICKS[0], min(_TICKS[1], shortest / 4))

    def _runs(self, task: int) -> list[Attempt]:
        return self._tasks[task].attempts

    def _free_the_stuck(self, now: float) -> None:
        """Let tasks go where they failed before, or give up, if nothing else is left."""
        if self._opening or self._attempts:
            return
        if self._idle():
            self._ready.forgive()
            self._fill(now)
        elif not self._lanes and (not self._workers.usable() or self._budget.is_hopeless(now)):
            self._end_all(Ending.FAILED)
