"""The request for a runtime and the reply to it (spec/08 §8)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from fogbank.relay.codec import decode_record, encode
from fogbank.relay.errors import ProtocolError
from fogbank.sandbox.limits import MODULE_SIZE
from fogbank.sandbox.runtimes.catalogue import DIGEST_SIZE

SERVICE: Final = "runtime"
"""The name of the service."""
MESSAGE_SIZE: Final = 256
"""The longest request or reply, in bytes, without the module's."""


class Status(IntEnum):
    """What becomes of a request."""

    FOLLOWS = 0
    """The module's bytes follow the reply."""
    NOT_HERE = 1
    """The runtime is not held, not accepted, or has no byte at the offset."""
    BUSY = 2
    """Another time, or another worker."""


@dataclass(frozen=True, slots=True)
class Request:
    """Asks for the module with this SHA-256, from the byte at `offset` on."""

    digest: bytes
    offset: int = 0

    def encode(self) -> bytes:
        """Encode."""
        return encode({1: self.digest, 2: self.offset})


@dataclass(frozen=True, slots=True)
class Reply:
    """Says how many of the module's bytes follow: all from the offset on, or none."""

    status: Status
    size: int = 0

    def encode(self) -> bytes:
        """Encode."""
        return encode({1: self.status, 2: self.size})


def decode_request(data: bytes) -> Request:
    """Decode a request; raise `ProtocolError` for anything else."""
    record = decode_record(data, MESSAGE_SIZE, "a request for a runtime")
    request = Request(record.fixed(1, DIGEST_SIZE), record.uint(2, MODULE_SIZE - 1))
    record.done()
    return request


def decode_reply(data: bytes) -> Reply:
    """Decode a reply; raise `ProtocolError` for anything else."""
    record = decode_record(data, MESSAGE_SIZE, "a reply about a runtime")
    number, size = record.uint(1, max(Status)), record.uint(2, MODULE_SIZE)
    record.done()
    reply = Reply(Status(number), size)
    if (reply.status is Status.FOLLOWS) != (size > 0):
        raise ProtocolError("a reply about a runtime promises bytes that do not fit its status")
    return reply
