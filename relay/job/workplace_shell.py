"""Where a session's work is done: its place, its process, its tasks one by one (spec/08 §3, §4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import trio

from fogbank.relay.job.errors import Cause
from fogbank.relay.job.places_shell import Places
from fogbank.relay.job.work import (
    CancelRunning,
    GrantRunning,
    ModuleArrived,
    TaskArrived,
    Work,
    WorkerEvent,
)
from fogbank.sandbox.jail import SandboxUnavailable
from fogbank.sandbox.limits import LimitError
from fogbank.sandbox.meter import Reading
from fogbank.sandbox.outcome import REFUSALS, ModuleRefused, Outcome, Result
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.supply_shell import Supply
from fogbank.sandbox.task import Task, TaskError


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


class Workplace:
    """Does what `work` has to be done.

    `flush` sends what it has said; `on_turn` hears that it may be the client's turn now.
    """

    def __init__(
        self,
        runner: Runner,
        places: Places,
        work: Work,
        flush: Callable[[], Awaitable[None]],
        on_turn: Callable[[], None],
    ) -> None:
        self._runner = runner
        self._places = places
        self._work = work
        self._flush = flush
        self._on_turn = on_turn
        self._changed = trio.Event()
        self._task_scope = trio.CancelScope()
        self._supply = Supply()
        self._news = trio.Event()

    def heed(self, event: WorkerEvent) -> None:
        """Act on what the client said."""
        match event:
            case ModuleArrived() | TaskArrived():
                self._changed.set()
                self._changed = trio.Event()
            case CancelRunning():
                self._task_scope.cancel()
            case GrantRunning(fuel):
                self._supply.grant(fuel)

    async def run(self) -> None:
        """Work until the session is refused."""
        work, places = self._work, self._places
        while work.module is None:
            await self._changed.wait()
        if places.is_full:
            work.refuse(Cause.BUSY, f"{places.waiting} jobs wait for a place already")
        else:
            async with places.take(self._tell_queued):
                await self._run(work.module)
        await self._flush()

    async def _tell_queued(self, reason: str) -> None:
        self._work.queue_module(reason)
        await self._flush()

    async def _run(self, module: bytes | RuntimeId) -> None:
        work = self._work
        work.load_module()
        await self._flush()
        try:
            async with self._runner.open_job(module) as job:
                work.accept_module(trio.current_time())
                while True:
                    await self._run_next(job)
        except ModuleRefused as refusal:
            known = refusal.outcome if refusal.outcome in REFUSALS else Outcome.HOST_FAILURE
            work.refuse(Cause.MODULE, refusal.reason, known)
        except SandboxUnavailable as error:
            work.refuse(Cause.MODULE, str(error), Outcome.HOST_FAILURE)

    async def _run_next(self, job: Job) -> None:
        """Run the next task; with none there, tell what is to be told and wait for one."""
        work = self._work
        changed = self._changed
        self._task_scope = trio.CancelScope()
        started = work.start_task(trio.current_time())
        self._on_turn()
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
            work.refuse_task(Cause.TASK, str(error), trio.current_time())
            return
        if result is None:
            used, reason = supply.reading.fuel, "ended at its owner's wish"
            result = Result(Outcome.CANCELLED, fuel=used, reason=reason)
        work.finish_task(result, trio.current_time())

    def _on_reading(self, reading: Reading) -> None:
        tell = self._work.tell_pause if reading.is_paused else self._work.tell_progress
        tell(reading.fuel, trio.current_time())
        self._news.set()

    async def tell(self) -> None:
        """Send what a running task's meter gives to say, until cancelled."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            await self._flush()
