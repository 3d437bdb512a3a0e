"""Jailed processes as seen from the sandbox: start, speak, end."""

import contextlib
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from fogbank.sandbox import wire
from fogbank.sandbox.bounds import bounds_for
from fogbank.sandbox.jail import JailReport, SandboxUnavailable, decode_report
from fogbank.sandbox.limits import SandboxConfig
from fogbank.sandbox.outcome import clean
from fogbank.sandbox.wire import Control, Frame, Packet

_CHUNK = 1 << 18
_REPORT_SECONDS = 60.0
_END_SECONDS = 10.0
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH")
"""What finding the interpreter's and seccomp's libraries may need."""


class ProcessDied(Exception):
    """A jailed process has ended without being asked to; `signal` is None if it just exited."""

    def __init__(self, code: int | None) -> None:
        self.signal = -code if code is not None and code < 0 else None
        if code is None:
            words = "the process cannot be reached"
        elif self.signal:
            words = f"signal {self.signal}"
        else:
            words = f"status {code}"
        super().__init__(words)


class Process:
    """One jailed process and its channel."""

    def __init__(self, number: int, channel: socket.socket, launcher: "Launcher") -> None:
        self._number = number
        self._channel = channel
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(channel))
        self._launcher = launcher
        self._exited = trio.Event()
        self._code: int | None = None

    @property
    def is_idle(self) -> bool:
        """Whether the process lives, as far as can be seen, and has said nothing unasked."""
        if self._exited.is_set():
            return False
        try:
            self._channel.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    async def send(self, kind: Frame, body: bytes) -> None:
        """Send one frame. Raises `ProcessDied`."""
        try:
            await self._stream.send_all(wire.HEADER.pack(kind, len(body)))
            await self._stream.send_all(body)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise await self._death() from None

    async def receive(self, bounds: dict[Frame, int]) -> tuple[Frame, bytes]:
        """Receive one frame, of a kind and length within `bounds`.

        Raises `ProcessDied`, or `WireError` for anything else.
        """
        header = await self._read(wire.HEADER.size)
        kind, length = wire.frame_length(header, bounds)
        return kind, await self._read(length)

    async def end(self) -> None:
        """Kill the process, and wait until it is gone; a second time does nothing."""
        self.abandon()
        with trio.CancelScope(shield=True), trio.move_on_after(_END_SECONDS):
            await self._exited.wait()

    def abandon(self) -> None:
        """Kill the process, without waiting."""
        self._stream.socket.close()
        if not self._exited.is_set():
            self._launcher.kill(self._number)

    def exited(self, code: int | None) -> None:
        """Take note that the process has ended."""
        self._code = code
        self._exited.set()

    async def _read(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            try:
                part = await self._stream.receive_some(min(count - len(parts), _CHUNK))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                part = b""
            if not part:
                raise await self._death()
            parts += part
        return bytes(parts)

    async def _death(self) -> ProcessDied:
        """Learn how the process ended; one that only closed its channel is ended for it."""
        await self.end()
        return ProcessDied(self._code)


class Starter:
    """Has a launcher at hand, and a new one where the last one ended."""

    def __init__(self, config: SandboxConfig, nursery: trio.Nursery) -> None:
        self._bounds = bounds_for(config)
        self._nursery = nursery
        self._launcher: Launcher | None = None
        self._lock = trio.Lock()

    async def launcher(self) -> "Launcher":
        """Return a launcher that lives. Raises `SandboxUnavailable`."""
        async with self._lock:
            if self._launcher is None or self._launcher.has_ended:
                await self.close()
                self._launcher = await launch(self._bounds.encode())
                self._nursery.start_soon(self._launcher.listen)
            return self._launcher

    async def start(self, kind: Control) -> Process:
        """Start a jailed process. Raises `SandboxUnavailable`."""
        return (await self.launcher()).start(kind)

    async def close(self) -> None:
        """End the launcher and every process."""
        if self._launcher is not None:
            await self._launcher.close()


class Launcher:
    """The process that forks jailed processes."""

    def __init__(self, process: trio.Process, control: socket.socket, report: JailReport) -> None:
        self.report = report
        self.has_ended = False
        self._process = process
        self._raw = control
        self._control = trio.socket.from_stdlib_socket(control)
        self._numbers = itertools.count(1)
        self._jailed: dict[int, Process] = {}

    def start(self, kind: Control) -> Process:
        """Ask for a process; it need not have begun when its channel is first used."""
        ours, theirs = socket.socketpair()
        number = next(self._numbers)
        process = Process(number, ours, self)
        self._jailed[number] = process
        with theirs:
            self._say(Packet(kind, number), [theirs.fileno()])
        return process

    def kill(self, number: int) -> None:
        """Have a process killed."""
        self._say(Packet(Control.KILL, number), [])

    async def listen(self) -> None:
        """Learn of processes that end, until the launcher itself does."""
        with contextlib.suppress(OSError, wire.WireError, trio.ClosedResourceError):
            while data := await self._control.recv(wire.CONTROL_SIZE):
                packet = wire.decode_packet(data)
                if packet.kind is not Control.EXITED:
                    break
                process = self._jailed.pop(packet.process, None)
                if process is not None:
                    process.exited(os.waitstatus_to_exitcode(packet.status))
        self._lost()

    async def close(self) -> None:
        """End the launcher, and with it everything that it started."""
        self._lost()
        with trio.CancelScope(shield=True):
            await self._process.wait()

    def _say(self, packet: Packet, descriptors: list[int]) -> None:
        if self.has_ended:
            return
        try:
            socket.send_fds(self._raw, [wire.encode_packet(packet)], descriptors)
        except OSError:
            # It is gone, or so stuck that its socket is full: nothing it holds can be used.
            self._lost()

    def _lost(self) -> None:
        """End the launcher for good; its end is the end of all that it forked."""
        self.has_ended = True
        self._control.close()
        self._process.kill()
        jailed, self._jailed = self._jailed, {}
        for process in jailed.values():
            process.exited(None)


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
    command = [sys.executable, "-I", "-m", "fogbank.sandbox.launcher_shell", str(control), bounds]
    try:
        return await trio.lowlevel.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[control],
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
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


@asynccontextmanager
async def open_starter(config: SandboxConfig) -> AsyncIterator[Starter]:
    """Have a launcher at hand until the block is left. Raises `SandboxUnavailable`."""
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
