"""A job is taken to its end by one client after another, in a cloud in memory (spec/13)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fogbank.client.database_shell import Database
from fogbank.client.errors import NoPath
from fogbank.client.journal.records import JobState, Kept
from fogbank.client.journal.store_shell import Store
from fogbank.client.patterns import Item, Pattern
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.nodes.delivery import Delivery
from fogbank.nodes.driver import Driver, JobEnd, Watch
from fogbank.nodes.intake import Inputs, Intake
from fogbank.nodes.job_spec import JobSpec, Program, keep
from fogbank.sandbox.data import Data, whole
from tests.client.holders import Holders
from tests.relay.job_fakes import MODULE, SMALL

PATTERN = Pattern("p", bytes(32), (), limits=SMALL)
COUNT = 12


class Killed(BaseException):
    """The client is killed: nothing of it is written any more."""


@dataclass
class Life:
    """When the client's life ends: at so many commits, before or after the last is written."""

    commits: int
    after: bool = False


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be done by threads is done at once: the clock jumps only when nothing is."""

    async def run(what: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return what(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run)


class Taken:
    """Takes results, in their order."""

    in_order = True

    def __init__(self) -> None:
        self.outputs: dict[int, bytes] = {}

    def put(self, task: Kept, stdout: Data, stderr: Data) -> None:
        del stderr
        assert task.number not in self.outputs
        self.outputs[task.number] = whole(stdout)

    def settle(self) -> None:
        """What was put is safe."""


class World:
    """A job, the cloud that runs it, and clients that come and go."""

    def __init__(self, folder: Path, cloud: Holders, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self.cloud = cloud
        self._patch = monkeypatch
        self.taken = Taken()
        monkeypatch.setattr("fogbank.nodes.driver.open_reach", self.open_reach)
        monkeypatch.setattr("fogbank.nodes.driver.open_court", self.open_court)
        # Without copies of stragglers: what runs twice then is run again.
        monkeypatch.setattr("fogbank.nodes.driver.ArrayLimits", partial(ArrayLimits, gain=0.0))
        self.error: Exception | None = None

        files: dict[str, Data] = {}
        program = keep(Program(MODULE, PATTERN), "program", files)
        spec = JobSpec("map", program, 4, 5)
        with self.store() as store:
            self.name = store.create(spec.title, spec.dump(), files)

    @contextmanager
    def store(self) -> Iterator[Store]:
        store = Store(self._folder)
        yield store
        store.close()

    @contextmanager
    def open_reach(self, *_: Any) -> Iterator[tuple[Any, bytes]]:
        if self.error is not None:
            raise self.error
        yield self.cloud, MODULE

    @asynccontextmanager
    async def open_court(self, _: Any, reach: Any, *__: Any) -> AsyncIterator[Any]:
        yield Court(reach)

    async def client(
        self,
        life: Life | None = None,
        act: Callable[[Driver], Any] | None = None,
        *,
        is_first: bool = True,
        leaves: bool = False,
    ) -> JobEnd:
        """Have a client work at the job; raise `Killed` if it was."""
        if life is not None:
            self._patch.setattr(Database, "_commit", mortal(life))
        items = (Item(number, stdin=b"%d" % number) for number in range(1, COUNT + 1))
        with self.store() as store, store.drive(self.name) as job:
            spec = JobSpec.load(store.job(self.name).spec)
            intake = Intake(job, PATTERN, Inputs(items) if is_first else None)
            driver = Driver(
                job,
                spec,
                spec.program.load(job.file),
                intake,
                Watch(lambda _: None),
                delivery=Delivery(job, self.taken),
                leaves=leaves,
            )
            async with trio.open_nursery() as nursery:
                if act is not None:
                    nursery.start_soon(act, driver)
                user: Any = object()
                end = await driver.run(user)
                nursery.cancel_scope.cancel()
        return end

    def revive(self) -> None:
        """The next client lives as long as it likes."""
        self._patch.setattr(Database, "_commit", COMMIT)

    def fetched(self) -> set[int]:
        with self.store() as store, store.look(self.name) as job:
            return {task.number for task in job.tasks() if task.is_over}


COMMIT = Database._commit


def mortal(life: Life) -> Callable[[Any, Any], None]:
    left = life.commits

    def commit(database: Database, batch: Any) -> None:
        nonlocal left
        left -= 1
        if left > 0 or (left == 0 and life.after):
            COMMIT(database, batch)
        if left <= 0:
            raise Killed

    return commit


class Court:
    """Lets everything pass."""

    verification = None

    def __init__(self, reach: Any) -> None:
        self.reach = reach

    async def ended(self, _: Any) -> None:
        await trio.lowlevel.checkpoint()


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        yield World(tmp_path / "jobs", Holders(nursery, 3), monkeypatch)
        nursery.cancel_scope.cancel()


def is_done(world: World, end: JobEnd) -> bool:
    expected = {number: b"%d" % number for number in range(1, COUNT + 1)}
    return (end.state, end.code) == (JobState.DONE, 0) and world.taken.outputs == expected


async def test_a_job_is_run_and_delivered_once(world: World, autojump_clock: MockClock) -> None:
    assert is_done(world, await world.client())
    assert sorted(map(int, world.cloud.ran)) == [*range(1, COUNT + 1)]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("commits", [2, 3, 4, 6, 9, 14, 20])
async def test_a_client_killed_at_any_write_costs_no_result_that_was_fetched(
    world: World, commits: int, after: bool, autojump_clock: MockClock
) -> None:
    """Each of several clients is killed so many writes after it began."""
    fetched: set[int] = set()
    for turn in range(3):
        before = Counter(world.cloud.ran)
        try:
            await world.client(Life(commits, after), is_first=not turn)
        except* Killed:
            pass
        world.revive()
        assert fetched <= world.fetched()
        assert not {int(data) for data in Counter(world.cloud.ran) - before} & fetched
        fetched = world.fetched()
        world.taken.outputs.clear()
    with world.store() as store:
        if store.job(world.name).is_over:
            return
    end = await world.client(is_first=False)
    with world.store() as store:
        total = store.job(world.name).total
    if total is None:
        assert (end.state, end.code) == (JobState.FAILED, 125)
        assert "before it had read all inputs" in end.reason
    else:
        assert (end.state, end.code) == (JobState.DONE, 0)
    assert len(world.cloud.ran) <= COUNT + 4 * 4


async def test_what_is_detached_comes_back_and_nothing_runs_twice(
    world: World, autojump_clock: MockClock
) -> None:
    async def leave(driver: Driver) -> None:
        await trio.sleep(2.5)
        driver.detach("its user left")

    end = await world.client(act=leave)
    assert (end.state, end.reason) == (None, "its user left")
    with world.store() as store:
        record = store.job(world.name)
        assert (record.state, record.reason) == (JobState.DETACHED, "its user left")
    assert 0 < len(world.fetched()) < COUNT
    assert is_done(world, await world.client(is_first=False))
    assert sorted(map(int, world.cloud.ran)) == [*range(1, COUNT + 1)]


async def test_what_is_handed_over_runs_while_nobody_is_there(
    world: World, autojump_clock: MockClock
) -> None:
    end = await world.client(leaves=True)
    assert end.state is None
    await trio.sleep(60)
    assert sorted(map(int, world.cloud.ran)) == [*range(1, COUNT + 1)]
    assert len(world.fetched()) < COUNT
    assert is_done(world, await world.client(is_first=False))
    assert len(world.cloud.ran) == COUNT


async def test_a_cancelled_job_is_forgotten_by_workers(
    world: World, autojump_clock: MockClock
) -> None:
    async def cancel(driver: Driver) -> None:
        await trio.sleep(2.5)
        driver.cancel()

    end = await world.client(act=cancel)
    assert (end.state, end.code) == (JobState.CANCELLED, 130)
    assert 0 < sum(map(bool, world.taken.outputs.values())) < COUNT
    assert all(not worker.sessions for worker in world.cloud.workers.values())
    with world.store() as store:
        assert store.job(world.name).over == COUNT


async def test_an_error_before_any_worker_had_a_task_ends_the_job(
    world: World, autojump_clock: MockClock
) -> None:
    world.error = NoPath("there is no worker")
    with pytest.RaisesGroup(NoPath, flatten_subgroups=True):
        await world.client()
    with world.store() as store:
        record = store.job(world.name)
    assert (record.state, record.code) == (JobState.FAILED, 125)
    assert record.reason == "there is no worker"


async def test_an_error_later_detaches(world: World, autojump_clock: MockClock) -> None:
    async def leave(driver: Driver) -> None:
        await trio.sleep(2.5)
        driver.detach("its user left")

    await world.client(act=leave)
    world.error = NoPath("there is no worker")
    with pytest.RaisesGroup(NoPath, flatten_subgroups=True):
        await world.client(is_first=False)
    with world.store() as store:
        record = store.job(world.name)
    assert (record.state, record.reason) == (JobState.DETACHED, "there is no worker")
    world.error = None
    assert is_done(world, await world.client(is_first=False))
