"""The sandbox as its users see it: open it, open a job with a module, run tasks (spec/07 §8).

    async with open_sandbox(SandboxConfig()) as sandbox:
        async with sandbox.open_job(module) as job:
            result = await job.run(Task(args=("program",)))

A job has a jailed process of its own; a task has an instance of its own in it. The real-time
limit is enforced from here, with SIGKILL. What a process answers is not believed beyond what the
task's limits allow.
"""

import math
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial

import trio

from fogbank.sandbox import wire
from fogbank.sandbox.data import MemorySink, Sinks
from fogbank.sandbox.forks_shell import Process, ProcessDied
from fogbank.sandbox.jail import JailReport, SandboxUnavailable
from fogbank.sandbox.limits import MODULE_SIZE, SandboxConfig
from fogbank.sandbox.outcome import ModuleRefused, Outcome, Result
from fogbank.sandbox.process_shell import open_starter
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.runtimes.starting import script_task
from fogbank.sandbox.runtimes.store_shell import RuntimeStore
from fogbank.sandbox.runtimes_shell import Runtimes
from fogbank.sandbox.stock_shell import Stock
from fogbank.sandbox.supply_shell import Supply
from fogbank.sandbox.task import Task
from fogbank.sandbox.wat import is_wasm
from fogbank.sandbox.watch_shell import Watch
from fogbank.sandbox.wire import Control, Frame, WireError
from fogbank.sandbox.zygotes_shell import ZygoteFailed

_EXHAUSTED = frozenset({signal.SIGXCPU, signal.SIGABRT, signal.SIGKILL, signal.SIGSEGV})
"""How a compiler ends that is out of time, memory or stack."""
QUICK_SIZE = 64 << 10
"""The largest module, in bytes, that is compiled by the process that runs it: one process less."""
_QUICK_SECONDS = 2.0
"""How long that may take; what takes longer is a compiler's, with its limits."""
_KILL_SECONDS = 0.05
"""How long a killed program is waited for: the kernel may need longer for a large memory."""
_START_SECONDS = 30.0
"""How long a fresh process may take until it is ready; a healthy one takes milliseconds."""


@asynccontextmanager
async def open_sandbox(
    config: SandboxConfig, store: RuntimeStore | None = None, sinks: Sinks = MemorySink
) -> AsyncIterator["Sandbox"]:
    """Start a sandbox, and end it with everything in it when the block is left.

    `store` has the runtimes that jobs may name. `sinks` makes what keeps large outputs.

    Raises `SandboxUnavailable` where a mandatory layer of the jail cannot be had, and `LimitError`
    if the configuration makes no sense.
    """
    config.check()
    async with open_starter(config) as starter:
        report = (await starter.launcher()).report
        report.require()
        jobs = Stock(starter, Control.JOB, config.spares)
        compilers = Stock(starter, Control.COMPILE, min(config.spares, 1))
        runtimes = None if store is None else Runtimes(store, config, starter)
        sandbox = Sandbox(config, report, (jobs, compilers), runtimes, sinks)
        try:
            await jobs.fill()
            await compilers.fill()
            starter.nursery.start_soon(sandbox.warm)
            yield sandbox
        finally:
            jobs.drop()
            compilers.drop()
            if runtimes is not None:
                runtimes.close()


