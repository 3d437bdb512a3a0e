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
from fogbank.relay.circuits.creation import CreationQueue
from fogbank.relay.circuits.hop import HopCircuit
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.extend import Extend, RefusedCode
from fogbank.relay.handshake import MESSAGE_LENGTHS, HopKeys, HopRequest, answer_handshake
from fogbank.relay.keys import NodeId, X25519Key
from fogbank.relay.limits import Limits
from fogbank.relay.link.outqueue import Budget, Lane, OutQueue, Slabs
from fogbank.relay.link.port import Port, TokenBucket
from fogbank.relay.replay import ReplayCache
from fogbank.relay.streams.messages import ResetReason
from fogbank.relay.streams.mux import StreamState
from fogbank.relay.work import Demand, unpack_work

_RELAY = int(Command.RELAY)
_Y_SECRET = 32
_SLICE = 4
"""Handshakes that are done before other tasks get their turn."""


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
        self._slabs = Slabs(limits.link_memory)
        self._dirty: list[OutQueue] = []
        self._late: dict[float, list[OutQueue]] = {}
        self._ports: dict[Port, None] = {}
        self._circuits = 0
        self._creations: CreationQueue[WaitingCreate] = CreationQueue(limits, random, clock())
        self.now = clock
        self.identity = keyring.identity if keyring is not None else b""
        self.on_waiting: Callable[[], None] | None = None
        """Called when CREATEs begin to wait for `answer_waiting`."""
        self.on_late: Callable[[float], None] | None = None
        """Called with the seconds for which cells begin to wait that `flush` leaves: after these
        `flush_late` is to be called.

        While nobody hears of it, none do.
        """

    # Links come and go.

    def open_port(
        self, peer: NodeId | None, *, dialed: bool, creates: TokenBucket | None = None
    ) -> Port:
        """Add an open link. `creates` allows its CREATEs, and maybe other links' too."""
        limits = self._limits
        bucket = creates or TokenBucket(limits.creates_per_second, limits.creates_burst, self.now())
        queue = OutQueue(self._budget, self._slabs, self._dirty, self._wait_late)
        port = Port(queue, peer, bucket, dialed=dialed)
        self._ports[port] = None
        return port

    def close_port(self, port: Port, reason: int = DestroyReason.LINK_ENDED) -> None:
        """Remove a link: its circuits end, and their other sides hear of it."""
        self._ports.pop(port, None)
        sides = list(port.sides.values())
        port.sides.clear()
        for side in sides:
            side.destroyed(reason)
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

    def _wait_late(self, queue: OutQueue, seconds: float) -> None:
        if self.on_late is None:
            queue.mark()
        elif seconds in self._late:
            self._late[seconds].append(queue)
        else:
            self._late[seconds] = [queue]
            self.on_late(seconds)

    def flush_late(self, seconds: float) -> None:
        """Flush, and have sent too what might wait so long for other cells of its link."""
        for queue in self._late.pop(seconds, ()):
            queue.mark()
        self.flush()

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
            port.answer_padding(self.now())
            return
        if command == Command.CREATE and port.is_theirs(circuit_id):
            self._create(port, circuit_id, None, cell_content(cell))
        elif command == Command.CREATE_WORK and port.is_theirs(circuit_id):
            self._create(port, circuit_id, *unpack_work(cell_content(cell)))
        elif command in (Command.CREATED, Command.WORK_ASKED) and circuit_id:
            side = port.sides.get(circuit_id)
            content = cell_content(cell)
            if side is not None:
                try:
                    if command == Command.CREATED:
                        side.created(content)
                    else:
                        side.work_asked(Demand.decode(content))
                except ProtocolError:
                    side.fail(DestroyReason.FAILURE)
        elif command == Command.DESTROY and circuit_id:
            side = port.sides.pop(circuit_id, None)
            if side is not None:
                side.destroyed(cell[HEADER])
        else:
            raise ProtocolError("a cell's command is unknown, or stands where it may not")

    # Circuits begin.

    def _create(self, port: Port, circuit_id: int, nonce: int | None, message: bytes) -> None:
        if circuit_id in port.sides:
            raise ProtocolError("a circuit id was used twice")
        if port.queue.queued > self._limits.unread_answers:
            raise ProtocolError("a peer that reads no answers asks for more")
        now = self.now()
        full = len(port.sides) >= self._limits.circuits_per_link
        if full or not port.creates.take(now) or not self._make_room(port):
            port.queue.put(pack_destroy(circuit_id, DestroyReason.RESOURCES))
        elif self._keyring is None or len(message) not in MESSAGE_LENGTHS:
            port.queue.put(pack_destroy(circuit_id, DestroyReason.HANDSHAKE_REFUSED))
        else:
            queue = self._creations
            effort = queue.weigh(nonce, message, now)
            item = WaitingCreate(queue, port, circuit_id, message, effort, now)
            if effort < queue.effort(now):
                self._give_up(item)
                return
            port.sides[circuit_id] = item
            self._wait(item, now)

    def _make_room(self, port: Port) -> bool:
        """Tell whether there is room for another circuit from `port`; make some if need be."""
        if self._circuits < self._limits.circuits:
            return True
        largest = max(self._ports, key=lambda each: len(each.sides))
        if len(port.sides) + 1 >= len(largest.sides):
            return False
        for side in reversed(largest.sides.values()):
            if isinstance(side, HopCircuit):
                side.fail(DestroyReason.RESOURCES)
                return True
        return False

    def _wait(self, item: WaitingCreate, now: float) -> None:
        queue = self._creations
        at_once = not queue
        given_up = queue.push(item, now)
        if given_up is not None:
            self._give_up(given_up)
        if at_once and queue.next(now) is item:
            self._answer(item)
        elif at_once and self.on_waiting is not None:
            self.on_waiting()

    def answer_waiting(self) -> float | None:
        """Answer some CREATEs that wait; return in how many seconds to go on, or None if none do.

        What is to be sent then is for `flush`.
        """
        queue = self._creations
        for late in queue.expire(self.now()):
            self._give_up(late)
        for _ in range(_SLICE):
            item = queue.next(self.now())
            if item is None:
                break
            self._answer(item)
        return queue.ready_in(self.now())

    def _answer(self, item: WaitingCreate) -> None:
        """Do a handshake; nothing else takes as long."""
        begun = self.now()
        port, circuit_id = item.port, item.circuit_id
        try:
            answer, request, keys = self._shake(item.message)
        except RelayError:
            del port.sides[circuit_id]
            port.queue.put(pack_destroy(circuit_id, DestroyReason.HANDSHAKE_REFUSED))
        else:
            self._circuits += 1
            port.sides[circuit_id] = HopCircuit(self, port, circuit_id, keys, request)
            port.queue.put(pack_cell(circuit_id, Command.CREATED, answer))
        self._creations.spent(self.now() - begun)

    def _shake(self, message: bytes) -> tuple[bytes, HopRequest, HopKeys]:
        if self._keyring is None:
            raise ProtocolError("a node without keys was asked for a circuit")
        return answer_handshake(
            message,
            self._keyring.identity,
            self._keyring.onion_keys(),
            self._network,
            self._replay,
            self._random(_Y_SECRET),
        )

    def _give_up(self, item: WaitingCreate) -> None:
        """Say that a CREATE is not answered, and what work it would take."""
        port, circuit_id = item.port, item.circuit_id
        port.sides.pop(circuit_id, None)
        demand = self._creations.demand(self.now())
        if demand is None:
            port.queue.put(pack_destroy(circuit_id, DestroyReason.RESOURCES))
        else:
            port.queue.put(pack_cell(circuit_id, Command.WORK_ASKED, demand.encode()))

    @property
    def effort_asked(self) -> int:
        """The effort that this node asks for now, of everyone; 0 if it keeps up (spec/03 §2.5)."""
        return self._creations.effort(self.now())

    # What hops ask for, and tell.

    def ended(self) -> None:
        """Hear that a hop's circuit is over."""
        self._circuits -= 1

    def extend(self, hop: HopCircuit, request: Extend) -> RefusedCode | None:
        """Hand the request to the host."""
        return self._host.extend(hop, request)

    def serve(self, hop: HopCircuit, stream: StreamState, service: str) -> ResetReason | None:
        """Hand a stream to the host."""
        return self._host.serve(hop, stream, service)


