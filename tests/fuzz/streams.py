"""The decoders of what comes through circuits: cells, relay messages, messages of services."""

from __future__ import annotations

import struct
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import h11

from fogbank.directory.tor_http_shell import MAX_HEAD, _next_request
from fogbank.relay.cells import BODY, CELL, HEADER, MAX_HOPS, MESSAGE_HEADER, Command, Geometry
from fogbank.relay.circuits.hop import HopCircuit
from fogbank.relay.circuits.origin import Hop, OriginCircuit
from fogbank.relay.circuits.switch import Switch
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.extend import Address, Extend, RefusedCode
from fogbank.relay.handshake import HopRequest, OriginHandshake, answer_handshake
from fogbank.relay.keys import NodeId, X25519Key
from fogbank.relay.layers import HopLayers
from fogbank.relay.limits import Limits
from fogbank.relay.link.outqueue import OutQueue
from fogbank.relay.messages_shell import receive_message
from fogbank.relay.replay import ReplayCache
from fogbank.relay.streams.messages import RelayCommand, ResetReason
from fogbank.relay.streams.mux import StreamMux, StreamState
from fogbank.relay.work import Demand, pack_work
from tests.fuzz.kinds import Decoder, Form, StreamDecoder
from tests.fuzz.relay_room import IDENTITY, NET, ONION, ORIGIN


class Portions:
    """A stream that brings given portions; nothing on it ever waits."""

    def __init__(self, portions: Iterable[bytes]) -> None:
        self._portions = [bytes(portion) for portion in portions if portion]

    async def send_all(self, data: bytes) -> None:
        raise NotImplementedError

    async def receive_some(self, max_bytes: int) -> bytes:
        if not self._portions:
            return b""
        head = self._portions[0][:max_bytes]
        self._portions[0] = self._portions[0][max_bytes:]
        if not self._portions[0]:
            self._portions.pop(0)
        return head

    async def aclose(self) -> None:
        raise NotImplementedError


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run what never waits, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def messages(portions: Iterable[bytes]) -> Iterator[object]:
    """Receive the messages of a directory stream."""
    stream = Portions(portions)
    while (message := finished(receive_message(stream, 200))) is not None:
        yield message


def http_request(portions: Iterable[bytes]) -> Iterator[object]:
    """Receive the one request that the local HTTP server answers."""
    stream: Any = Portions(portions)
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    try:
        request = finished(_next_request(http, stream))
    except h11.RemoteProtocolError:
        # Its words depend on how much of a wrong line is there; nobody hears them.
        raise ProtocolError("this is no HTTP request") from None
    if request is not None:
        yield request.method, request.target


# Relay messages, at both ends of a circuit.

TAG = b"t" * 16
_LOCAL = 0x80
"""From this command on, a fuzzed message is something that this side does."""


class End:
    """A circuit's end whose cells go nowhere, and whose link always has room."""

    capacity = Geometry.data(1)

    def __init__(self) -> None:
        self.held = 0

    def send(
        self,
        command: int,  # noqa: ARG002 - the protocol has it
        stream: int,  # noqa: ARG002 - the protocol has it
        data: bytes | memoryview,
        *,
        late: float = 0.0,  # noqa: ARG002 - the protocol has it
    ) -> bytes:
        assert len(data) <= self.capacity
        return TAG

    def hurry(self) -> None:
        pass

    def has_room(self) -> bool:
        return True

    def when_room(self, callback: Callable[[], None]) -> None:  # noqa: ARG002 - the protocol has it
        raise AssertionError("there is room")

    def hold(self, cells: int) -> None:
        self.held += cells
        assert self.held >= 0


def relay_messages(mux: StreamMux, end: End, data: bytes, streams: list[StreamState]) -> int:
    """Take messages that stand one after another; return how many.

    One that announces more than there is gets zeros, as a cell has one size.
    """
    at = count = 0
    while at < len(data):
        cell = memoryview(bytearray(data[at : at + CELL].ljust(CELL, b"\0")))
        command, number, length = struct.unpack_from(">BHH", cell)
        at += MESSAGE_HEADER + length
        count += 1
        if command >= _LOCAL:
            act(mux, command, number, streams)
            continue
        mux.receive(cell, 0, lambda: TAG)
    mux.close("the circuit is gone")
    assert not len(mux)
    return count


