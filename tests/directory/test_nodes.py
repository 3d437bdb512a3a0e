"""Which nodes an authority knows, probes and votes for (spec/05 §2, §4.5, §8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from fogbank.directory.addresses import machine_of
from fogbank.directory.computation import BANDWIDTH_FLOOR
from fogbank.directory.descriptor import (
    Description,
    DescriptorCache,
    Role,
    make_descriptor,
    open_descriptor,
)
from fogbank.directory.effects import Effect, ForgetNode, KeepNode, NodeRecord, Probe
from fogbank.directory.network import AuthorityPin
from fogbank.directory.nodes import MAX_PER_ADDRESS, MAX_PROBES, MAX_UNPROVED, NodeTable
from fogbank.directory.rules import Listed, Rules
from fogbank.directory.vote import Observation
from fogbank.relay.certificates import ONION_LIFETIME, Use, issue
from fogbank.relay.errors import ProtocolError
from fogbank.relay.extend import Address
from fogbank.relay.keys import NodeId
from tests.directory.factory import (
    START,
    make_consensus,
    make_entry,
    make_network,
    relay,
    worker,
)

NETWORK = make_network()
DOCUMENT = NETWORK.document
NOW = START + 1000.0
"""Past the warm-up: intervals last 30 seconds."""


def table(limit: int = 100) -> NodeTable:
    return NodeTable(DOCUMENT, DescriptorCache(DOCUMENT), limit)


def probes(effects: list[Effect]) -> list[Probe]:
    return [effect for effect in effects if isinstance(effect, Probe)]


def running(nodes: NodeTable, now: float = NOW) -> set[NodeId]:
    listed = nodes.listings(int(now) + 5, now, None)
    return {open_descriptor(data, DOCUMENT, now).identity for data, _ in listed}


def test_a_relay_is_probed_at_once_and_then_every_interval() -> None:
    nodes = table()
    (kept,) = nodes.accept(relay(0).descriptor(NOW), NOW)
    assert isinstance(kept, KeepNode)
    assert nodes.next_probe() == NOW
    (probe,) = probes(nodes.probes(NOW))
    assert probe.addresses == relay(0).addresses
    assert running(nodes) == set()
    assert nodes.probed(probe, probe.addresses[0], NOW + 0.1)
    assert running(nodes) == {relay(0).identity}
    assert nodes.next_probe() == NOW + 0.1 + 30
    assert not nodes.probes(NOW + 30)
    (probe,) = probes(nodes.probes(NOW + 30.2))
    assert nodes.probed(probe, probe.addresses[0], NOW + 30.3) == []


def test_a_relay_that_comes_into_office_is_voted_for_up_to_then() -> None:
    """A vote that lists an authority as a relay would be none (spec/05 §3)."""
    then = int(NOW) + 10
    pin = AuthorityPin(relay(0).identity, "relay0", relay(0).addresses)
    document = replace(DOCUMENT, version=2, authorities=(pin,), in_force=then, previous=DOCUMENT)
    nodes = NodeTable(DOCUMENT, cache := DescriptorCache(DOCUMENT), 100)
    for number in range(2):
        nodes.accept(relay(number).descriptor(NOW), NOW)
    for probe in probes(nodes.probes(NOW)):
        nodes.probed(probe, probe.addresses[0], NOW)
    assert len(nodes.listings(then, NOW + 1, None)) == 2
    cache.network = document
    assert len(nodes.listings(then - 1, NOW + 1, None)) == 2
    ((data, _),) = nodes.listings(then, NOW + 1, None)
    assert open_descriptor(data, document, NOW).identity == relay(1).identity


def test_failed_probes_are_repeated_ever_later() -> None:
    nodes = table()
    nodes.accept(relay(0).descriptor(NOW), NOW)
    now, waits = NOW, []
    for _ in range(6):
        (probe,) = probes(nodes.probes(now))
        nodes.probed(probe, None, now)
        due = nodes.next_probe()
        assert due is not None
        waits.append(due - now)
        now = due
    assert waits == [3.75, 7.5, 15.0, 30.0, 30.0, 30.0]


def test_a_relay_that_fails_is_not_running_and_its_uptime_begins_anew() -> None:
    nodes = table()
    nodes.accept(relay(0).descriptor(NOW), NOW)
    (probe,) = probes(nodes.probes(NOW))
    nodes.probed(probe, probe.addresses[0], NOW)
    (probe,) = probes(nodes.probes(NOW + 30))
    nodes.probed(probe, None, NOW + 30)
    assert running(nodes, NOW + 31) == set()
    (probe,) = probes(nodes.probes(NOW + 60))
    nodes.probed(probe, probe.addresses[0], NOW + 60)
    ((_, seen),) = nodes.listings(int(NOW) + 70, NOW + 70, None)
    assert seen.uptime == 10


def test_a_relay_that_moved_is_probed_at_its_new_place() -> None:
    nodes = table()
    nodes.accept(relay(0).descriptor(NOW), NOW)
    (probe,) = probes(nodes.probes(NOW))
    moved = replace(relay(0).description(), addresses=(Address("127.99.0.1", 9000),))
    nodes.accept(relay(0).descriptor(NOW + 2, moved), NOW + 2)
    assert nodes.probed(probe, probe.addresses[0], NOW + 3) == []
    assert running(nodes, NOW + 3) == set()
    (probe,) = probes(nodes.probes(NOW + 3))
    assert probe.addresses == moved.addresses


def test_probes_in_flight_are_bounded() -> None:
    nodes = table(1000)
    for number in range(MAX_PROBES + 10):
        nodes.accept(relay(number).descriptor(NOW), NOW)
    first = probes(nodes.probes(NOW))
    assert len(first) == MAX_UNPROVED
    assert nodes.probes(NOW) == []
    assert nodes.next_probe() is None
    for probe in first:
        nodes.probed(probe, probe.addresses[0], NOW)
    then = probes(nodes.probes(NOW))
    assert len(then) == MAX_PROBES + 10 - MAX_UNPROVED
    for probe in then:
        nodes.probed(probe, probe.addresses[0], NOW)
    # Of running ones as many may be in flight as there is room for.
    assert len(probes(nodes.probes(NOW + 31))) == MAX_PROBES


def test_a_flood_of_relays_that_are_not_there_holds_up_no_others() -> None:
    nodes = table(1000)
    honest = [relay(number) for number in range(40)]
    for each in honest:
        nodes.accept(each.descriptor(NOW), NOW)
    for probe in probes(nodes.probes(NOW)):
        nodes.probed(probe, probe.addresses[0], NOW)
    for number in range(100, 100 + 2 * MAX_UNPROVED):
        nodes.accept(relay(number).descriptor(NOW + 1), NOW + 1)
    silent = probes(nodes.probes(NOW + 1))
    assert len(silent) == MAX_UNPROVED
    # While none of them answers, the running ones are looked at in time.
    assert nodes.next_probe() == NOW + 30
    looked_at = probes(nodes.probes(NOW + 30))
    assert {probe.identity for probe in looked_at} == {each.identity for each in honest}
    # Who is new comes before those that failed, however many those are.
    for probe in silent:
        nodes.probed(probe, None, NOW + 11)
    for probe in probes(nodes.probes(NOW + 11)):
        nodes.probed(probe, None, NOW + 21)
    newcomer = relay(99)
    nodes.accept(newcomer.descriptor(NOW + 30), NOW + 30)
    first = probes(nodes.probes(NOW + 30))
    assert first[0].identity == newcomer.identity
    assert len(first) == MAX_UNPROVED


def test_a_worker_runs_while_its_descriptor_is_fresh() -> None:
    nodes = table()
    nodes.accept(worker(0).descriptor(NOW), NOW)
    assert nodes.next_probe() is None
    assert running(nodes, NOW + 89) == {worker(0).identity}
    assert running(nodes, NOW + 90) == set()
    nodes.accept(worker(0).descriptor(NOW + 100), NOW + 100)
    ((_, seen),) = nodes.listings(int(NOW) + 110, NOW + 110, None)
    assert seen.uptime == 10
    nodes.accept(worker(0).descriptor(NOW + 150), NOW + 150)
    ((_, seen),) = nodes.listings(int(NOW) + 160, NOW + 160, None)
    assert seen.uptime == 60


def test_what_is_voted_for_comes_from_the_last_consensus_and_measurement() -> None:
    nodes = table()
    entry = replace(make_entry(relay(0)), since=START + 7, bandwidth=BANDWIDTH_FLOOR * 3)
    last = make_consensus(NETWORK, [entry])
    nodes.accept(relay(0).descriptor(NOW), NOW)
    (probe,) = probes(nodes.probes(NOW))
    nodes.probed(probe, probe.addresses[0], NOW)
    nodes.measured(relay(0).identity, BANDWIDTH_FLOOR * 100, 0)
    ((_, seen),) = nodes.listings(int(NOW) + 5, NOW + 4, last)
    assert seen == Observation(4, START + 7, BANDWIDTH_FLOOR * 6, 0)


def test_refusals() -> None:
    nodes = table(limit=1)
    nodes.accept(relay(0).descriptor(NOW), NOW)
    assert nodes.accept(relay(0).descriptor(NOW), NOW) == []
    with pytest.raises(ProtocolError, match="newer descriptor"):
        nodes.accept(relay(0).descriptor(NOW - 5), NOW)
    with pytest.raises(ProtocolError, match="too often"):
        nodes.accept(relay(0).descriptor(NOW + 1), NOW + 0.2)
    with pytest.raises(ProtocolError, match="its own vote only"):
        nodes.accept(NETWORK.authorities[0].descriptor(NOW), NOW)
    assert len(nodes) == 1


def test_a_full_table_gives_up_who_never_ran_longest_unheard_of_first() -> None:
    nodes = table(limit=3)
    nodes.accept(relay(0).descriptor(NOW), NOW)
    (probe,) = probes(nodes.probes(NOW))
    nodes.probed(probe, probe.addresses[0], NOW)
    nodes.accept(worker(0).descriptor(NOW), NOW)
    nodes.accept(relay(1).descriptor(NOW), NOW)
    for number in range(2, 20):
        now = NOW + number / 10
        forgotten, kept = nodes.accept(relay(number).descriptor(now), now)
        assert forgotten == ForgetNode(relay(number - 1).identity)
        assert isinstance(kept, KeepNode)
    assert len(nodes) == 3
    assert running(nodes, NOW + 2) == {relay(0).identity, worker(0).identity}
    with pytest.raises(ProtocolError, match="as many nodes"):
        nodes.accept(relay(20).descriptor(NOW + 2), NOW + 2, agreed=True)


def test_a_full_table_of_running_nodes_takes_nobody() -> None:
    nodes = table(limit=2)
    nodes.accept(worker(0).descriptor(NOW), NOW)
    nodes.accept(relay(0).descriptor(NOW), NOW)
    (probe,) = probes(nodes.probes(NOW))
    nodes.probed(probe, probe.addresses[0], NOW)
    with pytest.raises(ProtocolError, match="as many nodes"):
        nodes.accept(relay(1).descriptor(NOW), NOW)
    # The worker was not heard of again: it makes way.
    later = NOW + 90
    assert ForgetNode(worker(0).identity) in nodes.accept(relay(1).descriptor(later), later)


def test_new_identities_are_rationed_and_known_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fogbank.directory.nodes.NEW_BURST", 2.0)
    nodes = table()
    for number in range(2):
        nodes.accept(relay(number).descriptor(NOW), NOW)
    with pytest.raises(ProtocolError, match="too many new nodes"):
        nodes.accept(relay(2).descriptor(NOW), NOW)
    assert nodes.accept(relay(0).descriptor(NOW + 1), NOW + 1)
    assert nodes.accept(relay(2).descriptor(NOW + 1), NOW + 1)
    nodes.accept(relay(3).descriptor(NOW + 1), NOW + 1)
    with pytest.raises(ProtocolError, match="too many new nodes"):
        nodes.accept(relay(4).descriptor(NOW + 1), NOW + 1)
    assert nodes.accept(relay(4).descriptor(NOW + 1), NOW + 1, agreed=True)


def test_what_is_old_is_forgotten() -> None:
    nodes = table()
    nodes.accept(relay(0).descriptor(NOW), NOW)
    assert nodes.expire(NOW + 86_399) == []
    assert nodes.expire(NOW + 86_400) == [ForgetNode(relay(0).identity)]
    assert len(nodes) == 0
    assert nodes.probes(NOW + 86_400) == []


def test_restored_after_a_restart() -> None:
    aged = relay(1, born=START - 172_800)
    good = NodeRecord(relay(0).identity, relay(0).descriptor(NOW), START, START + 5)
    old = NodeRecord(relay(1).identity, aged.descriptor(NOW - 86_500), START, START)
    broken = NodeRecord(relay(2).identity, b"broken", START, START)
    nodes = table()
    nodes.restore([good, old, broken], NOW)
    assert len(nodes) == 1
    ((_, seen),) = nodes.listings(int(NOW) + 5, NOW, None)
    assert seen.uptime == NOW - START - 5
    assert nodes.next_probe() == NOW


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"addresses": ()}, "relays and authorities have addresses"),
        ({"role": Role.WORKER}, "relays and authorities have addresses"),
        ({"role": Role.AUTHORITY}, "contradict"),
        ({"nickname": "not one"}, "nickname"),
        ({"nickname": ""}, "nickname"),
        ({"services": ("Bad Name",)}, "service"),
        ({"engine": "x" * 129}, "out of bounds"),
        ({"runtimes": (b"short",)}, "bounded byte string"),
        ({"addresses": (Address("127.0.0.1", 1),) * 5}, "out of bounds"),
    ],
)
def test_descriptions_that_are_refused(change: dict[str, object], match: str) -> None:
    description: Description = replace(relay(0).description(), **change)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match=match):
        open_descriptor(relay(0).descriptor(NOW, description), DOCUMENT, NOW)


def test_a_descriptor_s_times() -> None:
    data = relay(0).descriptor(NOW)
    open_descriptor(data, DOCUMENT, NOW - 600)
    with pytest.raises(ProtocolError, match=r"minutes from now: is its node's clock fast\?"):
        open_descriptor(data, DOCUMENT, NOW - 660)
    with pytest.raises(ProtocolError, match=r"24 hours ago: is its node's clock slow\?"):
        open_descriptor(data, DOCUMENT, NOW + 86_400)
    late = START + ONION_LIFETIME - 10.0
    late_data = relay(0).descriptor(late)
    verified = open_descriptor(late_data, DOCUMENT, late)
    verified.check_time(late + 9)
    with pytest.raises(ProtocolError, match="not in force"):
        verified.check_time(late + 10)
    with pytest.raises(ProtocolError, match="expired"):
        open_descriptor(late_data, DOCUMENT, late + 10)


def test_a_descriptor_of_a_private_address_needs_a_test_network() -> None:
    public = replace(DOCUMENT, test=False)
    with pytest.raises(ProtocolError, match="not a public address"):
        open_descriptor(relay(0).descriptor(NOW), public, NOW)


def test_families_are_shown_by_certificates_of_one_s_own() -> None:
    one = open_descriptor(relay(0, "f").descriptor(NOW), DOCUMENT, NOW)
    two = open_descriptor(relay(1, "f").descriptor(NOW), DOCUMENT, NOW)
    assert one.families == two.families != ()

    thief = relay(0)
    onion = issue(thief.signing_key, Use.ONION, thief.onion_key.public, NOW, 1000)
    stolen = make_descriptor(
        thief.signing_key,
        thief.credentials.certificate,
        onion,
        thief.description(),
        NOW,
        relay(1, "f").families(),
    )
    with pytest.raises(ProtocolError, match="family certificate of another node"):
        open_descriptor(stolen, DOCUMENT, NOW)


def test_the_cache_checks_time_again() -> None:
    cache = DescriptorCache(DOCUMENT)
    data = relay(0).descriptor(NOW)
    assert cache.open(data, NOW) is cache.open(data, NOW + 1)
    with pytest.raises(ProtocolError, match="24 hours ago"):
        cache.open(data, NOW + 86_400)
    cache.forget(NOW + 86_400)
    with pytest.raises(ProtocolError, match="24 hours ago"):
        cache.open(data, NOW + 86_400)


# At most so many relays an address.


def at(number: int, *hosts: str) -> bytes:
    """The descriptor of a relay at these addresses."""
    addresses = tuple(Address(host, 9000 + number) for host in hosts)
    return relay(number).descriptor(NOW, replace(relay(number).description(), addresses=addresses))


def found(nodes: NodeTable, numbers: Iterable[int], where: int | None = 0) -> None:
    """Let probes reach these relays at the address of that place in their descriptors, or none."""
    wanted = {relay(number).identity for number in numbers}
    for probe in probes(nodes.probes(NOW)):
        reached = where is not None and probe.identity in wanted
        nodes.probed(probe, probe.addresses[where or 0] if reached else None, NOW)


def numbers(identities: set[NodeId]) -> set[int]:
    return {number for number in range(40) if relay(number).identity in identities}


def test_at_most_so_many_relays_an_address_are_voted_for() -> None:
    nodes = table()
    for number in range(9):
        nodes.accept(at(number, "127.1.0.1" if number < 6 else "127.2.0.1"), NOW)
    found(nodes, range(9))
    listed = numbers(running(nodes))
    assert len(listed & set(range(6))) == MAX_PER_ADDRESS
    assert listed >= {6, 7, 8}
    assert nodes.running == 9


def test_per_address_caps_do_not_count_relays_that_cannot_be_reached() -> None:
    nodes = table()
    for number in range(30):
        nodes.accept(at(number, "127.1.0.1"), NOW)
    found(nodes, {3, 11, 29})
    assert numbers(running(nodes)) == {3, 11, 29}


def test_per_address_caps_do_not_count_addresses_that_are_only_claimed() -> None:
    """Whoever names a victim's address beside its own takes no place there."""
    nodes = table()
    for number in range(8):
        nodes.accept(at(number, "127.1.0.1", f"127.{number + 50}.0.1"), NOW)
    found(nodes, range(8), where=1)
    victim = 20
    nodes.accept(at(victim, "127.1.0.1"), NOW)
    found(nodes, {victim})
    assert numbers(running(nodes)) == {*range(8), victim}


