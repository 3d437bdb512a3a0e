"""The service `job` of a worker: sessions over streams, places, queues, time-outs (spec/08).

`JobService` is what a node registers under the name "job". It runs modules with any `Runner`; the
sandbox is one. A session that breaks the protocol ends with `ProtocolError`, a client that is too
slow with `PeerSilent`; its stream is then to be reset, and no other session notices.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.job.errors import Cause, PeerSilent
from fogbank.relay.job.frames import frame, portions
from fogbank.relay.job.limits import Budget, JobLimits
from fogbank.relay.job.messages import Load, Offer, Refused
from fogbank.relay.job.places_shell import Places
from fogbank.relay.job.work import Attest
from fogbank.relay.job.worker_session import WorkerSession
from fogbank.relay.job.workplace_shell import Runner, Workplace
from fogbank.relay.messages_shell import Stream
from fogbank.sandbox.data import PORTION, Data, MemorySink, Sinks
from fogbank.sandbox.limits import MODULE_SIZE, Limits

LINGER_SECONDS: Final = 10.0
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


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
        self._sessions = 0

    @property
    def load(self) -> Load:
        """How busy the worker is."""
        return Load(self.places.count, self.places.taken, self.places.waiting)

    def offer(self) -> Offer:
        """Return what a new session is told."""
        limits = self.limits
        sizes = MODULE_SIZE, limits.input_size, limits.tasks
        return Offer(self._engine, self._ceilings, *sizes, self.load, self._runtimes(), self._floor)

    async def __call__(self, stream: Stream, _origin: object) -> None:
        """Serve one session until it ends; the caller ends the stream, or resets it on an error."""
        if self._sessions >= self.limits.sessions:
            full = Refused(Cause.BUSY, f"the worker has {self._sessions} sessions already")
            await _send(stream, [frame(full)], self.limits.send_seconds)
            await _linger(stream)
            return
        self._sessions += 1
        try:
            await _Connection(self, stream).serve()
        finally:
            self._sessions -= 1


class _Connection:
    """One session and its stream: one task listens, one works, one tells of the work meanwhile."""

    def __init__(self, service: JobService, stream: Stream) -> None:
        self._stream = stream
        self._limits = service.limits
        now = trio.current_time()
        self._session = WorkerSession(
            service.offer(), self._limits, service.budget, now, service.attest, service.sinks
        )
        self._workplace = Workplace(
            service.runner, service.places, self._session.work, self._flush, self._set_deadline
        )
        self._sending = trio.Lock()
        self._send_by = math.inf
        self._waits = trio.Event()
        self._listening = trio.CancelScope()
        self._failure: Exception | None = None

    async def serve(self) -> None:
        """Serve until either side ends the session; raise what ended it, if it was a fault."""
        try:
            async with trio.open_nursery() as nursery:
                for part in (
                    self._listen,
                    self._send_later,
                    self._workplace.run,
                    self._workplace.tell,
                ):
                    nursery.start_soon(self._part, part, nursery.cancel_scope)
            if self._failure is not None:
                raise self._failure
            if self._session.is_over:
                await _linger(self._stream)
        except _GONE:
            # The stream is gone; there is nobody to tell.
            return
        finally:
            self._session.close()

    async def _part(self, part: Callable[[], Awaitable[None]], whole: trio.CancelScope) -> None:
        """Run one of them; its end is the others'."""
        try:
            await part()
        except (RelayError, *_GONE) as error:
            self._failure = self._failure or error
        whole.cancel()

    async def _listen(self) -> None:
        session = self._session
        while not session.is_over:
            data = await self._receive()
            if data is None:
                session.refuse(Cause.SILENT, "nothing came from the client, or too slowly")
            elif not data:
                if not session.may_end:
                    raise ProtocolError("a job's stream ended in the middle of a message")
                return
            else:
                for event in session.receive(data, trio.current_time()):
                    self._workplace.heed(event)
            await self._flush()
        # The work may be sending its refusal just now: this waits until it is out.
        await self._flush()

    async def _receive(self) -> bytes | bytearray | None:
        """Return what comes next, or None if it did not come in time."""
        with trio.CancelScope() as self._listening:
            self._set_deadline()
            return await self._stream.receive_some(PORTION)
        return None

    def _set_deadline(self) -> None:
        deadline = self._session.deadline()
        self._listening.deadline = float("inf") if deadline is None else deadline

    async def _flush(self) -> None:
        """Send what the session has to say, or see to it that it is sent in time."""
        within = self._session.within
        if within:
            self._send_by = min(self._send_by, trio.current_time() + within)
            self._waits.set()
        elif within is not None:
            await self._send_now()

    async def _send_now(self) -> None:
        async with self._sending:
            self._send_by = math.inf
            await _send(self._stream, self._session.data_to_send(), self._limits.send_seconds)

    async def _send_later(self) -> None:
        """Send what has waited for more long enough."""
        while True:
            await self._waits.wait()
            self._waits = trio.Event()
            while self._send_by < math.inf:
                await trio.sleep_until(self._send_by)
                if self._send_by <= trio.current_time():
                    await self._send_now()


async def _send(stream: Stream, parts: Sequence[Data], seconds: float) -> None:
    """Send `parts`; raise `PeerSilent` if a portion of them takes longer than `seconds`."""
    for portion in portions(parts, PORTION):
        with trio.move_on_after(seconds) as scope:
            await stream.send_all(portion)
        if scope.cancelled_caught:
            raise PeerSilent("The client did not take what was sent to it.")


async def _linger(stream: Stream) -> None:
    """Read and discard until the client ends too, so that the last word arrives."""
    try:
        with trio.move_on_after(LINGER_SECONDS):
            while await stream.receive_some(PORTION):
                pass
            return
    except _GONE:
        return
    raise PeerSilent("The client did not end a session that was refused.")
