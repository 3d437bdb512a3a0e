"""A job's tasks go into its journal as fast as they can be read, and from there to workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import trio

from fogbank.client.journal.job_shell import Job
from fogbank.client.journal.records import Kept, Origin, Stage
from fogbank.client.patterns import Item, Pattern
from fogbank.client.scheduling.tasks import ArrayTask
from fogbank.sandbox.task import Task

AHEAD_TASKS: Final = 100_000
AHEAD_BYTES: Final = 4 << 30
"""How far reading may be ahead of what has ended: inputs may have no end."""
_BATCH: Final = 256
_PORTION: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Inputs:
    """The items, read as they are asked for. `total` is None if it is not known before their end.

    `blocks`: whether asking for one may take long, as reading a pipe does. `words`: what they can
    be read from again, by a client that goes on; None if that is not possible.
    """

    items: Iterator[Item]
    total: int | None = None
    blocks: bool = False
    words: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier run recorded of a task: it is not run again."""

    exit_code: int


class Intake:
    """Reads inputs into the journal of a job. `place`: where the next one stands in their order.

    `recorded` hears of each task and its digest, and may say that an earlier run has it.
    """

    def __init__(
        self,
        job: Job,
        pattern: Pattern,
        inputs: Inputs | None,
        recorded: Callable[[int, str], Earlier | None] | None = None,
    ) -> None:
        self._job = job
        self._pattern = pattern
        self._inputs = inputs
        self._recorded = recorded
        self._place = 0
        self._read: list[Kept] = []
        self._ahead = self._ahead_bytes = 0
        self._is_last = False
        self._changed = trio.Event()
        self.total = job.total
        """How many tasks there are; None while that is not known."""
        self.is_whole = self.total is not None
        """Whether all are read."""
        self.is_cut_off = False
        """Whether there were more, which nobody can read any more."""

    async def run(self) -> None:
        """Read all; raise `ValueError` or `OSError` with what is wrong with them."""
        if self.is_whole:
            return
        if self._inputs is None:
            # Their reader was killed before their end: what it had read is all there is.
            self.is_cut_off = self.is_whole = True
            self.total = self._job.count()
            return
        self.total = self._inputs.total
        self._place = self._job.count()
        for _ in range(self._place):
            await self._next_item(self._inputs)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep)
            while (item := await self._next_item(self._inputs)) is not None:
                if item.size > _PORTION:
                    await trio.to_thread.run_sync(self._take, item)
                else:
                    self._take(item)
                if len(self._read) == 1:
                    self._wake()
                while self._is_far_ahead:
                    await self._changed.wait()
            await self._wait_for_room(0)
            nursery.cancel_scope.cancel()
        await self._end()

    @property
    def _is_far_ahead(self) -> bool:
        is_far = self._ahead >= AHEAD_TASKS or self._ahead_bytes >= AHEAD_BYTES
        return is_far and not self._is_last

    def hurry(self) -> None:
        """Read on to the end, however much that is: nobody works at the tasks meanwhile."""
        self._is_last = True
        self._wake()

    async def _end(self) -> None:
        self.total = self._job.count()
        await self._job.taken_in(self.total)
        self.is_whole = True
        self._wake()

    async def _next_item(self, inputs: Inputs) -> Item | None:
        if inputs.blocks:
            return await trio.to_thread.run_sync(next, inputs.items, None, abandon_on_cancel=True)
        if self._place % _BATCH == 0:
            await self._wait_for_room(4 * _BATCH)
            await trio.lowlevel.checkpoint()
        return next(inputs.items, None)

    def _take(self, item: Item) -> None:
        task = self._pattern.make(item)
        pack = self._job.inputs
        origin = Origin(
            item.number,
            item.value,
            pack.append(item.stdin) if item.stdin else None,
            tuple((name, pack.append(data)) for name, data in item.files),
        )
        digest, earlier = "", None
        if self._recorded is not None:
            digest = self._pattern.digest(task)
            earlier = self._recorded(item.number, digest)
        kept = Kept(origin, self._place, digest=digest, reason="it waits for a worker")
        if earlier is not None:
            code, reason = earlier.exit_code, "an earlier run recorded it"
            kept = Kept(
                origin, self._place, Stage.DONE, reason, code, digest=digest, delivered=True
            )
        else:
            self._ahead += 1
            self._ahead_bytes += item.size
        self._place += 1
        self._read.append(kept)

    async def _keep(self) -> None:
        """Write what was read, a commit for all that has come meanwhile."""
        while True:
            while not self._read:
                await self._changed.wait()
            batch, self._read = self._read, []
            await self._job.take_in(batch)
            self._wake()

    async def _wait_for_room(self, most: int) -> None:
        while len(self._read) > most:
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # What workers are given.

    def ended(self, size: int) -> None:
        """Hear that a task that was given out has ended, which had so many bytes of its own."""
        self._ahead -= 1
        self._ahead_bytes -= size
        self._wake()

    async def changed(self) -> None:
        """Wait until there may be more tasks."""
        await self._changed.wait()


class Unfinished:
    """The source of an array: the tasks of a job that have not ended.

    First come those that workers may hold, then all others in their order.
    """

    def __init__(self, job: Job, intake: Intake, pattern: Pattern) -> None:
        self._job = job
        self._intake = intake
        self._pattern = pattern
        lanes = job.journal().held()
        self._first = sorted({number for lane in lanes for number in lane.tasks.values()})
        self._given = set(self._first)
        self._place = 0
        self._some: list[Kept] = []
        self.sizes: dict[int, int] = {}
        """The own bytes of each task that was given out, until its end takes it away."""

    async def next(self) -> ArrayTask | None:
        """Return the next task, or None if there are no more."""
        await trio.lowlevel.checkpoint()
        while self._first:
            kept = self._job.task(self._first.pop(0))
            if kept is not None and not kept.is_over:
                return self._make(kept)
        while True:
            changed = self._intake.is_whole
            kept = self._next()
            if kept is not None:
                return self._make(kept)
            if changed:
                return None
            await self._intake.changed()

    def _next(self) -> Kept | None:
        while True:
            if not self._some:
                self._some = list(islice(self._job.unfinished(self._place), _BATCH))
                if not self._some:
                    return None
            kept = self._some.pop(0)
            self._place = kept.place + 1
            if kept.number not in self._given:
                return kept

    def _make(self, kept: Kept) -> ArrayTask:
        size = self.sizes[kept.number] = kept.origin.size
        return ArrayTask(kept.number, task_of(self._job, self._pattern, kept), size)


def task_of(job: Job, pattern: Pattern, kept: Kept) -> Task:
    """Make a task again of what the journal kept of it; raise `OSError` if it is damaged."""
    origin = kept.origin
    stdin = job.inputs.read(origin.stdin)
    files = tuple((name, job.inputs.read(span)) for name, span in origin.files)
    return pattern.make(Item(origin.number, origin.value, stdin, files))
