"""A relay: forwards circuits, serves the consensus, publishes itself."""

from __future__ import annotations

from functools import partial

import trio

from fogbank.client.circuits_shell import directly
from fogbank.client.wallet.mint_client_shell import mint_directly
from fogbank.directory.descriptor import Description, Role
from fogbank.directory.exchange import SERVICE as DIRECTORY_SERVICE
from fogbank.directory.exchange_shell import DirService
from fogbank.directory.mint.office import pin_of
from fogbank.directory.network import AuthorityPin
from fogbank.nodes.environment import Environment
from fogbank.nodes.home import Home
from fogbank.nodes.keeper import ConsensusKeeper
from fogbank.nodes.runtime import (
    Publisher,
    authority_streams,
    renew_keys,
    run_until_told,
)
from fogbank.nodes.status import Observed
from fogbank.nodes.status_shell import run_with_status
from fogbank.nodes.versions import Versions
from fogbank.nodes.withdrawals import Withdrawals
from fogbank.relay.keys import NodeId
from fogbank.relay.node_shell import NodeConfig


async def run_relay(home: Home, *, eof: bool) -> None:
    """Run the relay whose home is `home` until it is told to end."""
    relay = RelayNode(home)
    await run_until_told(partial(run_with_status, home, relay.run, relay.observe), eof=eof)


class RelayNode:
    """The parts of a relay."""

    def __init__(self, home: Home, environment: Environment | None = None) -> None:
        machine = environment or Environment()
        settings, self._versions = home.settings(), Versions(home)
        network = self._versions.network
        self._clock = machine.clock
        self._addresses = settings.addresses
        self._store = home.keys(machine.clock())
        self._keeper = ConsensusKeeper(home, self._versions, machine)
        service = DirService(network, self._keeper.cache, machine.clock)
        config = NodeConfig(
            network.network_id,
            machine.transport(settings.source),
            self._store,
            self._keeper,
            {DIRECTORY_SERVICE: service},
            clock=machine.clock,
            random=machine.random,
            place=machine.place_in(network, settings.source),
        )
        description = Description(
            settings.nickname, Role.RELAY, settings.addresses, (DIRECTORY_SERVICE,)
        )
        self.node = machine.node(config)
        """Its place in the onion network."""
        self._publisher = Publisher(
            home, network, self._store, description, machine, self.node.waking
        )
        self._versions.tell(self._publisher, service)
        # A withdrawal names the relay, whose address all know: more hops would hide nothing.
        self._withdrawals = Withdrawals(
            home,
            network,
            self._store,
            mint_directly(self.node, self._member),
            lambda: self._keeper.consensus,
            machine,
        )

    def _member(self, identity: NodeId) -> AuthorityPin | None:
        return pin_of(identity, self._versions.network, self._keeper.consensus)

    def observe(self) -> Observed:
        """Return what its operator may see of it now."""
        return Observed(
            self._store.identity,
            len(self.node.links),
            self._keeper.consensus,
            self._publisher.published,
            effort=self.node.effort_asked,
        )

    async def run(self) -> None:
        """Work until cancelled; raise `LinkFailed` if it cannot listen, in a group."""
        streams = authority_streams(lambda: self._versions.network, directly(self.node))
        async with trio.open_nursery() as nursery:
            await nursery.start(self.node.run, self._addresses)
            nursery.start_soon(self._publisher.run, streams)
            nursery.start_soon(self._keeper.run, self.node)
            nursery.start_soon(self._withdrawals.run, self.node.waking)
            nursery.start_soon(
                renew_keys,
                self._store,
                self._clock,
                self._publisher.renewed_keys,
                self.node.waking,
            )
