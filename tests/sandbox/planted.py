"""Plants native code in jailed processes, and prints as JSON what became of each attempt.

Run as a script with `root` or `user`: who starts the sandbox. The processes are those of a real
sandbox; only its compiler is another. One that is planted itself runs the code that its module
brings, another hands its job's process compiled code with that in it. What a zygote forks runs what
its task brings. All is done twice: in the whole jail, and without the filter, so that the layers
below it are seen too.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import hashlib
import json
import mmap
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pyseccomp  # noqa: F401 -- an ordinary user may not be allowed to read it later
import trio
import wasmtime

from fogbank.sandbox import (
    child_shell,
    launcher_shell,
    pool_shell,
    process_shell,
    runtimes_shell,
)
from fogbank.sandbox.data import whole
from fogbank.sandbox.forks_shell import Process, ProcessDied
from fogbank.sandbox.limits import Limits, SandboxConfig
from fogbank.sandbox.module_check import compile_module
from fogbank.sandbox.outcome import ModuleRefused, Outcome, Result
from fogbank.sandbox.pool_shell import Job, Sandbox, open_sandbox
from fogbank.sandbox.runner import Order
from fogbank.sandbox.runtimes import catalogue, store_shell
from fogbank.sandbox.runtimes.catalogue import CATALOGUE, RuntimeId
from fogbank.sandbox.runtimes.store_shell import RuntimeStore
from fogbank.sandbox.seccomp_shell import Filter
from fogbank.sandbox.task import Task
from tests.sandbox import programs
from tests.sandbox.attempts import Around, ended, refused
from tests.sandbox.native import HOST, ROOM, Step, machine_code, plant

USERS = {"root": 0, "user": 1000}
KINDS = ("runner", "compiler", "zygote's fork")
FILTERS = ("with", "without")
TASK = Task(limits=Limits(fuel=10**7, memory=1 << 24, output=1000, wall_seconds=20.0))
CONFIG = SandboxConfig(processes=2, spares=1)
_MARK = b"\7planted"
RUNTIME = programs.command(
    programs.vector(0, 64, 8)
    + "(drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))",
    "fd_read",
)
"""In place of Python: reads its input, where a zygote waits for a task."""
SPEC = replace(
    CATALOGUE[0], digest=hashlib.sha256(RUNTIME).digest(), size=len(RUNTIME), name="python"
)
child_shell_receive = child_shell.receive_order


def carrying(kind: str, code: bytes) -> bytes:
    """A module that brings machine code for a kind of process, in a section of its own."""
    content = _MARK + kind.encode() + b"\0" + code
    size = len(content)
    return HOST + bytes([0, size & 127 | 128, size >> 7]) + content


def evil_compiler(engine: wasmtime.Engine, module: bytes) -> bytes:
    """Compile like the real one, unless a module brings machine code."""
    at = module.rfind(_MARK)
    if at < 0:
        return compile_module(engine, module)
    kind, _, code = module[at + len(_MARK) :].partition(b"\0")
    if kind == b"runner":
        return plant(compile_module(engine, module), code)
    raise ModuleRefused(Outcome.INVALID_MODULE, f"answer {run_code(code)}")


def evil_order() -> Order | None:
    """Take a task's order like the real one, unless the task brings machine code."""
    order = child_shell_receive()
    if order is not None and (at := whole(order.task.stdin).find(_MARK)) >= 0:
        answer = run_code(whole(order.task.stdin)[at + len(_MARK) :])
        told = answer.to_bytes(8, "little", signed=True)
        child_shell.send_result(Result(Outcome.COMPLETED, 0, 0, told))
        os._exit(0)
    return order


