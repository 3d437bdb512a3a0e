"""The sandbox as others use it: real jailed processes (spec/07 §4, §8)."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing

from fogbank.sandbox import pool_shell
from fogbank.sandbox.jail import MANDATORY, SandboxUnavailable
from fogbank.sandbox.limits import MODULE_SIZE, CompileLimits, LimitError, Limits, SandboxConfig
from fogbank.sandbox.meter import Reading
from fogbank.sandbox.outcome import ModuleRefused, Outcome
from fogbank.sandbox.pool_shell import Job, Sandbox, open_sandbox
from fogbank.sandbox.process_shell import Starter
from fogbank.sandbox.supply_shell import Supply
from fogbank.sandbox.task import Task, TaskError
from tests.sandbox import programs

ROOT = Path(__file__).resolve().parents[2]
CONFIG = SandboxConfig(
    processes=2,
    spares=1,
    ceilings=Limits(fuel=1 << 44, memory=1 << 28, wall_seconds=60.0, output=1 << 20),
    compiling=CompileLimits(cpu_seconds=1, wall_seconds=20.0, memory=1 << 29),
)
IDLE = 2
"""A spare runner and a spare compiler."""
SMALL = Limits(fuel=10**7, memory=1 << 24, output=100_000, wall_seconds=30.0)
TASK = Task(limits=SMALL)
ENDLESS = replace(TASK, limits=replace(SMALL, fuel=1 << 44))

LOOP_IF_TOLD = programs.command(
    "(drop (call $args_sizes_get (i32.const 0) (i32.const 4)))"
    "(if (i32.gt_u (i32.load (i32.const 0)) (i32.const 1)) (then (loop (br 0))))",
    "args_sizes_get",
)
FOREVER = replace(ENDLESS, args=("program", "loop"))


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with open_sandbox(CONFIG) as opened:
        yield opened


def children(pid: int) -> list[int]:
    return [
        int(child)
        for thread in Path(f"/proc/{pid}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]


async def launcher(sandbox: Sandbox) -> tuple[int, int]:
    """The process that was started, and the one in it that forks."""
    outer = (await cast(Starter, sandbox._jobs._starter).launcher())._process.pid
    (inner,) = children(outer)
    return outer, inner


async def settled(pid: int, count: int) -> list[int]:
    """The children of a process, once it has so many: it forks and reaps in its own time."""
    with trio.fail_after(20):
        while len(found := children(pid)) != count:  # noqa: ASYNC110 -- the kernel sets no event
            await trio.sleep(0.001)
    return found


def watch(pids: list[int]) -> list[int]:
    return [os.pidfd_open(pid) for pid in pids]


async def wait_gone(pidfds: list[int]) -> None:
    with trio.fail_after(20):
        for pidfd in pidfds:
            await trio.lowlevel.wait_readable(pidfd)
            os.close(pidfd)


async def jailed(sandbox: Sandbox, job: Job) -> int:
    """The pid of a job's process: the oldest fork that is neither a spare nor a compiler."""
    assert job._process is not None
    _, inner = await launcher(sandbox)
    return children(inner)[0]  # listed by age


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


async def refused(sandbox: Sandbox, module: bytes) -> ModuleRefused:
    with pytest.raises(ModuleRefused) as info:
        async with sandbox.open_job(module):
            raise AssertionError("it was not refused")
    assert info.value.reason
    return info.value


async def test_the_jail_is_reported_and_a_job_runs_several_tasks(sandbox: Sandbox) -> None:
    assert set(MANDATORY) <= set(sandbox.report.active)
    async with sandbox.open_job(programs.ECHO) as job:
        for text in (b"one", b"two", bytes(200_000)):
            result = await job.run(Task(stdin=text, limits=replace(SMALL, output=1 << 20)))
            assert result.succeeded
            assert result.stdout == text
            assert result.seconds > 0


