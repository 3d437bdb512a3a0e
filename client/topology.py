"""A consensus as paths see it: usable relays, weights, who clashes with whom (spec/06 §1)."""

from __future__ import annotations

from functools import cached_property

from fogbank.client.chance import Weighted
from fogbank.directory.consensus import SUPPORTED_PROTOCOLS, Consensus, Entry, Flag
from fogbank.directory.contacts import contacts
from fogbank.directory.families import prefixes
from fogbank.relay.job.kinds import SERVICE as JOB_SERVICE
from fogbank.relay.keys import NodeId

# Plain integers: operations on flags are slow, and these are done for every entry.
_NEEDED = int(Flag.RUNNING | Flag.VALID)
_GUARD = int(Flag.GUARD)
_PROTOCOLS = frozenset(SUPPORTED_PROTOCOLS)

NODE, FAMILY, PREFIX = b"n", b"f", b"p"
"""The kinds of limit; each key of a node begins with one of them."""


def relay_weight(entry: Entry) -> int:
    """Return the weight with which a relay is drawn."""
    return max(1, entry.bandwidth)


def worker_weight(entry: Entry) -> int:
    """Return the weight with which a worker is drawn."""
    return max(1, entry.fuel_rate)


class Topology:
    """One live consensus, with what path selection computes from it kept at hand.

    Make one per consensus: what is asked again is computed once.
    """

    def __init__(self, consensus: Consensus) -> None:
        self.consensus = consensus
        self._keys: dict[NodeId, frozenset[bytes]] = {}
        self._contacts: dict[NodeId, tuple[Entry, ...]] = {}

    @cached_property
    def relays(self) -> Weighted[Entry]:
        """The usable relays, to draw by weight."""
        usable = [entry for entry in self.consensus.relays() if _is_usable(entry)]
        return Weighted(usable, map(relay_weight, usable))

    @cached_property
    def guards(self) -> Weighted[Entry]:
        """The relays that are listed as guards, to draw by weight."""
        guards = [entry for entry in self.relays.items if int(entry.flags) & _GUARD]
        return Weighted(guards, map(relay_weight, guards))

    @cached_property
    def workers(self) -> Weighted[Entry]:
        """The workers that take jobs, to draw by weight."""
        running = [each for each in self.consensus.workers() if _is_running(each) and _works(each)]
        return Weighted(running, map(worker_weight, running))

    @cached_property
    def _by_identity(self) -> dict[NodeId, Entry]:
        return {entry.identity: entry for entry in self.relays.items}

    def relay(self, identity: NodeId) -> Entry | None:
        """Return a usable relay's entry, or None."""
        return self._by_identity.get(identity)

    def guard(self, identity: NodeId) -> Entry | None:
        """Return the entry of a relay that is listed as a guard, or None."""
        entry = self.relay(identity)
        return entry if entry is not None and int(entry.flags) & _GUARD else None

    def contacts(self, worker: Entry) -> tuple[Entry, ...]:
        """Return the usable contact relays of a worker."""
        chosen = self._contacts.get(worker.identity)
        if chosen is None:
            chosen = tuple(
                relay
                for relay in contacts(worker.identity, self.consensus)
                if relay.identity in self._by_identity
            )
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


def _is_usable(relay: Entry) -> bool:
    return bool(relay.addresses) and _is_running(relay)


def _works(worker: Entry) -> bool:
    """Tell whether a worker takes jobs: one that is about to end does not (spec/06 §3)."""
    return JOB_SERVICE in worker.services


def _is_running(entry: Entry) -> bool:
    return int(entry.flags) & _NEEDED == _NEEDED and not _PROTOCOLS.isdisjoint(entry.protocols)
