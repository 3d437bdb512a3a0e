"""The group: points, shares, blinding and the pairing equations (spec/09 §1).

The only module that knows the library of the curve. That accepts infinity, which signs anything:
so the points of others enter through `decode_g1` and `decode_g2` alone, and what these return is in
the subgroup of prime order and not infinity.

Cost on one core: hashing and a multiplication 0.1 to 0.2 ms, decoding 0.06 (G1) or 0.1 ms (G2), one
equation 1.5 ms. The library holds the interpreter's lock meanwhile.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Final, TypeAlias

from pyblst import BlstP1Element, BlstP2Element, final_verify, miller_loop

from fogbank.relay.errors import ProtocolError

G1: TypeAlias = BlstP1Element
G2: TypeAlias = BlstP2Element

ORDER: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
"""The prime order r of the group."""
G1_LENGTH: Final = 48
G2_LENGTH: Final = 96
SCALAR_LENGTH: Final = 32
WIDE_LENGTH: Final = 64
RANDOM_LENGTH: Final = 32
"""Bytes of randomness that a check of many equations takes."""

TOKEN_TAG: Final = b"FOGBANK-TOKEN-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_"
PROOF_TAG: Final = b"FOGBANK-PROOF-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_"
_TOKEN_LABEL: Final = b"fogbank-token-v1\0"

_WEIGHT: Final = 16
"""Bytes of a random weight."""
_FEW: Final = 3
"""Fewer points are multiplied one by one."""
_GROUP: Final = 6
"""Points of which all sums are made, at most."""
_SHORT: Final = 32
"""Bits of an integer by which additions multiply faster."""
_INFINITY_1: Final = BlstP1Element()
_INFINITY_2: Final = BlstP2Element()

GENERATOR_1: Final = BlstP1Element.uncompress(
    bytes.fromhex(
        "97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac58"
        "6c55e83ff97a1aeffb3af00adb22c6bb"
    )
)
GENERATOR_2: Final = BlstP2Element.uncompress(
    bytes.fromhex(
        "93e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049"
        "334cf11213945d57e5ac7d055d042b7e024aa2b2f08f0a91260805272dc51051"
        "c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
    )
)


def decode_g1(data: bytes) -> G1:
    """Return the point of 48 bytes; raise `ProtocolError` unless it is one of spec/09 §1."""
    if len(data) != G1_LENGTH:
        raise ProtocolError(f"a point has {len(data)} bytes instead of {G1_LENGTH}")
    try:
        point = BlstP1Element.uncompress(data)
    except ValueError as error:
        raise ProtocolError("a point is not of the group of signatures") from error
    if point == _INFINITY_1 or point.compress() != data:
        raise ProtocolError("a point is infinity, or is not encoded as spec/09 has it")
    return point


def decode_g2(data: bytes) -> G2:
    """Return the point of 96 bytes; raise `ProtocolError` unless it is one of spec/09 §1."""
    if len(data) != G2_LENGTH:
        raise ProtocolError(f"a point has {len(data)} bytes instead of {G2_LENGTH}")
    try:
        point = BlstP2Element.uncompress(data)
    except ValueError as error:
        raise ProtocolError("a point is not of the group of keys") from error
    if point == _INFINITY_2 or point.compress() != data:
        raise ProtocolError("a point is infinity, or is not encoded as spec/09 has it")
    return point


def encode_point(point: G1 | G2) -> bytes:
    """Return the 48 or 96 bytes of a point; raise `ProtocolError` for infinity."""
    if point in (_INFINITY_1, _INFINITY_2):
        raise ProtocolError("infinity stands where a point is needed")
    return point.compress()


def decode_scalar(data: bytes) -> int:
    """Return the scalar of 32 bytes; raise `ProtocolError` unless it is from 1 to r - 1."""
    scalar = int.from_bytes(data, "big")
    if len(data) != SCALAR_LENGTH or not 0 < scalar < ORDER:
        raise ProtocolError("a scalar is out of bounds")
    return scalar


def encode_scalar(scalar: int) -> bytes:
    """Return the 32 bytes of a scalar."""
    return scalar.to_bytes(SCALAR_LENGTH, "big")


def wide(data: bytes) -> int:
    """Return the scalar that 64 uniform bytes give."""
    if len(data) != WIDE_LENGTH:
        raise ValueError("a scalar is made of 64 bytes")
    return int.from_bytes(data, "big") % ORDER or 1


def hash_to_g1(message: bytes, tag: bytes) -> G1:
    """Hash to the group of signatures, by RFC 9380, under a domain separation tag."""
    return BlstP1Element.hash_to_group(message, tag)


def hash_token(network_id: bytes, serial: bytes) -> G1:
    """Return M(s), the message of a serial."""
    return hash_to_g1(_TOKEN_LABEL + network_id + serial, TOKEN_TAG)


def sum_g1(points: Iterable[G1]) -> G1:
    """Add points up; nothing gives infinity."""
    return sum(points, _INFINITY_1)


def evaluate(coefficients: Sequence[int], member: int) -> int:
    """Return f(member), of the polynomial with these coefficients, the constant one first."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * member + coefficient) % ORDER
    return value


