"""Keeps a relay's consensus new, on disk and in memory, and so says whom to extend to."""

from __future__ import annotations

import logging
import random
import time

import trio

from fogbank.directory.admission import Admission
from fogbank.directory.consensus import Consensus, open_consensus
from fogbank.directory.exchange_shell import Cache
from fogbank.directory.network import NetworkDocument
from fogbank.nodes.home import Home
from fogbank.nodes.runtime import FAILURES, fetch_directly
from fogbank.relay.errors import ProtocolError
from fogbank.relay.extend import Address, RefusedCode
from fogbank.relay.files_shell import write_atomic
from fogbank.relay.keys import NodeId
from fogbank.relay.node_shell import Node

log = logging.getLogger(__name__)

_REFRESH_SECONDS = 2.0
"""A relay that is asked for a node it does not know fetches at most so often."""
_SPREAD = 0.05
"""Relays fetch a new consensus within this share of its interval."""
_RETRY_SECONDS = (0.5, 60.0)
_RETRY_SHARE = 0.1


class ConsensusKeeper:
    """A relay's view of the network; its extend policy too (`fogbank.relay.extend`)."""

    def __init__(self, home: Home, network: NetworkDocument) -> None:
        self._home = home
        self._network = network
        self._admission = Admission(time.time, test=network.test)
        self._last_refresh = -_REFRESH_SECONDS
        self._node: Node | None = None
        self._fetching = trio.Lock()
        self.cache = Cache(time.time)
        """What the relay's own `dir` service answers from."""
        self.consensus: Consensus | None = None

    def load(self) -> None:
        """Take up the consensus on disk, if it is still good."""
        try:
            data = self._home.consensus_file.read_bytes()
            self._take(data, open_consensus(data, self._network, time.time()))
        except FileNotFoundError:
            return
        except (OSError, ProtocolError) as error:
            log.info("the consensus on disk is of no use: %s", error)

    def check(self, identity: NodeId, addresses: tuple[Address, ...] | None) -> RefusedCode | None:
        """Return why not to extend there, or None."""
        return self._admission.check(identity, addresses)

    async def refresh(self) -> None:
        """Fetch a newer consensus, unless that was tried just now."""
        if trio.current_time() - self._last_refresh >= _REFRESH_SECONDS:
            await self._fetch()

    async def run(self, node: Node) -> None:
        """Fetch each new consensus soon after it is made."""
        self._node = node
        while True:
            await trio.sleep(self._wait())
            await self._fetch()

    def _wait(self) -> float:
        now = time.time()
        least, most = _RETRY_SECONDS
        if self.consensus is None:
            return least
        length = self.consensus.fresh_until - self.consensus.valid_after
        spread = random.SystemRandom().uniform(0, _SPREAD * length)
        due = self.consensus.fresh_until + spread - now
        return due if due > 0 else min(max(length * _RETRY_SHARE, least), most)

    async def _fetch(self) -> None:
        if self._node is None:
            return
        async with self._fetching:
            self._last_refresh = trio.current_time()
            try:
                found = await fetch_directly(self._node, self._network, self.consensus)
            except FAILURES as error:
                log.info("no consensus: %s", error)
                return
            if found is not None:
                self._take(*found)
                self._save(found[0])

    def _take(self, data: bytes, consensus: Consensus) -> None:
        self.consensus = consensus
        self._admission.add(consensus)
        self.cache.hold(data, consensus)

    def _save(self, data: bytes) -> None:
        try:
            write_atomic(self._home.consensus_file, data)
        except OSError as error:
            log.warning("the consensus cannot be kept on disk: %s", error.strerror)
