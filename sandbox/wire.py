"""What a sandbox and its processes say to each other (spec/07 §8).

On a process's channel: frames of a kind, a length and a body. On the launcher's control socket:
packets. What comes from a process that ran a module is hostile: lengths are bounded before a body
is read, and every body is parsed strictly; the one error is `WireError`.
"""

import enum
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fogbank.sandbox.data import PORTION, Data, portions, whole
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.meter import Reading
from fogbank.sandbox.outcome import REFUSALS, ModuleRefused, Outcome, Result, clean
from fogbank.sandbox.task import SEED_SIZE, Task

HEADER = struct.Struct(">BI")
_BLOB = struct.Struct(">I")
_LIMITS = struct.Struct(">QQdQIII")
_RESULT = struct.Struct(">BBIQQ")
_CONTROL = struct.Struct(">BIi")
PACKET_SIZE = _CONTROL.size
_READING = struct.Struct(">QQ")
_FUEL = struct.Struct(">Q")
READING_SIZE = _READING.size
GRANT_SIZE = _FUEL.size
OUTPUT_SIZE = 1 + PORTION
_MICROSECONDS = 1_000_000
INLINE = 64 << 10
"""The largest input, in bytes, that stands in the task's frame; what is larger is asked for."""
_CPU_MOST = 1 << 50
"""Microseconds of CPU time, decades, beyond which a reading is nonsense."""
REASON_SIZE = 4096
REPORT = b"\x00"
"""Begins the launcher's first packet: what the jail consists of."""
REFUSAL = b"\xff"
"""Begins it instead where there is no jail; why follows as text."""
CONTROL_SIZE = 65536
"""The longest control packet."""

_ENDINGS = frozenset(
    {
        Outcome.COMPLETED,
        Outcome.OUT_OF_FUEL,
        Outcome.TRAP,
        Outcome.OUT_OF_MEMORY,
        Outcome.OUTPUT_LIMIT,
        Outcome.INVALID_MODULE,
        Outcome.HOST_FAILURE,
    }
)


_COMPILER_REFUSALS = REFUSALS - {Outcome.UNKNOWN_RUNTIME}
"""Which runtimes there are is not known to any jailed process."""


class WireError(Exception):
    """A process said something that it never says."""


class Frame(enum.IntEnum):
    """The kinds of frame."""

    MODULE = 1
    """To a compiling process, or a job's if it is small: the binary module."""
    ARTIFACT = 2
    """From a compiling process, and to a job's: compiled code."""
    REFUSED = 3
    """From either: the module cannot be run; an outcome and a reason."""
    LOADED = 4
    """From a job's process: ready for tasks."""
    TASK = 5
    """To a job's process: run this."""
    RESULT = 6
    """From a job's process: how it ended."""
    PROGRESS = 7
    """From a job's process: a reading of the running task's meter."""
    PAUSED = 8
    """From a job's process: such a reading, and that it waits for a grant."""
    GRANT = 9
    """To a job's process that waits: how much fuel the task may have used from now on."""
    WANT = 10
    """From a job's process: the next portion of the inputs that the task's frame left out."""
    INPUT = 11
    """To a job's process: that portion."""
    OUTPUT = 12
    """From a job's process: a portion of what the program wrote, and to which of its outputs."""


class Control(enum.IntEnum):
    """The kinds of control packet."""

    JOB = 1
    """To the launcher: make a job's process, whose channel comes with the packet."""
    COMPILE = 2
    """To the launcher: make a compiling process, likewise."""
    KILL = 3
    """To the launcher: end a process now."""
    EXITED = 4
    """From the launcher: a process has ended with this wait status."""
    ZYGOTE = 5
    """To the launcher: make a process that starts a runtime, and forks in its turn."""
    TASK = 6
    """To a zygote: make a process for one task, likewise."""


_CONTROLS = {int(kind): kind for kind in Control}


@dataclass(frozen=True, slots=True)
class Packet:
    """A control packet about one process; `status` is a wait status, for EXITED alone."""

    kind: Control
    process: int
    status: int = 0


