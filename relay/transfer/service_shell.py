"""The service `runtime` of a worker: gives what it holds, within what it may cost (spec/08 §8)."""

from __future__ import annotations

from typing import Protocol

import trio

from fogbank.relay.messages_shell import Stream, receive_message, send_message
from fogbank.relay.transfer.allowance import Allowance, TransferLimits
from fogbank.relay.transfer.messages import (
    MESSAGE_SIZE,
    Reply,
    Request,
    Status,
    decode_request,
)
from fogbank.sandbox.data import PORTION


class Shelf(Protocol):
    """The runtimes that may be given away."""

    def size(self, digest: bytes) -> int | None:
        """Return how many bytes a runtime's module has; None if it is not to be given."""

    async def read(self, digest: bytes) -> bytes | None:
        """Return the module, None if it cannot be had after all."""


class TransferService:
    """Gives runtimes to whoever asks; a fault of one reader ends its stream alone."""

    def __init__(self, shelf: Shelf, limits: TransferLimits | None = None) -> None:
        self._shelf = shelf
        self._limits = limits or TransferLimits()
        self._allowance: Allowance | None = None
        self._giving = 0

    async def __call__(self, stream: Stream, _origin: object) -> None:
        """Serve one stream; the caller ends it, or resets it on an error."""
        with trio.fail_after(self._limits.request_seconds):
            data = await receive_message(stream, MESSAGE_SIZE)
        if data is None:
            return
        request = decode_request(data)
        missing = (self._shelf.size(request.digest) or 0) - request.offset
        if missing <= 0:
            await self._reply(stream, Reply(Status.NOT_HERE))
        elif self._giving >= self._limits.at_once or not self._take(missing):
            await self._reply(stream, Reply(Status.BUSY))
        else:
            await self._give(stream, request, missing)

    def _take(self, size: int) -> bool:
        now = trio.current_time()
        if self._allowance is None:
            self._allowance = Allowance(self._limits, now)
        return self._allowance.take(size, now)

    async def _reply(self, stream: Stream, reply: Reply) -> None:
        with trio.fail_after(self._limits.portion_seconds):
            await send_message(stream, reply.encode())

    async def _give(self, stream: Stream, request: Request, missing: int) -> None:
        sent = 0
        self._giving += 1
        try:
            module = await self._shelf.read(request.digest)
            if module is None or len(module) != request.offset + missing:
                await self._reply(stream, Reply(Status.NOT_HERE))
                return
            with trio.fail_after(self._limits.pace.seconds_for(missing)):
                await self._reply(stream, Reply(Status.FOLLOWS, missing))
                view = memoryview(module)[request.offset :]
                while sent < missing:
                    portion = bytes(view[sent : sent + PORTION])
                    with trio.fail_after(self._limits.portion_seconds):
                        await stream.send_all(portion)
                    sent += len(portion)
        finally:
            self._giving -= 1
            if self._allowance is not None:
                self._allowance.put_back(missing, sent, trio.current_time())