async def test_the_kernel_says_that_a_jobs_process_is_jailed(sandbox: Sandbox) -> None:
    async with sandbox.open_job(programs.HELLO) as job:
        assert (await job.run(TASK)).succeeded
        found = status(await jailed(sandbox, job))
    assert found["Seccomp"] == "2"
    assert found["NoNewPrivs"] == "1"
    assert found["Threads"] == "1"
    assert all(int(found[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"))
    assert len(set(found["Uid"].split())) == 1
    assert found["Uid"].split()[0] != "0"


async def test_a_small_module_is_compiled_where_it_runs_and_else_by_a_compiler(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[int] = []
    compile_module = Sandbox._compile

    async def counting(self: Sandbox, module: bytes) -> bytes:
        compiled.append(len(module))
        return await compile_module(self, module)

    monkeypatch.setattr(Sandbox, "_compile", counting)
    large = programs.padded(programs.HELLO, pool_shell.QUICK_SIZE)
    unknown = programs.text(
        '(import "env" "f" (func)) (memory (export "memory") 1) (func (export "_start"))'
    )
    told = set()
    for seconds in (10.0, 0.0):
        # Where a runner does not get it done, a compiler says the same.
        monkeypatch.setattr(pool_shell, "_QUICK_SECONDS", seconds)
        for module in (programs.HELLO, large):
            async with sandbox.open_job(module) as job:
                assert (await job.run(TASK)).stdout == b"hello\n"
        refusal = await refused(sandbox, unknown)
        told.add((refusal.outcome, refusal.reason))
    assert compiled == [len(large), len(programs.HELLO), len(large), len(unknown)]
    assert [outcome for outcome, _ in told] == [Outcome.UNKNOWN_IMPORT]


@pytest.mark.parametrize(
    ("module", "outcome", "code"),
    [
        (programs.HELLO, Outcome.COMPLETED, 0),
        (programs.exiting(9), Outcome.COMPLETED, 9),
        (programs.LOOP, Outcome.OUT_OF_FUEL, None),
        (programs.TRAP, Outcome.TRAP, None),
        (programs.RECURSION, Outcome.TRAP, None),
        (programs.GROW_AND_FAIL, Outcome.OUT_OF_MEMORY, None),
        (programs.HUGE, Outcome.OUT_OF_MEMORY, None),
        (programs.FLOOD, Outcome.OUTPUT_LIMIT, None),
    ],
    ids=["hello", "exit", "loop", "trap", "recursion", "grow", "huge", "flood"],
)
async def test_outcomes_in_the_jail(
    sandbox: Sandbox, module: bytes, outcome: Outcome, code: int | None
) -> None:
    async with sandbox.open_job(module) as job:
        first, second = await job.run(TASK), await job.run(TASK)
    assert (first.outcome, first.exit_code) == (outcome, code)
    assert replace(first, seconds=0.0) == replace(second, seconds=0.0)


async def test_modules_that_cannot_run_are_refused(sandbox: Sandbox) -> None:
    many_calls = programs.command("(call $f) " * 400_000, more="(func $f)")
    for module, outcome in (
        (b"", Outcome.INVALID_MODULE),
        (b"(module)", Outcome.INVALID_MODULE),
        (programs.HELLO[:-1], Outcome.INVALID_MODULE),
        (programs.HELLO + bytes(MODULE_SIZE), Outcome.INVALID_MODULE),
        (programs.text('(import "env" "f" (func))'), Outcome.UNKNOWN_IMPORT),
        (many_calls, Outcome.COMPILE_LIMIT),
    ):
        assert (await refused(sandbox, module)).outcome is outcome
    async with sandbox.open_job(programs.HELLO) as job:
        assert (await job.run(TASK)).succeeded


async def test_a_task_that_takes_too_long_is_ended_and_the_job_goes_on(sandbox: Sandbox) -> None:
    async with sandbox.open_job(LOOP_IF_TOLD) as job:
        result = await job.run(replace(FOREVER, limits=replace(FOREVER.limits, wall_seconds=0.1)))
        assert (result.outcome, result.exit_code) == (Outcome.TIMEOUT, None)
        assert "0.1 s" in result.reason
        assert (await job.run(TASK)).succeeded


async def test_cancelling_ends_the_process_and_the_job_goes_on(sandbox: Sandbox) -> None:
    async with sandbox.open_job(LOOP_IF_TOLD) as job:
        pidfds = watch([await jailed(sandbox, job)])
        with trio.move_on_after(0.05) as scope:
            await job.run(FOREVER)
        assert scope.cancelled_caught
        await wait_gone(pidfds)
        assert (await job.run(TASK)).succeeded


FILL = programs.command(
    "(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 268435456)) (br 0))", memory="4096"
)
LONG_CALL = programs.command(
    "(loop (drop (call $random_get (i32.const 0) (i32.const 67108864))) (br 0))",
    "random_get",
    memory="1024",
)


@pytest.mark.parametrize("module", [FILL, LONG_CALL], ids=["fill", "host call"])
async def test_cancelling_ends_what_never_looks_up(sandbox: Sandbox, module: bytes) -> None:
    """Neither an instruction on all of a large memory nor a long call of the host is waited for."""
    task = replace(ENDLESS, limits=replace(ENDLESS.limits, memory=1 << 28))
    async with sandbox.open_job(module) as job:
        pidfds = watch([await jailed(sandbox, job)])
        with trio.move_on_after(0.2) as scope:
            await job.run(task)
        assert scope.cancelled_caught
        await wait_gone(pidfds)


async def test_a_task_pauses_in_the_jail_and_goes_on_as_if_nothing_were(sandbox: Sandbox) -> None:
    limits = replace(SMALL, output=1 << 20)
    task = Task(stdin=bytes(200_000), limits=limits)
    async with sandbox.open_job(programs.ECHO) as job:
        plain = await job.run(task)
        pauses: list[int] = []

        def on_reading(reading: Reading) -> None:
            if reading.is_paused:
                pauses.append(reading.fuel)
                supply.grant(reading.fuel + 2_000)

        supply = Supply(2_000, on_reading)
        paused = await job.run(task, supply)
    assert replace(paused, seconds=0.0) == replace(plain, seconds=0.0)
    assert pauses == list(range(2_000, plain.fuel, 2_000))
    assert len(pauses) > 100


async def test_a_running_task_is_heard_of_and_a_cancelled_one_was(sandbox: Sandbox) -> None:
    async with sandbox.open_job(LOOP_IF_TOLD) as job:
        heard: list[Reading] = []
        with trio.CancelScope() as scope:

            def on_reading(reading: Reading) -> None:
                heard.append(reading)
                if len(heard) == 3:
                    scope.cancel()

            supply = Supply(on_reading=on_reading)
            await job.run(FOREVER, supply)
        assert scope.cancelled_caught
        assert 0 < heard[0].fuel < heard[1].fuel < heard[2].fuel == supply.reading.fuel
        assert 0 < heard[0].cpu_seconds <= heard[1].cpu_seconds <= heard[2].cpu_seconds
        assert (await job.run(TASK)).succeeded


async def test_a_process_is_replaced_before_the_kernel_would_end_it(sandbox: Sandbox) -> None:
    async with sandbox.open_job(LOOP_IF_TOLD) as job:
        first = await jailed(sandbox, job)
        before = job._cpu_left
        assert before == CONFIG.child_cpu_seconds
        timed = replace(FOREVER, limits=replace(FOREVER.limits, wall_seconds=1.0, fuel=10**7))
        assert (await job.run(timed)).outcome is Outcome.OUT_OF_FUEL
        assert job._cpu_left < before
        job._cpu_left = 0.5
        pidfds = watch([first])
        assert (await job.run(TASK)).succeeded
        await wait_gone(pidfds)
        assert job._cpu_left > before - 5


async def test_a_task_may_not_ask_for_more_than_is_granted(sandbox: Sandbox) -> None:
    async with sandbox.open_job(programs.HELLO) as job:
        with pytest.raises(LimitError, match="the most that is granted here"):
            await job.run(Task(limits=Limits(memory=1 << 29, wall_seconds=1, output=0)))
        with pytest.raises(TaskError):
            await job.run(replace(TASK, seed=b""))
        assert (await job.run(TASK)).succeeded


async def test_a_process_killed_from_outside_is_a_result(sandbox: Sandbox) -> None:
    async with sandbox.open_job(LOOP_IF_TOLD) as job:
        pid = await jailed(sandbox, job)
        async with trio.open_nursery() as nursery:

            async def kill() -> None:
                await trio.testing.wait_all_tasks_blocked(0.01)
                os.kill(pid, signal.SIGKILL)

            nursery.start_soon(kill)
            result = await job.run(FOREVER)
        assert result.outcome is Outcome.HOST_FAILURE
        assert result.exit_code is None
        assert result.reason
        assert (await job.run(TASK)).succeeded


async def test_who_tells_all_processes_to_end_ends_no_task(sandbox: Sandbox) -> None:
    """As a service manager does when it stops a worker, which lets its tasks finish."""
    outer, inner = await launcher(sandbox)
    async with sandbox.open_job(LOOP_IF_TOLD) as job:
        await jailed(sandbox, job)
        with trio.move_on_after(1.0) as scope:
            async with trio.open_nursery() as nursery:

                async def tell() -> None:
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    for pid in (outer, inner, *children(inner)):
                        os.kill(pid, signal.SIGTERM)
                        os.kill(pid, signal.SIGINT)

                nursery.start_soon(tell)
                await job.run(FOREVER)
        # It ran until it was cancelled here.
        assert scope.cancelled_caught
        assert (await job.run(TASK)).succeeded
    assert (outer, inner) == await launcher(sandbox)


async def test_processes_that_die_idle_are_replaced(sandbox: Sandbox) -> None:
    async with sandbox.open_job(programs.HELLO) as job:
        _, inner = await launcher(sandbox)
        pids = await settled(inner, IDLE + 1)
        pidfds = watch(pids)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await wait_gone(pidfds)
        assert (await job.run(TASK)).succeeded
    async with sandbox.open_job(programs.HELLO) as job:
        assert (await job.run(TASK)).succeeded


@pytest.mark.parametrize("which", [0, 1])
async def test_a_launcher_that_dies_is_replaced(sandbox: Sandbox, which: int) -> None:
    async with sandbox.open_job(LOOP_IF_TOLD) as job:
        victim = (await launcher(sandbox))[which]
        pidfds = watch([*children((await launcher(sandbox))[1])])
        async with trio.open_nursery() as nursery:

            async def kill() -> None:
                await trio.testing.wait_all_tasks_blocked(0.01)
                os.kill(victim, signal.SIGKILL)

            nursery.start_soon(kill)
            result = await job.run(FOREVER)
        assert result.outcome is Outcome.HOST_FAILURE
        await wait_gone(pidfds)
        assert (await job.run(TASK)).succeeded
    async with sandbox.open_job(programs.HELLO) as job:
        assert (await job.run(TASK)).succeeded


async def test_jobs_wait_for_their_turn() -> None:
    async with (
        open_sandbox(replace(CONFIG, processes=1)) as sandbox,
        trio.open_nursery() as nursery,
    ):
        done: list[str] = []

        async def other() -> None:
            async with sandbox.open_job(programs.HELLO) as job:
                await job.run(TASK)
            done.append("other")

        async with sandbox.open_job(programs.HELLO) as job:
            nursery.start_soon(other)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert (await job.run(TASK)).succeeded
            done.append("first")
    assert done == ["first", "other"]


async def test_two_jobs_run_side_by_side_in_processes_of_their_own(sandbox: Sandbox) -> None:
    async with (
        sandbox.open_job(LOOP_IF_TOLD) as slow,
        sandbox.open_job(programs.HELLO) as quick,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(slow.run, FOREVER)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert (await quick.run(TASK)).succeeded
        nursery.cancel_scope.cancel()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_leaving_the_block_ends_everything_and_errors_pass_as_they_are() -> None:
    before = open_descriptors()
    pidfds: list[int] = []

    async def fail_inside() -> None:
        async with open_sandbox(CONFIG) as sandbox, sandbox.open_job(programs.HELLO):
            outer, inner = await launcher(sandbox)
            pidfds.extend(watch([outer, inner, *children(inner)]))
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail_inside()
    await wait_gone(pidfds)
    assert open_descriptors() == before


async def test_a_sandbox_dies_with_the_process_that_opened_it() -> None:
    script = (
        "import os, trio\n"
        "from tests.sandbox.test_pool import *\n"
        "async def main():\n"
        "    async with open_sandbox(CONFIG) as sandbox:\n"
        "        async with sandbox.open_job(LOOP_IF_TOLD) as job:\n"
        "            async with trio.open_nursery() as nursery:\n"
        "                nursery.start_soon(job.run, FOREVER)\n"
        "                await trio.testing.wait_all_tasks_blocked(0.01)\n"
        "                outer, inner = await launcher(sandbox)\n"
        "                print(outer, inner, *children(inner), flush=True)\n"
        "trio.run(main)\n"
    )
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE
    )
    async with process.stdout as said:  # type: ignore[union-attr]
        line = bytearray()
        with trio.fail_after(30):
            while not line.endswith(b"\n"):
                line += await said.receive_some()
    pidfds = watch([int(pid) for pid in line.split()])
    assert len(pidfds) >= 3
    process.kill()
    await process.wait()
    await wait_gone(pidfds)


async def test_a_machine_without_a_sandbox_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SandboxUnavailable, match="cannot be started"):
        async with open_sandbox(CONFIG):
            raise AssertionError("it was opened")
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(SandboxUnavailable, match="is fogbank installed"):
        async with open_sandbox(CONFIG):
            raise AssertionError("it was opened")


def test_pidfds_tell_who_is_gone() -> None:
    """The instrument that other tests measure with."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (pidfd,) = watch([process.pid])
    assert select.select([pidfd], [], [], 0)[0] == []
    process.communicate(b"\n")
    assert select.select([pidfd], [], [], 0)[0] == [pidfd]
    os.close(pidfd)
