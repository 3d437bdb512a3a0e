"""A link at work: the handshake, then cells in batches (spec/02).

One task reads, one waits for a congested pipe; neither does anything per cell. All that happens to
cells happens in `Switch.receive`, between two waits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from fogbank.relay.cells import (
    CELL,
    DestroyReason,
    cell_content,
    pack_cell,
    pack_destroy,
    unpack_header,
)
from fogbank.relay.circuits.switch import Switch
from fogbank.relay.errors import LinkFailed, ProtocolError
from fogbank.relay.keys import NodeId
from fogbank.relay.link.handshake import LinkHandshake
from fogbank.relay.link.pipe import Pipe, PipeBroken
from fogbank.relay.link.port import Port
from fogbank.relay.link.sources_shell import Source

TURN = 64 * CELL
"""Bytes that one read may take."""
_TURNS = 4
"""Reads in a row before other tasks get their turn."""


async def shake(pipe: Pipe, handshake: LinkHandshake, clock: Callable[[], float]) -> None:
    """Run the link handshake over a fresh pipe; raise `LinkFailed` or `ProtocolError`."""
    await _send_cells(pipe, handshake.start())
    cell = memoryview(bytearray(CELL))
    while not handshake.open:
        await _receive_cell(pipe, cell)
        circuit_id, command = unpack_header(cell)
        if circuit_id:
            raise ProtocolError("a circuit's cell came before the link was open")
        await _send_cells(pipe, handshake.receive(command, cell_content(cell), clock()))


async def _send_cells(pipe: Pipe, cells: list[tuple[int, bytes]]) -> None:
    data = memoryview(b"".join(pack_cell(0, command, content) for command, content in cells))
    while data:
        count = pipe.try_send(data)
        if count is None:
            await pipe.wait_writable()
        else:
            data = data[count:]


async def _receive_cell(pipe: Pipe, cell: memoryview) -> None:
    have = 0
    while have < CELL:
        count = pipe.try_receive(cell[have:])
        if count is None:
            await pipe.wait_readable()
        elif count == 0:
            raise LinkFailed("the other side closed the link during its handshake")
        else:
            have += count


class Link:
    """An open link. `buffer` (a turn's bytes) is shared by all links of a process.

    Over `queue_limit` waiting bytes the link is closed: its peer does not read. `source` is where
    it came from; None if this side dialed.
    """

    def __init__(
        self,
        pipe: Pipe,
        switch: Switch,
        port: Port,
        buffer: memoryview,
        onion_key: bytes | None,
        queue_limit: int,
        *,
        source: Source | None = None,
    ) -> None:
        self._source = source
        self._pipe = pipe
        self._switch = switch
        self._buffer = buffer
        self._queue_limit = queue_limit
        self._blocked = False
        self._unblock = trio.lowlevel.ParkingLot()
        self._scope = trio.CancelScope()
        self.port = port
        self.onion_key = onion_key
        """The onion key that the peer's chain certifies, for a one-hop CREATE."""
        self.closing = False
        """Whether `close` was called: nothing new should use this link."""
        self._heard = 0.0
        self._silent_looks = 0

    @property
    def peer(self) -> NodeId | None:
        """The identity that the other side proved, if it did."""
        return self.port.peer

    @property
    def peer_host(self) -> str:
        """The other side's address."""
        return self._pipe.peer_host

    def flush(self) -> None:
        """Send what waits, as far as it goes now."""
        queue = self.port.queue
        chunk = queue.peek()
        if queue.doomed:
            self.close()
            return
        if self._blocked:
            if queue.queued > self._queue_limit:
                self.close()
            return
        try:
            while chunk:
                count = self._pipe.try_send(chunk)
                if count is None:
                    self._blocked = True
                    self._unblock.unpark_all()
                    return
                queue.consumed(count)
                chunk = queue.peek()
        except PipeBroken:
            self.close()

    def close(self) -> None:
        """End the link; `run` returns soon."""
        self.closing = True
        self._scope.cancel()

    def silent_looks(self) -> int:
        """Return how many looks in a row, this one included, have found that nothing came.

        Looks are counted, not seconds: who did not run itself has not listened either.
        """
        heard = self.port.last_used
        self._silent_looks = self._silent_looks + 1 if heard == self._heard else 0
        self._heard = heard
        return self._silent_looks

    def pad(self, now: float) -> None:
        """Send a PADDING cell: the peer sees the link in use, and answers."""
        self.port.pad(now)
        self.flush()

    async def run(self) -> None:
        """Move cells until the link ends, for whatever reason."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read()
                    nursery.cancel_scope.cancel()
        finally:
            reason = DestroyReason.LINK_ENDED
            if trio.current_effective_deadline() == -math.inf:
                # Not this link alone ends: the node stops.
                reason = DestroyReason.SHUTDOWN
                self._say_goodbye()
            self._blocked = True
            self._switch.close_port(self.port, reason)
            self._pipe.close()

    def _say_goodbye(self) -> None:
        """Tell the peer that all circuits of the link end, as far as that goes without waiting."""
        if not self._blocked:
            for circuit_id in self.port.sides:
                self.port.queue.put(pack_destroy(circuit_id, DestroyReason.SHUTDOWN))
            self.flush()

    async def _write(self) -> None:
        while True:
            while not self._blocked:
                await self._unblock.park()
            try:
                await self._pipe.wait_writable()
            except PipeBroken:
                self.close()
            self._blocked = False
            self.flush()
            self._switch.flush()

    async def _read(self) -> None:
        pipe, buffer, switch, port = self._pipe, self._buffer, self._switch, self.port
        source = self._source
        carry = b""
        turns = 0
        while True:
            begin = len(carry)
            try:
                count = pipe.try_receive(buffer[begin:TURN])
                if count is None:
                    turns = 0
                    await pipe.wait_readable()
                    if source is not None and source.crowded:
                        await source.turn()
                    continue
            except PipeBroken:
                return
            if not count:
                return
            buffer[:begin] = carry
            have = begin + count
            whole = have - have % CELL
            port.last_used = switch.now()
            try:
                switch.receive(port, buffer, whole)
            except ProtocolError:
                return
            finally:
                carry = bytes(buffer[whole:have])
                switch.flush()
            turns += 1
            if turns >= _TURNS:
                turns = 0
                if source is None:
                    await trio.lowlevel.checkpoint()
                else:
                    await source.turn()
