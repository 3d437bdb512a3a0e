"""Which tokens a payment is made of, and in which requests (spec/09 §8.2). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from fogbank.client.wallet.records import Token

MOST_INPUTS: Final = 8
MOST_UNITS: Final = 64


def split(amount: int, most: int = MOST_INPUTS) -> tuple[int, ...]:
    """Return powers of two of at most `most` that add up to an amount, the largest first."""
    parts = [most] * (amount // most)
    parts += [1 << bit for bit in reversed(range(most.bit_length())) if amount % most >> bit & 1]
    return tuple(parts)


def choose(tokens: Iterable[Token], amount: int) -> tuple[tuple[Token, ...], ...]:
    """Return the inputs of as many swaps as `amount` takes: each of one series, the oldest first.

    Fewer come back if there are not so many tokens.
    """
    swaps: list[tuple[Token, ...]] = []
    for _, of_series in groupby(sorted(tokens, key=_age), lambda token: token.series):
        chosen = list(of_series)[:amount]
        amount -= len(chosen)
        swaps += _in_parts(chosen)
    return tuple(swaps)


def _age(token: Token) -> tuple[int, int, object]:
    return (token.series, token.rests_until, token.place)


def _in_parts(tokens: Sequence[Token]) -> Iterable[tuple[Token, ...]]:
    at = 0
    for size in split(len(tokens)):
        yield tuple(tokens[at : at + size])
        at += size
