"""One hop of a circuit, as its relay keeps it (spec/03 §3, §4).

A hop stands between two links. `HopCircuit` is the side towards the origin, where cells forward
come in; `_NextSide` the other one. A hop without a next one is the circuit's end and has the
streams (spec/04). All of it is synchronous: extending waits for a link, so `HopContext.extend`
starts that elsewhere and comes back with `extend_on` or `extend_refused`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fogbank.relay.cells import (
    CELL,
    HEADER,
    MESSAGE_HEADER,
    Command,
    DestroyReason,
    Geometry,
    pack_cell,
    pack_header,
)
from fogbank.relay.errors import ProtocolError
from fogbank.relay.extend import Extend, RefusedCode, check_hop
from fogbank.relay.handshake import HopKeys, HopRequest
from fogbank.relay.keys import NodeId
from fogbank.relay.layers import TO_NEXT, TO_YOU, HopLayers
from fogbank.relay.limits import CIRCUIT_CELLS, CIRCUIT_LIFETIME, MOST_WORKS
from fogbank.relay.link.outqueue import Lane
from fogbank.relay.link.port import Port
from fogbank.relay.streams.messages import (
    RelayCommand,
    ResetReason,
    is_drop,
    unpack_message_header,
    write_message,
)
from fogbank.relay.streams.mux import StreamMux, StreamState
from fogbank.relay.work import Demand, pack_work

_RELAY = int(Command.RELAY)


class HopContext(Protocol):
    """What a hop needs from its node."""

    identity: NodeId
    """The node's own identity."""

    def extend(self, hop: HopCircuit, request: Extend) -> RefusedCode | None:
        """Begin to extend `hop`, or say why not."""

    def serve(self, hop: HopCircuit, stream: StreamState, service: str) -> ResetReason | None:
        """Begin to serve a stream, or say why not."""

    def ended(self) -> None:
        """Hear, once, that a hop's circuit is over."""

    def now(self) -> float:
        """Return the time, in seconds of a clock that does not jump."""