def test_per_address_caps_do_not_count_rejected_relays() -> None:
    nodes = table()
    for number in range(8):
        nodes.accept(at(number, "127.1.0.1"), NOW)
    found(nodes, range(8))
    rejected = frozenset(relay(number).identity for number in range(4))
    rules = Rules(rejected=Listed(identities=rejected))
    listed = nodes.listings(int(NOW) + 5, NOW, None, rules)
    found_there = {open_descriptor(data, DOCUMENT, NOW).identity for data, _ in listed}
    assert numbers(found_there) == {4, 5, 6, 7}


def test_whom_series_of_the_mint_need_is_listed_unless_it_is_rejected() -> None:
    """Its operator's relays at the same address, or a list of the approved, do not shut it out."""
    nodes = table()
    for number in range(6):
        nodes.accept(at(number, "127.1.0.1"), NOW)
    found(nodes, range(6))

    def listed(rules: Rules, needed: Iterable[int] = ()) -> set[int]:
        spared = {relay(number).identity for number in needed}
        votes = nodes.listings(int(NOW) + 5, NOW, None, rules, spared)
        return numbers({open_descriptor(data, DOCUMENT, NOW).identity for data, _ in votes})

    first = listed(Rules())
    departed = min(set(range(6)) - first)
    assert listed(Rules(), {departed}) == first | {departed}
    others = Rules(approved=Listed(identities=frozenset({relay(min(first)).identity})))
    assert listed(others) == {min(first)}
    assert listed(others, {departed}) == {min(first), departed}
    it = Rules(rejected=Listed(identities=frozenset({relay(departed).identity})))
    assert departed not in listed(it, {departed})


