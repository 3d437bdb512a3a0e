"""Synthetic networks, from seeds: authorities with keys, nodes with descriptors, consensuses.

Other tests import this as `tests.directory.factory`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fogbank.directory.computation import BANDWIDTH_FLOOR, FUEL_FLOOR, first_contact_seed
from fogbank.directory.consensus import (
    CONSENSUS_LABEL,
    VALIDITY,
    Consensus,
    Entry,
    Flag,
    SignedConsensus,
    open_consensus,
)
from fogbank.directory.descriptor import Description, Role, make_descriptor
from fogbank.directory.network import AuthorityPin, NetworkDocument, SignedNetwork, Timing
from fogbank.directory.signatures import Credentials
from fogbank.relay.certificates import (
    FAMILY_LIFETIME,
    ONION_LIFETIME,
    SIGNING_LIFETIME,
    Use,
    issue,
)
from fogbank.relay.extend import Address
from fogbank.relay.keys import Ed25519Key, NodeId, Signed, X25519Key

START = 1_800_000_000
TIMING = Timing(start=START, phase_ms=500, interval=30, warmup_rounds=3, warmup_interval=3)
RELAY_FLAGS = Flag.GUARD | Flag.FAST | Flag.STABLE | Flag.RUNNING | Flag.VALID
WORKER_FLAGS = Flag.WORKER | Flag.RUNNING | Flag.VALID
AUTHORITY_FLAGS = Flag.AUTHORITY | Flag.RUNNING | Flag.VALID


def seed(*parts: object) -> bytes:
    """Return 32 bytes that depend on the parts alone."""
    return hashlib.sha256(repr(parts).encode()).digest()


@dataclass(frozen=True)
class Node:
    """A node's keys and certificates, all from its name."""

    name: str
    role: Role
    number: int = 1
    born: int = START
    family: str = ""
    engine: str = "test-engine"

    @property
    def identity_key(self) -> Ed25519Key:
        return Ed25519Key(seed("identity", self.name))

    @property
    def identity(self) -> NodeId:
        return self.identity_key.public

    @property
    def signing_key(self) -> Ed25519Key:
        return Ed25519Key(seed("signing", self.name))

    @property
    def onion_key(self) -> X25519Key:
        return X25519Key(seed("onion", self.name))

    @property
    def credentials(self) -> Credentials:
        certificate = issue(
            self.identity_key, Use.SIGNING, self.signing_key.public, self.born, SIGNING_LIFETIME
        )
        return Credentials(self.identity, self.signing_key, certificate)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """One address in a /16 of its own."""
        if self.role is Role.WORKER:
            return ()
        return (Address(f"127.{self.number % 250 + 1}.{self.number // 250}.1", 9000),)

    def families(self) -> tuple[Signed, ...]:
        if not self.family:
            return ()
        key = Ed25519Key(seed("family", self.family))
        return (issue(key, Use.FAMILY, self.identity, self.born, FAMILY_LIFETIME),)

    def description(self) -> Description:
        worker = self.role is Role.WORKER
        return Description(
            self.name,
            self.role,
            self.addresses,
            services=("job",) if worker else ("dir",),
            engine=self.engine if worker else "",
            memory=1 << 30 if worker else 0,
            cores=2 if worker else 0,
        )

    def descriptor(self, now: float, description: Description | None = None) -> bytes:
        """Return a descriptor published at `now`."""
        onion = issue(self.signing_key, Use.ONION, self.onion_key.public, self.born, ONION_LIFETIME)
        return make_descriptor(
            self.signing_key,
            self.credentials.certificate,
            onion,
            description or self.description(),
            now,
            self.families(),
        )


def relay(number: int, family: str = "", born: int = START) -> Node:
    return Node(f"relay{number}", Role.RELAY, 10 + number, born, family)


def worker(number: int, born: int = START) -> Node:
    return Node(f"worker{number}", Role.WORKER, 100 + number, born)


