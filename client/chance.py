"""Randomness as cores take it: a chooser is handed in (spec/06 §1)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Generic, Protocol, TypeVar

_T = TypeVar("_T")


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


def between(bounds: tuple[int, int], chooser: Chooser) -> int:
    """Return an integer drawn evenly between two bounds, both included."""
    low, high = bounds
    return low + chooser.below(high - low + 1)


def jitter(chooser: Chooser) -> float:
    """Return a number from 0.5 to 1.5, with which waits are multiplied."""
    return 0.5 + chooser.uniform()
