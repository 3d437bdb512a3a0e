"""Arrays at the real job services of workers, which break off, restart and drain (spec/08 §3.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from fogbank.client.array_shell import Array
from fogbank.client.errors import CircuitUnavailable
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.tasks import ArrayTask, TaskEnd
from fogbank.client.scheduling.words import Candidate
from fogbank.relay.job.held.sessions_shell import HeldSessions
from fogbank.relay.job.service_shell import JobService
from fogbank.sandbox.data import whole
from fogbank.sandbox.task import Task
from tests.client.holders import Cut, Remembered
from tests.client.networks import SeededChooser, identity
from tests.relay.job_fakes import MODULE, SMALL, FakeRunner, make_service, serve

LIMITS = ArrayLimits(concurrent=4, gain=0.0)
"""Without copies of stragglers: what runs twice then is run again."""


async def at_once(function: Any, *args: Any) -> Any:
    """Wait for the disk without a thread, so that time can jump."""
    await trio.lowlevel.checkpoint()
    return function(*args)


@dataclass(eq=False)
class Machine:
    """A worker with a disk, which may be killed and started again. `cuts` as those of `Holder`."""

    name: str
    folder: Path
    nursery: trio.Nursery
    reachable: bool = True
    ran: list[tuple[str, ...]] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    streams: list[Any] = field(default_factory=list)
    life: trio.CancelScope = field(default_factory=trio.CancelScope)
    attest: Any = None

    @property
    def way(self) -> tuple[str, ...]:
        return ("guard", "relay", self.name)

    async def live(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        with trio.CancelScope() as self.life:
            runner = FakeRunner()
            runner.ran = self.ran
            self.service: JobService = make_service(runner, places=2)
            self.service.attest = self.attest
            self.held = HeldSessions(self.folder, lambda: 1e9 + trio.current_time(), None, at_once)
            self.service.hold_in(self.held)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.service.run)
                await trio.testing.wait_all_tasks_blocked()
                self.reachable = True
                task_status.started()

    async def open_stream(self) -> Any:
        near, far = memory_stream_pair()
        self.streams.append(far)
        self.nursery.start_soon(serve, self.service, far)
        return Cut(near, self.cuts.pop(0)) if self.cuts else near

    def close(self) -> None:
        """Its circuit is no circuit."""

    async def break_streams(self) -> None:
        streams, self.streams = self.streams, []
        for stream in streams:
            await trio.aclose_forcefully(stream)

    async def die(self) -> None:
        """End at once, in the middle of whatever it does."""
        self.reachable = False
        self.life.cancel()
        await self.break_streams()


class Machines:
    """The way to some of them."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self.workers = {identity(machine.name): machine for machine in machines}

    def candidates(self) -> Sequence[Candidate]:
        return tuple(Candidate(key, 1000, 2) for key in self.workers)

    async def connect(self, worker: bytes) -> Machine:
        await trio.sleep(0.1)
        found = self.workers[worker]
        if not found.reachable:
            raise CircuitUnavailable("no circuit could be built")
        return found


@asynccontextmanager
async def machines(folder: Path, count: int = 2) -> AsyncIterator[Machines]:
    async with trio.open_nursery() as nursery:
        made = [Machine(f"w{n}", folder / str(n), nursery) for n in range(1, count + 1)]
        for machine in made:
            await nursery.start(machine.live)
        yield Machines(made)
        nursery.cancel_scope.cancel()


class Tasks:
    """A source of tasks that sleep, and give back what they are given; and a sink."""

    def __init__(self, count: int, ended: Any, seconds: float) -> None:
        self._numbers = iter([n for n in range(1, count + 1) if n not in ended])
        self._seconds = seconds

    async def next(self) -> ArrayTask | None:
        await trio.lowlevel.checkpoint()
        number = next(self._numbers, None)
        if number is None:
            return None
        args = ("later", str(self._seconds), str(number))
        return ArrayTask(number, Task(args=args, stdin=b"%d" % number, limits=SMALL))

    async def take(self, end: TaskEnd) -> None:
        assert end.number
        await trio.lowlevel.checkpoint()