def run_code(code: bytes) -> int:
    """Run machine code right here, and return its answer."""
    with mmap.mmap(-1, ROOM, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as memory:
        memory[: len(code)] = code
        first = ctypes.c_char.from_buffer(memory)
        answer = int(ctypes.CFUNCTYPE(ctypes.c_int64)(ctypes.addressof(first))())
        del first
    return answer


class ForkedLauncher:
    """A launcher that is forked from here, with all that was changed here; like `trio.Process`."""

    def __init__(self, control: int, words: Iterable[str], uid: int) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _become_launcher(control, list(words), uid)
            finally:
                os._exit(1)
        self._pidfd = os.pidfd_open(self.pid)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def wait(self) -> None:
        await trio.lowlevel.wait_readable(self._pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)  # noqa: ASYNC222 -- it does not wait


def _become_launcher(control: int, words: list[str], uid: int) -> None:
    signal.set_wakeup_fd(-1)
    null = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.dup2(control, 3)
    os.closerange(4, 1 << 16)
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    sys.argv = ["launcher", "3", *words]
    launcher_shell.main()


def inner_number(sandbox: Sandbox) -> int:
    """The number that the youngest jailed process but the spares has within the jail."""
    (outer,) = _children(os.getpid())
    (inner,) = _children(outer)
    lines = Path(f"/proc/{min(_children(inner))}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])


def _children(pid: int) -> list[int]:
    words = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [int(word) for word in words]


async def attempt(sandbox: Sandbox, kind: str, steps: Iterable[Step]) -> str:
    """Let planted code try something, and tell its answer or how its process ended."""
    code = machine_code(steps)
    program: bytes | RuntimeId
    program, task = carrying(kind, code), TASK
    if kind == KINDS[2]:
        program, task = SPEC.id, replace(TASK, stdin=_MARK + code)
    try:
        async with sandbox.open_job(program) as job:
            result = await job.run(task)
    except ModuleRefused as refusal:
        return refusal.reason.rpartition(": ")[2]
    if result.outcome is Outcome.COMPLETED:
        return f"answer {int.from_bytes(whole(result.stdout), 'little', signed=True)}"
    return result.reason.rpartition(": ")[2]


async def attempts(listener: socket.socket, local: bytes, store: RuntimeStore) -> dict[str, Any]:
    """Try everything, beside a job that is to go on undisturbed."""
    async with open_sandbox(CONFIG, store) as sandbox, sandbox.open_job(programs.HELLO) as other:
        launcher = await cast(process_shell.Starter, sandbox._jobs._starter).launcher()
        assert (await other.run(TASK)).succeeded
        process = other._process
        around = Around(listener.getsockname()[1], local, inner_number(sandbox))
        found: dict[str, Any] = {"layers": sandbox.report.active}
        for name, steps in {**refused(around), **ended(around)}.items():
            found[name] = {kind: await attempt(sandbox, kind, steps) for kind in KINDS}
            if not await _goes_on(other) or other._process is not process:
                found[name]["harm"] = "another job was disturbed"
                await other.prepare()
                process = other._process
            if launcher.has_ended:
                found[name]["harm"] = "the launcher ended"
                return found
    return found


async def _goes_on(job: Job) -> bool:
    return (await job.run(TASK)).stdout == b"hello\n"


def main() -> None:
    uid = USERS[sys.argv[1]]
    own = os.geteuid()
    # Read now what an ordinary user may not be allowed to read later.
    codecs.lookup("ascii")
    child_shell.compile_module = evil_compiler  # type: ignore[attr-defined, assignment]

    async def forked(control: int, *words: str) -> ForkedLauncher:
        return ForkedLauncher(control, words, uid if own == 0 else 0)

    async def death(self: Process) -> ProcessDied:
        # The planted end themselves: wait for that, so that their status is told.
        with trio.move_on_after(10):
            await self._exited.wait()
        await self.end()
        return ProcessDied(self._code)

    child_shell.receive_order = evil_order
    # Small modules too are to be compiled by a process of its own.
    pool_shell.QUICK_SIZE = 0
    for module in (catalogue, store_shell, runtimes_shell):
        module.CATALOGUE = (SPEC,)  # type: ignore[attr-defined]
    process_shell._open_launcher = forked  # type: ignore[assignment]
    Process._death = death  # type: ignore[method-assign]
    found = {}
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX) as local,
        tempfile.TemporaryDirectory() as folder,
    ):
        store = RuntimeStore(Path(folder))
        store.add(RUNTIME)
        # Several runs may be under way on one machine.
        name = f"fogbank-{os.getpid()}".encode()
        local.bind(b"\0" + name)
        local.listen()
        found["with"] = trio.run(attempts, listener, name, store)
        Filter.load = lambda _: None  # type: ignore[method-assign, assignment]
        found["without"] = trio.run(attempts, listener, name, store)
        for reachable in (listener, local):
            reachable.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                reachable.accept()
                found["connected"] = {}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
