"""Sessions that outlive their streams, at a worker's service (spec/08 §3.1, §3.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from nacl.public import PrivateKey
from trio.testing import MockClock, memory_stream_pair

from fogbank.relay.job.decoding import decode_from_worker
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.frames import Blobs, Frames, frame
from fogbank.relay.job.held.messages import Ack, Hold, Resume, Resumed
from fogbank.relay.job.held.opening import Opening
from fogbank.relay.job.held.sealing import HEAD_SIZE
from fogbank.relay.job.held.sessions_shell import HeldSessions
from fogbank.relay.job.kinds import ModulePlace, State
from fogbank.relay.job.limits import HoldingLimits
from fogbank.relay.job.messages import (
    Accepted,
    Cancel,
    Grant,
    Hello,
    ModuleHead,
    Refused,
    ResultHead,
    TaskHead,
    TaskState,
)
from fogbank.relay.job.service_shell import JobService
from fogbank.sandbox.data import whole
from fogbank.sandbox.outcome import Outcome
from tests.relay.job_fakes import RUNTIME, SMALL, FakeRunner, make_service, serve
from tests.relay.test_job_service import module, task

_T = TypeVar("_T")
TICKET = b"t" * 32
SECRET = PrivateKey(b"s" * 32)
HELLO = frame(Hello())
RESUME = frame(Resume(TICKET))


def hold(ticket: bytes = TICKET, *, durable: bool = False) -> bytes:
    return frame(Hold(ticket, bytes(SECRET.public_key), durable))


async def at_once(function: Callable[..., _T], *args: object) -> _T:
    """What waits for the disk does not wait in a test: its clock jumps over threads."""
    await trio.lowlevel.checkpoint()
    return function(*args)


class Client:
    """A client by hand, over one stream."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.error = ""
        self.is_served = trio.Event()
        self.outputs: dict[int, tuple[ResultHead, bytes]] = {}
        self._frames = Frames(decode_from_worker, lambda message: Blobs(message.attachments))
        self._heard: list[Any] = []

    async def say(self, *parts: bytes) -> None:
        await self.stream.send_all(b"".join(parts))

    async def hear(self) -> Any:
        """The next message, or None at the end."""
        while not self._heard:
            try:
                data = await self.stream.receive_some()
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            for message, blobs in self._frames.feed(data):
                self._heard.append(message)
                if isinstance(message, ResultHead):
                    parts = b"".join(map(whole, blobs.take() if blobs else ()))
                    self.outputs[message.task] = message, parts
        return self._heard.pop(0)

    async def hear_until(self, kind: type, **fields: Any) -> Any:
        while True:
            message = await self.hear()
            assert message is not None, f"the worker ended before {kind}"
            if isinstance(message, kind) and all(
                getattr(message, name) == value for name, value in fields.items()
            ):
                return message

    async def leave(self) -> None:
        """Go away, and wait until the worker knows."""
        await trio.aclose_forcefully(self.stream)
        await self.is_served.wait()

    def opened(self, number: int) -> bytes:
        """The output of a task, opened if it came sealed."""
        head, data = self.outputs[number]
        if head.sealed is None:
            return data
        opening = Opening(bytes(SECRET), head.stdout, head.stderr)
        opening.write(memoryview(data))
        return b"".join(map(whole, opening.take()))


