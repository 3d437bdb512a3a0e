"""Building circuits (spec/06 §4): retries, budgets, guards, and whole circuits over real nodes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from fogbank.client.circuits_shell import (
    CircuitBuilder,
)
from fogbank.client.errors import CircuitUnavailable, NoPath
from fogbank.client.guards import GuardState, primary
from fogbank.client.guards_store_shell import GuardStore
from fogbank.client.limits import LIMITS, ClientLimits
from fogbank.client.topology import Topology
from fogbank.directory.consensus import Entry
from fogbank.relay.circuits.origin import Hop
from fogbank.relay.errors import ExtendRefused, LinkFailed, WorkRefused
from fogbank.relay.extend import Address
from fogbank.relay.messages_shell import Stream
from tests.client import networks
from tests.client.networks import NETWORK_ID, NOW, SeededChooser


@dataclass
class FakeCircuit:
    hops: tuple[bytes, ...]
    closed: bool = False

    async def open_stream(self, service: str) -> Stream:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeNode:
    """Links and circuits fail as told; what was tried is noted."""

    dead: set[bytes] = field(default_factory=set)
    hanging: set[bytes] = field(default_factory=set)
    refusing: set[bytes] = field(default_factory=set)
    overloaded: set[bytes] = field(default_factory=set)
    linked: list[bytes] = field(default_factory=list)
    tried: list[tuple[bytes, ...]] = field(default_factory=list)
    built: list[FakeCircuit] = field(default_factory=list)

    async def link(self, identity: bytes, addresses: Sequence[Address]) -> None:
        await trio.lowlevel.checkpoint()
        assert addresses
        self.linked.append(identity)
        if identity in self.hanging:
            await trio.sleep_forever()
        if identity in self.dead:
            raise LinkFailed("nothing answers")

    async def build(self, hops: Sequence[Hop]) -> FakeCircuit:
        await trio.lowlevel.checkpoint()
        identities = tuple(hop.identity for hop in hops)
        self.tried.append(identities)
        if self.overloaded & set(identities):
            raise WorkRefused("a relay asks for more work than is reasonable")
        for before, identity in pairwise(identities):
            if before in self.refusing or identity in self.dead:
                raise ExtendRefused("a relay cannot reach the next one")
            if identity in self.hanging:
                await trio.sleep_forever()
        self.built.append(FakeCircuit(identities))
        return self.built[-1]

    def open(self) -> list[FakeCircuit]:
        return [circuit for circuit in self.built if not circuit.closed]


@dataclass
class Setting:
    builder: CircuitBuilder[FakeCircuit]
    node: FakeNode
    store: GuardStore
    topology: Topology
    said: list[str]

    def state(self) -> GuardState:
        return self.store.change(lambda state: state)

    def relays(self) -> list[Entry]:
        return list(self.topology.relays.items)

    def entrance(self) -> set[bytes]:
        """The primary guards of a client that has done nothing yet."""
        self.builder.entrance(self.topology)
        return {guard.identity for guard in primary(self.state(), self.topology)}


def setting(
    folder: Path,
    entries: Sequence[Entry] | None = None,
    limits: ClientLimits = LIMITS,
    seed: object = 0,
) -> Setting:
    said: list[str] = []
    node = FakeNode()
    store = GuardStore(folder, NETWORK_ID, said.append)
    chooser = SeededChooser(seed)
    builder = CircuitBuilder(
        node, store, chooser, said.append, clock=lambda: NOW + trio.current_time(), limits=limits
    )
    topology = networks.topology(networks.small_network() if entries is None else entries)
    return Setting(builder, node, store, topology, said)


async def test_a_circuit_to_a_worker_and_its_path_by_nickname(tmp_path: Path) -> None:
    here = setting(tmp_path)
    with here.builder.circuits() as circuits:
        built = await circuits.to_worker(here.topology)
        networks.assert_keeps_limits(built.path)
        ends = [entry.identity for entry in (*built.path.relays, built.path.end)]
        assert built.circuit.hops == tuple(ends)
        assert [name[:5] for name in built.path.nicknames] == ["relay"] * 3 + ["worke"]
        assert built.circuit in here.node.open()
    assert here.node.open() == []
    guard = {guard.identity: guard for guard in here.state().sample}[ends[0]]
    assert guard.confirmed
    assert guard.circuits == 1


async def test_a_relay_that_asks_for_too_much_work_is_passed_by_and_no_guard_blamed(
    tmp_path: Path,
) -> None:
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        here = setting(folder, seed=number)
        busy = here.relays()[number].identity
        here.node.overloaded.add(busy)
        for _ in range(10):
            with here.builder.circuits() as circuits:
                built = await circuits.to_worker(here.topology)
                assert busy not in built.circuit.hops
        # Paths through it were tried, and counted neither for nor against their guards.
        counted = sum(guard.circuits for guard in here.state().sample)
        assert counted == 10
        assert not any(guard.failed or guard.unreachable_since for guard in here.state().sample)
        assert here.said == []


async def test_jobs_never_share_a_circuit(tmp_path: Path) -> None:
    here = setting(tmp_path)
    one, two = here.builder.circuits(), here.builder.circuits()
    built = [(await circuits.to_worker(here.topology)).circuit for circuits in (one, two, one, two)]
    assert len({id(circuit) for circuit in built}) == 4
    one.close()
    assert [circuit.closed for circuit in built] == [True, False, True, False]


@pytest.mark.parametrize("number", range(5))
async def test_any_one_dead_relay_is_passed_by(tmp_path: Path, number: int) -> None:
    attempts = []
    for seed in range(12):
        (tmp_path / str(seed)).mkdir()
        here = setting(tmp_path / str(seed), seed=seed)
        dead = here.relays()[number].identity
        here.node.dead = {dead}
        authority = here.topology.consensus.authorities()[0].identity
        with here.builder.circuits() as circuits:
            built = await circuits.to_worker(here.topology)
            assert dead not in built.circuit.hops
            built = await circuits.to_authority(here.topology, authority)
            assert dead not in built.circuit.hops
        attempts.append(len(here.node.linked))
    assert max(attempts) <= 2 * LIMITS.build_attempts
    assert sum(attempts) / len(attempts) < 5


async def test_a_worker_that_left_its_contacts_is_passed_by(tmp_path: Path) -> None:
    here = setting(tmp_path)
    workers = [entry.identity for entry in here.topology.workers.items]
    here.node.dead = set(workers[:2])
    with here.builder.circuits() as circuits:
        built = await circuits.to_worker(here.topology)
        assert built.circuit.hops[-1] == workers[2]
        assert len(here.node.tried) <= 3
        with pytest.raises(CircuitUnavailable, match="cannot reach the next one"):
            await circuits.to_worker(here.topology, worker=workers[0])


async def test_guards_that_let_nothing_pass_stay_guards_and_are_named(tmp_path: Path) -> None:
    entries = [*map(networks.relay, range(100)), *networks.small_network(0)]
    here = setting(tmp_path, entries)
    first = here.entrance()
    here.node.refusing = set(first)
    for _ in range(8):
        with here.builder.circuits() as circuits, pytest.raises(CircuitUnavailable):
            await circuits.to_worker(here.topology)
    assert {path[0] for path in here.node.tried} == set(here.node.linked) == first
    assert {guard.identity for guard in primary(here.state(), here.topology)} == first
    assert len(here.said) == 2
    assert all("circuits through the guard" in sentence for sentence in here.said)


async def test_a_guard_that_cannot_be_linked_gives_way_to_the_next(tmp_path: Path) -> None:
    entries = [*map(networks.relay, range(100)), *networks.small_network(0)]
    here = setting(tmp_path, entries)
    with here.builder.circuits() as circuits:
        await circuits.to_worker(here.topology)
        here.node.dead = here.entrance()
        here.node.tried.clear()
        built = await circuits.to_worker(here.topology)
        third = here.state().sample[2].identity
        assert built.path.guard.identity == third
        assert len(here.node.tried) == 1
        here.node.linked.clear()
        await circuits.to_worker(here.topology)
        assert here.node.linked == [third]


async def test_offline_the_error_says_so_and_every_guard_is_tried_once(tmp_path: Path) -> None:
    here = setting(tmp_path)
    here.node.dead = {entry.identity for entry in here.relays()}
    with here.builder.circuits() as circuits:
        with pytest.raises(CircuitUnavailable, match="this machine is online"):
            await circuits.to_worker(here.topology)
        assert Counter(here.node.linked) == Counter(here.node.dead)
        here.node.linked.clear()
        here.node.dead.clear()
        assert await circuits.to_worker(here.topology)


async def test_hanging_relays_cost_their_time_and_no_more(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    here = setting(tmp_path)
    dead = here.relays()[0].identity
    here.node.hanging = {dead}
    begin = trio.current_time()
    with here.builder.circuits() as circuits:
        built = await circuits.to_worker(here.topology)
        assert dead not in built.circuit.hops
    assert trio.current_time() - begin <= LIMITS.build_seconds
    here.node.hanging = {entry.identity for entry in here.relays()}
    begin = trio.current_time()
    with here.builder.circuits() as circuits, pytest.raises(CircuitUnavailable, match="12 s"):
        await circuits.to_worker(here.topology)
    assert trio.current_time() - begin == pytest.approx(LIMITS.build_seconds)


async def test_the_budget_of_attempts_holds_for_a_circuit_and_for_a_job(tmp_path: Path) -> None:
    here = setting(tmp_path, limits=replace(LIMITS, job_failures=20))
    here.node.refusing = {entry.identity for entry in here.relays()}
    with here.builder.circuits() as circuits:
        tried = []
        for _ in range(4):
            with pytest.raises(CircuitUnavailable):
                await circuits.to_worker(here.topology)
            tried.append(len(here.node.tried))
    assert tried == [8, 16, 20, 20]
    with here.builder.circuits() as circuits, pytest.raises(CircuitUnavailable):
        await circuits.to_worker(here.topology)
    assert len(here.node.tried) == 28


async def test_where_there_is_no_path_nothing_is_tried(tmp_path: Path) -> None:
    here = setting(tmp_path, [*map(networks.relay, range(2)), *networks.small_network(0)])
    with here.builder.circuits() as circuits:
        with pytest.raises(NoPath, match="too few relays"):
            await circuits.to_worker(here.topology)
        with pytest.raises(NoPath, match="not in the consensus"):
            await circuits.to_authority(here.topology, networks.identity("nobody"))
        with pytest.raises(NoPath, match="worker does not run"):
            await circuits.to_worker(here.topology, worker=networks.identity("nobody"))
    assert here.node.tried == []


async def test_an_authority_that_left_office_is_reached_and_is_nobodys_hop(tmp_path: Path) -> None:
    gone = [networks.departed(number) for number in range(3)]
    here = setting(
        tmp_path, [*map(networks.relay, range(4)), *gone, *map(networks.worker, range(3))]
    )
    departed = {entry.identity for entry in gone}
    assert {entry.identity for entry in here.topology.consensus.departed()} == departed
    assert not departed & {entry.identity for entry in here.topology.relays.items}
    for entry in here.topology.workers.items:
        assert not departed & {contact.identity for contact in here.topology.contacts(entry)}
    with here.builder.circuits() as circuits:
        for entry in gone:
            built = await circuits.to_authority(here.topology, entry.identity)
            assert built.circuit.hops[-1] == entry.identity
        with pytest.raises(NoPath, match="not in the consensus"):
            await circuits.to_authority(here.topology, networks.relay(0).identity)
    assert not departed & {hop for path in here.node.tried for hop in path[:-1]}


async def test_a_worker_without_a_path_is_passed_over_for_another(tmp_path: Path) -> None:
    families = tuple(networks.family(str(number)) for number in range(4))
    relays = [networks.relay(number, families=(families[number],)) for number in range(4)]
    lonely = networks.worker(1, families=families)
    here = setting(tmp_path, [*relays, networks.relay(4), lonely, networks.worker(2)])
    for _ in range(10):
        with here.builder.circuits() as circuits:
            built = await circuits.to_worker(here.topology)
            assert built.path.end.nickname == "worker2"
    alone = networks.topology([*relays, networks.relay(4), lonely])
    with here.builder.circuits() as circuits, pytest.raises(NoPath, match="one family"):
        await circuits.to_worker(alone)


async def test_a_worker_holds_the_runtime_and_is_not_excluded(tmp_path: Path) -> None:
    held = b"r" * 32
    workers = [networks.worker(n, runtimes=(held,) if n < 2 else ()) for n in range(4)]
    here = setting(tmp_path, [*map(networks.relay, range(6)), *workers])
    gone = frozenset({workers[0].identity})
    with here.builder.circuits() as circuits:
        for _ in range(5):
            built = await circuits.to_worker(here.topology, runtime=held, exclude=gone)
            assert built.path.end == workers[1]
        gone |= {workers[1].identity}
        with pytest.raises(NoPath, match="none of the workers"):
            await circuits.to_worker(here.topology, runtime=held, exclude=gone)


async def test_giving_up_says_nothing_of_the_guard(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    here = setting(tmp_path)
    here.entrance()
    before = here.state()
    here.node.hanging = {entry.identity for entry in here.relays()}
    with trio.move_on_after(1), here.builder.circuits() as circuits:
        await circuits.to_worker(here.topology)
    assert here.state() == before
