"""Jobs of a simulation: a runner whose results can be foretold, and workers that lie."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from fogbank.relay.messages_shell import Stream
from fogbank.sandbox.data import whole
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.outcome import ModuleRefused, Outcome, Result
from fogbank.sandbox.runtimes.catalogue import CATALOGUE, RuntimeId, RuntimeSpec
from fogbank.sandbox.runtimes.store_shell import RuntimeRefused
from fogbank.sandbox.supply_shell import Supply
from fogbank.sandbox.task import Task
from tests.simulation.chance import Chance

ENGINE = "simulated engine"
MODULE = b"\0asm of the simulation"
BAD_MODULE = b"\0asm that none can run"
LIMITS = Limits(fuel=1000, memory=1 << 20, wall_seconds=60.0, output=1 << 20)


def expected(task: Task) -> bytes:
    """Return what an honest worker answers."""
    digest = hashlib.sha256(repr(task.args).encode() + whole(task.stdin)).digest()
    return digest * (1 + len(task.stdin) // 64)


class SimStore:
    """A worker's runtimes, of which its operator adds and removes some."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._held: tuple[RuntimeSpec, ...] = ()
        self._draw()

    def _draw(self) -> None:
        self._held = tuple(spec for spec in CATALOGUE if self._chance.once_in(0.5))

    def held(self) -> tuple[RuntimeSpec, ...]:
        """Return those that are there."""
        return self._held

    def read(self, digest: bytes) -> bytes:
        """Their modules are of no use to a runner that runs nothing."""
        raise RuntimeRefused(digest.hex())

    def add(self, data: bytes) -> RuntimeSpec:
        """Nor does anyone give it one."""
        raise RuntimeRefused(hashlib.sha256(data).hexdigest())

    async def operate(self) -> None:
        """Be the operator."""
        while True:
            await trio.sleep(self._chance.uniform(10.0, 60.0))
            self._draw()


class SimRunner:
    """Runs nothing, but answers after a while; `heard` is told what begins and ends."""

    def __init__(
        self, heard: Callable[[str, str], None], store: SimStore, *, lies: bool = False
    ) -> None:
        self._heard = heard
        self._store = store
        self._lies = lies
        self.open_jobs = 0

    @asynccontextmanager
    async def open_job(self, program: bytes | RuntimeId) -> AsyncIterator[SimRunner]:
        """Make a module ready."""
        await trio.sleep(0.05)
        if isinstance(program, RuntimeId):
            if program.digest not in {spec.digest for spec in self._store.held()}:
                raise ModuleRefused(Outcome.UNKNOWN_RUNTIME, "it is not held here")
        elif program != MODULE:
            raise ModuleRefused(Outcome.INVALID_MODULE, "this is no WebAssembly module")
        self.open_jobs += 1
        try:
            yield self
        finally:
            self.open_jobs -= 1

    async def run(self, task: Task, _supply: Supply) -> Result:
        """Sleep for as long as the second argument says, and answer."""
        attempt, seconds = task.args[0], float(task.args[1])
        self._heard("begin", attempt)
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            self._heard("killed", attempt)
            raise
        self._heard("end", attempt)
        honest = Result(Outcome.COMPLETED, 0, 1, expected(task), seconds=seconds)
        return replace(honest, stdout=whole(honest.stdout)[::-1]) if self._lies else honest


Lie = Callable[[Chance], Callable[[Stream, object], Awaitable[None]]]


def silent(_: Chance) -> Callable[[Stream, object], Awaitable[None]]:
    """Make a job service that takes streams and never says a word."""

    async def serve(stream: Stream, origin: object) -> None:
        while await stream.receive_some(1 << 16):
            pass

    return serve


def garbage(chance: Chance) -> Callable[[Stream, object], Awaitable[None]]:
    """Make a job service that answers with random bytes."""

    async def serve(stream: Stream, origin: object) -> None:
        while True:
            await stream.send_all(chance.randbytes(chance.randrange(1, 20_000)))
            if not await stream.receive_some(1 << 16):
                return

    return serve


LIES: dict[str, Lie | None] = {"wrong results": None, "silence": silent, "garbage": garbage}
"""How a worker lies; None: its runner does."""
