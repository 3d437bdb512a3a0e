"""Programs that want more than their share, through the pool: an outcome each, and nothing left.

What is bounded here is also tested piece by piece elsewhere; these tests are of the whole, in real
jailed processes, under the kernel's limits too (spec/07 §3, §4, §8).
"""

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fogbank.sandbox.forks_shell import Process
from fogbank.sandbox.limits import CompileLimits, Limits, SandboxConfig
from fogbank.sandbox.outcome import ModuleRefused, Outcome
from fogbank.sandbox.pool_shell import QUICK_SIZE, Sandbox, open_sandbox
from fogbank.sandbox.runtimes.store_shell import RuntimeStore
from fogbank.sandbox.task import Task
from fogbank.sandbox.wasi.abi import OPEN_CREAT, Errno
from fogbank.sandbox.wire import Frame
from tests.sandbox import programs
from tests.sandbox.test_pool import children, launcher, open_descriptors, settled, status

MEGABYTE = 1 << 20
LIMITS = Limits(fuel=1 << 32, memory=16 * MEGABYTE, output=100_000, wall_seconds=60.0)
TASK = Task(limits=LIMITS)
CONFIG = SandboxConfig(
    processes=2,
    spares=1,
    ceilings=Limits(fuel=1 << 44, memory=256 * MEGABYTE, wall_seconds=60.0, output=MEGABYTE),
    compiling=CompileLimits(cpu_seconds=1, wall_seconds=60.0, memory=512 * MEGABYTE),
)
IDLE = 2
MANY = 20_000


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with open_sandbox(CONFIG, RuntimeStore(tmp_path)) as opened:
        yield opened


def opening(flags: int) -> str:
    """Instructions that open the path at 64, 4 bytes long, and leave the error's number."""
    numbers = f"(i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const {flags})"
    rights = "(i64.const 0x1fffffff) (i64.const 0x1fffffff) (i32.const 0) (i32.const 32)"
    return f"(call $path_open {numbers} {rights})"


def until_refused(call: str, *imports: str, before: str = "", after: str = "") -> bytes:
    """A program that repeats a call until it fails, and exits with the error's number."""
    return programs.command(
        f"(local $error i32) (local $count i32) {before}"
        f"(loop (local.set $error {call}) (if (local.get $error) (then"
        f" (call $proc_exit (local.get $error)))) {after} (br 0))",
        *imports,
        "proc_exit",
        more=programs.data(64, b"aaaa"),
    )


NEXT_NAME = (
    "(local.set $count (i32.add (local.get $count) (i32.const 1)))"
    "(i32.store (i32.const 64) (i32.add (i32.const 0x30303030) (i32.or"
    " (i32.and (local.get $count) (i32.const 63))"
    " (i32.shl (i32.shr_u (local.get $count) (i32.const 6)) (i32.const 8)))))"
)
"""Another name of four letters, for some 16 000 times."""
WRITING = "(call $fd_write (i32.const 4) (i32.const 0) (i32.const 1) (i32.const 8))"
FLOODS = {
    "descriptors": (until_refused(opening(OPEN_CREAT), "path_open"), Errno.MFILE),
    "files": (
        until_refused(
            opening(OPEN_CREAT),
            "path_open",
            "fd_close",
            after=f"(drop (call $fd_close (i32.const 4))) {NEXT_NAME}",
        ),
        Errno.NOSPC,
    ),
    "folders": (
        until_refused(
            "(call $path_create_directory (i32.const 3) (i32.const 64) (i32.const 4))",
            "path_create_directory",
            after=NEXT_NAME,
        ),
        Errno.NOSPC,
    ),
    "bytes in a file": (
        until_refused(
            WRITING,
            "path_open",
            "fd_write",
            before=f"(drop {opening(OPEN_CREAT)}) {programs.vector(0, 64, 60_000)}",
        ),
        Errno.NOSPC,
    ),
}


@pytest.mark.parametrize("what", FLOODS)
async def test_floods_of_files_end_with_an_error_to_the_program(
    sandbox: Sandbox, what: str
) -> None:
    program, error = FLOODS[what]
    async with sandbox.open_job(program) as job:
        result = await job.run(TASK)
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETED, error), result.reason
        again = await job.run(TASK)
    assert replace(again, seconds=0.0) == replace(result, seconds=0.0)


async def test_floods_of_output_end_with_what_fitted(sandbox: Sandbox) -> None:
    both = programs.command(
        programs.vector(0, 0, 65536)
        + "(loop (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"
        "(drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8))) (br 0))",
        "fd_write",
    )
    async with sandbox.open_job(both) as job:
        result = await job.run(TASK)
    assert result.outcome is Outcome.OUTPUT_LIMIT
    assert len(result.stdout) + len(result.stderr) == LIMITS.output


