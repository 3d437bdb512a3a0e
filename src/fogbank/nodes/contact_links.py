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
_FIRST_WAIT = 2.0
_LONGEST_WAIT = 120.0
_LONGEST_ALONE = 10.0
"""While no contact is linked at all: then this machine's own network is the likely cause."""
_GRACE_INTERVALS = 4
"""A former contact's link stays for so long after its last consensus: clients have old ones."""


class ContactLinks:
    """Keeps one link to each contact, from the first consensus on."""

    def __init__(self, node: Node, identity: NodeId, chooser: Chooser) -> None:
        self._node = node
        self._identity = identity
        self._chooser = chooser
        self._contacts: tuple[Entry, ...] = ()
        self._lost: set[NodeId] = set()
        self._failures: dict[NodeId, int] = {}
        self._attempts: dict[NodeId, trio.CancelScope] = {}
        self._pauses: dict[NodeId, trio.CancelScope] = {}
        self._held: dict[NodeId, int] = {}
        self._changed = trio.Event()

    def update(self, consensus: Consensus) -> None:
        """Take the contacts from a new consensus."""
        self._contacts = contacts(self._identity, consensus)
        wanted = frozenset(entry.identity for entry in self._contacts)
        self._lost &= wanted
        grace = _GRACE_INTERVALS * (consensus.fresh_until - consensus.valid_after)
        self._held |= dict.fromkeys(wanted, consensus.fresh_until + grace)
        self._held = {each: t for each, t in self._held.items() if t > consensus.valid_after}
        self._node.hold(frozenset(self._held))
        self._changed.set()
        # The authorities have just found them running, whatever was tried before.
        self._hurry()

    def _hurry(self) -> None:
        """Try again now what waits to be tried again."""
        self._failures.clear()
        for pause in self._pauses.values():
            pause.cancel()

    @property
    def standing(self) -> tuple[Contact, ...]:
        """The contacts, and to which of them links stand."""
        peers = self._node.peers
        return tuple(Contact(each.nickname, each.identity in peers) for each in self._contacts)

    async def run(self) -> None:
        """Dial what is missing, for as long as the worker runs."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wake)
            dialing: set[NodeId] = set()
            while True:
                for entry in self._contacts:
                    if entry.identity not in dialing and entry.identity not in self._node.peers:
                        dialing.add(entry.identity)
                        nursery.start_soon(self._dial, entry, dialing)
                self._changed = trio.Event()
                with trio.move_on_after(_LOOK_SECONDS):
                    await self._changed.wait()

    async def _wake(self) -> None:
        """After a sleep, or at another address, what was under way leads nowhere."""
        while True:
            await self._node.waking.wait()
            for attempt in self._attempts.values():
                attempt.cancel()
            self._hurry()

    async def _dial(self, entry: Entry, dialing: set[NodeId]) -> None:
        """Try once, and then wait until it may be tried again."""
        identity = entry.identity
        try:
            with trio.CancelScope() as self._attempts[identity]:
                await self._node.link(identity, entry.addresses)
                self._reached(entry)
        except LinkFailed as error:
            if identity not in self._lost:
                self._lost.add(identity)
                log.info("contact %s cannot be reached: %s", entry.nickname, error)
            with trio.move_on_after(self._pause(identity)) as self._pauses[identity]:
                await trio.sleep_forever()
        finally:
            self._pauses.pop(identity, None)
            self._attempts.pop(identity, None)
            dialing.discard(identity)

    def _reached(self, entry: Entry) -> None:
        self._failures.pop(entry.identity, None)
        if entry.identity in self._lost:
            self._lost.remove(entry.identity)
            log.info("contact %s is reached again", entry.nickname)
            # What kept this one away kept others away, maybe.
            self._hurry()

    def _pause(self, identity: NodeId) -> float:
        count = self._failures[identity] = self._failures.get(identity, 0) + 1
        alone = self._node.peers.isdisjoint(each.identity for each in self._contacts)
        longest = _LONGEST_ALONE if alone else _LONGEST_WAIT
        wait = min(_FIRST_WAIT * 2.0 ** min(count - 1, 10), longest)
        return wait * (1.0 + self._chooser.uniform()) / 2
