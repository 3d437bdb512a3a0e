"""All chance of a simulated network: independent generators, each from the seed and a name."""

from __future__ import annotations

import hashlib
import random


class Chance(random.Random):
    """A seeded generator that is also a node's `Chooser` and its source of random bytes."""

    def __init__(self, *names: object) -> None:
        digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
        super().__init__(int.from_bytes(digest, "big"))

    def below(self, limit: int) -> int:
        """Return an integer from 0 to `limit`, `limit` excluded."""
        return self.randrange(limit)

    def once_in(self, share: float) -> bool:
        """Return True with that probability."""
        return self.random() < share

    # A chooser's `uniform` takes no bounds; `random.Random`'s does.
    def uniform(self, a: float = 0.0, b: float = 1.0) -> float:
        """Return a number from `a` to `b`."""
        return a + (b - a) * self.random()
