"""Cuts a job's stream into messages and their attachments (spec/08 §1).

`Frames.feed` takes hostile bytes in any portions. It asks its owner about each message before it
reads the first byte of an attachment: the owner answers with a `Blobs` to keep them, or None to
discard them, or raises. Nothing is reserved before it arrives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Generic, Protocol, TypeVar

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.kinds import MESSAGE_SIZE

PORTION: Final = 256 << 10
"""Bytes that are received, or sent, in one step."""
_LENGTH: Final = 4


class Message(Protocol):
    """What the frames need to know of a message."""

    @property
    def attachments(self) -> tuple[int, ...]:
        """The lengths of what follows it."""

    def encode(self) -> bytes:
        """Encode it."""


M = TypeVar("M", bound=Message)


class Blobs:
    """Keeps attachments as they arrive; `hashed`: and the SHA-256 of all in a row."""

    def __init__(self, lengths: Sequence[int], *, hashed: bool = False) -> None:
        self._lengths = tuple(lengths)
        self._whole: list[bytes] = []
        self._part = bytearray()
        self._hash = hashlib.sha256() if hashed else None
        self._turn()

    def write(self, data: memoryview) -> None:
        """Take in the next bytes."""
        if self._hash is not None:
            self._hash.update(data)
        while data:
            room = self._lengths[len(self._whole)] - len(self._part)
            self._part += data[:room]
            data = data[room:]
            self._turn()

    def take(self) -> tuple[bytes, ...]:
        """Hand over all of them, whole."""
        whole, self._whole = tuple(self._whole), []
        return whole

    @property
    def sha256(self) -> bytes | None:
        """The hash of all that came so far, if it was asked for."""
        return None if self._hash is None else self._hash.digest()

    def _turn(self) -> None:
        done = self._whole
        while len(done) < len(self._lengths) and len(self._part) == self._lengths[len(done)]:
            done.append(bytes(self._part))
            self._part = bytearray()


class Frames(Generic[M]):
    """The reading end of one direction.

    `decode` decodes a message or raises `ProtocolError`; `admit` is asked about each message.
    """

    def __init__(self, decode: Callable[[bytes], M], admit: Callable[[M], Blobs | None]) -> None:
        self._decode = decode
        self._admit = admit
        self._buffer = bytearray()
        self._message: M | None = None
        self._blobs: Blobs | None = None
        self._left = 0
        self._broken = False

    @property
    def is_between(self) -> bool:
        """Whether no frame has begun that is not whole: the only place for a clean end."""
        return self._message is None and not self._buffer

    @property
    def expected(self) -> int:
        """The length of the frame under way, as far as it is known by now."""
        if self._message is not None:
            return MESSAGE_SIZE + sum(self._message.attachments)
        return MESSAGE_SIZE

    @property
    def arriving(self) -> M | None:
        """The message whose attachments are under way."""
        return self._message

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[tuple[M, Blobs | None]]:
        """Take in `data`; yield each message that is whole, and its attachments if kept.

        What is yielded must be dealt with before the next is asked for. After a `ProtocolError`,
        or if its owner stopped asking, whatever is fed is another one.
        """
        if self._broken:
            raise ProtocolError("a job's session goes on after its end")
        self._broken = True
        view = memoryview(data)
        while view:
            view = self._attachment(view) if self._message is not None else self._head(view)
            if self._message is not None and not self._left:
                message, blobs = self._message, self._blobs
                self._message = self._blobs = None
                yield message, blobs
        self._broken = False

    def _head(self, view: memoryview) -> memoryview:
        buffer = self._buffer
        length = _LENGTH
        if len(buffer) >= _LENGTH:
            length += int.from_bytes(buffer[:_LENGTH], "big")
        take = length - len(buffer)
        buffer += view[:take]
        view = view[take:]
        if len(buffer) == _LENGTH:
            announced = int.from_bytes(buffer, "big")
            if not 0 < announced <= MESSAGE_SIZE:
                raise ProtocolError(f"a job's message of {announced} bytes is out of bounds")
        elif len(buffer) == length and length > _LENGTH:
            message = self._decode(bytes(buffer[_LENGTH:]))
            buffer.clear()
            self._blobs = self._admit(message)
            self._message = message
            self._left = sum(message.attachments)
        return view

    def _attachment(self, view: memoryview) -> memoryview:
        part = view[: self._left]
        self._left -= len(part)
        if self._blobs is not None:
            self._blobs.write(part)
        return view[len(part) :]


def frame(message: Message) -> bytes:
    """Encode a message with its length; its attachments follow it as they are."""
    body = message.encode()
    if len(body) > MESSAGE_SIZE:
        raise ValueError(f"a message of {len(body)} bytes; {MESSAGE_SIZE} is the most")
    return len(body).to_bytes(_LENGTH, "big") + body


def portions(parts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the bytes of `parts`, small parts joined and large ones cut, at most `size` at once."""
    small: list[bytes] = []
    length = 0
    for part in parts:
        if length + len(part) <= size:
            small.append(part)
            length += len(part)
            continue
        if length:
            yield b"".join(small)
        whole = len(part) - len(part) % size
        for at in range(0, whole, size):
            yield part[at : at + size]
        small = [part[whole:]]
        length = len(part) - whole
    if length:
        yield b"".join(small)
