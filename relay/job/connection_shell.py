"""One stream of a job session at its worker: it listens, works, and tells (spec/08 §3, §5)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import trio

from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.job.attesting import Attest
from fogbank.relay.job.errors import Cause, PeerSilent, StreamReplaced
from fogbank.relay.job.events import WorkerEvent
from fogbank.relay.job.frames import portions
from fogbank.relay.job.held.keeper_shell import Keeper
from fogbank.relay.job.held.messages import Hold
from fogbank.relay.job.held.sessions_shell import HeldSessions
from fogbank.relay.job.held.work import HeldWork
from fogbank.relay.job.limits import Budget, JobLimits
from fogbank.relay.job.messages import Offer
from fogbank.relay.job.places_shell import Places
from fogbank.relay.job.shelf import Shelf
from fogbank.relay.job.work import SHUTDOWN_WORDS, Work
from fogbank.relay.job.worker_session import WorkerSession
from fogbank.relay.job.workplace_shell import Runner, Workplace
from fogbank.relay.messages_shell import Stream
from fogbank.relay.streams.shell import leave
from fogbank.sandbox.data import PORTION, Data, Sinks

LINGER_SECONDS: Final = 10.0
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


class Service(Protocol):
    """What a connection needs to know of all the worker's sessions."""

    runner: Runner
    places: Places
    budget: Budget
    limits: JobLimits
    attest: Attest | None
    sinks: Sinks
    held: HeldSessions | None
    shelf: Shelf
    is_draining: bool

    def offer(self) -> Offer:
        """Return what a new session is told."""


class Connection:
    """One session and its stream: one task listens, one works, one tells of the work meanwhile.

    A session that is held is worked on by its keeper; this is then what listens to that.
    """

    def __init__(self, service: Service, stream: Stream) -> None:
        self._service = service
        self._stream = stream
        self._limits = service.limits
        now = trio.current_time()
        self._session = WorkerSession(
            service.offer(),
            self._limits,
            service.budget,
            now,
            service.attest,
            service.sinks,
            holder=self,
            shelf=service.shelf,
        )
        self.place = Workplace(service.runner, service.places, self._session.work, self)
        self._keeper: Keeper | None = None
        self._sending = trio.Lock()
        self._listening = trio.CancelScope()
        self._send_by = math.inf
        self._waits = trio.Event()
        self._pause = trio.CancelScope()
        self._is_ending = False
        self._failure: Exception | None = None
        self.gone = trio.Event()
        """Is set when it is over."""

    @property
    def work(self) -> Work:
        """What its session is doing."""
        return self._session.work

    async def serve(self) -> None:
        """Serve until either side ends the session; raise what ended it, if it was a fault."""
        try:
            async with trio.open_nursery() as nursery:
                whole = nursery.cancel_scope
                nursery.start_soon(self._part, self._listen, whole)
                nursery.start_soon(self._part, self._send_later, whole)
                await self._part(self.place.run, whole)
            if self._failure is not None:
                raise self._failure
            if self.work.is_done:
                await leave(self._stream)
            elif self._session.is_over and not self._session.is_forgotten:
                await linger(self._stream)
        except _GONE:
            # The stream is gone; there is nobody to tell.
            return
        finally:
            self._session.close()
            if self._keeper is not None and self._service.held is not None:
                self._service.held.leave(self._keeper, self)
            self.gone.set()

    async def _part(self, part: Callable[[], Awaitable[None]], whole: trio.CancelScope) -> None:
        """Run one of them; its end is the others'."""
        try:
            await part()
        except (RelayError, *_GONE) as error:
            self._failure = self._failure or error
        whole.cancel()

    # Sessions that are held.

    def hold(self, hold: Hold, offer: Offer) -> HeldWork | None:
        """Have the session held."""
        held = self._service.held
        self._keeper = None if held is None else held.hold(hold, offer, self)
        return None if self._keeper is None else self._keeper.work

    def resume(self, ticket: bytes) -> HeldWork | None:
        """Go on with a session that is held."""
        held = self._service.held
        self._keeper = None if held is None else held.resume(ticket, self)
        return None if self._keeper is None else self._keeper.work

    def replace(self) -> None:
        """Another stream has the session: this one ends."""
        self._session.hand_over()
        self._failure = StreamReplaced("The client came back over another stream.")
        self.end()

    def end(self) -> None:
        """The session has ended: this is told, and is all."""
        self._is_ending = True
        self._waits.set()
        self._pause.cancel()

    def on_news(self) -> None:
        """There is something to send."""
        within = self._session.within
        if within is not None:
            self._send_by = min(self._send_by, trio.current_time() + within)
            self._waits.set()
            self._pause.deadline = self._send_by

    # The worker's end.

    def drain(self) -> None:
        """Have no task begun any more; without one that runs the session is over."""
        if self._keeper is None:
            self.work.drain()
            self.on_news()
        if not self.work.is_running:
            self.end_session()

    def end_session(self) -> None:
        """The worker ends, and with it the session, or its stream alone if it is held."""
        self._session.refuse(Cause.SHUTDOWN, SHUTDOWN_WORDS)
        self.end()

    # Listening.

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
                self._heed(session.receive(data, trio.current_time()))
            await self.flush()
        # The work may be sending its refusal just now: this waits until it is out.
        await self._send_now()

    def _heed(self, events: list[WorkerEvent]) -> None:
        keeper = self._keeper
        place = self.place if keeper is None else keeper.place
        for event in events:
            place.heed(event)
        if keeper is not None:
            keeper.store()

    async def _receive(self) -> bytes | bytearray | None:
        """Return what comes next, or None if it did not come in time."""
        with trio.CancelScope() as self._listening:
            self.on_turn()
            return await self._stream.receive_some(PORTION)
        return None

    def on_turn(self) -> None:
        """Have the client waited for just as long as it may be silent now."""
        deadline = self._session.deadline()
        self._listening.deadline = float("inf") if deadline is None else deadline
        if self._service.is_draining and not self.work.is_running and not self._session.is_over:
            self.end_session()

    async def flush(self) -> None:
        """Send what the session has to say, or see to it that it is sent in time."""
        if self._session.within == 0:
            await self._send_now()
        else:
            self.on_news()

    async def _send_now(self) -> None:
        async with self._sending:
            self._send_by = math.inf
            await send(self._stream, self._session.data_to_send(), self._limits.send_seconds)

    async def _send_later(self) -> None:
        """Send what has waited for more long enough, or is news, until the session has ended."""
        while not self._is_ending:
            await self._waits.wait()
            self._waits = trio.Event()
            if not self._is_ending:
                with trio.CancelScope(deadline=self._send_by) as self._pause:
                    await trio.sleep_forever()
            if self._send_by <= trio.current_time():
                await self._send_now()
        if self._failure is None:
            await self._send_now()


async def send(stream: Stream, parts: Sequence[Data], seconds: float) -> None:
    """Send `parts`; raise `PeerSilent` if a portion of them takes longer than `seconds`."""
    for portion in portions(parts, PORTION):
        with trio.move_on_after(seconds) as scope:
            await stream.send_all(portion)
        if scope.cancelled_caught:
            raise PeerSilent("The client did not take what was sent to it.")


async def linger(stream: Stream) -> None:
    """Read and discard until the client ends too, so that the last word arrives."""
    try:
        with trio.move_on_after(LINGER_SECONDS):
            while await stream.receive_some(PORTION):
                pass
            return
    except _GONE:
        return
    raise PeerSilent("The client did not end a session that was refused.")