def evaluate_points(coefficients: Sequence[G2], member: int) -> G2:
    """Return f(member)·g2 of committed coefficients; it may be infinity."""
    value = _INFINITY_2
    for coefficient in reversed(coefficients):
        value = value.scalar_mul(member) + coefficient
    return value


@lru_cache(maxsize=256)
def lagrange(members: frozenset[int]) -> tuple[dict[int, int], int]:
    """Return integers, and what to divide them by, that are each member's weight λ in f(0).

    They are short for few members, which count from 1.
    """
    if not all(0 < member < ORDER for member in members):
        raise ValueError("members count from 1")
    weights = {
        i: Fraction(math.prod(members - {i}), math.prod(j - i for j in members - {i}))
        for i in members
    }
    below = math.lcm(*(weight.denominator for weight in weights.values()))
    return {i: int(weight * below) for i, weight in weights.items()}, below


def blind(message: G1, factor: int) -> G1:
    """Return the blinded output B of a serial's message, to be signed unseen."""
    return message.scalar_mul(factor)


def sign_share(share: int, blinded: G1) -> G1:
    """Return a member's share of the signature over a blinded output."""
    return blinded.scalar_mul(share)


def combine_unblind(shares: Mapping[int, G1], factor: int) -> G1:
    """Return the token of q members' shares over an output; infinity or wrong if a share is."""
    weights, below = lagrange(frozenset(shares))
    total = sum_g1(_multiple(share, weights[member]) for member, share in shares.items())
    return total.scalar_mul(pow(factor * below, -1, ORDER))


def _multiple(point: G1, by: int) -> G1:
    """Return a multiple by a public integer; time depends on it."""
    if by.bit_length() > _SHORT:
        return point.scalar_mul(by % ORDER)
    total = _INFINITY_1
    for bit in f"{abs(by):b}":
        total += total
        if bit == "1":
            total += point
    return -total if by < 0 else total


def is_right(message: G1, signature: G1, key: G2) -> bool:
    """Tell whether e(signature, g2) = e(message, key): a token, a share or a proof."""
    return pairings_agree((signature, GENERATOR_2), (message, key))


def pairings_agree(first: tuple[G1, G2], second: tuple[G1, G2]) -> bool:
    """Tell whether two pairings are equal."""
    return final_verify(miller_loop(*first), miller_loop(*second))


def same_exponent(first: G1, second: G2) -> bool:
    """Tell whether y·g1 and y·g2 are of one y."""
    return pairings_agree((first, GENERATOR_2), (GENERATOR_1, second))


def is_shared(shared: G2, first: G1, second: G2) -> bool:
    """Tell whether `shared` is y·t·g2, of `first` = y·g1 and `second` = t·g2."""
    return final_verify(miller_loop(GENERATOR_1, shared), miller_loop(first, second))


def verify_token(message: G1, signature: G1, key: G2) -> None:
    """Raise `ProtocolError` unless a series' key signed the message of a serial."""
    if not is_right(message, signature, key):
        raise ProtocolError("a token is not signed by its series' key")


