"""How long outputs at rest are, sealed to their client (spec/08 §2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CHUNK: Final = 64 << 10
"""Bytes of output in one chunk; the last has fewer, or as many."""
CHUNK_OVERHEAD: Final = 17
"""Bytes that a chunk is longer when sealed: a tag's byte and 16 of authentication."""
HEAD_SIZE: Final = 80 + 24
"""Bytes before the first chunk: the sealed key, and the header of the stream."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """An output comes sealed, `size` bytes in all, from the byte `offset` on."""

    size: int
    offset: int = 0

    @property
    def left(self) -> int:
        """How many bytes follow."""
        return self.size - self.offset


def sealed_size(size: int) -> int:
    """Return the bytes that an output of `size` has when it is sealed."""
    chunks = max(1, -(-size // CHUNK))
    return HEAD_SIZE + size + chunks * CHUNK_OVERHEAD
