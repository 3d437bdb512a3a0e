"""An authority: votes, signs, and serves the directory."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from functools import partial
from typing import ClassVar

import trio

from fogbank.client.circuits_shell import directly
from fogbank.client.wallet.mint_client_shell import mint_directly
from fogbank.directory.authority_shell import AuthorityShell
from fogbank.directory.consensus import Consensus
from fogbank.directory.descriptor import Description, Role
from fogbank.directory.exchange import SERVICE as DIRECTORY_SERVICE
from fogbank.directory.mint.calendar import Calendar
from fogbank.directory.mint.contributor import MintContributor
from fogbank.directory.mint.exchange import SERVICE as MINT_SERVICE
from fogbank.directory.mint.ledgers_shell import Ledgers, has_ledgers
from fogbank.directory.mint.mint_shell import Mint
from fogbank.directory.mint.office import pin_of
from fogbank.directory.mint.secret import MintSecret
from fogbank.directory.mint.state import MintState
from fogbank.directory.mint.wording import in_words
from fogbank.directory.network import AuthorityPin
from fogbank.directory.signatures import Credentials
from fogbank.nodes.environment import Environment
from fogbank.nodes.home import Home, HomeError
from fogbank.nodes.leaving import Leaving
from fogbank.nodes.policy_file import POLICY_FILE, PolicyFile
from fogbank.nodes.runtime import (
    Publisher,
    authority_streams,
    renew_keys,
    run_until_told,
)
from fogbank.nodes.status import AuthorityReport, Observed, SeriesReport
from fogbank.nodes.status_shell import run_with_status
from fogbank.nodes.tor_view import serve_tor_formats
from fogbank.nodes.versions import Versions
from fogbank.relay.errors import LinkFailed
from fogbank.relay.extend import Address
from fogbank.relay.keys import NodeId
from fogbank.relay.keystore_shell import KeyStore
from fogbank.relay.messages_shell import Stream
from fogbank.relay.node_shell import NodeConfig

_PROBE_SECONDS = 20.0
"""For all addresses of a relay: one that claims many holds up no other for longer."""


def _credentials(store: KeyStore) -> Credentials:
    return Credentials(store.identity, store.signing_key, store.chain.signing)


async def run_authority(home: Home, *, eof: bool) -> None:
    """Run the authority whose home is `home` until it is told to end."""
    authority = AuthorityNode(home)
    try:
        main = partial(run_with_status, home, authority.run, authority.observe)
        await run_until_told(main, eof=eof)
    finally:
        authority.close()


class _Seats:
    """What an authority's rounds know of the mint, and of its own part in it."""

    def __init__(self, secret: MintSecret, shell: AuthorityShell) -> None:
        self._shell = shell
        self.vote = secret.vote

    @property
    def _mint(self) -> MintContributor:
        return self._shell.core.mint

    @property
    def state(self) -> MintState:
        return self._mint.held.state

    def share_of(self, series: int) -> int | None:
        return self._mint.share_of(series)

    def dealings(self, series: int) -> tuple[tuple[NodeId, bytes], ...]:
        return self._mint.dealings(series)

    def missing(self) -> tuple[int, ...]:
        return self._mint.missing()

    def take_dealings(self, series: int, dealings: Iterable[tuple[NodeId, bytes]]) -> None:
        self._shell.take_dealings(series, dealings)


