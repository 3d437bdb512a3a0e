"""Arrays whose sessions workers hold: links that break, clients that leave (spec/11 §3.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fogbank.client.array_shell import Array
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.tasks import ArrayTask, TaskEnd
from fogbank.client.scheduling.words import Ending
from fogbank.relay.job.client_tasks import ClientTasks
from fogbank.relay.job.decoding import decode_from_client
from fogbank.relay.job.frames import Frames, frame
from fogbank.relay.job.held.messages import Ack, Hold, Resume, Resumed
from fogbank.relay.job.kinds import ModulePlace, State
from fogbank.relay.job.messages import Hello, ModuleHead, Pad, TaskHead
from fogbank.sandbox.data import whole
from fogbank.sandbox.task import Task
from tests.client.holders import OFFER, Holder, Holders, Line, Remembered
from tests.client.networks import SeededChooser
from tests.relay.job_fakes import MODULE, SMALL

LIMITS = ArrayLimits(concurrent=4, gain=0.0)
"""Without copies of stragglers: what runs twice then is run again."""


class Tasks:
    """A source of tasks whose input is their number, but for those that have ended; and a sink."""

    def __init__(self, count: int, ended: Any = ()) -> None:
        self._numbers = iter([n for n in range(1, count + 1) if n not in ended])
        self.ends: list[TaskEnd] = []

    async def next(self) -> ArrayTask | None:
        await trio.lowlevel.checkpoint()
        number = next(self._numbers, None)
        if number is None:
            return None
        return ArrayTask(number, Task(stdin=b"%d" % number, limits=SMALL))

    async def take(self, end: TaskEnd) -> None:
        await trio.lowlevel.checkpoint()
        self.ends.append(end)


def array(cloud: Holders, journal: Remembered | None, count: int, **options: Any) -> Array:
    tasks = Tasks(count, () if journal is None else journal.ends)
    options = {"limits": LIMITS, "journal": journal, **options}
    return Array(cloud, MODULE, tasks, tasks, SeededChooser("held"), **options)


@asynccontextmanager
async def holders(count: int, seconds: float = 1.0) -> AsyncIterator[Holders]:
    async with trio.open_nursery() as nursery:
        yield Holders(nursery, count, seconds)
        nursery.cancel_scope.cancel()


def all_done(journal: Remembered, count: int) -> bool:
    return sorted(journal.ends) == [*range(1, count + 1)] and all(
        end.result is not None and whole(end.result.stdout) == b"%d" % number
        for number, end in journal.ends.items()
    )


async def test_an_array_settles_everything_at_its_workers(autojump_clock: MockClock) -> None:
    async with holders(3) as cloud:
        journal = Remembered()
        await array(cloud, journal, 20).run()
        assert all_done(journal, 20)
        assert sorted(map(int, cloud.ran)) == [*range(1, 21)]
        assert not journal.lanes
        assert all(not worker.sessions for worker in cloud.workers.values())
        assert sum(len(worker.acknowledged) for worker in cloud.workers.values()) == 20


async def test_nothing_is_said_before_the_journal_knows_it(autojump_clock: MockClock) -> None:
    """HOLD after the ticket, TASK after its id, ACK after the result."""

    class Strict(Remembered):
        worker: Holder

        async def lane_opening(self, *args: Any) -> None:
            assert not any(isinstance(message, Hold) for message in self.worker.heard)
            await super().lane_opening(*args)

        async def sent(self, lane: int, tasks: Any) -> None:
            sent = {each.id for each in self.worker.heard if isinstance(each, TaskHead)}
            assert not sent & set(tasks)
            await super().sent(lane, tasks)

        async def ended(self, ends: Any) -> None:
            before = len([each for each in self.worker.heard if isinstance(each, Ack)])
            await super().ended(ends)
            assert before == len([each for each in self.worker.heard if isinstance(each, Ack)])

    async with holders(1) as cloud:
        journal = Strict()
        journal.worker = cloud[1]
        await array(cloud, journal, 6).run()
        assert all_done(journal, 6)
        kinds = [type(message) for message in cloud[1].heard if not isinstance(message, Pad)]
        assert kinds[:4] == [Hello, Hold, ModuleHead, TaskHead]
        assert kinds.count(Ack) == 6


async def test_a_link_that_breaks_costs_no_task(autojump_clock: MockClock) -> None:
    async with holders(2, 3.0) as cloud:
        journal = Remembered()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(array(cloud, journal, 8).run)
            for _ in range(3):
                await trio.sleep(2.9)
                for worker in cloud.workers.values():
                    await worker.break_streams()
        assert all_done(journal, 8)
        assert sorted(map(int, cloud.ran)) == [*range(1, 9)], "something ran twice"
        assert not journal.lanes


@pytest.mark.parametrize("part", range(8))
async def test_a_stream_cut_at_any_byte_gives_each_result_once(
    part: int, autojump_clock: MockClock
) -> None:
    for cut in range(part, 440, 8):
        async with holders(1) as cloud:
            journal = Remembered()
            cloud[1].cuts = [cut, cut // 2 + 150, 260]
            await array(cloud, journal, 3).run()
            assert all_done(journal, 3)
            # Before the session is held, nothing can be gone back to.
            assert len(cloud.ran) == 3, f"cut at {cut}: something ran twice"


@pytest.mark.parametrize("seconds", [0.2, 0.7, 1.05, 1.5, 2.35, 3.0, 7.0])
async def test_a_client_that_ends_finds_what_went_on(
    seconds: float, autojump_clock: MockClock
) -> None:
    async with holders(2) as cloud:
        journal = Remembered()
        rounds = 0
        while len(journal.ends) < 12:
            rounds += 1
            assert rounds < 50
            with trio.move_on_after(seconds):
                await array(cloud, journal, 12).run()
            await trio.sleep(1.3)
        assert all_done(journal, 12)
        assert sorted(map(int, cloud.ran)) == [*range(1, 13)], "something ran twice"
        await array(cloud, journal, 12).run()
        assert not journal.lanes
        assert all(not worker.sessions for worker in cloud.workers.values())


async def test_what_a_worker_lost_is_run_elsewhere(autojump_clock: MockClock) -> None:
    async with holders(2, 5.0) as cloud:
        journal = Remembered()
        with trio.move_on_after(3):
            await array(cloud, journal, 4).run()
        assert journal.lanes
        cloud[1].reachable = False
        await cloud[2].die()
        began = trio.current_time()
        cloud[1].reachable = True
        await array(cloud, journal, 4).run()
        assert all_done(journal, 4)
        assert trio.current_time() - began < 60


async def test_a_worker_that_is_gone_is_not_waited_for_without_end(
    autojump_clock: MockClock,
) -> None:
    async with holders(2, 5.0) as cloud:
        journal = Remembered()
        with trio.move_on_after(3):
            await array(cloud, journal, 4).run()
        cloud[1].reachable = False
        await cloud[1].break_streams()
        began = trio.current_time()
        await array(cloud, journal, 4).run()
        assert all_done(journal, 4)
        assert 20 < trio.current_time() - began < 80


@pytest.mark.parametrize(("has_part", "least"), [(False, 5), (True, 30)])
async def test_who_has_a_part_of_a_large_output_comes_back_for_longer(
    has_part: bool, least: float, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClientTasks, "has_part", has_part)
    ended: list[float] = []

    class Timed(Remembered):
        async def ended(self, ends: Any) -> None:
            await super().ended(ends)
            ended.append(trio.current_time())

    async with holders(2, 3.0) as cloud:
        journal = Timed()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(array(cloud, journal, 2).run)
            await trio.sleep(2)
            cloud[1].reachable = False
            await cloud[1].break_streams()
            lost = trio.current_time()
        assert least < ended[-1] - lost < least + 6
        assert all_done(journal, 2)


async def test_what_a_worker_holds_for_nobody_is_forgotten_once_it_is_back(
    autojump_clock: MockClock,
) -> None:
    async with holders(2, 8.0) as cloud:
        journal = Remembered()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(array(cloud, journal, 30).run)
            await trio.sleep(3)
            cloud[1].reachable = False
            await cloud[1].break_streams()
            await trio.sleep(60)
            assert cloud[1].sessions
            cloud[1].reachable = True
            await trio.sleep(170)
            held = {id(each) for each in cloud[1].sessions.values()}
            assert len(held) <= 1, "it holds more than what it runs now"
        assert all_done(journal, 30)
        assert not journal.lanes
        assert not cloud[1].sessions


async def test_a_client_without_network_loses_nothing(autojump_clock: MockClock) -> None:
    async with holders(2, 20.0) as cloud:
        journal = Remembered()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(array(cloud, journal, 2).run)
            await trio.sleep(15)
            cloud.online = False
            for worker in cloud.workers.values():
                await worker.break_streams()
            await trio.sleep(10)
            cloud.online = True
        assert all_done(journal, 2)
        assert len(cloud.ran) == 2


async def test_links_that_always_break_do_not_draw_ever_new_paths(
    autojump_clock: MockClock,
) -> None:
    """One worker can be reached; the links to the others break as soon as they stand."""
    async with holders(12, 30.0) as cloud:
        journal = Remembered()
        running = array(cloud, journal, 60, limits=ArrayLimits(concurrent=12, gain=0.0))
        with trio.move_on_after(600):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(running.run)
                await trio.sleep(20)
                built = sum(worker.circuits for worker in cloud.workers.values())
                assert built <= 16
                while True:
                    for number in range(2, 13):
                        await cloud[number].break_streams()
                    await trio.sleep(0.1)
        built = sum(worker.circuits for worker in cloud.workers.values())
        # The scheduler's budget, that of coming back, and what time and answers gave back.
        assert built < 16 + 3 * (64 + 600 / 30) + 40


async def test_all_is_handed_over_and_found_again(autojump_clock: MockClock) -> None:
    async with holders(2, 4.0) as cloud:
        journal = Remembered()
        first = array(cloud, journal, 20, durable=True)
        first.hand_over()
        began = trio.current_time()
        await first.run()
        assert trio.current_time() - began < 10
        assert first.waiting == 0
        assert len(journal.ends) < 20
        assert all(
            session.durable for w in cloud.workers.values() for session in w.sessions.values()
        )
        for worker in cloud.workers.values():
            await worker.die()
        await trio.sleep(1000)
        began = trio.current_time()
        await array(cloud, journal, 20).run()
        assert all_done(journal, 20)
        assert len(cloud.ran) == 20
        assert trio.current_time() - began < 2


async def test_what_no_worker_takes_waits_for_the_client(autojump_clock: MockClock) -> None:
    """Two workers hold 64 tasks each; there are 200."""
    async with holders(2, 10.0) as cloud:
        journal = Remembered()
        first = array(cloud, journal, 200, durable=True)
        first.hand_over()
        began = trio.current_time()
        await first.run()
        assert trio.current_time() - began < 60
        sent = sum(len(tasks) for _, _, tasks in journal.lanes.values())
        queued = sum(len(s.queue) for w in cloud.workers.values() for s in w.sessions.values())
        assert sent == queued
        assert sent + len(journal.ends) >= 128
        await trio.sleep(2000)
        await array(cloud, journal, 200).run()
        assert all_done(journal, 200)
        assert len(cloud.ran) == 200


async def test_an_array_that_is_cancelled_ends_what_runs(autojump_clock: MockClock) -> None:
    async with holders(2, 50.0) as cloud:
        journal = Remembered()
        with trio.move_on_after(3):
            await array(cloud, journal, 4).run()
        assert any(worker.sessions for worker in cloud.workers.values())
        again = array(cloud, journal, 4)
        again.cancel()
        await again.run()
        assert all(not worker.sessions for worker in cloud.workers.values())
        assert not journal.lanes
        assert {end.ending for end in journal.ends.values()} <= {Ending.CANCELLED}


async def _lie(line: Line, what: bytes) -> None:
    """Hold nothing, and say something untrue when a session is asked for."""
    frames: Frames[Any] = Frames(decode_from_client, lambda _: None)
    while data := await line.stream.receive_some():
        for message, _ in frames.feed(data):
            if isinstance(message, Hello | Resume):
                line.say(frame(OFFER) if isinstance(message, Hello) else what)


LIES: dict[str, bytes] = {
    "tasks that it was never sent": frame(
        Resumed(ModulePlace.OPEN, tuple((n, State.DONE) for n in range(1, 4000)))
    ),
    "nothing is there": frame(Resumed(ModulePlace.PARKED)),
    "it is resumed twice": 2 * frame(Resumed(ModulePlace.PARKED)),
    "all is done, and nothing comes": frame(Resumed(ModulePlace.OPEN, ((1, State.DONE),))),
    "no frame": b"\xff" * 100,
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_worker_that_lies_when_it_is_come_back_to_costs_no_task(
    lie: str, autojump_clock: MockClock
) -> None:
    async with holders(2, 5.0) as cloud:
        journal = Remembered()
        with trio.move_on_after(3):
            await array(cloud, journal, 4).run()
        cloud[1].talk = lambda stream: _lie(stream, LIES[lie])
        await cloud[1].break_streams()
        began = trio.current_time()
        await array(cloud, journal, 4, limits=ArrayLimits(concurrent=4)).run()
        assert all_done(journal, 4)
        assert trio.current_time() - began < 60
