"""The messages of a job's session and their one encoding (spec/08 §2).

`decode_from_client` and `decode_from_worker` turn the hostile bytes of one message into one of the
classes here, or raise `ProtocolError`. What a message's attachments hold is not known here, only
how long they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Final, TypeAlias, TypeVar

from fogbank.relay.codec import Record, Value, bytes_item, decode_record, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.errors import Cause
from fogbank.sandbox.limits import CEILINGS, MODULE_SIZE, PAGE, Limits
from fogbank.sandbox.outcome import REASON_CHARACTERS, REFUSALS, Outcome
from fogbank.sandbox.task import FILES_COUNT, INPUT_SIZE, PATH_SIZE, SEED_SIZE

VERSION: Final = 2
MESSAGE_SIZE: Final = 65536
"""The longest message, in bytes, without its attachments."""
HASH_SIZE: Final = 32
TASK_ID_MAX: Final = 2**32 - 1

_REASON_BYTES: Final = 4 * REASON_CHARACTERS
_ENGINE_SIZE: Final = 128
_VERSIONS: Final = 16
_COUNT_MAX: Final = 2**32 - 1
_RUN_TIME_MAX: Final = 31
_FUEL_BITS: Final = 6
_STRINGS_COUNT: Final = 4096
_RUNTIMES: Final = 32

_T = TypeVar("_T")


SERVICE: Final = "job"
"""The name of the service that sessions are streams of (spec/08 §1)."""


class Kind(IntEnum):
    """What a message is: its key 0."""

    HELLO = 1
    OFFER = 2
    MODULE = 3
    ACCEPTED = 4
    REFUSED = 5
    TASK = 6
    STATE = 7
    RESULT = 8
    CANCEL = 9
    GRANT = 16


class State(IntEnum):
    """Where a task is. This version has these; its ends are results and refusals."""

    QUEUED = 1
    RUNNING = 2
    PAUSED = 3


@dataclass(frozen=True, slots=True)
class Hello:
    """A client's first word: the session versions that it speaks, ascending."""

    versions: tuple[int, ...] = (VERSION,)
    attachments: ClassVar[tuple[int, ...]] = ()

    def encode(self) -> bytes:
        """Encode."""
        return encode({0: Kind.HELLO, 1: list(self.versions)})


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a worker is: places for jobs, those taken, jobs that wait for one."""

    places: int
    taken: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Offer:
    """What a worker grants one session.

    `ceilings`: the most that a task may ask for. `module`, `input_size`: bytes. `tasks`: how many
    may be unanswered. `runtimes`: digests of those held here. `floor`: fuel per second of CPU time,
    0 for none.
    """

    engine: str
    ceilings: Limits
    module: int
    input_size: int
    tasks: int
    load: Load
    runtimes: tuple[bytes, ...] = ()
    floor: int = 0
    version: int = VERSION
    attachments: ClassVar[tuple[int, ...]] = ()

    def encode(self) -> bytes:
        """Encode."""
        load = {1: self.load.places, 2: self.load.taken, 3: self.load.waiting}
        fields: dict[int, Value] = {0: Kind.OFFER, 1: self.version, 2: self.engine, 7: load}
        fields |= {3: _limits_value(self.ceilings), 4: self.module, 5: self.input_size}
        return encode({**fields, 6: self.tasks, 8: self.runtimes, 9: self.floor})


@dataclass(frozen=True, slots=True)
class ModuleHead:
    """Announces the module, by its SHA-256 and its length; or names a runtime, with a size of 0."""

    sha256: bytes
    size: int

    @property
    def is_runtime(self) -> bool:
        """Whether the worker is to take a runtime that it holds."""
        return not self.size

    @property
    def attachments(self) -> tuple[int, ...]:
        """The lengths of what follows."""
        return () if self.is_runtime else (self.size,)

    def encode(self) -> bytes:
        """Encode."""
        fields: dict[int, Value] = {0: Kind.MODULE, 1: self.sha256, 2: self.size}
        return encode({**fields, 3: True} if self.is_runtime else fields)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The module is compiled and has its process."""

    attachments: ClassVar[tuple[int, ...]] = ()

    def encode(self) -> bytes:
        """Encode."""
        return encode({0: Kind.ACCEPTED})