class WaitingCreate:
    """A circuit that was asked for and waits for its handshake."""

    __slots__ = ("_lane", "_queue", "circuit_id", "effort", "message", "port", "since")

    def __init__(
        self,
        queue: CreationQueue[WaitingCreate],
        port: Port,
        circuit_id: int,
        message: bytes,
        effort: int,
        since: float,
    ) -> None:
        self._queue = queue
        self._lane = Lane(self)
        self.port = port
        self.circuit_id = circuit_id
        self.message = message
        self.effort = effort
        self.since = since

    def relay_cell(self, _view: memoryview, _at: int) -> None:
        """Refuse a cell that came before the answer."""
        raise ProtocolError("a cell came for a circuit that is not yet there")

    def created(self, _content: bytes) -> None:
        """Refuse CREATED from the side that sent CREATE."""
        raise ProtocolError("CREATED came from the wrong side")

    def work_asked(self, _demand: Demand) -> None:
        """Refuse WORK_ASKED from the side that sent CREATE."""
        raise ProtocolError("WORK_ASKED came from the wrong side")

    def destroyed(self, _reason: int) -> None:
        """Hear that nobody wants the circuit any more."""
        self._queue.discard(self)

    def fail(self, reason: int) -> None:
        """End what has not begun."""
        if self.port.destroy(self.circuit_id, self, self._lane, reason):
            self._queue.discard(self)