def act(mux: StreamMux, command: int, number: int, streams: list[StreamState]) -> None:
    """Do something on this side with one of the streams."""
    if not streams:
        return
    stream = streams[number % len(streams)]
    try:
        match command % 4:
            case 0:
                mux.take(stream, 1 << 16)
            case 1:
                # A write enough for several acknowledgements.
                mux.write(stream, bytes(number * 16))
                mux.pump()
            case 2:
                mux.finish(stream)
            case _:
                mux.reset(stream, ResetReason.CANCELLED)
    except RelayError:
        # The stream is over: writing says so.
        assert stream.error is not None or stream.eof_wanted


def at_hop(data: bytes) -> int:
    """Be a hop to a hostile origin."""
    streams: list[StreamState] = []

    def accept(stream: StreamState, service: str) -> ResetReason | None:
        if service == "no":
            return ResetReason.NO_SERVICE
        streams.append(stream)
        return None

    end = End()
    return relay_messages(StreamMux(end, accept), end, data, streams)


def at_origin(data: bytes) -> int:
    """Be an origin, with two streams, to a hostile hop."""
    end = End()
    mux = StreamMux(end)
    streams = [mux.begin("echo"), mux.begin("dir")]
    return relay_messages(mux, end, data, streams)


def said(*parts: tuple[int, int, bytes]) -> bytes:
    """Encode messages one after another: command, stream, data."""
    return b"".join(struct.pack(">BHH", c, s, len(data)) + data for c, s, data in parts)


AT_HOP = said(
    (RelayCommand.DROP, 0, b""),
    (RelayCommand.BEGIN, 1, b"echo"),
    (RelayCommand.DATA, 1, b"data"),
    (_LOCAL + 1, 0, b""),
    (_LOCAL, 0, b""),
    (RelayCommand.BEGIN, 2, b"no"),
    (RelayCommand.EOF, 1, b""),
    (_LOCAL + 2, 0, b""),
)
# Enough is written that the first acknowledgements are due.
ACKNOWLEDGED = said(
    (RelayCommand.BEGIN, 1, b"echo"),
    (_LOCAL + 1, 0xFFFF, b""),
    (RelayCommand.SENDME, 1, TAG),
    (RelayCommand.SENDME, 0, TAG),
    (RelayCommand.RESET, 1, b"\1"),
)
MANY_DATA = said((RelayCommand.BEGIN, 1, b"echo"), *[(RelayCommand.DATA, 1, b"x")] * 130)
AT_ORIGIN = said(
    (RelayCommand.CONNECTED, 1, b""),
    (RelayCommand.DATA, 1, b"data"),
    (_LOCAL, 0, b""),
    (RelayCommand.RESET, 2, b"\1"),
    (RelayCommand.EOF, 1, b""),
    (_LOCAL + 2, 0, b""),
)


# Cells of a link, after its handshake.


_BARE = frozenset({Command.PADDING, Command.RELAY, Command.DESTROY})


class Keyring:
    """Keys of a relay."""

    identity: NodeId = IDENTITY.public

    def onion_keys(self) -> Sequence[X25519Key]:
        return [ONION]


class Host:
    """A node that extends nowhere, serves nothing, and sends into the void."""

    def extend(self, hop: HopCircuit, request: Extend) -> RefusedCode | None:  # noqa: ARG002 - the protocol has it
        return RefusedCode.UNREACHABLE

    def serve(self, hop: HopCircuit, stream: StreamState, service: str) -> ResetReason | None:  # noqa: ARG002 - the protocol has it
        return ResetReason.NO_SERVICE

    def send(self, queues: Sequence[OutQueue]) -> None:
        """Nobody reads."""


def cells_of(data: bytes) -> Iterator[bytes]:
    """Read cells written short: `circuit u32, command u8, length u16, content`, filled up.

    In cells whose body has no length of its own, that is left out.
    """
    at = 0
    while at + HEADER + 2 <= len(data):
        (length,) = struct.unpack_from(">H", data, at + HEADER)
        begin, end = at + HEADER, at + HEADER + 2 + min(length, BODY)
        whole = data[begin + 2 : end] if data[at + 4] in _BARE else data[begin:end]
        yield (data[at:begin] + whole).ljust(CELL, b"\0")[:CELL]
        at = end


TIGHT = replace(
    Limits(),
    circuits_per_link=6,
    creates_burst=12.0,
    creation_share=0.01,
    creations_waiting=2,
    creation_patience=1.0,
)
"""A relay that a few handshakes overload: so it asks for work, and gives up those that wait."""


