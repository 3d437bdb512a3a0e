"""A worker: runs jobs for circuits that reach it over the links that it dials itself."""

from __future__ import annotations

import logging
import time
from functools import partial

import trio

from fogbank.client.chance_shell import SystemChooser
from fogbank.client.circuits_shell import CircuitBuilder
from fogbank.client.directory_cache_shell import DirectoryCache
from fogbank.client.guards_store_shell import GuardStore
from fogbank.directory.consensus import Consensus
from fogbank.directory.descriptor import Description, Role
from fogbank.directory.network import NetworkDocument
from fogbank.nodes.contact_links import ContactLinks
from fogbank.nodes.home import Home, Settings
from fogbank.nodes.runtime import (
    Publisher,
    authority_streams,
    nearly_always_far,
    renew_keys,
    run_until_told,
)
from fogbank.relay.job.limits import JobLimits
from fogbank.relay.job.service_shell import JobService
from fogbank.relay.link.tls_shell import TlsTransport
from fogbank.relay.node_shell import Node, NodeConfig
from fogbank.sandbox.engine import engine_class
from fogbank.sandbox.limits import Limits, SandboxConfig
from fogbank.sandbox.pool_shell import Sandbox, open_sandbox

log = logging.getLogger(__name__)

JOB_SERVICE = "job"


async def run_worker(home: Home, *, eof: bool) -> None:
    """Run the worker whose home is `home` until it is told to end."""
    settings = home.settings()
    defaults = SandboxConfig()
    ceilings = Limits(
        fuel=defaults.ceilings.fuel,
        memory=settings.memory,
        wall_seconds=defaults.ceilings.wall_seconds,
        output=defaults.ceilings.output,
    )
    config = SandboxConfig(settings.cores, settings.cores, ceilings, defaults.compiling)
    async with open_sandbox(config) as sandbox:
        log.info("the jail: %s", sandbox.report)
        await run_until_told(_Worker(home, settings, sandbox, ceilings).main, eof=eof)


class _Worker:
    """The parts of a running worker."""

    def __init__(self, home: Home, settings: Settings, sandbox: Sandbox, ceilings: Limits) -> None:
        network = home.network()
        self._network: NetworkDocument = network
        self._store = home.keys(time.time())
        engine = engine_class()
        service = JobService(sandbox, engine, ceilings, JobLimits(places=settings.cores))
        config = NodeConfig(
            network.network_id,
            TlsTransport(settings.source),
            self._store,
            services={JOB_SERVICE: service},
        )
        description = Description(
            settings.nickname,
            Role.WORKER,
            services=(JOB_SERVICE,),
            engine=engine,
            memory=settings.memory,
            cores=settings.cores,
        )
        self._publisher = Publisher(home, network, self._store, description)
        self._node = Node(config)
        self._contacts = ContactLinks(self._node, self._store.identity)
        chooser = SystemChooser()
        self._cache = DirectoryCache(
            home.folder, network, chooser, log.warning, on_consensus=self._on_consensus
        )
        self._builder = CircuitBuilder(
            self._node,
            GuardStore(home.folder, network.network_id, log.warning),
            chooser,
            log.warning,
        )
        self._opener = nearly_always_far(self._node, self._builder, self._cache)

    def _on_consensus(self, _data: bytes, consensus: Consensus) -> None:
        self._contacts.update(consensus)

    async def main(self, nursery: trio.Nursery) -> None:
        """Start everything in `nursery`."""
        await nursery.start(self._node.run)
        self._cache.load()
        nursery.start_soon(self._contacts.run)
        nursery.start_soon(self._publisher.run, authority_streams(self._network, self._opener))
        nursery.start_soon(partial(self._cache.keep_new, self._opener, soon=True))
        nursery.start_soon(renew_keys, self._store, self._publisher.renewed_keys)
