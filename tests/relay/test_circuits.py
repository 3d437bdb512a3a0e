"""Circuits through running relays over memory pipes (spec/03)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from fogbank.relay.cells import (
    CELL,
    MAX_HOPS,
    Command,
    DestroyReason,
    cell_content,
    pack_cell,
    unpack_header,
)
from fogbank.relay.circuits.hop import HopCircuit
from fogbank.relay.circuits.origin import Hop, OriginCircuit
from fogbank.relay.circuits.shell import Circuit
from fogbank.relay.errors import (
    CircuitDestroyed,
    ExtendRefused,
    LinkFailed,
    ProtocolError,
    StreamReset,
)
from fogbank.relay.extend import Address, Extend, RefusedCode
from fogbank.relay.handshake import HopRequest, OriginHandshake
from fogbank.relay.limits import CIRCUIT_LIFETIME, CIRCUIT_WINDOW, LATE_SECONDS, Limits
from fogbank.relay.link.handshake import LinkHandshake
from fogbank.relay.link.memory_shell import MemoryTransport
from fogbank.relay.link.pipe import Pipe
from fogbank.relay.link.shell import shake
from fogbank.relay.messages_shell import receive_exactly
from fogbank.relay.node_shell import Node, Origin
from fogbank.relay.streams.messages import RelayCommand, ResetReason
from fogbank.relay.streams.shell import CircuitStream
from tests.relay.onion import (
    NETWORK,
    NOW,
    PORT,
    Keys,
    OnionNetwork,
    RawLink,
    echo,
    hop_of,
    onion_network,
    stop_reading,
    talk,
    until_error,
)


@pytest.mark.parametrize("hops", range(1, MAX_HOPS + 1))
async def test_a_circuit_of_any_length_carries_streams(
    autojump_clock: MockClock, hops: int
) -> None:
    async with onion_network(hops) as network:
        circuit = await network.client.build(network.hops)
        assert circuit.length == hops
        stream = await circuit.open_stream("echo")
        await stream.wait_connected()
        await talk(stream, bytes(range(256)) * 1000)
        await stream.send_eof()
        assert await stream.receive_some() == b""
        circuit.close()
        await network.settle()
        network.assert_nothing_left()


def count_sends(node: Node) -> list[int]:
    """Return a list that gets the number of cells in each write of a node's links from now on."""
    sends: list[int] = []

    def counted(pipe: Pipe) -> Callable[[memoryview], int | None]:
        send = pipe.try_send

        def try_send(data: memoryview) -> int | None:
            sends.append(len(data) // CELL)
            return send(data)

        return try_send

    for link in node.links._by_queue.values():
        link._pipe.__dict__["try_send"] = counted(link._pipe)
    return sends


async def test_a_stream_begins_with_its_first_words_and_ends_with_what_comes_next(
    autojump_clock: MockClock,
) -> None:
    """A service that answers, and a client that leaves: a write each way is all that it takes."""

    async def answer(stream: CircuitStream, _: Origin) -> None:
        await stream.receive_some()
        await trio.sleep(LATE_SECONDS / 8)
        await stream.send_all(b"an answer")
        stream.leave()

    async with onion_network(3, {"answer": answer}) as network:
        circuit = await network.client.build(network.hops)
        sends = [count_sends(node) for node in network.everyone()]
        for _ in range(3):
            stream = await circuit.open_stream("answer")
            await stream.send_all(b"a question")
            assert await stream.receive_some() == b"an answer"
            stream.leave()
        client, first, _, last = sends
        # BEGIN and DATA, then with them the EOF before; back CONNECTED and DATA, likewise.
        assert client == [2, 3, 3]
        assert last == [2, 3, 3]
        assert sorted(first) == [2, 2, 3, 3, 3, 3]
        await trio.sleep(2 * LATE_SECONDS)
        assert client == [2, 3, 3, 1]
        assert last == [2, 3, 3, 1]
        assert not hop_of(network.nodes[-1]).mux


async def test_what_nothing_follows_does_not_wait_long(autojump_clock: MockClock) -> None:
    """A service that says nothing: the stream is begun and taken all the same, and ends."""
    began: list[float] = []

    async def idle(stream: CircuitStream, _: Origin) -> None:
        began.append(trio.current_time())
        await trio.sleep(1)

    async with onion_network(2, {"idle": idle}) as network:
        circuit = await network.client.build(network.hops)
        asked = trio.current_time()
        stream = await circuit.open_stream("idle")
        await trio.sleep(3 * LATE_SECONDS)
        assert began == [pytest.approx(asked + LATE_SECONDS)]
        assert stream._state.connected
        # Who waits for the other side's first word waits for nothing of its own.
        asked = trio.current_time()
        second = await circuit.open_stream("idle")
        with trio.move_on_after(0.1):
            await second.receive_some()
        assert began[1] == asked
        third = await circuit.open_stream("idle")
        await third.wait_connected()
        assert trio.current_time() - asked < 0.1 + 2 * LATE_SECONDS
        assert await stream.receive_some() == b""


async def test_there_is_no_seventh_hop(autojump_clock: MockClock) -> None:
    async with onion_network(MAX_HOPS + 1) as network:
        with pytest.raises(ValueError, match="1 to 6"):
            await network.client.build(network.hops)
        circuit = await network.client.build(network.hops[:MAX_HOPS])
        with pytest.raises(ExtendRefused, match="as long as it may be"):
            await circuit.extend(network.hops[-1], 10)
        await talk(await circuit.open_stream("echo"))


async def growing(network: OnionNetwork, hops: list[Hop]) -> Circuit:
    """Build a circuit that may have more hops than these."""
    link = await network.client.link(hops[0].identity, hops[0].addresses or ())
    core = OriginCircuit(link.port, NETWORK, os.urandom, trio.current_time())
    circuit = Circuit(core, network.client._switch)
    await circuit.extend_all(hops, 10)
    return circuit


def sentence(code: RefusedCode) -> str:
    return str(RefusedCode.sentence(code)).replace("(", r"\(").replace(")", r"\)")


async def test_a_relay_says_why_it_does_not_extend(autojump_clock: MockClock) -> None:
    async with onion_network(3) as network:
        one, two, three = network.hops
        nobody = Hop(Keys(77).identity, Keys(77).onion_key, (Address("127.77.0.1", PORT),))
        network.known.addresses[nobody.identity] = nobody.addresses or ()
        stranger = Hop(Keys(78).identity, Keys(78).onion_key, three.addresses)
        elsewhere = replace(three, addresses=(Address("127.3.0.1", PORT + 1),))
        # What the consensus lists for this one is where another answers.
        posing = Hop(Keys(79).identity, Keys(79).onion_key, three.addresses)
        network.known.addresses[posing.identity] = posing.addresses or ()
        wrong_key = replace(three, onion_key=Keys(80).onion_key)
        cases = [
            (stranger, RefusedCode.NOT_IN_CONSENSUS),
            (elsewhere, RefusedCode.BAD_ADDRESS),
            (two, RefusedCode.LOOP),
            (one, RefusedCode.LOOP),
            (nobody, RefusedCode.UNREACHABLE),
            (posing, RefusedCode.UNREACHABLE),
            (replace(nobody, addresses=None), RefusedCode.NO_STANDING_LINK),
            (wrong_key, RefusedCode.FAILED),
        ]
        for hop, code in cases:
            with pytest.raises(ExtendRefused, match=sentence(code)):
                await network.client.build([one, two, hop])
        assert network.known.refreshed == 2
        await talk(await (await network.client.build([one, two, three])).open_stream("echo"))
        await network.settle()


async def test_a_refused_circuit_may_extend_elsewhere_unless_create_was_sent(
    autojump_clock: MockClock,
) -> None:
    async with onion_network(3) as network:
        one, two, three = network.hops
        circuit = await growing(network, [one, two])
        with pytest.raises(ExtendRefused):
            await circuit.extend(one, 10)
        await circuit.extend(three, 10)
        await talk(await circuit.open_stream("echo"))
        circuit = await growing(network, [one, two])
        with pytest.raises(ExtendRefused, match="refused the handshake"):
            await circuit.extend(replace(three, onion_key=one.onion_key), 10)
        with pytest.raises(ExtendRefused, match="extended already"):
            await circuit.extend(three, 10)
        await talk(await circuit.open_stream("echo"))


@pytest.mark.parametrize("follower", ["EXTEND", "BEGIN"])
async def test_nothing_may_follow_an_extend_before_its_answer(
    autojump_clock: MockClock, follower: str
) -> None:
    async with onion_network(3) as network:
        circuit = await growing(network, network.hops[:2])
        core, three = circuit._core, network.hops[2]
        core.add_hop(three)
        assert core._handshake is not None
        again = Extend(three.identity, three.addresses, core._handshake.message).encode()
        if follower == "EXTEND":
            core.send(RelayCommand.EXTEND, 0, again)
        else:
            core.send(RelayCommand.BEGIN, 1, b"echo")
        circuit._switch.flush()
        await network.settle()
        assert isinstance(core.error, CircuitDestroyed)
        network.assert_nothing_left()


async def test_padding_may_follow_an_extend(autojump_clock: MockClock) -> None:
    async with onion_network(3) as network:
        circuit = await growing(network, network.hops[:2])
        circuit._core.add_hop(network.hops[2])
        circuit.send_padding()
        await network.settle()
        assert circuit.length == 3
        await talk(await circuit.open_stream("echo"))


async def test_a_hop_with_streams_does_not_extend(autojump_clock: MockClock) -> None:
    async with onion_network(3) as network:
        circuit = await growing(network, network.hops[:2])
        await talk(await circuit.open_stream("echo"))
        circuit._core._mux = None
        with pytest.raises(ExtendRefused, match="extended already"):
            await circuit.extend(network.hops[2], 10)


async def test_a_worker_is_reached_over_the_link_that_it_holds(autojump_clock: MockClock) -> None:
    async with onion_network(3) as network:
        worker, hop = await network.add_worker({"job": echo})
        path = [*network.hops, hop]
        with pytest.raises(ExtendRefused, match="holds no link"):
            await network.client.build(path)
        contact = network.hops[-1]
        await worker.link(contact.identity, contact.addresses or ())
        worker.hold(frozenset({contact.identity}))
        await trio.sleep(10 * Limits().link_idle_seconds)
        assert worker.peers == {contact.identity}
        circuit = await network.client.build(path)
        await talk(await circuit.open_stream("job"))
        # A worker extends nothing.
        with pytest.raises(ExtendRefused, match="as long as it may be"):
            await network.client.build([*network.hops[1:], hop, network.hops[0]])
        worker.hold(frozenset())
        circuit.close()
        await trio.sleep(2 * Limits().link_idle_seconds)
        assert worker.peers == set()
        assert worker.links._by_queue == {}


async def test_many_origins_at_once(autojump_clock: MockClock) -> None:
    async with onion_network(3) as network:
        others = [network.node(f"127.{number}.0.1", None) for number in range(90, 95)]
        for other in others:
            await network.nursery.start(other.run)

        async def use(number: int) -> None:
            circuit = await others[number % 5].build(network.hops)
            stream = await circuit.open_stream("echo")
            await talk(stream, bytes([number]) * 50_000)
            circuit.close()

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(use, number)
        await network.settle()
        network.assert_nothing_left()


async def test_a_hop_that_ends_a_circuit_is_heard_at_both_ends(autojump_clock: MockClock) -> None:
    ended = trio.Event()

    async def service(stream: CircuitStream, origin: Origin) -> None:
        with pytest.raises(CircuitDestroyed):
            await stream.receive_some()
        ended.set()

    async with onion_network(3, {"echo": service}) as network:
        circuit = await network.client.build(network.hops)
        stream = await circuit.open_stream("echo")
        await stream.wait_connected()
        middle = network.nodes[1]
        hop_of(middle).fail(DestroyReason.RESOURCES)
        middle._switch.flush()
        with pytest.raises(CircuitDestroyed, match="out of resources"):
            await stream.receive_some()
        await ended.wait()
        assert not circuit.alive
        with pytest.raises(CircuitDestroyed):
            await circuit.open_stream("echo")
        await network.settle()
        network.assert_nothing_left()


@pytest.mark.parametrize("broken", [0, 1, 2])
async def test_a_link_that_breaks_ends_its_circuits_and_no_others(
    autojump_clock: MockClock, broken: int
) -> None:
    async with onion_network(6) as network:
        victim = await network.client.build(network.hops[:3])
        other = await network.client.build(network.hops[3:])
        stream = await victim.open_stream("echo")
        lives = await other.open_stream("echo")

        async def send() -> None:
            with pytest.raises(CircuitDestroyed):
                await stream.send_all(bytes(1 << 26))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await receive_exactly(stream, 1 << 20)
            network.memory.pipes[broken][1].close()
            with pytest.raises(CircuitDestroyed, match="link"):
                await until_error(stream)
        await talk(lives)
        # The broken link is made anew for the next circuit.
        await talk(await (await network.client.build(network.hops[:3])).open_stream("echo"))


async def raw_create(link: RawLink, message: bytes, circuit_id: int) -> bytes:
    await link.send(pack_cell(circuit_id, Command.CREATE, message))
    cell = await link.cell()
    assert cell is not None
    assert unpack_header(cell)[0] == circuit_id
    return cell


def handshake(hop: Hop, request: HopRequest | None = None, network: bytes = NETWORK) -> bytes:
    request = request or HopRequest(1, 6)
    made = OriginHandshake(hop.identity, hop.onion_key, network, request, b"x" * 32, b"s" * 64)
    return made.message


async def test_create_is_answered_once(autojump_clock: MockClock) -> None:
    async with onion_network(1) as network:
        (hop,) = network.hops
        transport = MemoryTransport(network.memory, "127.98.0.1")
        link = await RawLink.dial(transport, (hop.addresses or ())[0])
        first = 0x80000001
        good = handshake(hop)
        cell = await raw_create(link, good, first)
        assert cell[4] == Command.CREATED
        assert cell_content(memoryview(cell))
        bad = [
            good,
            handshake(hop, network=b"M" * 32),
            handshake(replace(hop, onion_key=Keys(9).onion_key)),
            handshake(replace(hop, identity=Keys(9).identity)),
            good[:-1] + b"\0",
            good[:100],
            b"",
        ]
        for number, message in enumerate(bad, 1):
            cell = await raw_create(link, message, first + number)
            assert tuple(cell[4:6]) == (Command.DESTROY, DestroyReason.HANDSHAKE_REFUSED)
        assert next(iter(network.nodes[0].links._by_queue.values())).port.sides.keys() == {first}


async def test_a_wrong_onion_key_at_the_first_hop_is_a_sentence(autojump_clock: MockClock) -> None:
    async with onion_network(1) as network:
        wrong = replace(network.hops[0], onion_key=Keys(9).onion_key)
        with pytest.raises(CircuitDestroyed, match="refused the handshake"):
            await network.client.build([wrong])
        with pytest.raises(LinkFailed):
            await network.client.build([replace(wrong, identity=Keys(9).identity)])


async def answer_links_and_nothing_else(
    network: OnionNetwork, host: str, keys: Keys, nursery: trio.Nursery
) -> Hop:
    """Run a node that opens links and then does not say a word."""

    async def shut_up(finish: Callable[[], object], source: str) -> None:
        pipe = await finish()  # type: ignore[misc]
        own = LinkHandshake.responder(pipe.binding, keys.credentials(NOW), source)
        await shake(pipe, own, lambda: NOW)

    def accept(finish: Callable[[], object], source: str) -> bool:
        nursery.start_soon(shut_up, finish, source)
        return True

    transport = MemoryTransport(network.memory, host)
    address = Address(host, PORT)
    await nursery.start(
        lambda task_status: transport.listen(host, PORT, accept, task_status.started)
    )
    network.known.addresses[keys.identity] = (address,)
    return Hop(keys.identity, keys.onion_key, (address,))


async def test_a_hop_that_does_not_answer_is_given_up(autojump_clock: MockClock) -> None:
    async with onion_network(2) as network:
        mute = await answer_links_and_nothing_else(network, "127.60.0.1", Keys(60), network.nursery)
        limits = Limits()
        begun = trio.current_time()
        with pytest.raises(ExtendRefused, match="cannot reach"):
            await network.client.build([*network.hops, mute])
        assert trio.current_time() - begun == pytest.approx(limits.extend_seconds, abs=1)
        begun = trio.current_time()
        with pytest.raises(CircuitDestroyed, match="did not answer"):
            await network.client.build([mute])
        assert trio.current_time() - begun == pytest.approx(limits.build_seconds, abs=1)
        await network.settle()
        network.assert_nothing_left()


async def test_a_policy_that_hangs_or_fails_refuses(autojump_clock: MockClock) -> None:
    async with onion_network(2) as network:
        stranger = Hop(Keys(78).identity, Keys(78).onion_key, network.hops[1].addresses)
        network.known.refresh = trio.sleep_forever  # type: ignore[method-assign]
        with pytest.raises(ExtendRefused, match="cannot reach"):
            await network.client.build([network.hops[0], stranger])

        async def broken() -> None:
            await trio.lowlevel.checkpoint()
            raise ZeroDivisionError

        network.known.refresh = broken  # type: ignore[method-assign]
        with pytest.raises(ExtendRefused, match="no room"):
            await network.client.build([network.hops[0], stranger])
        await talk(await (await network.client.build(network.hops)).open_stream("echo"))


async def test_extending_leaves_no_task_behind(autojump_clock: MockClock) -> None:
    async with onion_network(3) as network:
        await network.client.build(network.hops)
        nursery = network.nodes[0]._nursery
        assert nursery is not None
        names = {task.name.rsplit(".", 1)[-1] for task in nursery.child_tasks}
        assert "_extend" not in names


async def test_an_old_circuit_takes_no_new_streams_and_keeps_its_running_ones(
    autojump_clock: MockClock,
) -> None:
    async with onion_network(3) as network:
        circuit = await network.client.build(network.hops)
        stream = await circuit.open_stream("echo")
        await talk(stream)
        await trio.sleep(CIRCUIT_LIFETIME + 1)
        assert not circuit.alive
        with pytest.raises(StreamReset, match="too old"):
            await circuit.open_stream("echo")
        await talk(stream)
        # The hop refuses as well, if the origin does not care.
        late = CircuitStream(circuit._core.mux, circuit._core.mux.begin("echo"), circuit._switch)
        circuit._switch.flush()
        with pytest.raises(StreamReset, match="out of resources"):
            await late.receive_some()
        await talk(stream)


@pytest.mark.parametrize("speaker", [0, 1])
async def test_a_hop_that_speaks_out_of_turn_ends_the_circuit(
    autojump_clock: MockClock, speaker: int
) -> None:
    async with onion_network(3) as network:
        circuit = await network.client.build(network.hops)
        stream = await circuit.open_stream("echo")
        await talk(stream)
        node = network.nodes[speaker]
        hop_of(node).send(RelayCommand.DATA, 1, b"mine")
        node._switch.flush()
        with pytest.raises(CircuitDestroyed):
            await stream.receive_some()
        await network.settle()
        network.assert_nothing_left()


async def test_padding_is_ignored(autojump_clock: MockClock) -> None:
    async with onion_network(3) as network:
        circuit = await network.client.build(network.hops)
        stream = await circuit.open_stream("echo")
        last = network.nodes[-1]
        for _ in range(3):
            circuit.send_padding()
            hop_of(last).send(RelayCommand.DROP, 0, b"")
            last._switch.flush()
            for node in network.everyone():
                for link in node.links._by_queue.values():
                    link.pad(0)
            await talk(stream)


async def test_a_cancelled_build_destroys_what_was_built(autojump_clock: MockClock) -> None:
    async with onion_network(2) as network:
        mute = await answer_links_and_nothing_else(network, "127.60.0.1", Keys(60), network.nursery)
        with trio.move_on_after(5):
            await network.client.build([*network.hops, mute])
        await network.settle()
        for node in network.everyone():
            assert not any(link.port.sides for link in node.links._by_queue.values())


async def test_a_cancelled_writer_leaves_the_stream_whole(autojump_clock: MockClock) -> None:
    async def sink(stream: CircuitStream, origin: Origin) -> None:
        await trio.sleep_forever()

    async with onion_network(3, {"sink": sink}) as network:
        circuit = await network.client.build(network.hops)
        stream = await circuit.open_stream("sink")
        await stream.wait_connected()
        with trio.move_on_after(5) as scope:
            await stream.send_all(bytes(1 << 25))
        assert scope.cancelled_caught
        # What nobody reads is bounded, and the circuit still works for another stream.
        assert circuit.alive
        waiting = sum(node._switch._budget.waiting for node in network.everyone())
        assert waiting <= 1024
        stream.reset(ResetReason.CANCELLED)
        await network.settle()
        assert hop_of(network.nodes[-1]).mux is not None
        assert sum(node._switch._budget.waiting for node in network.everyone()) == 0


async def test_nothing_is_left_of_two_hundred_circuits_and_dead_links(
    autojump_clock: MockClock,
) -> None:
    limits = Limits(creates_per_second=1e6, creates_burst=1e6)
    async with onion_network(3, limits=limits) as network:
        for number in range(200):
            circuit = await network.client.build(network.hops)
            stream = await circuit.open_stream("echo")
            await talk(stream)
            match number % 4:
                case 0:
                    circuit.close()
                case 1:
                    network.memory.pipes[-1 - number % 3][number % 2].close()
                case 2:
                    await stream.aclose()
                    circuit.close()
                case _:
                    hop_of(network.nodes[number % 3]).fail(DestroyReason.FAILURE)
                    network.nodes[number % 3]._switch.flush()
            await network.settle()
            circuit.close()
            await network.settle()
            network.assert_nothing_left()
        await trio.sleep(2 * limits.link_idle_seconds)
        for node in network.everyone():
            links = node.links
            assert (links._by_queue, links._by_peer, links._strangers, links._nodes) == ({},) * 4


async def test_a_service_that_returns_early_lets_its_peer_finish(
    autojump_clock: MockClock,
) -> None:
    async def curt(stream: CircuitStream, origin: Origin) -> None:
        await stream.send_all(b"enough")

    async with onion_network(3, {"curt": curt}) as network:
        circuit = await network.client.build(network.hops)
        for _ in range(3):
            stream = await circuit.open_stream("curt")
            await stream.send_all(bytes(8 << 20))
            await stream.send_eof()
            assert await receive_exactly(stream, 6) == b"enough"
            assert await stream.receive_some() == b""
        await network.settle()
        mux = hop_of(network.nodes[-1]).mux
        assert mux is not None
        assert len(mux) == len(circuit._core.mux) == 0


async def test_a_service_that_fails_resets_its_stream_and_nothing_else(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[tuple[Exception, str]] = [
        (ProtocolError("that was no request"), "found a fault"),
        (LinkFailed("who knows"), "failed"),
        (trio.TooSlowError(), "failed"),
        (ZeroDivisionError("a secret"), "failed"),
        (ExceptionGroup("several", [ProtocolError("one"), ProtocolError("two")]), "found a fault"),
    ]

    async def fail(stream: CircuitStream, origin: Origin) -> None:
        number = (await receive_exactly(stream, 1) or b"")[0]
        raise faults[number][0]

    async with onion_network(3, {"fail": fail, "echo": echo}) as network:
        circuit = await network.client.build(network.hops)
        other = await circuit.open_stream("echo")
        for number, (_, text) in enumerate(faults):
            stream = await circuit.open_stream("fail")
            await stream.send_all(bytes((number,)))
            with pytest.raises(StreamReset, match=text):
                await stream.receive_some()
        await talk(other)
        circuit.close()
        await network.settle()
        network.assert_nothing_left()
    # The one fault that is a programmer's is logged, by its kind alone.
    assert [each.getMessage() for each in caplog.records] == ["a service failed: ZeroDivisionError"]


async def test_ending_busy_circuits_does_not_cost_the_link(autojump_clock: MockClock) -> None:
    async def source(stream: CircuitStream, origin: Origin) -> None:
        while True:
            await stream.send_all(bytes(1 << 18))

    async with onion_network(3, {"source": source, "echo": echo}) as network:
        bystander = await (await network.client.build(network.hops)).open_stream("echo")
        for _ in range(40):
            circuit = await network.client.build(network.hops)
            stream = await circuit.open_stream("source")
            await receive_exactly(stream, 1 << 20)
            circuit.close()
        await talk(bystander)
        await network.settle()
        unknown = [link.port.unknown for link in network.client.links._by_queue.values()]
        assert max(unknown) > CIRCUIT_WINDOW
        assert len(network.memory.pipes) == 3


async def test_a_circuit_floods_nobody_who_does_not_read(autojump_clock: MockClock) -> None:
    limits = Limits(circuit_queue=64 * CELL)
    async with onion_network(1, limits=limits) as network:
        honest = await (await network.client.build(network.hops)).open_stream("echo")
        await talk(honest)
        lazy = network.node("127.90.0.1", None)
        await network.nursery.start(lazy.run)
        circuit = await lazy.build(network.hops)
        stop_reading(network.memory.pipes[-1][0])
        relay = network.nodes[0]
        (hop,) = (
            side
            for link in relay.links._by_queue.values()
            for side in link.port.sides.values()
            if isinstance(side, HopCircuit) and side.mux is None
        )
        # As if hops beyond this one sent on and on, whatever the windows.
        sent = 0
        while hop._prev.sides:
            hop.send(RelayCommand.DROP, 0, b"")
            relay._switch.flush()
            sent += 1
            if sent % 100 == 0:
                await network.settle()
        assert 64 < sent < 1000
        assert relay._switch._budget.waiting == 0
        await talk(honest)
        circuit.close()


async def test_a_link_whose_peer_takes_nothing_is_closed(autojump_clock: MockClock) -> None:
    limits = Limits(link_queue=100 * CELL)
    async with onion_network(2, limits=limits) as network:
        circuit = await network.client.build(network.hops)
        await talk(await circuit.open_stream("echo"))
        stop_reading(network.memory.pipes[-1][1])
        relay = network.nodes[0]
        link = relay.links.standing(network.hops[1].identity)
        assert link is not None
        put = 0
        while not link.closing:
            link.port.queue.put(pack_cell(0, Command.PADDING, b""))
            relay._switch.flush()
            put += 1
        assert put == (1 << 20) // CELL + 101
        await network.settle()
        assert relay.peers == set()
        assert isinstance(circuit._core.error, CircuitDestroyed)


async def test_a_link_that_ends_leaves_an_older_one_to_the_same_peer_standing(
    autojump_clock: MockClock,
) -> None:
    async with onion_network(2) as network:
        first, second = network.nodes
        hop = network.hops[1]
        standing = await first.link(hop.identity, hop.addresses or ())
        for _ in range(3):
            await first.probe(hop.identity, hop.addresses or ())
        await trio.testing.wait_all_tasks_blocked()
        assert second.links.standing(network.keys[0].identity) is not None
        assert await first.link(hop.identity, ()) is standing
        # The side that was probed uses the old link too, and dials no new one.
        before = len(second.links)
        await second.link(network.keys[0].identity, ())
        assert len(second.links) == before == 1
