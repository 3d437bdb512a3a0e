"""Canonical CBOR with bounds: the one way bytes become values (spec/01 §1).

`decode` turns hostile bytes into plain values or raises `ProtocolError`; `Record` then takes a
map apart field by field, so that a reader states each field's type and bound, and ends with
`done()`, which refuses what nobody asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias, TypeVar

import cbor2

from fogbank.relay.errors import ProtocolError

Value: TypeAlias = "int | bytes | str | bool | Sequence[Value] | Mapping[int, Value] | None"

MAX_DEPTH = 16
MAX_UINT = 2**64 - 1
MAX_KEY = 2**32 - 1

UINT, BYTES, ARRAY, MAP = 0, 2, 4, 5
"""Major types of CBOR."""
_STRINGS = (BYTES, 3)
_ONE_BYTE, _EIGHT_BYTES = 24, 27

_T = TypeVar("_T")


def _refuse_tag(*_: Any) -> NoReturn:
    raise ProtocolError("a CBOR tag stands where none is allowed")


# cbor2 decodes these itself, some at great cost (35 compiles a regular expression); the rest
# go to tag_hook.
_KNOWN_TAGS = (
    *range(6), 25, 28, 29, 30, 35, 36, 37, 43, 100, 256, 258, 260, 261, 1004, 43000, 55799,
)  # fmt: skip
_REFUSE_TAGS = dict.fromkeys(_KNOWN_TAGS, _refuse_tag)


def _refuse_kind(_: Any, value: Any) -> NoReturn:
    raise ProtocolError(f"a CBOR {type(value).__name__} stands where none is allowed")


# Met when a decoded document is encoded again.
_REFUSE_KINDS: dict[type, Any] = dict.fromkeys(
    (float, cbor2.CBORSimpleValue, type(cbor2.undefined)), _refuse_kind
)


def _check_keys(fields: Mapping[Any, Any], _: bool) -> Mapping[Any, Any]:
    last = -1
    for key in fields:
        if type(key) is not int or not 0 <= key <= MAX_KEY:
            raise ProtocolError("a map has a key that is not a small unsigned integer")
        if key <= last:
            raise ProtocolError("a document is not in canonical form")
        last = key
    return fields


def encode(value: Value) -> bytes:
    """Return the one canonical encoding of `value`."""
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes | memoryview, limit: int, items: int | None = None) -> Any:
    """Decode canonical CBOR of at most `limit` bytes; raise `ProtocolError` for anything else.

    An empty array is one byte on the wire and 70 in memory: whoever takes long documents says how
    many `items` one may have, each array, map, key and element counted.
    """
    if len(data) > limit:
        raise ProtocolError(f"a document of {len(data)} bytes is over its limit of {limit}")
    data = bytes(data)
    if items is not None and len(data) > items:
        _count(data, items)
    try:
        value = cbor2.loads(
            data,
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            tag_hook=_refuse_tag,
            object_hook=_check_keys,
            semantic_decoders=_REFUSE_TAGS,
        )
        # Keys are in order: sorting them again would be most of the work.
        canonical = cbor2.dumps(value, encoders=_REFUSE_KINDS)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ProtocolError("a document is not CBOR as spec/01 has it") from error
    if canonical != data:
        raise ProtocolError("a document is not in canonical form")
    return value


def _count(data: bytes, most: int) -> None:
    """Refuse more than `most` items, going from head to head; their order is not looked at."""
    at, end = 0, len(data)
    for _ in range(most):
        if at >= end:
            return
        kind, argument, at = _head(data, at)
        if kind in _STRINGS:
            at += argument
    if at < end:
        raise ProtocolError(f"a document has more than {most} parts")


def _head(data: bytes | memoryview, at: int) -> tuple[int, int, int]:
    """Return an item's major type, its argument, and where its head ends."""
    first = data[at]
    short, at = first & 31, at + 1
    if short < _ONE_BYTE:
        return first >> 5, short, at
    if short > _EIGHT_BYTES:
        raise ProtocolError("a document is not CBOR as spec/01 has it")
    end = at + (1 << short - _ONE_BYTE)
    return first >> 5, int.from_bytes(data[at:end], "big"), end


def read_head(data: bytes | memoryview, at: int, kind: int) -> tuple[int, int]:
    """Return the argument of the item at `at`, and where its head ends.

    For strings that are too long to be decoded and copied whole. Raises `ProtocolError` unless the
    item is of that kind (`UINT`, `BYTES`, `ARRAY`, `MAP`), and its head whole and canonical.
    """
    try:
        found, argument, end = _head(data, at)
    except IndexError as error:
        raise ProtocolError("a document is cut off") from error
    if found != kind or bytes(data[at:end]) != make_head(kind, argument):
        raise ProtocolError("a document is not in canonical form, or of another kind")
    return argument, end


