"""A relay's view of the network: whom it extends to, and the consensus that it serves."""

from __future__ import annotations

import logging

import trio

from fogbank.client.circuits_shell import directly
from fogbank.client.directory_cache_shell import DirectoryCache
from fogbank.client.errors import DirectoryUnavailable
from fogbank.directory.admission import Admission
from fogbank.directory.consensus import Consensus
from fogbank.directory.exchange_shell import Cache
from fogbank.nodes.environment import Environment
from fogbank.nodes.home import Home
from fogbank.nodes.versions import Versions
from fogbank.relay.extend import Address, RefusedCode
from fogbank.relay.keys import NodeId
from fogbank.relay.node_shell import Node

log = logging.getLogger(__name__)

_REFRESH_SECONDS = 2.0
"""A relay that is asked for a node it does not know fetches at most so often."""


class ConsensusKeeper:
    """Keeps a relay's consensus new; its extend policy too (`fogbank.relay.extend`)."""

    def __init__(self, home: Home, versions: Versions, environment: Environment) -> None:
        network = versions.network
        self._admission = Admission(environment.clock, test=network.test)
        self._directory = DirectoryCache(
            home.folder,
            network,
            environment.chooser,
            log.info,
            clock=environment.clock,
            write=environment.write,
            on_consensus=self._take,
        )
        self._directory.on_version = versions.take
        self._last_refresh = -_REFRESH_SECONDS
        self._fetching = trio.Lock()
        self._node: Node | None = None
        self.cache = Cache(environment.clock)
        """What the relay's own `dir` service answers from."""

    @property
    def consensus(self) -> Consensus | None:
        """The live consensus, or None."""
        return self._directory.consensus

    def check(self, identity: NodeId, addresses: tuple[Address, ...] | None) -> RefusedCode | None:
        """Return why not to extend there, or None."""
        return self._admission.check(identity, addresses)

    async def refresh(self) -> None:
        """Fetch a newer consensus, unless that was tried just now."""
        async with self._fetching:
            too_soon = trio.current_time() - self._last_refresh < _REFRESH_SECONDS
            if self._node is None or too_soon:
                return
            self._last_refresh = trio.current_time()
            try:
                await self._directory.refresh(directly(self._node))
            except DirectoryUnavailable as error:
                log.info("%s", error)

    async def run(self, node: Node) -> None:
        """Take up the consensus on disk, then fetch each new one soon after it is made."""
        self._node = node
        self._directory.load()
        await self._directory.keep_new(directly(node), soon=True, sleep=node.waking.sleep)

    def _take(self, data: bytes, consensus: Consensus) -> None:
        self._admission.add(consensus)
        self.cache.hold(data, consensus)