def at_switch(data: bytes) -> int:
    """Give a relay the cells of an open link that it did not dial; handshakes soon overload it."""
    ticks = count()
    switch = Switch(
        Host(),
        TIGHT,
        NET,
        lambda: next(ticks) / 20,
        lambda length: b"y" * length,
        Keyring(),
    )
    port = switch.open_port(None, dialed=False)
    number = 0
    for number, cell in enumerate(cells_of(data), 1):
        switch.receive(port, memoryview(bytearray(cell)), CELL)
        if not number % 3:
            switch.answer_waiting()
        switch.flush()
    switch.close_port(port)
    assert switch.answer_waiting() is None
    return number


def at_client_switch(data: bytes) -> int:
    """Give a client the cells of a link that it dialed, while its circuit is being built."""
    switch = Switch(Host(), Limits(), NET, lambda: 0.0, lambda length: b"y" * length)
    port = switch.open_port(IDENTITY.public, dialed=True)
    draws = iter([b"x" * 32, b"k" * 64])
    circuit = OriginCircuit(port, NET, lambda _: next(draws), 0.0)
    circuit.add_hop(Hop(IDENTITY.public, ONION.public, (Address("127.0.0.1", 1),)))
    number = 0
    for number, cell in enumerate(cells_of(data), 1):
        switch.receive(port, memoryview(bytearray(cell)), CELL)
        if circuit.demand is not None and circuit.error is None and number % 2:
            circuit.repeat(number)
        switch.flush()
    switch.close_port(port)
    assert circuit.error is not None
    return number


def short(*cells: tuple[int, int, bytes]) -> bytes:
    """Write cells short, as `cells_of` reads them."""
    return b"".join(struct.pack(">IBH", i, c, len(content)) + content for i, c, content in cells)


_ID = 1 << 31 | 1
CELLS_IN = short(
    (0, Command.PADDING, b""),
    (_ID, Command.CREATE, ORIGIN.message),
    (_ID, Command.RELAY, b"unsound"),
    (_ID + 1, Command.CREATE, b"unsound"),
    (_ID + 2, Command.CREATE_WORK, pack_work(7, ORIGIN.message)),
    (_ID, Command.DESTROY, b"\1"),
)
CROWD = short(*[(_ID + n, Command.CREATE, ORIGIN.message) for n in range(5)])
WRONG_WAY = short(
    (_ID, Command.CREATE, ORIGIN.message),
    (_ID, Command.CREATED, b"unsound"),
    (_ID + 1, Command.CREATE, ORIGIN.message),
    (_ID + 1, Command.WORK_ASKED, Demand(10, bytes(16)).encode()),
)
CELLS_BACK = short(
    (0, Command.PADDING, b""),
    (_ID, Command.WORK_ASKED, Demand(10, bytes(16)).encode()),
    (_ID, Command.CREATED, b"unsound"),
    (_ID, Command.DESTROY, b"\1"),
)


def built() -> bytes:
    """Return cells that build the client's circuit, and padding on it from its first hop."""
    request = HopRequest(1, MAX_HOPS)
    origin = OriginHandshake(IDENTITY.public, ONION.public, NET, request, b"x" * 32, b"k" * 64)
    replay = ReplayCache()
    answer, _, keys = answer_handshake(
        origin.message, IDENTITY.public, [ONION], NET, replay, b"y" * 32
    )
    cell = memoryview(bytearray(CELL))
    HopLayers(keys, 1).seal_own(cell, 0)
    return short((_ID, Command.CREATED, answer), (_ID, Command.RELAY, bytes(cell[HEADER:])))


RELAY_MESSAGES = [
    Decoder(
        "messages at a hop",
        at_hop,
        AT_HOP,
        exact=False,
        more=(ACKNOWLEDGED, MANY_DATA),
        form=Form.BYTES,
    ),
    Decoder("messages at an origin", at_origin, AT_ORIGIN, exact=False, form=Form.BYTES),
    Decoder(
        "cells at a relay",
        at_switch,
        CELLS_IN,
        exact=False,
        more=(CROWD, WRONG_WAY),
        form=Form.BYTES,
        limit=8000,
    ),
    Decoder(
        "cells at a client",
        at_client_switch,
        CELLS_BACK,
        exact=False,
        more=(built(),),
        form=Form.BYTES,
        limit=6000,
    ),
]

SERVICE_STREAMS = [
    StreamDecoder("directory messages", messages, b"\0\0\0\3abc\0\0\0\0\0\0\0\xc8" + b"x" * 200),
    StreamDecoder(
        "HTTP request",
        http_request,
        b"GET /tor/status-vote/current/consensus HTTP/1.0\r\nHost: a\r\n\r\n",
    ),
]
