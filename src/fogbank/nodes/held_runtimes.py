"""The runtimes that a worker holds: its operator may add and remove some while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import trio

from fogbank.sandbox.runtimes.catalogue import RuntimeSpec

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Seconds between two looks at what is held; a look costs a few system calls."""


class Store(Protocol):
    """Where runtimes are kept; `fogbank.sandbox.runtimes.store_shell.RuntimeStore` is one."""

    def held(self) -> tuple[RuntimeSpec, ...]:
        """Return those that are there; raises `OSError`."""

    def read(self, digest: bytes) -> bytes:
        """Return a runtime's module; raises `RuntimeRefused` or `OSError`."""


class HeldRuntimes:
    """What a store holds, as of the last look; nothing if there is none."""

    def __init__(self, store: Store | None) -> None:
        self.store = store
        self._held: tuple[RuntimeSpec, ...] = ()
        self._trouble = ""
        self.look()

    @property
    def digests(self) -> tuple[bytes, ...]:
        """The SHA-256 of each one's module."""
        return tuple(spec.digest for spec in self._held)

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
