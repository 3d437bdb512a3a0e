"""Jobs from the client's side: tasks on one worker over one stream (spec/08).

    result = await run_task(stream, module, Task(args=("program",)))

    async with open_job_session(stream, module) as job:
        results = [await job.run(task) for task in tasks]

Whatever happens arrives as a `TaskResult`, with the outcome that the worker tells, or as one error:
`JobRefused` if the worker will not, `JobInterrupted` if the session ended before the answer came.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import trio

from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.job.client_session import ClientSession, TaskDone, TaskResult
from fogbank.relay.job.client_tasks import ClientTasks
from fogbank.relay.job.errors import JobError, JobInterrupted, Progress
from fogbank.relay.job.frames import portions
from fogbank.relay.job.limits import Patience
from fogbank.relay.job.messages import Offer, Refused, TaskState
from fogbank.relay.messages_shell import Stream
from fogbank.sandbox.data import PORTION, MemorySink, Sinks
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.task import Task

OnState: TypeAlias = Callable[[TaskState], None]
"""Hears where a task is, and (as task 0) where its module is; must not raise.

A task that runs is heard of once a second at most, with the fuel that it has used.
"""

_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
_VERDICT_SECONDS: Final = 5.0
"""How long a worker's last word is waited for once nothing can be sent to it any more."""


async def run_task(
    stream: Stream,
    module: bytes | RuntimeId,
    task: Task,
    on_state: OnState | None = None,
    patience: Patience | None = None,
    sinks: Sinks = MemorySink,
) -> TaskResult:
    """Run one task of `module` at the other end of `stream`, and close the stream.

    `module` may be a runtime that the worker holds. Raises `JobRefused` or `JobInterrupted`.
    Cancelling ends the task at the worker.
    """
    async with open_job_session(stream, module, patience, sinks) as job:
        return await job.run(task, on_state)


@asynccontextmanager
async def open_job_session(
    stream: Stream,
    module: bytes | RuntimeId,
    patience: Patience | None = None,
    sinks: Sinks = MemorySink,
) -> AsyncIterator[JobSession]:
    """Hand `module`, or the name of a runtime, to the worker at the other end, for several tasks.

    Tasks may be run at once, up to what the worker offers; it runs them in order. When the block is
    left the stream is closed, and what still runs is ended. `sinks` makes what keeps outputs.
    Raises `JobRefused`, `JobInterrupted`.
    """
    job = JobSession(stream, patience or Patience(), sinks)
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(job.serve)
            try:
                await job.submit(module)
                yield job
            except Exception as error:  # noqa: BLE001 -- raised below, out of the nursery's group
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        await stream.aclose()
    if failure is not None:
        raise failure


class _Answer:
    """What a caller of `run` waits for."""

    def __init__(self, on_state: OnState | None) -> None:
        self.is_there = trio.Event()
        self.value: TaskResult | JobError | None = None
        self.on_state = on_state

    def give(self, value: TaskResult | JobError) -> None:
        """Give the answer."""
        self.value = value
        self.is_there.set()


