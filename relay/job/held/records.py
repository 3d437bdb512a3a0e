"""What a held session leaves on its worker's disk: a journal of records (spec/08 §3.2).

A record is `length u32 ‖ CRC-32 u32 ‖ body`; the body is canonical CBOR, a map whose key 0 is
its kind.
`read_records` reads a journal up to its end, or up to where it is torn: what lies behind was never
told to anybody.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from fogbank.relay.codec import Record, Value, decode_record, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.decoding import decode_from_client, decode_from_worker
from fogbank.relay.job.held.messages import SEALING_KEY_SIZE
from fogbank.relay.job.held.sealing import sealed_size
from fogbank.relay.job.kinds import HASH_SIZE, MESSAGE_SIZE, TASK_ID_MAX
from fogbank.relay.job.messages import ResultHead, TaskHead
from fogbank.sandbox.limits import CEILINGS

INLINE: Final = 16 << 10
"""The most bytes of input or output that a record holds; more is in a file of its own."""
RECORD_SIZE: Final = MESSAGE_SIZE + sealed_size(INLINE) + 64
"""The most bytes of a record's body."""
_HEAD: Final = 8
_TIME_MAX: Final = 1 << 40


class _Kind(IntEnum):
    SESSION = 1
    MODULE = 2
    TASK = 3
    GRANT = 4
    END = 5
    SETTLED = 6
    LEFT = 7


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """Begins a journal: the key to which outputs are sealed."""

    key: bytes

    def fields(self) -> dict[int, Value]:
        """What is written."""
        return {0: _Kind.SESSION, 1: self.key}


@dataclass(frozen=True, slots=True)
class ModuleRecord:
    """The module is there whole, in a file of its own; or, of a runtime, its digest is enough."""

    digest: bytes
    is_runtime: bool

    def fields(self) -> dict[int, Value]:
        """What is written."""
        return {0: _Kind.MODULE, 1: self.digest, 2: self.is_runtime}


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task was taken; its input is here, or in a file of its own."""

    head: TaskHead
    inline: bytes | None = None

    def fields(self) -> dict[int, Value]:
        """What is written."""
        return _with_inline({0: _Kind.TASK, 1: self.head.encode()}, self.inline)


@dataclass(frozen=True, slots=True)
class GrantRecord:
    """A task may use so much fuel in all."""

    task: int
    fuel: int

    def fields(self) -> dict[int, Value]:
        """What is written."""
        return {0: _Kind.GRANT, 1: self.task, 2: self.fuel}


@dataclass(frozen=True, slots=True)
class EndRecord:
    """A task has ended; its sealed output, if it has one, is here, or in a file of its own."""

    head: ResultHead
    inline: bytes | None = None

    def fields(self) -> dict[int, Value]:
        """What is written."""
        return _with_inline({0: _Kind.END, 1: self.head.encode()}, self.inline)


@dataclass(frozen=True, slots=True)
class SettledRecord:
    """A task is forgotten: its result was acknowledged, or it was refused."""

    task: int

    def fields(self) -> dict[int, Value]:
        """What is written."""
        return {0: _Kind.SETTLED, 1: self.task}


@dataclass(frozen=True, slots=True)
class LeftRecord:
    """The client left, at a time in seconds since 1970; or 0, it is there again."""

    at: int

    def fields(self) -> dict[int, Value]:
        """What is written."""
        return {0: _Kind.LEFT, 1: self.at}


AnyRecord: TypeAlias = (
    SessionRecord | ModuleRecord | TaskRecord | GrantRecord | EndRecord | SettledRecord | LeftRecord
)


def encode_record(record: AnyRecord) -> bytes:
    """Return a record as it stands in a journal."""
    body = encode(record.fields())
    if len(body) > RECORD_SIZE:
        raise ValueError(f"a record of {len(body)} bytes; {RECORD_SIZE} is the most")
    return len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body


def read_records(read: Callable[[int], bytes]) -> Iterator[tuple[int, AnyRecord]]:
    """Yield each whole record and where it ends, up to the first that is not whole.

    `read` returns the next bytes of the journal, at its end fewer than were asked for.
    """
    end = 0
    while True:
        head = read(_HEAD)
        length = int.from_bytes(head[:4], "big")
        if len(head) < _HEAD or length > RECORD_SIZE:
            return
        body = read(length)
        if len(body) < length or zlib.crc32(body) != int.from_bytes(head[4:], "big"):
            return
        try:
            record = decode_body(body)
        except ProtocolError:
            return
        end += _HEAD + length
        yield end, record


def decode_body(body: bytes) -> AnyRecord:
    """Decode a record's body, or raise `ProtocolError`."""
    record = decode_record(body, RECORD_SIZE, "a held session's record")
    kind = record.uint(0, max(_Kind))
    reader = _READERS.get(kind)
    if reader is None:
        raise ProtocolError(f"a held session's record of the unknown kind {kind}")
    decoded = reader(record)
    record.done()
    return decoded


def _session(record: Record) -> SessionRecord:
    return SessionRecord(record.fixed(1, SEALING_KEY_SIZE))


def _module(record: Record) -> ModuleRecord:
    return ModuleRecord(record.fixed(1, HASH_SIZE), record.flag(2))


def _task(record: Record) -> TaskRecord:
    head = decode_from_client(record.blob(1, MESSAGE_SIZE))
    if not isinstance(head, TaskHead):
        raise ProtocolError("a held session's record holds another message than a task")
    inline = _inline(record)
    if inline is not None and len(inline) != head.input_size:
        raise ProtocolError("a held session's record holds more or less than a task's input")
    return TaskRecord(head, inline)


def _end(record: Record) -> EndRecord:
    head = decode_from_worker(record.blob(1, MESSAGE_SIZE))
    if not isinstance(head, ResultHead):
        raise ProtocolError("a held session's record holds another message than a result")
    inline = _inline(record)
    sealed = 0 if head.sealed is None else head.sealed.size
    if inline is not None and len(inline) != sealed:
        raise ProtocolError("a held session's record holds more or less than an output")
    return EndRecord(head, inline)


def _grant(record: Record) -> GrantRecord:
    return GrantRecord(record.uint(1, TASK_ID_MAX, 1), record.uint(2, CEILINGS.fuel, 1))


def _settled(record: Record) -> SettledRecord:
    return SettledRecord(record.uint(1, TASK_ID_MAX, 1))


def _left(record: Record) -> LeftRecord:
    return LeftRecord(record.uint(1, _TIME_MAX))


_READERS: Final[dict[int, Callable[[Record], AnyRecord]]] = {
    _Kind.SESSION: _session,
    _Kind.MODULE: _module,
    _Kind.TASK: _task,
    _Kind.GRANT: _grant,
    _Kind.END: _end,
    _Kind.SETTLED: _settled,
    _Kind.LEFT: _left,
}


def _inline(record: Record) -> bytes | None:
    return record.blob(2, sealed_size(INLINE)) if record.has(2) else None


def _with_inline(fields: dict[int, Value], inline: bytes | None) -> dict[int, Value]:
    return fields if inline is None else {**fields, 2: inline}
