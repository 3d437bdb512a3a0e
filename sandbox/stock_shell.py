"""A stock of jailed processes that wait for work, so that work does not wait for them."""

from collections import deque
from typing import Protocol

from fogbank.sandbox.forks_shell import Process
from fogbank.sandbox.wire import Control


class Starts(Protocol):
    """What starts processes: the launcher's starter, or a zygote."""

    async def start(self, kind: Control) -> Process:
        """Start a jailed process of this kind."""


class Stock:
    """Keeps `count` idle processes of one kind."""

    def __init__(self, starter: Starts, kind: Control, count: int) -> None:
        self._starter = starter
        self._kind = kind
        self._count = count
        self._idle: deque[Process] = deque()

    async def take(self) -> Process:
        """Take a process, and have another made for the next.

        Raises `SandboxUnavailable` if the launcher died and no other can be started.
        """
        process = None
        while process is None and self._idle:
            process = self._idle.popleft()
            if not process.is_idle:
                process.abandon()
                process = None
        if process is None:
            process = await self._starter.start(self._kind)
        try:
            await self.fill()
        except BaseException:
            process.abandon()
            raise
        return process

    async def fill(self) -> None:
        """Have the processes made that are wanting. Raises `SandboxUnavailable`."""
        while len(self._idle) < self._count:
            self._idle.append(await self._starter.start(self._kind))

    def drop(self) -> None:
        """End every idle process."""
        while self._idle:
            self._idle.pop().abandon()
