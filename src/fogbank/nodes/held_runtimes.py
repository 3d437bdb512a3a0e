"""The runtimes that a worker holds: its operator may add and remove some while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import trio

from fogbank.directory.consensus import Consensus
from fogbank.directory.runtimes import Runtime
from fogbank.sandbox.runtimes.catalogue import RuntimeSpec, by_digest
from fogbank.sandbox.runtimes.store_shell import RuntimeRefused

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Seconds between two looks at what is held; a look costs a few system calls."""


class Store(Protocol):
    """Where runtimes are kept; `fogbank.sandbox.runtimes.store_shell.RuntimeStore` is one."""

    def held(self) -> tuple[RuntimeSpec, ...]:
        """Return those that are there; raises `OSError`."""

    def read(self, digest: bytes) -> bytes:
        """Return a runtime's module; raises `RuntimeRefused` or `OSError`."""

    def add(self, data: bytes) -> RuntimeSpec:
        """Keep a module; raises `RuntimeRefused` or `OSError`."""


class HeldRuntimes:
    """What a store holds, as of the last look; nothing if there is none.

    It is the shelf of the service `runtime`, too: of what is held, strangers are given what the
    newest consensus accepts, which is looked up in `consensus`.
    """

    def __init__(self, store: Store | None, consensus: Callable[[], Consensus | None]) -> None:
        self.store = store
        self._consensus = consensus
        self._held: tuple[RuntimeSpec, ...] = ()
        self._trouble = ""
        self.look()

    @property
    def digests(self) -> tuple[bytes, ...]:
        """The SHA-256 of each one's module."""
        return tuple(spec.digest for spec in self._held)

    def now(self) -> tuple[bytes, ...]:
        """Return the digests of what is there at this moment, for a job that is to begin."""
        if self.store is None:
            return ()
        with suppress(OSError):
            return tuple(spec.digest for spec in self.store.held())
        return ()

    def look(self) -> bool:
        """Look again; tell whether anything has changed."""
        if self.store is None:
            return False
        before = self._held
        try:
            self._held = self.store.held()
            self._trouble = ""
        except OSError as error:
            self._held = ()
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("the runtimes cannot be looked at: %s", error)
        return self._held != before

    async def watch(self, changed: Callable[[], None]) -> None:
        """Look again and again; call `changed` when something has."""
        while self.store is not None:
            await trio.sleep(LOOK_SECONDS)
            if self.look():
                names = ", ".join(spec.name for spec in self._held) or "none"
                log.info("runtimes that are held now: %s", names)
                changed()

    def missing(self) -> tuple[Runtime, ...]:
        """Return what the network accepts, this program knows, and is not held."""
        digests = self.digests
        return tuple(
            runtime
            for runtime in self._accepted()
            if by_digest(runtime.digest) is not None and runtime.digest not in digests
        )

    def _accepted(self) -> tuple[Runtime, ...]:
        consensus = self._consensus()
        return (consensus.runtimes or ()) if consensus is not None else ()

    # The shelf of the service.

    def size(self, digest: bytes) -> int | None:
        """Return how many bytes a runtime's module has; None if it is not to be given."""
        if digest not in self.digests:
            return None
        sizes = (each.size for each in self._accepted() if each.digest == digest)
        return next(sizes, None)

    async def read(self, digest: bytes) -> bytes | None:
        """Return the module, None if it cannot be had after all."""
        if self.store is not None:
            # It may be large: jobs and circuits go on meanwhile.
            with suppress(RuntimeRefused, OSError):
                return await trio.to_thread.run_sync(self.store.read, digest)
        return None
