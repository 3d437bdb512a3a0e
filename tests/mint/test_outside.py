"""The group against what others published, and against a second library (spec/09 §1)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

from fogbank.directory.mint.points import (
    GENERATOR_2,
    ORDER,
    PROOF_TAG,
    TOKEN_TAG,
    blind,
    combine_unblind,
    decode_g1,
    decode_g2,
    encode_point,
    evaluate,
    hash_to_g1,
    hash_token,
    is_right,
    lagrange,
    sign_share,
    verify_token,
    wrong_members,
    wrong_signatures,
)
from fogbank.relay.errors import ProtocolError
from tests.mint.curve import NETWORK, outside_the_subgroups
from tests.vectors import VECTORS

OUTSIDE: dict[str, Any] = json.loads((VECTORS / "bls12-381.json").read_text())
HASHES, QUICKNET = OUTSIDE["hash_to_g1"], OUTSIDE["quicknet"]
SCALARS = st.integers(1, ORDER - 1)


def times(point: Any, number: int) -> Any:
    """Multiply in the other library."""
    return point * Scalar.from_be_bytes((number % ORDER).to_bytes(32, "big"))


def packed(point: Any) -> bytes:
    return bytes(point.to_compressed_bytes())


@pytest.mark.parametrize("vector", HASHES["points"], ids=lambda v: v["message"][:16] or "empty")
def test_hashing_is_that_of_rfc_9380(vector: dict[str, str]) -> None:
    """Appendix J.9.1 of the RFC."""
    x, y = bytes.fromhex(vector["x"]), bytes.fromhex(vector["y"])
    expected = packed(G1Point.from_xy_bytes_be(x + y))
    message, tag = vector["message"].encode(), HASHES["tag"].encode()
    assert encode_point(hash_to_g1(message, tag)) == expected
    assert packed(G1Point.hash_to_curve(message, tag)) == expected


@pytest.mark.parametrize("beacon", QUICKNET["rounds"], ids=lambda v: str(v["round"]))
def test_signatures_of_a_threshold_network_verify(beacon: dict[str, Any]) -> None:
    """Its nodes made them together: signatures in G1, the key in G2, as here."""
    digest = hashlib.sha256(beacon["round"].to_bytes(8, "big")).digest()
    tag, signature = QUICKNET["tag"].encode(), bytes.fromhex(beacon["signature"])
    key = bytes.fromhex(QUICKNET["public_key"])
    message = hash_to_g1(digest, tag)
    verify_token(message, decode_g1(signature), decode_g2(key))
    later = hash_to_g1(hashlib.sha256(bytes(8)).digest(), tag)
    assert not is_right(later, decode_g1(signature), decode_g2(key))
    left, right = G1Point.from_compressed_bytes(signature), G1Point.hash_to_curve(digest, tag)
    assert GT.pairing(left, G2Point()) == GT.pairing(right, G2Point.from_compressed_bytes(key))


def test_signatures_of_a_threshold_network_verify_as_a_batch() -> None:
    tag, key = QUICKNET["tag"].encode(), decode_g2(bytes.fromhex(QUICKNET["public_key"]))
    signed = [
        (
            hash_to_g1(hashlib.sha256(each["round"].to_bytes(8, "big")).digest(), tag),
            decode_g1(bytes.fromhex(each["signature"])),
        )
        for each in QUICKNET["rounds"]
    ]
    assert not wrong_signatures(signed, key, bytes(32))
    swapped = [(signed[0][0], signed[1][1]), (signed[1][0], signed[0][1]), signed[2]]
    assert wrong_signatures(swapped, key, bytes(32)) == {0, 1}


@pytest.mark.parametrize("place", [0, 1])
def test_the_points_of_another_order_are_on_their_curves(place: int) -> None:
    """So they are refused for their order, and not because they are no points."""
    point = outside_the_subgroups()[place]
    other = (G1Point, G2Point)[place]
    assert not other.from_compressed_bytes_unchecked(point).is_in_subgroup()


@st.composite
def committees(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Coefficients, and as many members as there are coefficients."""
    n = draw(st.integers(1, 9))
    quorum = 2 * n // 3 + 1
    coefficients = draw(st.lists(SCALARS, min_size=quorum, max_size=quorum))
    members = st.lists(st.integers(1, n), min_size=quorum, max_size=quorum, unique=True)
    return coefficients, draw(members)


