"""The worker's service for jobs (spec/08 §3 to §5): places, queues, time-outs, hostile clients."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair

from fogbank.relay.job.decoding import decode_from_worker
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.frames import Blobs, Frames, frame
from fogbank.relay.job.kinds import State
from fogbank.relay.job.limits import JobLimits
from fogbank.relay.job.messages import (
    Accepted,
    Cancel,
    Hello,
    ModuleHead,
    Offer,
    Pad,
    Refused,
    ResultHead,
    TaskHead,
    TaskState,
)
from fogbank.relay.job.service_shell import JobService
from fogbank.sandbox.outcome import REFUSALS, Outcome
from tests.relay.job_fakes import MODULE, RUNTIME, SMALL, FakeRunner, make_service, serve

DEFAULTS = JobLimits()


class Client:
    """A client by hand: sends bytes, and reads the worker's messages one by one."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.error = ""
        self.is_served = trio.Event()
        self._frames = Frames(decode_from_worker, lambda message: Blobs(message.attachments))
        self._heard: list[Any] = []

    async def ended(self) -> str:
        """The name of the error with which the worker ended the session, or nothing."""
        await self.is_served.wait()
        return self.error

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
            heard = self._frames.feed(data)
            self._heard += [message for message, _ in heard if not isinstance(message, Pad)]
        return self._heard.pop(0)

    async def hear_until(self, kind: type, **fields: Any) -> Any:
        while True:
            message = await self.hear()
            assert message is not None, f"the worker ended before {kind}"
            if isinstance(message, kind) and all(
                getattr(message, name) == value for name, value in fields.items()
            ):
                return message


def module(data: bytes = MODULE) -> bytes:
    return frame(ModuleHead(hashlib.sha256(data).digest(), len(data))) + data


def task(number: int, *args: str, stdin: bytes = b"") -> bytes:
    return frame(TaskHead(number, args, (), (), len(stdin), SMALL, bytes(32))) + stdin


HELLO = frame(Hello())


class Worker:
    """A service and those who speak with it."""

    def __init__(self, nursery: trio.Nursery, runner: FakeRunner, **limits: Any) -> None:
        self.runner = runner
        self.service = make_service(runner, **limits)
        self._nursery = nursery

    def connect(self, pair: Any = memory_stream_pair) -> Client:
        near, far = pair()
        client = Client(near)
        self._nursery.start_soon(self._serve, client, far)
        return client

    async def _serve(self, client: Client, stream: Any) -> None:
        client.error = await serve(self.service, stream)
        client.is_served.set()


@asynccontextmanager
async def worker(**limits: Any) -> AsyncIterator[Worker]:
    """A worker that ends with its last session, and must hold nothing any more."""
    async with trio.open_nursery() as nursery:
        made = Worker(nursery, FakeRunner(), **limits)
        yield made
        nursery.cancel_scope.deadline = trio.current_time() + 300
    assert not nursery.cancel_scope.cancelled_caught
    assert made.service.places.taken == 0
    assert made.runner.open_jobs == 0
    assert made.service.budget.left == made.service.limits.held


async def test_a_session_from_hello_to_result(autojump_clock: MockClock) -> None:
    async with worker() as node:
        client = node.connect()
        await client.say(HELLO)
        offer = await client.hear()
        assert isinstance(offer, Offer)
        assert (offer.engine, offer.load.places, offer.load.taken) == ("engine", 1, 0)
        await client.say(module())
        compiling = TaskState(0, State.RUNNING, "the module is being compiled")
        assert await client.hear() == compiling
        await client.say(task(1, "echo", stdin=b"abc"), task(2, "exit", "7"))
        said = [compiling, *[await client.hear() for _ in range(7)]]
        assert [one.task for one in said[1:3]] == [1, 2]
        assert said[3:5] == [Accepted(), TaskState(1, State.RUNNING, fuel=0)]
        assert said[5] == ResultHead(1, Outcome.COMPLETED, 0, 1, 0, 3, 4, "")
        assert said[6] == TaskState(2, State.RUNNING, fuel=0)
        assert (said[7].task, said[7].exit_code) == (2, 7)
        await client.stream.aclose()
        assert await client.ended() == ""


async def test_a_task_of_a_runtime_that_the_worker_offers(autojump_clock: MockClock) -> None:
    async with worker() as node:
        client = node.connect()
        await client.say(HELLO)
        offer = await client.hear()
        assert offer.runtimes == (RUNTIME.digest,)
        await client.say(frame(ModuleHead(RUNTIME.digest, 0)), task(1, "exit", "7"))
        assert (await client.hear_until(ResultHead)).exit_code == 7
        await client.stream.aclose()
        assert await client.ended() == ""


