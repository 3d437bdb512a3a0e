"""A consensus as paths see it: usable relays, weights, who clashes with whom (spec/06 §1)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from fogbank.client.chance import Weighted
from fogbank.directory.consensus import SUPPORTED_PROTOCOLS, Consensus, Entry, Flag
from fogbank.directory.contacts import contacts
from fogbank.directory.families import prefixes
from fogbank.relay.keys import NodeId

_NEEDED = Flag.RUNNING | Flag.VALID
_PROTOCOLS = frozenset(SUPPORTED_PROTOCOLS)

NODE, FAMILY, PREFIX = b"n", b"f", b"p"
"""The kinds of limit; each key of a node begins with one of them."""


def weight(entry: Entry) -> int:
    """Return the weight with which a relay or a worker is drawn."""
    measured = entry.fuel_rate if entry.flags & Flag.WORKER else entry.bandwidth
    return max(1, measured)


class Topology:
    """One live consensus, with what path selection computes from it kept at hand.

    Make one per consensus: the keys of a node are computed once.
    """

    def __init__(self, consensus: Consensus) -> None:
        self.consensus = consensus
        self._keys: dict[NodeId, frozenset[bytes]] = {}
        self._contacts: dict[NodeId, tuple[Entry, ...]] = {}

    @cached_property
    def relays(self) -> Weighted[Entry]:
        """The usable relays, to draw by weight."""
        return _weighted(entry for entry in self.consensus.relays() if is_usable(entry))

    @cached_property
    def workers(self) -> Weighted[Entry]:
        """The workers that take jobs, to draw by weight."""
        return _weighted(entry for entry in self.consensus.workers() if _is_running(entry))

    @cached_property
    def guards(self) -> Weighted[Entry]:
        """The relays that are listed as guards."""
        return _weighted(entry for entry in self.relays.items if entry.flags & Flag.GUARD)

    def relay(self, identity: NodeId) -> Entry | None:
        """Return a usable relay's entry, or None."""
        entry = self.consensus.by_identity(identity)
        return entry if entry is not None and is_usable(entry) else None

    def contacts(self, worker: Entry) -> tuple[Entry, ...]:
        """Return the usable contact relays of a worker."""
        chosen = self._contacts.get(worker.identity)
        if chosen is None:
            chosen = tuple(filter(is_usable, contacts(worker.identity, self.consensus)))
            self._contacts[worker.identity] = chosen
        return chosen

    def keys(self, entry: Entry) -> frozenset[bytes]:
        """Return what no other node of a path may have in common with this one."""
        keys = self._keys.get(entry.identity)
        if keys is None:
            keys = self._keys[entry.identity] = frozenset(
                [
                    NODE + entry.identity,
                    *(FAMILY + family for family in entry.families),
                    *(PREFIX + prefix for prefix in prefixes(entry)),
                ]
            )
        return keys

    def clash(self, a: Entry, b: Entry) -> bool:
        """Tell whether two nodes may not share a path."""
        return not self.keys(a).isdisjoint(self.keys(b))


def is_usable(entry: Entry) -> bool:
    """Tell whether an entry is a relay that a path may lead through."""
    is_relay = not entry.flags & (Flag.AUTHORITY | Flag.WORKER)
    return is_relay and bool(entry.addresses) and _is_running(entry)


def _is_running(entry: Entry) -> bool:
    return entry.flags & _NEEDED == _NEEDED and not _PROTOCOLS.isdisjoint(entry.protocols)


def _weighted(entries: Iterable[Entry]) -> Weighted[Entry]:
    items = tuple(entries)
    return Weighted(items, map(weight, items))
