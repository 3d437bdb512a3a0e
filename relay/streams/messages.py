"""Relay messages: what a hop and the origin say to each other inside the layers (spec/04 §2)."""

from __future__ import annotations

import struct
from enum import IntEnum

from fogbank.relay.cells import MESSAGE_HEADER

_HEADER = struct.Struct(">BHH")
pack_message_header = _HEADER.pack_into
unpack_message_header = _HEADER.unpack_from
_ZEROS = bytes(4096)


class RelayCommand(IntEnum):
    """What a relay message is for."""

    DROP = 0
    EXTEND = 1
    EXTENDED = 2
    REFUSED = 3
    BEGIN = 4
    CONNECTED = 5
    DATA = 6
    EOF = 7
    RESET = 8
    SENDME = 9


class ResetReason(IntEnum):
    """Why a stream was reset (spec/04 §5)."""

    PROTOCOL = 1
    REFUSED = 2
    NO_SERVICE = 3
    RESOURCES = 4
    FAILED = 5
    CANCELLED = 6


def is_drop(view: memoryview, at: int, capacity: int) -> bool:
    """Tell whether the message at `view[at]` is well-formed padding."""
    command, stream, length = unpack_message_header(view, at)
    return command == RelayCommand.DROP and not stream and length <= capacity


def write_message(
    view: memoryview, at: int, capacity: int, command: int, stream: int, data: bytes | memoryview
) -> None:
    """Write a whole message at `view[at]`: header, data, and zeros up to `capacity` data bytes."""
    pack_message_header(view, at, command, stream, len(data))
    begin = at + MESSAGE_HEADER
    end = begin + len(data)
    view[begin:end] = data
    view[end : begin + capacity] = _ZEROS[: begin + capacity - end]