async def test_a_runtime_that_was_removed_after_the_offer(autojump_clock: MockClock) -> None:
    async with worker() as node:
        client = node.connect()
        await client.say(HELLO)
        assert isinstance(await client.hear(), Offer)
        node.runner.runtime_is_lost = True
        await client.say(frame(ModuleHead(RUNTIME.digest, 0)), task(1, "exit", "0"))
        refused = await client.hear_until(Refused)
        assert (refused.task, refused.outcome) == (None, Outcome.UNKNOWN_RUNTIME)
        await client.stream.send_eof()
        assert await client.ended() == ""
        assert node.runner.ran == []


@pytest.mark.parametrize("outcome", sorted(REFUSALS))
async def test_a_refused_module_ends_the_session(
    outcome: Outcome, autojump_clock: MockClock
) -> None:
    async with worker() as node:
        client = node.connect()
        await client.say(HELLO, module(outcome.name.encode()), task(1, "exit", "0"))
        refused = await client.hear_until(Refused)
        assert refused == Refused(Cause.MODULE, f"it is {outcome.name}", None, outcome)
        await client.stream.send_eof()
        assert await client.hear() is None
        assert await client.ended() == ""
        assert node.runner.ran == []


async def test_cancel_kills_the_running_task_and_the_next_one_runs(
    autojump_clock: MockClock,
) -> None:
    async with worker() as node:
        client = node.connect()
        await client.say(HELLO, module(), task(1, "sleep", "1000"), task(2, "exit", "0"))
        await client.hear_until(TaskState, task=1, state=State.RUNNING)
        await client.say(frame(Cancel(1)))
        result = await client.hear_until(ResultHead)
        assert (result.task, result.outcome) == (1, Outcome.CANCELLED)
        assert node.runner.killed == [("sleep", "1000")]
        assert (await client.hear_until(ResultHead)).task == 2
        await client.stream.aclose()


@pytest.mark.parametrize("how", ["aclose", "cut off", "garbage"])
async def test_the_end_of_the_stream_kills_the_running_task(
    how: str, autojump_clock: MockClock
) -> None:
    async with worker() as node:
        client = node.connect()
        await client.say(HELLO, module(), task(1, "sleep", "1000"))
        await client.hear_until(TaskState, task=1, state=State.RUNNING)
        if how == "cut off":
            await client.say(task(2, "exit", "0")[:-1])
        if how == "garbage":
            await client.say(b"\xff" * 8)
            assert await client.hear() is None
        await client.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert node.runner.killed == [("sleep", "1000")]
        assert await client.ended() == ("" if how == "aclose" else "ProtocolError")


async def test_places_are_bounded_and_given_in_order(autojump_clock: MockClock) -> None:
    async with worker(places=2, waiting=2) as node:
        clients = [node.connect() for _ in range(5)]
        for client in clients:
            await client.say(HELLO, module(), task(1, "sleep", "10"))
            await trio.testing.wait_all_tasks_blocked()
        waiting = await clients[3].hear_until(TaskState, task=0)
        assert waiting.state is State.QUEUED
        assert "1 jobs wait before it" in waiting.reason
        refused = await clients[4].hear_until(Refused)
        assert refused.cause is Cause.BUSY
        ends: list[int] = []

        async def finish(number: int) -> None:
            await clients[number].hear_until(ResultHead)
            ends.append(number)
            await clients[number].stream.aclose()

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(finish, number)
        assert sorted(ends[:2]) == [0, 1]
        assert sorted(ends[2:]) == [2, 3]
        assert node.runner.most_open == 2
        await clients[4].stream.aclose()


async def test_who_waits_for_a_place_hears_of_it_again_and_may_leave(
    autojump_clock: MockClock,
) -> None:
    async with worker() as node:
        first, second, third = (node.connect() for _ in range(3))
        await first.say(HELLO, module(), task(1, "sleep", "90"))
        await trio.testing.wait_all_tasks_blocked()
        await second.say(HELLO, module())
        await trio.testing.wait_all_tasks_blocked()
        await third.say(HELLO, module(), task(1, "exit", "0"))
        for _ in range(2):
            state = await third.hear_until(TaskState, task=0)
            assert state.state is State.QUEUED
        await second.stream.aclose()
        await first.hear_until(ResultHead)
        await first.stream.aclose()
        await third.hear_until(ResultHead)
        await third.stream.aclose()


