"""The tasks of an array until they end: replies, tries, what becomes of each (spec/11 §3). Pure.

A task waits while it has fewer workers than it takes. Usually it takes one, and the first reply is
its end; with replicas a judge says after each reply whether it is.
"""

from __future__ import annotations

from collections.abc import Callable

from fogbank.client.scheduling.lanes import Lanes
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.records import Attempt, Unfinished, Worker
from fogbank.client.scheduling.waiting import Waiting
from fogbank.client.scheduling.words import (
    Action,
    Ending,
    Finish,
    Judgement,
    Kind,
    Replicas,
    Reply,
    Verdict,
)
from fogbank.relay.keys import NodeId

_DISPUTE = 2
"""With so many replies a task without an end is disputed, not failed."""


class Work:
    """All that is to be done; `say` is given what ended."""

    def __init__(
        self,
        limits: ArrayLimits,
        replicas: Replicas | None,
        lanes: Lanes,
        say: Callable[[Action], None],
    ) -> None:
        self._limits = limits
        self._replicas = replicas
        self._lanes = lanes
        self._say = say
        self._tasks: dict[int, Unfinished] = {}
        self._resumed: set[int] = set()
        self._ended: Ending | None = None
        self.waiting = Waiting()
        self.closed = False
        """Whether no more tasks will come."""
        self.trouble: object = None
        """What went wrong last, with any worker."""

    @property
    def is_replicated(self) -> bool:
        """Whether a task may take several workers."""
        return self._replicas is not None

    @property
    def unended(self) -> int:
        """How many tasks have not ended."""
        return len(self._tasks)

    @property
    def is_over(self) -> bool:
        """Whether every task has ended, and no more will come."""
        return self.closed and not self._tasks

    def add(self, number: int) -> None:
        """Take up a task, unless it was resumed; if all has ended, it ends too."""
        if number in self._resumed:
            return
        if self._ended is not None:
            self._say(Finish(number, self._ended, self.trouble))
        elif self.closed:
            raise ValueError("an array that is closed takes no more tasks")
        else:
            self.waiting.add(self._new(number))

    def resumed(self, number: int) -> Unfinished:
        """Return a task that a worker has, which may be unknown."""
        self._resumed.add(number)
        return self._tasks.get(number) or self._new(number)

    def _new(self, number: int) -> Unfinished:
        wanted = 1 if self._replicas is None else self._replicas.count
        task = self._tasks[number] = Unfinished(number, wanted)
        return task

    # Where tasks may run.

    def may_run(self, task: Unfinished, worker: Worker, most_tries: float) -> bool:
        """Tell whether a task may go to a worker, if it failed less than `most_tries` times."""
        return task.tries < most_tries and worker not in task.avoid and self.apart(task, worker)

    def apart(self, task: Unfinished, worker: Worker) -> bool:
        """Tell whether a worker's reply would be one more, beside those that there are."""
        if self._replicas is None:
            return True
        identity = worker.candidate.identity
        others = {reply.worker for reply in task.replies}
        others |= {attempt.lane.worker.candidate.identity for attempt in task.attempts}
        conflicts = self._replicas.conflicts
        return not any(other == identity or conflicts(other, identity) for other in others)

    def started(self, task: Unfinished) -> None:
        """Hear that a task, which waited, has one more worker."""
        if task.missing > 0:
            self.waiting.keep(task)
        else:
            self.waiting.remove(task)

    # What becomes of them.

    def replied(self, attempt: Attempt, answer: object, now: float) -> tuple[NodeId, ...]:
        """Hear that a program ended; return the workers that are proven wrong by now."""
        task = attempt.task
        task.last = answer
        task.replies.append(Reply(attempt.lane.worker.candidate.identity, answer))
        if self._replicas is None:
            self.finish(task, Ending.DONE, answer, now)
            return ()
        judgement = self._replicas.judge(task.number, tuple(task.replies))
        self._heed(task, judgement, self._replicas, now)
        return judgement.wrong

    def _heed(self, task: Unfinished, judgement: Judgement, replicas: Replicas, now: float) -> None:
        answer, wrong = judgement.answer, judgement.wrong
        if judgement.kind is Kind.ENOUGH:
            self.finish(task, Ending.DONE, answer, now, wrong)
        elif judgement.kind is Kind.DISPUTED or len(task.replies) >= replicas.most:
            self.finish(task, Ending.DISPUTED, answer, now, wrong)
        else:
            more = min(len(task.replies) + judgement.more, replicas.most)
            task.wanted = max(replicas.count, more)
            self.put_back(task, now)

    def retry(self, attempt: Attempt, verdict: Verdict, answer: object, now: float) -> None:
        """Have a task run again elsewhere, unless it was tried often enough."""
        task = attempt.task
        task.last = answer
        if verdict is not Verdict.NOT_TAKEN:
            task.tries += verdict in {Verdict.FAILED, Verdict.WRONG}
            task.avoid.add(attempt.lane.worker)
        self.put_back(task, now)

    def put_back(self, task: Unfinished, now: float) -> None:
        """Have a task wait if workers are missing for it, unless it was tried often enough."""
        if task.missing <= 0:
            return
        if task.tries <= self._limits.retries:
            self.waiting.put_back(task)
        elif not task.attempts:
            self.fail(task, task.last, now)

    def fail(self, task: Unfinished, answer: object, now: float) -> None:
        """End a task that no further worker ends."""
        disputed = len(task.replies) >= _DISPUTE
        self.finish(task, Ending.DISPUTED if disputed else Ending.FAILED, answer, now)

    def finish(
        self,
        task: Unfinished,
        ending: Ending,
        answer: object,
        now: float,
        wrong: tuple[NodeId, ...] = (),
    ) -> None:
        """End a task, and whatever else runs of it."""
        for other in tuple(task.attempts):
            self._lanes.call_off(other, now)
        self.waiting.remove(task)
        del self._tasks[task.number]
        self._say(Finish(task.number, ending, answer, tuple(task.replies), wrong))

    def end_all(self, ending: Ending, now: float) -> None:
        """End all that has not ended."""
        self.waiting.clear()
        for task in tuple(self._tasks.values()):
            answer = task.last if task.last is not None else self.trouble
            if ending is Ending.FAILED:
                self.fail(task, answer, now)
            else:
                self.finish(task, ending, answer, now)
        self._ended, self.closed = ending, True
