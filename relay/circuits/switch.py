"""The switch: moves cells between a node's links and circuits, a batch at a time (spec/02, 03).

This is the hot path. A batch is all whole cells that one read of one link gave; it is worked
through synchronously, and what it queued on other links is sent by the caller afterwards: see
`take_dirty`. Nothing here waits, and a peer's fault never leaves a batch as an exception: it ends
the circuit, or, as `ProtocolError` from `receive`, the link that the batch came from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fogbank.relay.cells import (
    CELL,
    HEADER,
    Command,
    DestroyReason,
    cell_content,
    pack_cell,
    pack_destroy,
    unpack_header,
)
from fogbank.relay.circuits.hop import HopCircuit
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.extend import Extend, RefusedCode
from fogbank.relay.handshake import answer_handshake
from fogbank.relay.keys import NodeId, X25519Key
from fogbank.relay.limits import Limits
from fogbank.relay.link.outqueue import Budget, OutQueue
from fogbank.relay.link.port import Port, TokenBucket
from fogbank.relay.replay import ReplayCache
from fogbank.relay.streams.messages import ResetReason
from fogbank.relay.streams.mux import StreamState

_RELAY = int(Command.RELAY)
_Y_SECRET = 32


class HopKeyring(Protocol):
    """The keys with which this node answers CREATE."""

    identity: NodeId

    def onion_keys(self) -> Sequence[X25519Key]:
        """Return the accepted onion keys, newest first."""


class SwitchHost(Protocol):
    """What the switch starts and does not wait for."""

    def extend(self, hop: HopCircuit, request: Extend) -> RefusedCode | None:
        """Begin to extend `hop`, or say why not."""

    def serve(self, hop: HopCircuit, stream: StreamState, service: str) -> ResetReason | None:
        """Begin to serve a stream, or say why not."""

    def send(self, queues: Sequence[OutQueue]) -> None:
        """Send what waits on the links of `queues` as far as it goes without waiting."""


class Switch:
    """All links and circuits of one process.

    Without a `keyring` it answers no CREATE: so a client's. `clock` gives seconds that do not jump,
    `random` that many random bytes.
    """

    def __init__(
        self,
        host: SwitchHost,
        limits: Limits,
        network: bytes,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
        keyring: HopKeyring | None = None,
    ) -> None:
        self._host = host
        self._limits = limits
        self._network = network
        self._random = random
        self._keyring = keyring
        self._replay = ReplayCache()
        self._budget = Budget(limits.process_queue, limits.circuit_queue)
        self._dirty: list[OutQueue] = []
        self.now = clock
        self.identity = keyring.identity if keyring is not None else b""

    # Links come and go.

    def open_port(
        self, peer: NodeId | None, *, dialed: bool, creates: TokenBucket | None = None
    ) -> Port:
        """Add an open link. `creates` allows its CREATEs, and maybe other links' too."""
        limits = self._limits
        bucket = creates or TokenBucket(limits.creates_per_second, limits.creates_burst, self.now())
        return Port(OutQueue(self._budget, self._dirty), peer, bucket, dialed=dialed)

    def close_port(self, port: Port) -> None:
        """Remove a link: its circuits end, and their other sides hear of it."""
        sides = list(port.sides.values())
        port.sides.clear()
        for side in sides:
            side.destroyed(DestroyReason.LINK_ENDED)
        port.queue.close()
        self.flush()

    def flush(self) -> None:
        """Have the host send what was queued since the last time; doomed circuits end first."""
        doomed = self._budget.doomed
        while doomed or self._dirty:
            while doomed:
                doomed.pop().fail(DestroyReason.RESOURCES)
            queues = self._dirty[:]
            self._dirty.clear()
            self._host.send(queues)

    # Cells come in.

    def receive(self, port: Port, view: memoryview, length: int) -> None:
        """Work through the cells in the first `length` bytes of `view`, which is overwritten.

        Raises `ProtocolError` if the link must be closed.
        """
        sides = port.sides
        for at in range(0, length, CELL):
            circuit_id, command = unpack_header(view, at)
            if command == _RELAY:
                side = sides.get(circuit_id)
                if side is None:
                    self._count_unknown(port, circuit_id)
                    continue
                try:
                    side.relay_cell(view, at)
                except ProtocolError:
                    side.fail(DestroyReason.FAILURE)
            else:
                self._control(port, circuit_id, command, view[at : at + CELL])

    def _count_unknown(self, port: Port, circuit_id: int) -> None:
        port.unknown += 1
        if circuit_id == 0 or port.unknown > port.unknown_allowed:
            raise ProtocolError("too many cells for circuits that are not there")

    def _control(self, port: Port, circuit_id: int, command: int, cell: memoryview) -> None:
        if command == Command.PADDING and not circuit_id:
            return
        if command == Command.CREATE and port.is_theirs(circuit_id):
            self._create(port, circuit_id, cell_content(cell))
        elif command == Command.CREATED and circuit_id:
            side = port.sides.get(circuit_id)
            content = cell_content(cell)
            if side is not None:
                try:
                    side.created(content)
                except ProtocolError:
                    side.fail(DestroyReason.FAILURE)
        elif command == Command.DESTROY and circuit_id:
            side = port.sides.pop(circuit_id, None)
            if side is not None:
                side.destroyed(cell[HEADER])
        else:
            raise ProtocolError("a cell's command is unknown, or stands where it may not")

    def _create(self, port: Port, circuit_id: int, message: bytes) -> None:
        if circuit_id in port.sides:
            raise ProtocolError("a circuit id was used twice")
        if port.queue.queued > self._limits.unread_answers:
            raise ProtocolError("a peer that reads no answers asks for more")
        refused: DestroyReason | None = None
        if self._keyring is None:
            refused = DestroyReason.HANDSHAKE_REFUSED
        elif len(port.sides) >= self._limits.circuits_per_link or not port.creates.take(self.now()):
            refused = DestroyReason.RESOURCES
        if refused is None and self._keyring is not None:
            try:
                answer, request, keys = answer_handshake(
                    message,
                    self._keyring.identity,
                    self._keyring.onion_keys(),
                    self._network,
                    self._replay,
                    self._random(_Y_SECRET),
                )
            except RelayError:
                refused = DestroyReason.HANDSHAKE_REFUSED
            else:
                port.sides[circuit_id] = HopCircuit(self, port, circuit_id, keys, request)
                port.queue.put(pack_cell(circuit_id, Command.CREATED, answer))
        if refused is not None:
            port.queue.put(pack_destroy(circuit_id, refused))

    # What hops ask for.

    def extend(self, hop: HopCircuit, request: Extend) -> RefusedCode | None:
        """Hand the request to the host."""
        return self._host.extend(hop, request)

    def serve(self, hop: HopCircuit, stream: StreamState, service: str) -> ResetReason | None:
        """Hand a stream to the host."""
        return self._host.serve(hop, stream, service)
