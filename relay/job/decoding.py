"""How the messages of a job's session are read (spec/08 §2).

`decode_from_client` and `decode_from_worker` turn the hostile bytes of one message into one of the
classes of `messages`, or raise `ProtocolError`. What a message's attachments hold is not known
here, only how long they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from fogbank.relay.codec import Record, bytes_item, decode_record
from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.held.decoding import (
    read_ack,
    read_hold,
    read_job_key,
    read_resume,
    read_resumed,
    read_sealed,
)
from fogbank.relay.job.held.messages import HELD_TASKS
from fogbank.relay.job.items import member, number
from fogbank.relay.job.kinds import HASH_SIZE, MESSAGE_SIZE, TASK_ID_MAX, Kind, State
from fogbank.relay.job.messages import (
    RUN_TIME_MAX,
    Accepted,
    Cancel,
    FromClient,
    FromWorker,
    Grant,
    Hello,
    Holding,
    Load,
    ModuleHead,
    Offer,
    Pad,
    Refused,
    ResultHead,
    TaskHead,
    TaskState,
)
from fogbank.sandbox.limits import CEILINGS, MODULE_SIZE, PAGE, Limits
from fogbank.sandbox.outcome import REASON_CHARACTERS, REFUSALS, Outcome
from fogbank.sandbox.task import FILES_COUNT, INPUT_SIZE, PATH_SIZE, SEED_SIZE

_REASON_BYTES: Final = 4 * REASON_CHARACTERS
_ENGINE_SIZE: Final = 128
_VERSIONS: Final = 16
_COUNT_MAX: Final = 2**32 - 1
_STRINGS_COUNT: Final = 4096
_RUNTIMES: Final = 32
_ATTESTATION_SIZE: Final = 4096
_PAD_SIZE: Final = 1 << 28
_HOLDING_SECONDS: Final = 31 * 86400
_HOLDING_SIZE: Final = 1 << 50

_T = TypeVar("_T")


def decode_from_client(data: bytes) -> FromClient:
    """Decode a message that a client may send; raise `ProtocolError` for anything else."""
    return _decode(data, _FROM_CLIENT)


def decode_from_worker(data: bytes) -> FromWorker:
    """Decode a message that a worker may send; raise `ProtocolError` for anything else."""
    return _decode(data, _FROM_WORKER)


def _decode(data: bytes, readers: dict[int, Callable[[Record], _T]]) -> _T:
    record = decode_record(data, MESSAGE_SIZE, "a job's message")
    kind = record.uint(0, _COUNT_MAX)
    if kind not in readers:
        raise ProtocolError(f"a job's message of kind {kind}, which may not come here")
    message = readers[kind](record)
    record.done()
    return message


def _read_hello(record: Record) -> Hello:
    versions = record.array(1, _VERSIONS, number)
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
        holding=_read_holding(record.record(11)) if record.has(11) else None,
    )
    load.done()
    return offer


def _read_holding(record: Record) -> Holding:
    holding = Holding(
        seconds=record.uint(1, _HOLDING_SECONDS, 1),
        size=record.uint(2, _HOLDING_SIZE),
        tasks=record.uint(3, HELD_TASKS, 1),
    )
    record.done()
    return holding


def _read_module(record: Record) -> ModuleHead:
    digest, size = record.fixed(1, HASH_SIZE), record.uint(2, MODULE_SIZE)
    head = ModuleHead(digest, size, read_job_key(record, 4))
    named = record.has(3)
    if head.is_runtime != named or (named and not record.flag(3)):
        raise ProtocolError("a job's module is neither a runtime nor of any length")
    return head


def _read_accepted(_: Record) -> Accepted:
    return Accepted()


def _read_refused(record: Record) -> Refused:
    cause = member(Cause, record.uint(1, _COUNT_MAX))
    reason = _read_reason(record, 2)
    task = record.uint(3, TASK_ID_MAX, 1) if record.has(3) else None
    outcome = member(Outcome, record.uint(4, _COUNT_MAX)) if record.has(4) else None
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
        skipped=record.uint(14, INPUT_SIZE, 1) if record.has(14) else None,
        is_last=record.has(15),
    )
    if head.is_last and not record.flag(15):
        raise ProtocolError("a task that says that it is not the last one")
    if head.granted is not None and head.granted >= head.limits.fuel:
        raise ProtocolError("a task that says apart that all its fuel is granted")
    if head.input_size > INPUT_SIZE:
        raise ProtocolError(f"a task with {head.input_size} bytes of input is over the limit")
    if head.skipped is not None and head.skipped > head.input_size:
        raise ProtocolError("a task of whose input more is left out than there is")
    return head


def _read_state(record: Record) -> TaskState:
    task = record.uint(1, TASK_ID_MAX)
    state = member(State, record.uint(2, _COUNT_MAX))
    fuel = record.uint(4, CEILINGS.fuel) if record.has(4) else None
    if (fuel is not None) != (task > 0 and state is not State.QUEUED):
        raise ProtocolError("a state's fuel does not fit it")
    if state is State.DONE or (task == 0 and state is State.PAUSED):
        raise ProtocolError("a state in which nothing can be said to be")
    return TaskState(task, state, _read_reason(record, 3), fuel)


def _read_result(record: Record) -> ResultHead:
    outcome = member(Outcome, record.uint(2, _COUNT_MAX))
    if record.has(3) != (outcome is Outcome.COMPLETED):
        raise ProtocolError("a result's exit code does not fit its outcome")
    stdout, stderr = record.uint(6, CEILINGS.output), record.uint(7, CEILINGS.output)
    return ResultHead(
        task=record.uint(1, TASK_ID_MAX, 1),
        outcome=outcome,
        exit_code=record.uint(3, 255) if record.has(3) else None,
        fuel=record.uint(4, CEILINGS.fuel),
        run_time=record.uint(5, RUN_TIME_MAX),
        stdout=stdout,
        stderr=stderr,
        reason=_read_reason(record, 8),
        attestation=record.blob(10, _ATTESTATION_SIZE, 1) if record.has(10) else None,
        sealed=read_sealed(record.record(12), stdout + stderr) if record.has(12) else None,
    )


def _read_cancel(record: Record) -> Cancel:
    return Cancel(record.uint(1, TASK_ID_MAX))


def _read_pad(record: Record) -> Pad:
    return Pad(record.uint(1, _PAD_SIZE))


def _read_grant(record: Record) -> Grant:
    return Grant(record.uint(1, TASK_ID_MAX, 1), record.uint(2, CEILINGS.fuel, 1))


_FROM_CLIENT: dict[int, Callable[[Record], FromClient]] = {
    Kind.HELLO: _read_hello,
    Kind.MODULE: _read_module,
    Kind.TASK: _read_task,
    Kind.CANCEL: _read_cancel,
    Kind.GRANT: _read_grant,
    Kind.HOLD: read_hold,
    Kind.RESUME: read_resume,
    Kind.ACK: read_ack,
    Kind.PAD: _read_pad,
}
_FROM_WORKER: dict[int, Callable[[Record], FromWorker]] = {
    Kind.OFFER: _read_offer,
    Kind.ACCEPTED: _read_accepted,
    Kind.REFUSED: _read_refused,
    Kind.STATE: _read_state,
    Kind.RESULT: _read_result,
    Kind.RESUMED: read_resumed,
    Kind.PAD: _read_pad,
}
_OF_A_TASK = frozenset({Cause.BUSY, Cause.LIMITS, Cause.TASK, Cause.SHUTDOWN})


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
            if len(name.encode()) > PATH_SIZE or number(length) > INPUT_SIZE:
                raise ProtocolError("a task's file is out of bounds")
            return name, length
    raise ProtocolError("a task's files hold something else than pairs")