@dataclass(frozen=True)
class SyntheticNetwork:
    """A test network's document, and its authorities with their keys."""

    document: NetworkDocument
    authorities: tuple[Node, ...]

    @property
    def credentials(self) -> list[Credentials]:
        return [authority.credentials for authority in self.authorities]

    def signed(self) -> SignedNetwork:
        """Return the document signed by all its authorities."""
        network = SignedNetwork(self.document)
        for authority in self.authorities:
            network = network.sign(authority.identity_key)
        return network

    def sign(self, body: bytes, signers: Sequence[int] | None = None) -> bytes:
        """Return a consensus body signed by the authorities of those indices, else by all."""
        credentials = self.credentials
        chosen = range(len(credentials)) if signers is None else signers
        signatures = tuple(credentials[i].sign(CONSENSUS_LABEL, body) for i in chosen)
        return SignedConsensus(body, signatures).encode()


def make_network(
    count: int = 4, timing: Timing = TIMING, born: int = START, name: str = "synthetic"
) -> SyntheticNetwork:
    """Return a test network of `count` authorities."""
    nodes = tuple(Node(f"auth{i}", Role.AUTHORITY, i, born) for i in range(count))
    pins = tuple(AuthorityPin(node.identity, node.name, node.addresses) for node in nodes)
    document = NetworkDocument(seed("network", name), name, 1, pins, timing, test=True)
    document.check()
    return SyntheticNetwork(document, nodes)


def make_entry(node: Node, flags: Flag | None = None, since: int = START) -> Entry:
    """Return the entry of a node, without a descriptor's detour."""
    description = node.description()
    defaults = {
        Role.RELAY: RELAY_FLAGS,
        Role.WORKER: WORKER_FLAGS,
        Role.AUTHORITY: AUTHORITY_FLAGS,
    }
    return Entry(
        identity=node.identity,
        nickname=node.name,
        flags=defaults[node.role] if flags is None else flags,
        addresses=node.addresses,
        onion_key=node.onion_key.public,
        families=(Ed25519Key(seed("family", node.family)).public,) if node.family else (),
        services=description.services,
        bandwidth=BANDWIDTH_FLOOR if node.role is Role.RELAY else 0,
        fuel_rate=FUEL_FLOOR if node.role is Role.WORKER else 0,
        memory=description.memory,
        cores=description.cores,
        engine=description.engine,
        since=since,
    )


def make_consensus(
    network: SyntheticNetwork,
    entries: Sequence[Entry] = (),
    valid_after: int = START + 3,
    interval: int = 30,
) -> Consensus:
    """Return an unsigned consensus with those entries, and the authorities."""
    everyone = [*entries, *(make_entry(authority) for authority in network.authorities)]
    return Consensus(
        method=1,
        network_id=network.document.network_id,
        valid_after=valid_after,
        fresh_until=valid_after + interval,
        valid_until=valid_after + VALIDITY,
        required_protocols=(1,),
        recommended_protocols=(1,),
        engines=(),
        revoked=(),
        contact_seed=first_contact_seed(network.document.network_id),
        previous=b"",
        voters=tuple(sorted(authority.identity for authority in network.authorities)),
        entries=tuple(sorted(everyone, key=lambda entry: entry.identity)),
    )


@dataclass(frozen=True)
class SyntheticConsensus:
    """A network, an opened consensus of it, and that consensus's signed bytes."""

    network: SyntheticNetwork
    consensus: Consensus
    document: bytes
    relays: tuple[Node, ...] = field(default=())
    workers: tuple[Node, ...] = field(default=())


def make_synthetic(
    relays: int = 5, workers: int = 3, authorities: int = 4, families: dict[int, str] | None = None
) -> SyntheticConsensus:
    """Return a whole network with its consensus; `families` names those of relays by number."""
    network = make_network(authorities)
    relay_nodes = tuple(relay(i, (families or {}).get(i, "")) for i in range(relays))
    worker_nodes = tuple(worker(i) for i in range(workers))
    entries = [make_entry(node) for node in (*relay_nodes, *worker_nodes)]
    unsigned = make_consensus(network, entries)
    document = network.sign(unsigned.encode_body())
    consensus = open_consensus(document, network.document, unsigned.valid_after)
    return SyntheticConsensus(network, consensus, document, relay_nodes, worker_nodes)


def with_flags(entry: Entry, flags: Flag) -> Entry:
    """Return the entry with other flags."""
    return replace(entry, flags=flags)
