"""Streams for those who wait: trio's byte stream interface over a circuit (spec/04)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from fogbank.relay.circuits.switch import Switch
from fogbank.relay.messages_shell import Stream
from fogbank.relay.streams.messages import ResetReason
from fogbank.relay.streams.mux import SEND_BUFFER, StreamMux, StreamState

RECEIVE: Final = 1 << 18
_TURN: Final = SEND_BUFFER
"""Bytes that one stream may send before others have their turn, each word counted as a cell."""


class CircuitStream(trio.abc.Stream):
    """A stream on a circuit, at either end.

    An end of the circuit, or a reset, raises `CircuitDestroyed` or `StreamReset` with the reason;
    only the peer's own EOF is a clean end.
    """

    def __init__(self, mux: StreamMux, state: StreamState, switch: Switch) -> None:
        self._mux = mux
        self._state = state
        self._switch = switch
        self._changed = trio.lowlevel.ParkingLot()
        self._is_awaited = False
        self._sent = 0
        state.wake = self._wake

    def _wake(self) -> None:
        # It is called for each cell, and mostly nobody waits any more.
        if self._is_awaited:
            self._is_awaited = False
            self._changed.unpark_all()

    async def _change(self) -> None:
        self._is_awaited = True
        await self._changed.park()

    async def wait_connected(self) -> None:
        """Wait until the service took the stream; raise `StreamReset` if it did not."""
        self._hurry()
        await self._until(lambda state: state.connected)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; returns when it is packed or nearly so."""
        view = memoryview(data)
        if not view.readonly:
            view = memoryview(bytes(data))
        for begin in range(0, len(view), SEND_BUFFER):
            await self._until(lambda state: state.has_room)
            self._mux.write(self._state, view[begin : begin + SEND_BUFFER])
            self._mux.pump()
            self._switch.flush()
        await self._pause(len(view))

    async def _pause(self, size: int) -> None:
        """Let others have their turn, after much was sent; a turn for each word costs too much."""
        self._sent += max(size, self._mux.capacity)
        if self._sent < _TURN:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            self._sent = 0
            await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room for more."""
        await self._until(lambda state: state.has_room)

    async def send_eof(self) -> None:
        """Say that no more will be sent."""
        self._mux.finish(self._state)
        self._switch.flush()
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return what arrived, at most `max_bytes`; nothing at the peer's clean end."""
        state = self._state
        while not state.inbox:
            if state.peer_eof:
                await trio.lowlevel.checkpoint()
                return b""
            if state.error is not None:
                raise state.error
            if not state.received_bytes:
                # The other side may wait for what was begun, or for that it was taken.
                self._hurry()
            await self._change()
        data = self._mux.take(state, max_bytes or RECEIVE)
        self._switch.flush()
        return data

    async def aclose(self) -> None:
        """End this direction, and ignore what still comes; what was sent still arrives.

        Cancelled, it resets the stream.
        """
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            self.reset(ResetReason.CANCELLED)
            raise
        if self._state.error is None:
            self._mux.finish(self._state)
            self._state.wake = self._discard
            self._discard()
            self._switch.flush()

    def leave(self) -> None:
        """Do what `aclose` does; nobody waits for that, so it is told with what comes next."""
        if self._state.error is None:
            self._mux.finish(self._state, late=True)
            self._state.wake = self._discard
            self._discard()

    def _discard(self) -> None:
        # Taken, and so granted anew: else the peer could not send its end.
        self._mux.take(self._state, RECEIVE)
        self._wake()

    def reset(self, reason: ResetReason) -> None:
        """End both directions at once."""
        self._mux.reset(self._state, reason)
        self._switch.flush()

    def _hurry(self) -> None:
        self._mux.hurry()
        self._switch.flush()

    async def _until(self, ready: Callable[[StreamState], bool]) -> None:
        while not ready(self._state):
            if self._state.error is not None:
                raise self._state.error
            await self._change()


async def leave(stream: Stream) -> None:
    """End this side of a stream; nobody waits for that, so a circuit tells it with what is next."""
    if isinstance(stream, CircuitStream):
        stream.leave()
    else:
        await stream.aclose()
