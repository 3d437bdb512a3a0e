"""Pipes over memory: links without sockets, for tests and for simulated networks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeAlias

import trio

from fogbank.relay.errors import LinkFailed
from fogbank.relay.link.pipe import Accept, Pipe, PipeBroken

CAPACITY = 1 << 20


class MemoryPipe:
    """One end of a pair made by `memory_pipe_pair`."""

    def __init__(self, binding: bytes, peer_host: str) -> None:
        self.binding = binding
        self.peer_host = peer_host
        self._other: MemoryPipe = self
        self._inbox = bytearray()
        self._closed = False
        self._changed = trio.lowlevel.ParkingLot()

    def join(self, other: MemoryPipe) -> None:
        """Make `other` the far end."""
        self._other = other

    def try_receive(self, into: memoryview) -> int | None:
        """Read what is there."""
        if self._closed:
            raise PipeBroken("the pipe was closed here")
        if not self._inbox:
            return 0 if self._other.is_closed else None
        count = min(len(into), len(self._inbox))
        into[:count] = self._inbox[:count]
        del self._inbox[:count]
        self._other.changed()
        return count

    def try_send(self, data: memoryview) -> int | None:
        """Send as much as the far end's buffer takes."""
        if self._closed or self._other.is_closed:
            raise PipeBroken("the pipe was closed")
        return self._other.deliver(data)

    def deliver(self, data: memoryview) -> int | None:
        """Take what the far end sends."""
        room = CAPACITY - len(self._inbox)
        if room <= 0:
            return None
        self._inbox += data[:room]
        self.changed()
        return min(room, len(data))

    async def wait_readable(self) -> None:
        """Wait for data or the end."""
        while not self._inbox and not self._closed and not self._other.is_closed:
            await self._changed.park()
        await trio.lowlevel.checkpoint()

    async def wait_writable(self) -> None:
        """Wait for room or the end."""
        while self._other.is_full and not self._closed and not self._other.is_closed:
            await self._changed.park()
        await trio.lowlevel.checkpoint()

    @property
    def is_closed(self) -> bool:
        """Whether this end was closed."""
        return self._closed

    @property
    def is_full(self) -> bool:
        """Whether this end's buffer takes no more."""
        return len(self._inbox) >= CAPACITY

    def changed(self) -> None:
        """Wake whoever waits at this end."""
        self._changed.unpark_all()

    def close(self) -> None:
        """End the pipe."""
        self._closed = True
        self.changed()
        self._other.changed()


def memory_pipe_pair(
    name: bytes, dialer_host: str = "127.0.0.1", responder_host: str = "127.0.0.1"
) -> tuple[MemoryPipe, MemoryPipe]:
    """Return a dialer's and a responder's end; `name`, unlike other pairs', makes the binding."""
    binding = hashlib.sha256(b"memory pipe:" + name).digest()
    dialer, responder = MemoryPipe(binding, responder_host), MemoryPipe(binding, dialer_host)
    dialer.join(responder)
    responder.join(dialer)
    return dialer, responder


Listeners: TypeAlias = dict[tuple[str, int], Accept]
"""Who listens at which host and port, among hosts that memory joins."""


def hand_over(accept: Accept, pipe: Pipe, source: str) -> None:
    """Tell a listener of a connection from `source`, whose end is `pipe`; close it if unwanted."""

    async def finish() -> Pipe:
        try:
            await trio.lowlevel.checkpoint()
        except BaseException:
            pipe.close()
            raise
        return pipe

    if not accept(finish, source):
        pipe.close()


async def listen(
    listeners: Listeners, host: str, port: int, accept: Accept, started: Callable[[int], None]
) -> None:
    """Stand among `listeners` until cancelled."""
    listeners[host, port] = accept
    started(port)
    try:
        await trio.sleep_forever()
    finally:
        if listeners.get((host, port)) is accept:
            del listeners[host, port]


class MemoryNetwork:
    """Who listens where, for any number of `MemoryTransport`s; `refuse` can cut connections."""

    def __init__(self) -> None:
        self.listeners: Listeners = {}
        self.refuse: Callable[[str, str], bool] = lambda _source, _target: False
        self.pipes: list[tuple[MemoryPipe, MemoryPipe]] = []
        self._count = 0

    def connect(self, source: str, host: str, port: int) -> Pipe:
        """Join a new pair's far end to the listener at `host`, `port`."""
        accept = self.listeners.get((host, port))
        if accept is None or self.refuse(source, host):
            raise LinkFailed(f"nothing answers at {host} port {port}")
        self._count += 1
        dialer, responder = memory_pipe_pair(b"%d" % self._count, source, host)
        self.pipes.append((dialer, responder))
        hand_over(accept, responder, source)
        return dialer


class MemoryTransport:
    """One host's way into a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, host: str) -> None:
        self._network = network
        self._host = host

    async def dial(self, host: str, port: int) -> Pipe:
        """Connect to a listener of the same network."""
        await trio.lowlevel.checkpoint()
        return self._network.connect(self._host, host, port)

    async def listen(
        self, host: str, port: int, accept: Accept, started: Callable[[int], None]
    ) -> None:
        """Listen until cancelled."""
        await listen(self._network.listeners, host, port, accept, started)
