"""Key stores for tests: deterministic ones, and how to open them again."""

from __future__ import annotations

import hashlib

from fogbank.relay.keystore_shell import KeyStore

NOW = 1_800_000_000.25


class Drbg:
    """Random bytes that are the same in every run."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, length: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(self._count.to_bytes(8, "big")).digest(length)


def reopened(store: KeyStore) -> KeyStore:
    """Open a store once more from its disk, as after a restart."""
    return KeyStore.open(store._folder, store._random)