def array(cloud: Machines, journal: Remembered, count: int, seconds: float, **more: Any) -> Array:
    tasks = Tasks(count, journal.ends, seconds)
    chooser = SeededChooser("machines")
    return Array(cloud, MODULE, tasks, tasks, chooser, limits=LIMITS, journal=journal, **more)


def check(cloud: Machines, journal: Remembered, count: int, *, again: int = 0) -> None:
    """Each task has its result; all but `again` ran once."""
    assert sorted(journal.ends) == [*range(1, count + 1)]
    for number, end in journal.ends.items():
        assert end.result is not None
        assert whole(end.result.stdout) == b"%d" % number
    ran = [args for machine in cloud.workers.values() for args in machine.ran]
    assert count <= len(ran) <= count + again
    assert not journal.lanes
    assert all(machine.held.count == 0 for machine in cloud.workers.values())


async def test_an_array_leaves_nothing_behind(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with machines(tmp_path) as cloud:
        journal = Remembered()
        await array(cloud, journal, 20, 1).run()
        check(cloud, journal, 20)


@pytest.mark.parametrize("part", range(4))
async def test_streams_cut_anywhere(part: int, autojump_clock: MockClock, tmp_path: Path) -> None:
    for cut in range(300 + part, 700, 16):
        async with machines(tmp_path / str(cut), 1) as cloud:
            journal = Remembered()
            (machine,) = cloud.workers.values()
            machine.cuts = [cut, cut // 2 + 260, 500]
            await array(cloud, journal, 3, 1).run()
            check(cloud, journal, 3)


@pytest.mark.parametrize("seconds", [1.3, 2.2, 4.0, 7.1])
async def test_a_client_that_ends_finds_what_went_on(
    seconds: float, autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with machines(tmp_path) as cloud:
        journal = Remembered()
        for _ in range(30):
            with trio.move_on_after(seconds):
                await array(cloud, journal, 12, 2).run()
            await trio.sleep(1.3)
        await array(cloud, journal, 12, 2).run()
        check(cloud, journal, 12)


async def test_what_was_handed_over_survives_both_ends(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """The client leaves; the workers are killed, and start again; the client comes back."""
    async with machines(tmp_path) as cloud:
        journal = Remembered()
        first = array(cloud, journal, 30, 5, durable=True)
        first.hand_over()
        await first.run()
        assert first.waiting == 0
        await trio.sleep(12)
        for machine in cloud.workers.values():
            await machine.die()
            await trio.sleep(3)
            await machine.nursery.start(machine.live)
        await trio.sleep(500)
        began = trio.current_time()
        await array(cloud, journal, 30, 5).run()
        assert trio.current_time() - began < 5
        check(cloud, journal, 30, again=4)


@pytest.mark.parametrize("durable", [False, True])
async def test_a_worker_that_is_killed_at_work(
    durable: bool, autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with machines(tmp_path) as cloud:
        journal = Remembered()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(array(cloud, journal, 16, 3, durable=durable).run)
            for machine in 2 * [*cloud.workers.values()]:
                await trio.sleep(4)
                await machine.die()
                await trio.sleep(2)
                await machine.nursery.start(machine.live)
        check(cloud, journal, 16, again=9)


async def test_a_worker_that_drains_gives_its_tasks_to_others(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with machines(tmp_path) as cloud:
        journal = Remembered()
        first, _ = cloud.workers.values()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(array(cloud, journal, 12, 3).run)
            await trio.sleep(5)
            await first.service.drain(30)
            first.reachable = False
            await first.break_streams()
        assert sorted(journal.ends) == [*range(1, 13)]
        assert all(end.result is not None for end in journal.ends.values())
