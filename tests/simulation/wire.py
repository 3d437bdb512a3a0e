"""Cables between simulated hosts: pipes with delay, partitions, breaks and tampering.

Bytes travel for a while, in order. Between hosts that a partition keeps apart they wait, as TCP's
do; after `UNANSWERED` seconds the connection breaks.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import deque
from collections.abc import Callable

import trio

from fogbank.relay.cells import CELL, Command, unpack_header
from fogbank.relay.errors import LinkFailed
from fogbank.relay.link.memory_shell import Listeners, hand_over, listen
from fogbank.relay.link.pipe import Accept, Pipe, PipeBroken
from tests.simulation.chance import Chance
from tests.simulation.trace import Trace

CAPACITY = 1 << 20
UNANSWERED = 60.0
_TAMPERED = (Command.RELAY, Command.CREATE, Command.CREATED)

_GRAIN = 256.0
"""Arrivals a second that are told apart: what comes at once costs little time to simulate."""

Tamper = Callable[[bytes], list[bytes]]
"""Takes one cell, returns those that go out in its place."""


def _tick(when: float) -> float:
    return math.ceil(when * _GRAIN) / _GRAIN


class SimPipe:
    """One end of a connection."""

    def __init__(self, wire: Wire, host: str, peer_host: str, binding: bytes) -> None:
        self._wire = wire
        self.host = host
        self.peer_host = peer_host
        self.binding = binding
        self.other: SimPipe = self
        self.closed = False
        self.broken = False
        self.vanished = False
        """Whether the other side's machine lost power."""
        self.is_lost = False
        """Whether a router has forgotten it: nothing passes any more, and nobody is told."""
        self.stalled_since = math.inf
        self._inbox: deque[tuple[float, bytes]] = deque()
        self._waiting = 0
        self._reads = False
        """Whether somebody waits for what comes."""
        self._changed = trio.lowlevel.ParkingLot()

    # What a link calls.

    def try_receive(self, into: memoryview) -> int | None:
        """Read what has arrived."""
        if self.closed or self.broken:
            raise PipeBroken("the connection broke")
        total, now = 0, trio.current_time()
        full = self.room < CELL
        while total < len(into) and self._inbox and self._inbox[0][0] <= now:
            ready, data = self._inbox[0]
            if not data:
                return total
            count = min(len(into) - total, len(data))
            into[total : total + count] = data[:count]
            total += count
            self._waiting -= count
            if count == len(data):
                self._inbox.popleft()
            else:
                self._inbox[0] = ready, data[count:]
        if full and total:
            self.other.wake()
        return total or None

    def try_send(self, data: memoryview) -> int | None:
        """Send as many whole cells as go."""
        if self.closed or self.broken:
            raise PipeBroken("the connection broke")
        if self.vanished and self.peer_host not in self._wire.off:
            # The machine is up again and knows nothing of this connection.
            self.snap()
            raise PipeBroken("the connection was reset")
        count = min(self.other.room, len(data))
        count -= count % CELL
        if not count:
            return None
        sent = bytes(data[:count])
        tamper = self._wire.tampering.get(self.host)
        if tamper is not None:
            cells = [sent[at : at + CELL] for at in range(0, count, CELL)]
            sent = b"".join(out for cell in cells for out in self._tampered(tamper, cell))
        if sent:
            self.other.deliver(sent)
        return count

    @staticmethod
    def _tampered(tamper: Tamper, cell: bytes) -> list[bytes]:
        return tamper(cell) if unpack_header(cell)[1] in _TAMPERED else [cell]

    async def wait_readable(self) -> None:
        """Wait for data, the end, or a break."""
        while not (self.closed or self.broken):
            ready = self._inbox[0][0] if self._inbox else math.inf
            if ready <= trio.current_time():
                break
            self._wire.wake_at(ready, self)
            self._reads = True
            await self._changed.park()
        await trio.lowlevel.checkpoint_if_cancelled()

    async def wait_writable(self) -> None:
        """Wait for room, the end, or a break."""
        while self.other.room < CELL and not (self.closed or self.broken):
            await self._changed.park()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """End the connection; the other side hears of it in a while."""
        if not self.closed:
            self.closed = True
            self._wire.forget(self)
            self.wake()
            if not self.other.closed:
                self.other.deliver(b"")

    # What the other end and the network call.

    @property
    def room(self) -> int:
        """Bytes that this end takes still."""
        return CAPACITY - self._waiting

    def deliver(self, data: bytes) -> None:
        """Put data, or with none the end, on its way to this end."""
        if self.closed or self.broken:
            return
        now = trio.current_time()
        if self.is_lost or self._wire.apart(self.host, self.peer_host):
            ready = math.inf
            self.stalled_since = min(self.stalled_since, now)
        else:
            ready = _tick(now + self._wire.latency(self.peer_host, self.host))
            if self._inbox:
                ready = max(ready, self._inbox[-1][0])
        self._inbox.append((ready, data))
        self._waiting += len(data)
        if len(self._inbox) == 1 and self._reads:
            self._wire.wake_at(ready, self)

    def go_on(self) -> None:
        """Send on what a partition held up."""
        if self.stalled_since == math.inf or self.is_lost:
            return
        if not self.other.closed:
            self.stalled_since = math.inf
        ready = _tick(trio.current_time() + self._wire.latency(self.peer_host, self.host))
        self._inbox = deque((min(each, ready), data) for each, data in self._inbox)
        self.wake()

    def unanswered(self) -> None:
        """Hear nothing from the other side any more; after `UNANSWERED` seconds this end breaks."""
        self.vanished = True
        self.stalled_since = trio.current_time()

    def snap(self) -> None:
        """Break, without a word from the other side."""
        self.broken = True
        self.wake()

    def wake(self) -> None:
        """Have whoever waits look again."""
        self._reads = False
        self._changed.unpark_all()