async def test_memory_and_files_at_their_limit_are_had(sandbox: Sandbox) -> None:
    """The kernel's bounds lie beyond what a task is granted."""
    most = CONFIG.ceilings.memory
    everything = programs.command(
        f"(drop (memory.grow (i32.const {most // 65536 - 1})))"
        f"(memory.fill (i32.const 1024) (i32.const 7) (i32.const {most - 1024}))"
        f"(drop {opening(OPEN_CREAT)}) {programs.vector(0, 65536, most // 4)}"
        f"{f'(if {WRITING} (then unreachable))' * 4}"
        f"(if (i32.ne {WRITING} (i32.const {Errno.NOSPC})) (then unreachable))",
        "path_open",
        "fd_write",
        more=programs.data(64, b"file"),
    )
    async with sandbox.open_job(everything) as job:
        limits = replace(CONFIG.ceilings, fuel=1 << 34)
        result = await job.run(Task(limits=limits))
    assert (result.outcome, result.reason) == (Outcome.COMPLETED, "")


async def test_filling_much_memory_at_once_is_paid_by_the_byte(sandbox: Sandbox) -> None:
    pages = CONFIG.ceilings.memory // 65536
    fill = f"(memory.fill (i32.const 0) (i32.const 7) (i32.const {pages * 65536 - 1}))"
    program = programs.command(f"(loop {fill} (br 0))", memory=str(pages))
    async with sandbox.open_job(program) as job:
        limits = replace(CONFIG.ceilings, fuel=10**9)
        result = await job.run(Task(limits=limits))
        assert (result.outcome, result.fuel) == (Outcome.OUT_OF_FUEL, 10**9)
        limits = replace(CONFIG.ceilings, wall_seconds=0.2)
        assert (await job.run(Task(limits=limits))).outcome is Outcome.TIMEOUT


def phis() -> bytes:
    """170 KB in which each of a thousand loops may change each of a thousand variables."""
    count = 1000
    names = " ".join("i32" for _ in range(count))
    loops = "".join(
        f"(loop (local.set {n} (i32.add (local.get {n}) (local.get {(7 * n + 1) % count})))"
        f" (br_if 0 (local.get {(3 * n + 5) % count})))"
        for n in range(count)
    )
    rest = "".join(
        f"(local.set {(11 * n) % count} (i32.xor (local.get {n % count}) (i32.const {n})))"
        f"(br_if 0 (local.get {(5 * n) % count}))"
        for n in range(12_000)
    )
    return programs.text(
        f'(memory (export "memory") 1) (func (export "_start") (local {names})'
        f" (loop {loops} (loop {rest} (br 0))))"
    )


def blocks() -> bytes:
    """Half a million blocks."""
    block = "(if (local.get 0) (then (local.set 1 (local.get 0))))"
    return programs.command(f"(local i32 i32) {block * 500_000}")


def calls() -> bytes:
    """2 MB of calls."""
    return programs.command("(call $f) " * 1_000_000, more="(func $f)")


@pytest.mark.parametrize("bomb", [phis, blocks, calls], ids=lambda bomb: str(bomb.__name__))
async def test_modules_that_cost_too_much_to_compile_are_refused(
    sandbox: Sandbox, bomb: Any
) -> None:
    with pytest.raises(ModuleRefused, match="which is what this worker grants") as info:
        async with sandbox.open_job(bomb()):
            raise AssertionError("it was compiled")
    assert info.value.outcome is Outcome.COMPILE_LIMIT
    async with sandbox.open_job(programs.HELLO) as job:
        assert (await job.run(TASK)).succeeded


