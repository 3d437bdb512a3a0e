"""Large inputs and outputs pass through a jailed process in portions (spec/07 §8)."""

import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from fogbank.sandbox.data import Data, NoRoom, Sink, sha256
from fogbank.sandbox.limits import Limits, SandboxConfig
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.pool_shell import Job, Sandbox, open_sandbox
from fogbank.sandbox.runtimes.catalogue import CATALOGUE
from fogbank.sandbox.scratch_shell import FileData, Scratch
from fogbank.sandbox.task import Task
from tests.sandbox import programs
from tests.sandbox.test_pool import jailed, status
from tests.toolchains import runtime_store

MEGABYTE = 1 << 20
PYTHON = CATALOGUE[0]
SIZE = 48 * MEGABYTE + 12345
LIMITS = Limits(fuel=10**10, memory=64 * MEGABYTE, wall_seconds=60.0, output=SIZE)
CONFIG = SandboxConfig(
    processes=1, spares=1, ceilings=replace(LIMITS, fuel=1 << 44, memory=256 * MEGABYTE)
)
SPARSE = programs.command(
    programs.vector(0, 64, 65536)
    + "(drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))"
    + programs.vector(0, 64, 5)
    + "(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))",
    "fd_read",
    "fd_write",
    memory="2",
)
"""Reads a little of its input and copies less."""


@pytest.fixture
def large(tmp_path: Path) -> Data:
    """A large input, in a file, no two blocks of which are alike."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        block = b""
        while file.tell() < SIZE:
            block = hashlib.sha256(block).digest() * 1024
            file.write(block[: SIZE - file.tell()])
    return FileData.open(path)


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with open_sandbox(CONFIG, sinks=Scratch(tmp_path / "scratch").sink) as opened:
        yield opened


async def highest(sandbox: Sandbox, job: Job) -> int:
    """The most memory that a job's process has had, in bytes."""
    return int(status(await jailed(sandbox, job))["VmHWM"].split()[0]) << 10


async def test_neither_the_sandbox_nor_the_jailed_process_holds_what_passes_through(
    sandbox: Sandbox, large: Data
) -> None:
    async with sandbox.open_job(programs.ECHO) as job:
        assert (await job.run(Task(limits=LIMITS))).succeeded
        before = await highest(sandbox, job), own_memory()
        result = await job.run(Task(stdin=large, limits=LIMITS))
        after = await highest(sandbox, job), own_memory()
        assert result.succeeded, result.reason
        assert not isinstance(result.stdout, bytes)
        assert len(result.stdout) == SIZE
        assert sha256(result.stdout) == sha256(large)
        # The same in memory is the same to the program.
        small = await job.run(Task(stdin=b"x" * 200_000, limits=LIMITS))
        assert small.stdout == b"x" * 200_000
    for least, most in zip(before, after, strict=True):
        assert most - least < 8 * MEGABYTE


def own_memory() -> int:
    return int(status(os.getpid())["VmHWM"].split()[0]) << 10


async def test_a_program_need_not_read_its_input_to_the_end(sandbox: Sandbox, large: Data) -> None:
    async with sandbox.open_job(SPARSE) as job:
        for _ in range(2):
            result = await job.run(Task(stdin=large, limits=LIMITS))
            assert result.succeeded
            assert result.stdout == large.read(0, 5) if not isinstance(large, bytes) else b""


async def test_output_beyond_the_limit_ends_with_what_fitted(sandbox: Sandbox, large: Data) -> None:
    limit = 3 * MEGABYTE + 17
    async with sandbox.open_job(programs.ECHO) as job:
        result = await job.run(Task(stdin=large, limits=replace(LIMITS, output=limit)))
        assert result.outcome is Outcome.OUTPUT_LIMIT
        assert len(result.stdout) == limit
        assert (await job.run(Task(stdin=b"next", limits=LIMITS))).stdout == b"next"


async def test_a_script_reads_large_files_and_input(
    sandbox: Sandbox, large: Data, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    script = b"""
import hashlib, sys
data = open("large", "rb").read()
print(len(data), hashlib.sha256(data).hexdigest())
digest = hashlib.sha256()
while part := sys.stdin.buffer.read(1 << 20):
    digest.update(part)
print(digest.hexdigest())
"""
    del sandbox
    limits = replace(LIMITS, fuel=10**12, memory=256 * MEGABYTE)
    task = Task(files=((PYTHON.entry, script), ("large", large)), stdin=large, limits=limits)
    store = runtime_store(request, "python")
    async with open_sandbox(CONFIG, store) as opened, opened.open_job(PYTHON.id) as job:
        result = await job.run(task)
    digest = sha256(large).hex()
    assert result.stdout == f"{SIZE} {digest}\n{digest}\n".encode(), result.stderr


async def test_a_disk_that_is_full_is_the_workers_failure_and_the_next_task_runs(
    large: Data,
) -> None:
    class Full:
        def write(self, _: object) -> None:
            raise NoRoom("nothing can be kept on the disk: it is full")

        def done(self) -> Data:
            raise AssertionError

    def sinks() -> Sink:
        return Full()

    async with open_sandbox(CONFIG, sinks=sinks) as sandbox, sandbox.open_job(programs.ECHO) as job:
        result = await job.run(Task(stdin=large, limits=LIMITS))
        assert result.outcome is Outcome.HOST_FAILURE
        assert "it is full" in result.reason
        assert (await job.run(Task(stdin=b"next", limits=LIMITS))).stdout == b"next"


async def test_an_input_that_cannot_be_read_is_the_workers_failure(large: Data) -> None:
    class Lost:
        def __len__(self) -> int:
            return len(large)

        def read(self, start: int, size: int) -> bytes:
            raise OSError(5, f"cannot read {size} bytes at {start}")

    async with open_sandbox(CONFIG) as sandbox, sandbox.open_job(programs.ECHO) as job:
        result = await job.run(Task(stdin=Lost(), limits=LIMITS))
        assert result.outcome is Outcome.HOST_FAILURE
        with trio.fail_after(20):
            assert (await job.run(Task(stdin=b"next", limits=LIMITS))).stdout == b"next"
