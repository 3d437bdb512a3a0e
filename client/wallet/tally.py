"""The shares that a committee's members gave over one request's outputs (spec/09 §1). Pure.

What q members' shares combine to is checked against the series' key. Only if that is wrong is each
member's share, so that the one who lied is named and another takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol

from fogbank.directory.mint.points import (
    G1,
    are_right,
    combine_unblind,
    decode_g1,
    decode_g2,
    encode_point,
    hash_token,
    wrong_members,
)
from fogbank.directory.mint.state import SeriesRecord
from fogbank.relay.errors import ProtocolError


class Output(Protocol):
    """An output of the wallet's own: B, the serial in it, and the factor that blinds it."""

    @property
    def blinded(self) -> bytes:
        """B, 48 bytes."""

    @property
    def serial(self) -> bytes:
        """The serial, 32 bytes."""

    @property
    def blind(self) -> int:
        """The blinding factor, a scalar."""


_key = lru_cache(maxsize=16)(decode_g2)
"""The keys of series, of which few live."""


class Tally:
    """Collects shares, and makes tokens of q members' right ones."""

    def __init__(self, network_id: bytes, series: SeriesRecord, outputs: Sequence[Output]) -> None:
        self._series = series
        self._outputs = tuple(outputs)
        self._network_id = network_id
        self._shares: dict[int, tuple[G1, ...]] = {}
        self.wrong: frozenset[int] = frozenset()
        """The members whose shares were proven wrong."""

    @property
    def members(self) -> frozenset[int]:
        """Whose shares are here."""
        return frozenset(self._shares)

    @property
    def is_full(self) -> bool:
        """Whether q members gave shares that are not known to be wrong."""
        return len(self._shares) >= self._series.quorum

    def take(self, place: int, shares: Iterable[bytes]) -> None:
        """Take a member's shares, in the outputs' order; raise `ProtocolError` if unfit."""
        points = tuple(map(decode_g1, shares))
        if len(points) != len(self._outputs):
            raise ProtocolError("a member gave more or fewer shares than there are outputs")
        if place not in self.wrong:
            self._shares[place] = points

    def tokens(self, random: bytes) -> tuple[bytes, ...] | None:
        """Return the outputs' signatures, unblinded, in order; None while they cannot be had.

        Some milliseconds of computing. `random` as in `points.are_right`. A call may find
        members `wrong`: then it goes on with others, if there are enough of them.
        """
        key = _key(self._series.key)
        messages = [hash_token(self._network_id, each.serial) for each in self._outputs]
        while self.is_full:
            chosen = sorted(self._shares)[: self._series.quorum]
            signatures = [
                combine_unblind({i: self._shares[i][at] for i in chosen}, output.blind)
                for at, output in enumerate(self._outputs)
            ]
            pairs = list(zip(messages, signatures, strict=True))
            if are_right(pairs, key, random):
                return tuple(map(encode_point, signatures))
            if not self._drop_wrong(chosen, random):
                raise ProtocolError(
                    "right shares of a series give no token: its keys do not belong together, so "
                    "the consensus is wrong"
                )
        return None

    def weed(self, random: bytes) -> None:
        """Find those members that are `wrong`; takes 2 ms for each of them, and more for outputs.

        For shares that are too few to make tokens, and are to count together with others.
        """
        self._drop_wrong(sorted(self._shares), random)

    def _drop_wrong(self, chosen: Sequence[int], random: bytes) -> frozenset[int]:
        blinded = [decode_g1(output.blinded) for output in self._outputs]
        shares = {i: self._shares[i] for i in chosen}
        keys = {i: decode_g2(self._series.members[i - 1].share_key) for i in chosen}
        wrong = wrong_members(blinded, shares, keys, random)
        self.wrong |= wrong
        for i in wrong:
            del self._shares[i]
        return wrong
