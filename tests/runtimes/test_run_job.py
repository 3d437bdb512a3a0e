"""A script goes on to another worker where the consensus was wrong about one (spec/06 §3)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from fogbank.client.array_shell import Array
from fogbank.relay.job.service_shell import JobService
from fogbank.sandbox.outcome import Outcome
from tests.client.networks import SeededChooser
from tests.client.test_array_shell import LIMITS, Cloud, Given, Kept
from tests.relay.job_fakes import CEILINGS, RUNTIME, FakeRunner, make_service, task


def without_the_runtime() -> JobService:
    """A worker that offers none."""
    return JobService(FakeRunner(), "engine", CEILINGS)


def that_lost_it() -> JobService:
    """A worker that loses it between its offer and the job."""
    runner = FakeRunner()
    runner.runtime_is_lost = True
    return make_service(runner)


@pytest.mark.parametrize("wrong", [without_the_runtime, that_lost_it])
async def test_another_worker_runs_what_one_does_not(
    wrong: Callable[[], JobService], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        cloud = Cloud(nursery, 6)
        for number in range(1, 6):
            cloud[number].service = wrong()
        source = Given([task("exit", "7")])
        sink = Kept(source)
        array = Array(cloud, RUNTIME, source, sink, SeededChooser("script"), limits=LIMITS)
        await array.run()
        nursery.cancel_scope.cancel()
    result = sink.ends[1].result
    assert result is not None
    assert (result.outcome, result.exit_code) == (Outcome.COMPLETED, 7)
    assert all(cloud[number].circuits <= 1 for number in range(1, 6))
