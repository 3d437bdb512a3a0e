"""Relays that stop, in order or in silence: their circuits end soon (spec/02 §6, spec/03 §5)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fogbank.relay.circuits.shell import Circuit
from fogbank.relay.errors import CircuitDestroyed, RelayError
from fogbank.relay.link.memory_shell import MemoryPipe
from tests.relay.onion import OnionNetwork, echo, onion_network, talk, until_error


def stop(network: OnionNetwork, number: int) -> None:
    """Stop a relay in order."""
    nursery = network.nodes[number]._nursery
    assert nursery is not None
    nursery.cancel_scope.cancel()


def freeze(pipe: Any) -> None:
    """Have whoever holds this end of a pipe do nothing with it, as a stopped process would."""
    pipe.__dict__["try_receive"] = pipe.__dict__["try_send"] = lambda _data: None
    pipe.__dict__["wait_readable"] = pipe.__dict__["wait_writable"] = trio.sleep_forever


def ends(network: OnionNetwork, number: int) -> list[MemoryPipe]:
    """Return a relay's ends of its pipes."""
    pipes = [link._pipe for link in network.nodes[number].links._by_queue.values()]
    return [pipe for pipe in pipes if isinstance(pipe, MemoryPipe)]


async def end_of(circuit: Circuit) -> str:
    """Wait until a circuit ends, while a stream of it is read; return in what words."""
    stream = await circuit.open_stream("echo")
    await talk(stream)
    with pytest.raises(RelayError) as caught:
        await until_error(stream)
    return str(caught.value)


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_relay_that_stops_says_so_on_its_circuits(
    autojump_clock: MockClock, number: int
) -> None:
    async with onion_network(3) as network:
        circuit = await network.client.build(network.hops)
        said: list[str] = []

        async def listen() -> None:
            said.append(await end_of(circuit))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await network.settle()
            begun = trio.current_time()
            stop(network, number)
        assert trio.current_time() - begun < 1
        assert "shutting down" in said[0]
        with pytest.raises(CircuitDestroyed, match="shutting down"):
            await circuit.open_stream("echo")
        await network.settle()
        network.assert_nothing_left()


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_relay_that_falls_silent_ends_its_circuits_soon(
    autojump_clock: MockClock, number: int
) -> None:
    async with onion_network(4) as network:
        *through, other = network.hops
        stream = await (await network.client.build([other])).open_stream("echo")
        circuit = await network.client.build(through)
        begun = 0.0

        async def stop_in_silence() -> None:
            nonlocal begun
            await trio.sleep(61)
            begun = trio.current_time()
            for pipe in ends(network, number):
                freeze(pipe)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_in_silence)
            # Until then nothing was said for a minute, and nothing ended.
            said = await end_of(circuit)
        assert begun
        assert 20 < trio.current_time() - begun <= 35
        assert "a link between two of its nodes ended" in said
        # The rest of the circuit hears of it, and circuits elsewhere do not.
        await trio.sleep(30)
        sides = [
            len(link.port.sides)
            for node in network.nodes
            if node is not network.nodes[number]
            for link in node.links._by_queue.values()
        ]
        assert sum(sides) == 1
        await talk(stream)


async def test_circuits_that_are_idle_for_long_live_on(autojump_clock: MockClock) -> None:
    async with onion_network(3) as network:
        worker, hop = await network.add_worker({"echo": echo})
        await worker.link(network.hops[2].identity, network.hops[2].addresses or ())
        circuit = await network.client.build([*network.hops, hop])
        stream = await circuit.open_stream("echo")
        for _ in range(3):
            await trio.sleep(1000)
            await talk(stream)


async def test_who_did_not_run_itself_blames_nobody(autojump_clock: MockClock) -> None:
    async with onion_network(2) as network:
        stream = await (await network.client.build(network.hops)).open_stream("echo")
        await talk(stream)
        for _ in range(3):
            autojump_clock.jump(500)
            await trio.sleep(0.1)
        await talk(stream)
