"""The group (spec/09 §1)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fogbank.directory.mint.points import (
    G1,
    G2,
    GENERATOR_1,
    GENERATOR_2,
    ORDER,
    PROOF_TAG,
    TOKEN_TAG,
    blind,
    combine_unblind,
    decode_g1,
    decode_g2,
    decode_scalar,
    encode_point,
    encode_scalar,
    evaluate_points,
    hash_to_g1,
    hash_token,
    is_right,
    lagrange,
    same_exponent,
    sign_share,
    sum_g1,
    verify_token,
    weighted_sum,
    wide,
    wrong_members,
    wrong_signatures,
)
from fogbank.relay.errors import ProtocolError
from tests.mint.curve import FIELD, NETWORK, DealtKey, is_square, outside_the_subgroups, scalar

QUORUMS = [(1, 1), (3, 4), (4, 5), (5, 7)]
RANDOM = bytes(range(32))
POINT = encode_point(GENERATOR_1.scalar_mul(7))
KEY = encode_point(GENERATOR_2.scalar_mul(7))


def serial(name: object) -> bytes:
    return scalar("serial", name).to_bytes(32, "big")


@pytest.mark.parametrize(("decode", "point"), [(decode_g1, POINT), (decode_g2, KEY)])
def test_only_points_of_the_group_are_points(
    decode: Callable[[bytes], G1 | G2], point: bytes
) -> None:
    assert encode_point(decode(point)) == point
    infinity = bytes((0xC0,)) + bytes(len(point) - 1)
    minus = bytes((point[0] ^ 0x20,)) + point[1:]
    assert encode_point(decode(minus)) == minus
    refused = [
        infinity,
        bytes((0xE0,)) + bytes(len(point) - 1),
        bytes((0x40,)) + bytes(len(point) - 1),
        bytes(len(point)),
        bytes((point[0] & 0x7F,)) + point[1:],
        bytes((point[0] | 0x40,)) + point[1:],
        point[:-1],
        point + b"\0",
        b"",
        bytes((0x9F,)) + b"\xff" * (len(point) - 1),
    ]
    for data in refused:
        with pytest.raises(ProtocolError):
            decode(data)


def test_a_coordinate_beyond_the_field_is_refused() -> None:
    small = next(x for x in range(3, 99) if is_square(x**3 + 4))
    for value in (small + FIELD, FIELD, FIELD + 1):
        data = bytearray(value.to_bytes(48, "big"))
        data[0] |= 0x80
        with pytest.raises(ProtocolError):
            decode_g1(bytes(data))


def test_points_of_another_order_are_refused() -> None:
    first, second = outside_the_subgroups()
    with pytest.raises(ProtocolError):
        decode_g1(first)
    with pytest.raises(ProtocolError):
        decode_g2(second)


def test_infinity_is_never_written() -> None:
    for nothing in (sum_g1(()), GENERATOR_2 + -GENERATOR_2):
        with pytest.raises(ProtocolError):
            encode_point(nothing)


def test_scalars_are_from_one_to_the_order() -> None:
    for value in (1, 2, ORDER - 1):
        assert decode_scalar(encode_scalar(value)) == value
    for data in (bytes(32), encode_scalar(ORDER), b"\xff" * 32, b"\1", bytes(32) + b"\1"):
        with pytest.raises(ProtocolError):
            decode_scalar(data)
    assert wide(bytes(64)) == 1
    assert wide(ORDER.to_bytes(64, "big")) == 1
    assert wide((ORDER + 5).to_bytes(64, "big")) == 5
    with pytest.raises(ValueError, match="64 bytes"):
        wide(bytes(32))


def test_tags_keep_uses_apart() -> None:
    assert hash_to_g1(b"m", TOKEN_TAG) != hash_to_g1(b"m", PROOF_TAG)
    assert hash_token(NETWORK, serial(1)) != hash_token(NETWORK, serial(2))
    assert hash_token(NETWORK, serial(1)) != hash_token(bytes(32), serial(1))


@pytest.mark.parametrize(("quorum", "n"), QUORUMS)
def test_any_quorum_signs_as_the_whole_key_would(quorum: int, n: int) -> None:
    dealt = DealtKey.of(quorum, n)
    message, factor = hash_token(NETWORK, serial("a")), scalar("factor")
    plain = encode_point(message.scalar_mul(dealt.secret))
    blinded = blind(message, factor)
    shares = {i: sign_share(dealt.share(i), blinded) for i in range(1, n + 1)}
    for members in combinations(shares, quorum):
        token = combine_unblind({i: shares[i] for i in members}, factor)
        assert encode_point(token) == plain
    verify_token(message, decode_g1(plain), dealt.key)


def test_fewer_than_a_quorum_sign_nothing() -> None:
    dealt = DealtKey.of(3, 4)
    message = hash_token(NETWORK, serial("a"))
    for members in combinations(range(1, 5), 2):
        token = combine_unblind({i: sign_share(dealt.share(i), message) for i in members}, 1)
        with pytest.raises(ProtocolError):
            verify_token(message, token, dealt.key)


def test_a_token_holds_for_one_serial_and_key() -> None:
    dealt, other = DealtKey.of(3, 4), DealtKey.of(3, 4, "other")
    message = hash_token(NETWORK, serial("a"))
    token = message.scalar_mul(dealt.secret)
    verify_token(message, token, dealt.key)
    wrong = [
        (hash_token(NETWORK, serial("b")), token, dealt.key),
        (message, -token, dealt.key),
        (message, token, other.key),
        (message, sum_g1(()), dealt.key),
        (message, message, dealt.key),
    ]
    for each in wrong:
        with pytest.raises(ProtocolError):
            verify_token(*each)


def test_a_blinded_output_says_nothing_of_its_serial() -> None:
    """Whatever the serial, some factor gives the same output: blinding is perfect."""
    exponents = [scalar("message", name) for name in "ab"]
    first = blind(GENERATOR_1.scalar_mul(exponents[0]), scalar("factor"))
    factor = scalar("factor") * exponents[0] * pow(exponents[1], -1, ORDER) % ORDER
    assert blind(GENERATOR_1.scalar_mul(exponents[1]), factor) == first


def test_committed_coefficients_give_the_keys_of_shares() -> None:
    dealt = DealtKey.of(3, 4)
    committed = [GENERATOR_2.scalar_mul(each) for each in dealt.coefficients]
    for member in range(1, 5):
        assert evaluate_points(committed, member) == dealt.share_key(member)
    assert evaluate_points(committed, 0) == dealt.key


def test_weights_need_members_that_count_from_one() -> None:
    assert lagrange(frozenset({1})) == ({1: 1}, 1)
    assert lagrange(frozenset({1, 2, 4})) == ({1: 8, 2: -6, 4: 1}, 3)
    for members in ({0, 1}, {-1, 2}, {ORDER, 1}):
        with pytest.raises(ValueError, match="count from 1"):
            lagrange(frozenset(members))


def test_keys_in_both_groups_are_of_one_scalar() -> None:
    assert same_exponent(GENERATOR_1.scalar_mul(5), GENERATOR_2.scalar_mul(5))
    assert not same_exponent(GENERATOR_1.scalar_mul(5), GENERATOR_2.scalar_mul(6))


def test_a_wrong_share_names_its_member() -> None:
    dealt = DealtKey.of(3, 4)
    keys = {i: dealt.share_key(i) for i in range(1, 5)}
    blinded = [blind(hash_token(NETWORK, serial(k)), scalar("factor", k)) for k in range(3)]
    shares = {i: [sign_share(dealt.share(i), each) for each in blinded] for i in keys}
    assert wrong_members(blinded, shares, keys, RANDOM) == frozenset()
    shares[2][1] = sign_share(dealt.share(2) + 1, blinded[1])
    shares[4] = shares[4][:2]
    assert wrong_members(blinded, shares, keys, RANDOM) == {2, 4}
    token = combine_unblind({i: shares[i][1] for i in (1, 2, 3)}, 1)
    assert not is_right(blinded[1], token, dealt.key)


def test_shares_in_another_order_are_wrong() -> None:
    dealt = DealtKey.of(3, 4)
    blinded = [blind(hash_token(NETWORK, serial(k)), scalar("factor", k)) for k in range(2)]
    swapped = [sign_share(dealt.share(1), each) for each in reversed(blinded)]
    assert wrong_members(blinded, {1: swapped}, {1: dealt.share_key(1)}, RANDOM) == {1}


@cache
def token_of(at: int) -> tuple[G1, G1]:
    message = hash_token(NETWORK, serial(at))
    return message, message.scalar_mul(DealtKey.of(3, 4).secret)


def signed(count: int, wrong: set[int]) -> list[tuple[G1, G1]]:
    secret = DealtKey.of(3, 4).secret
    pairs = []
    for at in range(count):
        message, _ = token_of(at)
        pairs.append((message, message.scalar_mul(secret + (at in wrong))))
    return pairs


@pytest.mark.parametrize(
    ("count", "wrong"),
    [
        (0, set()),
        (1, set()),
        (1, {0}),
        (8, set()),
        (9, {8}),
        (13, {0, 5, 6, 12}),
        (6, set(range(6))),
    ],
)
def test_a_batch_finds_exactly_the_wrong_ones(count: int, wrong: set[int]) -> None:
    assert wrong_signatures(signed(count, wrong), DealtKey.of(3, 4).key, RANDOM) == wrong


@pytest.mark.parametrize("count", [*range(9), 12, 13, 31, 64, 130])
def test_a_weighted_sum_is_what_it_says(count: int) -> None:
    exponents = [scalar("point", k) for k in range(count)]
    weights = [scalar("weight", k) % 2**128 for k in range(count)]
    for at, weight in enumerate((0, 1, 2**128 - 1)):
        weights[at : at + 1] = [weight] if at < count else []
    points = [GENERATOR_1.scalar_mul(each) for each in exponents]
    expected = sum(x * w for x, w in zip(exponents, weights, strict=True))
    assert weighted_sum(points, weights) == GENERATOR_1.scalar_mul(expected % ORDER)


def test_errors_that_cancel_out_are_found() -> None:
    """Two wrong signatures whose plain sum is right: only random weights tell."""
    pairs = signed(4, set())
    error = GENERATOR_1.scalar_mul(99)
    pairs[1] = (pairs[1][0], pairs[1][1] + error)
    pairs[2] = (pairs[2][0], pairs[2][1] + -error)
    assert wrong_signatures(pairs, DealtKey.of(3, 4).key, RANDOM) == {1, 2}


def test_a_batch_and_single_verification_agree() -> None:
    key = DealtKey.of(3, 4).key
    pairs = signed(7, {2, 3})
    pairs[5] = (pairs[5][0], pairs[4][1])
    single = {at for at, pair in enumerate(pairs) if not is_right(*pair, key)}
    assert wrong_signatures(pairs, key, RANDOM) == single == {2, 3, 5}


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.sampled_from(["right", "negative", "another's", "too much", "too little"]), max_size=40
    ),
    st.binary(min_size=32, max_size=32),
)
def test_any_batch_and_single_verification_agree(kinds: list[str], random: bytes) -> None:
    """Signatures that are too much and too little by the same cancel out in a plain sum."""
    key, error = DealtKey.of(3, 4).key, GENERATOR_1.scalar_mul(99)
    pairs = []
    for at, kind in enumerate(kinds):
        (message, signature), (_, other) = token_of(at), token_of(at + 1)
        made = {
            "right": signature,
            "negative": -signature,
            "another's": other,
            "too much": signature + error,
            "too little": signature + -error,
        }
        pairs.append((message, made[kind]))
    wrong = {at for at, kind in enumerate(kinds) if kind != "right"}
    assert wrong_signatures(pairs, key, random) == wrong


def test_a_batch_needs_its_random_bytes() -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        wrong_signatures(signed(1, set()), DealtKey.of(3, 4).key, b"")
