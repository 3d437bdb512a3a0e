"""The messages of a job's session and their one encoding (spec/08 §2); `decoding` reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias

from fogbank.relay.codec import Value, encode
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.held.messages import Ack, Hold, Resume, Resumed
from fogbank.relay.job.held.sealing import Sealed
from fogbank.relay.job.kinds import VERSION, Kind, State
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.outcome import Outcome

RUN_TIME_MAX: Final = 31
_FUEL_BITS: Final = 6


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
class Holding:
    """What a held session may have: `seconds` after its client's leave until it is forgotten.

    `size`: bytes on the worker's disk that are left for held sessions. `tasks`: how many of one may
    be unanswered, or answered and not yet acknowledged.
    """

    seconds: int
    size: int
    tasks: int


@dataclass(frozen=True, slots=True)
class Offer:
    """What a worker grants one session.

    `ceilings`: the most that a task may ask for. `module`, `input_size`: bytes. `tasks`: how many
    may be unanswered. `runtimes`: digests of those held here. `floor`: fuel per second of CPU time,
    0 for none. `holding`: what a session that is held may have; None if none can be.
    """

    engine: str
    ceilings: Limits
    module: int
    input_size: int
    tasks: int
    load: Load
    runtimes: tuple[bytes, ...] = ()
    floor: int = 0
    holding: Holding | None = None
    version: int = VERSION
    attachments: ClassVar[tuple[int, ...]] = ()

    def encode(self) -> bytes:
        """Encode."""
        load = {1: self.load.places, 2: self.load.taken, 3: self.load.waiting}
        fields: dict[int, Value] = {0: Kind.OFFER, 1: self.version, 2: self.engine, 7: load}
        fields |= {3: _limits_value(self.ceilings), 4: self.module, 5: self.input_size}
        fields |= {6: self.tasks, 8: self.runtimes, 9: self.floor}
        held = self.holding
        if held is not None:
            fields[11] = {1: held.seconds, 2: held.size, 3: held.tasks}
        return encode(fields)


@dataclass(frozen=True, slots=True)
class ModuleHead:
    """Announces the module, by its SHA-256 and its length; or names a runtime, with a size of 0.

    `job_key`: a secret of the job, under which other sessions of it find the module here; with a
    size of 0, where this one is to find it.
    """

    sha256: bytes
    size: int
    job_key: bytes | None = None

    @property
    def is_runtime(self) -> bool:
        """Whether the worker is to take a runtime that it holds."""
        return not self.size and self.job_key is None

    @property
    def is_known(self) -> bool:
        """Whether another session of the job has brought the module."""
        return not self.size and self.job_key is not None

    @property
    def attachments(self) -> tuple[int, ...]:
        """The lengths of what follows."""
        return (self.size,) if self.size else ()

    def encode(self) -> bytes:
        """Encode."""
        fields: dict[int, Value] = {0: Kind.MODULE, 1: self.sha256, 2: self.size}
        if self.job_key is not None:
            fields[4] = self.job_key
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

    `granted`: fuel that it may use at first; None if all that its limit allows. `skipped`: so many
    bytes of its input are with the worker already, and do not follow. `is_last`: no task follows.
    """

    id: int
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, int], ...]
    stdin: int
    limits: Limits
    seed: bytes
    granted: int | None = None
    skipped: int | None = None
    is_last: bool = False

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of stdin and of each file."""
        return (self.stdin, *(length for _, length in self.files))

    @property
    def attachments(self) -> tuple[int, ...]:
        """The lengths of what follows: stdin, then each file; or the rest of all in a row."""
        return self.lengths if self.skipped is None else (self.input_size - self.skipped,)

    @property
    def input_size(self) -> int:
        """Bytes of stdin and files together."""
        return sum(self.lengths)

    def encode(self) -> bytes:
        """Encode."""
        fields: dict[int, Value] = {0: Kind.TASK, 1: self.id, 2: list(self.args)}
        fields[3] = [list(pair) for pair in self.env]
        fields[4] = [list(pair) for pair in self.files]
        if self.granted is not None:
            fields[13] = self.granted
        if self.skipped is not None:
            fields[14] = self.skipped
        if self.is_last:
            fields[15] = True
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

    `run_time` is the least e with the run time below 2^e ms. `attestation`: the worker's signature
    on it, as it is on the wire. `sealed`: the output comes as a part of one sealed stream.
    """

    task: int
    outcome: Outcome
    exit_code: int | None
    fuel: int
    run_time: int
    stdout: int
    stderr: int
    reason: str
    attestation: bytes | None = None
    sealed: Sealed | None = None

    @property
    def attachments(self) -> tuple[int, ...]:
        """The lengths of what follows."""
        if self.sealed is not None:
            return (self.sealed.left,)
        return (self.stdout, self.stderr)

    def encode(self) -> bytes:
        """Encode."""
        fields: dict[int, Value] = {0: Kind.RESULT, 1: self.task, 2: self.outcome}
        if self.exit_code is not None:
            fields[3] = self.exit_code
        fields |= {4: self.fuel, 5: self.run_time, 6: self.stdout, 7: self.stderr}
        if self.attestation is not None:
            fields[10] = self.attestation
        if self.sealed is not None:
            fields[12] = {1: self.sealed.size, 2: self.sealed.offset}
        return encode({**fields, 8: self.reason})


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the task `task`; or 0, the session that is held, for good."""

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


@dataclass(frozen=True, slots=True)
class Pad:
    """`size` bytes of 0 follow, which say nothing."""

    size: int

    @property
    def attachments(self) -> tuple[int, ...]:
        """The lengths of what follows."""
        return (self.size,)

    def encode(self) -> bytes:
        """Encode."""
        return encode({0: Kind.PAD, 1: self.size})


FromClient: TypeAlias = Hello | ModuleHead | TaskHead | Cancel | Grant | Hold | Resume | Ack | Pad
FromWorker: TypeAlias = Offer | Accepted | Refused | TaskState | ResultHead | Resumed | Pad


def run_time_bucket(seconds: float) -> int:
    """Return the least e from 0 to 31 with `seconds` below 2^e ms, the run time that is told."""
    return min(int(seconds * 1000).bit_length(), RUN_TIME_MAX)


def told_fuel(fuel: int) -> int:
    """Return the fuel that is told of a running task: its 6 highest bits, the others 0."""
    lower = max(fuel.bit_length() - _FUEL_BITS, 0)
    return fuel >> lower << lower


def wire_exit_code(code: int) -> int:
    """Return the 8 bits of a program's exit code that are told; a failure stays one."""
    return code & 0xFF or int(code != 0)


def _limits_value(limits: Limits) -> dict[int, Value]:
    # Up to the next whole millisecond, but not because of the last bits of a float.
    wall = max(1, math.ceil(round(limits.wall_seconds * 1000, 6)))
    return {1: limits.fuel, 2: limits.memory, 3: wall, 4: limits.output}
