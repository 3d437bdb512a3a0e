"""The tasks of an array and their ends (spec/11 §1, §2). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from fogbank.client.scheduling.words import Ending
from fogbank.relay.job.client_session import TaskResult
from fogbank.sandbox.task import Task


@dataclass(frozen=True, slots=True)
class ArrayTask:
    """One task. `size`: the bytes that are its own, and not shared with others."""

    number: int
    task: Task
    size: int = 0


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How a task ended: with a result if the ending is DONE, else perhaps with an error.

    `worker` is the nickname of who answered last, or empty. `seconds` is
    how long that took, as the client saw it.
    """

    number: int
    task: Task
    ending: Ending
    result: TaskResult | None = None
    error: Exception | None = None
    worker: str = ""
    seconds: float = 0.0