def make_head(kind: int, argument: int) -> bytes:
    """Return the head of an item."""
    if argument < _ONE_BYTE:
        return bytes((kind << 5 | argument,))
    size = max(0, (argument.bit_length() - 1).bit_length() - 3)
    return bytes((kind << 5 | _ONE_BYTE + size,)) + argument.to_bytes(1 << size, "big")


def decode_record(
    data: bytes | memoryview, limit: int, what: str, items: int | None = None
) -> Record:
    """Decode a map of at most `limit` bytes, as `decode` does; `what` names it in errors."""
    return Record(decode(data, limit, items), what)


class Record:
    """A decoded map whose fields are taken one by one, each with its type and bound.

    Every method takes the field's key and raises `ProtocolError` if the field is absent, of
    another type, or out of bounds; `done` raises it if a field was left over.
    """

    __slots__ = ("_fields", "_what")

    def __init__(self, value: Any, what: str) -> None:
        if type(value) is not dict or any(type(key) is not int for key in value):
            raise ProtocolError(f"{what} is not a map with integer keys")
        self._fields: dict[int, Any] = dict(value)
        self._what = what

    def _take(self, key: int, kind: type[_T]) -> _T:
        value = self._fields.pop(key, _refuse_tag)
        if type(value) is not kind:
            raise ProtocolError(f"{self._what}: field {key} is not {kind.__name__}")
        return value

    def _bounded(self, key: int, ok: bool) -> None:
        if not ok:
            raise ProtocolError(f"{self._what}: field {key} is out of bounds")

    def has(self, key: int) -> bool:
        """Tell whether the field is there and was not yet taken."""
        return key in self._fields

    def uint(self, key: int, maximum: int = MAX_UINT, minimum: int = 0) -> int:
        """Take an integer between `minimum` and `maximum`, both included."""
        value = self._take(key, int)
        self._bounded(key, minimum <= value <= maximum)
        return value

    def flag(self, key: int) -> bool:
        """Take a boolean."""
        return self._take(key, bool)

    def blob(self, key: int, maximum: int, minimum: int = 0) -> bytes:
        """Take a byte string of `minimum` to `maximum` bytes."""
        value = self._take(key, bytes)
        self._bounded(key, minimum <= len(value) <= maximum)
        return value

    def fixed(self, key: int, length: int) -> bytes:
        """Take a byte string of exactly `length` bytes."""
        return self.blob(key, length, length)

    def text(self, key: int, maximum: int) -> str:
        """Take a text of at most `maximum` UTF-8 bytes without control characters."""
        value = self._take(key, str)
        self._bounded(key, len(value.encode()) <= maximum and value.isprintable())
        return value

    def array(self, key: int, maximum: int, item: Callable[[Any], _T]) -> tuple[_T, ...]:
        """Take an array of at most `maximum` items, each turned by `item` (which may raise)."""
        value = self._take(key, list)
        self._bounded(key, len(value) <= maximum)
        return tuple(item(element) for element in value)

    def value(self, key: int) -> Any:
        """Take a field of any kind, whose reader checks it; None if it is absent."""
        return self._fields.pop(key, None)

    def record(self, key: int) -> Record:
        """Take a nested map."""
        return Record(self._take(key, dict), self._what)

    def reserved(self, *keys: int) -> None:
        """Ignore fields that a page reserves for later, whatever they hold (spec/00 §3)."""
        for key in keys:
            self._fields.pop(key, None)

    def done(self) -> None:
        """Refuse fields that nobody took."""
        if self._fields:
            raise ProtocolError(f"{self._what}: field {min(self._fields)} is unknown")


def uint_item(maximum: int) -> Callable[[Any], int]:
    """Return a check for `Record.array`: an integer from 0 to `maximum`."""

    def check(value: Any) -> int:
        if type(value) is not int or not 0 <= value <= maximum:
            raise ProtocolError("an array holds something else than a bounded integer")
        return value

    return check


def bytes_item(maximum: int, minimum: int = 0) -> Callable[[Any], bytes]:
    """Return a check for `Record.array`: a byte string of `minimum` to `maximum` bytes."""

    def check(value: Any) -> bytes:
        if type(value) is not bytes or not minimum <= len(value) <= maximum:
            raise ProtocolError("an array holds something else than a bounded byte string")
        return value

    return check


def text_item(maximum: int) -> Callable[[Any], str]:
    """Return a check for `Record.array`: a printable text of at most `maximum` UTF-8 bytes."""

    def check(value: Any) -> str:
        if type(value) is not str or len(value.encode()) > maximum or not value.isprintable():
            raise ProtocolError("an array holds something else than a bounded text")
        return value

    return check
