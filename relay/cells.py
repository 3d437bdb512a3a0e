"""Cells: their one size, their header, every length that follows (spec/02 §2, 03 §1)."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from fogbank.relay.errors import ProtocolError

CELL: Final = 4096
HEADER: Final = 5
BODY: Final = CELL - HEADER
TAG: Final = 16
FLAG: Final = 1
LAYER: Final = TAG + FLAG
MAX_HOPS: Final = 6
MESSAGE_HEADER: Final = 5
"""Bytes before a relay message's data (spec/04 §2)."""

DIALER_BIT: Final = 1 << 31
"""Set in the ids of circuits that the link's dialer created."""

pack_header = struct.Struct(">IB").pack_into
unpack_header = struct.Struct(">IB").unpack_from


class Command(IntEnum):
    """What a cell is for (spec/02 §2)."""

    PADDING = 0
    VERSIONS = 1
    CERTS = 2
    AUTH = 3
    NETINFO = 4
    CREATE = 5
    CREATED = 6
    RELAY = 7
    DESTROY = 8
    CREATE_WORK = 9
    WORK_ASKED = 10


class DestroyReason(IntEnum):
    """Why a circuit was destroyed (spec/03 §5)."""

    FAILURE = 1
    REQUESTED = 2
    LINK_ENDED = 3
    RESOURCES = 4
    SHUTDOWN = 5
    HANDSHAKE_REFUSED = 6


class Geometry:
    """Lengths at each hop, computed once; hops are counted from 1."""

    @staticmethod
    def body(index: int) -> int:
        """Return the bytes of a body that hop `index` reads and writes."""
        return BODY - LAYER * (index - 1)

    @staticmethod
    def message(index: int) -> int:
        """Return the bytes of a message for or from hop `index`."""
        return BODY - LAYER * index

    @staticmethod
    def data(index: int) -> int:
        """Return the bytes of data that one message for or from hop `index` can carry."""
        return BODY - LAYER * index - MESSAGE_HEADER


def pack_cell(circuit_id: int, command: int, content: bytes) -> bytes:
    """Return a whole cell whose body is `length u16 ‖ content ‖ zeros`."""
    if len(content) > BODY - 2:
        raise ValueError("content does not fit a cell")
    head = struct.pack(">IBH", circuit_id, command, len(content))
    return (head + content).ljust(CELL, b"\0")


def pack_destroy(circuit_id: int, reason: int) -> bytes:
    """Return a DESTROY cell."""
    return struct.pack(">IBB", circuit_id, Command.DESTROY, reason).ljust(CELL, b"\0")


def cell_content(cell: memoryview) -> bytes:
    """Return the content of a cell that carries `length u16 ‖ content`, or raise."""
    length = int.from_bytes(cell[HEADER : HEADER + 2], "big")
    if length > BODY - 2:
        raise ProtocolError("a cell's content is longer than its body")
    return bytes(cell[HEADER + 2 : HEADER + 2 + length])
