"""The service `job` of a worker: sessions over streams, places, queues, time-outs (spec/08).

`JobService` is what a node registers under the name "job". It runs modules with any `Runner`; the
sandbox is one. A session that breaks the protocol ends with `ProtocolError`, a client that is too
slow with `PeerSilent`; its stream is then to be reset, and no other session notices.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import trio

from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.job.errors import Cause, PeerSilent
from fogbank.relay.job.frames import PORTION, frame, portions
from fogbank.relay.job.limits import Budget, JobLimits
from fogbank.relay.job.messages import Load, Offer, Refused
from fogbank.relay.job.places_shell import Places
from fogbank.relay.job.worker_session import (
    CancelRunning,
    GrantRunning,
    ModuleArrived,
    TaskArrived,
    WorkerEvent,
    WorkerSession,
)
from fogbank.relay.messages_shell import Stream
from fogbank.sandbox.jail import SandboxUnavailable
from fogbank.sandbox.limits import MODULE_SIZE, LimitError, Limits
from fogbank.sandbox.meter import Reading
from fogbank.sandbox.outcome import REFUSALS, ModuleRefused, Outcome, Result
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.supply_shell import Supply
from fogbank.sandbox.task import Task, TaskError

LINGER_SECONDS: Final = 10.0
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


class Job(Protocol):
    """One module, or runtime, that is ready to run."""

    async def run(self, task: Task, supply: Supply) -> Result:
        """Run it once, with the fuel that `supply` grants, and tell that how far it is.

        Cancelling ends the program. Raises `TaskError` or `LimitError`.
        """


class Runner(Protocol):
    """What runs modules."""

    def open_job(self, program: bytes | RuntimeId) -> AbstractAsyncContextManager[Job]:
        """Make a module ready until the block is left, or a runtime that is held here.

        Raises `ModuleRefused` if it cannot.
        """


class JobService:
    """All job sessions of one worker.

    `engine` names the engine class, `ceilings` the most that a task may ask for. Each place should
    be one that the runner has too. `runtimes` gives the digests of those that it holds just then.
    `floor` is what the runner ends a task for that is slower, fuel per second of CPU time.
    """

    def __init__(
        self,
        runner: Runner,
        engine: str,
        ceilings: Limits,
        limits: JobLimits | None = None,
        runtimes: Callable[[], tuple[bytes, ...]] = tuple,
        floor: int = 0,
    ) -> None:
        self.runner = runner
        self.limits = limits or JobLimits()
        self.places = Places(self.limits.places, self.limits.waiting)
        self.budget = Budget(self.limits.held)
        self._engine = engine
        self._ceilings = ceilings
        self._runtimes = runtimes
        self._floor = floor
        self._sessions = 0

    @property
    def load(self) -> Load:
        """How busy the worker is."""
        return Load(self.places.count, self.places.taken, self.places.waiting)

    def offer(self) -> Offer:
        """Return what a new session is told."""
        limits = self.limits
        sizes = MODULE_SIZE, limits.input_size, limits.tasks
        return Offer(self._engine, self._ceilings, *sizes, self.load, self._runtimes(), self._floor)

    async def __call__(self, stream: Stream, _origin: object) -> None:
        """Serve one session until it ends; the caller ends the stream, or resets it on an error."""
        if self._sessions >= self.limits.sessions:
            full = Refused(Cause.BUSY, f"the worker has {self._sessions} sessions already")
            await _send(stream, [frame(full)], self.limits.send_seconds)
            await _linger(stream)
            return
        self._sessions += 1
        try:
            await _Connection(self, stream).serve()
        finally:
            self._sessions -= 1


class _Connection:
    """One session and its stream: one task listens, one works, one tells of the work meanwhile."""

    def __init__(self, service: JobService, stream: Stream) -> None:
        self._service = service
        self._stream = stream
        self._limits = service.limits
        now = trio.current_time()
        self._session = WorkerSession(service.offer(), self._limits, service.budget, now)
        self._sending = trio.Lock()
        self._changed = trio.Event()
        self._module: bytes | RuntimeId | None = None
        self._listening = trio.CancelScope()
        self._task_scope = trio.CancelScope()
        self._supply = Supply()
        self._news = trio.Event()
        self._failure: Exception | None = None

    async def serve(self) -> None:
        """Serve until either side ends the session; raise what ended it, if it was a fault."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._part, self._listen, nursery.cancel_scope)
                nursery.start_soon(self._part, self._work, nursery.cancel_scope)
                nursery.start_soon(self._part, self._tell, nursery.cancel_scope)
            if self._failure is not None:
                raise self._failure
            if self._session.is_over:
                await _linger(self._stream)
        except _GONE:
            # The stream is gone; there is nobody to tell.
            return
        finally:
            self._session.close()

    async def _part(self, part: Callable[[], Awaitable[None]], whole: trio.CancelScope) -> None:
        """Run one of the three; its end is the others'."""
        try:
            await part()
        except (RelayError, *_GONE) as error:
            self._failure = self._failure or error
        whole.cancel()

    # Listening.

    async def _listen(self) -> None:
        session = self._session
        while not session.is_over:
            data = await self._receive()
            if data is None:
                session.refuse(Cause.SILENT, "nothing came from the client, or too slowly")
            elif not data:
                if not session.may_end:
                    raise ProtocolError("a job's stream ended in the middle of a message")
                return
            else:
                for event in session.receive(data, trio.current_time()):
                    self._heed(event)
            await self._flush()
        # The work may be sending its refusal just now: this waits until it is out.
        await self._flush()

    async def _receive(self) -> bytes | bytearray | None:
        """Return what comes next, or None if it did not come in time."""
        with trio.CancelScope() as self._listening:
            self._set_deadline()
            return await self._stream.receive_some(PORTION)
        return None

    def _set_deadline(self) -> None:
        deadline = self._session.deadline()
        self._listening.deadline = float("inf") if deadline is None else deadline

    def _heed(self, event: WorkerEvent) -> None:
        match event:
            case ModuleArrived(module):
                self._module = module
                self._wake()
            case TaskArrived():
                self._wake()
            case CancelRunning():
                self._task_scope.cancel()
            case GrantRunning(fuel):
                self._supply.grant(fuel)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # Working.

    async def _work(self) -> None:
        while self._module is None:
            await self._changed.wait()
        module, self._module = self._module, None
        places = self._service.places
        if places.is_full:
            reason = f"{places.waiting} jobs wait for a place already"
            self._session.refuse(Cause.BUSY, reason)
        else:
            async with places.take(self._tell_queued):
                await self._run(module)
        await self._flush()

    async def _tell_queued(self, reason: str) -> None:
        self._session.queue_module(reason)
        await self._flush()

    async def _run(self, module: bytes | RuntimeId) -> None:
        session = self._session
        session.load_module()
        await self._flush()
        try:
            async with self._service.runner.open_job(module) as job:
                session.accept_module(trio.current_time())
                while True:
                    await self._run_next(job)
        except ModuleRefused as refusal:
            known = refusal.outcome if refusal.outcome in REFUSALS else Outcome.HOST_FAILURE
            session.refuse(Cause.MODULE, refusal.reason, known)
        except SandboxUnavailable as error:
            session.refuse(Cause.MODULE, str(error), Outcome.HOST_FAILURE)

    async def _run_next(self, job: Job) -> None:
        """Run the next task; with none there, tell what is to be told and wait for one."""
        session = self._session
        changed = self._changed
        self._task_scope = trio.CancelScope()
        started = session.start_task(trio.current_time())
        self._set_deadline()
        if started is None:
            await self._flush()
            await changed.wait()
            return
        task, granted = started
        # Before it is told that the task runs: a grant or the end of it may be the answer.
        supply = self._supply = Supply(granted, self._on_reading)
        await self._flush()
        result = None
        try:
            with self._task_scope:
                result = await job.run(task, supply)
        except (TaskError, LimitError) as error:
            session.refuse_task(Cause.TASK, str(error), trio.current_time())
            return
        if result is None:
            used, reason = supply.reading.fuel, "ended at its owner's wish"
            result = Result(Outcome.CANCELLED, fuel=used, reason=reason)
        session.finish_task(result, trio.current_time())

    def _on_reading(self, reading: Reading) -> None:
        tell = self._session.tell_pause if reading.is_paused else self._session.tell_progress
        tell(reading.fuel, trio.current_time())
        self._news.set()

    async def _tell(self) -> None:
        """Send what a running task's meter gives to say."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            await self._flush()

    async def _flush(self) -> None:
        """Send what the session has to say."""
        async with self._sending:
            await _send(self._stream, self._session.data_to_send(), self._limits.send_seconds)


async def _send(stream: Stream, parts: list[bytes], seconds: float) -> None:
    """Send `parts`; raise `PeerSilent` if a portion of them takes longer than `seconds`."""
    for portion in portions(parts, PORTION):
        with trio.move_on_after(seconds) as scope:
            await stream.send_all(portion)
        if scope.cancelled_caught:
            raise PeerSilent("The client did not take what was sent to it.")


async def _linger(stream: Stream) -> None:
    """Read and discard until the client ends too, so that the last word arrives."""
    try:
        with trio.move_on_after(LINGER_SECONDS):
            while await stream.receive_some(PORTION):
                pass
            return
    except _GONE:
        return
    raise PeerSilent("The client did not end a session that was refused.")
