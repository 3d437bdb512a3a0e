"""Dealings: what one dealer gives to a key, and how anyone judges it (spec/09 §4.1, §4.2).

Judging a point costs 0.1 ms and an equation 1.5 ms, and the library holds the interpreter's lock:
what was judged once is remembered by its bytes, as each dealing is met several times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fogbank.directory.mint.points import (
    G1,
    G2,
    GENERATOR_2,
    ORDER,
    PROOF_TAG,
    SCALAR_LENGTH,
    decode_g1,
    decode_g2,
    encode_point,
    evaluate_points,
    hash_to_g1,
    is_right,
    is_shared,
    same_exponent,
)
from fogbank.directory.mint.secret import Polynomial
from fogbank.directory.mint.state import (
    DEALING_LIMIT,
    G1_LENGTH,
    G2_LENGTH,
    Generation,
    MintKeys,
    Seat,
)
from fogbank.directory.network import MAX_AUTHORITIES
from fogbank.relay.codec import Value, bytes_item, decode_record, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import NodeId

SEALED_LENGTH: Final = 48
"""Bytes of a sealed share: a scalar and the tag of its cipher."""
_NONCE: Final = bytes(12)
_SEAL_LABEL: Final = b"fogbank-dealing-v1\0"
_COMMIT_LABEL: Final = b"fogbank-dealing-commit-v1\0"
_REMEMBERED: Final = 256


def context_of(network_id: bytes, series: int, attempt: int, dealer: NodeId) -> bytes:
    """Return what binds a dealing to its network, series, attempt and dealer."""
    return network_id + series.to_bytes(8, "big") + attempt.to_bytes(4, "big") + dealer


@dataclass(frozen=True, slots=True)
class Dealing:
    """One dealer's part of a key: commitments to its polynomial, and everyone's sealed share.

    `coefficients` and `ephemeral` (T) are points of G2 as bytes, the proofs that the dealer knows
    their scalars points of G1; `sealed` has an entry for each seat of the committee, empty for
    those without keys.
    """

    coefficients: tuple[bytes, ...]
    proof: bytes
    ephemeral: bytes
    ephemeral_proof: bytes
    sealed: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return its bytes."""
        return encode({**self._head(), 4: self.sealed})

    def _head(self) -> dict[int, Value]:
        return {
            1: self.coefficients,
            2: self.proof,
            3: self.ephemeral,
            5: self.ephemeral_proof,
        }

    def commitment(self, context: bytes) -> bytes:
        """Return the digest that commits to all of it but the sealed shares."""
        return hashlib.sha256(_COMMIT_LABEL + context + encode(self._head())).digest()

    def points(self) -> tuple[G2, ...]:
        """Return the coefficients' points; raise `ProtocolError` if one is none."""
        return _points(self.coefficients)


@lru_cache(_REMEMBERED)
def _points(coefficients: tuple[bytes, ...]) -> tuple[G2, ...]:
    return tuple(map(decode_g2, coefficients))


def decode_dealing(data: bytes) -> Dealing:
    """Take a dealing apart; raise `ProtocolError` for anything else. Points are not looked at."""
    record = decode_record(data, DEALING_LIMIT, "a dealing")
    dealing = Dealing(
        record.array(1, MAX_AUTHORITIES, bytes_item(G2_LENGTH, G2_LENGTH)),
        record.fixed(2, G1_LENGTH),
        record.fixed(3, G2_LENGTH),
        record.fixed(5, G1_LENGTH),
        record.array(4, MAX_AUTHORITIES, bytes_item(SEALED_LENGTH)),
    )
    record.done()
    return dealing


# Dealing.


def deal(polynomial: Polynomial, context: bytes, seats: Sequence[Seat]) -> Dealing:
    """Return the dealing of a polynomial to the seats of a committee."""
    points = [GENERATOR_2.scalar_mul(each) for each in polynomial.coefficients]
    coefficients = tuple(map(encode_point, points))
    proof = _prove(context, coefficients[0], polynomial.coefficients[0])
    ephemeral = encode_point(GENERATOR_2.scalar_mul(polynomial.ephemeral))
    ephemeral_proof = _prove(context, ephemeral, polynomial.ephemeral)
    sealed = (_seal(polynomial, context, place, seat.keys) for place, seat in enumerate(seats, 1))
    return Dealing(coefficients, proof, ephemeral, ephemeral_proof, tuple(sealed))


def _proven(context: bytes, point: bytes) -> G1:
    """Return the message whose signature under a point proves that a dealer knows its scalar."""
    return hash_to_g1(context + point, PROOF_TAG)


