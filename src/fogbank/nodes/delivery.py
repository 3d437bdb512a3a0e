"""Results of a job go from its journal to where they belong, and are marked (spec/13 §3)."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol

import trio

from fogbank.client.journal.job_shell import Job
from fogbank.client.journal.records import Kept
from fogbank.sandbox.data import Data

_BATCH: Final = 64
_BATCH_BYTES: Final = 16 << 20


class Output(Protocol):
    """Puts results where they belong. Its methods may block, and are called one at a time.

    `in_order`: whether results must come in the order of their tasks.
    """

    in_order: bool

    def put(self, task: Kept, stdout: Data, stderr: Data) -> None:
        """Take a task that has ended; raise `OSError`."""

    def settle(self) -> None:
        """Make what was put outlive the machine, as far as that can be; raise `OSError`."""


class Record(Protocol):
    """Records what was delivered."""

    def has(self, task: Kept) -> bool:
        """Whether it is recorded, by a client that was killed before it could mark it."""

    def record(self, task: Kept, began: float) -> None:
        """Hear of a task that is where it belongs; raise `OSError`."""

    def settle(self) -> None:
        """Make what was recorded outlive the machine; raise `OSError`."""


class Delivery:
    """Delivers what has ended and was not delivered, until it is told that nothing more will."""

    def __init__(
        self,
        job: Job,
        output: Output,
        log: Record | None = None,
        on_delivered: Callable[[Kept], None] | None = None,
    ) -> None:
        self._job = job
        self._output = output
        self._log = log
        self._on_delivered = on_delivered
        self._place = 0
        self._is_last = False
        self._changed = trio.Event()

    def wake(self) -> None:
        """Hear that more has ended."""
        self._changed.set()
        self._changed = trio.Event()

    def finish(self) -> None:
        """Hear that nothing more will end."""
        self._is_last = True
        self.wake()

    async def run(self) -> None:
        """Deliver; raise `OSError` if something cannot be put where it belongs."""
        while True:
            changed, is_last = self._changed, self._is_last
            tasks = self._some()
            if tasks:
                await self._deliver(tasks)
            elif is_last:
                return
            else:
                await changed.wait()

    def _some(self) -> list[Kept]:
        """Return what can be delivered now, in its order, and not too much at once."""
        if not self._output.in_order:
            return _bounded(list(islice(self._job.undelivered(), _BATCH)))
        some: list[Kept] = []
        for task in self._job.tasks(self._place):
            if not task.is_over:
                break
            if not task.delivered:
                some.append(task)
            if len(some) == _BATCH:
                break
            if not some:
                self._place = task.place + 1
        return _bounded(some)

    async def _deliver(self, tasks: list[Kept]) -> None:
        done: list[Kept] = []
        try:
            await trio.to_thread.run_sync(self._put, tasks, done)
        finally:
            with trio.CancelScope(shield=True):
                await self._job.delivered([task.number for task in done])
        for task in done:
            if self._on_delivered is not None:
                self._on_delivered(task)

    def _put(self, tasks: list[Kept], done: list[Kept]) -> None:
        """Put some; each is recorded, and `done`, once it and the others are on the disk."""
        read = self._job.outputs.read
        put: list[Kept] = []
        try:
            for task in tasks:
                if self._log is None or not self._log.has(task):
                    self._output.put(task, read(task.stdout), read(task.stderr))
                put.append(task)
        finally:
            self._output.settle()
            if self._log is not None:
                for task in put:
                    self._log.record(task, time.time() - task.seconds)
                self._log.settle()
            done += put


def _bounded(tasks: list[Kept]) -> list[Kept]:
    """Return the first of these tasks, whose outputs are not too much together."""
    size = 0
    for count, task in enumerate(tasks):
        size += task.output_size
        if count and size > _BATCH_BYTES:
            return tasks[:count]
    return tasks


async def deliver_all(job: Job, output: Output) -> None:
    """Put all results that are kept where `output` says, in their order, and mark them."""
    numbers: list[int] = []
    for task in job.tasks():
        if task.is_over:
            read = job.outputs.read
            output.put(task, read(task.stdout), read(task.stderr))
            numbers.append(task.number)
    output.settle()
    await job.delivered(numbers)
