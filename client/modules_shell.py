"""Modules of a job at its workers: each is sent to a worker once (spec/08 §2, MODULE)."""

from __future__ import annotations

import secrets
from typing import Final

import trio

from fogbank.relay.job.held.messages import JOB_KEY_SIZE
from fogbank.relay.keys import NodeId

_PATIENCE: Final = 30.0
"""Seconds for which a session waits while another brings the module; then it brings it itself."""


class Module:
    """The module of a job at one worker. `key`: what the worker keeps it under, a secret."""

    def __init__(self) -> None:
        self.key = secrets.token_bytes(JOB_KEY_SIZE)
        self._there: set[object] = set()
        self._bringing: object | None = None
        self._changed = trio.Event()

    async def claim(self, session: object) -> bool:
        """Return whether the worker has it; if not, `session` is to bring it now."""
        with trio.move_on_after(_PATIENCE):
            while self._bringing is not None and not self._there:
                await self._changed.wait()
        if self._there:
            return True
        self._bringing = session
        return False

    def arrived(self, session: object) -> None:
        """The worker has it, as long as this session is there, if not longer."""
        self._there.add(session)
        self._settle(session)

    def gone(self, session: object) -> None:
        """This session is over, or has lost its stream."""
        self._there.discard(session)
        self._settle(session)

    def lost(self) -> None:
        """The worker does not have it any more, whatever was known."""
        self._there.clear()

    def _settle(self, session: object) -> None:
        if self._bringing is session:
            self._bringing = None
        self._changed.set()
        self._changed = trio.Event()


class Modules:
    """The module of a job at each of its workers."""

    def __init__(self) -> None:
        self._at: dict[NodeId, Module] = {}

    def at(self, worker: NodeId) -> Module:
        """Return what is known of it at a worker."""
        if worker not in self._at:
            self._at[worker] = Module()
        return self._at[worker]
