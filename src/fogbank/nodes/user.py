"""A user's client: joined to a network, with guards, a consensus, and circuits to workers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import trio

from fogbank.client.circuits_shell import CircuitBuilder, CircuitSet, directly
from fogbank.client.directory_cache_shell import DirectoryCache, DirectoryOpener
from fogbank.client.errors import DirectoryUnavailable
from fogbank.client.guards_store_shell import GuardStore
from fogbank.client.limits import LIMITS
from fogbank.client.runtimes import accepted_runtime
from fogbank.client.topology import Topology
from fogbank.client.transfer_shell import fetch_runtime
from fogbank.client.verification.evidence_shell import Evidence
from fogbank.directory.consensus import Consensus, Entry, Flag
from fogbank.directory.entries import MINT_SERVICE
from fogbank.directory.mint.calendar import Calendar
from fogbank.directory.mint.wording import in_words
from fogbank.directory.network import NetworkDocument, load_network, verify_successor
from fogbank.nodes.environment import Environment
from fogbank.nodes.home import Home, HomeError
from fogbank.nodes.runtime import nearly_always_far
from fogbank.nodes.versions import Versions
from fogbank.relay.circuits.shell import Circuit
from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.kinds import SERVICE as JOB_SERVICE
from fogbank.relay.keys import NodeId, show_id
from fogbank.relay.node_shell import NodeConfig
from fogbank.relay.streams.shell import CircuitStream
from fogbank.sandbox.runtimes.catalogue import RuntimeSpec

Note = Callable[[str], None]


class User:
    """A joined client at work; made by `open_user`."""

    def __init__(
        self,
        cache: DirectoryCache,
        builder: CircuitBuilder[Circuit],
        first: Topology,
        evidence: Evidence,
    ) -> None:
        self.evidence = evidence
        """What is kept of workers that were proven wrong: they are not used."""
        self._cache = cache
        self.builder = builder
        """Builds circuits through this user's guards."""
        self._first = first

    @property
    def topology(self) -> Topology:
        """The newest consensus, to choose from."""
        return self._cache.topology or self._first

    def workers(self) -> tuple[Entry, ...]:
        """Return the workers that run now, without those that were proven wrong."""
        wrong = self.evidence.wrong()
        return tuple(each for each in self.topology.workers.items if each.identity not in wrong)

    def name_of(self, identity: NodeId) -> str:
        """Return what a node of the consensus is called."""
        entry = self.topology.consensus.by_identity(identity)
        return entry.nickname if entry is not None else show_id(identity)

    def circuits(self, failures: float | None = None) -> CircuitSet[Circuit]:
        """Return an empty set of circuits, for one job, of which so many attempts may fail."""
        return self.builder.circuits(failures)

    @asynccontextmanager
    async def worker_stream(
        self,
        worker: NodeId | None = None,
        *,
        runtime: bytes | None = None,
        tried: set[NodeId] | None = None,
    ) -> AsyncIterator[tuple[CircuitStream, tuple[str, ...]]]:
        """Open a `job` stream to a worker, or to one drawn, over a circuit that no other job uses.

        One is drawn that holds the runtime with this digest and is not among those `tried`, to
        which it is added. Gives the stream and the nicknames on its path; the circuit ends with
        the block. Raises `NoPath` or `CircuitUnavailable`.
        """
        known = tried if tried is not None else set()
        with self.builder.circuits() as circuits:
            built = await circuits.to_worker(
                self.topology, worker=worker, runtime=runtime, exclude=self.evidence.wrong() | known
            )
            known.add(built.path.end.identity)
            yield await built.circuit.open_stream(JOB_SERVICE), built.path.nicknames

    async def fetch_runtime(self, spec: RuntimeSpec, say: Note) -> bytes:
        """Get a runtime's module from workers that hold it; `say` hears how it goes.

        Raises `NoPath`, `CircuitUnavailable` or `RuntimeUnavailable`.
        """
        topology = self.topology
        runtime = accepted_runtime(topology, spec)
        with self.builder.circuits() as circuits:
            return await fetch_runtime(circuits, topology, runtime, say)


