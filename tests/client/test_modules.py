"""A module travels once per worker and job (spec/08 §2, MODULE)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from fogbank.client.modules_shell import Module, Modules
from fogbank.client.session_shell import JobSession
from fogbank.relay.job.decoding import decode_from_client
from fogbank.relay.job.errors import Cause, JobRefused
from fogbank.relay.job.frames import Frames
from fogbank.relay.job.limits import Patience
from fogbank.relay.job.messages import ModuleHead
from fogbank.relay.job.service_shell import JobService
from tests.relay.job_fakes import MODULE, FakeRunner, make_service, serve, task

JOB = b"\0asm" + bytes(300_000)


class Heard:
    """A stream to a worker; knows the modules that went over it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._frames = Frames(decode_from_client, lambda _: None)
        self.modules: list[ModuleHead] = []

    async def send_all(self, data: bytes) -> None:
        heard = [message for message, _ in self._frames.feed(data)]
        self.modules += [message for message in heard if isinstance(message, ModuleHead)]
        await self._stream.send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> Any:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


class Place:
    """A worker, and sessions of one job at it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.service: JobService = make_service(FakeRunner(), places=8)
        self.streams: list[Heard] = []
        self._nursery = nursery

    @property
    def modules(self) -> list[int]:
        """The lengths of the modules that were sent, by the sessions in their order."""
        return [head.size for stream in self.streams for head in stream.modules]

    @asynccontextmanager
    async def session(
        self, shared: Module | None, module: bytes = JOB
    ) -> AsyncIterator[JobSession]:
        near, far = memory_stream_pair()
        self._nursery.start_soon(serve, self.service, far)
        stream = Heard(near)
        self.streams.append(stream)
        job = JobSession(module, Patience(), None, None, shared)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(job.serve, stream)
            yield job
            nursery.cancel_scope.cancel()
        await stream.aclose()


@asynccontextmanager
async def place() -> AsyncIterator[Place]:
    async with trio.open_nursery() as nursery:
        yield Place(nursery)
        nursery.cancel_scope.cancel()


async def test_sessions_of_a_job_send_its_module_to_a_worker_once(
    autojump_clock: MockClock,
) -> None:
    shared = Modules().at(bytes(32))
    async with place() as worker:
        done: list[bool] = []

        async def run() -> None:
            async with worker.session(shared) as job:
                done.append((await job.run(task("sleep", "5"))).succeeded)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(run)
        assert done == [True] * 5
        assert sorted(worker.modules) == [0, 0, 0, 0, len(JOB)]
        keys = {head.job_key for stream in worker.streams for head in stream.modules}
        assert keys == {shared.key}


async def test_a_module_that_nobody_has_any_more_is_sent_again(autojump_clock: MockClock) -> None:
    shared = Module()
    async with place() as worker:
        for _ in range(2):
            async with worker.session(shared) as job:
                assert (await job.run(task("exit", "0"))).succeeded
        assert worker.modules == [len(JOB), len(JOB)]


async def test_who_brings_it_and_fails_is_replaced(autojump_clock: MockClock) -> None:
    shared = Module()
    first = object()
    assert not await shared.claim(first)
    async with trio.open_nursery() as nursery:
        claims: list[bool] = []

        async def claim() -> None:
            claims.append(await shared.claim(claim))

        nursery.start_soon(claim)
        await trio.testing.wait_all_tasks_blocked()
        assert claims == []
        shared.gone(first)
    assert claims == [False]
    # Nor does one that hangs keep others from it for ever.
    began = trio.current_time()
    assert not await shared.claim(object())
    assert trio.current_time() - began == 30


async def test_a_worker_that_has_lost_it_is_sent_it_by_the_next(autojump_clock: MockClock) -> None:
    shared = Module()
    shared.arrived(object())
    async with place() as worker:
        async with worker.session(shared) as job:
            with pytest.raises(JobRefused) as refused:
                await job.run(task("exit", "0"))
            assert refused.value.cause is Cause.UNKNOWN
        async with worker.session(shared) as job:
            assert (await job.run(task("exit", "0"))).succeeded
        assert worker.modules == [0, len(JOB)]


async def test_only_who_has_the_key_learns_that_it_is_there(autojump_clock: MockClock) -> None:
    shared = Module()
    async with place() as worker, worker.session(shared) as job:
        assert (await job.run(task("exit", "0"))).succeeded
        stranger, changed = Module(), Module()
        changed.key = shared.key
        for claimed, module in ((stranger, JOB), (changed, MODULE)):
            claimed.arrived(object())
            async with worker.session(claimed, module=module) as second:
                with pytest.raises(JobRefused) as refused:
                    await second.run(task("exit", "0"))
                assert refused.value.cause is Cause.UNKNOWN
        named = Module()
        named.key = shared.key
        named.arrived(object())
        async with worker.session(named) as third:
            assert (await third.run(task("exit", "0"))).succeeded


def test_keys_are_of_one_worker_and_one_job() -> None:
    modules = Modules()
    one, other = modules.at(b"1" * 32), modules.at(b"2" * 32)
    assert modules.at(b"1" * 32) is one
    assert len({one.key, other.key, Modules().at(b"1" * 32).key}) == 3
