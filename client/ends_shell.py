"""The ends of an array's tasks: kept, then forgotten by workers, then delivered (spec/11 §3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from fogbank.client.answers import size_of
from fogbank.client.call_shell import Call
from fogbank.client.journal.words import Journal
from fogbank.client.lane_shell import Lane
from fogbank.client.scheduling.tasks import TaskEnd

UNDELIVERED: Final = 64 << 20
"""Bytes of output that wait for the sink, beyond which answers wait to be counted."""


class Sink(Protocol):
    """Where ends of tasks go."""

    async def take(self, end: TaskEnd) -> None:
        """Take one; the next waits until this returns."""


class Ends:
    """Those that are not delivered. `size`: bytes of output that wait."""

    def __init__(self, journal: Journal, sink: Sink, wake: Callable[[], None]) -> None:
        self.size = 0
        self._journal = journal
        self._sink = sink
        self._wake = wake
        self._answers: dict[int, list[tuple[Lane, Call]]] = {}
        self._waiting: deque[tuple[TaskEnd, list[tuple[Lane, Call]]]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether answers have to wait."""
        return self.size >= UNDELIVERED

    def answered(self, task: int, lane: Lane, call: Call) -> None:
        """Hear of an answer that counts: its worker forgets it once the task's end is kept."""
        self._answers.setdefault(task, []).append((lane, call))

    def has_answers(self, task: int) -> bool:
        """Tell whether a task has answers that count, and has not ended."""
        return task in self._answers

    def add(self, end: TaskEnd) -> None:
        """Hear of the end of a task."""
        self.size += size_of(end.result)
        self._waiting.append((end, self._answers.pop(end.number, [])))

    async def deliver(self) -> None:
        """Have all that there are delivered."""
        while self._waiting:
            batch = tuple(self._waiting)
            self._waiting.clear()
            await self._journal.ended([end for end, _ in batch])
            for _, answers in batch:
                for lane, call in answers:
                    lane.settle(call)
            for end, _ in batch:
                await self._sink.take(end)
                self.size -= size_of(end.result)
                self._wake()
