"""Shared randomness: seeds that b liars can neither choose nor prevent (spec/05 §6.3)."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fogbank.directory.consensus import Consensus
from fogbank.directory.contacts import contacts
from fogbank.directory.runtimes import KNOWN
from fogbank.directory.schedule import nth_round
from fogbank.directory.shared_random import (
    CLASSES,
    Contributor,
    RandomState,
    Seed,
    Share,
    advance,
    class_of,
    commitment,
    decode_share,
    slot_rounds,
)
from fogbank.directory.signatures import Credentials
from fogbank.directory.vote import Policy
from fogbank.relay.certificates import SIGNING_LIFETIME, Use, issue
from fogbank.relay.codec import encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import Ed25519Key
from tests.directory.factory import (
    START,
    make_consensus,
    make_entry,
    make_network,
    relay,
    worker,
)
from tests.directory.simulation import Simulation

NETWORK = make_network()
DOCUMENT = NETWORK.document
IDENTITIES = [authority.identity for authority in NETWORK.authorities]
ROUNDS = slot_rounds(DOCUMENT)
WORKERS = [worker(i).identity for i in range(100)]

# A whole network.


def simulate(seed: int = 1) -> Simulation:
    """Boot four authorities before the first round."""
    sim = Simulation(NETWORK, random.Random(seed))
    for index in range(4):
        sim.at(START + sim.rng.uniform(0, 0.8), partial(sim.boot, index))
    return sim


def state_after(sim: Simulation, rounds: int) -> RandomState:
    """Return the state in the last of `rounds` consensuses, on which all agree."""
    valid_after = nth_round(DOCUMENT, rounds - 1).valid_after
    assert len(sim.consensuses(valid_after)) == 1, [m.logs for m in sim.members]
    holder = next(m for m in sim.members if valid_after in m.adopted)
    state = holder.adopted[valid_after].random
    assert state is not None
    return state


def test_a_seed_is_drawn_in_each_slot_but_the_first() -> None:
    sim = simulate()
    sim.run_rounds(3 * ROUNDS + 1)
    before = state_after(sim, ROUNDS)
    assert before == RandomState(0)
    committing = state_after(sim, ROUNDS + ROUNDS // 2)
    assert len(committing.commits) == 4
    assert committing.reveals == ()
    revealing = state_after(sim, 2 * ROUNDS)
    assert len(revealing.reveals) == 4
    assert revealing.seeds == ()
    (first,) = state_after(sim, 2 * ROUNDS + 1).seeds
    assert first.slot == 1
    assert first.before == nth_round(DOCUMENT, ROUNDS).valid_after
    assert [seed.slot for seed in state_after(sim, 3 * ROUNDS + 1).seeds] == [1, 2]


def test_one_of_four_can_withhold_its_value_but_not_the_seed() -> None:
    """What it can do is to choose between two seeds, of which it can predict neither earlier."""
    drawn = set()
    for withheld in (False, True):
        sim = simulate()
        if withheld:
            sim.at(START + 0.9, partial(tamper, sim, 3, lambda share: replace(share, reveal=b"")))
        sim.run_rounds(2 * ROUNDS + 1)
        (seed,) = state_after(sim, 2 * ROUNDS + 1).seeds
        drawn.add(seed.value)
    assert len(drawn) == 2


@pytest.mark.parametrize(
    "lie",
    [
        lambda share: replace(share, state=RandomState(7, seeds=(Seed(7, 1, bytes(32)),))),
        lambda share: replace(share, valid_after=1 << 40, state=RandomState(9)),
        lambda share: replace(share, commit=bytes(32), reveal=bytes(32)),
        lambda share: replace(share, state=None),
    ],
    ids=["a state of its own", "a state of the future", "other values", "no state"],
)
def test_one_liar_of_four_changes_no_state(lie: Callable[[Share], Share]) -> None:
    sim = simulate()
    sim.at(START + 0.9, partial(tamper, sim, 3, lie))
    sim.run_rounds(3 * ROUNDS + 1)
    state = state_after(sim, 3 * ROUNDS + 1)
    assert [seed.slot for seed in state.seeds] == [1, 2]
    assert bytes(32) not in {seed.value for seed in state.seeds}


class Lying(Contributor):
    """Gives what `lie` makes of an honest share."""

    lie: Callable[[Share], Share]

    def share(self, *arguments: object) -> bytes:
        honest = Contributor.share(self, *arguments)  # type: ignore[arg-type]
        return self.lie(decode_share(honest)).encode()


class Garbage(Contributor):
    """Gives bytes that are no share."""

    def share(self, *_: object) -> bytes:
        return b"garbage"


def tamper(sim: Simulation, index: int, lie: Callable[[Share], Share]) -> None:
    core = sim.members[index].core
    assert core is not None
    liar = Lying(DOCUMENT, IDENTITIES[index])
    liar.lie = lie
    core._randomness = liar


def test_garbage_in_a_share_costs_only_the_share() -> None:
    sim = simulate()

    def spoil() -> None:
        core = sim.members[3].core
        assert core is not None
        core._randomness = Garbage(DOCUMENT, IDENTITIES[3])

    sim.at(START + 0.9, spoil)
    sim.run_rounds(2 * ROUNDS + 1)
    newest = sim.members[3].adopted[max(sim.members[3].adopted)]
    assert len(newest.voters) == 4
    assert len(state_after(sim, 2 * ROUNDS + 1).seeds) == 1


def test_restarts_between_commitment_and_value_change_nothing() -> None:
    seeds = []
    for restarts in (False, True):
        sim = simulate()
        if restarts:
            when = nth_round(DOCUMENT, ROUNDS + ROUNDS // 2 - 1).valid_after + 5
            for index in range(4):
                sim.at(when, partial(sim.kill, index))
                sim.at(when + 1, partial(sim.boot, index))
        sim.run_rounds(2 * ROUNDS + 1)
        seeds.append(state_after(sim, 2 * ROUNDS + 1).seeds)
    assert seeds[0] == seeds[1]


def test_a_new_signing_key_does_not_keep_a_value_from_being_revealed() -> None:
    sim = simulate()

    def renew() -> None:
        core = sim.members[0].core
        assert core is not None
        key = Ed25519Key(hashlib.sha256(b"the next signing key").digest())
        identity = NETWORK.authorities[0].identity_key
        certificate = issue(identity, Use.SIGNING, key.public, START, SIGNING_LIFETIME)
        core.credentials = Credentials(identity.public, key, certificate)

    sim.at(nth_round(DOCUMENT, ROUNDS + ROUNDS // 2 - 1).valid_after + 5, renew)
    sim.run_rounds(2 * ROUNDS)
    assert len(state_after(sim, 2 * ROUNDS).reveals) == 4


def test_seeds_outlive_an_outage_of_days_and_restarts() -> None:
    sim = simulate()
    sim.run_rounds(2 * ROUNDS + 1)
    (seed,) = state_after(sim, 2 * ROUNDS + 1).seeds
    for index in range(4):
        sim.kill(index)
    later = 2 * ROUNDS + 1 + 3 * 86_400 // 30
    sim.run_until(nth_round(DOCUMENT, later).opens - 1)
    for index in range(4):
        sim.boot(index)
    sim.run_rounds(later + 2)
    assert seed in state_after(sim, later + 2).seeds


def test_methods_are_upgraded_one_authority_at_a_time() -> None:
    """The highest method that q offer is used; no round is lost, and back again is no worse."""
    sim = simulate()

    def offer(index: int, *methods: int) -> None:
        core = sim.members[index].core
        assert core is not None
        core.policy = Policy(methods=methods)

    def offer_from(number: int, index: int, *methods: int) -> None:
        when = nth_round(DOCUMENT, number - 1).valid_after + 0.1 if number else START + 0.9
        sim.at(when, partial(offer, index, *methods))

    for index in range(4):
        offer_from(0, index, 1)
    # Authority 0 never offers more than method 1: the other three are q.
    for index, number in ((1, 2), (2, 4), (3, 6)):
        offer_from(number, index, 1, 2)
    for index, number in ((3, 8), (1, 9), (2, 10)):
        offer_from(number, index, 1, 2, 3)
    for index in (1, 2, 3):
        offer_from(12, index, 1, 2, 3, 4)
    for index in (1, 2):
        offer_from(14, index, 1, 2)
    for index in (1, 2):
        offer_from(16, index, 1)
    sim.run_rounds(18)
    methods = []
    for number in range(18):
        valid_after = nth_round(DOCUMENT, number).valid_after
        assert len(sim.consensuses(valid_after)) == 1
        consensus = sim.members[0].adopted[valid_after]
        assert (consensus.random is not None) == (consensus.method >= 2)
        assert consensus.runtimes == (KNOWN if consensus.method >= 3 else None)
        assert (consensus.mint is not None) == (consensus.method >= 4)
        methods.append(consensus.method)
    assert methods == [1] * 6 + [2] * 4 + [3] * 2 + [4] * 2 + [2] * 2 + [1] * 2
    assert all(len(digests) == 1 for digests in sim.signed.values())


# One step at a time.


def value_of(index: int, slot: int) -> bytes:
    return hashlib.sha256(f"{index} {slot}".encode()).digest()


def step(
    state: RandomState | None, number: int, shares: dict[int, tuple[bytes, bytes]]
) -> RandomState:
    """Advance over a round in which these authorities gave (commit, reveal)."""
    given = [
        (IDENTITIES[index], Share(1, state, commit, reveal))
        for index, (commit, reveal) in shares.items()
    ]
    return advance(given, DOCUMENT, nth_round(DOCUMENT, number))


def commits(slot: int, count: int = 4) -> dict[int, tuple[bytes, bytes]]:
    return {
        i: (commitment(DOCUMENT.network_id, slot, IDENTITIES[i], value_of(i, slot)), b"")
        for i in range(count)
    }


def reveals(slot: int, count: int = 4) -> dict[int, tuple[bytes, bytes]]:
    return {i: (b"", value_of(i, slot) if i < count else b"") for i in range(4)}


def whole_slot(state: RandomState | None, slot: int, revealing: int = 4) -> RandomState:
    state = step(state, slot * ROUNDS, commits(slot))
    state = step(state, slot * ROUNDS + ROUNDS // 2, reveals(slot, revealing))
    return step(state, (slot + 1) * ROUNDS, dict.fromkeys(range(4), (b"", b"")))


def test_the_first_commitment_counts() -> None:
    state = step(None, ROUNDS, commits(1))
    assert step(state, ROUNDS + 1, {**commits(1), 3: (bytes(32), b"")}) == state


def test_values_that_nobody_committed_to_count_for_nothing() -> None:
    state = step(None, ROUNDS, commits(1, 3))
    after = step(state, ROUNDS + 2, {**reveals(1), 0: (b"", bytes(32))})
    assert [who for who, _ in after.reveals] == sorted(IDENTITIES[1:3])
    assert step(after, ROUNDS + 3, commits(1)).commits == state.commits


def test_a_copied_commitment_is_of_no_use() -> None:
    """The commitment names its author: who copies it cannot reveal the copied value."""
    copied = {**commits(1, 3), 3: commits(1)[0]}
    state = step(None, ROUNDS, copied)
    after = step(state, ROUNDS + 2, {**reveals(1, 3), 3: (b"", value_of(0, 1))})
    assert IDENTITIES[3] not in dict(after.reveals)


@pytest.mark.parametrize(("revealing", "drawn"), [(0, 0), (1, 0), (2, 1), (4, 1)])
def test_a_seed_needs_one_value_more_than_there_may_be_liars(revealing: int, drawn: int) -> None:
    assert len(whole_slot(None, 1, revealing).seeds) == drawn


def test_each_class_keeps_its_seed_for_thirty_slots() -> None:
    """Workers move a class at a time: each once in thirty slots, to a seed nobody had before."""
    state: RandomState | None = None
    held: dict[bytes, list[Seed | None]] = {w: [] for w in WORKERS}
    for slot in range(1, 3 * CLASSES):
        state = whole_slot(state, slot)
        assert len(state.seeds) == min(slot, CLASSES)
        assert decode_share(Share(1, state).encode()).state == state
        for identity in WORKERS:
            held[identity].append(state.seed_of(DOCUMENT.network_id, identity))
    for identity, seeds in held.items():
        moves = [i for i in range(1, len(seeds)) if seeds[i] != seeds[i - 1]]
        assert {b - a for a, b in pairwise(moves)} == {CLASSES}
        last = seeds[-1]
        assert last is not None
        assert last.slot % CLASSES == class_of(DOCUMENT.network_id, identity)
    assert len({class_of(DOCUMENT.network_id, w) for w in WORKERS}) > CLASSES // 2


def test_a_slot_without_a_seed_leaves_its_class_the_old_one() -> None:
    state = whole_slot(None, 1)
    assert whole_slot(state, 1 + CLASSES, revealing=1).seeds == state.seeds


def test_a_day_is_a_slot_in_life() -> None:
    timing = replace(DOCUMENT.timing, interval=3600)
    assert slot_rounds(replace(DOCUMENT, timing=timing, test=False)) == 24
    assert slot_rounds(DOCUMENT) == 4


# What follows from a seed.


def seeded(since: dict[int, int], before: int) -> tuple[Consensus, bytes]:
    """Return a consensus of ten relays, and a worker whose class has a seed in it."""
    identity = WORKERS[0]
    slot = CLASSES + class_of(DOCUMENT.network_id, identity)
    relays = [make_entry(relay(i), since=since.get(i, START)) for i in range(10)]
    state = RandomState(slot + 1, seeds=(Seed(slot, before, b"s" * 32),))
    return replace(make_consensus(NETWORK, relays), method=2, random=state), identity


def test_contacts_were_listed_before_their_seed_was_committed_to() -> None:
    late = dict.fromkeys(range(6), START + 100)
    consensus, identity = seeded(late, START + 100)
    old = {relay(i).identity for i in range(6, 10)}
    assert {entry.identity for entry in contacts(identity, consensus)} <= old
    # Others of another class still go by the first seed, for which all relays are as good.
    other = next(w for w in WORKERS if consensus.seed_of(w).value == consensus.contact_seed)
    plain = replace(consensus, method=1, random=None)
    assert contacts(other, consensus) == contacts(other, plain)


def test_late_relays_serve_where_there_are_too_few() -> None:
    late = dict.fromkeys(range(8), START + 100)
    consensus, identity = seeded(late, START + 100)
    chosen = contacts(identity, consensus)
    assert len(chosen) == 3
    assert {relay(8).identity, relay(9).identity} == {e.identity for e in chosen[:2]}


# Hostile bytes.

GOOD = Share(START, whole_slot(whole_slot(None, 1), 2), bytes(32), bytes(32))


@given(st.data())
def test_a_share_is_read_or_refused(data: st.DataObject) -> None:
    raw = bytearray(GOOD.encode())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] = data.draw(st.integers(0, 255))
    try:
        share = decode_share(bytes(raw))
    except ProtocolError:
        return
    assert share.encode() == bytes(raw)


@pytest.mark.parametrize(
    "state",
    [
        RandomState(1, commits=((bytes(32), bytes(32)), (bytes(32), bytes(32)))),
        RandomState(1, seeds=(Seed(2, 1, bytes(32)), Seed(1, 1, bytes(32)))),
        RandomState(1, seeds=(Seed(1, 1, bytes(32)), Seed(1 + CLASSES, 1, bytes(32)))),
        RandomState(1, seeds=(Seed(1, 1, bytes(31)),)),
        RandomState(-1),
    ],
    ids=["an authority twice", "seeds out of order", "two of a class", "a short seed", "negative"],
)
def test_states_that_contradict_themselves(state: RandomState) -> None:
    with pytest.raises(ProtocolError):
        decode_share(encode([1, state.value(), b"", b""]))
