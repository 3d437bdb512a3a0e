"""A circuit at a hop and at its origin: every cell and message in every state (spec/02 §2, 03, 04).

A hop stands between two links of a switch, an origin at one. Each state is reached by a script;
commands come from the codecs' own lists, and one without an example here fails the test. What is
not said to be taken ends the circuit, or the link: once, with one reason, and for good.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fogbank.relay.cells import (
    CELL,
    DIALER_BIT,
    HEADER,
    Command,
    DestroyReason,
    Geometry,
    pack_cell,
    pack_destroy,
    pack_header,
    unpack_header,
)
from fogbank.relay.circuits.hop import HopCircuit
from fogbank.relay.circuits.origin import Hop, OriginCircuit
from fogbank.relay.circuits.switch import Switch
from fogbank.relay.errors import CircuitDestroyed, ProtocolError
from fogbank.relay.extend import Extend, RefusedCode
from fogbank.relay.handshake import HopRequest, OriginHandshake, answer_handshake
from fogbank.relay.layers import HopLayers
from fogbank.relay.limits import Limits
from fogbank.relay.link.outqueue import OutQueue
from fogbank.relay.link.port import Port
from fogbank.relay.replay import ReplayCache
from fogbank.relay.streams.messages import RelayCommand, ResetReason, write_message
from fogbank.relay.streams.mux import StreamState
from tests.relay.test_hostile_cells import (
    EXTEND,
    GOOD_ID,
    NET,
    NEXT,
    Keyring,
    Origin,
    Relay,
    sent_cells,
)

R = RelayCommand
Message = tuple[int, bytes]
"""A relay message's stream and data."""
DEMAND = bytes((12, *range(16)))
"""What asks for work."""


def body(command: int) -> bytes:
    """Return a content of the right length for that command."""
    return DEMAND if command == Command.WORK_ASKED else b"an answer"


def destroyed(cells: Sequence[bytes]) -> list[tuple[int, int]]:
    """Return the id and reason of each DESTROY."""
    return [
        (unpack_header(cell)[0], cell[HEADER])
        for cell in cells
        if unpack_header(cell)[1] == Command.DESTROY
    ]


# A hop.


class Scene:
    """A hop in some state, its origin towards it, and the port of its next hop."""

    def __init__(self, state: str) -> None:
        self.relay = Relay()
        self.near = self.relay.switch.open_port(None, dialed=False)
        self.far = self.relay.switch.open_port(NEXT, dialed=True)
        self.origin = Origin(self.relay, self.near, 7)
        for step in HOP_STATES[state]:
            step(self)
        sent_cells(self.near), sent_cells(self.far)

    def say(self, command: int, stream: int = 0, data: bytes = b"") -> None:
        self.origin.say(command, stream, data)

    def hear(self, port: Port, cell: bytes) -> bool:
        """Take in a cell as a link does; tell whether the link lives."""
        try:
            self.relay.switch.receive(port, memoryview(bytearray(cell)), CELL)
        except ProtocolError:
            self.relay.switch.close_port(port)
            return False
        finally:
            self.relay.switch.flush()
        return True

    def far_id(self) -> int:
        """Return the circuit's id on the far link, or one that it might have had."""
        return next(iter(self.far.sides), 1 | DIALER_BIT)

    @property
    def lives(self) -> bool:
        return GOOD_ID in self.near.sides

    def assert_over(self) -> None:
        """Check that nothing is left of the circuit, and that nothing brings it back."""
        assert not self.near.sides
        assert not self.far.sides
        assert (self.relay.switch._budget.waiting, self.relay.switch._circuits) == (0, 0)
        sent_cells(self.near), sent_cells(self.far)
        for command, example in EXAMPLES.items():
            self.say(command, *example)
        for port, circuit_id in ((self.near, GOOD_ID), (self.far, 1 | DIALER_BIT)):
            self.hear(port, pack_cell(circuit_id, Command.CREATED, b"answer"))
            self.hear(port, pack_cell(circuit_id, Command.WORK_ASKED, DEMAND))
            self.hear(port, pack_destroy(circuit_id, DestroyReason.REQUESTED))
        assert sent_cells(self.near) == sent_cells(self.far) == []
        assert self.relay.switch._circuits == 0, "an end was counted twice"


