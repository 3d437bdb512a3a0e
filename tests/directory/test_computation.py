"""The computation: deterministic, and out of b liars' hands (spec/05 §4.4, §4.5)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from fogbank.directory.computation import (
    BANDWIDTH_FLOOR,
    FUEL_FLOOR,
    STABLE_UPTIME,
    capped,
    compute,
    first_contact_seed,
)
from fogbank.directory.consensus import SUPPORTED_METHODS, Consensus, Flag
from fogbank.directory.descriptor import Descriptor, open_descriptor
from fogbank.directory.schedule import nth_round
from fogbank.directory.vote import Observation, OpenVote, Policy
from fogbank.relay.errors import ProtocolError
from tests.directory.factory import START, Node, make_network, relay, worker

NETWORK = make_network(4)
SEVEN = make_network(7)
ROUND = nth_round(NETWORK.document, 0)
T0 = ROUND.valid_after
RELAYS = [relay(i) for i in range(5)]
WORKERS = [worker(i) for i in range(2)]
SEEN = Observation(uptime=1000, since=START, bandwidth=0, fuel_rate=0)


def described(node: Node, published: float = START) -> Descriptor:
    return open_descriptor(node.descriptor(published), NETWORK.document, T0)


def vote(
    index: int,
    nodes: dict[Node, Observation] | None = None,
    policy: Policy | None = None,
    published: float = START,
    previous: bytes = b"",
    network: object = NETWORK,
) -> OpenVote:
    authority = (NETWORK if network is NETWORK else SEVEN).authorities[index]
    pairs = {n.identity: (described(n, published), seen) for n, seen in (nodes or {}).items()}
    own = None
    if network is NETWORK:
        own = open_descriptor(authority.descriptor(START), NETWORK.document, T0)
    return OpenVote(authority.identity, policy or Policy(), previous, own, pairs)


def computed(votes: Sequence[OpenVote], network: object = NETWORK) -> Consensus:
    document = (NETWORK if network is NETWORK else SEVEN).document
    return compute(votes, document, nth_round(document, 0))


def everyone(seen: Observation = SEEN) -> dict[Node, Observation]:
    return dict.fromkeys([*RELAYS, *WORKERS], seen)


def listed(consensus: Consensus) -> set[str]:
    return {e.nickname for e in (*consensus.relays(), *consensus.workers())}


def test_the_order_of_the_votes_changes_nothing() -> None:
    votes = [vote(i, everyone(Observation(uptime=i * 7, since=START + i))) for i in range(4)]
    bodies = {computed(order).encode_body() for order in itertools.permutations(votes)}
    assert len(bodies) == 1


def test_what_is_in_it() -> None:
    consensus = computed([vote(i, everyone()) for i in range(4)])
    assert consensus.method == max(SUPPORTED_METHODS)
    assert consensus.contact_seed == first_contact_seed(NETWORK.document.network_id)
    assert consensus.valid_until == T0 + 86_400
    assert consensus.fresh_until == ROUND.fresh_until
    assert listed(consensus) == {n.name for n in (*RELAYS, *WORKERS)}
    assert {e.identity for e in consensus.authorities()} == set(consensus.voters)
    flags = Flag.GUARD | Flag.FAST | Flag.STABLE | Flag.RUNNING | Flag.VALID
    assert all(e.flags == flags and e.bandwidth == BANDWIDTH_FLOOR for e in consensus.relays())
    assert all(e.fuel_rate == FUEL_FLOOR for e in consensus.workers())
    assert all(e.flags == Flag.WORKER | Flag.RUNNING | Flag.VALID for e in consensus.workers())


def test_an_empty_network_has_a_consensus_of_its_authorities() -> None:
    consensus = computed([vote(i) for i in range(3)])
    assert len(consensus.entries) == 3
    assert all(e.flags & Flag.AUTHORITY for e in consensus.entries)


def test_fewer_than_q_votes_give_none() -> None:
    with pytest.raises(ProtocolError, match="only 2 votes were agreed on; 3 are needed"):
        computed([vote(0), vote(1)])


def test_one_of_four_can_force_no_node_in() -> None:
    fake = relay(99)
    consensus = computed([vote(0), vote(1), vote(2), vote(3, {fake: SEEN})])
    assert "relay99" not in listed(consensus)


def test_one_of_four_can_keep_no_node_out() -> None:
    consensus = computed([*(vote(i, everyone()) for i in range(2)), vote(3)])
    assert listed(consensus) == {n.name for n in (*RELAYS, *WORKERS)}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("network", "liars"), [(NETWORK, 1), (SEVEN, 2)])
def test_liars_can_neither_inflate_nor_starve(seed: int, network: object, liars: int) -> None:
    """Whatever b liars say, each value lies among the honest ones, or b others' silence."""
    rng = random.Random(seed)
    count = 4 if network is NETWORK else 7

    def draw(low: int, high: int) -> Observation:
        return Observation(
            uptime=rng.randint(low, high),
            since=rng.randint(START - high, START - low),
            bandwidth=BANDWIDTH_FLOOR + rng.randint(low, high),
            fuel_rate=FUEL_FLOOR + rng.randint(low, high),
        )

    honest = [{n: draw(1000, 2000) for n in (*RELAYS, *WORKERS)} for _ in range(count - liars)]
    extreme = [Observation(), Observation(2**64 - 1, 1, 2**64 - 1, 2**64 - 1)]
    lies = [{n: rng.choice(extreme) for n in (*RELAYS, *WORKERS)} for _ in range(liars)]
    votes = [vote(i, seen, network=network) for i, seen in enumerate([*honest, *lies])]
    consensus = computed(votes, network)
    for node in (*RELAYS, *WORKERS):
        entry = consensus.by_identity(node.identity)
        assert entry is not None
        seen = [h[node] for h in honest]
        assert min(o.since for o in seen) <= entry.since <= max(o.since for o in seen)
        if node in RELAYS:
            assert min(o.bandwidth for o in seen) <= entry.bandwidth
            assert entry.bandwidth <= max(o.bandwidth for o in seen)
        else:
            assert min(o.fuel_rate for o in seen) <= entry.fuel_rate
            assert entry.fuel_rate <= max(o.fuel_rate for o in seen)