CROWDS = {
    "exports": "".join(f'(export "e{n}" (memory 0))' for n in range(MANY)),
    "functions": "(func)" * MANY,
    "types": "".join(f"(type (func (param {'i32 ' * (n % 50)})))" for n in range(MANY)),
    "globals": "(global (mut i64) (i64.const 1))" * MANY,
    # Each is code that runs at the start.
    "data": '(data (i32.const 0) "a")' * (MANY // 20),
}


@pytest.mark.parametrize("what", CROWDS)
async def test_crowded_modules_run(sandbox: Sandbox, what: str) -> None:
    async with sandbox.open_job(programs.command("", more=CROWDS[what])) as job:
        results = [await job.run(TASK) for _ in range(20)]
    assert {result.outcome for result in results} == {Outcome.COMPLETED}
    assert len({result.fuel for result in results}) == 1


async def test_crowds_of_imports_run(sandbox: Sandbox) -> None:
    imports = programs.imported("sched_yield").replace("$sched_yield", "") * MANY
    body = '(memory (export "memory") 1) (func (export "_start"))'
    async with sandbox.open_job(programs.text(imports + body)) as job:
        assert (await job.run(TASK)).succeeded


async def test_every_beginning_of_a_module_is_refused_or_runs(sandbox: Sandbox) -> None:
    ended = [await ending(sandbox, programs.HELLO[:end]) for end in range(len(programs.HELLO))]
    # Without its data the last one but some prints zeros.
    assert set(ended) == {Outcome.INVALID_MODULE, Outcome.COMPLETED}


async def ending(sandbox: Sandbox, module: bytes) -> Outcome:
    try:
        async with sandbox.open_job(module) as job:
            return (await job.run(TASK)).outcome
    except ModuleRefused as refusal:
        return refusal.outcome


def holdings(*pids: int) -> list[int]:
    """Bytes of memory that processes hold."""
    pages = [Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1] for pid in pids]
    return [int(count) * os.sysconf("SC_PAGE_SIZE") for count in pages]


async def test_a_thousand_jobs_in_a_row_leave_nothing_behind(sandbox: Sandbox) -> None:
    async def some(count: int) -> None:
        for _ in range(count):
            async with sandbox.open_job(programs.HELLO) as job:
                assert (await job.run(TASK)).stdout == b"hello\n"
        await settled(inner, IDLE)

    outer, inner = await launcher(sandbox)
    await some(50)
    memory = holdings(os.getpid(), outer, inner)
    # The launcher shows no more of its descriptors than the size of their table.
    before = open_descriptors(), status(inner)["FDSize"]
    await some(1000)
    assert (open_descriptors(), status(inner)["FDSize"]) == before
    assert len((await sandbox._jobs._starter.launcher())._jailed) == IDLE  # type: ignore[attr-defined]
    after = holdings(os.getpid(), outer, inner)
    # A job's frames and records are more than 1 KiB.
    assert max(late - early for early, late in zip(memory, after, strict=True)) < 1000 << 10


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Frame]:
    """What is sent to jailed processes from now on."""
    frames: list[Frame] = []
    really = Process.send

    async def send(self: Process, kind: Frame, body: bytes) -> None:
        frames.append(kind)
        await really(self, kind, body)

    monkeypatch.setattr(Process, "send", send)
    return frames


@pytest.mark.parametrize("size", [0, QUICK_SIZE])
async def test_a_module_that_another_client_ran_is_compiled_again(
    sandbox: Sandbox, said: list[Frame], tmp_path: Path, size: int
) -> None:
    """Else the time of its start would tell that somebody had it."""
    more = programs.data(64, bytes(range(256)) * (size // 256))
    module = programs.command("", memory="2", more=more)
    begun = [Frame.MODULE] if size == 0 else [Frame.MODULE, Frame.ARTIFACT]
    for _ in range(3):
        async with sandbox.open_job(module) as job:
            assert said == begun
            assert (await job.run(TASK)).succeeded
            said.clear()
    assert not files(tmp_path)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def memory_of(pid: int) -> Iterator[bytes]:
    """All that a process has mapped and can be read, part by part."""
    maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            words = line.split()
            begin, end = (int(bound, 16) for bound in words[0].split("-"))
            if words[1].startswith("r") and words[-1] not in {"[vvar]", "[vsyscall]"}:
                memory.seek(begin)
                try:
                    yield memory.read(end - begin)
                except OSError:
                    continue


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read a jailed process's memory")
async def test_no_byte_of_one_client_is_in_another_clients_process(sandbox: Sandbox) -> None:
    secret = os.urandom(24)
    text = secret.hex()
    module = programs.ECHO + b"\0" + bytes([len(secret) + 2, 1]) + b"s" + secret
    task = Task(
        args=("program", text),
        env=(("SECRET", text),),
        files=(("secret", secret * 100),),
        stdin=secret * 100,
        limits=LIMITS,
    )
    _, inner = await launcher(sandbox)
    async with sandbox.open_job(programs.HELLO) as beside, sandbox.open_job(module) as job:
        assert (await beside.run(TASK)).succeeded
        assert (await job.run(task)).stdout == secret * 100
        held = {pid: any(secret in part for part in memory_of(pid)) for pid in children(inner)}
        # The instrument finds it where it is, in the one process that was given it.
        assert sum(held.values()) == 1
    async with sandbox.open_job(programs.HELLO) as later:
        assert (await later.run(TASK)).succeeded
        for pid in (inner, *children(inner)):
            for part in memory_of(pid):
                assert secret not in part
                assert text.encode() not in part
