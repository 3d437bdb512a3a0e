"""Links whose peer is gone without a word are found out, and only those (spec/02 §6)."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from fogbank.relay.circuits.switch import Switch
from fogbank.relay.link.port import Port
from fogbank.relay.link.shell import Link
from fogbank.relay.link.watch_shell import ANSWER_SECONDS, ASK_LOOKS, GONE_LOOKS, WATCH_SECONDS
from fogbank.relay.node_shell import Node
from fogbank.relay.waking_shell import LOOK_SECONDS
from tests.relay.onion import OnionNetwork, echo, onion_network, talk
from tests.relay.test_shutdown import ends, freeze


async def held_link(network: OnionNetwork) -> tuple[Node, Link]:
    """A worker's link to the first relay, which it holds."""
    worker, _ = await network.add_worker({"echo": echo})
    relay = network.hops[0]
    worker.hold(frozenset([relay.identity]))
    return worker, await worker.link(relay.identity, relay.addresses or ())


async def test_a_held_link_whose_peer_falls_silent_is_closed_soon(
    autojump_clock: MockClock,
) -> None:
    async with onion_network(1) as network:
        worker, link = await held_link(network)
        await trio.sleep(3600)
        assert not link.closing
        for pipe in ends(network, 0):
            freeze(pipe)
        await trio.sleep((GONE_LOOKS + 1) * WATCH_SECONDS)
        assert not worker.peers


async def test_a_held_link_costs_a_cell_each_way_in_twenty_seconds(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = 0
    pad = Port.pad

    def count(port: Port, now: float) -> None:
        nonlocal sent
        sent += 1
        pad(port, now)

    monkeypatch.setattr(Port, "pad", count)
    async with onion_network(1) as network:
        await held_link(network)
        await trio.sleep(1000)
        assert 2 * 1000 / (WATCH_SECONDS * (ASK_LOOKS + 2)) <= sent <= 2 * 1000 / 20


async def test_answers_are_not_answered(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with onion_network(1) as network:
        _, link = await held_link(network)
        await trio.sleep(4)
        answers: list[bool] = []
        control = Switch._control

        def count(self: Switch, port: Port, circuit: int, command: int, cell: memoryview) -> None:
            answers.append(port.dialed)
            control(self, port, circuit, command, cell)

        monkeypatch.setattr(Switch, "_control", count)
        link.pad(trio.current_time())
        await trio.sleep(4)
        # The relay hears the question, the worker the answer.
        assert answers == [False, True]


async def test_after_a_wake_dead_links_are_closed_at_once_and_others_stay(
    autojump_clock: MockClock,
) -> None:
    async with onion_network(3) as network:
        stream = await (await network.client.build([network.hops[2]])).open_stream("echo")
        worker, _ = await network.add_worker({"echo": echo})
        links = [await worker.link(hop.identity, hop.addresses or ()) for hop in network.hops[:2]]
        for pipe in ends(network, 0):
            freeze(pipe)
        autojump_clock.jump(100)
        await trio.sleep(LOOK_SECONDS + ANSWER_SECONDS + 1)
        assert links[0].closing
        assert not links[1].closing
        await talk(stream)


async def test_a_link_that_is_wanted_after_a_silence_has_to_answer(
    autojump_clock: MockClock,
) -> None:
    async with onion_network(2) as network:
        hop = network.hops[0]
        link = await network.client.link(hop.identity, hop.addresses or ())
        other = await network.client.link(network.hops[1].identity, network.hops[1].addresses or ())
        await trio.sleep(100)
        for pipe in ends(network, 0):
            freeze(pipe)
        assert await network.client.link(hop.identity, hop.addresses or ()) is link
        assert network.client.links.standing(network.hops[1].identity) is other
        await trio.sleep(ANSWER_SECONDS + 0.1)
        assert link.closing
        assert not other.closing
