"""A relay: forwards circuits, serves the consensus, publishes itself."""

from __future__ import annotations

import time

import trio

from fogbank.client.circuits_shell import directly
from fogbank.directory.descriptor import Description, Role
from fogbank.directory.exchange_shell import DirService
from fogbank.nodes.home import Home
from fogbank.nodes.keeper import ConsensusKeeper
from fogbank.nodes.runtime import (
    DIRECTORY_SERVICE,
    Publisher,
    authority_streams,
    renew_keys,
    run_until_told,
)
from fogbank.relay.link.tls_shell import TlsTransport
from fogbank.relay.node_shell import Node, NodeConfig


async def run_relay(folder: Home, *, eof: bool) -> None:
    """Run the relay whose home is `folder` until it is told to end."""
    settings = folder.settings()
    network = folder.network()
    store = folder.keys(time.time())
    keeper = ConsensusKeeper(folder, network)
    config = NodeConfig(
        network.network_id,
        TlsTransport(settings.source),
        store,
        keeper,
        {DIRECTORY_SERVICE: DirService(network, keeper.cache, time.time)},
    )
    description = Description(
        settings.nickname, Role.RELAY, settings.addresses, (DIRECTORY_SERVICE,)
    )
    publisher = Publisher(folder, network, store, description)

    async def main(nursery: trio.Nursery) -> None:
        node = Node(config)
        await nursery.start(node.run, settings.addresses)
        nursery.start_soon(publisher.run, authority_streams(network, directly(node)))
        nursery.start_soon(keeper.run, node)
        nursery.start_soon(renew_keys, store, publisher.renewed_keys)

    await run_until_told(main, eof=eof)
