"""A picture in tiles: which there are, how they fit together, and the PNG they become."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

PIXEL = 3
"""Bytes of a pixel: red, green, blue."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TRUECOLOUR = 2


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of the picture, in pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def size(self) -> int:
        """The bytes of its pixels."""
        return self.width * self.height * PIXEL


def tiles(width: int, height: int, columns: int, rows: int) -> list[Tile]:
    """Cut a picture into `columns` by `rows` tiles, row by row."""
    if width % columns or height % rows:
        raise ValueError("the picture's size is no multiple of its tiles'")
    wide, high = width // columns, height // rows
    return [
        Tile(column * wide, row * high, wide, high)
        for row in range(rows)
        for column in range(columns)
    ]


def assemble(width: int, height: int, parts: Mapping[Tile, bytes]) -> bytes:
    """Return the whole picture's pixels, row by row; a tile of wrong size is refused."""
    pixels = bytearray(width * height * PIXEL)
    for tile, data in parts.items():
        if len(data) != tile.size:
            raise ValueError(f"a tile has {len(data)} bytes instead of {tile.size}")
        stride = tile.width * PIXEL
        for row in range(tile.height):
            at = ((tile.top + row) * width + tile.left) * PIXEL
            pixels[at : at + stride] = data[row * stride : (row + 1) * stride]
    return bytes(pixels)


def png(width: int, height: int, pixels: bytes) -> bytes:
    """Return the pixels as a PNG file (ISO/IEC 15948), 8 bits a channel."""
    stride = width * PIXEL
    rows = b"".join(b"\0" + pixels[at : at + stride] for at in range(0, len(pixels), stride))
    header = struct.pack(">IIBBBBB", width, height, 8, _TRUECOLOUR, 0, 0, 0)
    return (
        _SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(rows, 9))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
