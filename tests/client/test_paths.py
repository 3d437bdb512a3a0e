"""Paths keep their limits, and are found wherever one exists (spec/06 §3, §4)."""

import random
from collections import Counter
from dataclasses import replace
from ipaddress import ip_network
from itertools import combinations

import pytest

from fogbank.client import guards
from fogbank.client.errors import NoPath
from fogbank.client.paths import (
    NOTHING,
    Avoid,
    Entrance,
    choose_worker,
    path_to_authority,
    path_to_worker,
)
from fogbank.client.topology import Topology
from fogbank.directory.consensus import Consensus, Entry, Flag
from fogbank.directory.families import conflict
from fogbank.relay.extend import Address
from tests.client import networks
from tests.client.networks import GUARD, RUNNING, SeededChooser, relay

ATTEMPTS = 8


def entrance_of(*groups: tuple[Entry, ...], layer_two: tuple[Entry, ...]) -> Entrance:
    return Entrance(
        tuple(tuple(entry.identity for entry in group) for group in groups),
        tuple(entry.identity for entry in layer_two),
    )


def operator_marks(entry: Entry) -> set[object]:
    """What no two nodes of a path may have in common, said in another way than the program's."""
    networks_of = {
        ip_network((address.host, 32 if ":" in address.host else 16), strict=False)
        for address in entry.addresses
    }
    return {entry.nickname, *entry.families, *networks_of}


def fixed_contacts(monkeypatch: pytest.MonkeyPatch, chosen: tuple[Entry, ...]) -> None:
    def contacts(worker: bytes, consensus: Consensus) -> tuple[Entry, ...]:
        return chosen

    monkeypatch.setattr("fogbank.client.topology.contacts", contacts)


@pytest.mark.parametrize(("relays", "workers"), [(12, 3), (150, 20), (2000, 100)])
def test_no_path_breaks_a_limit(relays: int, workers: int) -> None:
    draws = 33_400
    topology = networks.topology(networks.crowded_network(relays, workers, seed=relays))
    chooser = SeededChooser(relays)
    ends = topology.consensus.authorities()
    found: Counter[tuple[bytes, ...]] = Counter()
    for number in range(draws):
        if number % 50 == 0:
            state = guards.update(guards.GuardState(), topology, networks.NOW, chooser)
            entrance = Entrance(
                guards.tiers(state, topology, networks.NOW),
                tuple(guard.identity for guard in state.layer_two),
            )
        try:
            if number % 2:
                end = choose_worker(topology, chooser)
                path = path_to_worker(topology, end, entrance, chooser)
            else:
                end = ends[number % len(ends)]
                path = path_to_authority(topology, end, entrance, chooser)
        except NoPath:
            continue
        found[tuple(entry.identity for entry in (*path.relays, path.end))] += 1
        assert path.end is end
        if number % 2:
            assert path.third in topology.contacts(end)
    by_identity = {entry.identity: entry for entry in topology.consensus.entries}
    operators = {identity: operator_marks(entry) for identity, entry in by_identity.items()}
    for identities in found:
        marks = [mark for identity in identities for mark in operators[identity]]
        assert len(marks) == len(set(marks))
        entries = [by_identity[identity] for identity in identities]
        assert all(entry.flags & RUNNING == RUNNING and 1 in entry.protocols for entry in entries)
        assert all(not entry.flags & (Flag.WORKER | Flag.AUTHORITY) for entry in entries[:3])
    assert found.total() > 0.5 * draws


