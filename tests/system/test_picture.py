import struct
import zlib

import pytest

from fogbank.demo.picture import PIXEL, Tile, assemble, png, tiles


def test_tiles_cover_the_picture_once() -> None:
    cut = tiles(12, 8, 3, 2)
    covered = {
        (x, y)
        for tile in cut
        for x in range(tile.left, tile.left + tile.width)
        for y in range(tile.top, tile.top + tile.height)
    }
    assert len(cut) == 6
    assert covered == {(x, y) for x in range(12) for y in range(8)}
    assert sum(tile.size for tile in cut) == 12 * 8 * PIXEL


def test_a_picture_that_tiles_do_not_fill_is_refused() -> None:
    with pytest.raises(ValueError, match="no multiple"):
        tiles(10, 8, 3, 2)


def test_pixels_land_where_their_tile_is() -> None:
    width, height = 6, 4
    whole = bytes(range(width * height * PIXEL))

    def part(tile: Tile) -> bytes:
        rows = range(tile.top, tile.top + tile.height)
        at = [(row * width + tile.left) * PIXEL for row in rows]
        return b"".join(whole[begin : begin + tile.width * PIXEL] for begin in at)

    assert assemble(width, height, {tile: part(tile) for tile in tiles(6, 4, 2, 2)}) == whole


def test_a_tile_of_wrong_size_is_refused() -> None:
    with pytest.raises(ValueError, match="instead of"):
        assemble(2, 2, {Tile(0, 0, 2, 2): b"short"})


def test_the_png_decodes_to_its_pixels() -> None:
    pixels = bytes(range(2 * 3 * PIXEL))
    data = png(2, 3, pixels)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (check,) = struct.unpack_from(">I", data, at + 8 + length)
        assert check == zlib.crc32(kind + body)
        chunks[kind] = body
        at += length + 12
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (2, 3, 8, 2, 0, 0, 0)
    rows = zlib.decompress(chunks[b"IDAT"])
    assert b"".join(rows[at + 1 : at + 7] for at in range(0, len(rows), 7)) == pixels
