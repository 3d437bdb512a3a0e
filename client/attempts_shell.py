"""The attempts at an array's tasks: each runs a task in a lane, and tells what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from fogbank.client.answers import reason_of, size_of
from fogbank.client.call_shell import Call, OnState
from fogbank.client.ends_shell import Ends
from fogbank.client.journal.words import Journal
from fogbank.client.lane_shell import Lane
from fogbank.client.scheduling.scheduler import Scheduler
from fogbank.client.scheduling.tasks import Answer
from fogbank.client.scheduling.verdicts import judge
from fogbank.client.scheduling.words import Verdict
from fogbank.client.verification.words import Inspection, Inspector
from fogbank.relay.job.client_session import TaskResult
from fogbank.relay.job.kinds import State
from fogbank.relay.job.messages import TaskState
from fogbank.sandbox.task import Task


@dataclass(slots=True, eq=False)
class Attempt:
    """A task in a lane. `number` is the scheduler's; `is_unsafe`: its answer is yet to be kept."""

    number: int
    task: int
    lane: Lane
    call: Call
    is_unsafe: bool = False
    is_looked_at: bool = False
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Attempts:
    """Those of an array, under way in `nursery`. `act` has done what the scheduler wants next.

    `handed_over`: tasks that workers hold, as far as they say.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        ends: Ends,
        journal: Journal,
        inspector: Inspector | None,
        act: Callable[[], None],
    ) -> None:
        self.handed_over: set[int] = set()
        self._scheduler = scheduler
        self._ends = ends
        self._journal = journal
        self._inspector = inspector
        self._act = act
        self._under_way: dict[int, Attempt] = {}
        self._changed = trio.Event()

    def start(
        self, nursery: trio.Nursery, number: int, lane: Lane, task: tuple[int, Task], known: int = 0
    ) -> None:
        """Begin one; `known`: by what id the worker has it from an earlier client, if it does."""
        name, content = task
        hear = self._hearer(number, name, lane)
        if known:
            call = lane.job.recall(known, content, name, hear)
        else:
            call = lane.job.call(content, name, hear)
        attempt = self._under_way[number] = Attempt(number, name, lane, call)
        nursery.start_soon(self._run, attempt)

    @property
    def are_handed_over(self) -> bool:
        """Whether workers hold all that are under way, as far as they say."""
        return all(each.task in self.handed_over for each in self._under_way.values())

    def cancel(self, number: int) -> None:
        """End one, at its worker too."""
        attempt = self._under_way.pop(number, None)
        if attempt is not None:
            attempt.scope.cancel()

    def wake(self) -> None:
        """Have those look again who wait."""
        self._changed.set()
        self._changed = trio.Event()

    async def told(self, lane: Lane) -> None:
        """Wait until all in a lane that have an answer, and are not looked at, have told it."""
        while any(each.lane is lane and not each.is_looked_at for each in self._under_way.values()):
            await self._changed.wait()

    def _hearer(self, number: int, task: int, lane: Lane) -> OnState:
        def hear(state: TaskState) -> None:
            told = task if state.task else 0
            self._journal.told(told, lane.number, state.state, state.reason, state.fuel)
            if not state.task or number not in self._under_way:
                return
            if lane.is_held and task not in self.handed_over:
                self.handed_over.add(task)
                self._act()
            if state.state is State.RUNNING:
                now = trio.current_time()
                self._scheduler.began(number, now)
                if state.fuel:
                    self._scheduler.progress(number, state.fuel, now)
                self._act()

        return hear

    async def _run(self, attempt: Attempt) -> None:
        lane = attempt.lane
        began = trio.current_time()
        try:
            with attempt.scope:
                value = await lane.answer(attempt.call)
                seconds = trio.current_time() - began
                attempt.is_unsafe = True
                lane.unsafe += 1
                found = await self._inspect(attempt, value)
                while self._ends.is_full:
                    await self._changed.wait()
                # From here on nothing waits: it is counted if and only if it was not cancelled.
                self._count(attempt, found, Answer(found.answer, lane.name, seconds, found.checked))
            if attempt.scope.cancelled_caught:
                self._call_off(attempt)
        finally:
            self._under_way.pop(attempt.number, None)
            self.wake()

    async def _inspect(self, attempt: Attempt, value: TaskResult | Exception) -> Inspection:
        """Find out what an answer is worth; the lane goes on meanwhile, and may be closed."""
        verdict, inspector = judge(value), self._inspector
        if inspector is None or isinstance(value, Exception) or verdict is not Verdict.ANSWERED:
            return Inspection(verdict, value)
        lane = attempt.lane
        engine = "" if lane.job.offer is None else lane.job.offer.engine
        size = size_of(value)
        self._ends.size += size
        attempt.is_looked_at = True
        self._journal.verifying(attempt.task, f"{lane.name} has answered: that is looked at")
        try:
            self._scheduler.verifying(attempt.number, trio.current_time(), value.fuel)
            self._act()
            return await inspector.inspect(lane.worker, engine, attempt.call.task, value)
        finally:
            self._ends.size -= size
            self.wake()

    def _count(self, attempt: Attempt, found: Inspection, answer: Answer) -> None:
        """Have the scheduler count an answer; it is safe once its task's end is kept."""
        self.handed_over.discard(attempt.task)
        if found.verdict is Verdict.ANSWERED:
            self._ends.answered(attempt.task, attempt.lane, attempt.call)
        else:
            attempt.lane.settle(attempt.call)
            self._journal.failed_try(attempt.task, answer.worker, reason_of(found.answer))
        fuel = found.answer.fuel if isinstance(found.answer, TaskResult) else 0
        now = trio.current_time()
        self._scheduler.answered(attempt.number, found.verdict, answer, now, fuel)
        self._act()
        if self._ends.has_answers(attempt.task):
            self._journal.verifying(attempt.task, "too few workers have given the same answer yet")

    def _call_off(self, attempt: Attempt) -> None:
        """Have the worker forget what is of no use any more."""
        if attempt.is_unsafe:
            attempt.lane.settle(attempt.call)
        else:
            attempt.call.call_off()
