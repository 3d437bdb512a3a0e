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


class Tasks:
    """All tasks of a run, by their names."""

    def __init__(self) -> None:
        self.logs: dict[str, TaskLog] = {}

    def begin(self, attempt: str, worker: str) -> TaskLog:
        """Take down a task that is about to be sent."""
        log = self.logs[attempt] = TaskLog(worker, trio.current_time())
        return log

    def heard(self, event: str, attempt: str) -> None:
        """Hear from a runner."""
        log = self.logs[attempt]
        match event:
            case "begin":
                log.begun += 1
            case "end":
                log.finished += 1
            case "killed":
                log.killed += 1
