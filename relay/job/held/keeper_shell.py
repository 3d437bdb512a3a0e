"""Keeps a held session: its work gets done, and what is to be kept gets on the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

import trio

from fogbank.relay.job.errors import Cause
from fogbank.relay.job.held.kept import Change, Ended
from fogbank.relay.job.held.records import LeftRecord
from fogbank.relay.job.held.spool_shell import Spool
from fogbank.relay.job.held.work import HeldWork
from fogbank.relay.job.places_shell import Places
from fogbank.relay.job.work import Entry
from fogbank.relay.job.workplace_shell import Runner, Talk, Workplace
from fogbank.sandbox.outcome import Outcome, Result
from fogbank.sandbox.task import Task, TaskError

AGAIN_SECONDS: Final = 60.0
"""How long a session waits after a failure of its worker, while its client is away."""
_FAILURES: Final = 10
DISK_WORDS: Final = "the worker's disk is full, or failing"
_T = TypeVar("_T")


class Blocking(Protocol):
    """Calls what waits for the disk: in a thread, or where no thread may be, at once."""

    async def __call__(self, function: Callable[..., _T], *args: object) -> _T:
        """Return what `function` returns."""


async def in_thread(function: Callable[..., _T], *args: object) -> _T:
    """Call a function in a thread."""
    return await trio.to_thread.run_sync(function, *args)


class Listener(Talk, Protocol):
    """A stream that hangs on a held session."""

    def replace(self) -> None:
        """End without a word: another stream has the session."""

    def end(self) -> None:
        """End, because the session has."""


class Keeper:
    """A held session, with or without a client that listens."""

    def __init__(
        self, work: HeldWork, spool: Spool, runner: Runner, places: Places, blocking: Blocking
    ) -> None:
        self.work = work
        self.left_at: float | None = None
        """When its client left, in seconds since 1970; None while it is there."""
        self.place = _HeldPlace(self, runner, places)
        self._spool = spool
        self._blocking = blocking
        self._listener: Listener | None = None
        self._came_or_went: list[LeftRecord] = []
        self._to_store = trio.Event()
        self._disk = trio.Lock()
        self._settling = trio.Lock()

    # The client comes and goes.

    def listen(self, listener: Listener) -> None:
        """Have a stream hang on the session, and the one before it end."""
        before, self._listener = self._listener, listener
        if before is not None:
            before.replace()
        if self.left_at is not None:
            self._came_or_went.append(LeftRecord(0))
        self.left_at = None
        self.store()

    def leave(self, listener: Listener, now: float) -> None:
        """A stream is gone."""
        if self._listener is listener:
            self._listener = None
            self.left_at = now
            self._came_or_went.append(LeftRecord(int(now)))
            self.store()
            self.place.wake()

    async def flush(self) -> None:
        """Have the client told; nobody waits for that."""
        self.on_news()

    def on_news(self) -> None:
        """Have the client told."""
        if self._listener is not None:
            self._listener.on_news()

    def on_turn(self) -> None:
        """It may be the client's turn now; and there may be something to store."""
        if self._listener is not None:
            self._listener.on_turn()
        self.store()

    # The disk.

    def store(self) -> None:
        """Put on the disk what is to be there."""
        self._to_store.set()

    async def run(self) -> None:
        """Work until the session is forgotten, and then remove what is left of it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.place.run)
            await self._store_all()
            nursery.cancel_scope.cancel()
        if self._listener is not None:
            self._listener.end()
        with trio.CancelScope(shield=True):
            await self._on_disk(self._spool.remove)

    async def _store_all(self) -> None:
        while not self.work.is_over:
            await self._to_store.wait()
            self._to_store = trio.Event()
            await self.settle()

    async def settle(self) -> None:
        """Wait until all that is to be on the disk is there, or cannot be."""
        async with self._settling:
            await self._settle()

    async def _settle(self) -> None:
        work = self.work
        changes: list[Change | LeftRecord] = [*work.take_changes()]
        if work.is_durable:
            changes += self._came_or_went
            self._came_or_went.clear()
        if changes and not work.is_over:
            await self._write(changes)
        if not work.is_attached:
            for _, ended in work.unsealed():
                await self._seal(ended)

    async def _write(self, changes: list[Change | LeftRecord]) -> None:
        kept = [change for change in changes if not isinstance(change, LeftRecord)]
        try:
            await self._on_disk(self._spool.write, changes)
        except OSError:
            self.work.not_stored(kept, DISK_WORDS)
        else:
            self.work.stored(kept)
        self.place.wake()
        self.on_news()

    async def _seal(self, ended: Ended) -> None:
        """Seal an output that is in memory; without room on the disk it stays there."""
        head, output = ended.head, ended.output
        size = head.stdout + head.stderr
        if output is None or not self.work.take_room(size):
            return
        try:
            sealed = await self._on_disk(self._spool.write_output, head, output)
        except OSError:
            self.work.leave_room(size)
        else:
            self.work.seal(head.task, sealed)
            self.store()

    async def seal_running(self, entry: Entry, result: Result) -> None:
        """Seal the output of the running task, which has ended so, and tell of it."""
        work = self.work
        head = work.end_of(entry, result)
        size = head.stdout + head.stderr
        if work.take_room(size):
            try:
                output = result.stdout, result.stderr
                sealed = await self._on_disk(self._spool.write_output, head, output)
            except OSError:
                work.leave_room(size)
            else:
                work.finish_sealed(head, sealed, trio.current_time())
                return
        reason = "the worker's disk has no room for the output"
        work.finish_task(Result(Outcome.HOST_FAILURE, reason=reason), trio.current_time())

    async def _on_disk(self, function: Callable[..., _T], *args: object) -> _T:
        """Do one thing after the other on the disk."""
        async with self._disk:
            return await self._blocking(function, *args)

    async def module(self) -> None:
        """Have the module in memory. Raises `OSError`."""
        if self.work.module is None:
            self.work.reload(await self._on_disk(self._spool.module))

    async def task(self, entry: Entry) -> Task:
        """Return a task that waited on the disk. Raises `OSError`."""
        if entry.task is None:
            entry.task = await self._on_disk(self._spool.task, entry.head)
        return entry.task

    def close(self) -> None:
        """Forget it."""
        self.work.close()
        self.store()


class _HeldPlace(Workplace):
    """Where a held session's work is done: it is left when nothing is to be done there."""

    def __init__(self, keeper: Keeper, runner: Runner, places: Places) -> None:
        super().__init__(runner, places, keeper.work, keeper)
        self._keeper = keeper
        self._held = keeper.work
        self._failures = 0

    async def run(self) -> None:
        """Work until the session is over."""
        work, keeper = self._held, self._keeper
        while not work.is_over:
            changed = self._changed
            if not work.wants_place:
                await changed.wait()
            elif self._places.is_full and work.is_new and work.is_attached:
                work.refuse(Cause.BUSY, f"{self._places.waiting} jobs wait for a place already")
            else:
                async with self._places.take(self.tell_queued):
                    before = self._failures
                    await self._use_place()
                work.park()
                if self._failures > before:
                    await trio.sleep(AGAIN_SECONDS)
            keeper.on_news()
            keeper.store()

    async def _use_place(self) -> None:
        if self._held.is_draining:
            return
        try:
            await self._keeper.module()
        except OSError:
            self._held.refuse(Cause.MODULE, DISK_WORDS, Outcome.HOST_FAILURE)
        if self._held.module is not None and not self._held.is_over:
            await self._load(self._held.module)

    def _refuse_module(self, reason: str, outcome: Outcome) -> None:
        """Try again later if it is the worker that failed, and nobody is there to go elsewhere."""
        again = outcome is Outcome.HOST_FAILURE and self._failures < _FAILURES
        if again and not self._held.is_attached:
            self._failures += 1
            self._held.put_back(trio.current_time())
        else:
            super()._refuse_module(reason, outcome)

    def _stays(self) -> bool:
        stays = not (self._held.is_idle or self._held.is_over or self._held.is_draining)
        if not stays:
            # Before the process is gone: who comes back now knows that it must be made anew.
            self._held.park()
        return stays

    async def _task_of(self, entry: Entry) -> Task:
        try:
            return await self._keeper.task(entry)
        except OSError:
            raise TaskError(DISK_WORDS) from None

    async def _end(self, entry: Entry, result: Result) -> None:
        if self._held.fits(result):
            self._held.finish_task(result, trio.current_time())
        else:
            await self._keeper.seal_running(entry, result)
        self._keeper.store()
