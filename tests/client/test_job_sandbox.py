"""Jobs of real programs: client, session, service and the real sandbox (spec/07 §4, spec/08 §6)."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trio
from trio.testing import memory_stream_pair

from fogbank.client.exit_codes import ending_of
from fogbank.client.job_shell import open_job_session, run_task
from fogbank.relay.job.client_session import TaskResult
from fogbank.relay.job.kinds import State
from fogbank.relay.job.limits import JobLimits
from fogbank.relay.job.messages import TaskState
from fogbank.relay.job.service_shell import JobService
from fogbank.sandbox import floor
from fogbank.sandbox.engine import engine_class
from fogbank.sandbox.limits import CompileLimits, Limits, SandboxConfig
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.pool_shell import open_sandbox
from fogbank.sandbox.task import Task
from tests.relay.job_fakes import serve
from tests.sandbox import programs

CONFIG = SandboxConfig(
    processes=2,
    spares=1,
    ceilings=Limits(fuel=1 << 44, memory=1 << 28, wall_seconds=60.0, output=1 << 20),
    compiling=CompileLimits(cpu_seconds=5, wall_seconds=20.0, memory=1 << 29),
)
SMALL = Limits(fuel=10**7, memory=1 << 24, output=100_000, wall_seconds=30.0)
ENDLESS = replace(SMALL, fuel=1 << 44)


@pytest.fixture
async def service() -> AsyncIterator[JobService]:
    async with open_sandbox(CONFIG) as sandbox:
        limits = JobLimits(places=CONFIG.processes)
        yield JobService(sandbox, engine_class(), CONFIG.ceilings, limits)


async def run(service: JobService, module: bytes, task: Task) -> TaskResult:
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, service, far)
        return await run_task(near, module, task)
    raise AssertionError  # a nursery may swallow a cancellation


async def test_a_program_runs_and_its_output_comes_back(service: JobService) -> None:
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, service, far)
        async with open_job_session(near, programs.HELLO) as job:
            for _ in range(3):
                result = await job.run(Task(limits=SMALL))
                assert (result.outcome, result.exit_code) == (Outcome.COMPLETED, 0)
                assert (result.stdout, result.stderr) == (b"hello\n", b"")
                assert 0 < result.fuel < SMALL.fuel
            assert job.offer is not None
            assert job.offer.engine == engine_class()
            assert job.offer.ceilings == CONFIG.ceilings


@pytest.mark.parametrize(
    ("module", "limits", "outcome"),
    [
        (programs.LOOP, SMALL, Outcome.OUT_OF_FUEL),
        (programs.TRAP, SMALL, Outcome.TRAP),
        (programs.FLOOD, ENDLESS, Outcome.OUTPUT_LIMIT),
        (programs.LOOP, replace(ENDLESS, wall_seconds=0.2), Outcome.TIMEOUT),
        (b"\0asm of nothing", SMALL, Outcome.INVALID_MODULE),
        (programs.text('(import "env" "f" (func))'), SMALL, Outcome.UNKNOWN_IMPORT),
    ],
)
async def test_each_outcome_arrives(
    service: JobService, module: bytes, limits: Limits, outcome: Outcome
) -> None:
    result = await run(service, module, Task(limits=limits))
    assert result.outcome is outcome
    assert result.exit_code is None
    assert result.reason


async def test_a_task_is_granted_its_fuel_in_parts(service: JobService) -> None:
    task = Task(stdin=bytes(40_000), limits=SMALL)
    plain = await run(service, programs.ECHO, task)
    near, far = memory_stream_pair()
    pauses: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, service, far)
        async with open_job_session(near, programs.ECHO) as job:

            def hear(state: TaskState) -> None:
                if state.state is State.PAUSED and state.fuel is not None:
                    pauses.append(state.fuel)
                    job.grant(state.task, state.fuel + 30_000)

            parts = await job.run(task, hear, granted=30_000)
    assert replace(parts, run_time_ms=0) == replace(plain, run_time_ms=0)
    assert pauses == list(range(30_000, plain.fuel, 30_000))
    assert len(pauses) > 2


async def test_a_task_below_the_floor_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor, "WINDOW", 0.1)
    async with open_sandbox(replace(CONFIG, floor=1 << 50)) as sandbox:
        slow = JobService(sandbox, engine_class(), CONFIG.ceilings, floor=1 << 50)
        assert slow.offer().floor == 1 << 50
        result = await run(slow, programs.LOOP, Task(limits=ENDLESS))
    assert result.outcome is Outcome.TOO_SLOW
    assert 0 < result.fuel < ENDLESS.fuel
    assert "floor" in result.reason
    assert ending_of(result.outcome, reason=result.reason).code == 119


async def test_a_client_that_goes_away_ends_its_program_and_frees_its_place(
    service: JobService,
) -> None:
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, service, far)
        with trio.CancelScope() as scope:

            def leave(state: TaskState) -> None:
                if state.task:
                    scope.cancel()

            await run_task(near, programs.LOOP, Task(limits=ENDLESS), leave)
        assert scope.cancelled_caught
    assert service.places.taken == 0
    assert service.budget.left == service.limits.held


async def test_input_and_exit_codes_pass(service: JobService) -> None:
    data = bytes(range(256)) * 300
    echoed = await run(service, programs.ECHO, Task(stdin=data, limits=SMALL))
    assert echoed.stdout == data
    for code, told in ((7, 7), (256, 1)):
        result = await run(service, programs.exiting(code), Task(limits=SMALL))
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETED, told)
