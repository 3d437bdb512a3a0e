"""The client on real nodes over memory pipes: fetch, choose, build, talk (spec/06)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from fogbank.client.circuits_shell import CircuitBuilder, directly, over_circuits
from fogbank.client.directory_cache_shell import DirectoryCache
from fogbank.client.errors import CircuitUnavailable
from fogbank.client.guards_store_shell import GuardStore
from fogbank.directory.contacts import contacts
from fogbank.directory.descriptor import Role
from fogbank.directory.exchange_shell import DirService
from fogbank.relay.certificates import LINK_LIFETIME, ONION_LIFETIME, Chain, Use, issue
from fogbank.relay.circuits.shell import Circuit
from fogbank.relay.errors import RelayError
from fogbank.relay.keys import Ed25519Key, X25519Key
from fogbank.relay.link.handshake import LinkCredentials
from fogbank.relay.link.memory_shell import MemoryNetwork, MemoryTransport
from fogbank.relay.node_shell import Node, NodeConfig, Service
from tests.client import networks
from tests.client.networks import SeededChooser
from tests.directory.factory import START, SyntheticConsensus, make_synthetic, seed
from tests.directory.factory import Node as Known
from tests.directory.served import ServedByAuthority
from tests.relay.onion import KnownNodes, echo

NOW = START + 5.0


class KeysOf:
    """The keys of a node that the synthetic consensus lists."""

    def __init__(self, node: Known) -> None:
        link = Ed25519Key(seed("link", node.name))
        signing = node.signing_key
        chain = Chain(
            node.credentials.certificate,
            issue(signing, Use.LINK, link.public, START, LINK_LIFETIME),
            issue(signing, Use.ONION, node.onion_key.public, START, ONION_LIFETIME),
        )
        self.identity = node.identity
        self._onion_key = node.onion_key
        self._credentials = LinkCredentials(node.identity, chain, link)

    def onion_keys(self) -> list[X25519Key]:
        return [self._onion_key]

    def credentials(self, now: float) -> LinkCredentials:
        assert now == NOW
        return self._credentials


@dataclass
class Whole:
    """All nodes of a synthetic consensus at work, and a client among them."""

    synthetic: SyntheticConsensus
    folder: Path
    nursery: trio.Nursery
    memory: MemoryNetwork = field(default_factory=MemoryNetwork)
    known: KnownNodes = field(default_factory=KnownNodes)
    scopes: dict[bytes, trio.CancelScope] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    async def start(self) -> None:
        synthetic = self.synthetic
        nodes = (*synthetic.network.authorities, *synthetic.relays, *synthetic.workers)
        self.known.addresses = {node.identity: node.addresses for node in nodes}
        for node in nodes:
            await self.start_node(node)
        self.client = self.make("127.200.0.1", None, {})
        await self.nursery.start(self.client.run)
        network = synthetic.network.document
        store = GuardStore(self.folder, network.network_id, self.said.append)
        chooser = SeededChooser("whole")
        self.cache = DirectoryCache(
            self.folder, network, chooser, self.said.append, clock=lambda: NOW
        )
        self.builder = CircuitBuilder(
            self.client, store, chooser, self.said.append, clock=lambda: NOW
        )

    def make(self, host: str, keys: KeysOf | None, services: Mapping[str, Service]) -> Node:
        transport = MemoryTransport(self.memory, host)
        network = self.synthetic.network.document.network_id
        policy = self.known if keys else None
        config = NodeConfig(network, transport, keys, policy, services, clock=lambda: NOW)
        return Node(config)

    async def start_node(self, known: Known) -> None:
        services: dict[str, Service] = {"echo": echo}
        if known.role is Role.AUTHORITY:
            served = ServedByAuthority(lambda: NOW)
            served.hold(self.synthetic.document, self.synthetic.consensus)
            services["dir"] = DirService(self.synthetic.network.document, served, lambda: NOW)
        host = known.addresses[0].host if known.addresses else "127.201.0.1"
        node = self.make(host, KeysOf(known), services)
        await self.nursery.start(self.run_node, node, known)
        if known.role is Role.WORKER:
            for contact in contacts(known.identity, self.synthetic.consensus):
                await node.link(contact.identity, contact.addresses)

    async def run_node(
        self, node: Node, known: Known, *, task_status: trio.TaskStatus[object]
    ) -> None:
        with trio.CancelScope() as self.scopes[known.identity]:
            await node.run(known.addresses, task_status=task_status)

    async def ask(self, circuit: Circuit) -> None:
        """Send something to the circuit's end and have it back."""
        stream = await circuit.open_stream("echo")
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        await stream.aclose()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Whole]:
    async with trio.open_nursery() as nursery:
        whole = Whole(make_synthetic(), folder, nursery)
        await whole.start()
        yield whole
        nursery.cancel_scope.cancel()


async def test_from_nothing_to_a_worker(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as whole:
        topology = await whole.cache.ensure(directly(whole.client))
        assert topology.consensus == whole.synthetic.consensus
        for node in whole.synthetic.workers:
            with whole.builder.circuits() as circuits:
                built = await circuits.to_worker(topology, worker=node.identity)
                assert built.circuit.length == 4
                assert built.path.nicknames[3] == node.name
                networks.assert_keeps_limits(built.path)
                await whole.ask(built.circuit)
            assert not built.circuit.alive
        assert whole.said == []


async def test_later_fetches_take_full_circuits(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as whole:
        await whole.cache.ensure(directly(whole.client))
        authorities = {node.identity for node in whole.synthetic.network.authorities}
        assert not await whole.cache.refresh(over_circuits(whole.builder, whole.cache))
        # None has a newer one, so all were asked; but only the first fetch made a link to one.
        assert len(whole.client.peers & authorities) == 1
        assert 1 <= len(whole.client.peers - authorities) <= 2
        assert whole.said == []


@pytest.mark.parametrize("number", range(5))
async def test_with_any_one_relay_killed_every_end_is_reached(
    tmp_path: Path, number: int, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as whole:
        topology = await whole.cache.ensure(directly(whole.client))
        killed = whole.synthetic.relays[number]
        whole.scopes[killed.identity].cancel()
        await trio.sleep(1)
        with whole.builder.circuits() as circuits:
            for node in whole.synthetic.workers:
                built = await circuits.to_worker(topology, worker=node.identity)
                assert killed.name not in built.path.nicknames
                await whole.ask(built.circuit)
            authority = whole.synthetic.network.authorities[0].identity
            await whole.ask((await circuits.to_authority(topology, authority)).circuit)


async def test_a_relay_killed_in_mid_job_is_told(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as whole:
        topology = await whole.cache.ensure(directly(whole.client))
        with whole.builder.circuits() as circuits:
            built = await circuits.to_worker(topology)
            stream = await built.circuit.open_stream("echo")
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
            whole.scopes[built.path.layer_two.identity].cancel()
            with pytest.raises(RelayError, match=r"shutting down|link"):
                await stream.receive_some()
            again = await circuits.to_worker(topology)
            assert built.path.layer_two not in again.path.relays
            await whole.ask(again.circuit)


async def test_when_every_relay_is_gone_the_error_says_what_to_check(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as whole:
        topology = await whole.cache.ensure(directly(whole.client))
        for node in whole.synthetic.relays:
            whole.scopes[node.identity].cancel()
        await trio.sleep(1)
        with (
            whole.builder.circuits() as circuits,
            pytest.raises(CircuitUnavailable, match="this machine is online"),
        ):
            await circuits.to_worker(topology)
