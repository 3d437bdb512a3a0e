"""What a test network consists of, before anything runs: nodes, addresses, the network document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fogbank.directory.addresses import Address
from fogbank.directory.descriptor import Role
from fogbank.directory.network import (
    AuthorityPin,
    NetworkDocument,
    SignedNetwork,
    Timing,
    dump_network,
)
from fogbank.nodes.home import Home, Settings
from fogbank.relay.keystore_shell import KeyStore

MAX_NODES = 250
WARMUP_ROUNDS = 20
WARMUP_INTERVAL = 3
INTERVAL = 30
PHASE_MS = 600
LEAD = 3
"""Seconds from the making of the network document to the start of the first interval."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many nodes of each kind."""

    authorities: int = 4
    relays: int = 5
    workers: int = 3
    tor_port: int | None = None
    """Where the first authority serves Tor's formats, if it does; 0 takes any free port."""
    runtimes: tuple[str, ...] = ()
    """The names of the runtimes that each worker holds."""

    def check(self) -> None:
        """Raise `ValueError` with a sentence unless such a network can work."""
        if self.authorities < 1:
            raise ValueError("a network needs an authority; four are the fewest that bear a fault")
        if self.relays < 3:
            raise ValueError("circuits have three relays: ask for --relays 3 or more")
        if self.workers < 0 or self.authorities + self.relays + self.workers > MAX_NODES:
            raise ValueError(f"a test network has at most {MAX_NODES} nodes")


@dataclass(frozen=True, slots=True)
class Place:
    """One node to be: each has a loopback address of its own, so that path limits hold."""

    role: Role
    nickname: str
    host: str
    folder: Path


def places(size: Size, folder: Path) -> list[Place]:
    """Return every node's place."""
    kinds = (
        (Role.AUTHORITY, "authority", size.authorities),
        (Role.RELAY, "relay", size.relays),
        (Role.WORKER, "worker", size.workers),
    )
    found: list[Place] = []
    for role, name, count in kinds:
        for number in range(1, count + 1):
            nickname = f"{name}{number}"
            host = f"127.{len(found) + 1}.0.1"
            found.append(Place(role, nickname, host, folder / nickname))
    return found


def make_home(
    place: Place, port: int, cores: int, now: float, tor_port: int | None = None
) -> KeyStore:
    """Make one node's folder."""
    addresses = () if place.role is Role.WORKER else (Address(place.host, port),)
    settings = Settings(
        place.role, place.nickname, addresses, cores=cores, source=place.host, tor_port=tor_port
    )
    return Home(place.folder).create(settings, None, None, now)


def make_network(
    authorities: list[tuple[KeyStore, str, Address]], network_id: bytes, now: float
) -> str:
    """Return the text of a test network's document, signed by all its authorities."""
    pins = tuple(
        AuthorityPin(store.identity, nickname, (address,))
        for store, nickname, address in authorities
    )
    timing = Timing(int(now) + LEAD, PHASE_MS, INTERVAL, WARMUP_ROUNDS, WARMUP_INTERVAL)
    document = NetworkDocument(network_id, "test network", 1, pins, timing, test=True)
    signed = SignedNetwork(document)
    for store, _, _ in authorities:
        signed = signed.sign(store.identity_key())
    return dump_network(signed)
