"""Whole messages over a stream: a u32 length, then that many bytes (spec/04 §6)."""

from __future__ import annotations

from typing import Protocol

from fogbank.relay.errors import ProtocolError

_LENGTH = 4


class Stream(Protocol):
    """A byte stream in both directions, as a circuit's streams are and trio's can be."""

    async def send_all(self, data: bytes) -> None:
        """Send all of `data`, waiting while the peer's window is closed."""

    async def receive_some(self, max_bytes: int) -> bytes | bytearray:
        """Return up to `max_bytes` bytes, or none at the peer's clean end."""

    async def aclose(self) -> None:
        """End both directions."""


async def send_message(stream: Stream, data: bytes) -> None:
    """Send one message."""
    await stream.send_all(len(data).to_bytes(_LENGTH, "big") + data)


async def receive_message(stream: Stream, limit: int) -> bytes | None:
    """Return the next message, or None if the stream ended before one began.

    Raises `ProtocolError` for a message over `limit` bytes, or one that is cut off.
    """
    length = await receive_length(stream, limit)
    return None if length is None else await receive_exactly(stream, length)


async def receive_length(stream: Stream, limit: int) -> int | None:
    """Return how long the next message is, which must be received next; else as above."""
    head = await receive_exactly(stream, _LENGTH, may_end=True)
    if head is None:
        return None
    length = int.from_bytes(head, "big")
    if length > limit:
        raise ProtocolError(f"a message of {length} bytes is over its limit of {limit}")
    return length


async def receive_exactly(stream: Stream, length: int, *, may_end: bool = False) -> bytes | None:
    """Return exactly `length` bytes; None if `may_end` and the stream ended before the first."""
    data = bytearray()
    while len(data) < length:
        part = await stream.receive_some(min(length - len(data), 1 << 18))
        if not part:
            if may_end and not data:
                return None
            raise ProtocolError("the stream ended in the middle of a message")
        data += part
    return bytes(data)
