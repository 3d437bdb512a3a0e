"""Arrays from the client's side: many tasks of one program, on many workers (spec/11).

    array = Array(reach, program, source, sink, chooser)
    await array.run()

`source` is asked for a task whenever one more can be used, `sink` is given each task's end, once.
A worker that is used has one circuit, however many sessions; all circuits end with the array.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import trio

from fogbank.client.chance import Chooser
from fogbank.client.errors import ClientError, NoQuorum
from fogbank.client.job_shell import JobSession, OnState, open_job_session
from fogbank.client.lines_shell import Lines, Reach
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.scheduler import Scheduler
from fogbank.client.scheduling.tasks import Answer, ArrayTask, TaskEnd
from fogbank.client.scheduling.verdicts import judge
from fogbank.client.scheduling.words import (
    Action,
    Cancel,
    Close,
    Ending,
    Finish,
    Open,
    Run,
    Terms,
    Verdict,
)
from fogbank.client.verification.words import Verification
from fogbank.relay.errors import RelayError
from fogbank.relay.job.client_session import TaskResult
from fogbank.relay.job.kinds import State
from fogbank.relay.job.messages import Offer, TaskState
from fogbank.relay.keys import NodeId
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.task import Task

HELD: Final = 256 << 20
"""Bytes of input of tasks that have not ended, beyond which no more are asked for."""
UNDELIVERED: Final = 64 << 20
"""Bytes of output that wait for the sink, beyond which answers wait to be counted."""
_WATCH_SECONDS: Final = 5.0


class Source(Protocol):
    """Where tasks come from."""

    async def next(self) -> ArrayTask | None:
        """Return the next task, or None if there are no more."""


class Sink(Protocol):
    """Where ends of tasks go."""

    async def take(self, end: TaskEnd) -> None:
        """Take one; the next waits until this returns."""


@dataclass(slots=True, eq=False)
class _Lane:
    """A session that is opened, or open."""

    worker: NodeId
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    name: str = ""
    job: JobSession | None = None
    nursery: trio.Nursery | None = None


class Array:
    """The tasks of one program at work. Times are the trio clock's; `expires` too.

    With `verification` a task may have several answers, which count only if they hold (spec/12).
    """

    def __init__(
        self,
        reach: Reach,
        program: bytes | RuntimeId,
        source: Source,
        sink: Sink,
        chooser: Chooser,
        *,
        limits: ArrayLimits | None = None,
        expires: float = math.inf,
        verification: Verification | None = None,
    ) -> None:
        self._lines = Lines(reach)
        self._reach = reach
        self._program = program
        self._source = source
        self._sink = sink
        self._limits = limits or ArrayLimits()
        self._inspector = None if verification is None else verification.inspector
        replicas = None if verification is None else verification.replicas
        now = trio.current_time()
        self._scheduler = Scheduler(self._limits, chooser, now, expires, replicas)
        self._tasks: dict[int, ArrayTask] = {}
        self._held = 0
        self._lanes: dict[int, _Lane] = {}
        self._attempts: dict[int, trio.CancelScope] = {}
        self._ends: deque[TaskEnd] = deque()
        self._undelivered = 0
        self._changed = trio.Event()

    @property
    def running(self) -> int:
        """How many tasks run, as far as is known."""
        return self._scheduler.running

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        return self._scheduler.lanes

    async def run(self) -> None:
        """Run until the source has no more tasks and the sink has taken the end of each."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._scheduler.workers(self._reach.candidates(), trio.current_time())
            for part in (self._feed, self._keep_time, self._watch):
                nursery.start_soon(part)
            await self._deliver()
            nursery.cancel_scope.cancel()

    # What goes on beside the lanes.

    async def _feed(self) -> None:
        while not self._scheduler.is_over:
            if self._held >= HELD or not self._scheduler.wants:
                await self._changed.wait()
                continue
            task = await self._source.next()
            now = trio.current_time()
            if task is None:
                self._scheduler.close(now)
                self._act()
                return
            self._tasks[task.number] = task
            self._held += task.size
            self._scheduler.add(task.number, now)
            self._act()

    async def _keep_time(self) -> None:
        while True:
            changed = self._changed
            with trio.move_on_at(self._scheduler.deadline()):
                await changed.wait()
                continue
            self._scheduler.timer(trio.current_time())
            self._act()

    async def _watch(self) -> None:
        """Take up each consensus."""
        known = self._reach.candidates()
        while True:
            await trio.sleep(_WATCH_SECONDS)
            listed = self._reach.candidates()
            if listed != known:
                known = listed
                self._scheduler.workers(listed, trio.current_time())
                self._act()

    async def _deliver(self) -> None:
        while True:
            while self._ends:
                end = self._ends.popleft()
                await self._sink.take(end)
                self._undelivered -= _size_of(end.result)
                self._wake()
            if self._scheduler.is_over:
                return
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # What the scheduler wants.

    def _act(self) -> None:
        for action in self._scheduler.actions():
            self._do(action)
        self._wake()

    def _do(self, action: Action) -> None:
        match action:
            case Open(number, worker):
                lane = self._lanes[number] = _Lane(worker)
                self._nursery.start_soon(self._serve, number, lane)
            case Close(number):
                self._lanes.pop(number).scope.cancel()
            case Run(attempt, task, number):
                self._start(self._lanes[number], attempt, self._tasks[task].task)
            case Cancel(attempt):
                self._attempts.pop(attempt, trio.CancelScope()).cancel()
            case Finish():
                self._finish(action)

    def _start(self, lane: _Lane, attempt: int, task: Task) -> None:
        if lane.nursery is None or lane.job is None:
            raise ValueError("a lane that runs tasks has a session")
        scope = self._attempts[attempt] = trio.CancelScope()
        lane.nursery.start_soon(self._attempt, lane, lane.job, attempt, task, scope)

    def _finish(self, end: Finish) -> None:
        each = self._tasks.pop(end.task)
        self._held -= each.size
        answer = end.answer if isinstance(end.answer, Answer) else Answer(None)
        result, error = _outcome_of(end, answer.value)
        self._undelivered += _size_of(result)
        who = answer.worker, answer.seconds, end.replies, end.wrong
        self._ends.append(TaskEnd(end.task, each.task, end.ending, result, error, *who))

    # Lanes and attempts.

    async def _serve(self, number: int, lane: _Lane) -> None:
        """Open a session and keep it until the scheduler closes it."""
        try:
            with lane.scope:
                async with self._lines.to(lane.worker) as line:
                    lane.name = line.name
                    stream = await line.open_stream()
                    async with open_job_session(stream, self._program) as job:
                        await self._keep(number, lane, job)
        except (RelayError, ClientError) as error:
            answer = Answer(error, lane.name)
            self._scheduler.lane_failed(number, judge(error), answer, trio.current_time())
            self._act()

    async def _keep(self, number: int, lane: _Lane, job: JobSession) -> None:
        offer = job.offer
        if offer is None:
            raise ValueError("a session that was opened has an offer")
        async with trio.open_nursery() as nursery:
            lane.nursery, lane.job = nursery, job
            terms = Terms(offer.load.places - offer.load.taken, offer.tasks)
            self._scheduler.lane_opened(number, terms, trio.current_time())
            self._act()
            await trio.sleep_forever()

    async def _attempt(
        self, lane: _Lane, job: JobSession, attempt: int, task: Task, scope: trio.CancelScope
    ) -> None:
        def on_state(state: TaskState) -> None:
            if state.task and state.state is State.RUNNING:
                self._scheduler.began(attempt, trio.current_time())
                self._act()

        began = trio.current_time()
        try:
            with scope:
                value = await _run(job, task, on_state)
                while self._undelivered >= UNDELIVERED:
                    await self._changed.wait()
                # From here on nothing waits: it is counted if and only if it was not cancelled.
                answer = Answer(value, lane.name, trio.current_time() - began)
                verdict = judge(value)
                if self._inspector is None or verdict is not Verdict.ANSWERED:
                    self._count(attempt, verdict, answer)
                else:
                    self._verify(attempt, lane, job.offer, task, answer)
        finally:
            if self._attempts.get(attempt) is scope:
                del self._attempts[attempt]

    def _count(self, attempt: int, verdict: Verdict, answer: Answer) -> None:
        self._scheduler.answered(attempt, verdict, answer, trio.current_time())
        self._act()

    def _verify(
        self, attempt: int, lane: _Lane, offer: Offer | None, task: Task, answer: Answer
    ) -> None:
        """Have an answer looked at; the lane goes on meanwhile, and may be closed."""
        scope = self._attempts[attempt] = trio.CancelScope()
        engine = "" if offer is None else offer.engine
        given = lane.worker, engine, task, answer
        self._undelivered += _size_of(answer.value)
        self._nursery.start_soon(self._inspect, attempt, scope, given)
        self._scheduler.verifying(attempt, trio.current_time())
        self._act()

    async def _inspect(
        self, attempt: int, scope: trio.CancelScope, given: tuple[NodeId, str, Task, Answer]
    ) -> None:
        """Find out what an answer is worth."""
        worker, engine, task, answer = given
        if self._inspector is None or not isinstance(answer.value, TaskResult):
            raise ValueError("answers are verified if there is an inspector, and a result")
        try:
            with scope:
                found = await self._inspector.inspect(worker, engine, task, answer.value)
                checked = replace(answer, value=found.answer, checked=found.checked)
                self._count(attempt, found.verdict, checked)
        finally:
            self._undelivered -= _size_of(answer.value)
            if self._attempts.get(attempt) is scope:
                del self._attempts[attempt]
            self._wake()


async def _run(job: JobSession, task: Task, on_state: OnState) -> TaskResult | Exception:
    try:
        return await job.run(task, on_state)
    except RelayError as error:
        return error


def _outcome_of(end: Finish, value: object) -> tuple[TaskResult | None, Exception | None]:
    """Return a task's result, or the error in its place; an answer that is not believed is none."""
    if end.ending is Ending.DONE and isinstance(value, TaskResult):
        return value, None
    if end.ending is Ending.DISPUTED or end.replies:
        return None, NoQuorum(
            f"Too few workers gave the same answer ({len(end.replies)} gave one): none is believed."
            " Ask more of them with --retries, or run the task again."
        )
    return (value, None) if isinstance(value, TaskResult) else (None, _error_in(value))


def _error_in(value: object) -> Exception | None:
    return value if isinstance(value, Exception) else None


def _size_of(result: object) -> int:
    return len(result.stdout) + len(result.stderr) if isinstance(result, TaskResult) else 0
