"""A worker: runs jobs for circuits that reach it over the links that it dials itself."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import trio

from fogbank.client.circuits_shell import CircuitBuilder
from fogbank.client.directory_cache_shell import DirectoryCache
from fogbank.client.guards_store_shell import GuardStore
from fogbank.client.wallet.mint_client_shell import mint_streams
from fogbank.directory.consensus import Consensus
from fogbank.directory.descriptor import Description, Role
from fogbank.nodes.contact_links import ContactLinks
from fogbank.nodes.environment import Environment
from fogbank.nodes.held_runtimes import HeldRuntimes, Store
from fogbank.nodes.home import Home, Settings
from fogbank.nodes.runtime import (
    Publisher,
    authority_streams,
    nearly_always_far,
    renew_keys,
    run_until_told,
)
from fogbank.nodes.runtime_fetcher import RuntimeFetcher
from fogbank.nodes.status import Observed
from fogbank.nodes.status_shell import run_with_status
from fogbank.nodes.versions import Versions
from fogbank.nodes.withdrawals import Withdrawals
from fogbank.relay.job.attestation import SECRET_SIZE, Signer, Statement
from fogbank.relay.job.held.sessions_shell import HeldSessions
from fogbank.relay.job.kinds import SERVICE as JOB_SERVICE
from fogbank.relay.job.limits import JobLimits
from fogbank.relay.job.service_shell import JobService
from fogbank.relay.job.workplace_shell import Runner
from fogbank.relay.node_shell import NodeConfig
from fogbank.relay.transfer.messages import SERVICE as RUNTIME_SERVICE
from fogbank.relay.transfer.service_shell import TransferService
from fogbank.sandbox.engine import engine_class
from fogbank.sandbox.jail import JailReport
from fogbank.sandbox.limits import Limits, SandboxConfig
from fogbank.sandbox.pool_shell import open_sandbox
from fogbank.sandbox.runtimes.store_shell import RuntimeStore
from fogbank.sandbox.scratch_shell import Scratch

log = logging.getLogger(__name__)

_TELLING_SECONDS = 3.0
"""A worker that ends waits no longer for an authority to hear of it."""


async def run_worker(
    home: Home, *, eof: bool, fetch_runtimes: bool = False, drain: int | None = None
) -> None:
    """Run the worker whose home is `home` until it is told to end.

    What runs then has `drain` seconds to finish, or as many as the settings say. With
    `fetch_runtimes` it gets the runtimes that the network accepts from other workers.
    """
    settings = home.settings()
    defaults = SandboxConfig()
    config = SandboxConfig(
        settings.cores,
        settings.cores,
        ceilings_of(settings),
        defaults.compiling,
        floor=settings.floor,
    )
    store = RuntimeStore(home.runtimes_folder)
    scratch = Scratch(home.scratch_folder)
    async with open_sandbox(config, store, scratch.sink) as sandbox:
        _log_jail(sandbox.report)
        worker = WorkerNode(home, sandbox, engine_class(), store=store)
        worker.fetches_runtimes, worker.warm = fetch_runtimes, sandbox.warm
        main = partial(run_with_status, home, worker.run, worker.observe, worker.news)
        leave = partial(worker.leave, settings.drain if drain is None else drain)
        await run_until_told(main, eof=eof, leave=leave)


def ceilings_of(settings: Settings) -> Limits:
    """Return the most that a task may ask of a worker."""
    most = SandboxConfig().ceilings
    return Limits(
        fuel=most.fuel,
        memory=settings.memory,
        wall_seconds=most.wall_seconds,
        output=most.output,
    )


def _log_jail(report: JailReport) -> None:
    log.info("layers of the jail: %s", ", ".join(report.active))
    for layer in report.missing:
        log.info("not there: %s (%s)", layer.name, layer.detail)


class WorkerNode:
    """The parts of a worker; `runner` runs its jobs, as of the engine class `engine`.

    `store` is where the runner has its runtimes.
    """

    def __init__(
        self,
        home: Home,
        runner: Runner,
        engine: str,
        environment: Environment | None = None,
        store: Store | None = None,
    ) -> None:
        machine = environment or Environment()
        settings, self._versions = home.settings(), Versions(home)
        network = self._versions.network
        self._clock, self._random = machine.clock, machine.random
        self._store = home.keys(machine.clock())
        limits = JobLimits(places=settings.cores)
        self._runtimes = HeldRuntimes(store, lambda: self._cache.consensus)
        self._leaving = 0.0
        self.news = trio.Event()
        """Set when its status has changed so that it is to be told at once."""
        self.fetches_runtimes = False
        """Whether it gets what the network accepts and it does not hold."""
        self.warm: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        """Has the runner get ready what has come to be held."""
        self.jobs = JobService(
            runner,
            engine,
            ceilings_of(settings),
            limits,
            self._runtimes.now,
            settings.floor,
            attest=self._attest,
            sinks=Scratch(home.scratch_folder).sink,
        )
        """What its circuits end in."""
        self.jobs.hold_in(HeldSessions(home.held_folder, machine.clock, blocking=machine.blocking))
        config = NodeConfig(
            network.network_id,
            machine.transport(settings.source),
            self._store,
            services={
                JOB_SERVICE: self.jobs,
                RUNTIME_SERVICE: TransferService(self._runtimes),
            },
            clock=machine.clock,
            random=machine.random,
            place=machine.place_in(network, settings.source),
        )
        self._description = Description(
            settings.nickname,
            Role.WORKER,
            services=(JOB_SERVICE, RUNTIME_SERVICE),
            engine=engine,
            memory=settings.memory,
            cores=settings.cores,
            runtimes=self._runtimes.digests,
        )
        self.node = machine.node(config)
        """Its place in the onion network."""
        self._publisher = Publisher(
            home, network, self._store, self._description, machine, self.node.waking
        )
        self._contacts = ContactLinks(self.node, self._store.identity, machine.chooser)
        self._cache = DirectoryCache(
            home.folder,
            network,
            machine.chooser,
            log.warning,
            clock=machine.clock,
            write=machine.write,
            on_consensus=self._on_consensus,
        )
        self._cache.on_version = self._versions.take
        self._versions.tell(self._publisher)
        guards = GuardStore(home.folder, network.network_id, log.warning, machine.write)
        builder = CircuitBuilder(
            self.node, guards, machine.chooser, log.warning, clock=machine.clock
        )
        self._fetcher = RuntimeFetcher(
            self._runtimes, builder, lambda: self._cache.topology, self._store.identity
        )
        self._opener = nearly_always_far(self.node, builder, self._cache)
        self._withdrawals = Withdrawals(
            home,
            network,
            self._store,
            mint_streams(builder, lambda: self._cache.topology),
            lambda: self._cache.consensus,
            machine,
        )

    def observe(self) -> Observed:
        """Return what its operator may see of it now."""
        return Observed(
            self._store.identity,
            len(self.node.links),
            self._cache.consensus,
            self._publisher.published,
            self._contacts.standing,
            effort=self.node.effort_asked,
            leaving=self._leaving,
        )

    async def leave(self, seconds: float) -> None:
        """Take no new work, let what runs finish within so many seconds, and tell it everyone."""
        log.info("taking no new work; what runs has %g s; a second signal ends it", seconds)
        self._leaving = self._clock() + seconds
        self.news.set()
        self._description = replace(self._description, services=())
        self._publisher.describe_as(self._description)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_authorities)
            await self.jobs.drain(seconds)

    async def _tell_authorities(self) -> None:
        with trio.move_on_after(_TELLING_SECONDS):
            await self._publisher.wait_taken()

    def _on_consensus(self, _data: bytes, consensus: Consensus) -> None:
        self._contacts.update(consensus)

    def _on_runtimes(self, nursery: trio.Nursery) -> None:
        described = replace(self._description, runtimes=self._runtimes.digests)
        self._publisher.describe_as(described)
        nursery.start_soon(self.warm)

    def _attest(self, statement: Statement) -> bytes:
        """Sign what a task came to, with the signing key of the day."""
        signer = Signer(self._store.signing_key, self._store.chain.signing)
        return signer.attest(statement, self._random(SECRET_SIZE), self._clock()).encode()

    async def run(self) -> None:
        """Work until cancelled."""
        streams = authority_streams(lambda: self._versions.network, self._opener)
        async with trio.open_nursery() as nursery:
            # First what is held: who comes back with a ticket is not to be told that it is unknown.
            await nursery.start(self.jobs.run)
            await nursery.start(self.node.run)
            self._cache.load()
            nursery.start_soon(self._contacts.run)
            nursery.start_soon(self._withdrawals.run, self.node.waking)
            nursery.start_soon(self._publisher.run, streams)
            nursery.start_soon(self._runtimes.watch, partial(self._on_runtimes, nursery))
            if self.fetches_runtimes:
                nursery.start_soon(self._fetcher.run)
            sleep = self.node.waking.sleep
            nursery.start_soon(partial(self._cache.keep_new, self._opener, soon=True, sleep=sleep))
            nursery.start_soon(
                renew_keys,
                self._store,
                self._clock,
                self._publisher.renewed_keys,
                self.node.waking,
            )
