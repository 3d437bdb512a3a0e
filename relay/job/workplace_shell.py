"""Where a session's work is done: its place, its process, its tasks one by one (spec/08 §3, §4)."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

import trio

from fogbank.relay.job.attesting import is_large
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.events import CancelRunning, GrantRunning, WorkerEvent
from fogbank.relay.job.places_shell import Places
from fogbank.relay.job.work import Entry, Work
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


class Talk(Protocol):
    """How what was said of the work gets to its client, if that is there."""

    async def flush(self) -> None:
        """Send what was said."""

    def on_news(self) -> None:
        """There is something to send, for which nobody waits."""

    def on_turn(self) -> None:
        """It may be the client's turn now."""


class Workplace:
    """Does what `work` has to be done."""

    def __init__(self, runner: Runner, places: Places, work: Work, talk: Talk) -> None:
        self._runner = runner
        self._places = places
        self._work = work
        self._talk = talk
        self._changed = trio.Event()
        self._task_scope = trio.CancelScope()
        self._is_stopped = False
        self._turned = trio.Event()
        self._supply = Supply()

    def heed(self, event: WorkerEvent) -> None:
        """Act on what the client said."""
        match event:
            case CancelRunning():
                self._task_scope.cancel()
            case GrantRunning(fuel):
                self._supply.grant(fuel)
            case _:
                self.wake()

    def wake(self) -> None:
        """Look again at what there is to do."""
        self._changed.set()
        self._changed = trio.Event()

    def stop(self) -> None:
        """End the running task, though its client did not want that."""
        self._is_stopped = True
        self._task_scope.cancel()

    async def quiet(self) -> None:
        """Wait until no task runs."""
        while self._work.is_running:
            await self._turned.wait()

    async def run(self) -> None:
        """Work until the session is refused."""
        work, places = self._work, self._places
        while work.module is None:
            await self._changed.wait()
        if places.is_full:
            work.refuse(Cause.BUSY, f"{places.waiting} jobs wait for a place already")
        else:
            async with places.take(self.tell_queued):
                await self._load(work.module)
        await self._talk.flush()

    async def tell_queued(self, reason: str) -> None:
        """Tell why the module has no place yet."""
        self._work.queue_module(reason)
        await self._talk.flush()

    async def _load(self, module: bytes | RuntimeId) -> None:
        """Have a process for the module, and run tasks in it."""
        work = self._work
        work.load_module()
        await self._talk.flush()
        try:
            async with self._runner.open_job(module) as job:
                work.accept_module(trio.current_time())
                while self._stays():
                    await self._run_next(job)
                # Before the process is given back: somebody may wait for the last answer.
                await self._talk.flush()
        except ModuleRefused as refusal:
            known = refusal.outcome if refusal.outcome in REFUSALS else Outcome.HOST_FAILURE
            self._refuse_module(refusal.reason, known)
        except SandboxUnavailable as error:
            self._refuse_module(str(error), Outcome.HOST_FAILURE)

    def _refuse_module(self, reason: str, outcome: Outcome) -> None:
        """The module cannot be run here, or no more."""
        self._work.refuse(Cause.MODULE, reason, outcome)

    def _stays(self) -> bool:
        """Tell whether the process is to be kept."""
        return not self._work.is_done

    async def _run_next(self, job: Job) -> None:
        """Run the next task; with none there, tell what is to be told and wait for one."""
        work = self._work
        changed = self._changed
        self._task_scope = trio.CancelScope()
        started = work.start_task(trio.current_time())
        self._talk.on_turn()
        if started is None:
            await self._talk.flush()
            await changed.wait()
            return
        # Before it is told that the task runs: a grant or the end of it may be the answer.
        self._supply = Supply(started.granted, self._on_reading)
        await self._talk.flush()
        self._turned = trio.Event()
        try:
            await self._run_task(job, started)
        finally:
            self._turned.set()

    async def _run_task(self, job: Job, started: Entry) -> None:
        work, supply = self._work, self._supply
        result = None
        try:
            with self._task_scope:
                result = await job.run(await self._task_of(started), supply)
        except (TaskError, LimitError) as error:
            work.refuse_task(Cause.TASK, str(error), trio.current_time())
            return
        if result is None and self._is_stopped:
            work.put_back(trio.current_time())
            return
        if result is None:
            used, reason = supply.reading.fuel, "ended at its owner's wish"
            result = Result(Outcome.CANCELLED, fuel=used, reason=reason)
        if work.attests and is_large(started.task, result):
            result = await self._stated(started, result)
        await self._end(started, result)

    async def _stated(self, entry: Entry, result: Result) -> Result:
        """Have what is to be signed hashed beside; return what the task came to."""
        try:
            entry.said = await trio.to_thread.run_sync(self._work.statement_of, entry, result)
        except OSError:
            reason = "what the task was given, or wrote, cannot be read any more"
            return Result(Outcome.HOST_FAILURE, reason=reason)
        return result

    async def _task_of(self, entry: Entry) -> Task:
        """Return what is to be run."""
        if entry.task is None:
            raise TaskError("the task's input is not here")
        return entry.task

    async def _end(self, _: Entry, result: Result) -> None:
        """Tell of the running task's end."""
        self._work.finish_task(result, trio.current_time())

    def _on_reading(self, reading: Reading) -> None:
        tell = self._work.tell_pause if reading.is_paused else self._work.tell_progress
        tell(reading.fuel, trio.current_time())
        self._talk.on_news()
