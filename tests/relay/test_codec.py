"""Canonical CBOR (spec/01 §1): one value, one encoding, and nothing else gets in."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fogbank.relay.codec import (
    BYTES,
    MAX_DEPTH,
    MAX_KEY,
    MAX_UINT,
    Record,
    Value,
    bytes_item,
    decode,
    decode_record,
    encode,
    make_head,
    read_head,
    text_item,
    uint_item,
)
from fogbank.relay.errors import ProtocolError

SCALARS = (
    st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=40)
    | st.text(max_size=40)
    | st.booleans()
    | st.none()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.integers(0, MAX_KEY), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_every_value_comes_back(value: Any) -> None:
    data = encode(value)
    assert decode(data, len(data)) == value
    assert encode(decode(data, len(data))) == data


@given(st.binary(max_size=60))
def test_what_decodes_has_one_encoding(data: bytes) -> None:
    try:
        value = decode(data, 60)
    except ProtocolError:
        return
    assert encode(value) == data


def test_the_limit_comes_before_parsing() -> None:
    data = encode(b"x" * 100)
    assert decode(data, len(data)) == b"x" * 100
    with pytest.raises(ProtocolError, match="over its limit"):
        decode(data, len(data) - 1)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("nothing", ""),
        ("a length that promises 2^64 bytes", "5bffffffffffffffff"),
        ("a length that promises 2^32 items", "9affffffff"),
        ("trailing bytes", "0000"),
        ("a float", "f93c00"),
        ("a whole number as a float", "fa47c35000"),
        ("not a number", "f97e00"),
        ("undefined", "f7"),
        ("a simple value", "e0"),
        ("a long simple value", "f8ff"),
        ("a tag", "c101"),
        ("a tag that nobody knows", "d9ffff00"),
        ("a big number", "c249010000000000000000"),
        ("a regular expression", "d8236161"),
        ("a shared reference", "d81c80"),
        ("an integer not in its shortest form", "1800"),
        ("a length not in its shortest form", "580161"),
        ("an indefinite byte string", "5f4100ff"),
        ("an indefinite array", "9f00ff"),
        ("an indefinite map", "bf0000ff"),
        ("a break alone", "ff"),
        ("text that is not UTF-8", "61ff"),
        ("text with a surrogate", "63eda080"),
        ("a duplicate key", "a200010002"),
        ("keys in the wrong order", "a201000000"),
        ("longer keys before shorter", "a21818000100"),
        ("a text key", "a1616100"),
        ("a byte key", "a1416100"),
        ("a boolean key", "a1f400"),
        ("a null key", "a1f600"),
        ("a negative key", "a12000"),
        ("a key of 2^32", "a11b000000010000000000"),
        ("an array as a key", "a1810000"),
        ("a map as a key", "a1a00000"),
        ("a float as a key", "a1f93c0000"),
        ("a bad key in a map within", "8182a1616100"),
    ],
)
def test_all_else_is_refused(name: str, data: str) -> None:
    with pytest.raises(ProtocolError):
        decode(bytes.fromhex(data), 1000)


@pytest.mark.parametrize("head", [b"\x81", b"\xa1\x00"])
def test_nesting_is_bounded(head: bytes) -> None:
    decode(head * MAX_DEPTH + b"\0", 100)
    with pytest.raises(ProtocolError):
        decode(head * (MAX_DEPTH + 1) + b"\0", 100)
    with pytest.raises(ProtocolError):
        decode(head * 100_000, 1_000_000)


def test_keys_are_ordered_by_length_first() -> None:
    assert encode({256: 0, 24: 0, 1: 0, 0: 0}).hex() == "a40000010018180019010000"


def record(**fields: Value) -> Record:
    return decode_record(encode({int(key[1:]): value for key, value in fields.items()}), 1000, "it")


TAKES: list[tuple[Value, Callable[[Record], object], list[Value]]] = [
    (7, lambda r: r.uint(1, 9, 5), [4, 10, -1, True, None, "7", b"7", [7]]),
    (MAX_UINT, lambda r: r.uint(1), [-1, False]),
    (True, lambda r: r.flag(1), [0, 1, None, "true"]),
    (b"abc", lambda r: r.blob(1, 4, 2), [b"a", b"abcde", "abc", None, [97]]),
    (b"abc", lambda r: r.fixed(1, 3), [b"ab", b"abcd", "abc"]),
    ("päp", lambda r: r.text(1, 4), ["päpp", "a\n", "\x1b[", "\u202e", b"pap", 1]),
    ((1, 2), lambda r: r.array(1, 2, uint_item(2)), [[3], [1, 1, 1], [True], [-1], 1, {0: 1}]),
    ((b"ab",), lambda r: r.array(1, 2, bytes_item(3, 2)), [[b"a"], [b"abcd"], ["ab"], [None]]),
    (("a",), lambda r: r.array(1, 2, text_item(2)), [["abc"], ["\n"], [b"a"], [1]]),
    ({3: 4}, lambda r: {3: r.record(1).uint(3)}, [[3, 4], 3, None, {3: -1}, {4: 4}]),
]


@pytest.mark.parametrize(("good", "take", "bad"), TAKES)
def test_a_field_has_its_type_and_bounds(
    good: Value, take: Callable[[Record], object], bad: list[Value]
) -> None:
    right = record(k1=list(good) if isinstance(good, tuple) else good)
    assert right.has(1)
    assert take(right) == good
    assert not right.has(1)
    right.done()
    for value in bad:
        with pytest.raises(ProtocolError):
            take(record(k1=value))
    with pytest.raises(ProtocolError):
        take(record(k2=good if not isinstance(good, tuple) else list(good)))


def test_a_field_is_taken_once() -> None:
    fields = record(k1=1)
    assert fields.uint(1) == 1
    with pytest.raises(ProtocolError):
        fields.uint(1)


def test_fields_left_over_are_refused_unless_reserved() -> None:
    with pytest.raises(ProtocolError, match="field 2 is unknown"):
        record(k2=0, k3=0).done()
    fields = record(k2={1: [b"anything"]}, k3=0)
    fields.reserved(2, 3, 4)
    fields.done()


@pytest.mark.parametrize("value", [1, "a", b"", [], None, True])
def test_a_record_is_a_map(value: Value) -> None:
    with pytest.raises(ProtocolError, match="it is not a map"):
        decode_record(encode(value), 100, "it")


def parts_of(value: Any) -> int:
    """Return how many items a value is written as."""
    if isinstance(value, list):
        return 1 + sum(map(parts_of, value))
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(parts_of, value.values()))
    return 1


@given(VALUES)
def test_parts_are_counted_as_they_are(value: Any) -> None:
    data, count = encode(value), parts_of(value)
    assert decode(data, len(data), count) == value
    if len(data) >= count > 1:
        with pytest.raises(ProtocolError, match="more than"):
            decode(data, len(data), count - 1)


@given(st.binary(max_size=60), st.integers(0, 20))
def test_counting_parts_refuses_nothing_else(data: bytes, items: int) -> None:
    try:
        value = decode(data, 60, items)
    except ProtocolError:
        return
    assert parts_of(value) <= max(items, len(data))


@pytest.mark.parametrize("argument", [0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32])
def test_heads_are_those_of_the_encoder(argument: int) -> None:
    integer = encode(argument)
    head = bytes((integer[0] | BYTES << 5,)) + integer[1:]
    assert make_head(BYTES, argument) == head
    assert read_head(b"x" + head + b"y", 1, BYTES) == (argument, 1 + len(head))
    for wrong in (head[:-1], integer, b"\x58\x01", b"\x59\x00\xff", b"\x5f", b"\x5c"):
        if wrong:
            with pytest.raises(ProtocolError):
                read_head(wrong, 0, BYTES)
    with pytest.raises(ProtocolError, match="cut off"):
        read_head(head, len(head), BYTES)
