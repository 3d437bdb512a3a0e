"""Who of a committee is asked next for a request that is carried, and when it is over. Pure.

    votes = Round(record.quorum, order, {own: vote})
    for place in votes.more(): …                    # ask them
    votes.took(place, vote), votes.failed(place), votes.overdue()
    votes.is_over, votes.is_lost

Places are those in the committee, from 1 (spec/09 §6.6).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Round(Generic[_T]):
    """One thing that `needed` members are to give; they are asked in `order`, each once."""

    def __init__(
        self, needed: int, order: Iterable[int], given: Mapping[int, _T] | None = None
    ) -> None:
        self.given: dict[int, _T] = dict(given or {})
        """What was given, by who gave it."""
        self._needed = needed
        self._spare = deque(place for place in order if place not in self.given)
        self._asked: set[int] = set()
        self._late: set[int] = set()

    @property
    def is_over(self) -> bool:
        """Tell whether enough gave it."""
        return len(self.given) >= self._needed

    @property
    def is_lost(self) -> bool:
        """Tell whether it is not over, and nobody is left who could bring it on."""
        return not (self.is_over or self._asked or self._late or self._spare)

    def more(self) -> list[int]:
        """Return who is to be asked now: as many as are needed beside those who are being asked."""
        number = self._needed - len(self.given) - len(self._asked)
        places = [self._spare.popleft() for _ in range(min(number, len(self._spare)))]
        self._asked.update(places)
        return places

    def took(self, place: int, what: _T) -> None:
        """Count what a member gave, also if it is late."""
        self._forget(place)
        self.given[place] = what

    def failed(self, place: int) -> None:
        """Have somebody else asked instead."""
        self._forget(place)

    def overdue(self) -> list[int]:
        """Have others asked beside all who have not answered; return who they are."""
        late = sorted(self._asked)
        self._late.update(late)
        self._asked.clear()
        return late

    def clash(self) -> None:
        """Have one more give it: what was given cannot stand together."""
        self._needed += 1

    def _forget(self, place: int) -> None:
        self._asked.discard(place)
        self._late.discard(place)
