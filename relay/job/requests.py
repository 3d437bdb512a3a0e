"""What a client asks for, as messages (spec/08 §2)."""

from __future__ import annotations

import hashlib
from typing import Final

from fogbank.relay.job.errors import Cause, JobRefused
from fogbank.relay.job.kinds import MESSAGE_SIZE
from fogbank.relay.job.messages import Load, ModuleHead, Offer, TaskHead
from fogbank.sandbox.data import Data, part_of
from fogbank.sandbox.limits import CEILINGS, MODULE_SIZE, LimitError
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.task import INPUT_SIZE, Task, TaskError

ANY_OFFER: Final = Offer("", CEILINGS, MODULE_SIZE, INPUT_SIZE, 1, Load(0, 0, 0))
"""What no worker's offer goes beyond."""


def module_head(
    module: bytes | RuntimeId, offer: Offer, key: bytes | None = None, *, is_there: bool = False
) -> tuple[ModuleHead, bytes]:
    """Return what announces a module, and what follows; raise `JobRefused` for the worker.

    `key`: what the worker keeps it under; `is_there`: for another session, already.
    """
    if isinstance(module, RuntimeId):
        if module.digest not in offer.runtimes:
            raise JobRefused(Cause.MODULE, "it does not hold the runtime any more")
        return ModuleHead(module.digest, 0), b""
    if len(module) > offer.module or not module:
        reason = f"the module has {len(module)} bytes, and it takes 1 to {offer.module}"
        raise JobRefused(Cause.LIMITS, reason)
    digest = hashlib.sha256(module).digest()
    if is_there:
        return ModuleHead(digest, 0, key), b""
    return ModuleHead(digest, len(module), key), module


def input_size(task: Task) -> int:
    """Return the bytes of a task's stdin and files."""
    return len(task.stdin) + sum(len(data) for _, data in task.files)


def inputs(task: Task, skipped: int) -> list[Data]:
    """Return a task's stdin and files, without the first bytes of all in a row."""
    rest: list[Data] = []
    for data in (task.stdin, *(data for _, data in task.files)):
        rest.append(part_of(data, skipped))
        skipped = max(skipped - len(data), 0)
    return rest


def check_task(task: Task, offer: Offer) -> None:
    """Raise `JobRefused` for the worker, if it will not take the task."""
    try:
        task.check(offer.ceilings)
    except LimitError as error:
        raise JobRefused(Cause.LIMITS, str(error)) from None
    except TaskError as error:
        raise JobRefused(Cause.TASK, str(error)) from None
    if input_size(task) > offer.input_size:
        reason = f"input and files have more than the {offer.input_size} bytes that it takes"
        raise JobRefused(Cause.LIMITS, reason)


def task_head(
    task: Task, number: int, granted: int | None, skipped: int | None, *, is_last: bool = False
) -> TaskHead:
    """Return what announces a task; raise `JobRefused` for all workers.

    `granted`: the fuel that it may use at first, None for all. `skipped`: what the worker has of
    its input already. `is_last`: no task follows.
    """
    files = tuple((path, len(data)) for path, data in task.files)
    first = granted if granted is not None and granted < task.limits.fuel else None
    strings = task.args, task.env, files
    sizes = len(task.stdin), task.limits
    head = TaskHead(number, *strings, *sizes, task.seed, first, skipped, is_last)
    if len(head.encode()) > MESSAGE_SIZE:
        reason = (
            "arguments, environment and paths have more than 64 KiB: put what is long in a file"
        )
        raise JobRefused(Cause.TASK, reason, here=True)
    return head
