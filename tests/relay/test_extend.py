"""EXTEND and REFUSED (spec/03 §4): their bytes, and what no relay ever does."""

from typing import Any

import pytest

from fogbank.relay.cells import MAX_HOPS, Geometry
from fogbank.relay.codec import encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.extend import (
    Address,
    Extend,
    RefusedCode,
    check_hop,
    is_global,
)
from fogbank.relay.handshake import MESSAGE_LENGTHS, HopRequest, OriginHandshake
from fogbank.relay.keys import X25519Key

IDENTITY = b"i" * 32
OWN = b"o" * 32
BEFORE = b"p" * 32
HANDSHAKE = OriginHandshake(
    IDENTITY, X25519Key(b"b" * 32).public, b"n" * 32, HopRequest(2, 3), b"x" * 32, b"k" * 64
).message


@pytest.mark.parametrize(
    "addresses",
    [
        None,
        (Address("192.0.2.1", 9001),),
        (Address("192.0.2.1", 1), Address("2001:db8::1", 65_535)),
        tuple(Address(f"2001:db8:1111:2222:3333:4444:5555:{n:x}", 65_535) for n in range(1, 9)),
    ],
)
def test_extend_comes_back_whole_and_fits_the_longest_circuit(
    addresses: tuple[Address, ...] | None,
) -> None:
    extend = Extend(IDENTITY, addresses, HANDSHAKE)
    data = extend.encode()
    assert Extend.decode(data) == extend
    assert len(data) <= Geometry.data(MAX_HOPS)


def test_the_largest_extend_fits_the_longest_circuit() -> None:
    address = Address("2001:db8:1111:2222:3333:4444:5555:6666", 65_535)
    data = Extend(IDENTITY, (address,) * 8, bytes(MESSAGE_LENGTHS[-1])).encode()
    assert len(data) <= Geometry.data(MAX_HOPS)


GOOD: dict[int, Any] = {1: IDENTITY, 2: [["192.0.2.1", 9001]], 3: HANDSHAKE}


@pytest.mark.parametrize(
    "change",
    [
        {1: b"short"},
        {1: "text"},
        {2: []},
        {2: [["192.0.2.1", 9001]] * 9},
        {2: [["192.0.2.1", 0]]},
        {2: [["192.0.2.1", 65_536]]},
        {2: [["192.0.2.1", True]]},
        {2: [["192.0.2.1", -1]]},
        {2: [["192.0.2.1"]]},
        {2: [["192.0.2.1", 1, 1]]},
        {2: [[b"\xc0\0\x02\1", 1]]},
        {2: [["example.net", 443]]},
        {2: [["", 443]]},
        {2: [["2001:DB8::1", 443]]},
        {2: [["2001:db8:0::1", 443]]},
        {2: [["fe80::1%eth0", 443]]},
        {2: [["192.0.2.1\n", 443]]},
        {2: [None]},
        {2: None},
        {3: b""},
        {3: bytes(MESSAGE_LENGTHS[0] - 1)},
        {3: bytes(MESSAGE_LENGTHS[-1] + 1)},
        {4: 0},
    ],
)
def test_anything_else_is_refused(change: dict[int, Any]) -> None:
    Extend.decode(encode(GOOD))
    with pytest.raises(ProtocolError):
        Extend.decode(encode({**GOOD, **change}))


@pytest.mark.parametrize("missing", [1, 3])
def test_a_missing_field_is_refused(missing: int) -> None:
    with pytest.raises(ProtocolError):
        Extend.decode(encode({key: value for key, value in GOOD.items() if key != missing}))


def test_every_refusal_has_a_sentence_of_its_own() -> None:
    sentences = {RefusedCode.sentence(code) for code in range(256)}
    assert len(sentences) == len(RefusedCode) + 1
    assert "no known reason" in RefusedCode.sentence(0)
    assert all(sentence.endswith(".") for sentence in sentences)


@pytest.mark.parametrize("host", ["8.8.8.8", "185.220.101.1", "2a00:1450:4001::1", "2606:4700::1"])
def test_public_addresses(host: str) -> None:
    assert is_global(host)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.9.0.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1",
        "169.254.169.254", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
        "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00::1", "ff02::1",
        "2001:db8::1", "2001::1", "2002:7f00:1::", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
        "64:ff9b::7f00:1", "64:ff9b:1::1", "example.net", "localhost", "", "127.1", "0x7f000001",
    ],
)  # fmt: skip
def test_all_others_are_not_public(host: str) -> None:
    assert not is_global(host)


def test_addresses_read_well() -> None:
    assert str(Address("192.0.2.1", 9001)) == "192.0.2.1:9001"
    assert str(Address("2001:db8::1", 9001)) == "[2001:db8::1]:9001"


@pytest.mark.parametrize(
    ("identity", "predecessor", "index", "limit", "verdict"),
    [
        (IDENTITY, BEFORE, 1, 3, None),
        (IDENTITY, None, 2, 3, None),
        (OWN, BEFORE, 1, 3, RefusedCode.LOOP),
        (BEFORE, BEFORE, 1, 3, RefusedCode.LOOP),
        (IDENTITY, BEFORE, 3, 3, RefusedCode.LIMIT),
        (IDENTITY, BEFORE, 6, 6, RefusedCode.LIMIT),
        (IDENTITY, BEFORE, 6, 7, RefusedCode.LIMIT),
        (IDENTITY, BEFORE, 5, 6, None),
    ],
)
def test_what_no_policy_allows(
    identity: bytes, predecessor: bytes | None, index: int, limit: int, verdict: RefusedCode | None
) -> None:
    extend = Extend(identity, None, HANDSHAKE)
    assert check_hop(extend, OWN, predecessor, index, limit) is verdict