class AuthorityNode:
    """The parts of an authority, which need each other. To be closed after it has run."""

    shell_type: ClassVar[type[AuthorityShell]] = AuthorityShell
    """What runs its rounds."""

    def __init__(self, home: Home, environment: Environment | None = None) -> None:
        machine = environment or Environment()
        settings, self._versions = home.settings(), Versions(home)
        network = self._versions.network
        store = home.keys(machine.clock())
        if network.find(store.identity) is None and not has_ledgers(home.mint):
            raise HomeError(
                f"{home.network_file} does not name this node as an authority: have it added with "
                "`fog network create` or `fog network amend`, then signed by the others"
            )
        self._store = store
        self._clock = machine.clock
        self._calendar = Calendar.of(network)
        self._tor_port = settings.tor_port
        self._addresses = settings.addresses
        description = Description(
            settings.nickname,
            Role.AUTHORITY,
            settings.addresses,
            (DIRECTORY_SERVICE, MINT_SERVICE),
        )
        secret = home.mint_secret()
        self._database = machine.store(home.database)
        self.shell = self.shell_type(
            network,
            _credentials(store),
            self._database,
            connect=self._connect,
            probe=self._probe,
            clock=machine.clock,
            policy=PolicyFile(home.folder / POLICY_FILE),
            mint=secret,
        )
        """Its rounds, and its `dir` service."""
        self.mint = Mint(
            network,
            store.identity,
            _Seats(secret, self.shell),
            Ledgers(home.mint, machine.clock, machine.blocking, machine.ledger),
            crunch=machine.crunch(network.network_id),
            connect=self._connect_mint,
            clock=machine.clock,
            random=machine.random,
        )
        """Its part of the mint, and its `mint` service."""
        self.node = machine.node(
            NodeConfig(
                network.network_id,
                machine.transport(settings.source),
                store,
                services={DIRECTORY_SERVICE: self.shell.service, MINT_SERVICE: self.mint.service},
                clock=machine.clock,
                random=machine.random,
                place=machine.place_in(network, settings.source),
            )
        )
        """Its place in the onion network."""
        waking = self.node.waking
        self._publisher = Publisher(home, network, store, description, machine, waking)
        self._streams = authority_streams(lambda: self._versions.network, directly(self.node))
        self._mint_streams = mint_directly(self.node, self._member)
        # What it votes for itself is an authority's; once it has left office others list a relay.
        as_relay = replace(description, role=Role.RELAY)
        self._departure = Publisher(home, network, store, as_relay, machine, waking)
        self._leaving = Leaving(
            store.identity, lambda: self._versions.network, lambda: self.shell.core.mint.held.state
        )
        self._versions.tell(self._publisher, self._departure, self.shell, self.mint)
        self.shell.on_adopted = lambda _, consensus: self._adopted(consensus)
        self.shell.core.mint.counts = lambda: self.mint.ledgers.counts().items()
        self.shell.versions = self._versions.held
        self.shell.on_version = self._versions.take
        self.tor_port: int | None = None
        """The loopback port at which Tor's formats are served now."""

    async def run(self) -> None:
        """Work until cancelled, or until nothing needs an authority that left office.

        Raises `LinkFailed` if it cannot listen, in a group.
        """
        self._publish_own()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.mint.run)
            await nursery.start(self.shell.run)
            await nursery.start(self.node.run, self._addresses)
            if self._tor_port is not None:
                serve = serve_tor_formats(
                    self._versions.network, self._tor_port, lambda: self.consensus
                )
                self.tor_port = await nursery.start(serve)
            nursery.start_soon(self._catch_up)
            nursery.start_soon(self._republish)
            nursery.start_soon(self._versions.watch)
            nursery.start_soon(
                renew_keys, self._store, self._clock, self._renewed, self.node.waking
            )
            await self._leaving.run(partial(self._departure.run, self._streams), self._is_cleared)
            nursery.cancel_scope.cancel()

    def _is_cleared(self) -> bool:
        """Tell whether the ledgers of all series that are over are deleted."""
        state = self.shell.core.mint.held.state
        living = {each.number for each in state.series}
        if state.generation is not None:
            living.add(state.generation.series)
        return living >= self.mint.ledgers.all().keys()

    @property
    def consensus(self) -> Consensus | None:
        """The newest consensus that it holds."""
        return self.shell.core.consensus

    def observe(self) -> Observed:
        """Return what its operator may see of it now."""
        nodes = self.shell.core.nodes
        report = AuthorityReport(
            self.shell.summary,
            len(nodes),
            nodes.running,
            self.shell.unreachable,
            self.tor_port,
            tuple(
                SeriesReport(series, file.head.locked, file.head.issued, file.head.is_whole)
                for series, file in sorted(self.mint.ledgers.all().items())
            ),
            self.mint.effort,
            in_words(self.shell.core.mint.held.state, self._calendar, self._clock()),
        )
        links = len(self.node.links)
        effort = self.node.effort_asked
        return Observed(
            self._store.identity,
            links,
            self.consensus,
            self._departure.published if self._leaving.until else (),
            authority=report,
            effort=effort,
            leaving=self._leaving.until,
        )

    def close(self) -> None:
        """Close the databases."""
        self.mint.ledgers.close()
        self._database.close()

    def _connect(self, identity: NodeId) -> AbstractAsyncContextManager[Stream]:
        return self._streams(identity)

    def _connect_mint(self, identity: NodeId) -> AbstractAsyncContextManager[Stream]:
        return self._mint_streams(identity)

    def _member(self, identity: NodeId) -> AuthorityPin | None:
        return pin_of(identity, self._versions.network, self.consensus)

    async def _probe(self, addresses: tuple[Address, ...], identity: NodeId) -> Address | None:
        with trio.move_on_after(_PROBE_SECONDS):
            for address in addresses:
                with suppress(LinkFailed):
                    await self.node.probe(identity, (address,))
                    return address
        return None

    def _renewed(self) -> None:
        self.shell.renew(_credentials(self._store))
        self._publish_own()
        self._departure.renewed_keys()

    def _publish_own(self) -> None:
        # Without an earlier version at hand nothing tells that it was an authority.
        if self._versions.network.find(self._store.identity) is not None:
            self.shell.publish_own(self._publisher.describe())

    async def _catch_up(self) -> None:
        """Have the mint vote as soon as others' consensus says that its ledgers lack nothing."""
        if self.consensus is not None:
            await self.shell.catch_up()
            self._adopted(self.consensus)

    def _adopted(self, consensus: Consensus) -> None:
        self.mint.adopted(has_state=consensus.mint is not None)
        self._leaving.adopted(consensus)

    async def _republish(self) -> None:
        while True:
            await self.node.waking.sleep(self._publisher.period())
            self._publish_own()
