"""The launcher: a small process, apart from the network's, that forks jailed processes on demand.

It isolates itself first, tries the whole jail once on a program of its own, and reports. Then it
forks a process for each packet that asks for one, and never reads a client's byte (`forker_shell`).
It ends, and with it all that it forked, when its control socket closes.

`start_shell` runs it.
"""

import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import NoReturn

import wasmtime

from fogbank.sandbox import (
    fuel_yield,
    heap_shell,
    host_calls,
    huge_shell,
    jail_shell,
    kernel_shell,
    wire,
)
from fogbank.sandbox.binding import LIBRARY, BindingChanged
from fogbank.sandbox.bounds import Bounds
from fogbank.sandbox.child_shell import ChannelData, serve_compiler, serve_job
from fogbank.sandbox.engine import WASMTIME, make_engine
from fogbank.sandbox.forker_shell import FAILED, Forker
from fogbank.sandbox.jail import JailReport, Layer, SandboxUnavailable, decode_report
from fogbank.sandbox.jail_shell import Binding
from fogbank.sandbox.meter import Silent
from fogbank.sandbox.module_check import compiled
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.runner import Order, Runner
from fogbank.sandbox.seccomp_shell import Filter
from fogbank.sandbox.task import Task
from fogbank.sandbox.wire import Control, Frame
from fogbank.sandbox.zygote_shell import serve_zygote

_SELF_TEST = """(module
 (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
 (memory (export "memory") 1)
 (data (i32.const 0) "\\08\\00\\00\\00\\02\\00\\00\\00ok")
 (func (export "_start")
  (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
  unreachable))"""
"""Prints two letters and traps: what every jailed process must be able to do."""

_FUEL = 1 << 40
_REHEARSALS = 16
"""How many jobs the launcher does itself before it serves: Python makes what runs so often faster,
and what a jailed process need not write again stays shared with it."""


