"""Whom a relay may extend to: every consensus that has not expired counts (spec/03 §4).

Instead of whole documents it keeps what they say: each identity's addresses, and until when.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from fogbank.directory.consensus import Consensus, Flag
from fogbank.relay.extend import Address, RefusedCode, is_global
from fogbank.relay.keys import NodeId

_EXTENDABLE: Final = Flag.VALID
"""What a node must be to be extended to; whether it runs shows when it is dialed."""


class _Kind(NamedTuple):
    """What policy may shut a node out for: its engine class (workers only), its protocols."""

    engine: str
    protocols: tuple[int, ...]


class Admission:
    """The nodes of all unexpired consensuses, with their addresses.

    Whom the newest one revokes or shuts out is gone at once, whatever older ones say.

    `test` admits addresses that are not public, as a test network does.
    """

    def __init__(self, clock: Callable[[], float], *, test: bool) -> None:
        self._clock = clock
        self._test = test
        self._nodes: dict[NodeId, dict[Address, int]] = {}
        self._kinds: dict[NodeId, _Kind] = {}
        self._listed: dict[NodeId, int] = {}

    def add(self, consensus: Consensus) -> None:
        """Take in a verified consensus, and forget what has expired."""
        for entry in consensus.entries:
            if entry.flags & _EXTENDABLE:
                until = consensus.valid_until
                self._listed[entry.identity] = max(until, self._listed.get(entry.identity, 0))
                self._kinds[entry.identity] = _Kind(entry.engine, entry.protocols)
                addresses = self._nodes.setdefault(entry.identity, {})
                for address in entry.addresses:
                    addresses[address] = max(until, addresses.get(address, 0))
        for identity in {*consensus.revoked, *self._outlawed(consensus)}:
            self._drop(identity)
        self._forget(self._clock())

    def _outlawed(self, consensus: Consensus) -> list[NodeId]:
        """Return nodes of older consensuses that the policy of the newest has shut out."""
        needed, classes = set(consensus.required_protocols), set(consensus.engines)
        return [
            identity
            for identity, kind in self._kinds.items()
            if not needed <= set(kind.protocols)
            or (classes and kind.engine and kind.engine not in classes)
        ]

    def _drop(self, identity: NodeId) -> None:
        self._listed.pop(identity, None)
        self._nodes.pop(identity, None)
        self._kinds.pop(identity, None)

    def check(self, identity: NodeId, addresses: tuple[Address, ...] | None) -> RefusedCode | None:
        """Return why not to extend there, or None."""
        now = self._clock()
        if self._listed.get(identity, 0) <= now:
            return RefusedCode.NOT_IN_CONSENSUS
        known = self._nodes[identity]
        for address in addresses or ():
            if known.get(address, 0) <= now or not (self._test or is_global(address.host)):
                return RefusedCode.BAD_ADDRESS
        return None

    def _forget(self, now: float) -> None:
        for identity in [each for each, until in self._listed.items() if until <= now]:
            self._drop(identity)
        for addresses in self._nodes.values():
            for address in [each for each, until in addresses.items() if until <= now]:
                del addresses[address]
