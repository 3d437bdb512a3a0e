"""The system's generator as a `Chooser` (spec/06 §1)."""

from __future__ import annotations

from random import SystemRandom


class SystemChooser:
    """Draws from the operating system."""

    def __init__(self) -> None:
        self._random = SystemRandom()

    def uniform(self) -> float:
        """Return a number from 0 to 1, 1 excluded."""
        return self._random.random()

    def below(self, limit: int) -> int:
        """Return an integer from 0 to `limit`, `limit` excluded."""
        return self._random.randrange(limit)
