"""Which first messages a hop has seen: the replay cache of the hop handshake (spec/03 §2.4)."""

from __future__ import annotations

from fogbank.relay.errors import ProtocolError

GENERATION = 65_536
"""How many of the latest values the cache remembers at least, per onion key."""
KEYS = 3
"""Onion keys that have a cache: a node holds two, and may have just dropped one."""


class ReplayCache:
    """Remembers at least the latest `generation` values under each onion key, at most twice that.

    Values are kept in two generations. When the younger one is full the older one is dropped, so
    that a flood costs memory and service nothing: only a replay of something old gets through,
    which gives its replayer no key.
    """

    __slots__ = ("_caches", "_generation")

    def __init__(self, generation: int = GENERATION) -> None:
        self._generation = generation
        self._caches: dict[bytes, tuple[set[bytes], set[bytes]]] = {}

    def add(self, onion_key: bytes, value: bytes) -> None:
        """Remember `value` under a public onion key; raise `ProtocolError` if it is known there."""
        young, old = self._caches.get(onion_key) or (set(), set())
        if value in young or value in old:
            raise ProtocolError("a hop handshake was replayed")
        if len(young) >= self._generation:
            young, old = set(), young
        young.add(value)
        self._caches[onion_key] = young, old
        while len(self._caches) > KEYS:
            del self._caches[next(iter(self._caches))]

    def __len__(self) -> int:
        """Return how many values are remembered, under all keys."""
        return sum(len(young) + len(old) for young, old in self._caches.values())
