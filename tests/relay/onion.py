"""Small onion networks over memory pipes, for tests: relays whose consensus is a dictionary."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from fogbank.relay.certificates import (
    LINK_LIFETIME,
    ONION_LIFETIME,
    SIGNING_LIFETIME,
    Chain,
    Use,
    issue,
)
from fogbank.relay.circuits.origin import Hop
from fogbank.relay.extend import Address, RefusedCode
from fogbank.relay.keys import Ed25519Key, NodeId, X25519Key
from fogbank.relay.limits import Limits
from fogbank.relay.link.handshake import LinkCredentials
from fogbank.relay.link.memory_shell import MemoryNetwork, MemoryTransport
from fogbank.relay.link.pipe import Transport
from fogbank.relay.node_shell import Node, NodeConfig, Origin, Service
from fogbank.relay.streams.shell import CircuitStream

NETWORK = b"N" * 32
NOW = 1_800_000_000.0
PORT = 9001


class Keys:
    """A node's keys, made from a seed."""

    def __init__(self, seed: int, now: float = NOW) -> None:
        draw = random.Random(seed)
        identity, signing, link = (Ed25519Key(draw.randbytes(32)) for _ in range(3))
        self._onion = X25519Key(draw.randbytes(32))
        self.identity: NodeId = identity.public
        chain = Chain(
            issue(identity, Use.SIGNING, signing.public, now, SIGNING_LIFETIME),
            issue(signing, Use.LINK, link.public, now, LINK_LIFETIME),
            issue(signing, Use.ONION, self._onion.public, now, ONION_LIFETIME),
        )
        self._credentials = LinkCredentials(self.identity, chain, link)

    @property
    def onion_key(self) -> bytes:
        return self._onion.public

    def onion_keys(self) -> list[X25519Key]:
        return [self._onion]

    def credentials(self, now: float) -> LinkCredentials:  # noqa: ARG002 - they never expire
        return self._credentials


@dataclass
class KnownNodes:
    """An extend policy: what stands in a dictionary is in the network."""

    addresses: dict[NodeId, tuple[Address, ...]] = field(default_factory=dict)
    refreshed: int = 0

    def check(self, identity: NodeId, addresses: tuple[Address, ...] | None) -> RefusedCode | None:
        if identity not in self.addresses:
            return RefusedCode.NOT_IN_CONSENSUS
        if addresses is not None and not set(addresses) <= set(self.addresses[identity]):
            return RefusedCode.BAD_ADDRESS
        return None

    async def refresh(self) -> None:
        self.refreshed += 1
        await trio.lowlevel.checkpoint()


async def echo(stream: CircuitStream, origin: Origin) -> None:
    while data := await stream.receive_some():
        await stream.send_all(data)


@dataclass
class OnionNetwork:
    """Running relays and one client."""

    memory: MemoryNetwork
    nursery: trio.Nursery
    nodes: list[Node]
    keys: list[Keys]
    hops: list[Hop]
    known: KnownNodes
    client: Node
    limits: Limits

    def node(
        self, host: str, keys: Keys | None, services: Mapping[str, Service] | None = None
    ) -> Node:
        transport: Transport = MemoryTransport(self.memory, host)
        config = NodeConfig(
            NETWORK,
            transport,
            keys,
            self.known if keys is not None else None,
            services or {},
            self.limits,
            clock=lambda: NOW,
        )
        return Node(config)

    async def add_relay(self, services: Mapping[str, Service]) -> None:
        number = len(self.nodes) + 1
        keys = Keys(number)
        address = Address(f"127.{number}.0.1", PORT)
        node = self.node(address.host, keys, services)
        await self.nursery.start(node.run, [address])
        self.known.addresses[keys.identity] = (address,)
        self.nodes.append(node)
        self.keys.append(keys)
        self.hops.append(Hop(keys.identity, keys.onion_key, (address,)))


@asynccontextmanager
async def onion_network(
    relays: int,
    services: Mapping[str, Service] | None = None,
    limits: Limits | None = None,
    wrap: Callable[[MemoryNetwork], None] | None = None,
) -> AsyncIterator[OnionNetwork]:
    """Start `relays` relays and a client over memory pipes, and end them all."""
    memory = MemoryNetwork()
    if wrap is not None:
        wrap(memory)
    async with trio.open_nursery() as nursery:
        network = OnionNetwork(
            memory, nursery, [], [], [], KnownNodes(), Node.__new__(Node), limits or Limits()
        )
        network.client = network.node("127.99.0.1", None)
        await nursery.start(network.client.run)
        for _ in range(relays):
            await network.add_relay(services or {"echo": echo})
        yield network
        nursery.cancel_scope.cancel()
