"""The circuits of an array: one to each worker that it uses (spec/11 §3)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import trio

from fogbank.client.comebacks import Comebacks
from fogbank.client.errors import ClientError
from fogbank.client.scheduling.words import Candidate
from fogbank.relay.errors import RelayError
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream


class Line(Protocol):
    """A circuit to a worker. `way`: the nicknames on it, the worker's at last."""

    @property
    def way(self) -> tuple[str, ...]:
        """The nicknames on it."""

    async def open_stream(self) -> Stream:
        """Begin a stream to its job service; raise `RelayError`."""

    def close(self) -> None:
        """End the circuit."""


class Reach(Protocol):
    """How workers are reached."""

    def candidates(self) -> Sequence[Candidate]:
        """Return the workers that are listed now and may run the program."""

    async def connect(self, worker: NodeId) -> Line:
        """Build a circuit; raise `ClientError` or `RelayError`."""


@dataclass(slots=True, eq=False)
class _Shared:
    """A circuit, and how many have it."""

    users: int = 0
    line: Line | None = None
    lock: trio.Lock = field(default_factory=trio.Lock)


class Lines:
    """The circuits of an array, one to a worker, shared by its sessions there."""

    def __init__(self, reach: Reach) -> None:
        self.comebacks = Comebacks(trio.current_time())
        self._reach = reach
        self._shared: dict[NodeId, _Shared] = {}

    @asynccontextmanager
    async def to(self, worker: NodeId) -> AsyncIterator[Line]:
        """Give the circuit to a worker, which ends when nobody has it any more."""
        shared = self._shared.setdefault(worker, _Shared())
        shared.users += 1
        try:
            async with shared.lock:
                if shared.line is None:
                    shared.line = await self._reach.connect(worker)
                    self.comebacks.reached(trio.current_time())
            yield shared.line
        except (RelayError, ClientError):
            # Something is wrong with it, perhaps: the next session gets another one.
            if self._shared.get(worker) is shared:
                del self._shared[worker]
            raise
        finally:
            shared.users -= 1
            if not shared.users:
                if self._shared.get(worker) is shared:
                    del self._shared[worker]
                if shared.line is not None:
                    shared.line.close()
