"""The mint as a wallet sees it: requests are carried to their series' committees (spec/09 §6).

mint = MintClient(mint_streams(builder, topology), Means(say, name_of))
signatures = await mint.carry(Errand(series, signed, None, outputs, certified))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Final, TypeVar

import trio

from fogbank.client.circuits_shell import CircuitBuilder, CircuitLike, DirectMaker, directly
from fogbank.client.errors import DirectoryUnavailable
from fogbank.client.topology import Topology
from fogbank.client.wallet.asking_shell import Committee, Means, MintOpener
from fogbank.client.wallet.errand_shell import Errand, Run
from fogbank.directory.mint.exchange import SERVICE
from fogbank.directory.mint.state import SeriesRecord
from fogbank.directory.network import AuthorityPin
from fogbank.relay.errors import RelayError
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream

_C = TypeVar("_C", bound=CircuitLike)
TURN_SECONDS: Final = 2.0
"""A turn of those who carry requests."""
TURNS: Final = 4
"""One in so many members carries at a time."""
_ATTEMPTS = 3
"""Paths that are tried to one authority: if all fail the authority itself is likely down."""


class MintClient:
    """Has requests carried by one member, or asks several, each over a circuit of its own."""

    def __init__(self, opener: MintOpener, means: Means) -> None:
        self._opener = opener
        self.means = means
        """What it takes of the machine and its user."""
        self._failed: dict[NodeId, float] = {}

    async def carry(self, errand: Errand) -> tuple[bytes, ...]:
        """Have a request certified and, if it has outputs, issued; return their signatures.

        Raises `MintUnavailable`, `RequestRefused` or `LockedElsewhere`, and what `certified` does.
        """
        return await Run(errand, self.committee(errand.series), self.order(errand.series)).run()

    def committee(self, series: SeriesRecord) -> Committee:
        """Return a series' committee, to talk to its members."""
        return Committee(series, self._opener, self.means, self._note_failure)

    def order(self, series: SeriesRecord) -> list[int]:
        """Return the places of members with a seat, in the order in which they are asked.

        Who failed lately is at the end: one that is down costs its time once. Else those are first
        whose turn it is to carry, so that requests of one moment go together; at random each.
        """
        seats = [place for place, each in enumerate(series.members, 1) if each.vote_key]
        below = self.means.chooser.below
        drawn = [seats.pop(below(len(seats))) for _ in range(len(seats))]
        turn = int(self.means.clock() // TURN_SECONDS) % TURNS

        def rank(place: int) -> tuple[float, bool]:
            failed = self._failed.get(series.members[place - 1].identity, -inf)
            return failed, place % TURNS != turn

        return sorted(drawn, key=rank)

    def _note_failure(self, identity: NodeId) -> None:
        self._failed[identity] = trio.current_time()


def mint_streams(
    builder: CircuitBuilder[_C], topology: Callable[[], Topology | None]
) -> MintOpener:
    """Return what opens `mint` streams over full circuits, a new one each time."""

    @asynccontextmanager
    async def opener(identity: NodeId) -> AsyncIterator[Stream]:
        current = topology()
        if current is None:
            raise DirectoryUnavailable("a circuit needs a live consensus first")
        with builder.circuits() as circuits:
            built = await circuits.to_authority(current, identity, attempts=_ATTEMPTS)
            stream = await built.circuit.open_stream(SERVICE)
            yield stream
            await stream.aclose()

    return opener


def mint_directly(maker: DirectMaker, find: Callable[[NodeId], AuthorityPin | None]) -> MintOpener:
    """Return what opens `mint` streams over one hop: an authority then sees who asks.

    `find` tells where a member of a committee is.
    """
    to_authority = directly(maker, SERVICE)

    @asynccontextmanager
    async def opener(identity: NodeId) -> AsyncIterator[Stream]:
        pin = find(identity)
        if pin is None:
            raise RelayError("that authority left office, and no consensus lists it now")
        async with to_authority(pin) as stream:
            yield stream

    return opener
