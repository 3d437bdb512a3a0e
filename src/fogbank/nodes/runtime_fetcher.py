"""A worker that gets, at its operator's wish, each runtime that the network accepts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf

import trio

from fogbank.client.circuits_shell import CircuitBuilder
from fogbank.client.errors import ClientError
from fogbank.client.topology import Topology
from fogbank.client.transfer_shell import fetch_runtime
from fogbank.directory.runtimes import Runtime
from fogbank.nodes.held_runtimes import LOOK_SECONDS, HeldRuntimes
from fogbank.relay.circuits.shell import Circuit
from fogbank.relay.keys import NodeId
from fogbank.sandbox.runtimes.store_shell import RuntimeRefused

log = logging.getLogger(__name__)

RETRY_SECONDS = 600.0
"""How long one that could not be had is left alone."""


def _to_nobody(_: str) -> None:
    """Hear how it goes: which workers are asked is in no log (spec/10 §4)."""


class RuntimeFetcher:
    """Looks what is missing, and asks other workers for it."""

    def __init__(
        self,
        held: HeldRuntimes,
        builder: CircuitBuilder[Circuit],
        topology: Callable[[], Topology | None],
        own: NodeId,
    ) -> None:
        self._held = held
        self._builder = builder
        self._topology = topology
        self._own = own
        self._again: dict[bytes, float] = {}

    async def run(self) -> None:
        """Fetch for as long as the worker runs."""
        while True:
            await self.look()
            await trio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Fetch each runtime that is missing, unless it could not be had a while ago."""
        for runtime in self._held.missing():
            if self._again.get(runtime.digest, -inf) <= trio.current_time():
                self._again[runtime.digest] = trio.current_time() + RETRY_SECONDS
                await self._fetch(runtime)

    async def _fetch(self, runtime: Runtime) -> None:
        store, topology = self._held.store, self._topology()
        if store is None or topology is None:
            return
        own = frozenset({self._own})
        try:
            with self._builder.circuits() as circuits:
                data = await fetch_runtime(circuits, topology, runtime, _to_nobody, own)
            await trio.to_thread.run_sync(store.add, data)
        except (ClientError, RuntimeRefused, OSError) as error:
            kind, minutes = type(error).__name__, round(RETRY_SECONDS / 60)
            log.warning("no %s yet (%s); next try in %d min", runtime.name, kind, minutes)
        else:
            log.info("the runtime %s is here", runtime.name)
