"""The tasks of an array that wait for a worker (spec/11 §3). Pure."""

from __future__ import annotations

from collections import deque

from fogbank.client.scheduling.records import Unfinished, Worker

_SCAN = 16
"""How many waiting tasks are looked at for one that may run at a worker."""


class Waiting:
    """Those that no lane has, in the order in which they are to run."""

    def __init__(self) -> None:
        self._tasks: deque[Unfinished] = deque()

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Unfinished) -> None:
        """Put a task behind the others."""
        self._tasks.append(task)

    def put_back(self, task: Unfinished) -> None:
        """Put a task before the others."""
        self._tasks.appendleft(task)

    def take(self, worker: Worker, most_tries: float) -> Unfinished | None:
        """Take the first one that may run at a worker, and failed less than `most_tries` times."""
        for place, task in zip(range(_SCAN), self._tasks, strict=False):
            if task.tries < most_tries and worker not in task.avoid:
                del self._tasks[place]
                return task
        return None

    def forgive(self) -> None:
        """Let all go even where they failed before."""
        for task in self._tasks:
            task.avoid.clear()

    def clear(self) -> None:
        """Forget all."""
        self._tasks.clear()
