"""A worker's places for jobs, and the queue before them (spec/08 §4)."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from fogbank.relay.job.limits import REPEAT_SECONDS


class Places:
    """So many jobs have a process at once; the others wait in order of arrival."""

    def __init__(self, count: int, waiting: int) -> None:
        self.count = count
        self.taken = 0
        self._most = waiting
        self._queue: deque[trio.Event] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    @property
    def is_full(self) -> bool:
        """Whether not even one more may wait."""
        return self.taken >= self.count and self.waiting >= self._most

    @asynccontextmanager
    async def take(self, tell: Callable[[str], Awaitable[None]]) -> AsyncIterator[None]:
        """Hold a place while the block runs; `tell` hears now and then why it is not yet there."""
        if self.taken < self.count:
            self.taken += 1
        else:
            await self._wait(tell)
        try:
            yield
        finally:
            self._leave()

    async def _wait(self, tell: Callable[[str], Awaitable[None]]) -> None:
        turn = trio.Event()
        self._queue.append(turn)
        try:
            while not turn.is_set():
                await tell(self._reason(turn))
                with trio.move_on_after(REPEAT_SECONDS):
                    await turn.wait()
        except BaseException:
            if turn.is_set():
                self._leave()
            else:
                self._queue.remove(turn)
            raise

    def _leave(self) -> None:
        # A place that somebody waits for is handed on, never free in between.
        if self._queue:
            self._queue.popleft().set()
        else:
            self.taken -= 1

    def _reason(self, turn: trio.Event) -> str:
        ahead = self._queue.index(turn) if turn in self._queue else 0
        return f"all of the worker's places ({self.count}) are taken; {ahead} jobs wait before it"
