"""The scheduler of one array: which task runs where, and when again elsewhere (spec/11 §3). Pure.

The shell tells it what happens, with the time, and then does what `actions` returns:

* `workers`, `add`, `close`: who is listed, which tasks there are, and that there are no more;
* `resume`: a worker holds a session of an earlier run, with these tasks; before all others;
* `lane_opened`, `lane_failed`: what became of an `Open`, or of a session that is resumed;
* `began`: a worker says that it runs the attempt, and so took the program;
* `answered`: what became of a `Run`, unless a `Cancel` or `Close` ended it before;
* `progress`: how much fuel an attempt has used by now;
* `verifying`: its worker has answered, but what the answer is worth is told later;
* `lost`: the worker of a resumed session does not know the attempt;
* `hand_over`: all that waits is to be given away, since the client leaves;
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
from fogbank.client.scheduling.depth import Depth
from fogbank.client.scheduling.doubt import Doubt
from fogbank.client.scheduling.handover import HandOver
from fogbank.client.scheduling.lanes import Lanes
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.placing import Placing
from fogbank.client.scheduling.records import Attempt, Lane, Worker
from fogbank.client.scheduling.speeds import Speeds
from fogbank.client.scheduling.tail import TICKS, Tail
from fogbank.client.scheduling.words import Action, Candidate, Ending, Replicas, Terms, Verdict
from fogbank.client.scheduling.work import Work
from fogbank.client.scheduling.workers import Workers
from fogbank.relay.keys import NodeId


class Scheduler:
    """See above. `expires`: when all that is unfinished expires."""

    def __init__(
        self,
        limits: ArrayLimits,
        chooser: Chooser,
        now: float,
        expires: float = math.inf,
        replicas: Replicas | None = None,
    ) -> None:
        self._concurrent = limits.concurrent
        self._expires = expires
        self._actions: list[Action] = []
        self._workers = Workers(limits, chooser)
        depth = Depth(limits)
        self._lanes = Lanes(depth, self._workers, self._say)
        self._budget = Budget(limits, now)
        self._doubt = Doubt(limits.doubters)
        self._work = Work(limits, replicas, self._lanes, self._say)
        self._speeds = Speeds()
        self._tail = Tail(limits, self._speeds, self._lanes, self._work.apart)
        self._handover = HandOver(limits, self._workers, self._lanes, self._work, depth)
        self._placing = Placing(
            limits,
            now,
            workers=self._workers,
            lanes=self._lanes,
            work=self._work,
            tail=self._tail,
            budget=self._budget,
            doubt=self._doubt,
        )
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
        times = [self._expires, self._handover.deadline()]
        if self._work.waiting or self._work.closed or self._lanes.idle():
            times.append(self._look_at)
        return min(times)

    @property
    def is_over(self) -> bool:
        """Whether every task has ended, and no more will come."""
        return self._work.is_over

    @property
    def wants(self) -> int:
        """How many more tasks it would like to be told of now."""
        if self._work.closed:
            return 0
        ahead = 2 * self._concurrent + self._lanes.room
        return max(0, ahead - len(self._work.waiting))

    @property
    def running(self) -> int:
        """How many lanes have a task; what waits there behind it does not run yet."""
        return len(self._lanes.busy())

    @property
    def lanes(self) -> int:
        """How many sessions are open."""
        return self._lanes.open

    @property
    def is_stuck(self) -> bool:
        """Whether, all being handed over, there are tasks that no worker takes now."""
        return self._handover.is_stuck

    # What happens.

    def workers(self, candidates: Iterable[Candidate], now: float) -> None:
        """Hear which workers a consensus lists."""
        self._workers.update(candidates)
        self._step(now)

    def add(self, task: int, now: float) -> None:
        """Hear of a task that is to be run; each number is given once, or resumed before."""
        self._work.add(task)
        self._step(now)

    def resume(
        self, lane: int, worker: NodeId, tasks: Iterable[int], now: float
    ) -> tuple[int, ...]:
        """Hear of a session that a worker holds, and of what it runs; return the attempts' numbers.

        Comes before all tasks, which need not be given again. Then `lane_opened` or `lane_failed`.
        """
        resumed = [self._work.resumed(task) for task in tasks]
        attempts = self._lanes.resume(lane, self._workers.find(worker), resumed)
        for task in resumed:
            self._work.started(task)
        self._look_at = now
        return tuple(attempt.number for attempt in attempts)

    def close(self, now: float) -> None:
        """Hear that there are no more tasks."""
        self._work.closed = True
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
        taken = terms.free <= 0 and not found.attempts
        if taken and (len(found.worker.lanes) > 1 or self._workers.has_free(now)):
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
        # Of a session that cannot be resumed nobody knows that it ran anything.
        what = Verdict.NOT_TAKEN if found.terms is None else Verdict.FAILED
        for attempt in tuple(found.attempts):
            self._lanes.forget(attempt)
            self._work.retry(attempt, what, answer, now)
        self._lanes.drop(found)
        self._step(now)

    def began(self, attempt: int, now: float) -> None:
        """Hear that a worker says that it runs an attempt."""
        found = self._lanes.attempt(attempt)
        if found is not None and self._doubt.began(found.lane.worker):
            self._step(now)

    def verifying(self, attempt: int, now: float, fuel: float = 0.0) -> None:
        """Hear that a worker is done with an attempt; `answered` comes once it is judged."""
        found = self._lanes.attempt(attempt)
        if found is not None:
            self._learn(found, fuel, now)
            self._lanes.settle(found.lane)
            self._step(now)

    def lost(self, attempt: int, now: float) -> None:
        """Hear that a worker, whose session was resumed, never had the attempt or lost it."""
        found = self._lanes.attempt(attempt)
        if found is not None:
            self._lanes.forget(found)
            self._work.put_back(found.task, now)
            self._lanes.settle(found.lane)
            self._step(now)

    def progress(self, attempt: int, fuel: float, now: float) -> None:
        """Hear how much fuel an attempt has used by now."""
        found = self._lanes.attempt(attempt)
        if found is not None:
            self._speeds.progress(found, fuel, now)
            if self._workers.runs(found.lane.worker):
                self._step(now)

    def answered(
        self, attempt: int, verdict: Verdict, answer: object, now: float, fuel: float = 0.0
    ) -> None:
        """Hear what an attempt came to, and what fuel it used; 0 if that is not known."""
        found = self._lanes.attempt(attempt)
        if found is None:
            return
        lane = found.lane
        if verdict is Verdict.ANSWERED:
            self._learn(found, fuel, now)
            self._budget.good(1.0, len(self._lanes), now)
            self._lanes.forget(found)
            for wrong in self._work.replied(found, answer, now):
                self._disbelieve(self._workers.find(wrong), now)
        else:
            self._lanes.ran(found, now)
            self._lanes.forget(found)
            self._failed(found, verdict, answer, now)
        self._lanes.settle(lane)
        self._step(now)

    def hand_over(self, now: float) -> None:
        """Hear that the client leaves: workers are to get all tasks, and no copies are made."""
        self._handover.begin()
        self._tail.is_off = True
        self._step(now)

    def timer(self, now: float) -> None:
        """Hear that the time has come that `deadline` named."""
        self._step(now)

    def cancel(self, now: float) -> None:
        """End everything: what has not ended is cancelled."""
        self._work.end_all(Ending.CANCELLED, now)
        self._step(now)

    def _say(self, action: Action) -> None:
        self._actions.append(action)

    # Judgement.

    def _learn(self, attempt: Attempt, fuel: float, now: float) -> None:
        """Learn from an answer how fast a worker is, and that it takes the program."""
        seconds = self._lanes.ran(attempt, now)
        if seconds is not None:
            self._workers.answered(attempt.lane.worker, seconds)
            self._speeds.answered(attempt.lane.worker, fuel, seconds)
        self._doubt.answered = True

    def _failed(self, attempt: Attempt, verdict: Verdict, answer: object, now: float) -> None:
        lane = attempt.lane
        if verdict is Verdict.HOPELESS:
            self._work.finish(attempt.task, Ending.FAILED, answer, now)
            return
        self._work.retry(attempt, verdict, answer, now)
        if verdict is Verdict.WRONG:
            self._disbelieve(lane.worker, now)
        elif not lane.draining:
            self._lanes.drain(lane)
            self._judge_worker(lane, verdict, answer, now)

    def _judge_worker(self, lane: Lane, verdict: Verdict, answer: object, now: float) -> None:
        """Hear what is wrong with a lane's worker."""
        worker = lane.worker
        self._work.trouble = answer
        self._budget.bad()
        if verdict in {Verdict.UNFIT, Verdict.REFUSED}:
            self._workers.bar(worker)
            if verdict is Verdict.REFUSED:
                self._doubt.refused(worker)
        elif verdict is not Verdict.HOPELESS:
            self._workers.failed(worker, now)

    def _disbelieve(self, worker: Worker, now: float) -> None:
        """Use a worker no more, and have others run what it has."""
        self._workers.bar(worker)
        for lane in [each for each in self._lanes if each.worker is worker]:
            self._lanes.drain(lane)
            for attempt in tuple(lane.attempts):
                self._lanes.call_off(attempt, now)
                self._work.put_back(attempt.task, now)
            self._lanes.drop(lane)

    # Decisions.

    def _step(self, now: float) -> None:
        if now >= self._expires and not self.is_over:
            self._work.end_all(Ending.EXPIRED, now)
        if self._doubt.is_refused and not self.is_over:
            self._work.end_all(Ending.FAILED, now)
        self._placing.fill(now)
        if self._work.closed and not self._work.waiting:
            self._look_at = min(self._look_at, self._looked_at + self._tick)
        if now >= self._look_at:
            self._look(now)
        self._placing.open_more(now)
        self._handover.step(now, runs=self._doubt.is_taken)
        self._placing.fill(now)
        if self.is_over:
            for lane in tuple(self._lanes):
                self._lanes.drop(lane)

    def _look(self, now: float) -> None:
        """Look at what only time brings about: stragglers, idle lanes, and whether to give up."""
        self._looked_at, self._tick = now, TICKS[1]
        self._tail.measure(len(self._work.waiting), now)
        self._lanes.look_again()
        if self._work.waiting:
            self._tick = 0.5
            if self._placing.free_the_stuck(now):
                self._work.end_all(Ending.FAILED, now)
        elif self._work.closed:
            self._tick = self._tail.copy(now)
        self._look_at = now + self._tick
        self._placing.drop_idle(now)
