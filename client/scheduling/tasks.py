"""The tasks of an array and their ends (spec/11 §1, §2). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from fogbank.client.scheduling.words import Ending, Reply
from fogbank.client.verification.words import Checked
from fogbank.relay.job.client_tasks import TaskResult
from fogbank.relay.keys import NodeId
from fogbank.sandbox.task import Task


@dataclass(frozen=True, slots=True)
class ArrayTask:
    """One task. `size`: the bytes that are its own, and not shared with others."""

    number: int
    task: Task
    size: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What an attempt came to, at a worker of that name; `checked` if its attestation was seen."""

    value: TaskResult | Exception | None
    worker: str = ""
    seconds: float = 0.0
    checked: Checked | None = None


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How a task ended: with a result if the ending is DONE, else perhaps with an error.

    `worker` is the nickname of who answered last, or empty. `seconds` is
    how long that took, as the client saw it. `replies` are all that workers answered, `wrong` those
    workers whose answer was proven wrong by others'.
    """

    number: int
    task: Task
    ending: Ending
    result: TaskResult | None = None
    error: Exception | None = None
    worker: str = ""
    seconds: float = 0.0
    replies: tuple[Reply, ...] = ()
    wrong: tuple[NodeId, ...] = ()