def _prove(context: bytes, point: bytes, scalar: int) -> bytes:
    return encode_point(_proven(context, point).scalar_mul(scalar))


def _seal(polynomial: Polynomial, context: bytes, place: int, keys: MintKeys | None) -> bytes:
    if keys is None:
        return b""
    shared = encode_point(decode_g2(keys.y2).scalar_mul(polynomial.ephemeral))
    share = polynomial.at(place).to_bytes(SCALAR_LENGTH, "big")
    key = _sealing_key(context, place, shared)
    return ChaCha20Poly1305(key).encrypt(_NONCE, share, None)


def _sealing_key(context: bytes, place: int, shared: bytes) -> bytes:
    return hashlib.sha256(_SEAL_LABEL + context + bytes((place,)) + shared).digest()


# Judging.


@lru_cache(_REMEMBERED)
def are_sound(keys: MintKeys) -> bool:
    """Tell whether mint keys are points of the groups, and both of one scalar."""
    try:
        return same_exponent(decode_g1(keys.y1), decode_g2(keys.y2))
    except ProtocolError:
        return False


def open_dealing(data: bytes, context: bytes, quorum: int, seats: Sequence[Seat]) -> Dealing | None:
    """Return a dealing that is sound (spec/09 §4.1), None if it is not."""
    try:
        dealing = decode_dealing(data)
    except ProtocolError:
        return None
    fits = len(dealing.coefficients) == quorum and len(dealing.sealed) == len(seats)
    if not fits or any(
        len(sealed) != (SEALED_LENGTH if seat.keys else 0)
        for sealed, seat in zip(dealing.sealed, seats, strict=True)
    ):
        return None
    proven = _is_proven(dealing.coefficients[0], dealing.proof, context) and _is_proven(
        dealing.ephemeral, dealing.ephemeral_proof, context
    )
    try:
        dealing.points()
    except ProtocolError:
        return None
    return dealing if proven else None


@lru_cache(_REMEMBERED)
def _is_proven(point: bytes, proof: bytes, context: bytes) -> bool:
    try:
        return is_right(_proven(context, point), decode_g1(proof), decode_g2(point))
    except ProtocolError:
        return False


def shared_key(dealing: Dealing, secret: int) -> bytes:
    """Return K, which opens what is sealed to the member of that scalar y."""
    return encode_point(decode_g2(dealing.ephemeral).scalar_mul(secret))


def open_share(dealing: Dealing, context: bytes, place: int, shared: bytes) -> int | None:
    """Return what is sealed to a member under K; None if it does not open. It may be wrong."""
    key = _sealing_key(context, place, shared)
    try:
        share = ChaCha20Poly1305(key).decrypt(_NONCE, dealing.sealed[place - 1], None)
    except InvalidTag:
        return None
    scalar = int.from_bytes(share, "big")
    return scalar if len(share) == SCALAR_LENGTH and scalar < ORDER else None


def is_wronged(dealing: Dealing, context: bytes, place: int, shared: bytes) -> bool:
    """Tell whether a member was dealt a wrong share, or none, under the right K."""
    share = open_share(dealing, context, place, shared)
    if share is None:
        return True
    return GENERATOR_2.scalar_mul(share) != evaluate_points(dealing.points(), place)


@lru_cache(_REMEMBERED)
def is_true_complaint(
    data: bytes, context: bytes, place: int, keys: MintKeys, shared: bytes
) -> bool:
    """Tell whether K proves that a sound dealing wronged the member of these keys."""
    dealing = decode_dealing(data)
    try:
        ephemeral, y1 = decode_g2(dealing.ephemeral), decode_g1(keys.y1)
        if not is_shared(decode_g2(shared), y1, ephemeral):
            return False
    except ProtocolError:
        return False
    return is_wronged(dealing, context, place, shared)


# Keys of a series.


@lru_cache(_REMEMBERED)
def series_keys(dealings: tuple[bytes, ...], size: int) -> tuple[bytes, tuple[bytes, ...]]:
    """Return X and each member's X_i, of sound dealings of one degree.

    Raises `ProtocolError` if one of them is infinity, which nobody can bring about.
    """
    opened = [decode_dealing(data).points() for data in dealings]
    summed = [sum(column[1:], column[0]) for column in zip(*opened, strict=True)]
    shares = tuple(encode_point(evaluate_points(summed, i)) for i in range(1, size + 1))
    return encode_point(summed[0]), shares


def place_in(generation: Generation, identity: NodeId) -> int:
    """Return an authority's number in a generation's committee, from 1; 0 if it has no seat."""
    places = (i for i, seat in enumerate(generation.committee, 1) if seat.identity == identity)
    return next(places, 0)