def take_up(scene: Scene) -> None:
    """Have the host go on with an EXTEND."""
    hop, request = scene.relay.extending.pop()
    hop.extend_on(scene.far, request.handshake, lambda: None)


def give_up(scene: Scene) -> None:
    hop, _ = scene.relay.extending.pop()
    hop.extend_refused(RefusedCode.UNREACHABLE)


def next_answers(scene: Scene) -> None:
    assert scene.hear(scene.far, pack_cell(scene.far_id(), Command.CREATED, b"answer"))


def next_asks_work(scene: Scene) -> None:
    assert scene.hear(scene.far, pack_cell(scene.far_id(), Command.WORK_ASKED, DEMAND))


def origin_leaves(scene: Scene) -> None:
    assert scene.hear(scene.near, pack_destroy(GOOD_ID, DestroyReason.REQUESTED))


def saying(command: RelayCommand, stream: int = 0, data: bytes = b"") -> Callable[[Scene], None]:
    return lambda scene: scene.say(command, stream, data)


_EXTEND = saying(R.EXTEND, 0, EXTEND)
_BEGIN = saying(R.BEGIN, 1, b"echo")
HOP_STATES: dict[str, list[Callable[[Scene], None]]] = {
    "new": [],
    "extending": [_EXTEND],
    "refused": [_EXTEND, give_up],
    "asked": [_EXTEND, take_up],
    "work asked": [_EXTEND, take_up, next_asks_work],
    "extended": [_EXTEND, take_up, next_answers],
    "serving": [_BEGIN],
    "half closed": [_BEGIN, saying(R.EOF, 1)],
    "reset": [_BEGIN, saying(R.RESET, 1, b"\6")],
    "destroyed": [origin_leaves],
}
EXAMPLES: dict[RelayCommand, Message] = {
    R.DROP: (0, b""),
    R.EXTEND: (0, EXTEND),
    R.EXTENDED: (0, b"answer"),
    R.REFUSED: (0, b"\1"),
    R.BEGIN: (1, b"echo"),
    R.CONNECTED: (1, b""),
    R.DATA: (1, b"data"),
    R.EOF: (1, b""),
    R.RESET: (1, b"\6"),
    R.SENDME: (0, b"t" * 16),
}
_FIRST = {R.DROP, R.EXTEND, R.BEGIN}
HOP_TAKES: dict[str, set[RelayCommand]] = {
    "new": _FIRST,
    "extending": {R.DROP},
    "refused": _FIRST,
    "asked": {R.DROP},
    "work asked": _FIRST,
    "extended": {R.DROP},
    "serving": {R.DROP, R.EXTEND, R.DATA, R.EOF, R.RESET},
    "half closed": {R.DROP, R.EXTEND, R.RESET},
    "reset": {R.DROP, R.EXTEND, R.CONNECTED, R.DATA, R.EOF, R.RESET},
    "destroyed": set(),
}
"""What a hop takes where. The example of BEGIN names stream 1, which only the first one may."""


@pytest.mark.parametrize("command", list(RelayCommand), ids=lambda each: each.name)
@pytest.mark.parametrize("state", HOP_STATES)
def test_a_hop_takes_each_message_in_its_states_only(state: str, command: RelayCommand) -> None:
    scene = Scene(state)
    scene.say(command, *EXAMPLES[command])
    near, far = sent_cells(scene.near), sent_cells(scene.far)
    if command in HOP_TAKES[state]:
        assert scene.lives
        assert destroyed(near) == destroyed(far) == []
        return
    ended = state != "destroyed"
    assert destroyed(near) == [(GOOD_ID, DestroyReason.FAILURE)] * ended
    known = state in {"asked", "extended"}
    assert [reason for _, reason in destroyed(far)] == [DestroyReason.FAILURE] * known
    scene.assert_over()


