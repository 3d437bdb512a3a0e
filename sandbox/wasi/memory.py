"""Safe access to a guest's memory.

Every address and length that a guest names is checked against the memory's size at that moment;
memory can grow, and move, between two calls. Whatever is read or written counts towards the fuel
that the call costs (spec/07 §5).
"""

import struct
from collections.abc import Callable

from fogbank.sandbox.wasi.abi import Errno, GuestError

VECTORS = 1024
"""The most buffers that one scattered read or write may name."""

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_VECTOR = struct.Struct("<II")


class GuestMemory:
    """A view of a guest's memory that cannot be misled.

    `view` returns the whole memory as it is now, writable. `moved` is told how many bytes each
    access copies; it may raise to end the program.
    """

    def __init__(self, view: Callable[[], memoryview], moved: Callable[[int], None]) -> None:
        self._view = view
        self._moved = moved

    def span(self, address: int, length: int) -> memoryview:
        """Return the bytes at `address`, or raise `GuestError` (FAULT) if not all are memory."""
        view = self._view()
        if not 0 <= address <= len(view) or not 0 <= length <= len(view) - address:
            raise GuestError(Errno.FAULT)
        return view[address : address + length]

    def read(self, address: int, length: int) -> bytes:
        """Copy bytes out of the guest."""
        span = self.span(address, length)
        self._moved(length)
        return bytes(span)

    def write(self, address: int, data: bytes | bytearray) -> None:
        """Copy bytes into the guest."""
        span = self.span(address, len(data))
        self._moved(len(data))
        span[:] = data

    def read_u32(self, address: int) -> int:
        """Read a little-endian u32."""
        return int(_U32.unpack(self.read(address, 4))[0])

    def write_u32(self, address: int, value: int) -> None:
        """Write a little-endian u32."""
        self.write(address, _U32.pack(value))

    def write_u64(self, address: int, value: int) -> None:
        """Write a little-endian u64."""
        self.write(address, _U64.pack(value))

    def vectors(self, address: int, count: int) -> list[tuple[int, int]]:
        """Read `count` pairs of address and length, checking that each lies within memory."""
        if count > VECTORS:
            raise GuestError(Errno.INVAL)
        pairs = list(_VECTOR.iter_unpack(self.read(address, 8 * count)))
        for start, length in pairs:
            self.span(start, length)
        return pairs
