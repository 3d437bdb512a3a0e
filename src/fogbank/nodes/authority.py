"""An authority: votes, signs, and serves the directory."""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager

import trio

from fogbank.client.circuits_shell import directly
from fogbank.directory.authority_shell import AuthorityShell
from fogbank.directory.descriptor import Description, Role
from fogbank.directory.signatures import Credentials
from fogbank.directory.store_shell import Store
from fogbank.nodes.home import Home, HomeError
from fogbank.nodes.runtime import (
    DIRECTORY_SERVICE,
    Publisher,
    authority_streams,
    renew_keys,
    run_until_told,
)
from fogbank.relay.errors import LinkFailed
from fogbank.relay.extend import Address
from fogbank.relay.keys import NodeId
from fogbank.relay.keystore_shell import KeyStore
from fogbank.relay.link.tls_shell import TlsTransport
from fogbank.relay.messages_shell import Stream
from fogbank.relay.node_shell import Node, NodeConfig


def _credentials(store: KeyStore) -> Credentials:
    return Credentials(store.identity, store.signing_key, store.chain.signing)


async def run_authority(home: Home, *, eof: bool) -> None:
    """Run the authority whose home is `home` until it is told to end."""
    settings = home.settings()
    network = home.network()
    store = home.keys(time.time())
    if not network.is_authority(store.identity):
        raise HomeError(
            f"{home.network_file} does not name this node as an authority: have it added with "
            "`fog network create`, then signed by the others"
        )
    description = Description(
        settings.nickname, Role.AUTHORITY, settings.addresses, (DIRECTORY_SERVICE,)
    )
    publisher = Publisher(home, network, store, description)
    database = Store(home.database)
    try:
        await run_until_told(_Authority(home, store, publisher, database).main, eof=eof)
    finally:
        database.close()


class _Authority:
    """The parts of a running authority, which need each other."""

    def __init__(self, home: Home, store: KeyStore, publisher: Publisher, database: Store) -> None:
        settings, network = home.settings(), home.network()
        self._store = store
        self._publisher = publisher
        self._addresses = settings.addresses
        self._network = network
        self._shell = AuthorityShell(
            network,
            _credentials(store),
            database,
            connect=self._connect,
            probe=self._probe,
            clock=time.time,
        )
        config = NodeConfig(
            network.network_id,
            TlsTransport(settings.source),
            store,
            services={DIRECTORY_SERVICE: self._shell.service},
        )
        self._config = config
        self._node: Node | None = None

    async def main(self, nursery: trio.Nursery) -> None:
        """Start everything in `nursery`."""
        self._node = Node(self._config)
        self._shell.publish_own(self._publisher.describe())
        await nursery.start(self._shell.run)
        await nursery.start(self._node.run, self._addresses)
        nursery.start_soon(self._republish)
        nursery.start_soon(renew_keys, self._store, self._renewed)

    def _connect(self, identity: NodeId) -> AbstractAsyncContextManager[Stream]:
        return authority_streams(self._network, directly(self._running()))(identity)

    async def _probe(self, addresses: tuple[Address, ...], identity: NodeId) -> bool:
        try:
            await self._running().probe(identity, addresses)
        except LinkFailed:
            return False
        return True

    def _running(self) -> Node:
        if self._node is None:
            raise LinkFailed("this authority is just starting")
        return self._node

    def _renewed(self) -> None:
        self._shell.renew(_credentials(self._store))
        self._shell.publish_own(self._publisher.describe())

    async def _republish(self) -> None:
        while True:
            await trio.sleep(self._publisher.period())
            self._shell.publish_own(self._publisher.describe())
