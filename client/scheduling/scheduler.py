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

from fogbank.client.chance import Chooser
from fogbank.client.scheduling.budget import Budget
from fogbank.client.scheduling.doubt import Doubt
from fogbank.client.scheduling.lanes import Lanes
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.records import Attempt, Lane, Unfinished, Worker
from fogbank.client.scheduling.tail import TICKS, Tail
from fogbank.client.scheduling.waiting import Waiting
from fogbank.client.scheduling.words import Action, Candidate, Ending, Finish, Terms, Verdict
from fogbank.client.scheduling.workers import Workers


class Scheduler:
    """See above. `expires`: when all that is unfinished expires."""

    def __init__(
        self, limits: ArrayLimits, chooser: Chooser, now: float, expires: float = math.inf
    ) -> None:
        self._limits = limits
        self._expires = expires
        self._actions: list[Action] = []
        self._workers = Workers(limits, chooser)
        self._lanes = Lanes(limits, self._workers, self._say)
        self._tail = Tail(limits, self._workers, self._lanes)
        self._budget = Budget(limits, now)
        self._doubt = Doubt(limits.doubters)
        self._tasks: dict[int, Unfinished] = {}
        self._ready = Waiting()
        self._closed = False
        self._ended: Ending | None = None
        self._trouble: object = None
        self._made_at = now
        self._look_at = now
        self._looked_at, self._tick = now, TICKS[0]

    # What there is to do, and what is known.

    def actions(self) -> list[Action]:
        """Return what is to be done now, in this order, and forget it."""
        actions = self._actions.copy()
        self._actions.clear()
        return actions

    def deadline(self) -> float:
        """Return when `timer` is to be called, if nothing happens before; infinity for never."""
        if self.is_over:
            return math.inf
        times = [self._expires]
        if self._ready or self._closed or self._lanes.idle():
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
        ahead = 2 * self._limits.concurrent + self._lanes.room
        return max(0, ahead - len(self._ready))

    @property
    def running(self) -> int:
        """How many lanes have a task; what waits there behind it does not run yet."""
        return len(self._lanes.busy())

    @property
    def lanes(self) -> int:
        """How many sessions are open."""
        return self._lanes.open

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
        found = self._lanes.find(lane)
        if found is None:
            return
        self._lanes.opened(found, terms, now)
        self._workers.opened(found.worker, terms)
        self._budget.good(0.5, len(self._lanes), now)
        if terms.free <= 0 and (len(found.worker.lanes) > 1 or self._workers.has_free(now)):
            # It would wait for a place, where others may have some.
            self._workers.is_busy(found.worker, now)
            self._lanes.drop(found)
        else:
            self._lanes.has_room(found)
        self._step(now)

    def lane_failed(self, lane: int, verdict: Verdict, answer: object, now: float) -> None:
        """Hear that a lane could not be opened, or that it ended; its attempts are lost."""
        found = self._lanes.find(lane)
        if found is None:
            return
        self._judge_worker(found, verdict, answer, now)
        for attempt in tuple(found.attempts):
            self._lanes.forget(attempt)
            self._retry(attempt, Verdict.FAILED, answer, now)
        self._lanes.drop(found)
        self._step(now)

    def began(self, attempt: int, now: float) -> None:
        """Hear that a worker says that it runs an attempt."""
        found = self._lanes.attempt(attempt)
        if found is not None and self._doubt.began(found.lane.worker):
            self._step(now)

    def answered(self, attempt: int, verdict: Verdict, answer: object, now: float) -> None:
        """Hear what an attempt came to."""
        found = self._lanes.attempt(attempt)
        if found is None:
            return
        lane = found.lane
        first, seconds = lane.attempts[0] is found, now - lane.head_since
        self._lanes.forget(found)
        lane.head_since = now
        if verdict is Verdict.ANSWERED:
            self._doubt.answered = True
            if first:
                self._workers.answered(lane.worker, seconds)
            self._budget.good(1.0, len(self._lanes), now)
            self._finish(found.task, Ending.DONE, answer, now)
        elif verdict is Verdict.HOPELESS:
            self._finish(found.task, Ending.FAILED, answer, now)
        else:
            if not lane.draining:
                self._lanes.drain(lane)
                self._judge_worker(lane, verdict, answer, now)
            self._retry(found, verdict, answer, now)
        self._lanes.settle(lane)
        self._step(now)

    def timer(self, now: float) -> None:
        """Hear that the time has come that `deadline` named."""
        self._step(now)

    def cancel(self, now: float) -> None:
        """End everything: what has not ended is cancelled."""
        self._end_all(Ending.CANCELLED, now)
        self._step(now)

    # Ends.

    def _say(self, action: Action) -> None:
        self._actions.append(action)

    def _finish(self, task: Unfinished, ending: Ending, answer: object, now: float) -> None:
        """End a task, and whatever else runs of it."""
        for other in tuple(task.attempts):
            self._lanes.call_off(other, now)
        del self._tasks[task.number]
        self._say(Finish(task.number, ending, answer))

    def _retry(self, attempt: Attempt, verdict: Verdict, answer: object, now: float) -> None:
        """Have a task run again elsewhere, unless it was tried often enough."""
        task = attempt.task
        task.last = answer
        if verdict is not Verdict.NOT_TAKEN:
            task.tries += verdict is Verdict.FAILED
            task.avoid.add(attempt.lane.worker)
        if task.attempts:
            return
        if task.tries > self._limits.retries:
            self._finish(task, Ending.FAILED, answer, now)
        else:
            self._ready.put_back(task)

    def _end_all(self, ending: Ending, now: float) -> None:
        self._ready.clear()
        for task in tuple(self._tasks.values()):
            answer = task.last if task.last is not None else self._trouble
            self._finish(task, ending, answer, now)
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
                self._doubt.refused(worker)
        elif verdict is not Verdict.HOPELESS:
            self._workers.failed(worker, now)

    # Decisions.

    def _step(self, now: float) -> None:
        if now >= self._expires and not self.is_over:
            self._end_all(Ending.EXPIRED, now)
        if self._doubt.is_refused and not self.is_over:
            self._end_all(Ending.FAILED, now)
        self._fill(now)
        if self._closed and not self._ready:
            self._look_at = min(self._look_at, self._looked_at + self._tick)
        if now >= self._look_at:
            self._look(now)
        self._open_more(now)
        if self.is_over:
            for lane in tuple(self._lanes):
                self._lanes.drop(lane)

    def _fill(self, now: float) -> None:
        """Give waiting tasks to lanes that have room; lanes that suit none are passed by."""
        while self._ready and (lane := self._lanes.next_with_room()) is not None:
            task = self._next_for(lane.worker)
            if task is None:
                self._lanes.pass_by(lane)
            else:
                self._lanes.start(task, lane, now)

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
        return self._closed and self._tail.is_too_slow(worker, len(self._ready))

    def _has_proven(self) -> bool:
        return self._doubt.answered and any(
            lane.worker.mean is not None and not lane.draining for lane in self._lanes
        )

    def _open_more(self, now: float) -> None:
        """Open lanes for tasks that no lane has room for."""
        limits, lanes = self._limits, self._lanes
        self._budget.count(len(lanes), now)
        most = limits.concurrent
        if not self._doubt.is_taken:
            # Whether anybody takes the program is to be seen: a few are asked at first.
            most = min(most, limits.first + int((now - self._made_at) / 2))
        while (
            len(self._ready) + self._tail.late > lanes.opening
            and lanes.opening < limits.opening + lanes.open / 4
            and len(lanes) < most
            and self._budget.allows(lanes.opening)
        ):
            worker = self._workers.draw(now, self._is_too_slow)
            if worker is None:
                return
            lanes.add(worker)

    def _look(self, now: float) -> None:
        """Look at what only time brings about: stragglers, idle lanes, and whether to give up."""
        self._looked_at, self._tick = now, TICKS[1]
        self._tail.measure()
        self._lanes.look_again()
        if self._ready:
            self._tick = 0.5
            self._free_the_stuck(now)
        elif self._closed:
            self._tick = self._tail.copy(now)
        self._look_at = now + self._tick
        for lane in self._lanes.idle():
            if now - lane.head_since >= self._limits.idle_seconds:
                self._lanes.drop(lane)

    def _free_the_stuck(self, now: float) -> None:
        """Let tasks go where they failed before, or give up, if nothing else is left."""
        if self._lanes.opening or self._lanes.attempts:
            return
        if self._lanes.idle():
            self._ready.forgive()
            self._fill(now)
        elif not self._lanes and (not self._workers.usable() or self._budget.is_hopeless(now)):
            self._end_all(Ending.FAILED, now)
