"""A worker's links to its contacts outlast a change of contacts (spec/05 §6.2)."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from fogbank.client.chance_shell import SystemChooser
from fogbank.directory.contacts import contacts
from fogbank.nodes.contact_links import ContactLinks
from fogbank.relay.keys import NodeId
from fogbank.relay.node_shell import Node
from tests.directory.factory import START, make_consensus, make_entry, make_network, relay, worker

WORKER = worker(0).identity
INTERVAL = 30


class Links:
    """Stands in for a node: remembers what is to be held."""

    held: frozenset[NodeId] = frozenset()

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
