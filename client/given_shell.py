"""The tasks that an array was given and that have not ended (spec/11 §1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from fogbank.client.scheduling.tasks import ArrayTask

HELD: Final = 256 << 20
"""Bytes of input of tasks that have not ended, beyond which no more are asked for."""


class Source(Protocol):
    """Where tasks come from."""

    async def next(self) -> ArrayTask | None:
        """Return the next task, or None if there are no more."""


class GivenTasks:
    """Those of a source. `all_given`: there are no more."""

    def __init__(self, source: Source) -> None:
        self.all_given = False
        self._source = source
        self._tasks: dict[int, ArrayTask] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, number: int) -> bool:
        return number in self._tasks

    def __getitem__(self, number: int) -> ArrayTask:
        return self._tasks[number]

    @property
    def is_full(self) -> bool:
        """Whether their input is as much as is to be held."""
        return self._size >= HELD

    async def next(self) -> ArrayTask | None:
        """Return one more, or None if there are no more."""
        task = await self._source.next()
        if task is None:
            self.all_given = True
        else:
            self._tasks[task.number] = task
            self._size += task.size
        return task

    async def until(self, wanted: Iterable[int]) -> list[ArrayTask]:
        """Ask for more until those `wanted` are there, or none are left; return the others."""
        missing, others = set(wanted), []
        while missing:
            task = await self.next()
            if task is None:
                break
            if task.number in missing:
                missing.discard(task.number)
            else:
                others.append(task)
        return others

    def pop(self, number: int) -> ArrayTask:
        """Forget one, which has ended."""
        task = self._tasks.pop(number)
        self._size -= task.size
        return task
