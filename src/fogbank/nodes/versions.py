"""A node goes over to the next version of its network document while it runs (spec/05 §1.5)."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Protocol

import trio

from fogbank.directory.network import NetworkDocument, SignedNetwork
from fogbank.nodes.home import Home, HomeError

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class Part(Protocol):
    """A part of a node that goes by the network document."""

    network: NetworkDocument
    """The newest version; it says itself which version governs when."""


class Versions:
    """The network document of a running node: each next version is kept, and told to the parts."""

    def __init__(self, home: Home) -> None:
        self.network = home.network()
        """The newest version."""
        self._home = home
        self._parts: list[Part] = []
        self._held: tuple[SignedNetwork, ...] = ()
        self._stamp = _stamp(home.network_file)

    def held(self) -> tuple[SignedNetwork, ...]:
        """Return the versions on the disk, in order and without gaps, to be passed on."""
        if not self._held or self._held[-1].document.version != self.network.version:
            try:
                self._held = self._home.versions()
            except HomeError as error:
                log.warning("%s; the network document cannot be passed on", error)
        return self._held

    def tell(self, *parts: Part) -> None:
        """Have these parts of the node go by each later version."""
        self._parts += parts

    def take(self, signed: SignedNetwork, network: NetworkDocument) -> None:
        """Take the next version, which has been verified: on the disk first, then everywhere."""
        try:
            self._home.follow(signed)
        except HomeError as error:
            log.warning("%s; until the next start it is gone by all the same", error)
        self._go_over(network)

    def _go_over(self, network: NetworkDocument) -> None:
        self.network = network
        for part in self._parts:
            part.network = network
        log.info(
            "version %d of the network document is held, with %d authorities: it is in force from "
            "%s UTC on", network.version, len(network.authorities),
            time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(network.in_force)),
        )  # fmt: skip

    async def watch(self) -> None:
        """Take up what an operator hands in, by `fog join` in this node's folder."""
        while True:
            await trio.sleep(_LOOK_SECONDS)
            stamp = _stamp(self._home.network_file)
            if stamp == self._stamp:
                continue
            self._stamp = stamp
            try:
                network = self._home.network()
            except HomeError as error:
                log.error("%s; version %d stays", error, self.network.version)  # noqa: TRY400 - a sentence for the operator
                continue
            if network.version > self.network.version:
                self._go_over(network)


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino
