"""Jailed processes as seen from the sandbox: start, speak, end."""

import contextlib
import itertools
import os
import socket

import trio

from fogbank.sandbox import wire
from fogbank.sandbox.wire import Control, Frame, Packet

_CHUNK = 1 << 18
_END_SECONDS = 10.0
_PACKET = wire.PACKET_SIZE + 1
"""Bytes that are read at a time: one more than a packet has, so that a longer one is seen."""


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

    def __init__(self, number: int, channel: socket.socket, forks: "Forks") -> None:
        self._number = number
        channel.setblocking(False)
        self._channel = channel
        self._forks = forks
        self._read = bytearray()
        """Bytes that have come and belong to frames not yet asked for."""
        self._exited = trio.Event()
        self._code: int | None = None

    @property
    def is_idle(self) -> bool:
        """Whether the process lives, as far as can be seen, and has said nothing unasked."""
        if self._exited.is_set() or self._read:
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
        header = wire.HEADER.pack(kind, len(body))
        # Two pieces would wake the process twice.
        pieces = (header + body,) if len(body) <= _CHUNK else (header, body)
        try:
            for piece in pieces:
                left = memoryview(piece)
                while left:
                    try:
                        left = left[self._channel.send(left) :]
                    except BlockingIOError:
                        await trio.lowlevel.wait_writable(self._channel)
        except (OSError, ValueError, trio.ClosedResourceError):
            raise await self._death() from None

    async def receive(self, bounds: dict[Frame, int]) -> tuple[Frame, bytes]:
        """Receive one frame, of a kind and length within `bounds`.

        Raises `ProcessDied`, or `WireError` for anything else.
        """
        kind, length = wire.frame_length(await self._take(wire.HEADER.size), bounds)
        return kind, await self._take(length)

    async def end(self, seconds: float = _END_SECONDS) -> bool:
        """Kill the process, and wait until it is gone, but no longer; return whether it is.

        A second time waits on.
        """
        self.abandon()
        with trio.CancelScope(shield=True), trio.move_on_after(seconds):
            await self._exited.wait()
        return self._exited.is_set()

    def abandon(self) -> None:
        """Kill the process, without waiting."""
        if self._channel.fileno() >= 0:
            trio.lowlevel.notify_closing(self._channel)
            self._channel.close()
        if not self._exited.is_set():
            self._forks.kill(self._number)

    async def gone(self) -> None:
        """Wait until the process has ended."""
        await self._exited.wait()

    def exited(self, code: int | None) -> None:
        """Take note that the process has ended."""
        self._code = code
        self._exited.set()

    async def _take(self, count: int) -> bytes:
        read = self._read
        while len(read) < count:
            try:
                part = self._channel.recv(_CHUNK)
            except BlockingIOError:
                try:
                    await trio.lowlevel.wait_readable(self._channel)
                except trio.ClosedResourceError:
                    raise await self._death() from None
                continue
            except OSError:
                part = b""
            if not part:
                raise await self._death()
            read += part
        taken = bytes(memoryview(read)[:count])
        del read[:count]
        return taken

    async def _death(self) -> ProcessDied:
        """Learn how the process ended; one that only closed its channel is ended for it."""
        await self.end()
        return ProcessDied(self._code)


class Forks:
    """The processes of one forker, which is at the other end of `control` (`forker_shell`)."""

    def __init__(self, control: socket.socket) -> None:
        self.has_ended = False
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

    def fork(self, kind: Control, theirs: socket.socket) -> None:
        """Ask for a process that ends of itself when the other end of its channel closes."""
        self._say(Packet(kind, next(self._numbers)), [theirs.fileno()])

    def tell(self, data: bytes, descriptors: list[int]) -> None:
        """Send the forker what it needs before it serves."""
        try:
            socket.send_fds(self._raw, [data], descriptors)
        except OSError:
            # It is gone, or so stuck that its socket is full: nothing it holds can be used.
            self.lose()

    async def hear(self) -> bytes:
        """Receive the first packet of a forker, empty if it has ended."""
        try:
            return await self._control.recv(wire.CONTROL_SIZE)
        except (OSError, trio.ClosedResourceError):
            return b""

    def kill(self, number: int) -> None:
        """Have a process killed."""
        self._say(Packet(Control.KILL, number), [])

    async def listen(self) -> None:
        """Learn of processes that end, until the forker itself does."""
        with contextlib.suppress(OSError, wire.WireError, trio.ClosedResourceError):
            while data := await self._next_packet():
                packet = wire.decode_packet(data)
                if packet.kind is not Control.EXITED:
                    break
                process = self._jailed.pop(packet.process, None)
                if process is not None:
                    process.exited(os.waitstatus_to_exitcode(packet.status))
        self.lose()

    async def _next_packet(self) -> bytes:
        while True:
            try:
                return self._raw.recv(_PACKET)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._raw)

    def lose(self) -> None:
        """Give the forker up: it ends when its control socket closes, and so do its processes."""
        self.has_ended = True
        self._control.close()
        jailed, self._jailed = self._jailed, {}
        for process in jailed.values():
            process.exited(None)
            # One that was only just forked ends by this: it does not yet die with who forked it.
            process.abandon()

    def _say(self, packet: Packet, descriptors: list[int]) -> None:
        if not self.has_ended:
            self.tell(wire.encode_packet(packet), descriptors)