def frame(kind: Frame, body: bytes) -> bytes:
    """Encode one frame."""
    return HEADER.pack(kind, len(body)) + body


def frame_length(header: bytes, bounds: dict[Frame, int]) -> tuple[Frame, int]:
    """Decode a frame's header; only the kinds in `bounds` may come, up to that many bytes."""
    kind, length = HEADER.unpack(header)
    for expected, most in bounds.items():
        if kind == expected:
            if length > most:
                raise WireError(f"a frame of {length} bytes; at most {most} may come")
            return expected, length
    raise WireError(f"a frame of kind {kind}, which may not come now")


def encode_packet(packet: Packet) -> bytes:
    """Encode a control packet."""
    return _CONTROL.pack(packet.kind, packet.process, packet.status)


def decode_packet(data: bytes) -> Packet:
    """Decode a control packet about a process."""
    if len(data) != _CONTROL.size:
        raise WireError(f"a control packet of {len(data)} bytes")
    kind, process, status = _CONTROL.unpack(data)
    known = _CONTROLS.get(kind)
    if known is None:
        raise WireError(f"a control packet of kind {kind}")
    return Packet(known, process, status)


def encode_reading(reading: Reading) -> bytes:
    """Encode a reading; whether the task is paused is told by the kind of frame."""
    return _READING.pack(reading.fuel, round(reading.cpu_seconds * _MICROSECONDS))


def decode_reading(kind: Frame, body: bytes) -> Reading:
    """Decode a reading that came in a PROGRESS or PAUSED."""
    if len(body) != _READING.size:
        raise WireError(f"a reading of {len(body)} bytes")
    fuel, microseconds = _READING.unpack(body)
    if microseconds > _CPU_MOST:
        raise WireError("a reading after decades of CPU time")
    return Reading(fuel, microseconds / _MICROSECONDS, kind is Frame.PAUSED)


def encode_grant(fuel: int) -> bytes:
    """Encode what a task may use in all from now on."""
    return _FUEL.pack(fuel)


def decode_grant(body: bytes) -> int:
    """Decode a grant."""
    if len(body) != _FUEL.size:
        raise WireError(f"a grant of {len(body)} bytes")
    return int(_FUEL.unpack(body)[0])


def encode_task(task: Task, granted: int) -> bytes:
    """Encode a task, and how much fuel is granted to it at first; of large inputs their length."""
    limits = task.limits
    head = _LIMITS.pack(
        limits.fuel,
        limits.memory,
        limits.wall_seconds,
        limits.output,
        len(task.args),
        len(task.env),
        len(task.files),
    )
    encoded = [_blob(arg.encode()) for arg in task.args]
    for name, value in task.env:
        encoded += [_blob(name.encode()), _blob(value.encode())]
    for path, data in task.files:
        encoded += [_blob(path.encode()), _input(data)]
    encoded.append(_input(task.stdin))
    return _FUEL.pack(granted) + head + task.seed + b"".join(encoded)


def portions_of(task: Task) -> Iterator[bytes]:
    """Yield what `encode_task` left out, in the order in which it is asked for. Raises `OSError`.

    Files come before standard input, each in portions of `PORTION` bytes and a last one.
    """
    for data in (*(data for _, data in task.files), task.stdin):
        if len(data) > INLINE:
            yield from portions(data)


def decode_task(body: bytes, asked: Callable[[int], Data]) -> tuple[Task, int]:
    """Decode a task, and the fuel granted to it at first.

    `asked` makes the data of so many bytes that is to be asked for, once for each large input.
    """
    reader = _Reader(body)
    (granted,) = reader.unpack(_FUEL)
    fuel, memory, wall, output, args, env, files = reader.unpack(_LIMITS)
    seed = bytes(reader.take(SEED_SIZE))
    texts = [reader.text() for _ in range(args + 2 * env)]
    task = Task(
        args=tuple(texts[:args]),
        env=tuple(zip(texts[args::2], texts[args + 1 :: 2], strict=True)),
        files=tuple((reader.text(), reader.input(asked)) for _ in range(files)) if files else (),
        stdin=reader.input(asked),
        limits=Limits(fuel, memory, wall, output),
        seed=seed,
    )
    reader.finish()
    return task, granted


