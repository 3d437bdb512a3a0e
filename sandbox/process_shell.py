"""The launcher as seen from the sandbox: started, and replaced where it ended."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import trio

from fogbank.sandbox import wire
from fogbank.sandbox.bounds import bounds_for
from fogbank.sandbox.engine import WASMTIME
from fogbank.sandbox.forks_shell import Forks, Process
from fogbank.sandbox.jail import JailReport, SandboxUnavailable, decode_report
from fogbank.sandbox.limits import SandboxConfig
from fogbank.sandbox.outcome import clean
from fogbank.sandbox.wire import Control

_REPORT_SECONDS = 60.0
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH")
"""What finding the interpreter's and seccomp's libraries may need."""
_BOUND = {"LD_BIND_NOW": "1"}
"""Has the launcher look up every function of its libraries once, and no process that it forks."""


class Launcher(Forks):
    """The process that forks jailed processes."""

    def __init__(self, process: trio.Process, control: socket.socket, report: JailReport) -> None:
        super().__init__(control)
        self.report = report
        self._process = process

    async def close(self) -> None:
        """End the launcher, and with it everything that it started."""
        self.lose()
        with trio.CancelScope(shield=True):
            await self._process.wait()

    def lose(self) -> None:
        """End the launcher for good; its end is the end of all that it forked."""
        self._process.kill()
        super().lose()


class Starter:
    """Has a launcher at hand, and a new one where the last one ended."""

    def __init__(self, config: SandboxConfig, nursery: trio.Nursery) -> None:
        self._bounds = bounds_for(config)
        self.nursery = nursery
        self._launcher: Launcher | None = None
        self._lock = trio.Lock()

    async def launcher(self) -> Launcher:
        """Return a launcher that lives. Raises `SandboxUnavailable`."""
        if self._launcher is not None and not self._launcher.has_ended:
            return self._launcher
        async with self._lock:
            if self._launcher is None or self._launcher.has_ended:
                await self.close()
                self._launcher = await launch(self._bounds.encode())
                self.listen(self._launcher)
            return self._launcher

    def listen(self, forks: Forks) -> None:
        """Learn of the processes that end."""
        self.nursery.start_soon(forks.listen)

    async def start(self, kind: Control) -> Process:
        """Start a jailed process. Raises `SandboxUnavailable`."""
        return (await self.launcher()).start(kind)

    async def close(self) -> None:
        """End the launcher and every process."""
        if self._launcher is not None:
            await self._launcher.close()


async def launch(bounds: str) -> Launcher:
    """Start a launcher and wait for its report. Raises `SandboxUnavailable`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control = trio.socket.from_stdlib_socket(ours)
    process = None
    data = b""
    try:
        with theirs:
            process = await _open_launcher(theirs.fileno(), bounds)
        with trio.move_on_after(_REPORT_SECONDS), contextlib.suppress(OSError):
            data = await control.recv(wire.CONTROL_SIZE)
        return Launcher(process, ours, _read_report(data))
    except BaseException:
        control.close()
        if process is not None:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
        raise


async def _open_launcher(control: int, bounds: str) -> trio.Process:
    command = [sys.executable, "-I", "-m", "fogbank.sandbox.start_shell", str(control), bounds]
    try:
        return await trio.lowlevel.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[control],
            env=_BOUND | {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            # Ctrl-C at a terminal is for the program that owns the sandbox.
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxUnavailable(f"the sandbox's launcher cannot be started: {error}") from None


def _read_report(data: bytes) -> JailReport:
    if data.startswith(wire.REFUSAL):
        raise SandboxUnavailable(clean(data[1:].decode("utf-8", "replace")))
    if not data.startswith(wire.REPORT):
        raise SandboxUnavailable(
            "the sandbox's launcher ended before it could say why: is fogbank installed for"
            f" {sys.executable}?"
        )
    return decode_report(data[1:])


def _check_version() -> None:
    installed = version("wasmtime")
    if installed != WASMTIME:
        raise SandboxUnavailable(
            f"wasmtime {installed} is installed, but this release of Fogbank computes with"
            f" {WASMTIME}: install that"
        )


@asynccontextmanager
async def open_starter(config: SandboxConfig) -> AsyncIterator[Starter]:
    """Have a launcher at hand until the block is left. Raises `SandboxUnavailable`."""
    _check_version()
    try:
        async with trio.open_nursery() as nursery:
            starter = Starter(config, nursery)
            try:
                await starter.launcher()
                yield starter
            finally:
                await starter.close()
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # Only the block itself can raise: let it be as if there were no nursery.
        if len(group.exceptions) > 1:
            raise
        error = group.exceptions[0]
        raise error from error.__cause__
