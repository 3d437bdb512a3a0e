"""Which workers may not run the same task, because they may be one operator's (spec/12 §2). Pure.

A worker has no address. What tells two apart is what families they have shown, which is their own
word, and which relays reach them, which nobody chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from itertools import islice
from typing import Final, TypeAlias

from fogbank.relay.keys import NodeId

Contacts: TypeAlias = Callable[[NodeId], frozenset[NodeId]]
"""Gives the contact relays of a worker, by the newest consensus."""

_LOOKED_AT: Final = 256
"""Workers that are looked at to find out what a network has: contacts cost a hash a relay."""


class Level(IntEnum):
    """How far apart two workers must be. Each level asks for all that the one before it does."""

    FAMILIES = 0
    """No family in common."""
    SETS = 1
    """Nor the same contact relays."""
    CONTACTS = 2
    """Nor any contact relay."""


class Apart:
    """What is known of the workers of one array, from one consensus to the next.

    `wanted`: how many apart from each other a task may need; `least`: how many it does need.
    """

    def __init__(self, wanted: int, least: int) -> None:
        self._wanted, self._least = wanted, least
        self._families: dict[NodeId, frozenset[bytes]] = {}
        self._contacts: dict[NodeId, frozenset[NodeId]] = {}
        self._find_contacts: Contacts = lambda _: frozenset()
        self.level = Level.FAMILIES

    def update(self, families: Mapping[NodeId, frozenset[bytes]], contacts: Contacts) -> bool:
        """Take up who is listed; tell whether enough of them are apart at all."""
        self._families.update(families)
        self._contacts.clear()
        self._find_contacts = contacts
        some = list(islice(families, _LOOKED_AT))
        strict = (each for each in (Level.CONTACTS, Level.SETS) if self._has(some, each))
        self.level = next(strict, Level.FAMILIES)
        return self._count(families, self.level, self._least) >= self._least

    def conflict(self, a: NodeId, b: NodeId) -> bool:
        """Tell whether two workers may not both run the same task."""
        return a == b or not self._are_apart(a, b, self.level)

    def _has(self, workers: list[NodeId], level: Level) -> bool:
        return self._count(workers, level, self._wanted) >= self._wanted

    def _count(self, workers: Iterable[NodeId], level: Level, most: int) -> int:
        """Return how many of the workers, up to `most`, are found to be apart from each other."""
        chosen: list[NodeId] = []
        for worker in workers:
            if len(chosen) >= most:
                break
            if all(self._are_apart(worker, other, level) for other in chosen):
                chosen.append(worker)
        return len(chosen)

    def _are_apart(self, a: NodeId, b: NodeId, level: Level) -> bool:
        nothing: frozenset[bytes] = frozenset()
        if not self._families.get(a, nothing).isdisjoint(self._families.get(b, nothing)):
            return False
        if level is Level.FAMILIES:
            return True
        ours, theirs = self._contacts_of(a), self._contacts_of(b)
        return ours != theirs if level is Level.SETS else ours.isdisjoint(theirs)

    def _contacts_of(self, worker: NodeId) -> frozenset[NodeId]:
        known = self._contacts.get(worker)
        if known is None:
            known = self._contacts[worker] = self._find_contacts(worker)
        return known
