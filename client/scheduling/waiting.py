"""The tasks of an array that wait for a worker (spec/11 §3). Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice

from fogbank.client.scheduling.records import Unfinished

_SCAN = 16
"""How many waiting tasks are looked at for one that may run at a worker, of each kind."""


class Waiting:
    """Those that no lane has, or too few; such that were begun before are taken first."""

    def __init__(self) -> None:
        # Ordered ones, since they forget their first item at once, however many there are.
        self._begun: OrderedDict[int, Unfinished] = OrderedDict()
        self._fresh: OrderedDict[int, Unfinished] = OrderedDict()

    def __len__(self) -> int:
        return len(self._begun) + len(self._fresh)

    def add(self, task: Unfinished) -> None:
        """Put a task behind the others."""
        self._fresh[task.number] = task

    def put_back(self, task: Unfinished) -> None:
        """Put a task before all others, since it has come to nothing yet."""
        self._begun[task.number] = task
        self._begun.move_to_end(task.number, last=False)

    def keep(self, task: Unfinished) -> None:
        """Put a task, which takes one more worker, behind others that were begun."""
        self._begun[task.number] = task

    def take(self, may_run: Callable[[Unfinished], bool]) -> Unfinished | None:
        """Take the first one that may run; only a few are looked at."""
        task = next(filter(may_run, self._first()), None)
        if task is not None:
            self.remove(task)
        return task

    def suits(self, may_run: Callable[[Unfinished], bool]) -> bool:
        """Tell whether `take` would take one."""
        return any(map(may_run, self._first()))

    def remove(self, task: Unfinished) -> None:
        """Forget one, if it waits."""
        self._begun.pop(task.number, None)
        self._fresh.pop(task.number, None)

    def forgive(self) -> None:
        """Let all go even where they failed before."""
        for tasks in (self._begun, self._fresh):
            for task in tasks.values():
                task.avoid.clear()

    def clear(self) -> None:
        """Forget all."""
        self._begun.clear()
        self._fresh.clear()

    def _first(self) -> Iterator[Unfinished]:
        yield from islice(self._begun.values(), _SCAN)
        yield from islice(self._fresh.values(), _SCAN)
