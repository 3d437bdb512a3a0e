"""How far to look for a wallet's outputs in its seed (spec/09 §8.3). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from fogbank.client.wallet.derivation import Output, Place, Role, Secrets
from fogbank.client.wallet.terms import GAP

EMPTY_BRANCHES: Final = 3
"""So many branches in a row without anything end the search."""


@dataclass(slots=True)
class _Lane:
    """One branch in one period: how many were derived, and the last one that is there, +1."""

    derived: int = 0
    reached: int = 0


class Lanes:
    """All branches of both roles, in those periods in which something can live."""

    def __init__(self, secrets: Secrets, periods: Sequence[int]) -> None:
        self._secrets = secrets
        self._periods = periods
        self._lanes: dict[tuple[Role, int, int], _Lane] = {}
        self._places: dict[bytes, Place] = {}

    def derive(self) -> Iterator[bytes]:
        """Return outputs that were not looked for yet, and might be there; 0.3 ms each."""
        for role in Role:
            for branch in range(self.unused(role) + EMPTY_BRANCHES):
                for period in self._periods:
                    yield from self._derive(role, branch, period)

    def _derive(self, role: Role, branch: int, period: int) -> Iterator[bytes]:
        lane = self._lanes.setdefault((role, branch, period), _Lane())
        first, lane.derived = lane.derived, max(lane.derived, lane.reached + GAP)
        for counter in range(first, lane.derived):
            place = Place(role, branch, period, counter)
            blinded = self._secrets.output(place).blinded
            self._places[blinded] = place
            yield blinded

    def reach(self, blinded: bytes) -> None:
        """Note that an output is there."""
        place = self._places[blinded]
        lane = self._lanes[place.role, place.branch, place.period]
        lane.reached = max(lane.reached, place.counter + 1)

    def unused(self, role: Role) -> int:
        """Return the first branch behind all in which something is there."""
        used = (key[1] + 1 for key, lane in self._lanes.items() if key[0] == role and lane.reached)
        return max(used, default=0)

    def place(self, blinded: bytes) -> Place | None:
        """Return where an output is; None if it is not the wallet's own, as far as was looked."""
        return self._places.get(blinded)

    def output(self, blinded: bytes) -> Output:
        """Return an output that is the wallet's own."""
        return self._secrets.output(self._places[blinded])