def wrong_signatures(signed: Sequence[tuple[G1, G1]], key: G2, random: bytes) -> frozenset[int]:
    """Return the indexes of those `(message, signature)` that are not right under one key.

    As `are_right`; each wrong one costs some log2(n) equations more.
    """
    if are_right(signed, key, random):
        return frozenset()
    weighted = [
        (message.scalar_mul(weight), signature.scalar_mul(weight))
        for (message, signature), weight in zip(signed, _weights(random, len(signed)), strict=True)
    ]
    return frozenset(_bisect(weighted, 0, key))


def are_right(signed: Sequence[tuple[G1, G1]], key: G2, random: bytes) -> bool:
    """Tell whether all `(message, signature)` are right under one key.

    `random` are 32 bytes that nobody knew when the points were chosen. A wrong signature passes
    with probability 2^-128 at most. Takes one equation, and 0.04 to 0.1 ms for each, less in larger
    batches.
    """
    weights = _weights(random, len(signed))
    if len(signed) == 1:
        return is_right(*signed[0], key)
    messages = weighted_sum([message for message, _ in signed], weights)
    signatures = weighted_sum([signature for _, signature in signed], weights)
    return not signed or is_right(messages, signatures, key)


def _weights(random: bytes, count: int) -> list[int]:
    if len(random) != RANDOM_LENGTH:
        raise ValueError("a check of many equations takes 32 random bytes")
    drawn = hashlib.shake_256(random).digest(_WEIGHT * count)
    return [int.from_bytes(drawn[at : at + _WEIGHT], "big") for at in range(0, len(drawn), _WEIGHT)]


def _all_right(weighted: Sequence[tuple[G1, G1]], key: G2) -> bool:
    messages = sum_g1(message for message, _ in weighted)
    signatures = sum_g1(signature for _, signature in weighted)
    return is_right(messages, signatures, key)


def _bisect(weighted: Sequence[tuple[G1, G1]], first: int, key: G2) -> list[int]:
    """Return the indexes, from `first` on, of what is wrong among equations of which some are."""
    if len(weighted) == 1:
        return [first]
    half = len(weighted) // 2
    left, right = weighted[:half], weighted[half:]
    if _all_right(left, key):
        return _bisect(right, first + half, key)
    found = _bisect(left, first, key)
    if not _all_right(right, key):
        found += _bisect(right, first + half, key)
    return found


def weighted_sum(points: Sequence[G1], weights: Sequence[int]) -> G1:
    """Return the sum of multiples of public points by public weights below 2^128.

    Time depends on the weights: not for secrets.
    """
    if len(points) < _FEW:
        return sum_g1(point.scalar_mul(by) for point, by in zip(points, weights, strict=True))
    # All sums of some points of a group are there (Straus): each bit of all weights then costs one
    # doubling, and an addition a group, a hundredth of a multiplication each.
    size = math.ceil(len(points) / math.ceil(len(points) / _GROUP))
    bits = [f"{weight:0{8 * _WEIGHT}b}" for weight in weights]
    columns = [
        map(_sums(points[at : at + size]).__getitem__, zip(*bits[at : at + size], strict=True))
        for at in range(0, len(points), size)
    ]
    total = _INFINITY_1
    for row in zip(*columns, strict=True):
        total = sum(row, total + total)
    return total


def _sums(points: Sequence[G1]) -> dict[tuple[str, ...], G1]:
    """Return the sum of each choice of points: named by "1" for one that is in it, else "0"."""
    sums: dict[tuple[str, ...], G1] = {(): _INFINITY_1}
    for point in points:
        without = {(*name, "0"): total for name, total in sums.items()}
        sums = without | {(*name, "1"): total + point for name, total in sums.items()}
    return sums


def wrong_members(
    blinded: Sequence[G1],
    shares: Mapping[int, Sequence[G1]],
    keys: Mapping[int, G2],
    random: bytes,
) -> frozenset[int]:
    """Return the members that gave a wrong share of any of these outputs, in order.

    To be asked once a combined signature is wrong; `random` as in `are_right`.
    """
    return frozenset(
        member
        for member, given in shares.items()
        if len(given) != len(blinded)
        or not are_right(list(zip(blinded, given, strict=True)), keys[member], random)
    )