class HopCircuit:
    """A circuit's state at one hop, and the side towards its origin."""

    __slots__ = (
        "_again", "_begun", "_context", "_extended", "_extending", "_lane", "_layers", "_limit",
        "_next", "_prev", "_prev_id", "_scratch", "_works", "capacity", "index", "mux",
    )  # fmt: skip

    def __init__(
        self, context: HopContext, prev: Port, prev_id: int, keys: HopKeys, request: HopRequest
    ) -> None:
        self._context = context
        self._prev = prev
        self._prev_id = prev_id
        self._lane = Lane(self)
        self._layers = HopLayers(keys, request.index)
        self.index = request.index
        self._limit = request.limit
        self._next: _NextSide | None = None
        self._extending = False
        self._extended = False
        self._again: NodeId | None = None
        self._works = 0
        self._begun = context.now()
        self._scratch = memoryview(bytearray(CELL))
        self.capacity = Geometry.data(request.index)
        self.mux: StreamMux | None = None

    @property
    def linked_peer(self) -> NodeId | None:
        """Who proved to be at the other end of the link towards the origin."""
        return self._prev.peer

    # The side towards the origin: cells come forward.

    def relay_cell(self, view: memoryview, at: int) -> None:
        """Open a cell that travels forward; pass it on, or take its message."""
        next_side = self._next
        if next_side is not None and next_side.open:
            queue = next_side.port.queue
            to = queue.slot()
            flag = self._layers.open_forward(view, at, queue.view, to)
            if flag == TO_NEXT:
                pack_header(queue.view, to, next_side.circuit_id, _RELAY)
                queue.commit(next_side.lane)
            elif flag != TO_YOU or not is_drop(queue.view, to + HEADER, self.capacity):
                raise ProtocolError("a hop that is not the last one got a message for a last one")
        else:
            if self._layers.open_forward(view, at, self._scratch, 0) != TO_YOU:
                raise ProtocolError("a cell for a next hop, and there is none")
            self._message(lambda: self._layers.received_tag(view, at))

    def created(self, content: bytes) -> None:  # noqa: ARG002 - it is wrong whatever it holds
        """Refuse CREATED from the side that sent CREATE."""
        raise ProtocolError("CREATED came from the wrong side")

    def work_asked(self, demand: Demand) -> None:  # noqa: ARG002 - it is wrong whatever it asks
        """Refuse WORK_ASKED from the side that sent CREATE."""
        raise ProtocolError("WORK_ASKED came from the wrong side")

    def destroyed(self, reason: int) -> None:
        """Hear of the end from the origin's side."""
        self._context.ended()
        self._prev.queue.drop(self._lane)
        if self._next is not None:
            self._next.close(reason)
        self._close_streams("the circuit was closed by its origin")

    def fail(self, reason: int) -> None:
        """End the circuit in both directions."""
        if self._prev.destroy(self._prev_id, self, self._lane, reason):
            self._context.ended()
            if self._next is not None:
                self._next.close(reason)
            self._close_streams("the circuit was destroyed")

    def next_ended(self, reason: int) -> None:
        """Hear that the circuit ended beyond this hop."""
        if self._next is not None and not self._next.open:
            self._next = None
            full = reason == DestroyReason.RESOURCES
            self.extend_refused(RefusedCode.RESOURCES if full else RefusedCode.FAILED)
        elif self._prev.destroy(self._prev_id, self, self._lane, reason):
            self._context.ended()

    def _close_streams(self, reason: str) -> None:
        if self.mux is not None:
            self.mux.close(reason)

    # The circuit's end: messages and streams.

    def send(
        self, command: int, stream: int, data: bytes | memoryview, *, late: float = 0.0
    ) -> bytes:
        """Seal a message to the origin and queue it; return its tag.

        `late`: for so many seconds it may wait for others of its link.
        """
        queue = self._prev.queue
        to = queue.slot()
        view = queue.view
        write_message(view, to + HEADER + 1, self.capacity, command, stream, data)
        tag = self._layers.seal_own(view, to)
        pack_header(view, to, self._prev_id, _RELAY)
        if late:
            queue.commit_late(self._lane, late)
        else:
            queue.commit(self._lane)
        return tag

    def hurry(self) -> None:
        """Have what was sent late wait no longer."""
        self._prev.queue.mark()

    def has_room(self) -> bool:
        """Tell whether the link towards the origin takes more data."""
        return self._prev.queue.has_room(self._lane)

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` once that link has drained."""
        self._prev.queue.when_room(callback)

    def hold(self, cells: int) -> None:
        """Count cells that wait here for a stream's reader."""
        self._prev.queue.hold(self._lane, cells)

    def _message(self, tag: Callable[[], bytes]) -> None:
        command, stream, length = unpack_message_header(self._scratch, HEADER)
        if is_drop(self._scratch, HEADER, self.capacity):
            return
        if self._extending:
            raise ProtocolError("a message for a last hop while the circuit is being extended")
        if command == RelayCommand.EXTEND:
            if stream or length > self.capacity:
                raise ProtocolError("EXTEND is malformed")
            begin = HEADER + MESSAGE_HEADER
            self._extend(bytes(self._scratch[begin : begin + length]))
        else:
            if self.mux is None:
                self.mux = StreamMux(self, self._accept)
            self.mux.receive(self._scratch, HEADER, tag)

    def _accept(self, stream: StreamState, service: str) -> ResetReason | None:
        age = self._context.now() - self._begun
        if age > CIRCUIT_LIFETIME or self._layers.count > CIRCUIT_CELLS:
            return ResetReason.RESOURCES
        return self._context.serve(self, stream, service)

    # Extending.

    def _extend(self, data: bytes) -> None:
        request = Extend.decode(data)
        again, self._again = self._again, None
        if (self._extended and request.identity != again) or self.mux is not None:
            self.extend_refused(RefusedCode.LIMIT)
            return
        own = self._context.identity
        refused = check_hop(request, own, self._prev.peer, self.index, self._limit)
        if refused is None:
            self._extending = True
            refused = self._context.extend(self, request)
        if refused is not None:
            self.extend_refused(refused)

    def extend_refused(self, code: RefusedCode, details: bytes = b"") -> None:
        """Tell the origin that the circuit was not extended."""
        self._extending = False
        if self._prev.sides.get(self._prev_id) is self:
            self.send(RelayCommand.REFUSED, 0, bytes((code,)) + details)

    def extend_on(
        self,
        port: Port,
        handshake: bytes,
        settled: Callable[[], None],
        nonce: int | None = None,
    ) -> None:
        """Send CREATE over the link to the next hop, or with a nonce CREATE_WORK.

        `settled` is called once it is answered, or never will be.
        """
        if self._prev.sides.get(self._prev_id) is not self:
            settled()
            return
        self._extended = True
        self._next = _NextSide(self, port, settled)
        if nonce is None:
            cell = pack_cell(self._next.circuit_id, Command.CREATE, handshake)
        else:
            content = pack_work(nonce, handshake)
            cell = pack_cell(self._next.circuit_id, Command.CREATE_WORK, content)
        port.queue.put(cell)

    def next_asks_work(self, peer: NodeId | None, demand: Demand) -> None:
        """Tell the origin what the next hop asks; it may then extend to the same one again."""
        self._next = None
        self._works += 1
        if self._works > MOST_WORKS:
            self.extend_refused(RefusedCode.LIMIT)
        else:
            self._again = peer
            self.extend_refused(RefusedCode.WORK, demand.encode())

    def extend_timed_out(self) -> None:
        """Give up on a next hop that could not be reached or has not answered."""
        if self._next is not None and not self._next.open:
            self._next.close(DestroyReason.FAILURE)
            self._next = None
        if self._extending:
            self.extend_refused(RefusedCode.UNREACHABLE)

    def next_created(self, answer: bytes) -> None:
        """Tell the origin of the next hop's answer."""
        if len(answer) > self.capacity:
            raise ProtocolError("the next hop's answer is too long")
        self.send(RelayCommand.EXTENDED, 0, answer)
        self._extending = False

    def pass_back(self, view: memoryview, at: int) -> None:
        """Add this hop's layer to a cell that travels backward, and pass it on."""
        queue = self._prev.queue
        to = queue.slot()
        self._layers.seal_backward(view, at, queue.view, to)
        pack_header(queue.view, to, self._prev_id, _RELAY)
        queue.commit(self._lane)


class _NextSide:
    """The side of a hop that is away from the origin: cells come backward."""

    __slots__ = ("_hop", "_settled", "circuit_id", "lane", "open", "port", "relay_cell")

    def __init__(self, hop: HopCircuit, port: Port, settled: Callable[[], None]) -> None:
        self._hop = hop
        self._settled = settled
        self.port = port
        self.lane = Lane(hop)
        self.circuit_id = port.new_id(self)
        self.open = False
        self.relay_cell: Callable[[memoryview, int], None] = self._too_early

    def _too_early(self, _view: memoryview, _at: int) -> None:
        raise ProtocolError("a cell came from a hop that has not answered")

    def created(self, content: bytes) -> None:
        """Take the next hop's answer; from now on its cells pass."""
        if self.open:
            raise ProtocolError("CREATED came twice")
        self.open = True
        self._settled()
        self.relay_cell = self._hop.pass_back
        self._hop.next_created(content)

    def work_asked(self, demand: Demand) -> None:
        """Take what the next hop asks for; it keeps nothing of this circuit."""
        if self.open:
            raise ProtocolError("WORK_ASKED came after CREATED")
        self._settled()
        del self.port.sides[self.circuit_id]
        self._hop.next_asks_work(self.port.peer, demand)

    def destroyed(self, reason: int) -> None:
        """Hear of the end from beyond."""
        self._settled()
        self.port.queue.drop(self.lane)
        self._hop.next_ended(reason)

    def fail(self, reason: int) -> None:
        """End the whole circuit."""
        self._hop.fail(reason)

    def close(self, reason: int) -> None:
        """End this side and say so."""
        self._settled()
        self.port.destroy(self.circuit_id, self, self.lane, reason)
