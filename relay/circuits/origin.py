"""A circuit's origin: handshakes hop by hop, all layers, and the streams (spec/03, spec/04).

Synchronous: whoever waits for a hop or for the end sets `wake`, and looks at `length` and `error`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fogbank.relay.cells import (
    HEADER,
    MAX_HOPS,
    MESSAGE_HEADER,
    Command,
    DestroyReason,
    Geometry,
    pack_cell,
    pack_header,
)
from fogbank.relay.errors import CircuitDestroyed, ExtendRefused, ProtocolError, RelayError
from fogbank.relay.extend import Address, Extend, RefusedCode
from fogbank.relay.handshake import HopRequest, OriginHandshake
from fogbank.relay.keys import NodeId
from fogbank.relay.layers import OriginLayers
from fogbank.relay.limits import CIRCUIT_CELLS, CIRCUIT_LIFETIME
from fogbank.relay.link.outqueue import Lane
from fogbank.relay.link.port import Port
from fogbank.relay.streams.messages import (
    RelayCommand,
    is_drop,
    unpack_message_header,
    write_message,
)
from fogbank.relay.streams.mux import StreamMux
from fogbank.relay.work import Demand, pack_work

_RELAY = int(Command.RELAY)
_X25519_SECRET: Final = 32
_MLKEM_SEED: Final = 64
_WORK: Final = bytes((RefusedCode.WORK,))


@dataclass(frozen=True, slots=True)
class Hop:
    """A hop to build: whom, with which onion key, and where (None: over a standing link)."""

    identity: NodeId
    onion_key: bytes
    addresses: tuple[Address, ...] | None = None


class OriginCircuit:
    """A circuit that begins here.

    `network` is the network's id; `random` gives that many random bytes; `begun` the time of a
    clock that does not jump.
    """

    def __init__(
        self,
        port: Port,
        network: bytes,
        random: Callable[[int], bytes],
        begun: float,
        hop_limit: int = MAX_HOPS,
    ) -> None:
        self._port = port
        self._network = network
        self._random = random
        self._begun = begun
        self._hop_limit = hop_limit
        self._id = port.new_id(self)
        self._lane = Lane(self)
        self._layers = OriginLayers()
        self._handshake: OriginHandshake | None = None
        self._hop: Hop | None = None
        self._mux: StreamMux | None = None
        self.capacity = 0
        self.refused: ExtendRefused | None = None
        self.demand: Demand | None = None
        """What the hop asks for that is being added; `repeat` answers it."""
        self.error: RelayError | None = None
        self.wake: Callable[[], None] | None = None

    @property
    def length(self) -> int:
        """The number of hops that answered."""
        return len(self._layers)

    @property
    def mux(self) -> StreamMux:
        """The streams with the last hop; from the first use on the circuit grows no more."""
        if self.error is not None:
            raise self.error
        if self._mux is None:
            if not self.length or self._handshake is not None:
                raise RuntimeError("a circuit has streams once its last hop has answered")
            self._mux = StreamMux(self)
        return self._mux

    def takes_streams(self, now: float) -> bool:
        """Tell whether the circuit is young enough for another stream (spec/03 §3)."""
        young = now - self._begun <= CIRCUIT_LIFETIME and self._layers.count <= CIRCUIT_CELLS
        return young and self.error is None

    # Building.

    def add_hop(self, hop: Hop) -> None:
        """Send CREATE (the first hop) or EXTEND.

        The answer raises `length`, or sets `refused`, `demand` or `error`.
        """
        if self.error is not None:
            raise self.error
        if self._handshake is not None or self._mux is not None:
            raise RuntimeError("a circuit grows one hop at a time, and before its first stream")
        self.refused = None
        request = HopRequest(self.length + 1, self._hop_limit)
        self._handshake = OriginHandshake(
            hop.identity,
            hop.onion_key,
            self._network,
            request,
            self._random(_X25519_SECRET),
            self._random(_MLKEM_SEED),
        )
        self._hop = hop
        self._ask(self._handshake.message, hop, None)

    @property
    def message(self) -> bytes:
        """The message of the handshake under way, for which work may be asked."""
        if self._handshake is None:
            raise RuntimeError("no hop is being added")
        return self._handshake.message

    def repeat(self, nonce: int) -> None:
        """Ask for the hop again, with the work that was asked for."""
        if self.error is not None:
            raise self.error
        if self.demand is None or self._hop is None:
            raise RuntimeError("no work was asked for")
        self.demand = None
        self._ask(self.message, self._hop, nonce)

    def _ask(self, message: bytes, hop: Hop, nonce: int | None) -> None:
        if self.length:
            extend = Extend(hop.identity, hop.addresses, message, nonce)
            self.send(RelayCommand.EXTEND, 0, extend.encode())
        elif nonce is None:
            self._port.queue.put(pack_cell(self._id, Command.CREATE, message))
        else:
            content = pack_work(nonce, message)
            self._port.queue.put(pack_cell(self._id, Command.CREATE_WORK, content))

    def _finish_hop(self, answer: bytes) -> None:
        if self._handshake is None or self.demand is not None:
            raise ProtocolError("an answer came to no handshake")
        keys = self._handshake.finish(answer)
        self._handshake = None
        self._layers.add(keys)
        self.capacity = Geometry.data(self.length)
        self._notify()

    def created(self, content: bytes) -> None:
        """Take the first hop's answer."""
        if self.length:
            raise ProtocolError("CREATED came twice")
        self._finish_hop(content)

    def work_asked(self, demand: Demand) -> None:
        """Take what the first hop asks for."""
        if self.length:
            raise ProtocolError("WORK_ASKED came after CREATED")
        self._take_demand(demand)

    def _take_demand(self, demand: Demand) -> None:
        if self._handshake is None or self.demand is not None:
            raise ProtocolError("work is asked for no handshake")
        self.demand = demand
        self._notify()

    # Cells in and out.

    def relay_cell(self, view: memoryview, at: int) -> None:
        """Open a cell in place and take its message."""
        index = self._layers.open(view, at)
        if index != len(self._layers):
            raise ProtocolError("a hop speaks that is not the last one")
        begin = at + HEADER + index
        if self._mux is not None:
            self._mux.receive(view, begin, lambda: self._layers.received_tag(view, at, index))
        else:
            self._build_message(view, begin)

    def _build_message(self, view: memoryview, at: int) -> None:
        command, stream, length = unpack_message_header(view, at)
        if is_drop(view, at, self.capacity):
            return
        if stream or length > self.capacity or self._handshake is None or self.demand is not None:
            raise ProtocolError("a message came that none was waiting for")
        data = bytes(view[at + MESSAGE_HEADER : at + MESSAGE_HEADER + length])
        if command == RelayCommand.EXTENDED:
            self._finish_hop(data)
        elif command == RelayCommand.REFUSED and data[:1] == _WORK:
            self._take_demand(Demand.decode(data[1:]))
        elif command == RelayCommand.REFUSED and len(data) == 1:
            self._handshake = None
            self.refused = ExtendRefused(RefusedCode.sentence(data[0]))
            self._notify()
        else:
            raise ProtocolError("a message stands where none of its kind may")

    def send(
        self, command: int, stream: int, data: bytes | memoryview, *, late: float = 0.0
    ) -> bytes:
        """Seal a message for the last hop and queue it; return its tag.

        `late`: for so many seconds it may wait for others of its link.
        """
        queue = self._port.queue
        to = queue.slot()
        view = queue.view
        at = to + HEADER + len(self._layers)
        write_message(view, at, self.capacity, command, stream, data)
        tag = self._layers.seal(view, to)
        pack_header(view, to, self._id, _RELAY)
        if late:
            queue.commit_late(self._lane, late)
        else:
            queue.commit(self._lane)
        return tag

    def send_padding(self) -> None:
        """Send a padding message to the last hop."""
        self.send(RelayCommand.DROP, 0, b"")

    def hurry(self) -> None:
        """Have what was sent late wait no longer."""
        self._port.queue.mark()

    def has_room(self) -> bool:
        """Tell whether the link takes more data."""
        return self._port.queue.has_room(self._lane)

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the link has drained."""
        self._port.queue.when_room(callback)

    def hold(self, cells: int) -> None:
        """Count cells that wait here for a stream's reader."""
        self._port.queue.hold(self._lane, cells)

    # The end.

    def destroyed(self, reason: int) -> None:
        """Hear that the circuit ended beyond this link."""
        self._port.queue.drop(self._lane)
        self._end(CircuitDestroyed(_end_sentence(reason, self.length)))

    def fail(self, reason: int) -> None:
        """End the circuit and say so."""
        if self._port.destroy(self._id, self, self._lane, reason):
            self._end(CircuitDestroyed(_end_sentence(reason, self.length)))

    def _end(self, error: RelayError) -> None:
        if self.error is None:
            self.error = error
            if self._mux is not None:
                self._mux.close(str(error))
            self._notify()

    def _notify(self) -> None:
        if self.wake is not None:
            self.wake()


_END_SENTENCES = {
    DestroyReason.FAILURE: "a cell did not arrive as it was sent, or a node broke the protocol",
    DestroyReason.REQUESTED: "it was closed here",
    DestroyReason.LINK_ENDED: "a link between two of its nodes ended",
    DestroyReason.RESOURCES: "a node on it is out of resources",
    DestroyReason.SHUTDOWN: "a node on it is shutting down",
    DestroyReason.HANDSHAKE_REFUSED: "a node refused the handshake",
}


def _end_sentence(reason: int, hops: int) -> str:
    known = reason in _END_SENTENCES
    why = _END_SENTENCES[DestroyReason(reason)] if known else f"reason {reason}"
    return f"the circuit of {hops} hops was destroyed: {why}"
