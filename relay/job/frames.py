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
from fogbank.sandbox import data as stored
from fogbank.sandbox.data import Data, MemorySink, NoRoom, Sink, Sinks

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
    """Keeps attachments as they arrive, in what `sinks` makes.

    `hashed`: and the SHA-256 of all in a row. Where there is no room for them (`lost` says why),
    what arrives is discarded.
    """

    def __init__(
        self, lengths: Sequence[int], sinks: Sinks = MemorySink, *, hashed: bool = False
    ) -> None:
        self.lost: NoRoom | None = None
        self.received = 0
        """Bytes that were kept so far."""
        self._lengths = tuple(lengths)
        self._sinks = sinks
        self._whole: list[Data] = []
        self._sink: Sink | None = None
        self._left = 0
        self._hash = hashlib.sha256() if hashed else None
        self._turn()

    def write(self, data: memoryview) -> None:
        """Take in the next bytes."""
        if self._hash is not None:
            self._hash.update(data)
        try:
            while data and self._sink is not None:
                part = data[: self._left]
                self._sink.write(part)
                self._left -= len(part)
                self.received += len(part)
                data = data[len(part) :]
                self._turn()
        except NoRoom as error:
            self.lost = error
            self._sink = None
            self._whole.clear()

    def take(self) -> tuple[Data, ...]:
        """Hand over all of them, whole."""
        whole, self._whole = tuple(self._whole), []
        return whole

    @property
    def sha256(self) -> bytes | None:
        """The hash of all that came so far, if it was asked for."""
        return None if self._hash is None else self._hash.digest()

    def _turn(self) -> None:
        """Begin the next attachment if the one before is whole."""
        done = self._whole
        if self._sink is not None and not self._left:
            done.append(self._sink.done())
            self._sink = None
        while self._sink is None and len(done) < len(self._lengths):
            self._left = self._lengths[len(done)]
            if self._left:
                self._sink = self._sinks()
            else:
                done.append(b"")


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


def portions(parts: Iterable[Data], size: int) -> Iterator[bytes]:
    """Yield the bytes of `parts`, small parts joined and large ones cut, at most `size` at once.

    Raises `OSError` if what is stored cannot be read.
    """
    small: list[bytes] = []
    length = 0
    for data in parts:
        for part in stored.portions(data, size=size):
            if length + len(part) > size:
                yield b"".join(small)
                small, length = [], 0
            if len(part) == size:
                yield part
                continue
            small.append(part)
            length += len(part)
    if length:
        yield b"".join(small)
