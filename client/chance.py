"""Randomness as cores take it: a chooser is handed in (spec/06 §1)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Generic, Protocol, TypeVar

_T = TypeVar("_T")

_DRAWS = 32
"""Draws that may miss before all items are looked at."""


class Chooser(Protocol):
    """Draws numbers: the system's generator in life, a seeded one in tests."""

    def uniform(self) -> float:
        """Return a number from 0 to 1, 1 excluded."""

    def below(self, limit: int) -> int:
        """Return an integer from 0 to `limit`, `limit` excluded; `limit` is positive."""


class Weighted(Generic[_T]):
    """Items to draw from by weight, in logarithmic time; weights are positive integers."""

    __slots__ = ("_sums", "items")

    def __init__(self, items: Sequence[_T], weights: Iterable[int]) -> None:
        self.items = items
        self._sums = list(accumulate(weights))

    def draw(self, chooser: Chooser) -> _T:
        """Return one item; there must be one."""
        return self.items[bisect_right(self._sums, chooser.below(self._sums[-1]))]

    def draw_where(self, accept: Callable[[_T], bool], chooser: Chooser) -> _T | None:
        """Return one of the items that `accept` takes, by their weights; None if it takes none.

        A few draws nearly always find one; only if they do not are all items looked at.
        """
        for _ in range(_DRAWS if self.items else 0):
            item = self.draw(chooser)
            if accept(item):
                return item
        pairs = zip(self.items, self._sums, (0, *self._sums), strict=False)
        fit = [(item, end - begin) for item, end, begin in pairs if accept(item)]
        if not fit:
            return None
        return Weighted([item for item, _ in fit], (weight for _, weight in fit)).draw(chooser)


def between(bounds: tuple[int, int], chooser: Chooser) -> int:
    """Return an integer drawn evenly between two bounds, both included."""
    low, high = bounds
    return low + chooser.below(high - low + 1)


def jitter(chooser: Chooser) -> float:
    """Return a number from 0.5 to 1.5, with which waits are multiplied."""
    return 0.5 + chooser.uniform()
