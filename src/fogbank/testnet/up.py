"""Bring a test network up, and wait until it works: every node listed, every worker reachable."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from fogbank.client.chance_shell import SystemChooser
from fogbank.client.circuits_shell import directly
from fogbank.client.directory_cache_shell import DirectoryCache
from fogbank.client.errors import DirectoryUnavailable
from fogbank.directory.addresses import Address
from fogbank.directory.consensus import Consensus, Flag
from fogbank.directory.contacts import contacts
from fogbank.directory.descriptor import Role
from fogbank.nodes.home import Home, HomeError
from fogbank.nodes.runtime import FAILURES
from fogbank.relay.circuits.origin import Hop
from fogbank.relay.errors import RelayError
from fogbank.relay.keys import KEY_LENGTH, NodeId
from fogbank.relay.keystore_shell import KeyStore
from fogbank.relay.link.tls_shell import TlsTransport
from fogbank.relay.node_shell import Node, NodeConfig
from fogbank.runtimes import cache_folder, obtain
from fogbank.sandbox.runtimes.store_shell import RuntimeStore
from fogbank.testnet import processes
from fogbank.testnet.layout import Place, Size, make_home, make_network, places
from fogbank.testnet.lock_shell import LOCK_FILE, locked

_POLL_SECONDS = 0.15
_CLIENT = "client"

Report = Callable[[str], None]


def client_home(folder: Path) -> Path:
    """Return the home of the network's user, to be exported as FOGBANK_HOME."""
    return folder / _CLIENT


async def bring_up(
    folder: Path, size: Size, *, attached: bool, seconds: float, report: Report
) -> None:
    """Start a network in `folder` and return when it works; end it all if it does not.

    `attached` nodes end with this process. Raises `HomeError` or `RelayError` with what to do.
    """
    # What takes long, or may fail, comes before anything is started.
    modules = [obtain(name, cache_folder()) for name in size.runtimes]
    if not (folder / LOCK_FILE).exists():
        _check_folder(folder)  # nothing is written to a folder of another kind
    with locked(folder):
        make = partial(_make_homes, folder, size, modules)
        await _bring_up(folder, size, make, attached=attached, seconds=seconds, report=report)


async def _bring_up(
    folder: Path,
    size: Size,
    make: Callable[[], dict[NodeId, Place]],
    *,
    attached: bool,
    seconds: float,
    report: Report,
) -> None:
    # Again, as another may have been at work there until now.
    _remove(_check_folder(folder), folder)
    nodes: list[processes.NodeProcess] = []
    try:
        identities = await trio.to_thread.run_sync(make)
        for place in places(size, folder):
            address = _address(place)
            role = place.role.name.lower()
            nodes.append(
                processes.start(role, place.nickname, address, place.folder, attached=attached)
            )
            processes.save(folder, nodes)
    except BaseException:
        processes.end(nodes)
        _remove([*(place.folder for place in places(size, folder)), client_home(folder)], folder)
        raise
    report(f"{len(nodes)} processes started; waiting for the first consensus")
    try:
        with trio.fail_after(seconds):
            await _wait_until_it_works(folder, identities, nodes, report)
    except trio.TooSlowError:
        processes.end(nodes)
        raise RelayError(
            f"the network did not come up within {seconds:g} s: see the logs, {folder}/*/log"
        ) from None
    except BaseException:
        processes.end(nodes)
        raise


def bring_down(folder: Path) -> int:
    """End the network in `folder`; return how many of its processes still ran.

    Its folders stay, with their logs, until the next network is started there.
    """
    nodes = processes.load(folder)
    running = sum(node.alive for node in nodes)
    processes.end(nodes)
    return running


def _check_folder(folder: Path) -> list[Path]:
    """Return what is left of a network that ran here; raise `HomeError` if one cannot start."""
    try:
        nodes = processes.load(folder)
    except HomeError:
        if folder.exists() and not folder.is_dir():
            raise HomeError(f"{folder} is a file: choose a folder") from None
        if folder.exists() and any(each.name != LOCK_FILE for each in folder.iterdir()):
            raise HomeError(
                f"{folder} is not empty, and holds no test network: choose another folder"
            ) from None
        return []
    if any(node.alive for node in nodes):
        raise HomeError(
            f"a network runs in {folder} already: end it with "
            f"`fog testnet down --dir {shlex.quote(str(folder))}`"
        )
    return [*(Path(node.folder) for node in nodes), client_home(folder)]


