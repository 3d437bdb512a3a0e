"""The service `job` of a worker: sessions over streams, places, queues, time-outs (spec/08).

`JobService` is what a node registers under the name "job". It runs modules with any `Runner`; the
sandbox is one. A session that breaks the protocol ends with `ProtocolError`, a client that is too
slow with `PeerSilent`; its stream is then to be reset, and no other session notices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import trio

from fogbank.relay.job.attesting import Attest
from fogbank.relay.job.connection_shell import LINGER_SECONDS, Connection, linger, send
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.frames import frame
from fogbank.relay.job.held.keeper_shell import Keeper
from fogbank.relay.job.held.sessions_shell import HeldSessions
from fogbank.relay.job.limits import Budget, JobLimits
from fogbank.relay.job.messages import Load, Offer, Refused
from fogbank.relay.job.places_shell import Places
from fogbank.relay.job.shelf import Shelf
from fogbank.relay.job.work import SHUTDOWN_WORDS, Work
from fogbank.relay.job.workplace_shell import Runner
from fogbank.relay.messages_shell import Stream
from fogbank.sandbox.data import MemorySink, Sinks
from fogbank.sandbox.limits import MODULE_SIZE, Limits


class JobService:
    """All job sessions of one worker.

    `engine` names the engine class, `ceilings` the most that a task may ask for. Each place should
    be one that the runner has too. `runtimes` gives the digests of those that it holds just then.
    `floor` is what the runner ends a task for that is slower, fuel per second of CPU time. `attest`
    signs what tasks come to. `sinks` makes what keeps the inputs of tasks.
    """

    def __init__(
        self,
        runner: Runner,
        engine: str,
        ceilings: Limits,
        limits: JobLimits | None = None,
        runtimes: Callable[[], tuple[bytes, ...]] = tuple,
        floor: int = 0,
        *,
        attest: Attest | None = None,
        sinks: Sinks = MemorySink,
    ) -> None:
        self.runner = runner
        self.attest = attest
        self.limits = limits or JobLimits()
        self.places = Places(self.limits.places, self.limits.waiting)
        self.budget = Budget(self.limits.held)
        self._engine = engine
        self._ceilings = ceilings
        self._runtimes = runtimes
        self._floor = floor
        self.sinks = sinks
        self.shelf = Shelf()
        self.held: HeldSessions | None = None
        """The sessions that outlive their streams, while `run` runs."""
        self.is_draining = False
        """Whether the worker is shutting down."""
        self._connections: set[Connection] = set()

    def hold_in(self, held: HeldSessions) -> None:
        """Hold sessions that outlive their streams in `held`."""
        self.held = held
        held.use(self.runner, self.places, self.budget, self.attest, self.offer)

    @property
    def load(self) -> Load:
        """How busy the worker is."""
        return Load(self.places.count, self.places.taken, self.places.waiting)

    @property
    def sessions(self) -> int:
        """How many streams are served."""
        return len(self._connections)

    @property
    def running(self) -> int:
        """How many tasks run."""
        return sum(work.is_running for work in self._works())

    def offer(self) -> Offer:
        """Return what a new session is told."""
        limits = self.limits
        sizes = MODULE_SIZE, limits.input_size, limits.tasks
        offer = Offer(self._engine, self._ceilings, *sizes, self.load, self._runtimes())
        holding = None if self.held is None else self.held.holding()
        return replace(offer, floor=self._floor, holding=holding)

    async def __call__(self, stream: Stream, _origin: object) -> None:
        """Serve one session until it ends; the caller ends the stream, or resets it on an error."""
        count = self.sessions
        if self.is_draining:
            await self._turn_away(stream, Cause.SHUTDOWN, SHUTDOWN_WORDS)
        elif count >= self.limits.sessions:
            full = f"the worker has {count} sessions already"
            await self._turn_away(stream, Cause.BUSY, full)
        else:
            connection = Connection(self, stream)
            self._connections.add(connection)
            try:
                await connection.serve()
            finally:
                self._connections.discard(connection)

    async def _turn_away(self, stream: Stream, cause: Cause, reason: str) -> None:
        await send(stream, [frame(Refused(cause, reason))], self.limits.send_seconds)
        await linger(stream)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold sessions that outlive their streams, until cancelled.

        Has started when those from before are there: until then their clients would not find them.
        """
        if self.held is None:
            task_status.started()
            await trio.sleep_forever()
        else:
            await self.held.run(task_status=task_status)

    async def drain(self, seconds: float) -> None:
        """Take nothing new, and let what runs end within `seconds`; keep what is held.

        Then every client has been told.
        """
        self.is_draining = True
        for connection in tuple(self._connections):
            connection.drain()
        for keeper in self._keepers():
            keeper.work.drain()
            keeper.store()
        owners: tuple[Connection | Keeper, ...] = (*self._connections, *self._keepers())
        places = [owner.place for owner in owners]
        with trio.move_on_after(seconds):
            for place in places:
                await place.quiet()
        for place in places:
            place.stop()
        with trio.move_on_after(LINGER_SECONDS):
            for place in places:
                await place.quiet()
        if self.held is not None:
            await self.held.drain()
        await self._end_all()

    async def _end_all(self) -> None:
        """End every session's stream, and wait until its client has heard of it."""
        connections = tuple(self._connections)
        for connection in connections:
            connection.end_session()
        with trio.move_on_after(2 * LINGER_SECONDS):
            for connection in connections:
                await connection.gone.wait()

    def _keepers(self) -> tuple[Keeper, ...]:
        return () if self.held is None else self.held.keepers

    def _works(self) -> set[Work]:
        works: set[Work] = {keeper.work for keeper in self._keepers()}
        return works | {connection.work for connection in self._connections}