class Sandbox:
    """A jail that is ready. Jobs beyond `SandboxConfig.processes` wait for their turn."""

    def __init__(
        self,
        config: SandboxConfig,
        report: JailReport,
        stocks: tuple[Stock, Stock],
        runtimes: Runtimes | None,
        sinks: Sinks = MemorySink,
    ) -> None:
        self._sinks = sinks
        self.report = report
        self.config = config
        self._jobs, self._compilers = stocks
        self._runtimes = runtimes
        self._turns = trio.CapacityLimiter(config.processes)

    @asynccontextmanager
    async def open_job(self, program: bytes | RuntimeId) -> AsyncIterator["Job"]:
        """Compile a binary module and give it a process of its own until the block is left.

        A runtime is taken from the store instead. Raises `ModuleRefused` if it cannot be run.
        """
        if isinstance(program, bytes):
            _check(program)
        async with _turn(self._turns):
            job = await self._job(program)
            try:
                await job.prepare()
                yield job
            finally:
                await job.close()

    async def warm(self) -> None:
        """Have the runtimes that are held ready before the first job asks for one."""
        if self._runtimes is not None:
            for spec in self._runtimes.held():
                with suppress(ModuleRefused, SandboxUnavailable, ZygoteFailed):
                    runtime = await self._runtimes.get(spec.id, self._compile)
                    if runtime.forked is not None:
                        await runtime.forked.fill()

    async def _job(self, program: bytes | RuntimeId) -> "Job":
        if isinstance(program, bytes):
            quick = await self._quick(program) if len(program) <= QUICK_SIZE else None
            return quick or self._runner((Frame.ARTIFACT, await self._compile(program)))
        if self._runtimes is None:
            raise ModuleRefused(Outcome.UNKNOWN_RUNTIME, "this worker holds no runtimes")
        runtime = await self._runtimes.get(program, self._compile)
        if runtime.forked is None:
            return self._runner((Frame.ARTIFACT, runtime.code))
        adapt = partial(script_task, runtime.spec)
        return Job(self.config, runtime.forked, None, self._sinks, adapt)

    def _runner(self, module: tuple[Frame, bytes]) -> "Job":
        return Job(self.config, self._jobs, module, self._sinks)

    async def _quick(self, program: bytes) -> "Job | None":
        """Have a small module compiled by the process that is to run it.

        None if it could not within what such a process has: a compiler tells why.
        """
        job = self._runner((Frame.MODULE, program))
        try:
            with trio.move_on_after(_QUICK_SECONDS):
                await job.prepare()
                return job
        except ModuleRefused as refusal:
            if refusal.outcome is not Outcome.HOST_FAILURE:
                raise
        return None

    async def _compile(self, module: bytes) -> bytes:
        bounds = self.config.compiling
        async with _owned(await self._start_compiler()) as process:
            try:
                with trio.fail_after(bounds.wall_seconds):
                    await process.send(Frame.MODULE, module)
                    return await _expect(process, Frame.ARTIFACT, bounds.artifact)
            except ProcessDied as death:
                if death.signal not in _EXHAUSTED:
                    reason = f"the worker's compiler failed: {death}"
                    raise ModuleRefused(Outcome.HOST_FAILURE, reason) from None
            except trio.TooSlowError:
                pass
            except WireError as error:
                reason = f"the worker's compiler answered with nonsense: {error}"
                raise ModuleRefused(Outcome.HOST_FAILURE, reason) from None
            raise ModuleRefused(
                Outcome.COMPILE_LIMIT,
                f"compiling the module takes more than {bounds.cpu_seconds} s of CPU or"
                f" {bounds.memory >> 20} MiB of memory, which is what this worker grants",
            )

    async def _start_compiler(self) -> Process:
        try:
            return await self._compilers.take()
        except SandboxUnavailable as error:
            raise ModuleRefused(Outcome.HOST_FAILURE, str(error)) from None


