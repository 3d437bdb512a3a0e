"""Arrays over workers that are there, that go, and that lie (spec/11 §3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from fogbank.client import array_shell
from fogbank.client.array_shell import Array
from fogbank.client.errors import CircuitUnavailable
from fogbank.client.exit_codes import ending_of_task
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.scheduler import Scheduler
from fogbank.client.scheduling.tasks import ArrayTask, TaskEnd
from fogbank.client.scheduling.words import Candidate, Ending
from fogbank.relay.job.service_shell import JobService
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.task import Task
from tests.client.networks import SeededChooser, identity
from tests.relay.job_fakes import MODULE, FakeRunner, make_service, serve, task

LIMITS = ArrayLimits(concurrent=8)


@dataclass(eq=False)
class FakeWorker:
    """A worker that is honest, unless `talk` says otherwise."""

    name: str
    cloud: Cloud
    runner: FakeRunner = field(default_factory=FakeRunner)
    talk: Callable[[Any], Any] | None = None
    reachable: bool = True
    circuits: int = 0
    open_circuits: int = 0
    ends: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.service: JobService = make_service(self.runner, places=2)
        self.way = ("guard", "relay", self.name)

    async def open_stream(self) -> Any:
        near, far = memory_stream_pair()
        self.ends.append(far)
        self.cloud.nursery.start_soon(self.serve, far)
        return near

    async def serve(self, far: Any) -> None:
        if self.talk is not None:
            await self.talk(far)
        else:
            await serve(self.service, far)

    def close(self) -> None:
        self.open_circuits -= 1

    async def vanish(self) -> None:
        """All its streams end in the middle of whatever is said, and it is not reached again."""
        self.reachable = False
        for far in self.ends:
            await trio.aclose_forcefully(far)


class Cloud:
    """The workers, and the way to them."""

    def __init__(self, nursery: trio.Nursery, count: int) -> None:
        self.nursery = nursery
        self.workers = {identity(f"w{n}"): FakeWorker(f"w{n}", self) for n in range(1, count + 1)}

    def __getitem__(self, number: int) -> FakeWorker:
        return self.workers[identity(f"w{number}")]

    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(Candidate(key, 1000, 2) for key in self.workers)

    async def connect(self, worker: bytes) -> FakeWorker:
        await trio.sleep(0.5)
        found = self.workers[worker]
        if not found.reachable:
            raise CircuitUnavailable("no circuit could be built")
        found.circuits += 1
        found.open_circuits += 1
        return found


class Given:
    """A source of tasks that are known, and counts how far it was read ahead."""

    def __init__(self, tasks: Sequence[Task], size: int = 0) -> None:
        self._tasks = tasks
        self._size = size
        self.given = 0

    async def next(self) -> ArrayTask | None:
        await trio.lowlevel.checkpoint()
        if self.given == len(self._tasks):
            return None
        self.given += 1
        return ArrayTask(self.given, self._tasks[self.given - 1], self._size)


class Kept:
    """A sink that keeps what it is given; each task once."""

    def __init__(self, source: Given, delay: float = 0.0) -> None:
        self.ends: dict[int, TaskEnd] = {}
        self.most_ahead = 0
        self._source = source
        self._delay = delay

    async def take(self, end: TaskEnd) -> None:
        await trio.sleep(self._delay)
        assert end.number not in self.ends
        self.ends[end.number] = end
        self.most_ahead = max(self.most_ahead, self._source.given - len(self.ends))

    @property
    def codes(self) -> list[int]:
        return [ending_of_task(self.ends[number]).code for number in sorted(self.ends)]


async def run(
    tasks: Sequence[Task],
    change: Callable[[Cloud], Any] = lambda _: None,
    *,
    workers: int = 3,
    module: bytes = MODULE,
    limits: ArrayLimits = LIMITS,
    delay: float = 0.0,
    seconds: float = 1e9,
) -> tuple[Kept, Cloud]:
    """Run an array in a cloud that `change` has made worse."""
    async with trio.open_nursery() as nursery:
        cloud = Cloud(nursery, workers)
        change(cloud)
        source = Given(tasks)
        sink = Kept(source, delay)
        expires = trio.current_time() + seconds
        chooser = SeededChooser("array")
        await Array(cloud, module, source, sink, chooser, limits=limits, expires=expires).run()
        assert all(not worker.open_circuits for worker in cloud.workers.values())
        nursery.cancel_scope.cancel()
    assert len(sink.ends) == source.given
    return sink, cloud


def echoes(count: int, size: int = 10) -> list[Task]:
    return [task("echo", stdin=b"%d " % number * size) for number in range(count)]


async def test_each_task_has_its_own_output_and_is_run_once(autojump_clock: MockClock) -> None:
    tasks = echoes(200)
    sink, cloud = await run(tasks)
    assert [sink.ends[n + 1].result.stdout for n in range(200)] == [t.stdin for t in tasks]  # type: ignore[union-attr]
    assert sum(len(worker.runner.ran) for worker in cloud.workers.values()) == 200
    assert all(worker.circuits <= 1 for worker in cloud.workers.values())
    assert sink.ends[1].worker.startswith("w")


async def test_a_worker_has_one_circuit_and_a_session_for_each_place(
    autojump_clock: MockClock,
) -> None:
    _, cloud = await run([task("sleep", "10")] * 40, workers=2)
    for worker in cloud.workers.values():
        assert worker.circuits == 1
        assert worker.runner.most_open == 2


async def test_no_more_run_at_once_than_allowed(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    await run([task("sleep", "10")] * 12, limits=replace(LIMITS, concurrent=3))
    assert trio.current_time() - began >= 40


async def test_ways_to_end_of_a_program_are_not_tried_again(autojump_clock: MockClock) -> None:
    names = ["TRAP", "OUT_OF_FUEL", "OUT_OF_MEMORY", "TIMEOUT", "OUTPUT_LIMIT"]
    tasks = [task("exit", "0"), task("exit", "3"), *(task("end", name) for name in names)]
    sink, cloud = await run(tasks)
    assert sink.codes == [0, 3, 122, 120, 121, 124, 123]
    assert sum(len(worker.runner.ran) for worker in cloud.workers.values()) == len(tasks)


async def test_a_worker_that_vanishes_costs_no_task(autojump_clock: MockClock) -> None:
    def change(cloud: Cloud) -> None:
        async def later() -> None:
            await trio.sleep(25)
            await cloud[1].vanish()

        cloud.nursery.start_soon(later)

    sink, cloud = await run([task("sleep", "10")] * 60, change)
    assert sink.codes == [0] * 60
    assert cloud[1].runner.killed


async def silent(far: Any) -> None:
    while await far.receive_some():
        pass


async def garbage(far: Any) -> None:
    await far.send_all(b"\xff" * 100)
    await far.aclose()


async def deaf(far: Any) -> None:
    await far.aclose()


@pytest.mark.parametrize("talk", [silent, garbage, deaf])
async def test_hostile_workers_cost_no_task(talk: Any, autojump_clock: MockClock) -> None:
    def change(cloud: Cloud) -> None:
        cloud[1].talk = cloud[2].talk = talk

    sink, _ = await run(echoes(50), change)
    assert sink.codes == [0] * 50


async def test_what_a_host_fails_is_run_elsewhere(autojump_clock: MockClock) -> None:
    class Broken(FakeRunner):
        def open_job(self, _: object) -> Any:
            return super().open_job(Outcome.HOST_FAILURE.name.encode())

    def change(cloud: Cloud) -> None:
        cloud[1].service = make_service(Broken())

    sink, _ = await run(echoes(50), change)
    assert sink.codes == [0] * 50


async def test_a_program_that_is_none_is_told_for_each_task(autojump_clock: MockClock) -> None:
    sink, cloud = await run(echoes(30), module=b"INVALID_MODULE", workers=20)
    assert set(sink.codes) == {126}
    assert sum(worker.circuits for worker in cloud.workers.values()) < 10


async def test_limits_that_no_worker_grants_are_told(autojump_clock: MockClock) -> None:
    asked = replace(task("exit", "0"), limits=replace(task("exit").limits, wall_seconds=900.0))
    sink, _ = await run([asked] * 3)
    assert sink.codes == [126] * 3


async def test_with_nobody_there_the_array_ends_and_says_why(autojump_clock: MockClock) -> None:
    def change(cloud: Cloud) -> None:
        for worker in cloud.workers.values():
            worker.reachable = False

    sink, _ = await run(echoes(5), change)
    assert sink.codes == [125] * 5
    assert "no circuit could be built" in ending_of_task(sink.ends[1]).sentence


async def test_the_deadline_ends_what_is_unfinished(autojump_clock: MockClock) -> None:
    sink, cloud = await run([task("sleep", "15")] * 30, seconds=40)
    assert set(sink.codes) == {0, 124}
    expired = [end for end in sink.ends.values() if end.ending is Ending.EXPIRED]
    assert 0 < len(expired) < 30
    assert any(worker.runner.killed for worker in cloud.workers.values())


async def test_cancelling_ends_what_runs(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        cloud = Cloud(nursery, 2)
        source = Given([task("sleep", "50")] * 30)
        with trio.move_on_after(20):
            await Array(cloud, MODULE, source, Kept(source), SeededChooser(1), limits=LIMITS).run()
        await trio.sleep(1)
        assert sum(len(worker.runner.killed) for worker in cloud.workers.values()) == 4
        assert all(not worker.open_circuits for worker in cloud.workers.values())
        nursery.cancel_scope.cancel()


async def test_thousands_of_tasks_are_read_as_they_are_needed(autojump_clock: MockClock) -> None:
    sink, _ = await run([task("exit", "0")] * 2000)
    assert sink.codes == [0] * 2000
    assert sink.most_ahead < 500


async def test_what_running_tasks_tell_reaches_the_scheduler(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    heard: list[float] = []
    answered: list[float] = []

    class Listening(Scheduler):
        def progress(self, attempt: int, fuel: float, now: float) -> None:
            heard.append(fuel)
            super().progress(attempt, fuel, now)

        def answered(self, *args: Any) -> None:
            answered.append(args[4])
            super().answered(*args)

    monkeypatch.setattr(array_shell, "Scheduler", Listening)
    await run([task("count", "50")], workers=1)
    assert answered == [500]
    assert heard
    assert heard == sorted(heard)
    assert 0 < heard[0] < 500


async def test_a_slow_sink_is_waited_for(autojump_clock: MockClock) -> None:
    tasks = [task("echo", stdin=bytes((1 << 20) - 4))] * 160
    sink, _ = await run(tasks, delay=1.0, limits=replace(LIMITS, concurrent=2))
    assert sink.codes == [0] * 160
    assert sink.most_ahead < 130