@asynccontextmanager
async def open_user(
    home: Home, note: Note, environment: Environment | None = None
) -> AsyncIterator[User]:
    """Open the client whose home is `home`; `note` hears sentences for the user.

    Raises `HomeError` if it has joined no network, `DirectoryUnavailable` if there is no consensus
    to be had.
    """
    versions = Versions(home)
    network = versions.network
    machine = environment or Environment()
    node = machine.node(
        NodeConfig(
            network.network_id,
            machine.transport(None),
            clock=machine.clock,
            random=machine.random,
            on_clock_warning=note,
            place=machine.place_in(network),
        )
    )
    cache = _cache(home, versions, note, machine)
    cache.load()
    guards = GuardStore(home.folder, network.network_id, note, machine.write)
    builder = CircuitBuilder(node, guards, machine.chooser, note, clock=machine.clock)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        opener = nearly_always_far(node, builder, cache)
        first = await cache.ensure(directly(node), opener)
        nursery.start_soon(partial(cache.keep_new, opener, sleep=node.waking.sleep))
        yield User(cache, builder, first, home.evidence)
        nursery.cancel_scope.cancel()


def _cache(home: Home, versions: Versions, note: Note, machine: Environment) -> DirectoryCache:
    cache = DirectoryCache(
        home.folder,
        versions.network,
        machine.chooser,
        note,
        clock=machine.clock,
        write=machine.write,
    )
    cache.on_version = versions.take
    return cache


def join_network(home: Home, text: str) -> NetworkDocument:
    """Take up a network's document, or its successor; raise `HomeError` if it is neither.

    One that is held already, as others may have given it meanwhile, changes nothing.
    """
    if not home.network_file.exists():
        return home.set_network(text)
    known = home.network()
    try:
        offered = load_network(text)
        if offered.document.encode_body() == known.encode_body():
            return home.set_network(text)
        if _is_held(home, offered.document):
            return known
        verify_successor(known, offered)
    except (ValueError, ProtocolError) as error:
        raise HomeError(
            f"{error}. {home.folder} stays with {known.name!r}: get the network's newest file, or "
            "join another network in another folder, named by FOGBANK_HOME"
        ) from error
    return home.set_network(text)


def _is_held(home: Home, document: NetworkDocument) -> bool:
    """Tell whether a document is one that came here before, and was followed since."""
    body = document.encode_body()
    return any(each.document.encode_body() == body for each in home.versions())


async def network_report(home: Home) -> dict[str, Any]:
    """Return what the consensus says, as `fog network show --json` prints it."""
    versions = Versions(home)
    network = versions.network
    machine = Environment()
    cache = _cache(home, versions, lambda _: None, machine)
    cache.load()
    node = machine.node(NodeConfig(network.network_id, machine.transport(None)))
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        if not cache.is_fresh:
            await _renew(cache, directly(node))
        topology = await cache.ensure(directly(node))
        nursery.cancel_scope.cancel()
    return _report(versions.network.governing(topology.consensus.valid_after), topology.consensus)


async def _renew(cache: DirectoryCache, opener: DirectoryOpener) -> None:
    """Fetch a newer consensus; a live one that is at hand serves if there is none to be had."""
    if cache.consensus is None:
        await cache.refresh(opener)
        return
    with trio.move_on_after(LIMITS.renew_seconds), suppress(DirectoryUnavailable):
        await cache.refresh(opener)


def _report(network: NetworkDocument, consensus: Consensus) -> dict[str, Any]:
    return {
        "schema": "fogbank.network/1",
        "name": network.name,
        "authorities": len(network.authorities),
        "quorum": network.quorum,
        "valid_after": _time(consensus.valid_after),
        "fresh_until": _time(consensus.fresh_until),
        "valid_until": _time(consensus.valid_until),
        "method": consensus.method,
        "runtimes": [
            {"name": each.name, "digest": each.digest.hex(), "size": each.size}
            for each in consensus.runtimes or ()
        ],
        "credit": in_words(consensus.mint, Calendar.of(network), consensus.valid_after),
        "nodes": [_node(entry, consensus) for entry in consensus.entries],
    }


def _node(entry: Entry, consensus: Consensus) -> dict[str, Any]:
    roles = ((Flag.AUTHORITY, "authority"), (Flag.WORKER, "worker"))
    other = "departed" if MINT_SERVICE in entry.services else "relay"
    role = next((name for flag, name in roles if entry.flags & flag), other)
    return {
        "role": role,
        "nickname": entry.nickname,
        "identity": show_id(entry.identity),
        "addresses": [str(address) for address in entry.addresses],
        "flags": [flag.name.capitalize() for flag in Flag if entry.flags & flag and flag.name],
        "bandwidth": entry.bandwidth,
        "fuel_rate": entry.fuel_rate,
        "engine": entry.engine,
        "cores": entry.cores,
        "memory": entry.memory,
        "runtimes": [
            each.name for each in consensus.runtimes or () if each.digest in entry.runtimes
        ],
        "since": _time(entry.since),
    }


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
