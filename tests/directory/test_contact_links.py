"""A worker's links to its contacts outlast a change of contacts (spec/05 §6.2)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import cast

import trio
from trio.testing import MockClock

from fogbank.client.chance_shell import SystemChooser
from fogbank.directory.contacts import contacts
from fogbank.nodes.contact_links import ContactLinks
from fogbank.relay.errors import LinkFailed
from fogbank.relay.keys import NodeId
from fogbank.relay.node_shell import Node
from fogbank.relay.waking_shell import Waking
from tests.directory.factory import START, make_consensus, make_entry, make_network, relay, worker

WORKER = worker(0).identity
INTERVAL = 30


class Links:
    """Stands in for a node: remembers what is to be held, and how often was dialed."""

    def __init__(self) -> None:
        self.held: frozenset[NodeId] = frozenset()
        self.peers: frozenset[NodeId] = frozenset()
        self.dead: frozenset[NodeId] = frozenset()
        self.hanging: frozenset[NodeId] = frozenset()
        self.dialed: dict[NodeId, list[float]] = {}
        self.ahead = 0.0
        self.waking = Waking(lambda: self.ahead + trio.current_time())

    async def link(self, identity: NodeId, _addresses: object) -> None:
        self.dialed.setdefault(identity, []).append(trio.current_time())
        await trio.sleep(0.1)
        if identity in self.hanging:
            await trio.sleep(1000)
        if identity in self.dead:
            raise LinkFailed("nobody is there")
        self.peers |= {identity}

    def gaps(self, identity: NodeId) -> list[float]:
        """Return the seconds between two tries each."""
        times = self.dialed[identity]
        return [later - sooner for sooner, later in pairwise(times)]

    def hold(self, identities: frozenset[NodeId]) -> None:
        self.held = identities


def test_former_contacts_are_held_while_clients_may_still_go_by_them() -> None:
    network, node = make_network(), Links()
    links = ContactLinks(cast("Node", node), WORKER, SystemChooser())
    first = make_consensus(network, [make_entry(relay(i)) for i in range(10)], START)
    second = replace(first, contact_seed=b"s" * 32)
    old, new = ({e.identity for e in contacts(WORKER, c)} for c in (first, second))
    assert old != new
    links.update(first)
    assert node.held == old
    for after in range(1, 8):
        at = START + after * INTERVAL
        links.update(replace(second, valid_after=at, fresh_until=at + INTERVAL))
        assert node.held == (new | old if after < 5 else new), after


def start(nursery: trio.Nursery, node: Links) -> tuple[ContactLinks, tuple[NodeId, ...]]:
    """Have the contacts of a consensus dialed."""
    links = ContactLinks(cast("Node", node), WORKER, SystemChooser())
    consensus = make_consensus(make_network(), [make_entry(relay(i)) for i in range(10)], START)
    links.update(consensus)
    nursery.start_soon(links.run)
    nursery.start_soon(node.waking.run, lambda: None)
    return links, tuple(entry.identity for entry in contacts(WORKER, consensus))


async def test_a_contact_that_fails_is_tried_ever_more_seldom_until_something_is_new(
    autojump_clock: MockClock,
) -> None:
    node = Links()
    async with trio.open_nursery() as nursery:
        links, (first, *others) = start(nursery, node)
        node.dead = frozenset([first])
        await trio.sleep(1000)
        assert node.peers == frozenset(others)
        gaps = node.gaps(first)
        assert gaps[0] < 5
        assert 59 < gaps[-1] < 123
        # A consensus says that it runs.
        links.update(make_consensus(make_network(), [make_entry(relay(i)) for i in range(10)]))
        tried = len(node.dialed[first])
        await trio.sleep(2)
        assert len(node.dialed[first]) > tried
        # The machine slept.
        await trio.sleep(500)
        tried = len(node.dialed[first])
        node.ahead += 1000
        await trio.sleep(5)
        assert len(node.dialed[first]) > tried
        node.dead = frozenset()
        await trio.sleep(130)
        assert node.peers == {first, *others}
        nursery.cancel_scope.cancel()


async def test_with_no_contact_at_all_every_one_is_tried_again_soon(
    autojump_clock: MockClock,
) -> None:
    node = Links()
    async with trio.open_nursery() as nursery:
        _, all_three = start(nursery, node)
        node.dead = frozenset(all_three)
        await trio.sleep(1000)
        assert max(max(node.gaps(each)) for each in all_three) < 12
        # One is reached: then the others are tried at once.
        node.dead = frozenset(all_three[1:])
        await trio.sleep(12)
        reached = trio.current_time()
        node.dead = frozenset()
        await trio.sleep(12)
        assert node.peers == frozenset(all_three)
        assert max(node.dialed[each][-1] for each in all_three) < reached + 12
        nursery.cancel_scope.cancel()


async def test_a_wake_ends_attempts_that_lead_nowhere(autojump_clock: MockClock) -> None:
    node = Links()
    async with trio.open_nursery() as nursery:
        _, (first, *_) = start(nursery, node)
        node.hanging = frozenset([first])
        await trio.sleep(20)
        assert len(node.dialed[first]) == 1
        node.ahead += 1000
        node.hanging = frozenset()
        await trio.sleep(5)
        assert first in node.peers
        nursery.cancel_scope.cancel()
