"""What became of each task, as its client and its worker saw it."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio


@dataclass
class TaskLog:
    """One attempt to run one task."""

    worker: str
    since: float
    accepted: bool = False
    begun: int = 0
    finished: int = 0
    killed: int = 0
    ends: list[str] = field(default_factory=list)


@dataclass
class ArrayTaskLog:
    """One task of an array that outlives its client: what became of it over all lives."""

    begun: int = 0
    sent: int = 0
    fetched: str = ""
    """What the journal has of its result."""
    delivered: int = 0
    life: int = 0
    """In which life of its client it was delivered last."""


class Tasks:
    """All tasks of a run, by their names; those of arrays have a slash in theirs."""

    def __init__(self) -> None:
        self.logs: dict[str, TaskLog] = {}
        self.arrays: dict[str, ArrayTaskLog] = {}

    def begin(self, attempt: str, worker: str) -> TaskLog:
        """Take down a task that is about to be sent."""
        log = self.logs[attempt] = TaskLog(worker, trio.current_time())
        return log

    def array_log(self, name: str) -> ArrayTaskLog:
        """Return what is known of a task of an array."""
        return self.arrays.setdefault(name, ArrayTaskLog())

    def heard(self, event: str, attempt: str) -> None:
        """Hear from a runner."""
        if "/" in attempt:
            self.array_log(attempt).begun += event == "begin"
            return
        log = self.logs[attempt]
        match event:
            case "begin":
                log.begun += 1
            case "end":
                log.finished += 1
            case "killed":
                log.killed += 1
