"""How the messages of held sessions, and fields about them, are read (spec/08 §2).

Each takes its fields out of a record, or raises `ProtocolError`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

from fogbank.relay.codec import Record
from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.held.messages import (
    HELD_TASKS,
    JOB_KEY_SIZE,
    SEALING_KEY_SIZE,
    TICKET_SIZE,
    Ack,
    Hold,
    Resume,
    Resumed,
)
from fogbank.relay.job.held.sealing import Sealed, sealed_size
from fogbank.relay.job.items import member, number
from fogbank.relay.job.kinds import TASK_ID_MAX, ModulePlace, State
from fogbank.sandbox.limits import CEILINGS
from fogbank.sandbox.task import INPUT_SIZE

_SEALED_MAX: Final = sealed_size(2 * CEILINGS.output)


def read_hold(record: Record) -> Hold:
    """Read HOLD."""
    ticket, key = record.fixed(1, TICKET_SIZE), record.fixed(2, SEALING_KEY_SIZE)
    durable = record.has(3)
    if durable and not record.flag(3):
        raise ProtocolError("a hold that says that it is not durable")
    return Hold(ticket, key, durable)


def read_resume(record: Record) -> Resume:
    """Read RESUME."""
    resume = Resume(record.fixed(1, TICKET_SIZE), record.array(2, HELD_TASKS, _offset))
    _require_ascending([task for task, _ in resume.have])
    return resume


def read_resumed(record: Record) -> Resumed:
    """Read RESUMED."""
    place = member(ModulePlace, record.uint(1, TASK_ID_MAX))
    arriving = _read_arriving(record.record(3)) if record.has(3) else None
    resumed = Resumed(place, record.array(2, HELD_TASKS, _task), arriving)
    _require_ascending([task for task, _ in resumed.tasks])
    if arriving is not None and arriving[0] in dict(resumed.tasks):
        raise ProtocolError("a resumed task that is here and is still to come")
    return resumed


def _read_arriving(record: Record) -> tuple[int, int]:
    arriving = record.uint(1, TASK_ID_MAX, 1), record.uint(2, INPUT_SIZE, 1)
    record.done()
    return arriving


def read_ack(record: Record) -> Ack:
    """Read ACK."""
    return Ack(record.uint(1, TASK_ID_MAX, 1))


def read_sealed(record: Record, plain: int) -> Sealed:
    """Read what is sealed of an output of `plain` bytes."""
    size = record.uint(1, _SEALED_MAX)
    sealed = Sealed(size, record.uint(2, size))
    record.done()
    if size != sealed_size(plain):
        raise ProtocolError("a sealed output is not as long as what is in it makes it")
    return sealed


def read_job_key(record: Record, key: int) -> bytes | None:
    """Read a job's key, if there is one."""
    return record.fixed(key, JOB_KEY_SIZE) if record.has(key) else None


def _offset(value: Any) -> tuple[int, int]:
    match value:
        case [task, offset] if 0 < number(task) <= TASK_ID_MAX and number(offset) <= _SEALED_MAX:
            return task, offset
    raise ProtocolError("a resumption holds something else than tasks and offsets")


def _task(value: Any) -> tuple[int, State]:
    match value:
        case [task, state] if 0 < number(task) <= TASK_ID_MAX:
            return task, member(State, number(state))
    raise ProtocolError("a resumed session holds something else than tasks and their states")


def _require_ascending(tasks: list[int]) -> None:
    if any(one >= other for one, other in pairwise(tasks)):
        raise ProtocolError("a resumed session's tasks do not ascend")
