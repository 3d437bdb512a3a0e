"""What the tests of jobs share: a runner that runs nothing, and a node's way to serve a stream."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from fogbank.relay.job.limits import JobLimits
from fogbank.relay.job.service_shell import JobService
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.meter import Reading
from fogbank.sandbox.outcome import REFUSALS, ModuleRefused, Outcome, Result
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.supply_shell import Supply
from fogbank.sandbox.task import Task

MODULE = b"\0asm of a test"
RUNTIME = RuntimeId(b"r" * 32)
CEILINGS = Limits(fuel=1 << 40, memory=1 << 20, wall_seconds=100.0, output=1 << 20)
SMALL = Limits(fuel=1000, memory=1 << 20, wall_seconds=20.0, output=1 << 20)


def task(*args: str, stdin: bytes = b"") -> Task:
    """A task that the fake runner understands by its first argument."""
    return Task(args=args, stdin=stdin, limits=SMALL)


class FakeRunner:
    """Does what a task's first argument says; knows what ran and what was killed.

    It holds one runtime, until it is told that it is lost.
    """

    def __init__(self) -> None:
        self.open_jobs = 0
        self.most_open = 0
        self.killed: list[tuple[str, ...]] = []
        self.ran: list[tuple[str, ...]] = []
        self.runtime_is_lost = False
        self.failures = 0
        """So many jobs will fail to open."""

    @asynccontextmanager
    async def open_job(self, module: bytes | RuntimeId) -> AsyncIterator["FakeJob"]:
        await trio.sleep(1)
        if self.failures:
            self.failures -= 1
            raise ModuleRefused(Outcome.HOST_FAILURE, "the host has no memory")
        if isinstance(module, RuntimeId) and (self.runtime_is_lost or module != RUNTIME):
            raise ModuleRefused(Outcome.UNKNOWN_RUNTIME, "it is not held here")
        for outcome in REFUSALS:
            if module == outcome.name.encode():
                raise ModuleRefused(outcome, f"it is {outcome.name}")
        self.open_jobs += 1
        self.most_open = max(self.most_open, self.open_jobs)
        try:
            yield FakeJob(self)
        finally:
            self.open_jobs -= 1


class FakeJob:
    """A module of a `FakeRunner`."""

    def __init__(self, runner: FakeRunner) -> None:
        self._runner = runner

    async def run(self, task: Task, supply: Supply) -> Result:
        try:
            return await self._run(task, supply)
        except trio.Cancelled:
            self._runner.killed.append(task.args)
            raise
        finally:
            self._runner.ran.append(task.args)

    async def _run(self, task: Task, supply: Supply) -> Result:
        match task.args:
            case ("sleep", seconds):
                await trio.sleep(float(seconds))
                return Result(Outcome.COMPLETED, 0, 1, seconds=float(seconds))
            case ("later", seconds, *_):
                await trio.sleep(float(seconds))
                return Result(Outcome.COMPLETED, 0, 1, task.stdin)
            case ("echo", *_):
                return Result(Outcome.COMPLETED, 0, 1, task.stdin, b"said")
            case ("exit", code):
                return Result(Outcome.COMPLETED, int(code), 1)
            case ("end", name):
                return Result(Outcome[name], reason=f"it is {name}")
            case ("count", tenths):
                # Ten units of fuel a tenth of a second, and a word on it each time.
                for done in range(1, int(tenths) + 1):
                    await trio.sleep(0.1)
                    used = 10 * done
                    while used > supply.granted:
                        supply.hear(Reading(supply.granted, is_paused=True))
                        await supply.beyond(supply.granted)
                    supply.hear(Reading(used))
                return Result(Outcome.COMPLETED, 0, 10 * int(tenths))
            case ("bug",):
                raise ZeroDivisionError
        raise AssertionError(task.args)


def make_service(runner: FakeRunner, **limits: Any) -> JobService:
    """A service of one place, if not told otherwise."""
    held = (RUNTIME.digest,)
    return JobService(
        runner, "engine", CEILINGS, JobLimits(**{"places": 1, **limits}), lambda: held
    )


async def serve(service: Callable[[Any, object], Awaitable[None]], stream: Any) -> str:
    """Serve a stream as a node does, and return the name of the error that ended it, if any."""
    try:
        await service(stream, None)
    except Exception as error:  # noqa: BLE001 -- a node outlives whatever a service raises
        await trio.aclose_forcefully(stream)
        return type(error).__name__
    await stream.aclose()
    return ""
