"""Small onion networks over memory pipes, for tests: relays whose consensus is a dictionary."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from fogbank.relay.cells import CELL
from fogbank.relay.certificates import (
    LINK_LIFETIME,
    ONION_LIFETIME,
    SIGNING_LIFETIME,
    Chain,
    Use,
    issue,
)
from fogbank.relay.circuits.hop import HopCircuit
from fogbank.relay.circuits.origin import Hop
from fogbank.relay.extend import Address, RefusedCode
from fogbank.relay.keys import Ed25519Key, NodeId, X25519Key
from fogbank.relay.limits import LATE_SECONDS, Limits
from fogbank.relay.link.handshake import LinkCredentials, LinkHandshake
from fogbank.relay.link.memory_shell import MemoryNetwork, MemoryPipe, MemoryTransport
from fogbank.relay.link.pipe import Pipe, PipeBroken, Transport
from fogbank.relay.link.shell import shake
from fogbank.relay.messages_shell import receive_exactly
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
        self,
        host: str,
        keys: Keys | None,
        services: Mapping[str, Service] | None = None,
        *,
        extends: bool = True,
    ) -> Node:
        transport: Transport = MemoryTransport(self.memory, host)
        config = NodeConfig(
            NETWORK,
            transport,
            keys,
            self.known if keys is not None and extends else None,
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

    async def add_worker(self, services: Mapping[str, Service]) -> tuple[Node, Hop]:
        """Start a node that does not listen and extends nothing; its hop has no address."""
        keys = Keys(1000)
        node = self.node("127.50.0.1", keys, services, extends=False)
        await self.nursery.start(node.run)
        self.known.addresses[keys.identity] = ()
        return node, Hop(keys.identity, keys.onion_key)

    def everyone(self) -> list[Node]:
        return [self.client, *self.nodes]

    async def settle(self) -> None:
        """Let all that is under way arrive; the clock must be one that jumps."""
        await trio.sleep(2 * LATE_SECONDS)

    def assert_nothing_left(self) -> None:
        """Check that no node remembers a circuit, a stream, a handshake or a waiting cell."""
        for node in self.everyone():
            links = node.links
            assert [link.port.sides for link in links._by_queue.values() if link.port.sides] == []
            assert (node._switch._budget.waiting, len(node._switch._budget._lanes)) == (0, 0)
            assert (node._served, links._half_open, links._dialing) == (0, 0, {})


def hop_of(node: Node) -> HopCircuit:
    """Return the one hop that `node` is."""
    sides = [side for link in node.links._by_queue.values() for side in link.port.sides.values()]
    (hop,) = (side for side in sides if isinstance(side, HopCircuit))
    return hop


def stop_reading(pipe: MemoryPipe) -> None:
    """Leave whatever comes out of a pipe's end where it is."""
    pipe.__dict__["try_receive"] = lambda _into: None
    pipe.__dict__["wait_readable"] = trio.sleep_forever


async def talk(stream: CircuitStream, text: bytes = b"hello") -> None:
    """Check that an echo service answers."""
    await stream.send_all(text)
    assert await receive_exactly(stream, len(text)) == text


class RawLink:
    """A link whose cells a test writes and reads itself, after a handshake that is in order."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe

    @classmethod
    async def dial(
        cls, transport: Transport, address: Address, keys: Keys | None = None
    ) -> RawLink:
        pipe = await transport.dial(address.host, address.port)
        own = keys.credentials(NOW) if keys is not None else None
        await shake(pipe, LinkHandshake.dialer(pipe.binding, None, own, ""), lambda: NOW)
        return cls(pipe)

    async def send(self, data: bytes) -> None:
        """Send bytes; give up in silence if the peer hangs up."""
        view = memoryview(data)
        try:
            while view:
                count = self.pipe.try_send(view)
                if count is None:
                    await self.pipe.wait_writable()
                else:
                    view = view[count:]
        except PipeBroken:
            return

    async def cell(self) -> bytes | None:
        """Return the next cell, or None at the end."""
        data = bytearray()
        while len(data) < CELL:
            part = memoryview(bytearray(CELL - len(data)))
            try:
                count = self.pipe.try_receive(part)
                if count is None:
                    await self.pipe.wait_readable()
                    continue
            except PipeBroken:
                return None
            if not count:
                return None
            data += part[:count]
        return bytes(data)

    async def closed(self) -> None:
        """Wait until the peer hangs up."""
        while await self.cell() is not None:
            pass


async def until_error(stream: CircuitStream) -> None:
    """Read until the stream ends with an error."""
    while await stream.receive_some():
        pass


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