FAULTS: dict[str, tuple[RelayCommand, int, bytes]] = {
    "DROP of a stream": (R.DROP, 1, b""),
    "EXTEND of a stream": (R.EXTEND, 1, EXTEND),
    "EXTEND without anything": (R.EXTEND, 0, b""),
    "EXTEND cut off": (R.EXTEND, 0, EXTEND[:-1]),
    "BEGIN of stream 0": (R.BEGIN, 0, b"echo"),
    "BEGIN out of turn": (R.BEGIN, 3, b"echo"),
    "BEGIN of nothing": (R.BEGIN, 2, b""),
    "BEGIN of no name": (R.BEGIN, 2, b"e\0ho"),
    "BEGIN of a long name": (R.BEGIN, 2, b"e" * 17),
    "DATA of none": (R.DATA, 1, b""),
    "DATA of stream 0": (R.DATA, 0, b"data"),
    "DATA of a stream to come": (R.DATA, 2, b"data"),
    "EOF with something": (R.EOF, 1, b"x"),
    "EOF of the circuit": (R.EOF, 0, b""),
    "RESET without its reason": (R.RESET, 1, b""),
    "RESET with two": (R.RESET, 1, b"\1\1"),
    "RESET of the circuit": (R.RESET, 0, b"\1"),
    "SENDME without its tag": (R.SENDME, 0, b""),
    "SENDME of a stream that sent nothing": (R.SENDME, 1, b"t" * 16),
    "SENDME of a stream to come": (R.SENDME, 9, b"t" * 16),
}