def test_the_smallest_network_has_paths_with_any_one_relay_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All choices of two guards, four layer-2 guards, three contacts and one dead relay of five."""
    entries = networks.small_network(workers=1)
    relays = entries[:5]
    topology = networks.topology(entries)
    (target,) = topology.workers.items
    (end, *_) = topology.consensus.authorities()
    chooser = SeededChooser(5)
    longest = 0
    for contacts in combinations(relays, 3):
        fixed_contacts(monkeypatch, contacts)
        for primary in combinations(relays, 2):
            for layer_two in combinations(relays, 4):
                for dead in (*relays, None):
                    alive = tuple(entry for entry in primary if entry is not dead)
                    entrance = entrance_of(alive, layer_two=layer_two)
                    for to_worker in (True, False):
                        avoid, attempts = NOTHING, 0
                        while True:
                            attempts += 1
                            path = (
                                path_to_worker(topology, target, entrance, chooser, avoid)
                                if to_worker
                                else path_to_authority(topology, end, entrance, chooser, avoid)
                            )
                            networks.assert_keeps_limits(path)
                            if dead not in path.relays:
                                break
                            avoid = avoid.after(path.relays)
                        longest = max(longest, attempts)
    assert 1 < longest <= ATTEMPTS


def test_a_relay_that_left_the_consensus_is_replaced() -> None:
    entries = networks.small_network()
    chooser = SeededChooser(1)
    before = networks.topology(entries)
    state = guards.update(guards.GuardState(), before, networks.NOW, chooser)
    for dead in entries[:5]:
        topology = networks.topology(networks.without(entries, dead))
        after = guards.update(state, topology, networks.NOW, chooser)
        entrance = Entrance(
            guards.tiers(after, topology, networks.NOW),
            tuple(guard.identity for guard in after.layer_two),
        )
        for end in (*topology.workers.items, *topology.consensus.authorities()):
            find = path_to_worker if end.flags & Flag.WORKER else path_to_authority
            path = find(topology, end, entrance, chooser)
            networks.assert_keeps_limits(path)
            assert dead not in path.relays


def test_a_path_is_found_exactly_where_one_exists() -> None:
    """Small random networks, against a plain look at all combinations."""
    draw = random.Random(3)
    outcomes: Counter[bool] = Counter()
    for seed in range(300):
        topology = networks.topology(networks.crowded_network(5, 2, seed))
        relays = list(topology.relays.items)
        guard_group = tuple(draw.sample(relays, min(2, len(relays))))
        layer_two = tuple(draw.sample(relays, min(2, len(relays))))
        entrance = entrance_of(guard_group, layer_two=layer_two)
        target = topology.workers.items[0]
        expected = {
            (a.identity, b.identity, c.identity)
            for a in guard_group
            for b in layer_two
            for c in topology.contacts(target)
            if not any(conflict(x, y) for x, y in combinations((a, b, c, target), 2))
        }
        try:
            path = path_to_worker(topology, target, entrance, SeededChooser(seed))
        except NoPath:
            assert not expected
        else:
            assert tuple(entry.identity for entry in path.relays) in expected
        outcomes[bool(expected)] += 1
    assert min(outcomes.values()) > 20


def test_the_third_relay_is_drawn_by_bandwidth() -> None:
    guard, middle = relay(0), relay(1)
    others = [relay(number, RUNNING, bandwidth=1000 * number) for number in (2, 3, 5)]
    end = networks.authority(0)
    topology = networks.topology([guard, middle, *others, end])
    entrance = entrance_of((guard,), layer_two=(middle,))
    chooser = SeededChooser("weights")
    draws = 8000
    counts = Counter(
        path_to_authority(topology, end, entrance, chooser).third.bandwidth for _ in range(draws)
    )
    assert {key: round(10 * count / draws, 1) for key, count in counts.items()} == pytest.approx(
        {2000: 2, 3000: 3, 5000: 5}, abs=0.3
    )


def test_workers_are_drawn_by_fuel_rate_and_engine() -> None:
    slow, fast = networks.worker(0, fuel_rate=1000), networks.worker(1, fuel_rate=3000)
    other = networks.worker(2, engine="wasmtime-2", fuel_rate=10**9)
    topology = networks.topology([slow, fast, other])
    chooser = SeededChooser("workers")
    drawn = Counter(
        choose_worker(topology, chooser, engine="wasmtime-1").nickname for _ in range(8000)
    )
    assert drawn == pytest.approx({"worker0": 2000, "worker1": 6000}, rel=0.1)
    assert choose_worker(topology, chooser, engine="wasmtime-2") == other
    excluded = frozenset({other.identity, fast.identity})
    assert choose_worker(topology, chooser, exclude=excluded) == slow


def test_a_worker_that_holds_a_runtime_is_drawn() -> None:
    python, lua = b"p" * 32, b"l" * 32
    both = networks.worker(0, runtimes=(python, lua))
    one = networks.worker(1, runtimes=(python,), engine="wasmtime-2")
    none = networks.worker(2, fuel_rate=10**12)
    topology = networks.topology([both, one, none])
    chooser = SeededChooser("runtimes")
    drawn = {choose_worker(topology, chooser, runtime=python).nickname for _ in range(100)}
    assert drawn == {"worker0", "worker1"}
    assert choose_worker(topology, chooser, runtime=lua) == both
    assert choose_worker(topology, chooser, runtime=python, engine="wasmtime-2") == one
    with pytest.raises(NoPath, match="fog worker runtime add"):
        choose_worker(topology, chooser, runtime=lua, engine="wasmtime-2")
    with pytest.raises(NoPath, match="none of the workers"):
        choose_worker(topology, chooser, runtime=lua, exclude=frozenset({both.identity}))


def test_a_worker_that_is_leaving_is_not_drawn() -> None:
    leaving = replace(networks.worker(0, fuel_rate=10**12), services=())
    topology = networks.topology([leaving, networks.worker(1)])
    chooser = SeededChooser("leaving")
    assert {choose_worker(topology, chooser).nickname for _ in range(20)} == {"worker1"}


def test_hops_have_the_addresses_of_the_consensus_and_a_worker_has_none() -> None:
    entries = networks.small_network()
    topology = networks.topology(entries)
    entrance = entrance_of((entries[0], entries[1]), layer_two=tuple(entries[1:5]))
    target = topology.workers.items[0]
    path = path_to_worker(topology, target, entrance, SeededChooser(0))
    hops = path.hops()
    for hop, entry in zip(hops, (*path.relays, target), strict=True):
        assert (hop.identity, hop.onion_key) == (entry.identity, entry.onion_key)
    assert hops[0].addresses == (Address(path.guard.addresses[0].host, 9001),)
    assert hops[3].addresses is None
    assert path.nicknames == tuple(entry.nickname for entry in (*path.relays, target))


def test_a_later_group_of_guards_serves_only_where_the_first_cannot() -> None:
    first, second = relay(0), relay(1)
    middle, contact = relay(2, families=(networks.family("a"),)), relay(3)
    end = networks.authority(0)
    topology = networks.topology([first, second, middle, contact, end])
    entrance = entrance_of((first,), (second,), layer_two=(middle,))
    for seed in range(50):
        path = path_to_authority(topology, end, entrance, SeededChooser(seed))
        assert path.guard == first
    related = replace(first, families=(networks.family("a"),))
    topology = networks.topology([related, second, middle, contact, end])
    assert path_to_authority(topology, end, entrance, SeededChooser(0)).guard == second


def test_suspects_are_passed_over_while_others_are_left_and_excluded_ones_always() -> None:
    relays = [relay(number) for number in range(6)]
    end = networks.authority(0)
    topology = networks.topology([*relays, end])
    entrance = entrance_of(tuple(relays[:2]), layer_two=tuple(relays[1:5]))
    suspects = {relays[0].identity: 1, relays[2].identity: 2, relays[5].identity: 1}
    for seed in range(100):
        chooser = SeededChooser(seed)
        path = path_to_authority(topology, end, entrance, chooser, Avoid(suspects=suspects))
        assert path.guard == relays[1]
        assert not {relays[2], relays[5], relays[0]} & set(path.relays)
        excluded = frozenset({relays[1].identity, relays[3].identity})
        path = path_to_authority(topology, end, entrance, chooser, Avoid(excluded, suspects))
        assert path.guard == relays[0]
        assert path.layer_two == relays[4]


FAMILY = (networks.family("one operator"),)


@pytest.mark.parametrize(
    ("third", "sentence"),
    [
        (relay(2, families=FAMILY), "two nodes of one family"),
        (relay(2, host="1.0.77.7"), r"two nodes in one /16"),
        (relay(2, host="1.0.77.7", families=FAMILY), r"of one family or in one /16"),
        (relay(1), "too few relays"),
        (relay(2, RUNNING, host="250.0.9.9"), r"two nodes in one /16"),
    ],
)
def test_where_there_is_no_path_the_error_names_the_limit(third: Entry, sentence: str) -> None:
    guard, middle = relay(0, families=FAMILY), relay(1)
    end = networks.authority(0)
    entries = {entry.identity: entry for entry in (guard, middle, third, end)}
    topology = networks.topology(list(entries.values()))
    entrance = entrance_of((guard,), layer_two=(middle,))
    with pytest.raises(NoPath, match=sentence):
        path_to_authority(topology, end, entrance, SeededChooser(0))


def test_other_reasons_for_no_path() -> None:
    chooser = SeededChooser(0)
    entries = [relay(0), relay(1), relay(2, RUNNING), networks.authority(0), networks.worker(0)]
    topology = networks.topology(entries)
    end, target = entries[3:]
    entrance = entrance_of((entries[0],), layer_two=(entries[1],))
    with pytest.raises(NoPath, match="is a guard"):
        path_to_authority(topology, end, Entrance((), entrance.layer_two), chooser)
    tried = Avoid(frozenset({entries[2].identity}))
    with pytest.raises(NoPath, match="was tried"):
        path_to_authority(topology, end, entrance, chooser, tried)
    lonely = networks.topology([networks.worker(0), relay(0, RUNNING)])
    with pytest.raises(NoPath, match="keeps a link to"):
        path_to_worker(lonely, target, entrance, chooser)
    with pytest.raises(NoPath, match="engine class"):
        choose_worker(topology, chooser, engine="another")
    with pytest.raises(NoPath, match="none of the workers"):
        choose_worker(topology, chooser, exclude=frozenset({target.identity}))
    with pytest.raises(NoPath, match="fog worker run"):
        choose_worker(Topology(networks.consensus([relay(0, GUARD)])), chooser)