def test_authorities_that_saw_relays_in_other_orders_choose_the_same_from_the_next_round() -> None:
    """Who is listed already comes first, the longest listed before; newcomers wait for a place."""
    entries = [make_entry(relay(n), since=START + n) for n in (5, 6, 7, 8, 9)]
    last = make_consensus(NETWORK, entries)
    chosen = []
    for order in ((1, 2, 5, 6, 7, 8, 9), (9, 8, 7, 6, 5, 2, 1)):
        nodes = table()
        for late, number in enumerate(order):
            nodes.accept(at(number, "127.1.0.1"), NOW + late)
            (probe,) = probes(nodes.probes(NOW + late))
            nodes.probed(probe, probe.addresses[0], NOW + late)
        nodes.measured(relay(1).identity, 5_000_000, 0)
        listed = nodes.listings(int(NOW) + 10, NOW + 8, last)
        chosen.append({open_descriptor(data, DOCUMENT, NOW + 8).identity for data, _ in listed})
    assert list(map(numbers, chosen)) == [{5, 6, 7, 8}] * 2


def test_newcomers_are_chosen_measured_ones_first_then_by_when_they_were_found() -> None:
    nodes = table()
    for late, number in enumerate((4, 3, 2, 1, 0)):
        nodes.accept(at(number, "127.1.0.1"), NOW + late)
        (probe,) = probes(nodes.probes(NOW + late))
        nodes.probed(probe, probe.addresses[0], NOW + late)
    nodes.measured(relay(0).identity, 5_000_000, 0)
    assert numbers(running(nodes, NOW + 6)) == {0, 4, 3, 2}


def test_an_ipv6_machine_is_its_64_bit_network() -> None:
    one, same, other = (
        Address(host, 9) for host in ("2001:db8::1", "2001:db8::ff:1", "2001:db8:0:1::1")
    )
    assert machine_of(one) == machine_of(same)
    assert machine_of(one) != machine_of(other)
    assert machine_of(Address("127.1.0.1", 1)) == machine_of(Address("127.1.0.1", 2))
    assert machine_of(Address("127.1.0.1", 1)) != machine_of(Address("127.1.0.2", 1))
