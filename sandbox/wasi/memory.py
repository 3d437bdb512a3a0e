"""Safe access to a guest's memory.

Every address and length that a guest names is checked against the memory's size at that moment;
memory can grow, and move, between two calls, but not during one. Whatever is read or written counts
towards the fuel that the call costs (spec/07 §5).
"""

import struct
from collections.abc import Callable

from fogbank.sandbox.wasi.abi import Errno, GuestError

VECTORS = 1024
"""The most buffers that one scattered read or write may name."""
SETTLE = 1 << 20
"""So many units owed are paid before anything more is copied."""

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_VECTOR = struct.Struct("<II")


class GuestMemory:
    """A view of a guest's memory that cannot be misled; addresses and lengths are unsigned.

    `view` returns the whole memory as it is now, writable. `owed` is the fuel that the present call
    costs; `settle` pays it, and may raise to end the program.
    """

    def __init__(self, view: Callable[[], memoryview], settle: Callable[[], None]) -> None:
        self.owed = 0
        self._get = view
        self._settle = settle
        self._view: memoryview | None = None

    def begin(self, price: int) -> None:
        """Begin a call, which owes `price`. Memory stays as it is until the next one."""
        self.owed = price
        self._view = None

    def count(self, moved: int) -> None:
        """Count bytes that are about to be moved, at one unit of fuel each."""
        self.owed += moved
        if self.owed >= SETTLE:
            self._settle()

    def span(self, address: int, length: int) -> memoryview:
        """Return the whole memory, or raise `GuestError` (FAULT) if not all these bytes are it."""
        view = self._view
        if view is None:
            view = self._view = self._get()
        if address + length > len(view):
            raise GuestError(Errno.FAULT)
        return view

    def part(self, address: int, length: int) -> memoryview:
        """Return bytes of the guest to be copied in or out, paid for; not to be kept."""
        view = self.span(address, length)
        self.count(length)
        return view[address : address + length]

    def read(self, address: int, length: int) -> bytes:
        """Copy bytes out of the guest."""
        return self.part(address, length).tobytes()

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes into the guest."""
        view = self.span(address, len(data))
        self.count(len(data))
        view[address : address + len(data)] = data

    def write_u32(self, address: int, value: int) -> None:
        """Write a little-endian u32."""
        view = self.span(address, 4)
        self.count(4)
        _U32.pack_into(view, address, value)

    def write_u64(self, address: int, value: int) -> None:
        """Write a little-endian u64."""
        view = self.span(address, 8)
        self.count(8)
        _U64.pack_into(view, address, value)

    def vectors(self, address: int, count: int) -> list[tuple[int, int]]:
        """Read `count` pairs of address and length, checking that each lies within memory."""
        if count == 1:
            view = self.span(address, 8)
            self.count(8)
            pairs = [_VECTOR.unpack_from(view, address)]
        elif count > VECTORS:
            raise GuestError(Errno.INVAL)
        else:
            pairs = list(_VECTOR.iter_unpack(self.read(address, 8 * count)))
        for start, length in pairs:
            self.span(start, length)
        return pairs
