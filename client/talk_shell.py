"""A job's session over one stream: who speaks, who listens, and why it ended (spec/08 §5, §6)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio

from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.job.client_session import ClientEvent, ClientSession
from fogbank.relay.job.frames import portions
from fogbank.relay.job.messages import Refused
from fogbank.relay.messages_shell import Stream
from fogbank.sandbox.data import PORTION, NoRoom

_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
_VERDICT_SECONDS: Final = 5.0
"""How long a worker's last word is waited for once nothing can be sent to it any more."""


@dataclass(frozen=True, slots=True)
class End:
    """Why a stream is over.

    `is_lost`: its session may go on over another. `is_silence`: nothing came for too long.
    """

    why: str
    fault: Exception | None = None
    is_lost: bool = False
    is_silence: bool = False


FAULTS: Final = (RelayError, *_GONE, NoRoom, OSError)
"""What may end a stream."""


def end_by(fault: Exception) -> End:
    """Return why a stream is over that one of `FAULTS` has ended."""
    match fault:
        case ProtocolError():
            return End(f"the worker broke the protocol ({fault})", fault)
        case RelayError():
            return End(_phrase(fault), fault, is_lost=True)
        case NoRoom():
            return End(f"there is no room here for the output ({fault})", fault, is_lost=True)
        case OSError():
            return End(f"the input could not be read ({fault})", fault)
    return End("the connection to the worker was lost", fault, is_lost=True)


def end_without(data: bytes | bytearray | None, session: ClientSession) -> End:
    """Return why a stream is over on which the end came, or (None) nothing in time."""
    if data is None:
        return End("the worker was silent for too long", is_lost=True, is_silence=True)
    if session.is_cut_off:
        return End("the worker's answer was cut off", is_lost=True)
    return End("the worker ended the session without an answer", is_lost=True)


class Talk:
    """One stream of a session; `heed` hears what the worker says."""

    def __init__(
        self, stream: Stream, session: ClientSession, heed: Callable[[ClientEvent], None]
    ) -> None:
        self.session = session
        self._stream = stream
        self._heed = heed
        self._ended: End | None = None
        self._over = trio.Event()
        self._changed = trio.Event()
        self._listening = trio.CancelScope()

    async def serve(self) -> End:
        """Speak and listen until the stream is over; return why it is."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._guarded, self._listen)
            nursery.start_soon(self._guarded, self._speak)
            await self._over.wait()
            nursery.cancel_scope.cancel()
        if self._ended is None:
            raise AssertionError("a stream ended without a reason")
        return self._ended

    def wake(self) -> None:
        """Have what the session says sent, and its deadline looked at."""
        self._changed.set()
        self._changed = trio.Event()

    def end(self, end: End) -> None:
        """The stream is over. The first reason stands."""
        if self._ended is None:
            self._ended = end
            self._over.set()

    async def _guarded(self, part: Callable[[], Awaitable[None]]) -> None:
        """Run one of the two; turn what ends it into the reason that all tasks are told."""
        try:
            await part()
        except FAULTS as error:
            self.end(end_by(error))

    async def _listen(self) -> None:
        session = self.session
        while self._ended is None:
            data = await self._receive()
            if not data:
                self.end(end_without(data, session))
            else:
                for event in session.receive(data, trio.current_time()):
                    self._heed(event)
                    if isinstance(event, Refused):
                        may_go_on = session.may_be_asked_again
                        self.end(End("the worker refused the job", is_lost=may_go_on))
            self.wake()

    async def _receive(self) -> bytes | bytearray | None:
        """Return what comes next, or None if it did not come in time."""
        with trio.CancelScope() as self._listening:
            self._set_deadline()
            return await self._stream.receive_some(PORTION)
        return None

    def _set_deadline(self) -> None:
        deadline = self.session.deadline()
        self._listening.deadline = float("inf") if deadline is None else deadline

    async def _speak(self) -> None:
        try:
            while True:
                changed = self._changed
                await self._gather()
                for portion in portions(self.session.data_to_send(), PORTION):
                    await self._stream.send_all(portion)
                    self.session.sent_some(trio.current_time())
                    self._set_deadline()
                self.session.sent_all()
                self._set_deadline()
                await changed.wait()
        except (RelayError, *_GONE):
            # What the worker said last, if anything, tells more than that nothing can be sent.
            with trio.move_on_after(_VERDICT_SECONDS):
                await self._over.wait()
            raise

    async def _gather(self) -> None:
        """Wait for what may go out in one row with what waits already."""
        send_by = math.inf
        while within := self.session.within:
            send_by = min(send_by, trio.current_time() + within)
            with trio.move_on_at(send_by) as scope:
                await self._changed.wait()
            if scope.cancelled_caught:
                return


def _phrase(error: RelayError) -> str:
    """Make an error's sentence part of another."""
    words = str(error).rstrip(". ")
    return words[:1].lower() + words[1:]
