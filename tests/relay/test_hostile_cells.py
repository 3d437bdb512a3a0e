"""A relay's switch against hostile cells (spec/02 §2, spec/03, spec/04): any cell in any state.

A peer towards the origin and a peer towards the next hop send what they like, sealed under the
circuit's own keys among it. Whatever comes of that, only `ProtocolError` leaves the switch, and a
circuit on another link goes on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fogbank.relay.cells import (
    BODY,
    CELL,
    DIALER_BIT,
    HEADER,
    MESSAGE_HEADER,
    Command,
    Geometry,
    cell_content,
    pack_cell,
    pack_header,
    unpack_header,
)
from fogbank.relay.circuits.hop import HopCircuit
from fogbank.relay.circuits.switch import Switch
from fogbank.relay.errors import ProtocolError
from fogbank.relay.extend import Extend, RefusedCode
from fogbank.relay.handshake import HopKeys, HopRequest, OriginHandshake
from fogbank.relay.keys import Ed25519Key, X25519Key
from fogbank.relay.layers import FORWARD, TO_NEXT, TO_YOU, Layer, OriginLayers
from fogbank.relay.limits import Limits
from fogbank.relay.link.outqueue import OutQueue
from fogbank.relay.link.port import Port
from fogbank.relay.streams.messages import (
    RelayCommand,
    ResetReason,
    unpack_message_header,
    write_message,
)
from fogbank.relay.streams.mux import StreamState

NET = b"n" * 32
NEXT = b"e" * 32
GOOD_ID = DIALER_BIT | 1


class Keyring:
    identity = Ed25519Key(b"i" * 32).public

    def onion_keys(self) -> Sequence[X25519Key]:
        return [X25519Key(b"b" * 32)]


@dataclass
class Relay:
    """A switch, and what it asked of its node: nothing is done but what the test does."""

    extending: list[tuple[HopCircuit, Extend]] = field(default_factory=list)
    sent: list[Sequence[OutQueue]] = field(default_factory=list)
    time: float = 0.0

    def __post_init__(self) -> None:
        draw = random.Random(7)
        limits = Limits()
        self.switch = Switch(self, limits, NET, lambda: self.time, draw.randbytes, Keyring())

    def extend(self, hop: HopCircuit, request: Extend) -> RefusedCode | None:
        self.extending.append((hop, request))
        return None

    def serve(self, _hop: HopCircuit, _stream: StreamState, service: str) -> ResetReason | None:
        return None if service == "echo" else ResetReason.NO_SERVICE

    def send(self, queues: Sequence[OutQueue]) -> None:
        self.sent.append(queues)

    def receive(self, port: Port, data: bytes) -> None:
        """Take in a batch, as a link does; a fault of the link closes it."""
        try:
            self.switch.receive(port, memoryview(bytearray(data)), len(data))
        except ProtocolError:
            self.switch.close_port(port)
        self.switch.flush()


def sent_cells(port: Port) -> list[bytes]:
    """Take what waits on a link."""
    data = b""
    while part := bytes(port.queue.peek()):
        data += part
        port.queue.consumed(len(part))
    return [data[at : at + CELL] for at in range(0, len(data), CELL)]


class Origin:
    """A circuit of one hop, from the far end of a link."""

    def __init__(self, relay: Relay, port: Port, secret: int) -> None:
        self._relay = relay
        self.port = port
        onion_key = Keyring().onion_keys()[0].public
        handshake = OriginHandshake(
            Keyring.identity, onion_key, NET, HopRequest(1, 3), bytes([secret]) * 32, b"k" * 64
        )
        relay.receive(port, pack_cell(GOOD_ID, Command.CREATE, handshake.message))
        (created,) = sent_cells(port)
        assert unpack_header(created) == (GOOD_ID, Command.CREATED)
        self.keys = handshake.finish(cell_content(memoryview(created)))
        self._layer = Layer(self.keys.forward, FORWARD, 1)

    def seal(self, flag: int, content: bytes) -> bytes:
        """Return a cell whose layer opens at the hop, with any flag and content."""
        plain = bytes([flag]) + content[: Geometry.message(1)].ljust(Geometry.message(1), b"\0")
        cell = memoryview(bytearray(CELL))
        pack_header(cell, 0, GOOD_ID, Command.RELAY)
        self._layer.seal(memoryview(plain), cell[HEADER:])
        return bytes(cell)

    def say(self, command: int, stream: int, data: bytes) -> None:
        content = memoryview(bytearray(Geometry.message(1)))
        write_message(content, 0, Geometry.data(1), command, stream, data)
        self._relay.receive(self.port, self.seal(TO_YOU, bytes(content)))


def opened(keys: HopKeys, cells: list[bytes]) -> list[tuple[int, int, int]]:
    """Return the headers of messages from the one hop."""
    origin = OriginLayers()
    origin.add(keys)
    found = []
    for cell in cells:
        view = memoryview(bytearray(cell))
        assert unpack_header(view) == (GOOD_ID, Command.RELAY)
        assert origin.open(view, 0) == 1
        found.append(unpack_message_header(view, HEADER + 1))
    return found


IDS = st.sampled_from([0, 1, 2, GOOD_ID, GOOD_ID + 1, DIALER_BIT, 2**32 - 1])
BODIES = st.one_of(
    st.binary(max_size=60),
    st.binary(max_size=60).map(lambda data: len(data).to_bytes(2, "big") + data),
    st.just(b"\xff" * BODY),
    st.integers(0, 20).map(
        lambda n: pack_cell(0, 0, OriginHandshake(
            Keyring.identity, Keyring().onion_keys()[0].public, NET, HopRequest(1, 3),
            n.to_bytes(32, "big"), b"k" * 64,
        ).message)[HEADER:]
    ),
)  # fmt: skip
COMMANDS = st.sampled_from(Command) | st.integers(0, 255)
RAW = st.tuples(st.just("raw"), st.sampled_from(["near", "far"]), IDS, COMMANDS, BODIES)

EXTEND = Extend(NEXT, None, OriginHandshake(
    NEXT, X25519Key(b"e" * 32).public, NET, HopRequest(2, 3), b"x" * 32, b"k" * 64
).message).encode()  # fmt: skip
DATA = st.one_of(
    st.binary(max_size=40),
    st.just(b"echo"),
    st.just(b"other"),
    st.just(EXTEND),
    st.binary(min_size=16, max_size=16),
)
MESSAGE = st.tuples(
    st.just("message"),
    st.sampled_from(RelayCommand) | st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 2**16 - 1]),
    DATA,
)
SEALED = st.tuples(
    st.just("sealed"), st.sampled_from([0, 1, 2, 255]), st.binary(max_size=MESSAGE_HEADER + 40)
)
EXTENDED = st.tuples(st.just("extend on"))
ACTIONS = st.lists(RAW | MESSAGE | MESSAGE | SEALED | EXTENDED, max_size=14)


def act(relay: Relay, origin: Origin, far: Port, action: tuple[Any, ...]) -> None:
    match action:
        case ["raw", "near", circuit_id, command, body]:
            relay.receive(origin.port, raw_cell(circuit_id, command, body))
        case ["raw", "far", circuit_id, command, body]:
            # A next hop knows the id that it was given.
            given = sorted(far.sides)
            chosen = given[0] if given and circuit_id & 1 else circuit_id
            relay.receive(far, raw_cell(chosen, command, body))
        case ["message", command, stream, data]:
            origin.say(command, stream, data)
        case ["sealed", flag, content]:
            relay.receive(origin.port, origin.seal(flag, content))
        case ["extend on"]:
            while relay.extending:
                hop, request = relay.extending.pop()
                hop.extend_on(far, request.handshake, lambda: None)


def raw_cell(circuit_id: int, command: int, body: bytes) -> bytes:
    return circuit_id.to_bytes(4, "big") + bytes([command]) + body.ljust(BODY, b"\0")


@settings(max_examples=250, deadline=None, derandomize=True)
@given(actions=ACTIONS)
def test_any_cell_in_any_state(actions: list[tuple[Any, ...]]) -> None:
    relay = Relay()
    bystander = Origin(relay, relay.switch.open_port(None, dialed=False), 200)
    origin = Origin(relay, relay.switch.open_port(None, dialed=False), 201)
    far = relay.switch.open_port(NEXT, dialed=True)
    for action in actions:
        act(relay, origin, far, action)
        ports = (bystander.port, origin.port, far)
        sides = [side for port in ports for side in port.sides.values()]
        hops = [side for side in sides if isinstance(side, HopCircuit)]
        assert relay.switch._circuits == len(hops) <= 20
    bystander.say(RelayCommand.BEGIN, 1, b"nothing")
    heard = opened(bystander.keys, sent_cells(bystander.port))
    assert heard == [(RelayCommand.RESET, 1, 1)]


def test_the_actions_above_reach_far() -> None:
    """A circuit is extended by them, and another one gets a stream."""
    relay = Relay()
    origin = Origin(relay, relay.switch.open_port(None, dialed=False), 201)
    far = relay.switch.open_port(NEXT, dialed=True)
    act(relay, origin, far, ("message", RelayCommand.EXTEND, 0, EXTEND))
    act(relay, origin, far, ("extend on",))
    (create,) = sent_cells(far)
    assert unpack_header(create)[1] == Command.CREATE
    act(relay, origin, far, ("raw", "far", 1, Command.CREATED, b"\0\4text"))
    assert opened(origin.keys, sent_cells(origin.port)) == [(RelayCommand.EXTENDED, 0, 4)]
    act(relay, origin, far, ("sealed", TO_NEXT, b"for the next one"))
    (passed,) = sent_cells(far)
    assert passed[HEADER:].startswith(b"for the next one")
    other = Origin(relay, relay.switch.open_port(None, dialed=False), 202)
    act(relay, other, far, ("message", RelayCommand.BEGIN, 1, b"echo"))
    assert opened(other.keys, sent_cells(other.port)) == [(RelayCommand.CONNECTED, 1, 0)]
