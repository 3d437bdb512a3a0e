"""The hop handshake (spec/03 §2): what it agrees on, and all that it refuses."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from fogbank.relay.codec import encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.handshake import (
    HopKeys,
    HopRequest,
    OriginHandshake,
    answer_handshake,
)
from fogbank.relay.keys import X25519Key
from fogbank.relay.replay import ReplayCache

IDENTITY = bytes(range(32))
NET = b"n" * 32
ONION = X25519Key(b"b" * 32)
OLD_ONION = X25519Key(b"o" * 32)
LENGTHS = {"ID": 32, "B": 32, "X": 32, "ek": 1184}
GENERIC = "a hop handshake failed"


def origin(**changes: Any) -> OriginHandshake:
    arguments = {
        "identity": IDENTITY,
        "onion_key": ONION.public,
        "network_id": NET,
        "request": HopRequest(1, 3),
        "x25519_secret": b"x" * 32,
        "mlkem_seed": b"k" * 64,
    }
    return OriginHandshake(**{**arguments, **changes})


def answer(message: bytes, **changes: Any) -> tuple[bytes, HopRequest, HopKeys]:
    arguments: dict[str, Any] = {
        "identity": IDENTITY,
        "onion_keys": [ONION, OLD_ONION],
        "network_id": NET,
        "replay": ReplayCache(),
        "y_secret": b"y" * 32,
    }
    return answer_handshake(message, **{**arguments, **changes})


def flipped(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


def refused(call: Callable[..., object], *arguments: Any, **named: Any) -> str:
    with pytest.raises(ProtocolError) as caught:
        call(*arguments, **named)
    return str(caught.value)


@pytest.mark.parametrize("onion", [ONION, OLD_ONION])
def test_both_sides_share_keys_that_differ_by_direction(onion: X25519Key) -> None:
    request = HopRequest(2, 6, (1, 7))
    start = origin(onion_key=onion.public, request=request)
    reply, seen, hop_keys = answer(start.message)
    keys = start.finish(reply)
    assert keys == hop_keys
    assert seen == request
    assert keys.version == 1
    assert keys.forward != keys.backward
    assert {len(keys.forward), len(keys.backward)} == {32}


def test_both_messages_fit_a_cell() -> None:
    start = origin(request=HopRequest(6, 6))
    reply, *_ = answer(start.message)
    assert len(start.message) < 1400
    assert len(reply) < 1300


def test_fresh_randomness_gives_fresh_keys() -> None:
    start = origin()
    first = answer(start.message)[2]
    assert answer(start.message, y_secret=b"z" * 32)[2].forward != first.forward
    # The library encapsulates with randomness of its own.
    assert answer(start.message)[2].forward != first.forward


def test_the_highest_common_version_rules() -> None:
    start = origin(request=HopRequest(1, 3, (1, 2, 3, 9)))
    reply, _, keys = answer(start.message, versions=(1, 2, 3))
    assert keys.version == 3
    assert start.finish(reply).version == 3


def test_no_common_version_is_refused() -> None:
    message = origin(request=HopRequest(1, 3, (2,))).message
    assert "version" in refused(answer, message)
    assert "version" in refused(answer, origin(request=HopRequest(1, 3, ())).message)


def test_a_version_that_was_not_offered_is_refused() -> None:
    """A hop that holds the keys can still lie about the version."""
    wide = origin(request=HopRequest(1, 3, (1, 2)))
    reply, *_ = answer(wide.message, versions=(2,))
    wide._request = HopRequest(1, 3, (1,))
    assert "not offered" in refused(wide.finish, reply)


@pytest.mark.parametrize(("index", "limit"), [(0, 3), (4, 3), (7, 7), (1, 7), (1, 0), (0, 0)])
def test_an_index_or_limit_that_no_circuit_has_is_refused(index: int, limit: int) -> None:
    message = origin(request=HopRequest(index, limit)).message
    assert "out of bounds" in refused(answer, message)


@pytest.mark.parametrize("index", range(1, 7))
def test_every_index_up_to_the_limit_is_accepted(index: int) -> None:
    message = origin(request=HopRequest(index, 6)).message
    assert answer(message)[1].index == index


def test_reserved_keys_are_ignored_and_unknown_ones_refused() -> None:
    reserved = encode({1: 1, 2: 3, 3: [1], 4: {1: b"cc"}})
    assert HopRequest.decode(reserved) == HopRequest(1, 3, (1,))
    unknown = encode({1: 1, 2: 3, 3: [1], 5: 0})
    assert "field 5 is unknown" in refused(HopRequest.decode, unknown)


@pytest.mark.parametrize("part", [*LENGTHS, "sealed", "tag"])
def test_an_altered_message_is_refused_with_the_generic_text(part: str) -> None:
    message = origin().message
    offsets = {"sealed": sum(LENGTHS.values()), "tag": len(message) - 1}
    position = 0
    for name, length in LENGTHS.items():
        offsets[name] = position + length // 2
        position += length
    assert refused(answer, flipped(message, offsets[part])) == GENERIC


def test_every_byte_of_the_answer_is_covered() -> None:
    start = origin()
    reply, *_ = answer(start.message)
    for position in range(len(reply)):
        assert refused(start.finish, flipped(reply, position)) == GENERIC


def test_messages_of_other_lengths_are_refused() -> None:
    start = origin()
    reply, *_ = answer(start.message)
    for length in (0, 1, 32, 1280, 1295, len(start.message) - 1):
        assert refused(answer, start.message[:length]) == GENERIC
    assert refused(answer, start.message + b"\0" * 4096) == GENERIC
    for length in (0, 1, 32, 1152, 1167, len(reply) - 1):
        assert refused(start.finish, reply[:length]) == GENERIC
    assert refused(start.finish, reply + b"\0" * 4096) == GENERIC


def test_another_hop_onion_key_or_network_is_refused() -> None:
    message = origin().message
    assert refused(answer, message, identity=b"i" * 32) == GENERIC
    assert refused(answer, message, onion_keys=[OLD_ONION]) == GENERIC
    assert refused(answer, message, onion_keys=[]) == GENERIC
    assert refused(answer, message, network_id=b"m" * 32) == GENERIC


def test_a_hop_without_the_onion_key_cannot_answer() -> None:
    """One who only relays the message, with keys of its own, gives an answer that dies."""
    start = origin()
    forged = origin(onion_key=OLD_ONION.public)
    reply, *_ = answer(forged.message)
    assert refused(start.finish, reply) == GENERIC


def test_an_answer_to_another_message_is_refused() -> None:
    reply, *_ = answer(origin(x25519_secret=b"w" * 32).message)
    assert refused(origin().finish, reply) == GENERIC
    reply, *_ = answer(origin(mlkem_seed=b"l" * 64).message)
    assert refused(origin().finish, reply) == GENERIC


# Points of small order: their product with any secret is zero (RFC 7748 §6.1).
SMALL_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_points_of_small_order_are_refused_on_both_sides(point: bytes) -> None:
    start = origin()
    message = start.message[:64] + point + start.message[96:]
    assert refused(answer, message) == GENERIC
    reply, *_ = answer(start.message)
    assert refused(start.finish, point + reply[32:]) == GENERIC
    with pytest.raises(ProtocolError, match=r"not valid|all-zero"):
        origin(onion_key=point)


def test_a_replay_is_refused_under_the_same_onion_key_only() -> None:
    replay = ReplayCache()
    message = origin().message
    answer(message, replay=replay)
    assert refused(answer, message, replay=replay) == GENERIC
    answer(origin(onion_key=OLD_ONION.public).message, replay=replay)


def test_a_message_that_does_not_open_burns_no_x() -> None:
    replay = ReplayCache()
    message = origin().message
    refused(answer, flipped(message, len(message) - 1), replay=replay)
    answer(message, replay=replay)


def test_an_injected_encapsulation_makes_the_answer_repeatable() -> None:
    start = origin()
    fixed = start._kem.public_key().encapsulate()
    first = answer(start.message, encapsulate=lambda _: fixed)
    assert answer(start.message, encapsulate=lambda _: fixed) == first
    assert start.finish(first[0]) == first[2]


def test_keys_show_no_secret() -> None:
    keys = answer(origin().message)[2]
    assert repr(keys) == "HopKeys(version=1)"
    assert hashlib.sha256(keys.forward).digest() != hashlib.sha256(keys.backward).digest()