class Launcher:
    """Has all that a jailed process needs, and forks them."""

    def __init__(self, control: socket.socket, bounds: Bounds) -> None:
        """Load all that the processes will need, and try it once, outside the jail."""
        self._forker: Forker[None] = Forker(
            control,
            {
                Control.JOB: partial(_become, self._job),
                Control.COMPILE: partial(_become, self._compiler),
                Control.ZYGOTE: partial(_become, self._zygote),
            },
        )
        filtering = Filter()
        self._engine = make_engine()
        self._runner = Runner(self._engine)
        try:
            fuel_yield.self_test(self._engine)
            host_calls.self_test(self._engine)
        except BindingChanged as change:
            raise SandboxUnavailable(f"{change}: install wasmtime {WASMTIME} again") from None
        self._trial = bytes(wasmtime.wat2wasm(_SELF_TEST))
        self._try_out()
        self._memory: list[tuple[int, int]] = []
        with contextlib.suppress(OSError):
            huge_shell.hold_code(LIBRARY)
            # Later there is no /proc.
            self._memory = huge_shell.memory()
        with contextlib.suppress(OSError):
            kernel_shell.landlock_rules()
        own = jail_shell.own_extent()
        extent = own.plus(bounds.job_addresses, bounds.job_data)
        self._job_binding = Binding(extent, bounds.job_cpu, filtering)
        extent = own.plus(bounds.compile_addresses, bounds.compile_data)
        self._compiler_binding = Binding(extent, bounds.compile_cpu, filtering)

    def report(self, layers: list[Layer]) -> JailReport:
        """Try the whole jail in a process of its own, and report all layers.

        Raises `SandboxUnavailable` if a program cannot run in it.
        """
        reading, writing = os.pipe()
        pid = self._fork(self._jailed_trial, writing)
        os.close(writing)
        with open(reading, "rb") as said:  # noqa: PTH123 -- a descriptor, not a path
            words = said.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if words:
            return JailReport((*decode_report(words).layers, *layers))
        raise SandboxUnavailable(
            "a program that was tried in the jail was ended by"
            f" {f'signal {-code}' if code < 0 else f'status {code}'}: the jail does not fit this"
            " machine's kernel or C library"
        )

    def serve(self) -> None:
        """Work until the control socket closes."""
        gc.collect()
        for _ in range(_REHEARSALS):
            self._rehearse()
        self._settle()
        self._forker.serve()

    def _settle(self, *extents: tuple[int, int]) -> None:
        """Put the memory, and what lies apart from it, into the state that costs forks least."""
        with contextlib.suppress(AttributeError):
            heap_shell.fill_holes()
        apart = [huge_shell.whole_pages(*extent) for extent in extents]
        huge_shell.hold_memory([*self._memory, *apart])

    def _fork(self, work: Callable[[int], None], channel: int) -> int:
        pid = os.fork()
        if not pid:
            _become(work, channel)
        return pid

    def _job(self, channel: int) -> None:
        jail_shell.close_all_but(channel)
        self._job_binding.bind()
        serve_job(self._runner, self._engine)

    def _compiler(self, channel: int) -> None:
        jail_shell.close_all_but(channel)
        self._compiler_binding.bind()
        serve_compiler(self._engine)

    def _zygote(self, control: int) -> None:
        jail_shell.close_all_but(control)
        jail_shell.die_with_parent()
        serve_zygote(self._runner, self._job_binding.bind, self._settle)

    def _jailed_trial(self, channel: int) -> None:
        jail_shell.close_all_but(channel)
        try:
            layers = jail_shell.binding_layers(self._job_binding.bind())
        except jail_shell.LayerMissing as missing:
            layers = (missing.layer,)
        else:
            self._try_out()
        os.write(jail_shell.CHANNEL, JailReport(layers).encode())

    def _rehearse(self) -> None:
        """Do a whole job as a job's process does it, over a channel, but unjailed."""
        own = os.dup(jail_shell.CHANNEL)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            os.dup2(theirs.fileno(), jail_shell.CHANNEL)
            ours.send(wire.frame(Frame.MODULE, self._trial))
            ours.send(wire.frame(Frame.TASK, wire.encode_task(Task(), _FUEL)))
            ours.shutdown(socket.SHUT_WR)
            serve_job(self._runner, self._engine)
        os.dup2(own, jail_shell.CHANNEL)
        os.close(own)

    def _try_out(self) -> None:
        self._runner.take(compiled(self._engine, self._trial))
        task, granted = wire.decode_task(wire.encode_task(Task(), _FUEL), ChannelData)
        result = self._runner.carry_out(Order(task, granted, Silent()))
        if result.outcome is not Outcome.TRAP or result.stdout != b"ok":
            raise SandboxUnavailable(f"wasmtime does not work here: {result.reason}")
        wire.encode_result(result)


def _become(work: Callable[[int], None], channel: int) -> NoReturn:
    code = FAILED
    try:
        work(channel)
        code = 0
    finally:
        os._exit(code)


def main() -> None:
    """Isolate, report, serve."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # Service managers tell every process of a worker to end, terminals a whole group; tasks
        # that run may finish first, and the worker says when (spec/06 §3).
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    bounds = Bounds(*(int(item) for item in sys.argv[2].split(",")))
    try:
        launcher = Launcher(control, bounds)
        layers = jail_shell.isolate()
    except (SandboxUnavailable, OSError, MemoryError) as error:
        _refuse(control, error)
    # The new pid namespace begins with the next fork; this process only waits for it to end.
    pid = os.fork()
    if pid:
        # It cannot ask to die with its parent: that would be the thread that started it.
        control.close()
        os._exit(1 if os.waitpid(pid, 0)[1] else 0)
    jail_shell.die_with_parent()
    try:
        control.send(wire.REPORT + launcher.report(layers).encode())
    except (SandboxUnavailable, OSError) as error:
        _refuse(control, error)
    launcher.serve()
    os._exit(0)


def _refuse(control: socket.socket, error: Exception) -> NoReturn:
    with contextlib.suppress(OSError):
        control.send(wire.REFUSAL + str(error).encode())
    os._exit(1)