@pytest.mark.parametrize("state", ["new", "extending", "asked", "extended", "serving"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_message_with_one_fault_ends_the_circuit(fault: str, state: str) -> None:
    scene = Scene(state)
    scene.say(*FAULTS[fault])
    assert destroyed(sent_cells(scene.near)) == [(GOOD_ID, DestroyReason.FAILURE)]
    scene.assert_over()


@pytest.mark.parametrize("length", [Geometry.data(1) + 1, 0xFFFF])
@pytest.mark.parametrize("command", [*RelayCommand, 10, 255])
def test_a_length_beyond_the_cell_ends_the_circuit(command: int, length: int) -> None:
    scene = Scene("serving")
    content = bytes([command]) + (0).to_bytes(2, "big") + length.to_bytes(2, "big")
    scene.relay.receive(scene.near, scene.origin.seal(1, content))
    assert destroyed(sent_cells(scene.near)) == [(GOOD_ID, DestroyReason.FAILURE)]
    scene.assert_over()


@pytest.mark.parametrize("flag", [0, 2, 255])
@pytest.mark.parametrize("state", ["new", "extending", "asked", "refused", "serving", "extended"])
def test_a_flag_that_may_not_be_there_ends_the_circuit(state: str, flag: int) -> None:
    """Though what stands behind it is padding, which may always come."""
    scene = Scene(state)
    scene.relay.receive(scene.near, scene.origin.seal(flag, b""))
    near, far = sent_cells(scene.near), sent_cells(scene.far)
    if (state, flag) == ("extended", 0):
        assert scene.lives
        assert [unpack_header(cell)[1] for cell in far] == [Command.RELAY]
        return
    assert destroyed(near) == [(GOOD_ID, DestroyReason.FAILURE)]
    scene.assert_over()


LIVES, CIRCUIT, LINK = "lives", "the circuit ends", "the link ends"


def verdict(state: str, side: str, command: int) -> str:
    """Say what a cell of the circuit's id does, by spec/02 §2 and spec/03."""
    known = state != "destroyed" if side == "near" else state in {"asked", "extended"}
    match command:
        case Command.CREATE | Command.CREATE_WORK if side == "near":
            # The id is free again once the circuit is over; this CREATE is refused by itself.
            return LINK if known else LIVES
        case Command.CREATED | Command.WORK_ASKED | Command.RELAY | Command.DESTROY if not known:
            return LIVES
        case Command.CREATED | Command.WORK_ASKED:
            return LIVES if (side, state) == ("far", "asked") else CIRCUIT
        case Command.RELAY:
            return LIVES if (side, state) == ("far", "extended") else CIRCUIT
        case Command.DESTROY:
            # A next hop that refuses leaves the circuit what it was.
            return LIVES if (side, state) == ("far", "asked") else CIRCUIT
        case _:
            return LINK


@pytest.mark.parametrize("side", ["near", "far"])
@pytest.mark.parametrize("command", [*Command, 11, 255])
@pytest.mark.parametrize("state", HOP_STATES)
def test_every_cell_from_either_side_of_a_hop(state: str, command: int, side: str) -> None:
    scene = Scene(state)
    port = scene.near if side == "near" else scene.far
    circuit_id = GOOD_ID if side == "near" else scene.far_id()
    wanted = verdict(state, side, command)
    alive = scene.hear(port, pack_cell(circuit_id, command, body(command)))
    near, far = sent_cells(scene.near), sent_cells(scene.far)
    assert alive == (wanted != LINK)
    if wanted == LIVES:
        assert scene.lives == (state != "destroyed")
        return
    if wanted == CIRCUIT:
        # Who sent DESTROY, or whose link is gone, is told nothing.
        told = {"near": destroyed(near), "far": destroyed(far)}
        quiet = side if command == Command.DESTROY else ""
        reached = state in {"asked", "extended"}
        assert len(told["near"]) == (quiet != "near")
        assert len(told["far"]) == (quiet != "far" and reached)
    if wanted == CIRCUIT or side == "near":
        scene.assert_over()


@pytest.mark.parametrize("command", [*Command, 11, 255])
def test_every_cell_for_a_circuit_that_waits_for_its_handshake(command: int) -> None:
    relay = Relay()
    limits = Limits(creation_least_cost=1.0, creation_wait=1e9)
    relay.switch = Switch(relay, limits, NET, lambda: relay.time, bytes, Keyring())
    port = relay.switch.open_port(None, dialed=False)
    onion_key = Keyring().onion_keys()[0].public
    for number in (1, 2):
        made = OriginHandshake(
            Keyring.identity, onion_key, NET, HopRequest(1, 3), bytes([number]) * 32, b"k" * 64
        )
        relay.receive(port, pack_cell(DIALER_BIT | number, Command.CREATE, made.message))
    assert [unpack_header(cell)[1] for cell in sent_cells(port)] == [Command.CREATED]
    waiting = DIALER_BIT | 2
    relay.receive(port, pack_cell(waiting, command, body(command)))
    answers = sent_cells(port)
    match command:
        case Command.DESTROY:
            assert answers == []
        case Command.RELAY | Command.CREATED | Command.WORK_ASKED:
            assert destroyed(answers) == [(waiting, DestroyReason.FAILURE)]
        case _:
            assert port.sides == {}
    assert waiting not in port.sides
    relay.time = 1e6
    relay.switch.answer_waiting()
    assert sent_cells(port) == []


@pytest.mark.parametrize("command", [*Command, 11, 255])
def test_a_links_own_cells_on_an_open_link(command: int) -> None:
    """With id 0 nothing but padding may come once the handshake is over."""
    scene = Scene("serving")
    alive = scene.hear(scene.near, pack_cell(0, command, b""))
    assert alive == (command == Command.PADDING)
    assert scene.lives == alive


# An origin.


class Client:
    """The node of an origin: it extends and serves nothing."""

    def extend(self, _hop: HopCircuit, _request: Extend) -> RefusedCode | None:
        raise AssertionError("an origin was asked to extend")

    def serve(self, _hop: HopCircuit, _stream: StreamState, _service: str) -> ResetReason | None:
        raise AssertionError("an origin was asked to serve")

    def send(self, queues: Sequence[OutQueue]) -> None:
        """Leave what waits where it is."""


class Stage:
    """An origin in some state, and its hops' layers, by which the test speaks for them."""

    def __init__(self, state: str) -> None:
        draw = random.Random(11)
        self.switch = Switch(Client(), Limits(), NET, lambda: 0.0, draw.randbytes)
        self.port = self.switch.open_port(Keyring.identity, dialed=True)
        self.core = OriginCircuit(self.port, NET, draw.randbytes, 0.0)
        self.hops: list[HopLayers] = []
        self.answers: list[bytes] = []
        self.streams: list[StreamState] = []
        self.woken = 0
        self.core.wake = self.wake
        for step in ORIGIN_STATES[state]:
            step(self)
        sent_cells(self.port)
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1

    @property
    def circuit_id(self) -> int:
        return GOOD_ID

    def hear(self, cell: bytes) -> bool:
        try:
            self.switch.receive(self.port, memoryview(bytearray(cell)), CELL)
        except ProtocolError:
            self.switch.close_port(self.port)
            return False
        finally:
            self.switch.flush()
        return True

    def say(self, command: int, stream: int, data: bytes, speaker: int | None = None) -> bool:
        """Have the last hop, or the one of index `speaker`, say something."""
        if not self.hops:
            return self.hear(pack_cell(self.circuit_id, Command.RELAY, b""))
        index = len(self.hops) if speaker is None else speaker
        cell, spare = (memoryview(bytearray(CELL)) for _ in range(2))
        write_message(cell, HEADER + 1, Geometry.data(index), command, stream, data)
        self.hops[index - 1].seal_own(cell, 0)
        for hop in reversed(self.hops[: index - 1]):
            hop.seal_backward(cell, 0, spare, 0)
            cell, spare = spare, cell
        pack_header(cell, 0, self.circuit_id, Command.RELAY)
        return self.hear(bytes(cell))

    def ask(self) -> None:
        """Have the origin send CREATE or EXTEND, and make the hop's good answer to it."""
        index = self.core.length + 1
        onion = Keyring().onion_keys()[0]
        self.core.add_hop(Hop(Keyring.identity, onion.public))
        handshake = self.core._handshake
        assert handshake is not None
        answer, _, keys = answer_handshake(
            handshake.message, Keyring.identity, [onion], NET, ReplayCache(), b"y" * 32
        )
        self.answers.append(answer)
        self.coming = HopLayers(keys, index)

    def get(self) -> None:
        """Have the good answer come."""
        if self.core.length:
            self.say(R.EXTENDED, 0, self.answers[-1])
        else:
            self.hear(pack_cell(self.circuit_id, Command.CREATED, self.answers[-1]))
        self.hops.append(self.coming)
        assert self.core.length == len(self.hops)

    def begin(self) -> None:
        self.streams.append(self.core.mux.begin("echo"))

    def assert_over(self) -> None:
        """Check that the origin knows of the end, and that nothing brings the circuit back."""
        error = self.core.error
        assert isinstance(error, CircuitDestroyed)
        assert not self.port.sides
        assert self.switch._budget.waiting == 0
        assert self.woken == 1
        assert all(stream.error is not None for stream in self.streams)
        for command, example in {**EXAMPLES, R.EXTENDED: (0, b"a" * 1200)}.items():
            self.say(command, *example)
        self.hear(pack_cell(self.circuit_id, Command.CREATED, b"answer"))
        self.hear(pack_cell(self.circuit_id, Command.WORK_ASKED, DEMAND))
        self.hear(pack_destroy(self.circuit_id, DestroyReason.SHUTDOWN))
        self.core.fail(DestroyReason.REQUESTED)
        for use in (lambda: self.core.mux, lambda: self.core.add_hop(Hop(NEXT, b""))):
            with pytest.raises(CircuitDestroyed):
                use()
        assert sent_cells(self.port) == []
        assert (self.core.error, self.woken) == (error, 1)


def told(command: RelayCommand, stream: int, data: bytes = b"") -> Callable[[Stage], Any]:
    return lambda stage: stage.say(command, stream, data)


_HOP: list[Callable[[Stage], Any]] = [Stage.ask, Stage.get]
_CONNECTED = [*_HOP, Stage.begin, told(R.CONNECTED, 1)]
_WORK_ASKED = pack_cell(GOOD_ID, Command.WORK_ASKED, DEMAND)
ORIGIN_STATES: dict[str, list[Callable[[Stage], Any]]] = {
    "asking": [Stage.ask],
    "work asked": [Stage.ask, lambda stage: stage.hear(_WORK_ASKED)],
    "work done": [
        Stage.ask,
        lambda stage: stage.hear(_WORK_ASKED),
        lambda stage: stage.core.repeat(1),
    ],
    "one hop": _HOP,
    "extending": [*_HOP, Stage.ask],
    "refused": [*_HOP, Stage.ask, told(R.REFUSED, 0, b"\5")],
    "asked to work": [*_HOP, Stage.ask, told(R.REFUSED, 0, b"\x09" + DEMAND)],
    "two hops": [*_HOP, *_HOP],
    "begun": [*_HOP, *_HOP, Stage.begin],
    "connected": _CONNECTED,
    "half closed": [*_CONNECTED, told(R.EOF, 1)],
    "reset": [*_CONNECTED, told(R.RESET, 1, b"\6")],
    "destroyed": [*_HOP, lambda stage: stage.hear(pack_destroy(GOOD_ID, 4))],
}
ORIGIN_TAKES: dict[str, set[RelayCommand]] = {
    "asking": set(),
    "work asked": set(),
    "work done": set(),
    "one hop": {R.DROP},
    "extending": {R.DROP, R.EXTENDED, R.REFUSED},
    "refused": {R.DROP},
    "asked to work": {R.DROP},
    "two hops": {R.DROP},
    "begun": {R.DROP, R.CONNECTED, R.RESET},
    "connected": {R.DROP, R.DATA, R.EOF, R.RESET},
    "half closed": {R.DROP, R.RESET},
    "reset": {R.DROP, R.CONNECTED, R.DATA, R.EOF, R.RESET},
}


@pytest.mark.parametrize("command", list(RelayCommand), ids=lambda each: each.name)
@pytest.mark.parametrize("state", ORIGIN_TAKES)
def test_an_origin_takes_each_message_in_its_states_only(state: str, command: RelayCommand) -> None:
    stage = Stage(state)
    stream, data = EXAMPLES[command]
    stage.say(command, stream, stage.answers[-1] if command == R.EXTENDED else data)
    if command in ORIGIN_TAKES[state]:
        assert stage.core.error is None
        assert destroyed(sent_cells(stage.port)) == []
        return
    assert destroyed(sent_cells(stage.port)) == [(GOOD_ID, DestroyReason.FAILURE)]
    stage.assert_over()


@pytest.mark.parametrize("command", list(RelayCommand), ids=lambda each: each.name)
@pytest.mark.parametrize("state", ["two hops", "begun"])
def test_a_hop_on_the_way_may_say_nothing(state: str, command: RelayCommand) -> None:
    """Not even what the last hop might say: a stream is the last hop's (spec/04 §1)."""
    stage = Stage(state)
    stage.say(command, *EXAMPLES[command], speaker=1)
    assert destroyed(sent_cells(stage.port)) == [(GOOD_ID, DestroyReason.FAILURE)]
    stage.assert_over()


def origin_verdict(state: str, command: int) -> str:
    match command:
        case Command.WORK_ASKED if state in {"asking", "work done"}:
            return LIVES
        case Command.CREATED | Command.WORK_ASKED | Command.RELAY | Command.DESTROY:
            return LIVES if state == "destroyed" else CIRCUIT
        case _:
            return LINK


@pytest.mark.parametrize("command", [*Command, 11, 255])
@pytest.mark.parametrize("state", ORIGIN_STATES)
def test_every_cell_at_an_origin(state: str, command: int) -> None:
    """All with a body that is not right: a good CREATED is what the states are made by."""
    stage = Stage(state)
    wanted = origin_verdict(state, command)
    alive = stage.hear(pack_cell(GOOD_ID, command, body(command)))
    assert alive == (wanted != LINK)
    if wanted == CIRCUIT:
        quiet = command == Command.DESTROY
        assert len(destroyed(sent_cells(stage.port))) == (not quiet)
    if wanted != LIVES and state != "destroyed":
        sent_cells(stage.port)
        stage.assert_over()


def test_every_command_has_an_example() -> None:
    assert set(EXAMPLES) == set(RelayCommand)
    assert set(HOP_TAKES) == set(HOP_STATES)
    assert {*ORIGIN_TAKES, "destroyed"} == set(ORIGIN_STATES)
