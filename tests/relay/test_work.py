"""Overloaded relays ask for work, and origins do it, through running relays (spec/03 §2.5)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fogbank.relay.cells import Command, DestroyReason, pack_cell
from fogbank.relay.circuits.origin import Hop
from fogbank.relay.circuits.work_shell import Solution, solve_in_thread
from fogbank.relay.errors import ExtendRefused, WorkRefused
from fogbank.relay.handshake import HopRequest, OriginHandshake
from fogbank.relay.limits import MOST_WORKS, Limits
from fogbank.relay.link.memory_shell import MemoryTransport
from fogbank.relay.node_shell import Node
from fogbank.relay.work import EFFORT_LEAST, EFFORT_MOST, Demand, effort_of, search, work_digest
from tests.relay.onion import NETWORK, OnionNetwork, RawLink, onion_network, talk

LIMITS = Limits(creation_least_cost=0.01, creations_waiting=64)
"""Relays that answer 30 CREATEs a second and ask for work once 15 wait."""
FLOODERS = 40


class Solver:
    """Does the work at once, and remembers for what."""

    def __init__(self, most: int = 1 << 22) -> None:
        self.most = most
        self.demands: list[Demand] = []

    async def __call__(
        self, demand: Demand, message: bytes, seconds: float, wanted: Callable[[], bool]
    ) -> Solution:
        await trio.lowlevel.checkpoint()
        assert seconds > 0
        assert wanted()
        self.demands.append(demand)
        return Solution(search(demand, message, 0, self.most), 0.1)


def be_greedy(node: Node, effort: int) -> None:
    """Have a node ask everybody for `effort`, whatever they did before."""
    queue: Any = node._switch._creations
    queue.demand = lambda _now: Demand(effort, b"s" * 16)
    queue.effort = lambda _now: 60


def create(hop: Hop, number: int) -> bytes:
    made = OriginHandshake(
        hop.identity, hop.onion_key, NETWORK, HopRequest(1, 1), os.urandom(32), os.urandom(64)
    )
    return pack_cell(1 << 31 | number, Command.CREATE, made.message)


async def flood(network: OnionNetwork, target: Hop, told: list[bytes]) -> None:
    """Send CREATEs from many addresses, ten a second from each, until cancelled."""
    assert target.addresses
    address = target.addresses[0]

    async def one(number: int) -> None:
        transport = MemoryTransport(network.memory, f"127.100.{number}.1")
        link = await RawLink.dial(transport, address)

        async def read() -> None:
            while (cell := await link.cell()) is not None:
                told.append(cell)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for count in range(1, 10_000):
                await link.send(create(target, count))
                await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        for number in range(FLOODERS):
            nursery.start_soon(one, number)


@pytest.mark.parametrize("flooded", [0, 1, 2])
async def test_in_a_flood_from_many_addresses_who_works_gets_circuits(
    autojump_clock: MockClock, flooded: int
) -> None:
    async with onion_network(3, limits=LIMITS) as network:
        solver = Solver()
        network.client._config.solver = solver
        # Links stand already: what is measured is circuits.
        await network.client.build(network.hops)
        told: list[bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood, network, network.hops[flooded], told)
            await trio.sleep(3)
            assert network.nodes[flooded].effort_asked == EFFORT_LEAST
            told.clear()
            for _ in range(10):
                await trio.sleep(0.2)
                begun = trio.current_time()
                circuit = await network.client.build(network.hops)
                await talk(await circuit.open_stream("echo"))
                assert trio.current_time() - begun < 1
            # Others are told the same, and get no circuit.
            assert len(solver.demands) == 10
            assert len(set(solver.demands)) == 1
            refusals = {cell[4:] for cell in told}
            assert len(refusals) == 1
            assert refusals.pop()[:1] == bytes((Command.WORK_ASKED,))
            await circuit_dies_without_work(network)
            nursery.cancel_scope.cancel()
        with trio.move_on_after(30):
            while network.nodes[flooded].effort_asked:  # noqa: ASYNC110 - as an operator looks
                await trio.sleep(1)
        assert network.nodes[flooded].effort_asked == 0
        solver.demands.clear()
        await network.client.build(network.hops)
        assert solver.demands == []
        await network.settle()


async def circuit_dies_without_work(network: OnionNetwork) -> None:
    """Check that an origin that finds no nonce in its time goes elsewhere."""
    before = network.client._config.solver
    network.client._config.solver = Solver(most=0)
    with pytest.raises(WorkRefused, match="another path"):
        await network.client.build(network.hops)
    network.client._config.solver = before


async def test_a_hop_that_asks_too_much_or_too_often_is_left(autojump_clock: MockClock) -> None:
    async with onion_network(2, limits=LIMITS) as network:
        one, two = network.hops
        solver = Solver()
        network.client._config.solver = solver
        be_greedy(network.nodes[1], EFFORT_MOST + 1)
        with pytest.raises(WorkRefused):
            await network.client.build([one, two])
        assert solver.demands == []
        # What is never enough: after three times the origin has had enough.
        be_greedy(network.nodes[1], EFFORT_LEAST)
        for hops in ([one, two], [two]):
            solver.demands.clear()
            with pytest.raises((WorkRefused, ExtendRefused)):
                await network.client.build(hops)
            assert len(solver.demands) == MOST_WORKS
        await network.settle()
        network.assert_nothing_left()


async def test_after_a_demand_only_the_same_hop_may_be_asked_again(
    autojump_clock: MockClock,
) -> None:
    async with onion_network(3, limits=LIMITS) as network:
        one, two, three = network.hops
        be_greedy(network.nodes[1], EFFORT_LEAST)

        async def turn(
            _demand: Demand, _message: bytes, _seconds: float, _wanted: Callable[[], bool]
        ) -> Solution:
            await trio.lowlevel.checkpoint()
            (core,) = (
                side
                for link in network.client.links._by_queue.values()
                for side in link.port.sides.values()
            )
            core._hop = three  # type: ignore[attr-defined]
            return Solution(1, 0.0)

        network.client._config.solver = turn
        with pytest.raises(ExtendRefused, match="extended already"):
            await network.client.build([one, two])


async def test_a_circuit_that_ends_while_work_is_done(autojump_clock: MockClock) -> None:
    async with onion_network(2, limits=LIMITS) as network:
        one, two = network.hops
        be_greedy(network.nodes[1], EFFORT_LEAST)

        async def interrupted(
            _demand: Demand, _message: bytes, _seconds: float, wanted: Callable[[], bool]
        ) -> Solution:
            for link in list(network.nodes[0].links._by_queue.values()):
                link.close()
            while wanted():  # noqa: ASYNC110 - as a search does, slice by slice
                await trio.sleep(0.01)
            return Solution(None, 0.1)

        network.client._config.solver = interrupted
        with pytest.raises(Exception, match="a link between two of its nodes ended"):
            await network.client.build([one, two])


async def test_a_create_that_waits_can_be_taken_back(autojump_clock: MockClock) -> None:
    async with onion_network(
        1, limits=Limits(creation_least_cost=1.0, creation_wait=1e9)
    ) as network:
        (hop,) = network.hops
        assert hop.addresses
        transport = MemoryTransport(network.memory, "127.100.0.1")
        link = await RawLink.dial(transport, hop.addresses[0])
        await link.send(create(hop, 1))
        answer = await link.cell()
        assert answer is not None
        assert answer[4] == Command.CREATED
        for number, cell in ((2, Command.DESTROY), (3, Command.RELAY), (4, Command.CREATED)):
            await link.send(create(hop, number) + pack_cell(1 << 31 | number, cell, b""))
        await network.settle()
        assert len(network.nodes[0]._switch._creations) == 0
        for _ in range(2):
            end = await link.cell()
            assert end is not None
            assert end[4:6] == bytes((Command.DESTROY, DestroyReason.FAILURE))
        await link.send(create(hop, 5))
        link.pipe.close()
        await network.settle()
        assert len(network.nodes[0]._switch._creations) == 0
        network.assert_nothing_left()


async def test_a_thread_does_work_while_others_go_on() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await trio.lowlevel.checkpoint()
            ticks += 1

    demand = Demand(12, b"s" * 16)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        solution = await solve_in_thread(demand, b"m" * 1330, 60.0, lambda: True)
        nursery.cancel_scope.cancel()
    assert ticks
    assert solution.nonce is not None
    assert effort_of(work_digest(solution.nonce, demand.seed, b"m" * 1330)) >= 12
    assert solution.seconds > 0


async def test_work_ends_when_its_time_is_over_or_nobody_wants_it() -> None:
    never = Demand(64, b"s" * 16)
    solution = await solve_in_thread(never, b"m", 1e-6, lambda: True)
    assert solution.nonce is None
    assert solution.seconds > 0
    wanted = iter((True, True, False))
    assert (await solve_in_thread(never, b"m", 60.0, lambda: next(wanted))).nonce is None
    with trio.move_on_after(0) as scope:
        await solve_in_thread(never, b"m", 60.0, lambda: True)
    assert scope.cancelled_caught