def _remove(homes: list[Path], folder: Path) -> None:
    """Remove a network that does not run, so that the next one finds an empty folder."""
    for home in homes:
        shutil.rmtree(home, ignore_errors=True)
    processes.forget(folder)


def _make_homes(folder: Path, size: Size, modules: list[bytes]) -> dict[NodeId, Place]:
    """Make every node's folder and the client's; return who should be listed."""
    now = time.time()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    cores = max(1, (os.cpu_count() or 1) // max(1, size.workers))
    authorities: list[tuple[KeyStore, str, Address]] = []
    identities: dict[NodeId, Place] = {}
    for place in places(size, folder):
        port = 0 if place.role is Role.WORKER else _free_port(place.host)
        tor_port = size.tor_port if place.role is Role.AUTHORITY and not authorities else None
        store = make_home(place, port, cores, now, tor_port)
        identities[store.identity] = place
        if place.role is Role.WORKER:
            for module in modules:
                RuntimeStore(Home(place.folder).runtimes_folder).add(module)
        if place.role is Role.AUTHORITY:
            authorities.append((store, place.nickname, Address(place.host, port)))
    text = make_network(authorities, os.urandom(KEY_LENGTH), time.time())
    for each in (*(place.folder for place in identities.values()), client_home(folder)):
        Home(each).set_network(text)
    return identities


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _address(place: Place) -> str:
    addresses = Home(place.folder).settings().addresses
    return str(addresses[0]) if addresses else place.host


async def _wait_until_it_works(
    folder: Path,
    identities: dict[NodeId, Place],
    nodes: list[processes.NodeProcess],
    report: Report,
) -> None:
    home = Home(client_home(folder))
    network = home.network()
    node = Node(NodeConfig(network.network_id, TlsTransport()))
    cache = DirectoryCache(home.folder, network, SystemChooser(), report)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        consensus = await _wait_until_listed(node, cache, identities, nodes, report)
        workers = [each for each, place in identities.items() if place.role is Role.WORKER]
        async with trio.open_nursery() as reaching:
            for worker in workers:
                reaching.start_soon(_wait_until_reachable, node, consensus, worker)
        nursery.cancel_scope.cancel()


async def _wait_until_listed(
    node: Node,
    cache: DirectoryCache,
    identities: dict[NodeId, Place],
    nodes: list[processes.NodeProcess],
    report: Report,
) -> Consensus:
    while True:
        for each in nodes:
            if not each.alive:
                raise RelayError(f"{each.nickname} ended by itself: see {each.folder}/log")
        try:
            newer = await cache.refresh(directly(node))
        except DirectoryUnavailable:
            newer = False
        consensus = cache.consensus
        if newer and consensus is not None:
            listed = sum(_runs(consensus, identity) for identity in identities)
            report(f"consensus: {listed} of {len(identities)} nodes")
            if listed == len(identities):
                return consensus
        await trio.sleep(_POLL_SECONDS)


def _runs(consensus: Consensus, identity: NodeId) -> bool:
    entry = consensus.by_identity(identity)
    return entry is not None and bool(entry.flags & Flag.RUNNING)


async def _wait_until_reachable(node: Node, consensus: Consensus, worker: NodeId) -> None:
    """Build a circuit to the worker through each of its contacts."""
    entry = consensus.by_identity(worker)
    if entry is None:
        raise RelayError("a worker left the consensus while it was waited for")
    for contact in contacts(worker, consensus):
        while True:
            hops = [
                Hop(contact.identity, contact.onion_key, contact.addresses),
                Hop(worker, entry.onion_key),
            ]
            try:
                circuit = await node.build(hops)
            except FAILURES:
                await trio.sleep(_POLL_SECONDS)
                continue
            circuit.close()
            break