@dataclass(frozen=True, slots=True)
class Refused:
    """The session, or the task `task` of it, is refused; `outcome` is there for a module."""

    cause: Cause
    reason: str
    task: int | None = None
    outcome: Outcome | None = None
    attachments: ClassVar[tuple[int, ...]] = ()

    def encode(self) -> bytes:
        """Encode."""
        fields: dict[int, Value] = {0: Kind.REFUSED, 1: self.cause, 2: self.reason}
        if self.task is not None:
            fields[3] = self.task
        if self.outcome is not None:
            fields[4] = self.outcome
        return encode(fields)


@dataclass(frozen=True, slots=True)
class TaskHead:
    """A task without its bytes: `files` are pairs of a path and a length.

    `granted`: fuel that it may use at first; None if all that its limit allows.
    """

    id: int
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, int], ...]
    stdin: int
    limits: Limits
    seed: bytes
    granted: int | None = None

    @property
    def attachments(self) -> tuple[int, ...]:
        """The lengths of what follows: stdin, then each file."""
        return (self.stdin, *(length for _, length in self.files))

    @property
    def input_size(self) -> int:
        """Bytes of stdin and files together."""
        return sum(self.attachments)

    def encode(self) -> bytes:
        """Encode."""
        fields: dict[int, Value] = {0: Kind.TASK, 1: self.id, 2: list(self.args)}
        fields[3] = [list(pair) for pair in self.env]
        fields[4] = [list(pair) for pair in self.files]
        if self.granted is not None:
            fields[13] = self.granted
        limits = _limits_value(self.limits)
        return encode({**fields, 5: self.stdin, 6: limits, 7: self.seed})


@dataclass(frozen=True, slots=True)
class TaskState:
    """Where the task `task` is, or the module (0), and why.

    `fuel`: what the task has used so far, there while it runs or is paused.
    """

    task: int
    state: State
    reason: str = ""
    fuel: int | None = None
    attachments: ClassVar[tuple[int, ...]] = ()

    def encode(self) -> bytes:
        """Encode."""
        fields: dict[int, Value] = {0: Kind.STATE, 1: self.task, 2: self.state, 3: self.reason}
        return encode(fields if self.fuel is None else {**fields, 4: self.fuel})


@dataclass(frozen=True, slots=True)
class ResultHead:
    """How a task ended, without its output: `stdout` and `stderr` are lengths.

    `run_time` is the least e with the run time below 2^e ms.
    """

    task: int
    outcome: Outcome
    exit_code: int | None
    fuel: int
    run_time: int
    stdout: int
    stderr: int
    reason: str

    @property
    def attachments(self) -> tuple[int, ...]:
        """The lengths of what follows."""
        return (self.stdout, self.stderr)

    def encode(self) -> bytes:
        """Encode."""
        fields: dict[int, Value] = {0: Kind.RESULT, 1: self.task, 2: self.outcome}
        if self.exit_code is not None:
            fields[3] = self.exit_code
        fields |= {4: self.fuel, 5: self.run_time, 6: self.stdout, 7: self.stderr}
        return encode({**fields, 8: self.reason})


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the task `task`."""

    task: int
    attachments: ClassVar[tuple[int, ...]] = ()

    def encode(self) -> bytes:
        """Encode."""
        return encode({0: Kind.CANCEL, 1: self.task})


@dataclass(frozen=True, slots=True)
class Grant:
    """Let the task `task` use `fuel` in all."""

    task: int
    fuel: int
    attachments: ClassVar[tuple[int, ...]] = ()

    def encode(self) -> bytes:
        """Encode."""
        return encode({0: Kind.GRANT, 1: self.task, 2: self.fuel})


FromClient: TypeAlias = Hello | ModuleHead | TaskHead | Cancel | Grant
FromWorker: TypeAlias = Offer | Accepted | Refused | TaskState | ResultHead


def decode_from_client(data: bytes) -> FromClient:
    """Decode a message that a client may send; raise `ProtocolError` for anything else."""
    return _decode(data, _FROM_CLIENT)


def decode_from_worker(data: bytes) -> FromWorker:
    """Decode a message that a worker may send; raise `ProtocolError` for anything else."""
    return _decode(data, _FROM_WORKER)


def run_time_bucket(seconds: float) -> int:
    """Return the least e from 0 to 31 with `seconds` below 2^e ms, the run time that is told."""
    return min(int(seconds * 1000).bit_length(), _RUN_TIME_MAX)


def told_fuel(fuel: int) -> int:
    """Return the fuel that is told of a running task: its 6 highest bits, the others 0."""
    lower = max(fuel.bit_length() - _FUEL_BITS, 0)
    return fuel >> lower << lower


def wire_exit_code(code: int) -> int:
    """Return the 8 bits of a program's exit code that are told; a failure stays one."""
    return code & 0xFF or int(code != 0)