async def test_sessions_are_bounded(autojump_clock: MockClock) -> None:
    async with worker(sessions=1) as node:
        first = node.connect()
        await trio.testing.wait_all_tasks_blocked()
        second = node.connect()
        refused = await second.hear()
        assert refused.cause is Cause.BUSY
        await second.stream.aclose()
        await first.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        third = node.connect()
        await third.say(HELLO)
        assert isinstance(await third.hear(), Offer)
        await third.stream.aclose()


SILENCES = {
    "nothing": (b"", DEFAULTS.idle_seconds),
    "half a hello": (HELLO[:5], DEFAULTS.pace.seconds_for(65536)),
    "a hello": (HELLO, DEFAULTS.idle_seconds),
    "half a module": (HELLO + module()[:-1], DEFAULTS.pace.seconds_for(65536 + len(MODULE))),
    "a module": (HELLO + module(), 1 + DEFAULTS.idle_seconds),
    "a task": (HELLO + module() + task(1, "sleep", "5"), 6 + DEFAULTS.idle_seconds),
}


@pytest.mark.parametrize("name", SILENCES)
async def test_a_silent_client_is_told_and_then_left(name: str, autojump_clock: MockClock) -> None:
    data, seconds = SILENCES[name]
    async with worker() as node:
        client = node.connect()
        began = trio.current_time()
        if data:
            await client.say(data)
        refused = await client.hear_until(Refused)
        assert refused.cause is Cause.SILENT
        assert trio.current_time() - began == pytest.approx(seconds, abs=0.01)
        assert await client.hear() is None
        assert await client.ended() == "PeerSilent"


async def test_trickling_bytes_do_not_help(autojump_clock: MockClock) -> None:
    async with worker() as node:
        client = node.connect()
        await client.say(HELLO)

        async def trickle() -> None:
            for byte in module(bytes(10_000)):
                await client.say(bytes([byte]))
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle)
            refused = await client.hear_until(Refused)
            nursery.cancel_scope.cancel()
        assert refused.cause is Cause.SILENT


async def test_a_client_that_does_not_read_is_left(autojump_clock: MockClock) -> None:
    async with worker() as node:
        near, far = lockstep_stream_pair()
        ended = []

        async def hold() -> None:
            ended.append(await serve(node.service, far))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold)
            await near.send_all(HELLO)
        assert ended == ["PeerSilent"]


async def test_a_fault_of_the_runner_leaves_others_alone(autojump_clock: MockClock) -> None:
    async with worker(places=2) as node:
        good, bad = node.connect(), node.connect()
        await good.say(HELLO, module(), task(1, "sleep", "5"))
        await bad.say(HELLO, module(), task(1, "bug"))
        while await bad.hear() is not None:
            pass
        assert node.runner.ran == [("bug",)]
        assert (await good.hear_until(ResultHead)).outcome is Outcome.COMPLETED
        await good.stream.aclose()


GOOD = HELLO + module() + task(1, "echo", stdin=b"abc") + frame(Cancel(1)) + task(2, "exit", "0")


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=100),
        st.tuples(st.integers(0, len(GOOD) - 1), st.integers(1, 255)).map(
            lambda pair: GOOD[: pair[0]] + bytes([GOOD[pair[0]] ^ pair[1]]) + GOOD[pair[0] + 1 :]
        ),
        st.integers(0, len(GOOD)).map(lambda end: GOOD[:end]),
    ),
    st.booleans(),
)
def test_hostile_bytes_end_one_session_with_one_error(data: bytes, one_by_one: bool) -> None:
    async def main() -> None:
        async with worker(places=2) as node:
            honest, hostile = node.connect(), node.connect()
            await honest.say(HELLO, module(), task(1, "sleep", "3"))
            for part in [data[at : at + 1] for at in range(len(data))] if one_by_one else [data]:
                try:
                    await hostile.say(part)
                except trio.BrokenResourceError:
                    break
            await trio.testing.wait_all_tasks_blocked()
            await hostile.stream.aclose()
            assert (await honest.hear_until(ResultHead)).outcome is Outcome.COMPLETED
            await trio.testing.wait_all_tasks_blocked()
            assert await hostile.ended() in {"", "ProtocolError"}
            await honest.stream.aclose()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_the_service_satisfies_what_a_node_registers() -> None:
    service: JobService = make_service(FakeRunner())
    assert service.load.places == 1
