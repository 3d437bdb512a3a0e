"""How a worker seals outputs to their client (spec/08 §2.1)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final

from nacl.bindings import (
    crypto_secretstream_xchacha20poly1305_init_push,
    crypto_secretstream_xchacha20poly1305_push,
    crypto_secretstream_xchacha20poly1305_state,
)
from nacl.bindings import crypto_secretstream_xchacha20poly1305_TAG_FINAL as FINAL
from nacl.bindings import crypto_secretstream_xchacha20poly1305_TAG_MESSAGE as MESSAGE
from nacl.public import PublicKey, SealedBox

from fogbank.relay.job.held.sealing import CHUNK

_KEY_SIZE: Final = 32


def seal(parts: Iterable[bytes], size: int, public: bytes) -> Iterator[bytes]:
    """Yield an output sealed to the X25519 key `public`; `parts` have `size` bytes together."""
    key = os.urandom(_KEY_SIZE)
    state = crypto_secretstream_xchacha20poly1305_state()
    header = crypto_secretstream_xchacha20poly1305_init_push(state, key)
    yield SealedBox(PublicKey(public)).encrypt(key) + header
    left = size
    for chunk in _chunks(parts, size):
        left -= len(chunk)
        tag = MESSAGE if left else FINAL
        yield crypto_secretstream_xchacha20poly1305_push(state, chunk, None, tag)


def _chunks(parts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the bytes of `parts`, all chunks but the last full; one empty chunk for no bytes."""
    whole = bytearray()
    for part in parts:
        whole += part
        while len(whole) >= CHUNK:
            yield bytes(whole[:CHUNK])
            del whole[:CHUNK]
    if whole or not size:
        yield bytes(whole)