def encode_result(result: Result) -> bytes:
    """Encode a result; `seconds` is not among what a process may say."""
    code = result.exit_code
    head = _RESULT.pack(result.outcome, code is not None, code or 0, result.fuel, result.memory)
    reason = result.reason.encode("utf-8", "replace")
    return head + b"".join(map(_blob, (reason, whole(result.stdout), whole(result.stderr))))


def result_bound(limits: Limits) -> int:
    """Return the most bytes that an encoded result may have, whose outputs' ends it brings."""
    return _RESULT.size + 3 * _BLOB.size + REASON_SIZE + min(limits.output, 2 * PORTION)


def encode_output(stream: int, part: bytes | bytearray) -> bytes:
    """Encode a portion of what the program wrote to 1, stdout, or 2, stderr."""
    return bytes([stream]) + part


def decode_output(body: bytes) -> tuple[int, memoryview]:
    """Decode such a portion, which is never smaller than it may be."""
    if len(body) != OUTPUT_SIZE or body[0] not in {1, 2}:
        raise WireError(f"a portion of output of {len(body)} bytes")
    return body[0], memoryview(body)[1:]


def decode_result(body: bytes, limits: Limits) -> Result:
    """Decode what a process says about a task with these limits."""
    reader = _Reader(body)
    number, has_code, code, fuel, memory = reader.unpack(_RESULT)
    reason, stdout, stderr = reader.text(), reader.blob(), reader.blob()
    reader.finish()
    if number not in _ENDINGS or has_code > 1:
        raise WireError(f"an outcome of {number}")
    outcome = Outcome(number)
    if has_code and outcome not in {Outcome.COMPLETED, Outcome.OUT_OF_MEMORY}:
        raise WireError(f"an exit code with the outcome {outcome.name}")
    if outcome is Outcome.COMPLETED and not has_code:
        raise WireError("a completed program without an exit code")
    if fuel > limits.fuel or memory > limits.memory:
        raise WireError("a result beyond the task's limits")
    if len(stdout) + len(stderr) > limits.output:
        raise WireError("more output than the task's limit")
    return Result(
        outcome, code if has_code else None, fuel, stdout, stderr, clean(reason), memory=memory
    )


def encode_refusal(refusal: ModuleRefused) -> bytes:
    """Encode why a module cannot be run."""
    return bytes([refusal.outcome]) + refusal.reason.encode("utf-8", "replace")[:REASON_SIZE]


def decode_refusal(body: bytes) -> ModuleRefused:
    """Decode why a module cannot be run."""
    if not body or body[0] not in _COMPILER_REFUSALS:
        raise WireError("a refusal without its outcome")
    return ModuleRefused(Outcome(body[0]), clean(body[1:].decode("utf-8", "replace")))


def _blob(data: bytes) -> bytes:
    return _BLOB.pack(len(data)) + data


def _input(data: Data) -> bytes:
    return _blob(whole(data)) if len(data) <= INLINE else _BLOB.pack(len(data))


class _Reader:
    """Takes a body apart, and raises `WireError` where it does not fit."""

    def __init__(self, body: bytes) -> None:
        self._body = memoryview(body)
        self._at = 0

    def take(self, count: int) -> memoryview:
        if count > len(self._body) - self._at:
            raise WireError("a body that ends too soon")
        self._at += count
        return self._body[self._at - count : self._at]

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        return layout.unpack(self.take(layout.size))

    def blob(self) -> bytes:
        return bytes(self.take(*self.unpack(_BLOB)))

    def input(self, asked: Callable[[int], Data]) -> Data:
        (length,) = self.unpack(_BLOB)
        return bytes(self.take(length)) if length <= INLINE else asked(length)

    def text(self) -> str:
        try:
            return self.blob().decode()
        except UnicodeDecodeError:
            raise WireError("text that is not UTF-8") from None

    def finish(self) -> None:
        if self._at != len(self._body):
            raise WireError("a body that goes on after its end")
