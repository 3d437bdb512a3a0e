"""An authority's mint key, and all that follows from its 32 bytes (spec/09 §3, §4.1).

Nothing else that is secret is kept: polynomials follow from it, shares from it and public dealings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from fogbank.directory.mint.points import (
    GENERATOR_1,
    GENERATOR_2,
    WIDE_LENGTH,
    encode_point,
    evaluate,
    wide,
)
from fogbank.directory.mint.state import MintKeys
from fogbank.relay.keys import KEY_LENGTH, Ed25519Key, NodeId

_PERSON = b"fogbank-mint-1"


@dataclass(frozen=True, slots=True)
class Polynomial:
    """What a dealer deals: coefficients, the constant one first, and the scalar t of its keys."""

    coefficients: tuple[int, ...] = field(repr=False)
    ephemeral: int = field(repr=False)

    def at(self, member: int) -> int:
        """Return the share of a member; members count from 1."""
        return evaluate(self.coefficients, member)


class MintSecret:
    """The secret of `mint.key`; it never shows itself. `keys` are its public part."""

    __slots__ = ("_secret", "decrypt", "keys", "vote")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_LENGTH:
            raise ValueError("a mint key has 32 bytes")
        self._secret = secret
        self.decrypt: int = wide(self._derive(b"decrypt"))
        """The scalar y, which opens what is dealt to this authority."""
        self.vote = Ed25519Key(self._derive(b"vote")[:KEY_LENGTH])
        """Signs LOCK votes."""
        self.keys = MintKeys(
            encode_point(GENERATOR_1.scalar_mul(self.decrypt)),
            encode_point(GENERATOR_2.scalar_mul(self.decrypt)),
            self.vote.public,
        )

    def _derive(self, what: bytes) -> bytes:
        return hashlib.blake2b(
            what, digest_size=WIDE_LENGTH, key=self._secret, person=_PERSON
        ).digest()

    def polynomial(self, context: bytes, quorum: int, committee: Iterable[NodeId]) -> Polynomial:
        """Return what to deal in one attempt: always the same, so a restart changes nothing.

        It is another one for another committee, even if all else came again.
        """
        members = hashlib.sha256(b"".join(committee)).digest()
        about = context + bytes((quorum,)) + members
        drawn = [wide(self._derive(b"coefficient" + about + bytes((k,)))) for k in range(quorum)]
        return Polynomial(tuple(drawn), wide(self._derive(b"ephemeral" + about)))

    def __repr__(self) -> str:
        return f"<MintSecret {self.keys.vote.hex()[:8]}…>"
