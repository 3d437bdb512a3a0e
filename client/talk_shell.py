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

    def end(
        self,
        why: str,
        fault: Exception | None = None,
        *,
        is_lost: bool = False,
        is_silence: bool = False,
    ) -> None:
        """The stream is over. The first reason stands."""
        if self._ended is None:
            self._ended = End(why, fault, is_lost, is_silence)
            self._over.set()

    async def _guarded(self, part: Callable[[], Awaitable[None]]) -> None:
        """Run one of the two; turn what ends it into the reason that all tasks are told."""
        try:
            await part()
        except ProtocolError as error:
            self.end(f"the worker broke the protocol ({error})", error)
        except RelayError as error:
            self.end(_phrase(error), error, is_lost=True)
        except _GONE as error:
            self.end("the connection to the worker was lost", error, is_lost=True)
        except NoRoom as error:
            self.end(f"there is no room here for the output ({error})", error, is_lost=True)
        except OSError as error:
            self.end(f"the input could not be read ({error})", error)

    async def _listen(self) -> None:
        session = self.session
        while self._ended is None:
            data = await self._receive()
            if data is None:
                self.end("the worker was silent for too long", is_lost=True, is_silence=True)
            elif not data and session.is_cut_off:
                self.end("the worker's answer was cut off", is_lost=True)
            elif not data:
                self.end("the worker ended the session without an answer", is_lost=True)
            else:
                for event in session.receive(data, trio.current_time()):
                    self._heed(event)
                    if isinstance(event, Refused):
                        self.end("the worker refused the job", is_lost=session.may_be_asked_again)
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
