"""How a client opens outputs that its worker has sealed to it (spec/08 §2.1)."""

from __future__ import annotations

from typing import Final

import nacl.exceptions
from nacl.bindings import (
    crypto_secretstream_xchacha20poly1305_init_pull,
    crypto_secretstream_xchacha20poly1305_pull,
    crypto_secretstream_xchacha20poly1305_state,
)
from nacl.bindings import crypto_secretstream_xchacha20poly1305_TAG_FINAL as FINAL
from nacl.bindings import crypto_secretstream_xchacha20poly1305_TAG_MESSAGE as MESSAGE
from nacl.public import PrivateKey, SealedBox

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.frames import Blobs
from fogbank.relay.job.held.sealing import CHUNK, CHUNK_OVERHEAD, HEAD_SIZE
from fogbank.sandbox.data import MemorySink, Sinks

_KEY_BOX: Final = 80


class Opening(Blobs):
    """Takes a sealed output as it comes, and keeps what is in it: stdout and stderr.

    `secret`: the X25519 key that it is sealed to. Nothing is kept that does not open.
    """

    def __init__(self, secret: bytes, stdout: int, stderr: int, sinks: Sinks = MemorySink) -> None:
        super().__init__((stdout, stderr), sinks)
        self.offset = 0
        """Sealed bytes that came so far."""
        self._secret = secret
        self._plain = stdout, stderr
        self._unopened = stdout + stderr
        self._sealed = bytearray()
        self._next = HEAD_SIZE
        self._stream: crypto_secretstream_xchacha20poly1305_state | None = None

    def fits(self, stdout: int, stderr: int, offset: int) -> bool:
        """Tell whether an output of these lengths goes on here from the sealed byte `offset`."""
        return self._plain == (stdout, stderr) and offset == self.offset

    def write(self, data: memoryview) -> None:
        """Take in the next sealed bytes; raise `ProtocolError` if they do not open."""
        self.offset += len(data)
        while data:
            part = data[: self._next - len(self._sealed)]
            self._sealed += part
            data = data[len(part) :]
            if len(self._sealed) == self._next:
                try:
                    self._open(bytes(self._sealed))
                except (nacl.exceptions.CryptoError, ValueError):
                    raise ProtocolError("in a job's session: a seal that does not open") from None
                self._sealed.clear()

    def _open(self, sealed: bytes) -> None:
        """Open what is whole: at first the key, then one chunk after the other."""
        if self._stream is None:
            key = SealedBox(PrivateKey(self._secret)).decrypt(sealed[:_KEY_BOX])
            self._stream = crypto_secretstream_xchacha20poly1305_state()
            crypto_secretstream_xchacha20poly1305_init_pull(self._stream, sealed[_KEY_BOX:], key)
        else:
            plain, tag = crypto_secretstream_xchacha20poly1305_pull(self._stream, sealed)
            self._unopened -= len(plain)
            if tag != (MESSAGE if self._unopened else FINAL):
                raise ValueError
            super().write(memoryview(plain))
        self._next = min(self._unopened, CHUNK) + CHUNK_OVERHEAD
