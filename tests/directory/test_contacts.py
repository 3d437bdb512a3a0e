"""Contacts: the same for everyone, of two families, moving little (spec/05 §6)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from fogbank.directory.consensus import Consensus, Entry, Flag
from fogbank.directory.contacts import contacts
from fogbank.directory.families import conflict, prefixes, same_family, same_prefix
from fogbank.relay.extend import Address
from tests.directory.factory import make_consensus, make_entry, make_network, relay, worker

NETWORK = make_network()
WORKERS = [worker(i).identity for i in range(200)]


def consensus_of(relays: list[Entry]) -> Consensus:
    return make_consensus(NETWORK, relays)


def entries(count: int, family: str = "") -> list[Entry]:
    return [make_entry(relay(i, family)) for i in range(count)]


def test_three_distinct_that_do_not_conflict() -> None:
    consensus = consensus_of(entries(5))
    for identity in WORKERS:
        chosen = contacts(identity, consensus)
        assert len(set(chosen)) == 3
        assert contacts(identity, consensus) == chosen
        assert not any(conflict(a, b) for a in chosen for b in chosen if a is not b)


def test_all_relays_share_the_load() -> None:
    consensus = consensus_of(entries(10))
    load = Counter(e.identity for w in WORKERS for e in contacts(w, consensus))
    assert len(load) == 10
    assert max(load.values()) < 2 * 3 * len(WORKERS) / 10


def test_one_relay_gone_moves_only_its_workers() -> None:
    relays = entries(10)
    before, after = consensus_of(relays), consensus_of(relays[1:])
    gone = relays[0].identity
    for identity in WORKERS:
        old = [e.identity for e in contacts(identity, before)]
        new = [e.identity for e in contacts(identity, after)]
        assert set(old) - {gone} <= set(new)


def test_another_seed_another_choice() -> None:
    one = consensus_of(entries(10))
    other = replace(one, contact_seed=bytes(32))
    assert any(contacts(w, one) != contacts(w, other) for w in WORKERS)


def test_two_families_at_least() -> None:
    """Three of four relays are one family: no contact set is that family alone."""
    relays = [*entries(3, family="big"), make_entry(relay(9))]
    for identity in WORKERS:
        chosen = contacts(identity, consensus_of(relays))
        assert len(chosen) == 3
        assert relay(9).identity in {e.identity for e in chosen}
    assert len(contacts(WORKERS[0], consensus_of(entries(3, family="big")))) == 2


def test_prefixes_are_kept_apart_where_that_is_possible() -> None:
    relays = [
        replace(entry, addresses=(Address(f"10.{i % 3}.0.{i + 1}", 9000),))
        for i, entry in enumerate(entries(9))
    ]
    for identity in WORKERS[:50]:
        chosen = contacts(identity, consensus_of(relays))
        assert len({prefix for e in chosen for prefix in prefixes(e)}) == 3
    crowded = [replace(e, addresses=(Address("10.0.0.1", 9000),)) for e in entries(4)]
    assert len(contacts(WORKERS[0], consensus_of(crowded))) == 3


@pytest.mark.parametrize("lost", [Flag.STABLE, Flag.RUNNING])
def test_only_stable_running_relays(lost: Flag) -> None:
    relays = entries(6)
    relays[0] = replace(relays[0], flags=relays[0].flags & ~lost)
    consensus = consensus_of(relays)
    chosen = {e.identity for w in WORKERS for e in contacts(w, consensus)}
    assert chosen == {e.identity for e in relays[1:]}


def test_few_relays() -> None:
    assert contacts(WORKERS[0], consensus_of([])) == ()
    assert len(contacts(WORKERS[0], consensus_of(entries(2)))) == 2


def test_who_conflicts() -> None:
    a, b, c = make_entry(relay(0, "f")), make_entry(relay(1, "f")), make_entry(relay(2))
    assert same_family(a, b)
    assert not same_family(a, c)
    assert same_family(c, c)
    near = replace(c, addresses=(Address(a.addresses[0].host, 1),))
    assert same_prefix(a, near)
    assert conflict(a, near)
    assert not conflict(a, c)
    assert not same_prefix(make_entry(worker(0)), make_entry(worker(1)))
    v6 = replace(c, addresses=(Address("2001:db8:1::1", 1),))
    v6_near = replace(a, addresses=(Address("2001:db8:2::1", 1),))
    v6_far = replace(a, addresses=(Address("2001:db9::1", 1),))
    assert same_prefix(v6, v6_near)
    assert not same_prefix(v6, v6_far)
