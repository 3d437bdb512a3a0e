"""What tests of the mint share: keys dealt by one hand, and points that no library would make."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from fogbank.directory.mint.points import G2, GENERATOR_2, evaluate, wide

NETWORK = bytes(range(32))
FIELD = int(
    "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f624"
    "1eabfffeb153ffffb9feffffffffaaab",
    16,
)


def scalar(*what: object) -> int:
    """Return a scalar that only its name determines."""
    return wide(hashlib.blake2b(repr(what).encode()).digest())


@dataclass(frozen=True, slots=True)
class DealtKey:
    """A token key and its shares, for members 1 … n, as if one hand had dealt them."""

    coefficients: Sequence[int]
    n: int

    @classmethod
    def of(cls, quorum: int, n: int, name: str = "key") -> DealtKey:
        """Deal the key of this name."""
        return cls([scalar(name, k) for k in range(quorum)], n)

    @property
    def secret(self) -> int:
        return self.coefficients[0]

    @property
    def key(self) -> G2:
        return GENERATOR_2.scalar_mul(self.secret)

    def share(self, member: int) -> int:
        return evaluate(self.coefficients, member)

    def share_key(self, member: int) -> G2:
        return GENERATOR_2.scalar_mul(self.share(member))


def outside_the_subgroups() -> tuple[bytes, bytes]:
    """Return points of the curves of G1 and G2 that are not of order r, encoded.

    Of each curve only one point in 2^125 or more is in the subgroup: the first x that has a y in
    y² = x³ + 4, or y² = x³ + 4(1 + i), gives none.
    """
    first = next(x for x in range(3, 100) if is_square(x**3 + 4))
    # An element of the quadratic extension is a square if its norm is.
    second = next(x for x in range(3, 100) if is_square((x**3 + 4) ** 2 + 16))
    return b"\x80" + first.to_bytes(47, "big"), b"\x80" + second.to_bytes(95, "big")


def is_square(value: int) -> bool:
    """Tell whether a number that is not 0 is a square in the field."""
    return pow(value, (FIELD - 1) // 2, FIELD) == 1
