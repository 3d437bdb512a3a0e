"""What one member brings of a whole committee, looked at as if an enemy had made it. Pure.

Right shares of q members are a token whoever brought them (spec/09 §8.2). A wrong one convicts
nobody alone: it is the lie of the member that is named, or of the one that brought it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fogbank.client.wallet.tally import Tally
from fogbank.relay.errors import ProtocolError

Shares = Sequence[tuple[int, Sequence[bytes]]]
"""Members' numbers, each with the shares that are said to be its own, one for each output."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What shares come to: `tokens`, or else those that are `right`, and whose were `wrong`."""

    tokens: tuple[bytes, ...] | None
    right: Shares = ()
    wrong: frozenset[int] = frozenset()


def look_at(shares: Shares, tally: Tally, random: bytes) -> Brought:
    """Make tokens of shares; if they are none, look at each. A `tally` that nothing is in yet.

    Some milliseconds of computing. `random` as in `Tally.tokens`, whose errors it raises.
    """
    wrong = set()
    for member, given in shares:
        try:
            tally.take(member, given)
        except ProtocolError:
            wrong.add(member)
    tokens = tally.tokens(random)
    if tokens is not None:
        return Brought(tokens)
    tally.weed(random)
    wrong |= tally.wrong
    right = tuple((member, given) for member, given in shares if member not in wrong)
    return Brought(None, right, frozenset(wrong))