class Worker:
    """A worker's service with a folder, which may end and begin anew."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.folder = folder
        self.limits = limits
        self.holding = HoldingLimits()
        self.runner = FakeRunner()
        self.now = 1000.0
        self._scope = trio.CancelScope()
        self.service: JobService
        self.held: HeldSessions

    def connect(self, nursery: trio.Nursery) -> Client:
        near, far = memory_stream_pair()
        client = Client(near)
        nursery.start_soon(self._serve, client, far)
        return client

    async def _serve(self, client: Client, stream: Any) -> None:
        client.error = await serve(self.service, stream)
        client.is_served.set()

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        with trio.CancelScope() as self._scope:
            self.runner = FakeRunner()
            self.service = make_service(self.runner, **self.limits)
            self.held = HeldSessions(self.folder, lambda: self.now, self.holding, at_once)
            self.service.hold_in(self.held)
            async with trio.open_nursery() as nursery:
                await nursery.start(self.service.run)
                await trio.testing.wait_all_tasks_blocked()
                task_status.started()

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self._scope.cancel()


@asynccontextmanager
async def worker(folder: Path, **limits: Any) -> AsyncIterator[tuple[Worker, trio.Nursery]]:
    async with trio.open_nursery() as nursery:
        made = Worker(folder, **limits)
        await nursery.start(made.run)
        yield made, nursery
        nursery.cancel_scope.cancel()
    assert made.service.places.taken == 0
    assert made.runner.open_jobs == 0


async def begun(node: Worker, nursery: trio.Nursery, *, durable: bool = False) -> Client:
    """A client whose module is accepted, in a held session."""
    client = node.connect(nursery)
    await client.say(HELLO, hold(durable=durable), module())
    await client.hear_until(Accepted)
    return client


async def back(node: Worker, nursery: trio.Nursery, *have: tuple[int, int]) -> Client:
    """A client that came back to the session."""
    client = node.connect(nursery)
    await client.say(HELLO, frame(Resume(TICKET, have)))
    return client


async def test_what_runs_goes_on_while_its_client_is_away(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with worker(tmp_path) as (node, nursery):
        client = await begun(node, nursery)
        await client.say(task(1, "sleep", "10"), task(2, "echo", stdin=b"abc"))
        await client.hear_until(TaskState, task=2, state=State.QUEUED)
        await client.leave()
        await trio.sleep(100)
        assert node.runner.ran == [("sleep", "10"), ("echo",)]
        assert node.service.places.taken == 0, "its place was not given back"
        client = await back(node, nursery)
        resumed = await client.hear_until(Resumed)
        done = ((1, State.DONE), (2, State.DONE))
        assert resumed == Resumed(ModulePlace.PARKED, done)
        for number in (1, 2):
            head = await client.hear_until(ResultHead)
            assert (head.task, head.outcome) == (number, Outcome.COMPLETED)
        assert client.outputs[2][0].sealed is not None
        assert client.opened(2) == b"abcsaid"


async def results(client: Client, count: int) -> dict[int, Outcome]:
    heads = [await client.hear_until(ResultHead) for _ in range(count)]
    return {head.task: head.outcome for head in heads}


def folders(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def settled(node: Worker) -> bool:
    """Whether nothing is held any more, on the disk nor in memory."""
    left = node.held._disk.left == node.holding.size
    return left and not node.held.count and not folders(node.folder)


async def restarted(node: Worker, nursery: trio.Nursery) -> None:
    """End the worker by force, and begin it anew."""
    node.kill()
    await trio.testing.wait_all_tasks_blocked()
    await nursery.start(node.run)


@pytest.mark.parametrize("while_away", [False, True])
async def test_a_durable_session_survives_the_end_of_its_worker(
    autojump_clock: MockClock, tmp_path: Path, while_away: bool
) -> None:
    async with worker(tmp_path) as (node, nursery):
        client = await begun(node, nursery, durable=True)
        large = bytes(range(256)) * 400
        tasks = task(1, "sleep", "10"), task(2, "echo", stdin=b"abc"), task(3, "echo", stdin=large)
        await client.say(*tasks)
        for number in (1, 2, 3):
            state = await client.hear_until(TaskState, task=number)
            assert state.state is State.QUEUED, "it runs before it is on the disk"
        if while_away:
            await client.leave()
        await restarted(node, nursery)
        assert node.service.places.taken == 1
        client = await back(node, nursery)
        resumed = await client.hear_until(Resumed)
        assert [one for one, _ in resumed.tasks] == [1, 2, 3]
        assert set(await results(client, 3)) == {1, 2, 3}
        assert client.opened(2) == b"abcsaid"
        assert client.opened(3) == large + b"said"
        assert node.runner.ran == [("sleep", "10"), ("echo",), ("echo",)]
        await client.say(*(frame(Ack(number)) for number in (1, 2, 3)), frame(Cancel(0)))
        assert await client.hear() is None
        await trio.testing.wait_all_tasks_blocked()
        assert settled(node)


async def test_a_result_that_was_kept_survives_too_and_is_sent_until_it_is_acknowledged(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with worker(tmp_path) as (node, nursery):
        client = await begun(node, nursery, durable=True)
        await client.say(task(1, "echo", stdin=b"abc"), task(2, "exit", "3"))
        await client.hear_until(TaskState, task=2)
        await client.leave()
        await trio.sleep(10)
        await restarted(node, nursery)
        assert node.service.places.taken == 0
        for _ in range(2):
            client = await back(node, nursery)
            assert (await client.hear_until(Resumed)).module is ModulePlace.PARKED
            assert await results(client, 2) == dict.fromkeys((1, 2), Outcome.COMPLETED)
            assert client.opened(1) == b"abcsaid"
            await client.leave()
        assert node.runner.ran == [], "what had ended was run again"
        client = await back(node, nursery)
        await client.say(frame(Ack(1)))
        await client.leave()
        await restarted(node, nursery)
        client = await back(node, nursery)
        assert (await client.hear_until(Resumed)).tasks == ((2, State.DONE),)


async def test_what_is_not_durable_gets_on_the_disk_when_its_client_leaves(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with worker(tmp_path) as (node, nursery):
        client = await begun(node, nursery)
        await client.say(task(1, "echo", stdin=b"abc"), task(2, "sleep", "9"), task(3, "exit", "1"))
        await client.hear_until(ResultHead, task=1)
        assert not folders(tmp_path)
        await client.leave()
        await trio.testing.wait_all_tasks_blocked()
        await restarted(node, nursery)
        client = await back(node, nursery)
        resumed = await client.hear_until(Resumed)
        assert resumed.tasks == ((1, State.DONE), (2, State.QUEUED), (3, State.QUEUED))
        assert set(await results(client, 3)) == {1, 2, 3}
        assert client.opened(1) == b"abcsaid"


async def test_what_is_not_durable_is_gone_with_its_worker(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with worker(tmp_path) as (node, nursery):
        client = await begun(node, nursery)
        await client.say(task(1, "echo", stdin=bytes(2 << 20)))
        await client.hear_until(ResultHead)
        assert client.outputs[1][0].sealed is not None, "a large output was not sealed"
        await restarted(node, nursery)
        client = await back(node, nursery)
        assert (await client.hear_until(Refused)).cause is Cause.UNKNOWN
        assert settled(node)


async def test_a_large_output_goes_on_from_the_byte_that_the_client_has(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    data = bytes(range(251)) * 6000
    async with worker(tmp_path) as (node, nursery):
        client = await begun(node, nursery)
        await client.say(task(1, "echo", stdin=data))
        await client.hear_until(ResultHead)
        head, first = client.outputs[1]
        assert head.sealed is not None
        await client.leave()
        for have in (0, 1, HEAD_SIZE + 70_000, len(first), len(first) + 1):
            client = await back(node, nursery, (1, have))
            await client.hear_until(ResultHead)
            head, rest = client.outputs[1]
            offset = have if have <= len(first) else 0
            assert head.sealed is not None
            assert (head.sealed.size, head.sealed.offset) == (len(first), offset)
            assert first[:offset] + rest == first, "another seal"
            await client.leave()


async def test_the_newest_client_has_the_session(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with worker(tmp_path) as (node, nursery):
        client = await begun(node, nursery)
        await client.say(task(1, "sleep", "5"))
        await client.hear_until(TaskState, state=State.RUNNING)
        other = await back(node, nursery)
        resumed = await other.hear_until(Resumed)
        assert resumed == Resumed(ModulePlace.OPEN, ((1, State.RUNNING),))
        await client.is_served.wait()
        assert client.error == "StreamReplaced"
        await other.say(task(2, "exit", "7"))
        assert set(await results(other, 2)) == {1, 2}
        assert node.runner.killed == []


async def test_an_end_for_good_forgets_all(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with worker(tmp_path) as (node, nursery):
        client = await begun(node, nursery, durable=True)
        await client.say(task(1, "sleep", "50"), task(2, "echo"))
        await client.hear_until(TaskState, task=1, state=State.RUNNING)
        await client.say(frame(Cancel(0)))
        assert await client.hear() is None
        assert client.error == ""
        await trio.testing.wait_all_tasks_blocked()
        assert node.runner.killed == [("sleep", "50")]
        assert settled(node)
        client = await back(node, nursery)
        assert (await client.hear_until(Refused)).cause is Cause.UNKNOWN


async def test_a_session_is_forgotten_a_day_after_its_client_left(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with worker(tmp_path) as (node, nursery):
        client = await begun(node, nursery, durable=True)
        await client.say(task(1, "echo", stdin=b"abc"))
        await client.hear_until(ResultHead)
        await client.leave()
        await trio.testing.wait_all_tasks_blocked()
        node.now += node.holding.seconds / 2
        await restarted(node, nursery)
        await trio.sleep(100)
        assert node.held.count == 1
        node.now += node.holding.seconds / 2 + 1
        await trio.sleep(100)
        assert settled(node)


async def test_a_breach_and_silence_end_the_stream_alone(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with worker(tmp_path) as (node, nursery):
        client = await begun(node, nursery)
        await client.say(task(1, "sleep", "30"), task(1, "echo"))
        await client.is_served.wait()
        assert client.error == "ProtocolError"
        client = await back(node, nursery)
        await client.hear_until(ResultHead, task=1)
        assert (await client.hear_until(Refused)).cause is Cause.SILENT
        await client.leave()
        client = await back(node, nursery)
        assert (await client.hear_until(Resumed)).tasks == ((1, State.DONE),)
        assert node.runner.killed == []


@pytest.mark.parametrize("durable", [False, True])
async def test_an_input_that_breaks_off_goes_on_where_it_did(
    autojump_clock: MockClock, tmp_path: Path, durable: bool
) -> None:
    stdin = bytes(range(256)) * 9
    async with worker(tmp_path) as (node, nursery):
        client = await begun(node, nursery, durable=durable)
        before = node.held._disk.left, node.service.budget.left
        whole_task = task(1, "echo", stdin=stdin)
        await client.say(whole_task[: len(whole_task) - len(stdin) + 1000])
        await client.leave()
        client = await back(node, nursery)
        resumed = await client.hear_until(Resumed)
        assert (resumed.tasks, resumed.arriving) == ((), (1, 1000))
        # A second break, before anything more has come, changes nothing.
        await client.leave()
        client = await back(node, nursery)
        assert (await client.hear_until(Resumed)).arriving == (1, 1000)
        head = TaskHead(2, ("echo",), (), (), len(stdin), SMALL, bytes(32), skipped=1000)
        await client.say(frame(head) + stdin[1000:2000])
        await client.leave()
        client = await back(node, nursery)
        assert (await client.hear_until(Resumed)).arriving == (2, 2000)
        await client.say(frame(replace(head, id=3, skipped=2000)) + stdin[2000:])
        await client.hear_until(ResultHead, task=3)
        assert client.opened(3) == stdin + b"said"
        await client.say(frame(Ack(3)))
        await trio.testing.wait_all_tasks_blocked()
        if durable:
            assert (node.held._disk.left, node.service.budget.left) == before
        assert await forgotten(client)
        assert node.service.budget.left == node.service.limits.held
        assert node.held._disk.left == node.holding.size


async def forgotten(client: Client) -> bool:
    await client.say(frame(Cancel(0)))
    while await client.hear() is not None:
        pass
    await client.leave()
    return client.error == ""


@pytest.mark.parametrize(
    "changes",
    [{"skipped": 999}, {"skipped": 1001}, {"stdin": 2001, "skipped": 1000}, {"skipped": 2000}],
)
async def test_an_input_goes_on_where_it_broke_off_and_nowhere_else(
    autojump_clock: MockClock, tmp_path: Path, changes: dict[str, Any]
) -> None:
    async with worker(tmp_path) as (node, nursery):
        client = await begun(node, nursery)
        whole_task = task(1, "echo", stdin=bytes(2000))
        await client.say(whole_task[:-1000])
        await client.leave()
        client = await back(node, nursery)
        head = TaskHead(2, ("echo",), (), (), 2000, SMALL, bytes(32), skipped=1000)
        await client.say(frame(replace(head, **changes)) + bytes(1000))
        await client.is_served.wait()
        assert client.error == "ProtocolError"
        # The session is none the worse for it.
        client = await back(node, nursery)
        assert (await client.hear_until(Resumed)).arriving == (1, 1000)
        await client.say(frame(replace(head, id=3)) + bytes(1000))
        await client.hear_until(ResultHead, task=3)


async def test_what_came_of_an_input_makes_room_for_another(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with worker(tmp_path, input_size=3000) as (node, nursery):
        client = await begun(node, nursery)
        await client.say(task(1, "echo", stdin=bytes(2000))[:-1000])
        await client.leave()
        client = await back(node, nursery)
        assert (await client.hear_until(Resumed)).arriving == (1, 1000)
        await client.say(task(2, "echo", stdin=bytes(2500)))
        await client.hear_until(ResultHead, task=2)
        await client.leave()
        client = await back(node, nursery)
        assert (await client.hear_until(Resumed)).arriving is None


async def test_a_hold_without_a_module_leaves_nothing(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with worker(tmp_path) as (node, nursery):
        client = node.connect(nursery)
        await client.say(HELLO, hold(durable=True), module()[:-1])
        await trio.testing.wait_all_tasks_blocked()
        await client.leave()
        await trio.testing.wait_all_tasks_blocked()
        assert settled(node)
        assert node.service.budget.left == node.service.limits.held


async def test_held_sessions_are_bounded_and_those_that_nobody_misses_make_room(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with worker(tmp_path) as (node, nursery):
        node.holding = node.held.limits = HoldingLimits(sessions=2)
        clients = []
        for number in (1, 2):
            client = node.connect(nursery)
            await client.say(HELLO, hold(bytes([number]) * 32), module(), task(1, "sleep", "1"))
            clients.append(client)
        third = node.connect(nursery)
        await third.say(HELLO, hold())
        assert (await third.hear_until(Refused)).cause is Cause.BUSY
        await clients[1].leave()
        await clients[0].hear_until(ResultHead)
        await clients[0].say(frame(Ack(1)))
        await trio.testing.wait_all_tasks_blocked()
        await clients[0].leave()
        await begun(node, nursery)
        first = node.connect(nursery)
        await first.say(HELLO, frame(Resume(bytes([1]) * 32)))
        assert (await first.hear_until(Refused)).cause is Cause.UNKNOWN
        second = node.connect(nursery)
        await second.say(HELLO, frame(Resume(bytes([2]) * 32)))
        await second.hear_until(ResultHead, task=1)


async def test_a_full_disk_refuses_tasks_and_fails_outputs_but_loses_none(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with worker(tmp_path) as (node, nursery):
        client = await begun(node, nursery, durable=True)
        node.held._disk.take(node.held._disk.left - 20_000)
        await client.say(task(1, "echo", stdin=bytes(15_000)), task(2, "echo", stdin=bytes(15_000)))
        assert (await client.hear_until(Refused)).task == 2
        await client.hear_until(ResultHead, task=1)
        await client.say(frame(Ack(1)), task(3, "sleep", "1"), task(4, "echo", stdin=bytes(15_000)))
        await client.hear_until(TaskState, task=4, state=State.QUEUED)
        await client.leave()
        await trio.sleep(10)
        client = await back(node, nursery)
        assert await results(client, 2) == {3: Outcome.COMPLETED, 4: Outcome.HOST_FAILURE}


async def test_a_disk_that_fails_refuses_what_was_to_be_durable(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with worker(tmp_path) as (node, nursery):
        client = await begun(node, nursery, durable=True)
        tmp_path.joinpath(folders(tmp_path)[0], "journal").unlink()
        await client.say(task(1, "echo"))
        refused = await client.hear_until(Refused)
        assert (refused.task, refused.cause) == (1, Cause.BUSY)
        other = node.connect(nursery)
        node.held._folder = tmp_path / "no" / "file"
        (tmp_path / "no").write_text("")
        await other.say(HELLO, hold(b"u" * 32, durable=True), module())
        refused = await other.hear_until(Refused)
        assert (refused.task, refused.cause) == (None, Cause.BUSY)


async def test_a_module_that_is_refused_while_nobody_is_there_is_told_later(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with worker(tmp_path) as (node, nursery):
        client = node.connect(nursery)
        refused = module(Outcome.INVALID_MODULE.name.encode())
        await client.say(HELLO, hold(), refused, task(1, "echo"))
        await client.hear_until(TaskState, task=1)
        await client.leave()
        await trio.sleep(10)
        client = await back(node, nursery)
        told = await client.hear_until(Refused)
        assert (told.cause, told.outcome) == (Cause.MODULE, Outcome.INVALID_MODULE)
        await client.leave()
        await trio.testing.wait_all_tasks_blocked()
        assert settled(node)


@pytest.mark.parametrize(("failures", "helps"), [(2, True), (99, False)])
async def test_a_worker_that_fails_while_nobody_is_there_tries_again(
    autojump_clock: MockClock, tmp_path: Path, failures: int, helps: bool
) -> None:
    async with worker(tmp_path) as (node, nursery):
        client = await begun(node, nursery, durable=True)
        await client.say(task(1, "sleep", "5"), task(2, "echo", stdin=b"abc"))
        await client.hear_until(TaskState, task=2)
        await client.leave()
        node.kill()
        await trio.testing.wait_all_tasks_blocked()
        await nursery.start(node.run)
        node.runner.failures = failures
        await trio.sleep(1000)
        assert node.service.places.taken == 0
        client = await back(node, nursery)
        if helps:
            assert await results(client, 2) == dict.fromkeys((1, 2), Outcome.COMPLETED)
            assert client.opened(2) == b"abcsaid"
        else:
            told = await client.hear_until(Refused)
            assert (told.cause, told.outcome) == (Cause.MODULE, Outcome.HOST_FAILURE)


async def test_a_parked_session_gets_its_place_and_its_module_anew(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with worker(tmp_path) as (node, nursery):
        client = node.connect(nursery)
        await client.say(HELLO, hold(durable=True), frame(ModuleHead(RUNTIME.digest, 0)))
        await client.hear_until(Accepted)
        await client.leave()
        await trio.testing.wait_all_tasks_blocked()
        assert (node.service.places.taken, node.runner.open_jobs) == (0, 0)
        client = await back(node, nursery)
        assert await client.hear_until(Resumed) == Resumed(ModulePlace.PARKED)
        await client.say(task(1, "echo", stdin=b"abc"))
        await client.hear_until(Accepted)
        await client.hear_until(ResultHead)
        assert client.opened(1) == b"abcsaid"


async def test_grants_and_cancels_hold_over_the_end_of_the_worker(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    def counted(number: int) -> bytes:
        return frame(TaskHead(number, ("count", "6"), (), (), 0, SMALL, bytes(32), 20))

    async with worker(tmp_path) as (node, nursery):
        client = await begun(node, nursery, durable=True)
        await client.say(counted(1), counted(2), counted(3))
        await client.hear_until(TaskState, task=1, state=State.PAUSED)
        await client.say(frame(Cancel(3)))
        assert (await client.hear_until(ResultHead)).outcome is Outcome.CANCELLED
        await client.leave()
        await trio.sleep(1000)
        client = await back(node, nursery)
        states = ((1, State.PAUSED), (2, State.QUEUED), (3, State.DONE))
        assert (await client.hear_until(Resumed)).tasks == states
        from_now = frame(Grant(1, 60)), frame(Grant(2, 60))
        await client.say(*from_now)
        await trio.testing.wait_all_tasks_blocked()
        await restarted(node, nursery)
        client = await back(node, nursery)
        assert await results(client, 3) == {
            1: Outcome.COMPLETED,
            2: Outcome.COMPLETED,
            3: Outcome.CANCELLED,
        }
