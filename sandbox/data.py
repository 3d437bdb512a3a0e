"""Bytes that need not be in memory: what goes into tasks and comes out of them (spec/07 §2).

`Data` is either bytes or something `Stored`, a file for instance, of which portions are read when
they are needed. Where bytes arrive, a `Sink` takes them in and hands them over as `Data`; which
kind that is, is for whoever made the sink.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final, Protocol, TypeAlias

PORTION: Final = 256 << 10
"""Bytes that are read, or passed on, in one step."""


class Stored(Protocol):
    """Bytes that are kept elsewhere and do not change."""

    def __len__(self) -> int:
        """Return how many there are."""

    def read(self, start: int, size: int) -> bytes:
        """Return at most `size` bytes from `start` on: none at the end alone.

        Raises `OSError` if they cannot be read.
        """


Data: TypeAlias = bytes | Stored


class NoRoom(OSError):
    """There is no room to keep what arrives: free some, or send less."""


class Sink(Protocol):
    """Takes bytes in."""

    def write(self, part: bytes | memoryview) -> None:
        """Append bytes. Raises `NoRoom`, after which it is of no more use."""

    def done(self) -> Data:
        """Return all that was written, once."""


Sinks: TypeAlias = Callable[[], Sink]
"""Makes a sink for what arrives next."""


class MemorySink:
    """Keeps what arrives as bytes."""

    def __init__(self) -> None:
        self._parts = bytearray()

    def write(self, part: bytes | memoryview) -> None:
        """Append bytes."""
        self._parts += part

    def done(self) -> bytes:
        """Return all of them."""
        parts, self._parts = self._parts, bytearray()
        return bytes(parts)


class _Joined:
    """Several data in a row."""

    def __init__(self, parts: Sequence[Data]) -> None:
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, start: int, size: int) -> bytes:
        number = bisect_right(self._ends, start)
        if number == len(self._parts):
            return b""
        part = self._parts[number]
        start -= self._ends[number] - len(part)
        return part[start : start + size] if isinstance(part, bytes) else part.read(start, size)


def joined(*parts: Data) -> Data:
    """Return all in a row."""
    small = [part for part in parts if isinstance(part, bytes)]
    return b"".join(small) if len(small) == len(parts) else _Joined(parts)


class _Part:
    """Some of what is stored: `size` bytes from `start` on."""

    def __init__(self, whole: Stored, start: int, size: int) -> None:
        self._whole = whole
        self._start = start
        self._size = size

    def __len__(self) -> int:
        return self._size

    def read(self, start: int, size: int) -> bytes:
        return self._whole.read(self._start + start, min(size, max(self._size - start, 0)))


def part_of(data: Data, start: int, size: int | None = None) -> Data:
    """Return what follows `start`: `size` bytes, or all."""
    left = max(len(data) - start, 0)
    size = left if size is None else min(size, left)
    if isinstance(data, bytes):
        return data[start : start + size]
    return _Part(data, start, size) if size else b""


def portions(data: Data, start: int = 0, size: int = PORTION) -> Iterator[bytes]:
    """Yield what follows `start`, at most `size` bytes at once. Raises `OSError`."""
    if isinstance(data, bytes):
        for at in range(start, len(data), size):
            yield data[at : at + size]
        return
    while start < len(data):
        part = data.read(start, min(size, len(data) - start))
        if not part:
            raise OSError("a file has become shorter while it was read: leave it until it is sent")
        start += len(part)
        yield part


def whole(data: Data) -> bytes:
    """Return all of it as bytes: for what is known to be small. Raises `OSError`."""
    return data if isinstance(data, bytes) else b"".join(portions(data))


def sha256(data: Data) -> bytes:
    """Return the hash of all of it. Raises `OSError`."""
    hashed = hashlib.sha256()
    for part in portions(data):
        hashed.update(part)
    return hashed.digest()


def fill(data: Data) -> bytearray:
    """Return all of it, to be changed, in memory once. Raises `OSError`."""
    if isinstance(data, bytes):
        return bytearray(data)
    filled = bytearray(len(data))
    at = 0
    with memoryview(filled) as view:
        for part in portions(data):
            view[at : at + len(part)] = part
            at += len(part)
    return filled