class JobSession:
    """A module at a worker; `run` runs tasks of it."""

    def __init__(self, stream: Stream, patience: Patience, sinks: Sinks = MemorySink) -> None:
        self._stream = stream
        self._session = ClientSession(patience, trio.current_time(), ClientTasks(sinks=sinks))
        self._answers: dict[int, _Answer] = {}
        self._why: str | None = None
        self._fault: Exception | None = None
        self._over = trio.Event()
        self._entry = trio.Lock()
        self._changed = trio.Event()
        self._listening = trio.CancelScope()

    @property
    def offer(self) -> Offer | None:
        """What the worker grants; None until it said so."""
        return self._session.offer

    async def run(
        self, task: Task, on_state: OnState | None = None, granted: int | None = None
    ) -> TaskResult:
        """Run one task and return how it ended; waits while the worker has no room for it.

        It may use the fuel `granted`, and pauses until `grant` gives it more; if None, all that its
        limit allows. Raises `JobRefused` or `JobInterrupted`. Cancelling ends the task at the
        worker.
        """
        # One at a time waits for room, in order of asking; the others need not look each time.
        async with self._entry:
            while self._why is None and not self._session.has_room_for(task):
                await self._changed.wait()
            if self._why is not None:
                return _unpack(self._verdict())
            number = self._session.send_task(task, granted)
        answer = self._answers[number] = _Answer(on_state)
        self._wake()
        try:
            await answer.is_there.wait()
        finally:
            del self._answers[number]
            self._session.cancel(number)
            self._wake()
        return _unpack(answer.value or self._verdict())

    def grant(self, task: int, fuel: int) -> None:
        """Let the task, named as `on_state` hears of it, use `fuel` in all."""
        self._session.grant(task, fuel)
        self._wake()

    async def submit(self, module: bytes | RuntimeId) -> None:
        """Send the module, or name the runtime, once the worker has made its offer."""
        while self._why is None and self.offer is None:
            await self._changed.wait()
        if self._why is not None:
            _unpack(self._verdict())
        self._session.send_module(module)
        self._wake()

    async def serve(self) -> None:
        """Speak and listen until the session is over."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._guarded, self._listen)
            nursery.start_soon(self._guarded, self._talk)
            await self._over.wait()
            nursery.cancel_scope.cancel()

    async def _guarded(self, part: Callable[[], Awaitable[None]]) -> None:
        """Run one of the two; turn what ends it into the reason that all tasks are told."""
        try:
            await part()
        except ProtocolError as error:
            self._end(f"the worker broke the protocol ({error})", error)
        except RelayError as error:
            self._end(_phrase(error), error)
        except _GONE as error:
            self._end("the connection to the worker was lost", error)

    async def _listen(self) -> None:
        session = self._session
        while self._why is None:
            data = await self._receive()
            if data is None:
                self._end("the worker was silent for too long")
            elif not data and session.is_cut_off:
                self._end("the worker's answer was cut off")
            elif not data:
                self._end("the worker ended the session without an answer")
            else:
                for event in session.receive(data, trio.current_time()):
                    self._heed(event)
            self._wake()

    async def _receive(self) -> bytes | bytearray | None:
        """Return what comes next, or None if it did not come in time."""
        with trio.CancelScope() as self._listening:
            self._set_deadline()
            return await self._stream.receive_some(PORTION)
        return None

    def _set_deadline(self) -> None:
        deadline = self._session.deadline()
        self._listening.deadline = float("inf") if deadline is None else deadline

    def _heed(self, event: object) -> None:
        match event:
            case TaskDone(task, outcome):
                if task in self._answers:
                    self._answers[task].give(outcome)
            case TaskState(task=task):
                for number, answer in self._answers.items():
                    if answer.on_state is not None and task in {0, number}:
                        answer.on_state(event)
            case Refused():
                self._end("the worker refused the job")

    async def _talk(self) -> None:
        try:
            while True:
                changed = self._changed
                for portion in portions(self._session.data_to_send(), PORTION):
                    await self._stream.send_all(portion)
                    self._session.sent_some(trio.current_time())
                    self._set_deadline()
                self._session.sent_all()
                self._set_deadline()
                await changed.wait()
        except (RelayError, *_GONE):
            # What the worker said last, if anything, tells more than that nothing can be sent.
            with trio.move_on_after(_VERDICT_SECONDS):
                await self._over.wait()
            raise

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _end(self, why: str, fault: Exception | None = None) -> None:
        """The session is over: whoever waits is told why. The first reason stands."""
        if self._why is None:
            self._why, self._fault = why, fault
            for number, answer in self._answers.items():
                if not answer.is_there.is_set():
                    error = self._session.interruption(number, why)
                    error.__cause__ = fault
                    answer.give(error)
            self._over.set()
            self._wake()

    def _verdict(self) -> TaskResult | JobError:
        """Return what the end of the session means for a task that was not sent."""
        if self._session.refusal is not None:
            return self._session.verdict()
        error = JobInterrupted(Progress.NOT_SENT, self._why or "the session is over")
        error.__cause__ = self._fault
        return error


def _unpack(answer: TaskResult | JobError) -> TaskResult:
    if isinstance(answer, JobError):
        raise answer
    return answer


def _phrase(error: RelayError) -> str:
    """Make an error's sentence part of another."""
    words = str(error).rstrip(". ")
    return words[:1].lower() + words[1:]