def test_a_liar_cannot_make_a_young_relay_stable() -> None:
    """Old relays set the median; one vote of great age does not lift a young one over it."""
    old, young = Observation(uptime=STABLE_UPTIME), Observation(uptime=10)
    nodes = dict.fromkeys(RELAYS[:4], old) | {RELAYS[4]: young}
    lie = nodes | {RELAYS[4]: Observation(uptime=2**63)}
    consensus = computed([vote(0, nodes), vote(1, nodes), vote(2, nodes), vote(3, lie)])
    entry = consensus.by_identity(RELAYS[4].identity)
    assert entry is not None
    assert not entry.flags & (Flag.STABLE | Flag.GUARD)
    assert consensus.relays()
    assert all(Flag.GUARD in e.flags for e in consensus.relays() if e is not entry)


def test_slow_relays_are_not_fast() -> None:
    quick, slow = Observation(1000, START, 5_000_000), Observation(1000, START, 2_000_000)
    nodes = dict.fromkeys(RELAYS[:4], quick) | {RELAYS[4]: slow}
    consensus = computed([vote(i, nodes) for i in range(4)])
    entry = consensus.by_identity(RELAYS[4].identity)
    assert entry is not None
    assert not entry.flags & (Flag.FAST | Flag.GUARD)


def test_measured_values_at_most_double() -> None:
    assert capped(10**12, 0, BANDWIDTH_FLOOR) == 2 * BANDWIDTH_FLOOR
    assert capped(10**12, 5_000_000, BANDWIDTH_FLOOR) == 10_000_000
    assert capped(3_000_000, 5_000_000, BANDWIDTH_FLOOR) == 3_000_000


def test_the_newest_descriptor_that_enough_votes_carry() -> None:
    old = [vote(i, {RELAYS[0]: SEEN}, published=START) for i in range(2)]
    new = [vote(i, {RELAYS[0]: SEEN}, published=START + 1) for i in (2, 3)]
    newer = vote(3, {RELAYS[0]: SEEN}, published=START + 2)
    fresh = described(RELAYS[0], START + 1)
    entry = computed([*old, *new]).by_identity(RELAYS[0].identity)
    assert entry is not None
    assert fresh.published == START + 1
    # One vote alone does not bring in a newer one: nobody else has found it running.
    assert computed([*old, new[0], newer]).by_identity(RELAYS[0].identity) is not None
    assert computed([old[0], new[0], newer]).by_identity(RELAYS[0].identity) is None


def test_since_is_now_for_a_newcomer_and_kept_for_others() -> None:
    nodes = {RELAYS[0]: SEEN, RELAYS[1]: Observation(uptime=5)}
    consensus = computed([vote(i, nodes) for i in range(3)])
    old, new = (consensus.by_identity(n.identity) for n in RELAYS[:2])
    assert old is not None
    assert new is not None
    assert old.since == START
    assert new.since == T0


def test_policy_is_the_majority_s() -> None:
    strict = Policy(
        required_protocols=(1,), engines=("test-engine",), revoked=(RELAYS[0].identity,)
    )
    loose = Policy(recommended_protocols=(1, 2), engines=())
    nodes = everyone()
    consensus = computed([vote(i, nodes, strict) for i in range(3)] + [vote(3, nodes, loose)])
    assert consensus.engines == ("test-engine",)
    assert consensus.revoked == (RELAYS[0].identity,)
    assert "relay0" not in listed(consensus)
    assert consensus.recommended_protocols == (1,)
    consensus = computed([vote(0, nodes, strict)] + [vote(i, nodes, loose) for i in range(1, 4)])
    assert consensus.engines == ()
    assert "relay0" in listed(consensus)


def test_workers_of_a_class_that_is_not_accepted_are_left_out() -> None:
    consensus = computed([vote(i, everyone(), Policy(engines=("newer",))) for i in range(4)])
    assert consensus.workers() == ()
    assert len(consensus.relays()) == 5


def test_nodes_without_a_required_protocol_are_left_out() -> None:
    consensus = computed([vote(i, everyone(), Policy(required_protocols=(2,))) for i in range(4)])
    assert consensus.entries == ()
    assert consensus.required_protocols == (2,)


def test_the_method_that_q_support() -> None:
    both, older, newer = (Policy(methods=m) for m in ((1, 2), (1,), (1, 2, 3, 5)))
    assert computed([vote(i, policy=both) for i in (0, 1)] + [vote(2, policy=older)]).method == 1
    assert computed([*(vote(i, policy=both) for i in range(3)), vote(3, policy=older)]).method == 2
    with pytest.raises(ProtocolError, match="method 5: update"):
        computed([vote(i, policy=newer) for i in range(3)])
    with pytest.raises(ProtocolError, match="method 0"):
        computed([vote(i, policy=Policy(methods=())) for i in range(3)])


def test_the_previous_consensus_that_most_name() -> None:
    one, two = b"\1" * 32, b"\2" * 32
    previous = [one, one, two, two]
    votes = [vote(i, previous=p) for i, p in enumerate(previous)]
    assert computed(votes).previous == two
    assert computed([replace(votes[2], previous=one), *votes[:2]]).previous == one
    assert computed([vote(0, previous=one), vote(1, previous=two), vote(2)]).previous == b""