class Job:
    """One module, compiled, in a process of its own; or a runtime, in one for each task.

    `module` is what a process is sent to have the module. Without it the processes have theirs
    already, and are good for one task; `adapt` makes a client's task one for that module.
    """

    def __init__(
        self,
        config: SandboxConfig,
        stock: Stock,
        module: tuple[Frame, bytes] | None,
        sinks: Sinks = MemorySink,
        adapt: Callable[[Task], Task] = lambda task: task,
    ) -> None:
        self._config = config
        self._stock = stock
        self._module = module
        self._sinks = sinks
        self._adapt = adapt
        self._process: Process | None = None
        self._leaving: Process | None = None
        self._cpu_left = 0.0
        self._lock = trio.Lock()

    async def run(self, task: Task, supply: Supply | None = None) -> Result:
        """Run the program once, in a fresh instance. Tasks run one after the other.

        It may use the fuel that `supply` grants, and pauses where that ends; without one, all that
        its limit allows. Raises `TaskError` or `LimitError` if the task itself asks for what is not
        granted; never for anything that the program does. Cancelling ends the program: what it had
        used is then the last reading of `supply`.
        """
        task.check(self._config.ceilings)
        async with self._lock:
            try:
                await self.prepare(task.limits.wall_seconds)
            except ModuleRefused as refusal:
                return Result(refusal.outcome, reason=refusal.reason)
            if self._process is None:
                return Result(Outcome.HOST_FAILURE, reason="the job has no process")
            adapted = self._adapt(task)
            watch = Watch(self._config, self._process, adapted, supply or Supply(), self._sinks)
            try:
                return replace(await watch.run(), seconds=watch.seconds)
            finally:
                self._cpu_left -= math.ceil(watch.seconds)
                if self._module is None or not watch.has_answered:
                    await self._kill()

    async def prepare(self, seconds: float = 0.0) -> None:
        """Make sure that a process with the module is there, and may run so many seconds more.

        Raises `ModuleRefused` if none can be had.
        """
        if self._process is not None and (not self._process.is_idle or self._cpu_left < seconds):
            await self.close()
        if self._process is not None:
            return
        # What is being torn down still holds its memory.
        await self.close()
        self._cpu_left = float(self._config.child_cpu_seconds)
        try:
            self._process = await self._stock.take()
            if self._module is None:
                return
            with trio.fail_after(_START_SECONDS):
                await self._process.send(*self._module)
                await _expect(self._process, Frame.LOADED, 0)
        except (
            ProcessDied,
            SandboxUnavailable,
            WireError,
            ZygoteFailed,
            trio.TooSlowError,
        ) as error:
            await self.close()
            reason = f"the worker could not start a process: {error}"
            raise ModuleRefused(Outcome.HOST_FAILURE, reason) from None
        except BaseException:
            # Refused, or cancelled half way: what the process has read is not known.
            await self.close()
            raise

    async def close(self) -> None:
        """End the job's process, and wait until it is gone."""
        for process in (self._process, self._leaving):
            if process is not None:
                await process.end()
        self._process = self._leaving = None

    async def _kill(self) -> None:
        """End the job's process; the answer need not wait until all its memory is given back."""
        process, self._process = self._process, None
        if process is not None and not await process.end(_KILL_SECONDS):
            self._leaving = process


def _check(module: bytes) -> None:
    if not is_wasm(module):
        raise ModuleRefused(Outcome.INVALID_MODULE, "this is not a WebAssembly module")
    if len(module) > MODULE_SIZE:
        reason = f"the module has {len(module)} bytes; {MODULE_SIZE} is the most"
        raise ModuleRefused(Outcome.INVALID_MODULE, reason)


async def _expect(process: Process, kind: Frame, most: int) -> bytes:
    """Receive a frame of `kind`, or raise the `ModuleRefused` that comes in its place."""
    received, body = await process.receive({kind: most, Frame.REFUSED: wire.REASON_SIZE})
    if received is Frame.REFUSED:
        raise wire.decode_refusal(body)
    return body


@asynccontextmanager
async def _owned(process: Process) -> AsyncIterator[Process]:
    try:
        yield process
    finally:
        await process.end()


@asynccontextmanager
async def _turn(turns: trio.CapacityLimiter) -> AsyncIterator[None]:
    # A task may hold several jobs, so the borrower is not the task.
    borrower = object()
    await turns.acquire_on_behalf_of(borrower)
    try:
        yield
    finally:
        turns.release_on_behalf_of(borrower)
