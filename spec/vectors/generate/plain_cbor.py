"""Canonical CBOR of spec/01 §1 written byte by byte: what the generators beside it encode with."""

from typing import Any


def head(major: int, number: int) -> bytes:
    """A value's first bytes: a major type and a number, as short as can be."""
    if number < 24:
        return bytes([major << 5 | number])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * size:
            return bytes([major << 5 | code]) + number.to_bytes(size, "big")
    raise ValueError(number)


def cbor(value: Any) -> bytes:
    """A value's bytes; of maps with keys below 24, whose order is that of the numbers."""
    match value:
        case None | bool():
            return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
        case int():
            return head(0, value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            return head(3, len(value.encode())) + value.encode()
        case list():
            return head(4, len(value)) + b"".join(map(cbor, value))
        case dict():
            pairs = (cbor(key) + cbor(value[key]) for key in sorted(value))
            return head(5, len(value)) + b"".join(pairs)
    raise TypeError(value)
