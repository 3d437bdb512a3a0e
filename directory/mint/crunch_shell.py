"""Processes that compute for the mint, so that it uses several cores and the event loop goes on.

    async with trio.open_nursery() as nursery:
        crunch = Crunch(network_id, processes())
        nursery.start_soon(crunch.run)
        shares = await crunch.do(task)

All tasks that wait when a batch is due are in it, the urgent ones first. Processes start when they
are needed. One that dies is replaced, and its tasks are done again, each alone if that happens
twice; so a task can end a process, but no other task.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import trio

from fogbank.directory.mint.crunch import (
    FULL,
    MESSAGE_LIMIT,
    Outcome,
    Pace,
    Task,
    pack_batch,
    unpack_outcomes,
)
from fogbank.directory.mint.cruncher_shell import BATCH, FORGET, HELLO, LEARN
from fogbank.directory.mint.points import encode_scalar
from fogbank.relay.codec import encode
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.messages_shell import receive_message, send_message

log = logging.getLogger(__name__)

MAX_WAITING: Final = 4096
"""Tasks that wait; one more is told to come again."""
BATCH_WEIGHT: Final = 256
"""A batch takes this much, some 40 ms of computing, or one task."""
BATCH_SECONDS: Final = 30.0
"""A process that has not answered by then hangs, and is ended."""
LEAST_WEIGHT: Final = 32
"""Less is not split among processes, some 5 ms of computing."""
IDLE_SECONDS: Final = 600.0
"""A process that has had nothing to do for so long ends."""
MAX_TRIES: Final = 3
_MAX_PROCESSES = 16
_COST_MEMORY = 0.1
_FIRST_COST = 1e-3
_MODULE = "fogbank.directory.mint.cruncher_shell"
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH")
_PAUSE = 0.5
_FAILURES = (
    OSError,
    ProtocolError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
)


class Busy(RelayError):
    """The mint has more to do than it can: try again soon."""


def processes() -> int:
    """Return how many processes compute on this machine: one fewer than it has cores."""
    return max(1, min(len(os.sched_getaffinity(0)) - 1, _MAX_PROCESSES))


@dataclass(order=True, slots=True)
class _Job:
    """A task that waits. The lowest `rank` is the most urgent."""

    rank: tuple[int, int]
    task: Task = field(compare=False)
    outcome: Outcome | None = field(default=None, compare=False)
    tries: int = field(default=0, compare=False)
    done: trio.Event = field(default_factory=trio.Event, compare=False)
    is_wanted: bool = field(default=True, compare=False)

    def result(self) -> tuple[bytes, ...] | RelayError:
        """Return what came of it."""
        if self.outcome is None:
            return Busy("this authority could not compute that: try again in a while")
        return ProtocolError(self.outcome) if isinstance(self.outcome, str) else self.outcome


class _Process:
    """One process, and which series it has been told."""

    def __init__(self, process: trio.Process, pipes: trio.abc.Stream) -> None:
        self._process = process
        self._pipes = pipes
        self._told: dict[int, tuple[bytes, int]] = {}

    @classmethod
    async def start(cls, network_id: bytes) -> _Process:
        """Start one, and wait until it can compute."""
        process = await trio.lowlevel.open_process(
            [sys.executable, "-I", "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            # Ctrl-C at a terminal is for the authority, which ends what it started.
            start_new_session=True,
        )
        assert process.stdio is not None  # noqa: S101 - both pipes were asked for
        started = cls(process, process.stdio)
        try:
            with trio.fail_after(BATCH_SECONDS):
                await started._ask(HELLO, network_id)
        except BaseException:
            await started.end()
            raise
        return started

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def _send(self, kind: int, content: bytes) -> None:
        await send_message(self._pipes, bytes((kind,)) + content)

    async def _ask(self, kind: int, content: bytes) -> bytes:
        await self._send(kind, content)
        data = await receive_message(self._pipes, MESSAGE_LIMIT)
        if data is None:
            raise trio.BrokenResourceError("it has ended")
        return data

    async def tell(self, keys: dict[int, tuple[bytes, int]]) -> None:
        """Tell it the series that are new to it, and those that are over."""
        for series in [each for each in self._told if self._told[each] != keys.get(each)]:
            await self._send(FORGET, encode(series))
            del self._told[series]
        for series, (key, share) in keys.items():
            if series not in self._told:
                await self._send(LEARN, encode([series, key, encode_scalar(share)]))
                self._told[series] = (key, share)

    async def compute(self, tasks: list[Task]) -> tuple[list[Outcome], float]:
        """Return what becomes of each task, and how many seconds they took."""
        outcomes, seconds = unpack_outcomes(await self._ask(BATCH, pack_batch(tasks)))
        if len(outcomes) != len(tasks):
            raise ProtocolError("it answers something else")
        return outcomes, seconds

    async def end(self) -> None:
        """End it, and wait for its end."""
        with suppress(ProcessLookupError):
            self._process.kill()
        with trio.CancelScope(shield=True):
            await self._process.wait()
            await trio.aclose_forcefully(self._pipes)


class Crunch:
    """Has tasks computed by at most so many processes."""

    def __init__(self, network_id: bytes, most: int) -> None:
        self._network_id = network_id
        self._most = most
        self._keys: dict[int, tuple[bytes, int]] = {}
        self._jobs: list[_Job] = []
        self._numbers = itertools.count()
        self._news = [trio.Event() for _ in range(most)]
        self._idle: set[int] = set()
        self._pids: dict[int, int] = {}
        self._cost = _FIRST_COST
        self._pace = Pace()

    def learn(self, series: int, key: bytes, share: int) -> None:
        """Take a series' key X and this authority's share of it."""
        self._keys[series] = (key, share)

    def forget(self, series: int) -> None:
        """Drop a series that is over."""
        self._keys.pop(series, None)

    @property
    def waiting(self) -> int:
        """Tasks that wait for a process."""
        return len(self._jobs)

    @property
    def cost(self) -> float:
        """What a task took lately, in seconds of one process."""
        return self._cost

    @property
    def capacity(self) -> int:
        """Seconds that all processes compute in one second."""
        return self._most

    @property
    def pids(self) -> frozenset[int]:
        """The processes that run now."""
        return frozenset(self._pids.values())

    async def do(self, task: Task, urgency: int = 0) -> tuple[bytes, ...]:
        """Return the shares that a task wants, once all that has to hold of it does.

        Raises `ProtocolError` with the reason if something does not, `Busy` if too many wait or
        the series was not learned.
        """
        (outcome,) = await self.do_all([(task, urgency)])
        if isinstance(outcome, RelayError):
            raise outcome
        return outcome

    async def do_all(
        self, tasks: Sequence[tuple[Task, int]]
    ) -> list[tuple[bytes, ...] | RelayError]:
        """Do several tasks, each with its urgency; return what `do` returns or raises of each."""
        jobs = [self._put(task, urgency) for task, urgency in tasks]
        if self._idle:
            self._news[min(self._idle)].set()
        try:
            for job in jobs:
                if isinstance(job, _Job) and not job.done.is_set():
                    await job.done.wait()
        finally:
            for job in jobs:
                if isinstance(job, _Job):
                    job.is_wanted = False
        return [job.result() if isinstance(job, _Job) else job for job in jobs]

    def _put(self, task: Task, urgency: int) -> _Job | Busy:
        """Have a task wait, or say why it does not."""
        if task.series not in self._keys:
            return Busy(f"this authority has no share of series {task.series} yet: ask the others")
        if len(self._jobs) >= MAX_WAITING:
            return Busy("this authority has more to do than it can: try again in a while")
        job = _Job((-urgency, next(self._numbers)), task)
        heapq.heappush(self._jobs, job)
        return job

    async def run(self) -> None:
        """Compute until cancelled."""
        async with trio.open_nursery() as nursery:
            for place in range(self._most):
                nursery.start_soon(self._work, place)

    async def _work(self, place: int) -> None:
        """Keep one process busy, and in place."""
        process: _Process | None = None
        try:
            while True:
                if len(self._jobs) < FULL:
                    await trio.sleep_until(self._pace.due)
                batch = self._take()
                if not batch:
                    if not await self._wait(place, process is not None):
                        await self._retire(place, process)
                        process = None
                    continue
                try:
                    if process is None:
                        process = await _Process.start(self._network_id)
                        self._pids[place] = process.pid
                    await self._compute(process, batch)
                except _FAILURES as error:
                    log.warning("a process of the mint failed (%s): another takes its place", error)
                    await self._retire(place, process)
                    process = None
                    self._put_back(batch)
                    await trio.sleep(_PAUSE)
        finally:
            await self._retire(place, process)

    async def _retire(self, place: int, process: _Process | None) -> None:
        self._pids.pop(place, None)
        if process is not None:
            await process.end()

    async def _wait(self, place: int, has_process: bool) -> bool:
        """Wait for tasks; tell whether any came before the process was idle for too long."""
        self._news[place] = trio.Event()
        self._idle.add(place)
        with trio.move_on_after(IDLE_SECONDS if has_process else float("inf")) as scope:
            await self._news[place].wait()
        self._idle.discard(place)
        return not scope.cancelled_caught

    def _take(self) -> list[_Job]:
        """Return the next batch: the most urgent tasks, but leave idle processes their part."""
        share = sum(job.task.weight for job in self._jobs) // (1 + len(self._idle))
        most = min(max(share, LEAST_WEIGHT), BATCH_WEIGHT)
        batch: list[_Job] = []
        weight = 0
        while self._jobs and weight <= most:
            if self._jobs[0].tries > 1 and batch:
                break
            job = heapq.heappop(self._jobs)
            if not job.is_wanted:
                continue
            batch.append(job)
            weight += job.task.weight
            if job.tries > 1:
                break
        if self._jobs and self._idle:
            self._news[min(self._idle)].set()
        return batch

    async def _compute(self, process: _Process, batch: list[_Job]) -> None:
        self._pace.began(trio.current_time(), len(batch))
        with trio.fail_after(BATCH_SECONDS):
            await process.tell(self._keys)
            outcomes, seconds = await process.compute([job.task for job in batch])
        self._cost += _COST_MEMORY * (seconds / len(batch) - self._cost)
        for job, outcome in zip(batch, outcomes, strict=True):
            job.outcome = outcome
            job.done.set()

    def _put_back(self, batch: list[_Job]) -> None:
        """Have tasks done again whose process failed; not those that have failed too often."""
        for job in batch:
            job.tries += 1
            if job.tries < MAX_TRIES:
                heapq.heappush(self._jobs, job)
            else:
                job.done.set()