@settings(max_examples=12, deadline=None)
@given(committees(), st.binary(min_size=32, max_size=32), SCALARS)
def test_both_libraries_sign_alike_by_any_quorum(
    committee: tuple[list[int], list[int]], serial: bytes, factor: int
) -> None:
    """Unblinded and combined, it is the plain signature by the whole key."""
    coefficients, members = committee
    message = hash_token(NETWORK, serial)
    blinded = blind(message, factor)
    shares = {i: sign_share(evaluate(coefficients, i), blinded) for i in members}
    token = encode_point(combine_unblind(shares, factor))
    theirs = G1Point.hash_to_curve(b"fogbank-token-v1\0" + NETWORK + serial, TOKEN_TAG)
    assert packed(theirs) == encode_point(message)
    assert packed(times(theirs, coefficients[0])) == token
    together = G1Point.identity()
    weights, below = lagrange(frozenset(members))
    for i, weight in weights.items():
        part = weight * pow(below, -1, ORDER) % ORDER
        together += times(times(times(theirs, factor), evaluate(coefficients, i)), part)
    assert packed(times(together, pow(factor, -1, ORDER))) == token
    verify_token(message, decode_g1(token), GENERATOR_2.scalar_mul(coefficients[0]))
    assert packed(times(G2Point(), coefficients[0])) == encode_point(
        GENERATOR_2.scalar_mul(coefficients[0])
    )


@settings(max_examples=10, deadline=None)
@given(committees(), SCALARS, st.data())
def test_whoever_gives_a_wrong_share_is_named(
    committee: tuple[list[int], list[int]], error: int, data: st.DataObject
) -> None:
    coefficients, members = committee
    liars = data.draw(st.sets(st.sampled_from(members)))
    blinded = [hash_to_g1(bytes((k,)), PROOF_TAG) for k in range(2)]
    shares = {}
    for i in members:
        wrong = error if i in liars else 0
        shares[i] = [
            blinded[0].scalar_mul(evaluate(coefficients, i)),
            blinded[1].scalar_mul((evaluate(coefficients, i) + wrong) % ORDER),
        ]
    keys = {i: GENERATOR_2.scalar_mul(evaluate(coefficients, i)) for i in members}
    assert wrong_members(blinded, shares, keys, bytes(32)) == liars


@st.composite
def almost_points(draw: st.DrawFn) -> bytes:
    """Bytes of a point in which a bit may be another; or any bytes, with the flags of a point."""
    if draw(st.booleans()):
        data = bytearray(packed(times(G1Point(), draw(SCALARS))))
        bit = draw(st.integers(0, 8 * len(data)))
        if bit < 8 * len(data):
            data[bit // 8] ^= 1 << bit % 8
    else:
        data = bytearray(draw(st.binary(min_size=48, max_size=48)))
        data[0] = data[0] & 0x1F | draw(st.integers(0, 7)) << 5
    return bytes(data)


@settings(max_examples=60, deadline=None)
@given(almost_points())
def test_both_libraries_take_the_same_bytes_for_points(data: bytes) -> None:
    """But for infinity, which is refused here."""
    try:
        point: bytes | None = encode_point(decode_g1(data))
    except ProtocolError:
        point = None
    try:
        theirs: bytes | None = packed(G1Point.from_compressed_bytes(data))
    except ValueError:
        theirs = None
    assert point == theirs or theirs == b"\xc0" + bytes(47)
