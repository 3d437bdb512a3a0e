"""The sessions that a worker holds: found by their tickets, forgotten in time (spec/08 §3.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.attesting import Attest
from fogbank.relay.job.held.keeper_shell import Blocking, Keeper, Listener, in_thread
from fogbank.relay.job.held.messages import Hold
from fogbank.relay.job.held.spool_shell import Spool
from fogbank.relay.job.held.work import HeldWork
from fogbank.relay.job.limits import Budget, HoldingLimits
from fogbank.relay.job.messages import Holding, Offer
from fogbank.relay.job.places_shell import Places
from fogbank.relay.job.workplace_shell import Runner
from fogbank.relay.links_shell import log_fault
from fogbank.sandbox.data import Data

_LOOK_SECONDS: Final = 60.0
"""How often it is looked which sessions have been left for too long."""
_SETTLE_SECONDS: Final = 30.0


class HeldSessions:
    """The sessions held in `folder`. Nothing is held unless `run` runs.

    `clock` is the time in seconds since 1970; `blocking` calls what waits for the disk.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float],
        limits: HoldingLimits | None = None,
        blocking: Blocking = in_thread,
    ) -> None:
        self.limits = limits or HoldingLimits()
        self._folder = folder
        self._clock = clock
        self._blocking = blocking
        self._disk = Budget(self.limits.size)
        self._keepers: dict[str, Keeper] = {}
        self._nursery: trio.Nursery | None = None
        self._is_ready = False
        self._is_draining = False
        self._make: Callable[[HeldWork, Spool], Keeper]
        self._new: Callable[[Hold, Offer], HeldWork]
        self._offer: Callable[[], Offer]

    def use(
        self,
        runner: Runner,
        places: Places,
        budget: Budget,
        attest: Attest | None,
        offer: Callable[[], Offer],
    ) -> None:
        """Say with what the sessions work."""
        self._offer = offer
        self._new = lambda hold, offered: HeldWork(hold, offered, budget, self._disk, attest)
        self._make = lambda work, spool: Keeper(work, spool, runner, places, self._blocking)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._keepers)

    @property
    def keepers(self) -> tuple[Keeper, ...]:
        """All of them."""
        return tuple(self._keepers.values())

    def holding(self) -> Holding | None:
        """Return what a session may have that is to be held now; None if none is."""
        if not self._is_ready or self._is_draining:
            return None
        return Holding(int(self.limits.seconds), max(self._disk.left, 0), self.limits.tasks)

    def hold(self, hold: Hold, offer: Offer, listener: Listener) -> Keeper | None:
        """Begin to hold a session; None if there is no room. Raises `ProtocolError`."""
        name = _name(hold.ticket)
        if name in self._keepers:
            raise ProtocolError("in a job's session: a ticket that is known already")
        if self._nursery is None or not self._has_room():
            return None
        keeper = self._start(name, self._new(hold, offer), Spool(self._folder / name, hold.key))
        keeper.listen(listener)
        return keeper

    def resume(self, ticket: bytes, listener: Listener) -> Keeper | None:
        """Have a stream hang on a session, if it is here."""
        keeper = self._keepers.get(_name(ticket))
        if keeper is None or keeper.work.is_over:
            return None
        keeper.listen(listener)
        return keeper

    def leave(self, keeper: Keeper, listener: Listener) -> None:
        """A stream is gone."""
        keeper.leave(listener, self._clock())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold sessions until cancelled; has started when those from before are there."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await self._load()
                self._is_ready = True
                task_status.started()
                while True:
                    self._forget_old()
                    await trio.sleep(_LOOK_SECONDS)
            finally:
                self._nursery = None
                self._is_ready = False

    async def drain(self) -> None:
        """Wait until all that is to be on the disk is there; hold nothing more."""
        self._is_draining = True
        with trio.move_on_after(_SETTLE_SECONDS):
            for keeper in self.keepers:
                keeper.work.keep_all()
                await keeper.settle()

    def _has_room(self) -> bool:
        """Tell whether one more may be held; one that nobody would miss makes room."""
        if self.count < self.limits.sessions:
            return True
        for keeper in self.keepers:
            if keeper.work.is_empty:
                keeper.close()
                return self.count <= self.limits.sessions
        return False

    def _start(self, name: str, work: HeldWork, spool: Spool) -> Keeper:
        keeper = self._keepers[name] = self._make(work, spool)
        if self._nursery is not None:
            self._nursery.start_soon(self._keep, name, keeper)
        return keeper

    async def _keep(self, name: str, keeper: Keeper) -> None:
        try:
            await keeper.run()
        except* Exception as faults:  # noqa: BLE001 -- one session must not end the others
            log_fault("a held session", faults)
        finally:
            self._keepers.pop(name, None)
            keeper.work.close()

    def _forget_old(self) -> None:
        now = self._clock()
        for keeper in self.keepers:
            if keeper.left_at is not None and now - keeper.left_at > self.limits.seconds:
                keeper.close()

    async def _load(self) -> None:
        """Go on with what was held when the worker ended."""
        try:
            folders = sorted(self._folder.iterdir())
        except FileNotFoundError:
            return
        for folder in folders:
            await self._load_one(folder)

    async def _load_one(self, folder: Path) -> None:
        spool = await self._blocking(Spool.load, folder)
        if spool is None:
            await self._blocking(Spool(folder, b"").remove)
            return
        state = spool.state
        work = self._new(Hold(b"", state.key or b"", durable=True), self._offer())
        sealed: dict[int, Data] = {
            task: spool.output(task, head.sealed.size)
            for task, head in state.ended.items()
            if head.sealed is not None
        }
        work.restore(state, sealed, spool.module_size())
        keeper = self._start(folder.name, work, spool)
        keeper.left_at = state.left_at or self._clock()


def _name(ticket: bytes) -> str:
    """Return the name of a session's folder, which is not its ticket: who reads it has no more."""
    return hashlib.sha256(ticket).hexdigest()
