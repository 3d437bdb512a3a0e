"""A script goes on to another worker where the consensus was wrong about one (spec/06 §3)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from fogbank.client.errors import NoPath
from fogbank.client.topology import Topology
from fogbank.directory.runtimes import Runtime
from fogbank.nodes.jobs import run_job
from fogbank.relay.job.errors import Cause, JobRefused
from fogbank.relay.job.service_shell import JobService
from fogbank.relay.keys import NodeId
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.runtimes.catalogue import by_name
from tests.client import networks
from tests.relay.job_fakes import CEILINGS, MODULE, RUNTIME, FakeRunner, make_service, serve, task


class FakeUser:
    """A user to whom workers come in order, each held to hold the runtime by the consensus."""

    def __init__(self, nursery: trio.Nursery, services: list[JobService]) -> None:
        self._nursery = nursery
        self._services = services
        self.asked = 0
        held = (RUNTIME.digest,)
        workers = [networks.worker(n, runtimes=held) for n in range(len(services))]
        accepted = (Runtime("python", RUNTIME.digest, 1),)
        consensus = replace(networks.consensus(workers), method=3, runtimes=accepted)
        self.topology = Topology(consensus)

    @asynccontextmanager
    async def worker_stream(
        self, *, runtime: bytes | None = None, tried: set[NodeId] | None = None
    ) -> AsyncIterator[tuple[Any, tuple[str, ...]]]:
        assert runtime in {None, RUNTIME.digest}
        if self.asked == len(self._services):
            raise NoPath("none of the workers is left")
        number = self.asked
        if tried is not None:
            assert len(tried) == number
            tried.add(networks.identity(f"worker {number}"))
        self.asked += 1
        near, far = memory_stream_pair()
        self._nursery.start_soon(serve, self._services[number], far)
        yield near, (f"worker{number}",)
        await near.aclose()


def without_the_runtime() -> JobService:
    """A worker that offers none."""
    return JobService(FakeRunner(), "engine", CEILINGS)


def that_lost_it() -> JobService:
    """A worker that loses it between its offer and the job."""
    runner = FakeRunner()
    runner.runtime_is_lost = True
    return make_service(runner)


async def outcome_of(services: list[JobService], program: Any) -> tuple[Any, int, list[str]]:
    said: list[str] = []
    python = by_name("python")
    assert python is not None
    async with trio.open_nursery() as nursery:
        user: Any = FakeUser(nursery, services)
        try:
            result, path = await run_job(
                user, python if program is None else program, task("exit", "7"), said.append
            )
        except (JobRefused, NoPath) as error:
            return error, user.asked, said
        assert path == (f"worker{user.asked - 1}",)
    return result, user.asked, said


@pytest.mark.parametrize("first", [without_the_runtime, that_lost_it])
async def test_another_worker_runs_what_one_does_not(first: Any, autojump_clock: MockClock) -> None:
    result, asked, said = await outcome_of([first(), make_service(FakeRunner())], None)
    assert (result.exit_code, asked) == (7, 2)
    assert "worker0 does not hold the runtime any more: trying another worker" in said


async def test_four_workers_are_asked_and_no_more(autojump_clock: MockClock) -> None:
    refusal, asked, _ = await outcome_of([without_the_runtime() for _ in range(6)], None)
    assert asked == 4
    assert refusal.cause is Cause.MODULE
    result, asked, _ = await outcome_of([that_lost_it() for _ in range(6)], None)
    assert asked == 4
    assert result.outcome is Outcome.UNKNOWN_RUNTIME


async def test_where_all_have_lost_it_the_error_says_so(autojump_clock: MockClock) -> None:
    error, asked, _ = await outcome_of([that_lost_it(), without_the_runtime()], None)
    assert asked == 2
    assert isinstance(error, NoPath)
    assert "none of the workers that the consensus names holds the runtime python" in str(error)


async def test_a_program_of_one_s_own_is_sent_once(autojump_clock: MockClock) -> None:
    services = [make_service(FakeRunner()), make_service(FakeRunner())]
    result, asked, _ = await outcome_of(services, MODULE)
    assert (result.exit_code, asked) == (7, 1)
    bad = Outcome.INVALID_MODULE.name.encode()
    result, asked, _ = await outcome_of(services, bad)
    assert (result.outcome, asked) == (Outcome.INVALID_MODULE, 1)
