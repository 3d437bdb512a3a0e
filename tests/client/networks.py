"""Synthetic consensuses and seeded choices for the client's tests."""

import random
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from fogbank.client.paths import Path
from fogbank.client.topology import Topology
from fogbank.directory.addresses import Address
from fogbank.directory.consensus import VALIDITY, Consensus, Entry, Flag
from fogbank.directory.families import conflict

NOW = 1_800_000_000
INTERVAL = 3600
RUNNING = Flag.RUNNING | Flag.VALID
GUARD = RUNNING | Flag.GUARD | Flag.STABLE | Flag.FAST
NETWORK_ID = sha256(b"a network for tests").digest()


class SeededChooser:
    """A chooser that repeats itself."""

    def __init__(self, seed: object) -> None:
        self._random = random.Random(repr(seed))

    def uniform(self) -> float:
        return self._random.random()

    def below(self, limit: int) -> int:
        return self._random.randrange(limit)


def identity(name: str) -> bytes:
    return sha256(name.encode()).digest()


def family(name: str) -> bytes:
    return sha256(b"family " + name.encode()).digest()


def relay(
    number: int,
    flags: Flag = GUARD,
    *,
    host: str = "",
    families: tuple[bytes, ...] = (),
    bandwidth: int = 1_000_000,
) -> Entry:
    """A relay, by default in a /16 of its own."""
    host = host or f"{1 + number // 200}.{number % 200}.0.1"
    return Entry(
        identity=identity(f"relay {number}"),
        nickname=f"relay{number}",
        flags=flags,
        addresses=(Address(host, 9001),),
        onion_key=identity(f"onion {number}"),
        families=families,
        bandwidth=bandwidth,
    )


def worker(
    number: int,
    *,
    families: tuple[bytes, ...] = (),
    engine: str = "wasmtime-1",
    fuel_rate: int = 1_000_000_000,
    runtimes: tuple[bytes, ...] = (),
) -> Entry:
    return Entry(
        identity=identity(f"worker {number}"),
        nickname=f"worker{number}",
        flags=RUNNING | Flag.WORKER,
        addresses=(),
        onion_key=identity(f"worker onion {number}"),
        families=families,
        services=("job",),
        fuel_rate=fuel_rate,
        engine=engine,
        runtimes=runtimes,
    )


def authority(number: int) -> Entry:
    return Entry(
        identity=identity(f"authority {number}"),
        nickname=f"authority{number}",
        flags=RUNNING | Flag.AUTHORITY,
        addresses=(Address(f"250.{number}.0.1", 9001),),
        onion_key=identity(f"authority onion {number}"),
        services=("dir",),
    )


def departed(number: int) -> Entry:
    """An authority that left office, and serves the series of its time."""
    entry = relay(900 + number, host=f"251.{number}.0.1")
    return replace(entry, nickname=f"departed{number}", services=("dir", "mint"))


def consensus(
    entries: Sequence[Entry], valid_after: int = NOW - 60, interval: int = INTERVAL
) -> Consensus:
    return Consensus(
        method=1,
        network_id=NETWORK_ID,
        valid_after=valid_after,
        fresh_until=valid_after + interval,
        valid_until=valid_after + VALIDITY,
        required_protocols=(1,),
        recommended_protocols=(1,),
        engines=(),
        revoked=(),
        contact_seed=identity("seed"),
        previous=b"",
        voters=(),
        entries=tuple(sorted(entries, key=lambda entry: entry.identity)),
        digest=identity(f"consensus {valid_after}"),
    )


def small_network(relays: int = 5, workers: int = 3, authorities: int = 4) -> list[Entry]:
    """A network of the size of a local test network, every relay a guard."""
    return [
        *map(relay, range(relays)),
        *map(worker, range(workers)),
        *map(authority, range(authorities)),
    ]


def crowded_network(relays: int, workers: int, seed: int) -> list[Entry]:
    """A network with families, shared prefixes, uneven weights, some relays that may not serve."""
    draw = random.Random(seed)
    entries: list[Entry] = []
    for number in range(relays):
        flags = GUARD if draw.random() < 0.4 else RUNNING | Flag.STABLE
        if draw.random() < 0.1:
            flags = Flag.VALID | Flag.GUARD
        entry = relay(
            number,
            flags,
            host=f"{draw.randrange(1, 40)}.{draw.randrange(4)}.{draw.randrange(256)}.7",
            families=tuple(family(str(draw.randrange(30))) for _ in range(draw.randrange(3))),
            bandwidth=int(10 ** draw.uniform(3, 9)),
        )
        if draw.random() < 0.2:
            second = Address(f"2001:{draw.randrange(6):x}::{number + 1:x}", 9001)
            entry = replace(entry, addresses=(*entry.addresses, second))
        if draw.random() < 0.05:
            entry = replace(entry, protocols=(99,))
        entries.append(entry)
    for number in range(workers):
        families = (family(str(draw.randrange(30))),) if draw.random() < 0.3 else ()
        entries.append(worker(number, families=families, fuel_rate=draw.randrange(10**10)))
    return [*entries, *map(authority, range(4))]


def topology(entries: Sequence[Entry]) -> Topology:
    return Topology(consensus(entries))


def without(entries: Sequence[Entry], dead: Entry) -> list[Entry]:
    return [entry for entry in entries if entry.identity != dead.identity]


def assert_keeps_limits(path: Path) -> None:
    """Check a path with the directory room's own, slower definition of what may stand together."""
    nodes = (*path.relays, path.end)
    assert not any(conflict(a, b) for i, a in enumerate(nodes) for b in nodes[:i])
    for entry in path.relays:
        assert entry.flags & RUNNING == RUNNING
        assert not entry.flags & (Flag.WORKER | Flag.AUTHORITY)
        assert 1 in entry.protocols
