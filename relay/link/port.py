"""An open link as the switch sees it: what it can send, and whose circuit ids mean what."""

from __future__ import annotations

from typing import Protocol

from fogbank.relay.cells import DIALER_BIT, Command, pack_cell, pack_destroy
from fogbank.relay.keys import NodeId
from fogbank.relay.limits import CIRCUIT_WINDOW
from fogbank.relay.link.outqueue import Lane, OutQueue
from fogbank.relay.work import Demand

PAD_GAP = 3.0
"""Seconds after PADDING was sent in which none is answered: so an answer is not answered, too."""


class CircuitSide(Protocol):
    """What a link's circuit id leads to: one side of a circuit."""

    def relay_cell(self, view: memoryview, at: int) -> None:
        """Take the RELAY cell at `view[at]`, overwriting it; may raise `ProtocolError`."""

    def created(self, content: bytes) -> None:
        """Take the content of a CREATED cell; may raise `ProtocolError`."""

    def work_asked(self, demand: Demand) -> None:
        """Take a WORK_ASKED cell; may raise `ProtocolError`."""

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
        # A clock that was set back gives nothing, and takes nothing away.
        passed = max(0.0, now - self._then)
        self._level = min(self._burst, self._level + passed * self._rate)
        self._then = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


class Port:
    """One open link. `peer` is None for an anonymous dialer; `dialed` if this side dialed."""

    __slots__ = (
        "_last_id", "creates", "dialed", "last_used", "padded", "peer", "queue", "sides", "unknown",
        "unknown_allowed",
    )  # fmt: skip

    def __init__(
        self, queue: OutQueue, peer: NodeId | None, creates: TokenBucket, *, dialed: bool
    ) -> None:
        self.queue = queue
        self.peer = peer
        self.dialed = dialed
        self.creates = creates
        self.sides: dict[int, CircuitSide] = {}
        self.unknown = 0
        """RELAY cells that came for no circuit."""
        self.unknown_allowed = CIRCUIT_WINDOW
        """How many of them may come: what could have been under way."""
        self.last_used = 0.0
        self.padded = -PAD_GAP
        """When PADDING was last sent."""
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

    def pad(self, now: float) -> None:
        """Send PADDING."""
        self.padded = now
        self.queue.put(pack_cell(0, Command.PADDING, b""))

    def answer_padding(self, now: float) -> None:
        """The peer sent PADDING: show that this side is there, unless that was just done."""
        if now - self.padded >= PAD_GAP:
            self.pad(now)

    def destroy(self, circuit_id: int, side: CircuitSide, lane: Lane, reason: int) -> bool:
        """End `side` of a circuit and say so to the peer; False if it had ended already."""
        if self.sides.get(circuit_id) is not side:
            return False
        del self.sides[circuit_id]
        # Until the peer hears of it, its cells for this circuit go on coming, a window at most.
        self.unknown_allowed += 2 * CIRCUIT_WINDOW
        self.queue.drop(lane)
        self.queue.put(pack_destroy(circuit_id, reason))
        return True

    def is_theirs(self, circuit_id: int) -> bool:
        """Tell whether the peer may create a circuit of this id."""
        return bool(circuit_id & DIALER_BIT) != self.dialed and circuit_id & ~DIALER_BIT != 0
