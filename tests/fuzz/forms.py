"""The forms of inputs, for a mutator: bytes taken apart into plain values, and put together again.

Values are what CBOR has: numbers, texts, byte strings, lists and maps; TOML and JSON lack some of
them, and get what is nearest.
"""

from __future__ import annotations

import json
import tomllib
from typing import Any

import tomli_w

from fogbank.relay.codec import encode
from tests.fuzz.kinds import Form
from tests.fuzz.signing import parsed

_LENGTH = 4
_HEAD = 8
"""Bytes before a module's first section: a word that names the format, and its version."""
_CODE = 10


def taken_apart(data: bytes, form: Form) -> Any:  # noqa: PLR0911 -- a table
    """Return the value that an input encodes, or None if it encodes none."""
    try:
        match form:
            case Form.CBOR:
                return parsed(data)
            case Form.JSON:
                return json.loads(data)
            case Form.TOML:
                return tomllib.loads(data.decode())
            case Form.FRAMES:
                return _frames(data)
            case Form.WASM:
                return _sections(data)
            case Form.BYTES:
                return None
    except (ValueError, RecursionError):
        return None


def put_together(value: Any, form: Form) -> bytes | None:  # noqa: PLR0911 -- a table
    """Return the input that encodes a value, or None if there is none."""
    try:
        match form:
            case Form.CBOR:
                return encode(value)
            case Form.JSON:
                return json.dumps(_textual(value)).encode()
            case Form.TOML:
                return tomli_w.dumps(_textual(value)).encode()
            case Form.FRAMES:
                return _joined(value)
            case Form.WASM:
                return _module(value)
            case Form.BYTES:
                return None
    except (ValueError, TypeError, OverflowError, RecursionError, AttributeError):
        return None


def _textual(value: Any) -> Any:
    """Return a value as JSON and TOML can hold it."""
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {str(key): _textual(item) for key, item in value.items() if item is not None}
        case list():
            return [_textual(item) for item in value if item is not None]
        case _:
            return value


def _frames(data: bytes) -> list[Any] | None:
    """Read frames: documents, each wrapped in a byte string, and what stands between them."""
    parts: list[Any] = []
    between = bytearray()
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + _LENGTH], "big")
        document = data[at + _LENGTH : at + _LENGTH + length]
        if 0 < length == len(document) and isinstance(parsed(document), dict):
            parts += [["between", bytes(between)], ["frame", document]]
            between.clear()
            at += _LENGTH + length
        else:
            between.append(data[at])
            at += 1
    parts.append(["between", bytes(between)])
    return parts


def _joined(parts: Any) -> bytes:
    joined = bytearray()
    for part in parts:
        match part:
            case ["frame", bytes(document)]:
                joined += len(document).to_bytes(_LENGTH, "big") + document
            case [_, bytes(between)]:
                joined += between
            case _:
                joined += encode(part)
    return bytes(joined)


def _sections(data: bytes) -> list[Any]:
    """Return a module's head and sections; raise ValueError if their lengths do not fit."""
    module: list[Any] = [data[:_HEAD]]
    at = _HEAD
    while at < len(data):
        kind = data[at]
        content, at = _counted(data, at + 1)
        module.append([kind, _bodies(content) if kind == _CODE else content])
    return module


def _bodies(content: bytes) -> list[bytes]:
    count, at = _number(content, 0)
    bodies = []
    for _ in range(count):
        body, at = _counted(content, at)
        bodies.append(body)
    if at != len(content):
        raise ValueError("a code section that goes on")
    return bodies


def _module(value: Any) -> bytes:
    head, *sections = value
    module = bytearray()
    module += head
    for kind, content in sections:
        if isinstance(content, list):
            bodies = b"".join(_leb(len(body)) + body for body in content)
            content = _leb(len(content)) + bodies  # noqa: PLW2901
        module += bytes([kind]) + _leb(len(content)) + content
    return bytes(module)


def _counted(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = _number(data, at)
    if size > len(data) - at:
        raise ValueError("a part that ends too soon")
    return data[at : at + size], at + size


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Read a LEB128 number, and say where it ends."""
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 128:
            return value, at
    raise ValueError("a number that does not end")


def _leb(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])