class Wire:
    """All hosts, all connections between them, and what is wrong with them."""

    def __init__(self, seed: int, trace: Trace) -> None:
        self._seed = seed
        self._trace = trace
        self._base: dict[tuple[str, str], float] = {}
        self._pipes: dict[SimPipe, None] = {}
        self._count = 0
        self._arrivals: dict[float, list[SimPipe]] = {}
        self._times: list[float] = []
        self._next = trio.CancelScope()
        self.listeners: Listeners = {}
        self.islands: list[frozenset[str]] = []
        """Each is apart from everyone else."""
        self.slow: dict[str, float] = {}
        """Seconds by which what comes from and goes to a host is late."""
        self.tampering: dict[str, Tamper] = {}
        self.off: set[str] = set()
        """Hosts without power."""

    # One clock for all pipes: a deadline for each that waits would cost far more.

    async def carry(self) -> None:
        """Wake each pipe when something arrives, until cancelled."""
        while True:
            with trio.CancelScope(deadline=self._times[0] if self._times else math.inf) as scope:
                self._next = scope
                await trio.sleep_forever()
            now = trio.current_time()
            while self._times and self._times[0] <= now:
                for pipe in self._arrivals.pop(heapq.heappop(self._times)):
                    pipe.wake()

    def wake_at(self, when: float, pipe: SimPipe) -> None:
        """Wake a pipe at a time, which may be infinite."""
        if when == math.inf:
            return
        if when not in self._arrivals:
            heapq.heappush(self._times, when)
            self._next.deadline = min(self._next.deadline, when)
            self._arrivals[when] = []
        self._arrivals[when].append(pipe)

    def latency(self, source: str, target: str) -> float:
        """Return how long bytes take."""
        pair = min(source, target), max(source, target)
        if pair not in self._base:
            self._base[pair] = Chance(self._seed, "latency", *pair).uniform(0.001, 0.02)
        return self._base[pair] + self.slow.get(source, 0.0) + self.slow.get(target, 0.0)

    def apart(self, one: str, other: str) -> bool:
        """Tell whether a partition is between two hosts."""
        return any((one in island) != (other in island) for island in self.islands)

    def heal(self, island: frozenset[str]) -> None:
        """End a partition."""
        self.islands.remove(island)
        for pipe in list(self._pipes):
            if not self.apart(pipe.host, pipe.peer_host):
                pipe.go_on()

    def tick(self) -> None:
        """Break what has been unanswered for too long."""
        now = trio.current_time()
        for pipe in list(self._pipes):
            if now - pipe.stalled_since > UNANSWERED:
                pipe.snap()
                pipe.other.snap()

    def cut_off(self, host: str) -> None:
        """Close all connections of a host at once, as the system does when a process dies."""
        for pipe in list(self._pipes):
            if pipe.host == host:
                pipe.close()
        for address in [address for address in self.listeners if address[0] == host]:
            del self.listeners[address]

    def vanish(self, host: str) -> None:
        """Have a host vanish, as without power: nobody is told."""
        self.off.add(host)
        for pipe in list(self._pipes):
            if pipe.host == host:
                pipe.closed = True
                pipe.wake()
                self.forget(pipe)
                pipe.other.unanswered()
        for address in [address for address in self.listeners if address[0] == host]:
            del self.listeners[address]

    def lose(self, host: str) -> None:
        """Have all connections of a host lead nowhere: it has moved, or its router forgot them."""
        for pipe in list(self._pipes):
            if host in {pipe.host, pipe.peer_host}:
                pipe.is_lost = True

    def forget(self, pipe: SimPipe) -> None:
        """Drop a closed pipe."""
        self._pipes.pop(pipe, None)

    async def dial(self, source: str, host: str, port: int) -> Pipe:
        """Connect two hosts."""
        while self.apart(source, host):  # noqa: ASYNC110 - as TCP tries again
            await trio.sleep(1.0)
        await trio.sleep_until(_tick(trio.current_time() + 2 * self.latency(source, host)))
        accept = self.listeners.get((host, port))
        if accept is None:
            raise LinkFailed(f"nothing answers at {host} port {port}")
        self._count += 1
        self._trace.note("dial", f"{source} {host}")
        binding = hashlib.sha256(b"simulated pipe %d" % self._count).digest()
        dialer = SimPipe(self, source, host, binding)
        responder = SimPipe(self, host, source, binding)
        dialer.other, responder.other = responder, dialer
        self._pipes[dialer] = self._pipes[responder] = None
        hand_over(accept, responder, source)
        return dialer


class SimTransport:
    """One host's way into the network."""

    def __init__(self, wire: Wire, host: str) -> None:
        self._wire = wire
        self._host = host

    async def dial(self, host: str, port: int) -> Pipe:
        """Connect to a listener."""
        return await self._wire.dial(self._host, host, port)

    async def listen(
        self, host: str, port: int, accept: Accept, started: Callable[[int], None]
    ) -> None:
        """Listen until cancelled."""
        await listen(self._wire.listeners, host, port, accept, started)
