"""Faults that other anonymity networks have had, and that have no other test here (spec/00 §6)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from fogbank.relay.cells import CELL, Command, DestroyReason, pack_cell, pack_destroy
from fogbank.relay.circuits.hop import HopCircuit
from fogbank.relay.circuits.switch import Switch
from fogbank.relay.errors import CircuitDestroyed, LinkFailed, StreamReset
from fogbank.relay.handshake import HopRequest, OriginHandshake
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.frames import frame
from fogbank.relay.job.kinds import State
from fogbank.relay.job.messages import Refused, TaskState
from fogbank.relay.limits import CIRCUIT_WINDOW, Limits
from fogbank.relay.link.memory_shell import memory_pipe_pair
from fogbank.relay.link.pipe import PipeBroken
from fogbank.relay.link.port import Port
from fogbank.relay.link.shell import shake
from fogbank.relay.streams.messages import RelayCommand
from fogbank.sandbox.outcome import REASON_CHARACTERS, clean
from tests.relay.onion import onion_network, talk, until_error
from tests.relay.test_circuit_states import R, Scene, Stage, destroyed
from tests.relay.test_hostile_cells import GOOD_ID, NET, Keyring, Origin, Relay, sent_cells
from tests.relay.test_job_sessions import heard
from tests.relay.test_link_handshake import NOW, responder


@pytest.mark.parametrize("reason", range(256))
def test_missing_reason_bytes(reason: int) -> None:
    """Every byte is a reason, the unknown ones too; a message without one is a breach."""
    stage = Stage("connected")
    stage.say(R.RESET, 1, bytes([reason]))
    error = stage.streams[0].error
    assert isinstance(error, StreamReset)
    assert len(str(error)) > 10
    assert stage.port.sides
    stage.hear(pack_destroy(GOOD_ID, reason))
    assert isinstance(stage.core.error, CircuitDestroyed)
    assert len(str(stage.core.error)) > 30


@pytest.mark.parametrize("letter", ["x", "é", "漢", "𝄞"])
@pytest.mark.parametrize("more", [-1, 0, 1, 5000])
def test_string_slices(letter: str, more: int) -> None:
    """A reason is cut between letters, whatever they weigh, and its reader takes the whole."""
    reason = clean(letter * (REASON_CHARACTERS + more))
    assert reason == letter * min(REASON_CHARACTERS, REASON_CHARACTERS + more)
    said = [frame(TaskState(1, State.QUEUED, reason)), frame(Refused(Cause.TASK, reason, 1))]
    assert [message.reason for message, _ in heard(said)] == [reason, reason]


def test_a_double_close_of_a_circuit_is_one() -> None:
    scene = Scene("extended")
    hop = _hop(scene.near)
    for _ in range(3):
        hop.fail(DestroyReason.RESOURCES)
        scene.hear(scene.near, pack_destroy(GOOD_ID, DestroyReason.REQUESTED))
    assert destroyed(sent_cells(scene.near)) == [(GOOD_ID, DestroyReason.RESOURCES)]
    assert len(destroyed(sent_cells(scene.far))) == 1
    scene.assert_over()
    for _ in range(2):
        scene.relay.switch.close_port(scene.near)
        scene.relay.switch.close_port(scene.far)
    assert scene.relay.switch._budget.waiting == 0


async def test_a_double_close_of_a_link_is_one(autojump_clock: MockClock) -> None:
    async with onion_network(2) as network:
        circuit = await network.client.build(network.hops)
        stream = await circuit.open_stream("echo")
        for link in [*network.nodes[0].links._by_queue.values()]:
            link.close()
            link.close()
        await network.settle()
        with trio.fail_after(1), pytest.raises(CircuitDestroyed):
            await until_error(stream)
        circuit.close()
        circuit.close()
        await stream.aclose()
        for pipes in network.memory.pipes:
            for pipe in (*pipes, *pipes):
                pipe.close()
        await network.settle()
        network.assert_nothing_left()


async def test_an_ignored_send_failure(autojump_clock: MockClock) -> None:
    """A link that cannot send is closed at once, though its reading side hears nothing yet."""

    def fail(_data: memoryview) -> int | None:
        raise PipeBroken("the connection was reset")

    async with onion_network(2) as network:
        circuit = await network.client.build(network.hops)
        stream = await circuit.open_stream("echo")
        await talk(stream)
        towards_the_last = network.memory.pipes[-1][0]
        towards_the_last.__dict__["try_send"] = fail
        await stream.send_all(b"lost")
        with trio.fail_after(1), pytest.raises(CircuitDestroyed):
            await until_error(stream)
        await network.settle()
        assert network.nodes[0].links.standing(network.hops[1].identity) is None
        network.assert_nothing_left()


def test_freeing_in_mid_call() -> None:
    """A circuit ends within a batch, its id is given anew within it, and the rest is worked off."""
    relay = Relay()
    port = relay.switch.open_port(None, dialed=False)
    first = Origin(relay, port, 1)
    good = first.seal(1, b"\0" * 5)
    create = _create()
    batch = [
        first.seal(9, b"an unknown flag ends the circuit"),
        good,
        good,
        pack_destroy(GOOD_ID, DestroyReason.REQUESTED),
        create,
        good,
        pack_cell(GOOD_ID, Command.CREATED, b"x"),
    ]
    relay.receive(port, b"".join(batch))
    answers = [(cell[4], cell[5]) for cell in sent_cells(port)]
    assert [command for command, _ in answers] == [
        Command.DESTROY, Command.CREATED, Command.DESTROY,
    ]  # fmt: skip
    assert port.sides == {}
    assert port.unknown == 2


def _create() -> bytes:
    """Return a cell that creates a circuit of that id, unlike those that were sent before."""
    onion_key = Keyring().onion_keys()[0].public
    made = OriginHandshake(
        Keyring.identity, onion_key, NET, HopRequest(1, 3), b"\2" * 32, b"k" * 64
    )
    return pack_cell(GOOD_ID, Command.CREATE, made.message)


def _hop(port: Port) -> HopCircuit:
    hop = port.sides[GOOD_ID]
    assert isinstance(hop, HopCircuit)
    return hop


def test_freeing_a_hoarder_in_mid_call() -> None:
    """What a full process gives up goes after the batch, not under the feet of its own cell."""
    relay = Relay()
    limits = Limits(process_queue=20 * CELL)
    relay.switch = Switch(relay, limits, NET, lambda: 0.0, bytes, Keyring())
    port = relay.switch.open_port(None, dialed=False)
    origin = Origin(relay, port, 3)
    origin.say(R.BEGIN, 1, b"echo")
    hop = _hop(port)
    while hop.has_room():
        hop.send(R.DROP, 0, b"")
    for _ in range(30):
        hop.send(R.DROP, 0, b"")
        assert GOOD_ID in port.sides
    relay.receive(port, origin.seal(1, bytes([RelayCommand.DATA, 0, 1, 0, 1, 7])))
    assert port.sides == {}
    assert relay.switch._budget.waiting == 0
    assert len(destroyed(sent_cells(port))) == 1


class EndedPipe:
    """A pipe whose far end is gone; it counts how often it is asked."""

    binding = b"b" * 32
    peer_host = "127.0.0.1"

    def __init__(self) -> None:
        self.asked = 0

    def try_receive(self, _into: memoryview) -> int | None:
        self.asked += 1
        assert self.asked < 10, "an end is read in a loop"
        return 0

    def try_send(self, data: memoryview) -> int | None:
        return len(data)

    async def wait_readable(self) -> None:
        raise AssertionError("an end needs no waiting")

    async def wait_writable(self) -> None:
        raise AssertionError("all was sent")

    def close(self) -> None:
        """Nothing is left to close."""


async def test_eof_loops_in_a_handshake() -> None:
    pipe = EndedPipe()
    with pytest.raises(LinkFailed):
        await shake(pipe, responder(), lambda: NOW)
    assert pipe.asked == 1


async def test_eof_loops_on_an_open_link_and_a_stream(autojump_clock: MockClock) -> None:
    async with onion_network(1) as network:
        stream = await (await network.client.build(network.hops)).open_stream("echo")
        await stream.send_eof()
        for _ in range(3):
            assert await stream.receive_some() == b""
        ended = network.memory.pipes[-1][1]
        calls = 0

        def at_its_end(_into: memoryview) -> int | None:
            nonlocal calls
            calls += 1
            return 0

        ended.__dict__["try_receive"] = at_its_end
        # One byte wakes the reader; what it then reads is the end.
        assert ended.deliver(memoryview(b"x")) == 1
        await trio.sleep(10)
        assert calls == 1
        assert not network.nodes[0].links._by_queue


async def test_early_data_waits_for_the_handshake(autojump_clock: MockClock) -> None:
    """Cells right behind a handshake are kept for the open link; before its end they are fatal."""
    near, far = memory_pipe_pair(b"early")
    circuit = pack_cell(GOOD_ID, Command.CREATE, b"x")
    assert near.try_send(memoryview(circuit)) == CELL
    with pytest.raises(Exception, match="before the link was open"):
        await shake(far, responder(), lambda: NOW)


def test_link_padding_is_no_cell_of_a_circuit_and_padding_messages_are() -> None:
    """Relay crypto, rule 3: what crosses the hop counts in its nonces, and nothing else."""
    scene = Scene("serving")
    hop = _hop(scene.near)
    before = hop._layers._forward.count
    for _ in range(3):
        assert scene.hear(scene.near, pack_cell(0, Command.PADDING, b"x"))
    assert hop._layers._forward.count == before
    scene.say(R.DROP)
    assert hop._layers._forward.count == before + 1
    scene.say(R.DATA, 1, b"still in step")
    assert scene.lives


def test_a_flood_after_the_end_costs_the_link() -> None:
    """Cells for a circuit that is over are dropped, counted, and in the end the link's fault."""
    scene = Scene("destroyed")
    cell = pack_cell(GOOD_ID, Command.RELAY, b"x")
    allowed = scene.near.unknown_allowed - scene.near.unknown
    assert allowed <= CIRCUIT_WINDOW
    for _ in range(allowed):
        assert scene.hear(scene.near, cell)
    assert not scene.hear(scene.near, cell)


async def test_what_a_stream_carries_is_in_the_clear_on_no_link(autojump_clock: MockClock) -> None:
    """Of a job neither its module's hash nor anything else is seen on the way, without TLS too."""
    mark = b"hash of a module"
    seen = bytearray()
    async with onion_network(3) as network:
        circuit = await network.client.build(network.hops)
        for pipes in network.memory.pipes:
            for pipe in pipes:
                deliver = pipe.deliver

                def listen(
                    data: memoryview, deliver: Callable[[memoryview], int | None] = deliver
                ) -> int | None:
                    seen.extend(data)
                    return deliver(data)

                pipe.__dict__["deliver"] = listen
        await talk(await circuit.open_stream("echo"), mark * 100)
    assert len(seen) > 6 * CELL
    assert mark not in seen