def _decode(data: bytes, readers: dict[int, Callable[[Record], _T]]) -> _T:
    record = decode_record(data, MESSAGE_SIZE, "a job's message")
    kind = record.uint(0, _COUNT_MAX)
    if kind not in readers:
        raise ProtocolError(f"a job's message of kind {kind}, which may not come here")
    message = readers[kind](record)
    record.done()
    return message


def _read_hello(record: Record) -> Hello:
    versions = record.array(1, _VERSIONS, _number)
    if not versions or list(versions) != sorted(set(versions)) or versions[-1] >= 1 << 16:
        raise ProtocolError("a job's hello holds no ascending list of versions")
    return Hello(versions)


def _read_offer(record: Record) -> Offer:
    load = record.record(7)
    offer = Offer(
        version=record.uint(1, (1 << 16) - 1),
        engine=record.text(2, _ENGINE_SIZE),
        ceilings=_read_limits(record.record(3)),
        module=record.uint(4, MODULE_SIZE),
        input_size=record.uint(5, _COUNT_MAX),
        tasks=record.uint(6, _COUNT_MAX, 1),
        load=Load(*(load.uint(key, _COUNT_MAX) for key in (1, 2, 3))),
        runtimes=record.array(8, _RUNTIMES, bytes_item(HASH_SIZE, HASH_SIZE)),
        floor=record.uint(9, CEILINGS.fuel),
    )
    load.done()
    return offer


def _read_module(record: Record) -> ModuleHead:
    head = ModuleHead(record.fixed(1, HASH_SIZE), record.uint(2, MODULE_SIZE))
    if head.is_runtime != (record.has(3) and record.flag(3)):
        raise ProtocolError("a job's module is neither a runtime nor of any length")
    return head


def _read_accepted(_: Record) -> Accepted:
    return Accepted()


def _read_refused(record: Record) -> Refused:
    cause = _member(Cause, record.uint(1, _COUNT_MAX))
    reason = _read_reason(record, 2)
    task = record.uint(3, TASK_ID_MAX, 1) if record.has(3) else None
    outcome = _member(Outcome, record.uint(4, _COUNT_MAX)) if record.has(4) else None
    wants_outcome = cause is Cause.MODULE
    if (outcome in REFUSALS) != wants_outcome or (outcome is not None) != wants_outcome:
        raise ProtocolError("a refusal's outcome does not fit its cause")
    if (cause is Cause.TASK and task is None) or (task is not None and cause not in _OF_A_TASK):
        raise ProtocolError("a refusal's cause does not fit what it refuses")
    return Refused(cause, reason, task, outcome)


def _read_task(record: Record) -> TaskHead:
    head = TaskHead(
        id=record.uint(1, TASK_ID_MAX, 1),
        args=record.array(2, _STRINGS_COUNT, _string),
        env=record.array(3, _STRINGS_COUNT, _variable),
        files=record.array(4, FILES_COUNT, _file),
        stdin=record.uint(5, INPUT_SIZE),
        limits=_read_limits(record.record(6)),
        seed=record.fixed(7, SEED_SIZE),
        granted=record.uint(13, CEILINGS.fuel) if record.has(13) else None,
    )
    if head.granted is not None and head.granted >= head.limits.fuel:
        raise ProtocolError("a task that says apart that all its fuel is granted")
    if head.input_size > INPUT_SIZE:
        raise ProtocolError(f"a task with {head.input_size} bytes of input is over the limit")
    return head


