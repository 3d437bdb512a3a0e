"""A worker's links to its contact relays: dialed from here, kept, and dialed again (spec/05 §6.2).

A worker has no open port: these links are how circuits reach it. Which relays they are follows from
the consensus; a link to a relay that is no contact any more stays for a few intervals, while
clients still go by older ones, and then until its circuits end.
"""

from __future__ import annotations

import logging

import trio

from fogbank.client.chance import Chooser
from fogbank.directory.consensus import Consensus, Entry
from fogbank.directory.contacts import contacts
from fogbank.nodes.status import Contact
from fogbank.relay.errors import LinkFailed
from fogbank.relay.keys import NodeId
from fogbank.relay.node_shell import Node

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_RETRY_SECONDS = (1.0, 120.0)
_GRACE_INTERVALS = 4
"""A former contact's link stays for so long after its last consensus: clients have old ones."""


class ContactLinks:
    """Keeps one link to each contact, from the first consensus on."""

    def __init__(self, node: Node, identity: NodeId, chooser: Chooser) -> None:
        self._node = node
        self._identity = identity
        self._chooser = chooser
        self._contacts: tuple[Entry, ...] = ()
        self._failures: dict[NodeId, int] = {}
        self._held: dict[NodeId, int] = {}
        self._changed = trio.Event()

    def update(self, consensus: Consensus) -> None:
        """Take the contacts from a new consensus."""
        self._contacts = contacts(self._identity, consensus)
        wanted = frozenset(entry.identity for entry in self._contacts)
        self._failures = {each: n for each, n in self._failures.items() if each in wanted}
        grace = _GRACE_INTERVALS * (consensus.fresh_until - consensus.valid_after)
        self._held |= dict.fromkeys(wanted, consensus.fresh_until + grace)
        self._held = {each: t for each, t in self._held.items() if t > consensus.valid_after}
        self._node.hold(frozenset(self._held))
        self._changed.set()

    @property
    def standing(self) -> tuple[Contact, ...]:
        """The contacts, and to which of them links stand."""
        peers = self._node.peers
        return tuple(Contact(each.nickname, each.identity in peers) for each in self._contacts)

    async def run(self) -> None:
        """Dial what is missing, for as long as the worker runs."""
        async with trio.open_nursery() as nursery:
            dialing: set[NodeId] = set()
            while True:
                for entry in self._contacts:
                    if entry.identity not in dialing and entry.identity not in self._node.peers:
                        dialing.add(entry.identity)
                        nursery.start_soon(self._dial, entry, dialing)
                self._changed = trio.Event()
                with trio.move_on_after(_LOOK_SECONDS):
                    await self._changed.wait()

    async def _dial(self, entry: Entry, dialing: set[NodeId]) -> None:
        try:
            await self._node.link(entry.identity, entry.addresses)
            if self._failures.pop(entry.identity, 0):
                log.info("contact %s is reached again", entry.nickname)
        except LinkFailed as error:
            count = self._failures[entry.identity] = self._failures.get(entry.identity, 0) + 1
            if count == 1:
                log.info("contact %s cannot be reached: %s", entry.nickname, error)
            least, most = _RETRY_SECONDS
            wait = min(least * 2 ** min(count, 10), most)
            await trio.sleep(wait * (1.0 + self._chooser.uniform()) / 2)
        finally:
            dialing.discard(entry.identity)
