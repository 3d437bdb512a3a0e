"""A worker that shuts down: what it takes no more, lets end, and keeps (spec/08 §3.3)."""

from __future__ import annotations

from pathlib import Path

import trio
from trio.testing import MockClock

from fogbank.relay.job.errors import Cause
from fogbank.relay.job.held.messages import Resumed
from fogbank.relay.job.kinds import State
from fogbank.relay.job.messages import Accepted, Refused, ResultHead, TaskState
from fogbank.sandbox.outcome import Outcome
from tests.relay.test_held_service import (
    HELLO,
    Client,
    Worker,
    back,
    begun,
    restarted,
    results,
    worker,
)
from tests.relay.test_job_service import module, task


async def plain(node: Worker, nursery: trio.Nursery) -> Client:
    """A client whose module is accepted, in a session that is not held."""
    client = node.connect(nursery)
    await client.say(HELLO, module())
    await client.hear_until(Accepted)
    return client


async def test_what_runs_ends_and_nothing_new_begins(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with worker(tmp_path, places=3) as (node, nursery):
        idle, busy = await plain(node, nursery), await plain(node, nursery)
        await busy.say(task(1, "sleep", "30"), task(2, "echo"))
        await busy.hear_until(TaskState, task=1, state=State.RUNNING)
        nursery.start_soon(node.service.drain, 100)
        told = await idle.hear_until(Refused)
        assert (told.cause, told.task) == (Cause.SHUTDOWN, None)
        told = await busy.hear_until(Refused)
        assert (told.cause, told.task) == (Cause.SHUTDOWN, 2)
        await busy.say(task(3, "echo"))
        assert (await busy.hear_until(Refused)).task == 3
        late = node.connect(nursery)
        assert (await late.hear_until(Refused)).cause is Cause.SHUTDOWN
        assert node.service.is_draining
        assert node.service.running == 1
        assert (await busy.hear_until(ResultHead)).outcome is Outcome.COMPLETED
        told = await busy.hear_until(Refused)
        assert (told.cause, told.task) == (Cause.SHUTDOWN, None)
        assert node.runner.killed == []


async def test_what_does_not_end_in_time_is_refused_not_cancelled(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with worker(tmp_path) as (node, nursery):
        client = await plain(node, nursery)
        await client.say(task(1, "sleep", "1000"))
        await client.hear_until(TaskState, state=State.RUNNING)
        nursery.start_soon(node.service.drain, 5)
        told = await client.hear_until(Refused)
        assert (told.cause, told.task) == (Cause.SHUTDOWN, 1)
        assert (await client.hear_until(Refused)).task is None
        assert node.runner.killed == [("sleep", "1000")]
        await client.leave()


async def test_held_sessions_stay_on_the_disk_durable_or_not(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    for durable in (False, True):
        folder = tmp_path / str(durable)
        async with worker(folder) as (node, nursery):
            client = await begun(node, nursery, durable=durable)
            tasks = task(1, "echo", stdin=b"abc"), task(2, "sleep", "1000"), task(3, "exit", "4")
            await client.say(*tasks)
            await client.hear_until(TaskState, task=2, state=State.RUNNING)
            nursery.start_soon(node.service.drain, 5)
            told = await client.hear_until(Refused)
            assert (told.cause, told.task) == (Cause.SHUTDOWN, None), "a task was given up"
            await client.leave()
            await trio.testing.wait_all_tasks_blocked()
            await restarted(node, nursery)
            client = await back(node, nursery)
            states = (1, State.DONE), (2, State.RUNNING), (3, State.QUEUED)
            resumed = await client.hear_until(Resumed)
            assert [one for one, _ in resumed.tasks] == [one for one, _ in states]
            assert await results(client, 3) == dict.fromkeys((1, 2, 3), Outcome.COMPLETED)
            assert client.opened(1) == b"abcsaid"


async def test_a_worker_without_sessions_is_done_at_once(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with worker(tmp_path) as (node, _):
        before = trio.current_time()
        await node.service.drain(100)
        assert trio.current_time() == before
        assert node.service.offer().holding is None


async def test_a_session_that_waits_for_a_place_is_told_too(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with worker(tmp_path) as (node, nursery):
        first = await plain(node, nursery)
        await first.say(task(1, "sleep", "30"))
        await first.hear_until(TaskState, task=1, state=State.RUNNING)
        second = node.connect(nursery)
        await second.say(HELLO, module(), task(1, "echo"))
        await second.hear_until(TaskState, task=0, state=State.QUEUED)
        nursery.start_soon(node.service.drain, 100)
        assert (await second.hear_until(Refused)).cause is Cause.SHUTDOWN
        await first.hear_until(ResultHead)
        assert node.runner.most_open == 1
