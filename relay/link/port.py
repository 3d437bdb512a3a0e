"""An open link as the switch sees it: what it can send, and whose circuit ids mean what."""

from __future__ import annotations

from typing import Protocol

from fogbank.relay.cells import DIALER_BIT
from fogbank.relay.keys import NodeId
from fogbank.relay.link.outqueue import OutQueue


class CircuitSide(Protocol):
    """What a link's circuit id leads to: one side of a circuit."""

    def relay_cell(self, view: memoryview, at: int) -> None:
        """Take the RELAY cell at `view[at]`, which may be overwritten; may raise `ProtocolError`."""

    def created(self, content: bytes) -> None:
        """Take the content of a CREATED cell; may raise `ProtocolError`."""

    def destroyed(self, reason: int) -> None:
        """Hear that the circuit ended beyond this link; the id is already free."""

    def fail(self, reason: int) -> None:
        """End the circuit in both directions."""


class TokenBucket:
    """Allows `rate` events a second on average, `burst` at once."""

    __slots__ = ("_burst", "_level", "_rate", "_then")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._then = now

    def take(self, now: float) -> bool:
        """Take one token if there is one."""
        self._level = min(self._burst, self._level + (now - self._then) * self._rate)
        self._then = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


class Port:
    """One open link. `peer` is None for an anonymous dialer; `dialed` if this side dialed."""

    __slots__ = ("_last_id", "creates", "dialed", "last_used", "peer", "queue", "sides", "unknown")

    def __init__(
        self, queue: OutQueue, peer: NodeId | None, creates: TokenBucket, *, dialed: bool
    ) -> None:
        self.queue = queue
        self.peer = peer
        self.dialed = dialed
        self.creates = creates
        self.sides: dict[int, CircuitSide] = {}
        self.unknown = 0
        self.last_used = 0.0
        self._last_id = 0

    def new_id(self, side: CircuitSide) -> int:
        """Give a circuit that this side creates an id of its own."""
        bit = DIALER_BIT if self.dialed else 0
        while True:
            self._last_id = self._last_id % (DIALER_BIT - 1) + 1
            circuit_id = bit | self._last_id
            if circuit_id not in self.sides:
                self.sides[circuit_id] = side
                return circuit_id

    def is_theirs(self, circuit_id: int) -> bool:
        """Tell whether the peer may create a circuit of this id."""
        return bool(circuit_id & DIALER_BIT) != self.dialed and circuit_id & ~DIALER_BIT != 0
