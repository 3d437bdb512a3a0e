"""How many lanes of an array may fail, and when it is hopeless (spec/11 §3). Pure."""

from __future__ import annotations

from fogbank.client.scheduling.limits import ArrayLimits


class Budget:
    """Failures cost, what goes well gives back; time too. `lanes` is how many there are now."""

    def __init__(self, limits: ArrayLimits, now: float) -> None:
        self._limits = limits
        self._left = float(limits.budget)
        self._counted_at = now
        self._in_a_row = 0
        self._good_at = now

    def good(self, worth: float, lanes: int, now: float) -> None:
        """Hear of something that went well: worth 1, an answer."""
        if worth >= 1:
            # Workers that take sessions and then fail them are no reason to go on.
            self._in_a_row = 0
            self._good_at = now
        self._left = min(self._most(lanes), self._left + worth)

    def bad(self) -> None:
        """Hear of a lane that failed."""
        self._in_a_row += 1
        self._left -= 1

    def count(self, lanes: int, now: float) -> None:
        """Give back what time gives."""
        grown = self._left + max(0.0, now - self._counted_at) / self._limits.budget_seconds
        self._left = min(self._most(lanes), grown)
        self._counted_at = now

    def allows(self, opening: int) -> bool:
        """Tell whether one more may be opened, if all that are being opened fail."""
        return self._left >= 1 + opening

    def is_hopeless(self, now: float) -> bool:
        """Tell whether nothing has gone well for long and often enough."""
        limits = self._limits
        often = self._in_a_row >= limits.give_up
        return often and now - self._good_at >= limits.give_up_seconds

    def _most(self, lanes: int) -> float:
        return self._limits.budget + lanes / 4