def _read_state(record: Record) -> TaskState:
    task = record.uint(1, TASK_ID_MAX)
    state = _member(State, record.uint(2, _COUNT_MAX))
    fuel = record.uint(4, CEILINGS.fuel) if record.has(4) else None
    if (fuel is not None) != (task > 0 and state is not State.QUEUED):
        raise ProtocolError("a state's fuel does not fit it")
    if task == 0 and state is State.PAUSED:
        raise ProtocolError("a module cannot be paused")
    return TaskState(task, state, _read_reason(record, 3), fuel)


def _read_result(record: Record) -> ResultHead:
    outcome = _member(Outcome, record.uint(2, _COUNT_MAX))
    if record.has(3) != (outcome is Outcome.COMPLETED):
        raise ProtocolError("a result's exit code does not fit its outcome")
    return ResultHead(
        task=record.uint(1, TASK_ID_MAX, 1),
        outcome=outcome,
        exit_code=record.uint(3, 255) if record.has(3) else None,
        fuel=record.uint(4, CEILINGS.fuel),
        run_time=record.uint(5, _RUN_TIME_MAX),
        stdout=record.uint(6, CEILINGS.output),
        stderr=record.uint(7, CEILINGS.output),
        reason=_read_reason(record, 8),
    )


def _read_cancel(record: Record) -> Cancel:
    return Cancel(record.uint(1, TASK_ID_MAX, 1))


def _read_grant(record: Record) -> Grant:
    return Grant(record.uint(1, TASK_ID_MAX, 1), record.uint(2, CEILINGS.fuel, 1))


_FROM_CLIENT: dict[int, Callable[[Record], FromClient]] = {
    Kind.HELLO: _read_hello,
    Kind.MODULE: _read_module,
    Kind.TASK: _read_task,
    Kind.CANCEL: _read_cancel,
    Kind.GRANT: _read_grant,
}
_FROM_WORKER: dict[int, Callable[[Record], FromWorker]] = {
    Kind.OFFER: _read_offer,
    Kind.ACCEPTED: _read_accepted,
    Kind.REFUSED: _read_refused,
    Kind.STATE: _read_state,
    Kind.RESULT: _read_result,
}
_OF_A_TASK = frozenset({Cause.BUSY, Cause.LIMITS, Cause.TASK})


def _limits_value(limits: Limits) -> dict[int, Value]:
    # Up to the next whole millisecond, but not because of the last bits of a float.
    wall = max(1, math.ceil(round(limits.wall_seconds * 1000, 6)))
    return {1: limits.fuel, 2: limits.memory, 3: wall, 4: limits.output}


def _read_limits(record: Record) -> Limits:
    limits = Limits(
        fuel=record.uint(1, CEILINGS.fuel, 1),
        memory=record.uint(2, CEILINGS.memory, PAGE),
        wall_seconds=record.uint(3, int(CEILINGS.wall_seconds * 1000), 1) / 1000,
        output=record.uint(4, CEILINGS.output),
    )
    record.done()
    return limits


def _read_reason(record: Record, key: int) -> str:
    reason = record.text(key, _REASON_BYTES)
    if len(reason) > REASON_CHARACTERS:
        raise ProtocolError("a reason is too long")
    return reason


def _member(kind: Callable[[int], _T], number: int) -> _T:
    try:
        return kind(number)
    except ValueError:
        raise ProtocolError(f"a job's message holds the unknown number {number}") from None


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ProtocolError("a job's message holds something else than a number")
    return value


def _string(value: Any) -> str:
    if type(value) is not str or "\0" in value:
        raise ProtocolError("a task holds something else than a text without NUL")
    return value


def _variable(value: Any) -> tuple[str, str]:
    match value:
        case [name, content]:
            return _string(name), _string(content)
    raise ProtocolError("a task's environment holds something else than pairs")


def _file(value: Any) -> tuple[str, int]:
    match value:
        case [path, length]:
            name = _string(path)
            if len(name.encode()) > PATH_SIZE or _number(length) > INPUT_SIZE:
                raise ProtocolError("a task's file is out of bounds")
            return name, length
    raise ProtocolError("a task's files hold something else than pairs")
