"""One task at a worker, as whoever wants its answer sees it (spec/08 §6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import trio

from fogbank.relay.job.client_session import TaskResult
from fogbank.relay.job.errors import JobError, JobInterrupted, Progress
from fogbank.relay.job.messages import TaskState
from fogbank.sandbox.task import Task

OnState: TypeAlias = Callable[[TaskState], None]
"""Hears where a task is, and (as task 0) where its module is; must not raise.

A task that runs is heard of once a second at most, with the fuel that it has used.
"""


class Session(Protocol):
    """What a call is a call of."""

    @property
    def goes_on(self) -> bool:
        """Whether it is not over, though perhaps without a stream."""

    async def send(self, call: Call) -> TaskResult | JobError | None:
        """Send a task once there is room for it; return why it is not sent, if it is not."""

    def call_off(self, call: Call) -> None:
        """Do what `Call.call_off` says."""

    def settle(self, call: Call) -> None:
        """Do what `Call.settle` says."""


class Call:
    """One task at a worker, until its answer is there."""

    def __init__(
        self,
        job: Session,
        task: Task,
        number: int,
        on_state: OnState | None,
        granted: int | None,
    ) -> None:
        self.task = task
        self.number = number
        """What its caller calls it."""
        self.id = 0
        """What the worker knows it by; 0 before it was given an id."""
        self.on_state = on_state
        self.granted = granted
        self._job = job
        self._is_there = trio.Event()
        self._answer: TaskResult | JobError | None = None

    async def answer(self) -> TaskResult | JobError:
        """Have it run, once the worker has room for it, and return what it came to."""
        while True:
            if not self.id:
                refused = await self._job.send(self)
                if refused is not None:
                    return refused
            await self._is_there.wait()
            answer = self._answer
            never_came = isinstance(answer, JobInterrupted) and answer.progress <= Progress.SENT
            if answer is not None and not (never_came and self._job.goes_on):
                return answer
            # It was lost on the way with a stream of its session, which goes on.
            self.id, self._is_there = 0, trio.Event()

    def give(self, answer: TaskResult | JobError) -> None:
        """Give the answer."""
        self._answer = answer
        self._is_there.set()

    def call_off(self) -> None:
        """Have it ended at the worker, and forgotten: its answer is not waited for any more."""
        self._job.call_off(self)

    def settle(self) -> None:
        """Hear that its result is safe, or of no use: a worker that holds it forgets it."""
        self._job.settle(self)
