"""A runtime on its way here, in parts, perhaps from several workers (spec/08 §8). Pure."""

from __future__ import annotations

import hashlib

from fogbank.relay.errors import ProtocolError
from fogbank.relay.transfer.messages import Request


class Download:
    """Bytes that are not to be believed before all are here and have the hash asked for.

    For each worker that is asked: `request`, `take` for what it gives, `end`.
    """

    def __init__(self, digest: bytes, size: int) -> None:
        self._digest = digest
        self._size = size
        self._data = bytearray()
        self._was_spoilt = False

    @property
    def missing(self) -> int:
        """How many bytes are not here yet."""
        return self._size - len(self._data)

    def request(self) -> Request:
        """Return what to ask the next worker for."""
        return Request(self._digest, len(self._data))

    def take(self, data: bytes | bytearray) -> None:
        """Take in the next bytes."""
        if len(data) > self.missing:
            raise ProtocolError("a worker sent more of a runtime than was asked for")
        self._data += data

    def end(self) -> bytes | None:
        """Hear that a worker gives no more; return the module if it is whole, None if not.

        Raises `ProtocolError` if it is whole and another: then all is dropped, and from then on
        one worker must give all of it, for nobody knows who of several had spoilt it.
        """
        if self.missing:
            if self._was_spoilt:
                self._data.clear()
            return None
        data = bytes(self._data)
        if hashlib.sha256(data).digest() == self._digest:
            return data
        self._data.clear()
        self._was_spoilt = True
        raise ProtocolError("what came is not the runtime that was asked for")
